//! Batches: requests on several markets that are quoted and accepted together.
//!
//! Little of this is documented. Here a batch is accepted as a whole, each child at its best bid;
//! each maker confirms for itself; what is confirmed is executed; and a batch of which nothing is
//! confirmed in time is open again.

use std::collections::BTreeMap;

use kalshi_types::Dollars;
use serde::{Deserialize, Serialize};

use super::{
    Bids, Ending, KEPT_MILLIS, MAX_OPEN_RFQS, NewRfq, QuoteStatus, Quoter, later, no_quote,
    rfq_closed, too_many,
};
use crate::engine::{
    Engine, Timer,
    ids::{AccountId, BatchId, BatchQuoteId, QuoteId, RfqId},
    principal::Principal,
    types::{BatchChange, Event, QuoteChange, Refusal, Side, Subaccount, Time},
};

/// The longest client order id that a batch may be accepted with, in bytes: one of each child is
/// made of it.
const MAX_CLIENT_ORDER_ID: usize = 64;

/// The status of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BatchStatus {
    Open,
    Accepted,
    Closed,
}

impl BatchStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Closed => "closed",
        }
    }
}

/// Requests on several markets that are accepted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) obscured: bool,
    pub(crate) rfqs: Vec<RfqId>,
    pub(crate) quotes: Vec<BatchQuoteId>,
    pub(crate) status: BatchStatus,
    pub(crate) client_batch_id: Option<String>,
    /// Grows with every change of a quote on a child.
    pub(crate) version: u64,
    /// The time of the last such change.
    pub(crate) quoted: Option<Time>,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) accepted: Option<Time>,
    pub(crate) closed: Option<(Time, Ending)>,
}

/// A maker's quotes on children of a batch, confirmed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchQuote {
    pub(crate) id: BatchQuoteId,
    pub(crate) batch: BatchId,
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) quotes: Vec<QuoteId>,
    pub(crate) rest_remainder: bool,
    pub(crate) post_only: bool,
    pub(crate) created: Time,
}

impl Engine {
    /// Asks for quotes on several markets, all or none.
    pub(crate) fn create_batch(
        &mut self,
        children: &[NewRfq],
        client_batch_id: Option<String>,
        now: Time,
    ) -> Result<BatchId, Refusal> {
        self.advance(now);
        let Some(first) = children.first() else {
            return Err(Refusal::parameters("children must not be empty"));
        };
        let (account, subaccount, obscured) = (first.account, first.subaccount, first.obscured);
        let mut markets = Vec::new();
        let mut before = Vec::new();
        for child in children {
            let market = self.requestable(child)?;
            if markets.contains(&market) {
                return Err(Refusal::parameters("two children name the same market"));
            }
            markets.push(market);
            before.extend(self.in_the_way(account, market, child.replace_existing)?);
        }
        if self.rfq_book.open_of(account) - before.len() + children.len() > MAX_OPEN_RFQS {
            return Err(too_many());
        }
        for rfq in before {
            self.give_way(rfq);
        }
        self.rfq_book.last_batch += 1;
        let id = BatchId(self.rfq_book.last_batch);
        let rfqs = children
            .iter()
            .zip(markets)
            .map(|(child, market)| self.enter_rfq(child, market, Some(id)))
            .collect();
        let batch = Batch {
            id,
            account,
            subaccount,
            obscured,
            rfqs,
            quotes: Vec::new(),
            status: BatchStatus::Open,
            client_batch_id,
            version: 0,
            quoted: None,
            created: self.now,
            updated: self.now,
            accepted: None,
            closed: None,
        };
        self.rfq_book.batches.insert(id, batch);
        self.emit(Event::Batch { batch: id, change: BatchChange::Created });
        Ok(id)
    }

    /// Closes an own batch with all its requests.
    pub(crate) fn delete_batch(
        &mut self,
        caller: Principal,
        id: BatchId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let batch = self
            .batch(id)
            .filter(|batch| caller.owns(batch.account, batch.subaccount))
            .filter(|batch| batch.closed.is_none())
            .ok_or_else(no_batch)?;
        self.withdrawable(&batch.rfqs)?;
        self.close_batch(id, Ending::Deleted);
        Ok(())
    }

