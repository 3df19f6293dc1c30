//! Trading fees, exactly as they are charged: the model fee of a fill, its rounding, and what is
//! given back of that.
//!
//! The fee of a fill depends on the fills before it **of the same order**: what rounding takes is
//! added up over the order and given back in whole steps. So a fee is computed by an
//! [`OrderFees`], which is fed with the fills of one order in their order, makers' and takers'
//! together.
//!
//! The formula of a [`Flat`](FeeType::Flat) series is not published: its fee cannot be computed, and
//! [`FeeSchedule::trade_fee`] says so instead of zero.

use kalshi_sdk::{
    Decimal,
    types::{FeeType, Series},
};
use kalshi_types::{BookSide, Count, Dollars};
use thiserror::Error;

/// The fees of a market, as its series (or an override of its event) has them.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::types::FeeType;
/// use kalshi_trade::fees::{FeeSchedule, Liquidity};
///
/// let schedule = FeeSchedule::new(FeeType::Quadratic, "1".parse()?)?;
/// // 0.07 × 0.055 × 0.945 = 0.00363825: up to the next micro-dollar.
/// let fee = schedule.trade_fee("0.055".parse()?, "1.00".parse()?, Liquidity::Taker)?;
/// assert_eq!(fee, "0.003639".parse()?);
/// let maker = schedule.trade_fee("0.055".parse()?, "1.00".parse()?, Liquidity::Maker)?;
/// assert!(maker.is_zero());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeSchedule {
    kind: FeeType,
    multiplier: Decimal,
}

/// The role of an order in a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liquidity {
    /// It rested in the book.
    Maker,
    /// It came and met one that rested.
    Taker,
}

/// The steps in which the balance of a member moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// 10⁻⁴ dollars: members of the exchange itself.
    Direct,
    /// Whole cents: customers of a futures commission merchant and other intermediaries.
    Intermediated,
}

/// The reason why a fee was not computed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FeeError {
    /// The formula of this type of fee is not published, or not known to this version.
    #[error("the formula of the fee type {0:?} is not published: ask the exchange's fee schedule")]
    UnknownFormula(String),
    /// The multiplier is below zero.
    #[error("the fee multiplier {0} is below zero")]
    Multiplier(Decimal),
    /// The price is not between 0 and 1 dollar.
    #[error("the price {0} is not between 0 and 1 dollar")]
    Price(Dollars),
    /// The number of contracts is below zero.
    #[error("the count {0} is below zero")]
    Count(Count),
    /// The side is one that this version does not know.
    #[error("the side {0:?} is neither bid nor ask")]
    UnknownSide(String),
    /// An amount is out of range.
    #[error("the fee is out of range")]
    OutOfRange,
}

/// What a fill costs, part by part. All amounts are in dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FillFee {
    /// The fee by the formula, up to the next micro-dollar.
    pub trade_fee: Dollars,
    /// What is cut off so that the balance moves in whole steps.
    pub rounding_fee: Dollars,
    /// What is given back of the rounding of this fill and those before it.
    pub rebate: Dollars,
    /// What the fill costs: `trade_fee + rounding_fee − rebate`, never below zero.
    pub net_fee: Dollars,
}

/// The fees of one order, fill by fill.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::types::{BookSide, FeeType};
/// use kalshi_trade::fees::{FeeSchedule, Liquidity, OrderFees, Precision};
///
/// let schedule = FeeSchedule::new(FeeType::Quadratic, "1".parse()?)?;
/// let mut order = OrderFees::new(Precision::Intermediated);
/// // A buyer of one contract at 0.055 pays 0.058639, up to the cent.
/// let side = BookSide::Bid;
/// let fee = order.fill(&schedule, &side, "0.055".parse()?, "1.00".parse()?, Liquidity::Taker)?;
/// assert_eq!(fee.trade_fee, "0.003639".parse()?);
/// assert_eq!(fee.rounding_fee, "0.001361".parse()?);
/// assert_eq!(fee.net_fee, "0.005".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFees {
    precision: Precision,
    /// What rounding has taken and not yet given back.
    rounding: Dollars,
    total: Dollars,
}

impl Precision {
    /// Returns the step, in dollars.
    pub const fn step(self) -> Dollars {
        match self {
            Self::Direct => Dollars::from_micros(100),
            Self::Intermediated => Dollars::CENT,
        }
    }
}

/// The denominator of [`rate`].
const RATE_DECIMALS: u32 = 4;

