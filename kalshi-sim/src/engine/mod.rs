//! The matching engine: a pure state machine. A command and the time go in; a reply or a refusal
//! comes out, and events for the streams are left to be taken.
//!
//! No sockets, no clock, no randomness, no floats. The same commands at the same times give the
//! same state, the same ids and the same events.

pub(crate) mod amount;
mod block;
pub(crate) mod book;
pub(crate) mod command;
mod event_fees;
pub(crate) mod fees;
pub(crate) mod groups;
pub(crate) mod history;
pub(crate) mod ids;
mod ledger;
pub(crate) mod log;
pub(crate) mod markets;
pub(crate) mod matching;
#[cfg(test)]
mod matching_model;
mod orders;
mod position_transfer;
pub(crate) mod principal;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod random_run;
pub(crate) mod rfq;
mod tiers;
pub(crate) mod types;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, DefaultHasher},
};

use kalshi_types::Count;
use serde::{Deserialize, Serialize};

#[cfg(test)]
use self::groups::WINDOW_MILLIS;
pub(crate) use self::{
    block::{Block, NewBlock},
    groups::{Group, OrderGroups},
    ledger::{Account, LAST_SUBACCOUNT, Ledger, Payment, Position},
    markets::{Bar, Market, Minute},
    position_transfer::PositionTransfer,
    tiers::Cutoffs,
};
use crate::engine::{
    ids::{
        AccountId, BatchId, BatchQuoteId, BlockId, GroupId, MarketId, OrderId, QuoteId, RfqId,
        TradeId,
    },
    log::Log,
    matching::Matching,
    rfq::RfqBook,
    types::{Event, Order, PositionKey, Refusal, Shard, Time, Trade},
};

/// The shards that there are.
pub(crate) const SHARDS: [(Shard, &str); 4] =
    [(0, "default"), (1, "combos"), (2, "crypto"), (3, "tennis and baseball")];

/// The pauses of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardState {
    /// Off during an exchange pause: nothing goes, not even a cancel.
    pub(crate) exchange_active: bool,
    /// Off during a trading pause: cancels still go.
    pub(crate) trading_active: bool,
}

impl Default for ShardState {
    fn default() -> Self {
        Self { exchange_active: true, trading_active: true }
    }
}

/// Something that falls due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Timer {
    Open(MarketId),
    Close(MarketId),
    /// Cancels what still rests a moment after the close.
    Sweep(MarketId),
    Pay(MarketId),
    Expire(OrderId),
    /// The maker's time to confirm is over.
    VoidQuote(QuoteId),
    ExecuteQuote(QuoteId),
    ForgetQuote(QuoteId),
    ForgetRfq(RfqId),
    /// A batch quote was not sent again in time.
    LapseBatchQuote(BatchQuoteId),
    /// The winners' time to confirm is over.
    VoidBatch(BatchId),
    ExecuteBatch(BatchId),
    ForgetBatch(BatchId),
    ExpireBlock(BlockId),
}

/// Hashes alike in every run, so that the same commands give the same state.
type Stable = BuildHasherDefault<DefaultHasher>;

/// The exchange's books and money.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Engine {
    pub(crate) ledger: Ledger,
    markets: Vec<Market>,
    tickers: HashMap<String, MarketId, Stable>,
    orders: Log<Order>,
    trades: Vec<Trade>,
    groups: BTreeMap<GroupId, Group>,
    last_group: u64,
    rfq_book: RfqBook,
    blocks: BTreeMap<BlockId, Block>,
    last_block: u64,
    /// The rank in a queue that was given last.
    last_queue_priority: u64,
    shards: BTreeMap<Shard, ShardState>,
    /// The number of markets, from the first on, that have left the live tier.
    archived: usize,
    cutoffs: Cutoffs,
    timers: BTreeMap<(Time, u64), Timer>,
    last_timer: u64,
    now: Time,
    /// The number of the action that is carried out: a command, or what fell due.
    #[serde(default)]
    action: u64,
    #[serde(skip)]
    events: Vec<Event>,
    /// A client order id is free again when its order is over.
    #[serde(skip)]
    pub(crate) reuse_client_order_ids: bool,
}

