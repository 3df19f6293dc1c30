//! Markets, order books, trades, candlesticks and series.

use chrono::{DateTime, Utc};
use kalshi_types::{Count, Dollars, PriceLevel};
use serde_json::{Value, json};

use crate::{
    catalogue::Listings,
    engine::{
        Engine, Market,
        amount::{Sum, other_leg},
        types::{MarketResult, Side, Time, Trade},
    },
    families::candles,
    pages::{Pages, Span, newest},
    query::Query,
    reply::{Outcome, Reply},
    state::{Call, State},
};

pub(crate) fn handle(state: &mut State, call: &Call<'_>) -> Outcome {
    match call.operation.id {
        "get_series_list" => series_list(state, call.query),
        "get_series" => series(state, call),
        "get_markets" => markets(state, call.query),
        "get_market" => {
            let market = found(state, call.first())?;
            Ok(Reply::ok(json!({"market": shown(state, market)})))
        }
        "get_market_orderbook" => order_book(state, call),
        "get_market_orderbooks" => order_books(state, call.query),
        "get_trades" => trades(state, call.query),
        "get_market_candlesticks" => candles::of_market(state, call),
        "batch_get_market_candlesticks" => candles::of_markets(state, call),
        other => Err(Reply::not_implemented(other)),
    }
}

/// A market as it goes over the wire: what the catalogue says of it, and what the engine knows.
pub(crate) fn shown(state: &State, market: &Market) -> Value {
    shown_in(&state.engine, &state.catalogue.listings, market)
}

/// The same for those who have not the whole state.
pub(crate) fn shown_in(engine: &Engine, listings: &Listings, market: &Market) -> Value {
    let now = engine.now();
    let prices = market.prices();
    let before = market.day_before(now);
    let mut wire = listings.about(&market.ticker).cloned().unwrap_or_else(|| json!({}));
    let size = |level: Option<PriceLevel>| level.map_or_else(Default::default, |l| l.count);
    let dynamic = json!({
        "ticker": market.ticker,
        "event_ticker": market.event_ticker,
        "market_type": "binary",
        "status": market.status.as_str(),
        "result": market.result.map_or("", MarketResult::as_str),
        "created_time": time(market.created),
        "updated_time": time(market.updated),
        "open_time": time(market.opens),
        "close_time": time(market.closes),
        "settlement_timer_seconds": market.settlement_timer_seconds,
        "yes_bid_dollars": prices.yes_bid(),
        "yes_bid_size_fp": size(prices.bid),
        "yes_ask_dollars": prices.yes_ask(),
        "yes_ask_size_fp": size(prices.ask),
        "no_bid_dollars": prices.no_bid(),
        "no_ask_dollars": prices.no_ask(),
        "last_price_dollars": market.last_price.unwrap_or(Dollars::ZERO),
        "volume_fp": market.volume,
        "volume_24h_fp": market.volume_24h(now),
        "open_interest_fp": market.open_interest,
        "notional_value_dollars": Dollars::ONE,
        "previous_yes_bid_dollars": before.map_or(Dollars::ZERO, |minute| minute.bid.close),
        "previous_yes_ask_dollars": before.map_or(Dollars::ONE, |minute| minute.ask.close),
        "previous_price_dollars": market.price_before(now).unwrap_or(Dollars::ZERO),
        "price_level_structure": market.structure,
        "price_ranges": market.grid.ranges(),
        "exchange_index": market.shard,
    });
    if let (Value::Object(wire), Value::Object(dynamic)) = (&mut wire, dynamic) {
        wire.extend(dynamic);
        if let Some(result) = market.result {
            wire.insert("settlement_value_dollars".to_owned(), json!(result.value()));
        }
        if let Some(settled) = market.settled {
            wire.insert("settlement_ts".to_owned(), time(settled));
        }
    }
    wire
}

/// A trade of the public tape.
pub(crate) fn shown_trade(state: &State, trade: &Trade) -> Value {
    json!({
        "trade_id": trade.id.to_string(),
        "ticker": state.engine.market(trade.market).map_or("", |market| &market.ticker),
        "count_fp": trade.count,
        "yes_price_dollars": trade.price,
        "no_price_dollars": other_leg(trade.price),
        "taker_side": trade.taker_side.outcome(),
        "taker_outcome_side": trade.taker_side.outcome(),
        "taker_book_side": trade.taker_side.as_str(),
        "is_block_trade": trade.block,
        "created_time": time(trade.at),
    })
}

