//! Whole commands, run as the real program against an exchange in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod api;
mod documents;
mod exchange;
mod exits;
mod market;
mod portfolio;
mod secrets;
mod settings;
mod support;
mod writes;