impl Engine {
    /// Lets time pass: opens and closes markets, expires orders, pays settlements. Time that goes
    /// backwards stands still.
    pub(crate) fn advance(&mut self, now: Time) {
        self.begin_action();
        while let Some(entry) = self.timers.first_entry() {
            let (due, _) = *entry.key();
            if due > now {
                break;
            }
            let timer = entry.remove();
            self.now = self.now.max(due);
            self.begin_action();
            match timer {
                Timer::Open(market) => self.open(market),
                Timer::Close(market) => self.close(market),
                Timer::Sweep(market) => self.sweep(market),
                Timer::Pay(market) => self.settle(market),
                Timer::Expire(order) => self.expire(order),
                Timer::VoidQuote(quote) => self.void_quote(quote),
                Timer::ExecuteQuote(quote) => self.execute_quote(quote),
                Timer::ForgetQuote(quote) => self.forget_quote(quote),
                Timer::ForgetRfq(rfq) => self.forget_rfq(rfq),
                Timer::LapseBatchQuote(quote) => self.lapse_batch_quote(quote),
                Timer::VoidBatch(batch) => self.void_batch(batch),
                Timer::ExecuteBatch(batch) => self.execute_batch(batch),
                Timer::ForgetBatch(batch) => self.forget_batch(batch),
                Timer::ExpireBlock(block) => self.expire_block(block),
            }
        }
        self.now = self.now.max(now);
        self.begin_action();
    }

    fn begin_action(&mut self) {
        self.action += 1;
        self.ledger.history.begin(self.now, self.action);
    }

    /// Returns the time of the last command.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Returns the time at which something falls due next.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the events since the last call, oldest first.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns the number of events since they were taken.
    #[cfg(feature = "ui")]
    pub(crate) fn pending_events(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn market(&self, id: MarketId) -> Option<&Market> {
        self.markets.get(id.index())
    }

    pub(crate) fn order(&self, id: OrderId) -> Option<&Order> {
        self.orders.get(id.index())
    }

    pub(crate) fn trade(&self, id: TradeId) -> Option<&Trade> {
        self.trades.get(id.index())
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(crate) fn shard(&self, shard: Shard) -> ShardState {
        self.shards.get(&shard).copied().unwrap_or_default()
    }

    fn market_mut(&mut self, id: MarketId) -> Option<&mut Market> {
        let market = self.markets.get_mut(id.index());
        self.ledger.history.note_market(market.as_deref());
        market
    }

    fn order_mut(&mut self, id: OrderId) -> Option<&mut Order> {
        let order = self.orders.get_mut(id.index());
        if order.is_some() {
            self.ledger.history.note_order(id, order.as_deref());
        }
        order
    }

    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Emits a change of a level of a market's book, which has the number of the action from now
    /// on.
    fn emit_level(&mut self, order: &Order, delta: Count) {
        let clock = self.action;
        if let Some(market) = self.market_mut(order.market) {
            market.clock = clock;
        }
        let Order { id, market, side, price, .. } = *order;
        self.emit(Event::Level { market, side, price, delta, order: id, clock });
    }

    fn schedule(&mut self, at: Time, timer: Timer) {
        self.last_timer += 1;
        self.timers.insert((at, self.last_timer), timer);
    }

    fn next_queue_priority(&mut self) -> u64 {
        self.last_queue_priority += 1;
        self.last_queue_priority
    }

    fn position_key(&self, order: &Order) -> PositionKey {
        let shard = self.market(order.market).map_or(0, |market| market.shard);
        PositionKey {
            account: order.account,
            subaccount: order.subaccount,
            market: order.market,
            shard,
        }
    }

    fn account(&self, id: AccountId) -> Result<&Account, Refusal> {
        self.ledger.account(id).ok_or_else(|| Refusal::not_found("no such account"))
    }
}
