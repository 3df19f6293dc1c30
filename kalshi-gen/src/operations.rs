//! The operations as data: what the table in the client, the simulator and the review files are
//! made of.

use serde_json::{Map, Value};

use crate::{
    document::{join, resolve, schema_name},
    error::{Result, refuse},
    names::method_name,
    normalize::{
        ACCESS, Access, COMMA_LIST, ITEMS, Normalized, UNIX_MILLIS, UNIX_SECONDS, operation_id,
        operations,
    },
    samples::Samples,
};

/// One operation of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationModel {
    /// The method's name in Rust: `get_markets`.
    pub id: String,
    /// The `operationId` as published: `GetMarkets`.
    pub operation_id: String,
    /// The name of its builder: `GetMarkets`.
    pub builder: String,
    /// `GET`, upper case.
    pub method: String,
    /// The path below the base URL, with `{parameters}`.
    pub path: String,
    /// The family.
    pub tag: String,
    /// Ways to authenticate, the preferred one first; never empty.
    pub access: Vec<Access>,
    /// The status of its success.
    pub success: u16,
    /// The type of its success body, if it has one.
    pub response: Option<String>,
    /// The type of its request body and whether the document requires one.
    pub body: Option<(String, bool)>,
    /// Parameters, in the order of the document.
    pub parameters: Vec<ParameterModel>,
    /// Marked as deprecated.
    pub deprecated: bool,
    /// One line.
    pub summary: Option<String>,
    /// More lines.
    pub description: Option<String>,
    /// Pagination, for lists.
    pub pagination: Option<PaginationModel>,
    /// Cost to the rate limit.
    pub cost: CostModel,
    /// Words that people search for when they mean it.
    pub aliases: Vec<String>,
    /// A program that sends it.
    pub example: String,
    /// True if its response holds a secret.
    pub secret: bool,
    /// True if it only reads: every GET, and what an overlay says so of by `x-kalshi-reads`.
    pub reads: bool,
    /// The field of the request that makes a second sending harmless.
    pub idempotency_key: Option<String>,
}

impl OperationModel {
    /// Returns the preferred way to be let in.
    #[must_use]
    pub fn preferred_access(&self) -> Access {
        self.access.first().copied().unwrap_or(Access::Public)
    }

    /// Reports whether it needs credentials.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.preferred_access() != Access::Public
    }

    /// Returns every way to be let in as text: `signed or bearer`.
    #[must_use]
    pub fn access_text(&self) -> String {
        let names: Vec<&str> = self.access.iter().map(|access| access.name()).collect();
        names.join(" or ")
    }
}

/// One parameter of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the document by itself")]
pub struct ParameterModel {
    /// The name on the wire.
    pub name: String,
    /// True if in the path, otherwise in the query.
    pub in_path: bool,
    /// Must be given.
    pub required: bool,
    /// Form of its text.
    pub kind: &'static str,
    /// The enum that it takes, if it takes one.
    pub type_name: Option<String>,
    /// It is a list of numbers.
    pub of_numbers: bool,
    /// It is a day, without a time.
    pub is_date: bool,
    /// Marked as deprecated.
    pub deprecated: bool,
    /// Description, if the document has one.
    pub description: Option<String>,
}

/// The fields that carry a list from page to page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaginationModel {
    /// The field of the response with the cursor of the next page.
    pub cursor: String,
    /// True if that field may be absent.
    pub optional_cursor: bool,
    /// The field of the response with the rows.
    pub items: String,
    /// The type of one row, `None` for plain text.
    pub item: Option<String>,
}

/// The cost of an operation to the rate limit: `x-kalshi-cost`, over what holds for its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostModel {
    /// `Read`, `Write` or `Own`.
    pub bucket: &'static str,
    /// Tokens of a call, or of each item.
    pub tokens: u32,
    /// The field of the body whose items are counted, if it is not the call that costs.
    pub per_item: Option<String>,
    /// A parameter with which the call costs something else.
    pub parameter: Option<ParameterCostModel>,
    /// Shard whose bucket pays.
    pub shard: ShardModel,
}

/// Another cost of the calls whose parameter has this value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterCostModel {
    /// The name on the wire.
    pub name: String,
    /// The text of the value.
    pub value: String,
    /// Tokens of such a call.
    pub tokens: u32,
}

