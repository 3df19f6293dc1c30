//! The order in which requests are sent: pure, with the time as an argument.
//!
//! It decides and does nothing: it has no clock, no socket, no lock and no randomness. The same
//! calls give the same answers.
//!
//! A request counts in full against its buckets from the moment it is granted, and begins to be
//! refilled only when its answer is in. The exchange took its tokens at some time in between, so
//! that whatever the delays on the way are, a bucket of the exchange is never emptier than it is
//! here: one client gets no 429, with or without bursts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use kalshi_sdk::{
    Operation,
    operation::{Bucket, Lane},
};
use thiserror::Error;

use crate::budget::{
    cost::{BucketKey, Charge, Pool},
    gcra::{Gcra, Limit, Nanos},
};

/// The time after a 429 in which half of a burst is used.
const HALVED_FOR: Nanos = 60_000_000_000;

/// The time by which an answer is taken to be late: the exchange counts in milliseconds.
const GRAIN: Nanos = 1_000_000;

/// Tokens that an owner may send in a row before the next one has its turn.
const QUANTUM: u64 = 10;

/// The least urgent class gets one token of `BULK_SHARE` while it waits: 5 %.
const BULK_SHARE: u64 = 20;

/// The refill time that a slice of a shared bucket is taken for.
const SLICE: Nanos = 20_000_000;

/// The time in which urgent requests go on without a back end that failed.
const BYPASS_FOR: Nanos = 1_000_000_000;

/// The time within which a back end has to answer.
pub(super) const ANSWER_TIME: Nanos = 2_000_000_000;

/// The time for which a request that was granted may hold the place of one that begins. One that is not
/// polled has not begun by then.
const CLAIM_TIME: Nanos = 100_000_000;

/// The requests that may wait unless set.
pub const DEFAULT_MAX_WAITING: usize = 10_000;

/// The requests less urgent than a cancel that a [`Budget`](crate::budget::Budget) lets be on their
/// way at once, unless set.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 128;

/// The requests less urgent than a cancel that a budget has granted and that have not begun: a
/// cancel waits for the processor behind no more than these.
pub(super) const MAX_UNCLAIMED: usize = 4;

/// The urgency of a request. A class is served before all below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// Ends all exposure at once: cancel-all, the trigger of an order group.
    Emergency,
    /// Lowers exposure, or settles what an order came to: cancels, decreases, reads after an
    /// unknown outcome.
    Urgent,
    /// Creates, amends, confirms, and reads that something waits for.
    Normal,
    /// Everything else. Gets 5 % of what the class `Normal` is served, so that it never starves
    /// beside it.
    Bulk,
}

impl Class {
    /// All of them, from the most urgent.
    pub const ALL: [Self; 4] = [Self::Emergency, Self::Urgent, Self::Normal, Self::Bulk];

    /// Returns the class that an operation has unless its request says otherwise.
    ///
    /// ```
    /// use kalshi_sdk::OperationId;
    /// use kalshi_trade::budget::Class;
    ///
    /// assert_eq!(Class::of(OperationId::CancelAllOrders.operation()), Class::Emergency);
    /// assert_eq!(Class::of(OperationId::CancelOrderV2.operation()), Class::Urgent);
    /// assert_eq!(Class::of(OperationId::CreateOrderV2.operation()), Class::Normal);
    /// ```
    pub fn of(operation: &Operation) -> Self {
        match operation.id {
            "cancel_all_orders"
            | "trigger_order_group"
            | "cancel_all_margin_orders"
            | "trigger_margin_order_group" => return Self::Emergency,
            "delete_order_group"
            | "update_order_group_limit"
            | "delete_margin_order_group"
            | "update_margin_order_group_limit" => return Self::Urgent,
            // They take profit and stop losses, or end doing so.
            id if id.contains("_exit_trigger") => return Self::Normal,
            _ => {}
        }
        let is = |prefix| operation.id.starts_with(prefix);
        if operation.cost.bucket == Bucket::Write {
            let is_removal = is("cancel_") || is("batch_cancel_") || is("decrease_");
            let is_quote = operation.id.contains("quote") && is("delete_");
            let is_new = ["create_", "batch_create_", "amend_", "confirm_", "accept_"];
            if is_removal || is_quote {
                Self::Urgent
            } else if is_new.into_iter().any(is) {
                Self::Normal
            } else {
                Self::Bulk
            }
        } else if operation.path.starts_with("/historical") {
            Self::Bulk
        } else {
            Self::Normal
        }
    }

    fn is_urgent(self) -> bool {
        matches!(self, Self::Emergency | Self::Urgent)
    }
}

/// The part of a program that a request is from: a strategy, or a subaccount. Owners of one class
/// share a bucket evenly.
///
/// # Examples
///
/// ```
/// use kalshi_trade::budget::Owner;
///
/// assert_eq!(Owner::from("quoting").to_string(), "quoting");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(Option<Arc<str>>);

impl From<&str> for Owner {
    fn from(name: &str) -> Self {
        Self(Some(name.into()))
    }
}

impl From<String> for Owner {
    fn from(name: String) -> Self {
        Self(Some(name.into()))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_deref().unwrap_or_default())
    }
}

