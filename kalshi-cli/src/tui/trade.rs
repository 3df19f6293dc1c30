//! Orders from the ladder: what keys ask for and what stands between a key and an order. Pure.
//!
//! An order takes three different keys: one that opens it, Enter that reads what it would be, and a
//! `y` (in production the count and the price, typed) that sends it. No key that repeats passes two
//! of them, and what was sent is no longer there to be sent.

use std::collections::HashSet;

use kalshi_sdk::{Count, Dollars, streams::Outcome};
use kalshi_trade::direction::Action;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind};

use super::state::{MarketView, Request};
use crate::order::{count, is_confirmed};

/// The line that confirms the cancellation of every order.
pub(crate) const CANCEL_ALL: &str = "cancel all";

/// The line that confirms the cancellation of some, where that is asked about.
pub(crate) const CANCEL: &str = "cancel";

/// The most characters that are typed: no count and no price has more.
const MAX_TYPED: usize = 40;

/// An order before it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) ticker: String,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
    pub(crate) yes_price: Dollars,
    /// The count, as it is typed.
    pub(crate) count: String,
}

impl Draft {
    /// Returns the price of the outcome.
    pub(crate) fn price(&self) -> Option<Dollars> {
        match self.outcome {
            Outcome::Yes => Some(self.yes_price),
            Outcome::No => self.yes_price.complement(),
        }
    }

    /// Returns the order in words.
    pub(crate) fn words(&self) -> String {
        let price = self.price().map(|price| price.to_string()).unwrap_or_default();
        let outcome = if self.outcome == Outcome::Yes { "YES" } else { "NO" };
        format!("{} {outcome} {} @ {price}", self.action, self.count)
    }
}

/// An order that was looked at: what a person reads, and the terms that are typed to confirm it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Names and values.
    pub(crate) rows: Vec<(&'static str, String)>,
    /// `COUNT @ PRICE`.
    pub(crate) line: String,
    pub(crate) count: Count,
    pub(crate) price: Dollars,
}

/// The window in front of the screen. While it is open, keys go to it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// The count is typed.
    Count { draft: Draft, fault: Option<String> },
    /// The preview of the order is being read.
    Looking { number: u64, draft: Draft },
    /// The order is shown, and waits for a person.
    Confirm {
        number: u64,
        draft: Draft,
        looked: Looked,
        typed: String,
        /// True once it was on the screen: a key from before confirms nothing.
        is_shown: bool,
    },
    /// All orders are to be canceled, or these where that is asked about.
    Cancel { ids: Option<Vec<String>>, typed: String },
    /// The order was not sent.
    Failed { text: String },
}

/// The state of an order that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentState {
    /// It has no answer yet.
    Sending,
    /// It may exist: its answer was lost, and it is being found out.
    Unknown,
}

/// An order that was handed over and whose outcome is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentRow {
    pub(crate) client_order_id: String,
    pub(crate) ticker: String,
    pub(crate) words: String,
    pub(crate) state: SentState,
}

/// The part of the state that can write, only with `--trade`: without it no key can.
#[derive(Clone, Debug)]
pub(crate) struct Trade {
    /// Terms are typed to confirm an order; else a key confirms it.
    pub(crate) is_typed: bool,
    /// Cancellations are asked about, too.
    pub(crate) asks_cancel: bool,
    /// The count that the next order begins with.
    pub(crate) count: String,
    /// The YES price that the cursor was moved to; the best bid unless it was.
    pub(crate) moved_to: Option<Dollars>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) sent: Vec<SentRow>,
    /// The ids of orders whose cancellation is under way.
    pub(crate) canceling: HashSet<String>,
    /// Numbers the looks, so that an answer to another one is told apart.
    looks: u64,
}

impl Trade {
    pub(crate) fn new(is_typed: bool, count: Count) -> Self {
        Self {
            is_typed,
            asks_cancel: false,
            count: kalshi_sdk::Decimal::from(count).to_string(),
            moved_to: None,
            ticket: None,
            sent: Vec::new(),
            canceling: HashSet::new(),
            looks: 0,
        }
    }

    /// Returns the price under the cursor.
    pub(crate) fn cursor(&self, market: &MarketView) -> Option<Dollars> {
        let best = market.bids.first().or_else(|| market.asks.first()).map(|level| level.price);
        self.moved_to.or(best).or_else(|| market.grid.as_ref().map(kalshi_sdk::PriceGrid::lowest))
    }

