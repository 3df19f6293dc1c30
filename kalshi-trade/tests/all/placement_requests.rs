//! The requests of placements: the shards that they name, and the class that they go with.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use kalshi_sdk::{
    Client, Operation, OperationId,
    auth::Clock,
    middleware::{self, Extensions, Middleware, Next, Request, Response, async_trait},
    types::{BookSide, ExchangeIndex},
};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role};
use kalshi_trade::{
    budget::{Class, RequestOptions},
    journal::{Journal as _, MemoryJournal, OrderChange},
    placement::{Change, ChangeState, ChangeTarget, PlacementState, Placements, WithdrawnCause},
    trading::Trading,
};
use kalshi_types::{Count, Dollars};

use crate::support::{Ahead, TICKER, limit};

const WITHIN: Duration = Duration::from_secs(5);

/// The shard of the market of these tests.
const SHARD: i64 = 2;

/// A request as a layer sees it.
#[derive(Clone, Debug)]
struct Seen {
    operation: &'static str,
    /// The shard that its query or its body names.
    shard: Option<i64>,
    class: Option<Class>,
}

/// A layer that keeps what passes it.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Vec<Seen>>>);

#[async_trait]
impl Middleware for Recorder {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> middleware::Result<Response> {
        let operation = extensions.get::<&'static Operation>().unwrap().id;
        let query = request.url().query_pairs();
        let shard = query.filter(|(name, _)| name == "exchange_index").map(|(_, value)| value);
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let of_item = body.pointer("/orders/0/exchange_index");
        let of_body = body.get("exchange_index").or(of_item).and_then(serde_json::Value::as_i64);
        let shard = shard.last().map(|shard| shard.parse().unwrap()).or(of_body);
        let class = extensions.get::<RequestOptions>().and_then(RequestOptions::class);
        self.0.lock().unwrap().push(Seen { operation, shard, class });
        next.run(request, extensions).await
    }
}

struct Setup {
    exchange: Exchange,
    client: Client,
    seen: Recorder,
    journal: MemoryJournal,
    clock: Arc<Ahead>,
}

impl Setup {
    async fn new() -> Self {
        let exchange = Exchange::start().await.unwrap();
        let mut plan = MarketPlan::new(TICKER, 86_400);
        plan.exchange_index = SHARD.try_into().unwrap();
        exchange.markets().list(plan).unwrap();
        let seen = Recorder::default();
        let client = Client::builder()
            .with_environment(exchange.environment())
            .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
            .with_middleware(seen.clone())
            .build()
            .unwrap();
        let clock = Arc::new(Ahead::default());
        let journal = MemoryJournal::new(1, clock.now());
        Self { exchange, client, seen, journal, clock }
    }

    fn placements(&self) -> Placements {
        Placements::builder(self.client.clone(), self.journal.clone())
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .start()
            .unwrap()
    }

    fn fault(&self, operation: OperationId, kind: FaultKind) {
        let fault = Fault::builder(kind).with_operation(operation).with_times(1).build();
        self.exchange.faults().add(fault).unwrap();
    }

