//! The sessions of perpetual futures beside the engine: whatever happens, who folds the messages of
//! a connection has what the engine and the reads of the API have.
//!
//! 400 steps a run; `KALSHI_SIM_COMMANDS` asks for more, `KALSHI_SIM_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate};
use kalshi_sdk::perps::{OperationId, server::dispatch};
use kalshi_types::{Count, Dollars, PriceLevel};
use serde_json::{Value, json};

use super::*;
use crate::{
    engine::{
        ids::{AccountId, ActionId, OrderId},
        types::{Decrease, NewOrder, Refusal, Side, Time, TimeInForce},
    },
    http::{query::Query, request::Call},
    perps::engine::{
        actions::{ActionStatus, NewAction, Terms},
        amount::Rate,
        markets::{AssetClass, FundingTerms, LimitUnit, Market, NewMarket},
        orders::amendment,
    },
    random::Random,
    state::Start,
    stream::product,
};

const START: i64 = 1_790_000_000_000;
const TICKERS: [&str; 3] = ["KXSIMCOINPERP", "KXSIMSHAREPERP", "KXSIMMETALPERP"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn new_state() -> State {
    State::new(Start::new(7, DateTime::from_timestamp_millis(START).unwrap()))
}

/// Both sides of a book, by the price.
type Levels = BTreeMap<(&'static str, Dollars), Count>;

/// A connection, and what its messages add up to.
struct Reader {
    session: Session,
    account: AccountId,
    /// The number of the last message of each subscription.
    seqs: BTreeMap<u64, u64>,
    books: BTreeMap<String, Levels>,
    tickers: BTreeMap<String, Value>,
    /// The last message about each order.
    orders: BTreeMap<String, Value>,
    fills: Vec<Value>,
    trades: usize,
    actions: Vec<Value>,
}

impl Reader {
    /// Returns a reader who has subscribed to everything.
    fn new(state: &State, account: AccountId) -> Self {
        let session =
            Session::new(Principal::member(account), Product::Perps, StreamFaults::default());
        let mut reader = Self {
            session,
            account,
            seqs: BTreeMap::new(),
            books: BTreeMap::new(),
            tickers: BTreeMap::new(),
            orders: BTreeMap::new(),
            fills: Vec::new(),
            trades: 0,
            actions: Vec::new(),
        };
        for params in [
            json!({"channels": ["orderbook_delta"], "market_tickers": TICKERS}),
            json!({"channels": ["ticker"], "send_initial_snapshot": true}),
            json!({"channels": [
                "trade", "fill", "user_orders", "order_group_updates", "corporate_actions",
            ]}),
        ] {
            reader.send(&json!({"id": 1, "cmd": "subscribe", "params": params}), state);
        }
        reader
    }

    fn send(&mut self, command: &Value, state: &State) {
        let mut out = Vec::new();
        self.session.receive(&command.to_string(), state, &mut out);
        self.take(&out);
    }

    /// Reads frames as a client would.
    fn take(&mut self, frames: &[Frame]) {
        for frame in frames {
            let frame: Value = serde_json::from_str(&frame.text).unwrap();
            if let Some(seq) = frame["seq"].as_u64() {
                let last = self.seqs.entry(frame["sid"].as_u64().unwrap()).or_default();
                assert_eq!(seq, *last + 1, "a hole: {frame}");
                *last = seq;
            }
            let msg = &frame["msg"];
            let market = msg["market_ticker"].as_str().unwrap_or_default().to_owned();
            match frame["type"].as_str().unwrap() {
                "orderbook_snapshot" => {
                    let mut levels = Levels::new();
                    for side in ["bid", "ask"] {
                        let rows: Vec<PriceLevel> =
                            serde_json::from_value(msg.get(side).cloned().unwrap_or(json!([])))
                                .unwrap();
                        levels.extend(rows.into_iter().map(|row| ((side, row.price), row.count)));
                    }
                    self.books.insert(market, levels);
                }
                "orderbook_delta" => self.fold(&market, msg),
                "ticker" => {
                    self.tickers.insert(market, msg.clone());
                }
                "user_order" => {
                    self.orders.insert(msg["order_id"].as_str().unwrap().to_owned(), msg.clone());
                }
                "fill" => self.fills.push(msg.clone()),
                "trade" => self.trades += 1,
                "corporate_actions_delta" => self.act(&msg["corporate_action"]),
                "error" => panic!("{frame}"),
                _ => {}
            }
        }
    }

    fn fold(&mut self, market: &str, msg: &Value) {
        let book = self.books.get_mut(market).unwrap_or_else(|| panic!("no snapshot: {msg}"));
        let side = if msg["side"] == "bid" { "bid" } else { "ask" };
        let price = serde_json::from_value(msg["price"].clone()).unwrap();
        let delta = serde_json::from_value(msg["delta"].clone()).unwrap();
        let level = book.entry((side, price)).or_default();
        *level = level.checked_add(delta).unwrap();
        assert!(!level.is_negative(), "{msg}");
        book.retain(|_, count| !count.is_zero());
    }

    /// Notes a corporate action: what follows names the market by its new ticker.
    fn act(&mut self, action: &Value) {
        let change = &action["ticker_change"];
        if let (Some(old), Some(new)) =
            (change["old_ticker"].as_str(), change["new_ticker"].as_str())
        {
            let book = self.books.remove(old).unwrap();
            self.books.insert(new.to_owned(), book);
            let ticker = self.tickers.remove(old).unwrap();
            self.tickers.insert(new.to_owned(), ticker);
        }
        self.actions.push(action.clone());
    }
}

/// An exchange under random commands, with two readers.
struct Run {
    state: State,
    random: Random,
    now: i64,
    ids: u64,
    readers: [Reader; 2],
    /// The trades before the first message.
    trades: usize,
    done: BTreeMap<&'static str, u64>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let state = new_state();
        let readers =
            [state.first_account, state.second_account].map(|one| Reader::new(&state, one));
        let trades = state.perps.engine.trades().len();
        let (random, done) = (Random::new(seed), BTreeMap::new());
        Self { state, random, now: START, ids: 0, readers, trades, done }
    }

    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.random.below(bound)).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let place = usize::try_from(self.random.next()).unwrap() % from.len().max(1);
        from.get(place).cloned()
    }

    fn note<T>(&mut self, what: &'static str, result: Result<T, Refusal>) -> Option<T> {
        let done = result.ok();
        if done.is_some() {
            *self.done.entry(what).or_default() += 1;
        }
        done
    }

    fn market(&mut self) -> Market {
        let markets = self.state.perps.engine.markets();
        let open: Vec<Market> = markets.iter().filter(|one| !one.closed).cloned().collect();
        self.pick(&open).unwrap()
    }

    /// Returns a price of up to a percent around the mark.
    fn price(&mut self, market: &Market) -> Dollars {
        let mark = market.settlement_mark.price.as_micros();
        let price = Dollars::from_micros(mark / 10_000 * (9_900 + self.below(201)));
        price.floor_to(market.tick).unwrap().max(market.tick)
    }

    /// Carries a random command out.
    fn command(&mut self) {
        let now = Time::from_millis(self.now);
        let reader = usize::from(self.random.below(4) == 0);
        let account = self.readers[reader].account;
        let market = self.market();
        let own = self.state.perps.engine.account(account).unwrap().orders.clone();
        let recent: Vec<OrderId> = own.iter().rev().take(12).copied().collect();
        match self.below(40) {
            0..10 => self.place(account, &market, now),
            10..15 => {
                self.state.perps.run_traders(4, now);
            }
            15..20 => {
                let Some(order) = self.pick(&recent) else { return };
                let found = self.state.perps.engine.order(order).unwrap();
                let (side, market) = (found.side, found.market);
                let market = self.state.perps.engine.market(market).unwrap().clone();
                let (price, count) = (self.price(&market), self.count());
                let choice = self.below(3);
                let engine = &mut self.state.perps.engine;
                let result = match choice {
                    0 => engine.cancel(account, 0, order, now).map(drop),
                    1 => {
                        engine.decrease(account, 0, order, Decrease::By(Count::ONE), now).map(drop)
                    }
                    _ => {
                        let amend = amendment((account, 0), order, side, price, count);
                        engine.amend(&amend, now).map(drop)
                    }
                };
                self.note("changed", result);
            }
            20..28 => self.mark(&market, now),
            28 | 29 => {
                let pauses = self.below(3) == 0;
                let result = self.state.perps.engine.set_paused(&market.ticker, pauses, now);
                self.note("paused", result);
            }
            30 => {
                let trades = self.below(4) > 0;
                self.state.perps.engine.set_trading(trades, now);
            }
            31 => {
                let amount = Dollars::from_dollars(self.below(9_000) + 1_000).unwrap();
                let result = self.state.perps.engine.deposit(account, amount, now);
                self.note("paid in", result);
            }
            32..35 => self.announce(&market, now),
            35 => {
                let scheduled: Vec<ActionId> = self
                    .state
                    .perps
                    .engine
                    .actions()
                    .iter()
                    .filter(|action| action.status == ActionStatus::Scheduled)
                    .map(|action| action.id)
                    .collect();
                let Some(action) = self.pick(&scheduled) else { return };
                let result = self.state.perps.engine.call_off(action, now);
                self.note("called off", result);
            }
            36 => self.list(now),
            37 => self.now += 3_600_000 * self.below(10),
            _ => {
                let result = self.state.perps.engine.cancel_all(account, None, now);
                self.note("canceled all", result);
            }
        }
    }

    fn count(&mut self) -> Count {
        Count::from_contracts(self.below(300) + 1).unwrap()
    }

    fn place(&mut self, account: AccountId, market: &Market, now: Time) {
        self.ids += 1;
        let waits = self.below(3) > 0;
        let new = NewOrder {
            client_order_id: Some(self.ids.to_string()),
            time_in_force: if waits {
                TimeInForce::GoodTillCanceled
            } else {
                TimeInForce::ImmediateOrCancel
            },
            cancel_on_pause: self.below(3) == 0,
            expires: (waits && self.below(6) == 0)
                .then(|| Time::from_millis(now.as_millis() + 2_500)),
            ..NewOrder::resting(
                account,
                market.ticker.clone(),
                if self.below(2) == 0 { Side::Bid } else { Side::Ask },
                self.price(market),
                self.count(),
            )
        };
        let result = self.state.perps.engine.place_order(&new, 0, now);
        self.note("placed", result);
    }

    /// Moves the marks by up to a percent, and now and then by a seventh.
    fn mark(&mut self, market: &Market, now: Time) {
        let most = if self.below(4) == 0 { 1_400 } else { 100 };
        let mark = market.settlement_mark.price.as_micros() / 1_000_000;
        let parts = 10_000 + self.below(2 * most + 1) - i64::try_from(most).unwrap();
        let price = Some(Dollars::from_micros((mark.clamp(20, 9_000)) * parts * 100));
        let choice = self.below(8);
        let engine = &mut self.state.perps.engine;
        let ticker = &market.ticker;
        let result = match choice {
            0 => engine.set_marks(ticker, price, None, None, now),
            1 => engine.set_marks(ticker, None, price, None, now),
            2 => engine.set_marks(ticker, None, None, Some(None), now),
            3 => engine.set_marks(ticker, None, None, Some(price), now),
            _ => engine.set_marks(ticker, price, price, None, now),
        };
        self.note("marked", result);
    }

    fn announce(&mut self, market: &Market, now: Time) {
        let ex_date = NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
        let per_contract = Dollars::from_micros(self.below(30) * 100_000);
        let open = self.state.perps.engine.markets().iter().filter(|one| !one.closed).count();
        let terms = match self.below(6) {
            0 => Terms::Split { old: 3, new: 2, ex_date },
            1 => Terms::Split { old: 2, new: 3, ex_date },
            2 | 3 => {
                self.ids += 1;
                let new = format!("KXNEW{}PERP", self.ids);
                Terms::TickerChange { old: market.ticker.clone(), new }
            }
            4 if open > 2 => {
                let per_contract = market.settlement_mark.price;
                Terms::FinalSettlement { per_contract, reason: "It is over.".to_owned() }
            }
            _ => Terms::CashDividend { per_contract, ex_date },
        };
        let at = Time::from_millis(now.as_millis() + 1_700 * self.below(3));
        let new = NewAction { ticker: market.ticker.clone(), terms, at };
        let result = self.state.perps.engine.announce(new, now);
        self.note("announced", result);
    }

    /// Lists a market; the readers add its book to theirs.
    fn list(&mut self, now: Time) {
        self.ids += 1;
        let ticker = format!("KXLISTED{}PERP", self.ids);
        let terms = FundingTerms {
            deadband: Rate::ZERO,
            cap: Rate::new(20_000_000_000),
            unit: LimitUnit::Percentage,
            excludes_invalid: false,
        };
        let market = NewMarket {
            ticker: ticker.clone(),
            title: "Listed later".to_owned(),
            class: AssetClass::Crypto,
            shard: 0,
            contract_size: 1_000_000,
            multiplier: 1_000_000,
            tick: Dollars::CENT,
            fractional: false,
            maintenance: 50_000,
            maker_fee: 200,
            taker_fee: 500,
            funding: terms,
            reference: Dollars::from_dollars(50).unwrap(),
        };
        let result = self.state.perps.engine.add_market(market, now);
        self.note("listed", result);
        let params = json!({"sid": 1, "action": "add_markets", "market_ticker": ticker});
        let add = json!({"id": 2, "cmd": "update_subscription", "params": params});
        for reader in &mut self.readers {
            reader.send(&add, &self.state);
        }
    }

    fn publish(&mut self) {
        for event in product::take_events(&mut self.state) {
            for reader in &mut self.readers {
                let mut out = Vec::new();
                reader.session.publish(&event, &self.state, &mut out);
                reader.take(&out);
            }
        }
    }

    /// Lets time pass, and publishes what falls due and what was held back.
    fn pass(&mut self, millis: i64) {
        self.now += millis;
        self.state.advance(Time::from_millis(self.now));
        self.publish();
        for reader in &mut self.readers {
            let out = reader.session.tick(&|_| String::new(), &self.state, false);
            reader.take(&out);
        }
    }

    fn step(&mut self) {
        let millis = self.below(900);
        self.pass(millis);
        self.command();
        self.publish();
        // The longest time for which a ticker is held back.
        self.pass(TICKER_PAUSE);
    }

    fn get(&mut self, operation: OperationId, path: &[String], query: &str) -> Value {
        let call = Call {
            caller: None,
            subtrader: None,
            path,
            query: &Query::new(serde_urlencoded::from_str(query).unwrap()),
            body: &Value::Null,
            now: DateTime::from_timestamp_millis(self.now).unwrap(),
            pair: None,
        };
        let answer = dispatch(operation, &mut self.state, &call).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.unwrap()
    }

    /// Compares the last ticker of each market with what the API reads.
    fn compare_tickers(&mut self) {
        let listed = self.get(OperationId::GetMarginMarkets, &[], "")["markets"].clone();
        let listed = listed.as_array().unwrap();
        for market in listed {
            let name = market["ticker"].as_str().unwrap();
            let query = format!("ticker={name}");
            let estimate = self.get(OperationId::GetMarginFundingRateEstimate, &[], &query);
            for reader in &self.readers {
                let told = reader.tickers.get(name).unwrap_or_else(|| panic!("no {name}"));
                for field in [
                    "bid_size_fp",
                    "ask_size_fp",
                    "volume",
                    "volume_notional_value_dollars",
                    "open_interest",
                    "open_interest_notional_value_dollars",
                    "settlement_mark_price",
                    "liquidation_mark_price",
                    "reference_price",
                ] {
                    assert_eq!(told[field], market[field], "{field}: {told} {market}");
                }
                // What is not there reads as zero in a ticker.
                for field in ["price", "bid", "ask"] {
                    let read = market.get(field).cloned().unwrap_or(json!(Dollars::ZERO));
                    assert_eq!(told[field], read, "{field}: {told} {market}");
                }
                let funding = &told["funding_rate"];
                assert_eq!(funding.is_null(), estimate["funding_rate"].is_null(), "{told}");
                if !funding.is_null() {
                    let next: DateTime<chrono::Utc> =
                        serde_json::from_value(estimate["next_funding_time"].clone()).unwrap();
                    assert_eq!(funding["next_funding_time_ms"], next.timestamp_millis(), "{told}");
                }
                // The rate is a mean over time: it is the same at the time of the message only.
                if told["ts_ms"] == self.now {
                    assert_eq!(funding["rate"], estimate["funding_rate"], "{told}");
                }
            }
        }
        assert!(self.readers.iter().all(|reader| reader.tickers.len() == listed.len()));
    }

    /// Compares books, orders, fills, trades and actions with those of the engine.
    fn compare_with_the_engine(&self) {
        let engine = &self.state.perps.engine;
        let public = |action: &&crate::perps::engine::actions::Action| {
            action.status == ActionStatus::Applied
                && matches!(
                    action.terms,
                    Terms::Split { .. }
                        | Terms::TickerChange { .. }
                        | Terms::FinalSettlement { .. }
                )
        };
        let actions: BTreeSet<String> =
            engine.actions().iter().filter(public).map(|one| one.id.to_string()).collect();
        for reader in &self.readers {
            for market in engine.markets() {
                let mut levels = Levels::new();
                for side in [Side::Bid, Side::Ask] {
                    let rows = market.book.levels(side);
                    levels.extend(rows.map(|row| ((side.as_str(), row.price), row.count)));
                }
                assert_eq!(reader.books[&market.ticker], levels, "{}", market.ticker);
            }
            assert_eq!(reader.trades, engine.trades().len() - self.trades);
            let told: Vec<&str> =
                reader.actions.iter().filter_map(|one| one["id"].as_str()).collect();
            assert_eq!(told.len(), actions.len(), "each once");
            assert!(told.iter().all(|id| actions.contains(*id)));

            let account = engine.account(reader.account).unwrap();
            assert_eq!(reader.fills.len(), account.fills.len());
            for (told, fill) in reader.fills.iter().zip(&account.fills) {
                assert_eq!(told["trade_id"], fill.trade.to_string());
                assert_eq!(told["order_source"], fill.source.as_str());
                assert_eq!(told["post_position"], json!(fill.position));
            }
            assert_eq!(reader.orders.len(), account.orders.len());
            for order in account.orders.iter().filter_map(|id| engine.order(*id)) {
                let told = &reader.orders[&order.id.to_string()];
                let read = crate::perps::wire::order(engine.view(None), order);
                for field in [
                    "client_order_id",
                    "side",
                    "price",
                    "fill_count",
                    "remaining_count",
                    "order_source",
                ] {
                    assert_eq!(told[field], read[field], "{field}: {told} {read}");
                }
                let reason = told["last_update_reason"].as_str().unwrap_or_default();
                assert_eq!(read["last_update_reason"], reason, "{told} {read}");
            }
        }
    }
}

