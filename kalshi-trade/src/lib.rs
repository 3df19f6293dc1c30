//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.

pub mod direction;
pub mod fees;
pub mod risk;
pub mod tick;
