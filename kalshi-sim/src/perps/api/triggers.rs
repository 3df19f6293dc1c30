//! Exit triggers of cross and of isolated positions.

use kalshi_types::{Count, Dollars};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        ids::{MarketId, OrderId, TriggerId},
        types::Refusal,
    },
    http::{
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    perps::{
        api::member,
        engine::{
            Perps, WalletKey,
            triggers::{Legs, Mode, NewTrigger, Trail, Trigger},
        },
    },
    state::State,
    wire::time,
};

/// The legs of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Isolated {
    kind: Option<String>,
    stop_loss_price: Option<String>,
    take_profit_price: Option<String>,
    trail_amount: Option<String>,
    trail_bps: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cross {
    kind: Option<String>,
    stop_loss_price: Option<String>,
    take_profit_price: Option<String>,
    trail_amount: Option<String>,
    trail_bps: Option<u32>,
    count: Option<String>,
    anchor_order_id: Option<String>,
    client_trigger_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    stop_loss_price: Option<String>,
    take_profit_price: Option<String>,
}

fn price(field: &str, text: Option<String>) -> Result<Option<Dollars>, Response> {
    given(text).map(|text| request::dollars(field, &text)).transpose()
}

impl Isolated {
    /// Returns the legs. Without a kind, what is there says which it is.
    fn legs(self) -> Result<Legs, Response> {
        let stop_loss = price("stop_loss_price", self.stop_loss_price)?;
        let take_profit = price("take_profit_price", self.take_profit_price)?;
        let amount = price("trail_amount", self.trail_amount)?;
        let trails = amount.is_some() || self.trail_bps.is_some();
        let kind = given(self.kind);
        let bracket = match kind.as_deref() {
            None => !trails,
            Some("bracket") => true,
            Some("trailing") => false,
            Some(_) => return Err(Response::bad_request("kind has no such value")),
        };
        if bracket && trails || !bracket && stop_loss.or(take_profit).is_some() {
            return Err(Response::bad_request("the fields are those of another kind"));
        }
        match (bracket, amount, self.trail_bps) {
            (true, ..) => Ok(Legs::Bracket { stop_loss, take_profit }),
            (false, Some(amount), None) => Ok(Legs::Trailing(Trail::Amount(amount))),
            (false, None, Some(bps)) => Ok(Legs::Trailing(Trail::Bps(bps))),
            _ => Err(Response::bad_request("exactly one of trail_amount and trail_bps is needed")),
        }
    }
}

/// Returns the slot of a request: the wallet and the market of its path.
fn slot(state: &State, call: &Call<'_>, mode: Mode) -> Result<(WalletKey, MarketId), Response> {
    let caller = member(state, call)?;
    let subaccount = match mode {
        Mode::Cross => call.one_subaccount()?,
        Mode::Isolated => caller.one(Some(0))?,
    };
    let market = state.perps.engine.market_by_ticker(call.first())?;
    Ok(((caller.account, subaccount), market.id))
}

/// Returns the word of the kind that a query keeps.
fn kind<'a>(call: &'a Call<'_>) -> Result<Option<&'a str>, Response> {
    call.query.word("kind", &["bracket", "trailing"])
}

pub(super) fn set_cross(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (key, market) = slot(state, call, Mode::Cross)?;
    let body: Cross = call.read()?;
    // 0 stands for the whole position.
    let count = given(body.count).map(|text| request::count("count", &text)).transpose()?;
    let anchor = given(body.anchor_order_id)
        .map(|id| {
            OrderId::parse(&id).ok_or_else(|| {
                Response::from(Refusal::conflict(
                    "anchor_order_unavailable",
                    "the entry order is over, or there is none",
                ))
            })
        })
        .transpose()?;
    let legs = Isolated {
        kind: body.kind,
        stop_loss_price: body.stop_loss_price,
        take_profit_price: body.take_profit_price,
        trail_amount: body.trail_amount,
        trail_bps: body.trail_bps,
    };
    let new = NewTrigger {
        account: key.0,
        subaccount: key.1,
        market,
        mode: Mode::Cross,
        legs: legs.legs()?,
        count: count.filter(|count: &Count| !count.is_zero()),
        anchor,
        client_id: given(body.client_trigger_id),
    };
    set(state, call, new)
}

pub(super) fn set_isolated(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (key, market) = slot(state, call, Mode::Isolated)?;
    let new = NewTrigger {
        account: key.0,
        subaccount: key.1,
        market,
        mode: Mode::Isolated,
        legs: call.read::<Isolated>()?.legs()?,
        count: None,
        anchor: None,
        client_id: None,
    };
    set(state, call, new)
}

