//! The configuration file: profiles with an environment and the *path* of a key, never a key.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use kalshi_sdk::Dollars;
use toml_edit::{DocumentMut, Item, Table, value};

use crate::{
    args::{Format, duration},
    context::Target,
    failure::{Failure, Outcome},
};

/// The settings of a profile, with what each means.
pub(crate) const SETTINGS: [(&str, &str); 7] = [
    ("env", "demo, production, sim or the URL of an exchange"),
    ("key_id", "the id of the API key"),
    ("key_file", "the PEM file of the private key"),
    ("key_command", "a shell command that prints the PEM text of the private key"),
    ("output", "table, json, ndjson or csv"),
    ("timeout", "the time limit of a request, such as 10s"),
    ("max_order_cost", "the most dollars that one order may cost; --yes does not lift it"),
];

/// The name of the profile that is used unless another is named.
const DEFAULT: &str = "default";

/// The settings of one profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) env: Option<Target>,
    pub(crate) key_id: Option<String>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) key_command: Option<String>,
    pub(crate) output: Option<Format>,
    pub(crate) timeout: Option<Duration>,
    /// The most that one order may cost.
    pub(crate) max_order_cost: Option<Dollars>,
}

impl Profile {
    /// Reads a profile. One that is named must exist unless the command makes it.
    pub(crate) fn load(name: Option<&str>, may_be_new: bool) -> Outcome<Self> {
        let file = ConfigFile::load()?;
        let name = file.selected(name);
        match file.table(&name) {
            Some(table) => Self::read(&name, table)
                .map_err(|text| Failure::usage(format!("{}: {text}", file.path.display()))),
            None if name == DEFAULT || may_be_new => Ok(Self { name, ..Self::default() }),
            None => Err(Failure::usage(format!("{} has no profile {name:?}", file.path.display()))
                .with_next(format!("kalshi setup --profile {name}"))),
        }
    }

    fn read(name: &str, table: &Table) -> Result<Self, String> {
        let mut profile = Self { name: name.to_owned(), ..Self::default() };
        for (key, item) in table {
            let Some(text) = item.as_str() else {
                return Err(format!("profiles.{name}.{key} must be a text in quotes"));
            };
            profile.set(key, text).map_err(|error| format!("profiles.{name}.{key}: {error}"))?;
        }
        if profile.key_file.is_some() && profile.key_command.is_some() {
            return Err(format!("profiles.{name} has both key_file and key_command"));
        }
        Ok(profile)
    }

    /// Checks and takes one setting.
    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        if text.contains("PRIVATE KEY") {
            return Err("a key does not belong into the configuration: name its file".to_owned());
        }
        match key {
            "env" => self.env = Some(text.parse()?),
            "key_id" => self.key_id = Some(text.to_owned()),
            "key_file" => self.key_file = Some(text.into()),
            "key_command" => self.key_command = Some(text.to_owned()),
            "output" => self.output = Some(<Format as clap::ValueEnum>::from_str(text, false)?),
            "timeout" => self.timeout = Some(duration(text)?),
            "max_order_cost" => {
                let dollars: Dollars =
                    text.parse().map_err(|error| format!("{text:?} is no amount: {error}"))?;
                if !dollars.is_positive() {
                    return Err(format!("{text:?} is not above zero"));
                }
                self.max_order_cost = Some(dollars);
            }
            _ => {
                let known: Vec<_> = SETTINGS.iter().map(|(name, _)| *name).collect();
                return Err(format!("there is no such setting; there are {}", known.join(", ")));
            }
        }
        Ok(())
    }
}

/// The configuration file, whose remarks and order are kept when it is changed.
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    document: DocumentMut,
}

