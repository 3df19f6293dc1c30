//! What a strategy is told about its orders.

use kalshi_types::Count;

use super::{OrderIntent, OrderKey, OverReason};

/// What happened to an order, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderEvent {
    /// An order that was not placed here is seen for the first time. Count it in your risk; leave
    /// it alone unless you know whose it is.
    Foreign {
        /// The order.
        order: OrderKey,
    },
    /// An order that was taken for a foreign one is that of a placement: everything that was said of
    /// it, its fills included, belongs to this order. Replace its key.
    Identified {
        /// The order.
        order: OrderKey,
        /// Its key until now, which names nothing any more.
        was: OrderKey,
    },
    /// Whether the order exists, or what became of it, is not known. Count it with its full size,
    /// and place nothing in its stead.
    Unsettled {
        /// The order.
        order: OrderKey,
    },
    /// The order rests in the book, for the first time or with another price or count than before.
    /// Quote from [`ManagedOrder::remaining`](super::ManagedOrder::remaining).
    Resting {
        /// The order.
        order: OrderKey,
    },
    /// A fill that was not known yet. Add it to your position, whatever the life of the order.
    Filled {
        /// The order.
        order: OrderKey,
        /// The trade.
        trade_id: String,
        /// The contracts of this fill.
        count: Count,
    },
    /// The order is over, but the fills that are known do not add up to what the exchange reports.
    /// Read the fills of the order and give them to
    /// [`OrderManager::apply_fill`](super::OrderManager::apply_fill).
    NeedsFills {
        /// The order.
        order: OrderKey,
        /// The contracts of the known fills.
        known: Count,
        /// The most that the exchange has reported.
        reported: Count,
    },
    /// The order exists, or a fill of it, and no state of it is known. Read the order by its id and
    /// give it to [`OrderManager::apply_order`](super::OrderManager::apply_order).
    NeedsOrder {
        /// The order.
        order: OrderKey,
    },
    /// The order is over, and every fill of it is known. It frees its size; place another if you
    /// want one.
    Over {
        /// The order.
        order: OrderKey,
        /// The reason.
        reason: OverReason,
    },
    /// An order that had been reported to be over rests after all. Count it again.
    Reopened {
        /// The order.
        order: OrderKey,
    },
    /// What was wanted of the order is settled by evidence. If it was not reached, decide anew from
    /// the state of the order.
    IntentEnded {
        /// The order.
        order: OrderKey,
        /// What was wanted.
        intent: OrderIntent,
        /// True if the order is as wanted.
        is_reached: bool,
    },
    /// An order group that is watched was [triggered](crate::group::GroupStatus::Triggered): its
    /// resting orders are canceled, and none is placed in it. Find out why; reset it if it may go
    /// on.
    GroupTriggered {
        /// The id of the group.
        group: String,
    },
    /// An order group that was triggered, or of which that was not known, takes orders again.
    GroupReset {
        /// The id of the group.
        group: String,
    },
}

impl OrderEvent {
    /// Returns the order that it is about; `None` for events of groups.
    pub fn order(&self) -> Option<OrderKey> {
        match self {
            Self::Foreign { order }
            | Self::Identified { order, .. }
            | Self::Unsettled { order }
            | Self::Resting { order }
            | Self::Filled { order, .. }
            | Self::NeedsFills { order, .. }
            | Self::NeedsOrder { order }
            | Self::Over { order, .. }
            | Self::Reopened { order }
            | Self::IntentEnded { order, .. } => Some(*order),
            Self::GroupTriggered { .. } | Self::GroupReset { .. } => None,
        }
    }
}
