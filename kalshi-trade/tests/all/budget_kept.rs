//! Calls that were polled once and are kept: they hold no other request of the budget up.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use kalshi_sdk::{OperationId, middleware::async_trait, operation::Lane};
use kalshi_sim::{Exchange, Fault, FaultKind, Role, Tier};
use kalshi_trade::budget::{
    Backend, BackendError, BucketKey, Budget, Charge, Class, Completion, Grant, LaneLimits, Limit,
    MemoryBackend, Pool, RequestOptions, Slice, WithBudget as _,
};
use tokio::{runtime::Builder, time::timeout};

const READS: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Read);
const WRITES: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Write);

fn urgent() -> RequestOptions {
    RequestOptions::new().with_class(Class::Urgent)
}

/// A read that waits for longer than anything else here.
fn patient() -> RequestOptions {
    RequestOptions::new().with_deadline(Duration::from_secs(3_600))
}

/// Spends all tokens of a bucket.
async fn empty(budget: &Budget, key: BucketKey) {
    let tokens = budget.available(key);
    let permit = budget.acquire(Charge::single(key, tokens), urgent()).await.unwrap();
    permit.complete(Completion::Sent).await;
}

/// Waits for the tokens of a cancel.
async fn cancel(budget: &Budget) {
    let acquired = budget.acquire(Charge::single(WRITES, 2), urgent());
    let permit = timeout(Duration::from_secs(5), acquired).await.expect("it hangs");
    permit.unwrap().complete(Completion::Sent).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_kept_does_not_hold_a_cancel_up() {
    let budget = Budget::new();
    empty(&budget, READS).await;
    let mut read = pin!(budget.acquire(Charge::single(READS, 10), patient()));
    assert!(read.as_mut().now_or_never().is_none());
    empty(&budget, WRITES).await;
    cancel(&budget).await;
    // Its deadline holds as well: the tokens of the bucket are all on their way.
    let all = budget.acquire(Charge::single(WRITES, 100), urgent()).await.unwrap();
    let options = urgent().with_deadline(Duration::from_secs(2));
    let late = budget.acquire(Charge::single(WRITES, 50), options);
    let late = timeout(Duration::from_secs(5), late).await.expect("it hangs");
    assert!(late.is_err(), "its tokens are with another request");
    all.complete(Completion::NotSent).await;
    read.await.unwrap().complete(Completion::Sent).await;
    assert_eq!(budget.waiting(), 0);
}

/// A back end that answers when it is polled again.
#[derive(Debug, Default)]
struct NotAtOnce(MemoryBackend);

#[async_trait]
impl Backend for NotAtOnce {
    async fn take(&self, slice: &Slice) -> Result<Grant, BackendError> {
        tokio::task::yield_now().await;
        self.0.take(slice).await
    }

    async fn drain(&self, key: BucketKey, limit: Limit) -> Result<(), BackendError> {
        self.0.drain(key, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_kept_while_it_asks_the_back_end_does_not_hold_others_up() {
    let budget = Budget::builder().with_backend(Arc::new(NotAtOnce::default())).build();
    let mut read = pin!(budget.acquire(Charge::single(READS, 10), patient()));
    assert!(read.as_mut().now_or_never().is_none());
    cancel(&budget).await;
    // Of the same bucket, too.
    let other = budget.acquire(Charge::single(READS, 10), patient());
    let other = timeout(Duration::from_secs(5), other).await.expect("it hangs");
    other.unwrap().complete(Completion::Sent).await;
    read.await.unwrap().complete(Completion::Sent).await;
}

/// A back end that never answers.
#[derive(Debug)]
struct Never;

#[async_trait]
impl Backend for Never {
    async fn take(&self, _: &Slice) -> Result<Grant, BackendError> {
        std::future::pending().await
    }

    async fn drain(&self, _: BucketKey, _: Limit) -> Result<(), BackendError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_back_end_that_does_not_answer_lets_cancels_go_and_refuses_the_rest() {
    let budget = Budget::builder().with_backend(Arc::new(Never)).build();
    let (read, ()) =
        tokio::join!(budget.acquire(Charge::single(READS, 10), patient()), cancel(&budget));
    let refusal = read.unwrap_err().to_string();
    assert!(refusal.contains("not answered"), "{refusal}");
}

/// Requests that were granted and do not begin take the places of those that would.
#[tokio::test(start_paused = true)]
async fn reads_that_are_kept_after_they_were_granted_let_others_begin() {
    let limit = Limit::new(1_000_000, 1_000_000).unwrap();
    let limits = LaneLimits::new(limit, limit, limit);
    let budget = Budget::builder().with_limits(Lane::EventContracts, limits).build();
    let all = budget.acquire(Charge::single(READS, 1_000_000), urgent()).await.unwrap();
    let mut kept: Vec<_> =
        (0..8).map(|_| Box::pin(budget.acquire(Charge::single(READS, 10), patient()))).collect();
    for read in &mut kept {
        assert!(read.as_mut().now_or_never().is_none());
    }
    all.complete(Completion::NotSent).await;
    let create = budget.acquire(Charge::single(WRITES, 10), RequestOptions::new());
    let create = timeout(Duration::from_secs(5), create).await.expect("it hangs");
    create.unwrap().complete(Completion::Sent).await;
}

#[test]
fn a_runtime_that_stands_still_or_is_dropped_holds_no_other_up() {
    for is_dropped in [false, true] {
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let budget = Budget::new();
        let mut read = Box::pin(budget.acquire(Charge::single(READS, 10), patient()));
        first.block_on(async {
            empty(&budget, READS).await;
            assert!(read.as_mut().now_or_never().is_none());
            // Its task has begun.
            tokio::task::yield_now().await;
        });
        let kept = (!is_dropped).then_some(first);
        second.block_on(async {
            empty(&budget, WRITES).await;
            cancel(&budget).await;
            // And what was begun in the one goes on in the other.
            let read = timeout(Duration::from_secs(60), read).await.expect("it hangs");
            read.unwrap().complete(Completion::Sent).await;
        });
        drop((second, kept));
        assert_eq!(budget.waiting(), 0);
    }
}

#[tokio::test]
async fn a_learning_that_is_kept_does_not_hold_another_up() {
    let exchange = Exchange::builder().with_tier(Tier::Expert).start().await.unwrap();
    let never = Fault::builder(FaultKind::latency(Duration::from_secs(600)))
        .with_operation(OperationId::GetAccountEndpointCosts)
        .with_times(1)
        .build();
    exchange.faults().add(never).unwrap();
    let budget = Budget::new();
    let client = kalshi_sdk::Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .with_budget(&budget)
        .build()
        .unwrap();
    let mut kept = pin!(budget.learn(&client));
    let reached = async {
        while exchange.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        _ = &mut kept => panic!("it is not answered"),
        () = reached => {}
    }
    timeout(Duration::from_secs(60), budget.learn(&client)).await.expect("it hangs").unwrap();
    assert_eq!(budget.limits(Lane::EventContracts).write.refill(), 600);
}
