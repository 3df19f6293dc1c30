//! From the published document to one that progenitor turns into good Rust.
//!
//! Each pass is a small function over the untyped document and says how often it fired. What
//! cannot be generated is refused here, with a pointer: progenitor would panic instead.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    document::{join, object, resolve, schema_name, walk},
    error::{Result, refuse},
    names::{pascal, snake, variant, words},
};

/// The methods an operation can have, as OpenAPI spells them.
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// An enum of text values that the server owns; generated open, by us and not by typify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEnum {
    /// The Rust name.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Its values in the order of the document.
    pub values: Vec<EnumValue>,
}

/// One value of an [`OpenEnum`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumValue {
    /// The variant.
    pub variant: String,
    /// The text on the wire.
    pub wire: String,
    /// What it means.
    pub description: Option<String>,
}

/// How often each pass fired, in order.
pub type Report = Vec<(&'static str, usize)>;

/// A document that has been through every pass.
#[derive(Clone, Debug)]
pub struct Normalised {
    /// The document.
    pub document: Value,
    /// The enums that were taken out of it.
    pub enums: Vec<OpenEnum>,
    /// The name in the published document of each operation and schema that was renamed.
    pub renamed: BTreeMap<String, String>,
    /// How often each pass fired.
    pub report: Report,
}

/// Runs every pass.
///
/// # Errors
///
/// The first thing in the document that cannot be generated.
pub(crate) fn normalise(mut document: Value) -> Result<Normalised> {
    let mut report = Report::new();
    let mut renamed = BTreeMap::new();
    check_version(&document)?;
    report.push(("examples and extensions dropped", drop_noise(&mut document)?));
    report.push(("parameters written out in place", inline_parameters(&mut document)?));
    check_operations(&document)?;
    report.push(("error responses left to the transport", drop_errors(&mut document)?));
    report.push(("inline bodies named", name_bodies(&mut document)?));
    report.push(("names with acronyms respelt", respell(&mut document, &mut renamed)?));
    report.push(("bounds and defaults left to the server", drop_bounds(&mut document)?));
    report.push(("formats set from the allow-lists", set_formats(&mut document)?));
    let (enums, fired) = take_enums(&mut document)?;
    report.push(("enums opened", fired));
    report.push(("nullable lists of responses made plain", plain_lists(&mut document)?));
    report.push(("references with siblings wrapped", wrap_references(&mut document)?));
    check_references(&mut document)?;
    Ok(Normalised { document, enums, renamed, report })
}

/// The operations as (pointer, path, method, operation).
pub(crate) fn operations(
    document: &Value,
) -> Result<Vec<(String, &str, &str, &Map<String, Value>)>> {
    let Some(root) = document.as_object() else { refuse!("", "the document must be a mapping") };
    let mut found = Vec::new();
    for (path, item) in object(root, "", "paths")? {
        let pointer = join("/paths", path);
        let Some(item) = item.as_object() else { refuse!(pointer, "must be a mapping") };
        if item.contains_key("$ref") {
            refuse!(join(&pointer, "$ref"), "a path item must stand in place");
        }
        for (method, operation) in item {
            if !METHODS.contains(&method.as_str()) {
                continue;
            }
            let pointer = join(&pointer, method);
            let Some(operation) = operation.as_object() else {
                refuse!(pointer, "must be a mapping")
            };
            found.push((pointer, path.as_str(), method.as_str(), operation));
        }
    }
    Ok(found)
}

/// Calls `change` with each operation.
fn each_operation(
    document: &mut Value,
    mut change: impl FnMut(&str, &str, &mut Map<String, Value>) -> Result<()>,
) -> Result<()> {
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else {
        refuse!("", "`paths` is missing")
    };
    for (path, item) in paths {
        let pointer = join("/paths", path);
        let Some(item) = item.as_object_mut() else { refuse!(pointer, "must be a mapping") };
        for (method, operation) in item {
            if let Some(operation) = operation.as_object_mut()
                && METHODS.contains(&method.as_str())
            {
                change(&join(&pointer, method), path, operation)?;
            }
        }
    }
    Ok(())
}

fn check_version(document: &Value) -> Result<()> {
    match document.get("openapi").and_then(Value::as_str) {
        Some(version) if version.starts_with("3.0.") => {}
        Some(version) => refuse!("/openapi", "OpenAPI {version}; only 3.0 is understood"),
        None => refuse!("", "`openapi` is missing: this is no OpenAPI 3 document"),
    }
    match document.pointer("/info/version") {
        Some(Value::String(_)) => Ok(()),
        _ => refuse!("/info/version", "the version must be text"),
    }
}

/// Drops what no code comes from. Our own extensions stay.
fn drop_noise(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let before = map.len();
        map.retain(|key, _| match key.as_str() {
            "example" | "examples" | "externalDocs" | "xml" => false,
            "x-enum-descriptions" => true,
            key => !key.starts_with("x-") || key.starts_with("x-kalshi-"),
        });
        fired += before - map.len();
        Ok(())
    })?;
    Ok(fired)
}

