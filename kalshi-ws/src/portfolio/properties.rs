//! The view under random interleavings of everything that may happen to it.
//!
//! An exchange fills, rests and cancels orders on a clock of its own. Its messages are late, come
//! twice, are lost (with the event that says so in their place), or cannot be placed; connections
//! break; reads lag, and the parts of one are of different moments. Whenever the view says that it
//! is current and nothing is under way, its fills, orders and positions are the exchange's; and no
//! fill counts twice.
//!
//! `PORTFOLIO_RUNS` sets the number of runs (20,000 by default), `PORTFOLIO_SEED` the first of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    env,
    sync::Arc,
    time::Duration,
};

use kalshi_auth::ManualClock;
use kalshi_types::{Count, UnixMillis};

use super::{
    AccountSnapshot, FillRecord, OrderRecord, Portfolio, PortfolioChange, PositionRecord,
    ReconcileStatus, Reconciled, Reconciliation,
};
use crate::{
    Channel, Decoder, DisconnectReason, Event, Frame, Malformed, Message, Payload, Unknown,
    random::Random,
    types::{MarketSide, UserOrderStatus},
};

const STEPS: u64 = 50;
const MARKETS: [&str; 2] = ["A", "B"];
const CHANNELS: [Channel; 3] = [Channel::Fill, Channel::UserOrders, Channel::MarketPositions];
/// The largest distance between the view's clock and the exchange's.
const SKEW: i64 = 5;

/// One message of each kind, to be filled in.
struct Templates {
    fill: Message,
    order: Message,
    position: Message,
}

impl Templates {
    fn new() -> Self {
        let read = |frame: &str| match Decoder::new().decode(frame, UnixMillis::from_millis(0)) {
            Frame::Message(message) => message,
            other => panic!("{other:?}"),
        };
        Self {
            fill: read(
                r#"{"type":"fill","sid":1,"msg":{"trade_id":"","order_id":"","market_ticker":"","exchange_index":0,"is_taker":true,"yes_price_dollars":"0.5","count_fp":"1","fee_cost":"0","ts_ms":0,"post_position_fp":"0","outcome_side":"yes","book_side":"bid"}}"#,
            ),
            order: read(
                r#"{"type":"user_order","sid":2,"msg":{"order_id":"","user_id":"u","ticker":"","exchange_index":0,"status":"resting","outcome_side":"yes","book_side":"bid","yes_price_dollars":"0.5","fill_count_fp":"0","remaining_count_fp":"0","initial_count_fp":"0","taker_fill_cost_dollars":"0","maker_fill_cost_dollars":"0","taker_fees_dollars":"0","maker_fees_dollars":"0","client_order_id":"","created_time":null,"created_ts_ms":null,"last_updated_ts_ms":0}}"#,
            ),
            position: read(
                r#"{"type":"market_position","sid":3,"msg":{"user_id":"u","market_ticker":"","position_fp":"0","position_cost_dollars":"0","realized_pnl_dollars":"0","fees_paid_dollars":"0","position_fee_cost_dollars":"0","volume_fp":"0"}}"#,
            ),
        }
    }
}

/// The events of all runs, so that none of them is untested.
#[derive(Debug, Default)]
struct Tally {
    fills: u64,
    missed: u64,
    losses: u64,
    behind: u64,
    interrupted: u64,
    current: u64,
    compared: u64,
    repeated: u64,
    late: u64,
    unplaced: u64,
}

/// A reconciliation under way.
struct Reading {
    begun: Reconciliation,
    snapshot: AccountSnapshot,
    /// The number of the three lists that have been read.
    parts: u8,
}

struct World<'a> {
    random: Random,
    templates: &'a Templates,
    tally: &'a mut Tally,
    /// The exchange's time.
    now: i64,
    /// The lead of the view's clock over it.
    skew: i64,
    clock: Arc<ManualClock>,
    ids: u64,
    /// Every state that an order had, with its time.
    orders: BTreeMap<String, Vec<(i64, OrderRecord)>>,
    /// Every count that a position had, with its time.
    positions: BTreeMap<&'static str, Vec<(i64, i64)>>,
    fills: Vec<FillRecord>,
    queues: [VecDeque<Event>; 3],
    /// The number of confirmed subscriptions.
    confirmed: usize,
    sid: i64,
    view: Portfolio,
    /// The fills that counted, by trade.
    counted: BTreeSet<String>,
    reading: Option<Reading>,
}

