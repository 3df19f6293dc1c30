//! Requests for quotes: asking, quoting, accepting, confirming, execution in the public book; and
//! batches of them.
//!
//! No money is held back for a quote: it is checked when a quote is made, accepted and confirmed,
//! and the orders of a quote are refused like any others if it is gone by then. Two members are
//! needed: a member cannot quote on an own request, for that could only trade with itself.

mod batch;
#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

pub(crate) use self::batch::{
    AcceptRefusal, Batch, BatchQuote, BatchStatus, MAX_CHILDREN, NewBatch,
};
use crate::engine::{
    Engine, PositionKey, Timer,
    amount::{MAX_CASH, MAX_COUNT, SaturatingArithmetic, cost, other_leg},
    ids::{AccountId, BatchId, BatchQuoteId, MarketId, OrderId, QuoteId, RfqId},
    matching::Matching,
    principal::Principal,
    types::{
        Event, MarketStatus, NewOrder, Order, OrderStatus, QuoteChange, Reason, Refusal, SelfTrade,
        Side, Subaccount, Time, TimeInForce,
    },
};

/// Single requests that one member may have open; those of batches do not count.
pub(crate) const MAX_OPEN_RFQS: usize = 100;
/// The time for which closed requests and quotes that were never accepted can still be read.
const KEPT_MILLIS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// The size of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Size {
    Contracts(Count),
    /// As many contracts as the requester gets for this money.
    Cost {
        target: Dollars,
        /// Fees are charged on top if true.
        excludes_fees: bool,
    },
}

/// The reason for which a request or a quote has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    Deleted,
    Replaced,
    Executed,
    RfqClosed,
    NotConfirmed,
    OrderRefused,
    MarketClosed,
    /// A batch quote was not sent again in time.
    Expired,
    /// The batch was accepted without this bid.
    NotTaken,
    /// The orders of a batch could not be filled together.
    ExecutionFailed,
    PartiallyExecuted,
}

impl Ending {
    /// Returns the simulator's word: the exchange's are not documented, apart from those for the
    /// execution of a batch.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
            Self::Executed => "executed",
            Self::RfqClosed => "rfq_closed",
            Self::NotConfirmed => "not_confirmed",
            Self::OrderRefused => "order_refused",
            Self::MarketClosed => "market_closed",
            Self::Expired => "expired",
            Self::NotTaken => "not_taken",
            Self::ExecutionFailed => "execution failed",
            Self::PartiallyExecuted => "partially executed",
        }
    }
}

/// A request for quotes on one market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rfq {
    pub(crate) id: RfqId,
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) market: MarketId,
    pub(crate) size: Size,
    /// Keeps in the book what does not match at execution if true.
    pub(crate) rest_remainder: bool,
    pub(crate) obscured: bool,
    pub(crate) batch: Option<BatchId>,
    /// Oldest first.
    pub(crate) quotes: Vec<QuoteId>,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) closed: Option<(Time, Ending)>,
}

impl Rfq {
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Reports whether other members see a placeholder instead of the requester. An execution
    /// reveals it; an acceptance and a confirmation do not.
    pub(crate) fn hides_creator(&self) -> bool {
        self.obscured && !matches!(self.closed, Some((_, Ending::Executed)))
    }
}

/// The status of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum QuoteStatus {
    Open,
    Accepted,
    Confirmed,
    Executed,
    Cancelled,
}

impl QuoteStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Confirmed => "confirmed",
            Self::Executed => "executed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reports whether it waits for its maker or for its execution.
    fn is_pending(self) -> bool {
        matches!(self, Self::Accepted | Self::Confirmed)
    }
}

/// A maker's two bids on a request, for its full size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quote {
    pub(crate) id: QuoteId,
    pub(crate) rfq: RfqId,
    pub(crate) batch: Option<BatchQuoteId>,
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    /// The maker's price for YES; zero declines.
    pub(crate) yes: Dollars,
    /// The maker's price for NO; zero declines.
    pub(crate) no: Dollars,
    /// Contracts that trade if the YES bid is taken.
    pub(crate) yes_count: Count,
    /// Contracts that trade if the NO bid is taken.
    pub(crate) no_count: Count,
    /// The rank of the YES bid among equal ones, lowest first.
    pub(crate) yes_priority: u64,
    /// The rank of the NO bid among equal ones, lowest first.
    pub(crate) no_priority: u64,
    pub(crate) rest_remainder: bool,
    pub(crate) post_only: bool,
    pub(crate) status: QuoteStatus,
    /// The side of the maker's bid that was taken.
    pub(crate) taken: Option<Side>,
    /// For the requester's order.
    pub(crate) client_order_id: Option<String>,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) accepted: Option<Time>,
    pub(crate) confirmed: Option<Time>,
    pub(crate) executed: Option<Time>,
    pub(crate) cancelled: Option<(Time, Ending)>,
    pub(crate) order: Option<OrderId>,
    pub(crate) rfq_order: Option<OrderId>,
}

