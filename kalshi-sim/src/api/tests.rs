//! The seeded answers together: each as published, and none contradicting another.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};
use kalshi_sdk::{OperationId, server::dispatch};
use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};

use crate::{
    contract::Contract,
    engine::{
        Cutoffs,
        amount::SaturatingArithmetic,
        ids::AccountId,
        principal::Principal,
        types::{Executed, MarketResult, MarketStatus, NewOrder, Refusal, Side, Time, TimeInForce},
    },
    fixtures::{MarketDirectory, NewMarket, dice::Dice},
    http::{query::Query, request::Call, response::Response},
    state::{Start, State},
    wire,
};

/// A filter's test of a row.
type Keeps = Box<dyn Fn(&Value) -> bool>;

/// An exchange, and a member that asks it.
struct Bench {
    state: State,
    contract: Contract,
    caller: Principal,
    now: DateTime<Utc>,
}

impl Bench {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
        let state = State::new(Start::new(7, now));
        let caller = Principal::member(state.first_account);
        Self { state, contract: Contract::load(), caller, now }
    }

    /// Returns a member that belongs to an FCM.
    fn member() -> Self {
        let mut bench = Self::new();
        bench.caller.fcm_member = true;
        bench
    }

    /// Asks, and validates the answer against the published document.
    fn ask(
        &mut self,
        id: &str,
        path: &[&str],
        query: &str,
        body: impl Into<Value>,
    ) -> (u16, Value) {
        let body = body.into();
        let operation: OperationId = id.parse().expect("an operation");
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
        let answer = dispatch(operation, &mut self.state, &call);
        let response = answer.unwrap_or_else(|refusal| refusal);
        self.contract
            .check(operation.operation(), response.status, response.body.as_ref())
            .unwrap_or_else(|difference| panic!("{id}: {difference}"));
        (response.status, response.body.unwrap_or_default())
    }

    fn get(&mut self, id: &str, path: &[&str], query: &str) -> Value {
        let (status, body) = self.ask(id, path, query, Value::Null);
        assert_eq!(status, 200, "{id} {body}");
        body
    }

    fn status(&mut self, id: &str, path: &[&str], query: &str, body: Value) -> u16 {
        self.ask(id, path, query, body).0
    }

    /// Returns a market of the last event of its series that is open.
    fn open_market(&self) -> String {
        let open = self.state.engine.markets().iter();
        let last =
            open.filter(|market| market.status == MarketStatus::Active).max_by_key(|m| m.closes);
        last.expect("one is open").ticker.clone()
    }

    fn event_tickers(&self) -> BTreeSet<String> {
        self.state.catalog.events.iter().map(|event| text(event, "event_ticker")).collect()
    }

    fn milestones(&mut self) -> Vec<Value> {
        rows(&self.get("get_milestones", &[], "limit=500"), "milestones")
    }
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

fn rows(body: &Value, key: &str) -> Vec<Value> {
    body[key].as_array().cloned().unwrap_or_default()
}

fn micros(row: &Value, key: &str) -> i64 {
    text(row, key).parse::<Dollars>().expect("dollars").as_micros()
}

fn hundredths(row: &Value, key: &str) -> i64 {
    text(row, key).parse::<Count>().expect("a count").as_hundredths()
}

#[test]
fn a_seed_makes_the_same_fixtures_again() {
    let shown = |seed: u64| {
        let start = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
        format!("{:?}", State::new(Start::new(seed, start)).fixtures)
    };
    assert!(shown(7) == shown(7));
    assert!(shown(7) != shown(8));
}

#[test]
fn milestones_name_events_and_targets_that_exist_and_each_has_live_data() {
    let mut bench = Bench::new();
    let events = bench.event_tickers();
    let targets: BTreeSet<String> =
        rows(&bench.get("get_structured_targets", &[], "page_size=2000"), "structured_targets")
            .iter()
            .map(|row| text(row, "id"))
            .collect();
    let milestones = bench.milestones();
    assert!(milestones.len() > 300, "{}", milestones.len());
    for milestone in &milestones {
        let id = text(milestone, "id");
        for event in rows(milestone, "related_event_tickers") {
            assert!(events.contains(event.as_str().unwrap()), "{event}");
        }
        for key in ["home_team_id", "away_team_id"] {
            if let Some(target) = milestone["details"][key].as_str() {
                assert!(targets.contains(target), "{key} {target}");
            }
        }
        assert_ne!(
            (milestone["type"] == "tennis_match", &milestone["details"]["home_team_id"]),
            (true, &milestone["details"]["away_team_id"])
        );
        let live = bench.get("get_live_data_by_milestone", &[&id], "include_player_stats=true");
        assert_eq!(live["live_data"]["milestone_id"], id);
        let kind = text(milestone, "type");
        assert_eq!(bench.get("get_live_data", &[&kind, &id], "")["live_data"]["type"], kind);
        assert_eq!(bench.status("get_live_data", &["chess", &id], "", Value::Null), 404);
        bench.get("get_game_stats", &[&id], "");
    }
    let two = format!("milestone_ids={}&milestone_ids=none", text(&milestones[0], "id"));
    assert_eq!(rows(&bench.get("get_live_datas", &[], &two), "live_datas").len(), 1);
    let many = ["milestone_ids=x"; 101].join("&");
    assert_eq!(bench.status("get_live_datas", &[], &many, Value::Null), 400);
    assert_eq!(bench.status("get_live_datas", &[], "", Value::Null), 400);
}

#[test]
fn milestone_filters_keep_what_they_say() {
    let mut bench = Bench::new();
    let all = bench.milestones();
    let middle = text(&all[all.len() / 2], "start_date");
    let source = all.iter().find_map(|row| row["source_id"].as_str()).unwrap().to_owned();
    let event = rows(&all[0], "related_event_tickers")[0].as_str().unwrap().to_owned();
    let filters: Vec<(String, Keeps)> = vec![
        ("category=Sports".to_owned(), Box::new(|row| row["category"] == "Sports")),
        ("type=football_game".to_owned(), Box::new(|row| row["type"] == "football_game")),
        (
            "competition=Pro+Hockey".to_owned(),
            Box::new(|row| row["details"]["league"] == "Pro Hockey"),
        ),
        (format!("source_id={source}"), Box::new(move |row| row["source_id"] == *source)),
        (format!("minimum_start_date={middle}"), {
            let middle: DateTime<Utc> = middle.parse().unwrap();
            Box::new(move |row| text(row, "start_date").parse::<DateTime<Utc>>().unwrap() >= middle)
        }),
        (format!("related_event_ticker={event}"), {
            Box::new(move |row| rows(row, "related_event_tickers").contains(&json!(event)))
        }),
    ];
    for (filter, keeps) in filters {
        let kept =
            rows(&bench.get("get_milestones", &[], &format!("limit=500&{filter}")), "milestones");
        assert!(!kept.is_empty() && kept.len() < all.len(), "{filter}");
        let expected: Vec<Value> = all.iter().filter(|row| keeps(row)).cloned().collect();
        assert_eq!(kept, expected, "{filter}");
    }
    for bad in ["", "limit=501", "limit=0", "limit=5&minimum_start_date=monday"] {
        assert_eq!(bench.status("get_milestones", &[], bad, Value::Null), 400, "{bad}");
    }
}

