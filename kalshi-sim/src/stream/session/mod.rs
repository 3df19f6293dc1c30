//! One client's subscriptions: commands and events in, frames out. Pure: no sockets, no clock.

#[cfg(test)]
#[cfg(feature = "perps")]
mod perps_tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

#[cfg(feature = "perps")]
use crate::perps::{engine::PerpsEvent, messages};
use crate::{
    engine::{
        ids::{BatchId, MarketId},
        principal::Principal,
        types::{BatchChange, Event, MarketChange, QuoteChange},
    },
    state::State,
    stream::{
        faults::{Ending, StreamFaults},
        product::{AnyEvent, Product},
        shard::Shard,
        wire,
    },
};

/// The number of markets that one subscription may name.
const MAX_MARKETS: usize = 500_000;
/// The number of commands of one connection in a second.
const MAX_COMMANDS: u32 = 10_000;
/// The number of commands on one subscription in a second. The exchange has such a limit and does
/// not publish the number.
const MAX_COMMANDS_ON_ONE: u32 = 5_000;
/// The shortest time between two messages with the best bids of a batch, in milliseconds.
const BEST_QUOTES_PAUSE: i64 = 250;
/// The shortest time between two tickers of a market of perpetual futures, in milliseconds.
#[cfg(feature = "perps")]
const TICKER_PAUSE: i64 = 1_000;

/// The indices of CF Benchmarks that there are.
pub(crate) const INDICES: [&str; 2] = ["BRTI", "ETHUSD_RTI"];

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) text: String,
    /// The subscription, for a message that may be lost; answers to commands are not.
    pub(crate) data_of: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    OrderbookDelta,
    Ticker,
    Trade,
    Fill,
    MarketPositions,
    MarketLifecycle,
    MultivariateLifecycle,
    Communications,
    OrderGroupUpdates,
    UserOrders,
    CfBenchmarks,
    CfBenchmarks5Hz,
    Pyth,
    #[cfg(feature = "perps")]
    CorporateActions,
}

impl Channel {
    const ALL: &[Self] = &[
        Self::OrderbookDelta,
        Self::Ticker,
        Self::Trade,
        Self::Fill,
        Self::MarketPositions,
        Self::MarketLifecycle,
        Self::MultivariateLifecycle,
        Self::Communications,
        Self::OrderGroupUpdates,
        Self::UserOrders,
        Self::CfBenchmarks,
        Self::CfBenchmarks5Hz,
        Self::Pyth,
        #[cfg(feature = "perps")]
        Self::CorporateActions,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::OrderbookDelta => "orderbook_delta",
            Self::Ticker => "ticker",
            Self::Trade => "trade",
            Self::Fill => "fill",
            Self::MarketPositions => "market_positions",
            Self::MarketLifecycle => "market_lifecycle_v2",
            Self::MultivariateLifecycle => "multivariate_market_lifecycle",
            Self::Communications => "communications",
            Self::OrderGroupUpdates => "order_group_updates",
            Self::UserOrders => "user_orders",
            Self::CfBenchmarks => "cfbenchmarks_value",
            Self::CfBenchmarks5Hz => "cfbenchmarks_value_5hz",
            Self::Pyth => "pyth_value",
            #[cfg(feature = "perps")]
            Self::CorporateActions => "corporate_actions",
        }
    }

    fn parse(product: Product, text: &str) -> Option<Self> {
        let of_product = |channel: &&Self| product.has(**channel);
        Self::ALL.iter().filter(of_product).find(|channel| channel.as_str() == text).copied()
    }

    /// Reports whether it sends values of indices.
    fn is_of_indices(self) -> bool {
        matches!(self, Self::CfBenchmarks | Self::CfBenchmarks5Hz)
    }

    /// Reports whether a list of markets narrows it.
    fn filters_by_market(self) -> bool {
        #[cfg(feature = "perps")]
        if self == Self::CorporateActions {
            return true;
        }
        matches!(
            self,
            Self::OrderbookDelta
                | Self::Ticker
                | Self::Trade
                | Self::Fill
                | Self::MarketPositions
                | Self::UserOrders
        )
    }

    /// Reports whether its messages are numbered.
    fn is_numbered(self) -> bool {
        !matches!(self, Self::Ticker | Self::Fill | Self::MarketPositions | Self::UserOrders)
    }

    /// Returns the indices or underlyings that there are, for channels that send values of them.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::CfBenchmarks | Self::CfBenchmarks5Hz => &INDICES,
            Self::Pyth => &["Crypto.BTC/USD", "Equity.US.SPY/USD"],
            _ => &[],
        }
    }
}

#[derive(Clone, Debug)]
struct Subscription {
    product: Product,
    channel: Channel,
    /// `None`: all.
    markets: Option<BTreeSet<MarketId>>,
    /// The number of the last message.
    seq: u64,
    yes_prices: bool,
    short_acks: bool,
    own_only: bool,
    shard: Option<Shard>,
    names: Names,
    rate: Rate,
    best_quotes: BTreeMap<BatchId, Paced>,
    /// The tickers of markets, where they are merged.
    #[cfg(feature = "perps")]
    tickers: BTreeMap<MarketId, Paced>,
}

/// The indices or underlyings of a subscription.
#[derive(Clone, Debug, Default)]
struct Names {
    /// Every one, whatever has been chosen.
    all: bool,
    chosen: BTreeSet<String>,
}

/// Messages about one thing that are merged when they come too fast: the time at which the last one
/// was sent, and whether something has changed since.
#[derive(Clone, Copy, Debug)]
struct Paced {
    sent: i64,
    is_due: bool,
}

impl Paced {
    const NEVER: Self = Self { sent: i64::MIN, is_due: false };

    /// Reports whether a message may be sent now; if not, it is due later.
    fn may_send(&mut self, pause: i64, now: i64) -> bool {
        self.is_due = now.saturating_sub(self.sent) < pause;
        if !self.is_due {
            self.sent = now;
        }
        !self.is_due
    }

    /// Reports whether what was held back is to be sent now.
    fn is_over(&mut self, pause: i64, now: i64) -> bool {
        let is_over = self.is_due && now.saturating_sub(self.sent) >= pause;
        if is_over {
            *self = Self { sent: now, is_due: false };
        }
        is_over
    }
}

/// Counts the commands of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    second: i64,
    commands: u32,
}

impl Rate {
    /// Counts a command, and reports whether there are more than `limit` in its second.
    fn exceeds(&mut self, limit: u32, second: i64) -> bool {
        if self.second != second {
            *self = Self { second, commands: 0 };
        }
        self.commands = self.commands.saturating_add(1);
        self.commands > limit
    }
}

/// The subscriptions of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    reader: Principal,
    product: Product,
    subscriptions: BTreeMap<u64, Subscription>,
    last_sid: u64,
    /// The faults set when the connection began.
    faults: StreamFaults,
    rate: Rate,
}

/// A subscription as the page shows it.
#[cfg(feature = "ui")]
#[derive(Debug)]
pub(crate) struct SubscriptionView {
    pub(crate) sid: u64,
    pub(crate) channel: &'static str,
    /// The number of markets; `None` stands for all.
    pub(crate) markets: Option<usize>,
    /// The number of the last message; `None` for channels without numbers.
    pub(crate) seq: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Command {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    cmd: String,
    #[serde(default)]
    params: Option<Value>,
}

/// The inputs of a reply to a command.
#[derive(Clone, Copy, Debug)]
struct Response<'a> {
    /// `None` unless the client sent one above zero.
    id: Option<i64>,
    state: &'a State,
    now: i64,
}

impl Response<'_> {
    fn frame(self, kind: &str, sid: Option<u64>, seq: Option<u64>, msg: Option<&Value>) -> Frame {
        let msg = msg.map(Value::to_string);
        let text = wire::frame(kind, self.id, sid, seq, msg.as_deref(), self.now);
        Frame { text, data_of: None }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    channels: Option<Vec<String>>,
    sid: Option<u64>,
    sids: Option<Vec<u64>>,
    action: Option<String>,
    market_ticker: Option<String>,
    market_tickers: Option<Vec<String>>,
    market_id: Option<String>,
    market_ids: Option<Vec<String>>,
    send_initial_snapshot: Option<bool>,
    skip_ticker_ack: Option<bool>,
    use_yes_price: Option<bool>,
    shard_factor: Option<i64>,
    shard_key: Option<i64>,
    user_filter: Option<String>,
    index_ids: Option<Vec<String>>,
    underlying_tickers: Option<Vec<String>>,
}

/// A refusal of a command.
#[derive(Debug)]
struct Refused {
    code: u32,
    words: String,
    /// The market that it is about.
    market: Option<String>,
    /// The subscription that it belongs to.
    sid: Option<u64>,
}

impl Session {
    /// Returns a session with the faults that are set when it begins.
    pub(crate) fn new(reader: Principal, product: Product, faults: StreamFaults) -> Self {
        let rate = Rate::default();
        Self { reader, product, subscriptions: BTreeMap::new(), last_sid: 0, faults, rate }
    }

