//! The budget of an account, as its callers see it.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_sdk::operation::Lane;
use tokio::{sync::Notify, time::Instant};

use crate::budget::{
    backend::Backend,
    cost::{BucketKey, Charge, CostTable, RequestParts},
    driver::{Inner, State, nanos},
    layer::BudgetLayer,
    scheduler::{
        Class, Completion, DEFAULT_MAX_IN_FLIGHT, Demand, LaneLimits, MAX_UNCLAIMED, Owner,
        Refusal, Scheduler, Ticket,
    },
};

/// The time for which a create, an amend or a confirm waits for its tokens, unless set: a late
/// order is a wrong order.
pub const DEFAULT_WRITE_DEADLINE: Duration = Duration::from_secs(1);

/// The time for which other requests wait for their tokens, unless set.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The number of times that a request answered with 429 is sent again, unless set.
pub const DEFAULT_REQUEUES: u32 = 3;

/// The rate budget of one account.
///
/// Clones share it: give every client of the account the same. Requests take tokens from it by its
/// [`layer`](Self::layer), or by [`acquire`](Self::acquire).
///
/// # Examples
///
/// ```
/// use kalshi_sdk::Client;
/// use kalshi_sim::{Exchange, Role, Tier};
/// use kalshi_trade::budget::{Budget, WithBudget as _};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let exchange = Exchange::builder().with_tier(Tier::Basic).start().await?;
/// let budget = Budget::new();
/// let client = Client::builder()
///     .with_environment(exchange.environment())
///     .with_credentials(exchange.credentials(Role::Trader).ok_or("no key")?.clone())
///     .with_budget(&budget)
///     .build()?;
/// // Until then the limits are those of the lowest tier.
/// budget.learn(&client).await?;
/// client.get_orders().send().await?;
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct Budget(pub(super) Arc<Inner>);

/// The builder of a [`Budget`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_trade::budget::Budget;
///
/// let budget = Budget::builder().with_write_deadline(Duration::from_millis(200)).build();
/// # let _ = budget;
/// ```
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct BudgetBuilder {
    scheduler: Scheduler,
    costs: CostTable,
    limits: Vec<(Lane, LaneLimits)>,
    #[cfg(feature = "perps")]
    learns_perps: bool,
    backend: Option<Arc<dyn Backend>>,
    write_deadline: Duration,
    deadline: Duration,
    requeues: u32,
}

impl Default for BudgetBuilder {
    fn default() -> Self {
        Self {
            scheduler: Scheduler::new()
                .with_max_in_flight(DEFAULT_MAX_IN_FLIGHT)
                .with_max_unclaimed(MAX_UNCLAIMED),
            costs: CostTable::new(),
            limits: Vec::new(),
            #[cfg(feature = "perps")]
            learns_perps: false,
            backend: None,
            write_deadline: DEFAULT_WRITE_DEADLINE,
            deadline: DEFAULT_DEADLINE,
            requeues: DEFAULT_REQUEUES,
        }
    }
}

impl BudgetBuilder {
    /// Shares the buckets with the other budgets of a back end; a budget of its own unless set.
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets the limits of a lane until they are learned: the lowest tier unless set.
    pub fn with_limits(mut self, lane: Lane, limits: LaneLimits) -> Self {
        self.limits.push((lane, limits));
        self
    }

    /// Learns the limits of perpetual futures as well, with [`Budget::learn`]: for an account that is
    /// enabled for them. Without it their buckets have the limits of the lowest tier.
    #[cfg(feature = "perps")]
    pub fn with_perps(mut self) -> Self {
        self.learns_perps = true;
        self
    }

    /// Sets the time for which creates, amends and confirms wait for their tokens:
    /// [`DEFAULT_WRITE_DEADLINE`] unless set.
    pub fn with_write_deadline(mut self, deadline: Duration) -> Self {
        self.write_deadline = deadline;
        self
    }

