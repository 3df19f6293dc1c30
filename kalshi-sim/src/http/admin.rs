//! The admin API: what no member can do, over HTTP on a port of its own, for programs in any
//! language. Everything is `POST` with a JSON body but for the reads.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State as Extract, rejection::JsonRejection},
    response::{IntoResponse as _, Response as HttpResponse},
    routing::{get, post},
};
use http::StatusCode;
use kalshi_types::{Dollars, PriceRange};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    control::{ControlError, MarketOutcome, MarketPlan},
    faults::Fault,
    http::response::Response,
    shared::Shared,
    state::limits::Tier,
    stream::{
        faults::{Ending, StreamFaults},
        hub::LinkState,
    },
};

type Body<T> = Result<Json<T>, JsonRejection>;
type Api = Extract<Arc<Shared>>;

pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/clock", get(clock))
        .route("/clock/freeze", post(freeze_clock))
        .route("/clock/resume", post(resume_clock))
        .route("/clock/advance", post(advance))
        .route("/markets", post(list))
        .route("/markets/{ticker}/determine", post(determine))
        .route("/markets/{ticker}/dispute", post(dispute))
        .route("/markets/{ticker}/pause", post(pause))
        .route("/markets/{ticker}/resume", post(resume))
        .route("/markets/{ticker}/close", post(close))
        .route("/markets/{ticker}/grid", post(grid))
        .route("/markets/{ticker}/metadata", post(metadata))
        .route("/shards/{index}", post(shard))
        .route("/deposits", post(deposit))
        .route("/tiers", post(tier))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/stream_faults", post(stream_faults))
        .route("/streams/cut", post(cut))
        .route("/streams/silence", post(silence))
        .route("/streams/restart", post(restart))
        .route("/streams/end", post(end))
        .route("/requests", get(requests))
        .route("/audit", get(audit))
        .with_state(Arc::clone(shared))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[serde(default)]
    seconds: u64,
    #[serde(default)]
    millis: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Determine {
    /// `yes`, `no` or `scalar`.
    result: String,
    value: Option<Dollars>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    in_seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    yes_sub_title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grid {
    price_level_structure: String,
    price_ranges: Vec<PriceRange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    exchange_active: bool,
    trading_active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deposit {
    /// Of the member: a key of theirs.
    key_id: String,
    amount_dollars: Dollars,
    #[serde(default)]
    exchange_index: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetTier {
    key_id: String,
    tier: Tier,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    #[serde(default)]
    down_for_millis: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    ending: Ending,
}

async fn clock(Extract(shared): Api) -> HttpResponse {
    answer(Ok(json!({"now": shared.now()})))
}

async fn freeze_clock(Extract(shared): Api) -> HttpResponse {
    shared.clock.freeze();
    answer(Ok(json!({"now": shared.now()})))
}

async fn resume_clock(Extract(shared): Api) -> HttpResponse {
    shared.clock.resume();
    answer(Ok(json!({"now": shared.now()})))
}

async fn advance(Extract(shared): Api, body: Body<Advance>) -> HttpResponse {
    with(body, |Advance { seconds, millis }| {
        let by = Duration::from_secs(seconds).saturating_add(Duration::from_millis(millis));
        shared.advance(by).map(|()| json!({"now": shared.now()}))
    })
}

async fn list(Extract(shared): Api, body: Body<MarketPlan>) -> HttpResponse {
    with(body, |plan| shared.list(plan).map(done))
}

async fn determine(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Determine>,
) -> HttpResponse {
    with(body, |body| {
        let outcome = match (body.result.as_str(), body.value) {
            ("yes", None) => MarketOutcome::Yes,
            ("no", None) => MarketOutcome::No,
            ("scalar", Some(value)) => MarketOutcome::Scalar(value),
            _ => return Err(wrong("result is yes, no, or scalar with a value")),
        };
        shared.determine(&ticker, outcome).map(done)
    })
}

async fn dispute(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.dispute(&ticker).map(done))
}

async fn pause(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.pause(&ticker, true).map(done))
}

async fn resume(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.pause(&ticker, false).map(done))
}

