//! Requests for quotes, quotes, batches of both, and block trades.
//!
//! Requests are public, under a pseudonym; a quote is seen by its maker and the requester only, and
//! of each of them only by the one whom a private field belongs to.

use std::collections::BTreeMap;

use chrono::DateTime;
use kalshi_types::{Count, Dollars};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        Block, NewBlock,
        ids::{AccountId, BatchId, BatchQuoteId, BlockId, MarketId, OrderId, QuoteId, RfqId},
        principal::Principal,
        rfq::{
            Batch, BatchQuote, Bids, MAX_OPEN_RFQS, NewRfq, Quote, QuoteStatus, Quoter, Rfq, Size,
        },
        types::{Refusal, RefusalKind, Side, Subaccount, Time},
    },
    http::{
        paging::{Paging, newest},
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    state::State,
    wire::{pseudonym, requester, time},
};

/// The longest name of a batch, in bytes.
const MAX_CLIENT_BATCH_ID: usize = 64;

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
    /// Taken but not needed: combos are named by their tickers.
    #[serde(rename = "mve_collection_ticker")]
    _collection: Option<String>,
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
    selected_markets: Option<Vec<Value>>,
    contracts_fp: Option<String>,
    target_cost_dollars: Option<String>,
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
    let creator = query.get("creator_user_id").map(AccountId::parse);
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
    let rfq = rfq_id(call)
        .and_then(|id| state.engine.rfq(id))
        .filter(|rfq| may_read(caller, rfq.account, rfq.subaccount))
        .ok_or_else(Response::not_found)?;
    Ok(Response::ok(json!({"rfq": shown_rfq(state, rfq, caller)})))
}

pub(crate) fn delete_rfq(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let id = rfq_id(call).ok_or_else(Response::not_found)?;
    state.engine.delete_rfq(call.caller()?, id, call.time()).map_err(refused)?;
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
    let bids = bids("", &body.rfq_id, &body.yes_bid, &body.no_bid)?;
    let id = state.engine.create_quote(quoter, bids, call.time()).map_err(refused)?;
    Ok(Response::created(json!({"id": id.to_string()})))
}

