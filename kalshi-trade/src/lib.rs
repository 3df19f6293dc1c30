//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.
//!
//! Every request to place an order can end without an answer. Then the order exists, or does not,
//! or will in a minute; and taking one for the other places it twice, or leaves it unattended.
//!
//! - [`journal`] writes down what is about to be sent, before it is.
//! - [`placement`] finds out what became of it, by evidence and never by a timer.
//! - [`orders`] keeps what is known of each order, and what is wanted of it.
//! - [`trading`] joins them with the streams of the account.

pub mod candles;
pub mod close;
pub mod direction;
pub mod fees;
pub mod history;
pub mod journal;
pub mod orders;
pub mod pause;
pub mod placement;
pub mod quoting;
pub mod risk;
pub mod tick;
pub mod trading;
