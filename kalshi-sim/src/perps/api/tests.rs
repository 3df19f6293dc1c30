//! Answers together, each as the published document has it.

use chrono::{DateTime, Duration, Utc};
use kalshi_sdk::perps::{OperationId, server::dispatch};
use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};

use crate::{
    contract::Contract,
    engine::{ids::AccountId, principal::Principal},
    http::{query::Query, request::Call},
    state::{Start, State, limits::Tier},
};

const TICKER: &str = "KXSIMCOINPERP";

/// An exchange, and a member that asks it.
struct Bench {
    state: State,
    contract: Contract,
    caller: Principal,
    now: DateTime<Utc>,
    ids: u32,
}

impl Bench {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
        let state = State::new(Start::new(7, now));
        let caller = Principal::member(state.first_account);
        Self { state, contract: Contract::of_perps(), caller, now, ids: 0 }
    }

    /// Asks, and validates the answer against the published document.
    fn ask(
        &mut self,
        id: OperationId,
        path: &[&str],
        query: &str,
        body: impl Into<Value>,
    ) -> (u16, Value) {
        let body = body.into();
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        let query = Query::new(serde_urlencoded::from_str(query).expect("a query"));
        let call = Call {
            caller: Some(self.caller),
            subtrader: None,
            path: &path,
            query: &query,
            body: &body,
            now: self.now,
            pair: None,
        };
        self.state.advance(self.now.into());
        let answer = dispatch(id, &mut self.state, &call);
        let response = answer.unwrap_or_else(|refusal| refusal);
        self.contract
            .check(id.operation(), response.status, response.body.as_ref())
            .unwrap_or_else(|difference| panic!("{id:?}: {difference}"));
        self.state.perps.engine.audit().unwrap();
        (response.status, response.body.unwrap_or_default())
    }

    fn get(&mut self, id: OperationId, path: &[&str], query: &str) -> Value {
        let (status, body) = self.ask(id, path, query, Value::Null);
        assert_eq!(status, 200, "{id:?} {body}");
        body
    }

    /// Places an order of some contracts at a price around the mark, in thousandths of it.
    fn place(&mut self, side: &str, thousandths: i64, count: i64, more: impl Into<Value>) -> Value {
        let more = more.into();
        self.ids += 1;
        let market = self.state.perps.engine.market_by_ticker(TICKER).unwrap();
        let price = market.settlement_mark.price.as_micros() * thousandths / 1_000 / 100 * 100;
        let mut body = json!({
            "ticker": TICKER,
            "client_order_id": self.ids.to_string(),
            "side": side,
            "count": Count::from_contracts(count).unwrap(),
            "price": Dollars::from_micros(price),
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "maker",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let (status, body) = self.ask(OperationId::CreateMarginOrder, &[], "", body);
        assert!(status == 201 || body["error"].is_object(), "{body}");
        body
    }
}

fn amount(row: &Value, key: &str) -> Dollars {
    row[key].as_str().expect("a text").parse().expect("dollars")
}

#[test]
fn an_order_trades_rests_and_is_read_back() {
    let mut bench = Bench::new();
    let bought = bench.place("bid", 1_003, 150, Value::Null);
    assert_eq!(
        (&bought["fill_count"], &bought["remaining_count"]),
        (&"150.00".into(), &"0.00".into())
    );
    let id = bought["order_id"].as_str().unwrap().to_owned();
    let order = bench.get(OperationId::GetMarginOrder, &[&id], "")["order"].clone();
    assert_eq!(order["last_update_reason"], "Trade");
    assert_eq!(order["order_source"], "user");
    let fills = bench.get(OperationId::GetMarginFills, &[], "")["fills"].clone();
    assert_eq!(fills.as_array().unwrap().len(), 2, "a hundred at each level");
    let position = bench.get(OperationId::GetMarginPositions, &[], "")["positions"][0].clone();
    assert_eq!(position["position"], "150.00");
    assert!(amount(&position, "unrealized_pnl").is_negative(), "it was bought above the mark");
    let paid = fills.as_array().unwrap().iter().map(|fill| amount(fill, "fees").as_micros());
    assert_eq!(paid.sum::<i64>(), amount(&position, "fees").as_micros());

    let rests = bench.place("bid", 990, 3, json!({"post_only": true}));
    let id = rests["order_id"].as_str().unwrap().to_owned();
    let word = |bench: &mut Bench, id: &str| {
        bench.get(OperationId::GetMarginOrder, &[id], "")["order"]["last_update_reason"].clone()
    };
    assert_eq!(word(&mut bench, &id), "");
    let (status, body) =
        bench.ask(OperationId::DecreaseMarginOrder, &[&id], "", json!({"reduce_by": "1"}));
    assert_eq!((status, &body["remaining_count"]), (200, &"2.00".into()));
    let listed = bench.get(OperationId::GetMarginOrders, &[], "status=resting");
    assert_eq!(listed["orders"].as_array().unwrap().len(), 1);
    let (status, body) = bench.ask(OperationId::CancelMarginOrder, &[&id], "", Value::Null);
    assert_eq!((status, &body["reduced_by"]), (200, &"2.00".into()));
    assert_eq!(word(&mut bench, &id), "Decrease");
    let refused = bench.place("bid", 990, 3, json!({"market_version": 2}));
    assert_eq!(refused["error"]["code"], "market_version_mismatch");
    let refused = bench.place("bid", 990, 3, json!({"reduces_only": true}));
    assert_eq!(refused["error"]["code"], "invalid_parameters");
}

#[test]
fn a_market_id_names_a_market_and_the_ticker_wins() {
    let mut bench = Bench::new();
    let market = bench.get(OperationId::GetMarginMarket, &[TICKER], "")["market"].clone();
    let by_id = json!({"ticker": null, "market_id": market["market_id"]});
    assert!(bench.place("bid", 990, 1, by_id)["order_id"].is_string());
    let other = json!({"market_id": "00000000-0000-4000-8000-000000000000"});
    assert!(bench.place("bid", 990, 1, other.clone())["order_id"].is_string());
    let mut unknown = other;
    unknown["ticker"] = Value::Null;
    assert_eq!(bench.place("bid", 990, 1, unknown)["error"]["code"], "not_found");
}

#[test]
fn the_available_balance_is_computed_only_if_it_is_asked_for() {
    let mut bench = Bench::new();
    bench.place("bid", 990, 10, Value::Null);
    let row = |bench: &mut Bench, query: &str| {
        bench.get(OperationId::GetMarginBalance, &[], query)["subaccount_balances"][0].clone()
    };
    let plain = row(&mut bench, "");
    assert_eq!(plain["account_equity"], "10000.0000");
    assert_eq!(
        (amount(&plain, "available_balance"), amount(&plain, "resting_orders_margin")),
        (Dollars::ZERO, Dollars::ZERO)
    );
    let whole = row(&mut bench, "compute_available_balance=true");
    let held = amount(&whole, "resting_orders_margin");
    assert!(held.is_positive());
    let sum = amount(&whole, "available_balance").checked_add(held).unwrap();
    assert_eq!(sum, amount(&whole, "account_equity"));
}

#[test]
fn a_member_that_is_not_enabled_is_refused_and_told_so() {
    let mut bench = Bench::new();
    let account = bench.caller.account;
    bench.state.perps.engine.account_mut(account).unwrap().enabled = false;
    assert_eq!(bench.get(OperationId::GetMarginEnabled, &[], "")["enabled"], false);
    for id in [
        OperationId::GetMarginBalance,
        OperationId::GetMarginOrders,
        OperationId::GetMarginPositions,
        OperationId::GetMarginRisk,
    ] {
        assert_eq!(bench.ask(id, &[], "", Value::Null).0, 403, "{id:?}");
    }
    assert_eq!(
        bench.get(OperationId::GetMarginMarkets, &[], "")["markets"].as_array().unwrap().len(),
        3
    );
    bench.caller = Principal::member(AccountId(77));
    assert_eq!(bench.get(OperationId::GetMarginEnabled, &[], "")["enabled"], false);
}

#[test]
fn a_key_of_one_subaccount_reads_and_trades_that_one_only() {
    let mut bench = Bench::new();
    bench.place("bid", 1_002, 1, Value::Null);
    let number = bench.ask(OperationId::CreateMarginSubaccount, &[], "", Value::Null).1;
    assert_eq!(number["subaccount_number"], 1);
    let transfer = json!({
        "client_transfer_id": "0b0e1f7a-52f5-4d9c-9d2b-0123456789ab",
        "from_subaccount": 0,
        "to_subaccount": 1,
        "amount_cents": 50_000,
    });
    for _ in 0..2 {
        let made = bench.ask(OperationId::ApplyMarginSubaccountTransfer, &[], "", transfer.clone());
        assert_eq!(made.0, 200);
    }
    bench.caller.bound = Some(1);
    let balances = bench.get(OperationId::GetMarginBalance, &[], "");
    assert_eq!(balances["subaccount_balances"].as_array().unwrap().len(), 1);
    assert_eq!(balances["subaccount_balances"][0]["account_equity"], "500.0000");
    assert_eq!(bench.get(OperationId::GetMarginPositions, &[], "")["positions"], json!([]));
    let other = bench.place("bid", 990, 1, json!({"subaccount": 0}));
    assert_eq!(other["error"]["code"], "forbidden");
    assert!(bench.place("bid", 990, 1, json!({"subaccount": 1}))["order_id"].is_string());
    let refused = bench.ask(OperationId::CreateMarginSubaccount, &[], "", Value::Null);
    assert_eq!(refused.0, 403);
}

#[test]
fn cash_moves_between_the_products_and_is_counted_once() {
    let mut bench = Bench::new();
    let account = bench.caller.account;
    let total = |bench: &Bench| {
        let margin = bench.state.perps.engine.wallet((account, 0)).unwrap().cash;
        let event = bench.state.engine.ledger.balance(account, 0, 0).cash;
        (event, margin, event.checked_add(margin).unwrap())
    };
    let (event, margin, sum) = total(&bench);
    let transfer = |from: &str, to: &str, dollars: i64| json!({"source": from, "destination": to, "amount": dollars * 10_000});
    let id = OperationId::IntraExchangeInstanceTransfer;
    assert_eq!(bench.ask(id, &[], "", transfer("event_contract", "margined", 100)).0, 200);
    bench.now += Duration::seconds(2);
    bench.state.advance(bench.now.into());
    let moved = Dollars::from_dollars(100).unwrap();
    assert_eq!(
        total(&bench),
        (event.checked_sub(moved).unwrap(), margin.checked_add(moved).unwrap(), sum)
    );
    assert_eq!(bench.ask(id, &[], "", transfer("margined", "event_contract", 100)).0, 200);
    assert_eq!(total(&bench).1, margin, "it has left at once");
    bench.now += Duration::seconds(2);
    bench.state.advance(bench.now.into());
    assert_eq!(total(&bench), (event, margin, sum));
    let (status, body) = bench.ask(id, &[], "", transfer("margined", "event_contract", 10_001));
    assert_eq!((status, &body["error"]["code"]), (400, &"insufficient_balance".into()));
    // What is refused for another reason stays where it was.
    let malformed = json!({
        "source": "margined", "destination": "margined", "amount": 10_000,
    });
    assert_eq!(bench.ask(id, &[], "", malformed).0, 400);
    bench.state.advance(bench.now.into());
    assert_eq!(total(&bench), (event, margin, sum));
}

#[test]
fn a_liquidated_member_sees_a_system_order() {
    let mut bench = Bench::new();
    // A thousand contracts are on offer.
    for _ in 0..4 {
        bench.place("bid", 1_011, 250, Value::Null);
    }
    let risk = bench.get(OperationId::GetMarginRisk, &[], "");
    let price = amount(&risk["positions"][0], "estimated_liquidation_price");
    // One step beyond it.
    let price = Dollars::from_micros(price.as_micros() - 100);
    bench.state.perps.engine.set_marks(TICKER, None, Some(price), None, bench.now.into()).unwrap();
    let positions = bench.get(OperationId::GetMarginPositions, &[], "");
    let orders = bench.get(OperationId::GetMarginOrders, &[], "limit=1");
    assert_eq!(orders["orders"][0]["order_reason"], "liquidation");
    assert_eq!(orders["orders"][0]["order_source"], "system");
    assert_eq!(positions["positions"], json!([]));
    let fills = bench.get(OperationId::GetMarginFills, &[], "limit=1");
    assert_eq!(fills["fills"][0]["order_source"], "system");
}

#[test]
fn an_exit_trigger_is_set_replayed_changed_and_removed() {
    let mut bench = Bench::new();
    let path: &[&str] = &[TICKER];
    let mark = bench.state.perps.engine.market_by_ticker(TICKER).unwrap().settlement_mark.price;
    let at = |thousandths: i64| {
        json!(Dollars::from_micros(mark.as_micros() * thousandths / 1_000 / 100 * 100))
    };
    let set = OperationId::SetCrossMarginExitTrigger;
    let whole = json!({"stop_loss_price": at(900)});
    assert_eq!(bench.ask(set, path, "", whole.clone()).0, 404, "there is no position");
    bench.place("bid", 1_002, 5, Value::Null);
    let (status, first) = bench.ask(set, path, "", whole);
    assert_eq!((status, &first["status"]), (200, &"active".into()));
    // A leg that is left out is cleared.
    let (_, second) = bench.ask(set, path, "", json!({"take_profit_price": at(1_200)}));
    assert!(second.get("stop_loss_price").is_none());
    let id = second["id"].as_str().unwrap().to_owned();
    let update = OperationId::UpdateCrossMarginExitTrigger;
    let legs = json!({"stop_loss_price": at(950)});
    let (_, both) = bench.ask(update, &[TICKER, &id], "", legs);
    assert_eq!((&both["stop_loss_price"], &both["take_profit_price"]), (&at(950), &at(1_200)));
    let part = json!({"trail_bps": 100, "count": "2", "client_trigger_id": "part"});
    assert_eq!(bench.ask(set, path, "", part.clone()).0, 200);
    let (_, replayed) = bench.ask(set, path, "", part.clone());
    assert_eq!(replayed["client_trigger_id"], "part");
    let mut other = part;
    other["count"] = json!("3");
    let (status, body) = bench.ask(set, path, "", other);
    assert_eq!((status, &body["error"]["code"]), (409, &"idempotency_key_already_used".into()));
    for body in [
        json!({"trail_bps": 100, "trail_amount": "1.00"}),
        json!({"trail_bps": 100, "stop_loss_price": at(900)}),
        json!({"kind": "trailing"}),
        json!({"kind": "other", "stop_loss_price": at(900)}),
        json!({}),
    ] {
        assert_eq!(bench.ask(set, path, "", body.clone()).0, 400, "{body}");
    }
    let list = OperationId::GetCrossMarginExitTriggers;
    assert_eq!(
        bench.get(list, path, "kind=trailing")["exit_triggers"].as_array().unwrap().len(),
        1
    );
    let delete = OperationId::DeleteCrossMarginExitTrigger;
    for _ in 0..2 {
        assert_eq!(bench.ask(delete, path, "", Value::Null).0, 204);
    }
    let rows = bench.get(list, path, "")["exit_triggers"].clone();
    assert!(rows.as_array().unwrap().iter().all(|row| row["status"] == "canceled"), "{rows}");
    let isolated = OperationId::SetIsolatedMarginExitTrigger;
    assert_eq!(bench.ask(isolated, path, "", json!({"trail_bps": 500})).0, 200);
    let by_id = OperationId::DeleteCrossMarginExitTriggerById;
    assert_eq!(bench.ask(by_id, &[TICKER, &id], "", Value::Null).0, 204);
    assert_eq!(bench.ask(by_id, &[TICKER, "x"], "", Value::Null).0, 404);
}

#[test]
fn a_clearing_member_caps_its_subtraders() {
    let mut bench = Bench::new();
    let create = OperationId::CreateMarginFcmSubtrader;
    let new = json!({"subtrader_suffix": "alpha", "require_category_cap": true});
    assert_eq!(bench.ask(create, &[], "", new.clone()).0, 403);
    bench.caller.fcm_member = true;
    let (status, made) = bench.ask(create, &[], "", new.clone());
    assert_eq!(status, 201);
    assert_eq!(bench.ask(create, &[], "", new).0, 409);
    let id = made["subtrader_id"].as_str().unwrap().to_owned();
    let set = OperationId::UpdateFcmSubtraderRiskControls;
    let mut cap = json!({"subtrader_id": id, "im_cap": "100.00", "asset_class": "Crypto"});
    assert_eq!(bench.ask(set, &[], "", cap.clone()).0, 200);
    cap["market_ticker"] = json!(TICKER);
    assert_eq!(bench.ask(set, &[], "", cap).0, 400, "both scopes");
    let limit = json!({"notional_value_risk_limit": "5000.00"});
    assert_eq!(bench.ask(OperationId::UpdateFcmNotionalRiskLimit, &[], "", limit).0, 200);
    let shown = bench.get(OperationId::GetFcmSubtraderRiskControls, &[], "asset_class=Crypto");
    assert_eq!(shown["risk_controls"][0]["im_cap"], "100.0000");
    assert_eq!(shown["notional_limits"][0]["notional_value_risk_limit"], "5000.0000");
    let own = bench.get(OperationId::GetMarginNotionalRiskLimit, &[], "");
    assert_eq!(own["effective_account_notional_value_risk_limit"], "5000.0000");
    let delete = OperationId::DeleteFcmSubtraderRiskControls;
    let query = format!("subtrader_id={id}&asset_class=Crypto");
    assert_eq!(bench.ask(delete, &[], &query, Value::Null).0, 200);
    assert_eq!(bench.ask(delete, &[], &query, Value::Null).0, 404);
    assert_eq!(bench.ask(OperationId::DeleteFcmNotionalRiskLimit, &[], "", Value::Null).0, 200);
}

#[test]
fn the_buckets_are_those_of_perpetual_futures() {
    let mut bench = Bench::new();
    let limits = &mut bench.state.perps.limits;
    let mut burst = |id: OperationId, query: &str, group: u8| {
        let query = Query::new(serde_urlencoded::from_str(query).unwrap());
        let who = (AccountId(1), Tier::Basic);
        let admit = |limits: &mut crate::state::limits::Limits| {
            limits.admit_perps(who, id.operation(), &query, group, bench.now.into())
        };
        (0..10_000).take_while(|_| admit(limits)).count()
    };
    // 200 tokens: four balances with what is available, or forty without.
    assert_eq!(burst(OperationId::GetMarginBalance, "compute_available_balance=true", 0), 4);
    assert_eq!(burst(OperationId::GetMarginBalance, "", 0), 0);
    assert_eq!(burst(OperationId::CreateMarginOrder, "", 0), 10);
    assert_eq!(burst(OperationId::CreateMarginOrder, "", 1), 10, "another market group");
    assert_eq!(burst(OperationId::CancelMarginOrder, "", 0), 0, "the default bucket is empty");
}

#[test]
fn market_data_agrees_with_itself() {
    let mut bench = Bench::new();
    let market = bench.get(OperationId::GetMarginMarket, &[TICKER], "")["market"].clone();
    let book = bench.get(OperationId::GetMarginMarketOrderbook, &[TICKER], "")["orderbook"].clone();
    let (bids, asks) = (book["bids"].as_array().unwrap(), book["asks"].as_array().unwrap());
    assert_eq!((bids.len(), asks.len()), (10, 10));
    // The best level is the last one.
    assert_eq!(bids[9], json!([market["bid"], market["bid_size_fp"]]));
    assert_eq!(asks[9], json!([market["ask"], market["ask_size_fp"]]));
    let joined =
        bench.get(OperationId::GetMarginMarketOrderbook, &[TICKER], "aggregation_tick_size=100.00");
    let all = &joined["orderbook"];
    assert_eq!(
        (&all["bids"], &all["asks"]),
        (&json!([["0.0000", "1000.00"]]), &json!([["100.0000", "1000.00"]]))
    );
    let both = bench.get(
        OperationId::GetMarginMarketOrderbooks,
        &[],
        "tickers=KXSIMCOINPERP,KXSIMMETALPERP",
    );
    assert_eq!(both["orderbooks"][0]["orderbook"], book);
    let unknown = (OperationId::GetMarginMarketOrderbooks, "tickers=KXSIMCOINPERP,KXNO");
    assert_eq!(bench.ask(unknown.0, &[], unknown.1, Value::Null).0, 404);
    let end = bench.now.timestamp();
    let query = format!("start_ts={}&end_ts={end}&period_interval=1440", end - 4 * 86_400);
    let candles = bench.get(OperationId::GetMarginMarketCandlesticks, &[TICKER], &query);
    let candles = candles["candlesticks"].as_array().unwrap();
    assert!(candles.len() >= 3, "{}", candles.len());
    let trades = bench.get(OperationId::GetMarginTrades, &[], "ticker=KXSIMCOINPERP&limit=1000");
    let counts = trades["trades"].as_array().unwrap().iter();
    let volume: i64 = counts
        .map(|trade| trade["count"].as_str().unwrap().parse::<Count>().unwrap().as_hundredths())
        .sum();
    assert_eq!(market["volume"], json!(Count::from_hundredths(volume)));
    let window = format!("ticker={TICKER}&start_ts={}&end_ts={}", end - 60, end + 60);
    let points = bench.get(OperationId::GetMarginPremiumIndex, &[], &window);
    assert_eq!(points["points"].as_array().unwrap().len(), 61, "none is of the future");
    let rates =
        bench.get(OperationId::GetMarginHistoricalFundingRates, &[], "ticker=KXSIMCOINPERP");
    assert_eq!(rates["funding_rates"].as_array().unwrap().len(), 9);
    let estimate =
        bench.get(OperationId::GetMarginFundingRateEstimate, &[], "ticker=KXSIMCOINPERP");
    assert_eq!(estimate["next_funding_time"], "2026-09-21T20:00:00Z");
    bench.state.perps.engine.set_marks(TICKER, None, None, Some(None), bench.now.into()).unwrap();
    let estimate =
        bench.get(OperationId::GetMarginFundingRateEstimate, &[], "ticker=KXSIMCOINPERP");
    assert_eq!(estimate.as_object().unwrap().len(), 1, "no data: {estimate}");
}
