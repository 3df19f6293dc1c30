//! Your account: the view that the streams keep, reconciled with what REST says, against the
//! exchange of `kalshi-sim`. What the view has in the end is compared with what REST has.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::FutureExt as _;
use kalshi_sdk::{
    Client, Count, Credentials, Dollars, ErrorKind, UnixMillis,
    request::Complete,
    streams::{
        AccountSource, Backoff, Connection, Event, FillRecord, OrderRecord, Overflow, Payload,
        Portfolio, PortfolioChange, PositionRecord, ReconcileStatus, Reconciled, Subscription,
        types::{BookSide as StreamBookSide, MarketSide},
    },
    types::{
        ApiKeyType, ApplySubaccountTransferRequest, BatchCreateOrdersV2Request, BookSide,
        CreateOrderV2Request, CreateSubaccountRequest, GenerateApiKeyRequest,
    },
};
use kalshi_sim::{Exchange, Fault, FaultKind, Lag, MarketPlan, Role, StreamFaults, Target};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::{Answer, Request, Server, builder, client};

/// Nothing here takes longer, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Markets of these tests, whose books are empty at the start.
pub(crate) const TICKERS: [&str; 3] = ["KXACCOUNT-26-A", "KXACCOUNT-26-B", "KXACCOUNT-26-C"];

/// The key of a fill.
pub(crate) type Name = (String, String);

/// A trader with a stream and a view, and somebody to trade with.
pub(crate) struct Desk {
    pub(crate) exchange: Exchange,
    pub(crate) trader: Client,
    pub(crate) maker: Client,
    stream: Connection,
    pub(crate) portfolio: Portfolio,
    /// Every fill that the view reported as new, from wherever.
    pub(crate) fills: BTreeMap<Name, FillRecord>,
}

impl Desk {
    pub(crate) async fn open() -> Self {
        let exchange = Exchange::start().await.unwrap();
        for ticker in TICKERS {
            exchange.markets().list(MarketPlan::new(ticker, 1_000_000)).unwrap();
        }
        let trader = exchange.client(Role::Trader).unwrap();
        let maker = exchange.client(Role::Maker).unwrap();
        let stream = connect(&trader).await;
        // It has the exchange's clock.
        let portfolio = Portfolio::new().with_clock_tolerance(Duration::ZERO);
        let mut desk = Self { exchange, trader, maker, stream, portfolio, fills: BTreeMap::new() };
        desk.subscribed().await;
        desk.reconcile().await;
        desk
    }

    /// Handles the next event.
    pub(crate) async fn event(&mut self) -> Event {
        let event = timeout(PATIENCE, self.stream.next()).await.expect("no event").unwrap();
        self.apply(&event);
        event
    }

    fn apply(&mut self, event: &Event) {
        if self.portfolio.apply(event) == PortfolioChange::Fill {
            let Some(Payload::Fill(fill)) = event.message().map(|message| &message.payload) else {
                panic!("{event:?} is no fill")
            };
            self.count(FillRecord::from(&**fill));
        }
    }

    /// Handles what has come already.
    pub(crate) fn drain(&mut self) {
        while let Some(Some(event)) = self.stream.next().now_or_never() {
            self.apply(&event);
        }
    }

    async fn subscribed(&mut self) {
        while !self.portfolio.is_subscribed() {
            self.event().await;
        }
    }

    pub(crate) async fn reconcile(&mut self) -> Reconciled {
        loop {
            let found = self.portfolio.reconcile(&self.trader).await.unwrap();
            for fill in &found.missed {
                self.count(fill.clone());
            }
            assert!(found.too_old.is_empty());
            // The reads and the view may be of the same millisecond.
            match found.retry_after() {
                Some(wait) => {
                    assert!(found.missed.is_empty(), "nothing was read");
                    sleep(wait).await;
                }
                None => return found,
            }
        }
    }

    pub(crate) fn count(&mut self, fill: FillRecord) {
        let before = self.fills.insert(name(&fill), fill);
        assert_eq!(before, None, "a fill counted twice");
    }

