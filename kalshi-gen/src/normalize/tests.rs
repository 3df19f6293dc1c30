//! One test for each pass; each fails when its pass is taken out of `passes`.

use serde_json::{Value, json};

use super::*;
use crate::document::parse;

/// Returns a document with these paths and schemas, after all passes.
fn passed(paths: &str, schemas: &str) -> Value {
    run(paths, schemas).document
}

fn run(paths: &str, schemas: &str) -> Normalized {
    let mut document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Test", "version": "1"},
        "paths": {},
        "components": {"schemas": {}},
    });
    document["paths"] = parse(paths).unwrap();
    document["components"]["schemas"] = parse(schemas).unwrap();
    // Schemas that nothing reaches stay: the passes are what is under test.
    normalize_after(document, Vec::new(), Report::new(), Moves::default()).unwrap()
}

/// Returns a document with `GetA` at `/a`, with these keys, and `B` as its response.
fn operation(keys: &str) -> String {
    format!(
        "{{/a: {{get: {{operationId: GetA, {keys} responses: {{'200': {{description: OK, \
         content: {{application/json: {{schema: {{$ref: '#/components/schemas/B'}}}}}}}}}}}}}}}}"
    )
}

/// Returns the schema `B` with these properties, after all passes.
fn properties(yaml: &str) -> Value {
    passed(&operation(""), &format!("{{B: {{type: object, properties: {yaml}}}}}"))
        ["components"]["schemas"]["B"]["properties"]
        .take()
}

/// Returns the same, where `B` is a request too.
fn request_properties(yaml: &str) -> Value {
    let body =
        "requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/B'}}}},";
    passed(&operation(body), &format!("{{B: {{type: object, properties: {yaml}}}}}"))["components"]
        ["schemas"]["B"]["properties"]
        .take()
}

#[test]
fn noise_goes_and_fields_of_the_same_names_stay() {
    let before = "{example: {type: string, example: x, x-other: 1, title: T, xml: {}},
                   title: {type: string, externalDocs: {url: u}}, x-kept: {type: string}}";
    let text = json!({"type": "string"});
    assert_eq!(properties(before), json!({"example": text, "title": text, "x-kept": text}));
    let passed = passed(&operation("x-other: 1, x-kalshi-secret: true, callbacks: {},"), "{B: {}}");
    let operation = passed["paths"]["/a"]["get"].as_object().unwrap();
    let keys: Vec<&str> = operation.keys().map(String::as_str).collect();
    assert_eq!(keys, ["operationId", "responses", "x-kalshi-access", "x-kalshi-secret"]);
    assert_eq!(passed["info"]["title"], "Test");
}

#[test]
fn parameters_of_the_path_and_shared_ones_stand_in_the_operation() {
    let mut document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Test", "version": "1"},
        "components": {"parameters": {"Q": {"name": "q", "in": "query", "schema": {"type": "string"}}}},
    });
    document["paths"] = parse(
        "/a/{id}:
           parameters:
           - {name: id, in: path, schema: {type: string}}
           - {name: n, in: query, schema: {type: string}}
           get:
             operationId: GetA
             parameters:
             - $ref: '#/components/parameters/Q'
             - {name: n, in: query, schema: {type: integer}}
             responses: {'204': {description: OK}}",
    )
    .unwrap();
    let passed = normalize(document).unwrap().document;
    assert_eq!(passed["paths"]["/a/{id}"].get("parameters"), None);
    assert_eq!(passed["components"].get("parameters"), None);
    assert_eq!(
        passed["paths"]["/a/{id}"]["get"]["parameters"],
        json!([
            {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
            {"name": "q", "in": "query", "schema": {"type": "string"}},
            // The operation's own, not the path's.
            {"name": "n", "in": "query", "schema": {"type": "integer"}},
        ])
    );
}