#[test]
fn a_game_goes_on_while_time_passes_and_ends_with_the_archived_result() {
    let mut bench = Bench::new();
    let milestones = bench.milestones();
    let start = bench.now;
    let coming = milestones.iter().find(|row| {
        row["type"] == "football_game"
            && text(row, "start_date").parse::<DateTime<Utc>>().unwrap() > start
    });
    let (id, begins) = coming
        .map(|row| (text(row, "id"), text(row, "start_date").parse::<DateTime<Utc>>().unwrap()))
        .unwrap();
    let mut seen = Vec::new();
    for (hours, status) in [(-1, "scheduled"), (1, "live"), (4, "final")] {
        bench.now = begins + Duration::hours(hours);
        let details =
            bench.get("get_live_data_by_milestone", &[&id], "")["live_data"]["details"].clone();
        assert_eq!(details["status"], status);
        seen.push(
            details["home_points"].as_i64().unwrap() + details["away_points"].as_i64().unwrap(),
        );
    }
    assert!(seen[0] == 0 && seen[1] <= seen[2] && seen[2] > 0, "{seen:?}");

    // Every archived game was won by the side whose market paid.
    bench.now = start;
    let mut games = 0;
    let markets = rows(&bench.get("get_historical_markets", &[], "limit=1000"), "markets");
    let by_event = |event: &str| -> Vec<&Value> {
        markets.iter().filter(|row| row["event_ticker"] == event).collect()
    };
    for milestone in milestones.iter().filter(|row| row["category"] == "Sports") {
        let event = rows(milestone, "primary_event_tickers")[0].as_str().unwrap().to_owned();
        if by_event(&event).first().is_none_or(|market| market["strike_type"] != "structured") {
            continue;
        }
        let id = text(milestone, "id");
        let live = bench.get("get_live_data_by_milestone", &[&id], "");
        let winner =
            live["live_data"]["details"]["winner_id"].as_str().unwrap_or("draw").to_owned();
        let paid: Vec<String> = by_event(&event)
            .into_iter()
            .filter(|market| market["result"] == "yes")
            .map(|market| text(&market["custom_strike"], "winner"))
            .collect();
        assert_eq!(paid, [winner], "{event}");
        games += 1;
    }
    assert!(games >= 100, "{games}");
}

#[test]
fn search_agrees_with_series_and_targets() {
    let mut bench = Bench::new();
    let tags = bench.get("get_tags_for_series_categories", &[], "")["tags_by_categories"].clone();
    for series in &bench.state.catalog.series {
        for tag in rows(series, "tags") {
            assert!(rows(&tags, &text(series, "category")).contains(&tag), "{tag}");
        }
    }
    let sports = bench.get("get_filters_for_sports", &[], "");
    let ordered = rows(&sports, "sport_ordering");
    assert_eq!(ordered.len(), sports["filters_by_sports"].as_object().unwrap().len());
    for sport in ordered {
        let filters = sports["filters_by_sports"][sport.as_str().unwrap()].clone();
        for competition in filters["competitions"].as_object().unwrap().keys() {
            let query = format!("competition={}&page_size=5", competition.replace(' ', "+"));
            let found = bench.get("get_structured_targets", &[], &query);
            assert_eq!(rows(&found, "structured_targets").len(), 5, "{competition}");
        }
    }
}

#[test]
fn programs_name_markets_of_the_catalogue_and_move_through_their_states_with_time() {
    let mut bench = Bench::new();
    let all = rows(&bench.get("get_incentive_programs", &[], "limit=10000"), "incentive_programs");
    assert!(all.len() > 300);
    for row in &all {
        let margin = text(row, "incentive_type").starts_with("margin");
        let known =
            bench.state.engine.market_by_ticker(row["market_ticker"].as_str().unwrap()).is_some();
        assert_ne!(margin, known, "{row}");
    }
    for days in [0, 5, 40] {
        bench.now += Duration::days(days);
        let mut together = 0;
        for status in ["active", "upcoming", "closed", "paid_out"] {
            let query = format!("limit=10000&status={status}");
            let rows =
                rows(&bench.get("get_incentive_programs", &[], &query), "incentive_programs");
            assert!(rows.iter().all(|row| row["paid_out"] == (status == "paid_out")));
            together += rows.len();
        }
        assert_eq!(together, all.len());
    }
    for (query, count) in [("type=all", 100), ("incentive_description=Rewards", 0)] {
        let body = bench.get("get_incentive_programs", &[], query);
        assert_eq!(rows(&body, "incentive_programs").len(), count, "{query}");
    }
    for bad in ["status=open", "type=margin_taker_volume", "limit=10001"] {
        assert_eq!(bench.status("get_incentive_programs", &[], bad, Value::Null), 400, "{bad}");
    }
}

#[test]
fn fee_changes_that_lie_ahead_come_to_pass_and_the_last_past_one_is_what_a_series_shows() {
    let mut bench = Bench::new();
    let series = bench.state.catalog.series.clone();
    let ahead = rows(&bench.get("get_series_fee_changes", &[], ""), "series_fee_change_arr");
    assert!(!ahead.is_empty());
    let all = bench.get("get_series_fee_changes", &[], "show_historical=true");
    let all = rows(&all, "series_fee_change_arr");
    for one in &series {
        let past = all.iter().find(|row| {
            row["series_ticker"] == one["ticker"]
                && text(row, "scheduled_ts").parse::<DateTime<Utc>>().unwrap() <= bench.now
        });
        assert_eq!(past.unwrap()["fee_type"], one["fee_type"]);
    }
    bench.now += Duration::days(46);
    let later = bench.get("get_series_fee_changes", &[], "");
    assert!(rows(&later, "series_fee_change_arr").is_empty());
    let events = bench.event_tickers();
    let body = bench.get("get_event_fee_changes", &[], "limit=1000");
    let changes = rows(&body, "event_fee_changes");
    assert!(changes.len() > 100);
    assert!(changes.iter().all(|row| events.contains(row["event_ticker"].as_str().unwrap())));
}