    /// Reads the stream until the view says what REST says, and checks all of it. What has been
    /// reported as missing is reconciled; nothing else is.
    async fn agrees_with_rest(&mut self) {
        let rest = Rest::read(&self.trader).await;
        let agreed = timeout(PATIENCE, async {
            while self.view() != rest.orders_and_positions() || self.fills.len() < rest.fills.len()
            {
                // Nothing more may come after the last confirmation.
                if self.portfolio.is_subscribed() && !self.portfolio.is_current() {
                    self.reconcile().await;
                } else {
                    self.event().await;
                }
            }
        });
        if agreed.await.is_err() {
            assert_eq!(self.view(), rest.orders_and_positions());
        }
        self.drain();
        assert_eq!(self.view(), rest.orders_and_positions());
        let known: BTreeMap<Name, FillRecord> =
            self.fills.iter().map(|(name, fill)| (name.clone(), plain(fill.clone()))).collect();
        assert_eq!(known, rest.fills);
        self.exchange.audit().unwrap();
    }

    pub(crate) fn view(&self) -> (Vec<OrderRecord>, Vec<PositionRecord>) {
        let mut orders: Vec<OrderRecord> = self.portfolio.orders().cloned().collect();
        orders.sort_by(|a, b| a.order_id.cmp(&b.order_id));
        let mut positions: Vec<PositionRecord> = self.portfolio.positions().cloned().collect();
        positions.sort_by(|a, b| key(a).cmp(&key(b)));
        (orders, positions)
    }

    /// Trades without a word on the stream, and lets the view find that something is missing.
    async fn outage<T>(&mut self, trade: impl AsyncFnOnce(&Client, &Client) -> T) -> T {
        let mut silence = StreamFaults::default();
        silence.drop_one_in = 1;
        self.exchange.streams().set_faults(Target::All, silence).unwrap();
        let traded = trade(&self.trader, &self.maker).await;
        self.exchange.streams().cut(Target::All).unwrap();
        while !matches!(self.event().await, Event::Disconnected { .. }) {}
        self.exchange.streams().set_faults(Target::All, StreamFaults::default()).unwrap();
        assert!(!self.portfolio.is_current());
        self.subscribed().await;
        assert!(!self.portfolio.is_current());
        traded
    }
}

/// The account over REST, read and turned into records here once more: other code than the
/// library's.
pub(crate) struct Rest {
    pub(crate) fills: BTreeMap<Name, FillRecord>,
    orders: Vec<OrderRecord>,
    positions: Vec<PositionRecord>,
}

impl Rest {
    pub(crate) async fn read(client: &Client) -> Self {
        let mut rows = client.get_fills().limit(100).stream().try_collect().await.unwrap();
        rows.extend(client.get_fills_historical().stream().try_collect().await.unwrap());
        let fills = rows.into_iter().map(|fill| FillRecord {
            trade_id: fill.trade_id,
            order_id: fill.order_id,
            client_order_id: None,
            market_ticker: fill.ticker,
            subaccount: fill.subaccount_number.filter(|number| *number > 0),
            outcome_side: market_side(fill.outcome_side.as_str()),
            book_side: book_side(fill.book_side.as_str()),
            yes_price: fill.no_price_dollars.complement().unwrap(),
            count: fill.count_fp,
            fee: fill.fee_cost,
            is_taker: fill.is_taker,
            ts_ms: Some(fill.created_time.unwrap().timestamp_millis().into()),
            position_after: None,
        });
        let fills = fills.map(|fill| (name(&fill), fill)).collect();

        let rows = client.get_orders().status("resting").limit(100).stream();
        let mut orders: Vec<OrderRecord> = Vec::new();
        for order in rows.try_collect().await.unwrap() {
            orders.push(OrderRecord {
                order_id: order.order_id,
                client_order_id: order.client_order_id,
                market_ticker: order.ticker,
                subaccount: order.subaccount_number.filter(|number| *number > 0),
                status: "resting".into(),
                outcome_side: market_side(order.outcome_side.as_str()),
                book_side: book_side(order.book_side.as_str()),
                yes_price: order.yes_price_dollars,
                initial: order.initial_count_fp,
                remaining: order.remaining_count_fp,
                filled: order.fill_count_fp,
                updated: Some(order.last_update_time.unwrap().timestamp_millis().into()),
            });
        }
        orders.sort_by(|a, b| a.order_id.cmp(&b.order_id));

        let mut positions = Vec::new();
        let purses = client.get_subaccount_balances().send().await.unwrap().into_inner();
        let numbers: BTreeSet<i64> =
            purses.subaccount_balances.iter().map(|row| row.subaccount_number).collect();
        for number in numbers {
            let rows = client.get_positions().subaccount(number).stream();
            for held in rows.try_collect().await.unwrap() {
                if !held.position_fp.is_zero() {
                    positions.push(PositionRecord {
                        market_ticker: held.ticker,
                        subaccount: (number > 0).then_some(number),
                        count: held.position_fp,
                        cost: Some(held.market_exposure_dollars),
                        realized_pnl: Some(held.realized_pnl_dollars),
                        fees: Some(held.fees_paid_dollars),
                    });
                }
            }
        }
        positions.sort_by(|a, b| key(a).cmp(&key(b)));
        Self { fills, orders, positions }
    }

