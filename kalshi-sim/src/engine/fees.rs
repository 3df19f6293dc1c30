//! Trading fees: the model fee of a fill, and its rounding.

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::engine::amount::SaturatingArithmetic;

/// The fee schedule of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FeeType {
    /// Takers pay, makers do not.
    Quadratic,
    /// Makers pay a quarter of what takers pay.
    QuadraticWithMakerFees,
    /// Makers pay half of what takers pay.
    QuadraticWithComboMakerFees,
    /// Not documented; nothing is charged here.
    Flat,
}

/// The fees of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fees {
    pub(crate) kind: FeeType,
    /// The multiplier, in millionths.
    pub(crate) millionths: u32,
}

impl Default for Fees {
    fn default() -> Self {
        Self { kind: FeeType::Quadratic, millionths: 1_000_000 }
    }
}

impl FeeType {
    /// Returns the word of the exchange.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Quadratic => "quadratic",
            Self::QuadraticWithMakerFees => "quadratic_with_maker_fees",
            Self::QuadraticWithComboMakerFees => "quadratic_with_combo_maker_fees",
            Self::Flat => "flat",
        }
    }

    /// Reads what [`as_str`](Self::as_str) gives.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            Self::Quadratic,
            Self::QuadraticWithMakerFees,
            Self::QuadraticWithComboMakerFees,
            Self::Flat,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }

    /// Returns the factor of the formula, in ten-thousandths.
    fn rate(self, maker: bool) -> i128 {
        match (self, maker) {
            (Self::Flat, _) | (Self::Quadratic, true) => 0,
            (_, false) => 700,
            (Self::QuadraticWithMakerFees, true) => 175,
            (Self::QuadraticWithComboMakerFees, true) => 350,
        }
    }
}

/// Ten-thousandths of a rate, millionths, hundredths, and the product of two prices in micro-dollars
/// make 10⁻²⁴ dollars; a micro-dollar is this many of those.
const MICRO: i128 = 1_000_000_000_000_000_000;

impl Fees {
    /// Returns the multiplier as a number of JSON.
    pub(crate) fn multiplier(self) -> serde_json::Value {
        let text = format!("{}.{:06}", self.millionths / 1_000_000, self.millionths % 1_000_000);
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Returns the trade fee: `rate × multiplier × count × price × (1 − price)`, up to the next
    /// micro-dollar.
    pub(crate) fn of(self, price: Dollars, count: Count, maker: bool) -> Dollars {
        let rate = self.kind.rate(maker);
        if rate == 0 {
            return Dollars::ZERO;
        }
        let price = i128::from(price.as_micros()).clamp(0, 1_000_000);
        let exact = rate
            * i128::from(self.millionths)
            * i128::from(count.as_hundredths().max(0))
            * (price * (1_000_000 - price));
        let micros = (exact + MICRO - 1) / MICRO;
        i64::try_from(micros).map_or(Dollars::MAX, Dollars::from_micros)
    }
}

/// The fee of a fill, after rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charged {
    /// The net fee, never below zero.
    pub(crate) fee: Dollars,
    /// The part that rounding has taken from the order and not yet given back.
    pub(crate) rounding: Dollars,
}

/// Returns the steps in which a member's balance moves: 10⁻⁴ dollars for direct members, cents for
/// others.
pub(crate) fn precision(direct: bool) -> Dollars {
    if direct { Dollars::from_micros(100) } else { Dollars::CENT }
}

