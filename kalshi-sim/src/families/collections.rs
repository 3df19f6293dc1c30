//! Combo collections: which markets may be joined, and the joining. A combo that exists already is
//! given again; a new one is opened through [`MarketMaker`] and counts towards the weekly quota.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    families::{Account, MarketMaker, dice::id_of},
    query::Query,
    reply::{Outcome, Reply},
};

/// How many markets an account may make in a week.
const WEEKLY: usize = 5_000;
const WEEK: Duration = Duration::days(7);
/// The shard of all combos.
const SHARD: u8 = 1;
const STRUCTURE: &str = "center_deci_edge_centi_cent";

/// Series of combos: ticker and title.
const SERIES: [(&str, &str); 2] =
    [("KXMVESIMCROSS", "Combos across categories"), ("KXMVESIMSERIES", "Combos within one series")];

/// All collections and the combos made from them.
#[derive(Debug)]
pub(crate) struct Collections {
    seed: u64,
    rows: Vec<Collection>,
    /// The events of the combos, the oldest first.
    events: Vec<Combo>,
    /// The place of a combo in `events`, by collection and legs.
    made: BTreeMap<String, usize>,
    /// By account.
    quota: BTreeMap<String, Quota>,
}

/// The combos that were made, for a saved exchange.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    events: Vec<Combo>,
    places: BTreeMap<String, usize>,
    quota: BTreeMap<String, Quota>,
}

/// When markets were made in the last week.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Quota(VecDeque<DateTime<Utc>>);

#[derive(Clone, Debug)]
struct Collection {
    ticker: String,
    series: &'static str,
    title: String,
    open: DateTime<Utc>,
    close: DateTime<Utc>,
    events: Vec<Associated>,
    ordered: bool,
    sizes: (usize, usize),
}

/// An event whose markets may be legs.
#[derive(Clone, Debug)]
struct Associated {
    ticker: String,
    yes_only: bool,
    most: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Combo {
    collection: String,
    event: Value,
    market: String,
}

/// One leg, as the request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leg {
    pub(crate) market_ticker: String,
    pub(crate) event_ticker: String,
    pub(crate) side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Yes,
    No,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    selected_markets: Vec<Leg>,
    #[serde(default)]
    with_market_payload: bool,
}

/// A combo market that is to be opened.
#[derive(Clone, Debug)]
pub(crate) struct NewMarket {
    pub(crate) ticker: String,
    pub(crate) event_ticker: String,
    pub(crate) series_ticker: String,
    pub(crate) collection_ticker: String,
    pub(crate) title: String,
    pub(crate) legs: Vec<Leg>,
    pub(crate) close_time: DateTime<Utc>,
    pub(crate) price_level_structure: &'static str,
    /// As they go over the wire.
    pub(crate) price_ranges: Value,
    pub(crate) exchange_index: u8,
}

impl Collections {
    pub(crate) fn made(&self) -> Made {
        let (events, places) = (self.events.clone(), self.made.clone());
        Made { events, places, quota: self.quota.clone() }
    }

    pub(crate) fn restore(&mut self, saved: Made) {
        self.events = saved.events;
        self.made = saved.places;
        self.quota = saved.quota;
    }

    /// Makes the collections for the events of the catalogue, past ones too, and adds the series of
    /// the combos.
    pub(crate) fn new(
        seed: u64,
        start: DateTime<Utc>,
        series: &mut Vec<Value>,
        events: &[Value],
    ) -> Self {
        let dated: Vec<(DateTime<Utc>, &Value)> = events
            .iter()
            .filter_map(|event| Some((event["strike_date"].as_str()?.parse().ok()?, event)))
            .collect();
        let mut days: BTreeMap<DateTime<Utc>, Vec<&Value>> = BTreeMap::new();
        let mut of_series: BTreeMap<String, Vec<(DateTime<Utc>, &Value)>> = BTreeMap::new();
        for (date, event) in dated {
            days.entry(date).or_default().push(event);
            if date > start - Duration::days(1) {
                let ticker = event["series_ticker"].as_str().unwrap_or_default();
                of_series.entry(ticker.to_owned()).or_default().push((date, event));
            }
        }
        let mut rows = Vec::new();
        for (close, events) in &days {
            let day = close.format("%y%b%d").to_string().to_ascii_uppercase();
            rows.push(Collection {
                ticker: format!("{}-{day}", SERIES[0].0),
                series: SERIES[0].0,
                title: close.format("Combos of %b %d, %Y").to_string(),
                open: *close - Duration::days(2),
                close: *close,
                events: events.iter().map(|event| Associated::new(event, false, Some(3))).collect(),
                ordered: false,
                sizes: (2, 6),
            });
        }
        for (number, (ticker, events)) in of_series.iter().enumerate() {
            let Some((last, _)) = events.last() else { continue };
            rows.push(Collection {
                ticker: format!("{}-{ticker}", SERIES[1].0),
                series: SERIES[1].0,
                title: format!("Combos of {ticker}"),
                open: start - Duration::days(7),
                close: *last,
                events: events
                    .iter()
                    .map(|(_, event)| Associated::new(event, number % 2 == 0, Some(1)))
                    .collect(),
                ordered: number % 3 == 2,
                sizes: (2, 3),
            });
        }
        // One that is still to come.
        if let Some((_, events)) = days.iter().next_back() {
            rows.push(Collection {
                ticker: format!("{}-NEXT", SERIES[0].0),
                series: SERIES[0].0,
                title: "Combos to come".to_owned(),
                open: start + Duration::days(30),
                close: start + Duration::days(60),
                events: events.iter().map(|event| Associated::new(event, true, None)).collect(),
                ordered: false,
                sizes: (2, 10),
            });
        }
        rows.reverse();
        series.extend(SERIES.iter().map(|(ticker, title)| series_wire(ticker, title, start)));
        Self { seed, rows, events: Vec::new(), made: BTreeMap::new(), quota: BTreeMap::new() }
    }