    pub(crate) fn orders_and_positions(&self) -> (Vec<OrderRecord>, Vec<PositionRecord>) {
        (self.orders.clone(), self.positions.clone())
    }
}

async fn connect(client: &Client) -> Connection {
    let millis = Duration::from_millis;
    let config = client
        .stream_config()
        .unwrap()
        .with_backoff(Backoff::new(millis(5), millis(40)))
        .build()
        .unwrap();
    let stream = Connection::connect(config).await.unwrap();
    for wish in
        [Subscription::fills(), Subscription::user_orders(), Subscription::market_positions()]
    {
        stream.handle().subscribe(wish.with_overflow(Overflow::Block)).unwrap();
    }
    stream
}

fn name(fill: &FillRecord) -> Name {
    (fill.trade_id.clone(), fill.order_id.clone())
}

/// Returns the fields of a fill that both sides have.
pub(crate) fn plain(fill: FillRecord) -> FillRecord {
    FillRecord { client_order_id: None, position_after: None, ..fill }
}

fn key(position: &PositionRecord) -> (&str, Option<i64>) {
    (&position.market_ticker, position.subaccount)
}

fn market_side(text: &str) -> MarketSide {
    if text == "yes" { MarketSide::Yes } else { MarketSide::No }
}

fn book_side(text: &str) -> StreamBookSide {
    if text == "bid" { StreamBookSide::Bid } else { StreamBookSide::Ask }
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}

pub(crate) fn order(
    ticker: &str,
    side: BookSide,
    price: Dollars,
    count: Count,
) -> Complete<CreateOrderV2Request> {
    CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(price)
        .count(count)
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("maker")
}

pub(crate) async fn place(client: &Client, order: Complete<CreateOrderV2Request>) -> String {
    client.create_order_v2().body(order).send().await.unwrap().into_inner().order_id
}

/// Trades: the second client takes what the first one places in the book.
async fn trade(rests: &Client, takes: &Client, ticker: &str, contracts: &str) -> String {
    let price: Dollars = "0.4200".parse().unwrap();
    let resting = place(rests, order(ticker, BookSide::Bid, price, count(contracts))).await;
    place(takes, order(ticker, BookSide::Ask, price, count(contracts))).await;
    resting
}

/// Creates a numbered subaccount with a thousand dollars on the first shard.
pub(crate) async fn subaccount(client: &Client, transfer: &str) -> i64 {
    let new = client.create_subaccount().body(CreateSubaccountRequest::builder());
    let number = new.send().await.unwrap().subaccount_number;
    let cash = ApplySubaccountTransferRequest::builder()
        .client_transfer_id(transfer)
        .from_subaccount(0)
        .to_subaccount(number)
        .amount_cents(100_000);
    client.apply_subaccount_transfer().body(cash).send().await.unwrap();
    number
}

