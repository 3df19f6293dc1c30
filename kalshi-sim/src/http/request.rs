//! Requests: what the sockets hand on, and what it means. A value that makes no sense is refused
//! with the name of its field.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use kalshi_auth::server::KeyPair;
use kalshi_types::{Count, Dollars};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    engine::{
        LAST_SUBACCOUNT, SHARDS,
        principal::Principal,
        types::{Shard, Subaccount, Time},
    },
    http::{query::Query, response::Response},
};

/// One request, without its socket.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The member that signed it; `None` for an unsigned request to a public operation.
    pub(crate) caller: Option<Principal>,
    /// The one customer of an FCM that the key acts for.
    pub(crate) subtrader: Option<String>,
    /// Path parameters, decoded, in the order of the path.
    pub(crate) path: &'a [String],
    pub(crate) query: &'a Query,
    pub(crate) body: &'a Value,
    pub(crate) now: DateTime<Utc>,
    /// The pair for a key that is to be generated. It is made before, because that takes long.
    pub(crate) pair: Option<&'a KeyPair>,
}

impl Call<'_> {
    /// Returns the caller of a private operation.
    pub(crate) fn caller(&self) -> Result<Principal, Response> {
        self.caller.ok_or_else(Response::signature_missing)
    }

    /// Returns the first parameter of the path.
    pub(crate) fn first(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// Returns the second parameter of the path.
    pub(crate) fn second(&self) -> &str {
        self.path.get(1).map_or("", String::as_str)
    }

    /// Returns the time for the engine.
    pub(crate) fn time(&self) -> Time {
        Time::from(self.now)
    }

    /// Reads the body as a type.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Response> {
        serde_path_to_error::deserialize(self.body).map_err(|error| {
            let (path, cause) = (error.path().to_string(), error.inner());
            // At the top the cause names the field itself.
            Response::bad_request(&match path.as_str() {
                "." => cause.to_string(),
                path => format!("{path}: {cause}"),
            })
        })
    }

    /// Returns the query's subaccount where an omitted one stands for the primary.
    pub(crate) fn one_subaccount(&self) -> Result<Subaccount, Response> {
        self.caller()?.one(self.query.integer("subaccount")?)
    }

    /// Returns the query's subaccount where an omitted one stands for all, which `None` is.
    pub(crate) fn any_subaccount(&self) -> Result<Option<Subaccount>, Response> {
        self.caller()?.any(self.query.integer("subaccount")?)
    }
}

impl Principal {
    /// Returns the subaccount of a request where an omitted one stands for the primary.
    ///
    /// A key that is bound to one subaccount means that one, and may name no other.
    pub(crate) fn one(self, named: Option<i64>) -> Result<Subaccount, Response> {
        self.any(named).map(Option::unwrap_or_default)
    }

    /// Returns the subaccount of a request where an omitted one stands for all, which `None` is.
    pub(crate) fn any(self, named: Option<i64>) -> Result<Option<Subaccount>, Response> {
        let named = named.map(|number| subaccount("subaccount", number)).transpose()?;
        match (self.bound, named) {
            (Some(bound), Some(named)) if bound != named => {
                Err(Response::forbidden("the API key is restricted to another subaccount"))
            }
            (Some(bound), _) => Ok(Some(bound)),
            (None, named) => Ok(named),
        }
    }

    /// Refuses a key that is bound to one subaccount: the operation is about the whole account.
    pub(crate) fn require_unbound(self) -> Result<Self, Response> {
        match self.bound {
            None => Ok(self),
            Some(_) => Err(Response::forbidden(
                "the API key is restricted to one subaccount and cannot use this endpoint",
            )),
        }
    }
}

/// Reads the number of a subaccount.
pub(crate) fn subaccount(field: &str, number: i64) -> Result<Subaccount, Response> {
    Subaccount::try_from(number)
        .ok()
        .filter(|number| *number <= LAST_SUBACCOUNT)
        .ok_or_else(|| Response::bad_request(&format!("{field} must be 0 to 63")))
}

/// Reads a shard that must be named itself, not found by routing.
pub(crate) fn shard(field: &str, index: Option<i64>) -> Result<Shard, Response> {
    Shard::try_from(index.unwrap_or(0))
        .ok()
        .filter(|index| *index <= 100)
        .ok_or_else(|| Response::bad_request(&format!("{field} must be 0 to 100")))
}

/// Reads a shard that must exist; the default one unless named.
pub(crate) fn existing_shard(field: &str, index: Option<i64>) -> Result<Shard, Response> {
    let shard = shard(field, index)?;
    if SHARDS.iter().any(|(index, _)| *index == shard) {
        Ok(shard)
    } else {
        Err(Response::bad_request(&format!("{field} names no shard")))
    }
}

