//! Canceling until nothing rests.

use std::time::Duration;

use kalshi_sdk::{Client, Error, types::Order};
use tokio::time::{Instant, sleep};

use crate::cancels::{self, BATCH, Cancel};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The orders that are canceled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// All orders of the account, in every subaccount: one request, whatever their number.
    All,
    /// All orders of one subaccount, 0 to 63: one request.
    Subaccount(u8),
    /// The orders whose client order id begins with a text: those of one program among others. They
    /// have to be listed first.
    Prefix(String),
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
    /// These orders still rest (the number of them): they are canceled again.
    Resting(usize),
    /// A request failed, and is repeated after a pause.
    Failed(&'a Error),
    /// Nothing has rested for the whole time.
    Quiet,
}

/// Cancels the orders of a scope until none has rested for a time. It does not give up: requests
/// that fail are repeated, with pauses that grow to 5 s.
///
/// Canceling twice does no harm, so every failure is repeated, whether the request took effect or
/// not. The cancellation waits for `report`, and ends if that panics: it should do neither.
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
/// use kalshi_trade::watchdog::{Patience, Scope, cancel_until_quiet};
///
/// let patience = Patience::default().with_quiet(Duration::from_millis(10));
/// cancel_until_quiet(&client, &Scope::All, patience, |event| println!("{event:?}")).await;
/// # Ok(())
/// # }
/// ```
pub async fn cancel_until_quiet(
    client: &Client,
    scope: &Scope,
    patience: Patience,
    mut report: impl FnMut(CancelEvent<'_>),
) {
    let mut pause = FIRST_PAUSE;
    // First without looking: a list would cost time, and may trail.
    let mut is_asked = false;
    let mut quiet_since: Option<Instant> = None;
    loop {
        let step = async {
            if !is_asked && request_all(client, scope).await? {
                report(CancelEvent::Requested);
            }
            is_asked = true;
            let began = Instant::now();
            let resting = resting(client, scope).await?;
            if resting.is_empty() {
                return Ok(Some(*quiet_since.get_or_insert(began)));
            }
            quiet_since = None;
            report(CancelEvent::Resting(resting.len()));
            if !request_all(client, scope).await? {
                cancel_listed(client, &resting).await?;
            }
            report(CancelEvent::Requested);
            Ok::<_, Error>(None)
        };
        match step.await {
            Ok(Some(since)) if since.elapsed() >= patience.quiet => {
                report(CancelEvent::Quiet);
                return;
            }
            Ok(_) => {
                pause = FIRST_PAUSE;
                sleep(patience.poll).await;
            }
            Err(error) => {
                tracing::warn!(%error, "could not cancel; repeating");
                report(CancelEvent::Failed(&error));
                sleep(pause.min(patience.poll.max(FIRST_PAUSE))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Cancels a whole scope by one request, and returns whether there is such a request for it.
async fn request_all(client: &Client, scope: &Scope) -> Result<bool, Error> {
    match scope {
        Scope::All => client.cancel_all_orders().send().await.map(|_| true),
        Scope::Subaccount(number) => {
            client.cancel_all_orders().subaccount(i64::from(*number)).send().await.map(|_| true)
        }
        Scope::Prefix(_) => Ok(false),
    }
}

/// Returns the orders of a scope that rest: all rows, or an error.
async fn resting(client: &Client, scope: &Scope) -> Result<Vec<Order>, Error> {
    let request = client.get_orders().status("resting").limit(1_000);
    let request = match scope {
        Scope::Subaccount(number) => request.subaccount(i64::from(*number)),
        _ => request,
    };
    let mut orders = request.all().await?;
    if let Scope::Prefix(prefix) = scope {
        orders.retain(|order| order.client_order_id.starts_with(prefix.as_str()));
    }
    Ok(orders)
}

/// Cancels orders one by one, in batches. What became of each, the next list shows.
async fn cancel_listed(client: &Client, orders: &[Order]) -> Result<(), Error> {
    for batch in orders.chunks(BATCH) {
        let cancels = batch.iter().map(|order| Cancel {
            order_id: &order.order_id,
            market_ticker: &order.ticker,
            subaccount: order.subaccount_number,
            exchange_index: order.exchange_index.clone(),
        });
        cancels::send(client, cancels).await?;
    }
    Ok(())
}
