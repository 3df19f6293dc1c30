//! One client's subscriptions: commands and events in, frames out. Pure: no sockets, no clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        ids::{MarketId, RfqId},
        principal::Principal,
        types::{Event, MarketChange, MarketStatus},
    },
    state::State,
    stream::{
        faults::{Ending, StreamFaults},
        wire,
    },
};

/// Markets that one subscription may name.
const MAX_MARKETS: usize = 500_000;
/// Commands in one second.
const MAX_COMMANDS: u32 = 10_000;

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) text: String,
    /// The subscription, for a message that may be lost; answers to commands are not.
    pub(crate) data_of: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Channel {
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
}

impl Channel {
    const ALL: [Self; 13] = [
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
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text)
    }

    /// Whether a list of markets narrows it.
    fn filters_by_market(self) -> bool {
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

    /// Whether its messages are numbered.
    fn is_numbered(self) -> bool {
        matches!(
            self,
            Self::OrderbookDelta
                | Self::OrderGroupUpdates
                | Self::CfBenchmarks
                | Self::CfBenchmarks5Hz
                | Self::Pyth
        )
    }

    /// The names under which values come, for channels that send values of named things.
    fn catalog(self) -> &'static [&'static str] {
        match self {
            Self::CfBenchmarks | Self::CfBenchmarks5Hz => &["BRTI", "ETHUSD_RTI"],
            Self::Pyth => &["Crypto.BTC/USD", "Equity.US.SPY/USD"],
            _ => &[],
        }
    }
}

#[derive(Clone, Debug)]
struct Subscription {
    channel: Channel,
    /// `None`: all.
    markets: Option<BTreeSet<MarketId>>,
    /// The number of the last message.
    seq: u64,
    yes_prices: bool,
    short_acks: bool,
    own_only: bool,
    /// (key, factor)
    shard: Option<(u64, u64)>,
    names: BTreeSet<String>,
}

/// One connection's subscriptions.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    reader: Principal,
    subscriptions: BTreeMap<u64, Subscription>,
    last_sid: u64,
    /// What was set for it when it began.
    faults: StreamFaults,
    /// (second, commands in it)
    rate: (i64, u32),
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

/// A refusal: the code, its words, and the market that it is about.
type Refused = (u32, String, Option<String>);

impl Session {
    /// A session with the faults that are set for it when it begins.
    pub(crate) fn new(reader: Principal, faults: StreamFaults) -> Self {
        Self { reader, subscriptions: BTreeMap::new(), last_sid: 0, faults, rate: (0, 0) }
    }

    /// Carries out a command of the client.
    pub(crate) fn receive(&mut self, text: &str, state: &State, out: &mut Vec<Frame>) {
        let command: Command = match serde_json::from_str(text) {
            Ok(command) => command,
            Err(error) => {
                return out.push(error_frame(0, &(1, format!("no command: {error}"), None)));
            }
        };
        let second = wire::seconds(state.engine.now());
        if self.rate.0 != second {
            self.rate = (second, 0);
        }
        self.rate.1 += 1;
        if self.rate.1 > MAX_COMMANDS {
            return out.push(error_frame(command.id, &refused(27, "too many commands")));
        }
        if let Err(refusal) = self.carry_out(&command, state, out) {
            out.push(error_frame(command.id, &refusal));
        }
    }

    /// Turns what has happened into messages for those who subscribed to it.
    pub(crate) fn publish(&mut self, event: &Event, state: &State, out: &mut Vec<Frame>) {
        let now = state.engine.now().as_millis();
        let reader = self.reader;
        for (sid, subscription) in &mut self.subscriptions {
            let Some((kind, msg)) = subscription.message(event, state, reader) else { continue };
            if let Event::Market { market, change: MarketChange::Created } = event
                && let Some(of) = wire::new_event(state, *market)
            {
                out.push(subscription.data(*sid, "event_lifecycle", &of, now));
            }
            out.push(subscription.data(*sid, kind, &msg, now));
        }
    }

