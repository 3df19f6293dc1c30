use kalshi_types::{Count, Dollars};
use proptest::prelude::*;

use crate::{count, dollars, print::units};

/// Returns the exact result where it fits.
fn fits(units: i128) -> Option<i64> {
    i64::try_from(units).ok()
}

#[test]
fn integers_of_every_unit_convert_exactly_or_not_at_all() {
    assert_eq!(Dollars::from_centi_cents(5_600), Some(dollars("0.56")));
    assert_eq!(Dollars::from_cents(56), Some(dollars("0.56")));
    assert_eq!(Dollars::from_cents(-56), Some(dollars("-0.56")));
    assert_eq!(Dollars::from_dollars(-3), Some(dollars("-3")));
    assert_eq!(Dollars::from_cents(i64::MAX), None);
    assert_eq!(Dollars::from_centi_cents(i64::MIN), None);
    assert_eq!(Dollars::from_dollars(9_223_372_036_855), None);
    assert_eq!(dollars("0.5601").to_centi_cents(), Some(5_601));
    assert_eq!(dollars("0.5601").to_cents(), None);
    assert_eq!(dollars("-0.56").to_cents(), Some(-56));
    assert_eq!(dollars("0.560001").to_centi_cents(), None);
    assert_eq!(Count::from_contracts(-10), Some(count("-10")));
    assert_eq!(Count::from_contracts(i64::MAX), None);
    assert_eq!(count("-10").to_contracts(), Some(-10));
    assert_eq!(count("10.01").to_contracts(), None);
}

#[test]
fn constants_are_what_they_are_called() {
    assert_eq!(Dollars::ONE, dollars("1"));
    assert_eq!(Dollars::CENT, dollars("0.01"));
    assert_eq!(Count::ONE, count("1"));
    assert_eq!(Dollars::default(), Dollars::ZERO);
    assert_eq!(Count::default(), Count::ZERO);
}

#[test]
fn rounding_goes_where_its_name_says() {
    let step = Dollars::CENT;
    assert_eq!(dollars("0.019").floor_to(step), Some(dollars("0.01")));
    assert_eq!(dollars("0.011").ceil_to(step), Some(dollars("0.02")));
    assert_eq!(dollars("-0.011").floor_to(step), Some(dollars("-0.02")));
    assert_eq!(dollars("-0.019").ceil_to(step), Some(dollars("-0.01")));
    assert_eq!(dollars("0.02").floor_to(step), Some(dollars("0.02")));
    assert_eq!(dollars("0.02").ceil_to(step), Some(dollars("0.02")));
    assert_eq!(Dollars::MIN.floor_to(step), None);
    assert_eq!(Dollars::MAX.ceil_to(step), None);
    assert_eq!(Dollars::ONE.floor_to(Dollars::ZERO), None);
    assert_eq!(Dollars::ONE.ceil_to(dollars("-0.01")), None);
}

#[test]
fn the_settlement_example_of_the_exchange_holds() {
    // Start at $10.0000, 100.01 contracts settle at $0.3060: the balance is floored.
    let payout = dollars("0.3060").checked_mul_count(count("100.01")).unwrap();
    assert_eq!(payout, dollars("30.60306"));
    let balance = dollars("10").checked_add(payout).unwrap();
    let floored = balance.floor_to(Dollars::from_micros(100)).unwrap();
    assert_eq!(floored, dollars("40.6030"));
    assert_eq!(balance.checked_sub(floored), Some(dollars("0.00006")));
}

#[test]
fn a_product_that_is_finer_than_the_unit_is_refused() {
    assert_eq!(dollars("0.000001").checked_mul_count(count("0.01")), None);
    assert_eq!(dollars("0.000001").checked_mul_count(count("1")), Some(dollars("0.000001")));
    assert_eq!(dollars("0.0001").checked_mul_count(count("0.01")), Some(dollars("0.000001")));
    assert_eq!(Dollars::MIN.checked_mul_count(count("-1")), None);
    assert_eq!(Dollars::MIN.checked_mul_count(Count::MIN), None);
    assert_eq!(Dollars::MIN.checked_mul_count(count("1")), Some(Dollars::MIN));
}

#[test]
fn a_sum_is_exact_whatever_the_order_and_the_subtotals() {
    let none: [Dollars; 0] = [];
    assert_eq!(none.iter().sum::<Option<Dollars>>(), Some(Dollars::ZERO));
    let items = [Dollars::MAX, Dollars::MAX, Dollars::MIN, Dollars::MIN];
    assert_eq!(items.iter().sum::<Option<Dollars>>(), Some(Dollars::from_micros(-2)));
    assert_eq!([Dollars::MAX, Dollars::CENT].into_iter().sum::<Option<Dollars>>(), None);
    assert_eq!([count("1"), count("0.5")].iter().sum::<Option<Count>>(), Some(count("1.5")));
}

