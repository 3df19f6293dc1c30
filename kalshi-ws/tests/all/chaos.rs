//! Streams against a whole exchange, over sockets, while everything that can go wrong does.
//!
//! Under test are two clients, one that blocks when it is slow and one that drops, and then a client
//! of two merged connections. Another, plain WebSocket client without any of this crate's code sees
//! everything, without faults: it is the truth. What a book of ours may be read as must be what the
//! truth was, in the same order; whenever the exchange stands still, every book must be the engine's
//! own, level by level; and nothing is missing without an event: by the sequence numbers of a
//! connection, and by the changes themselves of merged ones.
//!
//! `SOAK_DELTAS` says how many changes of the books, and `SOAK_SEED` which faults.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    env, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use kalshi_auth::{Clock, SystemClock, UnixMillis, sign};
use kalshi_sdk::types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce};
use kalshi_sim::{Ending, Exchange, MarketPlan, Role, STREAM_PATH, StreamFaults};
use kalshi_ws::{
    Backoff, BookState, Books, Channel, CommandError, Config, Connection, ConnectionHandle,
    Environment, Event, OrderBook, Outcome, Overflow, Payload, RedundantFeed, Refusal,
    Subscription, Tap, TerminationReason, types::MarketSide,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

const MARKETS: usize = 200;

/// Commands of the exchange's traders at a stretch. What they change must fit into the queue of the
/// observer, which reads between the stretches.
const STRETCH: u64 = 1_000;

/// Messages that the exchange keeps for a slow reader.
const CAPACITY: usize = 4_000;

/// The keys of the merged connections. The second one is the observer's, so what happens to that
/// connection happens on the way.
const MERGED: [Role; 2] = [Role::Trader, Role::Maker];

/// Nothing takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time after which a soak gives up a silent connection; it silences some on purpose.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// A book by side (bids or not) and price of YES in micros, with hundredths of contracts.
type Levels = BTreeMap<(bool, i64), i64>;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }

    fn market(&mut self) -> usize {
        usize::try_from(self.below(MARKETS as u64)).unwrap()
    }
}

