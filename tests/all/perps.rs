//! Perpetual futures: the traps of the product that belong to the client.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_sdk::{
    BookSide, DriftKind, Effect, ErrorKind, OperationId,
    operation::{Bucket, Lane, RetrySafety},
    perps::{self, OrderState, is_market_version_mismatch, types},
};
use serde_json::{Value, json};

use crate::support::{Answer, Document, Fill, Generator, always, builder, client, credentials};

/// Returns a value of a schema of the document, with these fields in place of its own.
fn value_of(schema: &str, fields: &Value) -> Value {
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    let document = Document::of_lane(Lane::Perpetuals);
    let mut value = Generator::response(document, Fill::Most, 7).sample(&reference).value;
    for (name, field) in fields.as_object().unwrap() {
        value[name] = field.clone();
    }
    value
}

fn order(remaining: &str, fills: &str, reason: &str) -> types::MarginOrder {
    let fields =
        json!({"remaining_count": remaining, "fill_count": fills, "last_update_reason": reason});
    serde_json::from_value(value_of("MarginOrder", &fields)).unwrap()
}

fn market(fields: &Value) -> types::MarginMarket {
    serde_json::from_value(value_of("MarginMarket", fields)).unwrap()
}

#[test]
fn an_order_without_a_status_has_the_state_that_remains_and_the_last_reason_say() {
    for (remaining, fills, reason, state) in [
        ("5.00", "0.00", "", OrderState::Resting),
        ("0.01", "9.99", "Trade", OrderState::Resting),
        ("2.00", "0.00", "Amend", OrderState::Resting),
        ("3.00", "0.00", "reason_of_next_year", OrderState::Resting),
        ("0.00", "10.00", "Trade", OrderState::Executed),
        // Filled in part, then canceled: nothing else tells it from an executed one.
        ("0.00", "4.00", "Decrease", OrderState::Canceled),
        ("0.00", "4.00", "Amend", OrderState::Canceled),
        ("0.00", "4.00", "MarginCancel", OrderState::Canceled),
        ("0.00", "4.00", "SelfTradeCancel", OrderState::Canceled),
        ("0.00", "4.00", "ExpiryCancel", OrderState::Canceled),
        ("0.00", "4.00", "CloseCancel", OrderState::Canceled),
        ("0.00", "4.00", "HaltCancel", OrderState::Canceled),
        ("0.00", "0.00", "PostOnlyCrossCancel", OrderState::Canceled),
        ("0.00", "0.00", "ReduceOnlyCancel", OrderState::Canceled),
        // Over, and no guess how.
        ("0.00", "4.00", "reason_of_next_year", OrderState::Ended),
        ("0.00", "0.00", "", OrderState::Ended),
    ] {
        assert_eq!(order(remaining, fills, reason).state(), state, "{remaining} {reason}");
    }
}

#[test]
fn every_documented_reason_has_a_state() {
    let document = Document::of_lane(Lane::Perpetuals);
    let schema = json!({"$ref": "#/components/schemas/LastUpdateReason"});
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let reason = Generator::request(document, Fill::Any, seed).sample(&schema).value;
        let reason = reason.as_str().unwrap().to_owned();
        let state = order("0.00", "1.00", &reason).state();
        assert_eq!(state == OrderState::Ended, reason.is_empty(), "{reason:?}");
        seen.insert(reason);
    }
    assert_eq!(seen.len(), 11, "{seen:?}");
}

