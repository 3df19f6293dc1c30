//! Publishers and followers: over a bus with faults in virtual time, and over a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod account;
mod chaos;
mod live;
mod nats;
mod nodes;
mod publishing;
mod truth;