    fn advance(&self, by: Duration) {
        self.exchange.clock().advance(by).unwrap();
        self.clock.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Returns the shards that the requests of an operation have named.
    fn shards(&self, operation: &str) -> Vec<Option<i64>> {
        let seen = self.seen.0.lock().unwrap();
        seen.iter().filter(|one| one.operation == operation).map(|one| one.shard).collect()
    }

    /// Places an order that names its shard or not, and returns it.
    async fn placed(&self, placements: &Placements, shard: Option<i64>) -> ChangeTarget {
        let mut order = limit(TICKER, BookSide::Bid, "0.01", "10.00");
        order.exchange_index = shard.map(ExchangeIndex::from);
        let placement = placements.place(order).unwrap();
        let PlacementState::Accepted { order_id } = placement.outcome().await else {
            panic!("{:?}", placement.state())
        };
        ChangeTarget::new(order_id, TICKER)
    }
}

async fn wait_for(change: &Change, state: ChangeState) {
    while change.state() != state {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn changes() -> [OrderChange; 3] {
    [
        OrderChange::Amend {
            side: BookSide::Bid,
            yes_price: Dollars::from_cents(2).unwrap(),
            total: Count::from_hundredths(800),
            expires: None,
        },
        OrderChange::Decrease { remaining: Count::from_hundredths(300) },
        OrderChange::Cancel,
    ]
}

const OPERATIONS: [&str; 3] = ["amend_order_v2", "decrease_order_v2", "cancel_order_v2"];

#[tokio::test]
async fn changes_name_the_shard_that_is_known_and_none_that_is_not() {
    for (of_order, of_target, expected) in [
        (None, None, None),
        (None, Some(SHARD), Some(SHARD)),
        // -1 names none.
        (Some(-1), Some(-1), None),
        (Some(SHARD), None, Some(SHARD)),
    ] {
        let setup = Setup::new().await;
        let placements = setup.placements();
        let target = setup.placed(&placements, of_order).await.with_exchange_index(of_target);
        for change in changes() {
            let change = placements.change(target.clone(), change, WITHIN).unwrap();
            assert_eq!(change.intent().exchange_index, expected);
            assert_eq!(change.outcome().await, ChangeState::Reached);
        }
        for operation in OPERATIONS {
            assert_eq!(setup.shards(operation), [expected], "{operation}");
        }
        let target = setup.placed(&placements, of_order).await.with_exchange_index(of_target);
        for change in placements.cancel_all([target]) {
            assert_eq!(change.outcome().await, ChangeState::Reached);
        }
        assert_eq!(setup.shards("batch_cancel_orders_v2"), [expected]);
    }
}

#[test]
fn a_restart_names_the_shard_of_a_change_of_the_session_before() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (living, dying) = (runtime(), runtime());
    let setup = living.block_on(Setup::new());
    dying.block_on(async {
        let placements = setup.placements();
        let target = setup.placed(&placements, Some(SHARD)).await;
        setup.fault(OperationId::CancelOrderV2, FaultKind::ResetBefore);
        let unreadable =
            Fault::builder(FaultKind::status(500)).with_operation(OperationId::GetOrder);
        setup.exchange.faults().add(unreadable.build()).unwrap();
        let change = placements.change(target, OrderChange::Cancel, WITHIN).unwrap();
        wait_for(&change, ChangeState::Settling).await;
    });
    dying.shutdown_timeout(Duration::from_secs(10));
    setup.exchange.faults().clear();
    setup.journal.reopen(2, setup.clock.now()).unwrap();
    setup.seen.0.lock().unwrap().clear();
    living.block_on(async {
        let placements = setup.placements();
        let restored = placements.restored_changes();
        assert_eq!(restored.len(), 1);
        assert_eq!(restored[0].outcome().await, ChangeState::Reached);
    });
    assert_eq!(setup.shards("cancel_order_v2"), [Some(SHARD)]);
}

#[tokio::test]
async fn a_cancel_that_is_not_found_on_its_shard_is_sent_again_without_it() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let target = setup.placed(&placements, None).await.with_exchange_index(Some(0));
    let change = placements.change(target, OrderChange::Cancel, WITHIN).unwrap();
    assert_eq!(change.outcome().await, ChangeState::Reached);
    assert_eq!(setup.shards("cancel_order_v2"), [Some(0), None]);
    // A batch, too.
    let target = setup.placed(&placements, None).await.with_exchange_index(Some(0));
    let changes = placements.cancel_all([target]);
    assert_eq!(changes[0].outcome().await, ChangeState::Reached);
    assert_eq!(setup.shards("batch_cancel_orders_v2"), [Some(0)]);
    assert_eq!(setup.shards("cancel_order_v2"), [Some(0), None, None]);
}

#[tokio::test]
async fn trading_names_the_shard_that_it_has_learned() {
    let setup = Setup::new().await;
    let trading = Trading::builder(setup.client.clone(), setup.journal.clone()).unwrap();
    let mut trading = trading.start().await.unwrap();
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    let order = limit(TICKER, BookSide::Bid, "0.01", "10.00");
    let placement = trading.place(order, WITHIN).unwrap();
    let key = loop {
        trading.next().await.unwrap();
        let key = trading.orders().by_client_order_id(placement.id().as_str());
        let order = key.and_then(|key| trading.orders().get(key));
        if let Some(key) = key.filter(|_| order.is_some_and(|order| order.record().is_some())) {
            break key;
        }
    };
    let market = setup.client.get_market().ticker(TICKER).send().await.unwrap();
    trading.learn_market(&market.market);
    trading.cancel(key).await.unwrap();
    assert_eq!(setup.shards("create_order_v2"), [None]);
    assert_eq!(setup.shards("cancel_order_v2"), [Some(SHARD)]);
    while trading.orders().own_open().next().is_some() {
        trading.next().await.unwrap();
    }
    // What becomes of it is read before all others.
    let seen = setup.seen.0.lock().unwrap();
    let mut reads = seen.iter().filter(|one| one.operation == "get_order");
    assert!(reads.all(|one| one.class == Some(Class::Urgent)));
}

#[tokio::test]
async fn reads_that_settle_an_outcome_go_before_all_others() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let target = setup.placed(&placements, Some(SHARD)).await;
    setup.fault(OperationId::CreateOrderV2, FaultKind::ResetBefore);
    setup.fault(OperationId::AmendOrderV2, FaultKind::ResetBefore);
    let order = limit(TICKER, BookSide::Bid, "0.01", "10.00");
    let placement = placements.place(order).unwrap();
    while placement.state() != PlacementState::Settling {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [amend, ..] = changes();
    let change = placements.change(target, amend, WITHIN).unwrap();
    wait_for(&change, ChangeState::Settling).await;
    setup.advance(Duration::from_secs(62));
    assert_eq!(placement.outcome().await, PlacementState::GivenUp);
    assert_eq!(change.outcome().await, ChangeState::NotReached);
    let seen = setup.seen.0.lock().unwrap();
    for operation in ["get_user_data_timestamp", "get_orders", "get_historical_cutoff", "get_order"]
    {
        let classes: Vec<_> =
            seen.iter().filter(|one| one.operation == operation).map(|one| one.class).collect();
        assert!(!classes.is_empty(), "{operation}");
        assert!(classes.iter().all(|class| *class == Some(Class::Urgent)), "{operation}");
    }
    // What is sent goes as its operation does.
    let is_write = |one: &&Seen| one.operation.ends_with("_order_v2");
    assert!(seen.iter().filter(is_write).all(|one| one.class.is_none()));
}

#[tokio::test]
async fn what_is_withdrawn_before_its_task_has_run_is_never_sent() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let withdrawn = PlacementState::Withdrawn(WithdrawnCause::Caller);
    let target = setup.placed(&placements, None).await;
    setup.seen.0.lock().unwrap().clear();
    let placement = placements.place(limit(TICKER, BookSide::Bid, "0.01", "10.00")).unwrap();
    placement.withdraw();
    let [amend, _, cancel] = changes();
    let amend = placements.change(target.clone(), amend, WITHIN).unwrap();
    amend.withdraw();
    assert_eq!(placement.outcome().await, withdrawn);
    assert_eq!(amend.outcome().await, ChangeState::Withdrawn(WithdrawnCause::Caller));
    let cancel = placements.change(target, cancel, WITHIN).unwrap();
    cancel.withdraw();
    assert_eq!(cancel.outcome().await, ChangeState::Withdrawn(WithdrawnCause::Caller));
    assert!(setup.seen.0.lock().unwrap().is_empty());
    assert_eq!(setup.journal.history().settled_count(), 1);
}
