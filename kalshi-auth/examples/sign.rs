//! Prints the three headers of a request.
//!
//! ```text
//! cargo run -q -p kalshi-auth --example sign -- --key-id ID --key FILE METHOD PATH [--timestamp MS]
//! ```
//!
//! Without `--timestamp` the time is now. Whatever is wrong is one line on the standard error, and
//! exit code 2.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use http::HeaderValue;
use kalshi_auth::{AuthError, Clock as _, Credentials, SystemClock, UnixMillis, sign};

const USAGE: &str = "usage: sign --key-id ID --key FILE METHOD PATH [--timestamp MS]";

/// The methods of the exchange's operations.
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

struct Arguments {
    key_id: String,
    key: String,
    method: String,
    path: String,
    timestamp: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Result<Vec<_>, _> = env::args_os().skip(1).map(OsString::into_string).collect();
    let printed = arguments
        .map_err(|_| format!("an argument is not text; {USAGE}"))
        .and_then(|arguments| output(arguments.into_iter()))
        .and_then(|headers| {
            io::stdout().write_all(headers.as_bytes()).map_err(|error| error.to_string())
        });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::from(2)
        }
    }
}

/// Returns the text to print, or the reason for the failure.
pub(crate) fn output(arguments: impl Iterator<Item = String>) -> Result<String, String> {
    headers(&Arguments::parse(arguments)?)
}

fn headers(arguments: &Arguments) -> Result<String, String> {
    let Arguments { key_id, key, method, path, timestamp } = arguments;
    let timestamp: UnixMillis = match timestamp {
        Some(text) => text.parse().map_err(|error| format!("--timestamp: {error}"))?,
        None => SystemClock.now(),
    };
    let refused = |error: AuthError| error.to_string();
    let credentials = Credentials::from_file(key_id, key).map_err(refused)?;
    let signed = sign(&credentials, method, path, timestamp).map_err(refused)?;
    let lines = [
        ("KALSHI-ACCESS-KEY", signed.key()),
        ("KALSHI-ACCESS-SIGNATURE", signed.signature()),
        ("KALSHI-ACCESS-TIMESTAMP", signed.timestamp()),
    ];
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    Ok(lines.map(|(name, value)| format!("{name}: {}\n", text(value))).concat())
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut key_id, mut key, mut timestamp) = (None, None, None);
        let mut positional = Vec::new();
        while let Some(argument) = arguments.next() {
            let option = match argument.as_str() {
                "--key-id" => &mut key_id,
                "--key" => &mut key,
                "--timestamp" => &mut timestamp,
                // A name is repeated only if it looks like one: it may be anything, a key included.
                unknown if unknown.starts_with('-') => {
                    let name = unknown.split('=').next().unwrap_or_default();
                    let is_name = name.len() <= 16
                        && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase());
                    return Err(if is_name {
                        format!("the option {name} is unknown; {USAGE}")
                    } else {
                        format!("there is an unknown option; {USAGE}")
                    });
                }
                _ => {
                    positional.push(argument);
                    continue;
                }
            };
            let value = arguments.next().ok_or(format!("{argument} needs a value; {USAGE}"))?;
            if option.replace(value).is_some() {
                return Err(format!("{argument} is given twice; {USAGE}"));
            }
        }
        match (key_id, key, <[String; 2]>::try_from(positional)) {
            (None, _, _) => Err(format!("--key-id is missing; {USAGE}")),
            (_, None, _) => Err(format!("--key is missing; {USAGE}")),
            (_, _, Err(_)) => Err(format!("give one method and one path; {USAGE}")),
            (_, _, Ok([method, _])) if !METHODS.contains(&method.to_ascii_uppercase().as_str()) => {
                Err(format!("the method must be one of {}; {USAGE}", METHODS.join(", ")))
            }
            (Some(key_id), Some(key), Ok([method, path])) => {
                Ok(Self { key_id, key, method, path, timestamp })
            }
        }
    }
}