    /// Sends the values of named indices and underlyings, once a second or five times.
    pub(crate) fn tick(
        &mut self,
        values: &dyn Fn(&str) -> String,
        state: &State,
        fast: bool,
    ) -> Vec<Frame> {
        let now = state.engine.now().as_millis();
        let mut out = Vec::new();
        for (sid, subscription) in &mut self.subscriptions {
            let due = match subscription.channel {
                Channel::CfBenchmarks5Hz => true,
                Channel::CfBenchmarks | Channel::Pyth => !fast,
                _ => false,
            };
            if !due {
                continue;
            }
            for name in subscription.names.clone() {
                let value = values(&name);
                let msg = named_value(subscription.channel, &name, &value, now);
                out.push(subscription.data(*sid, subscription.channel.as_str(), &msg, now));
            }
        }
        out
    }

    /// Ends a subscription whose reader is too slow; gives the frame that says so.
    pub(crate) fn overflow(&mut self, sid: u64) -> Option<Frame> {
        self.end(sid, Ending::BufferOverflow)
    }

    /// Ends all subscriptions; gives the frames that say so.
    pub(crate) fn end_all(&mut self, ending: Ending) -> Vec<Frame> {
        let sids: Vec<u64> = self.subscriptions.keys().copied().collect();
        sids.into_iter().filter_map(|sid| self.end(sid, ending)).collect()
    }

    fn end(&mut self, sid: u64, ending: Ending) -> Option<Frame> {
        self.subscriptions.remove(&sid)?;
        let (code, words) = ending.code_and_words();
        let mut frame = json!({"type": "error", "msg": {"code": code, "msg": words}});
        // The document has no place for it.
        if self.faults.endings_say_which {
            frame["sid"] = json!(sid);
        }
        Some(Frame { text: frame.to_string(), data_of: None })
    }

    fn carry_out(
        &mut self,
        command: &Command,
        state: &State,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        if command.cmd == "list_subscriptions" {
            let list: Vec<Value> = self
                .subscriptions
                .iter()
                .map(|(sid, one)| json!({"channel": one.channel.as_str(), "sid": sid}))
                .collect();
            out.push(answer(&json!({"id": command.id, "type": "ok", "msg": list})));
            return Ok(());
        }
        if !["subscribe", "unsubscribe", "update_subscription"].contains(&command.cmd.as_str()) {
            return Err(refused(5, "unknown command"));
        }
        let params = command.params.clone().ok_or_else(|| refused(2, "params required"))?;
        let params: Params = serde_json::from_value(params)
            .map_err(|error| (11, format!("invalid parameter: {error}"), None))?;
        match command.cmd.as_str() {
            "subscribe" => self.subscribe(command.id, &params, state, out),
            "unsubscribe" => self.unsubscribe(command.id, &params, out),
            _ => self.update(command.id, &params, state, out),
        }
    }

