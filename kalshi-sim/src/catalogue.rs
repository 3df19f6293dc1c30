//! Made-up series, events and markets with order books: the same for the same seed and start.

use chrono::{DateTime, Duration, Utc};
use kalshi_types::{Count, Dollars, PriceGrid, PriceRange};
use serde_json::{Value, json};

use crate::random::Random;

/// Series, events and markets, as they go over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    pub(crate) series: Vec<Value>,
    pub(crate) events: Vec<Value>,
    pub(crate) markets: Vec<Market>,
    pub(crate) trades: Vec<Value>,
}

/// One market and its book.
#[derive(Clone, Debug)]
pub(crate) struct Market {
    pub(crate) ticker: String,
    pub(crate) event_ticker: String,
    pub(crate) series_ticker: String,
    /// One of the words of the status filter.
    pub(crate) filter_status: &'static str,
    pub(crate) close_time: DateTime<Utc>,
    pub(crate) created_time: DateTime<Utc>,
    pub(crate) wire: Value,
    /// Bids for YES and for NO, the best last.
    pub(crate) yes: Vec<(Dollars, Count)>,
    pub(crate) no: Vec<(Dollars, Count)>,
}

/// (ticker, title, category, price level structure, its bands in 10⁻⁴ dollars, shard)
type Template =
    (&'static str, &'static str, &'static str, &'static str, &'static [(i64, i64, i64)], i64);

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

/// Micro-dollars in 10⁻⁴ dollars.
const CENTI_CENT: i64 = 100;

impl Catalogue {
    /// Makes the markets up.
    pub(crate) fn new(seed: u64, start: DateTime<Utc>) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_ca7a_1095);
        let mut made = Self {
            series: Vec::new(),
            events: Vec::new(),
            markets: Vec::new(),
            trades: Vec::new(),
        };
        for template in &SERIES {
            made.add_series(template, &mut random, start);
        }
        // The newest trade comes first.
        made.trades.sort_by(|a, b| b["created_time"].as_str().cmp(&a["created_time"].as_str()));
        made
    }

    pub(crate) fn market(&self, ticker: &str) -> Option<&Market> {
        self.markets.iter().find(|market| market.ticker == ticker)
    }

    fn add_series(&mut self, template: &Template, random: &mut Random, start: DateTime<Utc>) {
        let (ticker, title, category, _, _, shard) = *template;
        self.series.push(json!({
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
            "last_updated_ts": start,
        }));
        for day in 0..4 {
            self.add_event(template, day, random, start);
        }
    }

    fn add_event(
        &mut self,
        template: &Template,
        day: i64,
        random: &mut Random,
        start: DateTime<Utc>,
    ) {
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
        for strike in 0..5 {
            let made = Market::new(template, &event_ticker, strike, day, random, start, close);
            if made.filter_status == "open" {
                self.add_trades(&made, random, start);
            }
            self.markets.push(made);
        }
    }

    fn add_trades(&mut self, market: &Market, random: &mut Random, start: DateTime<Utc>) {
        let Some((price, _)) = market.yes.last() else { return };
        for back in 1..=3 {
            let minutes = i64::try_from(random.below(60)).unwrap_or(0) + 60 * back;
            let count = Count::from_hundredths(i64::try_from(random.below(5_000)).unwrap_or(0) + 1);
            self.trades.push(json!({
                "trade_id": random.id(),
                "ticker": market.ticker,
                "count_fp": count,
                "yes_price_dollars": price,
                "no_price_dollars": price.complement(),
                "taker_side": "no",
                "taker_outcome_side": "no",
                "taker_book_side": "ask",
                "is_block_trade": false,
                "created_time": start - Duration::minutes(minutes),
            }));
        }
    }
}

