//! Reads that trail, compared with what reads without lag said at the time: the plainest model
//! there is.

use std::collections::BTreeMap;

use chrono::DateTime;
use kalshi_sdk::{OperationId, server::dispatch};
use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};

use crate::{
    engine::{
        Cutoffs,
        ids::AccountId,
        principal::Principal,
        types::{MarketResult, MarketStatus, NewOrder, Shard, Side, Time},
    },
    http::{query::Query, request::Call, response::Response},
    lag::Lag,
    random::Random,
    state::{Start, State},
};

const START: i64 = 1_790_000_000_000;
/// Orders and trades of the first milliseconds count as those of the archive.
const ARCHIVED: i64 = 5_000;

fn member(account: AccountId, fcm_member: bool) -> Principal {
    Principal { account, bound: None, fcm_member }
}

/// Returns the ids of a member's subtraders.
fn subtraders(state: &State, account: AccountId) -> Vec<String> {
    let firm = state.fixtures.fcm.known(member(account, true)).unwrap();
    firm.subtraders().map(|(id, _)| id.to_owned()).collect()
}

fn ask(
    state: &mut State,
    account: AccountId,
    operation: OperationId,
    path: &[String],
    query: &[(&str, &str)],
    body: &Value,
    now: i64,
) -> Response {
    let pairs = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let call = Call {
        caller: Some(member(account, operation.operation().tag == "fcm")),
        subtrader: None,
        path,
        query: &Query::new(pairs),
        body,
        now: DateTime::from_timestamp_millis(now).unwrap(),
        pair: None,
    };
    state.advance(call.time());
    dispatch(operation, state, &call).unwrap_or_else(|refused| refused)
}

/// Returns everything that a member can read of their account.
fn reads(state: &mut State, account: AccountId, now: i64) -> Vec<(OperationId, Value)> {
    let (most, newest) = (("limit", "1000"), ("limit", "20"));
    let mut found = Vec::new();
    let own = subtraders(state, account);
    let of_subtraders = own.iter().flat_map(|id| {
        let named = ("subtrader_id", id.as_str());
        [
            (OperationId::GetFcmOrders, vec![newest, named]),
            (OperationId::GetFcmOrders, vec![newest, named, ("status", "resting")]),
            (OperationId::GetFcmPositions, vec![most, named]),
        ]
    });
    let of_accounts = [
        (OperationId::GetBalance, vec![]),
        (OperationId::GetBalance, vec![("subaccount", "1")]),
        (OperationId::GetOrders, vec![most]),
        (OperationId::GetOrders, vec![most, ("status", "resting")]),
        (OperationId::GetFills, vec![most]),
        (OperationId::GetPositions, vec![most, ("settlement_status", "all")]),
        (OperationId::GetPositions, vec![most, ("subaccount", "1")]),
        (OperationId::GetSettlements, vec![most]),
        (OperationId::GetDeposits, vec![]),
        (OperationId::GetSubaccountBalances, vec![]),
        (OperationId::GetHistoricalOrders, vec![newest]),
        (OperationId::GetFillsHistorical, vec![newest]),
        (OperationId::GetHistoricalPositions, vec![newest]),
        (OperationId::GetFcmFills, vec![]),
    ];
    for (operation, query) in of_accounts.into_iter().chain(of_subtraders) {
        let answer = ask(state, account, operation, &[], &query, &Value::Null, now);
        assert_eq!(answer.status, 200, "{operation:?} {answer:?}");
        found.push((operation, answer.body.unwrap()));
    }
    found
}

/// Two exchanges that are asked the same; the reads of one trail.
struct Twins {
    plain: State,
    lagged: State,
    random: Random,
    now: i64,
    members: [AccountId; 2],
    /// The answers to the reads of both members at the end of each moment.
    truth: BTreeMap<i64, [Vec<(OperationId, Value)>; 2]>,
    /// The reads that have said something else than they would have said without lag.
    trailed: Vec<OperationId>,
    orders: Vec<(AccountId, String, String, String)>,
}