    pub(crate) fn list(&self, query: &Query, now: DateTime<Utc>) -> Outcome {
        let status = query.word("status", &["unopened", "open", "closed"])?;
        let event = query.get("associated_event_ticker");
        let series = query.get("series_ticker");
        let rows: Vec<&Collection> = self
            .rows
            .iter()
            .filter(|row| status.is_none_or(|status| row.status(now) == status))
            .filter(|row| event.is_none_or(|event| row.event(event).is_some()))
            .filter(|row| series.is_none_or(|series| row.series == series))
            .collect();
        let (rows, cursor) = query.page(rows, 100, 200)?;
        let rows: Vec<Value> = rows.into_iter().map(Collection::wire).collect();
        Ok(Reply::ok(json!({"multivariate_contracts": rows, "cursor": cursor})))
    }

    pub(crate) fn get(&self, ticker: &str) -> Outcome {
        Ok(Reply::ok(json!({"multivariate_contract": self.find(ticker)?.wire()})))
    }

    /// The events of the combos that have been made.
    pub(crate) fn events(&self, markets: &dyn MarketMaker, query: &Query) -> Outcome {
        let series = query.get("series_ticker");
        let collection = query.get("collection_ticker");
        if series.is_some() && collection.is_some() {
            return Err(Reply::bad_request("series_ticker does not go with collection_ticker"));
        }
        let nested = query.flag("with_nested_markets")?;
        let rows: Vec<&Combo> = self
            .events
            .iter()
            .rev()
            .filter(|row| series.is_none_or(|series| row.event["series_ticker"] == series))
            .filter(|row| collection.is_none_or(|collection| row.collection == collection))
            .collect();
        let (rows, cursor) = query.page(rows, 100, 200)?;
        let rows: Vec<Value> = rows
            .into_iter()
            .map(|row| {
                let mut event = row.event.clone();
                if nested {
                    event["markets"] = markets.market(&row.market).into_iter().collect();
                }
                event
            })
            .collect();
        Ok(Reply::ok(json!({"events": rows, "cursor": cursor})))
    }

    pub(crate) fn event(&self, ticker: &str) -> Option<&Value> {
        self.events.iter().map(|row| &row.event).find(|event| event["event_ticker"] == ticker)
    }

