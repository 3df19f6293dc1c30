//! The session against a random exchange and a random consumer, in virtual time.
//!
//! Replies are late, missing, repeated, refused or without an id; messages are lost, repeated or
//! unreadable; subscriptions and connections end; and the consumer asks for anything at any moment.
//! Then the weather clears, and when all is quiet:
//!
//! - what is on the wire is what is desired;
//! - every request has been answered by an event;
//! - there were few commands;
//! - every book that could ever be read was what the exchange had, and now all can be.
//!
//! `MODEL_RUNS` says how many runs there are, and `MODEL_SEED` where they begin. One source for every
//! product: [`Modeled`] says what differs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
    time::Duration,
};

use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};
use tokio::time::Instant;

use super::{Limits, Output, Request, SessionState};
use crate::{
    Backoff, BookState, Channel, Delta, DisconnectReason, EventContracts, Malformed, Market,
    OrderBook, Outcome, Payload, Refusal, ServerError, Sid, SubscribedItems, Unknown,
    product::{BookPart, Books, Event, Frame, Message, Product, Subscription},
    protocol::command::{Action, Command, Update},
    types::{ListSubscriptionsResponseItem, MarketSide, OrderbookSnapshot},
};

const TICKERS: [&str; 5] = ["A", "B", "C", "D", "E"];

/// The part of a product that the model needs.
trait Modeled: Product {
    /// Returns order books, and two other channels.
    fn channels() -> [Self::Channel; 3];

    /// Returns the channel that answers a query by a message, and that message.
    fn list() -> Option<(Self::Channel, Self::Payload)>;

    /// Returns the change of the one bid of a market.
    fn delta(market: &Market, delta: Count, seq: i64) -> Self::Payload;

    /// Returns the snapshot of a market with one bid, or none.
    fn snapshot(ticker: &str, bid: Option<Count>) -> Self::Payload;

    /// Returns the contracts of the best bid.
    fn best_bid(book: &Self::OrderBook) -> Option<PriceLevel>;
}

impl Modeled for EventContracts {
    fn channels() -> [Channel; 3] {
        [Channel::OrderbookDelta, Channel::Trade, Channel::CfbenchmarksValue]
    }

    fn list() -> Option<(Channel, Payload)> {
        Some((Channel::CfbenchmarksValue, LIST.clone()))
    }

    fn delta(market: &Market, delta: Count, seq: i64) -> Payload {
        Payload::OrderbookDelta(Delta {
            market: market.clone(),
            price_dollars: Dollars::from_cents(40).unwrap(),
            delta_fp: delta,
            side: MarketSide::Yes,
            clock: Some(seq),
            ts_ms: None,
            own: None,
        })
    }

    fn snapshot(ticker: &str, bid: Option<Count>) -> Payload {
        let mut snapshot = SNAPSHOT.clone();
        ticker.clone_into(&mut snapshot.market_ticker);
        let price = Dollars::from_cents(40).unwrap();
        snapshot.yes_dollars_fp =
            bid.map(|count| PriceLevel { price, count }).into_iter().collect();
        Payload::OrderbookSnapshot(Box::new(snapshot))
    }

    fn best_bid(book: &OrderBook) -> Option<PriceLevel> {
        book.best_bid(Outcome::Yes)
    }
}

#[cfg(feature = "perps")]
impl Modeled for crate::perps::Perps {
    fn channels() -> [crate::perps::Channel; 3] {
        use crate::perps::Channel;
        [Channel::OrderbookDelta, Channel::Trade, Channel::Ticker]
    }

    fn list() -> Option<(crate::perps::Channel, crate::perps::Payload)> {
        None
    }

    fn delta(market: &Market, delta: Count, _: i64) -> crate::perps::Payload {
        let (side, price) = (crate::perps::types::BookSide::Bid, PERPS_PRICE);
        let delta = crate::perps::Delta::new(market.clone(), side, price, delta, None);
        crate::perps::Payload::OrderbookDelta(delta)
    }

