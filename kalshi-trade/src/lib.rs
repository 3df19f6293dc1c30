//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.
