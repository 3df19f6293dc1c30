use kalshi_types::{Count, Dollars, PriceGrid, PriceRange};
use proptest::prelude::*;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};

use crate::{count, dollars, print::units};

fn read<T: for<'a> Deserialize<'a>>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn values_travel_as_strings() {
    assert_eq!(serde_json::to_string(&dollars("0.56")).unwrap(), r#""0.5600""#);
    assert_eq!(serde_json::to_string(&count("10")).unwrap(), r#""10.00""#);
    assert_eq!(read(r#""0.960""#), Ok(dollars("0.96")));
    assert_eq!(read(r#""-10.00""#), Ok(count("-10")));
}

#[test]
fn a_string_with_escapes_is_read() {
    assert_eq!(read(r#""0\u002e5600""#), Ok(dollars("0.56")));
}

#[test]
fn an_integer_is_whole_dollars_or_contracts() {
    assert_eq!(read("1"), Ok(Dollars::ONE));
    assert_eq!(read("-25"), Ok(dollars("-25")));
    assert_eq!(read("10"), Ok(count("10")));
    assert_eq!(read::<Dollars>("9223372036854"), Ok(dollars("9223372036854")));
    for json in ["9223372036855", "9223372036854775807", "18446744073709551615"] {
        let error = read::<Dollars>(json).unwrap_err();
        assert!(error.starts_with("dollar amount is out of range"), "{error}");
    }
}

#[test]
fn a_number_with_a_fraction_is_refused_and_told_why() {
    for json in ["0.56", "0.5", "1.0", "1e3", "1e400", "18446744073709551616"] {
        assert!(read::<Dollars>(json).is_err(), "{json}");
    }
    let error = read::<Dollars>("0.56").unwrap_err();
    assert!(
        error.starts_with(
            "dollar amount is a number with a fraction, which a binary float cannot hold exactly; \
             expected a string"
        ),
        "{error}"
    );
    let error = read::<Count>("0.5").unwrap_err();
    assert!(error.starts_with("contract count is a number with a fraction"), "{error}");
}

#[test]
fn other_json_is_refused() {
    for json in ["null", "true", "[]", "{}", r#"["0.56"]"#, r#""""#, r#"" 0.56""#] {
        assert!(read::<Dollars>(json).is_err(), "{json}");
        assert!(read::<Count>(json).is_err(), "{json}");
    }
    let error = read::<Dollars>("null").unwrap_err();
    assert!(error.contains("expected a dollar amount as a string, such as"), "{error}");
    let error = read::<Dollars>(r#""0.56x""#).unwrap_err();
    assert!(error.starts_with("dollar amount has an invalid character at byte 4"), "{error}");
}

#[test]
fn values_work_as_query_values_and_map_keys() {
    let query = serde_urlencoded::to_string([("price", dollars("0.56"))]).unwrap();
    assert_eq!(query, "price=0.5600");
    let query = serde_urlencoded::to_string([("count", Some(count("10")))]).unwrap();
    assert_eq!(query, "count=10.00");
    let pairs: Vec<(String, Dollars)> = serde_urlencoded::from_str("price=0.56").unwrap();
    assert_eq!(pairs, [(String::from("price"), dollars("0.56"))]);

    let book = std::collections::BTreeMap::from([(dollars("0.56"), count("10"))]);
    let json = serde_json::to_string(&book).unwrap();
    assert_eq!(json, r#"{"0.5600":"10.00"}"#);
    assert_eq!(read(&json), Ok(book));
}

/// A format that does not describe itself: it has to be told what to expect.
struct Compact(&'static str);

impl<'de> Deserializer<'de> for Compact {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("the format does not describe itself"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[test]
fn values_work_in_formats_that_do_not_describe_themselves() {
    assert_eq!(Dollars::deserialize(Compact("0.56")), Ok(dollars("0.56")));
    assert_eq!(Count::deserialize(Compact("10")), Ok(count("10")));
}

#[test]
fn a_grid_travels_as_its_list_of_bands_and_is_checked_on_the_way_in() {
    let json = r#"[{"start":"0.0000","end":"1.0000","step":"0.0100"}]"#;
    let grid: PriceGrid = read(json).unwrap();
    assert_eq!(serde_json::to_string(&grid).unwrap(), json);
    let range: PriceRange = read(r#"{"start":"0","end":"1","step":"0.01","new":true}"#).unwrap();
    assert_eq!(grid.ranges(), [range]);

    let error = read::<PriceGrid>(r#"[{"start":"0","end":"1","step":"0"}]"#).unwrap_err();
    assert!(error.starts_with("band 0 of the price grid (0.0000 to 1.0000 by 0.0000)"), "{error}");
    assert!(read::<PriceGrid>("[]").is_err());
    assert!(read::<PriceRange>(r#"{"start":"0","end":"1"}"#).is_err());
}

proptest! {
    #[test]
    fn every_value_survives_the_way_through_json(units in units()) {
        let (value, size) = (Dollars::from_micros(units), Count::from_hundredths(units));
        prop_assert_eq!(read(&serde_json::to_string(&value).unwrap()), Ok(value));
        prop_assert_eq!(read(&serde_json::to_string(&size).unwrap()), Ok(size));
    }

    #[test]
    fn no_json_number_panics_or_rounds(number in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?(e[0-9]{1,3})?") {
        if let Ok(value) = read::<Dollars>(&number) {
            prop_assert_eq!(Ok(value), number.parse());
        }
    }
}
