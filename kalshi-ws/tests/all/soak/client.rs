//! The clients under test.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt;
use kalshi_sim::{Exchange, Role};
use kalshi_ws::{
    Backoff, BookState, CommandError, Environment, EventContracts, Overflow, Payload,
    RedundantFeed, Refusal, TerminationReason,
    product::{Books, Config, Connection, ConnectionHandle, Event, Product, Subscription},
    types::MarketSide,
};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    MERGED, PATIENCE, STALE_AFTER,
    detour::Detour,
    levels::{Change, Levels, sum},
    markets::Markets,
    played::Played,
    replies::{Numbered, Replies},
};

/// The channel of order books, of both products.
const BOOKS: &str = "orderbook_delta";

/// An event that a merged client has read of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Delta(Change),
    /// A snapshot of this clock.
    Snapshot(i64),
    /// An event reported that something is missing.
    Void,
}

/// The states that a client has read since the exchange last stood still, and its last one.
pub(super) struct Seen {
    pub(super) books: Vec<Vec<u64>>,
    /// Of a merged client.
    pub(super) changes: Vec<Vec<Read>>,
    pub(super) levels: Vec<Levels>,
    /// The connections that cover every book.
    pub(super) coverage: usize,
    pub(super) events: BTreeMap<&'static str, u64>,
}

/// A command to a client.
pub(super) enum Order {
    /// Read nothing until the other end is dropped.
    Sleep(oneshot::Receiver<()>),
    TakeOut(usize),
    /// All markets again.
    Everything,
    /// Go on until all books can be read and everything that was sent has been read.
    Settle(oneshot::Sender<Seen>),
}

/// The stream that a client reads.
pub(super) trait Source: Send + 'static {
    type Product: Played;

    fn next(&mut self) -> impl Future<Output = Event<Self::Product>> + Send;

    fn handles(&self) -> Vec<ConnectionHandle<Self::Product>>;

    /// Returns the books that the source keeps with its events.
    fn books(&self) -> Option<&Books<Self::Product>>;

    /// Returns the number of connections that cover a book.
    fn coverage(&self, ticker: &str) -> usize;

    /// Returns the part of a message in the order of changes, which a merged stream has instead of
    /// numbers.
    fn read_of(payload: &<Self::Product as Product>::Payload) -> Option<Read>;
}

impl<P: Played> Source for Connection<P> {
    type Product = P;

    async fn next(&mut self) -> Event<P> {
        self.next().await.unwrap()
    }

    fn handles(&self) -> Vec<ConnectionHandle<P>> {
        vec![self.handle().clone()]
    }

    fn books(&self) -> Option<&Books<P>> {
        None
    }

    fn coverage(&self, _: &str) -> usize {
        1
    }

    fn read_of(_: &P::Payload) -> Option<Read> {
        None
    }
}

impl Source for RedundantFeed {
    type Product = EventContracts;

    async fn next(&mut self) -> Event {
        self.next().await.unwrap()
    }

    fn handles(&self) -> Vec<ConnectionHandle> {
        self.handles().cloned().collect()
    }

    fn books(&self) -> Option<&Books> {
        Some(self.books())
    }

    fn coverage(&self, ticker: &str) -> usize {
        self.coverage(ticker)
    }

    fn read_of(payload: &Payload) -> Option<Read> {
        Some(match payload {
            Payload::OrderbookDelta(delta) => Read::Delta((
                delta.clock.unwrap(),
                delta.side == MarketSide::Yes,
                delta.price_dollars.as_micros(),
                delta.delta_fp.as_hundredths(),
            )),
            Payload::OrderbookSnapshot(snapshot) => Read::Snapshot(snapshot.clock.unwrap()),
            other => panic!("{other:?}"),
        })
    }
}

/// A client under test.
struct Client<S: Source> {
    name: &'static str,
    source: S,
    /// Fed by hand, unless the source keeps books itself.
    books: Books<S::Product>,
    markets: Arc<Markets>,
    replies: Replies,
    connection: u64,
    last: Option<Numbered>,
    /// An event since the last message reported that something is missing.
    excused: bool,
    seen: Vec<Vec<u64>>,
    changes: Vec<Vec<Read>>,
    events: BTreeMap<&'static str, u64>,
}

