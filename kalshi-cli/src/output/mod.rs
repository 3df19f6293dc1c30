//! The output of a command: data on the standard output, everything else on the standard error
//! output.

mod csv;
mod table;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::{self, IsTerminal as _, Write as _, stderr, stdout},
};

pub(crate) use self::table::safe;
use crate::{
    args::Format,
    failure::{Failure, Outcome},
    json::Json,
};

/// The output of a command.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    fields: Vec<String>,
    quiet: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(format: Format, fields: Vec<String>, quiet: bool) -> Self {
        Self { format, fields, quiet, color: stdout().is_terminal() && wants_color() }
    }

    /// Reports whether the output is a table for people.
    pub(crate) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Reports whether escape sequences for colors may be printed on the standard output.
    pub(crate) fn has_color(&self) -> bool {
        self.color
    }

    /// Reports whether no hints are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a text and a line end.
    #[expect(clippy::unused_self, reason = "whatever is printed goes through the output")]
    pub(crate) fn line(&self, text: &str) -> Outcome {
        print(&format!("{text}\n"))
    }

    /// Prints a document that is not a list: JSON as it is, a table of names and values otherwise.
    pub(crate) fn document(&self, document: &Json, columns: &[&str]) -> Outcome {
        let picked = self.picked(document);
        match self.format {
            Format::Json => print(&format!("{}\n", picked.pretty())),
            Format::Ndjson => print(&format!("{picked}\n")),
            Format::Csv => {
                let columns = self.columns(columns, [document]);
                let mut text = csv::line(columns.iter().map(String::as_str));
                text.push_str(&csv::line(cells(document, &columns).iter().map(String::as_str)));
                print(&text)
            }
            Format::Table => {
                let columns = self.columns(columns, [document]);
                let cells = cells(document, &columns);
                print(&table::record(&columns, &cells, self.color))
            }
        }
    }

    /// Returns a printer of a list, whose rows stand in the member `items` of each page. Without
    /// `--fields` tables and CSV have these columns, or all if there are none.
    pub(crate) fn list(&self, items: &str, columns: &[&str]) -> ListPrinter<'_> {
        ListPrinter {
            output: self,
            items: items.to_owned(),
            preferred: columns.iter().map(|&name| name.to_owned()).collect(),
            columns: None,
            document: None,
            rows: Vec::new(),
            seen: BTreeSet::new(),
            count: 0,
        }
    }

    /// Prints rows that are all here.
    pub(crate) fn rows(&self, items: &str, rows: Vec<Json>, columns: &[&str]) -> Outcome {
        let mut list = self.list(items, columns);
        list.page(Json::object([(items, Json::List(rows))]))?;
        list.finish()
    }

    /// Prints a hint for people on the standard error output.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            error_line(text);
        }
    }

    /// Returns a value with the fields of `--fields` only.
    fn picked(&self, value: &Json) -> Json {
        if self.fields.is_empty() {
            return value.clone();
        }
        let pick = |name: &String| (name.clone(), value.at(name).cloned().unwrap_or(Json::Null));
        Json::Object(self.fields.iter().map(pick).collect())
    }

    /// Returns the columns of a table.
    fn columns<'a>(
        &self,
        preferred: &[&str],
        rows: impl IntoIterator<Item = &'a Json>,
    ) -> Vec<String> {
        if !self.fields.is_empty() {
            return self.fields.clone();
        }
        if !preferred.is_empty() && self.format == Format::Table {
            return preferred.iter().map(|&name| name.to_owned()).collect();
        }
        let mut columns: Vec<String> = Vec::new();
        for row in rows {
            if let Json::Object(members) = row {
                for (name, _) in members {
                    if !columns.contains(name) {
                        columns.push(name.clone());
                    }
                }
            }
        }
        columns
    }
}

/// Prints a failure.
pub(crate) fn report(failure: &Failure, format: Format) -> Outcome {
    error_line(&redacted(&failure.to_string()));
    print_failure(failure, format)
}

/// Prints the JSON form of a failure where the output is JSON.
pub(crate) fn print_failure(failure: &Failure, format: Format) -> Outcome {
    let mut json = failure.to_json();
    if let Json::Object(members) = &mut json {
        for (_, value) in members {
            if let Json::Text(text) = value {
                *text = redacted(text);
            }
        }
    }
    match format {
        Format::Json => print(&format!("{}\n", Json::object([("error", json)]).pretty())),
        Format::Ndjson => {
            let line = Json::object([("type", Json::text("error")), ("error", json)]);
            print(&format!("{line}\n"))
        }
        // A table or CSV would not be one any more.
        Format::Table | Format::Csv => Ok(()),
    }
}

/// The printer of a list, page after page. NDJSON and CSV go out at once; tables and JSON documents
/// are kept until the end.
pub(crate) struct ListPrinter<'a> {
    output: &'a Output,
    items: String,
    preferred: Vec<String>,
    columns: Option<Vec<String>>,
    /// The first page without its rows.
    document: Option<Json>,
    rows: Vec<Json>,
    /// The fields of `--fields` that some row had.
    seen: BTreeSet<String>,
    count: usize,
}

