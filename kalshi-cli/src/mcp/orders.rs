//! The arguments of orders, as the commands of `kalshi order` take them.

use std::time::Duration;

use clap::ValueEnum as _;
use kalshi_trade::direction::Action;

use super::arguments::Arguments;
use crate::{
    failure::{Failure, Outcome},
    order::{Amend, NewOrder, OutcomeName, Tif},
};

/// The time for which the outcome of an order is looked for if its answer is lost.
const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// Returns an order as it was asked for.
pub(super) fn order(arguments: &Arguments) -> Outcome<(Action, NewOrder)> {
    let unknown = |name: &str| Failure::usage(format!("{name} is not one of its values"));
    let action = match arguments.required("action") {
        "buy" => Action::Buy,
        "sell" => Action::Sell,
        _ => return Err(unknown("action")),
    };
    let outcome = OutcomeName::from_str(arguments.required("outcome"), false);
    let tif = Tif::from_str(arguments.text("time_in_force").unwrap_or("gtc"), false);
    let text = |name: &str| arguments.text(name).map(str::to_owned);
    let terms = format!("{} @ {}", arguments.required("count"), arguments.required("price"));
    let order = NewOrder {
        ticker: arguments.required("ticker").to_owned(),
        outcome: outcome.map_err(|_| unknown("outcome"))?,
        terms: vec![terms],
        tif: tif.map_err(|_| unknown("time_in_force"))?,
        post_only: arguments.flag("post_only"),
        reduce_only: arguments.flag("reduce_only"),
        cancel_on_pause: false,
        maker_first: false,
        expires: text("expires"),
        group: text("group"),
        subaccount: arguments.text("subaccount").and_then(|number| number.parse().ok()),
        client_id: None,
        max_cost: None,
        settle_within: SETTLE_WITHIN,
    };
    Ok((action, order))
}

/// Returns a change of an order as it was asked for.
pub(super) fn amend(arguments: &Arguments) -> Outcome<Amend> {
    let text = |name: &str| arguments.text(name).map(str::to_owned);
    if arguments.get("yes_price").is_some() && arguments.get("no_price").is_some() {
        return Err(Failure::usage("yes_price and no_price are the same price: give one"));
    }
    Ok(Amend {
        order_id: arguments.required("order_id").to_owned(),
        yes_price: text("yes_price"),
        no_price: text("no_price"),
        count: text("count"),
        expires: text("expires"),
        max_cost: None,
    })
}
