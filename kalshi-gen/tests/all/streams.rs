//! `AsyncAPI` documents: what they turn into, and what is refused.

use kalshi_gen::{Overlay, Unmatched, generate_streams};

/// A channel with one message, and a command.
const DOCUMENT: &str = r"
asyncapi: 3.0.0
info: {title: Streams, version: 2.0.0}
channels:
  root:
    address: /
    messages: {subscribe: {$ref: '#/components/messages/subscribe'}}
  news:
    address: news
    messages: {newsItem: {$ref: '#/components/messages/newsItem'}}
components:
  messages:
    subscribe:
      contentType: application/json
      payload: {$ref: '#/components/schemas/subscribePayload'}
    newsItem:
      contentType: application/json
      payload: {$ref: '#/components/schemas/newsItemPayload'}
    ping: {contentType: application/octet-stream, payload: {type: string}}
  schemas:
    sid: {type: integer, format: int64}
    subscribePayload:
      type: object
      properties:
        id: {type: integer}
        cmd: {type: string, const: subscribe}
        params:
          type: object
          required: [names]
          properties:
            names: {type: array, items: {type: string}}
    newsItemPayload:
      type: object
      required: [type, sid, seq, msg]
      properties:
        type: {type: string, const: news_item}
        sid: {$ref: '#/components/schemas/sid'}
        seq: {type: integer}
        msg:
          type: object
          required: [price_dollars, kind, ts_ms]
          properties:
            price_dollars: {type: string, format: fixed-point-dollars}
            kind: {type: string, enum: [good, bad]}
            ts_ms: {type: integer}
";

fn generate(document: &str) -> Result<kalshi_gen::Generated, kalshi_gen::Error> {
    generate_streams(document, &[], Unmatched::Refuse)
}

fn refused(from: &str, to: &str) -> String {
    assert!(DOCUMENT.contains(from), "{from}");
    generate(&DOCUMENT.replace(from, to)).unwrap_err().to_string()
}

#[test]
fn what_an_envelope_carries_becomes_a_type_and_the_type_a_payload() {
    let generated = generate(DOCUMENT).unwrap();
    let types = generated.review().types;
    assert!(types.contains("struct NewsItem\n  kind*: NewsItemKind\n  price_dollars*: FixedPointDollars\n  ts_ms*: integer kalshi-unix-millis\n"), "{types}");
    assert!(types.contains("struct SubscribeParams\n  names*: [string]\n"), "{types}");
    let code: String = generated.code.chars().filter(|c| !c.is_whitespace()).collect();
    for piece in [
        "NewsItem(::std::boxed::Box<types::NewsItem>)",
        "\"news_item\"=>::serde_json::from_str(msg).map(Self::NewsItem)",
        "MessageKind{name:\"news_item\",channels:&[crate::Channel::News],sequenced:true}",
        "pubprice_dollars:::kalshi_types::Dollars",
    ] {
        assert!(code.contains(piece), "{piece}");
    }
}

#[test]
fn the_same_document_gives_the_same_bytes() {
    assert_eq!(generate(DOCUMENT).unwrap().code, generate(DOCUMENT).unwrap().code);
}

#[test]
fn a_field_of_an_envelope_that_nobody_reads_is_refused_at_its_place() {
    let error = refused(
        "        seq: {type: integer}\n",
        "        seq: {type: integer}\n        batch: {type: integer}\n",
    );
    assert!(error.contains("/components/schemas/newsItemPayload/properties/batch"), "{error}");
}

