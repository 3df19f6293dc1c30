//! From the `AsyncAPI` document of the streams to Rust.
//!
//! Every message is an envelope (`type`, `sid`, `seq`, …) around a `msg`, or a command around its
//! `params`. The envelope is the same for all and written by hand where it is read, so only what it
//! carries becomes types: this module takes it out of the envelopes and hands it, as an OpenAPI
//! document without operations, to the passes that the REST document goes through. An envelope with
//! a field that nobody reads is refused, since that field would be lost in silence.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use serde_json::{Map, Value, json};

use crate::{
    Generated, Surface,
    document::{join, object, parse, resolve, resolve_place, schema_name, walk},
    emit,
    error::{Result, refuse},
    names::type_name,
    normalize::{self, Moves, UNIX_MILLIS, UNIX_SECONDS, money, reachable},
    overlay::{self, Applied, Overlay, Unmatched},
};

/// The fields of an envelope from the exchange.
const ENVELOPE: [&str; 6] = ["id", "msg", "sending_ts_ms", "seq", "sid", "type"];

/// The fields of a command.
const COMMAND: [&str; 3] = ["cmd", "id", "params"];

/// Integer fields that hold unix seconds. The suffix does not tell: see the list of the passes.
const SECONDS: [&str; 7] = [
    "close_ts",
    "determination_ts",
    "expected_expiration_ts",
    "open_ts",
    "settled_ts",
    "strike_date",
    "ts",
];

/// Integer fields that hold unix milliseconds.
const MILLIS: [&str; 9] = [
    "created_ts_ms",
    "expiration_ts_ms",
    "last_updated_ts_ms",
    "next_funding_time_ms",
    "received_at",
    "source_ts_ms",
    "ts_ms",
    "window_end_ts_exclusive",
    "window_start_ts_ms",
];

/// The place that generated messages have in their crate.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Types that the crate writes itself, as (schema, type).
    pub(crate) by_hand: &'static [(&'static str, &'static str)],
    /// The module, which has a `Channel` and a `MessageKind`.
    pub(crate) surface: Surface,
}

/// Generates the messages and commands of a document of streams and the overlays that belong to
/// it. There are no operations in what comes out, and no dispatcher.
pub(crate) fn generate_messages(
    document: &str,
    overlays: &[Overlay],
    unmatched: Unmatched,
    place: Place,
) -> Result<Generated> {
    let mut document = parse(document)?;
    let mut applied = Applied::default();
    for overlay in overlays {
        overlay::apply(&mut document, overlay, unmatched, &mut applied)?;
    }
    let published = document.clone();
    normalize::fold_json_schema(&mut document)
        .and_then(|_| from_document(&document, applied, place))
        .map_err(|error| error.at_a_place_of(&published))
}

fn from_document(document: &Value, applied: Applied, place: Place) -> Result<Generated> {
    let Place { by_hand, surface } = place;
    let mut moves = Moves::default();
    let model = Model::read(document, &mut moves)?;
    let (model, unreached) = (&model, model.unreached.clone());
    let normalized =
        normalize::normalize_after(model.document(document)?, unreached, Vec::new(), moves)?;
    let normalized = normalize::Normalized { surface, ..normalized };
    let types = emit::emit_types(&normalized, by_hand)?;
    let messages = messages(model, document, place);
    let code = quote! {
        /// The contents of messages and commands.
        pub mod types {
            #types
        }
        #messages
    };
    Ok(Generated {
        code: code.to_string(),
        dispatch: String::new(),
        handlers: String::new(),
        normalized,
        applied,
        operations: Vec::new(),
        messages: models(document),
    })
}

/// Returns every channel and message of the document, those included that are read by hand.
fn models(document: &Value) -> Vec<MessageModel> {
    let mut models = Vec::new();
    for (place, channel) in [("/channels", true), ("/components/messages", false)] {
        let parts = document.pointer(place).and_then(Value::as_object);
        for (name, part) in parts.into_iter().flatten() {
            // The connection itself is no channel that can be subscribed to.
            if channel && part.get("address").and_then(Value::as_str) == Some("/") {
                continue;
            }
            models.push(MessageModel {
                name: name.clone(),
                pointer: join(place, name),
                channel,
                description: description(part),
            });
        }
    }
    models
}

/// A channel or a message, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageModel {
    /// Name in the document.
    pub name: String,
    /// Place in the document, as a JSON pointer.
    pub pointer: String,
    /// True for a channel, false for a message.
    pub channel: bool,
    /// Description, if the document has one.
    pub description: Option<String>,
}