/// A request that waits for its tokens, or that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A request for tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Demand {
    /// The tokens, and the buckets that pay them.
    pub charge: Charge,
    /// Urgency.
    pub class: Class,
    /// The owner.
    pub owner: Owner,
    /// The time after which the tokens are of no use.
    pub deadline: Option<Nanos>,
    /// The name by which the request can be withdrawn while it waits.
    pub tag: Option<Arc<str>>,
}

impl Demand {
    /// Returns a demand of a class, without owner, deadline and tag.
    pub fn new(charge: Charge, class: Class) -> Self {
        Self { charge, class, owner: Owner::default(), deadline: None, tag: None }
    }

    /// Sets the owner.
    pub fn with_owner(mut self, owner: impl Into<Owner>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Sets the time after which the tokens are of no use.
    pub fn with_deadline(mut self, deadline: Nanos) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the name by which the request can be withdrawn while it waits.
    pub fn with_tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tag = Some(tag.into());
        self
    }
}

/// The reason why a request gets no tokens. Nothing was sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The bucket can never hold the tokens.
    #[error("it costs {cost} tokens and the bucket has room for {room}{}", fitting(*.fits))]
    #[non_exhaustive]
    TooLarge {
        /// Tokens of the request.
        cost: u64,
        /// The most that a request of its class can cost.
        room: u64,
        /// The items of the batch that fit into one request; `None` if it is no batch.
        fits: Option<u64>,
    },
    /// The tokens come after the deadline.
    #[error("its tokens come in {wait:?}, after its deadline: send less, or wait longer")]
    #[non_exhaustive]
    TooLate {
        /// The time until the request could be sent, as far as it can be known.
        wait: Duration,
    },
    /// Too many requests wait.
    #[error("{waiting} requests wait for their tokens, and no more may")]
    #[non_exhaustive]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
    },
    /// The request was withdrawn while it waited.
    #[error("it was withdrawn while it waited")]
    Withdrawn,
    /// The back end that several processes share could not be asked.
    #[error("the shared budget cannot be used: {reason}")]
    #[non_exhaustive]
    Backend {
        /// The reason of the failure.
        reason: String,
    },
}

fn fitting(fits: Option<u64>) -> String {
    fits.map(|items| format!(": {items} items fit, split the batch")).unwrap_or_default()
}

/// The outcome of a request that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// It was answered, or may have been sent.
    Sent,
    /// It never left this machine.
    NotSent,
    /// It was answered with 429.
    RateLimited,
}

/// The limits of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneLimits {
    /// Reads.
    pub read: Limit,
    /// Writes: each shard has a bucket of this limit.
    pub write: Limit,
    /// Operations with a bucket of their own.
    pub own: Limit,
}

impl LaneLimits {
    /// Returns limits from those of reads and writes, and the requests a second of an operation with
    /// a bucket of its own, which has no burst.
    pub const fn new(read: Limit, write: Limit, own: Limit) -> Self {
        Self { read, write, own }
    }

    /// Returns the limits of an account that nothing is known of: the lowest tier.
    pub const fn lowest(lane: Lane) -> Self {
        let read = match lane {
            Lane::Perpetuals => Limit::known(400, 400),
            _ => Limit::known(200, 600),
        };
        Self { read, write: Limit::known(100, 100), own: Limit::known(1, 1) }
    }

    /// Returns the limit of a bucket.
    pub(super) fn of(&self, pool: Pool) -> Limit {
        match pool {
            Pool::Read => self.read,
            Pool::Write | Pool::Shard(_) => self.write,
            Pool::Own(_) => self.own,
        }
    }
}

/// A slice that a back end is to be asked for. See [`Scheduler::wanted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slice {
    /// The bucket.
    pub key: BucketKey,
    /// The tokens without which the first request cannot go.
    pub least: u64,
    /// The tokens to take if they are there.
    pub most: u64,
    /// The tokens that must be left in the bucket.
    pub reserve: u64,
    /// Its limit.
    pub limit: Limit,
    /// True if an urgent request waits for it.
    pub is_urgent: bool,
}

impl Slice {
    /// Returns a slice of `least` tokens and no more, which may leave the bucket empty and is not
    /// urgent: for the tests of a back end.
    pub const fn new(key: BucketKey, limit: Limit, least: u64) -> Self {
        Self { key, least, most: least, reserve: 0, limit, is_urgent: false }
    }
}

/// The state of the bucket here.
#[derive(Clone, Debug)]
struct Account {
    limit: Limit,
    /// Of requests whose answers are in.
    bucket: Gcra,
    /// Tokens of requests that are on their way.
    in_flight: u64,
    /// Until when half of the burst is used.
    halved_until: Nanos,
    /// Tokens that other classes got while `Bulk` waited.
    bulk_credit: u64,
    shared: SharedAccount,
}

/// The part of a bucket that other processes share.
#[derive(Clone, Copy, Debug, Default)]
struct SharedAccount {
    /// Tokens taken from the back end and not yet spent.
    allowance: u64,
    /// When to ask again, for urgent requests and for others.
    denied_until: [Nanos; 2],
    /// Until when urgent requests do without.
    bypass_until: Nanos,
    /// When the back end was asked for the slice that is on its way.
    asked_at: Option<Nanos>,
}

/// The verdict on a request at the head of its queue.
enum Verdict {
    Admitted,
    /// Not before this time; `None` if an answer has to come first.
    Blocked(Option<Nanos>),
    /// A slice of the back end is missing.
    Wants(Slice),
    Impossible(u64),
}

