//! Orders: what is placed trades, rests, changes, goes, and is read back as it was said.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;

use kalshi_auth::Credentials;
use kalshi_sdk::{
    Client, Count, Dollars,
    request::Complete,
    types::{
        AmendOrderV2Request, ApiKeyType, BatchCancelOrdersV2Request, BatchCreateOrdersV2Request,
        BookSide, CreateOrderGroupRequest, CreateOrderV2Request, CreateOrderV2Response,
        DecreaseOrderV2Request, GenerateApiKeyRequest, GetMarketsStatus, Market, Order,
        OrderStatus, UpdateOrderGroupLimitRequest,
    },
};
use kalshi_sim::{Exchange, Role, Tier};
use serde_json::{Value, json};

use crate::{client_with, status};

/// Returns the first open market of a series, with a book on both sides.
async fn open_market(client: &Client, series: &str) -> Market {
    let open = client.get_markets().series_ticker(series).status(GetMarketsStatus::Open);
    open.send().await.unwrap().into_inner().markets.remove(0)
}

fn order(market: &Market, side: BookSide, price: Dollars) -> Complete<CreateOrderV2Request> {
    CreateOrderV2Request::builder()
        .ticker(&*market.ticker)
        .side(side)
        .count("10.00")
        .price(price)
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("taker_at_cross")
}

/// Returns a bid that is on every grid and far below the market.
fn low() -> Dollars {
    "0.0100".parse().unwrap()
}

async fn place(client: &Client, order: Complete<CreateOrderV2Request>) -> CreateOrderV2Response {
    client.create_order_v2().body(order).send().await.unwrap().into_inner()
}

async fn read(client: &Client, id: &str) -> Order {
    client.get_order().order_id(id).send().await.unwrap().into_inner().order
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}

/// Returns a client whose key may use one subaccount.
async fn bound(exchange: &Exchange, owner: &Client, subaccount: i64) -> Client {
    let new = GenerateApiKeyRequest::builder()
        .name("bound")
        .key_type(ApiKeyType::Ed25519)
        .subaccount(subaccount);
    let made = owner.generate_api_key().body(new).send().await.unwrap().into_inner();
    let credentials = Credentials::from_pem(&made.api_key_id, made.private_key.expose()).unwrap();
    client_with(exchange, credentials)
}

#[tokio::test]
async fn an_order_rests_and_every_read_says_the_same_of_it() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let placed = place(&client, order(&market, BookSide::Bid, low()).client_order_id("one")).await;
    assert_eq!((placed.fill_count, placed.remaining_count), (Count::ZERO, count("10")));
    assert_eq!(placed.client_order_id.as_deref(), Some("one"));
    assert_eq!((placed.average_fill_price, placed.average_fee_paid), (None, None));
    let read = read(&client, &placed.order_id).await;
    assert_eq!(read.status, OrderStatus::Resting);
    assert_eq!((read.yes_price_dollars, read.no_price_dollars), (low(), "0.99".parse().unwrap()));
    assert_eq!((read.remaining_count_fp, read.initial_count_fp), (count("10"), count("10")));
    assert_eq!((read.client_order_id.as_str(), read.subaccount_number), ("one", Some(0)));
    let listed = client.get_orders().status("resting").send().await.unwrap().into_inner().orders;
    assert_eq!(listed, [read]);
    let book = client.get_market_orderbook().ticker(&*market.ticker).send().await.unwrap();
    let worst = book.orderbook_fp.yes_dollars[0];
    assert_eq!((worst.price, worst.count), (low(), count("10")));
}

#[tokio::test]
async fn an_order_that_crosses_says_what_it_paid() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let ask = market.yes_ask_dollars;
    let before = client.get_balance().send().await.unwrap().balance_dollars;
    let buy = order(&market, BookSide::Bid, ask).count("1").time_in_force("fill_or_kill");
    let done = place(&client, buy).await;
    assert_eq!((done.fill_count, done.remaining_count), (Count::ONE, Count::ZERO));
    assert_eq!(done.average_fill_price, Some(ask));
    let read = read(&client, &done.order_id).await;
    assert_eq!(read.status, OrderStatus::Executed);
    assert_eq!(read.taker_fill_cost_dollars, ask);
    assert_eq!(Some(read.taker_fees_dollars), done.average_fee_paid);
    let after = client.get_balance().send().await.unwrap().balance_dollars;
    let paid = ask.checked_add(read.taker_fees_dollars).unwrap();
    assert_eq!(before.checked_sub(after), Some(paid));
}

