//! Sequence numbers of one subscription.

/// The position of a sequence number in its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// The number that was due.
    InOrder,
    /// The number of the message before: the message came twice.
    Repeated,
    /// Any other number, or none.
    Gap { expected: Option<i64>, received: Option<i64> },
}

/// Tracks the sequence numbers of a subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct SequenceTracker {
    last: Option<i64>,
    /// `last` comes from a reply to a command: a message may have the same number.
    last_is_reply: bool,
    /// A frame came whose number could not be read: it may have had the next one.
    may_skip: bool,
    /// A number went back: the messages are late ones, until they are beyond the highest.
    late: Option<Late>,
}

#[derive(Clone, Copy, Debug)]
struct Late {
    highest: i64,
    /// Numbers in order since then.
    in_order: u32,
}

/// So many numbers in order after a step back are not late: the exchange counts anew.
const COUNTS_ANEW: u32 = 1_000;

impl SequenceTracker {
    /// Returns the tracker of a subscription that was just confirmed. Its first number is 1.
    pub(crate) const fn fresh() -> Self {
        // As after a reply, so that a subscription that begins at 0 loses nothing.
        Self::starting_at(0)
    }

    /// Reports whether any number of the subscription has been seen.
    pub(crate) fn has_counted(&self) -> bool {
        self.last.is_some_and(|last| last > 0)
    }

    /// Reports whether this is the number that is due; if so, it is taken.
    #[inline]
    pub(crate) fn advance(&mut self, seq: Option<i64>) -> bool {
        let due = seq.is_some()
            && seq == self.last.and_then(|last| last.checked_add(1))
            && self.late.is_none();
        if due {
            self.last = seq;
            self.last_is_reply = false;
            self.may_skip = false;
        }
        due
    }

    /// Checks the number of a message, and takes it as the base for the next one.
    pub(crate) fn check(&mut self, seq: Option<i64>) -> Continuity {
        let expected = self.due();
        let Some(seq) = seq else {
            self.may_skip = true;
            return Continuity::Gap { expected, received: None };
        };
        let late = self.late_after(seq);
        let now = Self { last: Some(seq), last_is_reply: false, may_skip: false, late };
        let before = std::mem::replace(self, now);
        match before.last {
            None => Continuity::InOrder,
            Some(last) if last.checked_add(1) == Some(seq) => Continuity::InOrder,
            Some(last) if before.may_skip && last.checked_add(2) == Some(seq) => {
                Continuity::InOrder
            }
            Some(last) if last == seq && before.last_is_reply => Continuity::InOrder,
            Some(last) if last == seq => {
                // The frame that may have been skipped is still to be accounted for.
                self.may_skip = before.may_skip;
                Continuity::Repeated
            }
            Some(_) => Continuity::Gap { expected, received: Some(seq) },
        }
    }

    fn late_after(&self, seq: i64) -> Option<Late> {
        let last = self.last?;
        let highest = self.late.map_or(last, |late| late.highest.max(last));
        if seq > highest || seq == last && self.late.is_none() {
            return None;
        }
        let continues = last.checked_add(1) == Some(seq);
        let in_order = self.late.filter(|_| continues).map_or(0, |late| late.in_order + 1);
        (in_order < COUNTS_ANEW).then_some(Late { highest, in_order })
    }

    /// Reports whether the last message was older than one before it.
    pub(crate) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Takes the number of a reply where it fits. Replies are observed to use the numbers of the
    /// subscription; that is not documented.
    pub(crate) fn reply(&mut self, seq: Option<i64>) {
        let Some(seq) = seq else { return };
        let next = self.last.and_then(|last| last.checked_add(1));
        let skipped = self.last.and_then(|last| last.checked_add(2));
        if next == Some(seq) || self.may_skip && skipped == Some(seq) {
            *self = Self { last: Some(seq), last_is_reply: true, may_skip: false, late: self.late };
        }
    }

    /// Returns the number that is due, if one is known.
    pub(crate) fn due(&self) -> Option<i64> {
        self.last.map(|last| last.saturating_add(1))
    }

