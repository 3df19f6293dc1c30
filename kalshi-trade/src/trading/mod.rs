//! Placing, following and canceling orders with one handle.
//!
//! [`Trading`] joins what places orders, the streams of the account, the view of the account, and
//! the manager of orders. It has no task of its own but those of the placements: it works while
//! [`Trading::next`] is awaited, so await it in a loop.
//!
//! Before an order is written or sent it is measured: against the
//! [ceilings](TradingBuilder::with_ceilings), against pauses of its shard, and against order groups
//! that were triggered. A refused order is a [`PlaceError`] that says why.

mod exit;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use kalshi_sdk::{
    Client, Error, ResponseValue,
    auth::{Clock, SystemClock},
    streams::{
        AccountSnapshot, AccountSource, ConfigBuilder, ConnectError, Connection, Reconciliation,
        Subscription,
    },
    types::{CreateOrderV2Request, ExchangeIndex, ExchangeStatus, Market, Schedule, TimeInForce},
};
use kalshi_types::{Count, Dollars, UnixMillis, UnixSeconds};
use kalshi_ws::{
    Event, FillRecord, OrderRecord, Payload, Portfolio, PortfolioChange, PositionRecord,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

pub use self::exit::Exited;

use crate::{
    agreement::Agreement,
    budget::Budget,
    close::{CloseEnd, ClosePlan, ClosedPosition},
    expiry::RollingExpiry,
    fees::FeeSchedule,
    group::{GroupError, GroupStatus, Groups, OrderGroup},
    guard::{self, Guard},
    journal::{Journal, KnownOrder, OrderChange, Product},
    orders::{
        IntentError, Life, ManagedOrder, OrderEvent, OrderIntent, OrderKey, OrderManager,
        OverReason,
    },
    pause::{PauseWatch, Paused, TradingStatus},
    placement::{
        Change, ChangeAnswer, ChangeState, ChangeTarget, PlaceError, Placement, PlacementConfig,
        PlacementState, Placements, PlacementsBuilder, PlacementsView, Refusal, settling,
    },
    risk::{Ceilings, CeilingsError, RiskError, RiskLedger},
    shard::ShardMap,
};

/// The time between two reconciliations that nothing calls for.
const RECONCILE_EVERY: Duration = Duration::from_secs(60);

/// The time before a read that failed, or did not show what was looked for, is made again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The time of a read that is on its way: it is repeated some time after its end.
const ON_ITS_WAY: UnixMillis = UnixMillis::from_millis(i64::MAX);

/// The longest sleep: a clock may step.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// The overlap of the view of fills with the time before the start.
const FILLS_BEFORE_START: Duration = Duration::from_secs(60);

/// Rows of a page of fills.
const LIMIT: u16 = 1_000;

/// The time between two reads of the status of the exchange, unless set.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// The time within which a closing order is sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Places orders, follows them by streams and reads, and cancels them.
///
/// Only a client with credentials gives it out.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// # let now = kalshi_types::UnixMillis::EPOCH;
/// use kalshi_trade::{journal::MemoryJournal, orders::OrderEvent, trading::Trading};
///
/// let mut trading = Trading::builder(client, MemoryJournal::new(7, now))?.start().await?;
/// // Orders that rest already are found by the first reconciliation.
/// while !trading.is_current() {
///     for event in trading.next().await.ok_or("closed")? {
///         if let OrderEvent::Foreign { order } = event {
///             println!("not ours: {:?}", trading.orders().get(order));
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Trading {
    client: Client,
    clock: Arc<dyn Clock>,
    window: Duration,
    placements: Placements,
    connection: Connection,
    portfolio: Portfolio,
    orders: OrderManager,
    /// The placements whose outcome may change, with the state that the manager knows.
    open: Vec<(Placement, Option<PlacementState>)>,
    /// The changes whose outcome may change, with the state that the manager knows.
    changing: Vec<(OrderKey, Change, Option<ChangeState>)>,
    /// The renewals whose outcome may change.
    renewing: Vec<Renewal>,
    changes: watch::Receiver<u64>,
    /// The time of the last pass of [`Trading::next`].
    passed_at: UnixMillis,
    reconcile_at: UnixMillis,
    /// What has to be read, and when.
    reads: BTreeMap<OrderKey, (Read, UnixMillis)>,
    /// The request on its way. It outlives the future of [`Trading::next`], which may be dropped
    /// again and again.
    running: Option<Running>,
    /// What happened outside of [`Trading::next`].
    events: Vec<OrderEvent>,
    /// What [`Trading::is_current`] was when [`Trading::next`] returned last.
    was_current: bool,
    /// True once [`Trading::exit`] was called.
    is_exiting: bool,
    /// What [`Trading::has_ended`] was when [`Trading::next`] returned last.
    had_ended: bool,
    /// The orders that the exit has canceled, and when last.
    canceled: BTreeMap<OrderKey, Instant>,
    /// The ceilings, if there are any.
    guard: Option<Guard>,
    pauses: PauseWatch,
    expiry: Option<RollingExpiry>,
    groups: Groups,
    shards: ShardMap,
    /// Requests that nothing else waits for: reads of the status.
    side: FuturesUnordered<Running>,
    /// Counts the reconciliations that made the view current.
    reconciled: u64,
    /// The budget that keeps tokens for cancels, and the number of open orders that it knows.
    reserve: Option<(Budget, u64)>,
    agreement: Agreement,
    unsettled: UnsettledPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Order,
    /// The order whose renewal failed.
    Renewed,
    Fills,
}

/// A request on its way.
type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a request came to.
enum Done {
    Order(OrderKey, Result<OrderRecord, Error>),
    Fills(OrderKey, Result<Vec<FillRecord>, Error>),
    Account(Reconciliation, Result<AccountSnapshot, Error>),
    Status(Result<ExchangeStatus, Error>, Option<Schedule>),
}

/// The renewal of an order that expires.
#[derive(Debug)]
struct Renewal {
    id: String,
    key: OrderKey,
    expires: UnixSeconds,
    change: Change,
    /// True once its answer was lost: another may be sent.
    is_lost: bool,
}

/// The beginning of a renewal.
enum Begun {
    Yes(Renewal),
    /// The order is not known to rest, or a change of it is on its way.
    NotYet,
    /// It would not be taken.
    Paused,
}

/// Builds a [`Trading`].
#[must_use = "call `start`"]
pub struct TradingBuilder {
    client: Client,
    placements: PlacementsBuilder,
    streams: ConfigBuilder,
    clock: Arc<dyn Clock>,
    config: PlacementConfig,
    ceilings: Option<Ceilings>,
    fees: Option<FeeSchedule>,
    expiry: Option<Duration>,
    status_every: Duration,
    budget: Option<Budget>,
    unsettled: UnsettledPolicy,
}

/// The reason for which trading did not start. Nothing was placed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings of the streams cannot work, or no connection could be made.
    #[error("could not connect to the streams")]
    Streams(#[source] ConnectError),
    /// The placements could not start.
    #[error("could not start to place orders")]
    Placements(#[source] PlaceError),
    /// The account could not be read, without which nothing is known of what the ceilings have left.
    #[error("could not read the account, which the ceilings are measured on")]
    Account(#[source] Error),
}

/// The handling of an order while another one of the same market and side is
/// [settling](PlacementState::Settling) or [undecided](PlacementState::Undecided): a strategy that
/// takes it for lost places it a second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnsettledPolicy {
    /// It is refused with [`PlaceError::Unsettled`], unless it is `reduce_only`: for strategies that
    /// have one order on each side. To prove that an order does not exist takes a little over a
    /// minute.
    Hold,
    /// It is placed, and a warning is logged.
    #[default]
    Warn,
    /// It is placed.
    Ignore,
}

/// The outcome of a cancel, by what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Canceled {
    /// The exchange canceled it. [`OrderEvent::Over`] follows when its fills are known.
    Accepted,
    /// The exchange does not find an open order with that id: most likely it is over. Its state is
    /// read; wait for [`OrderEvent::Over`].
    NotFound,
    /// The exchange refused: the order is as it was. Fix the cause and cancel again.
    Refused(Error),
    /// The exchange is not known to have the order, so there is nothing to cancel: the order is
    /// withdrawn. One that was not sent never is, and [`OrderEvent::Over`] follows. One that was sent
    /// is settled: cancel it again at [`OrderEvent::Resting`].
    Withdrawn,
    /// It may be canceled or not, or could not be sent yet. It is sent again until the order is over,
    /// and by the next session, too: wait for [`OrderEvent::Over`]. Without an error, the runtime that
    /// sends it has ended: then only the next session does.
    Unknown(Option<Error>),
}

/// The reason for which an order was not amended: nothing was written or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmendError {
    /// The order cannot be amended now.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// With the new price and total the order would be above a ceiling.
    #[error(transparent)]
    Risk(RiskError),
    /// The exchange amends no orders now. Cancels are sent as before.
    #[error("{pause}")]
    Paused {
        /// The pause.
        pause: Paused,
        /// The time of the next opening, if it is known.
        opens: Option<UnixMillis>,
    },
}

