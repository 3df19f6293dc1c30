//! The portfolio of an account: cash, positions, fills, settlements, payments, transfers.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::orders,
    engine::{
        Account, Market, Payment, Position, SHARDS,
        amount::{SaturatingArithmetic, cost, other_leg},
        history::AccountView,
        ids::{AccountId, MarketId, OrderId, PaymentId, TransferId},
        principal::Principal,
        types::{Fill, Refusal, Settlement, Shard, Subaccount},
    },
    http::{
        paging::{Paging, newest, newest_at},
        query::Query,
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    state::{
        State,
        transfers::{End, Instance, NewTransfer, Reservation, Targets, Transfer},
    },
    wire::{self, seconds},
};

/// Markets that one list of fills may be asked of.
const MAX_TICKERS: usize = 100;
/// Rows of a target allocation.
const MAX_TARGETS: usize = 101;

/// Returns a fill as it goes over the wire.
pub(crate) fn shown_fill(state: &State, fill: &Fill) -> Value {
    let market = state.engine.market(fill.market);
    let ticker = market.map_or("", |market| &market.ticker);
    let trade = fill.trade.to_string();
    json!({
        "fill_id": trade,
        "trade_id": trade,
        "order_id": fill.order.to_string(),
        "ticker": ticker,
        "market_ticker": ticker,
        "side": "yes",
        "action": orders::action(fill.side),
        "outcome_side": fill.side.outcome(),
        "book_side": fill.side.as_str(),
        "count_fp": fill.count,
        "yes_price_dollars": fill.price,
        "no_price_dollars": other_leg(fill.price),
        "is_taker": fill.taker,
        "fee_cost": fill.fee,
        "created_time": wire::time(fill.at),
        "ts": seconds(fill.at),
        "subaccount_number": fill.subaccount,
        "exchange_index": market.map_or(0, |market| market.shard),
    })
}

/// The payments that a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSubaccount {
    exchange_index: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Netting {
    subaccount_number: i64,
    enabled: bool,
}

/// Unknown fields of transfers are refused: with a slip in its name, the id that keeps a second
/// sending from paying twice would be missing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubaccountTransfer {
    client_transfer_id: String,
    from_subaccount: i64,
    to_subaccount: i64,
    amount_cents: i64,
    exchange_index: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceTransfer {
    client_transfer_id: Option<String>,
    source: String,
    destination: String,
    amount: i64,
    source_exchange_shard: Option<i64>,
    destination_exchange_shard: Option<i64>,
    source_subaccount: Option<i64>,
    destination_subaccount: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTargets {
    allocations: Vec<Target>,
    resting_margin_reservation: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    exchange_index: i64,
    percent: i64,
}

/// Returns the free cash and the value of the positions: at the last price, or at the result once
/// there is one.
pub(crate) fn balance(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let subaccount = call.one_subaccount()?;
    let shard = call.query.shard()?;
    let view = state.view();
    let account = view.account(caller.account).ok_or_else(Response::not_found)?;
    let asked = |other: Shard| shard.is_none_or(|shard| shard == other);
    let mut free = Dollars::ZERO;
    let mut rows = Vec::new();
    for (index, _) in SHARDS {
        let balance = account.cash().get(&(subaccount, index));
        if let Some(balance) = balance.filter(|_| asked(index)) {
            free = free.saturating_add(balance.free());
            rows.push(json!({"exchange_index": index, "balance": balance.free()}));
        }
    }
    let mut value = free;
    for ((id, number), position) in account.positions() {
        let market = state.engine.market(id).filter(|market| asked(market.shard));
        if market.is_some() && number == subaccount {
            let price = view.value(id);
            let yes = cost(price, position.yes);
            value = value.saturating_add(yes).saturating_add(cost(other_leg(price), position.no));
        }
    }
    let mut body = json!({
        "balance": cents(free),
        "balance_dollars": free,
        "portfolio_value": cents(value),
        "updated_ts": seconds(account.updated()),
    });
    if caller.bound.is_none() {
        body["balance_breakdown"] = json!(rows);
    }
    Ok(Response::ok(body))
}

/// Lists the fills of the live tier, newest first.
pub(crate) fn fills(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let subaccount = call.any_subaccount()?;
    let shard = query.shard()?;
    let tickers = query.list_of("ticker", MAX_TICKERS)?;
    let span = query.span("min_ts", "max_ts")?;
    // An id that is none has no fills.
    let order = query.get("order_id").map(OrderId::parse);
    let rows = read(state, call.caller()?)?
        .fills()
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, fill)| order.is_none_or(|order| order == Some(fill.order)))
        .filter(|(_, fill)| subaccount.is_none_or(|number| fill.subaccount == number))
        .filter(|(_, fill)| fill.at >= state.engine.cutoffs().trades)
        .filter(|(_, fill)| span.holds(fill.at))
        .filter(|(_, fill)| {
            let Some(market) = state.engine.market(fill.market) else { return false };
            shard.is_none_or(|shard| market.shard == shard)
                && tickers.as_ref().is_none_or(|list| list.contains(&market.ticker.as_str()))
        });
    let pages = Paging::new("fills", 100, 1_000);
    let (rows, cursor) = query.page(pages, rows, |(index, _)| newest_at(*index))?;
    let rows: Vec<Value> = rows.into_iter().map(|(_, fill)| shown_fill(state, fill)).collect();
    Ok(Response::ok(json!({"fills": rows, "cursor": cursor})))
}