fn mix(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns one level as a number; a book is the sum of its levels, whatever their order.
fn mark(is_bid: bool, price: i64, count: i64) -> u64 {
    mix(price.unsigned_abs() ^ mix(count.unsigned_abs() ^ u64::from(is_bid) << 63))
}

/// Parses a number with `places` decimals, as on the wire. Nothing here is this project's code.
fn decimal(text: &Value, places: usize) -> i64 {
    let text = text.as_str().unwrap();
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    assert!(rest.len() <= places, "{text}");
    format!("{whole}{rest:0<places$}").parse().unwrap()
}

/// Returns a level as the exchange has it: a NO price of a bid for NO is an offer of YES.
fn level(is_bid: bool, price: &Value) -> (bool, i64) {
    let price = decimal(price, 6);
    (is_bid, if is_bid { price } else { 1_000_000 - price })
}

/// The tickers of the markets, and where they are.
struct Markets {
    tickers: Vec<String>,
    places: HashMap<String, usize>,
}

impl Markets {
    async fn of(exchange: &Exchange) -> Self {
        let client = exchange.client(Role::Trader).unwrap();
        let page = client.get_markets().status("open").limit(1_000_u64).send().await.unwrap();
        let tickers: Vec<String> = page
            .into_inner()
            .markets
            .into_iter()
            .map(|market| market.ticker)
            .take(MARKETS)
            .collect();
        assert_eq!(tickers.len(), MARKETS);
        let places = tickers.iter().cloned().zip(0..).collect();
        Self { tickers, places }
    }

    fn place(&self, ticker: &str) -> usize {
        self.places[ticker]
    }
}

/// A change of a book: its clock, its side and price, and what it adds.
type Change = (i64, bool, i64, i64);

/// A way to the exchange that can be cut, and that loses messages.
struct Detour {
    url: String,
    cut: watch::Sender<()>,
    /// Of the messages of order books, one in so many is lost; 0 for none.
    lose_one_in: Arc<AtomicU64>,
}

impl Detour {
    async fn to(exchange: &Exchange) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}{STREAM_PATH}", listener.local_addr().unwrap());
        let (target, cut) = (exchange.address(), watch::Sender::new(()));
        let lose_one_in = Arc::new(AtomicU64::new(0));
        let (cuts, losses) = (cut.clone(), Arc::clone(&lose_one_in));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut cut, losses) = (cuts.subscribe(), Arc::clone(&losses));
                tokio::spawn(async move {
                    // The exchange may be gone.
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let (mut near_read, near_write) = near.into_split();
                    let (far_read, mut far_write) = far.into_split();
                    select! {
                        // However it ends, both ends are dropped.
                        _ = copy(&mut near_read, &mut far_write) => {}
                        _ = Self::pass(far_read, near_write, &losses) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { url, cut, lose_one_in }
    }

    /// Passes on the frames of the exchange but those that are lost.
    async fn pass(
        far: OwnedReadHalf,
        mut near: OwnedWriteHalf,
        lose_one_in: &AtomicU64,
    ) -> io::Result<()> {
        let mut far = BufReader::new(far);
        let mut frame = Vec::new();
        // The answer to the handshake ends with an empty line.
        while far.read_until(b'\n', &mut frame).await? > 2 {
            near.write_all(&frame).await?;
            frame.clear();
        }
        near.write_all(&frame).await?;
        let mut random = Random(1);
        loop {
            frame.resize(2, 0);
            far.read_exact(&mut frame).await?;
            // A server does not mask, so the second byte is the length or says how long that is.
            let more = match frame[1] {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            frame.resize(2 + more, 0);
            far.read_exact(&mut frame[2..]).await?;
            let length = match more {
                0 => u64::from(frame[1]),
                _ => frame[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            };
            let begin = frame.len();
            frame.resize(begin + usize::try_from(length).unwrap(), 0);
            far.read_exact(&mut frame[begin..]).await?;
            let odds = lose_one_in.load(Ordering::Relaxed);
            let is_book = frame[begin..].windows(10).take(40).any(|part| part == b"orderbook_");
            if odds == 0 || !is_book || random.below(odds) != 0 {
                near.write_all(&frame).await?;
            }
            if far.buffer().is_empty() {
                near.flush().await?;
            }
        }
    }
}

/// The plain client.
struct Observer {
    socket: WebSocketStream<TcpStream>,
    markets: Arc<Markets>,
    books: Vec<Levels>,
    /// The states of each book since the exchange last stood still, oldest first.
    history: Vec<Vec<u64>>,
    /// The changes since then.
    changes: Vec<Vec<Change>>,
    deltas: u64,
    seq: i64,
    commands: u64,
}

impl Observer {
    async fn connect(exchange: &Exchange, markets: &Arc<Markets>) -> Self {
        let mut request = exchange.stream_url().into_client_request().unwrap();
        let credentials = exchange.credentials(Role::Maker).unwrap();
        let signed = sign(credentials, "GET", STREAM_PATH, SystemClock.now()).unwrap();
        signed.insert_into(request.headers_mut());
        let tcp = TcpStream::connect(exchange.address()).await.unwrap();
        let (socket, _) = client_async(request, tcp).await.unwrap();
        let mut observer = Self {
            socket,
            markets: Arc::clone(markets),
            books: vec![Levels::new(); MARKETS],
            history: vec![Vec::new(); MARKETS],
            changes: vec![Vec::new(); MARKETS],
            deltas: 0,
            seq: 0,
            commands: 0,
        };
        let params = json!({"channels": ["orderbook_delta"], "market_tickers": markets.tickers});
        observer.send(&json!({"cmd": "subscribe", "params": params})).await;
        observer.catch_up().await;
        observer.begin();
        observer
    }

    async fn send(&mut self, command: &Value) {
        let mut command = command.clone();
        self.commands += 1;
        command["id"] = json!(self.commands);
        self.socket.send(Message::text(command.to_string())).await.unwrap();
    }

    /// Reads all that was sent so far: the answer to a command comes after it.
    async fn catch_up(&mut self) {
        self.send(&json!({"cmd": "list_subscriptions"})).await;
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.unwrap().unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str().unwrap() {
                "orderbook_snapshot" | "orderbook_delta" => self.take(&frame),
                "ok" if frame["id"] == json!(self.commands) => return,
                "subscribed" => {}
                other => panic!("{other}: {text}"),
            }
        }
    }

    fn take(&mut self, frame: &Value) {
        self.seq += 1;
        assert_eq!(frame["seq"], json!(self.seq), "the truth has a hole");
        let message = &frame["msg"];
        let place = self.markets.place(message["market_ticker"].as_str().unwrap());
        let book = &mut self.books[place];
        if frame["type"] == "orderbook_snapshot" {
            book.clear();
            for (is_bid, levels) in [(true, "yes_dollars_fp"), (false, "no_dollars_fp")] {
                for row in message[levels].as_array().into_iter().flatten() {
                    book.insert(level(is_bid, &row[0]), decimal(&row[1], 2));
                }
            }
            let marks = book.iter().map(|((bid, price), count)| mark(*bid, *price, *count));
            self.history[place] = vec![marks.fold(0, u64::wrapping_add)];
            return;
        }
        self.deltas += 1;
        let (is_bid, price) = level(message["side"] == "yes", &message["price_dollars"]);
        let count = book.entry((is_bid, price)).or_default();
        let mut sum = *self.history[place].last().unwrap();
        if *count != 0 {
            sum = sum.wrapping_sub(mark(is_bid, price, *count));
        }
        let added = decimal(&message["delta_fp"], 2);
        let clock = message["clock"].as_i64().unwrap();
        self.changes[place].push((clock, is_bid, price, added));
        *count += added;
        match *count {
            0 => {
                book.remove(&(is_bid, price));
            }
            count => {
                assert!(count > 0, "the truth is corrupt");
                sum = sum.wrapping_add(mark(is_bid, price, count));
            }
        }
        self.history[place].push(sum);
    }

    /// Discards past states when the exchange stands still.
    fn begin(&mut self) {
        for history in &mut self.history {
            history.drain(..history.len() - 1);
        }
        for changes in &mut self.changes {
            changes.clear();
        }
    }

    /// Checks that a merged client has had each change once and in order, or was notified of a
    /// loss.
    fn check_changes(&self, name: &str, seen: &Seen) {
        for (place, (changes, seen)) in self.changes.iter().zip(&seen.changes).enumerate() {
            let ticker = &self.markets.tickers[place];
            let (mut at, mut is_void) = (0, seen.first() == Some(&Read::Void));
            for read in seen {
                match *read {
                    Read::Void => is_void = true,
                    Read::Delta(change) => {
                        assert!(!is_void, "{name}: a change of {ticker} without a book");
                        assert_eq!(Some(&change), changes.get(at), "{name}: {ticker} after {at}");
                        at += 1;
                    }
                    Read::Snapshot(clock) => {
                        let end = changes.partition_point(|change| change.0 <= clock);
                        let is_same = |change: &Change| change.0 == clock;
                        assert!(end >= at, "{name}: {ticker} goes back to {clock}");
                        let skipped = &changes[at..end];
                        // Of one clock, changes that cancel each other may be in the snapshot.
                        let is_tail = at > 0 && changes[at - 1..end].iter().all(is_same);
                        assert!(
                            is_void || skipped.is_empty() || is_tail,
                            "{name}: {skipped:?} of {ticker} are missing without a word"
                        );
                        (at, is_void) = (end, false);
                    }
                }
            }
            assert!(at == changes.len() && !is_void, "{name}: {ticker} ends after {at} changes");
        }
    }

    /// Checks that a client saw only past states, in their order.
    fn check(&self, name: &str, seen: &Seen) {
        for (place, (history, books)) in self.history.iter().zip(&seen.books).enumerate() {
            // A snapshot may say again what is known.
            let mut left = history.as_slice();
            for (number, sum) in books.iter().enumerate() {
                let Some(at) = left.iter().position(|was| was == sum) else {
                    let ticker = &self.markets.tickers[place];
                    let places = |sum| history.iter().position(|was| was == sum);
                    let places: Vec<_> = books.iter().map(places).collect();
                    panic!(
                        "{name}: reading {number} of {ticker} since the last rest never was after \
                         the one before it: {places:?} of {}\nread: {:?}\nwas: {:?}",
                        history.len(),
                        seen.changes[place],
                        self.changes[place]
                    )
                };
                left = &left[at..];
            }
        }
    }
}

/// A message: its connection, its subscription, its number.
type Numbered = (u64, i64, i64);

/// The numbers of replies, which are no messages: they are seen on the wire only.
#[derive(Clone, Default)]
struct Replies(Arc<Mutex<(u64, HashSet<Numbered>)>>);

impl Tap for Replies {
    fn received(&mut self, _: UnixMillis, text: &str) {
        if text.contains(r#""type":"ok""#) {
            let reply: Value = serde_json::from_str(text).unwrap();
            if let (Some(sid), Some(seq)) = (reply["sid"].as_i64(), reply["seq"].as_i64()) {
                let mut inner = self.0.lock().unwrap();
                let connection = inner.0;
                inner.1.insert((connection, sid, seq));
            }
        }
    }

    fn connected(&mut self, _: UnixMillis) {
        let mut inner = self.0.lock().unwrap();
        inner.0 += 1;
        inner.1.clear();
    }
}

impl Replies {
    fn has(&self, reply: Numbered) -> bool {
        // Those of former connections are forgotten; they cannot be asked for either, once the
        // tap has heard of the next connection.
        let inner = self.0.lock().unwrap();
        inner.0 != reply.0 || inner.1.contains(&reply)
    }
}

/// An event that a merged client has read of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Delta(Change),
    /// A snapshot of this clock.
    Snapshot(i64),
    /// It was told that something is missing.
    Void,
}

/// The states that a client has read since the exchange last stood still, and its last one.
struct Seen {
    books: Vec<Vec<u64>>,
    /// Of a merged client.
    changes: Vec<Vec<Read>>,
    levels: Vec<Levels>,
    /// The connections that cover every book.
    coverage: usize,
    events: BTreeMap<&'static str, u64>,
}

/// A command to a client.
enum Order {
    /// Read nothing until the other end is dropped.
    Sleep(oneshot::Receiver<()>),
    TakeOut(usize),
    /// All markets again.
    Everything,
    /// Go on until all books can be read and everything that was sent has been read.
    Settle(oneshot::Sender<Seen>),
}

/// The stream that a client reads.
#[expect(clippy::large_enum_variant, reason = "there are three of them")]
enum Source {
    One(Connection),
    Merged(RedundantFeed),
}

impl Source {
    async fn next(&mut self) -> Event {
        match self {
            Self::One(connection) => connection.next().await,
            Self::Merged(feed) => feed.next().await,
        }
        .unwrap()
    }

    fn handles(&self) -> Vec<ConnectionHandle> {
        match self {
            Self::One(connection) => vec![connection.handle().clone()],
            Self::Merged(feed) => feed.handles().cloned().collect(),
        }
    }
}

/// A client under test.
struct Client {
    name: &'static str,
    source: Source,
    /// Fed by hand, for one connection.
    books: Books,
    markets: Arc<Markets>,
    replies: Replies,
    connection: u64,
    last: Option<Numbered>,
    /// Something was said to be missing since the last message.
    excused: bool,
    seen: Vec<Vec<u64>>,
    changes: Vec<Vec<Read>>,
    events: BTreeMap<&'static str, u64>,
}

type Running = (&'static str, mpsc::UnboundedSender<Order>, JoinHandle<()>);

impl Client {
    async fn connect(
        exchange: &Exchange,
        role: Role,
        url: String,
        replies: &Replies,
        stale_after: Duration,
    ) -> Connection {
        let credentials = exchange.credentials(role).unwrap().clone();
        let config = Config::builder()
            .with_environment(Environment::Custom(url))
            .with_credentials(credentials)
            .with_backoff(Backoff::new(Duration::from_millis(5), Duration::from_millis(100)))
            .with_snapshot_timeout(Duration::from_millis(500))
            .with_stale_after(stale_after)
            .with_command_timeout(Duration::from_secs(5))
            .with_items_per_command(64)
            .with_tap(replies.clone())
            .build()
            .unwrap();
        Connection::connect(config).await.unwrap()
    }

    async fn start(
        exchange: &Exchange,
        markets: &Arc<Markets>,
        role: Role,
        overflow: Overflow,
    ) -> Running {
        let replies = Replies::default();
        let url = exchange.stream_url();
        let connection = Self::connect(exchange, role, url, &replies, STALE_AFTER).await;
        let wish = Subscription::orderbook(markets.tickers.iter().cloned()).with_overflow(overflow);
        connection.handle().subscribe(wish).unwrap();
        let books = connection.handle().books();
        let name = if overflow == Overflow::Block { "blocking" } else { "dropping" };
        Self::run(name, Source::One(connection), books, markets, replies)
    }

    async fn start_merged(
        exchange: &Exchange,
        markets: &Arc<Markets>,
        detour: &Detour,
        stale_after: Duration,
    ) -> Running {
        let mut connections = Vec::new();
        for (role, url) in MERGED.into_iter().zip([exchange.stream_url(), detour.url.clone()]) {
            let replies = Replies::default();
            connections.push(Self::connect(exchange, role, url, &replies, stale_after).await);
        }
        let feed = Connection::merge(connections).unwrap();
        // One of them blocks, and one drops.
        let wish = Subscription::orderbook(markets.tickers.iter().cloned());
        for (handle, overflow) in feed.handles().zip([Overflow::Block, Overflow::DropOldest]) {
            handle.subscribe(wish.clone().with_overflow(overflow)).unwrap();
        }
        Self::run("merged", Source::Merged(feed), Books::new(), markets, Replies::default())
    }

    fn run(
        name: &'static str,
        source: Source,
        books: Books,
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
            seen: vec![Vec::new(); MARKETS],
            changes: vec![vec![Read::Void]; MARKETS],
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

    fn books(&self) -> &Books {
        match &self.source {
            Source::One(_) => &self.books,
            Source::Merged(feed) => feed.books(),
        }
    }

    fn coverage(&self) -> usize {
        match &self.source {
            Source::One(_) => 1,
            Source::Merged(feed) => {
                let tickers = self.markets.tickers.iter();
                tickers.map(|ticker| feed.coverage(ticker)).min().unwrap_or_default()
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Sleep(awake) => {
                let _ = awake.await;
            }
            Order::TakeOut(place) => {
                let ticker = &self.markets.tickers[place];
                for handle in self.source.handles() {
                    handle.delete_markets(Channel::OrderbookDelta, [ticker]).unwrap();
                }
            }
            Order::Everything => {
                let all = self.markets.tickers.iter();
                for handle in self.source.handles() {
                    handle.add_markets(Channel::OrderbookDelta, all.clone()).unwrap();
                }
            }
            Order::Settle(answer) => {
                self.settle().await;
                let levels = self.markets.tickers.iter();
                let levels = levels.map(|ticker| levels_of(self.books().get(ticker).unwrap()));
                let seen = Seen {
                    levels: levels.collect(),
                    coverage: self.coverage(),
                    books: std::mem::replace(&mut self.seen, vec![Vec::new(); MARKETS]),
                    changes: std::mem::replace(&mut self.changes, vec![Vec::new(); MARKETS]),
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
    fn take(&mut self, event: &Event) {
        self.books.apply(event);
        let is_merged = matches!(self.source, Source::Merged(_));
        let name = match event {
            Event::Message(message) => {
                let ticker = message.payload.market_ticker().unwrap();
                let place = self.markets.place(ticker);
                if is_merged {
                    self.changes[place].push(read_of(&message.payload));
                } else {
                    let at = (self.connection, message.sid.unwrap(), message.seq.unwrap());
                    self.continues(at);
                }
                if let Some(book) = self.books().get(ticker) {
                    let marks = levels_of(book);
                    let marks = marks.iter().map(|((bid, price), n)| mark(*bid, *price, *n));
                    let sum = marks.fold(0, u64::wrapping_add);
                    self.seen[place].push(sum);
                }
                match message.payload {
                    Payload::OrderbookSnapshot(_) => "snapshot",
                    _ => "delta",
                }
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

fn read_of(payload: &Payload) -> Read {
    match payload {
        Payload::OrderbookDelta(delta) => Read::Delta((
            delta.clock.unwrap(),
            delta.side == MarketSide::Yes,
            delta.price_dollars.as_micros(),
            delta.delta_fp.as_hundredths(),
        )),
        Payload::OrderbookSnapshot(snapshot) => Read::Snapshot(snapshot.clock.unwrap()),
        other => panic!("{other:?}"),
    }
}

fn levels_of(book: &OrderBook) -> Levels {
    let row = |is_bid: bool| {
        move |level: kalshi_types::PriceLevel| {
            ((is_bid, level.price.as_micros()), level.count.as_hundredths())
        }
    };
    book.bids(Outcome::Yes).map(row(true)).chain(book.asks(Outcome::Yes).map(row(false))).collect()
}

/// The exchange, the observer and the clients.
struct World {
    exchange: Arc<Exchange>,
    markets: Arc<Markets>,
    observer: Observer,
    clients: Vec<Running>,
    /// Whose connections things happen to.
    victims: Vec<Role>,
    /// The way of the second merged connection.
    detour: Detour,
    /// The merged connections that covered every book at the last rest.
    coverage: usize,
    random: Random,
}

impl World {
    async fn start(seed: u64, is_merged: bool, stale_after: Duration) -> Self {
        let exchange = Exchange::builder()
            .with_seed(seed)
            .with_markets(204)
            .with_traders(50)
            .with_stream_capacity(CAPACITY)
            .start();
        let exchange = Arc::new(exchange.await.unwrap());
        let markets = Arc::new(Markets::of(&exchange).await);
        let observer = Observer::connect(&exchange, &markets).await;
        let mut clients = Vec::new();
        let detour = Detour::to(&exchange).await;
        if is_merged {
            clients.push(Client::start_merged(&exchange, &markets, &detour, stale_after).await);
        } else {
            for (role, overflow) in
                [(Role::Trader, Overflow::Block), (Role::Reader, Overflow::DropOldest)]
            {
                clients.push(Client::start(&exchange, &markets, role, overflow).await);
            }
        }
        let victims = vec![Role::Trader];
        let random = Random(seed);
        Self { exchange, markets, observer, clients, victims, detour, coverage: 0, random }
    }

    /// Sets faults that lose, repeat or reorder messages, at rates that differ each time.
    fn weather(&mut self) {
        let mut rate = |most: u64| match self.random.below(3) {
            0 => 0,
            _ => 200 + self.random.below(most),
        };
        let mut faults = StreamFaults::default();
        faults.drop_one_in = rate(4_000);
        faults.duplicate_one_in = rate(4_000);
        faults.swap_one_in = rate(4_000);
        faults.seed = self.random.below(u64::MAX);
        faults.ack_delay = Duration::from_millis([0, 0, 20][self.random.market() % 3]);
        faults.data_before_ack = self.random.below(2) == 0;
        faults.replies_take_no_number = self.random.below(2) == 0;
        faults.errors_name_nothing = self.random.below(2) == 0;
        if self.victims.contains(&Role::Trader) {
            self.exchange.streams().set_faults(Role::Trader, faults).unwrap();
        }
        if self.victims.contains(&Role::Maker) {
            self.detour.lose_one_in.store(200 + self.random.below(4_000), Ordering::Relaxed);
        }
    }

    /// Lets the traders trade; the observer sees what follows.
    async fn trade(&mut self, commands: u64) {
        let exchange = Arc::clone(&self.exchange);
        spawn_blocking(move || exchange.markets().run_traders(commands)).await.unwrap();
        self.observer.catch_up().await;
    }

    async fn trade_until(&mut self, deltas: u64) {
        while self.observer.deltas < deltas {
            self.trade(STRETCH).await;
            self.all_run();
        }
    }

    fn all_run(&self) {
        for (name, _, task) in &self.clients {
            assert!(!task.is_finished(), "{name} has failed: see above");
        }
    }

    fn order(&self, order: impl Fn() -> Order) {
        for (_, orders, _) in &self.clients {
            // Whoever is gone has failed, and is found out.
            let _ = orders.send(order());
        }
    }

    fn each_victim(&self, does: impl Fn(&Exchange, Role)) {
        for role in &self.victims {
            match role {
                Role::Maker => self.detour.cut.send_replace(()),
                role => does(&self.exchange, *role),
            }
        }
    }

    /// Causes a large fault.
    async fn disaster(&mut self, which: u64) {
        match which {
            0 => self.each_victim(|exchange, role| exchange.streams().cut(role).unwrap()),
            1 => self.each_victim(|exchange, role| exchange.streams().silence(role).unwrap()),
            2 => {
                for _ in 0..10 {
                    let place = self.random.market();
                    self.order(|| Order::TakeOut(place));
                }
                self.trade(STRETCH).await;
                self.order(|| Order::Everything);
            }
            3 => {
                // Long enough to fill every buffer on the way.
                let mut awake = Vec::new();
                for (_, orders, _) in &self.clients {
                    let (sender, receiver) = oneshot::channel();
                    awake.push(sender);
                    let _ = orders.send(Order::Sleep(receiver));
                }
                let enough = self.observer.deltas + 60_000;
                self.trade_until(enough).await;
            }
            4 => {
                let ending =
                    [Ending::ChannelError, Ending::BufferOverflow][self.random.market() % 2];
                self.each_victim(|exchange, role| {
                    exchange.streams().end_subscriptions(role, ending).unwrap();
                });
            }
            _ => {
                let down_for = Duration::from_millis(500);
                self.each_victim(|exchange, role| {
                    exchange.streams().restart(role, down_for).unwrap();
                });
            }
        }
    }

    /// Rests until each merged connection covers every book, so that one of them can be lost.
    async fn rest_covered(&mut self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let began = Instant::now();
        loop {
            let events = self.rest().await;
            if self.coverage >= MERGED.len() {
                return events;
            }
            assert!(began.elapsed() < PATIENCE, "never covered: {events:?}");
        }
    }

    /// Stops the exchange and its faults, and checks that all clients agree.
    async fn rest(&mut self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        self.exchange.streams().set_faults(Role::Trader, StreamFaults::default()).unwrap();
        self.detour.lose_one_in.store(0, Ordering::Relaxed);
        self.order(|| Order::Everything);
        // A loss shows by what comes after it.
        let before = self.observer.deltas;
        self.trade(STRETCH / 5).await;
        assert!(self.observer.deltas > before);
        self.halt(true);
        self.observer.catch_up().await;
        let truth = self.engine_books().await;
        assert!(truth == self.observer.books, "the observer is no truth");
        let mut events = BTreeMap::new();
        for (name, orders, _) in &self.clients {
            let (sender, receiver) = oneshot::channel();
            let _ = orders.send(Order::Settle(sender));
            let seen = receiver.await.unwrap_or_else(|_| panic!("{name} has failed: see above"));
            for ((ours, theirs), ticker) in
                seen.levels.iter().zip(&truth).zip(&self.markets.tickers)
            {
                assert_eq!(ours, theirs, "{name}: {ticker}");
            }
            self.observer.check(name, &seen);
            if *name == "merged" {
                self.observer.check_changes(name, &seen);
                self.coverage = seen.coverage;
            }
            events.insert(*name, seen.events);
        }
        self.observer.begin();
        self.halt(false);
        events
    }

    /// Stops all trading, or lets it go on.
    fn halt(&self, halt: bool) {
        for shard in 0..4 {
            self.exchange.markets().set_shard(shard, !halt, !halt).unwrap();
        }
    }

    /// Returns the books that the exchange has, over REST.
    async fn engine_books(&self) -> Vec<Levels> {
        let client = self.exchange.client(Role::Maker).unwrap();
        let mut books = vec![Levels::new(); MARKETS];
        for tickers in self.markets.tickers.chunks(100) {
            let answer = client.get_market_orderbooks().tickers(tickers.to_vec()).send().await;
            for market in answer.unwrap().into_inner().orderbooks {
                let book = &mut books[self.markets.place(&market.ticker)];
                let rows = |is_bid: bool, levels: Vec<kalshi_types::PriceLevel>| {
                    levels.into_iter().map(move |row| {
                        let price = row.price.as_micros();
                        let price = if is_bid { price } else { 1_000_000 - price };
                        ((is_bid, price), row.count.as_hundredths())
                    })
                };
                book.extend(rows(true, market.orderbook_fp.yes_dollars));
                book.extend(rows(false, market.orderbook_fp.no_dollars));
            }
        }
        books
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Rounds of faults and disasters, until there have been enough changes. `victims` says whose
/// connections each of them happens to.
#[expect(clippy::print_stdout, reason = "a soak says what it did")]
async fn soak(
    is_merged: bool,
    victims: impl Fn(u64) -> Vec<Role>,
) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    const KINDS: u64 = 6;
    let target = number("SOAK_DELTAS", 150_000);
    let mut world = World::start(number("SOAK_SEED", 1), is_merged, STALE_AFTER).await;
    let mut events = world.rest().await;
    let (mut rounds, mut compared) = (0, MARKETS);
    while world.observer.deltas < target || rounds < 2 * KINDS {
        world.victims = victims(rounds);
        world.weather();
        let middle = world.observer.deltas + target / 100;
        world.trade_until(middle).await;
        // A stall takes sixty thousand changes by itself: twice is enough.
        let which = rounds % KINDS;
        if which != 3 || rounds < 2 * KINDS {
            world.disaster(which).await;
        }
        let end = world.observer.deltas + target / 100;
        world.trade_until(end).await;
        events = world.rest().await;
        rounds += 1;
        compared += MARKETS;
    }
    let deltas = world.observer.deltas;
    println!("{deltas} changes, {rounds} rounds, {compared} books of each client compared");
    for (name, events) in &events {
        println!("{name}: {events:?}");
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_book_is_ever_wrong_and_nothing_is_lost_in_silence() {
    let events = soak(false, |_| vec![Role::Trader]).await;
    let count = |client: &str, event: &str| events[client].get(event).copied().unwrap_or(0);
    for client in ["blocking", "dropping"] {
        for event in [
            "gap",
            "resynced",
            "disconnected",
            "attempt failed",
            "reconnected",
            "stale",
            "removed",
            "ended",
        ] {
            assert!(count(client, event) > 0, "{client}: {event} never happened");
        }
    }
    assert!(count("blocking", "cut off for being slow") > 0);
    assert!(count("dropping", "lagged") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_connections_have_every_change_once_or_say_what_is_missing() {
    // One of them, the other one, and both.
    let victims = |round: u64| match round % 4 {
        0 | 2 => vec![Role::Trader],
        1 => vec![Role::Maker],
        _ => MERGED.to_vec(),
    };
    let events = soak(true, victims).await;
    let count = |event: &str| events["merged"].get(event).copied().unwrap_or(0);
    for event in [
        "gap of a feed",
        "disconnected feed",
        "ended on a feed",
        "lagged feed",
        "uncovered",
        "failover",
        "removed",
    ] {
        assert!(count(event) > 0, "{event} never happened");
    }
}

/// Books stay valid while a socket is lost and replaced, and no change is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_books_stay_valid_through_the_loss_of_one_socket() {
    // Nothing but the cuts ends a connection, however slow the machine.
    let mut world = World::start(7, true, PATIENCE).await;
    let before = world.rest_covered().await;
    for victim in [Role::Trader, Role::Maker, Role::Trader] {
        world.trade(STRETCH).await;
        world.victims = vec![victim];
        world.disaster(0).await;
        world.trade(STRETCH).await;
        world.rest_covered().await;
    }
    let after = world.rest().await;
    let count = |events: &BTreeMap<_, BTreeMap<&str, u64>>, name: &str| {
        events["merged"].get(name).copied().unwrap_or_default()
    };
    let counts = format!("{before:?}, {after:?}");
    assert_eq!(count(&after, "disconnected feed"), 3, "{counts}");
    assert_eq!(count(&after, "uncovered"), count(&before, "uncovered"), "{counts}");
    assert_eq!(count(&after, "disconnected"), 0, "{counts}");
}

/// Rests or takes contracts of a market at 50 cents.
async fn order(client: &kalshi_sdk::Client, ticker: &str, side: BookSide, count: &str) {
    let is_bid = side == BookSide::Bid;
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price("0.5000")
        .count(count)
        .time_in_force(if is_bid {
            TimeInForce::ImmediateOrCancel
        } else {
            TimeInForce::GoodTillCanceled
        })
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    client.create_order_v2().body(order).send().await.unwrap();
}

/// The consumer of merged fills.
struct Fills {
    feed: RedundantFeed,
    ids: Vec<String>,
    /// The connections that are subscribed.
    are_live: [bool; MERGED.len()],
    losses: usize,
}

impl Fills {
    async fn take(&mut self) {
        let event = timeout(PATIENCE, self.feed.next()).await.unwrap().unwrap();
        match event {
            Event::Message(message) => match message.payload {
                Payload::Fill(fill) => self.ids.push(fill.trade_id),
                other => panic!("{other:?}"),
            },
            Event::Subscribed { .. } => self.are_live[self.feed.leader().unwrap()] = true,
            Event::Feed { feed, event } => match *event {
                Event::Subscribed { .. } => self.are_live[feed] = true,
                Event::Disconnected { .. } => {
                    self.are_live[feed] = false;
                    self.losses += 1;
                }
                _ => {}
            },
            Event::Failover { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Fills have no numbers, and each comes once while one socket after the other is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_fills_come_once_through_the_loss_of_one_socket() {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXTEST-26-A", 86_400)).unwrap();
    let (ticker, client) = ("KXTEST-26-A", exchange.client(Role::Trader).unwrap());
    order(&exchange.client(Role::Maker).unwrap(), ticker, BookSide::Ask, "1000.00").await;
    let detours = [Detour::to(&exchange).await, Detour::to(&exchange).await];
    let mut connections = Vec::new();
    for detour in &detours {
        let (url, replies) = (detour.url.clone(), Replies::default());
        let connection = Client::connect(&exchange, Role::Trader, url, &replies, PATIENCE).await;
        connections.push(connection);
    }
    let feed = Connection::merge(connections).unwrap();
    feed.subscribe(Subscription::fills()).unwrap();
    let mut fills = Fills { feed, ids: Vec::new(), are_live: [false; MERGED.len()], losses: 0 };
    let mut placed = 0;
    for round in 0..10_usize {
        while fills.are_live != [true; MERGED.len()] {
            fills.take().await;
        }
        // Until both bring them again.
        let enough = fills.feed.metrics().duplicates + 2;
        while fills.feed.metrics().duplicates < enough {
            order(&client, ticker, BookSide::Bid, "1.00").await;
            placed += 1;
            while fills.ids.len() < placed {
                fills.take().await;
            }
            // The other copy shows in no event.
            while timeout(Duration::from_millis(20), fills.take()).await.is_ok() {}
        }
        detours[round % 2].cut.send_replace(());
        for _ in 0..3 {
            order(&client, ticker, BookSide::Bid, "1.00").await;
            placed += 1;
        }
        while fills.ids.len() < placed || fills.losses <= round {
            fills.take().await;
        }
    }
    let page = client.get_fills().limit(1_000_u64).send().await.unwrap().into_inner();
    let theirs: BTreeSet<String> = page.fills.into_iter().map(|fill| fill.trade_id).collect();
    let ours: BTreeSet<String> = fills.ids.iter().cloned().collect();
    assert_eq!(ours.len(), fills.ids.len(), "a fill comes twice");
    assert_eq!(ours, theirs);
    assert_eq!(fills.feed.metrics().uncovered, 0);
    assert!(fills.feed.metrics().covered > 0);
}
