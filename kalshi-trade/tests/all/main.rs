//! Integration tests of kalshi-trade, as one binary: one link instead of many.

mod placement;
mod placement_model;
mod placement_shell;
