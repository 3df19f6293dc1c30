//! Incentive programs: past, running and coming ones, for markets of the catalogue.

use chrono::{DateTime, Duration, Utc};
use kalshi_types::Count;
use serde_json::{Value, json};

use crate::{
    families::dice::{Dice, id_of},
    query::{Paging, Query},
    reply::{Outcome, Reply},
};

/// How long after its end a program is paid out.
const PAID_AFTER: Duration = Duration::hours(36);

/// All programs, the latest first.
#[derive(Clone, Debug)]
pub(crate) struct Incentives(Vec<Program>);

#[derive(Clone, Debug)]
struct Program {
    id: String,
    market_id: String,
    ticker: String,
    kind: &'static str,
    description: &'static str,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    /// 10⁻⁴ dollars.
    reward: i64,
    discount_bps: Option<i64>,
    target: Option<Count>,
    max_reward: Option<i64>,
}

impl Incentives {
    /// Three programs for every market: last week's, this week's and the next one; and some for
    /// perpetual futures, which are not in the catalogue.
    pub(crate) fn new(seed: u64, start: DateTime<Utc>, markets: &[Value]) -> Self {
        let mut dice = Dice::new(seed, "incentives");
        let mut rows = Vec::new();
        for (number, market) in markets.iter().enumerate() {
            let ticker = market["ticker"].as_str().unwrap_or_default();
            for week in [-7, 0, 7] {
                let liquidity = (number + usize::from(week == 0)) % 2 == 0;
                let start = start + Duration::days(week) - Duration::hours(dice.number(1..=72));
                rows.push(Program {
                    id: dice.id(),
                    market_id: id_of(seed, ticker),
                    ticker: ticker.to_owned(),
                    kind: if liquidity { "liquidity" } else { "volume" },
                    description: if liquidity {
                        "Rewards for resting orders"
                    } else {
                        "Rewards for traded volume"
                    },
                    start,
                    end: start + Duration::days(4),
                    reward: 10_000 * dice.number(10..=500),
                    discount_bps: liquidity.then(|| 500 * dice.number(1..=10)),
                    target: liquidity.then(|| Count::from_hundredths(10_000 * dice.number(1..=50))),
                    max_reward: (!liquidity).then(|| 10_000 * dice.number(1..=10)),
                });
            }
        }
        for (number, ticker) in ["SIMBTCPERP", "SIMETHPERP", "SIMSOLPERP"].iter().enumerate() {
            let maker = number % 2 == 0;
            rows.push(Program {
                id: dice.id(),
                market_id: id_of(seed, ticker),
                ticker: (*ticker).to_owned(),
                kind: if maker { "margin_maker_volume" } else { "margin_taker_volume" },
                description: "Rewards for volume in perpetual futures",
                start: start - Duration::days(2),
                end: start + Duration::days(28),
                reward: 10_000 * dice.number(500..=5_000),
                discount_bps: None,
                target: None,
                max_reward: None,
            });
        }
        rows.sort_by(|a, b| b.start.cmp(&a.start).then_with(|| a.id.cmp(&b.id)));
        Self(rows)
    }

    pub(crate) fn list(&self, query: &Query, now: DateTime<Utc>) -> Outcome {
        let status = query.word("status", &["all", "active", "upcoming", "closed", "paid_out"])?;
        let kinds = ["all", "liquidity", "volume", "margin_maker_volume"];
        let kind = query.word("type", &kinds)?.filter(|word| *word != "all");
        let description = query.get("incentive_description");
        let rows: Vec<&Program> = self
            .0
            .iter()
            .filter(|row| status.is_none_or(|word| word == "all" || row.status(now) == word))
            .filter(|row| kind.is_none_or(|kind| row.kind == kind))
            .filter(|row| description.is_none_or(|text| row.description == text))
            .collect();
        let (rows, cursor) = query.page_by(rows, Paging::new(100, 10_000))?;
        let rows: Vec<Value> = rows.into_iter().map(|row| row.wire(now)).collect();
        let mut body = json!({"incentive_programs": rows});
        // The end of this list is a missing key.
        if !cursor.is_empty() {
            body["next_cursor"] = cursor.into();
        }
        Ok(Reply::ok(body))
    }
}

impl Program {
    fn status(&self, now: DateTime<Utc>) -> &'static str {
        match now {
            now if now < self.start => "upcoming",
            now if now < self.end => "active",
            now if now < self.end + PAID_AFTER => "closed",
            _ => "paid_out",
        }
    }

    fn wire(&self, now: DateTime<Utc>) -> Value {
        let mut row = json!({
            "id": self.id,
            "market_id": self.market_id,
            "market_ticker": self.ticker,
            "incentive_type": self.kind,
            "incentive_description": self.description,
            "start_date": self.start,
            "end_date": self.end,
            "period_reward": self.reward,
            "paid_out": self.status(now) == "paid_out",
        });
        if !self.kind.starts_with("margin") {
            row["discount_factor_bps"] = json!(self.discount_bps);
            row["max_reward_per_account"] = json!(self.max_reward);
        }
        if let Some(target) = self.target {
            row["target_size_fp"] = json!(target);
        }
        row
    }
}
