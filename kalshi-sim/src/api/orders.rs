//! Orders: placing, changing, canceling, and reading them back.

use kalshi_types::{Count, Dollars};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    engine::{
        Market,
        amount::other_leg,
        ids::{GroupId, OrderId},
        principal::Principal,
        types::{
            Amend, Decrease, Executed, NewOrder, Order, OrderStatus, Reason, Refusal, Route,
            SelfTrade, Side, TimeInForce,
        },
    },
    http::{
        paging::{Paging, newest},
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    state::State,
    wire,
};

/// Events that one list of orders may be asked of.
const MAX_EVENTS: usize = 100;

/// Returns an order as it goes over the wire.
pub(crate) fn shown(state: &State, order: &Order) -> Value {
    let market = state.engine.market(order.market);
    json!({
        "order_id": order.id.to_string(),
        "user_id": order.account.to_string(),
        "client_order_id": order.extras().client_order_id.as_deref().unwrap_or_default(),
        "ticker": market.map_or("", |market| &market.ticker),
        "side": "yes",
        "action": action(order.side),
        "outcome_side": order.side.outcome(),
        "book_side": order.side.as_str(),
        "type": "limit",
        "status": order.status.as_str(),
        "yes_price_dollars": order.price,
        "no_price_dollars": other_leg(order.price),
        "fill_count_fp": order.filled,
        "remaining_count_fp": order.remaining,
        "initial_count_fp": order.initial,
        "taker_fill_cost_dollars": order.extras().taker_cost,
        "maker_fill_cost_dollars": order.extras().maker_cost,
        "taker_fees_dollars": order.extras().taker_fees,
        "maker_fees_dollars": order.extras().maker_fees,
        "expiration_time": order.extras().expires.map(wire::time),
        "created_time": wire::time(order.created),
        "last_update_time": wire::time(order.updated),
        "self_trade_prevention_type": order.self_trade.as_str(),
        "order_group_id": order.extras().group.map(|group| group.to_string()),
        "cancel_order_on_pause": order.cancel_on_pause,
        "subaccount_number": order.subaccount,
        "exchange_index": market.map_or(0, |market| market.shard),
    })
}

/// Returns the old API's word for a side, always in terms of YES.
pub(crate) fn action(side: Side) -> &'static str {
    match side {
        Side::Bid => "buy",
        Side::Ask => "sell",
    }
}