impl TradingBuilder {
    /// Sets the times and numbers of placing.
    pub fn with_config(mut self, config: PlacementConfig) -> Self {
        self.placements = self.placements.with_config(config);
        self.config = config;
        self
    }

    /// Takes the time from this clock; by default from the machine's. It must be the clock that the
    /// client signs with.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.placements = self.placements.with_clock(Arc::clone(&clock));
        self.streams = self.streams.with_clock(Arc::clone(&clock));
        self.clock = clock;
        self
    }

    /// Sets the name that client order ids begin with, up to 12 ASCII letters and digits.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.placements = self.placements.with_name(name);
        self
    }

    /// Sets ceilings on what is placed; none unless set. They are asked before an order is written
    /// or sent, and each order of the account counts, foreign ones included, as do its positions.
    ///
    /// Nothing lifts them while the handle lives: [`Trading::tighten`] only lowers them, and higher
    /// ones need another handle. A restart does not free what was used: the positions, the fills of
    /// the day (UTC) and the orders of the last minute are read from the account, and the orders
    /// whose outcome is unknown from the journal, before the first order is taken.
    ///
    /// An order with `reduce_only` is never held back by them, since it can do nothing but get out
    /// of a position. Nor is one held back by `market_loss` that does not raise the worst loss. Its
    /// fills count on the day like all others.
    ///
    /// A realized loss in a market without a position counts in `market_loss` until the handle is
    /// built anew, and in `day_cost` as what its fills cost.
    pub fn with_ceilings(mut self, ceilings: Ceilings) -> Self {
        self.ceilings = Some(ceilings);
        self
    }

    /// Sets the fees that the ceilings count for what is not filled yet; by default the usual ones
    /// of takers, quadratic with a multiplier of 1. Fills count with the fee that was charged.
    pub fn with_fees(mut self, fees: FeeSchedule) -> Self {
        self.fees = Some(fees);
        self
    }

    /// Lets resting orders expire `span` from now, and renews them as long as
    /// [`next`](Trading::next) is awaited: a dead man's switch that survives everything. At least
    /// 2 s; not used unless set.
    ///
    /// Each order that is good till canceled and has no `expiration_time` of its own is given one.
    /// When half of the span is over, an amend with the same price and count sets a later one: it
    /// keeps its place in the queue (so the exchange says of FIX, and so its simulator does), and
    /// costs 10 tokens. 50 orders and a span of 60 s take 17 tokens a second.
    ///
    /// It means that a program that died, hangs, or has no network has no resting orders when the
    /// span is over. The exchange ends them by its own clock at a time that is computed by the
    /// [clock](Self::with_clock) here: where that one is ahead by a second, they rest a second longer,
    /// and where it is behind, they end earlier. Those of an earlier session are not renewed, and in a
    /// pause of trading none can be: none is sent then, and they expire.
    ///
    /// A renewal is in the journal before it is sent, as every amend: one whose answer was lost holds
    /// other changes of its order back until it cannot be carried out any more, since it would undo
    /// them, and so it does for the next session. One that the journal does not take is not sent:
    /// then the order expires. It raises no risk, and no ceiling holds it back.
    pub fn with_rolling_expiry(mut self, span: Duration) -> Self {
        self.expiry = Some(span);
        self
    }

    /// Sets what becomes of an order while another one of the same market and side may exist or not,
    /// because its answer was lost: it is placed, and a warning logged, unless set.
    pub fn with_unsettled_policy(mut self, policy: UnsettledPolicy) -> Self {
        self.unsettled = policy;
        self
    }

    /// Keeps tokens of a budget for the cancels of the orders that are open, foreign ones not
    /// included: gives their number to [`Budget::set_open_orders`]. Give it the budget of the client.
    pub fn with_budget(mut self, budget: &Budget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Sets how often the status of the exchange is read; 30 s by default, in a pause every 5 s at
    /// least. An answer of 503 asks for a read, too.
    pub fn with_status_every(mut self, every: Duration) -> Self {
        self.status_every = every;
        self
    }

    /// Connects to the streams, and begins to settle what the journal has open.
    ///
    /// # Errors
    ///
    /// A [`StartError`]: nothing was placed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the attempt.
    pub async fn start(self) -> Result<Trading, StartError> {
        let Self { client, placements, streams, clock, config, .. } = self;
        let guard = self.ceilings.zip(self.fees.or_else(guard::usual_fees));
        let guard = guard.map(|(ceilings, fees)| Guard::new(ceilings, fees));
        let streams = streams.build().map_err(StartError::Streams)?;
        let connection = Connection::connect(streams).await.map_err(StartError::Streams)?;
        for subscription in
            [Subscription::user_orders(), Subscription::fills(), Subscription::market_positions()]
        {
            // The queue of a new connection has room; one that is closed says so by its events.
            let _ = connection.handle().subscribe(subscription);
        }
        let placements = placements.start().map_err(StartError::Placements)?;
        let now = clock.now();
        let mut pauses = PauseWatch::new(self.status_every, now);
        if pauses.begin(now).is_some() {
            let (status, schedule) = read_status(&client, true).await;
            take_status(&mut pauses, clock.now(), &status, schedule);
        }
        let guard = match guard {
            Some(guard) => Some(restore(guard, &client, &placements, now).await?),
            None => None,
        };
        let portfolio = Portfolio::new()
            .with_clock(Arc::clone(&clock))
            .with_fills_since(now.saturating_sub(FILLS_BEFORE_START));
        let open = restored(&placements).map(|one| (one.clone(), None)).collect();
        // Those of earlier sessions are no foreign orders.
        let mut orders = OrderManager::new();
        orders.expect_own(placements.own_ids());
        Ok(Trading {
            client,
            clock,
            window: config.window(),
            changes: placements.changes(),
            placements,
            connection,
            portfolio,
            orders,
            open,
            changing: Vec::new(),
            renewing: Vec::new(),
            passed_at: now,
            reconcile_at: now,
            reads: BTreeMap::new(),
            running: None,
            events: Vec::new(),
            was_current: false,
            is_exiting: false,
            had_ended: false,
            canceled: BTreeMap::new(),
            guard,
            pauses,
            expiry: self.expiry.map(RollingExpiry::new),
            groups: Groups::default(),
            shards: ShardMap::default(),
            side: FuturesUnordered::new(),
            reconciled: 0,
            reserve: self.budget.map(|budget| (budget, 0)),
            agreement: Agreement::default(),
            unsettled: self.unsettled,
        })
    }
}

