//! Orders whose expiry rolls: what renews them, what that undoes, and what is left of it after a death.

use std::{sync::Arc, time::Duration};

use kalshi_sdk::{Client, OperationId, auth::Clock, types::BookSide};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role};
use kalshi_trade::{
    journal::{Journal as _, MemoryJournal, OrderChange, Record, Session},
    orders::{IntentError, Life, OrderKey},
    placement::ChangeState,
    trading::{AmendError, Trading, TradingBuilder},
};
use kalshi_types::{Count, Dollars, UnixMillis};
use tokio::{runtime::Runtime, time::timeout};

use crate::support::{Ahead, TICKER, limit};

const WITHIN: Duration = Duration::from_secs(600);
/// Long enough for an order to outlive a minute of proof.
const SPAN: Duration = Duration::from_secs(400);

/// An exchange by a clock that is moved.
struct Setup {
    exchange: Exchange,
    clock: Arc<Ahead>,
    journal: MemoryJournal,
}

impl Setup {
    async fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let builder = Exchange::builder().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let exchange = builder.start().await.unwrap();
        exchange.markets().list(MarketPlan::new(TICKER, 864_000)).unwrap();
        let journal = MemoryJournal::new(1, clock.now());
        Self { exchange, clock, journal }
    }

    fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        self.clock.0.fetch_add(by, std::sync::atomic::Ordering::SeqCst);
    }

    fn client(&self) -> Client {
        Client::builder()
            .with_environment(self.exchange.environment())
            .with_credentials(self.exchange.credentials(Role::Trader).unwrap().clone())
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .build()
            .unwrap()
    }

    fn builder(&self) -> TradingBuilder {
        let builder = Trading::builder(self.client(), self.journal.clone()).unwrap();
        builder.with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    fn fault(&self, kind: FaultKind) {
        let fault = Fault::builder(kind).with_operation(OperationId::AmendOrderV2);
        self.exchange.faults().add(fault.build()).unwrap();
    }

    fn amends(&self) -> usize {
        let requests = self.exchange.requests();
        requests.iter().filter(|request| request.operation == "amend_order_v2").count()
    }

    /// Returns the times of expiry of the renewals that the journal has open.
    fn open_renewals(&self) -> Vec<i64> {
        let history = self.journal.history();
        let open = history.unsettled_changes().filter_map(|one| match &one.intent.change {
            OrderChange::Amend { expires: Some(expires), .. } => Some(expires.as_seconds()),
            _ => None,
        });
        open.collect()
    }

    async fn expires(&self, order_id: &str) -> UnixMillis {
        let order = self.client().get_order().order_id(order_id).send().await.unwrap();
        order.order.expiration_time.unwrap().into()
    }
}

async fn start(builder: TradingBuilder) -> Trading {
    let mut trading = builder.start().await.unwrap();
    until(&mut trading, Trading::is_current).await;
    trading
}

/// Calls `next` until something is so that perhaps no event tells.
async fn until(trading: &mut Trading, is_so: impl Fn(&Trading) -> bool) {
    while !is_so(trading) {
        step(trading).await;
    }
}

/// Lets a moment pass.
async fn step(trading: &mut Trading) {
    let _ = timeout(Duration::from_millis(20), trading.next()).await;
}

/// Places an order, and returns its key when it rests.
async fn resting(trading: &mut Trading) -> OrderKey {
    let order = limit(TICKER, BookSide::Bid, "0.0100", "10.00");
    let placement = trading.place(order, WITHIN).unwrap();
    let key = |trading: &Trading| {
        let key = trading.orders().by_client_order_id(placement.id().as_str())?;
        (trading.orders().get(key)?.life() == Life::Resting).then_some(key)
    };
    until(trading, |trading| key(trading).is_some()).await;
    key(trading).unwrap()
}

fn amend(
    trading: &mut Trading,
    key: OrderKey,
) -> Result<kalshi_trade::placement::Change, AmendError> {
    let (price, total) = (Dollars::from_cents(2).unwrap(), Count::from_contracts(10).unwrap());
    trading.amend(key, price, total, WITHIN)
}

fn is_pending(amended: &Result<kalshi_trade::placement::Change, AmendError>) -> bool {
    matches!(amended, Err(AmendError::Intent(IntentError::Pending)))
}

#[tokio::test]
async fn a_renewal_is_in_the_journal_before_it_is_sent_and_until_it_is_settled() {
    let setup = Setup::new().await;
    let mut trading = start(setup.builder().with_rolling_expiry(SPAN)).await;
    let key = resting(&mut trading).await;
    let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
    let before = setup.expires(&order_id).await;
    setup.advance(SPAN / 2 + Duration::from_secs(2));
    until(&mut trading, |_| setup.amends() > 0).await;
    while setup.expires(&order_id).await == before {
        step(&mut trading).await;
    }
    until(&mut trading, |_| setup.open_renewals().is_empty()).await;
    // Another change is taken again, and keeps the expiry.
    let renewed = setup.expires(&order_id).await;
    assert_eq!(amend(&mut trading, key).unwrap().outcome().await, ChangeState::Reached);
    assert_eq!((setup.expires(&order_id).await, setup.amends()), (renewed, 2));
}

