//! The messages of the streams, as they go over the wire.

use std::fmt::{Display, Write as _};

use chrono::{DateTime, Utc};
use kalshi_types::{Count, Dollars, PriceLevel};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        Market,
        amount::{other_leg, payout},
        fees::Fees,
        ids::{AccountId, GroupId, MarketId, OrderId, RfqId, TradeId},
        principal::Principal,
        rfq::{Batch, BatchQuote, BatchStatus, Ending, Quote, QuoteStatus, Rfq, Size},
        types::{
            Event, Fill, GroupChange, MarketChange, MarketResult, QuoteChange, Reason, Side,
            Subaccount, Time,
        },
    },
    state::State,
    wire::{pseudonym, requester, time},
};

/// Returns a level's price as the book channel gives it: asks are bids for NO, in NO prices unless
/// the subscription wants YES prices.
fn book_price(side: Side, price: Dollars, yes_prices: bool) -> Dollars {
    if yes_prices { price } else { side.leg_price(price) }
}

/// Returns the text of a frame, its fields in the order of the document.
pub(super) fn frame(
    kind: &str,
    id: Option<i64>,
    sid: Option<u64>,
    seq: Option<u64>,
    msg: Option<&str>,
    sent: i64,
) -> String {
    let length = msg.map_or(0, str::len) + kind.len() + 128;
    let mut text = String::with_capacity(length);
    text.push_str("{\"type\":\"");
    text.push_str(kind);
    text.push('"');
    let mut field = |name: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            // Writing into memory cannot fail.
            let _ = write!(text, ",\"{name}\":{value}");
        }
    };
    field("id", id.as_ref().map(|id| id as _));
    field("sid", sid.as_ref().map(|sid| sid as _));
    field("seq", seq.as_ref().map(|seq| seq as _));
    field("msg", msg.as_ref().map(|msg| msg as _));
    field("sending_ts_ms", Some(&sent));
    text.push('}');
    text
}

/// A whole book, in the order of the document.
#[derive(Serialize)]
struct Snapshot<'a> {
    market_ticker: &'a str,
    market_id: String,
    clock: u64,
    // An empty side has no key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    yes_dollars_fp: Vec<PriceLevel>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_dollars_fp: Vec<PriceLevel>,
}

pub(super) fn snapshot(market: &Market, yes_prices: bool) -> String {
    let side = |side: Side| -> Vec<PriceLevel> {
        market
            .levels(side)
            .map(|level| PriceLevel {
                price: book_price(side, level.price, yes_prices),
                count: level.count,
            })
            .collect()
    };
    written(&Snapshot {
        market_ticker: &market.ticker,
        market_id: market.id.to_string(),
        clock: market.clock,
        yes_dollars_fp: side(Side::Bid),
        no_dollars_fp: side(Side::Ask),
    })
}

/// A change of one level, in the order of the document.
#[derive(Serialize)]
struct LevelChange<'a> {
    market_ticker: &'a str,
    market_id: String,
    clock: u64,
    price_dollars: Dollars,
    delta_fp: Count,
    side: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_order_id: Option<&'a str>,
    ts: Value,
    ts_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    subaccount: Option<Subaccount>,
}

/// Returns a change of one level; the owner of the order also learns which it was.
pub(super) fn delta(
    state: &State,
    event: &Event,
    reader: Principal,
    yes_prices: bool,
) -> Option<String> {
    let Event::Level { market, side, price, delta, order, clock } = event else { return None };
    let market = state.engine.market(*market)?;
    let now = state.engine.now();
    let order = state.engine.order(*order);
    let own = order.filter(|order| reader.owns(order.account, order.subaccount));
    Some(written(&LevelChange {
        market_ticker: &market.ticker,
        market_id: market.id.to_string(),
        clock: *clock,
        price_dollars: book_price(*side, *price, yes_prices),
        delta_fp: *delta,
        side: side.outcome(),
        client_order_id: own.and_then(|order| order.extras().client_order_id.as_deref()),
        ts: time(now),
        ts_ms: now.as_millis(),
        subaccount: own.map(|order| order.subaccount).filter(|subaccount| *subaccount != 0),
    }))
}