pub(crate) const TRANSFERS: [&str; 2] =
    ["6b1f0a3e-0000-4000-8000-000000000001", "6b1f0a3e-0000-4000-8000-000000000002"];

#[tokio::test]
async fn fills_before_during_and_after_an_outage_count_once() {
    let mut desk = Desk::open().await;
    assert!(desk.portfolio.is_current());
    assert!(desk.fills.len() > 100, "the archive has fills");
    let old = desk.fills.len();

    trade(&desk.trader, &desk.maker, TICKERS[0], "3.00").await;
    let stays = order(TICKERS[1], BookSide::Bid, "0.1000".parse().unwrap(), Count::ONE);
    let stays = place(&desk.trader, stays).await;
    let goes = order(TICKERS[1], BookSide::Bid, "0.1100".parse().unwrap(), Count::ONE);
    let goes = place(&desk.trader, goes).await;
    desk.agrees_with_rest().await;
    assert_eq!(desk.fills.len(), old + 1);

    let (resting, taken) = desk
        .outage(async |trader, maker| {
            let resting = trade(trader, maker, TICKERS[0], "2.50").await;
            let taken = trade(maker, trader, TICKERS[2], "4.00").await;
            trader
                .cancel_order_v2()
                .order_id(&*goes)
                .market_ticker(TICKERS[1])
                .send()
                .await
                .unwrap();
            (resting, taken)
        })
        .await;
    assert_eq!(desk.fills.len(), old + 1, "nobody has said anything");
    let found = desk.reconcile().await;
    assert!(desk.portfolio.is_current());
    let [first, second] = found.missed.as_slice() else { panic!("{found:?}") };
    assert_eq!((&first.order_id, first.is_taker, first.count), (&resting, false, count("2.5")));
    assert_ne!(second.order_id, taken, "that one is the other's");
    assert!(second.is_taker && second.fee.is_positive());
    assert_eq!((&second.outcome_side, &second.book_side), (&MarketSide::No, &StreamBookSide::Ask));
    let closed: Vec<_> = found.closed.iter().map(|order| &order.order_id).collect();
    assert_eq!(closed, [&goes]);
    assert!(desk.portfolio.order_by_id(&stays).is_some());
    assert_eq!(desk.portfolio.position_in(TICKERS[0], None), count("5.5"));
    assert_eq!(desk.portfolio.position_in(TICKERS[2], None), count("-4"));
    desk.agrees_with_rest().await;

    trade(&desk.maker, &desk.trader, TICKERS[0], "1.00").await;
    desk.agrees_with_rest().await;
    assert_eq!(desk.fills.len(), old + 4);
    let again = desk.reconcile().await;
    assert!(again.missed.is_empty() && again.closed.is_empty());
}

#[tokio::test]
async fn an_outage_is_made_good_while_reads_trail_the_exchange() {
    for lag in ["realistic", "100-700"] {
        let mut desk = Desk::open().await;
        let old = desk.fills.len();
        desk.exchange.set_lag(lag.parse().unwrap());
        let resting = desk
            .outage(async |trader, maker| {
                let stays = order(TICKERS[1], BookSide::Bid, "0.1000".parse().unwrap(), Count::ONE);
                place(trader, stays).await;
                trade(trader, maker, TICKERS[0], "2.50").await
            })
            .await;
        // It waits until the reads have what was missed, and is not current before.
        let found = desk.reconcile().await;
        assert!(desk.portfolio.is_current());
        let [missed] = found.missed.as_slice() else { panic!("{lag}: {found:?}") };
        assert_eq!((&missed.order_id, missed.count), (&resting, count("2.5")));
        assert_eq!(desk.portfolio.orders().count(), 1);
        assert_eq!(desk.portfolio.position_in(TICKERS[0], None), count("2.5"));
        // What the streams say meanwhile is ahead of the reads, and stays.
        trade(&desk.maker, &desk.trader, TICKERS[0], "1.00").await;
        while desk.portfolio.position_in(TICKERS[0], None) == count("2.5") {
            desk.event().await;
        }
        let again = desk.reconcile().await;
        assert!(again.closed.is_empty(), "{again:?}");
        desk.exchange.set_lag(Lag::none());
        desk.agrees_with_rest().await;
        assert_eq!(desk.fills.len(), old + 2);
    }
}