impl Market {
    fn new(
        template: &Template,
        event_ticker: &str,
        strike: i64,
        day: i64,
        random: &mut Random,
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
        let (status, filter_status) = match day {
            0 => ("finalized", "settled"),
            3 => ("initialized", "unopened"),
            _ => ("active", "open"),
        };
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        if filter_status == "open" {
            (yes, no) = book(&ranges, random);
        }
        let best = |side: &[(Dollars, Count)]| side.last().copied();
        let (yes_bid, yes_size) = best(&yes).unwrap_or((Dollars::ZERO, Count::ZERO));
        let (no_bid, no_size) = best(&no).unwrap_or((Dollars::ZERO, Count::ZERO));
        let ask = |bid: Dollars| bid.complement().unwrap_or(Dollars::ONE);
        let volume = Count::from_hundredths(i64::try_from(random.below(5_000_000)).unwrap_or(0));
        let ticker = format!("{event_ticker}-T{}", 40 + 5 * strike);
        let created_time = start - Duration::days(7);
        let settled = filter_status == "settled";
        let won = random.below(2) == 0;
        let result = match (settled, won) {
            (false, _) => "",
            (true, true) => "yes",
            (true, false) => "no",
        };
        let mut wire = json!({
            "ticker": ticker,
            "event_ticker": event_ticker,
            "market_type": "binary",
            "title": title,
            "subtitle": "",
            "yes_sub_title": format!("{} or above", 40 + 5 * strike),
            "no_sub_title": format!("Below {}", 40 + 5 * strike),
            "created_time": created_time,
            "updated_time": start,
            "open_time": if day == 3 { start + Duration::hours(6) } else { created_time },
            "close_time": close,
            "expected_expiration_time": close + Duration::hours(1),
            "latest_expiration_time": close + Duration::days(7),
            "settlement_timer_seconds": 1_800,
            "status": status,
            "yes_bid_dollars": yes_bid,
            "yes_bid_size_fp": yes_size,
            "yes_ask_dollars": ask(no_bid),
            "yes_ask_size_fp": no_size,
            "no_bid_dollars": no_bid,
            "no_ask_dollars": ask(yes_bid),
            "last_price_dollars": yes_bid,
            "volume_fp": volume,
            "volume_24h_fp": volume,
            "result": result,
            "can_close_early": true,
            "open_interest_fp": volume,
            "notional_value_dollars": Dollars::ONE,
            "previous_yes_bid_dollars": yes_bid,
            "previous_yes_ask_dollars": ask(no_bid),
            "previous_price_dollars": yes_bid,
            "settlement_bounds_type": "default",
            "expiration_value": "",
            "strike_type": "greater_or_equal",
            "floor_strike": 40 + 5 * strike,
            "rules_primary": "The simulator decides.",
            "rules_secondary": "",
            "price_level_structure": structure,
            "price_ranges": ranges,
            "exchange_index": shard,
        });
        if settled {
            wire["settlement_ts"] = json!(close + Duration::minutes(30));
            let value = if won { Dollars::ONE } else { Dollars::ZERO };
            wire["settlement_value_dollars"] = json!(value);
        }
        Self {
            ticker,
            event_ticker: event_ticker.to_owned(),
            series_ticker: series.to_owned(),
            filter_status,
            close_time: close,
            created_time,
            wire,
            yes,
            no,
        }
    }
}

/// Where results are said to come from.
const SOURCE: &str = "https://example.com/results";

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

type Levels = Vec<(Dollars, Count)>;

/// A book around a made-up price, each level on the grid, bids ascending.
fn book(ranges: &[PriceRange], random: &mut Random) -> (Levels, Levels) {
    let Ok(grid) = PriceGrid::new(ranges.to_vec()) else { return (Vec::new(), Vec::new()) };
    let middle = Dollars::from_micros(
        CENTI_CENT * (i64::try_from(random.below(8_000)).unwrap_or(0) + 1_000),
    );
    let Some(mut bid) = grid.snap_down(middle) else { return (Vec::new(), Vec::new()) };
    let Some(mut ask) = grid.next_above(bid) else { return (Vec::new(), Vec::new()) };
    let mut size =
        || Count::from_hundredths(i64::try_from(random.below(100_000)).unwrap_or(0) + 100);
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        yes.push((bid, size()));
        if let Some(price) = ask.complement() {
            no.push((price, size()));
        }
        match (grid.next_below(bid), grid.next_above(ask)) {
            (Some(lower), Some(higher)) => (bid, ask) = (lower, higher),
            _ => break,
        }
    }
    yes.reverse();
    no.reverse();
    (yes, no)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(seed: u64) -> Catalogue {
        Catalogue::new(seed, DateTime::from_timestamp(1_790_000_000, 0).unwrap())
    }

    #[test]
    fn a_seed_makes_the_same_markets_again() {
        assert_eq!(format!("{:?}", catalogue(7)), format!("{:?}", catalogue(7)));
        assert_ne!(format!("{:?}", catalogue(7)), format!("{:?}", catalogue(8)));
    }

    #[test]
    fn every_book_is_on_its_grid_ascending_and_not_crossed() {
        let mut open = 0;
        for market in catalogue(1).markets.iter().filter(|m| m.filter_status == "open") {
            open += 1;
            let ranges: Vec<PriceRange> =
                serde_json::from_value(market.wire["price_ranges"].clone()).unwrap();
            let grid = PriceGrid::new(ranges).unwrap();
            for side in [&market.yes, &market.no] {
                assert!(!side.is_empty());
                assert!(side.iter().all(|(price, _)| grid.is_valid(*price)), "{}", market.ticker);
                assert!(side.is_sorted_by(|a, b| a.0 < b.0));
            }
            let ask = market.no.last().unwrap().0.complement().unwrap();
            assert!(market.yes.last().unwrap().0 < ask);
        }
        assert_eq!(open, 60);
    }
}