    /// Carries out a command of the client.
    pub(crate) fn receive(&mut self, text: &str, state: &State, out: &mut Vec<Frame>) {
        let now = state.engine.now();
        let mut reply = Response { id: None, state, now: now.as_millis() };
        let command: Command = match serde_json::from_str(text) {
            Ok(command) => command,
            Err(error) => {
                let refusal = refused(1, format!("no command: {error}"));
                return out.push(self.error(reply, &refusal));
            }
        };
        reply.id = Some(command.id).filter(|id| *id > 0);
        if self.rate.exceeds(MAX_COMMANDS, wire::seconds(now)) {
            return out.push(self.error(reply, &refused(27, "too many commands")));
        }
        if let Err(refusal) = self.carry_out(&command, reply, out) {
            out.push(self.error(reply, &refusal));
        }
    }

    /// Turns what has happened into messages for those who subscribed to it.
    pub(crate) fn publish(&mut self, event: &AnyEvent, state: &State, out: &mut Vec<Frame>) {
        match event {
            AnyEvent::Events(event) if self.product == Product::Events => {
                self.publish_event(event, state, out);
            }
            #[cfg(feature = "perps")]
            AnyEvent::Perps(event) if self.product == Product::Perps => {
                self.publish_perps(event, state, out);
            }
            // Of the other product.
            _ => {}
        }
    }

    #[cfg(feature = "perps")]
    fn publish_perps(&mut self, event: &PerpsEvent, state: &State, out: &mut Vec<Frame>) {
        let now = state.engine.now().as_millis();
        for (sid, subscription) in &mut self.subscriptions {
            if let Some((kind, msg)) = subscription.perps_message(event, state, self.reader, now) {
                out.push(subscription.data(*sid, kind, &msg, now));
            }
        }
    }

    fn publish_event(&mut self, event: &Event, state: &State, out: &mut Vec<Frame>) {
        let now = state.engine.now().as_millis();
        let reader = self.reader;
        for (sid, subscription) in &mut self.subscriptions {
            let Some((kind, msg)) = subscription.message(event, state, reader, now) else {
                continue;
            };
            if let Event::Market { market, change: MarketChange::Created } = event
                && let Some(of) = wire::new_event(state, *market)
            {
                out.push(subscription.data(*sid, "event_lifecycle", &of.to_string(), now));
            }
            out.push(subscription.data(*sid, kind, &msg, now));
        }
    }

    /// Returns the channel of a subscription, and the number of its last message.
    #[cfg(feature = "ui")]
    pub(crate) fn channel(&self, sid: u64) -> Option<(&'static str, u64)> {
        self.subscriptions.get(&sid).map(|one| (one.channel.as_str(), one.seq))
    }

    /// Returns the subscriptions as the page shows them.
    #[cfg(feature = "ui")]
    pub(crate) fn subscriptions(&self) -> Vec<SubscriptionView> {
        let views = self.subscriptions.iter().map(|(sid, one)| SubscriptionView {
            sid: *sid,
            channel: one.channel.as_str(),
            markets: one.markets.as_ref().map(BTreeSet::len),
            seq: one.channel.is_numbered().then_some(one.seq),
        });
        views.collect()
    }

    /// Sends what time makes due: the values of indices and underlyings, once a second or five
    /// times, and the best bids of batches that were held back.
    pub(crate) fn tick(
        &mut self,
        values: &dyn Fn(&str) -> String,
        state: &State,
        fast: bool,
    ) -> Vec<Frame> {
        let now = state.engine.now().as_millis();
        let mut out = Vec::new();
        for (sid, subscription) in &mut self.subscriptions {
            let channel = subscription.channel;
            match channel {
                Channel::CfBenchmarks5Hz => {}
                Channel::CfBenchmarks | Channel::Pyth if !fast => {}
                Channel::Communications => {
                    for msg in subscription.due_best_quotes(state, now) {
                        out.push(subscription.data(*sid, "rfq_batch_best_quotes", &msg, now));
                    }
                    continue;
                }
                #[cfg(feature = "perps")]
                Channel::Ticker => {
                    for msg in subscription.due_tickers(state, now) {
                        out.push(subscription.data(*sid, "ticker", &msg, now));
                    }
                    continue;
                }
                _ => continue,
            }
            for name in subscription.names.values(channel) {
                let msg = named_value(channel, &name, &values(&name), now).to_string();
                out.push(subscription.data(*sid, channel.as_str(), &msg, now));
            }
        }
        out
    }

    /// Ends a subscription whose reader is too slow; returns the frame that says so.
    pub(crate) fn overflow(&mut self, sid: u64, now: i64) -> Option<Frame> {
        self.end(sid, Ending::BufferOverflow, now)
    }

    /// Ends all subscriptions; returns the frames that say so.
    pub(crate) fn end_all(&mut self, ending: Ending, now: i64) -> Vec<Frame> {
        let sids: Vec<u64> = self.subscriptions.keys().copied().collect();
        sids.into_iter().filter_map(|sid| self.end(sid, ending, now)).collect()
    }

    fn end(&mut self, sid: u64, ending: Ending, now: i64) -> Option<Frame> {
        if !self.subscriptions.contains_key(&sid) {
            return None;
        }
        let (code, words) = ending.code_and_words();
        let msg = json!({"code": code, "msg": words}).to_string();
        let (sid_said, seq) = self.place_of_error(Some(sid));
        self.subscriptions.remove(&sid);
        let text = wire::frame("error", None, sid_said, seq, Some(&msg), now);
        Some(Frame { text, data_of: None })
    }

    /// Returns the subscription of an error and its number there, which is taken.
    fn place_of_error(&mut self, sid: Option<u64>) -> (Option<u64>, Option<u64>) {
        let sid = sid.filter(|_| !self.faults.errors_name_nothing);
        (sid, sid.and_then(|sid| self.number_of_reply(sid)))
    }

    /// Takes a number for a reply of the subscription, where its channel has numbers.
    fn number_of_reply(&mut self, sid: u64) -> Option<u64> {
        let subscription = self.subscriptions.get_mut(&sid)?;
        let takes = subscription.channel.is_numbered() && !self.faults.replies_take_no_number;
        takes.then(|| subscription.next_seq())
    }

    fn error(&mut self, reply: Response<'_>, refusal: &Refused) -> Frame {
        let mut msg = json!({"code": refusal.code, "msg": refusal.words});
        if let Some(market) = &refusal.market {
            msg["market_ticker"] = json!(market);
        }
        let (sid, seq) = self.place_of_error(refusal.sid);
        reply.frame("error", sid, seq, Some(&msg))
    }

    fn carry_out(
        &mut self,
        command: &Command,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        if command.cmd == "list_subscriptions" {
            let list: Vec<Value> = self
                .subscriptions
                .iter()
                .map(|(sid, one)| json!({"channel": one.channel.as_str(), "sid": sid}))
                .collect();
            out.push(reply.frame("ok", None, None, Some(&json!(list))));
            return Ok(());
        }
        if !["subscribe", "unsubscribe", "update_subscription"].contains(&command.cmd.as_str()) {
            return Err(refused(5, "unknown command"));
        }
        let params = command.params.clone().ok_or_else(|| refused(2, "params required"))?;
        let params: Params = serde_json::from_value(params)
            .map_err(|error| refused(11, format!("invalid parameter: {error}")))?;
        match command.cmd.as_str() {
            "subscribe" => self.subscribe(&params, reply, out),
            "unsubscribe" => self.unsubscribe(&params, reply, out),
            _ => self.update(&params, reply, out),
        }
    }

    fn subscribe(
        &mut self,
        params: &Params,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let channels = params.channels.as_deref().unwrap_or_default();
        if channels.is_empty() {
            return Err(refused(3, "channels required"));
        }
        let shard = shard(params)?;
        for name in channels {
            // The refusal of one channel leaves the others alone.
            if let Err(refusal) = self.subscribe_one(name, params, shard, reply, out) {
                out.push(self.error(reply, &refusal));
            }
        }
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        name: &str,
        params: &Params,
        shard: Option<Shard>,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let product = self.product;
        let channel = Channel::parse(product, name).ok_or_else(|| refused(8, "unknown channel"))?;
        let markets = markets(product, channel, params, reply.state)?;
        if channel == Channel::OrderbookDelta && markets.is_none() {
            return Err(refused(14, "market ticker required"));
        }
        let mut open = self.subscriptions.iter().filter(|(_, one)| one.channel == channel);
        let existing = open.next().map(|(sid, _)| *sid);
        let mut added = markets.clone();
        let (sid, ack) = if let Some(sid) = existing {
            // Subscribing again adds to what there is, and is answered like a change of it.
            if let Some(subscription) = self.subscriptions.get_mut(&sid) {
                added = subscription.merge(markets);
                subscription.names.add(channel, asked_names(channel, params));
                subscription.short_acks |= params.skip_ticker_ack.unwrap_or(false);
            }
            (sid, self.ok(sid, reply))
        } else {
            self.last_sid += 1;
            let sid = self.last_sid;
            let mut names = Names::default();
            names.add(channel, asked_names(channel, params));
            let subscription = Subscription {
                product,
                channel,
                markets,
                seq: 0,
                yes_prices: params.use_yes_price.unwrap_or(false),
                short_acks: params.skip_ticker_ack.unwrap_or(false),
                own_only: params.user_filter.as_deref() == Some("self"),
                shard,
                names,
                rate: Rate::default(),
                best_quotes: BTreeMap::new(),
                #[cfg(feature = "perps")]
                tickers: BTreeMap::new(),
            };
            self.subscriptions.insert(sid, subscription);
            let msg = json!({"channel": channel.as_str(), "sid": sid});
            (sid, reply.frame("subscribed", None, None, Some(&msg)))
        };
        let has_snapshots = match channel {
            Channel::OrderbookDelta => true,
            Channel::Ticker => params.send_initial_snapshot.unwrap_or(false),
            _ => false,
        };
        let mut first = Vec::new();
        if has_snapshots {
            let unanswered = Response { id: None, ..reply };
            self.snapshots(sid, added.as_ref(), unanswered, &mut first);
        }
        if self.faults.data_before_ack {
            out.append(&mut first);
            out.push(ack);
        } else {
            out.push(ack);
            out.append(&mut first);
        }
        Ok(())
    }

