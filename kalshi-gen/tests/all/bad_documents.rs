//! Documents that cannot be generated are refused at its place, in one line, without a panic.

use kalshi_gen::{Unmatched, generate};
use serde_json::{Value, json};

use crate::support::{at_path, document, reaching_all, refused, with_operation, with_schema};

/// Returns the one line that a text is refused with.
#[track_caller]
fn text_refused(text: &str) -> String {
    generate(text, &[], Unmatched::Refuse).expect_err("the text was taken").to_string()
}

#[test]
fn text_that_is_not_yaml_is_refused_with_line_and_column() {
    let line = text_refused("a: [1, 2\nb: 3");
    assert!(line.starts_with("line 2 column 2: this is not YAML"), "{line}");
    assert!(text_refused("\ta: 1").starts_with("line 1 column 1: "));
    assert!(text_refused("a: 1\n---\nb: 2").contains("more than one document"));
}

#[test]
fn a_document_that_is_no_mapping_is_refused() {
    for text in ["", "# nothing", "~", "[1]", "hello", "3"] {
        assert_eq!(text_refused(text), "/: the document must be a mapping", "{text:?}");
    }
}

#[test]
fn other_generations_of_openapi_are_refused() {
    let mut other = document();
    other["openapi"] = json!("3.1.0");
    assert_eq!(refused(&other), "/openapi: OpenAPI 3.1.0; only 3.0 is understood");
    let swagger = json!({"swagger": "2.0", "info": {}, "paths": {}});
    assert_eq!(refused(&swagger), "/swagger: this is Swagger 2; only OpenAPI 3.0 is understood");
    other["openapi"] = json!(3.0);
    assert_eq!(refused(&other), "/openapi: the version must be text");
}

#[test]
fn missing_and_misshapen_parts_are_named() {
    for part in ["info", "paths"] {
        let mut without = document();
        without.as_object_mut().unwrap().remove(part);
        assert_eq!(refused(&without), format!("/: `{part}` is missing"));
    }
    for part in ["info", "paths", "components", "servers", "security", "tags"] {
        let mut odd = document();
        odd[part] = json!("text");
        let line = refused(&odd);
        assert!(line.starts_with(&format!("/{part}: ")), "{line}");
    }
    for (key, line) in [
        ("summary: []", "/paths/~1a/get/summary: "),
        ("description: 3", "/paths/~1a/get/description: "),
        ("deprecated: 3", "/paths/~1a/get/deprecated: "),
        ("tags: text", "/paths/~1a/get/tags: "),
        ("security: {a: 1}", "/paths/~1a/get/security: "),
        ("x-kalshi-cost: 3", "/paths/~1a/get/x-kalshi-cost: "),
        ("x-kalshi-cost: {tokens: many}", "/paths/~1a/get/x-kalshi-cost/tokens: "),
        ("x-kalshi-cost: {per: item}", "/paths/~1a/get/x-kalshi-cost/per: "),
        ("x-kalshi-cost: {per: word}", "/paths/~1a/get/x-kalshi-cost/per: "),
        ("x-kalshi-cost: {bucket: gold}", "/paths/~1a/get/x-kalshi-cost/bucket: "),
        ("x-kalshi-cost: {shard: any}", "/paths/~1a/get/x-kalshi-cost/shard: "),
        ("x-kalshi-cost: {when: {parameter: n}}", "/paths/~1a/get/x-kalshi-cost/when: "),
        ("x-kalshi-cost: {price: 3}", "/paths/~1a/get/x-kalshi-cost/price: "),
        ("x-kalshi-aliases: text", "/paths/~1a/get/x-kalshi-aliases: "),
        ("x-kalshi-aliases: [a, ' b']", "/paths/~1a/get/x-kalshi-aliases/1: "),
        ("operationId: 3", "/paths/~1a/get/operationId: "),
        ("responses: {'200': null}", "/paths/~1a/get/responses/200: "),
        ("parameters: {a: 1}", "/paths/~1a/get/parameters: "),
        ("parameters: [null]", "/paths/~1a/get/parameters/0: "),
    ] {
        let got = refused(&with_operation(key));
        assert!(got.starts_with(line), "{key}: {got}");
    }
}