impl Twins {
    fn new(seed: u64, lag: Lag) -> Self {
        let start = Start {
            strikes: 1,
            traders: 2,
            ..Start::new(seed, DateTime::from_timestamp_millis(START).unwrap())
        };
        let mut plain = State::new(start);
        let mut lagged = State::new(start);
        lagged.advance(Time::from_millis(START));
        lagged.set_lag(lag);
        // So that the reads of the archive have rows that are as young as those of the live tier.
        for state in [&mut plain, &mut lagged] {
            let recent = Time::from_millis(START + ARCHIVED);
            let cutoffs = state.engine.cutoffs();
            state.engine.set_cutoffs(Cutoffs { trades: recent, orders: recent, ..cutoffs });
        }
        let members = [plain.first_account, plain.second_account];
        let (random, truth) = (Random::new(seed), BTreeMap::new());
        let (trailed, orders) = (Vec::new(), Vec::new());
        let mut twins = Self { plain, lagged, random, now: START, members, truth, trailed, orders };
        // What was there before the lag was set is readable from the start.
        let said = members.map(|account| reads(&mut twins.plain, account, START));
        twins.truth.insert(START - 1, said);
        for account in members {
            for _ in 0..2 {
                twins.both(account, OperationId::CreateSubaccount, &[], &json!({}));
            }
        }
        twins.record(START);
        twins
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
        let plain = ask(&mut self.plain, account, operation, path, &[], body, now);
        let lagged = ask(&mut self.lagged, account, operation, path, &[], body, now);
        assert_eq!(plain, lagged, "{operation:?} {body}");
        plain
    }

    fn record(&mut self, at: i64) {
        let [first, second] = self.members;
        let said = [reads(&mut self.plain, first, at), reads(&mut self.plain, second, at)];
        if self.truth.last_key_value().is_none_or(|(_, last)| *last != said) {
            self.truth.insert(at, said);
        }
    }

    /// Lets time pass, and records what each thing that falls due does.
    fn pass(&mut self, millis: i64) {
        let now = self.now + millis;
        loop {
            let at = self.plain.engine.now().as_millis();
            let due = self.plain.engine.next_due().map_or(i64::MAX, Time::as_millis).max(at);
            // Cash is spread over the shards at every full ten seconds.
            let tick = (at / 10_000 + 1) * 10_000;
            let next = due.min(tick);
            if next > now {
                break;
            }
            self.plain.advance(Time::from_millis(next));
            self.record(next);
        }
        self.now = now;
        self.plain.advance(Time::from_millis(now));
        self.lagged.advance(Time::from_millis(now));
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let place = self.random.below(u64::try_from(from.len()).unwrap());
        from.get(usize::try_from(place).unwrap()).cloned()
    }

    /// Pays seven dollars to both.
    fn pay(&mut self, account: AccountId, shard: Shard) {
        let at = Time::from_millis(self.now);
        for state in [&mut self.plain, &mut self.lagged] {
            let amount = Dollars::from_dollars(7).unwrap();
            state.engine.ledger.deposit(account, 0, shard, amount, at).unwrap();
        }
    }

    /// Lets a subtrader of the first member's firm send an order, which trades or rests.
    fn subtrade(&mut self, ticker: &str) {
        let [firm, _] = self.members;
        let ids = subtraders(&self.plain, firm);
        let Some(id) = self.pick(&ids) else { return };
        let side = if self.random.below(2) == 0 { Side::Bid } else { Side::Ask };
        let cents = 30 + i64::try_from(self.random.below(40)).unwrap();
        let price = Dollars::from_micros(10_000 * cents);
        let new = NewOrder::resting(firm, ticker.to_owned(), side, price, Count::ONE);
        let at = Time::from_millis(self.now);
        for state in [&mut self.plain, &mut self.lagged] {
            let State { engine, fixtures, catalog, .. } = state;
            let firm = fixtures.fcm.known(member(firm, true)).unwrap();
            // Beyond its cap it is refused, by both alike.
            let _ = firm.place(&id, &new, &catalog.series, engine, at);
        }
    }

