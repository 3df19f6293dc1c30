//! What comparisons of really published documents got wrong, each as a small case: D1 one change
//! said twice, D2 new bounds called breaks, D3 formats that were places, D4 places that were shared
//! definitions, D5 verdicts that did not know the overlays.

use kalshi_gen::{
    Overlay,
    diff::{
        Change, Context, Diff, Direction, Format, SourceImpact, WireImpact, diff,
        diff_with_overlays,
    },
};

use crate::{diff_mutations::sound, support::read};

const ORDERS: &str = "\
openapi: 3.0.0
info:
  title: Small
  version: 1.0.0
paths:
  /orders:
    get:
      operationId: GetOrders
      parameters:
      - name: limit
        in: query
        schema:
          type: integer
      - $ref: '#/components/parameters/SubaccountQuery'
      responses:
        '200':
          description: OK
          content:
            application/json:
              schema:
                $ref: '#/components/schemas/Order'
        '400':
          description: Bad request
          content:
            application/json:
              schema:
                $ref: '#/components/schemas/ErrorResponse'
components:
  parameters:
    SubaccountQuery:
      name: subaccount
      in: query
      schema:
        type: integer
  schemas:
    Amount:
      type: string
    FixedPointDollars:
      type: string
    Base:
      type: object
      properties:
        note:
          type: string
    Order:
      type: object
      required:
      - id
      - created_time
      properties:
        id:
          type: string
        side:
          type: string
          enum:
          - 'yes'
          - 'no'
        created_time:
          type: string
          format: date-time
        fee_cost:
          type: string
        failed:
          $ref: '#/components/schemas/ErrorResponse'
        extra:
          allOf:
          - $ref: '#/components/schemas/Base'
          - type: object
            properties:
              more:
                type: string
    ErrorResponse:
      type: object
      properties:
        service:
          type: string
    LegacyOrders:
      type: object
      properties:
        orders:
          type: array
          items:
            $ref: '#/components/schemas/Order'
        error:
          $ref: '#/components/schemas/ErrorResponse'
        total:
          type: integer
";

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

/// Compares two documents, checks that the comparison is sound, and that it says the same without
/// overlays.
#[track_caller]
fn compared(old: &str, new: &str) -> Diff {
    let found = diff(old, new).unwrap_or_else(|(_, error)| panic!("{error}"));
    let value = |text: &str| kalshi_gen::parse(text).unwrap();
    assert_eq!(sound(&found, &value(old), &value(new)), Vec::<String>::new());
    found
}

/// Returns the one change.
#[track_caller]
fn only(found: &Diff) -> &Change {
    assert_eq!(found.changes.len(), 1, "{:#?}", found.changes);
    &found.changes[0]
}

#[track_caller]
fn by_id<'d>(found: &'d Diff, id: &str) -> &'d Change {
    let mut changes = found.changes.iter().filter(|change| change.id == id);
    let change = changes.next().unwrap_or_else(|| panic!("no {id} in {:#?}", found.changes));
    assert!(changes.next().is_none(), "{id} is said twice");
    change
}

#[test]
fn d1_a_schema_in_an_unreachable_one_is_reported_once() {
    let new = replaced(ORDERS, "          - 'yes'\n", "          - 'yes'\n          - maybe\n");
    let found = compared(ORDERS, &new);
    let change = only(&found);
    assert_eq!(change.id, "response-property-enum-value-added");
    assert_eq!(change.directions, [Direction::Response]);
    assert_eq!(change.carriers, ["GET /orders"]);
    assert!(!change.why.contains("unreachable"), "{}", change.why);
}

#[test]
fn d1_a_field_of_answers_and_errors_is_reported_once() {
    let new = replaced(ORDERS, "        service:\n          type: string\n", "        other: {}\n");
    let found = compared(ORDERS, &new);
    assert_eq!(found.changes.len(), 2, "{:#?}", found.changes);
    let change = by_id(&found, "response-optional-property-removed");
    assert_eq!(change.directions, [Direction::Response, Direction::Error]);
    assert_eq!(
        (change.subject.as_str(), change.field.as_str()),
        ("schema ErrorResponse", "service")
    );
    assert!(change.why.contains("as response: ") && change.why.contains("as error: "));
}