    /// Sets the time for which all other requests wait for their tokens: [`DEFAULT_DEADLINE`] unless
    /// set.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how often a request that was answered with 429 is sent again: [`DEFAULT_REQUEUES`]
    /// unless set.
    pub fn with_requeues(mut self, requeues: u32) -> Self {
        self.requeues = requeues;
        self
    }

    /// Sets how many nonzero shards a write draws from that names none:
    /// [`DEFAULT_SHARDS`](crate::budget::DEFAULT_SHARDS) unless set.
    pub fn with_shards(mut self, shards: u32) -> Self {
        self.costs = self.costs.with_shards(shards);
        self
    }

    /// Sets how many requests may wait:
    /// [`DEFAULT_MAX_WAITING`](crate::budget::DEFAULT_MAX_WAITING) unless set.
    pub fn with_max_waiting(mut self, requests: usize) -> Self {
        self.scheduler = self.scheduler.with_max_waiting(requests);
        self
    }

    /// Sets how many requests less urgent than a cancel may be on their way at once, whatever they
    /// cost: [`DEFAULT_MAX_IN_FLIGHT`] unless set, and at least 1. Cancels and other urgent requests
    /// need no place among them.
    ///
    /// Requests that are on their way share connections and the processor with a cancel. It takes
    /// so many places to use up the rate at all: requests a second times the seconds of an answer.
    pub fn with_max_in_flight(mut self, requests: usize) -> Self {
        self.scheduler = self.scheduler.with_max_in_flight(requests);
        self
    }

    /// Sets the tokens by which less urgent requests stay below a bucket's capacity: 10 unless set.
    /// More of them leave room for other programs of the account.
    pub fn with_margin(mut self, tokens: u64) -> Self {
        self.scheduler = self.scheduler.with_margin(tokens);
        self
    }

    /// Builds the budget, with full buckets.
    pub fn build(self) -> Budget {
        let mut scheduler = self.scheduler;
        if self.backend.is_some() {
            scheduler = scheduler.with_shared_buckets();
        }
        for (lane, limits) in self.limits {
            scheduler.set_limits(0, lane, limits);
        }
        Budget(Arc::new(Inner {
            start: Instant::now(),
            state: Mutex::new(State::new(scheduler, self.costs)),
            backend: self.backend,
            stale: Notify::new(),
            #[cfg(feature = "perps")]
            learns_perps: self.learns_perps,
            write_deadline: self.write_deadline,
            deadline: self.deadline,
            requeues: self.requeues,
        }))
    }
}

/// The settings of one request, in place of those of its operation.
///
/// Put it into the requests of a client by
/// [`Client::with_extension`](kalshi_sdk::Client::with_extension), or give it to
/// [`Budget::acquire`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_sdk::{Client, Environment};
/// use kalshi_trade::budget::{Budget, RequestOptions, WithBudget as _};
///
/// # fn main() -> Result<(), kalshi_sdk::Error> {
/// let budget = Budget::new();
/// let client =
///     Client::builder().with_environment(Environment::Demo).with_budget(&budget).build()?;
/// let options = RequestOptions::new().with_owner("quoting");
/// let quoting = client.with_extension(options.with_deadline(Duration::from_millis(100)));
/// # let _ = quoting;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestOptions {
    class: Option<Class>,
    owner: Owner,
    deadline: Option<Duration>,
    tag: Option<Arc<str>>,
    /// The rest of the time of the whole call.
    left: Option<Duration>,
}

impl RequestOptions {
    /// Returns options that leave everything to the operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the class; [`Class::of`] the operation unless set.
    pub fn with_class(mut self, class: Class) -> Self {
        self.class = Some(class);
        self
    }