#[test]
fn archived_markets_trades_and_candles_say_the_same() {
    let mut bench = Bench::new();
    let cutoff = bench.get("get_historical_cutoff", &[], "");
    let settled: DateTime<Utc> = text(&cutoff, "market_settled_ts").parse().unwrap();
    let markets = rows(&bench.get("get_historical_markets", &[], "limit=1000"), "markets");
    let events = bench.event_tickers();
    assert!(markets.len() > 500, "{}", markets.len());
    for market in markets.iter().step_by(37) {
        assert!(events.contains(market["event_ticker"].as_str().unwrap()));
        assert!(text(market, "settlement_ts").parse::<DateTime<Utc>>().unwrap() < settled);
        let ticker = text(market, "ticker");
        assert!(bench.state.engine.market_by_ticker(&ticker).is_none(), "{ticker} is live too");
        assert_eq!(bench.get("get_historical_market", &[&ticker], "")["market"], *market);
        let body = bench.get("get_trades_historical", &[], &format!("ticker={ticker}"));
        let trades = rows(&body, "trades");
        assert!(trades.is_sorted_by(|a, b| text(a, "created_time") >= text(b, "created_time")));
        let volume: i64 = trades.iter().map(|trade| hundredths(trade, "count_fp")).sum();
        assert_eq!(volume, hundredths(market, "volume_fp"));
        assert_eq!(trades[0]["yes_price_dollars"], market["last_price_dollars"]);
        for period in [60, 1_440] {
            let query =
                format!("start_ts=0&end_ts={}&period_interval={period}", bench.now.timestamp());
            let body = bench.get("get_market_candlesticks_historical", &[&ticker], &query);
            let candles = rows(&body, "candlesticks");
            let in_candles: i64 = candles.iter().map(|candle| hundredths(candle, "volume")).sum();
            assert_eq!(in_candles, volume, "{ticker} {period}");
            assert!(
                candles.iter().all(|candle| {
                    candle["end_period_ts"].as_i64().unwrap() % (period * 60) == 0
                })
            );
            let last = candles.last().unwrap();
            let close = &last["price"]["close"];
            let close = if close.is_null() { &last["price"]["previous"] } else { close };
            assert_eq!(*close, market["last_price_dollars"]);
        }
    }
    let ticker = text(&markets[0], "ticker");
    for bad in [
        "start_ts=0&end_ts=1&period_interval=5",
        "start_ts=0&end_ts=1",
        "start_ts=2&end_ts=1&period_interval=60",
    ] {
        let status =
            bench.status("get_market_candlesticks_historical", &[&ticker], bad, Value::Null);
        assert_eq!(status, 400, "{bad}");
    }
    let far = format!("start_ts={}&end_ts={}&period_interval=1", i64::MIN, i64::MAX);
    let minutes = bench.get("get_market_candlesticks_historical", &[&ticker], &far);
    assert_eq!(rows(&minutes, "candlesticks").len(), 3 * 24 * 60);
    for two in ["event_ticker=a&series_ticker=b", "tickers=a&mve_filter=exclude", "mve_filter=only"]
    {
        assert_eq!(bench.status("get_historical_markets", &[], two, Value::Null), 400, "{two}");
    }
}

#[test]
fn archived_fills_belong_to_orders_and_trades_and_positions_follow_from_them() {
    let mut bench = Bench::new();
    let all = "limit=1000";
    let fills = rows(&bench.get("get_fills_historical", &[], all), "fills");
    let orders = rows(&bench.get("get_historical_orders", &[], all), "orders");
    assert!(fills.len() > 300 && orders.len() > fills.len());
    let mut trades = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let body = bench.get("get_trades_historical", &[], &format!("{all}&cursor={cursor}"));
        trades.extend(rows(&body, "trades").into_iter().map(|row| (text(&row, "trade_id"), row)));
        cursor = text(&body, "cursor");
        if cursor.is_empty() {
            break;
        }
    }
    for fill in &fills {
        let trade = &trades[&text(fill, "trade_id")];
        for key in ["ticker", "count_fp", "yes_price_dollars", "created_time"] {
            assert_eq!(fill[key], trade[key]);
        }
    }
    for order in &orders {
        let own: Vec<&Value> =
            fills.iter().filter(|fill| fill["order_id"] == order["order_id"]).collect();
        let filled: i64 = own.iter().map(|fill| hundredths(fill, "count_fp")).sum();
        assert_eq!(filled, hundredths(order, "fill_count_fp"));
        let fees: i64 = own.iter().map(|fill| micros(fill, "fee_cost")).sum();
        assert_eq!(fees, micros(order, "taker_fees_dollars") + micros(order, "maker_fees_dollars"));
        let whole = filled == hundredths(order, "initial_count_fp");
        assert_eq!(order["status"], if whole { "executed" } else { "canceled" });
        // No order was filled worse than its limit.
        let limit = micros(order, "yes_price_dollars");
        for fill in own {
            let price = micros(fill, "yes_price_dollars");
            assert!(if order["book_side"] == "bid" { price <= limit } else { price >= limit });
        }
    }
    let mut results = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let body = bench.get("get_historical_markets", &[], &format!("{all}&cursor={cursor}"));
        results.extend(rows(&body, "markets").into_iter().map(|row| (text(&row, "ticker"), row)));
        cursor = text(&body, "cursor");
        if cursor.is_empty() {
            break;
        }
    }
    let mut positions = 0;
    {
        let body = bench.get("get_historical_positions", &[], all);
        for row in rows(&body, "market_positions") {
            positions += 1;
            let of_market = || fills.iter().filter(|fill| fill["ticker"] == row["ticker"]);
            let fees: i64 = of_market().map(|fill| micros(fill, "fee_cost")).sum();
            assert_eq!(fees, micros(&row, "fees_paid_dollars"));
            // Whatever was paid came back with the result: a contract is worth 0 or 1 dollar.
            let value = micros(&results[&text(&row, "ticker")], "settlement_value_dollars");
            let profit: i64 = of_market()
                .map(|fill| {
                    let signed = if fill["book_side"] == "bid" { 1 } else { -1 };
                    let gain = value - micros(fill, "yes_price_dollars");
                    signed * hundredths(fill, "count_fp") * gain / 100
                })
                .sum();
            assert_eq!(profit, micros(&row, "realized_pnl_dollars"), "{row}");
            assert_eq!(row["position_fp"], "0.00");
        }
        let sum = |key: &str, of: &str| -> i64 {
            rows(&body, of).iter().map(|row| micros(row, key)).sum()
        };
        for key in ["realized_pnl_dollars", "fees_paid_dollars"] {
            assert_eq!(sum(key, "market_positions"), sum(key, "event_positions"));
        }
    }
    assert!(positions > 150, "{positions}");
    let primary = bench.get("get_historical_positions", &[], all);
    assert_eq!(primary, bench.get("get_historical_positions", &[], "limit=1000&subaccount=0"));
    bench.caller = Principal::member(bench.state.second_account);
    assert!(rows(&bench.get("get_fills_historical", &[], all), "fills").is_empty());
}

impl Bench {
    /// Trades in a market from the primary and another subaccount of the caller, lets all markets
    /// settle, and moves the cutoffs behind that.
    fn archive_everything(&mut self) -> String {
        let now = Time::from(self.now);
        let State { engine, .. } = &mut self.state;
        let account = self.caller.account;
        let market = engine.markets().iter().find(|m| m.status == MarketStatus::Active).unwrap();
        let (market, ticker, shard) = (market.id, market.ticker.clone(), market.shard);
        let number = engine.ledger.provision(account, shard, now).unwrap();
        engine.ledger.transfer(account, (0, shard), (number, shard), Dollars::ONE, now).unwrap();
        for subaccount in [0, number] {
            let new = NewOrder {
                subaccount,
                time_in_force: TimeInForce::ImmediateOrCancel,
                ..NewOrder::resting(
                    account,
                    ticker.clone(),
                    Side::Bid,
                    Dollars::from_micros(990_000),
                    Count::ONE,
                )
            };
            assert_eq!(engine.place_order(&new, now).unwrap().filled, Count::ONE);
        }
        let listed: Vec<_> = engine.markets().iter().map(|market| market.id).collect();
        for market in listed {
            // Those that are settled already stay so.
            let _ = engine.determine(market, MarketResult::Yes, now);
        }
        assert_eq!(engine.market(market).unwrap().status, MarketStatus::Determined);
        self.now += Duration::days(1);
        let later = Time::from(self.now);
        engine.advance(later);
        engine.set_cutoffs(Cutoffs { markets: later, trades: later, orders: later });
        ticker
    }
}

