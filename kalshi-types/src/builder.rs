//! Conversions of values by the builders of generated types. For generated code.

use std::fmt::Display;

/// Converts a value for a builder, or says why it does not fit. `send` reports the latter.
///
/// # Errors
///
/// The reason of the conversion, after the name of the field.
pub fn builder_value<T, V>(name: &str, value: V) -> Result<T, String>
where
    V: TryInto<T>,
    V::Error: Display,
{
    value.try_into().map_err(|error| format!("`{name}`: {error}"))
}

/// Does the same for a value that may be left out.
///
/// # Errors
///
/// As [`builder_value`].
pub fn builder_value_optional<T, V>(name: &str, value: V) -> Result<Option<T>, String>
where
    V: TryInto<T>,
    V::Error: Display,
{
    builder_value(name, value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dollars;

    #[test]
    fn a_value_that_does_not_fit_is_reported_with_the_name_of_its_field() {
        let fits = builder_value_optional::<Dollars, _>("price", "0.56");
        assert_eq!(fits, Ok(Some(Dollars::from_micros(560_000))));
        let error = builder_value::<Dollars, _>("price", "0.5x").unwrap_err();
        assert_eq!(error, "`price`: dollar amount has an invalid character at byte 3");
    }
}
