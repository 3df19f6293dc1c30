//! The rows that a page sees, read from the state: the values of now, never a history of changes.
//!
//! Rows are JSON arrays of texts and whole numbers. Prices, counts and amounts are the texts of the
//! API.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use kalshi_types::{Count, Dollars};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        Account, Market, Position, SHARDS,
        amount::{SaturatingArithmetic as _, cost},
        ids::{AccountId, OrderId},
        types::{MarketResult, Order, Side},
    },
    http::ui::conflation::{Head, Model},
    shared::{RequestRecord, Shared},
    state::State,
    stream::{
        hub::LinkState,
        journal::{Entry, Subject},
    },
};

/// The most rows of a list.
const ROWS: usize = 100;
/// The most markets, trades and levels of a side that are shown at once.
const MARKETS: usize = 240;
const TRADES: usize = 60;
const LEVELS: usize = 500;
/// The orders of a side that are counted.
const QUEUED: usize = 5_000;
/// The minutes of the chart.
const MINUTES: usize = 240;

/// A panel of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Panel {
    /// Shards, totals and settings.
    Exchange,
    /// The markets, of which a filter chooses.
    Markets,
    /// The market that is chosen.
    Market,
    /// The levels of its book.
    Book,
    /// The orders of members in it, with their places in the queue.
    Own,
    Trades,
    /// What has happened to markets.
    Events,
    /// The minutes of its price.
    Chart,
    Orders,
    /// What has happened to the order that is chosen.
    Timeline,
    Positions,
    Members,
    Requests,
    Faults,
    Streams,
    Subscriptions,
}

/// What a page wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Watch {
    pub(super) panels: BTreeSet<Panel>,
    /// The market; the first active one unless it is known.
    pub(super) ticker: String,
    /// A part of the tickers of the markets to list.
    pub(super) filter: String,
    /// The number of the order whose timeline is shown.
    pub(super) order: u64,
}

/// Returns the name of a member: that of its role, or the number of its account.
pub(super) fn member(state: &State, account: AccountId) -> String {
    if account == state.first_account {
        "trader".to_owned()
    } else if account == state.second_account {
        "maker".to_owned()
    } else {
        account.0.to_string()
    }
}

/// Reads what a page wants to see. The state is locked once.
pub(super) fn read(shared: &Shared, watch: &Watch) -> (Head, Model) {
    let now = shared.now();
    let mut model = Model::new();
    let wants = |panel| watch.panels.contains(&panel);
    if wants(Panel::Requests) {
        model.insert("requests", requests(shared));
    }
    if wants(Panel::Faults) {
        model.insert("faults", faults(shared));
    }
    let state = shared.state();
    let market = chosen(&state, &watch.ticker);
    let ticker = market.map_or_else(String::new, |market| market.ticker.clone());
    if wants(Panel::Exchange) {
        model.insert("exchange", exchange(shared, &state));
    }
    if wants(Panel::Markets) {
        model.insert("markets", markets(&state, &watch.filter));
    }
    if let Some(market) = market {
        if wants(Panel::Market) {
            model.insert("market", BTreeMap::from([("market".to_owned(), about(&state, market))]));
        }
        if wants(Panel::Book) || wants(Panel::Own) {
            let (book, own) = book(&state, market);
            model.insert("book", book);
            model.insert("own", own);
        }
        if wants(Panel::Trades) {
            model.insert("trades", trades(&state, market));
        }
        if wants(Panel::Chart) {
            model.insert("chart", chart(market));
        }
    }
    if wants(Panel::Orders) {
        model.insert("orders", orders(&state));
    }
    if wants(Panel::Positions) {
        model.insert("positions", positions(&state));
    }
    if wants(Panel::Members) {
        model.insert("members", members(&state));
    }
    if wants(Panel::Events) {
        model.insert("events", events(shared, &state));
    }
    if wants(Panel::Timeline) && watch.order != 0 {
        model.insert("timeline", timeline(shared, &state, OrderId(watch.order)));
    }
    if wants(Panel::Streams) || wants(Panel::Subscriptions) {
        let (links, subscriptions) = streams(shared, &state);
        model.insert("streams", links);
        model.insert("subscriptions", subscriptions);
    }
    model.retain(|_, rows| !rows.is_empty());
    let at = now.timestamp_millis();
    (Head { at, is_frozen: shared.clock.is_frozen(), ticker }, model)
}