pub(crate) fn positions(state: &State, call: &Call<'_>) -> HandlerResult {
    let subaccount = call.one_subaccount()?;
    positions_of(state, call.caller()?.account, subaccount, call.query)
}

/// Answers with the positions of an account in the live tier.
pub(crate) fn positions_of(
    state: &State,
    account: AccountId,
    subaccount: Subaccount,
    query: &Query,
) -> HandlerResult {
    let shard = query.shard()?;
    let settlement = query.word("settlement_status", &["all", "unsettled", "settled"])?;
    let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
    let nonzero = query.list("count_filter").unwrap_or_default();
    if nonzero.iter().any(|name| !["position", "total_traded"].contains(name)) {
        return Err(Response::bad_request("count_filter must name position or total_traded"));
    }
    let rows: Vec<(&Market, &Position)> = traded(state, account, subaccount)?
        .filter(|(market, _)| !state.engine.is_archived(market.id))
        .filter(|(_, position)| match settlement {
            Some("all") => true,
            Some("settled") => position.settled,
            _ => !position.settled,
        })
        .filter(|(_, position)| {
            nonzero.is_empty()
                || nonzero.iter().any(|name| match *name {
                    "position" => !position.net().is_zero(),
                    _ => !position.traded.is_zero(),
                })
        })
        .filter(|(market, _)| {
            ticker.is_none_or(|ticker| market.ticker == ticker)
                && event.is_none_or(|event| market.event_ticker == event)
                && shard.is_none_or(|shard| market.shard == shard)
        })
        .collect();
    shown_positions(rows, query, Paging::new("positions", 100, 1_000))
}

/// Returns the positions of a subaccount that has traded in a market, by market.
pub(crate) fn traded(
    state: &State,
    account: AccountId,
    subaccount: Subaccount,
) -> Result<impl Iterator<Item = (&Market, &Position)>, Response> {
    let account = state.view().account(account).ok_or_else(Response::not_found)?;
    Ok(account
        .positions()
        .filter(move |((_, number), _)| *number == subaccount)
        // Orders that have not traded leave empty positions.
        .filter(|(_, position)| position.volume.is_positive())
        .filter_map(|((id, _), position)| Some((state.engine.market(id)?, position))))
}

