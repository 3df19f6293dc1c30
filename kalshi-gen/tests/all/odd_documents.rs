//! Legal and unusual documents generate, with the names that were meant.
//! `tools/check-spec.sh kalshi-gen/tests/documents/odd.yaml` shows that it compiles.

use kalshi_gen::{Generated, Unmatched, generate};
use serde_json::json;

use crate::support::{code, document, reaching_all, read, with_operation, with_schema};

fn odd() -> Generated {
    generate(&read("tests/documents/odd.yaml"), &[], Unmatched::Refuse).unwrap()
}

#[test]
fn operations_have_methods_whatever_their_ids() {
    let generated = odd();
    let ids: Vec<_> =
        generated.operations.iter().map(|o| (o.id.as_str(), o.builder.as_str())).collect();
    assert_eq!(
        ids,
        [
            ("put_any_thing", "PutAnyThing"),
            ("list_rfqs", "ListRfqs"),
            ("move_", "Move"),
            ("get_thing", "GetThing"),
            ("type_", "Type"),
        ]
    );
}

#[test]
fn what_a_request_carries_may_have_the_name_of_what_builders_use() {
    let code = odd().code.split_whitespace().collect::<Vec<_>>().join(" ");
    for name in ["Ok", "From", "Option", "Vec", "Some"] {
        assert!(code.contains(&format!("pub struct {name}Builder {{")), "{name}");
    }
    assert!(code.contains("pub struct ErrorBuilder < S0 = missing :: code > {"), "{code}");
    assert!(code.contains("TryFrom < ErrorBuilder < S0 > > for super :: Error { type Error = "));
}

#[test]
fn names_make_way_for_each_other() {
    let code = odd().code.split_whitespace().collect::<Vec<_>>().join(" ");
    // A parameter is called `client`, and a schema as an object inside another one would be.
    assert!(code.contains("_client : & 'a super :: Client"));
    for name in ["ThingOneInner", "ThingOneInnerField"] {
        assert_eq!(code.matches(&format!("pub struct {name} {{")).count(), 1, "{name}");
    }
}

#[test]
fn a_part_of_a_path_is_never_null() {
    let code = odd().code.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(code.contains("odd_name : Result < crate :: types :: OrderStatus"));
}

#[test]
fn a_body_with_a_required_field_must_be_given() {
    let generated = odd();
    let of = |id: &str| generated.operations.iter().find(|o| o.id == id).unwrap().body.clone();
    assert_eq!(of("move_"), Some(("MoveRequest".to_owned(), true)));
}

#[test]
fn access_follows_the_security_of_operation_or_document() {
    let private: Vec<bool> =
        odd().operations.iter().map(kalshi_gen::OperationModel::is_private).collect();
    // The document's; optional; none; the document's twice.
    assert_eq!(private, [true, false, false, true, true]);
}

#[test]
fn rows_without_a_name_get_one() {
    let generated = odd();
    let list = generated.operations[1].pagination.as_ref().unwrap();
    assert_eq!(list.item.as_deref(), Some("ListRfqsResponseRowsItem"));
    assert_eq!((list.cursor.as_str(), list.optional_cursor), ("next_cursor", true));
}

#[test]
fn a_path_parameter_is_required_even_if_the_document_forgot() {
    let forgot = crate::support::at_path(
        "/a/{id}",
        "parameters: [{name: id, in: path, schema: {type: string}}]",
    );
    let generated = crate::support::run(&forgot).unwrap();
    assert!(generated.operations[0].parameters[0].required);
}

#[test]
fn variables_of_send_make_way_for_parameters() {
    let parameter = |name| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let names = ["client", "operation", "request", "info"].map(parameter);
    let code = code(&with_operation(&json!({"parameters": names}).to_string()));
    assert!(code.contains("let _operation = & super :: OPERATIONS [0usize]"), "{code}");
    assert!(code.contains("Ok ((_client , _request))"), "{code}");
}

#[test]
fn unknown_fields_are_never_refused() {
    let closed =
        with_schema("{type: object, properties: {a: {type: string}}, additionalProperties: false}");
    assert!(!code(&closed).contains("deny_unknown_fields"));
}

