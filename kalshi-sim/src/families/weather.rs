//! The temperature index of made-up cities: minute by minute, from stations that fail now and
//! then, so that some minutes have no value. Pure: a minute looks the same whenever it is asked for.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::{
    families::{
        dice::{at, mix, wave},
        hundredths,
    },
    query::Query,
    reply::{Outcome, Reply},
};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// The longest window. The exchange's own limit is not documented.
const MAX_WINDOW: i64 = 7 * DAY;
/// How long readings may still come in.
const OPEN_MINUTES: i64 = 5;
/// A minute with fewer stations has no value.
const QUORUM: usize = 2;

/// A city, its mean temperature in hundredths of a degree Celsius, and its stations.
#[derive(Debug)]
struct City {
    name: &'static str,
    mean: i64,
    stations: [&'static str; 4],
}

const CITIES: [City; 8] = [
    City { name: "austin", mean: 2_100, stations: ["KATT1M", "KAUS1M", "KEDC1M", "KGTU1M"] },
    City { name: "boston", mean: 1_100, stations: ["KBED1M", "KBOS1M", "KBVY1M", "KOWD1M"] },
    City { name: "chicago", mean: 1_000, stations: ["KARR1M", "KDPA1M", "KMDW1M", "KORD1M"] },
    City { name: "denver", mean: 1_050, stations: ["KAPA1M", "KBJC1M", "KBKF1M", "KDEN1M"] },
    City { name: "miami", mean: 2_500, stations: ["KFLL1M", "KMIA1M", "KOPF1M", "KTMB1M"] },
    City { name: "newyork", mean: 1_300, stations: ["KEWR1M", "KJFK1M", "KLGA1M", "KNYC1M"] },
    City { name: "phoenix", mean: 2_400, stations: ["KDVT1M", "KGYR1M", "KLUF1M", "KPHX1M"] },
    City { name: "seattle", mean: 1_150, stations: ["KBFI1M", "KPAE1M", "KRNT1M", "KSEA1M"] },
];

/// One set of weights and offsets, and from when it counts.
#[derive(Clone, Debug)]
struct Calibration {
    version: String,
    effective: i64,
    published: i64,
    reason: &'static str,
    /// Percent, and hundredths of a degree Celsius, in the order of the stations.
    stations: [(i64, i64); 4],
}

/// What a station reported for a minute.
#[derive(Clone, Copy, Debug)]
struct Reading {
    code: &'static str,
    source: Option<&'static str>,
    /// Hundredths of a degree Fahrenheit.
    temperature: Option<i64>,
    observed: Option<i64>,
    received: Option<i64>,
    primary: Option<&'static str>,
}

/// The index of every city.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    seed: u64,
    start: DateTime<Utc>,
}

impl Weather {
    pub(crate) fn new(seed: u64, start: DateTime<Utc>) -> Self {
        Self { seed: mix(seed, "weather"), start }
    }

    pub(crate) fn index(&self, city: &str, query: &Query, now: DateTime<Utc>) -> Outcome {
        let city = find(city)?;
        let detailed = query.flag("detailed")?;
        let (from, to) = window(query, now.timestamp_millis())?;
        let calibrations = self.calibrations_of(city);
        let closed = now.timestamp_millis() - OPEN_MINUTES * MINUTE;
        // Nothing is known of the time before 1970, nor of the future.
        let first = (from.div_euclid(MINUTE) + i64::from(from.rem_euclid(MINUTE) != 0)).max(0);
        let last = to.min(now.timestamp_millis()).div_euclid(MINUTE);
        let points: Vec<Value> = (first..=last)
            .filter_map(|minute| {
                let t = minute * MINUTE;
                self.point(city, &calibrations, t, t > closed, detailed)
            })
            .collect();
        let mut body = json!({"city": city.name, "units": "fahrenheit", "timeseries": points});
        let newest = points.last().and_then(|point| point["t"].as_i64());
        if let Some(t) = newest {
            body["config_version"] = in_force(&calibrations, t).version.clone().into();
        }
        Ok(Reply::ok(body))
    }

    pub(crate) fn calibrations(&self, city: &str) -> Outcome {
        let city = find(city)?;
        let rows: Vec<Value> = self
            .calibrations_of(city)
            .into_iter()
            .map(|set| {
                let stations: Vec<Value> = city
                    .stations
                    .iter()
                    .zip(set.stations)
                    .map(|(station, (weight, offset))| {
                        json!({
                            "station_id": station,
                            "weight": hundredths(weight),
                            "offset_c": hundredths(offset),
                        })
                    })
                    .collect();
                json!({
                    "config_version": set.version,
                    "published_at_ms": set.published,
                    "effective_at_ms": set.effective,
                    "change_reason": set.reason,
                    "calibration_window_start_ms": set.published - 60 * DAY,
                    "calibration_window_end_ms": set.published - DAY,
                    "city_reference_c": hundredths(city.mean),
                    "stations": stations,
                })
            })
            .collect();
        let body = json!({"city": city.name, "units": "fahrenheit", "calibrations": rows});
        Ok(Reply::ok(body))
    }

