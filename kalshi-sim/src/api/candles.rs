//! Candlesticks, made of the minutes that markets keep.
//!
//! A candle covers a whole period and is called by the time at which that ends; days are those of
//! UTC. Periods in which nothing happened have none.

use std::collections::BTreeMap;

use kalshi_types::Dollars;
use serde_json::{Value, json};

use crate::{
    api::{market::found, orders::average},
    engine::{Bar, Market, Minute},
    http::{
        query::Query,
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
    wire::seconds,
};

/// Markets that one call may ask for.
const MAX_MARKETS: usize = 100;
/// Candles that one call for several markets gives.
const MAX_BATCH: usize = 10_000;
/// Candles that one call for an event gives.
const MAX_EVENT: usize = 5_000;
/// Candles of one archived market. The exchange's own limit is not documented.
const MAX_ARCHIVED: i64 = 10_000;

/// Returns the candles of one market.
pub(crate) fn of_market(state: &State, call: &Call<'_>) -> HandlerResult {
    let range = Range::read(call.query)?;
    let latest = call.query.flag("include_latest_before_start")?;
    let market = found(state, call.second())?;
    if market.series_ticker != call.first() {
        return Err(Response::not_found());
    }
    let rows: Vec<Value> =
        candles(&market.minutes, range, latest).iter().map(|candle| candle.shown(LIVE)).collect();
    Ok(Response::ok(json!({"ticker": market.ticker, "candlesticks": rows})))
}

/// Returns the candles of several markets. Unknown markets are left out.
pub(crate) fn of_markets(state: &State, call: &Call<'_>) -> HandlerResult {
    let range = Range::read(call.query)?;
    let latest = call.query.flag("include_latest_before_start")?;
    let tickers = call
        .query
        .list_of("market_tickers", MAX_MARKETS)?
        .ok_or_else(|| Response::bad_request("market_tickers is required"))?;
    let mut rows = Vec::new();
    let mut count = 0;
    for ticker in tickers {
        let Some(market) = state.engine.market_by_ticker(ticker) else { continue };
        let candles = candles(&market.minutes, range, latest);
        count += candles.len();
        if count > MAX_BATCH {
            return Err(Response::bad_request("the range has more than 10,000 candles"));
        }
        let candles: Vec<Value> = candles.iter().map(|candle| candle.shown(LIVE)).collect();
        rows.push(json!({"market_ticker": market.ticker, "candlesticks": candles}));
    }
    Ok(Response::ok(json!({"markets": rows})))
}

/// Returns the candles of an event's markets, cut at the end of a period when they are too many.
pub(crate) fn of_event(state: &State, call: &Call<'_>) -> HandlerResult {
    let range = Range::read(call.query)?;
    let (series, event) = (call.first(), call.second());
    let markets: Vec<&Market> = state
        .engine
        .markets()
        .iter()
        .filter(|market| market.event_ticker == event && market.series_ticker == series)
        .collect();
    if markets.is_empty() {
        return Err(Response::not_found());
    }
    let mut lists: Vec<Vec<Candle>> =
        markets.iter().map(|market| candles(&market.minutes, range, false)).collect();
    let end = cut(&mut lists, MAX_EVENT).unwrap_or(range.end);
    let tickers: Vec<&str> = markets.iter().map(|market| market.ticker.as_str()).collect();
    let lists: Vec<Vec<Value>> =
        lists.iter().map(|list| list.iter().map(|candle| candle.shown(LIVE)).collect()).collect();
    Ok(Response::ok(json!({
        "market_tickers": tickers,
        "market_candlesticks": lists,
        "adjusted_end_ts": end,
    })))
}

/// Returns the candles of an archived market, one for each period of its life.
pub(crate) fn of_archived(market: &Market, query: &Query) -> HandlerResult {
    let mut range = Range::read(query)?;
    let (opens, closes) = (seconds(market.opens), seconds(market.closes));
    range.start = range.start.max(opens.saturating_add(1));
    range.end = range.end.min(closes.saturating_add(range.seconds() - 1));
    let (first, last) = range.periods();
    if last.saturating_sub(first) >= MAX_ARCHIVED {
        return Err(Response::bad_request("the range holds more than 10,000 candles"));
    }
    let mut made = candles(&market.minutes, range, false).into_iter().peekable();
    let before = market.minutes.range(..first.saturating_mul(range.period)).rev();
    let mut state = before.clone().next().map_or_else(Minute::empty, |(_, minute)| *minute);
    let mut previous = before.clone().find_map(|(_, minute)| minute.price.map(|bar| bar.close));
    let mut rows = Vec::new();
    for period in first..=last {
        let end = (period + 1).saturating_mul(range.seconds());
        let candle = made.next_if(|candle| candle.end == end).unwrap_or_else(|| Candle {
            end,
            minute: Minute::after(&state),
            previous,
        });
        state = candle.minute;
        previous = candle.minute.price.map(|bar| bar.close).or(previous);
        rows.push(candle.shown(ARCHIVED));
    }
    Ok(Response::ok(json!({"ticker": market.ticker, "candlesticks": rows})))
}

/// The candles that end between two times, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    start: i64,
    end: i64,
    /// In minutes.
    period: i64,
}