    fn unsubscribe(
        &mut self,
        params: &Params,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let sids: Vec<u64> =
            params.sids.clone().or(params.sid.map(|sid| vec![sid])).unwrap_or_default();
        if sids.is_empty() {
            return Err(refused(4, "sids required"));
        }
        for sid in sids {
            out.push(match self.subscriptions.remove(&sid) {
                Some(mut subscription) => {
                    let seq = subscription.next_seq();
                    reply.frame("unsubscribed", Some(sid), Some(seq), None)
                }
                None => self.error(reply, &refused(7, "unknown subscription id")),
            });
        }
        Ok(())
    }

    fn update(
        &mut self,
        params: &Params,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let sid = match (params.sid, params.sids.as_deref()) {
            (Some(sid), None) => sid,
            (None, Some([sid])) => *sid,
            _ => return Err(refused(12, "exactly one subscription id is required")),
        };
        let Some(subscription) = self.subscriptions.get_mut(&sid) else {
            return Err(refused(7, "unknown subscription id"));
        };
        let second = reply.now.div_euclid(1_000);
        let changed = if subscription.rate.exceeds(MAX_COMMANDS_ON_ONE, second) {
            Err(refused(27, "too many commands on this subscription"))
        } else {
            self.change(sid, params, reply, out)
        };
        changed.map_err(|refusal| Refused { sid: Some(sid), ..refusal })
    }

    /// Changes a subscription that is there.
    fn change(
        &mut self,
        sid: u64,
        params: &Params,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let action = params.action.as_deref().ok_or_else(|| refused(15, "action required"))?;
        let unsupported = || refused(13, "unsupported action");
        let subscription = self.subscriptions.get_mut(&sid).ok_or_else(unsupported)?;
        let (product, channel) = (subscription.product, subscription.channel);
        match action {
            "add_markets" | "delete_markets" if channel.filters_by_market() => {
                let named = required_markets(product, channel, params, reply.state)?;
                if action == "delete_markets" {
                    if let Some(markets) = &mut subscription.markets {
                        markets.retain(|market| !named.contains(market));
                    }
                    out.push(self.ok(sid, reply));
                    return Ok(());
                }
                let added = subscription.merge(Some(named));
                out.push(self.ok(sid, reply));
                let has_snapshots = channel == Channel::OrderbookDelta
                    || (channel == Channel::Ticker && params.send_initial_snapshot == Some(true));
                if has_snapshots {
                    self.snapshots(sid, added.as_ref(), Response { id: None, ..reply }, out);
                }
            }
            "get_snapshot" if channel == Channel::OrderbookDelta => {
                let mut named = required_markets(product, channel, params, reply.state)?;
                if let Some(known) = &subscription.markets {
                    named.retain(|market| known.contains(market));
                }
                self.snapshots(sid, Some(&named), reply, out);
            }
            "subscribe_indices" | "unsubscribe_indices" if channel.is_of_indices() => {
                let named = asked_names(channel, params);
                if named.is_empty() {
                    return Err(refused(24, "index ids required"));
                }
                subscription.names.change(channel, named, action.starts_with("un"));
                out.push(self.ok(sid, reply));
            }
            "subscribe_underlyings" | "unsubscribe_underlyings" if channel == Channel::Pyth => {
                let named = asked_names(channel, params);
                if named.is_empty() {
                    return Err(refused(28, "underlying tickers required"));
                }
                subscription.names.change(channel, named, action.starts_with("un"));
                out.push(self.ok(sid, reply));
            }
            "indexlist" if channel.is_of_indices() => {
                out.push(subscription.list_names(sid, "indexlist", reply));
            }
            "underlying_list" if channel == Channel::Pyth => {
                out.push(subscription.list_names(sid, "underlying_list", reply));
            }
            _ => return Err(unsupported()),
        }
        Ok(())
    }

    /// Returns the `ok` of a change, with what the subscription has now.
    fn ok(&mut self, sid: u64, reply: Response<'_>) -> Frame {
        let seq = self.number_of_reply(sid);
        let msg = self.subscriptions.get(&sid).and_then(|one| one.contents(reply.state));
        reply.frame("ok", Some(sid), seq, msg.as_ref())
    }

    fn snapshots(
        &mut self,
        sid: u64,
        markets: Option<&BTreeSet<MarketId>>,
        reply: Response<'_>,
        out: &mut Vec<Frame>,
    ) {
        let state = reply.state;
        let Some(subscription) = self.subscriptions.get_mut(&sid) else { return };
        let all: Vec<MarketId> = match markets {
            Some(markets) => markets.iter().copied().collect(),
            None => subscription.product.trading(state),
        };
        for market in all {
            let product = subscription.product;
            let (kind, msg) = if subscription.channel == Channel::Ticker {
                ("ticker", product.ticker(state, market))
            } else {
                let snapshot = product.snapshot(state, market, subscription.yes_prices);
                ("orderbook_snapshot", snapshot)
            };
            let Some(msg) = msg else { continue };
            let seq = subscription.number();
            let text = wire::frame(kind, reply.id, Some(sid), seq, Some(&msg), reply.now);
            out.push(Frame { text, data_of: Some(sid) });
        }
    }
}

impl Names {
    /// Adds names, of those that there are.
    fn add(&mut self, channel: Channel, names: &[String]) {
        self.change(channel, names, false);
    }

    /// Adds names, or takes them out. `all` is a mode of its own: it hides what has been chosen, and
    /// ends without a trace.
    fn change(&mut self, channel: Channel, names: &[String], is_removal: bool) {
        for name in names {
            if name == "all" {
                self.all = !is_removal;
            } else if is_removal {
                self.chosen.remove(name);
            } else if channel.names().contains(&name.as_str()) {
                self.chosen.insert(name.clone());
            }
        }
    }

    /// Returns the names that values are sent of.
    fn values(&self, channel: Channel) -> Vec<String> {
        if self.all {
            channel.names().iter().map(|name| (*name).to_owned()).collect()
        } else {
            self.chosen.iter().cloned().collect()
        }
    }

    /// Returns the names as a reply lists them.
    fn listed(&self) -> Value {
        if self.all { json!(["all"]) } else { json!(self.chosen) }
    }
}

impl Subscription {
    /// Adds markets; gives those that are new. All markets stay all markets.
    fn merge(&mut self, more: Option<BTreeSet<MarketId>>) -> Option<BTreeSet<MarketId>> {
        match (&mut self.markets, more) {
            (Some(markets), Some(more)) => {
                let new: BTreeSet<MarketId> = more.difference(markets).copied().collect();
                markets.extend(new.iter().copied());
                Some(new)
            }
            (markets, None) => {
                *markets = None;
                None
            }
            (None, Some(_)) => Some(BTreeSet::new()),
        }
    }

    /// Reports whether this part of the fan-out carries the messages of a market, or of a batch.
    fn in_shard(&self, key: &str) -> bool {
        self.shard.is_none_or(|shard| shard.takes(key))
    }

    /// Returns what the subscription has, as `ok` lists it.
    fn contents(&self, state: &State) -> Option<Value> {
        if self.channel == Channel::Pyth {
            return Some(json!({"underlying_tickers": self.names.listed()}));
        }
        if self.channel.is_of_indices() {
            return Some(json!({"index_ids": self.names.listed()}));
        }
        let markets = self.markets.as_ref().filter(|_| !self.short_acks)?;
        let ticker = |market: &MarketId| self.product.name(state, *market);
        let tickers: Vec<&str> = markets.iter().filter_map(ticker).collect();
        Some(json!({"market_tickers": tickers}))
    }

    /// Returns the list of the names that there are.
    fn list_names(&mut self, sid: u64, suffix: &str, reply: Response<'_>) -> Frame {
        let key = if self.channel == Channel::Pyth { "underlying_tickers" } else { "index_ids" };
        let kind = format!("{}_{suffix}", self.channel.as_str());
        let msg = json!({key: self.channel.names()});
        reply.frame(&kind, Some(sid), self.number(), Some(&msg))
    }

    fn wants(&self, market: MarketId) -> bool {
        self.markets.as_ref().is_none_or(|markets| markets.contains(&market))
    }

