//! The tests of kalshi-ws, one binary.

mod document;
mod frames;
mod samples;
