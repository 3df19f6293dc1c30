//! Requests for quotes, quotes, batches of both, and block trades.
//!
//! Requests are public, under a pseudonym; a quote is seen by its maker and the requester only, and
//! of each of them only by the one whom a private field belongs to.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    engine::{
        Block, NewBlock,
        ids::{AccountId, BatchId, BatchQuoteId, BlockId, MarketId, OrderId, QuoteId, RfqId},
        principal::Principal,
        rfq::{
            AcceptRefusal, Batch, BatchQuote, BatchStatus, Bids, MAX_CHILDREN, NewBatch, NewRfq,
            Quote, QuoteStatus, Quoter, Rfq, Size,
        },
        types::{Refusal, RefusalKind, Side, Subaccount, Time},
    },
    fixtures::MarketAccess,
    http::{
        paging::{Paging, newest},
        query::Query,
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    state::State,
    wire::{pseudonym, requester, time},
};

/// The longest name of a batch, in characters.
const MAX_CLIENT_BATCH_ID: usize = 64;
/// The distinct legs that the combos of a batch may have together.
const MAX_LEGS: usize = 6;
/// The batches of a page.
const MAX_BATCHES: usize = 20;
/// The requests that the batches of a page may have together.
const MAX_LISTED_CHILDREN: usize = 100;

