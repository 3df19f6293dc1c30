//! Usage levels: the claim of the advanced level, and the way to the levels above it.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveTime, Utc};
use kalshi_types::Count;
use serde_json::{Value, json};

use crate::{
    families::Account,
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

/// Who has claimed the advanced level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(BTreeSet<String>);

impl Usage {
    /// Grants the advanced level to an account that has traded through the API.
    pub(crate) fn upgrade(&mut self, account: &Account<'_>) -> Outcome {
        if account.recent_api_orders == 0 {
            return Err(Reply::forbidden(
                "none of the last 100 orders of the account was made through the API",
            ));
        }
        self.0.insert(account.id.to_owned());
        Ok(Reply { status: 201, body: None })
    }

    pub(crate) fn limits(&self, account: &Account<'_>) -> Reply {
        let bucket = |rate: i64, seconds: i64| json!({"refill_rate": rate, "bucket_capacity": rate * seconds});
        if self.0.contains(account.id) {
            return Reply::ok(json!({
                "usage_tier": "advanced",
                "read": bucket(300, 2),
                "write": bucket(300, 2),
                "grants": [{
                    "exchange_instance": "event_contract",
                    "level": "advanced",
                    "expires_ts": null,
                    "source": "manual",
                }],
            }));
        }
        // The limits of the basic tier, as documented in August 2026.
        Reply::ok(json!({
            "usage_tier": "basic",
            "read": bucket(200, 2),
            "write": bucket(100, 1),
            "grants": [],
        }))
    }
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
        let mut usage = Usage::default();
        let account = Account::plain("a");
        assert_eq!(usage.upgrade(&account).unwrap_err().status, 403);
        assert_eq!(usage.limits(&account).body.unwrap()["usage_tier"], "basic");
        let trader = Account { recent_api_orders: 1, ..account };
        assert_eq!(usage.upgrade(&trader), Ok(Reply { status: 201, body: None }));
        assert_eq!(usage.upgrade(&trader).unwrap().status, 201);
        let limits = usage.limits(&trader).body.unwrap();
        assert_eq!(
            (&limits["usage_tier"], &limits["write"]["refill_rate"]),
            (&json!("advanced"), &json!(300))
        );
        assert_eq!(usage.limits(&Account::plain("b")).body.unwrap()["usage_tier"], "basic");
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
