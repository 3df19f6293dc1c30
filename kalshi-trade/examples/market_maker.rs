//! A market maker: quotes both sides one tick inside the best prices of others, within an inventory,
//! and is out when it ends. `cargo run -p kalshi-trade --example market_maker [TICKER]` trades on an
//! exchange in this process, with the limits of the lowest tier, reads that trail and answers that
//! are lost; with `KALSHI_ENV=demo` and a key in the environment, on that. Ends at Ctrl-C.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::{env, error::Error, pin::pin, time::Duration};

use kalshi_sdk::{
    Client, Credentials, Dollars, Environment, OperationId, PriceGrid,
    auth::{Clock as _, SystemClock},
    types::{CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Fault, FaultKind, Role, Tier};
use kalshi_trade::{
    budget::{Budget, WithBudget as _},
    journal::FileJournal,
    orders::OrderKey,
    placement::Placement,
    quoting::{Quote, QuoteAction, QuoteSide, Quoter, RestingQuote},
    retry::Retry,
    risk::{Ceiling, Ceilings},
    trading::Trading,
};
use kalshi_types::Count;
use kalshi_ws::{Connection, OrderBook, Outcome, Subscription};
use tokio::time::{interval, sleep};

/// Contracts of a quote, and the position beyond which a side is not quoted.
const SIZE: Count = Count::from_hundredths(500);
const INVENTORY: Count = Count::from_hundredths(2_000);

struct Quoted {
    quoter: Quoter,
    side: QuoteSide,
    placed: Option<Placement>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let here = if env::var_os("KALSHI_ENV").is_none() { Some(simulate().await?) } else { None };
    let (environment, credentials) = match &here {
        Some(here) => (here.environment(), here.credentials(Role::Trader).ok_or("no key")?.clone()),
        None => (Environment::from_env()?, Credentials::from_env()?),
    };
    let budget = Budget::new();
    let client = Client::builder().with_environment(environment).with_credentials(credentials);
    let client = client.with_middleware(Retry::default()).with_budget(&budget).build()?;
    let _learning = budget.keep_learning(&client);
    let mut open = client.get_markets().status("open").limit(1_000);
    if let Some(ticker) = env::args().nth(1) {
        open = open.tickers([ticker]);
    }
    let open = open.send().await?.into_inner().markets.into_iter();
    let market = open.max_by_key(|market| market.volume_24h_fp).ok_or("no such market is open")?;
    let (ticker, grid) = (&*market.ticker, PriceGrid::new(market.price_ranges.clone())?);
    let file = env::temp_dir().join(format!("market-maker-{ticker}.journal"));
    let journal = FileJournal::builder(file).open()?;
    let most = |usd: &str| usd.parse::<Dollars>().map(Ceiling::AtMost);
    let risk = Ceilings::builder().with_order_cost(most("6")?).with_market_loss(most("50")?);
    let risk = risk.with_day_cost(most("5000")?).with_orders_per_minute(Ceiling::AtMost(600));
    let trading = Trading::builder(client.clone(), journal)?.with_ceilings(risk.build()?);
    // Killed, it has no orders a minute later; and there are tokens to cancel them all.
    let trading = trading.with_rolling_expiry(Duration::from_secs(60)).with_budget(&budget);
    let mut trading = trading.with_name("maker").start().await?;
    trading.learn_market(&market);
    let mut books = Connection::connect(client.stream_config()?.build()?).await?;
    books.handle().subscribe(Subscription::orderbook([ticker]))?;
    let quoter = |side| Quoter::new(side, Duration::from_millis(500), Dollars::ZERO);
    let side = |side| Quoted { quoter: quoter(side), side, placed: None };
    let mut sides = [QuoteSide::Bid, QuoteSide::Ask].map(side);
    let (mut ticks, mut stopped) = (interval(Duration::from_millis(100)), pin!(stopped()));
    loop {
        tokio::select! {
            events = trading.next() => drop(events.ok_or("no streams")?),
            event = books.next() => drop(event.ok_or("no books")?),
            _ = ticks.tick() => {}
            result = &mut stopped => break result?,
        }
        let position = trading.portfolio().position_in(ticker, None);
        // What is not known for sure is not quoted on.
        let book = books.books().get(ticker).filter(|_| trading.is_current());
        let book = book.and_then(|book| book.without(trading.orders().resting_in(ticker)).ok());
        for side in &mut sides {
            let desired = book.as_ref().and_then(|book| side.desired(book, &grid, position));
            let (key, resting) = side.resting(&trading).unzip();
            match side.quoter.decide(SystemClock.now(), desired, resting) {
                QuoteAction::Place(quote) => {
                    // None is taken in a pause, above a ceiling, and while old ones are settled.
                    let order = side.order(ticker, quote)?;
                    side.placed = trading.place(order, Duration::from_secs(1)).ok();
                }
                QuoteAction::Keep | QuoteAction::Wait(_) | QuoteAction::Settle => {}
                // It moves by being canceled and placed anew.
                _ => drop(trading.cancel(key.flatten().ok_or("an order without a key")?).await),
            }
        }
    }
    // Those of an earlier session too. To prove that an order does not exist takes a minute.
    let exited = trading.exit(Duration::from_secs(90)).await;
    let filled = trading.orders().iter().filter(|(_, order)| order.filled().is_positive()).count();
    let position = trading.portfolio().position_in(ticker, None);
    println!("{ticker}: {filled} orders filled, position {position}");
    if exited.is_clean() { Ok(()) } else { Err(format!("orders are left: {exited:?}").into()) }
}

impl Quoted {
    /// One tick inside, where there is room; nothing beyond the inventory.
    fn desired(&self, book: &OrderBook, grid: &PriceGrid, position: Count) -> Option<Quote> {
        let (bid, ask) = (book.best_bid(Outcome::Yes)?.price, book.best_ask(Outcome::Yes)?.price);
        let (inside, best, held) = match self.side {
            QuoteSide::Bid => (grid.next_above(bid), bid, position),
            QuoteSide::Ask => (grid.next_below(ask), ask, position.checked_neg()?),
        };
        let price = inside.filter(|price| bid < *price && *price < ask).unwrap_or(best);
        (held < INVENTORY).then_some(Quote { price, count: SIZE })
    }

    /// The order that was placed last, if it is not over. Its key is missing until it is known.
    fn resting(&self, trading: &Trading) -> Option<(Option<OrderKey>, RestingQuote)> {
        let orders = trading.orders();
        let key = orders.by_client_order_id(self.placed.as_ref()?.id().as_str());
        let order = key.and_then(|key| orders.get(key));
        Some((key, RestingQuote::of_order(order)?))
    }

    fn order(&self, ticker: &str, at: Quote) -> Result<CreateOrderV2Request, Box<dyn Error>> {
        let order = CreateOrderV2Request::builder().ticker(ticker).side(self.side);
        let order = order.price(at.price).count(at.count).post_only(true);
        let order = order.time_in_force(TimeInForce::GoodTillCanceled);
        let order = order.self_trade_prevention_type(SelfTradePreventionType::Maker);
        Ok(order.cancel_order_on_pause(true).try_into()?)
    }
}

async fn stopped() -> Result<(), Box<dyn Error>> {
    match env::var("EXAMPLE_SECONDS") {
        Ok(seconds) => sleep(Duration::from_secs(seconds.parse()?)).await,
        Err(_) => tokio::signal::ctrl_c().await?,
    }
    Ok(())
}

async fn simulate() -> Result<Exchange, Box<dyn Error>> {
    let lost = Fault::builder(FaultKind::ResetAfter).with_operation(OperationId::CreateOrderV2);
    let limited = Fault::builder(FaultKind::TooManyRequests).with_one_in(20).build();
    let exchange = Exchange::builder().with_traders(100).with_tier(Tier::Basic);
    let exchange = exchange.with_lag("realistic".parse()?).with_fault(limited);
    Ok(exchange.with_fault(lost.with_one_in(5).build()).start().await?)
}
