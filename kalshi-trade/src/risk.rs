//! Ceilings on what can be lost: by order, by market, by day, and on the number of orders a minute.
//!
//! A [`RiskLedger`] is asked before each order ([`reserve`](RiskLedger::reserve)) and told what
//! became of it ([`fill`](RiskLedger::fill), [`close`](RiskLedger::close)). An order whose outcome
//! is unknown stays reserved with its full size until it is settled: there is no other way to release
//! it.
//!
//! An order that gets out of a position is never held back by what the market could lose: one that
//! does not raise the worst loss is not refused for it, however high the loss is already.
//!
//! [`Trading`](crate::trading::Trading) keeps a ledger by itself when it is given
//! [ceilings](crate::trading::TradingBuilder::with_ceilings).
//!
//! Nothing lifts a ceiling by accident: each of the four has to be given a value or
//! [`Ceiling::Unlimited`] in so many words, a running ledger can only be
//! [tightened](RiskLedger::tighten), and what overflows is refused.
//!
//! It is a pure state machine: the clock is an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kalshi_types::{BookSide, Count, Dollars, UnixMillis};
use thiserror::Error;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MINUTE_MS: i64 = 60 * 1000;

/// A ceiling, or the statement that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is a ceiling or there is none")]
pub enum Ceiling<T> {
    /// At most this much.
    AtMost(T),
    /// No ceiling.
    Unlimited,
}

/// What may be lost, and how fast orders may follow each other.
///
/// # Examples
///
/// ```
/// use kalshi_trade::risk::{Ceiling, Ceilings};
///
/// let ceilings = Ceilings::builder()
///     .with_order_cost(Ceiling::AtMost("25".parse()?))
///     .with_market_loss(Ceiling::AtMost("100".parse()?))
///     .with_day_cost(Ceiling::AtMost("500".parse()?))
///     .with_orders_per_minute(Ceiling::Unlimited)
///     .build()?;
/// assert_eq!(ceilings.market_loss, Ceiling::AtMost("100".parse()?));
///
/// // One that was forgotten is an error, and not unlimited.
/// let error = Ceilings::builder().with_order_cost(Ceiling::Unlimited).build().unwrap_err();
/// assert!(error.to_string().contains("market_loss"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ceilings {
    /// The most that one order can cost, with fees: the price of what it buys (for an ask, 1 − price
    /// a contract), in dollars.
    pub order_cost: Ceiling<Dollars>,
    /// The most that one market can lose in its worst outcome, if the worst of its orders are
    /// filled, fees included, in dollars.
    pub market_loss: Ceiling<Dollars>,
    /// The most that orders of one day (UTC) can cost: fills, and orders that are not over, in
    /// dollars. What is canceled unfilled gives its part back.
    pub day_cost: Ceiling<Dollars>,
    /// The most orders within any 60 seconds, whatever becomes of them.
    pub orders_per_minute: Ceiling<u32>,
}

/// Collects [`Ceilings`].
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "call `build`"]
pub struct CeilingsBuilder {
    order_cost: Option<Ceiling<Dollars>>,
    market_loss: Option<Ceiling<Dollars>>,
    day_cost: Option<Ceiling<Dollars>>,
    orders_per_minute: Option<Ceiling<u32>>,
}

/// The reason why ceilings were not made, or not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CeilingsError {
    /// One of the four was not given.
    #[error("the ceiling {0} has not been given: give it a value, or Ceiling::Unlimited")]
    Missing(&'static str),
    /// An amount is below zero.
    #[error("the ceiling {0} is below zero")]
    Negative(&'static str),
    /// The new ceiling is above the one in force.
    #[error("the ceiling {0} would be raised: make a new ledger or handle to do that")]
    Raised(&'static str),
    /// [`Trading`](crate::trading::Trading) was built without ceilings.
    #[error("there are no ceilings: build the handle with some")]
    NoCeilings,
}

/// What an order can cost and do, before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what a caller knows of an order; built by literals")]
pub struct OrderRisk<'a> {
    /// The client order id.
    pub id: &'a str,
    /// The ticker of the market.
    pub market: &'a str,
    /// The side of the book.
    pub side: BookSide,
    /// The YES price, in dollars.
    pub price: Dollars,
    /// The number of contracts.
    pub count: Count,
    /// The most that the order may cost in fees, in dollars
    /// ([`FeeSchedule::worst_fee`](crate::fees::FeeSchedule::worst_fee)).
    pub fee: Dollars,
}

/// The reason why an order may not be sent. **Nothing has been sent**; the order itself may be
/// right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RiskError {
    /// The order alone costs too much.
    #[error("the order can cost {cost}, and the ceiling order_cost is {ceiling}")]
    OrderCost {
        /// What it can cost, in dollars.
        cost: Dollars,
        /// The ceiling, in dollars.
        ceiling: Dollars,
    },
    /// The market could lose too much.
    #[error("with the order {market} could lose {loss}, and the ceiling market_loss is {ceiling}")]
    MarketLoss {
        /// The ticker of the market.
        market: String,
        /// What it could lose with this order, in dollars.
        loss: Dollars,
        /// The ceiling, in dollars.
        ceiling: Dollars,
    },
    /// The orders of the day would cost too much.
    #[error(
        "with the order this day (UTC) could cost {cost}, and the ceiling day_cost is {ceiling}"
    )]
    DayCost {
        /// What they could cost with this order, in dollars.
        cost: Dollars,
        /// The ceiling, in dollars.
        ceiling: Dollars,
    },
    /// Too many orders within a minute.
    #[error(
        "{asked} orders within a minute were asked for, and the ceiling orders_per_minute is \
         {ceiling}: the next may be made at {at}"
    )]
    OrdersPerMinute {
        /// The orders of the last 60 seconds, this one included.
        asked: usize,
        /// The ceiling.
        ceiling: u32,
        /// The time at which the next may be made.
        at: UnixMillis,
    },
    /// There is an order with that id already.
    #[error("an order with the id {0:?} is reserved already")]
    Duplicate(String),
    /// No order with that id is reserved.
    #[error("no order with the id {0:?} is reserved")]
    UnknownOrder(String),
    /// A number is one that no order has: a price outside 0 to 1, a count or a fee below zero, a
    /// side that is not known.
    #[error("an order cannot have {0}")]
    Invalid(String),
    /// An amount is out of range.
    #[error("an amount of the order is out of range")]
    OutOfRange,
}

