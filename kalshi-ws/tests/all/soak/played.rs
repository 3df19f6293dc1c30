//! What differs between the products: how the exchange is driven, and the form of its books.

use std::future::Future;

use kalshi_sim::{Exchange, Role};
use kalshi_types::PriceLevel;
use kalshi_ws::{EventContracts, OrderBook, Outcome, Payload, product::Product};
use serde_json::Value;

use super::{
    levels::{Change, Levels, decimal},
    markets::Markets,
};

/// A product whose streams are put to the test.
pub(super) trait Played: Product {
    /// The number of markets with a book.
    const MARKETS: usize;
    /// Markets that one command names at most, so that there are several commands.
    const ITEMS_PER_COMMAND: usize;

    /// Starts an exchange that has the markets.
    fn exchange(seed: u64, capacity: usize) -> impl Future<Output = Exchange> + Send;

    /// Returns the URL of the streams.
    fn stream_url(exchange: &Exchange) -> String;

    /// Returns the tickers of the markets.
    fn tickers(exchange: &Exchange) -> impl Future<Output = Vec<String>> + Send;

    /// Lets the traders of the exchange send commands.
    fn run_traders(exchange: &Exchange, commands: u64);

    /// Stops all trading, or lets it go on.
    fn set_trading(exchange: &Exchange, is_active: bool);

    /// Returns the books that the exchange has, over REST.
    fn exchange_books(
        exchange: &Exchange,
        markets: &Markets,
    ) -> impl Future<Output = Vec<Levels>> + Send;

    /// Reads the levels of a snapshot without this project's code.
    fn plain_snapshot(message: &Value) -> Levels;

    /// Reads a change without this project's code.
    fn plain_delta(message: &Value) -> Change;

    /// Returns the market of a message of a book, and reports whether that is a snapshot.
    fn book_message(payload: &Self::Payload) -> (&str, bool);

    /// Returns the levels of a book of ours.
    fn levels_of(book: &Self::OrderBook) -> Levels;
}

/// Returns the levels of one side.
fn rows(
    is_bid: bool,
    levels: impl IntoIterator<Item = PriceLevel>,
) -> impl Iterator<Item = ((bool, i64), i64)> {
    levels
        .into_iter()
        .map(move |level| ((is_bid, level.price.as_micros()), level.count.as_hundredths()))
}

/// Reads the levels of one side of a snapshot.
fn plain_rows(levels: &Value) -> impl Iterator<Item = (&Value, i64)> {
    levels.as_array().into_iter().flatten().map(|row| (&row[0], decimal(&row[1], 2)))
}

/// Returns a level as the exchange has it: a NO price of a bid for NO is an offer of YES.
fn level(is_bid: bool, price: i64) -> (bool, i64) {
    (is_bid, if is_bid { price } else { 1_000_000 - price })
}

impl Played for EventContracts {
    const MARKETS: usize = 200;
    const ITEMS_PER_COMMAND: usize = 64;

    async fn exchange(seed: u64, capacity: usize) -> Exchange {
        let exchange = Exchange::builder()
            .with_seed(seed)
            .with_markets(204)
            .with_traders(50)
            .with_stream_capacity(capacity);
        exchange.start().await.unwrap()
    }

    fn stream_url(exchange: &Exchange) -> String {
        exchange.stream_url()
    }

    async fn tickers(exchange: &Exchange) -> Vec<String> {
        let client = exchange.client(Role::Trader).unwrap();
        let page = client.get_markets().status("open").limit(1_000_u64).send().await.unwrap();
        page.into_inner()
            .markets
            .into_iter()
            .map(|market| market.ticker)
            .take(Self::MARKETS)
            .collect()
    }

    fn run_traders(exchange: &Exchange, commands: u64) {
        exchange.markets().run_traders(commands);
    }

    fn set_trading(exchange: &Exchange, is_active: bool) {
        for shard in 0..4 {
            exchange.markets().set_shard(shard, is_active, is_active).unwrap();
        }
    }

    async fn exchange_books(exchange: &Exchange, markets: &Markets) -> Vec<Levels> {
        let client = exchange.client(Role::Maker).unwrap();
        let mut books = vec![Levels::new(); Self::MARKETS];
        for tickers in markets.tickers.chunks(100) {
            let answer = client.get_market_orderbooks().tickers(tickers.to_vec()).send().await;
            for market in answer.unwrap().into_inner().orderbooks {
                let book = &mut books[markets.place(&market.ticker)];
                book.extend(rows(true, market.orderbook_fp.yes_dollars));
                let asks = rows(false, market.orderbook_fp.no_dollars);
                book.extend(asks.map(|((is_bid, price), count)| (level(is_bid, price), count)));
            }
        }
        books
    }

