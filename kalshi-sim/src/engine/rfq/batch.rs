//! Batches: requests on several combos that are quoted, accepted and executed together, all or
//! nothing.
//!
//! A maker prices every child, and sends its prices again to keep them alive. The requester takes
//! the best bid of one side on each child, so several makers can win. Each of them has to confirm:
//! one that does not closes the batch. The last confirmation starts the timer, and then the orders
//! of all children are filled as wholes, or none is.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::Dollars;
use serde::{Deserialize, Serialize};

use super::{
    Bids, Ending, KEPT_MILLIS, NewRfq, Quote, QuoteStatus, Quoter, Size, Wanted, later,
    maker_order, no_quote, requester_order,
};
use crate::engine::{
    Engine, Timer,
    ids::{AccountId, BatchId, BatchQuoteId, MarketId, OrderId, QuoteId, RfqId},
    principal::Principal,
    types::{
        BatchChange, Event, NewOrder, OrderStatus, QuoteChange, Refusal, Side, Subaccount, Time,
        TimeInForce,
    },
};

/// The fewest requests of a batch.
const MIN_CHILDREN: usize = 2;
/// The most requests of a batch.
pub(crate) const MAX_CHILDREN: usize = 57;
/// Batches that one member may have open; one that is accepted does not count.
const MAX_OPEN_BATCHES: usize = 2;
/// The time for which a batch quote counts after it was last sent.
const QUOTED_MILLIS: i64 = 30_000;
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

/// Requests on several combos that are accepted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) obscured: bool,
    pub(crate) rfqs: Vec<RfqId>,
    /// Oldest first.
    pub(crate) quotes: Vec<BatchQuoteId>,
    pub(crate) status: BatchStatus,
    pub(crate) client_batch_id: Option<String>,
    /// Grows with every change of the bids.
    pub(crate) version: u64,
    /// The time of the last such change.
    pub(crate) quoted: Option<Time>,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) accepted: Option<Acceptance>,
    pub(crate) closed: Option<(Time, Ending)>,
}

/// The one acceptance of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acceptance {
    pub(crate) at: Time,
    pub(crate) side: Side,
    /// The bid that was taken on each child, in the order of the children.
    pub(crate) quotes: Vec<QuoteId>,
    /// The id by which a retry is known.
    pub(crate) client_order_id: Option<String>,
}

impl Batch {
    /// Reports whether it has never been accepted.
    pub(super) fn awaits_accept(&self) -> bool {
        self.accepted.is_none()
    }

    /// Reports whether other members see a placeholder instead of the requester. The execution of
    /// a child reveals it.
    pub(crate) fn hides_creator(&self) -> bool {
        let is_executed =
            matches!(self.closed, Some((_, Ending::Executed | Ending::PartiallyExecuted)));
        self.obscured && !is_executed
    }
}

/// A maker's bids on all children of a batch, confirmed together.
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

/// A batch to make.
#[derive(Clone, Debug)]
pub(crate) struct NewBatch {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) obscured: bool,
    /// Replaces the oldest open batches of the member if true.
    pub(crate) replace_existing: bool,
    pub(crate) client_batch_id: Option<String>,
    /// The tickers, and the size on each.
    pub(crate) children: Vec<(String, Size)>,
}

/// The reason for which a batch was not accepted. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AcceptRefusal {
    Refused(Refusal),
    /// The best bid on this child is below the minimum of the requester, or no bid exists.
    QuotesChanged(RfqId),
}

impl From<Refusal> for AcceptRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The two orders of a child that is to be executed.
#[derive(Clone, Debug)]
struct Trade {
    quote: QuoteId,
    maker: NewOrder,
    /// Keeps in the book what the requester leaves of the maker's order if true.
    rest_remainder: bool,
    requester: NewOrder,
}

