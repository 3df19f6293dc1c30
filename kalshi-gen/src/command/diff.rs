//! `cargo gen diff OLD NEW`: ends with 0, 1 if something is at or above the level that fails, and 2
//! if the documents cannot be compared.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kalshi_gen::{
    diff::{Accepted, Context, Diff, Format, Level, Side, diff},
    read,
};

use crate::{Failure, print};

/// The file of accepted changes, below the root.
const ACCEPTED: &str = "accepted.yaml";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The document that was: OpenAPI 3 or `AsyncAPI` 3, YAML or JSON.
    old: PathBuf,
    /// The document that is to be.
    new: PathBuf,
    /// What the report looks like.
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArgument,
    /// End with 1 if a change that is not accepted is of this level or a worse one.
    #[arg(long, value_enum, default_value = "breaking")]
    fail_on: FailOn,
    /// Fingerprints of accepted changes, with reasons; `accepted.yaml` of the root by default.
    #[arg(long)]
    accepted: Option<PathBuf>,
    /// The version of the crate, for the release that follows; that of the root by default.
    #[arg(long)]
    crate_version: Option<String>,
    /// The path that annotations name, where it is not that of the new document.
    #[arg(long)]
    file: Option<String>,
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
    /// Anything that breaks a deployed client or its callers' code.
    Breaking,
    /// Also what behaves differently or is deprecated.
    Warning,
    /// Any change.
    Info,
    /// Nothing.
    Never,
}

pub(crate) fn run(arguments: &Arguments, root: Option<&Path>) -> Result<(), Failure> {
    let new_text = read(&arguments.new)?;
    let mut found = compare(&arguments.old, &read(&arguments.old)?, &arguments.new, &new_text)?;
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
    let message = format!("{above} changes at or above `{limit}` that are not accepted");
    Err(Failure { code: 1, message })
}

/// Compares two texts that were read from these files.
pub(crate) fn compare(
    old: &Path,
    old_text: &str,
    new: &Path,
    new_text: &str,
) -> Result<Diff, Failure> {
    diff(old_text, new_text).map_err(|(side, error)| {
        let file = if side == Side::Old { old } else { new };
        Failure::input(format!("{}: {error}", file.display()))
    })
}

/// The version in the root's Cargo.toml: the first that stands there alone on a line.
pub(crate) fn crate_version(root: &Path) -> Option<String> {
    let manifest = read(&root.join("Cargo.toml")).ok()?;
    let mut lines = manifest.lines();
    let line = lines.find_map(|line| line.strip_prefix("version = \""))?;
    Some(line.trim_end_matches('"').to_owned())
}
