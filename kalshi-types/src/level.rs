//! One level of an order book.

use serde::{Deserialize, Serialize};

use crate::{Count, Dollars};

/// One level of an order book: the contracts that rest at one price.
///
/// On the wire a list of two texts, `["0.5600", "10.00"]`.
///
/// # Examples
///
/// ```
/// use kalshi_types::PriceLevel;
///
/// let level: PriceLevel = serde_json::from_str(r#"["0.5600", "10.00"]"#)?;
/// assert_eq!(level, PriceLevel { price: "0.56".parse()?, count: "10".parse()? });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(Dollars, Count)", into = "(Dollars, Count)")]
pub struct PriceLevel {
    /// The price, in dollars per contract.
    pub price: Dollars,
    /// The contracts at that price.
    pub count: Count,
}

impl From<(Dollars, Count)> for PriceLevel {
    fn from((price, count): (Dollars, Count)) -> Self {
        Self { price, count }
    }
}

impl From<PriceLevel> for (Dollars, Count) {
    fn from(level: PriceLevel) -> Self {
        (level.price, level.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_list_of_two_texts() {
        let text = r#"["0.5600","10.00"]"#;
        let level: PriceLevel = serde_json::from_str(text).unwrap();
        assert_eq!(level.price.as_micros(), 560_000);
        assert_eq!(serde_json::to_string(&level).unwrap(), text);
        for wrong in [r#"["0.56"]"#, r#"["0.56","1","2"]"#, r#"{"price":"0.56"}"#, "null"] {
            assert!(serde_json::from_str::<PriceLevel>(wrong).is_err(), "{wrong}");
        }
    }
}