/// Returns the factor of the formula, in ten-thousandths.
fn rate(kind: &FeeType, liquidity: Liquidity) -> Option<i128> {
    match (kind, liquidity) {
        (
            FeeType::Quadratic
            | FeeType::QuadraticWithMakerFees
            | FeeType::QuadraticWithComboMakerFees,
            Liquidity::Taker,
        ) => Some(700),
        (FeeType::Quadratic, Liquidity::Maker) => Some(0),
        (FeeType::QuadraticWithMakerFees, Liquidity::Maker) => Some(175),
        (FeeType::QuadraticWithComboMakerFees, Liquidity::Maker) => Some(350),
        _ => None,
    }
}

impl FeeSchedule {
    /// Creates a schedule from a type of fee and its multiplier.
    ///
    /// # Errors
    ///
    /// [`FeeError::Multiplier`] if it is below zero.
    pub fn new(kind: FeeType, multiplier: Decimal) -> Result<Self, FeeError> {
        if multiplier.digits() < 0 {
            return Err(FeeError::Multiplier(multiplier));
        }
        Ok(Self { kind, multiplier })
    }

    /// Returns the schedule of a series. An event may have one of its own, which comes first:
    /// `fee_type_override` and `fee_multiplier_override`.
    ///
    /// # Errors
    ///
    /// [`FeeError::Multiplier`] if its multiplier is below zero.
    pub fn of_series(series: &Series) -> Result<Self, FeeError> {
        Self::new(series.fee_type.clone(), series.fee_multiplier)
    }

    /// Returns the fee of a fill before rounding to the member's precision:
    /// `rate × multiplier × count × price × (1 − price)`, up to the next micro-dollar, where the
    /// rate of a taker is 0.07 and that of a maker 0, 0.0175 or 0.035, by the type of fee.
    ///
    /// The price is that of YES or of NO, which gives the same fee.
    ///
    /// # Errors
    ///
    /// [`FeeError`]: no formula is known, or a number is out of range.
    pub fn trade_fee(
        &self,
        price: Dollars,
        count: Count,
        liquidity: Liquidity,
    ) -> Result<Dollars, FeeError> {
        if price.is_negative() || price > Dollars::ONE {
            return Err(FeeError::Price(price));
        }
        if count.is_negative() {
            return Err(FeeError::Count(count));
        }
        let rate = rate(&self.kind, liquidity)
            .ok_or_else(|| FeeError::UnknownFormula(self.kind.to_string()))?;
        let micros = i128::from(price.as_micros());
        // In units of 10^-(4 + 2 + 12) dollars, times the multiplier: below 10³ × 10¹⁹ × 10¹².
        let plain = rate * i128::from(count.as_hundredths()) * (micros * (1_000_000 - micros));
        let decimals = RATE_DECIMALS + 2 + 12 - 6 + self.multiplier.decimals();
        let exact = plain.checked_mul(self.multiplier.digits()).ok_or(FeeError::OutOfRange)?;
        let unit = 10_i128.checked_pow(decimals).ok_or(FeeError::OutOfRange)?;
        let above = i128::from(exact % unit != 0);
        let micros = i64::try_from(exact / unit + above).map_err(|_| FeeError::OutOfRange)?;
        Ok(Dollars::from_micros(micros))
    }

    /// Returns the most that an order may cost in fees: the trade fee of all its contracts as a
    /// taker at the worst price between `price` and 0.50, and one step of rounding for each fill,
    /// of which there are at most `fills`.
    ///
    /// # Errors
    ///
    /// [`FeeError`], as [`trade_fee`](Self::trade_fee).
    pub fn worst_fee(
        &self,
        price: Dollars,
        count: Count,
        precision: Precision,
        fills: u32,
    ) -> Result<Dollars, FeeError> {
        // The rate of takers is the highest of each type, and the fee falls away from 0.50; an
        // order may trade at a better price than its own, so on either side of it.
        self.trade_fee(price, count, Liquidity::Taker)?;
        let fee = self.trade_fee(Dollars::from_micros(500_000), count, Liquidity::Taker)?;
        let rounding =
            precision.step().checked_mul(i64::from(fills)).ok_or(FeeError::OutOfRange)?;
        fee.checked_add(rounding).ok_or(FeeError::OutOfRange)
    }
}

impl OrderFees {
    /// Creates the fees of an order without fills.
    pub const fn new(precision: Precision) -> Self {
        Self { precision, rounding: Dollars::ZERO, total: Dollars::ZERO }
    }