/// The shard whose bucket pays for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardModel {
    /// The bucket that belongs to no shard.
    Unscoped,
    /// The one named by `exchange_index`.
    Named,
    /// Always the same shard.
    Fixed(u32),
}

/// The default cost of a call.
const DEFAULT_TOKENS: u32 = 10;

/// The families whose changes are paid from the Write bucket; everything else is paid from the
/// Read bucket.
const WRITE_FAMILIES: [&str; 3] = ["communications", "order-groups", "orders"];

/// Lists whose response has two arrays: (the response, the field with the rows).
const ROWS: [(&str, &str); 2] =
    [("GetEventsResponse", "events"), ("GetPositionsResponse", "market_positions")];

/// Reads the operations out of a normalized document, in the order of its paths.
pub(crate) fn model(normalized: &Normalized) -> Result<Vec<OperationModel>> {
    let document = &normalized.document;
    let mut models = Vec::new();
    for (pointer, path, method, operation) in operations(document)? {
        let builder = operation_id(operation).to_owned();
        let text = |key| operation.get(key).and_then(Value::as_str).map(str::to_owned);
        let (success, response) = success(operation);
        let parameters = parameters(normalized, operation, &pointer)?;
        let pagination = match &response {
            Some(response) => match parameters.iter().position(|p| p.name == "cursor") {
                Some(index) if matches!(parameters[index].kind, "CommaSeparated" | "List") => {
                    let pointer = format!("{pointer}/parameters/{index}/schema");
                    refuse!(pointer, "a cursor must be a scalar")
                }
                Some(_) => Some(pagination(document, response, &pointer)?),
                None => None,
            },
            _ => None,
        };
        models.push(OperationModel {
            id: method_name(&builder),
            operation_id: normalized.renamed.get(&builder).unwrap_or(&builder).clone(),
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            tag: tag(operation, path).to_owned(),
            access: access(operation),
            success,
            response,
            body: body(&normalized.document, operation),
            parameters,
            deprecated: operation.get("deprecated").and_then(Value::as_bool).unwrap_or(false),
            summary: text("summary"),
            description: text("description"),
            pagination,
            cost: cost(document, operation, method, &pointer)?,
            aliases: aliases(operation, &pointer)?,
            example: String::new(),
            secret: operation.get("x-kalshi-secret") == Some(&Value::Bool(true)),
            reads: method == "get" || operation.get("x-kalshi-reads") == Some(&Value::Bool(true)),
            idempotency_key: text("x-kalshi-idempotency-key"),
            builder,
        });
    }
    let samples = Samples::new(normalized);
    for model in &mut models {
        model.example = samples.example(model);
    }
    Ok(models)
}

/// Returns the family: the first tag, or the first part of the path in a document without tags.
fn tag<'a>(operation: &'a Map<String, Value>, path: &'a str) -> &'a str {
    let tag = operation.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
    tag.unwrap_or_else(|| path.trim_start_matches('/').split('/').next().unwrap_or_default())
}

/// Returns the ways in, as a pass left them.
fn access(operation: &Map<String, Value>) -> Vec<Access> {
    let words = operation.get(ACCESS).and_then(Value::as_array);
    let all = [Access::Public, Access::Signed, Access::Bearer];
    let found = words.into_iter().flatten();
    found.filter_map(|word| all.into_iter().find(|access| word == access.name())).collect()
}

fn success(operation: &Map<String, Value>) -> (u16, Option<String>) {
    let responses = operation.get("responses").and_then(Value::as_object);
    let Some((code, response)) = responses.into_iter().flatten().next() else { return (200, None) };
    (code.parse().unwrap_or(200), body_type(response))
}

/// Returns the type of a request's body, and whether the caller has to give one: the document says
/// so, or there is no body without a required field.
fn body(document: &Value, operation: &Map<String, Value>) -> Option<(String, bool)> {
    let body = operation.get("requestBody")?;
    let name = body_type(body)?;
    let pointer = join(&join("/components/schemas", &name), "required");
    let fields = document.pointer(&pointer).and_then(Value::as_array);
    let is_required = body.get("required") == Some(&Value::Bool(true))
        || fields.is_some_and(|fields| !fields.is_empty());
    Some((name, is_required))
}

