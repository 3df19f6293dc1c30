//! Canceling until nothing rests: one sweep for each product, and none waits for another.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use kalshi_sdk::{Client, Error, Rows};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    cancel::{CancelEvent, Patience, Products, Scope},
    events,
};
use crate::journal::Product;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The time that a request has. A client of the caller's own may have no limit.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A cancellation: its client, scope, products and times.
pub(super) struct Task<'a> {
    pub(super) client: &'a Client,
    pub(super) scope: &'a Scope,
    pub(super) products: Products,
    pub(super) patience: Patience,
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Failure {
    Request(Error),
    Unanswered,
    Panicked,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Request(error)
    }
}

/// Sends a request, and gives it up after [`REQUEST_LIMIT`].
pub(super) async fn limited<T>(
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(REQUEST_LIMIT, request).await {
        Ok(answer) => answer.map_err(Failure::Request),
        Err(_) => Err(Failure::Unanswered),
    }
}

/// Returns the next row of a list that decodes, and `None` at the end of what can be read. What does
/// not decode, or has no answer, is kept as a failure: rows and pages after it are read.
pub(super) async fn next_row<T>(rows: &mut Rows<'_, T>, found: &mut Found) -> Option<T> {
    loop {
        let Ok(row) = timeout(REQUEST_LIMIT, rows.next()).await else {
            found.fail(Failure::Unanswered);
            return None;
        };
        match row? {
            Ok(row) => return Some(row),
            Err(error) => {
                let goes_on = error.is_row() || rows.skip();
                found.fail(error);
                if !goes_on {
                    return None;
                }
            }
        }
    }
}

/// Counts the rows of a list: all of them, or a failure.
pub(super) async fn count_rows<T>(mut rows: Rows<'_, T>) -> Result<usize, Failure> {
    let mut found = Found::default();
    while next_row(&mut rows, &mut found).await.is_some() {
        found.resting += 1;
    }
    found.failed.map_or(Ok(found.resting), Err)
}

/// The orders of a list that were found and canceled as far as that went.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The orders that rest.
    pub(super) resting: usize,
    /// True once the exchange has accepted a cancel.
    pub(super) is_accepted: bool,
    /// The first failure: orders may be missing in the list.
    pub(super) failed: Option<Failure>,
}

impl Found {
    /// Keeps the first failure.
    pub(super) fn fail(&mut self, failure: impl Into<Failure>) {
        self.failed.get_or_insert(failure.into());
    }

    /// Keeps what became of a cancel.
    pub(super) fn note<T>(&mut self, canceled: Result<T, Failure>) {
        match canceled {
            Ok(_) => self.is_accepted = true,
            Err(failure) => self.fail(failure),
        }
    }
}