#[tokio::test]
async fn a_fill_that_rest_tells_before_the_stream_counts_once() {
    let mut desk = Desk::open().await;
    let before = desk.fills.len();
    // The messages wait in the stream while the account is read.
    trade(&desk.trader, &desk.maker, TICKERS[0], "3.00").await;
    let found = desk.reconcile().await;
    assert_eq!(found.missed.len(), 1);
    let mut known = None;
    while known.is_none() {
        let event = timeout(PATIENCE, desk.stream.next()).await.unwrap().unwrap();
        let change = desk.portfolio.apply(&event);
        assert_ne!(change, PortfolioChange::Fill);
        known = (change == PortfolioChange::KnownFill).then_some(event);
    }
    let Some(Payload::Fill(fill)) = known.as_ref().and_then(Event::message).map(|m| &m.payload)
    else {
        panic!("{known:?}")
    };
    // Both say the same of it, but for what only one of them says.
    assert_eq!(fill.post_position_fp, count("3"));
    assert_eq!(plain(FillRecord::from(&**fill)), found.missed[0]);
    desk.agrees_with_rest().await;
    assert_eq!(desk.fills.len(), before + 1);
}

#[tokio::test]
async fn subaccounts_are_told_apart() {
    let mut desk = Desk::open().await;
    let first = subaccount(&desk.trader, TRANSFERS[0]).await;
    let second = subaccount(&desk.trader, TRANSFERS[1]).await;
    desk.outage(async |trader, maker| {
        for (number, contracts) in [(0, "1.00"), (first, "2.00"), (second, "3.00")] {
            let price: Dollars = "0.6000".parse().unwrap();
            place(maker, order(TICKERS[0], BookSide::Ask, price, count(contracts))).await;
            let buys = order(TICKERS[0], BookSide::Bid, price, count("5")).subaccount(number);
            place(trader, buys).await;
            // What is left of it must not meet the next one.
            let rests = trader.get_orders().status("resting").subaccount(number);
            for row in rests.stream().try_collect().await.unwrap() {
                trader
                    .cancel_order_v2()
                    .order_id(row.order_id)
                    .market_ticker(row.ticker)
                    .subaccount(number)
                    .send()
                    .await
                    .unwrap();
            }
            let rests = order(TICKERS[1], BookSide::Bid, price, count("5")).subaccount(number);
            place(trader, rests).await;
        }
    })
    .await;
    let found = desk.reconcile().await;
    let of = |numbers: Vec<Option<i64>>| numbers.into_iter().collect::<BTreeSet<_>>();
    let all = of(vec![None, Some(first), Some(second)]);
    assert_eq!(of(found.missed.iter().map(|fill| fill.subaccount).collect()), all);
    assert_eq!(of(desk.portfolio.orders().map(|order| order.subaccount).collect()), all);
    for (number, contracts) in [(0, "1"), (first, "2"), (second, "3")] {
        assert_eq!(desk.portfolio.position_in(TICKERS[0], Some(number)), count(contracts));
    }
    desk.agrees_with_rest().await;

    // The stream goes on where the reading stopped, in the same subaccount.
    let price: Dollars = "0.6000".parse().unwrap();
    place(&desk.maker, order(TICKERS[1], BookSide::Ask, price, count("6"))).await;
    desk.agrees_with_rest().await;

    // A key that is bound to one of them reads that one.
    let new = GenerateApiKeyRequest::builder()
        .name("bound")
        .key_type(ApiKeyType::Ed25519)
        .subaccount(second);
    let made = desk.trader.generate_api_key().body(new).send().await.unwrap().into_inner();
    let key = Credentials::from_pem(&made.api_key_id, made.private_key.expose()).unwrap();
    let bound = builder(desk.exchange.base_url()).with_credentials(key).build().unwrap();
    let account = bound.fetch_account(Some(desk.exchange.clock().now().into())).await.unwrap();
    assert!(!account.positions.is_empty());
    let numbers = account.positions.iter().map(|held| held.subaccount);
    let numbers = numbers.chain(account.orders.iter().map(|order| order.subaccount));
    assert!(numbers.chain(account.fills.iter().map(|f| f.subaccount)).all(|n| n == Some(second)));
}