    /// Sets the owner, with which others of its class share the buckets evenly.
    pub fn with_owner(mut self, owner: impl Into<Owner>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Sets the time for which the request waits for its tokens. With zero it goes at once or not at
    /// all.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the name by which [`Budget::withdraw`] finds the request while it waits: the client id
    /// of its order.
    pub fn with_tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Makes the wait no longer than the rest of a call, whatever the deadline is.
    pub(super) fn end_within(&mut self, left: Duration) {
        self.left = Some(self.left.map_or(left, |before| before.min(left)));
    }

    /// Returns the class that was set.
    pub fn class(&self) -> Option<Class> {
        self.class
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    /// Returns a budget of its own with the limits of the lowest tier; [`learn`](Self::learn)
    /// fetches those of the account.
    pub fn new() -> Self {
        BudgetBuilder::default().build()
    }

    /// Returns a builder.
    pub fn builder() -> BudgetBuilder {
        BudgetBuilder::default()
    }

    /// Returns the layer for
    /// [`ClientBuilder::with_middleware`](kalshi_sdk::ClientBuilder::with_middleware): each attempt of
    /// each signed request waits there for its tokens.
    ///
    /// It must be below a layer that retries, so that each attempt pays. What it does not send fails
    /// with [`Effect::NotSent`](kalshi_sdk::Effect::NotSent).
    pub fn layer(&self) -> BudgetLayer {
        BudgetLayer::new(self.clone())
    }

    /// Waits for the tokens of a request.
    ///
    /// For requests that are sent by other means than the [`layer`](Self::layer): report their outcome
    /// to the permit.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the tokens are more than the bucket can hold, come after the deadline, or cannot
    /// be had; or the request was [withdrawn](Self::withdraw).
    ///
    /// # Panics
    ///
    /// If it has to wait outside of a Tokio runtime with its timer.
    ///
    /// # Cancellation
    ///
    /// A dropped future leaves the queue; nothing is taken. One that is kept and not polled holds no
    /// other request up: while requests wait, a task of their runtime grants the tokens.
    pub async fn acquire(
        &self,
        charge: Charge,
        options: RequestOptions,
    ) -> Result<Permit, Refusal> {
        let class = options.class.unwrap_or(Class::Normal);
        let is_order = class == Class::Normal && charge.is_write();
        let limit = if is_order { self.0.write_deadline } else { self.0.deadline };
        let limit = options.deadline.unwrap_or(limit);
        let limit = options.left.map_or(limit, |left| left.min(limit));
        let now = self.0.now();
        let deadline = now.saturating_add(nanos(limit));
        let demand = Demand {
            charge: charge.clone(),
            class,
            owner: options.owner,
            deadline: Some(deadline),
            tag: options.tag,
        };
        let ticket = {
            let mut state = self.0.state();
            let ticket = state.scheduler.submit(now, demand)?;
            match self.0.run_for(&mut state, ticket) {
                // The usual case: there are tokens, and no other request is before it.
                Some(Ok(())) => {
                    self.0.claim(&mut state, ticket);
                    Ok(ticket)
                }
                Some(Err(refusal)) => return Err(refusal),
                None => Err(self.0.wait(&mut state, ticket)),
            }
        };
        let ticket = match ticket {
            Ok(ticket) => ticket,
            Err(mut waiting) => {
                waiting.verdict().await?;
                waiting.done()
            }
        };
        Ok(Permit { budget: self.clone(), ticket: Some(ticket), charge })
    }

    /// Withdraws the requests with a tag that wait for their tokens, and returns how many there
    /// were. Nothing is sent for them: they fail with [`Refusal::Withdrawn`].
    ///
    /// A cancel of an order asks this first. If it returns 0, the order was sent or was never there.
    pub fn withdraw(&self, tag: &str) -> usize {
        let mut state = self.0.state();
        let withdrawn = state.scheduler.withdraw_tag(tag);
        for ticket in &withdrawn {
            state.notify(*ticket, Err(Refusal::Withdrawn));
        }
        self.0.run(&mut state);
        withdrawn.len()
    }

    /// Sets the number of open orders, for each of which two write tokens are kept for its cancel,
    /// up to a fourth of the bucket.
    pub fn set_open_orders(&self, orders: u64) {
        let mut state = self.0.state();
        state.scheduler.set_open_orders(orders);
        self.0.run(&mut state);
    }

    /// Sets the limits of a lane. What was taken from its buckets stays taken.
    pub fn set_limits(&self, lane: Lane, limits: LaneLimits) {
        let now = self.0.now();
        let mut state = self.0.state();
        state.scheduler.set_limits(now, lane, limits);
        self.0.run(&mut state);
    }

    /// Returns the limits of a lane.
    pub fn limits(&self, lane: Lane) -> LaneLimits {
        self.0.state().scheduler.limits(lane)
    }

    /// Returns the number of requests that wait for their tokens.
    pub fn waiting(&self) -> usize {
        self.0.state().scheduler.waiting()
    }

    /// Returns the tokens of a bucket that this budget could spend at once.
    pub fn available(&self, key: BucketKey) -> u64 {
        self.0.state().scheduler.available(self.0.now(), key)
    }

    /// Returns the charge of a request; `None` for a public one, which costs nothing.
    pub fn charge(
        &self,
        operation: &kalshi_sdk::Operation,
        request: &RequestParts<'_>,
    ) -> Option<Charge> {
        self.0.state().costs.charge(operation, request)
    }

    /// Changes the table of costs.
    pub(super) fn change_costs(&self, change: impl FnOnce(&mut CostTable)) {
        change(&mut self.0.state().costs);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("waiting", &self.waiting())
            .field("backend", &self.0.backend)
            .finish_non_exhaustive()
    }
}

/// The tokens of one request.
///
/// Report the outcome by [`complete`](Self::complete); a permit that is dropped counts as
/// [`Completion::Sent`].
#[derive(Debug)]
#[must_use = "dropped, it counts as sent"]
pub struct Permit {
    budget: Budget,
    ticket: Option<Ticket>,
    charge: Charge,
}

impl Permit {
    /// Returns the tokens, and the buckets that paid them.
    pub fn charge(&self) -> &Charge {
        &self.charge
    }

    /// Reports the outcome of the request.
    ///
    /// After a 429 its buckets count as empty, also for the others that share them, and the limits
    /// are fetched again.
    ///
    /// # Cancellation
    ///
    /// A dropped future has reported to this budget, and perhaps not to those that share the buckets.
    pub async fn complete(mut self, completion: Completion) {
        self.end(completion);
        if completion == Completion::RateLimited {
            self.drain().await;
        }
    }

    /// Waits for new tokens after a 429, before all others of the same class and buckets.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: they come after the deadline of the request, which stays the same; or it was
    /// [withdrawn](Budget::withdraw).
    ///
    /// # Cancellation
    ///
    /// A dropped future leaves the queue; nothing is taken.
    pub async fn requeue(mut self) -> Result<Self, Refusal> {
        let inner = Arc::clone(&self.budget.0);
        let mut waiting = {
            let mut state = inner.state();
            let Some(ticket) = self.ticket.take() else { return Err(Refusal::Withdrawn) };
            inner.stale.notify_one();
            if !state.scheduler.requeue(inner.now(), ticket) {
                return Err(Refusal::Withdrawn);
            }
            let waiting = inner.wait(&mut state, ticket);
            inner.run(&mut state);
            waiting
        };
        self.drain().await;
        waiting.verdict().await?;
        self.ticket = Some(waiting.done());
        Ok(self)
    }

    fn end(&mut self, completion: Completion) {
        let Some(ticket) = self.ticket.take() else { return };
        let inner = &self.budget.0;
        let now = inner.now();
        let mut state = inner.state();
        state.scheduler.complete(now, ticket, completion);
        inner.run(&mut state);
        drop(state);
        if completion == Completion::RateLimited {
            inner.stale.notify_one();
        }
    }

    /// Empties the buckets of the back end.
    async fn drain(&self) {
        let Some(backend) = &self.budget.0.backend else { return };
        for key in &self.charge.buckets {
            let limit = self.budget.limits(key.lane).of(key.pool);
            if let Err(error) = backend.drain(*key, limit).await {
                tracing::warn!(%error, bucket = %key, "the shared budget cannot be used");
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(Completion::Sent);
    }
}