impl Quote {
    /// Returns the maker's bid for the contracts of a side.
    pub(crate) fn bid(&self, side: Side) -> Dollars {
        match side {
            Side::Bid => self.yes,
            Side::Ask => self.no,
        }
    }

    pub(crate) fn count(&self, side: Side) -> Count {
        match side {
            Side::Bid => self.yes_count,
            Side::Ask => self.no_count,
        }
    }

    /// Returns the rank of a bid among equal ones of its side.
    fn priority(&self, side: Side) -> u64 {
        match side {
            Side::Bid => self.yes_priority,
            Side::Ask => self.no_priority,
        }
    }

    /// Reports whether the maker let the time for the confirmation pass.
    fn is_expired(&self) -> bool {
        matches!(self.cancelled, Some((_, Ending::NotConfirmed)))
    }

    /// Returns the YES price at which both orders go to the book.
    fn price(&self, side: Side) -> Dollars {
        side.leg_price(self.bid(side))
    }
}

/// A request to make.
#[derive(Clone, Debug)]
pub(crate) struct NewRfq {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) ticker: String,
    pub(crate) size: Size,
    pub(crate) rest_remainder: bool,
    pub(crate) replace_existing: bool,
    pub(crate) obscured: bool,
}

/// The maker of a quote, and the terms of its orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoter {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) rest_remainder: bool,
    pub(crate) post_only: bool,
}

/// The bids on one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bids {
    pub(crate) rfq: RfqId,
    pub(crate) yes: Dollars,
    pub(crate) no: Dollars,
}

/// An order to come, of which the money is asked.
type Wanted = (PositionKey, Side, Dollars, Count);

/// All requests, quotes and batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RfqBook {
    rfqs: BTreeMap<RfqId, Rfq>,
    quotes: BTreeMap<QuoteId, Quote>,
    batches: BTreeMap<BatchId, Batch>,
    /// The batches that are open or accepted.
    live_batches: BTreeSet<BatchId>,
    /// The batches that can be read, by the ids that their members gave them.
    batch_names: BTreeMap<AccountId, BTreeMap<String, BatchId>>,
    batch_quotes: BTreeMap<BatchQuoteId, BatchQuote>,
    /// The open single requests of each member, one per market.
    open: BTreeMap<AccountId, BTreeMap<MarketId, RfqId>>,
    last_rfq: u64,
    last_quote: u64,
    last_batch: u64,
    last_batch_quote: u64,
}

impl RfqBook {
    fn open_of(&self, account: AccountId) -> usize {
        self.open.get(&account).map_or(0, BTreeMap::len)
    }
}

impl Engine {
    /// Asks for quotes on a market.
    pub(crate) fn create_rfq(&mut self, new: &NewRfq, now: Time) -> Result<RfqId, Refusal> {
        self.advance(now);
        let market = self.requestable(new)?;
        let before = self.in_the_way(new.account, market, new.replace_existing)?;
        if self.rfq_book.open_of(new.account) - usize::from(before.is_some()) >= MAX_OPEN_RFQS {
            return Err(too_many());
        }
        if let Some(before) = before {
            self.close_rfq(before, Ending::Replaced);
        }
        Ok(self.enter_rfq(new, market, None))
    }

    /// Closes an own request. Nothing can be accepted on it then.
    pub(crate) fn delete_rfq(
        &mut self,
        caller: Principal,
        id: RfqId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let rfq = self
            .rfq(id)
            .filter(|rfq| caller.owns(rfq.account, rfq.subaccount) && rfq.is_open())
            .ok_or_else(no_rfq)?;
        if rfq.batch.is_some() {
            return Err(Refusal::parameters("the RFQ is part of a batch; delete the batch"));
        }
        self.withdrawable(id)?;
        self.close_rfq(id, Ending::Deleted);
        Ok(())
    }

    /// Quotes on a request. An older open quote of the same member on it is replaced.
    pub(crate) fn create_quote(
        &mut self,
        quoter: Quoter,
        bids: Bids,
        now: Time,
    ) -> Result<QuoteId, Refusal> {
        self.advance(now);
        if self.rfq(bids.rfq).ok_or_else(no_rfq)?.batch.is_some() {
            return Err(Refusal::parameters("the RFQ is part of a batch; quote on the batch"));
        }
        let counts = self.quotable(quoter, bids)?;
        self.replace_quotes(quoter.account, bids.rfq);
        Ok(self.enter_quote(quoter, bids, counts, None))
    }