/// A time of the engine as RFC 3339 text.
pub(crate) fn time(time: Time) -> Value {
    json!(time.to_datetime().unwrap_or(DateTime::UNIX_EPOCH))
}

/// The market of a ticker.
pub(crate) fn found<'a>(state: &'a State, ticker: &str) -> Result<&'a Market, Reply> {
    state.engine.market_by_ticker(ticker).ok_or_else(Reply::not_found)
}

/// Whether the metadata of a series or event has changed in a span of time.
pub(crate) fn was_updated(wire: &Value, span: Span) -> bool {
    !span.is_given()
        || wire["last_updated_ts"]
            .as_str()
            .and_then(|text| text.parse::<DateTime<Utc>>().ok())
            .is_some_and(|time| span.holds(time.into()))
}

/// One tag of those asked for is enough.
fn series_list(state: &State, query: &Query) -> Outcome {
    let category = query.get("category");
    let tags = query.list("tags");
    let updated = Span::from(query.integer("min_updated_ts")?);
    let metadata = query.flag("include_product_metadata")?;
    let volume = query.flag("include_volume")?;
    let tagged = |series: &Value, tags: &[&str]| {
        series["tags"]
            .as_array()
            .is_some_and(|has| tags.iter().any(|tag| has.contains(&json!(tag))))
    };
    let rows: Vec<Value> = state
        .catalogue
        .series
        .iter()
        .filter(|series| category.is_none_or(|category| series["category"] == category))
        .filter(|series| tags.as_ref().is_none_or(|tags| tagged(series, tags)))
        .filter(|series| was_updated(series, updated))
        .map(|series| shown_series(state, series, metadata, volume))
        .collect();
    Ok(Reply::ok(json!({"series": rows})))
}

fn series(state: &State, call: &Call<'_>) -> Outcome {
    let volume = call.query.flag("include_volume")?;
    let found = state.catalogue.series.iter().find(|series| series["ticker"] == call.first());
    let series = found.ok_or_else(Reply::not_found)?;
    Ok(Reply::ok(json!({"series": shown_series(state, series, false, volume)})))
}

fn shown_series(state: &State, series: &Value, metadata: bool, volume: bool) -> Value {
    let mut wire = series.clone();
    if let Value::Object(wire) = &mut wire {
        if !metadata {
            wire.remove("product_metadata");
        }
        if volume {
            let markets = state.engine.markets().iter();
            let total = markets
                .filter(|market| series["ticker"] == *market.series_ticker)
                .fold(Count::ZERO, |sum, market| sum.plus(market.volume));
            wire.insert("volume_fp".to_owned(), json!(total));
        }
    }
    wire
}

/// The spans of time that a list of markets may be asked for; one of them at most.
#[derive(Debug)]
struct Times {
    created: Span,
    closes: Span,
    settled: Span,
    updated: Span,
}

impl Times {
    fn read(query: &Query) -> Result<Self, Reply> {
        let times = Self {
            created: query.span("min_created_ts", "max_created_ts")?,
            closes: query.span("min_close_ts", "max_close_ts")?,
            settled: query.span("min_settled_ts", "max_settled_ts")?,
            updated: query.span("min_updated_ts", "max_updated_ts")?,
        };
        times.check(query)?;
        Ok(times)
    }

    /// Which filters may stand together.
    fn check(&self, query: &Query) -> Result<(), Reply> {
        let families: [(Span, &str, &[&str]); 4] = [
            (self.created, "creation", &["unopened", "open"]),
            (self.closes, "close", &["closed"]),
            (self.settled, "settlement", &["settled"]),
            (self.updated, "update", &[]),
        ];
        if families.iter().filter(|(span, ..)| span.is_given()).count() > 1 {
            return Err(Reply::bad_request("time filters must be of one kind"));
        }
        let status = query.get("status");
        for (_, name, words) in families.iter().filter(|(span, ..)| span.is_given()) {
            if status.is_some_and(|status| !words.contains(&status)) {
                let message = format!("{name} time filters do not go with this status");
                return Err(Reply::bad_request(&message));
            }
        }
        if !self.updated.is_given() {
            return Ok(());
        }
        let combos = query.get("mve_filter");
        let excluded = combos == Some("exclude");
        if query.get("tickers").is_some()
            || query.get("event_ticker").is_some()
            || (combos.is_some() && !excluded)
            || (query.get("series_ticker").is_some() && !excluded)
        {
            return Err(Reply::bad_request(
                "update time filters go with mve_filter=exclude, and with series_ticker then",
            ));
        }
        Ok(())
    }

