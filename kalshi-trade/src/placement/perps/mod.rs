//! Orders of perpetual futures, by the same machine and under the same journal. Feature `perps`.
//!
//! What differs from event contracts:
//!
//! - The exchange requires a client order id. It is unique in the journal over both products.
//! - An order is checked against its [market](MarketError) before it is written: whole contracts, the
//!   tick size, the version.
//! - An order that the exchange refuses because the [version](is_market_version_refusal) of the market
//!   is another one is refused, and never sent with the new one: its price and count were meant for
//!   the old contract.
//! - Absence is proven by a list of all orders of the account: a corporate action may have given the
//!   market another ticker. Its reads are taken to trail no further than the exchange says of those of
//!   event contracts; the document has no time of their own.
//! - Answers to changes have no time. A change whose answer is lost takes a minute to settle.
//! - There are no batches.
//! - An exit trigger is set once by its `client_trigger_id`, and a success is looked at: see
//!   [`set_exit_trigger`]. Under the journal, what a crash leaves open is known afterwards: see
//!   [`PerpsPlacements::set_exit_trigger`].
//!
//! # Examples
//!
//! ```no_run
//! # async fn example(
//! #     client: kalshi_sdk::Client,
//! #     journal: kalshi_trade::journal::FileJournal,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use kalshi_sdk::perps::types::{
//!     BookSide, CreateMarginOrderRequest, SelfTradePreventionType, TimeInForce,
//! };
//! use kalshi_trade::placement::{PlacementState, Placements, perps::is_market_version_refusal};
//!
//! let market = client.perps().get_margin_market().ticker("KXBTCPERP").send().await?;
//! let market = market.into_inner().market;
//! let placements = Placements::builder(client, journal).start()?;
//! placements.ready().await;
//! let perps = placements.perps();
//! let price = market.bid.and_then(|bid| market.floor_price(bid)).ok_or("no bid or no tick size")?;
//! let order = CreateMarginOrderRequest::builder()
//!     .ticker(&*market.ticker)
//!     .client_order_id(perps.next_id())
//!     .side(BookSide::Bid)
//!     .count("1.00")
//!     .price(price)
//!     .time_in_force(TimeInForce::GoodTillCanceled)
//!     .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
//!     .try_into()?;
//! match perps.place(order, &market)?.outcome().await {
//!     PlacementState::Accepted { order_id } => println!("accepted: {order_id}"),
//!     PlacementState::Refused(refusal) if is_market_version_refusal(&refusal) => {
//!         println!("another contract now: read the market, and decide anew");
//!     }
//!     other => println!("see the guide: {other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod market;
pub(super) mod read;
mod trigger;

use std::time::Duration;

use kalshi_sdk::perps::types::{CreateMarginOrderRequest, MarginMarket};
use kalshi_ws::perps::Event;

pub use self::{
    market::{MarketError, check_change, check_order},
    trigger::{TriggerError, TriggerOutcome, set_exit_trigger},
};
use super::{
    Change, ChangeError, ChangeTarget, PlaceError, Placement, Placements, Refusal,
    batch::Seat,
    shell::{SEND_WITHIN, intent_from},
    task::Request,
};
use crate::journal::{OrderChange, Product};

/// Places orders of perpetual futures: [`Placements::perps`].
#[derive(Clone, Copy, Debug)]
pub struct PerpsPlacements<'a>(&'a Placements);

/// The reason for which a change of an order of perpetual futures was not taken. Nothing was written
/// or sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerpsChangeError {
    /// Another change of the order is not settled. Wait for its outcome.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The change does not fit the market.
    #[error(transparent)]
    Market(#[from] MarketError),
}

impl Placements {
    /// Returns what places orders of perpetual futures under the same journal.
    pub fn perps(&self) -> PerpsPlacements<'_> {
        PerpsPlacements(self)
    }
}

