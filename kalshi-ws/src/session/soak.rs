//! The session and the books against an exchange that loses, repeats, reorders, cuts and delays
//! what it sends, falls silent, ends subscriptions and restarts.
//!
//! No sockets and no waiting: time is a number here. `SOAK_DELTAS` says how many changes, and
//! `SOAK_SEED` which ones. One source for every product: [`Played`] says what differs.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    marker::PhantomData,
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Backoff, BookState, DisconnectReason, EventContracts, OrderBook, Outcome, Refusal,
    product::{BookPart, Books, Decoder, Event, Product, Subscription},
    protocol::command::SentCommand,
    random::{Random, number},
    session::{Limits, Output, Request, SessionState},
};

const MARKETS: u64 = 200;

/// One in this many frames meets each of these.
const FAULT: u64 = 1_500;
/// One in this many changes comes with each of these.
const DISASTER: u64 = 1_500;

/// Contracts in hundredths by side (bid or not) and price in cents.
type Levels = BTreeMap<(bool, i64), i64>;

/// The exchange's form of the books of a product.
trait Played: Product {
    /// The lowest price, in cents.
    const BASE: i64;

    /// Returns the `msg` of a change.
    fn delta(market: u64, bid: bool, price: Dollars, delta: Count) -> String;

    /// Returns the `msg` of a snapshot. Levels are texts of price and count by rising price.
    fn snapshot(market: u64, seq: i64, bids: Vec<String>, asks: Vec<String>) -> String;

    /// Returns the levels of a book, asks before bids, and both by rising price.
    fn levels(book: &Self::OrderBook) -> Vec<(bool, i64, i64)>;
}

impl Played for EventContracts {
    const BASE: i64 = 0;

    fn delta(market: u64, bid: bool, price: Dollars, delta: Count) -> String {
        let side = if bid { "yes" } else { "no" };
        format!(
            r#"{{"market_ticker":"M{market}","market_id":"id{market}","price_dollars":"{price}","delta_fp":"{delta}","side":"{side}","ts_ms":1}}"#
        )
    }

    fn snapshot(market: u64, _: i64, bids: Vec<String>, asks: Vec<String>) -> String {
        let (bids, asks) = (bids.join(","), asks.join(","));
        format!(
            r#"{{"market_ticker":"M{market}","market_id":"id{market}","yes_dollars_fp":[{bids}],"no_dollars_fp":[{asks}]}}"#
        )
    }

    fn levels(book: &OrderBook) -> Vec<(bool, i64, i64)> {
        sorted(book.bids(Outcome::Yes), book.asks(Outcome::Yes))
    }
}

#[cfg(feature = "perps")]
impl Played for crate::perps::Perps {
    const BASE: i64 = 6_425_000;

    fn delta(market: u64, bid: bool, price: Dollars, delta: Count) -> String {
        let side = if bid { "bid" } else { "ask" };
        format!(
            r#"{{"market_ticker":"M{market}","price":"{price}","delta":"{delta}","side":"{side}","ts_ms":1}}"#
        )
    }