#[test]
fn what_is_older_than_the_cutoffs_is_in_the_archive_and_nowhere_else() {
    let mut bench = Bench::new();
    let before = rows(&bench.get("get_fills_historical", &[], "limit=1000"), "fills");
    let ticker = bench.archive_everything();
    let query = format!("ticker={ticker}&limit=1000");
    for (live, old, list, count) in [
        ("get_fills", "get_fills_historical", "fills", 2),
        ("get_orders", "get_historical_orders", "orders", 2),
    ] {
        assert!(rows(&bench.get(live, &[], "limit=1000"), list).is_empty(), "{live}");
        assert_eq!(rows(&bench.get(old, &[], &query), list).len(), count, "{old}");
    }
    let order = text(&bench.get("get_historical_orders", &[], &query)["orders"][0], "order_id");
    assert_eq!(bench.status("get_order", &[&order], "", Value::Null), 404);
    let all = bench.get("get_positions", &[], "settlement_status=all");
    assert!(rows(&all, "market_positions").is_empty());
    let old = bench.get("get_historical_positions", &[], &format!("ticker={ticker}"));
    assert_eq!(rows(&old, "market_positions").len(), 1);
    for (id, path) in [("get_market", vec![&*ticker]), ("get_market_orderbook", vec![&*ticker])] {
        assert_eq!(bench.status(id, &path, "", Value::Null), 404, "{id}");
    }
    assert!(rows(&bench.get("get_markets", &[], ""), "markets").is_empty());
    assert!(rows(&bench.get("get_trades", &[], &query), "trades").is_empty());
    assert!(rows(&bench.get("get_trades", &[], ""), "trades").is_empty());
    assert!(!rows(&bench.get("get_trades_historical", &[], &query), "trades").is_empty());
    let market = bench.get("get_historical_market", &[&ticker], "")["market"].clone();
    assert_eq!((&market["status"], &market["result"]), (&json!("finalized"), &json!("yes")));
    assert!(market["floor_strike"].is_number(), "{market}");
    // Settlements stay.
    let settled =
        rows(&bench.get("get_settlements", &[], &format!("ticker={ticker}")), "settlements");
    assert_eq!(settled.len(), 2);
    let body = json!({
        "ticker": ticker, "side": "bid", "count": "1", "price": "0.01",
        "time_in_force": "good_till_canceled", "self_trade_prevention_type": "maker",
    });
    assert_eq!(bench.status("create_order_v2", &[], "", body), 404);
    // A key for one subaccount reads its own.
    let all = "limit=1000";
    let fills = rows(&bench.get("get_fills_historical", &[], all), "fills");
    assert_eq!(fills.len(), before.len() + 2);
    bench.caller.bound = Some(1);
    let bound = rows(&bench.get("get_fills_historical", &[], all), "fills");
    assert_eq!(bound.len(), 1);
    assert_eq!(bound[0]["subaccount_number"], 1);
    let orders = rows(&bench.get("get_historical_orders", &[], all), "orders");
    assert_eq!(orders.len(), 1);
    let other = bench.status("get_fills_historical", &[], "subaccount=0", Value::Null);
    assert_eq!(other, 403);
    bench.state.engine.audit().unwrap();
}

#[test]
fn forecasts_grow_with_the_percentile_and_bad_ones_are_refused() {
    let mut bench = Bench::new();
    let event = bench.state.catalog.events[1].clone();
    let (series, ticker) = (text(&event, "series_ticker"), text(&event, "event_ticker"));
    let end = bench.now.timestamp();
    let range = format!("start_ts={}&end_ts={end}", end - 3_600);
    let id = "get_event_forecast_percentiles_history";
    for (interval, periods) in [(0, 720..=721), (1, 60..=61), (60, 1..=2)] {
        let query = format!(
            "percentiles=9000&percentiles=5000&percentiles=10&period_interval={interval}&{range}"
        );
        let body = bench.get(id, &[&series, &ticker], &query);
        let points = rows(&body, "forecast_history");
        assert!(periods.contains(&points.len()), "{interval}: {}", points.len());
        for point in points {
            let values: Vec<f64> = rows(&point, "percentile_points")
                .iter()
                .map(|row| row["raw_numerical_forecast"].as_f64().unwrap())
                .collect();
            assert!(values[0] > values[1] && values[1] > values[2], "{values:?}");
        }
    }
    let eleven = ["percentiles=1"; 11].join("&");
    for bad in [
        format!("period_interval=1&{range}"),
        format!("percentiles=10000&period_interval=1&{range}"),
        format!("percentiles=5000&period_interval=5&{range}"),
        format!("{eleven}&period_interval=1&{range}"),
        format!("percentiles=5000&period_interval=0&start_ts=0&end_ts={end}"),
        "percentiles=5000&period_interval=1".to_owned(),
    ] {
        assert_eq!(bench.status(id, &[&series, &ticker], &bad, Value::Null), 400, "{bad}");
    }
    let query = format!("percentiles=5000&period_interval=60&{range}");
    assert_eq!(bench.status(id, &["OTHER", &ticker], &query, Value::Null), 404);
}

#[test]
fn charts_have_windows_and_freeze_when_their_event_is_over() {
    let mut bench = Bench::new();
    let of = |series: &str| -> Vec<String> {
        let events = bench.state.catalog.events.iter();
        events
            .filter(|event| event["series_ticker"] == series)
            .map(|event| text(event, "event_ticker"))
            .collect()
    };
    let (coin, film) = (of("KXSIMCOIN"), of("KXSIMFILM"));
    let open = bench.get("get_event_live_data", &[&coin[1]], "")["live_data"].clone();
    assert_eq!(open["details"]["range"], open["default_range"]);
    assert_eq!(open.get("is_historical"), None);
    for range in rows(&open, "range_options") {
        let query = format!("range={}", range.as_str().unwrap());
        let chart = bench.get("get_event_live_data", &[&coin[1]], &query);
        assert!(rows(&chart["live_data"]["details"], "points").len() > 50);
    }
    let over = bench.get("get_event_live_data", &[&coin[0]], "");
    assert_eq!(over["live_data"]["is_historical"], true);
    bench.now += Duration::hours(9);
    assert_eq!(bench.get("get_event_live_data", &[&coin[0]], ""), over);
    assert_eq!(bench.status("get_event_live_data", &[&coin[0]], "range=1y", Value::Null), 400);
    assert_eq!(bench.status("get_event_live_data", &[&film[0]], "", Value::Null), 404);
}

const CREATE: &str = "create_market_in_multivariate_event_collection";

/// Legs from so many different events of an open collection, and the collection.
fn legs(bench: &mut Bench, count: usize) -> (String, Vec<Value>) {
    let query = "status=open&series_ticker=KXMVESIMCROSS";
    let collections = bench.get("get_multivariate_event_collections", &[], query);
    let collection = rows(&collections, "multivariate_contracts")[0].clone();
    let legs = rows(&collection, "associated_events")
        .iter()
        .filter_map(|event| {
            let event = text(event, "ticker");
            let of_event = |market: &&crate::engine::Market| market.event_ticker == event;
            let market = bench.state.engine.markets().iter().find(of_event)?;
            let ticker = &market.ticker;
            Some(json!({"market_ticker": ticker, "event_ticker": event, "side": "yes"}))
        })
        .take(count)
        .collect();
    (text(&collection, "collection_ticker"), legs)
}