    /// Takes one bid of a quote on an own request; `side` is the maker's. The maker must confirm.
    pub(crate) fn accept_quote(
        &mut self,
        caller: Principal,
        rfq: Option<RfqId>,
        quote: QuoteId,
        side: Side,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.party_quote(caller, rfq, quote)?.clone();
        let Some(rfq) = self.rfq_book.rfqs.get(&quote.rfq) else { return Err(no_quote()) };
        if !caller.owns(rfq.account, rfq.subaccount) {
            return Err(Refusal::parameters("only the requester can accept a quote"));
        }
        if !rfq.is_open() {
            return Err(rfq_closed());
        }
        if rfq.batch.is_some() {
            return Err(Refusal::parameters("the RFQ is part of a batch; accept the batch"));
        }
        let rfq = rfq.id;
        match quote.status {
            QuoteStatus::Open => {}
            QuoteStatus::Cancelled if quote.is_expired() => return Err(expired()),
            QuoteStatus::Cancelled => return Err(no_quote()),
            _ => return Err(Refusal::parameters("the quote has been accepted already")),
        }
        if !quote.bid(side).is_positive() {
            return Err(Refusal::parameters("the maker does not bid for this side"));
        }
        if self.pending(rfq).is_some() {
            return Err(Refusal::parameters("another quote on this RFQ has been accepted"));
        }
        self.requester_affords(&[(quote.id, side)])?;
        self.take(quote.id, side, None);
        let (confirm, _) = self.waits(&[rfq]);
        self.schedule(later(self.now, confirm), Timer::VoidQuote(quote.id));
        Ok(())
    }

    /// Confirms an own quote that was accepted. Its orders go to the book after the timer.
    pub(crate) fn confirm_quote(
        &mut self,
        caller: Principal,
        rfq: Option<RfqId>,
        quote: QuoteId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.own_quote(caller, rfq, quote)?;
        if quote.batch.is_some() {
            return Err(Refusal::parameters("the quote is part of a batch quote; confirm that"));
        }
        if quote.is_expired() {
            return Err(expired());
        }
        if quote.status != QuoteStatus::Accepted {
            return Err(Refusal::parameters("the quote does not wait for a confirmation"));
        }
        let (id, rfq) = (quote.id, quote.rfq);
        self.maker_affords(&[id])?;
        self.commit(id);
        let (_, execute) = self.waits(&[rfq]);
        self.schedule(later(self.now, execute), Timer::ExecuteQuote(id));
        Ok(())
    }

    /// Withdraws an own quote that is not confirmed.
    pub(crate) fn delete_quote(
        &mut self,
        caller: Principal,
        rfq: Option<RfqId>,
        quote: QuoteId,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let quote = self.own_quote(caller, rfq, quote)?;
        if quote.batch.is_some() {
            return Err(Refusal::parameters("the quote is part of a batch quote; delete that"));
        }
        match quote.status {
            QuoteStatus::Open | QuoteStatus::Accepted => {}
            QuoteStatus::Cancelled => return Err(no_quote()),
            QuoteStatus::Confirmed | QuoteStatus::Executed => {
                return Err(Refusal::parameters("a confirmed quote cannot be withdrawn"));
            }
        }
        let id = quote.id;
        self.cancel_quote(id, Ending::Deleted);
        Ok(())
    }

    /// Returns a request that can be read: open, or closed within the last seven days.
    pub(crate) fn rfq(&self, id: RfqId) -> Option<&Rfq> {
        self.rfq_book.rfqs.get(&id).filter(|rfq| self.is_kept(rfq))
    }

    /// Returns the request of a quote, however long it has been closed.
    pub(crate) fn rfq_of(&self, quote: &Quote) -> Option<&Rfq> {
        self.rfq_book.rfqs.get(&quote.rfq)
    }

    /// Returns the requests that can be read, the newest first.
    pub(crate) fn rfqs(&self) -> impl Iterator<Item = &Rfq> {
        self.rfq_book.rfqs.values().rev().filter(|rfq| self.is_kept(rfq))
    }

    pub(crate) fn quote(&self, id: QuoteId) -> Option<&Quote> {
        self.rfq_book.quotes.get(&id)
    }

    /// Returns the quotes, the newest first.
    pub(crate) fn quotes(&self) -> impl Iterator<Item = &Quote> {
        self.rfq_book.quotes.values().rev()
    }