    /// Notes that a frame came whose number could not be read.
    pub(crate) fn skip_unreadable(&mut self) {
        self.may_skip = true;
    }

    /// Takes the number of the reply that confirmed the subscription.
    pub(crate) const fn starting_at(seq: i64) -> Self {
        Self { last: Some(seq), last_is_reply: true, may_skip: false, late: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(expected: i64, received: impl Into<Option<i64>>) -> Continuity {
        Continuity::Gap { expected: Some(expected), received: received.into() }
    }

    #[test]
    fn numbers_begin_at_one_and_a_lost_first_message_is_a_gap() {
        let mut tracker = SequenceTracker::fresh();
        assert_eq!(tracker.check(Some(1)), Continuity::InOrder);
        assert_eq!(tracker.check(Some(2)), Continuity::InOrder);
        assert_eq!(tracker.check(Some(2)), Continuity::Repeated);
        assert_eq!(tracker.check(Some(4)), gap(3, 4));
        assert_eq!(tracker.check(Some(3)), gap(5, 3));
        assert_eq!(SequenceTracker::fresh().check(Some(2)), gap(1, 2));
        assert_eq!(SequenceTracker::fresh().check(Some(0)), Continuity::InOrder);
    }

    #[test]
    fn late_messages_are_told_from_a_counter_that_begins_anew() {
        let mut tracker = SequenceTracker::starting_at(50);
        assert_eq!(tracker.check(Some(51)), Continuity::InOrder);
        assert!(!tracker.is_late());
        assert_eq!(tracker.check(Some(30)), gap(52, 30));
        assert_eq!(tracker.check(Some(31)), Continuity::InOrder);
        assert!(tracker.is_late() && !tracker.advance(Some(32)));
        assert_eq!(tracker.check(Some(52)), gap(32, 52));
        assert!(!tracker.is_late() && tracker.advance(Some(53)));
        assert_eq!(tracker.check(Some(1)), gap(54, 1));
        for seq in 2..=1_000 {
            assert_eq!(tracker.check(Some(seq)), Continuity::InOrder);
            assert!(tracker.is_late() || seq > 53);
        }
        let mut tracker = SequenceTracker::starting_at(1_000_000);
        assert_eq!(tracker.check(Some(1)), gap(1_000_001, 1));
        for seq in 2..=1_001 {
            assert!(tracker.is_late());
            assert_eq!(tracker.check(Some(seq)), Continuity::InOrder);
        }
        assert!(!tracker.is_late());
    }

    #[test]
    fn a_reply_takes_a_number_where_it_fits() {
        let mut tracker = SequenceTracker::fresh();
        tracker.reply(Some(1));
        assert_eq!(tracker.check(Some(2)), Continuity::InOrder);
        tracker.reply(Some(3));
        // Or it has the number of the next message.
        assert_eq!(tracker.check(Some(3)), Continuity::InOrder);
        tracker.reply(Some(1));
        tracker.reply(None);
        assert!(tracker.advance(Some(4)));
        // Past a frame that may have had a number, and no further.
        for (number, next) in [(6, 7), (7, 5), (8, 5)] {
            let mut tracker = tracker.clone();
            tracker.skip_unreadable();
            tracker.reply(Some(number));
            assert_eq!(tracker.check(Some(next)), Continuity::InOrder, "{number}");
        }
    }

    #[test]
    fn b1_an_unreadable_frame_may_have_had_the_next_number_and_no_more() {
        for (next, expected) in [(2, Continuity::InOrder), (3, Continuity::InOrder), (4, gap(2, 4))]
        {
            let mut tracker = SequenceTracker::fresh();
            assert!(tracker.advance(Some(1)));
            tracker.skip_unreadable();
            assert_eq!(tracker.check(Some(next)), expected);
            // That has been accounted for.
            assert_eq!(tracker.check(Some(next + 2)), gap(next + 1, next + 2));
        }
        let mut tracker = SequenceTracker::fresh();
        assert_eq!(tracker.check(None), gap(1, None));
        assert_eq!(tracker.check(Some(2)), Continuity::InOrder);
    }
}
