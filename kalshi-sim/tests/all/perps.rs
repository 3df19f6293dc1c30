//! Perpetual futures by the client: orders, margin, money, saved states, faults.

use std::time::Duration;

use kalshi_sdk::perps::{
    OperationId, is_market_version_mismatch,
    types::{BookSide, CreateMarginOrderRequest, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{CorporateAction, Exchange, Fault, FaultKind, PerpsMarketPlan, Role};

use crate::status;

const TICKER: &str = "KXTESTPERP";

/// Starts an exchange with a market in which a contract is worth 50 dollars, without orders.
async fn exchange() -> Exchange {
    let exchange = Exchange::start().await.expect("it starts");
    exchange.perps().list(PerpsMarketPlan::new(TICKER, dollars("50.00"))).expect("it is listed");
    exchange
}

fn dollars(text: &str) -> kalshi_sdk::Dollars {
    text.parse().expect("dollars")
}

async fn place(
    exchange: &Exchange,
    role: Role,
    id: &str,
    side: BookSide,
    price: &str,
    count: &str,
) -> Result<kalshi_sdk::perps::types::CreateMarginOrderResponse, kalshi_sdk::Error> {
    let client = exchange.client(role)?;
    let order = CreateMarginOrderRequest::builder()
        .ticker(TICKER)
        .client_order_id(id)
        .side(side)
        .count(count)
        .price(price)
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .market_version(1);
    Ok(client.perps().create_margin_order().body(order).send().await?.into_inner())
}

#[tokio::test]
async fn two_members_trade_and_a_mark_liquidates_one_of_them() {
    let exchange = exchange().await;
    place(&exchange, Role::Maker, "a", BookSide::Ask, "50.00", "1000").await.expect("it rests");
    let bought = place(&exchange, Role::Trader, "b", BookSide::Bid, "50.00", "1000").await;
    assert_eq!(bought.expect("it trades").fill_count, "1000".parse().expect("a count"));
    place(&exchange, Role::Maker, "c", BookSide::Bid, "42.00", "1000").await.expect("it rests");
    exchange.perps().set_mark(TICKER, dollars("42.00")).expect("the market is there");
    let held = exchange.perps().position(Role::Trader, TICKER).expect("a member");
    assert!(held.is_zero(), "{held}");
    let client = exchange.client(Role::Trader).expect("it is sound");
    let orders = client.perps().get_margin_orders().send().await.expect("orders").into_inner();
    let liquidation = orders.orders.iter().find(|order| order.order_reason.is_some());
    assert_eq!(liquidation.expect("a system order").price, dollars("0.01"));
    // 10,000 − 25 of the first fee − 8,000 of loss − 21 of the second.
    let balance = client.perps().balance().await.expect("a balance");
    assert_eq!(balance.settled_funds, dollars("1954.00"));
    exchange.audit().expect("it adds up");
}

#[tokio::test]
async fn funding_is_paid_when_the_clock_passes_its_hour() {
    let exchange = exchange().await;
    exchange.clock().freeze();
    place(&exchange, Role::Maker, "a", BookSide::Ask, "50.00", "10").await.expect("it rests");
    place(&exchange, Role::Trader, "b", BookSide::Bid, "50.00", "10").await.expect("it trades");
    // Once to the next hour of funding, and through a whole period with a premium of a percent.
    let client = exchange.client(Role::Trader).expect("it is sound");
    exchange.clock().advance(Duration::from_secs(9 * 3_600)).expect("it moves");
    exchange.perps().set_settlement_mark(TICKER, dollars("50.50")).expect("it is there");
    exchange.clock().advance(Duration::from_secs(18 * 3_600)).expect("it moves");
    let history = client
        .perps()
        .get_margin_funding_history()
        .start_date(chrono::NaiveDate::from_ymd_opt(2026, 1, 1).expect("a day"))
        .end_date(chrono::NaiveDate::from_ymd_opt(2036, 12, 31).expect("a day"))
        .send()
        .await
        .expect("a history")
        .into_inner()
        .funding_history;
    // 10 × 50.50 × 0.01, for a full period.
    assert_eq!(history[0].funding_amount, dollars("-5.05"), "{history:?}");
    assert!(history.last().expect("the first").funding_amount.is_zero());
    exchange.audit().expect("it adds up");
}

#[tokio::test]
async fn an_order_for_the_contract_before_a_split_is_refused() {
    let exchange = exchange().await;
    let split = CorporateAction::StockSplit { old: 1, new: 2 };
    exchange.perps().announce(TICKER, split, Duration::ZERO).expect("it is announced");
    let halted = place(&exchange, Role::Trader, "a", BookSide::Bid, "25.00", "1").await;
    assert_eq!(halted.expect_err("it is halted").code(), Some("MARKET_INACTIVE"));
    exchange.clock().advance(Duration::from_secs(60)).expect("it moves");
    let stale = place(&exchange, Role::Trader, "b", BookSide::Bid, "25.00", "1").await;
    assert!(is_market_version_mismatch(&stale.expect_err("it is stale")));
}

#[tokio::test]
async fn a_member_is_enabled_and_faults_hit_operations_of_perps() {
    let exchange = exchange().await;
    let client = exchange.client(Role::Trader).expect("it is sound");
    exchange.perps().set_enabled(Role::Trader, false).expect("a member");
    assert!(!client.perps().enabled().await.expect("an answer"));
    let refused = client.perps().balance().await.expect_err("it is not enabled");
    assert_eq!(status(&refused), 403);
    exchange.perps().set_enabled(Role::Trader, true).expect("a member");
    let lost = Fault::builder(FaultKind::ResetAfter)
        .with_perps_operation(OperationId::CreateMarginOrder)
        .with_times(1)
        .build();
    let json = serde_json::to_string(&lost).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Fault>(&json).expect("a fault"), lost);
    exchange.faults().add(lost).expect("it is sound");
    assert!(client.get_balance().send().await.is_ok(), "it is not hit");
    let cut = place(&exchange, Role::Trader, "a", BookSide::Bid, "49.00", "1").await;
    assert_eq!(cut.expect_err("it is cut").effect(), kalshi_sdk::Effect::Unknown);
    // It was carried out.
    let again = place(&exchange, Role::Trader, "a", BookSide::Bid, "49.00", "1").await;
    assert!(again.expect_err("it is there").is_conflict());
    exchange.faults().assert_all_hit();
    // One that names no operation hits both products.
    exchange.faults().add(Fault::builder(FaultKind::TooManyRequests).build()).expect("it is sound");
    assert!(client.perps().balance().await.is_err_and(|error| error.is_rate_limited()));
    assert!(client.get_balance().send().await.is_err_and(|error| error.is_rate_limited()));
}

#[tokio::test]
async fn a_saved_state_has_the_positions_and_orders_of_perps() {
    let file = std::env::temp_dir().join(format!("kalshi-sim-perps-{}", std::process::id()));
    let before = {
        let exchange = exchange().await;
        place(&exchange, Role::Maker, "a", BookSide::Ask, "50.00", "7").await.expect("it rests");
        place(&exchange, Role::Trader, "b", BookSide::Bid, "50.00", "5").await.expect("it trades");
        exchange.save(&file).expect("it is saved");
        let client = exchange.client(Role::Trader).expect("it is sound");
        client.perps().balance_with_available().await.expect("a balance")
    };
    let loaded = Exchange::builder().with_state_file(&file).start().await.expect("it starts");
    std::fs::remove_file(&file).expect("it is there");
    let client = loaded.client(Role::Trader).expect("it is sound");
    let after = client.perps().balance_with_available().await.expect("a balance");
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    let book = client.perps().get_margin_market_orderbook().ticker(TICKER).send().await;
    let ask = book.expect("a book").orderbook.best_ask().expect("two are left");
    assert_eq!(ask.count, "2".parse().expect("a count"));
    loaded.audit().expect("it adds up");
}
