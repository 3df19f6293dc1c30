//! The cost of a signed call to the client: `GET /portfolio/balance` to a server in another
//! process, beside plain reqwest with the same signing call and a struct.
//!
//! ```text
//! cargo bench --bench call [-- REQUESTS]
//! ```
//!
//! Prints processor time of this process per request (of all its threads, from `/proc`, so Linux
//! only) and requests per second, one request at a time, the medians of rounds of each kind in turn;
//! who is first changes from round to round. An RSA signature is made on a thread of its own by the
//! client: beside it stands reqwest with the same call, and reqwest whose worker stands still while
//! it signs.

#![allow(missing_docs, reason = "a program")]
#![expect(clippy::print_stdout, reason = "it prints its measurements")]

mod process;

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use kalshi_sdk::{
    Client, Credentials, Environment,
    auth::{KeyType, Signer, SystemClock, server::KeyPair},
    types::GetBalanceResponse,
};

use crate::process::{Failure, Used, beside_server, serve};

const BODY: &str = r#"{"balance":1000000,"balance_dollars":"10000.0000","portfolio_value":0,"updated_ts":1700000000,"balance_breakdown":[{"balance":"10000.0000","exchange_index":0}]}"#;
const ROUNDS: usize = 300;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|a| a == "--serve") {
        return serve_balance();
    }
    let requests = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(100);
    beside_server(&[], async |address| measure(address, requests).await)
}

async fn measure(address: &str, requests: usize) -> Result<(), Failure> {
    let base = format!("http://{address}/trade-api/v2");
    for key_type in [KeyType::Rsa, KeyType::Ed25519] {
        let pair = KeyPair::generate(key_type)?;
        let credentials = Credentials::from_pem("bench", pair.private_key_pem())?;
        let client = Client::builder()
            .with_environment(Environment::Custom(base.clone()))
            .with_credentials(credentials.clone())
            .build()?;
        let plain = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .timeout(Duration::from_secs(30))
            .build()?;
        let signer = Signer::new(credentials, Arc::new(SystemClock));
        let mut costs: [Cost; 3] = Default::default();
        for round in 0..ROUNDS {
            for turn in 0..costs.len() {
                let kind = (round + turn) % costs.len();
                let call = async || match kind {
                    0 => client.get_balance().send().await.map(drop).map_err(Failure::from),
                    _ => by_hand(&plain, &base, &signer, kind == 1).await,
                };
                costs[kind].add(requests, call).await?;
            }
        }
        let [ours, same, in_place] = costs;
        println!("{key_type:?}, {} requests each", ROUNDS * requests);
        ours.print("kalshi-sdk");
        same.print("reqwest, the same signing call, a struct");
        in_place.print("reqwest, signed in place, a struct");
        println!(
            "  medians of the ratios of each round {:.3}, {:.3}",
            ours.ratio(&same),
            ours.ratio(&in_place)
        );
    }
    Ok(())
}

async fn by_hand(
    http: &reqwest::Client,
    base: &str,
    signer: &Signer,
    is_async: bool,
) -> Result<(), Failure> {
    let url = format!("{base}/portfolio/balance");
    let mut request = http.get(url).header("accept", "application/json").build()?;
    let path = request.url().path().to_owned();
    let headers = if is_async {
        signer.sign_async("GET", &path).await?
    } else {
        signer.sign("GET", &path)?
    };
    headers.insert_into(request.headers_mut());
    let body = http.execute(request).await?.error_for_status()?.bytes().await?;
    serde_json::from_slice::<GetBalanceResponse>(&body)?;
    Ok(())
}

/// The time of a request in each round, in nanoseconds.
#[derive(Default)]
struct Cost {
    processor: Vec<u64>,
    wall: Vec<u64>,
}

impl Cost {
    async fn add(
        &mut self,
        requests: usize,
        mut call: impl AsyncFnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for _ in 0..requests / 10 {
            call().await?;
        }
        let (processor, wall) = (Used::now()?.processor, Instant::now());
        for _ in 0..requests {
            call().await?;
        }
        let each = |all: Duration| u64::try_from(all.as_nanos() / requests.max(1) as u128);
        self.wall.push(each(wall.elapsed())?);
        self.processor.push(each(Used::now()?.processor.saturating_sub(processor))?);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a request")]
    fn micros(&self) -> f64 {
        median(&self.processor) as f64 / 1e3
    }

    /// Returns the median over the rounds, whose kinds ran one after the other: what the machine
    /// does besides changes from round to round.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a request")]
    fn ratio(&self, other: &Self) -> f64 {
        let mut ratios: Vec<f64> = self
            .processor
            .iter()
            .zip(&other.processor)
            .map(|(ours, theirs)| *ours as f64 / (*theirs).max(1) as f64)
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn print(&self, name: &str) {
        let rate = 1_000_000_000 / median(&self.wall).max(1);
        println!("  {name}: {:.1} µs of processor time, {rate} requests/s", self.micros());
    }
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Answers every request with the same balance.
fn serve_balance() -> Result<(), Failure> {
    let length = BODY.len();
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}"
    );
    serve(response.into_bytes())
}
