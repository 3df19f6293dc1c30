use kalshi_types::{Count, Dollars};
use proptest::prelude::*;

use crate::{count, dollars, model};

#[test]
fn dollars_print_at_least_four_decimals_and_more_when_needed() {
    assert_eq!(dollars("0.56").to_string(), "0.5600");
    assert_eq!(dollars("0.560010").to_string(), "0.56001");
    assert_eq!(dollars("0.560001").to_string(), "0.560001");
    assert_eq!(dollars("0.000001").to_string(), "0.000001");
    assert_eq!(dollars("-0.01").to_string(), "-0.0100");
    assert_eq!(dollars("1234567").to_string(), "1234567.0000");
    assert_eq!(Dollars::ZERO.to_string(), "0.0000");
    assert_eq!(Dollars::MAX.to_string(), "9223372036854.775807");
    assert_eq!(Dollars::MIN.to_string(), "-9223372036854.775808");
}

#[test]
fn counts_print_two_decimals() {
    assert_eq!(count("10").to_string(), "10.00");
    assert_eq!(count("0.3").to_string(), "0.30");
    assert_eq!(count("-0.03").to_string(), "-0.03");
    assert_eq!(Count::ZERO.to_string(), "0.00");
    assert_eq!(Count::MAX.to_string(), "92233720368547758.07");
    assert_eq!(Count::MIN.to_string(), "-92233720368547758.08");
}

#[test]
fn debug_shows_the_type_and_the_wire_form() {
    assert_eq!(format!("{:?}", dollars("-0.56")), "Dollars(-0.5600)");
    assert_eq!(format!("{:?}", Some(count("10"))), "Some(Count(10.00))");
}

#[test]
fn formatting_pads_and_never_rounds() {
    let price = dollars("0.567891");
    assert_eq!(format!("{price:>10}"), "  0.567891");
    assert_eq!(format!("{price:<10}|"), "0.567891  |");
    assert_eq!(format!("{price:*^10}"), "*0.567891*");
    assert_eq!(format!("{price:+}"), "+0.567891");
    assert_eq!(format!("{:010}", dollars("-0.56")), "-0000.5600");
    assert_eq!(format!("{price:.2}"), "0.567891");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn dollars_survive_the_way_through_text(micros in units()) {
        let value = Dollars::from_micros(micros);
        prop_assert_eq!(value.to_string().parse(), Ok(value));
    }

    #[test]
    fn counts_survive_the_way_through_text(hundredths in units()) {
        let value = Count::from_hundredths(hundredths);
        prop_assert_eq!(value.to_string().parse(), Ok(value));
    }

    #[test]
    fn printing_agrees_with_moving_the_point(units in units()) {
        let mut expected = model::text(units, 6);
        for _ in 0..2 {
            expected.truncate(expected.strip_suffix('0').map_or(expected.len(), str::len));
        }
        prop_assert_eq!(Dollars::from_micros(units).to_string(), expected);
        prop_assert_eq!(Count::from_hundredths(units).to_string(), model::text(units, 2));
    }
}

/// Generates the whole range, the size of real amounts, and the edges.
pub(crate) fn units() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -2_000_000_i64..2_000_000,
        (-100_000_000_i64..100_000_000).prop_map(|units| units * 100),
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX]),
    ]
}
