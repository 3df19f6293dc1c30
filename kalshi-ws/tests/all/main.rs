//! The document, the decoder, the books, and streams against an exchange on this machine that does
//! what a test tells it to, or against a whole one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod allocations;
mod books;
mod document;
mod exchange;
mod frames;
mod link;
#[cfg(feature = "perps")]
mod perps;
mod portfolio;
#[cfg(feature = "recorder")]
mod recordings;
mod samples;
mod soak;
mod streams;
mod tls;
mod websocket;
