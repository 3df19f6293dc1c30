//! The fast path for the one frame that comes a hundred thousand times a second.
//!
//! Knows the documented layout of `orderbook_delta` and nothing else. Whatever is unusual (another
//! order of fields, a field more, an escape, an exponent, a blank) is left to the general decoder:
//! `None` means "not sure", never "wrong". What it does read, it reads as the general decoder would;
//! a test with random frames compares the two.

use kalshi_types::{Count, Dollars};

/// A delta, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scanned<'a> {
    pub(crate) sid: i64,
    pub(crate) seq: i64,
    pub(crate) sent: Option<i64>,
    pub(crate) market_ticker: &'a str,
    pub(crate) market_id: &'a str,
    pub(crate) price: Dollars,
    pub(crate) delta: Count,
    pub(crate) clock: Option<i64>,
    /// The side is `yes`; otherwise it is `no`.
    pub(crate) yes: bool,
    pub(crate) ts_ms: i64,
}

/// Reads a delta in the documented layout.
#[inline]
pub(crate) fn scan(frame: &str) -> Option<Scanned<'_>> {
    let mut rest = frame;
    take(&mut rest, "{\"type\":\"orderbook_delta\",\"sid\":")?;
    let sid = integer(&mut rest)?;
    take(&mut rest, ",\"seq\":")?;
    let seq = integer(&mut rest)?;
    let mut sent = optional_integer(&mut rest, ",\"sending_ts_ms\":")?;
    take(&mut rest, ",\"msg\":{")?;
    // Documented behind `market_id`; the order on the wire is not promised, so any place will do.
    let mut clock = optional_integer(&mut rest, "\"clock\":")?;
    if clock.is_some() {
        take(&mut rest, ",")?;
    }
    take(&mut rest, "\"market_ticker\":\"")?;
    let market_ticker = text(&mut rest)?;
    clock_here(&mut rest, &mut clock)?;
    take(&mut rest, ",\"market_id\":\"")?;
    let market_id = text(&mut rest)?;
    clock_here(&mut rest, &mut clock)?;
    take(&mut rest, ",\"price_dollars\":\"")?;
    let price = text(&mut rest)?.parse().ok()?;
    clock_here(&mut rest, &mut clock)?;
    take(&mut rest, ",\"delta_fp\":\"")?;
    let delta = text(&mut rest)?.parse().ok()?;
    clock_here(&mut rest, &mut clock)?;
    take(&mut rest, ",\"side\":\"")?;
    let yes = if take(&mut rest, "yes\"").is_some() {
        true
    } else {
        take(&mut rest, "no\"")?;
        false
    };
    clock_here(&mut rest, &mut clock)?;
    if take(&mut rest, ",\"ts\":\"").is_some() {
        text(&mut rest)?;
        clock_here(&mut rest, &mut clock)?;
    }
    take(&mut rest, ",\"ts_ms\":")?;
    let ts_ms = integer(&mut rest)?;
    clock_here(&mut rest, &mut clock)?;
    take(&mut rest, "}")?;
    if sent.is_none() {
        sent = optional_integer(&mut rest, ",\"sending_ts_ms\":")?;
    }
    take(&mut rest, "}")?;
    if !matches!(rest, "" | "\n") {
        return None;
    }
    Some(Scanned { sid, seq, sent, market_ticker, market_id, price, delta, clock, yes, ts_ms })
}

/// Reads the clock, if it comes next and has not been read.
#[inline]
fn clock_here(rest: &mut &str, clock: &mut Option<i64>) -> Option<()> {
    if clock.is_none() {
        *clock = optional_integer(rest, ",\"clock\":")?;
    }
    Some(())
}

/// Goes past the words, if they come next.
#[inline]
fn take(rest: &mut &str, words: &str) -> Option<()> {
    *rest = rest.strip_prefix(words)?;
    Some(())
}