    /// Two sets in force one after the other, and one to come.
    fn calibrations_of(&self, city: &City) -> Vec<Calibration> {
        let seed = mix(self.seed, city.name);
        let set = |number: i64, days: i64, reason: &'static str| {
            let effective = (self.start + Duration::days(days)).timestamp_millis();
            let tilt = at(seed, number, &(-5..=5));
            Calibration {
                version: format!("{}-temperature-v1.{number}", city.name),
                effective: effective.div_euclid(DAY) * DAY,
                published: (effective - 7 * DAY).div_euclid(DAY) * DAY,
                reason,
                stations: [0, 1, 2, 3].map(|place| {
                    let weight = if place % 2 == 0 { 25 + tilt } else { 25 - tilt };
                    (weight, at(seed ^ 0xca1, number * 4 + place, &(-40..=40)))
                }),
            }
        };
        vec![
            set(0, -365, "first set"),
            set(1, -4, "recomputed after a station was moved"),
            set(2, 21, "recomputed for the season"),
        ]
    }

    /// The point of one minute; nothing where there is a gap.
    fn point(
        &self,
        city: &City,
        calibrations: &[Calibration],
        t: i64,
        open: bool,
        detailed: bool,
    ) -> Option<Value> {
        let readings = [0, 1, 2, 3].map(|station| self.reading(city, station, t, open));
        let accepted = || readings.iter().enumerate().filter(|(_, reading)| reading.code == "ok");
        let contributors = accepted().count();
        let mut point = if open {
            if !detailed {
                return None;
            }
            json!({"t": t, "status": "incomplete"})
        } else if contributors < QUORUM {
            return None;
        } else {
            let set = in_force(calibrations, t);
            let (sum, weights) = accepted().fold((0, 0), |(sum, weights), (place, reading)| {
                let (weight, offset) = set.stations[place];
                // An offset of Celsius is 9/5 of Fahrenheit.
                let value = reading.temperature.unwrap_or(0) + offset * 9 / 5;
                (sum + weight * value, weights + weight)
            });
            let own = readings.iter().all(|r| r.code == "ok" && r.source == Some("hf_asos"));
            json!({
                "t": t,
                "v": hundredths(sum / weights.max(1)),
                "status": if own { "normal" } else { "degraded" },
                "contributors": contributors,
            })
        };
        if detailed {
            let stations = city.stations.iter().zip(&readings);
            point["stations"] = stations.map(|(id, reading)| reading.wire(id)).collect();
        }
        Some(point)
    }

    fn reading(&self, city: &City, station: i64, t: i64, open: bool) -> Reading {
        let seed = mix(self.seed, city.name);
        let own = mix(seed, "station") ^ u64::try_from(station).unwrap_or(0);
        let minute = t / MINUTE;
        // Hundredths of a degree Celsius: the season, the day, the hour, the station.
        let celsius = city.mean
            + wave(seed, minute, 1_440, 500)
            + wave(seed ^ 1, minute, 180, 150)
            + wave(own, minute, 30, 25);
        let fahrenheit = Some(celsius * 9 / 5 + 3_200);
        let luck = at(own ^ 0xfa11, minute, &(0..=999));
        // An outage of the city's network: an hour, about once in two days.
        let outage = at(seed ^ 0x0ff, minute.div_euclid(60), &(0..=47)) == 0 && station > 0;
        let delay = at(own ^ 0xde1a, minute, &(5_000..=90_000));
        let fresh = Reading {
            code: "ok",
            source: Some("hf_asos"),
            temperature: fahrenheit,
            observed: None,
            received: Some(t + delay),
            primary: None,
        };
        if open {
            return Reading { code: "pending", ..fresh };
        }
        match luck {
            _ if outage => Reading::missing(),
            0..=9 => Reading::missing(),
            10..=14 => {
                Reading { code: "late", received: Some(t + OPEN_MINUTES * MINUTE + delay), ..fresh }
            }
            15..=17 => Reading { code: "range", temperature: Some(21_200), ..fresh },
            18..=20 => Reading {
                code: "rate_spatial",
                temperature: fahrenheit.map(|value| value + 1_500),
                ..fresh
            },
            21..=40 => Reading {
                source: Some("metar"),
                observed: Some(t - at(own, minute, &(1..=20)) * MINUTE),
                primary: Some("missing"),
                ..fresh
            },
            _ => fresh,
        }
    }
}

