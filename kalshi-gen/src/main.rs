//! The command behind `cargo gen`.
#![expect(clippy::print_stderr, reason = "a command speaks to its user")]

mod command;

use std::{
    env,
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use kalshi_gen::{
    Coverage, FAMILIES, Family, Generated, Overlay, Unmatched, generate_any, read, read_overlays,
};

/// From the published documents of the Kalshi APIs to Rust.
#[derive(Parser)]
#[command(name = "cargo gen", bin_name = "cargo gen", version)]
struct Arguments {
    /// The folder with openapi.yaml and overlay/; found upwards from here by default.
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate every document, report what each pass did and what is undocumented, compare the
    /// review files. Writes nothing.
    Check,
    /// Rewrite the review files and the metadata from the documents, or take over a published
    /// document with everything that follows from it (`--from FILE`).
    Update(command::update::Arguments),
    /// Write the code that the published packages ship, for builds without the feature `generate`.
    Package,
    /// Compare two documents: what changed, and who breaks.
    Diff(command::diff::Arguments),
    /// Print what one of the workspace's documents turns into.
    Dump {
        #[arg(value_enum, default_value = "code")]
        what: What,
        /// The document.
        #[arg(long, default_value = "openapi.yaml")]
        document: String,
    },
    /// Print Rust for any document, OpenAPI 3.0 or `AsyncAPI` 3.
    Generate {
        /// The document, YAML or JSON.
        #[arg(long)]
        spec: PathBuf,
        /// Apply the overlays of the workspace's document of the same kind; actions that match
        /// nothing are left out.
        #[arg(long)]
        overlays: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The Rust code, formatted.
    Code,
    /// The document after every pass, as JSON.
    Document,
    /// The operations under review.
    Operations,
    /// The types under review.
    Types,
}

/// The end of a failed run: 1 for a finding, 2 for input that cannot be used.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn input(message: String) -> Self {
        Self { code: 2, message }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { code: 2, message: error.to_string() }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Prints help, or what is wrong with the arguments and what they look like.
fn usage(error: &clap::Error) -> ExitCode {
    // A terminal that has gone away cannot be told so.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nFor example:\n  cargo gen check\n  cargo gen update --from PUBLISHED.yaml\n  \
         cargo gen diff OLD.yaml NEW.yaml\n  cargo gen generate --spec ANY.yaml"
    );
    ExitCode::from(2)
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Check => check(&root(arguments)?),
        Command::Update(update) => command::update::run(update, &root(arguments)?),
        Command::Package => command::package::run(&root(arguments)?),
        Command::Diff(diff) => command::diff::run(diff, root(arguments).ok().as_deref()),
        Command::Dump { what, document } => dump(&root(arguments)?, *what, document),
        Command::Generate { spec, overlays } => {
            let text = read(spec)?;
            let overlays =
                if *overlays { overlays_for(&text, &root(arguments)?)? } else { Vec::new() };
            let generated = generate_any(&text, &overlays, Unmatched::Count)
                .map_err(|error| refused(spec, "overlay", &overlays, &error))?;
            print(&formatted(&generated)?)
        }
    }
}

/// Returns the overlays of the document that this one is an edition of, or else of the first of the
/// same kind. What is no document is refused later, by name.
fn overlays_for(text: &str, root: &Path) -> Result<Vec<Overlay>, Failure> {
    let document = kalshi_gen::parse(text);
    let kind = document.as_ref().map_err(Clone::clone).and_then(kalshi_gen::kind);
    let mut families = FAMILIES.iter().filter(|family| Ok(family.kind) == kind);
    let is_edition = |family: &&&Family| {
        let own = read(&root.join(family.file)).ok().and_then(|own| kalshi_gen::parse(&own).ok());
        let documents = document.as_ref().ok().zip(own);
        documents.is_some_and(|(document, own)| family.check(document, &own).is_ok())
    };
    let family = families.clone().find(|family| is_edition(&family)).or_else(|| families.next());
    family.map_or(Ok(Vec::new()), |family| overlays_of(family, root))
}

/// Returns the overlays that belong to a document, none if it has no folder of them.
fn overlays_of(family: &Family, root: &Path) -> Result<Vec<Overlay>, Failure> {
    let folder = root.join(family.overlays);
    if folder.is_dir() { Ok(read_overlays(&folder)?) } else { Ok(Vec::new()) }
}

/// Returns the nearest folder upwards that has both openapi.yaml and overlay/.
fn root(arguments: &Arguments) -> Result<PathBuf, Failure> {
    if let Some(root) = &arguments.root {
        return Ok(root.clone());
    }
    let here = env::current_dir()?;
    here.ancestors()
        .find(|folder| folder.join("openapi.yaml").is_file() && folder.join("overlay").is_dir())
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure {
            code: 2,
            message: "no openapi.yaml with overlay/ here or above; name the folder with --root"
                .to_owned(),
        })
}

/// Returns the failure that an error of the generator is, with the file that it is in.
fn refused(spec: &Path, folder: &str, overlays: &[Overlay], error: &kalshi_gen::Error) -> Failure {
    let in_overlay = |o: &Overlay| error.pointer().starts_with(&format!("{}#", o.name));
    Failure::input(if overlays.iter().any(in_overlay) {
        format!("{folder}/{error}")
    } else {
        format!("{}: {error}", spec.display())
    })
}

