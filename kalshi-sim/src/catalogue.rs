//! Made-up series, events and markets: the same for the same seed and start.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use kalshi_types::{Dollars, PriceRange};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    engine::{
        fees::Fees,
        types::{NewMarket, Shard},
    },
    random::Random,
};

/// Series, events and markets: what does not change while they trade.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    pub(crate) series: Vec<Value>,
    pub(crate) events: Vec<Value>,
    pub(crate) listings: Listings,
}

/// The markets to list, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listings {
    rows: Vec<Listing>,
    /// Places in `rows`, by ticker.
    places: BTreeMap<String, usize>,
}

/// One market to list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listing {
    pub(crate) market: NewMarket,
    /// What its reads say beside what the engine knows: titles, rules, strikes.
    pub(crate) about: Value,
}

/// (ticker, title, category, price level structure, its bands in 10⁻⁴ dollars, shard)
type Template =
    (&'static str, &'static str, &'static str, &'static str, &'static [(i64, i64, i64)], Shard);

const SERIES: [Template; 6] = [
    (
        "KXSIMTEMP",
        "Highest temperature in Simville",
        "Climate and Weather",
        "linear_cent",
        &[(0, 10_000, 100)],
        0,
    ),
    (
        "KXSIMRATE",
        "Rate decision of the Simulated Reserve",
        "Economics",
        "tapered_deci_cent",
        &[(0, 1_000, 10), (1_000, 9_000, 100), (9_000, 10_000, 10)],
        0,
    ),
    ("KXSIMCOIN", "Price of Simcoin", "Crypto", "deci_cent", &[(0, 10_000, 10)], 2),
    (
        "KXSIMGAME",
        "Winner of the simulated game",
        "Sports",
        "center_half_edge_half_cent",
        &[(0, 10_000, 50)],
        3,
    ),
    (
        "KXSIMVOTE",
        "Winner of the simulated election",
        "Elections",
        "center_whole_edge_quint_cent",
        &[(0, 1_000, 20), (1_000, 9_000, 100), (9_000, 10_000, 20)],
        0,
    ),
    (
        "KXSIMFILM",
        "Score of the simulated film",
        "Entertainment",
        "center_deci_edge_centi_cent",
        &[(0, 100, 1), (100, 9_900, 10), (9_900, 10_000, 1)],
        0,
    ),
];

/// Markets of each event, unless asked otherwise.
pub(crate) const STRIKES: u32 = 5;
/// Events whose markets are open at the start.
pub(crate) const OPEN_EVENTS: u32 = 12;

/// Micro-dollars in 10⁻⁴ dollars.
const CENTI_CENT: i64 = 100;

impl Catalogue {
    /// Makes the markets up.
    #[cfg(test)]
    pub(crate) fn new(seed: u64, start: DateTime<Utc>) -> Self {
        Self::with_strikes(seed, start, STRIKES)
    }

    /// Makes so many markets up for each event.
    pub(crate) fn with_strikes(seed: u64, start: DateTime<Utc>, strikes: u32) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_ca7a_1095);
        let mut made =
            Self { series: Vec::new(), events: Vec::new(), listings: Listings::default() };
        // Seeds differ in what the markets do, and from here in where their strikes begin.
        let first_strike = 20 + 5 * i64::try_from(random.below(8)).unwrap_or(0);
        for template in &SERIES {
            let strikes = (0..i64::from(strikes)).map(|strike| first_strike + 5 * strike);
            made.add_series(template, &strikes.collect::<Vec<_>>(), start);
        }
        made
    }

    /// What a market's reads say beside what the engine knows.
    pub(crate) fn about(&self, ticker: &str) -> Option<&Value> {
        self.listings.about(ticker)
    }

    /// Changes what YES means in a market.
    pub(crate) fn set_yes_sub_title(&mut self, ticker: &str, text: &str) {
        let place = self.listings.places.get(ticker);
        if let Some(listing) = place.and_then(|place| self.listings.rows.get_mut(*place)) {
            listing.about["yes_sub_title"] = json!(text);
        }
    }

    /// Lists a market, with a series and an event of its own if these are new.
    pub(crate) fn list(&mut self, listing: Listing) {
        let market = &listing.market;
        let now = market.opens.to_datetime();
        let title = listing.about["title"].clone();
        if !self.series.iter().any(|row| row["ticker"] == *market.series_ticker) {
            let ticker = &market.series_ticker;
            let title = title.as_str().unwrap_or_default();
            self.series.push(series_row(ticker, title, "World", market.shard, &json!(now)));
        }
        if !self.events.iter().any(|row| row["event_ticker"] == *market.event_ticker) {
            self.events.push(json!({
                "event_ticker": market.event_ticker,
                "series_ticker": market.series_ticker,
                "title": title,
                "sub_title": "",
                "category": "World",
                "collateral_return_type": "",
                "mutually_exclusive": false,
                "settlement_sources": [{"name": "The simulator", "url": SOURCE}],
                "exchange_index": market.shard,
                "strike_date": market.closes.to_datetime(),
                "last_updated_ts": now,
            }));
        }
        self.listings.add(listing);
    }

    fn add_series(&mut self, template: &Template, strikes: &[i64], start: DateTime<Utc>) {
        let (ticker, title, category, _, _, shard) = *template;
        self.series.push(series_row(ticker, title, category, shard, &json!(start)));
        for day in 0..4 {
            self.add_event(template, day, strikes, start);
        }
    }

    fn add_event(&mut self, template: &Template, day: i64, strikes: &[i64], start: DateTime<Utc>) {
        let (series, title, category, _, _, shard) = *template;
        // The first event of a series has ended, the last has not begun.
        let close = start + Duration::days(day) - Duration::hours(3);
        let event_ticker =
            format!("{series}-{}", close.format("%y%b%d").to_string().to_ascii_uppercase());
        self.events.push(json!({
            "event_ticker": event_ticker,
            "series_ticker": series,
            "title": title,
            "sub_title": close.format("On %b %d, %Y").to_string(),
            "category": category,
            "collateral_return_type": "",
            "mutually_exclusive": false,
            "settlement_sources": [{"name": "The simulator", "url": SOURCE}],
            "exchange_index": shard,
            "strike_date": close,
            "last_updated_ts": start,
        }));
        for strike in strikes {
            self.listings.add(Listing::new(template, &event_ticker, *strike, day, start, close));
        }
    }
}

