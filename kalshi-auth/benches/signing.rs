//! The bare call of each library, [`kalshi_auth::sign`], and a request through the middleware.
//!
//! `cargo bench -p kalshi-auth --features aws-lc-rs --bench signing`

mod common;

use std::{hint::black_box, time::Instant};

use common::{CASES, PATH, client, request};
use criterion::{Criterion, criterion_group, criterion_main};
use kalshi_auth::SigningPolicy;
use tokio::runtime::Builder;

fn signing(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");

    let unsigned = client(None);
    c.bench_function("no signature/middleware", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..times {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(SigningPolicy::Never);
                    let response = unsigned.execute_with_extensions(request(), &mut extensions);
                    black_box(response.await.expect("an answer"));
                }
                start.elapsed()
            })
        });
    });

    for case in CASES {
        let mut group = c.benchmark_group(case.name());
        let bare = case.bare_call();
        group.bench_function("library", |b| b.iter(&bare));
        let signer = case.signer();
        group.bench_function("sign", |b| {
            b.iter(|| signer.sign("GET", black_box(PATH)).expect("a signature"));
        });
        let client = client(Some(signer.clone()));
        group.bench_function("middleware", |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let start = Instant::now();
                    for _ in 0..times {
                        black_box(client.execute(request()).await.expect("an answer"));
                    }
                    start.elapsed()
                })
            });
        });
        group.finish();
    }
}

criterion_group!(benches, signing);
criterion_main!(benches);
