//! A maker of quotes: it finds a request, bids on both sides around the book, and confirms.
//!
//! ```text
//! cargo run --example rfq_maker
//! ```
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process, where another member asks and
//! accepts; with `KALSHI_ENV=demo`, `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo
//! environment, where it quotes on what is open and withdraws what nobody accepts.
//!
//! It asks again and again, which is enough for an example. A real maker has 30 seconds to confirm,
//! or 3, and follows the stream `communications`.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::{error::Error, time::Duration};

use kalshi_sdk::{
    Client, Credentials, Dollars, Environment, PriceGrid,
    types::{
        AcceptQuoteRequest, AcceptedSide, CreateQuoteRequest, CreateRfqRequest, GetMarketsStatus,
        QuoteStatus, Rfq,
    },
};
use kalshi_sim::{Exchange, Role};
use tokio::time::sleep;

/// The distance of each bid from the middle of the book.
const MARGIN: Dollars = Dollars::from_micros(20_000);
/// The number of looks at a quote, and the wait between them.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("KALSHI_ENV").is_some() {
        let client = Client::builder()
            .with_environment(Environment::from_env()?)
            .with_credentials(Credentials::from_env()?)
            .build()?;
        return make(&client, None).await;
    }
    let exchange = Exchange::start().await?;
    let requester = exchange.client(Role::Trader)?;
    ask(&requester).await?;
    make(&exchange.client(Role::Maker)?, Some(&requester)).await
}

/// Quotes on the first request of somebody else that can be quoted on.
async fn make(client: &Client, requester: Option<&Client>) -> Result<(), Box<dyn Error>> {
    let me = client.get_communications_id().send().await?.into_inner().communications_id;
    let mut requests = client.get_rfqs().status("open").stream();
    while let Some(request) = requests.next().await.transpose()? {
        if request.creator_id == me {
            continue;
        }
        let Some((yes_bid, no_bid)) = bids(client, &request).await? else { continue };
        println!("{}: bid {yes_bid} for YES, {no_bid} for NO", request.market_ticker);
        let quote = CreateQuoteRequest::builder()
            .rfq_id(&*request.id)
            .yes_bid(yes_bid)
            .no_bid(no_bid)
            .rest_remainder(false);
        let quote = client.create_quote().body(quote).send().await?.into_inner().id;
        if let Some(requester) = requester {
            accept(requester, &request.id, &quote).await?;
        }
        return follow(client, &request.id, &quote).await;
    }
    println!("nobody asks for a quote at the moment");
    Ok(())
}

/// Returns the bids for YES and for NO, on the market's grid; `None` where the book gives no
/// middle.
async fn bids(
    client: &Client,
    request: &Rfq,
) -> Result<Option<(Dollars, Dollars)>, Box<dyn Error>> {
    let market = client.get_market().ticker(&*request.market_ticker).send().await?;
    let market = market.into_inner().market;
    let grid = PriceGrid::new(market.price_ranges)?;
    // Half of the sum of what is bid and what is asked; rounded down, as bids are. A bid of 0 or an
    // ask of 1 is never an order, so then there is no middle.
    let below = |bid: Dollars, ask: Dollars| {
        if bid == Dollars::ZERO || ask == Dollars::ONE {
            return None;
        }
        let middle = Dollars::from_micros(bid.checked_add(ask)?.as_micros() / 2);
        grid.snap_down(middle.checked_sub(MARGIN)?)
    };
    let yes_bid = below(market.yes_bid_dollars, market.yes_ask_dollars);
    let no_bid = below(market.no_bid_dollars, market.no_ask_dollars);
    Ok(yes_bid.zip(no_bid))
}

/// Looks at the quote until it is decided. An accepted one is confirmed at once.
async fn follow(client: &Client, rfq: &str, id: &str) -> Result<(), Box<dyn Error>> {
    for _ in 0..LOOKS {
        let quote = client.get_rfq_quote().rfq_id(rfq).quote_id(id).send().await?;
        let quote = quote.into_inner().quote;
        match quote.status {
            QuoteStatus::Accepted => {
                // The side that is named is the bid that was hit.
                let side = quote.accepted_side.map(|side| side.to_string()).unwrap_or_default();
                println!("accepted: the bid for {side} is hit");
                client.confirm_rfq_quote().rfq_id(rfq).quote_id(id).send().await?;
                println!("confirmed: the orders of both go to the book soon");
                return Ok(());
            }
            QuoteStatus::Open => sleep(PAUSE).await,
            other => {
                println!("the quote is {other}");
                return Ok(());
            }
        }
    }
    client.delete_rfq_quote().rfq_id(rfq).quote_id(id).send().await?;
    println!("nobody accepted: the quote is withdrawn");
    Ok(())
}

/// Asks for a price as the other member of the embedded exchange.
async fn ask(client: &Client) -> Result<(), Box<dyn Error>> {
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
    let market = open.into_inner().markets.into_iter().next().ok_or("no market is open")?;
    let request = CreateRfqRequest::builder()
        .market_ticker(market.ticker)
        .contracts_fp("25.00")
        .rest_remainder(false);
    client.create_rfq().body(request).send().await?;
    Ok(())
}

/// Accepts the bid for NO as the other member, who so buys YES.
async fn accept(client: &Client, rfq: &str, quote: &str) -> Result<(), Box<dyn Error>> {
    let side = AcceptQuoteRequest::builder().accepted_side(AcceptedSide::No);
    client.accept_rfq_quote().rfq_id(rfq).quote_id(quote).body(side).send().await?;
    Ok(())
}
