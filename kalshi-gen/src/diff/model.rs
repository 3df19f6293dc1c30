//! A document as what can be compared: operations or messages, and the schemas that they carry.
//!
//! Reads more than the generator does: an old document, or one that the generator would refuse,
//! can still be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::schema::Spot;
use crate::{
    document::{join, resolve_place, schema_name},
    error::{Result, refuse},
    families::Kind,
    normalize::reachable,
};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];

/// Read on their own.
const OF_OPERATIONS: [&str; 7] =
    ["operationId", "deprecated", "tags", "security", "parameters", "requestBody", "responses"];

/// Read on their own.
const OF_DOCUMENTS: [&str; 9] = [
    "info",
    "servers",
    "tags",
    "paths",
    "components",
    "channels",
    "operations",
    "security",
    "x-error-codes",
];

/// One document.
#[derive(Debug)]
pub(super) struct Model<'a> {
    pub(super) kind: Kind,
    pub(super) root: &'a Value,
    pub(super) version: String,
    /// By method and path, the names of path parameters left out.
    pub(super) operations: BTreeMap<String, Operation<'a>>,
    /// By the key of the message in `components/messages`, or channel and key.
    pub(super) messages: BTreeMap<String, Message<'a>>,
    /// By name.
    pub(super) channels: BTreeMap<String, Channel<'a>>,
    /// `components/schemas`.
    pub(super) schemas: BTreeMap<String, Spot<'a>>,
    /// The schemas that a client sends.
    pub(super) sent: BTreeSet<String>,
    /// The schemas that are the whole of a successful response.
    pub(super) responses: BTreeSet<String>,
    /// The other parts of the document: (what, one of them) with its pointer and value.
    pub(super) parts: BTreeMap<(&'static str, String), (String, Value)>,
}

#[derive(Debug)]
pub(super) struct Operation<'a> {
    /// `GET /markets/{ticker}`.
    pub(super) title: String,
    pub(super) pointer: String,
    pub(super) id: String,
    pub(super) deprecated: bool,
    pub(super) tags: Vec<String>,
    /// True if a request must be signed, and everything that is said of it.
    pub(super) signed: bool,
    pub(super) security: Value,
    /// By place and name; path parameters by their position.
    pub(super) parameters: BTreeMap<(String, String), Parameter<'a>>,
    pub(super) body: Option<Body<'a>>,
    /// By status.
    pub(super) responses: BTreeMap<String, Body<'a>>,
    /// The other attributes.
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, Debug)]
pub(super) struct Parameter<'a> {
    pub(super) name: String,
    /// The place in the operation's or the path's list.
    pub(super) used_at: String,
    /// The place of the definition, the same unless a reference leads there.
    pub(super) pointer: String,
    pub(super) required: bool,
    pub(super) deprecated: bool,
    pub(super) schema: Option<Spot<'a>>,
    pub(super) attributes: BTreeMap<String, Value>,
}

/// A request body or a response.
#[derive(Debug)]
pub(super) struct Body<'a> {
    /// The place in the operation.
    pub(super) used_at: String,
    /// The place of the definition, the same unless a reference leads there.
    pub(super) pointer: String,
    pub(super) required: bool,
    /// By media type.
    pub(super) content: BTreeMap<String, Option<Spot<'a>>>,
    pub(super) attributes: BTreeMap<String, Value>,
}

#[derive(Debug)]
pub(super) struct Channel<'a> {
    pub(super) pointer: String,
    pub(super) messages: BTreeMap<String, String>,
    pub(super) attributes: BTreeMap<String, &'a Value>,
}

#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) pointer: String,
    /// The client sends it.
    pub(super) sent: bool,
    pub(super) payload: Option<Spot<'a>>,
    pub(super) attributes: BTreeMap<String, Value>,
}