    /// Changes something that members read.
    fn act(&mut self) {
        let account = self.pick(&self.members.clone()).unwrap();
        let open: Vec<String> = self
            .plain
            .engine
            .markets()
            .iter()
            .filter(|market| market.status == MarketStatus::Active && market.shard == 0)
            .take(2)
            .map(|market| market.ticker.clone())
            .collect();
        let Some(ticker) = self.pick(&open) else { return };
        let count = (1 + self.random.below(9)).to_string();
        let subaccount = self.random.below(2);
        match self.random.below(23) {
            0..9 => {
                let side = if self.random.below(2) == 0 { "bid" } else { "ask" };
                let price = format!("0.{:02}", 30 + self.random.below(40));
                let force = ["good_till_canceled", "immediate_or_cancel"];
                let force = force[usize::try_from(self.random.below(2)).unwrap()];
                let body = json!({
                    "ticker": ticker, "side": side, "count": count, "price": price,
                    "time_in_force": force, "self_trade_prevention_type": "maker",
                    "subaccount": subaccount,
                });
                let placed = self.both(account, OperationId::CreateOrderV2, &[], &body);
                if placed.status == 201 && subaccount == 0 {
                    let body = placed.body.unwrap();
                    let id = body["order_id"].as_str().unwrap().to_owned();
                    self.orders.push((account, id, ticker, side.to_owned()));
                }
            }
            9..13 => {
                let recent: Vec<_> = self.orders.iter().rev().take(12).cloned().collect();
                let Some((account, id, ticker, side)) = self.pick(&recent) else { return };
                let price = format!("0.{:02}", 30 + self.random.below(40));
                let (operation, body) = match self.random.below(3) {
                    0 => (OperationId::CancelOrderV2, Value::Null),
                    1 => (OperationId::DecreaseOrderV2, json!({"reduce_by": "1"})),
                    _ => {
                        let body = json!({
                            "ticker": ticker, "side": side, "price": price, "count": count,
                        });
                        (OperationId::AmendOrderV2, body)
                    }
                };
                self.both(account, operation, &[id], &body);
            }
            13 => {
                self.both(account, OperationId::CancelAllOrders, &[], &Value::Null);
            }
            14 => {
                let number = self.random.next();
                let body = json!({
                    "client_transfer_id": format!("00000000-0000-4000-8000-{:012x}", number >> 16),
                    "from_subaccount": 0, "to_subaccount": 1, "amount_cents": 500,
                });
                self.both(account, OperationId::ApplySubaccountTransfer, &[], &body);
            }
            15 => {
                let enabled = self.random.below(2) == 0;
                let body = json!({"subaccount_number": subaccount, "enabled": enabled});
                self.both(account, OperationId::UpdateSubaccountNetting, &[], &body);
            }
            16 => self.pay(account, 0),
            17 if self.random.below(4) == 0 => {
                let at = Time::from_millis(self.now);
                for state in [&mut self.plain, &mut self.lagged] {
                    let market = state.engine.market_by_ticker(&ticker).unwrap().id;
                    state.engine.determine(market, MarketResult::Yes, at).unwrap();
                }
            }
            18 => {
                let share = i64::try_from(self.random.below(101)).unwrap();
                let body = json!({"allocations": [
                    {"exchange_index": 0, "percent": share},
                    {"exchange_index": 1, "percent": 100 - share},
                ]});
                self.both(account, OperationId::SetTargetBalanceAllocation, &[], &body);
            }
            20.. => self.subtrade(&ticker),
            _ => {
                let at = Time::from_millis(self.now);
                for state in [&mut self.plain, &mut self.lagged] {
                    state.run_traders(3, at);
                }
            }
        }
    }