    /// Adds a fill and returns its fee. `price` is that of YES, whatever the order was called.
    ///
    /// # Errors
    ///
    /// [`FeeError`]; the fill is not added then.
    pub fn fill(
        &mut self,
        schedule: &FeeSchedule,
        side: &BookSide,
        price: Dollars,
        count: Count,
        liquidity: Liquidity,
    ) -> Result<FillFee, FeeError> {
        let trade_fee = schedule.trade_fee(price, count, liquidity)?;
        let paid = match side {
            BookSide::Bid => price,
            BookSide::Ask => price.complement().ok_or(FeeError::OutOfRange)?,
            other => return Err(FeeError::UnknownSide(other.to_string())),
        };
        let cost = paid.checked_mul_count(count).ok_or(FeeError::OutOfRange)?;
        let revenue = cost.checked_neg().ok_or(FeeError::OutOfRange)?;
        self.charge(revenue, trade_fee)
    }

    /// Adds a fill by the change of the balance before fees (`revenue`, below zero for who pays) and
    /// its trade fee, and returns its fee.
    ///
    /// # Errors
    ///
    /// [`FeeError::OutOfRange`]; the fill is not added then.
    pub fn charge(&mut self, revenue: Dollars, trade_fee: Dollars) -> Result<FillFee, FeeError> {
        let step = self.precision.step();
        let parts = || {
            let change = revenue.checked_sub(trade_fee)?;
            let rounding_fee = change.checked_sub(change.floor_to(step)?)?;
            let rounding = self.rounding.checked_add(rounding_fee)?;
            let gross = trade_fee.checked_add(rounding_fee)?;
            let rebate = rounding.min(gross).floor_to(step)?.max(Dollars::ZERO);
            let net_fee = gross.checked_sub(rebate)?;
            let fee = FillFee { trade_fee, rounding_fee, rebate, net_fee };
            Some((fee, rounding.checked_sub(rebate)?, self.total.checked_add(net_fee)?))
        };
        let (fee, rounding, total) = parts().ok_or(FeeError::OutOfRange)?;
        self.rounding = rounding;
        self.total = total;
        Ok(fee)
    }

    /// Returns what all fills of the order cost so far, in dollars.
    pub const fn total(&self) -> Dollars {
        self.total
    }