/// One message that the exchange sends on a channel.
struct Message {
    /// The value of `type`.
    wire: String,
    /// The variant for it.
    variant: String,
    /// The type of its `msg`.
    body: String,
    /// True if it must carry a sequence number.
    sequenced: bool,
    /// The channels that it comes on.
    channels: Vec<String>,
    description: Option<String>,
    /// The values of each field of its `msg` that has a set of them.
    choices: BTreeMap<String, Vec<String>>,
}

/// Returns the values of the fields of a `msg` that have a set of values.
fn choices(document: &Value, schema: &Value) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let fields = schema.get("properties").and_then(Value::as_object);
    for (name, field) in fields.into_iter().flatten() {
        let Ok(field) = resolve(document, field, "") else { continue };
        let values = field.get("enum").and_then(Value::as_array);
        let texts = values.map(|v| v.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        found.extend(texts.map(|texts| (name.clone(), texts)));
    }
    found
}

/// The contents of the document, taken out of its envelopes.
struct Model {
    messages: Vec<Message>,
    /// Each channel, with its description.
    channels: Vec<(String, Option<String>)>,
    schemas: Map<String, Value>,
    /// Schemas that no message refers to.
    unreached: Vec<String>,
}

impl Model {
    fn read(document: &Value, moves: &mut Moves) -> Result<Self> {
        let Some(root) = document.as_object() else {
            refuse!("", "the document must be a mapping")
        };
        match root.get("asyncapi").and_then(Value::as_str) {
            Some(version) if version.starts_with("3.") => {}
            Some(version) => {
                refuse!("/asyncapi", "AsyncAPI {version}; only version 3 is understood")
            }
            None => refuse!("", "`asyncapi` is missing: this is no AsyncAPI document"),
        }
        let (channels, on) = channels(root)?;
        let components = object(root, "", "components")?;
        let mut model =
            Self { messages: Vec::new(), channels, schemas: Map::new(), unreached: Vec::new() };
        moves.begin();
        for (key, message) in object(components, "/components", "messages")? {
            let pointer = join("/components/messages", key);
            if message.get("contentType").and_then(Value::as_str) != Some("application/json") {
                // Pings and pongs are frames of the protocol below.
                continue;
            }
            let on = on.get(key).cloned().unwrap_or_default();
            model.message(document, key, message, &pointer, on, moves)?;
        }
        // What the envelopes refer to, apart from the envelopes.
        let reached = reachable(document, model.schemas.values().collect());
        for (name, schema) in object(components, "/components", "schemas")? {
            if name.ends_with("Payload") || is_scalar(schema) {
                continue;
            }
            if reached.contains(name) {
                let to = join("/components/schemas", name);
                moves.add(to.clone(), to);
                model.schemas.insert(name.clone(), schema.clone());
            } else {
                model.unreached.push(name.clone());
            }
        }
        Ok(model)
    }

    fn message(
        &mut self,
        document: &Value,
        key: &str,
        message: &Value,
        pointer: &str,
        channels: Vec<String>,
        moves: &mut Moves,
    ) -> Result<()> {
        let Some(payload) = message.get("payload") else { refuse!(pointer, "has no payload") };
        let mut envelope = Envelope::default();
        envelope.read(document, payload, &join(pointer, "payload"), 0)?;
        let command = envelope.fields.contains_key("cmd");
        let allowed: &[&str] = if command { &COMMAND } else { &ENVELOPE };
        if let Some((name, field)) =
            envelope.fields.iter().find(|(name, _)| !allowed.contains(&name.as_str()))
        {
            refuse!(field.pointer.clone(), "the envelope has a field `{name}` that nobody reads");
        }
        let part = if command { "params" } else { "msg" };
        let body = match envelope.fields.get(part) {
            None => None,
            Some(field) => {
                let mut schema = field.schema.clone();
                let name = field.owner.trim_end_matches("Payload");
                let place = if command {
                    format!("{}Params", name.trim_end_matches("Command"))
                } else {
                    name.to_owned()
                };
                let Some(name) = normalize::take_name(&mut schema).or_else(|| type_name(&place))
                else {
                    refuse!(pointer, "`{place}` makes no type name")
                };
                moves.add(join("/components/schemas", &name), field.pointer.clone());
                let text = message.get("description");
                if let (Some(map), Some(text)) = (schema.as_object_mut(), text) {
                    map.entry("description").or_insert_with(|| text.clone());
                }
                let first = self.schemas.entry(name.clone()).or_insert_with(|| schema.clone());
                if first.get("properties") != schema.get("properties") {
                    refuse!(
                        field.pointer.clone(),
                        "the type `{name}` would be made twice, with different contents"
                    );
                }
                Some(name)
            }
        };
        let wire = envelope.fields.get("type").and_then(|field| constant(&field.schema));
        let choices = envelope.fields.get(part).map(|field| choices(document, &field.schema));
        match (command, wire, body) {
            (true, ..) => Ok(()),
            (false, None, _) => refuse!(pointer, "the payload does not say its `type`"),
            // Replies to commands are read by hand, by the command that they answer.
            (false, Some(_), _) if channels.is_empty() => Ok(()),
            (false, Some(_), None) => refuse!(pointer, "a message of a channel needs a `msg`"),
            (false, Some(wire), Some(body)) => {
                let Some(variant) = type_name(key) else {
                    refuse!(pointer, "`{key}` makes no type name")
                };
                self.messages.push(Message {
                    wire: wire.to_owned(),
                    variant,
                    body,
                    sequenced: envelope.required.iter().any(|name| name == "seq"),
                    channels,
                    description: description(message),
                    choices: choices.unwrap_or_default(),
                });
                let same: Vec<&Message> =
                    self.messages.iter().filter(|other| other.wire == wire).collect();
                match discriminator(&same) {
                    Some(_) => Ok(()),
                    None => refuse!(
                        pointer,
                        "two messages have the type `{wire}`, and no field tells them apart"
                    ),
                }
            }
        }
    }

