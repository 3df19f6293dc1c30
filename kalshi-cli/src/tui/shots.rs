//! Screens of a made-up market, compared with those in `shots/`. `UPDATE_GOLDEN=1 cargo test` writes
//! them anew.

use std::{env, fs, path::PathBuf};

use kalshi_sdk::{Count, Dollars, PriceLevel, streams::Outcome, types::BookSide};
use kalshi_trade::direction::Action;
use ratatui::{
    Terminal,
    backend::TestBackend,
    style::{Color, Modifier},
};

use super::{
    state::{Link, MarketView, Money, OrderRow, PositionRow, State, Tab, TradeRow},
    trade::{Draft, Looked, SentRow, SentState, Ticket, Trade},
    view::view,
};
use crate::chart::draw::Bar;

fn dollars(text: &str) -> Dollars {
    text.parse().unwrap()
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}

fn state(has_color: bool) -> State {
    let mut state = State::new("demo (mock money)".to_owned(), Money::Mock, has_color);
    let level = |cents: i64, size: i64| -> PriceLevel {
        (Dollars::from_micros(cents * 10_000), Count::from_hundredths(size * 100)).into()
    };
    let micros = |step: i64| Dollars::from_micros(480_000 + (step * 37 % 120) * 1_000);
    let bars = (0..90).map(|hour| {
        let (open, close) = (micros(hour), micros(hour + 1));
        let room = Dollars::from_micros(8_000);
        Bar {
            open,
            close,
            high: open.max(close).checked_add(room).unwrap(),
            low: open.min(close).checked_sub(room).unwrap(),
            volume: Count::from_hundredths((hour * 53 % 17) * 100),
            end: 1_790_000_000 + hour * 3_600,
        }
    });
    let trades = (0..40).map(|n| TradeRow {
        at: 1_790_323_200_000 - n * 7_300,
        yes_price: Dollars::from_micros(550_000 + (n % 3) * 10_000),
        count: Count::from_hundredths(100 + n * 1_250),
        taker: if n % 3 == 0 { BookSide::Ask } else { BookSide::Bid },
    });
    state.markets.push(MarketView {
        ticker: "KXHIGHNY-26NOV27-B62".to_owned(),
        title: "62° to 63°".to_owned(),
        bids: (0..14).map(|n| level(55 - n, 120 + n * 85)).collect(),
        asks: (0..14).map(|n| level(57 + n, 60 + (n * 7919) % 1_300)).collect(),
        is_current: true,
        last: Some(dollars("0.56")),
        volume: Some(count("18250")),
        trades: trades.collect(),
        bars: bars.collect(),
        grid: None,
    });
    state.markets.push(MarketView { ticker: "KXB".to_owned(), ..MarketView::default() });
    let order = |id: &str, side, price: &str, left: &str| OrderRow {
        order_id: id.to_owned(),
        ticker: "KXHIGHNY-26NOV27-B62".to_owned(),
        side,
        yes_price: dollars(price),
        remaining: count(left),
        initial: count("25"),
    };
    state.orders =
        vec![order("1", BookSide::Bid, "0.54", "25"), order("2", BookSide::Ask, "0.58", "12.5")];
    state.queue.insert("1".to_owned(), count("180"));
    state.positions = vec![
        PositionRow {
            ticker: "KXHIGHNY-26NOV27-B62".to_owned(),
            count: count("40"),
            cost: Some(dollars("21.20")),
            realized: Some(dollars("3.15")),
        },
        PositionRow {
            ticker: "KXBTC-26NOV2717-T96000".to_owned(),
            count: count("-7.5"),
            cost: Some(dollars("2.0625")),
            realized: Some(dollars("-0.44")),
        },
    ];
    state.is_account_current = true;
    state.link = Link::Live;
    state.lag_millis = Some(12);
    state.tokens = Some((580, 97));
    state.now = 1_790_323_201_000;
    state
}

fn terminal(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(state, frame)).unwrap();
    terminal
}

/// Returns the text of a screen, and below it what each color marks, if anything is colored.
fn shot(state: &State, width: u16, height: u16) -> String {
    let terminal = terminal(state, width, height);
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in 0..height {
        let mut line = String::new();
        for column in 0..width {
            line.push_str(buffer[(column, row)].symbol());
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn check(name: &str, shot: &str) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tui/shots").join(format!("{name}.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, shot).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == shot, "{} differs; UPDATE_GOLDEN=1 writes it:\n{shot}", path.display());
}

#[test]
fn screens_of_60_100_and_200_columns_are_as_they_were() {
    let mut state = state(true);
    check("60", &shot(&state, 60, 36));
    check("100", &shot(&state, 100, 36));
    check("200", &shot(&state, 200, 50));
    state.tab = Tab::Orders;
    check("60-orders", &shot(&state, 60, 30));
    state.has_help = true;
    check("100-help", &shot(&state, 100, 30));
}

/// The cursor within the spread, an order that may exist, and one that is being canceled.
fn trading(has_color: bool) -> State {
    let mut state = state(has_color);
    let mut trade = Trade::new(true, count("10"));
    trade.moved_to = Some(dollars("0.56"));
    trade.canceling.insert("2".to_owned());
    trade.sent.push(SentRow {
        client_order_id: "cli-1".to_owned(),
        ticker: "KXHIGHNY-26NOV27-B62".to_owned(),
        words: "buy NO 10 @ 0.4400".to_owned(),
        state: SentState::Unknown,
    });
    state.trade = Some(trade);
    state
}

