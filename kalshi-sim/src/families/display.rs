//! What a user interface needs to show an event: pictures and colours.

use serde_json::{Value, json};

use crate::{
    families::milestones::{Milestones, Play},
    reply::{Outcome, Reply},
};

const COLOURS: [&str; 6] = ["#0AC285", "#265CFF", "#D91616", "#F5A623", "#7B3FE4", "#0F1A2A"];

/// The display data of an event, whose markets are live or archived.
pub(crate) fn metadata(
    events: &[Value],
    milestones: &Milestones,
    ticker: &str,
    live: &[Value],
    archived: &[&str],
) -> Outcome {
    let event = events.iter().find(|event| event["event_ticker"] == ticker);
    let event = event.ok_or_else(Reply::not_found)?;
    let series = event["series_ticker"].as_str().unwrap_or_default();
    let tickers = live.iter().filter_map(|market| market["ticker"].as_str());
    let details: Vec<Value> = tickers
        .chain(archived.iter().copied())
        .zip(COLOURS.iter().cycle())
        .map(|(ticker, colour)| {
            json!({
                "market_ticker": ticker,
                "image_url": format!("/images/markets/{ticker}.png"),
                "color_code": colour,
            })
        })
        .collect();
    let mut body = json!({
        "image_url": format!("/images/series/{series}.png"),
        "market_details": details,
        "settlement_sources": event["settlement_sources"].as_array().map_or(&[][..], Vec::as_slice),
    });
    if let Some(Play::Game(fixture)) = milestones.of_event(ticker).map(|found| &found.play) {
        body["featured_image_url"] = format!("/images/series/{series}-featured.png").into();
        body["competition"] = fixture.competition.name.into();
        body["competition_scope"] = fixture.competition.scopes.first().copied().into();
    }
    Ok(Reply::ok(body))
}