/// Generates the document of a family; `None` if the root does not have it.
fn from_root(family: &Family, root: &Path) -> Result<Option<Generated>, Failure> {
    let spec = root.join(family.file);
    if !spec.is_file() {
        return Ok(None);
    }
    let overlays = overlays_of(family, root)?;
    family
        .generate(&read(&spec)?, &overlays, Unmatched::Refuse)
        .map(Some)
        .map_err(|error| refused(&spec, family.overlays, &overlays, &error))
}

/// Generates each document that the root has; at least one.
fn all(root: &Path) -> Result<Vec<(&'static Family, Generated)>, Failure> {
    let mut found = Vec::new();
    for family in FAMILIES {
        found.extend(from_root(family, root)?.map(|generated| (family, generated)));
    }
    if found.is_empty() {
        let files: Vec<&str> = FAMILIES.iter().map(|family| family.file).collect();
        let message = format!("{}: neither {} is here", root.display(), files.join(" nor "));
        return Err(Failure::input(message));
    }
    Ok(found)
}

/// Returns the review files of a document, each with the text that it is to have.
fn reviews(family: &Family, generated: &Generated) -> Vec<(&'static str, String)> {
    let review = generated.review();
    let mut found = Vec::new();
    found.extend(family.operations.map(|file| (file, review.operations)));
    found.push((family.types, review.types));
    found
}

fn check(root: &Path) -> Result<(), Failure> {
    let mut messages = Vec::new();
    for (family, generated) in all(root)? {
        messages.extend(check_one(family, &generated, root)?);
    }
    if messages.is_empty() {
        Ok(())
    } else {
        Err(Failure { code: 1, message: messages.join("; ") })
    }
}

/// Reports on one document; what comes back has to be put right.
fn check_one(family: &Family, generated: &Generated, root: &Path) -> Result<Vec<String>, Failure> {
    let coverage = generated.coverage();
    let mut report = format!("{} ({})\n", family.name, family.file);
    let _ = writeln!(report, "overlay actions applied: {}", generated.applied.actions);
    for redundant in &generated.applied.redundant {
        let _ = writeln!(report, "redundant: {}/{redundant}", family.overlays);
    }
    for (pass, fired) in &generated.normalized.report {
        let _ = writeln!(report, "{pass}: {fired}");
    }
    if !generated.operations.is_empty() {
        let _ = writeln!(report, "operations: {}", generated.operations.len());
    }
    let (flags, marked) = coverage.deprecated;
    let _ = writeln!(report, "deprecated: {flags} in the document, {marked} in the code");
    documentation(&mut report, &coverage);
    for finding in &coverage.unformatted {
        let _ = writeln!(report, "{finding}");
    }
    report.push('\n');
    print(&report)?;
    let stale: Vec<&str> = reviews(family, generated)
        .into_iter()
        .filter(|(name, text)| read(&root.join(name)).ok().as_ref() != Some(text))
        .map(|(name, _)| name)
        .collect();
    let mut messages = Vec::new();
    if !stale.is_empty() {
        messages.push(format!("{} out of date: run `cargo gen update`", stale.join(", ")));
    }
    let undocumented = coverage.findings.len();
    if undocumented > 0 {
        messages.push(format!("{undocumented} undocumented items ({})", family.overlays));
    }
    let unformatted = coverage.unformatted.len();
    if unformatted > 0 {
        messages.push(format!("{unformatted} fields without a format ({})", family.overlays));
    }
    // A type that is written by hand has neither its field's attribute nor its setter's.
    if flags != marked && family.by_hand.is_empty() {
        messages.push(format!("{} deprecations did not reach the code", flags.abs_diff(marked)));
    }
    Ok(messages)
}

/// Reports what is documented. Kinds of which the document has nothing are left out.
fn documentation(report: &mut String, coverage: &Coverage) {
    for (kind, with, without) in coverage.kinds.iter().filter(|(_, a, b)| a + b > 0) {
        let _ = writeln!(report, "{kind}: {with} documented, {without} undocumented");
    }
    for finding in &coverage.findings {
        let _ = writeln!(report, "{finding}");
    }
}

fn dump(root: &Path, what: What, document: &str) -> Result<(), Failure> {
    let Some(family) = Family::of_file(document) else {
        let files: Vec<&str> = FAMILIES.iter().map(|family| family.file).collect();
        let message =
            format!("`{document}` is no document of this workspace: {}", files.join(", "));
        return Err(Failure::input(message));
    };
    let Some(generated) = from_root(family, root)? else {
        return Err(Failure::input(format!("{} is not here", root.join(document).display())));
    };
    match what {
        What::Code => print(&formatted(&generated)?),
        What::Document => print(&format!("{:#}\n", generated.normalized.document)),
        What::Operations => print(&generated.review().operations),
        What::Types => print(&generated.review().types),
    }
}

/// Returns the code, formatted for people to read.
fn formatted(generated: &Generated) -> Result<String, Failure> {
    let file = syn::parse_file(&generated.code).map_err(|error| Failure {
        code: 2,
        message: format!("the generated code does not parse: {error}"),
    })?;
    Ok(prettyplease::unparse(&file))
}

/// Prints; a reader that has gone away (`| head`) is no error, a full disk is one.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure { code: 2, message: format!("standard output: {error}") })
        }
        _ => Ok(()),
    }
}
