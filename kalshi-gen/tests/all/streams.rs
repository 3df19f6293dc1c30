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
        (
            "kind: {type: string, enum: [good, bad]}",
            "kind: {type: string, const: good}",
            "in envelopes only",
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
