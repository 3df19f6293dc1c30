//! Rewritings of progenitor's code, one test for each rewriting.

use serde_json::{Value, json};

use crate::support::{at_path, document, run, with_operation};

/// Returns the code of the small document, where the response `A` has these properties.
fn response(properties: &str) -> String {
    code(&with(properties, "{}"))
}

/// Returns the code of that document, where `A` is the body of the request too.
fn request(properties: &str) -> String {
    let body =
        "requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}";
    code(&with(properties, &format!("{{{body}}}")))
}

fn with(properties: &str, operation: &str) -> Value {
    let mut document = with_operation(operation);
    document["components"]["schemas"]["A"]["properties"] = kalshi_gen::parse(properties).unwrap();
    document
}

#[track_caller]
fn assert_has(code: &str, part: &str) {
    assert!(code.contains(part), "`{part}` is not in:\n{code}");
}

#[track_caller]
fn assert_lacks(code: &str, part: &str) {
    assert!(!code.contains(part), "`{part}` is in:\n{code}");
}

#[test]
fn structs_can_grow() {
    assert_has(&response("{x: {type: string}}"), "# [non_exhaustive] pub struct A {");
}

#[test]
fn null_and_nothing_decode_as_an_empty_list_in_responses_only() {
    let lists = "{l: {type: array, items: {type: string}}, m: {type: object, additionalProperties: {type: string}}}";
    for lenient in ["null_as_default", "map_without_nulls"] {
        let lenient = format!("deserialize_with = \"::kalshi_types::wire::{lenient}\"");
        assert_eq!(response(lists).matches(&lenient).count(), 1, "{lenient}");
        assert_lacks(&request(lists), &lenient);
        assert_lacks(&response("{x: {type: string}}"), &lenient);
    }
}

#[test]
fn a_list_that_a_response_requires_must_be_there_and_one_within_it_need_not() {
    let mut document = with("{l: {type: array, items: {$ref: '#/components/schemas/B'}}}", "{}");
    document["components"]["schemas"]["A"]["required"] = json!(["l"]);
    document["components"]["schemas"]["B"] = json!({
        "type": "object",
        "required": ["m"],
        "properties": {"m": {"type": "array", "items": {"type": "string"}}},
    });
    let code = code(&document);
    let reader = "# [serde (deserialize_with = \"::kalshi_types::wire::null_as_default\")]";
    assert_has(&code, &format!("{reader} pub l : "));
    assert_lacks(&code, &format!("# [serde (default)] {reader} pub l : "));
    assert_has(&code, &format!("# [serde (default)] {reader} pub m : "));
}

#[test]
fn null_inside_lists_and_maps_is_empty() {
    let list = "{type: array, items: {type: string}}";
    let code = response(&format!(
        "{{l: {{type: array, items: {list}}}, m: {{type: object, additionalProperties: {list}}}}}"
    ));
    for reader in ["lists_in_list", "lists_in_map"] {
        assert_has(&code, &format!("deserialize_with = \"::kalshi_types::wire::{reader}\""));
    }
}

#[test]
fn a_label_reads_as_nothing_and_an_optional_price_may_be_blank() {
    let mut document = with(
        "{title: {type: string}, ticker: {type: string}, p: {$ref: '#/components/schemas/FixedPointDollars'}}",
        "{}",
    );
    document["components"]["schemas"]["FixedPointDollars"] = json!({"type": "string"});
    document["components"]["schemas"]["A"]["required"] = json!(["title", "ticker"]);
    let code = code(&document);
    assert_has(
        &code,
        "# [serde (default = \"::kalshi_types::wire::unset\" , deserialize_with = \"::kalshi_types::wire::null_as_unset\")] pub title : ",
    );
    assert_eq!(code.matches("null_as_unset").count(), 1, "a ticker is no label");
    assert_has(&code, "deserialize_with = \"::kalshi_types::wire::blank_as_none\")] pub p : ");
}