impl ConfigFile {
    /// Reads the file; one that is missing is empty.
    pub(crate) fn load() -> Outcome<Self> {
        let path = path()?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Failure::usage(format!("could not read {}: {error}", path.display())));
            }
        };
        let document = text.parse().map_err(|error: toml_edit::TomlError| {
            Failure::usage(format!("{}: {}", path.display(), error.message()))
        })?;
        Ok(Self { path, document })
    }

    /// Returns the name of the profile in use.
    pub(crate) fn selected(&self, name: Option<&str>) -> String {
        let own = || self.document.get("profile").and_then(Item::as_str);
        name.or_else(own).unwrap_or(DEFAULT).to_owned()
    }

    pub(crate) fn table(&self, profile: &str) -> Option<&Table> {
        self.document.get("profiles")?.as_table()?.get(profile)?.as_table()
    }

    /// Sets a setting of a profile; an empty text removes it.
    pub(crate) fn set(&mut self, profile: &str, key: &str, text: &str) -> Outcome {
        let bad = |error: String| Failure::usage(format!("{key}: {error}"));
        if key == "profile" {
            self.document["profile"] = value(text);
            return Ok(());
        }
        if text.is_empty() {
            if !SETTINGS.iter().any(|(name, _)| *name == key) {
                return Err(bad("there is no such setting".to_owned()));
            }
        } else {
            Profile::default().set(key, text).map_err(bad)?;
        }
        let profiles = self.document.entry("profiles").or_insert_with(implicit_table);
        let table = profiles
            .as_table_mut()
            .map(|profiles| profiles.entry(profile).or_insert_with(toml_edit::table))
            .and_then(Item::as_table_mut)
            .ok_or_else(|| bad(format!("profiles.{profile} is not a table")))?;
        if text.is_empty() {
            table.remove(key);
            return Ok(());
        }
        table[key] = value(text);
        Profile::read(profile, table).map(|_| ()).map_err(Failure::usage)
    }

    /// Writes the file, readable by its owner only.
    pub(crate) fn save(&self) -> Outcome {
        let failed = |error: io::Error| {
            Failure::local(format!("could not write {}: {error}", self.path.display()))
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // In one step: a command that runs beside this one reads the old file or the new one.
        let draft = self.path.with_extension(format!("toml.{}", std::process::id()));
        private_file(&draft, self.document.to_string().as_bytes())
            .and_then(|()| fs::rename(&draft, &self.path))
            .map_err(|error| {
                let _ = fs::remove_file(&draft);
                failed(error)
            })
    }
}

fn implicit_table() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// Creates a file that only its owner can read; it must not exist yet.
pub(crate) fn private_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, contents)
}

/// Returns the path of the configuration file.
pub(crate) fn path() -> Outcome<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("KALSHI_CONFIG") {
        return Ok(path);
    }
    let folder = set("XDG_CONFIG_HOME")
        .or_else(|| if cfg!(windows) { set("APPDATA") } else { None })
        .or_else(|| set("HOME").map(|home| home.join(".config")));
    folder.map(|folder| folder.join("kalshi").join("config.toml")).ok_or_else(|| {
        Failure::usage("neither HOME nor KALSHI_CONFIG is set, so there is no place for settings")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, String> {
        let document: DocumentMut = text.parse().unwrap();
        Profile::read("a", document.as_table())
    }

    #[test]
    fn a_setting_that_is_misspelt_or_wrong_is_refused() {
        for (text, part) in [
            ("key_fil = 'x'", "there are env, key_id"),
            ("env = 'prod'", "`production`"),
            ("env = 3", "a text in quotes"),
            ("output = 'yaml'", "yaml"),
            ("timeout = '5'", "no unit"),
            ("max_order_cost = '-1.00'", "above zero"),
            ("max_order_cost = 'many'", "no amount"),
            ("key_id = '-----BEGIN PRIVATE KEY-----'", "name its file"),
            ("key_file = 'a'\nkey_command = 'b'", "both key_file and key_command"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_setting_is_read() {
        let text = "env = 'production'\nkey_id = 'i'\nkey_file = 'f'\noutput = 'json'\n\
                    timeout = '5s'\nmax_order_cost = '25.00'";
        let profile = read(text).unwrap();
        assert_eq!(profile.env, Some(Target::Production));
        assert_eq!(profile.max_order_cost, Some("25.00".parse().unwrap()));
        assert_eq!(read("key_command = 'c'").unwrap().key_command.as_deref(), Some("c"));
        for (name, _) in SETTINGS {
            let error = Profile::default().set(name, "").err().unwrap_or_default();
            assert!(!error.contains("no such setting"), "{name}");
        }
    }
}