/// Returns what a fill costs a member. The change of the balance is rounded down to the member's
/// precision; what is cut off is charged, added up over the order, and given back in whole steps of
/// the precision, but never more than the fill costs.
pub(crate) fn charge(revenue: Dollars, fee: Dollars, direct: bool, rounding: Dollars) -> Charged {
    let step = precision(direct);
    let change = revenue.saturating_sub(fee);
    let cut = change.saturating_sub(change.floor_to(step).unwrap_or(change));
    let held = rounding.saturating_add(cut);
    let gross = fee.saturating_add(cut);
    let rebate = held.min(gross).floor_to(step).unwrap_or(Dollars::ZERO);
    Charged { fee: gross.saturating_sub(rebate), rounding: held.saturating_sub(rebate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    /// Charges fills of one order one after the other, and checks fee and rest of each.
    fn check(revenue: &str, fee: &str, direct: bool, fills: &[(&str, &str)]) {
        let mut rounding = Dollars::ZERO;
        for (place, (net, left)) in fills.iter().enumerate() {
            let charged = charge(dollars(revenue), dollars(fee), direct, rounding);
            let expected = Charged { fee: dollars(net), rounding: dollars(left) };
            assert_eq!(charged, expected, "fill {place} of {revenue} at {fee}");
            rounding = charged.rounding;
        }
    }

    #[test]
    fn c1_the_trade_fee_is_rounded_up_to_a_micro_dollar() {
        let fees = Fees::default();
        let of = |price: &str, count: &str, maker: bool| {
            fees.of(dollars(price), count.parse().unwrap(), maker)
        };
        // 0.07 × 1 × 0.055 × 0.945 = 0.00363825, the published example.
        assert_eq!(of("0.055", "1", false), dollars("0.003639"));
        // 0.07 × 100 × 0.5 × 0.5 and 0.07 × 0.33 × 0.67 are whole.
        assert_eq!(of("0.5", "100", false), dollars("1.75"));
        assert_eq!(of("0.33", "1", false), dollars("0.015477"));
        // 0.07 × 0.01 × 0.0001 × 0.9999 = 0.00000006999…
        assert_eq!(of("0.0001", "0.01", false), dollars("0.000001"));
        assert_eq!(of("0.33", "1", true), Dollars::ZERO);
        let makers = Fees { kind: FeeType::QuadraticWithMakerFees, millionths: 500_000 };
        // 0.0175 × 0.5 × 100 × 0.25
        assert_eq!(makers.of(dollars("0.5"), "100".parse().unwrap(), true), dollars("0.21875"));
    }

    #[test]
    fn c1_the_change_of_the_balance_is_rounded_down_to_the_precision_of_the_member() {
        // −0.058639 becomes −0.06, and for a direct member −0.0587.
        check("-0.055", "0.003639", false, &[("0.005", "0.001361")]);
        check("-0.055", "0.003639", true, &[("0.0037", "0.000061")]);
    }

    #[test]
    fn c1_the_third_fill_that_rounds_by_four_tenths_of_a_cent_gives_a_cent_back() {
        let fills = [("0.01", "0.004"), ("0.01", "0.008"), ("0", "0.002")];
        check("-0.5", "0.006", false, &fills);
        // A hundredth of it for a direct member.
        let fills = [("0.0001", "0.00004"), ("0.0001", "0.00008"), ("0", "0.00002")];
        check("-0.5", "0.00006", true, &fills);
    }

    #[test]
    fn c1_a_rebate_is_a_whole_number_of_steps_and_never_more_than_the_fill_costs() {
        // Three and a half steps are held, and the fill costs two.
        let held = Dollars::from_micros(350);
        let charged = charge(dollars("-0.5"), dollars("0.0002"), true, held);
        let expected = Charged { fee: Dollars::ZERO, rounding: dollars("0.00015") };
        assert_eq!(charged, expected);
        // A fill that is free of fees and not rounded gets nothing.
        let charged = charge(dollars("-0.5"), Dollars::ZERO, true, held);
        assert_eq!(charged, Charged { fee: Dollars::ZERO, rounding: held });
        // The balance moves in whole steps whatever the fill is.
        for micros in 0..2_000 {
            let (revenue, fee) = (Dollars::from_micros(-micros * 37), Dollars::from_micros(micros));
            for direct in [true, false] {
                let charged = charge(revenue, fee, direct, Dollars::from_micros(micros % 90));
                let change = revenue.saturating_sub(charged.fee);
                assert_eq!(change.floor_to(precision(direct)), Some(change));
                assert!(!charged.fee.is_negative() && !charged.rounding.is_negative());
            }
        }
    }
}