#[test]
fn a_batch_must_be_answered_item_by_item() {
    let items = "{type: array, items: {type: object, properties: {order_id: {type: string}}}}";
    let body = format!(
        "requestBody: {{required: true, content: {{application/json: {{schema: \
         {{type: object, required: [orders], properties: {{orders: {items}}}}}}}}}}}"
    );
    let mut document = with(&format!("{{orders: {items}}}"), &format!("{{{body}}}"));
    document["components"]["schemas"]["A"]["required"] = json!(["orders"]);
    assert_has(
        &code(&document),
        "client . call_batch (operation , request , crate :: transport :: Batch { items : \"orders\" , ids : & [\"order_id\"] }) . await",
    );
}

#[test]
fn times_are_read_the_fast_way() {
    let mut document =
        with("{a: {type: string, format: date-time}, b: {type: string, format: date-time}}", "{}");
    document["components"]["schemas"]["A"]["required"] = json!(["a"]);
    let code = code(&document);
    assert_has(&code, "deserialize_with = \"::kalshi_types::wire::date_time\"");
    assert_has(
        &code,
        "deserialize_with = \"::kalshi_types::wire::date_time_optional\")] # [serde (default)]",
    );
}

#[test]
fn setters_take_what_converts_and_keep_the_reason_of_a_failure() {
    let mut document = with(
        "{x: {type: integer, description: How many.}}",
        "{requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}}",
    );
    document["components"]["schemas"]["A"]["required"] = json!(["x"]);
    let code = self::code(&document);
    assert_has(&code, "How many.\"] pub fn x < V > (mut self , value : V) -> ABuilder <");
    assert_has(&code, "self . fields . x = crate :: builder_value (\"x\" , value) ;");
    let parameter = "parameters: [{name: n, in: query, required: true, schema: {type: integer}}]";
    let code = self::code(parameter);
    assert_has(
        &code,
        "pub fn n < V > (mut self , value : V) -> Self where V : :: std :: convert :: TryInto < i64 > , V :: Error : :: std :: fmt :: Display ,",
    );
    assert_has(&code, "self . n = crate :: builder_value (\"n\" , value) ; self");
}

#[test]
fn only_what_a_request_carries_has_a_builder() {
    let mut document = with_operation(
        "{requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/B'}}}}}",
    );
    let schemas = &mut document["components"]["schemas"];
    schemas["B"] = kalshi_gen::parse(
        "{type: object, properties: {c: {$ref: '#/components/schemas/C'}, x: {type: string}}}",
    )
    .unwrap();
    schemas["C"] = kalshi_gen::parse("{type: object, properties: {x: {type: string}}}").unwrap();
    let code = code(&document);
    for sent in ["B", "C"] {
        assert_has(&code, &format!("pub struct {sent}Builder {{"));
        assert_has(&code, &format!("impl {sent} {{"));
        assert_has(&code, &format!("pub fn builder () -> builder :: {sent}Builder"));
    }
    // The response has neither, nor an `impl` without contents.
    for lacks in ["ABuilder", "impl A {"] {
        assert_lacks(&code, lacks);
    }
    // All are written, too: what was read can be kept.
    let (before, _) = code.split_once("pub struct A {").unwrap();
    let (_, derives) = before.rsplit_once("derive (").unwrap();
    assert_has(derives, ":: serde :: Deserialize , :: serde :: Serialize , Clone , Debug");
    let reads_only = response("{x: {type: string}}");
    assert_eq!(reads_only.matches("pub mod builder").count(), 1, "that of the operations");
}

#[test]
fn optional_parameters_and_fields_of_requests_take_an_option_too() {
    let parameter = "parameters: [{name: n, in: query, schema: {type: integer}}]";
    let setter = "where V : crate :: request :: OptionalValue < i64 , K > , { self . n = value . optional_value (\"n\")";
    assert_has(&code(parameter), setter);
    let field = "where V : crate :: request :: OptionalValue < i64 , K > , { self . fields . n = value . optional_value (\"n\")";
    assert_has(&request("{n: {type: integer}}"), field);
}

#[test]
fn c7_a_builder_is_not_named_like_its_type() {
    let code = request("{x: {type: string}}");
    assert_has(&code, "pub struct ABuilder");
    assert_has(&code, "pub fn builder () -> builder :: ABuilder");
    assert_eq!(code.matches("pub struct A {").count(), 1);
}