#[test]
fn equal_keys_and_impossible_numbers_are_refused() {
    assert_eq!(text_refused("a: {b: 1, b: 2}"), "/a: the key `b` stands here twice");
    assert_eq!(text_refused("a: .nan"), "/a: infinite and not-a-number have no JSON form");
    assert_eq!(text_refused("~: 1"), "/: `null` cannot be a key");
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(text_refused(&deep).ends_with(": more than 64 levels deep"));
    assert!(text_refused(&"{a: ".repeat(10_000)).ends_with(": more than 64 levels deep"));
    let mut steps = String::new();
    for depth in 0..1_000 {
        steps.push_str(&" ".repeat(depth));
        steps.push_str("a:\n");
    }
    assert!(text_refused(&steps).ends_with(": more than 64 levels deep"));
}

#[test]
fn anchors_are_bounded() {
    use std::fmt::Write as _;

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let above = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{above}]");
    }
    assert!(text_refused(&bomb).contains("limit exceeded"));
    assert!(text_refused("a: &a [*a]").ends_with(": more than 64 levels deep"));
    // Below the YAML reader's own limit, which grows with the text.
    let wide = format!("a: &a [{}]\nb: [{}]", "x, ".repeat(2_000), "*a, ".repeat(2_000));
    assert!(text_refused(&wide).contains("more than 1000000 values"));
}

#[test]
fn references_that_lead_nowhere_are_refused() {
    let at = "/paths/~1a/get/responses/200/content/application~1json/schema/$ref";
    let mut dangling = document();
    dangling["components"]["schemas"] = json!({});
    assert_eq!(refused(&dangling), format!("{at}: `#/components/schemas/A` points at nothing"));
    let nested = with_schema("{type: array, items: {$ref: 'other.yaml#/B'}}");
    let line = "/components/schemas/A/items/$ref: `other.yaml#/B` points outside the document";
    assert_eq!(refused(&nested), line);
    let odd = with_schema("{type: array, items: {$ref: '#/paths'}}");
    assert!(refused(&odd).starts_with("/components/schemas/A/items/$ref: `#/paths` is no part of"));
    let inside = with_schema("{type: array, items: {$ref: '#/components/schemas/A/items'}}");
    assert!(refused(&inside).contains("ring"));
    assert!(
        refused(&with_operation("parameters: [{$ref: '#/components/parameters/B'}]"))
            .starts_with("/paths/~1a/get/parameters/0/$ref: ")
    );
}

#[test]
fn rings_of_references_are_refused() {
    let mut ring = with_schema("{$ref: '#/components/schemas/B'}");
    ring["components"]["schemas"]["B"] = json!({"$ref": "#/components/schemas/A"});
    assert!(refused(&ring).ends_with("references run in a ring"));
    let mut parts = with_schema("{allOf: [{$ref: '#/components/schemas/B'}]}");
    parts["components"]["schemas"]["B"] = json!({"oneOf": [{"$ref": "#/components/schemas/A"}]});
    assert!(refused(&parts).ends_with("`A` is made of itself: references run in a ring"));
}

#[test]
fn parts_of_which_no_object_can_be_made_are_refused() {
    for (parts, index) in [
        ("{allOf: [{type: string}, {type: integer}]}", 0),
        (
            "{allOf: [{type: object, properties: {a: {type: string}}}, {type: object, additionalProperties: {type: string}}]}",
            1,
        ),
    ] {
        let line = refused(&with_schema(parts));
        let at = format!("/components/schemas/A/allOf/{index}: ");
        assert_eq!(line, at + "a part of `allOf` has to be an object with named fields");
    }
}

