//! Cash, positions, fills, subaccounts, transfers.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{sync::Arc, time::Duration};

use kalshi_auth::{Credentials, KeyType, ManualClock, UnixMillis, server::KeyPair};
use kalshi_sdk::{
    Client, Count, Dollars,
    request::Complete,
    types::{
        ApiKeyType, ApplySubaccountTransferRequest, BookSide, CreateOrderV2Request,
        CreateOrderV2Response, CreateSubaccountRequest, ExchangeInstance, GenerateApiKeyRequest,
        GetMarketsStatus, IntraExchangeInstanceTransferRequest,
        IntraExchangeInstanceTransferStatus, Market, SetTargetBalanceAllocationRequest,
        TargetBalanceAllocationInput, UpdateSubaccountNettingRequest,
    },
};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};

use crate::{client_with, status};

/// Ids that clients give to their transfers.
const IDS: [&str; 3] = [
    "6b1f0a3e-0000-4000-8000-000000000001",
    "6b1f0a3e-0000-4000-8000-000000000002",
    "6b1f0a3e-0000-4000-8000-000000000003",
];

async fn open_markets(client: &Client, series: &str) -> Vec<Market> {
    let open = client.get_markets().series_ticker(series).status(GetMarketsStatus::Open);
    open.send().await.unwrap().into_inner().markets
}

fn order(market: &Market, side: BookSide, count: &str) -> Complete<CreateOrderV2Request> {
    let price = if side == BookSide::Bid { market.yes_ask_dollars } else { market.yes_bid_dollars };
    CreateOrderV2Request::builder()
        .ticker(&*market.ticker)
        .side(side)
        .count(count)
        .price(price)
        .time_in_force("immediate_or_cancel")
        .self_trade_prevention_type("maker")
}

async fn place(client: &Client, order: Complete<CreateOrderV2Request>) -> CreateOrderV2Response {
    client.create_order_v2().body(order).send().await.unwrap().into_inner()
}

fn dollars(text: &str) -> Dollars {
    text.parse().unwrap()
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}

/// Returns the balance of one subaccount on one shard.
async fn cash(client: &Client, subaccount: i64, shard: i64) -> Dollars {
    let request = client.get_balance().subaccount(subaccount).exchange_index(shard);
    request.send().await.unwrap().balance_dollars
}

async fn post(client: &Client, path: &str, body: &Value) -> (u16, String) {
    let error = client.raw(http::Method::POST, path).json(body).send::<Value>().await.unwrap_err();
    (status(&error), error.code().unwrap_or_default().to_owned())
}

/// Returns the id of a transfer between shards or instances that is accepted.
async fn accepted(client: &Client, body: &Value) -> String {
    let path = "/portfolio/intra_exchange_instance_transfer";
    let answer = client.raw(http::Method::POST, path).json(body).send::<Value>().await.unwrap();
    answer["transfer_id"].as_str().unwrap().to_owned()
}

fn between(from: i64, to: i64, cents: i64, id: &str) -> Complete<ApplySubaccountTransferRequest> {
    ApplySubaccountTransferRequest::builder()
        .client_transfer_id(id)
        .from_subaccount(from)
        .to_subaccount(to)
        .amount_cents(cents)
}

#[tokio::test]
async fn a_start_has_ten_thousand_dollars_on_each_shard_and_payments_in_both_directions() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let balance = client.get_balance().send().await.unwrap().into_inner();
    assert_eq!(balance.balance_dollars, dollars("40000"));
    assert_eq!((balance.balance, balance.portfolio_value), (4_000_000, 4_000_000));
    assert_eq!(balance.balance_breakdown.len(), 4);
    let paid_in = client.get_deposits().limit(2).stream().try_collect().await.unwrap();
    let paid_out = client.get_withdrawals().stream().try_collect().await.unwrap();
    // One to each shard, and one that came back; what trades had made of them was evened out later.
    assert!(paid_in.len() >= 5 && !paid_out.is_empty());
    for shard in 0..4 {
        assert_eq!(cash(&client, 0, shard).await, dollars("10000"));
    }
}

