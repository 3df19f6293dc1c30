//! Integration tests of kalshi-trade, as one binary: one link instead of many.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod budget;
mod budget_load;
mod candles;
mod fees;
mod history;
mod kills;
mod placement;
mod placement_model;
mod placement_shell;
mod retry;
mod sockets;
mod support;
mod trading;
mod watchdog;
