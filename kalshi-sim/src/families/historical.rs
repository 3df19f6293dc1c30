//! The archive: markets that settled long ago, with trades and candles, and what the first account
//! did in them. Fills belong to orders and to trades, positions follow from fills and results.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, Duration, Utc};
use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};

use crate::{
    families::{
        Account,
        dice::Dice,
        ledger::{Holding, ONE, event_wire, taker_fee},
        milestones::{Milestones, Play},
        targets::{COMPETITIONS, Targets},
    },
    query::{Paging, Query},
    reply::{Outcome, Reply},
};

/// How far back the archive begins, and how far the orders' own cutoff lies.
const CUTOFF_DAYS: u64 = 90;
const ORDER_CUTOFF_DAYS: u64 = 14;
/// Archived events of each series.
const EVENTS: u64 = 20;
/// The most candles of one answer. The exchange's own limit is not documented.
const MAX_CANDLES: i64 = 10_000;

/// 10⁻⁴ dollars in micro-dollars.
const CENTI_CENT: i64 = 100;

/// Everything that has left the live tier.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    cutoff: DateTime<Utc>,
    orders_cutoff: DateTime<Utc>,
    /// The account whose orders these are.
    owner: String,
    markets: Vec<Market>,
    /// Places of markets and of their trades, the newest trade first.
    tape: Vec<(usize, usize)>,
    orders: Vec<Order>,
    fills: Vec<Fill>,
}

#[derive(Clone, Debug)]
struct Market {
    ticker: String,
    event: String,
    series: String,
    title: String,
    yes_title: String,
    no_title: String,
    strike: Strike,
    close: DateTime<Utc>,
    yes_won: bool,
    expiration_value: String,
    exchange_index: i64,
    /// The oldest first.
    trades: Vec<Trade>,
}

#[derive(Clone, Debug)]
enum Strike {
    AtLeast(i64),
    /// The structured target that has to win; nothing stands for a draw.
    Winner(Option<String>),
}

#[derive(Clone, Debug)]
struct Trade {
    id: String,
    at: DateTime<Utc>,
    /// Hundredths of a contract.
    count: i64,
    /// YES, 10⁻⁴ dollars.
    price: i64,
    taker_yes: bool,
    block: bool,
}

#[derive(Clone, Debug)]
struct Order {
    id: String,
    client_id: String,
    market: usize,
    bid: bool,
    price: i64,
    initial: i64,
    filled: i64,
    /// The price of its fills; it has none or one.
    fill_price: i64,
    taker: bool,
    fee: i64,
    created: DateTime<Utc>,
    updated: DateTime<Utc>,
    subaccount: i64,
}

#[derive(Clone, Debug)]
struct Fill {
    id: String,
    order: usize,
    trade: usize,
}

/// A series to be archived.
struct Source {
    series: String,
    title: String,
    category: String,
    exchange_index: i64,
    competition: Option<usize>,
}

impl Archive {
    /// Makes the archive up. Its events go into the catalogue, for events never move; so do the
    /// series of its games.
    pub(crate) fn new(
        seed: u64,
        start: DateTime<Utc>,
        owner: &str,
        targets: &Targets,
        (series, events): (&mut Vec<Value>, &mut Vec<Value>),
        milestones: &mut Milestones,
    ) -> Self {
        let midnight = start.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        let back = |days| midnight.checked_sub_days(Days::new(days)).unwrap_or(midnight);
        let mut made = Self {
            cutoff: back(CUTOFF_DAYS),
            orders_cutoff: back(ORDER_CUTOFF_DAYS),
            owner: owner.to_owned(),
            markets: Vec::new(),
            tape: Vec::new(),
            orders: Vec::new(),
            fills: Vec::new(),
        };
        let mut sources: Vec<Source> = series.iter().map(Source::live).collect();
        for (number, competition) in COMPETITIONS.iter().enumerate() {
            let source = Source {
                series: competition.series.to_owned(),
                title: format!("Winner of the simulated {} game", competition.name),
                category: "Sports".to_owned(),
                exchange_index: 3,
                competition: Some(number),
            };
            series.push(source.wire(start));
            sources.push(source);
        }
        for source in &sources {
            for number in 0..EVENTS {
                // Settled a day or more before the cutoff.
                let close = back(CUTOFF_DAYS + 2 + 2 * number) + Duration::hours(21);
                let event = source.event(close);
                if let Some(competition) = source.competition {
                    let round = usize::try_from(number).unwrap_or(0);
                    let ticker = event["event_ticker"].as_str().unwrap_or_default();
                    let starts = close - Duration::hours(5);
                    let pair = (competition, round);
                    if let Some(milestone) =
                        milestones.add_game(seed, targets, pair, starts, ticker)
                    {
                        made.add_game(source, ticker, close, milestone, seed);
                    }
                } else {
                    made.add_scale(source, &event, close, seed);
                    milestones.add_other(seed, targets, &event, close);
                }
                events.push(event);
            }
        }
        made.add_account(seed);
        made.tape = made
            .markets
            .iter()
            .enumerate()
            .flat_map(|(market, row)| (0..row.trades.len()).map(move |trade| (market, trade)))
            .collect();
        let markets = &made.markets;
        made.tape
            .sort_by_key(|(market, trade)| std::cmp::Reverse(markets[*market].trades[*trade].at));
        made
    }

