//! From a published document to the file in this repository: the structure without the prose, in
//! the published order, so that a new version shows as what it changes.

use serde_norway::{Mapping, Value};

use crate::error::{Error, Result};

/// Removes what says nothing about the structure. The description that OpenAPI demands of each
/// response becomes the phrase of its status.
///
/// # Errors
///
/// The text cannot be read as a document: see [`parse`](crate::parse).
pub fn structure(text: &str) -> Result<String> {
    // The strict reader bounds depth and size and refuses equal keys; this one keeps the order.
    crate::parse(text)?;
    let unreadable = |error: serde_norway::Error| Error::new("", error.to_string());
    let mut document: Value = serde_norway::from_str(text).map_err(unreadable)?;
    document.apply_merge().map_err(unreadable)?;
    strip(&mut document, "", false);
    let text = serde_norway::to_string(&document).map_err(unreadable)?;
    Ok(text.lines().map(quoted).collect())
}

/// Quotes the words that readers of older YAML take for true and false: `yes` is a side of a
/// market.
fn quoted(line: &str) -> String {
    const WORDS: [&str; 8] = ["yes", "no", "on", "off", "y", "n", "Yes", "No"];
    for mark in [": ", "- "] {
        if let Some((head, word)) = line.rsplit_once(mark)
            && WORDS.contains(&word)
        {
            return format!("{head}{mark}'{word}'\n");
        }
    }
    format!("{line}\n")
}

/// Removes prose from a value. `names`: the keys here are names of the document, not words of its language.
fn strip(value: &mut Value, key: &str, names: bool) {
    match value {
        Value::Mapping(map) => {
            if !names {
                map.retain(|word, _| {
                    let word = word.as_str().unwrap_or_default();
                    !is_prose(word) || key == "info" && word == "title"
                });
            }
            for (word, inner) in map.iter_mut() {
                let word = word.as_str().map_or_else(|| scalar(word), str::to_owned);
                if !names && matches!(word.as_str(), "default" | "enum" | "const") {
                    continue;
                }
                let holds_names = !names && inner.is_mapping() && holds_names(&word);
                strip(inner, &word, holds_names);
                if names
                    && key == "responses"
                    && let Value::Mapping(response) = inner
                    && !response.contains_key("$ref")
                {
                    describe(response, &word);
                }
            }
        }
        Value::Sequence(items) => {
            for item in items {
                strip(item, "", false);
            }
        }
        _ => {}
    }
}

fn scalar(key: &Value) -> String {
    key.as_u64().map_or_else(String::new, |number| number.to_string())
}

/// Puts the description first, where published documents have it.
fn describe(response: &mut Mapping, status: &str) {
    let rest = std::mem::take(response);
    response.insert("description".into(), phrase(status).into());
    response.extend(rest);
}

/// The exchange's extensions that say something about the structure: the names of error codes, and
/// which texts of the streams hold amounts.
const STRUCTURE: [&str; 3] = ["x-error-codes", "x-rust-serialize-with", "x-rust-type"];

fn is_prose(word: &str) -> bool {
    matches!(word, "description" | "summary" | "title" | "example" | "examples" | "externalDocs")
        || word.starts_with("x-") && !STRUCTURE.contains(&word)
}

fn holds_names(word: &str) -> bool {
    matches!(
        word,
        "properties"
            | "patternProperties"
            | "schemas"
            | "paths"
            | "responses"
            | "parameters"
            | "headers"
            | "channels"
            | "messages"
            | "operations"
            | "servers"
            | "securitySchemes"
    )
}

/// Returns the phrase that belongs to a status, by RFC 9110.
fn phrase(status: &str) -> &'static str {
    match status {
        "200" => "OK",
        "201" => "Created",
        "202" => "Accepted",
        "204" => "No Content",
        "400" => "Bad Request",
        "401" => "Unauthorized",
        "403" => "Forbidden",
        "404" => "Not Found",
        "409" => "Conflict",
        "410" => "Gone",
        "413" => "Content Too Large",
        "415" => "Unsupported Media Type",
        "422" => "Unprocessable Content",
        "429" => "Too Many Requests",
        "500" => "Internal Server Error",
        "501" => "Not Implemented",
        "502" => "Bad Gateway",
        "503" => "Service Unavailable",
        "504" => "Gateway Timeout",
        status if status.starts_with('2') => "Success",
        _ => "Error",
    }
}