async fn close(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Close>,
) -> HttpResponse {
    with(body, |body| shared.close_in(&ticker, body.in_seconds).map(done))
}

async fn metadata(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Metadata>,
) -> HttpResponse {
    with(body, |body| shared.set_yes_sub_title(&ticker, &body.yes_sub_title).map(done))
}

async fn grid(Extract(shared): Api, Path(ticker): Path<String>, body: Body<Grid>) -> HttpResponse {
    with(body, |body| {
        shared.set_grid(&ticker, &body.price_level_structure, body.price_ranges).map(done)
    })
}

async fn shard(Extract(shared): Api, Path(index): Path<u8>, body: Body<Shard>) -> HttpResponse {
    with(body, |body| shared.set_shard(index, body.exchange_active, body.trading_active).map(done))
}

async fn deposit(Extract(shared): Api, body: Body<Deposit>) -> HttpResponse {
    with(body, |body| {
        let account = shared.account_of(&body.key_id).ok_or_else(|| wrong("no such key"))?;
        shared.deposit(account, body.exchange_index, body.amount_dollars).map(done)
    })
}

async fn tier(Extract(shared): Api, body: Body<SetTier>) -> HttpResponse {
    with(body, |body| {
        let account = shared.account_of(&body.key_id).ok_or_else(|| wrong("no such key"))?;
        shared.state().limits.set_tier(account, body.tier);
        Ok(json!({}))
    })
}

async fn faults(Extract(shared): Api) -> HttpResponse {
    answer(Ok(json!({"faults": shared.faults().reports()})))
}

async fn add_fault(Extract(shared): Api, body: Body<Fault>) -> HttpResponse {
    with(body, |fault| shared.add_fault(fault).map(done))
}

async fn clear_faults(Extract(shared): Api) -> HttpResponse {
    shared.faults().clear();
    answer(Ok(json!({})))
}

async fn stream_faults(Extract(shared): Api, body: Body<StreamFaults>) -> HttpResponse {
    with(body, |faults| {
        shared.streams.set_faults(None, faults);
        Ok(json!({}))
    })
}

async fn cut(Extract(shared): Api) -> HttpResponse {
    shared.streams.set_link_state(None, LinkState::Cut);
    answer(Ok(json!({})))
}

async fn silence(Extract(shared): Api) -> HttpResponse {
    shared.streams.set_link_state(None, LinkState::Silent);
    answer(Ok(json!({})))
}

async fn restart(Extract(shared): Api, body: Body<Restart>) -> HttpResponse {
    with(body, |body| {
        shared.streams.restart(None, Duration::from_millis(body.down_for_millis));
        Ok(json!({}))
    })
}

async fn end(Extract(shared): Api, body: Body<End>) -> HttpResponse {
    with(body, |body| {
        shared.streams.end(None, body.ending);
        Ok(json!({}))
    })
}

async fn requests(Extract(shared): Api) -> HttpResponse {
    let rows: Vec<Value> = shared
        .log()
        .iter()
        .map(|request| {
            json!({
                "operation": request.operation,
                "method": request.method.as_str(),
                "path": request.path,
                "query": request.query,
                "signed": request.signed,
            })
        })
        .collect();
    answer(Ok(json!({"requests": rows})))
}

async fn audit(Extract(shared): Api) -> HttpResponse {
    match shared.audit() {
        Ok(()) => answer(Ok(json!({"sound": true}))),
        Err(wrong) => {
            let body = json!({"sound": false, "wrong": wrong});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}

fn with<T>(body: Body<T>, act: impl FnOnce(T) -> Result<Value, ControlError>) -> HttpResponse {
    match body {
        Ok(Json(body)) => answer(act(body)),
        Err(rejection) => answer(Err(wrong(rejection.body_text()))),
    }
}

fn done((): ()) -> Value {
    json!({})
}

fn wrong(words: impl Into<std::borrow::Cow<'static, str>>) -> ControlError {
    crate::engine::types::Refusal::parameters(words).into()
}

fn answer(outcome: Result<Value, ControlError>) -> HttpResponse {
    match outcome {
        Ok(body) => Json(body).into_response(),
        Err(error) => Response::from(error.refusal).into_response(),
    }
}
