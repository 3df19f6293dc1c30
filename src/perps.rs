//! Perpetual futures, which the exchange also calls "margin": [`Client::perps`].
//!
//! The same host, keys, layers and errors as for event contracts, and another product: contracts
//! without an end, priced in dollars of any size, on margin. Its documents use names of the event
//! contracts for other things (`OrderGroup`, `ExchangeStatus`), so that this module has its own
//! [`types`], [`builder`], [`OperationId`] and [`OPERATIONS`].
//!
//! ```no_run
//! # async fn run(client: kalshi_sdk::Client) -> Result<(), kalshi_sdk::Error> {
//! let perps = client.perps();
//! // A 403 of anything else is explained by this: members are let in one by one.
//! let enabled = perps.enabled().await?;
//! for market in &perps.get_margin_markets().send().await?.markets {
//!     println!("{} version {}: {:?} / {:?}", market.ticker, market.market_version, market.bid, market.ask);
//! }
//! # let _ = enabled;
//! # Ok(())
//! # }
//! ```
//!
//! The page [`guide::perps`](crate::guide::perps) has the rest.

use kalshi_types::{Decimal, Rounding};

use crate::{Client, Count, Dollars, Error, Operation, PriceLevel, generated};

#[cfg(feature = "server")]
#[doc(hidden)]
pub use crate::generated::perps::server;
pub use crate::generated::perps::{OperationId, SPEC_VERSION, builder, types};

/// Every operation of the perps API, in the order of its paths.
pub static OPERATIONS: &[Operation] = &generated::perps::OPERATIONS;

/// The operations on perpetual futures: [`Client::perps`].
///
/// It borrows the client, and its requests do, too: it may be made anew for each call.
///
/// | to do | methods |
/// |---|---|
/// | find out whether you may trade | [`enabled`](Self::enabled), [`get_margin_enabled`](Self::get_margin_enabled), [`get_margin_exchange_status`](Self::get_margin_exchange_status) |
/// | find markets | [`get_margin_markets`](Self::get_margin_markets), [`get_margin_market`](Self::get_margin_market), [`get_margin_corporate_actions`](Self::get_margin_corporate_actions) |
/// | order books, trades, candles | [`get_margin_market_orderbook`](Self::get_margin_market_orderbook), [`get_margin_market_orderbooks`](Self::get_margin_market_orderbooks), [`get_margin_trades`](Self::get_margin_trades), [`get_margin_market_candlesticks`](Self::get_margin_market_candlesticks) |
/// | funding | [`get_margin_funding_rate_estimate`](Self::get_margin_funding_rate_estimate), [`get_margin_historical_funding_rates`](Self::get_margin_historical_funding_rates), [`get_margin_premium_index`](Self::get_margin_premium_index), [`get_margin_funding_history`](Self::get_margin_funding_history) |
/// | place and change orders | [`create_margin_order`](Self::create_margin_order), [`amend_margin_order`](Self::amend_margin_order), [`decrease_margin_order`](Self::decrease_margin_order) |
/// | cancel orders | [`cancel_margin_order`](Self::cancel_margin_order), [`cancel_all_margin_orders`](Self::cancel_all_margin_orders) |
/// | look orders up | [`get_margin_orders`](Self::get_margin_orders), [`get_margin_order`](Self::get_margin_order) |
/// | limit what orders can do | [`create_margin_order_group`](Self::create_margin_order_group), [`get_margin_order_groups`](Self::get_margin_order_groups), [`get_margin_order_group`](Self::get_margin_order_group), [`update_margin_order_group_limit`](Self::update_margin_order_group_limit), [`trigger_margin_order_group`](Self::trigger_margin_order_group), [`reset_margin_order_group`](Self::reset_margin_order_group), [`delete_margin_order_group`](Self::delete_margin_order_group) |
/// | take profit, stop losses | [`set_cross_margin_exit_trigger`](Self::set_cross_margin_exit_trigger), [`get_cross_margin_exit_triggers`](Self::get_cross_margin_exit_triggers), [`update_cross_margin_exit_trigger`](Self::update_cross_margin_exit_trigger), [`delete_cross_margin_exit_trigger`](Self::delete_cross_margin_exit_trigger), [`delete_cross_margin_exit_trigger_by_id`](Self::delete_cross_margin_exit_trigger_by_id), [`set_isolated_margin_exit_trigger`](Self::set_isolated_margin_exit_trigger), [`get_isolated_margin_exit_triggers`](Self::get_isolated_margin_exit_triggers), [`delete_isolated_margin_exit_trigger`](Self::delete_isolated_margin_exit_trigger) |
/// | cash, positions, fills | [`balance`](Self::balance), [`balance_with_available`](Self::balance_with_available), [`get_margin_positions`](Self::get_margin_positions), [`get_margin_fills`](Self::get_margin_fills) |
/// | risk, fees, limits | [`get_margin_risk`](Self::get_margin_risk), [`get_margin_risk_parameters`](Self::get_margin_risk_parameters), [`get_margin_notional_risk_limit`](Self::get_margin_notional_risk_limit), [`get_margin_fee_tiers`](Self::get_margin_fee_tiers), [`get_margin_fee_tier_rates`](Self::get_margin_fee_tier_rates), [`get_perps_account_api_limits`](Self::get_perps_account_api_limits) |
/// | cash between products, subaccounts | [`intra_exchange_instance_transfer`](Self::intra_exchange_instance_transfer), [`create_margin_subaccount`](Self::create_margin_subaccount), [`apply_margin_subaccount_transfer`](Self::apply_margin_subaccount_transfer) |
/// | FCM members | [`create_margin_fcm_subtrader`](Self::create_margin_fcm_subtrader), [`get_fcm_subtrader_risk_controls`](Self::get_fcm_subtrader_risk_controls), [`update_fcm_subtrader_risk_controls`](Self::update_fcm_subtrader_risk_controls), [`delete_fcm_subtrader_risk_controls`](Self::delete_fcm_subtrader_risk_controls), [`update_fcm_notional_risk_limit`](Self::update_fcm_notional_risk_limit), [`delete_fcm_notional_risk_limit`](Self::delete_fcm_notional_risk_limit) |
#[derive(Clone, Copy, Debug)]
pub struct Perps<'a> {
    client: &'a Client,
}

