//! The clearing house: the token, the secrets and the units.

use std::sync::{Arc, Mutex};

use kalshi_sdk::{
    Drift, DriftKind, Effect, Environment, ErrorKind,
    klear::{self, CentiCents, Klear, KlearBuilder},
    middleware::{Extensions, Middleware, Next, Request, Response, async_trait},
    operation::{Access, Lane, RetrySafety},
};
use serde_json::json;

use crate::support::{
    Answer, KLEAR_BASE, Server, TOKEN, always, klear as connected, shared, whole_text,
};

fn unset() -> KlearBuilder {
    Klear::builder().with_environment(Environment::Demo)
}

/// Fails if a text holds any part of the token.
fn assert_no_token(text: &str) {
    for piece in TOKEN.1.split('-') {
        assert!(!text.contains(&format!("{piece}-")), "{piece:?} of the token stands in: {text}");
    }
}

#[tokio::test]
async fn the_token_is_shown_nowhere() {
    let builder = unset().with_token(TOKEN.0, TOKEN.1);
    assert_no_token(&format!("{builder:?} {builder:#?}"));
    let built = builder.build().unwrap();
    assert_no_token(&format!("{built:?} {built:#?}"));
    assert_no_token(&format!("{:?}", built.get_settlement_balance()));
    for answer in [
        Answer::new(401, r#"{"code":"unauthorized","message":"no","service":"klear"}"#),
        Answer::new(200, "[]"),
        Answer::Reset(Vec::new()),
    ] {
        let server = always(answer).await;
        let error = connected(&server.url()).get_settlement_balance().send().await.unwrap_err();
        assert_no_token(&whole_text(&error));
    }
}

#[tokio::test]
async fn an_error_has_the_code_of_the_clearing_house() {
    let body = r#"{"code":"unauthorized","message":"no such token","service":"klear"}"#;
    let server = always(Answer::new(401, body)).await;
    let error = connected(&server.url()).get_settlement_balance().send().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Api, Some("unauthorized")));
    assert_eq!(error.effect(), Effect::Rejected);
}

/// A layer that sends requests to another host, and remembers their headers.
struct Elsewhere {
    address: Option<String>,
    headers: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Middleware for Elsewhere {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> kalshi_sdk::middleware::Result<Response> {
        self.headers.lock().unwrap().push(format!("{:?}", request.headers()));
        if let Some(address) = &self.address {
            let path = request.url().path().to_owned();
            *request.url_mut() = address.parse().unwrap();
            request.url_mut().set_path(&path);
        }
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn the_token_goes_to_no_other_host_and_past_no_layer() {
    let body = json!({"user_id": "u", "balance_available_centicents": 7});
    let (own, other) = (always(Answer::json(&body)).await, always(Answer::json(&body)).await);
    for foreign in [true, false] {
        let (headers, seen) = shared(Mutex::new(Vec::new()));
        let layer = Elsewhere { address: foreign.then(|| other.url()), headers };
        let klear = Klear::builder()
            .with_environment(Environment::Custom(own.url()))
            .with_token(TOKEN.0, TOKEN.1)
            .with_middleware(layer)
            .build()
            .unwrap();
        let result = klear.get_settlement_balance().send().await;
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert_no_token(&seen.lock().unwrap().concat());
        if foreign {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Auth, Effect::NotSent));
            assert_eq!(other.requests().len(), 0);
            assert_no_token(&whole_text(&error));
        } else {
            assert_eq!(result.unwrap().balance_available_centicents, CentiCents::from_units(7));
        }
    }
    let request = own.request();
    assert_eq!(request.path(), format!("{KLEAR_BASE}/margin/settlement_balance"));
    assert_eq!(
        request.header("authorization"),
        Some("Bearer admin-17:bearer-token-that-nobody-may-see")
    );
}

#[tokio::test]
async fn a_header_that_a_layer_sets_is_replaced() {
    struct Own;
    #[async_trait]
    impl Middleware for Own {
        async fn handle(
            &self,
            mut request: Request,
            extensions: &mut Extensions,
            next: Next<'_>,
        ) -> kalshi_sdk::middleware::Result<Response> {
            request.headers_mut().append("authorization", "Bearer other".parse().unwrap());
            next.run(request, extensions).await
        }
    }
    let server = always(Answer::json(&json!({"schedule": "0 0 * * *"}))).await;
    let klear = Klear::builder()
        .with_environment(Environment::Custom(server.url()))
        .with_token(TOKEN.0, TOKEN.1)
        .with_middleware(Own)
        .build()
        .unwrap();
    let class = klear::types::AssetClass::Crypto;
    klear.get_margin_funding_schedule().asset_class(class).send().await.unwrap();
    // `header` fails if it stands there twice.
    assert!(server.request().header("authorization").unwrap().ends_with(TOKEN.1));
}

#[test]
fn what_cannot_be_a_token_or_a_host_is_refused() {
    let refused = |builder: KlearBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_no_token(&whole_text(&error));
        error.to_string()
    };
    assert!(refused(unset()).contains("with_token"));
    assert!(refused(Klear::builder().with_token("a", "b")).contains("with_environment"));
    for (id, token) in [
        ("", "b"),
        ("a:b", "c"),
        ("a b", "c"),
        ("a\r\nx-evil: 1", "c"),
        ("a", ""),
        ("a", "b c"),
        ("a", "b\n"),
        ("a", "bé"),
    ] {
        let text = refused(unset().with_token(id, token));
        assert!(text.contains("header"), "{text}");
    }
    // Plain HTTP to another machine would show the token to the network.
    let plain = Environment::Custom("http://example.com/klear-api/v1".to_owned());
    let plain = || Klear::builder().with_environment(plain.clone()).with_token("a", "b");
    refused(plain());
    plain().with_plain_http().build().unwrap();
    for (environment, url) in [
        (Environment::Production, "https://api.klear.kalshi.com/klear-api/v1"),
        (Environment::Demo, "https://demo-api.kalshi.co/klear-api/v1"),
    ] {
        let klear =
            Klear::builder().with_environment(environment.clone()).with_token("a", "b").build();
        let klear = klear.unwrap();
        assert_eq!((klear.base_url(), klear.environment()), (url, &environment));
    }
}

