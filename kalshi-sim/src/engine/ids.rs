//! Ids: small numbers inside, texts in the form of a UUID outside.
//!
//! A text is computed from its number and back, so no table of ids is kept.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Odd, so that multiplying by it can be undone.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident($number:ty), $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(pub(crate) $number);

        impl $name {
            /// Returns the number as an index of a list that starts with the id 1.
            #[allow(dead_code, reason = "not every kind of id is kept in a list")]
            pub(crate) fn index(self) -> usize {
                usize::try_from(self.0).map_or(usize::MAX, |number| number.wrapping_sub(1))
            }

            #[allow(dead_code, reason = "not every kind of id is sent by clients")]
            /// Reads what [`Display`](fmt::Display) has printed; anything else is no id.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                let id = Self(read($kind, text)?.try_into().ok()?);
                // Numbers start with 1.
                (id.0 != 0 && id.to_string() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print($kind, u64::from(self.0), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// A member of the exchange.
    AccountId(u32),
    0xa
);
id!(
    /// The pseudonym of a member in requests for quotes; the number is the account's.
    CommunicationsId(u32),
    0xf
);
id!(
    /// A market. Outside it is called by its ticker; streams also send this id.
    MarketId(u32),
    0x3
);
id!(
    /// An order.
    OrderId(u64),
    0x0
);
id!(
    /// A trade, and the fills of both its parties.
    TradeId(u64),
    0x7
);
id!(
    /// An order group.
    GroupId(u64),
    0x6
);
id!(
    /// A request for quotes.
    RfqId(u64),
    0x4
);
id!(
    /// A quote.
    QuoteId(u64),
    0x9
);
id!(
    /// A batch of requests for quotes.
    BatchId(u64),
    0xb
);
id!(
    /// A quote for a whole batch.
    BatchQuoteId(u64),
    0xc
);
id!(
    /// A proposal of a block trade.
    BlockId(u64),
    0xd
);
id!(
    /// A transfer of money.
    TransferId(u64),
    0xe
);

id!(
    /// A payment into an account or out of it.
    PaymentId(u64),
    0x5
);

#[cfg(feature = "perps")]
id!(
    /// An exit trigger of a position on margin.
    TriggerId(u64),
    0x8
);
#[cfg(feature = "perps")]
id!(
    /// A notice of a corporate action.
    ActionId(u64),
    0x2
);
#[cfg(feature = "perps")]
id!(
    /// Something of the clearing house: an obligation, a row of one, a withdrawal, a netting group.
    ClearingId(u64),
    0x1
);

fn print(kind: u64, number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let spread = number.wrapping_mul(SPREAD);
    // The second half repeats the first in other bits, so that a changed digit is no id.
    let check = spread.rotate_left(23).wrapping_mul(SPREAD) ^ kind;
    write!(
        f,
        "{:08x}-{:04x}-4{:x}{:02x}-{:04x}-{:02x}{:010x}",
        spread >> 32,
        (spread >> 16) & 0xffff,
        kind,
        (spread >> 8) & 0xff,
        0x8000 | (check >> 50),
        spread & 0xff,
        check & 0xff_ffff_ffff,
    )
}

fn read(kind: u64, text: &str) -> Option<u64> {
    if text.len() != 36 || !text.is_ascii() {
        return None;
    }
    let digits = |start: usize, end: usize| u64::from_str_radix(text.get(start..end)?, 16).ok();
    if digits(15, 16)? != kind {
        return None;
    }
    let spread =
        digits(0, 8)? << 32 | digits(9, 13)? << 16 | digits(16, 18)? << 8 | digits(24, 26)?;
    Some(spread.wrapping_mul(inverse(SPREAD)))
}

/// Returns the inverse of an odd factor, by Newton's steps.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 6 {
        x = x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_any_changed_digit_is_none() {
        for number in [1, 2, 255, 1_000_000, u64::MAX] {
            let text = OrderId(number).to_string();
            assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert_eq!(OrderId::parse(&text), Some(OrderId(number)));
            assert_eq!(TradeId::parse(&text), None);
            for place in (0..36).filter(|place| &text[*place..=*place] != "-") {
                let mut changed = text.clone();
                let other = if &text[place..=place] == "0" { "1" } else { "0" };
                changed.replace_range(place..=place, other);
                assert_eq!(OrderId::parse(&changed), None, "{changed}");
            }
        }
        for text in
            ["", "x", "00000000-0000-4000-8000-000000000000", "é0000000-0000-4000-8000-00000000000"]
        {
            assert_eq!(OrderId::parse(text), None);
        }
    }
}
