//! Placing orders exactly once in effect.
//!
//! An order is written to a [`journal`](crate::journal) before it is sent, under an id that stays
//! the same. If its outcome is unknown, it is found out by evidence; nothing is sent in its stead
//! before that. [`PlacementMachine`] decides, and is pure;
//! [`Placements`] gives each order a task that does what it says.

mod config;
mod machine;
mod read;
mod shell;

pub use self::{
    config::PlacementConfig,
    machine::{
        Answer, Input, PlacementMachine, PlacementState, Refusal, Ruling, Sighting, Step,
        UndecidedCause, WithdrawnCause,
    },
    shell::{PlaceError, Placement, Placements, PlacementsBuilder},
};
