//! What published documents do, each in a small document of its own; and, where the environment
//! names a folder, the published documents themselves.

use kalshi_gen::{Access, Overlay, Unmatched, generate, generate_any};
use serde_json::json;

use crate::support::{code, document, run, with_operation, with_schema};

#[test]
fn g3_a_time_that_must_be_there_and_may_be_null_has_one_function() {
    let time = "{type: string, format: date-time, nullable: true}";
    let yaml = format!(
        "{{type: object, required: [a, b, l], properties: {{a: {time}, b: {{type: string, nullable: true}},
          c: {time}, l: {{type: array, nullable: true, items: {{type: string}}}}}}}}"
    );
    let code: String = code(&with_schema(&yaml)).split_whitespace().collect();
    // What stands between two fields is what is said of the second.
    let before = |field: &str, previous: &str| {
        let (head, _) = code.split_once(&format!("pub{field}:")).unwrap();
        head.rsplit_once(previous).unwrap().1.to_owned()
    };
    let attributes = before("a", "pubstructA{");
    assert_eq!(attributes.matches("deserialize_with").count(), 1, "{attributes}");
    assert!(attributes.contains("::kalshi_types::wire::date_time_optional"), "{attributes}");
    assert!(!attributes.contains("default"), "it must be there: {attributes}");
    let attributes = before("c", "pubb:");
    assert_eq!(attributes.matches("deserialize_with").count(), 1, "{attributes}");
    assert!(attributes.contains("default"), "it may be absent: {attributes}");
}

#[test]
fn g2_null_in_a_list_of_types_is_understood_in_a_document_of_operations_too() {
    let folded = code(&with_schema(
        "{type: object, required: [a, e], properties: {a: {type: [string, 'null']}, e: {type: ['null', string], enum: [x, null]}}}",
    ));
    let plain = code(&with_schema(
        "{type: object, required: [a, e], properties: {a: {type: string, nullable: true}, e: {type: string, nullable: true, enum: [x]}}}",
    ));
    assert_eq!(folded, plain);
}

#[test]
fn g8_a_token_is_a_third_way_in_and_every_way_is_recorded() {
    let access = |security: &str| {
        let mut document = with_operation(&format!("security: {security}"));
        document["components"]["securitySchemes"] = json!({
            "key": {"type": "apiKey", "in": "header", "name": "KEY"},
            "sum": {"type": "apiKey", "in": "header", "name": "SUM"},
            "token": {"type": "http", "scheme": "bearer"},
        });
        let generated = run(&document).unwrap();
        let code: String = generated.code.split_whitespace().collect();
        (generated.operations[0].access.clone(), code)
    };
    let (ways, code) = access("[{token: []}]");
    assert_eq!(ways, [Access::Bearer]);
    assert!(code.contains("access:crate::operation::Access::Bearer,alternatives:&[]"), "{code}");
    // In whichever order the document has them.
    for security in ["[{token: []}, {key: [], sum: []}]", "[{key: [], sum: []}, {token: []}]"] {
        let (ways, code) = access(security);
        assert_eq!(ways, [Access::Signed, Access::Bearer]);
        let piece = "access:crate::operation::Access::Signed,alternatives:&[crate::operation::Access::Bearer]";
        assert!(code.contains(piece), "{code}");
        assert!(code.contains("signedorbearer"), "{code}");
    }
    assert_eq!(access("[]").0, [Access::Public]);
    assert_eq!(access("[{}, {key: []}]").0, [Access::Public, Access::Signed]);
    // The document's own, where the operation has none.
    let mut default = document();
    default["security"] = json!([{"token": []}]);
    default["components"]["securitySchemes"] =
        json!({"token": {"type": "http", "scheme": "bearer"}});
    assert_eq!(run(&default).unwrap().operations[0].access, [Access::Bearer]);
}

