//! The tests of kalshi-ws, one binary.

mod books;
mod document;
mod frames;
mod samples;
