//! The pieces that several of these tests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{
    Client, OperationId,
    auth::{Clock, SystemClock},
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Fault, FaultKind, Role};
use kalshi_trade::{journal::MemoryJournal, placement::Placements};
use kalshi_types::UnixMillis;

/// A market that tests list themselves.
pub(crate) const TICKER: &str = "KXTEST-26-A";

/// Returns an order that rests, without a client order id.
pub(crate) fn limit(
    ticker: &str,
    side: BookSide,
    price: &str,
    count: &str,
) -> CreateOrderV2Request {
    CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(price)
        .count(count)
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .build()
        .unwrap()
}

/// Returns a bid in [`TICKER`] with that client order id.
pub(crate) fn order(id: &str) -> CreateOrderV2Request {
    let mut order = limit(TICKER, BookSide::Bid, "0.40", "1.00");
    order.client_order_id = Some(id.to_owned());
    order.exchange_index = Some(0.into());
    order
}

/// The machine's clock and what it is ahead by, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Ahead(pub(crate) AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> UnixMillis {
        let ahead = self.0.load(Ordering::SeqCst);
        UnixMillis::from_millis(SystemClock.now().as_millis() + ahead)
    }
}

/// Returns the ticker of an open market.
pub(crate) async fn open_market(client: &Client) -> String {
    let markets = client.get_markets().status("open").limit(1).send().await.unwrap();
    markets.markets[0].ticker.clone()
}

/// An exchange, and placements over a journal in memory by a clock that is moved.
pub(crate) struct Setup {
    pub(crate) exchange: Exchange,
    pub(crate) client: Client,
    pub(crate) ticker: String,
    pub(crate) journal: MemoryJournal,
    pub(crate) clock: Arc<Ahead>,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        let exchange = Exchange::start().await.unwrap();
        let client = exchange.client(Role::Trader).unwrap();
        let ticker = open_market(&client).await;
        let clock = Arc::new(Ahead::default());
        let journal = MemoryJournal::new(1, clock.now());
        Self { exchange, client, ticker, journal, clock }
    }

    pub(crate) fn placements(&self) -> Placements {
        Placements::builder(self.client.clone(), self.journal.clone())
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .start()
            .unwrap()
    }

    /// Returns a bid that rests.
    pub(crate) fn bid(&self, count: &str) -> CreateOrderV2Request {
        limit(&self.ticker, BookSide::Bid, "0.0100", count)
    }

    /// Lets an operation fail once.
    pub(crate) fn fault(&self, operation: OperationId, kind: FaultKind) {
        let fault = Fault::builder(kind).with_operation(operation).with_times(1).build();
        self.exchange.faults().add(fault).unwrap();
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.exchange.clock().advance(by).unwrap();
        self.clock.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Returns the number of requests of an operation.
    pub(crate) fn requests(&self, operation: &str) -> usize {
        let requests = self.exchange.requests();
        requests.iter().filter(|request| request.operation == operation).count()
    }
}
