//! Which events mean that something about the account may have been missed.

use super::CHANNELS;
use crate::{Channel, Event, MESSAGE_KINDS, Malformed, Payload, Sid, Unknown};

/// Reports whether messages about the account may be missing from here on, with the subscriptions
/// of its channels. What cannot be placed counts: it may have been one of them.
pub(super) fn is_loss(event: &Event, sids: &[Option<Sid>]) -> bool {
    let is_ours = |channel: &Channel| CHANNELS.contains(channel);
    let may_be_ours = |sid: Option<Sid>| sid.is_none() || sids.contains(&sid);
    match event {
        Event::Disconnected { .. }
        | Event::Closed { .. }
        // Orders and positions come from another feed from here on.
        | Event::Failover { .. }
        // Messages of no subscription were dropped, of whatever channel.
        | Event::Lagged { channel: None, .. } => true,
        Event::Gap { channel, .. }
        | Event::Terminated { channel, .. }
        | Event::Unsubscribed { channel }
        | Event::Removed { channel, .. }
        | Event::Refused { channel, .. }
        | Event::Uncovered { channel, .. }
        | Event::Lagged { channel: Some(channel), .. } => is_ours(channel),
        // It carries no time: it may be older than what is known, or newer.
        Event::Unmatched(message) => matches!(message.payload, Payload::MarketPosition(_)),
        Event::Unknown(Unknown { sid, .. }) => may_be_ours(*sid),
        Event::Malformed(Malformed { kind, sid, .. }) => {
            let kind = kind.as_deref();
            let kind = kind.and_then(|name| MESSAGE_KINDS.iter().find(|kind| kind.name == name));
            // Of what type it was is not known in the worst case.
            kind.map_or(may_be_ours(*sid), |kind| kind.channels.iter().any(is_ours))
                || sid.is_some() && may_be_ours(*sid)
        }
        _ => false,
    }
}
