//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.

pub mod candles;
pub mod close;
pub mod direction;
pub mod fees;
pub mod history;
pub mod pause;
pub mod quoting;
pub mod risk;
pub mod tick;
pub mod watchdog;