    fn hold(&self, market: &Market) -> bool {
        self.created.holds(market.created)
            && self.closes.holds(market.closes)
            && self.updated.holds(market.updated)
            && (!self.settled.is_given()
                || market.settled.is_some_and(|settled| self.settled.holds(settled)))
    }
}

fn markets(state: &State, query: &Query) -> Outcome {
    let status = query.word("status", &["unopened", "open", "paused", "closed", "settled"])?;
    let combos = query.word("mve_filter", &["only", "exclude"])?.map(|word| word == "only");
    let tickers = query.list("tickers");
    let event = query.get("event_ticker");
    let series = query.get("series_ticker");
    let times = Times::read(query)?;
    let rows = state
        .engine
        .markets()
        .iter()
        .filter(|m| status.is_none_or(|status| m.status.filter() == status))
        .filter(|m| tickers.as_ref().is_none_or(|list| list.contains(&m.ticker.as_str())))
        .filter(|m| event.is_none_or(|event| m.event_ticker == event))
        .filter(|m| series.is_none_or(|series| m.series_ticker == series))
        .filter(|m| combos.is_none_or(|wanted| is_combo(state, m) == wanted))
        .filter(|m| times.hold(m));
    let pages = Pages::new("markets", 100, 1_000).with_zero();
    let (rows, cursor) = query.page_after(pages, rows, |market| u64::from(market.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|market| shown(state, market)).collect();
    Ok(Reply::ok(json!({"markets": rows, "cursor": cursor})))
}

/// Whether a market is a combination of others.
fn is_combo(state: &State, market: &Market) -> bool {
    let about = state.catalogue.about(&market.ticker);
    about.is_some_and(|about| about["mve_collection_ticker"].is_string())
}

fn order_book(state: &State, call: &Call<'_>) -> Outcome {
    let depth = match call.query.integer("depth")? {
        // 0 stands for all of it.
        None | Some(0) => usize::MAX,
        Some(depth) => match usize::try_from(depth) {
            Ok(depth) if depth <= 100 => depth,
            _ => return Err(Reply::bad_request("depth must be 0 to 100")),
        },
    };
    let market = found(state, call.first())?;
    Ok(Reply::ok(json!({"orderbook_fp": levels(market, depth)})))
}

fn order_books(state: &State, query: &Query) -> Outcome {
    let tickers: Vec<&str> = query.all("tickers").collect();
    if tickers.is_empty() || tickers.len() > 100 {
        return Err(Reply::bad_request("tickers must name 1 to 100 markets"));
    }
    let books: Vec<Value> = tickers
        .iter()
        .filter_map(|ticker| state.engine.market_by_ticker(ticker))
        .map(|m| json!({"ticker": m.ticker, "orderbook_fp": levels(m, usize::MAX)}))
        .collect();
    Ok(Reply::ok(json!({"orderbooks": books})))
}

/// The best levels of both sides, bids of each leg, the best last.
fn levels(market: &Market, depth: usize) -> Value {
    let side = |side: Side| {
        let mut levels: Vec<PriceLevel> = market
            .levels(side)
            .take(depth)
            .map(|level| PriceLevel { price: side.leg_price(level.price), count: level.count })
            .collect();
        levels.reverse();
        levels
    };
    json!({"yes_dollars": side(Side::Bid), "no_dollars": side(Side::Ask)})
}

/// The newest trade comes first.
fn trades(state: &State, query: &Query) -> Outcome {
    let span = query.span("min_ts", "max_ts")?;
    let block = query.get("is_block_trade").map(|_| query.flag("is_block_trade")).transpose()?;
    let all: Box<dyn Iterator<Item = &Trade>> = match query.get("ticker") {
        None => Box::new(state.engine.trades().iter().rev()),
        Some(ticker) => match state.engine.market_by_ticker(ticker) {
            None => Box::new(std::iter::empty()),
            Some(market) => {
                Box::new(market.trades.iter().rev().filter_map(|id| state.engine.trade(*id)))
            }
        },
    };
    let rows = all
        .filter(|trade| span.holds(trade.at))
        .filter(|trade| block.is_none_or(|block| trade.block == block));
    let pages = Pages::new("trades", 100, 1_000).with_zero();
    let (rows, cursor) = query.page_after(pages, rows, |trade| newest(trade.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|trade| shown_trade(state, trade)).collect();
    Ok(Reply::ok(json!({"trades": rows, "cursor": cursor})))
}
