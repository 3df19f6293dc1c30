//! What requests accept from the caller, and how they report what is missing or invalid.

use std::fmt;

use crate::{error::Error, operation::Operation};

/// The fields that keep a request from being built: each one, with the reason.
///
/// ```
/// use kalshi_sdk::types::{
///     BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce,
/// };
///
/// let error = CreateOrderV2Request::builder()
///     .ticker("KXHIGHNY-26NOV23-T60")
///     .side(BookSide::Bid)
///     .price("56 cents")
///     .count("1.005")
///     .time_in_force(TimeInForce::GoodTillCanceled)
///     .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
///     .build()
///     .unwrap_err();
/// let text = error.to_string();
/// assert!(text.contains("`count`") && text.contains("`price`"), "{text}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidFields(String);

impl fmt::Display for InvalidFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidFields {}

impl From<String> for InvalidFields {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// A required field that has been set, as a type argument of a builder. A field that has not been
/// set is a type of [`types::builder::missing`](crate::types::builder::missing).
#[derive(Clone, Copy, Debug)]
pub struct Set;

/// Implemented for [`Set`] only: a request with a required field that is not set does not compile.
#[diagnostic::on_unimplemented(
    message = "the required field `{Self}` is not set",
    label = "this request lacks the field `{Self}`",
    note = "call the setter of the same name first"
)]
pub trait IsSet: sealed::Sealed {}

impl IsSet for Set {}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Set {}
}

/// A value that the body of a request can be made from: the type itself, a reference to it, or a
/// builder of it whose required fields are set.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `{T}` and not a builder of one",
    label = "expected a `{T}`, or a builder of it"
)]
pub trait IntoBody<T> {
    /// Returns the body.
    ///
    /// # Errors
    ///
    /// The fields of a builder whose values do not fit.
    fn into_body(self) -> Result<T, InvalidFields>;
}

impl<T> IntoBody<T> for T {
    fn into_body(self) -> Result<T, InvalidFields> {
        Ok(self)
    }
}

impl<T: Clone> IntoBody<T> for &T {
    fn into_body(self) -> Result<T, InvalidFields> {
        Ok(self.clone())
    }
}

/// A type that is built field by field.
pub trait Buildable: Sized {
    /// Its builder, with every required field set.
    type Complete: IntoBody<Self>;
}

/// The builder of `T` whose required fields are set: what a function returns that prepares a
/// request and leaves the optional fields to its caller.
///
/// ```
/// use kalshi_sdk::{request::Complete, types::{AmendOrderV2Request, BookSide}};
///
/// fn amend(ticker: &str, price: &str) -> Complete<AmendOrderV2Request> {
///     AmendOrderV2Request::builder().ticker(ticker).side(BookSide::Bid).price(price).count("10")
/// }
///
/// let request = amend("KXHIGHNY-26NOV23-T60", "0.57").updated_client_order_id("mine-2").build()?;
/// assert_eq!(request.updated_client_order_id.as_deref(), Some("mine-2"));
/// # Ok::<(), kalshi_sdk::InvalidFields>(())
/// ```
///
/// A field that is forgotten does not compile:
///
/// ```compile_fail
/// use kalshi_sdk::{request::Complete, types::{AmendOrderV2Request, BookSide}};
///
/// fn amend(ticker: &str) -> Complete<AmendOrderV2Request> {
///     AmendOrderV2Request::builder().ticker(ticker).side(BookSide::Bid).count("10")
/// }
/// ```
///
/// ```compile_fail
/// use kalshi_sdk::{Client, types::{AmendOrderV2Request, BookSide}};
///
/// fn amend(client: &Client) {
///     let body = AmendOrderV2Request::builder().side(BookSide::Bid).price("0.57").count("10");
///     let request = client.amend_order_v2().order_id("…").body(body);
/// }
/// ```
pub type Complete<T> = <T as Buildable>::Complete;