#[test]
fn only_the_success_is_left_of_the_responses() {
    let mut document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Test", "version": "1"},
        "components": {"responses": {"Done": {"description": "Done"}}},
    });
    document["paths"] = parse(
        "/a: {get: {operationId: GetA, responses: {
            '200': {$ref: '#/components/responses/Done'},
            '404': {description: No, content: {text/html: {}}}, 5XX: {description: No}}}}",
    )
    .unwrap();
    let passed = normalize(document).unwrap().document;
    let responses = &passed["paths"]["/a"]["get"]["responses"];
    assert_eq!(*responses, json!({"200": {"description": "Done"}}));
    assert_eq!(passed["components"].get("responses"), None);
}

#[test]
fn inline_bodies_are_named_after_their_operation() {
    let paths = "/a: {post: {operationId: MakeRFQ,
        requestBody: {content: {application/json: {schema: {type: object}}}},
        responses: {'201': {description: OK, content: {application/json: {schema: {type: string}}}}}}}";
    let passed = passed(paths, "{}");
    let operation = &passed["paths"]["/a"]["post"];
    let schema = "/content/application~1json/schema";
    let request = operation["requestBody"].pointer(schema).unwrap();
    let response = operation["responses"]["201"].pointer(schema).unwrap();
    assert_eq!(*request, json!({"$ref": "#/components/schemas/MakeRfqRequest"}));
    assert_eq!(*response, json!({"$ref": "#/components/schemas/MakeRfqResponse"}));
    assert_eq!(
        passed["components"]["schemas"],
        json!({"MakeRfqRequest": {"type": "object"}, "MakeRfqResponse": {"type": "string"}})
    );
}

#[test]
fn acronyms_and_other_spellings_become_type_names_with_all_references() {
    let normalized = run(
        "/a: {get: {operationId: getRFQs, responses: {'204': {description: OK}}}}",
        "{RFQ: {type: array, items: {$ref: '#/components/schemas/order_status'}},
          order_status: {type: array, items: {$ref: '#/components/schemas/RFQ'}}}",
    );
    let schemas = &normalized.document["components"]["schemas"];
    assert_eq!(schemas["Rfq"]["items"], json!({"$ref": "#/components/schemas/OrderStatus"}));
    assert_eq!(schemas["OrderStatus"]["items"], json!({"$ref": "#/components/schemas/Rfq"}));
    assert_eq!(normalized.document["paths"]["/a"]["get"]["operationId"], "GetRfqs");
    let renamed: Vec<_> =
        normalized.renamed.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(renamed, [("GetRfqs", "getRFQs"), ("OrderStatus", "order_status"), ("Rfq", "RFQ")]);
}

#[test]
fn objects_inside_a_schema_become_schemas() {
    let schemas = "{B: {type: object, properties: {
        rows: {type: array, items: {type: object, description: A row., properties: {x: {type: string}}}},
        one: {type: object, nullable: true, deprecated: true, properties: {y: {type: string}}},
        map: {type: object, additionalProperties: {type: object, properties: {z: {type: string}}}}}}}";
    let passed = passed(&operation(""), schemas);
    let schemas = &passed["components"]["schemas"];
    let names: Vec<&String> = schemas.as_object().unwrap().keys().collect();
    assert_eq!(names, ["B", "BMapValue", "BOne", "BRowsItem"]);
    let text = json!({"type": "string"});
    assert_eq!(schemas["BOne"], json!({"type": "object", "properties": {"y": text}}));
    assert_eq!(
        schemas["BRowsItem"],
        json!({"type": "object", "description": "A row.", "properties": {"x": text}})
    );
    // What is said of the field stays with the field.
    assert_eq!(
        schemas["B"]["properties"]["one"],
        json!({"allOf": [{"$ref": "#/components/schemas/BOne"}], "nullable": true, "deprecated": true})
    );
}

#[test]
fn bounds_defaults_and_narrow_integers_go() {
    let before = "{
        a: {type: integer, format: uint64, minimum: 0, maximum: 9, default: 1, exclusiveMinimum: true},
        b: {type: string, minLength: 1, maxLength: 2, pattern: '[', default: ''},
        c: {type: array, items: {type: integer, format: int32, multipleOf: 2}, minItems: 1, uniqueItems: true},
        d: {type: object, additionalProperties: false, minProperties: 1},
        default: {type: string}, pattern: {type: integer}}";
    assert_eq!(
        properties(before),
        json!({
            "a": {"type": "integer", "format": "int64"},
            "b": {"type": "string"},
            "c": {"type": "array", "items": {"type": "integer", "format": "int32"}},
            "d": {"type": "object"},
            "default": {"type": "string"},
            "pattern": {"type": "integer"},
        })
    );
}