#[test]
fn d1_an_unreachable_schema_is_reported_once_and_named_so() {
    let new = replaced(ORDERS, "        total:\n          type: integer\n", "");
    let found = compared(ORDERS, &new);
    let change = only(&found);
    assert_eq!(change.directions, [Direction::Document]);
    assert!(change.why.starts_with("unreachable: "), "{}", change.why);
    assert_eq!((change.wire, change.source), (WireImpact::Works, SourceImpact::Same));
}

#[test]
fn d1_a_schema_that_loses_its_last_operation_is_named_once() {
    let new = replaced(
        ORDERS,
        "                $ref: '#/components/schemas/Order'\n        '400'",
        "                type: object\n        '400'",
    );
    let found = compared(ORDERS, &new);
    let gone = found.changes.iter().filter(|change| change.id == "schema-became-unreachable");
    let subjects: Vec<&str> = gone.map(|change| change.subject.as_str()).collect();
    assert_eq!(subjects, ["schema Base", "schema Order"], "the errors still have ErrorResponse");
}

#[test]
fn d1_what_all_of_merges_has_no_turn_of_its_own() {
    let new = replaced(
        ORDERS,
        "        note:\n          type: string\n",
        "        note:\n          type: integer\n",
    );
    let found = compared(ORDERS, &new);
    let change = only(&found);
    assert_eq!(change.id, "response-property-type-changed");
    assert_eq!((change.subject.as_str(), change.field.as_str()), ("schema Order", "extra.note"));
    assert_eq!(change.pointer, "/components/schemas/Order/properties/extra");
    assert_eq!(change.definition.as_deref(), Some("/components/schemas/Base/properties/note"));
}

#[test]
fn d1_two_objects_that_stand_for_each_other_are_compared_once() {
    let old = "\
openapi: 3.0.0
info: {title: Small, version: 1.0.0}
paths:
  /a: {get: {operationId: GetA, responses: {'200': {description: OK, content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}}}}
  /b: {get: {operationId: GetB, responses: {'200': {description: OK, content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}}}}
components:
  schemas:
    A: {type: object, properties: {x: {type: string}}}
";
    let new = old.replace("schemas/A'", "schemas/B'").replace(
        "    A: {type: object, properties: {x: {type: string}}}",
        "    B: {type: object, properties: {x: {type: integer}}}",
    );
    let found = compared(old, &new);
    let change = by_id(&found, "response-property-type-changed");
    assert_eq!(change.subject, "schema A as B");
    assert_eq!(change.carriers, ["GET /a", "GET /b"]);
}

#[test]
fn d2_a_bound_that_is_published_late_behaves() {
    let new = ORDERS.replace(
        "      schema:\n        type: integer\n  schemas:",
        "      schema:\n        type: integer\n        minimum: 0\n  schemas:",
    );
    let found = compared(ORDERS, &new);
    let change = only(&found);
    assert_eq!(change.id, "request-parameter-min-set");
    assert_eq!((change.wire, change.source), (WireImpact::Behaves, SourceImpact::Same));
    let next = found.next_version("0.3.0").unwrap();
    assert!(!next.urgent && next.part == "patch", "{next}");
}