#[test]
fn a_request_with_a_required_field_that_is_not_set_does_not_compile() {
    let mut document = with(
        "{a: {type: string}, b: {type: string, nullable: true}, c: {type: string}}",
        "{requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}}",
    );
    document["components"]["schemas"]["A"]["required"] = json!(["a", "b"]);
    let code = code(&document);
    assert_has(&code, "pub struct ABuilder < S0 = missing :: a , S1 = missing :: b >");
    assert_has(&code, "where S0 : crate :: request :: IsSet , S1 : crate :: request :: IsSet ,");
    assert_has(
        &code,
        "pub fn a < V > (mut self , value : V) -> ABuilder < crate :: request :: Set , S1 >",
    );
    assert_has(
        &code,
        "pub fn b < V , K > (mut self , value : V) -> ABuilder < S0 , crate :: request :: Set >",
    );
    assert_has(&code, "pub fn c < V , K > (mut self , value : V) -> Self");
    assert_has(&code, "pub mod missing");
}

#[test]
fn c8_what_is_missing_has_one_wording() {
    let required = "{requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}, parameters: [{name: n, in: query, required: true, schema: {type: integer}}]}";
    let code = code(&with("{x: {type: string}}", required));
    assert_has(&code, "n : Err (crate :: request :: missing (\"n\"))");
    assert_has(&code, "body : Err (crate :: request :: missing (\"body\"))");
    assert_has(
        &code,
        "crate :: request :: check (operation , & [self . n . as_ref () . err () , self . body . as_ref () . err ()]) ?",
    );
    for old in ["was not initialized", "no value supplied", "conversion to"] {
        assert_lacks(&code, old);
    }
    let mut document = with("{x: {type: string}}", required);
    document["components"]["schemas"]["A"]["required"] = json!(["x"]);
    assert_has(&self::code(&document), "x : Err (crate :: request :: missing (\"x\"))");
}

fn code(of: impl Into<Document>) -> String {
    crate::support::code(&of.into().0)
}

/// A document, or the YAML of its operation.
struct Document(Value);

impl From<&Value> for Document {
    fn from(document: &Value) -> Self {
        Self(document.clone())
    }
}

impl From<&str> for Document {
    fn from(operation: &str) -> Self {
        Self(with_operation(&format!("{{{operation}}}")))
    }
}

#[test]
fn no_version_header_is_sent() {
    let code = code(&document());
    assert_lacks(&code, "api-version");
    assert_lacks(&code, "header_map");
}

#[test]
fn path_parameters_go_through_our_guard() {
    let id = "parameters: [{name: id, in: path, schema: {type: string}}]";
    let code = code(&at_path("/a/{id}", id));
    assert_has(
        &code,
        "crate :: transport :: path_segment (operation , \"id\" , & id . to_string ()) ?",
    );
    assert_lacks(&code, "encode_path");
}

#[test]
fn what_cannot_be_sent_names_its_operation() {
    let code = code("parameters: [{name: n, in: query, schema: {type: integer}}]");
    assert_has(
        &code,
        "map_err (| message | crate :: Error :: invalid_request (operation , message))",
    );
    // The draft has the operation for what cannot be built.
    assert_has(
        &code,
        "RequestDraft :: new (client . http () , client . base () , operation , & url) . accept_json () \
         . query_optional (\"n\" , n . as_ref ()) . build () ?",
    );
    assert_lacks(&code, "Error :: InvalidRequest");
}

