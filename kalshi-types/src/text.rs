//! Fixed-point decimals as text: an `i64` number of units, of which `10^DECIMALS` make one.
//!
//! Nothing here allocates, rounds or panics, and nothing knows what the units mean.

use std::str;

use crate::error::ParseErrorKind;

/// Bounds the cost of a hostile text. The longest canonical text has 21 bytes.
const MAX_LEN: usize = 64;

/// This many digits never overflow a `u64`.
const SHORT_LEN: usize = 18;

/// Sign, 19 digits and a point.
const MAX_PRINTED: usize = 21;

const POWERS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Reads a text exactly, or says why it cannot.
#[inline]
pub(crate) fn parse<const DECIMALS: usize>(text: &[u8]) -> Result<i64, ParseErrorKind> {
    match parse_short::<DECIMALS>(text) {
        Some(units) => Ok(units),
        None => parse_any::<DECIMALS>(text),
    }
}

/// What the exchange sends, in one pass. `None` means "not sure": [`parse_any`] decides.
#[inline]
fn parse_short<const DECIMALS: usize>(text: &[u8]) -> Option<i64> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if unsigned.len() > SHORT_LEN {
        return None;
    }
    let mut digits = 0_u64;
    let mut point = None;
    for (index, byte) in unsigned.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            digits = digits * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return None;
        }
    }
    if unsigned.len() == usize::from(point.is_some()) {
        return None;
    }
    let decimals = point.map_or(0, |index| unsigned.len() - 1 - index);
    let scale = POWERS.get(DECIMALS.checked_sub(decimals)?)?;
    let units = i64::try_from(digits.checked_mul(*scale)?).ok()?;
    Some(if negative { -units } else { units })
}

/// Any text at all, slowly, with the reason for refusing it.
#[cold]
fn parse_any<const DECIMALS: usize>(text: &[u8]) -> Result<i64, ParseErrorKind> {
    if text.len() > MAX_LEN {
        return Err(ParseErrorKind::TooLong);
    }
    let mut whole = 0_u128;
    let mut fraction = 0_u128;
    let mut digits = 0_usize;
    // Decimals seen so far, once there has been a point.
    let mut decimals = None;
    let mut inexact = false;
    for (position, byte) in text.iter().enumerate() {
        match (byte, &mut decimals) {
            (b'0'..=b'9', decimals) => {
                let digit = u128::from(byte - b'0');
                digits += 1;
                match decimals {
                    None => whole = whole.saturating_mul(10).saturating_add(digit),
                    Some(seen) => {
                        if *seen < DECIMALS {
                            fraction = fraction * 10 + digit;
                        } else {
                            inexact |= digit != 0;
                        }
                        *seen += 1;
                    }
                }
            }
            (b'.', decimals @ None) => *decimals = Some(0),
            (b'-' | b'+', _) if position == 0 => {}
            _ => return Err(ParseErrorKind::InvalidCharacter { position }),
        }
    }
    if digits == 0 {
        return Err(ParseErrorKind::Empty);
    }
    if inexact {
        return Err(ParseErrorKind::TooManyDecimals);
    }
    for _ in decimals.unwrap_or(0)..DECIMALS {
        fraction *= 10;
    }
    let units =
        (0..DECIMALS).fold(whole, |units, _| units.saturating_mul(10)).saturating_add(fraction);
    let units = i128::try_from(units).map_err(|_| ParseErrorKind::OutOfRange)?;
    let units = if text.first() == Some(&b'-') { -units } else { units };
    i64::try_from(units).map_err(|_| ParseErrorKind::OutOfRange)
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

    /// The text without its sign, for padding.
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