#[tokio::test]
async fn what_cannot_be_an_order_is_refused_by_name_and_leaves_nothing() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let good = json!({
        "ticker": market.ticker, "side": "bid", "count": "1.00", "price": "0.0100",
        "time_in_force": "good_till_canceled", "self_trade_prevention_type": "maker",
    });
    for (field, value, code, word) in [
        ("count", json!(1), "invalid_parameters", "count"),
        ("count", json!("1.001"), "invalid_parameters", "count"),
        ("count", json!("0"), "invalid_order_size", "count"),
        ("count", json!("-1"), "invalid_order_size", "count"),
        ("count", json!("100000001"), "invalid_order_size", "count"),
        ("count", json!("9".repeat(400)), "invalid_parameters", "count"),
        ("price", json!("0.0155"), "invalid_price", "grid"),
        ("price", json!("1.00"), "invalid_price", "grid"),
        ("price", json!("-0.01"), "invalid_price", "grid"),
        ("price", json!("cheap"), "invalid_parameters", "price"),
        ("price", json!(null), "invalid_parameters", "price"),
        ("side", json!("buy"), "invalid_parameters", "side"),
        ("time_in_force", json!("gtc"), "invalid_parameters", "time_in_force"),
        ("self_trade_prevention_type", json!("none"), "invalid_parameters", "self_trade"),
        ("expiration_time", json!(1), "invalid_parameters", "expiration_time"),
        ("expiration_time", json!(i64::MAX), "invalid_parameters", "expiration_time"),
        ("expiration_time", json!(1.5), "invalid_parameters", "expiration_time"),
        ("post_only", json!("yes"), "invalid_parameters", "post_only"),
        ("subaccount", json!(64), "invalid_parameters", "subaccount"),
        ("exchange_index", json!(101), "not_found", "market"),
        ("subaccount", json!(7), "not_found", "subaccount"),
        ("order_group_id", json!("none"), "not_found", "group"),
        ("ticker", json!("NONE"), "not_found", "market"),
        ("reduce_olny", json!(true), "invalid_parameters", "reduce_olny"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let request = client.raw(http::Method::POST, "/portfolio/events/orders").json(&body);
        let error = request.send::<Value>().await.unwrap_err();
        let expected = if code == "not_found" { 404 } else { 400 };
        assert_eq!((status(&error), error.code()), (expected, Some(code)), "{body}");
        assert!(error.message().unwrap().contains(word), "{word}: {error}");
    }
    assert!(client.get_orders().send().await.unwrap().orders.is_empty());
}

#[tokio::test]
async fn a_client_order_id_is_taken_once() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let new = || order(&market, BookSide::Bid, low()).client_order_id("once");
    place(&client, new()).await;
    let error = client.create_order_v2().body(new()).send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (409, Some("order_already_exists")));
    assert_eq!(client.get_orders().send().await.unwrap().orders.len(), 1);
}

#[tokio::test]
async fn a_post_only_order_that_crosses_is_accepted_and_canceled() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let crossing = || order(&market, BookSide::Bid, market.yes_ask_dollars).post_only(true);
    let placed = place(&client, crossing()).await;
    assert_eq!((placed.fill_count, placed.remaining_count), (Count::ZERO, Count::ZERO));
    assert_eq!(read(&client, &placed.order_id).await.status, OrderStatus::Canceled);
    let orders: Vec<CreateOrderV2Request> = vec![
        crossing().client_order_id("crosses").try_into().unwrap(),
        order(&market, BookSide::Bid, low()).client_order_id("rests").try_into().unwrap(),
        order(&market, BookSide::Bid, low()).count("0").try_into().unwrap(),
    ];
    let batch = BatchCreateOrdersV2Request::builder().orders(orders);
    let rows = client.batch_create_orders_v2().body(batch).send().await.unwrap().into_inner();
    let [crossed, rests, empty] = rows.orders.as_slice() else { panic!("{rows:?}") };
    let error = crossed.error.as_ref().unwrap();
    assert_eq!(error.message.as_deref(), Some("post only cross"));
    assert_eq!(crossed.client_order_id.as_deref(), Some("crosses"));
    assert!(rests.error.is_none());
    assert_eq!(rests.remaining_count, Some(count("10")));
    assert_eq!(empty.error.as_ref().unwrap().code.as_deref(), Some("invalid_order_size"));
}