#[test]
fn every_request_goes_through_our_client() {
    let mut required = document();
    required["components"]["schemas"]["A"]["required"] = json!(["x"]);
    assert_has(&code(&required), "client . call (operation , request) . await");
    // What any object decodes as is a success only without the fields of an error.
    let code = code(&document());
    assert_has(
        &code,
        "client . call_open (operation , request , & [\"error\" , \"code\" , \"message\" , \"msg\"]) . await",
    );
    assert_has(
        &code,
        "let url = \"/a\" ; # [allow (unused_mut)] let mut request = crate :: request_draft :: \
         RequestDraft :: new (client . http () , client . base () , operation , & url)",
    );
    assert_lacks(&code, "baseurl");
    // Neither progenitor's client nor a way to make one.
    assert_lacks(&code, "pub struct Client");
    assert_lacks(&code, "new_with_client");
    let mut nothing = document();
    nothing["paths"]["/a"]["get"]["responses"] = json!({"204": {"description": "Done"}});
    assert_has(&self::code(&nothing), "client . call_empty (operation , request) . await");
}

#[test]
fn an_enum_is_open() {
    let code = response("{x: {type: string, enum: [a], description: Which.}}");
    assert_has(&code, ":: kalshi_types :: open_enum ! { # [doc = \"Which.\"] pub enum Ax {");
    assert_has(&code, "pub x : :: std :: option :: Option < crate :: types :: Ax >");
}

#[test]
fn exact_numbers_and_times_are_types() {
    let mut document = with(
        "{p: {$ref: '#/components/schemas/FixedPointDollars'}, t: {type: integer, format: kalshi-unix-seconds}}",
        "{}",
    );
    document["components"]["schemas"]["FixedPointDollars"] = json!({"type": "string"});
    let code = code(&document);
    assert_has(&code, "pub p : :: std :: option :: Option < :: kalshi_types :: Dollars >");
    assert_has(&code, "pub t : :: std :: option :: Option < :: kalshi_types :: UnixSeconds >");
}

#[test]
fn a_secret_does_not_print() {
    let code = response("{key: {type: string, format: kalshi-secret}}");
    assert_has(&code, "pub key : :: std :: option :: Option < crate :: SecretText >");
}

#[test]
fn a_list_has_streams_of_rows_and_of_pages() {
    let rows = with(
        "{cursor: {type: string}, rows: {type: array, items: {type: string}}}",
        "{parameters: [{name: cursor, in: query, schema: {type: string}}]}",
    );
    let code = code(&rows);
    assert_has(&code, "impl crate :: pagination :: List for builder :: GetA < '_ > {");
    assert_has(
        &code,
        "pub fn stream (self) -> crate :: pagination :: Rows < 'a , :: std :: string :: String >",
    );
    assert_has(&code, "pub fn pages (self) -> crate :: pagination :: Pages < 'a , types :: A >");
}

#[test]
fn words_reach_methods_setters_fields_and_links() {
    let mut document = with(
        "{x: {type: string, description: 'See `GetA` and `A`.'}}",
        "{summary: Get it, description: Reads `A`., parameters: [{name: n, in: query, description: How far., schema: {type: string}}]}",
    );
    document["components"]["schemas"]["A"]["description"] = json!("What is read.");
    let code = code(&document);
    assert_has(
        &code,
        "Get it.\\n\\n`GET /a` · public · no tokens: it is never signed\\n\\nReads [`A`](crate::types::A).",
    );
    assert_has(&code, "# [doc = \"How far.\"] pub fn n <");
    let linked = "See [`get_a`](crate::Client::get_a) and [`A`](crate::types::A).";
    assert_eq!(code.matches(linked).count(), 1, "a field of a response");
    assert_has(&code, "What is read.");
    let sent = request("{x: {type: string, description: 'See `GetA` and `A`.'}}");
    assert_eq!(sent.matches(linked).count(), 2, "a field of a request and its setter");
}

#[test]
fn operations_that_change_something_say_what_a_dropped_future_means() {
    let of = |method: &str, more: &str| {
        let mut document = with_operation(more);
        let operation = document["paths"]["/a"]["get"].take();
        document["paths"]["/a"] = json!({method: operation});
        self::code(&document)
    };
    assert_lacks(&of("get", "{}"), "# Cancellation");
    assert_has(&of("delete", "{}"), "read the state back before retrying");
    let keyed = of("post", "{x-kalshi-idempotency-key: client_order_id}");
    assert_has(&keyed, "look the request up by its `client_order_id` before retrying");
}