    /// Opens the combo of some legs, or gives the one there is.
    pub(crate) fn create(
        &mut self,
        account: &Account<'_>,
        ticker: &str,
        body: &Value,
        events: &[Value],
        markets: &mut dyn MarketMaker,
        now: DateTime<Utc>,
    ) -> Outcome {
        let request =
            Request::deserialize(body).map_err(|error| Reply::bad_request(&error.to_string()))?;
        let collection = self.find(ticker)?;
        if collection.status(now) != "open" {
            return Err(Reply::bad_request("the collection is not open"));
        }
        let mut legs = request.selected_markets;
        let close_time = collection.check(&legs, events, markets)?;
        if !collection.ordered {
            legs.sort();
        }
        let names: Vec<String> = legs
            .iter()
            .map(|leg| {
                format!(
                    "{} {}",
                    if leg.side == Side::Yes { "yes" } else { "no" },
                    leg.market_ticker
                )
            })
            .collect();
        let key = format!("{ticker} {}", names.join(","));
        let place = if let Some(place) = self.made.get(&key) {
            *place
        } else {
            if !self.quota.entry(account.id.to_owned()).or_default().take(now) {
                return Err(Reply::too_many_requests());
            }
            self.open(ticker, key, &names.join(","), legs, close_time, markets, now)?
        };
        let made = self.events.get(place).ok_or_else(Reply::not_found)?;
        let mut reply = json!({
            "event_ticker": made.event["event_ticker"],
            "market_ticker": made.market,
        });
        if request.with_market_payload
            && let Some(market) = markets.market(&made.market)
        {
            reply["market"] = market;
        }
        Ok(Reply::ok(reply))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one market, each of its own type")]
    fn open(
        &mut self,
        ticker: &str,
        key: String,
        title: &str,
        legs: Vec<Leg>,
        close_time: DateTime<Utc>,
        markets: &mut dyn MarketMaker,
        now: DateTime<Utc>,
    ) -> Result<usize, Reply> {
        let series = self.find(ticker)?.series;
        let hash = id_of(self.seed, &key).replace('-', "").to_ascii_uppercase();
        let (left, right) = hash.split_at(13);
        let event_ticker = format!("{series}-S{}{left}", now.format("%Y"));
        let market = format!("{event_ticker}-{}", right.get(..11).unwrap_or(right));
        markets.open(
            NewMarket {
                ticker: market.clone(),
                event_ticker: event_ticker.clone(),
                series_ticker: series.to_owned(),
                collection_ticker: ticker.to_owned(),
                title: title.to_owned(),
                legs,
                close_time,
                price_level_structure: STRUCTURE,
                price_ranges: ranges(),
                exchange_index: SHARD,
            },
            now,
        )?;
        let event = json!({
            "event_ticker": event_ticker,
            "series_ticker": series,
            "title": title,
            "sub_title": "",
            "category": "Sports",
            "collateral_return_type": "",
            "mutually_exclusive": false,
            "settlement_sources": [],
            "exchange_index": SHARD,
            "strike_date": close_time,
            "last_updated_ts": now,
        });
        let place = self.events.len();
        self.events.push(Combo { collection: ticker.to_owned(), event, market });
        self.made.insert(key, place);
        Ok(place)
    }

    fn find(&self, ticker: &str) -> Result<&Collection, Reply> {
        self.rows.iter().find(|row| row.ticker == ticker).ok_or_else(Reply::not_found)
    }
}

impl Quota {
    /// Takes one, if there is one left.
    fn take(&mut self, now: DateTime<Utc>) -> bool {
        while self.0.front().is_some_and(|made| *made + WEEK <= now) {
            self.0.pop_front();
        }
        let left = self.0.len() < WEEKLY;
        if left {
            self.0.push_back(now);
        }
        left
    }
}

impl Collection {
    fn status(&self, now: DateTime<Utc>) -> &'static str {
        match now {
            now if now < self.open => "unopened",
            now if now < self.close => "open",
            _ => "closed",
        }
    }

    fn event(&self, ticker: &str) -> Option<&Associated> {
        self.events.iter().find(|event| event.ticker == ticker)
    }

    /// Checks the legs against the rules. Gives the time at which the last of them closes.
    fn check(
        &self,
        legs: &[Leg],
        events: &[Value],
        markets: &dyn MarketMaker,
    ) -> Result<DateTime<Utc>, Reply> {
        let mut sides: BTreeMap<&str, BTreeSet<Side>> = BTreeMap::new();
        let (mut doubled, mut torn) = (BTreeSet::new(), BTreeSet::new());
        for leg in legs {
            let of_market = sides.entry(&leg.market_ticker).or_default();
            if !of_market.insert(leg.side) {
                doubled.insert(leg.market_ticker.as_str());
            } else if of_market.len() > 1 {
                torn.insert(leg.market_ticker.as_str());
            }
        }
        refuse("duplicated_legs", "a leg is named twice", &doubled)?;
        // Of a mutually exclusive event only one market can come true.
        let mut winners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for leg in legs.iter().filter(|leg| leg.side == Side::Yes) {
            winners.entry(&leg.event_ticker).or_default().insert(&leg.market_ticker);
        }
        for (event, tickers) in winners.iter().filter(|(_, tickers)| tickers.len() > 1) {
            let found = events.iter().find(|row| row["event_ticker"] == **event);
            if found.is_some_and(|event| event["mutually_exclusive"] == true) {
                torn.extend(tickers);
            }
        }
        refuse("conflicting_leg_outcomes", "legs exclude each other", &torn)?;
        let mut wrong = BTreeSet::new();
        let mut close_time = DateTime::<Utc>::MIN_UTC;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for leg in legs {
            *counts.entry(&leg.event_ticker).or_default() += 1;
        }
        // So many that looking each of them up is a waste.
        let (least, most) = self.sizes;
        if !(least..=most).contains(&legs.len()) {
            wrong.extend(legs.iter().take(most + 1).map(|leg| leg.market_ticker.as_str()));
            return Err(refusal(
                "invalid_market_combination",
                &format!("a combo of this collection has {least} to {most} legs"),
                &wrong,
            ));
        }
        for leg in legs {
            let market = markets.market(&leg.market_ticker);
            let sound = market.as_ref().is_some_and(|market| {
                market["event_ticker"] == *leg.event_ticker && market["status"] == "active"
            });
            let allowed = self.event(&leg.event_ticker).is_some_and(|event| {
                let count = counts.get(leg.event_ticker.as_str()).copied().unwrap_or(0);
                (leg.side == Side::Yes || !event.yes_only)
                    && event.most.is_none_or(|most| count <= most)
            });
            if !(sound && allowed) {
                wrong.insert(leg.market_ticker.as_str());
            }
            let closes = market.as_ref().and_then(|market| market["close_time"].as_str());
            if let Some(closes) = closes.and_then(|text| text.parse().ok()) {
                close_time = close_time.max(closes);
            }
        }
        refuse("invalid_market_combination", "these markets cannot be joined here", &wrong)?;
        Ok(close_time)
    }

