//! A change of one level of an order book, written by hand as that of event contracts is.

use std::borrow::Cow;

use kalshi_types::{Count, Dollars, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::{BookSide, LastUpdateReason};
use crate::protocol::message::{Market, OwnChange};

/// A change of one level of an order book, the `orderbook_delta` message.
///
/// Its market is shared with the deltas before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delta {
    /// The market. Messages of this product have no id of it: [`Market::id`] is empty.
    pub market: Market,
    /// The price of the level, in dollars per contract: any positive value.
    pub price: Dollars,
    /// The contracts that are added to the level, or leave it when negative.
    pub delta: Count,
    /// The side of the resting orders.
    pub side: BookSide,
    /// The time of the change, in milliseconds since 1970.
    pub ts_ms: Option<UnixMillis>,
    /// The reason of a change by one of your own orders, if the exchange names one.
    pub last_update_reason: Option<Box<LastUpdateReason>>,
    /// Details of a change by one of your own orders.
    pub own: Option<Box<OwnChange>>,
}

impl Delta {
    pub(crate) const fn new(
        market: Market,
        side: BookSide,
        price: Dollars,
        delta: Count,
        ts_ms: Option<UnixMillis>,
    ) -> Self {
        Self { market, price, delta, side, ts_ms, last_update_reason: None, own: None }
    }

    /// Reports whether bids change; `None` for a side that this version does not know.
    #[inline]
    pub(crate) const fn is_bid(&self) -> Option<bool> {
        match self.side {
            BookSide::Bid => Some(true),
            BookSide::Ask => Some(false),
            _ => None,
        }
    }
}

/// A delta as it is on the wire.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    market_ticker: Cow<'a, str>,
    price: Dollars,
    delta: Count,
    side: BookSide,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_reason: Option<LastUpdateReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts_ms: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subaccount: Option<i64>,
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let own = OwnChange { client_order_id: wire.client_order_id, subaccount: wire.subaccount };
        Ok(Self {
            // Its decoder knows better.
            market: Market::new(&wire.market_ticker, "", u32::MAX),
            price: wire.price,
            delta: wire.delta,
            side: wire.side,
            ts_ms: wire.ts_ms,
            last_update_reason: wire.last_update_reason.map(Box::new),
            own: (own != OwnChange::default()).then(|| Box::new(own)),
        })
    }
}

impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.own.as_deref().cloned().unwrap_or_default();
        Wire {
            market_ticker: self.market.ticker().into(),
            price: self.price,
            delta: self.delta,
            side: self.side.clone(),
            last_update_reason: self.last_update_reason.as_deref().cloned(),
            client_order_id: own.client_order_id,
            ts_ms: self.ts_ms,
            subaccount: own.subaccount,
        }
        .serialize(serializer)
    }
}