/// A value that an optional field or parameter can be set to: one that converts, or an `Option` of
/// one.
///
/// `None` leaves the field out. The compiler needs its type, as any variable has it:
/// `None::<String>`. The parameter `K` is always inferred.
pub trait OptionalValue<T, K> {
    /// Converts the value, or returns the reason with the name of the field.
    ///
    /// # Errors
    ///
    /// A value that does not convert.
    fn optional_value(self, name: &str) -> Result<Option<T>, String>;
}

/// The kind of [`OptionalValue`] that is a bare value.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

/// The kind of [`OptionalValue`] that is an `Option`.
#[derive(Clone, Copy, Debug)]
pub struct Optional;

impl<T, V> OptionalValue<T, Bare> for V
where
    V: TryInto<T>,
    V::Error: fmt::Display,
{
    fn optional_value(self, name: &str) -> Result<Option<T>, String> {
        crate::builder_value_optional(name, self)
    }
}

impl<T, V> OptionalValue<T, Optional> for Option<V>
where
    V: TryInto<T>,
    V::Error: fmt::Display,
{
    fn optional_value(self, name: &str) -> Result<Option<T>, String> {
        self.map_or(Ok(None), |value| crate::builder_value_optional(name, value))
    }
}

/// Returns the items of a list in a body: values, or builders of them.
pub(crate) fn list<T, I>(name: &str, items: I) -> Result<Vec<T>, String>
where
    I: IntoIterator,
    I::Item: IntoBody<T>,
{
    let mut list = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        list.push(item.into_body().map_err(|error| format!("`{name}[{index}]`: {error}"))?);
    }
    Ok(list)
}

/// Returns the body of a request, or the reasons against it.
pub(crate) fn body<T>(value: impl IntoBody<T>) -> Result<T, String> {
    value.into_body().map_err(|error| format!("`body`: {error}"))
}

/// Returns the reason of a field that has not been set: the one wording for all of them.
pub(crate) fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

/// Joins the reasons; `None` if there are none.
fn reasons(fields: &[Option<&String>]) -> Option<String> {
    let reasons: Vec<&str> = fields.iter().flatten().map(|reason| reason.as_str()).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Refuses a request with every parameter that is missing or invalid, before any of it is used.
pub(crate) fn check(
    operation: &'static Operation,
    fields: &[Option<&String>],
) -> Result<(), Error> {
    match reasons(fields) {
        None => Ok(()),
        Some(reasons) => Err(Error::invalid_request(operation, reasons)),
    }
}

/// Refuses a body with every field that is invalid.
pub(crate) fn check_fields(fields: &[Option<&String>]) -> Result<(), InvalidFields> {
    reasons(fields).map_or(Ok(()), |reasons| Err(InvalidFields(reasons)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T, K>(value: impl OptionalValue<T, K>) -> Result<Option<T>, String> {
        value.optional_value("x")
    }

    #[test]
    fn an_optional_field_takes_a_bare_value_and_an_option() {
        assert_eq!(set::<String, _>("a"), Ok(Some("a".to_owned())));
        assert_eq!(set::<String, _>(Some("a")), Ok(Some("a".to_owned())));
        assert_eq!(set::<String, _>(None::<&str>), Ok(None));
        assert_eq!(set::<i64, _>(7), Ok(Some(7)));
        assert_eq!(
            set::<u8, _>(Some(700)),
            Err("`x`: out of range integral type conversion attempted".to_owned())
        );
    }

    #[test]
    fn every_reason_is_given_at_once() {
        let (a, b) = (missing("a"), missing("b"));
        let error = check_fields(&[Some(&a), None, Some(&b)]).unwrap_err();
        assert_eq!(error.to_string(), "`a` is missing; `b` is missing");
        assert_eq!(check_fields(&[None, None]), Ok(()));
    }

    #[test]
    fn an_item_that_is_invalid_is_named_by_its_place() {
        struct Bad;
        impl IntoBody<u8> for Bad {
            fn into_body(self) -> Result<u8, InvalidFields> {
                Err(missing("y").into())
            }
        }
        assert_eq!(list::<u8, _>("orders", [Bad]), Err("`orders[0]`: `y` is missing".to_owned()));
        assert_eq!(list::<u8, _>("orders", vec![1, 2]), Ok(vec![1, 2]));
    }
}
