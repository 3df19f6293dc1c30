//! The whole table: every operation is sent with random parameters and a random body, and its
//! random answer is decoded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use kalshi_sdk::{
    Effect, ErrorKind, OPERATIONS, Operation, OperationId, klear,
    operation::{Access, Body, Bucket, Lane, ParameterKind, Place, ShardScope},
    perps,
};
use serde_json::{Value, json};

use crate::support::{
    Answer, BASE, Clients, Document, Fill, Generator, KEY_ID, Random, Request, Sample, Server,
    TOKEN, every_operation, keys, operation, prune, with_decimals,
};

/// The seeds of each operation: everything, the least, nulls, and then random ones.
const SEEDS: u64 = 12;

fn fill(seed: u64) -> Fill {
    match seed {
        0 => Fill::Most,
        1 => Fill::Least,
        2 => Fill::Nulls,
        _ => Fill::Any,
    }
}

/// A server whose next answer the test sets.
struct Table {
    server: Server,
    clients: Clients,
    next: Arc<Mutex<Answer>>,
}

impl Table {
    async fn start() -> Self {
        let next = Arc::new(Mutex::new(Answer::new(500, "")));
        let answer = Arc::clone(&next);
        let server =
            Server::start(move |_| answer.lock().unwrap_or_else(PoisonError::into_inner).clone())
                .await;
        let clients = Clients::new(&server.url());
        Self { server, clients, next }
    }

    fn answer(&self, answer: Answer) {
        *self.next.lock().unwrap() = answer;
    }
}

/// One call with all that goes into it.
pub(crate) struct Case {
    operation: &'static Operation,
    pub(crate) parameters: BTreeMap<String, String>,
    /// The segments and parameters that the server should see, by place.
    path: Vec<String>,
    query: BTreeMap<String, Vec<String>>,
    pub(crate) body: Option<Value>,
}

impl Case {
    /// Creates a call, the same for the same seed; 0 leaves nothing out, 1 all that may be.
    pub(crate) fn new(operation: &'static Operation, seed: u64) -> Self {
        let document = Document::of(operation);
        let mut generator = Generator::request(document, fill(seed), seed);
        let mut parameters = BTreeMap::new();
        let mut in_path = BTreeMap::new();
        let mut query = BTreeMap::new();
        for (name, is_in_path, required, schema) in document.parameters(operation) {
            let leave_out = match fill(seed) {
                Fill::Most => false,
                Fill::Least | Fill::Nulls => true,
                Fill::Any => generator.random.chance(50),
            };
            if !required && leave_out {
                continue;
            }
            let known = operation.parameters.iter().find(|p| p.name == name);
            let kind = known.unwrap_or_else(|| panic!("{operation} has no `{name}`")).kind;
            let values = match kind {
                _ if is_in_path => vec![generator.random.segment()],
                ParameterKind::CommaSeparated => vec![comma_list(&mut generator.random)],
                _ => generator.parameter(schema),
            };
            parameters.insert(name.to_owned(), values.join(","));
            if is_in_path {
                in_path.insert(name.to_owned(), values[0].clone());
            } else {
                query.insert(name.to_owned(), values);
            }
        }
        let path = operation.path.split('/').skip(1).map(|step| {
            match step.strip_prefix('{').and_then(|step| step.strip_suffix('}')) {
                Some(name) => in_path[name].clone(),
                None => step.to_owned(),
            }
        });
        let path = path.collect();
        let body = document.body(operation).and_then(|(schema, required)| {
            let wanted = required || !matches!(fill(seed), Fill::Least);
            wanted.then(|| Generator::request(document, fill(seed), seed).sample(schema).value)
        });
        Self { operation, parameters, path, query, body }
    }