fn written(msg: &impl Serialize) -> String {
    // Texts, numbers and lists of them: writing these into memory cannot fail.
    serde_json::to_string(msg).unwrap_or_default()
}

pub(super) fn ticker(state: &State, market: &Market) -> Value {
    let now = state.engine.now();
    let prices = market.prices();
    let size = |level: Option<PriceLevel>| level.map_or(Count::ZERO, |level| level.count);
    let whole = |dollars: Dollars| dollars.as_micros() / Dollars::ONE.as_micros();
    json!({
        "market_ticker": market.ticker,
        "market_id": market.id.to_string(),
        "price_dollars": market.last_price.unwrap_or(Dollars::ZERO),
        "yes_bid_dollars": prices.yes_bid(),
        "yes_ask_dollars": prices.yes_ask(),
        "yes_bid_size_fp": size(prices.bid),
        "yes_ask_size_fp": size(prices.ask),
        "last_trade_size_fp": market.last_size,
        "volume_fp": market.volume,
        "open_interest_fp": market.open_interest,
        "dollar_volume": whole(market.value),
        "dollar_open_interest": whole(payout(market.open_interest)),
        "ts": seconds(now),
        "ts_ms": now.as_millis(),
        "time": time(now),
    })
}

pub(super) fn trade(state: &State, id: TradeId) -> Option<Value> {
    let trade = state.engine.trade(id)?;
    let market = state.engine.market(trade.market)?;
    Some(json!({
        "trade_id": trade.id.to_string(),
        "market_ticker": market.ticker,
        "yes_price_dollars": trade.price,
        "no_price_dollars": other_leg(trade.price),
        "count_fp": trade.count,
        "taker_side": trade.taker_side.outcome(),
        "taker_outcome_side": trade.taker_side.outcome(),
        "taker_book_side": trade.taker_side.as_str(),
        "is_block_trade": trade.block,
        "ts": seconds(trade.at),
        "ts_ms": trade.at.as_millis(),
    }))
}

pub(super) fn fill(state: &State, fill: &Fill) -> Option<Value> {
    let market = state.engine.market(fill.market)?;
    let mut msg = json!({
        "trade_id": fill.trade.to_string(),
        "order_id": fill.order.to_string(),
        "market_ticker": market.ticker,
        "exchange_index": market.shard,
        "is_taker": fill.taker,
        "side": fill.side.outcome(),
        "action": "buy",
        "purchased_side": fill.side.outcome(),
        "outcome_side": fill.side.outcome(),
        "book_side": fill.side.as_str(),
        "yes_price_dollars": fill.price,
        "count_fp": fill.count,
        "fee_cost": fill.fee,
        "post_position_fp": fill.position,
        "ts": seconds(fill.at),
        "ts_ms": fill.at.as_millis(),
    });
    let order = state.engine.order(fill.order);
    if let Some(id) = order.and_then(|order| order.extras().client_order_id.as_ref()) {
        msg["client_order_id"] = json!(id);
    }
    if fill.subaccount != 0 {
        msg["subaccount"] = json!(fill.subaccount);
    }
    Some(msg)
}

pub(super) fn user_order(state: &State, id: OrderId, reason: Reason) -> Option<Value> {
    let order = state.engine.order(id)?;
    let market = state.engine.market(order.market)?;
    let mut msg = json!({
        "order_id": order.id.to_string(),
        "user_id": order.account.to_string(),
        "client_order_id": order.extras().client_order_id.as_deref().unwrap_or(""),
        "ticker": market.ticker,
        "status": order.status.as_str(),
        "side": order.side.outcome(),
        "is_yes": order.side == Side::Bid,
        "outcome_side": order.side.outcome(),
        "book_side": order.side.as_str(),
        "yes_price_dollars": order.price,
        "initial_count_fp": order.initial,
        "remaining_count_fp": order.remaining,
        "fill_count_fp": order.filled,
        "taker_fill_cost_dollars": order.extras().taker_cost,
        "maker_fill_cost_dollars": order.extras().maker_cost,
        "taker_fees_dollars": order.extras().taker_fees,
        "maker_fees_dollars": order.extras().maker_fees,
        "self_trade_prevention_type": order.self_trade.as_str(),
        "created_time": time(order.created),
        "created_ts_ms": order.created.as_millis(),
        "last_update_time": time(order.updated),
        "last_updated_ts_ms": order.updated.as_millis(),
        "subaccount_number": order.subaccount,
        "exchange_index": market.shard,
    });
    if let Some(reason) = last_update_reason(reason) {
        msg["last_update_reason"] = json!(reason);
    }
    if let Some(group) = order.extras().group {
        msg["order_group_id"] = json!(group.to_string());
    }
    if let Some(expires) = order.extras().expires {
        msg["expiration_time"] = time(expires);
        msg["expiration_ts_ms"] = json!(expires.as_millis());
    }
    Some(msg)
}

