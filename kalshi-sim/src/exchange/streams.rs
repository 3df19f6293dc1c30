use std::time::Duration;

use crate::{
    control::ControlError,
    exchange::{Exchange, Target},
    stream::{
        faults::{Ending, StreamFaults},
        hub::{LinkState, StreamBacklog},
    },
};

/// The stream connections of an exchange: see [`Exchange::streams`].
///
/// A [`Target`] says whose connections are meant: those of all members, or those of the member of a
/// role, which leaves a sound observer beside the client under test.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct StreamControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl StreamControl<'_> {
    /// Returns how many stream connections are open.
    pub fn connections(&self) -> usize {
        self.exchange.shared.streams.connections()
    }

    /// Returns what waits for clients to read it.
    pub fn backlog(&self) -> StreamBacklog {
        self.exchange.shared.streams.backlog()
    }

    /// Sets what goes wrong with streams from now on. Faults for [`Target::All`] end those that
    /// were set for a member.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn set_faults(
        &self,
        target: impl Into<Target>,
        faults: StreamFaults,
    ) -> Result<(), ControlError> {
        self.exchange.shared.streams.set_faults(self.exchange.accounts(target)?, faults);
        Ok(())
    }

    /// Cuts stream connections without a close, as a restart of the server does.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn cut(&self, target: impl Into<Target>) -> Result<(), ControlError> {
        self.set_link_state(target, LinkState::Cut)
    }

    /// Leaves stream connections open and silent: nothing is sent, not even a ping, and nothing is
    /// read. [`cut`](Self::cut) ends that.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn silence(&self, target: impl Into<Target>) -> Result<(), ControlError> {
        self.set_link_state(target, LinkState::Silent)
    }

    /// Cuts stream connections and refuses new ones with status 503 for a time.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn restart(
        &self,
        target: impl Into<Target>,
        down_for: Duration,
    ) -> Result<(), ControlError> {
        self.exchange.shared.streams.restart(self.exchange.accounts(target)?, down_for);
        Ok(())
    }

    /// Ends every subscription with an error. The connections live on.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn end_subscriptions(
        &self,
        target: impl Into<Target>,
        ending: Ending,
    ) -> Result<(), ControlError> {
        self.exchange.shared.streams.end(self.exchange.accounts(target)?, ending);
        Ok(())
    }

    fn set_link_state(
        self,
        target: impl Into<Target>,
        state: LinkState,
    ) -> Result<(), ControlError> {
        self.exchange.shared.streams.set_link_state(self.exchange.accounts(target)?, state);
        Ok(())
    }
}
