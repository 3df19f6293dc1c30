//! Shared by the tests: keys, clients, a server, and random values from the document.

mod document;
mod http;
mod random;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use kalshi_sdk::{
    Client, ClientBuilder, Credentials, Decimal, Environment, Error, OPERATIONS, Operation,
    auth::{KeyType, server::KeyPair},
    klear::{self, Klear},
    operation::Lane,
    perps,
};
use serde_json::Value;

use crate::dispatch::{self, dispatch};

pub(crate) use self::{
    document::{Document, Fill, Generator, Sample, UNKNOWN_FIELD},
    http::{Answer, Request, Server},
    random::Random,
};

pub(crate) const KEY_ID: &str = "a952bcbe-ec3b-4b5b-b8f9-11dae589608c";

/// The base path of every test server, as the exchange has it.
pub(crate) const BASE: &str = "/trade-api/v2";

/// The base path of a test server of the clearing house.
pub(crate) const KLEAR_BASE: &str = "/klear-api/v1";

/// The two parts of the bearer token.
pub(crate) const TOKEN: (&str, &str) = ("admin-17", "bearer-token-that-nobody-may-see");

/// Returns the operations of all documents.
pub(crate) fn every_operation() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().chain(perps::OPERATIONS).chain(klear::OPERATIONS)
}

/// Returns one key pair for the whole binary.
pub(crate) fn keys() -> &'static KeyPair {
    static KEYS: OnceLock<KeyPair> = OnceLock::new();
    KEYS.get_or_init(|| KeyPair::generate(KeyType::Ed25519).unwrap())
}

pub(crate) fn credentials() -> Credentials {
    Credentials::from_pem(KEY_ID, keys().private_key_pem()).unwrap()
}

/// Returns a builder of a client for a base URL, without credentials.
pub(crate) fn builder(url: &str) -> ClientBuilder {
    Client::builder().with_environment(Environment::Custom(url.to_owned()))
}

/// Returns a client that signs.
pub(crate) fn client(url: &str) -> Client {
    builder(url).with_credentials(credentials()).build().unwrap()
}

/// Returns a client of the clearing house, for the base URL of a test server.
pub(crate) fn klear(url: &str) -> Klear {
    let environment = Environment::Custom(url.to_owned());
    Klear::builder().with_environment(environment).with_token(TOKEN.0, TOKEN.1).build().unwrap()
}

/// A client for each document.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) client: Client,
    pub(crate) klear: Klear,
}

impl Clients {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: client(url), klear: klear(url) }
    }

    /// Calls an operation of any document by its name, and unpacks what the client answered.
    pub(crate) async fn call(
        &self,
        operation: &'static Operation,
        parameters: &BTreeMap<String, String>,
        body: Option<Value>,
    ) -> Result<Value, Error> {
        let (id, perps) = (operation.id, self.client.perps());
        let result = match operation.cost.lane {
            Lane::EventContracts => return call(&self.client, operation, parameters, body).await,
            Lane::Perpetuals => {
                Box::pin(dispatch::perps::dispatch(&perps, id, parameters, body)).await
            }
            _ => Box::pin(dispatch::klear::dispatch(&self.klear, id, parameters, body)).await,
        };
        result.map_err(|error| own_error(operation, error))
    }
}

/// Returns the client's error; any other is the test's own.
fn own_error(operation: &Operation, error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => panic!("{operation}: the test could not call it: {other}"),
    }
}

/// Returns the answers of a server that always says the same.
pub(crate) async fn always(answer: Answer) -> Server {
    Server::start(move |_| answer.clone()).await
}

pub(crate) fn operation(id: &str) -> &'static Operation {
    Operation::by_id(id).unwrap_or_else(|| panic!("no operation is called {id}"))
}

/// Calls an operation by its name, and unpacks what the client answered.
pub(crate) async fn call(
    client: &Client,
    operation: &'static Operation,
    parameters: &BTreeMap<String, String>,
    body: Option<Value>,
) -> Result<Value, Error> {
    // The future holds one of 128 others, too many for the stack of a test.
    let result = Box::pin(dispatch(client, operation.id, parameters, body)).await;
    result.map_err(|error| own_error(operation, error))
}

/// Writes the decimals of an answer as the client does: a text that it holds as a number becomes
/// that number.
pub(crate) fn with_decimals(sent: Value, decoded: &Value) -> Value {
    match (sent, decoded) {
        (Value::Object(map), Value::Object(decoded)) => map
            .into_iter()
            .map(|(key, value)| {
                let other = decoded.get(&key).unwrap_or(&Value::Null);
                let value = with_decimals(value, other);
                (key, value)
            })
            .collect(),
        (Value::Array(items), Value::Array(decoded)) => {
            let others = decoded.iter().chain(std::iter::repeat(&Value::Null));
            items
                .into_iter()
                .zip(others)
                .map(|(value, other)| with_decimals(value, other))
                .collect()
        }
        (Value::String(text), Value::Number(number)) => {
            let same = text.parse::<Decimal>().ok() == number.to_string().parse().ok();
            if same { Value::Number(number.clone()) } else { Value::String(text) }
        }
        (sent, _) => sent,
    }
}

/// Returns the error and everything below it, in every form that a log could take.
pub(crate) fn whole_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        writeln!(text, "{error}\n{error:?}\n{error:#?}").unwrap();
        next = error.source();
    }
    text
}

/// Returns the pieces of a PEM text that must be found nowhere: its lines, and parts of them.
pub(crate) fn pieces(pem: &str) -> Vec<String> {
    let mut pieces = vec!["PRIVATE KEY".to_owned()];
    for line in pem.lines().filter(|line| !line.is_empty() && !line.starts_with('-')) {
        pieces.extend((0..line.len() / 12).map(|at| line[at * 12..][..12].to_owned()));
    }
    assert!(pieces.len() > 3, "the text is no PEM");
    pieces
}

/// Fails if a text holds any piece of a private key.
pub(crate) fn assert_no_key(text: &str, pem: &str) {
    for piece in pieces(pem) {
        assert!(!text.contains(&piece), "{piece:?} of the private key stands in: {text}");
    }
}

/// Normalizes a value with all that may be written in two ways: null, nothing and an empty list,
/// map or text are the same, a whole number is the same with and without a point, and unknown
/// fields do not count.
pub(crate) fn prune(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| key != UNKNOWN_FIELD)
            .map(|(key, value)| (key, prune(value)))
            .filter(|(_, value)| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(map) => !map.is_empty(),
                // What a label reads as that is not there.
                Value::String(text) => !text.is_empty(),
                _ => true,
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(prune).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float:.0}").parse::<i64>().unwrap().into()
            }
            _ => number.into(),
        },
        other => other,
    }
}

/// Returns a value shared with a handler, a counter for instance.
pub(crate) fn shared<T>(value: T) -> (Arc<T>, Arc<T>) {
    let value = Arc::new(value);
    (Arc::clone(&value), value)
}