    pub(crate) fn cutoff(&self) -> Reply {
        Reply::ok(json!({
            "market_settled_ts": self.cutoff,
            "trades_created_ts": self.cutoff,
            "orders_updated_ts": self.orders_cutoff,
            "market_positions_last_updated_ts": self.cutoff,
        }))
    }

    /// The tickers of an archived event's markets, with their titles.
    pub(crate) fn markets_of<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a str> {
        self.markets.iter().filter(move |row| row.event == event).map(|row| row.ticker.as_str())
    }

    pub(crate) fn markets(&self, query: &Query) -> Outcome {
        let tickers = query.list("tickers");
        let (event, series) = (query.get("event_ticker"), query.get("series_ticker"));
        // There are no combos in the archive, so the filter keeps everything.
        let mve = query.word("mve_filter", &["exclude"])?;
        let given = [tickers.is_some(), event.is_some(), series.is_some(), mve.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Err(Reply::bad_request(
                "send one of tickers, event_ticker, series_ticker and mve_filter",
            ));
        }
        let rows: Vec<&Market> = self
            .markets
            .iter()
            .filter(|row| tickers.as_ref().is_none_or(|list| list.contains(&row.ticker.as_str())))
            .filter(|row| event.is_none_or(|event| row.event == event))
            .filter(|row| series.is_none_or(|series| row.series == series))
            .collect();
        let (rows, cursor) =
            query.page_by(rows, Paging { zero: true, ..Paging::new(100, 1_000) })?;
        let rows: Vec<Value> = rows.into_iter().map(Market::wire).collect();
        Ok(Reply::ok(json!({"markets": rows, "cursor": cursor})))
    }

    pub(crate) fn market(&self, ticker: &str) -> Outcome {
        Ok(Reply::ok(json!({"market": self.find(ticker)?.wire()})))
    }

    pub(crate) fn candlesticks(&self, ticker: &str, query: &Query) -> Outcome {
        let market = self.find(ticker)?;
        let (start, end) = (query.required_integer("start_ts")?, query.required_integer("end_ts")?);
        let minutes = query.required_integer("period_interval")?;
        if !matches!(minutes, 1 | 60 | 1_440) {
            return Err(Reply::bad_request("period_interval must be 1, 60 or 1440"));
        }
        if start > end {
            return Err(Reply::bad_request("start_ts must not be after end_ts"));
        }
        let rows = market.candles(start, end, minutes * 60)?;
        Ok(Reply::ok(json!({"ticker": market.ticker, "candlesticks": rows})))
    }

    pub(crate) fn trades(&self, query: &Query) -> Outcome {
        let ticker = query.get("ticker");
        let within = bounds(query)?;
        let block = match query.get("is_block_trade") {
            None => None,
            Some(_) => Some(query.flag("is_block_trade")?),
        };
        let rows: Vec<(&Market, &Trade)> = self
            .tape
            .iter()
            .map(|(market, trade)| (&self.markets[*market], &self.markets[*market].trades[*trade]))
            .filter(|(market, _)| ticker.is_none_or(|ticker| market.ticker == ticker))
            .filter(|(_, trade)| within(trade.at))
            .filter(|(_, trade)| block.is_none_or(|block| trade.block == block))
            .collect();
        let (rows, cursor) =
            query.page_by(rows, Paging { zero: true, ..Paging::new(100, 1_000) })?;
        let rows: Vec<Value> = rows.into_iter().map(|(market, row)| row.wire(market)).collect();
        Ok(Reply::ok(json!({"trades": rows, "cursor": cursor})))
    }

