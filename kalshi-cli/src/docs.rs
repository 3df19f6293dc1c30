//! `kalshi docs` and `kalshi completions`: what the tree of commands says of itself.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use crate::{
    args::Arguments,
    command::OPERATIONS_USED,
    failure::{Category, Failure, Outcome},
    json::Json,
    output::print,
    profile::SETTINGS,
};

/// Prints a script that completes commands and options in a shell.
///
/// For bash: kalshi completions bash > ~/.local/share/bash-completion/completions/kalshi
#[derive(Args)]
pub(crate) struct CompletionsCommand {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    pub(crate) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "kalshi", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

/// Prints the documentation of all commands.
#[derive(Args)]
pub(crate) struct Command {
    /// The form.
    #[arg(long, value_enum, default_value = "md")]
    format: Form,
    /// The folder for manual pages.
    #[arg(long, value_name = "FOLDER", required_if_eq("format", "man"))]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON document: commands, options, operations, exit codes.
    Json,
    /// Markdown.
    Md,
    /// Manual pages, one file for each command.
    Man,
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match (self.format, self.folder) {
            (Form::Json, _) => print(&format!("{}\n", json().pretty())),
            (Form::Md, _) => print(&markdown()),
            (Form::Man, folder) => {
                let folder = folder.unwrap_or_default();
                std::fs::create_dir_all(&folder)
                    .and_then(|()| clap_mangen::generate_to(Arguments::command(), &folder))
                    .map_err(|error| {
                        Failure::local(format!("could not write to {}: {error}", folder.display()))
                    })
            }
        }
    }
}

/// A command that does something, with the words that lead to it.
struct Leaf {
    path: String,
    command: clap::Command,
}

/// Returns every command that does something, in the order of the tree.
fn leaves() -> Vec<Leaf> {
    fn walk(command: &clap::Command, path: &str, into: &mut Vec<Leaf>) {
        let inner: Vec<_> = command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
            .collect();
        // `api` does something by itself, and has commands below it.
        let acts = inner.is_empty() || !command.is_subcommand_required_set();
        if acts && !path.is_empty() {
            into.push(Leaf { path: path.to_owned(), command: command.clone() });
        }
        for command in inner {
            walk(command, format!("{path} {}", command.get_name()).trim(), into);
        }
    }
    let mut root = Arguments::command();
    root.build();
    let mut leaves = Vec::new();
    walk(&root, "", &mut leaves);
    leaves
}

fn operations(path: &str) -> Vec<&'static str> {
    let used = operations_used().into_iter().filter(|(known, _)| covers(known, path));
    used.max_by_key(|(known, _)| known.len()).map(|(_, ids)| ids).unwrap_or_default()
}

/// Returns the commands that name their operations, each with the names of these.
fn operations_used() -> Vec<(&'static str, Vec<&'static str>)> {
    let used = OPERATIONS_USED.iter();
    let used = used.map(|(named, ids)| (*named, ids.iter().map(|id| id.as_str()).collect()));
    #[cfg(feature = "perps")]
    let used = used.chain({
        let used = crate::command::perps::OPERATIONS_USED.iter();
        used.map(|(named, ids)| (*named, ids.iter().map(|id| id.as_str()).collect()))
    });
    used.collect()
}

/// Reports whether an entry is about a command: that command, or a group that it is in.
fn covers(named: &str, path: &str) -> bool {
    path.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Returns the arguments of a command that are its own.
fn own_arguments(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|argument| {
        !argument.is_global_set()
            && !argument.is_hide_set()
            && !matches!(argument.get_id().as_str(), "help" | "version")
    })
}

fn argument(argument: &clap::Arg) -> Json {
    let takes_value = argument.get_action().takes_values();
    let value = || {
        let names = argument.get_value_names()?;
        Some(names.iter().map(clap::builder::Str::as_str).collect::<Vec<_>>().join(" "))
    };
    let values: Vec<Json> = if takes_value {
        let possible = argument.get_possible_values();
        possible.iter().map(|value| Json::text(value.get_name())).collect()
    } else {
        Vec::new()
    };
    let default: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    Json::object([
        ("name", Json::text(name(argument))),
        ("short", Json::optional(argument.get_short().map(|short| format!("-{short}")))),
        ("value", Json::optional(takes_value.then(value).flatten())),
        ("required", Json::Bool(argument.is_required_set())),
        ("repeats", Json::Bool(matches!(argument.get_action(), clap::ArgAction::Append))),
        ("values", Json::List(values)),
        (
            "default",
            if takes_value && !default.is_empty() {
                Json::text(default.join(","))
            } else {
                Json::Null
            },
        ),
        ("help", Json::text(help(argument))),
    ])
}

fn name(argument: &clap::Arg) -> String {
    match argument.get_long() {
        Some(long) => format!("--{long}"),
        None => argument.get_id().as_str().to_uppercase(),
    }
}

fn help(argument: &clap::Arg) -> String {
    argument.get_help().map(ToString::to_string).unwrap_or_default()
}

