//! `kalshi api`.

use kalshi_sdk::{
    OPERATIONS, Operation,
    operation::{ParameterKind, Place},
};
use serde_json::{Value, json};

use crate::support::Setup;

const UUID: &str = "a952bcbe-ec3b-4b5b-b8f9-11dae589608c";

/// Makes a body that fits a schema, with what is required.
fn body(root: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return body(root, &root["$defs"][reference.rsplit('/').next().unwrap()]);
    }
    if let Some(part) = schema["allOf"].get(0).or(schema["anyOf"].get(0)) {
        return body(root, part);
    }
    if let Some(value) = schema["enum"].get(0) {
        return value.clone();
    }
    let name = schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or("object");
    match name {
        "string" if schema["format"] == "date-time" => json!("2026-11-23T14:00:00Z"),
        "string" if schema["format"] == "uuid" => json!(UUID),
        "string" => json!("1.00"),
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(1).max(1)),
        "boolean" => json!(true),
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(1).max(1);
            (0..least).map(|_| body(root, &schema["items"])).collect()
        }
        _ => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let names = required.iter().filter_map(Value::as_str);
            let members =
                names.map(|name| (name.to_owned(), body(root, &schema["properties"][name])));
            Value::Object(members.collect())
        }
    }
}

/// Returns a value for a parameter.
fn value(name: &str, kind: ParameterKind) -> String {
    match (name, kind) {
        ("period_interval", _) => "60",
        ("start_ts", _) => "1790000000",
        ("end_ts", _) => "1790003600",
        (_, ParameterKind::Integer | ParameterKind::UnixSeconds | ParameterKind::UnixMillis) => "1",
        (_, ParameterKind::Number) => "0.5",
        (_, ParameterKind::Boolean) => "true",
        (_, ParameterKind::DateTime) => "2026-11-23T14:00:00Z",
        _ if name.ends_with("_id") => UUID,
        _ => "KXHIGHNY",
    }
    .to_owned()
}

fn arguments(operation: &Operation) -> Vec<String> {
    let mut words = vec!["api".to_owned(), operation.id.to_owned()];
    let needed = operation.parameters.iter().filter(|p| p.required || p.place == Place::Path);
    for parameter in needed {
        words.push("-p".to_owned());
        words.push(format!("{}={}", parameter.name, value(parameter.name, parameter.kind)));
    }
    if let Some(schema) = operation.body_schema() {
        let schema: Value = serde_json::from_str(schema).unwrap();
        words.push("--body".to_owned());
        words.push(body(&schema, &schema).to_string());
    }
    words
}

