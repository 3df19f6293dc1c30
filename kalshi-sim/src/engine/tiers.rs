//! The two tiers of reads. What is older than its cutoff has left the live tier for the archive; to
//! the engine it stays what it was.

use serde::{Deserialize, Serialize};

use crate::engine::{
    Engine, Market,
    ids::MarketId,
    types::{MarketStatus, Order, OrderStatus, Time, Trade},
};

/// The times before which rows have left the live tier. They are independent of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cutoffs {
    /// Of markets by their settlement, and with them of their positions.
    pub(crate) markets: Time,
    /// Of trades, and of fills, by the time at which they were made.
    pub(crate) trades: Time,
    /// Of orders that do not rest, by their last change.
    pub(crate) orders: Time,
}

impl Engine {
    /// Moves what is older than these times out of the live tier. Markets leave it in the order in
    /// which they were listed: one that stays keeps all later ones.
    pub(crate) fn set_cutoffs(&mut self, cutoffs: Cutoffs) {
        let old = |market: &Market| {
            market.status == MarketStatus::Finalized
                && market.settled.is_some_and(|settled| settled < cutoffs.markets)
        };
        self.archived = self.markets.iter().take_while(|market| old(market)).count();
        self.cutoffs = cutoffs;
    }

    pub(crate) fn cutoffs(&self) -> Cutoffs {
        self.cutoffs
    }

    /// Returns the markets of the live tier in the order in which they were listed.
    pub(crate) fn markets(&self) -> &[Market] {
        self.markets.get(self.archived..).unwrap_or_default()
    }

    /// Returns the markets that have left the live tier.
    pub(crate) fn archived_markets(&self) -> &[Market] {
        self.markets.get(..self.archived).unwrap_or_default()
    }

    /// Returns the market of the live tier with this ticker.
    pub(crate) fn market_by_ticker(&self, ticker: &str) -> Option<&Market> {
        self.live_market(*self.tickers.get(ticker)?)
    }

    /// Returns a market of the live tier.
    pub(crate) fn live_market(&self, id: MarketId) -> Option<&Market> {
        self.market(id).filter(|_| !self.is_archived(id))
    }

    /// Returns the market with this ticker that has left the live tier.
    pub(crate) fn archived_market(&self, ticker: &str) -> Option<&Market> {
        let id = *self.tickers.get(ticker)?;
        self.market(id).filter(|_| self.is_archived(id))
    }

    /// Reports whether a market, with its positions, has left the live tier.
    pub(crate) fn is_archived(&self, market: MarketId) -> bool {
        market.index() < self.archived
    }

    /// Reports whether an order is still in the live tier. One that rests always is.
    pub(crate) fn is_live(&self, order: &Order) -> bool {
        order.status == OrderStatus::Resting || order.updated >= self.cutoffs.orders
    }

    /// Returns the trades of the live tier, oldest first.
    pub(crate) fn trades(&self) -> &[Trade] {
        self.trades.get(self.first_live_trade()..).unwrap_or_default()
    }

    /// Returns the trades that have left the live tier, oldest first.
    pub(crate) fn archived_trades(&self) -> &[Trade] {
        self.trades.get(..self.first_live_trade()).unwrap_or_default()
    }

    fn first_live_trade(&self) -> usize {
        self.trades.partition_point(|trade| trade.at < self.cutoffs.trades)
    }
}
