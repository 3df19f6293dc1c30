//! The subscriptions of one client: commands and messages in, frames out. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Deserialize;

use super::timeline::{BOOKS, Body, Published, TICKER, Timeline};
use crate::json::Json;

/// The most items of a subscription, as on the exchange.
const MAX_ITEMS: usize = 500_000;

/// The items that narrow a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Narrows {
    Nothing,
    Markets,
    Indices,
    Underlyings,
}

/// The channels of the exchange.
const CHANNELS: [(&str, Narrows); 13] = [
    (BOOKS, Narrows::Markets),
    (TICKER, Narrows::Markets),
    ("trade", Narrows::Markets),
    ("fill", Narrows::Markets),
    ("market_positions", Narrows::Markets),
    ("user_orders", Narrows::Markets),
    ("market_lifecycle_v2", Narrows::Nothing),
    ("multivariate_market_lifecycle", Narrows::Nothing),
    ("communications", Narrows::Nothing),
    ("order_group_updates", Narrows::Nothing),
    ("cfbenchmarks_value", Narrows::Indices),
    ("cfbenchmarks_value_5hz", Narrows::Indices),
    ("pyth_value", Narrows::Underlyings),
];

/// The channels whose messages have no numbers.
const UNNUMBERED: [&str; 4] = [TICKER, "fill", "market_positions", "user_orders"];

