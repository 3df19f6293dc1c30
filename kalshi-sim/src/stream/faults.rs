//! What can go wrong with a stream, on demand: for tests of whoever reads it.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::random::Random;

/// Faults of the streams, for every connection. The default is none.
///
/// The rates say "one in so many data messages"; 0 is never. The same seed and the same messages
/// give the same faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StreamFaults {
    /// The seed of the random choices.
    pub seed: u64,
    /// One in so many messages is lost, which leaves a hole in the sequence.
    pub drop_one_in: u64,
    /// One in so many messages comes twice.
    pub duplicate_one_in: u64,
    /// One in so many messages changes place with the next one.
    pub swap_one_in: u64,
    /// The delay of answers to commands.
    #[serde(rename = "ack_delay_millis", deserialize_with = "millis")]
    pub ack_delay: Duration,
    /// Sends the first messages of a subscription before its acknowledgement if true.
    pub data_before_ack: bool,
    /// Gives answers such as `ok` no sequence number if true.
    pub replies_take_no_number: bool,
    /// Leaves `sid` and `seq` out of errors, as the exchange did before September 2026. A client
    /// with several subscriptions cannot know then which one is over.
    pub errors_name_nothing: bool,
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// The reason for which the exchange ends a subscription: its terminal errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// Code 10: something is wrong with the channel.
    ChannelError,
    /// Code 25: the reader was too slow.
    BufferOverflow,
}

impl Ending {
    pub(super) const fn code_and_words(self) -> (u8, &'static str) {
        match self {
            Self::ChannelError => (10, "channel error"),
            Self::BufferOverflow => (25, "subscription buffer overflow"),
        }
    }
}

/// The treatment of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    Dropped,
    Doubled,
    Swapped,
}

/// The dice of one connection.
#[derive(Clone, Debug)]
pub(super) struct Dice(Random);

impl Dice {
    pub(super) fn new(faults: &StreamFaults, connection: u64) -> Self {
        Self(Random::new(faults.seed ^ connection.wrapping_mul(0x9e37_79b9)))
    }

    pub(super) fn roll(&mut self, faults: &StreamFaults) -> Fate {
        let mut one_in = |rate: u64| rate > 0 && self.0.below(rate) == 0;
        if one_in(faults.drop_one_in) {
            Fate::Dropped
        } else if one_in(faults.duplicate_one_in) {
            Fate::Doubled
        } else if one_in(faults.swap_one_in) {
            Fate::Swapped
        } else {
            Fate::Sent
        }
    }
}