    fn wire(&self) -> Value {
        let events: Vec<Value> = self.events.iter().map(Associated::wire).collect();
        let tickers: Vec<&str> = self.events.iter().map(|event| event.ticker.as_str()).collect();
        json!({
            "collection_ticker": self.ticker,
            "series_ticker": self.series,
            "exchange_index": SHARD,
            "title": self.title,
            "description": format!("{}: join {} to {} markets", self.title, self.sizes.0, self.sizes.1),
            "open_date": self.open,
            "close_date": self.close,
            "associated_events": events,
            "associated_event_tickers": tickers,
            "is_ordered": self.ordered,
            "is_single_market_per_event": self.events.iter().all(|event| event.most == Some(1)),
            "is_all_yes": self.events.iter().all(|event| event.yes_only),
            "size_min": self.sizes.0,
            "size_max": self.sizes.1,
            "functional_description": "The combo is worth the product of its legs.",
            "price_level_structure": STRUCTURE,
            "price_ranges": ranges(),
        })
    }
}

impl Associated {
    fn new(event: &Value, yes_only: bool, most: Option<usize>) -> Self {
        let ticker = event["event_ticker"].as_str().unwrap_or_default().to_owned();
        Self { ticker, yes_only, most }
    }

    fn wire(&self) -> Value {
        json!({
            "ticker": self.ticker,
            "is_yes_only": self.yes_only,
            "size_max": self.most,
            "size_min": null,
            "active_quoters": [],
        })
    }
}

fn ranges() -> Value {
    json!([
        {"start": "0.0000", "end": "0.0100", "step": "0.0001"},
        {"start": "0.0100", "end": "0.9900", "step": "0.0010"},
        {"start": "0.9900", "end": "1.0000", "step": "0.0001"},
    ])
}

fn series_wire(ticker: &str, title: &str, start: DateTime<Utc>) -> Value {
    json!({
        "ticker": ticker,
        "title": title,
        "category": "Sports",
        "categories": ["Sports", "Exotics"],
        "tags": ["Combos"],
        "frequency": "custom",
        "settlement_sources": null,
        "contract_url": "",
        "contract_terms_url": "",
        "additional_prohibitions": [],
        "fee_type": "quadratic_with_combo_maker_fees",
        "fee_multiplier": 1.0,
        "exchange_index": SHARD,
        "last_updated_ts": start,
    })
}

fn refuse(code: &str, message: &str, offending: &BTreeSet<&str>) -> Result<(), Reply> {
    if offending.is_empty() { Ok(()) } else { Err(refusal(code, message, offending)) }
}

/// A 400 whose details are the tickers that offended.
fn refusal(code: &str, message: &str, offending: &BTreeSet<&str>) -> Reply {
    let tickers: Vec<&str> = offending.iter().copied().collect();
    Reply::nested(400, code, message, Some(&tickers.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_comes_back_a_week_after_it_was_taken() {
        let mut quota = Quota::default();
        let start = DateTime::<Utc>::UNIX_EPOCH;
        assert!((0..WEEKLY).all(|_| quota.take(start)));
        assert!(!quota.take(start + WEEK - Duration::milliseconds(1)));
        assert!(quota.take(start + WEEK));
        assert_eq!(quota.0.len(), 1);
    }
}