impl Engine {
    /// Asks for quotes on several markets, all or none.
    pub(crate) fn create_batch(&mut self, new: &NewBatch, now: Time) -> Result<BatchId, Refusal> {
        let give_way = self.admit_batch(
            new.account,
            new.client_batch_id.as_deref(),
            new.replace_existing,
            now,
        )?;
        let children = self.children(new)?;
        for batch in give_way {
            self.close_batch(batch, Ending::Replaced);
        }
        self.rfq_book.last_batch += 1;
        let id = BatchId(self.rfq_book.last_batch);
        let rfqs = children
            .iter()
            .map(|(market, child)| self.enter_rfq(child, *market, Some(id)))
            .collect();
        let batch = Batch {
            id,
            account: new.account,
            subaccount: new.subaccount,
            obscured: new.obscured,
            rfqs,
            quotes: Vec::new(),
            status: BatchStatus::Open,
            client_batch_id: new.client_batch_id.clone(),
            version: 0,
            quoted: None,
            created: self.now,
            updated: self.now,
            accepted: None,
            closed: None,
        };
        self.rfq_book.batches.insert(id, batch);
        self.rfq_book.live_batches.insert(id);
        if let Some(name) = &new.client_batch_id {
            let names = self.rfq_book.batch_names.entry(new.account).or_default();
            names.insert(name.clone(), id);
        }
        self.emit(Event::Batch { batch: id, change: BatchChange::Created });
        Ok(id)
    }

    /// Checks that a member may open a batch. Returns the batches that give way to it.
    pub(crate) fn admit_batch(
        &mut self,
        account: AccountId,
        client_batch_id: Option<&str>,
        replace_existing: bool,
        now: Time,
    ) -> Result<Vec<BatchId>, Refusal> {
        self.advance(now);
        let names = self.rfq_book.batch_names.get(&account);
        if client_batch_id.is_some_and(|id| names.is_some_and(|names| names.contains_key(id))) {
            return Err(Refusal::conflict(
                "rfq_batch_already_exists",
                "there is a batch with this client batch id, or was within the last seven days",
            ));
        }
        let mut open: Vec<BatchId> = self
            .live_batches()
            .filter(|batch| batch.account == account && batch.status == BatchStatus::Open)
            .map(|batch| batch.id)
            .collect();
        let too_many = (open.len() + 1).saturating_sub(MAX_OPEN_BATCHES);
        if too_many > 0 && !replace_existing {
            return Err(Refusal::conflict(
                "too_many_rfq_batches",
                "two batches are open; set replace_existing to close the oldest",
            ));
        }
        open.truncate(too_many);
        Ok(open)
    }

