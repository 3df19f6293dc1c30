//! Request bodies: JSON as it was given, checked by the operation's schema before it is sent.

use std::io::{Read as _, stdin};

use kalshi_sdk::{Operation, operation};

use super::{schema, table::Table};
use crate::{
    failure::{Failure, Outcome},
    json::Json,
};

/// The largest body that is read; the exchange takes far less.
const MAX_BODY: u64 = 4 << 20;

/// A request body.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    json: Json,
    /// The text that is sent, with the numbers as they were given.
    text: String,
    is_checked: bool,
}

impl Body {
    /// Makes a body of an object.
    pub(crate) fn new(json: Json) -> Self {
        Self { text: json.to_string(), json, is_checked: true }
    }

    /// Reads a body: `@file`, `-` for the standard input, or JSON text.
    pub(crate) fn read(argument: &str) -> Outcome<Self> {
        let unreadable = |error: std::io::Error| {
            Failure::usage(format!("could not read the body {argument:?}: {error}"))
        };
        let mut text = String::new();
        if argument == "-" {
            stdin().take(MAX_BODY + 1).read_to_string(&mut text).map_err(unreadable)?;
        } else if let Some(file) = argument.strip_prefix('@') {
            let file = std::fs::File::open(file).map_err(unreadable)?;
            file.take(MAX_BODY + 1).read_to_string(&mut text).map_err(unreadable)?;
        } else {
            argument.clone_into(&mut text);
        }
        if text.len() as u64 > MAX_BODY {
            return Err(Failure::usage("the body is larger than 4 MiB"));
        }
        let json = Json::parse(&text).map_err(|error| {
            Failure::usage(format!("the body is not JSON: {error}"))
                .with_next("--body takes JSON, @FILE or - for the standard input")
        })?;
        Ok(Self { text: json.to_string(), json, is_checked: true })
    }

    /// Sends it as it is, whatever the schema says.
    pub(crate) fn unchecked(mut self) -> Self {
        self.is_checked = false;
        self
    }

    pub(crate) fn json(&self) -> &Json {
        &self.json
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Checks the body by the schema of an operation.
    pub(super) fn check(&self, operation: &Operation) -> Outcome {
        if !self.is_checked {
            return Ok(());
        }
        let Some(schema) = operation.body_schema() else {
            return Err(usage(operation, "it takes no body"));
        };
        let schema = Json::parse(schema).map_err(|error| {
            Failure::local(format!("the schema of {} cannot be read: {error}", operation.id))
        })?;
        let faults = schema::faults(&schema, &self.json);
        if faults.is_empty() {
            return Ok(());
        }
        Err(usage(operation, &format!("the body does not fit: {}", faults.join("; "))))
    }

    /// Checks that an operation needs no body.
    pub(super) fn check_absent(operation: &Operation) -> Outcome {
        match operation.body {
            operation::Body::Required => Err(usage(operation, "it needs a body: add --body")),
            _ => Ok(()),
        }
    }
}

fn usage(operation: &Operation, text: &str) -> Failure {
    let mut failure = Failure::usage(format!("{}: {text}", operation.id)).with_next(format!(
        "kalshi {} show {}",
        Table::of(operation).command,
        operation.id
    ));
    failure.operation = Some(operation.id.to_owned());
    failure
}
