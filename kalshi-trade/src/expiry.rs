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
    /// The time from which on no renewal of an earlier session can be carried out.
    settled_at: UnixMillis,
}

#[derive(Clone, Copy, Debug)]
struct Rolling {
    /// The time of the next renewal.
    due: UnixMillis,
    is_pending: bool,
    /// A renewal whose answer was lost may be carried out until then.
    late_until: Option<UnixMillis>,
}

impl RollingExpiry {
    /// `window` is the time for which a request may be carried out late.
    pub(crate) fn new(span: Duration, now: UnixMillis, window: Duration) -> Self {
        let settled_at = now.saturating_add(window);
        Self { span: span.max(MIN_SPAN), orders: BTreeMap::new(), pending: 0, settled_at }
    }

    /// Reports whether a renewal of an order may still be carried out, and would undo what is
    /// changed now. Orders that are not renewed here may be those of an earlier session.
    pub(crate) fn is_renewing(&self, id: &str, now: UnixMillis) -> bool {
        match self.orders.get(id) {
            Some(rolling) => {
                rolling.is_pending || rolling.late_until.is_some_and(|until| now < until)
            }
            None => now < self.settled_at,
        }
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
        self.orders.insert(id.to_owned(), Rolling { due, is_pending: false, late_until: None });
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

    /// Takes in that an order was not renewed, or that this is not known: then it may be for a time.
    pub(crate) fn not_renewed(&mut self, id: &str, now: UnixMillis, late: Option<Duration>) {
        if let (Some(rolling), Some(late)) = (self.orders.get_mut(id), late) {
            rolling.late_until = rolling.late_until.max(Some(now.saturating_add(late)));
        }
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
            *rolling = Rolling { due, is_pending: false, ..*rolling };
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

    const WINDOW: Duration = Duration::from_secs(60);

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    #[test]
    fn an_order_is_renewed_when_half_of_its_time_is_over_and_again_until_it_is_over() {
        let mut rolling = RollingExpiry::new(Duration::from_secs(10), at(0), WINDOW);
        let expires = rolling.expires(at(1));
        assert_eq!(expires, UnixSeconds::from_seconds(11), "never before the span is over");
        assert_eq!(rolling.expires(at(1_000)), UnixSeconds::from_seconds(11));
        rolling.placed("a", expires);
        assert_eq!(rolling.next_at(), Some(at(6_000)));
        assert!(rolling.begin(at(5_999)).is_empty());
        assert_eq!(rolling.begin(at(6_000)), ["a"]);
        assert!(rolling.begin(at(6_000)).is_empty(), "it is on its way");
        rolling.not_renewed("a", at(6_100), None);
        assert_eq!(rolling.next_at(), Some(at(6_350)));
        assert_eq!(rolling.begin(at(6_350)), ["a"]);
        rolling.renewed("a", UnixSeconds::from_seconds(17));
        assert_eq!(rolling.next_at(), Some(at(12_000)));
        rolling.forget("a");
        assert_eq!(rolling.next_at(), None);
    }

    #[test]
    fn an_order_is_not_changed_while_a_renewal_may_still_be_carried_out() {
        let mut rolling = RollingExpiry::new(Duration::from_secs(10), at(0), WINDOW);
        assert!(rolling.is_renewing("of an earlier session", at(59_999)));
        assert!(!rolling.is_renewing("of an earlier session", at(60_000)));
        rolling.placed("a", UnixSeconds::from_seconds(10));
        assert!(!rolling.is_renewing("a", at(0)));
        assert_eq!(rolling.begin(at(5_000)), ["a"]);
        assert!(rolling.is_renewing("a", at(5_000)));
        // Refused: nothing is on its way.
        rolling.not_renewed("a", at(5_000), None);
        assert!(!rolling.is_renewing("a", at(5_000)));
        // Lost: it may be carried out late, also when a later one was answered.
        assert_eq!(rolling.begin(at(5_250)), ["a"]);
        rolling.not_renewed("a", at(5_300), Some(WINDOW));
        assert_eq!(rolling.begin(at(5_550)), ["a"]);
        rolling.renewed("a", UnixSeconds::from_seconds(16));
        assert!(rolling.is_renewing("a", at(65_299)));
        assert!(!rolling.is_renewing("a", at(65_300)));
    }

    #[test]
    fn only_some_are_on_their_way_at_once_and_those_that_end_make_room() {
        let mut rolling = RollingExpiry::new(Duration::ZERO, at(0), WINDOW);
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
