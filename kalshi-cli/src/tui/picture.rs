//! The picture of the terminal in the README: the view of a market on an exchange whose clock the
//! test moves, as SVG. `tools/picture.sh` draws it anew; each run of the tests checks that it is
//! current.

use std::{
    collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf, sync::Arc, time::Duration,
};

use kalshi_auth::ManualClock;
use kalshi_sdk::{
    Client, Count, Dollars, PriceLevel, UnixMillis, UnixSeconds,
    auth::Clock as _,
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, MarketPlan, Role, Tier};
use kalshi_trade::candles::Period;
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

use super::{
    run,
    state::{Link, Money, OrderRow, PositionRow, State},
    trade::Trade,
    view::view,
};
use crate::{chart, context::Target};

const TICKER: &str = "KXHIGHNY-26NOV27-B62";
const OTHER: &str = "KXBTCD-26NOV2717-T96000";

/// The size of the terminal in cells.
const SIZE: (u16, u16) = (100, 34);

/// The most bytes of the picture.
const MOST: usize = 40_000;

/// The size of a cell, the room around the screen and the height of the title, in tenths of a pixel.
const CELL: (i64, i64) = (84, 170);
const ROOM: i64 = 140;
const BAR: i64 = 340;

/// An exchange on which two members trade, and the clock that all of them have.
struct Stage {
    clock: Arc<ManualClock>,
    exchange: Exchange,
    you: Client,
    other: Client,
}

impl Stage {
    async fn new() -> Self {
        // 24 November 2026, 20:00:00 UTC.
        let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_795_550_400_000)));
        let exchange = Exchange::builder()
            .with_seed(7)
            .with_markets(12)
            .with_tier(Tier::Prime)
            .with_clock(Arc::clone(&clock) as _)
            .start()
            .await
            .unwrap();
        for (ticker, title) in [(TICKER, "62° to 63°"), (OTHER, "$96,000 or above")] {
            exchange.markets().list(MarketPlan::new(ticker, 6 * 86_400)).unwrap();
            exchange.markets().set_yes_sub_title(ticker, title).unwrap();
        }
        let client = |role| {
            Client::builder()
                .with_environment(exchange.environment())
                .with_credentials(exchange.credentials(role).unwrap().clone())
                .with_clock(Arc::clone(&clock) as _)
                .build()
                .unwrap()
        };
        let (you, other) = (client(Role::Trader), client(Role::Maker));
        Self { clock, exchange, you, other }
    }

    async fn order(
        client: &Client,
        ticker: &str,
        side: BookSide,
        cents: i64,
        count: Count,
    ) -> String {
        let order = CreateOrderV2Request::builder()
            .ticker(ticker)
            .side(side)
            .price(Dollars::from_micros(cents * 10_000))
            .count(count)
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
        client.create_order_v2().body(order).send().await.unwrap().order_id.clone()
    }

    /// Lets the two trade: you buy, or you sell.
    async fn trade(&self, ticker: &str, you_buy: bool, cents: i64, contracts: i64) {
        let count = Count::from_hundredths(contracts * 100);
        let (rests, takes) =
            if you_buy { (BookSide::Ask, BookSide::Bid) } else { (BookSide::Bid, BookSide::Ask) };
        Self::order(&self.other, ticker, rests, cents, count).await;
        Self::order(&self.you, ticker, takes, cents, count).await;
    }

    /// Plays two days of trades, and leaves a ladder with orders of yours in it.
    async fn play(&self) {
        // A walk that any machine walks the same way.
        let mut random: i64 = 20_261_126;
        let mut draw = |below: i64| {
            random = (random * 1_103_515_245 + 12_345) % 2_147_483_648;
            random / 65_536 % below
        };
        let (mut price, mut held) = (47, 0);
        for _ in 0..58 {
            self.clock.advance(Duration::from_secs(3_600));
            for _ in 0..3 + draw(3) {
                // It tends to the middle, and to where your position is small.
                let pull = i64::from(price < 50) - i64::from(price > 55);
                price += draw(5) - 2 + pull;
                let you_buy = if held > 40 { false } else { held < -20 || draw(2) == 0 };
                let contracts = 3 + draw(14);
                held += if you_buy { contracts } else { -contracts };
                self.trade(TICKER, you_buy, price, contracts).await;
            }
        }
        self.trade(OTHER, false, 29, 7).await;
        let mut best = price.clamp(48, 56);
        for n in 0..13 {
            self.clock.advance(Duration::from_secs(1));
            let mut count = |base: i64| Count::from_hundredths((base + n * 61 + draw(240)) * 100);
            Self::order(&self.other, TICKER, BookSide::Bid, best - n, count(90)).await;
            Self::order(&self.other, TICKER, BookSide::Ask, best + 2 + n, count(60)).await;
        }
        for (side, cents, hundredths) in
            [(BookSide::Bid, best - 1, 2_500), (BookSide::Ask, best + 3, 1_250)]
        {
            let count = Count::from_hundredths(hundredths);
            Self::order(&self.you, TICKER, side, cents, count).await;
        }
        best += 1;
        for n in 0..9 {
            self.clock.advance(Duration::from_millis(2_700 + 1_900 * u64::try_from(n).unwrap()));
            self.trade(TICKER, n % 3 != 1, best, 2 + draw(30)).await;
        }
        self.clock.advance(Duration::from_secs(2));
    }

    /// Reads what the terminal shows.
    async fn state(&self) -> State {
        let now = self.clock.now();
        let mut state = State::new(Target::Sim.in_words(), Money::Sim, true);
        let tickers = [TICKER.to_owned(), OTHER.to_owned()];
        state.markets = run::markets(&self.you, &tickers).await.unwrap();
        let span = Duration::from_secs(7 * 86_400);
        let seconds = UnixSeconds::from_seconds(now.as_millis() / 1_000);
        let candles = chart::fetch(&self.you, TICKER, seconds, span, Period::Hour).await.unwrap().1;
        let trades = self.you.get_trades().ticker(TICKER).limit(40).send().await.unwrap();
        let book = self.you.get_market_orderbook().ticker(TICKER).send().await.unwrap();
        let book = book.into_inner().orderbook_fp;
        let market = state.market_mut(TICKER).unwrap();
        market.is_current = true;
        market.bars = chart::bars(&candles);
        market.trades = trades.into_inner().trades.into_iter().map(run::trade_row).collect();
        (market.bids, market.asks) = levels(book.yes_dollars, book.no_dollars);
        for order in self.you.get_orders().status("resting").all().await.unwrap() {
            state.orders.push(OrderRow {
                order_id: order.order_id,
                ticker: order.ticker,
                side: order.book_side,
                yes_price: order.yes_price_dollars,
                remaining: order.remaining_count_fp,
                initial: order.initial_count_fp,
            });
        }
        state.orders.sort_by_key(|order| std::cmp::Reverse(order.yes_price));
        let queue = self.you.get_order_queue_positions().market_tickers([TICKER]).send().await;
        let queue = queue.unwrap().into_inner().queue_positions;
        state.queue = queue.into_iter().map(|row| (row.order_id, row.queue_position_fp)).collect();
        for row in self.you.get_positions().all().await.unwrap() {
            state.positions.push(PositionRow {
                ticker: row.ticker,
                count: row.position_fp,
                cost: Some(row.market_exposure_dollars),
                realized: Some(row.realized_pnl_dollars),
            });
        }
        state.positions.retain(|row| !row.count.is_zero());
        state.positions.sort_by(|a, b| b.ticker.cmp(&a.ticker));
        let limits = self.you.get_account_api_limits().send().await.unwrap();
        let tokens = |bucket: i64| u64::try_from(bucket).unwrap();
        state.tokens =
            Some((tokens(limits.read.bucket_capacity), tokens(limits.write.bucket_capacity)));
        state.is_account_current = true;
        state.link = Link::Live;
        state.now = now.as_millis();
        state.trade = Some(Trade::new(false, "10".parse().unwrap()));
        state
    }
}