impl<'a> World<'a> {
    fn new(seed: u64, templates: &'a Templates, tally: &'a mut Tally) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let skew = random.between(-SKEW, SKEW);
        let clock = Arc::new(ManualClock::default());
        let tolerance = Duration::from_millis(SKEW.unsigned_abs());
        let view = Portfolio::new()
            .with_clock(Arc::<ManualClock>::clone(&clock))
            .with_clock_tolerance(tolerance);
        Self {
            random,
            templates,
            tally,
            now: 1_000_000,
            skew,
            clock,
            ids: 0,
            orders: BTreeMap::new(),
            positions: BTreeMap::new(),
            fills: Vec::new(),
            queues: Default::default(),
            confirmed: 0,
            sid: 0,
            view,
            counted: BTreeSet::new(),
            reading: None,
        }
    }

    fn pass(&mut self, millis: i64) {
        self.now += millis;
        self.clock.set(UnixMillis::from_millis(self.now + self.skew));
    }

    fn step(&mut self) {
        let time = if self.random.one_in(40) { 70_000 } else { self.random.between(0, 6) };
        self.pass(time);
        match self.random.below(20) {
            0..=2 => self.place(),
            3..=7 => self.fill(),
            8 => self.cancel(),
            9..=13 => self.deliver(),
            14 if self.random.one_in(2) => self.lose(),
            14 if self.random.one_in(4) => self.disconnect(),
            14 | 15 => self.confirm(),
            _ => self.read(),
        }
        if self.random.one_in(10) {
            self.settle();
        }
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("{}", self.ids)
    }

    /// Sends a message of the exchange, if the channel is subscribed to.
    fn send(&mut self, channel: usize, mut message: Message) {
        if channel < self.confirmed {
            message.sent = Some(UnixMillis::from_millis(self.now));
            self.queues[channel].push_back(Event::Message(message));
        }
    }

    fn place(&mut self) {
        let mut message = self.templates.order.clone();
        let Payload::UserOrder(order) = &mut message.payload else { panic!() };
        order.order_id = self.id();
        order.ticker = MARKETS[self.random.index(MARKETS.len())].to_owned();
        let side = if self.random.one_in(2) { MarketSide::Yes } else { MarketSide::No };
        order.outcome_side = side;
        let count = Count::from_hundredths(self.random.between(1, 5) * 100);
        order.initial_count_fp = count;
        order.remaining_count_fp = count;
        let order = order.clone();
        self.change(*order, message);
    }

    fn change(&mut self, mut order: crate::types::UserOrder, mut message: Message) {
        order.last_updated_ts_ms = Some(UnixMillis::from_millis(self.now));
        let record = OrderRecord::from(&order);
        self.orders.entry(record.order_id.clone()).or_default().push((self.now, record));
        message.payload = Payload::UserOrder(Box::new(order));
        self.send(1, message);
    }

    /// Returns an order that rests, as a message.
    fn resting(&mut self) -> Option<crate::types::UserOrder> {
        let resting: Vec<&OrderRecord> = self
            .orders
            .values()
            .filter_map(|states| states.last())
            .map(|(_, order)| order)
            .filter(|order| order.status == UserOrderStatus::Resting)
            .collect();
        if resting.is_empty() {
            return None;
        }
        let record = resting[self.random.index(resting.len())];
        let Payload::UserOrder(order) = &self.templates.order.payload else { panic!() };
        let mut order = order.clone();
        order.order_id.clone_from(&record.order_id);
        order.ticker.clone_from(&record.market_ticker);
        order.outcome_side = record.outcome_side.clone();
        order.initial_count_fp = record.initial;
        order.remaining_count_fp = record.remaining;
        order.fill_count_fp = record.filled;
        Some(*order)
    }

    fn fill(&mut self) {
        let Some(mut order) = self.resting() else { return };
        let remaining = order.remaining_count_fp.as_hundredths();
        let count = self.random.between(1, remaining / 100) * 100;
        order.remaining_count_fp = Count::from_hundredths(remaining - count);
        let filled = order.fill_count_fp.as_hundredths() + count;
        order.fill_count_fp = Count::from_hundredths(filled);
        if remaining == count {
            order.status = UserOrderStatus::Executed;
        }
        let market = MARKETS.into_iter().find(|market| *market == order.ticker).unwrap();
        let before = self.position(market, i64::MAX);
        let yes = order.outcome_side == MarketSide::Yes;
        let after = if yes { before + count } else { before - count };
        self.positions.entry(market).or_default().push((self.now, after));

        let mut message = self.templates.fill.clone();
        let Payload::Fill(fill) = &mut message.payload else { panic!() };
        fill.trade_id = self.id();
        fill.order_id.clone_from(&order.order_id);
        fill.market_ticker = market.to_owned();
        fill.outcome_side = order.outcome_side.clone();
        fill.count_fp = Count::from_hundredths(count);
        fill.ts_ms = Some(UnixMillis::from_millis(self.now));
        fill.post_position_fp = Count::from_hundredths(after);
        self.fills.push(FillRecord::from(&**fill));
        if self.random.one_in(10) {
            // The exchange is known to leave it out.
            fill.ts_ms = None;
        }
        self.tally.fills += 1;
        self.send(0, message);
        let message = self.templates.order.clone();
        self.change(order, message);
        let mut message = self.templates.position.clone();
        let Payload::MarketPosition(position) = &mut message.payload else { panic!() };
        position.market_ticker = market.to_owned();
        position.position_fp = Count::from_hundredths(after);
        self.send(2, message);
    }

    fn cancel(&mut self) {
        let Some(mut order) = self.resting() else { return };
        order.status = UserOrderStatus::Canceled;
        let message = self.templates.order.clone();
        self.change(order, message);
    }

    /// Delivers a message to the view: mostly the next one of some channel.
    fn deliver(&mut self) {
        let at = self.random.index(3);
        let length = self.queues[at].len();
        if length == 0 {
            return;
        }
        let is_fill = at == 0;
        // Only fills overtake each other; not the events about them.
        let messages = self.queues[at]
            .iter()
            .take_while(|event| matches!(event, Event::Message(_) | Event::Unmatched(_)))
            .count();
        let mut from = 0;
        if is_fill && messages > 1 && self.random.one_in(4) {
            from = self.random.index(messages.min(4));
            self.tally.late += u64::from(from > 0);
        }
        let event = self.queues[at].remove(from).unwrap();
        if matches!(event, Event::Message(_)) && self.random.one_in(6) {
            self.tally.repeated += 1;
            if at == 2 {
                self.queues[at].push_front(event.clone());
            } else {
                let to = self.random.index(self.queues[at].len() + 1);
                self.queues[at].insert(to, event.clone());
            }
        }
        self.apply(&event);
    }

    fn apply(&mut self, event: &Event) {
        let change = self.view.apply(event);
        self.tally.losses += u64::from(change == PortfolioChange::Stale);
        let (Event::Message(message) | Event::Unmatched(message)) = event else { return };
        if let Payload::Fill(fill) = &message.payload {
            let expected = if self.counted.insert(fill.trade_id.clone()) {
                PortfolioChange::Fill
            } else {
                PortfolioChange::KnownFill
            };
            assert_eq!(change, expected);
        }
    }

    /// Loses a message or makes it unplaceable; an event in its place reports it.
    fn lose(&mut self) {
        let at = self.random.index(3);
        if self.queues[at].is_empty() {
            return;
        }
        let which = self.random.index(self.queues[at].len());
        let Event::Message(message) = &self.queues[at][which] else { return };
        let kind = message.payload.kind().to_owned();
        let sid = self.view.sids[at];
        let event = match self.random.below(5) {
            0 => Event::Lagged { channel: Some(CHANNELS[at].clone()), dropped: 1 },
            1 => Event::Lagged { channel: None, dropped: 1 },
            2 => Event::Malformed(Malformed {
                kind: self.random.one_in(2).then_some(kind),
                sid: None,
                seq: None,
                sent: None,
                error: String::new(),
                raw: String::new(),
            }),
            3 => Event::Unknown(Unknown {
                kind: "fill_of_tomorrow".to_owned(),
                sid,
                seq: None,
                sent: None,
                raw: String::new(),
            }),
            _ => {
                self.tally.unplaced += 1;
                Event::Unmatched(message.clone())
            }
        };
        self.queues[at][which] = event;
    }

    fn disconnect(&mut self) {
        if self.confirmed == 0 {
            return;
        }
        self.confirmed = 0;
        self.queues = Default::default();
        self.apply(&Event::Disconnected { reason: DisconnectReason::Silent });
    }

    /// Confirms one more subscription, which reports everything from here on.
    fn confirm(&mut self) {
        if let Some(channel) = CHANNELS.get(self.confirmed) {
            self.sid += 1;
            let event = Event::Subscribed { channel: channel.clone(), sid: self.sid };
            self.queues[self.confirmed].push_back(event);
            self.confirmed += 1;
        }
    }

    /// Begins a reconciliation, reads one more list, or takes in what was read.
    fn read(&mut self) {
        let Some(mut reading) = self.reading.take() else {
            let begun = self.view.begin();
            let lag = if self.random.one_in(3) { 0 } else { self.random.between(0, 12) };
            let snapshot = AccountSnapshot::new(UnixMillis::from_millis(self.now - lag));
            self.reading = Some(Reading { begun, snapshot, parts: 0 });
            return;
        };
        let at = self.random.between(reading.snapshot.as_of.as_millis(), self.now);
        match reading.parts {
            0 => {
                let states = self.orders.values();
                let states = states.filter_map(|s| s.iter().rev().find(|(time, _)| *time <= at));
                reading.snapshot.orders = states
                    .map(|(_, order)| order.clone())
                    .filter(|order| order.status == UserOrderStatus::Resting)
                    .collect();
            }
            1 => reading.snapshot.positions = self.positions_at(at),
            2 => {
                let since = reading.begun.fills_since().map_or(i64::MIN, UnixMillis::as_millis);
                let fills = self.fills.iter().filter(|fill| {
                    let time = fill.ts_ms.unwrap().as_millis();
                    time >= since && time <= at
                });
                reading.snapshot.fills =
                    fills.map(|fill| FillRecord { position_after: None, ..fill.clone() }).collect();
                if let Some(fill) = reading.snapshot.fills.first().cloned() {
                    // It moved to the archive meanwhile.
                    reading.snapshot.fills.push(fill);
                }
            }
            _ => {
                let found = self.view.finish(reading.begun, reading.snapshot);
                self.found(&found);
                return;
            }
        }
        reading.parts += 1;
        self.reading = Some(reading);
    }

    fn found(&mut self, found: &Reconciled) {
        assert!(found.too_old.is_empty());
        self.tally.missed += found.missed.len() as u64;
        for fill in &found.missed {
            assert!(self.counted.insert(fill.trade_id.clone()), "a fill counted twice");
        }
        match found.status {
            ReconcileStatus::Current => self.tally.current += 1,
            ReconcileStatus::Behind { .. } => self.tally.behind += 1,
            ReconcileStatus::Interrupted => self.tally.interrupted += 1,
            ReconcileStatus::NotSubscribed => {}
        }
    }

    fn position(&self, market: &str, at: i64) -> i64 {
        let counts = self.positions.get(market).map(Vec::as_slice).unwrap_or_default();
        counts.iter().rev().find(|(time, _)| *time <= at).map_or(0, |(_, count)| *count)
    }

    fn positions_at(&self, at: i64) -> Vec<PositionRecord> {
        let positions = MARKETS.into_iter().map(|market| PositionRecord {
            market_ticker: market.to_owned(),
            subaccount: None,
            count: Count::from_hundredths(self.position(market, at)),
            cost: None,
            realized_pnl: None,
            fees: None,
        });
        positions.filter(|position| !position.count.is_zero()).collect()
    }

    /// Ends everything under way. A view that is current has what the exchange has.
    fn settle(&mut self) {
        while self.queues.iter().any(|queue| !queue.is_empty()) {
            self.deliver();
        }
        if !self.view.is_current() {
            return;
        }
        self.tally.compared += 1;
        let fills: BTreeSet<String> = self.fills.iter().map(|f| f.trade_id.clone()).collect();
        assert_eq!(self.counted, fills, "fills");
        let resting: BTreeMap<&str, &OrderRecord> = self
            .orders
            .values()
            .filter_map(|states| states.last())
            .filter(|(_, order)| order.status == UserOrderStatus::Resting)
            .map(|(_, order)| (&*order.order_id, order))
            .collect();
        let known: BTreeMap<&str, &OrderRecord> =
            self.view.orders().map(|order| (&*order.order_id, order)).collect();
        assert_eq!(known, resting, "orders");
        for market in MARKETS {
            let count = Count::from_hundredths(self.position(market, i64::MAX));
            assert_eq!(self.view.position_in(market, None), count, "position in {market}");
        }
    }

    /// Ends all faults: the view becomes current within a few attempts.
    fn recover(&mut self) {
        self.reading = None;
        while self.confirmed < CHANNELS.len() {
            self.confirm();
        }
        self.settle();
        for _ in 0..10 {
            self.read();
            while self.reading.is_some() {
                self.read();
            }
            self.settle();
            if self.view.is_current() {
                return;
            }
            self.pass(100);
        }
        panic!("the view does not become current");
    }
}

#[test]
fn a_current_view_is_the_exchanges_account_whatever_happened_before() {
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("PORTFOLIO_SEED", 1);
    let runs = number("PORTFOLIO_RUNS", 20_000);
    let templates = Templates::new();
    let mut tally = Tally::default();
    for seed in first..first + runs {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed, &templates, &mut tally);
            world.pass(0);
            if !world.random.one_in(4) {
                world.recover();
            }
            for _ in 0..STEPS {
                world.step();
            }
            world.recover();
        }));
        if let Err(panic) = run {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{runs} runs: {tally:?}");
    let Tally { missed, losses, behind, interrupted, compared, repeated, late, unplaced, .. } =
        tally;
    let seen = [missed, losses, behind, interrupted, compared, repeated, late, unplaced];
    assert!(seen.into_iter().all(|count| count > runs / 100), "{seen:?}");
}