#[test]
fn d2_every_kind_of_bound_behaves_where_none_was_and_breaks_where_it_narrows() {
    let parameter = |schema: &str| {
        format!(
            "openapi: 3.0.0\ninfo: {{title: Small, version: 1.0.0}}\npaths:\n  /a: {{get: \
             {{operationId: GetA, parameters: [{{name: x, in: query, schema: {schema}}}], \
             responses: {{}}}}}}\n"
        )
    };
    for (ty, bound, narrow) in [
        ("string", "maxLength: 9", "maxLength: 8"),
        ("string", "minLength: 1", "minLength: 2"),
        ("string", "pattern: '^[A-Z]+$'", "pattern: '^[A-Y]+$'"),
        ("integer", "minimum: 0", "minimum: 1"),
        ("integer", "maximum: 9", "maximum: 8"),
        ("integer", "exclusiveMaximum: 9", "exclusiveMaximum: 8"),
        ("array", "maxItems: 9", "maxItems: 8"),
        ("array", "minItems: 1", "minItems: 2"),
    ] {
        let bare = parameter(&format!("{{type: {ty}}}"));
        let bounded = parameter(&format!("{{type: {ty}, {bound}}}"));
        let narrower = parameter(&format!("{{type: {ty}, {narrow}}}"));
        assert_eq!(only(&compared(&bare, &bounded)).wire, WireImpact::Behaves, "{bound}");
        assert_eq!(only(&compared(&bounded, &narrower)).wire, WireImpact::Breaks, "{narrow}");
        assert_eq!(only(&compared(&bounded, &bare)).wire, WireImpact::Works, "without {bound}");
    }
}

#[test]
fn d2_a_bound_that_refuses_what_our_type_writes_breaks() {
    let document = |name: &str, schema: &str| {
        format!(
            "openapi: 3.0.0\ninfo: {{title: Small, version: 1.0.0}}\npaths:\n  /a: {{get: \
             {{operationId: GetA, parameters: [{{name: {name}, in: query, schema: {schema}}}], \
             responses: {{}}}}}}\n"
        )
    };
    for (name, old, new) in [
        ("min_ts", "{type: integer}", "{type: integer, minimum: 1600000000000}"),
        (
            "shard",
            "{type: integer, format: int32}",
            "{type: integer, format: int32, minimum: 3000000000}",
        ),
        (
            "price",
            "{type: string, format: fixed-point-dollars}",
            "{type: string, format: fixed-point-dollars, pattern: '^[0-9]+$'}",
        ),
        ("side", "{type: string, enum: [a, bc]}", "{type: string, enum: [a, bc], maxLength: 1}"),
    ] {
        let found = compared(&document(name, old), &document(name, new));
        assert_eq!(only(&found).wire, WireImpact::Breaks, "{new}");
    }
}

#[test]
fn d3_formats_print_as_formats() {
    let new = replaced(
        ORDERS,
        "        fee_cost:\n          type: string\n",
        "        fee_cost:\n          $ref: '#/components/schemas/FixedPointDollars'\n",
    );
    let found = compared(ORDERS, &new);
    let change = by_id(&found, "response-property-format-changed");
    assert_eq!(change.field, "fee_cost");
    assert_eq!(change.before.as_deref(), Some("none"));
    assert_eq!(change.after.as_deref(), Some("fixed-point-dollars"));
    let back = compared(&new, ORDERS);
    let change = by_id(&back, "response-property-format-changed");
    assert_eq!(change.before.as_deref(), Some("fixed-point-dollars"));
    assert_eq!(change.after.as_deref(), Some("none"));
    let new = replaced(ORDERS, "          format: date-time\n", "");
    let found = compared(ORDERS, &new);
    let change = only(&found);
    assert_eq!(change.before.as_deref(), Some("date-time"));
    assert_eq!(change.after.as_deref(), Some("none"));
}

#[test]
fn d4_pointers_name_the_use_beside_the_definition() {
    let new = ORDERS.replace(
        "      schema:\n        type: integer\n  schemas:",
        "      schema:\n        type: integer\n        minimum: 0\n  schemas:",
    );
    let found = compared(ORDERS, &new);
    let change = only(&found);
    assert_eq!(change.subject, "GET /orders");
    assert_eq!(change.pointer, "/paths/~1orders/get/parameters/1");
    let definition = "/components/parameters/SubaccountQuery/schema/minimum";
    assert_eq!(change.definition.as_deref(), Some(definition));
    let text = found.render(Format::Text, &Context::default());
    assert!(text.contains(&change.pointer) && text.contains(definition), "{text}");
}