/// Amounts in micro-dollars, in which sums cannot overflow: each part fits 64 bits.
type Micros = i128;

/// An order that is not over.
#[derive(Clone, Debug)]
struct Reserved {
    market: Box<str>,
    is_bid: bool,
    price: Dollars,
    /// Contracts that may still be filled, in hundredths.
    open: i64,
    /// What the fees may still come to.
    fee: Micros,
    /// The day on whose account it is.
    day: i64,
}

/// The fills of one market, and its open orders, by the outcome in which they lose.
#[derive(Clone, Copy, Debug, Default)]
struct Market {
    /// What the fills are worth, with the cash they took, if the outcome is YES.
    if_yes: Micros,
    /// The same if the outcome is NO.
    if_no: Micros,
    /// What open asks lose if the outcome is YES.
    asks: Micros,
    /// What open bids lose if the outcome is NO.
    bids: Micros,
    /// What the fees of the open orders may come to.
    fees: Micros,
    orders: usize,
}

impl Market {
    fn worst_loss(&self) -> Micros {
        let yes = self.asks - self.if_yes;
        let no = self.bids - self.if_no;
        yes.max(no) + self.fees
    }
}

/// Reservations and fills, measured against [`Ceilings`].
///
/// # Examples
///
/// ```
/// use kalshi_sdk::{UnixMillis, types::BookSide};
/// use kalshi_trade::risk::{Ceiling, Ceilings, OrderRisk, RiskError, RiskLedger};
///
/// let ceilings = Ceilings::builder()
///     .with_order_cost(Ceiling::AtMost("10".parse()?))
///     .with_market_loss(Ceiling::AtMost("15".parse()?))
///     .with_day_cost(Ceiling::Unlimited)
///     .with_orders_per_minute(Ceiling::AtMost(60))
///     .build()?;
/// let mut ledger = RiskLedger::new(ceilings);
/// let now = UnixMillis::from_millis(1_790_000_000_000);
/// let order = |id| OrderRisk {
///     id,
///     market: "KXA-1",
///     side: BookSide::Bid,
///     price: "0.40".parse().unwrap(),
///     count: "20".parse().unwrap(),
///     fee: "0.40".parse().unwrap(),
/// };
/// ledger.reserve(now, &order("a"))?;
/// // Two of them could lose 16.80.
/// assert!(matches!(ledger.reserve(now, &order("b")), Err(RiskError::MarketLoss { .. })));
/// // The first is over without a fill: there is room again.
/// ledger.close("a")?;
/// ledger.reserve(now, &order("b"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RiskLedger {
    ceilings: Ceilings,
    orders: HashMap<Box<str>, Reserved>,
    markets: BTreeMap<Box<str>, Market>,
    /// The times of the orders of the last minute, the oldest first.
    recent: VecDeque<i64>,
    /// The day of the newest time that was seen. A clock that goes back does not begin a day anew.
    day: i64,
    /// What the fills of that day cost, fees included.
    spent: Micros,
    /// What the open orders of that day may cost.
    open_today: Micros,
    /// The newest time that was seen.
    now: i64,
}

impl Ceilings {
    /// Returns a builder. Each of the four has to be given.
    pub fn builder() -> CeilingsBuilder {
        CeilingsBuilder::default()
    }

    /// Returns ceilings that refuse no order, for a program that has others of its own.
    pub const fn unlimited() -> Self {
        Self {
            order_cost: Ceiling::Unlimited,
            market_loss: Ceiling::Unlimited,
            day_cost: Ceiling::Unlimited,
            orders_per_minute: Ceiling::Unlimited,
        }
    }
}

impl CeilingsBuilder {
    /// Sets the most that one order can cost, with fees.
    pub fn with_order_cost(mut self, ceiling: Ceiling<Dollars>) -> Self {
        self.order_cost = Some(ceiling);
        self
    }

    /// Sets the most that one market can lose in its worst outcome.
    pub fn with_market_loss(mut self, ceiling: Ceiling<Dollars>) -> Self {
        self.market_loss = Some(ceiling);
        self
    }

    /// Sets the most that the orders of one day (UTC) can cost.
    pub fn with_day_cost(mut self, ceiling: Ceiling<Dollars>) -> Self {
        self.day_cost = Some(ceiling);
        self
    }

    /// Sets the most orders within any 60 seconds.
    pub fn with_orders_per_minute(mut self, ceiling: Ceiling<u32>) -> Self {
        self.orders_per_minute = Some(ceiling);
        self
    }