    /// Moves the cursor by this number of ticks of the market.
    pub(crate) fn move_by(&mut self, market: &MarketView, ticks: i32) {
        if let Some(at) = self.cursor(market) {
            self.moved_to = Some(stepped(market, at, ticks));
        }
    }

    /// Opens the window of an order at the cursor.
    pub(crate) fn open(&mut self, market: &MarketView, action: Action, outcome: Outcome) {
        let Some(yes_price) = self.cursor(market) else { return };
        if let Some(open) = self.sent.iter().find(|row| row.ticker == market.ticker) {
            let text = format!(
                "{}: whether this order exists is not known yet. Nothing is placed in its stead.",
                open.words
            );
            self.ticket = Some(Ticket::Failed { text });
            return;
        }
        let ticker = market.ticker.clone();
        let draft = Draft { ticker, action, outcome, yes_price, count: self.count.clone() };
        self.ticket = Some(Ticket::Count { draft, fault: None });
    }

    /// Takes in a key while a window is open.
    pub(crate) fn key(&mut self, key: KeyEvent, market: Option<&MarketView>) -> Request {
        if key.code == KeyCode::Esc {
            self.ticket = None;
            return Request::None;
        }
        // A key that is held down does nothing here but edit.
        let is_repeat = key.kind == KeyEventKind::Repeat;
        match self.ticket.take() {
            Some(Ticket::Count { draft, .. }) => self.count_key(key.code, draft, market, is_repeat),
            Some(Ticket::Confirm { number, draft, looked, mut typed, is_shown }) => {
                let is_confirmed = if self.is_typed {
                    edit(&mut typed, key.code, |c| c.is_ascii_digit() || " @.".contains(c));
                    key.code == KeyCode::Enter && is_confirmed(&typed, looked.count, looked.price)
                } else {
                    key.code == KeyCode::Char('y')
                };
                if is_confirmed && is_shown && !is_repeat {
                    // The window is gone: the same key again finds nothing to send.
                    return Request::Send { number, draft };
                }
                self.ticket = Some(Ticket::Confirm { number, draft, looked, typed, is_shown });
                Request::None
            }
            Some(Ticket::Cancel { ids, mut typed }) => {
                let line = if ids.is_some() { CANCEL } else { CANCEL_ALL };
                if key.code == KeyCode::Enter && typed == line && !is_repeat {
                    return ids.map_or(Request::CancelAll, |ids| self.cancel(ids));
                }
                edit(&mut typed, key.code, |c| c.is_ascii_lowercase() || c == ' ');
                self.ticket = Some(Ticket::Cancel { ids, typed });
                Request::None
            }
            Some(Ticket::Failed { text }) => {
                if is_repeat || !matches!(key.code, KeyCode::Enter | KeyCode::Char('q' | ' ')) {
                    self.ticket = Some(Ticket::Failed { text });
                }
                Request::None
            }
            looking => {
                self.ticket = looking;
                Request::None
            }
        }
    }

    /// Cancels orders, or asks about it first. Those whose cancellation is under way are left out.
    pub(crate) fn open_cancel(&mut self, ids: Vec<String>) -> Request {
        if self.asks_cancel && !ids.is_empty() {
            self.ticket = Some(Ticket::Cancel { ids: Some(ids), typed: String::new() });
            return Request::None;
        }
        self.cancel(ids)
    }

    fn cancel(&mut self, mut ids: Vec<String>) -> Request {
        ids.retain(|id| self.canceling.insert(id.clone()));
        if ids.is_empty() { Request::None } else { Request::Cancel(ids) }
    }