/// Answers with a page of positions, which come in the order of their markets. The two lists share
/// the pages: an event stands on the page of the first of its markets, with the sum of all rows.
pub(crate) fn shown_positions(
    rows: Vec<(&Market, &Position)>,
    query: &Query,
    pages: Paging,
) -> HandlerResult {
    let mut events: BTreeMap<&str, EventPosition> = BTreeMap::new();
    for (market, position) in &rows {
        events
            .entry(&market.event_ticker)
            .or_insert_with(|| EventPosition::new(market.id))
            .add(position);
    }
    let (rows, cursor) = query.page(pages, rows, |(market, _)| u64::from(market.id.0))?;
    let sums: Vec<Value> = rows
        .iter()
        .filter_map(|(market, _)| {
            let sum = events.get(market.event_ticker.as_str())?;
            (sum.first == market.id).then(|| sum.shown(&market.event_ticker))
        })
        .collect();
    let rows: Vec<Value> =
        rows.into_iter().map(|(market, position)| shown_position(market, position)).collect();
    Ok(Response::ok(json!({"market_positions": rows, "event_positions": sums, "cursor": cursor})))
}

/// Returns a position as it goes over the wire.
pub(crate) fn shown_position(market: &Market, position: &Position) -> Value {
    json!({
        "ticker": market.ticker,
        "exchange_index": market.shard,
        "total_traded_dollars": position.traded,
        "position_fp": position.net(),
        "market_exposure_dollars": position.exposure(),
        "realized_pnl_dollars": position.realized,
        "fees_paid_dollars": position.fees,
        "last_updated_ts": wire::time(position.updated),
    })
}

/// The positions of one event, added up.
#[derive(Debug)]
struct EventPosition {
    first: MarketId,
    traded: Dollars,
    volume: Count,
    exposure: Dollars,
    realized: Dollars,
    fees: Dollars,
}

impl EventPosition {
    fn new(first: MarketId) -> Self {
        Self {
            first,
            traded: Dollars::ZERO,
            volume: Count::ZERO,
            exposure: Dollars::ZERO,
            realized: Dollars::ZERO,
            fees: Dollars::ZERO,
        }
    }

    fn add(&mut self, position: &Position) {
        self.traded = self.traded.saturating_add(position.traded);
        self.volume = self.volume.saturating_add(position.volume);
        self.exposure = self.exposure.saturating_add(position.exposure());
        self.realized = self.realized.saturating_add(position.realized);
        self.fees = self.fees.saturating_add(position.fees);
    }

    fn shown(&self, event_ticker: &str) -> Value {
        json!({
            "event_ticker": event_ticker,
            "total_cost_dollars": self.traded,
            "total_cost_shares_fp": self.volume,
            "event_exposure_dollars": self.exposure,
            "realized_pnl_dollars": self.realized,
            "fees_paid_dollars": self.fees,
        })
    }
}

/// Lists settlements, newest first. They never leave the live tier.
pub(crate) fn settlements(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let subaccount = call.any_subaccount()?;
    let span = query.span("min_ts", "max_ts")?;
    let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
    let rows = read(state, call.caller()?)?
        .settlements()
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, row)| subaccount.is_none_or(|number| row.subaccount == number))
        .filter(|(_, row)| span.holds(row.at))
        .filter_map(|(index, row)| Some((index, row, state.engine.market(row.market)?)))
        .filter(|(_, _, market)| {
            ticker.is_none_or(|ticker| market.ticker == ticker)
                && event.is_none_or(|event| market.event_ticker == event)
        });
    let pages = Paging::new("settlements", 100, 1_000);
    let (rows, cursor) = query.page(pages, rows, |(index, ..)| newest_at(*index))?;
    let rows: Vec<Value> =
        rows.into_iter().map(|(_, row, market)| shown_settlement(row, market)).collect();
    Ok(Response::ok(json!({"settlements": rows, "cursor": cursor})))
}

