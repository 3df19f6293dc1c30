//! The admin API: it says what it can do, and no page in a browser can use it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use kalshi_sdk::types::GetMarketsStatus;
use kalshi_sim::{Exchange, MarketPlan, Role};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn exchange() -> Exchange {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXADMIN-26-A", 86_400)).unwrap();
    exchange
}

/// Returns the method and the path of each row of the list, with its example.
async fn listed(exchange: &Exchange) -> Vec<(String, String, Option<String>)> {
    let answer = reqwest::get(exchange.admin_url().unwrap()).await.unwrap();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let rows = body["routes"].as_array().unwrap().iter().map(|row| {
        assert!(row["does"].as_str().unwrap().ends_with('.'), "{row}");
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        (text("method").unwrap(), text("path").unwrap(), text("example"))
    });
    rows.collect()
}

/// Sends a request with these headers as they are, and returns the status.
async fn status(exchange: &Exchange, method: &str, path: &str, headers: &[&str]) -> u16 {
    let address = exchange.admin_url().unwrap().replace("http://", "");
    let mut stream = TcpStream::connect(&*address).await.unwrap();
    let mut lines = headers.to_vec();
    lines.extend(["Content-Length: 0", "Connection: close", "\r\n"]);
    let request = format!("{method} {path} HTTP/1.1\r\n{}", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_root_lists_what_can_be_done_and_each_example_works() {
    let exchange = exchange().await;
    let routes = listed(&exchange).await;
    assert!(routes.len() > 30, "{routes:?}");
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await.unwrap();
    let (ticker, event) = (open.markets[0].ticker.clone(), open.markets[0].event_ticker.clone());
    let key_id = exchange.credentials(Role::Trader).unwrap().key_id().to_owned();
    let http = reqwest::Client::new();
    for (method, path, example) in routes {
        let path = path.replace("{ticker}", &ticker).replace("{event_ticker}", &event);
        let path = path.replace("{index}", "0");
        let url = format!("{}{path}", exchange.admin_url().unwrap());
        let mut request = http.request(method.parse().unwrap(), url);
        if let Some(example) = example {
            let body = example.replace('…', &key_id);
            serde_json::from_str::<Value>(&body).expect("the example is JSON");
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        // A market that is determined cannot be paused, for instance: the request is understood.
        assert!([200, 409].contains(&status), "{method} {path}: {status} {text}");
    }
    // The lists in the documentation of the crate and of the API are the same.
    let documented = include_str!("../../src/lib.rs");
    for (method, path, _) in listed(&exchange).await {
        let is_there = documented.lines().any(|line| {
            line.starts_with("//! |") && line.contains(&method) && line.contains(&path)
        });
        assert!(is_there, "the crate's documentation has no {method} {path}");
    }
}

#[tokio::test]
async fn a_foreign_name_that_points_here_is_refused_on_every_route() {
    let exchange = exchange().await;
    let here = exchange.admin_url().unwrap().replace("http://", "");
    let port = here.rsplit(':').next().unwrap();
    let before = exchange.clock().now();
    for (method, path, _) in listed(&exchange).await {
        for host in [
            &["Host: evil.example"][..],
            &["Host: localhost.evil.example"],
            &["Host: 127.0.0.1.evil.example"],
            &["Host: 10.0.0.1"],
            &["Host: "],
            &["Host: 127.0.0.1", "Host: evil.example"],
        ] {
            let said = status(&exchange, &method, &path, host).await;
            assert!([400, 403].contains(&said), "{method} {path} {host:?}: {said}");
        }
    }
    assert_eq!(status(&exchange, "GET", "/elsewhere", &["Host: evil.example"]).await, 403);
    for host in [
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ] {
        assert_eq!(status(&exchange, "GET", "/clock", &[&format!("Host: {host}")]).await, 200);
        assert_eq!(status(&exchange, "GET", "/nowhere", &[&format!("Host: {host}")]).await, 404);
    }
    assert!(exchange.clock().now() - before < chrono::Duration::minutes(10), "it was advanced");
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_on_every_route() {
    let exchange = exchange().await;
    let here = exchange.admin_url().unwrap().replace("http://", "");
    let host = format!("Host: {here}");
    for (method, path, _) in listed(&exchange).await {
        for foreign in [
            "Origin: https://evil.example",
            "Origin: null",
            "Origin: http://127.0.0.1:1",
            "Origin: http://localhost",
            "Origin: ",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            let said = status(&exchange, &method, &path, &[&host, foreign]).await;
            assert_eq!(said, 403, "{method} {path} {foreign}");
        }
    }
    // The page that the API itself would serve, and what no page sends.
    for own in [&*format!("Origin: http://{here}"), "Sec-Fetch-Site: same-origin", "X: y"] {
        assert_eq!(status(&exchange, "GET", "/clock", &[&host, own]).await, 200, "{own}");
        assert_eq!(status(&exchange, "POST", "/clock/freeze", &[&host, own]).await, 200, "{own}");
    }
    let answer = reqwest::Client::new()
        .post(format!("http://{here}/clock/advance"))
        .header("content-type", "application/json")
        .header("origin", "https://evil.example")
        .body(json!({"seconds": 1}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("Origin"), "{body}");
}
