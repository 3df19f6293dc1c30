//! Renders changes as text, JSON, Markdown for a pull request, or annotations.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Change, Context, Diff, Level, SourceImpact, WireImpact};

/// The format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Plain text, grouped by what has to be done.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Markdown for the text of a pull request.
    Markdown,
    /// Workflow commands of GitHub, one line for each change.
    Github,
}

/// A pull request takes 65,536 characters.
const LIMIT: usize = 60_000;

pub(super) fn render(diff: &Diff, format: Format, context: &Context<'_>) -> String {
    match format {
        Format::Text => text(diff, context),
        Format::Json => json(diff, context),
        Format::Markdown => markdown(diff, context),
        Format::Github => github(diff, context),
    }
}

type Group = (&'static str, fn(&Change) -> bool);

/// The groups of a report. A change stands in the first that takes it.
const GROUPS: [Group; 6] = [
    ("Accepted before", |change| change.accepted.is_some()),
    ("Breaks deployed clients on the wire", |change| change.wire == WireImpact::Breaks),
    ("Breaks code that calls this crate", |change| change.level() == Level::Breaking),
    ("Behaves differently, or is about to be removed", |change| change.level() == Level::Warning),
    ("Adds to the API", |change| change.source == SourceImpact::Adds),
    ("Changes nothing for clients", |_| true),
];

/// Returns the groups that have changes; the accepted ones come last.
fn groups(diff: &Diff) -> Vec<(&'static str, Vec<&Change>)> {
    let mut found: Vec<(&'static str, Vec<&Change>)> =
        GROUPS.iter().map(|(title, _)| (*title, Vec::new())).collect();
    for change in &diff.changes {
        let group = GROUPS.iter().position(|(_, takes)| takes(change));
        if let Some((_, changes)) = group.and_then(|group| found.get_mut(group)) {
            changes.push(change);
        }
    }
    found.rotate_left(1);
    found.retain(|(_, changes)| !changes.is_empty());
    found
}

fn versions(diff: &Diff) -> String {
    if diff.old_version == diff.new_version {
        format!("{} in both documents", diff.new_version)
    } else {
        format!("{} to {}", diff.old_version, diff.new_version)
    }
}

fn verdicts(change: &Change) -> String {
    let wire = match change.wire {
        WireImpact::Works => "wire works",
        WireImpact::Behaves => "wire behaves differently",
        WireImpact::Breaks => "wire breaks",
    };
    let source = match change.source {
        SourceImpact::Same => "Rust same",
        SourceImpact::Adds => "Rust adds",
        SourceImpact::Deprecates => "Rust deprecates",
        SourceImpact::Refuses => "Rust compiles and refuses",
        SourceImpact::Breaks => "Rust breaks",
    };
    format!("{wire}, {source}")
}

fn values(change: &Change) -> String {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!(" ({before} -> {after})"),
        (Some(one), None) | (None, Some(one)) => format!(" ({one})"),
        (None, None) => String::new(),
    }
}

/// Returns the carriers, the first few by name.
fn carriers(change: &Change) -> String {
    let shown: Vec<&str> = change.carriers.iter().take(3).map(String::as_str).collect();
    let rest = change.carriers.len() - shown.len();
    match (shown.is_empty(), rest) {
        (true, _) => String::new(),
        (false, 0) => format!("in {}", shown.join(", ")),
        (false, rest) => format!("in {} and {rest} more", shown.join(", ")),
    }
}

fn text(diff: &Diff, context: &Context<'_>) -> String {
    let mut out = format!("{} {}: {} changes\n", diff.kind, versions(diff), diff.changes.len());
    for (title, changes) in groups(diff) {
        let _ = writeln!(out, "\n{title}: {}", changes.len());
        let mut subject = None;
        for change in changes {
            if subject != Some(&change.subject) {
                let _ = writeln!(out, "  {}", change.subject);
                subject = Some(&change.subject);
            }
            let field =
                if change.field.is_empty() { String::new() } else { format!("{}: ", change.field) };
            let _ = writeln!(out, "    {field}{}{}", change.id, values(change));
            let _ = writeln!(out, "      {}: {}", verdicts(change), change.why);
            for line in [carriers(change), change.guess.clone().unwrap_or_default()] {
                if !line.is_empty() {
                    let _ = writeln!(out, "      {line}");
                }
            }
            if let Some(reason) = &change.accepted {
                let _ = writeln!(out, "      accepted: {reason}");
            }
            let _ = writeln!(out, "      {} at {}", change.fingerprint, change.pointer);
            if let Some(definition) = &change.definition {
                let _ = writeln!(out, "      defined at {definition}");
            }
        }
    }
    if let Some(bump) = bump(diff, context) {
        let _ = writeln!(out, "\n{bump}");
    }
    out
}

fn bump(diff: &Diff, context: &Context<'_>) -> Option<String> {
    Some(diff.next_version(context.version?).ok()?.to_string())
}

fn json(diff: &Diff, context: &Context<'_>) -> String {
    let mut value = serde_json::to_value(diff).unwrap_or(Value::Null);
    let levels = diff.changes.iter().map(|change| json!(change.level()));
    let rows = value.get_mut("changes").and_then(Value::as_array_mut);
    for (row, level) in rows.into_iter().flatten().zip(levels) {
        if let Value::Object(row) = row {
            row.insert("level".to_owned(), level);
        }
    }
    if let (Value::Object(map), Some(version)) = (&mut value, context.version)
        && let Ok(bump) = diff.next_version(version)
    {
        let next = json!({
            "part": bump.part, "version": bump.version, "why": bump.why, "urgent": bump.urgent,
        });
        map.insert("release".to_owned(), next);
    }
    format!("{value:#}\n")
}

fn markdown(diff: &Diff, context: &Context<'_>) -> String {
    let mut out = format!("## {} {}\n\n", diff.kind, versions(diff));
    if diff.changes.is_empty() {
        out.push_str("No change of structure.\n");
    }
    if let Some(bump) = bump(diff, context) {
        let _ = writeln!(out, "**{}**\n", cell(&bump));
    }
    for (title, changes) in groups(diff) {
        let _ = writeln!(out, "### {title}: {}\n", changes.len());
        out.push_str("| where | change | verdict |\n|---|---|---|\n");
        for change in changes {
            let field = if change.field.is_empty() {
                String::new()
            } else {
                format!(" `{}`", change.field)
            };
            let mut verdict = format!("{}: {}", verdicts(change), change.why);
            for more in [carriers(change), change.guess.clone().unwrap_or_default()] {
                if !more.is_empty() {
                    let _ = write!(verdict, "; {more}");
                }
            }
            if let Some(reason) = &change.accepted {
                let _ = write!(verdict, "; accepted: {reason}");
            }
            let _ = writeln!(
                out,
                "| `{}`{} | {}{} | {} `{}` |",
                cell(&change.subject),
                cell(&field),
                change.id,
                cell(&values(change)),
                cell(&verdict),
                change.fingerprint
            );
        }
        out.push('\n');
    }
    if out.len() > LIMIT {
        let cut = (0..=LIMIT).rev().find(|&at| out.is_char_boundary(at)).unwrap_or(0);
        let line = out.get(..cut).and_then(|text| text.rfind('\n')).unwrap_or(0);
        out.truncate(line);
        out.push_str("\n\nThe rest is cut off: run `cargo gen diff` for all of it.\n");
    }
    out
}

/// Returns text that cannot end a cell of a table or become markup.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

fn github(diff: &Diff, context: &Context<'_>) -> String {
    let file = context.file.unwrap_or("openapi.yaml");
    let lines = context.text.map(Lines::new);
    let mut out = String::new();
    for change in diff.open() {
        let command = match change.level() {
            Level::Breaking => "error",
            Level::Warning => "warning",
            Level::Info => "notice",
        };
        let line = lines.as_ref().map_or(1, |lines| lines.of(&change.pointer));
        let field =
            if change.field.is_empty() { String::new() } else { format!(" {}", change.field) };
        let _ = writeln!(
            out,
            "::{command} file={},line={line},title={}::{}",
            property(file),
            property(&change.id),
            message(&format!(
                "{}{field}{}: {}: {} [{}]",
                change.subject,
                values(change),
                verdicts(change),
                change.why,
                change.fingerprint
            ))
        );
    }
    out
}

fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

/// The lines of a document in block style, as the published ones are.
struct Lines<'t>(Vec<Line<'t>>);

