//! Whole commands, run as the real program against an exchange in this process.

mod exchange;
mod support;