    fn count_key(
        &mut self,
        code: KeyCode,
        mut draft: Draft,
        market: Option<&MarketView>,
        is_repeat: bool,
    ) -> Request {
        let mut fault = None;
        match code {
            KeyCode::Up | KeyCode::Down => {
                if let Some(market) = market.filter(|market| market.ticker == draft.ticker) {
                    let ticks = if code == KeyCode::Up { 1 } else { -1 };
                    draft.yes_price = stepped(market, draft.yes_price, ticks);
                    self.moved_to = Some(draft.yes_price);
                }
            }
            KeyCode::Enter if !is_repeat => match count(&draft.count) {
                Ok(_) => {
                    self.looks += 1;
                    self.count.clone_from(&draft.count);
                    let number = self.looks;
                    self.ticket = Some(Ticket::Looking { number, draft: draft.clone() });
                    return Request::Look { number, draft };
                }
                Err(text) => fault = Some(text),
            },
            code => edit(&mut draft.count, code, |c| c.is_ascii_digit() || c == '.'),
        }
        self.ticket = Some(Ticket::Count { draft, fault });
        Request::None
    }

    /// Takes in the answer to a look. Returns whether it was waited for.
    pub(crate) fn looked(&mut self, number: u64, result: Result<Looked, String>) -> bool {
        match self.ticket.take() {
            Some(Ticket::Looking { number: asked, draft }) if asked == number => {
                self.ticket = Some(match result {
                    Ok(looked) => Ticket::Confirm {
                        number,
                        draft,
                        looked,
                        typed: String::new(),
                        is_shown: false,
                    },
                    Err(text) => Ticket::Failed { text },
                });
                true
            }
            ticket => {
                self.ticket = ticket;
                false
            }
        }
    }

    /// Notes that everything up to here was on the screen.
    pub(crate) fn shown(&mut self) {
        if let Some(Ticket::Confirm { is_shown, .. }) = &mut self.ticket {
            *is_shown = true;
        }
    }
}

/// Returns the price this number of ticks above another one, as far as the market has such.
fn stepped(market: &MarketView, from: Dollars, ticks: i32) -> Dollars {
    let Some(grid) = &market.grid else { return from };
    let mut at = from;
    for _ in 0..ticks.unsigned_abs() {
        let next = if ticks > 0 { grid.next_above(at) } else { grid.next_below(at) };
        let Some(next) = next else { break };
        at = next;
    }
    at
}

