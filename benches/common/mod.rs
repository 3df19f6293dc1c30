//! A page of markets like the exchange's, and a struct for it written by hand.

use kalshi_sdk::{Count, Dollars};
use serde::Deserialize;
use serde_json::json;

/// A page written by hand in the simplest way: owned texts for ids, times and enums, exact numbers.
#[derive(Deserialize)]
#[allow(dead_code, reason = "decoded, not read")]
pub(crate) struct HandPage {
    cursor: String,
    pub(crate) markets: Vec<HandMarket>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "decoded, not read")]
pub(crate) struct HandMarket {
    ticker: String,
    event_ticker: String,
    market_type: String,
    title: Option<String>,
    subtitle: Option<String>,
    yes_sub_title: String,
    no_sub_title: String,
    created_time: String,
    updated_time: String,
    open_time: String,
    close_time: String,
    expected_expiration_time: Option<String>,
    expiration_time: Option<String>,
    latest_expiration_time: String,
    settlement_timer_seconds: i64,
    status: String,
    yes_bid_dollars: Dollars,
    yes_bid_size_fp: Count,
    yes_ask_dollars: Dollars,
    yes_ask_size_fp: Count,
    no_bid_dollars: Dollars,
    no_ask_dollars: Dollars,
    last_price_dollars: Dollars,
    volume_fp: Count,
    volume_24h_fp: Count,
    result: String,
    can_close_early: bool,
    open_interest_fp: Count,
    notional_value_dollars: Dollars,
    previous_yes_bid_dollars: Dollars,
    previous_yes_ask_dollars: Dollars,
    previous_price_dollars: Dollars,
    settlement_value_dollars: Option<Dollars>,
    settlement_ts: Option<String>,
    settlement_bounds_type: String,
    settlement_floor_dollars: Option<Dollars>,
    expiration_value: String,
    occurrence_datetime: Option<String>,
    fee_waiver_expiration_time: Option<String>,
    early_close_condition: Option<String>,
    strike_type: Option<String>,
    floor_strike: Option<f64>,
    cap_strike: Option<f64>,
    functional_strike: Option<String>,
    custom_strike: Option<serde_json::Map<String, serde_json::Value>>,
    rules_primary: String,
    rules_secondary: String,
    mve_collection_ticker: Option<String>,
    mve_selected_legs: Option<Vec<HandLeg>>,
    primary_participant_key: Option<String>,
    price_level_structure: String,
    price_ranges: Vec<HandRange>,
    is_provisional: Option<bool>,
    exchange_index: Option<i64>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "decoded, not read")]
pub(crate) struct HandRange {
    start: Dollars,
    end: Dollars,
    step: Dollars,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "decoded, not read")]
pub(crate) struct HandLeg {
    event_ticker: Option<String>,
    market_ticker: Option<String>,
    side: Option<String>,
    yes_settlement_value_dollars: Option<Dollars>,
}

/// Returns a page like the exchange's: the texts are as long as theirs, the numbers vary.
pub(crate) fn page(rows: usize) -> String {
    let rules = "If the reported value for the period named in the title is strictly greater than \
                 the strike, then the market resolves to Yes. Otherwise it resolves to No. ";
    let markets: Vec<_> = (0..rows)
        .map(|i| {
            let cents = i % 97 + 1;
            json!({
                "ticker": format!("KXBENCHMARK-26NOV23-T{i:05}.99"),
                "event_ticker": format!("KXBENCHMARK-26NOV{:02}", i % 28 + 1),
                "market_type": "binary",
                "title": format!("Will the benchmark be above {i} on Nov 23, 2026?"),
                "subtitle": format!("{i} or above"),
                "yes_sub_title": format!("{i} or above"),
                "no_sub_title": format!("Below {i}"),
                "created_time": "2026-11-01T10:00:00.123456Z",
                "updated_time": "2026-11-22T10:00:00.654321Z",
                "open_time": "2026-11-01T14:00:00Z",
                "close_time": "2026-11-23T22:00:00Z",
                "expected_expiration_time": "2026-11-23T23:00:00Z",
                "expiration_time": "2026-11-30T22:00:00Z",
                "latest_expiration_time": "2026-11-30T22:00:00Z",
                "settlement_timer_seconds": 1800,
                "status": "active",
                "yes_bid_dollars": format!("0.{cents:02}00"),
                "yes_bid_size_fp": format!("{}.00", i * 7),
                "yes_ask_dollars": format!("0.{:02}00", cents + 2),
                "yes_ask_size_fp": format!("{}.50", i * 3),
                "no_bid_dollars": format!("0.{:02}00", 98 - cents),
                "no_ask_dollars": format!("0.{:02}00", 100 - cents),
                "last_price_dollars": format!("0.{cents:02}00"),
                "volume_fp": format!("{}.00", i * 1_013),
                "volume_24h_fp": format!("{}.00", i * 101),
                "result": "",
                "can_close_early": true,
                "open_interest_fp": format!("{}.25", i * 509),
                "notional_value_dollars": "1.0000",
                "previous_yes_bid_dollars": "0.5000",
                "previous_yes_ask_dollars": "0.5200",
                "previous_price_dollars": "0.5100",
                "settlement_value_dollars": null,
                "settlement_ts": null,
                "settlement_bounds_type": "default",
                "settlement_floor_dollars": "0.0000",
                "expiration_value": "",
                "occurrence_datetime": "2026-11-23T21:00:00Z",
                "fee_waiver_expiration_time": null,
                "early_close_condition": "This market closes early if the event occurs.",
                "strike_type": "greater",
                "floor_strike": f64::from(u32::try_from(i).unwrap_or(0)) + 0.99,
                "cap_strike": null,
                "functional_strike": null,
                "custom_strike": {"Participant": format!("{i:08x}-0000-4000-8000-000000000000")},
                "rules_primary": rules.repeat(2),
                "rules_secondary": rules,
                "mve_collection_ticker": "",
                "mve_selected_legs": [],
                "primary_participant_key": null,
                "price_level_structure": "tapered_deci_cent",
                "price_ranges": [
                    {"start": "0.0000", "end": "0.1000", "step": "0.0010"},
                    {"start": "0.1000", "end": "0.9000", "step": "0.0100"},
                    {"start": "0.9000", "end": "1.0000", "step": "0.0010"},
                ],
                "is_provisional": false,
                "exchange_index": 0,
            })
        })
        .collect();
    json!({"cursor": "CgsI0sWkwwYQqMCsIxIGS1hCVEM", "markets": markets}).to_string()
}