/// Reads what the ceilings have left: positions, fills of the day, orders of the last minute, and
/// what the journal has open.
async fn restore(
    mut guard: Guard,
    client: &Client,
    placements: &Placements,
    began: UnixMillis,
) -> Result<Guard, StartError> {
    let since = guard::day_start(began);
    let account = client.fetch_account(Some(since)).await.map_err(StartError::Account)?;
    guard.restore(began, &account);
    let minute = began.saturating_sub(Duration::from_secs(60));
    let seconds = UnixSeconds::from_seconds(minute.as_millis().div_euclid(1_000));
    let orders = client.get_orders().min_ts(seconds).limit(LIMIT).all().await;
    let orders = orders.map_err(StartError::Account)?;
    let times = orders.iter().filter_map(|order| order.created_time).map(UnixMillis::from);
    let mut times: Vec<UnixMillis> = times.filter(|time| *time > minute).collect();
    times.sort_unstable();
    for time in times {
        guard.restore_order(time);
    }
    for placement in restored(placements) {
        let intent = placement.intent();
        guard.restore_unknown(began, intent.id().as_str(), intent.body());
    }
    Ok(guard)
}

/// Returns the orders of event contracts that an earlier session left open. Those of another product
/// are settled, too, and no part of what this handle measures.
fn restored(placements: &Placements) -> impl Iterator<Item = &Placement> {
    let is_own = |one: &&Placement| one.intent().product() == Product::EventContracts;
    placements.restored().iter().filter(is_own)
}

type Status = (Result<ExchangeStatus, Error>, Option<Schedule>);

async fn read_status(client: &Client, with_schedule: bool) -> Status {
    let status = client.get_exchange_status().send().await;
    let schedule =
        if with_schedule { client.get_exchange_schedule().send().await.ok() } else { None };
    (status.map(ResponseValue::into_inner), schedule.map(|answer| answer.into_inner().schedule))
}

fn take_status(
    pauses: &mut PauseWatch,
    now: UnixMillis,
    status: &Result<ExchangeStatus, Error>,
    schedule: Option<Schedule>,
) {
    match status {
        Ok(status) => pauses.take(now, Ok(status), schedule),
        Err(error) => {
            tracing::warn!(%error, "could not read the status of the exchange");
            pauses.take(now, Err(is_unavailable(error)), schedule);
        }
    }
}

/// Reports whether an answer may have been that of a paused exchange.
fn is_unavailable(error: &Error) -> bool {
    error.status().is_some_and(|status| status.as_u16() == 503)
}

impl Trading {
    /// Returns a builder of the handle for a client with credentials.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](kalshi_sdk::ErrorKind::Config) if the client has none.
    pub fn builder(
        client: Client,
        journal: impl Journal + 'static,
    ) -> Result<TradingBuilder, Error> {
        let streams = client.stream_config()?;
        Ok(TradingBuilder {
            placements: Placements::builder(client.clone(), journal),
            client,
            streams,
            clock: Arc::new(SystemClock),
            config: PlacementConfig::default(),
            ceilings: None,
            fees: None,
            expiry: None,
            status_every: STATUS_EVERY,
            budget: None,
            unsettled: UnsettledPolicy::default(),
        })
    }

    /// Returns the orders, as of the last event that was returned.
    pub fn orders(&self) -> &OrderManager {
        &self.orders
    }

    /// Returns the positions and fills.
    pub fn portfolio(&self) -> &Portfolio {
        &self.portfolio
    }