impl Reading {
    fn missing() -> Self {
        Self {
            code: "missing",
            source: None,
            temperature: None,
            observed: None,
            received: None,
            primary: None,
        }
    }

    fn wire(&self, station: &str) -> Value {
        let mut row = json!({"station_id": station, "code": self.code});
        if let Some(source) = self.source {
            row["source"] = source.into();
        }
        if let Some(temperature) = self.temperature {
            row["temp_f"] = hundredths(temperature).into();
        }
        if let Some(observed) = self.observed {
            row["obs_time_ms"] = observed.into();
        }
        if let Some(received) = self.received {
            row["received_at_ms"] = received.into();
        }
        if let Some(primary) = self.primary {
            row["primary_code"] = primary.into();
        }
        row
    }
}

fn find(name: &str) -> Result<&'static City, Reply> {
    let found = CITIES.iter().find(|city| city.name == name);
    found.ok_or_else(|| Reply::bad_request("there is no index for this city"))
}

/// The set that counts at a moment. There is always one: the first is a year old.
fn in_force(calibrations: &[Calibration], t: i64) -> &Calibration {
    let found = calibrations.iter().rev().find(|set| set.effective <= t);
    found.unwrap_or(&calibrations[0])
}

/// The window asked for, in milliseconds, both ends included.
fn window(query: &Query, now: i64) -> Result<(i64, i64), Reply> {
    let refuse = |message: &str| Err(Reply::bad_request(message));
    let (from, to) = (query.integer("from")?, query.integer("to")?);
    if let Some(seconds) = query.integer("last_sec")? {
        if from.is_some() || to.is_some() {
            return refuse("last_sec does not go with from or to");
        }
        if !(1..=MAX_WINDOW / 1_000).contains(&seconds) {
            return refuse("last_sec must be 1 to 604800");
        }
        return Ok((now - seconds * 1_000, now));
    }
    let to = to.unwrap_or(now);
    let from = from.unwrap_or(to.saturating_sub(DAY));
    if from > to {
        return refuse("from must not be after to");
    }
    if to.saturating_sub(from) > MAX_WINDOW {
        return refuse("the window must not be longer than 7 days");
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn series(weather: &Weather, pairs: &[(&str, &str)], now: DateTime<Utc>) -> Vec<Value> {
        let reply = weather.index("miami", &query(pairs), now).unwrap();
        reply.body.unwrap()["timeseries"].as_array().unwrap().clone()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap()
    }

    #[test]
    fn a_week_has_gaps_and_degraded_minutes_and_is_the_same_when_asked_again_later() {
        let weather = Weather::new(7, now());
        let bounds = (now().timestamp_millis() - 7 * DAY, now().timestamp_millis() - DAY);
        let (from, to) = (bounds.0.to_string(), bounds.1.to_string());
        let window = [("from", from.as_str()), ("to", to.as_str())];
        let week = series(&weather, &window, now());
        assert_eq!(week, series(&weather, &window, now() + Duration::hours(5)));
        let minutes = usize::try_from((bounds.1 - bounds.0) / MINUTE).unwrap();
        assert!(week.len() < minutes - 60 && week.len() > minutes / 2, "{}", week.len());
        assert!(week.iter().any(|point| point["status"] == "degraded"));
        assert!(week.iter().any(|point| point["status"] == "normal"));
        assert!(week.iter().all(|point| point["contributors"].as_u64().unwrap() >= 2));
    }

    #[test]
    fn the_newest_minutes_are_open_and_only_shown_in_detail() {
        let weather = Weather::new(7, now());
        let plain = series(&weather, &[("last_sec", "3600")], now());
        assert!(plain.iter().all(|point| point["status"] != "incomplete"));
        let detailed = series(&weather, &[("last_sec", "3600"), ("detailed", "true")], now());
        let last = detailed.last().unwrap();
        assert_eq!((&last["status"], last.get("v")), (&json!("incomplete"), None));
        assert_eq!(last["stations"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        let weather = Weather::new(7, now());
        for pairs in [
            &[("from", "2"), ("to", "1")][..],
            &[("last_sec", "60"), ("to", "1")],
            &[("last_sec", "0")],
            &[("from", "0")],
            &[("from", "-9223372036854775808"), ("to", "9223372036854775807")],
            &[("detailed", "yes")],
        ] {
            assert_eq!(weather.index("miami", &query(pairs), now()).unwrap_err().status, 400);
        }
        assert_eq!(weather.index("atlantis", &query(&[]), now()).unwrap_err().status, 400);
        for far in ["9223372036854775807", "-9223372036854775808"] {
            weather.index("miami", &query(&[("to", far)]), now()).unwrap();
        }
    }
}