/// A client that runs: its name, its orders and its task.
pub(super) type Running = (&'static str, mpsc::UnboundedSender<Order>, JoinHandle<()>);

impl<S: Source> Client<S> {
    /// Runs a client until its orders end.
    fn run(
        name: &'static str,
        source: S,
        books: Books<S::Product>,
        markets: &Arc<Markets>,
        replies: Replies,
    ) -> Running {
        let mut client = Self {
            name,
            source,
            books,
            markets: Arc::clone(markets),
            replies,
            connection: 1,
            last: None,
            excused: false,
            seen: nothing::<S, _>(),
            changes: vec![vec![Read::Void]; <S::Product as Played>::MARKETS],
            events: BTreeMap::new(),
        };
        let (orders, mut received) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                select! {
                    event = client.source.next() => client.take(&event),
                    order = received.recv() => match order {
                        Some(order) => client.obey(order).await,
                        None => return,
                    },
                }
            }
        });
        (name, orders, task)
    }

    fn books(&self) -> &Books<S::Product> {
        self.source.books().unwrap_or(&self.books)
    }

    fn levels(&self, ticker: &str) -> Option<Levels> {
        self.books().get(ticker).map(S::Product::levels_of)
    }

    /// Returns the number of connections that cover every book.
    fn coverage(&self) -> usize {
        let tickers = self.markets.tickers.iter();
        tickers.map(|ticker| self.source.coverage(ticker)).min().unwrap_or_default()
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Sleep(awake) => {
                let _ = awake.await;
            }
            Order::TakeOut(place) => {
                let ticker = &self.markets.tickers[place];
                for handle in self.source.handles() {
                    handle.delete_markets(BOOKS.to_owned(), [ticker]).unwrap();
                }
            }
            Order::Everything => {
                let all = self.markets.tickers.iter();
                for handle in self.source.handles() {
                    handle.add_markets(BOOKS.to_owned(), all.clone()).unwrap();
                }
            }
            Order::Settle(answer) => {
                self.settle().await;
                let levels = self.markets.tickers.iter();
                let levels = levels.map(|ticker| self.levels(ticker).unwrap());
                let seen = Seen {
                    levels: levels.collect(),
                    coverage: self.coverage(),
                    books: std::mem::replace(&mut self.seen, nothing::<S, _>()),
                    changes: std::mem::replace(&mut self.changes, nothing::<S, _>()),
                    events: self.events.clone(),
                };
                assert!(answer.send(seen).is_ok());
            }
        }
    }

    /// Reads on until all that was sent so far has been read on every connection, and every book
    /// can be read.
    async fn settle(&mut self) {
        let began = Instant::now();
        loop {
            let mut is_answered = true;
            for handle in self.source.handles() {
                let answer = handle.list_subscriptions();
                tokio::pin!(answer);
                let answer = loop {
                    select! {
                        event = self.source.next() => self.take(&event),
                        answer = &mut answer => break answer,
                    }
                };
                assert!(
                    matches!(
                        answer,
                        Ok(_) | Err(CommandError::Disconnected | CommandError::TimedOut)
                    ),
                    "{}: {answer:?}",
                    self.name
                );
                is_answered &= answer.is_ok();
            }
            // What came before the answer is waiting, if it has not been taken yet.
            while let Some(event) = self.source.next().now_or_never() {
                self.take(&event);
            }
            let books = self.books();
            let mut states = self.markets.tickers.iter().map(|ticker| books.state(ticker));
            if is_answered && states.all(|state| state == BookState::Valid) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}: {:?} after {:?}",
                self.name,
                self.books(),
                self.events
            );
            // Events go on meanwhile.
            let pause = sleep(Duration::from_millis(10));
            tokio::pin!(pause);
            loop {
                select! {
                    event = self.source.next() => self.take(&event),
                    () = &mut pause => break,
                }
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "a test says what happened before it failed")]
    fn take(&mut self, event: &Event<S::Product>) {
        self.books.apply(event);
        let name = match event {
            Event::Message(message) => {
                let (ticker, is_snapshot) = S::Product::book_message(&message.payload);
                let place = self.markets.place(ticker);
                if let Some(read) = S::read_of(&message.payload) {
                    self.changes[place].push(read);
                } else {
                    let at = (self.connection, message.sid.unwrap(), message.seq.unwrap());
                    self.continues(at);
                }
                if let Some(levels) = self.levels(ticker) {
                    self.seen[place].push(sum(&levels));
                }
                if is_snapshot { "snapshot" } else { "delta" }
            }
            Event::Gap { .. } => {
                self.lost();
                "gap"
            }
            Event::Lagged { channel: Some(_), .. } => {
                self.lost();
                "lagged"
            }
            Event::Disconnected { .. } => {
                self.lost();
                "disconnected"
            }
            Event::Terminated { reason, .. } => {
                self.lost();
                match reason {
                    TerminationReason::Server(error) if error.code == 25 => {
                        "cut off for being slow"
                    }
                    _ => "ended",
                }
            }
            Event::Reconnected { .. } => {
                self.connection += 1;
                "reconnected"
            }
            // Of a market that was taken out: the number has come all the same.
            Event::Unmatched(_) => {
                self.excused = true;
                "unmatched"
            }
            Event::Uncovered { items, .. } => {
                for ticker in items {
                    assert_eq!(self.books().state(ticker), BookState::Void, "{ticker}");
                    let place = self.markets.place(ticker);
                    self.changes[place].push(Read::Void);
                }
                "uncovered"
            }
            Event::Failover { .. } => "failover",
            Event::Feed { event, .. } => match **event {
                Event::Gap { .. } => "gap of a feed",
                Event::Disconnected { ref reason } => {
                    println!("{}: a connection is lost: {reason}", self.name);
                    "disconnected feed"
                }
                Event::Terminated { .. } => "ended on a feed",
                Event::Lagged { .. } => "lagged feed",
                _ => "notice",
            },
            Event::Overdue { .. } => "overdue",
            Event::Resynced { .. } => "resynced",
            Event::Stale { .. } => "stale",
            Event::Removed { items, .. } => {
                for ticker in items {
                    let place = self.markets.place(ticker);
                    self.changes[place].push(Read::Void);
                }
                "removed"
            }
            Event::Added { .. } => "added",
            // It had been taken out before.
            Event::Refused { reason: Refusal::NotSubscribed, .. } => "refused",
            Event::Subscribed { .. } => "subscribed",
            Event::ReconnectFailed { .. } => "attempt failed",
            other => panic!("{}: {other:?}", self.name),
        };
        *self.events.entry(name).or_default() += 1;
    }

    /// Checks that nothing is missing before this message without an event that reports it.
    fn continues(&mut self, at: Numbered) {
        let excused = std::mem::take(&mut self.excused);
        let Some((connection, sid, seq)) = self.last.replace(at) else { return };
        if (connection, sid) != (at.0, at.1) || excused {
            return;
        }
        let mut due = seq + 1;
        while due < at.2 && self.replies.has((connection, sid, due)) {
            due += 1;
        }
        assert_eq!(due, at.2, "{}: number {seq} of {sid} is followed by this one", self.name);
    }

    fn lost(&mut self) {
        self.excused = true;
        assert_eq!(self.books().iter().count(), 0, "{}: a book after a loss", self.name);
    }
}

