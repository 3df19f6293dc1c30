//! The JSON forms of perpetual futures that more than one place writes.

use kalshi_types::{Decimal, PriceLevel};
use serde_json::{Value, json};

use crate::{
    engine::types::{Order, OrderStatus, Reason},
    perps::engine::{
        Perps,
        history::View,
        markets::{Mark, Market},
    },
    wire::time,
};

/// Returns a decimal number as a number of JSON.
pub(crate) fn number(digits: i128, decimals: u32) -> Value {
    let decimal = Decimal::new(digits, decimals).unwrap_or_default();
    serde_json::from_str(&decimal.to_string()).unwrap_or_default()
}

/// Returns a quotient of two amounts as a number with six decimals, cut; null without a divisor
/// above zero.
pub(crate) fn ratio(amount: i64, by: i64) -> Value {
    if by <= 0 {
        return Value::Null;
    }
    number(i128::from(amount) * 1_000_000 / i128::from(by), 6)
}

/// Returns a price with its time.
pub(crate) fn mark(mark: Mark) -> Value {
    json!({"price": mark.price, "ts_ms": mark.at.as_millis()})
}

/// Returns the word for the last change of an order, of the published list, in which an order that
/// nothing has changed has none.
///
/// What it says of an order that its owner, its group or its time in force has canceled is not
/// documented. Here that is a decrease to nothing, as the reply to a cancel names it (`reduced_by`).
/// A pause is a halt.
pub(crate) fn last_update_reason(order: &Order) -> &'static str {
    match order.reason {
        Reason::None if order.status == OrderStatus::Resting => "",
        Reason::None | Reason::OrderGroupCancel | Reason::ImmediateOrCancel => "Decrease",
        Reason::PauseCancel => Reason::HaltCancel.as_str(),
        reason => reason.as_str(),
    }
}

/// Returns an order.
pub(crate) fn order(view: View<'_>, order: &Order) -> Value {
    let extras = order.extras();
    let source = view.engine().source(order.id);
    let mut row = json!({
        "order_id": order.id.to_string(),
        "user_id": order.account.to_string(),
        "client_order_id": extras.client_order_id.as_deref().unwrap_or_default(),
        "ticker": view.ticker(order.market),
        "side": order.side.as_str(),
        "price": order.price,
        "fill_count": order.filled,
        "remaining_count": order.remaining,
        "expiration_time": extras.expires.map(time),
        "created_time": time(order.created),
        "last_update_time": time(order.updated),
        "self_trade_prevention_type": order.self_trade.as_str(),
        "cancel_order_on_pause": order.cancel_on_pause,
        "order_source": source.as_str(),
        "last_update_reason": last_update_reason(order),
    });
    if let Some(group) = extras.group {
        row["order_group_id"] = json!(group.to_string());
    }
    if let Some(reason) = source.reason() {
        row["order_reason"] = json!(reason);
    }
    row
}

/// Returns the best price and size of a side under their names; the size is zero without one.
pub(crate) fn best(row: &mut Value, name: &str, level: Option<PriceLevel>) {
    if let Some(level) = level {
        row[name] = json!(level.price);
    }
    row[format!("{name}_size_fp")] = json!(level.map_or_else(Default::default, |l| l.count));
}

/// Returns units in millionths as a text with six decimals.
pub(crate) fn millionths(units: i64) -> String {
    format!("{}.{:06}", units / 1_000_000, units % 1_000_000)
}

/// Returns the highest leverage that the initial margin of a market allows.
pub(crate) fn leverage(engine: &Perps, market: &Market) -> Value {
    let one = kalshi_types::Dollars::from_micros(1_000_000_000_000);
    let margin = engine.parameters.margins(market, one).1;
    ratio(one.as_micros(), margin.as_micros())
}
