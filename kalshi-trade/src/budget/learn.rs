//! Learns the account's limits and the costs of operations from the exchange.

use std::time::Duration;

use kalshi_sdk::{Client, Error, operation::Lane, types::GetAccountApiLimitsResponse};
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
        let (read, write) = (&response.read, &response.write);
        let is_above =
            ["expert", "premier", "paragon", "prime", "prestige"].contains(&&*response.usage_tier);
        let own = Limit::known(OWN_RATES[usize::from(is_above)], 1);
        Self::new(
            believed(read.refill_rate, read.bucket_capacity, self.read),
            believed(write.refill_rate, write.bucket_capacity, self.write),
            own,
        )
    }

    /// Returns the limits of perpetual futures that the exchange says, in the same way. No operation of
    /// theirs has a bucket of its own.
    #[cfg(feature = "perps")]
    fn learned_of_perps(
        self,
        response: &kalshi_sdk::perps::types::GetAccountApiLimitsResponse,
    ) -> Self {
        let (read, write) = (&response.read, &response.write);
        Self::new(
            believed(read.refill_rate, read.bucket_capacity, self.read),
            believed(write.refill_rate, write.bucket_capacity, self.write),
            self.own,
        )
    }
}

/// Returns the limit with a rate and a capacity; the one before it if it cannot be.
fn believed(refill: i64, capacity: i64, before: Limit) -> Limit {
    let of = |number: i64| u64::try_from(number).unwrap_or(0);
    Limit::new(of(refill), of(capacity)).unwrap_or_else(|error| {
        tracing::warn!(%error, "the exchange's limit is not used");
        before
    })
}

impl Budget {
    /// Fetches the costs of the operations and the limits of the account, and uses them from then
    /// on. The request for the limits goes before other reads.
    ///
    /// With the feature `perps`, the limits of perpetual futures are fetched as well if
    /// `BudgetBuilder::with_perps` asked for that.
    ///
    /// # Errors
    ///
    /// That of a request that failed. What the others said is used.
    pub async fn learn(&self, client: &Client) -> Result<(), Error> {
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
        let learned = costs.and(limits.map(drop));
        #[cfg(feature = "perps")]
        let learned = learned.and(self.learn_perps(&client).await);
        learned
    }

    /// Fetches the limits of perpetual futures, if that is asked for.
    #[cfg(feature = "perps")]
    async fn learn_perps(&self, client: &Client) -> Result<(), Error> {
        if self.0.learns_perps {
            let limits = client.perps().get_perps_account_api_limits().send().await?;
            let lane = Lane::Perpetuals;
            self.set_limits(lane, self.limits(lane).learned_of_perps(&limits));
        }
        Ok(())
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
