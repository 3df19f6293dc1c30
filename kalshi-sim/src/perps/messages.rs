//! The messages of the streams of perpetual futures, as they go over the wire. Prices are those of
//! the one contract, for both sides, and no message has a clock.

use kalshi_types::{Count, Dollars, PriceLevel};
use serde_json::{Value, json};

use crate::{
    engine::{
        amount::cost,
        ids::{AccountId, ActionId, GroupId, MarketId, OrderId, TradeId},
        principal::Principal,
        types::{Event, GroupChange, OrderStatus, Side},
    },
    perps::{
        engine::{
            PerpsEvent,
            actions::Terms,
            funding::{last_funding, next_funding},
        },
        wire,
    },
    state::State,
};

/// Returns the market of an event; `None` for one of order groups.
pub(crate) fn market_of(state: &State, event: &PerpsEvent) -> Option<MarketId> {
    let engine = &state.perps.engine;
    match event {
        PerpsEvent::Action(id) => engine.actions().get(id.index()).map(|action| action.market),
        PerpsEvent::Matched(event) => match event {
            Event::Level { market, .. } | Event::Ticker { market } => Some(*market),
            Event::Trade { trade } => engine.trade(*trade).map(|trade| trade.market),
            Event::Fill { account, fill } => {
                engine.account(*account).ok()?.fills.get(*fill).map(|fill| fill.market)
            }
            Event::Order { order, .. } => engine.order(*order).map(|order| order.market),
            _ => None,
        },
    }
}

/// Returns a whole book, the best level of each side first; an empty side has no key.
pub(crate) fn snapshot(state: &State, market: MarketId) -> Option<Value> {
    let market = state.perps.engine.market(market)?;
    let mut msg = json!({"market_ticker": market.ticker});
    for side in [Side::Bid, Side::Ask] {
        let levels: Vec<PriceLevel> = market.book.levels(side).collect();
        if !levels.is_empty() {
            msg[side.as_str()] = json!(levels);
        }
    }
    Some(msg)
}

/// Returns a change of one level; the owner of the order also learns which it was.
pub(crate) fn delta(state: &State, event: &Event, reader: Principal) -> Option<Value> {
    let Event::Level { market, side, price, delta, order, .. } = event else { return None };
    let engine = &state.perps.engine;
    let mut msg = json!({
        "market_ticker": engine.market(*market)?.ticker,
        "price": price,
        "delta": delta,
        "side": side.as_str(),
        "ts_ms": engine.now().as_millis(),
    });
    let own = engine.order(*order).filter(|order| reader.owns(order.account, order.subaccount));
    if let Some(order) = own {
        if let Some(id) = order.extras().client_order_id.as_deref() {
            msg["client_order_id"] = json!(id);
        }
        msg["subaccount"] = json!(order.subaccount);
    }
    Some(msg)
}

pub(crate) fn ticker(state: &State, market: MarketId) -> Option<Value> {
    let engine = &state.perps.engine;
    let market = engine.market(market)?;
    let now = engine.now();
    let price = |level: Option<PriceLevel>| level.map_or(Dollars::ZERO, |level| level.price);
    let size = |level: Option<PriceLevel>| level.map_or(Count::ZERO, |level| level.count);
    let (volume, value) = market.traded_24h(now);
    let mut msg = json!({
        "market_ticker": market.ticker,
        "price": market.last_price.unwrap_or(Dollars::ZERO),
        "bid": price(market.bid()),
        "ask": price(market.ask()),
        "bid_size_fp": size(market.bid()),
        "ask_size_fp": size(market.ask()),
        "last_trade_size_fp": market.last_size,
        "volume": market.volume,
        "volume_notional_value_dollars": market.value,
        "volume_24h": volume,
        "volume_24h_notional_value_dollars": value,
        "open_interest": market.open_interest,
        "open_interest_notional_value_dollars":
            cost(market.settlement_mark.price, market.open_interest),
        "settlement_mark_price": wire::mark(market.settlement_mark),
        "liquidation_mark_price": wire::mark(market.liquidation_mark),
        "ts_ms": now.as_millis(),
    });
    if let Some(reference) = market.reference {
        msg["reference_price"] = wire::mark(reference);
    }
    if let Some(next) = next_funding(now).filter(|_| market.estimated_premium().is_some()) {
        let rate = market.funding_rate(last_funding(now).unwrap_or(now), now);
        msg["funding_rate"] = json!({
            "rate": wire::number(rate.parts(), 12),
            "next_funding_time_ms": next.as_millis(),
            "ts_ms": now.as_millis(),
        });
    }
    Some(msg)
}