impl Client {
    /// Returns the operations on perpetual futures, by this client's connections, keys and layers.
    pub fn perps(&self) -> Perps<'_> {
        Perps { client: self }
    }
}

impl<'a> Perps<'a> {
    pub(crate) fn client(self) -> &'a Client {
        self.client
    }

    /// Reports whether the account may trade perpetual futures. Members are enabled one by one: until
    /// then orders, balances and positions are refused with a 403 ([`Error::is_forbidden`]).
    ///
    /// # Errors
    ///
    /// As [`builder::GetMarginEnabled::send`].
    ///
    /// # Cancellation
    ///
    /// Only a read is sent: dropping the future has no effect on the account.
    pub async fn enabled(&self) -> Result<bool, Error> {
        Ok(self.get_margin_enabled().send().await?.enabled)
    }

    /// Fetches the balances without what is available, for 5 tokens.
    ///
    /// The exchange does not compute the available balance for this call and sends zeros instead,
    /// which [`Balances`] leaves out.
    ///
    /// # Errors
    ///
    /// As [`builder::GetMarginBalance::send`].
    ///
    /// # Cancellation
    ///
    /// Only a read is sent: dropping the future has no effect on the account.
    pub async fn balance(&self) -> Result<Balances, Error> {
        let response = self.get_margin_balance().compute_available_balance(false).send().await?;
        Ok(response.into_inner().into())
    }

    /// Fetches the balances with what is available and what resting orders hold, for 50 tokens.
    ///
    /// Right after an order the margin may not be reserved yet.
    ///
    /// # Errors
    ///
    /// As [`builder::GetMarginBalance::send`].
    ///
    /// # Cancellation
    ///
    /// Only a read is sent: dropping the future has no effect on the account.
    pub async fn balance_with_available(&self) -> Result<types::GetMarginBalanceResponse, Error> {
        let response = self.get_margin_balance().compute_available_balance(true).send().await?;
        Ok(response.into_inner())
    }
}