#[tokio::test]
async fn a_reading_that_fails_leaves_the_view_as_it_was() {
    let mut desk = Desk::open().await;
    let before_all = desk.exchange.requests().len();
    trade(&desk.trader, &desk.maker, TICKERS[0], "3.00").await;
    desk.agrees_with_rest().await;
    desk.outage(async |trader, maker| trade(trader, maker, TICKERS[0], "1.00").await).await;
    for operation in [
        "get_user_data_timestamp",
        "get_orders",
        "get_subaccount_balances",
        "get_positions",
        "get_fills",
        "get_historical_cutoff",
    ] {
        // What is begun is noted, at most once for each moment.
        let _ = desk.portfolio.begin();
        let before = format!("{:?}", desk.portfolio);
        desk.exchange
            .faults()
            .add(
                Fault::builder(FaultKind::status(503))
                    .with_operation(operation.parse().unwrap())
                    .build(),
            )
            .unwrap();
        let error = desk.portfolio.reconcile(&desk.trader).await.unwrap_err();
        assert_eq!(error.operation_id(), Some(operation));
        assert!(!desk.portfolio.is_current());
        assert_eq!(format!("{:?}", desk.portfolio), before);
        desk.exchange.faults().clear();
    }
    assert_eq!(desk.reconcile().await.missed.len(), 1);
    desk.agrees_with_rest().await;
    // Whoever keeps an account up to date has no use for a key that may trade.
    let reader = desk.exchange.client(Role::Reader).unwrap();
    let found = desk.portfolio.reconcile(&reader).await.unwrap();
    assert!(found.missed.is_empty());
    assert_ne!(found.status, ReconcileStatus::NotSubscribed);
    assert!(desk.exchange.requests().len() > before_all);
}

#[tokio::test]
async fn lists_longer_than_a_page_are_read_to_the_end() {
    const ROWS: usize = 1_050;
    let mut desk = Desk::open().await;
    let old = desk.fills.len();
    desk.outage(async |trader, maker| {
        for (client, side, price) in
            [(maker, BookSide::Ask, "0.5000"), (trader, BookSide::Bid, "0.0100")]
        {
            let price: Dollars = price.parse().unwrap();
            let orders: Vec<CreateOrderV2Request> = (0..ROWS)
                .map(|_| order(TICKERS[0], side.clone(), price, Count::ONE).try_into().unwrap())
                .collect();
            let batch = BatchCreateOrdersV2Request::builder().orders(orders);
            let made = client.batch_create_orders_v2().body(batch).send().await.unwrap();
            assert!(made.orders.iter().all(|item| item.error.is_none()));
        }
        // One order meets them all.
        let all = Count::ONE.checked_mul(i64::try_from(ROWS).unwrap()).unwrap();
        place(trader, order(TICKERS[0], BookSide::Bid, "0.5000".parse().unwrap(), all)).await;
    })
    .await;
    let found = desk.reconcile().await;
    assert_eq!(found.missed.len(), ROWS);
    assert_eq!(desk.portfolio.orders().len(), ROWS);
    assert_eq!(desk.fills.len(), old + ROWS);
    desk.agrees_with_rest().await;
}