#[tokio::test]
async fn a_trade_is_the_same_in_fills_positions_tape_and_balance() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let markets = open_markets(&client, "KXSIMRATE").await;
    let (first, second) = (&markets[0], &markets[1]);
    assert_eq!(first.event_ticker, second.event_ticker);
    let before = cash(&client, 0, 0).await;
    let bought = place(&client, order(first, BookSide::Bid, "1.50")).await;
    assert_eq!(bought.fill_count, count("1.5"));
    let sold = place(&client, order(second, BookSide::Ask, "2")).await;
    let fills = client.get_fills().send().await.unwrap().into_inner().fills;
    assert_eq!(fills.len(), 2);
    assert_eq!((&*fills[0].ticker, &*fills[1].ticker), (&*second.ticker, &*first.ticker));
    assert!(fills.iter().all(|fill| fill.is_taker && fill.fill_id == fill.trade_id));
    let tape = client.get_trades().ticker(&*first.ticker).limit(1).send().await.unwrap();
    assert_eq!(tape.trades[0].trade_id, fills[1].trade_id);
    let of_one = client.get_fills().order_id(&*sold.order_id).send().await.unwrap();
    assert_eq!(of_one.fills, fills[..1]);
    let both = client.get_fills().ticker([&*first.ticker, &*second.ticker]).limit(1).stream();
    assert_eq!(both.try_collect().await.unwrap(), fills);

    let held = client.get_positions().send().await.unwrap().into_inner();
    let [yes, no] = held.market_positions.as_slice() else { panic!("{held:?}") };
    assert_eq!((yes.position_fp, no.position_fp), (count("1.5"), count("-2")));
    let yes_cost = first.yes_ask_dollars.checked_mul_count(count("1.5")).unwrap();
    let no_cost = second.no_ask_dollars.checked_mul_count(count("2")).unwrap();
    assert_eq!((yes.market_exposure_dollars, no.market_exposure_dollars), (yes_cost, no_cost));
    let [event] = held.event_positions.as_slice() else { panic!("{held:?}") };
    assert_eq!(event.total_cost_shares_fp, count("3.5"));
    assert_eq!(Some(event.event_exposure_dollars), yes_cost.checked_add(no_cost));
    let spent = [yes_cost, no_cost, yes.fees_paid_dollars, no.fees_paid_dollars];
    let spent = spent.into_iter().sum::<Option<Dollars>>().unwrap();
    assert_eq!(before.checked_sub(cash(&client, 0, 0).await), Some(spent));

    // Across pages the event stands once.
    let page = client.get_positions().limit(1).send().await.unwrap().into_inner();
    assert_eq!((page.market_positions.len(), page.event_positions.len()), (1, 1));
    let next = client.get_positions().limit(1).cursor(page.cursor.unwrap()).send().await.unwrap();
    assert_eq!((next.market_positions.len(), next.event_positions.len()), (1, 0));

    // Selling what was bought leaves a flat position that still counts as traded.
    place(&client, order(first, BookSide::Ask, "1.50")).await;
    let of = async |filter: &str| {
        let held = client.get_positions().count_filter(filter).send().await;
        held.unwrap().market_positions.len()
    };
    assert_eq!((of("position").await, of("total_traded").await), (1, 2));
    let flat = client.get_positions().ticker(&*first.ticker).send().await.unwrap();
    assert_eq!(flat.market_positions[0].position_fp, Count::ZERO);
    assert_eq!(flat.market_positions[0].market_exposure_dollars, Dollars::ZERO);
    let settled = client.get_settlements().ticker(&*first.ticker).send().await.unwrap();
    assert!(settled.settlements.is_empty());
}