/// The balances as [`Perps::balance`] fetches them: without what is available.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balances {
    /// The balance of each subaccount.
    pub subaccounts: Vec<SubaccountBalance>,
    /// Cash in dollars that is settled and can be withdrawn or moved to event contracts.
    pub settled_funds: Dollars,
}

/// The balance of a subaccount, in dollars, without what is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubaccountBalance {
    /// The subaccount; 0 is the primary.
    pub subaccount: i64,
    /// Value of its positions at their marks.
    pub position_value: Dollars,
    /// Cash and unrealized profit together.
    pub account_equity: Dollars,
    /// The equity below which it is liquidated.
    pub maintenance_margin: Dollars,
    /// The equity that its positions need to be opened.
    pub initial_margin: Dollars,
}

impl From<types::GetMarginBalanceResponse> for Balances {
    fn from(response: types::GetMarginBalanceResponse) -> Self {
        let subaccounts =
            response.subaccount_balances.into_iter().map(|balance| SubaccountBalance {
                subaccount: balance.subaccount,
                position_value: balance.position_value,
                account_equity: balance.account_equity,
                maintenance_margin: balance.maintenance_margin,
                initial_margin: balance.initial_margin,
            });
        Self { subaccounts: subaccounts.collect(), settled_funds: response.settled_funds }
    }
}

/// The state of an order, as [`types::MarginOrder::state`] works it out: the exchange sends none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderState {
    /// Contracts remain: the order is in the book.
    Resting,
    /// Nothing remains, and the last change was a trade.
    Executed,
    /// Nothing remains, and the last change took the rest out of the book. The order may have been
    /// filled in part before.
    Canceled,
    /// Nothing remains, for a reason that this version does not know. Its fills tell how it ended.
    Ended,
}

impl types::MarginOrder {
    /// Returns the state of the order, from what remains and the reason of the last change.
    ///
    /// An order that was filled in part and then canceled differs from an executed one in that
    /// reason only.
    pub fn state(&self) -> OrderState {
        use types::LastUpdateReason as Reason;
        if self.remaining_count.is_positive() {
            return OrderState::Resting;
        }
        match &self.last_update_reason {
            Reason::Trade => OrderState::Executed,
            Reason::Decrease
            | Reason::Amend
            | Reason::MarginCancel
            | Reason::SelfTradeCancel
            | Reason::ExpiryCancel
            | Reason::CloseCancel
            | Reason::HaltCancel
            | Reason::PostOnlyCrossCancel
            | Reason::ReduceOnlyCancel => OrderState::Canceled,
            _ => OrderState::Ended,
        }
    }
}

impl types::MarginOrder {
    /// Reports whether this is a later state of the same order than another one, both of which were
    /// read from the exchange.
    ///
    /// The exchange's time of the last change decides. Between two states of one time the one with
    /// more fills is later, then the one with fewer contracts left. Replies to writes have no such
    /// time, and the clock of this machine says nothing about the order of changes.
    pub fn is_later_than(&self, known: &Self) -> bool {
        let rank = |order: &Self| {
            let updated = order.last_update_time.or(order.created_time);
            (updated, order.fill_count, std::cmp::Reverse(order.remaining_count))
        };
        self.order_id == known.order_id && rank(self) > rank(known)
    }
}

impl types::ExitTrigger {
    /// Reports whether the trigger can still place an order. `None` for a status that does not say so,
    /// also one that this version does not know: read it again.
    ///
    /// The answer holds for this state alone. A trigger may go back from `active` to
    /// `pending_on_entry`, so that no state excludes another later.
    pub fn is_live(&self) -> Option<bool> {
        use types::ExitTriggerStatus as Status;
        match &self.status {
            Status::PendingOnEntry | Status::Active => Some(true),
            Status::Filled | Status::Failed | Status::Canceled => Some(false),
            _ => None,
        }
    }