/// Returns the word for the last change of an order, of the closed list that is published. It has
/// none for an order that was placed or canceled by its owner, and for the end of an
/// immediate-or-cancel order, of a group and of a pause.
fn last_update_reason(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::None
        | Reason::OrderGroupCancel
        | Reason::PauseCancel
        | Reason::ImmediateOrCancel => None,
        Reason::Decrease
        | Reason::Amend
        | Reason::Trade
        | Reason::SelfTradeCancel
        | Reason::ExpiryCancel
        | Reason::PostOnlyCrossCancel
        | Reason::ReduceOnlyCancel
        | Reason::CloseCancel => Some(reason.as_str()),
        // Of the other product.
        #[cfg(feature = "perps")]
        Reason::MarginCancel | Reason::HaltCancel => None,
    }
}

pub(super) fn position(
    state: &State,
    account: AccountId,
    subaccount: Subaccount,
    market: MarketId,
) -> Option<Value> {
    let held = state.engine.ledger.account(account)?;
    let position = held.positions.get(&(market, subaccount))?;
    let mut msg = json!({
        "user_id": account.to_string(),
        "market_ticker": state.engine.market(market)?.ticker,
        "position_fp": position.net(),
        "position_cost_dollars": position.exposure(),
        "realized_pnl_dollars": position.realized,
        "fees_paid_dollars": position.fees,
        "position_fee_cost_dollars": position.fees,
        "volume_fp": position.volume,
    });
    if subaccount != 0 {
        msg["subaccount"] = json!(subaccount);
    }
    Some(msg)
}

pub(super) fn group(state: &State, id: GroupId, change: GroupChange) -> Value {
    let mut msg = json!({
        "event_type": change.as_str(),
        "order_group_id": id.to_string(),
        "ts_ms": state.engine.now().as_millis(),
    });
    if matches!(change, GroupChange::Created | GroupChange::LimitUpdated)
        && let Some(group) = state.engine.group(id)
    {
        msg["contracts_limit_fp"] = json!(group.limit);
    }
    msg
}

pub(super) fn lifecycle(state: &State, market: &Market, change: MarketChange) -> Value {
    let mut msg = json!({"market_ticker": market.ticker});
    let mut add = |key: &str, value: Value| msg[key] = value;
    let word = match change {
        MarketChange::Created => {
            add("exchange_index", json!(market.shard));
            add("open_ts", json!(seconds(market.opens)));
            add("close_ts", json!(seconds(market.closes)));
            add("price_level_structure", json!(market.structure));
            if !is_combo(market) {
                add("price_ranges", json!(market.grid.ranges()));
            }
            add("additional_metadata", metadata(state, market));
            "created"
        }
        MarketChange::Activated => {
            add("is_deactivated", json!(false));
            "activated"
        }
        MarketChange::Deactivated => {
            add("is_deactivated", json!(true));
            "deactivated"
        }
        MarketChange::CloseDateUpdated => {
            add("close_ts", json!(seconds(market.closes)));
            "close_date_updated"
        }
        MarketChange::Determined => {
            let value = market.result.map_or(Dollars::ZERO, MarketResult::value);
            add("result", json!(market.result.map_or("", MarketResult::as_str)));
            add("determination_ts", json!(market.determined.map_or(0, seconds)));
            add("settlement_value", json!(value));
            "determined"
        }
        MarketChange::Settled => {
            add("settled_ts", json!(market.settled.map_or(0, seconds)));
            "settled"
        }
        MarketChange::PriceLevelStructureUpdated => {
            add("price_level_structure", json!(market.structure));
            add("price_ranges", json!(market.grid.ranges()));
            "price_level_structure_updated"
        }
        MarketChange::MetadataUpdated => {
            let about = state.catalog.about(&market.ticker);
            for key in
                ["yes_sub_title", "strike_type", "floor_strike", "cap_strike", "custom_strike"]
            {
                let value = about.and_then(|about| about.get(key));
                if let Some(value) = value.filter(|value| !value.is_null()) {
                    add(key, value.clone());
                }
            }
            "metadata_updated"
        }
    };
    add("event_type", json!(word));
    msg
}