#[test]
fn formats_follow_the_allow_lists() {
    let before = "{created_ts: {type: integer, format: int64}, ts_ms: {type: integer},
        settlement_ts: {type: string, format: date-time}, id: {type: string, format: uuid},
        seq: {type: integer}}";
    assert_eq!(
        properties(before),
        json!({
            "created_ts": {"type": "integer", "format": UNIX_SECONDS},
            "ts_ms": {"type": "integer", "format": UNIX_MILLIS},
            "settlement_ts": {"type": "string", "format": "date-time"},
            "id": {"type": "string"},
            "seq": {"type": "integer"},
        })
    );
}

#[test]
fn formats_of_parameters_follow_the_allow_lists_of_their_operation() {
    let formats = |id: &str, name: &str, ty: &str| {
        let paths = format!(
            "/a: {{get: {{operationId: {id}, responses: {{'204': {{description: OK}}}},
             parameters: [{{name: {name}, in: query, schema: {{type: {ty}}}}}]}}}}"
        );
        let passed = passed(&paths, "{}");
        passed["paths"]["/a"]["get"]["parameters"][0]["schema"]["format"].clone()
    };
    assert_eq!(formats("GetMarkets", "tickers", "string"), COMMA_LIST);
    assert_eq!(formats("GetTrades", "tickers", "string"), Value::Null);
    assert_eq!(formats("GetMarkets", "tickers", "boolean"), Value::Null);
    assert_eq!(formats("GetWeatherIndex", "from", "integer"), UNIX_MILLIS);
    assert_eq!(formats("GetTrades", "from", "integer"), Value::Null);
    assert_eq!(formats("GetTrades", "min_ts", "integer"), UNIX_SECONDS);
}

#[test]
fn enums_of_text_are_taken_out_and_numbers_stay() {
    let normalized = run(
        &operation("parameters: [{name: s, in: query, description: Which way., schema: {type: string, enum: [up]}}],"),
        "{Side: {type: string, description: A side., enum: [yes, 'no', ''], x-enum-descriptions: {yes: It is.}},
          B: {type: object, properties: {
            side: {$ref: '#/components/schemas/Side'},
            way: {type: string, nullable: true, enum: [up, null, down]},
            ways: {type: array, items: {type: string, enum: [a]}},
            minutes: {type: integer, enum: [1, 60]}}}}",
    );
    let enums: Vec<(&str, Vec<&str>)> = normalized
        .enums
        .iter()
        .map(|open| (open.name.as_str(), open.values.iter().map(|v| v.variant.as_str()).collect()))
        .collect();
    assert_eq!(
        enums,
        [
            ("BWay", vec!["Up", "Down"]),
            ("BWaysItem", vec!["A"]),
            ("GetAs", vec!["Up"]),
            ("Side", vec!["Yes", "No", "Unset"]),
        ]
    );
    assert_eq!(normalized.enums[2].description.as_deref(), Some("Which way."));
    assert_eq!(normalized.enums[3].description.as_deref(), Some("A side."));
    assert_eq!(normalized.enums[3].values[0].description.as_deref(), Some("It is."));
    let properties = &normalized.document["components"]["schemas"]["B"]["properties"];
    assert_eq!(properties["side"], json!({"$ref": "#/components/schemas/Side"}));
    assert_eq!(
        properties["way"],
        json!({"allOf": [{"$ref": "#/components/schemas/BWay"}], "nullable": true})
    );
    assert_eq!(properties["ways"]["items"], json!({"$ref": "#/components/schemas/BWaysItem"}));
    assert_eq!(properties["minutes"], json!({"type": "integer"}));
}