type Rows = BTreeMap<String, String>;

/// Returns a row with its key, as texts.
fn row(key: impl fmt::Display, row: &Value) -> (String, String) {
    (format!("{key}"), row.to_string())
}

fn chosen<'a>(state: &'a State, ticker: &str) -> Option<&'a Market> {
    let engine = &state.engine;
    let named = engine.market_by_ticker(ticker).or_else(|| engine.archived_market(ticker));
    named
        .or_else(|| engine.markets().iter().find(|market| market.status.filter() == "open"))
        .or_else(|| engine.markets().first())
}

fn exchange(shared: &Shared, state: &State) -> Rows {
    let shards = SHARDS.into_iter().map(|(index, name)| {
        let open = state.engine.shard(index);
        row(format!("shard/{index}"), &json!([name, open.exchange_active, open.trading_active]))
    });
    let mut rows: Rows = shards.collect();
    rows.extend([
        row("requests", &json!([shared.log().last()])),
        row("lag", &json!([shared.streams.lag()])),
        row("rules", &json!([state.rules()])),
        row("markets", &json!([state.engine.markets().len()])),
    ]);
    rows
}

fn markets(state: &State, filter: &str) -> Rows {
    let engine = &state.engine;
    let filter = filter.to_ascii_uppercase();
    // Open ones first: what is over is looked for by its ticker.
    let all = engine.markets().iter().filter(|market| market.ticker.contains(&*filter));
    let (open, over): (Vec<&Market>, Vec<&Market>) =
        all.partition(|market| market.status.filter() == "open");
    let rows = open.into_iter().chain(over.into_iter().rev()).take(MARKETS).map(|market| {
        let prices = market.prices();
        row(
            &market.ticker,
            &json!([
                market.status.as_str(),
                market.result.map_or("", MarketResult::as_str),
                prices.bid.map(|level| level.price),
                prices.ask.map(|level| level.price),
                market.last_price,
                market.volume,
                market.closes.as_millis(),
            ]),
        )
    });
    rows.collect()
}

fn about(state: &State, market: &Market) -> String {
    let about = state.catalog.listings.about(&market.ticker);
    let text = |field: &str| about.and_then(|about| about[field].as_str());
    json!([
        market.ticker,
        text("title").unwrap_or_default(),
        text("yes_sub_title").unwrap_or_default(),
        market.status.as_str(),
        market.result.map(MarketResult::value),
        market.shard,
        market.event_ticker,
        market.opens.as_millis(),
        market.closes.as_millis(),
        market.volume,
        market.open_interest,
        market.last_price,
        market.structure,
        market.grid.ranges(),
    ])
    .to_string()
}

/// Returns the levels of a book, and the orders of members in it.
fn book(state: &State, market: &Market) -> (Rows, Rows) {
    let (mut book, mut own) = (Rows::new(), Rows::new());
    for (side, letter) in [(Side::Bid, 'b'), (Side::Ask, 'a')] {
        let mut queued: BTreeMap<Dollars, (usize, Count)> = BTreeMap::new();
        let mut ahead = Count::ZERO;
        let mut counted = 0;
        for (price, id, count) in market.queue(side).take(QUEUED) {
            let level = queued.entry(price).or_default();
            level.0 += 1;
            counted += 1;
            if let Some(order) = state.engine.order(id)
                && state.members().contains(&order.account)
            {
                level.1 = level.1.saturating_add(count);
                if own.len() < ROWS {
                    let place = level.0;
                    let owner = member(state, order.account);
                    let values = json!([owner, side.as_str(), price, count, ahead, place]);
                    own.extend([row(id.0, &values)]);
                }
            }
            ahead = ahead.saturating_add(count);
        }
        // The last level may have more than were counted.
        let last = (counted == QUEUED).then(|| match side {
            Side::Bid => queued.keys().next().copied(),
            Side::Ask => queued.keys().next_back().copied(),
        });
        for level in market.levels(side).take(LEVELS) {
            let (orders, own) = queued.get(&level.price).copied().unwrap_or_default();
            let is_whole = orders > 0 && last.flatten() != Some(level.price);
            let values = json!([level.count, is_whole.then_some(orders), own]);
            book.extend([row(format!("{letter}{}", level.price), &values)]);
        }
    }
    (book, own)
}