impl PerpsPlacements<'_> {
    /// Returns a client order id that no other order has, for the `client_order_id` of an order.
    pub fn next_id(self) -> String {
        self.0.next_id().into()
    }

    /// Places an order within a second, or not at all. See [`place_within`](Self::place_within).
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent.
    ///
    /// # Cancellation
    ///
    /// As with [`Placements::place`].
    pub fn place(
        self,
        order: CreateMarginOrderRequest,
        market: &MarginMarket,
    ) -> Result<Placement, PlaceError> {
        self.place_within(order, market, SEND_WITHIN)
    }

    /// Places an order under the `client_order_id` that it has, for a market as it was read: it is sent
    /// within that time, or not at all.
    ///
    /// The `market_version` of the market is sent with it, so that the exchange refuses it (409, a
    /// [refusal](is_market_version_refusal)) if a corporate action has changed the contract since.
    ///
    /// Take the id from [`next_id`](Self::next_id), or use one that no other order of the account has,
    /// of either product. If an order of the same market and side has it already, nothing is placed,
    /// and that order counts as this one: compare what it says with what was asked for.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent. [`PlaceError::Market`] if the order does not fit
    /// the market, [`PlaceError::Invalid`] with an invalid `client_order_id`, and with one that is
    /// open here. One that the journal knows to be used ends the order as
    /// [withdrawn](super::WithdrawnCause::Journal).
    ///
    /// # Cancellation
    ///
    /// As with [`Placements::place`].
    pub fn place_within(
        self,
        mut order: CreateMarginOrderRequest,
        market: &MarginMarket,
        within: Duration,
    ) -> Result<Placement, PlaceError> {
        check_order(&order, market)?;
        // The journal and the lists know a market by its ticker.
        order.ticker = Some(market.ticker.clone());
        order.market_id = None;
        order.market_version = Some(market.market_version);
        let (id, side) = (order.client_order_id.clone(), order.side.clone());
        self.0.place_under(&id, |id| {
            let ticker = market.ticker.clone();
            let intent = intent_from(Product::Perps, id, ticker, side.as_str(), &order);
            let intent = intent.map_err(PlaceError::Invalid)?;
            Ok(self.0.task(intent, Request::Perps(order), within, Seat::none()))
        })
    }

    /// Takes in an event of a connection to the streams of perpetual futures: a message about an order
    /// or a fill may be the evidence that an order or a change is waiting for. Give it every event of
    /// the channels `user_orders` and `fill`.
    pub fn observe(self, event: &Event) {
        if let Some(order) = read::view(event) {
            self.0.observe_change(Product::Perps, &order);
        }
        if let Some(sighting) = read::sighting(event) {
            self.0.observe_order(Product::Perps, sighting);
        }
    }

    /// Cancels an order, as [`Placements::change`] does: again until it is over.
    ///
    /// # Cancellation
    ///
    /// As with [`Placements::change`].
    pub fn cancel(self, target: ChangeTarget) -> Change {
        self.0.cancel_of(Product::Perps, target)
    }

    /// Amends or decreases an order for a market as it was read: it is sent within that time, or not at
    /// all. A price of [`OrderChange::Amend`] is that of the contract.
    ///
    /// The exchange takes no version of the market with it: after a corporate action, cancel and decide
    /// anew. Without a known state of the order, a lost answer takes a minute to settle.
    ///
    /// # Errors
    ///
    /// A [`PerpsChangeError`]: nothing was written or sent.
    ///
    /// # Cancellation
    ///
    /// As with [`Placements::change`].
    pub fn change(
        self,
        target: ChangeTarget,
        change: OrderChange,
        market: &MarginMarket,
        within: Duration,
    ) -> Result<Change, PerpsChangeError> {
        check_change(&target.ticker, &change, market)?;
        Ok(self.0.change_of(Product::Perps, target, change, within)?)
    }
}

/// Reports whether an order was refused because a corporate action has changed the market since it was
/// read.
///
/// Read the market again and decide anew; the same order with the new version would have the price and
/// the count of the old contract.
pub fn is_market_version_refusal(refusal: &Refusal) -> bool {
    refusal.code.as_deref() == Some("market_version_mismatch")
}
