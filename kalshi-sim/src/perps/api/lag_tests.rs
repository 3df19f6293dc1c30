//! Reads that trail, compared with what reads without lag said at the time: the plainest model
//! there is.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate};
use kalshi_sdk::perps::{OperationId, server::dispatch};
use kalshi_types::Dollars;
use serde_json::{Value, json};

use crate::{
    engine::{ids::AccountId, principal::Principal, types::Time},
    http::{query::Query, request::Call, response::Response},
    lag::Lag,
    perps::engine::{
        actions::{NewAction, Terms},
        funding::next_funding,
    },
    random::Random,
    state::{Start, State},
};

const START: i64 = 1_790_000_000_000;

type Reads = Vec<(OperationId, Value)>;

fn call_at<'a>(
    account: AccountId,
    path: &'a [String],
    query: &'a Query,
    body: &'a Value,
    now: i64,
) -> Call<'a> {
    Call {
        caller: Some(Principal::member(account)),
        subtrader: None,
        path,
        query,
        body,
        now: DateTime::from_timestamp_millis(now).unwrap(),
        pair: None,
    }
}

fn ask(
    state: &mut State,
    account: AccountId,
    operation: OperationId,
    path: &[String],
    query: &str,
    body: &Value,
    now: i64,
) -> Response {
    let query = Query::new(serde_urlencoded::from_str(query).unwrap());
    let call = call_at(account, path, &query, body, now);
    state.advance(call.time());
    dispatch(operation, state, &call).unwrap_or_else(|refused| refused)
}

/// Returns everything that a member can read of their account.
fn reads(state: &mut State, account: AccountId, now: i64) -> Reads {
    let read = |(operation, query)| {
        let answer = ask(state, account, operation, &[], query, &Value::Null, now);
        assert_eq!(answer.status, 200, "{operation:?} {answer:?}");
        (operation, answer.body.unwrap())
    };
    [
        (OperationId::GetMarginBalance, "compute_available_balance=true"),
        (OperationId::GetMarginOrders, ""),
        (OperationId::GetMarginOrders, "status=resting&subaccount=1"),
        (OperationId::GetMarginFills, "limit=1000"),
        (OperationId::GetMarginPositions, ""),
        (OperationId::GetMarginRisk, ""),
        (OperationId::GetMarginNotionalRiskLimit, ""),
        (OperationId::GetMarginFundingHistory, "start_date=2026-09-01&end_date=2026-12-31"),
    ]
    .into_iter()
    .map(read)
    .collect()
}

/// Two exchanges that are asked the same; the reads of one trail.
struct Twins {
    plain: State,
    lagged: State,
    random: Random,
    now: i64,
    ids: u64,
    members: [AccountId; 2],
    /// The answers to the reads of both members at the end of each moment.
    truth: BTreeMap<i64, [Reads; 2]>,
    /// The reads that have said something else than they would have said without lag.
    trailed: Vec<OperationId>,
    orders: Vec<(AccountId, String, String)>,
    /// The orders that were looked for before and after they could be read.
    looked: u32,
}

