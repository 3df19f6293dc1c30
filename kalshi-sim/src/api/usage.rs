//! Usage levels: the claim of the advanced level, and the goals of the levels above it.

use chrono::{DateTime, NaiveTime, Utc};
use kalshi_types::Count;
use serde_json::{Value, json};

use crate::{
    engine::{ids::OrderId, types::Time},
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    state::{State, limits::Tier},
};

/// The contracts that the whole exchange is said to have traded in the last calendar month.
const EXCHANGE_VOLUME: i64 = 400_000_000;

/// Thirty days.
const MONTH_MILLIS: i64 = 30 * 24 * 3_600_000;

/// Level, and the shares of volume that earn and keep it, in thousandths of a percent.
const LEVELS: [(&str, i64, i64); 5] = [
    ("expert", 75, 50),
    ("premier", 125, 100),
    ("paragon", 250, 200),
    ("prime", 500, 400),
    ("prestige", 1_000, 800),
];

/// Grants the advanced level to an account that has traded through the API. The orders from before
/// the start were not made through it.
pub(crate) fn upgrade(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let start = Time::from(state.start.at);
    let by_api = |id: &OrderId| state.engine.order(*id).is_some_and(|one| one.created >= start);
    let held = state.engine.ledger.account(account);
    if !held.is_some_and(|held| held.orders.iter().rev().take(100).any(by_api)) {
        return Err(Response::forbidden(
            "none of the last 100 orders of the account was made through the API",
        ));
    }
    if state.limits.tier(account) < Tier::Advanced {
        state.limits.set_tier(account, Tier::Advanced);
    }
    Ok(Response { status: 201, body: state.rules().empty_objects.then(|| json!({})) })
}

/// Answers with the capacities and rates of the account's token buckets.
pub(crate) fn limits(state: &State, call: &Call<'_>) -> HandlerResult {
    let tier = state.limits.tier(call.caller()?.account);
    Ok(shown_limits(tier, tier.capacities(), "event_contract"))
}

/// Returns the limits of a tier with its capacities of reads and writes, for one product.
pub(crate) fn shown_limits(tier: Tier, capacities: (i64, i64), product: &str) -> Response {
    let rates = tier.rates();
    // No limit is no tier of the exchange; the highest one is the nearest.
    let word = if tier == Tier::Unlimited { Tier::Prestige.as_str() } else { tier.as_str() };
    let grants = if tier == Tier::Basic {
        json!([])
    } else {
        json!([{
            "exchange_instance": product,
            "level": word,
            "expires_ts": null,
            "source": "manual",
        }])
    };
    Response::ok(json!({
        "usage_tier": word,
        "read": {"refill_rate": rates.0, "bucket_capacity": capacities.0},
        "write": {"refill_rate": rates.1, "bucket_capacity": capacities.1},
        "grants": grants,
    }))
}

/// Answers with the volume of the account against the goals, computed at midnight.
pub(crate) fn progress(state: &State, call: &Call<'_>) -> HandlerResult {
    let month_ago = Time::from_millis(call.time().as_millis().saturating_sub(MONTH_MILLIS));
    let held = state.engine.ledger.account(call.caller()?.account);
    let volume = held.map_or(Count::ZERO, |held| held.volume_since(month_ago));
    Ok(shown_progress(volume, call.now))
}

fn shown_progress(volume: Count, now: DateTime<Utc>) -> Response {
    // A share is of both sides of the exchange's volume.
    let goal = |share: i64| Count::from_hundredths(2 * EXCHANGE_VOLUME * 100 / 100_000 * share);
    let goals: Vec<Value> = LEVELS
        .iter()
        .map(|(level, earn, keep)| {
            json!({
                "level": level,
                "earn_volume_goal_fp": goal(*earn),
                "keep_volume_goal_fp": goal(*keep),
            })
        })
        .collect();
    let computed = now.date_naive().and_time(NaiveTime::MIN).and_utc();
    Response::ok(json!({"volume_progress": [{
        "computed_ts": computed.timestamp(),
        "trailing_30d_volume_fp": volume,
        "goals": goals,
    }]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goals_are_shares_of_twice_the_volume_of_the_exchange() {
        let body = shown_progress(Count::ZERO, DateTime::UNIX_EPOCH).body.unwrap();
        let expert = &body["volume_progress"][0]["goals"][0];
        // 0.075 % of 800 million.
        assert_eq!(expert["earn_volume_goal_fp"], "600000.00");
        assert_eq!(expert["keep_volume_goal_fp"], "400000.00");
    }
}