pub(crate) fn quotes(state: &State, call: &Call<'_>) -> HandlerResult {
    let (caller, query) = (call.caller()?, call.query);
    let statuses = ["open", "accepted", "confirmed", "executed", "cancelled"];
    let status = query.word("status", &statuses)?;
    let span = query.span("min_ts", "max_ts")?;
    let (made, asked) = (is_self(call, "user_filter")?, is_self(call, "rfq_user_filter")?);
    let maker = query.get("quote_creator_user_id");
    let creator = query.get("rfq_creator_user_id");
    if query.get("rfq_creator_subtrader_id").is_some() {
        return Err(Response::bad_request("rfq_creator_subtrader_id is for FCM members"));
    }
    if !made && !asked && maker.is_none() && creator.is_none() {
        return Err(Response::bad_request("give user_filter or rfq_user_filter"));
    }
    let rfq = query.get("rfq_id").map(RfqId::parse);
    let (maker, creator) = (maker.map(AccountId::parse), creator.map(AccountId::parse));
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
    no_subtrader("subtrader_id", body.subtrader_id)?;
    let caller = call.caller()?;
    let subaccount = caller.one(body.subaccount)?;
    let client_batch_id = given(body.client_batch_id);
    if client_batch_id.as_ref().is_some_and(|id| id.len() > MAX_CLIENT_BATCH_ID) {
        return Err(Response::bad_request("client_batch_id must have 64 bytes at most"));
    }
    if body.children.len() > MAX_OPEN_RFQS {
        return Err(Response::bad_request("children must be 100 at most"));
    }
    let (contracts, cost) =
        sizes("", body.contracts_fp.as_deref(), body.target_cost_dollars.as_deref())?;
    let excludes_fees = body.target_cost_excludes_fees.unwrap_or(false);
    let mut children = Vec::new();
    for (place, child) in body.children.into_iter().enumerate() {
        let at = format!("children[{place}].");
        let own = sizes(&at, child.contracts_fp.as_deref(), child.target_cost_dollars.as_deref())?;
        let (contracts, cost) = if own == (None, None) { (contracts, cost) } else { own };
        let ticker = match (given(child.market_ticker), child.selected_markets) {
            (Some(ticker), None) => ticker,
            (None, Some(_)) => {
                return Err(Response::bad_request(&format!(
                    "{at}selected_markets: make the combo market first and give its ticker"
                )));
            }
            _ => {
                return Err(Response::bad_request(&format!(
                    "{at}market_ticker and {at}selected_markets: give one of them"
                )));
            }
        };
        children.push(NewRfq {
            account: caller.account,
            subaccount,
            ticker,
            size: size(contracts, cost, excludes_fees)?,
            rest_remainder: body.rest_remainder.unwrap_or(false),
            replace_existing: body.replace_existing.unwrap_or(false),
            obscured: body.obscure_creator_id.unwrap_or(false),
        });
    }
    // For a batch no 409 is published, so what is in the way is a bad request.
    let id = state
        .engine
        .create_batch(&children, client_batch_id, call.time())
        .map_err(|refusal| refused(Refusal { kind: RefusalKind::Invalid, ..refusal }))?;
    let batch = state.engine.batch(id).ok_or_else(Response::not_found)?;
    Ok(Response::created(json!({"rfq_batch": shown_batch(state, batch, caller)})))
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
    let pages = Paging::new("rfq_batches", 20, 20);
    let (rows, cursor) = query.page(pages, rows, |batch| newest(batch.id.0))?;
    let rows: Vec<Value> =
        rows.into_iter().map(|batch| shown_batch(state, batch, caller)).collect();
    Ok(Response::ok(json!({"rfq_batches": rows, "cursor": cursor})))
}

pub(crate) fn accept_batch(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: AcceptBatch = call.read()?;
    let side = bid_side("accepted_side", &body.accepted_side)?;
    let id = batch_id(call)?;
    let mut limits = BTreeMap::new();
    for limit in &body.min_bids {
        let rfq = RfqId::parse(&limit.rfq_id)
            .ok_or_else(|| Response::bad_request("min_bids: rfq_id names no RFQ"))?;
        let bid = request::dollars("min_bids: bid_dollars", &limit.bid_dollars)?;
        if limits.insert(rfq, bid).is_some() {
            return Err(Response::bad_request("min_bids: an RFQ has two limits"));
        }
    }
    let order_id = given(body.client_order_id);
    let (caller, now) = (call.caller()?, call.time());
    let taken = state
        .engine
        .accept_batch(caller, id, side, &limits, order_id.as_deref(), now)
        .map_err(|refusal| match refusal.kind {
            RefusalKind::NotFound => refused(refusal),
            _ => refused(Refusal { kind: RefusalKind::Invalid, ..refusal }),
        })?;
    let caller = call.caller()?;
    let quotes: Vec<Value> = taken
        .into_iter()
        .filter_map(|id| state.engine.quote(id))
        .map(|quote| shown_quote(state, quote, caller))
        .collect();
    Ok(Response::ok(json!({"accepted_side": side.outcome(), "quotes": quotes})))
}

pub(crate) fn best_quotes(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let batch = state
        .engine
        .batch(batch_id(call)?)
        .filter(|batch| caller.owns(batch.account, batch.subaccount))
        .ok_or_else(Response::not_found)?;
    let mut complete = [true; 2];
    let rows: Vec<Value> = batch
        .rfqs
        .iter()
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
        "yes_complete": yes_complete && !rows.is_empty(),
        "no_complete": no_complete && !rows.is_empty(),
        "updated_ts": batch.quoted.map(time),
        "rfqs": rows,
    }))})))
}