    /// Returns the open quote with the highest bid for a side; among equal ones that of the highest
    /// priority.
    pub(crate) fn best_quote(&self, rfq: RfqId, side: Side) -> Option<&Quote> {
        let rfq = self.rfq(rfq).filter(|rfq| rfq.is_open())?;
        rfq.quotes
            .iter()
            .filter_map(|id| self.quote(*id))
            .filter(|quote| quote.status == QuoteStatus::Open && quote.bid(side).is_positive())
            .max_by_key(|quote| (quote.bid(side), std::cmp::Reverse(quote.priority(side))))
    }

    /// Returns a quote that the member may see: its maker or the requester. A bid on a child of a
    /// batch is its maker's alone until the batch is accepted, and then of interest only if it was
    /// taken.
    pub(crate) fn party_quote(
        &self,
        caller: Principal,
        rfq: Option<RfqId>,
        quote: QuoteId,
    ) -> Result<&Quote, Refusal> {
        self.quote(quote)
            .filter(|quote| rfq.is_none_or(|rfq| quote.rfq == rfq))
            .filter(|quote| {
                let Some(rfq) = self.rfq_of(quote) else { return false };
                let is_maker = caller.owns(quote.account, quote.subaccount);
                let is_party = is_maker || caller.owns(rfq.account, rfq.subaccount);
                match rfq.batch.filter(|_| quote.taken.is_none()) {
                    None => is_party,
                    Some(batch) => is_maker && self.batch(batch).is_some_and(Batch::awaits_accept),
                }
            })
            .ok_or_else(no_quote)
    }

    /// Voids an accepted quote that was not confirmed in time.
    pub(super) fn void_quote(&mut self, id: QuoteId) {
        if self.quote(id).is_some_and(|quote| quote.status == QuoteStatus::Accepted) {
            self.cancel_quote(id, Ending::NotConfirmed);
        }
    }

    /// Puts the orders of a confirmed quote into the book, the maker's first.
    pub(super) fn execute_quote(&mut self, id: QuoteId) {
        let confirmed = |quote: &&Quote| quote.status == QuoteStatus::Confirmed;
        let Some(quote) = self.quote(id).filter(confirmed).cloned() else { return };
        let (Some(side), Some(rfq)) = (quote.taken, self.rfq_of(&quote).cloned()) else { return };
        let Some(ticker) = self.market(rfq.market).map(|market| market.ticker.clone()) else {
            return;
        };
        let order = maker_order(&quote, ticker, side);
        let Ok(maker) = self.place_once(&order) else {
            self.refused(id, &rfq);
            return;
        };
        let waits = if rfq.rest_remainder {
            TimeInForce::GoodTillCanceled
        } else {
            TimeInForce::ImmediateOrCancel
        };
        let Ok(requester) = self.place_once(&requester_order(&quote, &rfq, &order, waits)) else {
            // The maker's order was for this trade only. What others have traded with it stands.
            self.withdraw_rest(maker, false);
            self.refused(id, &rfq);
            return;
        };
        self.withdraw_rest(maker, quote.rest_remainder);
        self.executed(id, maker, requester);
        self.close_rfq(rfq.id, Ending::Executed);
    }

    /// Ends a quote one of whose orders was refused. What the exchange does then is not documented;
    /// here nothing has been executed, so the request stays open, and its creator hidden.
    fn refused(&mut self, id: QuoteId, rfq: &Rfq) {
        self.cancel_quote(id, Ending::OrderRefused);
        let open = [MarketStatus::Active, MarketStatus::Inactive];
        if self.market(rfq.market).is_none_or(|market| !open.contains(&market.status)) {
            self.close_rfq(rfq.id, Ending::MarketClosed);
        }
    }

    /// Cancels what is left of a maker's order, unless it is to stay.
    fn withdraw_rest(&mut self, maker: OrderId, stays: bool) {
        let rests = |order: &Order| order.status == OrderStatus::Resting;
        if !stays && self.order(maker).is_some_and(rests) {
            self.cancel_and_tell(maker, Reason::ImmediateOrCancel);
        }
    }

    /// Marks a quote as executed by two orders.
    fn executed(&mut self, id: QuoteId, maker: OrderId, requester: OrderId) {
        let now = self.now;
        if let Some(quote) = self.rfq_book.quotes.get_mut(&id) {
            quote.status = QuoteStatus::Executed;
            quote.executed = Some(now);
            quote.updated = now;
            quote.order = Some(maker);
            quote.rfq_order = Some(requester);
        }
        self.emit(Event::Quote { quote: id, change: QuoteChange::Executed });
    }