/// Returns a subscription to the books of all markets.
fn all_books<P: Played>(markets: &Markets) -> Subscription<P> {
    Subscription::channel(BOOKS.to_owned()).with_items(markets.tickers.iter().cloned())
}

/// Starts a client of one connection.
pub(super) async fn start<P: Played>(
    exchange: &Exchange,
    markets: &Arc<Markets>,
    role: Role,
    overflow: Overflow,
) -> Running {
    let replies = Replies::default();
    let url = P::stream_url(exchange);
    let connection = connect::<P>(exchange, role, url, &replies, STALE_AFTER).await;
    let all = all_books(markets).with_overflow(overflow);
    connection.handle().subscribe(all).unwrap();
    let books = connection.handle().books();
    let name = if overflow == Overflow::Block { "blocking" } else { "dropping" };
    Client::run(name, connection, books, markets, replies)
}

/// Starts a client of two merged connections. Those of perpetual futures cannot be merged: their
/// books have no clock.
pub(super) async fn start_merged(
    exchange: &Exchange,
    markets: &Arc<Markets>,
    detour: &Detour,
    stale_after: Duration,
) -> Running {
    let mut connections = Vec::new();
    for (role, url) in MERGED.into_iter().zip([exchange.stream_url(), detour.url.clone()]) {
        let replies = Replies::default();
        connections.push(connect(exchange, role, url, &replies, stale_after).await);
    }
    let feed = RedundantFeed::new(connections).unwrap();
    // One of them blocks, and one drops.
    for (handle, overflow) in feed.handles().zip([Overflow::Block, Overflow::DropOldest]) {
        handle.subscribe(all_books(markets).with_overflow(overflow)).unwrap();
    }
    Client::run("merged", feed, Books::new(), markets, Replies::default())
}

/// Returns a list for each market.
fn nothing<S: Source, T: Clone>() -> Vec<Vec<T>> {
    vec![Vec::new(); S::Product::MARKETS]
}

/// Connects a client to a URL.
pub(super) async fn connect<P: Played>(
    exchange: &Exchange,
    role: Role,
    url: String,
    replies: &Replies,
    stale_after: Duration,
) -> Connection<P> {
    let credentials = exchange.credentials(role).unwrap().clone();
    let config = Config::<P>::builder()
        .with_environment(Environment::Custom(url))
        .with_credentials(credentials)
        .with_backoff(Backoff::new(Duration::from_millis(5), Duration::from_millis(100)))
        .with_snapshot_timeout(Duration::from_millis(500))
        .with_stale_after(stale_after)
        .with_command_timeout(Duration::from_secs(5))
        .with_items_per_command(P::ITEMS_PER_COMMAND)
        .with_tap(replies.clone())
        .build()
        .unwrap();
    Connection::connect(config).await.unwrap()
}