    /// Returns the ceilings.
    ///
    /// # Errors
    ///
    /// [`CeilingsError`] names the one that is missing or below zero.
    pub fn build(self) -> Result<Ceilings, CeilingsError> {
        Ok(Ceilings {
            order_cost: amount(self.order_cost, "order_cost")?,
            market_loss: amount(self.market_loss, "market_loss")?,
            day_cost: amount(self.day_cost, "day_cost")?,
            orders_per_minute: self
                .orders_per_minute
                .ok_or(CeilingsError::Missing("orders_per_minute"))?,
        })
    }
}

fn amount(
    ceiling: Option<Ceiling<Dollars>>,
    name: &'static str,
) -> Result<Ceiling<Dollars>, CeilingsError> {
    match ceiling.ok_or(CeilingsError::Missing(name))? {
        Ceiling::AtMost(amount) if amount.is_negative() => Err(CeilingsError::Negative(name)),
        ceiling => Ok(ceiling),
    }
}

impl<T: PartialOrd> Ceiling<T> {
    /// Reports whether this lets something through that `other` refuses.
    fn is_above(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Unlimited) => false,
            (Self::Unlimited, Self::AtMost(_)) => true,
            (Self::AtMost(a), Self::AtMost(b)) => a > b,
        }
    }
}

/// Returns an amount for a message, the nearest that the type can hold.
fn dollars(micros: Micros) -> Dollars {
    let nearest = i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX });
    Dollars::from_micros(nearest)
}

fn exceeds(ceiling: Ceiling<Dollars>, micros: Micros) -> Option<Dollars> {
    match ceiling {
        Ceiling::AtMost(most) if micros > i128::from(most.as_micros()) => Some(most),
        _ => None,
    }
}

/// Returns what hundredths of contracts cost at a price, up to the next micro-dollar.
fn cost(price: Dollars, hundredths: i64) -> Micros {
    let exact = i128::from(price.as_micros()) * i128::from(hundredths);
    exact.div_euclid(100) + i128::from(exact.rem_euclid(100) != 0)
}

/// Returns what a contract costs on a side: its price, or one dollar less it.
fn unit_cost(is_bid: bool, price: Dollars) -> Dollars {
    if is_bid { price } else { price.complement().unwrap_or(Dollars::ONE) }
}

impl Reserved {
    /// Returns what the open contracts cost, without fees.
    fn cost(&self) -> Micros {
        cost(unit_cost(self.is_bid, self.price), self.open)
    }
}

impl RiskLedger {
    /// Creates a ledger without orders and fills.
    pub fn new(ceilings: Ceilings) -> Self {
        Self {
            ceilings,
            orders: HashMap::new(),
            markets: BTreeMap::new(),
            recent: VecDeque::new(),
            day: i64::MIN,
            spent: 0,
            open_today: 0,
            now: i64::MIN,
        }
    }

    /// Returns the ceilings in force.
    pub const fn ceilings(&self) -> Ceilings {
        self.ceilings
    }

    /// Lowers ceilings. Orders that are reserved already stay.
    ///
    /// # Errors
    ///
    /// [`CeilingsError::Raised`] names one that would be raised; none is changed then.
    pub fn tighten(&mut self, to: Ceilings) -> Result<(), CeilingsError> {
        let from = &self.ceilings;
        let raised = [
            (to.order_cost.is_above(&from.order_cost), "order_cost"),
            (to.market_loss.is_above(&from.market_loss), "market_loss"),
            (to.day_cost.is_above(&from.day_cost), "day_cost"),
            (to.orders_per_minute.is_above(&from.orders_per_minute), "orders_per_minute"),
        ];
        if let Some((_, name)) = raised.iter().find(|(is_raised, _)| *is_raised) {
            return Err(CeilingsError::Raised(name));
        }
        self.ceilings = to;
        Ok(())
    }

