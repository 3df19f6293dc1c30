//! Functions given to a client that panic.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt as _;
use kalshi_sdk::{CallOutcome, ClientBuilder};
use serde_json::json;

use crate::support::{Answer, always, builder, credentials};

/// Returns the client with hooks that panic, and the number of their calls.
fn panicking(builder: ClientBuilder) -> (ClientBuilder, Arc<AtomicUsize>) {
    let called = Arc::<AtomicUsize>::default();
    let (calls, drifts) = (Arc::clone(&called), Arc::clone(&called));
    let builder = builder
        .with_credentials(credentials())
        .on_call(move |report| {
            calls.fetch_add(1, Ordering::SeqCst);
            // Without the message that a panic prints.
            resume_unwind(Box::new(report.outcome == CallOutcome::Success));
        })
        .on_drift(move |drift| {
            drifts.fetch_add(1, Ordering::SeqCst);
            resume_unwind(Box::new(drift.kind));
        });
    (builder, called)
}

#[tokio::test]
async fn a_call_returns_its_result_though_its_hooks_panic() {
    let server = always(Answer::json(&json!({"api_keys": [], "new": 1}))).await;
    let (builder, called) = panicking(builder(&server.url()));
    let client = builder.build().unwrap();
    assert!(client.get_api_keys().send().await.unwrap().api_keys.is_empty());
    assert_eq!(called.load(Ordering::SeqCst), 2);
    // And an error is the call's own.
    let error = client.get_balance().send().await.unwrap_err();
    assert!(error.is_decode(), "{error}");
}

#[tokio::test]
async fn a_hook_that_panics_while_another_panic_drops_the_call_does_not_end_the_process() {
    let server = always(Answer::Hang(Vec::new())).await;
    let (builder, called) = panicking(builder(&server.url()));
    let client = builder.build().unwrap();
    let panics = async {
        // Dropped by the panic, and not before.
        let mut call = pin!(client.get_api_keys().send());
        tokio::select! {
            biased;
            _ = call.as_mut() => {}
            () = tokio::task::yield_now() => {}
        }
        resume_unwind(Box::new("the caller"));
    };
    let caught = AssertUnwindSafe(panics).catch_unwind().await.unwrap_err();
    assert_eq!(caught.downcast_ref::<&str>(), Some(&"the caller"));
    assert_eq!(called.load(Ordering::SeqCst), 1);
}
