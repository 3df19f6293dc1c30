use kalshi_types::{Count, Dollars, ParseErrorKind};
use proptest::prelude::*;

use crate::model;

fn micros(text: &str) -> Option<i64> {
    text.parse().ok().map(Dollars::as_micros)
}

fn hundredths(text: &str) -> Option<i64> {
    text.parse().ok().map(Count::as_hundredths)
}

fn dollars_error(text: &str) -> ParseErrorKind {
    text.parse::<Dollars>().unwrap_err().kind()
}

fn invalid_at(position: usize) -> ParseErrorKind {
    ParseErrorKind::InvalidCharacter { position }
}

#[test]
fn every_form_that_the_exchange_sends_is_read() {
    assert_eq!(micros("0.5600"), Some(560_000));
    assert_eq!(micros("0.960"), Some(960_000));
    assert_eq!(micros("0.56"), Some(560_000));
    assert_eq!(micros("0.560001"), Some(560_001));
    assert_eq!(micros("-1.25"), Some(-1_250_000));
    assert_eq!(micros("-0.0100"), Some(-10_000));
    assert_eq!(micros("100"), Some(100_000_000));
    assert_eq!(micros("0"), Some(0));
    assert_eq!(micros("1234567.890000"), Some(1_234_567_890_000));
    assert_eq!(hundredths("10.00"), Some(1_000));
    assert_eq!(hundredths("10"), Some(1_000));
    assert_eq!(hundredths("10.5"), Some(1_050));
    assert_eq!(hundredths("-0.03"), Some(-3));
}

#[test]
fn forms_with_one_possible_meaning_are_read_although_the_exchange_does_not_send_them() {
    assert_eq!(micros(".5"), Some(500_000));
    assert_eq!(micros("5."), Some(5_000_000));
    assert_eq!(micros("+0.5"), Some(500_000));
    assert_eq!(micros("000.5"), Some(500_000));
    assert_eq!(micros("-0"), Some(0));
    assert_eq!(micros("-.5"), Some(-500_000));
}

#[test]
fn digits_beyond_the_unit_are_read_only_when_they_are_zeros() {
    assert_eq!(micros("0.56000000000"), Some(560_000));
    assert_eq!(hundredths("10.000000"), Some(1_000));
    assert_eq!(dollars_error("0.5600001"), ParseErrorKind::TooManyDecimals);
    assert_eq!(dollars_error("0.56000010"), ParseErrorKind::TooManyDecimals);
    let error = "10.005".parse::<Count>().unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::TooManyDecimals);
    assert_eq!(error.to_string(), "contract count has more than 2 decimals");
}

#[test]
fn a_text_without_digits_is_empty() {
    for text in ["", "-", "+", ".", "-.", "+."] {
        assert_eq!(dollars_error(text), ParseErrorKind::Empty, "{text:?}");
    }
}

#[test]
fn the_first_invalid_character_is_named() {
    assert_eq!(dollars_error(" 0.56"), invalid_at(0));
    assert_eq!(dollars_error("0.56 "), invalid_at(4));
    assert_eq!(dollars_error("1e3"), invalid_at(1));
    assert_eq!(dollars_error("1,000"), invalid_at(1));
    assert_eq!(dollars_error("$1"), invalid_at(0));
    assert_eq!(dollars_error("--1"), invalid_at(1));
    assert_eq!(dollars_error("1-"), invalid_at(1));
    assert_eq!(dollars_error("-+1"), invalid_at(1));
    assert_eq!(dollars_error("0.5.6"), invalid_at(3));
    assert_eq!(dollars_error("0.5x00"), invalid_at(3));
    assert_eq!(dollars_error("0.5\u{661}"), invalid_at(3));
    assert_eq!(dollars_error("NaN"), invalid_at(0));
    assert_eq!(dollars_error("inf"), invalid_at(0));
    assert_eq!(dollars_error("0x10"), invalid_at(1));
    assert_eq!(dollars_error("1_000"), invalid_at(1));
}