impl Listings {
    /// What a market's reads say beside what the engine knows.
    pub(crate) fn about(&self, ticker: &str) -> Option<&Value> {
        self.rows.get(*self.places.get(ticker)?).map(|listing| &listing.about)
    }

    /// Adds a market; one with the same ticker is replaced.
    pub(crate) fn add(&mut self, listing: Listing) {
        self.places.insert(listing.market.ticker.clone(), self.rows.len());
        self.rows.push(listing);
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Listing> {
        self.rows.iter()
    }
}

impl Listing {
    fn new(
        template: &Template,
        event_ticker: &str,
        strike: i64,
        day: i64,
        start: DateTime<Utc>,
        close: DateTime<Utc>,
    ) -> Self {
        let (series, title, _, structure, bands, shard) = *template;
        let dollars = |n: i64| Dollars::from_micros(n * CENTI_CENT);
        let ranges: Vec<PriceRange> = bands
            .iter()
            .map(|(start, end, step)| PriceRange {
                start: dollars(*start),
                end: dollars(*end),
                step: dollars(*step),
            })
            .collect();
        // The last event of a series has not begun.
        let opens = if day == 3 { start + Duration::hours(6) } else { listed_at(start) };
        let market = NewMarket {
            ticker: format!("{event_ticker}-T{strike}"),
            event_ticker: event_ticker.to_owned(),
            series_ticker: series.to_owned(),
            shard,
            structure: structure.to_owned(),
            ranges,
            fees: Fees::default(),
            opens: opens.into(),
            closes: close.into(),
            settlement_timer_seconds: 1_800,
        };
        let about = json!({
            "title": title,
            "subtitle": "",
            "yes_sub_title": format!("{strike} or above"),
            "no_sub_title": format!("Below {strike}"),
            "expected_expiration_time": close + Duration::hours(1),
            "latest_expiration_time": close + Duration::days(7),
            "can_close_early": true,
            "settlement_bounds_type": "default",
            "expiration_value": "",
            "strike_type": "greater_or_equal",
            "floor_strike": strike,
            "rules_primary": "The simulator decides.",
            "rules_secondary": "",
        });
        Self { market, about }
    }

    pub(crate) fn is_combo(&self) -> bool {
        self.about.get("mve_collection_ticker").is_some()
    }
}

/// Where results are said to come from.
const SOURCE: &str = "https://example.com/results";

fn series_row(ticker: &str, title: &str, category: &str, shard: Shard, updated: &Value) -> Value {
    json!({
        "ticker": ticker,
        "title": title,
        "category": category,
        "categories": categories(category),
        "tags": tags(ticker),
        "frequency": "daily",
        "settlement_sources": [{"name": "The simulator", "url": SOURCE}],
        "contract_url": "",
        "contract_terms_url": "",
        "additional_prohibitions": [],
        "fee_type": "quadratic",
        "fee_multiplier": 1.0,
        "exchange_index": shard,
        "last_updated_ts": updated,
    })
}

/// The subjects of a series.
fn tags(series: &str) -> &'static [&'static str] {
    match series {
        "KXSIMTEMP" => &["Daily temperature", "Weather"],
        "KXSIMRATE" => &["Central banks", "Rates"],
        "KXSIMCOIN" => &["Daily", "Simcoin"],
        "KXSIMGAME" => &["Football", "Basketball"],
        "KXSIMVOTE" => &["Races"],
        "KXSIMFILM" => &["Film scores"],
        _ => &[],
    }
}

/// The category, and a second one where there is one.
fn categories(category: &str) -> Vec<&str> {
    match category {
        "Economics" => vec![category, "Financials"],
        "Elections" => vec![category, "Politics"],
        _ => vec![category],
    }
}

/// When the markets of the start were listed.
pub(crate) fn listed_at(start: DateTime<Utc>) -> DateTime<Utc> {
    start - Duration::days(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_markets_again() {
        let catalogue =
            |seed| Catalogue::new(seed, DateTime::from_timestamp(1_790_000_000, 0).unwrap());
        assert_eq!(format!("{:?}", catalogue(7)), format!("{:?}", catalogue(7)));
        assert_eq!(catalogue(7).listings.iter().count(), 120);
    }
}