#[test]
fn d4_annotations_land_on_the_use() {
    let new = ORDERS.replace(
        "      schema:\n        type: integer\n  schemas:",
        "      schema:\n        type: integer\n        minimum: 0\n  schemas:",
    );
    let found = compared(ORDERS, &new);
    let context = Context { file: Some("a.yaml"), text: Some(&new), ..Context::default() };
    let report = found.render(Format::Github, &context);
    let line = report.split("line=").nth(1).unwrap().split(',').next().unwrap();
    let line: usize = line.parse().unwrap();
    let text = new.lines().nth(line - 1).unwrap();
    assert_eq!(text.trim(), "- $ref: '#/components/parameters/SubaccountQuery'", "line {line}");
}

fn overlay(text: &str) -> Vec<Overlay> {
    vec![Overlay { name: "corrections.yaml".to_owned(), text: text.to_owned() }]
}

#[test]
fn d5_a_field_that_an_overlay_reads_leniently_breaks_nothing() {
    let lenient = overlay(
        "actions: [{target: \"$.components.schemas.Order.required[?@=='created_time']\", remove: true}]",
    );
    for (from, to, id) in [
        (
            "          format: date-time\n",
            "          format: date-time\n          nullable: true\n",
            "response-property-became-nullable",
        ),
        ("      - created_time\n", "", "response-property-became-optional"),
    ] {
        let new = replaced(ORDERS, from, to);
        let plain = diff(ORDERS, &new).unwrap();
        let known = diff_with_overlays(ORDERS, &new, &lenient).unwrap();
        assert_eq!(only(&plain).wire, WireImpact::Breaks, "{id}");
        assert_eq!(only(&plain).source, SourceImpact::Breaks, "{id}");
        let change = only(&known);
        assert_eq!(change.id, id);
        assert_eq!((change.wire, change.source), (WireImpact::Works, SourceImpact::Same), "{id}");
        assert_eq!(change.fingerprint, only(&plain).fingerprint, "the change is the same");
    }
}

#[test]
fn d5_what_an_overlay_declares_already_is_no_news_for_callers() {
    let known = overlay(
        "actions:\n- target: $.components.schemas.Order.properties\n  update: {reason: {type: string}}\n\
         - target: $.components.schemas.Order.properties.side\n  update: {enum: [maybe]}\n\
         - target: $.paths['/orders'].get.parameters[?@.name=='subaccount'].schema\n  update: {format: int32}\n",
    );
    let field = replaced(
        ORDERS,
        "        fee_cost:\n",
        "        reason:\n          type: string\n        fee_cost:\n",
    );
    let found = diff_with_overlays(ORDERS, &field, &known).unwrap();
    assert_eq!(only(&found).id, "response-optional-property-added");
    assert_eq!(only(&found).source, SourceImpact::Same);
    assert_eq!(only(&diff(ORDERS, &field).unwrap()).source, SourceImpact::Adds);
    // Another type than the overlay's breaks callers all the same.
    let other = field.replace(
        "        reason:\n          type: string\n",
        "        reason:\n          type: integer\n",
    );
    let found = diff_with_overlays(ORDERS, &other, &known).unwrap();
    assert_eq!(only(&found).source, SourceImpact::Same, "the overlay still says text");
    let value = replaced(ORDERS, "          - 'yes'\n", "          - 'yes'\n          - maybe\n");
    let found = diff_with_overlays(ORDERS, &value, &known).unwrap();
    assert_eq!(only(&found).source, SourceImpact::Same);
    let format = ORDERS.replace(
        "      schema:\n        type: integer\n  schemas:",
        "      schema:\n        type: integer\n        format: int32\n  schemas:",
    );
    let found = diff_with_overlays(ORDERS, &format, &known).unwrap();
    assert_eq!(
        only(&found).source,
        SourceImpact::Same,
        "a shared parameter is known where it is used"
    );
    assert_eq!(only(&diff(ORDERS, &format).unwrap()).source, SourceImpact::Breaks);
}

