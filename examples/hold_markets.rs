//! Holds every open market in little memory, as a scanner does that compares all of them.
//!
//! ```text
//! cargo run --release --example hold_markets -- [MARKETS]
//! ```
//!
//! A market as the API sends it takes two and a half kilobytes, most of it texts that are the same
//! for all markets of an event. This program reads the list page by page and keeps of each market
//! what a scanner compares: its ticker, its event, what YES means, prices, counts, times and status.
//! Texts lie in one buffer, and the ticker of an event once. Nothing is rounded: each market is read
//! back and compared with the one that came. One that cannot be kept is reported.
//!
//! With a number of markets it starts itself a second time, as the server of that many made-up
//! markets, so that the memory that it prints is that of the reader. Otherwise it reads an exchange
//! in this process, whose memory counts too, or with `KALSHI_ENV=demo` the demo environment. Markets
//! are public: it needs no key.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Instant,
};

use chrono::{DateTime, Utc};
use kalshi_sdk::{
    Client, Count, Dollars, Environment,
    types::{GetMarketsStatus, Market, MarketStatus},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (client, _exchange) = common::connect().await?;
            hold(&client).await
        }
        ["--serve", markets] => serve(markets.parse()?),
        [markets] => {
            let server = Server::start(markets)?;
            let environment = Environment::Custom(server.url.clone());
            hold(&Client::builder().with_environment(environment).build()?).await
        }
        _ => Err("usage: hold_markets [MARKETS]".into()),
    }
}

/// Reads all open markets and holds them.
async fn hold(client: &Client) -> Result<(), Box<dyn Error>> {
    let (start, before) = (Instant::now(), memory()?);
    let mut held = Markets::default();
    let mut lost = 0;
    let mut markets = client.get_markets().status(GetMarketsStatus::Open).limit(1_000).stream();
    while let Some(market) = markets.next().await {
        let kept = match market {
            Ok(market) => held.keep(&market).map_err(|why| format!("{}: {why}", market.ticker)),
            // The markets after one that does not decode still come.
            Err(error) if error.is_row() => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if let Err(why) = kept {
            println!("not held: {why}");
            lost += 1;
        }
    }
    let twice = held.sort();
    let after = memory()?;
    println!(
        "{} markets of {} events in {:.1?}, {twice} of them listed twice; {lost} not held",
        held.rows.len(),
        held.events.len(),
        start.elapsed(),
    );
    println!(
        "memory of the process: {} KiB before, {} KiB with the markets, {} KiB at most",
        before.resident, after.resident, after.peak,
    );

    println!("\nthe narrowest spreads:");
    let mut spreads: Vec<(Dollars, usize)> = Vec::new();
    for at in 0..held.rows.len() {
        let Some(market) = held.get(at) else { continue };
        // A bid of 0 or an ask of 1 is never an order: that side is empty.
        if market.row.yes_bid > Dollars::ZERO && market.row.yes_ask < Dollars::ONE {
            spreads.push(((market.row.yes_ask - market.row.yes_bid).get()?, at));
        }
    }
    spreads.sort_unstable();
    for (spread, at) in spreads.into_iter().take(5) {
        let Some(market) = held.get(at) else { continue };
        println!(
            "{spread:>8}  {:<32} {} to {}  {}",
            market.ticker, market.row.yes_bid, market.row.yes_ask, market.yes_sub_title
        );
    }
    // So a message of a stream finds its market.
    if let Some(first) = held.get(0) {
        let found = held.find(first.ticker).ok_or("a market that is held was not found")?;
        println!("\n{} closes at {}", found.ticker, found.row.close_time);
    }
    if lost > 0 {
        return Err(format!("{lost} markets are not held").into());
    }
    Ok(())
}

/// Many markets, in little memory.
#[derive(Default)]
struct Markets {
    /// The texts of all markets, one behind the other.
    text: String,
    rows: Vec<Row>,
    /// The tickers of the events; a row has the position of its own.
    events: Vec<Arc<str>>,
    by_ticker: HashMap<Arc<str>, u32>,
}

/// One market, without its texts.
#[derive(Clone, PartialEq)]
struct Row {
    ticker: Span,
    yes_sub_title: Span,
    event: u32,
    status: MarketStatus,
    yes_bid: Dollars,
    yes_ask: Dollars,
    no_bid: Dollars,
    no_ask: Dollars,
    last_price: Dollars,
    yes_bid_size: Count,
    yes_ask_size: Count,
    volume: Count,
    volume_24h: Count,
    open_interest: Count,
    open_time: DateTime<Utc>,
    close_time: DateTime<Utc>,
    updated_time: DateTime<Utc>,
}

/// The place of a text.
#[derive(Clone, Copy, PartialEq)]
struct Span {
    start: u32,
    length: u16,
}

/// A market that is held, with its texts.
struct Held<'a> {
    ticker: &'a str,
    event_ticker: &'a str,
    yes_sub_title: &'a str,
    row: &'a Row,
}