pub(super) fn read(root: &Value) -> Result<Model<'_>> {
    let Some(map) = root.as_object() else { refuse!("", "the document must be a mapping") };
    let version = |key: &str| map.get(key).map(text);
    let kind = match (version("openapi"), version("asyncapi")) {
        (Some(version), None) if version.starts_with("3.") => Kind::OpenApi,
        (None, Some(version)) if version.starts_with("3.") => Kind::AsyncApi,
        (Some(version), None) => refuse!("/openapi", "OpenAPI {version} is not read, 3.x is"),
        (None, Some(version)) => refuse!("/asyncapi", "AsyncAPI {version} is not read, 3.x is"),
        _ => refuse!("", "neither `openapi` nor `asyncapi` says what this is"),
    };
    let mut model = Model {
        kind,
        root,
        version: root.pointer("/info/version").map(text).unwrap_or_default(),
        operations: BTreeMap::new(),
        messages: BTreeMap::new(),
        channels: BTreeMap::new(),
        schemas: BTreeMap::new(),
        sent: BTreeSet::new(),
        responses: BTreeSet::new(),
        parts: BTreeMap::new(),
    };
    for (name, schema) in children(root, "/components/schemas")? {
        let pointer = join("/components/schemas", name);
        model.schemas.insert(name.clone(), Spot::new(schema, pointer));
    }
    match kind {
        Kind::OpenApi => open_api(&mut model)?,
        Kind::AsyncApi => async_api(&mut model)?,
    }
    parts(&mut model, map)?;
    let operations = model.operations.values().filter_map(|o| o.body.as_ref());
    let bodies = operations.flat_map(|body| body.content.values().flatten());
    let messages = model.messages.values().filter(|m| m.sent).filter_map(|m| m.payload.as_ref());
    model.sent = reachable(root, bodies.chain(messages).map(|spot| spot.value).collect());
    let operations = model.operations.values().flat_map(|o| &o.responses);
    let successes = operations.filter(|(code, _)| code.starts_with('2')).map(|(_, body)| body);
    let contents = successes.flat_map(|body| body.content.values().flatten());
    model.responses = contents.filter_map(Spot::name).map(str::to_owned).collect();
    Ok(model)
}

fn open_api(model: &mut Model<'_>) -> Result<()> {
    let root = model.root;
    for (path, item) in children(root, "/paths")? {
        let at = join("/paths", path);
        let Some(item) = item.as_object() else { refuse!(at, "must be a mapping") };
        if item.contains_key("$ref") {
            refuse!(join(&at, "$ref"), "a path item must stand in place");
        }
        for (method, operation) in item {
            if !METHODS.contains(&method.as_str()) {
                let known = matches!(method.as_str(), "parameters" | "summary" | "description");
                if !known && !method.starts_with("x-") {
                    let key = ("path-item", format!("{path} {method}"));
                    model.parts.insert(key, (join(&at, method), operation.clone()));
                }
                continue;
            }
            let pointer = join(&at, method);
            let Some(map) = operation.as_object() else { refuse!(pointer, "must be a mapping") };
            let shared = item.get("parameters").map(|list| (list, join(&at, "parameters")));
            let read = read_operation(root, path, method, map, &pointer, shared)?;
            let key = format!("{} {}", method.to_uppercase(), template(path));
            if let Some(twin) = model.operations.insert(key, read) {
                refuse!(pointer, "the same path as `{}`", twin.title);
            }
        }
    }
    Ok(())
}