    pub(crate) fn orders(&self, account: &Account<'_>, query: &Query) -> Outcome {
        let ticker = query.get("ticker");
        let within = bounds(query)?;
        let subaccount = account.subaccount(query)?;
        let rows: Vec<&Order> = self
            .of(account, &self.orders)
            .filter(|row| ticker.is_none_or(|ticker| self.markets[row.market].ticker == ticker))
            .filter(|row| within(row.updated))
            .filter(|row| subaccount.is_none_or(|number| row.subaccount == number))
            .collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        let rows: Vec<Value> = rows.into_iter().map(|row| self.order_wire(row)).collect();
        Ok(Reply::ok(json!({"orders": rows, "cursor": cursor})))
    }

    pub(crate) fn fills(&self, account: &Account<'_>, query: &Query) -> Outcome {
        let ticker = query.get("ticker");
        let within = bounds(query)?;
        let subaccount = account.subaccount(query)?;
        let rows: Vec<&Fill> = self
            .of(account, &self.fills)
            .filter(|row| {
                let (order, market, trade) = self.parts(row);
                ticker.is_none_or(|ticker| market.ticker == ticker)
                    && within(trade.at)
                    && subaccount.is_none_or(|number| order.subaccount == number)
            })
            .collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        let rows: Vec<Value> = rows.into_iter().map(|row| self.fill_wire(row)).collect();
        Ok(Reply::ok(json!({"fills": rows, "cursor": cursor})))
    }

    pub(crate) fn positions(&self, account: &Account<'_>, query: &Query) -> Outcome {
        let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
        // Unlike in the other reads, nothing stands for the primary alone.
        let subaccount = account.subaccount(query)?.unwrap_or(0);
        let mut holdings: BTreeMap<usize, Holding> = BTreeMap::new();
        for fill in self.of(account, &self.fills) {
            let (order, _, trade) = self.parts(fill);
            if order.subaccount == subaccount {
                let count = if order.bid { trade.count } else { -trade.count };
                let holding = holdings.entry(order.market).or_default();
                holding.fill(count, trade.price, order.fee, trade.at);
            }
        }
        for (market, holding) in &mut holdings {
            let market = &self.markets[*market];
            holding.settle(if market.yes_won { ONE } else { 0 }, market.settled());
        }
        let rows: Vec<(&Market, &Holding)> = holdings
            .iter()
            .map(|(market, holding)| (&self.markets[*market], holding))
            .filter(|(market, _)| ticker.is_none_or(|ticker| market.ticker == ticker))
            .filter(|(market, _)| event.is_none_or(|event| market.event == event))
            .collect();
        // An event is shown once, on the page of its first market.
        let mut events: BTreeMap<&str, Vec<&Holding>> = BTreeMap::new();
        let mut firsts = Vec::new();
        for (market, holding) in &rows {
            let of_event = events.entry(&market.event).or_default();
            firsts.push(of_event.is_empty());
            of_event.push(holding);
        }
        let rows: Vec<_> = rows.into_iter().zip(firsts).collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        let market_positions: Vec<Value> = rows
            .iter()
            .map(|((market, holding), _)| {
                holding.wire(&market.ticker, market.exchange_index, self.cutoff)
            })
            .collect();
        let event_positions: Vec<Value> = rows
            .iter()
            .filter(|(_, first)| *first)
            .map(|((market, _), _)| {
                let rows = events.get(market.event.as_str()).map_or(&[][..], Vec::as_slice);
                event_wire(&market.event, rows.iter().copied())
            })
            .collect();
        Ok(Reply::ok(json!({
            "market_positions": market_positions,
            "event_positions": event_positions,
            "cursor": cursor,
        })))
    }

    fn find(&self, ticker: &str) -> Result<&Market, Reply> {
        self.markets.iter().find(|row| row.ticker == ticker).ok_or_else(Reply::not_found)
    }

