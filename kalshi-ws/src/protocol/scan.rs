//! The fast path for the one frame that comes a hundred thousand times a second.
//!
//! Knows the documented layout of `orderbook_delta` and nothing else. Whatever is unusual (another
//! order of fields, a field more, an escape, an exponent, a blank) is left to the general decoder:
//! `None` means "not sure", never "wrong". What it does read, it reads as the general decoder would;
//! a test with random frames compares the two.

use kalshi_types::{Count, Dollars};

/// A delta, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned<'a> {
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
#[inline(always)]
#[expect(clippy::inline_always, reason = "what it returns is large: it stays where it is read")]
pub(crate) fn scan(frame: &str) -> Option<Scanned<'_>> {
    let mut rest = Rest { frame, bytes: frame.as_bytes() };
    rest.take(b"{\"type\":\"orderbook_delta\",\"sid\":")?;
    let sid = rest.integer()?;
    rest.take(b",\"seq\":")?;
    let seq = rest.integer()?;
    let mut sent = rest.optional_integer(b",\"sending_ts_ms\":")?;
    rest.take(b",\"msg\":{")?;
    // Documented behind `market_id`; the order on the wire is not promised, so any place will do.
    let mut clock = rest.optional_integer(b"\"clock\":")?;
    if clock.is_some() {
        rest.take(b",")?;
    }
    rest.take(b"\"market_ticker\":\"")?;
    let market_ticker = rest.text()?;
    rest.key(b",\"market_id\":\"", &mut clock)?;
    let market_id = rest.text()?;
    rest.key(b",\"price_dollars\":\"", &mut clock)?;
    let price = rest.text()?.parse().ok()?;
    rest.key(b",\"delta_fp\":\"", &mut clock)?;
    let delta = rest.text()?.parse().ok()?;
    rest.key(b",\"side\":\"", &mut clock)?;
    let yes = if rest.take(b"yes\"").is_some() {
        true
    } else {
        rest.take(b"no\"")?;
        false
    };
    if rest.take(b",\"ts\":\"").is_some()
        || rest.clock_here(&mut clock)? && rest.take(b",\"ts\":\"").is_some()
    {
        rest.text()?;
    }
    rest.key(b",\"ts_ms\":", &mut clock)?;
    let ts_ms = rest.integer()?;
    rest.key(b"}", &mut clock)?;
    if sent.is_none() {
        sent = rest.optional_integer(b",\"sending_ts_ms\":")?;
    }
    rest.take(b"}")?;
    if !matches!(rest.bytes, b"" | b"\n") {
        return None;
    }
    Some(Scanned { sid, seq, sent, market_ticker, market_id, price, delta, clock, yes, ts_ms })
}

/// The fields around a message in the documented order, and the text of the message, which is not
/// looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enveloped<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: Option<i64>,
    pub(crate) sid: Option<i64>,
    pub(crate) seq: Option<i64>,
    pub(crate) sent: Option<i64>,
    pub(crate) msg: &'a str,
}

/// Reads the envelope of a message. What it returns is right if `msg` is one JSON value.
#[inline]
pub(crate) fn envelope(frame: &str) -> Option<Enveloped<'_>> {
    let mut rest = Rest { frame, bytes: frame.as_bytes() };
    rest.take(b"{\"type\":\"")?;
    let kind = rest.text()?;
    let id = rest.optional_integer(b",\"id\":")?;
    let sid = rest.optional_integer(b",\"sid\":")?;
    let seq = rest.optional_integer(b",\"seq\":")?;
    let sent = rest.optional_integer(b",\"sending_ts_ms\":")?;
    rest.take(b",\"msg\":")?;
    let from = frame.len() - rest.bytes.len();
    let msg = frame.get(from..)?;
    let msg = msg.strip_suffix('\n').unwrap_or(msg).strip_suffix('}')?;
    Some(Enveloped { kind, id, sid, seq, sent, msg })
}

