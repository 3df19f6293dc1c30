//! Placements whose surroundings fail: layers of the client, clocks and journals that panic, a disk that
//! stalls, a clock that is set back.

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{
    Client,
    auth::{Clock, OffsetClock, SystemClock},
    middleware::{self, Extensions, Middleware, Next, Request, Response, async_trait},
    types::BookSide,
};
use kalshi_sim::Role;
use kalshi_trade::{
    journal::{
        Appended, FileJournal, History, Journal, JournalError, JournalErrorKind, MemoryJournal,
        OrderChange, Record, Session,
    },
    placement::{
        Change, ChangeState, ChangeTarget, PlacementConfig, PlacementState, Placements,
        WithdrawnCause,
    },
    retry::Retry,
};
use kalshi_types::UnixSeconds;
use tokio::time::{Instant, timeout};

use crate::{
    perps_exchange::{CREATE, Exchange, Fault, accepted, market, order},
    support::Setup,
};

const CANCEL: &str = "DELETE /margin/orders/o-1?";

fn target() -> ChangeTarget {
    ChangeTarget::new("o-1", "KXBTCPERP")
}

fn decrease() -> OrderChange {
    OrderChange::Decrease { remaining: "1.00".parse().unwrap() }
}

/// Waits for the outcome, for an hour of virtual time.
async fn outcome(change: &Change) -> ChangeState {
    timeout(Duration::from_secs(3_600), change.outcome()).await.unwrap()
}

/// A journal in memory that panics, or stalls, where it is told to.
#[derive(Clone, Debug)]
struct Flawed {
    journal: MemoryJournal,
    /// The name of the records that it panics at.
    panics_at: Arc<Mutex<&'static str>>,
    /// Rewrites that were begun: the first of them panics.
    rewrites: Arc<AtomicUsize>,
    is_rewrite_due: bool,
    /// True while a commit waits, if commits may block.
    stalls: Option<Arc<(Mutex<bool>, Condvar)>>,
}

impl Flawed {
    fn new(journal: MemoryJournal) -> Self {
        Self {
            journal,
            panics_at: Arc::default(),
            rewrites: Arc::default(),
            is_rewrite_due: false,
            stalls: None,
        }
    }

    fn panic_at(&self, record: &'static str) {
        *self.panics_at.lock().unwrap() = record;
    }

    fn set_stalled(&self, is_stalled: bool) {
        let (stalls, changed) = self.stalls.as_deref().unwrap();
        *stalls.lock().unwrap() = is_stalled;
        changed.notify_all();
    }
}

/// A stall that ends with the test, also with one that fails: a runtime waits for its threads.
struct Stall<'a>(&'a Flawed);

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        self.0.set_stalled(false);
    }
}

impl Journal for Flawed {
    fn append(&self, record: &Record) -> Result<Appended, JournalError> {
        let at = *self.panics_at.lock().unwrap();
        let name = format!("{record:?}");
        assert!(at.is_empty() || !name.starts_with(at), "the journal is set to panic");
        self.journal.append(record)
    }

    fn commit(&self, appended: Appended) -> Result<(), JournalError> {
        if let Some(stalls) = &self.stalls {
            let (stalls, changed) = &**stalls;
            drop(changed.wait_while(stalls.lock().unwrap(), |stalls| *stalls).unwrap());
        }
        self.journal.commit(appended)
    }

    fn commit_blocks(&self) -> bool {
        self.stalls.is_some()
    }

    fn session(&self) -> Session {
        self.journal.session()
    }

    fn history(&self) -> History {
        self.journal.history()
    }

    fn is_rewrite_due(&self) -> bool {
        self.is_rewrite_due
    }