/// Returns a change of an event's fees; `None` returns to those of the series.
pub(super) fn event_fee(event_ticker: &str, fees: Option<Fees>) -> Value {
    json!({
        "event_ticker": event_ticker,
        "fee_type_override": fees.map(|fees| fees.kind.as_str()),
        "fee_multiplier_override": fees.map(Fees::multiplier),
    })
}

/// Returns a change in the life of a combo market, if it is of a kind that their channel has.
pub(super) fn combo_lifecycle(
    state: &State,
    market: &Market,
    change: MarketChange,
) -> Option<Value> {
    let is_told =
        !matches!(change, MarketChange::PriceLevelStructureUpdated | MarketChange::MetadataUpdated);
    is_told.then(|| lifecycle(state, market, change))
}

/// Returns the event of a market that has been made, if it is new as well.
pub(super) fn new_event(state: &State, market: MarketId) -> Option<Value> {
    let ticker = &state.engine.market(market)?.event_ticker;
    let mut markets = state.engine.markets().iter().filter(|one| one.event_ticker == *ticker);
    if markets.next()?.id != market {
        return None;
    }
    let listed = state.catalog.events.iter().find(|event| event["event_ticker"] == **ticker);
    let event = listed.or_else(|| state.fixtures.combo_event(ticker))?;
    let mut msg = json!({
        "event_ticker": ticker,
        "exchange_index": event["exchange_index"],
        "title": event["title"],
        "subtitle": event["sub_title"],
        "collateral_return_type": event["collateral_return_type"],
        "series_ticker": event["series_ticker"],
    });
    let strike = event["strike_date"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    if let Some(strike) = strike {
        msg["strike_date"] = json!(strike.timestamp());
    }
    Some(msg)
}

/// Returns the details of a new market: nine that are always there, and its strikes.
fn metadata(state: &State, market: &Market) -> Value {
    let about = state.catalog.about(&market.ticker).and_then(Value::as_object);
    let told = |key: &str| about.and_then(|about| about.get(key)).filter(|value| !value.is_null());
    let text = |key: &str| told(key).cloned().unwrap_or_else(|| json!(""));
    let ends = told("expected_expiration_time").and_then(Value::as_str);
    let ends = ends.and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let mut metadata = json!({
        "name": text("yes_sub_title"),
        "title": text("title"),
        "yes_sub_title": text("yes_sub_title"),
        "no_sub_title": text("no_sub_title"),
        "rules_primary": text("rules_primary"),
        "rules_secondary": text("rules_secondary"),
        "can_close_early": told("can_close_early").and_then(Value::as_bool).unwrap_or(false),
        "event_ticker": market.event_ticker,
        "expected_expiration_ts": ends.map_or(seconds(market.closes), |ends| ends.timestamp()),
    });
    for key in ["strike_type", "floor_strike", "cap_strike", "custom_strike"] {
        if let Some(value) = told(key) {
            metadata[key] = value.clone();
        }
    }
    metadata
}

/// Reports whether a market is a combo: combos have a lifecycle channel of their own.
pub(super) fn is_combo(market: &Market) -> bool {
    market.ticker.starts_with("KXMVE")
}

pub(super) fn seconds(time: Time) -> i64 {
    time.as_millis().div_euclid(1_000)
}

/// Returns a request for quotes that was created or deleted; any member may know of it.
pub(super) fn rfq(state: &State, rfq: &Rfq, reader: AccountId, created: bool) -> Option<Value> {
    let market = state.engine.market(rfq.market)?;
    let mut msg = json!({
        "id": rfq.id.to_string(),
        "creator_id": requester(rfq.account, rfq.hides_creator(), reader),
        "market_ticker": market.ticker,
        "event_ticker": market.event_ticker,
    });
    match rfq.size {
        Size::Contracts(count) => msg["contracts_fp"] = json!(count),
        Size::Cost { target, .. } => msg["target_cost_dollars"] = json!(target),
    }
    if created {
        msg["created_ts"] = time(rfq.created);
        let about = state.catalog.about(&market.ticker);
        for key in ["mve_collection_ticker", "mve_selected_legs"] {
            if let Some(value) = about.and_then(|about| about.get(key)) {
                msg[key] = value.clone();
            }
        }
    } else {
        msg["deleted_ts"] = time(rfq.closed.map_or(rfq.updated, |(at, _)| at));
    }
    Some(msg)
}

/// Returns a quote, for its maker and its requester.
pub(super) fn quote(
    state: &State,
    quote: &Quote,
    reader: Principal,
    change: QuoteChange,
) -> Option<(&'static str, Value)> {
    let rfq = state.engine.rfq_of(quote)?;
    let is_maker = reader.owns(quote.account, quote.subaccount);
    if !is_maker && !reader.owns(rfq.account, rfq.subaccount) {
        return None;
    }
    let market = state.engine.market(rfq.market)?;
    let mut msg = json!({
        "quote_id": quote.id.to_string(),
        "rfq_id": rfq.id.to_string(),
        "quote_creator_id": pseudonym(quote.account),
        "rfq_creator_id": requester(rfq.account, rfq.hides_creator(), reader.account),
        "market_ticker": market.ticker,
    });
    let mut add = |key: &str, value: Value| msg[key] = value;
    let own = if is_maker { quote.subaccount } else { rfq.subaccount };
    if own != 0 {
        add("subaccount", json!(own));
    }
    if change == QuoteChange::Executed {
        let order = if is_maker { quote.order } else { quote.rfq_order };
        let order = order.and_then(|order| state.engine.order(order))?;
        add("order_id", json!(order.id.to_string()));
        add("client_order_id", json!(order.extras().client_order_id.as_deref().unwrap_or("")));
        add("executed_ts", time(quote.executed.unwrap_or(quote.updated)));
        if let Some(batch) = rfq.batch {
            add("rfq_batch_id", json!(batch.to_string()));
        }
        return Some(("quote_executed", msg));
    }
    add("event_ticker", json!(market.event_ticker));
    add("yes_bid_dollars", json!(quote.yes));
    add("no_bid_dollars", json!(quote.no));
    add("yes_contracts_offered_fp", json!(quote.yes_count));
    add("no_contracts_offered_fp", json!(quote.no_count));
    if let Size::Cost { target, .. } = rfq.size {
        add("rfq_target_cost_dollars", json!(target));
    }
    if change == QuoteChange::Created {
        add("created_ts", time(quote.created));
        return Some(("quote_created", msg));
    }
    if let Some(side) = quote.taken {
        add("accepted_side", json!(side.outcome()));
        add("contracts_accepted_fp", json!(quote.count(side)));
    }
    Some(("quote_accepted", msg))
}

/// Returns a new batch of requests; all its requests are announced here.
pub(super) fn batch(state: &State, batch: &Batch, reader: AccountId) -> Value {
    let mut legs: Vec<Value> = Vec::new();
    let mut rfqs = Vec::new();
    for rfq in batch.rfqs.iter().filter_map(|id| state.engine.rfq(*id)) {
        let Some(mut row) = part(state, rfq) else { continue };
        row["id"] = json!(rfq.id.to_string());
        let ticker = row["market_ticker"].as_str().unwrap_or_default();
        let about = state.catalog.about(ticker);
        let own = about.and_then(|about| about.get("mve_selected_legs")?.as_array());
        let mut places = Vec::new();
        for leg in own.into_iter().flatten() {
            let place = legs.iter().position(|other| other == leg).unwrap_or(legs.len());
            if place == legs.len() {
                legs.push(leg.clone());
            }
            places.push(place);
        }
        if let Some(collection) = about.and_then(|about| about.get("mve_collection_ticker")) {
            row["mve_collection_ticker"] = collection.clone();
        }
        row["leg_indices"] = json!(places);
        rfqs.push(row);
    }
    json!({
        "id": batch.id.to_string(),
        "creator_id": requester(batch.account, batch.hides_creator(), reader),
        "created_ts": time(batch.created),
        "legs": legs,
        "rfqs": rfqs,
    })
}

/// Returns the market and the size of a request of a batch, which every message carries.
fn part(state: &State, rfq: &Rfq) -> Option<Value> {
    let market = state.engine.market(rfq.market)?;
    let mut part = json!({"market_ticker": market.ticker, "event_ticker": market.event_ticker});
    match rfq.size {
        Size::Contracts(count) => part["contracts_fp"] = json!(count),
        Size::Cost { target, .. } => part["target_cost_dollars"] = json!(target),
    }
    Some(part)
}

/// Returns the end of a batch that ended without an execution.
pub(super) fn batch_deleted(batch: &Batch, reader: AccountId) -> Value {
    json!({
        "id": batch.id.to_string(),
        "creator_id": requester(batch.account, batch.hides_creator(), reader),
        "rfq_ids": texts(&batch.rfqs),
        "deleted_ts": time(batch.closed.map_or(batch.updated, |(at, _)| at)),
    })
}

/// Returns the best bids on an open batch, for the member that asked for them.
pub(super) fn best_quotes(state: &State, batch: &Batch) -> Option<Value> {
    if batch.status != BatchStatus::Open {
        return None;
    }
    let mut complete = [true; 2];
    let mut rfqs = Vec::new();
    for rfq in batch.rfqs.iter().filter_map(|id| state.engine.rfq(*id)) {
        let mut row = quoted_part(state, rfq)?;
        row["rfq_id"] = json!(rfq.id.to_string());
        for (place, side) in [Side::Bid, Side::Ask].into_iter().enumerate() {
            let best = state.engine.best_quote(rfq.id, side);
            if let Some(complete) = complete.get_mut(place) {
                *complete &= best.is_some();
            }
            if let Some(best) = best {
                let outcome = side.outcome();
                row[format!("{outcome}_bid_dollars")] = json!(best.bid(side));
                row[format!("{outcome}_contracts_offered_fp")] = json!(best.count(side));
            }
        }
        rfqs.push(row);
    }
    let [yes_complete, no_complete] = complete;
    let mut msg = json!({
        "rfq_batch_id": batch.id.to_string(),
        "version": batch.version,
        "updated_ts": time(batch.quoted.unwrap_or(batch.updated)),
        "yes_complete": yes_complete,
        "no_complete": no_complete,
        "rfqs": rfqs,
    });
    add_of_creator(&mut msg, batch);
    Some(msg)
}

/// Returns what [`part`] does, with the other name of the amount.
fn quoted_part(state: &State, rfq: &Rfq) -> Option<Value> {
    let mut part = part(state, rfq)?;
    if let Some(target) = part.as_object_mut()?.remove("target_cost_dollars") {
        part["rfq_target_cost_dollars"] = target;
    }
    Some(part)
}

/// Adds the fields that only the maker of a batch sees.
fn add_of_creator(msg: &mut Value, batch: &Batch) {
    if let Some(id) = &batch.client_batch_id {
        msg["client_batch_id"] = json!(id);
    }
    if batch.subaccount != 0 {
        msg["subaccount"] = json!(batch.subaccount);
    }
}

/// Returns the end of a batch of which something was executed, for the member that made it.
pub(super) fn batch_executed(state: &State, batch: &Batch) -> Value {
    let ending = |id: &RfqId| state.engine.rfq(*id).and_then(|rfq| rfq.closed);
    let is_executed = |id: &RfqId| matches!(ending(id), Some((_, Ending::Executed)));
    let (executed, failed): (Vec<RfqId>, Vec<RfqId>) =
        batch.rfqs.iter().partition(|id| is_executed(id));
    let mut msg = json!({
        "rfq_batch_id": batch.id.to_string(),
        "rfq_creator_id": pseudonym(batch.account),
        "executed_rfq_ids": texts(&executed),
        "failed_rfq_ids": texts(&failed),
        "executed_ts": time(batch.closed.map_or(batch.updated, |(at, _)| at)),
        "close_reason": close_reason(&executed, &failed),
    });
    add_of_creator(&mut msg, batch);
    msg
}

fn close_reason(executed: &[RfqId], failed: &[RfqId]) -> &'static str {
    match (executed, failed) {
        ([], _) => "execution failed",
        (_, []) => "executed",
        _ => "partially executed",
    }
}

