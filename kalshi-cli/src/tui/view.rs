//! Draws the state. Pure: a state and a space give a frame.

use kalshi_sdk::{Count, Dollars, types::BookSide};
use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Clear, Paragraph},
};
use unicode_width::UnicodeWidthStr;

use super::{
    ladder::{self, Row},
    layout::areas,
    state::{Link, MarketView, Money, State, Tab},
    ticket::{ticket, words},
    trade::SentState,
};
use crate::{
    chart::draw::{Tone, draw},
    output::safe,
};

/// The fewest cells in which the ladder is readable.
const MIN: (u16, u16) = (40, 12);

/// The most lines of a notice.
const MAX_NOTICE: usize = 4;

/// The style of what matters most.
pub(super) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// The styles, by what a text means.
#[derive(Clone, Copy)]
pub(super) struct Theme {
    has_color: bool,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    fn up(self) -> Style {
        self.color(Color::Green)
    }

    pub(super) fn down(self) -> Style {
        self.color(Color::Red)
    }

    pub(super) fn dim(self) -> Style {
        if self.has_color {
            Style::new().fg(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    pub(super) fn own(self) -> Style {
        self.color(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn warning(self) -> Style {
        self.color(Color::Yellow)
    }

    fn cursor(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.has_color {
            style.bg(Color::Yellow).fg(Color::Black)
        } else {
            style.add_modifier(Modifier::REVERSED)
        }
    }

    fn depth(self, is_bid: bool) -> Style {
        if !self.has_color {
            return Style::new().add_modifier(Modifier::REVERSED);
        }
        // Dark enough for the size in front of it.
        let color = if is_bid { Color::Rgb(18, 66, 44) } else { Color::Rgb(84, 28, 32) };
        Style::new().bg(color).fg(Color::White)
    }

    fn money(self, money: Money) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if !self.has_color {
            return style.add_modifier(Modifier::REVERSED);
        }
        match money {
            Money::Real => style.bg(Color::Red).fg(Color::White),
            Money::Mock => style.bg(Color::Cyan).fg(Color::Black),
            Money::Sim => style.bg(Color::Green).fg(Color::Black),
        }
    }
}

/// Draws the whole terminal.
pub(crate) fn view(state: &State, frame: &mut Frame<'_>) {
    let size = frame.area();
    let theme = Theme { has_color: state.has_color };
    if size.width < MIN.0 || size.height < MIN.1 {
        let text = format!("{} × {} cells at least", MIN.0, MIN.1);
        frame.render_widget(Paragraph::new(text).alignment(Alignment::Center), size);
        return;
    }
    let places = areas(size);
    status(state, theme, frame, places.status);
    title(state, theme, frame, places.title);
    ladder(state, theme, frame, places.ladder);
    for (tab, place) in [
        (Tab::Chart, places.chart),
        (Tab::Trades, places.trades),
        (Tab::Positions, places.positions),
        (Tab::Orders, places.orders),
    ] {
        if let Some(place) = place {
            let inner = panel(tab.name(), theme, frame, place);
            part(tab, state, theme, frame, inner);
        }
    }
    if let (Some(tabs), Some(tab)) = (places.tabs, places.tab) {
        names(state, theme, frame, tabs);
        part(state.tab, state, theme, frame, tab);
    }
    keys(state, theme, frame, places.keys);
    if let Some(trade) = &state.trade {
        ticket(state, trade, theme, frame, size);
    }
    if state.has_help {
        help(state, theme, frame, size);
    }
}

fn part(tab: Tab, state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    match tab {
        Tab::Trades => trades(state, theme, frame, place),
        Tab::Chart => chart(state, theme, frame, place),
        Tab::Positions => positions(state, theme, frame, place),
        Tab::Orders => orders(state, theme, frame, place),
    }
}

/// Draws a frame with a name, and returns the space in it.
fn panel(name: &str, theme: Theme, frame: &mut Frame<'_>, place: Rect) -> Rect {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.dim())
        .title(Span::styled(format!(" {name} "), STRONG));
    let inner = block.inner(place);
    frame.render_widget(block, place);
    inner
}

/// Draws texts at the left and at the right edge; what the right one needs is taken from the left.
fn edges(left: Line<'_>, right: Line<'_>, frame: &mut Frame<'_>, place: Rect) {
    let needed = u16::try_from(right.width()).unwrap_or(u16::MAX).min(place.width);
    let beside = Rect { width: place.width.saturating_sub(needed), ..place };
    frame.render_widget(Paragraph::new(left), beside);
    let at = Rect { x: place.x + beside.width, width: needed, ..place };
    frame.render_widget(Paragraph::new(right), at);
}

fn status(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let is_wide = place.width >= 80;
    let name = state.environment.split(" (").next().filter(|_| !is_wide);
    let environment = format!(" {} ", safe(name.unwrap_or(&state.environment)));
    let mut left = vec![Span::styled(environment, theme.money(state.money))];
    if state.trade.is_some() {
        left.push(Span::styled(" TRADE ", theme.own()));
    }
    let left = Line::from(left);
    let (mark, link, style) = match state.link {
        Link::Connecting => ("○", "connecting", theme.warning()),
        Link::Live => ("●", "live", theme.up()),
        Link::Behind => ("◐", "behind", theme.warning()),
        Link::Lost => ("○", "lost", theme.down()),
    };
    let mut right = vec![Span::styled(format!("{mark} {link}"), style)];
    if let Some(lag) = state.lag_millis {
        right.push(Span::styled(if is_wide { "  lag " } else { "  " }, theme.dim()));
        right.push(Span::raw(format!("{lag} ms")));
    }
    if let Some((read, write)) = state.tokens {
        right.push(Span::styled(if is_wide { "  tokens " } else { "  " }, theme.dim()));
        right.push(Span::raw(format!("{read}/{write}")));
        if !is_wide {
            right.push(Span::styled(" tok", theme.dim()));
        }
    }
    right.push(Span::raw(format!("  {} ", clock(state.now))));
    edges(left, Line::from(right), frame, place);
}

fn clock(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis)
        .map(|time| time.format("%H:%M:%S").to_string())
        .unwrap_or_default()
}

fn title(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let Some(market) = state.market() else {
        frame.render_widget(Paragraph::new(" no market").style(theme.dim()), place);
        return;
    };
    let mut right = Vec::new();
    if let Some(last) = market.last {
        right.push(Span::styled("last ", theme.dim()));
        right.push(Span::styled(price(last, decimals(market)), STRONG));
    }
    if let Some(volume) = market.volume.filter(|_| place.width >= 80) {
        right.push(Span::styled("  volume ", theme.dim()));
        right.push(Span::raw(size(volume)));
    }
    if state.markets.len() > 1 {
        let text = format!("  {}/{}", state.selected + 1, state.markets.len());
        right.push(Span::styled(text, theme.dim()));
    }
    right.push(Span::raw(" "));
    let left = Line::from(vec![
        Span::raw(" "),
        Span::styled(safe(&market.ticker), STRONG),
        Span::raw("  "),
        Span::raw(safe(&market.title)),
    ]);
    edges(left, Line::from(right), frame, place);
}

/// Returns how many decimals the prices of a market need: as few as show each exactly, two at least.
fn decimals(market: &MarketView) -> usize {
    let levels = market.bids.iter().chain(&market.asks).map(|level| level.price);
    levels.chain(market.last).map(needed).max().unwrap_or(2)
}

/// Returns how many decimals show a price exactly, two at least.
fn needed(price: Dollars) -> usize {
    match price.as_micros() {
        micros if micros % 10_000 == 0 => 2,
        micros if micros % 1_000 == 0 => 3,
        micros if micros % 100 == 0 => 4,
        _ => 6,
    }
}

/// Returns a price with this number of decimals, at which it is exact.
fn price(price: Dollars, decimals: usize) -> String {
    let text = format!("{price}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}.{fraction:0<decimals$.decimals$}")
}

/// Returns a count without zeros at its end.
fn size(count: Count) -> String {
    let text = count.to_string();
    text.strip_suffix(".00").map_or_else(|| text.clone(), str::to_owned)
}

/// Returns a count whose whole contracts stand below each other.
fn aligned(count: Count) -> String {
    let text = size(count);
    if text.contains('.') { text } else { text + "   " }
}

/// The own orders at a price: what rests, and the fewest contracts ahead of it.
fn own_at(state: &State, market: &MarketView, side: &BookSide, at: Dollars) -> Option<String> {
    let mut rest = Count::ZERO;
    let mut ahead: Option<Count> = None;
    for order in &state.orders {
        if order.ticker == market.ticker && order.side == *side && order.yes_price == at {
            rest = rest.checked_add(order.remaining)?;
            if let Some(queue) = state.queue.get(&order.order_id) {
                ahead = Some(ahead.map_or(*queue, |ahead| ahead.min(*queue)));
            }
        }
    }
    if rest.is_zero() {
        return None;
    }
    Some(match ahead {
        Some(ahead) => format!("{} q{}", size(rest), size(ahead)),
        None => size(rest),
    })
}

fn ladder(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let inner = panel("Book  bids · YES · asks", theme, frame, place);
    let Some(market) = state.market() else { return };
    if !market.is_current {
        let text = "the book is not known now";
        frame.render_widget(Paragraph::new(text).style(theme.dim()), inner);
        return;
    }
    let decimals = decimals(market);
    let most = market.bids.iter().chain(&market.asks).map(|level| level.count.as_hundredths());
    let columns = Columns::new(inner.width, decimals, most.max().unwrap_or(1));
    let cursor = state.trade.as_ref().and_then(|trade| trade.cursor(market));
    for (at, row) in ladder::rows(state, market, inner.height) {
        let line = match &row {
            Row::Spread => spread(market, theme, decimals, inner.width),
            Row::Level(..) | Row::Empty(_) => {
                columns.line(state, theme, market, &row, row.price() == cursor)
            }
        };
        let place = Rect { y: inner.y + at, height: 1, ..inner };
        frame.render_widget(Paragraph::new(line), place);
    }
}

fn spread(market: &MarketView, theme: Theme, decimals: usize, width: u16) -> Line<'static> {
    let text = match (market.bids.first(), market.asks.first()) {
        (Some(bid), Some(ask)) => ask
            .price
            .checked_sub(bid.price)
            .map_or_else(String::new, |spread| format!(" {} ", price(spread, decimals))),
        _ => String::new(),
    };
    let left = usize::from(width).saturating_sub(text.len()) / 2;
    let right = usize::from(width).saturating_sub(left + text.len());
    Line::from(vec![
        Span::styled("╌".repeat(left), theme.dim()),
        Span::raw(text),
        Span::styled("╌".repeat(right), theme.dim()),
    ])
}

/// The widths of the columns of the ladder: own orders and sizes on either side of the price.
struct Columns {
    own: usize,
    depth: usize,
    price: usize,
    decimals: usize,
    /// The largest size, in hundredths.
    most: i64,
}

impl Columns {
    fn new(width: u16, decimals: usize, most: i64) -> Self {
        let width = usize::from(width);
        let price = decimals + 4;
        let own = (width / 4).clamp(8, 14);
        let depth = width.saturating_sub(price + 2 * own) / 2;
        Self { own, depth, price, decimals, most: most.max(1) }
    }

    fn line<'a>(
        &self,
        state: &State,
        theme: Theme,
        market: &MarketView,
        row: &Row,
        is_cursor: bool,
    ) -> Line<'a> {
        let shown = |at| format!("{:^1$}", price(at, self.decimals.max(needed(at))), self.price);
        let blank = |width: usize| Span::raw(" ".repeat(width));
        let (level, side) = match row {
            Row::Level(level, side) => (*level, side),
            // The price under the cursor.
            row => {
                let text = row.price().map(shown).unwrap_or_default();
                let beside = self.depth + self.own;
                return Line::from(vec![
                    blank(beside),
                    Span::styled(text, theme.cursor()),
                    blank(beside),
                ]);
            }
        };
        let is_bid = *side == BookSide::Bid;
        let own = own_at(state, market, side, level.price).unwrap_or_default();
        let own = clip(&own, self.own.saturating_sub(1));
        let text = clip(&size(level.count), self.depth);
        let share = i128::from(level.count.as_hundredths().max(0))
            * i128::from(u32::try_from(self.depth).unwrap_or(0))
            / i128::from(self.most);
        // What rests shows.
        let bar = usize::try_from(share).unwrap_or(0).clamp(1, self.depth.max(1));
        let style = if is_bid { theme.up() } else { theme.down() };
        let style = if is_cursor { theme.cursor() } else { style.add_modifier(Modifier::BOLD) };
        let shown = Span::styled(shown(level.price), style);
        if is_bid {
            let padded = format!("{text:>0$}", self.depth);
            let (before, filled) = split(&padded, self.depth.saturating_sub(bar));
            Line::from(vec![
                Span::styled(format!("{own:<0$}", self.own), theme.own()),
                Span::raw(before),
                Span::styled(filled, theme.depth(true)),
                shown,
                blank(self.depth + self.own),
            ])
        } else {
            let padded = format!("{text:<0$}", self.depth);
            let (filled, after) = split(&padded, bar);
            Line::from(vec![
                blank(self.own + self.depth),
                shown,
                Span::styled(filled, theme.depth(false)),
                Span::raw(after),
                Span::styled(format!("{own:>0$}", self.own), theme.own()),
            ])
        }
    }
}

