//! Operations of every product that the exchange serves.

#[cfg(feature = "perps")]
use kalshi_sdk::{OPERATIONS, perps};
use kalshi_sdk::{Operation, OperationId};

/// The operation of a request, of any product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnyOperation {
    Events(OperationId),
    #[cfg(feature = "perps")]
    Perps(perps::OperationId),
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
        let events = events.chain(of_perps());
        events.collect()
    }

    /// Returns the entry of the operation table.
    pub(crate) fn operation(self) -> &'static Operation {
        match self {
            Self::Events(id) => id.operation(),
            #[cfg(feature = "perps")]
            Self::Perps(id) => id.operation(),
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
