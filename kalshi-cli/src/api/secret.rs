//! Operations whose answer has a private key. It goes into a file of its owner's, and on no output.

use std::{fs, path::Path};

use kalshi_sdk::{Effect, Operation};
use zeroize::Zeroizing;

use super::call::Call;
use crate::{
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
    output::shell_word,
    profile::private_file,
};

/// The member of the answer that has the private key.
const PRIVATE_KEY: &str = "private_key";

/// The commands that belong to an operation which makes a private key.
struct Secret {
    operation: &'static str,
    /// Lists the keys.
    list: &'static str,
    /// Deletes a key, with its id behind it.
    delete: &'static str,
}

const SECRETS: [Secret; 2] = [
    Secret { operation: "generate_api_key", list: "kalshi key list", delete: "kalshi key delete " },
    Secret {
        operation: "generate_margin_fcm_api_key",
        list: "kalshi klear api list_margin_fcm_api_keys",
        delete: "kalshi klear api delete_margin_fcm_api_key -p api_key_id=",
    },
];

fn find(operation: &Operation) -> Option<&'static Secret> {
    SECRETS.iter().find(|secret| secret.operation == operation.id)
}

/// Checks that there is a file for the private key of an answer, and none for any other answer.
pub(super) fn check(operation: &Operation, has_file: bool, is_raw: bool) -> Outcome {
    let failure = match (find(operation), has_file) {
        (Some(_), false) => Failure::usage(format!(
            "{}: its answer has a private key, which goes into a file and on no output",
            operation.id
        ))
        .with_next("--save FILE, a new file"),
        (Some(_), true) if is_raw => Failure::usage(format!(
            "{}: its answer has a private key, which --raw would print",
            operation.id
        )),
        (None, true) => Failure::usage(format!(
            "{}: its answer has no private key: leave --save out",
            operation.id
        )),
        _ => return Ok(()),
    };
    Err(Failure { operation: Some(operation.id.to_owned()), ..failure })
}

impl Call {
    /// Sends a call whose answer has a private key, and writes the key into a new file that only its
    /// owner can read. Returns the rest of the answer.
    ///
    /// # Errors
    ///
    /// The file cannot be created: nothing was sent. The exchange refused it, or its answer is lost or
    /// has no key: there is no file. The key cannot be written: it exists, and is of no use.
    pub(crate) async fn send_saving(&self, context: &Context, file: &Path) -> Outcome<Json> {
        self.check()?;
        // The file is there before the key is: a key that could not be written down would be lost.
        private_file(file, b"").map_err(|error| {
            Failure::usage(format!("could not create {}: {error}", file.display()))
        })?;
        let answer = match self.send_text(context).await.map(Zeroizing::new) {
            Ok(text) => self.split(&text),
            Err(failure) => Err(failure),
        };
        let (key, rest) = answer.map_err(|failure| {
            // It is empty.
            let _ = fs::remove_file(file);
            match find(self.operation) {
                Some(secret) if failure.category == Category::UnknownOutcome => {
                    failure.with_next(secret.list)
                }
                _ => failure,
            }
        })?;
        fs::write(file, key.as_bytes()).map_err(|error| {
            let id = rest.get("api_key_id").and_then(Json::as_str).unwrap_or_default();
            let failure = Failure::local(format!(
                "the key {id} was made, but its private half could not be written to {}: {error}",
                file.display()
            ));
            let failure = Failure { effect: Effect::Unknown, ..failure };
            match find(self.operation) {
                Some(secret) => failure.with_next(format!("{}{}", secret.delete, shell_word(id))),
                None => failure,
            }
        })?;
        Ok(rest)
    }

    /// Takes the private key and its id out of an answer.
    fn split(&self, text: &str) -> Outcome<(Zeroizing<String>, Json)> {
        let read = Json::parse(text).ok().and_then(|mut answer| {
            let Some(Json::Text(key)) = answer.take(PRIVATE_KEY) else { return None };
            let key = Zeroizing::new(key);
            answer.get("api_key_id").and_then(Json::as_str)?;
            Some((key, answer))
        });
        read.ok_or_else(|| {
            let text = "the answer has no key id and private key; a key may have been made";
            let mut failure = Failure::new(Category::UnknownOutcome, text);
            failure.effect = Effect::Unknown;
            failure.operation = Some(self.operation.id.to_owned());
            failure
        })
    }
}