/// A document of the parts that operations refer to, apart from schemas: those are large.
fn shared(document: &Value) -> Value {
    let part = |name: &str| document.pointer(&format!("/components/{name}")).cloned();
    json!({"components": {"parameters": part("parameters"), "responses": part("responses")}})
}

/// Writes shared parameters (of a path, or referenced) into each operation.
fn inline_parameters(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    let root = shared(document);
    let mut of_path = BTreeMap::new();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            let item = item.as_object_mut();
            if let Some(Value::Array(shared)) = item.and_then(|item| item.remove("parameters")) {
                of_path.insert(path.clone(), shared);
            }
        }
    }
    each_operation(document, |pointer, path, operation| {
        let own = match operation.remove("parameters") {
            None => Vec::new(),
            Some(Value::Array(own)) => own,
            Some(_) => refuse!(join(pointer, "parameters"), "must be a list"),
        };
        let shared = of_path.get(path).map_or(&[][..], Vec::as_slice);
        fired += shared.len();
        let mut all: Vec<Value> = Vec::with_capacity(shared.len() + own.len());
        for parameter in shared.iter().chain(&own) {
            fired += usize::from(parameter.get("$ref").is_some());
            let parameter = resolve(&root, parameter, &join(pointer, "parameters"))?;
            // An operation's own parameter replaces the path's of the same name and place.
            all.retain(|p| p["name"] != parameter["name"] || p["in"] != parameter["in"]);
            all.push(parameter.clone());
        }
        if !all.is_empty() {
            operation.insert("parameters".to_owned(), Value::Array(all));
        }
        Ok(())
    })?;
    Ok(fired)
}

/// Refuses the operations that progenitor cannot turn into a method.
fn check_operations(document: &Value) -> Result<()> {
    let mut methods: BTreeMap<String, String> = BTreeMap::new();
    for (pointer, path, _, operation) in operations(document)? {
        let Some(id) = operation.get("operationId").and_then(Value::as_str) else {
            refuse!(pointer, "`operationId` is missing")
        };
        let id_pointer = join(&pointer, "operationId");
        if !id.starts_with(|c: char| c.is_ascii_alphabetic()) {
            refuse!(id_pointer, "`{id}` makes no method name");
        }
        if let Some(first) = methods.insert(snake(id), id_pointer.clone()) {
            refuse!(id_pointer, "the method `{}` stands already at {first}", snake(id));
        }
        check_parameters(document, &pointer, path, operation)?;
        check_request(&pointer, operation)?;
        check_responses(document, &pointer, operation)?;
    }
    Ok(())
}

