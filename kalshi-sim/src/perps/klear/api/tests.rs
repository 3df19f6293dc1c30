//! The clearing house with numbers that a person can add up. Each answer is validated against the
//! published document, and house and ledger are audited after each step.

use chrono::{DateTime, Utc};
use kalshi_sdk::klear::{OperationId, server::dispatch};
use kalshi_types::Dollars;
use serde_json::{Value, json};

use crate::{
    contract::Contract,
    engine::{
        ids::AccountId,
        principal::Principal,
        types::{NewOrder, Side, Time},
    },
    http::{query::Query, request::Call},
    perps::engine::{
        actions::{NewAction, Terms},
        tests::{START, TICKER, coin, count, dollars},
    },
    state::{Start, State},
};

const DAY_MILLIS: i64 = 86_400_000;
const FIRM_SUBTRADERS: [&str; 3] = ["one", "two", "three"];

/// An exchange, and members that ask its clearing house.
pub(super) struct Bench {
    pub(super) state: State,
    contract: Contract,
    pub(super) now: Time,
    pub(super) first: AccountId,
    pub(super) second: AccountId,
}

impl Bench {
    /// Starts an exchange with a market in which a contract is worth 50 dollars, on 21 September.
    pub(super) fn new() -> Self {
        let at: DateTime<Utc> = START.to_datetime().expect("a time");
        let mut state = State::new(Start::new(7, at));
        state.perps.engine.add_market(coin(TICKER), START).expect("it is listed");
        let (first, second) = (state.first_account, state.second_account);
        Self { state, contract: Contract::of_klear(), now: START, first, second }
    }

    /// Asks as a member, and validates the answer.
    pub(super) fn ask_as(
        &mut self,
        account: AccountId,
        id: OperationId,
        path: &[&str],
        query: &str,
        body: impl Into<Value>,
    ) -> (u16, Value) {
        let (body, path) = (body.into(), path.iter().map(|part| (*part).to_owned()));
        let path: Vec<String> = path.collect();
        let query = Query::new(serde_urlencoded::from_str(query).expect("a query"));
        let caller = Principal { fcm_member: true, ..Principal::member(account) };
        let call = Call {
            caller: Some(caller),
            subtrader: None,
            path: &path,
            query: &query,
            body: &body,
            now: self.now.to_datetime().expect("a time"),
            pair: None,
        };
        self.state.advance(self.now);
        let answer = dispatch(id, &mut self.state, &call);
        let response = answer.unwrap_or_else(|refusal| refusal).without_frame();
        self.contract
            .check(id.operation(), response.status, response.body.as_ref())
            .unwrap_or_else(|difference| panic!("{id:?}: {difference}"));
        self.audit();
        (response.status, response.body.unwrap_or_default())
    }

    pub(super) fn ask(&mut self, id: OperationId, query: &str) -> Value {
        let (status, body) = self.ask_as(self.first, id, &[], query, Value::Null);
        assert_eq!(status, 200, "{id:?} {body}");
        body
    }

    fn audit(&self) {
        self.state.perps.audit().unwrap();
    }

    /// Trades contracts at a price: the first buys from the second.
    fn trade(&mut self, buyer: AccountId, seller: AccountId, price: &str, contracts: i64) {
        for (account, side) in [(seller, Side::Ask), (buyer, Side::Bid)] {
            let (price, count) = (dollars(price), count(contracts));
            let order = NewOrder::resting(account, TICKER.to_owned(), side, price, count);
            self.state.perps.engine.place_order(&order, 0, self.now).expect("it is taken");
        }
        self.audit();
    }

    /// Sets the settlement mark, and the price of the underlying so that there is no premium.
    fn mark(&mut self, price: i64) {
        let mark = Dollars::from_dollars(price);
        let reference = Dollars::from_dollars(price * 1_000);
        let engine = &mut self.state.perps.engine;
        engine.set_marks(TICKER, mark, None, Some(reference), self.now).expect("a mark");
    }

    pub(super) fn pass(&mut self, millis: i64) {
        self.now = Time::from_millis(self.now.as_millis() + millis);
        self.state.advance(self.now);
        self.audit();
    }

