//! Markets that get another ticker.
//!
//! The exchange goes on under the new ticker by itself, in the subscription that named the old one.

use tokio::time::Instant;

use super::{ChannelState, Phase};
use crate::{
    event::Event,
    product::Product,
    session::outbox::{Outbox, Output},
};

/// The number of tickers outside a subscription that are remembered.
const MAX_FOREIGN: usize = 1_024;

impl<P: Product> ChannelState<P> {
    /// Reports whether the subscription has the market, as far as is known.
    #[inline]
    pub(super) fn has(&self, ticker: &str) -> bool {
        !P::TICKERS_CHANGE
            || self.is_adopted
            || self.on_wire.contains(ticker)
            || self.doubtful.contains(ticker)
    }

    /// Handles a book's message of a market that the subscription does not have: one that it has may
    /// have this ticker now, and nothing says which.
    pub(super) fn misnamed(
        &mut self,
        ticker: &str,
        seq: Option<i64>,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        if self.foreign.contains(ticker) {
            return;
        }
        self.remember_foreign(ticker);
        self.gap(seq, None, out, now);
    }

    fn remember_foreign(&mut self, ticker: &str) {
        if self.foreign.len() < MAX_FOREIGN {
            self.foreign.insert(ticker.to_owned());
        }
    }

    /// Records that a market has another ticker.
    pub(crate) fn renamed(&mut self, old: &str, new: &str, out: &mut Outbox<P>, now: Instant) {
        if old == new {
            return;
        }
        let is_desired = self.desired.as_mut().is_some_and(|desired| {
            let is_desired = desired.items.remove(old);
            if is_desired {
                desired.items.insert(new.to_owned());
            }
            is_desired
        });
        let is_on_wire = self.on_wire.remove(old);
        if !is_desired && !is_on_wire {
            return;
        }
        if is_on_wire {
            self.on_wire.insert(new.to_owned());
        }
        for items in [&mut self.in_flight, &mut self.doubtful, &mut self.removed] {
            if items.remove(old) {
                items.insert(new.to_owned());
            }
        }
        out.renamed(self.lane, old, new);
        self.resync.forget(old);
        self.foreign.remove(new);
        if self.is_book() {
            // What is left of it on the way is of no book.
            self.remember_foreign(old);
            out.outputs.push_back(Output::ForgetNames(vec![old.to_owned()]));
        }
        if is_desired {
            let channel = self.channel.clone();
            tracing::info!(%channel, old, new, "a ticker has changed");
            out.control(Event::Removed { channel: channel.clone(), items: vec![old.to_owned()] });
            if matches!(self.phase, Phase::Active { .. }) && !self.is_closing {
                out.control(Event::Added { channel, items: vec![new.to_owned()] });
            }
            if is_on_wire {
                self.lose(vec![new.to_owned()], out, now);
            }
        }
        self.settle(out, now);
    }
}
