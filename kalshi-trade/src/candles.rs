//! Candlesticks of a market in one form, whether it is live or archived.
//!
//! The live tier and the archive have different operations and different field names. A market moves
//! as a whole, also while it is read: each part of a long range is asked from the live tier, and
//! from the archive if there is nothing.

use kalshi_sdk::{
    Client, Error,
    types::{
        BidAskDistribution, BidAskDistributionHistorical, MarketCandlestick,
        MarketCandlestickHistorical,
    },
};
use kalshi_types::{Count, Dollars, UnixSeconds};

/// The candles of one request: well below the 10,000 that the exchange allows where it says so.
const CANDLES: i64 = 5_000;

/// The time that a candle covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the three that the exchange has")]
pub enum Period {
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// One day.
    Day,
}

impl Period {
    /// Returns the length in minutes, as the exchange calls it.
    pub const fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 1_440,
        }
    }
}

/// The first, highest, lowest and last price of a period, in dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prices {
    /// The first.
    pub open: Option<Dollars>,
    /// The highest.
    pub high: Option<Dollars>,
    /// The lowest.
    pub low: Option<Dollars>,
    /// The last.
    pub close: Option<Dollars>,
}

/// One candlestick.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candle {
    /// The end of the period, which belongs to it.
    pub end: UnixSeconds,
    /// The prices of the trades, of YES; `None` each if there was no trade.
    pub trades: Prices,
    /// The mean price of the trades, of YES.
    pub mean: Option<Dollars>,
    /// The last price before the period.
    pub previous: Option<Dollars>,
    /// The best bid for YES.
    pub bid: Prices,
    /// The best ask for YES.
    pub ask: Prices,
    /// The contracts that were traded.
    pub volume: Count,
    /// The contracts that were open at the end.
    pub open_interest: Count,
}

impl From<BidAskDistribution> for Prices {
    fn from(quotes: BidAskDistribution) -> Self {
        Self {
            open: Some(quotes.open_dollars),
            high: Some(quotes.high_dollars),
            low: Some(quotes.low_dollars),
            close: Some(quotes.close_dollars),
        }
    }
}

impl From<BidAskDistributionHistorical> for Prices {
    fn from(quotes: BidAskDistributionHistorical) -> Self {
        Self {
            open: Some(quotes.open),
            high: Some(quotes.high),
            low: Some(quotes.low),
            close: Some(quotes.close),
        }
    }
}

impl From<MarketCandlestick> for Candle {
    fn from(candle: MarketCandlestick) -> Self {
        let price = candle.price;
        Self {
            end: candle.end_period_ts,
            trades: Prices {
                open: price.open_dollars,
                high: price.high_dollars,
                low: price.low_dollars,
                close: price.close_dollars,
            },
            mean: price.mean_dollars,
            previous: price.previous_dollars,
            bid: candle.yes_bid.map(Prices::from).unwrap_or_default(),
            ask: candle.yes_ask.map(Prices::from).unwrap_or_default(),
            volume: candle.volume_fp,
            open_interest: candle.open_interest_fp,
        }
    }
}

impl From<MarketCandlestickHistorical> for Candle {
    fn from(candle: MarketCandlestickHistorical) -> Self {
        let price = candle.price;
        Self {
            end: candle.end_period_ts,
            trades: Prices {
                open: price.open,
                high: price.high,
                low: price.low,
                close: price.close,
            },
            mean: price.mean,
            previous: price.previous,
            bid: candle.yes_bid.map(Prices::from).unwrap_or_default(),
            ask: candle.yes_ask.map(Prices::from).unwrap_or_default(),
            volume: candle.volume,
            open_interest: candle.open_interest,
        }
    }
}

/// Returns the candles of a market whose periods end between two times, both included, the oldest
/// first.
///
/// The live tier needs the series of the market (`get_event` names it). A range of more than 5,000
/// periods takes several requests.
///
/// # Errors
///
/// The error of a request. [`Error::is_not_found`] if neither tier has the market.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// use kalshi_sdk::UnixSeconds;
/// use kalshi_trade::candles::{Period, candles};
///
/// let archived = client.get_historical_markets().limit(1).send().await?.into_inner();
/// let market = &archived.markets[0];
/// let series = market.event_ticker.split('-').next().unwrap_or_default();
/// let open = UnixSeconds::from_seconds(market.open_time.timestamp());
/// let close = UnixSeconds::from_seconds(market.close_time.timestamp());
/// let candles = candles(&client, series, &market.ticker, open, close, Period::Day).await?;
/// assert!(!candles.is_empty());
/// # Ok(())
/// # }
/// ```
pub async fn candles(
    client: &Client,
    series_ticker: &str,
    ticker: &str,
    since: UnixSeconds,
    until: UnixSeconds,
    period: Period,
) -> Result<Vec<Candle>, Error> {
    let mut all: Vec<Candle> = Vec::new();
    let span = CANDLES * period.minutes() * 60;
    let (mut start, until) = (since.as_seconds(), until.as_seconds());
    while start <= until {
        let end = until.min(start.saturating_add(span));
        let part = part(client, series_ticker, ticker, (start, end), period).await?;
        // The end of a part is the start of the next, and what moves meanwhile may come twice.
        let newest = all.last().map(|candle| candle.end);
        all.extend(
            part.into_iter().filter(|candle| newest.is_none_or(|newest| newest < candle.end)),
        );
        if end == until {
            break;
        }
        start = end;
    }
    Ok(all)
}

async fn part(
    client: &Client,
    series_ticker: &str,
    ticker: &str,
    (start, end): (i64, i64),
    period: Period,
) -> Result<Vec<Candle>, Error> {
    let live = client
        .get_market_candlesticks()
        .series_ticker(series_ticker)
        .ticker(ticker)
        .start_ts(UnixSeconds::from_seconds(start))
        .end_ts(UnixSeconds::from_seconds(end))
        .period_interval(period.minutes())
        .send()
        .await;
    let is_live = match live {
        Ok(live) if !live.candlesticks.is_empty() => {
            return Ok(live.into_inner().candlesticks.into_iter().map(Candle::from).collect());
        }
        // Nothing happened, or the market has been moved away.
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error),
    };
    let archived = client
        .get_market_candlesticks_historical()
        .ticker(ticker)
        .start_ts(UnixSeconds::from_seconds(start))
        .end_ts(UnixSeconds::from_seconds(end))
        .period_interval(period.minutes())
        .send()
        .await;
    match archived {
        Ok(archived) => {
            Ok(archived.into_inner().candlesticks.into_iter().map(Candle::from).collect())
        }
        Err(error) if is_live && error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
