//! The operations. Those over the engine have one module and one function, `handle`, for each family
//! of the operation table. The others answer from what was made up at the start: live data, milestones, structured targets,
//! search, incentives, usage levels, fee changes, display data, forecasts, combo collections, FCM,
//! the archive. Each is a pure function of what it was seeded with, the call, and the time.
//!
//! What they need of the markets goes through [`MarketMaker`], what they need of the caller through
//! [`Account`]: neither books nor keys are known here.

pub(crate) mod account;
pub(crate) mod api_keys;
pub(crate) mod candles;
mod collections;
pub(crate) mod communications;
mod dice;
mod display;
pub(crate) mod events;
pub(crate) mod exchange;
mod fcm;
mod fees;
mod forecast;
mod games;
mod historical;
mod incentives;
mod ledger;
mod live_data;
pub(crate) mod market;
mod milestones;
pub(crate) mod order_groups;
pub(crate) mod orders;
pub(crate) mod portfolio;
mod search;
mod targets;
#[cfg(test)]
mod tests;
mod usage;
mod weather;

use chrono::{DateTime, Utc};
use kalshi_types::Count;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use self::collections::NewMarket;
use self::{
    collections::Collections,
    fcm::Fcm,
    fees::Fees,
    historical::Archive,
    incentives::Incentives,
    milestones::Milestones,
    targets::{COMPETITIONS, Targets},
    weather::Weather,
};
use crate::{
    catalogue::{Listing, Listings},
    engine::{self, Engine, fees::FeeType, types},
    limits::Limits,
    query::Query,
    reply::{Outcome, Reply},
    state::Call,
};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    /// The account's user id.
    pub(crate) id: &'a str,
    /// Whether it is a futures commission merchant.
    pub(crate) fcm_member: bool,
    /// The subaccount that the key is bound to.
    pub(crate) bound_to: Option<i64>,
    /// How many of its last 100 orders came through the API.
    pub(crate) recent_api_orders: usize,
    /// Its own trading of the last 30 days.
    pub(crate) volume: Count,
}

impl Account<'_> {
    /// An account that has not traded and has no privileges.
    #[cfg(test)]
    pub(crate) fn plain(id: &str) -> Account<'_> {
        Account { id, fcm_member: false, bound_to: None, recent_api_orders: 0, volume: Count::ZERO }
    }

    /// The subaccount that a query means; a key that is bound to one sees no other.
    fn subaccount(&self, query: &Query) -> Result<Option<i64>, Reply> {
        match (self.bound_to, query.subaccount()?) {
            (Some(own), Some(asked)) if own != asked => {
                Err(Reply::forbidden("the API key is restricted to another subaccount"))
            }
            (own, asked) => Ok(own.or(asked)),
        }
    }
}

/// What the families ask of the markets of the exchange.
pub(crate) trait MarketMaker {
    /// A market as it goes over the wire.
    fn market(&self, ticker: &str) -> Option<Value>;
    /// The live markets of an event, in their order.
    fn markets_of(&self, event: &str) -> Vec<Value>;
    /// Opens a combo market. Called once for each ticker.
    fn open(&mut self, market: NewMarket, now: DateTime<Utc>) -> Result<(), Reply>;
}

/// What is around the families while they answer.
pub(crate) struct World<'a> {
    pub(crate) series: &'a [Value],
    pub(crate) events: &'a [Value],
    pub(crate) markets: &'a mut dyn MarketMaker,
    pub(crate) limits: &'a mut Limits,
}

/// All families.
#[derive(Debug)]
pub(crate) struct Families {
    seed: u64,
    targets: Targets,
    milestones: Milestones,
    weather: Weather,
    archive: Archive,
    incentives: Incentives,
    fees: Fees,
    collections: Collections,
    fcm: Fcm,
}

/// What of the families the seed does not make again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    combos: collections::Made,
    fcm: Fcm,
}

impl Families {
    /// What a saved exchange needs of them.
    pub(crate) fn kept(&self) -> Kept {
        Kept { combos: self.collections.made(), fcm: self.fcm.clone() }
    }

