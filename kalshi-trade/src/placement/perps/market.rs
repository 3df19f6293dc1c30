//! What an order must fit before it is sent. Pure.

use kalshi_sdk::perps::types::{CreateMarginOrderRequest, MarginMarket, TimeInForce};
use kalshi_types::{Count, Dollars};

use crate::journal::OrderChange;

/// The reason for which an order does not fit its market.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// The order is for another market. Read that one.
    #[error("the order is for {order:?}, and the market is {market:?}")]
    OtherMarket {
        /// The ticker or the id of the order.
        order: String,
        /// The ticker or the id of the market.
        market: String,
    },
    /// The order is meant for another version of the market. Read the market again and decide anew.
    #[error("the order is for version {order} of the market, which is at {market}")]
    OtherVersion {
        /// The version of the order.
        order: i32,
        /// The version of the market.
        market: i32,
    },
    /// The exchange names no tick size of the market: no price can be told to fit. Wait until it does.
    #[error("the exchange names no tick size of {0:?}: no price can be told to fit")]
    NoTickSize(String),
    /// The price is no multiple of the tick size, or not above zero. Round it with
    /// [`MarginMarket::floor_price`] or [`MarginMarket::ceil_price`].
    #[error("the price {price} is not above zero and a multiple of the tick size {tick_size}")]
    Price {
        /// The price in dollars per contract.
        price: Dollars,
        /// The tick size in dollars.
        tick_size: Dollars,
    },
    /// The count is not above zero, or not whole in a market that trades whole contracts.
    #[error(
        "the market takes no {0} contracts: a count is above zero, and whole unless it says so"
    )]
    Count(Count),
    /// The order is `reduce_only` and may rest, which the exchange refuses.
    #[error("reduce_only is for fill_or_kill and immediate_or_cancel")]
    ReduceOnly,
}

/// Checks that an order fits a market as it was read.
///
/// # Errors
///
/// The reason why not.
pub fn check_order(
    order: &CreateMarginOrderRequest,
    market: &MarginMarket,
) -> Result<(), MarketError> {
    check_market(order.ticker.as_deref(), Some(&market.ticker))?;
    // The ticker wins where both are there.
    if order.ticker.is_none() {
        check_market(order.market_id.as_deref(), market.market_id.as_deref())?;
    }
    // 0 asks for no check by the exchange.
    if let Some(version) = order.market_version.filter(|version| *version != 0)
        && version != market.market_version
    {
        return Err(MarketError::OtherVersion { order: version, market: market.market_version });
    }
    check_price(order.price, market)?;
    check_count(order.count, market)?;
    let ends_at_once =
        matches!(order.time_in_force, TimeInForce::FillOrKill | TimeInForce::ImmediateOrCancel);
    if order.reduce_only == Some(true) && !ends_at_once {
        return Err(MarketError::ReduceOnly);
    }
    Ok(())
}

/// Checks that a change of an order in the market of that ticker fits a market as it was read.
///
/// # Errors
///
/// The reason why not.
pub fn check_change(
    ticker: &str,
    change: &OrderChange,
    market: &MarginMarket,
) -> Result<(), MarketError> {
    check_market(Some(ticker), Some(&market.ticker))?;
    match change {
        OrderChange::Cancel => Ok(()),
        OrderChange::Amend { yes_price, total, .. } => {
            check_price(*yes_price, market)?;
            check_count(*total, market)
        }
        OrderChange::Decrease { remaining } => check_count(*remaining, market),
    }
}