/// Returns bids and asks for YES, best first.
fn levels(yes: Vec<PriceLevel>, no: Vec<PriceLevel>) -> (Vec<PriceLevel>, Vec<PriceLevel>) {
    let asks = no.into_iter().map(|level| (level.price.complement().unwrap(), level.count).into());
    let (mut bids, mut asks): (Vec<PriceLevel>, Vec<PriceLevel>) = (yes, asks.collect());
    bids.sort_by_key(|level| std::cmp::Reverse(level.price));
    asks.sort_by_key(|level| level.price);
    (bids, asks)
}

#[tokio::test]
async fn the_picture_in_the_readme_is_current() {
    let exchange = Stage::new().await;
    exchange.play().await;
    let state = exchange.state().await;
    assert_eq!((state.orders.len(), state.positions.len()), (2, 2), "{state:?}");
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1)).unwrap();
    terminal.draw(|frame| view(&state, frame)).unwrap();
    let picture = svg(terminal.backend().buffer(), "kalshi --env sim tui --trade");
    assert!(picture.len() <= MOST, "{} bytes", picture.len());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("terminal.svg");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &picture).unwrap();
        return;
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(current == picture, "terminal.svg is not what is drawn now: tools/picture.sh");
    exchange.exchange.audit().unwrap();
}

