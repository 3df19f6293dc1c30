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
    FAMILIES, Family, Generated, Unmatched,
    diff::{Change, Diff, SourceImpact, WireImpact},
    import::{structure, with_entry, with_metadata},
    kind, parse, read,
};

use super::diff::compare;
use crate::{Failure, overlays_of, print, refused, reviews};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A published document, OpenAPI or `AsyncAPI`: it takes the place of the workspace's document
    /// of the same API. Without it, the review files and the metadata are rewritten.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Write nothing; end with 1 if something would be written.
    #[arg(long)]
    check: bool,
}

/// A file with the text that it is to have.
type Plan = Vec<(PathBuf, String)>;

pub(crate) fn run(arguments: &Arguments, root: &Path) -> Result<(), Failure> {
    let (plan, done) = match &arguments.from {
        Some(from) => take_over(root, from)?,
        None => (follow(root)?, "the review files and the metadata follow from the documents"),
    };
    let stale: Plan =
        plan.into_iter().filter(|(path, text)| read(path).ok().as_ref() != Some(text)).collect();
    let names = stale.iter().map(|(path, _)| path.strip_prefix(root).unwrap_or(path).display());
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if arguments.check && !stale.is_empty() {
        let mut command = "cargo gen update".to_owned();
        if let Some(from) = &arguments.from {
            let _ = write!(command, " --from {}", from.display());
        }
        let message = format!("{} out of date: run `{command}`", names.join(", "));
        return Err(Failure { code: 1, message });
    }
    if !arguments.check {
        write_all(&stale)?;
        for name in &names {
            print(&format!("wrote {name}\n"))?;
        }
    }
    if names.is_empty() {
        let hint = if arguments.from.is_none() {
            "; to take over a published document: `cargo gen update --from FILE`"
        } else {
            ""
        };
        print(&format!("nothing to write: {done}{hint}\n"))?;
    }
    Ok(())
}

/// Plans what follows from the documents that are here.
fn follow(root: &Path) -> Result<Plan, Failure> {
    let mut plan = Plan::new();
    let manifest = root.join("Cargo.toml");
    let mut text = read(&manifest).ok();
    for (family, generated) in crate::all(root)? {
        plan.extend(planned(family, &generated, root));
        let document = read(&root.join(family.file))?;
        text = text.map(|text| with_metadata(&text, family.metadata, &version(&document)));
    }
    plan.extend(text.map(|text| (manifest, text)));
    Ok(plan)
}

fn planned(family: &Family, generated: &Generated, root: &Path) -> Plan {
    let files = reviews(family, generated).into_iter();
    files.map(|(name, text)| (root.join(name), text)).collect()
}

fn version(document: &str) -> String {
    let value = parse(document).unwrap_or_default();
    let version = value.pointer("/info/version").and_then(|version| version.as_str());
    version.unwrap_or_default().to_owned()
}

/// Returns the family whose place a published document takes.
fn family_of(root: &Path, from: &Path, published: &str) -> Result<&'static Family, Failure> {
    let failed = |error: kalshi_gen::Error| refused(from, "", &[], &error);
    let document = parse(published).map_err(failed)?;
    let kind = kind(&document).map_err(failed)?;
    let mut reason = None;
    for family in FAMILIES.iter().filter(|family| family.kind == kind) {
        let place = root.join(family.file);
        if !place.is_file() {
            continue;
        }
        let here = parse(&read(&place)?)
            .map_err(|error| Failure::input(format!("{}: {error}", place.display())))?;
        match family.check(&document, &here) {
            Ok(()) => return Ok(family),
            // The first document of a kind is the one that is meant most often.
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    let error = reason
        .map_or_else(|| "no document of this kind is followed here".to_owned(), |e| e.to_string());
    Err(Failure::input(format!("{}: {error}; nothing was changed", from.display())))
}

/// Plans what follows from a published document. Everything that there is to say about it is
/// printed first, whether it can be taken over or not.
fn take_over(root: &Path, from: &Path) -> Result<(Plan, &'static str), Failure> {
    let published = read(from)?;
    let new = structure(&published).map_err(|error| refused(from, "", &[], &error))?;
    let family = family_of(root, from, &new)?;
    let place = root.join(family.file);
    let found = compare(Some(root), &place, &read(&place)?, from, &new)?;
    print(&found.render(
        kalshi_gen::diff::Format::Text,
        &kalshi_gen::diff::Context {
            version: super::diff::crate_version(root).as_deref(),
            ..Default::default()
        },
    ))?;
    // Another order of the same is no change, and rewriting the file would hide the next one.
    if found.changes.is_empty() {
        return Ok((Plan::new(), "the document is the one that is here"));
    }
    let overlays = overlays_of(family, root)?;
    let generated = family.generate(&new, &overlays, Unmatched::Count).map_err(|error| {
        let mut failure = refused(from, family.overlays, &overlays, &error);
        failure.message.push_str("; nothing was changed");
        failure
    })?;
    print(&overlay_report(family, &generated))?;
    let mut plan = planned(family, &generated, root);
    let manifest = root.join("Cargo.toml");
    if let Ok(text) = read(&manifest) {
        plan.push((manifest, with_metadata(&text, family.metadata, &found.new_version)));
    }
    let changelog = root.join("CHANGELOG.md");
    if let Ok(text) = read(&changelog) {
        plan.push((changelog, with_entry(&text, &entry(family, &found))));
    }
    plan.push((place, new));
    Ok((plan, "everything that follows from the document is here"))
}

/// Reports what the overlays have to say about a document that they were not written for, and what
/// the document leaves unsaid.
fn overlay_report(family: &Family, generated: &Generated) -> String {
    let applied = &generated.applied;
    let coverage = generated.coverage();
    let mut report = String::new();
    let _ = writeln!(
        report,
        "\nOverlays: {} actions applied, {} match nothing, {} add what is there; \
         {} undocumented items, {} fields without a format, {} unreached schemas",
        applied.actions,
        applied.unmatched.len(),
        applied.redundant.len(),
        coverage.findings.len(),
        coverage.unformatted.len(),
        generated.normalized.unreached.len(),
    );
    for target in &applied.unmatched {
        let _ = writeln!(report, "  matches nothing any more: {}/{target}", family.overlays);
    }
    for target in &applied.redundant {
        let _ = writeln!(report, "  adds what is there: {}/{target}", family.overlays);
    }
    for finding in coverage.findings.iter().chain(&coverage.unformatted) {
        let _ = writeln!(report, "  {finding}");
    }
    for name in &generated.normalized.unreached {
        let _ = writeln!(report, "  makes no type, since nothing reaches it: {name}");
    }
    report
}

/// A test of whether a line of the changelog covers a change.
type Takes = fn(&Change) -> bool;

/// Returns the draft of the changelog: what callers have to know, the rest as a number.
fn entry(family: &Family, found: &Diff) -> String {
    let surface = family.name;
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
pub(super) fn write_all(files: &Plan) -> Result<(), Failure> {
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