    /// Closes an own batch with all its requests, unless it has been accepted.
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
        if batch.status == BatchStatus::Accepted {
            return Err(Refusal::parameters("an accepted batch cannot be deleted"));
        }
        self.close_batch(id, Ending::Deleted);
        Ok(())
    }

    /// Quotes on all children of a batch. An older batch quote of the same member on the batch is
    /// replaced; a bid that stays the same keeps its priority.
    pub(crate) fn create_batch_quote(
        &mut self,
        quoter: Quoter,
        batch: BatchId,
        bids: &[Bids],
        now: Time,
    ) -> Result<BatchQuoteId, Refusal> {
        self.advance(now);
        let found = self.batch(batch).ok_or_else(no_batch)?;
        if found.status != BatchStatus::Open {
            return Err(not_open());
        }
        each_once(&found.rfqs, bids.iter().map(|bid| bid.rfq))
            .map_err(|wrong| Refusal::parameters(format!("quotes {wrong}")))?;
        let sent = found.quotes.clone();
        let mut counts = Vec::new();
        for bid in bids {
            counts.push(self.quotable(quoter, *bid)?);
        }
        let older: Vec<QuoteId> = sent
            .iter()
            .filter_map(|id| self.batch_quote(*id))
            .filter(|quote| quote.account == quoter.account)
            .flat_map(|quote| self.quotes_in(&quote.quotes, QuoteStatus::Open))
            .collect();
        self.rfq_book.last_batch_quote += 1;
        let id = BatchQuoteId(self.rfq_book.last_batch_quote);
        let parts: Vec<QuoteId> = bids
            .iter()
            .zip(counts)
            .map(|(bid, counts)| self.enter_quote(quoter, *bid, counts, Some(id)))
            .collect();
        self.keep_priorities(&older, &parts);
        for part in older {
            self.cancel_quote(part, Ending::Replaced);
        }
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
        self.schedule(later(self.now, QUOTED_MILLIS), Timer::LapseBatchQuote(id));
        self.emit(Event::BatchQuote { quote: id, change: QuoteChange::Created });
        self.bids_changed(batch);
        Ok(id)
    }

    /// Takes the best bid of a side on every child, if none is below its minimum. Returns the side
    /// and the bids; a retry with the same client order id returns those of the first time.
    pub(crate) fn accept_batch(
        &mut self,
        caller: Principal,
        id: BatchId,
        side: Side,
        minimums: &BTreeMap<RfqId, Dollars>,
        client_order_id: Option<&str>,
        now: Time,
    ) -> Result<(Side, Vec<QuoteId>), AcceptRefusal> {
        self.advance(now);
        let batch = self
            .batch(id)
            .filter(|batch| caller.owns(batch.account, batch.subaccount))
            .ok_or_else(no_batch)?
            .clone();
        if let Some(first) = &batch.accepted
            && client_order_id.is_some()
            && first.client_order_id.as_deref() == client_order_id
        {
            return Ok((first.side, first.quotes.clone()));
        }
        if batch.status != BatchStatus::Open {
            return Err(not_open().into());
        }
        if client_order_id.is_some_and(|id| id.is_empty() || id.len() > MAX_CLIENT_ORDER_ID) {
            return Err(Refusal::parameters("client_order_id must have 1 to 64 bytes").into());
        }
        each_once(&batch.rfqs, minimums.keys().copied())
            .map_err(|wrong| Refusal::parameters(format!("min_bids {wrong}")))?;
        let mut taken = Vec::new();
        for rfq in &batch.rfqs {
            let best = self
                .best_quote(*rfq, side)
                .filter(|best| minimums.get(rfq).is_some_and(|least| best.bid(side) >= *least))
                .ok_or(AcceptRefusal::QuotesChanged(*rfq))?;
            taken.push((best.id, side));
        }
        if let Some(id) = client_order_id {
            self.unused_for_batch(batch.account, id, taken.len())?;
        }
        self.requester_affords(&taken)?;
        let now = self.now;
        let quotes: Vec<QuoteId> = taken.iter().map(|(quote, _)| *quote).collect();
        if let Some(batch) = self.rfq_book.batches.get_mut(&id) {
            batch.status = BatchStatus::Accepted;
            batch.updated = now;
            batch.accepted = Some(Acceptance {
                at: now,
                side,
                quotes: quotes.clone(),
                client_order_id: client_order_id.map(str::to_owned),
            });
        }
        for (number, (quote, side)) in taken.into_iter().enumerate() {
            self.take(quote, side, client_order_id.map(|id| child_order_id(id, number)));
        }
        let lost: Vec<QuoteId> = batch
            .quotes
            .iter()
            .filter_map(|id| self.batch_quote(*id))
            .flat_map(|quote| self.quotes_in(&quote.quotes, QuoteStatus::Open))
            .collect();
        for quote in lost {
            self.cancel_quote(quote, Ending::NotTaken);
        }
        let (confirm, _) = self.waits(&batch.rfqs);
        self.schedule(later(now, confirm), Timer::VoidBatch(id));
        for winner in self.winners(&quotes) {
            self.emit(Event::BatchQuote { quote: winner, change: QuoteChange::Accepted });
        }
        Ok((side, quotes))
    }

    /// Confirms everything that was accepted of an own batch quote. The last confirmation of a batch
    /// starts the time until its execution.
    pub(crate) fn confirm_batch_quote(
        &mut self,
        caller: Principal,
        batch: BatchId,
        quote: BatchQuoteId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.own_batch_quote(caller, batch, quote)?;
        let won = self.quotes_in(&quote.quotes, QuoteStatus::Accepted);
        if won.is_empty() {
            let is_late =
                quote.quotes.iter().any(|id| self.quote(*id).is_some_and(Quote::is_expired));
            return Err(if is_late {
                Refusal::conflict("expired", "the batch was not confirmed in time")
            } else {
                Refusal::conflict("not_accepted", "the quote does not wait for a confirmation")
            });
        }
        self.maker_affords(&won)?;
        for id in won {
            self.commit(id);
        }
        if self.is_confirmed(batch) {
            let rfqs = self.batch(batch).map_or_else(Vec::new, |batch| batch.rfqs.clone());
            let (_, execute) = self.waits(&rfqs);
            self.schedule(later(self.now, execute), Timer::ExecuteBatch(batch));
        }
        Ok(())
    }

    /// Withdraws an own batch quote with all its bids. Withdrawing one that was accepted closes the
    /// batch, as a missed confirmation does.
    pub(crate) fn delete_batch_quote(
        &mut self,
        caller: Principal,
        batch: BatchId,
        quote: BatchQuoteId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.own_batch_quote(caller, batch, quote)?;
        let parts = |status| self.quotes_in(&quote.quotes, status);
        if !parts(QuoteStatus::Confirmed).is_empty() || !parts(QuoteStatus::Executed).is_empty() {
            return Err(Refusal::parameters("a confirmed quote cannot be withdrawn"));
        }
        if !parts(QuoteStatus::Accepted).is_empty() {
            self.close_batch(batch, Ending::NotConfirmed);
            return Ok(());
        }
        let open = parts(QuoteStatus::Open);
        if open.is_empty() {
            return Err(no_quote());
        }
        for id in open {
            self.cancel_quote(id, Ending::Deleted);
        }
        self.bids_changed(batch);
        Ok(())
    }

    pub(crate) fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.rfq_book.batches.get(&id)
    }

    /// Returns all batches that can be read, the newest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.rfq_book.batches.values().rev()
    }

    pub(crate) fn batch_quote(&self, id: BatchQuoteId) -> Option<&BatchQuote> {
        self.rfq_book.batch_quotes.get(&id)
    }

    /// Forgets a closed batch.
    pub(in crate::engine) fn forget_batch(&mut self, id: BatchId) {
        let Some(batch) = self.rfq_book.batches.remove(&id) else { return };
        if let Some(names) = self.rfq_book.batch_names.get_mut(&batch.account)
            && let Some(name) = &batch.client_batch_id
        {
            names.remove(name);
        }
        for quote in batch.quotes {
            self.rfq_book.batch_quotes.remove(&quote);
        }
    }

    /// Ends a batch quote that was not sent again for half a minute.
    pub(in crate::engine) fn lapse_batch_quote(&mut self, id: BatchQuoteId) {
        let Some(quote) = self.batch_quote(id) else { return };
        let batch = quote.batch;
        let open = self.quotes_in(&quote.quotes, QuoteStatus::Open);
        if open.is_empty() {
            return;
        }
        for part in open {
            self.cancel_quote(part, Ending::Expired);
        }
        self.bids_changed(batch);
    }

    /// Voids an accepted batch that was not confirmed in time.
    pub(in crate::engine) fn void_batch(&mut self, id: BatchId) {
        let accepted = |batch: &Batch| batch.status == BatchStatus::Accepted;
        if self.batch(id).is_some_and(accepted) && !self.is_confirmed(id) {
            self.close_batch(id, Ending::NotConfirmed);
        }
    }

    /// Executes a batch that all winners have confirmed, and closes it.
    pub(in crate::engine) fn execute_batch(&mut self, id: BatchId) {
        let Some(batch) = self.batch(id).filter(|batch| batch.status == BatchStatus::Accepted)
        else {
            return;
        };
        let Some(accepted) = batch.accepted.clone() else { return };
        let trades: Option<Vec<Trade>> =
            accepted.quotes.iter().map(|quote| self.trade_of(*quote)).collect();
        let trades = trades.unwrap_or_default();
        let mut executed = 0;
        for (trade, orders) in trades.iter().zip(self.trade_together(&trades)) {
            let Some((maker, requester)) = orders else { continue };
            executed += 1;
            self.executed(trade.quote, maker, Some(requester));
            if let Some(rfq) = self.quote(trade.quote).map(|quote| quote.rfq) {
                self.close_rfq(rfq, Ending::Executed);
            }
        }
        let ending = if executed == 0 {
            Ending::ExecutionFailed
        } else if executed == accepted.quotes.len() {
            Ending::Executed
        } else {
            Ending::PartiallyExecuted
        };
        self.end_batch(id, ending);
        for winner in self.winners(&accepted.quotes) {
            self.emit(Event::BatchQuote { quote: winner, change: QuoteChange::Executed });
        }
        self.emit(Event::Batch { batch: id, change: BatchChange::Executed });
    }

    /// Closes batches with a request on a market that takes no more orders, unless they wait only
    /// for their execution, which fails then.
    pub(super) fn close_batches_of(&mut self, market: MarketId) {
        let is_on = |rfq: &RfqId| {
            self.rfq_book.rfqs.get(rfq).is_some_and(|rfq| rfq.market == market && rfq.is_open())
        };
        let over: Vec<BatchId> = self
            .live_batches()
            .filter(|batch| batch.rfqs.iter().any(is_on) && !self.is_confirmed(batch.id))
            .map(|batch| batch.id)
            .collect();
        for id in over {
            self.close_batch(id, Ending::MarketClosed);
        }
    }

    /// Closes a batch without an execution, and tells it.
    pub(super) fn close_batch(&mut self, id: BatchId, ending: Ending) {
        if self.end_batch(id, ending) {
            self.emit(Event::Batch { batch: id, change: BatchChange::Deleted });
        }
    }

    /// Closes a batch with what is open of it. Reports whether it was open.
    fn end_batch(&mut self, id: BatchId, ending: Ending) -> bool {
        if !self.rfq_book.live_batches.remove(&id) {
            return false;
        }
        let now = self.now;
        let Some(batch) = self.rfq_book.batches.get_mut(&id) else { return false };
        batch.status = BatchStatus::Closed;
        batch.closed = Some((now, ending));
        batch.updated = now;
        let rfqs = batch.rfqs.clone();
        let taken = batch.accepted.as_ref().map_or_else(Vec::new, |first| first.quotes.clone());
        let of_child =
            if ending == Ending::PartiallyExecuted { Ending::ExecutionFailed } else { ending };
        for quote in taken {
            self.cancel_quote(quote, of_child);
        }
        for rfq in rfqs {
            self.close_rfq(rfq, of_child);
        }
        // After its requests and quotes, which have timers of the same length.
        self.schedule(later(now, KEPT_MILLIS), Timer::ForgetBatch(id));
        true
    }

    /// Returns the batches that are open or accepted, the oldest first.
    fn live_batches(&self) -> impl Iterator<Item = &Batch> {
        self.rfq_book.live_batches.iter().filter_map(|id| self.batch(*id))
    }

    /// Checks the children of a new batch. Returns them with their markets.
    fn children(&self, new: &NewBatch) -> Result<Vec<(MarketId, NewRfq)>, Refusal> {
        if !(MIN_CHILDREN..=MAX_CHILDREN).contains(&new.children.len()) {
            return Err(Refusal::parameters("a batch must have 2 to 57 children"));
        }
        let (mut markets, mut shards) = (BTreeSet::new(), BTreeSet::new());
        let mut children = Vec::new();
        for (ticker, size) in &new.children {
            let child = NewRfq {
                account: new.account,
                subaccount: new.subaccount,
                ticker: ticker.clone(),
                size: *size,
                rest_remainder: false,
                replace_existing: false,
                obscured: new.obscured,
            };
            let market = self.requestable(&child)?;
            if !markets.insert(market) {
                return Err(Refusal::parameters("two children name the same market"));
            }
            shards.extend(self.market(market).map(|market| market.shard));
            children.push((market, child));
        }
        if shards.len() > 1 {
            return Err(Refusal::parameters("the children must be on one exchange index"));
        }
        let in_contracts = |(_, size): &&(String, Size)| matches!(size, Size::Contracts(_));
        let sized = new.children.iter().filter(in_contracts).count();
        if sized != 0 && sized != new.children.len() {
            return Err(Refusal::parameters("the children must be sized the same way"));
        }
        Ok(children)
    }

    /// Gives bids that say the same as an older one its priority.
    fn keep_priorities(&mut self, older: &[QuoteId], newer: &[QuoteId]) {
        for old in older {
            let Some(old) = self.rfq_book.quotes.get(old) else { continue };
            let (rfq, yes, no) = (old.rfq, old.yes, old.no);
            let (yes_priority, no_priority) = (old.yes_priority, old.no_priority);
            for new in newer {
                let Some(new) = self.rfq_book.quotes.get_mut(new) else { continue };
                if new.rfq != rfq {
                    continue;
                }
                if new.yes == yes {
                    new.yes_priority = yes_priority;
                }
                if new.no == no {
                    new.no_priority = no_priority;
                }
            }
        }
    }

    /// Notifies the requester that the bids on an open batch have changed.
    fn bids_changed(&mut self, id: BatchId) {
        let now = self.now;
        let open = |batch: &&mut Batch| batch.status == BatchStatus::Open;
        if let Some(batch) = self.rfq_book.batches.get_mut(&id).filter(open) {
            batch.version += 1;
            batch.quoted = Some(now);
            self.emit(Event::Batch { batch: id, change: BatchChange::BestQuotes });
        }
    }

    /// Checks that a client order id can name the orders of a batch. One that another batch has been
    /// accepted with, and is not executed yet, is taken.
    fn unused_for_batch(
        &self,
        account: AccountId,
        id: &str,
        children: usize,
    ) -> Result<(), Refusal> {
        let same = |batch: &Batch| {
            let first = batch.accepted.as_ref();
            first.is_some_and(|first| first.client_order_id.as_deref() == Some(id))
        };
        if self.live_batches().any(|batch| batch.account == account && same(batch)) {
            return Err(Refusal::conflict(
                "order_already_exists",
                "another batch has been accepted with this client order id",
            ));
        }
        (0..children).try_for_each(|number| self.unused(account, &child_order_id(id, number)))
    }

    /// Reports whether every winner has confirmed.
    fn is_confirmed(&self, batch: BatchId) -> bool {
        let confirmed =
            |id: &QuoteId| self.quote(*id).is_some_and(|q| q.status == QuoteStatus::Confirmed);
        let accepted = self.batch(batch).and_then(|batch| batch.accepted.as_ref());
        accepted.is_some_and(|first| first.quotes.iter().all(confirmed))
    }

    /// Returns the batch quotes that some quotes are part of, each once, in the order of the quotes.
    fn winners(&self, quotes: &[QuoteId]) -> Vec<BatchQuoteId> {
        let mut winners = Vec::new();
        for whole in quotes.iter().filter_map(|id| self.quote(*id)?.batch) {
            if !winners.contains(&whole) {
                winners.push(whole);
            }
        }
        winners
    }

    /// Returns the orders by which an accepted quote is executed.
    fn trade_of(&self, id: QuoteId) -> Option<Trade> {
        let quote = self.quote(id)?;
        let rfq = self.rfq_of(quote)?;
        let ticker = self.market(rfq.market)?.ticker.clone();
        let maker = maker_order(quote, ticker, quote.taken?);
        let requester = requester_order(quote, rfq, &maker, TimeInForce::FillOrKill);
        Some(Trade { quote: id, rest_remainder: quote.rest_remainder, maker, requester })
    }

    /// Trades all or none. Returns the two orders of each that traded.
    ///
    /// The orders of the makers come first, and none of them may trade on its own: then all that the
    /// requester wants is in the books, and nothing has happened yet that could not be taken back.
    fn trade_together(&mut self, trades: &[Trade]) -> Vec<Option<(OrderId, OrderId)>> {
        let none = vec![None; trades.len()];
        let is_possible = trades.iter().all(|trade| self.rests_whole(&trade.maker));
        if !is_possible || !self.can_pay(trades) {
            return none;
        }
        let mut makers = Vec::new();
        for trade in trades {
            if let Ok(order) = self.place_once(&trade.maker) {
                makers.push(order);
            } else {
                for order in makers {
                    self.withdraw_rest(order, false);
                }
                return none;
            }
        }
        trades
            .iter()
            .zip(makers)
            .map(|(trade, maker)| {
                let requester = self.place_once(&trade.requester).ok().filter(|order| {
                    self.order(*order).is_some_and(|order| order.status == OrderStatus::Executed)
                });
                self.withdraw_rest(maker, trade.rest_remainder && requester.is_some());
                requester.map(|requester| (maker, requester))
            })
            .collect()
    }

    /// Reports whether an order would be in the book as a whole after its entry: it may meet only
    /// its own member's, which give way, and one that is post-only none.
    fn rests_whole(&self, new: &NewOrder) -> bool {
        let Some(market) = self.market_by_ticker(&new.ticker) else { return false };
        market
            .book
            .orders(new.side.opposite())
            .take_while(|(price, ..)| new.side.crosses(new.price, *price))
            .all(|(_, order, _)| {
                !new.post_only && self.order(order).is_some_and(|o| o.account == new.account)
            })
    }

    /// Reports whether the money for the orders of all is there at once, and their markets are open.
    fn can_pay(&mut self, trades: &[Trade]) -> bool {
        let orders: Vec<Wanted> = trades
            .iter()
            .flat_map(|trade| [&trade.maker, &trade.requester])
            .filter_map(|order| {
                let market = self.market_by_ticker(&order.ticker)?.id;
                let key = self.trading_key(order.account, order.subaccount, market);
                Some((key, order.side, order.price, order.count))
            })
            .collect();
        self.all_afforded(&orders).is_ok()
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

/// Checks that a list names every child of a batch exactly once.
fn each_once(
    children: &[RfqId],
    named: impl ExactSizeIterator<Item = RfqId>,
) -> Result<(), &'static str> {
    if named.len() != children.len() {
        return Err("must name every RFQ of the batch once");
    }
    let named: BTreeSet<RfqId> = named.collect();
    if named.iter().any(|rfq| !children.contains(rfq)) {
        return Err("must name no RFQ that is not of the batch");
    }
    if named.len() == children.len() { Ok(()) } else { Err("must not name an RFQ twice") }
}

/// Returns the client order id of a batch's order. Ids are unique, so only the first order has the
/// given one.
fn child_order_id(id: &str, number: usize) -> String {
    if number == 0 { id.to_owned() } else { format!("{id}:{number}") }
}

fn no_batch() -> Refusal {
    Refusal::not_found("RFQ batch not found")
}

fn not_open() -> Refusal {
    Refusal::conflict("rfq_batch_not_open", "the batch is not open")
}