    /// Closes requests on a market that takes no more orders. A confirmed quote stays until its
    /// orders are refused.
    pub(super) fn close_rfqs_of(&mut self, market: MarketId) {
        let open: Vec<RfqId> =
            self.rfq_book.open.values().filter_map(|rfqs| rfqs.get(&market)).copied().collect();
        for id in open {
            if self.withdrawable(id).is_ok() {
                self.close_rfq(id, Ending::MarketClosed);
            }
        }
        self.close_batches_of(market);
    }

    /// Forgets a closed request, unless a quote that is kept for good is on it.
    pub(super) fn forget_rfq(&mut self, id: RfqId) {
        let Some(rfq) = self.rfq_book.rfqs.get(&id) else { return };
        if rfq.quotes.iter().all(|quote| !self.rfq_book.quotes.contains_key(quote)) {
            self.rfq_book.rfqs.remove(&id);
        }
    }

    /// Forgets a quote that was never accepted.
    pub(super) fn forget_quote(&mut self, id: QuoteId) {
        let Some(quote) = self.rfq_book.quotes.remove(&id) else { return };
        if let Some(rfq) = self.rfq_book.rfqs.get_mut(&quote.rfq) {
            rfq.quotes.retain(|other| *other != id);
        }
        if let Some(whole) =
            quote.batch.and_then(|whole| self.rfq_book.batch_quotes.get_mut(&whole))
        {
            whole.quotes.retain(|other| *other != id);
            let (whole, batch, empty) = (whole.id, whole.batch, whole.quotes.is_empty());
            if empty {
                self.rfq_book.batch_quotes.remove(&whole);
                if let Some(batch) = self.rfq_book.batches.get_mut(&batch) {
                    batch.quotes.retain(|other| *other != whole);
                }
            }
        }
    }

    fn is_kept(&self, rfq: &Rfq) -> bool {
        rfq.closed.is_none_or(|(at, _)| later(at, KEPT_MILLIS) > self.now)
    }

    /// Checks the request by itself. Returns its market.
    fn requestable(&self, new: &NewRfq) -> Result<MarketId, Refusal> {
        let market = self
            .market_by_ticker(&new.ticker)
            .ok_or_else(|| Refusal::parameters("market_ticker names no market"))?;
        self.account(new.account)?;
        if !self.ledger.provisioned(new.account, new.subaccount, market.shard) {
            return Err(Refusal::parameters("there is no such subaccount on this shard"));
        }
        self.check_tradable(market.id)?;
        let sound = match new.size {
            Size::Contracts(count) => count.is_positive() && count <= MAX_COUNT,
            Size::Cost { target, .. } => target.is_positive() && target <= MAX_CASH,
        };
        if sound {
            Ok(market.id)
        } else {
            Err(Refusal::parameters("the size of the RFQ is out of range"))
        }
    }

    /// Returns the open request that a new one on the market would duplicate, if it may be
    /// replaced.
    fn in_the_way(
        &self,
        account: AccountId,
        market: MarketId,
        replace: bool,
    ) -> Result<Option<RfqId>, Refusal> {
        let Some(open) = self.rfq_book.open.get(&account).and_then(|open| open.get(&market)) else {
            return Ok(None);
        };
        if !replace {
            return Err(Refusal::conflict(
                "rfq_already_exists",
                "there is an open RFQ on this market; set replace_existing to replace it",
            ));
        }
        self.withdrawable(*open)?;
        Ok(Some(*open))
    }

    fn enter_rfq(&mut self, new: &NewRfq, market: MarketId, batch: Option<BatchId>) -> RfqId {
        self.rfq_book.last_rfq += 1;
        let id = RfqId(self.rfq_book.last_rfq);
        let rfq = Rfq {
            id,
            account: new.account,
            subaccount: new.subaccount,
            market,
            size: new.size,
            rest_remainder: new.rest_remainder,
            obscured: new.obscured,
            batch,
            quotes: Vec::new(),
            created: self.now,
            updated: self.now,
            closed: None,
        };
        self.rfq_book.rfqs.insert(id, rfq);
        if batch.is_none() {
            self.rfq_book.open.entry(new.account).or_default().insert(market, id);
        }
        self.emit(Event::Rfq { rfq: id, created: true });
        id
    }