impl ListPrinter<'_> {
    /// Returns the number of rows so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Takes the rows of a page; its other members replace those of the page before.
    pub(crate) fn page(&mut self, mut page: Json) -> Outcome {
        let rows = match page.take(&self.items) {
            Some(Json::List(rows)) => rows,
            // A null list is an empty one.
            _ => Vec::new(),
        };
        self.document = Some(page);
        self.count = self.count.saturating_add(rows.len());
        for name in &self.output.fields {
            if rows.iter().any(|row| row.at(name).is_some()) {
                self.seen.insert(name.clone());
            }
        }
        match self.output.format {
            Format::Ndjson => {
                let lines: Vec<String> =
                    rows.iter().map(|row| format!("{}\n", self.output.picked(row))).collect();
                print(&lines.concat())
            }
            Format::Csv => {
                let mut text = String::new();
                let columns = self.columns(&rows, &mut text);
                for row in &rows {
                    text.push_str(&csv::line(cells(row, &columns).iter().map(String::as_str)));
                }
                print(&text)
            }
            Format::Table | Format::Json => {
                self.rows.extend(rows);
                Ok(())
            }
        }
    }

    /// Returns the columns; the first time with a header of CSV.
    fn columns(&mut self, rows: &[Json], header: &mut String) -> Vec<String> {
        if let Some(columns) = &self.columns {
            return columns.clone();
        }
        let preferred: Vec<&str> = self.preferred.iter().map(String::as_str).collect();
        let columns = self.output.columns(&preferred, rows);
        if !columns.is_empty() {
            header.push_str(&csv::line(columns.iter().map(String::as_str)));
            self.columns = Some(columns.clone());
        }
        columns
    }

    /// Prints what was kept.
    pub(crate) fn finish(mut self) -> Outcome {
        match self.output.format {
            Format::Ndjson | Format::Csv => {}
            Format::Json => {
                let rows = self.rows.iter().map(|row| self.output.picked(row)).collect();
                let mut members = vec![(self.items.clone(), Json::List(rows))];
                if let Some(Json::Object(others)) = self.document.take() {
                    members.extend(others);
                }
                print(&format!("{}\n", Json::Object(members).pretty()))?;
            }
            Format::Table if self.rows.is_empty() => self.output.note("no rows"),
            Format::Table => {
                let preferred: Vec<&str> = self.preferred.iter().map(String::as_str).collect();
                let columns = self.output.columns(&preferred, &self.rows);
                let rows: Vec<Vec<String>> =
                    self.rows.iter().map(|row| cells(row, &columns)).collect();
                print(&table::table(&columns, &rows, self.output.color))?;
            }
        }
        for name in &self.output.fields {
            if self.count > 0 && !self.seen.contains(name) {
                self.output.note(&format!("no row has a field {name:?}"));
            }
        }
        Ok(())
    }
}

/// Returns the header of CSV with these columns.
pub(crate) fn csv_header(columns: &[&str]) -> String {
    csv::line(columns.iter().copied())
}

/// Returns a row of CSV; a field that is not there is empty.
pub(crate) fn csv_row(row: &Json, columns: &[&str]) -> String {
    let cells: Vec<String> =
        columns.iter().map(|name| row.at(name).map(Json::cell).unwrap_or_default()).collect();
    csv::line(cells.iter().map(String::as_str))
}

fn cells(row: &Json, columns: &[String]) -> Vec<String> {
    let Json::Object(_) = row else { return vec![row.cell()] };
    columns.iter().map(|name| row.at(name).map(Json::cell).unwrap_or_default()).collect()
}

/// Returns a text as a word of a command line, quoted if a shell would not take it as it is.
pub(crate) fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if !text.is_empty() && text.bytes().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

/// Writes to the standard output at once. A reader that went away is a failure of its own kind.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints a line on the standard error output.
pub(crate) fn error_line(text: &str) {
    error_text(&format!("{text}\n"));
}

/// Prints a text on the standard error output. It is dropped if its reader is gone.
pub(crate) fn error_text(text: &str) {
    let shown: String = text.split('\n').map(safe).collect::<Vec<_>>().join("\n");
    let _: io::Result<()> = stderr().lock().write_all(shown.as_bytes());
}

/// The shortest run of Base64 that could be a line of a private key. Ids and tickers are shorter, or
/// have other characters in them.
const KEY_RUN: usize = 40;

/// Returns a text without what could be a part of a private key: a failure may repeat what was given
/// by mistake, such as the key in place of its path.
pub(crate) fn redacted(text: &str) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        // A path is a run as well, of small letters mostly.
        let has = |test: fn(&char) -> bool| run.chars().any(|c| test(&c));
        let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
        out.push_str(if run.len() >= KEY_RUN && is_mixed { "(not shown)" } else { run });
        let next = after.find(is_base64).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        out.push_str(between);
        rest = after;
    }
    out
}

/// Reports whether the user's environment wants colors.
pub(crate) fn wants_color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_key_is_not_repeated() {
        let line = "MC4CAQAwBQYDK2VwBCIEIL4IOGWBBMFotOhpp1/YzgALGwRPs56KYEVVXJOoE2ER";
        for text in [line.to_owned(), format!("a {line}\nb"), format!("\"{line}\"")] {
            let shown = redacted(&text);
            assert!(shown.contains("(not shown)") && !shown.contains(&line[8..40]), "{shown}");
        }
        for text in [
            "KXHIGHNY-26NOV23-T60 is not open: /home/somebody/keys/kalshi/demo.pem",
            "a952bcbe-ec3b-4b5b-b8f9-11dae589608c",
            "http://127.0.0.1:8080/trade-api/v2",
            "",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