#[test]
fn enums_of_one_name_are_one_if_their_values_are() {
    // A parameter `side` of `GetA` and a field `side` of the schema `GetA` make the same name.
    let names = |values: &str, more: &str| -> Vec<String> {
        let parameter =
            "parameters: [{name: side, in: query, schema: {type: string, enum: [x, y]}}],";
        let schemas = format!(
            "{{B: {{}}, GetA: {{type: object, properties: {{side: {{type: string, enum: {values}}}}}}} {more}}}"
        );
        let normalized = run(&operation(parameter), &schemas);
        normalized.enums.iter().map(|open| open.name.clone()).collect()
    };
    assert_eq!(names("[x, y]", ""), ["GetASide"]);
    assert_eq!(names("[z]", ""), ["GetASide", "GetASideField"]);
    // A schema of its own keeps its name, whatever it is.
    assert_eq!(names("[x, y]", ", GetASide: {type: string, enum: [x, y]}"), ["GetASide"]);
    assert_eq!(names("[x, y]", ", GetASide: {type: object}"), ["GetASideField"]);
}

#[test]
fn lists_of_responses_lose_their_null_and_those_of_requests_keep_it() {
    let list = "{l: {type: array, nullable: true, items: {type: string, nullable: true}},
                 m: {type: object, nullable: true, additionalProperties: {type: string}},
                 t: {type: string, nullable: true}}";
    let after = properties(list);
    assert_eq!(after["l"], json!({"type": "array", "items": {"type": "string", "nullable": true}}));
    assert_eq!(after["m"].get("nullable"), None);
    assert_eq!(after["t"]["nullable"], true);
    let after = request_properties(list);
    assert_eq!((&after["l"]["nullable"], &after["m"]["nullable"]), (&json!(true), &json!(true)));
}

#[test]
fn an_optional_list_of_a_request_tells_empty_from_absent() {
    let list = "{l: {type: array, items: {type: string}}}";
    assert_eq!(request_properties(list)["l"]["nullable"], true);
    assert_eq!(properties(list)["l"].get("nullable"), None);
}

#[test]
fn the_cursor_of_a_page_may_be_missing() {
    let schemas = "{B: {}, GetBResponse: {type: object, required: [cursor, rows], properties: {
        cursor: {type: string}, rows: {type: array, items: {type: string}}}}}";
    let passed = passed(&operation(""), schemas);
    assert_eq!(passed["components"]["schemas"]["GetBResponse"]["required"], json!(["rows"]));
}

#[test]
fn what_stands_beside_a_reference_is_kept() {
    let after = properties(
        "{b: {$ref: '#/components/schemas/B', nullable: true, description: D},
          c: {$ref: '#/components/schemas/B'}, $ref: {type: string}}",
    );
    assert_eq!(
        after["b"],
        json!({"allOf": [{"$ref": "#/components/schemas/B"}], "nullable": true, "description": "D"})
    );
    assert_eq!(after["c"], json!({"$ref": "#/components/schemas/B"}));
    assert_eq!(after["$ref"], json!({"type": "string"}));
}

#[test]
fn the_report_names_every_pass_in_order_with_how_often_it_fired() {
    let report =
        run(&operation(""), "{B: {type: object, properties: {x: {type: string, example: y}}}}")
            .report;
    assert_eq!(report.len(), 21);
    assert_eq!(report[0], ("unreached schemas dropped", 0));
    assert_eq!(report[1], ("examples and extensions dropped", 1));
    assert_eq!(report[19], ("labels of responses made lenient", 0));
    assert_eq!(report[20], ("references with siblings wrapped", 0));
}