    /// Quotes on children of a batch, all or none. An older batch quote of the same member on the
    /// batch is replaced.
    pub(crate) fn create_batch_quote(
        &mut self,
        quoter: Quoter,
        batch: BatchId,
        bids: &[Bids],
        now: Time,
    ) -> Result<BatchQuoteId, Refusal> {
        self.advance(now);
        let found = self.batch(batch).ok_or_else(no_batch)?;
        if found.closed.is_some() {
            return Err(rfq_closed());
        }
        if bids.is_empty() {
            return Err(Refusal::parameters("quotes must not be empty"));
        }
        for (place, bid) in bids.iter().enumerate() {
            if !found.rfqs.contains(&bid.rfq) {
                return Err(Refusal::parameters("an RFQ is not part of this batch"));
            }
            if bids.iter().take(place).any(|other| other.rfq == bid.rfq) {
                return Err(Refusal::parameters("two quotes are on the same RFQ"));
            }
        }
        let mut counts = Vec::new();
        for bid in bids {
            counts.push(self.quotable(quoter, *bid)?);
        }
        let older: Vec<RfqId> = self.batch(batch).map_or_else(Vec::new, |batch| batch.rfqs.clone());
        for rfq in older {
            self.replace_quotes(quoter.account, rfq);
        }
        self.rfq_book.last_batch_quote += 1;
        let id = BatchQuoteId(self.rfq_book.last_batch_quote);
        let parts = bids
            .iter()
            .zip(counts)
            .map(|(bid, counts)| self.enter_quote(quoter, *bid, counts, Some(id)))
            .collect();
        let quote = BatchQuote {
            id,
            batch,
            account: quoter.account,
            subaccount: quoter.subaccount,
            quotes: parts,
            rest_remainder: quoter.rest_remainder,
            post_only: quoter.post_only,
            created: self.now,
        };
        self.rfq_book.batch_quotes.insert(id, quote);
        if let Some(batch) = self.rfq_book.batches.get_mut(&batch) {
            batch.quotes.push(id);
        }
        self.emit(Event::BatchQuote { quote: id, change: QuoteChange::Created });
        Ok(id)
    }

    /// Takes the best bid of a side on every child, if none is below its limit. Gives the quotes.
    pub(crate) fn accept_batch(
        &mut self,
        caller: Principal,
        id: BatchId,
        side: Side,
        limits: &BTreeMap<RfqId, Dollars>,
        client_order_id: Option<&str>,
        now: Time,
    ) -> Result<Vec<QuoteId>, Refusal> {
        self.advance(now);
        let batch = self
            .batch(id)
            .filter(|batch| caller.owns(batch.account, batch.subaccount))
            .ok_or_else(no_batch)?;
        match batch.status {
            BatchStatus::Open => {}
            BatchStatus::Accepted => {
                return Err(Refusal::parameters("the batch has been accepted already"));
            }
            BatchStatus::Closed => return Err(rfq_closed()),
        }
        if client_order_id.is_some_and(|id| id.is_empty() || id.len() > MAX_CLIENT_ORDER_ID) {
            return Err(Refusal::parameters("client_order_id must have 1 to 64 bytes"));
        }
        let open: Vec<RfqId> = batch.rfqs.iter().copied().filter(|id| self.is_open(*id)).collect();
        // A child without a limit would be sold at any price.
        if open.iter().any(|rfq| !limits.contains_key(rfq)) {
            return Err(Refusal::parameters("min_bids must have a limit for every open RFQ"));
        }
        if limits.keys().any(|rfq| !batch.rfqs.contains(rfq)) {
            return Err(Refusal::parameters("min_bids names an RFQ that is not of this batch"));
        }
        let mut taken = Vec::new();
        for rfq in &open {
            let best = self
                .best_quote(*rfq, side)
                .filter(|best| limits.get(rfq).is_some_and(|limit| best.bid(side) >= *limit))
                .ok_or_else(|| Refusal::parameters("an RFQ has no bid that meets its limit"))?;
            taken.push((best.id, side));
        }
        let account = batch.account;
        if let Some(id) = client_order_id {
            for number in 0..taken.len() {
                self.unused(account, &child_order_id(id, number))?;
            }
        }
        self.requester_affords(&taken)?;
        let now = self.now;
        if let Some(batch) = self.rfq_book.batches.get_mut(&id) {
            batch.status = BatchStatus::Accepted;
            batch.accepted = Some(now);
            batch.updated = now;
        }
        for (number, (quote, side)) in taken.iter().enumerate() {
            self.take(*quote, *side, client_order_id.map(|id| child_order_id(id, number)));
        }
        let mut announced = Vec::new();
        for (quote, _) in &taken {
            let Some(whole) = self.quote(*quote).and_then(|quote| quote.batch) else { continue };
            if !announced.contains(&whole) {
                announced.push(whole);
                self.emit(Event::BatchQuote { quote: whole, change: QuoteChange::Accepted });
            }
        }
        Ok(taken.into_iter().map(|(quote, _)| quote).collect())
    }