    /// Returns what rounding has taken and not yet given back, in dollars.
    pub const fn rounding(&self) -> Dollars {
        self.rounding
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn schedule(kind: FeeType) -> FeeSchedule {
        FeeSchedule::new(kind, "1".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_published_fill_rounds_as_published() {
        let mut order = OrderFees::new(Precision::Intermediated);
        let fee = order.charge(dollars("-0.055"), dollars("0.003639")).unwrap();
        assert_eq!(fee.rounding_fee, dollars("0.001361"));
        assert_eq!(fee.rebate, Dollars::ZERO);
        assert_eq!(fee.net_fee, dollars("0.005"));
    }

    #[test]
    fn the_published_rebate_comes_with_the_third_fill() {
        // Each fill is cut by 0.004: 0.004, 0.008, and 0.012 of which a cent comes back.
        let mut order = OrderFees::new(Precision::Intermediated);
        let rebates: Vec<_> = (0..3)
            .map(|_| {
                let fee = order.charge(dollars("-0.046"), dollars("0.01")).unwrap();
                assert_eq!(fee.rounding_fee, dollars("0.004"));
                (fee.rebate, order.rounding())
            })
            .collect();
        let expected = [("0", "0.004"), ("0", "0.008"), ("0.01", "0.002")];
        assert_eq!(rebates, expected.map(|(rebate, left)| (dollars(rebate), dollars(left))));
        assert_eq!(order.total(), dollars("0.032"));
    }

    #[test]
    fn makers_pay_by_the_type_of_the_series() {
        let fee = |kind: FeeType, liquidity| {
            schedule(kind).trade_fee(dollars("0.5"), "100".parse().unwrap(), liquidity).unwrap()
        };
        for kind in [
            FeeType::Quadratic,
            FeeType::QuadraticWithMakerFees,
            FeeType::QuadraticWithComboMakerFees,
        ] {
            assert_eq!(fee(kind, Liquidity::Taker), dollars("1.75"));
        }
        assert_eq!(fee(FeeType::Quadratic, Liquidity::Maker), Dollars::ZERO);
        assert_eq!(fee(FeeType::QuadraticWithMakerFees, Liquidity::Maker), dollars("0.4375"));
        assert_eq!(fee(FeeType::QuadraticWithComboMakerFees, Liquidity::Maker), dollars("0.875"));
    }

    #[test]
    fn a_formula_that_is_not_known_is_an_error_and_not_zero() {
        for kind in [FeeType::Flat, FeeType::from("cubic")] {
            let count = "1".parse().unwrap();
            let error = schedule(kind).trade_fee(Dollars::CENT, count, Liquidity::Maker);
            assert!(matches!(error, Err(FeeError::UnknownFormula(_))));
        }
    }

    #[test]
    fn the_worst_fee_is_that_of_the_middle() {
        let worst = schedule(FeeType::Quadratic)
            .worst_fee(dollars("0.90"), "100".parse().unwrap(), Precision::Direct, 100)
            .unwrap();
        assert_eq!(worst, dollars("1.76"));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let quadratic = schedule(FeeType::Quadratic);
        let one = Count::from_contracts(1).unwrap();
        let fee = |price, count| quadratic.trade_fee(price, count, Liquidity::Taker);
        assert_eq!(fee(dollars("1.01"), one), Err(FeeError::Price(dollars("1.01"))));
        assert_eq!(fee(dollars("-0.01"), one), Err(FeeError::Price(dollars("-0.01"))));
        let less = Count::from_hundredths(-1);
        assert_eq!(fee(Dollars::CENT, less), Err(FeeError::Count(less)));
        let negative = FeeSchedule::new(FeeType::Quadratic, "-1".parse().unwrap());
        assert!(matches!(negative, Err(FeeError::Multiplier(_))));
        let huge = FeeSchedule::new(FeeType::Quadratic, "1e18".parse().unwrap()).unwrap();
        let most = Count::from_hundredths(i64::MAX);
        let out = huge.trade_fee(dollars("0.5"), most, Liquidity::Taker);
        assert_eq!(out, Err(FeeError::OutOfRange));
    }

    proptest! {
        /// Fees are never below zero, the balance moves in whole steps, and the rest of the
        /// rounding is what was taken and not given back.
        #[test]
        fn an_order_pays_what_it_is_told(
            fills in prop::collection::vec((1_i64..10_000, 1_i64..100_000, any::<bool>(), any::<bool>()), 1..50),
            direct in any::<bool>(),
        ) {
            let schedule = schedule(FeeType::QuadraticWithMakerFees);
            let precision = if direct { Precision::Direct } else { Precision::Intermediated };
            let mut order = OrderFees::new(precision);
            let mut taken = Dollars::ZERO;
            let mut total = Dollars::ZERO;
            for (price, count, bid, maker) in fills {
                let price = Dollars::from_micros(price * 100);
                let count = Count::from_hundredths(count);
                let side = if bid { BookSide::Bid } else { BookSide::Ask };
                let liquidity = if maker { Liquidity::Maker } else { Liquidity::Taker };
                let fee = order.fill(&schedule, &side, price, count, liquidity).unwrap();
                let paid = if bid { price } else { price.complement().unwrap() };
                let change = paid.checked_mul_count(count).unwrap().checked_add(fee.net_fee).unwrap();
                prop_assert_eq!(change.floor_to(precision.step()), Some(change));
                prop_assert!(!fee.net_fee.is_negative() && !fee.rounding_fee.is_negative());
                taken = taken.checked_add(fee.rounding_fee).unwrap().checked_sub(fee.rebate).unwrap();
                total = total.checked_add(fee.net_fee).unwrap();
                prop_assert_eq!(order.rounding(), taken);
                prop_assert_eq!(order.total(), total);
            }
        }

        /// No number panics.
        #[test]
        fn any_number_has_an_answer(price in any::<i64>(), count in any::<i64>(), digits in any::<i64>(), decimals in 0_u32..30) {
            let Some(multiplier) = Decimal::new(digits.into(), decimals) else { return Ok(()) };
            let Ok(schedule) = FeeSchedule::new(FeeType::Quadratic, multiplier) else { return Ok(()) };
            let price = Dollars::from_micros(price.rem_euclid(1_200_000));
            let mut order = OrderFees::new(Precision::Direct);
            let _ = order.fill(&schedule, &BookSide::Ask, price, Count::from_hundredths(count), Liquidity::Taker);
        }
    }
}