    /// Checks that bids can be made on a request. Returns the contracts of both sides.
    fn quotable(&mut self, quoter: Quoter, bids: Bids) -> Result<(Count, Count), Refusal> {
        let rfq = self.rfq(bids.rfq).ok_or_else(no_rfq)?.clone();
        if !rfq.is_open() {
            return Err(rfq_closed());
        }
        if rfq.account == quoter.account {
            return Err(Refusal::parameters("a member cannot quote on an own RFQ"));
        }
        let Some(market) = self.market(rfq.market) else { return Err(rfq_closed()) };
        self.check_tradable(market.id)?;
        if !self.ledger.provisioned(quoter.account, quoter.subaccount, market.shard) {
            return Err(Refusal::parameters("there is no such subaccount on this shard"));
        }
        let on_grid = |side: Side, bid: Dollars| {
            bid.is_zero() || (bid.is_positive() && market.grid.is_valid(side.leg_price(bid)))
        };
        if !on_grid(Side::Bid, bids.yes) || !on_grid(Side::Ask, bids.no) {
            return Err(Refusal::parameters("a bid is not on the market's price grid"));
        }
        if bids.yes.is_zero() && bids.no.is_zero() {
            return Err(Refusal::parameters("not both bids may be zero"));
        }
        if bids.yes.saturating_add(bids.no) > Dollars::ONE {
            return Err(Refusal::parameters("both bids add up to more than a dollar"));
        }
        let key = PositionKey {
            account: quoter.account,
            subaccount: quoter.subaccount,
            market: market.id,
            shard: market.shard,
        };
        let mut counts = [Count::ZERO; 2];
        for (count, (side, bid)) in
            counts.iter_mut().zip([(Side::Bid, bids.yes), (Side::Ask, bids.no)])
        {
            if bid.is_zero() {
                continue;
            }
            *count = self.size(&rfq, side, bid);
            if !count.is_positive() {
                return Err(Refusal::parameters("the target cost buys nothing at this price"));
            }
            let price = side.leg_price(bid);
            let fee = self.fee_bound(key.market, price, *count, false);
            self.ledger.afford(key, side, price, *count, fee).map_err(too_low)?;
        }
        let [yes, no] = counts;
        Ok((yes, no))
    }

    /// Returns the contracts that trade if a bid of this side is taken.
    fn size(&self, rfq: &Rfq, side: Side, bid: Dollars) -> Count {
        let (target, excludes_fees) = match rfq.size {
            Size::Contracts(count) => return count,
            Size::Cost { target, excludes_fees } => (target, excludes_fees),
        };
        // The requester pays for the other leg.
        let (price, leg) = (side.leg_price(bid), other_leg(bid));
        let needs = |hundredths: i64| {
            let count = Count::from_hundredths(hundredths);
            let fee = if excludes_fees {
                Dollars::ZERO
            } else {
                self.fee_bound(rfq.market, price, count, false)
            };
            cost(leg, count).saturating_add(fee)
        };
        let (mut fits, mut too_much) = (0, MAX_COUNT.as_hundredths() + 1);
        while too_much - fits > 1 {
            let middle = fits + (too_much - fits) / 2;
            if needs(middle) <= target {
                fits = middle;
            } else {
                too_much = middle;
            }
        }
        Count::from_hundredths(fits)
    }

    fn enter_quote(
        &mut self,
        quoter: Quoter,
        bids: Bids,
        (yes_count, no_count): (Count, Count),
        batch: Option<BatchQuoteId>,
    ) -> QuoteId {
        self.rfq_book.last_quote += 1;
        let id = QuoteId(self.rfq_book.last_quote);
        let quote = Quote {
            id,
            rfq: bids.rfq,
            batch,
            account: quoter.account,
            subaccount: quoter.subaccount,
            yes: bids.yes,
            no: bids.no,
            yes_count,
            no_count,
            yes_priority: id.0,
            no_priority: id.0,
            rest_remainder: quoter.rest_remainder,
            post_only: quoter.post_only,
            status: QuoteStatus::Open,
            taken: None,
            client_order_id: None,
            created: self.now,
            updated: self.now,
            accepted: None,
            confirmed: None,
            executed: None,
            cancelled: None,
            order: None,
            rfq_order: None,
        };
        self.rfq_book.quotes.insert(id, quote);
        if let Some(rfq) = self.rfq_book.rfqs.get_mut(&bids.rfq) {
            rfq.quotes.push(id);
        }
        self.emit(Event::Quote { quote: id, change: QuoteChange::Created });
        id
    }

    /// Cancels the member's open quotes on a request, which a new one replaces.
    fn replace_quotes(&mut self, account: AccountId, rfq: RfqId) {
        let Some(rfq) = self.rfq(rfq) else { return };
        let older: Vec<QuoteId> = self
            .quotes_in(&rfq.quotes, QuoteStatus::Open)
            .into_iter()
            .filter(|id| self.quote(*id).is_some_and(|quote| quote.account == account))
            .collect();
        for id in older {
            self.cancel_quote(id, Ending::Replaced);
        }
    }

