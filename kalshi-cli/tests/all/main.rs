//! Whole commands, run as the real program against an exchange in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod chart;
mod doctor;
mod exchange;
mod order;
mod own_exchange;
mod stream;
mod support;