    /// Reports whether an order may be sent, and reserves nothing.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    pub fn check(&mut self, now: UnixMillis, order: &OrderRisk<'_>) -> Result<(), RiskError> {
        self.measure(now, order, None).map(|_| ())
    }

    /// Reports whether a reserved order may be changed to what `order` says, under the same id, and
    /// reserves nothing. It is not counted as an order of the minute.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve), and [`RiskError::UnknownOrder`].
    pub fn check_change(
        &mut self,
        now: UnixMillis,
        order: &OrderRisk<'_>,
    ) -> Result<(), RiskError> {
        let Some(before) = self.orders.get(order.id).cloned() else {
            return Err(RiskError::UnknownOrder(order.id.to_owned()));
        };
        self.measure(now, order, Some(&before)).map(|_| ())
    }

    /// Reserves what an order can cost, before it is sent.
    ///
    /// # Errors
    ///
    /// [`RiskError`] names the ceiling that the order would break, and nothing is reserved. The
    /// order must not be sent then.
    pub fn reserve(&mut self, now: UnixMillis, order: &OrderRisk<'_>) -> Result<(), RiskError> {
        if self.orders.contains_key(order.id) {
            check(order)?;
            return Err(RiskError::Duplicate(order.id.to_owned()));
        }
        let reserved = self.measure(now, order, None)?;
        self.record_order(now);
        self.insert(order.id, reserved);
        Ok(())
    }

    /// Returns what is reserved for an order that is sent now.
    fn reserved(&mut self, now: UnixMillis, order: &OrderRisk<'_>) -> Result<Reserved, RiskError> {
        let is_bid = check(order)?;
        self.advance(now.as_millis());
        Ok(Reserved {
            market: order.market.into(),
            is_bid,
            price: order.price,
            open: order.count.as_hundredths(),
            fee: order.fee.as_micros().into(),
            day: self.day,
        })
    }

    /// Measures an order, and without the one that it replaces if that is given.
    fn measure(
        &mut self,
        now: UnixMillis,
        order: &OrderRisk<'_>,
        before: Option<&Reserved>,
    ) -> Result<Reserved, RiskError> {
        let reserved = self.reserved(now, order)?;
        let whole = reserved.cost() + reserved.fee;
        if let Some(ceiling) = exceeds(self.ceilings.order_cost, whole) {
            return Err(RiskError::OrderCost { cost: dollars(whole), ceiling });
        }
        let mut market = self.markets.get(order.market).copied().unwrap_or_default();
        let loss_before = market.worst_loss();
        let mut today = self.spent + self.open_today + whole;
        if let Some(before) = before {
            market.remove(before);
            today -= before.cost() + before.fee;
        }
        market.add(&reserved);
        let loss = market.worst_loss();
        if loss > loss_before
            && let Some(ceiling) = exceeds(self.ceilings.market_loss, loss)
        {
            let market = order.market.to_owned();
            return Err(RiskError::MarketLoss { market, loss: dollars(loss), ceiling });
        }
        if let Some(ceiling) = exceeds(self.ceilings.day_cost, today) {
            return Err(RiskError::DayCost { cost: dollars(today), ceiling });
        }
        if let (None, Ceiling::AtMost(ceiling)) = (before, self.ceilings.orders_per_minute)
            && self.recent.len() >= usize::try_from(ceiling).unwrap_or(usize::MAX)
        {
            // The next has room when as many are older than a minute as there are too many.
            let place = self.recent.len() - usize::try_from(ceiling).unwrap_or(usize::MAX);
            let oldest = self.recent.get(place).copied().unwrap_or(self.now);
            let at = UnixMillis::from_millis(oldest.saturating_add(MINUTE_MS));
            let asked = self.recent.len().saturating_add(1);
            return Err(RiskError::OrdersPerMinute { asked, ceiling, at });
        }
        Ok(reserved)
    }

    /// Adds an order, or takes the place of the one with the same id.
    fn insert(&mut self, id: &str, reserved: Reserved) {
        if self.orders.contains_key(id) {
            let _ = self.close(id);
        }
        self.markets.entry(reserved.market.clone()).or_default().add(&reserved);
        if reserved.day == self.day {
            self.open_today += reserved.cost() + reserved.fee;
        }
        self.orders.insert(id.into(), reserved);
    }

    /// Records that an order **is** open with that size, whatever the ceilings say: one of an
    /// earlier session, a foreign one, or one whose price or size has changed. It takes the place of
    /// what was reserved under the id.
    ///
    /// # Errors
    ///
    /// [`RiskError::Invalid`]: a number is one that no order has; nothing is recorded.
    pub fn hold(&mut self, now: UnixMillis, order: &OrderRisk<'_>) -> Result<(), RiskError> {
        let reserved = self.reserved(now, order)?;
        self.insert(order.id, reserved);
        Ok(())
    }

    /// Counts an order of that time among those of the minute.
    pub fn record_order(&mut self, at: UnixMillis) {
        self.advance(at.as_millis());
        if let Ceiling::AtMost(_) = self.ceilings.orders_per_minute {
            self.recent.push_back(at.as_millis().min(self.now));
            self.forget_old_orders();
        }
    }

    /// Records a fill in a market, of whatever order: what it costs on the day, and what it is worth
    /// in either outcome. Where the order is reserved, [`hold`](Self::hold) what is left of it.
    ///
    /// # Errors
    ///
    /// [`RiskError::Invalid`]: a number is one that no fill has; nothing is recorded.
    pub fn record_fill(&mut self, now: UnixMillis, fill: &OrderRisk<'_>) -> Result<(), RiskError> {
        self.record_spent(now, fill)?;
        let is_bid = fill.side == BookSide::Bid;
        let (count, fee) = (fill.count.as_hundredths(), fill.fee.as_micros().into());
        let market = self.markets.entry(fill.market.into()).or_default();
        market.add_fill(is_bid, fill.price, count, fee);
        Ok(())
    }

    /// Records what a fill costs on the day, where the [position](Self::record_position) has it
    /// already.
    ///
    /// # Errors
    ///
    /// As [`record_fill`](Self::record_fill).
    pub fn record_spent(&mut self, now: UnixMillis, fill: &OrderRisk<'_>) -> Result<(), RiskError> {
        let is_bid = check_numbers(fill)?;
        self.advance(now.as_millis());
        self.spent += cost(unit_cost(is_bid, fill.price), fill.count.as_hundredths())
            + i128::from(fill.fee.as_micros());
        Ok(())
    }

    /// Records a position that is there already: contracts of YES when `count` is positive, of NO
    /// when negative, what they cost, and what the market has brought and cost besides, in dollars.
    pub fn record_position(
        &mut self,
        market: &str,
        count: Count,
        cost: Dollars,
        realized: Dollars,
        fees: Dollars,
    ) {
        let entry = self.markets.entry(market.into()).or_default();
        let worth = i128::from(count.as_hundredths()) * 10_000;
        let cash = i128::from(realized.as_micros())
            - i128::from(cost.as_micros())
            - i128::from(fees.as_micros());
        entry.if_yes += cash + worth.max(0);
        entry.if_no += cash + (-worth).max(0);
    }

    /// Returns what a market could lose at worst with one fill more, in dollars.
    pub(crate) fn market_loss_with(&self, fill: &OrderRisk<'_>) -> Dollars {
        let mut market = self.markets.get(fill.market).copied().unwrap_or_default();
        let (count, fee) = (fill.count.as_hundredths(), fill.fee.as_micros().into());
        market.add_fill(fill.side == BookSide::Bid, fill.price, count, fee);
        dollars(market.worst_loss())
    }

    /// Records a fill of a reserved order: `price` is that of YES, `fee` what the fill cost.
    ///
    /// Report each fill once, also those that come after the order is over: before
    /// [`close`](Self::close), then.
    ///
    /// # Errors
    ///
    /// [`RiskError`]: no such order is reserved, or a number is one that no fill has; nothing is
    /// recorded.
    pub fn fill(
        &mut self,
        id: &str,
        price: Dollars,
        count: Count,
        fee: Dollars,
    ) -> Result<(), RiskError> {
        if price.is_negative() || price > Dollars::ONE || count.is_negative() {
            return Err(RiskError::Invalid(format!("a fill of {count} at {price}")));
        }
        let Some(order) = self.orders.get_mut(id) else {
            return Err(RiskError::UnknownOrder(id.to_owned()));
        };
        let market = self.markets.entry(order.market.clone()).or_default();
        let before = order.cost() + order.fee;
        market.remove(order);
        order.open = order.open.saturating_sub(count.as_hundredths()).max(0);
        let fee = i128::from(fee.as_micros());
        order.fee = (order.fee - fee.max(0)).max(0);
        if order.open == 0 {
            order.fee = 0;
        }
        market.add(order);
        market.add_fill(order.is_bid, price, count.as_hundredths(), fee);
        if order.day == self.day {
            self.open_today += order.cost() + order.fee - before;
            self.spent += cost(unit_cost(order.is_bid, price), count.as_hundredths()) + fee;
        }
        Ok(())
    }

    /// Ends an order that is **known** to be over: refused, canceled, expired or filled. What was
    /// not filled is free again.
    ///
    /// # Errors
    ///
    /// [`RiskError::UnknownOrder`] if it is not reserved.
    pub fn close(&mut self, id: &str) -> Result<(), RiskError> {
        let Some(order) = self.orders.remove(id) else {
            return Err(RiskError::UnknownOrder(id.to_owned()));
        };
        if let Some(market) = self.markets.get_mut(&order.market) {
            market.remove(&order);
        }
        if order.day == self.day {
            self.open_today -= order.cost() + order.fee;
        }
        Ok(())
    }

    /// Forgets the fills of a market that is settled or whose position is closed, so that they no
    /// longer count in its loss. Those of its orders that are open still do.
    pub fn forget_market(&mut self, market: &str) {
        match self.markets.get_mut(market) {
            Some(entry) if entry.orders > 0 => {
                entry.if_yes = 0;
                entry.if_no = 0;
            }
            _ => {
                self.markets.remove(market);
            }
        }
    }

    /// Returns what a market could lose at worst, in dollars; zero or less if it cannot lose.
    pub fn market_loss(&self, market: &str) -> Dollars {
        dollars(self.markets.get(market).map_or(0, Market::worst_loss))
    }

    /// Returns what the orders of the day could cost, in dollars, as of the newest time that was
    /// given.
    pub fn day_cost(&self) -> Dollars {
        dollars(self.spent + self.open_today)
    }

    /// Returns the number of orders that are reserved.
    pub fn open_orders(&self) -> usize {
        self.orders.len()
    }

    /// Moves the clock forward. Backward it does not go: an earlier time counts as the newest.
    fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
        let day = self.now.div_euclid(DAY_MS);
        if day > self.day {
            // Orders that rest over midnight count on the day after, too.
            self.day = day;
            self.spent = 0;
            self.open_today = 0;
            for order in self.orders.values_mut() {
                order.day = day;
                self.open_today += order.cost() + order.fee;
            }
        }
        self.forget_old_orders();
    }

    fn forget_old_orders(&mut self) {
        let since = self.now.saturating_sub(MINUTE_MS);
        while self.recent.front().is_some_and(|at| *at <= since) {
            self.recent.pop_front();
        }
    }
}

