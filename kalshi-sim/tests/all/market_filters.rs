//! Candlesticks, and what lists of markets, series and events may be asked for.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use kalshi_sdk::{
    Client, Count, UnixSeconds,
    types::{GetMarketsMveFilter, GetMarketsStatus, Market, MarketCandlestick},
};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};

use crate::status;

const DAY: i64 = 86_400;

async fn open_market(client: &Client) -> Market {
    let open = client.get_markets().series_ticker("KXSIMRATE").status(GetMarketsStatus::Open);
    open.send().await.unwrap().into_inner().markets.remove(0)
}

/// Returns a range from well before the seeded history to after now.
fn whole(market: &Market) -> (i64, i64) {
    let created = market.created_time.timestamp();
    (created - DAY, created + 9 * DAY)
}

fn seconds(time: i64) -> UnixSeconds {
    UnixSeconds::from_seconds(time)
}

async fn candles(client: &Client, market: &Market, period: i64) -> Vec<MarketCandlestick> {
    let (start, end) = whole(market);
    client
        .get_market_candlesticks()
        .series_ticker("KXSIMRATE")
        .ticker(&*market.ticker)
        .start_ts(seconds(start))
        .end_ts(seconds(end))
        .period_interval(period)
        .send()
        .await
        .unwrap()
        .into_inner()
        .candlesticks
}

#[tokio::test]
async fn candles_of_every_length_add_up_to_the_market() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client).await;
    for period in [1, 60, 1_440] {
        let candles = candles(&client, &market, period).await;
        assert!(candles.is_sorted_by(|a, b| a.end_period_ts < b.end_period_ts));
        let volume: Option<Count> = candles.iter().map(|candle| candle.volume_fp).sum();
        assert_eq!(volume, Some(market.volume_fp), "{period}");
        let last = candles.last().unwrap();
        assert_eq!(last.yes_bid.as_ref().unwrap().close_dollars, market.yes_bid_dollars);
        assert_eq!(last.yes_ask.as_ref().unwrap().close_dollars, market.yes_ask_dollars);
        assert_eq!(last.open_interest_fp, market.open_interest_fp);
        let mut previous = None;
        for candle in &candles {
            assert_eq!(candle.end_period_ts.as_seconds() % (period * 60), 0);
            assert_eq!(candle.price.previous_dollars, previous);
            let price = &candle.price;
            assert_eq!(price.close_dollars.is_some(), candle.volume_fp.is_positive());
            assert!(price.low_dollars <= price.mean_dollars);
            assert!(price.mean_dollars <= price.high_dollars);
            previous = price.close_dollars.or(previous);
        }
        assert_eq!(previous, Some(market.last_price_dollars));
    }
}

#[tokio::test]
async fn the_state_before_a_range_can_be_asked_for() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client).await;
    let all = candles(&client, &market, 1).await;
    let (first, second) = (&all[0], &all[1]);
    // A range in the quiet between the two.
    let start = first.end_period_ts.as_seconds() + 1;
    let end = second.end_period_ts.as_seconds() - 1;
    assert!(end - start > 120);
    let ask = |latest: bool| {
        client
            .batch_get_market_candlesticks()
            .market_tickers([&*market.ticker, "NONE"])
            .start_ts(seconds(start))
            .end_ts(seconds(end))
            .period_interval(1)
            .include_latest_before_start(latest)
            .send()
    };
    let plain = ask(false).await.unwrap().into_inner().markets;
    assert_eq!((plain.len(), plain[0].candlesticks.len()), (1, 0));
    let with = ask(true).await.unwrap().into_inner().markets.remove(0).candlesticks;
    let [made_up] = with.as_slice() else { panic!("{with:?}") };
    assert_eq!(made_up.end_period_ts.as_seconds(), first.end_period_ts.as_seconds() + 60);
    assert_eq!(made_up.price.previous_dollars, first.price.close_dollars);
    assert_eq!(made_up.price.close_dollars, None);
    assert_eq!(made_up.volume_fp, Count::ZERO);
    let (made_up, first) = (made_up.yes_bid.as_ref().unwrap(), first.yes_bid.as_ref().unwrap());
    assert_eq!(made_up.open_dollars, first.close_dollars);
}

