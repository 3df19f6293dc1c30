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
    Coverage, Generated, Overlay, Unmatched, generate, generate_streams, read, read_overlays,
};

/// From the OpenAPI document of the Kalshi Trade API to Rust.
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
    /// Generate, report what each pass did and which places lack words, compare the review files.
    /// Writes nothing.
    Check,
    /// Rewrite the review files (tests/golden) and the metadata from the documents, or take over a
    /// published document with everything that follows from it.
    Update(command::update::Arguments),
    /// Compare two documents: what changed, and who breaks.
    Diff(command::diff::Arguments),
    /// Print what the workspace's document turns into.
    Dump {
        #[arg(value_enum, default_value = "code")]
        what: What,
    },
    /// Print Rust for any document of this family.
    Generate {
        /// An OpenAPI 3.0 document, YAML or JSON.
        #[arg(long)]
        spec: PathBuf,
        /// Apply the workspace's overlays too; actions that match nothing are left out.
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

/// The files that `update` writes and `check` compares.
const REVIEW: [&str; 2] = ["tests/golden/operations.txt", "tests/golden/types.txt"];

/// What a failed run ends with: 1 for a finding, 2 for input that cannot be used.
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
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Check => check(&root(arguments)?),
        Command::Update(update) => command::update::run(update, &root(arguments)?),
        Command::Diff(diff) => command::diff::run(diff, root(arguments).ok().as_deref()),
        Command::Dump { what } => dump(&root(arguments)?, *what),
        Command::Generate { spec, overlays } => {
            let overlays = if *overlays {
                read_overlays(&root(arguments)?.join("overlay"))?
            } else {
                Vec::new()
            };
            print(&formatted(&from(spec, &overlays, Unmatched::Count)?)?)
        }
    }
}

/// The nearest folder upwards that has both openapi.yaml and overlay/.
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

fn from(spec: &Path, overlays: &[Overlay], unmatched: Unmatched) -> Result<Generated, Failure> {
    generate(&read(spec)?, overlays, unmatched).map_err(|error| {
        let in_overlay = |o: &Overlay| error.pointer().starts_with(&format!("{}#", o.name));
        let message = if overlays.iter().any(in_overlay) {
            format!("overlay/{error}")
        } else {
            format!("{}: {error}", spec.display())
        };
        Failure { code: 2, message }
    })
}

fn from_root(root: &Path) -> Result<Generated, Failure> {
    from(&root.join("openapi.yaml"), &read_overlays(&root.join("overlay"))?, Unmatched::Refuse)
}

fn check(root: &Path) -> Result<(), Failure> {
    let generated = from_root(root)?;
    let coverage = generated.coverage();
    let mut report = format!("overlay actions applied: {}\n", generated.applied.actions);
    for (pass, fired) in &generated.normalised.report {
        let _ = writeln!(report, "{pass}: {fired}");
    }
    let _ = writeln!(report, "operations: {}", generated.operations.len());
    let (flags, marked) = coverage.deprecated;
    let _ = writeln!(report, "deprecated: {flags} in the document, {marked} in the code");
    words(&mut report, "", &coverage);
    let streams = streams(root)?.map(|generated| generated.coverage());
    if let Some(streams) = &streams {
        words(&mut report, "of the streams ", streams);
    }
    print(&report)?;
    let review = generated.review();
    let stale: Vec<&str> = REVIEW
        .into_iter()
        .zip([&review.operations, &review.types])
        .filter(|(name, text)| read(&root.join(name)).ok().as_ref() != Some(text))
        .map(|(name, _)| name)
        .collect();
    let mut messages = Vec::new();
    if !stale.is_empty() {
        messages.push(format!("{} out of date; run `cargo gen update`", stale.join(", ")));
    }
    for (folder, coverage) in
        [("overlay/docs", Some(&coverage)), ("kalshi-ws/overlay", streams.as_ref())]
    {
        let count = coverage.map_or(0, |coverage| coverage.findings.len());
        if count > 0 {
            messages.push(format!("{count} places lack words that say something ({folder})"));
        }
    }
    if flags != marked {
        messages.push(format!("{} deprecations did not reach the code", flags.abs_diff(marked)));
    }
    if messages.is_empty() {
        Ok(())
    } else {
        Err(Failure { code: 1, message: messages.join("; ") })
    }
}

/// What the document of the streams turns into, where the folder has one.
fn streams(root: &Path) -> Result<Option<Generated>, Failure> {
    let spec = root.join("kalshi-ws/asyncapi.yaml");
    if !spec.is_file() {
        return Ok(None);
    }
    let overlays = read_overlays(&root.join("kalshi-ws/overlay"))?;
    generate_streams(&read(&spec)?, &overlays, Unmatched::Refuse)
        .map(Some)
        .map_err(|error| Failure::input(format!("{}: {error}", spec.display())))
}

/// Reports what has words. Kinds of which the document has nothing are left out.
fn words(report: &mut String, of: &str, coverage: &Coverage) {
    for (kind, with, without) in coverage.kinds.iter().filter(|(_, a, b)| a + b > 0) {
        let _ = writeln!(report, "words: {with} {kind} {of}with, {without} without");
    }
    for finding in &coverage.findings {
        let _ = writeln!(report, "{finding}");
    }
}

fn dump(root: &Path, what: What) -> Result<(), Failure> {
    let generated = from_root(root)?;
    match what {
        What::Code => print(&formatted(&generated)?),
        What::Document => print(&format!("{:#}\n", generated.normalised.document)),
        What::Operations => print(&generated.review().operations),
        What::Types => print(&generated.review().types),
    }
}

/// Code for people to read.
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
