//! Random runs over sockets: orders that are placed, filled and canceled while the way to the
//! simulator fails in every manner it can, and the client dies and comes back over its journal.
//!
//! `PLACEMENT_SOCKET_RUNS` sets how many runs there are, `PLACEMENT_SOCKET_SEED` the seed of the
//! first: a failure names the one to repeat. Timing is the machine's, so a seed gives the same
//! decisions and not the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kalshi_sdk::{
    Client, Environment, OperationId,
    auth::Clock,
    types::{BookSide, CreateOrderV2Request, Order, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Fault, FaultKind, Lag, MarketPlan, Role, StreamFaults};
use kalshi_trade::{
    journal::{
        Appended, Durability, FileJournal, History, Journal, JournalError, MemoryJournal, OwnIds,
        Record, Session, Settlement,
    },
    orders::{Life, OrderIntent, OrderKey},
    placement::{Placement, PlacementState, Placements},
    trading::Trading,
};
use kalshi_types::Count;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    model::Dice,
    support::{Ahead, TICKER, order},
};

const RUNS: u64 = 10;
/// Runs at the same time: most of each is waiting.
const AT_ONCE: usize = 4;
/// Orders of a run.
const ORDERS: usize = 24;
/// The time within which an order is sent, by the virtual clock.
const WITHIN: Duration = Duration::from_secs(120);
/// The real time after which a run that has not come to rest has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn variable(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("the variable is a number"))
}

/// The choices of a run.
struct Random(Dice);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next() % bound
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// A journal that the test reads while the placements write it.
#[derive(Clone, Debug)]
struct Shared(Arc<FileJournal>);

impl Journal for Shared {
    fn append(&self, record: &Record) -> Result<Appended, JournalError> {
        self.0.append(record)
    }

    fn commit(&self, appended: Appended) -> Result<(), JournalError> {
        self.0.commit(appended)
    }

    fn commit_blocks(&self) -> bool {
        self.0.commit_blocks()
    }

    fn session(&self) -> Session {
        self.0.session()
    }

    fn history(&self) -> History {
        self.0.history()
    }

    fn own_ids(&self) -> OwnIds {
        self.0.own_ids()
    }

    fn is_rewrite_due(&self) -> bool {
        self.0.is_rewrite_due()
    }

    fn rewrite(&self) -> Result<(), JournalError> {
        Journal::rewrite(&*self.0)
    }
}

/// Returns the runtime of one life.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The counts of what went wrong.
type Counts = BTreeMap<String, u64>;

/// One run.
struct Run {
    random: Random,
    clock: Arc<Ahead>,
    exchange: Exchange,
    directory: PathBuf,
    /// The ids of all orders that were taken, by all lives of the client.
    placed: BTreeSet<String>,
    counts: Counts,
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The faults of requests, each with the operations that it hits and how rarely.
fn faults() -> Vec<(FaultKind, OperationId, u64)> {
    use OperationId as Id;
    let create = |kind, one_in| (kind, Id::CreateOrderV2, one_in);
    let mut faults = vec![
        create(FaultKind::ResetBefore, 12),
        create(FaultKind::ResetAfter, 8),
        create(FaultKind::TruncatedBody, 10),
        create(FaultKind::Duplicate, 8),
        create(FaultKind::TooManyRequests, 12),
        create(FaultKind::latency(Duration::from_millis(20)), 6),
    ];
    for status in [408, 500, 503] {
        faults.push(create(FaultKind::status(status), 20));
    }
    for seconds in [1, 20, 50] {
        faults.push(create(FaultKind::late(Duration::from_secs(seconds)), 20));
    }
    for operation in [
        Id::CancelOrderV2,
        Id::GetOrders,
        Id::GetOrder,
        Id::GetFills,
        Id::GetPositions,
        Id::GetUserDataTimestamp,
    ] {
        faults.push((FaultKind::status(503), operation, 8));
        faults.push((FaultKind::ResetAfter, operation, 10));
        faults.push((FaultKind::TruncatedBody, operation, 12));
        faults.push((FaultKind::TooManyRequests, operation, 12));
    }
    faults
}

/// The end of a life of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It dies in the middle of things.
    Death,
    /// Everything comes to rest.
    Rest,
}

