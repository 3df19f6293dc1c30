//! Decoding a page of 1,000 markets, every field present: the generated types beside a struct
//! written by hand for the purpose, under the same JSON library.
//!
//! ```text
//! cargo bench --bench decode
//! ```

#![recursion_limit = "256"]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kalshi_sdk::types::GetMarketsResponse;

use crate::common::{HandPage, page};

fn decode(criterion: &mut Criterion) {
    let text = page(1_000);
    let bytes = text.as_bytes();
    let mut group = criterion.benchmark_group("decode 1,000 markets");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    // The client's own way: one UTF-8 check, then as text.
    group.bench_function("generated, checked once", |b| {
        b.iter(|| {
            let text = std::str::from_utf8(bytes).expect("it is text");
            serde_json::from_str::<GetMarketsResponse>(text).expect("it decodes")
        });
    });
    group.bench_function("by hand, checked once", |b| {
        b.iter(|| {
            let text = std::str::from_utf8(bytes).expect("it is text");
            serde_json::from_str::<HandPage>(text).expect("it decodes")
        });
    });
    group.bench_function("generated, from bytes", |b| {
        b.iter(|| serde_json::from_slice::<GetMarketsResponse>(bytes).expect("it decodes"));
    });
    group.bench_function("by hand, from bytes", |b| {
        b.iter(|| serde_json::from_slice::<HandPage>(bytes).expect("it decodes"));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