#[test]
fn a_book_is_sorted_by_price_in_whatever_order_it_comes() {
    let (low, middle, high) = (["99.5", "1.00"], ["100.25", "2.00"], ["60000.01", "3.00"]);
    for levels in [[low, middle, high], [high, middle, low], [middle, high, low]] {
        let book: types::MarginOrderbookCount =
            serde_json::from_value(json!({"bids": levels, "asks": levels})).unwrap();
        let texts = |levels: Vec<kalshi_sdk::PriceLevel>| -> Vec<String> {
            levels.iter().map(|level| level.count.to_string()).collect()
        };
        assert_eq!(texts(book.bids_best_first()), ["3.00", "2.00", "1.00"]);
        assert_eq!(texts(book.asks_best_first()), ["1.00", "2.00", "3.00"]);
        assert_eq!(book.best_bid(), book.bids_best_first().first().copied());
        assert_eq!(book.best_ask(), book.asks_best_first().first().copied());
    }
    let empty: types::MarginOrderbookCount =
        serde_json::from_value(json!({"bids": [], "asks": []})).unwrap();
    assert_eq!((empty.best_bid(), empty.best_ask()), (None, None));
}

#[tokio::test]
async fn a_market_without_tick_size_or_hours_is_a_market_and_no_price_is_guessed() {
    let mut bare = value_of("MarginMarket", &json!({"tick_size": "", "schedule": null}));
    let mut absent = bare.clone();
    absent.as_object_mut().unwrap().retain(|name, _| name != "tick_size" && name != "schedule");
    bare["price"] = json!("60000.01");
    let server = always(Answer::json(&json!({"markets": [bare, absent]}))).await;
    let client = client(&server.url());
    let page = client.perps().get_margin_markets().send().await.unwrap();
    assert_eq!(page.markets.len(), 2);
    for market in &page.markets {
        assert_eq!((market.tick_size, market.schedule.is_none()), (None, true));
        assert_eq!(market.floor_price("0.56".parse().unwrap()), None);
        assert_eq!(market.ceil_price("0.56".parse().unwrap()), None);
    }
    assert_eq!(page.markets[0].price.unwrap().to_string(), "60000.0100");
}

#[test]
fn prices_snap_to_the_tick_size_on_the_side_that_is_asked_for() {
    let market = market(&json!({"tick_size": "0.0500"}));
    for (price, floor, ceil) in
        [("60000.01", "60000", "60000.05"), ("1.05", "1.05", "1.05"), ("0.01", "0", "0.05")]
    {
        let price = price.parse().unwrap();
        assert_eq!(market.floor_price(price), floor.parse().ok());
        assert_eq!(market.ceil_price(price), ceil.parse().ok());
    }
}

#[test]
fn counts_are_whole_unless_the_market_trades_fractions() {
    for (fractional, count, accepted) in [
        (false, "1.00", true),
        (false, "1.50", false),
        (true, "1.50", true),
        (false, "0.00", false),
        (true, "-1.00", false),
    ] {
        let market = market(&json!({"fractional_trading_enabled": fractional}));
        assert_eq!(market.accepts_count(count.parse().unwrap()), accepted, "{count} {fractional}");
    }
}

#[tokio::test]
async fn the_cheap_balance_has_no_field_for_what_it_did_not_compute() {
    let row = value_of(
        "MarginSubaccountBalance",
        &json!({"subaccount": 0, "account_equity": "12.5000", "available_balance": "0.0000"}),
    );
    let body = json!({"subaccount_balances": [row], "settled_funds": "3.0000"});
    let server = always(Answer::json(&body)).await;
    let client = client(&server.url());
    let cheap = client.perps().balance().await.unwrap();
    assert_eq!(
        server.last().target,
        "/trade-api/v2/margin/balance?compute_available_balance=false"
    );
    assert_eq!(cheap.subaccounts[0].account_equity.to_string(), "12.5000");
    assert!(!format!("{cheap:?}").contains("available"), "{cheap:?}");
    let full = client.perps().balance_with_available().await.unwrap();
    assert_eq!(server.last().target, "/trade-api/v2/margin/balance?compute_available_balance=true");
    assert!(full.subaccount_balances[0].available_balance.is_zero());
    // The limiter knows the price of each.
    let cost = perps::OperationId::GetMarginBalance.operation().cost;
    let by_parameter = cost.by_parameter.unwrap();
    assert_eq!((cost.lane, cost.bucket, cost.tokens), (Lane::Perpetuals, Bucket::Read, 5));
    assert_eq!(
        (by_parameter.name, by_parameter.value, by_parameter.tokens),
        ("compute_available_balance", "true", 50)
    );
}