impl Market {
    fn add(&mut self, order: &Reserved) {
        *self.side(order.is_bid) += order.cost();
        self.fees += order.fee;
        self.orders += 1;
    }

    fn remove(&mut self, order: &Reserved) {
        *self.side(order.is_bid) -= order.cost();
        self.fees -= order.fee;
        self.orders = self.orders.saturating_sub(1);
    }

    fn side(&mut self, is_bid: bool) -> &mut Micros {
        if is_bid { &mut self.bids } else { &mut self.asks }
    }

    fn add_fill(&mut self, is_bid: bool, price: Dollars, hundredths: i64, fee: Micros) {
        let contracts = i128::from(hundredths) * 10_000;
        // Up for what is paid, so that rounding never hides a loss.
        let paid = cost(unit_cost(is_bid, price), hundredths);
        let (winner, loser) = if is_bid {
            (&mut self.if_yes, &mut self.if_no)
        } else {
            (&mut self.if_no, &mut self.if_yes)
        };
        *winner += contracts - paid - fee;
        *loser -= paid + fee;
    }
}

/// Checks the numbers of an order, and returns whether it is a bid.
fn check(order: &OrderRisk<'_>) -> Result<bool, RiskError> {
    if order.fee.is_negative() {
        return Err(RiskError::Invalid(format!("the fee {}", order.fee)));
    }
    check_numbers(order)
}