/// Returns a settlement as listed. Payouts are whole cents here, cut.
fn shown_settlement(row: &Settlement, market: &Market) -> Value {
    json!({
        "ticker": market.ticker,
        "exchange_index": market.shard,
        "event_ticker": market.event_ticker,
        "market_result": row.result.as_str(),
        "yes_count_fp": row.yes,
        "yes_total_cost_dollars": row.yes_cost,
        "no_count_fp": row.no,
        "no_total_cost_dollars": row.no_cost,
        "revenue": cents(row.revenue),
        "settled_time": wire::time(row.at),
        "fee_cost": row.fee,
        "value": cents(row.result.value()),
    })
}

pub(crate) fn deposits(state: &State, call: &Call<'_>) -> HandlerResult {
    payments(state, call, Direction::In)
}

pub(crate) fn withdrawals(state: &State, call: &Call<'_>) -> HandlerResult {
    payments(state, call, Direction::Out)
}

/// Returns the ledger's payments of one direction, the newest first. All have been carried out.
fn payments(state: &State, call: &Call<'_>, direction: Direction) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let rows = read(state, caller)?
        .payments()
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, payment)| (direction == Direction::Out) == payment.amount.is_negative());
    let list = if direction == Direction::In { "deposits" } else { "withdrawals" };
    let pages = Paging::new(list, 100, 500);
    let (rows, cursor) = call.query.page(pages, rows, |(index, _)| newest_at(*index))?;
    let rows: Vec<Value> =
        rows.into_iter().map(|(index, payment)| shown_payment(caller, index, payment)).collect();
    Ok(Response::ok(json!({list: rows, "cursor": cursor})))
}

fn shown_payment(caller: Principal, index: usize, payment: &Payment) -> Value {
    // Unique over all accounts: an account has fewer than 2³² payments.
    let number = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
    let id = PaymentId(u64::from(caller.account.0) << 32 | (number & 0xffff_ffff));
    let amount = payment.amount.max(Dollars::ZERO.saturating_sub(payment.amount));
    json!({
        "id": id.to_string(),
        "status": "applied",
        "type": "ach",
        "amount_cents": cents(amount),
        "fee_cents": 0,
        "created_ts": seconds(payment.at),
        "finalized_ts": seconds(payment.at),
    })
}

/// Returns the value of resting orders, for members that clear for others.
pub(crate) fn resting_value(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    if !caller.fcm_member {
        return Err(Response::forbidden("the endpoint is for FCM members"));
    }
    let account = read(state, caller)?;
    let mut shards: BTreeMap<Shard, Dollars> =
        SHARDS.iter().map(|(index, _)| (*index, Dollars::ZERO)).collect();
    for order in account.resting() {
        let Some(market) = state.engine.market(order.market) else { continue };
        let sum = shards.entry(market.shard).or_default();
        *sum = sum.saturating_add(cost(order.side.leg_price(order.price), order.remaining));
    }
    let total = shards.values().fold(Dollars::ZERO, |sum, value| sum.saturating_add(*value));
    let rows: Vec<Value> = shards
        .iter()
        .map(|(index, value)| json!({"exchange_index": index, "balance": value}))
        .collect();
    Ok(Response::ok(json!({
        "total_resting_order_value": cents(total),
        "resting_order_value_breakdown": rows,
    })))
}

/// Numbers count up on each shard for itself: that is how one subaccount comes to trade on several.
pub(crate) fn create_subaccount(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let new: NewSubaccount = call.read()?;
    let shard = request::existing_shard("exchange_index", new.exchange_index)?;
    let number = state.engine.ledger.provision(caller.account, shard, call.time())?;
    Ok(Response::created(json!({"subaccount_number": number})))
}