    /// Opens accounts of subtraders with a thousand dollars each.
    pub(super) fn subtraders(&mut self) -> Vec<(String, AccountId)> {
        let (perps, firm) = (&mut self.state.perps, self.first);
        FIRM_SUBTRADERS
            .iter()
            .map(|id| {
                let account = perps.open_subtrader(firm, (*id).to_owned()).expect("an account");
                perps.engine.deposit(account, dollars("1000"), self.now).expect("it is paid in");
                ((*id).to_owned(), account)
            })
            .collect()
    }

    /// Returns the obligations of both lists, the newest first.
    pub(super) fn obligations(&mut self, account: AccountId) -> Vec<Value> {
        let mut rows = Vec::new();
        for id in [OperationId::GetActiveMarginObligations, OperationId::GetObligationHistory] {
            let (status, body) = self.ask_as(account, id, &[], "", Value::Null);
            assert_eq!(status, 200);
            rows.extend(body["obligations"].as_array().expect("rows").clone());
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row["execution_time"].to_string()));
        rows
    }
}

/// Returns members of a value as numbers.
fn numbers(value: &Value, names: &[&str]) -> Vec<i64> {
    names.iter().map(|name| value[*name].as_i64().unwrap_or_else(|| panic!("{name}"))).collect()
}

const PARTS: [&str; 4] =
    ["pnl_centicents", "fees_centicents", "maintenance_margin_centicents", "amount_centicents"];

#[test]
fn an_obligation_follows_from_trades_and_marks_and_is_what_was_estimated() {
    let mut bench = Bench::new();
    let (first, second) = (bench.first, bench.second);
    bench.trade(first, second, "50", 10);
    bench.mark(52);
    let estimate = bench.ask(OperationId::GetSettlementEstimateByAssetClass, "");
    let crypto = &estimate["estimates"]["Crypto"];
    assert_eq!(crypto["next_runtime"], "2026-09-22T04:00:00Z");
    let position = &crypto["user_breakdown"]["positions"][TICKER];
    assert_eq!(position["quantity_centicount"], 1_000);
    assert_eq!(position["session_avg_price_fp"], "50.0000");
    bench.pass(DAY_MILLIS);
    // 10 × 2 dollars; 5 hundredths of a percent of 500 dollars; 5 % of 520 dollars.
    let row = bench.obligations(first).remove(0);
    assert_eq!(numbers(&row, &PARTS), [200_000, 2_500, 260_000, -62_500]);
    assert_eq!(row["execution_time"], "2026-09-22T04:00:00Z");
    let estimated = &crypto["user_breakdown"]["total_amount_centicents"];
    assert_eq!((estimated, &row["asset_class"]), (&row["amount_centicents"], &json!("Crypto")));
    let row = bench.obligations(second).remove(0);
    assert_eq!(numbers(&row, &PARTS), [-200_000, 1_000, 260_000, -461_000]);
    // 10,000 dollars less 6.25.
    let balance = bench.ask(OperationId::GetSettlementBalance, "");
    assert_eq!(balance["balance_available_centicents"], 99_937_500);
    // The next day takes the next change alone, and gives margin back.
    bench.mark(51);
    bench.pass(DAY_MILLIS);
    let row = bench.obligations(first).remove(0);
    assert_eq!(numbers(&row, &PARTS), [-100_000, 0, 255_000, -95_000]);
    let id = row["id"].as_str().expect("an id");
    let details = OperationId::GetObligationMaintenanceMarginDetails;
    let (_, details) = bench.ask_as(first, details, &[id], "", Value::Null);
    let changes = &details["maintenance_margin_details"][0];
    assert_eq!(changes["maintenance_margin_delta_centicents"], -5_000);
    let prices = "asset_class=Crypto&settlement_time=2026-09-23T04:00:00Z";
    let prices = bench.ask(OperationId::GetSettlementPrices, prices);
    assert_eq!(prices["settlement_prices"][TICKER], 510_000);
    // A day on which everything is closed gives all margin back, and the one after settles nothing.
    bench.trade(second, first, "51", 10);
    bench.pass(DAY_MILLIS);
    let row = bench.obligations(first).remove(0);
    assert_eq!(numbers(&row, &PARTS), [0, 1_000 + 20, 0, 255_000 - 1_020]);
    bench.pass(DAY_MILLIS);
    assert_eq!(bench.obligations(first).len(), 3);
}

