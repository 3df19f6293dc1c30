//! The number that the markets of an event imply, at percentiles, over time. Made up along a curve
//! around the strikes; it does not follow the books.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    families::{
        dice::{mix, wave},
        hundredths,
    },
    query::Query,
    reply::{Outcome, Reply},
};

/// The most percentiles of one call.
const MAX_PERCENTILES: usize = 10;
/// The most periods of one answer. The exchange's own limit is not documented.
const MAX_POINTS: i64 = 5_000;

pub(crate) fn history(
    events: &[Value],
    seed: u64,
    (series, ticker): (&str, &str),
    markets: &[Value],
    query: &Query,
    now: DateTime<Utc>,
) -> Outcome {
    let percentiles = percentiles(query)?;
    let (start, end) = (query.required_integer("start_ts")?, query.required_integer("end_ts")?);
    let interval = query.required_integer("period_interval")?;
    let period = match interval {
        0 => 5,
        1 | 60 | 1_440 => interval * 60,
        _ => return Err(Reply::bad_request("period_interval must be 0, 1, 60 or 1440")),
    };
    if start > end {
        return Err(Reply::bad_request("start_ts must not be after end_ts"));
    }
    let found = events
        .iter()
        .any(|event| event["event_ticker"] == ticker && event["series_ticker"] == series);
    if !found {
        return Err(Reply::not_found());
    }
    let first = start.max(0).saturating_add(period - 1).div_euclid(period);
    // Nothing is forecast in the future.
    let last = end.min(now.timestamp()).div_euclid(period);
    if last.saturating_sub(first) >= MAX_POINTS {
        return Err(Reply::bad_request("the range holds more than 5000 periods"));
    }
    let mut strikes: Vec<f64> =
        markets.iter().filter_map(|market| market["floor_strike"].as_f64()).collect();
    strikes.sort_by(f64::total_cmp);
    // Without a scale there is no number to forecast.
    let (Some(low), Some(high)) = (strikes.first(), strikes.last()) else {
        return Ok(Reply::ok(json!({"forecast_history": []})));
    };
    let seed = mix(seed, ticker);
    let rows: Vec<Value> = (first..=last)
        .map(|place| {
            let until = place * period;
            let shift = wave(seed, until, 21_600, 100) + wave(seed ^ 1, until, 900, 20);
            let points: Vec<Value> = percentiles
                .iter()
                .map(|percentile| {
                    // From the lowest strike to the highest, and a little to either side.
                    let part = hundredths(*percentile) / 100.0;
                    let raw = low + (high - low) * part + hundredths(shift);
                    let shown = (raw * 10.0).round() / 10.0;
                    json!({
                        "percentile": percentile,
                        "raw_numerical_forecast": raw,
                        "numerical_forecast": shown,
                        "formatted_forecast": format!("{shown:.1}"),
                    })
                })
                .collect();
            json!({
                "event_ticker": ticker,
                "end_period_ts": until,
                "period_interval": interval,
                "percentile_points": points,
            })
        })
        .collect();
    Ok(Reply::ok(json!({"forecast_history": rows})))
}

fn percentiles(query: &Query) -> Result<Vec<i64>, Reply> {
    let given: Result<Vec<i64>, _> = query.all("percentiles").map(str::parse).collect();
    match given {
        Ok(list)
            if (1..=MAX_PERCENTILES).contains(&list.len())
                && list.iter().all(|number| (0..=9_999).contains(number)) =>
        {
            Ok(list)
        }
        _ => Err(Reply::bad_request("percentiles must be 1 to 10 numbers, each 0 to 9999")),
    }
}
