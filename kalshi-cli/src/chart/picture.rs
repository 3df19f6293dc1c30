//! Candles as shapes, for pictures of any kind. Pure; coordinates are whole numbers of tenths of a
//! pixel.

use super::draw::{Bar, Range, time};

pub(super) const WIDTH: i64 = 9_600;
pub(super) const HEIGHT: i64 = 5_400;
const LEFT: i64 = 200;
const RIGHT: i64 = 800;
const TOP: i64 = 560;
const BOTTOM: i64 = 400;

/// A color, as `0xRRGGBB`.
pub(super) type Color = u32;

pub(super) const BACKGROUND: Color = 0x0011_151c;
const TITLE: Color = 0x00e6_e9ef;
const LABEL: Color = 0x008a_93a5;
const GRID: Color = 0x002a_3140;
const UP: Color = 0x003f_b68b;
const DOWN: Color = 0x00e0_575b;

/// A part of a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A filled rectangle.
    Rectangle {
        x: i64,
        y: i64,
        width: i64,
        height: i64,
        color: Color,
    },
    /// A line of one pixel, from left to right or from top to bottom.
    Line {
        from: (i64, i64),
        to: (i64, i64),
        color: Color,
    },
    Text(Text),
}

/// A line of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) x: i64,
    /// The line on which the letters stand.
    pub(super) y: i64,
    /// True if it ends at `x`.
    pub(super) ends: bool,
    /// True for that of the title.
    pub(super) is_large: bool,
    pub(super) color: Color,
    pub(super) letters: String,
}

impl Text {
    fn label(x: i64, y: i64, text: String) -> Self {
        Self { x, y, ends: false, is_large: false, color: LABEL, letters: text }
    }
}

/// Returns the shapes of a chart of candles with a title, from the back to the front.
pub(super) fn shapes(title: &str, bars: &[Bar]) -> Vec<Shape> {
    let title: String = title.chars().filter(|c| !c.is_control()).collect();
    let mut shapes = vec![Shape::Text(Text {
        x: LEFT,
        y: 340,
        ends: false,
        is_large: true,
        color: TITLE,
        letters: title,
    })];
    let Some(range) = Range::of(bars) else {
        shapes.push(Shape::Text(Text::label(LEFT, 800, "no trades".to_owned())));
        return shapes;
    };
    let span = (range.high.as_micros() - range.low.as_micros()).max(1);
    let y = |micros: i64| TOP + (range.high.as_micros() - micros) * (HEIGHT - TOP - BOTTOM) / span;
    for step in 0..=4 {
        let micros = range.low.as_micros() + span * step / 4;
        let milli = (micros + 500) / 1_000;
        let at = y(micros);
        shapes.push(Shape::Line { from: (LEFT, at), to: (WIDTH - RIGHT, at), color: GRID });
        let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
        shapes.push(Shape::Text(Text::label(WIDTH - RIGHT + 100, at + 50, text)));
    }
    let count = i64::try_from(bars.len()).unwrap_or(i64::MAX).max(1);
    let pitch = ((WIDTH - LEFT - RIGHT) / count).max(1);
    let body = (pitch * 7 / 10).max(5);
    for (index, bar) in (0_i64..).zip(bars) {
        let middle = LEFT + pitch * index + pitch / 2;
        let color = if bar.is_up() { UP } else { DOWN };
        let (top, bottom) = (bar.open.max(bar.close), bar.open.min(bar.close));
        let (top, bottom) = (y(top.as_micros()), y(bottom.as_micros()));
        let (high, low) = (y(bar.high.as_micros()), y(bar.low.as_micros()));
        shapes.push(Shape::Line { from: (middle, high), to: (middle, low), color });
        shapes.push(Shape::Rectangle {
            x: middle - body / 2,
            y: top,
            width: body,
            height: (bottom - top).max(10),
            color,
        });
    }
    if let (Some(first), Some(last)) = (bars.first(), bars.last()) {
        let y = HEIGHT - 120;
        shapes.push(Shape::Text(Text::label(LEFT, y, time(first.end))));
        let last = Text::label(WIDTH - RIGHT, y, format!("{} UTC", time(last.end)));
        shapes.push(Shape::Text(Text { ends: true, ..last }));
    }
    shapes
}

/// Candles for tests of pictures.
#[cfg(test)]
pub(super) fn test_bar(open: i64, close: i64) -> Bar {
    use kalshi_sdk::{Count, Dollars};

    Bar {
        open: Dollars::from_micros(open),
        high: Dollars::from_micros(open.max(close) + 10_000),
        low: Dollars::from_micros(open.min(close) - 10_000),
        close: Dollars::from_micros(close),
        volume: Count::ZERO,
        end: 1_790_000_000,
    }
}