    /// Fails if the request is not what the operation says.
    fn check(&self, request: &Request) {
        let Self { operation, .. } = self;
        assert_eq!(request.method, operation.method.as_str(), "{operation}");
        assert_eq!(request.segments(), self.path, "{operation}: {}", request.target);
        let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in request.query() {
            query.entry(name).or_default().push(value);
        }
        assert_eq!(query, self.query, "{operation}: {}", request.target);
        match (operation.body, &self.body) {
            (Body::None, _) => {
                assert!(request.body.is_empty(), "{operation}");
                assert_eq!(request.header("content-type"), None, "{operation}");
            }
            (_, body) => {
                let expected = body.clone().unwrap_or_else(|| json!({}));
                assert_eq!(without_nulls(request.json()), without_nulls(expected), "{operation}");
                assert_eq!(request.header("content-type"), Some("application/json"), "{operation}");
            }
        }
        assert_eq!(request.header("api-version"), None, "{operation}");
        let agent = concat!("kalshi-sdk/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.header("user-agent"), Some(agent), "{operation}");
        self.check_signature(request);
    }

    fn check_signature(&self, request: &Request) {
        let Self { operation, .. } = self;
        let bearer = request.header("authorization");
        if operation.access != Access::Bearer {
            assert_eq!(bearer, None, "{operation}");
        }
        match operation.access {
            Access::Bearer => {
                assert!(!request.is_signed(), "{operation}: {:?}", request.headers);
                let token = format!("Bearer {}:{}", TOKEN.0, TOKEN.1);
                assert_eq!(bearer, Some(token.as_str()), "{operation}");
            }
            Access::Public => assert!(!request.is_signed(), "{operation}: {:?}", request.headers),
            Access::Signed => {
                assert_eq!(request.header("kalshi-access-key"), Some(KEY_ID), "{operation}");
                let time = request.header("kalshi-access-timestamp").expect("a timestamp");
                let signature = request.header("kalshi-access-signature").expect("a signature");
                let time = time.parse().expect("a timestamp in milliseconds");
                keys()
                    .public_key()
                    .verify_request(&request.method, request.path(), time, signature)
                    .unwrap_or_else(|error| panic!("{operation} {}: {error}", request.target));
            }
            other => panic!("{operation}: {other:?} is not understood here"),
        }
    }
}

/// Generates texts joined by commas, none of them empty and none with a comma in it.
fn comma_list(random: &mut Random) -> String {
    let count = 1 + random.below(3);
    let items: Vec<_> = (0..count).map(|_| random.segment()).collect();
    items.join(",")
}

/// Removes nulls, which mean the same as nothing in a request: no field of one is both required and
/// nullable.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Prints JSON in one of the ways that a server may write it: compact, spread out, every text
/// escaped.
fn print(value: &Value, seed: u64) -> String {
    match seed % 3 {
        0 => value.to_string(),
        1 => serde_json::to_string_pretty(value).unwrap(),
        _ => escaped(value),
    }
}

fn escaped(value: &Value) -> String {
    let text = |text: &str| {
        let units: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", units.concat())
    };
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(escaped).collect::<Vec<_>>().join(" , "))
        }
        Value::Object(map) => {
            let fields =
                map.iter().map(|(key, value)| format!("{} :{}", text(key), escaped(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// Makes the reply to a batch one to its request: an item for each, with the same ids.
pub(crate) fn fit(operation: &Operation, body: Option<&Value>, reply: &mut Value) {
    if !operation.id.starts_with("batch_c") {
        return;
    }
    let sent = body.unwrap()["orders"].as_array().cloned().unwrap_or_default();
    let told = reply["orders"].as_array().cloned().unwrap_or_default();
    let spare = || match operation.id {
        "batch_cancel_orders_v2" => json!({"order_id": "spare", "reduced_by": "0.00"}),
        _ => json!({"order_id": "spare"}),
    };
    let items = sent.iter().enumerate().map(|(index, sent)| {
        let mut item = told.get(index).cloned().unwrap_or_else(spare);
        for id in ["order_id", "client_order_id"] {
            if let (Some(id), Some(place)) = (sent.get(id), item.get_mut(id)) {
                *place = id.clone();
            }
        }
        item
    });
    reply["orders"] = items.collect();
}

/// Returns a random success of an operation; `None` when it has no body.
fn success(operation: &'static Operation, fill: Fill, seed: u64) -> Option<Sample> {
    let document = Document::of(operation);
    let (_, schema) = document.success(operation);
    Some(Generator::response(document, fill, seed).sample(schema?))
}

#[test]
fn the_table_holds_what_the_document_says() {
    for (table, length) in [(OPERATIONS, 128), (perps::OPERATIONS, 53), (klear::OPERATIONS, 28)] {
        assert_eq!(table.len(), length);
        assert_eq!(Document::of(&table[0]).operations(), table.len());
        let ids: BTreeSet<_> = table.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), table.len(), "two operations of one name");
    }
    for operation in every_operation() {
        let document = Document::of(operation);
        assert_eq!(operation.success, document.success(operation).0, "{operation}");
        assert_eq!(
            operation.access != Access::Public,
            document.is_private(operation),
            "{operation}"
        );
        let body = match document.body(operation) {
            None => Body::None,
            Some((_, false)) => Body::Optional,
            Some((_, true)) => Body::Required,
        };
        assert_eq!(operation.body, body, "{operation}");
        let parameters: Vec<_> = document
            .parameters(operation)
            .into_iter()
            .map(|(name, in_path, required, _)| (name, in_path, required))
            .collect();
        let table: Vec<_> = operation
            .parameters
            .iter()
            .map(|p| (p.name, p.place == Place::Path, p.required))
            .collect();
        assert_eq!(table, parameters, "{operation}");
    }
}

#[tokio::test]
async fn every_operation_is_sent_as_documented_and_its_answer_decodes() {
    let table = Table::start().await;
    let mut sent = BTreeSet::new();
    for operation in every_operation() {
        for seed in 0..SEEDS {
            let case = Case::new(operation, seed);
            let mut answer = success(operation, fill(seed), seed);
            if let Some(sample) = &mut answer {
                fit(operation, case.body.as_ref(), &mut sample.value);
            }
            let text = match &answer {
                Some(sample) => print(&sample.value, seed),
                None => ["", "{}", " {\n}"][usize::try_from(seed % 3).unwrap()].to_owned(),
            };
            table.answer(Answer::new(operation.success, text.clone()));
            let decoded = table
                .clients
                .call(operation, &case.parameters, case.body.clone())
                .await
                .unwrap_or_else(|error| panic!("{operation}, seed {seed}: {error:?}\n{text}"));
            case.check(&table.server.last());
            sent.insert((operation.cost.lane, operation.id));
            let Some(sample) = answer else {
                assert_eq!(decoded, Value::Null, "{operation}");
                continue;
            };
            let expected = with_decimals(sample.value, &decoded);
            assert_eq!(prune(decoded), prune(expected), "{operation}, seed {seed}: {text}");
        }
    }
    assert_eq!(sent.len(), 128 + 53 + 28, "some operation was never sent");
    assert_eq!(table.server.requests().len(), sent.len() * usize::try_from(SEEDS).unwrap());
    // One connection of each client is enough for calls that wait for each other.
    assert_eq!(table.server.connections(), 2);
}

#[tokio::test]
async fn an_answer_without_a_required_field_fails_and_names_the_place() {
    let table = Table::start().await;
    let mut checked = 0;
    for operation in every_operation() {
        let case = Case::new(operation, 0);
        let Some(Sample { mut value, required }) = success(operation, Fill::Most, 0) else {
            continue;
        };
        fit(operation, case.body.as_ref(), &mut value);
        // One of each name: the two items of a list are alike.
        let mut names = BTreeSet::new();
        for place in required {
            if place.is_label {
                continue;
            }
            // A cursor may be missing, whatever the document says: the list ends there.
            if matches!(place.name.as_str(), "cursor" | "next_cursor") {
                continue;
            }
            if !names.insert((place.name.clone(), place.holder.matches('/').count())) {
                continue;
            }
            let path = place.json_path();
            let field = value.pointer(&place.holder).unwrap().get(&place.name).unwrap();
            let other = if field.is_object() { json!("x") } else { json!([]) };
            for replacement in [None, Some(Value::Null), Some(other)] {
                let mut broken = value.clone();
                let holder = broken.pointer_mut(&place.holder).unwrap().as_object_mut().unwrap();
                match &replacement {
                    None => drop(holder.remove(&place.name)),
                    Some(value) => drop(holder.insert(place.name.clone(), value.clone())),
                }
                table.answer(Answer::new(operation.success, broken.to_string()));
                let error = table
                    .clients
                    .call(operation, &case.parameters, case.body.clone())
                    .await
                    .expect_err(&format!("{operation}: without `{path}` ({replacement:?})"));
                assert_eq!(error.kind(), ErrorKind::Decode, "{operation}: {error:?}");
                assert_eq!(error.operation_id(), Some(operation.id));
                assert_eq!(error.status().unwrap().as_u16(), operation.success);
                let found = error.json_path().unwrap();
                assert_eq!(found, path, "{operation} with {replacement:?}: {error:?}");
                assert_eq!(error.excerpt().is_some(), !operation.secret, "{operation}");
            }
            checked += 1;
        }
    }
    assert!(checked > 500, "only {checked} fields were tried");
}

#[tokio::test]
async fn a3_every_response_without_one_of_its_lists_fails_and_with_null_for_it_does_not() {
    let table = Table::start().await;
    let mut checked = 0;
    for operation in every_operation() {
        let (_, Some(schema)) = Document::of(operation).success(operation) else { continue };
        let lists = Document::of(operation).required_lists(schema);
        let case = Case::new(operation, 0);
        let Some(Sample { value, .. }) = success(operation, Fill::Most, 0) else { continue };
        for list in lists {
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove(&list).unwrap();
            table.answer(Answer::new(operation.success, without.to_string()));
            let error = table
                .clients
                .call(operation, &case.parameters, case.body.clone())
                .await
                .expect_err(&format!("{operation} without `{list}`"));
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Decode, Effect::Unknown));
            assert_eq!(error.json_path(), Some(list.as_str()), "{operation}");
            checked += 1;
            if operation.id.starts_with("batch_c") {
                continue;
            }
            let mut with_null = value.clone();
            with_null[&list] = Value::Null;
            table.answer(Answer::new(operation.success, with_null.to_string()));
            table
                .clients
                .call(operation, &case.parameters, case.body.clone())
                .await
                .unwrap_or_else(|error| panic!("{operation}, `{list}` null: {error:?}"));
        }
    }
    assert!(checked > 50, "only {checked} lists were tried");
}

