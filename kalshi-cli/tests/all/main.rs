//! Whole commands, run as the real program against an exchange in this process.

mod doctor;
mod exchange;
mod order;
mod own_exchange;
mod support;
