//! The state of the terminal, and what keys and clicks change about it. Pure: the time and every
//! event are arguments.

use std::collections::{HashMap, VecDeque};

use kalshi_sdk::{Count, Dollars, PriceGrid, PriceLevel, streams::Outcome, types::BookSide};
use kalshi_trade::direction::Action;
use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    layout::Rect,
};

use super::{
    ladder,
    layout::areas,
    trade::{Draft, Ticket, Trade},
};
use crate::chart::draw::Bar;

/// Trades that are kept of a market.
const MAX_TRADES: usize = 200;

/// The kind of money that orders in the environment move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Money {
    Real,
    Mock,
    /// An exchange in this process.
    Sim,
}

/// The state of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Connecting,
    Live,
    /// Something was missed, and is being read back.
    Behind,
    Lost,
}

/// A view in the lower part, or beside the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Trades,
    Chart,
    Positions,
    Orders,
}

impl Tab {
    pub(crate) const ALL: [Self; 4] = [Self::Trades, Self::Chart, Self::Positions, Self::Orders];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Trades => "Trades",
            Self::Chart => "Chart",
            Self::Positions => "Positions",
            Self::Orders => "Orders",
        }
    }
}

/// A market.
#[derive(Clone, Debug, Default)]
pub(crate) struct MarketView {
    pub(crate) ticker: String,
    pub(crate) title: String,
    /// Best first.
    pub(crate) bids: Vec<PriceLevel>,
    pub(crate) asks: Vec<PriceLevel>,
    /// False while the book is not known to be complete.
    pub(crate) is_current: bool,
    pub(crate) last: Option<Dollars>,
    pub(crate) volume: Option<Count>,
    /// Newest first.
    pub(crate) trades: VecDeque<TradeRow>,
    pub(crate) bars: Vec<Bar>,
    /// The prices that it takes.
    pub(crate) grid: Option<PriceGrid>,
}

/// A trade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TradeRow {
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) yes_price: Dollars,
    pub(crate) count: Count,
    /// The side of the taker's order.
    pub(crate) taker: BookSide,
}

/// An order of the account that rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderRow {
    pub(crate) order_id: String,
    pub(crate) ticker: String,
    pub(crate) side: BookSide,
    pub(crate) yes_price: Dollars,
    pub(crate) remaining: Count,
    pub(crate) initial: Count,
}

/// A position of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PositionRow {
    pub(crate) ticker: String,
    pub(crate) count: Count,
    pub(crate) cost: Option<Dollars>,
    pub(crate) realized: Option<Dollars>,
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) environment: String,
    pub(crate) money: Money,
    pub(crate) has_color: bool,
    pub(crate) markets: Vec<MarketView>,
    pub(crate) selected: usize,
    pub(crate) orders: Vec<OrderRow>,
    /// True once the account is known to be complete.
    pub(crate) is_account_current: bool,
    pub(crate) positions: Vec<PositionRow>,
    /// Contracts ahead of an order, by its id.
    pub(crate) queue: HashMap<String, Count>,
    pub(crate) link: Link,
    pub(crate) lag_millis: Option<i64>,
    /// Tokens that are left for reads and for writes.
    pub(crate) tokens: Option<(u64, u64)>,
    /// Milliseconds since 1970.
    pub(crate) now: i64,
    pub(crate) tab: Tab,
    pub(crate) has_help: bool,
    /// Rows that the ladder is moved by; above zero shows higher prices.
    pub(crate) scroll: i32,
    pub(crate) notice: Option<String>,
    /// The part that can write; `None` unless `--trade` was given.
    pub(crate) trade: Option<Trade>,
}

/// A request to the program, by a key or a click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    None,
    Quit,
    /// Another market is shown.
    Selected,
    /// Read what an order would be.
    Look {
        number: u64,
        draft: Draft,
    },
    /// Send the order of this look.
    Send {
        number: u64,
        draft: Draft,
    },
    /// Cancel these orders.
    Cancel(Vec<String>),
    /// Cancel all orders of event contracts of the account.
    CancelAll,
}

impl State {
    pub(crate) fn new(environment: String, money: Money, has_color: bool) -> Self {
        Self {
            environment,
            money,
            has_color,
            markets: Vec::new(),
            selected: 0,
            orders: Vec::new(),
            is_account_current: false,
            positions: Vec::new(),
            queue: HashMap::new(),
            link: Link::Connecting,
            lag_millis: None,
            tokens: None,
            now: 0,
            tab: Tab::Trades,
            has_help: false,
            scroll: 0,
            notice: None,
            trade: None,
        }
    }