    /// Returns the message about an event, if the subscription gets one.
    fn message(
        &mut self,
        event: &Event,
        state: &State,
        reader: Principal,
        now: i64,
    ) -> Option<(&'static str, String)> {
        if self.channel == Channel::Communications {
            return self.communication(event, state, reader, now);
        }
        let (kind, msg) = match (self.channel, event) {
            (Channel::OrderbookDelta, Event::Level { market, .. }) if self.wants(*market) => {
                return Some((
                    "orderbook_delta",
                    wire::delta(state, event, reader, self.yes_prices)?,
                ));
            }
            (Channel::Ticker, Event::Ticker { market }) if self.wants(*market) => {
                ("ticker", wire::ticker(state, state.engine.market(*market)?))
            }
            (Channel::Trade, Event::Trade { trade }) => {
                let market = state.engine.trade(*trade)?.market;
                ("trade", self.wants(market).then(|| wire::trade(state, *trade))??)
            }
            (Channel::Fill, Event::Fill { account, fill }) => {
                let fill = state.engine.ledger.account(*account)?.fills.get(*fill)?;
                let wanted = reader.owns(*account, fill.subaccount) && self.wants(fill.market);
                ("fill", wanted.then(|| wire::fill(state, fill))??)
            }
            (Channel::UserOrders, Event::Order { account, order, reason }) => {
                let found = state.engine.order(*order)?;
                let wanted = reader.owns(*account, found.subaccount) && self.wants(found.market);
                ("user_order", wanted.then(|| wire::user_order(state, *order, *reason))??)
            }
            (Channel::MarketPositions, Event::Position { account, subaccount, market })
                if reader.owns(*account, *subaccount) && self.wants(*market) =>
            {
                ("market_position", wire::position(state, *account, *subaccount, *market)?)
            }
            (Channel::OrderGroupUpdates, Event::Group { account, subaccount, group, change })
                if reader.owns(*account, *subaccount) =>
            {
                ("order_group_updates", wire::group(state, *group, *change))
            }
            (Channel::MarketLifecycle, Event::Market { market, change }) => {
                let market = state.engine.market(*market).filter(|one| !wire::is_combo(one))?;
                ("market_lifecycle_v2", wire::lifecycle(state, market, *change))
            }
            (Channel::MarketLifecycle, Event::FeeOverride { event_ticker, fees }) => {
                ("event_fee_update", wire::event_fee(event_ticker, *fees))
            }
            (Channel::MultivariateLifecycle, Event::Market { market, change }) => {
                let market = state.engine.market(*market).filter(|one| wire::is_combo(one))?;
                ("multivariate_market_lifecycle", wire::combo_lifecycle(state, market, *change)?)
            }
            _ => return None,
        };
        Some((kind, msg.to_string()))
    }

    /// Returns the message about an event of perpetual futures, if the subscription gets one.
    #[cfg(feature = "perps")]
    fn perps_message(
        &mut self,
        event: &PerpsEvent,
        state: &State,
        reader: Principal,
        now: i64,
    ) -> Option<(&'static str, String)> {
        let market = messages::market_of(state, event);
        if market.is_some_and(|market| !self.wants(market)) {
            return None;
        }
        let msg = match (self.channel, event) {
            (Channel::OrderbookDelta, PerpsEvent::Matched(event @ Event::Level { .. })) => {
                ("orderbook_delta", messages::delta(state, event, reader)?)
            }
            (Channel::Ticker, PerpsEvent::Matched(Event::Ticker { market })) => {
                let paced = self.tickers.entry(*market).or_insert(Paced::NEVER);
                let may_send = paced.may_send(TICKER_PAUSE, now);
                ("ticker", may_send.then(|| messages::ticker(state, *market))??)
            }
            (Channel::Trade, PerpsEvent::Matched(Event::Trade { trade })) => {
                ("trade", messages::trade(state, *trade)?)
            }
            (Channel::Fill, PerpsEvent::Matched(Event::Fill { account, fill })) => {
                ("fill", messages::fill(state, reader, *account, *fill)?)
            }
            (Channel::UserOrders, PerpsEvent::Matched(Event::Order { order, .. })) => {
                ("user_order", messages::user_order(state, reader, *order)?)
            }
            (
                Channel::OrderGroupUpdates,
                PerpsEvent::Matched(Event::Group { account, subaccount, group, change }),
            ) if reader.owns(*account, *subaccount) => {
                ("order_group_updates", messages::group(state, *group, *change))
            }
            (Channel::CorporateActions, PerpsEvent::Action(action)) => {
                ("corporate_actions_delta", messages::corporate_action(state, *action)?)
            }
            _ => return None,
        };
        Some((msg.0, msg.1.to_string()))
    }

    /// Returns the tickers that were held back long enough.
    #[cfg(feature = "perps")]
    fn due_tickers(&mut self, state: &State, now: i64) -> Vec<String> {
        let due = self.tickers.iter_mut().filter(|(_, paced)| paced.is_due);
        let due = due.filter_map(|(id, paced)| paced.is_over(TICKER_PAUSE, now).then_some(*id));
        due.filter_map(|market| self.product.ticker(state, market)).collect()
    }

    /// Returns the message about a request for quotes, a quote, or a batch of them.
    fn communication(
        &mut self,
        event: &Event,
        state: &State,
        reader: Principal,
        now: i64,
    ) -> Option<(&'static str, String)> {
        let ticker = |market| state.engine.market(market).map(|market| market.ticker.as_str());
        let (kind, msg) = match event {
            Event::Rfq { rfq, created } => {
                let rfq = state.engine.rfq(*rfq)?;
                // Those of a batch are announced with it.
                let is_hidden = rfq.batch.is_some()
                    || self.own_only && !reader.owns(rfq.account, rfq.subaccount)
                    || !self.in_shard(ticker(rfq.market)?);
                let kind = if *created { "rfq_created" } else { "rfq_deleted" };
                (kind, (!is_hidden).then(|| wire::rfq(state, rfq, reader.account, *created))??)
            }
            Event::Quote { quote, change } => {
                let quote = state.engine.quote(*quote)?;
                // The other changes of a part come with its batch quote.
                let is_told = quote.batch.is_none() || *change == QuoteChange::Executed;
                let market = state.engine.rfq_of(quote)?.market;
                let is_told = is_told && self.in_shard(ticker(market)?);
                is_told.then(|| wire::quote(state, quote, reader, *change))??
            }
            Event::Batch { batch, change } => {
                let batch = state.engine.batch(*batch)?;
                if !self.in_shard(&batch.id.to_string()) {
                    return None;
                }
                let is_own = reader.owns(batch.account, batch.subaccount);
                let is_shown = is_own || !self.own_only;
                if batch.closed.is_some() {
                    self.best_quotes.remove(&batch.id);
                }
                match change {
                    BatchChange::Created if is_shown => {
                        ("rfq_batch_created", wire::batch(state, batch, reader.account))
                    }
                    BatchChange::Deleted if is_shown => {
                        ("rfq_batch_deleted", wire::batch_deleted(batch, reader.account))
                    }
                    BatchChange::Executed if is_own => {
                        ("rfq_batch_executed", wire::batch_executed(state, batch))
                    }
                    BatchChange::BestQuotes if is_own && self.may_send_best(batch.id, now) => {
                        ("rfq_batch_best_quotes", wire::best_quotes(state, batch)?)
                    }
                    _ => return None,
                }
            }
            Event::BatchQuote { quote, change } => {
                let quote = state.engine.batch_quote(*quote)?;
                let is_told = reader.owns(quote.account, quote.subaccount)
                    && self.in_shard(&quote.batch.to_string());
                is_told.then(|| wire::batch_quote(state, quote, *change))??
            }
            _ => return None,
        };
        Some((kind, msg.to_string()))
    }

    /// Reports whether the best bids of a batch may be sent now; if not, they are sent later.
    fn may_send_best(&mut self, batch: BatchId, now: i64) -> bool {
        self.best_quotes.entry(batch).or_insert(Paced::NEVER).may_send(BEST_QUOTES_PAUSE, now)
    }

    /// Returns the best bids that were held back long enough.
    fn due_best_quotes(&mut self, state: &State, now: i64) -> Vec<String> {
        let mut due = Vec::new();
        for (batch, best) in &mut self.best_quotes {
            if best.is_over(BEST_QUOTES_PAUSE, now) {
                let batch = state.engine.batch(*batch);
                due.extend(batch.and_then(|batch| wire::best_quotes(state, batch)));
            }
        }
        due.iter().map(Value::to_string).collect()
    }

    /// Takes the next number, whatever the channel.
    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Takes the number of a message, where the channel has numbers.
    fn number(&mut self) -> Option<u64> {
        self.channel.is_numbered().then(|| self.next_seq())
    }

    fn data(&mut self, sid: u64, kind: &str, msg: &str, now: i64) -> Frame {
        let text = wire::frame(kind, None, Some(sid), self.number(), Some(msg), now);
        Frame { text, data_of: Some(sid) }
    }
}