impl Markets {
    /// Keeps a market, or says why it does not fit; then it leaves no row and no text.
    fn keep(&mut self, market: &Market) -> Result<(), String> {
        let length = self.text.len();
        self.add(market).and_then(|()| self.check(market)).inspect_err(|_| {
            self.text.truncate(length);
        })
    }

    fn add(&mut self, market: &Market) -> Result<(), String> {
        let ticker = self.push_text(&market.ticker)?;
        let yes_sub_title = self.push_text(&market.yes_sub_title)?;
        let row = Row {
            ticker,
            yes_sub_title,
            event: self.event(&market.event_ticker)?,
            status: market.status.clone(),
            yes_bid: market.yes_bid_dollars,
            yes_ask: market.yes_ask_dollars,
            no_bid: market.no_bid_dollars,
            no_ask: market.no_ask_dollars,
            last_price: market.last_price_dollars,
            yes_bid_size: market.yes_bid_size_fp,
            yes_ask_size: market.yes_ask_size_fp,
            volume: market.volume_fp,
            volume_24h: market.volume_24h_fp,
            open_interest: market.open_interest_fp,
            open_time: market.open_time,
            close_time: market.close_time,
            updated_time: market.updated_time,
        };
        self.rows.push(row);
        Ok(())
    }

    /// Compares the market that was added last with the one that came.
    fn check(&mut self, market: &Market) -> Result<(), String> {
        let is_same =
            self.rows.len().checked_sub(1).and_then(|at| self.get(at)).is_some_and(|held| {
                let row = held.row;
                held.ticker == market.ticker
                    && held.event_ticker == market.event_ticker
                    && held.yes_sub_title == market.yes_sub_title
                    && row.status == market.status
                    && (row.yes_bid, row.yes_ask)
                        == (market.yes_bid_dollars, market.yes_ask_dollars)
                    && (row.no_bid, row.no_ask) == (market.no_bid_dollars, market.no_ask_dollars)
                    && row.last_price == market.last_price_dollars
                    && row.yes_bid_size == market.yes_bid_size_fp
                    && row.yes_ask_size == market.yes_ask_size_fp
                    && (row.volume, row.volume_24h) == (market.volume_fp, market.volume_24h_fp)
                    && row.open_interest == market.open_interest_fp
                    && (row.open_time, row.close_time) == (market.open_time, market.close_time)
                    && row.updated_time == market.updated_time
            });
        if is_same {
            return Ok(());
        }
        self.rows.pop();
        Err("it reads back differently".to_owned())
    }

    fn push_text(&mut self, text: &str) -> Result<Span, String> {
        let start = u32::try_from(self.text.len()).map_err(|_| "4 GiB of texts are held")?;
        let length = u16::try_from(text.len())
            .map_err(|_| format!("a text has {} bytes, more than {}", text.len(), u16::MAX))?;
        self.text.push_str(text);
        Ok(Span { start, length })
    }

    fn text(&self, span: Span) -> Option<&str> {
        let start = usize::try_from(span.start).ok()?;
        self.text.get(start..start + usize::from(span.length))
    }

    /// Returns the position of an event, which is new or known.
    fn event(&mut self, ticker: &str) -> Result<u32, String> {
        if let Some(event) = self.by_ticker.get(ticker) {
            return Ok(*event);
        }
        let event = u32::try_from(self.events.len()).map_err(|_| "too many events are held")?;
        let ticker: Arc<str> = ticker.into();
        self.events.push(Arc::clone(&ticker));
        self.by_ticker.insert(ticker, event);
        Ok(event)
    }

    /// Returns a market by its position.
    fn get(&self, at: usize) -> Option<Held<'_>> {
        let row = self.rows.get(at)?;
        Some(Held {
            ticker: self.text(row.ticker)?,
            event_ticker: self.events.get(usize::try_from(row.event).ok()?)?,
            yes_sub_title: self.text(row.yes_sub_title)?,
            row,
        })
    }

    /// Sorts the markets by ticker, after which they can be found, and gives back what memory was
    /// reserved for more of them. Returns how many are there twice: a list that changes while it is
    /// read can have one on two pages.
    fn sort(&mut self) -> usize {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_unstable_by(|a, b| self.text(a.ticker).cmp(&self.text(b.ticker)));
        rows.shrink_to_fit();
        self.rows = rows;
        self.text.shrink_to_fit();
        let ticker = |row: &Row| self.text(row.ticker);
        self.rows.windows(2).filter(|pair| ticker(&pair[0]) == ticker(&pair[1])).count()
    }

    /// Returns a market by its ticker, if the markets are sorted.
    fn find(&self, ticker: &str) -> Option<Held<'_>> {
        let at = self.rows.binary_search_by(|row| self.text(row.ticker).cmp(&Some(ticker))).ok()?;
        self.get(at)
    }
}