    /// Puts back what was saved.
    pub(crate) fn restore(&mut self, kept: Kept) {
        self.collections.restore(kept.combos);
        self.fcm = kept.fcm;
    }

    /// Makes everything up around the series and events that there are. The archive's series and
    /// events, and the series of the combos, are added to them.
    pub(crate) fn new(
        seed: u64,
        start: DateTime<Utc>,
        first_account: &str,
        series: &mut Vec<Value>,
        events: &mut Vec<Value>,
        markets: &dyn MarketMaker,
    ) -> Self {
        let targets = Targets::new(seed, start);
        let mut milestones = Milestones::default();
        let mut live = Vec::new();
        for event in &*events {
            add_milestones(&mut milestones, seed, &targets, event);
            live.extend(markets.markets_of(event["event_ticker"].as_str().unwrap_or_default()));
        }
        let incentives = Incentives::new(seed, start, &live);
        let fcm = Fcm::new(seed, start, first_account, &live);
        let into = (&mut *series, &mut *events);
        let archive = Archive::new(seed, start, first_account, &targets, into, &mut milestones);
        milestones.sort();
        let collections = Collections::new(seed, start, series, events);
        let fees = Fees::new(seed, start, series, events);
        Self {
            seed,
            targets,
            milestones,
            weather: Weather::new(seed, start),
            archive,
            incentives,
            fees,
            collections,
            fcm,
        }
    }

    /// Answers an operation of the families; nothing for any other.
    pub(crate) fn handle(
        &mut self,
        world: World<'_>,
        account: &Account<'_>,
        call: &Call<'_>,
    ) -> Option<Outcome> {
        let (query, body, now) = (call.query, call.body, call.now);
        let part = |place: usize| call.path.get(place).map_or("", String::as_str);
        let first = part(0);
        let World { series, events, markets, limits } = world;
        Some(match call.operation.id {
            "get_live_datas" => live_data::batch(&self.milestones, query, now),
            "get_event_live_data" => live_data::of_event(events, self.seed, first, query, now),
            "get_live_data_by_milestone" => {
                live_data::one(&self.milestones, None, first, query, now)
            }
            "get_live_data" => live_data::one(&self.milestones, Some(first), part(1), query, now),
            "get_game_stats" => live_data::game_stats(&self.milestones, first, now),
            "get_weather_index" => self.weather.index(first, query, now),
            "get_weather_index_calibrations" => self.weather.calibrations(first),
            "get_milestones" => self.milestones.list(query),
            "get_milestone" => self.milestones.get(first),
            "get_structured_targets" => self.targets.list(query),
            "get_structured_target" => self.targets.get(first),
            "get_tags_for_series_categories" => Ok(search::tags_by_categories(series)),
            "get_filters_for_sports" => Ok(search::filters_by_sport()),
            "get_incentive_programs" => self.incentives.list(query, now),
            "upgrade_account_api_usage_level" => usage::upgrade(account, limits),
            "get_account_api_usage_level_volume_progress" => Ok(usage::progress(account, now)),
            "get_account_api_limits" => Ok(usage::limits(account, limits)),
            "get_series_fee_changes" => self.fees.of_series(query, now),
            "get_event_fee_changes" => self.fees.of_events(query),
            "get_event_metadata" => {
                let archived: Vec<&str> = self.archive.markets_of(first).collect();
                let live = markets.markets_of(first);
                display::metadata(events, &self.milestones, first, &live, &archived)
            }
            "get_event_forecast_percentiles_history" => {
                let live = markets.markets_of(part(1));
                forecast::history(events, self.seed, (first, part(1)), &live, query, now)
            }
            "get_multivariate_events" => self.collections.events(markets, query),
            "get_multivariate_event_collections" => self.collections.list(query, now),
            "get_multivariate_event_collection" => self.collections.get(first),
            "create_market_in_multivariate_event_collection" => {
                self.collections.create(account, first, body, events, markets, now)
            }
            "get_historical_cutoff" => Ok(self.archive.cutoff()),
            "get_historical_markets" => self.archive.markets(query),
            "get_historical_market" => self.archive.market(first),
            "get_market_candlesticks_historical" => self.archive.candlesticks(first, query),
            "get_trades_historical" => self.archive.trades(query),
            "get_fills_historical" => self.archive.fills(account, query),
            "get_historical_orders" => self.archive.orders(account, query),
            "get_historical_positions" => self.archive.positions(account, query),
            _ if call.operation.tag == "fcm" => {
                self.fcm.handle(account, call, markets, series, now)?
            }
            _ => return None,
        })
    }