#[test]
fn a_combo_is_opened_once_whatever_the_order_of_its_legs() {
    let mut bench = Bench::new();
    let (collection, legs) = legs(&mut bench, 3);
    let body = json!({"selected_markets": legs, "with_market_payload": true});
    let (status, first) = bench.ask(CREATE, &[&collection], "", body);
    assert_eq!(status, 200);
    assert_eq!(first["market"]["mve_collection_ticker"], collection);
    assert_eq!(rows(&first["market"], "mve_selected_legs").len(), 3);
    let turned: Vec<Value> = legs.iter().rev().cloned().collect();
    let (_, again) = bench.ask(CREATE, &[&collection], "", json!({"selected_markets": turned}));
    assert_eq!(again["market_ticker"], first["market_ticker"]);
    assert_eq!(again.get("market"), None);
    let query = format!("collection_ticker={collection}&with_nested_markets=true");
    let events = rows(&bench.get("get_multivariate_events", &[], &query), "events");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event_ticker"], first["event_ticker"]);
    assert_eq!(events[0]["markets"][0]["ticker"], first["market_ticker"]);
    let both = format!("{query}&series_ticker=KXMVESIMCROSS");
    assert_eq!(bench.status("get_multivariate_events", &[], &both, Value::Null), 400);
}

#[test]
fn legs_that_break_a_rule_are_refused_and_named() {
    let mut bench = Bench::new();
    let (collection, legs) = legs(&mut bench, 2);
    let market = text(&legs[0], "market_ticker");
    let against = {
        let mut leg = legs[0].clone();
        leg["side"] = json!("no");
        leg
    };
    let stranger =
        json!({"market_ticker": "NONE", "event_ticker": legs[1]["event_ticker"], "side": "yes"});
    for (legs, code, details) in [
        (json!([legs[0], legs[0], legs[1]]), "duplicated_legs", &*market),
        (json!([legs[0], against, legs[1]]), "conflicting_leg_outcomes", &*market),
        (json!([legs[0], stranger]), "invalid_market_combination", "NONE"),
        (json!([legs[0]]), "invalid_market_combination", &*market),
        (json!([]), "invalid_market_combination", ""),
    ] {
        let body = json!({"selected_markets": legs});
        let (status, refusal) = bench.ask(CREATE, &[&collection], "", body);
        assert_eq!((status, &refusal["error"]["code"]), (400, &json!(code)), "{refusal}");
        assert_eq!(refusal["error"]["details"], details);
    }
    for body in [
        json!({}),
        json!({"selected_markets": "all"}),
        json!({"selected_markets": legs, "side": "yes"}),
        json!({"selected_markets": [{"market_ticker": market}, {}]}),
    ] {
        assert_eq!(bench.status(CREATE, &[&collection], "", body), 400);
    }
    let body = json!({"selected_markets": legs});
    assert_eq!(bench.status(CREATE, &["NONE"], "", body.clone()), 404);
    bench.now += Duration::days(300);
    assert_eq!(bench.status(CREATE, &[&collection], "", body), 400);
}

#[test]
fn five_thousand_combos_a_week_and_no_more() {
    let mut bench = Bench::new();
    let (collection, _) = legs(&mut bench, 2);
    let body = bench.get("get_multivariate_event_collection", &[&collection], "");
    let events: BTreeSet<String> = rows(&body["multivariate_contract"], "associated_events")
        .iter()
        .map(|event| text(event, "ticker"))
        .collect();
    let markets: Vec<(String, String)> = bench
        .state
        .engine
        .markets()
        .iter()
        .filter(|market| events.contains(&market.event_ticker))
        .map(|market| (market.ticker.clone(), market.event_ticker.clone()))
        .collect();
    let shown: BTreeMap<String, Value> = bench
        .state
        .engine
        .markets()
        .iter()
        .map(|market| {
            let about = bench.state.catalog.about(&market.ticker);
            (market.ticker.clone(), wire::market(&bench.state.engine, about, market))
        })
        .collect();
    let mut made = BTreeSet::new();
    let mut create = |legs: &[Value]| {
        let body = json!({"selected_markets": legs});
        let mut markets = Nowhere(&shown);
        let State { catalog, fixtures, .. } = &mut bench.state;
        let (account, events) = (bench.caller.account, &catalog.events);
        fixtures.collections.create(account, &collection, &body, events, &mut markets, bench.now)
    };
    // Two legs of different events, each with both sides, and a third one.
    let mut refusal = None;
    'all: for (place, first) in markets.iter().enumerate() {
        for second in markets.iter().skip(place + 1) {
            for third in &markets {
                let different: BTreeSet<&str> = [first, second, third].map(|m| &*m.1).into();
                if different.len() < 3 || third.0 < second.0 {
                    continue;
                }
                for side in ["yes", "no"] {
                    let leg = |(market, event): &(String, String), side: &str| json!({"market_ticker": market, "event_ticker": event, "side": side});
                    let legs = [leg(first, side), leg(second, "yes"), leg(third, "no")];
                    match create(&legs) {
                        Ok(reply) => {
                            let body = reply.body.expect("it has a body");
                            made.insert(text(&body, "market_ticker"));
                        }
                        Err(reply) => {
                            refusal = Some(reply);
                            break 'all;
                        }
                    }
                }
            }
        }
    }
    let reply = refusal.expect("there are more than that");
    assert_eq!((made.len(), reply.status), (5_000, 429));
    assert_eq!(reply.body, Some(json!({"error": "too many requests"})));
}

/// Markets that are there, and a hole for those that are opened.
struct Nowhere<'a>(&'a BTreeMap<String, Value>);

impl MarketDirectory for Nowhere<'_> {
    fn market(&self, ticker: &str) -> Option<Value> {
        self.0.get(ticker).cloned()
    }

    fn markets_of(&self, event: &str) -> Vec<Value> {
        let of_event = self.0.values().filter(|market| market["event_ticker"] == event);
        of_event.cloned().collect()
    }

    fn open(&mut self, _: NewMarket, _: DateTime<Utc>) -> Result<(), Response> {
        Ok(())
    }
}

#[test]
fn only_members_may_use_the_fcm_operations() {
    let mut bench = Bench::new();
    for operation in kalshi_sdk::OPERATIONS.iter().filter(|operation| operation.tag == "fcm") {
        assert_eq!(bench.status(operation.id, &[], "subtrader_id=x", json!({})), 403);
    }
}

