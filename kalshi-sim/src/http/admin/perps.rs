//! The part of the admin API that is about perpetual futures.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State as Extract},
    response::Response as HttpResponse,
    routing,
};
use kalshi_types::Dollars;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::{Api, Body, answer, done, routes, with, wrong};
use crate::{
    perps::control::{CorporateAction, MarkChange, PerpsMarketPlan},
    shared::Shared,
};

/// The most commands of the market makers in one request.
const MAX_COMMANDS: u64 = 100_000;

routes! {
    get "/perps" overview ""
        "Returns the next funding, whether trading goes on, and what the insurance fund holds.";
    post "/perps/markets" list
        r#"{"ticker": "KXAPERP", "reference": "50000.00", "contract_size_millionths": 1000}"#
        "Lists a market of perpetual futures, which trades at once.";
    post "/perps/markets/{ticker}/marks" set_marks
        r#"{"settlement_mark": "64.00", "liquidation_mark": "64.00", "reference": "64000.00"}"#
        "Sets the marks and the reference price that are given; a reference of null takes it away.";
    post "/perps/markets/{ticker}/pause" pause "" "Pauses a market of perpetual futures.";
    post "/perps/markets/{ticker}/resume" resume "" "Lets a paused market trade again.";
    post "/perps/markets/{ticker}/actions" announce
        r#"{"action": {"type": "cash_dividend", "per_contract": "0.50"}, "in_seconds": 60}"#
        "Announces a corporate action. Returns the id of its notice.";
    delete "/perps/actions/{id}" call_off "" "Calls a corporate action off that is to come.";
    post "/perps/trading" set_trading r#"{"active": true}"#
        "Pauses trading in all markets of perpetual futures, or lets it go on.";
    post "/perps/fund" fund ""
        "Moves the exchange's time to the next funding, which is paid.";
    post "/perps/deposits" deposit r#"{"key_id": "…", "amount_dollars": "10.00"}"#
        "Pays cash into the primary subaccount of the member of a key.";
    post "/perps/members" set_enabled r#"{"key_id": "…", "enabled": true}"#
        "Lets the member of a key trade perpetual futures, or not.";
    post "/perps/traders" run_traders r#"{"commands": 100}"#
        "Lets the market makers send commands, 100,000 at most.";
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Marks {
    settlement_mark: Option<Dollars>,
    liquidation_mark: Option<Dollars>,
    #[serde(default, deserialize_with = "given")]
    #[expect(clippy::option_option, reason = "left alone, taken away and set are three things")]
    reference: Option<Option<Dollars>>,
}

/// Reads a field that is there, so that null is told from none.
#[expect(clippy::option_option, reason = "left alone, taken away and set are three things")]
fn given<'de, D>(deserializer: D) -> Result<Option<Option<Dollars>>, D::Error>
where
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Announce {
    action: CorporateAction,
    #[serde(default)]
    in_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trading {
    active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deposit {
    /// Of the member: a key of theirs.
    key_id: String,
    amount_dollars: Dollars,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enable {
    key_id: String,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Traders {
    commands: u64,
}

async fn overview(Extract(shared): Api) -> HttpResponse {
    let next = shared.next_funding();
    let state = shared.state();
    let engine = &state.perps.engine;
    answer(Ok(json!({
        "next_funding_time": next,
        "trading_active": engine.is_trading(),
        "insurance_fund_dollars": engine.insurance,
    })))
}

async fn list(Extract(shared): Api, body: Body<PerpsMarketPlan>) -> HttpResponse {
    with(body, |plan| shared.list_perps(plan).map(done))
}

async fn set_marks(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Marks>,
) -> HttpResponse {
    with(body, |Marks { settlement_mark, liquidation_mark, reference }| {
        let change =
            MarkChange { settlement: settlement_mark, liquidation: liquidation_mark, reference };
        if change == MarkChange::default() {
            return Err(wrong("name settlement_mark, liquidation_mark or reference"));
        }
        shared.change_marks(&ticker, change).map(done)
    })
}

async fn pause(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.on_perps(|engine, now| engine.set_paused(&ticker, true, now)).map(done))
}

async fn resume(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.on_perps(|engine, now| engine.set_paused(&ticker, false, now)).map(done))
}

async fn announce(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Announce>,
) -> HttpResponse {
    with(body, |Announce { action, in_seconds }| {
        let id = shared.announce(&ticker, action, Duration::from_secs(in_seconds))?;
        Ok(json!({"id": id}))
    })
}

async fn call_off(Extract(shared): Api, Path(id): Path<String>) -> HttpResponse {
    answer(shared.call_off(&id).map(done))
}

async fn set_trading(Extract(shared): Api, body: Body<Trading>) -> HttpResponse {
    with(body, |Trading { active }| {
        shared.set_perps_trading(active)?;
        Ok(json!({}))
    })
}

async fn fund(Extract(shared): Api) -> HttpResponse {
    answer(shared.advance_to_funding().map(|now| json!({"now": now})))
}

async fn deposit(Extract(shared): Api, body: Body<Deposit>) -> HttpResponse {
    with(body, |Deposit { key_id, amount_dollars }| {
        let account = shared.account_of(&key_id).ok_or_else(|| wrong("no such key"))?;
        shared.on_perps(|engine, now| engine.deposit(account, amount_dollars, now)).map(done)
    })
}

async fn set_enabled(Extract(shared): Api, body: Body<Enable>) -> HttpResponse {
    with(body, |Enable { key_id, enabled }| {
        let account = shared.account_of(&key_id).ok_or_else(|| wrong("no such key"))?;
        shared.set_perps_enabled(account, enabled).map(done)
    })
}

async fn run_traders(Extract(shared): Api, body: Body<Traders>) -> HttpResponse {
    with(body, |Traders { commands }| {
        if commands > MAX_COMMANDS {
            return Err(wrong("commands must be 100,000 at most"));
        }
        Ok(json!({"carried_out": shared.run_perps_traders(commands)}))
    })
}