#[test]
fn an_obligation_that_the_balance_does_not_cover_is_active_until_cash_comes_in() {
    let mut bench = Bench::new();
    let first = bench.first;
    bench.trade(first, bench.second, "50", 100);
    // All that can be spared: 10,000 − 2.50 of fees − 375 of initial margin.
    let amount = json!({"amount": "9600.00"});
    let id = OperationId::WithdrawSettlementBalance;
    assert_eq!(bench.ask_as(first, id, &[], "", amount).0, 200);
    // By the mark of settlements alone, so that nothing is liquidated: a loss of 1,000.
    bench.mark(40);
    bench.pass(DAY_MILLIS);
    let active = bench.ask(OperationId::GetActiveMarginObligations, "");
    let row = &active["obligations"][0];
    // −1,000 − 2.50 − 5 % of 4,000.
    assert_eq!(numbers(row, &PARTS), [-10_000_000, 25_000, 2_000_000, -12_025_000]);
    // The 400 dollars that were left.
    assert_eq!(row["receives"][0]["amount_centicents"], 4_000_000);
    let balance = bench.ask(OperationId::GetSettlementBalance, "");
    assert_eq!(balance["balance_available_centicents"], 0);
    let (status, refusal) = bench.ask_as(first, id, &[], "", json!({"amount": "0.01"}));
    assert_eq!((status, &refusal["code"]), (400, &json!("insufficient_balance")));
    bench.state.perps.engine.deposit(first, dollars("802.00"), bench.now).expect("cash");
    let active = bench.ask(OperationId::GetActiveMarginObligations, "");
    assert_eq!(active["obligations"][0]["receives"].as_array().map(Vec::len), Some(2));
    bench.state.perps.engine.deposit(first, dollars("1.00"), bench.now).expect("cash");
    let active = bench.ask(OperationId::GetActiveMarginObligations, "");
    assert_eq!(active["obligations"], json!([]));
    let paid = bench.ask(OperationId::GetObligationHistory, "");
    let received = paid["obligations"][0]["receives"].as_array().expect("rows").iter();
    let received: i64 =
        received.map(|row| row["amount_centicents"].as_i64().expect("an amount")).sum();
    assert_eq!(received, 12_025_000);
    let balance = bench.ask(OperationId::GetSettlementBalance, "");
    assert_eq!(balance["balance_available_centicents"], 5_000);
}

#[test]
fn a_dividend_and_a_split_are_rows_of_the_obligation_and_part_of_its_profit() {
    let mut bench = Bench::new();
    let first = bench.first;
    bench.trade(first, bench.second, "50", 10);
    let ex_date = bench.now.to_datetime().expect("a time").date_naive();
    for terms in [
        Terms::CashDividend { per_contract: dollars("0.25"), ex_date },
        Terms::Split { old: 1, new: 4, ex_date },
    ] {
        let new = NewAction { ticker: TICKER.to_owned(), terms, at: bench.now };
        bench.state.perps.engine.announce(new, bench.now).expect("it is announced");
        bench.audit();
    }
    bench.pass(DAY_MILLIS);
    let row = bench.obligations(first).remove(0);
    // 10 × 0.25 dollars; a split changes the worth of nothing.
    assert_eq!(row["pnl_centicents"], 25_000);
    assert_eq!(row["settlement_details"][0]["position_quantity_fp"], "40.00");
    let id = row["id"].as_str().expect("an id");
    let payments = OperationId::GetObligationCorporateActionPayments;
    let (_, payments) = bench.ask_as(first, payments, &[id], "", Value::Null);
    let rows = payments["corporate_action_payments"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[0]["type"]), (2, &json!("cash_dividend")));
    assert_eq!(rows[0]["payment_amount_centicents"], 25_000);
    let split = numbers(&rows[1], &["pre_split_price_centicents", "post_split_price_centicents"]);
    assert_eq!((split, &rows[1]["payment_amount_centicents"]), (vec![500_000, 125_000], &json!(0)));
    assert_eq!(rows[1]["post_position_quantity_fp"], "40.00");
}