#[derive(Clone, Debug)]
struct Job {
    demand: Demand,
    state: JobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    Waiting,
    Granted,
    /// Granted, and begun.
    Claimed,
}

/// The places for requests less urgent than a cancel. Urgent requests take none and need none.
#[derive(Clone, Copy, Debug)]
struct Slots {
    /// Requests that were granted and not ended.
    in_flight: usize,
    max_in_flight: usize,
    /// Those of them that have not begun.
    unclaimed: usize,
    max_unclaimed: usize,
}

impl Slots {
    fn has_room(self) -> bool {
        self.in_flight < self.max_in_flight && self.unclaimed < self.max_unclaimed
    }
}

/// The requests of one class for the same buckets: first in, first out for each owner, the owners by
/// deficit round robin.
#[derive(Clone, Debug, Default)]
struct Ring {
    owners: VecDeque<OwnerQueue>,
    /// The first owner has had the tokens of its turn.
    is_topped_up: bool,
    /// Tokens of all that wait.
    tokens: u64,
}

#[derive(Clone, Debug)]
struct OwnerQueue {
    owner: Owner,
    deficit: u64,
    jobs: VecDeque<(Ticket, u64)>,
}

impl Ring {
    fn push(&mut self, owner: &Owner, ticket: Ticket, cost: u64) {
        self.tokens = self.tokens.saturating_add(cost);
        if let Some(queue) = self.owners.iter_mut().find(|queue| queue.owner == *owner) {
            queue.jobs.push_back((ticket, cost));
            return;
        }
        let jobs = VecDeque::from([(ticket, cost)]);
        self.owners.push_back(OwnerQueue { owner: owner.clone(), deficit: 0, jobs });
    }

    /// Puts a request before all others.
    fn push_first(&mut self, owner: &Owner, ticket: Ticket, cost: u64) {
        self.tokens = self.tokens.saturating_add(cost);
        let place = self.owners.iter().position(|queue| queue.owner == *owner);
        let queue = place.and_then(|place| self.owners.remove(place));
        let mut queue = queue.unwrap_or_else(|| OwnerQueue {
            owner: owner.clone(),
            deficit: 0,
            jobs: VecDeque::new(),
        });
        queue.jobs.push_front((ticket, cost));
        queue.deficit = queue.deficit.saturating_add(cost);
        self.owners.push_front(queue);
        self.is_topped_up = true;
    }

    /// Returns the request whose turn it is. It stays the same until it is popped or removed.
    fn head(&mut self) -> Option<(Ticket, u64)> {
        let mut turned = 0;
        loop {
            let owners = self.owners.len();
            let queue = self.owners.front_mut()?;
            let (ticket, cost) = queue.jobs.front().copied()?;
            if !self.is_topped_up {
                queue.deficit = queue.deficit.saturating_add(QUANTUM);
                self.is_topped_up = true;
            }
            if queue.deficit >= cost {
                return Some((ticket, cost));
            }
            self.owners.rotate_left(1);
            self.is_topped_up = false;
            turned += 1;
            if turned % owners == 0 {
                self.skip_rounds();
            }
        }
    }

    /// Gives every owner the turns that no one could use, but for the last.
    fn skip_rounds(&mut self) {
        let missing = self.owners.iter().filter_map(|queue| {
            let (_, cost) = queue.jobs.front()?;
            Some(cost.saturating_sub(queue.deficit).div_ceil(QUANTUM))
        });
        let rounds = missing.min().unwrap_or(0).saturating_sub(1);
        for queue in &mut self.owners {
            queue.deficit = queue.deficit.saturating_add(rounds.saturating_mul(QUANTUM));
        }
    }

    /// Removes the request that [`head`](Self::head) returned.
    fn pop(&mut self) {
        let Some(queue) = self.owners.front_mut() else { return };
        if let Some((_, cost)) = queue.jobs.pop_front() {
            queue.deficit = queue.deficit.saturating_sub(cost);
            self.tokens = self.tokens.saturating_sub(cost);
        }
        if queue.jobs.is_empty() {
            self.owners.pop_front();
            self.is_topped_up = false;
        }
    }

    fn remove(&mut self, ticket: Ticket, cost: u64) {
        let place = self
            .owners
            .iter()
            .position(|queue| queue.jobs.iter().any(|(waiting, _)| *waiting == ticket));
        let Some(place) = place else { return };
        let Some(queue) = self.owners.get_mut(place) else { return };
        queue.jobs.retain(|(waiting, _)| *waiting != ticket);
        self.tokens = self.tokens.saturating_sub(cost);
        if queue.jobs.is_empty() {
            self.owners.remove(place);
            if place == 0 {
                self.is_topped_up = false;
            }
        }
    }
}

type RingKey = (Class, Vec<BucketKey>);

/// The verdicts of [`Scheduler::run`]: requests that may be sent, and requests that get nothing.
pub type Verdicts = Vec<(Ticket, Result<(), Refusal>)>;