#[test]
fn documents_that_cannot_be_read_as_streams_are_refused() {
    for (from, to, message) in [
        ("asyncapi: 3.0.0", "asyncapi: 2.6.0", "only version 3 is understood"),
        ("asyncapi: 3.0.0", "openapi: 3.0.0", "no AsyncAPI document"),
        (
            "type: {type: string, const: news_item}",
            "type: {type: string}",
            "does not say its `type`",
        ),
        ("address: news", "adress: news", "needs an address"),
        ("#/components/schemas/sid", "#/components/schemas/lost", "points at nothing"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_error_names_the_place_in_the_document_as_published() {
    let error =
        refused("kind: {type: string, enum: [good, bad]}", "kind: {type: string, enum: [good, 1]}");
    let place = "/components/schemas/newsItemPayload/properties/msg/properties/kind/enum/1";
    assert!(error.contains(place), "{error}");
}

#[test]
fn overlays_carry_words_and_must_match() {
    let overlay = |target: &str| Overlay {
        name: "words.yaml".to_owned(),
        text: format!(
            "overlay: 1.0.0\nactions:\n- target: {target}\n  update: {{description: Something happened.}}\n"
        ),
    };
    let words = overlay("$.components.messages.newsItem");
    let generated = generate_streams(DOCUMENT, &[words], Unmatched::Refuse).unwrap();
    assert!(generated.code.contains("Something happened."));
    let nothing = overlay("$.components.messages.other");
    assert!(generate_streams(DOCUMENT, &[nothing], Unmatched::Refuse).is_err());
}

/// Returns code without white space.
fn code(document: &str) -> String {
    generate(document).unwrap().code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Returns the document with a second message of the type of the first, whose `kind` is this.
fn with_second(kind: &str) -> String {
    DOCUMENT
        .replace(
            "    messages: {newsItem: {$ref: '#/components/messages/newsItem'}}\n",
            "    messages: {newsItem: {$ref: '#/components/messages/newsItem'}, correction: {$ref: '#/components/messages/correction'}}\n",
        )
        .replace(
            "    ping: {",
            "    correction: {contentType: application/json, payload: {$ref: '#/components/schemas/correctionPayload'}}\n    ping: {",
        )
        + "    correctionPayload:
      type: object
      required: [type, sid, msg]
      properties:
        type: {type: string, const: news_item}
        sid: {$ref: '#/components/schemas/sid'}
        msg: {type: object, required: [kind], properties: {kind: "
        + kind
        + ", was: {type: string}}}\n"
}

#[test]
fn g1_messages_of_one_type_are_told_apart_by_a_field() {
    let document = with_second("{type: string, const: corrected}");
    let code = code(&document);
    for piece in [
        "Correction(::std::boxed::Box<types::Correction>)",
        "NewsItem(::std::boxed::Box<types::NewsItem>)",
        "rename=\"kind\"",
        "Some(\"corrected\")=>::serde_json::from_str(msg).map(Self::Correction)",
        // A value that neither lists is read as the message that lists most.
        "_=>::serde_json::from_str(msg).map(Self::NewsItem)",
        "Self::Correction(_)=>\"news_item\"",
        "Self::Correction(_)=>false",
        // One kind for the type; it counts only if all its messages do.
        "pubstaticMESSAGE_KINDS:[crate::MessageKind;1usize]",
        "MessageKind{name:\"news_item\",channels:&[crate::Channel::News],sequenced:false}",
    ] {
        assert!(code.contains(piece), "{piece}: {code}");
    }
}

#[test]
fn g1_messages_that_no_field_tells_apart_are_refused() {
    for kind in [
        "{type: string}",
        "{type: string, enum: [good, better, best]}",
        "{type: string, enum: [a, b]}",
    ] {
        let error = generate(&with_second(kind)).unwrap_err().to_string();
        let line = "/components/messages/newsItem: two messages have the type `news_item`, and no field tells them apart";
        assert_eq!(error, line, "{kind}");
    }
}

/// Returns the fields of the message of the document with these properties beside its own.
fn fields(properties: &str) -> String {
    let document = DOCUMENT.replace(
        "            ts_ms: {type: integer}\n",
        &format!("            ts_ms: {{type: integer}}\n{properties}"),
    );
    let types = generate(&document).unwrap().review().types;
    let rest = types.split("struct NewsItem\n").nth(1).unwrap().to_owned();
    rest.split("\n\n").next().unwrap().to_owned()
}

#[test]
fn g2_null_in_a_list_of_types_makes_a_field_nullable() {
    let fields = fields(
        "            a: {type: [string, 'null']}
            b: {type: [number, 'null']}
            c_ts_ms: {type: ['null', integer], format: int64}
            d: {type: [array, 'null'], items: {type: [string, 'null']}}
            e: {type: [string, 'null'], enum: [x, y, null]}
            f: {type: [object, 'null'], properties: {g: {type: [boolean, 'null']}}}
            h: {oneOf: [{type: 'null'}, {type: string}]}
            i: {type: [integer, number]}
            created_ts_ms: {type: [integer, 'null']}
            fee_dollars: {type: [string, 'null']}
",
    );
    for line in [
        "  a: string?\n",
        "  b: number kalshi-decimal?\n",
        "  c_ts_ms: integer int64?\n",
        // Null is an empty list; an element that is null stays one.
        "  d: [string]\n",
        "  e: NewsItemE?\n",
        "  f: NewsItemF?\n",
        "  i: number kalshi-decimal\n",
        "  created_ts_ms: integer kalshi-unix-millis?\n",
        "  fee_dollars: FixedPointDollars?\n",
    ] {
        assert!(fields.contains(line), "{line}: {fields}");
    }
}

#[test]
fn amounts_are_named_by_their_function_their_type_or_the_ending_of_their_name() {
    let fields = fields(
        "            price: {type: string, x-rust-type: i64, x-rust-serialize-with: 'money::serialize_price_dollars'}
            delta: {type: string, x-rust-serialize-with: 'money::serialize_option_amount_fixed_point_count'}
            cost: {type: string, x-rust-type: 'common::types::Value'}
            count: {type: string, x-rust-type: 'common::types::Position'}
            open_dollars: {type: string}
            size_fp: {type: string}
            dollars_note: {type: string}
            ratio: {type: number, x-rust-type: 'wire::JsonNumber'}
            levels_fp: {type: array, items: {type: string}}
",
    );
    for line in [
        "  price: FixedPointDollars\n",
        "  delta: FixedPointCount\n",
        "  cost: FixedPointDollars\n",
        "  count: FixedPointCount\n",
        "  open_dollars: FixedPointDollars\n",
        "  size_fp: FixedPointCount\n",
        "  dollars_note: string\n",
        "  ratio: number kalshi-decimal\n",
        "  levels_fp: [string]\n",
    ] {
        assert!(fields.contains(line), "{line}: {fields}");
    }
}

#[test]
fn a_text_that_looks_like_an_amount_and_has_no_format_is_found() {
    let document = |field: &str| {
        DOCUMENT
            .replace(
                "price_dollars: {type: string, format: fixed-point-dollars}",
                &format!("price_dollars: {{type: string}}, {field}"),
            )
            .replace(
                "          properties:\n            price_dollars: {type: string}, ",
                "          properties:\n            price_dollars: {type: string}\n            ",
            )
    };
    let found = |field: &str| generate(&document(field)).unwrap().coverage().unformatted;
    let at = "/components/schemas/newsItemPayload/properties/msg/properties";
    let line = format!(
        "{at}/fee_cost: `fee_cost` looks like an amount and is plain text: give it a format or `x-kalshi-text: true`"
    );
    assert_eq!(found("fee_cost: {type: string}"), [line]);
    for fine in [
        "fee_cost: {type: string, format: fixed-point-dollars}",
        "fee_cost: {type: string, x-kalshi-text: true}",
        "fee_cost: {type: integer}",
        "fee_cost: {type: string, enum: [high, low]}",
        "cost_note: {type: string}",
    ] {
        assert!(found(fine).is_empty(), "{fine}");
    }
    let times = found("made_ts: {type: integer}");
    assert_eq!(times, [format!("{at}/made_ts: `made_ts` looks like a time and has no unit")]);
}

#[test]
fn g9_schemas_that_no_message_reaches_make_no_types() {
    let document =
        format!("{DOCUMENT}    forgotten: {{type: object, properties: {{x: {{type: string}}}}}}\n");
    let generated = generate(&document).unwrap();
    assert_eq!(generated.normalized.unreached, ["forgotten"]);
    let types = generated.review().types;
    assert!(!types.contains("struct Forgotten"), "{types}");
    assert!(types.contains("#   forgotten\n"), "{types}");
}

#[test]
fn g10_a_schema_that_is_called_like_a_built_in_one_takes_its_place_or_leaves_it_alone() {
    let with = |schema: &str, field: &str| {
        let document = DOCUMENT.replace(
            "            ts_ms: {type: integer}\n",
            &format!("            ts_ms: {{type: integer}}\n            {field}\n"),
        );
        format!("{document}    {schema}\n")
    };
    let levels =
        "levels: {type: array, items: {$ref: '#/components/schemas/priceLevelDollarsCountFp'}}";
    // A level of a book, as the exact type has it.
    let level =
        "priceLevelDollarsCountFp: {type: array, items: {type: string}, minItems: 2, maxItems: 2}";
    let one = code(&with(level, levels));
    assert!(one.contains("publevels:::std::vec::Vec<::kalshi_types::PriceLevel>"), "{one}");
    // Something else under the name: a type of its own.
    let object = "priceLevelDollarsCountFp: {type: object, properties: {price: {type: integer}}}";
    let other = code(&with(object, levels));
    assert!(other.contains("publevels:::std::vec::Vec<PriceLevelDollarsCountFp>"), "{other}");
    assert!(other.contains("pubprice_dollars:::kalshi_types::Dollars"), "{other}");
    let dollars = "fixedPointDollars: {type: object, properties: {units: {type: integer}}}";
    let field = "sum: {$ref: '#/components/schemas/fixedPointDollars'}";
    let third = code(&with(dollars, field));
    assert!(third.contains("pubsum:::std::option::Option<FixedPointDollars>"), "{third}");
    assert!(third.contains("pubprice_dollars:::kalshi_types::Dollars"), "{third}");
}