/// Returns the path with its parameters unnamed: a renamed one moves nothing.
fn template(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                out.push_str("{}");
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

fn read_operation<'a>(
    root: &'a Value,
    path: &str,
    method: &str,
    map: &'a Map<String, Value>,
    pointer: &str,
    shared: Option<(&'a Value, String)>,
) -> Result<Operation<'a>> {
    let mut parameters = BTreeMap::new();
    let own = map.get("parameters").map(|list| (list, join(pointer, "parameters")));
    for (list, at) in shared.into_iter().chain(own) {
        let Some(list) = list.as_array() else { refuse!(at, "must be a list") };
        for (index, parameter) in list.iter().enumerate() {
            let at = join(&at, &index.to_string());
            let (key, parameter) = read_parameter(root, path, parameter, at)?;
            parameters.insert(key, parameter);
        }
    }
    let body = map.get("requestBody");
    let body = body.map(|body| read_body(root, body, join(pointer, "requestBody"))).transpose()?;
    let mut responses = BTreeMap::new();
    let at = join(pointer, "responses");
    for (code, response) in children_of(map.get("responses"), &at)? {
        responses.insert(code.clone(), read_body(root, response, join(&at, code))?);
    }
    let security = map.get("security").or_else(|| root.get("security"));
    let security = security.cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let alternatives = security.as_array().map(Vec::as_slice).unwrap_or_default();
    let signed = !alternatives.is_empty()
        && alternatives.iter().all(|a| a.as_object().is_some_and(|schemes| !schemes.is_empty()));
    let tags = map.get("tags").and_then(Value::as_array).into_iter().flatten();
    Ok(Operation {
        title: format!("{} {path}", method.to_uppercase()),
        pointer: pointer.to_owned(),
        id: map.get("operationId").map(text).unwrap_or_default(),
        deprecated: map.get("deprecated") == Some(&Value::Bool(true)),
        tags: tags.map(text).collect(),
        signed,
        security,
        parameters,
        body,
        responses,
        attributes: attributes(map, &OF_OPERATIONS),
    })
}

fn read_parameter<'a>(
    root: &'a Value,
    path: &str,
    parameter: &'a Value,
    pointer: String,
) -> Result<((String, String), Parameter<'a>)> {
    let (parameter, place) = resolve_place(root, parameter, &pointer)?;
    let used_at = pointer.clone();
    let pointer = place.map_or(pointer, str::to_owned);
    let Some(map) = parameter.as_object() else { refuse!(pointer, "must be a mapping") };
    let (Some(name), Some(place)) = (map.get("name"), map.get("in")) else {
        refuse!(pointer, "a parameter needs `name` and `in`")
    };
    let (name, place) = (text(name), text(place));
    let in_path = place == "path";
    // The position in the path tells one from another, whatever they are called.
    let position = path.split('/').filter(|part| part.contains('{'));
    let position = position.take_while(|part| !part.contains(&format!("{{{name}}}"))).count();
    let key = if in_path { format!("{position}") } else { name.clone() };
    let schema = map.get("schema").map(|schema| Spot::new(schema, join(&pointer, "schema")));
    let flag = |key| map.get(key) == Some(&Value::Bool(true));
    Ok((
        (place, key),
        Parameter {
            required: in_path || flag("required"),
            deprecated: flag("deprecated"),
            attributes: attributes(map, &["name", "in", "required", "deprecated", "schema"]),
            name,
            used_at,
            pointer,
            schema,
        },
    ))
}

fn read_body<'a>(root: &'a Value, body: &'a Value, pointer: String) -> Result<Body<'a>> {
    let (body, place) = resolve_place(root, body, &pointer)?;
    let used_at = pointer.clone();
    let pointer = place.map_or(pointer, str::to_owned);
    let Some(map) = body.as_object() else { refuse!(pointer, "must be a mapping") };
    let at = join(&pointer, "content");
    let mut content = BTreeMap::new();
    for (media, value) in children_of(map.get("content"), &at)? {
        let pointer = join(&join(&at, media), "schema");
        content.insert(media.clone(), value.get("schema").map(|v| Spot::new(v, pointer)));
    }
    let required = map.get("required") == Some(&Value::Bool(true));
    Ok(Body {
        attributes: attributes(map, &["required", "content"]),
        used_at,
        pointer,
        required,
        content,
    })
}