fn check_parameters(
    document: &Value,
    pointer: &str,
    path: &str,
    operation: &Map<String, Value>,
) -> Result<()> {
    let mut in_path = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let parameters = operation.get("parameters").and_then(Value::as_array);
    for (index, parameter) in parameters.into_iter().flatten().enumerate() {
        let pointer = join(&join(pointer, "parameters"), &index.to_string());
        let Some(name) = parameter.get("name").and_then(Value::as_str) else {
            refuse!(pointer, "a parameter needs a name")
        };
        match parameter.get("in").and_then(Value::as_str) {
            Some("query") => {}
            Some("path") => {
                in_path.insert(name.to_owned());
            }
            Some(place) => refuse!(join(&pointer, "in"), "parameters in `{place}` are not generated"),
            None => refuse!(pointer, "`in` is missing"),
        }
        if !seen.insert(snake(name)) {
            refuse!(pointer, "the parameter `{name}` stands here twice");
        }
        let Some(schema) = parameter.get("schema") else {
            refuse!(pointer, "a parameter needs a `schema`")
        };
        let schema = resolve(document, schema, &join(&pointer, "schema"))?;
        let list = schema.get("type").and_then(Value::as_str) == Some("array");
        if let Some(style) = parameter.get("style").and_then(Value::as_str)
            && !matches!(style, "form" | "simple")
        {
            refuse!(join(&pointer, "style"), "the style `{style}` is not generated");
        }
        // progenitor ignores `explode` and always repeats the key.
        if list && parameter.get("explode") == Some(&Value::Bool(false)) {
            refuse!(join(&pointer, "explode"), "a list must repeat its key (`explode: true`)");
        }
    }
    let template: BTreeSet<String> = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
        .collect();
    if let Some(name) = template.difference(&in_path).next() {
        refuse!(pointer, "the path has `{{{name}}}` but no such path parameter is declared");
    }
    if let Some(name) = in_path.difference(&template).next() {
        refuse!(pointer, "the path parameter `{name}` does not stand in the path");
    }
    Ok(())
}

/// The schema of the only media type, which must be JSON.
fn json_schema<'a>(holder: &'a Value, pointer: &str) -> Result<Option<&'a Value>> {
    let Some(content) = holder.get("content") else { return Ok(None) };
    let pointer = join(pointer, "content");
    let Some(content) = content.as_object() else { refuse!(pointer, "must be a mapping") };
    let mut types = content.iter();
    match (types.next(), types.next()) {
        (None, _) => Ok(None),
        (Some((name, media)), None) if name == "application/json" => {
            match media.get("schema") {
                Some(schema) => Ok(Some(schema)),
                None => refuse!(join(&pointer, name), "JSON without a schema"),
            }
        }
        (Some((name, _)), None) => refuse!(pointer, "`{name}` is not generated, only JSON is"),
        (Some(_), Some(_)) => refuse!(pointer, "several media types; only one is generated"),
    }
}

fn check_request(pointer: &str, operation: &Map<String, Value>) -> Result<()> {
    let Some(body) = operation.get("requestBody") else { return Ok(()) };
    let pointer = join(pointer, "requestBody");
    if body.get("$ref").is_some() {
        refuse!(pointer, "a request body must stand in place");
    }
    match json_schema(body, &pointer)? {
        Some(_) => Ok(()),
        None => refuse!(pointer, "a request body needs JSON content"),
    }
}

fn check_responses(
    document: &Value,
    pointer: &str,
    operation: &Map<String, Value>,
) -> Result<()> {
    let responses = object(operation, pointer, "responses")?;
    let pointer = join(pointer, "responses");
    let mut success: Option<(&str, Option<&Value>)> = None;
    for (code, response) in responses {
        let pointer = join(&pointer, code);
        if code == "default" {
            // progenitor counts it as success and as error.
            refuse!(pointer, "`default` is ambiguous: name the statuses");
        }
        if !code.starts_with('2') {
            continue;
        }
        if code.parse::<u16>().is_err() {
            refuse!(pointer, "name the status of a success: `{code}` is a range");
        }
        let response = resolve(document, response, &pointer)?;
        let schema = json_schema(response, &pointer)?;
        if let Some((first, other)) = success
            && other != schema
        {
            refuse!(pointer, "two success types: {first} and {code} differ");
        }
        success = Some((code, schema));
    }
    if success.is_none() {
        refuse!(pointer, "no success response");
    }
    Ok(())
}