/// The body of a new order. Unknown fields are refused: a `reduce_only` with a slip in its name
/// would open a position.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    ticker: String,
    side: String,
    count: String,
    price: String,
    time_in_force: String,
    self_trade_prevention_type: String,
    client_order_id: Option<String>,
    expiration_time: Option<i64>,
    post_only: Option<bool>,
    cancel_order_on_pause: Option<bool>,
    reduce_only: Option<bool>,
    subaccount: Option<i64>,
    order_group_id: Option<String>,
    exchange_index: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<T> {
    orders: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    ticker: String,
    side: String,
    price: String,
    count: String,
    client_order_id: Option<String>,
    updated_client_order_id: Option<String>,
    expiration_time: Option<i64>,
    exchange_index: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reduction {
    reduce_by: Option<String>,
    reduce_to: Option<String>,
    exchange_index: Option<i64>,
    market_ticker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    order_id: String,
    subaccount: Option<i64>,
    exchange_index: Option<i64>,
    market_ticker: Option<String>,
}

impl Create {
    fn order(self, caller: Principal) -> Result<NewOrder, Response> {
        let group = given(self.order_group_id)
            .map(|id| {
                GroupId::parse(&id)
                    .ok_or_else(|| Response::from(Refusal::not_found("order group not found")))
            })
            .transpose()?;
        Ok(NewOrder {
            account: caller.account,
            subaccount: caller.one(self.subaccount)?,
            ticker: self.ticker,
            side: request::word("side", &self.side, Side::parse)?,
            price: request::dollars("price", &self.price)?,
            count: request::count("count", &self.count)?,
            time_in_force: request::word("time_in_force", &self.time_in_force, TimeInForce::parse)?,
            self_trade: request::word(
                "self_trade_prevention_type",
                &self.self_trade_prevention_type,
                SelfTrade::parse,
            )?,
            client_order_id: given(self.client_order_id),
            expires: self
                .expiration_time
                .map(|seconds| request::time("expiration_time", seconds))
                .transpose()?,
            post_only: self.post_only.unwrap_or_default(),
            reduce_only: self.reduce_only.unwrap_or_default(),
            cancel_on_pause: self.cancel_order_on_pause.unwrap_or_default(),
            group,
            route: Route { exchange_index: self.exchange_index, ticker: None },
        })
    }
}

pub(crate) fn create(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let order = call.read::<Create>()?.order(call.caller()?)?;
    let done = state.engine.place_order(&order, call.time())?;
    Ok(Response::created(Value::Object(executed(state, &done))))
}

/// Places each order by itself; a failure is reported in its own row.
pub(crate) fn create_batch(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let batch: Batch<Create> = call.read()?;
    permitted(caller, batch.orders.iter().map(|order| order.subaccount))?;
    let mut rows = Vec::with_capacity(batch.orders.len());
    for item in batch.orders {
        let client_order_id = given(item.client_order_id.clone());
        let placed = item
            .order(caller)
            .and_then(|order| state.engine.place_order(&order, call.time()).map_err(Response::from))
            .and_then(|done| match done.reason {
                // Accepted and canceled: a single order shows that by its counts alone.
                Reason::PostOnlyCrossCancel => {
                    Err(Refusal::invalid("post_only_cross", "post only cross").into())
                }
                _ => Ok(executed(state, &done)),
            });
        rows.push(placed.unwrap_or_else(|refused| {
            let mut row = Map::from_iter([("error".to_owned(), refused.into_error())]);
            if let Some(id) = client_order_id {
                row.insert("client_order_id".to_owned(), json!(id));
            }
            row
        }));
    }
    Ok(Response::created(json!({"orders": rows})))
}

pub(crate) fn amend(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let change: Change = call.read()?;
    let subaccount = call.one_subaccount()?;
    let order = named(call.first())?;
    let before = state.engine.order(order).map(|order| order.remaining);
    let amend = Amend {
        account: call.caller()?.account,
        subaccount,
        order,
        side: request::word("side", &change.side, Side::parse)?,
        price: request::dollars("price", &change.price)?,
        count: request::count("count", &change.count)?,
        client_order_id: given(change.client_order_id),
        updated_client_order_id: given(change.updated_client_order_id),
        expires: match change.expiration_time {
            None => None,
            Some(0) => Some(None),
            Some(seconds) => Some(Some(request::time("expiration_time", seconds)?)),
        },
        route: Route { exchange_index: change.exchange_index, ticker: Some(change.ticker.clone()) },
        ticker: change.ticker,
    };
    let (done, _) = state.engine.amend(&amend, call.time())?;
    let mut row = executed(state, &done);
    if done.filled.is_zero() && before == Some(done.remaining) {
        row.remove("fill_count");
        row.remove("remaining_count");
    }
    Ok(Response::ok(Value::Object(row)))
}

pub(crate) fn decrease(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let reduction: Reduction = call.read()?;
    let decrease = match (&reduction.reduce_by, &reduction.reduce_to) {
        (Some(by), None) => Decrease::By(request::count("reduce_by", by)?),
        (None, Some(to)) => Decrease::To(request::count("reduce_to", to)?),
        _ => return Err(Response::bad_request("exactly one of reduce_by and reduce_to is needed")),
    };
    let account = call.caller()?.account;
    let subaccount = call.one_subaccount()?;
    let order = named(call.first())?;
    let route =
        Route { exchange_index: reduction.exchange_index, ticker: given(reduction.market_ticker) };
    let left = state.engine.decrease(account, subaccount, order, decrease, &route, call.time())?;
    Ok(Response::ok(Value::Object(answered(state, order, "remaining_count", left))))
}

pub(crate) fn cancel(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let subaccount = call.one_subaccount()?;
    let order = named(call.first())?;
    let route = Route {
        exchange_index: call.query.integer("exchange_index")?,
        ticker: call.query.get("market_ticker").map(str::to_owned),
    };
    let by = state.engine.cancel(account, subaccount, order, &route, call.time())?;
    Ok(Response::ok(Value::Object(answered(state, order, "reduced_by", by))))
}

pub(crate) fn cancel_batch(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let batch: Batch<Cancel> = call.read()?;
    permitted(caller, batch.orders.iter().map(|order| order.subaccount))?;
    let mut rows = Vec::with_capacity(batch.orders.len());
    for item in batch.orders {
        let route =
            Route { exchange_index: item.exchange_index, ticker: given(item.market_ticker) };
        let canceled = caller.one(item.subaccount).and_then(|subaccount| {
            let order = named(&item.order_id)?;
            let by = state.engine.cancel(caller.account, subaccount, order, &route, call.time())?;
            Ok(answered(state, order, "reduced_by", by))
        });
        rows.push(canceled.unwrap_or_else(|refused| {
            Map::from_iter([
                ("order_id".to_owned(), json!(item.order_id)),
                ("reduced_by".to_owned(), json!(Count::ZERO)),
                ("error".to_owned(), refused.into_error()),
            ])
        }));
    }
    Ok(Response::ok(json!({"orders": rows})))
}

/// Cancels all resting orders, which only direct members can.
pub(crate) fn cancel_all(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    if caller.fcm_member {
        return Err(Response::forbidden("canceling all orders is for direct members"));
    }
    let subaccount = call.any_subaccount()?;
    state.engine.cancel_all(caller.account, subaccount, call.time())?;
    state.canceled_all(caller.account, subaccount);
    Ok(Response::no_content())
}

/// Lists the orders of the live tier, newest first, by the time of their entry.
pub(crate) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let subaccount = call.any_subaccount()?;
    let shard = query.shard()?;
    let events = query.list_of("event_ticker", MAX_EVENTS)?;
    let span = query.span("min_ts", "max_ts")?;
    let status = query.word("status", &["resting", "canceled", "executed"])?;
    let ticker = query.get("ticker");
    let view = state.view();
    let account = view.account(call.caller()?.account).ok_or_else(Response::not_found)?;
    let orders: Box<dyn Iterator<Item = &Order>> = if status == Some("resting") {
        Box::new(account.resting().rev())
    } else {
        Box::new(account.orders().iter().rev().filter_map(|id| view.order(*id)))
    };
    let rows = orders
        .filter(|order| state.engine.is_live(order))
        .filter(|order| status.is_none_or(|status| order.status.as_str() == status))
        .filter(|order| subaccount.is_none_or(|number| order.subaccount == number))
        .filter(|order| span.holds(order.created))
        .filter(|order| {
            let Some(market) = state.engine.market(order.market) else { return false };
            ticker.is_none_or(|ticker| market.ticker == ticker)
                && shard.is_none_or(|shard| market.shard == shard)
                && events
                    .as_ref()
                    .is_none_or(|events| events.contains(&market.event_ticker.as_str()))
        });
    let (rows, cursor) =
        query.page(Paging::new("orders", 100, 1_000), rows, |order| newest(order.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|order| shown(state, order)).collect();
    Ok(Response::ok(json!({"orders": rows, "cursor": cursor})))
}

/// Answers with one order.
pub(crate) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    let order = readable(state, call, |id| state.view().order(id))?;
    Ok(Response::ok(json!({"order": shown(state, order)})))
}

