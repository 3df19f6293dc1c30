//! Path and query parameters: checked by the table, encoded for the URL.

use std::{borrow::Cow, fmt::Write as _};

use chrono::DateTime;
use kalshi_sdk::{
    Operation,
    operation::{Parameter, ParameterKind},
};

use super::table::Table;
use crate::failure::{Failure, Outcome};

/// Checks the parameters of a call: all are known, the required ones are there, and each has the form
/// that the table says.
pub(super) fn check(operation: &Operation, given: &[(String, String)]) -> Outcome {
    for (name, value) in given {
        let known = operation.parameters.iter().find(|parameter| parameter.name == name);
        let Some(parameter) = known else {
            let names: Vec<_> = operation.parameters.iter().map(|known| known.name).collect();
            let known = match names.as_slice() {
                [] => "it takes none".to_owned(),
                names => format!("it takes {}", names.join(", ")),
            };
            return Err(usage(operation, format!("there is no parameter {name:?}; {known}")));
        };
        form(parameter, value)
            .map_err(|why| usage(operation, format!("{name}={value:?} {why}")))?;
        let may_repeat =
            matches!(parameter.kind, ParameterKind::List | ParameterKind::CommaSeparated);
        if !may_repeat && given.iter().filter(|(other, _)| other == name).count() > 1 {
            return Err(usage(operation, format!("{name} is given more than once")));
        }
    }
    for parameter in operation.parameters.iter().filter(|parameter| parameter.required) {
        if !given.iter().any(|(name, _)| name == parameter.name) {
            let name = parameter.name;
            return Err(usage(operation, format!("{name} is missing: add -p {name}=...")));
        }
    }
    Ok(())
}

fn usage(operation: &Operation, text: impl std::fmt::Display) -> Failure {
    let mut failure = Failure::usage(format!("{}: {text}", operation.id)).with_next(format!(
        "kalshi {} show {}",
        Table::of(operation).command,
        operation.id
    ));
    failure.operation = Some(operation.id.to_owned());
    failure
}

fn form(parameter: &Parameter, value: &str) -> Result<(), &'static str> {
    let is_in_path = parameter.place == kalshi_sdk::operation::Place::Path;
    if is_in_path && matches!(value, "" | "." | "..") {
        return Err("cannot stand in a path");
    }
    let is_good = match parameter.kind {
        ParameterKind::Integer | ParameterKind::UnixSeconds | ParameterKind::UnixMillis => {
            value.parse::<i64>().is_ok() && !value.starts_with('+')
        }
        ParameterKind::Number => is_decimal(value),
        ParameterKind::Boolean => matches!(value, "true" | "false"),
        ParameterKind::DateTime => DateTime::parse_from_rfc3339(value).is_ok(),
        _ => true,
    };
    if is_good {
        return Ok(());
    }
    Err(match parameter.kind {
        ParameterKind::Integer => "is not a whole number",
        ParameterKind::UnixSeconds => "is not a number of seconds since 1970",
        ParameterKind::UnixMillis => "is not a number of milliseconds since 1970",
        ParameterKind::Number => "is not a decimal number",
        ParameterKind::Boolean => "is neither true nor false",
        _ => "is not a time such as 2026-11-23T14:00:00Z",
    })
}

fn is_decimal(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole) && all_digits(rest)
}

/// Returns the pairs of the query. Texts that the exchange joins by commas are joined: each value may
/// hold several already.
pub(super) fn join<'a>(
    operation: &Operation,
    given: Vec<(&'a str, &'a str)>,
) -> Vec<(&'a str, Cow<'a, str>)> {
    let is_joined = |name: &str| {
        let mut known = operation.parameters.iter();
        known.any(|known| known.name == name && known.kind == ParameterKind::CommaSeparated)
    };
    let mut query: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for (name, value) in given {
        match query.iter_mut().find(|(known, _)| *known == name && is_joined(name)) {
            Some((_, joined)) => {
                let joined = joined.to_mut();
                joined.push(',');
                joined.push_str(value);
            }
            None => query.push((name, value.into())),
        }
    }
    query
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::OperationId;

    use super::*;

    fn checked(operation: OperationId, given: &[(&str, &str)]) -> Result<(), String> {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(operation.operation(), &given).map_err(|failure| failure.message)
    }

    #[test]
    fn a_parameter_must_be_known_and_in_form() {
        let markets = OperationId::GetMarkets;
        assert_eq!(checked(markets, &[("limit", "5"), ("tickers", "A"), ("tickers", "B")]), Ok(()));
        for (given, part) in [
            (&[("limits", "5")][..], "there is no parameter \"limits\"; it takes limit, cursor"),
            (&[("limit", "five")], "is not a whole number"),
            (&[("limit", "1"), ("limit", "2")], "more than once"),
            (&[("min_close_ts", "2026-01-01")], "seconds since 1970"),
        ] {
            let error = checked(markets, given).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let error = checked(OperationId::GetMarket, &[]).unwrap_err();
        assert!(error.contains("ticker is missing"), "{error}");
        for value in ["", ".", ".."] {
            assert!(checked(OperationId::GetMarket, &[("ticker", value)]).is_err(), "{value}");
        }
        let error = checked(OperationId::GetEvents, &[("with_milestones", "1")]).unwrap_err();
        assert!(error.contains("neither true nor false"), "{error}");
    }

    #[test]
    fn what_is_not_plain_is_encoded() {
        assert_eq!(encode("a/b ?é%-._~"), "a%2Fb%20%3F%C3%A9%25-._~");
    }

    #[test]
    fn texts_that_the_exchange_joins_are_joined() {
        let markets = OperationId::GetMarkets.operation();
        let query = join(markets, vec![("tickers", "A,B"), ("limit", "1"), ("tickers", "C")]);
        assert_eq!(query, [("tickers", "A,B,C".into()), ("limit", "1".into())]);
        let books = OperationId::GetMarketOrderbooks.operation();
        let query = join(books, vec![("tickers", "A"), ("tickers", "B")]);
        assert_eq!(query.len(), 2);
    }
}