/// Returns the text of Cargo.toml with the document's version in `[package.metadata.TABLE]`.
#[must_use]
pub fn with_metadata(manifest: &str, table: &str, version: &str) -> String {
    // What comes from outside must not end the text that it stands in.
    let kept = |c: &char| c.is_ascii_alphanumeric() || ".-+".contains(*c);
    let version: String = version.chars().filter(kept).collect();
    let line = format!("version = \"{version}\"");
    let header = format!("[package.metadata.{table}]");
    let mut out: Vec<&str> = Vec::new();
    let (mut inside, mut done) = (false, false);
    for old in manifest.lines() {
        if old.starts_with('[') {
            inside = old.trim() == header;
        }
        if inside && old.starts_with("version = ") {
            out.push(&line);
            done = true;
        } else {
            out.push(old);
        }
    }
    if !done {
        // Before the features, with the other tables of the package.
        let at = out.iter().position(|line| line.starts_with("[features]")).unwrap_or(out.len());
        let table = [header.as_str(), line.as_str(), ""];
        out.splice(at..at, table);
    }
    out.join("\n") + "\n"
}

/// Returns the changelog with a draft under `## Unreleased`.
#[must_use]
pub fn with_entry(changelog: &str, entry: &str) -> String {
    const HEADING: &str = "## Unreleased\n";
    let Some(at) = changelog.find(HEADING) else {
        // Before the first release, after the introduction.
        let at = changelog.find("\n## ").map_or(changelog.len(), |at| at + 1);
        let (top, rest) = changelog.split_at(at);
        return format!("{top}{HEADING}\n{entry}\n{rest}");
    };
    let start = at + HEADING.len();
    let end = changelog
        .get(start..)
        .and_then(|rest| rest.find("\n## "))
        .map_or(changelog.len(), |found| start + found + 1);
    let (before, after) = changelog.split_at(end);
    let rest = if after.is_empty() { String::new() } else { format!("\n{after}") };
    format!("{}\n\n{}\n{rest}", before.trim_end(), entry.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_goes_and_the_order_stays() {
        let text = "\
openapi: 3.0.0
info:
  version: 1.0.0
  title: Small
  description: Words.
paths:
  /b:
    get:
      summary: Words.
      responses:
        '404':
          content: {}
          description: Words.
        200:
          description: Words.
components:
  schemas:
    description:
      type: object
      x-note: 1
      properties:
        title:
          type: string
          title: Words.
          enum: ['yes', 'no', maybe]
          default: {description: kept}
";
        let expected = "\
openapi: 3.0.0
info:
  version: 1.0.0
  title: Small
paths:
  /b:
    get:
      responses:
        '404':
          description: Not Found
          content: {}
        200:
          description: OK
components:
  schemas:
    description:
      type: object
      properties:
        title:
          type: string
          enum:
          - 'yes'
          - 'no'
          - maybe
          default:
            description: kept
";
        assert_eq!(structure(text).unwrap(), expected);
        assert_eq!(structure(expected).unwrap(), expected, "a second time changes nothing");
    }

    #[test]
    fn the_version_of_the_document_stands_in_its_table_once() {
        let manifest = "[package]\nversion = \"0.1.0\"\n\n[features]\na = []\n";
        let once = with_metadata(manifest, "openapi", "3.34.0");
        assert_eq!(
            once,
            "[package]\nversion = \"0.1.0\"\n\n[package.metadata.openapi]\nversion = \"3.34.0\"\n\n[features]\na = []\n"
        );
        assert_eq!(with_metadata(&once, "openapi", "3.34.0"), once);
        let next = with_metadata(&once, "openapi", "3.35.0\"\nevil = \"");
        assert_eq!(next, once.replace("3.34.0", "3.35.0evil"));
    }

    #[test]
    fn an_entry_goes_under_unreleased_and_before_what_was_released() {
        let log = "# Changelog\n\n## Unreleased\n\nFirst.\n\n## 0.1.0\n\nOld.\n";
        let expected = "# Changelog\n\n## Unreleased\n\nFirst.\n\n### New\n\n## 0.1.0\n\nOld.\n";
        assert_eq!(with_entry(log, "### New\n"), expected);
        let log = "# Changelog\n\n## 0.1.0\n\nOld.\n";
        let expected = "# Changelog\n\n## Unreleased\n\n### New\n\n## 0.1.0\n\nOld.\n";
        assert_eq!(with_entry(log, "### New\n"), expected);
    }
}
