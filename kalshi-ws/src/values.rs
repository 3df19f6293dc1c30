//! How the builders of generated types take values.

use std::fmt::Display;

/// What a builder keeps of a value: itself, or why it does not fit.
pub(crate) fn builder_value<T, V>(name: &str, value: V) -> Result<T, String>
where
    V: TryInto<T>,
    V::Error: Display,
{
    value.try_into().map_err(|error| format!("`{name}`: {error}"))
}

/// The same for a value that may be left out.
pub(crate) fn builder_value_optional<T, V>(name: &str, value: V) -> Result<Option<T>, String>
where
    V: TryInto<T>,
    V::Error: Display,
{
    builder_value(name, value).map(Some)
}
