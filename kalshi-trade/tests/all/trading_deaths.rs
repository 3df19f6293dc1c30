//! Programs that die while their orders rest, each in its own way.

use std::{collections::BTreeSet, ffi::OsStr, process::Command, time::Duration};

use kalshi_auth::server::KeyPair;
use kalshi_sdk::{Client, Credentials, Environment, types::BookSide};
use kalshi_sim::{Exchange, MarketPlan, Role};
use kalshi_trade::{journal::MemoryJournal, orders::Life, trading::Trading};
use tokio::time::sleep;

use crate::{
    kills::{client, say, spawn},
    support::{TICKER, limit},
};

const DEATH: &str = "KALSHI_TRADE_TEST_DEATH";

/// A program that dies as it is told to: with an order that rests, and that it has renewed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of the next test"]
async fn the_program_that_dies() {
    let death = std::env::var(DEATH).unwrap();
    let client = Client::builder()
        .with_environment(Environment::from_env().unwrap())
        .with_credentials(Credentials::from_env().unwrap())
        .build()
        .unwrap();
    let journal = MemoryJournal::new(1, kalshi_types::UnixMillis::EPOCH);
    let builder = Trading::builder(client.clone(), journal).unwrap().with_name(&*death);
    let mut trading = builder.with_rolling_expiry(Duration::from_secs(2)).start().await.unwrap();
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    let order = limit(TICKER, BookSide::Bid, "0.0100", "1.00");
    let placement = trading.place(order, Duration::from_secs(60)).unwrap();
    let key = loop {
        trading.next().await.unwrap();
        let key = trading.orders().by_client_order_id(placement.id().as_str());
        if let Some(key) =
            key.filter(|key| trading.orders().get(*key).unwrap().life() == Life::Resting)
        {
            break key;
        }
    };
    let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
    let expires = async || {
        let answer = client.get_order().order_id(&*order_id).send().await.unwrap();
        answer.order.expiration_time.unwrap()
    };
    let first = expires().await;
    let mut terminated =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let mut is_renewed = false;
    loop {
        tokio::select! {
            events = trading.next() => drop(events.unwrap()),
            () = sleep(Duration::from_millis(50)) => {}
            _ = terminated.recv() => break,
        }
        if !is_renewed && expires().await > first {
            is_renewed = true;
            say("renewed");
            assert_ne!(death, "panic", "it panics as soon as it has said so");
        }
    }
    // The program was asked to end.
    assert!(trading.exit(Duration::from_secs(60)).await.is_clean());
    say("clean");
}

/// A panic, SIGTERM and SIGKILL: what the table in the guide says of each.
#[tokio::test(flavor = "multi_thread")]
async fn no_order_outlives_a_program_that_panics_or_is_ended_or_killed() {
    let pair = KeyPair::generate(kalshi_auth::KeyType::Ed25519).unwrap();
    let key_id = "00000000-0000-4000-8000-00000000dea7";
    let builder = Exchange::builder().with_key(Role::Trader, key_id, pair.public_key().clone());
    let exchange = builder.start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    let client = client(&exchange, &pair, key_id);
    let start = |death: &str| {
        let variables = [(DEATH, OsStr::new(death))];
        spawn(&exchange, &pair, key_id, "trading_deaths::the_program_that_dies", variables)
    };
    let (mut panics, mut ended, mut killed) = (start("panic"), start("term"), start("kill"));
    for bot in [&mut panics, &mut ended, &mut killed] {
        bot.wait_for("renewed");
    }
    killed.child.kill().unwrap();
    let id = ended.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    ended.wait_for("clean");
    assert!(ended.child.wait().unwrap().success());
    assert!(!panics.child.wait().unwrap().success());
    let rows = loop {
        let rows = client.get_orders().ticker(TICKER).all().await.unwrap();
        if rows.iter().all(|row| row.status.as_str() == "canceled") {
            break rows;
        }
        sleep(Duration::from_millis(50)).await;
    };
    let name = |row: &kalshi_sdk::types::Order| {
        row.client_order_id.split('-').next().unwrap_or_default().to_owned()
    };
    let names: BTreeSet<String> = rows.iter().map(name).collect();
    assert_eq!((names.len(), rows.len()), (3, 3), "one order of each: {names:?}");
}