    fn plain_snapshot(message: &Value) -> Levels {
        let sides = [(true, "yes_dollars_fp"), (false, "no_dollars_fp")];
        let rows = sides.into_iter().flat_map(|(is_bid, name)| {
            plain_rows(&message[name])
                .map(move |(price, count)| (level(is_bid, decimal(price, 6)), count))
        });
        rows.collect()
    }

    fn plain_delta(message: &Value) -> Change {
        let price = decimal(&message["price_dollars"], 6);
        let (is_bid, price) = level(message["side"] == "yes", price);
        (message["clock"].as_i64().unwrap(), is_bid, price, decimal(&message["delta_fp"], 2))
    }

    fn book_message(payload: &Payload) -> (&str, bool) {
        (payload.market_ticker().unwrap(), matches!(payload, Payload::OrderbookSnapshot(_)))
    }

    fn levels_of(book: &OrderBook) -> Levels {
        rows(true, book.bids(Outcome::Yes)).chain(rows(false, book.asks(Outcome::Yes))).collect()
    }
}

#[cfg(feature = "perps")]
impl Played for kalshi_ws::perps::Perps {
    const MARKETS: usize = 30;
    const ITEMS_PER_COMMAND: usize = 12;

    async fn exchange(seed: u64, capacity: usize) -> Exchange {
        let exchange = Exchange::builder().with_seed(seed).with_stream_capacity(capacity);
        let exchange = exchange.start().await.unwrap();
        // Beside those that an exchange has: prices from cents to tens of thousands of dollars, with
        // steps of a cent and of a hundredth of one.
        let listed = Self::tickers(&exchange).await.len();
        for number in listed..Self::MARKETS {
            let reference = format!("{}.50", 3_u64.pow(u32::try_from(number % 10).unwrap()));
            let ticker = format!("KXSOAK{number}PERP");
            let mut plan = kalshi_sim::PerpsMarketPlan::new(ticker, reference.parse().unwrap());
            if number % 3 == 0 {
                plan.tick_size = "0.0001".parse().unwrap();
            }
            plan.fractional_trading_enabled = number % 2 == 0;
            exchange.perps().list(plan).unwrap();
        }
        exchange
    }

    fn stream_url(exchange: &Exchange) -> String {
        exchange.perps().stream_url()
    }

    async fn tickers(exchange: &Exchange) -> Vec<String> {
        let client = exchange.client(Role::Trader).unwrap();
        let markets = client.perps().get_margin_markets().send().await.unwrap().into_inner();
        markets.markets.into_iter().map(|market| market.ticker).collect()
    }

    fn run_traders(exchange: &Exchange, commands: u64) {
        exchange.perps().run_traders(commands);
    }

    fn set_trading(exchange: &Exchange, is_active: bool) {
        exchange.perps().set_trading_active(is_active).unwrap();
    }

    async fn exchange_books(exchange: &Exchange, markets: &Markets) -> Vec<Levels> {
        let client = exchange.client(Role::Maker).unwrap();
        let perps = client.perps();
        let answer = perps.get_margin_market_orderbooks().tickers(markets.tickers.clone());
        let mut books = vec![Levels::new(); Self::MARKETS];
        for market in answer.send().await.unwrap().into_inner().orderbooks {
            let book = &mut books[markets.place(&market.ticker)];
            book.extend(rows(true, market.orderbook.bids));
            book.extend(rows(false, market.orderbook.asks));
        }
        books
    }

    fn plain_snapshot(message: &Value) -> Levels {
        let sides = [(true, "bid"), (false, "ask")].into_iter();
        let rows = sides.flat_map(|(is_bid, name)| {
            plain_rows(&message[name])
                .map(move |(price, count)| ((is_bid, decimal(price, 6)), count))
        });
        rows.collect()
    }

    fn plain_delta(message: &Value) -> Change {
        let price = decimal(&message["price"], 6);
        (0, message["side"] == "bid", price, decimal(&message["delta"], 2))
    }

    fn book_message(payload: &Self::Payload) -> (&str, bool) {
        use kalshi_ws::perps::Payload;
        (payload.market_ticker().unwrap(), matches!(payload, Payload::OrderbookSnapshot(_)))
    }

    fn levels_of(book: &Self::OrderBook) -> Levels {
        rows(true, book.bids()).chain(rows(false, book.asks())).collect()
    }
}