#[test]
fn chains_of_schemas_are_bounded() {
    let mut chain = document();
    for link in 0..100 {
        let next = format!("#/components/schemas/C{}", link + 1);
        chain["components"]["schemas"][format!("C{link}")] = json!({"allOf": [{"$ref": next}]});
    }
    chain["components"]["schemas"]["C100"] = json!({"type": "string"});
    assert!(refused(&reaching_all(chain)).ends_with("more than 64 schemas in a chain"));
    let mut many = document();
    for index in 0..3_000 {
        many["components"]["schemas"][format!("C{index}")] = json!({"type": "string"});
    }
    assert_eq!(refused(&reaching_all(many)), "/components/schemas: more than 2000 schemas");
}

#[test]
fn two_operations_cannot_be_one_method() {
    for (first, second) in
        [("GetB", "GetB"), ("GetRFQs", "GetRfqs"), ("GetB", "getB"), ("GetB", "get_b")]
    {
        let mut twice = document();
        for (path, id) in [("/b", first), ("/c", second)] {
            let mut item = twice["paths"]["/a"].clone();
            item["get"]["operationId"] = json!(id);
            twice["paths"][path] = item;
        }
        let line = refused(&twice);
        assert!(line.starts_with("/paths/~1c/get/operationId: the method `get_"), "{line}");
        assert!(line.ends_with("stands already at /paths/~1b/get/operationId"), "{line}");
    }
}

#[test]
fn ids_that_make_no_method_are_refused() {
    for id in ["", "1x", "é", "::"] {
        let line = refused(&with_operation(&json!({"operationId": id}).to_string()));
        assert!(line.ends_with("makes no method name"), "{id}: {line}");
    }
    for id in ["Builder", "raw", "BaseUrl"] {
        let line = refused(&with_operation(&json!({"operationId": id}).to_string()));
        assert!(line.contains("the client has a method"), "{id}: {line}");
    }
    let mut without = document();
    without["paths"]["/a"]["get"].as_object_mut().unwrap().remove("operationId");
    assert_eq!(refused(&without), "/paths/~1a/get: `operationId` is missing");
}

#[test]
fn methods_that_are_not_generated_are_named() {
    let mut head = document();
    head["paths"]["/a"]["head"] = head["paths"]["/a"]["get"].clone();
    assert_eq!(refused(&head), "/paths/~1a/head: the method `head` is not generated");
    let mut elsewhere = document();
    elsewhere["paths"]["/b"] = json!({"$ref": "#/paths/~1a"});
    assert!(refused(&elsewhere).starts_with("/paths/~1b/$ref: "));
}

#[test]
fn an_operation_has_one_success_type() {
    let at = "/paths/~1a/get/responses";
    let two = "responses: {'200': {description: OK, content: {application/json: {schema: {}}}}, '204': {description: OK}}";
    let lines = [
        (two, format!("{at}/204: two success types: 200 and 204 differ")),
        (
            "responses: {default: {description: OK}}",
            format!("{at}/default: `default` is ambiguous: name the statuses"),
        ),
        ("responses: {'400': {description: No}}", format!("{at}: no success response")),
        (
            "responses: {2XX: {description: OK}}",
            format!("{at}/2XX: name the status of a success: `2XX` is a range"),
        ),
        ("responses: {OK: {description: OK}}", format!("{at}/OK: `OK` is no status")),
    ];
    for (yaml, line) in lines {
        assert_eq!(refused(&with_operation(yaml)), line);
    }
}

#[test]
fn only_json_with_a_schema_is_generated() {
    let at = "/paths/~1a/get/responses/200/content";
    let response = |content: &str| {
        with_operation(&format!("responses: {{'200': {{description: OK, content: {content}}}}}"))
    };
    assert_eq!(
        refused(&response("{application/json: {}}")),
        format!("{at}/application~1json: JSON without a schema")
    );
    assert_eq!(
        refused(&response("{text/csv: {schema: {type: string}}}")),
        format!("{at}/text~1csv: `text/csv` is not generated, only `application/json` is")
    );
    assert_eq!(
        refused(&response("{application/json: {schema: {}}, text/csv: {}}")),
        format!("{at}: several media types; only one is generated")
    );
    let body = with_operation("requestBody: {content: {text/csv: {schema: {type: string}}}}");
    assert!(refused(&body).starts_with("/paths/~1a/get/requestBody/content/text~1csv: "));
}