    /// Returns the placements: what an earlier session left open, and what is on its way. It places and
    /// changes nothing, so that no order goes past the ceilings, the pauses and an exit.
    pub fn placements(&self) -> PlacementsView<'_> {
        self.placements.view()
    }

    /// Reports whether nothing is known to have been missed. Where it is not, go on calling
    /// [`next`](Self::next), and quote nothing that depends on it.
    pub fn is_current(&self) -> bool {
        self.portfolio.is_current()
    }

    /// Returns what the [ceilings](TradingBuilder::with_ceilings) have left, if there are any.
    pub fn risk(&self) -> Option<&RiskLedger> {
        self.guard.as_ref().map(Guard::ledger)
    }

    /// Lowers the ceilings. Orders that are there already stay.
    ///
    /// # Errors
    ///
    /// [`CeilingsError::Raised`] names one that would be raised; none is changed then. A handle
    /// without ceilings has none to lower: [`CeilingsError::NoCeilings`].
    pub fn tighten(&mut self, to: Ceilings) -> Result<(), CeilingsError> {
        self.guard.as_mut().ok_or(CeilingsError::NoCeilings)?.tighten(to)
    }

    /// Returns the pauses of the exchange, as they were read last.
    pub fn trading_status(&self) -> &TradingStatus {
        self.pauses.status()
    }

    /// Returns the next opening, if the exchange is closed and the time is known.
    pub fn opens(&self) -> Option<UnixMillis> {
        self.pauses.opens(self.clock.now())
    }

    /// Returns the shards of markets, as far as they are known.
    pub fn shards(&self) -> &ShardMap {
        &self.shards
    }

    /// Remembers the shard of a market that was read: its orders and cancels go there directly, and
    /// from shard 1 on are charged to a rate limit of its own. One that names its `exchange_index`
    /// does the same for the market.
    pub fn learn_market(&mut self, market: &Market) {
        self.shards.learn_market(market);
    }

    /// Places an order: it is sent within that time, or not at all. What becomes of it is told by
    /// the events, and by the placement.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent. A ceiling, a pause or an order group that
    /// holds the order back is one, too.
    ///
    /// # Cancellation
    ///
    /// The order goes on when the placement is dropped, and when this handle is. An unknown outcome
    /// is settled, and never placed anew.
    pub fn place(
        &mut self,
        order: CreateOrderV2Request,
        within: Duration,
    ) -> Result<Placement, PlaceError> {
        if self.is_exiting {
            return Err(PlaceError::Exiting);
        }
        self.submit(order, within)
    }

    /// Places an order, unless something holds it back.
    fn submit(
        &mut self,
        mut order: CreateOrderV2Request,
        within: Duration,
    ) -> Result<Placement, PlaceError> {
        let now = self.clock.now();
        let expires = self.admit(&mut order, now)?;
        let placement = self.placements.place_within(order.clone(), within)?;
        self.placed(&placement, &order, expires, now);
        Ok(placement)
    }

    /// Asks everything that may hold an order back, names its shard, and gives it an expiration if
    /// that rolls: it is returned.
    fn admit(
        &mut self,
        order: &mut CreateOrderV2Request,
        now: UnixMillis,
    ) -> Result<Option<UnixSeconds>, PlaceError> {
        if let Some(group) =
            order.order_group_id.as_deref().filter(|id| self.groups.is_triggered(id))
        {
            return Err(PlaceError::GroupTriggered(group.to_owned()));
        }
        self.admit_beside_unsettled(order)?;
        let shard = self.shards.route(order);
        if let Err(pause) = self.pauses.check(shard) {
            return Err(PlaceError::Paused { pause, opens: self.pauses.opens(now) });
        }
        if let Some(guard) = &mut self.guard {
            guard.check(now, order).map_err(PlaceError::Risk)?;
        }
        let rests = order.time_in_force == TimeInForce::GoodTillCanceled;
        let expiry = self.expiry.as_ref().filter(|_| rests && order.expiration_time.is_none());
        order.expiration_time = expiry.map(|expiry| expiry.expires(now)).or(order.expiration_time);
        Ok(expiry.and(order.expiration_time))
    }

    /// Does with an order what is to be done beside others whose outcome is unknown.
    fn admit_beside_unsettled(&self, order: &CreateOrderV2Request) -> Result<(), PlaceError> {
        if self.unsettled == UnsettledPolicy::Ignore || order.reduce_only == Some(true) {
            return Ok(());
        }
        let unsettled = self.open.iter().map(|(placement, _)| placement).find(|one| {
            let is_same =
                one.intent().ticker() == order.ticker && one.intent().side() == order.side.as_str();
            is_same
                && matches!(one.state(), PlacementState::Settling | PlacementState::Undecided(_))
        });
        let Some(unsettled) = unsettled else { return Ok(()) };
        let id = unsettled.id().as_str();
        if self.unsettled == UnsettledPolicy::Hold {
            return Err(PlaceError::Unsettled(id.to_owned()));
        }
        tracing::warn!(
            market = order.ticker,
            unsettled = id,
            "an order is placed beside one whose outcome is unknown"
        );
        Ok(())
    }

    /// Remembers an order that was admitted and is placed now.
    fn placed(
        &mut self,
        placement: &Placement,
        order: &CreateOrderV2Request,
        expires: Option<UnixSeconds>,
        now: UnixMillis,
    ) {
        let id = placement.id().as_str();
        if let Some(guard) = &mut self.guard {
            guard.reserve(now, id, order);
        }
        if let (Some(expiry), Some(expires)) = (&mut self.expiry, expires) {
            expiry.placed(id, expires);
        }
        self.open.push((placement.clone(), None));
    }

    /// Closes a position in one market: reduce-only orders, immediate or cancel, each of at most a
    /// slice and no worse than the price of the plan, one after the other, until nothing is held,
    /// the book has no more at that price, or the time is over. It works during and after an
    /// [`exit`](Self::exit), too: none of its orders rests.
    ///
    /// Resting orders of yours on the other side that it meets are canceled. No ceiling holds it
    /// back; a pause does.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: the next slice was not written or sent. Those before it stand: look at the
    /// position.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the closing after the slice that is on its way, which goes on.
    /// Events that came meanwhile are lost with it, the state of orders and positions is not.
    pub async fn close(
        &mut self,
        plan: &ClosePlan<'_>,
        within: Duration,
    ) -> Result<ClosedPosition, PlaceError> {
        let end = Instant::now().checked_add(within);
        let subaccount = (plan.subaccount > 0).then_some(i64::from(plan.subaccount));
        let mut closed = ClosedPosition::default();
        // What is still held of the position as it was known to be before the slices so far.
        let mut held: Option<(Count, u64)> = None;
        loop {
            if !self.is_current() {
                held = None;
                if let Some(stopped) = self.follow(end, &mut closed.events).await {
                    return Ok(closed.ended(stopped));
                }
                continue;
            }
            let shown = self.portfolio.position_in(plan.ticker, subaccount);
            closed.left = match held {
                Some((left, _)) => nearer_to_zero(left, shown),
                None => shown,
            };
            if shown.is_zero() {
                return Ok(closed.ended(CloseEnd::Flat));
            }
            if let Some((_, reconciled)) = held.filter(|_| closed.left.is_zero()) {
                // It should be: a read shows whether it is.
                if self.reconciled > reconciled {
                    held = None;
                } else {
                    self.reconcile_at = self.clock.now().min(self.reconcile_at);
                    if let Some(stopped) = self.follow(end, &mut closed.events).await {
                        return Ok(closed.ended(stopped));
                    }
                }
                continue;
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(closed.ended(CloseEnd::Time));
            }
            // A slice without contracts closes nothing.
            let Some(order) = plan.order(closed.left) else {
                return Ok(closed.ended(CloseEnd::Price));
            };
            let placement = self.submit(order, CLOSE_WITHIN)?;
            let reconciled = self.reconciled;
            let (filled, reason) = loop {
                let orders = &self.orders;
                let order = orders
                    .by_client_order_id(placement.id().as_str())
                    .and_then(|key| orders.get(key));
                if let Some(order) = order.filter(|order| order.is_closed())
                    && let Life::Over(reason) = order.life()
                {
                    break (order.filled(), reason);
                }
                if let Some(stopped) = self.follow(end, &mut closed.events).await {
                    return Ok(closed.ended(stopped));
                }
            };
            closed.filled = closed.filled.checked_add(filled).unwrap_or(closed.filled);
            let before = closed.left;
            closed.left = toward_zero(before, filled);
            held = Some((closed.left, reconciled));
            if filled.is_zero() {
                match placement.state() {
                    PlacementState::Refused(refusal) => {
                        return Ok(closed.ended(CloseEnd::Refused(refusal)));
                    }
                    // It was not sent in time, or is proven not to exist.
                    _ if reason == OverReason::NotPlaced => held = None,
                    _ => return Ok(closed.ended(CloseEnd::Price)),
                }
            }
        }
    }

    /// Takes the events of one [`next`](Self::next), and says why there were none.
    async fn follow(
        &mut self,
        end: Option<Instant>,
        events: &mut Vec<OrderEvent>,
    ) -> Option<CloseEnd> {
        match by(end, self.next()).await {
            Some(Some(more)) => {
                events.extend(more);
                None
            }
            Some(None) => Some(CloseEnd::Disconnected),
            None => Some(CloseEnd::Time),
        }
    }

    /// Returns an [order group](crate::group) that was made here or is watched.
    pub fn group(&self, id: &str) -> Option<&OrderGroup> {
        self.groups.get(id)
    }

    /// Returns the order groups that were made here or are watched, by their ids.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&str, &OrderGroup)> {
        self.groups.iter()
    }

    /// Makes an [order group](crate::group) on a shard and in a subaccount, 0 to 63, and watches it.
    /// `limit` are the contracts that its orders may trade within fifteen seconds, 1 to 1,000,000.
    /// Name the id that is returned as `order_group_id` in orders of markets of that shard.
    ///
    /// # Errors
    ///
    /// [`GroupError::Request`]. If its effect is unknown, there may be a group more, without orders;
    /// that does no harm.
    ///
    /// # Cancellation
    ///
    /// Dropping the future may leave a group that is not watched.
    pub async fn create_group(
        &mut self,
        limit: Count,
        exchange_index: i64,
        subaccount: u8,
    ) -> Result<String, GroupError> {
        let body = kalshi_sdk::types::CreateOrderGroupRequest::builder()
            .contracts_limit_fp(limit)
            .exchange_index(ExchangeIndex::from(exchange_index))
            .subaccount(i64::from(subaccount));
        // Before it can be triggered.
        self.subscribe_groups();
        let answer = self.client.create_order_group().body(body).send().await;
        let id = answer.map_err(GroupError::Request)?.order_group_id.clone();
        let status = GroupStatus::Active;
        let (limit, subaccount) = (Some(limit), i64::from(subaccount));
        self.groups.insert(id.clone(), OrderGroup { limit, status, exchange_index, subaccount });
        Ok(id)
    }

    /// Watches an order group that was made elsewhere, on a shard and in a subaccount. Whether it
    /// was triggered is not known at first: no read says it.
    pub fn watch_group(&mut self, id: impl Into<String>, exchange_index: i64, subaccount: u8) {
        self.subscribe_groups();
        let (status, subaccount) = (GroupStatus::Unknown, i64::from(subaccount));
        self.groups
            .insert(id.into(), OrderGroup { limit: None, status, exchange_index, subaccount });
    }

    /// Resets an order group: its count starts over, and its orders are taken again. Nothing resets
    /// one by itself.
    ///
    /// # Errors
    ///
    /// A [`GroupError`]. Resetting again does no harm.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not cancel the request: the group may be reset or not, and an event
    /// tells.
    pub async fn reset_group(&mut self, id: &str) -> Result<(), GroupError> {
        let group = self.groups.get(id).ok_or_else(|| GroupError::NotKnown(id.to_owned()))?;
        let request = self
            .client
            .reset_order_group()
            .order_group_id(id)
            .exchange_index(group.exchange_index)
            .subaccount(group.subaccount);
        request.send().await.map_err(GroupError::Request)?;
        let event = self.groups.reset(id);
        self.events.extend(event);
        Ok(())
    }

    /// Triggers an order group: what rests of it is canceled at once, by one request, and none of
    /// its orders is taken until it is [reset](Self::reset_group).
    ///
    /// # Errors
    ///
    /// A [`GroupError`]. Triggering again does no harm.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not cancel the request: the group may be triggered or not, and an
    /// event tells.
    pub async fn trigger_group(&mut self, id: &str) -> Result<(), GroupError> {
        let group = self.groups.get(id).ok_or_else(|| GroupError::NotKnown(id.to_owned()))?;
        let request = self
            .client
            .trigger_order_group()
            .order_group_id(id)
            .exchange_index(group.exchange_index)
            .subaccount(group.subaccount);
        request.send().await.map_err(GroupError::Request)?;
        let event = self.groups.triggered(id);
        self.events.extend(event);
        Ok(())
    }

    /// Subscribes to what happens to order groups, once.
    fn subscribe_groups(&mut self) {
        if self.groups.iter().len() == 0 {
            // One that is closed says so by its events.
            let _ = self.connection.handle().subscribe(Subscription::order_groups());
        }
    }

    /// Places several orders with one request each time. See
    /// [`Placements::place_all`](crate::placement::Placements::place_all).
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing of any order was written or sent. What holds one of them back holds
    /// back all; the ceilings measure them as one after the other.
    ///
    /// # Cancellation
    ///
    /// As with [`place`](Self::place), for each order.
    pub fn place_all(
        &mut self,
        orders: impl IntoIterator<Item = CreateOrderV2Request>,
        within: Duration,
    ) -> Result<Vec<Placement>, PlaceError> {
        if self.is_exiting {
            return Err(PlaceError::Exiting);
        }
        let now = self.clock.now();
        let mut orders: Vec<CreateOrderV2Request> = orders.into_iter().collect();
        let admitted: Result<Vec<_>, _> =
            orders.iter_mut().map(|order| self.admit(order, now)).collect();
        let admitted = admitted?;
        if let Some(guard) = &self.guard {
            guard.check_all(now, &orders).map_err(PlaceError::Risk)?;
        }
        let placements = self.placements.place_all(orders.iter().cloned(), within)?;
        for ((placement, order), expires) in placements.iter().zip(&orders).zip(admitted) {
            self.placed(placement, order, expires, now);
        }
        Ok(placements)
    }

    /// Gives an order that was placed here another price and total, the filled contracts included:
    /// within that time, or not at all. It loses its place in the queue, unless the price stays and
    /// the total is lower.
    ///
    /// # Errors
    ///
    /// An [`AmendError`]: nothing was written or sent. [`IntentError::Pending`] while another change
    /// of the order is not settled, its [renewal](TradingBuilder::with_rolling_expiry) included.
    ///
    /// # Cancellation
    ///
    /// It goes on when the [`Change`] is dropped. If the answer is lost, the order is as before or as
    /// wanted until [`OrderEvent::IntentEnded`]: a minute at most, as long as reads work. It is never
    /// sent again: carried out late, it would undo the next change.
    pub fn amend(
        &mut self,
        key: OrderKey,
        yes_price: Dollars,
        total: Count,
        within: Duration,
    ) -> Result<Change, AmendError> {
        let order = self.orders.get(key).ok_or(IntentError::NoOrder)?;
        let record = order.record().ok_or(IntentError::NoOrder)?;
        let now = self.clock.now();
        if let Err(pause) = self.pauses.check(self.shards.shard_of(&record.market_ticker)) {
            return Err(AmendError::Paused { pause, opens: self.pauses.opens(now) });
        }
        if let Some(guard) = &mut self.guard {
            let checked = guard.check_change(now, key, order, yes_price, total);
            checked.map_err(AmendError::Risk)?;
        }
        let side = record.book_side.clone();
        let change = OrderChange::Amend { side, yes_price, total, expires: None };
        let change = self.change(key, OrderIntent::Amend { yes_price, total }, change, within)?;
        // It counts with the worse of both from here on.
        if let (Some(guard), Some(order)) = (&mut self.guard, self.orders.get(key)) {
            guard.sync(now, key, order);
        }
        Ok(change)
    }

    /// Takes contracts off an order that was placed here until no more than that are left: within
    /// that time, or not at all. It keeps its place in the queue.
    ///
    /// # Errors
    ///
    /// An [`IntentError`], as with [`amend`](Self::amend). No ceiling holds it back.
    ///
    /// # Cancellation
    ///
    /// As with [`amend`](Self::amend).
    pub fn decrease(
        &mut self,
        key: OrderKey,
        remaining: Count,
        within: Duration,
    ) -> Result<Change, IntentError> {
        let change = OrderChange::Decrease { remaining };
        self.change(key, OrderIntent::Decrease { remaining }, change, within)
    }

    fn change(
        &mut self,
        key: OrderKey,
        intent: OrderIntent,
        change: OrderChange,
        within: Duration,
    ) -> Result<Change, IntentError> {
        if self.is_exiting {
            return Err(IntentError::Exiting);
        }
        let target = self.target(key)?;
        self.orders.set_intent(key, intent, false)?;
        let Ok(change) = self.placements.change(target, change, within) else {
            // A renewal, or one of an earlier session. The caller was not told of this one.
            // Carried out late, it would undo the change.
            let _ = self.orders.refuse_intent(key);
            return Err(IntentError::Pending);
        };
        self.changing.push((key, change.clone(), None));
        Ok(change)
    }

    /// Returns what is needed to change an order that the exchange is known to have.
    fn target(&self, key: OrderKey) -> Result<ChangeTarget, IntentError> {
        let order = self.orders.get(key).ok_or(IntentError::NoOrder)?;
        let order_id = order.order_id().ok_or(IntentError::NoOrder)?;
        let record = order.record().ok_or(IntentError::NoOrder)?;
        let total = record.filled.checked_add(record.remaining);
        let known = record.updated.zip(total).map(|(updated, total)| KnownOrder {
            updated,
            yes_price: record.yes_price,
            total,
            // Records do not have it.
            expires: None,
        });
        Ok(ChangeTarget::new(order_id, &*record.market_ticker)
            .with_subaccount(record.subaccount)
            .with_exchange_index(self.shards.shard_of(&record.market_ticker))
            .with_known(known))
    }

    /// Cancels an order that was placed here. It is in the journal before it is sent, and is sent again
    /// until the order is over: if this process dies, by the next session. A change of the order that
    /// was not sent yet is withdrawn.
    ///
    /// An order that the exchange is not known to have is withdrawn instead: see
    /// [`Canceled::Withdrawn`].
    ///
    /// # Errors
    ///
    /// An [`IntentError`]: nothing was sent. [`IntentError::NoOrder`] also while the exchange is known to
    /// have the order and no state of it is: until its first [`OrderEvent::Resting`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: the cancel goes on. The intent stays until the order is
    /// over or a read that is newer than the request's window shows it to rest.
    pub async fn cancel(&mut self, key: OrderKey) -> Result<Canceled, IntentError> {
        if self.withdraw_unsent(key) {
            return Ok(Canceled::Withdrawn);
        }
        let target = self.target(key)?;
        self.orders.set_intent(key, OrderIntent::Cancel, false)?;
        self.withdraw_changes(key);
        // It stands if the future is dropped.
        self.orders.answer_intent(key, self.clock.now().saturating_add(self.window));
        let (change, answered) = self.placements.cancel(target);
        self.changing.push((key, change.clone(), None));
        let answer = answered.await;
        let now = self.clock.now();
        // Whatever it came to, a read shows.
        self.reads.insert(key, (Read::Order, now));
        if let Ok(Err((_, error))) = &answer
            && is_unavailable(error)
        {
            self.pauses.suspect(now);
        }
        Ok(match answer {
            Ok(Ok(())) => Canceled::Accepted,
            Ok(Err((ChangeAnswer::NotFound, _))) => Canceled::NotFound,
            // It was over before the cancel was sent.
            Err(_) if change.state().is_final() => Canceled::NotFound,
            // The task of the cancel has ended with its runtime.
            Err(_) => Canceled::Unknown(None),
            Ok(Err((
                ChangeAnswer::Refused(_) | ChangeAnswer::NotSent { is_temporary: false },
                error,
            ))) => {
                self.changing.retain(|(_, one, _)| one.intent().number != change.intent().number);
                let events = self.orders.refuse_intent(key);
                self.events.extend(events);
                Canceled::Refused(error)
            }
            Ok(Err((_, error))) => Canceled::Unknown(Some(error)),
        })
    }

    /// Withdraws an order that the exchange is not known to have, and reports whether there is one.
    fn withdraw_unsent(&self, key: OrderKey) -> bool {
        let is_unsent = |order: &ManagedOrder| order.order_id().is_none() && !order.is_closed();
        let Some(order) = self.orders.get(key).filter(|order| is_unsent(order)) else {
            return false;
        };
        let ids = order.client_order_ids();
        let is_its = |one: &Placement| ids.iter().any(|id| id == one.id().as_str());
        let placement = self.open.iter().map(|(placement, _)| placement).find(|one| is_its(one));
        if let Some(placement) = placement {
            placement.withdraw();
        }
        placement.is_some()
    }

    /// Withdraws the changes of an order that is on its way out, as far as they were not sent.
    fn withdraw_changes(&self, key: OrderKey) {
        let is_change = |change: &Change| change.intent().change != OrderChange::Cancel;
        let changes = self.changing.iter().map(|(key, change, _)| (*key, change));
        let renewals = self.renewing.iter().map(|renewal| (renewal.key, &renewal.change));
        for (of, change) in changes.chain(renewals) {
            if of == key && is_change(change) {
                change.withdraw();
            }
        }
    }

    /// Waits for what happens next to orders, or until [`is_current`](Self::is_current) changes or an
    /// [`exit`](Self::exit) has come to its end, for which the list may be empty; `None` when the
    /// connection is closed for good. Then build another handle: the journal knows what is open.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped, and a read that was on its way goes on with the
    /// next call.
    pub async fn next(&mut self) -> Option<Vec<OrderEvent>> {
        self.advance(true).await
    }

    /// Does the same; with `has_streams` false, by reads alone, and without an end.
    async fn advance(&mut self, has_streams: bool) -> Option<Vec<OrderEvent>> {
        loop {
            self.take_placements();
            self.keep_reserve();
            let events = std::mem::take(&mut self.events);
            let is_current = self.is_current();
            let has_ended = self.is_exiting && self.has_ended();
            if !events.is_empty() || is_current != self.was_current || has_ended != self.had_ended {
                self.was_current = is_current;
                self.had_ended = has_ended;
                self.plan_reads(&events);
                self.take_ends(&events);
                return Some(events);
            }
            let now = self.clock.now();
            self.follow_clock(now);
            if self.is_exiting {
                // Whatever else is on its way.
                self.begin_cancels(now);
            }
            if self.agreement.is_broken(now) {
                tracing::warn!(
                    "a position is not what the known fills add up to: reading the account"
                );
                self.reconcile_at = self.reconcile_at.min(now);
            }
            if self.running.is_none() {
                self.running = self.begin(now);
            }
            self.begin_side(now);
            let sleep = self.next_at().filter(|_| self.running.is_none());
            let sleep =
                sleep.into_iter().chain(self.next_side_at()).chain(self.agreement.next_at());
            let sleep = sleep.min();
            let sleep = sleep.map_or(MAX_SLEEP, |at| at.abs_diff(now.min(at))).min(MAX_SLEEP);
            tokio::select! {
                // The placements live as long as this handle.
                _ = self.changes.changed() => {}
                event = self.connection.next(), if has_streams => {
                    let event = event?;
                    self.take_event(&event);
                }
                done = finished(&mut self.running) => self.take_done(done),
                Some(done) = self.side.next(), if !self.side.is_empty() => self.take_done(done),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Takes in that the clock was set back, if it was: nothing is put off by more than it would be from
    /// now on.
    fn follow_clock(&mut self, now: UnixMillis) {
        if now >= std::mem::replace(&mut self.passed_at, now) {
            return;
        }
        self.reconcile_at = self.reconcile_at.min(now.saturating_add(RECONCILE_EVERY));
        let latest = now.saturating_add(RETRY_AFTER);
        for (_, at) in self.reads.values_mut().filter(|(_, at)| *at != ON_ITS_WAY) {
            *at = latest.min(*at);
        }
        self.pauses.set_back(now);
        self.agreement.set_back(now);
        self.with_expiry(|expiry| expiry.set_back(now));
    }

    /// Takes in the states of placements and changes that are others than before.
    fn take_placements(&mut self) {
        self.changes.mark_unchanged();
        self.take_changes();
        for (placement, known) in &mut self.open {
            let state = placement.state();
            if known.as_ref() != Some(&state) {
                let id = placement.id().as_str();
                self.events.extend(self.orders.apply_placement(id, &state));
                match &state {
                    // An answer of 503 may be that of a pause.
                    PlacementState::Settling => self.pauses.suspect(self.clock.now()),
                    PlacementState::Refused(refusal) if is_group_refusal(refusal) => {
                        let group = group_of(placement);
                        let event = group.and_then(|group| self.groups.triggered(&group));
                        self.events.extend(event);
                    }
                    _ => {}
                }
                *known = Some(state);
            }
        }
        // Only evidence for an order changes what is over, and that comes by the streams, too.
        self.open.retain(|(_, known)| {
            !matches!(
                known,
                Some(
                    PlacementState::Accepted { .. }
                        | PlacementState::Refused(_)
                        | PlacementState::Withdrawn(_)
                        | PlacementState::GivenUp
                )
            )
        });
    }

    /// Tells the budget how many orders may have to be canceled.
    fn keep_reserve(&mut self) {
        let Some((budget, known)) = &mut self.reserve else { return };
        let open = u64::try_from(self.orders.own_open().count()).unwrap_or(u64::MAX);
        if *known != open {
            *known = open;
            budget.set_open_orders(open);
        }
    }

    fn take_changes(&mut self) {
        self.take_renewals();
        let now = self.clock.now();
        for (key, change, known) in &mut self.changing {
            let state = change.state();
            if known.as_ref() == Some(&state) {
                continue;
            }
            // A cancel may have taken its place.
            let is_wanted =
                self.orders.get(*key).is_some_and(|order| is_intent_of(order.intent(), change));
            match state {
                _ if !is_wanted => {}
                ChangeState::Reached | ChangeState::Over => {
                    self.orders.answer_intent(*key, now);
                    self.reads.insert(*key, (Read::Order, now));
                }
                ChangeState::Refused(_) | ChangeState::NotReached | ChangeState::Withdrawn(_) => {
                    self.events.extend(self.orders.refuse_intent(*key));
                    self.reads.insert(*key, (Read::Order, now));
                }
                ChangeState::Settling | ChangeState::Undecided(_)
                    if change.intent().change == OrderChange::Cancel =>
                {
                    self.orders.answer_intent(*key, now.saturating_add(self.window));
                }
                _ => {}
            }
            *known = Some(state);
        }
        self.changing.retain(|(_, _, known)| !known.as_ref().is_some_and(ChangeState::is_final));
    }

    fn take_event(&mut self, event: &Event) {
        self.placements.observe(event);
        let events = self.orders.apply(event);
        if let Event::Message(message) | Event::Unmatched(message) = event {
            match &message.payload {
                Payload::Fill(fill) => {
                    self.count_fills(&[FillRecord::from(&**fill)], &events);
                }
                Payload::MarketPosition(position) => {
                    let position = PositionRecord::from(&**position);
                    self.agreement.position(self.clock.now(), &position);
                }
                _ => {}
            }
        }
        self.events.extend(events);
        self.events.extend(self.groups.apply(event));
        if self.portfolio.apply(event) == PortfolioChange::Stale {
            self.reconcile_at = self.clock.now();
        }
        if matches!(event, Event::Subscribed { .. }) && self.portfolio.is_subscribed() {
            self.reconcile_at = self.clock.now();
        }
    }

    /// Counts those of the fills that were new to the manager, as its events say, towards the
    /// ceilings, and in what the positions are compared with.
    fn count_fills(&mut self, fills: &[FillRecord], events: &[OrderEvent]) {
        let new = events.iter().filter_map(|event| match event {
            OrderEvent::Filled { order, trade_id, .. } => Some((*order, trade_id.as_str())),
            _ => None,
        });
        let mut new: HashSet<(OrderKey, &str)> = new.collect();
        let now = self.clock.now();
        for fill in fills {
            let key = self.orders.by_order_id(&fill.order_id);
            if key.is_some_and(|key| new.remove(&(key, fill.trade_id.as_str()))) {
                self.agreement.fill(now, fill);
                if let Some(guard) = &mut self.guard {
                    guard.fill(now, fill);
                }
            }
        }
    }

    /// Takes in what the events say of what is open and over.
    fn take_ends(&mut self, events: &[OrderEvent]) {
        let now = self.clock.now();
        for event in events {
            if let (OrderEvent::Identified { was, .. }, Some(guard)) = (event, &mut self.guard) {
                guard.identified(*was);
            }
            let Some(key) = event.order() else { continue };
            let Some(order) = self.orders.get(key) else { continue };
            if let Some(guard) = &mut self.guard {
                guard.sync(now, key, order);
            }
            if let (OrderEvent::Over { .. }, Some(expiry)) = (event, &mut self.expiry) {
                for id in order.client_order_ids() {
                    expiry.forget(id);
                }
            }
        }
    }

    /// Begins what nothing else waits for: a read of the status, and renewals.
    fn begin_side(&mut self, now: UnixMillis) {
        if let Some(with_schedule) = self.pauses.begin(now) {
            let client = self.client.clone();
            self.side.push(Box::pin(async move {
                let (status, schedule) = read_status(&client, with_schedule).await;
                Done::Status(status, schedule)
            }));
        }
        // What is on its way out may expire.
        let Some(expiry) = self.expiry.as_mut().filter(|_| !self.is_exiting) else { return };
        let (due, within) = (expiry.begin(now), expiry.within());
        for id in due {
            match self.renew(&id, now, within) {
                Begun::Yes(renewal) => {
                    self.with_expiry(|expiry| expiry.asked(&id, renewal.expires));
                    self.renewing.push(renewal);
                }
                Begun::NotYet => self.with_expiry(|expiry| expiry.not_begun(&id, now)),
                Begun::Paused => self.with_expiry(|expiry| expiry.not_renewed(&id, now)),
            }
        }
    }

    fn with_expiry(&mut self, change: impl FnOnce(&mut RollingExpiry)) {
        if let Some(expiry) = &mut self.expiry {
            change(expiry);
        }
    }

    /// Begins to renew an order.
    fn renew(&self, id: &str, now: UnixMillis, within: Duration) -> Begun {
        let expiry = self.expiry.as_ref();
        let expires = expiry.and_then(|expiry| Some((expiry, expiry.renewal(id, now)?)));
        let Some((expiry, expires)) = expires else { return Begun::NotYet };
        let key = self.orders.by_client_order_id(id);
        let order = key.and_then(|key| Some((key, self.orders.get(key)?)));
        let Some((key, order)) = order.filter(|(_, order)| {
            order.life() == Life::Resting && order.intent() == OrderIntent::None
        }) else {
            // Not known to rest yet, or a change is on its way.
            return Begun::NotYet;
        };
        let (Some(record), Ok(target)) = (order.record(), self.target(key)) else {
            return Begun::NotYet;
        };
        if self.pauses.check(target.exchange_index).is_err() {
            return Begun::Paused;
        }
        let Some(total) = record.filled.checked_add(record.remaining) else {
            return Begun::NotYet;
        };
        let known = target.known.map(|known| KnownOrder { expires: expiry.known(id), ..known });
        let change = OrderChange::Amend {
            side: record.book_side.clone(),
            yes_price: record.yes_price,
            total,
            expires: Some(expires),
        };
        match self.placements.renew(target.with_known(known), change, within) {
            Ok(change) => {
                Begun::Yes(Renewal { id: id.to_owned(), key, expires, change, is_lost: false })
            }
            Err(_) => Begun::NotYet,
        }
    }

    /// Returns the time at which [`begin_side`](Self::begin_side) has something to begin.
    fn next_side_at(&self) -> Option<UnixMillis> {
        let expiry = self.expiry.as_ref().filter(|_| !self.is_exiting);
        let renew_at = expiry.and_then(RollingExpiry::next_at);
        renew_at.into_iter().chain(self.pauses.next_at()).min()
    }

    /// Takes in what became of the renewals.
    fn take_renewals(&mut self) {
        let now = self.clock.now();
        let Some(expiry) = &mut self.expiry else { return };
        let mut failed = Vec::new();
        self.renewing.retain_mut(|renewal| {
            let id = renewal.id.as_str();
            match renewal.change.state() {
                ChangeState::Prepared | ChangeState::Queued | ChangeState::Sent { .. } => true,
                ChangeState::Reached if renewal.is_lost => {
                    expiry.renewed_late(id, renewal.expires);
                    false
                }
                ChangeState::Reached => {
                    expiry.renewed(id, renewal.expires);
                    false
                }
                state => {
                    if !renewal.is_lost {
                        tracing::warn!(?state, id, "an order was not renewed; repeating");
                        expiry.not_renewed(id, now);
                        failed.push(renewal.key);
                    }
                    renewal.is_lost = true;
                    !state.is_final()
                }
            }
        });
        for key in failed {
            // It may be over, or another one than it was; and trading may be paused.
            self.reads.entry(key).or_insert((Read::Renewed, now));
            self.pauses.suspect(now);
        }
    }

    /// Remembers what the events ask to be read.
    fn plan_reads(&mut self, events: &[OrderEvent]) {
        let now = self.clock.now();
        for event in events {
            // The stream usually brings it.
            let at = now.saturating_add(RETRY_AFTER);
            match event {
                OrderEvent::NeedsOrder { order } => self.reads.insert(*order, (Read::Order, at)),
                OrderEvent::NeedsFills { order, .. } => {
                    self.reads.insert(*order, (Read::Fills, at))
                }
                _ => None,
            };
        }
    }

    /// Returns the time at which something is to be read next.
    fn next_at(&self) -> Option<UnixMillis> {
        let reads_at = self.reads.values().map(|(_, at)| *at).min();
        let reconcile_at = self.portfolio.is_subscribed().then_some(self.reconcile_at);
        reads_at.into_iter().chain(reconcile_at).min()
    }

    /// Begins the request that is due, if one is: what is known to be missing, then the account.
    fn begin(&mut self, now: UnixMillis) -> Option<Running> {
        while let Some((key, read)) = self.due_read(now) {
            let Some(order_id) = self.needed(key, read) else {
                self.reads.remove(&key);
                continue;
            };
            if read == Read::Renewed {
                // Once: the next renewal that fails asks for it again.
                self.reads.remove(&key);
            } else {
                self.reads.insert(key, (read, ON_ITS_WAY));
            }
            return Some(begin_read(&self.client, key, read, order_id));
        }
        if !self.portfolio.is_subscribed() || self.reconcile_at > now {
            return None;
        }
        self.reconcile_at = now.saturating_add(RETRY_AFTER);
        let begun = self.portfolio.begin();
        let (client, since) = (self.client.clone(), begun.fills_since());
        Some(Box::pin(async move { Done::Account(begun, client.fetch_account(since).await) }))
    }

    /// Returns the read that has been due for the longest time.
    fn due_read(&self, now: UnixMillis) -> Option<(OrderKey, Read)> {
        let due = self.reads.iter().filter(|(_, (_, at))| *at <= now);
        due.min_by_key(|(_, (_, at))| *at).map(|(key, (read, _))| (*key, *read))
    }

    /// Takes in the end of a read of an order. If it did not show what was looked for, it is repeated
    /// after others that are due, however long it took.
    fn read_ended(&mut self, key: OrderKey) {
        let again = self.clock.now().saturating_add(RETRY_AFTER);
        // One that was asked for meanwhile stays due.
        if let Some((_, at)) = self.reads.get_mut(&key).filter(|(_, at)| *at == ON_ITS_WAY) {
            *at = again;
        }
    }

    /// Returns the id of an order that still has to be read.
    fn needed(&self, key: OrderKey, read: Read) -> Option<String> {
        let order = self.orders.get(key)?;
        let is_pending = order.intent() != OrderIntent::None;
        let is_needed = match read {
            Read::Order => order.needs_order() || is_pending,
            Read::Renewed => order.life() == Life::Resting,
            Read::Fills => order.needs_fills(),
        };
        order.order_id().filter(|_| is_needed).map(str::to_owned)
    }

    /// Takes in what a request came to.
    fn take_done(&mut self, done: Done) {
        if let Done::Order(key, _) | Done::Fills(key, _) = &done {
            self.read_ended(*key);
        }
        let failed = match done {
            Done::Order(_, Ok(record)) => {
                self.events.extend(self.orders.apply_order(record));
                None
            }
            Done::Fills(_, Ok(fills)) => {
                self.take_fills(&fills);
                None
            }
            Done::Status(status, schedule) => {
                take_status(&mut self.pauses, self.clock.now(), &status, schedule);
                None
            }
            Done::Account(begun, Ok(snapshot)) => {
                self.take_account(begun, snapshot);
                None
            }
            Done::Order(_, Err(error)) | Done::Fills(_, Err(error)) => {
                Some(("read an order", error))
            }
            Done::Account(_, Err(error)) => Some(("read the account", error)),
        };
        if let Some((what, error)) = failed {
            if is_unavailable(&error) {
                self.pauses.suspect(self.clock.now());
            }
            tracing::warn!(%error, "could not {what}; repeating");
        }
    }

    fn take_fills(&mut self, fills: &[FillRecord]) {
        let mut events = Vec::new();
        for fill in fills {
            events.extend(self.orders.apply_fill(fill));
        }
        self.count_fills(fills, &events);
        self.events.extend(events);
    }

    fn take_account(&mut self, begun: Reconciliation, snapshot: AccountSnapshot) {
        let as_of = snapshot.as_of;
        let found = self.portfolio.finish(begun, snapshot);
        let now = self.clock.now();
        if found.is_current() {
            let resting = self.portfolio.orders();
            let events = self.orders.reconcile(&found, resting, as_of);
            self.count_fills(&found.missed, &events);
            // The orders that rest have their keys now.
            self.take_ends(&events);
            self.events.extend(events);
            if let Some(guard) = &mut self.guard {
                guard.is_complete();
            }
            self.agreement.read(self.portfolio.positions());
            self.reconciled = self.reconciled.wrapping_add(1);
            self.reconcile_at = now.saturating_add(RECONCILE_EVERY);
            return;
        }
        self.take_fills(&found.missed);
        if let Some(wait) = found.retry_after() {
            self.reconcile_at = now.saturating_add(wait.max(MAX_SLEEP));
        }
    }
}

/// Waits for a future, at most until the end; without one, for as long as it takes.
async fn by<F: Future>(end: Option<Instant>, future: F) -> Option<F::Output> {
    match end {
        Some(end) => timeout_at(end, future).await.ok(),
        None => Some(future.await),
    }
}

/// Reports whether an order was refused because its group was triggered.
fn is_group_refusal(refusal: &Refusal) -> bool {
    let code = refusal.code.as_deref().unwrap_or_default().to_ascii_lowercase();
    code.contains("order_group") && code.contains("trigger")
}

/// Returns the order group of an order.
fn group_of(placement: &Placement) -> Option<String> {
    let order: CreateOrderV2Request = serde_json::from_str(placement.intent().body()).ok()?;
    order.order_group_id
}

/// Returns what is left of a position after so many contracts of it were closed.
fn toward_zero(position: Count, closed: Count) -> Count {
    let left = if position.is_negative() {
        position.checked_add(closed).filter(|left| left.is_negative())
    } else {
        position.checked_sub(closed).filter(|left| left.is_positive())
    };
    left.unwrap_or(Count::ZERO)
}

/// Returns the smaller of two positions on the same side; none if they are on different ones.
fn nearer_to_zero(a: Count, b: Count) -> Count {
    if a.is_negative() && b.is_negative() {
        a.max(b)
    } else if a.is_positive() && b.is_positive() {
        a.min(b)
    } else {
        Count::ZERO
    }
}

/// Reports whether an intent is what a change is sent for.
fn is_intent_of(intent: OrderIntent, change: &Change) -> bool {
    match (&change.intent().change, intent) {
        (OrderChange::Cancel, OrderIntent::Cancel) => true,
        (
            OrderChange::Amend { yes_price, total, .. },
            OrderIntent::Amend { yes_price: price, total: count },
        ) => *yes_price == price && *total == count,
        (OrderChange::Decrease { remaining }, OrderIntent::Decrease { remaining: left }) => {
            *remaining == left
        }
        _ => false,
    }
}

/// Returns what the request on its way comes to, once; waits for good without a request.
async fn finished(running: &mut Option<Running>) -> Done {
    let Some(request) = running else { return std::future::pending().await };
    let done = request.await;
    *running = None;
    done
}

fn begin_read(client: &Client, key: OrderKey, read: Read, order_id: String) -> Running {
    match read {
        // It settles what became of a cancel or a change.
        Read::Order | Read::Renewed => {
            let client = settling(client);
            Box::pin(async move {
                let answer = client.get_order().order_id(order_id).send().await;
                Done::Order(key, answer.map(|answer| OrderRecord::from(&answer.order)))
            })
        }
        Read::Fills => {
            let client = client.clone();
            Box::pin(async move {
                let fills = client.get_fills().order_id(order_id).limit(LIMIT).all().await;
                Done::Fills(key, fills.map(|fills| fills.iter().map(FillRecord::from).collect()))
            })
        }
    }
}

impl fmt::Debug for Trading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trading")
            .field("placements", &self.placements)
            .field("is_current", &self.is_current())
            .field("orders", &self.orders.iter().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TradingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TradingBuilder")
            .field("placements", &self.placements)
            .finish_non_exhaustive()
    }
}