/// Returns positions in the queue. They come from the books, so they do not trail.
pub(crate) fn queue_positions(state: &State, call: &Call<'_>) -> HandlerResult {
    let tickers = call.query.list("market_tickers");
    let event = call.query.get("event_ticker");
    let subaccount = call.one_subaccount()?;
    let Some(account) = state.engine.ledger.account(call.caller()?.account) else {
        return Err(Response::not_found());
    };
    let chosen = |market: &&Market| {
        tickers.as_ref().is_none_or(|tickers| tickers.contains(&market.ticker.as_str()))
            && event.is_none_or(|event| market.event_ticker == event)
    };
    let rows: Vec<Value> = account
        .resting
        .iter()
        .filter_map(|id| state.engine.order(*id))
        .filter(|order| order.subaccount == subaccount)
        .filter_map(|order| {
            let market = state.engine.market(order.market).filter(chosen)?;
            Some(json!({
                "order_id": order.id.to_string(),
                "market_ticker": market.ticker,
                "queue_position_fp": state.engine.queue_position(order)?,
            }))
        })
        .collect();
    Ok(Response::ok(json!({"queue_positions": rows})))
}

pub(crate) fn queue_position(state: &State, call: &Call<'_>) -> HandlerResult {
    let order = readable(state, call, |id| state.engine.order(id))?;
    let position = state
        .engine
        .queue_position(order)
        .filter(|_| order.status == OrderStatus::Resting)
        .ok_or_else(Response::not_found)?;
    Ok(Response::ok(json!({"queue_position_fp": position})))
}