#[test]
fn d5_an_overlay_that_cannot_be_applied_is_named() {
    let broken = overlay("actions: [{target: '$.[', remove: true}]");
    let (_, error) = diff_with_overlays(ORDERS, ORDERS, &broken).unwrap_err();
    assert!(error.to_string().starts_with("corrections.yaml#/actions/0"), "{error}");
    let foreign = overlay("actions: [{target: $.nowhere, remove: true}]");
    assert_eq!(diff_with_overlays(ORDERS, ORDERS, &foreign).unwrap().changes, []);
}

#[test]
fn d5_the_overlays_of_this_workspace_change_no_fact() {
    let root = |path: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    for (file, folder, from, to) in [
        (
            "../openapi.yaml",
            "../overlay",
            "operationId: GetMarkets\n",
            "operationId: ListMarkets\n",
        ),
        ("../asyncapi.yaml", "../kalshi-ws/overlay", "- created_time\n", "- exchange_time\n"),
    ] {
        let overlays = kalshi_gen::read_overlays(&root(folder)).unwrap();
        let old = read(file);
        let new = old.replacen(from, to, 1);
        assert_ne!(old, new, "{file}");
        let plain = diff(&old, &new).unwrap();
        let known = diff_with_overlays(&old, &new, &overlays).unwrap();
        let facts = |found: &Diff| {
            let mut facts: Vec<String> =
                found.changes.iter().map(|c| c.fingerprint.clone()).collect();
            facts.sort();
            facts
        };
        assert_eq!(facts(&plain), facts(&known), "{file}");
        assert!(!plain.changes.is_empty());
        assert_eq!(diff_with_overlays(&old, &old, &overlays).unwrap().changes, [], "{file}");
    }
}

const STREAM: &str = "\
asyncapi: 3.0.0
info: {title: Small streams, version: 1.0.0}
channels:
  life:
    address: life
    messages:
      lifecycle: {$ref: '#/components/messages/lifecycle'}
operations:
  receive: {action: send, channel: {$ref: '#/channels/life'}}
components:
  messages:
    lifecycle: {name: lifecycle, payload: {$ref: '#/components/schemas/lifecyclePayload'}}
  schemas:
    lifecyclePayload:
      type: object
      required: [type, msg]
      properties:
        type: {type: string, const: market_lifecycle}
        msg:
          type: object
          required: [event_type, ticker]
          properties:
            event_type: {type: string, enum: [opened, closed]}
            ticker: {type: string}
            price_dollars: {type: string}
            size: {type: string, x-rust-serialize-with: 'a::serialize_fixed_point_count'}
";

fn with_sibling(required: &str) -> String {
    let message = "    metadata: {name: metadata, payload: {$ref: '#/components/schemas/metadataPayload'}}\n  schemas:\n";
    let schema = format!(
        "    metadataPayload:\n      type: object\n      required: [type, msg]\n      properties:\n        type: \
         {{type: string, const: market_lifecycle}}\n        msg:\n          type: object\n          required: \
         [{required}]\n          properties:\n            event_type: {{type: string, const: metadata_updated}}\n            \
         ticker: {{type: string}}\n"
    );
    STREAM.replace("  schemas:\n", message) + &schema
}

#[test]
fn two_messages_of_one_type_are_told_apart_and_judged_by_what_clients_know() {
    let readable = compared(STREAM, &with_sibling("event_type, ticker"));
    let change = by_id(&readable, "message-added");
    assert_eq!((change.wire, change.source), (WireImpact::Behaves, SourceImpact::Adds));
    let unreadable = compared(STREAM, &with_sibling("event_type"));
    assert_eq!(by_id(&unreadable, "message-added").wire, WireImpact::Breaks);
    // Both are there, and only one changes.
    let old = with_sibling("event_type, ticker");
    let new = old.replace("const: metadata_updated", "const: metadata_changed");
    let found = compared(&old, &new);
    assert!(found.changes.iter().all(|c| c.carriers == ["message metadata"]), "{found:#?}");
    assert_eq!(found.changes.len(), 2, "{found:#?}");
}