impl Run {
    fn new(runtime: &Runtime, seed: u64) -> Self {
        let mut random = Random(Dice(seed));
        let clock = Arc::new(Ahead::default());
        let mut streams = StreamFaults::default();
        streams.seed = seed;
        streams.drop_one_in = [0, 6, 15][usize::try_from(random.below(3)).unwrap()];
        streams.duplicate_one_in = 7;
        streams.swap_one_in = 9;
        let mut counts = Counts::new();
        *counts.entry("runs with lost stream messages".to_owned()).or_default() +=
            u64::from(streams.drop_one_in > 0);
        let builder = Exchange::builder()
            .with_seed(seed)
            .with_markets(1)
            .with_clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .with_stream_faults(streams);
        let exchange = runtime.block_on(builder.start()).unwrap();
        exchange.markets().list(MarketPlan::new(TICKER, 864_000)).unwrap();
        for (kind, operation, one_in) in faults() {
            let fault = Fault::builder(kind).with_operation(operation);
            // The time up to which reads are complete is asked without a signature.
            let fault = match operation {
                OperationId::GetUserDataTimestamp => fault,
                _ => fault.with_role(Role::Trader),
            };
            exchange.faults().add(fault.with_one_in(one_in).build()).unwrap();
        }
        let name = format!("kalshi-trade-sockets-{}-{seed}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self { random, clock, exchange, directory, placed: BTreeSet::new(), counts }
    }

    fn play(&mut self) -> Counts {
        let lives = 2 + self.random.below(3);
        for life in 1..=lives {
            let end = if life == lives { End::Rest } else { End::Death };
            let mut left = ORDERS / usize::try_from(lives).unwrap();
            // What is on its way when a life ends goes with its runtime, like all that a dead
            // process had.
            while !runtime().block_on(self.live(&mut left, end)) {
                self.count("streams that were closed", 1);
            }
            self.count("restarts of the client", u64::from(end == End::Death));
        }
        self.check();
        std::mem::take(&mut self.counts)
    }

    fn count(&mut self, what: &str, by: u64) {
        *self.counts.entry(what.to_owned()).or_default() += by;
    }

    fn client(&self, role: Role) -> Client {
        Client::builder()
            .with_environment(self.exchange.environment())
            .with_credentials(self.exchange.credentials(role).unwrap().clone())
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .build()
            .unwrap()
    }

    fn open_journal(&mut self) -> Shared {
        let durability =
            if self.random.below(4) == 0 { Durability::Disk } else { Durability::Process };
        let journal = FileJournal::builder(self.directory.join("journal"))
            .with_durability(durability)
            // Every settled cancel makes it due, in the middle of things.
            .with_rewrite_from(1)
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>);
        Shared(Arc::new(journal.open().unwrap()))
    }

    /// Lets virtual time pass, less than `bound` milliseconds of it.
    fn pass(&mut self, bound: u64) {
        let by = self.random.below(bound);
        self.clock.0.fetch_add(i64::try_from(by).unwrap(), Ordering::SeqCst);
    }

