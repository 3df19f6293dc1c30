//! Placing orders exactly once in effect, and changing them.
//!
//! An order is written to a [`journal`](crate::journal) before it is sent, under an id that stays
//! the same. If its outcome is unknown, it is found out by evidence; nothing is sent in its stead
//! before that. [`PlacementMachine`] decides, and is pure;
//! [`Placements`] gives each order a task that does what it says.
//!
//! Amends, decreases and cancels go the same way, each with a [`ChangeMachine`] of its own: what is
//! written, sent and found out is the state that the order is to have.

mod batch;
mod change;
mod change_task;
mod changes;
mod config;
mod hold;
mod link;
mod machine;
mod pauses;
#[cfg(feature = "perps")]
pub mod perps;
mod read;
mod reads;
mod shell;
mod task;
mod view;

pub(crate) use self::shell::settling;
pub use self::{
    change::{
        ChangeAnswer, ChangeInput, ChangeMachine, ChangeRuling, ChangeState, ChangeStep,
        ChangeTimes, OrderView,
    },
    changes::{Change, ChangeError, ChangeTarget},
    config::PlacementConfig,
    machine::{
        Answer, Input, PlacementMachine, PlacementState, Refusal, Ruling, Sighting, Step,
        UndecidedCause, WithdrawnCause,
    },
    shell::{PlaceError, Placement, Placements, PlacementsBuilder},
    view::PlacementsView,
};