    /// Compares what the members of the lagged exchange read with what the others read then.
    fn compare(&mut self) -> i64 {
        let [first, second] = self.members;
        let now = self.now;
        let operation = OperationId::GetUserDataTimestamp;
        let said = ask(&mut self.lagged, first, operation, &[], &[], &Value::Null, now);
        let said: DateTime<chrono::Utc> =
            serde_json::from_value(said.body.unwrap()["as_of_time"].clone()).unwrap();
        let as_of = said.timestamp_millis();
        let (at, then) = self.truth.range(..=as_of).next_back().unwrap();
        for (account, then) in [first, second].into_iter().zip(then) {
            let read = reads(&mut self.lagged, account, now);
            assert_eq!(read.len(), then.len());
            for (read, then) in read.iter().zip(then) {
                assert_eq!(read, then, "at {now}, as of {as_of}, that is {at}");
            }
            let place = self.members.iter().position(|member| *member == account).unwrap();
            let (_, present) = self.truth.last_key_value().unwrap();
            let differ = read.iter().zip(&present[place]).filter(|(read, present)| read != present);
            self.trailed.extend(differ.map(|((operation, _), _)| *operation));
        }
        // Single orders are there exactly if the list has them.
        let orders: Vec<_> = self.orders.iter().rev().take(3).cloned().collect();
        for (account, id, ..) in orders {
            let place = self.members.iter().position(|member| *member == account).unwrap();
            let (_, then) = self.truth.range(..=as_of).next_back().unwrap();
            let listed = then[place][2].1["orders"].as_array().unwrap();
            let listed = listed.iter().find(|order| order["order_id"] == id.as_str());
            let path = [id];
            let operation = OperationId::GetOrder;
            let read = ask(&mut self.lagged, account, operation, &path, &[], &Value::Null, now);
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
    let (steps, mut fills, mut settlements) = (90, 0, 0);
    let mut trailed = Vec::new();
    for (seed, lag) in [(1, "300"), (2, "1"), (3, "200-400"), (4, "1-3000"), (5, "realistic")] {
        let lag: Lag = lag.parse::<Lag>().unwrap().with_seed(seed);
        let mut twins = Twins::new(seed, lag);
        let (mut last, mut moments) = (i64::MIN, 0);
        for _ in 0..steps {
            // Now and then long enough for a settlement.
            let millis = match twins.random.below(40) {
                0 => 2_000_000,
                1..10 => 0,
                _ => twins.random.below(250),
            };
            twins.pass(i64::try_from(millis).unwrap());
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
        let [first, second] = twins.members;
        for account in [first, second] {
            let account = twins.plain.engine.ledger.account(account).unwrap();
            fills += account.fills.len();
            settlements += account.settlements.len();
        }
        twins.plain.engine.audit().unwrap();
        twins.lagged.engine.audit().unwrap();
        trailed.append(&mut twins.trailed);
    }
    for operation in [
        OperationId::GetBalance,
        OperationId::GetOrders,
        OperationId::GetFills,
        OperationId::GetPositions,
        OperationId::GetHistoricalOrders,
        OperationId::GetFillsHistorical,
        OperationId::GetFcmOrders,
        OperationId::GetFcmPositions,
        OperationId::GetFcmFills,
    ] {
        assert!(trailed.contains(&operation), "{operation:?} never trailed");
    }
    assert!(fills > 50 && settlements > 3, "{fills} fills, {settlements} settlements");
}

#[test]
fn the_lag_can_change_and_what_has_been_read_stays_readable() {
    let lag = |text: &str| text.parse::<Lag>().unwrap();
    let mut twins = Twins::new(9, Lag::none());
    for round in 0..60 {
        for _ in 0..4 {
            let millis = i64::try_from(twins.random.below(120)).unwrap();
            twins.pass(millis);
            twins.act();
            let at = twins.now;
            twins.record(at);
        }
        let [first, _] = twins.members;
        let now = twins.now;
        let before = reads(&mut twins.lagged, first, now);
        let next = ["300", "none", "100", "1000", "realistic", "50"][round % 6];
        twins.lagged.set_lag(lag(next));
        let after = reads(&mut twins.lagged, first, now);
        if next == "none" {
            assert_eq!(after, reads(&mut twins.plain, first, now));
        } else {
            let shorter = matches!(next, "realistic" | "50");
            // A shorter lag shows more at once, a longer one nothing less.
            assert!(shorter || after == before, "{round}: {next}");
            // What comes in the same millisecond is not readable.
            let open = |market: &&crate::engine::Market| market.status == MarketStatus::Active;
            let market = twins.plain.engine.markets().iter().find(open).unwrap();
            let (ticker, shard) = (market.ticker.clone(), market.shard);
            let body = json!({
                "ticker": ticker, "side": "bid", "count": "1", "price": "0.01",
                "time_in_force": "good_till_canceled", "self_trade_prevention_type": "maker",
            });
            // Targets may have moved all cash to another shard.
            twins.pay(first, shard);
            let placed = twins.both(first, OperationId::CreateOrderV2, &[], &body);
            assert_eq!(placed.status, 201, "{placed:?}");
            let path = [placed.body.unwrap()["order_id"].as_str().unwrap().to_owned()];
            let operation = OperationId::GetOrder;
            for (millis, status) in [(0, 404), (1_000, 200)] {
                twins.pass(millis);
                let now = twins.now;
                let read = ask(&mut twins.lagged, first, operation, &path, &[], &Value::Null, now);
                assert_eq!(read.status, status, "{round}: {next}");
            }
            let at = twins.now;
            twins.record(at);
        }
    }
}