impl Twins {
    fn new(seed: u64, lag: Lag) -> Self {
        let at = DateTime::from_timestamp_millis(START).unwrap();
        let start = Start { strikes: 1, ..Start::new(seed, at) };
        let (mut plain, mut lagged) = (State::new(start), State::new(start));
        lagged.advance(Time::from_millis(START));
        lagged.set_lag(lag);
        let members = [plain.first_account, plain.second_account];
        // What was there before the lag was set is readable from the start.
        let said = members.map(|account| reads(&mut plain, account, START));
        let mut twins = Self {
            plain,
            lagged,
            random: Random::new(seed),
            now: START,
            ids: 0,
            members,
            truth: BTreeMap::from([(START - 1, said)]),
            trailed: Vec::new(),
            orders: Vec::new(),
            looked: 0,
        };
        for account in members {
            twins.both(account, OperationId::CreateMarginSubaccount, &[], &json!({}));
        }
        twins.record(START);
        twins
    }

    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.random.below(bound)).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let place = self.random.below(u64::try_from(from.len()).unwrap());
        from.get(usize::try_from(place).unwrap()).cloned()
    }

    /// Lets both carry out the same, which must answer the same: writes do not trail.
    fn both(
        &mut self,
        account: AccountId,
        operation: OperationId,
        path: &[String],
        body: &Value,
    ) -> Response {
        let now = self.now;
        let plain = ask(&mut self.plain, account, operation, path, "", body, now);
        let lagged = ask(&mut self.lagged, account, operation, path, "", body, now);
        assert_eq!(plain, lagged, "{operation:?} {body}");
        plain
    }

    fn record(&mut self, at: i64) {
        let said = self.members.map(|account| reads(&mut self.plain, account, at));
        if self.truth.last_key_value().is_none_or(|(_, last)| *last != said) {
            self.truth.insert(at, said);
        }
    }

    /// Lets time pass, and records what each thing that falls due does.
    fn pass(&mut self, millis: i64) {
        let now = self.now + millis;
        loop {
            let engine = &self.plain.perps.engine;
            let at = engine.now().as_millis();
            let due = engine.next_due().map_or(i64::MAX, Time::as_millis).max(at);
            if due > now {
                break;
            }
            self.plain.advance(Time::from_millis(due));
            self.record(due);
        }
        self.now = now;
        self.plain.advance(Time::from_millis(now));
        self.lagged.advance(Time::from_millis(now));
    }

    /// Returns a market that has not been closed: its ticker, and its mark in micro-dollars.
    fn market(&mut self) -> (String, i64) {
        let markets = self.plain.perps.engine.markets().iter();
        let open: Vec<(String, i64)> = markets
            .filter(|market| !market.closed)
            .map(|market| (market.ticker.clone(), market.settlement_mark.price.as_micros()))
            .collect();
        self.pick(&open).unwrap()
    }

    /// Returns a price of up to a percent around a mark, on any of the grids.
    fn price(&mut self, mark: i64) -> Dollars {
        Dollars::from_micros(mark / 10_000 * (9_900 + self.below(201)) / 10_000 * 10_000)
    }

    /// Changes something that members read.
    fn act(&mut self) {
        let account = self.pick(&self.members.clone()).unwrap();
        let (ticker, mark) = self.market();
        let at = Time::from_millis(self.now);
        match self.below(24) {
            0..10 => {
                self.ids += 1;
                let waits = self.below(4) > 0;
                let force = if waits { "good_till_canceled" } else { "immediate_or_cancel" };
                let body = json!({
                    "ticker": ticker,
                    "client_order_id": self.ids.to_string(),
                    "side": if self.below(2) == 0 { "bid" } else { "ask" },
                    "count": (self.below(400) + 1).to_string(),
                    "price": self.price(mark),
                    "time_in_force": force,
                    "self_trade_prevention_type": "maker",
                    "subaccount": i64::from(self.below(5) == 0),
                });
                let placed = self.both(account, OperationId::CreateMarginOrder, &[], &body);
                if placed.status == 201 {
                    let id = placed.body.unwrap()["order_id"].as_str().unwrap().to_owned();
                    let side = body["side"].as_str().unwrap().to_owned();
                    self.orders.push((account, id, side));
                }
            }
            10..14 => {
                let recent: Vec<_> = self.orders.iter().rev().take(12).cloned().collect();
                let Some((account, id, side)) = self.pick(&recent) else { return };
                let (operation, body) = match self.below(3) {
                    0 => (OperationId::CancelMarginOrder, Value::Null),
                    1 => (OperationId::DecreaseMarginOrder, json!({"reduce_by": "1"})),
                    _ => {
                        let price = self.price(mark);
                        let body = json!({"side": side, "price": price, "count": "20"});
                        (OperationId::AmendMarginOrder, body)
                    }
                };
                self.both(account, operation, &[id], &body);
            }
            14 => {
                self.both(account, OperationId::CancelAllMarginOrders, &[], &Value::Null);
            }
            15 => {
                self.ids += 1;
                let body = json!({
                    "client_transfer_id": self.ids.to_string(),
                    "from_subaccount": 0, "to_subaccount": 1, "amount_cents": 50_000,
                });
                self.both(account, OperationId::ApplyMarginSubaccountTransfer, &[], &body);
            }
            16..20 => {
                // Now and then far enough for a liquidation.
                let parts = match self.below(6) {
                    0 => 5_000,
                    1 => 15_000,
                    _ => 9_900 + self.below(201),
                };
                let price = Dollars::from_micros(mark.max(20_000_000) / 1_000_000 * parts * 100);
                let (settlement, liquidation) = match self.below(3) {
                    0 => (Some(price), None),
                    1 => (None, Some(price)),
                    _ => (Some(price), Some(price)),
                };
                for state in [&mut self.plain, &mut self.lagged] {
                    let engine = &mut state.perps.engine;
                    engine.set_marks(&ticker, settlement, liquidation, None, at).unwrap();
                }
            }
            20 => {
                let ex_date = NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
                let per_contract = Dollars::from_micros(1_500_000);
                self.ids += 1;
                let new = format!("KXNEW{}PERP", self.ids);
                let terms = match self.below(4) {
                    0 => Terms::Split { old: 2, new: 3, ex_date },
                    1 => Terms::TickerChange { old: ticker.clone(), new },
                    _ => Terms::CashDividend { per_contract, ex_date },
                };
                for state in [&mut self.plain, &mut self.lagged] {
                    let action = NewAction { ticker: ticker.clone(), terms: terms.clone(), at };
                    state.perps.engine.announce(action, at).unwrap();
                }
            }
            21 => {
                let amount = Dollars::from_dollars(70).unwrap();
                for state in [&mut self.plain, &mut self.lagged] {
                    state.perps.engine.deposit(account, amount, at).unwrap();
                }
            }
            _ => {
                for state in [&mut self.plain, &mut self.lagged] {
                    state.perps.run_traders(3, at);
                }
            }
        }
    }

    /// Returns the time up to which the reads of the lagged exchange are complete, as it says.
    fn as_of(&mut self) -> i64 {
        let (query, path) = (Query::default(), []);
        let call = call_at(self.members[0], &path, &query, &Value::Null, self.now);
        let operation = kalshi_sdk::OperationId::GetUserDataTimestamp;
        let said = kalshi_sdk::server::dispatch(operation, &mut self.lagged, &call).unwrap();
        let said: DateTime<chrono::Utc> =
            serde_json::from_value(said.body.unwrap()["as_of_time"].clone()).unwrap();
        said.timestamp_millis()
    }

    /// Compares what the members of the lagged exchange read with what the others read then.
    fn compare(&mut self) -> i64 {
        let (now, as_of) = (self.now, self.as_of());
        for (place, account) in self.members.into_iter().enumerate() {
            let read = reads(&mut self.lagged, account, now);
            let (at, then) = self.truth.range(..=as_of).next_back().unwrap();
            for (read, then) in read.iter().zip(&then[place]) {
                assert_eq!(read, then, "at {now}, as of {as_of}, that is {at}");
            }
            let (_, present) = self.truth.last_key_value().unwrap();
            let differ = read.iter().zip(&present[place]).filter(|(read, present)| read != present);
            self.trailed.extend(differ.map(|((operation, _), _)| *operation));
        }
        // Single orders are there exactly if the list has them.
        let orders: Vec<_> = self.orders.iter().rev().take(3).cloned().collect();
        for (account, id, _) in orders {
            let place = usize::from(account == self.members[1]);
            let (_, then) = self.truth.range(..=as_of).next_back().unwrap();
            let listed = then[place][1].1["orders"].as_array().unwrap();
            let listed = listed.iter().find(|order| order["order_id"] == id.as_str());
            let operation = OperationId::GetMarginOrder;
            let read = ask(&mut self.lagged, account, operation, &[id], "", &Value::Null, now);
            match listed {
                Some(order) => assert_eq!(&read.body.unwrap()["order"], order),
                None => assert_eq!(read.status, 404, "{read:?}"),
            }
        }
        as_of
    }
}

