//! The cost to the client of pages of 1,000 markets, 32 at once, from a server in another process:
//! beside plain reqwest with a struct written by hand.
//!
//! ```text
//! cargo bench --bench page [-- PAGES [chunked]]
//! ```
//!
//! Prints processor time of this process per page (of all its threads, from `/proc`, so Linux only) and the pages of memory that the system had to map, rounds of each kind in turn. With
//! `chunked` the server announces no length, as with compression.

#![recursion_limit = "256"]
#![allow(missing_docs, reason = "a program")]
#![expect(clippy::print_stdout, reason = "it prints its measurements")]

mod common;
mod process;

use std::{env, io::Write, time::Duration};

use futures_util::future::try_join_all;
use kalshi_sdk::{Client, Environment, types::GetMarketsResponse};

use crate::{
    common::{HandPage, page},
    process::{Failure, Used, beside_server, serve},
};

const AT_ONCE: usize = 32;
const ROUNDS: usize = 7;
const ROWS: usize = 1_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let is_chunked = arguments.iter().any(|a| a == "chunked");
    if arguments.first().is_some_and(|a| a == "--serve") {
        return serve_pages(is_chunked);
    }
    let pages = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(320);
    let served = if is_chunked { &["chunked"][..] } else { &[] };
    beside_server(served, async |address| measure(address, pages).await)
}

async fn measure(address: &str, pages: usize) -> Result<(), Failure> {
    let base = format!("http://{address}/trade-api/v2");
    let client = Client::builder().with_environment(Environment::Custom(base.clone())).build()?;
    let plain = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .timeout(Duration::from_secs(30))
        .build()?;
    let mut kinds = [
        Kind::new("kalshi-sdk"),
        Kind::new("reqwest, a struct by hand"),
        Kind::new("reqwest, a struct by hand, checked once"),
        Kind::new("reqwest, the generated types, checked once"),
    ];
    let url = format!("{base}/markets?limit={ROWS}");
    for _ in 0..ROUNDS {
        let [ours, json, text, generated] = &mut kinds;
        ours.add(pages, async || {
            let page = client.get_markets().limit(1_000).send().await?;
            counted(page.markets.len())
        })
        .await?;
        json.add(pages, async || {
            let page: HandPage = plain.get(&url).send().await?.error_for_status()?.json().await?;
            counted(page.markets.len())
        })
        .await?;
        text.add(pages, async || {
            let body = plain.get(&url).send().await?.error_for_status()?.bytes().await?;
            let page: HandPage = serde_json::from_str(std::str::from_utf8(&body)?)?;
            counted(page.markets.len())
        })
        .await?;
        generated
            .add(pages, async || {
                let body = plain.get(&url).send().await?.error_for_status()?.bytes().await?;
                let page: GetMarketsResponse = serde_json::from_str(std::str::from_utf8(&body)?)?;
                counted(page.markets.len())
            })
            .await?;
    }
    println!("pages of {ROWS} markets, {AT_ONCE} at once, {ROUNDS} rounds of {pages}, the median");
    let ours = kinds[0].micros();
    for kind in &kinds {
        let micros = kind.micros();
        println!(
            "  {}: {micros} µs of processor time, {} faults a page; ours is {:.3} of it",
            kind.name,
            kind.faults(),
            f64::from(ours) / f64::from(micros),
        );
    }
    Ok(())
}

fn counted(rows: usize) -> Result<(), Failure> {
    if rows == ROWS { Ok(()) } else { Err(format!("{rows} rows").into()) }
}

/// One way to read a page, and what its rounds cost.
struct Kind {
    name: &'static str,
    micros: Vec<u32>,
    faults: Vec<u32>,
}

impl Kind {
    fn new(name: &'static str) -> Self {
        Self { name, micros: Vec::new(), faults: Vec::new() }
    }

    async fn add(
        &mut self,
        pages: usize,
        read: impl AsyncFn() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let read = &read;
        let round = async |pages: usize| {
            let tasks = (0..AT_ONCE).map(|task| async move {
                for _ in (task..pages).step_by(AT_ONCE) {
                    read().await?;
                }
                Ok::<_, Failure>(())
            });
            try_join_all(tasks).await
        };
        // So that connections and buffers are there.
        round(AT_ONCE).await?;
        let before = Used::now()?;
        round(pages).await?;
        let after = Used::now()?;
        let each = |all: u128| u32::try_from(all / pages.max(1) as u128);
        self.micros.push(each(after.processor.saturating_sub(before.processor).as_micros())?);
        self.faults.push(each((after.faults - before.faults).into())?);
        Ok(())
    }

    fn micros(&self) -> u32 {
        median(&self.micros)
    }

    fn faults(&self) -> u32 {
        median(&self.faults)
    }
}

fn median(values: &[u32]) -> u32 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Answers every request with the same page.
fn serve_pages(is_chunked: bool) -> Result<(), Failure> {
    let body = page(ROWS);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let response = if is_chunked {
        let mut response = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        for piece in body.as_bytes().chunks(8_192) {
            write!(response, "{:x}\r\n", piece.len())?;
            response.extend_from_slice(piece);
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"0\r\n\r\n");
        response
    } else {
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    serve(response)
}
