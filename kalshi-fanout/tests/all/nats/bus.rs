//! The bus by itself: messages, acknowledgements, snapshots, the log, the lease.

use std::{future::poll_fn, time::Duration};

use kalshi_auth::{Clock as _, SystemClock};
use kalshi_fanout::{
    BusMessage, LeaseEntry, LeaseRequest, LeaseWrite,
    bus::{Bus, BusEvent},
    nats::{NatsBus, NatsError, StreamSettings},
};
use kalshi_types::UnixMillis;
use tokio::time::{sleep, timeout};

use super::broker::{self, Broker, Proxy, Way};

const NOW: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(30);
const BOOK: &str = "kx.v1.sim.md.0.book.KX.KX-1";
const SNAPSHOT: &str = "kx.v1.sim.snap.KX-1";

fn message(subject: &str, id: &str, payload: &'static str) -> BusMessage {
    let headers =
        vec![("Kx-N".to_owned(), "7".to_owned()), ("Nats-Msg-Id".to_owned(), id.to_owned())];
    BusMessage { subject: subject.to_owned(), headers, payload: payload.into() }
}

async fn next(bus: &mut NatsBus) -> BusEvent {
    let event = async {
        loop {
            if let Some(event) = bus.next(NOW) {
                return event;
            }
            poll_fn(|cx| bus.poll_ready(cx)).await;
        }
    };
    timeout(PATIENCE, event).await.expect("an event is due")
}

/// Waits for one of these events; others go by.
async fn wait_for(bus: &mut NatsBus, is_wanted: impl Fn(&BusEvent) -> bool) -> BusEvent {
    loop {
        let event = next(bus).await;
        if is_wanted(&event) {
            return event;
        }
    }
}

async fn publish(bus: &mut NatsBus, token: u64, message: BusMessage) {
    bus.publish(token, message, NOW);
    assert_eq!(next(bus).await, BusEvent::Acknowledged(token));
}

fn sorted(event: &BusEvent) -> BusMessage {
    let (BusEvent::Message(message) | BusEvent::Last(Some(message)) | BusEvent::Logged(message)) =
        event
    else {
        panic!("{event:?}")
    };
    let mut message = message.clone();
    message.headers.sort();
    message
}

fn now() -> UnixMillis {
    SystemClock.now()
}

#[tokio::test]
async fn messages_go_to_subscribers_the_log_and_the_last_of_their_subject() {
    let Some(broker) = Broker::start() else { return };
    let began = now();
    let mut publisher = broker::publisher(&broker.url()).await;
    let mut follower = broker::follower(&broker.url()).await;
    follower.last(SNAPSHOT, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::Last(None));

    follower.subscribe("kx.v1.sim.md.*.book.KX.KX-1");
    // Requests come after the subscriptions before them.
    follower.last(SNAPSHOT, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::Last(None));
    for (token, (subject, payload)) in
        (0..).zip([(BOOK, "1"), (SNAPSHOT, "old"), (SNAPSHOT, "new"), (BOOK, "2")])
    {
        publish(&mut publisher, token, message(subject, &token.to_string(), payload)).await;
    }
    let (first, second) = (message(BOOK, "0", "1"), message(BOOK, "3", "2"));
    assert_eq!(sorted(&next(&mut follower).await), first);
    assert_eq!(sorted(&next(&mut follower).await), second);
    follower.last(SNAPSHOT, NOW);
    assert_eq!(sorted(&next(&mut follower).await).payload, "new");

    // One that is published twice is acknowledged, and is in the log once.
    publish(&mut publisher, 9, message(BOOK, "3", "2")).await;
    assert_eq!(sorted(&next(&mut follower).await), second);
    follower.log("KX-1", "kx.v1.sim.md.*.book.KX.KX-1", began, NOW);
    assert_eq!(sorted(&next(&mut follower).await), first);
    assert_eq!(sorted(&next(&mut follower).await), second);
    assert_eq!(next(&mut follower).await, BusEvent::LogEnd("KX-1".to_owned()));
    // One of another market has nothing, and an end.
    follower.log("KX-2", "kx.v1.sim.md.*.book.KX.KX-2", began, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::LogEnd("KX-2".to_owned()));
}

