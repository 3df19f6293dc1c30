//! Reports: lists of links, the files behind them, and positions that have to be reported.
//!
//! Each settlement makes one report of each kind. The files are CSV with columns of the simulator's
//! own: the document does not describe them.

use std::collections::BTreeMap;

use chrono::{Duration, NaiveDate};
use kalshi_types::Count;
use serde_json::{Value, json};

use super::{Desk, desk, obligations};
use crate::{
    engine::{
        ids::{AccountId, MarketId},
        types::Time,
    },
    http::{
        query::Query,
        request::Call,
        response::{HandlerResult, Response},
    },
    perps::{
        engine::amount::size,
        klear::house::{Ledger, Obligation, calendar::closed_day},
    },
    state::State,
    wire::time,
};

/// The path of the files, which need no token.
pub(crate) const REPORTS_PATH: &str = "/klear-reports";
/// The longest range of days.
const MOST_DAYS: i64 = 90;
/// The contracts from which on a position is reported, in every market: a number of the simulator's
/// own.
const REPORTABLE: Count = Count::from_hundredths(100_000);

/// The kinds of reports, with those that show one moment.
const KINDS: [(&str, bool); 7] = [
    ("trade_audit", false),
    ("position_snapshot", true),
    ("market_price_snapshot", true),
    ("funding_periods", false),
    ("settlement_periods", false),
    ("corporate_action_payments", false),
    ("maintenance_margin", true),
];

/// Lists the reports of the days that are closed, the oldest first.
pub(super) fn list(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let day = |key| {
        let day = call.query.day(key)?;
        day.ok_or_else(|| Response::bad_request(&format!("{key} is required")))
    };
    let (start, end) = (day("start_date")?, day("end_date")?);
    if start > end || end - start > Duration::days(MOST_DAYS) {
        return Err(Response::bad_request(
            "end_date must not be before start_date, and 90 days after it at most",
        ));
    }
    let now = call.time();
    let own = desk(state, call)?.own;
    let perps = &state.perps;
    let mut reports = Vec::new();
    for settlement in perps.house.settlements() {
        let Some(day) = closed_day(settlement.at).filter(|day| start <= *day && *day <= end) else {
            continue;
        };
        for (kind, is_snapshot) in KINDS {
            let mut row = json!({
                "report_type": kind,
                "url": perps.access.link(&format!("{REPORTS_PATH}/{own}/{day}/{kind}"), now),
                "date": day.to_string(),
                "created_ts": time(settlement.at),
                "is_end_of_day": true,
            });
            if is_snapshot {
                row["snapshot_ts"] = time(settlement.at);
            }
            reports.push(row);
        }
    }
    Ok(Response::ok(json!({"reports": reports})))
}

/// Returns the file of a link, at its path, with its query.
pub(crate) fn file(
    state: &State,
    path: &str,
    query: &Query,
    now: Time,
) -> Result<String, Response> {
    let perps = &state.perps;
    let expires = query.integer("expires")?;
    perps.access.check_link(path, expires, query.get("signature"), now)?;
    let parts: Vec<&str> =
        path.strip_prefix(REPORTS_PATH).unwrap_or_default().split('/').skip(1).collect();
    let [own, day, kind] = parts[..] else { return Err(Response::not_found()) };
    let own = AccountId::parse(own).ok_or_else(Response::not_found)?;
    let day = day.parse().map_err(|_| Response::not_found())?;
    let ledger = Ledger { engine: &perps.engine, firms: &perps.firms };
    let house = &perps.house;
    let member = house.member(own).ok_or_else(Response::not_found)?;
    let desk = Desk { ledger, house, member, own };
    written(&desk, day, kind).ok_or_else(Response::not_found)
}