/// Returns the order of the path, if the caller may see it and it is in the live tier.
fn readable<'a>(
    state: &State,
    call: &Call<'_>,
    find: impl FnOnce(OrderId) -> Option<&'a Order>,
) -> Result<&'a Order, Response> {
    let caller = call.caller()?;
    find(named(call.first())?)
        .filter(|order| order.account == caller.account && state.engine.is_live(order))
        .filter(|order| caller.bound.is_none_or(|bound| order.subaccount == bound))
        .ok_or_else(|| Refusal::not_found("order not found").into())
}

pub(crate) fn named(id: &str) -> Result<OrderId, Response> {
    OrderId::parse(id).ok_or_else(|| Refusal::not_found("order not found").into())
}

/// Refuses the whole batch if a restricted key names one wrong subaccount.
fn permitted(
    caller: Principal,
    mut subaccounts: impl Iterator<Item = Option<i64>>,
) -> Result<(), Response> {
    subaccounts.try_for_each(|named| match caller.one(named) {
        Err(refused) if refused.status == 403 => Err(refused),
        // A number that is none is refused in its row.
        _ => Ok::<(), Response>(()),
    })
}

/// Returns the fields that the answers to placing and amending have in common.
fn executed(state: &State, done: &Executed) -> Map<String, Value> {
    let mut row = answered(state, done.order, "remaining_count", done.remaining);
    row.insert("fill_count".to_owned(), json!(done.filled));
    add_averages(&mut row, done);
    row
}

/// Adds the averages of what a request has traded, if it has traded.
pub(crate) fn add_averages(row: &mut Map<String, Value>, done: &Executed) {
    if let (Some(price), Some(fee)) =
        (average(done.value, done.filled), average(done.fees, done.filled))
    {
        row.insert("average_fill_price".to_owned(), json!(price));
        row.insert("average_fee_paid".to_owned(), json!(fee));
    }
}

/// Returns the order's ids, the engine's time, and a count.
fn answered(state: &State, order: OrderId, field: &str, count: Count) -> Map<String, Value> {
    let mut row = ids_and_count(state.engine.order(order), order, field, count);
    row.insert("ts_ms".to_owned(), json!(state.engine.now().as_millis()));
    row
}

/// Returns the ids of an order, and a count.
pub(crate) fn ids_and_count(
    found: Option<&Order>,
    order: OrderId,
    field: &str,
    count: Count,
) -> Map<String, Value> {
    let mut row = Map::from_iter([
        ("order_id".to_owned(), json!(order.to_string())),
        (field.to_owned(), json!(count)),
    ]);
    if let Some(id) = found.and_then(|order| order.extras().client_order_id.as_deref()) {
        row.insert("client_order_id".to_owned(), json!(id));
    }
    row
}

/// Returns the amount per contract; `None` without contracts.
///
/// A quotient that has six decimals at most is exact. What the exchange does with any other is not
/// documented; here it is rounded to four, half up.
pub(crate) fn average(amount: Dollars, count: Count) -> Option<Dollars> {
    let whole = i128::from(count.as_hundredths());
    if whole <= 0 {
        return None;
    }
    let scaled = i128::from(amount.as_micros()) * i128::from(Count::ONE.as_hundredths());
    let micros = if scaled % whole == 0 {
        scaled / whole
    } else {
        let step = 100 * whole;
        (2 * scaled + step).div_euclid(2 * step) * 100
    };
    i64::try_from(micros).ok().map(Dollars::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_exact_or_rounded_to_four_decimals_half_up() {
        for (amount, count, expected) in [
            ("0.45", "1", "0.45"),
            // 1.37 / 4 has six decimals and stays.
            ("1.37", "4", "0.3425"),
            ("0.000001", "1", "0.000001"),
            ("1", "8", "0.125"),
            // 1 / 3 = 0.333…
            ("1", "3", "0.3333"),
            ("2", "3", "0.6667"),
            // 0.00035 / 7 = 0.00005: exact.
            ("0.00035", "7", "0.00005"),
            // 0.000349 / 7 = 0.000049857…
            ("0.000349", "7", "0"),
            ("0.000351", "7", "0.0001"),
            ("0", "7", "0"),
        ] {
            let average = average(amount.parse().unwrap(), count.parse().unwrap());
            assert_eq!(average, Some(expected.parse().unwrap()), "{amount} / {count}");
        }
        assert_eq!(average(Dollars::ONE, Count::ZERO), None);
    }
}