    /// Returns the OpenAPI document of the schemas.
    fn document(&self, source: &Value) -> Result<Value> {
        let mut schemas = self.schemas.clone();
        money::add_built_in(&mut schemas, type_name);
        let mut schemas = Value::Object(schemas);
        walk(&mut schemas, "/components/schemas", &mut |_, map| {
            // A name for a scalar would become a type that says no more than `String`.
            if let Some(reference) = map.get("$ref").and_then(Value::as_str).map(str::to_owned)
                && let Ok(target) = resolve(source, &json!({"$ref": reference}), "")
                && is_scalar(target)
            {
                map.remove("$ref");
                for (key, value) in target.as_object().into_iter().flatten() {
                    map.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                for (name, schema) in properties.iter_mut() {
                    set_time(name, schema);
                    if let Value::Object(schema) = schema
                        && let Some(format) = money::format(name, schema)
                    {
                        schema.insert("format".to_owned(), format.into());
                    }
                }
            }
            Ok(())
        })?;
        let version = source.pointer("/info/version").cloned().unwrap_or_default();
        Ok(json!({
            "openapi": "3.0.3",
            "info": {"title": "Streams", "version": version},
            "paths": {},
            "components": {"schemas": schemas},
        }))
    }
}

/// The fields of an envelope, gathered through references and `allOf`.
#[derive(Default)]
struct Envelope {
    fields: BTreeMap<String, EnvelopeField>,
    required: Vec<String>,
}

struct EnvelopeField {
    schema: Value,
    pointer: String,
    /// The schema that declares the field.
    owner: String,
}

impl Envelope {
    fn read(&mut self, document: &Value, schema: &Value, pointer: &str, depth: u8) -> Result<()> {
        if depth > 8 {
            refuse!(pointer, "envelopes nest too deeply");
        }
        let (schema, place) = resolve_place(document, schema, pointer)?;
        let pointer = place.unwrap_or(pointer);
        for (index, part) in
            schema.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            self.read(document, part, &format!("{pointer}/allOf/{index}"), depth + 1)?;
        }
        let owner = place.and_then(|place| schema_name(&format!("#{place}")).map(str::to_owned));
        for (name, field) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let pointer = join(&join(pointer, "properties"), name);
            // Envelopes are not looked at again: what they refer to must be there.
            resolve(document, field, &pointer)?;
            let owner = owner.clone().unwrap_or_default();
            let field = EnvelopeField { schema: field.clone(), pointer, owner };
            self.fields.insert(name.clone(), field);
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            self.required.extend(name.as_str().map(str::to_owned));
        }
        Ok(())
    }
}

type Channels = Vec<(String, Option<String>)>;

/// Returns the channels that can be subscribed to, and the channels of each message.
fn channels(root: &Map<String, Value>) -> Result<(Channels, BTreeMap<String, Vec<String>>)> {
    let mut channels = Vec::new();
    let mut on: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, channel) in object(root, "", "channels")? {
        let pointer = join("/channels", key);
        let Some(address) = channel.get("address").and_then(Value::as_str) else {
            refuse!(pointer, "a channel needs an address")
        };
        if address == "/" {
            // The connection itself: commands, replies, control frames.
            continue;
        }
        if type_name(address).is_none() {
            refuse!(join(&pointer, "address"), "`{address}` makes no name");
        }
        channels.push((address.to_owned(), description(channel)));
        for (name, message) in
            channel.get("messages").and_then(Value::as_object).into_iter().flatten()
        {
            let reference = message.get("$ref").and_then(Value::as_str).unwrap_or_default();
            let Some(key) = reference.strip_prefix("#/components/messages/") else {
                let pointer = join(&join(&pointer, "messages"), name);
                refuse!(pointer, "a message must refer to `#/components/messages`")
            };
            on.entry(key.to_owned()).or_default().push(address.to_owned());
        }
    }
    Ok((channels, on))
}