#[tokio::test]
async fn the_archive_is_read_after_the_live_list_if_it_may_have_any() {
    // The time is rounded down, and one second more is taken.
    let since = UnixMillis::from_millis(1_700_000_000_999);
    for (since, cutoff, archived, min_ts) in [
        (None, "2020-01-01T00:00:00Z", true, None),
        (Some(since), "2023-11-14T22:13:19Z", true, Some("1699999999")),
        (Some(since), "2023-11-14T22:13:18.999Z", false, Some("1699999999")),
        (Some(UnixMillis::from_millis(-1)), "2020-01-01T00:00:00Z", true, Some("-2")),
    ] {
        let cutoff = cutoff.to_owned();
        let server = Server::start(move |request| match last(request) {
            "cutoff" => Answer::json(&json!({
                "market_settled_ts": "2030-01-01T00:00:00Z",
                "trades_created_ts": cutoff,
                "orders_updated_ts": "2030-01-01T00:00:00Z",
            })),
            _ => empty(request),
        })
        .await;
        client(&server.url()).fetch_account(since).await.unwrap();
        let requests = server.requests();
        let mut expected =
            vec!["user_data_timestamp", "orders", "balances", "positions", "fills", "cutoff"];
        expected.extend(archived.then_some("fills"));
        assert_eq!(requests.iter().map(last).collect::<Vec<_>>(), expected);
        for request in requests.iter().filter(|request| last(request) == "fills") {
            let query = request.query();
            let given = query.iter().find(|(name, _)| name == "min_ts").map(|(_, text)| &**text);
            assert_eq!(given, min_ts);
            assert!(query.iter().all(|(name, _)| name != "subaccount"));
        }
    }
}

#[tokio::test]
async fn reads_are_as_of_the_time_that_was_asked_for_before_them() {
    let server = Server::start(empty).await;
    let client = client(&server.url());
    // Never later than it is.
    let as_of = UnixMillis::from_millis(1_767_225_600_001);
    assert_eq!(client.fetch_as_of().await.unwrap(), as_of);
    assert_eq!(client.fetch_account(None).await.unwrap().as_of, as_of);
}