/// Refused bodies with unknown fields: a misspelt size would be another request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateRfq {
    market_ticker: String,
    contracts: Option<i64>,
    contracts_fp: Option<String>,
    target_cost_centi_cents: Option<i64>,
    target_cost_dollars: Option<String>,
    target_cost_excludes_fees: Option<bool>,
    obscure_creator_id: Option<bool>,
    rest_remainder: bool,
    replace_existing: Option<bool>,
    subtrader_id: Option<String>,
    subaccount: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateQuote {
    rfq_id: String,
    yes_bid: String,
    no_bid: String,
    rest_remainder: bool,
    post_only: Option<bool>,
    subaccount: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    accepted_side: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBatch {
    children: Vec<Child>,
    mve_collection_ticker: Option<String>,
    contracts_fp: Option<String>,
    target_cost_dollars: Option<String>,
    target_cost_excludes_fees: Option<bool>,
    rest_remainder: Option<bool>,
    replace_existing: Option<bool>,
    obscure_creator_id: Option<bool>,
    client_batch_id: Option<String>,
    subtrader_id: Option<String>,
    subaccount: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Child {
    market_ticker: Option<String>,
    selected_markets: Option<Vec<Leg>>,
    contracts_fp: Option<String>,
    target_cost_dollars: Option<String>,
}

/// One leg of a combo.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Leg {
    market_ticker: String,
    event_ticker: String,
    side: String,
}

/// The market of a child: one that there is, or one that its legs name.
#[derive(Debug)]
enum Combo {
    Ticker(String),
    Legs(Vec<Leg>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBatchQuote {
    quotes: Vec<Entry>,
    rest_remainder: bool,
    post_only: Option<bool>,
    subaccount: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rfq_id: String,
    yes_bid: String,
    no_bid: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBatch {
    accepted_side: String,
    min_bids: Vec<Limit>,
    client_order_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    rfq_id: String,
    bid_dollars: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Propose {
    buyer_user_id: String,
    buyer_subtrader_id: Option<String>,
    buyer_subaccount: Option<i64>,
    seller_user_id: String,
    seller_subtrader_id: Option<String>,
    seller_subaccount: Option<i64>,
    market_ticker: String,
    price_centi_cents: i64,
    centicount: i64,
    maker_side: String,
    expiration_ts: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBlock {
    subtrader_id: Option<String>,
    subaccount: Option<i64>,
}

pub(crate) fn create_rfq(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: CreateRfq = call.read()?;
    no_subtrader("subtrader_id", body.subtrader_id)?;
    let caller = call.caller()?;
    let whole = body
        .contracts
        .map(|contracts| {
            Count::from_contracts(contracts)
                .ok_or_else(|| Response::bad_request("contracts is out of range"))
        })
        .transpose()?;
    let fractional =
        body.contracts_fp.map(|text| request::count("contracts_fp", &text)).transpose()?;
    if let (Some(whole), Some(fractional)) = (whole, fractional)
        && whole != fractional
    {
        return Err(Response::bad_request("contracts and contracts_fp differ"));
    }
    let old = body
        .target_cost_centi_cents
        .map(|amount| {
            Dollars::from_centi_cents(amount)
                .ok_or_else(|| Response::bad_request("target_cost_centi_cents is out of range"))
        })
        .transpose()?;
    let new = body
        .target_cost_dollars
        .map(|text| request::dollars("target_cost_dollars", &text))
        .transpose()?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        return Err(Response::bad_request("the two target costs differ"));
    }
    let excludes_fees = body.target_cost_excludes_fees.unwrap_or(false);
    let new = NewRfq {
        account: caller.account,
        subaccount: caller.one(body.subaccount)?,
        ticker: body.market_ticker,
        size: size(fractional.or(whole), new.or(old), excludes_fees)?,
        rest_remainder: body.rest_remainder,
        replace_existing: body.replace_existing.unwrap_or(false),
        obscured: body.obscure_creator_id.unwrap_or(false),
    };
    let id = state.engine.create_rfq(&new, call.time()).map_err(refused)?;
    Ok(Response::created(json!({"id": id.to_string()})))
}

pub(crate) fn rfqs(state: &State, call: &Call<'_>) -> HandlerResult {
    let (caller, query) = (call.caller()?, call.query);
    let status = query.word("status", &["open", "closed"])?;
    let (event, ticker) = (query.get("event_ticker"), query.get("market_ticker"));
    let mine = is_self(call, "user_filter")?;
    let creator = filter(call, "creator_user_id", AccountId::parse)?;
    let subaccount = call.any_subaccount()?;
    let rows = state
        .engine
        .rfqs()
        .filter(|rfq| status.is_none_or(|status| status == rfq_status(rfq)))
        .filter(|rfq| {
            let market = state.engine.market(rfq.market);
            event.is_none_or(|event| market.is_some_and(|market| market.event_ticker == event))
                && ticker.is_none_or(|ticker| market.is_some_and(|market| market.ticker == ticker))
        })
        .filter(|rfq| !mine || rfq.account == caller.account)
        // The user ids of others are private, so only the own one finds anything.
        .filter(|rfq| {
            creator.is_none_or(|id| id == Some(caller.account) && rfq.account == caller.account)
        })
        .filter(|rfq| {
            subaccount
                .is_none_or(|number| rfq.account == caller.account && rfq.subaccount == number)
        });
    let (rows, cursor) = query.page(Paging::new("rfqs", 100, 100), rows, |rfq| newest(rfq.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|rfq| shown_rfq(state, rfq, caller)).collect();
    Ok(Response::ok(json!({"rfqs": rows, "cursor": cursor})))
}

pub(crate) fn rfq(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let rfq = state
        .engine
        .rfq(rfq_id(call)?)
        .filter(|rfq| may_read(caller, rfq.account, rfq.subaccount))
        .ok_or_else(Response::not_found)?;
    Ok(Response::ok(json!({"rfq": shown_rfq(state, rfq, caller)})))
}

pub(crate) fn delete_rfq(state: &mut State, call: &Call<'_>) -> HandlerResult {
    state.engine.delete_rfq(call.caller()?, rfq_id(call)?, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn create_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: CreateQuote = call.read()?;
    let caller = call.caller()?;
    let quoter = Quoter {
        account: caller.account,
        subaccount: caller.one(body.subaccount)?,
        rest_remainder: body.rest_remainder,
        post_only: body.post_only.unwrap_or(false),
    };
    let rfq = named("rfq_id", &body.rfq_id, RfqId::parse)?;
    let bids = bids("", rfq, &body.yes_bid, &body.no_bid)?;
    let id = state.engine.create_quote(quoter, bids, call.time()).map_err(refused)?;
    Ok(Response::created(json!({"id": id.to_string()})))
}

pub(crate) fn quotes(state: &State, call: &Call<'_>) -> HandlerResult {
    let (caller, query) = (call.caller()?, call.query);
    let statuses = ["open", "accepted", "confirmed", "executed", "cancelled"];
    let status = query.word("status", &statuses)?;
    let span = query.span("min_ts", "max_ts")?;
    let (made, asked) = (is_self(call, "user_filter")?, is_self(call, "rfq_user_filter")?);
    let maker = filter(call, "quote_creator_user_id", AccountId::parse)?;
    let creator = filter(call, "rfq_creator_user_id", AccountId::parse)?;
    if query.get("rfq_creator_subtrader_id").is_some() {
        return Err(Response::bad_request("rfq_creator_subtrader_id is for FCM members"));
    }
    if !made && !asked && maker.is_none() && creator.is_none() {
        return Err(Response::bad_request("give user_filter or rfq_user_filter"));
    }
    let rfq = filter(call, "rfq_id", RfqId::parse)?;
    let rows = state
        .engine
        .quotes()
        .filter(|quote| state.engine.party_quote(caller, None, quote.id).is_ok())
        .filter(|quote| !made || caller.owns(quote.account, quote.subaccount))
        .filter(|quote| {
            !asked
                || state
                    .engine
                    .rfq_of(quote)
                    .is_some_and(|rfq| caller.owns(rfq.account, rfq.subaccount))
        })
        // The user ids of others are private, so only the own one finds anything.
        .filter(|quote| {
            maker.is_none_or(|id| id == Some(caller.account) && quote.account == caller.account)
        })
        .filter(|quote| {
            creator.is_none_or(|id| {
                id == Some(caller.account)
                    && state.engine.rfq_of(quote).is_some_and(|rfq| rfq.account == caller.account)
            })
        })
        .filter(|quote| rfq.is_none_or(|rfq| rfq == Some(quote.rfq)))
        .filter(|quote| status.is_none_or(|status| status == quote.status.as_str()))
        .filter(|quote| span.holds(quote.updated));
    let (rows, cursor) =
        query.page(Paging::new("quotes", 500, 500), rows, |quote| newest(quote.id.0))?;
    let rows: Vec<Value> =
        rows.into_iter().map(|quote| shown_quote(state, quote, caller)).collect();
    Ok(Response::ok(json!({"quotes": rows, "cursor": cursor})))
}

pub(crate) fn quote(state: &State, call: &Call<'_>) -> HandlerResult {
    let (caller, rfq, quote) = named_quote(call)?;
    let quote = state.engine.party_quote(caller, rfq, quote).map_err(refused)?;
    Ok(Response::ok(json!({"quote": shown_quote(state, quote, call.caller()?)})))
}

pub(crate) fn accept_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: Accept = call.read()?;
    let side = bid_side("accepted_side", &body.accepted_side)?;
    let (caller, rfq, quote) = named_quote(call)?;
    state.engine.accept_quote(caller, rfq, quote, side, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn create_batch(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: CreateBatch = call.read()?;
    let caller = batch_member(call)?;
    no_subtrader("subtrader_id", body.subtrader_id)?;
    let subaccount = caller.one(body.subaccount)?;
    let client_batch_id = given(body.client_batch_id);
    if client_batch_id.as_ref().is_some_and(|id| id.chars().count() > MAX_CLIENT_BATCH_ID) {
        return Err(Response::bad_request("client_batch_id must have 64 characters at most"));
    }
    if body.rest_remainder.unwrap_or(false) {
        return Err(Response::bad_request("rest_remainder must be false: batches leave no rest"));
    }
    if body.children.len() > MAX_CHILDREN {
        return Err(Response::bad_request("a batch must have 2 to 57 children"));
    }
    let of_batch = sizes("", body.contracts_fp.as_deref(), body.target_cost_dollars.as_deref())?;
    let excludes_fees = body.target_cost_excludes_fees.unwrap_or(false);
    let (mut combos, mut given_sizes) = (Vec::new(), Vec::new());
    for (place, child) in body.children.into_iter().enumerate() {
        let at = format!("children[{place}].");
        let own = sizes(&at, child.contracts_fp.as_deref(), child.target_cost_dollars.as_deref())?;
        given_sizes.push(own);
        combos.push(match (given(child.market_ticker), child.selected_markets) {
            (Some(ticker), None) => Combo::Ticker(ticker),
            (None, Some(legs)) => Combo::Legs(legs),
            _ => {
                return Err(Response::bad_request(&format!(
                    "{at}market_ticker and {at}selected_markets: give one of them"
                )));
            }
        });
    }
    let all = || given_sizes.iter().chain([&of_batch]);
    if all().any(|(count, _)| count.is_some()) && all().any(|(_, cost)| cost.is_some()) {
        return Err(Response::bad_request(
            "size all children the same way: by contracts or by target cost",
        ));
    }
    let sizes: Vec<Size> = given_sizes
        .into_iter()
        .map(|own| {
            let (contracts, cost) = if own == (None, None) { of_batch } else { own };
            size(contracts, cost, excludes_fees)
        })
        .collect::<Result<_, _>>()?;
    few_legs(state, &combos)?;
    // What is in the way is found before combos are made.
    let replace_existing = body.replace_existing.unwrap_or(false);
    let (account, name, now) = (caller.account, client_batch_id.as_deref(), call.time());
    state.engine.admit_batch(account, name, replace_existing, now).map_err(refused)?;
    let collection = given(body.mve_collection_ticker);
    let tickers: Vec<String> = combos
        .into_iter()
        .map(|combo| match combo {
            Combo::Ticker(ticker) => Ok(ticker),
            Combo::Legs(legs) => combo_of(state, call, account, collection.as_deref(), &legs),
        })
        .collect::<Result<_, _>>()?;
    let new = NewBatch {
        account,
        subaccount,
        obscured: body.obscure_creator_id.unwrap_or(false),
        replace_existing,
        client_batch_id,
        children: tickers.into_iter().zip(sizes).collect(),
    };
    let id = state.engine.create_batch(&new, now).map_err(refused)?;
    let batch = state.engine.batch(id).ok_or_else(Response::not_found)?;
    Ok(Response::created(json!({"rfq_batch": shown_batch(state, batch, caller)})))
}

/// Checks that the children are combos, of few legs together.
fn few_legs(state: &State, combos: &[Combo]) -> Result<(), Response> {
    let mut legs = BTreeSet::new();
    for (place, combo) in combos.iter().enumerate() {
        match combo {
            Combo::Legs(own) => {
                legs.extend(own.iter().map(|leg| (leg.market_ticker.as_str(), leg.side.as_str())));
            }
            Combo::Ticker(ticker) => {
                let own = state
                    .catalog
                    .about(ticker)
                    .and_then(|about| about.get("mve_selected_legs")?.as_array())
                    .ok_or_else(|| {
                        Response::bad_request(&format!(
                            "children[{place}].market_ticker names no combo market"
                        ))
                    })?;
                legs.extend(own.iter().filter_map(|leg| {
                    Some((leg.get("market_ticker")?.as_str()?, leg.get("side")?.as_str()?))
                }));
            }
        }
    }
    if legs.len() > MAX_LEGS {
        return Err(Response::bad_request("the combos must have 6 distinct legs at most together"));
    }
    Ok(())
}

/// Returns the ticker of the combo with these legs, and creates the combo if it does not exist.
fn combo_of(
    state: &mut State,
    call: &Call<'_>,
    account: AccountId,
    collection: Option<&str>,
    legs: &[Leg],
) -> Result<String, Response> {
    let collection = collection
        .ok_or_else(|| Response::bad_request("selected_markets needs mve_collection_ticker"))?;
    let body = json!({"selected_markets": legs});
    let mut markets = MarketAccess::new(&mut state.engine, &mut state.catalog.listings);
    let events = &state.catalog.events;
    let made = state
        .fixtures
        .collections
        .create(account, collection, &body, events, &mut markets, call.now)
        .map_err(|refused| match refused.status {
            404 => Response::bad_request("mve_collection_ticker names no collection"),
            _ => refused,
        })?;
    let ticker = made.body.as_ref().and_then(|body| body.get("market_ticker")?.as_str());
    ticker.map(str::to_owned).ok_or_else(Response::not_found)
}

pub(crate) fn batches(state: &State, call: &Call<'_>) -> HandlerResult {
    let (caller, query) = (call.caller()?, call.query);
    let status = query.word("status", &["open", "accepted", "closed"])?;
    let mine = is_self(call, "user_filter")?;
    let subaccount = call.any_subaccount()?;
    let rows = state
        .engine
        .batches()
        .filter(|batch| status.is_none_or(|status| status == batch.status.as_str()))
        .filter(|batch| !mine || batch.account == caller.account)
        .filter(|batch| {
            subaccount
                .is_none_or(|number| batch.account == caller.account && batch.subaccount == number)
        });
    let mut rows: Vec<&Batch> = rows.collect();
    rows.sort_by_key(|batch| batch_key(batch));
    let pages = Paging::new("rfq_batches", MAX_BATCHES, MAX_BATCHES);
    let key = |batch: &&Batch| batch_key(batch);
    let (mut page, mut cursor) = query.page(pages, rows.iter().copied(), key)?;
    let mut children = 0;
    let fits = |batch: &&&Batch| {
        children += batch.rfqs.len();
        children <= MAX_LISTED_CHILDREN
    };
    let fitting = page.iter().take_while(fits).count();
    if fitting < page.len() {
        let from = query.get("cursor").unwrap_or_default().to_owned();
        let shorter = [("limit", fitting.to_string()), ("cursor", from)];
        let shorter = shorter.map(|(name, value)| (name.to_owned(), value));
        (page, cursor) = Query::new(shorter.into()).page(pages, rows, key)?;
    }
    let page: Vec<Value> =
        page.into_iter().map(|batch| shown_batch(state, batch, caller)).collect();
    Ok(Response::ok(json!({"rfq_batches": page, "cursor": cursor})))
}

/// Returns the key that sorts the most recently changed batch first.
fn batch_key(batch: &Batch) -> u64 {
    // Millions of batches in a millisecond would be in no order.
    let millis = u64::try_from(batch.updated.as_millis()).unwrap_or(0);
    newest((millis << 22) | (batch.id.0 & 0x3f_ffff))
}

pub(crate) fn accept_batch(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: AcceptBatch = call.read()?;
    let side = bid_side("accepted_side", &body.accepted_side)?;
    let id = own_batch(state, call)?.id;
    let mut minimums = BTreeMap::new();
    for limit in &body.min_bids {
        let rfq = RfqId::parse(&limit.rfq_id)
            .ok_or_else(|| Response::bad_request("min_bids: rfq_id names no RFQ"))?;
        let bid = request::dollars("min_bids: bid_dollars", &limit.bid_dollars)?;
        if bid.is_negative() || bid > Dollars::ONE {
            return Err(Response::bad_request("min_bids: bid_dollars must be 0 to 1"));
        }
        if minimums.insert(rfq, bid).is_some() {
            return Err(Response::bad_request("min_bids must not name an RFQ twice"));
        }
    }
    let order_id = given(body.client_order_id);
    let (caller, now) = (call.caller()?, call.time());
    let (side, taken) = state
        .engine
        .accept_batch(caller, id, side, &minimums, order_id.as_deref(), now)
        .map_err(|refusal| match refusal {
            AcceptRefusal::Refused(refusal) => refused(refusal),
            AcceptRefusal::QuotesChanged(rfq) => Response::nested(
                409,
                "rfq_batch_quotes_changed",
                "the best bid on an RFQ is below its minimum",
                Some(&rfq.to_string()),
            ),
        })?;
    let quotes: Vec<Value> = taken
        .into_iter()
        .filter_map(|id| state.engine.quote(id))
        .map(|quote| shown_quote(state, &as_accepted(quote), caller))
        .collect();
    Ok(Response::ok(json!({"accepted_side": side.outcome(), "quotes": quotes})))
}

/// Returns a quote as it was when it was accepted: a retry is answered like the first time.
fn as_accepted(quote: &Quote) -> Quote {
    Quote {
        status: QuoteStatus::Accepted,
        updated: quote.accepted.unwrap_or(quote.updated),
        confirmed: None,
        executed: None,
        cancelled: None,
        order: None,
        rfq_order: None,
        ..quote.clone()
    }
}

pub(crate) fn best_quotes(state: &State, call: &Call<'_>) -> HandlerResult {
    let batch = own_batch(state, call)?;
    let is_open = batch.status == BatchStatus::Open;
    let mut complete = [is_open; 2];
    let rows: Vec<Value> = batch
        .rfqs
        .iter()
        .filter(|_| is_open)
        .filter_map(|id| state.engine.rfq(*id))
        .map(|rfq| {
            let best = [Side::Bid, Side::Ask].map(|side| {
                let best = state.engine.best_quote(rfq.id, side);
                best.map(|quote| (quote.bid(side), quote.count(side)))
            });
            for (complete, best) in complete.iter_mut().zip(best) {
                *complete &= best.is_some();
            }
            let [yes, no] = best;
            compact(json!({
                "rfq_id": rfq.id.to_string(),
                "market_ticker": ticker(state, rfq.market),
                "yes_bid_dollars": yes.map(|(bid, _)| bid),
                "no_bid_dollars": no.map(|(bid, _)| bid),
                "yes_contracts_offered_fp": yes.map(|(_, count)| count),
                "no_contracts_offered_fp": no.map(|(_, count)| count),
            }))
        })
        .collect();
    let [yes_complete, no_complete] = complete;
    Ok(Response::ok(json!({"best_quotes": compact(json!({
        "rfq_batch_id": batch.id.to_string(),
        "status": batch.status.as_str(),
        "version": batch.version,
        "yes_complete": yes_complete,
        "no_complete": no_complete,
        "updated_ts": batch.quoted.map(time),
        "rfqs": rows,
    }))})))
}

/// Answers with the batch quotes of a maker; and, once the batch is accepted, with those that won
/// to the requester. From then on they have nothing but the bids that won.
pub(crate) fn batch_quotes(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let batch = state.engine.batch(batch_id(call)?).ok_or_else(Response::not_found)?;
    let own = caller.owns(batch.account, batch.subaccount);
    let rows: Vec<Value> = batch
        .quotes
        .iter()
        .rev()
        .filter_map(|id| state.engine.batch_quote(*id))
        .filter(|quote| {
            let won = || {
                let parts = quote.quotes.iter().filter_map(|id| state.engine.quote(*id));
                parts.into_iter().any(|part| part.taken.is_some())
            };
            caller.owns(quote.account, quote.subaccount) || own && won()
        })
        .map(|quote| shown_batch_quote(state, batch, quote, caller))
        .collect();
    Ok(Response::ok(json!({"batch_quotes": rows})))
}

pub(crate) fn create_batch_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: CreateBatchQuote = call.read()?;
    let caller = batch_member(call)?;
    let batch = batch_id(call)?;
    if body.quotes.len() > MAX_CHILDREN {
        return Err(Response::bad_request("quotes must name every RFQ of the batch once"));
    }
    let quoter = Quoter {
        account: caller.account,
        subaccount: caller.one(body.subaccount)?,
        rest_remainder: body.rest_remainder,
        post_only: body.post_only.unwrap_or(false),
    };
    let mut all = Vec::new();
    for (place, entry) in body.quotes.iter().enumerate() {
        let at = format!("quotes[{place}].");
        let rfq = RfqId::parse(&entry.rfq_id)
            .ok_or_else(|| Response::bad_request(&format!("{at}rfq_id names no RFQ")))?;
        all.push(bids(&at, rfq, &entry.yes_bid, &entry.no_bid)?);
    }
    let id = state.engine.create_batch_quote(quoter, batch, &all, call.time()).map_err(refused)?;
    Ok(Response::created(json!({"id": id.to_string()})))
}

pub(crate) fn propose_block(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: Propose = call.read()?;
    let caller = call.caller()?.require_unbound()?;
    no_subtrader("buyer_subtrader_id", body.buyer_subtrader_id)?;
    no_subtrader("seller_subtrader_id", body.seller_subtrader_id)?;
    let party = |side: &str, user: &str, number: Option<i64>| {
        let account = AccountId::parse(user)
            .ok_or_else(|| Response::bad_request(&format!("{side}_user_id names no member")))?;
        let field = format!("{side}_subaccount");
        let number = number.map(|number| request::subaccount(&field, number)).transpose()?;
        Ok::<_, Response>((account, number))
    };
    let expires = DateTime::parse_from_rfc3339(&body.expiration_ts)
        .map_err(|_| Response::bad_request("expiration_ts must be a time of RFC 3339"))?;
    let new = NewBlock {
        proposer: caller.account,
        buyer: party("buyer", &body.buyer_user_id, body.buyer_subaccount)?,
        seller: party("seller", &body.seller_user_id, body.seller_subaccount)?,
        ticker: body.market_ticker,
        price: Dollars::from_centi_cents(body.price_centi_cents)
            .ok_or_else(|| Response::bad_request("price_centi_cents must be 1 to 9999"))?,
        count: Count::from_hundredths(body.centicount),
        maker: bid_side("maker_side", &body.maker_side)?,
        expires: Time::from(expires.to_utc()),
    };
    let id = state.engine.propose_block(&new, call.time()).map_err(refused)?;
    Ok(Response::created(json!({"block_trade_proposal_id": id.to_string()})))
}

pub(crate) fn blocks(state: &State, call: &Call<'_>) -> HandlerResult {
    let (caller, query) = (call.caller()?.require_unbound()?, call.query);
    let (wanted, status) = (query.get("market_ticker"), query.get("status"));
    let rows = state
        .engine
        .blocks(caller.account)
        .filter(|block| status.is_none_or(|status| status == block.status.as_str()))
        .filter(|block| wanted.is_none_or(|wanted| wanted == ticker(state, block.market)));
    let pages = Paging::new("block_trade_proposals", 100, 100);
    let (rows, cursor) = query.page(pages, rows, |block| newest(block.id.0))?;
    let rows: Vec<Value> =
        rows.into_iter().map(|block| shown_block(state, block, caller)).collect();
    Ok(Response::ok(json!({"block_trade_proposals": rows, "cursor": cursor})))
}

pub(crate) fn accept_block(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body = if call.body.is_null() { AcceptBlock::default() } else { call.read()? };
    let caller = call.caller()?.require_unbound()?;
    no_subtrader("subtrader_id", body.subtrader_id)?;
    let number =
        body.subaccount.map(|number| request::subaccount("subaccount", number)).transpose()?;
    let id = BlockId::parse(call.first()).ok_or_else(Response::not_found)?;
    state.engine.accept_block(caller.account, id, number, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn id(call: &Call<'_>) -> HandlerResult {
    let id = pseudonym(call.caller()?.account);
    Ok(Response::ok(json!({"communications_id": id})))
}

pub(crate) fn delete_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (caller, rfq, quote) = named_quote(call)?;
    state.engine.delete_quote(caller, rfq, quote, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn confirm_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (caller, rfq, quote) = named_quote(call)?;
    state.engine.confirm_quote(caller, rfq, quote, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn batch(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let batch = readable_batch(state, call)?;
    Ok(Response::ok(json!({"rfq_batch": shown_batch(state, batch, caller)})))
}

pub(crate) fn delete_batch(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let id = batch_id(call)?;
    state.engine.delete_batch(call.caller()?, id, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn delete_batch_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (batch, quote) = named_batch_quote(call)?;
    let caller = call.caller()?;
    state.engine.delete_batch_quote(caller, batch, quote, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

pub(crate) fn confirm_batch_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (batch, quote) = named_batch_quote(call)?;
    let caller = call.caller()?;
    state.engine.confirm_batch_quote(caller, batch, quote, call.time()).map_err(refused)?;
    Ok(Response::no_content())
}

fn shown_rfq(state: &State, rfq: &Rfq, reader: Principal) -> Value {
    let own = rfq.account == reader.account;
    let ticker = ticker(state, rfq.market);
    let (contracts, cost) = match rfq.size {
        Size::Contracts(count) => (count, None),
        Size::Cost { target, excludes_fees } => (Count::ZERO, Some((target, excludes_fees))),
    };
    let about =
        |field: &str| state.catalog.about(ticker).and_then(|about| about.get(field)).cloned();
    compact(json!({
        "id": rfq.id.to_string(),
        "creator_id": requester(rfq.account, rfq.hides_creator(), reader.account),
        "market_ticker": ticker,
        "contracts_fp": contracts,
        "target_cost_dollars": cost.map(|(target, _)| target),
        "target_cost_excludes_fees": cost.map(|(_, excludes)| excludes),
        "status": rfq_status(rfq),
        "created_ts": time(rfq.created),
        "updated_ts": time(rfq.updated),
        "cancelled_ts": rfq.closed.map(|(at, _)| time(at)),
        "cancellation_reason": rfq.closed.map(|(_, ending)| ending.as_str()),
        "rest_remainder": rfq.rest_remainder,
        "mve_collection_ticker": about("mve_collection_ticker"),
        "mve_selected_legs": about("mve_selected_legs"),
        "creator_user_id": own.then(|| rfq.account.to_string()),
        "creator_subaccount": own.then_some(rfq.subaccount),
    }))
}

fn shown_quote(state: &State, quote: &Quote, reader: Principal) -> Value {
    let Some(rfq) = state.engine.rfq_of(quote) else { return json!({}) };
    let (made, asked) = (quote.account == reader.account, rfq.account == reader.account);
    let (contracts, cost) = match rfq.size {
        Size::Contracts(count) => (count, None),
        Size::Cost { target, excludes_fees } => {
            let taken = quote.taken.map_or(Count::ZERO, |side| quote.count(side));
            (taken, Some((target, excludes_fees)))
        }
    };
    let order = |id: Option<OrderId>| id.map(|id| id.to_string());
    let hidden = rfq.obscured && quote.status != QuoteStatus::Executed;
    compact(json!({
        "id": quote.id.to_string(),
        "rfq_id": quote.rfq.to_string(),
        "creator_id": pseudonym(quote.account),
        "rfq_creator_id": requester(rfq.account, hidden, reader.account),
        "market_ticker": ticker(state, rfq.market),
        "contracts_fp": contracts,
        "yes_bid_dollars": quote.yes,
        "no_bid_dollars": quote.no,
        "yes_contracts_fp": quote.yes_count,
        "no_contracts_fp": quote.no_count,
        "created_ts": time(quote.created),
        "updated_ts": time(quote.updated),
        "status": quote.status.as_str(),
        "accepted_side": quote.taken.map(Side::outcome),
        "accepted_ts": quote.accepted.map(time),
        "confirmed_ts": quote.confirmed.map(time),
        "executed_ts": quote.executed.map(time),
        "cancelled_ts": quote.cancelled.map(|(at, _)| time(at)),
        "cancellation_reason": quote.cancelled.map(|(_, ending)| ending.as_str()),
        "rest_remainder": quote.rest_remainder,
        "rfq_target_cost_dollars": cost.map(|(target, _)| target),
        "target_cost_excludes_fees": cost.map(|(_, excludes)| excludes),
        "post_only": made.then_some(quote.post_only),
        "creator_user_id": made.then(|| quote.account.to_string()),
        "creator_subaccount": made.then_some(quote.subaccount),
        "creator_order_id": order(quote.order.filter(|_| made)),
        "rfq_creator_user_id": asked.then(|| rfq.account.to_string()),
        "rfq_creator_subaccount": asked.then_some(rfq.subaccount),
        "rfq_creator_order_id": order(quote.rfq_order.filter(|_| asked)),
    }))
}

fn shown_batch(state: &State, batch: &Batch, reader: Principal) -> Value {
    let own = batch.account == reader.account;
    let rfqs: Vec<Value> = batch
        .rfqs
        .iter()
        .filter_map(|id| state.engine.rfq(*id))
        .map(|rfq| shown_rfq(state, rfq, reader))
        .collect();
    compact(json!({
        "id": batch.id.to_string(),
        "creator_id": requester(batch.account, batch.hides_creator(), reader.account),
        "status": batch.status.as_str(),
        "created_ts": time(batch.created),
        "updated_ts": own.then(|| time(batch.updated)),
        "accepted_ts": batch.accepted.as_ref().map(|first| time(first.at)),
        "closed_ts": batch.closed.map(|(at, _)| time(at)),
        "close_reason": batch.closed.filter(|_| own).map(|(_, ending)| ending.as_str()),
        "client_batch_id": batch.client_batch_id.as_ref().filter(|_| own),
        "creator_user_id": own.then(|| batch.account.to_string()),
        "creator_subaccount": own.then_some(batch.subaccount),
        "rfqs": rfqs,
    }))
}

fn shown_batch_quote(state: &State, batch: &Batch, quote: &BatchQuote, reader: Principal) -> Value {
    let parts: Vec<&Quote> = quote.quotes.iter().filter_map(|id| state.engine.quote(*id)).collect();
    let (made, asked) = (quote.account == reader.account, batch.account == reader.account);
    let updated = parts.iter().map(|part| part.updated).max().unwrap_or(quote.created);
    let shown: Vec<Value> = parts
        .iter()
        .filter(|part| state.engine.party_quote(reader, None, part.id).is_ok())
        .map(|part| shown_quote(state, part, reader))
        .collect();
    let taken = parts.iter().find_map(|part| part.taken);
    // The requester is shown truly once a bid of this quote is executed.
    let is_executed = parts.iter().any(|part| part.status == QuoteStatus::Executed);
    let hidden = batch.obscured && !is_executed;
    compact(json!({
        "id": quote.id.to_string(),
        "rfq_batch_id": quote.batch.to_string(),
        "creator_id": pseudonym(quote.account),
        "rfq_creator_id": requester(batch.account, hidden, reader.account),
        "status": batch_quote_status(&parts),
        "created_ts": time(quote.created),
        "updated_ts": time(updated),
        "accepted_side": taken.map(Side::outcome),
        "accepted_ts": parts.iter().filter_map(|part| part.accepted).min().map(time),
        "confirmed_ts": parts.iter().filter_map(|part| part.confirmed).min().map(time),
        "rest_remainder": quote.rest_remainder,
        "post_only": made.then_some(quote.post_only),
        "creator_user_id": made.then(|| quote.account.to_string()),
        "creator_subaccount": made.then_some(quote.subaccount),
        "rfq_creator_user_id": asked.then(|| batch.account.to_string()),
        "rfq_creator_subaccount": asked.then_some(batch.subaccount),
        "quotes": shown,
    }))
}

/// Returns the status of a batch quote from its parts: the furthest that a part waits for, and once
/// none waits, whether all that was accepted has been executed.
fn batch_quote_status(parts: &[&Quote]) -> &'static str {
    let any = |status| parts.iter().any(|part| part.status == status);
    if any(QuoteStatus::Confirmed) {
        "confirmed"
    } else if any(QuoteStatus::Accepted) {
        "accepted"
    } else if any(QuoteStatus::Executed) {
        let mut accepted = parts.iter().filter(|part| part.accepted.is_some());
        if accepted.all(|part| part.status == QuoteStatus::Executed) {
            "executed"
        } else {
            "partially_executed"
        }
    } else if any(QuoteStatus::Open) {
        "open"
    } else {
        "cancelled"
    }
}

/// Returns a proposal, with the user id of the member's own side only.
fn shown_block(state: &State, block: &Block, reader: Principal) -> Value {
    let [buyer, seller] = [Side::Bid, Side::Ask].map(|side| {
        let party = block.party(side);
        let own = party.account == reader.account;
        let user = if own { party.account.to_string() } else { String::new() };
        (user, party, party.order.filter(|_| own).map(|id| id.to_string()))
    });
    compact(json!({
        "id": block.id.to_string(),
        "proposer_user_id": if block.proposer == reader.account {
            block.proposer.to_string()
        } else {
            String::new()
        },
        "buyer_user_id": buyer.0,
        "seller_user_id": seller.0,
        "market_ticker": ticker(state, block.market),
        "price_centi_cents": block.price.to_centi_cents().unwrap_or_default(),
        "centicount": block.count.as_hundredths(),
        "maker_side": block.maker.outcome(),
        "expiration_ts": time(block.expires),
        "status": block.status.as_str(),
        "created_ts": time(block.created),
        "updated_ts": time(block.updated),
        "buyer_accepted": buyer.1.accepted.is_some(),
        "seller_accepted": seller.1.accepted.is_some(),
        "buyer_accepted_ts": buyer.1.accepted.map(time),
        "seller_accepted_ts": seller.1.accepted.map(time),
        "executed_ts": block.executed.map(time),
        "buyer_order_id": buyer.2,
        "seller_order_id": seller.2,
    }))
}

fn rfq_status(rfq: &Rfq) -> &'static str {
    if rfq.is_open() { "open" } else { "closed" }
}

fn ticker(state: &State, market: MarketId) -> &str {
    state.engine.market(market).map_or("", |market| &market.ticker)
}

/// Returns the given size; exactly one must be given.
fn size(
    contracts: Option<Count>,
    cost: Option<Dollars>,
    excludes_fees: bool,
) -> Result<Size, Response> {
    match (contracts, cost) {
        (Some(_), None) if excludes_fees => {
            Err(Response::bad_request("target_cost_excludes_fees needs a target cost"))
        }
        (Some(contracts), None) => Ok(Size::Contracts(contracts)),
        (None, Some(target)) => Ok(Size::Cost { target, excludes_fees }),
        _ => Err(Response::bad_request("give either a number of contracts or a target cost")),
    }
}

fn sizes(
    at: &str,
    contracts: Option<&str>,
    cost: Option<&str>,
) -> Result<(Option<Count>, Option<Dollars>), Response> {
    let contracts =
        contracts.map(|text| request::count(&format!("{at}contracts_fp"), text)).transpose()?;
    let cost =
        cost.map(|text| request::dollars(&format!("{at}target_cost_dollars"), text)).transpose()?;
    Ok((contracts, cost))
}

fn bids(at: &str, rfq: RfqId, yes: &str, no: &str) -> Result<Bids, Response> {
    Ok(Bids {
        rfq,
        yes: request::dollars(&format!("{at}yes_bid"), yes)?,
        no: request::dollars(&format!("{at}no_bid"), no)?,
    })
}

/// Returns the side that buys this leg.
fn bid_side(field: &str, text: &str) -> Result<Side, Response> {
    request::word(field, text, |text| match text {
        "yes" => Some(Side::Bid),
        "no" => Some(Side::Ask),
        _ => None,
    })
}

fn no_subtrader(field: &str, id: Option<String>) -> Result<(), Response> {
    match given(id) {
        None => Ok(()),
        Some(_) => Err(Response::bad_request(&format!("{field} is for FCM members"))),
    }
}

fn is_self(call: &Call<'_>, key: &str) -> Result<bool, Response> {
    Ok(call.query.word(key, &["self"])?.is_some())
}

/// Reports whether a caller may read the details: a bound key reads only those of its subaccount.
fn may_read(caller: Principal, account: AccountId, subaccount: Subaccount) -> bool {
    caller.bound.is_none_or(|bound| account == caller.account && subaccount == bound)
}

fn readable_batch<'a>(state: &'a State, call: &Call<'_>) -> Result<&'a Batch, Response> {
    let caller = call.caller()?;
    state
        .engine
        .batch(batch_id(call)?)
        .filter(|batch| may_read(caller, batch.account, batch.subaccount))
        .ok_or_else(Response::not_found)
}

/// Returns the member that makes or quotes a batch. FCM members cannot.
fn batch_member(call: &Call<'_>) -> Result<Principal, Response> {
    let caller = call.caller()?;
    if caller.fcm_member {
        let message = "RFQ batches are not available to FCM members";
        return Err(Response::nested(403, "rfq_batch_unavailable", message, None));
    }
    Ok(caller)
}

/// Returns the batch of the path, for its requester alone.
fn own_batch<'a>(state: &'a State, call: &Call<'_>) -> Result<&'a Batch, Response> {
    let caller = call.caller()?;
    let batch = state.engine.batch(batch_id(call)?).ok_or_else(Response::not_found)?;
    if caller.owns(batch.account, batch.subaccount) {
        Ok(batch)
    } else {
        Err(Response::forbidden("only the requester of a batch can do this"))
    }
}

/// Reads an id that must name something: one in another form is refused, an unknown one not found.
fn named<T>(field: &str, text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Response> {
    well_formed(field, text)?;
    parse(text).ok_or_else(Response::not_found)
}

/// Reads an id of a filter. An unknown one is `Some(None)`, which matches nothing.
#[expect(clippy::option_option, reason = "no filter and one that matches nothing are two things")]
fn filter<T>(
    call: &Call<'_>,
    field: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<Option<T>>, Response> {
    let Some(text) = call.query.get(field) else { return Ok(None) };
    well_formed(field, text)?;
    Ok(Some(parse(text)))
}

fn well_formed(field: &str, text: &str) -> Result<(), Response> {
    if request::is_uuid(text) {
        Ok(())
    } else {
        Err(Response::bad_request(&format!("{field} must be a UUID")))
    }
}

fn rfq_id(call: &Call<'_>) -> Result<RfqId, Response> {
    named("rfq_id", call.first(), RfqId::parse)
}

fn batch_id(call: &Call<'_>) -> Result<BatchId, Response> {
    named("rfq_batch_id", call.first(), BatchId::parse)
}

/// Returns the quote of the path: after its RFQ's id, or on the old paths alone.
fn named_quote(call: &Call<'_>) -> Result<(Principal, Option<RfqId>, QuoteId), Response> {
    let (rfq, quote) = match call.path {
        [quote] => (None, quote),
        [rfq, quote] => {
            well_formed("quote_id", quote)?;
            (Some(named("rfq_id", rfq, RfqId::parse)?), quote)
        }
        _ => return Err(Response::not_found()),
    };
    Ok((call.caller()?, rfq, named("quote_id", quote, QuoteId::parse)?))
}

fn named_batch_quote(call: &Call<'_>) -> Result<(BatchId, BatchQuoteId), Response> {
    well_formed("batch_quote_id", call.second())?;
    Ok((batch_id(call)?, named("batch_quote_id", call.second(), BatchQuoteId::parse)?))
}

/// Answers a pause with a bad request: 503 is not published for this family.
fn refused(refusal: Refusal) -> Response {
    match refusal.kind {
        RefusalKind::Unavailable => {
            Response::from(Refusal { kind: RefusalKind::Invalid, ..refusal })
        }
        _ => Response::from(refusal),
    }
}

/// Removes the null fields.
fn compact(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

#[cfg(test)]
mod tests;