#[test]
fn the_messages_add_up_to_what_the_engine_and_the_api_have() {
    let mut run = Run::new(setting("KALSHI_SIM_SEED", 3));
    for _ in 0..setting("KALSHI_SIM_COMMANDS", 400) {
        run.step();
        run.compare_tickers();
        run.compare_with_the_engine();
    }
    run.state.perps.engine.audit().unwrap();
    for what in ["placed", "changed", "marked", "paused", "announced", "called off", "listed"] {
        assert!(run.done.contains_key(what), "no {what}: {:?}", run.done);
    }
    let [trader, maker] = &run.readers;
    for kind in ["stock_split", "ticker_change", "final_settlement"] {
        assert!(trader.actions.iter().any(|one| one["type"] == kind), "no {kind}");
    }
    assert!(!maker.fills.is_empty());
    let source = |word: &str| trader.fills.iter().filter(|one| one["order_source"] == word).count();
    assert!(source("user") > 10 && source("system") > 0, "{} {}", source("user"), source("system"));
    let funded = run.state.perps.engine.funding_rates().len();
    assert!(
        funded > 27 + 9,
        "{funded}: those of the start, and three times those of three markets"
    );
}

/// Sends a command, and returns what is answered.
fn answers(session: &mut Session, state: &State, command: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    session.receive(&command.to_string(), state, &mut out);
    out.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect()
}

