//! The engine alone: commands of the simulated traders, without sockets or signatures.

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kalshi_sim::Exchange;

/// Commands of one turn: enough that the lock and the look at the clock do not count.
const TURN: u64 = 5_000;

fn engine(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let exchange = runtime
        .block_on(Exchange::builder().with_traders(50).with_markets(60).start())
        .expect("it starts");
    // A book as deep as it gets.
    exchange.markets().run_traders(100_000);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(TURN)).sample_size(20);
    group.bench_function("commands", |bencher| {
        bencher.iter_custom(|turns| {
            let began = Instant::now();
            for _ in 0..turns {
                exchange.markets().run_traders(TURN);
            }
            began.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