    fn rewrite(&self) -> Result<(), JournalError> {
        assert_ne!(self.rewrites.fetch_add(1, Ordering::SeqCst), 0, "the journal is set to panic");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_layer_is_a_lost_answer_and_leaves_nothing_open() {
    let exchange = Exchange::new();
    let journal = exchange.journal();
    let placements = exchange.placements(&journal);
    let perps = placements.perps();
    exchange.fault(Fault::LatePanic);
    exchange.lock().read_panics = 3;
    let placement = perps.place(order("a-1"), &market()).unwrap();
    assert_eq!(placement.outcome().await, accepted("o-1"));
    assert_eq!((exchange.count(CREATE), exchange.lock().read_panics), (1, 0));
    // One that was not sent is proven absent, by reads that panic as well.
    exchange.fault(Fault::Panic);
    let absent = perps.place(order("a-2"), &market()).unwrap();
    tokio::time::sleep(Duration::from_secs(62)).await;
    exchange.lock().read_panics = 3;
    assert_eq!(absent.outcome().await, PlacementState::GivenUp);

    exchange.fault(Fault::Panic);
    let change = perps.change(target(), decrease(), &market(), Duration::from_secs(1)).unwrap();
    exchange.lock().read_panics = 2;
    assert_eq!(outcome(&change).await, ChangeState::NotReached);
    exchange.fault(Fault::Panic);
    let cancel = perps.cancel(target());
    assert_eq!(outcome(&cancel).await, ChangeState::Reached);
    assert_eq!(exchange.count(CANCEL), 2);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(placements.open_changes().is_empty());
    assert_eq!(journal.history().unsettled_changes().len(), 0);
    assert_eq!(journal.history().unsettled().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_on_while_a_layer_panics_at_everything_and_does_not_spin() {
    let exchange = Exchange::new();
    let placements = exchange.placements(&exchange.journal());
    let perps = placements.perps();
    assert_eq!(perps.place(order("a-1"), &market()).unwrap().outcome().await, accepted("o-1"));
    exchange.lock().read_panics = usize::MAX;
    for _ in 0..1_000 {
        exchange.fault(Fault::Panic);
    }
    let before = exchange.lock().requests.len();
    let cancel = perps.cancel(target());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let requests = exchange.lock().requests.len() - before;
    assert!((10..200).contains(&requests), "{requests}");
    assert!(!cancel.state().is_final());
    {
        let mut state = exchange.lock();
        state.read_panics = 0;
        state.faults.clear();
    }
    assert_eq!(outcome(&cancel).await, ChangeState::Reached);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_panics_for_a_time_stops_nothing_for_good() {
    let exchange = Exchange::new();
    let placements = exchange.placements(&exchange.journal());
    let perps = placements.perps();
    let panic = |panics| exchange.clock.panics.store(panics, Ordering::SeqCst);
    let placed = perps.place(order("a-1"), &market()).unwrap();
    let lost = perps.place(order("a-2"), &market()).unwrap();
    panic(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(exchange.count(CREATE), 0);
    panic(false);
    // Late: nothing was sent before it.
    for placement in [placed, lost] {
        let withdrawn = PlacementState::Withdrawn(WithdrawnCause::Deadline);
        assert_eq!(placement.outcome().await, withdrawn);
    }
    assert_eq!(perps.place(order("a-3"), &market()).unwrap().outcome().await, accepted("o-1"));
    let cancel = perps.cancel(target());
    // It panics as soon as the answer is there, which is not lost by that.
    tokio::time::sleep(Duration::from_millis(1)).await;
    panic(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    panic(false);
    assert_eq!(outcome(&cancel).await, ChangeState::Reached);
    assert_eq!(exchange.count(CANCEL), 1);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_panics_holds_an_order_back_and_no_cancel() {
    let exchange = Exchange::new();
    let journal = Flawed { is_rewrite_due: true, ..Flawed::new(exchange.journal()) };
    let placements = exchange.placements(&journal);
    let perps = placements.perps();
    assert_eq!(perps.place(order("a-1"), &market()).unwrap().outcome().await, accepted("o-1"));
    journal.panic_at("Intent");
    let withdrawn = PlacementState::Withdrawn(WithdrawnCause::Journal);
    assert_eq!(perps.place(order("a-2"), &market()).unwrap().outcome().await, withdrawn);
    journal.panic_at("Change");
    let change = perps.change(target(), decrease(), &market(), Duration::from_secs(1)).unwrap();
    assert_eq!(outcome(&change).await, ChangeState::Withdrawn(WithdrawnCause::Journal));
    let cancel = perps.cancel(target());
    assert_eq!(outcome(&cancel).await, ChangeState::Reached);
    assert_eq!((exchange.count(CREATE), exchange.lock().requests.len()), (1, 2));
    // A rewrite that has panicked is begun again.
    while journal.rewrites.load(Ordering::SeqCst) < 2 {
        let placement = perps.place(order(&perps.next_id()), &market()).unwrap();
        journal.panic_at("");
        placement.outcome().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A layer that panics at batches of cancels.
struct Panics(AtomicUsize);

#[async_trait]
impl Middleware for Panics {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> middleware::Result<Response> {
        if request.url().path().ends_with("/orders/batched") && request.method() == "DELETE" {
            let left = self.0.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(left, 0, "a layer of the client is set to panic");
        }
        next.run(request, extensions).await
    }
}

impl Setup {
    async fn resting(&self, placements: &Placements) -> ChangeTarget {
        let placement = placements.place(self.bid("1.00")).unwrap();
        let PlacementState::Accepted { order_id } = placement.outcome().await else {
            panic!("{:?}", placement.state())
        };
        ChangeTarget::new(order_id, &*self.ticker)
    }

    async fn is_canceled(&self, target: &ChangeTarget) -> bool {
        let order = self.client.get_order().order_id(&*target.order_id).send().await.unwrap();
        order.order.status.as_str() == "canceled"
    }

    /// Waits until nothing of changes is open in the journal.
    async fn until_settled(&self) {
        while self.journal.history().unsettled_changes().len() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_batch_of_cancels_that_a_layer_panics_at_is_sent_one_by_one() {
    let mut setup = Setup::new().await;
    setup.client = Client::builder()
        .with_environment(setup.exchange.environment())
        .with_credentials(setup.exchange.credentials(Role::Trader).unwrap().clone())
        .with_middleware(Panics(AtomicUsize::new(1)))
        .build()
        .unwrap();
    let placements = setup.placements();
    let targets = [setup.resting(&placements).await, setup.resting(&placements).await];
    for cancel in placements.cancel_all(targets.clone()) {
        assert_eq!(cancel.outcome().await, ChangeState::Reached);
    }
    setup.until_settled().await;
    assert!(setup.is_canceled(&targets[0]).await && setup.is_canceled(&targets[1]).await);
    assert_eq!(setup.requests("cancel_order_v2"), 2);
    while !placements.open_changes().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_a_disk_that_stalls() {
    let setup = Setup::new().await;
    let journal = Flawed { stalls: Some(Arc::default()), ..Flawed::new(setup.journal.clone()) };
    let placements = Placements::builder(setup.client.clone(), journal.clone()).start().unwrap();
    let mut targets = Vec::new();
    for _ in 0..3 {
        targets.push(setup.resting(&placements).await);
    }
    journal.set_stalled(true);
    let _stall = Stall(&journal);
    // An order is not sent meanwhile, and neither is an amend.
    let placement = placements.place_within(setup.bid("1.00"), Duration::MAX).unwrap();
    let one = placements.change(targets[0].clone(), OrderChange::Cancel, Duration::ZERO).unwrap();
    let batch = placements.cancel_all(targets[1..].to_vec());
    for cancel in [&one].into_iter().chain(&batch) {
        // Far longer than it takes, and not for good.
        let outcome = timeout(Duration::from_secs(60), cancel.outcome()).await;
        assert_eq!(outcome, Ok(ChangeState::Reached));
    }
    for target in &targets {
        assert!(setup.is_canceled(target).await);
    }
    assert_eq!(
        (setup.requests("create_order_v2"), placement.state()),
        (3, PlacementState::Prepared)
    );
    assert_eq!(
        (setup.requests("cancel_order_v2"), setup.requests("batch_cancel_orders_v2")),
        (1, 1)
    );
    // What was written late is settled late.
    assert_eq!(setup.journal.history().unsettled_changes().len(), 3);
    journal.set_stalled(false);
    setup.until_settled().await;
    assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
}

#[tokio::test]
async fn a_cancel_that_is_withdrawn_while_the_disk_stalls_holds_up_no_other_of_its_batch() {
    let setup = Setup::new().await;
    let journal = Flawed { stalls: Some(Arc::default()), ..Flawed::new(setup.journal.clone()) };
    let placements = Placements::builder(setup.client.clone(), journal.clone()).start().unwrap();
    let targets = [setup.resting(&placements).await, setup.resting(&placements).await];
    journal.set_stalled(true);
    let _stall = Stall(&journal);
    let cancels = placements.cancel_all(targets.clone());
    while setup.journal.history().unsettled_changes().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cancels[1].withdraw();
    // Far longer than it takes, and not for good.
    let outcome = timeout(Duration::from_secs(60), cancels[0].outcome()).await;
    assert_eq!(outcome, Ok(ChangeState::Reached));
    assert!(setup.is_canceled(&targets[0]).await);
    journal.set_stalled(false);
    setup.until_settled().await;
}

#[tokio::test]
async fn a_time_of_expiry_is_not_sent_again_after_a_correction_of_the_clock() {
    let mut setup = Setup::new().await;
    let clock = Arc::new(OffsetClock::new(SystemClock));
    let retry = Retry::builder().with_clock_correction(Arc::clone(&clock)).build();
    setup.client = Client::builder()
        .with_environment(setup.exchange.environment())
        .with_credentials(setup.exchange.credentials(Role::Trader).unwrap().clone())
        .with_clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .with_middleware(retry)
        .build()
        .unwrap();
    let placements = Placements::builder(setup.client.clone(), setup.journal.clone());
    let placements = placements.with_clock(Arc::clone(&clock) as Arc<dyn Clock>).start().unwrap();
    let expires = || Some(UnixSeconds::from_seconds(clock.now().as_millis() / 1_000 + 600));
    let expiring = || {
        let mut order = setup.bid("1.00");
        order.expiration_time = expires();
        order
    };
    let skew = |millis| setup.exchange.clock().set_member_skew(millis);
    let is_refused = |state: &PlacementState| matches!(state, PlacementState::Refused(refusal) if refusal.status == 401);

    skew(90_000);
    let state = placements.place(expiring()).unwrap().outcome().await;
    assert!(is_refused(&state), "{state:?}");
    assert!(clock.offset().as_millis() > 80_000, "the clock is corrected for the next one");
    let state = placements.place(expiring()).unwrap().outcome().await;
    let PlacementState::Accepted { order_id } = state else { panic!("{state:?}") };
    skew(0);
    let batch = placements.place_all([setup.bid("1.00"), expiring()], Duration::from_secs(5));
    for placement in batch.unwrap() {
        let state = placement.outcome().await;
        assert!(is_refused(&state), "{state:?}");
    }
    skew(90_000);
    let amend = OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: "0.0200".parse().unwrap(),
        total: "1.00".parse().unwrap(),
        expires: expires(),
    };
    let target = ChangeTarget::new(order_id, &*setup.ticker);
    let amend = placements.change(target.clone(), amend, Duration::from_secs(5)).unwrap();
    let state = amend.outcome().await;
    assert!(matches!(&state, ChangeState::Refused(refusal) if refusal.status == 401), "{state:?}");
    // What has no such time is sent again.
    skew(0);
    let cancel = placements.change(target.clone(), OrderChange::Cancel, Duration::ZERO).unwrap();
    assert_eq!(cancel.outcome().await, ChangeState::Reached);
    skew(90_000);
    let state = placements.place(setup.bid("1.00")).unwrap().outcome().await;
    assert!(matches!(state, PlacementState::Accepted { .. }), "{state:?}");
}

/// A path in a directory that goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("kalshi-trade-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self, exchange: &Exchange) -> Result<FileJournal, JournalError> {
        let builder = FileJournal::builder(self.0.join("journal"));
        builder.with_clock(exchange.clock.clone()).open()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_journal_of_a_dropped_handle_can_be_opened_again() {
    let directory = Directory::new("reopen");
    let exchange = Exchange::new();
    let start = |journal| {
        let config = PlacementConfig::default().with_undecided_after(Duration::from_secs(1));
        let placements = Placements::builder(exchange.client(), journal).with_config(config);
        placements.with_clock(exchange.clock.clone()).start().unwrap()
    };
    let placements = start(directory.open(&exchange).unwrap());
    exchange.fault(Fault::Version);
    let refused = placements.perps().place(order("a-1"), &market()).unwrap();
    assert!(matches!(refused.outcome().await, PlacementState::Refused(_)));
    let place = |within| placements.perps().place_within(order("a-2"), &market(), within).unwrap();
    let withdrawn = place(Duration::ZERO).outcome().await;
    assert_eq!(withdrawn, PlacementState::Withdrawn(WithdrawnCause::Deadline));
    exchange.fault(Fault::Lost);
    let undecided = placements.perps().place(order("a-3"), &market()).unwrap();
    assert!(matches!(undecided.outcome().await, PlacementState::Undecided(_)));
    exchange.fault(Fault::Lost);
    exchange.lock().is_blind = true;
    let cancel = placements.perps().cancel(ChangeTarget::new("o-9", "KXBTCPERP"));
    assert!(matches!(cancel.outcome().await, ChangeState::Undecided(_)));
    tokio::time::sleep(Duration::from_millis(100)).await;

    let another = placements.clone();
    drop(placements);
    assert_eq!(directory.open(&exchange).unwrap_err().kind(), JournalErrorKind::Locked);
    drop(another);
    let journal = directory.open(&exchange).unwrap();
    assert_eq!(journal.history().unsettled().len(), 1);
    // The next handle goes on with what was left.
    let placements = start(journal);
    assert_eq!(placements.restored_changes().len(), 1);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(placements.restored()[0].state(), PlacementState::GivenUp);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_no_pause_and_no_deadline_longer() {
    let exchange = Exchange::new();
    let placements = exchange.placements(&exchange.journal());
    let perps = placements.perps();
    let set_back = || exchange.clock.ahead.fetch_sub(3_600_000, Ordering::SeqCst);
    let within = Duration::from_secs(1);
    let place = |id: &str| perps.place_within(order(id), &market(), within).unwrap();
    // In the pause after a connection that could not be made.
    exchange.fault(Fault::NotConnected);
    let placement = place("a-1");
    tokio::time::sleep(Duration::from_millis(20)).await;
    set_back();
    let accepted_in = timeout(Duration::from_secs(1), placement.outcome()).await;
    assert_eq!(accepted_in.unwrap(), accepted("o-1"));
    // Sent within that time, or not at all.
    for _ in 0..1_000 {
        exchange.fault(Fault::NotConnected);
    }
    let began = Instant::now();
    let late = place("a-2");
    tokio::time::sleep(Duration::from_millis(20)).await;
    set_back();
    assert_eq!(late.outcome().await, PlacementState::Withdrawn(WithdrawnCause::Deadline));
    assert!(began.elapsed() < 2 * within, "{:?}", began.elapsed());
    let change = perps.change(target(), decrease(), &market(), within).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    set_back();
    assert_eq!(outcome(&change).await, ChangeState::Withdrawn(WithdrawnCause::Deadline));
    assert!(began.elapsed() < 4 * within, "{:?}", began.elapsed());
    exchange.lock().faults.clear();
    // A cancel in the pause before its order is read.
    exchange.fault(Fault::Lost);
    let cancel = perps.cancel(target());
    tokio::time::sleep(Duration::from_millis(20)).await;
    set_back();
    let canceled = timeout(Duration::from_secs(2), cancel.outcome()).await;
    assert_eq!(canceled.unwrap(), ChangeState::Reached);
}
