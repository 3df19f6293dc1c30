//! The watchdog over both products: event contracts and perpetual futures.

use std::time::Duration;

use kalshi_sdk::{
    Client,
    perps::{
        OperationId as PerpsOperationId,
        types::{
            ApplySubaccountTransferRequest, BookSide, CreateMarginOrderRequest,
            SelfTradePreventionType, TimeInForce,
        },
    },
};
use kalshi_sim::{Exchange, Fault, FaultKind, PerpsMarketPlan};
use kalshi_trade::watchdog::{Heartbeat, Scope};

use crate::watchdog::{TOKEN, exchange, place, resting, wait_until, watchdog};

pub(crate) const PERP: &str = "KXDOGPERP";

pub(crate) async fn place_perp(client: &Client, id: &str, subaccount: i64) {
    let order = CreateMarginOrderRequest::builder()
        .ticker(PERP)
        .client_order_id(id)
        .side(BookSide::Bid)
        .count("1")
        .price("40.00")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .subaccount(subaccount);
    client.perps().create_margin_order().body(order).send().await.unwrap();
}

/// The client order ids of the orders of perpetual futures that rest, sorted.
pub(crate) async fn resting_perps(client: &Client) -> Vec<String> {
    let perps = client.perps();
    let orders = perps.get_margin_orders().status("resting").ticker(PERP).all().await.unwrap();
    let mut ids: Vec<String> = orders.into_iter().map(|order| order.client_order_id).collect();
    ids.sort_unstable();
    ids
}

/// An exchange with a market of each product, and a client whose subaccount 1 has cash for perpetual
/// futures.
async fn both() -> (Exchange, Client) {
    let (exchange, client) = exchange().await;
    exchange.perps().list(PerpsMarketPlan::new(PERP, "50.00".parse().unwrap())).unwrap();
    let opened = client.perps().create_margin_subaccount().send().await.unwrap();
    assert_eq!(opened.subaccount_number, 1);
    let transfer = ApplySubaccountTransferRequest::builder()
        .client_transfer_id("00000000-0000-4000-8000-000000000001")
        .from_subaccount(0)
        .to_subaccount(1)
        .amount_cents(100_000);
    client.perps().apply_margin_subaccount_transfer().body(transfer).send().await.unwrap();
    (exchange, client)
}

#[tokio::test]
async fn orders_of_both_products_are_canceled_within_the_scope() {
    let cases: [(Scope, &[&str], &[&str]); 3] = [
        (Scope::All, &[], &[]),
        (Scope::Subaccount(1), &["by-hand", "mm1-e"], &["by-hand", "mm1-0"]),
        (Scope::Prefix("mm1-".to_owned()), &["by-hand"], &["by-hand"]),
    ];
    for (scope, events_left, perps_left) in cases {
        let (_exchange, client) = both().await;
        let (builder, _) = watchdog(&client, scope.clone());
        let watchdog = builder.with_perps().bind(0).await.unwrap();
        let (address, armed) = (watchdog.address(), watchdog.armed());
        tokio::spawn(watchdog.run());
        let silence = Duration::from_secs(60);
        let heartbeat = Heartbeat::connect(address, TOKEN, silence).await.unwrap();
        for id in ["mm1-e", "by-hand"] {
            place(&client, id).await;
        }
        for (id, subaccount) in [("mm1-0", 0), ("mm1-1", 1), ("by-hand", 0)] {
            place_perp(&client, id, subaccount).await;
        }
        drop(heartbeat);
        wait_until("it is over", async || armed.get() == 0).await;
        assert_eq!(resting(&client).await, events_left, "{scope:?}");
        assert_eq!(resting_perps(&client).await, perps_left, "{scope:?}");
    }
}

#[tokio::test]
async fn a_product_that_fails_holds_up_the_end_and_not_the_other_product() {
    let (exchange, client) = both().await;
    let (builder, _) = watchdog(&client, Scope::All);
    let watchdog = builder.with_perps().bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    tokio::spawn(watchdog.run());
    let heartbeat = Heartbeat::connect(address, TOKEN, Duration::from_secs(60)).await.unwrap();
    place(&client, "e").await;
    place_perp(&client, "p", 0).await;
    let failing = Fault::builder(FaultKind::status(503))
        .with_perps_operation(PerpsOperationId::CancelAllMarginOrders);
    exchange.faults().add(failing.build()).unwrap();
    drop(heartbeat);
    wait_until("the other is canceled", async || resting(&client).await.is_empty()).await;
    let lists = || {
        let requests = exchange.requests();
        requests.iter().filter(|one| one.operation == "get_orders").count()
    };
    // The other product goes on being looked at until both are quiet.
    let looked = lists();
    wait_until("it is looked at again", async || lists() > looked + 3).await;
    assert_eq!((armed.get(), resting_perps(&client).await.len()), (1, 1));
    exchange.faults().clear();
    wait_until("it is over", async || armed.get() == 0).await;
    assert!(resting_perps(&client).await.is_empty());
}
