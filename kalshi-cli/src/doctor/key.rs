//! The credentials as they are on this machine: where they come from, who can read them, and whether
//! they can sign.

use std::{env, fs, io, path::PathBuf};

use kalshi_sdk::auth::PRIVATE_KEY_PATH_VAR;

use super::report::Check;
use crate::{
    context::{Context, Target},
    failure::{Category, Failure},
};

/// Returns the key file of the configuration, if one counts.
fn key_file(context: &Context) -> Option<(&'static str, PathBuf)> {
    if context.target == Target::Sim {
        return None;
    }
    if let Some(path) = &context.global.key_file {
        return Some(("--key-file", path.clone()));
    }
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set(PRIVATE_KEY_PATH_VAR) {
        return Some((PRIVATE_KEY_PATH_VAR, path.into()));
    }
    if set(kalshi_sdk::auth::PRIVATE_KEY_VAR).is_some() {
        return None;
    }
    context.profile.key_file.clone().map(|path| ("key_file of the profile", path))
}

/// Checks who can read the key file. Whether it can be read at all, and holds a key, the check of the
/// key says.
pub(super) fn file(context: &Context) -> Option<Check> {
    const NAME: &str = "key file";
    let (source, path) = key_file(context)?;
    // A path that may be a key by mistake is not repeated: the check of the key says what it is.
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(Check::fail(
                NAME,
                format!("there is no file at the path in {source}"),
                "correct the path, or make a key with: kalshi setup",
            ));
        }
        Err(error) => {
            return Some(Check::fail(
                NAME,
                format!("the file in {source} cannot be looked at: {error}"),
                "make the folders above it accessible to you",
            ));
        }
    };
    if !metadata.is_file() {
        return Some(Check::fail(
            NAME,
            format!("the path in {source} is not that of a file"),
            "name the PEM file itself",
        ));
    }
    Some(mode(&metadata, source))
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata, source: &str) -> Check {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    // None of the six bits of the group and of others.
    if mode.trailing_zeros() >= 6 {
        return Check::ok("key file", format!("only its owner can read it ({mode:o})"));
    }
    Check::warn(
        "key file",
        format!("others can read or change it ({mode:o})"),
        format!("chmod 600 on the file that {source} names"),
    )
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata, source: &str) -> Check {
    Check::skipped("key file", format!("who can read the file of {source} is not checked here"))
}

/// Returns the check of credentials that could not be used. Their error says what was found.
pub(super) fn unusable(failure: &Failure) -> Check {
    let is_none = failure.category == Category::Credentials
        && failure.message.contains("there are no credentials");
    let remedy = match &failure.next {
        Some(next) => next.clone(),
        None if is_none => "kalshi setup".to_owned(),
        None => {
            "correct what the message names; a key of your own is made by: kalshi setup".to_owned()
        }
    };
    Check::fail("key", failure.message.clone(), remedy)
}
