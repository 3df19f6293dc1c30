//! The rolling expiry: which resting order has to be renewed when. Pure.

use std::{collections::BTreeMap, time::Duration};

use kalshi_types::{UnixMillis, UnixSeconds};

/// The least span: times of expiration are whole seconds.
const MIN_SPAN: Duration = Duration::from_secs(2);

/// The time before a renewal that failed, or could not be sent yet, is tried again. It doubles with
/// each that failed, up to an eighth of the span.
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
    /// The expiration that the order is known to have had last.
    expires: UnixSeconds,
    /// The latest that was asked for.
    asked: UnixSeconds,
    /// The time of the next renewal.
    due: UnixMillis,
    is_pending: bool,
    /// Renewals that failed, one after the other.
    failures: u32,
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

    /// Returns the expiration of the next renewal of an order: no two ask for the same, so that the
    /// order shows which of them were carried out.
    pub(crate) fn renewal(&self, id: &str, now: UnixMillis) -> Option<UnixSeconds> {
        let rolling = self.orders.get(id)?;
        let later = UnixSeconds::from_seconds(rolling.asked.as_seconds().saturating_add(1));
        Some(self.expires(now).max(later))
    }

    /// Takes in that a renewal asks for that expiration.
    pub(crate) fn asked(&mut self, id: &str, expires: UnixSeconds) {
        if let Some(rolling) = self.orders.get_mut(id) {
            rolling.asked = rolling.asked.max(expires);
        }
    }

    /// Returns the time within which a renewal is sent.
    pub(crate) fn within(&self) -> Duration {
        self.span / 4
    }

    /// Takes in an order that was placed with that expiration.
    pub(crate) fn placed(&mut self, id: &str, expires: UnixSeconds) {
        let due = self.due(expires);
        let rolling = Rolling { expires, asked: expires, due, is_pending: false, failures: 0 };
        self.orders.insert(id.to_owned(), rolling);
    }

    /// Returns the expiration that an order is known to have had last.
    pub(crate) fn known(&self, id: &str) -> Option<UnixMillis> {
        self.orders.get(id).map(|rolling| millis_of(rolling.expires))
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
        self.confirm(id, expires);
    }

    /// Takes in that a renewal whose outcome was not known was carried out: another may be on its
    /// way.
    pub(crate) fn renewed_late(&mut self, id: &str, expires: UnixSeconds) {
        self.confirm(id, expires);
        let due = self.due(expires);
        if let Some(rolling) = self.orders.get_mut(id)
            && !rolling.is_pending
        {
            rolling.due = rolling.due.max(due);
        }
    }

    /// Takes in that a renewal could not begin yet: a change of the order is on its way.
    pub(crate) fn not_begun(&mut self, id: &str, now: UnixMillis) {
        self.end(id, now.saturating_add(AGAIN));
    }

    /// Takes in that an order was not renewed, or that this is not known.
    pub(crate) fn not_renewed(&mut self, id: &str, now: UnixMillis) {
        let longest = (self.span / 8).max(AGAIN);
        let Some(rolling) = self.orders.get_mut(id) else { return };
        let factor = 1_u32.checked_shl(rolling.failures).unwrap_or(u32::MAX);
        rolling.failures = rolling.failures.saturating_add(1);
        self.end(id, now.saturating_add(AGAIN.saturating_mul(factor).min(longest)));
    }

    /// Takes in that the clock was set back: no repetition is put off by more than its pause. A first
    /// renewal stays where half of the span is left, as the expiration is a time of that clock.
    pub(crate) fn set_back(&mut self, now: UnixMillis) {
        let latest = now.saturating_add((self.span / 8).max(AGAIN));
        let half = self.span / 2;
        for rolling in self.orders.values_mut() {
            let first = millis_of(rolling.expires).saturating_sub(half);
            rolling.due = rolling.due.min(latest.max(first));
        }
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

    fn confirm(&mut self, id: &str, expires: UnixSeconds) {
        if let Some(rolling) = self.orders.get_mut(id) {
            rolling.expires = rolling.expires.max(expires);
            rolling.failures = 0;
        }
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
        millis_of(expires).saturating_sub(self.span / 2)
    }
}