/// Removes every response but the success: the transport turns each failure into one error, by
/// status and body, whatever the document promises.
fn drop_errors(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    let root = shared(document);
    each_operation(document, |pointer, _, operation| {
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
            refuse!(pointer, "`responses` is missing")
        };
        let before = responses.len();
        responses.retain(|code, _| code.starts_with('2'));
        fired += before - responses.len();
        for response in responses.values_mut() {
            if response.get("$ref").is_some() {
                *response = resolve(&root, response, pointer)?.clone();
            }
        }
        Ok(())
    })?;
    Ok(fired)
}

/// Gives each inline body of a request or response a name, so that its type has a good one.
fn name_bodies(document: &mut Value) -> Result<usize> {
    let mut named: Vec<(String, String, Value)> = Vec::new();
    each_operation(document, |pointer, _, operation| {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let mut take = |holder: Option<&mut Value>, suffix: &str| {
            let schema = holder.and_then(|h| h.pointer_mut("/content/application~1json/schema"));
            if let Some(schema) = schema
                && schema.get("$ref").is_none()
            {
                let name = format!("{id}{suffix}");
                let reference = json!({"$ref": format!("#/components/schemas/{name}")});
                named.push((pointer.to_owned(), name, std::mem::replace(schema, reference)));
            }
        };
        take(operation.get_mut("requestBody"), "Request");
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        for response in responses.into_iter().flat_map(Map::values_mut) {
            take(Some(response), "Response");
        }
        Ok(())
    })?;
    let fired = named.len();
    for (pointer, name, schema) in named {
        add_schema(document, &pointer, name, schema)?;
    }
    Ok(fired)
}

fn add_schema(document: &mut Value, pointer: &str, name: String, schema: Value) -> Result<()> {
    let Some(root) = document.as_object_mut() else { refuse!("", "must be a mapping") };
    let schemas = root
        .entry("components")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .map(|components| components.entry("schemas").or_insert_with(|| json!({})));
    let Some(Value::Object(schemas)) = schemas else {
        refuse!("/components/schemas", "must be a mapping")
    };
    match schemas.get(&name) {
        Some(found) if *found != schema => {
            refuse!(pointer, "the type `{name}` would be made twice, with different contents")
        }
        _ => {
            schemas.insert(name, schema);
            Ok(())
        }
    }
}

/// Respells operation ids and schema names (see [`words`]) and every reference to them.
fn respell(document: &mut Value, renamed: &mut BTreeMap<String, String>) -> Result<usize> {
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    if let Some(schemas) = schemas {
        for (name, schema) in std::mem::take(schemas) {
            let new = words(&name);
            let pointer = join("/components/schemas", &name);
            if !new.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                refuse!(pointer, "`{name}` makes no type name");
            }
            if new != name {
                renamed.insert(new.clone(), name);
            }
            if schemas.insert(new.clone(), schema).is_some() {
                refuse!(pointer, "two schemas would be called `{new}`");
            }
        }
    }
    each_operation(document, |_, _, operation| {
        if let Some(Value::String(id)) = operation.get_mut("operationId") {
            let new = words(id);
            if new != *id {
                renamed.insert(new.clone(), std::mem::replace(id, new));
            }
        }
        Ok(())
    })?;
    walk(document, "", &mut |_, map| {
        if let Some(Value::String(reference)) = map.get_mut("$ref")
            && let Some(name) = schema_name(reference)
        {
            *reference = format!("#/components/schemas/{}", words(name));
        }
        Ok(())
    })?;
    Ok(renamed.len())
}

