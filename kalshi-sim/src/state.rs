//! The exchange's state: a pure machine. A request and the time go in, an answer comes out; no
//! sockets, no clock.

use chrono::{DateTime, Utc};
use kalshi_sdk::Operation;
use serde_json::{Value, json};

use crate::{
    catalogue::{Catalogue, Market},
    families::{Account, FIRST_ACCOUNT, Families, World},
    gate,
    keys::Keys,
    query::Query,
    random::Random,
    reference,
    reply::{Outcome, Reply},
};

/// One request, as far as the machine is concerned.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static Operation,
    /// The id of the key that signed it.
    pub(crate) key_id: Option<&'a str>,
    /// Path parameters, decoded, in the order of the path.
    pub(crate) path: &'a [String],
    pub(crate) query: &'a Query,
    pub(crate) body: &'a Value,
    /// The pair for a key that is to be generated: it was made outside, for it takes long.
    pub(crate) pair: Option<&'a kalshi_auth::exchange::KeyPair>,
}

/// Everything that the exchange knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) keys: Keys,
    catalogue: Catalogue,
    families: Families,
}

impl State {
    pub(crate) fn new(seed: u64, start: DateTime<Utc>) -> Self {
        let mut catalogue = Catalogue::new(seed, start);
        let Catalogue { series, events, markets, .. } = &mut catalogue;
        let families = Families::new(seed, start, series, events, markets);
        Self { keys: Keys::new(Random::new(seed)), catalogue, families }
    }

    /// Carries out a request whose signature has been checked.
    pub(crate) fn handle(&mut self, call: &Call<'_>, now: DateTime<Utc>) -> Reply {
        self.outcome(call, now).unwrap_or_else(|refusal| refusal)
    }

    fn outcome(&mut self, call: &Call<'_>, now: DateTime<Utc>) -> Outcome {
        let mut account = Account::plain(FIRST_ACCOUNT);
        if let Some(id) = call.key_id {
            // The key may have been deleted since its signature was checked.
            let key = self.keys.get(id).ok_or_else(|| Reply::unauthorized("NOT_FOUND"))?;
            gate::permit(key, call.operation)?;
            account.bound_to = key.subaccount;
        }
        let first = call.path.first().map_or("", String::as_str);
        match call.operation.id {
            "get_api_keys" => Ok(self.keys.list()),
            "create_api_key" => self.keys.create(call.body),
            "generate_api_key" => match call.pair {
                Some(pair) => self.keys.generate(call.body, pair),
                None => Err(Reply::bad_request("no key pair was made")),
            },
            "delete_api_key" => self.keys.delete(first),
            "get_exchange_status" => Ok(reference::status()),
            "get_exchange_schedule" => Ok(reference::schedule(now)),
            "get_user_data_timestamp" => Ok(reference::user_data_timestamp(now)),
            "get_account_endpoint_costs" => Ok(reference::endpoint_costs()),
            "get_series_list" => Ok(self.series_list(call.query)),
            "get_series" => self.series(first),
            "get_events" => self.events(call.query),
            "get_event" => self.event(first, call.query),
            "get_markets" => self.markets(call.query),
            "get_market" => self.market(first),
            "get_market_orderbook" => self.order_book(first, call.query),
            "get_market_orderbooks" => self.order_books(call.query),
            "get_trades" => self.trades(call.query),
            other => {
                let Catalogue { series, events, markets, .. } = &mut self.catalogue;
                let world = World { series, events, markets };
                let played = self.families.handle(world, &account, call, now);
                played.unwrap_or_else(|| Err(Reply::not_implemented(other)))
            }
        }
    }

    fn series_list(&self, query: &Query) -> Reply {
        let category = query.get("category");
        let rows: Vec<&Value> = self
            .catalogue
            .series
            .iter()
            .filter(|series| category.is_none_or(|category| series["category"] == category))
            .collect();
        Reply::ok(json!({"series": rows}))
    }

    fn series(&self, ticker: &str) -> Outcome {
        let found = self.catalogue.series.iter().find(|series| series["ticker"] == ticker);
        found.map(|series| Reply::ok(json!({"series": series}))).ok_or_else(Reply::not_found)
    }

    fn events(&self, query: &Query) -> Outcome {
        let tickers = query.list("tickers");
        let status = status(query, &["unopened", "open", "closed", "settled"])?;
        let series = query.get("series_ticker");
        let nested = query.flag("with_nested_markets")?;
        let rows: Vec<Value> = self
            .catalogue
            .events
            .iter()
            .filter(|event| series.is_none_or(|series| event["series_ticker"] == series))
            .filter(|event| {
                tickers.as_ref().is_none_or(|list| list.iter().any(|t| event["event_ticker"] == *t))
            })
            // An event counts as open while any of its markets does.
            .filter(|event| {
                status.is_none_or(|s| self.markets_of(event).any(|m| m.filter_status == s))
            })
            .map(|event| self.shown(event, nested))
            .collect();
        let (rows, cursor) = query.page(rows, 200, 200)?;
        Ok(Reply::ok(json!({"events": rows, "cursor": cursor})))
    }