#[test]
fn a_subtrader_is_made_once_capped_and_blocked() {
    let mut bench = Bench::member();
    let (status, made) =
        bench.ask("create_fcm_subtrader", &[], "", json!({"subtrader_suffix": "desk7"}));
    let id = text(&made, "subtrader_id");
    assert_eq!((status, &*id), (201, &*format!("{}_desk7", bench.caller.account)));
    let suffixes = ["", "Désk", "a-b", "12345678901234567"];
    for suffix in suffixes {
        let body = json!({"subtrader_suffix": suffix});
        assert_eq!(bench.status("create_fcm_subtrader", &[], "", body), 400, "{suffix}");
    }
    let body = json!({"subtrader_suffix": "desk7"});
    assert_eq!(bench.status("create_fcm_subtrader", &[], "", body), 409);
    let pending = |bench: &mut Bench| {
        let list = rows(&bench.get("list_fcm_subtraders", &[], ""), "subtraders");
        list.iter().find(|row| row["subtrader_id"] == *id).unwrap()["propagation_pending"].clone()
    };
    assert_eq!(pending(&mut bench), true);
    bench.now += Duration::seconds(5);
    assert_eq!(pending(&mut bench), false);

    let named = format!("subtrader_id={id}");
    let (get, put, delete) = (
        "get_fcm_event_contract_daily_cap",
        "update_fcm_event_contract_daily_cap",
        "delete_fcm_event_contract_daily_cap",
    );
    assert_eq!(bench.status(get, &[], &named, Value::Null), 404);
    assert_eq!(bench.status(get, &[], "", Value::Null), 400);
    let cap = |limit: &str| json!({"subtrader_id": id, "limit": limit});
    for (limit, status) in [("250.5", 200), ("-1", 400), ("much", 400)] {
        assert_eq!(bench.status(put, &[], "", cap(limit)), status, "{limit}");
    }
    assert_eq!(bench.get(get, &[], &named)["limit"], "250.5000");
    assert_eq!(bench.get(delete, &[], &named), json!({}));
    assert_eq!(bench.status(delete, &[], &named, Value::Null), 404);
    assert_eq!(bench.status(delete, &[], "subtrader_id=x", Value::Null), 404);

    let (get, put) =
        ("get_fcm_subtrader_blocked_categories", "update_fcm_subtrader_blocked_categories");
    let block = |category: &str, blocked: bool| json!({"subtrader_id": id, "category": category, "blocked": blocked});
    for _ in 0..2 {
        let (_, body) = bench.ask(put, &[], "", block("Crypto", true));
        assert_eq!(body, json!({"categories": ["Crypto"]}));
    }
    assert_eq!(bench.get(get, &[], &named), json!({"categories": ["Crypto"]}));
    let (_, body) = bench.ask(put, &[], "", block("Crypto", false));
    assert_eq!(body, json!({"categories": []}));
}

#[test]
fn s10_a_list_of_all_subtraders_is_refused() {
    let mut bench = Bench::member();
    let id = format!("{}_alpha", bench.caller.account);
    let named = format!("subtrader_id={id}");
    for operation in ["get_fcm_orders", "get_fcm_positions"] {
        for query in ["", "ticker=A", "status=resting", "settlement_status=all"] {
            assert_eq!(
                bench.status(operation, &[], query, Value::Null),
                400,
                "{operation} {query}"
            );
        }
        assert_eq!(bench.status(operation, &[], &named, Value::Null), 200);
    }
    let orders = rows(&bench.get("get_fcm_orders", &[], &named), "orders");
    let query = format!("client_order_ids={}", text(&orders[0], "client_order_id"));
    assert_eq!(rows(&bench.get("get_fcm_orders", &[], &query), "orders"), orders[..1]);
}

#[test]
fn s11_a_category_that_no_series_has_can_be_blocked() {
    let mut bench = Bench::member();
    let id = format!("{}_alpha", bench.caller.account);
    let put = "update_fcm_subtrader_blocked_categories";
    let mut block = |category: &str, blocked: bool| {
        let body = json!({"subtrader_id": id, "category": category, "blocked": blocked});
        bench.ask(put, &[], "", body)
    };
    assert_eq!(block("Politics", false), (200, json!({"categories": []})));
    assert_eq!(block("Politics", true), (200, json!({"categories": ["Politics"]})));
    let longest = "é".repeat(100);
    assert_eq!(block(&longest, false).0, 200);
    for category in ["", &format!("{longest}é")] {
        assert_eq!(block(category, true).0, 400, "{category}");
    }
    for number in 0..2_000 {
        let status = block(&format!("Category {number}"), true).0;
        assert_eq!(status, if number < 999 { 200 } else { 400 }, "{number}");
    }
}

#[test]
fn c12_the_suffix_of_a_subtrader_keeps_its_case() {
    let mut bench = Bench::member();
    let mut create = |suffix: &str| {
        let body = json!({"subtrader_suffix": suffix});
        bench.ask("create_fcm_subtrader", &[], "", body)
    };
    let (status, made) = create("AbC9");
    assert!(status == 201 && text(&made, "subtrader_id").ends_with("_AbC9"), "{made}");
    assert_eq!(create("abc9").0, 201, "another one");
    assert_eq!(create("AbC9").0, 409);
}

/// Contracts that a subtrader of the caller holds in a market.
fn held(bench: &mut Bench, suffix: &str, ticker: &str) -> i64 {
    let query = format!("subtrader_id={}_{suffix}&ticker={ticker}", bench.caller.account);
    let body = bench.get("get_fcm_positions", &[], &query);
    rows(&body, "market_positions").first().map_or(0, |row| hundredths(row, "position_fp"))
}

const TRANSFER: &str = "create_fcm_position_transfer";

/// Returns the body of a transfer from the first subtrader.
fn transfer(bench: &Bench, target: &str, ticker: &str, count: i64, price: i64) -> Value {
    let firm = bench.caller.account;
    json!({
        "source_subtrader_id": format!("{firm}_alpha"),
        "target_subtrader_id": format!("{firm}_{target}"),
        "market_ticker": ticker,
        "position_centicount": count,
        "price_centicents": price,
    })
}

#[test]
fn c14_a_transfer_moves_whole_contracts_for_whole_cents() {
    let mut bench = Bench::member();
    let query = format!("subtrader_id={}_alpha", bench.caller.account);
    let body = bench.get("get_fcm_positions", &[], &query);
    let row = rows(&body, "market_positions")
        .into_iter()
        .find(|row| hundredths(row, "position_fp") > 100)
        .unwrap();
    let (ticker, all) = (text(&row, "ticker"), hundredths(&row, "position_fp"));
    let beta = held(&mut bench, "beta", &ticker);
    for (target, market, count, price, status) in [
        ("beta", &*ticker, 150, 5_000, 400),
        ("beta", &ticker, 1, 5_000, 400),
        ("beta", &ticker, 0, 5_000, 400),
        ("beta", &ticker, 100, 5_001, 400),
        ("beta", &ticker, 100, -100, 400),
        ("beta", &ticker, 100, 10_100, 400),
        ("alpha", &ticker, 100, 5_000, 400),
        ("be-ta", &ticker, 100, 5_000, 404),
        ("beta", "NONE", 100, 5_000, 404),
        ("beta", &ticker, i64::MAX / 100 * 100, 5_000, 400),
        // More than the two have money for.
        ("beta", &ticker, 10_000_000, 5_000, 409),
        ("beta", &ticker, 100, 5_000, 201),
    ] {
        let body = transfer(&bench, target, market, count, price);
        assert_eq!(bench.status(TRANSFER, &[], "", body.clone()), status, "{body}");
    }
    assert_eq!(held(&mut bench, "alpha", &ticker), all - 100);
    assert_eq!(held(&mut bench, "beta", &ticker), beta + 100);
    let mut body = transfer(&bench, "beta", &ticker, 100, 5_000);
    body["source_subtrader_id"] = json!(format!("{}_nobody", bench.caller.account));
    assert_eq!(bench.status(TRANSFER, &[], "", body), 404);
    bench.state.engine.audit().unwrap();
}