/// Writes a report of a day; `None` if there is none.
fn written(desk: &Desk<'_>, day: NaiveDate, kind: &str) -> Option<String> {
    let mut since = None;
    let settlement = desk.house.settlements().find(|settlement| {
        let is_of_day = closed_day(settlement.at) == Some(day);
        if !is_of_day {
            since = Some(settlement.at);
        }
        is_of_day
    })?;
    let is_within = |at: Time| since.is_none_or(|since| since < at) && at <= settlement.at;
    let of_day = || desk.member.obligations.iter().filter(|one| one.at == settlement.at);
    let parts = |rows: fn(&Desk<'_>, &Obligation) -> Vec<Value>| -> Vec<Value> {
        of_day().flat_map(|obligation| rows(desk, obligation)).collect()
    };
    let rows = match kind {
        "trade_audit" => trades(desk, is_within),
        "position_snapshot" => {
            let close = desk.member.closes.iter().find(|close| close.day == day)?;
            let row = |(id, count): (&MarketId, &Count)| json!({"market_ticker": ticker(desk, *id), "position": count});
            close.positions.iter().map(row).collect()
        }
        "market_price_snapshot" => settlement
            .prices
            .iter()
            .map(|(class, ticker, price)| {
                json!({
                    "market_ticker": ticker,
                    "asset_class": class.as_str(),
                    "settlement_price": price,
                })
            })
            .collect(),
        "funding_periods" => parts(obligations::funding_rows),
        "settlement_periods" => parts(obligations::settlement_rows),
        "corporate_action_payments" => parts(obligations::action_rows),
        "maintenance_margin" => parts(obligations::margin_rows),
        _ => return None,
    };
    Some(csv(&rows))
}

/// Returns the fills of a span of time.
fn trades(desk: &Desk<'_>, is_within: impl Fn(Time) -> bool) -> Vec<Value> {
    let mut rows = Vec::new();
    for (subtrader, id) in desk.ledger.parties(desk.own) {
        let Ok(account) = desk.ledger.engine.account(id) else { continue };
        for fill in account.fills.iter().filter(|fill| is_within(fill.at)) {
            rows.push(json!({
                "trade_id": fill.trade.to_string(),
                "order_id": fill.order.to_string(),
                "subtrader_id": subtrader,
                "market_ticker": ticker(desk, fill.market),
                "side": fill.side.as_str(),
                "price": fill.price,
                "count": fill.count,
                "fee": fill.fee,
                "created_ts": time(fill.at),
            }));
        }
    }
    rows
}

/// Writes rows with the same members as CSV, with a line of names. No value here has a comma or a
/// quotation mark.
fn csv(rows: &[Value]) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let names: Vec<&String> =
        rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()).collect();
    let mut columns: Vec<&String> = Vec::new();
    for name in names {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut text = line(columns.iter().map(|name| (*name).clone()).collect());
    for row in rows {
        text += &line(columns.iter().map(|name| cell(&row[name.as_str()])).collect());
    }
    text
}

fn ticker<'a>(desk: &Desk<'a>, market: MarketId) -> &'a str {
    desk.ledger.engine.market(market).map_or("", |market| &market.ticker)
}

/// Lists the positions of a day that have to be reported: those of a size, and for a day those that
/// have had it the day before.
pub(super) fn large_traders(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let asked = call.query.day("report_date")?;
    let closed = desk.house.settlements().next_back();
    let last = closed.and_then(|settlement| closed_day(settlement.at));
    // Before the first settlement: the day that would be the last one.
    let today = crate::perps::klear::house::calendar::day(call.time());
    let day = asked.or(last).or(today.and_then(|day| day.pred_opt()));
    let day = day.ok_or_else(Response::unavailable)?;
    let held = |day: Option<NaiveDate>| -> BTreeMap<MarketId, Count> {
        let close = desk.member.closes.iter().find(|close| Some(close.day) == day);
        close.map(|close| close.positions.clone()).unwrap_or_default()
    };
    let (now, before) = (held(Some(day)), held(day.pred_opt()));
    let is_large = |count: &Count| size(*count) >= REPORTABLE;
    let mut rows = Vec::new();
    for market in desk.ledger.engine.markets() {
        let count = now.get(&market.id).copied().unwrap_or_default();
        let was_large = before.get(&market.id).is_some_and(is_large);
        if is_large(&count) || was_large {
            rows.push(json!({
                "market_ticker": market.ticker,
                "position": count.as_hundredths() / 100,
                "exit_day": !is_large(&count),
                "reportable_threshold": REPORTABLE.as_hundredths() / 100,
            }));
        }
    }
    Ok(Response::ok(json!({
        "user_id": desk.own.to_string(),
        "report_date": day.to_string(),
        "positions": rows,
    })))
}