    fn event(&self, ticker: &str, query: &Query) -> Outcome {
        let nested = query.flag("with_nested_markets")?;
        let found = self.catalogue.events.iter().find(|event| event["event_ticker"] == ticker);
        let found = found.or_else(|| self.families.combo_event(ticker));
        let event = found.ok_or_else(Reply::not_found)?;
        let markets: Vec<&Value> =
            if nested { Vec::new() } else { self.markets_of(event).map(|m| &m.wire).collect() };
        Ok(Reply::ok(json!({"event": self.shown(event, nested), "markets": markets})))
    }

    fn markets_of<'a>(&'a self, event: &'a Value) -> impl Iterator<Item = &'a Market> {
        self.catalogue.markets.iter().filter(|market| event["event_ticker"] == *market.event_ticker)
    }

    fn shown(&self, event: &Value, nested: bool) -> Value {
        let mut event = event.clone();
        if nested {
            let markets: Vec<&Value> = self.markets_of(&event).map(|m| &m.wire).collect();
            event["markets"] = json!(markets);
        }
        event
    }

    fn markets(&self, query: &Query) -> Outcome {
        let status = status(query, &["unopened", "open", "paused", "closed", "settled"])?;
        let tickers = query.list("tickers");
        let event = query.get("event_ticker");
        let series = query.get("series_ticker");
        let within = |time: DateTime<Utc>, min: Option<i64>, max: Option<i64>| {
            let time = time.timestamp();
            min.is_none_or(|min| time >= min) && max.is_none_or(|max| time <= max)
        };
        let (min_close, max_close) =
            (query.integer("min_close_ts")?, query.integer("max_close_ts")?);
        let (min_made, max_made) =
            (query.integer("min_created_ts")?, query.integer("max_created_ts")?);
        if (min_close.is_some() || max_close.is_some()) && !matches!(status, None | Some("closed"))
        {
            return Err(Reply::bad_request("close time filters go with status closed only"));
        }
        let rows: Vec<&Value> = self
            .catalogue
            .markets
            .iter()
            .filter(|m| status.is_none_or(|status| m.filter_status == status))
            .filter(|m| tickers.as_ref().is_none_or(|list| list.contains(&m.ticker.as_str())))
            .filter(|m| event.is_none_or(|event| m.event_ticker == event))
            .filter(|m| series.is_none_or(|series| m.series_ticker == series))
            .filter(|m| within(m.close_time, min_close, max_close))
            .filter(|m| within(m.created_time, min_made, max_made))
            .map(|m| &m.wire)
            .collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        Ok(Reply::ok(json!({"markets": rows, "cursor": cursor})))
    }

    fn market(&self, ticker: &str) -> Outcome {
        let market = self.catalogue.market(ticker).ok_or_else(Reply::not_found)?;
        Ok(Reply::ok(json!({"market": market.wire})))
    }

    fn order_book(&self, ticker: &str, query: &Query) -> Outcome {
        let depth = match query.integer("depth")? {
            // 0 stands for all of it.
            None | Some(0) => usize::MAX,
            Some(depth) => match usize::try_from(depth) {
                Ok(depth) if depth <= 100 => depth,
                _ => return Err(Reply::bad_request("depth must be 0 to 100")),
            },
        };
        let market = self.catalogue.market(ticker).ok_or_else(Reply::not_found)?;
        Ok(Reply::ok(json!({"orderbook_fp": levels(market, depth)})))
    }

    fn order_books(&self, query: &Query) -> Outcome {
        let tickers: Vec<&str> = query.all("tickers").collect();
        if tickers.is_empty() || tickers.len() > 100 {
            return Err(Reply::bad_request("tickers must name 1 to 100 markets"));
        }
        let books: Vec<Value> = tickers
            .iter()
            .filter_map(|ticker| self.catalogue.market(ticker))
            .map(|m| json!({"ticker": m.ticker, "orderbook_fp": levels(m, usize::MAX)}))
            .collect();
        Ok(Reply::ok(json!({"orderbooks": books})))
    }

    fn trades(&self, query: &Query) -> Outcome {
        let ticker = query.get("ticker");
        let (min, max) = (query.integer("min_ts")?, query.integer("max_ts")?);
        let rows: Vec<&Value> = self
            .catalogue
            .trades
            .iter()
            .filter(|trade| ticker.is_none_or(|ticker| trade["ticker"] == ticker))
            .filter(|trade| {
                let time =
                    trade["created_time"].as_str().and_then(|t| t.parse::<DateTime<Utc>>().ok());
                let time = time.map_or(0, |time| time.timestamp());
                min.is_none_or(|min| time >= min) && max.is_none_or(|max| time <= max)
            })
            .collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        Ok(Reply::ok(json!({"trades": rows, "cursor": cursor})))
    }
}

/// The best levels of both sides, the best last.
fn levels(market: &Market, depth: usize) -> Value {
    let best = |side: &[(kalshi_types::Dollars, kalshi_types::Count)]| {
        json!(&side[side.len().saturating_sub(depth)..])
    };
    json!({"yes_dollars": best(&market.yes), "no_dollars": best(&market.no)})
}

/// The status filter, one word of a list.
fn status<'a>(query: &'a Query, words: &[&str]) -> Result<Option<&'a str>, Reply> {
    match query.get("status") {
        Some(word) if !words.contains(&word) => {
            Err(Reply::bad_request(&format!("status must be one of {}", words.join(", "))))
        }
        word => Ok(word),
    }
}
