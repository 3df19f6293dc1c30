//! Goes over the operation table of perpetual futures as over that of event contracts: every operation
//! gets a sound request, and every answer is held against the published document.

use http::Method;
use kalshi_sdk::perps::{OPERATIONS, OperationId};
use kalshi_sim::{CorporateAction, Exchange, Role};
use serde_json::json;

use crate::{
    contract::Contract,
    operation_conformance::{
        Document, Step, Walker, look_for_nothing, page_through, step_of, walk,
    },
};

const TICKER: &str = "KXSIMCOINPERP";

fn step(id: OperationId) -> Step {
    step_of(id.operation())
}

/// Returns a walker on an exchange with corporate actions to come.
pub(crate) async fn walker() -> Walker {
    let walker = trading_walker().await;
    announce(&walker.exchange);
    walker
}

/// Returns a walker that knows the market that it asks about, and prices around its mark.
pub(crate) async fn trading_walker() -> Walker {
    let mut walker = Walker::start().await;
    let (status, body) =
        walker.ask(&Method::GET, &format!("/margin/markets/{TICKER}"), "", None, None).await;
    assert_eq!(status, 200);
    let found = [
        ("ticker", "/market/ticker"),
        ("market_id", "/market/market_id"),
        ("bid", "/market/bid"),
        ("ask", "/market/ask"),
    ];
    walker.learn_from(&found, body.as_ref());
    walker
}

/// Announces a corporate action of each kind, one of which is called off.
fn announce(exchange: &Exchange) {
    let day = std::time::Duration::from_secs(86_400);
    let cash = "0.25".parse().expect("dollars");
    for action in [
        CorporateAction::CashDividend { per_contract: cash },
        CorporateAction::SpecialDividend { per_contract: cash },
        CorporateAction::SpinOff { per_contract: cash },
        CorporateAction::StockSplit { old: 1, new: 4 },
        CorporateAction::TickerChange { new: "KXOTHERPERP".to_owned() },
        CorporateAction::FinalSettlement { per_contract: cash, reason: "merger".to_owned() },
    ] {
        exchange.perps().announce("KXSIMSHAREPERP", action, day).expect("it is announced");
    }
    let off = CorporateAction::CashDividend { per_contract: cash };
    let off = exchange.perps().announce("KXSIMSHAREPERP", off, day).expect("it is announced");
    exchange.perps().call_off(&off).expect("it is to come");
    exchange.perps().call_off(&off).expect_err("it was called off");
}

fn order(side: &str, price: &str, id: &str) -> serde_json::Value {
    json!({
        "ticker": "{ticker}",
        "client_order_id": id,
        "side": side,
        "count": "4.00",
        "price": price,
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
        "market_version": 1,
    })
}

fn document() -> Document {
    Document {
        contract: Contract::of_perps(),
        operations: OPERATIONS,
        steps: steps(),
        preparation: order_steps(),
        lists: 3,
    }
}

pub(crate) fn steps() -> Vec<Step> {
    let mut steps = market_steps();
    steps.extend(order_steps());
    steps.extend(account_steps());
    steps.extend(trigger_steps());
    steps.extend(fcm_steps());
    steps
}

fn market_steps() -> Vec<Step> {
    let range = "start_ts={start}&end_ts={end}&period_interval=60&include_latest_before_start=true";
    let window = "ticker={ticker}&start_ts={start}&end_ts={start}";
    vec![
        step(OperationId::GetMarginExchangeStatus),
        step(OperationId::GetMarginEnabled),
        step(OperationId::GetPerpsAccountApiLimits),
        step(OperationId::GetMarginMarkets),
        step(OperationId::GetMarginMarkets).query("status=active"),
        step(OperationId::GetMarginMarket),
        step(OperationId::GetMarginMarketOrderbook).query("depth=3&aggregation_tick_size=0.50"),
        step(OperationId::GetMarginMarketOrderbooks).query("tickers={ticker},KXSIMMETALPERP"),
        step(OperationId::GetMarginMarketCandlesticks).query(range),
        step(OperationId::GetMarginTrades),
        step(OperationId::GetMarginTrades).query("ticker={ticker}&limit=5"),
        step(OperationId::GetMarginFundingRateEstimate).query("ticker={ticker}"),
        step(OperationId::GetMarginHistoricalFundingRates).query("ticker={ticker}"),
        step(OperationId::GetMarginPremiumIndex).query(window),
        step(OperationId::GetMarginCorporateActions),
        step(OperationId::GetMarginCorporateActions).query("market_id={market_id}"),
        step(OperationId::GetMarginRiskParameters),
    ]
}