/// Cancels until nothing has rested for the time of the task, and starts over with each further
/// death. Returns the deaths whose orders are canceled by then.
pub(super) async fn until_quiet(
    task: &Task<'_>,
    deaths: &watch::Receiver<u64>,
    report: impl FnMut(CancelEvent<'_>),
) -> u64 {
    let report = Report(Mutex::new(report));
    let mut standings: Vec<Option<Standing>> = Vec::new();
    let mut running = FuturesUnordered::new();
    for (index, product) in task.products.iter().enumerate() {
        standings.push(None);
        running.push(Sweep::new(index, product, deaths.clone()).step(task, &report));
    }
    while let Some(sweep) = running.next().await {
        if let Some(standing) = standings.get_mut(sweep.index) {
            *standing = sweep.standing();
        }
        if let Some(deaths) = all_quiet(&standings, task.patience.quiet) {
            report.send(CancelEvent::Quiet);
            return deaths;
        }
        running.push(sweep.step(task, &report));
    }
    // There is at least one product, and its sweep does not end.
    *deaths.borrow()
}

/// Returns the deaths after which each product has been quiet for the whole time.
fn all_quiet(standings: &[Option<Standing>], quiet: Duration) -> Option<u64> {
    let deaths = standings.first().copied().flatten()?.deaths;
    let is_quiet = |standing: &Option<Standing>| {
        standing.is_some_and(|it| it.deaths == deaths && it.quiet_since.elapsed() >= quiet)
    };
    standings.iter().all(is_quiet).then_some(deaths)
}

/// A product in which nothing rests.
#[derive(Clone, Copy, Debug)]
struct Standing {
    quiet_since: Instant,
    /// The deaths before it was swept.
    deaths: u64,
}

/// The cancellation of one product.
struct Sweep {
    index: usize,
    product: Product,
    trips: watch::Receiver<u64>,
    deaths: u64,
    /// True while a request for the whole scope need not be repeated.
    is_asked: bool,
    quiet_since: Option<Instant>,
    /// The next pause after a failure.
    pause: Duration,
    /// The wait before the next step, and the part of it that no death cuts short.
    wait: Duration,
    least: Duration,
}

impl Sweep {
    fn new(index: usize, product: Product, mut trips: watch::Receiver<u64>) -> Self {
        let deaths = *trips.borrow_and_update();
        Self {
            index,
            product,
            deaths,
            trips,
            is_asked: false,
            quiet_since: None,
            pause: FIRST_PAUSE,
            wait: Duration::ZERO,
            least: Duration::ZERO,
        }
    }

    fn standing(&self) -> Option<Standing> {
        let quiet_since = self.quiet_since?;
        Some(Standing { quiet_since, deaths: self.deaths })
    }

    /// Waits, then cancels and looks once. It is never interrupted by a further death: in a crash
    /// loop no step would come to its end.
    async fn step(mut self, task: &Task<'_>, report: &Report<impl FnMut(CancelEvent<'_>)>) -> Self {
        self.rest().await;
        let deaths = *self.trips.borrow_and_update();
        if deaths != self.deaths {
            self.deaths = deaths;
            self.is_asked = false;
            self.quiet_since = None;
            self.pause = FIRST_PAUSE;
        }
        let began = Instant::now();
        let swept = sweep(task, self.product, self.is_asked, report);
        let swept = AssertUnwindSafe(swept).catch_unwind().await.unwrap_or(Err(Failure::Panicked));
        match swept {
            Ok(true) => {
                self.quiet_since.get_or_insert(began);
                self.passed(task);
            }
            Ok(false) => {
                self.quiet_since = None;
                self.passed(task);
            }
            Err(failure) => {
                report.send(match &failure {
                    Failure::Request(error) => CancelEvent::Failed(error),
                    Failure::Unanswered => CancelEvent::Unanswered,
                    Failure::Panicked => CancelEvent::Panicked,
                });
                // Without a list it is not known whether something rests that came later.
                self.is_asked = false;
                self.wait = self.pause.min(task.patience.poll.max(FIRST_PAUSE));
                self.least = FIRST_PAUSE;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        self
    }

    fn passed(&mut self, task: &Task<'_>) {
        self.is_asked = true;
        self.pause = FIRST_PAUSE;
        self.wait = task.patience.poll;
        self.least = Duration::ZERO;
    }

    /// Waits for the next step. A death makes that due at once, but not within the first pause after
    /// a failure: the exchange may have refused the request because there were too many.
    async fn rest(&mut self) {
        let least = Instant::now() + self.least;
        let death = async {
            if self.trips.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(self.wait) => {}
            () = death => sleep_until(least).await,
        }
    }
}

/// Cancels a product once, looks, and cancels what still rests. Returns true if nothing rested.
async fn sweep(
    task: &Task<'_>,
    product: Product,
    is_asked: bool,
    report: &Report<impl FnMut(CancelEvent<'_>)>,
) -> Result<bool, Failure> {
    let subaccount = match task.scope {
        Scope::All => None,
        Scope::Subaccount(number) => Some(*number),
        Scope::Prefix(prefix) => {
            let found = cancel_prefix(task.client, product, prefix).await;
            if found.resting > 0 {
                report.send(CancelEvent::Resting(found.resting));
            }
            if found.is_accepted {
                report.send(CancelEvent::Requested);
            }
            return found.failed.map_or(Ok(found.resting == 0), Err);
        }
    };
    // First without looking: a list would cost time, and may trail.
    if !is_asked {
        cancel_all(task.client, product, subaccount).await?;
        report.send(CancelEvent::Requested);
    }
    let resting = count(task.client, product, subaccount).await?;
    if resting == 0 {
        return Ok(true);
    }
    report.send(CancelEvent::Resting(resting));
    cancel_all(task.client, product, subaccount).await?;
    report.send(CancelEvent::Requested);
    Ok(false)
}

/// Cancels all orders of a product by one request.
async fn cancel_all(
    client: &Client,
    product: Product,
    subaccount: Option<u8>,
) -> Result<(), Failure> {
    match product {
        #[cfg(feature = "perps")]
        Product::Perps => super::perps::cancel_all(client, subaccount).await,
        _ => events::cancel_all(client, subaccount).await,
    }
}

/// Counts the orders of a product that rest: all rows, or a failure.
async fn count(
    client: &Client,
    product: Product,
    subaccount: Option<u8>,
) -> Result<usize, Failure> {
    match product {
        #[cfg(feature = "perps")]
        Product::Perps => super::perps::count(client, subaccount).await,
        _ => events::count(client, subaccount).await,
    }
}

/// Cancels the orders of a product whose client order id begins with a prefix.
async fn cancel_prefix(client: &Client, product: Product, prefix: &str) -> Found {
    match product {
        #[cfg(feature = "perps")]
        Product::Perps => super::perps::cancel_prefix(client, prefix).await,
        _ => events::cancel_prefix(client, prefix).await,
    }
}

/// The function that is told of events. It must not end a cancellation.
struct Report<F>(Mutex<F>);

impl<F: FnMut(CancelEvent<'_>)> Report<F> {
    fn send(&self, event: CancelEvent<'_>) {
        match &event {
            CancelEvent::Failed(error) => tracing::warn!(%error, "could not cancel; repeating"),
            CancelEvent::Unanswered => tracing::warn!("no answer to a request; repeating"),
            CancelEvent::Panicked => tracing::error!("the client panicked; repeating"),
            _ => {}
        }
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if catch_unwind(AssertUnwindSafe(|| report(event))).is_err() {
            tracing::error!("the function that cancellations report to panicked");
        }
    }
}