pub(crate) fn batch_quotes(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let batch = state.engine.batch(batch_id(call)?).ok_or_else(Response::not_found)?;
    let own = caller.owns(batch.account, batch.subaccount);
    let rows: Vec<Value> = batch
        .quotes
        .iter()
        .rev()
        .filter_map(|id| state.engine.batch_quote(*id))
        .filter(|quote| own || caller.owns(quote.account, quote.subaccount))
        .map(|quote| shown_batch_quote(state, batch, quote, caller))
        .collect();
    Ok(Response::ok(json!({"batch_quotes": rows})))
}

pub(crate) fn create_batch_quote(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: CreateBatchQuote = call.read()?;
    let caller = call.caller()?;
    let batch = batch_id(call)?;
    if body.quotes.len() > MAX_OPEN_RFQS {
        return Err(Response::bad_request("quotes must be 100 at most"));
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
        all.push(bids(&at, &entry.rfq_id, &entry.yes_bid, &entry.no_bid)?);
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
        "creator_id": requester(rfq.account, rfq.obscured, reader.account),
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
    compact(json!({
        "id": quote.id.to_string(),
        "rfq_id": quote.rfq.to_string(),
        "creator_id": pseudonym(quote.account),
        "rfq_creator_id": requester(rfq.account, rfq.obscured, reader.account),
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
        "creator_id": requester(batch.account, batch.obscured, reader.account),
        "status": batch.status.as_str(),
        "created_ts": time(batch.created),
        "updated_ts": time(batch.updated),
        "accepted_ts": batch.accepted.map(time),
        "closed_ts": batch.closed.map(|(at, _)| time(at)),
        "close_reason": batch.closed.map(|(_, ending)| ending.as_str()),
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
    let shown: Vec<Value> = parts.iter().map(|part| shown_quote(state, part, reader)).collect();
    let taken = parts.iter().find_map(|part| part.taken);
    compact(json!({
        "id": quote.id.to_string(),
        "rfq_batch_id": quote.batch.to_string(),
        "creator_id": pseudonym(quote.account),
        "rfq_creator_id": requester(batch.account, batch.obscured, reader.account),
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

/// A proposal, with the user id of the member's own side only.
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

/// The size that is given, which must be one.
fn size(
    contracts: Option<Count>,
    cost: Option<Dollars>,
    excludes_fees: bool,
) -> Result<Size, Response> {
    match (contracts, cost) {
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

fn bids(at: &str, rfq: &str, yes: &str, no: &str) -> Result<Bids, Response> {
    Ok(Bids {
        rfq: RfqId::parse(rfq)
            .ok_or_else(|| Response::bad_request(&format!("{at}rfq_id names no RFQ")))?,
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

/// A bound key reads in detail only what belongs to its subaccount.
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

fn rfq_id(call: &Call<'_>) -> Option<RfqId> {
    RfqId::parse(call.first())
}

fn batch_id(call: &Call<'_>) -> Result<BatchId, Response> {
    BatchId::parse(call.first()).ok_or_else(Response::not_found)
}

/// The quote of the path: after its RFQ's id, or on the old paths alone.
fn named_quote(call: &Call<'_>) -> Result<(Principal, Option<RfqId>, QuoteId), Response> {
    let (rfq, quote) = match call.path {
        [quote] => (None, quote),
        [rfq, quote] => (Some(RfqId::parse(rfq).ok_or_else(Response::not_found)?), quote),
        _ => return Err(Response::not_found()),
    };
    Ok((call.caller()?, rfq, QuoteId::parse(quote).ok_or_else(Response::not_found)?))
}

fn named_batch_quote(call: &Call<'_>) -> Result<(BatchId, BatchQuoteId), Response> {
    let quote = call.path.get(1).and_then(|id| BatchQuoteId::parse(id));
    Ok((batch_id(call)?, quote.ok_or_else(Response::not_found)?))
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

/// Without the fields that are not there.
fn compact(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

#[cfg(test)]
mod tests;
