//! `cargo gen diff OLD NEW`: exits with 0, with 1 if a change is at or above the level that fails, and
//! with 2 if the documents cannot be compared.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kalshi_gen::{
    FAMILIES, Family, Overlay,
    diff::{Accepted, Context, Diff, Format, Level, Side, diff_with_overlays},
    parse, read, read_overlays,
};

use crate::{Failure, print};

/// The file of accepted changes, below the root.
const ACCEPTED: &str = "accepted.yaml";

/// Shown after the help and after wrong usage.
const EXAMPLES: &str = "\
Examples:
  cargo gen diff openapi.yaml downloaded.yaml
  cargo gen diff old.yaml new.yaml --format markdown --fail-on never
  cargo gen diff old.yaml new.yaml --published-only

Both documents must be of one kind, OpenAPI 3 or AsyncAPI 3.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The document to compare with: OpenAPI 3 or `AsyncAPI` 3, YAML or JSON.
    old: PathBuf,
    /// The document that replaces it.
    new: PathBuf,
    /// The format of the report.
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArgument,
    /// Exit with 1 if a change that is not accepted is of this level or a worse one.
    #[arg(long, value_enum, default_value = "breaking")]
    fail_on: FailOn,
    /// Fingerprints of accepted changes, with reasons; `accepted.yaml` of the root by default.
    #[arg(long)]
    accepted: Option<PathBuf>,
    /// The current version of the crate, for the release that follows; that of the root by default.
    #[arg(long)]
    crate_version: Option<String>,
    /// The path that annotations name, where it is not that of the new document.
    #[arg(long)]
    file: Option<String>,
    /// Judge clients of the documents as they are published. By default verdicts know the overlays
    /// of the root, where the documents are editions of its own.
    #[arg(long)]
    published_only: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArgument {
    Text,
    Json,
    Markdown,
    Github,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    /// A change that breaks a deployed client or its callers' code.
    Breaking,
    /// A change in behavior or a deprecation, too.
    Warning,
    /// Any change.
    Info,
    /// No change at all.
    Never,
}

pub(crate) fn run(arguments: &Arguments, root: Option<&Path>) -> Result<(), Failure> {
    let new_text = read(&arguments.new)?;
    let old_text = read(&arguments.old)?;
    let known = root.filter(|_| !arguments.published_only);
    let mut found = compare(known, &arguments.old, &old_text, &arguments.new, &new_text)?;
    let default = root.map(|root| root.join(ACCEPTED)).filter(|path| path.is_file());
    let mut unused = Vec::new();
    if let Some(path) = arguments.accepted.as_ref().or(default.as_ref()) {
        let accepted = Accepted::parse(&read(path)?)
            .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
        unused = found.accept(&accepted);
    }
    let version = arguments.crate_version.clone().or_else(|| crate_version(root?));
    if let Some(version) = &version {
        found.next_version(version).map_err(|error| Failure::input(error.message().to_owned()))?;
    }
    let shown = arguments.new.display().to_string();
    let context = Context {
        version: version.as_deref(),
        file: Some(arguments.file.as_deref().unwrap_or(&shown)),
        text: Some(&new_text),
    };
    let format = match arguments.format {
        FormatArgument::Text => Format::Text,
        FormatArgument::Json => Format::Json,
        FormatArgument::Markdown => Format::Markdown,
        FormatArgument::Github => Format::Github,
    };
    print(&found.render(format, &context))?;
    if matches!(arguments.format, FormatArgument::Text) {
        for fingerprint in unused {
            print(&format!("accepted, but not among the changes: {fingerprint}\n"))?;
        }
    }
    let limit = match arguments.fail_on {
        FailOn::Breaking => Level::Breaking,
        FailOn::Warning => Level::Warning,
        FailOn::Info => Level::Info,
        FailOn::Never => return Ok(()),
    };
    let above = found.open().filter(|change| change.level() >= limit).count();
    if above == 0 {
        return Ok(());
    }
    let message = format!(
        "{above} changes at or above `{limit}` are not accepted; accept them with a reason in \
         {ACCEPTED}, or choose another --fail-on"
    );
    Err(Failure { code: 1, message })
}

/// Compares two texts that were read from these files. With a root, verdicts know its overlays.
pub(crate) fn compare(
    root: Option<&Path>,
    old: &Path,
    old_text: &str,
    new: &Path,
    new_text: &str,
) -> Result<Diff, Failure> {
    let overlays = match root {
        Some(root) => overlays(root, (old, old_text), (new, new_text))?,
        None => Vec::new(),
    };
    diff_with_overlays(old_text, new_text, &overlays).map_err(|(side, error)| {
        if overlays.iter().any(|overlay| error.pointer().starts_with(&format!("{}#", overlay.name)))
        {
            return Failure::input(format!("overlay/{error}"));
        }
        let file = if side == Side::Old { old } else { new };
        Failure::input(format!("{}: {error}", file.display()))
    })
}

/// Returns the overlays of the root that belong to the documents: where one of them is the root's
/// own, or an edition of it.
fn overlays(root: &Path, old: (&Path, &str), new: (&Path, &str)) -> Result<Vec<Overlay>, Failure> {
    // A document that cannot be read is reported by the comparison.
    let is_edition = |family: &Family, own: &str, text: &str| {
        let documents = parse(own).and_then(|own| Ok((own, parse(text)?)));
        documents.is_ok_and(|(own, other)| family.check(&other, &own).is_ok())
    };
    for family in FAMILIES {
        let (own, folder) = (root.join(family.file), root.join(family.overlays));
        if !own.is_file() || !folder.is_dir() {
            continue;
        }
        let is_own = |path: &Path| path.canonicalize().ok() == own.canonicalize().ok();
        let matches = is_own(old.0) || is_own(new.0) || {
            let text = read(&own)?;
            is_edition(family, &text, old.1) || is_edition(family, &text, new.1)
        };
        if matches {
            return Ok(read_overlays(&folder)?);
        }
    }
    Ok(Vec::new())
}

/// Returns the version in the root's Cargo.toml: the first that stands there alone on a line.
pub(crate) fn crate_version(root: &Path) -> Option<String> {
    let manifest = read(&root.join("Cargo.toml")).ok()?;
    let mut lines = manifest.lines();
    let line = lines.find_map(|line| line.strip_prefix("version = \""))?;
    Some(line.trim_end_matches('"').to_owned())
}