fn about(command: &clap::Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// Returns the exit codes, each with its categories.
fn exit_codes() -> BTreeMap<u8, Vec<Category>> {
    let mut codes: BTreeMap<u8, Vec<Category>> = BTreeMap::new();
    for category in Category::ALL {
        codes.entry(category.exit_code()).or_default().push(category);
    }
    codes
}

fn json() -> Json {
    let mut root = Arguments::command();
    root.build();
    let globals = root.get_arguments().filter(|argument| argument.is_global_set());
    let codes = exit_codes().into_iter().flat_map(|(code, categories)| {
        categories.into_iter().map(move |category| {
            Json::object([
                ("code", Json::number(code)),
                ("category", Json::text(category.name())),
                ("meaning", Json::text(category.meaning())),
            ])
        })
    });
    let settings = SETTINGS.iter().map(|(name, meaning)| {
        Json::object([("name", Json::text(*name)), ("meaning", Json::text(*meaning))])
    });
    let commands = leaves().into_iter().map(|leaf| {
        let used = operations(&leaf.path).into_iter().map(Json::text).collect();
        Json::object([
            ("command", Json::text(&leaf.path)),
            ("about", Json::text(about(&leaf.command))),
            ("arguments", Json::List(own_arguments(&leaf.command).map(argument).collect())),
            ("operations", Json::List(used)),
        ])
    });
    Json::object([
        ("program", Json::text("kalshi")),
        ("about", Json::text(about(&root))),
        ("global_options", Json::List(globals.map(argument).collect())),
        ("commands", Json::List(commands.collect())),
        ("exit_codes", Json::List(codes.collect())),
        ("settings", Json::List(settings.collect())),
    ])
}

fn markdown() -> String {
    let mut root = Arguments::command();
    root.build();
    let mut out = format!("# kalshi\n\n{}\n\n## Options of every command\n\n", about(&root));
    let line = |argument: &clap::Arg| {
        let mut name = match argument.get_short() {
            Some(short) => format!("-{short}, {}", name(argument)),
            None => name(argument),
        };
        if argument.get_action().takes_values()
            && argument.get_long().is_some()
            && let Some(values) = argument.get_value_names()
        {
            for value in values {
                let _ = write!(name, " {value}");
            }
        }
        format!("- `{name}`: {}\n", help(argument))
    };
    for argument in root.get_arguments().filter(|argument| argument.is_global_set()) {
        out.push_str(&line(argument));
    }
    out.push_str("\n## Commands\n");
    for leaf in leaves() {
        let _ = write!(out, "\n### kalshi {}\n\n{}\n", leaf.path, about(&leaf.command));
        let arguments: Vec<String> = own_arguments(&leaf.command).map(line).collect();
        if !arguments.is_empty() {
            let _ = write!(out, "\n{}", arguments.concat());
        }
        let used = operations(&leaf.path);
        if !used.is_empty() {
            let _ = write!(out, "\nOperations: `{}`\n", used.join("`, `"));
        }
    }
    out.push_str(
        "\n## Exit codes\n\n| code | category | meaning |\n|---|---|---|\n| 0 | | done |\n",
    );
    for (code, categories) in exit_codes() {
        for category in categories {
            let _ = writeln!(out, "| {code} | `{}` | {} |", category.name(), category.meaning());
        }
    }
    out.push_str("\n## Settings of a profile\n\n| setting | meaning |\n|---|---|\n");
    for (name, meaning) in SETTINGS {
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Commands that use no operation, or any; those of streams use the channels.
    const WITHOUT: [&str; 26] = [
        "api",
        "api list",
        "api show",
        "completions",
        "config get",
        "config path",
        "config set",
        "docs",
        "export compact",
        "export recording",
        "fanout follow",
        "fanout publish",
        "fanout up",
        "klear api",
        "klear api list",
        "klear api show",
        "mcp",
        "mcp confirm",
        "perps api",
        "perps api list",
        "perps api show",
        "record",
        "replay",
        "sim",
        "stream",
        "tui",
    ];

    #[test]
    fn every_command_names_the_operations_that_it_uses() {
        let tree: BTreeSet<String> = leaves().into_iter().map(|leaf| leaf.path).collect();
        for path in &tree {
            let is_named = !operations(path).is_empty() || WITHOUT.contains(&path.as_str());
            assert!(is_named, "{path} is not in OPERATIONS_USED");
        }
        for (named, ids) in operations_used() {
            assert!(tree.iter().any(|path| covers(named, path)), "there is no {named}");
            assert!(!ids.is_empty(), "{named}");
        }
    }

    #[test]
    fn every_command_and_argument_is_described() {
        for leaf in leaves() {
            assert!(!about(&leaf.command).is_empty(), "{}", leaf.path);
            for argument in own_arguments(&leaf.command) {
                let is_plain = argument.get_long().is_none();
                assert!(is_plain || !help(argument).is_empty(), "{} {argument}", leaf.path);
            }
        }
    }

    /// A global option that a command had under the same name would be out of reach.
    #[test]
    fn no_command_shadows_a_global_option() {
        let mut root = Arguments::command();
        root.build();
        let globals: Vec<_> = root.get_arguments().filter(|a| a.is_global_set()).collect();
        assert!(globals.iter().any(|global| global.get_long() == Some("env")));
        for leaf in leaves() {
            for own in own_arguments(&leaf.command) {
                for global in &globals {
                    let same_long = own.get_long().is_some() && own.get_long() == global.get_long();
                    let same_short =
                        own.get_short().is_some() && own.get_short() == global.get_short();
                    assert!(!same_long && !same_short, "{} {own}", leaf.path);
                }
            }
        }
    }
}