fn async_api(model: &mut Model<'_>) -> Result<()> {
    let root = model.root;
    let mut sent: BTreeSet<String> = BTreeSet::new();
    let mut received: BTreeSet<String> = BTreeSet::new();
    for (name, channel) in children(root, "/channels")? {
        let pointer = join("/channels", name);
        let Some(map) = channel.as_object() else { refuse!(pointer, "must be a mapping") };
        let at = join(&pointer, "messages");
        let mut messages = BTreeMap::new();
        for (key, message) in children_of(map.get("messages"), &at)? {
            let at = join(&at, key);
            let (_, place) = resolve_place(root, message, &at)?;
            let place = place.map_or(at, str::to_owned);
            messages.insert(key.clone(), place.clone());
            read_message(model, place)?;
        }
        let attributes =
            map.iter().filter(|(key, _)| *key != "messages" && !super::schema::is_prose(key));
        let attributes = attributes.map(|(key, value)| (key.clone(), value)).collect();
        model.channels.insert(name.clone(), Channel { pointer, messages, attributes });
    }
    for (name, _) in children(root, "/components/messages")? {
        read_message(model, join("/components/messages", name))?;
    }
    for (name, operation) in children(root, "/operations")? {
        let pointer = join("/operations", name);
        let Some(map) = operation.as_object() else { refuse!(pointer, "must be a mapping") };
        let from_client = match map.get("action").and_then(Value::as_str) {
            // As the server sees it.
            Some("send") => false,
            Some("receive") => true,
            _ => refuse!(pointer, "`action` is neither `send` nor `receive`"),
        };
        let listed = map.get("messages").and_then(Value::as_array).into_iter().flatten();
        for (index, message) in listed.enumerate() {
            let at = join(&join(&pointer, "messages"), &index.to_string());
            let (_, place) = resolve_place(root, message, &at)?;
            let place = place.unwrap_or_default().to_owned();
            if from_client {
                sent.insert(place)
            } else {
                received.insert(place)
            };
        }
        let channel = map.get("channel").and_then(|c| c.get("$ref")).and_then(Value::as_str);
        let kept = attributes(map, &[]);
        model.parts.insert(
            ("stream-operation", name.clone()),
            (pointer, Value::Object(kept.into_iter().collect())),
        );
        // An operation that lists no message carries every one of its channel.
        if !map.contains_key("messages")
            && let Some(channel) = channel.and_then(|c| c.strip_prefix("#/channels/"))
            && let Some(channel) = model.channels.get(channel)
        {
            let all = channel.messages.values().cloned();
            if from_client {
                sent.extend(all);
            } else {
                received.extend(all);
            }
        }
    }
    for message in model.messages.values_mut() {
        message.sent = sent.contains(&message.pointer) && !received.contains(&message.pointer);
    }
    Ok(())
}

fn read_message(model: &mut Model<'_>, pointer: String) -> Result<()> {
    let key = match pointer.strip_prefix("/components/messages/") {
        Some(name) => name.to_owned(),
        None => pointer.trim_start_matches("/channels/").replace("/messages/", " "),
    };
    if model.messages.contains_key(&key) {
        return Ok(());
    }
    let Some(map) = model.root.pointer(&pointer).and_then(Value::as_object) else {
        refuse!(pointer, "must be a mapping")
    };
    let at = join(&pointer, "payload");
    let payload = map.get("payload").map(|payload| Spot::new(payload, at));
    let attributes = attributes(map, &["payload"]);
    model.messages.insert(key, Message { pointer, sent: false, payload, attributes });
    Ok(())
}

