//! Order groups: the brake on fills that the exchange itself pulls.
//!
//! A group has a limit on the contracts that its orders may trade within fifteen seconds. When they
//! trade more, the exchange cancels all that rests of them, and refuses further ones until the group
//! is reset. The fill that exceeds the limit is not cut.
//!
//! [`Trading::create_group`](crate::trading::Trading::create_group) makes one; name it as
//! `order_group_id` in the orders.

use std::collections::BTreeMap;

use kalshi_types::Count;
use kalshi_ws::{Channel, Event, types::OrderGroupUpdatesEventType};
use thiserror::Error;

use crate::orders::OrderEvent;

/// The state of a group, by what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupStatus {
    /// Its orders are taken.
    Active,
    /// Its limit was exceeded, or it was triggered by hand: what rested of it is canceled, and no
    /// order of it is placed. Find out why, then
    /// [reset](crate::trading::Trading::reset_group) it.
    Triggered,
    /// Messages were missed, and no read shows whether it was triggered. Its orders are placed: the
    /// exchange refuses them if it was, which shows it.
    Unknown,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderGroup {
    /// The contracts that may trade within fifteen seconds, if they are known.
    pub limit: Option<Count>,
    /// The state, as far as it is known.
    pub status: GroupStatus,
    /// The shard that it is bound to.
    pub exchange_index: i64,
    /// The subaccount that it is bound to.
    pub subaccount: i64,
}

/// The reason for which a request about a group failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The group is not known here: [watch](crate::trading::Trading::watch_group) it first. Nothing
    /// was sent.
    #[error("the order group {0:?} is not known here")]
    NotKnown(String),
    /// The request failed. Its [effect](kalshi_sdk::Error::effect) says whether it may have been
    /// carried out; each of these requests can be repeated, but for the one that makes a group.
    #[error("the request about an order group failed")]
    Request(#[source] kalshi_sdk::Error),
}

/// The groups that are watched.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<String, OrderGroup>);

impl Groups {
    pub(crate) fn get(&self, id: &str) -> Option<&OrderGroup> {
        self.0.get(id)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &OrderGroup)> {
        self.0.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn insert(&mut self, id: String, group: OrderGroup) {
        self.0.insert(id, group);
    }

    pub(crate) fn is_triggered(&self, id: &str) -> bool {
        self.get(id).is_some_and(|group| group.status == GroupStatus::Triggered)
    }

    /// Takes in that a group was triggered.
    pub(crate) fn triggered(&mut self, id: &str) -> Option<OrderEvent> {
        self.set(id, GroupStatus::Triggered)
            .then(|| OrderEvent::GroupTriggered { group: id.to_owned() })
    }

    /// Takes in that a group was reset.
    pub(crate) fn reset(&mut self, id: &str) -> Option<OrderEvent> {
        self.set(id, GroupStatus::Active).then(|| OrderEvent::GroupReset { group: id.to_owned() })
    }

    /// Takes in an event of the connection.
    pub(crate) fn apply(&mut self, event: &Event) -> Option<OrderEvent> {
        let ours = |channel: &Channel| *channel == Channel::OrderGroupUpdates;
        match event {
            Event::Message(message) | Event::Unmatched(message) => {
                let kalshi_ws::Payload::OrderGroupUpdates(update) = &message.payload else {
                    return None;
                };
                let id = update.order_group_id.as_str();
                match &update.event_type {
                    OrderGroupUpdatesEventType::Triggered => return self.triggered(id),
                    OrderGroupUpdatesEventType::Reset => return self.reset(id),
                    OrderGroupUpdatesEventType::Deleted => {
                        self.0.remove(id);
                    }
                    _ => {}
                }
                if let Some(group) = self.0.get_mut(id) {
                    group.limit = update.contracts_limit_fp.or(group.limit);
                }
            }
            Event::Disconnected { .. } | Event::Lagged { channel: None, .. } => self.lose(),
            Event::Gap { channel, .. }
            | Event::Terminated { channel, .. }
            | Event::Refused { channel, .. }
            | Event::Lagged { channel: Some(channel), .. }
                if ours(channel) =>
            {
                self.lose();
            }
            _ => {}
        }
        None
    }

    /// Takes in that messages may be missing: what was active may be triggered, and the reverse.
    fn lose(&mut self) {
        for group in self.0.values_mut() {
            group.status = GroupStatus::Unknown;
        }
    }

    /// Sets what is known of a group, and reports whether that is new.
    fn set(&mut self, id: &str, status: GroupStatus) -> bool {
        let Some(group) = self.0.get_mut(id) else { return false };
        std::mem::replace(&mut group.status, status) != status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        let mut groups = Groups::default();
        let group = OrderGroup {
            limit: None,
            status: GroupStatus::Active,
            exchange_index: 0,
            subaccount: 0,
        };
        groups.insert("g".to_owned(), group);
        groups
    }

    #[test]
    fn a_group_is_triggered_once_and_goes_on_when_it_is_reset() {
        let mut groups = groups();
        let triggered = OrderEvent::GroupTriggered { group: "g".to_owned() };
        assert_eq!(groups.triggered("g"), Some(triggered.clone()));
        assert_eq!(groups.triggered("g"), None, "it is known");
        assert!(groups.is_triggered("g"));
        assert_eq!(groups.reset("g"), Some(OrderEvent::GroupReset { group: "g".to_owned() }));
        assert!(!groups.is_triggered("g"));
        assert_eq!(groups.triggered("another"), None);
        assert_eq!(groups.triggered("g"), Some(triggered));
    }

    #[test]
    fn a_loss_leaves_it_unknown_which_lets_orders_through() {
        let mut groups = groups();
        groups.triggered("g");
        let lagged = Event::Lagged { channel: Some(Channel::Fill), dropped: 1 };
        groups.apply(&lagged);
        assert!(groups.is_triggered("g"), "another channel");
        let lagged = Event::Lagged { channel: Some(Channel::OrderGroupUpdates), dropped: 1 };
        assert_eq!(groups.apply(&lagged), None);
        assert_eq!(groups.get("g").unwrap().status, GroupStatus::Unknown);
        // A refusal shows it.
        assert!(groups.triggered("g").is_some());
    }
}