    /// The rows of an account: all of them, or none.
    fn of<'a, T>(&self, account: &Account<'_>, rows: &'a [T]) -> impl Iterator<Item = &'a T> {
        let rows = if account.id == self.owner { rows } else { &[] };
        rows.iter()
    }

    fn parts(&self, fill: &Fill) -> (&Order, &Market, &Trade) {
        let order = &self.orders[fill.order];
        let market = &self.markets[order.market];
        (order, market, &market.trades[fill.trade])
    }

    /// Markets over the steps of a scale: whoever is at least so high wins.
    fn add_scale(&mut self, source: &Source, event: &Value, close: DateTime<Utc>, seed: u64) {
        let ticker = event["event_ticker"].as_str().unwrap_or_default();
        let mut dice = Dice::new(seed, &format!("archive {ticker}"));
        let value = dice.number(36..=66);
        for strike in (40..=60).step_by(5) {
            let yes_won = value >= strike;
            // The price starts near even and ends near the result.
            let trades = trades(&mut dice, close, yes_won);
            self.markets.push(Market {
                ticker: format!("{ticker}-T{strike}"),
                event: ticker.to_owned(),
                series: source.series.clone(),
                title: source.title.clone(),
                yes_title: format!("{strike} or above"),
                no_title: format!("Below {strike}"),
                strike: Strike::AtLeast(strike),
                close,
                yes_won,
                expiration_value: value.to_string(),
                exchange_index: source.exchange_index,
                trades,
            });
        }
    }

    /// One market for each side of a game, and one for the draw where there can be one.
    fn add_game(
        &mut self,
        source: &Source,
        ticker: &str,
        close: DateTime<Utc>,
        milestone: &super::milestones::Milestone,
        seed: u64,
    ) {
        let Play::Game(fixture) = &milestone.play else { return };
        let mut dice = Dice::new(seed, &format!("archive {ticker}"));
        let (home, away) = fixture.game.score(i64::MAX);
        let winner = match home - away {
            1.. => Some(&fixture.home),
            0 => None,
            _ => Some(&fixture.away),
        };
        let draw = fixture.competition.milestone == "soccer_game";
        let sides = [Some(&fixture.home), Some(&fixture.away)];
        for side in sides.into_iter().chain(draw.then_some(None)) {
            let name = side.map_or("Draw", |side| side.name.as_str());
            let yes_won = side.map(|side| &side.id) == winner.map(|side| &side.id);
            self.markets.push(Market {
                ticker: format!("{ticker}-{}", side.map_or("TIE", |side| side.code.as_str())),
                event: ticker.to_owned(),
                series: source.series.clone(),
                title: format!("{} at {}", fixture.away.name, fixture.home.name),
                yes_title: name.to_owned(),
                no_title: format!("Not {name}"),
                strike: Strike::Winner(side.map(|side| side.id.clone())),
                close,
                yes_won,
                expiration_value: winner.map_or("Draw", |side| side.name.as_str()).to_owned(),
                exchange_index: source.exchange_index,
                trades: trades(&mut dice, close, yes_won),
            });
        }
    }

    /// Orders of the account in every third market: one that took, one that rested and was
    /// canceled after a part, and now and then one that never traded.
    fn add_account(&mut self, seed: u64) {
        let mut dice = Dice::new(seed, "archived orders");
        for place in (0..self.markets.len()).step_by(3) {
            let market = &mut self.markets[place];
            let subaccount = i64::from(place % 2 == 1);
            let [bought, _, sold, ..] = market.trades.as_mut_slice() else { continue };
            (bought.taker_yes, sold.taker_yes) = (true, true);
            (bought.block, sold.block) = (false, false);
            let took = Order {
                id: dice.id(),
                client_id: dice.id(),
                market: place,
                bid: true,
                price: (bought.price + dice.number(0..=2) * CENTI_CENT).min(ONE - CENTI_CENT),
                initial: bought.count,
                filled: bought.count,
                fill_price: bought.price,
                taker: true,
                fee: taker_fee(bought.count, bought.price),
                created: bought.at,
                updated: bought.at,
                subaccount,
            };
            let rested = Order {
                id: dice.id(),
                client_id: dice.id(),
                bid: false,
                price: sold.price,
                initial: sold.count + 100 * dice.number(1..=50),
                filled: sold.count,
                fill_price: sold.price,
                taker: false,
                fee: 0,
                created: sold.at - Duration::minutes(dice.number(1..=90)),
                updated: sold.at + Duration::minutes(dice.number(1..=90)),
                ..took.clone()
            };
            let idle = Order {
                id: dice.id(),
                client_id: dice.id(),
                bid: true,
                price: 2 * CENTI_CENT,
                initial: 100 * dice.number(1..=100),
                filled: 0,
                taker: false,
                fee: 0,
                created: bought.at - Duration::minutes(10),
                ..took.clone()
            };
            for (order, trade) in [(took, 0), (rested, 2)] {
                self.fills.push(Fill { id: dice.id(), order: self.orders.len(), trade });
                self.orders.push(order);
            }
            if place % 9 == 0 {
                self.orders.push(idle);
            }
        }
    }

