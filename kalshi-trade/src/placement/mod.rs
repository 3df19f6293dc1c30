//! Placing orders exactly once in effect.
//!
//! An order is written to a [`journal`](crate::journal) before it is sent, under an id that stays
//! the same. If its outcome is unknown, it is found out by evidence; nothing is sent in its stead
//! before that. [`PlacementMachine`] decides, and is pure.

mod config;
mod machine;

pub use self::{
    config::PlacementConfig,
    machine::{
        Answer, Input, PlacementMachine, PlacementState, Refusal, Ruling, Sighting, Step,
        UndecidedCause, WithdrawnCause,
    },
};
