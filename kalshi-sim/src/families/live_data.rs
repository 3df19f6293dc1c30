//! Live data: what a milestone or an event looks like now. Everything follows from the milestone
//! and the time; nothing is stored.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    families::{
        dice::{mix, wave},
        hundredths,
        milestones::{Milestone, Milestones, Play},
    },
    query::Query,
    reply::{Outcome, Reply},
};

/// The most milestones of one call.
const MAX_BATCH: usize = 100;

/// Windows of a price chart: its name, its length and the distance of its points in seconds.
const RANGES: [(&str, i64, i64); 4] =
    [("15min", 900, 15), ("1h", 3_600, 60), ("1d", 86_400, 900), ("1w", 604_800, 7_200)];
const DEFAULT_RANGE: &str = "1h";

pub(crate) fn batch(milestones: &Milestones, query: &Query, now: DateTime<Utc>) -> Outcome {
    let stats = query.flag("include_player_stats")?;
    let ids: Vec<&str> = query.all("milestone_ids").collect();
    if ids.is_empty() || ids.len() > MAX_BATCH {
        return Err(Reply::bad_request("milestone_ids must name 1 to 100 milestones"));
    }
    let mut seen = BTreeSet::new();
    let rows: Vec<Value> = ids
        .into_iter()
        .filter(|id| seen.insert(*id))
        .filter_map(|id| milestones.find(id))
        .map(|milestone| live(milestone, stats, now))
        .collect();
    Ok(Reply::ok(json!({"live_datas": rows})))
}

/// The live data of one milestone; the older path names the type too, and it has to fit.
pub(crate) fn one(
    milestones: &Milestones,
    kind: Option<&str>,
    id: &str,
    query: &Query,
    now: DateTime<Utc>,
) -> Outcome {
    let stats = query.flag("include_player_stats")?;
    let found = milestones.find(id).ok_or_else(Reply::not_found)?;
    if kind.is_some_and(|kind| kind != found.kind) {
        return Err(Reply::not_found());
    }
    Ok(Reply::ok(json!({"live_data": live(found, stats, now)})))
}

/// The play-by-play; null where the sport has none.
pub(crate) fn game_stats(milestones: &Milestones, id: &str, now: DateTime<Utc>) -> Outcome {
    let found = milestones.find(id).ok_or_else(Reply::not_found)?;
    let Play::Game(fixture) = &found.play else { return Ok(Reply::ok(json!({"pbp": null}))) };
    if found.kind == "tennis_match" {
        return Ok(Reply::ok(json!({"pbp": null})));
    }
    let pbp = fixture.game.play_by_play(elapsed(found, now), &fixture.home, &fixture.away);
    Ok(Reply::ok(json!({"pbp": pbp})))
}

/// Charts that belong to an event: prices and observations. Other events have none.
pub(crate) fn of_event(
    events: &[Value],
    seed: u64,
    ticker: &str,
    query: &Query,
    now: DateTime<Utc>,
) -> Outcome {
    let event = events.iter().find(|event| event["event_ticker"] == ticker);
    let event = event.ok_or_else(Reply::not_found)?;
    let end = event["strike_date"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    // After its end an event keeps its last picture.
    let until = end.map_or(now, |end| end.min(now)).timestamp();
    let over = end.is_some_and(|end| end <= now);
    let series = event["series_ticker"].as_str().unwrap_or_default();
    let seed = mix(seed, series);
    match series {
        "KXSIMCOIN" => {
            let name = query.get("range").unwrap_or(DEFAULT_RANGE);
            let range = RANGES.iter().find(|(range, _, _)| *range == name);
            let Some((_, length, step)) = range else {
                return Err(Reply::bad_request("range must be one of the range_options"));
            };
            let points = series_of(until, *length, *step, |second| price(seed, second));
            let mut live = json!({
                "type": "crypto_price_chart",
                "details": {"asset": "Simcoin", "range": name, "points": points},
                "default_range": DEFAULT_RANGE,
                "range_options": RANGES.map(|(range, _, _)| range),
            });
            if over {
                live["is_historical"] = true.into();
            }
            Ok(Reply::ok(json!({"live_data": live})))
        }
        "KXSIMTEMP" => {
            let points = series_of(until, 86_400, 3_600, |second| temperature(seed, second));
            let details = json!({"station": "KSIM", "units": "fahrenheit", "observations": points});
            let live = json!({"type": "weather_observations", "details": details});
            Ok(Reply::ok(json!({"live_data": live})))
        }
        _ => Err(Reply::not_found()),
    }
}

fn live(milestone: &Milestone, players: bool, now: DateTime<Utc>) -> Value {
    let second = elapsed(milestone, now);
    let status = match second {
        ..0 => "scheduled",
        second if second >= (milestone.end - milestone.start).num_seconds() => "final",
        _ => "live",
    };
    let details = match &milestone.play {
        Play::Game(fixture) => {
            let (home, away) = (&fixture.home, &fixture.away);
            let mut details = fixture.game.details(second, home, away);
            let covered = matches!(fixture.competition.name, "Pro Football" | "Pro Basketball");
            if players && covered {
                details["player_stats"] = fixture.game.player_stats(second, home, away);
            }
            details
        }
        Play::Race(candidates) => race(milestone, candidates, status, second),
        Play::Other => json!({"status": status}),
    };
    json!({"type": milestone.kind, "details": details, "milestone_id": milestone.id})
}

/// Votes that come in evenly; the shares stay as they are.
fn race(
    milestone: &Milestone,
    candidates: &[(String, String)],
    status: &str,
    second: i64,
) -> Value {
    let length = (milestone.end - milestone.start).num_seconds().max(1);
    let counted = second.clamp(0, length);
    let rows: Vec<Value> = (0_i64..)
        .zip(candidates)
        .map(|(number, (id, name))| {
            let all = 100_000 + super::dice::at(milestone.seed, number, &(0..=200_000));
            json!({"candidate_id": id, "name": name, "votes": all * counted / length})
        })
        .collect();
    json!({
        "status": status,
        "percent_reporting": counted * 100 / length,
        "candidates": rows,
    })
}

fn elapsed(milestone: &Milestone, now: DateTime<Utc>) -> i64 {
    (now - milestone.start).num_seconds()
}

/// Points of a chart, the oldest first, on whole steps so that two looks agree.
fn series_of(until: i64, length: i64, step: i64, value: impl Fn(i64) -> i64) -> Vec<Value> {
    let last = until.div_euclid(step);
    (last - length / step..=last)
        .map(|place| place * step)
        .map(|second| json!({"ts": second, "value": hundredths(value(second))}))
        .collect()
}

/// Cents.
fn price(seed: u64, second: i64) -> i64 {
    5_000_000
        + wave(seed, second, 86_400, 300_000)
        + wave(seed ^ 1, second, 3_600, 40_000)
        + wave(seed ^ 2, second, 60, 4_000)
}

/// Hundredths of a degree.
fn temperature(seed: u64, second: i64) -> i64 {
    5_200 + wave(seed, second, 43_200, 900) + wave(seed ^ 1, second, 3_600, 80)
}
