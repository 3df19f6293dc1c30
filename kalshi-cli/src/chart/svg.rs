//! Candles as SVG. Pure; coordinates are whole numbers of tenths of a pixel.

use std::fmt::Write as _;

use super::draw::{Bar, Range, time};

const WIDTH: i64 = 9_600;
const HEIGHT: i64 = 5_400;
const LEFT: i64 = 200;
const RIGHT: i64 = 800;
const TOP: i64 = 560;
const BOTTOM: i64 = 400;

/// Returns a chart of candles with a title.
pub(super) fn svg(title: &str, bars: &[Bar]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"ui-monospace, \
         monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" fill=\"#11151c\"/>\n\
         <text x=\"20\" y=\"34\" fill=\"#e6e9ef\" font-size=\"18\">{}</text>\n",
        WIDTH / 10,
        HEIGHT / 10,
        escaped(title)
    );
    let Some(range) = Range::of(bars) else {
        out.push_str("<text x=\"20\" y=\"80\" fill=\"#8a93a5\">no trades</text>\n</svg>\n");
        return out;
    };
    let span = (range.high.as_micros() - range.low.as_micros()).max(1);
    let y = |micros: i64| TOP + (range.high.as_micros() - micros) * (HEIGHT - TOP - BOTTOM) / span;
    for step in 0..=4 {
        let micros = range.low.as_micros() + span * step / 4;
        let milli = (micros + 500) / 1_000;
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "<path d=\"M{} {y}H{}\" stroke=\"#2a3140\"/><text x=\"{}\" y=\"{y}\" dy=\"5\" \
             fill=\"#8a93a5\">{}.{:03}</text>",
            px(LEFT),
            px(WIDTH - RIGHT),
            px(WIDTH - RIGHT + 100),
            milli / 1_000,
            milli % 1_000,
            y = px(y(micros)),
        );
    }
    let count = i64::try_from(bars.len()).unwrap_or(i64::MAX).max(1);
    let pitch = ((WIDTH - LEFT - RIGHT) / count).max(1);
    let body = (pitch * 7 / 10).max(5);
    for (index, bar) in (0_i64..).zip(bars) {
        let middle = LEFT + pitch * index + pitch / 2;
        let color = if bar.is_up() { "#3fb68b" } else { "#e0575b" };
        let (top, bottom) = (bar.open.max(bar.close), bar.open.min(bar.close));
        let (top, bottom) = (y(top.as_micros()), y(bottom.as_micros()));
        let _ = writeln!(
            out,
            "<path d=\"M{x} {}V{}\" stroke=\"{color}\"/><rect x=\"{}\" y=\"{}\" width=\"{}\" \
             height=\"{}\" fill=\"{color}\"/>",
            px(y(bar.high.as_micros())),
            px(y(bar.low.as_micros())),
            px(middle - body / 2),
            px(top),
            px(body),
            px((bottom - top).max(10)),
            x = px(middle),
        );
    }
    if let (Some(first), Some(last)) = (bars.first(), bars.last()) {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{y}\" fill=\"#8a93a5\">{}</text><text x=\"{}\" y=\"{y}\" \
             fill=\"#8a93a5\" text-anchor=\"end\">{} UTC</text>",
            px(LEFT),
            time(first.end),
            px(WIDTH - RIGHT),
            time(last.end),
            y = px(HEIGHT - 120),
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Returns tenths of a pixel in pixels.
fn px(tenths: i64) -> String {
    format!("{}.{}", tenths / 10, tenths.rem_euclid(10))
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().filter(|c| !c.is_control()) {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::{Count, Dollars};

    use super::*;

    #[test]
    fn titles_are_escaped_and_candles_are_drawn() {
        let bar = |open: i64, close: i64| Bar {
            open: Dollars::from_micros(open),
            high: Dollars::from_micros(open.max(close) + 10_000),
            low: Dollars::from_micros(open.min(close) - 10_000),
            close: Dollars::from_micros(close),
            volume: Count::ZERO,
            end: 1_790_000_000,
        };
        let svg = svg("<b>&\u{1b}", &[bar(400_000, 500_000), bar(500_000, 450_000)]);
        assert!(svg.contains("&lt;b&gt;&amp;</text>"), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("#3fb68b") && svg.contains("#e0575b"));
        assert!(super::svg("t", &[]).contains("no trades"));
    }
}
