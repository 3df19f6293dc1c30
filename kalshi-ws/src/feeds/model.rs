//! The merger against random feeds of a random exchange.
//!
//! Each feed reads the log of the exchange at a pace of its own, loses messages, is cut off,
//! connects to a server that trails, and meets maintenance in which the clocks go back. The consumer
//! takes markets out and adds them again, which each feed answers when it comes to it. What is
//! delivered must be:
//!
//! - of each book, the changes of the exchange, each once and in order; a snapshot may skip changes
//!   only after an event that says so;
//! - no more such events than losses that no feed covers;
//! - of books that can be read, the book of the exchange after the last change that was delivered;
//! - each trade once, and an event for those that no feed brought.
//!
//! And when the weather has cleared, every book is that of the exchange.
//!
//! `FEEDS_RUNS` says how many runs there are, `FEEDS_SEED` where they begin, and `FEEDS_STEPS` how
//! long each is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};

use super::merger::Merger;
use crate::{
    BookState, Channel, Delta, DisconnectReason, Event, Market, Message, OrderBook, Outcome,
    Payload, TerminationReason, UncoveredCause,
    random::{Random, number},
    types::{MarketSide, OrderbookSnapshot, Trade},
};

const TICKERS: [&str; 3] = ["A", "B", "C"];

static SNAPSHOT: LazyLock<OrderbookSnapshot> = LazyLock::new(|| {
    serde_json::from_str(r#"{"market_ticker":"A","market_id":"id","clock":1}"#).unwrap()
});

static TRADE: LazyLock<Trade> = LazyLock::new(|| {
    serde_json::from_str(
        r#"{"trade_id":"0","market_ticker":"A","yes_price_dollars":"0.40","no_price_dollars":"0.60","count_fp":"1.00","taker_side":"yes","taker_outcome_side":"yes","taker_book_side":"bid","is_block_trade":false}"#,
    )
    .unwrap()
});

/// Reports one in `n`; never for 0.
fn happens(random: &mut Random, odds: usize) -> bool {
    odds != 0 && random.index(odds) == 0
}

/// A book: hundredths of contracts at ten prices, bids and then asks.
type Levels = [i64; 10];

/// A book of the exchange after a change, or where an epoch begins.
#[derive(Clone, Copy, Debug)]
struct State {
    clock: i64,
    levels: Levels,
    /// The change: its place in the book, and what it adds.
    change: Option<(usize, i64)>,
    /// No change of the same clock follows.
    is_last: bool,
    epoch: usize,
}

/// An entry of the log.
#[derive(Clone, Debug)]
enum Entry {
    /// Changes of one market, by the numbers of their states.
    Action(usize, std::ops::Range<usize>),
    Trade(usize),
    Maintenance,
}

/// The exchange.
struct Exchange {
    log: Vec<Entry>,
    states: [Vec<State>; TICKERS.len()],
    trades: usize,
    epoch: usize,
    /// The length of the log when the epoch began.
    epoch_start: usize,
}

impl Exchange {
    fn new() -> Self {
        let first = State { clock: 1_000, levels: [0; 10], change: None, is_last: true, epoch: 0 };
        Self {
            log: Vec::new(),
            states: std::array::from_fn(|_| vec![first]),
            trades: 0,
            epoch: 0,
            epoch_start: 0,
        }
    }

    fn act(&mut self, random: &mut Random) {
        if random.one_in(6) {
            self.log.push(Entry::Trade(self.trades));
            self.trades += 1;
            return;
        }
        let market = random.index(TICKERS.len());
        let states = &mut self.states[market];
        let first = states.len();
        let mut state = *states.last().unwrap();
        state.clock += 1 + i64::try_from(random.index(3)).unwrap();
        state.is_last = false;
        let add = |state: &mut State, states: &mut Vec<State>, place: usize, by: i64| {
            state.levels[place] += by;
            state.change = Some((place, by));
            states.push(*state);
        };
        for _ in 0..=random.index(3) {
            let place = random.index(10);
            let by = 100 * (1 + i64::try_from(random.index(3)).unwrap());
            let held = state.levels[place];
            let by = if held > 0 && random.one_in(2) { -by.min(held) } else { by };
            add(&mut state, states, place, by);
            if random.one_in(4) {
                // Changes that cancel each other.
                add(&mut state, states, place, 100);
                add(&mut state, states, place, -100);
            }
        }
        states.last_mut().unwrap().is_last = true;
        self.log.push(Entry::Action(market, first..states.len()));
    }

    /// Sets the clocks back and replaces the books.
    fn maintain(&mut self, random: &mut Random) {
        self.epoch += 1;
        for states in &mut self.states {
            let mut state = *states.last().unwrap();
            let back = 1 + i64::try_from(random.index(40)).unwrap();
            state.clock -= back;
            state.levels = std::array::from_fn(|_| 100 * i64::try_from(random.index(3)).unwrap());
            state.change = None;
            state.epoch = self.epoch;
            states.push(state);
        }
        self.log.push(Entry::Maintenance);
        self.epoch_start = self.log.len();
    }
}

/// A message on its way from one server to its client.
#[derive(Clone, Debug)]
enum Sent {
    Snapshot(usize, usize),
    Delta(usize, usize),
    Trade(usize),
    /// The answer to a request of this number to take a market out.
    Removed(usize, usize),
    Added(usize),
}

/// A request of the consumer.
#[derive(Clone, Copy, Debug)]
enum Request {
    TakeOut(usize, usize),
    Add(usize),
}

/// One feed: a server that reads the log, and its connection.
struct Feed {
    is_up: bool,
    /// The client does not know yet that the connection is lost.
    is_dead: bool,
    /// The entries of the log that the server has read.
    read: usize,
    /// The entries by which it trails at least.
    trails: usize,
    /// Steps for which nothing arrives.
    stalled: usize,
    queue: VecDeque<Sent>,
    /// The state of each market that the server has.
    states: [usize; TICKERS.len()],
    /// Something was lost on the way, and the client does not know it yet.
    has_gap: bool,
    /// Markets whose snapshots are requested.
    requested: BTreeSet<usize>,
    connections: usize,
    /// The run of each market: the states where it began and where it is.
    runs: [Option<(usize, usize)>; TICKERS.len()],
    /// The requests that it has not come to.
    requests: VecDeque<Request>,
    /// The markets that it is subscribed to.
    has: [bool; TICKERS.len()],
    /// The number of the last request to take a market out that it has answered.
    answered: [usize; TICKERS.len()],
    /// Its run has been of no use since the market was taken out.
    is_cut_off: [bool; TICKERS.len()],
}

/// The book that the consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Void,
    At(usize),
}

