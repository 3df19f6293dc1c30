//! The client against servers on this machine, end to end.
//!
//! `table` walks every operation of the document with random requests and answers; the other
//! modules each take one promise of the client and try to break it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod account;
mod account_soak;
mod architecture;
mod claims;
mod claims_requests;
mod client;
mod decode;
#[allow(unreachable_pub, reason = "generated for whatever module includes it")]
mod dispatch;
mod drift;
mod effects;
mod errors;
mod hooks;
mod klear;
mod pagination;
mod perps;
mod requests;
mod rows;
mod support;
mod table;