    /// Returns the accepted or confirmed quote on a request.
    fn pending(&self, rfq: RfqId) -> Option<&Quote> {
        let rfq = self.rfq_book.rfqs.get(&rfq)?;
        rfq.quotes.iter().filter_map(|id| self.quote(*id)).find(|quote| quote.status.is_pending())
    }

    fn quotes_in(&self, quotes: &[QuoteId], status: QuoteStatus) -> Vec<QuoteId> {
        let is_in = |id: &QuoteId| self.quote(*id).is_some_and(|quote| quote.status == status);
        quotes.iter().copied().filter(is_in).collect()
    }

    fn own_quote(
        &self,
        caller: Principal,
        rfq: Option<RfqId>,
        quote: QuoteId,
    ) -> Result<&Quote, Refusal> {
        let quote = self.party_quote(caller, rfq, quote)?;
        if caller.owns(quote.account, quote.subaccount) {
            Ok(quote)
        } else {
            Err(Refusal::parameters("only the maker of a quote can do this"))
        }
    }

    /// Checks that the requester has the money for all that is about to be accepted.
    fn requester_affords(&mut self, taken: &[(QuoteId, Side)]) -> Result<(), Refusal> {
        let mut orders = Vec::new();
        for (id, side) in taken {
            let Some(quote) = self.quote(*id) else { return Err(no_quote()) };
            let Some(rfq) = self.rfq_of(quote) else { return Err(no_quote()) };
            let price = quote.price(*side);
            let key = self.trading_key(rfq.account, rfq.subaccount, rfq.market);
            orders.push((key, side.opposite(), price, quote.count(*side)));
        }
        self.all_afforded(&orders)
    }

    /// Checks that the maker has the money for all that is about to be confirmed.
    fn maker_affords(&mut self, quotes: &[QuoteId]) -> Result<(), Refusal> {
        let mut orders = Vec::new();
        for id in quotes {
            let Some(quote) = self.quote(*id) else { return Err(no_quote()) };
            let (Some(side), Some(rfq)) = (quote.taken, self.rfq_of(quote)) else {
                return Err(no_quote());
            };
            let key = self.trading_key(quote.account, quote.subaccount, rfq.market);
            orders.push((key, side, quote.price(side), quote.count(side)));
        }
        self.all_afforded(&orders)
    }

    /// Checks that the money for several orders is there at once, and that their markets take them.
    fn all_afforded(&mut self, orders: &[Wanted]) -> Result<(), Refusal> {
        let mut held = Vec::new();
        let mut outcome = Ok(());
        for (key, side, price, count) in orders.iter().copied() {
            let fee = self.fee_bound(key.market, price, count, false);
            outcome = self
                .check_tradable(key.market)
                .and_then(|()| self.ledger.afford(key, side, price, count, fee).map_err(too_low));
            if outcome.is_err() {
                break;
            }
            self.ledger.hold(key, side, price, count, fee);
            held.push((key, side, price, count, fee));
        }
        for (key, side, price, count, fee) in held {
            self.ledger.release(key, side, price, count, fee);
        }
        outcome
    }

    fn trading_key(
        &self,
        account: AccountId,
        subaccount: Subaccount,
        market: MarketId,
    ) -> PositionKey {
        let shard = self.market(market).map_or(0, |market| market.shard);
        PositionKey { account, subaccount, market, shard }
    }

    /// Marks a quote as accepted.
    fn take(&mut self, id: QuoteId, side: Side, client_order_id: Option<String>) {
        let now = self.now;
        let Some(quote) = self.rfq_book.quotes.get_mut(&id) else { return };
        quote.status = QuoteStatus::Accepted;
        quote.taken = Some(side);
        quote.client_order_id = client_order_id;
        quote.accepted = Some(now);
        quote.updated = now;
        self.emit(Event::Quote { quote: id, change: QuoteChange::Accepted });
    }

    /// Marks a quote as confirmed.
    fn commit(&mut self, id: QuoteId) {
        let now = self.now;
        let Some(quote) = self.rfq_book.quotes.get_mut(&id) else { return };
        quote.status = QuoteStatus::Confirmed;
        quote.confirmed = Some(now);
        quote.updated = now;
    }

    /// Returns the milliseconds that a maker has to confirm, and those from the confirmation to the
    /// execution. Combos have the short times, and a batch with a combo in it.
    fn waits(&self, rfqs: &[RfqId]) -> (i64, i64) {
        let is_combo = |id: &RfqId| {
            let market = self.rfq_book.rfqs.get(id).and_then(|rfq| self.market(rfq.market));
            market.is_some_and(|market| market.ticker.starts_with("KXMVE"))
        };
        if rfqs.iter().any(is_combo) { (3_000, 1_000) } else { (30_000, 15_000) }
    }