struct World {
    random: Random,
    exchange: Exchange,
    feeds: Vec<Feed>,
    merger: Merger,
    markets: Vec<Market>,
    held: [Held; TICKERS.len()],
    /// The last state that was delivered.
    delivered: [usize; TICKERS.len()],
    has_reset: [bool; TICKERS.len()],
    /// A feed was taken for one whose clock went back.
    was_reset: bool,
    /// The requests to take a market out, and whether it is desired.
    takings: [usize; TICKERS.len()],
    is_desired: [bool; TICKERS.len()],
    /// The last of these requests that the merged stream has answered.
    gone: [usize; TICKERS.len()],
    /// It has come, or was added, since the merged stream answered.
    may_go: [bool; TICKERS.len()],
    /// The feed whose event has been pushed.
    pushing: usize,
    trades: BTreeSet<usize>,
    /// The newest trade that was delivered when trades were uncovered.
    uncovered_trades: Vec<usize>,
    is_calm: bool,
    odds: Odds,
    events: BTreeMap<&'static str, u64>,
    log: Vec<String>,
    is_logging: bool,
}

/// One in this many; 0 for never.
struct Odds {
    lose: usize,
    cut: usize,
    end: usize,
    stall: usize,
    maintain: usize,
    take_out: usize,
    /// A connection is to a server that may trail behind the one before.
    go_back: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut odds = |least: usize| [0, least, 4 * least, 20 * least][random.index(4)];
        let (maintain, take_out) = (odds(150), odds(30));
        let odds = Odds {
            lose: odds(15),
            cut: odds(60),
            end: odds(100),
            stall: odds(40),
            maintain,
            // Of a market that is out, no feed shows that the clock went back.
            take_out: if maintain == 0 { take_out } else { 0 },
            go_back: seed.is_multiple_of(3),
        };
        let feeds = 1 + random.index(3);
        let feed = || Feed {
            is_up: false,
            is_dead: false,
            read: 0,
            trails: 0,
            stalled: 0,
            queue: VecDeque::new(),
            states: [0; TICKERS.len()],
            has_gap: false,
            requested: BTreeSet::new(),
            connections: 0,
            runs: [None; TICKERS.len()],
            requests: VecDeque::new(),
            has: [true; TICKERS.len()],
            answered: [0; TICKERS.len()],
            is_cut_off: [false; TICKERS.len()],
        };
        let mut world = Self {
            random,
            exchange: Exchange::new(),
            feeds: std::iter::repeat_with(feed).take(feeds).collect(),
            merger: Merger::new(feeds).unwrap(),
            markets: (0..).zip(TICKERS).map(|(slot, it)| Market::new(it, "id", slot)).collect(),
            held: [Held::Void; TICKERS.len()],
            delivered: [0; TICKERS.len()],
            has_reset: [false; TICKERS.len()],
            was_reset: false,
            takings: [0; TICKERS.len()],
            is_desired: [true; TICKERS.len()],
            gone: [0; TICKERS.len()],
            may_go: [true; TICKERS.len()],
            pushing: 0,
            trades: BTreeSet::new(),
            uncovered_trades: Vec::new(),
            is_calm: false,
            odds,
            events: BTreeMap::new(),
            log: Vec::new(),
            is_logging: env::var_os("FEEDS_LOG").is_some(),
        };
        for feed in 0..feeds {
            world.connect(feed, true);
        }
        world
    }

    fn one_in(&mut self, odds: usize) -> bool {
        !self.is_calm && happens(&mut self.random, odds)
    }

    fn connect(&mut self, feed: usize, is_first: bool) {
        let end = self.exchange.log.len();
        let trails = if self.is_calm { 0 } else { self.random.index(12) };
        let go_back = self.odds.go_back;
        let state = &mut self.feeds[feed];
        let least = if go_back { 0 } else { state.read };
        // After maintenance no server has what was before it.
        let least = least.max(self.exchange.epoch_start);
        state.read = end.saturating_sub(trails).max(least).min(end);
        state.trails = trails;
        state.is_up = true;
        state.connections += 1;
        state.has_gap = false;
        state.queue.clear();
        state.requested.clear();
        let read = &self.exchange.log[..state.read];
        for market in 0..TICKERS.len() {
            let mut at = 0;
            for entry in read {
                match entry {
                    Entry::Action(of, states) if *of == market => at = states.end - 1,
                    Entry::Maintenance => {
                        // The first state of the next epoch.
                        let states = &self.exchange.states[market];
                        let epoch = states[at].epoch;
                        at += states[at..].iter().position(|it| it.epoch > epoch).unwrap();
                    }
                    _ => {}
                }
            }
            state.states[market] = at;
            if state.has[market] {
                state.queue.push_back(Sent::Snapshot(market, at));
            }
        }
        // The others that live have shown the maintenance: they were connected all the time.
        for other in 0..self.feeds.len() {
            let state = &self.feeds[other];
            if state.is_up && !state.is_dead && state.read < self.exchange.epoch_start {
                self.drain(other);
            }
        }
        if !is_first {
            self.push(feed, Event::Reconnected { attempts: 1 });
        }
        for channel in [Channel::OrderbookDelta, Channel::Trade] {
            self.push(feed, Event::Subscribed { channel, sid: 1 });
        }
    }

    fn cut(&mut self, feed: usize) {
        // Its answers are lost with no connection.
        let sent = std::mem::take(&mut self.feeds[feed].queue);
        for sent in sent {
            if let Sent::Removed(..) | Sent::Added(_) = sent {
                self.answer_request(feed, &sent);
            }
        }
        let state = &mut self.feeds[feed];
        state.is_up = false;
        state.is_dead = false;
        state.runs = [None; TICKERS.len()];
        let reason = DisconnectReason::Closed { code: None, reason: String::new() };
        self.push(feed, Event::Disconnected { reason });
    }

    /// Lets the server read the next entry of the log.
    fn read(&mut self, feed: usize) {
        let state = &mut self.feeds[feed];
        let trails = if self.is_calm { 0 } else { state.trails };
        if state.read + trails >= self.exchange.log.len() {
            return;
        }
        let entry = &self.exchange.log[state.read];
        state.read += 1;
        match entry {
            Entry::Action(market, states) => {
                state.states[*market] = states.end - 1;
                if state.has[*market] {
                    state.queue.extend(states.clone().map(|at| Sent::Delta(*market, at)));
                }
            }
            Entry::Trade(id) => state.queue.push_back(Sent::Trade(*id)),
            Entry::Maintenance => {
                for market in 0..TICKERS.len() {
                    let states = &self.exchange.states[market];
                    let at = state.states[market];
                    let epoch = states[at].epoch;
                    state.states[market] +=
                        states[at..].iter().position(|it| it.epoch > epoch).unwrap();
                    if state.has[market] {
                        state.queue.push_back(Sent::Snapshot(market, state.states[market]));
                    }
                }
                if self.random.one_in(2) {
                    self.cut(feed);
                }
            }
        }
    }

    /// Delivers or loses a message.
    fn arrive(&mut self, feed: usize) {
        let Some(sent) = self.feeds[feed].queue.pop_front() else { return };
        if let Sent::Removed(..) | Sent::Added(_) = sent {
            return self.answer_request(feed, &sent);
        }
        if self.one_in(self.odds.lose) {
            self.feeds[feed].has_gap = true;
            return;
        }
        if self.feeds[feed].has_gap {
            self.gap(feed);
        }
        let state = &mut self.feeds[feed];
        let payload = match sent {
            Sent::Snapshot(market, at) => {
                state.runs[market] = Some((at, at));
                state.is_cut_off[market] = false;
                let truth = &self.exchange.states[market][at];
                let mut snapshot = SNAPSHOT.clone();
                TICKERS[market].clone_into(&mut snapshot.market_ticker);
                snapshot.clock = Some(truth.clock);
                (snapshot.yes_dollars_fp, snapshot.no_dollars_fp) = rows(&truth.levels);
                Payload::OrderbookSnapshot(Box::new(snapshot))
            }
            Sent::Delta(market, at) => {
                if let Some(run) = &mut state.runs[market] {
                    run.1 = at;
                }
                let truth = &self.exchange.states[market][at];
                let (place, by) = truth.change.unwrap();
                Payload::OrderbookDelta(Delta {
                    market: self.markets[market].clone(),
                    price_dollars: price(place),
                    delta_fp: Count::from_hundredths(by),
                    side: if place < 5 { MarketSide::Yes } else { MarketSide::No },
                    clock: Some(truth.clock),
                    ts_ms: None,
                    own: None,
                })
            }
            Sent::Removed(..) | Sent::Added(_) => unreachable!(),
            Sent::Trade(id) => {
                let mut trade = TRADE.clone();
                trade.trade_id = id.to_string();
                Payload::Trade(Box::new(trade))
            }
        };
        let received = UnixMillis::EPOCH;
        let message = Message { sid: Some(1), seq: None, id: None, sent: None, received, payload };
        self.push(feed, Event::Message(message));
    }

    /// Takes a market out, or adds one again, on every feed.
    fn request(&mut self, market: usize) {
        let is_desired = !self.is_desired[market];
        self.is_desired[market] = is_desired;
        self.takings[market] += usize::from(!is_desired);
        let request = if is_desired {
            Request::Add(market)
        } else {
            Request::TakeOut(market, self.takings[market])
        };
        for feed in &mut self.feeds {
            feed.requests.push_back(request);
        }
    }

    /// Has a feed come to its next request.
    fn obey(&mut self, feed: usize) {
        let Some(request) = self.feeds[feed].requests.pop_front() else { return };
        let state = &mut self.feeds[feed];
        let sent = match request {
            Request::TakeOut(market, number) => {
                state.has[market] = false;
                state.requested.remove(&market);
                // Messages that have not been read yet no longer belong to a subscription.
                let is_answer = |sent: &Sent| matches!(sent, Sent::Removed(..) | Sent::Added(_));
                let least = state.queue.iter().rposition(is_answer).map_or(0, |last| last + 1);
                let read = least + self.random.index(state.queue.len() - least + 1);
                let is_of = |sent: &Sent| matches!(sent, Sent::Snapshot(of, _) | Sent::Delta(of, _) if *of == market);
                let mut later = state.queue.split_off(read);
                later.retain(|sent| !is_of(sent));
                state.queue.push_back(Sent::Removed(market, number));
                state.queue.append(&mut later);
                None
            }
            Request::Add(market) => {
                state.has[market] = true;
                Some((Sent::Added(market), Sent::Snapshot(market, state.states[market])))
            }
        };
        if let Some((added, snapshot)) = sent {
            if state.is_up {
                state.queue.extend([added, snapshot]);
            } else {
                state.queue.push_back(added);
            }
        }
        if !self.feeds[feed].is_up {
            while let Some(sent) = self.feeds[feed].queue.pop_front() {
                self.answer_request(feed, &sent);
            }
        }
    }

    fn answer_request(&mut self, feed: usize, sent: &Sent) {
        let channel = Channel::OrderbookDelta;
        let state = &mut self.feeds[feed];
        match *sent {
            Sent::Removed(market, number) => {
                state.answered[market] = number;
                state.runs[market] = None;
                self.push(feed, Event::Removed { channel, items: vec![TICKERS[market].into()] });
            }
            Sent::Added(market) => {
                self.push(feed, Event::Added { channel, items: vec![TICKERS[market].into()] });
            }
            _ => unreachable!("only answers are kept without a connection"),
        }
    }

    /// Records that the merged stream has a market no longer.
    fn removed(&mut self, items: &[String]) -> &'static str {
        for item in items {
            let market = TICKERS.iter().position(|it| it == item).unwrap();
            assert!(self.merger.books().get(item).is_none(), "{item} was taken out");
            self.held[market] = Held::Void;
            let answered = self.feeds[self.pushing].answered[market];
            assert!(std::mem::take(&mut self.may_go[market]), "{item} is taken out twice");
            self.gone[market] = self.gone[market].max(answered);
            for feed in &mut self.feeds {
                feed.is_cut_off[market] = true;
            }
        }
        "removed"
    }

    fn gap(&mut self, feed: usize) {
        let state = &mut self.feeds[feed];
        state.has_gap = false;
        state.runs = [None; TICKERS.len()];
        state.requested.extend((0..TICKERS.len()).filter(|market| state.has[*market]));
        for channel in [Channel::OrderbookDelta, Channel::Trade] {
            self.push(feed, Event::Gap { channel, sid: 1, expected: None, received: None });
        }
    }

    /// Pushes an event of a feed and applies what follows.
    fn push(&mut self, feed: usize, event: Event) {
        if self.is_logging {
            let runs = &self.feeds[feed].runs;
            self.log.push(format!("{feed}: {} {runs:?}", short(&event)));
        }
        self.pushing = feed;
        self.merger.push(feed, event).unwrap();
        while let Some(event) = self.merger.next_event() {
            if self.is_logging && !matches!(event, Event::Feed { .. }) {
                self.log.push(format!("      {}", short(&event)));
            }
            self.take(event);
        }
        for request in self.merger.take_snapshot_requests() {
            let market = TICKERS.iter().position(|it| *it == request.ticker).unwrap();
            let feed = &mut self.feeds[request.feed];
            assert!(feed.is_up, "a snapshot is requested without a connection");
            if feed.has[market] {
                feed.requested.insert(market);
            }
        }
    }

    fn take(&mut self, event: Event) {
        let name = match event {
            Event::Message(message) => match message.payload {
                Payload::OrderbookDelta(delta) => self.delta(&delta),
                Payload::OrderbookSnapshot(snapshot) => self.snapshot(&snapshot),
                Payload::Trade(trade) => {
                    let id = trade.trade_id.parse().unwrap();
                    assert!(self.trades.insert(id), "trade {id} comes twice");
                    "trade"
                }
                _ => unreachable!(),
            },
            Event::Uncovered { channel: Channel::OrderbookDelta, items, cause } => {
                self.uncovered(&items, cause)
            }
            Event::Uncovered { channel: Channel::Trade, .. } => {
                self.uncovered_trades.push(self.trades.last().copied().unwrap_or_default());
                "uncovered trades"
            }
            Event::Removed { items, .. } => self.removed(&items),
            Event::Added { items, .. } => {
                for (ticker, may_go) in TICKERS.iter().zip(&mut self.may_go) {
                    *may_go |= items.iter().any(|item| item == ticker);
                }
                "added"
            }
            Event::Feed { .. } => "notice",
            Event::Failover { .. } => "failover",
            Event::Subscribed { .. } => "subscribed",
            Event::Disconnected { .. } => "disconnected",
            Event::Reconnected { .. } => "reconnected",
            other => panic!("{other:?}"),
        };
        *self.events.entry(name).or_default() += 1;
        for market in 0..TICKERS.len() {
            self.check(market);
        }
    }

    /// Checks that a readable book is that of the exchange.
    fn check(&mut self, market: usize) {
        let Some(book) = self.merger.books().get(TICKERS[market]) else { return };
        let Held::At(at) = self.held[market] else {
            panic!("{} can be read after a loss", TICKERS[market])
        };
        let truth = &self.exchange.states[market][at];
        assert_eq!(levels(book), truth.levels, "{} at {truth:?}", TICKERS[market]);
    }

    fn delta(&mut self, delta: &Delta) -> &'static str {
        let market = TICKERS.iter().position(|it| *it == delta.market.ticker()).unwrap();
        let Held::At(at) = self.held[market] else { panic!("a change of a void book: {delta:?}") };
        let next = self.exchange.states[market].get(at + 1).unwrap();
        let (place, by) = next.change.unwrap_or_else(|| panic!("{delta:?} is not next"));
        assert_eq!(
            (delta.clock, delta.price_dollars, delta.delta_fp.as_hundredths()),
            (Some(next.clock), price(place), by),
            "{} after state {at}",
            TICKERS[market]
        );
        self.held[market] = Held::At(at + 1);
        self.delivered[market] = at + 1;
        "delta"
    }

    fn snapshot(&mut self, snapshot: &OrderbookSnapshot) -> &'static str {
        let market = TICKERS.iter().position(|it| *it == snapshot.market_ticker).unwrap();
        let states = &self.exchange.states[market];
        let clock = snapshot.clock.unwrap();
        let book = levels(&OrderBook::from_snapshot(snapshot).unwrap());
        let delivered = self.delivered[market];
        let is_it = |state: &State| state.is_last && state.clock == clock && state.levels == book;
        let least = if self.has_reset[market] { 0 } else { delivered };
        // With clocks that went back, several may look alike: the feeds say which one it is. One may
        // lack changes that cancel each other.
        let begun = |at: usize| {
            let of = |state: &State| (state.epoch, state.clock);
            self.feeds.iter().any(|feed| {
                feed.runs[market].is_some_and(|(start, end)| {
                    states[start..=end].iter().any(|state| of(state) == of(&states[at]))
                })
            })
        };
        let at = (least..states.len()).find(|at| is_it(&states[*at]) && begun(*at));
        let Some(at) = at else {
            panic!("{}: a snapshot of {clock} after state {delivered}", TICKERS[market])
        };
        if let Held::At(held) = self.held[market] {
            let is_same = states[held].clock == clock
                && states[held].levels == book
                && states[held].epoch == states[at].epoch;
            assert!(at == held || is_same, "{}: {held} to {at} unsaid", TICKERS[market]);
        }
        self.held[market] = Held::At(at);
        self.may_go[market] = true;
        self.delivered[market] = at;
        self.has_reset[market] = false;
        "snapshot"
    }

    fn uncovered(&mut self, items: &[String], cause: UncoveredCause) -> &'static str {
        for item in items {
            let market = TICKERS.iter().position(|it| it == item).unwrap();
            // One that was taken out is not there at all.
            assert!(self.merger.books().get(item).is_none(), "{item} can be read after a loss");
            self.held[market] = Held::Void;
            // Where the clock may have gone back, a feed that has everything is not known to.
            if cause == UncoveredCause::Lost && self.exchange.epoch == 0 && !self.was_reset {
                let delivered = self.delivered[market];
                for (feed, state) in self.feeds.iter().enumerate() {
                    // One that is too far ahead is not held until the others have come so far.
                    let covers = state.runs[market].is_some_and(|(start, end)| {
                        let is_near = end < delivered + 20;
                        let is_short = end < start + 20 || end == delivered;
                        (start..=end).contains(&delivered) && is_near && is_short
                    });
                    let is_late = state.answered[market] < self.gone[market];
                    let covers = covers && !is_late && !state.is_cut_off[market];
                    assert!(!covers, "{item}: feed {feed} covers state {delivered}");
                }
            }
            if cause == UncoveredCause::ClockReset {
                // A feed that is there for the first time may trail, which looks the same.
                let is_first = self.feeds.iter().any(|feed| feed.connections == 1);
                let may_be = is_first || self.odds.go_back || self.exchange.epoch > 0;
                assert!(may_be, "{item}: the clock did not go back");
                self.has_reset[market] = true;
                self.was_reset = true;
            }
        }
        match cause {
            UncoveredCause::Lost => "uncovered",
            UncoveredCause::ClockReset => "clock reset",
            UncoveredCause::Behind => "behind",
            UncoveredCause::Contradiction => "contradiction",
        }
    }

    /// Pauses the exchange: each client has everything, or is cut off.
    fn maintain(&mut self) {
        for feed in 0..self.feeds.len() {
            if !self.feeds[feed].is_up {
                continue;
            }
            if self.random.one_in(3) || !self.drain(feed) {
                if self.feeds[feed].is_up {
                    self.cut(feed);
                }
            } else {
                self.feeds[feed].is_dead = self.random.one_in(3);
            }
        }
        self.exchange.maintain(&mut self.random);
        if self.is_logging {
            self.log.push(format!("maintenance {}", self.exchange.epoch));
        }
    }

    /// Lets everything arrive, and reports whether the feed is still connected.
    fn drain(&mut self, feed: usize) -> bool {
        let is_calm = std::mem::replace(&mut self.is_calm, true);
        if self.feeds[feed].is_dead {
            return false;
        }
        while self.feeds[feed].is_up {
            if self.feeds[feed].queue.is_empty() {
                self.answer(feed);
                self.read(feed);
            }
            if self.feeds[feed].queue.is_empty() {
                break;
            }
            self.arrive(feed);
        }
        self.is_calm = is_calm;
        self.feeds[feed].is_up && !self.feeds[feed].has_gap
    }

    /// Delivers a request, and answers it as of what the server has read.
    fn answer(&mut self, feed: usize) {
        let state = &mut self.feeds[feed];
        for market in std::mem::take(&mut state.requested) {
            state.queue.push_back(Sent::Snapshot(market, state.states[market]));
        }
    }

    fn step(&mut self) {
        if self.random.one_in(3) {
            self.exchange.act(&mut self.random);
        }
        if self.one_in(self.odds.maintain) {
            self.maintain();
        }
        if self.one_in(self.odds.take_out) {
            let market = self.random.index(TICKERS.len());
            self.request(market);
        }
        for feed in 0..self.feeds.len() {
            if self.is_calm || self.random.one_in(6) {
                self.obey(feed);
            }
        }
        let feed = self.random.index(self.feeds.len());
        if !self.feeds[feed].is_up {
            if self.is_calm || self.random.one_in(15) {
                self.connect(feed, false);
            }
            return;
        }
        if self.feeds[feed].is_dead || self.one_in(3_000) {
            self.feeds[feed].is_dead = true;
            if self.is_calm || self.random.one_in(20) {
                self.cut(feed);
            }
            return;
        }
        if self.feeds[feed].stalled > 0 && !self.is_calm {
            self.feeds[feed].stalled -= 1;
            return;
        }
        if self.one_in(self.odds.cut) {
            return self.cut(feed);
        }
        if self.one_in(self.odds.end) {
            let reason = TerminationReason::Unsubscribed;
            let channel = Channel::OrderbookDelta;
            let state = &mut self.feeds[feed];
            state.runs = [None; TICKERS.len()];
            state.requested.extend((0..TICKERS.len()).filter(|market| state.has[*market]));
            return self.push(feed, Event::Terminated { channel, reason });
        }
        if self.one_in(self.odds.stall) {
            self.feeds[feed].stalled = self.random.index(60);
        }
        if self.one_in(100) {
            self.feeds[feed].trails = self.random.index(12);
        }
        if self.feeds[feed].queue.is_empty() {
            if self.is_calm || self.random.one_in(4) {
                self.answer(feed);
            }
            self.read(feed);
        }
        for _ in 0..=self.random.index(3) {
            if self.feeds[feed].is_up {
                self.arrive(feed);
            }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "the market is an index of several tables")]
    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        // The weather clears, and everything is desired.
        self.is_calm = true;
        for market in 0..TICKERS.len() {
            if !self.is_desired[market] {
                self.request(market);
            }
        }
        for _ in 0..600 {
            self.step();
        }
        for feed in 0..self.feeds.len() {
            while !self.drain(feed) {
                if self.feeds[feed].is_up {
                    self.cut(feed);
                }
                self.connect(feed, false);
            }
        }
        for market in 0..TICKERS.len() {
            // What the others led to may have had this one follow.
            for feed in 0..self.feeds.len() {
                self.drain(feed);
            }
            let last = self.exchange.states[market].len() - 1;
            assert_eq!(self.held[market], Held::At(last), "{} in the end", TICKERS[market]);
            assert_eq!(self.merger.books().state(TICKERS[market]), BookState::Valid);
        }
        for id in 0..self.exchange.trades {
            let is_near = |newest: &usize| newest + 300 >= id && *newest <= id + 300;
            assert!(
                self.trades.contains(&id) || self.uncovered_trades.iter().any(is_near),
                "trade {id} is missing without an event: {:?}",
                self.uncovered_trades
            );
        }
        let count = |name: &str| self.events.get(name).copied().unwrap_or_default();
        if self.odds.maintain == 0 {
            assert_eq!(count("contradiction"), 0);
        }
    }
}