/// The part of a frame that is not read yet.
struct Rest<'a> {
    frame: &'a str,
    /// Its end.
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    /// Goes past the words, if they come next.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a comparison with words that are known")]
    fn take<const N: usize>(&mut self, words: &[u8; N]) -> Option<()> {
        let (next, after) = self.bytes.split_first_chunk::<N>()?;
        if next != words {
            return None;
        }
        self.bytes = after;
        Some(())
    }

    /// Reads a number without sign, leading zero or more than 18 digits.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the place in the frame stays in registers")]
    fn integer(&mut self) -> Option<i64> {
        let mut value = 0_i64;
        let mut digits = 0;
        // Eight digits at a time, then one by one.
        while digits <= 8
            && let Some(chunk) = self.bytes.get(digits..).and_then(<[u8]>::first_chunk::<8>)
        {
            let word = u64::from_le_bytes(*chunk) ^ ZEROS;
            match leading_digits(word) {
                8 => {
                    value = value * 100_000_000 + eight_digits(word);
                    digits += 8;
                }
                0 => break,
                some => {
                    // The digits move to the end, behind zeros.
                    let power = POWERS.get(some).copied()?;
                    value = value * power + eight_digits(word << (64 - 8 * some));
                    digits += some;
                    break;
                }
            }
        }
        while let Some(digit) = self.bytes.get(digits).map(|byte| byte.wrapping_sub(b'0'))
            && digit <= 9
        {
            if digits == 18 {
                return None;
            }
            value = value * 10 + i64::from(digit);
            digits += 1;
        }
        let leading_zero = digits > 1 && self.bytes.first() == Some(&b'0');
        if digits == 0 || leading_zero {
            return None;
        }
        self.bytes = self.bytes.get(digits..)?;
        Some(value)
    }

    /// Reads a number that may be left out, after the words that announce it. The outer `None` is
    /// "not sure".
    #[expect(clippy::option_option, reason = "`?` on the outer one, the inner one is the answer")]
    #[inline]
    fn optional_integer<const N: usize>(&mut self, words: &[u8; N]) -> Option<Option<i64>> {
        match self.take(words) {
            Some(()) => self.integer().map(Some),
            None => Some(None),
        }
    }

    /// Goes past the words, which come next or behind the clock. Nothing is compared twice unless
    /// the clock is there.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a comparison with words that are known")]
    fn key<const N: usize>(&mut self, words: &[u8; N], clock: &mut Option<i64>) -> Option<()> {
        if self.take(words).is_some() {
            return Some(());
        }
        if self.clock_here(clock)? { self.take(words) } else { None }
    }

    /// Reads the clock, if it comes next and has not been read. Reports whether it was.
    #[inline]
    fn clock_here(&mut self, clock: &mut Option<i64>) -> Option<bool> {
        if clock.is_some() || self.take(b",\"clock\":").is_none() {
            return Some(false);
        }
        *clock = Some(self.integer()?);
        Some(true)
    }

    /// Reads the text up to the next quote, and past it; no escapes and no control characters.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the place in the frame stays in registers")]
    fn text(&mut self) -> Option<&'a str> {
        let mut at = 0;
        while let Some(chunk) = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let special = special(u64::from_le_bytes(*chunk));
            if special != 0 {
                at += (special.trailing_zeros() / 8) as usize;
                return self.finish(at);
            }
            at += 8;
        }
        while let Some(byte) = self.bytes.get(at) {
            if matches!(byte, b'"' | b'\\' | 0..=0x1f) {
                return self.finish(at);
            }
            at += 1;
        }
        None
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the place in the frame stays in registers")]
    fn finish(&mut self, at: usize) -> Option<&'a str> {
        let from = self.frame.len() - self.bytes.len();
        let text = self.frame.get(from..from + at)?;
        let [b'"', after @ ..] = self.bytes.get(at..)? else { return None };
        self.bytes = after;
        Some(text)
    }
}

/// Eight zeros, in text.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The powers of ten.
const POWERS: [i64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Returns the number of bytes before the first that is above nine; the first of the text is the
/// lowest.
#[inline]
const fn leading_digits(word: u64) -> usize {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // A byte above the first such one may be marked wrongly; the first is right.
    let above_nine = (word.wrapping_add(0x7676_7676_7676_7676) | word) & HIGH;
    (above_nine.trailing_zeros() / 8) as usize
}

/// Returns the number of eight digits, of which the first is in the lowest byte: pairs, fours, all.
#[inline]
fn eight_digits(word: u64) -> i64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let odd = (pairs & PAIRS).wrapping_mul(0x000f_4240_0000_0064);
    let even = ((pairs >> 16) & PAIRS).wrapping_mul(0x0000_2710_0000_0001);
    i64::from((odd.wrapping_add(even) >> 32) as u32)
}

/// Returns the high bit of each byte that is a quote, a backslash or a control character. A byte
/// above the first such one may be marked wrongly; the first is right.
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn numbers_are_read_as_the_standard_library_reads_them(
            number in 0..=999_999_999_999_999_999_i64,
            digits in 0..18_u32,
            zeros in 0..3_usize,
            after in "[,}0-9a/:;\u{80}-\u{ff}]{0,9}",
        ) {
            let number = number / 10_i64.pow(digits);
            let text = format!("{}{number}{after}", "0".repeat(zeros / 2));
            let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
            let (digits, rest) = text.split_at(end);
            let is_plain = digits.len() <= 18 && (digits.len() == 1 || !digits.starts_with('0'));
            let expected = is_plain.then(|| (digits.parse::<i64>().unwrap(), rest.len()));
            let mut found = Rest { frame: &text, bytes: text.as_bytes() };
            let value = found.integer();
            prop_assert_eq!(value.map(|value| (value, found.bytes.len())), expected);
        }
    }
}