    fn snapshot(ticker: &str, bid: Option<Count>) -> crate::perps::Payload {
        let mut snapshot = PERPS_SNAPSHOT.clone();
        ticker.clone_into(&mut snapshot.market_ticker);
        let level = |count| PriceLevel { price: PERPS_PRICE, count };
        snapshot.bid = bid.map(level).into_iter().collect();
        crate::perps::Payload::OrderbookSnapshot(Box::new(snapshot))
    }

    fn best_bid(book: &crate::perps::OrderBook) -> Option<PriceLevel> {
        book.best_bid()
    }
}

/// Far above a dollar.
#[cfg(feature = "perps")]
const PERPS_PRICE: Dollars = Dollars::from_micros(64_250_500_000);

/// A snapshot, to be filled in.
#[cfg(feature = "perps")]
static PERPS_SNAPSHOT: LazyLock<crate::perps::types::MarginOrderbookSnapshot> =
    LazyLock::new(|| serde_json::from_str(r#"{"market_ticker":"A"}"#).unwrap());

/// The exchange's codes for refusals: transient, terminal, about a market, about the command.
const CODES: [i64; 8] = [27, 18, 25, 10, 16, 11, 26, 5];

const STEP: Duration = Duration::from_millis(10);

/// Nothing takes longer than this once the weather is clear.
const PATIENCE: Duration = Duration::from_secs(60);

static MARKETS: LazyLock<Vec<Market>> = LazyLock::new(|| {
    (0..).zip(TICKERS).map(|(slot, ticker)| Market::new(ticker, "id", slot)).collect()
});

/// A snapshot, to be filled in.
static SNAPSHOT: LazyLock<OrderbookSnapshot> = LazyLock::new(|| {
    serde_json::from_str(r#"{"market_ticker":"A","market_id":"id","clock":1}"#).unwrap()
});

/// The message of the channel with indices that answers a query.
static LIST: LazyLock<Payload> = LazyLock::new(|| {
    Payload::read("cfbenchmarks_value_indexlist", r#"{"index_ids":["A"]}"#).unwrap().unwrap()
});

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn tickers(&mut self) -> Vec<String> {
        let bits = 1 + self.below((1 << TICKERS.len()) - 1);
        let chosen = (0..).zip(TICKERS).filter(|(bit, _)| bits & 1 << bit != 0);
        chosen.map(|(_, ticker)| ticker.to_owned()).collect()
    }
}

/// A subscription as the exchange has it.
#[derive(Debug)]
struct Served<P: Product> {
    channel: P::Channel,
    /// None for all.
    items: BTreeSet<String>,
    seq: i64,
}

/// The exchange.
struct Exchange<P: Product> {
    random: Random,
    /// Hundredths of contracts that are bid at 0.40, by market.
    books: [i64; TICKERS.len()],
    served: BTreeMap<Sid, Served<P>>,
    next_sid: Sid,
    /// Frames on their way to the client.
    wire: VecDeque<(Instant, Frame<P>)>,
    /// The book of a message's market, by subscription and number.
    history: BTreeMap<(Sid, i64), i64>,
    is_calm: bool,
    is_silent: bool,
    now: Instant,
}

impl<P: Modeled> Exchange<P> {
    /// Starts a new connection: nothing is left of the old one.
    fn restart(&mut self) {
        self.served.clear();
        self.wire.clear();
        self.is_silent = false;
        self.history.clear();
    }

    fn send(&mut self, frame: Frame<P>) {
        // What a reply without an id answers is told by its order.
        let is_ordered = matches!(
            frame,
            Frame::Done { id: None, .. }
                | Frame::Error { id: None, .. }
                | Frame::Subscribed { id: None, .. }
        );
        self.send_at(frame, is_ordered);
    }

    fn send_at(&mut self, frame: Frame<P>, is_ordered: bool) {
        if self.is_silent {
            return;
        }
        let is_ordered = is_ordered || self.is_calm;
        let late = if is_ordered || !self.random.one_in(10) { 0 } else { self.random.below(30) };
        let at = self.now + Duration::from_millis(u64::try_from(late * 10).unwrap());
        if late > 0 {
            // What comes later may overtake it.
            self.wire.push_back((at, frame));
            return;
        }
        let place = self.wire.iter().rposition(|(due, _)| *due <= at).map_or(0, |place| place + 1);
        self.wire.insert(place, (at, frame));
    }

    fn reply(&mut self, id: i64, frame: impl Fn(Option<i64>) -> Frame<P>) {
        match if self.is_calm { usize::MAX } else { self.random.below(30) } {
            0 => {}
            1 | 2 => {
                self.send(frame(Some(id)));
                self.send(frame(Some(id)));
            }
            3..6 => self.send(frame(None)),
            _ => self.send(frame(Some(id))),
        }
    }

    fn of_channel(&self, channel: &P::Channel) -> Option<Sid> {
        self.served.iter().find(|(_, served)| served.channel == *channel).map(|(sid, _)| *sid)
    }

    fn number(&mut self, sid: Sid) -> i64 {
        let served = self.served.get_mut(&sid).unwrap();
        served.seq += 1;
        served.seq
    }

    /// Makes a change of some book.
    fn change(&mut self) {
        let market = self.random.below(TICKERS.len());
        let grow = 100 * (1 + i64::try_from(self.random.below(3)).unwrap());
        let delta = if self.random.one_in(2) { grow } else { -grow.min(self.books[market]) };
        if delta != 0 {
            self.apply(market, delta);
        }
    }

    fn apply(&mut self, market: usize, delta: i64) {
        self.books[market] += delta;
        let Some(sid) = self.of_channel(&P::book_channel()) else { return };
        if !self.served[&sid].items.contains(TICKERS[market]) {
            return;
        }
        let seq = self.number(sid);
        self.history.insert((sid, seq), self.books[market]);
        let payload = P::delta(&MARKETS[market], Count::from_hundredths(delta), seq);
        self.data(sid, seq, None, &payload);
    }

    fn snapshot(&mut self, sid: Sid, ticker: &str, id: Option<i64>) {
        let Some(market) = TICKERS.iter().position(|known| *known == ticker) else { return };
        let seq = self.number(sid);
        self.history.insert((sid, seq), self.books[market]);
        let bid = (self.books[market] > 0).then(|| Count::from_hundredths(self.books[market]));
        self.data(sid, seq, id, &P::snapshot(ticker, bid));
    }

    fn data(&mut self, sid: Sid, seq: i64, id: Option<i64>, payload: &P::Payload) {
        let message = |sid, seq| {
            let (received, payload) = (UnixMillis::from_millis(0), payload.clone());
            Frame::Message(Message { sid, seq, id, sent: None, received, payload })
        };
        let unreadable = |kind, sid, seq| {
            let (error, raw) = (String::new(), String::new());
            Frame::Malformed(Malformed { kind, sid, seq, sent: None, error, raw })
        };
        match if self.is_calm { usize::MAX } else { self.random.below(60) } {
            0 => {}
            1 => {
                self.send(message(Some(sid), Some(seq)));
                self.send(message(Some(sid), Some(seq)));
            }
            2 => self.send(unreadable(None, None, None)),
            3 => self.send(unreadable(Some("orderbook_delta".to_owned()), Some(sid), Some(seq))),
            4 => self.send(unreadable(None, Some(sid), None)),
            5 => self.send(message(None, None)),
            6 => self.send(message(Some(sid), None)),
            7 => {
                // Something new, which takes a number.
                self.send(message(Some(sid), Some(seq)));
                let seq = Some(self.number(sid));
                let (kind, raw) = ("news".to_owned(), String::new());
                self.send(Frame::Unknown(Unknown { kind, sid: Some(sid), seq, sent: None, raw }));
            }
            _ => self.send(message(Some(sid), Some(seq))),
        }
    }

    fn error(&mut self, id: i64, sid: Option<Sid>, code: i64) {
        let error = error_of(code);
        let seq = sid.filter(|sid| self.served.contains_key(sid));
        let seq = seq.map(|sid| self.number(sid));
        let frame = |id| Frame::Error { id, sid, seq, error: error.clone(), sent: None };
        if error.is_terminal() && self.random.one_in(3) {
            self.send(frame(None));
        } else if error.is_terminal() {
            // An end that is not reported could not be noticed.
            self.send(frame(Some(id)));
        } else {
            self.reply(id, frame);
        }
        if error.is_terminal()
            && let Some(sid) = sid
        {
            self.served.remove(&sid);
        }
    }

    fn command(&mut self, command: Command<P>) {
        if self.is_silent {
            return;
        }
        let id = command.id;
        let sid = match &command.action {
            Action::Update { sid, .. } | Action::Unsubscribe { sid } => Some(*sid),
            _ => None,
        };
        if let Some(sid) = sid
            && !self.served.contains_key(&sid)
        {
            self.reply(id, |id| Frame::Error {
                id,
                sid: None,
                seq: None,
                error: error_of(7),
                sent: None,
            });
            return;
        }
        if !self.is_calm && self.random.one_in(12) {
            let code = CODES[self.random.below(CODES.len())];
            if let Action::Update { sid, update: Update::Delete, items, .. } = &command.action
                && error_of(code).may_be_about_an_item()
                && let Some(served) = self.served.get_mut(sid)
            {
                // It refuses to take out what it does not have.
                served.items.retain(|item| !items.contains(item));
            }
            if code == ServerError::COMMAND_TIMEOUT && self.random.one_in(2) {
                // It was carried out all the same.
                self.carry_out(&command.action);
            }
            // The subscription of the command is known, so its end is said of it.
            return self.error(id, sid, code);
        }
        match command.action {
            Action::Subscribe { channel, items, .. } => self.subscribe(id, &channel, items),
            Action::Unsubscribe { sid } => {
                let seq = Some(self.number(sid));
                self.served.remove(&sid);
                self.reply(id, |id| Frame::Unsubscribed { id, sid, seq, sent: None });
            }
            Action::Update { channel, sid, update, items } => match update {
                Update::Add { .. } => {
                    let served = self.served.get_mut(&sid).unwrap();
                    let new: Vec<String> = items
                        .into_iter()
                        .filter(|item| served.items.insert(item.clone()))
                        .collect();
                    self.done(id, sid);
                    self.snapshots(&channel, sid, &new, None);
                }
                Update::Delete => {
                    let served = self.served.get_mut(&sid).unwrap();
                    for item in &items {
                        served.items.remove(item);
                    }
                    self.done(id, sid);
                }
                Update::Snapshot => {
                    let there = &self.served[&sid].items;
                    let there: Vec<String> =
                        items.into_iter().filter(|item| there.contains(item)).collect();
                    self.snapshots(&channel, sid, &there, Some(id));
                }
                Update::List => {
                    let seq = self.number(sid);
                    let (_, list) = P::list().unwrap();
                    self.reply(id, |id| {
                        let (received, payload) = (UnixMillis::from_millis(0), list.clone());
                        let (sid, seq) = (Some(sid), Some(seq));
                        Frame::Message(Message { sid, seq, id, sent: None, received, payload })
                    });
                }
            },
            Action::ListSubscriptions => {
                self.reply(id, |id| Frame::Subscriptions {
                    id,
                    list: Vec::<ListSubscriptionsResponseItem>::new(),
                    sent: None,
                });
            }
        }
    }

    fn subscribe(&mut self, id: i64, channel: &P::Channel, items: Vec<String>) {
        let Some(sid) = self.of_channel(channel) else {
            self.next_sid += 1;
            let (sid, name) = (self.next_sid, channel.to_string());
            let served = items.iter().cloned().collect();
            self.served.insert(sid, Served { channel: channel.clone(), items: served, seq: 0 });
            self.reply(id, |id| Frame::Subscribed { id, channel: name.clone(), sid, sent: None });
            self.snapshots(channel, sid, &items, None);
            return;
        };
        let served = &mut self.served.get_mut(&sid).unwrap().items;
        let new: Vec<String> =
            items.into_iter().filter(|item| served.insert(item.clone())).collect();
        let market_tickers: Vec<String> = served.iter().cloned().collect();
        let items = SubscribedItems { market_tickers, ..SubscribedItems::default() };
        let (seq, sid) = (Some(self.number(sid)), Some(sid));
        self.reply(id, |id| Frame::Done { id, sid, seq, items: items.clone(), sent: None });
        self.snapshots(channel, sid.unwrap(), &new, None);
    }

    /// Does what a command says, without a word.
    fn carry_out(&mut self, action: &Action<P>) {
        match action {
            Action::Subscribe { channel, items, .. } => {
                let sid = self.of_channel(channel).unwrap_or(self.next_sid + 1);
                self.next_sid = self.next_sid.max(sid);
                let new = || Served { channel: channel.clone(), items: BTreeSet::new(), seq: 0 };
                let served = self.served.entry(sid).or_insert_with(new);
                served.items.extend(items.iter().cloned());
            }
            Action::Unsubscribe { sid } => {
                self.served.remove(sid);
            }
            Action::Update { sid, update, items, .. } => {
                let served = &mut self.served.get_mut(sid).unwrap().items;
                match update {
                    Update::Add { .. } => served.extend(items.iter().cloned()),
                    Update::Delete => served.retain(|item| !items.contains(item)),
                    Update::Snapshot | Update::List => {}
                }
            }
            Action::ListSubscriptions => {}
        }
    }

    fn done(&mut self, id: i64, sid: Sid) {
        let seq = Some(self.number(sid));
        self.reply(id, |id| Frame::Done {
            id,
            sid: Some(sid),
            seq,
            items: SubscribedItems::default(),
            sent: None,
        });
    }

    fn snapshots(&mut self, channel: &P::Channel, sid: Sid, items: &[String], id: Option<i64>) {
        if P::is_book(channel) {
            for item in items {
                self.snapshot(sid, item, id);
            }
        }
    }

    /// Sends something that no command asked for.
    fn mischief(&mut self) {
        let sids: Vec<Sid> = self.served.keys().copied().collect();
        if sids.is_empty() {
            return;
        }
        let sid = sids[self.random.below(sids.len())];
        match self.random.below(4) {
            0 => {
                let seq = Some(self.number(sid));
                self.served.remove(&sid);
                let error = error_of(25);
                self.send(Frame::Error { id: None, sid: Some(sid), seq, error, sent: None });
            }
            1 => {
                // It does not say which. If it is the only one, that is known all the same.
                self.served.remove(&sid);
                self.send(Frame::Error {
                    id: None,
                    sid: None,
                    seq: None,
                    error: error_of(10),
                    sent: None,
                });
            }
            2 => {
                let seq = Some(self.number(sid));
                self.served.remove(&sid);
                self.send(Frame::Unsubscribed { id: None, sid, seq, sent: None });
            }
            _ => self.is_silent = true,
        }
    }
}

fn error_of(code: i64) -> ServerError {
    ServerError { code, message: String::new(), market_ticker: None, market_tickers: Vec::new() }
}

/// The state that the consumer desires, by its own account. No items: all, or (for order books)
/// none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Desired {
    All,
    Items(BTreeSet<String>),
}

/// A request without an answer.
#[derive(Debug)]
enum Open<P: Product> {
    Item(P::Channel, String),
    All(P::Channel),
    Unsubscribe(P::Channel),
    Snapshot(String),
    List(P::Channel),
}

struct World<P: Product> {
    exchange: Exchange<P>,
    random: Random,
    session: SessionState<P>,
    books: Books<P>,
    now: Instant,
    reconnect_at: Option<Instant>,
    desired: BTreeMap<String, Desired>,
    open: Vec<Open<P>>,
    commands: usize,
    requests: usize,
    /// The last things that happened, to explain a failure.
    log: Vec<String>,
    is_logging: bool,
}

impl<P: Modeled> World<P> {
    fn new(seed: u64, now: Instant) -> Self {
        let (mut draw, millis) = (Random(!seed), Duration::from_millis);
        let limits = Limits {
            command_timeout: millis(1_000),
            snapshot_timeout: millis(300),
            stale_after: millis(2_000),
            backoff: Backoff::new(millis(20), millis(500)).with_random(|| u32::MAX / 2),
            items_per_command: 1 + draw.below(4),
        };
        let exchange = Exchange {
            random: Random(seed),
            books: [0; TICKERS.len()],
            served: BTreeMap::new(),
            next_sid: 0,
            wire: VecDeque::new(),
            history: BTreeMap::new(),
            is_calm: false,
            is_silent: false,
            now,
        };
        let mut world = Self {
            exchange,
            random: draw,
            session: SessionState::new(limits, now),
            books: Books::new(),
            now,
            reconnect_at: None,
            desired: BTreeMap::new(),
            open: Vec::new(),
            commands: 0,
            requests: 0,
            log: Vec::new(),
            is_logging: env::var_os("MODEL_LOG").is_some(),
        };
        world.session.connected(now, None);
        world.carry_out();
        world
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.is_logging {
            let line = format!("{:?} {}", self.exchange.now.duration_since(self.now), line());
            self.log.push(line);
        }
    }

    fn request(&mut self) {
        let [books, second, third] = P::channels();
        let channel = match self.random.below(3) {
            0 => books,
            1 => second,
            _ => third,
        };
        let name = channel.to_string();
        let items = self.random.tickers();
        self.requests += 1;
        let is_book = P::is_book(&channel);
        let each = |channel: &P::Channel, items: &[String]| -> Vec<Open<P>> {
            items.iter().map(|item| Open::Item(channel.clone(), item.clone())).collect()
        };
        let request = match self.random.below(12) {
            0..3 => {
                let all = !is_book && self.random.one_in(2);
                let items = if all { Vec::new() } else { items };
                let subscription = Subscription::channel(channel.clone()).with_items(items.clone());
                let wanted = if all {
                    Desired::All
                } else {
                    Desired::Items(items.iter().cloned().collect())
                };
                match (self.desired.get_mut(&name), wanted) {
                    (Some(Desired::Items(held)), Desired::Items(new)) => held.extend(new),
                    (Some(Desired::Items(held)), Desired::All) if !held.is_empty() => {}
                    (Some(Desired::All), _) => {}
                    (_, wanted) => {
                        self.desired.insert(name, wanted);
                    }
                }
                if all {
                    self.open.push(Open::All(channel));
                } else {
                    self.open.extend(each(&channel, &items));
                }
                Request::Subscribe(Box::new(subscription))
            }
            3..6 => {
                if let Some(Desired::Items(held)) = self.desired.get_mut(&name) {
                    held.extend(items.iter().cloned());
                }
                self.open.extend(each(&channel, &items));
                Request::Add(channel, items)
            }
            6..9 => {
                if let Some(Desired::Items(held)) = self.desired.get_mut(&name) {
                    held.retain(|item| !items.contains(item));
                }
                self.open.extend(each(&channel, &items));
                Request::Delete(channel, items)
            }
            9 => {
                self.desired.remove(&name);
                self.open.push(Open::Unsubscribe(channel.clone()));
                Request::Unsubscribe(channel)
            }
            which => {
                if let Some((channel, _)) = P::list().filter(|_| which == 11) {
                    self.open.push(Open::List(channel.clone()));
                    Request::ListItems(channel)
                } else {
                    self.open.extend(items.iter().cloned().map(Open::Snapshot));
                    Request::Snapshot(items)
                }
            }
        };
        self.log(|| format!("request {request:?}"));
        self.session.request(request, self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut lost = None;
        while let Some(output) = self.session.output() {
            match output {
                Output::Send(command) => {
                    self.log(|| format!("  send {command:?}"));
                    self.commands += 1;
                    self.exchange.command(command);
                }
                Output::Event(_, event, _) => self.event(&event),
                Output::Drop(reason) => lost = Some(reason),
                Output::Lane { .. } | Output::ForgetNames(_) | Output::ForgetAllNames => {}
            }
        }
        if let Some(reason) = lost {
            self.lose(reason);
        }
    }

    fn lose(&mut self, reason: DisconnectReason) {
        self.exchange.restart();
        self.session.disconnected(reason, self.now);
        self.reconnect_at = Some(self.now + 5 * STEP);
        self.carry_out();
    }

    fn event(&mut self, event: &Event<P>) {
        self.log(|| format!("  event {event:?}"));
        self.books.apply(event);
        match event {
            Event::Message(message) => self.message(message),
            Event::Subscribed { channel, .. } => self.close(|open| match open {
                Open::Item(of, _) | Open::All(of) | Open::List(of) => of == channel,
                Open::Snapshot(_) => P::is_book(channel),
                Open::Unsubscribe(_) => false,
            }),
            Event::Added { channel, items } => self.close(|open| match open {
                Open::Item(of, item) => of == channel && items.contains(item),
                Open::All(of) => of == channel && items.is_empty(),
                _ => false,
            }),
            Event::Removed { channel, items } => self.close(|open| match open {
                Open::Item(of, item) => of == channel && items.contains(item),
                Open::Snapshot(item) => items.contains(item),
                _ => false,
            }),
            Event::Unsubscribed { channel } => self.close(|open| match open {
                Open::Unsubscribe(of) | Open::List(of) | Open::All(of) => of == channel,
                _ => false,
            }),
            Event::Unanswered { channel } => self.close(|open| match open {
                Open::List(of) => Some(of) == channel.as_ref(),
                _ => false,
            }),
            Event::Refused { channel, items, reason } => {
                if matches!(reason, Refusal::Server(_)) {
                    self.given_up(channel, items);
                }
                self.close(|open| match open {
                    Open::Item(of, item) => {
                        of == channel && (items.is_empty() || items.contains(item))
                    }
                    Open::All(of) | Open::Unsubscribe(of) | Open::List(of) => of == channel,
                    Open::Snapshot(item) => {
                        P::is_book(channel) && (items.is_empty() || items.contains(item))
                    }
                });
            }
            Event::Gap { channel, .. } | Event::Terminated { channel, .. }
                if P::is_book(channel) =>
            {
                assert_eq!(self.books.iter().count(), 0, "a book can be read after a loss");
                self.queries_may_be_lost();
            }
            Event::Terminated { .. } | Event::ServerError(_) | Event::Disconnected { .. } => {
                self.queries_may_be_lost();
            }
            _ => {}
        }
    }

    /// Drops the queries to a subscription or connection that ended: no other event answers them.
    fn queries_may_be_lost(&mut self) {
        self.close(|open| matches!(open, Open::List(_)));
    }

    fn given_up(&mut self, channel: &P::Channel, items: &[String]) {
        let name = channel.to_string();
        if items.is_empty() {
            self.desired.remove(&name);
        } else if let Some(Desired::Items(held)) = self.desired.get_mut(&name) {
            held.retain(|item| !items.contains(item));
            if held.is_empty() {
                self.desired.remove(&name);
            }
        }
    }

    fn message(&mut self, message: &Message<P>) {
        if let BookPart::Snapshot(snapshot) = P::book_part(&message.payload) {
            self.close(|open| matches!(open, Open::Snapshot(item) if item == snapshot.ticker));
        }
        if P::is_list(&message.payload) {
            self.close(|open| matches!(open, Open::List(_)));
        }
        let Some(ticker) = P::market_ticker(&message.payload) else { return };
        if let Some(book) = self.books.get(ticker)
            && let (Some(sid), Some(seq)) = (message.sid, message.seq)
        {
            let held = P::best_bid(book).map_or(0, |level| level.count.as_hundredths());
            let truth = self.exchange.history.get(&(sid, seq));
            assert_eq!(Some(&held), truth, "{ticker} at {sid}, {seq}");
        }
    }

    fn close(&mut self, is_answered: impl Fn(&Open<P>) -> bool) {
        self.open.retain(|open| !is_answered(open));
    }

    fn step(&mut self, by: Duration) {
        self.now += by;
        self.exchange.now = self.now;
        if self.reconnect_at.is_some_and(|at| at <= self.now) {
            self.reconnect_at = None;
            self.session.connected(self.now, Some(1));
            self.carry_out();
        }
        // In order, but for those that are late.
        let (due, later): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.exchange.wire)
            .into_iter()
            .partition(|(at, _)| *at <= self.now);
        self.exchange.wire = later;
        for (_, frame) in due {
            if self.reconnect_at.is_some() {
                break;
            }
            self.log(|| format!("  frame {frame:?}"));
            let event = self.session.frame(frame, 100, self.now);
            if let Some((_, event)) = event {
                self.event(&event);
            }
            self.carry_out();
        }
        self.session.tick(self.now);
        self.carry_out();
        if !self.exchange.is_silent {
            // A ping.
            self.session.record_activity(self.now);
        }
    }

    /// Returns the subscriptions on the wire, by channel.
    fn on_wire(&self) -> BTreeMap<String, Desired> {
        let served = self.exchange.served.values();
        served
            .map(|served| {
                let items = if served.items.is_empty() && !P::is_book(&served.channel) {
                    Desired::All
                } else {
                    Desired::Items(served.items.clone())
                };
                (served.channel.to_string(), items)
            })
            .collect()
    }

    fn is_quiet(&self) -> bool {
        let mut desired = self.desired.clone();
        desired.retain(|_, desired| *desired != Desired::Items(BTreeSet::new()));
        let books = match desired.get(&P::book_channel().to_string()) {
            Some(Desired::Items(items)) => items.clone(),
            _ => BTreeSet::new(),
        };
        self.session.is_confirmed()
            && self.session.is_settled()
            && self.on_wire() == desired
            && self.open.is_empty()
            && books.iter().all(|ticker| self.books.state(ticker) == BookState::Valid)
    }

    fn run(&mut self) {
        let steps = 20 + self.random.below(60);
        for _ in 0..steps {
            if self.random.one_in(4) {
                self.request();
            }
            for _ in 0..self.random.below(4) {
                self.exchange.change();
            }
            if self.random.one_in(60) {
                self.exchange.mischief();
                self.carry_out();
            }
            if self.random.one_in(150) && self.reconnect_at.is_none() {
                self.lose(DisconnectReason::Closed { code: None, reason: String::new() });
            }
            let long = if self.random.one_in(40) { 1 + self.random.below(100) } else { 1 };
            self.step(STEP * u32::try_from(long).unwrap());
        }
        // The weather clears.
        self.exchange.is_calm = true;
        let (began, commands) = (self.now, self.commands);
        for market in 0..TICKERS.len() {
            // A loss shows by what comes after it.
            self.exchange.apply(market, 100);
        }
        // What was late may come yet.
        while !self.is_quiet() || !self.exchange.wire.is_empty() || self.exchange.is_silent {
            self.exchange.change();
            self.step(STEP * 5);
            if self.now - began >= PATIENCE {
                let (wire, desired) = (self.on_wire(), &self.desired);
                panic!(
                    "never quiet: on the wire {wire:?}, desired {desired:?}, open {:?}, \
                     confirmed {}, {:?}",
                    self.open,
                    self.session.is_confirmed(),
                    self.books,
                );
            }
        }
        // And stays so: nothing is sent any more, and every book is what the exchange has.
        let settled = self.commands;
        for _ in 0..10 {
            self.exchange.change();
            self.step(STEP * 20);
        }
        assert!(self.is_quiet(), "it was quiet, and is no longer");
        assert_eq!(self.commands, settled, "commands are sent though nothing has to be done");
        for (market, ticker) in TICKERS.iter().enumerate() {
            if let Some(book) = self.books.get(ticker) {
                let held = P::best_bid(book).map_or(0, |l| l.count.as_hundredths());
                assert_eq!(held, self.exchange.books[market], "{ticker} in the end");
            }
        }
        // Each request and each thing that goes wrong leads to a few commands.
        assert!(
            commands <= 12 * self.requests + 2 * steps + 20,
            "{commands} commands for {} requests in {steps} steps",
            self.requests
        );
    }
}

#[test]
fn when_quiet_what_is_on_the_wire_is_what_is_desired() {
    model::<EventContracts>(100_000);
}

/// Fewer runs: what differs between the products is not what this looks for.
#[cfg(feature = "perps")]
#[test]
fn when_quiet_what_is_on_the_wire_of_perpetual_futures_is_what_is_desired() {
    model::<crate::perps::Perps>(5_000);
}

fn model<P: Modeled>(otherwise: u64) {
    let number = |name: &str, otherwise: u64| {
        env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (runs, seed) = (number("MODEL_RUNS", otherwise), number("MODEL_SEED", 0));
    let (workers, now) = (2, Instant::now());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for run in (seed..seed + runs).filter(|run| run % workers == worker) {
                    let mut world = World::<P>::new(run, now);
                    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
                    let log = world.log.join("\n");
                    assert!(ran.is_ok(), "{log}\nMODEL_SEED={run} MODEL_RUNS=1 MODEL_LOG=1");
                }
            });
        }
    });
}
