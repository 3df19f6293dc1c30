//! Exact money, contract counts and price grids of the Kalshi exchange.