    /// Connects, whatever it takes.
    async fn start(&mut self) -> (Trading, Shared) {
        loop {
            let journal = self.open_journal();
            let trading = Trading::builder(self.client(Role::Trader), journal.clone()).unwrap();
            let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
            if let Ok(trading) = trading.with_clock(clock).start().await {
                return (trading, journal);
            }
            self.count("connections that failed", 1);
            drop(journal);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes in what happens for a moment; false when the streams are closed for good.
    async fn look(&mut self, trading: &mut Trading) -> bool {
        let moment = Duration::from_millis(1 + self.random.below(12));
        let closed = timeout(moment, async { while trading.next().await.is_some() {} }).await;
        closed.is_err()
    }

    /// One life of the client, in which the orders that are left are placed; false if its streams
    /// were closed for good before the end.
    async fn live(&mut self, left: &mut usize, end: End) -> bool {
        let (mut trading, journal) = self.start().await;
        let maker = self.client(Role::Maker);
        let began = Instant::now();
        while *left > 0 {
            assert!(began.elapsed() < PATIENCE, "{left} orders could not be placed");
            match self.random.below(16) {
                0..=6 => {
                    if let Ok(placement) = trading.place(self.order(), WITHIN) {
                        assert!(self.placed.insert(placement.id().to_string()), "an id came twice");
                        *left -= 1;
                        if self.random.below(12) == 0 {
                            placement.withdraw();
                        }
                    } else {
                        // Those of the last life are settled first, which takes a minute.
                        self.pass(3_000);
                    }
                }
                7 | 8 => self.cancel(&mut trading).await,
                9 | 10 => self.trade(&maker).await,
                11 => self.disturb_streams(),
                12 => {
                    let (reads, streams) = (self.random.millis(5_000), self.random.millis(5_000));
                    let lag = Lag::none().with_reads(reads / 2..=reads).with_streams(streams);
                    self.exchange.set_lag(lag.with_seed(self.random.below(1_000)));
                    self.count("changes of the lag", 1);
                }
                _ => self.pass(5_000),
            }
            self.pass(200);
            if !self.look(&mut trading).await {
                return false;
            }
        }
        end == End::Death || self.rest(trading, &journal).await
    }

    fn order(&mut self) -> CreateOrderV2Request {
        CreateOrderV2Request::builder()
            .ticker(TICKER)
            .side(BookSide::Bid)
            .count(format!("{}.00", 1 + self.random.below(3)))
            .price(format!("0.{}", 20 + self.random.below(10)))
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
            .exchange_index(0)
            .try_into()
            .unwrap()
    }

    /// Cancels one of the resting orders.
    async fn cancel(&mut self, trading: &mut Trading) {
        let resting =
            trading.orders().own_open().filter(|(_, order)| order.life() == Life::Resting);
        let keys: Vec<OrderKey> = resting.map(|(key, _)| key).collect();
        let Some(chosen) = u64::try_from(keys.len()).ok().filter(|count| *count > 0) else {
            return;
        };
        let key = keys[usize::try_from(self.random.below(chosen)).unwrap()];
        // Whatever it comes to, the order is followed.
        if trading.cancel(key).await.is_ok() {
            self.count("cancels", 1);
        }
    }

    /// Another member takes what rests, up to two contracts.
    async fn trade(&mut self, maker: &Client) {
        let order = CreateOrderV2Request::builder()
            .ticker(TICKER)
            .side(BookSide::Ask)
            .count(format!("{}.00", 1 + self.random.below(2)))
            .price("0.10")
            .time_in_force(TimeInForce::ImmediateOrCancel)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
            .exchange_index(0);
        let filled = maker.create_order_v2().body(order).send().await;
        let is_filled = filled.is_ok_and(|filled| filled.fill_count.is_positive());
        self.count("trades", u64::from(is_filled));
    }

    fn disturb_streams(&mut self) {
        let streams = self.exchange.streams();
        if self.random.below(3) == 0 {
            streams.restart(Role::Trader, Duration::from_millis(50)).unwrap();
            self.count("restarts of the streams", 1);
        } else {
            streams.cut(Role::Trader).unwrap();
            self.count("cuts of the streams", 1);
        }
    }

    /// Ends the faults, and waits until everything is known and the books are equal; false if the
    /// streams were closed for good before.
    async fn rest(&mut self, mut trading: Trading, journal: &Shared) -> bool {
        self.calm();
        let client = self.client(Role::Trader);
        let began = Instant::now();
        while self.look(&mut trading).await {
            self.pass(2_000);
            let Some(difference) = difference(&trading, journal, &client).await else {
                return true;
            };
            assert!(began.elapsed() < PATIENCE, "no rest: {difference}");
        }
        false
    }

    /// Ends the faults and counts their hits.
    fn calm(&mut self) {
        for report in self.exchange.faults().reports() {
            let operation = report.fault.operation.map(OperationId::as_str).unwrap_or_default();
            let name = format!("{operation}: {:?}", report.fault.fault);
            *self.counts.entry(name).or_default() += report.hits;
        }
        self.exchange.faults().clear();
        self.exchange.set_lag(Lag::none());
        self.exchange.streams().set_faults(Role::Trader, StreamFaults::default()).unwrap();
    }

    /// Compares the journal with the exchange, after the last life.
    fn check(&mut self) {
        let journal = self.open_journal();
        let history = journal.history();
        let client = self.client(Role::Trader);
        let orders = runtime().block_on(client.get_orders().ticker(TICKER).all()).unwrap();
        let mut by_id: BTreeMap<&str, &Order> = BTreeMap::new();
        for order in &orders {
            let id = &*order.client_order_id;
            assert!(by_id.insert(id, order).is_none(), "{id} was placed twice");
            assert!(self.placed.contains(id), "{id} was never taken");
        }
        assert_eq!(history.unsettled().len(), 0);
        for id in self.placed.clone() {
            match (history.settlement(&id), by_id.get(&*id)) {
                (Some(Settlement::Accepted { order_id }), Some(order)) => {
                    assert_eq!(*order_id, order.order_id, "{id} is taken for another");
                }
                // It died before it was written, so nothing was sent.
                (None, None) => self.count("orders that died unwritten", 1),
                (Some(Settlement::Accepted { .. }), None) => panic!("{id} was never an order"),
                (Some(_), None) => self.count("orders that came to nothing", 1),
                (other, Some(_)) => panic!("{id} exists and is taken for {other:?}"),
            }
        }
        self.exchange.audit().unwrap();
        let filled = orders.iter().filter(|order| order.fill_count_fp.is_positive()).count();
        self.count("orders", orders.len() as u64);
        self.count("orders with fills", filled as u64);
    }
}

/// Returns the first difference between what the client knows and what the exchange has.
async fn difference(trading: &Trading, journal: &Shared, client: &Client) -> Option<String> {
    let open = journal.history().unsettled().len();
    if open > 0 {
        return Some(format!("{open} intents are not settled"));
    }
    let states = trading.placements().open().into_iter().map(|placement| placement.state());
    let is_unknown = |state: &PlacementState| {
        matches!(state, PlacementState::Settling | PlacementState::Undecided(_))
    };
    if let Some(state) = states.into_iter().find(is_unknown) {
        return Some(format!("a placement is {state:?}"));
    }
    if !trading.is_current() {
        return Some("the view of the account is not current".to_owned());
    }
    let resting = client.get_orders().ticker(TICKER).status("resting").all().await;
    let Ok(orders) = resting else { return Some("the orders could not be read".to_owned()) };
    let there: BTreeMap<&str, (Count, Count)> = orders
        .iter()
        .map(|order| (&*order.order_id, (order.remaining_count_fp, order.fill_count_fp)))
        .collect();
    let mut here: BTreeMap<&str, (Count, Count)> = BTreeMap::new();
    for (_, order) in trading.orders().iter() {
        if order.intent() != OrderIntent::None {
            return Some(format!("an intent is open: {:?}", order.intent()));
        }
        match order.life() {
            Life::Resting => {
                if !order.is_own() {
                    return Some(format!("an own order is taken for a foreign one: {order:?}"));
                }
                let id = order.order_id().unwrap();
                here.insert(id, (order.remaining(), order.reported_filled()));
            }
            Life::Over(_) if order.is_closed() => {}
            life => return Some(format!("an order is {life:?}, closed {}", order.is_closed())),
        }
    }
    (here != there).then(|| format!("here {here:?}, there {there:?}"))
}

#[test]
fn there_is_one_order_for_an_intent_over_sockets_and_the_books_are_the_engines() {
    let (runs, first) =
        (variable("PLACEMENT_SOCKET_RUNS", RUNS), variable("PLACEMENT_SOCKET_SEED", 1));
    let runtime = Runtime::new().unwrap();
    let (next, totals) = (AtomicU64::new(first), Mutex::new(Counts::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first.saturating_add(runs) {
                return;
            }
            let counts = catch_unwind(AssertUnwindSafe(|| Run::new(&runtime, seed).play()));
            let counts = counts.unwrap_or_else(|cause| {
                eprintln!("the run with seed {seed} failed");
                resume_unwind(cause)
            });
            let mut totals = totals.lock().unwrap();
            for (what, count) in counts {
                *totals.entry(what).or_default() += count;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let totals = totals.into_inner().unwrap();
    for (what, count) in &totals {
        println!("{count:>8} {what}");
    }
    // All of it has happened, unless there were few runs.
    if runs >= RUNS {
        for what in ["orders", "orders with fills", "cancels", "trades", "cuts of the streams"] {
            assert!(totals.get(what).is_some_and(|count| *count > 0), "{what}: {totals:?}");
        }
        let creates = totals.iter().filter(|(what, _)| what.starts_with("create_order_v2: "));
        for (what, count) in creates {
            assert!(*count > 0, "{what} never happened");
        }
    }
}

/// A way to the exchange on which creates are held up until it is opened.
struct Way {
    gate: watch::Sender<bool>,
    /// The first lines of the answers to creates.
    answers: mpsc::UnboundedReceiver<String>,
    address: SocketAddr,
}

impl Way {
    async fn new(to: SocketAddr) -> Self {
        let (gate, opened) = watch::channel(false);
        let (said, answers) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let there = TcpStream::connect(to).await.unwrap();
                tokio::spawn(carry(from, there, opened.clone(), said.clone()));
            }
        });
        Self { gate, answers, address }
    }
}

/// Carries the bytes of one connection. What was sent arrives, also when the sender has gone.
async fn carry(
    from: TcpStream,
    there: TcpStream,
    mut opened: watch::Receiver<bool>,
    said: mpsc::UnboundedSender<String>,
) {
    let ((mut from, mut back), (mut answers, mut to)) = (from.into_split(), there.into_split());
    let is_create = AtomicBool::new(false);
    let forwards = async {
        let mut bytes = vec![0; 65_536];
        while let Some(read) = from.read(&mut bytes).await.ok().filter(|read| *read > 0) {
            if bytes.starts_with(b"POST") {
                is_create.store(true, Ordering::SeqCst);
                opened.wait_for(|is_open| *is_open).await.unwrap();
            }
            to.write_all(&bytes[..read]).await.unwrap();
        }
    };
    let backwards = async {
        let mut bytes = vec![0; 65_536];
        while let Some(read) = answers.read(&mut bytes).await.ok().filter(|read| *read > 0) {
            if is_create.swap(false, Ordering::SeqCst) {
                let line =
                    String::from_utf8_lossy(&bytes[..read]).lines().next().map(str::to_owned);
                let _ = said.send(line.unwrap_or_default());
            }
            // The client may have gone.
            let _ = back.write_all(&bytes[..read]).await;
        }
    };
    tokio::join!(forwards, backwards);
}

/// An order whose request is held up on its way, for that long by the clock of all.
struct HeldUp {
    exchange: Exchange,
    clock: Arc<Ahead>,
    way: Way,
    client: Client,
    placement: Placement,
}

impl HeldUp {
    async fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let exchange = Exchange::builder().with_clock(Arc::clone(&shared)).start().await.unwrap();
        exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
        let way = Way::new(exchange.address()).await;
        let client = Client::builder()
            .with_environment(Environment::Custom(format!("http://{}/trade-api/v2", way.address)))
            .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
            .with_clock(Arc::clone(&shared))
            .with_timeout(Duration::from_millis(500))
            .build()
            .unwrap();
        let journal = MemoryJournal::new(1, clock.now());
        let placements = Placements::builder(client.clone(), journal).with_clock(shared);
        let mut order = order("none");
        order.client_order_id = None;
        let placement = placements.start().unwrap().place(order).unwrap();
        while placement.state() != PlacementState::Settling {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { exchange, clock, way, client, placement }
    }

    fn advance(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    /// Lets the request through, and returns the first line of its answer.
    async fn deliver(&mut self) -> String {
        self.way.gate.send(true).unwrap();
        self.way.answers.recv().await.unwrap()
    }

    async fn orders(&self) -> usize {
        self.client.get_orders().ticker(TICKER).all().await.unwrap().len()
    }
}

#[tokio::test]
async fn a_request_that_is_held_up_for_less_than_the_window_is_carried_out_and_found() {
    let mut held = HeldUp::new().await;
    held.advance(10);
    assert!(held.deliver().await.starts_with("HTTP/1.1 201"));
    assert!(matches!(held.placement.outcome().await, PlacementState::Accepted { .. }));
    assert_eq!(held.orders().await, 1);
}

#[tokio::test]
async fn a_request_that_arrives_after_its_order_was_given_up_is_refused_for_its_age() {
    let mut held = HeldUp::new().await;
    held.advance(62);
    assert_eq!(held.placement.outcome().await, PlacementState::GivenUp);
    assert!(held.exchange.requests().iter().all(|request| request.operation != "create_order_v2"));
    // The signature is older than the exchange takes, by the clock that it shares with the client.
    assert!(held.deliver().await.starts_with("HTTP/1.1 401"));
    assert_eq!(held.orders().await, 0);
    assert_eq!(held.placement.state(), PlacementState::GivenUp);
}