#[tokio::test]
async fn a_log_that_was_purged_is_not_complete() {
    let Some(broker) = Broker::start() else { return };
    let began = now();
    let mut publisher = broker::publisher(&broker.url()).await;
    for token in 0..3 {
        publish(&mut publisher, token, message(BOOK, &token.to_string(), "1")).await;
    }
    let client = async_nats::connect(broker.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.get_stream("kx_v1_sim_md").await.unwrap().purge().await.unwrap();
    let mut follower = broker::follower(&broker.url()).await;
    follower.log("KX-1", "kx.v1.sim.md.*.book.KX.KX-1", began, NOW);
    // After what was purged there is nothing.
    let after = began.saturating_add(Duration::from_secs(3_600));
    follower.log("KX-2", "kx.v1.sim.md.*.book.KX.KX-2", after, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::LogEnd("KX-2".to_owned()));
}

#[tokio::test]
async fn a_subscription_is_made_although_the_queue_is_full() {
    let Some(broker) = Broker::start() else { return };
    let mut bus = broker::publisher(&broker.url()).await;
    // More than have room: nothing is sent meanwhile, because nothing waits here.
    for _ in 0..70_000 {
        bus.lease(LeaseRequest::Read, NOW);
    }
    bus.subscribe("kx.v1.sim.md.*.book.KX.KX-1");
    let client = async_nats::connect(broker.url()).await.unwrap();
    let delivered = async {
        loop {
            client.publish(BOOK, "1".into()).await.unwrap();
            sleep(Duration::from_millis(10)).await;
            if let Some(event) = bus.next(NOW) {
                return event;
            }
        }
    };
    let event = timeout(PATIENCE, delivered).await.expect("it is subscribed");
    assert_eq!(sorted(&event).payload, "1");
}

#[tokio::test]
async fn the_lease_is_written_by_one_at_a_time() {
    let Some(broker) = Broker::start() else { return };
    let mut one = broker::publisher(&broker.url()).await;
    let mut other = broker::publisher(&broker.url()).await;
    let entry = |holder: &str, term| LeaseEntry { holder: holder.to_owned(), term };
    let write = |entry, expected| LeaseRequest::Write { entry, expected };

    one.lease(LeaseRequest::Read, NOW);
    assert_eq!(next(&mut one).await, BusEvent::LeaseRead(None));
    one.lease(write(entry("a", 1), None), NOW);
    let BusEvent::LeaseWritten(LeaseWrite::Written(first)) = next(&mut one).await else {
        panic!("it is free")
    };
    other.lease(write(entry("b", 2), None), NOW);
    assert_eq!(next(&mut other).await, BusEvent::LeaseWritten(LeaseWrite::Conflict));
    other.lease(LeaseRequest::Read, NOW);
    assert_eq!(next(&mut other).await, BusEvent::LeaseRead(Some((entry("a", 1), first))));
    other.lease(write(entry("b", 2), Some(first)), NOW);
    assert!(matches!(
        next(&mut other).await,
        BusEvent::LeaseWritten(LeaseWrite::Written(second)) if second > first
    ));
    one.lease(write(entry("a", 1), Some(first)), NOW);
    assert_eq!(next(&mut one).await, BusEvent::LeaseWritten(LeaseWrite::Conflict));
    // Only the last request has an answer.
    one.lease(write(entry("a", 3), Some(first)), NOW);
    one.lease(LeaseRequest::Read, NOW);
    assert!(matches!(next(&mut one).await, BusEvent::LeaseRead(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_store_that_was_lost_is_not_renewed() {
    let Some(mut broker) = Broker::start() else { return };
    let mut one = broker::publisher(&broker.url()).await;
    let mut other = broker::publisher(&broker.url()).await;
    let write = |holder: &str, term, expected| {
        let entry = LeaseEntry { holder: holder.to_owned(), term };
        LeaseRequest::Write { entry, expected }
    };
    one.lease(write("a", 1, None), NOW);
    let BusEvent::LeaseWritten(LeaseWrite::Written(first)) = next(&mut one).await else {
        panic!("it is free")
    };
    broker.kill();
    let is_lost = |event: &BusEvent| *event == BusEvent::Lost;
    for bus in [&mut one, &mut other] {
        wait_for(bus, is_lost).await;
    }
    broker.restart(true);
    for bus in [&mut one, &mut other] {
        wait_for(bus, is_lost).await;
    }
    // The other one takes it in the new store, which counts from 1 as the old one did.
    let second = async {
        loop {
            other.lease(write("b", 2, None), NOW);
            let answer = timeout(Duration::from_millis(500), next(&mut other)).await;
            if let Ok(BusEvent::LeaseWritten(LeaseWrite::Written(second))) = answer {
                return second;
            }
        }
    };
    assert!(timeout(PATIENCE, second).await.unwrap() > first);
    one.lease(write("a", 1, Some(first)), NOW);
    assert_eq!(next(&mut one).await, BusEvent::LeaseWritten(LeaseWrite::Conflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_comes_back_with_and_without_its_memory() {
    let Some(mut broker) = Broker::start() else { return };
    let mut publisher = broker::publisher(&broker.url()).await;
    let mut follower = broker::follower(&broker.url()).await;
    publish(&mut publisher, 0, message(SNAPSHOT, "0", "kept")).await;
    for is_wiped in [false, true] {
        broker.kill();
        let is_lost = |event: &BusEvent| *event == BusEvent::Lost;
        wait_for(&mut publisher, is_lost).await;
        wait_for(&mut follower, is_lost).await;
        // What is published now has its end when there is a connection again.
        publisher.publish(1, message(BOOK, "1", "lost"), NOW);
        broker.restart(is_wiped);
        wait_for(&mut publisher, is_lost).await;
        assert_eq!(next(&mut publisher).await, BusEvent::Failed(1));
        wait_for(&mut follower, is_lost).await;
        assert!(follower.is_connected());
        // A broker without streams refuses, and they are made again.
        let mut token = 2;
        loop {
            publisher.publish(token, message(BOOK, "2", "2"), NOW);
            match next(&mut publisher).await {
                BusEvent::Acknowledged(of) if of == token => break,
                BusEvent::Failed(of) if of == token => token += 1,
                other => panic!("{other:?}"),
            }
        }
        if !is_wiped {
            follower.last(SNAPSHOT, NOW);
            assert_eq!(sorted(&next(&mut follower).await).payload, "kept");
        }
        publisher.lease(LeaseRequest::Read, NOW);
        assert_eq!(next(&mut publisher).await, BusEvent::LeaseRead(None));
    }
    follower.last(SNAPSHOT, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::Last(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_a_loss() {
    let Some(broker) = Broker::start() else { return };
    let mut publisher = broker::publisher(&broker.url()).await;
    let proxy = Proxy::to(broker.port()).await;
    let mut follower = broker::follower(&proxy.url).await;
    follower.subscribe("kx.v1.sim.md.>");
    follower.last(SNAPSHOT, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::Last(None));
    publish(&mut publisher, 0, message(BOOK, "0", "1")).await;
    assert_eq!(sorted(&next(&mut follower).await).payload, "1");
    proxy.way.send_replace(Way::Cut);
    assert_eq!(next(&mut follower).await, BusEvent::Lost);
    publish(&mut publisher, 1, message(BOOK, "1", "missed")).await;
    proxy.way.send_replace(Way::Open);
    // The end of the outage is a loss once more: what came meanwhile was missed.
    assert_eq!(next(&mut follower).await, BusEvent::Lost);
    follower.last(SNAPSHOT, NOW);
    assert_eq!(next(&mut follower).await, BusEvent::Last(None));
    publish(&mut publisher, 2, message(BOOK, "2", "3")).await;
    let of_book = |event: &BusEvent| matches!(event, BusEvent::Message(_));
    assert_eq!(sorted(&wait_for(&mut follower, of_book).await).payload, "3");
}

#[tokio::test]
async fn an_account_has_a_stream_only_if_the_settings_ask_for_it() {
    let Some(broker) = Broker::start() else { return };
    let own = || message("kx.v1.sim.own.main.fill", "1", "1");
    let mut without = broker::publisher(&broker.url()).await;
    without.publish(1, own(), NOW);
    assert_eq!(next(&mut without).await, BusEvent::Failed(1));
    let mut streams = StreamSettings::default();
    (streams.max_bytes, streams.account_max_bytes) = (1 << 20, 1 << 20);
    streams.has_accounts = true;
    let config = broker::config(&broker.url()).with_streams(streams);
    let mut with = NatsBus::publisher(config).await.unwrap();
    publish(&mut with, 2, own()).await;
}

#[tokio::test]
async fn a_stream_of_other_subjects_is_refused() {
    let Some(broker) = Broker::start() else { return };
    drop(broker::publisher(&broker.url()).await);
    let client = async_nats::connect(broker.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let mut stream = context.get_stream("kx_v1_sim_md").await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.subjects = vec!["kx.v1.sim.md.>".to_owned()];
    context.update_stream(config).await.unwrap();
    let error = NatsBus::publisher(broker::config(&broker.url())).await.unwrap_err();
    assert!(matches!(&error, NatsError::Stream { name, .. } if name == "kx_v1_sim_md"), "{error}");
    assert!(error.to_string().contains("kx.v1.sim.ctl.*"), "{error}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_an_error() {
    let error = NatsBus::follower(broker::config("nats://127.0.0.1:1")).await.unwrap_err();
    assert!(
        matches!(&error, NatsError::Connect { servers, .. } if servers == "127.0.0.1:1"),
        "{error}"
    );
}