fn texts(ids: &[RfqId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Returns a quote on a batch, for its maker.
pub(super) fn batch_quote(
    state: &State,
    quote: &BatchQuote,
    change: QuoteChange,
) -> Option<(&'static str, Value)> {
    let batch = state.engine.batch(quote.batch)?;
    let parts: Vec<&Quote> = quote.quotes.iter().filter_map(|id| state.engine.quote(*id)).collect();
    let mut msg = json!({
        "batch_quote_id": quote.id.to_string(),
        "rfq_batch_id": batch.id.to_string(),
    });
    let mut add = |key: &str, value: Value| msg[key] = value;
    if quote.subaccount != 0 {
        add("subaccount", json!(quote.subaccount));
    }
    if change != QuoteChange::Created {
        let is_executed = parts.iter().any(|part| part.status == QuoteStatus::Executed);
        // The requester is shown truly once something is executed.
        let obscured = batch.obscured && !is_executed;
        add("rfq_creator_id", json!(requester(batch.account, obscured, quote.account)));
    }
    if change == QuoteChange::Executed {
        let won = parts.iter().filter(|part| part.accepted.is_some());
        let (executed, failed): (Vec<&Quote>, Vec<&Quote>) =
            won.partition(|part| part.status == QuoteStatus::Executed);
        let at = executed.iter().filter_map(|part| part.executed).max();
        let ids = |parts: &[&Quote]| parts.iter().map(|part| part.rfq).collect::<Vec<_>>();
        let (executed, failed) = (ids(&executed), ids(&failed));
        add("executed_rfq_ids", json!(texts(&executed)));
        add("failed_rfq_ids", json!(texts(&failed)));
        add("executed_ts", time(at.unwrap_or(batch.updated)));
        add("close_reason", json!(close_reason(&executed, &failed)));
        return Some(("batch_quote_executed", msg));
    }
    add("quote_creator_id", json!(pseudonym(quote.account)));
    let shown = |part: &Quote| {
        let rfq = state.engine.rfq_of(part)?;
        let mut row = quoted_part(state, rfq)?;
        // The size of the request goes with the request.
        row.as_object_mut()?.remove("contracts_fp");
        row["quote_id"] = json!(part.id.to_string());
        row["rfq_id"] = json!(rfq.id.to_string());
        row["yes_bid_dollars"] = json!(part.yes);
        row["no_bid_dollars"] = json!(part.no);
        row["yes_contracts_offered_fp"] = json!(part.yes_count);
        row["no_contracts_offered_fp"] = json!(part.no_count);
        if let Some(side) = part.taken {
            row["contracts_accepted_fp"] = json!(part.count(side));
        }
        Some(row)
    };
    if change == QuoteChange::Created {
        let rows: Vec<Value> = parts.iter().filter_map(|part| shown(part)).collect();
        add("created_ts", time(quote.created));
        add("quotes", json!(rows));
        return Some(("batch_quote_created", msg));
    }
    let won: Vec<&Quote> = parts.into_iter().filter(|part| part.taken.is_some()).collect();
    let side = won.first()?.taken?;
    let at = won.iter().filter_map(|part| part.accepted).max()?;
    let rows: Vec<Value> = won.iter().filter_map(|part| shown(part)).collect();
    add("accepted_side", json!(side.outcome()));
    add("accepted_ts", time(at));
    add("quotes", json!(rows));
    Some(("batch_quote_accepted", msg))
}