pub(crate) fn subaccount_balances(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let account = read(state, caller)?;
    let rows: Vec<Value> = account
        .cash()
        .iter()
        .filter(|((number, _), _)| caller.bound.is_none_or(|bound| bound == *number))
        .map(|((number, shard), balance)| {
            json!({
                "subaccount_number": number,
                "exchange_index": shard,
                "balance": balance.free(),
                "updated_ts": seconds(account.updated()),
            })
        })
        .collect();
    Ok(Response::ok(json!({"subaccount_balances": rows})))
}

pub(crate) fn netting(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let rows: Vec<Value> = account(state, caller)?
        .cash
        .keys()
        .filter(|(number, _)| caller.bound.is_none_or(|bound| bound == *number))
        .map(|(number, shard)| {
            json!({
                "subaccount_number": number,
                "enabled": state.engine.ledger.netting(caller.account, *number),
                "exchange_index": shard,
            })
        })
        .collect();
    Ok(Response::ok(json!({"netting_configs": rows})))
}

/// Switches netting for the subaccount on all its shards.
pub(crate) fn update_netting(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let change: Netting = call.read()?;
    let number = request::subaccount("subaccount_number", change.subaccount_number)?;
    if account(state, caller)?.cash.keys().all(|(other, _)| *other != number) {
        return Err(Response::bad_request("there is no subaccount with this subaccount_number"));
    }
    state.engine.set_netting(caller.account, number, change.enabled, call.time());
    Ok(Response { status: 200, body: state.rules().empty_objects.then(|| json!({})) })
}