/// A subscription of the client.
#[derive(Debug)]
struct Subscription {
    channel: &'static str,
    narrows: Narrows,
    seq: u64,
    /// Every item, whatever was chosen.
    has_all: bool,
    items: BTreeSet<String>,
    /// The markets whose snapshot has not been sent, with the command that asked for it.
    pending: BTreeMap<String, Option<i64>>,
    yes_prices: bool,
    short_acks: bool,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    subscriptions: BTreeMap<u64, Subscription>,
    last_sid: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Command {
    id: i64,
    cmd: String,
    params: Option<Params>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    channels: Vec<String>,
    sid: Option<u64>,
    sids: Vec<u64>,
    action: Option<String>,
    market_ticker: Option<String>,
    market_tickers: Vec<String>,
    send_initial_snapshot: bool,
    skip_ticker_ack: bool,
    use_yes_price: bool,
    index_ids: Vec<String>,
    underlying_tickers: Vec<String>,
}

/// A refusal of a command.
#[derive(Debug)]
struct Refused {
    code: u32,
    text: &'static str,
    sid: Option<u64>,
}

fn refused(code: u32, text: &'static str) -> Refused {
    Refused { code, text, sid: None }
}

impl Params {
    /// Returns the items for a channel.
    fn items(&self, narrows: Narrows) -> BTreeSet<String> {
        match narrows {
            Narrows::Nothing => BTreeSet::new(),
            Narrows::Markets => {
                self.market_ticker.iter().chain(&self.market_tickers).cloned().collect()
            }
            Narrows::Indices => self.index_ids.iter().cloned().collect(),
            Narrows::Underlyings => self.underlying_tickers.iter().cloned().collect(),
        }
    }
}

impl Subscription {
    fn is_numbered(&self) -> bool {
        !UNNUMBERED.contains(&self.channel)
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn wants(&self, item: Option<&str>) -> bool {
        self.has_all || item.is_some_and(|item| self.items.contains(item))
    }

    /// Adds items; returns those that are new.
    fn add(&mut self, items: BTreeSet<String>) -> Result<Vec<String>, Refused> {
        let new: Vec<String> =
            items.into_iter().filter(|item| !self.items.contains(item)).collect();
        if self.items.len().saturating_add(new.len()) > MAX_ITEMS {
            return Err(refused(26, "too many markets in one subscription"));
        }
        for item in &new {
            let names_all = self.narrows != Narrows::Markets && item == "all";
            if names_all {
                self.has_all = true;
            } else {
                self.items.insert(item.clone());
            }
        }
        Ok(new)
    }

    fn remove(&mut self, items: &BTreeSet<String>) {
        for item in items {
            if self.narrows != Narrows::Markets && item == "all" {
                self.has_all = false;
            }
            self.items.remove(item);
            self.pending.remove(item);
        }
    }

    /// Returns what `ok` lists.
    fn contents(&self) -> Option<Json> {
        let name = match self.narrows {
            Narrows::Nothing => return None,
            Narrows::Markets if self.short_acks || self.has_all => return None,
            Narrows::Markets => "market_tickers",
            Narrows::Indices => "index_ids",
            Narrows::Underlyings => "underlying_tickers",
        };
        let items = if self.has_all {
            vec![Json::text("all")]
        } else {
            self.items.iter().map(Json::text).collect()
        };
        Some(Json::object([(name, Json::List(items))]))
    }

    /// Returns a message of the recording as a frame of this subscription.
    fn frame(
        &mut self,
        sid: u64,
        kind: &str,
        id: Option<i64>,
        body: &Body,
        numbers: bool,
    ) -> String {
        let seq = numbers.then(|| self.next_seq());
        let msg = body.side.as_ref().filter(|_| !self.yes_prices).unwrap_or(&body.yes);
        frame(kind, id, Some(sid), seq, Some(msg), body.sent.as_deref())
    }

    /// Sends the snapshot of a market, or notes that it is to be sent once the book is known.
    fn send_snapshot(
        &mut self,
        sid: u64,
        ticker: &str,
        id: Option<i64>,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) {
        match timeline.snapshot(ticker) {
            Some(body) => {
                self.pending.remove(ticker);
                out.push(self.frame(sid, "orderbook_snapshot", id, &body, true));
            }
            None => {
                self.pending.insert(ticker.to_owned(), id);
            }
        }
    }
}

/// Returns the text of a frame, its members in the order of the document.
fn frame(
    kind: &str,
    id: Option<i64>,
    sid: Option<u64>,
    seq: Option<u64>,
    msg: Option<&str>,
    sent: Option<&str>,
) -> String {
    let mut text = format!("{{\"type\":{}", Json::text(kind));
    // Writing into memory cannot fail.
    if let Some(id) = id {
        let _ = write!(text, ",\"id\":{id}");
    }
    if let Some(sid) = sid {
        let _ = write!(text, ",\"sid\":{sid}");
    }
    if let Some(seq) = seq {
        let _ = write!(text, ",\"seq\":{seq}");
    }
    if let Some(msg) = msg {
        let _ = write!(text, ",\"msg\":{msg}");
    }
    if let Some(sent) = sent {
        let _ = write!(text, ",\"sending_ts_ms\":{sent}");
    }
    text.push('}');
    text
}

impl Session {
    /// Reports whether anything is subscribed.
    pub(super) fn is_subscribed(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Reports whether any of these items of a channel is subscribed; without items, any of it.
    pub(super) fn has(&self, channel: &str, items: &[String]) -> bool {
        self.subscriptions.values().any(|one| {
            one.channel == channel
                && (items.is_empty() || items.iter().any(|item| one.wants(Some(item))))
        })
    }

    /// Carries out a command of the client.
    pub(super) fn command(&mut self, text: &str, timeline: &Timeline, out: &mut Vec<String>) {
        let command: Command = match serde_json::from_str(text) {
            Ok(command) => command,
            Err(_) => return self.refuse(None, &refused(1, "unable to process message"), out),
        };
        let id = Some(command.id).filter(|id| *id > 0);
        let result = match (command.cmd.as_str(), command.params) {
            ("list_subscriptions", _) => {
                let list = self.subscriptions.iter().map(|(sid, one)| {
                    Json::object([("channel", Json::text(one.channel)), ("sid", Json::number(sid))])
                });
                let list = Json::List(list.collect()).to_string();
                out.push(frame("ok", id, None, None, Some(&list), None));
                Ok(())
            }
            ("subscribe" | "unsubscribe" | "update_subscription", None) => {
                Err(refused(2, "params required"))
            }
            ("subscribe", Some(params)) => self.subscribe(&params, id, timeline, out),
            ("unsubscribe", Some(params)) => self.unsubscribe(&params, id, out),
            ("update_subscription", Some(params)) => self.update(&params, id, timeline, out),
            _ => Err(refused(5, "unknown command")),
        };
        if let Err(refusal) = result {
            self.refuse(id, &refusal, out);
        }
    }

    fn refuse(&mut self, id: Option<i64>, refusal: &Refused, out: &mut Vec<String>) {
        let subscription = refusal.sid.and_then(|sid| self.subscriptions.get_mut(&sid));
        let seq = subscription.filter(|one| one.is_numbered()).map(Subscription::next_seq);
        let msg =
            Json::object([("code", Json::number(refusal.code)), ("msg", Json::text(refusal.text))]);
        out.push(frame("error", id, refusal.sid, seq, Some(&msg.to_string()), None));
    }

    fn subscribe(
        &mut self,
        params: &Params,
        id: Option<i64>,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) -> Result<(), Refused> {
        if params.channels.is_empty() {
            return Err(refused(3, "channels required"));
        }
        for name in &params.channels {
            // The refusal of one channel leaves the others alone.
            if let Err(refusal) = self.subscribe_one(name, params, id, timeline, out) {
                self.refuse(id, &refusal, out);
            }
        }
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        name: &str,
        params: &Params,
        id: Option<i64>,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) -> Result<(), Refused> {
        let known = CHANNELS.iter().find(|(channel, _)| *channel == name);
        let (channel, narrows) = *known.ok_or_else(|| refused(8, "unknown channel"))?;
        let items = params.items(narrows);
        let names_none = items.is_empty() && matches!(narrows, Narrows::Markets | Narrows::Nothing);
        if channel == BOOKS && names_none {
            return Err(refused(14, "market ticker required"));
        }
        let open = self.subscriptions.iter().find(|(_, one)| one.channel == channel);
        let sid = match open.map(|(sid, _)| *sid) {
            Some(sid) => sid,
            None => self.last_sid + 1,
        };
        let is_new = sid > self.last_sid;
        let subscription = self.subscriptions.entry(sid).or_insert_with(|| Subscription {
            channel,
            narrows,
            seq: 0,
            has_all: false,
            items: BTreeSet::new(),
            pending: BTreeMap::new(),
            yes_prices: params.use_yes_price,
            short_acks: false,
        });
        self.last_sid = self.last_sid.max(sid);
        subscription.short_acks |= params.skip_ticker_ack;
        let new = match subscription.add(items) {
            Ok(new) => new,
            Err(refusal) => {
                if is_new {
                    self.subscriptions.remove(&sid);
                }
                return Err(refusal);
            }
        };
        subscription.has_all |= names_none;
        if is_new {
            let msg = Json::object([("channel", Json::text(channel)), ("sid", Json::number(sid))]);
            out.push(frame("subscribed", id, None, None, Some(&msg.to_string()), None));
        } else {
            Self::ok(subscription, sid, id, out);
        }
        Self::first(subscription, sid, &new, params.send_initial_snapshot, timeline, out);
        Ok(())
    }

    /// Sends the `ok` of a change, with what the subscription has now.
    fn ok(subscription: &mut Subscription, sid: u64, id: Option<i64>, out: &mut Vec<String>) {
        let seq = subscription.is_numbered().then(|| subscription.next_seq());
        let contents = subscription.contents().map(|contents| contents.to_string());
        out.push(frame("ok", id, Some(sid), seq, contents.as_deref(), None));
    }

    /// Sends what a subscription begins with.
    fn first(
        subscription: &mut Subscription,
        sid: u64,
        new: &[String],
        initial: bool,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) {
        if subscription.channel == BOOKS {
            for ticker in new {
                subscription.send_snapshot(sid, ticker, None, timeline, out);
            }
        } else if subscription.channel == TICKER && initial {
            let all = timeline.markets().filter(|_| subscription.has_all).map(str::to_owned);
            let tickers: Vec<String> = new.iter().cloned().chain(all).collect();
            for ticker in tickers {
                if let Some(body) = timeline.ticker(&ticker) {
                    out.push(subscription.frame(sid, TICKER, None, body, false));
                }
            }
        }
    }

    fn unsubscribe(
        &mut self,
        params: &Params,
        id: Option<i64>,
        out: &mut Vec<String>,
    ) -> Result<(), Refused> {
        let sids: Vec<u64> = params.sids.iter().copied().chain(params.sid).collect();
        if sids.is_empty() {
            return Err(refused(4, "sids required"));
        }
        for sid in sids {
            match self.subscriptions.remove(&sid) {
                Some(mut subscription) => {
                    let seq = subscription.next_seq();
                    out.push(frame("unsubscribed", id, Some(sid), Some(seq), None, None));
                }
                None => self.refuse(id, &refused(7, "unknown subscription id"), out),
            }
        }
        Ok(())
    }

    fn update(
        &mut self,
        params: &Params,
        id: Option<i64>,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) -> Result<(), Refused> {
        let sid = match (params.sid, params.sids.as_slice()) {
            (Some(sid), []) => sid,
            (None, [sid]) => *sid,
            _ => return Err(refused(12, "exactly one subscription id is required")),
        };
        let subscription = self.subscriptions.get_mut(&sid);
        let subscription = subscription.ok_or_else(|| refused(7, "unknown subscription id"))?;
        let changed = Self::change(subscription, sid, params, id, timeline, out);
        changed.map_err(|refusal| Refused { sid: Some(sid), ..refusal })
    }

    fn change(
        subscription: &mut Subscription,
        sid: u64,
        params: &Params,
        id: Option<i64>,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) -> Result<(), Refused> {
        let action = params.action.as_deref().ok_or_else(|| refused(15, "action required"))?;
        let narrows = subscription.narrows;
        let items = params.items(narrows);
        match (narrows, action) {
            (Narrows::Markets, "add_markets" | "delete_markets" | "get_snapshot")
                if items.is_empty() =>
            {
                return Err(refused(14, "market ticker required"));
            }
            (Narrows::Indices, "subscribe_indices" | "unsubscribe_indices") if items.is_empty() => {
                return Err(refused(24, "index ids required"));
            }
            (Narrows::Underlyings, "subscribe_underlyings" | "unsubscribe_underlyings")
                if items.is_empty() =>
            {
                return Err(refused(28, "underlying tickers required"));
            }
            (Narrows::Markets, "get_snapshot") if subscription.channel == BOOKS => {
                let known = items.iter().filter(|item| subscription.items.contains(*item));
                for ticker in known.collect::<Vec<_>>() {
                    subscription.send_snapshot(sid, ticker, id, timeline, out);
                }
            }
            (Narrows::Markets, "add_markets")
            | (Narrows::Indices, "subscribe_indices")
            | (Narrows::Underlyings, "subscribe_underlyings") => {
                let new = subscription.add(items)?;
                Self::ok(subscription, sid, id, out);
                Self::first(subscription, sid, &new, params.send_initial_snapshot, timeline, out);
            }
            (Narrows::Markets, "delete_markets")
            | (Narrows::Indices, "unsubscribe_indices")
            | (Narrows::Underlyings, "unsubscribe_underlyings") => {
                subscription.remove(&items);
                Self::ok(subscription, sid, id, out);
            }
            _ => return Err(refused(13, "unsupported action")),
        }
        Ok(())
    }

    /// Turns a message of the recording into frames of the subscriptions that get it.
    pub(super) fn publish(
        &mut self,
        message: &Published,
        timeline: &Timeline,
        out: &mut Vec<String>,
    ) {
        for (sid, one) in &mut self.subscriptions {
            let item = message.item.as_deref();
            if !message.channels.iter().any(|channel| channel == one.channel) || !one.wants(item) {
                continue;
            }
            match item.filter(|_| one.channel == BOOKS) {
                // The book of before is what the client has.
                Some(ticker) if message.is_snapshot || one.pending.contains_key(ticker) => {
                    let id = one.pending.get(ticker).copied().flatten();
                    one.send_snapshot(*sid, ticker, id, timeline, out);
                }
                _ => {
                    out.push(one.frame(
                        *sid,
                        &message.kind,
                        None,
                        &message.body,
                        message.is_numbered,
                    ));
                }
            }
        }
    }
}
