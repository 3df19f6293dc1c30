//! Candles as cells of a terminal. Pure, and in whole numbers: prices are never floats.

use kalshi_sdk::{Count, Dollars};

/// A candle to draw: prices of YES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) open: Dollars,
    pub(crate) high: Dollars,
    pub(crate) low: Dollars,
    pub(crate) close: Dollars,
    pub(crate) volume: Count,
    /// The end of the period, in seconds since 1970.
    pub(crate) end: i64,
}

impl Bar {
    pub(crate) fn is_up(&self) -> bool {
        self.close >= self.open
    }
}

/// The part of the chart that a cell belongs to, for its color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Up,
    Down,
    Axis,
}

/// A cell of a chart.
pub(crate) type Cell = (char, Tone);

/// The prices at the lower and the upper edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) low: Dollars,
    pub(crate) high: Dollars,
}

impl Range {
    /// Returns the range of candles, with some room: at least a cent, and within 0 to 1.
    pub(crate) fn of(bars: &[Bar]) -> Option<Self> {
        let low = bars.iter().map(|bar| bar.low).min()?.as_micros();
        let high = bars.iter().map(|bar| bar.high).max()?.as_micros();
        let room = (high.saturating_sub(low) / 20).max(5_000);
        let low = low.saturating_sub(room).max(0);
        let high = high.saturating_add(room).min(1_000_000).max(low + 10_000);
        Some(Self { low: Dollars::from_micros(low), high: Dollars::from_micros(high) })
    }

    /// Returns the place of a price among `steps` steps from the lower edge, rounded.
    fn step(self, price: Dollars, steps: i64) -> i64 {
        let span = i128::from(self.high.as_micros()) - i128::from(self.low.as_micros());
        let above = i128::from(price.as_micros()) - i128::from(self.low.as_micros());
        let step = (above * i128::from(steps) * 2 + span).div_euclid(span.max(1) * 2);
        i64::try_from(step).unwrap_or(0).clamp(0, steps)
    }

    /// Returns the price at a row's middle; row 0 is the upper one.
    fn price_at(self, row: usize, height: usize) -> Dollars {
        let (row, height) = (to_i64(row), to_i64(height.max(1)));
        let span = self.high.as_micros().saturating_sub(self.low.as_micros());
        let below = span.saturating_mul(2 * row + 1) / (2 * height);
        Dollars::from_micros(self.high.as_micros().saturating_sub(below))
    }
}

fn to_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The width of the prices at the right edge, their blank included.
pub(crate) const AXIS: usize = 7;

/// The rows of the volume below the candles.
const VOLUME_ROWS: usize = 2;

/// Draws candles, the newest at the right, into rows of `width` cells: prices at the right edge, the
/// volume and the times below. What does not fit at the left is left out.
pub(crate) fn draw(bars: &[Bar], width: usize, height: usize) -> Vec<Vec<Cell>> {
    let columns = width.saturating_sub(AXIS);
    let shown = bars.get(bars.len().saturating_sub(columns)..).unwrap_or_default();
    let has_volume = height >= 10;
    let below = if has_volume { VOLUME_ROWS + 1 } else { 1 };
    let rows = height.saturating_sub(below);
    let Some(range) = Range::of(shown).filter(|_| rows > 0 && columns > 0) else {
        return message("no trades", width, height);
    };
    let mut cells = vec![vec![(' ', Tone::Plain); width]; height];
    let left = columns - shown.len();
    let halves = to_i64(rows).saturating_mul(2);
    for (column, bar) in shown.iter().enumerate() {
        let step = |price| range.step(price, halves);
        let body = (step(bar.open.min(bar.close)), step(bar.open.max(bar.close)));
        let wick = (step(bar.low), step(bar.high));
        let tone = if bar.is_up() { Tone::Up } else { Tone::Down };
        for (row, line) in cells.iter_mut().take(rows).enumerate() {
            let lower = halves - 2 * to_i64(row) - 2;
            let part = |half: i64| part(half, body, wick);
            if let Some(cell) = line.get_mut(left + column) {
                *cell = (glyph(part(lower), part(lower + 1)), tone);
            }
        }
    }
    if has_volume {
        draw_volume(&mut cells, shown, left, rows);
    }
    draw_prices(&mut cells, range, rows, columns);
    if let Some(line) = cells.last_mut() {
        draw_times(line, shown, left, columns);
    }
    cells
}

fn message(text: &str, width: usize, height: usize) -> Vec<Vec<Cell>> {
    let mut cells = vec![vec![(' ', Tone::Plain); width]; height];
    let at = width.saturating_sub(text.len()) / 2;
    if let Some(line) = cells.get_mut(height / 2) {
        put(line, at, text, Tone::Axis);
    }
    cells
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Empty,
    Wick,
    Body,
}

/// Returns what a half of a cell shows. A candle without a body has one half of it.
fn part(half: i64, body: (i64, i64), wick: (i64, i64)) -> Part {
    let last = |(low, high): (i64, i64)| (high - 1).max(low);
    if (body.0..=last(body)).contains(&half) {
        Part::Body
    } else if (wick.0..=last(wick)).contains(&half) {
        Part::Wick
    } else {
        Part::Empty
    }
}