/// Returns the markets that a command names; `None` if it names none, or the channel has no such
/// filter.
fn markets(
    product: Product,
    channel: Channel,
    params: &Params,
    state: &State,
) -> Result<Option<BTreeSet<MarketId>>, Refused> {
    if !channel.filters_by_market() {
        return Ok(None);
    }
    let Params { market_ticker, market_tickers, market_id, market_ids, .. } = params;
    let given = [
        market_ticker.is_some(),
        market_tickers.is_some(),
        market_id.is_some(),
        market_ids.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(refused(11, "markets are named in one way only"));
    }
    if (market_id.is_some() || market_ids.is_some()) && channel != Channel::Ticker {
        return Err(match channel {
            Channel::OrderbookDelta => refused(14, "market ticker required"),
            _ => refused(11, "market ids are for the ticker channel only"),
        });
    }
    let mut named = BTreeSet::new();
    for ticker in market_tickers.iter().flatten().chain(market_ticker) {
        let market = product.market(state, ticker).ok_or_else(|| Refused {
            market: Some(ticker.clone()),
            ..refused(11, "market not found")
        })?;
        named.insert(market);
    }
    for id in market_ids.iter().flatten().chain(market_id) {
        let market = MarketId::parse(id)
            .filter(|market| product.has_market(state, *market))
            .ok_or_else(|| refused(11, "market not found"))?;
        named.insert(market);
    }
    if named.len() > MAX_MARKETS {
        return Err(refused(26, "too many markets in one subscription"));
    }
    Ok((!named.is_empty()).then_some(named))
}

/// Returns the markets that a command has to name.
fn required_markets(
    product: Product,
    channel: Channel,
    params: &Params,
    state: &State,
) -> Result<BTreeSet<MarketId>, Refused> {
    markets(product, channel, params, state)?.ok_or_else(|| refused(14, "market ticker required"))
}

fn shard(params: &Params) -> Result<Option<Shard>, Refused> {
    match (params.shard_factor, params.shard_key) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(refused(20, "shard_key without shard_factor")),
        (Some(factor), _) if factor <= 0 => Err(refused(19, "shard_factor must be above 0")),
        (Some(factor), _) if factor > 100 => Err(refused(22, "shard_factor must be 100 at most")),
        (Some(factor), key) => {
            let (factor, key) = (u64::try_from(factor), u64::try_from(key.unwrap_or(0)));
            match (factor, key) {
                (Ok(factor), Ok(key)) if key < factor => Ok(Some(Shard { key, factor })),
                _ => Err(refused(21, "shard_key must be below shard_factor")),
            }
        }
    }
}

/// Returns the indices or underlyings that a command names.
fn asked_names(channel: Channel, params: &Params) -> &[String] {
    let asked = match channel {
        Channel::Pyth => params.underlying_tickers.as_deref(),
        _ => params.index_ids.as_deref(),
    };
    asked.unwrap_or_default()
}

fn named_value(channel: Channel, name: &str, value: &str, now: i64) -> Value {
    if channel == Channel::Pyth {
        return json!({
            "underlying_ticker": name,
            "value_usd": value,
            "source_ts_ms": now,
            "received_at": now,
        });
    }
    let raw = json!({"type": "value", "id": name, "value": value, "time": now}).to_string();
    let mut msg = json!({"index_id": name, "received_at": now, "data": raw});
    if channel == Channel::CfBenchmarks {
        msg["avg_60s_data"] = json!({
            "value": value,
            "window_size": 60,
            "window_start_ts_ms": now - 60_000,
            "window_end_ts_exclusive": now,
        });
    } else {
        msg["value_usd"] = json!(value);
        msg["source_ts_ms"] = json!(now);
    }
    msg
}

