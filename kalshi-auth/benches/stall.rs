//! What signing costs a request, and what it costs the other tasks of a runtime.
//!
//! `cargo bench -p kalshi-auth --features aws-lc-rs --bench stall`
//!
//! Criterion measures one thing after the other, which on a machine with other work compares two
//! moments rather than two ways. Here the ways take turns, request by request or burst by burst.

mod common;

use std::{
    hint::black_box,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Answer, CASES, Case, client, request};
use http::Extensions;
use kalshi_auth::{Signer, SigningPolicy};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task,
};

const BURSTS: usize = 10;
const REQUESTS: usize = 50;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "One request at a time: microseconds (10th percentile, median)")?;
    writeln!(
        out,
        "{:<20}{:<20}{:<20}{:<20}{:<20}ratio middleware / (library + no signature)",
        "", "library", "sign", "middleware", "no signature"
    )?;
    for case in CASES {
        cost(&mut out, case)?;
    }

    writeln!(
        out,
        "\n{REQUESTS} requests at once: how late another task runs (median, 99th, worst)"
    )?;
    for case in [Case::RsaAwsLc, Case::RsaPureRust] {
        for (workers, runtime) in [("current thread", false), ("two workers", true)] {
            writeln!(out, "{}, {workers}", case.name())?;
            let runtime = if runtime {
                Builder::new_multi_thread().worker_threads(2).enable_all().build()?
            } else {
                Builder::new_current_thread().enable_all().build()?
            };
            stall(&mut out, case, &runtime)?;
        }
    }
    Ok(())
}

/// Signs one request after the other, each in every way.
fn cost(out: &mut impl io::Write, case: Case) -> io::Result<()> {
    let bare = case.bare_call();
    let signer = case.signer();
    let signing = client(Some(signer.clone()));
    let unsigned = client(None);
    let rounds = if case.is_rsa() { 2_000 } else { 20_000 };
    let runtime = Builder::new_current_thread().build()?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    runtime.block_on(async {
        for round in 0..rounds {
            for turn in 0..times.len() {
                let way = (round + turn) % times.len();
                let mut extensions = Extensions::new();
                if way == 3 {
                    extensions.insert(SigningPolicy::Never);
                }
                let start = Instant::now();
                match way {
                    0 => drop(black_box(bare())),
                    1 => drop(black_box(signer.sign("GET", common::PATH))),
                    2 => drop(black_box(
                        signing.execute_with_extensions(request(), &mut extensions).await,
                    )),
                    _ => drop(black_box(
                        unsigned.execute_with_extensions(request(), &mut extensions).await,
                    )),
                }
                times[way].push(start.elapsed());
            }
        }
    });
    let [library, sign, middleware, unsigned] = times.map(Sorted::new);
    let ratio = |q| micros(middleware.at(q)) / (micros(library.at(q)) + micros(unsigned.at(q)));
    let pair = |times: &Sorted| format!("{:.1}, {:.1}", micros(times.at(10)), micros(times.at(50)));
    writeln!(
        out,
        "{:<20}{:<20}{:<20}{:<20}{:<20}{:.3}, {:.3}",
        case.name(),
        pair(&library),
        pair(&sign),
        pair(&middleware),
        pair(&unsigned),
        ratio(10),
        ratio(50)
    )
}

/// Signs in one of the ways that this crate does not.
struct Elsewhere {
    signer: Signer,
    blocking: bool,
}

#[async_trait::async_trait]
impl Middleware for Elsewhere {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let signed = if self.blocking {
            let (signer, path) = (self.signer.clone(), request.url().path().to_owned());
            task::spawn_blocking(move || signer.sign("GET", &path)).await.expect("a thread")
        } else {
            self.signer.sign("GET", request.url().path())
        };
        signed.expect("a signature").insert_into(request.headers_mut());
        next.run(request, extensions).await
    }
}

fn stall(out: &mut impl io::Write, case: Case, runtime: &Runtime) -> io::Result<()> {
    let signer = case.signer();
    let other = |blocking| {
        let middleware = Elsewhere { signer: signer.clone(), blocking };
        ClientBuilder::new(reqwest::Client::new()).with(middleware).with(Answer).build()
    };
    let ways = [
        ("nothing to sign", client(None), SigningPolicy::Never),
        ("in place", other(false), SigningPolicy::Required),
        ("spawn_blocking", other(true), SigningPolicy::Required),
        ("this crate", client(Some(signer.clone())), SigningPolicy::Required),
    ];
    let mut late: [Vec<Duration>; 4] = Default::default();
    let mut took = [Duration::ZERO; 4];
    for _ in 0..BURSTS {
        for (way, (_, client, policy)) in ways.iter().enumerate() {
            let (delays, burst) = runtime.block_on(burst(client, *policy));
            late[way].extend(delays);
            took[way] += burst;
        }
    }
    for ((name, ..), (delays, took)) in ways.iter().zip(late.into_iter().zip(took)) {
        let delays = Sorted::new(delays);
        writeln!(
            out,
            "    {name:<20}{:>12.1?}{:>12.1?}{:>12.1?}    a burst took {:.1?}",
            delays.at(50),
            delays.at(99),
            delays.at(100),
            took / u32::try_from(BURSTS).unwrap_or(1)
        )?;
    }
    Ok(())
}

/// Sends a burst, while a thread outside asks a task inside for the time, and says how long the
/// answers and the burst took.
async fn burst(client: &ClientWithMiddleware, policy: SigningPolicy) -> (Vec<Duration>, Duration) {
    let (ask, mut asked) = mpsc::unbounded_channel::<Instant>();
    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let asking = thread::spawn(move || {
        while !is_done.load(Ordering::Relaxed) {
            let _ = ask.send(Instant::now());
            thread::sleep(Duration::from_micros(200));
        }
    });
    let other_task = tokio::spawn(async move {
        let mut delays = Vec::new();
        while let Some(asked) = asked.recv().await {
            delays.push(asked.elapsed());
        }
        delays
    });
    tokio::time::sleep(Duration::from_millis(2)).await;

    let start = Instant::now();
    let requests: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut extensions = Extensions::new();
                extensions.insert(policy);
                client.execute_with_extensions(request(), &mut extensions).await.expect("an answer")
            })
        })
        .collect();
    for request in requests {
        request.await.expect("a task");
    }
    let took = start.elapsed();
    tokio::time::sleep(Duration::from_millis(2)).await;

    done.store(true, Ordering::Relaxed);
    let delays = other_task.await.expect("a task");
    let _ = asking.join();
    (delays, took)
}

struct Sorted(Vec<Duration>);

impl Sorted {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the time that `percent` per cent of the times do not exceed.
    fn at(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default()
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