#[test]
fn the_limits_are_read_and_one_unit_more_is_out_of_range() {
    assert_eq!(micros("9223372036854.775807"), Some(i64::MAX));
    assert_eq!(micros("-9223372036854.775808"), Some(i64::MIN));
    assert_eq!(dollars_error("9223372036854.775808"), ParseErrorKind::OutOfRange);
    assert_eq!(dollars_error("-9223372036854.775809"), ParseErrorKind::OutOfRange);
    assert_eq!(hundredths("92233720368547758.07"), Some(i64::MAX));
    assert_eq!(hundredths("-92233720368547758.08"), Some(i64::MIN));
    assert_eq!(hundredths("92233720368547758.08"), None);
    // These wrap to small numbers if a multiplication is not checked.
    assert_eq!(dollars_error("18446744073709.551617"), ParseErrorKind::OutOfRange);
    assert_eq!(dollars_error("18446744073709551617"), ParseErrorKind::OutOfRange);
    assert_eq!(dollars_error(&"9".repeat(64)), ParseErrorKind::OutOfRange);
}

#[test]
fn a_text_is_read_up_to_64_bytes() {
    assert_eq!(micros(&format!("0.56{}", "0".repeat(60))), Some(560_000));
    assert_eq!(micros(&format!("{}1", "0".repeat(63))), Some(1_000_000));
    assert_eq!(dollars_error(&"0".repeat(65)), ParseErrorKind::TooLong);
    assert_eq!(dollars_error(&"x".repeat(10_000_000)), ParseErrorKind::TooLong);
}

#[test]
fn when_several_things_are_wrong_the_documented_order_decides() {
    assert_eq!(dollars_error(&format!("{}x", "9".repeat(64))), ParseErrorKind::TooLong);
    assert_eq!(dollars_error("99999999999999999999.1234567x"), invalid_at(28));
    assert_eq!(dollars_error("x"), invalid_at(0));
    assert_eq!(dollars_error("99999999999999999999.1234567"), ParseErrorKind::TooManyDecimals);
}

#[test]
fn errors_name_the_quantity_and_the_reason() {
    let message = |text: &str| text.parse::<Dollars>().unwrap_err().to_string();
    assert_eq!(message(""), "dollar amount has no digits");
    assert_eq!(message("0.56x"), "dollar amount has an invalid character at byte 4");
    assert_eq!(message("0.1234567"), "dollar amount has more than 6 decimals");
    assert_eq!(message("9999999999999"), "dollar amount is out of range");
    assert_eq!(message(&"0".repeat(65)), "dollar amount is longer than 64 bytes");
    assert_eq!("".parse::<Count>().unwrap_err().to_string(), "contract count has no digits");
}

#[test]
fn all_conversions_from_text_agree() {
    let owned = String::from("0.5600");
    let expected = Dollars::from_micros(560_000);
    assert_eq!(Dollars::try_from("0.5600"), Ok(expected));
    assert_eq!(Dollars::try_from(&owned), Ok(expected));
    assert_eq!(Dollars::try_from(owned), Ok(expected));
    assert_eq!(Dollars::try_from("x"), "x".parse());
}

#[test]
fn every_text_of_up_to_four_characters_means_what_the_model_says() {
    let alphabet = ["0", "1", "9", ".", "-", "+", "x", "é"];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        let longer = texts.iter().flat_map(|text| alphabet.map(|last| format!("{text}{last}")));
        texts = longer.chain([String::new()]).collect();
        for text in &texts {
            assert_eq!(micros(text), model::units(text, 6), "{text:?}");
            assert_eq!(hundredths(text), model::units(text, 2), "{text:?}");
        }
    }
}

/// Texts that are numbers, nearly numbers and nothing like numbers.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[-+]?[0-9]{0,22}(\\.[0-9]{0,10})?",
        2 => "-?[0-9]{1,13}\\.[0-9]{2,6}",
        // Around the limits of both types, with and without a digit too many.
        2 => "-?9223372036854\\.?77580[0-9]{1,2}",
        2 => "-?92233720368547758\\.?0[0-9]{1,2}",
        1 => "0{0,40}[0-9]{0,25}\\.?[0-9]{0,8}0{0,40}",
        1 => "[-+0-9.eE_, $]{0,70}",
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_text_is_read_exactly_or_refused(text in texts()) {
        prop_assert_eq!(micros(&text), model::units(&text, 6));
        prop_assert_eq!(hundredths(&text), model::units(&text, 2));
    }

    #[test]
    fn one_wrong_byte_in_a_number_is_found(
        value in any::<i64>(),
        at in any::<prop::sample::Index>(),
        wrong in "[^0-9.+-]",
    ) {
        let mut text = Dollars::from_micros(value).to_string();
        let at = at.index(text.len());
        text.replace_range(at..=at, &wrong);
        prop_assert_eq!(dollars_error(&text), invalid_at(at));
    }
}