#[tokio::test]
async fn a_resting_order_takes_from_the_balance_until_it_goes() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_markets(&client, "KXSIMRATE").await.remove(0);
    let before = cash(&client, 0, 0).await;
    let rests = CreateOrderV2Request::builder()
        .ticker(&*market.ticker)
        .side(BookSide::Bid)
        .count("100")
        .price("0.0100")
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("maker");
    let placed = place(&client, rests.clone()).await;
    assert_eq!(before.checked_sub(cash(&client, 0, 0).await), Some(Dollars::ONE));
    client.cancel_order_v2().order_id(&*placed.order_id).send().await.unwrap();
    assert_eq!(cash(&client, 0, 0).await, before);
    // What the shard does not have cannot be spent, whatever the others have.
    let error = client.create_order_v2().body(rests.count("1000001")).send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (400, Some("insufficient_balance")));
}

#[tokio::test]
async fn subaccounts_are_opened_on_a_shard_funded_and_traded_in() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_markets(&client, "KXSIMCOIN").await.remove(0);
    let open = async |shard: i64| {
        let body = CreateSubaccountRequest::builder().exchange_index(shard);
        client.create_subaccount().body(body).send().await.unwrap().subaccount_number
    };
    assert_eq!((open(0).await, open(0).await, open(2).await), (1, 2, 1));
    let move_in = |id| between(0, 1, 12_345, id).exchange_index(2);
    client.apply_subaccount_transfer().body(move_in(IDS[0])).send().await.unwrap();
    assert_eq!(cash(&client, 1, 2).await, dollars("123.45"));
    // The same id again is refused: it has been done.
    let again = client.apply_subaccount_transfer().body(move_in(IDS[0])).send().await.unwrap_err();
    assert_eq!(status(&again), 409);
    assert_eq!(cash(&client, 1, 2).await, dollars("123.45"));
    // One that was refused has not used its id up.
    for wrong in [
        between(0, 2, 100, IDS[1]).exchange_index(2),
        between(1, 0, 12_346, IDS[1]).exchange_index(2),
        between(0, 0, 1, IDS[1]),
        between(0, 1, 0, IDS[1]),
        between(0, 1, -5, IDS[1]),
        between(0, 1, i64::MAX, IDS[1]),
        between(0, 64, 1, IDS[1]),
        between(0, 1, 1, "mine"),
    ] {
        let error = client.apply_subaccount_transfer().body(wrong).send().await.unwrap_err();
        assert_eq!(status(&error), 400, "{error}");
    }
    client.apply_subaccount_transfer().body(move_in(IDS[1])).send().await.unwrap();
    let listed = client.get_subaccount_transfers().limit(1).stream().try_collect().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|row| row.amount_cents == 12_345 && row.to_subaccount == 1));

    place(&client, order(&market, BookSide::Bid, "3").subaccount(1)).await;
    let held = |subaccount| client.get_positions().subaccount(subaccount).send();
    assert_eq!(held(1).await.unwrap().market_positions[0].position_fp, count("3"));
    assert!(held(0).await.unwrap().market_positions.is_empty());
    let rows = client.get_subaccount_balances().send().await.unwrap().into_inner();
    assert_eq!(rows.subaccount_balances.len(), 7);
    assert_eq!(client.get_fills().subaccount(1).send().await.unwrap().fills.len(), 1);
    assert!(client.get_fills().subaccount(0).send().await.unwrap().fills.is_empty());
}

#[tokio::test]
async fn netting_can_be_switched_off_for_a_subaccount_and_on_again() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_markets(&client, "KXSIMRATE").await.remove(0);
    let switch = async |number: i64, enabled: bool| {
        let body =
            UpdateSubaccountNettingRequest::builder().subaccount_number(number).enabled(enabled);
        client.update_subaccount_netting().body(body).send().await.map(drop)
    };
    switch(0, false).await.unwrap();
    let rows = client.get_subaccount_netting().send().await.unwrap().into_inner().netting_configs;
    assert!(rows.len() == 4 && rows.iter().all(|row| !row.enabled));
    let before = cash(&client, 0, 0).await;
    for side in [BookSide::Bid, BookSide::Ask] {
        place(&client, order(&market, side, "1")).await;
    }
    // Both legs are held and paid for, until netting turns the pair into a dollar.
    let both = cash(&client, 0, 0).await;
    assert!(before.checked_sub(both).unwrap() >= Dollars::ONE);
    switch(0, true).await.unwrap();
    assert_eq!(cash(&client, 0, 0).await.checked_sub(both), Some(Dollars::ONE));
    assert_eq!(status(&switch(9, true).await.unwrap_err()), 400);
}

