//! The messages of the streams, as they go over the wire.

use chrono::{DateTime, Utc};
use kalshi_types::{Count, Dollars, PriceLevel};
use serde_json::{Map, Value, json};

use crate::{
    engine::{
        Market,
        amount::{other_leg, payout},
        ids::{AccountId, GroupId, MarketId, OrderId, TradeId},
        principal::Principal,
        rfq::{Quote, Rfq, Size},
        types::{
            Fill, GroupChange, MarketChange, MarketResult, QuoteChange, Reason, Side, Subaccount,
            Time,
        },
    },
    state::State,
    wire::{pseudonym, requester, time},
};

/// A level's price as the book channel gives it: asks are bids for NO, in NO prices unless the
/// subscription wants YES prices.
fn book_price(side: Side, price: Dollars, yes_prices: bool) -> Dollars {
    if yes_prices { price } else { side.leg_price(price) }
}

pub(super) fn snapshot(market: &Market, yes_prices: bool) -> Value {
    let side = |side: Side| -> Vec<PriceLevel> {
        market
            .levels(side)
            .map(|level| PriceLevel {
                price: book_price(side, level.price, yes_prices),
                count: level.count,
            })
            .collect()
    };
    let mut msg = json!({"market_ticker": market.ticker, "market_id": market.id.to_string()});
    // An empty side has no key.
    for (key, side) in [("yes_dollars_fp", side(Side::Bid)), ("no_dollars_fp", side(Side::Ask))] {
        if !side.is_empty() {
            msg[key] = json!(side);
        }
    }
    msg
}

pub(super) struct Delta {
    pub(super) market: MarketId,
    pub(super) side: Side,
    pub(super) price: Dollars,
    pub(super) change: Count,
    pub(super) order: OrderId,
}

/// A change of one level; the owner of the order also learns which it was.
pub(super) fn delta(
    state: &State,
    delta: &Delta,
    reader: Principal,
    yes_prices: bool,
) -> Option<Value> {
    let market = state.engine.market(delta.market)?;
    let now = state.engine.now();
    let mut msg = json!({
        "market_ticker": market.ticker,
        "market_id": market.id.to_string(),
        "price_dollars": book_price(delta.side, delta.price, yes_prices),
        "delta_fp": delta.change,
        "side": delta.side.outcome(),
        "ts": time(now),
        "ts_ms": now.as_millis(),
    });
    let order = state.engine.order(delta.order);
    let order = order.filter(|order| reader.owns(order.account, order.subaccount));
    if let Some(order) = order {
        if let Some(id) = &order.client_order_id {
            msg["client_order_id"] = json!(id);
        }
        if order.subaccount != 0 {
            msg["subaccount"] = json!(order.subaccount);
        }
    }
    Some(msg)
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
    if let Some(id) = order.and_then(|order| order.client_order_id.as_ref()) {
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
        "client_order_id": order.client_order_id.as_deref().unwrap_or(""),
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
        "taker_fill_cost_dollars": order.taker_cost,
        "maker_fill_cost_dollars": order.maker_cost,
        "taker_fees_dollars": order.taker_fees,
        "maker_fees_dollars": order.maker_fees,
        "self_trade_prevention_type": order.self_trade.as_str(),
        "created_time": time(order.created),
        "created_ts_ms": order.created.as_millis(),
        "last_update_time": time(order.updated),
        "last_updated_ts_ms": order.updated.as_millis(),
        "subaccount_number": order.subaccount,
        "exchange_index": market.shard,
        "last_update_reason": reason.as_str(),
    });
    if let Some(group) = order.group {
        msg["order_group_id"] = json!(group.to_string());
    }
    if let Some(expires) = order.expires {
        msg["expiration_time"] = time(expires);
        msg["expiration_ts_ms"] = json!(expires.as_millis());
    }
    Some(msg)
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
    let word = match change {
        GroupChange::Created => "created",
        GroupChange::Triggered => "triggered",
        GroupChange::Reset => "reset",
        GroupChange::Deleted => "deleted",
        GroupChange::LimitUpdated => "limit_updated",
    };
    let mut msg = json!({
        "event_type": word,
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
            add("price_ranges", json!(market.grid.ranges()));
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
    };
    add("event_type", json!(word));
    msg
}

/// The event of a market that has been made, if it is new as well.
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

fn metadata(state: &State, market: &Market) -> Value {
    let mut metadata = Map::new();
    metadata.insert("event_ticker".to_owned(), json!(market.event_ticker));
    let about = state.catalog.about(&market.ticker).and_then(Value::as_object);
    for (key, value) in about.into_iter().flatten() {
        match key.as_str() {
            "title" | "yes_sub_title" | "no_sub_title" | "rules_primary" | "rules_secondary"
            | "can_close_early" | "strike_type" | "floor_strike" | "cap_strike"
            | "custom_strike" => {
                metadata.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    Value::Object(metadata)
}

/// Whether a market is one of the combos, which have a lifecycle channel of their own.
pub(super) fn is_combo(market: &Market) -> bool {
    market.ticker.starts_with("KXMVE")
}

pub(super) fn seconds(time: Time) -> i64 {
    time.as_millis().div_euclid(1_000)
}

/// A request for quotes that came or went; everybody may know of it.
pub(super) fn rfq(state: &State, rfq: &Rfq, reader: AccountId, created: bool) -> Option<Value> {
    let market = state.engine.market(rfq.market)?;
    let mut msg = json!({
        "id": rfq.id.to_string(),
        "creator_id": requester(rfq.account, rfq.obscured, reader),
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

/// A quote, for its maker and for who asked for it.
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
        "rfq_creator_id": requester(rfq.account, rfq.obscured, reader.account),
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
        add("client_order_id", json!(order.client_order_id.as_deref().unwrap_or("")));
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