#[test]
fn parameters_stand_in_the_path_or_the_query() {
    for place in ["cookie", "header"] {
        let yaml = format!("parameters: [{{name: a, in: {place}, schema: {{type: string}}}}]");
        assert_eq!(
            refused(&with_operation(&yaml)),
            format!("/paths/~1a/get/parameters/0/in: parameters in `{place}` are not generated")
        );
    }
}

#[test]
fn path_and_path_parameters_agree() {
    let id = "parameters: [{name: id, in: path, required: true, schema: {type: string}}]";
    assert_eq!(
        refused(&at_path("/a/{id}", "{}")),
        "/paths/~1a~1{id}/get: the path has `{id}` but no such path parameter is declared"
    );
    assert_eq!(
        refused(&at_path("/a", id)),
        "/paths/~1a/get/parameters/0: the path parameter `id` does not stand in the path"
    );
    assert!(refused(&at_path("/a/{id}/{id}", id)).ends_with("`{id}` stands twice in the path"));
    for path in ["/a/{id", "/a/id}", "/a/{}", "/a/{i{d}}"] {
        assert!(
            refused(&at_path(path, id)).ends_with("the braces of the path do not match"),
            "{path}"
        );
    }
    assert!(refused(&at_path("a", "{}")).starts_with("/paths/a: a path starts with `/`"));
}

#[test]
fn a_list_in_the_query_has_a_style_that_is_known() {
    let list = |more: &str| {
        with_operation(&format!(
            "parameters: [{{name: a, in: query, {more}, schema: {{type: array, items: {{type: string}}}}}}]"
        ))
    };
    assert!(
        refused(&list("explode: false, style: spaceDelimited"))
            .starts_with("/paths/~1a/get/parameters/0/style: ")
    );
    assert!(
        refused(&list("style: pipeDelimited")).starts_with("/paths/~1a/get/parameters/0/style: ")
    );
}

#[test]
fn g8_security_that_is_neither_a_signature_nor_a_token_is_refused_at_its_place() {
    let secured = |schemes: &str, security: &str| {
        let mut document = with_operation(&format!("security: {security}"));
        document["components"]["securitySchemes"] = kalshi_gen::parse(schemes).unwrap();
        refused(&document)
    };
    let at = "/paths/~1a/get/security";
    for (schemes, security, line) in [
        (
            "{}",
            "[{key: []}]",
            format!("{at}/0/key: `key` is not declared in `#/components/securitySchemes`"),
        ),
        (
            "{k: {type: oauth2}}",
            "[{k: []}]",
            format!("{at}/0/k: security of the type `oauth2` is not generated"),
        ),
        (
            "{k: {type: apiKey, in: query, name: k}}",
            "[{k: []}]",
            format!("{at}/0/k: security of the type `apiKey` is not generated"),
        ),
        (
            "{k: {type: apiKey, in: header, name: k}, t: {type: http, scheme: bearer}}",
            "[{}, {k: [], t: []}]",
            format!("{at}/1: a request is either signed or carries a token, not both"),
        ),
        ("{}", "[1]", format!("{at}/0: must be a mapping")),
    ] {
        assert_eq!(secured(schemes, security), line);
    }
}

#[test]
fn a_parameter_is_a_scalar_or_a_list_of_scalars() {
    for schema in ["{type: object}", "{}", "{oneOf: [{type: string}]}"] {
        let yaml = format!("parameters: [{{name: a, in: query, schema: {schema}}}]");
        assert_eq!(
            refused(&with_operation(&yaml)),
            "/paths/~1a/get/parameters/0/schema: a parameter is a scalar or a list of scalars"
        );
    }
}