/// Returns the messages about what has happened since the last call.
fn messages_of(session: &mut Session, state: &mut State) -> Vec<Value> {
    let mut out = Vec::new();
    for event in product::take_events(state) {
        session.publish(&event, state, &mut out);
    }
    out.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect()
}

/// Returns the values that a document of streams lists under a name.
fn listed(document: &str, pointer: &str) -> BTreeSet<String> {
    let document: Value = serde_norway::from_str(document).unwrap();
    let values = document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    serde_json::from_value(values.clone()).unwrap()
}

const PERPS_DOCUMENT: &str = include_str!("../../../../perps_asyncapi.yaml");

#[test]
fn a_channel_of_the_other_product_is_an_unknown_one() {
    let state = new_state();
    let pointer = "/components/schemas/subscribeCommandPayload/properties/params/properties\
                   /channels/items/enum";
    let channels = [include_str!("../../../../asyncapi.yaml"), PERPS_DOCUMENT]
        .map(|document| listed(document, pointer));
    let all: BTreeSet<&String> = channels.iter().flatten().collect();
    assert!(all.len() > channels[0].len(), "each has some of its own");
    for (product, own) in [Product::Events, Product::Perps].into_iter().zip(&channels) {
        for channel in &all {
            let reader = Principal::member(state.first_account);
            let mut session = Session::new(reader, product, StreamFaults::default());
            let params = json!({"channels": [channel]});
            let subscribe = json!({"id": 1, "cmd": "subscribe", "params": params});
            let answer = &answers(&mut session, &state, &subscribe)[0];
            let is_unknown = answer["type"] == "error" && answer["msg"]["code"] == 8;
            assert_eq!(is_unknown, !own.contains(*channel), "{product:?} {answer}");
        }
    }
}