/// Adds the parts that are compared as a whole: servers, tags, security schemes, and all others.
fn parts(model: &mut Model<'_>, map: &Map<String, Value>) -> Result<()> {
    for (index, server) in
        map.get("servers").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        let name = server.get("url").map(text).unwrap_or_default();
        let pointer = join("/servers", &index.to_string());
        model.parts.insert(("server", name), (pointer, super::schema::bare(server)));
    }
    for (name, server) in map.get("servers").and_then(Value::as_object).into_iter().flatten() {
        let pointer = join("/servers", name);
        model.parts.insert(("server", name.clone()), (pointer, super::schema::bare(server)));
    }
    for (index, tag) in map.get("tags").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        let name = tag.get("name").map(text).unwrap_or_default();
        let pointer = join("/tags", &index.to_string());
        model.parts.insert(("tag", name), (pointer, super::schema::bare(tag)));
    }
    for (name, scheme) in children(model.root, "/components/securitySchemes")? {
        let pointer = join("/components/securitySchemes", name);
        model
            .parts
            .insert(("security-scheme", name.clone()), (pointer, super::schema::bare(scheme)));
    }
    let codes = model.root.pointer("/x-error-codes/codes").and_then(Value::as_array);
    for (index, code) in codes.into_iter().flatten().enumerate() {
        let name = code.get("code").map(text).unwrap_or_default();
        let pointer = join("/x-error-codes/codes", &index.to_string());
        model.parts.insert(("error-code", name), (pointer, super::schema::bare(code)));
    }
    for (key, value) in map {
        if !OF_DOCUMENTS.contains(&key.as_str()) && !super::schema::is_prose(key) {
            model.parts.insert(("document", key.clone()), (join("", key), value.clone()));
        }
    }
    model.parts.insert(
        ("spec-version", String::new()),
        ("/info/version".to_owned(), Value::String(model.version.clone())),
    );
    Ok(())
}

/// Returns the attributes of a mapping beside those that are read on their own, prose left out.
fn attributes(map: &Map<String, Value>, read: &[&str]) -> BTreeMap<String, Value> {
    let kept = map.iter().filter(|(key, _)| !read.contains(&key.as_str()));
    let kept = kept.filter(|(key, _)| !super::schema::is_prose(key));
    kept.map(|(key, value)| (key.clone(), super::schema::bare(value))).collect()
}

fn children<'a>(root: &'a Value, pointer: &str) -> Result<Vec<(&'a String, &'a Value)>> {
    children_of(root.pointer(pointer), pointer)
}

/// Returns the entries of a mapping that may be missing.
fn children_of<'a>(
    value: Option<&'a Value>,
    pointer: &str,
) -> Result<Vec<(&'a String, &'a Value)>> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(map)) => Ok(map.iter().collect()),
        Some(_) => refuse!(pointer, "must be a mapping"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl<'a> Model<'a> {
    /// Returns the operations or messages that carry each schema.
    pub(super) fn carriers(&self) -> BTreeMap<String, BTreeSet<String>> {
        // What each schema names by itself: followed once, not once for each operation.
        let direct: BTreeMap<&str, BTreeSet<&'a str>> =
            self.schemas.iter().map(|(name, spot)| (name.as_str(), named(spot.value))).collect();
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut add = |carrier: &str, spots: Vec<&'a Value>| {
            let mut open: Vec<&'a str> = spots.into_iter().flat_map(named).collect();
            let mut seen: BTreeSet<&'a str> = BTreeSet::new();
            while let Some(name) = open.pop() {
                if seen.insert(name) {
                    found.entry(name.to_owned()).or_default().insert(carrier.to_owned());
                    open.extend(direct.get(name).into_iter().flatten());
                }
            }
        };
        for operation in self.operations.values() {
            let bodies = operation.body.iter().chain(operation.responses.values());
            let content = bodies.flat_map(|body| body.content.values().flatten());
            let parameters = operation.parameters.values().filter_map(|p| p.schema.as_ref());
            add(&operation.title, content.chain(parameters).map(|spot| spot.value).collect());
        }
        for (name, message) in &self.messages {
            let title = format!("message {name}");
            add(&title, message.payload.iter().map(|spot| spot.value).collect());
        }
        found
    }

    /// Returns the schema that a reference names.
    pub(super) fn schema(&self, name: &str) -> Option<&Spot<'a>> {
        self.schemas.get(name)
    }
}

/// Returns the schemas that a value names by reference, without following them.
fn named(value: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                let reference = map.get("$ref").and_then(Value::as_str);
                found.extend(reference.and_then(schema_name));
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}