fn millis_of(expires: UnixSeconds) -> UnixMillis {
    UnixMillis::from_millis(expires.as_seconds().saturating_mul(1_000))
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
        assert_eq!(rolling.known("a"), Some(at(11_000)));
        assert_eq!(rolling.next_at(), Some(at(6_000)));
        assert!(rolling.begin(at(5_999)).is_empty());
        assert_eq!(rolling.begin(at(6_000)), ["a"]);
        assert!(rolling.begin(at(6_000)).is_empty(), "it is on its way");
        rolling.not_renewed("a", at(6_100));
        assert_eq!(rolling.next_at(), Some(at(6_350)));
        assert_eq!(rolling.begin(at(6_350)), ["a"]);
        rolling.renewed("a", UnixSeconds::from_seconds(17));
        assert_eq!(rolling.known("a"), Some(at(17_000)));
        assert_eq!(rolling.next_at(), Some(at(12_000)));
        rolling.forget("a");
        assert_eq!((rolling.next_at(), rolling.known("a")), (None, None));
    }

    #[test]
    fn no_two_renewals_of_an_order_ask_for_the_same_expiration() {
        let mut rolling = RollingExpiry::new(Duration::from_secs(10));
        rolling.placed("a", UnixSeconds::from_seconds(10));
        let ask = |rolling: &mut RollingExpiry, now| {
            let expires = rolling.renewal("a", at(now)).unwrap();
            rolling.asked("a", expires);
            expires.as_seconds()
        };
        let asked = [0, 5_000, 5_250, 5_999, 9_000].map(|now| ask(&mut rolling, now));
        assert_eq!(asked, [11, 15, 16, 17, 19]);
        assert_eq!(rolling.renewal("b", at(0)), None);
    }

    #[test]
    fn renewals_that_fail_are_repeated_less_and_less_often_until_one_succeeds() {
        let mut rolling = RollingExpiry::new(Duration::from_secs(16));
        rolling.placed("a", UnixSeconds::from_seconds(8));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert_eq!(rolling.begin(at(100_000)), ["a"]);
            rolling.not_renewed("a", at(0));
            pauses.push(rolling.next_at().unwrap().as_millis());
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 2_000, 2_000]);
        // A change that is on its way is no failure.
        assert_eq!(rolling.begin(at(100_000)), ["a"]);
        rolling.not_begun("a", at(0));
        assert_eq!(rolling.next_at(), Some(at(250)));
        // One of them was carried out, as is found later.
        rolling.renewed_late("a", UnixSeconds::from_seconds(20));
        assert_eq!((rolling.next_at(), rolling.known("a")), (Some(at(12_000)), Some(at(20_000))));
        assert_eq!(rolling.begin(at(12_000)), ["a"]);
        // Also while another is on its way, which it does not end.
        rolling.renewed_late("a", UnixSeconds::from_seconds(19));
        assert_eq!((rolling.next_at(), rolling.known("a")), (None, Some(at(20_000))));
        rolling.not_renewed("a", at(12_000));
        assert_eq!(rolling.next_at(), Some(at(12_250)));
        // With a short span the pause is no longer than it can be.
        assert_eq!(RollingExpiry::new(Duration::ZERO).span, MIN_SPAN);
    }

    #[test]
    fn a_clock_that_is_set_back_puts_off_no_repetition() {
        let mut rolling = RollingExpiry::new(Duration::from_secs(16));
        rolling.placed("a", UnixSeconds::from_seconds(8));
        rolling.placed("b", UnixSeconds::from_seconds(100_000));
        assert_eq!(rolling.begin(at(3_600_000)), ["a"]);
        rolling.not_renewed("a", at(3_600_000));
        rolling.set_back(at(1_000));
        assert_eq!(rolling.next_at(), Some(at(3_000)));
        assert_eq!(rolling.begin(at(3_000)), ["a"]);
        assert_eq!(rolling.next_at(), Some(at(99_992_000)), "that of the other stays");
    }

    #[test]
    fn only_some_are_on_their_way_at_once_and_those_that_end_make_room() {
        let mut rolling = RollingExpiry::new(Duration::ZERO);
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