    fn order_wire(&self, order: &Order) -> Value {
        let market = &self.markets[order.market];
        let cost = order.filled * if order.bid { order.fill_price } else { ONE - order.fill_price };
        let money = |held: bool, micros: i64| Dollars::from_micros(if held { micros } else { 0 });
        json!({
            "order_id": order.id,
            "user_id": self.owner,
            "client_order_id": order.client_id,
            "ticker": market.ticker,
            "side": "yes",
            "action": if order.bid { "buy" } else { "sell" },
            "outcome_side": if order.bid { "yes" } else { "no" },
            "book_side": if order.bid { "bid" } else { "ask" },
            "type": "limit",
            "status": if order.filled == order.initial { "executed" } else { "canceled" },
            "yes_price_dollars": dollars(order.price),
            "no_price_dollars": dollars(ONE - order.price),
            "fill_count_fp": Count::from_hundredths(order.filled),
            "remaining_count_fp": Count::ZERO,
            "initial_count_fp": Count::from_hundredths(order.initial),
            "taker_fill_cost_dollars": money(order.taker, cost),
            "maker_fill_cost_dollars": money(!order.taker, cost),
            "taker_fees_dollars": money(order.taker, order.fee),
            "maker_fees_dollars": money(!order.taker, order.fee),
            "expiration_time": null,
            "created_time": order.created,
            "last_update_time": order.updated,
            "self_trade_prevention_type": "taker_at_cross",
            "order_group_id": null,
            "cancel_order_on_pause": false,
            "subaccount_number": order.subaccount,
            "exchange_index": market.exchange_index,
        })
    }

    fn fill_wire(&self, fill: &Fill) -> Value {
        let (order, market, trade) = self.parts(fill);
        json!({
            "fill_id": fill.id,
            "exchange_index": market.exchange_index,
            "trade_id": trade.id,
            "order_id": order.id,
            "ticker": market.ticker,
            "market_ticker": market.ticker,
            "side": "yes",
            "action": if order.bid { "buy" } else { "sell" },
            "outcome_side": if order.bid { "yes" } else { "no" },
            "book_side": if order.bid { "bid" } else { "ask" },
            "count_fp": Count::from_hundredths(trade.count),
            "yes_price_dollars": dollars(trade.price),
            "no_price_dollars": dollars(ONE - trade.price),
            "is_taker": order.taker,
            "created_time": trade.at,
            "fee_cost": Dollars::from_micros(order.fee),
            "subaccount_number": order.subaccount,
            "ts": trade.at.timestamp(),
        })
    }
}

impl Market {
    fn opened(&self) -> DateTime<Utc> {
        self.close - Duration::days(3)
    }

    fn settled(&self) -> DateTime<Utc> {
        self.close + Duration::minutes(30)
    }

