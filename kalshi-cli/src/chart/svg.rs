//! Candles as SVG. Pure.

use std::fmt::Write as _;

use super::{
    draw::Bar,
    picture::{BACKGROUND, HEIGHT, Shape, WIDTH, shapes},
};

/// Returns a chart of candles with a title.
pub(super) fn svg(title: &str, bars: &[Bar]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"ui-monospace, \
         monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#{BACKGROUND:06x}\"/>\n",
        WIDTH / 10,
        HEIGHT / 10,
    );
    for shape in shapes(title, bars) {
        // Writing to a string does not fail.
        let _ = match shape {
            Shape::Rectangle { x, y, width, height, color } => writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#{color:06x}\"/>",
                px(x),
                px(y),
                px(width),
                px(height)
            ),
            Shape::Line { from, to, color } => writeln!(
                out,
                "<path d=\"M{} {}L{} {}\" stroke=\"#{color:06x}\"/>",
                px(from.0),
                px(from.1),
                px(to.0),
                px(to.1)
            ),
            Shape::Text(text) => writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" fill=\"#{:06x}\"{}{}>{}</text>",
                px(text.x),
                px(text.y),
                text.color,
                if text.is_large { " font-size=\"18\"" } else { "" },
                if text.ends { " text-anchor=\"end\"" } else { "" },
                escaped(&text.letters)
            ),
        };
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
    for character in text.chars() {
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
    use super::{super::picture::test_bar, *};

    #[test]
    fn titles_are_escaped_and_candles_are_drawn() {
        let svg = svg("<b>&\u{1b}", &[test_bar(400_000, 500_000), test_bar(500_000, 450_000)]);
        assert!(svg.contains("&lt;b&gt;&amp;</text>"), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 2);
        assert!(svg.contains("#3fb68b") && svg.contains("#e0575b"));
        assert!(super::svg("t", &[]).contains("no trades"));
    }
}