#[tokio::test]
async fn links_and_keys_are_secrets() {
    let link = "https://files.example.com/report?signature=abcdef0123456789";
    let report = json!({
        "report_type": "daily_statement", "url": link, "date": "2026-10-31",
        "created_ts": "2026-11-01T00:00:00Z", "is_end_of_day": true,
    });
    let server = always(Answer::json(&json!({"reports": [report]}))).await;
    let klear = connected(&server.url());
    let reports = get_reports(&klear).await.unwrap();
    assert!(!format!("{reports:?}").contains("signature"), "{reports:?}");
    assert_eq!(reports.reports[0].url.expose(), link);

    let mut broken = report.clone();
    broken.as_object_mut().unwrap().remove("date");
    let server = always(Answer::json(&json!({"reports": [broken]}))).await;
    let error = get_reports(&connected(&server.url())).await.unwrap_err();
    assert_eq!((error.json_path(), error.excerpt()), (Some("reports[0].date"), None));
    assert!(!whole_text(&error).contains("signature"));

    for id in [klear::OperationId::GetMarginReports, klear::OperationId::GenerateMarginFcmApiKey] {
        assert!(id.operation().secret, "{id}");
    }
    let secret = klear::OPERATIONS.iter().filter(|operation| operation.secret).count();
    assert_eq!(secret, 2);
}

async fn get_reports(
    klear: &Klear,
) -> Result<klear::types::GetMarginReportsResponse, kalshi_sdk::Error> {
    let day = || "2026-10-31".parse::<chrono::NaiveDate>().unwrap();
    let request = klear.get_margin_reports().start_date(day()).end_date(day());
    Ok(request.send().await?.into_inner())
}

#[tokio::test]
async fn a_withdrawal_that_got_no_answer_may_have_happened() {
    let server = always(Answer::Close(Vec::new())).await;
    let body = klear::types::WithdrawSettlementBalanceRequest::builder().amount("12.50");
    let klear = connected(&server.url());
    let error = klear.withdraw_settlement_balance().body(body).send().await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(server.request().json(), json!({"amount": "12.5000"}));
    let retry = klear::OperationId::WithdrawSettlementBalance.operation().retry;
    assert_eq!(retry, kalshi_sdk::operation::RetrySafety::Reconcile);
}