#[test]
fn c14_a_transfer_charges_no_fee_makes_no_fill_and_happens_again_when_sent_again() {
    let mut bench = Bench::member();
    let ticker = bench.open_market();
    let account = |bench: &Bench, suffix: &str| {
        let firm = bench.state.fixtures.fcm.known(bench.caller).unwrap();
        firm.subtrader(&format!("{}_{suffix}", bench.caller.account)).unwrap().account
    };
    let cash = |bench: &Bench, suffix: &str| -> Dollars {
        let account = bench.state.engine.ledger.account(account(bench, suffix)).unwrap();
        account.cash.values().fold(Dollars::ZERO, |sum, one| sum.saturating_add(one.cash))
    };
    let fills = bench.get("get_fcm_fills", &[], "");
    let trades = bench.state.engine.trades().len();
    let before = (cash(&bench, "alpha"), cash(&bench, "beta"));
    let held_before = (held(&mut bench, "alpha", &ticker), held(&mut bench, "beta", &ticker));
    // The source need not hold them: ten NO contracts at 70 cents, twice.
    for _ in 0..2 {
        let body = transfer(&bench, "beta", &ticker, -1_000, 3_000);
        assert_eq!(bench.status(TRANSFER, &[], "", body), 201);
    }
    assert_eq!(held(&mut bench, "alpha", &ticker), held_before.0 + 2_000);
    assert_eq!(held(&mut bench, "beta", &ticker), held_before.1 - 2_000);
    assert_eq!(bench.get("get_fcm_fills", &[], ""), fills);
    assert_eq!(bench.state.engine.trades().len(), trades);
    // What they pay is the price of their side, less a dollar for each pair that became cash.
    let netted = |had: i64, signed: i64| had.abs().min(2_000) * i64::from(had * signed < 0);
    let change = |cost: i64, netted: i64| Dollars::from_micros(10_000 * (netted - cost));
    let alpha = change(20 * 30, netted(held_before.0, 1));
    let beta = change(20 * 70, netted(held_before.1, -1));
    assert_eq!(cash(&bench, "alpha"), before.0.saturating_add(alpha));
    assert_eq!(cash(&bench, "beta"), before.1.saturating_add(beta));
    bench.state.engine.audit().unwrap();
}

#[test]
fn c14_the_target_is_made_at_its_first_use() {
    let mut bench = Bench::member();
    let ticker = bench.open_market();
    let query = format!("subtrader_id={}_Errors1", bench.caller.account);
    assert_eq!(bench.status("get_fcm_positions", &[], &query, Value::Null), 404);
    for times in 1..=2 {
        let body = transfer(&bench, "Errors1", &ticker, 300, 4_000);
        assert_eq!(bench.status(TRANSFER, &[], "", body), 201);
        assert_eq!(held(&mut bench, "Errors1", &ticker), 300 * times);
    }
    let listed = rows(&bench.get("list_fcm_subtraders", &[], ""), "subtraders");
    assert_eq!(listed.len(), 4);
    // It has no daily cap.
    let cap = "get_fcm_event_contract_daily_cap";
    assert_eq!(bench.status(cap, &[], &query, Value::Null), 404);
    // A market that is closed, and a category that is blocked, are refused.
    let closed = bench.state.engine.markets()[0].ticker.clone();
    let body = transfer(&bench, "beta", &closed, 100, 5_000);
    assert_eq!(bench.status(TRANSFER, &[], "", body), 409);
    let series = bench.state.engine.market_by_ticker(&ticker).unwrap().series_ticker.clone();
    let series = bench.get("get_series", &[&series], "")["series"].clone();
    let block = json!({
        "subtrader_id": format!("{}_beta", bench.caller.account),
        "category": series["category"],
        "blocked": true,
    });
    let put = "update_fcm_subtrader_blocked_categories";
    assert_eq!(bench.status(put, &[], "", block), 200);
    let body = transfer(&bench, "beta", &ticker, 100, 5_000);
    assert_eq!(bench.status(TRANSFER, &[], "", body), 409);
    // Ten a second.
    bench.now += Duration::seconds(1);
    for times in 1..=11 {
        let body = transfer(&bench, "gamma", &ticker, 100, 0);
        let expected = if times <= 10 { 201 } else { 429 };
        assert_eq!(bench.status(TRANSFER, &[], "", body), expected, "{times}");
    }
    bench.now += Duration::seconds(1);
    let body = transfer(&bench, "gamma", &ticker, 100, 0);
    assert_eq!(bench.status(TRANSFER, &[], "", body), 201);
}

/// Places an order of a subtrader.
fn place(bench: &mut Bench, suffix: &str, new: &NewOrder) -> Result<Executed, Refusal> {
    let id = format!("{}_{suffix}", bench.caller.account);
    let State { engine, fixtures, catalog, .. } = &mut bench.state;
    let firm = fixtures.fcm.known(bench.caller).unwrap();
    firm.place(&id, new, &catalog.series, engine, bench.now.into())
}

#[test]
fn c13_without_a_daily_cap_every_order_is_rejected() {
    let mut bench = Bench::member();
    let ticker = bench.open_market();
    let (_, made) = bench.ask("create_fcm_subtrader", &[], "", json!({"subtrader_suffix": "New"}));
    let id = text(&made, "subtrader_id");
    let cents = |cents| Dollars::from_cents(cents).unwrap();
    let bid = |price, count| {
        // The account is that of the subtrader, whatever stands here.
        NewOrder::resting(AccountId(0), ticker.clone(), Side::Bid, cents(price), count)
    };
    let ten = Count::from_contracts(10).unwrap();
    let refused = place(&mut bench, "New", &bid(1, ten)).unwrap_err();
    assert_eq!(refused.code, "daily_cap_missing");
    let cap = |limit: &str| json!({"subtrader_id": id, "limit": limit});
    let put = "update_fcm_event_contract_daily_cap";
    assert_eq!(bench.status(put, &[], "", cap("0.30")), 200);
    // Ten cents, twenty, thirty: what rests counts.
    for _ in 0..3 {
        place(&mut bench, "New", &bid(1, ten)).unwrap();
    }
    let refused = place(&mut bench, "New", &bid(1, Count::from_hundredths(1))).unwrap_err();
    assert_eq!(refused.code, "daily_cap_exceeded");
    // A lower cap, or none, cancels nothing.
    let query = format!("subtrader_id={id}");
    let resting = format!("{query}&status=resting");
    assert_eq!(bench.status(put, &[], "", cap("0.01")), 200);
    assert_eq!(bench.get("delete_fcm_event_contract_daily_cap", &[], &query), json!({}));
    assert_eq!(rows(&bench.get("get_fcm_orders", &[], &resting), "orders").len(), 3);
    let refused = place(&mut bench, "New", &bid(1, ten)).unwrap_err();
    assert_eq!(refused.code, "daily_cap_missing");
}

