//! Random days of the clearing house: trades, marks, corporate actions, cash, withdrawals and netting
//! groups. After each of them house and ledger have to agree.

use kalshi_sdk::klear::OperationId;
use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};

use super::tests::Bench;
use crate::{
    engine::{
        ids::{AccountId, ClearingId},
        types::{NewOrder, Side},
    },
    perps::{
        engine::{
            actions::{NewAction, Terms},
            tests::dollars,
        },
        klear::house::{CENTI_CENT, WithdrawalStatus},
    },
    random::Random,
};

/// More steps by `KALSHI_SIM_KLEAR_STEPS`.
#[test]
fn balance_and_margin_are_the_equity_of_the_ledger_through_random_days() {
    let steps = std::env::var("KALSHI_SIM_KLEAR_STEPS").ok().and_then(|text| text.parse().ok());
    for seed in 0..4 {
        let mut days = Days::new(seed);
        for step in 0..steps.unwrap_or(400) {
            days.step();
            let audit = days.bench.state.perps.audit();
            audit.unwrap_or_else(|wrong| panic!("seed {seed}, step {step}: {wrong}"));
        }
        days.check();
    }
}

struct Days {
    bench: Bench,
    random: Random,
    subtraders: Vec<(String, AccountId)>,
    withdrawn: Vec<(AccountId, ClearingId)>,
    /// The number of times that each kind of step was carried out.
    done: [u32; KINDS],
}

const KINDS: usize = 9;