#[test]
fn parameters_that_would_be_one_setter_are_refused() {
    let two = |first: &str, second: &str| {
        let parameter = |name| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        with_operation(&json!({"parameters": [parameter(first), parameter(second)]}).to_string())
    };
    assert!(refused(&two("a", "a")).starts_with("/paths/~1a/get/parameters/1: "));
    for (first, second) in [("aB", "a_b"), ("a-b", "a_b"), ("type", "type_")] {
        let line = refused(&two(first, second));
        assert!(
            line.starts_with("/paths/~1a/get/parameters/1/name: two parameters would be"),
            "{line}"
        );
    }
    for name in ["send", "new", "body", "stream"] {
        let line = refused(&two("a", name));
        assert!(line.ends_with(&format!("the builder has a method `{name}` of its own")), "{line}");
    }
}

#[test]
fn a_shared_parameter_is_named_where_it_stands() {
    let mut shared = with_operation("parameters: [{$ref: '#/components/parameters/P'}]");
    shared["components"]["parameters"] = json!({"P": {"name": "p", "in": "cookie", "schema": {}}});
    assert!(refused(&shared).starts_with("/components/parameters/P/in: "));
    let mut of_path = document();
    of_path["paths"]["/a"]["parameters"] = json!([{"name": "p", "in": "cookie", "schema": {}}]);
    assert!(refused(&of_path).starts_with("/paths/~1a/parameters/0/in: "));
}

#[test]
fn enum_values_make_distinct_names() {
    let at = "/components/schemas/A/enum";
    for (yaml, line) in [
        ("{type: string, enum: [a-b, a_b]}", format!("{at}/1: `a-b` and `a_b` would both be `AB`")),
        ("{type: string, enum: [a, a]}", format!("{at}/1: `a` and `a` would both be `A`")),
        ("{type: string, enum: ['::']}", format!("{at}/0: `::` makes no name")),
        ("{enum: [a, 1]}", format!("{at}/1: `1` is no string, as the others are")),
        ("{enum: [1, a]}", format!("{at}/1: `\"a\"` is no number, as the others are")),
        ("{type: string, enum: [1]}", format!("{at}/0: `1` is no string, as the others are")),
        ("{type: string, enum: []}", format!("{at}: an enum needs a value")),
        ("{type: string, enum: [null]}", format!("{at}: an enum needs a value")),
        ("{type: string, enum: {a: 1}}", format!("{at}: must be a list")),
    ] {
        assert_eq!(refused(&with_schema(yaml)), line);
    }
}

#[test]
fn schemas_that_make_no_type_are_refused() {
    let at = "/components/schemas/A";
    for (yaml, line) in [
        ("{type: text}", format!("{at}/type: the type `text` is unknown")),
        ("{type: {a: b}}", format!("{at}/type: must be text")),
        ("{type: [string, 1]}", format!("{at}/type: a list of types must hold names")),
        ("{type: ['null']}", format!("{at}/type: a list of types needs one beside `null`")),
        (
            "{type: [string, integer]}",
            format!("{at}/type: `string`, `integer` make no single type"),
        ),
        ("{allOf: []}", format!("{at}/allOf: must be a list of schemas")),
        ("{oneOf: {}}", format!("{at}/oneOf: must be a list of schemas")),
        ("{not: {type: string}}", format!("{at}/not: `not` makes no type")),
        ("{type: array, items: null}", format!("{at}/items: a schema must be a mapping")),
        ("{type: object, properties: []}", format!("{at}/properties: must be a mapping")),
        (
            "{type: object, properties: {x: true}}",
            format!("{at}/properties/x: a schema must be a mapping"),
        ),
        ("{type: object, required: true}", format!("{at}/required: must be a list of names")),
        ("{type: string, nullable: 1}", format!("{at}/nullable: must be `true` or `false`")),
    ] {
        assert_eq!(refused(&with_schema(yaml)), line);
    }
}

