//! Fees that change while markets trade: an override for the markets of one event.

use crate::engine::{
    Engine, Market,
    fees::Fees,
    ids::{MarketId, OrderId},
    types::{Event, Refusal, Side, Time},
};

impl Engine {
    /// Sets the fees of all markets of an event. `override_of_event` is what the event says from
    /// then on; `None` takes an override back.
    ///
    /// Resting orders hold money for the new fees from here on. If those are higher, the available
    /// cash of an account may fall below zero: whether the exchange cancels orders then is not
    /// documented.
    pub(crate) fn set_event_fees(
        &mut self,
        event_ticker: &str,
        override_of_event: Option<Fees>,
        fees_of: impl Fn(&Market) -> Fees,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let of_event = |market: &&Market| market.event_ticker == event_ticker;
        let markets: Vec<(MarketId, Fees)> = self
            .markets
            .iter()
            .filter(of_event)
            .map(|market| (market.id, fees_of(market)))
            .collect();
        if markets.is_empty() {
            return Err(Refusal::not_found("event not found"));
        }
        for (id, fees) in markets {
            let resting = self.resting_in(id);
            for order in &resting {
                self.hold_fees(*order, false);
            }
            let now = self.now;
            if let Some(market) = self.market_mut(id) {
                market.fees = fees;
                market.updated = now;
            }
            for order in &resting {
                self.hold_fees(*order, true);
            }
        }
        let event_ticker = Box::from(event_ticker);
        self.emit(Event::FeeOverride { event_ticker, fees: override_of_event });
        Ok(())
    }

    fn resting_in(&self, market: MarketId) -> Vec<OrderId> {
        let Some(market) = self.market(market) else { return Vec::new() };
        let orders = [Side::Bid, Side::Ask].into_iter().flat_map(|side| market.queue(side));
        orders.map(|(_, order, _)| order).collect()
    }

    /// Holds the money for a resting order back, or frees it.
    fn hold_fees(&mut self, order: OrderId, holds: bool) {
        let Some(order) = self.order(order) else { return };
        let (side, price, count) = (order.side, order.price, order.remaining);
        let (key, market) = (self.position_key(order), order.market);
        let fee = self.fee_bound(market, price, count, true);
        if holds {
            self.ledger.hold(key, side, price, count, fee);
        } else {
            self.ledger.release(key, side, price, count, fee);
        }
    }
}