impl Days {
    fn new(seed: u64) -> Self {
        let mut bench = Bench::new();
        let subtraders = bench.subtraders();
        let (random, withdrawn) = (Random::new(seed), Vec::new());
        Self { bench, random, subtraders, withdrawn, done: [0; KINDS] }
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.random.below(most as u64)).expect("an index")
    }

    fn number(&mut self, most: u64) -> i64 {
        i64::try_from(self.random.below(most)).expect("a number")
    }

    fn step(&mut self) {
        // Half of the steps trade.
        let kind = self.below(2 * KINDS).saturating_sub(KINDS);
        let members = [self.bench.first, self.bench.second];
        let member = members[self.below(2)];
        let place = self.below(2 + self.subtraders.len());
        let subtrader = place.checked_sub(2).and_then(|place| self.subtraders.get(place));
        let account = subtrader.map_or(member, |(_, account)| *account);
        let amount = Dollars::from_micros(self.number(300_000_000));
        let now = self.bench.now;
        let is_done = match kind {
            0 => self.trade(account),
            1 => self.mark(),
            2 => self.bench.state.perps.engine.deposit(account, amount, now).is_ok(),
            3 => self.bench.state.perps.engine.withdraw(account, amount, now).is_ok(),
            4 => self.withdraw(member, amount),
            5 => self.fail_withdrawal(),
            6 => self.act(),
            7 => self.regroup(),
            _ => {
                let millis = self.number(90_000_000) + 1_000;
                self.bench.pass(millis);
                true
            }
        };
        self.done[kind] += u32::from(is_done);
    }

    fn trade(&mut self, account: AccountId) -> bool {
        let market = &self.bench.state.perps.engine.markets()[3];
        let (ticker, mark) = (market.ticker.clone(), market.settlement_mark.price);
        let side = if self.below(2) == 0 { Side::Bid } else { Side::Ask };
        let parts = self.number(41) + 980;
        let price = Dollars::from_micros(mark.as_micros() / 1_000 * parts);
        let price = price.floor_to(Dollars::CENT).unwrap_or(Dollars::CENT);
        let count = Count::from_contracts(self.number(30) + 1).expect("a count");
        let order = NewOrder::resting(account, ticker, side, price, count);
        self.bench.state.perps.engine.place_order(&order, 0, self.bench.now).is_ok()
    }

    fn mark(&mut self) -> bool {
        let market = &self.bench.state.perps.engine.markets()[3];
        let (ticker, mark) = (market.ticker.clone(), market.settlement_mark.price);
        let mark = Dollars::from_micros(mark.as_micros() / 1_000 * (self.number(201) + 900));
        let mark = mark.floor_to(CENTI_CENT);
        let liquidation = if self.below(3) == 0 { None } else { mark };
        let now = self.bench.now;
        self.bench.state.perps.engine.set_marks(&ticker, mark, liquidation, None, now).is_ok()
    }

    fn withdraw(&mut self, member: AccountId, amount: Dollars) -> bool {
        let (perps, now) = (&mut self.bench.state.perps, self.bench.now);
        let amount = amount.floor_to(CENTI_CENT).expect("an amount");
        let ledger = (&mut perps.engine, &perps.firms);
        let id = perps.house.withdraw(ledger, member, amount, now);
        self.withdrawn.extend(id.as_ref().ok().map(|id| (member, *id)));
        id.is_ok()
    }

    fn fail_withdrawal(&mut self) -> bool {
        let Some((member, id)) = self.withdrawn.pop() else { return false };
        let (perps, now) = (&mut self.bench.state.perps, self.bench.now);
        let ledger = (&mut perps.engine, &perps.firms);
        let status = WithdrawalStatus::Failed;
        let is_open = perps.house.return_withdrawal(ledger, id, status, now).is_ok();
        let found = perps.house.withdrawal(member, id).expect("it is known");
        assert_eq!(found.status == WithdrawalStatus::Failed, is_open);
        is_open
    }

    fn act(&mut self) -> bool {
        let engine = &mut self.bench.state.perps.engine;
        let ticker = engine.markets()[3].ticker.clone();
        let ex_date = self.bench.now.to_datetime().expect("a time").date_naive();
        let terms = match self.random.below(3) {
            0 => Terms::CashDividend { per_contract: dollars("0.0301"), ex_date },
            1 => Terms::Split { old: 2, new: 3, ex_date },
            _ => Terms::Split { old: 3, new: 2, ex_date },
        };
        let new = NewAction { ticker, terms, at: self.bench.now };
        engine.announce(new, self.bench.now).is_ok()
    }

    /// Makes a group of some subtraders, or ends the one that there is.
    fn regroup(&mut self) -> bool {
        let (first, none) = (self.bench.first, Value::Null);
        let groups = self.bench.ask(OperationId::GetMarginSubtraderGroups, "");
        if let Some(id) = groups["groups"][0]["group_id"].as_str() {
            let delete = OperationId::DeleteMarginSubtraderGroup;
            return self.bench.ask_as(first, delete, &[id], "", none).0 == 200;
        }
        let random = &mut self.random;
        let chosen = self.subtraders.iter().filter(|_| random.below(2) == 0);
        let chosen: Vec<Value> = chosen.map(|(id, _)| json!(id)).collect();
        let create = OperationId::CreateMarginSubtraderGroup;
        let body = json!({"subtrader_ids": chosen});
        self.bench.ask_as(first, create, &[], "", body).0 == 200
    }

    /// Checks that everything was done, and that each obligation is the sum of its parts.
    fn check(mut self) {
        assert!(self.done.iter().all(|count| *count > 0), "{:?}", self.done);
        self.bench.ask(OperationId::GetSettlementEstimateByAssetClass, "");
        self.bench.ask(OperationId::GetFundingEstimateByAssetClass, "");
        let obligations = self.bench.obligations(self.bench.first);
        assert!(obligations.len() > 4, "{}", obligations.len());
        for row in obligations {
            let sum = |list: &str, name: &str| -> i64 {
                let rows = row[list].as_array().expect("rows").iter();
                rows.map(|row| row[name].as_i64().expect("a number")).sum()
            };
            let amount = sum("settlement_details", "total_amount_centicents")
                + sum("funding_payments", "funding_amount_centicents")
                - sum("maintenance_margin_details", "maintenance_margin_delta_centicents");
            assert_eq!(row["amount_centicents"], amount, "{row}");
        }
    }
}