#[tokio::test]
async fn every_label_reads_as_nothing_where_it_is_absent_or_null() {
    let table = Table::start().await;
    let mut checked = BTreeSet::new();
    for operation in every_operation() {
        let case = Case::new(operation, 0);
        let Some(Sample { mut value, required }) = success(operation, Fill::Most, 0) else {
            continue;
        };
        fit(operation, case.body.as_ref(), &mut value);
        let labels: Vec<_> = required.into_iter().filter(|place| place.is_label).collect();
        for nothing in [None, Some(Value::Null)] {
            let mut bare = value.clone();
            for place in &labels {
                // An outer label takes the inner ones with it.
                let Some(Value::Object(holder)) = bare.pointer_mut(&place.holder) else { continue };
                match &nothing {
                    None => drop(holder.remove(&place.name)),
                    Some(value) => drop(holder.insert(place.name.clone(), value.clone())),
                }
                checked.insert(place.name.clone());
            }
            table.answer(Answer::new(operation.success, bare.to_string()));
            table
                .clients
                .call(operation, &case.parameters, case.body.clone())
                .await
                .unwrap_or_else(|error| panic!("{operation} with {nothing:?}: {error:?}"));
        }
    }
    for name in ["title", "result", "exchange_index", "is_block_trade", "price", "yes_bid"] {
        assert!(checked.contains(name), "{name} is not in {checked:?}");
    }
}

