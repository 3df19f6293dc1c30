//! A recording as it passes: the books of the present moment, and the messages that come next.
//! Pure: lines in, what clients see out.

use std::collections::{BTreeMap, HashMap};

use kalshi_sdk::{
    Dollars, PriceLevel, UnixMillis,
    streams::{Books, DisconnectReason, Event, PriceConvention, Replay},
};
use kalshi_ws::{
    BookChange, MESSAGE_KINDS, Outcome,
    recording::{RecordedEvent, RecordedLine},
};

use crate::json::Json;

/// The member that names what a message is about, on the channels that are narrowed by it.
const ITEMS: [&str; 4] = ["market_ticker", "ticker", "index_id", "underlying_ticker"];

/// The channel of order books.
pub(super) const BOOKS: &str = "orderbook_delta";

/// The channel of prices.
pub(super) const TICKER: &str = "ticker";

/// The effect of a line of the recording on clients.
#[derive(Debug)]
pub(super) enum Moment {
    /// Nothing.
    Nothing,
    /// A message.
    Message(Box<Published>),
    /// Something is missing here, for this reason.
    Gap(String),
    /// The recording has no more of these items of a channel.
    Ended {
        /// The channel.
        channel: String,
        /// The items; empty for all of them.
        items: Vec<String>,
    },
}

/// A message of the recording, without what is of its connection.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) kind: String,
    /// The channels that carry it.
    pub(super) channels: Vec<String>,
    /// The market, index or underlying that it is about.
    pub(super) item: Option<String>,
    /// True if it takes a number of its subscription.
    pub(super) is_numbered: bool,
    /// The content, and with the prices of the other convention where they differ.
    pub(super) body: Body,
    /// True for a whole book.
    pub(super) is_snapshot: bool,
}

/// The content of a message in both conventions of prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) yes: String,
    /// `None` if it is the same.
    pub(super) side: Option<String>,
    /// The time at which the exchange sent it.
    pub(super) sent: Option<String>,
}

/// The state of a market at the present moment.
#[derive(Debug, Default)]
struct MarketState {
    id: String,
    /// The last message with its prices.
    ticker: Option<Body>,
}