#[test]
fn subtraders_of_a_group_are_margined_by_their_net_position() {
    let mut bench = Bench::new();
    let firm = bench.first;
    let subtraders = bench.subtraders();
    let [one, two, three] = [0, 1, 2].map(|place: usize| subtraders[place].1);
    bench.trade(one, two, "50", 10);
    bench.trade(three, bench.second, "50", 4);
    let group = |ids: &[&str]| json!({"subtrader_ids": ids});
    let create = OperationId::CreateMarginSubtraderGroup;
    let (status, made) = bench.ask_as(firm, create, &[], "", group(&["one", "two"]));
    assert_eq!(status, 200);
    let id = made["group_id"].as_str().expect("an id").to_owned();
    assert_eq!(bench.ask_as(firm, create, &[], "", group(&["two", "three"])).0, 409);
    assert_eq!(bench.ask_as(firm, create, &[], "", group(&["nobody-else"])).0, 404);
    assert_eq!(bench.ask_as(firm, create, &[], "", group(&[])).0, 400);
    let estimate = bench.ask(OperationId::GetSettlementEstimateByAssetClass, "");
    let crypto = &estimate["estimates"]["Crypto"];
    let required = "maintenance_margin_required_centicents";
    assert_eq!(crypto["group_breakdowns"][&id][required], 0);
    assert_eq!(crypto["subtrader_breakdowns"]["three"][required], 100_000);
    bench.pass(DAY_MILLIS);
    let row = bench.obligations(firm).remove(0);
    // 5 % of 200 dollars of the one outside; and a row for each account.
    assert_eq!(row["maintenance_margin_centicents"], 100_000);
    let of = |row: &Value| row["subtrader_id"].as_str().expect("an id").to_owned();
    let rows = row["settlement_details"].as_array().expect("rows").iter();
    let mut ids: Vec<String> = rows.map(of).collect();
    ids.sort();
    assert_eq!(ids, ["one", "three", "two"]);
    // Without the group each needs its own: 25 dollars.
    let delete = OperationId::DeleteMarginSubtraderGroup;
    assert_eq!(bench.ask_as(firm, delete, &[&id], "", Value::Null).0, 200);
    assert_eq!(bench.ask_as(firm, delete, &[&id], "", Value::Null).0, 400);
    bench.pass(DAY_MILLIS);
    let row = bench.obligations(firm).remove(0);
    assert_eq!(numbers(&row, &PARTS[2..]), [600_000, -500_000]);
}

#[test]
fn the_parameters_of_the_model_give_its_estimate() {
    let mut bench = Bench::new();
    let now = "2026-09-21";
    let positions = [(TICKER, 30, Some(50)), (TICKER, -10, Some(50)), ("KXSIMCOINPERP", -7, None)];
    let rows: Vec<Value> = positions
        .iter()
        .map(|(ticker, quantity, price)| {
            let mut row = json!({"market_ticker": ticker, "quantity": quantity});
            if let Some(price) = price {
                row["price"] = json!(format!("{price}.00"));
            }
            row
        })
        .collect();
    let estimate = OperationId::EstimatePortfolioMaintenanceMargin;
    let body = json!({"asset_class": "Crypto", "date": now, "positions": rows});
    let (first, path) = (bench.first, &[]);
    let (status, margin) = bench.ask_as(first, estimate, path, "", body.clone());
    assert_eq!(status, 200, "{margin}");
    let parameters = format!("asset_class=Crypto&date={now}");
    let parameters = bench.ask(OperationId::GetMaintenanceMarginMetadata, &parameters);
    let engine = &bench.state.perps.engine;
    let mark = engine.market_by_ticker("KXSIMCOINPERP").expect("a market").settlement_mark.price;
    let values =
        [(TICKER, dollars("1000")), ("KXSIMCOINPERP", Dollars::from_micros(-7 * mark.as_micros()))];
    let matrix = &parameters["matrices"]["hvar"];
    let tickers: Vec<&str> = matrix["market_tickers"]
        .as_array()
        .expect("tickers")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // For each subgroup the worst scenario, in micro-dollars: each is one market.
    let worst: i128 = values
        .iter()
        .map(|(ticker, value)| {
            let column = tickers.iter().position(|one| one == ticker).expect("a column");
            let scenarios = matrix["returns"].as_array().expect("rows").iter();
            let millionths = scenarios.map(|row| {
                let part = row[column].to_string().parse::<kalshi_types::Decimal>();
                part.expect("a number").to_string().parse::<Dollars>().expect("a fraction")
            });
            let losses = millionths.map(|part| {
                -i128::from(part.as_micros()) * i128::from(value.as_micros()) / 1_000_000
            });
            losses.max().expect("scenarios")
        })
        .sum();
    let expected = Dollars::from_micros(i64::try_from(worst).expect("an amount"));
    let expected = expected.ceil_to(Dollars::from_micros(100)).expect("an amount");
    assert_eq!(margin["maintenance_margin_fp"], json!(expected));
    for (name, value) in [
        ("asset_class", json!("Metals")),
        ("asset_class", json!("Wood")),
        ("date", json!("2026-09-22")),
        ("date", json!("yesterday")),
        ("clearing_type", json!("Both")),
        ("positions", json!([])),
        ("positions", json!([{"market_ticker": TICKER, "quantity": 0}])),
        ("positions", json!([{"market_ticker": TICKER, "quantity": 1, "price": "0.00"}])),
        ("positions", json!([{"market_ticker": "KXNONE", "quantity": 1}])),
    ] {
        let mut wrong = body.clone();
        wrong[name] = value.clone();
        let (status, _) = bench.ask_as(first, estimate, path, "", wrong);
        assert!([400, 404].contains(&status), "{name}: {value} is answered with {status}");
    }
}