#[tokio::test]
async fn a_renewal_that_the_journal_does_not_take_is_not_sent() {
    let setup = Setup::new().await;
    let mut trading = start(setup.builder().with_rolling_expiry(SPAN)).await;
    resting(&mut trading).await;
    setup.journal.set_full(true);
    setup.advance(SPAN / 2 + Duration::from_secs(2));
    // A journal that has refused a record takes none any more.
    let Session { number, nonce, .. } = setup.journal.session();
    let has_refused = |_: &Trading| {
        setup.journal.set_full(false);
        let has_refused = setup.journal.append(&Record::Past { number, nonce }).is_err();
        setup.journal.set_full(true);
        has_refused
    };
    until(&mut trading, has_refused).await;
    until(&mut trading, |trading| trading.placements().open_changes().is_empty()).await;
    assert_eq!(setup.amends(), 0);
}

#[tokio::test]
async fn a_lost_renewal_is_repeated_and_holds_other_changes_back() {
    let setup = Setup::new().await;
    let mut trading = start(setup.builder().with_rolling_expiry(SPAN)).await;
    let key = resting(&mut trading).await;
    let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
    let before = setup.expires(&order_id).await;
    setup.fault(FaultKind::ResetBefore);
    setup.advance(SPAN / 2 + Duration::from_secs(2));
    until(&mut trading, |_| setup.open_renewals().len() >= 2).await;
    assert!(is_pending(&amend(&mut trading, key)));
    setup.exchange.faults().clear();
    while setup.expires(&order_id).await == before {
        step(&mut trading).await;
    }
    // Those that never arrived may still do so.
    assert!(is_pending(&amend(&mut trading, key)));
    setup.advance(Duration::from_secs(62));
    until(&mut trading, |_| setup.open_renewals().is_empty()).await;
    let mut amended = amend(&mut trading, key);
    while is_pending(&amended) {
        step(&mut trading).await;
        amended = amend(&mut trading, key);
    }
    assert_eq!(amended.unwrap().outcome().await, ChangeState::Reached);
}

/// Each with the fault that the renewal of the first session meets, and what becomes of it.
#[test]
fn a_renewal_of_a_session_that_died_holds_the_changes_of_the_next_back() {
    for (kind, outcome) in [
        (FaultKind::ResetBefore, ChangeState::NotReached),
        // It is carried out when the first session is long dead.
        (FaultKind::late(Duration::from_secs(20)), ChangeState::Reached),
    ] {
        let runtime = Runtime::new().unwrap();
        let setup = runtime.block_on(Setup::new());
        let dying = Runtime::new().unwrap();
        let order_id = dying.block_on(async {
            let mut trading = start(setup.builder().with_rolling_expiry(SPAN)).await;
            let key = resting(&mut trading).await;
            let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
            setup.fault(kind);
            setup.advance(SPAN / 2 + Duration::from_secs(2));
            until(&mut trading, |_| setup.amends() > 0).await;
            order_id
        });
        dying.shutdown_timeout(Duration::from_secs(10));
        setup.exchange.faults().clear();
        let open = setup.open_renewals();
        assert_eq!(open.len(), 1);
        setup.journal.reopen(2, setup.clock.now()).unwrap();
        runtime.block_on(async {
            // It does not roll the expiry itself.
            let mut trading = start(setup.builder()).await;
            let key = trading.orders().by_order_id(&order_id).unwrap();
            assert!(is_pending(&amend(&mut trading, key)));
            let restored = trading.placements().restored_changes();
            assert_eq!(restored.len(), 1);
            setup.advance(Duration::from_secs(21));
            step(&mut trading).await;
            if outcome == ChangeState::NotReached {
                assert!(is_pending(&amend(&mut trading, key)), "it may still arrive");
            }
            setup.advance(Duration::from_secs(41));
            assert_eq!(restored[0].outcome().await, outcome);
            let changed = setup.expires(&order_id).await.as_millis() == open[0] * 1_000;
            assert_eq!(changed, outcome == ChangeState::Reached);
            let mut amended = amend(&mut trading, key);
            while is_pending(&amended) {
                step(&mut trading).await;
                amended = amend(&mut trading, key);
            }
            assert_eq!(amended.unwrap().outcome().await, ChangeState::Reached);
            let order = setup.client().get_order().order_id(&*order_id).send().await.unwrap();
            assert_eq!(order.order.yes_price_dollars, Dollars::from_cents(2).unwrap());
        });
    }
}

#[tokio::test]
async fn in_a_pause_no_renewal_is_sent_and_after_it_they_go_on() {
    let setup = Setup::new().await;
    let often = Duration::from_millis(30);
    let builder = setup.builder().with_rolling_expiry(SPAN).with_status_every(often);
    let mut trading = start(builder).await;
    let key = resting(&mut trading).await;
    let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
    let before = setup.expires(&order_id).await;
    setup.exchange.markets().set_shard(0, true, false).unwrap();
    for shard in 1..4 {
        let _ = setup.exchange.markets().set_shard(shard, true, false);
    }
    until(&mut trading, |trading| {
        trading.trading_status().check_any(kalshi_trade::pause::OrderRequest::Make).is_err()
    })
    .await;
    setup.advance(SPAN / 2 + Duration::from_secs(2));
    // Each of these steps is one in which it would be due.
    for _ in 0..20 {
        setup.advance(Duration::from_secs(5));
        step(&mut trading).await;
    }
    assert_eq!((setup.amends(), setup.open_renewals().len()), (0, 0));
    setup.exchange.markets().set_shard(0, true, true).unwrap();
    while setup.expires(&order_id).await == before {
        setup.advance(Duration::from_millis(500));
        step(&mut trading).await;
    }
    assert_eq!(trading.orders().get(key).unwrap().life(), Life::Resting);
}