    pub(crate) fn market(&self) -> Option<&MarketView> {
        self.markets.get(self.selected)
    }

    pub(crate) fn market_mut(&mut self, ticker: &str) -> Option<&mut MarketView> {
        self.markets.iter_mut().find(|market| market.ticker == ticker)
    }

    /// Takes in a trade.
    pub(crate) fn trade(&mut self, ticker: &str, trade: TradeRow) {
        if let Some(market) = self.market_mut(ticker) {
            market.last = Some(trade.yes_price);
            market.trades.push_front(trade);
            market.trades.truncate(MAX_TRADES);
        }
    }

    /// Takes in a key.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Request {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Request::Quit,
                _ => Request::None,
            };
        }
        if self.has_help {
            // Any key leaves the help.
            self.has_help = false;
            return if key.code == KeyCode::Char('q') { Request::Quit } else { Request::None };
        }
        let market = self.markets.get(self.selected);
        if let Some(trade) = self.trade.as_mut().filter(|trade| trade.ticket.is_some()) {
            return trade.key(key, market);
        }
        if let Some(request) = self.trade_key(key.code) {
            return request;
        }
        match key.code {
            KeyCode::Char('q') => return Request::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.has_help = true,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Tab::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => {
                let place = digit.to_digit(10).unwrap_or(1).saturating_sub(1);
                self.tab = usize::try_from(place)
                    .ok()
                    .and_then(|place| Tab::ALL.get(place).copied())
                    .unwrap_or(self.tab);
            }
            KeyCode::Left | KeyCode::Char('p') => {
                return self.select(self.markets.len().max(1) - 1);
            }
            KeyCode::Right | KeyCode::Char('n') => return self.select(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll_by(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll_by(-1),
            KeyCode::PageUp => self.scroll_by(10),
            KeyCode::PageDown => self.scroll_by(-10),
            KeyCode::Home | KeyCode::Char('c') => {
                self.scroll = 0;
                if let Some(trade) = &mut self.trade {
                    trade.moved_to = None;
                }
            }
            KeyCode::Esc => self.notice = None,
            _ => {}
        }
        Request::None
    }

    /// Takes in a key that opens, or cancels, orders. `None` for any other key, and without `--trade`.
    fn trade_key(&mut self, code: KeyCode) -> Option<Request> {
        let market = self.markets.get(self.selected)?;
        let trade = self.trade.as_mut()?;
        let (action, outcome) = match code {
            KeyCode::Char('b') => (Action::Buy, Outcome::Yes),
            KeyCode::Char('s') => (Action::Sell, Outcome::Yes),
            KeyCode::Char('B') => (Action::Buy, Outcome::No),
            KeyCode::Char('S') => (Action::Sell, Outcome::No),
            KeyCode::Char('x') => {
                let at = trade.cursor(market)?;
                let is_meant =
                    |order: &&OrderRow| order.ticker == market.ticker && order.yes_price == at;
                let orders = self.orders.iter().filter(is_meant);
                return Some(trade.open_cancel(orders.map(|o| o.order_id.clone()).collect()));
            }
            KeyCode::Char('X') => {
                trade.ticket = Some(Ticket::Cancel { ids: None, typed: String::new() });
                return Some(Request::None);
            }
            _ => return None,
        };
        if market.is_current {
            trade.open(market, action, outcome);
        } else {
            self.notice = Some("the book is not known now: no order is opened".to_owned());
        }
        Some(Request::None)
    }

    /// Takes in the mouse, on a terminal of a size.
    pub(crate) fn mouse(&mut self, mouse: MouseEvent, size: Rect) -> Request {
        if self.trade.as_ref().is_some_and(|trade| trade.ticket.is_some()) {
            return Request::None;
        }
        match mouse.kind {
            MouseEventKind::ScrollUp => self.scroll_by(1),
            MouseEventKind::ScrollDown => self.scroll_by(-1),
            MouseEventKind::Down(MouseButton::Left) => {
                if self.has_help {
                    self.has_help = false;
                    return Request::None;
                }
                let areas = areas(size);
                let at = |area: Rect| area.contains((mouse.column, mouse.row).into());
                if areas.tabs.is_some_and(at) {
                    let column = mouse.column.saturating_sub(areas.tabs.unwrap_or_default().x);
                    let mut end = 1;
                    for tab in Tab::ALL {
                        // A blank on either side, and a line between.
                        end += u16::try_from(tab.name().len()).unwrap_or(0) + 3;
                        if column < end {
                            self.tab = tab;
                            break;
                        }
                    }
                } else if at(areas.title) {
                    return self.select(1);
                } else if at(areas.ladder) {
                    self.point(areas.ladder, mouse.row);
                }
            }
            _ => {}
        }
        Request::None
    }

    /// Moves the cursor to the price in this row of the terminal.
    fn point(&mut self, place: Rect, row: u16) {
        let Some(market) = self.markets.get(self.selected).filter(|m| m.is_current) else { return };
        // Within the frame.
        let height = place.height.saturating_sub(2);
        let Some(row) = row.checked_sub(place.y + 1) else { return };
        let rows = ladder::rows(self, market, height);
        let hit = rows.iter().find(|(at, _)| *at == row).and_then(|(_, row)| row.price());
        if let (Some(trade), Some(price)) = (&mut self.trade, hit) {
            trade.moved_to = Some(price);
        }
    }

    fn turn(&mut self, by: usize) {
        let place = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or(0);
        self.tab = Tab::ALL.get((place + by) % Tab::ALL.len()).copied().unwrap_or(self.tab);
    }

    fn select(&mut self, by: usize) -> Request {
        if self.markets.len() < 2 {
            return Request::None;
        }
        self.selected = (self.selected + by) % self.markets.len();
        self.scroll = 0;
        if let Some(trade) = &mut self.trade {
            trade.moved_to = None;
        }
        Request::Selected
    }

    /// Moves the cursor where there is one, and else the rows.
    fn scroll_by(&mut self, rows: i32) {
        if let (Some(trade), Some(market)) = (&mut self.trade, self.markets.get(self.selected)) {
            trade.move_by(market, rows);
            return;
        }
        self.scroll = self.scroll.saturating_add(rows).clamp(-1_000, 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::new("demo (mock money)".to_owned(), Money::Mock, true);
        for ticker in ["A", "B"] {
            state.markets.push(MarketView { ticker: ticker.to_owned(), ..MarketView::default() });
        }
        state
    }

    fn press(state: &mut State, code: KeyCode) -> Request {
        state.key(KeyEvent::from(code))
    }

    #[test]
    fn keys_move_between_markets_views_and_prices() {
        let mut state = state();
        assert_eq!(press(&mut state, KeyCode::Up), Request::None);
        assert_eq!(state.scroll, 1);
        assert_eq!(press(&mut state, KeyCode::Right), Request::Selected);
        assert_eq!((state.selected, state.scroll), (1, 0));
        press(&mut state, KeyCode::Left);
        assert_eq!(state.selected, 0);
        press(&mut state, KeyCode::BackTab);
        assert_eq!(state.tab, Tab::Orders);
        press(&mut state, KeyCode::Tab);
        assert_eq!(state.tab, Tab::Trades);
        press(&mut state, KeyCode::Char('3'));
        assert_eq!(state.tab, Tab::Positions);
        assert_eq!(press(&mut state, KeyCode::Char('q')), Request::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(interrupt), Request::Quit);
    }

    #[test]
    fn help_is_left_by_any_key() {
        let mut state = state();
        press(&mut state, KeyCode::Char('?'));
        assert!(state.has_help);
        assert_eq!(press(&mut state, KeyCode::Right), Request::None);
        assert_eq!((state.has_help, state.selected), (false, 0));
    }

    #[test]
    fn a_click_on_a_tab_shows_it() {
        let mut state = state();
        let size = Rect::new(0, 0, 60, 30);
        let tabs = areas(size).tabs.unwrap();
        let click = |column| MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column: tabs.x + column,
            row: tabs.y,
            modifiers: KeyModifiers::NONE,
        };
        state.mouse(click(12), size);
        assert_eq!(state.tab, Tab::Chart);
        state.mouse(click(2), size);
        assert_eq!(state.tab, Tab::Trades);
        state.mouse(click(33), size);
        assert_eq!(state.tab, Tab::Orders);
    }

    #[test]
    fn trades_are_bounded_and_newest_first() {
        let mut state = state();
        for at in 0..300 {
            let trade = TradeRow {
                at,
                yes_price: Dollars::CENT,
                count: Count::from_hundredths(100),
                taker: BookSide::Bid,
            };
            state.trade("A", trade);
        }
        assert_eq!(state.markets[0].trades.len(), MAX_TRADES);
        assert_eq!(state.markets[0].trades[0].at, 299);
        assert_eq!(state.markets[0].last, Some(Dollars::CENT));
    }
}