    fn cancel_quote(&mut self, id: QuoteId, ending: Ending) {
        let now = self.now;
        let Some(quote) = self.rfq_book.quotes.get_mut(&id) else { return };
        if matches!(quote.status, QuoteStatus::Executed | QuoteStatus::Cancelled) {
            return;
        }
        quote.status = QuoteStatus::Cancelled;
        quote.cancelled = Some((now, ending));
        quote.updated = now;
        if quote.accepted.is_none() {
            self.schedule(later(now, KEPT_MILLIS), Timer::ForgetQuote(id));
        }
    }

    /// Refuses to close a request with a quote that its maker has confirmed.
    fn withdrawable(&self, rfq: RfqId) -> Result<(), Refusal> {
        if self.pending(rfq).is_some_and(|quote| quote.status == QuoteStatus::Confirmed) {
            Err(Refusal::parameters("a quote on this RFQ is confirmed; it can only be executed"))
        } else {
            Ok(())
        }
    }

    /// Closes a request, and cancels what is open on it.
    fn close_rfq(&mut self, id: RfqId, ending: Ending) {
        let now = self.now;
        let Some(rfq) = self.rfq_book.rfqs.get_mut(&id).filter(|rfq| rfq.is_open()) else { return };
        rfq.closed = Some((now, ending));
        rfq.updated = now;
        let (account, market, quotes) = (rfq.account, rfq.market, rfq.quotes.clone());
        let is_single = rfq.batch.is_none();
        if let Some(open) = self.rfq_book.open.get_mut(&account).filter(|_| is_single) {
            open.remove(&market);
        }
        for quote in quotes {
            self.cancel_quote(quote, Ending::RfqClosed);
        }
        self.schedule(later(now, KEPT_MILLIS), Timer::ForgetRfq(id));
        self.emit(Event::Rfq { rfq: id, created: false });
    }

    /// Places an order whose client order id may have been used meanwhile: it goes without then.
    fn place_once(&mut self, order: &NewOrder) -> Result<OrderId, Refusal> {
        let mut order = order.clone();
        let used = |id: &str| self.unused(order.account, id).is_err();
        if order.client_order_id.as_deref().is_some_and(used) {
            order.client_order_id = None;
        }
        self.place_now(&order).map(|done| done.order)
    }
}

/// Returns the order that a quote puts into the book for its maker.
fn maker_order(quote: &Quote, ticker: String, side: Side) -> NewOrder {
    let (price, count) = (quote.price(side), quote.count(side));
    NewOrder {
        subaccount: quote.subaccount,
        // Whose own order is in the way is not documented; the agreed trade goes first here.
        self_trade: SelfTrade::Maker,
        client_order_id: Some(maker_order_id(quote)),
        post_only: quote.post_only,
        ..NewOrder::resting(quote.account, ticker, side, price, count)
    }
}

/// Returns the order of the requester that meets a maker's order.
fn requester_order(quote: &Quote, rfq: &Rfq, maker: &NewOrder, waits: TimeInForce) -> NewOrder {
    NewOrder {
        account: rfq.account,
        subaccount: rfq.subaccount,
        side: maker.side.opposite(),
        time_in_force: waits,
        client_order_id: quote.client_order_id.clone(),
        post_only: false,
        ..maker.clone()
    }
}

fn later(time: Time, millis: i64) -> Time {
    Time::from_millis(time.as_millis().saturating_add(millis))
}

/// Returns an id in the form that third parties have seen; the meaning of its eight digits is
/// unknown.
fn maker_order_id(quote: &Quote) -> String {
    let account = quote.account.to_string();
    format!("quote:{}:{}", account.get(..8).unwrap_or_default(), quote.id)
}

fn too_low(refusal: Refusal) -> Refusal {
    match refusal.code {
        "insufficient_balance" => Refusal { code: "INSUFFICIENT_BALANCE", ..refusal },
        _ => refusal,
    }
}

fn rfq_closed() -> Refusal {
    Refusal::invalid("RFQ_CLOSED", "the RFQ is closed")
}

/// Returns the refusal of a quote that was accepted and not confirmed in time, as it has been seen.
fn expired() -> Refusal {
    Refusal::invalid("expired", "the quote was not confirmed in time")
}

fn too_many() -> Refusal {
    Refusal::parameters("100 RFQs are open at most")
}

fn no_rfq() -> Refusal {
    Refusal::not_found("RFQ not found")
}

fn no_quote() -> Refusal {
    Refusal::not_found("quote not found")
}

#[cfg(test)]
mod tests;
