//! Fixed-point decimals as text: an `i64` number of units, of which `10^DECIMALS` make one.
//!
//! Nothing here allocates, rounds or panics, and nothing knows what the units mean.

use std::str;

use crate::error::ParseErrorKind;

/// Bounds the cost of a hostile text. The longest canonical text has 21 bytes.
const MAX_LEN: usize = 64;

/// The largest number of digits before the point that, with six after it, fits an `i64`.
const MAX_QUICK_WHOLE: usize = 12;

/// These digits, a point and six decimals. Were all of them digits, they would fit a `u64`.
const MAX_QUICK: usize = MAX_QUICK_WHOLE + 7;

/// Sign, 19 digits and a point.
const MAX_PRINTED: usize = 21;

/// Reads a text exactly, or says why it cannot.
#[inline]
pub(crate) fn parse<const DECIMALS: u32>(text: &[u8]) -> Result<i64, ParseErrorKind> {
    match parse_quickly::<DECIMALS>(text) {
        Some(units) => Ok(units),
        None => parse_any::<DECIMALS>(text),
    }
}

/// Reads the forms that the exchange sends. `None` means "not sure": [`parse_any`] decides.
///
/// A page of markets holds tens of thousands of these, nearly all with two, four or six decimals.
/// Taking those apart by their number is faster than looking at byte after byte for a point.
#[inline]
fn parse_quickly<const DECIMALS: u32>(text: &[u8]) -> Option<i64> {
    // A price. The digits are one number, without its point.
    if let [whole, b'.', d1, d2, d3, d4] = *text
        && DECIMALS >= 4
        && let Some(units) = digits([whole, d1, d2, d3, d4])
    {
        return i64::try_from(units * 10_u64.pow(DECIMALS - 4)).ok();
    }
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if unsigned.len() > MAX_QUICK {
        return None;
    }
    let mut whole = 0_u64;
    let mut rest = unsigned;
    while let [byte @ b'0'..=b'9', after @ ..] = rest {
        whole = whole * 10 + u64::from(byte - b'0');
        rest = after;
    }
    if !(1..=MAX_QUICK_WHOLE).contains(&(unsigned.len() - rest.len())) {
        return None;
    }
    let fraction = match *rest {
        [] => 0,
        [b'.', d1, d2, d3, d4] if DECIMALS >= 4 => {
            digits([d1, d2, d3, d4])? * 10_u64.pow(DECIMALS - 4)
        }
        [b'.', d1, d2] if DECIMALS >= 2 => digits([d1, d2])? * 10_u64.pow(DECIMALS - 2),
        [b'.', d1, d2, d3, d4, d5, d6] if DECIMALS >= 6 => {
            digits([d1, d2, d3, d4, d5, d6])? * 10_u64.pow(DECIMALS - 6)
        }
        [b'.', d1, d2, d3] if DECIMALS >= 3 => digits([d1, d2, d3])? * 10_u64.pow(DECIMALS - 3),
        _ => return None,
    };
    let units = i64::try_from(whole * 10_u64.pow(DECIMALS) + fraction).ok()?;
    Some(if negative { -units } else { units })
}

/// Returns the value of a few digits, or `None` when one is not a digit.
#[inline]
pub(crate) fn digits<const N: usize>(bytes: [u8; N]) -> Option<u64> {
    let mut value = 0;
    let mut valid = true;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        // One branch after the loop is cheaper than one in each round.
        valid &= digit <= 9;
        value = value * 10 + u64::from(digit);
    }
    valid.then_some(value)
}

/// Reads any text at all, slowly, with the reason for refusing it.
#[cold]
fn parse_any<const DECIMALS: u32>(text: &[u8]) -> Result<i64, ParseErrorKind> {
    if text.len() > MAX_LEN {
        return Err(ParseErrorKind::TooLong);
    }
    // The number of units, without a sign. What saturates is out of range.
    let mut units = 0_u128;
    let mut any_digit = false;
    // Decimals seen so far, once there has been a point.
    let mut decimals = None;
    let mut exact = true;
    for (position, byte) in text.iter().enumerate() {
        match (byte, decimals) {
            (b'-' | b'+', _) if position == 0 => continue,
            (b'.', None) => {
                decimals = Some(0);
                continue;
            }
            (b'0'..=b'9', _) => any_digit = true,
            _ => return Err(ParseErrorKind::InvalidCharacter { position }),
        }
        let digit = u128::from(byte - b'0');
        match &mut decimals {
            Some(seen) if *seen == DECIMALS => exact &= digit == 0,
            Some(seen) => {
                *seen += 1;
                units = append(units, digit);
            }
            None => units = append(units, digit),
        }
    }
    if !any_digit {
        return Err(ParseErrorKind::Empty);
    }
    if !exact {
        return Err(ParseErrorKind::TooManyDecimals);
    }
    for _ in decimals.unwrap_or(0)..DECIMALS {
        units = append(units, 0);
    }
    let units = i128::try_from(units).map_err(|_| ParseErrorKind::OutOfRange)?;
    let units = if text.first() == Some(&b'-') { -units } else { units };
    i64::try_from(units).map_err(|_| ParseErrorKind::OutOfRange)
}

fn append(units: u128, digit: u128) -> u128 {
    units.saturating_mul(10).saturating_add(digit)
}

/// A printed number, on the stack.
pub(crate) struct Text {
    bytes: [u8; MAX_PRINTED],
    start: usize,
}

impl Text {
    /// Prints all `DECIMALS` decimals, less the trailing zeros after the first `AT_LEAST`.
    #[inline]
    pub(crate) fn new<const DECIMALS: usize, const AT_LEAST: usize>(units: i64) -> Self {
        let mut text = Self { bytes: [b'0'; MAX_PRINTED], start: MAX_PRINTED };
        let mut rest = units.unsigned_abs();
        let mut decimals = DECIMALS;
        while decimals > AT_LEAST && rest.is_multiple_of(10) {
            rest /= 10;
            decimals -= 1;
        }
        for _ in 0..decimals {
            text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
        text.push(b'.');
        loop {
            text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if units < 0 {
            text.push(b'-');
        }
        text
    }

    #[inline]
    pub(crate) fn as_str(&self) -> &str {
        // Only ASCII is ever pushed, so the empty string is not reached.
        self.bytes.get(self.start..).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// Returns the text without its sign, for padding.
    pub(crate) fn unsigned(&self) -> &str {
        self.as_str().trim_start_matches('-')
    }

    /// Puts a byte in front.
    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(start) = self.start.checked_sub(1)
            && let Some(slot) = self.bytes.get_mut(start)
        {
            *slot = byte;
            self.start = start;
        }
    }
}