fn set(state: &mut State, call: &Call<'_>, new: NewTrigger) -> HandlerResult {
    let engine = &mut state.perps.engine;
    let id = engine.set_trigger(new, call.time())?;
    one(engine, id)
}

fn one(engine: &Perps, id: TriggerId) -> HandlerResult {
    let trigger = engine.trigger(id).ok_or_else(Response::not_found)?;
    Ok(Response::ok(shown(engine, trigger)))
}

pub(super) fn list_cross(state: &State, call: &Call<'_>) -> HandlerResult {
    list(state, call, Mode::Cross)
}

pub(super) fn list_isolated(state: &State, call: &Call<'_>) -> HandlerResult {
    list(state, call, Mode::Isolated)
}

/// Lists the triggers of a slot, also those that are over, the oldest first.
fn list(state: &State, call: &Call<'_>, mode: Mode) -> HandlerResult {
    let (key, market) = slot(state, call, mode)?;
    let kind = kind(call)?;
    let engine = &state.perps.engine;
    let rows: Vec<Value> = engine
        .triggers_of(key, market, mode)
        .filter(|trigger| kind.is_none_or(|kind| trigger.new.legs.kind() == kind))
        .map(|trigger| shown(engine, trigger))
        .collect();
    Ok(Response::ok(json!({"exit_triggers": rows})))
}

pub(super) fn update(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (key, market) = slot(state, call, Mode::Cross)?;
    let body: Update = call.read()?;
    let legs = (
        price("stop_loss_price", body.stop_loss_price)?,
        price("take_profit_price", body.take_profit_price)?,
    );
    if legs.0.or(legs.1).is_none() {
        return Err(Response::bad_request("at least one leg is needed"));
    }
    let id = TriggerId::parse(call.second())
        .ok_or_else(|| Refusal::not_found("exit trigger not found"))?;
    let engine = &mut state.perps.engine;
    engine.change_trigger(key, market, id, legs, call.time())?;
    one(engine, id)
}

pub(super) fn delete_cross(state: &mut State, call: &Call<'_>) -> HandlerResult {
    delete(state, call, Mode::Cross)
}

pub(super) fn delete_isolated(state: &mut State, call: &Call<'_>) -> HandlerResult {
    delete(state, call, Mode::Isolated)
}

/// Removes the live triggers of a slot; that there are none is no failure.
fn delete(state: &mut State, call: &Call<'_>, mode: Mode) -> HandlerResult {
    let (key, market) = slot(state, call, mode)?;
    let kind = kind(call)?;
    let keeps = |trigger: &Trigger| kind.is_some_and(|kind| trigger.new.legs.kind() != kind);
    state.perps.engine.remove_triggers(key, market, mode, keeps, call.time());
    Ok(Response::no_content())
}

pub(super) fn delete_one(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (key, market) = slot(state, call, Mode::Cross)?;
    let id = TriggerId::parse(call.second())
        .ok_or_else(|| Refusal::not_found("exit trigger not found"))?;
    let keeps = |trigger: &Trigger| trigger.id != id;
    state.perps.engine.remove_triggers(key, market, Mode::Cross, keeps, call.time());
    Ok(Response::no_content())
}

fn shown(engine: &Perps, trigger: &Trigger) -> Value {
    let mut row = json!({
        "id": trigger.id.to_string(),
        "ticker": engine.market(trigger.new.market).map_or("", |market| &market.ticker),
        "kind": trigger.new.legs.kind(),
        "status": trigger.status.as_str(),
        "count": engine.trigger_count(trigger),
        "filled_count": trigger.filled,
        "created_time": time(trigger.created),
        "updated_time": time(trigger.updated),
    });
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            row[name] = value;
        }
    };
    match trigger.new.legs {
        Legs::Bracket { stop_loss, take_profit } => {
            add("stop_loss_price", stop_loss.map(|price| json!(price)));
            add("take_profit_price", take_profit.map(|price| json!(price)));
        }
        Legs::Trailing(Trail::Amount(amount)) => add("trail_amount", Some(json!(amount))),
        Legs::Trailing(Trail::Bps(bps)) => add("trail_bps", Some(json!(bps))),
    }
    add("watermark_price", trigger.watermark.map(|price| json!(price)));
    add("effective_stop_price", trigger.effective_stop().map(|price| json!(price)));
    add("status_reason", trigger.reason.map(|reason| json!(reason.as_str())));
    add("triggered_leg", trigger.leg.map(|leg| json!(leg.as_str())));
    add("triggered_order_id", trigger.order.map(|order| json!(order.to_string())));
    add("anchor_order_id", trigger.new.anchor.map(|order| json!(order.to_string())));
    add("client_trigger_id", trigger.new.client_id.as_ref().map(|id| json!(id)));
    row
}