fn trades(state: &State, market: &Market) -> Rows {
    let trades = market.trades.iter().rev().take(TRADES).filter_map(|id| state.engine.trade(*id));
    let rows = trades.map(|trade| {
        let values = json!([
            trade.at.as_millis(),
            trade.price,
            trade.count,
            trade.taker_side.as_str(),
            trade.block,
        ]);
        row(trade.id.0, &values)
    });
    rows.collect()
}

fn chart(market: &Market) -> Rows {
    let minutes = market.minutes.iter().rev().take(MINUTES).map(|(minute, values)| {
        let traded = values.price.map(|bar| json!([bar.open, bar.low, bar.high, bar.close]));
        let values = json!([values.bid.close, values.ask.close, traded, values.volume]);
        row(minute, &values)
    });
    minutes.collect()
}

/// Returns the accounts of members.
fn accounts(state: &State) -> impl Iterator<Item = (AccountId, &Account)> {
    state.members().into_iter().filter_map(|id| Some((id, state.engine.ledger.account(id)?)))
}

fn orders(state: &State) -> Rows {
    let mut ids: Vec<OrderId> = accounts(state)
        .flat_map(|(_, account)| account.orders.iter().rev().take(ROWS).copied())
        .collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let orders = ids.into_iter().take(ROWS).filter_map(|id| state.engine.order(id));
    // What has left the live tier is of a past that no test has made.
    let live = orders.filter(|order| state.engine.is_live(order));
    live.map(|order| row(order.id.0, &order_row(state, order))).collect()
}

fn order_row(state: &State, order: &Order) -> Value {
    json!([
        member(state, order.account),
        state.engine.market(order.market).map_or("", |market| &market.ticker),
        order.side.as_str(),
        order.price,
        order.initial,
        order.filled,
        order.remaining,
        order.status.as_str(),
        order.reason.as_str(),
        order.created.as_millis(),
        order.updated.as_millis(),
        order.extras().client_order_id.as_deref().unwrap_or_default(),
        order.id.to_string(),
        order.subaccount,
    ])
}

/// Returns what the contracts of a position would pay at the best prices.
fn value(market: Option<&Market>, position: &Position) -> Dollars {
    let Some(market) = market else { return Dollars::ZERO };
    let (bid, no_bid) = match market.result {
        Some(result) => {
            let value = result.value();
            (value, Dollars::ONE.saturating_sub(value))
        }
        None => (market.prices().yes_bid(), market.prices().no_bid()),
    };
    cost(bid, position.yes).saturating_add(cost(no_bid, position.no))
}

/// Returns what a position has gained: paid out, and what it would pay now, less costs and fees.
fn gained(market: Option<&Market>, position: &Position) -> Dollars {
    position
        .realized
        .saturating_add(value(market, position))
        .saturating_sub(position.exposure())
        .saturating_sub(position.fees)
}

fn positions(state: &State) -> Rows {
    let mut rows = Rows::new();
    for (id, account) in accounts(state) {
        let open = account
            .positions
            .iter()
            .filter(|(_, position)| !position.settled && !position.volume.is_zero());
        for ((market, subaccount), position) in open.take(ROWS) {
            let market = state.engine.market(*market);
            let ticker = market.map_or("", |market| &market.ticker);
            let name = member(state, id);
            rows.extend([row(
                format!("{name}/{ticker}/{subaccount}"),
                &json!([
                    position.net(),
                    position.exposure(),
                    value(market, position),
                    position.realized,
                    position.fees,
                    gained(market, position),
                ]),
            )]);
        }
    }
    rows
}

