//! The products that have streams, and what differs between them: markets, channels and messages.
//! Commands, numbers and filters are the same.

#[cfg(feature = "perps")]
use crate::perps::{
    engine::{PerpsEvent, markets::Status},
    messages,
};
use crate::{
    engine::{
        ids::MarketId,
        types::{Event, MarketStatus},
    },
    state::State,
    stream::{session::Channel, wire},
};

/// The product of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Events,
    #[cfg(feature = "perps")]
    Perps,
}

/// An event of any product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnyEvent {
    Events(Event),
    #[cfg(feature = "perps")]
    Perps(PerpsEvent),
}

#[cfg(feature = "ui")]
impl AnyEvent {
    /// Returns the event if it is one of event contracts.
    #[cfg_attr(
        not(feature = "perps"),
        expect(clippy::unnecessary_wraps, reason = "with one product it always is")
    )]
    pub(super) fn of_events(&self) -> Option<&Event> {
        match self {
            Self::Events(event) => Some(event),
            #[cfg(feature = "perps")]
            Self::Perps(_) => None,
        }
    }
}

/// Takes the events of all products since the last call; those of one are in their order.
pub(super) fn take_events(state: &mut State) -> Vec<AnyEvent> {
    let events = state.engine.take_events().into_iter().map(AnyEvent::Events);
    #[cfg(feature = "perps")]
    let events = events.chain(state.perps.engine.take_events().into_iter().map(AnyEvent::Perps));
    events.collect()
}

impl Product {
    /// Reports whether it has a channel.
    pub(super) fn has(self, channel: Channel) -> bool {
        match self {
            #[cfg(not(feature = "perps"))]
            Self::Events => {
                let _ = channel;
                true
            }
            #[cfg(feature = "perps")]
            Self::Events => channel != Channel::CorporateActions,
            #[cfg(feature = "perps")]
            Self::Perps => matches!(
                channel,
                Channel::OrderbookDelta
                    | Channel::Ticker
                    | Channel::Trade
                    | Channel::Fill
                    | Channel::UserOrders
                    | Channel::OrderGroupUpdates
                    | Channel::CorporateActions
            ),
        }
    }

    /// Returns the market with a ticker.
    pub(super) fn market(self, state: &State, ticker: &str) -> Option<MarketId> {
        match self {
            Self::Events => state.engine.market_by_ticker(ticker).map(|market| market.id),
            #[cfg(feature = "perps")]
            Self::Perps => state.perps.engine.market_by_ticker(ticker).ok().map(|one| one.id),
        }
    }

    /// Reports whether it has a market with an id.
    pub(super) fn has_market(self, state: &State, market: MarketId) -> bool {
        match self {
            Self::Events => state.engine.live_market(market).is_some(),
            #[cfg(feature = "perps")]
            Self::Perps => state.perps.engine.market(market).is_some(),
        }
    }

    /// Returns the ticker of a market.
    pub(super) fn name(self, state: &State, market: MarketId) -> Option<&str> {
        match self {
            Self::Events => state.engine.market(market).map(|market| market.ticker.as_str()),
            #[cfg(feature = "perps")]
            Self::Perps => state.perps.engine.market(market).map(|market| market.ticker.as_str()),
        }
    }

    /// Returns the markets that trade.
    pub(super) fn trading(self, state: &State) -> Vec<MarketId> {
        match self {
            Self::Events => {
                let markets = state.engine.markets().iter();
                let active = markets.filter(|market| market.status == MarketStatus::Active);
                active.map(|market| market.id).collect()
            }
            #[cfg(feature = "perps")]
            Self::Perps => {
                let markets = state.perps.engine.markets().iter();
                let active = markets.filter(|market| market.status() == Status::Active);
                active.map(|market| market.id).collect()
            }
        }
    }

    /// Returns the text of a whole book.
    pub(super) fn snapshot(
        self,
        state: &State,
        market: MarketId,
        yes_prices: bool,
    ) -> Option<String> {
        match self {
            Self::Events => Some(wire::snapshot(state.engine.market(market)?, yes_prices)),
            #[cfg(feature = "perps")]
            Self::Perps => messages::snapshot(state, market).map(|msg| msg.to_string()),
        }
    }

    /// Returns the text of a ticker.
    pub(super) fn ticker(self, state: &State, market: MarketId) -> Option<String> {
        match self {
            Self::Events => Some(wire::ticker(state, state.engine.market(market)?).to_string()),
            #[cfg(feature = "perps")]
            Self::Perps => messages::ticker(state, market).map(|msg| msg.to_string()),
        }
    }
}
