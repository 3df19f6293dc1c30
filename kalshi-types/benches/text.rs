//! Reading and writing the wire form, with `f64` and `rust_decimal` as yardsticks.
//!
//! `cargo bench -p kalshi-types`

use std::{fmt::Write, hint::black_box, str::FromStr};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kalshi_types::{Count, Dollars, PriceGrid, PriceRange};
use rust_decimal::Decimal;

/// The texts of a page of markets: prices, sums with six decimals, counts, profits and losses.
const SAMPLES: [&str; 8] =
    ["0.5600", "0.0100", "0.960", "1234.560001", "-12.345600", "0.0000", "10.00", "1234567.89"];

/// A page of 1,000 markets has some 30 numbers each.
const PAGE: usize = 30_000;

fn read_all<T: FromStr>(texts: &[String]) -> usize {
    texts.iter().filter(|text| black_box(text.as_str()).parse::<T>().is_ok()).count()
}

fn parse(c: &mut Criterion) {
    let texts = page();
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("dollars", |b| b.iter(|| read_all::<Dollars>(&texts)));
    group.bench_function("f64", |b| b.iter(|| read_all::<f64>(&texts)));
    group.bench_function("rust_decimal", |b| b.iter(|| read_all::<Decimal>(&texts)));
    group.finish();

    let counts: Vec<String> = ["10.00", "0.03", "1250.00", "1234567.89"]
        .iter()
        .cycle()
        .take(PAGE)
        .map(ToString::to_string)
        .collect();
    let mut group = c.benchmark_group("parse counts");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("count", |b| b.iter(|| read_all::<Count>(&counts)));
    group.bench_function("f64", |b| b.iter(|| read_all::<f64>(&counts)));
    group.bench_function("rust_decimal", |b| b.iter(|| read_all::<Decimal>(&counts)));
    group.finish();
}

fn print(c: &mut Criterion) {
    let texts = page();
    let dollars: Vec<Dollars> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    let floats: Vec<f64> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    let decimals: Vec<Decimal> = texts.iter().filter_map(|text| text.parse().ok()).collect();

    let mut group = c.benchmark_group("print");
    group.throughput(Throughput::Elements(PAGE as u64));
    let mut out = String::with_capacity(PAGE * 16);
    group.bench_function("dollars", |b| b.iter(|| write_all(&mut out, &dollars)));
    group.bench_function("f64", |b| b.iter(|| write_all(&mut out, &floats)));
    group.bench_function("rust_decimal", |b| b.iter(|| write_all(&mut out, &decimals)));
    group.finish();
}

fn write_all<T: std::fmt::Display>(out: &mut String, items: &[T]) -> usize {
    out.clear();
    for item in items {
        // Writing to a string does not fail.
        let _ = write!(out, "{}", black_box(item));
    }
    out.len()
}

fn serde(c: &mut Criterion) {
    let texts = page();
    let json = serde_json::to_string(&texts).expect("strings serialize");
    let dollars: Vec<Dollars> = serde_json::from_str(&json).expect("the samples are dollars");

    let mut group = c.benchmark_group("serde_json");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("read dollars", |b| {
        b.iter(|| serde_json::from_str::<Vec<Dollars>>(black_box(&json)).map(|all| all.len()));
    });
    group.bench_function("read borrowed strings", |b| {
        b.iter(|| serde_json::from_str::<Vec<&str>>(black_box(&json)).map(|all| all.len()));
    });
    group.bench_function("read owned strings", |b| {
        b.iter(|| serde_json::from_str::<Vec<String>>(black_box(&json)).map(|all| all.len()));
    });
    group.bench_function("write dollars", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(json.len() * 2),
            |out| serde_json::to_writer(out, black_box(&dollars)).is_ok(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn grid(c: &mut Criterion) {
    let band = |start, end, step| PriceRange {
        start: Dollars::from_micros(start),
        end: Dollars::from_micros(end),
        step: Dollars::from_micros(step),
    };
    let grid = PriceGrid::new(vec![
        band(0, 10_000, 100),
        band(10_000, 990_000, 1_000),
        band(990_000, 1_000_000, 100),
    ])
    .expect("the grid of every combo market");
    let price = Dollars::from_micros(560_550);

    let mut group = c.benchmark_group("grid");
    group.bench_function("is_valid", |b| b.iter(|| grid.is_valid(black_box(price))));
    group.bench_function("snap_down", |b| b.iter(|| grid.snap_down(black_box(price))));
    group.bench_function("all ticks", |b| b.iter(|| black_box(&grid).ticks().count()));
    group.finish();
}

fn page() -> Vec<String> {
    SAMPLES.iter().cycle().take(PAGE).map(ToString::to_string).collect()
}

criterion_group!(benches, parse, print, serde, grid);
criterion_main!(benches);
