//! Whole commands, run as the real program against an exchange in this process.

mod api;
mod documents;
mod exchange;
mod exits;
mod market;
mod portfolio;
mod secrets;
mod settings;
mod support;
mod writes;
