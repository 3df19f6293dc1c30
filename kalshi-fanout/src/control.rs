//! The reports of a publisher about itself, as JSON on its control subject.

use serde::{Deserialize, Serialize};

/// A control message of a publisher. The epoch is in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Control {
    /// The epoch began: the publisher has a connection to the exchange.
    Began,
    /// The epoch ended: the publisher has lost its connection. It comes before everything that waits,
    /// and is repeated while the publisher holds the lease and no other epoch has begun.
    Ended,
    /// The publisher is alive, and these are the last numbers of the order books that have changed
    /// lately. Each is in several heartbeats, so that it comes although one is lost.
    Heartbeat {
        /// The shard.
        shard: u16,
        /// Tickers, and the last number of each.
        last: Vec<(String, u64)>,
    },
    /// Messages of a channel without order books were lost between the exchange and the publisher.
    Gap {
        /// The name of the channel.
        channel: String,
        /// The exchange's number that was due.
        expected: Option<i64>,
        /// The exchange's number that came instead.
        received: Option<i64>,
    },
}