#[tokio::test]
async fn an_amend_keeps_its_place_only_when_the_order_shrinks() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let first = place(&client, order(&market, BookSide::Bid, low())).await.order_id;
    let second = place(&client, order(&market, BookSide::Bid, low())).await.order_id;
    let better: Count = {
        let book = client.get_market_orderbook().ticker(&*market.ticker).send().await.unwrap();
        let levels = &book.orderbook_fp.yes_dollars;
        levels
            .iter()
            .filter(|level| level.price > low())
            .map(|level| level.count)
            .sum::<Option<Count>>()
            .unwrap()
    };
    let ahead = async |id: &str| {
        let at = client.get_order_queue_position().order_id(id).send().await.unwrap();
        at.queue_position_fp.checked_sub(better).unwrap()
    };
    assert_eq!((ahead(&first).await, ahead(&second).await), (Count::ZERO, count("10")));
    let change = |total: &str| {
        AmendOrderV2Request::builder()
            .ticker(&*market.ticker)
            .side(BookSide::Bid)
            .price(low())
            .count(total)
    };
    let amend = async |total: &str| {
        let sent = client.amend_order_v2().order_id(&*first).body(change(total)).send();
        sent.await.unwrap().into_inner()
    };
    let shrunk = amend("4.50").await;
    assert_eq!(
        (shrunk.remaining_count, shrunk.fill_count),
        (Some(count("4.5")), Some(Count::ZERO))
    );
    assert_eq!((ahead(&first).await, ahead(&second).await), (Count::ZERO, count("4.5")));
    let same = amend("4.50").await;
    assert_eq!((same.remaining_count, same.fill_count), (None, None));
    assert_eq!(ahead(&first).await, Count::ZERO);
    amend("20").await;
    assert_eq!((ahead(&first).await, ahead(&second).await), (count("10"), Count::ZERO));
    let all = client.get_order_queue_positions().send().await.unwrap().into_inner();
    assert_eq!(all.queue_positions.len(), 2);
    for (change, code) in [
        (change("1").side(BookSide::Ask), "order_side_mismatch"),
        (change("1").client_order_id("other"), "order_id_and_client_order_id_mismatch"),
        (change("-1"), "INVALID_AMEND_QTY_FOR_ORDER"),
    ] {
        let error = client.amend_order_v2().order_id(&*first).body(change).send().await;
        assert_eq!(error.unwrap_err().code(), Some(code));
    }
    // The id that an order has may be given to it again; another's may not.
    let third = order(&market, BookSide::Bid, low()).client_order_id("third");
    place(&client, third).await;
    for (id, expected) in [("mine", 200), ("mine", 200), ("third", 409)] {
        let change = change("20").updated_client_order_id(id);
        let sent = client.amend_order_v2().order_id(&*first).body(change).send().await;
        assert_eq!(sent.as_ref().map_or_else(status, |done| done.status().as_u16()), expected);
    }
    // A total of what has been filled, here nothing, cancels.
    assert_eq!(amend("0").await.remaining_count, Some(Count::ZERO));
    assert_eq!(read(&client, &first).await.status, OrderStatus::Canceled);
}

#[tokio::test]
async fn an_amend_that_crosses_trades() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let id = place(&client, order(&market, BookSide::Bid, low()).count("1")).await.order_id;
    let change = AmendOrderV2Request::builder()
        .ticker(&*market.ticker)
        .side(BookSide::Bid)
        .price(market.yes_ask_dollars)
        .count("1")
        .updated_client_order_id("renamed");
    let done = client.amend_order_v2().order_id(&*id).body(change).send().await.unwrap();
    assert_eq!((done.fill_count, done.remaining_count), (Some(Count::ONE), Some(Count::ZERO)));
    assert_eq!(done.average_fill_price, Some(market.yes_ask_dollars));
    assert_eq!(done.client_order_id.as_deref(), Some("renamed"));
}