pub(crate) fn trade(state: &State, id: TradeId) -> Option<Value> {
    let engine = &state.perps.engine;
    let trade = engine.trade(id)?;
    Some(json!({
        "trade_id": trade.id.to_string(),
        "market_ticker": engine.market(trade.market)?.ticker,
        "price": trade.price,
        "count": trade.count,
        "taker_side": trade.taker_side.as_str(),
        "ts_ms": trade.at.as_millis(),
    }))
}

/// Returns a fill of the reader.
pub(crate) fn fill(
    state: &State,
    reader: Principal,
    account: AccountId,
    fill: usize,
) -> Option<Value> {
    let engine = &state.perps.engine;
    let fill = engine.account(account).ok()?.fills.get(fill)?;
    if !reader.owns(account, fill.subaccount) {
        return None;
    }
    let mut msg = json!({
        "trade_id": fill.trade.to_string(),
        "order_id": fill.order.to_string(),
        "market_ticker": engine.market(fill.market)?.ticker,
        "is_taker": fill.taker,
        "side": fill.side.as_str(),
        "ts_ms": fill.at.as_millis(),
        "price": fill.price,
        "count": fill.count,
        "fee_cost": fill.fee,
        "post_position": fill.position,
        "subaccount": fill.subaccount,
        "order_source": fill.source.as_str(),
    });
    let order = engine.order(fill.order);
    if let Some(id) = order.and_then(|order| order.extras().client_order_id.as_deref()) {
        msg["client_order_id"] = json!(id);
    }
    Some(msg)
}

/// Returns an order of the reader as it is after the command.
pub(crate) fn user_order(state: &State, reader: Principal, id: OrderId) -> Option<Value> {
    let engine = &state.perps.engine;
    let order = engine.order(id).filter(|order| reader.owns(order.account, order.subaccount))?;
    let extras = order.extras();
    let mut msg = json!({
        "order_id": order.id.to_string(),
        "user_id": order.account.to_string(),
        "client_order_id": extras.client_order_id.as_deref().unwrap_or_default(),
        "ticker": engine.market(order.market)?.ticker,
        "side": order.side.as_str(),
        "price": order.price,
        "fill_count": order.filled,
        "remaining_count": order.remaining,
        "self_trade_prevention_type": order.self_trade.as_str(),
        "created_ts_ms": order.created.as_millis(),
        "last_updated_ts_ms": order.updated.as_millis(),
        "subaccount_number": order.subaccount,
        "order_source": engine.source(id).as_str(),
    });
    // Nothing has changed an order that was placed.
    let reason = wire::last_update_reason(order);
    if !reason.is_empty() {
        msg["last_update_reason"] = json!(reason);
    }
    if let Some(group) = extras.group {
        msg["order_group_id"] = json!(group.to_string());
    }
    if let Some(expires) = extras.expires.filter(|_| order.status == OrderStatus::Resting) {
        msg["expiration_ts_ms"] = json!(expires.as_millis());
    }
    Some(msg)
}

pub(crate) fn group(state: &State, id: GroupId, change: GroupChange) -> Value {
    let engine = &state.perps.engine;
    let mut msg = json!({
        "event_type": change.as_str(),
        "order_group_id": id.to_string(),
        "ts_ms": engine.now().as_millis(),
    });
    if matches!(change, GroupChange::Created | GroupChange::LimitUpdated)
        && let Some(group) = engine.group(id)
    {
        msg["contracts_limit_fp"] = json!(group.limit);
    }
    msg
}

/// Returns a corporate action that was carried out; those of cash are not streamed.
pub(crate) fn corporate_action(state: &State, id: ActionId) -> Option<Value> {
    let engine = &state.perps.engine;
    let action = engine.actions().get(id.index())?;
    let (kind, terms) = match &action.terms {
        Terms::Split { old, new, .. } => {
            let (before, after) = action.marks?;
            let terms = json!({
                "ratio_old": old.to_string(),
                "ratio_new": new.to_string(),
                "pre_split_mark_price": before,
                "post_split_mark_price": after,
            });
            ("stock_split", ("split", terms))
        }
        Terms::FinalSettlement { per_contract, .. } => {
            let terms = json!({"settlement_price_per_contract": per_contract});
            ("final_settlement", ("final_settlement", terms))
        }
        Terms::TickerChange { old, new } => {
            ("ticker_change", ("ticker_change", json!({"old_ticker": old, "new_ticker": new})))
        }
        Terms::CashDividend { .. } | Terms::SpecialDividend { .. } | Terms::SpinOff { .. } => {
            return None;
        }
    };
    let mut notice = json!({
        "id": action.id.to_string(),
        "market_id": action.market.to_string(),
        "market_ticker": action.ticker,
        "type": kind,
        "ts_ms": action.updated.as_millis(),
    });
    notice[terms.0] = terms.1;
    Some(json!({"corporate_action": notice}))
}