pub(crate) fn transfer(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let new: SubaccountTransfer = call.read()?;
    if !request::is_uuid(&new.client_transfer_id) {
        return Err(Response::bad_request("client_transfer_id must be a UUID"));
    }
    let shard = request::existing_shard("exchange_index", new.exchange_index)?;
    let end = |field, number| {
        let subaccount = request::subaccount(field, number)?;
        Ok::<End, Response>(End { instance: Instance::EventContract, subaccount, shard })
    };
    let transfer = NewTransfer {
        account: caller.account,
        from: end("from_subaccount", new.from_subaccount)?,
        to: end("to_subaccount", new.to_subaccount)?,
        amount: Dollars::from_cents(new.amount_cents)
            .ok_or_else(|| Response::bad_request("amount_cents is out of range"))?,
        client_id: Some(new.client_transfer_id),
    };
    state.transfers.transfer(&mut state.engine, transfer, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(crate) fn transfers(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let rows = state.transfers.transfers(caller.account, true);
    let pages = Paging::new("transfers", 100, 1_000);
    let (rows, cursor) = call.query.page(pages, rows, |row| newest(row.id.0))?;
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|row| {
            json!({
                "transfer_id": row.id.to_string(),
                "from_subaccount": row.from.subaccount,
                "to_subaccount": row.to.subaccount,
                "amount_cents": cents(row.amount),
                "created_ts": seconds(row.at),
                "exchange_index": row.from.shard,
            })
        })
        .collect();
    Ok(Response::ok(json!({"transfers": rows, "cursor": cursor})))
}

/// Accepts a transfer, which is done later. A key that is bound to a subaccount moves cash of that
/// one between the shards of event contracts, and has to name it: the document's default is the
/// primary.
pub(crate) fn move_cash(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let new: InstanceTransfer = call.read()?;
    let client_id = given(new.client_transfer_id);
    if client_id.as_deref().is_some_and(|id| !request::is_uuid(id)) {
        return Err(Response::bad_request("client_transfer_id must be a UUID"));
    }
    let source = request::word("source", &new.source, Instance::parse)?;
    let destination = request::word("destination", &new.destination, Instance::parse)?;
    let margined = [source, destination].contains(&Instance::Margined);
    let end = |instance, shard: (&str, Option<i64>), number: (&str, Option<i64>)| {
        let subaccount = request::subaccount(number.0, number.1.unwrap_or(0))?;
        if margined && subaccount > 0 {
            let field = number.0;
            return Err(Response::bad_request(&format!("{field} goes with event contracts only")));
        }
        let shard = match instance {
            Instance::EventContract => request::existing_shard(shard.0, shard.1)?,
            Instance::Margined => request::shard(shard.0, shard.1)?,
        };
        Ok::<End, Response>(End { instance, subaccount, shard })
    };
    let transfer = NewTransfer {
        account: caller.account,
        from: end(
            source,
            ("source_exchange_shard", new.source_exchange_shard),
            ("source_subaccount", new.source_subaccount),
        )?,
        to: end(
            destination,
            ("destination_exchange_shard", new.destination_exchange_shard),
            ("destination_subaccount", new.destination_subaccount),
        )?,
        amount: Dollars::from_centi_cents(new.amount)
            .ok_or_else(|| Response::bad_request("amount is out of range"))?,
        client_id,
    };
    if !within_key(caller, transfer.from, transfer.to) {
        return Err(Response::forbidden(
            "the API key is restricted to one subaccount, and may move its cash between shards only",
        ));
    }
    let id = state.accept_transfer(transfer, call.time())?;
    Ok(Response::ok(json!({"transfer_id": id.to_string()})))
}

/// Reports whether a key reaches both ends of a transfer.
fn within_key(caller: Principal, from: End, to: End) -> bool {
    caller.bound.is_none_or(|bound| {
        let own = |end: End| end.subaccount == bound && end.instance == Instance::EventContract;
        own(from) && own(to)
    })
}

/// Lists the transfers between shards and instances; those that a bound key can make to such a key.
pub(crate) fn moves(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let rows = state
        .transfers
        .transfers(caller.account, false)
        .filter(|row| within_key(caller, row.from, row.to));
    let pages = Paging::new("instance_transfers", 100, 500);
    let (rows, cursor) = call.query.page(pages, rows, |row| newest(row.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(shown_move).collect();
    Ok(Response::ok(json!({"transfers": rows, "cursor": cursor})))
}

pub(crate) fn one_move(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let found = TransferId::parse(call.first())
        .and_then(|id| state.transfers.one(caller.account, id))
        .filter(|row| within_key(caller, row.from, row.to))
        .ok_or_else(|| Response::from(Refusal::not_found("transfer not found")))?;
    Ok(Response::ok(json!({"transfer": shown_move(found)})))
}

fn shown_move(row: &Transfer) -> Value {
    let mut shown = json!({
        "transfer_id": row.id.to_string(),
        "source": row.from.instance.as_str(),
        "destination": row.to.instance.as_str(),
        "source_exchange_shard": row.from.shard,
        "destination_exchange_shard": row.to.shard,
        "amount": row.amount,
        "status": if row.is_complete() { "complete" } else { "pending" },
        "created_ts": seconds(row.at),
    });
    if let Some(id) = &row.client_id {
        shown["client_transfer_id"] = json!(id);
    }
    shown
}

pub(crate) fn targets(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let targets = state.transfers.targets(caller.account);
    let rows: Vec<Value> = targets
        .into_iter()
        .flat_map(|targets| &targets.shares)
        .map(|(shard, percent)| json!({"exchange_index": shard, "percent": percent}))
        .collect();
    let reservation = targets.map(|targets| targets.reservation).unwrap_or_default();
    Ok(Response::ok(json!({
        "allocations": rows,
        "resting_margin_reservation": reservation.as_str(),
    })))
}

pub(crate) fn set_targets(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?.require_unbound()?;
    let new: NewTargets = call.read()?;
    if new.allocations.len() > MAX_TARGETS {
        return Err(Response::bad_request("allocations must have 101 rows at most"));
    }
    let mut shares: BTreeMap<Shard, u8> = BTreeMap::new();
    for row in &new.allocations {
        let shard = request::existing_shard("exchange_index", Some(row.exchange_index))?;
        let percent = u8::try_from(row.percent)
            .ok()
            .filter(|percent| *percent <= 100)
            .ok_or_else(|| Response::bad_request("percent must be 0 to 100"))?;
        if shares.insert(shard, percent).is_some() {
            return Err(Response::bad_request("allocations must name each shard once"));
        }
    }
    let total: u32 = shares.values().map(|percent| u32::from(*percent)).sum();
    if !shares.is_empty() && total != 100 {
        return Err(Response::bad_request("the percentages must add up to 100"));
    }
    let reservation = match given(new.resting_margin_reservation) {
        None => Reservation::default(),
        Some(word) => request::word("resting_margin_reservation", &word, Reservation::parse)?,
    };
    let targets = Targets { shares: shares.into_iter().collect(), reservation };
    state.transfers.set_targets(caller.account, targets);
    Ok(Response::ok(json!({})))
}

/// Returns the account as its member reads it now.
pub(crate) fn read(state: &State, caller: Principal) -> Result<AccountView<'_>, Response> {
    state.view().account(caller.account).ok_or_else(Response::not_found)
}

/// Returns the account as it is, for what decides about writes and for settings.
fn account(state: &State, caller: Principal) -> Result<&Account, Response> {
    state.engine.ledger.account(caller.account).ok_or_else(Response::not_found)
}

/// Returns whole cents, rounded toward zero.
fn cents(amount: Dollars) -> i64 {
    amount.as_micros().div_euclid(Dollars::CENT.as_micros())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use kalshi_sdk::server::dispatch;

    use super::*;
    use crate::{
        engine::types::{MarketResult, MarketStatus, NewOrder, Side, Time, TimeInForce},
        http::query::Query,
    };

    /// The time of the start, in seconds.
    const START: i64 = 1_790_000_000;

    struct Bench {
        state: State,
        ticker: String,
        now: i64,
        fcm_member: bool,
    }

    impl Bench {
        fn new() -> Self {
            let start = DateTime::from_timestamp(START, 0).unwrap();
            let state = State::new(crate::state::Start::new(7, start));
            let open = |market: &&Market| market.status == MarketStatus::Active;
            let ticker = state.engine.markets().iter().find(open).unwrap().ticker.clone();
            Self { state, ticker, now: START, fcm_member: false }
        }

        fn ask(&mut self, id: &str, query: &[(&str, &str)]) -> Response {
            let operation = id.parse().unwrap();
            let pairs = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let now = DateTime::from_timestamp(self.now, 0).unwrap();
            let caller = Principal {
                account: self.state.first_account,
                bound: None,
                fcm_member: self.fcm_member,
            };
            let call = Call {
                caller: Some(caller),
                subtrader: None,
                path: &[],
                query: &Query::new(pairs),
                body: &Value::Null,
                now,
                pair: None,
            };
            self.state.advance(Time::from(now));
            dispatch(operation, &mut self.state, &call).unwrap_or_else(|refused| refused)
        }

        fn rows(&mut self, id: &str, query: &[(&str, &str)], list: &str) -> Vec<Value> {
            let body = self.ask(id, query).body.unwrap();
            body[list].as_array().unwrap_or_else(|| panic!("{body}")).clone()
        }

        /// Returns the settlements of the market.
        fn settlements(&mut self, query: &[(&str, &str)]) -> Vec<Value> {
            let ticker = self.ticker.clone();
            let query = [query, &[("ticker", &*ticker)]].concat();
            self.rows("get_settlements", &query, "settlements")
        }

        /// Buys, or with asks sells, at any price.
        fn trade(&mut self, side: Side, count: &str) {
            let price = if side == Side::Bid { "0.99" } else { "0.01" };
            self.place(side, price, count, TimeInForce::FillOrKill);
        }

        fn place(&mut self, side: Side, price: &str, count: &str, time_in_force: TimeInForce) {
            let new = NewOrder {
                time_in_force,
                ..NewOrder::resting(
                    self.state.first_account,
                    self.ticker.clone(),
                    side,
                    price.parse().unwrap(),
                    count.parse().unwrap(),
                )
            };
            let now = Time::from_millis(self.now * 1_000);
            self.state.engine.place_order(&new, now).unwrap();
        }

        fn determine(&mut self, result: MarketResult) {
            let market = self.state.engine.market_by_ticker(&self.ticker).unwrap().id;
            let now = Time::from_millis(self.now * 1_000);
            self.state.engine.determine(market, result, now).unwrap();
        }
    }

    #[test]
    fn a_settlement_says_what_was_held_and_what_it_paid() {
        let mut bench = Bench::new();
        bench.trade(Side::Bid, "3.01");
        let held = bench.rows("get_positions", &[], "market_positions");
        let cost = held[0]["market_exposure_dollars"].clone();
        bench.determine(MarketResult::Scalar("0.3060".parse().unwrap()));
        assert!(bench.settlements(&[]).is_empty());
        // Worth what it will pay, and not paid yet.
        let body = bench.ask("get_balance", &[]).body.unwrap();
        let gain = body["portfolio_value"].as_i64().unwrap() - body["balance"].as_i64().unwrap();
        // 3.01 at 0.306 is 92.106 cents: 92 or, with what both sums lose, 93.
        assert!((92..=93).contains(&gain), "{body}");
        bench.now += 1_800;
        let rows = bench.settlements(&[]);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(row["market_result"], "scalar");
        assert_eq!((&row["yes_count_fp"], &row["no_count_fp"]), (&json!("3.01"), &json!("0.00")));
        assert_eq!((&row["revenue"], &row["value"]), (&json!(92), &json!(30)));
        assert_eq!(row["yes_total_cost_dollars"], cost);
        let open = bench.rows("get_positions", &[], "market_positions");
        assert!(open.is_empty());
        let settled = [("settlement_status", "settled")];
        let settled = bench.rows("get_positions", &settled, "market_positions");
        assert_eq!(settled[0]["position_fp"], "0.00");
        let at = (START + 1_800).to_string();
        let later = (START + 1_801).to_string();
        let between = |min: &str| [("min_ts", min.to_owned())];
        for (min, rows) in [(at, 1), (later, 0)] {
            let query = between(&min);
            let query: Vec<(&str, &str)> = query.iter().map(|(k, v)| (*k, v.as_str())).collect();
            assert_eq!(bench.settlements(&query).len(), rows);
        }
        bench.state.engine.audit().unwrap();
    }

    #[test]
    fn a_win_pays_a_dollar_and_a_loss_nothing() {
        for (side, revenue) in [(Side::Bid, 0), (Side::Ask, 200)] {
            let mut bench = Bench::new();
            bench.trade(side, "2");
            bench.determine(MarketResult::No);
            bench.now += 1_800;
            let rows = bench.settlements(&[]);
            assert_eq!((&rows[0]["revenue"], &rows[0]["value"]), (&json!(revenue), &json!(0)));
            assert_eq!(rows[0]["market_result"], "no");
            assert_eq!(rows[0]["fee_cost"], "0.0000");
        }
    }

    #[test]
    fn the_value_of_resting_orders_is_for_fcm_members() {
        let mut bench = Bench::new();
        bench.place(Side::Bid, "0.01", "150", TimeInForce::GoodTillCanceled);
        bench.place(Side::Ask, "0.99", "0.50", TimeInForce::GoodTillCanceled);
        let id = "get_portfolio_resting_order_total_value";
        assert_eq!(bench.ask(id, &[]).status, 403);
        bench.fcm_member = true;
        let body = bench.ask(id, &[]).body.unwrap();
        // 150 × 0.01 and 0.5 × 0.01.
        assert_eq!(body["total_resting_order_value"], 150);
        let rows = body["resting_order_value_breakdown"].as_array().unwrap();
        assert_eq!(rows.len(), SHARDS.len());
        assert_eq!(rows[0]["balance"], "1.5050");
    }
}