    fn subscribe(
        &mut self,
        id: i64,
        params: &Params,
        state: &State,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let channels = params.channels.as_deref().unwrap_or_default();
        if channels.is_empty() {
            return Err(refused(3, "channels required"));
        }
        let shard = shard(params)?;
        for name in channels {
            // One channel's refusal leaves the others alone.
            if let Err(refusal) = self.subscribe_one(id, name, params, shard, state, out) {
                out.push(error_frame(id, &refusal));
            }
        }
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        id: i64,
        name: &str,
        params: &Params,
        shard: Option<(u64, u64)>,
        state: &State,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let channel = Channel::parse(name).ok_or_else(|| refused(8, "unknown channel"))?;
        let markets = if channel.filters_by_market() { markets(params, state)? } else { None };
        if channel == Channel::OrderbookDelta && markets.is_none() {
            return Err(refused(14, "market ticker required"));
        }
        let existing = self
            .subscriptions
            .iter()
            .find(|(_, subscription)| subscription.channel == channel)
            .map(|(sid, _)| *sid);
        let mut added = markets.clone();
        let sid = if let Some(sid) = existing {
            // Subscribing again adds markets to what there is.
            if let Some(subscription) = self.subscriptions.get_mut(&sid) {
                added = subscription.merge(markets);
            }
            sid
        } else {
            self.last_sid += 1;
            let subscription = Subscription {
                channel,
                markets,
                seq: 0,
                yes_prices: params.use_yes_price.unwrap_or(false),
                short_acks: params.skip_ticker_ack.unwrap_or(false),
                own_only: params.user_filter.as_deref() == Some("self"),
                shard,
                names: names(channel, params),
            };
            self.subscriptions.insert(self.last_sid, subscription);
            self.last_sid
        };
        let ack = answer(&json!({
            "id": id,
            "type": "subscribed",
            "msg": {"channel": channel.as_str(), "sid": sid},
        }));
        let wanted = match channel {
            Channel::OrderbookDelta => true,
            Channel::Ticker => params.send_initial_snapshot.unwrap_or(false),
            _ => false,
        };
        let mut first = Vec::new();
        if wanted {
            self.snapshots(sid, added.as_ref(), None, state, &mut first);
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
        id: i64,
        params: &Params,
        out: &mut Vec<Frame>,
    ) -> Result<(), Refused> {
        let sids: Vec<u64> =
            params.sids.clone().or(params.sid.map(|sid| vec![sid])).unwrap_or_default();
        if sids.is_empty() {
            return Err(refused(4, "sids required"));
        }
        for sid in sids {
            match self.subscriptions.remove(&sid) {
                Some(subscription) => out.push(answer(&json!({
                    "id": id,
                    "sid": sid,
                    "seq": subscription.seq + 1,
                    "type": "unsubscribed",
                }))),
                None => out.push(error_frame(id, &refused(7, "unknown subscription id"))),
            }
        }
        Ok(())
    }

    fn update(
        &mut self,
        id: i64,
        params: &Params,
        state: &State,
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
        let action = params.action.as_deref().ok_or_else(|| refused(15, "action required"))?;
        let channel = subscription.channel;
        match action {
            "add_markets" | "delete_markets" | "get_snapshot" if channel.filters_by_market() => {
                let named =
                    markets(params, state)?.ok_or_else(|| refused(14, "market ticker required"))?;
                match action {
                    "add_markets" => {
                        let added = subscription.merge(Some(named));
                        self.acknowledge(id, sid, state, out);
                        let wanted = channel == Channel::OrderbookDelta
                            || (channel == Channel::Ticker
                                && params.send_initial_snapshot.unwrap_or(false));
                        if wanted {
                            self.snapshots(sid, added.as_ref(), None, state, out);
                        }
                    }
                    "delete_markets" => {
                        if let Some(markets) = &mut subscription.markets {
                            markets.retain(|market| !named.contains(market));
                        }
                        self.acknowledge(id, sid, state, out);
                    }
                    _ => {
                        let known = subscription.markets.clone();
                        let named: BTreeSet<MarketId> = named
                            .into_iter()
                            .filter(|market| known.as_ref().is_none_or(|k| k.contains(market)))
                            .collect();
                        self.snapshots(sid, Some(&named), Some(id), state, out);
                    }
                }
            }
            "subscribe_indices"
            | "unsubscribe_indices"
            | "subscribe_underlyings"
            | "unsubscribe_underlyings"
                if !channel.catalog().is_empty() =>
            {
                let named = names(channel, params);
                if named.is_empty() {
                    return Err(if channel == Channel::Pyth {
                        refused(28, "underlying tickers required")
                    } else {
                        refused(24, "index ids required")
                    });
                }
                if action.starts_with("un") {
                    subscription.names.retain(|name| !named.contains(name));
                } else {
                    subscription.names.extend(named);
                }
                self.acknowledge(id, sid, state, out);
            }
            "indexlist" | "underlying_list" if !channel.catalog().is_empty() => {
                let key = if channel == Channel::Pyth { "underlying_tickers" } else { "index_ids" };
                let suffix = if channel == Channel::Pyth { "underlying_list" } else { "indexlist" };
                subscription.seq += 1;
                out.push(answer(&json!({
                    "type": format!("{}_{suffix}", channel.as_str()),
                    "id": id,
                    "sid": sid,
                    "seq": subscription.seq,
                    "msg": {key: channel.catalog()},
                })));
            }
            _ => return Err(refused(13, "unsupported action")),
        }
        Ok(())
    }

    /// `ok`, with the markets that the subscription has now.
    fn acknowledge(&mut self, id: i64, sid: u64, state: &State, out: &mut Vec<Frame>) {
        let keeps_number = self.faults.replies_take_no_number;
        let Some(subscription) = self.subscriptions.get_mut(&sid) else { return };
        let mut ack = json!({"id": id, "sid": sid, "type": "ok"});
        if !keeps_number && subscription.channel.is_numbered() {
            subscription.seq += 1;
            ack["seq"] = json!(subscription.seq);
        }
        if let Some(markets) = subscription.markets.as_ref().filter(|_| !subscription.short_acks) {
            let tickers: Vec<&str> = markets
                .iter()
                .filter_map(|market| state.engine.market(*market))
                .map(|market| market.ticker.as_str())
                .collect();
            ack["msg"] = json!({"market_tickers": tickers});
        }
        out.push(answer(&ack));
    }

    fn snapshots(
        &mut self,
        sid: u64,
        markets: Option<&BTreeSet<MarketId>>,
        id: Option<i64>,
        state: &State,
        out: &mut Vec<Frame>,
    ) {
        let now = state.engine.now().as_millis();
        let Some(subscription) = self.subscriptions.get_mut(&sid) else { return };
        let all: Vec<MarketId> = match markets {
            Some(markets) => markets.iter().copied().collect(),
            None => state
                .engine
                .markets()
                .iter()
                .filter(|market| market.status == MarketStatus::Active)
                .map(|market| market.id)
                .collect(),
        };
        for market in all {
            let Some(market) = state.engine.market(market) else { continue };
            let (kind, msg) = match subscription.channel {
                Channel::Ticker => ("ticker", wire::ticker(state, market)),
                _ => ("orderbook_snapshot", wire::snapshot(market, subscription.yes_prices)),
            };
            let mut frame = subscription.value(sid, kind, &msg, now);
            if let Some(id) = id {
                frame["id"] = json!(id);
            }
            out.push(Frame { text: frame.to_string(), data_of: Some(sid) });
        }
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

    /// Whether this part of the fan-out carries a request and its quotes.
    fn in_shard(&self, rfq: RfqId) -> bool {
        self.shard.is_none_or(|(key, factor)| rfq.0 % factor == key)
    }

    fn wants(&self, market: MarketId) -> bool {
        self.markets.as_ref().is_none_or(|markets| markets.contains(&market))
    }

    fn message(
        &self,
        event: &Event,
        state: &State,
        reader: Principal,
    ) -> Option<(&'static str, Value)> {
        match (self.channel, event) {
            (Channel::OrderbookDelta, Event::Level { market, side, price, delta, order })
                if self.wants(*market) =>
            {
                let change = wire::Delta {
                    market: *market,
                    side: *side,
                    price: *price,
                    change: *delta,
                    order: *order,
                };
                let msg = wire::delta(state, &change, reader, self.yes_prices)?;
                Some(("orderbook_delta", msg))
            }
            (Channel::Ticker, Event::Ticker { market }) if self.wants(*market) => {
                Some(("ticker", wire::ticker(state, state.engine.market(*market)?)))
            }
            (Channel::Trade, Event::Trade { trade }) => {
                let market = state.engine.trade(*trade)?.market;
                self.wants(market)
                    .then(|| wire::trade(state, *trade))
                    .flatten()
                    .map(|m| ("trade", m))
            }
            (Channel::Fill, Event::Fill { account, fill }) => {
                let fill = state.engine.ledger.account(*account)?.fills.get(*fill)?;
                let wanted = reader.owns(*account, fill.subaccount) && self.wants(fill.market);
                wanted.then(|| wire::fill(state, fill)).flatten().map(|m| ("fill", m))
            }
            (Channel::UserOrders, Event::Order { account, order, reason }) => {
                let found = state.engine.order(*order)?;
                let wanted = reader.owns(*account, found.subaccount) && self.wants(found.market);
                wanted
                    .then(|| wire::user_order(state, *order, *reason))
                    .flatten()
                    .map(|m| ("user_order", m))
            }
            (Channel::MarketPositions, Event::Position { account, subaccount, market })
                if reader.owns(*account, *subaccount) && self.wants(*market) =>
            {
                let msg = wire::position(state, *account, *subaccount, *market)?;
                Some(("market_position", msg))
            }
            (Channel::OrderGroupUpdates, Event::Group { account, subaccount, group, change })
                if reader.owns(*account, *subaccount) =>
            {
                Some(("order_group_updates", wire::group(state, *group, *change)))
            }
            (Channel::Communications, Event::Rfq { rfq, created }) => {
                let rfq = state.engine.rfq(*rfq)?;
                let wanted = (!self.own_only || reader.owns(rfq.account, rfq.subaccount))
                    && self.in_shard(rfq.id);
                let kind = if *created { "rfq_created" } else { "rfq_deleted" };
                wanted
                    .then(|| wire::rfq(state, rfq, reader.account, *created))
                    .flatten()
                    .map(|m| (kind, m))
            }
            (Channel::Communications, Event::Quote { quote, change }) => {
                let quote = state.engine.quote(*quote)?;
                let wanted = self.in_shard(quote.rfq);
                wanted.then(|| wire::quote(state, quote, reader, *change)).flatten()
            }
            (
                Channel::MarketLifecycle | Channel::MultivariateLifecycle,
                Event::Market { market, change },
            ) => {
                let market = state.engine.market(*market)?;
                let combo = self.channel == Channel::MultivariateLifecycle;
                (combo == wire::is_combo(market)).then(|| {
                    let kind =
                        if combo { "multivariate_market_lifecycle" } else { "market_lifecycle_v2" };
                    (kind, wire::lifecycle(state, market, *change))
                })
            }
            _ => None,
        }
    }

    fn value(&mut self, sid: u64, kind: &str, msg: &Value, now: i64) -> Value {
        let mut frame = json!({"type": kind, "sid": sid});
        if self.channel.is_numbered() {
            self.seq += 1;
            frame["seq"] = json!(self.seq);
        }
        frame["msg"] = msg.clone();
        frame["sending_ts_ms"] = json!(now);
        frame
    }

    fn data(&mut self, sid: u64, kind: &str, msg: &Value, now: i64) -> Frame {
        Frame { text: self.value(sid, kind, msg, now).to_string(), data_of: Some(sid) }
    }
}

/// The markets that a command names; `None` if it names none.
fn markets(params: &Params, state: &State) -> Result<Option<BTreeSet<MarketId>>, Refused> {
    let mut named = BTreeSet::new();
    let mut any = false;
    let tickers = params.market_tickers.iter().flatten().chain(&params.market_ticker);
    for ticker in tickers {
        any = true;
        let market = state
            .engine
            .market_by_ticker(ticker)
            .ok_or_else(|| (16, "market not found".to_owned(), Some(ticker.clone())))?;
        named.insert(market.id);
    }
    for id in params.market_ids.iter().flatten().chain(&params.market_id) {
        any = true;
        let market = MarketId::parse(id)
            .filter(|market| state.engine.market(*market).is_some())
            .ok_or_else(|| refused(16, "market not found"))?;
        named.insert(market);
    }
    if named.len() > MAX_MARKETS {
        return Err(refused(26, "too many markets in one subscription"));
    }
    Ok(any.then_some(named))
}

fn shard(params: &Params) -> Result<Option<(u64, u64)>, Refused> {
    match (params.shard_factor, params.shard_key) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(refused(20, "shard_key without shard_factor")),
        (Some(factor), _) if factor <= 0 => Err(refused(19, "shard_factor must be above 0")),
        (Some(factor), _) if factor > 100 => Err(refused(22, "shard_factor must be 100 at most")),
        (Some(factor), key) => {
            let (factor, key) = (u64::try_from(factor), u64::try_from(key.unwrap_or(0)));
            match (factor, key) {
                (Ok(factor), Ok(key)) if key < factor => Ok(Some((key, factor))),
                _ => Err(refused(21, "shard_key must be below shard_factor")),
            }
        }
    }
}

/// The names that a command asks for, of those that there are.
fn names(channel: Channel, params: &Params) -> BTreeSet<String> {
    let asked = match channel {
        Channel::Pyth => params.underlying_tickers.as_deref(),
        _ => params.index_ids.as_deref(),
    };
    let asked = asked.unwrap_or_default();
    let all = asked.iter().any(|name| name == "all");
    channel
        .catalog()
        .iter()
        .filter(|name| all || asked.iter().any(|asked| asked == *name))
        .map(|name| (*name).to_owned())
        .collect()
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
    let mut msg = json!({"index_id": name, "data": raw});
    if channel == Channel::CfBenchmarks {
        msg["received_at"] = json!(now);
        msg["avg_60s_data"] = json!({
            "value": value,
            "window_size": 60,
            "window_start_ts_ms": now - 60_000,
            "window_end_ts_exclusive": now,
        });
    }
    msg
}

fn refused(code: u32, words: &str) -> Refused {
    (code, words.to_owned(), None)
}

fn error_frame(id: i64, (code, words, market): &Refused) -> Frame {
    let mut frame = json!({"type": "error", "msg": {"code": code, "msg": words}});
    if id != 0 {
        frame["id"] = json!(id);
    }
    if let Some(market) = market {
        frame["msg"]["market_ticker"] = json!(market);
    }
    answer(&frame)
}

fn answer(frame: &Value) -> Frame {
    Frame { text: frame.to_string(), data_of: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};
    use kalshi_types::{Count, Dollars};

    use super::*;
    use crate::{
        engine::types::{NewOrder, Route, SelfTrade, Side, Time, TimeInForce},
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
            let session = Session::new(reader, StreamFaults::default());
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
                self.session.publish(&event, &self.state, &mut out);
            }
            out.iter().map(|frame| serde_json::from_str(&frame.text).unwrap()).collect()
        }

        fn open(&self) -> String {
            let open = |market: &&crate::engine::Market| market.status == MarketStatus::Active;
            self.state.engine.markets().iter().find(open).unwrap().ticker.clone()
        }

        fn place(&mut self, ticker: &str, side: Side, price: Dollars, count: i64) {
            let order = NewOrder {
                account: self.state.first_account,
                subaccount: 0,
                ticker: ticker.to_owned(),
                side,
                price,
                count: Count::from_contracts(count).unwrap(),
                time_in_force: TimeInForce::GoodTillCanceled,
                self_trade: SelfTrade::Maker,
                client_order_id: (count == 1).then(|| "c1".to_owned()),
                expires: None,
                post_only: false,
                reduce_only: false,
                cancel_on_pause: false,
                group: None,
                route: Route::default(),
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
        assert!(frames.iter().all(|frame| frame["seq"].is_null()), "none of these is numbered");
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
            (subscribe(json!({"channels": ["ticker"], "market_ticker": "NONE"})), 16),
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
        assert_eq!(again[0]["msg"]["sid"], 1, "one subscription for one channel");
        assert_eq!(again.len(), 2, "a snapshot of the new market only");
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
}
