//! The operations of a document, and how one of them is found.

use http::Method;
use kalshi_sdk::{OPERATIONS, Operation, OperationId, auth::Service};

use crate::failure::{Failure, Outcome};

/// The operations of a document.
#[derive(Debug)]
pub(crate) struct Table {
    /// The command that calls them.
    pub(crate) command: &'static str,
    /// The service that has them.
    pub(crate) service: Service,
    pub(crate) hints: Hints,
    operations: fn() -> &'static [Operation],
    /// Returns the text of the failure about a name that no operation has.
    unknown: fn(&str) -> String,
}

/// The next steps after a failure, which are those of the product.
#[derive(Debug)]
pub(crate) struct Hints {
    /// After a call without a key that could be sent.
    pub(crate) no_key: &'static str,
    /// After credentials that were refused.
    pub(crate) refused: &'static str,
    /// The command that shows the rate limits.
    pub(crate) limits: Option<&'static str>,
    /// The command that shows whether the product is traded.
    pub(crate) status: Option<&'static str>,
    /// The command that places orders within a ceiling.
    pub(crate) orders: Option<&'static str>,
}

/// The next step when an API key is missing.
const NO_KEY: &str = "kalshi setup, or set KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY_PATH";

/// The operations of the Trade API.
pub(crate) static TRADE_API: Table = Table {
    command: "api",
    service: Service::Rest,
    hints: Hints {
        no_key: NO_KEY,
        refused: "kalshi doctor tells the causes apart",
        limits: Some("kalshi exchange limits"),
        status: Some("kalshi exchange status"),
        orders: Some("kalshi order"),
    },
    operations: || OPERATIONS,
    // It names the nearest one.
    unknown: |name| name.parse::<OperationId>().err().map_or_else(String::new, |e| e.to_string()),
};

/// The operations on perpetual futures.
#[cfg(feature = "perps")]
pub(crate) static PERPS: Table = Table {
    command: "perps api",
    service: Service::Rest,
    hints: Hints {
        no_key: NO_KEY,
        refused: "kalshi doctor tells the causes apart; kalshi perps enabled shows whether the account \
                  may trade perpetual futures",
        limits: Some("kalshi perps limits"),
        status: Some("kalshi perps status"),
        orders: Some("kalshi perps order"),
    },
    operations: || kalshi_sdk::perps::OPERATIONS,
    unknown: |name| format!("no operation is called {name:?}"),
};

/// The next step when a token of the clearing house is refused.
#[cfg(feature = "klear")]
const KLEAR_TOKEN: &str = "check KALSHI_KLEAR_USER_ID and KALSHI_KLEAR_TOKEN, or the file that \
    KALSHI_KLEAR_TOKEN_FILE names, and that they are of this environment";

/// The operations of the clearing house.
#[cfg(feature = "klear")]
pub(crate) static KLEAR: Table = Table {
    command: "klear api",
    service: Service::Klear,
    hints: Hints {
        no_key: KLEAR_TOKEN,
        refused: KLEAR_TOKEN,
        limits: None,
        status: None,
        orders: None,
    },
    operations: || kalshi_sdk::klear::OPERATIONS,
    unknown: |name| format!("no operation is called {name:?}"),
};

impl Table {
    /// Returns the table that an operation is in.
    pub(crate) fn of(operation: &Operation) -> &'static Self {
        let mut tables = [
            #[cfg(feature = "perps")]
            &PERPS,
            #[cfg(feature = "klear")]
            &KLEAR,
            &TRADE_API,
        ]
        .into_iter();
        let is_in = |table: &&Self| {
            let lane = table.operations().first().map(|first| first.cost.lane);
            lane == Some(operation.cost.lane)
        };
        tables.find(is_in).unwrap_or(&TRADE_API)
    }

    /// Returns every operation.
    pub(crate) fn operations(&self) -> &'static [Operation] {
        (self.operations)()
    }

    /// Returns the operation with a name: that of the client's method, that of the document, or method
    /// and path.
    pub(crate) fn find(&self, name: &str) -> Outcome<&'static Operation> {
        if let Some((method, path)) = name.split_once(' ') {
            let method = read_method(method)?;
            let found = self.by_path(&method, path).map(|(operation, _)| operation);
            return found.ok_or_else(|| Failure::usage(format!("no operation is at {name:?}")));
        }
        let mut operations = self.operations().iter();
        operations.find(|one| one.id == name || one.operation_id == name).ok_or_else(|| {
            Failure::usage((self.unknown)(name)).with_next(format!("kalshi {} list", self.command))
        })
    }

    /// Returns the operation with a method and a path, and the parameters that stand in the path.
    /// Literal parts win over parameters: `/events/multivariate` is no event.
    pub(super) fn by_path(
        &self,
        method: &Method,
        path: &str,
    ) -> Option<(&'static Operation, Vec<(String, String)>)> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |operation: &'static Operation| {
            let template: Vec<&str> = operation.path.split('/').collect();
            if operation.method != *method || template.len() != parts.len() {
                return None;
            }
            let mut given = Vec::new();
            for (expected, part) in template.iter().zip(&parts) {
                match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    // A template that is named as it stands takes its parameters from -p.
                    Some(name) if *part == format!("{{{name}}}") => {}
                    Some(name) => given.push((name.to_owned(), decode(part)?)),
                    None if expected == part => {}
                    None => return None,
                }
            }
            Some((operation, given))
        };
        self.operations().iter().filter_map(fits).min_by_key(|(_, given)| given.len())
    }
}

