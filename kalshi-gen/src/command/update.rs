//! `cargo gen update --from FILE`: takes over a published document and everything that follows from
//! it, or nothing.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use clap::Args;
use kalshi_gen::{
    Generated, Unmatched,
    diff::{Change, Diff, Kind, SourceImpact, WireImpact},
    generate, parse, read, read_overlays,
    vendor::{structure, with_entry, with_metadata},
};

use super::diff::compare;
use crate::{Failure, REVIEW, print};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A published document, OpenAPI or `AsyncAPI`: it takes the place of openapi.yaml or asyncapi.yaml.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Write nothing; end with 1 if something would be written.
    #[arg(long)]
    check: bool,
}

/// A file with the text that it is to have.
type Plan = Vec<(PathBuf, String)>;

pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<(), Failure> {
    let (plan, report) = match &arguments.from {
        Some(from) => take_over(root, from)?,
        None => (follow(root)?, String::new()),
    };
    let stale: Plan =
        plan.into_iter().filter(|(path, text)| read(path).ok().as_ref() != Some(text)).collect();
    print(&report)?;
    let names = stale.iter().map(|(path, _)| path.strip_prefix(root).unwrap_or(path).display());
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if arguments.check && !stale.is_empty() {
        let message = format!("{} out of date; run `cargo gen update`", names.join(", "));
        return Err(Failure { code: 1, message });
    }
    if !arguments.check {
        write_all(&stale)?;
        for name in names {
            print(&format!("wrote {name}\n"))?;
        }
    }
    Ok(())
}

/// What follows from the documents that are here.
fn follow(root: &Path) -> Result<Plan, Failure> {
    let generated = crate::from_root(root)?;
    let mut plan = reviews(root, &generated);
    let manifest = root.join("Cargo.toml");
    if let Ok(old) = read(&manifest) {
        let mut text = old;
        for (table, file) in [("openapi", "openapi.yaml"), ("asyncapi", "asyncapi.yaml")] {
            if let Ok(document) = read(&root.join(file)) {
                text = with_metadata(&text, table, &version(&document));
            }
        }
        plan.push((manifest, text));
    }
    Ok(plan)
}

fn reviews(root: &Path, generated: &Generated) -> Plan {
    let review = generated.review();
    let texts = [review.operations, review.types];
    REVIEW.into_iter().map(|name| root.join(name)).zip(texts).collect()
}

fn version(document: &str) -> String {
    let value = parse(document).unwrap_or_default();
    let version = value.pointer("/info/version").and_then(|version| version.as_str());
    version.unwrap_or_default().to_owned()
}

/// What follows from a published document, and what there is to say about it.
fn take_over(root: &Path, from: &Path) -> Result<(Plan, String), Failure> {
    let published = read(from)?;
    let refused = |error: kalshi_gen::Error| Failure::input(format!("{}: {error}", from.display()));
    let new = structure(&published).map_err(refused)?;
    let is_stream = parse(&new).map_err(refused)?.get("asyncapi").is_some();
    let (name, table) =
        if is_stream { ("asyncapi.yaml", "asyncapi") } else { ("openapi.yaml", "openapi") };
    let place = root.join(name);
    let old = read(&place)?;
    let found = compare(Some(root), &place, &old, from, &new)?;
    let mut plan = Plan::new();
    let mut report = found.render(
        kalshi_gen::diff::Format::Text,
        &kalshi_gen::diff::Context {
            version: super::diff::crate_version(root).as_deref(),
            ..Default::default()
        },
    );
    // Another order of the same is no change, and rewriting the file would hide the next one.
    if found.changes.is_empty() {
        return Ok((plan, report));
    }
    if found.kind == Kind::OpenApi {
        let overlays = read_overlays(&root.join("overlay"))?;
        let generated = generate(&new, &overlays, Unmatched::Count).map_err(refused)?;
        overlay_report(&generated, &mut report);
        plan.extend(reviews(root, &generated));
    }
    let manifest = root.join("Cargo.toml");
    if let Ok(text) = read(&manifest) {
        plan.push((manifest, with_metadata(&text, table, &found.new_version)));
    }
    let changelog = root.join("CHANGELOG.md");
    if let Ok(text) = read(&changelog) {
        plan.push((changelog, with_entry(&text, &entry(&found))));
    }
    plan.push((place, new));
    Ok((plan, report))
}

