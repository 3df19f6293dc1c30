//! Client for the Kalshi Trade API.
