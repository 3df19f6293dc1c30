//! Block trades: agreed outside, proposed here, executed off the book once both parties accept.

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::engine::{
    Engine, Timer,
    amount::{MAX_COUNT, SaturatingArithmetic, payout},
    ids::{AccountId, BlockId, MarketId, OrderId},
    matching::Matching,
    types::{
        Event, NewOrder, PositionKey, Reason, Refusal, SelfTrade, Side, Subaccount, Time,
        TimeInForce,
    },
};

/// Proposals of one member that wait.
const MAX_OPEN_BLOCKS: usize = 1_000;
/// The time for which a proposal that was not executed can still be read.
const KEPT_MILLIS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// The status of a proposal. The exchange's words for it are not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlockStatus {
    Pending,
    Executed,
    Expired,
}

impl BlockStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Executed => "executed",
            Self::Expired => "expired",
        }
    }
}

/// One side of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Party {
    pub(crate) account: AccountId,
    /// `None` until the party accepts, if the proposal names none.
    pub(crate) subaccount: Option<Subaccount>,
    pub(crate) accepted: Option<Time>,
    pub(crate) order: Option<OrderId>,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) id: BlockId,
    pub(crate) proposer: AccountId,
    pub(crate) buyer: Party,
    pub(crate) seller: Party,
    pub(crate) market: MarketId,
    /// Of the YES leg; need not be on the grid.
    pub(crate) price: Dollars,
    pub(crate) count: Count,
    /// The side that pays the maker's fee.
    pub(crate) maker: Side,
    pub(crate) expires: Time,
    pub(crate) status: BlockStatus,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) executed: Option<Time>,
}

impl Block {
    pub(crate) fn party(&self, side: Side) -> &Party {
        match side {
            Side::Bid => &self.buyer,
            Side::Ask => &self.seller,
        }
    }

    fn party_mut(&mut self, side: Side) -> &mut Party {
        match side {
            Side::Bid => &mut self.buyer,
            Side::Ask => &mut self.seller,
        }
    }

    /// Reports whether a member may see it.
    pub(crate) fn concerns(&self, account: AccountId) -> bool {
        [self.proposer, self.buyer.account, self.seller.account].contains(&account)
    }
}

/// A proposal to make.
#[derive(Clone, Debug)]
pub(crate) struct NewBlock {
    pub(crate) proposer: AccountId,
    pub(crate) buyer: (AccountId, Option<Subaccount>),
    pub(crate) seller: (AccountId, Option<Subaccount>),
    pub(crate) ticker: String,
    pub(crate) price: Dollars,
    pub(crate) count: Count,
    pub(crate) maker: Side,
    pub(crate) expires: Time,
}

impl Engine {
    /// Proposes a trade between two members. Nobody has accepted then, not even a proposer who is
    /// one of them.
    pub(crate) fn propose_block(&mut self, new: &NewBlock, now: Time) -> Result<BlockId, Refusal> {
        self.advance(now);
        let market = self
            .market_by_ticker(&new.ticker)
            .ok_or_else(|| Refusal::parameters("market_ticker names no market"))?
            .id;
        self.check_tradable(market)?;
        if !new.price.is_positive() || new.price >= Dollars::ONE {
            return Err(Refusal::parameters("price_centi_cents must be 1 to 9999"));
        }
        if !new.count.is_positive() || new.count > MAX_COUNT {
            return Err(Refusal::parameters("centicount is out of range"));
        }
        if new.expires <= self.now {
            return Err(Refusal::parameters("expiration_ts is in the past"));
        }
        if new.buyer.0 == new.seller.0 {
            return Err(Refusal::parameters("buyer and seller are the same member"));
        }
        for (account, _) in [new.buyer, new.seller] {
            if self.ledger.account(account).is_none() {
                return Err(Refusal::parameters("there is no such member"));
            }
        }
        let waits =
            |block: &&Block| block.proposer == new.proposer && block.status == BlockStatus::Pending;
        if self.blocks.values().filter(waits).count() >= MAX_OPEN_BLOCKS {
            return Err(Refusal::parameters("1,000 proposals wait already"));
        }
        self.last_block += 1;
        let id = BlockId(self.last_block);
        let party =
            |(account, subaccount)| Party { account, subaccount, accepted: None, order: None };
        let block = Block {
            id,
            proposer: new.proposer,
            buyer: party(new.buyer),
            seller: party(new.seller),
            market,
            price: new.price,
            count: new.count,
            maker: new.maker,
            expires: new.expires,
            status: BlockStatus::Pending,
            created: self.now,
            updated: self.now,
            executed: None,
        };
        self.blocks.insert(id, block);
        self.schedule(new.expires, Timer::ExpireBlock(id));
        Ok(id)
    }

