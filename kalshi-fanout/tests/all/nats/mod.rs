//! The bus over a real `nats-server`.

mod broker;
mod budget;
mod bus;
mod chaos;
mod live;
mod store;