/// Drops bounds, patterns and defaults.
///
/// Bounds would turn into types that refuse a response the server really sent, and defaults would
/// be sent with each request: an omitted `subaccount` means something else than `0` for a bound
/// key, and the exchange changes its defaults.
fn drop_bounds(document: &mut Value) -> Result<usize> {
    const BOUNDS: [&str; 13] = [
        "default",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maximum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minimum",
        "minItems",
        "minLength",
        "minProperties",
        "multipleOf",
        "uniqueItems",
    ];
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let before = map.len();
        map.retain(|key, _| key != "pattern" && !BOUNDS.contains(&key.as_str()));
        // Integers become i64 (or i32): an unsigned type would refuse a negative count or balance.
        if map.get("type").and_then(Value::as_str) == Some("integer")
            && !matches!(map.get("format").and_then(Value::as_str), Some("int32") | None)
        {
            map.insert("format".to_owned(), json!("int64"));
        }
        fired += before - map.len();
        Ok(())
    })?;
    Ok(fired)
}

/// The format that makes a parameter a list joined by commas.
pub(crate) const COMMA_LIST: &str = "kalshi-comma-list";
/// The format that keeps a text out of `Debug`, logs and errors.
pub(crate) const SECRET: &str = "kalshi-secret";
/// The format that makes an integer a time in whole seconds.
pub(crate) const UNIX_SECONDS: &str = "kalshi-unix-seconds";
/// The format that makes an integer a time in milliseconds.
pub(crate) const UNIX_MILLIS: &str = "kalshi-unix-millis";

/// Query parameters that are typed as text and hold a list joined by commas: (operation, name).
/// `*` stands for every operation.
const COMMA_LISTS: [(&str, &str); 8] = [
    ("BatchGetMarketCandlesticks", "market_tickers"),
    ("GetEvents", "tickers"),
    ("GetFcmOrders", "client_order_ids"),
    ("GetFills", "ticker"),
    ("GetHistoricalMarkets", "tickers"),
    ("GetMarkets", "tickers"),
    ("GetOrderQueuePositions", "market_tickers"),
    ("GetOrders", "event_ticker"),
];

/// Integer fields and parameters that hold unix seconds. The suffix does not tell: some `_ts` are
/// milliseconds or RFC 3339 text.
const SECONDS: [&str; 21] = [
    "adjusted_end_ts",
    "api_key_region_expiration_ts",
    "computed_ts",
    "created_ts",
    "end_period_ts",
    "end_ts",
    "expiration_time",
    "expires_ts",
    "finalized_ts",
    "max_close_ts",
    "max_created_ts",
    "max_settled_ts",
    "max_ts",
    "max_updated_ts",
    "min_close_ts",
    "min_created_ts",
    "min_settled_ts",
    "min_ts",
    "min_updated_ts",
    "start_ts",
    "updated_ts",
];

/// Integer fields that hold unix milliseconds.
const MILLIS: [&str; 8] = [
    "calibration_window_end_ms",
    "calibration_window_start_ms",
    "effective_at_ms",
    "obs_time_ms",
    "published_at_ms",
    "received_at_ms",
    "sending_ts_ms",
    "ts_ms",
];

/// Sets our formats by allow-list, and drops `uuid`: an id is text that must survive unharmed.
fn set_formats(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    let mut time = |name: &str, schema: &mut Value| {
        let format = if SECONDS.contains(&name) || name == "ts" {
            UNIX_SECONDS
        } else if MILLIS.contains(&name) {
            UNIX_MILLIS
        } else {
            return;
        };
        if schema.get("type").and_then(Value::as_str) == Some("integer") {
            schema["format"] = json!(format);
            fired += 1;
        }
    };
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            for (name, schema) in map.iter_mut() {
                time(name, schema);
            }
        } else if let Some(name) = map.get("name").and_then(Value::as_str)
            && map.contains_key("in")
        {
            let name = name.to_owned();
            if let Some(schema) = map.get_mut("schema") {
                time(&name, schema);
            }
        }
        Ok(())
    })?;
    walk(document, "", &mut |at, map| {
        if !at.holds_names() && map.get("format").and_then(Value::as_str) == Some("uuid") {
            map.remove("format");
            fired += 1;
        }
        Ok(())
    })?;
    each_operation(document, |_, _, operation| {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            if COMMA_LISTS.contains(&(id.as_str(), name.as_str()))
                && parameter.pointer("/schema/type").and_then(Value::as_str) == Some("string")
            {
                parameter["schema"]["format"] = json!(COMMA_LIST);
                fired += 1;
            }
        }
        Ok(())
    })?;
    Ok(fired)
}