/// The window of an order that was looked at.
fn confirming(has_color: bool) -> State {
    let mut state = trading(has_color);
    let draft = Draft {
        ticker: "KXHIGHNY-26NOV27-B62".to_owned(),
        action: Action::Buy,
        outcome: Outcome::No,
        yes_price: dollars("0.56"),
        count: "10".to_owned(),
    };
    let title = "KXHIGHNY-26NOV27-B62  Highest temperature in New York: 62° to 63°";
    let rows = [
        ("environment", "PRODUCTION (real money)"),
        ("market", title),
        ("order", "10.00 × buy NO at 0.4400"),
        ("in the book", "ask at 0.5600 (the price of YES)"),
        ("cost", "2.6400 + fee 0.17248; at most 2.81348 in all"),
        ("closes", "4.00 contracts of the position"),
        ("position", "4.00 YES → 6.00 NO if it trades in full"),
        ("best prices", "YES bid 0.5500 × 120.00, ask 0.5700 × 60.00"),
        ("then", "rests until it is canceled"),
        ("client id", "cli-0123456789abcdef"),
    ];
    let looked = Looked {
        rows: rows.map(|(name, value)| (name, value.to_owned())).to_vec(),
        line: "10 @ 0.44".to_owned(),
        count: count("10"),
        price: dollars("0.44"),
    };
    let typed = "10 @ 0.4".to_owned();
    let ticket = Ticket::Confirm { number: 1, draft, looked, typed, is_shown: true };
    if let Some(trade) = &mut state.trade {
        trade.ticket = Some(ticket);
    }
    state
}

#[test]
fn screens_of_trading_are_as_they_were() {
    check("100-trade", &shot(&trading(true), 100, 36));
    let confirming = confirming(true);
    check("60-confirm", &shot(&confirming, 60, 30));
    check("100-confirm", &shot(&confirming, 100, 30));
    // Nothing of what it costs is cut.
    for (width, height) in [(40, 24), (60, 20), (80, 20), (200, 50)] {
        let shot = shot(&confirming, width, height);
        for part in ["at most", "2.81348", "10 @ 0.44", "real"] {
            assert!(shot.contains(part), "{part} at {width} × {height}:\n{shot}");
        }
    }
}

#[test]
fn a_notice_is_shown_whole() {
    let mut state = trading(true);
    let text = "buy NO 10 @ 0.4400: the exchange refused the order (400, insufficient_balance) END";
    state.notice = Some(text.to_owned());
    assert!(shot(&state, 60, 30).contains("END"));
}

#[test]
fn no_color_has_none_and_says_the_same() {
    for (color, plain) in [
        (state(true), state(false)),
        (trading(true), trading(false)),
        (confirming(true), confirming(false)),
    ] {
        colors_say_nothing(&color, &plain);
    }
}

fn colors_say_nothing(color: &State, plain: &State) {
    for (width, height) in [(60, 30), (100, 36), (200, 50)] {
        assert_eq!(shot(color, width, height), shot(plain, width, height));
        let terminal = terminal(plain, width, height);
        for cell in terminal.backend().buffer().content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{cell:?}");
        }
    }
}

#[test]
fn production_is_red_and_said_in_words() {
    let mut state = state(true);
    state.money = Money::Real;
    state.environment = "PRODUCTION (real money)".to_owned();
    let terminal = terminal(&state, 100, 30);
    let cell = &terminal.backend().buffer()[(2, 0)];
    assert_eq!((cell.symbol(), cell.bg), ("R", Color::Red));
    assert!(cell.modifier.contains(Modifier::BOLD));
}

#[test]
fn a_book_that_is_not_known_is_not_shown() {
    let mut state = state(true);
    state.markets[0].is_current = false;
    let shot = shot(&state, 100, 30);
    assert!(shot.contains("the book is not known now"), "{shot}");
    assert!(!shot.contains('╌'), "{shot}");
}

#[test]
fn any_size_and_any_scroll_draws() {
    let mut state = state(true);
    for scroll in [-1_000, -7, 0, 7, 1_000] {
        state.scroll = scroll;
        for width in [1, 20, 39, 40, 59, 79, 80, 99, 149, 150, 200] {
            for height in [1, 5, 11, 12, 20, 60] {
                shot(&state, width, height);
            }
        }
    }
    let confirming = confirming(true);
    for width in [40, 59, 80, 200] {
        for height in [12, 13, 60] {
            shot(&confirming, width, height);
        }
    }
    for state in [&mut state, &mut trading(true)] {
        state.markets.clear();
        for width in [40, 100, 200] {
            shot(state, width, 24);
        }
    }
}

#[test]
fn texts_of_the_exchange_do_not_reach_the_terminal_as_commands() {
    let mut state = state(true);
    state.markets[0].title = "\u{1b}[2Jgone\u{202e}".to_owned();
    state.notice = Some("\u{7}bell".to_owned());
    let shot = shot(&state, 100, 30);
    assert!(!shot.contains('\u{1b}') && !shot.contains('\u{7}') && !shot.contains('\u{202e}'));
}
