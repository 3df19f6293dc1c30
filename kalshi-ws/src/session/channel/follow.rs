//! A session that only reads follows the commands of the one that sent them.
//!
//! What follows from a command is decided where it is for a session of its own: each is taken as if
//! the consumer had requested just that, and nothing is sent.

use tokio::{sync::oneshot, time::Instant};

use super::{ChannelState, Phase};
use crate::{
    event::Event,
    product::Product,
    protocol::{
        command::{SentAction, SentCommand, Update},
        message::Sid,
    },
    session::{
        SessionState,
        outbox::{Outbox, PendingKind},
    },
    subscription::{Subscription, needs_items},
};

impl<P: Product> SessionState<P> {
    /// Follows a command that the session whose frames are read has sent.
    pub(crate) fn sent(&mut self, command: SentCommand, now: Instant) {
        let SentCommand { id, action } = command;
        match action {
            SentAction::Subscribe { channel, items } => {
                let lane = self.lane_of(&P::Channel::from(channel));
                if self.channels.get_mut(lane).is_some_and(|state| state.follow_subscribe(items)) {
                    self.out.follow(id, PendingKind::Subscribe(lane), now);
                }
            }
            SentAction::Unsubscribe { sids } => {
                let is_one = sids.len() == 1;
                for sid in sids {
                    let Some((state, out)) = self.of(sid) else { continue };
                    state.unsubscribe(out, now);
                    // Each of several is answered by itself, by its number.
                    if is_one {
                        out.follow(id, PendingKind::Unsubscribe(state.lane), now);
                    }
                }
            }
            SentAction::Update { sid, update, items } => {
                let Some((state, out)) = self.of(sid) else { return };
                let lane = state.lane;
                let kind = match update {
                    Update::Add { .. } if !state.follow_add(&items, out, now) => return,
                    Update::Add { .. } => PendingKind::Add(lane, items),
                    Update::Delete => {
                        state.follow_delete(&items, out, now);
                        PendingKind::Delete(lane, items)
                    }
                    Update::Snapshot => {
                        state.follow_refresh(&items, now);
                        out.follow_snapshots(id, lane, sid, items);
                        return;
                    }
                    Update::List => PendingKind::Query(lane),
                };
                out.follow(id, kind, now);
            }
            SentAction::ListSubscriptions => {
                // Its answer is for nothing here.
                let (answer, _) = oneshot::channel();
                self.out.follow(id, PendingKind::List(answer), now);
            }
        }
    }

    /// Returns the state of a subscription, and where its consequences go.
    fn of(&mut self, sid: Sid) -> Option<(&mut ChannelState<P>, &mut Outbox<P>)> {
        let state = self.channels.iter_mut().find(|state| state.sid() == Some(sid))?;
        Some((state, &mut self.out))
    }

    /// Returns the place of a channel, made if it is missing.
    fn lane_of(&mut self, channel: &P::Channel) -> usize {
        let known = self.channels.iter().position(|state| state.channel == *channel);
        known.unwrap_or_else(|| {
            let lane = self.channels.len();
            self.channels.push(ChannelState::new(lane, channel.clone()));
            lane
        })
    }

    /// Reports whether a reply that names the channel may be the one that the lane waits for.
    pub(crate) fn may_confirm(&self, lane: usize, channel: &P::Channel) -> bool {
        // A recorded client may use an id again.
        !self.out.is_passive
            || self.channels.get(lane).is_some_and(|state| state.channel == *channel)
    }

    /// Makes room for a subscription that a recording has, and returns its place.
    pub(crate) fn adopt(&mut self, channel: &P::Channel) -> usize {
        let lane = self.lane_of(channel);
        if let Some(state) = self.channels.get_mut(lane) {
            state.adopt();
        }
        lane
    }
}

impl<P: Product> ChannelState<P> {
    /// Makes the channel one that is desired, because a recording has it.
    fn adopt(&mut self) {
        let channel = &self.channel;
        self.desired.get_or_insert_with(|| Subscription::channel(channel.clone()));
        if self.phase != Phase::Pending {
            self.is_adopted = true;
            self.is_closing = false;
            self.on_wire.clear();
            self.removed.clear();
        }
    }

    /// Notes a market that a recording shows.
    pub(super) fn show(&mut self, ticker: &str) {
        if let Some(desired) = &mut self.desired {
            desired.items.insert(ticker.to_owned());
        }
        self.on_wire.insert(ticker.to_owned());
    }

    /// Follows `subscribe`, and reports whether its reply is awaited.
    fn follow_subscribe(&mut self, items: Vec<String>) -> bool {
        if matches!(self.phase, Phase::Active { .. }) {
            // A second subscription to the channel: the reply says what comes of it.
            return false;
        }
        let channel = &self.channel;
        let desired = self.desired.get_or_insert_with(|| Subscription::channel(channel.clone()));
        desired.items.extend(items.iter().cloned());
        // Markets that are named by something else than their tickers are those that are shown.
        self.is_adopted = items.is_empty();
        self.is_closing = false;
        self.phase = Phase::Pending;
        self.removed.clear();
        self.on_wire = items.into_iter().collect();
        true
    }

    /// Follows the addition of items, and reports whether its reply is awaited.
    fn follow_add(&mut self, items: &[String], out: &Outbox<P>, now: Instant) -> bool {
        let Some(desired) = &mut self.desired else { return false };
        if desired.items.is_empty() && !needs_items::<P>(&self.channel) {
            // It has all of them, or those that are not known.
            return false;
        }
        desired.items.extend(items.iter().cloned());
        for item in items {
            self.removed.remove(item);
        }
        self.on_wire.extend(items.iter().cloned());
        if self.is_book() {
            self.resync.expect(items.iter().cloned(), now, out.limits.snapshot_timeout);
        }
        true
    }

    /// Follows the deletion of items.
    fn follow_delete(&mut self, items: &[String], out: &mut Outbox<P>, now: Instant) {
        let mut taken = Vec::new();
        for item in items {
            if self.desired.as_mut().is_some_and(|desired| desired.items.remove(item)) {
                taken.push(item.clone());
            }
            self.resync.forget(item);
            if self.is_adopted || self.on_wire.contains(item) {
                self.removed.insert(item.clone());
            }
        }
        if !taken.is_empty() {
            out.control(Event::Removed { channel: self.channel.clone(), items: taken });
        }
        self.settle(out, now);
    }

    /// Follows a request for new snapshots.
    fn follow_refresh(&mut self, items: &[String], now: Instant) {
        let is_lost = |item: &&String| {
            self.on_wire.contains(*item) && self.desires(item) && !self.resync.is_waiting_for(item)
        };
        let lost: Vec<String> = items.iter().filter(is_lost).cloned().collect();
        if self.is_book() && !self.is_closing {
            self.resync.lose(lost, now);
        }
    }
}
