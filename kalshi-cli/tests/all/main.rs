//! Whole commands, run as the real program against an exchange in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod api;
mod chart;
mod doctor;
mod documents;
mod exchange;
mod exits;
mod export;
#[cfg(feature = "klear")]
mod klear;
mod market;
#[cfg(feature = "mcp")]
mod mcp;
#[cfg(feature = "mcp")]
mod mcp_unattended;
#[cfg(all(feature = "mcp", target_os = "linux"))]
mod mcp_writes;
mod order;
mod own_exchange;
#[cfg(feature = "perps")]
mod perps;
#[cfg(feature = "perps")]
mod perps_order;
mod portfolio;
mod secrets;
mod serve;
mod settings;
mod stream;
#[cfg(any(feature = "klear", feature = "perps"))]
mod stub;
mod support;
#[cfg(all(target_os = "linux", feature = "tui"))]
mod tui;
mod watch;
mod writes;