#[test]
fn no_default_is_sent_and_no_bound_is_checked() {
    let bounded = with_schema(
        "{type: object, properties: {n: {type: integer, minimum: 1, default: 5}, s: {type: string, maxLength: 3}}}",
    );
    let code = code(&bounded);
    assert!(code.contains("pub n : :: std :: option :: Option < i64 >"), "{code}");
    assert!(
        code.contains("pub s : :: std :: option :: Option < :: std :: string :: String >"),
        "{code}"
    );
}

#[test]
fn a_field_that_refers_to_a_nullable_enum_may_be_null() {
    let mut document = with_schema(
        "{type: object, required: [s], properties: {s: {$ref: '#/components/schemas/S'}}}",
    );
    document["components"]["schemas"]["S"] = json!({"type": "string", "enum": ["a", null]});
    let code = code(&document);
    assert!(code.contains("pub s : :: std :: option :: Option < crate :: types :: S >"), "{code}");
}

#[test]
fn an_inline_enum_makes_way_for_a_schema_of_its_name() {
    let mut document = with_schema("{type: object, properties: {s: {type: string, enum: [a]}}}");
    document["components"]["schemas"]["AS"] =
        json!({"type": "object", "properties": {"q": {"type": "string"}}});
    let code = code(&reaching_all(document));
    assert!(code.contains("pub enum AsField"), "{code}");
    assert!(code.contains("pub struct As "), "{code}");
}

#[test]
fn every_deprecation_reaches_the_code() {
    let mut document = with_operation(
        "{deprecated: true, parameters: [{name: p, in: query, deprecated: true, schema: {type: string}}]}",
    );
    document["components"]["schemas"]["A"] = kalshi_gen::parse(
        "{type: object, deprecated: true, properties: {
            x: {type: string, deprecated: true},
            inner: {type: object, properties: {y: {type: string, deprecated: true}}}}}",
    )
    .unwrap();
    let generated = crate::support::run(&document).unwrap();
    assert_eq!(generated.coverage().deprecated, (5, 5));
    let code = code(&document);
    // Method, setter of the parameter, type, and each field; a response has no setters.
    assert_eq!(code.matches("# [deprecated]").count(), 3 + 2);
    document["paths"]["/a"]["get"]["requestBody"] = json!({"content": {"application/json":
        {"schema": {"$ref": "#/components/schemas/A"}}}});
    let generated = crate::support::run(&document).unwrap();
    assert_eq!(generated.coverage().deprecated, (5, 5));
    assert_eq!(self::code(&document).matches("# [deprecated]").count(), 3 + 2 * 2);
}

#[test]
fn the_generated_code_is_rust() {
    let generated = odd();
    syn::parse_file(&generated.code).unwrap();
    syn::parse_file(&generated.dispatch).unwrap();
    syn::parse_file(&crate::support::run(&document()).unwrap().code).unwrap();
}

#[test]
fn items_are_counted_by_kind_and_undocumented_ones_are_named() {
    let mut document = with_operation("{summary: Get A, description: Reads the thing.}");
    document["components"]["schemas"]["A"] = kalshi_gen::parse(
        "{type: object, description: A thing that is read., properties: {
            x: {type: string},
            market_ticker: {type: string, description: The ticker of the market.},
            y: {type: string, description: 'TBD'},
            s: {type: string, description: Its way., enum: [up, down], x-enum-descriptions: {up: Rises.}}}}",
    )
    .unwrap();
    let coverage = crate::support::run(&document).unwrap().coverage();
    assert_eq!(
        coverage.kinds,
        [
            ("operations", 1, 0),
            ("parameters", 0, 0),
            ("schemas", 2, 0),
            ("fields", 3, 1),
            ("enum values", 1, 1),
            // Only the document of the streams has these.
            ("channels", 0, 0),
            ("messages", 0, 0)
        ]
    );
    let at = "/components/schemas/A/properties";
    let mut findings = coverage.findings;
    findings.sort();
    assert_eq!(
        findings,
        [
            format!(
                "{at}/market_ticker: the description only repeats the name: \"The ticker of the market.\""
            ),
            format!("{at}/s/enum/down: is undocumented"),
            format!("{at}/x: is undocumented"),
            format!("{at}/y: `tbd` says nothing"),
        ]
    );
}