#[tokio::test]
async fn decreases_and_cancels_say_what_is_left_and_what_is_gone() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let id = place(&client, order(&market, BookSide::Bid, low())).await.order_id;
    let decrease = async |body: Complete<DecreaseOrderV2Request>| {
        let sent = client.decrease_order_v2().order_id(&*id).body(body).send().await;
        sent.map(|done| done.remaining_count)
    };
    let new = DecreaseOrderV2Request::builder;
    assert_eq!(decrease(new().reduce_by("0.25")).await.unwrap(), count("9.75"));
    assert_eq!(decrease(new().reduce_to("3")).await.unwrap(), count("3"));
    for wrong in [new(), new().reduce_by("1").reduce_to("1"), new().reduce_by("3.01")] {
        assert_eq!(status(&decrease(wrong).await.unwrap_err()), 400);
    }
    let gone = client.cancel_order_v2().order_id(&*id).send().await.unwrap();
    assert_eq!((gone.reduced_by, gone.order_id.as_str()), (count("3"), id.as_str()));
    let again = client.cancel_order_v2().order_id(&*id).send().await.unwrap_err();
    assert!(again.is_not_found());
    let unknown = client.cancel_order_v2().order_id("unknown").send().await.unwrap_err();
    assert!(unknown.is_not_found());
    let id = place(&client, order(&market, BookSide::Bid, low())).await.order_id;
    let batch = json!({"orders": [{"order_id": "unknown"}, {"order_id": id}]});
    let batch: BatchCancelOrdersV2Request = serde_json::from_value(batch).unwrap();
    let rows = client.batch_cancel_orders_v2().body(batch).send().await.unwrap().into_inner();
    assert_eq!(rows.orders[0].error.as_ref().unwrap().code.as_deref(), Some("not_found"));
    assert_eq!(
        (rows.orders[0].order_id.as_str(), rows.orders[0].reduced_by),
        ("unknown", Count::ZERO)
    );
    assert_eq!((rows.orders[1].error.is_none(), rows.orders[1].reduced_by), (true, count("10")));
    for _ in 0..3 {
        place(&client, order(&market, BookSide::Bid, low())).await;
    }
    client.cancel_all_orders().send().await.unwrap();
    assert!(client.get_orders().status("resting").send().await.unwrap().orders.is_empty());
}

#[tokio::test]
async fn c7_reduce_only_goes_with_immediate_or_cancel_only() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let bid = |time_in_force: &'static str| {
        order(&market, BookSide::Bid, low()).reduce_only(true).time_in_force(time_in_force)
    };
    for time_in_force in ["good_till_canceled", "fill_or_kill"] {
        let error = client.create_order_v2().body(bid(time_in_force)).send().await.unwrap_err();
        assert_eq!((status(&error), error.code()), (400, Some("invalid_parameters")));
    }
    let none = client.get_orders().send().await.unwrap();
    assert!(none.orders.is_empty(), "nothing was entered");
    // There is nothing to reduce, so it ends at once.
    let placed = place(&client, bid("immediate_or_cancel")).await;
    assert_eq!((placed.fill_count, placed.remaining_count), (Count::ZERO, Count::ZERO));
}

#[tokio::test]
async fn c8_cancel_all_is_for_direct_members() {
    let exchange = Exchange::start().await.unwrap();
    let member = exchange.client(Role::FcmMember).unwrap();
    assert!(member.cancel_all_orders().send().await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn s5_the_upgrade_wants_a_body_and_this_client_sends_one() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let path = "/account/api_usage_level/upgrade";
    let bare = client.raw(http::Method::POST, path).send::<Value>().await.unwrap_err();
    assert_eq!((status(&bare), bare.code()), (400, Some("invalid_content_type")));
    // Past that check, what counts is whether an order came through the API.
    let error = client.upgrade_account_api_usage_level().send().await.unwrap_err();
    assert!(error.is_forbidden(), "{error}");
}

#[tokio::test]
async fn a_cancel_by_id_alone_looks_on_the_default_shard_only() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMCOIN").await;
    assert_eq!(market.exchange_index.clone().map(i64::from), Some(2));
    let id = place(&client, order(&market, BookSide::Bid, low())).await.order_id;
    let cancel = || client.cancel_order_v2().order_id(&*id);
    assert!(cancel().send().await.unwrap_err().is_not_found());
    let auto = cancel().exchange_index(-1).send().await.unwrap_err();
    assert_eq!(status(&auto), 400);
    assert!(cancel().exchange_index(1).send().await.unwrap_err().is_not_found());
    cancel().market_ticker(&*market.ticker).send().await.unwrap();
}

