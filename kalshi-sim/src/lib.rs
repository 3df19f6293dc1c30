//! The Kalshi exchange in a process, for tests, examples and offline work.