/// Returns a color, or the one of the text where the terminal's own is meant.
fn css(color: Color) -> String {
    match color {
        Color::Green => "#3fb68b".to_owned(),
        Color::Red => "#e5646a".to_owned(),
        Color::Yellow => "#e6b450".to_owned(),
        Color::Cyan => "#56b6c2".to_owned(),
        Color::DarkGray => "#68738a".to_owned(),
        Color::Black => "#11151c".to_owned(),
        Color::White => "#f0f3f8".to_owned(),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        _ => "#c8cfdc".to_owned(),
    }
}

/// Returns a length in pixels.
fn px(tenths: i64) -> String {
    if tenths % 10 == 0 {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// The arms of a line that a character draws from the middle of its cell: left, right, up, down; 1 is
/// a thin one, 2 a thick one.
fn arms(symbol: &str) -> Option<[u8; 4]> {
    Some(match symbol {
        "─" => [1, 1, 0, 0],
        "│" => [0, 0, 1, 1],
        "┃" => [0, 0, 2, 2],
        "╵" => [0, 0, 1, 0],
        "╷" => [0, 0, 0, 1],
        "╹" => [0, 0, 2, 0],
        "╻" => [0, 0, 0, 2],
        "╿" => [0, 0, 2, 1],
        "╽" => [0, 0, 1, 2],
        _ => return None,
    })
}

/// Returns the path of a rounded corner.
fn corner(symbol: &str, x: i64, y: i64) -> Option<String> {
    let (left, right, top, bottom) = (x, x + CELL.0, y, y + CELL.1);
    let (middle, center, round) = (x + CELL.0 / 2, y + CELL.1 / 2, CELL.0 / 2);
    let (from, bend, to) = match symbol {
        "╭" => (bottom, center + round, right),
        "╮" => (bottom, center + round, left),
        "╯" => (top, center - round, left),
        "╰" => (top, center - round, right),
        _ => return None,
    };
    let [middle, center, from, bend, to] = [middle, center, from, bend, to].map(px);
    Some(format!("M{middle} {from}V{bend}Q{middle} {center} {to} {center}"))
}

/// The lines of one color and strength: intervals by the coordinate across them.
#[derive(Default)]
struct Lines {
    across: BTreeMap<i64, Vec<(i64, i64)>>,
    down: BTreeMap<i64, Vec<(i64, i64)>>,
    other: String,
}

/// Joins intervals that touch.
fn joined(mut parts: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    parts.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (from, to) in parts {
        match out.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

impl Lines {
    fn path(self) -> String {
        let mut path = self.other;
        // Writing to a string does not fail.
        for (y, parts) in self.across {
            for (from, to) in joined(parts) {
                let _ = write!(path, "M{} {}H{}", px(from), px(y), px(to));
            }
        }
        for (x, parts) in self.down {
            for (from, to) in joined(parts) {
                let _ = write!(path, "M{} {}V{}", px(x), px(from), px(to));
            }
        }
        path
    }
}

/// Returns the color of the text in a cell, and whether it is bold.
fn ink(cell: &Cell) -> (String, bool) {
    (css(cell.fg), cell.modifier.contains(Modifier::BOLD))
}

/// Returns a rectangle.
fn filled((x, y): (i64, i64), (width, height): (i64, i64), color: &str) -> String {
    let [x, y, width, height] = [x, y, width, height].map(px);
    format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{color}\"/>\n")
}

/// The parts of the picture, the lowest first.
#[derive(Default)]
struct Parts {
    fills: String,
    lines: BTreeMap<(String, u8), Lines>,
    texts: String,
    /// The colors of texts, and whether they are bold.
    styles: Vec<(String, bool)>,
}

impl Parts {
    /// Takes in a cell, and returns how many cells are done with it.
    fn take(&mut self, screen: &Buffer, column: u16, row: u16) -> u16 {
        let cell = &screen[(column, row)];
        let (x, y) = (ROOM + i64::from(column) * CELL.0, BAR + i64::from(row) * CELL.1);
        let symbol = cell.symbol();
        let (color, _) = ink(cell);
        if let Some(eighths) = "▁▂▃▄▅▆▇█".chars().position(|c| symbol == c.to_string())
        {
            let tall = CELL.1 * (i64::try_from(eighths).unwrap() + 1) / 8;
            self.fills += &filled((x, y + CELL.1 - tall), (CELL.0, tall), "#39424f");
        } else if let Some(arms) = arms(symbol) {
            let (middle, center) = (x + CELL.0 / 2, y + CELL.1 / 2);
            for (arm, strength) in
                arms.into_iter().enumerate().filter(|(_, strength)| *strength > 0)
            {
                let lines = self.lines.entry((color.clone(), strength)).or_default();
                match arm {
                    0 => lines.across.entry(center).or_default().push((x, middle)),
                    1 => lines.across.entry(center).or_default().push((middle, x + CELL.0)),
                    2 => lines.down.entry(middle).or_default().push((y, center)),
                    _ => lines.down.entry(middle).or_default().push((center, y + CELL.1)),
                }
            }
        } else if symbol == "╌" {
            let lines = self.lines.entry((color, 1)).or_default();
            let dash = (x + 12, x + CELL.0 - 30);
            lines.across.entry(y + CELL.1 / 2).or_default().push(dash);
        } else if let Some(path) = corner(symbol, x, y) {
            self.lines.entry((color, 1)).or_default().other.push_str(&path);
        } else if !symbol.trim().is_empty() {
            return text(screen, column, row, (x, y), &mut self.styles, &mut self.texts);
        }
        1
    }
}

/// Returns the screen as a picture with a title.
fn svg(screen: &Buffer, title: &str) -> String {
    let area = screen.area;
    let mut parts = Parts::default();
    for row in 0..area.height {
        for column in 0..area.width {
            // The ground of the cells that have the same.
            let ground = |at: u16| screen[(at, row)].bg;
            let color = ground(column);
            if color != Color::Reset && (column == 0 || ground(column - 1) != color) {
                let same = (column..area.width).take_while(|at| ground(*at) == color).count();
                let at = (ROOM + i64::from(column) * CELL.0, BAR + i64::from(row) * CELL.1);
                let size = (i64::try_from(same).unwrap() * CELL.0, CELL.1);
                parts.fills += &filled(at, size, &css(color));
            }
        }
        let mut column = 0;
        while column < area.width {
            column += parts.take(screen, column, row);
        }
    }
    let width = px(i64::from(area.width) * CELL.0 + 2 * ROOM);
    let height = px(i64::from(area.height) * CELL.1 + BAR + ROOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n<title>{title}</title>\n<style>text{{font:14px \
         ui-monospace,\"SF Mono\",Menlo,Consolas,\"DejaVu Sans Mono\",monospace;white-space:pre}}"
    );
    for (index, (color, is_bold)) in parts.styles.iter().enumerate() {
        let weight = if *is_bold { ";font-weight:700" } else { "" };
        let _ = write!(out, ".{}{{fill:{color}{weight}}}", class(index));
    }
    let _ = write!(
        out,
        "</style>\n<rect width=\"100%\" height=\"100%\" rx=\"9\" fill=\"#11151c\"/>\n\
         <circle cx=\"20\" cy=\"17\" r=\"6\" fill=\"#e5646a\"/><circle cx=\"40\" cy=\"17\" r=\"6\" \
         fill=\"#e6b450\"/><circle cx=\"60\" cy=\"17\" r=\"6\" fill=\"#3fb68b\"/>\n\
         <text x=\"50%\" y=\"22\" text-anchor=\"middle\" fill=\"#8a93a5\">{title}</text>\n{}",
        parts.fills
    );
    for ((color, strength), lines) in parts.lines {
        let strength = if strength == 1 { "1.2" } else { "4.4" };
        let _ = writeln!(
            out,
            "<path fill=\"none\" stroke=\"{color}\" stroke-width=\"{strength}\" d=\"{}\"/>",
            lines.path()
        );
    }
    out.push_str(&parts.texts);
    out.push_str("</svg>\n");
    out
}

/// Returns the name of a style.
fn class(index: usize) -> char {
    char::from(b'a' + u8::try_from(index).unwrap())
}

/// Writes the text that begins in a cell, up to two blanks or another style, and returns its width.
fn text(
    screen: &Buffer,
    column: u16,
    row: u16,
    (x, y): (i64, i64),
    classes: &mut Vec<(String, bool)>,
    out: &mut String,
) -> u16 {
    let style = ink(&screen[(column, row)]);
    let mut words = String::new();
    let mut at = column;
    while at < screen.area.width {
        let cell = &screen[(at, row)];
        let symbol = cell.symbol();
        let is_drawn = arms(symbol).is_some() || "╭╮╯╰╌▁▂▃▄▅▆▇█".contains(symbol);
        let is_over = words.ends_with(' ') && symbol == " ";
        if (symbol != " " && (is_drawn || ink(cell) != style)) || is_over {
            break;
        }
        words.push_str(symbol);
        at += 1;
    }
    let words = words.trim_end();
    let cells = u16::try_from(words.chars().count()).unwrap();
    let number = classes.iter().position(|known| *known == style).unwrap_or_else(|| {
        classes.push(style);
        classes.len() - 1
    });
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" textLength=\"{}\" class=\"{}\">{escaped}</text>",
        px(x),
        px(y + 125),
        px(i64::from(cells) * CELL.0),
        class(number)
    );
    cells.max(1)
}

#[test]
fn lines_that_touch_are_one() {
    assert_eq!(joined(vec![(5, 9), (0, 2), (2, 4), (9, 9)]), [(0, 4), (5, 9)]);
    assert_eq!((px(840), px(1_255)), ("84".to_owned(), "125.5".to_owned()));
}