/// Checks what an order and a fill have in common, and returns whether it is a bid. The fee of a
/// fill may be one that was given back.
fn check_numbers(order: &OrderRisk<'_>) -> Result<bool, RiskError> {
    if order.price.is_negative() || order.price > Dollars::ONE {
        return Err(RiskError::Invalid(format!("the price {}", order.price)));
    }
    if order.count.is_negative() {
        return Err(RiskError::Invalid(format!("the count {}", order.count)));
    }
    match &order.side {
        BookSide::Bid => Ok(true),
        BookSide::Ask => Ok(false),
        other => Err(RiskError::Invalid(format!("the side {:?}", other.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    fn ceilings(order: &str, market: &str, day: &str, minute: u32) -> Ceilings {
        Ceilings::builder()
            .with_order_cost(Ceiling::AtMost(usd(order)))
            .with_market_loss(Ceiling::AtMost(usd(market)))
            .with_day_cost(Ceiling::AtMost(usd(day)))
            .with_orders_per_minute(Ceiling::AtMost(minute))
            .build()
            .unwrap()
    }

    fn order<'a>(id: &'a str, side: BookSide, price: &str, count: &str) -> OrderRisk<'a> {
        let (price, count) = (usd(price), count.parse().unwrap());
        OrderRisk { id, market: "M", side, price, count, fee: Dollars::ZERO }
    }

    #[test]
    fn each_ceiling_refuses_by_itself() {
        let bid = |id| order(id, BookSide::Bid, "0.50", "10");
        let mut one = RiskLedger::new(ceilings("4.99", "100", "100", 10));
        assert_eq!(
            one.reserve(at(0), &bid("a")).unwrap_err().to_string(),
            "the order can cost 5.0000, and the ceiling order_cost is 4.9900"
        );
        let mut market = RiskLedger::new(ceilings("5", "9.99", "100", 10));
        market.reserve(at(0), &bid("a")).unwrap();
        assert_eq!(
            market.reserve(at(0), &bid("b")).unwrap_err().to_string(),
            "with the order M could lose 10.0000, and the ceiling market_loss is 9.9900"
        );
        let mut day = RiskLedger::new(ceilings("5", "100", "9.99", 10));
        day.reserve(at(0), &bid("a")).unwrap();
        assert!(matches!(day.reserve(at(0), &bid("b")), Err(RiskError::DayCost { .. })));
        let mut minute = RiskLedger::new(ceilings("5", "100", "100", 2));
        minute.reserve(at(0), &bid("a")).unwrap();
        minute.reserve(at(1_000), &bid("b")).unwrap();
        let error = minute.reserve(at(2_000), &bid("c")).unwrap_err();
        assert_eq!(error, RiskError::OrdersPerMinute { asked: 3, ceiling: 2, at: at(60_000) });
        minute.reserve(at(60_000), &bid("c")).unwrap();
    }

    #[test]
    fn a_bid_and_an_ask_lose_in_different_outcomes() {
        let mut ledger = RiskLedger::new(ceilings("100", "100", "1000", 100));
        ledger.reserve(at(0), &order("bid", BookSide::Bid, "0.40", "10")).unwrap();
        ledger.reserve(at(0), &order("ask", BookSide::Ask, "0.60", "10")).unwrap();
        assert_eq!(ledger.market_loss("M"), usd("4"));
        // Both filled: two dollars are won whatever the outcome.
        let ten = "10".parse().unwrap();
        ledger.fill("bid", usd("0.40"), ten, Dollars::ZERO).unwrap();
        ledger.fill("ask", usd("0.60"), ten, Dollars::ZERO).unwrap();
        assert_eq!(ledger.market_loss("M"), usd("-2"));
        assert_eq!(ledger.day_cost(), usd("8"));
    }

    #[test]
    fn what_is_canceled_unfilled_is_free_again_and_what_is_unknown_is_not() {
        let mut ledger = RiskLedger::new(ceilings("5", "5", "5", 100));
        let bid = |id| order(id, BookSide::Bid, "0.50", "10");
        ledger.reserve(at(0), &bid("a")).unwrap();
        assert!(ledger.reserve(at(0), &bid("b")).is_err());
        ledger.fill("a", usd("0.50"), "4".parse().unwrap(), Dollars::ZERO).unwrap();
        assert_eq!(ledger.day_cost(), usd("5"));
        ledger.close("a").unwrap();
        assert_eq!(ledger.day_cost(), usd("2"));
        assert_eq!(ledger.market_loss("M"), usd("2"));
        assert_eq!(ledger.close("a"), Err(RiskError::UnknownOrder("a".to_owned())));
    }

    #[test]
    fn a_new_day_counts_what_still_rests() {
        let mut ledger = RiskLedger::new(ceilings("5", "100", "5", 100));
        ledger.reserve(at(0), &order("a", BookSide::Bid, "0.10", "10")).unwrap();
        ledger.reserve(at(0), &order("b", BookSide::Bid, "0.40", "10")).unwrap();
        ledger.fill("b", usd("0.40"), "10".parse().unwrap(), Dollars::ZERO).unwrap();
        ledger.close("b").unwrap();
        // The clock goes a day ahead and back: the day does not begin anew.
        ledger.reserve(at(DAY_MS), &order("c", BookSide::Bid, "0.40", "10")).unwrap();
        assert_eq!(ledger.day_cost(), usd("5"));
        assert!(ledger.reserve(at(0), &order("d", BookSide::Bid, "0.10", "10")).is_err());
    }

    #[test]
    fn a_refusal_names_the_ceiling_its_value_and_what_was_asked_for() {
        let mut ledger = RiskLedger::new(ceilings("5", "6", "7", 1));
        let text = |ledger: &mut RiskLedger, order: &OrderRisk<'_>| {
            ledger.reserve(at(0), order).unwrap_err().to_string()
        };
        let large = order("a", BookSide::Bid, "0.50", "11");
        assert_eq!(
            text(&mut ledger, &large),
            "the order can cost 5.5000, and the ceiling order_cost is 5.0000"
        );
        ledger.reserve(at(0), &order("a", BookSide::Bid, "0.50", "10")).unwrap();
        assert_eq!(
            text(&mut ledger, &order("b", BookSide::Bid, "0.50", "3")),
            "with the order M could lose 6.5000, and the ceiling market_loss is 6.0000"
        );
        let elsewhere = OrderRisk { market: "N", ..order("b", BookSide::Bid, "0.50", "5") };
        assert_eq!(
            text(&mut ledger, &elsewhere),
            "with the order this day (UTC) could cost 7.5000, and the ceiling day_cost is 7.0000"
        );
        let small = OrderRisk { market: "N", ..order("b", BookSide::Bid, "0.10", "1") };
        assert_eq!(
            text(&mut ledger, &small),
            "2 orders within a minute were asked for, and the ceiling orders_per_minute is 1: the \
             next may be made at 60000"
        );
    }

    #[test]
    fn what_does_not_raise_the_worst_loss_is_not_held_back_by_it() {
        let mut ledger = RiskLedger::new(ceilings("100", "5", "100", 100));
        // A position that the ceiling would not have let in: 20 YES for 8 dollars.
        ledger.record_position("M", "20".parse().unwrap(), usd("8"), Dollars::ZERO, Dollars::ZERO);
        assert_eq!(ledger.market_loss("M"), usd("8"));
        assert!(ledger.check(at(0), &order("a", BookSide::Bid, "0.01", "1")).is_err());
        ledger.reserve(at(0), &order("b", BookSide::Ask, "0.30", "20")).unwrap();
        // The rest would open a position on the other side: its loss is above the ceiling.
        assert!(ledger.check(at(0), &order("c", BookSide::Ask, "0.30", "30")).is_err());
        ledger.record_fill(at(1), &order("b", BookSide::Ask, "0.30", "20")).unwrap();
        ledger.close("b").unwrap();
        assert_eq!(ledger.market_loss("M"), usd("2"));
    }

    #[test]
    fn what_is_held_takes_the_place_of_what_was_reserved() {
        let mut ledger = RiskLedger::new(ceilings("5", "5", "5", 100));
        ledger.reserve(at(0), &order("a", BookSide::Bid, "0.50", "10")).unwrap();
        ledger.hold(at(0), &order("a", BookSide::Bid, "0.50", "4")).unwrap();
        assert_eq!((ledger.day_cost(), ledger.open_orders()), (usd("2"), 1));
        // It is what it is, whatever the ceilings say.
        ledger.hold(at(0), &order("foreign", BookSide::Bid, "0.90", "10")).unwrap();
        assert_eq!(ledger.market_loss("M"), usd("11"));
        assert!(ledger.check(at(0), &order("b", BookSide::Bid, "0.01", "1")).is_err());
        ledger.close("foreign").unwrap();
        // A change is measured in the stead of what it changes, and is no order of the minute.
        assert!(ledger.check_change(at(0), &order("a", BookSide::Bid, "0.60", "8")).is_ok());
        assert!(ledger.check_change(at(0), &order("a", BookSide::Bid, "0.60", "9")).is_err());
        let unknown = ledger.check_change(at(0), &order("z", BookSide::Bid, "0.60", "1"));
        assert_eq!(unknown, Err(RiskError::UnknownOrder("z".to_owned())));
        assert_eq!(ledger.day_cost(), usd("2"));
    }

    #[test]
    fn what_was_spent_before_counts_on_the_day_and_not_in_the_market() {
        let mut ledger = RiskLedger::new(ceilings("5", "5", "5", 2));
        ledger.record_spent(at(0), &order("", BookSide::Bid, "0.40", "10")).unwrap();
        assert_eq!((ledger.day_cost(), ledger.market_loss("M")), (usd("4"), Dollars::ZERO));
        assert!(ledger.check(at(0), &order("a", BookSide::Bid, "0.50", "4")).is_err());
        ledger.record_order(at(0));
        ledger.record_order(at(30_000));
        let error = ledger.check(at(30_000), &order("a", BookSide::Bid, "0.50", "1")).unwrap_err();
        assert_eq!(error, RiskError::OrdersPerMinute { asked: 3, ceiling: 2, at: at(60_000) });
        assert!(ledger.check(at(60_000), &order("a", BookSide::Bid, "0.50", "1")).is_ok());
    }

    #[test]
    fn a_running_ledger_is_only_tightened() {
        let mut ledger = RiskLedger::new(ceilings("5", "5", "5", 5));
        for (name, to) in [
            ("order_cost", ceilings("6", "5", "5", 5)),
            ("market_loss", ceilings("5", "6", "5", 5)),
            ("day_cost", ceilings("5", "5", "6", 5)),
            ("orders_per_minute", ceilings("5", "5", "5", 6)),
            ("order_cost", Ceilings::unlimited()),
        ] {
            assert_eq!(ledger.tighten(to), Err(CeilingsError::Raised(name)));
        }
        let lower = ceilings("1", "5", "4", 5);
        ledger.tighten(lower).unwrap();
        assert_eq!(ledger.ceilings(), lower);
    }

    #[test]
    fn numbers_that_no_order_has_are_refused() {
        let mut ledger = RiskLedger::new(Ceilings::unlimited());
        for (order, what) in [
            (order("a", BookSide::Bid, "1.01", "1"), "the price 1.0100"),
            (order("a", BookSide::Bid, "-0.01", "1"), "the price -0.0100"),
            (order("a", BookSide::Bid, "0.5", "-1"), "the count -1.00"),
            (order("a", BookSide::from("x"), "0.5", "1"), "the side \"x\""),
            (
                OrderRisk { fee: usd("-1"), ..order("a", BookSide::Bid, "0.5", "1") },
                "the fee -1.0000",
            ),
        ] {
            let error = ledger.reserve(at(0), &order).unwrap_err();
            assert_eq!(error.to_string(), format!("an order cannot have {what}"));
        }
        assert_eq!(ledger.open_orders(), 0);
    }

    #[test]
    fn a_ceiling_below_zero_is_no_ceiling() {
        let error = Ceilings::builder().with_order_cost(Ceiling::AtMost(usd("-1"))).build();
        assert_eq!(error, Err(CeilingsError::Negative("order_cost")));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve { order: u8, bid: bool, price: i64, count: i64 },
        Fill { order: u8, part: i64 },
        Close { order: u8 },
        Wait { ms: i64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8_u8, any::<bool>(), 1_i64..100, 1_i64..2_000)
                .prop_map(|(order, bid, price, count)| Step::Reserve { order, bid, price, count }),
            (0..8_u8, 1_i64..1_000).prop_map(|(order, part)| Step::Fill { order, part }),
            (0..8_u8).prop_map(|order| Step::Close { order }),
            (-1_000_i64..30_000).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    proptest! {
        /// Whatever happens: in no outcome, with no choice of the open orders filled, is more lost
        /// than the ceiling of the market; no day costs more than its ceiling; no minute has more
        /// orders.
        #[test]
        fn no_sequence_of_orders_breaks_a_ceiling(steps in prop::collection::vec(step(), 1..80)) {
            let limits = ceilings("12", "20", "40", 5);
            let mut ledger = RiskLedger::new(limits);
            // A book of its own, by brute force: (bid, price in cents, open hundredths).
            let mut open: BTreeMap<String, (bool, i64, i64)> = BTreeMap::new();
            let mut fills: Vec<(bool, i64, i64)> = Vec::new();
            let mut times: Vec<i64> = Vec::new();
            let mut now = 0_i64;
            for step in steps {
                match step {
                    Step::Reserve { order: id, bid, price, count } => {
                        let id = id.to_string();
                        let side = if bid { BookSide::Bid } else { BookSide::Ask };
                        let risk = OrderRisk {
                            id: &id, market: "M", side,
                            price: Dollars::from_cents(price).unwrap(),
                            count: Count::from_hundredths(count), fee: Dollars::ZERO,
                        };
                        if ledger.reserve(at(now), &risk).is_ok() {
                            prop_assert!(open.insert(id, (bid, price, count)).is_none());
                            times.push(now);
                        }
                    }
                    Step::Fill { order, part } => {
                        let id = order.to_string();
                        let count = open.get(&id).map_or(part, |(.., left)| part.min(*left));
                        let price = open.get(&id).map_or(50, |(_, price, _)| *price);
                        let price = Dollars::from_cents(price).unwrap();
                        let filled = ledger.fill(&id, price, Count::from_hundredths(count), Dollars::ZERO);
                        prop_assert_eq!(filled.is_ok(), open.contains_key(&id));
                        if let Some((bid, price, left)) = open.get_mut(&id) {
                            *left -= count;
                            fills.push((*bid, *price, count));
                        }
                    }
                    Step::Close { order } => {
                        let id = order.to_string();
                        prop_assert_eq!(ledger.close(&id).is_ok(), open.remove(&id).is_some());
                    }
                    Step::Wait { ms } => now += ms,
                }
                // In micro-dollars: a hundredth of a contract at a cent is 100.
                let value = |(bid, price, count): &(bool, i64, i64), yes: bool| -> i64 {
                    let paid = if *bid { *price } else { 100 - *price };
                    let wins = if *bid == yes { 100 } else { 0 };
                    (wins - paid) * count * 100
                };
                for yes in [false, true] {
                    let sure: i64 = fills.iter().map(|fill| value(fill, yes)).sum();
                    let worst: i64 = open.values().map(|order| value(order, yes).min(0)).sum();
                    prop_assert!(-(sure + worst) <= 20_000_000);
                }
                let newest = times.iter().copied().max().unwrap_or_default();
                let minute = times.iter().filter(|time| **time > newest - MINUTE_MS).count();
                prop_assert!(minute <= 5, "{minute} orders");
                prop_assert!(ledger.day_cost() <= usd("40"));
                prop_assert_eq!(ledger.open_orders(), open.len());
            }
        }
    }
}
