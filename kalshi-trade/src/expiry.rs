//! The rolling expiry: which resting order has to be renewed when. Pure.

use std::{collections::BTreeMap, time::Duration};

use kalshi_types::{UnixMillis, UnixSeconds};

/// The least span: times of expiration are whole seconds.
const MIN_SPAN: Duration = Duration::from_secs(2);

/// The time before a renewal that failed, or could not be sent yet, is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// The renewals that are on their way at once.
const MAX_PENDING: usize = 8;

#[derive(Debug)]
pub(crate) struct RollingExpiry {
    span: Duration,
    /// By client order id.
    orders: BTreeMap<String, Rolling>,
    pending: usize,
}

#[derive(Clone, Copy, Debug)]
struct Rolling {
    /// The time of the next renewal.
    due: UnixMillis,
    is_pending: bool,
}

impl RollingExpiry {
    pub(crate) fn new(span: Duration) -> Self {
        Self { span: span.max(MIN_SPAN), orders: BTreeMap::new(), pending: 0 }
    }

    /// Returns the expiration of what is sent now: never before the span is over.
    pub(crate) fn expires(&self, now: UnixMillis) -> UnixSeconds {
        let millis = now.saturating_add(self.span).as_millis();
        let seconds =
            millis.div_euclid(1_000).saturating_add(i64::from(millis.rem_euclid(1_000) > 0));
        UnixSeconds::from_seconds(seconds)
    }

    /// Takes in an order that was placed with that expiration.
    pub(crate) fn placed(&mut self, id: &str, expires: UnixSeconds) {
        let due = self.due(expires);
        self.orders.insert(id.to_owned(), Rolling { due, is_pending: false });
    }

    /// Returns the orders to renew now, as many as may be on their way, and takes their renewal as
    /// begun.
    pub(crate) fn begin(&mut self, now: UnixMillis) -> Vec<String> {
        let room = MAX_PENDING.saturating_sub(self.pending);
        let is_due = |rolling: &Rolling| !rolling.is_pending && rolling.due <= now;
        let due = self.orders.iter_mut().filter(|(_, rolling)| is_due(rolling)).take(room);
        let due = due.map(|(id, rolling)| {
            rolling.is_pending = true;
            id.clone()
        });
        let due: Vec<String> = due.collect();
        self.pending = self.pending.saturating_add(due.len());
        due
    }

    /// Takes in that the exchange has renewed an order.
    pub(crate) fn renewed(&mut self, id: &str, expires: UnixSeconds) {
        let due = self.due(expires);
        self.end(id, due);
    }

    /// Takes in that an order was not renewed, or that this is not known.
    pub(crate) fn not_renewed(&mut self, id: &str, now: UnixMillis) {
        self.end(id, now.saturating_add(AGAIN));
    }

    /// Forgets an order that is over.
    pub(crate) fn forget(&mut self, id: &str) {
        if let Some(rolling) = self.orders.remove(id)
            && rolling.is_pending
        {
            self.pending = self.pending.saturating_sub(1);
        }
    }

    /// Returns the time of the next renewal that can begin.
    pub(crate) fn next_at(&self) -> Option<UnixMillis> {
        if self.pending >= MAX_PENDING {
            return None;
        }
        let waiting = self.orders.values().filter(|rolling| !rolling.is_pending);
        waiting.map(|rolling| rolling.due).min()
    }

    fn end(&mut self, id: &str, due: UnixMillis) {
        // One that is over meanwhile is forgotten.
        if let Some(rolling) = self.orders.get_mut(id)
            && rolling.is_pending
        {
            *rolling = Rolling { due, is_pending: false };
            self.pending = self.pending.saturating_sub(1);
        }
    }

    /// Returns the time at which half of the span is left.
    fn due(&self, expires: UnixSeconds) -> UnixMillis {
        let expires = UnixMillis::from_millis(expires.as_seconds().saturating_mul(1_000));
        expires.saturating_sub(self.span / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    #[test]
    fn an_order_is_renewed_when_half_of_its_time_is_over_and_again_until_it_is_over() {
        let mut rolling = RollingExpiry::new(Duration::from_secs(10));
        let expires = rolling.expires(at(1));
        assert_eq!(expires, UnixSeconds::from_seconds(11), "never before the span is over");
        assert_eq!(rolling.expires(at(1_000)), UnixSeconds::from_seconds(11));
        rolling.placed("a", expires);
        assert_eq!(rolling.next_at(), Some(at(6_000)));
        assert!(rolling.begin(at(5_999)).is_empty());
        assert_eq!(rolling.begin(at(6_000)), ["a"]);
        assert!(rolling.begin(at(6_000)).is_empty(), "it is on its way");
        rolling.not_renewed("a", at(6_100));
        assert_eq!(rolling.next_at(), Some(at(6_350)));
        assert_eq!(rolling.begin(at(6_350)), ["a"]);
        rolling.renewed("a", UnixSeconds::from_seconds(17));
        assert_eq!(rolling.next_at(), Some(at(12_000)));
        rolling.forget("a");
        assert_eq!(rolling.next_at(), None);
    }

    #[test]
    fn only_some_are_on_their_way_at_once_and_those_that_end_make_room() {
        let mut rolling = RollingExpiry::new(Duration::ZERO);
        assert_eq!(rolling.span, MIN_SPAN);
        for number in 0..20 {
            rolling.placed(&format!("{number:02}"), UnixSeconds::from_seconds(2));
        }
        let first = rolling.begin(at(1_000));
        assert_eq!(first.len(), MAX_PENDING);
        assert_eq!(rolling.next_at(), None);
        // One is over, one is renewed twice, and one is forgotten and then answered.
        rolling.forget(&first[0]);
        rolling.renewed(&first[0], UnixSeconds::from_seconds(9));
        rolling.renewed(&first[1], UnixSeconds::from_seconds(9));
        rolling.renewed(&first[1], UnixSeconds::from_seconds(9));
        assert_eq!(rolling.next_at(), Some(at(1_000)));
        assert_eq!(rolling.begin(at(1_000)).len(), 2);
    }
}