#[test]
fn a_list_operation_names_its_cursor_and_its_rows() {
    let lists: Vec<_> = every_operation().filter(|o| o.pagination.is_some()).collect();
    let takes_cursor = |o: &&Operation| o.parameters.iter().any(|p| p.name == "cursor");
    assert_eq!(lists.len(), every_operation().filter(takes_cursor).count());
    for operation in lists {
        let pagination = operation.pagination.unwrap();
        let Sample { value, .. } = success(operation, Fill::Most, 1).unwrap();
        assert!(value[pagination.cursor].is_string(), "{operation}");
        assert!(value[pagination.items].is_array(), "{operation}");
    }
}

#[test]
fn the_base_path_of_the_tests_is_that_of_the_exchange() {
    let production = kalshi_sdk::Environment::Production;
    assert!(production.rest_url().ends_with(BASE));
    assert_eq!(operation("get_markets").path, "/markets");
}

#[test]
fn the_page_of_each_client_lists_every_operation_by_task() {
    for (operations, source) in [
        (OPERATIONS, include_str!("../../src/client.rs")),
        (perps::OPERATIONS, include_str!("../../src/perps.rs")),
        (klear::OPERATIONS, include_str!("../../src/klear.rs")),
    ] {
        for operation in operations {
            let link = format!("[`{0}`](Self::{0})", operation.id);
            // Two methods of its own take its place.
            let expected = !operation.deprecated && operation.id != "get_margin_balance";
            assert_eq!(source.matches(&link).count(), usize::from(expected), "{link}");
        }
    }
}