    fn wire(&self) -> Value {
        let last = self.trades.last().map_or(0, |trade| trade.price);
        let volume: i64 = self.trades.iter().map(|trade| trade.count).sum();
        let won = if self.yes_won { ONE } else { 0 };
        let mut row = json!({
            "ticker": self.ticker,
            "event_ticker": self.event,
            "market_type": "binary",
            "title": self.title,
            "subtitle": "",
            "yes_sub_title": self.yes_title,
            "no_sub_title": self.no_title,
            "created_time": self.opened(),
            "updated_time": self.settled(),
            "open_time": self.opened(),
            "close_time": self.close,
            "expected_expiration_time": self.close + Duration::hours(1),
            "latest_expiration_time": self.close + Duration::days(7),
            "settlement_timer_seconds": 1_800,
            "yes_bid_dollars": dollars(0),
            "yes_bid_size_fp": Count::ZERO,
            "yes_ask_dollars": dollars(ONE),
            "yes_ask_size_fp": Count::ZERO,
            "no_bid_dollars": dollars(0),
            "no_ask_dollars": dollars(ONE),
            "last_price_dollars": dollars(last),
            "previous_yes_bid_dollars": dollars(0),
            "previous_yes_ask_dollars": dollars(ONE),
            "previous_price_dollars": dollars(last),
            "volume_fp": Count::from_hundredths(volume),
            "volume_24h_fp": Count::ZERO,
            "open_interest_fp": Count::from_hundredths(volume),
            "notional_value_dollars": Dollars::ONE,
            "can_close_early": true,
            "rules_primary": "The simulator decides.",
            "rules_secondary": "",
            "price_level_structure": "linear_cent",
            "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
            "exchange_index": self.exchange_index,
        });
        row["status"] = "finalized".into();
        row["result"] = if self.yes_won { "yes" } else { "no" }.into();
        row["expiration_value"] = self.expiration_value.as_str().into();
        row["settlement_ts"] = json!(self.settled());
        row["settlement_value_dollars"] = json!(dollars(won));
        row["settlement_bounds_type"] = "default".into();
        match &self.strike {
            Strike::AtLeast(strike) => {
                row["strike_type"] = "greater_or_equal".into();
                row["floor_strike"] = (*strike).into();
            }
            Strike::Winner(Some(id)) => {
                row["strike_type"] = "structured".into();
                row["custom_strike"] = json!({"winner": id});
                row["primary_participant_key"] = "winner".into();
            }
            Strike::Winner(None) => {
                row["strike_type"] = "custom".into();
                row["custom_strike"] = json!({"winner": "draw"});
            }
        }
        row
    }

    /// Candles that end within the bounds, one for each period of the market's life.
    fn candles(&self, start: i64, end: i64, period: i64) -> Result<Vec<Value>, Reply> {
        let first = start.max(self.opened().timestamp() + 1);
        let last = end.min(self.close.timestamp().saturating_add(period - 1));
        let first = (first.saturating_add(period - 1)).div_euclid(period);
        let last = last.div_euclid(period);
        if last.saturating_sub(first) >= MAX_CANDLES {
            return Err(Reply::bad_request("the range holds more than 10000 candlesticks"));
        }
        let mut rows = Vec::new();
        for place in first..=last {
            let until = place * period;
            // The end belongs to the period.
            let before = |moment: i64| {
                self.trades.iter().take_while(move |trade| trade.at.timestamp() <= moment)
            };
            let old: Vec<&Trade> = before(until - period).collect();
            let new: Vec<&Trade> = before(until).skip(old.len()).collect();
            rows.push(candle(until, &old, &new));
        }
        Ok(rows)
    }
}

impl Trade {
    fn wire(&self, market: &Market) -> Value {
        let side = if self.taker_yes { "yes" } else { "no" };
        json!({
            "trade_id": self.id,
            "ticker": market.ticker,
            "count_fp": Count::from_hundredths(self.count),
            "yes_price_dollars": dollars(self.price),
            "no_price_dollars": dollars(ONE - self.price),
            "taker_side": side,
            "taker_outcome_side": side,
            "taker_book_side": if self.taker_yes { "bid" } else { "ask" },
            "created_time": self.at,
            "is_block_trade": self.block,
        })
    }
}

impl Source {
    /// A series that is also traded today.
    fn live(series: &Value) -> Self {
        let text = |key: &str| series[key].as_str().unwrap_or_default().to_owned();
        Self {
            series: text("ticker"),
            title: text("title"),
            category: text("category"),
            exchange_index: series["exchange_index"].as_i64().unwrap_or(0),
            competition: None,
        }
    }

    fn wire(&self, start: DateTime<Utc>) -> Value {
        let competition = self.competition.and_then(|number| COMPETITIONS.get(number));
        let sport = competition.map_or("", |competition| competition.sport.name());
        let name = competition.map_or("", |competition| competition.name);
        json!({
            "ticker": self.series,
            "title": self.title,
            "category": self.category,
            "categories": [self.category],
            "tags": [sport, name],
            "frequency": "custom",
            "settlement_sources": [{"name": "The simulator", "url": "https://example.com/games"}],
            "contract_url": "",
            "contract_terms_url": "",
            "additional_prohibitions": [],
            "fee_type": "quadratic",
            "fee_multiplier": 1.0,
            "exchange_index": self.exchange_index,
            "last_updated_ts": start,
        })
    }