pub(super) fn read_method(text: &str) -> Outcome<Method> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "GET" | "POST" | "PUT" | "PATCH" | "DELETE" => {
            upper.parse().map_err(|_| Failure::usage(format!("{text:?} is no method")))
        }
        _ => Err(Failure::usage(format!("{text:?} is neither GET, POST, PUT, PATCH nor DELETE"))),
    }
}

/// Splits `/path?a=b`, with its parameters decoded.
pub(super) fn split_query(path: &str) -> Outcome<(&str, Vec<(String, String)>)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = |text: &str| {
            decode(&text.replace('+', " "))
                .ok_or_else(|| Failure::usage(format!("{part:?} is not percent-encoded text")))
        };
        pairs.push((decoded(name)?, decoded(value)?));
    }
    Ok((path, pairs))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let two = std::str::from_utf8(after.get(..2)?).ok()?;
            if !two.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(two, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::operation::Place;

    use super::*;

    #[test]
    fn every_operation_is_found_by_each_of_its_names() {
        let tables = [
            &TRADE_API,
            #[cfg(feature = "perps")]
            &PERPS,
            #[cfg(feature = "klear")]
            &KLEAR,
        ];
        for table in tables {
            for operation in table.operations() {
                let names = [
                    operation.id.to_owned(),
                    operation.operation_id.to_owned(),
                    format!("{} {}", operation.method, operation.path),
                ];
                for name in names {
                    assert_eq!(table.find(&name).unwrap().id, operation.id, "{name}");
                }
                let filled = operation.path.replace('{', "x").replace('}', "y");
                let (found, given) = table.by_path(&operation.method, &filled).unwrap();
                assert_eq!(found.id, operation.id, "{filled}");
                let in_path = operation.parameters.iter().filter(|p| p.place == Place::Path);
                assert_eq!(given.len(), in_path.count());
                assert_eq!(Table::of(operation).command, table.command);
            }
        }
    }

    #[cfg(feature = "perps")]
    #[test]
    fn a_name_of_another_document_is_unknown() {
        let failure = PERPS.find("get_markets").unwrap_err();
        assert_eq!(failure.message, "no operation is called \"get_markets\"");
        assert_eq!(failure.next.as_deref(), Some("kalshi perps api list"));
    }

    #[test]
    fn a_literal_path_wins_over_a_parameter() {
        let by_path = |path: &str| TRADE_API.by_path(&Method::GET, path);
        let (found, given) = by_path("/events/multivariate").unwrap();
        assert_eq!((found.id, given.len()), ("get_multivariate_events", 0));
        let (found, given) = by_path("/markets/A%2FB").unwrap();
        assert_eq!((found.id, given[0].1.as_str()), ("get_market", "A/B"));
        assert!(by_path("/nowhere").is_none());
    }

    #[test]
    fn a_misspelt_name_names_the_nearest() {
        let failure = TRADE_API.find("get_balances").unwrap_err();
        assert!(failure.message.contains("\"get_balance\""), "{}", failure.message);
        assert_eq!(failure.next.as_deref(), Some("kalshi api list"));
        assert!(
            TRADE_API.find("FETCH /markets").is_err() && TRADE_API.find("GET /nowhere").is_err()
        );
    }

    #[test]
    fn a_query_in_the_path_is_decoded() {
        let (path, query) = split_query("/markets?limit=2&status=a%20b+c").unwrap();
        assert_eq!((path, query.len()), ("/markets", 2));
        assert_eq!(query[1].1, "a b c");
        assert!(split_query("/markets?a=%ZZ").is_err() && split_query("/markets?a=%FF").is_err());
    }
}
