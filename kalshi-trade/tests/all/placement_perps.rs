//! Orders of perpetual futures, against an exchange that is a layer of the client, in virtual time.

use std::time::Duration;

use kalshi_sdk::{
    Effect,
    auth::Clock,
    perps::types::{BookSide, SetCrossExitTriggerRequest},
};
use kalshi_trade::{
    journal::{Journal, OrderChange, Product, Settlement},
    placement::{
        ChangeState, ChangeTarget, PlaceError, PlacementState, Placements, UndecidedCause,
        WithdrawnCause,
        perps::{
            MarketError, TriggerError, TriggerOutcome, is_market_version_refusal, set_exit_trigger,
        },
    },
};
use kalshi_types::UnixMillis;
use kalshi_ws::perps as ws;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    perps_exchange::{CREATE, Exchange, Fault, accepted, market, order},
    support::limit,
};

#[tokio::test(start_paused = true)]
async fn an_order_is_placed_for_a_version_of_its_market_and_is_in_the_journal_with_its_product() {
    let exchange = Exchange::new();
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let perps = placements.perps();
    let placement = perps.place(order(&perps.next_id()), &market()).unwrap();
    assert_eq!(placement.outcome().await, accepted("o-1"));
    assert_eq!(placement.intent().product(), Product::Perps);
    let body = exchange.lock().bodies[0].clone();
    assert_eq!((&body["market_version"], &body["ticker"]), (&json!(3), &json!("KXBTCPERP")));
    // Byte for byte what was written.
    assert_eq!(body, serde_json::from_str::<Value>(placement.intent().body()).unwrap());
    assert_ne!(perps.next_id(), placement.id().as_str());
    // What does not fit the market is neither written nor sent.
    let mut misfit = order("misfit");
    misfit.count = "0.50".parse().unwrap();
    let error = perps.place(misfit, &market()).unwrap_err();
    assert!(matches!(error, PlaceError::Market(MarketError::Count(_))), "{error:?}");
    assert!(!journal.own_ids().contains("misfit"));
    assert_eq!(exchange.count(CREATE), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_and_a_409_are_settled_by_the_list_and_nothing_is_sent_again() {
    for fault in [Fault::LostAnswer, Fault::Conflict] {
        let exchange = Exchange::new();
        exchange.fault(fault);
        let journal = exchange.journal();
        let placements = exchange.placements(&journal);
        let placement = placements.perps().place(order("a-1"), &market()).unwrap();
        assert_eq!(placement.outcome().await, accepted("o-1"), "{fault:?}");
        assert_eq!(exchange.count(CREATE), 1);
        // Found soon, in the list of its market.
        assert_eq!(exchange.count("GET /margin/orders?limit=10000&ticker=KXBTCPERP"), 1);
        assert_eq!(exchange.count("GET /portfolio"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_of_the_market_is_a_refusal_and_never_sent_with_the_new_one() {
    let exchange = Exchange::new();
    exchange.fault(Fault::Version);
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let placement = placements.perps().place(order("a-1"), &market()).unwrap();
    let PlacementState::Refused(refusal) = placement.outcome().await else {
        panic!("{:?}", placement.state())
    };
    assert!(is_market_version_refusal(&refusal) && refusal.status == 409);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(exchange.lock().requests.len(), 1);
    let settlement = journal.history().settlement("a-1").cloned();
    assert_eq!(settlement, Some(Settlement::Refused { status: 409 }));
}

fn user_order(id: &str, ticker: &str) -> ws::Event {
    let frame = json!({ "type": "user_order", "sid": 1, "sending_ts_ms": 1, "msg": {
        "order_id": "o-1", "user_id": "u", "client_order_id": id, "ticker": ticker, "side": "bid",
        "price": "30000.25", "fill_count": "0.00", "remaining_count": "2.00", "created_ts_ms": 1,
        "order_source": "user",
    } });
    match ws::Decoder::new().decode(&frame.to_string(), UnixMillis::EPOCH) {
        ws::Frame::Message(message) => ws::Event::Message(message),
        frame => panic!("{frame:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_its_own_streams_is_evidence_and_one_of_the_other_product_is_not() {
    let exchange = Exchange::new();
    exchange.fault(Fault::LostAnswer);
    exchange.lock().is_blind = true;
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let placement = placements.perps().place(order("a-1"), &market()).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(placement.state(), PlacementState::Settling);
    // An order of event contracts with the same id, which has nothing to do with it.
    let frame = json!({ "type": "user_order", "sid": 1, "sending_ts_ms": 1, "msg": {
        "order_id": "e-1", "user_id": "u", "client_order_id": "a-1", "ticker": "KXOTHER",
        "status": "resting", "side": "yes", "is_yes": true, "outcome_side": "yes",
        "book_side": "bid", "yes_price_dollars": "0.40", "no_price_dollars": "0.60",
        "fill_count_fp": "0.00", "remaining_count_fp": "1.00", "initial_count_fp": "1.00",
        "taker_fill_cost_dollars": "0", "maker_fill_cost_dollars": "0",
        "taker_fees_dollars": "0", "maker_fees_dollars": "0", "created_ts_ms": 1,
    } });
    match kalshi_ws::Decoder::new().decode(&frame.to_string(), UnixMillis::EPOCH) {
        kalshi_ws::Frame::Message(message) => {
            placements.observe(&kalshi_ws::Event::Message(message));
        }
        frame => panic!("{frame:?}"),
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(placement.state(), PlacementState::Settling);
    placements.perps().observe(&user_order("a-1", "KXBTCPERP"));
    assert_eq!(placement.outcome().await, accepted("o-1"));
    assert_eq!(exchange.count(CREATE), 1);
}

#[tokio::test(start_paused = true)]
async fn absence_is_proven_by_all_orders_of_the_account_after_the_window() {
    let exchange = Exchange::new();
    exchange.fault(Fault::Lost);
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let began = Instant::now();
    let placement = placements.perps().place(order("a-1"), &market()).unwrap();
    assert_eq!(placement.outcome().await, PlacementState::GivenUp);
    assert!(began.elapsed() > Duration::from_secs(60));
    let lists: Vec<String> = {
        let state = exchange.lock();
        state
            .requests
            .iter()
            .filter(|line| line.starts_with("GET /margin/orders?"))
            .cloned()
            .collect()
    };
    // The last of them, and no other.
    assert_eq!(lists.last().unwrap(), "GET /margin/orders?limit=10000");
    assert_eq!(lists.iter().filter(|line| !line.contains("ticker=")).count(), 1);
    assert_eq!(exchange.count(CREATE), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_market_has_another_ticker_by_now_is_not_called_absent() {
    let exchange = Exchange::new();
    exchange.fault(Fault::LostAnswer);
    exchange.lock().is_blind = true;
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let placement = placements.perps().place(order("a-1"), &market()).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    {
        let mut state = exchange.lock();
        state.orders[0]["ticker"] = json!("KXNEWPERP");
        state.is_blind = false;
    }
    let state = placement.outcome().await;
    assert_eq!(state, PlacementState::Undecided(UndecidedCause::IdInUse));
    assert_eq!(exchange.count(CREATE), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_session_left_open_is_settled_before_anything_is_placed() {
    let exchange = Exchange::new();
    let journal = exchange.journal();
    for (id, fault) in [("a-1", Fault::LostAnswer), ("a-2", Fault::Lost)] {
        exchange.fault(fault);
        exchange.lock().is_blind = true;
        let placements = exchange.placements(&journal);
        let placement = placements.perps().place(order(id), &market());
        // The second of them waits for what the first session left.
        if id == "a-2" {
            assert!(matches!(placement, Err(PlaceError::Restoring(1))), "{placement:?}");
            exchange.lock().is_blind = false;
            placements.ready().await;
            assert_eq!(placements.restored()[0].state(), accepted("o-1"));
            placements.perps().place(order(id), &market()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The session ends here: its tasks go on as far as they can, which the list does not show.
        drop(placements);
        journal.reopen(8, exchange.clock.now()).unwrap();
    }
    let placements = exchange.placements(&journal);
    placements.ready().await;
    let restored = placements.restored().iter().map(|one| (one.id().as_str(), one.state()));
    assert_eq!(restored.collect::<Vec<_>>(), [("a-2", PlacementState::GivenUp)]);
    assert_eq!(exchange.count(CREATE), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_order_id_is_used_once_over_both_products() {
    let exchange = Exchange::new();
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let event_order = || {
        let mut order = limit("KXTEST", BookSide::Bid, "0.40", "1.00");
        order.client_order_id = Some("a-1".to_owned());
        order
    };
    let within = Duration::from_secs(1);
    let placement = placements.perps().place(order("a-1"), &market()).unwrap();
    let error = placements.place_identified(event_order(), within).unwrap_err();
    assert!(matches!(error, PlaceError::Invalid(_)), "{error:?}");
    assert_eq!(placement.outcome().await, accepted("o-1"));
    // It is over, and its id is used all the same.
    tokio::time::sleep(within).await;
    let placement = placements.place_identified(event_order(), within).unwrap();
    let withdrawn = PlacementState::Withdrawn(WithdrawnCause::Journal);
    assert_eq!(placement.outcome().await, withdrawn);
    let again = placements.perps().place(order("a-1"), &market());
    // Taken for as long as evidence about the other would be taken in.
    assert!(matches!(again, Err(PlaceError::Invalid(_))), "{again:?}");
    assert_eq!(exchange.lock().requests.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn changes_are_settled_and_a_cancel_is_sent_until_the_order_is_over() {
    let exchange = Exchange::new();
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let perps = placements.perps();
    let placement = perps.place(order("a-1"), &market()).unwrap();
    assert_eq!(placement.outcome().await, accepted("o-1"));
    let target = || ChangeTarget::new("o-1", "KXBTCPERP");
    let amend = |price: &str| OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: price.parse().unwrap(),
        total: "3.00".parse().unwrap(),
        expires: None,
    };
    let within = Duration::from_secs(1);
    let change = |change| perps.change(target(), change, &market(), within);
    assert_eq!(change(amend("30000.50")).unwrap().outcome().await, ChangeState::Reached);
    assert!(change(amend("30000.51")).is_err());
    // A lost answer: shown by a read after the window, and not sent again.
    for (fault, price, outcome) in [
        (Fault::LostAnswer, "30001.00", ChangeState::Reached),
        (Fault::Lost, "30002.00", ChangeState::NotReached),
    ] {
        exchange.fault(fault);
        let began = Instant::now();
        assert_eq!(change(amend(price)).unwrap().outcome().await, outcome);
        assert!(began.elapsed() > Duration::from_secs(60));
    }
    assert_eq!(exchange.count("POST /margin/orders/o-1/amend?"), 3);
    let decrease = OrderChange::Decrease { remaining: "1.00".parse().unwrap() };
    assert_eq!(change(decrease).unwrap().outcome().await, ChangeState::Reached);
    // A cancel is sent again.
    for _ in 0..2 {
        exchange.fault(Fault::Lost);
    }
    let cancel = perps.cancel(target());
    assert_eq!(cancel.intent().product(), Product::Perps);
    assert_eq!(cancel.outcome().await, ChangeState::Reached);
    assert_eq!(exchange.count("DELETE /margin/orders/o-1?"), 3);
    assert_eq!(exchange.lock().orders[0]["remaining_count"], "0.00");
}

fn trigger(id: &str, price: &str) -> SetCrossExitTriggerRequest {
    SetCrossExitTriggerRequest::builder()
        .client_trigger_id(id)
        .count("1.00")
        .stop_loss_price(price)
        .try_into()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_exit_trigger_is_set_once_and_a_success_is_no_proof() {
    let exchange = Exchange::new();
    let client = exchange.client();
    let set = async |request: &SetCrossExitTriggerRequest| {
        set_exit_trigger(&client, "KXBTCPERP", None, request).await
    };
    let first = trigger("t-1", "29000.00");
    // Carried out or not, the request whose answer is lost sets one trigger.
    exchange.fault(Fault::LostAnswer);
    exchange.fault(Fault::Lost);
    let outcome = set(&first).await.unwrap();
    assert!(matches!(outcome, TriggerOutcome::InPlace(_)), "{outcome:?}");
    assert_eq!(exchange.lock().triggers.len(), 1);
    assert_eq!(exchange.count("PUT"), 3);
    // The id of another one: the exchange answers with a success.
    let outcome = set(&trigger("t-1", "28000.00")).await.unwrap();
    assert!(matches!(outcome, TriggerOutcome::Another(_)), "{outcome:?}");
    for (status, is_over) in [("canceled", true), ("filled", true), ("suspended", false)] {
        exchange.lock().triggers[0]["status"] = json!(status);
        let outcome = set(&first).await.unwrap();
        assert_eq!(matches!(outcome, TriggerOutcome::Over(_)), is_over, "{outcome:?}");
        assert_eq!(matches!(outcome, TriggerOutcome::Unclear(_)), !is_over, "{outcome:?}");
        assert_eq!(outcome.trigger().id, "x-1");
    }
    // What is refused is not repeated, and what stays unknown is said to be.
    let before = exchange.count("PUT");
    exchange.fault(Fault::Conflict);
    let error = set(&trigger("t-2", "29000.00")).await.unwrap_err();
    assert!(matches!(&error, TriggerError::Request(error) if error.is_conflict()), "{error:?}");
    assert_eq!(exchange.count("PUT"), before + 1);
    for _ in 0..4 {
        exchange.fault(Fault::Lost);
    }
    let error = set(&trigger("t-3", "29000.00")).await.unwrap_err();
    assert!(matches!(&error, TriggerError::Unsettled { id, .. } if id == "t-3"), "{error:?}");
    assert_eq!(exchange.count("PUT"), before + 5);
    for id in ["", &"x".repeat(65)] {
        let error = set(&trigger(id, "29000.00")).await.unwrap_err();
        assert!(matches!(error, TriggerError::NoId));
    }
    assert_eq!(exchange.count("PUT"), before + 5);
}

#[tokio::test(start_paused = true)]
async fn a_trigger_whose_answer_is_lost_may_be_set_whatever_the_next_request_comes_to() {
    for is_journaled in [false, true] {
        let exchange = Exchange::new();
        let client = exchange.client();
        let journal = exchange.journal();
        let placements = exchange.placements(&journal);
        let perps = placements.perps();
        let set = async |id: &str| {
            let request = trigger(id, "29000.00");
            if is_journaled {
                perps.set_exit_trigger("KXBTCPERP", None, &request).await
            } else {
                set_exit_trigger(&client, "KXBTCPERP", None, &request).await
            }
        };
        let is_set = |id: &str| {
            let state = exchange.lock();
            state.triggers.iter().filter(|one| one["client_trigger_id"] == id).count() == 1
        };
        // It is refused then: the refusal is no word about the request before it.
        for (id, faults) in [
            ("t-1", vec![Fault::LostAnswer, Fault::Conflict]),
            ("t-2", vec![Fault::LostAnswer, Fault::NotConnected, Fault::Version]),
            ("t-3", vec![Fault::LostAnswer, Fault::RateLimited, Fault::Lost, Fault::RateLimited]),
            ("t-4", [vec![Fault::LostAnswer], vec![Fault::NotConnected; 3]].concat()),
        ] {
            for fault in faults {
                exchange.fault(fault);
            }
            let error = set(id).await.unwrap_err();
            assert_eq!(error.effect(), Effect::Unknown, "{id} {error:?}");
            let TriggerError::Unsettled { id: of, last, .. } = &error else {
                panic!("{id} {error:?}")
            };
            assert_eq!((&**of, is_set(id), exchange.lock().faults.len()), (id, true, 0));
            assert_ne!(last.effect(), Effect::Unknown, "{id} {last:?}");
            // The same request, once more, tells.
            let outcome = set(id).await.unwrap();
            assert!(matches!(outcome, TriggerOutcome::InPlace(_)) && is_set(id), "{outcome:?}");
        }
        // A connection that cannot be made, and a rate limit, pass: the rest of the pauses is used.
        let before = exchange.count("PUT");
        for fault in [Fault::LostAnswer, Fault::NotConnected, Fault::RateLimited] {
            exchange.fault(fault);
        }
        let outcome = set("t-5").await.unwrap();
        assert!(matches!(outcome, TriggerOutcome::InPlace(_)) && is_set("t-5"), "{outcome:?}");
        assert_eq!(exchange.count("PUT"), before + 3);
        // Without a lost answer it is not set, and not repeated.
        for (fault, effect) in
            [(Fault::NotConnected, Effect::NotSent), (Fault::RateLimited, Effect::Rejected)]
        {
            exchange.fault(fault);
            let error = set("t-6").await.unwrap_err();
            assert!(matches!(&error, TriggerError::Request(_)), "{error:?}");
            assert_eq!((error.effect(), is_set("t-6")), (effect, false));
        }
        assert!(perps.unsettled_triggers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_trigger_whose_answer_is_lost_is_known_to_the_next_process() {
    let exchange = Exchange::new();
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let perps = placements.perps();
    let open = |placements: &Placements| -> Vec<String> {
        placements.perps().unsettled_triggers().into_iter().map(|open| open.id).collect()
    };
    // Answered, refused, or never sent: nothing is left open.
    let outcome = perps.set_exit_trigger("KXBTCPERP", None, &trigger("t-1", "29000.00")).await;
    assert!(matches!(outcome, Ok(TriggerOutcome::InPlace(_))), "{outcome:?}");
    exchange.fault(Fault::Conflict);
    let refused = perps.set_exit_trigger("KXBTCPERP", None, &trigger("t-2", "29000.00")).await;
    assert!(matches!(&refused, Err(TriggerError::Request(error)) if error.is_conflict()));
    let error = perps.set_exit_trigger("KXBTCPERP", None, &trigger("", "29000.00")).await;
    assert!(matches!(error, Err(TriggerError::NoId)));
    assert_eq!(open(&placements), Vec::<String>::new());

    // Lost, and then refused: it may be set all the same.
    exchange.fault(Fault::LostAnswer);
    exchange.fault(Fault::Conflict);
    let lost = perps.set_exit_trigger("KXBTCPERP", Some(1), &trigger("t-3", "29000.00")).await;
    assert!(matches!(lost, Err(TriggerError::Unsettled { .. })), "{lost:?}");
    // The process dies between the write and the answer.
    let request = trigger("t-4", "28000.00");
    let setting = perps.set_exit_trigger("KXBTCPERP", None, &request);
    let died = tokio::time::timeout(Duration::from_millis(1), setting).await;
    assert!(died.is_err(), "it waits for the answer");
    assert_eq!(open(&placements), ["t-3", "t-4"]);
    drop(placements);
    journal.reopen(8, exchange.clock.now()).unwrap();
    let placements = exchange.placements(&journal);
    let perps = placements.perps();
    assert_eq!(open(&placements), ["t-3", "t-4"]);
    let unsettled = perps.unsettled_triggers();
    assert_eq!((&*unsettled[0].ticker, unsettled[0].subaccount), ("KXBTCPERP", Some(1)));

    // Refused now, it may have been set before: it stays open.
    exchange.fault(Fault::Conflict);
    let refused = perps.settle_exit_trigger(&unsettled[0]).await;
    assert!(
        matches!(&refused, Err(TriggerError::Unsettled { last, .. }) if last.is_conflict()),
        "{refused:?}"
    );
    assert_eq!(open(&placements), ["t-3", "t-4"]);

    // The id of an open trigger is taken, and only the same request is sent again.
    let before = exchange.count("PUT");
    let other = perps.set_exit_trigger("KXBTCPERP", None, &trigger("t-4", "27000.00")).await;
    assert!(matches!(&other, Err(TriggerError::Journal(id)) if id == "t-4"), "{other:?}");
    assert_eq!(exchange.count("PUT"), before);
    let settled = perps.settle_exit_trigger(&unsettled[0]).await.unwrap();
    assert!(matches!(settled, TriggerOutcome::InPlace(_)), "{settled:?}");
    let of_id = |id: &str| {
        exchange.lock().triggers.iter().filter(|one| one["client_trigger_id"] == id).count()
    };
    assert_eq!((of_id("t-3"), exchange.count("PUT")), (1, before + 1));
    perps.forget_exit_trigger("t-4").await.unwrap();
    assert!(matches!(perps.forget_exit_trigger("t-4").await, Err(TriggerError::Journal(_))));
    assert_eq!(exchange.count("PUT"), before + 1);
    assert_eq!(open(&placements), Vec::<String>::new());

    // What cannot be written is not sent.
    journal.set_full(true);
    let unwritten = perps.set_exit_trigger("KXBTCPERP", None, &trigger("t-5", "29000.00")).await;
    assert!(matches!(unwritten, Err(TriggerError::Journal(_))), "{unwritten:?}");
    assert_eq!(exchange.count("PUT"), before + 1);
}