    fn event(&self, close: DateTime<Utc>) -> Value {
        let day = close.format("%y%b%d").to_string().to_ascii_uppercase();
        json!({
            "event_ticker": format!("{}-{day}", self.series),
            "series_ticker": self.series,
            "title": self.title,
            "sub_title": close.format("On %b %d, %Y").to_string(),
            "category": self.category,
            "collateral_return_type": "",
            "mutually_exclusive": self.competition.is_some(),
            "settlement_sources": [{"name": "The simulator", "url": "https://example.com/games"}],
            "exchange_index": self.exchange_index,
            "strike_date": close,
            "last_updated_ts": close + Duration::minutes(30),
        })
    }
}

/// Four to seven trades of the last days, whose price ends near the result.
fn trades(dice: &mut Dice, close: DateTime<Utc>, yes_won: bool) -> Vec<Trade> {
    let number = dice.number(4..=7);
    let first = dice.number(35..=65);
    let last = if yes_won { dice.number(80..=97) } else { dice.number(3..=20) };
    (0..number)
        .map(|place| {
            let cents = first + (last - first) * place / (number - 1) + dice.number(-2..=2);
            let seconds = dice.number(600..=30_000);
            Trade {
                id: dice.id(),
                at: close - Duration::seconds((number - place - 1) * 36_000 + seconds),
                count: 100 * dice.number(1..=400),
                price: cents.clamp(1, 99) * CENTI_CENT,
                taker_yes: dice.number(0..=1) == 0,
                block: dice.number(0..=39) == 0,
            }
        })
        .collect()
}

/// One archived candle; `old` are the trades before it, `new` those in it.
fn candle(until: i64, old: &[&Trade], new: &[&Trade]) -> Value {
    let tick = CENTI_CENT;
    let quote = |price: Option<i64>, bid: bool| match (price, bid) {
        (Some(price), true) => dollars((price - tick).max(0)),
        (Some(price), false) => dollars((price + tick).min(ONE)),
        (None, true) => dollars(0),
        (None, false) => dollars(ONE),
    };
    let previous = old.last().map(|trade| trade.price);
    let prices = || new.iter().map(|trade| trade.price);
    let open = previous.or_else(|| prices().next());
    let close = prices().next_back().or(previous);
    let low = prices().chain(open).min();
    let high = prices().chain(open).max();
    let side = |bid: bool| {
        json!({
            "open": quote(open, bid),
            "low": quote(low, bid),
            "high": quote(high, bid),
            "close": quote(close, bid),
        })
    };
    let volume: i64 = new.iter().map(|trade| trade.count).sum();
    let value: i64 = new.iter().map(|trade| trade.count * trade.price).sum();
    let mean = (volume > 0).then(|| value / volume.max(1));
    let open_interest = volume + old.iter().map(|trade| trade.count).sum::<i64>();
    json!({
        "end_period_ts": until,
        "yes_bid": side(true),
        "yes_ask": side(false),
        "price": {
            "open": prices().next().map(dollars),
            "low": prices().min().map(dollars),
            "high": prices().max().map(dollars),
            "close": prices().next_back().map(dollars),
            "mean": mean.map(dollars),
            "previous": previous.map(dollars),
        },
        "volume": Count::from_hundredths(volume),
        "open_interest": Count::from_hundredths(open_interest),
    })
}

/// 10⁻⁴ dollars.
fn dollars(price: i64) -> Dollars {
    Dollars::from_micros(price * CENTI_CENT)
}

/// The filter by `min_ts` and `max_ts`, both included.
pub(crate) fn bounds(query: &Query) -> Result<impl Fn(DateTime<Utc>) -> bool + use<>, Reply> {
    let (min, max) = (query.integer("min_ts")?, query.integer("max_ts")?);
    Ok(move |at: DateTime<Utc>| {
        let at = at.timestamp();
        min.is_none_or(|min| at >= min) && max.is_none_or(|max| at <= max)
    })
}