#[test]
fn a_large_position_is_reported_until_the_day_after_it_is_gone() {
    let mut bench = Bench::new();
    let (first, second) = (bench.first, bench.second);
    bench.trade(first, second, "50", 1_000);
    bench.pass(DAY_MILLIS);
    bench.trade(second, first, "50", 1);
    bench.pass(DAY_MILLIS);
    bench.pass(DAY_MILLIS);
    let reported = |bench: &mut Bench, day: &str| {
        let query = format!("report_date={day}");
        let report = bench.ask(OperationId::GetLargeTraderPositions, &query);
        assert_eq!(report["report_date"], day);
        let rows = report["positions"].as_array().expect("rows").clone();
        rows.iter()
            .map(|row| (row["position"].clone(), row["exit_day"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(reported(&mut bench, "2026-09-21"), [(json!(1_000), json!(false))]);
    assert_eq!(reported(&mut bench, "2026-09-22"), [(json!(999), json!(true))]);
    assert_eq!(reported(&mut bench, "2026-09-23"), []);
    assert_eq!(reported(&mut bench, "2026-09-20"), []);
    let last = bench.ask(OperationId::GetLargeTraderPositions, "");
    assert_eq!(last["report_date"], "2026-09-23");
}

#[test]
fn lists_inside_of_an_obligation_end_at_a_thousand_rows_and_say_so() {
    let mut bench = Bench::new();
    let (firm, second) = (bench.first, bench.second);
    // Three times of funding a day for each of them.
    let subtraders: i64 = 340;
    for number in 0..subtraders {
        let perps = &mut bench.state.perps;
        let account = perps.open_subtrader(firm, format!("s{number}")).expect("an account");
        perps.engine.deposit(account, dollars("100"), bench.now).expect("it is paid in");
        for (account, side) in [(second, Side::Ask), (account, Side::Bid)] {
            let (ticker, price) = (TICKER.to_owned(), dollars("50"));
            let order = NewOrder::resting(account, ticker, side, price, count(1));
            perps.engine.place_order(&order, 0, bench.now).expect("it is taken");
        }
    }
    bench.pass(DAY_MILLIS);
    bench.pass(DAY_MILLIS);
    let row = bench.obligations(firm).remove(0);
    assert_eq!(row["funding_payments"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(row["funding_payments_truncated"], true);
    assert_eq!(row["settlement_details"].as_array().map(Vec::len), Some(340));
    assert_eq!(row["settlement_details_truncated"], false);
    let id = row["id"].as_str().expect("an id");
    let (mut ids, mut cursor) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let query = format!("limit=600&cursor={cursor}");
        let list = OperationId::GetObligationFundingPayments;
        let (status, page) = bench.ask_as(firm, list, &[id], &query, Value::Null);
        assert_eq!(status, 200);
        let rows = page["funding_payments"].as_array().expect("rows");
        ids.extend(rows.iter().map(|row| row["id"].to_string()));
        page["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(ids.len(), 1_020);
}