    /// In one order or the other: the document says best first, and the other has been seen.
    fn snapshot(market: u64, seq: i64, mut bids: Vec<String>, mut asks: Vec<String>) -> String {
        if seq % 2 == 0 {
            bids.reverse();
        }
        if seq % 3 == 0 {
            asks.reverse();
        }
        let side = |name: &str, levels: &[String]| match levels {
            // A side without levels may be left out.
            [] if seq % 5 == 0 => String::new(),
            levels => format!(r#","{name}":[{}]"#, levels.join(",")),
        };
        let (bids, asks) = (side("bid", &bids), side("ask", &asks));
        format!(r#"{{"market_ticker":"M{market}"{bids}{asks}}}"#)
    }

    fn levels(book: &crate::perps::OrderBook) -> Vec<(bool, i64, i64)> {
        sorted(book.bids(), book.asks())
    }
}

fn sorted(
    bids: impl Iterator<Item = PriceLevel>,
    asks: impl Iterator<Item = PriceLevel>,
) -> Vec<(bool, i64, i64)> {
    let level = |bid: bool| {
        move |level: PriceLevel| (bid, level.price.to_cents().unwrap(), level.count.as_hundredths())
    };
    let bids: Vec<_> = bids.map(level(true)).collect();
    asks.map(level(false)).chain(bids.into_iter().rev()).collect()
}

/// The exchange: books, one connection, one subscription.
struct Exchange<P> {
    product: PhantomData<P>,
    random: Random,
    books: Vec<Levels>,
    sid: i64,
    seq: i64,
    live: bool,
    /// An acknowledgement that is held back, with the number of deltas that overtake it.
    late: Option<(String, u64)>,
    subscribed: BTreeSet<u64>,
    wire: VecDeque<String>,
    /// The book of the message's market, by subscription and number.
    history: HashMap<(i64, i64), (u64, u64)>,
    faults: bool,
    injected: BTreeMap<&'static str, u64>,
}

impl<P: Played> Exchange<P> {
    fn new(seed: u64) -> Self {
        Self {
            product: PhantomData,
            random: Random(seed),
            books: vec![Levels::new(); usize::try_from(MARKETS).unwrap()],
            sid: 0,
            seq: 0,
            live: false,
            late: None,
            subscribed: BTreeSet::new(),
            wire: VecDeque::new(),
            history: HashMap::new(),
            faults: true,
            injected: BTreeMap::new(),
        }
    }

    fn book(&mut self, market: u64) -> &mut Levels {
        &mut self.books[usize::try_from(market).unwrap()]
    }

    /// Starts a new connection: nothing is left of the old one.
    fn restart(&mut self) {
        self.live = false;
        self.late = None;
        self.subscribed.clear();
        self.wire.clear();
    }

    /// Makes one change in one market.
    fn change(&mut self) {
        let market = self.random.below(MARKETS);
        let bid = self.random.one_in(2);
        let price =
            P::BASE + if bid { 40 } else { 50 } + i64::try_from(self.random.below(10)).unwrap();
        let grow = 1 + i64::try_from(self.random.below(500)).unwrap();
        let all = self.random.one_in(3);
        let level = self.book(market).entry((bid, price)).or_default();
        let shrink = *level > 0 && grow % 2 == 0;
        let delta = match (shrink, all) {
            (true, true) => -*level,
            (true, false) => -grow.min(*level),
            (false, _) => grow,
        };
        *level += delta;
        if *level == 0 {
            self.book(market).remove(&(bid, price));
        }
        if !self.live || !self.subscribed.contains(&market) {
            return;
        }
        let seq = self.number(market);
        let (price, delta) = (Dollars::from_cents(price).unwrap(), Count::from_hundredths(delta));
        let (sid, msg) = (self.sid, P::delta(market, bid, price, delta));
        self.send(format!(r#"{{"type":"orderbook_delta","sid":{sid},"seq":{seq},"msg":{msg}}}"#));
        if let Some((ack, left)) = &mut self.late {
            *left -= 1;
            if *left == 0 {
                let ack = std::mem::take(ack);
                self.late = None;
                self.wire.push_back(ack);
            }
        }
    }

    fn number(&mut self, market: u64) -> i64 {
        self.seq += 1;
        let hash =
            hash(self.book(market).iter().map(|((bid, price), count)| (*bid, *price, *count)));
        self.history.insert((self.sid, self.seq), (market, hash));
        self.seq
    }

    fn snapshot(&mut self, market: u64) {
        let seq = self.number(market);
        let sid = self.sid;
        let side = |levels: &Levels, wanted: bool| {
            let levels = levels.iter().filter(|((bid, _), _)| *bid == wanted);
            let levels = levels.map(|((_, price), count)| {
                let price = Dollars::from_cents(*price).unwrap();
                format!("[\"{price}\",\"{}\"]", Count::from_hundredths(*count))
            });
            levels.collect::<Vec<_>>()
        };
        let (bids, asks) = (side(self.book(market), true), side(self.book(market), false));
        let msg = P::snapshot(market, seq, bids, asks);
        self.send(format!(
            r#"{{"type":"orderbook_snapshot","sid":{sid},"seq":{seq},"msg":{msg}}}"#
        ));
    }

    /// Puts a frame on the wire, or what is left of it.
    fn send(&mut self, frame: String) {
        if !self.faults {
            self.wire.push_back(frame);
            return;
        }
        let odds = FAULT * 4;
        let fault = match self.random.below(odds) {
            0..4 => "drop",
            4..8 => "repeat",
            8..10 => "reorder",
            10..12 => "cut",
            _ => {
                self.wire.push_back(frame);
                return;
            }
        };
        *self.injected.entry(fault).or_default() += 1;
        match fault {
            "repeat" => self.wire.extend([frame.clone(), frame]),
            "reorder" => {
                let before = self.wire.pop_back();
                self.wire.push_back(frame);
                self.wire.extend(before);
            }
            "cut" => self.wire.push_back(frame[..frame.len() / 2].to_owned()),
            _ => {}
        }
    }

    fn command(&mut self, text: &str) {
        let command: Value = serde_json::from_str(text).unwrap();
        let id = &command["id"];
        let list = command["params"]["market_tickers"].as_array();
        let markets: Vec<u64> = list
            .into_iter()
            .flatten()
            .map(|ticker| ticker.as_str().unwrap()[1..].parse().unwrap())
            .collect();
        match (command["cmd"].as_str().unwrap(), command["params"]["action"].as_str()) {
            ("subscribe", _) => {
                self.sid += 1;
                self.seq = 0;
                self.live = true;
                self.subscribed = markets.iter().copied().collect();
                let sid = self.sid;
                let ack = format!(
                    r#"{{"id":{id},"type":"subscribed","msg":{{"channel":"orderbook_delta","sid":{sid}}}}}"#
                );
                if self.faults && self.random.one_in(3) {
                    *self.injected.entry("data before the confirmation").or_default() += 1;
                    self.late = Some((ack, 20));
                } else {
                    self.wire.push_back(ack);
                }
                for market in markets {
                    self.snapshot(market);
                }
            }
            ("update_subscription", Some("add_markets")) => {
                self.ok(id);
                for market in markets {
                    self.subscribed.insert(market);
                    self.snapshot(market);
                }
            }
            ("update_subscription", Some("delete_markets")) => {
                for market in &markets {
                    self.subscribed.remove(market);
                }
                self.ok(id);
            }
            ("update_subscription", Some("get_snapshot")) => {
                for market in markets {
                    self.snapshot(market);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn ok(&mut self, id: &Value) {
        let sid = self.sid;
        // Replies take numbers of their own here, which is what a client must survive.
        self.wire.push_back(format!(r#"{{"id":{id},"type":"ok","sid":{sid},"seq":1}}"#));
    }
}

/// The consumer: books, and what it holds the stream to.
struct Consumer<P: Product> {
    books: Books<P>,
    wanted: Arc<Mutex<Vec<String>>>,
    last: Option<(i64, i64)>,
    excused: bool,
    checked: u64,
    events: BTreeMap<&'static str, u64>,
}

impl<P: Played> Consumer<P> {
    fn new() -> Self {
        let wanted = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&wanted);
        let books = Books::with_resync(move |ticker| {
            list.lock().unwrap().push(ticker.to_owned());
            true
        });
        let events = BTreeMap::new();
        Self { books, wanted, last: None, excused: false, checked: 0, events }
    }

    fn take(&mut self, event: &Event<P>, exchange: &RefCell<Exchange<P>>) {
        self.books.apply(event);
        let name = match event {
            Event::Message(message) => {
                let at = (message.sid.unwrap(), message.seq.unwrap());
                if let Some((sid, seq)) = self.last.replace(at)
                    && sid == at.0
                    && seq + 1 != at.1
                {
                    assert!(self.excused, "{seq} is followed by {} without an event", at.1);
                }
                self.excused = false;
                let ticker = P::market_ticker(&message.payload).unwrap();
                if let Some(book) = self.books.get(ticker) {
                    let (market, expected) = exchange.borrow().history[&at];
                    assert_eq!(format!("M{market}"), ticker);
                    assert_eq!(
                        hash(P::levels(book).into_iter()),
                        expected,
                        "{ticker} differs after {at:?}"
                    );
                    self.checked += 1;
                }
                match P::book_part(&message.payload) {
                    BookPart::Snapshot(_) => "snapshot",
                    _ => "delta",
                }
            }
            Event::Gap { .. } => {
                self.excused = true;
                self.all_void();
                "gap"
            }
            Event::Disconnected { .. } => {
                self.all_void();
                "disconnected"
            }
            Event::Terminated { .. } => {
                self.all_void();
                "ended"
            }
            Event::Unmatched(_) => {
                // Of a market that was taken out: the number has come all the same.
                self.excused = true;
                "unmatched"
            }
            Event::Malformed(_) => {
                self.excused = true;
                "malformed"
            }
            Event::Overdue { .. } => "overdue",
            Event::Resynced { .. } => "resynced",
            Event::Stale { .. } => "stale",
            Event::Removed { .. } => "removed",
            Event::Added { .. } => "added",
            // It had been taken out before.
            Event::Refused { reason: Refusal::NotSubscribed, .. } => "refused",
            Event::Subscribed { .. } => "subscribed",
            Event::Reconnected { .. } => "reconnected",
            other => panic!("{other:?}"),
        };
        *self.events.entry(name).or_default() += 1;
    }

    fn all_void(&self) {
        assert_eq!(self.books.iter().count(), 0, "a book can be read after a loss");
    }
}

fn hash(levels: impl Iterator<Item = (bool, i64, i64)>) -> u64 {
    let mut hasher = DefaultHasher::new();
    levels.for_each(|level| level.hash(&mut hasher));
    hasher.finish()
}

/// A session that reads what the other one receives and sends, as from a recording.
struct Follower<P: Product> {
    session: SessionState<P>,
    decoder: Decoder<P>,
    books: Books<P>,
    now: Instant,
    /// The times that one of its books was compared with that of the other one.
    checked: u64,
}

impl<P: Played> Follower<P> {
    fn new(limits: Limits, now: Instant) -> Self {
        Self {
            session: SessionState::passive(limits, now),
            decoder: Decoder::new(),
            books: Books::new(),
            now,
            checked: 0,
        }
    }

    fn frame(&mut self, text: &str) {
        let frame = self.decoder.decode(text, UnixMillis::from_millis(0));
        if let Some((_, event)) = self.session.frame(frame, text.len(), self.now) {
            self.books.apply(&event);
        }
        self.carry_out();
    }

    fn sent(&mut self, text: &str) {
        self.session.sent(SentCommand::read(text).unwrap(), self.now);
        self.carry_out();
    }

    fn disconnected(&mut self, reason: DisconnectReason) {
        self.session.disconnected(reason, self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.session.output() {
            match output {
                Output::Event(_, event, _) => {
                    self.books.apply(&event);
                }
                Output::ForgetNames(tickers) => self.decoder.forget(tickers),
                Output::ForgetAllNames => self.decoder.clear(),
                Output::Send(command) => panic!("a session that only reads sends {command:?}"),
                Output::Lane { .. } | Output::Drop(_) => {}
            }
        }
    }

    /// Compares the books with those of the session that is followed.
    fn compare(&mut self, books: &Books<P>) {
        for market in 0..MARKETS {
            let ticker = format!("M{market}");
            match (books.state(&ticker), self.books.state(&ticker)) {
                (BookState::Valid, BookState::Valid) => {
                    let [ours, theirs] = [&self.books, books].map(|books| books.get(&ticker));
                    assert_eq!(P::levels(ours.unwrap()), P::levels(theirs.unwrap()), "{ticker}");
                    self.checked += 1;
                }
                // Taken out while a command about it is under way: none is sent yet.
                (BookState::Absent, _) => {}
                (expected, found) => assert_eq!(expected, found, "{ticker}"),
            }
        }
    }
}

/// Everything together, on a clock that only this loop moves.
struct World<P: Played> {
    exchange: RefCell<Exchange<P>>,
    consumer: Consumer<P>,
    session: SessionState<P>,
    follower: Follower<P>,
    decoder: Decoder<P>,
    now: Instant,
    up: bool,
}

impl<P: Played> World<P> {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            command_timeout: Duration::from_secs(1),
            snapshot_timeout: Duration::from_millis(200),
            stale_after: Duration::from_secs(2),
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(50)),
            items_per_command: 64,
        };
        let now = Instant::now();
        Self {
            exchange: RefCell::new(Exchange::new(seed)),
            consumer: Consumer::new(),
            session: SessionState::new(limits.clone(), now),
            follower: Follower::new(limits, now),
            decoder: Decoder::new(),
            now,
            up: false,
        }
    }

    fn connect(&mut self, first: bool) {
        self.exchange.borrow_mut().restart();
        self.up = true;
        self.session.connected(self.now, if first { None } else { Some(1) });
        self.carry_out();
    }

    fn lose(&mut self, reason: DisconnectReason) {
        self.exchange.borrow_mut().restart();
        self.up = false;
        self.session.disconnected(reason.clone(), self.now);
        self.follower.disconnected(reason);
        self.carry_out();
        self.now += Duration::from_millis(5);
        self.connect(false);
    }

    /// Delivers frames from the wire and lets time pass.
    fn arrive(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some(text) = self.exchange.borrow_mut().wire.pop_front() else { break };
            self.follower.frame(&text);
            let frame = self.decoder.decode(&text, UnixMillis::from_millis(0));
            if let Some((_, event)) = self.session.frame(frame, text.len(), self.now) {
                self.consumer.take(&event, &self.exchange);
            }
            self.carry_out();
        }
    }

    fn tick(&mut self) {
        self.session.tick(self.now);
        self.carry_out();
        self.follower.compare(&self.consumer.books);
        let wanted = std::mem::take(&mut *self.consumer.wanted.lock().unwrap());
        if !wanted.is_empty() {
            self.session.request(Request::Snapshot(wanted), self.now);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        let mut lost = None;
        while let Some(output) = self.session.output() {
            match output {
                Output::Send(command) if self.up => {
                    let text = command.to_text();
                    self.follower.sent(&text);
                    self.exchange.borrow_mut().command(&text);
                }
                Output::ForgetNames(tickers) => self.decoder.forget(tickers),
                Output::ForgetAllNames => self.decoder.clear(),
                Output::Send(_) | Output::Lane { .. } => {}
                Output::Event(_, event, _) => self.consumer.take(&event, &self.exchange),
                Output::Drop(reason) => lost = Some(reason),
            }
        }
        if let Some(reason) = lost {
            self.lose(reason);
        }
    }

    fn request(&mut self, request: Request<P>) {
        self.session.request(request, self.now);
        self.carry_out();
    }

    /// Causes a large fault.
    fn disaster(&mut self) {
        let which = self.exchange.borrow_mut().random.below(5);
        let market = self.exchange.borrow_mut().random.below(MARKETS);
        let name = ["half-open", "restart", "cut off", "taken out", "added"];
        let name = name[usize::try_from(which).unwrap()];
        *self.exchange.borrow_mut().injected.entry(name).or_default() += 1;
        let ticker = vec![format!("M{market}")];
        match name {
            "half-open" => {
                self.exchange.borrow_mut().restart();
                self.now += Duration::from_secs(3);
                self.tick();
            }
            "restart" => {
                let reason = DisconnectReason::Closed { code: Some(1012), reason: String::new() };
                self.lose(reason);
            }
            "cut off" => {
                let mut exchange = self.exchange.borrow_mut();
                if exchange.live {
                    exchange.live = false;
                    let sid = exchange.sid;
                    exchange.wire.push_back(format!(
                        r#"{{"type":"error","sid":{sid},"msg":{{"code":25,"msg":"overflow"}}}}"#
                    ));
                }
            }
            "taken out" => self.request(Request::Delete(P::book_channel(), ticker)),
            _ => self.request(Request::Add(P::book_channel(), ticker)),
        }
    }
}

#[test]
fn no_book_is_ever_wrong_and_nothing_is_lost_in_silence() {
    soak::<EventContracts>();
}

#[cfg(feature = "perps")]
#[test]
fn no_book_of_a_perpetual_future_is_ever_wrong_and_nothing_is_lost_in_silence() {
    soak::<crate::perps::Perps>();
}

fn soak<P: Played>() {
    let deltas = number("SOAK_DELTAS", 60_000);
    let mut world = World::<P>::new(number("SOAK_SEED", 1));
    world.connect(true);
    let markets = (0..MARKETS).map(|market| format!("M{market}"));
    world.request(Request::Subscribe(Box::new(
        Subscription::channel(P::book_channel()).with_items(markets.clone()),
    )));
    for step in 0..deltas {
        world.exchange.borrow_mut().change();
        world.now += Duration::from_micros(100);
        // Bursts, so that frames wait on the wire and can be overtaken.
        if world.exchange.borrow_mut().random.one_in(4) {
            world.arrive(16);
        }
        if step % 100 == 0 {
            world.tick();
        }
        if world.exchange.borrow_mut().random.one_in(DISASTER) {
            world.disaster();
        }
    }
    // The weather clears: everything is wished for again, and every market changes once more.
    world.exchange.borrow_mut().faults = false;
    world.request(Request::Add(P::book_channel(), markets.collect()));
    for _ in 0..40 {
        for _ in 0..200 {
            world.exchange.borrow_mut().change();
        }
        world.arrive(usize::MAX);
        world.now += Duration::from_millis(100);
        world.tick();
    }
    world.arrive(usize::MAX);

    let exchange = world.exchange.borrow();
    for market in 0..MARKETS {
        let ticker = format!("M{market}");
        assert_eq!(world.consumer.books.state(&ticker), BookState::Valid, "{ticker}");
        assert_eq!(world.follower.books.state(&ticker), BookState::Valid, "{ticker}");
        let ours = P::levels(world.consumer.books.get(&ticker).unwrap());
        let theirs = &exchange.books[usize::try_from(market).unwrap()];
        let theirs: Vec<_> = theirs.iter().map(|((bid, price), n)| (*bid, *price, *n)).collect();
        assert_eq!(ours, theirs, "{ticker}");
    }
    let (injected, events) = (&exchange.injected, &world.consumer.events);
    println!(
        "faults: {injected:?}\nevents: {events:?}\nbooks compared: {}",
        world.consumer.checked
    );
    for fault in ["drop", "repeat", "reorder", "cut", "half-open", "restart", "cut off"] {
        assert!(injected.get(fault).is_some_and(|count| *count > 0), "{fault} never happened");
    }
    for event in ["gap", "resynced", "stale", "ended", "malformed", "reconnected"] {
        assert!(events.get(event).is_some_and(|count| *count > 0), "{event} never happened");
    }
    assert!(world.consumer.checked > deltas / 10 && world.follower.checked > deltas / 10);
}