    /// Reports whether the trigger has everything that a request asked for.
    ///
    /// A repeated `client_trigger_id` is answered with the first trigger of that id and a success,
    /// whatever its state: check this and [`is_live`](Self::is_live) before relying on it. What the
    /// request leaves out is not compared: the exchange chooses it.
    pub fn is_as_requested(&self, request: &types::SetCrossExitTriggerRequest) -> bool {
        /// Reports whether a value is the one that was asked for, if one was.
        fn fits<T: PartialEq>(asked: Option<&T>, has: Option<&T>) -> bool {
            asked.is_none() || asked == has
        }
        // A count of 0 asks for the whole position.
        let count = request.count.filter(|count| !count.is_zero());
        fits(request.client_trigger_id.as_ref(), self.client_trigger_id.as_ref())
            && fits(request.anchor_order_id.as_ref(), self.anchor_order_id.as_ref())
            && fits(request.kind.as_ref(), Some(&self.kind))
            && fits(count.as_ref(), Some(&self.count))
            && fits(request.stop_loss_price.as_ref(), self.stop_loss_price.as_ref())
            && fits(request.take_profit_price.as_ref(), self.take_profit_price.as_ref())
            && fits(request.trail_amount.as_ref(), self.trail_amount.as_ref())
            && fits(request.trail_bps.as_ref(), self.trail_bps.as_ref())
    }
}

impl types::GetMarginFundingRateEstimateResponse {
    /// Returns the funding in dollars that a position would receive at this estimate; below zero is
    /// paid, as in the funding history. Longs pay while the rate is above zero.
    ///
    /// Position × mark × rate, rounded down to 10⁻⁶ USD: the exchange publishes no rounding. `None`
    /// without a rate or a mark, and out of range.
    pub fn funding_of(&self, position: Count) -> Option<Dollars> {
        let (rate, mark) = (self.funding_rate?, self.mark_price?);
        let position = Decimal::new(i128::from(position.as_hundredths()), 2)?;
        let received = Decimal::ZERO.checked_sub(rate.checked_mul(position)?)?;
        mark.mul_rounded(received, Rounding::Floor).ok()
    }
}

impl types::MarginOrderbookCount {
    /// Returns the bids, the highest price first, whatever order they came in: the exchange documents
    /// one and has been seen to send another.
    pub fn bids_best_first(&self) -> Vec<PriceLevel> {
        let mut levels = self.bids.clone();
        levels.sort_by_key(|level| std::cmp::Reverse(level.price));
        levels
    }

    /// Returns the asks, the lowest price first, whatever order they came in.
    pub fn asks_best_first(&self) -> Vec<PriceLevel> {
        let mut levels = self.asks.clone();
        levels.sort_by_key(|level| level.price);
        levels
    }

    /// Returns the best bid; `None` without bids.
    pub fn best_bid(&self) -> Option<PriceLevel> {
        self.bids.iter().copied().max_by_key(|level| level.price)
    }

    /// Returns the best ask; `None` without asks.
    pub fn best_ask(&self) -> Option<PriceLevel> {
        self.asks.iter().copied().min_by_key(|level| level.price)
    }
}

impl types::MarginMarket {
    /// Returns the highest price on the market's grid that is not above a price. `None` if the market
    /// names no tick size: then no price can be told to fit.
    pub fn floor_price(&self, price: Dollars) -> Option<Dollars> {
        price.floor_to(self.tick_size?)
    }

    /// Returns the lowest price on the market's grid that is not below a price. `None` if the market
    /// names no tick size, or the price would be out of range.
    pub fn ceil_price(&self, price: Dollars) -> Option<Dollars> {
        price.ceil_to(self.tick_size?)
    }

    /// Reports whether the market takes a count: above zero, and whole unless it trades fractions.
    pub fn accepts_count(&self, count: Count) -> bool {
        let is_whole = count.to_contracts().is_some();
        count.is_positive() && (is_whole || self.fractional_trading_enabled)
    }
}

impl OperationId {
    /// Returns the operation of a table entry; `None` for one of another API.
    pub fn of(operation: &Operation) -> Option<Self> {
        Self::all().find(|id| id.operation() == operation)
    }
}

/// Reports whether a write was refused because the market has changed: a corporate action gave it
/// other prices and counts.
///
/// Read the market again and decide anew, and do not send the same order with the new
/// `market_version`: its price and count were meant for the old contract.
pub fn is_market_version_mismatch(error: &Error) -> bool {
    error.is_conflict() && error.code() == Some("market_version_mismatch")
}
