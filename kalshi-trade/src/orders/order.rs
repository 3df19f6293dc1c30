//! One order, as messages and reads add up.

use std::{cmp::Reverse, collections::BTreeMap};

use kalshi_types::{Count, Dollars, UnixMillis};
use kalshi_ws::{OrderRecord, types::UserOrderStatus};

use crate::placement::PlacementState;

/// Names an order within its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey(pub(super) u64);

/// The life of an order, by what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Life {
    /// Nothing was sent. Withdraw it if it is not wanted any more.
    Unsent,
    /// It may exist, or exists and no state of it is known. Count it with its full size.
    Unsettled,
    /// It rests in the book.
    Resting,
    /// It is over: nothing more happens to it. Fills that happened before may still arrive.
    Over(OverReason),
}

/// The reason for which an order is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OverReason {
    /// It was filled to its end.
    Executed,
    /// It was canceled, by you or the exchange; a part may have been filled.
    Canceled,
    /// A complete read shows that it does not rest any more. It was filled to its end if the fills
    /// add up, and canceled otherwise.
    Gone,
    /// It was never an order: refused, withdrawn or given up.
    NotPlaced,
}

/// What is wanted of an order and not yet known to be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderIntent {
    /// Nothing: the order is to stay as it is.
    #[default]
    None,
    /// It is to be over.
    Cancel,
    /// It is to have another price and total.
    Amend {
        /// The price of YES.
        yes_price: Dollars,
        /// The contracts, those that are filled included.
        total: Count,
    },
    /// It is to have no more contracts left than that.
    Decrease {
        /// The contracts that are left.
        remaining: Count,
    },
}

/// The reason for which an intent was not taken: nothing changed, and nothing is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IntentError {
    /// No order has this key, or it has been forgotten.
    #[error("there is no such order")]
    NoOrder,
    /// The order was not placed here. Say `allow_foreign` if it is meant.
    #[error("the order was not placed here")]
    Foreign,
    /// The order is over.
    #[error("the order is over")]
    Over,
    /// A cancel is pending, or a change; a cancel replaces a change, nothing else does.
    #[error("another change of the order is pending")]
    Pending,
    /// [`Trading::exit`](crate::trading::Trading::exit) was called: orders are only canceled.
    #[error("the orders are being ended: none is changed any more")]
    Exiting,
}

/// What is known of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was not placed here.
    Elsewhere,
    Unsent,
    Unsettled,
    Exists,
    Nowhere,
}

impl From<&PlacementState> for Placed {
    fn from(state: &PlacementState) -> Self {
        match state {
            PlacementState::Prepared | PlacementState::Queued => Self::Unsent,
            // Proven absent: what follows is another sending, or the end.
            PlacementState::Absent
            | PlacementState::Sent { .. }
            | PlacementState::Settling
            | PlacementState::Undecided(_) => Self::Unsettled,
            PlacementState::Accepted { .. } => Self::Exists,
            PlacementState::Refused(_) | PlacementState::GivenUp | PlacementState::Withdrawn(_) => {
                Self::Nowhere
            }
        }
    }
}

/// Tells the newer of two states of an order. Two may carry the same millisecond: then more fills,
/// the end, and fewer contracts are later.
type Version = (Option<UnixMillis>, Count, bool, Reverse<Count>, Dollars);

/// An order, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedOrder {
    pub(super) order_id: Option<String>,
    pub(super) client_order_ids: Vec<String>,
    pub(super) placed: Placed,
    pub(super) record: Option<OrderRecord>,
    /// The state that a complete read left out.
    pub(super) gone: Option<Version>,
    /// By trade.
    pub(super) fills: BTreeMap<String, Count>,
    pub(super) reported: Count,
    pub(super) intent: OrderIntent,
    /// The time from which on the pending command has no effect any more, if that is known.
    pub(super) intent_until: Option<UnixMillis>,
}

impl ManagedOrder {
    pub(super) fn new(placed: Placed) -> Self {
        Self {
            order_id: None,
            client_order_ids: Vec::new(),
            placed,
            record: None,
            gone: None,
            fills: BTreeMap::new(),
            reported: Count::ZERO,
            intent: OrderIntent::None,
            intent_until: None,
        }
    }

    /// Returns the exchange's id, if the exchange is known to have the order.
    pub fn order_id(&self) -> Option<&str> {
        self.order_id.as_deref()
    }

    /// Returns its client order ids: that of its placement, and those of amends.
    pub fn client_order_ids(&self) -> &[String] {
        &self.client_order_ids
    }

    /// Reports whether the order was placed here.
    pub fn is_own(&self) -> bool {
        self.placed != Placed::Elsewhere
    }

    /// Returns the newest state that a message or a read has shown.
    pub fn record(&self) -> Option<&OrderRecord> {
        self.record.as_ref()
    }

