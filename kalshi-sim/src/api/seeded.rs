//! Answers from the fixtures: what was made from the seed.

use serde_json::Value;

use crate::{
    fixtures::{MarketAccess, display, forecast, live_data, search},
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
};

pub(crate) fn live_datas(state: &State, call: &Call<'_>) -> HandlerResult {
    live_data::batch(&state.fixtures.milestones, call.query, call.now)
}

pub(crate) fn event_live_data(state: &State, call: &Call<'_>) -> HandlerResult {
    let (events, seed) = (&state.catalog.events, state.start.seed);
    live_data::of_event(events, seed, call.first(), call.query, call.now)
}

pub(crate) fn live_data_by_milestone(state: &State, call: &Call<'_>) -> HandlerResult {
    live_data::one(&state.fixtures.milestones, None, call.first(), call.query, call.now)
}

pub(crate) fn live_data(state: &State, call: &Call<'_>) -> HandlerResult {
    let (kind, id) = (call.first(), call.second());
    live_data::one(&state.fixtures.milestones, Some(kind), id, call.query, call.now)
}

pub(crate) fn game_stats(state: &State, call: &Call<'_>) -> HandlerResult {
    live_data::game_stats(&state.fixtures.milestones, call.first(), call.now)
}

pub(crate) fn weather_index(state: &State, call: &Call<'_>) -> HandlerResult {
    state.fixtures.weather.index(call.first(), call.query, call.now)
}

pub(crate) fn tags_by_categories(state: &State) -> Response {
    search::tags_by_categories(&state.catalog.series)
}

pub(crate) fn event_metadata(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let event = call.first();
    let live = markets_of(state, event);
    let archived = state.engine.archived_markets().iter();
    let archived: Vec<&str> = archived
        .filter(|market| market.event_ticker == event)
        .map(|market| market.ticker.as_str())
        .collect();
    display::metadata(&state.catalog.events, &state.fixtures.milestones, event, &live, &archived)
}

pub(crate) fn forecast_history(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (series, event) = (call.first(), call.second());
    let live = markets_of(state, event);
    let (events, seed) = (&state.catalog.events, state.start.seed);
    forecast::history(events, seed, (series, event), &live, call.query, call.now)
}

pub(crate) fn combo_events(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let markets = MarketAccess::new(&mut state.engine, &mut state.catalog.listings);
    state.fixtures.collections.events(&markets, call.query)
}

pub(crate) fn collections(state: &State, call: &Call<'_>) -> HandlerResult {
    state.fixtures.collections.list(call.query, call.now)
}

pub(crate) fn create_combo(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let mut markets = MarketAccess::new(&mut state.engine, &mut state.catalog.listings);
    let (ticker, events) = (call.first(), &state.catalog.events);
    state.fixtures.collections.create(account, ticker, call.body, events, &mut markets, call.now)
}

/// Returns the markets of an event that are not in the archive.
fn markets_of(state: &mut State, event: &str) -> Vec<Value> {
    use crate::fixtures::MarketDirectory as _;
    MarketAccess::new(&mut state.engine, &mut state.catalog.listings).markets_of(event)
}