#[tokio::test]
async fn an_event_gives_the_candles_of_its_markets() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client).await;
    let (start, end) = whole(&market);
    let ask = |series: &str, event: &str| {
        client
            .get_market_candlesticks_by_event()
            .series_ticker(series)
            .ticker(event)
            .start_ts(seconds(start))
            .end_ts(seconds(end))
            .period_interval(60)
            .send()
    };
    let event = ask("KXSIMRATE", &market.event_ticker).await.unwrap().into_inner();
    assert_eq!((event.market_tickers.len(), event.market_candlesticks.len()), (5, 5));
    assert_eq!(event.adjusted_end_ts.as_seconds(), end);
    let place = event.market_tickers.iter().position(|ticker| *ticker == market.ticker).unwrap();
    assert_eq!(event.market_candlesticks[place], candles(&client, &market, 60).await);
    assert!(ask("KXSIMRATE", "NONE").await.unwrap_err().is_not_found());
    assert!(ask("KXSIMCOIN", &market.event_ticker).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn ranges_and_filters_that_make_no_sense_are_refused() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client).await;
    let candles = format!("/series/KXSIMRATE/markets/{}/candlesticks", market.ticker);
    for (path, query) in [
        (candles.as_str(), json!({"start_ts": 0, "end_ts": 1, "period_interval": 5})),
        (&candles, json!({"start_ts": 2, "end_ts": 1, "period_interval": 1})),
        (&candles, json!({"start_ts": 0, "period_interval": 1})),
        (&candles, json!({"start_ts": "now", "end_ts": 1, "period_interval": 1})),
        ("/markets/candlesticks", json!({"start_ts": 0, "end_ts": 1, "period_interval": 1})),
        ("/markets", json!({"min_close_ts": 1, "status": "open"})),
        ("/markets", json!({"min_created_ts": 1, "status": "closed"})),
        ("/markets", json!({"max_settled_ts": 1, "status": "closed"})),
        ("/markets", json!({"min_updated_ts": 1, "status": "open"})),
        ("/markets", json!({"min_updated_ts": 1, "tickers": "A"})),
        ("/markets", json!({"min_updated_ts": 1, "mve_filter": "only"})),
        ("/markets", json!({"min_updated_ts": 1, "series_ticker": "KXSIMRATE"})),
        ("/markets", json!({"min_created_ts": 1, "max_close_ts": 1})),
        ("/markets", json!({"mve_filter": "include"})),
        ("/markets", json!({"limit": 1001})),
        ("/markets", json!({"limit": -1})),
        ("/events", json!({"min_close_ts": "soon"})),
        ("/series", json!({"include_volume": "maybe"})),
    ] {
        let request = client.raw(http::Method::GET, path).public().query(&query);
        let error = request.send::<Value>().await.unwrap_err();
        assert_eq!(
            (status(&error), error.code()),
            (400, Some("invalid_parameters")),
            "{path} {query}"
        );
    }
    let extremes = json!({"start_ts": i64::MIN, "end_ts": i64::MAX, "period_interval": 1440});
    let request = client.raw(http::Method::GET, &candles).public().query(&extremes);
    let all = request.send::<Value>().await.unwrap().into_inner();
    assert!(!all["candlesticks"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn time_filters_choose_markets_and_events() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let market = open_market(&client).await;
    let close = seconds(market.close_time.timestamp());
    let at_close = client.get_markets().min_close_ts(close).max_close_ts(close).stream();
    let at_close = at_close.try_collect().await.unwrap();
    assert_eq!(at_close.len(), 30);
    assert!(at_close.iter().all(|other| other.close_time == market.close_time));
    let settled =
        client.get_markets().status(GetMarketsStatus::Settled).min_settled_ts(seconds(1)).stream();
    assert_eq!(settled.try_collect().await.unwrap().len(), 30);
    let updated = client
        .get_markets()
        .mve_filter(GetMarketsMveFilter::Exclude)
        .series_ticker("KXSIMRATE")
        .min_updated_ts(seconds(1))
        .send();
    assert_eq!(updated.await.unwrap().markets.len(), 20);
    let none = client.get_markets().limit(0).send().await.unwrap();
    assert_eq!(none.markets.len(), 100);
    let later = client.get_events().min_close_ts(seconds(close.as_seconds() + 1)).send();
    let events = later.await.unwrap().into_inner().events;
    assert_eq!(events.len(), 12);
    let never = client.get_events().min_updated_ts(seconds(4_000_000_000)).send().await.unwrap();
    assert!(never.events.is_empty());
    let series = client.get_series_list().include_volume(true).send().await.unwrap().into_inner();
    let rate = series.series.iter().find(|series| series.ticker == "KXSIMRATE").unwrap();
    let all = client.get_markets().series_ticker("KXSIMRATE").send().await.unwrap().into_inner();
    let volume: Option<Count> = all.markets.iter().map(|market| market.volume_fp).sum();
    assert_eq!(rate.volume_fp, volume);
    let one = client.get_series().series_ticker("KXSIMRATE").send().await.unwrap();
    assert_eq!(one.series.volume_fp, None);
    let none = client.get_series_list().tags("No such tag,Nor this").send().await;
    assert!(none.unwrap().series.is_empty());
}
