//! The bus over a real `nats-server`.

mod account;
mod broker;
mod budget;
mod bus;
mod chaos;
mod live;
mod portfolio;
mod store;

/// The machine, for tests of many processes and for those whose leases are short: the one would be the
/// fault of the other.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
