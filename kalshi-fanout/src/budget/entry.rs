//! The bucket as the store keeps it.

use bytes::Bytes;
use kalshi_trade::budget::{Gcra, Limit, Nanos};
use serde::{Deserialize, Serialize};

use super::{MAX_ERROR, nanos};

/// The greatest value that is looked at.
const MAX_LENGTH: usize = 512;

/// A bucket that is shared. All times are those of the store, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) bucket: Gcra,
    /// The limit that the state of the bucket is in.
    pub(super) limit: Limit,
    /// Until when every member takes its fixed share: the store was away, and some may not know yet
    /// that it is back.
    pub(super) hold: Nanos,
    /// The time of this state.
    pub(super) at: Nanos,
}

/// The value of an entry.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    full_at: Nanos,
    refill: u64,
    capacity: u64,
    hold: Nanos,
    at: Nanos,
}

const VERSION: u32 = 1;

impl Shared {
    /// Returns an empty bucket.
    pub(super) fn empty(now: Nanos, limit: Limit) -> Self {
        Self { bucket: Gcra::empty(now, limit), limit, hold: 0, at: now }
    }

    /// Returns a bucket that is empty until a time, before which every member takes its fixed share.
    pub(super) fn held(until: Nanos, limit: Limit) -> Self {
        Self { hold: until, ..Self::empty(until, limit) }
    }

    /// Reports whether its time is so far ahead that it was written before the clock of the store was
    /// set back: what it says of times is worth nothing.
    pub(super) fn is_ahead(&self, now: Nanos) -> bool {
        // Two members that measured the time of the store may be apart by twice the error.
        self.at > now.saturating_add(2 * nanos(MAX_ERROR))
    }

    /// Reads an entry; `None` if it cannot be read.
    pub(super) fn read(value: &[u8], now: Nanos, limit: Limit) -> Option<Self> {
        let written = Some(value).filter(|value| value.len() <= MAX_LENGTH)?;
        let written: Written = serde_json::from_slice(written).ok()?;
        if written.version != VERSION {
            return None;
        }
        let from = Limit::new(written.refill, written.capacity).ok()?;
        let mut bucket = Gcra::from_state(written.full_at);
        // One that is held is empty until then.
        bucket.rescale(now.max(written.hold), from, limit);
        Some(Self { bucket, limit, hold: written.hold, at: written.at })
    }

    pub(super) fn write(&self) -> Bytes {
        let written = Written {
            version: VERSION,
            full_at: self.bucket.state(),
            refill: self.limit.refill(),
            capacity: self.limit.capacity(),
            hold: self.hold,
            at: self.at,
        };
        // Six numbers: it cannot fail. An empty value counts as an empty bucket.
        serde_json::to_vec(&written).unwrap_or_default().into()
    }
}
