//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.

pub mod candles;
pub mod direction;
pub mod fees;
pub mod history;
pub mod risk;
pub mod tick;
