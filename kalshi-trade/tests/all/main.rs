//! Integration tests of kalshi-trade, as one binary: one link instead of many.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod budget;
mod budget_kept;
mod budget_load;
mod candles;
mod fees;
mod history;
mod kills;
mod model;
mod perps_exchange;
mod placement;
mod placement_budget;
mod placement_changes;
mod placement_changes_model;
mod placement_faults;
mod placement_model;
mod placement_perps;
mod placement_requests;
mod placement_shell;
mod placement_trading;
mod retry;
mod sockets;
mod support;
mod trading;
#[cfg(unix)]
mod trading_deaths;
mod trading_exits;
mod trading_losses;
mod trading_renewals;
mod watchdog;
mod watchdog_failures;
mod watchdog_perps;
