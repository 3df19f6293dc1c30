//! Transfers of positions between accounts: no order, no trade on the tape, no fill, no fee.

use kalshi_types::{Count, Dollars};

use crate::engine::{
    Engine,
    amount::{MAX_COUNT, SaturatingArithmetic, payout},
    ids::{AccountId, MarketId},
    types::{Event, MarketStatus, PositionKey, Refusal, Side, Time},
};

/// Contracts that change their account at an agreed price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PositionTransfer {
    pub(crate) source: AccountId,
    pub(crate) target: AccountId,
    pub(crate) market: MarketId,
    /// Positive for YES contracts, negative for NO contracts.
    pub(crate) count: Count,
    /// Of the YES leg, 0 to 1 dollar.
    pub(crate) price: Dollars,
}

impl Engine {
    /// Books a transfer between the primary subaccounts, as if the source had sold the contracts to
    /// the target. The source need not hold them: what it lacks, it is short of then, and both must
    /// have the money for their side.
    pub(crate) fn transfer_position(
        &mut self,
        transfer: &PositionTransfer,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let PositionTransfer { source, target, market, count, price } = *transfer;
        let shard = self
            .market(market)
            .filter(|market| market.status == MarketStatus::Active)
            .ok_or_else(|| Refusal::conflict("MARKET_INACTIVE", "the market is not open"))?
            .shard;
        if price.is_negative() || price > Dollars::ONE {
            return Err(Refusal::parameters("the price must be 0 to 1 dollar"));
        }
        let size = count.max(Count::ZERO.saturating_sub(count));
        if size.is_zero() || size > MAX_COUNT {
            return Err(Refusal::parameters("the count is out of range"));
        }
        if source == target {
            return Err(Refusal::parameters("source and target must differ"));
        }
        let gives = if count.is_positive() { Side::Ask } else { Side::Bid };
        let sides = [(source, gives), (target, gives.opposite())]
            .map(|(account, side)| (PositionKey { account, subaccount: 0, market, shard }, side));
        for (key, side) in sides {
            self.ledger.afford(key, side, price, size, Dollars::ZERO).map_err(|_| {
                Refusal::conflict("insufficient_balance", "the available balance is too low")
            })?;
        }
        let now = self.now;
        let mut opened = size;
        for (key, side) in sides {
            let booked = self.ledger.book(key, side, price, size, |_| Dollars::ZERO, now);
            opened = opened.saturating_sub(booked.netted);
        }
        self.ledger.escrow = self.ledger.escrow.saturating_add(payout(opened));
        if let Some(market) = self.market_mut(market) {
            market.open_interest = market.open_interest.saturating_add(opened);
        }
        for (key, _) in sides {
            let PositionKey { account, subaccount, .. } = key;
            self.emit(Event::Position { account, subaccount, market });
        }
        self.mark(market);
        Ok(())
    }
}
