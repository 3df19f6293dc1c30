//! The way out: nothing that was placed here is left.

use std::time::Duration;

use kalshi_types::UnixMillis;
use tokio::time::Instant;

use super::{RETRY_AFTER, Read, Trading, by};
use crate::orders::{Life, OrderEvent, OrderIntent, OrderKey};

/// The time before a cancel on the way out is repeated.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// The end of [`Trading::exit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exited {
    /// Orders placed here that rest, as far as is known: cancel them by hand.
    pub resting: Vec<OrderKey>,
    /// Orders placed here of which it is not known whether they exist. The journal has them: the
    /// next session settles them first.
    pub unsettled: Vec<OrderKey>,
    /// Orders that were not placed here and rest. They are left alone.
    pub foreign: Vec<OrderKey>,
    /// The events meanwhile, fills among them: take them in as those of [`Trading::next`].
    pub events: Vec<OrderEvent>,
}

impl Exited {
    /// Reports whether no order that was placed here is left.
    pub fn is_clean(&self) -> bool {
        self.resting.is_empty() && self.unsettled.is_empty()
    }
}

impl Trading {
    /// Ends the orders that were placed here: none is placed any more, what was not sent is
    /// withdrawn, what rests is canceled, again and again, and what is unknown is settled. Returns when
    /// nothing is left, or after `within`, and says what is left. Foreign orders are left alone. After
    /// it, [`next`](Self::next) goes on canceling what is left.
    ///
    /// When the streams are closed, it goes on by reads. [`Duration::MAX`] waits until nothing is left.
    ///
    /// To prove that an order whose answer was lost does not exist takes a little over a minute: with
    /// less time it may be left unsettled, for the next session to settle.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the orders that are not canceled yet. None is placed any more.
    pub async fn exit(&mut self, within: Duration) -> Exited {
        self.is_exiting = true;
        for (placement, _) in &self.open {
            placement.withdraw();
        }
        for renewal in &self.renewing {
            renewal.change.withdraw();
        }
        // None for a time beyond all clocks.
        let end = Instant::now().checked_add(within);
        let mut exited = Exited::default();
        let mut has_streams = true;
        while !self.has_ended() {
            match by(end, self.advance(has_streams)).await {
                Some(Some(events)) => exited.events.extend(events),
                // The streams are closed. Cancels are sent, and orders read, without them.
                Some(None) => has_streams = false,
                None => break,
            }
        }
        for (key, order) in self.orders.iter() {
            match order.life() {
                Life::Resting if order.is_own() => exited.resting.push(key),
                Life::Resting => exited.foreign.push(key),
                Life::Unsettled | Life::Unsent if order.is_own() => exited.unsettled.push(key),
                _ => {}
            }
        }
        exited
    }

    /// Reports whether nothing that was placed here is left.
    pub(super) fn has_ended(&self) -> bool {
        self.open.is_empty() && self.orders.own_open().next().is_none()
    }

    /// Begins to cancel what rests, and what was canceled a while ago and still rests. What became of
    /// each, the streams and reads show; a cancel that is under way already is not sent twice.
    pub(super) fn begin_cancels(&mut self, now: UnixMillis) {
        let (mut targets, mut keys) = (Vec::new(), Vec::new());
        let at = Instant::now();
        for (key, order) in self.orders.own_open() {
            let is_due = self.canceled.get(&key).is_none_or(|last| at >= *last + CANCEL_AGAIN);
            if is_due
                && order.life() == Life::Resting
                && let Ok(target) = self.target(key)
            {
                targets.push(target);
                keys.push(key);
            }
        }
        if targets.is_empty() {
            return;
        }
        for key in keys {
            self.withdraw_changes(key);
            self.canceled.insert(key, at);
            // One that has the intent already keeps it.
            let _ = self.orders.set_intent(key, OrderIntent::Cancel, false);
            self.orders.answer_intent(key, now.saturating_add(self.window));
            // The stream usually brings it. One that is due already is not put off.
            self.reads.entry(key).or_insert((Read::Order, now.saturating_add(RETRY_AFTER)));
        }
        self.placements.cancel_all(targets);
    }
}