#[test]
fn g11_a_list_behind_one_key_is_joined_by_commas() {
    for list in [
        "explode: false, schema: {type: array, items: {type: string}}",
        "explode: false, style: form, schema: {type: array, items: {type: integer}}",
    ] {
        let yaml = format!("parameters: [{{name: tickers, in: query, {list}}}]");
        let generated = run(&with_operation(&yaml)).unwrap();
        assert_eq!(generated.operations[0].parameters[0].kind, "CommaSeparated");
        assert!(generated.code.contains("crate :: CommaSeparated"), "{}", generated.code);
    }
    for list in ["explode: true, ", ""] {
        let yaml = format!(
            "parameters: [{{name: tickers, in: query, {list}schema: {{type: array, items: {{type: string}}}}}}]"
        );
        assert_eq!(run(&with_operation(&yaml)).unwrap().operations[0].parameters[0].kind, "List");
    }
}

#[test]
fn a_list_pages_by_any_scalar_cursor() {
    for (scalar, text) in [
        ("{type: string}", true),
        ("{type: string, format: date-time}", true),
        ("{type: integer, format: int64}", false),
        ("{type: boolean}", false),
        ("{$ref: '#/components/schemas/Mark'}", true),
    ] {
        let yaml = format!("parameters: [{{name: cursor, in: query, schema: {scalar}}}]");
        let mut list = with_operation(&yaml);
        list["components"]["schemas"]["Mark"] = json!({"type": "string", "format": "date-time"});
        list["components"]["schemas"]["A"] = json!({
            "type": "object",
            "required": ["cursor", "rows"],
            "properties": {
                "cursor": kalshi_gen::parse(scalar).unwrap(),
                "rows": {"type": "array", "items": {"type": "string"}},
            },
        });
        let generated = run(&list).unwrap();
        let operation = &generated.operations[0];
        assert_eq!(operation.parameters[0].kind, "Text", "{scalar}");
        assert!(operation.pagination.is_some(), "{scalar}");
        let code: String = generated.code.split_whitespace().collect();
        assert!(code.contains("fnafter(self,cursor:&str)->Self{self.cursor(cursor)}"), "{scalar}");
        assert_eq!(code.contains("deserialize_with=\"scalar_text\""), !text, "{scalar}");
    }
}

#[test]
fn g6_an_overlay_addresses_a_shared_parameter_where_it_is_used() {
    let mut shared = with_operation("parameters: [{$ref: '#/components/parameters/Limit'}]");
    shared["components"]["parameters"] =
        json!({"Limit": {"name": "limit", "in": "query", "schema": {"type": "integer"}}});
    let overlay = Overlay {
        name: "docs.yaml".to_owned(),
        text: "actions: [{target: \"$.paths['/a'].get.parameters[?@.name=='limit']\", \
               update: {description: Rows on a page., in: query}}]"
            .to_owned(),
    };
    let generated = generate(&shared.to_string(), &[overlay], Unmatched::Refuse).unwrap();
    let parameter = &generated.operations[0].parameters[0];
    assert_eq!(parameter.description.as_deref(), Some("Rows on a page."));
    assert!(generated.applied.redundant.is_empty());
    let findings = run(&shared).unwrap().coverage().findings;
    let line = "/paths/~1a/get/parameters/0: parameter `limit`: is undocumented".to_owned();
    assert!(findings.contains(&line), "{findings:?}");
}

#[test]
fn amounts_of_a_document_of_operations_are_exact_where_an_overlay_says_so() {
    let mut priced = with_schema("{type: object, properties: {bid: {type: string}}}");
    let found = run(&priced).unwrap().coverage().unformatted;
    assert_eq!(found.len(), 1, "{found:?}");
    priced["components"]["schemas"]["A"]["properties"]["bid"]["format"] =
        json!("fixed-point-dollars");
    let generated = run(&priced).unwrap();
    assert!(generated.code.contains(":: kalshi_types :: Dollars"), "{}", generated.code);
    assert!(generated.coverage().unformatted.is_empty());
}

/// Tries every document of a folder: set `KALSHI_DOCUMENTS` to it.
#[test]
fn every_document_of_a_folder_is_generated() {
    let Some(folder) = std::env::var_os("KALSHI_DOCUMENTS") else { return };
    let mut failed = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let known = text
            .lines()
            .any(|line| line.starts_with("openapi: ") || line.starts_with("asyncapi: "));
        if known && let Err(error) = generate_any(&text, &[], Unmatched::Refuse) {
            failed.push(format!("{}: {error}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