/// The pure core of a budget: says which request goes when.
///
/// Within a bucket classes are served strictly one after the other, with two exceptions: the less
/// urgent ones leave a reserve for cancels, and [`Class::Bulk`] keeps 5 %. The request whose turn it
/// is holds up those behind it, so that a dear one is not passed by cheap ones for ever.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::operation::Lane;
/// use kalshi_trade::budget::{
///     BucketKey, Charge, Class, Completion, Demand, Pool, Scheduler,
/// };
///
/// let mut scheduler = Scheduler::new();
/// let writes = BucketKey::new(Lane::EventContracts, Pool::Write);
/// let create = Demand::new(Charge::single(writes, 10), Class::Normal);
/// let ticket = scheduler.submit(0, create)?;
/// assert_eq!(scheduler.run(0), [(ticket, Ok(()))]);
/// scheduler.complete(5_000_000, ticket, Completion::Sent);
/// # Ok::<(), kalshi_trade::budget::Refusal>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scheduler {
    limits: BTreeMap<Lane, LaneLimits>,
    accounts: BTreeMap<BucketKey, Account>,
    rings: BTreeMap<RingKey, Ring>,
    jobs: BTreeMap<Ticket, Job>,
    /// Requests that wait and have a deadline.
    deadlines: BTreeSet<(Nanos, Ticket)>,
    waiting: usize,
    max_waiting: usize,
    next: u64,
    open_orders: u64,
    /// The tokens that an urgent request never finds taken by the margin.
    margin: u64,
    is_shared: bool,
    slots: Slots,
    /// The requests that take a place until they begin, and when they were granted.
    unclaimed: VecDeque<(Nanos, Ticket)>,
    wake: Option<Nanos>,
    wanted: Vec<Slice>,
    /// The time of the last [`run`](Self::run).
    ran_at: Nanos,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl Scheduler {
    /// Returns a scheduler with full buckets of the lowest tier.
    pub fn new() -> Self {
        Self {
            limits: BTreeMap::new(),
            accounts: BTreeMap::new(),
            rings: BTreeMap::new(),
            jobs: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            waiting: 0,
            max_waiting: DEFAULT_MAX_WAITING,
            next: 0,
            open_orders: 0,
            margin: 10,
            is_shared: false,
            slots: Slots {
                in_flight: 0,
                max_in_flight: usize::MAX,
                unclaimed: 0,
                max_unclaimed: usize::MAX,
            },
            unclaimed: VecDeque::new(),
            wake: None,
            wanted: Vec::new(),
            ran_at: 0,
        }
    }

    /// Makes it ask for slices of buckets that other processes draw from, too: see
    /// [`wanted`](Self::wanted).
    pub fn with_shared_buckets(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// Sets how many requests may wait: [`DEFAULT_MAX_WAITING`] unless set.
    pub fn with_max_waiting(mut self, requests: usize) -> Self {
        self.max_waiting = requests;
        self
    }

    /// Sets how many requests less urgent than a cancel may be on their way at once, whatever their
    /// buckets are; no limit unless set, and at least 1. Urgent ones never wait for a place.
    pub fn with_max_in_flight(mut self, requests: usize) -> Self {
        self.slots.max_in_flight = requests.max(1);
        self
    }

    /// Sets how many requests less urgent than a cancel may be granted and not yet
    /// [claimed](Self::claim); no limit unless set, and at least 1.
    ///
    /// A granted request cannot be passed any more. With a limit, a cancel goes before all others
    /// also where there are tokens for everything and the processor is what is scarce. One that was not
    /// claimed within a tenth of a second does not count any more: its future may not be polled.
    pub fn with_max_unclaimed(mut self, requests: usize) -> Self {
        self.slots.max_unclaimed = requests.max(1);
        self
    }

    /// Sets the tokens by which less urgent requests stay below a bucket's capacity, beside the
    /// reserve for cancels: 10 unless set. They use a fourth of the capacity at most.
    pub fn with_margin(mut self, tokens: u64) -> Self {
        self.margin = tokens;
        self
    }

    /// Sets the limits of a lane. What was taken from its buckets stays taken.
    pub fn set_limits(&mut self, now: Nanos, lane: Lane, limits: LaneLimits) {
        self.limits.insert(lane, limits);
        for (key, account) in &mut self.accounts {
            if key.lane == lane {
                let limit = limits.of(key.pool);
                if account.limit != limit {
                    account.bucket.rescale(now, account.limit, limit);
                    account.limit = limit;
                }
            }
        }
    }

    /// Returns the limits of a lane.
    pub fn limits(&self, lane: Lane) -> LaneLimits {
        self.limits.get(&lane).copied().unwrap_or_else(|| LaneLimits::lowest(lane))
    }

    /// Sets the number of open orders, for each of which two write tokens are kept for its cancel,
    /// up to a fourth of the bucket.
    pub fn set_open_orders(&mut self, orders: u64) {
        self.open_orders = orders;
    }

    /// Returns the number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the tokens of a bucket that can be spent at once, those for urgent requests included.
    pub fn available(&self, now: Nanos, key: BucketKey) -> u64 {
        let limit = self.limits(key.lane).of(key.pool);
        let Some(account) = self.accounts.get(&key) else { return limit.capacity() };
        account.bucket.available(now, limit).saturating_sub(account.in_flight)
    }

    /// Adds a request to its queue. Nothing is granted before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the bucket can never hold its tokens, they come after its deadline, or too many
    /// requests wait.
    pub fn submit(&mut self, now: Nanos, demand: Demand) -> Result<Ticket, Refusal> {
        // Urgent requests have twice the room.
        let max_waiting =
            self.max_waiting.saturating_mul(1 + usize::from(demand.class.is_urgent()));
        if self.waiting >= max_waiting {
            return Err(Refusal::QueueFull { waiting: self.waiting });
        }
        for key in &demand.charge.buckets {
            let limit = self.limits(key.lane).of(key.pool);
            self.accounts.entry(*key).or_insert_with(|| Account::new(limit));
        }
        let room = demand.charge.buckets.iter().map(|key| self.room(*key, demand.class)).min();
        let room = room.unwrap_or(0);
        if demand.charge.tokens > room {
            return Err(too_large(&demand.charge, room));
        }
        if let Some(deadline) = demand.deadline {
            let wait = self.estimate(now, &demand);
            if now.saturating_add(wait) > deadline {
                return Err(Refusal::TooLate { wait: Duration::from_nanos(wait) });
            }
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let ring = self.rings.entry((demand.class, demand.charge.buckets.clone())).or_default();
        ring.push(&demand.owner, ticket, demand.charge.tokens);
        self.enter(ticket, demand);
        Ok(ticket)
    }

    fn enter(&mut self, ticket: Ticket, demand: Demand) {
        if let Some(deadline) = demand.deadline {
            self.deadlines.insert((deadline, ticket));
        }
        self.waiting += 1;
        self.jobs.insert(ticket, Job { demand, state: JobState::Waiting });
    }

    /// Grants what can be sent now, and refuses what can no longer be sent in time.
    pub fn run(&mut self, now: Nanos) -> Verdicts {
        let mut verdicts = Verdicts::new();
        self.ran_at = now;
        self.expire(now, &mut verdicts);
        self.claim_late(now);
        self.wake = None;
        self.wanted.clear();
        // The buckets that a request waits for: no later one may pass it there.
        let mut blocked: BTreeSet<BucketKey> = BTreeSet::new();
        // Nothing is served where nothing waits: most answers find it so.
        let classes: &[Class] = if self.waiting > 0 { &Class::ALL } else { &[] };
        for class in classes.iter().copied() {
            if class == Class::Normal {
                self.serve(now, Class::Bulk, true, &mut blocked, &mut verdicts);
            }
            self.serve(now, class, false, &mut blocked, &mut verdicts);
        }
        if self.waiting > 0 {
            let ends = self.accounts.values().map(|account| account.halved_until);
            if let Some(end) = ends.filter(|end| *end > now).min() {
                self.wake_at(end);
            }
            if self.slots.unclaimed >= self.slots.max_unclaimed
                && let Some((granted_at, _)) = self.unclaimed.front()
            {
                self.wake_at(granted_at.saturating_add(CLAIM_TIME));
            }
        }
        if let Some((deadline, _)) = self.deadlines.first() {
            // At its last moment it may still go.
            let late = deadline.saturating_add(1);
            self.wake_at(late);
        }
        verdicts
    }

    /// Serves the queues of a class; with `by_credit` only requests that the class is owed.
    fn serve(
        &mut self,
        now: Nanos,
        class: Class,
        by_credit: bool,
        blocked: &mut BTreeSet<BucketKey>,
        verdicts: &mut Verdicts,
    ) {
        let keys: Vec<RingKey> = self.rings.keys().filter(|key| key.0 == class).cloned().collect();
        let mut open: Vec<RingKey> = keys;
        loop {
            // The oldest head first, so that a request for several buckets is not passed for ever.
            let mut oldest: Option<(Ticket, u64, usize)> = None;
            for (index, key) in open.iter().enumerate() {
                let head = self.rings.get_mut(key).and_then(Ring::head);
                if let Some((ticket, cost)) = head
                    && oldest.is_none_or(|(other, ..)| ticket < other)
                {
                    oldest = Some((ticket, cost, index));
                }
            }
            let Some((ticket, cost, index)) = oldest else { break };
            // Their order is of no account: it goes back unless nothing more of it can go.
            let key = open.swap_remove(index);
            let buckets = &key.1;
            if by_credit && !self.is_owed(buckets, cost) {
                continue;
            }
            let is_behind = buckets.iter().any(|bucket| blocked.contains(bucket));
            let verdict = if is_behind {
                Verdict::Blocked(None)
            } else {
                self.judge(now, class, buckets, cost)
            };
            match verdict {
                Verdict::Admitted => {
                    self.pop(&key);
                    self.grant(class, buckets, ticket, cost);
                    verdicts.push((ticket, Ok(())));
                    open.push(key);
                }
                Verdict::Impossible(room) => {
                    self.pop(&key);
                    if let Some(job) = self.leave(ticket) {
                        verdicts.push((ticket, Err(too_large(&job.demand.charge, room))));
                    }
                    open.push(key);
                }
                Verdict::Blocked(until) => {
                    if let Some(until) = until {
                        self.wake_at(until);
                    }
                    blocked.extend(buckets.iter().copied());
                }
                Verdict::Wants(slice) => {
                    self.wanted.push(slice);
                    blocked.extend(buckets.iter().copied());
                }
            }
        }
        self.rings.retain(|_, ring| !ring.owners.is_empty());
    }

    /// Reports whether `Bulk` may go before `Normal`.
    fn is_owed(&self, buckets: &[BucketKey], cost: u64) -> bool {
        let due = cost.saturating_mul(BULK_SHARE - 1);
        buckets
            .iter()
            .all(|key| self.accounts.get(key).is_some_and(|account| account.bulk_credit >= due))
    }

    fn judge(&self, now: Nanos, class: Class, buckets: &[BucketKey], cost: u64) -> Verdict {
        let has_place = class.is_urgent() || self.slots.has_room();
        // Without a place, another request has to begin or to end first.
        let mut until = has_place.then_some(now);
        let mut wanted = None;
        for key in buckets {
            let Some(account) = self.accounts.get(key) else { return Verdict::Impossible(0) };
            let room = self.room(*key, class);
            if cost > room {
                return Verdict::Impossible(room);
            }
            match account.wait(now, cost, self.headroom(now, *key, class, cost)) {
                Some(wait) => until = until.map(|until| until.max(now.saturating_add(wait))),
                None => until = None,
            }
            if self.is_shared {
                match self.slice(now, *key, account, class, cost) {
                    Ok(None) => {}
                    Ok(Some(slice)) => wanted = wanted.or(Some(slice)),
                    Err(denied) => until = until.map(|until| until.max(denied)),
                }
            }
        }
        match (until, wanted) {
            (Some(time), Some(slice)) if time <= now => Verdict::Wants(slice),
            (Some(time), None) if time <= now => Verdict::Admitted,
            (until, _) => Verdict::Blocked(until),
        }
    }

    /// Returns the slice that a request lacks, if it lacks any.
    ///
    /// # Errors
    ///
    /// The time before which the back end need not be asked again.
    fn slice(
        &self,
        now: Nanos,
        key: BucketKey,
        account: &Account,
        class: Class,
        cost: u64,
    ) -> Result<Option<Slice>, Nanos> {
        let shared = &account.shared;
        let is_urgent = class.is_urgent();
        if shared.allowance >= cost || (is_urgent && shared.bypass_until > now) {
            return Ok(None);
        }
        let denied = if is_urgent { shared.denied_until[0] } else { shared.denied_until[1] };
        if let Some(asked_at) = shared.asked_at {
            // Its end is an event. The time is a guard against one that never ends: what waits for the
            // answer may be in a runtime that stands still.
            let given_up_at = asked_at.saturating_add(ANSWER_TIME + SLICE);
            if given_up_at > now {
                return Err(given_up_at);
            }
        }
        if denied > now {
            return Err(denied);
        }
        let least = cost - shared.allowance;
        let most = least.max(account.limit.tokens_in(SLICE));
        // Requests of several processes meet on the way: they stay further below the capacity.
        let apart =
            if key.is_write() || key.pool == Pool::Read { account.limit.capacity() / 5 } else { 0 };
        let headroom = self.headroom(now, key, class, cost).max(if is_urgent { 0 } else { apart });
        let left = account.limit.capacity().saturating_sub(least);
        let most = most.min(account.limit.capacity().saturating_sub(headroom)).max(least);
        let reserve = headroom.min(left);
        Ok(Some(Slice { key, least, most, reserve, limit: account.limit, is_urgent }))
    }

    fn grant(&mut self, class: Class, buckets: &[BucketKey], ticket: Ticket, cost: u64) {
        for key in buckets {
            let has_bulk = self.rings.iter().any(|((ring, keys), waiting)| {
                *ring == Class::Bulk && keys.contains(key) && !waiting.owners.is_empty()
            });
            let Some(account) = self.accounts.get_mut(key) else { continue };
            account.in_flight = account.in_flight.saturating_add(cost);
            account.shared.allowance = account.shared.allowance.saturating_sub(cost);
            account.bulk_credit = if class == Class::Bulk {
                account.bulk_credit.saturating_sub(cost.saturating_mul(BULK_SHARE - 1))
            } else if has_bulk {
                account.bulk_credit.saturating_add(cost)
            } else {
                0
            };
        }
        if !class.is_urgent() {
            self.slots.in_flight += 1;
            self.slots.unclaimed += 1;
            self.unclaimed.push_back((self.ran_at, ticket));
        }
        if let Some(job) = self.jobs.get_mut(&ticket) {
            job.state = JobState::Granted;
            self.waiting = self.waiting.saturating_sub(1);
            if let Some(deadline) = job.demand.deadline {
                self.deadlines.remove(&(deadline, ticket));
            }
        }
    }

    fn pop(&mut self, key: &RingKey) {
        if let Some(ring) = self.rings.get_mut(key) {
            ring.pop();
        }
    }

    /// Forgets a request that waits.
    fn leave(&mut self, ticket: Ticket) -> Option<Job> {
        let is_waiting = |job: &Job| job.state == JobState::Waiting;
        if !self.jobs.get(&ticket).is_some_and(is_waiting) {
            return None;
        }
        let job = self.jobs.remove(&ticket)?;
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(deadline) = job.demand.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        Some(job)
    }

    fn expire(&mut self, now: Nanos, verdicts: &mut Verdicts) {
        while let Some((deadline, ticket)) = self.deadlines.first().copied() {
            // What can be sent at its last moment is sent.
            if deadline >= now {
                break;
            }
            self.deadlines.remove(&(deadline, ticket));
            if let Some(demand) = self.take_out(ticket) {
                let wait = Duration::from_nanos(self.estimate(now, &demand));
                verdicts.push((ticket, Err(Refusal::TooLate { wait })));
            }
        }
    }

    /// Removes a request that waits from its queue.
    fn take_out(&mut self, ticket: Ticket) -> Option<Demand> {
        let job = self.leave(ticket)?;
        let key = (job.demand.class, job.demand.charge.buckets.clone());
        if let Some(ring) = self.rings.get_mut(&key) {
            ring.remove(ticket, job.demand.charge.tokens);
            if ring.owners.is_empty() {
                self.rings.remove(&key);
            }
        }
        Some(job.demand)
    }

    /// Removes a request that waits; false if it was granted before, or is over. Nothing is sent for
    /// one that was removed.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        self.take_out(ticket).is_some()
    }

    /// Removes the requests with a tag that wait, and returns them.
    pub fn withdraw_tag(&mut self, tag: &str) -> Vec<Ticket> {
        let is_tagged =
            |job: &Job| job.state == JobState::Waiting && job.demand.tag.as_deref() == Some(tag);
        let tagged = self.jobs.iter().filter(|(_, job)| is_tagged(job)).map(|(ticket, _)| *ticket);
        let tagged: Vec<Ticket> = tagged.collect();
        tagged.into_iter().filter(|ticket| self.withdraw(*ticket)).collect()
    }

    /// Notes that a request that was granted begins: the next one may be granted in its place. See
    /// [`with_max_unclaimed`](Self::with_max_unclaimed). One that ends without it is claimed by that.
    pub fn claim(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if job.state == JobState::Granted {
            job.state = JobState::Claimed;
            if !job.demand.class.is_urgent() {
                self.slots.unclaimed = self.slots.unclaimed.saturating_sub(1);
            }
        }
    }

    /// Gives the places of granted requests that have not begun in time to others.
    fn claim_late(&mut self, now: Nanos) {
        while let Some((granted_at, ticket)) = self.unclaimed.front().copied() {
            let is_unclaimed =
                self.jobs.get(&ticket).is_some_and(|job| job.state == JobState::Granted);
            if is_unclaimed && now < granted_at.saturating_add(CLAIM_TIME) {
                break;
            }
            self.unclaimed.pop_front();
            self.claim(ticket);
        }
    }

    /// Ends a request that was granted.
    ///
    /// After a 429 its buckets count as empty, and for a minute half of their burst is used.
    pub fn complete(&mut self, now: Nanos, ticket: Ticket, completion: Completion) {
        if let Some(demand) = self.finish(ticket) {
            self.settle(now, &demand.charge, completion);
        }
    }

    /// Ends a request that was answered with 429, and puts it before all others of its class and
    /// buckets, under its old ticket. It keeps its deadline.
    ///
    /// Returns false if it was not granted.
    pub fn requeue(&mut self, now: Nanos, ticket: Ticket) -> bool {
        let Some(demand) = self.finish(ticket) else { return false };
        self.settle(now, &demand.charge, Completion::RateLimited);
        let ring = self.rings.entry((demand.class, demand.charge.buckets.clone())).or_default();
        ring.push_first(&demand.owner, ticket, demand.charge.tokens);
        self.enter(ticket, demand);
        true
    }

    fn finish(&mut self, ticket: Ticket) -> Option<Demand> {
        self.claim(ticket);
        let is_claimed = |job: &Job| job.state == JobState::Claimed;
        if !self.jobs.get(&ticket).is_some_and(is_claimed) {
            return None;
        }
        let demand = self.jobs.remove(&ticket)?.demand;
        if !demand.class.is_urgent() {
            self.slots.in_flight = self.slots.in_flight.saturating_sub(1);
        }
        Some(demand)
    }

    fn settle(&mut self, now: Nanos, charge: &Charge, completion: Completion) {
        for key in &charge.buckets {
            let Some(account) = self.accounts.get_mut(key) else { continue };
            account.in_flight = account.in_flight.saturating_sub(charge.tokens);
            match completion {
                Completion::Sent => {
                    account.bucket.take(now.saturating_add(GRAIN), charge.tokens, account.limit);
                }
                Completion::NotSent => {
                    if self.is_shared {
                        account.shared.allowance =
                            account.shared.allowance.saturating_add(charge.tokens);
                    }
                }
                Completion::RateLimited => {
                    account.halved_until = now.saturating_add(HALVED_FOR);
                    let empty = account.limit.time_of(account.burst(now));
                    account.bucket = Gcra::from_state(now.saturating_add(empty));
                    account.shared.allowance = 0;
                }
            }
        }
    }

    /// Returns the time at which [`run`](Self::run) has something to do next, if nothing else
    /// happens before.
    pub fn next_wake(&self) -> Option<Nanos> {
        self.wake
    }

    fn wake_at(&mut self, time: Nanos) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// Returns a slice that the last [`run`](Self::run) lacked, and marks it as asked for: the answer
    /// goes to [`slice_granted`](Self::slice_granted), [`slice_denied`](Self::slice_denied) or
    /// [`slice_failed`](Self::slice_failed).
    pub fn wanted(&mut self) -> Option<Slice> {
        let slice = self.wanted.pop()?;
        if let Some(account) = self.accounts.get_mut(&slice.key) {
            account.shared.asked_at = Some(self.ran_at);
        }
        Some(slice)
    }

    /// Adds tokens that the back end granted.
    pub fn slice_granted(&mut self, slice: &Slice, tokens: u64) {
        if let Some(account) = self.accounts.get_mut(&slice.key) {
            account.shared.asked_at = None;
            account.shared.allowance = account.shared.allowance.saturating_add(tokens);
        }
    }

    /// Notes that the back end has no tokens before a time.
    pub fn slice_denied(&mut self, slice: &Slice, until: Nanos) {
        if let Some(account) = self.accounts.get_mut(&slice.key) {
            account.shared.asked_at = None;
            let [urgent, other] = &mut account.shared.denied_until;
            if slice.is_urgent {
                *urgent = until;
            }
            // A reserve is left for urgent requests, so that others come no earlier.
            *other = until.max(if slice.is_urgent { *other } else { 0 });
        }
    }

    /// Notes that the back end could not be asked.
    ///
    /// Urgent requests go on without it for a second: a cancel is worth a 429. The others that wait
    /// for the bucket are refused.
    pub fn slice_failed(&mut self, now: Nanos, slice: &Slice, reason: &str) -> Verdicts {
        if let Some(account) = self.accounts.get_mut(&slice.key) {
            account.shared.asked_at = None;
            account.shared.bypass_until = now.saturating_add(BYPASS_FOR);
        }
        let is_hit = |job: &Job| {
            job.state == JobState::Waiting
                && !job.demand.class.is_urgent()
                && job.demand.charge.buckets.contains(&slice.key)
        };
        let hit = self.jobs.iter().filter(|(_, job)| is_hit(job)).map(|(ticket, _)| *ticket);
        let hit: Vec<Ticket> = hit.collect();
        let refuse = |ticket| (ticket, Err(Refusal::Backend { reason: reason.to_owned() }));
        hit.into_iter().filter(|ticket| self.withdraw(*ticket)).map(refuse).collect()
    }

    /// Ends all questions to the back end, since nothing waits for their answers: the next request asks
    /// anew. An answer that comes all the same counts.
    pub(super) fn abandon_slices(&mut self) {
        for account in self.accounts.values_mut() {
            account.shared.asked_at = None;
        }
    }

    /// Ends a question to the back end that was given up.
    pub fn slice_abandoned(&mut self, slice: &Slice) {
        if let Some(account) = self.accounts.get_mut(&slice.key) {
            account.shared.asked_at = None;
        }
    }

    /// Returns the tokens that are kept for urgent requests.
    fn reserve(&self, key: BucketKey, capacity: u64) -> u64 {
        if !key.is_write() {
            return 0;
        }
        (capacity / 4).min(self.open_orders.saturating_mul(2).saturating_add(2))
    }

    /// Returns the most that a request of a class may cost.
    fn room(&self, key: BucketKey, class: Class) -> u64 {
        let capacity = self.limits(key.lane).of(key.pool).capacity();
        if class.is_urgent() { capacity } else { capacity - self.reserve(key, capacity) }
    }

    /// Returns the tokens of the capacity that a request must leave.
    fn headroom(&self, now: Nanos, key: BucketKey, class: Class, cost: u64) -> u64 {
        let Some(account) = self.accounts.get(&key) else { return 0 };
        let capacity = account.limit.capacity();
        let unused = capacity - account.burst(now);
        let (reserve, margin) = if class.is_urgent() {
            (0, 0)
        } else {
            let margin = if key.is_write() || key.pool == Pool::Read { self.margin } else { 0 };
            (self.reserve(key, capacity), margin.min(capacity / 4))
        };
        let wanted = unused.saturating_add(reserve).saturating_add(margin);
        // A dear request takes what there is, but for the reserve.
        if cost.saturating_add(wanted) > capacity { reserve } else { wanted }
    }

    /// Returns the time until a request could be sent, behind all that are before it.
    fn estimate(&self, now: Nanos, demand: &Demand) -> Nanos {
        let (class, cost) = (demand.class, demand.charge.tokens);
        let waits = demand.charge.buckets.iter().map(|key| {
            let Some(account) = self.accounts.get(key) else { return 0 };
            let queued =
                self.rings.iter().filter(|((ring, keys), _)| *ring <= class && keys.contains(key));
            let queued = queued.fold(0_u64, |sum, (_, ring)| sum.saturating_add(ring.tokens));
            let headroom = self.headroom(now, *key, class, cost);
            let room = account.limit.capacity().saturating_sub(headroom);
            let wanted = account.in_flight.saturating_add(queued).saturating_add(cost);
            let wanted = account.limit.time_of(wanted);
            let debt = account.bucket.debt(now, account.limit);
            debt.saturating_add(wanted).saturating_sub(account.limit.time_of(room))
        });
        waits.max().unwrap_or(0)
    }
}

impl Account {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            bucket: Gcra::full(),
            in_flight: 0,
            halved_until: 0,
            bulk_credit: 0,
            shared: SharedAccount::default(),
        }
    }

    /// Returns the part of the capacity that is used.
    fn burst(&self, now: Nanos) -> u64 {
        let capacity = self.limit.capacity();
        if self.halved_until > now { capacity.div_ceil(2) } else { capacity }
    }

    /// Returns the time until `cost` can be sent with `headroom` left; `None` if an answer has to
    /// come first.
    fn wait(&self, now: Nanos, cost: u64, headroom: u64) -> Option<Nanos> {
        let wanted = cost.saturating_add(self.in_flight).saturating_add(headroom);
        self.bucket.wait(now, wanted, 0, self.limit)
    }
}

fn too_large(charge: &Charge, room: u64) -> Refusal {
    let fits = charge.batch.map(|batch| match batch.tokens_per_item {
        0 => batch.items,
        tokens => room / tokens,
    });
    Refusal::TooLarge { cost: charge.tokens, room, fits }
}
