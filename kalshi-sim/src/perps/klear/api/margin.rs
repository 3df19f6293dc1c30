//! The maintenance margin of a made-up portfolio, and the parameters of the model.
//!
//! The margin is a fixed part of the value of the net position in each market, as in the ledger. So
//! the matrices have two scenarios, up and down by that part, in which each market is a subgroup of
//! its own: the worst of both for each subgroup, added up, is the base margin. Nothing is added for
//! funding and liquidation.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use kalshi_types::Dollars;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asset_class, desk, queried_class};
use crate::{
    engine::{amount::SaturatingArithmetic as _, ids::MarketId, types::Time},
    http::{
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    perps::{
        engine::{
            amount::{MAX_PRICE, micros},
            markets::Market,
        },
        klear::house::{CENTI_CENT, calendar},
        wire,
    },
    state::State,
};

/// The positions of a request.
const MOST_POSITIONS: usize = 500;
/// The largest position that is estimated, in contracts.
const MOST_CONTRACTS: u64 = 1_000_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Portfolio {
    asset_class: String,
    date: Option<String>,
    clearing_type: Option<String>,
    positions: Vec<Position>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    market_ticker: String,
    /// In whole contracts: the document names no unit.
    quantity: i64,
    price: Option<String>,
}

pub(super) fn estimate(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let portfolio: Portfolio = call.read()?;
    let class = asset_class(&portfolio.asset_class)?;
    if let Some(clearing) = &portfolio.clearing_type {
        request::word("clearing_type", clearing, |text| {
            ["FCM", "SelfClearing"].contains(&text).then_some(())
        })?;
    }
    if let Some(date) = &portfolio.date {
        let date = date.parse().map_err(|_| bad_date())?;
        check_date(date, call.time())?;
    }
    if !(1..=MOST_POSITIONS).contains(&portfolio.positions.len()) {
        return Err(Response::bad_request("positions must be 1 to 500"));
    }
    let engine = desk.ledger.engine;
    // The value of the net position in each market, in micro-dollars.
    let mut values: BTreeMap<MarketId, i128> = BTreeMap::new();
    for position in &portfolio.positions {
        let market = engine.market_by_ticker(&position.market_ticker)?;
        if Some(market.class) != class {
            return Err(Response::bad_request("a market is not in the asset class"));
        }
        if position.quantity == 0 || position.quantity.unsigned_abs() > MOST_CONTRACTS {
            return Err(Response::bad_request("a quantity is not 0, and a billion at most"));
        }
        let price = match &position.price {
            None => market.settlement_mark.price,
            Some(text) => request::dollars("price", text)?,
        };
        if !price.is_positive() || price > MAX_PRICE {
            return Err(Response::bad_request("a price is above zero"));
        }
        *values.entry(market.id).or_default() +=
            i128::from(position.quantity) * i128::from(price.as_micros());
    }
    let margin = values.iter().fold(Dollars::ZERO, |sum, (id, value)| {
        let Some(market) = engine.market(*id) else { return sum };
        sum.saturating_add(engine.parameters.margins(market, micros(value.abs())).0)
    });
    let margin = margin.ceil_to(CENTI_CENT).unwrap_or(margin);
    Ok(Response::ok(json!({
        "maintenance_margin_fp": margin,
        "base_margin_fp": margin,
        "hvar_fp": margin,
        "apc_fp": margin,
        "funding_addon_fp": Dollars::ZERO,
        "liquidation_addon_fp": Dollars::ZERO,
    })))
}

pub(super) fn metadata(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let text = call.query.required("asset_class")?;
    let class = queried_class(call.query)?;
    let date = call.query.day("date")?.ok_or_else(bad_date)?;
    check_date(date, call.time())?;
    let markets = desk.ledger.engine.markets().iter();
    let markets: Vec<&Market> =
        markets.filter(|market| !market.closed && Some(market.class) == class).collect();
    let tickers: Vec<&str> = markets.iter().map(|market| market.ticker.as_str()).collect();
    let scenario = |sign: i128| -> Vec<Value> {
        let part = |market: &&Market| wire::number(sign * i128::from(market.maintenance), 6);
        markets.iter().map(part).collect()
    };
    let matrix = json!({"market_tickers": tickers, "returns": [scenario(1), scenario(-1)]});
    let zero = wire::number(0, 0);
    let costs: Vec<Value> = tickers
        .iter()
        .map(|ticker| {
            json!({
                "market_ticker": ticker,
                "market_impact_volatility": zero,
                "market_impact_coefficient": zero,
                "market_impact_exponent": zero,
                "market_impact_forecasted_volume": zero,
                "spread_rate": zero,
            })
        })
        .collect();
    Ok(Response::ok(json!({
        "asset_class": text,
        "base_tail_percentile": wire::number(100, 0),
        "funding_tail_percentile": wire::number(100, 0),
        "matrices": {"hvar": matrix, "apc": matrix},
        "liquidation_configs": costs,
        "subgroups": tickers.iter().map(|ticker| [ticker]).collect::<Vec<_>>(),
    })))
}

/// Checks that there are parameters for a day, which are the same for all days until today.
fn check_date(date: NaiveDate, now: Time) -> Result<(), Response> {
    let is_known = calendar::day(now).is_some_and(|today| date <= today);
    if is_known { Ok(()) } else { Err(Response::not_found()) }
}

fn bad_date() -> Response {
    Response::bad_request("date must be a day like 2026-10-31")
}
