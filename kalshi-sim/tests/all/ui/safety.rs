//! Nothing but the page itself reaches what the page can do.

use serde_json::json;

use super::{Page, exchange, token};

#[tokio::test]
async fn a_page_without_the_token_a_foreign_host_and_a_foreign_origin_are_refused() {
    let exchange = exchange().await;
    let here = exchange.admin_url().unwrap();
    let http = reqwest::Client::new();
    let files = ["/ui/", "/ui/app.js", "/ui/book.js", "/ui/style.css"];
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for path in files.into_iter().chain([
            "/ui",
            "/ui/stream",
            "/ui/history",
            "/ui/nothing",
            "/ui/orders",
        ]) {
            let request = http.get(format!("{here}{path}")).header(name, value);
            let answer = request.header("x-token", token(&exchange)).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{path} {name}: {value}");
        }
        let protocols = format!("kalshi-sim.1, {}", token(&exchange));
        let refused = Page::open(&exchange, &protocols, &[(name, value)]).await.err().unwrap();
        assert!(refused.to_string().contains("403"), "{name}: {value}: {refused}");
    }
    // The right origin, and a wrong token or none.
    let zeros = "0".repeat(32);
    for protocols in ["kalshi-sim.1", &format!("kalshi-sim.1, {zeros}"), &token(&exchange)] {
        let refused = Page::open(&exchange, protocols, &[("origin", &here)]).await.err().unwrap();
        assert!(refused.to_string().contains("403"), "{protocols}: {refused}");
    }
    for (method, path) in
        [("POST", "/ui/orders"), ("DELETE", "/ui/orders/maker/1"), ("GET", "/ui/history")]
    {
        for given in [None, Some(""), Some(&*zeros)] {
            let mut request = http.request(method.parse().unwrap(), format!("{here}{path}"));
            if let Some(token) = given {
                request = request.header("x-token", token);
            }
            let body = json!({"member": "trader"}).to_string();
            let request = request.header("content-type", "application/json").body(body);
            assert_eq!(request.send().await.unwrap().status(), 403, "{method} {given:?}");
        }
    }
    // With all that is asked for, it opens.
    let protocols = format!("kalshi-sim.1, {}", token(&exchange));
    Page::open(&exchange, &protocols, &[("origin", &here)]).await.unwrap();
}

#[tokio::test]
async fn the_files_may_load_nothing_from_elsewhere_and_stand_in_no_frame() {
    let exchange = exchange().await;
    let here = exchange.admin_url().unwrap();
    for path in ["/ui/", "/ui/app.js", "/ui/style.css", "/ui"] {
        let answer = reqwest::get(format!("{here}{path}")).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let text = answer.text().await.unwrap();
        assert!(!text.contains(&token(&exchange)), "{path} has the token");
    }
    assert_eq!(reqwest::get(format!("{here}/ui/none.js")).await.unwrap().status(), 404);
    // Another start has another token.
    assert_ne!(token(&exchange), token(&super::exchange().await));
}

#[tokio::test]
async fn what_a_page_says_wrong_is_answered_and_does_no_harm() {
    let exchange = exchange().await;
    let mut page = Page::new(&exchange).await;
    page.next().await;
    for wrong in [
        json!({"watch": {"panels": ["nothing"]}}),
        json!({"watch": {"ticker": 1}}),
        json!({"ack": -1}),
        json!({"other": 1}),
        json!(null),
    ] {
        page.send(&wrong).await;
        assert!(page.next().await["error"].is_string(), "{wrong}");
    }
    page.send(&json!({"ack": u64::MAX})).await;
    page.watch(&["book"], &"X".repeat(1_000)).await;
    let frame = page.until(|_| true).await;
    assert_ne!(frame["ticker"], "");
}
