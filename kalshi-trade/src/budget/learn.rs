//! Learns the account's limits and the costs of operations from the exchange.

use std::time::Duration;

use kalshi_sdk::{
    Client, Error,
    operation::Lane,
    types::{BucketLimit, GetAccountApiLimitsResponse},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::budget::{
    gcra::Limit,
    scheduler::{Class, LaneLimits},
    shell::{Budget, RequestOptions},
};

/// The time between two fetches of the limits.
pub const LEARN_INTERVAL: Duration = Duration::from_secs(600);

/// The pause between two attempts to learn the limits.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The requests a second of an operation with a bucket of its own, in the two lowest tiers and in
/// those above. The API does not say it.
const OWN_RATES: [u64; 2] = [1, 5];

impl LaneLimits {
    /// Returns the limits that the exchange says; those before it where it says what cannot be.
    fn learned(self, response: &GetAccountApiLimitsResponse) -> Self {
        let of = |limit: &BucketLimit, before: Limit| {
            let refill = u64::try_from(limit.refill_rate).unwrap_or(0);
            let capacity = u64::try_from(limit.bucket_capacity).unwrap_or(0);
            Limit::new(refill, capacity).unwrap_or_else(|error| {
                tracing::warn!(%error, "the exchange's limit is not used");
                before
            })
        };
        let is_above =
            ["expert", "premier", "paragon", "prime", "prestige"].contains(&&*response.usage_tier);
        let own = Limit::known(OWN_RATES[usize::from(is_above)], 1);
        Self::new(of(&response.read, self.read), of(&response.write, self.write), own)
    }
}

impl Budget {
    /// Fetches the costs of the operations and the limits of the account, and uses them from then
    /// on. The request for the limits goes before other reads.
    ///
    /// When another call of this does so already, it waits for that one.
    ///
    /// # Errors
    ///
    /// That of a request that failed. What the other one said is used.
    pub async fn learn(&self, client: &Client) -> Result<(), Error> {
        let Ok(learning) = self.0.learning.try_lock() else {
            // The call that holds it asks for the same.
            let _ = self.0.learning.lock().await;
            return Ok(());
        };
        let client = client.with_extension(RequestOptions::new().with_class(Class::Urgent));
        let costs = client.get_account_endpoint_costs().send().await;
        if let Ok(costs) = &costs {
            self.change_costs(|table| table.learn(costs));
        }
        let limits = client.get_account_api_limits().send().await;
        if let Ok(limits) = &limits {
            let lane = Lane::EventContracts;
            self.set_limits(lane, self.limits(lane).learned(limits));
        }
        drop(learning);
        costs.and(limits.map(drop))
    }

    /// Spawns a task that [learns](Self::learn) the limits now, every ten minutes, and after each
    /// 429, with a pause of a second in between. It ends when the value that is returned is
    /// dropped. What fails is logged, and tried again.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    #[must_use = "dropped, it learns no more"]
    pub fn keep_learning(&self, client: &Client) -> Learning {
        let (budget, client) = (self.clone(), client.clone());
        Learning(tokio::spawn(async move {
            loop {
                let learned = budget.learn(&client).await;
                sleep(MIN_PAUSE).await;
                if let Err(error) = learned {
                    tracing::warn!(%error, "could not learn the rate limits");
                    continue;
                }
                tokio::select! {
                    () = sleep(LEARN_INTERVAL) => {}
                    () = budget.0.stale.notified() => {}
                }
            }
        }))
    }
}

/// The task of [`Budget::keep_learning`], which ends when this is dropped.
#[derive(Debug)]
pub struct Learning(JoinHandle<()>);

impl Drop for Learning {
    fn drop(&mut self) {
        self.0.abort();
    }
}
