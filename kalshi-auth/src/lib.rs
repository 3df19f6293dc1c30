//! Keys, request signing and the reqwest middleware for the Kalshi Trade API.