#[test]
fn the_words_that_people_search_lead_somewhere() {
    let generated = include_str!(concat!(env!("OUT_DIR"), "/generated.rs"));
    let guide = include_str!("../../src/guide/mod.rs");
    for words in [
        "place order",
        "cancel all",
        "rate limit",
        "close position",
        "fee",
        "order book",
        "balance",
    ] {
        let found = generated.contains(&format!("doc (alias = \"{words}\")"))
            || guide.contains(&format!("doc(alias = \"{words}\")"));
        assert!(found, "{words}");
    }
    assert!(guide.contains("doc(alias = \"retry\")") && guide.contains("doc(alias = \"round\")"));
}

#[test]
fn every_body_has_a_schema_that_is_complete_in_itself() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "$ref" => found.push(text),
                        value => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    for operation in every_operation() {
        let schema = operation.body_schema();
        assert_eq!(schema.is_some(), operation.body != Body::None, "{operation}");
        let Some(schema) = schema else { continue };
        let schema: Value = serde_json::from_str(schema).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["type"], "object", "{operation}");
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(schema["properties"][name.as_str().unwrap()].is_object(), "{operation} {name}");
        }
        let mut found = Vec::new();
        references(&schema, &mut found);
        for reference in found {
            let target = reference.strip_prefix('#').and_then(|pointer| schema.pointer(pointer));
            assert!(target.is_some(), "{operation}: {reference}");
        }
    }
    let schema = OperationId::CreateOrderV2.operation().body_schema().unwrap();
    let schema: Value = serde_json::from_str(schema).unwrap();
    assert_eq!(schema["title"], "CreateOrderV2Request");
    assert!(schema["properties"]["time_in_force"]["enum"].as_array().unwrap().len() >= 3);
    assert!(schema["$defs"]["BookSide"]["enum"].as_array().unwrap().contains(&"bid".into()));
    assert!(schema["properties"]["price"].get("nullable").is_none());
}

#[test]
fn c9_costs_name_bucket_items_and_shard() {
    let cost = |id: OperationId| id.operation().cost;
    let create = cost(OperationId::CreateOrderV2);
    assert_eq!(
        (create.tokens, create.bucket, create.shard),
        (10, Bucket::Write, ShardScope::Named)
    );
    assert_eq!((create.lane, create.per_item), (Lane::EventContracts, None));
    let batch = cost(OperationId::BatchCancelOrdersV2);
    assert_eq!(
        (batch.total(40), batch.per_item, batch.shard),
        (80, Some("orders"), ShardScope::Unscoped)
    );
    let all = cost(OperationId::CancelAllOrders);
    assert_eq!((all.total(40), all.bucket, all.shard), (2, Bucket::Write, ShardScope::Unscoped));
    let quote = cost(OperationId::CreateQuote);
    assert_eq!((quote.tokens, quote.bucket, quote.shard), (2, Bucket::Write, ShardScope::Fixed(1)));
    assert_eq!(cost(OperationId::GetBalance).bucket, Bucket::Own);
    assert_eq!(cost(OperationId::GenerateApiKey).bucket, Bucket::Read, "not about orders");
    for operation in OPERATIONS {
        let reads = operation.method == http::Method::GET;
        let cost = operation.cost;
        assert!(!reads || cost.bucket != Bucket::Write, "{operation}");
        assert!(cost.shard == ShardScope::Unscoped || cost.bucket == Bucket::Write, "{operation}");
        if cost.shard == ShardScope::Named {
            let named = operation.parameters.iter().any(|p| p.name == "exchange_index");
            let schema = operation.body_schema().unwrap_or_default();
            assert!(named || schema.contains("exchange_index"), "{operation}");
        }
    }
}
