use kalshi_types::{Count, Dollars, ParseErrorKind};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::{dollars, model, print::units};

#[test]
fn decimals_of_any_scale_convert_when_they_are_exact() {
    for text in ["0.56", "0.5600000000000000000000000000", "0.560"] {
        assert_eq!(Dollars::try_from(text.parse::<Decimal>().unwrap()), Ok(dollars("0.56")));
    }
    assert_eq!(Count::try_from(Decimal::from(10)), Ok(Count::from_hundredths(1_000)));
    assert_eq!(Dollars::try_from(Decimal::new(-1, 6)), Ok(Dollars::from_micros(-1)));
}

#[test]
fn a_decimal_that_does_not_fit_is_refused_with_the_reason() {
    let kind = |decimal: Decimal| Dollars::try_from(decimal).unwrap_err().kind();
    assert_eq!(kind(Decimal::new(1, 7)), ParseErrorKind::TooManyDecimals);
    assert_eq!(kind(Decimal::new(1, 28)), ParseErrorKind::TooManyDecimals);
    assert_eq!(kind(Decimal::MAX), ParseErrorKind::OutOfRange);
    assert_eq!(kind(Decimal::MIN), ParseErrorKind::OutOfRange);
    let error = Count::try_from(Decimal::new(1, 3)).unwrap_err();
    assert_eq!(error.to_string(), "contract count has more than 2 decimals");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_value_survives_the_way_through_a_decimal(units in units()) {
        let (value, size) = (Dollars::from_micros(units), Count::from_hundredths(units));
        prop_assert_eq!(Dollars::try_from(Decimal::from(value)), Ok(value));
        prop_assert_eq!(Count::try_from(Decimal::from(size)), Ok(size));
        prop_assert_eq!(Decimal::from(value).to_string(), model::text(units, 6));
        prop_assert_eq!(Decimal::from(size).to_string(), model::text(units, 2));
    }

    #[test]
    fn a_decimal_converts_when_its_text_does(
        low in any::<u32>(), mid in 0_u32..1_000, high in prop_oneof![Just(0_u32), any::<u32>()],
        negative in any::<bool>(),
        scale in 0_u32..=28,
    ) {
        let decimal = Decimal::from_parts(low, mid, high, negative, scale);
        let text = decimal.to_string();
        let value = Dollars::try_from(decimal).ok().map(Dollars::as_micros);
        prop_assert_eq!(value, model::units(&text, 6));
        let value = Count::try_from(decimal).ok().map(Count::as_hundredths);
        prop_assert_eq!(value, model::units(&text, 2));
    }
}