fn body_type(holder: &Value) -> Option<String> {
    let schema = holder.pointer("/content/application~1json/schema")?;
    // A reference with a description beside it has been wrapped.
    let schema = schema.pointer("/allOf/0").unwrap_or(schema);
    schema.get("$ref")?.as_str().and_then(schema_name).map(str::to_owned)
}

fn parameters(
    normalized: &Normalized,
    operation: &Map<String, Value>,
    pointer: &str,
) -> Result<Vec<ParameterModel>> {
    let document = &normalized.document;
    let mut models = Vec::new();
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let schema = &parameter["schema"];
        let schema = schema.pointer("/allOf/0").unwrap_or(schema);
        let referred = schema.get("$ref").and_then(Value::as_str).and_then(schema_name);
        let is_enum = |name: &&str| normalized.enums.iter().any(|open| open.name == *name);
        let items = parameter.pointer(&format!("/{ITEMS}/$ref")).and_then(Value::as_str);
        let type_name = referred.or(items.and_then(schema_name)).filter(is_enum);
        let schema = resolve(document, schema, pointer)?;
        let format = schema.get("format").and_then(Value::as_str);
        let kind = match (schema.get("type").and_then(Value::as_str), format) {
            (Some("integer"), Some(UNIX_SECONDS)) => "UnixSeconds",
            (Some("integer"), Some(UNIX_MILLIS)) => "UnixMillis",
            (Some("integer"), _) => "Integer",
            (Some("number"), _) => "Number",
            (Some("boolean"), _) => "Boolean",
            (Some("array"), _) => "List",
            (_, Some(COMMA_LIST)) => "CommaSeparated",
            (_, Some("date-time")) => "DateTime",
            _ => "Text",
        };
        models.push(ParameterModel {
            name: parameter["name"].as_str().unwrap_or_default().to_owned(),
            in_path: parameter["in"] == "path",
            required: parameter["in"] == "path" || parameter["required"] == true,
            kind,
            type_name: type_name.map(str::to_owned),
            is_date: format == Some("date"),
            of_numbers: matches!(schema["items"]["type"].as_str(), Some("integer" | "number")),
            deprecated: parameter["deprecated"] == true,
            description: parameter.get("description").and_then(Value::as_str).map(str::to_owned),
        });
    }
    Ok(models)
}

/// Reads how a list goes on: it has `cursor` in its request and, in its response, a cursor and the
/// rows.
fn pagination(document: &Value, response: &str, pointer: &str) -> Result<PaginationModel> {
    let schema_pointer = join("/components/schemas", response);
    let schema = document.pointer(&schema_pointer).unwrap_or(&Value::Null);
    let properties = schema.get("properties").and_then(Value::as_object);
    let properties = || properties.into_iter().flatten();
    let Some((cursor, field)) =
        properties().find(|(name, _)| *name == "cursor" || *name == "next_cursor")
    else {
        refuse!(pointer, "takes a `cursor`, but `{response}` gives none back")
    };
    if field["type"] != "string" || field.get("format").is_some() {
        refuse!(format!("{schema_pointer}/properties/{cursor}"), "a cursor must be text");
    }
    let lists: Vec<_> = properties().filter(|(_, field)| field["type"] == "array").collect();
    let chosen = ROWS.iter().find(|(name, _)| *name == response).map(|(_, field)| *field);
    let (items, field) = match (lists.as_slice(), chosen) {
        ([(name, field)], None) => (*name, *field),
        (lists, Some(chosen)) if lists.iter().any(|(name, _)| *name == chosen) => {
            lists.iter().copied().find(|(name, _)| *name == chosen).unwrap_or(lists[0])
        }
        _ => refuse!(schema_pointer, "a list with a cursor must have one array of rows"),
    };
    let row = &field["items"];
    let row = row.pointer("/allOf/0").unwrap_or(row);
    let item = row.get("$ref").and_then(Value::as_str).and_then(schema_name).map(str::to_owned);
    if item.is_none() && row["type"] != "string" {
        let items =
            if field.get("items").is_some() { format!("{items}/items") } else { items.clone() };
        let pointer = format!("{schema_pointer}/properties/{items}");
        refuse!(pointer, "the rows of a list need a named type");
    }
    let required = schema.get("required").and_then(Value::as_array);
    let nullable = properties().any(|(n, f)| n == cursor && f["nullable"] == true);
    let required = required.is_some_and(|names| names.iter().any(|name| name == cursor));
    Ok(PaginationModel {
        cursor: cursor.clone(),
        optional_cursor: nullable || !required,
        items: items.clone(),
        item,
    })
}