#[test]
fn the_complement_of_a_no_price_is_the_yes_price() {
    assert_eq!(dollars("0.44").complement(), Some(dollars("0.56")));
    assert_eq!(Dollars::ONE.complement(), Some(Dollars::ZERO));
    assert_eq!(Dollars::MIN.complement(), None);
    assert_eq!(Dollars::MAX.complement(), Some(Dollars::from_micros(1_000_000 - i64::MAX)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn dollars_agree_with_exact_arithmetic(a in units(), b in units()) {
        let (x, y) = (Dollars::from_micros(a), Dollars::from_micros(b));
        let (wide_a, wide_b) = (i128::from(a), i128::from(b));
        let micros = |value: Option<Dollars>| value.map(Dollars::as_micros);
        prop_assert_eq!(micros(x.checked_add(y)), fits(wide_a + wide_b));
        prop_assert_eq!(micros(x.checked_sub(y)), fits(wide_a - wide_b));
        prop_assert_eq!(micros(x.checked_mul(b)), fits(wide_a * wide_b));
        prop_assert_eq!(micros(x.checked_neg()), fits(-wide_a));
        prop_assert_eq!(micros(x.checked_abs()), fits(wide_a.abs()));
        prop_assert_eq!(micros(x.complement()), fits(1_000_000 - wide_a));
        prop_assert_eq!(micros([x, y].iter().sum()), fits(wide_a + wide_b));
        prop_assert_eq!(micros(Dollars::from_cents(a)), fits(wide_a * 10_000));
        prop_assert_eq!(micros(Dollars::from_centi_cents(a)), fits(wide_a * 100));
        prop_assert_eq!(x.is_negative(), a < 0);
        prop_assert_eq!(x.is_positive(), a > 0);
        prop_assert_eq!(x.is_zero(), a == 0);
    }

    #[test]
    fn counts_agree_with_exact_arithmetic(a in units(), b in units()) {
        let (x, y) = (Count::from_hundredths(a), Count::from_hundredths(b));
        let (wide_a, wide_b) = (i128::from(a), i128::from(b));
        let hundredths = |value: Option<Count>| value.map(Count::as_hundredths);
        prop_assert_eq!(hundredths(x.checked_add(y)), fits(wide_a + wide_b));
        prop_assert_eq!(hundredths(x.checked_sub(y)), fits(wide_a - wide_b));
        prop_assert_eq!(hundredths(x.checked_mul(b)), fits(wide_a * wide_b));
        prop_assert_eq!(hundredths(x.checked_neg()), fits(-wide_a));
        prop_assert_eq!(hundredths(x.checked_abs()), fits(wide_a.abs()));
        prop_assert_eq!(hundredths(Count::from_contracts(a)), fits(wide_a * 100));
        prop_assert_eq!(Count::from_contracts(a).map_or(Some(a), Count::to_contracts), Some(a));
    }

    #[test]
    fn order_is_that_of_the_numbers(a in units(), b in units()) {
        let numbers = a.cmp(&b);
        prop_assert_eq!(Dollars::from_micros(a).cmp(&Dollars::from_micros(b)), numbers);
        prop_assert_eq!(Count::from_hundredths(a).cmp(&Count::from_hundredths(b)), numbers);
    }

    #[test]
    fn a_product_with_a_count_is_exact_or_refused(price in units(), size in units()) {
        let product = i128::from(price) * i128::from(size);
        let expected = if product % 100 == 0 { fits(product / 100) } else { None };
        let actual = Dollars::from_micros(price).checked_mul_count(Count::from_hundredths(size));
        prop_assert_eq!(actual.map(Dollars::as_micros), expected);
    }

    #[test]
    fn a_price_of_four_decimals_has_a_product_with_every_count(
        price in 0_i64..=10_000,
        size in -100_000_000_i64..=100_000_000,
    ) {
        let price = Dollars::from_centi_cents(price).unwrap();
        prop_assert!(price.checked_mul_count(Count::from_hundredths(size)).is_some());
    }

    #[test]
    fn rounding_finds_the_nearest_multiple(amount in units(), step in 1_i64..=i64::MAX) {
        let (wide, wide_step) = (i128::from(amount), i128::from(step));
        let below = wide.div_euclid(wide_step) * wide_step;
        let above = if below == wide { wide } else { below + wide_step };
        let (amount, step) = (Dollars::from_micros(amount), Dollars::from_micros(step));
        prop_assert_eq!(amount.floor_to(step).map(Dollars::as_micros), fits(below));
        prop_assert_eq!(amount.ceil_to(step).map(Dollars::as_micros), fits(above));
    }
}
