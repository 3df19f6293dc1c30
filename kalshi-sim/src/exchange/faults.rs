use crate::{
    control::ControlError,
    exchange::Exchange,
    faults::{Fault, FaultReport},
};

/// The faults of the requests to an exchange: see [`Exchange::faults`](crate::Exchange::faults).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FaultControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl FaultControl<'_> {
    /// Adds a fault. It hits what it names until [`clear`](Self::clear), or as often as it says.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: it names a key that the exchange does not know.
    pub fn add(&self, fault: Fault) -> Result<(), ControlError> {
        self.exchange.shared.add_fault(fault)
    }

    /// Ends all faults and forgets their hits.
    pub fn clear(&self) {
        self.exchange.shared.faults().clear();
    }

    /// Returns the faults that were added since the last [`clear`](Self::clear), in their order,
    /// each with its hits. Those that are over are among them.
    pub fn reports(&self) -> Vec<FaultReport> {
        self.exchange.shared.faults().reports().to_vec()
    }

    /// Checks that every fault has hit, as often as it shall if it says so: a test whose faults
    /// never hit tests nothing.
    ///
    /// # Panics
    ///
    /// If one has not; the message names it.
    #[track_caller]
    pub fn assert_all_hit(&self) {
        let reports = self.reports();
        let missed: Vec<&FaultReport> =
            reports.iter().filter(|report| report.hits < report.fault.times.unwrap_or(1)).collect();
        assert!(missed.is_empty(), "faults that did not hit as often as they shall: {missed:#?}");
    }
}