    /// Confirms everything that was accepted of an own batch quote.
    pub(crate) fn confirm_batch_quote(
        &mut self,
        caller: Principal,
        batch: BatchId,
        quote: BatchQuoteId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.own_batch_quote(caller, batch, quote)?;
        let accepted = self.quotes_in(&quote.quotes, QuoteStatus::Accepted);
        if accepted.is_empty() {
            return Err(Refusal::parameters("the quote does not wait for a confirmation"));
        }
        self.maker_affords(&accepted)?;
        for id in accepted {
            self.commit(id);
        }
        Ok(())
    }

    /// Withdraws an own batch quote with all its parts.
    pub(crate) fn delete_batch_quote(
        &mut self,
        caller: Principal,
        batch: BatchId,
        quote: BatchQuoteId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.own_batch_quote(caller, batch, quote)?;
        let bound = |status| !self.quotes_in(&quote.quotes, status).is_empty();
        if bound(QuoteStatus::Confirmed) || bound(QuoteStatus::Executed) {
            return Err(Refusal::parameters("a confirmed quote cannot be withdrawn"));
        }
        let mut parts = self.quotes_in(&quote.quotes, QuoteStatus::Open);
        parts.extend(self.quotes_in(&quote.quotes, QuoteStatus::Accepted));
        if parts.is_empty() {
            return Err(no_quote());
        }
        for id in parts {
            self.cancel_quote(id, Ending::Deleted);
        }
        Ok(())
    }

    pub(crate) fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.rfq_book.batches.get(&id)
    }

    /// Batches, the newest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.rfq_book.batches.values().rev()
    }

    pub(crate) fn batch_quote(&self, id: BatchQuoteId) -> Option<&BatchQuote> {
        self.rfq_book.batch_quotes.get(&id)
    }

    /// Forgets a closed batch.
    pub(in crate::engine) fn forget_batch(&mut self, id: BatchId) {
        let Some(batch) = self.rfq_book.batches.remove(&id) else { return };
        for quote in batch.quotes {
            self.rfq_book.batch_quotes.remove(&quote);
        }
    }

    pub(super) fn close_batch(&mut self, id: BatchId, ending: Ending) {
        let now = self.now;
        let open = |batch: &&mut Batch| batch.closed.is_none();
        let Some(batch) = self.rfq_book.batches.get_mut(&id).filter(open) else { return };
        batch.status = BatchStatus::Closed;
        batch.closed = Some((now, ending));
        batch.updated = now;
        let rfqs = batch.rfqs.clone();
        for rfq in rfqs {
            self.close_rfq(rfq, ending);
        }
        // After its requests and quotes, which have timers of the same length.
        self.schedule(later(now, KEPT_MILLIS), Timer::ForgetBatch(id));
        let change = match ending {
            Ending::Executed => BatchChange::Executed,
            _ => BatchChange::Deleted,
        };
        self.emit(Event::Batch { batch: id, change });
    }

    /// Once nothing of an accepted batch waits any more: it is closed if anything was executed or
    /// nothing is left of it, else it is open again.
    pub(super) fn settle_batch(&mut self, id: Option<BatchId>) {
        let Some(batch) = id.and_then(|id| self.batch(id)) else { return };
        if batch.closed.is_some() || batch.rfqs.iter().any(|rfq| self.pending(*rfq).is_some()) {
            return;
        }
        let ended = |id: &&RfqId| {
            self.rfq_book.rfqs.get(*id).and_then(|rfq| rfq.closed).map(|(_, ending)| ending)
        };
        let executed = batch.rfqs.iter().any(|rfq| ended(&rfq) == Some(Ending::Executed));
        let over = batch.rfqs.iter().all(|rfq| !self.is_open(*rfq));
        let (id, accepted) = (batch.id, batch.status == BatchStatus::Accepted);
        if executed {
            self.close_batch(id, Ending::Executed);
        } else if over {
            self.close_batch(id, Ending::MarketClosed);
        } else if accepted {
            let now = self.now;
            if let Some(batch) = self.rfq_book.batches.get_mut(&id) {
                batch.status = BatchStatus::Open;
                batch.accepted = None;
                batch.updated = now;
            }
        }
    }

    fn own_batch_quote(
        &self,
        caller: Principal,
        batch: BatchId,
        quote: BatchQuoteId,
    ) -> Result<BatchQuote, Refusal> {
        self.batch_quote(quote)
            .filter(|quote| quote.batch == batch && caller.owns(quote.account, quote.subaccount))
            .cloned()
            .ok_or_else(no_quote)
    }
}

/// Client order ids are unique, so only the first order of a batch has the one that was given.
fn child_order_id(id: &str, number: usize) -> String {
    if number == 0 { id.to_owned() } else { format!("{id}:{number}") }
}

fn no_batch() -> Refusal {
    Refusal::not_found("RFQ batch not found")
}
