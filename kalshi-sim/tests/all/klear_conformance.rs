//! Goes over the operation table of the clearing house as over those of the exchange: every operation
//! gets a sound request, and every answer is held against the published document.

use std::time::Duration;

use http::Method;
use kalshi_sdk::klear::{OPERATIONS, OperationId};
use kalshi_sim::{CorporateAction, Role};
use serde_json::{Value, json};

use crate::{
    contract::Contract,
    operation_conformance::{
        Document, Step, Walker, look_for_nothing, page_through, step_of, walk,
    },
    perps_conformance,
};

const TICKER: &str = "KXSIMCOINPERP";
const SHARE: &str = "KXSIMSHAREPERP";

fn step(id: OperationId) -> Step {
    // Of an FCM member, who may ask for everything.
    step_of(id.operation()).by(Role::FcmMember)
}

/// Returns a walker of an exchange on which the member has traded, been paid a dividend, and been
/// through two settlements, the second of which leaves an obligation that is not paid.
async fn walker() -> Walker {
    let mut walker = perps_conformance::trading_walker().await;
    let exchange = &walker.exchange;
    exchange.clock().freeze();
    let per_contract = "0.25".parse().expect("dollars");
    let dividend = CorporateAction::CashDividend { per_contract };
    exchange.perps().announce(SHARE, dividend, Duration::from_secs(60)).expect("it is announced");
    for step in perps_conformance::order_steps() {
        walker.take(&step).await;
    }
    let (_, share) =
        walker.ask(&Method::GET, &format!("/margin/markets/{SHARE}"), "", None, None).await;
    let ask = share.expect("a market")["market"]["ask"].clone();
    for (role, count) in [(Role::Trader, "20"), (Role::Maker, "30")] {
        let order = json!({
            "ticker": SHARE, "client_order_id": "share", "side": "bid", "count": count,
            "price": ask, "time_in_force": "immediate_or_cancel",
            "self_trade_prevention_type": "taker_at_cross",
        });
        let path = "/margin/orders";
        let (status, body) = walker.ask(&Method::POST, path, "", Some(&order), Some(role)).await;
        assert_eq!(status, 201, "{body:?}");
    }
    let subtrader = json!({"subtrader_suffix": "klear", "require_category_cap": true});
    let path = "/margin/fcm/subtraders";
    let (_, made) =
        walker.ask(&Method::POST, path, "", Some(&subtrader), Some(Role::FcmMember)).await;
    walker.learn_from(&[("subtrader_id", "/subtrader_id")], made.as_ref());
    let exchange = &walker.exchange;
    let half = Duration::from_secs(12 * 3_600);
    for _ in 0..3 {
        exchange.clock().advance(half).expect("it moves");
    }
    // Worth less than the member has, by the mark that settlements go by alone.
    exchange
        .perps()
        .set_settlement_mark(TICKER, "0.01".parse().expect("dollars"))
        .expect("a market");
    exchange.klear().contribute(Role::Trader, "9000.00".parse().expect("dollars")).expect("cash");
    let fall = "1.00".parse().expect("dollars");
    exchange.perps().set_settlement_mark(SHARE, fall).expect("a market");
    let settlement = exchange.klear().next_settlement();
    exchange.clock().advance(half * 2).expect("it moves");
    let today = settlement.date_naive();
    for (fact, value) in [
        ("today", today.to_string()),
        ("before", (today - chrono::Duration::days(30)).to_string()),
        ("settlement", settlement.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
    ] {
        walker.facts.insert(fact.to_owned(), value);
    }
    walker.base = exchange.klear().base_url();
    // An obligation that has each of its parts.
    let path = "/margin/obligation_history";
    let (_, history) = walker.ask(&Method::GET, path, "", None, Some(Role::Trader)).await;
    let history = history.expect("a page");
    let has_all = |row: &&Value| {
        let is_something = |part| row[part].as_array().is_some_and(|rows| !rows.is_empty());
        ["settlement_details", "funding_payments", "corporate_action_payments"]
            .into_iter()
            .all(is_something)
    };
    let mut obligations = history["obligations"].as_array().into_iter().flatten();
    let found = obligations.find(has_all).and_then(|row| row["id"].as_str());
    walker.facts.insert("obligation_id".to_owned(), found.expect("an obligation").to_owned());
    walker
}

fn document() -> Document {
    Document {
        contract: Contract::of_klear(),
        operations: OPERATIONS,
        steps: steps(),
        preparation: Vec::new(),
        lists: 7,
    }
}

fn steps() -> Vec<Step> {
    let mut steps = read_steps();
    steps.extend(fcm_steps());
    steps
}

fn read_steps() -> Vec<Step> {
    let portfolio = json!({
        "asset_class": "Equities",
        "clearing_type": "SelfClearing",
        "date": "{today}",
        "positions": [
            {"market_ticker": SHARE, "quantity": -20, "price": "180.00"},
            {"market_ticker": SHARE, "quantity": 50},
        ],
    });
    vec![
        step(OperationId::GetActiveMarginObligations),
        step(OperationId::GetObligationHistory),
        step(OperationId::GetObligationSettlementDetails),
        step(OperationId::GetObligationMaintenanceMarginDetails),
        step(OperationId::GetObligationFundingPayments),
        step(OperationId::GetObligationCorporateActionPayments),
        step(OperationId::GetMemberFundingPayments).query("funding_time={settlement}"),
        step(OperationId::GetMemberFundingPayments)
            .query("funding_time={settlement}&market_ticker={ticker}&limit=10000"),
        step(OperationId::GetMarginFundingSchedule).query("asset_class=Crypto"),
        step(OperationId::GetSettlementPrices)
            .query("asset_class=Crypto&settlement_time={settlement}"),
        step(OperationId::GetSettlementPrices)
            .query("asset_class=Energy&settlement_time={settlement}"),
        step(OperationId::GetLargeTraderPositions),
        step(OperationId::GetLargeTraderPositions).query("report_date={before}"),
        step(OperationId::EstimatePortfolioMaintenanceMargin).body(portfolio),
        step(OperationId::GetMaintenanceMarginMetadata).query("asset_class=Metals&date={today}"),
        step(OperationId::GetSettlementEstimateByAssetClass),
        step(OperationId::GetFundingEstimateByAssetClass),
        step(OperationId::GetSettlementBalance),
        step(OperationId::GetSettlementBalanceHistory),
        step(OperationId::GetGuarantyFundBalance),
        // Of the member that owes nothing.
        step(OperationId::WithdrawSettlementBalance)
            .by(Role::Maker)
            .body(json!({"amount": "12.34"}))
            .keep("id", "/id"),
        step(OperationId::GetSettlementBalanceWithdrawal).by(Role::Maker).query("id={id}"),
        step(OperationId::GetMarginReports).query("start_date={before}&end_date={today}"),
    ]
}

fn fcm_steps() -> Vec<Step> {
    let subtraders = json!({"subtrader_ids": ["{subtrader_id}"]});
    vec![
        step(OperationId::CreateMarginSubtraderGroup)
            .body(subtraders.clone())
            .keep("group_id", "/group_id"),
        step(OperationId::GetMarginSubtraderGroups),
        step(OperationId::UpdateMarginSubtraderGroup).body(subtraders),
        step(OperationId::DeleteMarginSubtraderGroup),
        step(OperationId::CreateMarginFcmApiKey).body(json!({
            "name": "walk", "public_key": "{public_key}", "fcm_subtrader_id": "{subtrader_id}",
        })),
        step(OperationId::GenerateMarginFcmApiKey)
            .body(json!({"name": "walk", "fcm_subtrader_id": "{subtrader_id}"}))
            .keep("api_key_id", "/api_key_id"),
        step(OperationId::ListMarginFcmApiKeys).query("fcm_subtrader_id={subtrader_id}"),
        step(OperationId::DeleteMarginFcmApiKey),
    ]
}

#[tokio::test]
async fn every_operation_of_the_clearing_house_answers_a_sound_request_as_published() {
    let mut walker = walker().await;
    walk(&mut walker, document()).await;
    walker.exchange.audit().expect("it adds up");
}

#[tokio::test]
async fn lists_of_the_clearing_house_page_through_all_rows_once() {
    let mut walker = walker().await;
    for step in read_steps() {
        walker.take(&step).await;
    }
    page_through(&mut walker, document()).await;
}

#[tokio::test]
async fn what_does_not_exist_in_the_clearing_house_is_not_found_and_needs_a_token() {
    let mut walker = walker().await;
    for step in read_steps() {
        walker.take(&step).await;
    }
    look_for_nothing(&mut walker, document()).await;
}
