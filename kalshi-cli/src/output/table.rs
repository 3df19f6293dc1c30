//! Tables for people: pure functions from cells to text.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The widest cell; a longer text is cut. The other forms of output have all of it.
const MAX_CELL: usize = 60;

/// Returns a text without what a terminal could obey: control characters, and those that change the
/// direction of the text around them.
pub(crate) fn safe(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns the number of columns that a text takes in a terminal.
fn width(text: &str) -> usize {
    text.width()
}

/// Returns a cell as it is shown.
fn shown(cell: &str) -> String {
    let safe = safe(cell);
    if width(&safe) <= MAX_CELL {
        return safe;
    }
    let mut out = String::new();
    let mut used = 0;
    for c in safe.chars() {
        used += c.width().unwrap_or(0);
        if used >= MAX_CELL {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Reports whether a cell is a number, which is set flush right.
fn is_number(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn bold(text: &str, color: bool) -> String {
    if color { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Pads a text to a width.
fn padded(text: &str, to: usize, right: bool) -> String {
    let pad = " ".repeat(to.saturating_sub(width(text)));
    if right { format!("{pad}{text}") } else { format!("{text}{pad}") }
}

/// Returns a table with a header.
pub(super) fn table(columns: &[String], rows: &[Vec<String>], color: bool) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let column = |index: usize| rows.iter().filter_map(move |row| row.get(index));
    let layout: Vec<(usize, bool)> = columns
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let widest = column(index).map(|cell| width(cell)).max().unwrap_or(0);
            let has_text = column(index).any(|cell| !cell.is_empty());
            let right = has_text && column(index).all(|cell| cell.is_empty() || is_number(cell));
            (widest.max(width(name)), right)
        })
        .collect();
    let join = |cells: Vec<String>| cells.join("  ").trim_end().to_owned();
    let pad = |cells: &[String]| {
        cells
            .iter()
            .zip(&layout)
            .map(|(cell, (to, right))| padded(cell, *to, *right))
            .collect::<Vec<_>>()
    };
    let names: Vec<String> = columns.iter().map(|name| safe(name)).collect();
    let mut out = bold(&join(pad(&names)), color);
    out.push('\n');
    for row in &rows {
        out.push_str(&join(pad(row)));
        out.push('\n');
    }
    out
}

/// Returns names and values, one a line.
pub(super) fn record(names: &[String], values: &[String], color: bool) -> String {
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in names.iter().zip(values) {
        let name = bold(&padded(&safe(name), widest, false), color);
        out.push_str(format!("{name}  {}", safe(value)).trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: &[&[&str]]) -> String {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect();
        table(&["name".to_owned(), "price".to_owned()], &rows, false)
    }

    #[test]
    fn numbers_are_flush_right_and_texts_flush_left() {
        assert_eq!(
            text(&[&["a", "0.5600"], &["long name", "12.00"], &["b", ""]]),
            "name        price\na          0.5600\nlong name   12.00\nb\n"
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(
            text(&[&["日本", "1"], &["ab", "2"]]),
            "name  price\n日本      1\nab        2\n"
        );
    }

    #[test]
    fn a_terminal_obeys_nothing_of_a_cell() {
        let shown = text(&[&["\u{1b}[31mred\u{202e}\n", "1"]]);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
        assert_eq!(shown.lines().count(), 2);
    }

    #[test]
    fn a_long_cell_is_cut_and_says_so() {
        let shown = text(&[&[&"x".repeat(200), "1"]]);
        assert!(shown.contains('…') && shown.lines().all(|line| line.chars().count() < 80));
    }
}