#[test]
fn c13_fills_count_until_midnight_in_new_york_and_what_rests_as_long_as_it_does() {
    let mut bench = Bench::member();
    // 21 September 2026, 14:13 UTC: ten in the morning in New York.
    let ticker = bench.open_market();
    let (_, made) = bench.ask("create_fcm_subtrader", &[], "", json!({"subtrader_suffix": "New"}));
    let id = text(&made, "subtrader_id");
    let put = "update_fcm_event_contract_daily_cap";
    let cap = json!({"subtrader_id": id, "limit": "50"});
    assert_eq!(bench.status(put, &[], "", cap), 200);
    let used = |bench: &mut Bench| {
        let query = format!("subtrader_id={id}");
        let cap = bench.get("get_fcm_event_contract_daily_cap", &[], &query);
        let [executed, resting, pending] = ["executed", "resting_order", "pending_order"]
            .map(|name| micros(&cap, &format!("{name}_utilization")));
        assert_eq!(pending, 0);
        (executed, resting, text(&cap, "cap_date"))
    };
    let ask = bench.state.engine.market_by_ticker(&ticker).unwrap().prices().yes_ask();
    let order = |side, price, count| {
        let count = Count::from_contracts(count).unwrap();
        NewOrder::resting(AccountId(0), ticker.clone(), side, price, count)
    };
    let done = place(&mut bench, "New", &order(Side::Bid, ask, 2)).unwrap();
    assert_eq!(done.filled, Count::from_contracts(2).unwrap());
    place(&mut bench, "New", &order(Side::Bid, Dollars::CENT, 100)).unwrap();
    let bought = 2 * ask.as_micros();
    assert_eq!(used(&mut bench), (bought, 1_000_000, "2026-09-21".to_owned()));
    // Selling one gives its premium back.
    let bid = bench.state.engine.market_by_ticker(&ticker).unwrap().prices().yes_bid();
    let done = place(&mut bench, "New", &order(Side::Ask, bid, 1)).unwrap();
    assert_eq!(done.filled, Count::ONE);
    let net = bought - bid.as_micros();
    assert_eq!(used(&mut bench), (net, 1_000_000, "2026-09-21".to_owned()));
    bench.now = "2026-09-22T03:59:59Z".parse().unwrap();
    assert_eq!(used(&mut bench), (net, 1_000_000, "2026-09-21".to_owned()));
    bench.now = "2026-09-22T04:00:00Z".parse().unwrap();
    assert_eq!(used(&mut bench), (0, 1_000_000, "2026-09-22".to_owned()));
}

#[test]
fn fcm_fills_orders_and_positions_say_the_same() {
    let mut bench = Bench::member();
    let of_all = |bench: &mut Bench, id: &str, list: &str, query: &str| -> Vec<Value> {
        let firm = bench.caller.account.to_string();
        ["alpha", "beta", "gamma"]
            .iter()
            .map(|suffix| format!("subtrader_id={firm}_{suffix}&limit=1000&{query}"))
            .flat_map(|query| rows(&bench.get(id, &[], &query), list))
            .collect()
    };
    let orders = of_all(&mut bench, "get_fcm_orders", "orders", "");
    let mut fills = Vec::new();
    let mut cursor = String::new();
    loop {
        let body = bench.get("get_fcm_fills", &[], &format!("cursor={cursor}"));
        fills.extend(rows(&body, "fills"));
        cursor = text(&body, "cursor");
        if cursor.is_empty() {
            break;
        }
    }
    assert!(fills.len() >= 100 && orders.len() > fills.len());
    for fill in &fills {
        for side in ["maker", "taker"] {
            let Some(id) = fill[format!("{side}_order_id")].as_str() else { continue };
            let order = orders.iter().find(|order| order["order_id"] == *id).unwrap();
            assert_eq!(order["user_id"], fill[format!("{side}_subtrader_id")]);
            assert_eq!(order["fill_count_fp"], fill["count_fp"]);
        }
    }
    // What subtraders hold is what they traded with others: between them it nets to zero.
    let all = "settlement_status=all";
    let held: i64 = of_all(&mut bench, "get_fcm_positions", "market_positions", all)
        .iter()
        .map(|row| hundredths(row, "position_fp"))
        .sum();
    let outside: i64 = fills
        .iter()
        .filter(|fill| fill.get("maker_order_id").is_none())
        .map(|fill| hundredths(fill, "count_fp"))
        .sum();
    assert_eq!(held, outside);
    let resting = of_all(&mut bench, "get_fcm_orders", "orders", "status=resting");
    assert!(!resting.is_empty() && resting.iter().all(|row| row["status"] == "resting"));
    for (id, bad, status) in [
        ("get_fcm_orders", "status=open", 400),
        ("get_fcm_orders", "subtrader_id=x", 404),
        ("get_fcm_positions", "settlement_status=open", 400),
        ("get_fcm_positions", "count_filter=weight", 400),
        ("get_fcm_positions", "subtrader_id=x", 404),
        ("get_fcm_fills", "min_ts=x", 400),
    ] {
        assert_eq!(bench.status(id, &[], bad, Value::Null), status, "{id} {bad}");
    }
}

#[test]
fn requests_shaken_together_get_an_answer_and_no_panic() {
    let mut bench = Bench::member();
    let mut dice = Dice::new(11, "shaken");
    let event = text(&bench.state.catalog.events[1], "event_ticker");
    let milestone = text(&bench.milestones()[0], "id");
    let archived =
        text(&rows(&bench.get("get_historical_markets", &[], "limit=1"), "markets")[0], "ticker");
    let (collection, _) = legs(&mut bench, 1);
    let paths = ["miami", "KXSIMTEMP", "", "%00", &event, &milestone, &archived, &collection];
    let values = [
        "0",
        "-1",
        "1",
        "60",
        "1789990000",
        "1790000000",
        "9223372036854775807",
        "-9223372036854775808",
        "99999999999999999999",
        "true",
        "all",
        "open",
        "2026-01-01T00:00:00Z",
        "%F0%9F%8E%B2",
        "cm93OjU",
        "",
    ];
    let bodies = [
        json!(null),
        json!([]),
        json!({}),
        json!({"selected_markets": [{"market_ticker": "", "event_ticker": "", "side": "yes"}]}),
        json!({"subtrader_suffix": "a"}),
        json!({"subtrader_id": "", "limit": "1e9"}),
        json!({"subtrader_id": format!("{}_alpha", bench.caller.account), "limit": "99999999999.9999"}),
    ];
    let mut answers = BTreeMap::new();
    for _ in 0..6_000 {
        let Some(operation) = dice.pick(kalshi_sdk::OPERATIONS) else { continue };
        let path = [0, 1].map(|_| dice.pick(&paths).copied().unwrap_or_default());
        let mut query = String::new();
        for parameter in operation.parameters {
            if dice.number(0..=3) > 0 {
                let value = dice.pick(&values).copied().unwrap_or_default();
                query.extend([parameter.name, "=", value, "&"]);
            }
        }
        let body = dice.pick(&bodies).cloned().unwrap_or_default();
        let (status, _) = bench.ask(operation.id, &path, &query, body);
        *answers.entry(status / 100).or_insert(0) += 1;
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [2, 4], "{answers:?}");
    assert!(answers.values().all(|count| *count > 300), "{answers:?}");
}