fn price(place: usize) -> Dollars {
    // Bids from 0.30, asks from 0.60.
    let cents = if place < 5 { 30 + place } else { 55 + place };
    Dollars::from_cents(i64::try_from(cents).unwrap()).unwrap()
}

fn rows(levels: &Levels) -> (Vec<PriceLevel>, Vec<PriceLevel>) {
    let row = |place: usize| PriceLevel {
        price: price(place),
        count: Count::from_hundredths(levels[place]),
    };
    ((0..5).map(row).collect(), (5..10).map(row).collect())
}

fn levels(book: &OrderBook) -> Levels {
    let mut levels = [0; 10];
    for (place, level) in levels.iter_mut().enumerate() {
        let at = |row: &PriceLevel| row.price == price(place);
        let row = if place < 5 {
            book.bids(Outcome::Yes).find(at)
        } else {
            book.asks(Outcome::Yes).find(at)
        };
        *level = row.map_or(0, |row| row.count.as_hundredths());
    }
    levels
}

fn short(event: &Event) -> String {
    match event {
        Event::Message(message) => match &message.payload {
            Payload::OrderbookDelta(delta) => format!("delta {} {:?}", delta.market, delta.clock),
            Payload::OrderbookSnapshot(snapshot) => {
                format!("snapshot {} {:?}", snapshot.market_ticker, snapshot.clock)
            }
            Payload::Trade(trade) => format!("trade {}", trade.trade_id),
            _ => String::new(),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn merged_feeds_are_the_exchange_and_every_uncovered_loss_is_an_event() {
    let (runs, seed) = (number("FEEDS_RUNS", 400), number("FEEDS_SEED", 0));
    let steps = usize::try_from(number("FEEDS_STEPS", 500)).unwrap();
    let mut events = BTreeMap::<&'static str, u64>::new();
    for run in seed..seed + runs {
        let mut world = World::new(run);
        let ran = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
        let log = world.log.join("\n");
        assert!(ran.is_ok(), "{log}\nFEEDS_SEED={run} FEEDS_RUNS=1 FEEDS_LOG=1");
        for (name, count) in world.events {
            *events.entry(name).or_default() += count;
        }
        let metrics = world.merger.metrics();
        *events.entry("covered").or_default() += metrics.covered;
        *events.entry("duplicate").or_default() += metrics.duplicates;
    }
    println!("{events:?}");
    if runs >= 400 {
        for event in [
            "delta",
            "snapshot",
            "trade",
            "uncovered",
            "uncovered trades",
            "clock reset",
            "behind",
            "failover",
            "disconnected",
            "reconnected",
            "removed",
            "added",
            "covered",
            "duplicate",
        ] {
            assert!(events.get(event).is_some_and(|count| *count > 0), "{event} never happened");
        }
    }
}