/// What the overlays have to say about a document that they were not written for.
fn overlay_report(generated: &Generated, report: &mut String) {
    let unmatched = &generated.applied.unmatched;
    let findings = &generated.coverage().findings;
    let _ = writeln!(
        report,
        "\nOverlays: {} actions applied, {} match nothing, {} places lack words",
        generated.applied.actions,
        unmatched.len(),
        findings.len()
    );
    for target in unmatched {
        let _ = writeln!(report, "  matches nothing any more: {target}");
    }
    for finding in findings {
        let _ = writeln!(report, "  {finding}");
    }
}

/// Whether a line of the changelog says a change.
type Takes = fn(&Change) -> bool;

/// The draft of the changelog: what callers have to know, the rest as a number.
fn entry(found: &Diff) -> String {
    let surface = match found.kind {
        Kind::OpenApi => "Trade API",
        Kind::AsyncApi => "WebSocket API",
    };
    let versions = if found.old_version == found.new_version {
        format!("{} as republished", found.new_version)
    } else {
        format!("{} to {}", found.old_version, found.new_version)
    };
    let mut out = format!("### {surface} {versions}\n\n");
    let kinds: [(&str, Takes); 4] = [
        ("**breaking**", |c| matches!(c.source, SourceImpact::Breaks | SourceImpact::Refuses)),
        ("**wire**", |c| c.wire != WireImpact::Works),
        ("**deprecated**", |c| c.source == SourceImpact::Deprecates),
        ("**added**", |c| c.source == SourceImpact::Adds),
    ];
    let mut rest = 0;
    let mut lines: Vec<Vec<String>> = vec![Vec::new(); kinds.len()];
    for change in &found.changes {
        let kind = kinds.iter().position(|(_, takes)| takes(change));
        let Some((lines, (word, _))) =
            kind.and_then(|kind| lines.get_mut(kind).zip(kinds.get(kind)))
        else {
            rest += 1;
            continue;
        };
        let field =
            if change.field.is_empty() { String::new() } else { format!(" `{}`", change.field) };
        let guess = change.guess.as_ref().map_or_else(String::new, |guess| format!(" ({guess})"));
        let subject = change.subject.replace(['`', '\n'], " ");
        lines.push(format!(
            "- {word} `{subject}`{}: {}{guess}.\n",
            field.replace('\n', " "),
            change.id
        ));
    }
    out.extend(lines.into_iter().flatten());
    if rest > 0 {
        let _ = writeln!(out, "- {rest} further changes of the document that no caller sees.");
    }
    out
}

/// Writes all files or none: every text beside its file first, then the renames; if one of those
/// fails, the files that were renamed get their old texts back.
fn write_all(files: &Plan) -> Result<(), Failure> {
    let mut staged: Vec<(PathBuf, &PathBuf, Option<Vec<u8>>)> = Vec::new();
    let stage = |path: &PathBuf, text: &str| -> io::Result<(PathBuf, Option<Vec<u8>>)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let before = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.tmp", process::id()));
        let beside = PathBuf::from(beside);
        fs::write(&beside, text)?;
        Ok((beside, before))
    };
    let mut failed = None;
    for (path, text) in files {
        match stage(path, text) {
            Ok((beside, before)) => staged.push((beside, path, before)),
            Err(error) => {
                failed = Some((path, error));
                break;
            }
        }
    }
    let mut renamed = 0;
    if failed.is_none() {
        for (beside, path, _) in &staged {
            if let Err(error) = fs::rename(beside, path) {
                failed = Some((*path, error));
                break;
            }
            renamed += 1;
        }
    }
    let Some((path, error)) = failed else { return Ok(()) };
    let mut message = format!("{}: {error}; nothing was changed", path.display());
    for (index, (beside, path, before)) in staged.iter().enumerate() {
        let undone = match before {
            _ if index >= renamed => fs::remove_file(beside),
            Some(bytes) => fs::write(path, bytes),
            None => fs::remove_file(path),
        };
        if let Err(error) = undone {
            let _ = write!(message, "; {} could not be put back: {error}", path.display());
        }
    }
    Err(Failure::input(message))
}
