//! The settings of a cancellation, and its events.

use std::time::Duration;

use kalshi_sdk::{Client, Error};
use tokio::sync::watch;

use super::sweep::{self, Task};
use crate::journal::Product;

/// The orders that are canceled, in each of the [`Products`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// All orders of the account, in every subaccount: one request for each product, whatever their
    /// number.
    All,
    /// All orders of one subaccount, 0 to 63: one request for each product.
    Subaccount(u8),
    /// The orders whose client order id begins with a text: those of one program among others. They
    /// have to be listed first.
    Prefix(String),
}

/// The products whose orders are canceled: event contracts, and further ones that are added.
///
/// # Examples
///
/// ```
/// use kalshi_trade::watchdog::Products;
///
/// let event_contracts = Products::default();
/// # let _ = event_contracts;
/// # #[cfg(feature = "perps")]
/// let both = Products::default().with_perps();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Products {
    perps: bool,
}

impl Products {
    /// Adds perpetual futures. The account has to be enabled for them.
    #[cfg(feature = "perps")]
    pub fn with_perps(mut self) -> Self {
        self.perps = true;
        self
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Product> {
        [Product::EventContracts].into_iter().chain(self.perps.then_some(Product::Perps))
    }
}

/// The times of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patience {
    /// The time for which nothing may rest until it is over. An order that was on its way when its
    /// program died can arrive later than its cancellation, and reads trail the exchange: 60 s
    /// unless set.
    pub quiet: Duration,
    /// The time between two looks at what rests; 5 s unless set.
    pub poll: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { quiet: Duration::from_secs(60), poll: Duration::from_secs(5) }
    }
}

impl Patience {
    /// Sets the time for which nothing may rest.
    pub fn with_quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Sets the time between two looks at what rests.
    pub fn with_poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }
}

/// What canceling came to so far.
#[derive(Debug)]
#[non_exhaustive]
pub enum CancelEvent<'a> {
    /// The exchange accepted a request to cancel.
    Requested,
    /// These orders of a product still rest (the number of them): they are canceled again.
    Resting(usize),
    /// A request failed, or a row of a list did not decode. It is repeated after a pause.
    Failed(&'a Error),
    /// A request had no answer within 30 s. It is repeated after a pause.
    Unanswered,
    /// The client panicked: a layer, or a function given to it. It is repeated after a pause.
    Panicked,
    /// Nothing has rested for the whole time, in any product.
    Quiet,
}

/// Cancels the orders of a scope until none has rested for a time, in any of the products. It does
/// not give up: requests that fail are repeated, with pauses that grow to 5 s. Products do not wait
/// for each other.
///
/// Canceling twice does no harm, so every failure is repeated, whether the request took effect or
/// not. A request without an answer is given up after 30 s and repeated, whatever the time limit of
/// the client.
///
/// It cancels orders, and nothing else of the account: not requests for quotes, quotes, or the exit
/// triggers of perpetual futures.
///
/// The cancellation waits for `report`, which should return at once. If that panics, it is logged,
/// and the cancellation goes on; so it does if a layer of the client panics.
///
/// # Cancellation
///
/// Dropping the future leaves orders that have not been canceled yet.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// use std::time::Duration;
///
/// use kalshi_trade::watchdog::{Patience, Products, Scope, cancel_until_quiet};
///
/// let patience = Patience::default().with_quiet(Duration::from_millis(10));
/// let products = Products::default();
/// cancel_until_quiet(&client, &Scope::All, products, patience, |event| println!("{event:?}")).await;
/// # Ok(())
/// # }
/// ```
pub async fn cancel_until_quiet(
    client: &Client,
    scope: &Scope,
    products: Products,
    patience: Patience,
    report: impl FnMut(CancelEvent<'_>),
) {
    // Kept: without a sender there is nothing to wait for.
    let (_deaths, no_death) = watch::channel(0);
    sweep::until_quiet(&Task { client, scope, products, patience }, &no_death, report).await;
}