#[tokio::test]
async fn every_operation_of_the_table_is_reached() {
    let setup = Setup::new().await;
    let (mut done, mut refused) = (0, 0);
    for operation in OPERATIONS {
        let before = setup.exchange.requests().len();
        let mut words = arguments(operation);
        if operation.id == "generate_api_key" {
            let file = setup.folder.path().join("generated.pem");
            words.extend(["--save".to_owned(), file.to_str().unwrap().to_owned()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = setup.run(&words).await;
        let requests = setup.exchange.requests();
        assert_eq!(requests.len(), before + 1, "{operation}: {ran:#?}");
        let request = requests.last().unwrap();
        assert_eq!((request.operation, &request.method), (operation.id, &operation.method));
        let is_signed = operation.access == kalshi_sdk::operation::Access::Signed;
        assert_eq!(request.signed, is_signed, "{operation}");
        // The ids are made up: a refusal by the exchange is as good as an answer, and all of them
        // are documents.
        match ran.code {
            0 => done += 1,
            code @ (1 | 4) => {
                let failure = ran.failure(code);
                assert_eq!(failure["operation"], operation.id);
                refused += 1;
            }
            _ => panic!("{operation}: {ran:#?}"),
        }
    }
    assert_eq!(done + refused, OPERATIONS.len());
    assert!(done > 50, "{done} of {} had an answer", OPERATIONS.len());
}

#[tokio::test]
async fn method_and_path_name_an_operation_too() {
    let setup = Setup::new().await;
    let markets = setup.run(&["api", "GET", "/markets?limit=1"]).await.json();
    let ticker = markets["markets"][0]["ticker"].as_str().unwrap().to_owned();
    let market = setup.run(&["api", "get", &format!("/markets/{ticker}")]).await.json();
    assert_eq!(market["market"]["ticker"], ticker);
    let same = setup.run(&["api", "GetMarket", "-p", &format!("ticker={ticker}")]).await.json();
    assert_eq!(same["market"]["ticker"], ticker);
    assert_eq!(setup.asked(0), ["get_markets", "get_market", "get_market"]);
}

#[tokio::test]
async fn all_pages_are_one_document_or_one_stream_of_rows() {
    let setup = Setup::new().await;
    let all = ["api", "get_markets", "-p", "limit=25", "--all"];
    let document = setup.run(&all).await.json();
    let whole = setup.run(&["api", "get_markets", "-p", "limit=1000"]).await.json();
    assert_eq!(document, whole);
    let count = whole["markets"].as_array().unwrap().len();
    assert_eq!(setup.asked(0), vec!["get_markets"; count.div_ceil(25) + 1]);
    let rows = setup.run(&[&all[..], &["-o", "ndjson"]].concat()).await.ok();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::Array(rows), document["markets"]);
    let csv = [&all[..], &["-o", "csv", "--fields", "ticker,price_ranges"]].concat();
    let csv = setup.run(&csv).await.ok();
    assert_eq!(csv.lines().count(), count + 1);
    assert!(csv.starts_with("ticker,price_ranges\n"), "{csv}");
}

#[tokio::test]
async fn raw_is_what_came_byte_for_byte() {
    let setup = Setup::new().await;
    let raw = setup.run(&["api", "get_exchange_status", "--raw"]).await.ok();
    assert!(raw.starts_with('{') && !raw.contains('\n'), "{raw}");
    let client = kalshi_sdk::Client::builder()
        .with_environment(setup.exchange.environment())
        .build()
        .unwrap();
    let request = client.raw(http::Method::GET, "/exchange/status").public();
    assert_eq!(raw, request.send_text().await.unwrap().into_inner());
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_sent() {
    let setup = Setup::new().await;
    for (words, part) in [
        (&["api", "get_marketz"][..], "\"get_markets\""),
        (&["api", "get_markets", "-p", "limit=x"], "not a whole number"),
        (&["api", "get_markets", "-p", "status"], "NAME=VALUE"),
        (&["api", "get_market"], "ticker is missing"),
        (&["api", "get_exchange_status", "--all"], "has no pages"),
        (&["api", "get_exchange_status", "--body", "{}"], "takes no body"),
        (&["api", "create_order_v2"], "needs a body"),
        (&["api", "create_order_v2", "--body", "{"], "not JSON"),
        (&["api", "create_order_v2", "--body", "{}"], "lacks ticker"),
        (&["api", "create_order_group", "--body", "{\"contracts_limits\":1}"], "contracts_limits"),
        (
            &["api", "create_order_group", "--body", "{\"contracts_limit\":\"1\"}"],
            "must be integer",
        ),
        (&["api", "GET"], "no operation is called"),
    ] {
        let ran = setup.run(&[words, &["-o", "json"]].concat()).await;
        assert!(ran.stderr.contains(part), "{words:?}: {ran:#?}");
        let failure = ran.failure(2);
        assert_eq!(
            (&failure["category"], &failure["effect"]),
            (&json!("usage"), &json!("not_sent"))
        );
    }
    assert!(setup.exchange.requests().is_empty());
    // The exchange refuses it as well, if it is asked.
    let body = ["api", "create_order_group", "--body", "{\"contracts_limits\":1}", "--unchecked"];
    assert_eq!(setup.run(&body).await.failure(1)["status"], 400);
    assert_eq!(setup.asked(0), ["create_order_group"]);
}

#[tokio::test]
async fn a_body_comes_from_a_file_or_the_standard_input() {
    let setup = Setup::new().await;
    let file = setup.folder.file("body.json", "{\"contracts_limit_fp\": \"5.00\"}");
    let argument = format!("@{}", file.display());
    let made = setup.run(&["api", "create_order_group", "-b", &argument]).await.json();
    assert!(made["order_group_id"].is_string(), "{made}");
    let mut command = setup.command(&["api", "create_order_group", "-b", "-"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    assert!(crate::support::run(command).await.json()["order_group_id"].is_string());
    let missing = setup.run(&["api", "create_order_group", "-b", "@/nowhere.json"]).await;
    assert!(missing.stderr.contains("could not read the body"));
}

#[tokio::test]
async fn a_path_that_the_document_lacks_is_called_all_the_same() {
    let setup = Setup::new().await;
    let failure = setup.run(&["api", "GET", "/a/new/path"]).await.failure(1);
    assert_eq!(failure["status"], 404);
    let ran = setup.run(&["api", "POST", "/a/new/path", "--body", "{}", "--dry-run"]).await;
    assert!(ran.stderr.contains("not in the exchange's document"), "{ran:#?}");
    let request = ran.json();
    assert_eq!((&request["method"], &request["body"]), (&json!("POST"), &json!({})));
}

#[tokio::test]
async fn the_table_can_be_listed_and_shown() {
    let setup = Setup::new().await;
    let list = setup.run(&["api", "list", "-o", "json"]).await.json();
    assert_eq!(list["operations"].as_array().unwrap().len(), OPERATIONS.len());
    let orders = setup.run(&["api", "list", "--tag", "orders"]).await.ok();
    assert!(orders.lines().count() > 5 && orders.contains("create_order_v2"), "{orders}");
    let unknown = setup.run(&["api", "list", "--tag", "nothing"]).await;
    assert!(unknown.code == 2 && unknown.stderr.contains("portfolio"), "{unknown:#?}");
    for operation in OPERATIONS {
        // Each is described, in both forms; twenty of them by the program, to be quick.
        if operation.id.len() % 6 != 0 {
            continue;
        }
        let text = setup.run(&["api", "show", operation.id]).await.ok();
        assert!(text.contains(operation.path) && text.contains(operation.summary), "{text}");
        let json = setup.run(&["api", "show", operation.id, "-o", "json"]).await.json();
        assert_eq!(json["operation_id"], operation.operation_id);
        assert_eq!(json["body"].is_object(), operation.body_schema().is_some());
    }
    assert!(setup.exchange.requests().is_empty());
}