/// Places an order in the first market at a price in thousandths of the mark.
fn place(state: &mut State, key: (AccountId, u8), side: Side, thousandths: i64, contracts: i64) {
    let market = state.perps.engine.market_by_ticker(TICKERS[0]).unwrap();
    let mark = market.settlement_mark.price.as_micros();
    let price = Dollars::from_micros(mark / 1_000 * thousandths).floor_to(market.tick).unwrap();
    let count = Count::from_contracts(contracts).unwrap();
    let new = NewOrder {
        subaccount: key.1,
        ..NewOrder::resting(key.0, TICKERS[0].to_owned(), side, price, count)
    };
    state.perps.engine.place_order(&new, 0, Time::from_millis(START)).unwrap();
}

#[test]
fn what_the_exchange_closes_is_told_as_an_order_and_fills_of_the_system() {
    let mut state = new_state();
    let account = state.first_account;
    let reader = Principal::member(account);
    let mut session = Session::new(reader, Product::Perps, StreamFaults::default());
    let params = json!({"channels": ["fill", "user_orders"]});
    answers(&mut session, &state, &json!({"id": 1, "cmd": "subscribe", "params": params}));
    place(&mut state, (account, 0), Side::Bid, 1_012, 900);
    let bought = messages_of(&mut session, &mut state);
    assert!(bought.iter().all(|message| message["msg"]["order_source"] == "user"), "{bought:?}");
    let mark = state.perps.engine.market_by_ticker(TICKERS[0]).unwrap().settlement_mark.price;
    let lower =
        Some(Dollars::from_micros(mark.as_micros() / 100 * 80).floor_to(Dollars::CENT).unwrap());
    let now = Time::from_millis(START);
    state.perps.engine.set_marks(TICKERS[0], lower, lower, None, now).unwrap();
    let closed = messages_of(&mut session, &mut state);
    let of = |kind: &str| -> Vec<&Value> {
        closed.iter().filter(|one| one["type"] == kind).map(|one| &one["msg"]).collect()
    };
    for (kind, schema) in [("fill", "marginFillPayload"), ("user_order", "marginUserOrderPayload")]
    {
        assert!(!of(kind).is_empty(), "no {kind}: {closed:?}");
        let pointer =
            format!("/components/schemas/{schema}/properties/msg/properties/order_source/enum");
        assert!(listed(PERPS_DOCUMENT, &pointer).contains("system"));
        for message in of(kind) {
            assert_eq!(
                (&message["order_source"], &message["side"]),
                (&json!("system"), &json!("ask"))
            );
        }
    }
    // The exchange's own order has no id of the member.
    assert_eq!(of("user_order")[0]["client_order_id"], "");
}