    /// The event of a combo, which the catalogue leaves out.
    pub(crate) fn combo_event(&self, ticker: &str) -> Option<&Value> {
        self.collections.event(ticker)
    }
}

/// The milestones of a live event: a day of games has many.
fn add_milestones(milestones: &mut Milestones, seed: u64, targets: &Targets, event: &Value) {
    let ticker = event["event_ticker"].as_str().unwrap_or_default();
    let date = event["strike_date"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let Some(close) = date else { return };
    if event["category"] != "Sports" {
        return milestones.add_other(seed, targets, event, close);
    }
    for number in 0..21_usize {
        let competition = number % COMPETITIONS.len();
        let minutes = 70 * (i64::try_from(number).unwrap_or(0) + 2);
        let starts = close - chrono::Duration::minutes(minutes);
        milestones.add_game(seed, targets, (competition, number), starts, ticker);
    }
}

/// Hundredths as the number that they stand for. Not for money.
fn hundredths(number: i64) -> f64 {
    i32::try_from(number).map_or(f64::NAN, |number| f64::from(number) / 100.0)
}

/// The markets of the exchange: the engine's, and what is said of them.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) listings: &'a mut Listings,
}

impl MarketMaker for Desk<'_> {
    fn market(&self, ticker: &str) -> Option<Value> {
        let found = self.engine.market_by_ticker(ticker)?;
        Some(market::shown_in(self.engine, self.listings, found))
    }

    fn markets_of(&self, event: &str) -> Vec<Value> {
        let of_event = self.engine.markets().iter().filter(|market| market.event_ticker == event);
        of_event.map(|market| market::shown_in(self.engine, self.listings, market)).collect()
    }

    fn open(&mut self, market: NewMarket, now: DateTime<Utc>) -> Result<(), Reply> {
        let ranges = serde_json::from_value(market.price_ranges)
            .map_err(|error| Reply::bad_request(&error.to_string()))?;
        let listing = Listing {
            market: types::NewMarket {
                ticker: market.ticker,
                event_ticker: market.event_ticker,
                series_ticker: market.series_ticker,
                shard: market.exchange_index,
                structure: market.price_level_structure.to_owned(),
                ranges,
                fees: engine::fees::Fees {
                    kind: FeeType::QuadraticWithComboMakerFees,
                    ..engine::fees::Fees::default()
                },
                opens: now.into(),
                closes: market.close_time.into(),
                settlement_timer_seconds: 1_800,
            },
            about: json!({
                "title": market.title,
                "subtitle": "",
                "yes_sub_title": market.title,
                "no_sub_title": market.title,
                "expected_expiration_time": market.close_time,
                "latest_expiration_time": market.close_time + chrono::Duration::days(7),
                "can_close_early": true,
                "settlement_bounds_type": "default",
                "expiration_value": "",
                "strike_type": "custom",
                "custom_strike": {"legs": market.legs},
                "rules_primary": "The combo is worth what its legs are worth together.",
                "rules_secondary": "",
                "mve_collection_ticker": market.collection_ticker,
                "mve_selected_legs": market.legs,
                "is_provisional": true,
            }),
        };
        self.engine.add_market(&listing.market, now.into()).map_err(Reply::from)?;
        self.listings.add(listing);
        Ok(())
    }
}