    /// Returns the life.
    pub fn life(&self) -> Life {
        let Some(record) = &self.record else {
            return match self.placed {
                Placed::Unsent => Life::Unsent,
                // A fill contradicts that it was not placed.
                Placed::Nowhere if self.fills.is_empty() => Life::Over(OverReason::NotPlaced),
                _ => Life::Unsettled,
            };
        };
        match record.status {
            UserOrderStatus::Executed => Life::Over(OverReason::Executed),
            UserOrderStatus::Canceled => Life::Over(OverReason::Canceled),
            _ if self.gone.as_ref() >= Some(&version(record)) => Life::Over(OverReason::Gone),
            _ => Life::Resting,
        }
    }

    /// Returns what is wanted of it.
    pub fn intent(&self) -> OrderIntent {
        self.intent
    }

    /// Returns the contracts of the fills that are known, each trade once.
    pub fn filled(&self) -> Count {
        let sum =
            self.fills.values().fold(0_i64, |sum, count| sum.saturating_add(count.as_hundredths()));
        Count::from_hundredths(sum)
    }

    /// Returns the most contracts that the exchange has ever reported to be filled.
    pub fn reported_filled(&self) -> Count {
        self.reported
    }

    /// Returns the contracts that are left in the book: none unless it rests.
    pub fn remaining(&self) -> Count {
        match (self.life(), &self.record) {
            (Life::Resting, Some(record)) => record.remaining,
            _ => Count::ZERO,
        }
    }

    /// Reports whether the order is over and its fills do not add up to what was reported.
    pub fn needs_fills(&self) -> bool {
        match self.life() {
            // What came after the last state was not reported.
            Life::Over(OverReason::Gone) => self.filled() < self.reported,
            Life::Over(_) => self.filled() != self.reported,
            _ => false,
        }
    }

    /// Reports whether the exchange has the order, and no state of it is known.
    pub fn needs_order(&self) -> bool {
        self.record.is_none() && self.order_id.is_some()
    }

    /// Reports whether the order is over and every fill of it is known.
    pub fn is_closed(&self) -> bool {
        matches!(self.life(), Life::Over(_)) && !self.needs_fills()
    }

    /// Takes in a state, unless it is older than the known one.
    pub(super) fn take_record(&mut self, record: OrderRecord) {
        self.reported = self.reported.max(record.filled);
        let is_newer = self.record.as_ref().is_none_or(|known| version(known) < version(&record));
        if is_newer {
            self.record = Some(record);
        }
    }

    /// Takes in a fill, and reports whether it is new.
    pub(super) fn take_fill(&mut self, trade_id: &str, count: Count) -> bool {
        if self.fills.contains_key(trade_id) {
            return false;
        }
        self.fills.insert(trade_id.to_owned(), count);
        true
    }

    /// Takes in that a complete read left the order out as it is known.
    pub(super) fn take_absence(&mut self, record: &OrderRecord) {
        self.gone = self.gone.max(Some(version(record)));
    }

    /// Takes in that a complete read has the order.
    pub(super) fn take_presence(&mut self, record: &OrderRecord) {
        if self.gone.as_ref() <= Some(&version(record)) {
            self.gone = None;
        }
    }

    /// Takes in everything about the same order that was kept under another key.
    pub(super) fn merge(&mut self, other: Self) {
        for (trade_id, count) in &other.fills {
            self.take_fill(trade_id, *count);
        }
        self.reported = self.reported.max(other.reported);
        if let Some(record) = other.record {
            self.take_record(record);
        }
        self.gone = self.gone.max(other.gone);
        self.order_id = self.order_id.take().or(other.order_id);
        for id in other.client_order_ids {
            self.add_client_order_id(&id);
        }
        if !self.is_own() {
            self.placed = other.placed;
        }
        if self.intent == OrderIntent::None {
            (self.intent, self.intent_until) = (other.intent, other.intent_until);
        }
    }

    pub(super) fn add_client_order_id(&mut self, id: &str) {
        if !self.client_order_ids.iter().any(|known| known == id) {
            self.client_order_ids.push(id.to_owned());
        }
    }

    /// Reports whether the order is as wanted.
    pub(super) fn is_intent_reached(&self) -> bool {
        let Some(record) = &self.record else {
            return self.intent == OrderIntent::Cancel && self.is_over();
        };
        match self.intent {
            OrderIntent::None => true,
            OrderIntent::Cancel => self.is_over(),
            OrderIntent::Amend { yes_price, total } => {
                let now = record.filled.checked_add(record.remaining);
                !self.is_over() && record.yes_price == yes_price && now == Some(total)
            }
            OrderIntent::Decrease { remaining } => record.remaining <= remaining,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.life(), Life::Over(_))
    }
}

fn version(record: &OrderRecord) -> Version {
    let is_over = matches!(record.status, UserOrderStatus::Executed | UserOrderStatus::Canceled);
    (record.updated, record.filled, is_over, Reverse(record.remaining), record.yes_price)
}