#[tokio::test]
async fn pages_of_orders_stay_whole_while_more_are_placed() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let rate = open_market(&client, "KXSIMRATE").await;
    let coin = open_market(&client, "KXSIMCOIN").await;
    for _ in 0..5 {
        place(&client, order(&rate, BookSide::Bid, low())).await;
        place(&client, order(&coin, BookSide::Bid, low())).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut request = client.get_orders().limit(3);
        if !cursor.is_empty() {
            request = request.cursor(&*cursor);
        }
        let page = request.send().await.unwrap().into_inner();
        seen.extend(page.orders.into_iter().map(|order| order.order_id));
        cursor = page.cursor.unwrap_or_default();
        if cursor.is_empty() {
            break;
        }
        place(&client, order(&rate, BookSide::Bid, low())).await;
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 10);
    let of = async |events: &str| {
        let events: Vec<&str> = events.split(',').collect();
        client.get_orders().event_ticker(events).send().await.unwrap().orders.len()
    };
    assert_eq!(of(&coin.event_ticker).await, 5);
    assert_eq!(of(&format!("{},{}", coin.event_ticker, rate.event_ticker)).await, 13);
    let hundred = format!("{},{}", ["E"; 99].join(","), coin.event_ticker);
    assert_eq!(of(&hundred).await, 5, "c6: a hundred of them");
    let shard = client.get_orders().exchange_index(2).send().await.unwrap();
    assert_eq!(shard.orders.len(), 5);
    let path = "/portfolio/orders";
    let too_many = ["E"; 101].join(",");
    for query in [
        json!({"event_ticker": too_many}),
        json!({"status": "open"}),
        json!({"exchange_index": -1}),
        json!({"limit": 1001}),
        json!({"cursor": "x"}),
        json!({"min_ts": "today"}),
        json!({"subaccount": 64}),
    ] {
        let error = client.raw(http::Method::GET, path).query(&query).send::<Value>().await;
        assert_eq!(status(&error.unwrap_err()), 400, "{query}");
    }
}