struct Line<'t> {
    /// The column of the content, behind the dashes of a list.
    depth: usize,
    /// The column of the first dash.
    dash: Option<usize>,
    content: &'t str,
}

impl Line<'_> {
    fn has_key(&self, step: &str) -> bool {
        let key = self.content.split(": ").next().unwrap_or(self.content).trim_end_matches(':');
        key.trim_matches(['\'', '"']) == step
    }
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let lines = text.lines().map(|line| {
            let content = line.trim_start_matches([' ', '-']);
            let spaces = line.len() - line.trim_start_matches(' ').len();
            let dash = line.get(spaces..).is_some_and(|rest| rest.starts_with("- "));
            let depth = line.len() - content.len();
            Line { depth, dash: dash.then_some(spaces), content }
        });
        Self(lines.collect())
    }

    /// Returns the line of the deepest step that can be followed, counted from one.
    fn of(&self, pointer: &str) -> usize {
        let (mut start, mut found) = (0, 1);
        // Where the block of the last step ends: at a line that is not deeper, or at the next item.
        let (mut indent, mut item) = (None::<usize>, None::<usize>);
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let block = self.0.iter().enumerate().skip(start).take_while(|(index, line)| {
                let deeper = indent.is_none_or(|indent| line.depth > indent);
                let next = line.dash.is_some_and(|dash| item.is_some_and(|item| dash <= item));
                *index == start && item.is_some()
                    || line.content.is_empty()
                    || deeper && !(next && item.is_some())
            });
            let block: Vec<(usize, &Line<'_>)> = block.collect();
            let key = block.iter().find(|(_, line)| line.has_key(&step));
            if let Some((index, line)) = key {
                (start, found, indent, item) = (index + 1, index + 1, Some(line.depth), None);
                continue;
            }
            let Ok(number) = step.parse::<usize>() else { continue };
            let dash = block.iter().find_map(|(_, line)| line.dash);
            let mut items = block.iter().filter(|(_, line)| dash.is_some() && line.dash == dash);
            if let (Some((index, _)), Some(dash)) = (items.nth(number), dash) {
                (start, found, indent, item) = (*index, index + 1, Some(dash), Some(dash));
            }
        }
        found
    }
}