#[test]
fn what_is_read_with_lag_is_what_was_read_without_at_that_time() {
    let (steps, mut fills, mut liquidated) = (90, 0, false);
    let mut trailed = Vec::new();
    for (seed, lag) in [(1, "300"), (2, "1"), (3, "1-3000"), (4, "realistic")] {
        let lag: Lag = lag.parse::<Lag>().unwrap().with_seed(seed);
        let mut twins = Twins::new(seed, lag);
        let (mut last, mut moments) = (i64::MIN, 0);
        for _ in 0..steps {
            // Now and then until just after a funding, and long enough for the end of a halt.
            let millis = match twins.below(30) {
                0 => {
                    let next = next_funding(Time::from_millis(twins.now)).unwrap();
                    next.as_millis() - twins.now + twins.below(100)
                }
                1 => 70_000,
                2..8 => 0,
                _ => twins.below(250),
            };
            twins.pass(millis);
            twins.act();
            let at = twins.now;
            twins.record(at);
            let as_of = twins.compare();
            // The first moments are those before the lag was set.
            if as_of >= START {
                assert_eq!(Some(as_of), lag.readable(twins.now));
                assert!(as_of < twins.now);
                moments += 1;
            }
            assert!(as_of >= last, "it went back");
            last = as_of;
        }
        assert!(moments > steps / 2, "{moments}");
        twins.plain.perps.engine.audit().unwrap();
        twins.lagged.perps.engine.audit().unwrap();
        for account in twins.members {
            let account = twins.plain.perps.engine.account(account).unwrap();
            fills += account.fills.len();
            liquidated |= account.fills.iter().any(|fill| fill.source.reason().is_some());
        }
        trailed.append(&mut twins.trailed);
    }
    for operation in [
        OperationId::GetMarginBalance,
        OperationId::GetMarginOrders,
        OperationId::GetMarginFills,
        OperationId::GetMarginPositions,
        OperationId::GetMarginRisk,
        OperationId::GetMarginNotionalRiskLimit,
        OperationId::GetMarginFundingHistory,
    ] {
        assert!(trailed.contains(&operation), "{operation:?} never trailed");
    }
    assert!(fills > 50 && liquidated, "{fills} fills");
}