fn an_order() -> types::CreateMarginOrderRequest {
    types::CreateMarginOrderRequest::builder()
        .ticker("KXBTCPERP")
        .client_order_id("quote-17")
        .side(BookSide::Bid)
        .count("1.00")
        .price("60000.01")
        .time_in_force(types::TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(types::SelfTradePreventionType::TakerAtCross)
        .market_version(4)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_market_that_has_changed_is_told_from_a_repeated_id() {
    for (code, mismatch) in
        [("market_version_mismatch", true), ("order_already_exists", false), ("", false)]
    {
        let body = json!({"code": code, "message": "words"}).to_string();
        let server = always(Answer::new(409, body)).await;
        let client = client(&server.url());
        let error = client.perps().create_margin_order().body(an_order()).send().await.unwrap_err();
        assert_eq!(is_market_version_mismatch(&error), mismatch, "{error}");
        assert_eq!((error.is_conflict(), error.effect()), (true, Effect::Rejected));
        let sent = server.last().json();
        assert_eq!((&sent["market_version"], &sent["price"]), (&json!(4), &json!("60000.0100")));
    }
    let server = always(Answer::new(400, r#"{"code":"market_version_mismatch"}"#)).await;
    let client = client(&server.url());
    let error = client.perps().create_margin_order().body(an_order()).send().await.unwrap_err();
    assert!(!is_market_version_mismatch(&error), "only a conflict is one");
}

#[test]
fn an_order_is_safe_to_repeat_by_its_required_id() {
    let create = perps::OperationId::CreateMarginOrder.operation();
    assert_eq!(create.retry, RetrySafety::WithKey("client_order_id"));
    let schema: Value = serde_json::from_str(create.body_schema().unwrap()).unwrap();
    assert!(schema["required"].as_array().unwrap().contains(&json!("client_order_id")));
    // A replayed trigger id is answered by the first trigger: no key of which a 409 tells.
    let trigger = perps::OperationId::SetCrossMarginExitTrigger.operation();
    assert_eq!((trigger.retry, trigger.cost.bucket), (RetrySafety::Reconcile, Bucket::Write));
}

fn trigger(fields: &Value) -> types::ExitTrigger {
    serde_json::from_value(value_of("ExitTrigger", fields)).unwrap()
}

#[tokio::test]
async fn a_replayed_trigger_is_a_success_that_shows_the_first_one() {
    let request = |stop: &str, count: &str| -> types::SetCrossExitTriggerRequest {
        types::SetCrossExitTriggerRequest::builder()
            .client_trigger_id("t-1")
            .count(count)
            .stop_loss_price(stop)
            .try_into()
            .unwrap()
    };
    let asked = request("59000.00", "1.00");
    for (status, stop, count, as_requested, live) in [
        ("active", "59000.00", "1.00", true, Some(true)),
        // The first one has this id, and is over.
        ("canceled", "59000.00", "1.00", true, Some(false)),
        // The first one has this id, and other terms.
        ("active", "58000.00", "1.00", false, Some(true)),
        ("active", "59000.00", "2.00", false, Some(true)),
        ("status_of_next_year", "59000.00", "1.00", true, None),
    ] {
        let first = value_of(
            "ExitTrigger",
            &json!({
                "status": status, "client_trigger_id": "t-1", "stop_loss_price": stop,
                "count": count,
            }),
        );
        let server = always(Answer::json(&first)).await;
        let client = client(&server.url());
        let set = client.perps().set_cross_margin_exit_trigger().ticker("KXBTCPERP");
        let trigger = set.body(asked.clone()).send().await.unwrap();
        assert_eq!(
            (trigger.is_as_requested(&asked), trigger.is_live()),
            (as_requested, live),
            "{status} {stop} {count}"
        );
    }
    let whole = trigger(&json!({
        "client_trigger_id": "t-1", "stop_loss_price": "59000.00", "count": "7.00",
    }));
    assert!(whole.is_as_requested(&request("59000.00", "0.00")), "0 is the whole position");
    let other = trigger(&json!({
        "client_trigger_id": "t-2", "stop_loss_price": "59000.00", "count": "1.00",
    }));
    assert!(!other.is_as_requested(&asked));
}

#[test]
fn no_status_of_a_trigger_excludes_another_one_later() {
    // An anchored trigger goes back and forth; the document has one more that says nothing.
    for (status, live) in [
        ("pending_on_entry", Some(true)),
        ("active", Some(true)),
        ("pending_on_entry", Some(true)),
        ("failed", Some(false)),
        ("active", Some(true)),
        ("filled", Some(false)),
        ("canceled", Some(false)),
        ("unknown", None),
        ("status_of_next_year", None),
    ] {
        assert_eq!(trigger(&json!({"status": status})).is_live(), live, "{status}");
    }
}

#[test]
fn funding_is_received_above_zero_and_longs_pay_a_positive_rate() {
    for (rate, position, received) in [
        (json!(0.0001), "2.00", "-12"),
        (json!(0.0001), "-2.00", "12"),
        (json!(-0.0001), "2.00", "12"),
        (json!(-0.0001), "-2.00", "-12"),
        (json!(0), "2.00", "0"),
        (json!(0.0001), "0.00", "0"),
        // Rounded down: less is received, more is paid.
        (json!(0.000_000_000_013), "0.01", "-0.000001"),
        (json!(-0.000_000_000_013), "0.01", "0"),
    ] {
        let fields = json!({"funding_rate": rate, "mark_price": "60000.0000"});
        let value = value_of("GetMarginFundingRateEstimateResponse", &fields);
        let estimate: types::GetMarginFundingRateEstimateResponse =
            serde_json::from_value(value).unwrap();
        let funding = estimate.funding_of(position.parse().unwrap());
        assert_eq!(funding, received.parse().ok(), "{rate} {position}");
        // What was charged is of the sign that the estimate of that time had.
        let paid = value_of(
            "MarginFundingHistoryEntry",
            &json!({
                "funding_rate": rate, "quantity": position, "mark_price": "60000.0000",
                "funding_amount": received,
            }),
        );
        let paid: types::MarginFundingHistoryEntry = serde_json::from_value(paid).unwrap();
        assert_eq!(Some(paid.funding_amount), estimate.funding_of(paid.quantity));
    }
    for absent in ["funding_rate", "mark_price"] {
        let mut value = value_of(
            "GetMarginFundingRateEstimateResponse",
            &json!({"funding_rate": 0.0001, "mark_price": "60000.0000"}),
        );
        value.as_object_mut().unwrap().remove(absent);
        let estimate: types::GetMarginFundingRateEstimateResponse =
            serde_json::from_value(value).unwrap();
        assert_eq!(estimate.funding_of("1".parse().unwrap()), None, "no {absent}");
    }
}

#[test]
fn the_exchange_decides_by_its_time_which_state_of_an_order_is_later() {
    let state = |id: &str, updated: Value, fills: &str, remaining: &str| -> types::MarginOrder {
        let fields = json!({
            "order_id": id, "created_time": "2026-11-01T00:00:00Z", "last_update_time": updated,
            "fill_count": fills, "remaining_count": remaining,
        });
        serde_json::from_value(value_of("MarginOrder", &fields)).unwrap()
    };
    let at = |second: u32| json!(format!("2026-11-01T00:00:{second:02}Z"));
    let known = state("o-1", at(10), "2.00", "3.00");
    for (other, later) in [
        (state("o-1", at(11), "2.00", "3.00"), true),
        (state("o-1", at(9), "5.00", "0.00"), false),
        (state("o-1", at(10), "3.00", "2.00"), true),
        (state("o-1", at(10), "2.00", "1.00"), true),
        (state("o-1", at(10), "2.00", "3.00"), false),
        (state("o-1", at(10), "1.00", "4.00"), false),
        // Never changed: as old as the order.
        (state("o-1", json!(null), "0.00", "5.00"), false),
        (state("o-2", at(11), "2.00", "3.00"), false),
    ] {
        assert_eq!(other.is_later_than(&known), later, "{other:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_member_who_is_not_enabled_is_explained_by_the_flag() {
    let server = crate::support::Server::start(|request| {
        if request.path().ends_with("/margin/enabled") {
            Answer::json(&json!({"enabled": false}))
        } else {
            Answer::new(403, r#"{"code":"forbidden","message":"words"}"#)
        }
    })
    .await;
    let client = client(&server.url());
    let error = client.perps().create_margin_order().body(an_order()).send().await.unwrap_err();
    assert_eq!((error.is_forbidden(), error.effect()), (true, Effect::Rejected));
    assert!(!client.perps().enabled().await.unwrap());
    assert_eq!(server.last().target, "/trade-api/v2/margin/enabled");
}

#[test]
fn each_document_has_ids_and_schemas_of_its_own() {
    // One operation stands in two documents, with one id.
    let events = OperationId::IntraExchangeInstanceTransfer.operation();
    let perps = perps::OperationId::IntraExchangeInstanceTransfer.operation();
    assert_eq!((events.id, events.path), (perps.id, perps.path));
    assert_eq!(events.typed_id(), Some(OperationId::IntraExchangeInstanceTransfer));
    assert_eq!(perps.typed_id(), None);
    let of = perps::OperationId::of;
    assert_eq!(of(perps), Some(perps::OperationId::IntraExchangeInstanceTransfer));
    assert_eq!(of(events), None);
    assert!(perps.body_schema().is_some() && perps.body_schema() != events.body_schema());
    for (id, operation) in perps::OperationId::all().zip(perps::OPERATIONS) {
        assert_eq!((id.as_str(), id.operation()), (operation.id, operation));
        assert_eq!(id.to_string(), operation.id);
        assert_eq!(operation.cost.lane, Lane::Perpetuals);
    }
    assert_eq!(perps::OperationId::all().len(), perps::OPERATIONS.len());
}

#[tokio::test]
async fn a_request_outlives_the_view_that_it_was_made_by() {
    let server = always(Answer::json(&json!({"enabled": true}))).await;
    let client = client(&server.url());
    let request = client.perps().get_margin_enabled();
    assert!(request.send().await.unwrap().enabled);
}

#[tokio::test]
async fn the_lists_of_perps_stream_their_rows() {
    let fill = |id: &str| value_of("MarginFill", &json!({"fill_id": id}));
    let server = crate::support::Server::start(move |request| {
        let next = request.query().iter().any(|(name, value)| name == "cursor" && value == "2");
        let page = if next {
            json!({"fills": [fill("b")], "cursor": ""})
        } else {
            json!({"fills": [fill("a"), {"fill_id": "broken"}], "cursor": "2"})
        };
        Answer::json(&page)
    })
    .await;
    let client = client(&server.url());
    let mut rows = client.perps().get_margin_fills().stream();
    let mut seen = Vec::new();
    while let Some(row) = rows.next().await {
        seen.push(row.map_or_else(|error| error.is_row().to_string(), |fill| fill.fill_id));
    }
    assert_eq!(seen, ["a", "true", "b"]);
    let error = client.perps().get_margin_fills().all().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
}

#[tokio::test]
async fn drift_is_observed_by_the_document_of_the_operation() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let server = always(Answer::json(&json!({"enabled": true, "since": 1}))).await;
    let client = builder(&server.url())
        .with_credentials(credentials())
        .with_drift_interval(Duration::from_secs(60))
        .on_drift(move |drift| into.lock().unwrap().push((drift.kind, drift.path.clone())))
        .build()
        .unwrap();
    client.perps().get_margin_enabled().send().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(DriftKind::UnknownField, "since".to_owned())]);
}