/// Takes every enum of text values out of the document; a reference stays in its place.
fn take_enums(document: &mut Value) -> Result<(Vec<OpenEnum>, usize)> {
    let mut taken: BTreeMap<String, (OpenEnum, String)> = BTreeMap::new();
    let mut fired = 0;
    let mut found: Vec<(String, String)> = Vec::new();
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    for (name, schema) in schemas.into_iter().flatten() {
        find_enums(schema, &join("/components/schemas", name), name, &mut found);
    }
    for (pointer, _, _, operation) in operations(document)? {
        let id = operation["operationId"].as_str().unwrap_or_default();
        let parameters = operation.get("parameters").and_then(Value::as_array);
        for (index, parameter) in parameters.into_iter().flatten().enumerate() {
            let name = format!("{id}{}", pascal(parameter["name"].as_str().unwrap_or_default()));
            let pointer = format!("{pointer}/parameters/{index}/schema");
            find_enums(&parameter["schema"], &pointer, &name, &mut found);
        }
    }
    // Enums that are schemas of their own keep their names; the others make way.
    found.sort_by_key(|(pointer, name)| *pointer != join("/components/schemas", name));
    for (pointer, mut name) in found {
        let Some(Value::Object(schema)) = document.pointer_mut(&pointer) else { continue };
        let mut values = match schema.remove("enum") {
            Some(Value::Array(values)) => values,
            _ => refuse!(join(&pointer, "enum"), "must be a list"),
        };
        fired += 1;
        let before = values.len();
        values.retain(|value| !value.is_null());
        if values.len() < before {
            schema.insert("nullable".to_owned(), true.into());
        }
        // Numbers stay numbers: a new interval or level must not fail a page.
        if values.iter().all(Value::is_number) {
            schema.remove("x-enum-descriptions");
            continue;
        }
        let words = schema.remove("x-enum-descriptions").unwrap_or_default();
        let description = schema.get("description").and_then(Value::as_str).map(str::to_owned);
        let mut open = open_enum(&pointer, name.clone(), &values, &words, description)?;
        while taken.get(&name).is_some_and(|(other, _)| !same_values(other, &open)) {
            name.push_str("Field");
            open.name.clone_from(&name);
        }
        if pointer == join("/components/schemas", &name) {
            // Its own schema: keeps its place, and is replaced by name.
            *schema = json!({"type": "string"}).as_object().cloned().unwrap_or_default();
        } else {
            schema.remove("type");
            schema.remove("format");
            schema.insert("$ref".to_owned(), json!(format!("#/components/schemas/{name}")));
            add_schema(document, &pointer, name.clone(), json!({"type": "string"}))?;
        }
        taken.entry(name).or_insert((open, pointer));
    }
    Ok((taken.into_values().map(|(open, _)| open).collect(), fired))
}

fn same_values(a: &OpenEnum, b: &OpenEnum) -> bool {
    a.values.iter().map(|v| &v.wire).eq(b.values.iter().map(|v| &v.wire))
}