/// A number without sign, leading zero or more than 18 digits.
#[inline]
fn integer(rest: &mut &str) -> Option<i64> {
    let bytes = rest.as_bytes();
    let mut value = 0_i64;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).map(|byte| byte.wrapping_sub(b'0'))
        && digit <= 9
    {
        if digits == 18 {
            return None;
        }
        value = value * 10 + i64::from(digit);
        digits += 1;
    }
    let leading_zero = digits > 1 && bytes.first() == Some(&b'0');
    if digits == 0 || leading_zero {
        return None;
    }
    *rest = rest.get(digits..)?;
    Some(value)
}

/// A number that may be left out, after the words that announce it. The outer `None` is "not sure".
#[expect(clippy::option_option, reason = "`?` on the outer one, the inner one is the answer")]
#[inline]
fn optional_integer(rest: &mut &str, words: &str) -> Option<Option<i64>> {
    match take(rest, words) {
        Some(()) => integer(rest).map(Some),
        None => Some(None),
    }
}

/// The text up to the next quote, and past it; no escapes and no control characters.
#[inline]
fn text<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let special = special(u64::from_le_bytes(*chunk));
        if special != 0 {
            at += (special.trailing_zeros() / 8) as usize;
            return finish(rest, at);
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
            return finish(rest, at);
        }
        at += 1;
    }
    None
}

#[inline]
fn finish<'a>(rest: &mut &'a str, at: usize) -> Option<&'a str> {
    let (text, after) = rest.split_at_checked(at)?;
    *rest = after.strip_prefix('"')?;
    Some(text)
}

/// The high bit of each byte that is a quote, a backslash or a control character. A byte above the
/// first such one may be marked wrongly; the first is right.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let equals = |byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero
    };
    let below_blank = word.wrapping_sub(ONES * 0x20) & !word;
    (equals(b'"') | equals(b'\\') | below_blank) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a delta as documented, without its clock.
    const FIELDS: [&str; 7] = [
        r#""market_ticker":"KXT-1.5""#,
        r#""market_id":"9b0f6b43-5b68-4f9f-9f02-9a2d1b8ac1a1""#,
        r#""price_dollars":"0.9600""#,
        r#""delta_fp":"-54.00""#,
        r#""side":"yes""#,
        r#""ts":"2026-10-26T10:00:00.123Z""#,
        r#""ts_ms":1792922400123"#,
    ];

    fn frame(fields: &[&str]) -> String {
        let fields = fields.join(",");
        format!(r#"{{"type":"orderbook_delta","sid":2,"seq":3,"msg":{{{fields}}}}}"#)
    }

    #[test]
    fn a2_a_clock_in_any_place_keeps_a_delta_on_the_fast_path() {
        for has_ts in [true, false] {
            let mut fields = FIELDS.to_vec();
            if !has_ts {
                fields.remove(5);
            }
            assert_eq!(scan(&frame(&fields)).map(|scanned| scanned.clock), Some(None));
            for place in 0..=fields.len() {
                let mut fields = fields.clone();
                fields.insert(place, r#""clock":41"#);
                let frame = frame(&fields);
                let scanned = scan(&frame).unwrap_or_else(|| panic!("{frame}"));
                assert_eq!((scanned.clock, scanned.seq), (Some(41), 3), "{frame}");
                // Twice is for the general decoder, which refuses it.
                fields.push(r#""clock":41"#);
                assert_eq!(scan(&self::frame(&fields)), None);
            }
        }
    }

    #[test]
    fn a18_the_time_of_sending_keeps_a_delta_on_the_fast_path() {
        let delta = frame(&FIELDS);
        for sent in [
            delta.replace(r#""seq":3"#, r#""seq":3,"sending_ts_ms":1792922400130"#),
            delta.replace("}}", r#"},"sending_ts_ms":1792922400130}"#),
        ] {
            assert_eq!(scan(&sent).and_then(|scanned| scanned.sent), Some(1_792_922_400_130));
        }
    }
}