/// Reads a price or an amount: a text with two to four decimals.
pub(crate) fn dollars(field: &str, text: &str) -> Result<Dollars, Response> {
    if !is_decimal(text, 2..=4) {
        return Err(Response::bad_request(&format!(
            "{field} must be a number with two to four decimals, like \"0.5600\""
        )));
    }
    text.parse().map_err(|error| Response::bad_request(&format!("{field}: {error}")))
}

/// Reads a number of contracts: a text with two decimals at most.
pub(crate) fn count(field: &str, text: &str) -> Result<Count, Response> {
    if !is_decimal(text, 0..=2) {
        return Err(Response::bad_request(&format!(
            "{field} must be a number with two decimals at most, like \"10.00\""
        )));
    }
    text.parse().map_err(|error| Response::bad_request(&format!("{field}: {error}")))
}

/// Reports whether a text is a plain decimal number: digits without a needless zero in front, and
/// as many decimals as documented. A minus is left to the checks of the value.
fn is_decimal(text: &str, decimals: RangeInclusive<usize>) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return false,
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !whole.is_empty()
        && (whole == "0" || !whole.starts_with('0'))
        && digits(whole)
        && digits(fraction)
        && decimals.contains(&fraction.len())
}

/// Reads a time in unix seconds.
pub(crate) fn time(field: &str, seconds: i64) -> Result<Time, Response> {
    seconds
        .checked_mul(1_000)
        .map(Time::from_millis)
        // What cannot be printed as a date is no date.
        .filter(|time| time.to_datetime().is_some())
        .ok_or_else(|| Response::bad_request(&format!("{field} is out of range")))
}

/// Reads one of the words that `parse` knows.
pub(crate) fn word<T>(
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Response> {
    parse(text).ok_or_else(|| Response::bad_request(&format!("{field} has no such value")))
}

/// Returns a text unless it is empty, which is how some clients leave a field out.
pub(crate) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Reports whether a text has the form of a UUID.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ids::AccountId;

    fn caller(bound: Option<Subaccount>) -> Principal {
        Principal { account: AccountId(1), bound, fcm_member: false }
    }

    #[test]
    fn an_omitted_subaccount_means_what_the_key_allows() {
        assert_eq!(caller(None).one(None), Ok(0));
        assert_eq!(caller(None).any(None), Ok(None));
        assert_eq!(caller(None).any(Some(63)), Ok(Some(63)));
        assert_eq!(caller(Some(3)).one(None), Ok(3));
        assert_eq!(caller(Some(3)).any(None), Ok(Some(3)));
        assert_eq!(caller(Some(3)).one(Some(3)), Ok(3));
        assert_eq!(caller(Some(3)).one(Some(0)).unwrap_err().status, 403);
        for number in [-1, 64, 256, i64::MAX] {
            assert_eq!(caller(None).one(Some(number)).unwrap_err().status, 400);
        }
    }

    #[test]
    fn s21_numbers_in_another_form_than_documented_are_refused() {
        for text in ["+1", ".5", "5.", "1.001", "01", "00", "1e2", "", "-", ".", "1 ", "1_0", "½"]
        {
            assert_eq!(count("count", text).unwrap_err().status, 400, "{text}");
        }
        for text in ["0", "1", "10.5", "10.50", "100000"] {
            assert!(count("count", text).is_ok(), "{text}");
        }
        for text in ["0.50000", "00.50", "0.5", "1", ".50", "0.", "+0.50", "0.5é", "0,50"] {
            assert_eq!(dollars("price", text).unwrap_err().status, 400, "{text}");
        }
        for text in ["0.50", "0.560", "0.5600", "0.0001", "12.34", "-0.50"] {
            assert!(dollars("price", text).is_ok(), "{text}");
        }
    }

    #[test]
    fn times_and_ids_out_of_range_are_refused() {
        assert!(time("t", 1_790_000_000).is_ok());
        for seconds in [i64::MAX, i64::MIN, i64::MAX / 1_000] {
            assert_eq!(time("t", seconds).unwrap_err().status, 400);
        }
        assert!(is_uuid("0b0e1f7a-52f5-4d9c-9d2b-0123456789AB"));
        assert!(!is_uuid("0b0e1f7a-52f5-4d9c-9d2b-0123456789A"));
        assert!(!is_uuid("0b0e1f7a052f5-4d9c-9d2b-0123456789ABC"));
    }
}