#[tokio::test]
async fn positions_are_asked_for_in_each_subaccount_page_by_page() {
    let server = Server::start(|request| {
        let query: BTreeMap<String, String> = request.query().into_iter().collect();
        match (last(request), query.get("cursor").map(String::as_str)) {
            ("balances", _) => balances(&[(0, 0), (0, 2), (7, 0)]),
            ("positions", None) => positions(&[("A", 0, "1.00"), ("B", 0, "-2.00")], "next"),
            // The list has moved on meanwhile: one of the rows comes again.
            ("positions", Some(_)) => positions(&[("B", 0, "-3.00"), ("C", 1, "4.00")], ""),
            _ => empty(request),
        }
    })
    .await;
    let account =
        client(&server.url()).fetch_account(Some(UnixMillis::from_millis(0))).await.unwrap();
    let held: Vec<_> = account
        .positions
        .iter()
        .map(|held| (&*held.market_ticker, held.subaccount, held.count.to_string()))
        .collect();
    let of = |number| {
        [("A", "1.00"), ("B", "-3.00"), ("C", "4.00")]
            .map(|(ticker, count)| (ticker, number, count.to_owned()))
    };
    assert_eq!(held, [of(None), of(Some(7))].concat());
    let requests = server.requests();
    let asked = requests.iter().filter(|request| last(request) == "positions");
    for request in asked {
        let query: BTreeMap<String, String> = request.query().into_iter().collect();
        assert_eq!(query["count_filter"], "position");
        assert!(["0", "7"].contains(&&*query["subaccount"]));
        assert!(!query.contains_key("settlement_status"));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_true_is_an_error() {
    for (name, kind, text) in [
        ("no subaccount", ErrorKind::Decode, "get_subaccount_balances: not even"),
        ("two shards", ErrorKind::Decode, "get_positions: A is on two shards, 0 and 1"),
        ("a cursor twice", ErrorKind::CursorLoop, "\"again\" twice"),
    ] {
        let server = Server::start(move |request| match (last(request), name) {
            ("balances", "no subaccount") => balances(&[]),
            ("positions", "two shards") => positions(&[("A", 0, "1.00"), ("A", 1, "1.00")], ""),
            ("positions", "a cursor twice") => positions(&[], "again"),
            _ => empty(request),
        })
        .await;
        let error = client(&server.url()).fetch_account(None).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_fill_without_its_exact_time_has_that_of_its_second() {
    let mut row = json!({
        "fill_id": "t", "trade_id": "t", "order_id": "o", "ticker": "A", "market_ticker": "A",
        "exchange_index": 0, "outcome_side": "no", "book_side": "sideways", "is_taker": true,
        "count_fp": "0.01", "yes_price_dollars": "0.1234", "no_price_dollars": "0.8766",
        "fee_cost": "0.000001", "subaccount_number": 0, "ts": 17,
        "created_time": "1970-01-01T00:00:17.123456Z",
    });
    let record = |row: &Value| {
        let fill: kalshi_sdk::types::Fill = serde_json::from_value(row.clone()).unwrap();
        FillRecord::from(&fill)
    };
    let whole = record(&row);
    assert_eq!(whole.ts_ms, Some(UnixMillis::from_millis(17_123)));
    assert_eq!((whole.subaccount, &*whole.yes_price.to_string()), (None, "0.1234"));
    // A word of tomorrow is kept.
    assert_eq!(whole.book_side.as_str(), "sideways");
    row.as_object_mut().unwrap().remove("created_time");
    assert_eq!(record(&row).ts_ms, Some(UnixMillis::from_millis(17_000)));
    row["ts"] = i64::MAX.into();
    assert_eq!(record(&row).ts_ms, None);
}

#[tokio::test]
async fn without_credentials_there_is_no_stream() {
    let error = builder("http://127.0.0.1:1/trade-api/v2").build().unwrap();
    assert_eq!(error.stream_config().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn the_streams_are_those_of_the_client() {
    for (url, streams) in [
        (
            "https://external-api.kalshi.com/trade-api/v2",
            "wss://external-api-ws.kalshi.com/trade-api/ws/v2",
        ),
        (
            "https://external-api.demo.kalshi.co/trade-api/v2/",
            "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2",
        ),
        ("https://example.com/trade-api/v2", "wss://example.com/trade-api/ws/v2"),
        ("http://127.0.0.1:1/trade-api/v2/", "ws://127.0.0.1:1/trade-api/ws/v2"),
    ] {
        let client = client(url);
        assert_eq!(client.environment().streams_url(), streams);
        let config = format!("{:?}", client.stream_config().unwrap().build().unwrap());
        assert!(config.contains(&format!("environment: {:?}", client.environment())), "{config}");
    }
}

/// Returns the last part of the path.
fn last(request: &Request) -> &str {
    request.path().rsplit('/').next().unwrap_or_default()
}

/// Returns the answer of an account in which nothing happened.
fn empty(request: &Request) -> Answer {
    match last(request) {
        "balances" => balances(&[(0, 0)]),
        "positions" => positions(&[], ""),
        "user_data_timestamp" => Answer::json(&json!({"as_of_time": "2026-01-01T00:00:00.0019Z"})),
        "cutoff" => Answer::json(&json!({
            "market_settled_ts": "2020-01-01T00:00:00Z",
            "trades_created_ts": "2020-01-01T00:00:00Z",
            "orders_updated_ts": "2020-01-01T00:00:00Z",
        })),
        list => Answer::json(&json!({list: [], "cursor": ""})),
    }
}

fn balances(rows: &[(i64, i64)]) -> Answer {
    let rows: Vec<Value> = rows
        .iter()
        .map(|(number, shard)| {
            json!({"subaccount_number": number, "exchange_index": shard, "balance": "1.00",
                   "updated_ts": 0})
        })
        .collect();
    Answer::json(&json!({"subaccount_balances": rows}))
}

fn positions(rows: &[(&str, i64, &str)], cursor: &str) -> Answer {
    let rows: Vec<Value> = rows
        .iter()
        .map(|(ticker, shard, count)| {
            json!({"ticker": ticker, "exchange_index": shard, "position_fp": count,
                   "total_traded_dollars": "1", "market_exposure_dollars": "1",
                   "realized_pnl_dollars": "0", "fees_paid_dollars": "0",
                   "last_updated_ts": "2026-01-01T00:00:00Z"})
        })
        .collect();
    Answer::json(&json!({"market_positions": rows, "event_positions": [], "cursor": cursor}))
}
