//! Candles of live and archived markets, against the simulator.

use kalshi_sdk::UnixSeconds;
use kalshi_sim::{Exchange, Role};
use kalshi_trade::candles::{Candle, Period, candles};

#[tokio::test]
async fn an_archived_market_has_one_candle_for_each_minute_of_a_long_range() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let archived = client.get_historical_markets().limit(1).send().await.unwrap();
    let market = &archived.markets[0];
    let series = market.event_ticker.split('-').next().unwrap();
    let (open, close) = (market.open_time.timestamp(), market.close_time.timestamp());
    // Two requests, and one period more than fits the first.
    let until = close.min(open + 5_001 * 60);
    let [since, until] = [open, until].map(UnixSeconds::from_seconds);
    let rows =
        candles(&client, series, &market.ticker, since, until, Period::Minute).await.unwrap();
    let ends: Vec<i64> = rows.iter().map(|candle| candle.end.as_seconds()).collect();
    assert!(ends.windows(2).all(|pair| pair[0] + 60 == pair[1]), "a gap, or one twice");
    assert!(ends.len() > 1_000, "{}", ends.len());

    // Its numbers are those of the archive's own row.
    let first = rows[0].end;
    let raw = client
        .get_market_candlesticks_historical()
        .ticker(&*market.ticker)
        .start_ts(first)
        .end_ts(first)
        .period_interval(1)
        .send()
        .await
        .unwrap();
    let raw = &raw.candlesticks[0];
    assert_eq!(rows[0], Candle::from(raw.clone()));
    assert_eq!(rows[0].volume, raw.volume);
    assert_eq!(rows[0].bid.high, raw.yes_bid.as_ref().map(|quotes| quotes.high));
    assert_eq!(rows[0].ask.low, raw.yes_ask.as_ref().map(|quotes| quotes.low));
    assert_eq!(rows[0].trades.close, raw.price.close);
}

#[tokio::test]
async fn a_live_market_has_the_candles_of_the_live_tier() {
    let exchange = Exchange::builder().with_traders(100).start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    exchange.markets().run_traders(2_000);
    // The minute that is open goes on changing: those before it are compared.
    exchange.clock().advance(std::time::Duration::from_secs(120)).unwrap();
    let trade = client.get_trades().limit(1).send().await.unwrap().trades[0].clone();
    let market =
        client.get_market().ticker(&*trade.ticker).send().await.unwrap().into_inner().market;
    let series = market.event_ticker.split('-').next().unwrap();
    let last = trade.created_time.timestamp() / 60 * 60;
    let [since, until] = [last - 86_400, last].map(UnixSeconds::from_seconds);
    let rows =
        candles(&client, series, &market.ticker, since, until, Period::Minute).await.unwrap();
    let raw = client
        .get_market_candlesticks()
        .series_ticker(series)
        .ticker(&*market.ticker)
        .start_ts(since)
        .end_ts(until)
        .period_interval(1)
        .send()
        .await
        .unwrap()
        .into_inner();
    let raw: Vec<Candle> = raw.candlesticks.into_iter().map(Candle::from).collect();
    assert_eq!(rows, raw);
    assert!(!rows.is_empty());
}

#[tokio::test]
async fn a_market_that_neither_tier_has_is_not_found() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let [since, until] = [0, 60].map(UnixSeconds::from_seconds);
    let error =
        candles(&client, "KXNONE", "KXNONE-1", since, until, Period::Day).await.unwrap_err();
    assert!(error.is_not_found());
    // A range that ends before it begins has no candles, and no request.
    let before = exchange.requests().len();
    let none = candles(&client, "KXNONE", "KXNONE-1", until, since, Period::Day).await.unwrap();
    assert!(none.is_empty() && exchange.requests().len() == before);
}
