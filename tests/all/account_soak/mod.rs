//! Your account of either product, kept from its streams, against the exchange's own: one source, in
//! which [`Player`] says what differs.
//!
//! Both sides trade at random in three subaccounts. Messages come twice; connections are cut, and
//! refused for a time; subscriptions end with an error; whatever happened on the way before a cut is
//! lost. The account changes while it is read. Whenever the exchange stands still, orders, positions
//! and fills are those that REST says, after nothing but the events and a reading for each loss that
//! an event reported.
//!
//! `SOAK_STEPS` says how many steps, and `SOAK_SEED` which ones.

use std::{collections::BTreeSet, env, fmt::Debug, time::Duration};

use kalshi_sim::{Ending, Exchange, StreamFaults, Target};
use tokio::time::timeout;

use crate::{account::PATIENCE, support::Random};

mod events;
mod perps;

/// A trader with a stream and a view of the account, and a counterpart.
trait Player: Sized {
    /// Resting orders, positions and fills.
    type State: PartialEq + Debug;

    /// Opens an exchange, and reads the account for the first time.
    async fn open() -> Self;

    fn exchange(&self) -> &Exchange;

    /// Handles the next event.
    async fn event(&mut self);

    /// Handles the events that have come already.
    fn drain(&mut self);

    fn is_subscribed(&self) -> bool;

    /// Reports whether the view is complete as of the last event.
    fn is_current(&self) -> bool;

    /// Reads the account. Returns the number of fills that had been missed.
    async fn reconcile(&mut self) -> usize;

    /// Reads the account while it changes.
    async fn reconcile_meanwhile(&mut self, random: &mut Random) -> usize;

    /// Trades, or cancels an order.
    async fn act(&self, random: &mut Random);

    /// Returns the view's state of the account.
    fn state(&self) -> Self::State;

    /// Returns the exchange's state of the account, over REST.
    async fn rest(&self) -> Self::State;

    fn fills(&self) -> usize;
}

/// Sets the faults of the usual run: messages that come twice.
fn set_usual_faults(exchange: &Exchange) {
    let mut faults = StreamFaults::default();
    faults.duplicate_one_in = 5;
    exchange.streams().set_faults(Target::All, faults).unwrap();
}

/// Causes a loss: each of four kinds in its turn.
async fn disaster<P: Player>(player: &P, number: usize, random: &mut Random) {
    let streams = player.exchange().streams();
    match number % 4 {
        0 => streams.cut(Target::All).unwrap(),
        1 => {
            let ending = *random.pick(&[Ending::ChannelError, Ending::BufferOverflow]);
            streams.end_subscriptions(Target::All, ending).unwrap();
        }
        2 => streams.restart(Target::All, Duration::from_millis(20)).unwrap(),
        _ => {
            // What is lost on the way shows by the cut alone: these channels have no numbers.
            let mut silence = StreamFaults::default();
            silence.drop_one_in = 1;
            streams.set_faults(Target::All, silence).unwrap();
            for _ in 0..3 {
                player.act(random).await;
            }
            streams.cut(Target::All).unwrap();
            set_usual_faults(player.exchange());
        }
    }
}

/// Reads the stream until the view says what REST says. A loss that an event has reported is
/// reconciled; nothing else is.
async fn agrees_with_rest<P: Player>(player: &mut P) {
    let rest = player.rest().await;
    let agreed = timeout(PATIENCE, async {
        while player.state() != rest {
            // Nothing more may come after the last confirmation.
            if player.is_subscribed() && !player.is_current() {
                player.reconcile().await;
            } else {
                player.event().await;
            }
        }
    });
    if agreed.await.is_err() {
        assert_eq!(player.state(), rest);
    }
    player.drain();
    assert_eq!(player.state(), rest);
    player.exchange().audit().unwrap();
}

#[expect(clippy::print_stdout, reason = "a soak says what it did")]
async fn play<P: Player>(seed: u64) -> P {
    let steps = number("SOAK_STEPS", 700);
    let mut random = Random::new(seed);
    let mut player = P::open().await;
    let old = player.fills();
    set_usual_faults(player.exchange());
    let mut losses: BTreeSet<usize> = BTreeSet::new();
    while losses.len() < steps / 50 {
        losses.insert(random.below(steps));
    }
    let (mut lost, mut reported, mut compared) = (0, 0, 0);
    for step in 0..steps {
        if losses.contains(&step) {
            disaster(&player, lost, &mut random).await;
            lost += 1;
        }
        player.drain();
        // Sooner or later, and not at once.
        if !player.is_subscribed() || player.is_current() || random.chance(60) {
            player.act(&mut random).await;
        } else if random.chance(50) {
            reported += player.reconcile().await;
        } else {
            // The stream is read meanwhile.
            reported += player.reconcile_meanwhile(&mut random).await;
        }
        if step % 50 == 49 {
            agrees_with_rest(&mut player).await;
            compared += 1;
        }
    }
    let fills = player.fills() - old;
    println!(
        "{seed}: {fills} fills, {reported} by REST first, {compared} comparisons, {lost} losses"
    );
    assert!(fills > steps / 7 && reported > 0, "{fills} fills, {reported} by REST first");
    // The last loss may still be on its way.
    player.exchange().streams().cut(Target::All).unwrap();
    while player.is_subscribed() {
        player.event().await;
    }
    while !player.is_subscribed() {
        player.event().await;
    }
    player.reconcile().await;
    assert!(player.is_current());
    agrees_with_rest(&mut player).await;
    player.act(&mut random).await;
    agrees_with_rest(&mut player).await;
    player
}

fn number<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Returns two seeds.
fn seeds() -> [u64; 2] {
    let seed = number("SOAK_SEED", 1);
    [seed, seed + 1]
}

#[tokio::test]
async fn whatever_happens_the_view_ends_where_rest_is() {
    for seed in seeds() {
        play::<events::Events>(seed).await;
    }
}

#[tokio::test]
async fn whatever_happens_the_account_of_perpetual_futures_ends_where_rest_is() {
    let mut liquidations = 0;
    for seed in seeds() {
        liquidations += play::<perps::Perps>(seed).await.liquidations();
    }
    println!("{liquidations} fills of liquidations");
    assert!(liquidations > 0, "the exchange has closed no position");
}