fn glyph(lower: Part, upper: Part) -> char {
    match (lower, upper) {
        (Part::Empty, Part::Empty) => ' ',
        (Part::Wick, Part::Wick) => '│',
        (Part::Body, Part::Body) => '┃',
        (Part::Empty, Part::Wick) => '╵',
        (Part::Wick, Part::Empty) => '╷',
        (Part::Empty, Part::Body) => '╹',
        (Part::Body, Part::Empty) => '╻',
        (Part::Wick, Part::Body) => '╿',
        (Part::Body, Part::Wick) => '╽',
    }
}

fn draw_volume(cells: &mut [Vec<Cell>], shown: &[Bar], left: usize, rows: usize) {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = shown.iter().map(|bar| bar.volume.as_hundredths()).max().unwrap_or(0).max(1);
    let steps = to_i64(VOLUME_ROWS * 8);
    for (column, bar) in shown.iter().enumerate() {
        let volume = i128::from(bar.volume.as_hundredths().max(0));
        let filled = volume * i128::from(steps) / i128::from(most);
        let mut filled = usize::try_from(filled).unwrap_or(0);
        // What was traded shows.
        if filled == 0 && volume > 0 {
            filled = 1;
        }
        for row in (0..VOLUME_ROWS).rev() {
            let eighths = filled.min(8);
            filled -= eighths;
            if let Some(cell) =
                cells.get_mut(rows + row).and_then(|line| line.get_mut(left + column))
            {
                *cell = (EIGHTHS.get(eighths).copied().unwrap_or('█'), Tone::Axis);
            }
        }
    }
}

fn draw_prices(cells: &mut [Vec<Cell>], range: Range, rows: usize, columns: usize) {
    let every = if rows >= 12 { 4 } else { 3 };
    for (row, line) in cells.iter_mut().take(rows).enumerate() {
        if row % every == every / 2 {
            let price = range.price_at(row, rows).as_micros() / 1_000;
            put(line, columns + 1, &format!("{}.{:03}", price / 1_000, price % 1_000), Tone::Axis);
        }
    }
}

fn draw_times(line: &mut [Cell], shown: &[Bar], left: usize, columns: usize) {
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return };
    let (begin, end) = (time(first.end), time(last.end));
    if columns < end.len() {
        return;
    }
    let at = columns - end.len();
    put(line, at, &end, Tone::Axis);
    if left + begin.len() + 2 <= at {
        put(line, left, &begin, Tone::Axis);
    }
}

/// Returns a time as it stands below a chart, in UTC.
pub(crate) fn time(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .map(|time| time.format("%d %b %H:%M").to_string())
        .unwrap_or_default()
}

fn put(line: &mut [Cell], at: usize, text: &str, tone: Tone) {
    for (cell, character) in line.iter_mut().skip(at).zip(text.chars()) {
        *cell = (character, tone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn bar(open: &str, high: &str, low: &str, close: &str, hour: i64) -> Bar {
        let price = |text: &str| text.parse().unwrap();
        Bar {
            open: price(open),
            high: price(high),
            low: price(low),
            close: price(close),
            volume: Count::from_hundredths(hour * 100),
            end: 1_790_000_000 + hour * 3_600,
        }
    }

    fn text(cells: &[Vec<Cell>]) -> Vec<String> {
        cells.iter().map(|line| line.iter().map(|(c, _)| c).collect()).collect()
    }

    #[test]
    fn candles_stand_where_their_prices_are() {
        let bars = [
            bar("0.40", "0.50", "0.30", "0.45", 1),
            bar("0.45", "0.60", "0.45", "0.60", 2),
            bar("0.60", "0.60", "0.50", "0.50", 3),
        ];
        let cells = draw(&bars, 24, 11);
        assert_eq!(
            text(&cells),
            [
                "               ╻╻       ",
                "               ┃┃ 0.553 ",
                "               ┃┃       ",
                "              │┃        ",
                "              ┃   0.429 ",
                "              │         ",
                "              │         ",
                "              ╵   0.305 ",
                "               ▂█       ",
                "              ▅██       ",
                "     21 Sep 17:13       ",
            ]
        );
        assert_eq!(cells[2][15].1, Tone::Up);
        assert_eq!(cells[2][16].1, Tone::Down);
    }

    #[test]
    fn without_trades_it_says_so() {
        assert!(text(&draw(&[], 30, 5)).join("").contains("no trades"));
    }

    proptest! {
        /// Any candles, in any space, give exactly that space, and no panic.
        #[test]
        fn any_space_is_filled_exactly(
            prices in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()), 0..60),
            width in 0_usize..80,
            height in 0_usize..40,
        ) {
            let dollars = |micros: i64| Dollars::from_micros(micros.rem_euclid(1_000_001));
            let bars: Vec<Bar> = prices.into_iter().map(|(open, high, low, close, volume)| Bar {
                open: dollars(open), high: dollars(high), low: dollars(low), close: dollars(close),
                volume: Count::from_hundredths(volume), end: volume,
            }).collect();
            let cells = draw(&bars, width, height);
            prop_assert_eq!(cells.len(), height);
            prop_assert!(cells.iter().all(|line| line.len() == width));
        }
    }
}
