//! Comma-separated values as in RFC 4180, with line feeds.

/// Returns a line, its end included.
pub(super) fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) || (index == 0 && cell.is_empty()) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_and_quotes_are_quoted() {
        let cells = ["a", "b,c", "say \"hi\"", "two\nlines", ""];
        assert_eq!(line(cells.into_iter()), "a,\"b,c\",\"say \"\"hi\"\"\",\"two\nlines\",\n");
        // A line of one empty cell is not an empty line.
        assert_eq!(line([""].into_iter()), "\"\"\n");
    }
}