#[tokio::test]
async fn lists_end_where_the_cursor_does() {
    let entry = |units: i64| {
        json!({
            "balance_delta_centicents": units, "locked_balance_delta_centicents": 0,
            "reason": "withdrawal", "business_transaction_id": "t",
            "created_ts": "2026-11-01T00:00:00Z",
        })
    };
    let server = Server::start(move |request| {
        let second = request.query().iter().any(|(name, value)| name == "cursor" && value == "2");
        Answer::json(&if second {
            json!({"entries": [entry(i64::MIN)]})
        } else {
            json!({"entries": [entry(i64::MAX)], "cursor": "2"})
        })
    })
    .await;
    let entries = connected(&server.url()).get_settlement_balance_history().all().await.unwrap();
    let units: Vec<i64> =
        entries.iter().map(|entry| entry.balance_delta_centicents.as_units()).collect();
    assert_eq!(units, [i64::MAX, i64::MIN]);
    // Out of the range of dollars, and said so.
    assert_eq!(entries[0].balance_delta_centicents.to_dollars(), None);
}

#[tokio::test]
async fn drift_is_observed_here_too() {
    let seen = Arc::new(Mutex::new(Vec::<Drift>::new()));
    let into = Arc::clone(&seen);
    let server = always(Answer::json(&json!({"schedule": "0 0 * * *", "zone": "ET"}))).await;
    let klear = Klear::builder()
        .with_environment(Environment::Custom(server.url()))
        .with_token(TOKEN.0, TOKEN.1)
        .on_drift(move |drift| into.lock().unwrap().push(drift.clone()))
        .build()
        .unwrap();
    let class = klear::types::AssetClass::Energy;
    klear.get_margin_funding_schedule().asset_class(class).send().await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].kind), (1, DriftKind::UnknownField));
    assert_eq!(seen[0].path, "zone");
}

#[tokio::test]
async fn drift_is_seen_within_what_is_made_of_several_parts() {
    let seen = Arc::new(Mutex::new(Vec::<Drift>::new()));
    let into = Arc::clone(&seen);
    // Without `user_id`, a field of the part that is named, and `receives`, one of the other.
    let obligation = json!({
        "id": "o", "amount_centicents": 1, "fees_centicents": 0, "maintenance_margin_centicents": 0,
        "pnl_centicents": 1, "execution_time": "2026-11-01T00:00:00Z",
        "last_updated_ts": "2026-11-01T00:00:00Z", "asset_class": "Energy",
        "settlement_details": [], "maintenance_margin_details": [], "funding_payments": [],
        "corporate_action_payments": [], "netting_id": "new",
    });
    let server = always(Answer::json(&json!({"obligations": [obligation]}))).await;
    let klear = Klear::builder()
        .with_environment(Environment::Custom(server.url()))
        .with_token(TOKEN.0, TOKEN.1)
        .on_drift(move |drift| into.lock().unwrap().push(drift.clone()))
        .build()
        .unwrap();
    klear.get_active_margin_obligations().send().await.unwrap_err();
    let mut seen: Vec<(DriftKind, String)> =
        seen.lock().unwrap().iter().map(|drift| (drift.kind, drift.path.clone())).collect();
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        seen,
        [
            (DriftKind::UnknownField, "obligations[].netting_id".to_owned()),
            (DriftKind::MissingField, "obligations[].receives".to_owned()),
            (DriftKind::MissingField, "obligations[].user_id".to_owned()),
        ]
    );
}

#[test]
fn a_post_that_only_reads_is_safe_to_retry() {
    let estimate = klear::OperationId::EstimatePortfolioMaintenanceMargin.operation();
    assert_eq!((estimate.retry, estimate.only_reads()), (RetrySafety::Safe, true));
    let others =
        klear::OPERATIONS.iter().filter(|other| other.only_reads() && other.id != estimate.id);
    for other in others {
        assert_eq!(other.method, http::Method::GET, "{other}");
    }
    assert!(!klear::OperationId::WithdrawSettlementBalance.operation().only_reads());
}

#[test]
fn every_operation_takes_the_token_and_none_has_a_published_cost() {
    for (id, operation) in klear::OperationId::all().zip(klear::OPERATIONS) {
        assert_eq!((id.operation(), klear::OperationId::of(operation)), (operation, Some(id)));
        assert_eq!((operation.access, operation.alternatives.len()), (Access::Bearer, 0));
        assert_eq!(operation.cost.lane, Lane::Clearing);
        assert_eq!(operation.typed_id(), None);
        assert!(matches!(operation.tag, "margin" | "fcm"), "{}", operation.tag);
    }
}
