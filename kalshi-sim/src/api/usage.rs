//! Usage levels: the claim of the advanced level, and the way to the levels above it.

use chrono::{DateTime, NaiveTime, Utc};
use kalshi_types::Count;
use serde_json::{Value, json};

use crate::{
    engine::ids::AccountId,
    families::Account,
    limits::{Limits, Tier},
    reply::{Outcome, Reply},
};

/// What the whole exchange is said to have traded in the last calendar month, in contracts.
const EXCHANGE_VOLUME: i64 = 400_000_000;

/// Level, and the shares of volume that earn and keep it, in thousandths of a percent.
const LEVELS: [(&str, i64, i64); 5] = [
    ("expert", 75, 50),
    ("premier", 125, 100),
    ("paragon", 250, 200),
    ("prime", 500, 400),
    ("prestige", 1_000, 800),
];

/// Grants the advanced level to an account that has traded through the API.
pub(crate) fn upgrade(account: &Account<'_>, limits: &mut Limits) -> Outcome {
    if account.recent_api_orders == 0 {
        return Err(Reply::forbidden(
            "none of the last 100 orders of the account was made through the API",
        ));
    }
    if let Some(id) = AccountId::parse(account.id)
        && limits.tier(id) < Tier::Advanced
    {
        limits.set_tier(id, Tier::Advanced);
    }
    Ok(Reply { status: 201, body: None })
}

/// What the token buckets of the account hold and get back.
pub(crate) fn limits(account: &Account<'_>, limits: &Limits) -> Reply {
    let tier = AccountId::parse(account.id).map_or_else(Tier::default, |id| limits.tier(id));
    let (rates, capacities) = (tier.rates(), tier.capacities());
    // No limit is no tier of the exchange; the highest one is the nearest.
    let word = if tier == Tier::Unlimited { Tier::Prestige.as_str() } else { tier.as_str() };
    let grants = if tier == Tier::Basic {
        json!([])
    } else {
        json!([{
            "exchange_instance": "event_contract",
            "level": word,
            "expires_ts": null,
            "source": "manual",
        }])
    };
    Reply::ok(json!({
        "usage_tier": word,
        "read": {"refill_rate": rates.0, "bucket_capacity": capacities.0},
        "write": {"refill_rate": rates.1, "bucket_capacity": capacities.1},
        "grants": grants,
    }))
}

/// The volume of the account against the goals, computed at midnight.
pub(crate) fn progress(account: &Account<'_>, now: DateTime<Utc>) -> Reply {
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
    Reply::ok(json!({"volume_progress": [{
        "computed_ts": computed.timestamp(),
        "trailing_30d_volume_fp": account.volume,
        "goals": goals,
    }]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upgrade_needs_an_order_through_the_api_and_shows_in_the_limits() {
        let mut tiers = Limits::new(Tier::Basic);
        let (first, second) = (AccountId(1).to_string(), AccountId(2).to_string());
        let account = Account::plain(&first);
        assert_eq!(upgrade(&account, &mut tiers).unwrap_err().status, 403);
        assert_eq!(limits(&account, &tiers).body.unwrap()["usage_tier"], "basic");
        let trader = Account { recent_api_orders: 1, ..account };
        assert_eq!(upgrade(&trader, &mut tiers), Ok(Reply { status: 201, body: None }));
        assert_eq!(upgrade(&trader, &mut tiers).unwrap().status, 201);
        let shown = limits(&trader, &tiers).body.unwrap();
        assert_eq!(
            (&shown["usage_tier"], &shown["write"]["refill_rate"]),
            (&json!("advanced"), &json!(300))
        );
        let other = Account::plain(&second);
        assert_eq!(limits(&other, &tiers).body.unwrap()["usage_tier"], "basic");
    }

    #[test]
    fn the_goals_are_shares_of_twice_the_volume_of_the_exchange() {
        let body = progress(&Account::plain("a"), DateTime::UNIX_EPOCH).body.unwrap();
        let expert = &body["volume_progress"][0]["goals"][0];
        // 0.075 % of 800 million.
        assert_eq!(expert["earn_volume_goal_fp"], "600000.00");
        assert_eq!(expert["keep_volume_goal_fp"], "400000.00");
    }
}
