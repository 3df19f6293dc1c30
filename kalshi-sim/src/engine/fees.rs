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

    /// The factor of the formula, in ten-thousandths.
    fn rate(self, maker: bool) -> i128 {
        match (self, maker) {
            (Self::Flat, _) | (Self::Quadratic, true) => 0,
            (_, false) => 700,
            (Self::QuadraticWithMakerFees, true) => 175,
            (Self::QuadraticWithComboMakerFees, true) => 350,
        }
    }
}

/// Ten-thousandths of a rate, millionths, hundredths, and 10⁻⁸ of price × (1 − price) make 10⁻²⁰
/// dollars; a centi-cent is this many of those.
const CENTI_CENT: i128 = 10_000_000_000_000_000;

impl Fees {
    /// Returns the multiplier as a number of JSON.
    pub(crate) fn multiplier(self) -> serde_json::Value {
        let text = format!("{}.{:06}", self.millionths / 1_000_000, self.millionths % 1_000_000);
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The fee of the model, `rate × multiplier × count × price × (1 − price)`, up to the next
    /// 10⁻⁴ dollars.
    pub(crate) fn of(self, price: Dollars, count: Count, maker: bool) -> Dollars {
        let price = i128::from(price.as_micros()).clamp(0, 1_000_000);
        let exact = self.kind.rate(maker)
            * i128::from(self.millionths)
            * i128::from(count.as_hundredths().max(0))
            * (price * (1_000_000 - price) / 10_000);
        let centi_cents = (exact + CENTI_CENT - 1) / CENTI_CENT;
        i64::try_from(centi_cents).ok().and_then(Dollars::from_centi_cents).unwrap_or(Dollars::MAX)
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

/// The balance moves in steps of 10⁻⁴ dollars (direct members) or cents (others). What is cut off
/// is charged, added up over the order, and given back by the cent as soon as it exceeds one.
pub(crate) fn charge(revenue: Dollars, fee: Dollars, direct: bool, rounding: Dollars) -> Charged {
    let step = if direct { Dollars::from_micros(100) } else { Dollars::CENT };
    let change = revenue.saturating_sub(fee);
    let cut = change.saturating_sub(change.floor_to(step).unwrap_or(change));
    let total = rounding.saturating_add(cut);
    let rebate = if total > Dollars::CENT { Dollars::CENT } else { Dollars::ZERO };
    let net = fee.saturating_add(cut).saturating_sub(rebate);
    // A fill that costs less than the rebate keeps the rest for the next one.
    if net < Dollars::ZERO {
        return Charged { fee: fee.saturating_add(cut), rounding: total };
    }
    Charged { fee: net, rounding: total.saturating_sub(rebate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    #[test]
    fn the_documented_roundings_come_out() {
        // (price, count, trade fee, net fees, what is left to give back)
        type Case =
            (&'static str, &'static str, &'static str, [&'static str; 3], [&'static str; 3]);
        let cases: [Case; 3] = [
            (
                "0.055",
                "1",
                "0.0085",
                ["0.0150", "0.0050", "0.0150"],
                ["0.0065", "0.0030", "0.0095"],
            ),
            (
                "0.50",
                "0.30",
                "0.0041",
                ["0.0100", "0.0000", "0.0100"],
                ["0.0059", "0.0018", "0.0077"],
            ),
            (
                "0.3301",
                "0.03",
                "0.0005",
                ["0.010097", "0.000097", "0.000097"],
                ["0.009597", "0.009194", "0.008791"],
            ),
        ];
        for (price, count, fee, nets, left) in cases {
            let cost = dollars(price).checked_mul_count(count.parse().unwrap()).unwrap();
            let mut rounding = Dollars::ZERO;
            for (net, left) in nets.iter().zip(left) {
                let charged =
                    charge(Dollars::ZERO.saturating_sub(cost), dollars(fee), false, rounding);
                assert_eq!(charged.fee, dollars(net), "{price} x {count}");
                assert_eq!(charged.rounding, dollars(left), "{price} x {count}");
                rounding = charged.rounding;
            }
        }
    }

    #[test]
    fn the_model_fee_is_exact_and_rounded_up() {
        let fees = Fees::default();
        // 0.07 × 100 × 0.5 × 0.5
        assert_eq!(fees.of(dollars("0.5"), "100".parse().unwrap(), false), dollars("1.75"));
        // 0.07 × 1 × 0.33 × 0.67 = 0.015477
        assert_eq!(fees.of(dollars("0.33"), "1".parse().unwrap(), false), dollars("0.0155"));
        assert_eq!(fees.of(dollars("0.33"), "1".parse().unwrap(), true), Dollars::ZERO);
        let makers = Fees { kind: FeeType::QuadraticWithMakerFees, millionths: 500_000 };
        // 0.0175 × 0.5 × 100 × 0.25
        assert_eq!(makers.of(dollars("0.5"), "100".parse().unwrap(), true), dollars("0.2188"));
    }
}
