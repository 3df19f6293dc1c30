//! The bus over a real `nats-server`.

mod broker;
mod bus;
mod chaos;
mod live;
