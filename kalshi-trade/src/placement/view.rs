//! Shows the placements of a handle that places orders by itself.

use super::{Change, Placement, Placements};
use crate::journal::OwnIds;

/// The placements of a [`Trading`](crate::trading::Trading): what an earlier session left open, and
/// what is on its way. Orders are placed, changed and canceled by the handle alone, which measures
/// each of them; see [`Placements::builder`] for placements without it.
#[derive(Clone, Copy, Debug)]
pub struct PlacementsView<'a>(&'a Placements);

impl<'a> PlacementsView<'a> {
    /// Returns the orders that an earlier session left open, settled meanwhile or not.
    pub fn restored(self) -> &'a [Placement] {
        self.0.restored()
    }

    /// Waits until each order of an earlier session is settled or undecided: from then on orders are
    /// taken. See [`Placements::ready`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn ready(self) {
        self.0.ready().await;
    }

    /// Returns the orders whose outcome is not known yet, and those that came to nothing in the last
    /// five minutes.
    pub fn open(self) -> Vec<Placement> {
        self.0.open()
    }

    /// Returns the client order ids of the orders that were placed under the journal, by this session
    /// and earlier ones.
    pub fn own_ids(self) -> OwnIds {
        self.0.own_ids()
    }

    /// Returns the changes that an earlier session left open, settled meanwhile or not: its
    /// [renewals](crate::trading::TradingBuilder::with_rolling_expiry) among them.
    pub fn restored_changes(self) -> Vec<Change> {
        self.0.restored_changes()
    }

    /// Returns the changes whose outcome is not known yet, renewals included.
    pub fn open_changes(self) -> Vec<Change> {
        self.0.open_changes()
    }
}

impl Placements {
    /// Returns what a handle shows of it.
    pub(crate) fn view(&self) -> PlacementsView<'_> {
        PlacementsView(self)
    }
}
