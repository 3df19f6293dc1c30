//! Streams against a whole exchange, over sockets, while everything that can go wrong does. One
//! source for every product: [`Played`] says what differs.
//!
//! Under test are two clients, one that blocks when it is slow and one that drops, and then, for
//! event contracts, a client of two merged connections. Another, plain WebSocket client without any
//! of this crate's code sees everything, without faults: it is the truth. What a book of ours may be
//! read as must be what the truth was, in the same order; whenever the exchange stands still, every
//! book must be the exchange's own, level by level; and nothing is missing without an event: by the
//! sequence numbers of a connection, and by the changes themselves of merged ones.
//!
//! `SOAK_DELTAS` says how many changes of the books, and `SOAK_SEED` which faults.

use std::{env, time::Duration};

use kalshi_sim::Role;
use kalshi_ws::EventContracts;

use self::{
    played::Played,
    world::{Counts, World},
};

mod client;
mod detour;
mod fills;
mod levels;
mod markets;
mod observer;
mod played;
mod replies;
mod world;

/// Commands of the exchange's traders at a stretch. Their changes must fit into the queue of the
/// observer, which reads between the stretches.
const STRETCH: u64 = 1_000;

/// Messages that the exchange keeps for a slow reader.
const CAPACITY: usize = 4_000;

/// The keys of the merged connections. The second one is the observer's, so what happens to that
/// connection happens on the way.
const MERGED: [Role; 2] = [Role::Trader, Role::Maker];

/// Nothing takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time after which a soak gives up a silent connection; it silences some on purpose.
const STALE_AFTER: Duration = Duration::from_secs(3);

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn seed() -> u64 {
    number("SOAK_SEED", 1)
}

/// Rounds of faults and disasters, until there have been enough changes. `victims` says whose
/// connections each of them happens to.
#[expect(clippy::print_stdout, reason = "a soak says what it did")]
async fn soak<P: Played>(mut world: World<P>, victims: impl Fn(u64) -> Vec<Role>) -> Counts {
    const KINDS: u64 = 6;
    let target = number("SOAK_DELTAS", 150_000);
    let mut events = world.rest().await;
    let (mut rounds, mut compared) = (0, P::MARKETS);
    while world.observer.deltas < target || rounds < 2 * KINDS {
        world.victims = victims(rounds);
        world.set_faults();
        let middle = world.observer.deltas + target / 100;
        world.trade_until(middle).await;
        // A stall takes sixty thousand changes by itself: twice is enough.
        let which = rounds % KINDS;
        if which != 3 || rounds < 2 * KINDS {
            world.disaster(which).await;
        }
        let end = world.observer.deltas + target / 100;
        world.trade_until(end).await;
        events = world.rest().await;
        rounds += 1;
        compared += P::MARKETS;
    }
    let deltas = world.observer.deltas;
    println!("{deltas} changes, {rounds} rounds, {compared} books of each client compared");
    for (name, events) in &events {
        println!("{name}: {events:?}");
    }
    events
}

/// Puts single connections of a product to the test.
async fn single_connections<P: Played>() {
    let world = World::<P>::start(seed()).await;
    let events = soak(world, |_| vec![Role::Trader]).await;
    let count = |client: &str, event: &str| events[client].get(event).copied().unwrap_or(0);
    for client in ["blocking", "dropping"] {
        for event in [
            "gap",
            "resynced",
            "disconnected",
            "attempt failed",
            "reconnected",
            "stale",
            "removed",
            "ended",
        ] {
            assert!(count(client, event) > 0, "{client}: {event} never happened");
        }
    }
    assert!(count("blocking", "cut off for being slow") > 0);
    assert!(count("dropping", "lagged") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_book_is_ever_wrong_and_nothing_is_lost_in_silence() {
    single_connections::<EventContracts>().await;
}

#[cfg(feature = "perps")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_book_of_a_perpetual_future_is_ever_wrong_and_nothing_is_lost_in_silence() {
    single_connections::<kalshi_ws::perps::Perps>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_connections_have_every_change_once_or_say_what_is_missing() {
    // One of them, the other one, and both.
    let victims = |round: u64| match round % 4 {
        0 | 2 => vec![Role::Trader],
        1 => vec![Role::Maker],
        _ => MERGED.to_vec(),
    };
    let world = World::start_merged(seed(), STALE_AFTER).await;
    let events = soak(world, victims).await;
    let count = |event: &str| events["merged"].get(event).copied().unwrap_or(0);
    for event in [
        "gap of a feed",
        "disconnected feed",
        "ended on a feed",
        "lagged feed",
        "uncovered",
        "failover",
        "removed",
    ] {
        assert!(count(event) > 0, "{event} never happened");
    }
}

/// Books stay valid while a socket is lost and replaced, and no change is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_books_stay_valid_through_the_loss_of_one_socket() {
    // Nothing but the cuts ends a connection, however slow the machine.
    let mut world = World::start_merged(7, PATIENCE).await;
    let before = world.rest_covered().await;
    for victim in [Role::Trader, Role::Maker, Role::Trader] {
        world.trade(STRETCH).await;
        world.victims = vec![victim];
        world.disaster(0).await;
        world.trade(STRETCH).await;
        world.rest_covered().await;
    }
    let after = world.rest().await;
    let count =
        |events: &Counts, name: &str| events["merged"].get(name).copied().unwrap_or_default();
    let counts = format!("{before:?}, {after:?}");
    assert_eq!(count(&after, "disconnected feed"), 3, "{counts}");
    assert_eq!(count(&after, "uncovered"), count(&before, "uncovered"), "{counts}");
    assert_eq!(count(&after, "disconnected"), 0, "{counts}");
}