#[test]
fn type_lists_with_null_are_nullable() {
    let new = replaced(STREAM, "ticker: {type: string}", "ticker: {type: [string, 'null']}");
    let found = compared(STREAM, &new);
    let change = only(&found);
    assert_eq!(change.id, "response-property-became-nullable");
    assert_eq!(change.wire, WireImpact::Breaks);
    let same = replaced(&new, "type: [string, 'null']", "type: ['null', string]");
    assert_eq!(compared(&new, &same).changes, []);
}

#[test]
fn amounts_of_streams_are_known_by_serializer_and_name() {
    let new = replaced(
        STREAM,
        "price_dollars: {type: string}",
        "price_dollars: {type: string, format: fixed-point-dollars}",
    );
    let found = compared(STREAM, &new);
    assert_eq!(only(&found).id, "document-changed", "stated or not, they are dollars");
    let new = replaced(STREAM, ", x-rust-serialize-with: 'a::serialize_fixed_point_count'", "");
    let found = compared(STREAM, &new);
    let change = only(&found);
    assert_eq!(change.id, "response-property-format-changed");
    assert_eq!(change.before.as_deref(), Some("fixed-point-count"));
    assert_eq!(change.wire, WireImpact::Breaks, "text that is no count is not read as one");
    let typed = replaced(
        STREAM,
        "x-rust-serialize-with: 'a::serialize_fixed_point_count'",
        "x-rust-type: a::Amount",
    );
    assert_eq!(compared(STREAM, &typed).changes, [], "another word for the same");
}

/// Runs the command in a workspace of its own with one overlay.
fn command(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("kalshi-gen-diff").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("overlay")).unwrap();
    let optional = replaced(ORDERS, "      - created_time\n", "");
    let overlay = "overlay: 1.0.0\ninfo: {title: Corrections, version: 1.0.0}\nactions:\n- target: \
                   $.components.schemas.Order.required[?@=='created_time']\n  remove: true\n";
    for (file, text) in [
        ("openapi.yaml", ORDERS),
        ("new.yaml", &optional),
        ("other.yaml", &read("tests/diff/openapi.yaml")),
        ("streams.yaml", STREAM),
        ("overlay/corrections.yaml", overlay),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kalshi-gen"))
        .arg("diff")
        .args(arguments)
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn d5_the_command_knows_the_overlays_of_its_folder() {
    let (code, said) = command("known", &["openapi.yaml", "new.yaml"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("wire works, Rust same"), "{said}");
    let (code, said) = command("published", &["openapi.yaml", "new.yaml", "--published-only"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("wire breaks, Rust breaks"), "{said}");
    // An edition that lies elsewhere is known by its operations.
    let (code, said) = command("editions", &["new.yaml", "new.yaml", "--fail-on", "info"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = command("foreign", &["other.yaml", "other.yaml"]);
    assert_eq!(code, Some(0), "overlays of another document are left alone: {said}");
}

#[test]
fn wrong_arguments_say_what_to_do() {
    for (arguments, wanted) in [
        (&["openapi.yaml"][..], "Usage: cargo gen diff"),
        (&["openapi.yaml", "nowhere.yaml"], "nowhere.yaml: "),
        (&["openapi.yaml", "streams.yaml"], "compare two documents of one kind"),
        (&["openapi.yaml", "overlay/corrections.yaml"], "neither `openapi` nor `asyncapi`"),
        (&["openapi.yaml", "new.yaml", "--crate-version", "1"], "such as 0.4.0"),
        (&["openapi.yaml", "new.yaml", "--format", "html"], "possible values: text"),
    ] {
        let (code, said) = command("wrong", arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}
