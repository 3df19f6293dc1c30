//! Fills of merged connections.

use std::{collections::BTreeSet, time::Duration};

use kalshi_sdk::types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce};
use kalshi_sim::{Exchange, MarketPlan, Role};
use kalshi_ws::{Connection, Event, Payload, RedundantFeed, Subscription};
use tokio::time::timeout;

use super::{MERGED, PATIENCE, client::connect, detour::Detour, replies::Replies};

/// Rests or takes contracts of a market at 50 cents.
async fn order(client: &kalshi_sdk::Client, ticker: &str, side: BookSide, count: &str) {
    let is_bid = side == BookSide::Bid;
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price("0.5000")
        .count(count)
        .time_in_force(if is_bid {
            TimeInForce::ImmediateOrCancel
        } else {
            TimeInForce::GoodTillCanceled
        })
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    client.create_order_v2().body(order).send().await.unwrap();
}

/// The consumer of merged fills.
struct Fills {
    feed: RedundantFeed,
    ids: Vec<String>,
    /// The connections that are subscribed.
    are_live: [bool; MERGED.len()],
    losses: usize,
}

impl Fills {
    async fn take(&mut self) {
        let event = timeout(PATIENCE, self.feed.next()).await.unwrap().unwrap();
        match event {
            Event::Message(message) => match message.payload {
                Payload::Fill(fill) => self.ids.push(fill.trade_id),
                other => panic!("{other:?}"),
            },
            Event::Subscribed { .. } => self.are_live[self.feed.leader().unwrap()] = true,
            Event::Feed { feed, event } => match *event {
                Event::Subscribed { .. } => self.are_live[feed] = true,
                Event::Disconnected { .. } => {
                    self.are_live[feed] = false;
                    self.losses += 1;
                }
                _ => {}
            },
            Event::Failover { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Fills have no numbers, and each comes once while one socket after the other is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_fills_come_once_through_the_loss_of_one_socket() {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXTEST-26-A", 86_400)).unwrap();
    let (ticker, client) = ("KXTEST-26-A", exchange.client(Role::Trader).unwrap());
    order(&exchange.client(Role::Maker).unwrap(), ticker, BookSide::Ask, "1000.00").await;
    let detours = [Detour::to(&exchange).await, Detour::to(&exchange).await];
    let mut connections = Vec::new();
    for detour in &detours {
        let (url, replies) = (detour.url.clone(), Replies::default());
        let connection = connect(&exchange, Role::Trader, url, &replies, PATIENCE).await;
        connections.push(connection);
    }
    let feed = Connection::merge(connections).unwrap();
    feed.subscribe(Subscription::fills()).unwrap();
    let mut fills = Fills { feed, ids: Vec::new(), are_live: [false; MERGED.len()], losses: 0 };
    let mut placed = 0;
    for round in 0..10_usize {
        while fills.are_live != [true; MERGED.len()] {
            fills.take().await;
        }
        // Until both bring them again.
        let enough = fills.feed.metrics().duplicates + 2;
        while fills.feed.metrics().duplicates < enough {
            order(&client, ticker, BookSide::Bid, "1.00").await;
            placed += 1;
            while fills.ids.len() < placed {
                fills.take().await;
            }
            // The other copy shows in no event.
            while timeout(Duration::from_millis(20), fills.take()).await.is_ok() {}
        }
        detours[round % 2].cut.send_replace(());
        for _ in 0..3 {
            order(&client, ticker, BookSide::Bid, "1.00").await;
            placed += 1;
        }
        while fills.ids.len() < placed || fills.losses <= round {
            fills.take().await;
        }
    }
    let page = client.get_fills().limit(1_000_u64).send().await.unwrap().into_inner();
    let theirs: BTreeSet<String> = page.fills.into_iter().map(|fill| fill.trade_id).collect();
    let ours: BTreeSet<String> = fills.ids.iter().cloned().collect();
    assert_eq!(ours.len(), fills.ids.len(), "a fill comes twice");
    assert_eq!(ours, theirs);
    assert_eq!(fills.feed.metrics().uncovered, 0);
    assert!(fills.feed.metrics().covered > 0);
}