impl Range {
    pub(crate) fn read(query: &Query) -> Result<Self, Response> {
        let required = |key: &str| {
            query.integer(key)?.ok_or_else(|| Response::bad_request(&format!("{key} is required")))
        };
        let (start, end) = (required("start_ts")?, required("end_ts")?);
        if start > end {
            return Err(Response::bad_request("start_ts must not be after end_ts"));
        }
        match required("period_interval")? {
            period @ (1 | 60 | 1_440) => Ok(Self { start, end, period }),
            _ => Err(Response::bad_request("period_interval must be 1, 60 or 1440")),
        }
    }

    /// Returns a period's length in seconds.
    fn seconds(self) -> i64 {
        self.period * 60
    }

    /// Returns the first and the last period, counted from 1970.
    fn periods(self) -> (i64, i64) {
        let before = |time: i64| time.div_euclid(self.seconds());
        let first = before(self.start.saturating_sub(1)).saturating_add(1);
        (first - 1, before(self.end) - 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candle {
    /// Unix seconds.
    pub(crate) end: i64,
    pub(crate) minute: Minute,
    /// The last trade's price before the period.
    pub(crate) previous: Option<Dollars>,
}

/// The names of a candle's numbers.
#[derive(Clone, Copy)]
struct Naming {
    dollars: &'static str,
    count: &'static str,
}

const LIVE: Naming = Naming { dollars: "_dollars", count: "_fp" };
const ARCHIVED: Naming = Naming { dollars: "", count: "" };

impl Candle {
    fn shown(&self, naming: Naming) -> Value {
        let Minute { bid, ask, price, volume, value, open_interest } = self.minute;
        let mut prices = bar(price, naming);
        prices[format!("mean{}", naming.dollars)] = json!(average(value, volume));
        prices[format!("previous{}", naming.dollars)] = json!(self.previous);
        json!({
            "end_period_ts": self.end,
            "yes_bid": bar(Some(bid), naming),
            "yes_ask": bar(Some(ask), naming),
            "price": prices,
            (format!("volume{}", naming.count)): volume,
            (format!("open_interest{}", naming.count)): open_interest,
        })
    }
}

fn bar(bar: Option<Bar>, Naming { dollars, .. }: Naming) -> Value {
    json!({
        (format!("open{dollars}")): bar.map(|bar| bar.open),
        (format!("low{dollars}")): bar.map(|bar| bar.low),
        (format!("high{dollars}")): bar.map(|bar| bar.high),
        (format!("close{dollars}")): bar.map(|bar| bar.close),
    })
}

/// Returns the candles of a range, oldest first.
///
/// With `latest`, one is made up in front if there is data from before the range: it carries the
/// last state to the first end of a period after the start. A true candle that ends there stands
/// for itself: it has the price from before the range, too.
pub(crate) fn candles(minutes: &BTreeMap<i64, Minute>, range: Range, latest: bool) -> Vec<Candle> {
    let (first, last) = range.periods();
    let from = first.saturating_mul(range.period);
    let until = last.saturating_add(1).saturating_mul(range.period);
    if from >= until {
        return Vec::new();
    }
    let mut before = minutes.range(..from).rev();
    let state = before.clone().next().map(|(_, minute)| *minute);
    let mut previous = before.find_map(|(_, minute)| minute.price.map(|bar| bar.close));
    let known = previous;
    let mut candles: Vec<Candle> = Vec::new();
    for (start, minute) in minutes.range(from..until) {
        let end = (start.div_euclid(range.period) + 1) * range.seconds();
        match candles.last_mut() {
            Some(candle) if candle.end == end => candle.minute.join(minute),
            _ => candles.push(Candle { end, minute: *minute, previous }),
        }
        previous = minute.price.map(|bar| bar.close).or(previous);
    }
    let next = (range.start.div_euclid(range.seconds()) + 1).saturating_mul(range.seconds());
    if let Some(state) = state.filter(|_| latest && next <= range.end)
        && candles.iter().all(|candle| candle.end > next)
    {
        let minute = Minute::after(&state);
        candles.insert(0, Candle { end: next, minute, previous: known });
    }
    candles
}

/// Leaves `most` candles at most, whole periods. Gives the end of the last one left if some had
/// to go.
fn cut(lists: &mut [Vec<Candle>], most: usize) -> Option<i64> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for candle in lists.iter().flatten() {
        *counts.entry(candle.end).or_default() += 1;
    }
    let mut sum = 0;
    let mut end = None;
    for (time, count) in counts {
        sum += count;
        if sum > most {
            // One period alone is never too much: an event has fewer markets than that.
            let end = end.unwrap_or(time);
            for list in lists.iter_mut() {
                list.retain(|candle| candle.end <= end);
            }
            return Some(end);
        }
        end = Some(time);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::amount::SaturatingArithmetic;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn minute(price: Option<&str>) -> Minute {
        let volume = price.map_or("0", |_| "2").parse().unwrap();
        Minute {
            bid: Bar::at(dollars("0.40")),
            ask: Bar::at(dollars("0.60")),
            price: price.map(|price| Bar::at(dollars(price))),
            volume,
            value: price
                .map_or(Dollars::ZERO, |price| dollars(price).saturating_add(dollars(price))),
            open_interest: "5".parse().unwrap(),
        }
    }

    #[test]
    fn a_range_takes_the_periods_that_end_in_it() {
        let periods = |start, end, period| Range { start, end, period }.periods();
        // Minute 0 ends at 60.
        assert_eq!(periods(60, 60, 1), (0, 0));
        assert_eq!(periods(61, 119, 1), (1, 0));
        assert_eq!(periods(61, 120, 1), (1, 1));
        assert_eq!(periods(0, 7_200, 60), (-1, 1));
        let extremes = periods(i64::MIN, i64::MAX, 1_440);
        assert!(extremes.0 < extremes.1);
    }

    #[test]
    fn too_many_candles_are_cut_between_periods() {
        let list = |ends: &[i64]| -> Vec<Candle> {
            ends.iter()
                .map(|end| Candle { end: *end, minute: minute(None), previous: None })
                .collect()
        };
        let mut lists = vec![list(&[60, 120, 180]), list(&[120, 240])];
        assert_eq!(cut(&mut lists, 5), None);
        assert_eq!(cut(&mut lists, 4), Some(180));
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(cut(&mut lists, 2), Some(60));
    }

    #[test]
    fn minutes_join_into_one_candle() {
        let mut joined = minute(Some("0.50"));
        joined.join(&minute(None));
        joined.join(&minute(Some("0.40")));
        let price = joined.price.unwrap();
        assert_eq!((price.open, price.close), (dollars("0.50"), dollars("0.40")));
        assert_eq!((price.low, price.high), (dollars("0.40"), dollars("0.50")));
        assert_eq!(average(joined.value, joined.volume), Some(dollars("0.45")));
    }
}