#[test]
fn the_table_has_a_row_for_every_operation() {
    let mut document = document();
    document["paths"]["/a"]["get"]["security"] = json!([{"key": []}]);
    document["components"]["securitySchemes"] =
        json!({"key": {"type": "apiKey", "in": "header", "name": "KEY"}});
    let code = code(&document);
    assert_has(&code, "pub static OPERATIONS : [crate :: Operation ; 1usize]");
    assert_has(&code, "access : crate :: operation :: Access :: Signed");
    assert_eq!(run(&document).unwrap().operations.len(), 1);
}

#[test]
fn c9_a_cost_names_its_bucket_and_how_it_is_counted() {
    let cost = |tag: &str, method: &str, more: &str| {
        let body = "requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}";
        let yaml = format!("{{tags: [{tag}], security: [{{key: []}}], {body}{more}}}");
        let mut document = with("{rows: {type: array, items: {type: string}}}", &yaml);
        document["components"]["securitySchemes"] =
            json!({"key": {"type": "apiKey", "in": "header", "name": "KEY"}});
        let operation = document["paths"]["/a"]["get"].take();
        document["paths"]["/a"] = json!({method: operation});
        self::code(&document)
    };
    for (tag, method, more, data, text) in [
        (
            "orders",
            "post",
            "",
            "bucket : crate :: operation :: Bucket :: Write , tokens : 10u32",
            "10 tokens from the Write bucket",
        ),
        ("orders", "get", "", "Bucket :: Read , tokens : 10u32", "10 tokens from the Read bucket"),
        ("portfolio", "post", "", "Bucket :: Read", "from the Read bucket"),
        (
            "orders",
            "delete",
            ", x-kalshi-cost: {tokens: 2, per: item}",
            "tokens : 2u32 , per_item : Some (\"rows\")",
            "2 tokens per item from the Write bucket",
        ),
        (
            "orders",
            "post",
            ", x-kalshi-cost: {shard: named}",
            "shard : crate :: operation :: ShardScope :: Named",
            "of the shard that `exchange_index` names",
        ),
        (
            "orders",
            "post",
            ", x-kalshi-cost: {shard: 1}",
            "ShardScope :: Fixed (1u32)",
            "the Write bucket of shard 1",
        ),
        (
            "portfolio",
            "get",
            ", x-kalshi-cost: {bucket: own}",
            "Bucket :: Own",
            "a bucket of its own",
        ),
        (
            "portfolio",
            "get",
            ", x-kalshi-cost: {tokens: 5, when: {parameter: deep, value: 'true', tokens: 50}}",
            "ParameterCost { name : \"deep\" , value : \"true\" , tokens : 50u32 }",
            "5 tokens (50 with `deep=true`) from",
        ),
    ] {
        let code = cost(tag, method, more);
        assert_has(&code, data);
        assert_has(&code, text);
    }
}

#[test]
fn aliases_are_words_that_the_search_finds() {
    let code = code("x-kalshi-aliases: [rate limit, '429']");
    assert_has(&code, "# [doc (alias = \"rate limit\")] # [doc (alias = \"429\")]");
}

#[test]
fn a_server_has_a_method_for_every_operation_and_none_has_a_default() {
    let handlers = run(&document()).unwrap().handlers;
    let handlers = handlers.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_has(&handlers, "fn get_a (self , call : Call) -> Self :: Response ;");
    assert_has(&handlers, "crate :: OperationId :: GetA => handler . get_a (call)");
}

#[test]
fn the_dispatcher_knows_every_operation_and_parameter() {
    let document = with_operation(
        "parameters: [{name: maxClose, in: query, schema: {type: string}}, {name: l, in: query, schema: {type: array, items: {type: integer}}}]",
    );
    let dispatch = run(&document).unwrap().dispatch;
    let dispatch = dispatch.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_has(&dispatch, "\"get_a\" => {");
    assert_has(
        &dispatch,
        "if let Some (text) = parameters . get (\"maxClose\") { request = request . max_close (",
    );
    assert_has(&dispatch, "text . split (',') . map (| part | read :: < i64 > (\"l\" , part))");
}
