//! Operations of every product that the exchange serves.

use kalshi_auth::Service;
#[cfg(feature = "perps")]
use kalshi_sdk::{OPERATIONS, klear, perps};
use kalshi_sdk::{Operation, OperationId};

/// The operation of a request, of any product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnyOperation {
    Events(OperationId),
    #[cfg(feature = "perps")]
    Perps(perps::OperationId),
    #[cfg(feature = "perps")]
    Klear(klear::OperationId),
}

impl From<OperationId> for AnyOperation {
    fn from(id: OperationId) -> Self {
        Self::Events(id)
    }
}

impl AnyOperation {
    /// Returns the operations of all products. One that two documents have is that of event
    /// contracts.
    pub(crate) fn all() -> Vec<Self> {
        let events = OperationId::all().map(Self::Events);
        #[cfg(feature = "perps")]
        let events = events.chain(of_perps()).chain(klear::OperationId::all().map(Self::Klear));
        events.collect()
    }

    /// Returns the entry of the operation table.
    pub(crate) fn operation(self) -> &'static Operation {
        match self {
            Self::Events(id) => id.operation(),
            #[cfg(feature = "perps")]
            Self::Perps(id) => id.operation(),
            #[cfg(feature = "perps")]
            Self::Klear(id) => id.operation(),
        }
    }

    /// Returns the path below which the operation is.
    pub(crate) fn base_path(self) -> &'static str {
        match self {
            Self::Events(_) => Service::Rest.path(),
            #[cfg(feature = "perps")]
            // Its paths have the part of the product in them.
            Self::Perps(_) => Service::Rest.path(),
            #[cfg(feature = "perps")]
            Self::Klear(_) => Service::Klear.path(),
        }
    }
}

/// Returns the operations of perpetual futures that are not those of event contracts, too.
#[cfg(feature = "perps")]
fn of_perps() -> impl Iterator<Item = AnyOperation> {
    let is_shared = |operation: &Operation| {
        OPERATIONS
            .iter()
            .any(|other| (&other.method, other.path) == (&operation.method, operation.path))
    };
    perps::OperationId::all().map(AnyOperation::Perps).filter(move |id| !is_shared(id.operation()))
}