fn members(state: &State) -> Rows {
    let now = state.engine.now();
    let rows = accounts(state).map(|(id, account)| {
        let sum = |sum: Dollars, amount: Dollars| sum.saturating_add(amount);
        let cash = account.cash.values().map(|balance| balance.cash).fold(Dollars::ZERO, sum);
        let held = account.cash.values().map(|balance| balance.held).fold(Dollars::ZERO, sum);
        let gains = account
            .positions
            .iter()
            .map(|((market, _), position)| gained(state.engine.market(*market), position))
            .fold(Dollars::ZERO, sum);
        let keys = state.keys.iter().filter(|(_, key)| key.account == id).count();
        let tier = state.limits.tier(id).as_str();
        let values = json!([
            cash,
            held,
            gains,
            account.resting.len(),
            keys,
            tier,
            state.limits.left(id, now),
        ]);
        row(member(state, id), &values)
    });
    rows.collect()
}

fn requests(shared: &Shared) -> Rows {
    let log = shared.log();
    log.iter().rev().take(ROWS).map(|record| row(record.number, &request_row(record))).collect()
}

fn request_row(record: &RequestRecord) -> Value {
    json!([
        record.at.timestamp_millis(),
        record.method.as_str(),
        record.operation,
        record.path,
        record.status,
        record.took.and_then(|took| u64::try_from(took.as_micros()).ok()),
        record.key_id,
        record.faults,
    ])
}

fn faults(shared: &Shared) -> Rows {
    let faults = shared.faults();
    let rows = faults.reports().iter().enumerate().rev().take(ROWS).map(|(place, report)| {
        let fault = &report.fault;
        let operation = fault.operation.map(kalshi_sdk::OperationId::as_str);
        let values =
            json!([fault.fault, operation, fault.key_id, fault.one_in, fault.times, report.hits]);
        row(place, &values)
    });
    rows.collect()
}

fn events(shared: &Shared, state: &State) -> Rows {
    shared.streams.read_journal(|journal| {
        let entries = journal.entries().rev().filter_map(|entry| match entry.subject {
            Subject::Market(market) => Some((entry, market)),
            Subject::Order(..) => None,
        });
        let rows = entries.take(TRADES).map(|(entry, market)| {
            let ticker = state.engine.market(market).map_or("", |market| &market.ticker);
            row(entry.number, &json!([entry.at, ticker, entry.change]))
        });
        rows.collect()
    })
}

fn timeline(shared: &Shared, state: &State, order: OrderId) -> Rows {
    let mut rows = shared.streams.read_journal(|journal| {
        let is_about =
            |entry: &&Entry| matches!(entry.subject, Subject::Order(_, id) if id == order);
        let entries = journal.entries().rev().filter(is_about).take(ROWS);
        entries.map(|entry| row(entry.number, &entry_row(state, entry))).collect::<Rows>()
    });
    if let Some(order) =
        state.engine.order(order).filter(|one| state.members().contains(&one.account))
    {
        rows.extend([row("order", &order_row(state, order))]);
    }
    rows
}

fn entry_row(state: &State, entry: &Entry) -> Value {
    let sent: Vec<Value> = entry
        .sent
        .iter()
        .map(|message| {
            let member = member(state, message.account);
            json!([message.connection, member, message.channel, message.sid, message.seq])
        })
        .collect();
    json!([
        entry.at,
        entry.request,
        entry.change,
        entry.details,
        sent,
        entry.more_sent,
        entry.readable_at(),
    ])
}

/// Returns the connections, and their subscriptions.
fn streams(shared: &Shared, state: &State) -> (Rows, Rows) {
    let (mut links, mut subscriptions) = (Rows::new(), Rows::new());
    for link in shared.streams.links().into_iter().rev().take(ROWS) {
        let status = match link.state {
            LinkState::Up if link.takes_commands => "up",
            LinkState::Up => "not reading",
            LinkState::Silent => "silent",
            LinkState::Cut => "cut",
        };
        let owner = member(state, link.account);
        let values = json!([owner, status, link.frames, link.bytes, link.trails_by]);
        links.extend([row(link.id, &values)]);
        for one in link.subscriptions.into_iter().take(ROWS) {
            let values = json!([one.channel, one.markets, one.seq]);
            subscriptions.extend([row(format!("{}/{}", link.id, one.sid), &values)]);
        }
    }
    (links, subscriptions)
}