/// Channels, messages, and how a message is read.
fn messages(model: &Model, document: &Value, place: Place) -> TokenStream {
    let Place { by_hand, surface } = place;
    let (channel_type, kind_type) = (surface.path("Channel"), surface.path("MessageKind"));
    let version = document.pointer("/info/version").and_then(Value::as_str).unwrap_or_default();
    let mut channel_variants = TokenStream::new();
    for (address, description) in &model.channels {
        let variant = format_ident!("{}", type_name(address).unwrap_or_default());
        let text = description.clone().unwrap_or_else(|| format!("The channel `{address}`."));
        channel_variants.extend(quote!(#[doc = #text] #variant = #address,));
    }
    let mut variants = TokenStream::new();
    let mut names = TokenStream::new();
    let mut counting = TokenStream::new();
    let mut by_type: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in &model.messages {
        let Message { wire, sequenced, .. } = message;
        let variant = format_ident!("{}", message.variant);
        let by_hand = by_hand.iter().find(|(name, _)| *name == message.body);
        let ty = if let Some((_, path)) = by_hand {
            path.parse().unwrap_or_default()
        } else {
            // Boxed, so that a delta does not take the room of the largest message wherever it goes.
            let body = format_ident!("{}", message.body);
            quote!(::std::boxed::Box<types::#body>)
        };
        let text = message.description.clone();
        let text = text.unwrap_or_else(|| format!("A message of the type `{wire}`."));
        variants.extend(quote!(#[doc = #text] #variant(#ty),));
        names.extend(quote!(Self::#variant(_) => #wire,));
        counting.extend(quote!(Self::#variant(_) => #sequenced,));
        by_type.entry(wire).or_default().push(message);
    }
    let mut arms = TokenStream::new();
    let mut kinds = TokenStream::new();
    // In the order of the document.
    let mut types: Vec<&str> = model.messages.iter().map(|message| message.wire.as_str()).collect();
    types.dedup();
    let count = by_type.len();
    for wire in types {
        let Some(messages) = by_type.remove(wire) else { continue };
        arms.extend(reader(wire, &messages));
        let sequenced = messages.iter().all(|message| message.sequenced);
        let mut channels: Vec<&str> =
            messages.iter().flat_map(|m| &m.channels).map(String::as_str).collect();
        channels.sort_unstable();
        channels.dedup();
        let channels = channels.into_iter().map(|address| {
            let channel = format_ident!("{}", type_name(address).unwrap_or_default());
            quote!(#channel_type::#channel)
        });
        kinds.extend(quote! {
            #kind_type { name: #wire, channels: &[#(#channels),*], sequenced: #sequenced },
        });
    }
    quote! {
        ::kalshi_types::open_enum! {
            /// A channel that can be subscribed to.
            pub enum Channel { #channel_variants }
        }

        /// The contents of a message, by its type.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Payload { #variants }

        impl Payload {
            /// Reads the `msg` of a message; `None` for a type that this version does not know.
            pub(crate) fn read(kind: &str, msg: &str) -> Option<Result<Self, ::serde_json::Error>> {
                Some(match kind { #arms _ => return None })
            }

            /// Returns the `type` that the message has on the wire.
            pub fn kind(&self) -> &'static str {
                match self { #names }
            }

            /// Reports whether the message carries a sequence number, so that a loss shows.
            pub fn is_sequenced(&self) -> bool {
                match self { #counting }
            }
        }

        /// Every type of message that a channel carries.
        pub static MESSAGE_KINDS: [#kind_type; #count] = [#kinds];

        /// The version of the document that these types were generated from.
        pub const SPEC_VERSION: &str = #version;
    }
}

/// Returns the field that tells messages of one type apart, and which of them takes the values that
/// none lists: the one that lists most. Nothing tells a single message apart, and nothing has to.
fn discriminator<'a>(messages: &[&'a Message]) -> Option<(&'a str, usize)> {
    let [first, ..] = messages else { return None };
    if messages.len() == 1 {
        return Some(("", 0));
    }
    first.choices.keys().find_map(|field| {
        let lists: Vec<&Vec<String>> =
            messages.iter().map(|message| message.choices.get(field)).collect::<Option<_>>()?;
        let distinct: BTreeSet<&String> = lists.iter().copied().flatten().collect();
        let most = lists.iter().map(|list| list.len()).max()?;
        let mut largest = lists.iter().enumerate().filter(|(_, list)| list.len() == most);
        let (general, _) = largest.next()?;
        let all: usize = lists.iter().map(|list| list.len()).sum();
        (distinct.len() == all && largest.next().is_none()).then_some((field.as_str(), general))
    })
}

/// Returns the arm that reads the messages of one type.
fn reader(wire: &str, messages: &[&Message]) -> TokenStream {
    let read = |message: &Message| {
        let variant = format_ident!("{}", message.variant);
        quote!(::serde_json::from_str(msg).map(Self::#variant))
    };
    let (Some((field, general)), [first, ..]) = (discriminator(messages), messages) else {
        return TokenStream::new();
    };
    if messages.len() == 1 {
        let read = read(first);
        return quote!(#wire => #read,);
    }
    let general = messages.get(general).copied().unwrap_or(first);
    let others = messages.iter().filter(|message| message.variant != general.variant);
    let arms = others.map(|message| {
        let values = message.choices.get(field).into_iter().flatten();
        let read = read(message);
        quote!(#(Some(#values))|* => #read,)
    });
    let read = read(general);
    quote! {
        #wire => {
            #[derive(::serde::Deserialize)]
            struct Discriminator<'a> {
                #[serde(borrow, default, rename = #field)]
                by: Option<::std::borrow::Cow<'a, str>>,
            }
            match ::serde_json::from_str::<Discriminator<'_>>(msg) {
                Ok(found) => match found.by.as_deref() {
                    #(#arms)*
                    _ => #read,
                },
                Err(error) => Err(error),
            }
        }
    }
}

/// Returns the only value that a schema allows.
fn constant(schema: &Value) -> Option<&str> {
    match schema.get("enum")?.as_array()?.as_slice() {
        [Value::String(only)] => Some(only),
        _ => None,
    }
}

fn set_time(name: &str, schema: &mut Value) {
    let format = if SECONDS.contains(&name) {
        UNIX_SECONDS
    } else if MILLIS.contains(&name) {
        UNIX_MILLIS
    } else {
        return;
    };
    if schema.get("type").and_then(Value::as_str) == Some("integer") {
        schema["format"] = json!(format);
    }
}

/// Reports whether a schema is a text, number or truth without a set of values.
fn is_scalar(schema: &Value) -> bool {
    let scalar = matches!(
        schema.get("type").and_then(Value::as_str),
        Some("string" | "integer" | "number" | "boolean")
    );
    scalar && schema.get("enum").is_none()
}

fn description(part: &Value) -> Option<String> {
    let text = part.get("description").or_else(|| part.get("summary")).and_then(Value::as_str);
    text.map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the names of all integers in the published documents of streams.
    fn integers() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for family in crate::FAMILIES.iter().filter(|family| family.kind == crate::Kind::AsyncApi) {
            let path = format!("{}/../{}", env!("CARGO_MANIFEST_DIR"), family.file);
            collect_integers(&std::fs::read_to_string(path).unwrap(), &mut found);
        }
        found
    }

    fn collect_integers(document: &str, found: &mut BTreeSet<String>) {
        let mut document = parse(document).unwrap();
        walk(&mut document, "", &mut |_, map| {
            if let Some(Value::Object(properties)) = map.get("properties") {
                // One that may be null has a list of types.
                let is_integer = |field: &Value| match &field["type"] {
                    Value::Array(types) => types.iter().any(|name| name == "integer"),
                    name => name == "integer",
                };
                let integers = properties.iter().filter(|(_, field)| is_integer(field));
                found.extend(integers.map(|(name, _)| name.clone()));
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn every_entry_of_the_allow_lists_matches_something() {
        let integers = integers();
        for name in SECONDS.iter().chain(&MILLIS) {
            assert!(integers.contains(*name), "`{name}` is stale");
        }
    }

    #[test]
    fn no_integer_that_is_named_like_a_time_is_left_without_a_unit() {
        for name in integers() {
            let like_a_time = name == "ts"
                || name.contains("_ts")
                || ["_ms", "_time", "_at", "_date"].iter().any(|end| name.ends_with(end));
            let has_unit = SECONDS.contains(&name.as_str()) || MILLIS.contains(&name.as_str());
            assert!(!like_a_time || has_unit, "`{name}` needs a unit");
        }
    }
}
