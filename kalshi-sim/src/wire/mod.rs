//! The JSON forms that more than one layer writes: the answers to requests, the fixtures and the
//! streams.

use chrono::DateTime;
use kalshi_types::{Dollars, PriceLevel};
use serde_json::{Value, json};

use crate::engine::{
    Engine, Market,
    ids::{AccountId, CommunicationsId},
    types::{MarketResult, Time},
};

/// The id that others see of a requester that is hidden: one for all, the SHA-256 of nothing.
const HIDDEN: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Returns a time of the engine as RFC 3339 text.
pub(crate) fn time(time: Time) -> Value {
    json!(time.to_datetime().unwrap_or(DateTime::UNIX_EPOCH))
}

/// Returns a time of the engine in whole seconds.
pub(crate) fn seconds(time: Time) -> i64 {
    time.as_millis().div_euclid(1_000)
}

/// Returns the pseudonym of a member.
pub(crate) fn pseudonym(account: AccountId) -> String {
    CommunicationsId(account.0).to_string()
}

/// Returns the id of a requester as a reader sees it.
pub(crate) fn requester(account: AccountId, is_hidden: bool, reader: AccountId) -> String {
    if is_hidden && account != reader { HIDDEN.to_owned() } else { pseudonym(account) }
}

/// Returns a market as it goes over the wire: what the listing says `about` it, and what the engine
/// knows.
pub(crate) fn market(engine: &Engine, about: Option<&Value>, market: &Market) -> Value {
    let now = engine.now();
    let prices = market.prices();
    let before = market.day_before(now);
    let mut wire = about.cloned().unwrap_or_else(|| json!({}));
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
        // Deprecated and optional, but some clients cannot read a market without it.
        if let Some(latest) = wire.get("latest_expiration_time").cloned() {
            wire.insert("expiration_time".to_owned(), latest);
        }
        if let Some(result) = market.result {
            wire.insert("settlement_value_dollars".to_owned(), json!(result.value()));
        }
        if let Some(settled) = market.settled {
            wire.insert("settlement_ts".to_owned(), time(settled));
        }
    }
    wire
}