#[test]
fn a_change_of_the_ticker_is_told_before_anything_names_the_new_one() {
    let mut state = new_state();
    let account = state.first_account;
    let mut session =
        Session::new(Principal::member(account), Product::Perps, StreamFaults::default());
    place(&mut state, (account, 0), Side::Bid, 990, 5);
    product::take_events(&mut state);
    for channel in ["orderbook_delta", "ticker", "user_orders", "corporate_actions"] {
        let params = json!({"channels": [channel], "market_ticker": TICKERS[0]});
        answers(&mut session, &state, &json!({"id": 1, "cmd": "subscribe", "params": params}));
    }
    let now = Time::from_millis(START);
    let terms = Terms::TickerChange { old: TICKERS[0].to_owned(), new: "KXNEWPERP".to_owned() };
    let action = NewAction { ticker: TICKERS[0].to_owned(), terms, at: now };
    state.perps.engine.announce(action, now).unwrap();
    let told = messages_of(&mut session, &mut state);
    let first = &told[0]["msg"]["corporate_action"];
    assert_eq!(told[0]["type"], "corporate_actions_delta", "{told:?}");
    assert_eq!(first["ticker_change"]["new_ticker"], "KXNEWPERP");
    let kinds: BTreeSet<&str> = told.iter().filter_map(|one| one["type"].as_str()).collect();
    for kind in ["orderbook_delta", "ticker", "user_order"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    let names = told[1..].iter().filter_map(|one| {
        let field = if one["type"] == "user_order" { "ticker" } else { "market_ticker" };
        one["msg"][field].as_str()
    });
    assert!(names.into_iter().all(|name| name == "KXNEWPERP"), "{told:?}");
}

#[test]
fn private_channels_carry_what_the_key_may_read_and_nothing_of_others() {
    let mut state = new_state();
    let (first, second) = (state.first_account, state.second_account);
    let now = Time::from_millis(START);
    state.perps.engine.open_subaccount(first).unwrap();
    let half = Dollars::from_dollars(5_000).unwrap();
    state.perps.engine.transfer(first, (0, 1), half, "half", now).unwrap();
    let mut orders = Vec::new();
    for bound in [None, Some(1)] {
        let reader = Principal { bound, ..Principal::member(first) };
        let mut session = Session::new(reader, Product::Perps, StreamFaults::default());
        let params = json!({"channels": ["fill", "user_orders", "order_group_updates"]});
        answers(&mut session, &state, &json!({"id": 1, "cmd": "subscribe", "params": params}));
        orders.push(session);
    }
    for (key, contracts) in [((first, 0), 3), ((first, 1), 4), ((second, 0), 5)] {
        place(&mut state, key, Side::Bid, 1_003, contracts);
    }
    let events = product::take_events(&mut state);
    for (session, subaccounts) in orders.iter_mut().zip([vec![0, 1], vec![1]]) {
        let mut out = Vec::new();
        for event in &events {
            session.publish(event, &state, &mut out);
        }
        let told: Vec<Value> =
            out.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect();
        for (kind, field) in [("fill", "subaccount"), ("user_order", "subaccount_number")] {
            let of_kind = told.iter().filter(|one| one["type"] == kind);
            let numbers: Vec<u64> = of_kind.filter_map(|one| one["msg"][field].as_u64()).collect();
            assert_eq!(numbers, subaccounts, "{kind}: {told:?}");
        }
    }
}
