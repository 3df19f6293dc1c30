//! Changes of fees: of series, and of single events. What lies in the past has led to the fees that
//! series and events show; what lies ahead is only announced.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::{
    families::dice::Dice,
    query::Query,
    reply::{Outcome, Reply},
};

/// All changes, the latest first.
#[derive(Clone, Debug)]
pub(crate) struct Fees {
    series: Vec<Change>,
    events: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    id: String,
    series: String,
    event: String,
    /// Nothing takes an override back.
    kind: Option<String>,
    multiplier: Option<f64>,
    at: DateTime<Utc>,
}

impl Fees {
    pub(crate) fn new(seed: u64, start: DateTime<Utc>, series: &[Value], events: &[Value]) -> Self {
        let mut dice = Dice::new(seed, "fee changes");
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let mut made = Self { series: Vec::new(), events: Vec::new() };
        for (number, row) in series.iter().enumerate() {
            let mut add = |days: i64, kind: &str, multiplier: f64| {
                made.series.push(Change {
                    id: dice.id(),
                    series: text(row, "ticker"),
                    event: String::new(),
                    kind: Some(kind.to_owned()),
                    multiplier: Some(multiplier),
                    at: start + Duration::days(days),
                });
            };
            add(-200, "flat", 1.0);
            // The last change that has come into force is what the series shows.
            let multiplier = row["fee_multiplier"].as_f64().unwrap_or(1.0);
            add(-30, &text(row, "fee_type"), multiplier);
            if number % 2 == 0 {
                add(45, "quadratic_with_maker_fees", multiplier);
            }
        }
        for (number, row) in events.iter().enumerate() {
            let date = row["strike_date"].as_str().and_then(|text| text.parse().ok());
            let Some(close): Option<DateTime<Utc>> = date else { continue };
            let mut add = |at: DateTime<Utc>, change: Option<(&str, f64)>| {
                made.events.push(Change {
                    id: dice.id(),
                    series: text(row, "series_ticker"),
                    event: text(row, "event_ticker"),
                    kind: change.map(|(kind, _)| kind.to_owned()),
                    multiplier: change.map(|(_, multiplier)| multiplier),
                    at,
                });
            };
            // An event that has ended had an override which was taken back.
            if close < start - Duration::days(30) && number % 3 == 0 {
                add(close - Duration::days(2), Some(("quadratic", 0.5)));
                add(close - Duration::days(1), None);
            }
        }
        made.series.sort_by_key(|row| std::cmp::Reverse(row.at));
        made.events.sort_by_key(|row| std::cmp::Reverse(row.at));
        made
    }

    pub(crate) fn of_series(&self, query: &Query, now: DateTime<Utc>) -> Outcome {
        let ticker = query.get("series_ticker");
        let past = query.flag("show_historical")?;
        let rows: Vec<Value> = self
            .series
            .iter()
            .filter(|row| ticker.is_none_or(|ticker| row.series == ticker))
            .filter(|row| past || row.at > now)
            .map(|row| {
                json!({
                    "id": row.id,
                    "series_ticker": row.series,
                    "fee_type": row.kind,
                    "fee_multiplier": row.multiplier,
                    "scheduled_ts": row.at,
                })
            })
            .collect();
        Ok(Reply::ok(json!({"series_fee_change_arr": rows})))
    }

    pub(crate) fn of_events(&self, query: &Query) -> Outcome {
        let ticker = query.get("event_ticker");
        let rows: Vec<&Change> = self
            .events
            .iter()
            .filter(|row| ticker.is_none_or(|ticker| row.event == ticker))
            .collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        let rows: Vec<Value> = rows
            .into_iter()
            .map(|row| {
                json!({
                    "id": row.id,
                    "event_ticker": row.event,
                    "series_ticker": row.series,
                    "fee_type_override": row.kind,
                    "fee_multiplier_override": row.multiplier,
                    "scheduled_ts": row.at,
                })
            })
            .collect();
        Ok(Reply::ok(json!({"event_fee_changes": rows, "cursor": cursor})))
    }
}
