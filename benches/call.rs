//! The cost of a signed call to the client: `GET /portfolio/balance` to a server in another
//! process, beside plain reqwest with the same signing call and a struct.
//!
//! ```text
//! cargo bench --bench call [-- REQUESTS]
//! ```
//!
//! Prints processor time of this process per request (user and system, from `/proc/self/stat`,
//! so Linux only) and requests per second, one request at a time, rounds of each kind in turn.

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
    auth::{self, Clock, SystemClock, server::KeyPair},
    types::GetBalanceResponse,
};

use crate::process::{Failure, Used, beside_server, serve};

const BODY: &str = r#"{"balance":1000000,"balance_dollars":"10000.0000","portfolio_value":0,"updated_ts":1700000000,"balance_breakdown":[{"balance":"10000.0000","exchange_index":0}]}"#;
const ROUNDS: usize = 6;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|a| a == "--serve") {
        return serve_balance();
    }
    let requests = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(2_000);
    beside_server(&[], async |address| measure(address, requests).await)
}

async fn measure(address: &str, requests: usize) -> Result<(), Failure> {
    let base = format!("http://{address}/trade-api/v2");
    for key_type in [auth::KeyType::Rsa, auth::KeyType::Ed25519] {
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
        let (mut ours, mut theirs) = (Cost::default(), Cost::default());
        for _ in 0..ROUNDS {
            ours.add(requests, async || {
                client.get_balance().send().await?;
                Ok(())
            })
            .await?;
            theirs.add(requests, async || by_hand(&plain, &base, &credentials).await).await?;
        }
        println!("{key_type:?}, {} requests each", ROUNDS * requests);
        ours.print("kalshi-sdk");
        theirs.print("reqwest, the same signing call, a struct");
        println!("  ratio of processor time {:.3}", ours.micros() / theirs.micros());
    }
    Ok(())
}

async fn by_hand(
    http: &reqwest::Client,
    base: &str,
    credentials: &Credentials,
) -> Result<(), Failure> {
    let url = format!("{base}/portfolio/balance");
    let mut request = http.get(url).header("accept", "application/json").build()?;
    let path = request.url().path().to_owned();
    let signed = auth::sign(credentials, "GET", &path, Arc::new(SystemClock).now())?;
    signed.insert_into(request.headers_mut());
    let body = http.execute(request).await?.error_for_status()?.bytes().await?;
    serde_json::from_slice::<GetBalanceResponse>(&body)?;
    Ok(())
}

#[derive(Default)]
struct Cost {
    processor: Duration,
    wall: Duration,
    requests: usize,
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
        let (processor, wall) = (processor_time()?, Instant::now());
        for _ in 0..requests {
            call().await?;
        }
        self.processor += processor_time()?.saturating_sub(processor);
        self.wall += wall.elapsed();
        self.requests += requests;
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    fn micros(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.requests as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    fn print(&self, name: &str) {
        let rate = self.requests as f64 / self.wall.as_secs_f64();
        println!("  {name}: {:.0} µs of processor time, {rate:.0} requests/s", self.micros());
    }
}

/// Returns the user and system time of this process, in steps of 10 ms.
fn processor_time() -> Result<Duration, Failure> {
    Ok(Duration::from_millis(Used::now()?.ticks * 10))
}

/// Answers every request with the same balance.
fn serve_balance() -> Result<(), Failure> {
    let length = BODY.len();
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}"
    );
    serve(response.into_bytes())
}