fn refused(code: u32, words: impl Into<String>) -> Refused {
    Refused { code, words: words.into(), market: None, sid: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};
    use kalshi_types::{Count, Dollars};

    use super::*;
    use crate::{
        engine::types::{MarketStatus, NewOrder, Side, Time},
        state::Start,
    };

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    struct Test {
        state: State,
        session: Session,
    }

    impl Test {
        fn new() -> Self {
            let state = State::new(Start::new(7, start()));
            let reader = Principal { account: state.first_account, bound: None, fcm_member: false };
            let session = Session::new(reader, Product::Events, StreamFaults::default());
            Self { state, session }
        }

        fn send(&mut self, command: &Value) -> Vec<Value> {
            let mut out = Vec::new();
            self.session.receive(&command.to_string(), &self.state, &mut out);
            out.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect()
        }

        fn events(&mut self) -> Vec<Value> {
            let mut out = Vec::new();
            for event in self.state.engine.take_events() {
                self.session.publish_event(&event, &self.state, &mut out);
            }
            out.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect()
        }

        fn open(&self) -> String {
            let open = |market: &&crate::engine::Market| market.status == MarketStatus::Active;
            self.state.engine.markets().iter().find(open).unwrap().ticker.clone()
        }

        fn place(&mut self, ticker: &str, side: Side, price: Dollars, count: i64) {
            let order = NewOrder {
                client_order_id: (count == 1).then(|| "c1".to_owned()),
                ..NewOrder::resting(
                    self.state.first_account,
                    ticker.to_owned(),
                    side,
                    price,
                    Count::from_contracts(count).unwrap(),
                )
            };
            self.state.engine.place_order(&order, Time::from(start())).unwrap();
        }
    }

    fn code(frames: &[Value]) -> i64 {
        assert_eq!(frames.len(), 1, "{frames:?}");
        assert_eq!(frames[0]["type"], "error");
        frames[0]["msg"]["code"].as_i64().unwrap()
    }

    #[test]
    fn a_book_built_from_snapshot_and_deltas_is_the_engines() {
        let mut test = Test::new();
        let ticker = test.open();
        for yes_prices in [true, false] {
            let frames = test.send(&json!({"id": 1, "cmd": "subscribe", "params": {
                "channels": ["orderbook_delta"], "market_tickers": [ticker],
                "use_yes_price": yes_prices}}));
            assert_eq!(frames[0]["type"], "subscribed");
            let sid = frames[0]["msg"]["sid"].clone();
            assert_eq!(
                (&frames[1]["type"], &frames[1]["seq"]),
                (&json!("orderbook_snapshot"), &json!(1))
            );
            let mut book: BTreeMap<(String, Dollars), Count> = BTreeMap::new();
            for (key, side) in [("yes_dollars_fp", "yes"), ("no_dollars_fp", "no")] {
                for level in frames[1]["msg"][key].as_array().unwrap() {
                    let (price, count): (Dollars, Count) =
                        serde_json::from_value(level.clone()).unwrap();
                    book.insert((side.to_owned(), price), count);
                }
            }
            let best = test.state.engine.market_by_ticker(&ticker).unwrap().prices();
            let (bid, ask) = (best.yes_bid(), best.yes_ask());
            test.place(&ticker, Side::Bid, ask, 3);
            test.place(&ticker, Side::Ask, ask, 5);
            test.place(&ticker, Side::Bid, bid, 7);
            let frames = test.events();
            assert!(frames.len() >= 3);
            for (place, frame) in frames.iter().enumerate() {
                assert_eq!(frame["seq"], json!(place + 2), "the sequence has no hole");
                let msg = &frame["msg"];
                let price: Dollars = serde_json::from_value(msg["price_dollars"].clone()).unwrap();
                let delta: Count = serde_json::from_value(msg["delta_fp"].clone()).unwrap();
                let side = msg["side"].as_str().unwrap().to_owned();
                let level = book.entry((side, price)).or_default();
                *level = level.checked_add(delta).unwrap();
            }
            book.retain(|_, count| !count.is_zero());
            let market = test.state.engine.market_by_ticker(&ticker).unwrap();
            let mut there = BTreeMap::new();
            for side in [Side::Bid, Side::Ask] {
                for level in market.levels(side) {
                    let price = if yes_prices { level.price } else { side.leg_price(level.price) };
                    there.insert((side.outcome().to_owned(), price), level.count);
                }
            }
            assert_eq!(book, there);
            test.send(&json!({"id": 2, "cmd": "unsubscribe", "params": {"sids": [sid]}}));
        }
    }

    #[test]
    fn own_fills_orders_and_positions_are_told_and_nobody_elses() {
        let mut test = Test::new();
        let ticker = test.open();
        test.send(&json!({"id": 1, "cmd": "subscribe",
            "params": {"channels": ["fill", "user_orders", "market_positions", "trade", "ticker"]}}));
        let ask = test.state.engine.market_by_ticker(&ticker).unwrap().prices().yes_ask();
        test.place(&ticker, Side::Bid, ask, 1);
        let frames = test.events();
        let of =
            |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).collect::<Vec<_>>();
        assert_eq!(of("fill").len(), 1, "the maker's fill is not ours");
        assert_eq!(of("fill")[0]["msg"]["client_order_id"], "c1");
        assert_eq!(of("fill")[0]["msg"]["post_position_fp"], "1.00");
        assert_eq!(of("user_order").len(), 1);
        assert_eq!(of("user_order")[0]["msg"]["status"], "executed");
        assert_eq!(of("market_position").len(), 1);
        assert_eq!(of("trade").len(), 1);
        assert_eq!(of("trade")[0]["msg"]["trade_id"], of("fill")[0]["msg"]["trade_id"]);
        assert!(!of("ticker").is_empty());
        for frame in &frames {
            assert_eq!(frame["seq"].is_number(), frame["type"] == "trade", "{frame}");
        }
    }

    #[test]
    fn every_wrong_command_has_its_code() {
        let mut test = Test::new();
        let ticker = test.open();
        let mut out = Vec::new();
        test.session.receive("{", &test.state, &mut out);
        assert!(out[0].text.contains("\"code\":1"));
        let subscribe = |params: Value| json!({"id": 9, "cmd": "subscribe", "params": params});
        let cases = [
            (json!({"id": 9, "cmd": "subscribe"}), 2),
            (subscribe(json!({})), 3),
            (json!({"id": 9, "cmd": "unsubscribe", "params": {}}), 4),
            (json!({"id": 9, "cmd": "fly", "params": {}}), 5),
            (json!({"id": 9, "cmd": "unsubscribe", "params": {"sids": [77]}}), 7),
            (subscribe(json!({"channels": ["ticker_v2"]})), 8),
            (subscribe(json!({"channels": "ticker"})), 11),
            (
                json!({"id": 9, "cmd": "update_subscription",
                "params": {"sids": [1, 2], "action": "add_markets"}}),
                12,
            ),
            (subscribe(json!({"channels": ["orderbook_delta"]})), 14),
            (subscribe(json!({"channels": ["ticker"], "market_ticker": "NONE"})), 11),
            (subscribe(json!({"channels": ["communications"], "shard_factor": 0})), 19),
            (subscribe(json!({"channels": ["communications"], "shard_key": 0})), 20),
            (
                subscribe(
                    json!({"channels": ["communications"], "shard_factor": 2, "shard_key": 2}),
                ),
                21,
            ),
            (subscribe(json!({"channels": ["communications"], "shard_factor": 101})), 22),
        ];
        for (command, expected) in cases {
            let frames = test.send(&command);
            assert_eq!(code(&frames), expected, "{command}");
            assert_eq!(frames[0]["id"], 9);
        }
        test.send(&subscribe(json!({"channels": ["ticker"], "market_ticker": ticker})));
        let update =
            |params: Value| json!({"id": 9, "cmd": "update_subscription", "params": params});
        assert_eq!(code(&test.send(&update(json!({"sid": 1})))), 15);
        assert_eq!(code(&test.send(&update(json!({"sid": 1, "action": "dance"})))), 13);
        assert_eq!(code(&test.send(&update(json!({"sid": 1, "action": "add_markets"})))), 14);
    }

    #[test]
    fn markets_are_added_listed_and_deleted() {
        let mut test = Test::new();
        let tickers: Vec<String> = test
            .state
            .engine
            .markets()
            .iter()
            .filter(|market| market.status == MarketStatus::Active)
            .take(2)
            .map(|market| market.ticker.clone())
            .collect();
        let subscribe = |ticker: &str| {
            json!({"id": 1, "cmd": "subscribe",
            "params": {"channels": ["orderbook_delta"], "market_ticker": ticker}})
        };
        test.send(&subscribe(&tickers[0]));
        let again = test.send(&subscribe(&tickers[1]));
        // One subscription for one channel: the second is an addition to it.
        assert_eq!((&again[0]["type"], &again[0]["sid"]), (&json!("ok"), &json!(1)));
        assert_eq!((&again[0]["id"], &again[0]["seq"]), (&json!(1), &json!(2)));
        assert_eq!(again[0]["msg"]["market_tickers"], json!(tickers));
        assert_eq!(again.len(), 2, "a snapshot of the new market only");
        assert_eq!((&again[1]["seq"], &again[1]["id"]), (&json!(3), &Value::Null));
        let gone = test.send(&json!({"id": 2, "cmd": "update_subscription",
            "params": {"sid": 1, "action": "delete_markets", "market_ticker": tickers[0]}}));
        assert_eq!(gone[0]["type"], "ok");
        assert_eq!(gone[0]["msg"]["market_tickers"], json!([tickers[1]]));
        let fresh = test.send(&json!({"id": 3, "cmd": "update_subscription",
            "params": {"sid": 1, "action": "get_snapshot", "market_tickers": tickers}}));
        assert_eq!(fresh.len(), 1, "only what is subscribed");
        assert_eq!((&fresh[0]["type"], &fresh[0]["id"]), (&json!("orderbook_snapshot"), &json!(3)));
        let list = test.send(&json!({"id": 4, "cmd": "list_subscriptions"}));
        assert_eq!(list[0]["msg"], json!([{"channel": "orderbook_delta", "sid": 1}]));
    }

    fn subscribe(id: i64, params: &Value) -> Value {
        json!({"id": id, "cmd": "subscribe", "params": params})
    }

    fn update(params: &Value) -> Value {
        json!({"id": 9, "cmd": "update_subscription", "params": params})
    }

    #[test]
    fn two_wrong_channels_give_two_errors_that_name_neither() {
        let mut test = Test::new();
        let frames = test.send(&subscribe(4, &json!({"channels": ["a", "trade", "b"]})));
        let kinds: Vec<_> = frames.iter().map(|frame| &frame["type"]).collect();
        assert_eq!(kinds, ["error", "subscribed", "error"]);
        for error in [&frames[0], &frames[2]] {
            assert_eq!((&error["id"], &error["msg"]["code"]), (&json!(4), &json!(8)));
            assert!(error["sid"].is_null() && error["msg"]["channel"].is_null());
        }
    }

    #[test]
    fn a3_an_error_of_a_numbered_subscription_takes_a_number() {
        let mut test = Test::new();
        let ticker = test.open();
        let numbered = json!({"channels": ["trade"], "market_ticker": ticker});
        test.send(&subscribe(1, &numbered));
        test.send(&subscribe(2, &json!({"channels": ["fill"]})));
        for (sid, code, action, seq) in [
            (1, 13, "dance", json!(1)),
            (1, 14, "add_markets", json!(2)),
            (1, 13, "get_snapshot", json!(3)),
            (2, 14, "delete_markets", Value::Null),
        ] {
            let frames = test.send(&update(&json!({"sid": sid, "action": action})));
            assert_eq!(code, self::code(&frames), "{action}");
            assert_eq!((&frames[0]["sid"], &frames[0]["seq"]), (&json!(sid), &seq), "{action}");
        }
        // One that belongs to no subscription names none.
        let frames = test.send(&update(&json!({"sid": 77, "action": "add_markets"})));
        assert_eq!((code(&frames), &frames[0]["sid"]), (7, &Value::Null));
        let ask = test.state.engine.market_by_ticker(&ticker).unwrap().prices().yes_ask();
        test.place(&ticker, Side::Bid, ask, 1);
        let trade = test.events().into_iter().find(|frame| frame["type"] == "trade").unwrap();
        assert_eq!(trade["seq"], 4);
        let ended = test.session.end_all(Ending::ChannelError, 5);
        let ended: Vec<Value> =
            ended.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect();
        assert_eq!((&ended[0]["sid"], &ended[0]["seq"]), (&json!(1), &json!(5)));
        assert_eq!((&ended[1]["sid"], &ended[1]["seq"]), (&json!(2), &Value::Null));
        assert!(ended.iter().all(|end| end["msg"]["code"] == 10));
    }

    #[test]
    fn errors_name_nothing_on_demand() {
        let mut test = Test::new();
        let faults = StreamFaults { errors_name_nothing: true, ..StreamFaults::default() };
        test.session = Session::new(test.session.reader, Product::Events, faults);
        test.send(&subscribe(1, &json!({"channels": ["trade"]})));
        let frames = test.send(&update(&json!({"sid": 1, "action": "dance"})));
        assert!(frames[0]["sid"].is_null() && frames[0]["seq"].is_null());
        let end = &test.session.end_all(Ending::BufferOverflow, 5)[0];
        assert!(!end.text.contains("sid"), "{}", end.text);
    }

    #[test]
    fn a13_too_many_commands_are_those_of_one_subscription_and_of_the_connection() {
        let mut test = Test::new();
        test.send(&subscribe(1, &json!({"channels": ["trade"]})));
        test.send(&subscribe(2, &json!({"channels": ["ticker"]})));
        let change = |sid: u64| update(&json!({"sid": sid, "action": "dance"}));
        for _ in 0..MAX_COMMANDS_ON_ONE {
            assert_eq!(code(&test.send(&change(1))), 13);
        }
        let frames = test.send(&change(1));
        assert_eq!((code(&frames), &frames[0]["sid"]), (27, &json!(1)));
        assert_eq!(code(&test.send(&change(2))), 13, "the other one has a count of its own");
        let rest = MAX_COMMANDS - MAX_COMMANDS_ON_ONE - 4;
        for _ in 0..rest {
            assert_eq!(code(&test.send(&json!({"id": 1, "cmd": "fly"}))), 5);
        }
        let frames = test.send(&json!({"id": 1, "cmd": "fly"}));
        assert_eq!((code(&frames), &frames[0]["sid"]), (27, &Value::Null));
    }

    #[test]
    fn s6_market_ids_are_for_the_ticker_channel_only() {
        let mut test = Test::new();
        let market = test.state.engine.market_by_ticker(&test.open()).unwrap().id.to_string();
        let with_id =
            |channel: &str| subscribe(1, &json!({"channels": [channel], "market_id": market}));
        assert_eq!(code(&test.send(&with_id("orderbook_delta"))), 14);
        assert_eq!(code(&test.send(&with_id("trade"))), 11);
        assert_eq!(test.send(&with_id("ticker"))[0]["type"], "subscribed");
        let add = json!({"sid": 1, "action": "add_markets", "market_ids": [market]});
        assert_eq!(test.send(&update(&add))[0]["type"], "ok");
        let ticker = test.open();
        let books = json!({"channels": ["orderbook_delta"], "market_tickers": [ticker]});
        test.send(&subscribe(1, &books));
        let add = json!({"sid": 2, "action": "get_snapshot", "market_ids": [market]});
        assert_eq!(code(&test.send(&update(&add))), 14);
    }

    #[test]
    fn a_market_of_the_archive_is_found_neither_by_its_ticker_nor_by_its_id() {
        let mut test = Test::new();
        let archived = &test.state.engine.archived_markets()[0];
        let (ticker, id) = (archived.ticker.clone(), archived.id.to_string());
        let live = test.open();
        let by_ticker = json!({"channels": ["ticker"], "market_tickers": [ticker]});
        let by_id = json!({"channels": ["ticker"], "market_id": id});
        let among_others = json!({"channels": ["ticker"], "market_ids": [id]});
        for named in [by_ticker, by_id, among_others] {
            assert_eq!(code(&test.send(&subscribe(1, &named))), 11, "{named}");
        }
        let open = json!({"channels": ["ticker"], "market_tickers": [live]});
        assert_eq!(test.send(&subscribe(1, &open))[0]["type"], "subscribed");
        for named in ["market_id", "market_ids", "market_ticker", "market_tickers"] {
            let one = if named.starts_with("market_id") { &id } else { &ticker };
            let value = if named.ends_with('s') { json!([one]) } else { json!(one) };
            let add = json!({"sid": 1, "action": "add_markets", named: value});
            assert_eq!(code(&test.send(&update(&add))), 11, "{named}");
        }
    }

    #[test]
    fn s7_markets_are_named_in_one_way() {
        let mut test = Test::new();
        let ticker = test.open();
        let market = test.state.engine.market_by_ticker(&ticker).unwrap().id.to_string();
        let ways = [
            ("market_ticker", json!(ticker)),
            ("market_tickers", json!([ticker])),
            ("market_id", json!(market)),
            ("market_ids", json!([market])),
        ];
        for (at, (name, value)) in ways.iter().enumerate() {
            for (other, other_value) in &ways[at + 1..] {
                let mut params = json!({"channels": ["ticker"]});
                params[*name] = value.clone();
                params[*other] = other_value.clone();
                assert_eq!(code(&test.send(&subscribe(1, &params))), 11, "{name} {other}");
            }
        }
    }

    #[test]
    fn s8_an_id_that_is_not_above_zero_is_none() {
        let mut test = Test::new();
        for id in [0, -1, i64::MIN] {
            for command in [
                json!({"id": id, "cmd": "list_subscriptions"}),
                json!({"id": id, "cmd": "fly"}),
                json!({"id": id, "cmd": "subscribe", "params": {"channels": ["trade"]}}),
                json!({"id": id, "cmd": "unsubscribe", "params": {"sids": [1]}}),
            ] {
                let frames = test.send(&command);
                assert!(frames.iter().all(|frame| frame["id"].is_null()), "{frames:?}");
            }
            test.session.last_sid = 0;
        }
        let frames = test.send(&json!({"id": 1, "cmd": "list_subscriptions"}));
        assert_eq!(frames[0]["id"], 1);
    }

    #[test]
    fn a18_every_frame_has_the_time_of_sending() {
        let mut test = Test::new();
        let ticker = test.open();
        let now = test.state.engine.now().as_millis();
        let mut frames = Vec::new();
        for command in [
            subscribe(1, &json!({"channels": ["orderbook_delta"], "market_ticker": ticker})),
            subscribe(1, &json!({"channels": ["orderbook_delta"], "market_ticker": ticker})),
            subscribe(1, &json!({"channels": ["horoscope"]})),
            json!({"id": 1, "cmd": "list_subscriptions"}),
            json!({"id": 1, "cmd": "unsubscribe", "params": {"sids": [1]}}),
        ] {
            frames.extend(test.send(&command));
        }
        let mut out = Vec::new();
        test.session.receive("{", &test.state, &mut out);
        frames.push(serde_json::from_str(&out[0].text).unwrap());
        let kinds: BTreeSet<&str> =
            frames.iter().filter_map(|frame| frame["type"].as_str()).collect();
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        assert!(frames.iter().all(|frame| frame["sending_ts_ms"] == now), "{frames:?}");
    }

    #[test]
    fn a2_the_deltas_of_one_action_share_a_clock_and_a_snapshot_has_the_newest() {
        let mut test = Test::new();
        let ticker = test.open();
        let books = json!({"channels": ["orderbook_delta"], "market_ticker": ticker});
        let snapshot = test.send(&subscribe(1, &books)).remove(1);
        let mut newest = snapshot["msg"]["clock"].as_u64().unwrap();
        assert!(newest > 0, "the market has been traded");
        let prices = test.state.engine.market_by_ticker(&ticker).unwrap().prices();
        // Takes several levels, and rests what is left.
        for (side, price, count) in [
            (Side::Bid, Dollars::ONE.checked_sub(Dollars::CENT).unwrap(), 500),
            (Side::Ask, prices.yes_bid(), 5),
        ] {
            test.place(&ticker, side, price, count);
            let deltas = test.events();
            assert!(!deltas.is_empty());
            let clocks: BTreeSet<u64> =
                deltas.iter().map(|delta| delta["msg"]["clock"].as_u64().unwrap()).collect();
            assert_eq!(clocks.len(), 1, "{clocks:?}");
            assert!(clocks.first() > Some(&newest));
            newest = *clocks.first().unwrap();
            let again = json!({"sid": 1, "action": "get_snapshot", "market_ticker": ticker});
            assert_eq!(test.send(&update(&again))[0]["msg"]["clock"], newest);
        }
        assert!(test.state.engine.market_by_ticker(&ticker).unwrap().clock == newest);
    }

    #[test]
    fn a2_two_actions_between_two_looks_have_two_clocks() {
        let mut test = Test::new();
        let ticker = test.open();
        let books = json!({"channels": ["orderbook_delta"], "market_ticker": ticker});
        test.send(&subscribe(1, &books));
        test.place(&ticker, Side::Bid, Dollars::CENT, 2);
        test.place(&ticker, Side::Bid, Dollars::CENT, 3);
        let deltas = test.events();
        assert_eq!(deltas.len(), 2);
        assert!(deltas[0]["msg"]["clock"].as_u64() < deltas[1]["msg"]["clock"].as_u64());
    }

    #[test]
    fn a2_a_delta_goes_over_the_wire_in_the_order_of_the_document() {
        let mut test = Test::new();
        let ticker = test.open();
        let books = json!({"channels": ["orderbook_delta"], "market_ticker": ticker});
        test.send(&subscribe(1, &books));
        test.place(&ticker, Side::Bid, Dollars::CENT, 1);
        let mut out = Vec::new();
        for event in test.state.engine.take_events() {
            test.session.publish_event(&event, &test.state, &mut out);
        }
        let fields = [
            "type",
            "sid",
            "seq",
            "msg",
            "market_ticker",
            "market_id",
            "clock",
            "price_dollars",
            "delta_fp",
            "side",
            "client_order_id",
            "ts",
            "ts_ms",
            "sending_ts_ms",
        ];
        let places: Vec<usize> = fields
            .iter()
            .map(|field| out[0].text.find(&format!("\"{field}\":")).expect(field))
            .collect();
        assert!(places.is_sorted(), "{}", out[0].text);
    }

    #[test]
    fn a5_a_change_of_indices_or_underlyings_is_answered_by_the_whole_list() {
        let mut test = Test::new();
        let mut list = |channel: &str, changes: &[(&str, Value, Value)]| {
            let names = if channel == "pyth_value" { "underlying_tickers" } else { "index_ids" };
            let frames = test.send(&subscribe(1, &json!({"channels": [channel]})));
            let sid = frames[0]["msg"]["sid"].clone();
            for (place, (action, given, expected)) in changes.iter().enumerate() {
                let mut params = json!({"sid": sid, "action": action});
                params[names] = given.clone();
                let frames = test.send(&update(&params));
                assert_eq!((&frames[0]["type"], &frames[0]["sid"]), (&json!("ok"), &sid));
                assert_eq!(frames[0]["seq"], json!(place + 1));
                assert_eq!(frames[0]["msg"][names], *expected, "{action} {given}");
            }
        };
        let all = json!(["all"]);
        for channel in ["cfbenchmarks_value", "cfbenchmarks_value_5hz"] {
            list(
                channel,
                &[
                    ("subscribe_indices", json!(["BRTI"]), json!(["BRTI"])),
                    ("subscribe_indices", all.clone(), all.clone()),
                    // Hidden by the mode, and not excluded from it.
                    ("unsubscribe_indices", json!(["ETHUSD_RTI"]), all.clone()),
                    ("unsubscribe_indices", all.clone(), json!(["BRTI"])),
                    ("unsubscribe_indices", json!(["BRTI"]), json!([])),
                ],
            );
        }
        list(
            "pyth_value",
            &[
                ("subscribe_underlyings", all.clone(), all.clone()),
                ("unsubscribe_underlyings", all, json!([])),
            ],
        );
        let empty = json!({"sid": 1, "action": "subscribe_indices", "index_ids": []});
        assert_eq!(code(&test.send(&update(&empty))), 24);
        let empty = json!({"sid": 3, "action": "unsubscribe_underlyings"});
        assert_eq!(code(&test.send(&update(&empty))), 28);
        // Of the other family.
        let wrong = json!({"sid": 3, "action": "subscribe_indices", "index_ids": ["BRTI"]});
        assert_eq!(code(&test.send(&update(&wrong))), 13);
    }

    #[test]
    fn s9_the_fast_indices_have_all_five_fields() {
        let mut test = Test::new();
        test.send(&subscribe(
            1,
            &json!({"channels": ["cfbenchmarks_value_5hz"], "index_ids": ["all"]}),
        ));
        let frames = test.session.tick(&|_| "1.00000000".to_owned(), &test.state, true);
        assert_eq!(frames.len(), 2);
        for frame in frames {
            let frame: Value = serde_json::from_str(&frame.text).unwrap();
            let fields: BTreeSet<&String> = frame["msg"].as_object().unwrap().keys().collect();
            let five = ["data", "index_id", "received_at", "source_ts_ms", "value_usd"];
            assert!(fields.iter().eq(five.iter()), "{fields:?}");
        }
    }

    #[test]
    fn a9_a_reason_is_of_the_closed_list_or_absent() {
        use crate::engine::types::Reason;
        let document: Value =
            serde_norway::from_str(include_str!("../../../../asyncapi.yaml")).unwrap();
        let listed = document["components"]["schemas"]["lastUpdateReason"]["enum"].clone();
        let mut test = Test::new();
        let ticker = test.open();
        test.place(&ticker, Side::Bid, Dollars::CENT, 2);
        test.state.engine.take_events();
        let account = test.state.first_account;
        let resting = &test.state.engine.ledger.account(account).unwrap().resting;
        let order = *resting.iter().next_back().unwrap();
        for (reason, is_told) in [
            (Reason::None, false),
            (Reason::OrderGroupCancel, false),
            (Reason::PauseCancel, false),
            (Reason::ImmediateOrCancel, false),
            (Reason::Decrease, true),
            (Reason::Amend, true),
            (Reason::Trade, true),
            (Reason::SelfTradeCancel, true),
            (Reason::ExpiryCancel, true),
            (Reason::PostOnlyCrossCancel, true),
            (Reason::ReduceOnlyCancel, true),
            (Reason::CloseCancel, true),
        ] {
            let msg = wire::user_order(&test.state, order, reason).unwrap();
            match msg.get("last_update_reason") {
                Some(word) => assert!(is_told && listed.as_array().unwrap().contains(word)),
                None => assert!(!is_told, "{reason:?}"),
            }
        }
    }

    use crate::engine::{
        ids::AccountId,
        rfq::{Bids, NewBatch, NewRfq, Quoter, Size},
    };

    fn request(account: AccountId, ticker: &str) -> NewRfq {
        NewRfq {
            account,
            subaccount: 0,
            ticker: ticker.to_owned(),
            size: Size::Contracts(Count::from_contracts(2).unwrap()),
            rest_remainder: false,
            replace_existing: true,
            obscured: false,
        }
    }

    impl Test {
        fn open_markets(&self, limit: usize) -> Vec<String> {
            let open = self.state.engine.markets().iter();
            let open = open.filter(|market| market.status == MarketStatus::Active);
            open.take(limit).map(|market| market.ticker.clone()).collect()
        }

        /// Returns a batch of requests on two markets.
        fn batch(&mut self, account: AccountId) -> BatchId {
            let size = Size::Contracts(Count::from_contracts(2).unwrap());
            let new = NewBatch {
                account,
                subaccount: 0,
                obscured: false,
                replace_existing: true,
                client_batch_id: None,
                children: self.open_markets(2).into_iter().map(|ticker| (ticker, size)).collect(),
            };
            self.state.engine.create_batch(&new, self.state.engine.now()).unwrap()
        }

        /// Quotes by the second member on every request of a batch.
        fn quote(&mut self, batch: BatchId, yes: Dollars) {
            let rfqs = self.state.engine.batch(batch).unwrap().rfqs.clone();
            let bids: Vec<Bids> =
                rfqs.into_iter().map(|rfq| Bids { rfq, yes, no: Dollars::CENT }).collect();
            let quoter = Quoter {
                account: self.state.second_account,
                subaccount: 0,
                rest_remainder: false,
                post_only: false,
            };
            let now = self.state.engine.now();
            self.state.engine.create_batch_quote(quoter, batch, &bids, now).unwrap();
        }
    }

    #[test]
    fn a12_each_request_is_in_one_shard_by_its_market_and_each_batch_by_its_id() {
        let mut test = Test::new();
        let reader = test.session.reader;
        let mut shards: Vec<Session> = (0..3)
            .map(|key| {
                let mut session = Session::new(reader, Product::Events, StreamFaults::default());
                let part = json!({
                    "channels": ["communications"], "shard_factor": 3, "shard_key": key,
                });
                session.receive(&subscribe(1, &part).to_string(), &test.state, &mut Vec::new());
                session
            })
            .collect();
        let account = test.state.second_account;
        let markets = test.open_markets(40);
        assert!(markets.len() > 10);
        for ticker in &markets {
            let now = test.state.engine.now();
            for _ in 0..2 {
                // The second takes the place of the first.
                test.state.engine.create_rfq(&request(account, ticker), now).unwrap();
            }
        }
        test.batch(account);
        let events = test.state.engine.take_events();
        let mut places: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut frames_of = BTreeMap::new();
        for (place, session) in shards.iter_mut().enumerate() {
            let mut out = Vec::new();
            for event in &events {
                session.publish_event(event, &test.state, &mut out);
            }
            for frame in out {
                let frame: Value = serde_json::from_str(&frame.text).unwrap();
                let kind = frame["type"].as_str().unwrap();
                let of = if kind == "rfq_batch_created" { "id" } else { "market_ticker" };
                let of = frame["msg"][of].as_str().unwrap().to_owned();
                places.entry(of).or_default().insert(place);
                *frames_of.entry(kind.to_owned()).or_insert(0) += 1;
            }
        }
        assert!(places.values().all(|places| places.len() == 1), "{places:?}");
        assert_eq!(places.len(), markets.len() + 1);
        // Two on each market, of which one ended; the requests of the batch come with it.
        assert_eq!(frames_of["rfq_created"], 2 * markets.len());
        assert_eq!(frames_of["rfq_deleted"], markets.len());
        assert_eq!(frames_of["rfq_batch_created"], 1);
        let used: BTreeSet<usize> = places.into_values().flatten().collect();
        assert_eq!(used.len(), 3, "every part has some");
    }

    #[test]
    fn a11_the_filter_for_your_own_requests_is_for_batches_too() {
        let mut test = Test::new();
        let own = json!({"channels": ["communications"], "user_filter": "self"});
        test.send(&subscribe(1, &own));
        for (account, is_told) in
            [(test.state.second_account, false), (test.state.first_account, true)]
        {
            let batch = test.batch(account);
            let caller = Principal::member(account);
            let now = test.state.engine.now();
            test.state.engine.delete_batch(caller, batch, now).unwrap();
            let frames = test.events();
            let kinds: Vec<&str> = frames.iter().filter_map(|one| one["type"].as_str()).collect();
            let expected: &[&str] =
                if is_told { &["rfq_batch_created", "rfq_batch_deleted"] } else { &[] };
            assert_eq!(kinds, expected);
        }
    }

    #[test]
    fn a11_best_quotes_come_at_most_once_in_250_milliseconds_and_the_last_is_the_newest() {
        let mut test = Test::new();
        test.send(&subscribe(1, &json!({"channels": ["communications"]})));
        let batch = test.batch(test.state.first_account);
        let cents = |cents: i64| Dollars::from_micros(10_000 * cents);
        let best = |frames: Vec<Value>| -> Vec<Value> {
            let best = frames.into_iter().filter(|one| one["type"] == "rfq_batch_best_quotes");
            best.map(|one| one["msg"].clone()).collect()
        };
        let at = |test: &mut Test, millis: i64| {
            let now = test.state.engine.now().as_millis() + millis;
            test.state.engine.advance(Time::from_millis(now));
        };
        let mut sent = Vec::new();
        for bid in 20..30 {
            test.quote(batch, cents(bid));
            sent.extend(best(test.events()));
            at(&mut test, 20);
        }
        assert_eq!(sent.len(), 1, "{sent:?}");
        let tick = |test: &mut Test| -> Vec<Value> {
            let frames = test.session.tick(&|_| String::new(), &test.state, false);
            best(frames.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect())
        };
        assert_eq!(tick(&mut test).len(), 0, "200 milliseconds have passed");
        at(&mut test, 50);
        let last = tick(&mut test);
        assert_eq!(last.len(), 1);
        assert!(last[0]["version"].as_u64() > sent[0]["version"].as_u64());
        assert_eq!(last[0]["rfqs"][0]["yes_bid_dollars"], "0.2900");
        assert_eq!(last[0]["version"], test.state.engine.batch(batch).unwrap().version);
        assert_eq!(
            (&last[0]["yes_complete"], &last[0]["no_complete"]),
            (&json!(true), &json!(true))
        );
        at(&mut test, 500);
        assert_eq!(tick(&mut test).len(), 0, "nothing has changed since");
    }
}