/// Changes a text that is typed.
fn edit(text: &mut String, code: KeyCode, is_taken: impl Fn(char) -> bool) {
    match code {
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(c) if is_taken(c) && text.len() < MAX_TYPED => text.push(c),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::types::BookSide;

    use super::*;
    use crate::tui::state::{Money, OrderRow, State};

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn state(trade: impl Into<Option<Trade>>) -> State {
        let mut state = State::new("demo (mock money)".to_owned(), Money::Mock, true);
        let level = |price: &str| (dollars(price), "100".parse().unwrap()).into();
        let grid = r#"[{"start":"0.0000","end":"1.0000","step":"0.0100"}]"#;
        state.markets.push(MarketView {
            ticker: "KXA".to_owned(),
            bids: vec![level("0.50"), level("0.40")],
            asks: vec![level("0.55")],
            is_current: true,
            grid: serde_json::from_str(grid).ok(),
            ..MarketView::default()
        });
        state.trade = trade.into();
        state
    }

    fn trade(is_typed: bool) -> Trade {
        Trade::new(is_typed, "10".parse().unwrap())
    }

    fn press(state: &mut State, code: KeyCode) -> Request {
        state.key(KeyEvent::from(code))
    }

    fn type_text(state: &mut State, text: &str) {
        for c in text.chars() {
            assert_eq!(press(state, KeyCode::Char(c)), Request::None, "{c}");
        }
    }

    fn looked() -> Looked {
        Looked {
            rows: vec![("order", "10.00 × buy YES at 0.5000".to_owned())],
            line: "10 @ 0.5".to_owned(),
            count: "10".parse().unwrap(),
            price: dollars("0.50"),
        }
    }

    /// Opens an order and answers its look, and returns its number.
    fn until_confirm(state: &mut State) -> u64 {
        press(state, KeyCode::Char('b'));
        let Request::Look { number, .. } = press(state, KeyCode::Enter) else { panic!() };
        assert!(state.trade.as_mut().unwrap().looked(number, Ok(looked())));
        state.trade.as_mut().unwrap().shown();
        number
    }

    const KEYS: [KeyCode; 22] = [
        KeyCode::Char('b'),
        KeyCode::Char('s'),
        KeyCode::Char('B'),
        KeyCode::Char('S'),
        KeyCode::Char('x'),
        KeyCode::Char('X'),
        KeyCode::Char('y'),
        KeyCode::Char('n'),
        KeyCode::Char('1'),
        KeyCode::Char(' '),
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Home,
        KeyCode::PageUp,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::Char('?'),
    ];

    #[test]
    fn without_trade_no_key_can_write() {
        let mut state = state(None);
        state.orders.push(order("1", "0.50"));
        for round in 0..3 {
            for first in KEYS {
                for second in KEYS {
                    for code in [first, second] {
                        let request = press(&mut state, code);
                        let only_looks =
                            matches!(request, Request::None | Request::Selected | Request::Quit);
                        assert!(only_looks, "{round} {code:?}: {request:?}");
                    }
                }
            }
        }
    }

    fn order(id: &str, price: &str) -> OrderRow {
        OrderRow {
            order_id: id.to_owned(),
            ticker: "KXA".to_owned(),
            side: BookSide::Bid,
            yes_price: dollars(price),
            remaining: "5".parse().unwrap(),
            initial: "5".parse().unwrap(),
        }
    }

    #[test]
    fn an_order_is_opened_looked_at_and_confirmed_by_three_keys() {
        let mut state = state(trade(false));
        press(&mut state, KeyCode::Char('b'));
        type_text(&mut state, "5.5");
        press(&mut state, KeyCode::Up);
        let Request::Look { number, draft } = press(&mut state, KeyCode::Enter) else { panic!() };
        assert_eq!(draft.words(), "buy YES 105.5 @ 0.5100");
        let trade = state.trade.as_mut().unwrap();
        assert!(!trade.looked(number + 1, Ok(looked())), "another look");
        assert!(trade.looked(number, Ok(looked())));
        assert_eq!(press(&mut state, KeyCode::Char('y')), Request::None, "it was not shown yet");
        state.trade.as_mut().unwrap().shown();
        let sent = press(&mut state, KeyCode::Char('y'));
        assert!(matches!(sent, Request::Send { number: sent, .. } if sent == number), "{sent:?}");
        assert_eq!(press(&mut state, KeyCode::Char('y')), Request::None);
        // The next order begins with the same count.
        assert_eq!(state.trade.as_ref().unwrap().count, "105.5");
    }

    #[test]
    fn a_key_that_repeats_sends_no_order_and_not_a_second_one() {
        for typed in [false, true] {
            for code in KEYS {
                let mut state = state(trade(typed));
                for _ in 0..50 {
                    match press(&mut state, code) {
                        Request::Look { number, .. } => {
                            state.trade.as_mut().unwrap().looked(number, Ok(looked()));
                        }
                        Request::Send { .. } | Request::CancelAll => panic!("{code:?}"),
                        _ => {}
                    }
                    if let Some(trade) = &mut state.trade {
                        trade.shown();
                    }
                }
            }
        }
        let mut state = state(trade(false));
        until_confirm(&mut state);
        let mut sent = 0;
        for _ in 0..50 {
            sent +=
                u32::from(matches!(press(&mut state, KeyCode::Char('y')), Request::Send { .. }));
        }
        assert_eq!(sent, 1);
        // A terminal that tells repeats from presses: no repeat confirms.
        until_confirm(&mut state);
        let repeat = KeyEvent { kind: KeyEventKind::Repeat, ..KeyCode::Char('y').into() };
        assert_eq!(state.key(repeat), Request::None);
    }

    #[test]
    fn where_money_is_real_only_the_count_and_the_price_confirm() {
        let mut state = state(trade(true));
        until_confirm(&mut state);
        for typed in ["", "y", "10", "10 @ 0.51", "11 @ 0.5"] {
            type_text(&mut state, typed);
            assert_eq!(press(&mut state, KeyCode::Enter), Request::None, "{typed}");
            for _ in 0..20 {
                press(&mut state, KeyCode::Backspace);
            }
        }
        type_text(&mut state, "10 @ 0.5");
        assert!(matches!(press(&mut state, KeyCode::Enter), Request::Send { .. }));
        assert_eq!(press(&mut state, KeyCode::Enter), Request::None);
    }

    #[test]
    fn the_two_vocabularies_have_the_price_of_the_cursor() {
        for (key, words) in [
            ('b', "buy YES 10 @ 0.5000"),
            ('s', "sell YES 10 @ 0.5000"),
            ('B', "buy NO 10 @ 0.5000"),
            ('S', "sell NO 10 @ 0.5000"),
        ] {
            let mut state = state(trade(false));
            press(&mut state, KeyCode::Char(key));
            let Request::Look { draft, .. } = press(&mut state, KeyCode::Enter) else { panic!() };
            assert_eq!(draft.words(), words);
        }
        let mut state = state(trade(false));
        for _ in 0..6 {
            press(&mut state, KeyCode::Up);
        }
        press(&mut state, KeyCode::Char('B'));
        let Request::Look { draft, .. } = press(&mut state, KeyCode::Enter) else { panic!() };
        assert_eq!((draft.yes_price, draft.price()), (dollars("0.56"), Some(dollars("0.44"))));
    }

    #[test]
    fn a_count_that_is_none_is_said_and_not_looked_at() {
        let mut state = state(trade(false));
        press(&mut state, KeyCode::Char('s'));
        for _ in 0..4 {
            press(&mut state, KeyCode::Backspace);
        }
        assert_eq!(press(&mut state, KeyCode::Enter), Request::None);
        let ticket = state.trade.as_ref().unwrap().ticket.clone();
        assert!(matches!(ticket, Some(Ticket::Count { fault: Some(_), .. })), "{ticket:?}");
    }

    #[test]
    fn nothing_is_placed_beside_an_order_that_may_exist() {
        let mut state = state(trade(false));
        state.trade.as_mut().unwrap().sent.push(SentRow {
            client_order_id: "cli-1".to_owned(),
            ticker: "KXA".to_owned(),
            words: "buy YES 10 @ 0.5000".to_owned(),
            state: SentState::Unknown,
        });
        press(&mut state, KeyCode::Char('b'));
        let ticket = state.trade.as_ref().unwrap().ticket.clone();
        assert!(matches!(ticket, Some(Ticket::Failed { .. })), "{ticket:?}");
    }

    #[test]
    fn x_cancels_the_orders_at_the_cursor_and_each_once() {
        let mut state = state(trade(false));
        state.orders = vec![order("1", "0.50"), order("2", "0.50"), order("3", "0.40")];
        let ids = vec!["1".to_owned(), "2".to_owned()];
        assert_eq!(press(&mut state, KeyCode::Char('x')), Request::Cancel(ids));
        assert_eq!(press(&mut state, KeyCode::Char('x')), Request::None);
    }

    #[test]
    fn a_cancellation_is_asked_about_where_every_write_is() {
        let mut state = state(trade(true));
        state.trade.as_mut().unwrap().asks_cancel = true;
        state.orders = vec![order("1", "0.50")];
        assert_eq!(press(&mut state, KeyCode::Char('x')), Request::None);
        assert_eq!(press(&mut state, KeyCode::Enter), Request::None);
        type_text(&mut state, "cancel");
        assert_eq!(press(&mut state, KeyCode::Enter), Request::Cancel(vec!["1".to_owned()]));
        assert_eq!(press(&mut state, KeyCode::Enter), Request::None);
    }

    #[test]
    fn all_orders_are_canceled_by_typing_it() {
        let mut state = state(trade(false));
        state.orders = vec![order("1", "0.50")];
        press(&mut state, KeyCode::Char('X'));
        assert_eq!(press(&mut state, KeyCode::Enter), Request::None);
        type_text(&mut state, "cancel all");
        assert_eq!(press(&mut state, KeyCode::Enter), Request::CancelAll);
        assert_eq!(press(&mut state, KeyCode::Enter), Request::None);
    }

    #[test]
    fn the_cursor_goes_from_tick_to_tick_and_not_off_the_grid() {
        let mut state = state(trade(false));
        let at = |state: &State| {
            state.trade.as_ref().and_then(|trade| trade.cursor(&state.markets[0])).unwrap()
        };
        assert_eq!(at(&state), dollars("0.50"), "the best bid");
        press(&mut state, KeyCode::Up);
        assert_eq!(at(&state), dollars("0.51"));
        for _ in 0..20 {
            press(&mut state, KeyCode::PageUp);
        }
        assert_eq!(at(&state), dollars("0.99"));
        press(&mut state, KeyCode::Home);
        assert_eq!(at(&state), dollars("0.50"));
    }
}
