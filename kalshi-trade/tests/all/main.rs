//! Integration tests of kalshi-trade, as one binary: one link instead of many.

mod budget;
mod retry;
