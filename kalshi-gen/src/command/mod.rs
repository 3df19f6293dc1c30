//! The subcommands of `cargo gen` that take more than a few lines.

pub(crate) mod diff;
pub(crate) mod package;
pub(crate) mod update;
