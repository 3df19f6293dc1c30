//! One reading of the account for many processes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use kalshi_fanout::nats::{AccountError, AccountServer, NatsAccount};
use kalshi_types::{Count, Dollars, UnixMillis};
use kalshi_ws::{AccountSnapshot, AccountSource, FillRecord};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::broker::{self, Broker};

const PATIENCE: Duration = Duration::from_secs(30);
const FILLS: i64 = 4_000;

struct State {
    /// A reading ends with a permit.
    gate: Semaphore,
    fails: AtomicBool,
    since: Mutex<Vec<Option<UnixMillis>>>,
}

/// An account whose time is the number of its reading.
struct Rest(Arc<State>);

impl AccountSource for Rest {
    type Error = &'static str;

    async fn fetch_as_of(&self) -> Result<UnixMillis, &'static str> {
        Ok(at(7))
    }

    async fn fetch_account(
        &self,
        since: Option<UnixMillis>,
    ) -> Result<AccountSnapshot, &'static str> {
        let number = {
            let mut readings = self.0.since.lock().unwrap();
            readings.push(since);
            readings.len()
        };
        self.0.gate.acquire().await.unwrap().forget();
        if self.0.fails.load(Ordering::Relaxed) {
            return Err("the exchange is paused");
        }
        let mut snapshot = AccountSnapshot::new(at(i64::try_from(number).unwrap()));
        snapshot.fills = (0..FILLS).map(fill).collect();
        Ok(snapshot)
    }
}

const fn at(millis: i64) -> UnixMillis {
    UnixMillis::from_millis(millis)
}

/// A fill, one each second.
fn fill(number: i64) -> FillRecord {
    FillRecord {
        trade_id: format!("trade-{number}"),
        order_id: "order".to_owned(),
        client_order_id: None,
        market_ticker: "A".to_owned(),
        subaccount: None,
        outcome_side: "yes".into(),
        book_side: "bid".into(),
        yes_price: Dollars::from_micros(500_000),
        count: Count::from_hundredths(100),
        fee: Dollars::from_micros(1),
        is_taker: true,
        ts_ms: Some(at(1_000 * number)),
        position_after: None,
    }
}

async fn serve(broker: &Broker, state: &Arc<State>) -> JoinHandle<()> {
    let config = broker::config(&broker.url());
    let source = Rest(Arc::clone(state));
    let mut server = AccountServer::connect(config, "main", source).await.unwrap();
    tokio::spawn(async move { server.run().await })
}

/// Waits until the broker knows of a server.
async fn served(account: &NatsAccount) {
    let known = async {
        while !matches!(account.fetch_as_of().await, Ok(as_of) if as_of == at(7)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, known).await.unwrap();
}

fn ask(account: &Arc<NatsAccount>, since: Option<i64>) -> JoinHandle<AccountSnapshot> {
    let account = Arc::clone(account);
    tokio::spawn(async move { account.fetch_account(since.map(at)).await.unwrap() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_share_the_reading_that_begins_after_them() {
    let Some(mut broker) = Broker::start() else { return };
    let state = Arc::new(State {
        gate: Semaphore::new(0),
        fails: AtomicBool::new(false),
        since: Mutex::default(),
    });
    let mut accounts = Vec::new();
    for _ in 0..3 {
        let account = NatsAccount::connect(broker::config(&broker.url()), "main").await.unwrap();
        accounts.push(Arc::new(account.with_timeout(Duration::from_secs(10))));
    }
    let alone = accounts[0].fetch_as_of().await;
    assert!(matches!(alone, Err(AccountError::NoServer { .. })), "{alone:?}");
    let server = serve(&broker, &state).await;
    for account in &accounts {
        served(account).await;
    }

    let spy = async_nats::connect(broker.url()).await.unwrap();
    let mut requests = spy.subscribe("kx.v1.sim.ask.main").await.unwrap();
    spy.flush().await.unwrap();
    let first = ask(&accounts[0], Some(3_900_000));
    while state.since.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    // During that reading: both share the next one, with the earlier time.
    let second = ask(&accounts[1], Some(1_000_000));
    let third = ask(&accounts[2], Some(3_000_000));
    for _ in 0..2 {
        timeout(PATIENCE, requests.next()).await.unwrap().unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    state.gate.add_permits(2);
    let found = [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()];
    assert_eq!(*state.since.lock().unwrap(), [Some(at(3_900_000)), Some(at(1_000_000))]);
    // Each has what it asked for, from the second before on.
    for (snapshot, (as_of, from)) in found.iter().zip([(1, 3_899), (2, 999), (2, 2_999)]) {
        assert_eq!(snapshot.as_of, at(as_of));
        assert!(snapshot.fills.iter().cloned().eq((from..FILLS).map(fill)));
    }

    // The error of the source is the answer.
    state.fails.store(true, Ordering::Relaxed);
    state.gate.add_permits(1);
    let failed = accounts[0].fetch_account(None).await.unwrap_err();
    assert!(matches!(&failed, AccountError::Source { reason } if reason.contains("paused")));
    state.fails.store(false, Ordering::Relaxed);

    // A server that is killed, and a new one.
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    let server = serve(&broker, &state).await;
    served(&accounts[1]).await;
    state.gate.add_permits(1);
    assert_eq!(accounts[1].fetch_account(None).await.unwrap().fills.len(), 4_000);

    broker.kill();
    assert!(accounts[2].fetch_as_of().await.is_err());
    broker.restart(true);
    served(&accounts[2]).await;
    server.abort();
}