#[tokio::test]
async fn a_restricted_key_trades_in_its_own_subaccount_and_nowhere_else() {
    let exchange = Exchange::start().await.unwrap();
    let owner = exchange.client(Role::Trader).unwrap();
    let market = open_market(&owner, "KXSIMRATE").await;
    let primary = place(&owner, order(&market, BookSide::Bid, low())).await.order_id;
    let restricted = bound(&exchange, &owner, 0).await;
    let own = place(&restricted, order(&market, BookSide::Bid, low())).await.order_id;
    assert_eq!(read(&restricted, &primary).await.order_id, primary);
    let foreign = order(&market, BookSide::Bid, low()).subaccount(1);
    let error = restricted.create_order_v2().body(foreign.clone()).send().await.unwrap_err();
    assert!(error.is_forbidden());
    let batch: Vec<CreateOrderV2Request> =
        vec![order(&market, BookSide::Bid, low()).try_into().unwrap(), foreign.try_into().unwrap()];
    let batch = BatchCreateOrdersV2Request::builder().orders(batch);
    let error = restricted.batch_create_orders_v2().body(batch).send().await.unwrap_err();
    assert!(error.is_forbidden());
    assert_eq!(owner.get_orders().send().await.unwrap().orders.len(), 2);
    let other = bound(&exchange, &owner, 5).await;
    assert!(other.get_order().order_id(&*own).send().await.unwrap_err().is_not_found());
    assert!(other.cancel_order_v2().order_id(&*own).send().await.unwrap_err().is_not_found());
    other.cancel_all_orders().send().await.unwrap();
    assert_eq!(read(&owner, &own).await.status, OrderStatus::Resting);
    assert!(other.get_orders().send().await.unwrap().orders.is_empty());
    assert!(other.get_orders().subaccount(0).send().await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn a_triggered_group_cancels_its_orders_and_keeps_new_ones_out_until_reset() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client, "KXSIMRATE").await;
    let new = CreateOrderGroupRequest::builder().contracts_limit(100);
    let group = client.create_order_group().body(new).send().await.unwrap().into_inner();
    let id = group.order_group_id.as_str();
    assert_eq!(group.subaccount, 0);
    let placed = place(&client, order(&market, BookSide::Bid, low()).order_group_id(id)).await;
    let shown = client.get_order_group().order_group_id(id).send().await.unwrap();
    assert_eq!(shown.orders, [placed.order_id.as_str()]);
    assert_eq!(shown.contracts_limit_fp, Some(count("100")));
    client.trigger_order_group().order_group_id(id).send().await.unwrap();
    assert_eq!(read(&client, &placed.order_id).await.status, OrderStatus::Canceled);
    let again = || order(&market, BookSide::Bid, low()).order_group_id(id);
    let error = client.create_order_v2().body(again()).send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (400, Some("order_group_triggered")));
    client.reset_order_group().order_group_id(id).send().await.unwrap();
    let placed = place(&client, again()).await;
    let limit = UpdateOrderGroupLimitRequest::builder().contracts_limit_fp(count("1.50"));
    client.update_order_group_limit().order_group_id(id).body(limit).send().await.unwrap();
    let listed = client.get_order_groups().send().await.unwrap().into_inner().order_groups;
    assert_eq!((listed.len(), listed[0].contracts_limit_fp), (1, Some(count("1.5"))));
    // Two contracts in one match exceed the limit; the match itself is not cut.
    let sell = order(&market, BookSide::Ask, market.yes_bid_dollars).count("2").order_group_id(id);
    assert_eq!(place(&client, sell).await.fill_count, count("2"));
    assert_eq!(read(&client, &placed.order_id).await.status, OrderStatus::Canceled);
    let wrong = client.delete_order_group().order_group_id(id).exchange_index(1).send().await;
    assert!(wrong.unwrap_err().is_not_found());
    client.delete_order_group().order_group_id(id).send().await.unwrap();
    assert!(client.get_order_group().order_group_id(id).send().await.unwrap_err().is_not_found());
    for body in [
        json!({}),
        json!({"contracts_limit": 5, "contracts_limit_fp": "6.00"}),
        json!({"contracts_limit": 0}),
        json!({"contracts_limit": 1_000_001}),
        json!({"contracts_limit": i64::MAX}),
        json!({"contracts_limit": 5, "exchange_index": -1}),
        json!({"contracts_limit": 5, "exchange_index": 9}),
        json!({"contract_limit": 5}),
    ] {
        let request = client.raw(http::Method::POST, "/portfolio/order_groups/create").json(&body);
        assert_eq!(status(&request.send::<Value>().await.unwrap_err()), 400, "{body}");
    }
}

#[tokio::test]
async fn the_upgrade_needs_an_order_through_the_api_and_shows_in_the_limits() {
    let exchange = Exchange::builder().with_tier(Tier::Basic).start().await.unwrap();
    let client = exchange.client(Role::Maker).unwrap();
    let level = async |client: &Client| {
        let limits = client.get_account_api_limits().send().await.unwrap().into_inner();
        (limits.usage_tier.clone(), limits.write.refill_rate)
    };
    assert_eq!(level(&client).await.0, "basic");
    let error = client.upgrade_account_api_usage_level().send().await.unwrap_err();
    assert_eq!(status(&error), 403);

    let market = open_market(&client, "KXSIMRATE").await;
    place(&client, order(&market, BookSide::Bid, low())).await;
    for _ in 0..2 {
        client.upgrade_account_api_usage_level().send().await.unwrap();
        assert_eq!(level(&client).await, ("advanced".to_owned(), 300));
    }
    let other = exchange.client(Role::Trader).unwrap();
    assert_eq!(level(&other).await.0, "basic");
}