/// Returns a document whose parameter, body and responses stand in `components`.
fn sharing() -> Value {
    parse(
        "
openapi: 3.0.0
info: {title: Test, version: '1'}
paths:
  /a/{id}:
    parameters: [{$ref: '#/components/parameters/Id'}]
    post:
      operationId: GetA
      parameters: [{$ref: '#/components/parameters/Also'}]
      requestBody: {$ref: '#/components/requestBodies/B'}
      responses:
        '200': {$ref: '#/components/responses/R'}
        '404': {$ref: '#/components/responses/Gone'}
components:
  parameters:
    Id: {name: id, in: path, required: true, schema: {$ref: '#/components/schemas/Name'}}
    Also: {$ref: '#/components/parameters/Limit'}
    Limit: {name: limit, in: query, schema: {type: integer, minimum: 0}}
    Unused: {name: unused, in: query, schema: {$ref: '#/components/schemas/OfUnused'}}
  requestBodies:
    B: {content: {application/json: {schema: {$ref: '#/components/schemas/B'}}}}
  responses:
    R: {description: OK, content: {application/json: {schema: {$ref: '#/components/schemas/R'}}}}
    Gone: {description: No, content: {application/json: {schema: {$ref: '#/components/schemas/E'}}}}
  schemas:
    Name: {type: string}
    B: {type: object, properties: {x: {type: string}}}
    R: {type: object, properties: {y: {$ref: '#/components/schemas/Inner'}}}
    Inner: {type: object, properties: {z: {type: string}}}
    E: {type: object, properties: {code: {type: string}}}
    OfUnused: {type: string}
    Old: {type: object, properties: {r: {$ref: '#/components/schemas/R'}, o: {$ref: '#/components/schemas/Older'}}}
    Older: {type: object, properties: {o: {$ref: '#/components/schemas/Old'}}}
",
    )
    .unwrap()
}

#[test]
fn g6_shared_parts_stand_in_their_places_when_overlays_are_applied() {
    let mut document = sharing();
    write_out_references(&mut document);
    let operation = &document["paths"]["/a/{id}"]["post"];
    assert_eq!(document["paths"]["/a/{id}"]["parameters"][0]["name"], "id");
    assert_eq!(operation["parameters"][0]["name"], "limit", "through two references");
    for (place, schema) in [("/requestBody", "B"), ("/responses/200", "R"), ("/responses/404", "E")]
    {
        let schema = format!("#/components/schemas/{schema}");
        let found = operation.pointer(&format!("{place}/content/application~1json/schema/$ref"));
        assert_eq!(found, Some(&json!(schema)), "{place}");
    }
    // A second time there is nothing to write out.
    let once = document.clone();
    write_out_references(&mut document);
    assert_eq!(document, once);
}

#[test]
fn g6_an_error_in_a_shared_part_names_the_place_where_it_stands() {
    let mut document = sharing();
    write_out_references(&mut document);
    // An overlay may take an earlier parameter away.
    let list = document["paths"]["/a/{id}"]["post"]["parameters"].as_array_mut().unwrap();
    list[0]["in"] = json!("cookie");
    let error = normalize(document).unwrap_err();
    assert_eq!(error.pointer(), "/components/parameters/Limit/in");
}

#[test]
fn g9_schemas_that_no_operation_reaches_make_no_types() {
    let mut document = sharing();
    write_out_references(&mut document);
    let normalized = normalize(document).unwrap();
    assert_eq!(normalized.unreached, ["OfUnused", "Old", "Older"]);
    let schemas = normalized.document["components"]["schemas"].as_object().unwrap();
    let kept: Vec<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(kept, ["B", "E", "Inner", "Name", "R"]);
    assert_eq!(normalized.report[0], ("shared parameters, bodies and responses written out", 5));
    assert_eq!(normalized.report[1], ("unreached schemas dropped", 3));
}

#[test]
fn a_place_that_was_moved_is_named_as_it_was_published() {
    let mut moves = Moves::default();
    moves.begin();
    moves.add("/components/schemas/GetAResponse".to_owned(), "/paths/~1a/get/x".to_owned());
    // A list that lost its first: each moves once.
    moves.add("/list/0".to_owned(), "/list/1".to_owned());
    moves.add("/list/1".to_owned(), "/list/2".to_owned());
    moves.begin();
    moves.add(
        "/components/schemas/Second".to_owned(),
        "/components/schemas/GetAResponse/items".to_owned(),
    );
    let published = |pointer: &str| moves.published(Error::new(pointer, "")).pointer().to_owned();
    assert_eq!(published("/components/schemas/Second/type"), "/paths/~1a/get/x/items/type");
    assert_eq!(published("/list/0/x"), "/list/1/x");
    assert_eq!(published("/list/1"), "/list/2");
    assert_eq!(published("/components/schemas/SecondOther"), "/components/schemas/SecondOther");
}
