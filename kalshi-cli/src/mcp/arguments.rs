//! The arguments of a call, as a model gave them: known ones in the right form, and no others.

use serde_json::{Map, Value};

use super::tools::{Kind, Parameter, Tool, WriteMode};
use crate::{
    args::Moment,
    failure::{Failure, Outcome},
    json::Json,
};

/// Arguments that were checked.
#[derive(Clone, Debug)]
pub(super) struct Arguments(Vec<(&'static str, Json)>);

impl Arguments {
    /// Checks arguments by the parameters of a tool.
    ///
    /// # Errors
    ///
    /// One is unknown, missing, or not in its form. Nothing was sent.
    pub(super) fn read(
        tool: &Tool,
        mode: WriteMode,
        given: Option<Map<String, Value>>,
    ) -> Outcome<Self> {
        let mut arguments = Vec::new();
        for (name, value) in given.unwrap_or_default() {
            let Some(known) = tool.parameters(mode).find(|known| known.name == name) else {
                let names: Vec<_> = tool.parameters(mode).map(|known| known.name).collect();
                return Err(Failure::usage(format!(
                    "{} has no argument {name:?}; it takes {}",
                    tool.name,
                    names.join(", ")
                )));
            };
            // A null is an argument that is not given.
            if value.is_null() {
                continue;
            }
            let value = checked(known, &value)
                .map_err(|why| Failure::usage(format!("{}: {name} {why}", tool.name)))?;
            arguments.push((known.name, value));
        }
        let arguments = Self(arguments);
        for known in tool.parameters(mode).filter(|known| known.is_required) {
            if arguments.get(known.name).is_none() {
                return Err(Failure::usage(format!("{}: {} is missing", tool.name, known.name)));
            }
        }
        Ok(arguments)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns all arguments but one, as an object.
    pub(super) fn without(&self, name: &str) -> Json {
        let others = self.0.iter().filter(|(known, _)| *known != name);
        let mut members: Vec<_> =
            others.map(|(known, value)| ((*known).to_owned(), value.clone())).collect();
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        Json::Object(members)
    }

    /// Returns a text, or the text of a number.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Text(text) | Json::Number(text) => Some(text),
            _ => None,
        }
    }

    /// Returns an argument that the tool requires; nothing else if it does not.
    pub(super) fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Json::Bool(true))
    }

    /// Returns a time.
    pub(super) fn time(&self, name: &str) -> Outcome<Option<Moment>> {
        let moment = self.text(name).map(str::parse::<Moment>).transpose();
        moment.map_err(|error| Failure::usage(format!("{name}: {error}")))
    }
}

/// Returns an argument in its form, or what is wrong with it.
fn checked(parameter: &Parameter, value: &Value) -> Result<Json, String> {
    const NO_FRACTIONS: &str = "must be a text in quotes: a number with a fraction can lose digits";
    let json = to_json(value).ok_or(NO_FRACTIONS)?;
    let is_fine = match (parameter.kind, &json) {
        (Kind::Text, Json::Text(_))
        | (Kind::Time | Kind::Decimal, Json::Text(_) | Json::Number(_))
        | (Kind::Boolean, Json::Bool(_)) => true,
        (Kind::Choice(values), Json::Text(text)) => values.contains(&text.as_str()),
        (Kind::Integer(least, most), Json::Number(text)) => {
            text.parse::<i64>().is_ok_and(|number| (least..=most).contains(&number))
        }
        (Kind::Values, Json::Object(members)) => members.iter().all(|(_, value)| match value {
            Json::List(values) => values.iter().all(is_scalar),
            value => is_scalar(value),
        }),
        _ => false,
    };
    if is_fine {
        return Ok(json);
    }
    Err(match parameter.kind {
        Kind::Text | Kind::Time => "must be a text".to_owned(),
        Kind::Decimal => "must be a decimal number as a text, such as \"0.55\"".to_owned(),
        Kind::Choice(values) => format!("must be one of {}", values.join(", ")),
        Kind::Integer(least, most) => format!("must be a whole number from {least} to {most}"),
        Kind::Boolean => "must be true or false".to_owned(),
        Kind::Values => "must be an object of texts, whole numbers and booleans".to_owned(),
    })
}

fn is_scalar(value: &Json) -> bool {
    matches!(value, Json::Text(_) | Json::Number(_) | Json::Bool(_))
}

/// Returns a value; `None` if it has a number with a fraction, or is nested deeper than any argument.
fn to_json(value: &Value) -> Option<Json> {
    if value.is_f64() {
        return None;
    }
    match value {
        Value::Array(values) => values.iter().map(to_json).collect::<Option<_>>().map(Json::List),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| Some((name.clone(), to_json(value)?)));
            members.collect::<Option<_>>().map(Json::Object)
        }
        Value::Null => Some(Json::Null),
        Value::Bool(value) => Some(Json::Bool(*value)),
        Value::Number(number) => Some(Json::number(number)),
        Value::String(text) => Some(Json::text(text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(tool: &str, given: Value) -> Result<Arguments, String> {
        let Value::Object(given) = given else { panic!("{given}") };
        let tool = Tool::find(tool).unwrap();
        Arguments::read(tool, WriteMode::Ticket, Some(given)).map_err(|failure| failure.message)
    }

    #[test]
    fn forged_arguments_are_refused() {
        for (name, given, part) in [
            ("get_market", json!({"ticker": "A", "--env": "production"}), "no argument \"--env\""),
            ("get_market", json!({"ticker": "A", "env": "production"}), "no argument \"env\""),
            ("get_market", json!({"ticker": "A", "key_file": "/k"}), "no argument \"key_file\""),
            ("call_read", json!({"operation": "get_market", "method": "POST"}), "\"method\""),
            ("get_market", json!({}), "ticker is missing"),
            ("get_market", json!({"ticker": null}), "ticker is missing"),
            ("get_market", json!({"ticker": 5}), "must be a text"),
            ("get_book", json!({"ticker": "A", "depth": 101}), "from 1 to 100"),
            ("get_book", json!({"ticker": "A", "depth": 1.5}), "lose digits"),
            ("get_candles", json!({"ticker": "A", "period": "5m"}), "one of 1m, 1h, 1d"),
            ("call_read", json!({"operation": "a", "parameters": {"a": {"b": 1}}}), "an object of"),
            ("call_read", json!({"operation": "a", "parameters": {"a": 0.1}}), "lose digits"),
        ] {
            let error = read(name, given.clone()).unwrap_err();
            assert!(error.contains(part), "{given}: {error}");
        }
    }

    #[test]
    fn a_price_is_a_text() {
        let order = |price: Value| json!({"ticker": "A", "action": "buy", "outcome": "yes", "count": 10, "price": price});
        let arguments = read("explain_order", order(json!("0.55"))).unwrap();
        assert_eq!((arguments.required("price"), arguments.required("count")), ("0.55", "10"));
        assert!(!arguments.flag("post_only"));
        let error = read("explain_order", order(json!(0.55))).unwrap_err();
        assert!(error.contains("in quotes"), "{error}");
    }
}