/// Checks that an order names this market, if it names one.
fn check_market(order: Option<&str>, market: Option<&str>) -> Result<(), MarketError> {
    match order {
        Some(named) if market != Some(named) => Err(MarketError::OtherMarket {
            order: named.to_owned(),
            market: market.unwrap_or_default().to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_price(price: Dollars, market: &MarginMarket) -> Result<(), MarketError> {
    let no_tick_size = || MarketError::NoTickSize(market.ticker.clone());
    let tick_size = market.tick_size.filter(|tick| tick.is_positive()).ok_or_else(no_tick_size)?;
    if price.is_positive() && price.floor_to(tick_size) == Some(price) {
        return Ok(());
    }
    Err(MarketError::Price { price, tick_size })
}

fn check_count(count: Count, market: &MarginMarket) -> Result<(), MarketError> {
    if market.accepts_count(count) { Ok(()) } else { Err(MarketError::Count(count)) }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::perps::types::{BookSide, SelfTradePreventionType};
    use serde_json::json;

    use super::*;

    fn market(changes: &serde_json::Value) -> MarginMarket {
        let mut market = json!({
            "ticker": "T", "market_id": "m-1", "status": "active", "exchange_index": 0,
            "tick_size": "0.25", "fractional_trading_enabled": false, "market_version": 3,
            "contract_size": "1", "underlying_multiplier": "1", "halt_sources": [],
            "funding_cap": 0, "funding_deadband": 0, "funding_limit_unit": "percentage",
            "funding_invalid_premium_handling": "dampen",
        });
        for (name, value) in changes.as_object().unwrap() {
            market[name] = value.clone();
        }
        serde_json::from_value(market).unwrap()
    }

    fn order() -> CreateMarginOrderRequest {
        CreateMarginOrderRequest::builder()
            .ticker("T")
            .client_order_id("a-1")
            .side(BookSide::Bid)
            .count("2.00")
            .price("30000.25")
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
            .try_into()
            .unwrap()
    }

    #[test]
    fn an_order_that_does_not_fit_its_market_is_not_sent() {
        type Edit = fn(&mut CreateMarginOrderRequest);
        let unchanged = json!({});
        let fits: [(Edit, serde_json::Value); 6] = [
            (|_| {}, unchanged.clone()),
            (|order| order.market_version = Some(3), unchanged.clone()),
            // No check by the exchange was asked for: the version of the market is sent all the same.
            (|order| order.market_version = Some(0), unchanged.clone()),
            (
                |order| (order.ticker, order.market_id) = (None, Some("m-1".to_owned())),
                unchanged.clone(),
            ),
            (
                |order| order.count = "0.50".parse().unwrap(),
                json!({"fractional_trading_enabled": true}),
            ),
            (
                |order| {
                    order.reduce_only = Some(true);
                    order.time_in_force = TimeInForce::ImmediateOrCancel;
                },
                unchanged.clone(),
            ),
        ];
        for (edit, changes) in fits {
            let mut order = order();
            edit(&mut order);
            assert_eq!(check_order(&order, &market(&changes)), Ok(()), "{order:?}");
        }
        let misfits: [(Edit, serde_json::Value, &str); 10] = [
            (|order| order.ticker = Some("U".to_owned()), unchanged.clone(), "OtherMarket"),
            (
                |order| (order.ticker, order.market_id) = (None, Some("m-2".to_owned())),
                unchanged.clone(),
                "OtherMarket",
            ),
            (|order| order.market_version = Some(2), unchanged.clone(), "OtherVersion"),
            (|_| {}, json!({"tick_size": null}), "NoTickSize"),
            (|_| {}, json!({"tick_size": "0"}), "NoTickSize"),
            (|order| order.price = "30000.30".parse().unwrap(), unchanged.clone(), "Price"),
            (|order| order.price = "0".parse().unwrap(), unchanged.clone(), "Price"),
            (|order| order.count = "0.50".parse().unwrap(), unchanged.clone(), "Count"),
            (
                |order| order.count = "0".parse().unwrap(),
                json!({"fractional_trading_enabled": true}),
                "Count",
            ),
            (|order| order.reduce_only = Some(true), unchanged, "ReduceOnly"),
        ];
        for (edit, changes, name) in misfits {
            let mut order = order();
            edit(&mut order);
            let error = check_order(&order, &market(&changes)).unwrap_err();
            assert!(format!("{error:?}").starts_with(name), "{order:?}: {error:?}");
        }
    }

    #[test]
    fn a_change_is_checked_as_an_order_is() {
        let market = market(&json!({}));
        let amend = |price: &str, total: &str| OrderChange::Amend {
            side: BookSide::Bid,
            yes_price: price.parse().unwrap(),
            total: total.parse().unwrap(),
            expires: None,
        };
        let decrease = |count: &str| OrderChange::Decrease { remaining: count.parse().unwrap() };
        for (change, fits) in [
            (OrderChange::Cancel, true),
            (amend("30000.50", "3.00"), true),
            (amend("30000.51", "3.00"), false),
            (amend("30000.50", "3.50"), false),
            (decrease("1.00"), true),
            (decrease("1.50"), false),
            (decrease("0"), false),
        ] {
            assert_eq!(check_change("T", &change, &market).is_ok(), fits, "{change:?}");
            assert!(check_change("U", &change, &market).is_err(), "{change:?}");
        }
    }
}
