//! The arguments of orders, as the commands of `kalshi order` take them.

use std::time::Duration;

use clap::ValueEnum as _;
use kalshi_trade::direction::Action;

use super::arguments::Arguments;
use crate::{
    failure::{Failure, Outcome},
    order::{NewOrder, OutcomeName, Tif},
};

/// How long the outcome of an order is looked for if its answer is lost.
const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// Returns an order as it was asked for.
pub(super) fn order(arguments: &Arguments) -> Outcome<(Action, NewOrder)> {
    let unknown = |name: &str| Failure::usage(format!("{name} is none of its values"));
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
        confirm: true,
        settle_within: SETTLE_WITHIN,
    };
    Ok((action, order))
}
