//! `kalshi setup` and `kalshi config`.

use std::{
    fs,
    io::{IsTerminal as _, stdin},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use kalshi_sdk::OperationId;

use crate::{
    api::Call,
    context::{Context, Target},
    failure::{Failure, Outcome},
    json::Json,
    profile::{self, ConfigFile, SETTINGS},
    prompt,
};

/// Makes a profile: checks the key of an environment and writes down where it is.
///
/// With --key-id and --key-file (or --key-command) nothing is asked. The key itself is not copied.
#[derive(Args)]
pub(crate) struct Command {
    /// Do not ask the exchange whether the key works.
    #[arg(long)]
    offline: bool,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        if context.target == Target::Sim {
            return Err(Failure::usage("--env sim needs no key: it makes its own"));
        }
        let global = &context.global;
        let site = match context.target {
            Target::Production => "kalshi.com",
            _ => "demo.kalshi.co",
        };
        let id = match &global.key_id {
            Some(id) => id.clone(),
            None => {
                ask(
                    &format!("The id of the API key (made at {site}, under Account, API keys): "),
                    "--key-id",
                )
                .await?
            }
        };
        let (key, place) = match (&global.key_file, &global.key_command) {
            (Some(file), _) => ("key_file", absolute(file)),
            (None, Some(command)) => ("key_command", command.clone()),
            (None, None) => {
                let file = ask("The PEM file of its private key: ", "--key-file").await?;
                ("key_file", absolute(Path::new(&file)))
            }
        };
        let context = context.with_key(&id, key, &place);
        context.credentials().await?;
        if key == "key_file" {
            warn_of_mode(&context, Path::new(&place));
        }
        if !self.offline {
            Call::new(OperationId::GetExchangeStatus).send(&context).await?;
            Call::new(OperationId::GetApiKeys).send(&context).await?;
        }
        let name = context.profile.name.clone();
        let mut file = ConfigFile::load()?;
        let other = if key == "key_file" { "key_command" } else { "key_file" };
        file.set(&name, other, "")?;
        for (setting, text) in
            [("env", context.target.name()), ("key_id", id.as_str()), (key, place.as_str())]
        {
            file.set(&name, setting, text)?;
        }
        file.save()?;
        context.output.document(
            &Json::object([
                ("profile", Json::text(&name)),
                ("env", Json::text(context.target.name())),
                ("key_id", Json::text(&id)),
                (key, Json::text(&place)),
                ("checked", Json::Bool(!self.offline)),
                ("config", Json::text(file.path.display().to_string())),
            ]),
            &[],
        )
    }
}

/// Asks for a text on the terminal.
async fn ask(question: &str, option: &str) -> Outcome<String> {
    if !stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{option} is missing, and there is no terminal to ask on"
        )));
    }
    let line = prompt::line(question.to_owned()).await?;
    if line.is_empty() { Err(Failure::declined()) } else { Ok(line) }
}

/// Returns a path that does not depend on the folder in which the command runs.
fn absolute(path: &Path) -> String {
    let whole = if path.starts_with("~") {
        path.to_owned()
    } else {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    };
    whole.display().to_string()
}

/// Warns of a key file that others can read.
fn warn_of_mode(context: &Context, path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        if mode & 0o077 != 0 {
            context.output.note(&format!(
                "warning: others can read {}: chmod 600 {}",
                path.display(),
                path.display()
            ));
        }
    }
    #[cfg(not(unix))]
    let _ = (context, path);
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints the settings of the profile, or one of them.
    Get { setting: Option<String> },
    /// Changes a setting of the profile, or which profile is used (`profile`); an empty value removes it.
    Set {
        setting: String,
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Prints the path of the configuration file.
    Path,
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Path => {
                let path: PathBuf = profile::path()?;
                context.output.document(
                    &Json::object([("path", Json::text(path.display().to_string()))]),
                    &[],
                )
            }
            Self::Set { setting, value } => {
                let mut file = ConfigFile::load()?;
                let name = context.profile.name.clone();
                file.set(&name, &setting, &value)?;
                file.save()?;
                context.output.note(&format!("{setting} of {name:?} in {}", file.path.display()));
                Ok(())
            }
            Self::Get { setting } => get(context, setting.as_deref()),
        }
    }
}

fn get(context: &Context, setting: Option<&str>) -> Outcome {
    let file = ConfigFile::load()?;
    let name = &context.profile.name;
    let value = |setting: &str| {
        let text = file.table(name).and_then(|table| table.get(setting)?.as_str());
        Json::optional(text)
    };
    if let Some(setting) = setting {
        if setting == "profile" {
            return context.output.line(name);
        }
        if !SETTINGS.iter().any(|(known, _)| *known == setting) {
            let known: Vec<_> = SETTINGS.iter().map(|(known, _)| *known).collect();
            let known = known.join(", ");
            return Err(Failure::usage(format!(
                "there is no setting {setting:?}; there are {known}"
            )));
        }
        return context.output.line(&value(setting).cell());
    }
    let mut members = vec![("profile", Json::text(name))];
    members.extend(SETTINGS.iter().map(|(setting, _)| (*setting, value(setting))));
    context.output.document(&Json::object(members), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_down_whole() {
        assert!(absolute(Path::new("key.pem")).ends_with("/key.pem"));
        assert!(Path::new(&absolute(Path::new("key.pem"))).is_absolute());
        assert_eq!(absolute(Path::new("~/key.pem")), "~/key.pem");
    }
}