pub(crate) fn order_steps() -> Vec<Step> {
    let keep = |step: Step| step.keep("order_id", "/order_id");
    let in_group = {
        let mut body = order("bid", "{bid}", "in a group");
        body["order_group_id"] = json!("{order_group_id}");
        body
    };
    vec![
        step(OperationId::CreateMarginOrderGroup)
            .body(json!({"contracts_limit": 50}))
            .keep("order_group_id", "/order_group_id"),
        step(OperationId::CreateMarginOrder).body(order("bid", "{ask}", "takes")),
        step(OperationId::CreateMarginOrder).body(order("ask", "{bid}", "closes")),
        step(OperationId::CreateMarginOrder).body(order("bid", "{ask}", "takes again")),
        keep(step(OperationId::CreateMarginOrder).body(order("bid", "{bid}", "rests"))),
        step(OperationId::GetMarginOrder),
        step(OperationId::AmendMarginOrder)
            .body(json!({"side": "bid", "price": "{bid}", "count": "3", "ticker": "{ticker}"})),
        step(OperationId::DecreaseMarginOrder).body(json!({"reduce_to": "1.00"})),
        step(OperationId::CancelMarginOrder),
        step(OperationId::CreateMarginOrder).body(in_group),
        step(OperationId::GetMarginOrders),
        step(OperationId::GetMarginOrders).query("status=executed&ticker={ticker}"),
        step(OperationId::GetMarginOrderGroups),
        step(OperationId::GetMarginOrderGroup),
        step(OperationId::UpdateMarginOrderGroupLimit).body(json!({"contracts_limit_fp": "60.00"})),
        step(OperationId::TriggerMarginOrderGroup).body(json!({})),
        step(OperationId::ResetMarginOrderGroup).body(json!({})),
        step(OperationId::DeleteMarginOrderGroup),
        step(OperationId::CancelAllMarginOrders),
    ]
}

fn account_steps() -> Vec<Step> {
    vec![
        step(OperationId::GetMarginBalance),
        step(OperationId::GetMarginBalance).query("compute_available_balance=true"),
        step(OperationId::GetMarginPositions),
        step(OperationId::GetMarginFills),
        step(OperationId::GetMarginRisk),
        step(OperationId::GetMarginNotionalRiskLimit),
        step(OperationId::GetMarginFeeTiers),
        step(OperationId::GetMarginFeeTierRates),
        step(OperationId::GetMarginFundingHistory)
            .query("start_date=2026-01-01&end_date=2036-12-31"),
        step(OperationId::CreateMarginSubaccount),
        step(OperationId::ApplyMarginSubaccountTransfer).body(json!({
            "client_transfer_id": "0b0e1f7a-52f5-4d9c-9d2b-0123456789ab",
            "from_subaccount": 0,
            "to_subaccount": 1,
            "amount_cents": 1_000,
        })),
        step(OperationId::IntraExchangeInstanceTransfer).body(json!({
            "client_transfer_id": "1b0e1f7a-52f5-4d9c-9d2b-0123456789ab",
            "source": "margined",
            "destination": "event_contract",
            "amount": 1_000,
        })),
    ]
}

fn trigger_steps() -> Vec<Step> {
    vec![
        step(OperationId::SetCrossMarginExitTrigger)
            .body(json!({"take_profit_price": "900.00"}))
            .keep("trigger_id", "/id"),
        step(OperationId::UpdateCrossMarginExitTrigger)
            .body(json!({"take_profit_price": "901.00"})),
        step(OperationId::GetCrossMarginExitTriggers).query("kind=bracket"),
        step(OperationId::DeleteCrossMarginExitTriggerById),
        step(OperationId::SetCrossMarginExitTrigger).body(json!({
            "kind": "trailing",
            "trail_amount": "10.00",
            "count": "1",
            "client_trigger_id": "part",
        })),
        step(OperationId::DeleteCrossMarginExitTrigger),
        step(OperationId::SetIsolatedMarginExitTrigger).body(json!({"trail_bps": 2_000})),
        step(OperationId::GetIsolatedMarginExitTriggers),
        step(OperationId::DeleteIsolatedMarginExitTrigger).query("kind=trailing"),
    ]
}

fn fcm_steps() -> Vec<Step> {
    vec![
        step(OperationId::CreateMarginFcmSubtrader)
            .body(json!({"subtrader_suffix": "walk", "require_category_cap": false}))
            .keep("subtrader_id", "/subtrader_id"),
        step(OperationId::UpdateFcmSubtraderRiskControls).body(json!({
            "subtrader_id": "{subtrader_id}",
            "im_cap": "1000.00",
            "market_ticker": "{ticker}",
        })),
        step(OperationId::UpdateFcmSubtraderRiskControls).body(json!({
            "subtrader_id": "{subtrader_id}",
            "im_cap": "5000.00",
            "asset_class": "Metals",
        })),
        step(OperationId::UpdateFcmNotionalRiskLimit)
            .body(json!({"notional_value_risk_limit": "1000000.00"})),
        step(OperationId::GetFcmSubtraderRiskControls),
        step(OperationId::DeleteFcmSubtraderRiskControls)
            .query("subtrader_id={subtrader_id}&market_ticker={ticker}"),
        step(OperationId::DeleteFcmNotionalRiskLimit),
    ]
}

#[tokio::test]
async fn every_operation_of_perps_answers_a_sound_request_as_published() {
    let mut walker = walker().await;
    walk(&mut walker, document()).await;
    walker.exchange.audit().expect("it adds up");
    // The member holds something, so that the reads of it have shown rows.
    let held = walker.exchange.perps().position(Role::Trader, TICKER);
    assert_eq!(held, Some("4.00".parse().expect("a count")));
}

#[tokio::test]
async fn lists_of_perps_page_through_all_rows_once() {
    page_through(&mut walker().await, document()).await;
}

#[tokio::test]
async fn what_does_not_exist_in_perps_is_not_found_and_needs_a_signature() {
    look_for_nothing(&mut walker().await, document()).await;
}