/// `x-kalshi-aliases: [place order]`, from the overlay.
fn aliases(operation: &Map<String, Value>, pointer: &str) -> Result<Vec<String>> {
    let Some(aliases) = operation.get("x-kalshi-aliases") else { return Ok(Vec::new()) };
    let pointer = join(pointer, "x-kalshi-aliases");
    let Some(aliases) = aliases.as_array() else { refuse!(pointer, "must be a list") };
    let mut texts = Vec::with_capacity(aliases.len());
    for (index, alias) in aliases.iter().enumerate() {
        // rustdoc refuses quotes, and blanks at the ends.
        let text = alias
            .as_str()
            .filter(|text| !text.is_empty() && text.trim() == *text && !text.contains(['"', '\'']));
        let Some(text) = text else { refuse!(join(&pointer, &index.to_string()), "must be words") };
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// Reads `x-kalshi-cost`, from the overlay: `tokens`; `per: item`; `bucket: read`, `write` or
/// `own`; `shard: named` or a number; `when: {parameter, value, tokens}`.
fn cost(
    document: &Value,
    operation: &Map<String, Value>,
    method: &str,
    pointer: &str,
) -> Result<CostModel> {
    let pointer = join(pointer, "x-kalshi-cost");
    let tag = operation.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str);
    let writes = method != "get" && tag.is_some_and(|tag| WRITE_FAMILIES.contains(&tag));
    let mut model = CostModel {
        bucket: if writes { "Write" } else { "Read" },
        tokens: DEFAULT_TOKENS,
        per_item: None,
        parameter: None,
        shard: ShardModel::Unscoped,
    };
    let Some(cost) = operation.get("x-kalshi-cost") else { return Ok(model) };
    let Some(cost) = cost.as_object() else { refuse!(pointer, "must be a mapping") };
    let tokens = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    for (key, value) in cost {
        let at = join(&pointer, key);
        match (key.as_str(), value.as_str()) {
            ("tokens", _) => match tokens(value) {
                Some(tokens) => model.tokens = tokens,
                None => refuse!(at, "`tokens` must be a count"),
            },
            ("per", Some("call")) => {}
            ("per", Some("item")) => model.per_item = Some(counted(document, operation, &at)?),
            ("bucket", Some("read")) => model.bucket = "Read",
            ("bucket", Some("write")) => model.bucket = "Write",
            ("bucket", Some("own")) => model.bucket = "Own",
            ("shard", Some("named")) => model.shard = ShardModel::Named,
            ("shard", None) if tokens(value).is_some() => {
                model.shard = ShardModel::Fixed(tokens(value).unwrap_or_default());
            }
            ("when", _) => {
                let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
                let parts =
                    (text("parameter"), text("value"), value.get("tokens").and_then(tokens));
                let (Some(name), Some(value), Some(tokens)) = parts else {
                    refuse!(at, "needs `parameter`, `value` and `tokens`")
                };
                model.parameter = Some(ParameterCostModel { name, value, tokens });
            }
            _ => refuse!(at, "`{key}: {value}` is no part of a cost"),
        }
    }
    Ok(model)
}

/// Returns the one list in the body of an operation that is charged for each item.
fn counted(document: &Value, operation: &Map<String, Value>, pointer: &str) -> Result<String> {
    let schema = body(document, operation).and_then(|(name, _)| {
        document.pointer(&join(&join("/components/schemas", &name), "properties"))?.as_object()
    });
    let lists = schema.into_iter().flatten().filter(|(_, field)| field["type"] == "array");
    match lists.collect::<Vec<_>>().as_slice() {
        [(name, _)] => Ok((*name).clone()),
        _ => refuse!(pointer, "the body must have one list whose items are counted"),
    }
}
