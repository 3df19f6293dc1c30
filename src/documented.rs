//! What the document says of a success, for bodies that are not decoded as its type: the fields at the
//! top that must be there.

use std::borrow::Cow;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, Unexpected};
use serde_json::Value;

use crate::{drift::shapes, operation::Operation};

/// The fields of an object that is an error, in any shape that has been seen.
const ERROR_KEYS: [&str; 4] = ["error", "code", "message", "msg"];

/// A documented success.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Success {
    /// Nothing is known of it.
    Unknown,
    /// It has no body.
    Nothing,
    /// It is an object.
    Object(Object),
}

/// A documented object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    types: &'static Value,
    shape: &'static Value,
}

/// Returns what the document says of the success of an operation.
pub(crate) fn success(operation: &Operation) -> Success {
    // A request by its path alone.
    if operation.operation_id.is_empty() {
        return Success::Unknown;
    }
    let shapes = shapes(operation.cost.lane);
    let types = shapes.get("t").unwrap_or(&Value::Null);
    let Some(mut shape) = shapes.get("o").and_then(|of| of.get(operation.id)) else {
        return Success::Nothing;
    };
    // A name stands for the shape of a type. Names run in no ring: the generator refuses that.
    while let Some(named) = shape.as_str().and_then(|name| types.get(name)) {
        shape = named;
    }
    if shape.get("a").is_some() || shape.get("e").is_some() {
        return Success::Unknown;
    }
    Success::Object(Object { types, shape })
}

impl Object {
    fn names(self, key: &str) -> impl Iterator<Item = &'static str> {
        let names = self.shape.get(key).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str)
    }

    fn field(self, name: &str) -> Option<&'static Value> {
        self.shape.get("f").and_then(|fields| fields.get(name))
    }

    /// Reports whether any object passes, so that only an error in its place gives a failure away.
    pub(crate) fn is_open(self) -> bool {
        self.names("r").next().is_none()
    }

    /// Returns the fields that make an object an error, without those that are documented.
    pub(crate) fn error_keys(self) -> Vec<&'static str> {
        ERROR_KEYS.into_iter().filter(|key| self.field(key).is_none()).collect()
    }

    /// Reads an object, and fails as its type does where a field is missing or null.
    pub(crate) fn read(self, text: &str) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(text);
        self.deserialize(&mut reader)?;
        reader.end()
    }

    /// Reports whether a required field may be null: a list or a map is empty then.
    fn may_be_null(self, name: &str) -> bool {
        let mut shape = self.field(name);
        while let Some(named) = shape.and_then(Value::as_str) {
            shape = self.types.get(named);
        }
        let is_collection = |shape: &Value| shape.get("a").is_some() || shape.get("m").is_some();
        shape.is_some_and(is_collection) || self.names("n").any(|nullable| nullable == name)
    }
}

impl<'de> DeserializeSeed<'de> for Object {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for Object {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut missing: Vec<&'static str> = self.names("r").collect();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let place = missing.iter().position(|field| *field == name);
            if map.next_value::<Option<IgnoredAny>>()?.is_none()
                && place.is_some()
                && !self.may_be_null(&name)
            {
                return Err(de::Error::invalid_type(Unexpected::Unit, &"a value"));
            }
            if let Some(place) = place {
                missing.swap_remove(place);
            }
        }
        missing.first().map_or(Ok(()), |field| Err(de::Error::missing_field(field)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OPERATIONS;

    #[test]
    fn the_success_of_every_operation_is_known() {
        for operation in OPERATIONS {
            match success(operation) {
                Success::Unknown => panic!("{operation}: nothing is known of its success"),
                Success::Nothing => assert!(!operation.only_reads(), "{operation}"),
                Success::Object(object) => {
                    let empty = object.read("{}");
                    assert_eq!(empty.is_ok(), object.is_open(), "{operation}: {empty:?}");
                    assert!(object.read("[]").is_err() && object.read("").is_err(), "{operation}");
                }
            }
        }
    }

    #[test]
    fn lists_may_be_null_and_other_fields_may_not() {
        let object = |id: &str| match success(Operation::by_id(id).unwrap()) {
            Success::Object(object) => object,
            other => panic!("{other:?}"),
        };
        let orders = object("get_orders");
        orders.read(r#"{"orders":null,"cursor":"","new":1}"#).unwrap();
        assert!(orders.read(r#"{"cursor":""}"#).unwrap_err().to_string().contains("`orders`"));
        let group = object("create_order_group");
        let null = group.read(r#"{"order_group_id":null}"#).unwrap_err();
        assert!(null.to_string().starts_with("invalid type: null"), "{null}");
        assert!(group.read(r#"{"order_group_id":"x"} {"#).is_err(), "more than one value");
    }
}