/// Returns the number of cells that a text takes.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Splits a text of narrow characters before a column.
fn split(text: &str, at: usize) -> (String, String) {
    (text.chars().take(at).collect(), text.chars().skip(at).collect())
}

/// Returns the beginning of a text that fits a width; what is cut shows.
pub(super) fn clip(text: &str, to: usize) -> String {
    let text = safe(text);
    if width(&text) <= to {
        return text;
    }
    let mut out = String::new();
    for character in text.chars() {
        if width(&out) + 2 > to {
            break;
        }
        out.push(character);
    }
    if to > 0 {
        out.push('…');
    }
    out
}

/// Pads or clips a text to a width.
fn cell(text: &str, to: usize, right: bool) -> String {
    let text = clip(text, to);
    let pad = " ".repeat(to.saturating_sub(width(&text)));
    if right { format!("{pad}{text}") } else { format!("{text}{pad}") }
}

fn note(text: &str, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    frame.render_widget(Paragraph::new(format!(" {text}")).style(theme.dim()), place);
}

fn trades(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let Some(market) = state.market() else { return };
    if market.trades.is_empty() {
        return note("no trades yet", theme, frame, place);
    }
    let decimals = decimals(market);
    let lines: Vec<Line<'_>> = market
        .trades
        .iter()
        .take(usize::from(place.height))
        .map(|trade| {
            let is_up = trade.taker == BookSide::Bid;
            let style = if is_up { theme.up() } else { theme.down() };
            let mark = if is_up { "▲" } else { "▼" };
            Line::from(vec![
                Span::styled(format!(" {} ", clock(trade.at)), theme.dim()),
                Span::styled(format!(" {mark} {} ", price(trade.yes_price, decimals)), style),
                Span::raw(cell(&aligned(trade.count), 13, true)),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), place);
}

fn chart(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let Some(market) = state.market() else { return };
    let cells = draw(&market.bars, usize::from(place.width), usize::from(place.height));
    let lines: Vec<Line<'_>> = cells
        .into_iter()
        .map(|line| {
            let style = |tone: Tone| match tone {
                Tone::Plain => Style::new(),
                Tone::Up => theme.up(),
                Tone::Down => theme.down(),
                Tone::Axis => theme.dim(),
            };
            line.into_iter().map(|(c, tone)| Span::styled(c.to_string(), style(tone))).collect()
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), place);
}

fn positions(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    if state.positions.is_empty() {
        let text = if state.is_account_current { "no positions" } else { "not known yet" };
        return note(text, theme, frame, place);
    }
    let room = usize::from(place.width);
    let ticker = room.saturating_sub(37).clamp(10, 28);
    let header = format!(
        " {} {} {} {}",
        cell("market", ticker, false),
        cell("contracts", 12, true),
        cell("cost", 10, true),
        cell("realized", 10, true)
    );
    let mut lines = vec![Line::from(Span::styled(header, theme.dim()))];
    let shown = usize::from(place.height).saturating_sub(1);
    for row in state.positions.iter().take(shown) {
        let is_yes = row.count.is_positive();
        let held = row.count.checked_abs().unwrap_or(row.count);
        let held = format!("{} {}", size(held), if is_yes { "YES" } else { " NO" });
        let amount = |amount: Option<Dollars>| amount.map(money).unwrap_or_default();
        let realized = row.realized.unwrap_or_default();
        let style = match realized.as_micros() {
            0 => theme.dim(),
            micros if micros > 0 => theme.up(),
            _ => theme.down(),
        };
        lines.push(Line::from(vec![
            Span::raw(format!(" {} ", cell(&row.ticker, ticker, false))),
            Span::styled(cell(&held, 12, true), if is_yes { theme.up() } else { theme.down() }),
            Span::raw(format!(" {} ", cell(&amount(row.cost), 10, true))),
            Span::styled(cell(&amount(row.realized), 10, true), style),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), place);
}

/// Returns an amount in whole cents where it is one, and exactly otherwise.
fn money(amount: Dollars) -> String {
    match amount.as_micros() % 10_000 {
        0 => price(amount, 2),
        _ => amount.to_string(),
    }
}

fn orders(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let sent = state.trade.as_ref().map(|trade| &*trade.sent).unwrap_or_default();
    if state.orders.is_empty() && sent.is_empty() {
        let text = if state.is_account_current { "no resting orders" } else { "not known yet" };
        return note(text, theme, frame, place);
    }
    let room = usize::from(place.width);
    let ticker = room.saturating_sub(33).clamp(10, 28);
    let header = format!(
        " {} {} {} {}",
        cell("market", ticker, false),
        cell("order", 9, false),
        cell("left/of", 11, true),
        cell("ahead", 8, true)
    );
    let mut lines = vec![Line::from(Span::styled(header, theme.dim()))];
    let shown = usize::from(place.height).saturating_sub(1);
    for row in sent {
        let (text, style) = match row.state {
            SentState::Sending => ("sending", theme.dim()),
            SentState::Unknown => ("UNKNOWN", theme.down().add_modifier(Modifier::BOLD)),
        };
        lines.push(Line::from(vec![
            Span::raw(" "),
            Span::styled(cell(text, 8, false), style),
            Span::raw(clip(&row.words, room.saturating_sub(10))),
        ]));
    }
    for order in state.orders.iter().take(shown) {
        let is_bid = order.side == BookSide::Bid;
        let (word, at) = if is_bid {
            ("YES", Some(order.yes_price))
        } else {
            ("NO", order.yes_price.complement())
        };
        let what = format!("{word} {}", at.map(|at| price(at, needed(at))).unwrap_or_default());
        let left = format!("{}/{}", size(order.remaining), size(order.initial));
        let is_leaving =
            state.trade.as_ref().is_some_and(|trade| trade.canceling.contains(&order.order_id));
        let ahead = if is_leaving {
            Some("cancel…".to_owned())
        } else {
            state.queue.get(&order.order_id).map(|ahead| size(*ahead))
        };
        lines.push(Line::from(vec![
            Span::raw(format!(" {} ", cell(&order.ticker, ticker, false))),
            Span::styled(cell(&what, 9, false), if is_bid { theme.up() } else { theme.down() }),
            Span::raw(format!(" {} ", cell(&left, 11, true))),
            Span::styled(cell(&ahead.unwrap_or_default(), 8, true), theme.own()),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), place);
}

fn names(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    let mut spans = vec![Span::styled("│", theme.dim())];
    for tab in Tab::ALL {
        let style =
            if tab == state.tab { STRONG.add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {} ", tab.name()), style));
        spans.push(Span::styled("│", theme.dim()));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), place);
}

fn keys(state: &State, theme: Theme, frame: &mut Frame<'_>, place: Rect) {
    if let Some(notice) = &state.notice {
        // As many lines as it takes, over what is above.
        let room = usize::from(place.width.saturating_sub(2));
        let lines: Vec<Line<'_>> = words(&safe(notice), room)
            .into_iter()
            .take(MAX_NOTICE)
            .map(|line| Line::from(format!(" {line}")))
            .collect();
        let height = u16::try_from(lines.len()).unwrap_or(1).clamp(1, place.y.max(1));
        let place = Rect { y: (place.y + 1).saturating_sub(height), height, ..place };
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(lines).style(theme.warning()), place);
        return;
    }
    let looking =
        &[("q", "quit"), ("?", "help"), ("← →", "market"), ("↑ ↓", "prices"), ("tab", "view")];
    let trading = &[
        ("b s", "YES"),
        ("B S", "NO"),
        ("x", "cancel"),
        ("X", "all"),
        ("?", "help"),
        ("q", "quit"),
    ];
    let keys: &[(&str, &str)] = if state.trade.is_some() { trading } else { looking };
    let mut spans = vec![Span::raw(" ")];
    for (key, what) in keys {
        spans.push(Span::styled(*key, STRONG));
        spans.push(Span::styled(format!(" {what}   "), theme.dim()));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), place);
}

/// The keys, as the help lists them.
const KEYS: [(&str, &str); 9] = [
    ("← → or p n", "the market before, the next one"),
    ("↑ ↓ or k j", "higher, lower prices"),
    ("page up, page down", "ten prices at once"),
    ("home or c", "back to the best prices"),
    ("tab, 1 to 4", "another view, where they do not all fit"),
    ("mouse", "wheel: prices; click: view or market"),
    ("esc", "takes a message away"),
    ("? or h", "this help; any key leaves it"),
    ("q, Ctrl-C", "quit"),
];

/// The keys that the help lists with `--trade`.
const TRADE_KEYS: [(&str, &str); 5] = [
    ("↑ ↓, click", "the cursor, by ticks of the market"),
    ("b, s", "buys, sells YES at the cursor: count, preview, y"),
    ("B, S", "buys, sells NO: the cursor is the price of YES"),
    ("x", "cancels your orders at the cursor"),
    ("X", "cancels all orders, once it is typed"),
];

fn help(state: &State, theme: Theme, frame: &mut Frame<'_>, size: Rect) {
    let trading: &[(&str, &str)] = if state.trade.is_some() { &TRADE_KEYS } else { &[] };
    let height = u16::try_from(KEYS.len() + trading.len()).unwrap_or(0) + 6;
    let place = Rect {
        x: size.width.saturating_sub(72) / 2,
        y: size.height.saturating_sub(height) / 2,
        width: size.width.min(72),
        height: size.height.min(height),
    };
    frame.render_widget(Clear, place);
    let inner = panel("Help", theme, frame, place);
    let mut lines: Vec<Line<'_>> = trading
        .iter()
        .chain(&KEYS)
        .map(|(key, what)| {
            Line::from(vec![Span::styled(format!(" {key:<20}"), STRONG), Span::raw(*what)])
        })
        .collect();
    lines.push(Line::default());
    lines.push(Line::from(vec![
        Span::styled(" 5 q120 ", theme.own()),
        Span::raw("an order of yours, and the contracts ahead of it"),
    ]));
    let text = if state.trade.is_some() {
        " An order is sent once; one that may exist is UNKNOWN until settled."
    } else {
        " This view only looks: --trade places orders, and so does kalshi order."
    };
    lines.push(Line::from(Span::styled(text, theme.dim())));
    frame.render_widget(Paragraph::new(lines), inner);
}