    /// Accepts a proposal for the member's side, which changes nothing the second time. The trade
    /// is executed when the other side has accepted, too.
    pub(crate) fn accept_block(
        &mut self,
        account: AccountId,
        id: BlockId,
        subaccount: Option<Subaccount>,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let missing = || Refusal::not_found("block trade proposal not found");
        let block = self.blocks.get(&id).ok_or_else(missing)?.clone();
        let side = [Side::Bid, Side::Ask]
            .into_iter()
            .find(|side| block.party(*side).account == account)
            .ok_or_else(missing)?;
        match block.status {
            BlockStatus::Expired => return Err(Refusal::parameters("the proposal has expired")),
            BlockStatus::Executed => return Ok(()),
            BlockStatus::Pending => {}
        }
        let own = block.party(side);
        if own.accepted.is_some() {
            return Ok(());
        }
        let number = match (own.subaccount, subaccount) {
            (Some(proposed), Some(named)) if proposed != named => {
                return Err(Refusal::parameters("the proposal names another subaccount"));
            }
            (proposed, named) => proposed.or(named).unwrap_or(0),
        };
        self.check_tradable(block.market)?;
        let key = self.party_key(&block, account, number);
        if !self.ledger.provisioned(account, number, key.shard) {
            return Err(Refusal::parameters("there is no such subaccount on this shard"));
        }
        self.pays(&block, side, key)?;
        let other = block.party(side.opposite());
        let executes = other.accepted.is_some();
        if executes {
            let key = self.party_key(&block, other.account, other.subaccount.unwrap_or(0));
            self.pays(&block, side.opposite(), key)?;
        }
        let now = self.now;
        if let Some(block) = self.blocks.get_mut(&id) {
            let party = block.party_mut(side);
            party.subaccount = Some(number);
            party.accepted = Some(now);
            block.updated = now;
        }
        if executes {
            self.execute_block(id);
        }
        Ok(())
    }

    /// Returns the proposals that concern a member, the newest first.
    pub(crate) fn blocks(&self, account: AccountId) -> impl Iterator<Item = &Block> {
        self.blocks.values().rev().filter(move |block| block.concerns(account))
    }

    /// Ends a proposal that was not accepted in time, and after a while removes its record.
    pub(super) fn expire_block(&mut self, id: BlockId) {
        let now = self.now;
        let Some(block) = self.blocks.get_mut(&id) else { return };
        match block.status {
            BlockStatus::Executed => {}
            BlockStatus::Expired => {
                self.blocks.remove(&id);
            }
            BlockStatus::Pending => {
                block.status = BlockStatus::Expired;
                block.updated = now;
                let gone = Time::from_millis(now.as_millis().saturating_add(KEPT_MILLIS));
                self.schedule(gone, Timer::ExpireBlock(id));
            }
        }
    }

    fn party_key(&self, block: &Block, account: AccountId, subaccount: Subaccount) -> PositionKey {
        let shard = self.market(block.market).map_or(0, |market| market.shard);
        PositionKey { account, subaccount, market: block.market, shard }
    }

    fn pays(&mut self, block: &Block, side: Side, key: PositionKey) -> Result<(), Refusal> {
        let fee = self.fee_bound(block.market, block.price, block.count, side == block.maker);
        self.ledger
            .afford(key, side, block.price, block.count, fee)
            .map_err(|refusal| Refusal { code: "INSUFFICIENT_BALANCE", ..refusal })
    }

    /// Trades two orders that were never in the book.
    fn execute_block(&mut self, id: BlockId) {
        let Some(block) = self.blocks.get(&id).cloned() else { return };
        let Some(ticker) = self.market(block.market).map(|market| market.ticker.clone()) else {
            return;
        };
        let taker = block.maker.opposite();
        let mut orders = Vec::new();
        for side in [block.maker, taker] {
            let party = block.party(side);
            let (account, ticker) = (party.account, ticker.clone());
            let new = NewOrder {
                subaccount: party.subaccount.unwrap_or(0),
                time_in_force: TimeInForce::FillOrKill,
                self_trade: SelfTrade::TakerAtCross,
                ..NewOrder::resting(account, ticker, side, block.price, block.count)
            };
            let order = self.enter(&new, block.market, block.count);
            self.set_open(order, block.count);
            orders.push((side, order));
        }
        let trade = self.print(block.market, block.price, block.count, taker, true);
        let mut opened = block.count;
        for (side, order) in &orders {
            let is_taker = *side == taker;
            opened = opened
                .saturating_sub(self.fill(*order, trade, block.price, block.count, is_taker).1);
        }
        self.ledger.escrow = self.ledger.escrow.saturating_add(payout(opened));
        if let Some(market) = self.market_mut(block.market) {
            market.open_interest = market.open_interest.saturating_add(opened);
        }
        let now = self.now;
        for (side, order) in orders {
            let account = block.party(side).account;
            self.emit(Event::Order { account, order, reason: Reason::Trade });
            if let Some(block) = self.blocks.get_mut(&id) {
                block.party_mut(side).order = Some(order);
                block.status = BlockStatus::Executed;
                block.executed = Some(now);
                block.updated = now;
            }
        }
        self.mark(block.market);
    }
}