#[test]
fn schema_names_make_distinct_types() {
    let named = |name: &str| {
        let mut document = document();
        document["components"]["schemas"][name] = json!({"type": "string"});
        refused(&reaching_all(document))
    };
    for name in ["::", "é", "1", "a b"] {
        assert!(named(name).ends_with("makes no type name"), "{name}");
    }
    assert_eq!(named("a"), "/components/schemas/a: two schemas would be called `A`");
    assert!(named("String").ends_with("`String` has a meaning in Rust already"));
}

#[test]
fn properties_that_would_be_one_field_are_refused() {
    let at = "/components/schemas/A/properties";
    for (first, second, field) in [
        ("a-b", "a_b", "a_b"),
        ("aB", "a_b", "a_b"),
        ("Self", "self", "self_"),
        ("type", "type_", "type_"),
    ] {
        let mut document = document();
        document["components"]["schemas"]["A"]["properties"] =
            json!({first: {"type": "string"}, second: {"type": "string"}});
        let line = refused(&document);
        assert!(line.starts_with(at), "{line}");
        assert!(line.ends_with(&format!("would both be the field `{field}`")), "{line}");
    }
}

#[test]
fn the_rows_of_a_list_are_one_array() {
    let list = |properties: Value| {
        let mut document =
            with_operation("parameters: [{name: cursor, in: query, schema: {type: string}}]");
        document["components"]["schemas"]["A"]["properties"] = properties;
        refused(&document)
    };
    let text = json!({"type": "string"});
    let rows = json!({"type": "array", "items": text});
    assert!(list(json!({"rows": rows})).contains("gives none back"));
    let line = "/components/schemas/A: a list with a cursor must have one array of rows";
    assert_eq!(list(json!({"cursor": text})), line);
    assert_eq!(list(json!({"cursor": text, "a": rows, "b": rows})), line);
    let several = json!({"cursor": rows, "rows": rows});
    assert_eq!(list(several), "/components/schemas/A/properties/cursor: a cursor must be a scalar");
}

#[test]
fn what_progenitor_panics_on_is_found_by_cutting_down() {
    // Two variants of one name: typify notices late, and panics.
    let clash = with_schema(
        "{type: object, properties: {good: {type: string}, bad: {oneOf: [
            {type: object, properties: {a-b: {type: string}}, required: [a-b]},
            {type: object, properties: {a_b: {type: string}}, required: [a_b]}]}}}",
    );
    let line = refused(&clash);
    assert!(line.starts_with("/components/schemas/A/properties/bad/oneOf/0"), "{line}");
    assert!(line.contains("Failed to make unique variant names"), "{line}");
    let both =
        with_schema("{allOf: [{type: object}], anyOf: [{required: [a]}], oneOf: [{type: object}]}");
    assert!(refused(&both).starts_with("/components/schemas/A"));
}

#[test]
fn a_panic_inside_leaves_the_hook_of_the_program_alone() {
    // In a process of its own: the hook is one for all threads.
    let inner = "bad_documents::the_hook_of_the_program_sees_its_own_panics_only";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", inner, "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn the_hook_of_the_program_sees_its_own_panics_only() {
    use std::{
        panic,
        sync::atomic::{AtomicUsize, Ordering},
    };

    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let before = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        if info.to_string().contains("unique variant names") {
            SEEN.fetch_add(100, Ordering::SeqCst);
        } else if info.to_string().contains("on purpose") {
            SEEN.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let clash = with_schema(
        "{oneOf: [{type: object, properties: {a: {}}, required: [a]},
                  {type: object, properties: {A: {}}, required: [A]}]}",
    );
    assert!(refused(&clash).contains("unique variant names"));
    assert!(panic::catch_unwind(|| panic!("on purpose")).is_err());
    panic::set_hook(before);
    assert_eq!(SEEN.load(Ordering::SeqCst), 1);
}