/// The recording up to the present moment.
pub(super) struct Timeline {
    replay: Replay,
    books: Books,
    prices: PriceConvention,
    /// The start of the recording that is played, from its header.
    started: Option<UnixMillis>,
    /// The channels of the subscriptions that were recorded.
    channels: HashMap<i64, String>,
    markets: BTreeMap<String, MarketState>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        // A file without a header is read as a connection of this program recorded it.
        let prices = PriceConvention::Yes;
        Self {
            replay: Replay::new(prices),
            books: Books::new(),
            prices,
            started: None,
            channels: HashMap::new(),
            markets: BTreeMap::new(),
        }
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, line: RecordedLine) -> Moment {
        match line.event {
            RecordedEvent::Received(text) => self.frame(&text, line.at),
            RecordedEvent::Sent(text) => self.sent(&text),
            RecordedEvent::Header(header) => {
                let before = self.started.replace(header.started);
                let is_other = before.is_some_and(|before| before != header.started);
                if header.prices != self.prices {
                    // The books of before have other prices.
                    self.prices = header.prices;
                    self.replay = Replay::new(header.prices);
                    self.lose();
                }
                if is_other { self.gap("another recording begins") } else { Moment::Nothing }
            }
            RecordedEvent::Disconnected(reason) => self.gap(&reason),
            RecordedEvent::Lost(lines) => self.gap(&format!("{lines} lines are missing")),
            RecordedEvent::Unknown(_) => self.gap("a line is of an unknown kind"),
            _ => Moment::Nothing,
        }
    }

    /// Takes in that something is missing.
    pub(super) fn gap(&mut self, reason: &str) -> Moment {
        let books = &mut self.books;
        let lost = DisconnectReason::Failed(reason.to_owned());
        self.replay.disconnected(lost, |event| {
            books.apply(&event);
        });
        self.lose();
        Moment::Gap(reason.to_owned())
    }

    fn lose(&mut self) {
        self.books.void();
        self.channels.clear();
    }

    /// Takes in a command of the connection that was recorded.
    fn sent(&mut self, text: &str) -> Moment {
        let (mut moment, books) = (Moment::Nothing, &mut self.books);
        self.replay.sent(text, |event| {
            books.apply(&event);
            if let Event::Removed { channel, items } = event {
                moment = Moment::Ended { channel: channel.to_string(), items };
            }
        });
        moment
    }

    fn frame(&mut self, text: &str, at: UnixMillis) -> Moment {
        let (mut change, mut lost, mut ended) = (BookChange::None, None, None);
        let books = &mut self.books;
        self.replay.frame(text, at, |event| {
            change = books.apply(&event);
            match event {
                Event::Gap { channel, .. } => {
                    lost = Some(format!("messages of {channel} are lost"));
                }
                Event::Terminated { channel, .. } => {
                    lost = Some(format!("the subscription to {channel} ended"));
                }
                Event::Unsubscribed { channel } => ended = Some(channel.to_string()),
                Event::Malformed(_) => lost = Some("a message cannot be read".to_owned()),
                _ => {}
            }
        });
        if let BookChange::Corrupt(error) = &change {
            lost = Some(format!("a book is corrupt: {error}"));
        }
        let published = Json::parse(text).ok().and_then(|frame| self.published(&frame, change));
        match (lost, ended, published) {
            // The books that it concerns are void by now, until the recording has them anew.
            (Some(reason), ..) => Moment::Gap(reason),
            (None, Some(channel), _) => Moment::Ended { channel, items: Vec::new() },
            (None, None, Some(published)) => Moment::Message(Box::new(published)),
            (None, None, None) => Moment::Nothing,
        }
    }

    /// Returns the message of a frame; `None` for an answer to a command of the recording.
    fn published(&mut self, frame: &Json, change: BookChange) -> Option<Published> {
        let kind = frame.get("type")?.as_str()?;
        let msg = frame.get("msg");
        let is_snapshot = kind == "orderbook_snapshot";
        match kind {
            "subscribed" => {
                let msg = msg?;
                let (channel, sid) = (msg.get("channel")?.as_str()?, number(msg.get("sid")?)?);
                self.channels.insert(sid, channel.to_owned());
                return None;
            }
            "ok" | "unsubscribed" | "error" => return None,
            _ if frame.get("id").is_some() && !is_snapshot => return None,
            _ => {}
        }
        let msg = msg?;
        let item = ITEMS.iter().find_map(|name| msg.get(name)?.as_str()).map(str::to_owned);
        let is_book = is_snapshot || kind == "orderbook_delta";
        if is_book && !matches!(change, BookChange::Replaced | BookChange::Updated) {
            // It waits for its snapshot: the message says nothing.
            return None;
        }
        let of_subscription = frame.get("sid").and_then(number);
        let of_subscription = of_subscription.and_then(|sid| self.channels.get(&sid).cloned());
        let channels = if let Some(channel) = of_subscription {
            vec![channel]
        } else {
            let known = MESSAGE_KINDS.iter().find(|known| known.name == kind)?;
            known.channels.iter().map(|channel| channel.as_str().to_owned()).collect()
        };
        let mut body = Body {
            yes: msg.to_string(),
            side: None,
            sent: frame.get("sending_ts_ms").map(ToString::to_string),
        };
        if kind == "orderbook_delta" && msg.get("side").and_then(Json::as_str) == Some("no") {
            let other = with_complement(msg)?;
            match self.prices {
                PriceConvention::Yes => body.side = Some(other),
                PriceConvention::Side => body.side = Some(std::mem::replace(&mut body.yes, other)),
            }
        }
        if let Some(ticker) = item.as_deref().filter(|_| is_book || kind == TICKER) {
            let market = self.markets.entry(ticker.to_owned()).or_default();
            if let Some(id) = msg.get("market_id").and_then(Json::as_str)
                && market.id != id
            {
                id.clone_into(&mut market.id);
            }
            if kind == TICKER {
                market.ticker = Some(body.clone());
            }
        }
        Some(Published {
            kind: kind.to_owned(),
            channels,
            item,
            is_numbered: frame.get("seq").is_some(),
            body,
            is_snapshot,
        })
    }

    /// Returns the book of a market as a snapshot; `None` unless it is known exactly.
    pub(super) fn snapshot(&self, ticker: &str) -> Option<Body> {
        let book = self.books.get(ticker)?;
        let bids: Vec<PriceLevel> = book.bids(Outcome::Yes).collect();
        let asks: Vec<PriceLevel> = book.asks(Outcome::Yes).collect();
        let in_no = asks
            .iter()
            .map(|level| Some(PriceLevel { price: level.price.complement()?, ..*level }))
            .collect::<Option<Vec<_>>>()?;
        let written = |no: &[PriceLevel]| {
            let id = self.markets.get(ticker).map(|market| market.id.as_str());
            let mut members = vec![
                ("market_ticker", Json::text(ticker)),
                ("market_id", Json::text(id.unwrap_or_default())),
            ];
            if let Some(clock) = self.books.clock(ticker) {
                members.push(("clock", Json::number(clock)));
            }
            // An empty side has no member.
            for (name, side) in [("yes_dollars_fp", bids.as_slice()), ("no_dollars_fp", no)] {
                if !side.is_empty() {
                    members.push((name, levels(side)));
                }
            }
            Json::object(members).to_string()
        };
        Some(Body { yes: written(&asks), side: Some(written(&in_no)), sent: None })
    }

    /// Returns the last prices of a market.
    pub(super) fn ticker(&self, ticker: &str) -> Option<&Body> {
        self.markets.get(ticker)?.ticker.as_ref()
    }

    /// Returns the markets of which anything is known.
    pub(super) fn markets(&self) -> impl Iterator<Item = &str> {
        self.markets.keys().map(String::as_str)
    }
}

fn number(json: &Json) -> Option<i64> {
    match json {
        Json::Number(text) => text.parse().ok(),
        _ => None,
    }
}

/// Returns a side of a book, the best level last.
fn levels(side: &[PriceLevel]) -> Json {
    let level = |level: &PriceLevel| {
        Json::List(vec![Json::text(level.price.to_string()), Json::text(level.count.to_string())])
    };
    Json::List(side.iter().rev().map(level).collect())
}

/// Returns the content of a delta with the price of the other convention.
fn with_complement(msg: &Json) -> Option<String> {
    let price: Dollars = msg.get("price_dollars")?.as_str()?.parse().ok()?;
    let complement = price.complement()?;
    let Json::Object(members) = msg else { return None };
    let members = members.iter().map(|(name, value)| match name.as_str() {
        "price_dollars" => (name.clone(), Json::text(complement.to_string())),
        _ => (name.clone(), value.clone()),
    });
    Some(Json::Object(members.collect()).to_string())
}