/// The memory of this process.
struct Memory {
    /// Now, in KiB.
    resident: u64,
    /// The most so far, in KiB.
    peak: u64,
}

/// Returns the memory of this process. Linux only.
fn memory() -> Result<Memory, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("could not read the memory of the process: {error}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| format!("/proc/self/status has no {name}"))
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// This program once more, as the server of made-up markets.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(markets: &str) -> Result<Self, Box<dyn Error>> {
        let _: u32 = markets.parse().map_err(|_| format!("{markets:?} is no number of markets"))?;
        let mut process = Command::new(env::current_exe()?)
            .args(["--serve", markets])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take();
        // From here on it is ended whatever happens.
        let mut server = Self { process, url: String::new() };
        let mut address = String::new();
        BufReader::new(output.ok_or("no output")?).read_line(&mut address)?;
        server.url = format!("http://{}/trade-api/v2", address.trim());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves a list of markets, whose cursor is the number of the next one.
fn serve(markets: u32) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(stream, markets));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, markets: u32) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => request.extend_from_slice(&buffer[..read]),
            }
        }
        let head = String::from_utf8_lossy(&request);
        let query = head.split_whitespace().nth(1).and_then(|target| target.split_once('?'));
        let parameter = |name: &str| {
            let mut pairs = query?.1.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name)?.1.parse::<u32>().ok()
        };
        let first = parameter("cursor").unwrap_or(0).min(markets);
        let next = first.saturating_add(parameter("limit").unwrap_or(100)).min(markets);
        let rows: Vec<String> = (first..next).map(market).collect();
        let cursor = if next < markets { next.to_string() } else { String::new() };
        let body = format!(r#"{{"markets":[{}],"cursor":"{cursor}"}}"#, rows.join(","));
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
    }
}

/// Returns a made-up market, with texts as long as those of the exchange.
fn market(number: u32) -> String {
    let event = number / 8;
    let bid = number % 90 + 1;
    let ask = bid + 1 + number % 7;
    let rules =
        "If the value for the period named in the title is strictly greater than the strike, \
                 then the market resolves to Yes. Otherwise it resolves to No. "
            .repeat(3);
    format!(
        r#"{{"ticker":"KXMADEUP-26NOV23-{event:06}-T{number:06}.5","event_ticker":"KXMADEUP-26NOV23-{event:06}",
        "market_type":"binary","title":"Will the value of {event} be above {number} on Nov 23, 2026?",
        "subtitle":"{number} or above","yes_sub_title":"{number} or above","no_sub_title":"Below {number}",
        "created_time":"2026-11-01T10:00:00.123456Z","updated_time":"2026-11-22T10:00:00.{number:06}Z",
        "open_time":"2026-11-01T14:00:00Z","close_time":"2026-11-23T22:00:00Z",
        "expiration_time":"2026-11-30T22:00:00Z","latest_expiration_time":"2026-11-30T22:00:00Z",
        "settlement_timer_seconds":1800,"status":"active",
        "yes_bid_dollars":"0.{bid:02}00","yes_ask_dollars":"0.{ask:02}00",
        "no_bid_dollars":"0.{:02}00","no_ask_dollars":"0.{:02}00","last_price_dollars":"0.{bid:02}50",
        "yes_bid_size_fp":"{number}.25","yes_ask_size_fp":"{number}.50","volume_fp":"1{number:06}.00",
        "volume_24h_fp":"{number}.01","open_interest_fp":"{number}.99",
        "notional_value_dollars":"1.0000","previous_price_dollars":"0.5100",
        "previous_yes_bid_dollars":"0.5000","previous_yes_ask_dollars":"0.5200",
        "result":"","can_close_early":true,"expiration_value":"","exchange_index":0,
        "settlement_bounds_type":"default","price_level_structure":"linear_cent",
        "price_ranges":[{{"start":"0.0000","end":"1.0000","step":"0.0100"}}],
        "strike_type":"greater","floor_strike":{number}.5,
        "rules_primary":"{rules}","rules_secondary":"{rules}"}}"#,
        100 - ask,
        100 - bid,
    )
}