#[test]
fn the_lag_can_change_and_what_has_been_read_stays_readable() {
    let lag = |text: &str| text.parse::<Lag>().unwrap();
    let mut twins = Twins::new(9, Lag::none());
    for round in 0..36 {
        for _ in 0..3 {
            let millis = twins.below(120);
            twins.pass(millis);
            twins.act();
            let at = twins.now;
            twins.record(at);
        }
        let ([first, _], now) = (twins.members, twins.now);
        let before = reads(&mut twins.lagged, first, now);
        let next = ["300", "none", "100", "1000", "realistic", "50"][round % 6];
        twins.lagged.set_lag(lag(next));
        let after = reads(&mut twins.lagged, first, now);
        if next == "none" {
            assert_eq!(after, reads(&mut twins.plain, first, now));
            continue;
        }
        // A shorter lag shows more at once, a longer one nothing less.
        assert!(matches!(next, "realistic" | "50") || after == before, "{round}: {next}");
        // What comes in the same millisecond is not readable.
        twins.ids += 1;
        let (ticker, mark) = twins.market();
        let body = json!({
            "ticker": ticker, "client_order_id": twins.ids.to_string(), "side": "bid",
            "count": "1", "price": Dollars::from_micros(mark / 10_000 * 9_900 / 10_000 * 10_000),
            "time_in_force": "good_till_canceled", "self_trade_prevention_type": "maker",
        });
        let placed = twins.both(first, OperationId::CreateMarginOrder, &[], &body);
        // A market may be halted, and a price too far from the book.
        let Some(id) = placed.body.and_then(|body| body["order_id"].as_str().map(str::to_owned))
        else {
            continue;
        };
        let operation = OperationId::GetMarginOrder;
        for (millis, status) in [(0, 404), (1_000, 200)] {
            twins.pass(millis);
            let (now, path) = (twins.now, [id.clone()]);
            let read = ask(&mut twins.lagged, first, operation, &path, "", &Value::Null, now);
            assert_eq!(read.status, status, "{round}: {next}");
        }
        twins.looked += 1;
        let at = twins.now;
        twins.record(at);
    }
    assert!(twins.looked > 10, "{}", twins.looked);
}