#[tokio::test]
async fn cash_moves_between_shards_and_instances_once_for_each_id() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let withdrawals = async || client.get_withdrawals().send().await.unwrap().withdrawals.len();
    let before = withdrawals().await;
    let to_shard = || {
        IntraExchangeInstanceTransferRequest::builder()
            .source(ExchangeInstance::EventContract)
            .destination(ExchangeInstance::EventContract)
            .destination_exchange_shard(2)
            .amount(250_001)
            .client_transfer_id(IDS[0])
    };
    let send = |body| client.intra_exchange_instance_transfer().body(body).send();
    // Each step takes a moment, so nothing has happened when a transfer is answered.
    exchange.clock().freeze();
    let arrive = || exchange.clock().advance(Duration::from_secs(1)).unwrap();
    let read = async |id: &str| {
        let one = client.get_intra_exchange_instance_transfer().transfer_id(id).send().await;
        one.unwrap().into_inner().transfer
    };
    let id = send(to_shard()).await.unwrap().into_inner().transfer_id;
    assert_eq!(read(&id).await.status, IntraExchangeInstanceTransferStatus::Pending);
    assert_eq!(cash(&client, 0, 0).await, dollars("10000"));
    arrive();
    assert_eq!(cash(&client, 0, 0).await, dollars("9974.9999"));
    assert_eq!(cash(&client, 0, 2).await, dollars("10025.0001"));
    assert_eq!(status(&send(to_shard()).await.unwrap_err()), 409);
    let one = read(&id).await;
    assert_eq!(one.amount, dollars("25.0001"));
    assert_eq!(one.status, IntraExchangeInstanceTransferStatus::Complete);
    assert_eq!(one.client_transfer_id.as_deref(), Some(IDS[0]));
    // To the margined exchange and back; no more comes back than there is: what went there, and with
    // perpetual futures the 10,000 dollars of the start.
    let margined = |out: bool, amount: i64| {
        let (source, destination) = if out {
            (ExchangeInstance::EventContract, ExchangeInstance::Margined)
        } else {
            (ExchangeInstance::Margined, ExchangeInstance::EventContract)
        };
        IntraExchangeInstanceTransferRequest::builder()
            .source(source)
            .destination(destination)
            .amount(amount)
    };
    send(margined(true, 10_000)).await.unwrap();
    arrive();
    assert_eq!(cash(&client, 0, 0).await, dollars("9973.9999"));
    assert_eq!(status(&send(margined(false, 100_010_001)).await.unwrap_err()), 400);
    send(margined(false, 10_000)).await.unwrap();
    arrive();
    assert_eq!(cash(&client, 0, 0).await, dollars("9974.9999"));
    let all = client.get_intra_exchange_instance_transfers().limit(2).stream();
    assert_eq!(all.try_collect().await.unwrap().len(), 3);
    // None of it is a payment, or a transfer between subaccounts.
    assert_eq!(withdrawals().await, before);
    assert!(client.get_subaccount_transfers().send().await.unwrap().transfers.is_empty());
    let path = "/portfolio/intra_exchange_instance_transfer";
    let good = json!({"source": "event_contract", "destination": "event_contract", "amount": 1});
    for (field, value) in [
        ("amount", json!(0)),
        ("amount", json!("1")),
        ("amount", json!(i64::MAX)),
        ("source", json!("casino")),
        ("destination_exchange_shard", json!(0)),
        ("destination_exchange_shard", json!(99)),
        ("destination_exchange_shard", json!(-1)),
        ("destination_subaccount", json!(5)),
        ("client_transfer_id", json!("again")),
        ("client_transfer_uuid", json!(IDS[1])),
    ] {
        let mut body = good.clone();
        body[field] = value;
        assert_eq!(post(&client, path, &body).await.0, 400, "{body}");
    }
    let missing = client.get_intra_exchange_instance_transfer().transfer_id("x").send().await;
    assert!(missing.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_target_allocation_is_met_within_ten_seconds() {
    let start = UnixMillis::from_millis(1_790_000_001_000);
    let clock = Arc::new(ManualClock::at(start));
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let exchange = Exchange::builder()
        .with_clock(clock.clone())
        .with_key(Role::Trader, "key", pair.public_key().clone())
        .start()
        .await
        .unwrap();
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(Credentials::from_pem("key", pair.private_key_pem()).unwrap())
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let none = client.get_target_balance_allocation().send().await.unwrap().into_inner();
    assert!(none.allocations.is_empty());
    let row = |shard: i64, percent: i64| {
        TargetBalanceAllocationInput::builder().exchange_index(shard).percent(percent)
    };
    let rows: Vec<TargetBalanceAllocationInput> =
        [row(0, 75), row(2, 25)].map(|row| row.try_into().unwrap()).to_vec();
    let body = SetTargetBalanceAllocationRequest::builder().allocations(rows);
    client.set_target_balance_allocation().body(body).send().await.unwrap();
    let set = client.get_target_balance_allocation().send().await.unwrap().into_inner();
    assert_eq!(set.allocations.len(), 2);
    assert_eq!(set.resting_margin_reservation.as_str(), "sum");
    clock.advance(Duration::from_secs(8));
    assert_eq!(cash(&client, 0, 0).await, dollars("10000"));
    clock.advance(Duration::from_secs(1));
    let mut spread = Vec::new();
    for shard in 0..4 {
        spread.push(cash(&client, 0, shard).await);
    }
    assert_eq!(spread, ["30000", "0", "10000", "0"].map(dollars));
    let path = "/portfolio/target_balance_allocation";
    for rows in [
        json!([{"exchange_index": 0, "percent": 99}]),
        json!([{"exchange_index": 0, "percent": 50}, {"exchange_index": 0, "percent": 50}]),
        json!([{"exchange_index": 0, "percent": 200}, {"exchange_index": 1, "percent": -100}]),
        json!([{"exchange_index": 50, "percent": 100}]),
        json!([{"exchange_index": 0}]),
    ] {
        let body = json!({"allocations": rows});
        assert_eq!(post(&client, path, &body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn c10_a_restricted_key_moves_its_own_cash_between_event_shards_only() {
    let exchange = Exchange::start().await.unwrap();
    exchange.clock().freeze();
    let owner = exchange.client(Role::Trader).unwrap();
    for shard in [0, 2] {
        let new = CreateSubaccountRequest::builder().exchange_index(shard);
        owner.create_subaccount().body(new).send().await.unwrap();
    }
    let fund = between(0, 1, 3_000, IDS[0]);
    owner.apply_subaccount_transfer().body(fund).send().await.unwrap();
    let new =
        GenerateApiKeyRequest::builder().name("bound").key_type(ApiKeyType::Ed25519).subaccount(1);
    let made = owner.generate_api_key().body(new).send().await.unwrap().into_inner();
    let pem = made.private_key.expose();
    let bound = client_with(&exchange, Credentials::from_pem(&made.api_key_id, pem).unwrap());
    let path = "/portfolio/intra_exchange_instance_transfer";
    let own = json!({
        "source": "event_contract",
        "destination": "event_contract",
        "destination_exchange_shard": 2,
        "source_subaccount": 1,
        "destination_subaccount": 1,
        "amount": 120_000,
    });
    for (field, value, code) in [
        // An omitted subaccount means the primary, which is not the key's.
        ("source_subaccount", Value::Null, 403),
        ("destination_subaccount", json!(0), 403),
        ("destination_subaccount", json!(2), 403),
        ("destination", json!("margined"), 400),
        // Ids go with primaries.
        ("client_transfer_id", json!(IDS[1]), 400),
    ] {
        let mut body = own.clone();
        body[field] = value;
        assert_eq!(post(&bound, path, &body).await.0, code, "{body}");
    }
    let margined = json!({"source": "event_contract", "destination": "margined", "amount": 1});
    assert_eq!(post(&bound, path, &margined).await.0, 403);

    let id = accepted(&bound, &own).await;
    let read = || bound.get_intra_exchange_instance_transfer().transfer_id(&*id).send();
    for expected in [
        IntraExchangeInstanceTransferStatus::Pending,
        IntraExchangeInstanceTransferStatus::Complete,
    ] {
        assert_eq!(read().await.unwrap().transfer.status, expected);
        // By way of both primaries: three steps.
        exchange.clock().advance(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(cash(&bound, 1, 0).await, dollars("18"));
    assert_eq!(cash(&bound, 1, 2).await, dollars("12"));
    // It sees nothing of the owner's.
    let other = json!({
        "source": "event_contract",
        "destination": "event_contract",
        "destination_exchange_shard": 2,
        "amount": 10_000,
        "client_transfer_id": IDS[1],
    });
    let other = accepted(&owner, &other).await;
    let hidden = bound.get_intra_exchange_instance_transfer().transfer_id(&*other).send().await;
    assert!(hidden.unwrap_err().is_not_found());
    let list = async |client: &Client| {
        client.get_intra_exchange_instance_transfers().send().await.unwrap().transfers.len()
    };
    assert_eq!((list(&bound).await, list(&owner).await), (1, 2));
}

#[tokio::test]
async fn c10_a_move_inside_a_shard_is_listed_with_the_transfers_between_subaccounts() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    client.create_subaccount().body(CreateSubaccountRequest::builder()).send().await.unwrap();
    let body = json!({
        "source": "event_contract",
        "destination": "event_contract",
        "destination_subaccount": 1,
        "amount": 120_000,
    });
    let id = accepted(&client, &body).await;
    assert_eq!(cash(&client, 1, 0).await, dollars("12"));
    let listed = client.get_subaccount_transfers().send().await.unwrap().into_inner().transfers;
    assert_eq!(listed.len(), 1);
    assert_eq!(*listed[0].transfer_id, id);
    assert_eq!(listed[0].amount_cents, 1_200);
    let others = client.get_intra_exchange_instance_transfers().send().await.unwrap();
    assert!(others.transfers.is_empty());
}

#[tokio::test]
async fn a_restricted_key_reads_its_own_and_moves_nothing() {
    let exchange = Exchange::start().await.unwrap();
    let owner = exchange.client(Role::Trader).unwrap();
    owner.create_subaccount().body(CreateSubaccountRequest::builder()).send().await.unwrap();
    let new =
        GenerateApiKeyRequest::builder().name("bound").key_type(ApiKeyType::Ed25519).subaccount(1);
    let made = owner.generate_api_key().body(new).send().await.unwrap().into_inner();
    let pem = made.private_key.expose();
    let bound = client_with(&exchange, Credentials::from_pem(&made.api_key_id, pem).unwrap());
    let balance = bound.get_balance().send().await.unwrap().into_inner();
    assert_eq!((balance.balance_dollars, balance.balance_breakdown.len()), (Dollars::ZERO, 0));
    let rows = bound.get_subaccount_balances().send().await.unwrap().into_inner();
    assert_eq!(rows.subaccount_balances.len(), 1);
    let transfer = between(0, 1, 100, IDS[0]);
    for error in [
        bound.get_balance().subaccount(0).send().await.map(drop).unwrap_err(),
        bound.get_positions().subaccount(0).send().await.map(drop).unwrap_err(),
        bound.get_deposits().send().await.map(drop).unwrap_err(),
        bound.apply_subaccount_transfer().body(transfer).send().await.map(drop).unwrap_err(),
        bound
            .create_subaccount()
            .body(CreateSubaccountRequest::builder())
            .send()
            .await
            .map(drop)
            .unwrap_err(),
        bound.get_portfolio_resting_order_total_value().send().await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_forbidden(), "{error}");
    }
}