/// Finds the enums of text in a schema, named after the way to them.
fn find_enums(schema: &Value, pointer: &str, name: &str, found: &mut Vec<(String, String)>) {
    let Some(map) = schema.as_object() else { return };
    if map.contains_key("enum") {
        found.push((pointer.to_owned(), name.to_owned()));
    }
    if let Some(Value::Object(properties)) = map.get("properties") {
        for (field, schema) in properties {
            let pointer = join(&join(pointer, "properties"), field);
            find_enums(schema, &pointer, &format!("{name}{}", pascal(field)), found);
        }
    }
    if let Some(items) = map.get("items") {
        find_enums(items, &join(pointer, "items"), &format!("{name}Item"), found);
    }
    if let Some(values) = map.get("additionalProperties") {
        let pointer = join(pointer, "additionalProperties");
        find_enums(values, &pointer, &format!("{name}Value"), found);
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for (index, schema) in map.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
            find_enums(schema, &join(&join(pointer, list), &index.to_string()), name, found);
        }
    }
}

fn open_enum(
    pointer: &str,
    name: String,
    values: &[Value],
    words: &Value,
    description: Option<String>,
) -> Result<OpenEnum> {
    let mut seen = BTreeMap::new();
    let mut out = Vec::with_capacity(values.len());
    for value in values {
        let Some(wire) = value.as_str() else {
            refuse!(join(pointer, "enum"), "`{value}` is not text")
        };
        let Some(variant) = variant(wire) else {
            refuse!(join(pointer, "enum"), "`{wire}` makes no name")
        };
        if let Some(first) = seen.insert(variant.clone(), wire) {
            refuse!(join(pointer, "enum"), "`{first}` and `{wire}` would both be `{variant}`");
        }
        let description = words.get(wire).and_then(Value::as_str).map(str::to_owned);
        out.push(EnumValue { variant, wire: wire.to_owned(), description });
    }
    Ok(OpenEnum { name, description, values: out })
}

/// Lists and maps of responses lose `nullable`: null decodes as empty (see `refine`), because the
/// server does send null for an empty list.
fn plain_lists(document: &mut Value) -> Result<usize> {
    let requests = request_schemas(document)?;
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        if requests.contains(name) {
            continue;
        }
        walk(schema, "", &mut |at, map| {
            let list = match map.get("type").and_then(Value::as_str) {
                Some("array") => true,
                Some("object") => !map.contains_key("properties"),
                _ => false,
            };
            // An element that is null is not an empty list.
            if list && !at.is_key("items") && map.remove("nullable").is_some() {
                fired += 1;
            }
            Ok(())
        })?;
    }
    Ok(fired)
}

/// The schemas that a request body can hold, at any depth.
pub(crate) fn request_schemas(document: &Value) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (_, _, _, operation) in operations(document)? {
        if let Some(body) = operation.get("requestBody") {
            reach(document, body, &mut found);
        }
    }
    Ok(found)
}

fn reach(document: &Value, from: &Value, found: &mut BTreeSet<String>) {
    match from {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(schema_name)
                && found.insert(name.to_owned())
                && let Some(schema) = document.pointer(&join("/components/schemas", name))
            {
                reach(document, schema, found);
            }
            map.values().for_each(|value| reach(document, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| reach(document, value, found)),
        _ => {}
    }
}

/// `$ref` with anything beside it becomes `allOf`: openapiv3 drops the siblings, and a required
/// field with a nullable reference would then fail on null.
fn wrap_references(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if map.len() > 1 && map.get("$ref").is_some_and(Value::is_string) && !at.holds_names() {
            if let Some(reference) = map.remove("$ref") {
                map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            fired += 1;
        }
        Ok(())
    })?;
    Ok(fired)
}

fn check_references(document: &mut Value) -> Result<()> {
    let mut references: BTreeMap<String, String> = BTreeMap::new();
    walk(document, "", &mut |at, map| {
        if let Some(Value::String(reference)) = map.get("$ref")
            && !references.contains_key(reference)
        {
            references.insert(reference.clone(), at.pointer());
        }
        Ok(())
    })?;
    for (reference, pointer) in references {
        resolve(document, &json!({"$ref": reference}), &pointer)?;
    }
    Ok(())
}
