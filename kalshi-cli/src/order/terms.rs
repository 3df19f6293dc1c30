//! Counts, prices and times as they are typed, read exactly. Pure: the clock is an argument.

use chrono::DateTime;
use kalshi_sdk::{Count, Dollars, UnixMillis, UnixSeconds};

use crate::args::duration;

/// Reads `COUNT @ PRICE`, with or without blanks around the `@`.
///
/// # Errors
///
/// The fault of the text, and how it is written.
pub(crate) fn count_and_price(words: &[String]) -> Result<(Count, Dollars), String> {
    let text = words.join(" ");
    let (count_text, price_text) = text
        .split_once('@')
        .ok_or_else(|| format!("\"{text}\" is not COUNT @ PRICE, such as 10 @ 0.55"))?;
    Ok((count(count_text.trim())?, price(price_text.trim())?))
}

/// Reads a price of one contract: dollars, above 0 and below 1.
///
/// # Errors
///
/// The fault of the text. A price in cents is refused, and never taken for dollars.
pub(crate) fn price(text: &str) -> Result<Dollars, String> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let is_marked = text.ends_with(['c', 'C', '¢', '%']) || text.contains('$');
    let parsed = text.parse::<Dollars>();
    if is_marked || parsed.is_err() {
        let rule = "prices are dollars, written like 0.55 (55 cents)";
        return Err(match cents(&digits) {
            Some(hint) if is_marked && !text.contains('.') => {
                format!("price \"{text}\" is not in dollars: {hint}")
            }
            _ => format!("price \"{text}\" is not a price: {rule}"),
        });
    }
    let price = parsed.unwrap_or_default();
    if price.is_positive() && price < Dollars::ONE {
        return Ok(price);
    }
    Err(match cents(text) {
        Some(hint) => format!("price \"{text}\" is not below 1: {hint}"),
        None => format!(
            "price \"{text}\" is not between 0 and 1: prices are dollars, written like 0.55 (55 \
             cents)"
        ),
    })
}

/// Returns what to type for a whole number of cents, as far as that is a price.
fn cents(text: &str) -> Option<String> {
    let cents: u8 = text.parse().ok().filter(|cents| (1..100).contains(cents))?;
    let unit = if cents == 1 { "cent" } else { "cents" };
    Some(format!("prices are dollars, \"0.{cents:02}\" is {cents} {unit}"))
}

/// Reads a number of contracts: above zero, in steps of 0.01.
///
/// # Errors
///
/// The fault of the text.
pub(crate) fn count(text: &str) -> Result<Count, String> {
    let count: Count = text.parse().map_err(|error| format!("count \"{text}\": {error}"))?;
    if count.is_positive() {
        return Ok(count);
    }
    Err(format!("count \"{text}\" is not above zero"))
}

/// Reads an amount of dollars that is not below zero.
///
/// # Errors
///
/// The fault of the text.
pub(crate) fn amount(text: &str) -> Result<Dollars, String> {
    let amount: Dollars = text
        .parse()
        .map_err(|error| format!("amount \"{text}\": {error}; amounts are dollars, like 25.00"))?;
    if amount.is_negative() {
        return Err(format!("amount \"{text}\" is below zero"));
    }
    Ok(amount)
}

/// Reads a time to come: a duration from now (`90s`, `10m`, `2h`, `1d`) or an RFC 3339 time.
///
/// # Errors
///
/// The fault of the text, also if the time has passed: the exchange refuses such an order.
pub(crate) fn expiration(text: &str, now: UnixMillis) -> Result<UnixSeconds, String> {
    let at = match duration(text) {
        Ok(duration) => now.saturating_add(duration),
        Err(_) => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => UnixMillis::from_millis(time.timestamp_millis()),
            Err(_) => {
                return Err(format!(
                    "\"{text}\" is no time: write 90s, 10m, 2h, 1d, or 2026-12-31T23:59:00Z"
                ));
            }
        },
    };
    let seconds = at.as_millis().div_euclid(1000);
    if seconds <= now.as_millis().div_euclid(1000) {
        return Err(format!("the time \"{text}\" is not in the future"));
    }
    Ok(UnixSeconds::from_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn count_and_price_are_read_exactly_with_and_without_blanks() {
        let expected = ("10.00".parse().unwrap(), "0.5500".parse().unwrap());
        for text in ["10 @ 0.55", "10@0.55", "10 @0.55", "10@ .55", "10.00 @ 0.5500"] {
            assert_eq!(count_and_price(&words(text)), Ok(expected), "{text}");
        }
        let fine = count_and_price(&words("0.01 @ 0.0001")).unwrap();
        assert_eq!((fine.0.to_string(), fine.1.to_string()), ("0.01".into(), "0.0001".into()));
    }

    #[test]
    fn prices_in_cents_are_refused_with_the_dollars_to_type() {
        let message = |text: &str| price(text).unwrap_err();
        assert_eq!(
            message("55"),
            "price \"55\" is not below 1: prices are dollars, \"0.55\" is 55 cents"
        );
        assert_eq!(
            message("1"),
            "price \"1\" is not below 1: prices are dollars, \"0.01\" is 1 cent"
        );
        for text in ["55c", "55C", "55¢", "55%"] {
            assert_eq!(
                message(text),
                format!(
                    "price \"{text}\" is not in dollars: prices are dollars, \"0.55\" is 55 cents"
                )
            );
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in [
            "", "0", "0.00", "1.00", "100", "-0.5", "+1.5", "$0.55", "0,55", "5e-1", "0.5.5",
            "0.55c", "½", "nan", "0x1",
        ] {
            let error = price(text).unwrap_err();
            assert!(error.starts_with(&format!("price \"{text}\"")), "{error}");
            assert!(error.contains("prices are dollars"), "{error}");
        }
    }

    #[test]
    fn what_is_no_count_is_refused() {
        for text in ["", "0", "-1", "1.001", "ten", "1e2", "1,000", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
        assert!(count_and_price(&words("10 0.55")).unwrap_err().contains("COUNT @ PRICE"));
        assert!(count_and_price(&words("10 @ 0.55 @ 0.56")).is_err());
    }

    #[test]
    fn times_are_durations_or_rfc_3339_and_in_the_future() {
        let now = UnixMillis::from_millis(1_790_000_000_500);
        let at = |text| expiration(text, now).map(UnixSeconds::as_seconds);
        assert_eq!(at("90s"), Ok(1_790_000_090));
        assert_eq!(at("10m"), Ok(1_790_000_600));
        assert_eq!(at("2h"), Ok(1_790_007_200));
        assert_eq!(at("1d"), Ok(1_790_086_400));
        assert_eq!(at("2026-12-31T23:59:00Z"), Ok(1_798_761_540));
        assert_eq!(at("2026-12-31T23:59:00+01:00"), Ok(1_798_757_940));
        for text in ["", "10", "m", "-1m", "1.5h", "0s", "2020-01-01T00:00:00Z", "tomorrow", "µ"] {
            assert!(at(text).is_err(), "{text}");
        }
        // No duration overflows.
        assert!(at("18446744073709551615d").is_err());
    }
}
