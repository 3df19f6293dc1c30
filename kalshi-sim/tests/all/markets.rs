//! Series, events, markets, books.

use std::collections::BTreeSet;

use kalshi_sdk::{PriceGrid, types::GetMarketsStatus};
use kalshi_sim::{Exchange, MarketPlan, Role};

use crate::status;

#[tokio::test]
async fn all_pages_together_give_each_market_once() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let all = client.get_markets().limit(1_000).stream().try_collect().await.unwrap();
    let paged = client.get_markets().limit(7).stream().try_collect().await.unwrap();
    assert_eq!(all, paged);
    assert_eq!(all.len(), 120);
    assert_eq!(all.iter().map(|m| &m.ticker).collect::<BTreeSet<_>>().len(), 120);
    assert_eq!(
        exchange.requests().iter().filter(|seen| seen.operation == "get_markets").count(),
        19
    );
}

#[tokio::test]
async fn filters_choose_markets() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_markets().status(GetMarketsStatus::Open).stream();
    assert_eq!(open.try_collect().await.unwrap().len(), 60);
    let series = client.get_markets().series_ticker("KXSIMRATE").stream();
    let series = series.try_collect().await.unwrap();
    assert_eq!(series.len(), 20);
    let wanted = [series[0].ticker.as_str(), series[3].ticker.as_str()];
    let named = client.get_markets().tickers(wanted).send().await.unwrap().into_inner().markets;
    assert_eq!(named.iter().map(|m| m.ticker.as_str()).collect::<Vec<_>>(), wanted);
    let event = client.get_markets().event_ticker(&*series[0].event_ticker).send().await.unwrap();
    assert_eq!(event.markets.len(), 5);
    let error = client.get_markets().status("sideways").send().await.unwrap_err();
    assert_eq!(status(&error), 400);
}

#[tokio::test]
async fn a_book_and_its_market_say_the_same() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let mut markets = client.get_markets().status(GetMarketsStatus::Open).stream();
    while let Some(market) = markets.next().await.transpose().unwrap() {
        let book = client.get_market_orderbook().ticker(&*market.ticker).send().await.unwrap();
        let book = book.into_inner().orderbook_fp;
        let best = book.yes_dollars.last().unwrap();
        assert_eq!((best.price, best.count), (market.yes_bid_dollars, market.yes_bid_size_fp));
        let best = book.no_dollars.last().unwrap();
        assert_eq!(Some(market.yes_ask_dollars), best.price.complement());
        assert!(market.yes_bid_dollars < market.yes_ask_dollars);
        let grid = PriceGrid::new(market.price_ranges.clone()).unwrap();
        assert!(book.yes_dollars.iter().all(|level| grid.is_valid(level.price)));
    }
}

#[tokio::test]
async fn depth_keeps_the_best_levels() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let page = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await.unwrap();
    let ticker = page.markets[0].ticker.as_str();
    let whole = client.get_market_orderbook().ticker(ticker).send().await.unwrap().into_inner();
    let two = client.get_market_orderbook().ticker(ticker).depth(2).send().await.unwrap();
    let whole = whole.orderbook_fp.yes_dollars;
    assert_eq!(two.orderbook_fp.yes_dollars, whole[whole.len() - 2..]);
    for depth in [-1, 101] {
        let error = client.get_market_orderbook().ticker(ticker).depth(depth).send().await;
        assert_eq!(status(&error.unwrap_err()), 400);
    }
    let books =
        client.get_market_orderbooks().tickers(vec![ticker.to_owned()]).send().await.unwrap();
    assert_eq!(books.orderbooks[0].orderbook_fp.yes_dollars, whole);
}

#[tokio::test]
async fn series_events_and_trades_belong_together() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let series = client.get_series_list().send().await.unwrap().into_inner().series;
    // Six that are traded, seven that are only archived, two of combos.
    assert_eq!(series.len(), 15);
    for one in &series {
        let found = client.get_series().series_ticker(&*one.ticker).send().await.unwrap();
        assert_eq!(found.series, *one);
    }
    let events = client
        .get_events()
        .with_nested_markets(true)
        .limit(10)
        .stream()
        .try_collect()
        .await
        .unwrap();
    // Events stay when their markets go to the archive.
    assert_eq!(events.len(), 24 + 13 * 17);
    let live = events.iter().filter(|event| !event.markets.is_empty());
    assert_eq!(live.map(|event| event.markets.len()).collect::<Vec<_>>(), [5; 24]);
    let event = client.get_event().event_ticker(&*events[1].event_ticker).send().await.unwrap();
    assert_eq!(event.markets, events[1].markets);
    let trades = client.get_trades().limit(50).stream().try_collect().await.unwrap();
    assert!(trades.len() > 1_000);
    assert!(trades.is_sorted_by(|a, b| a.created_time >= b.created_time));
    for error in [
        client.get_event().event_ticker("NONE").send().await.map(drop).unwrap_err(),
        client.get_market().ticker("NONE").send().await.map(drop).unwrap_err(),
        client.get_series().series_ticker("NONE").send().await.map(drop).unwrap_err(),
    ] {
        assert!(error.is_not_found());
    }
}

#[tokio::test]
async fn a_listed_market_has_an_event_and_a_series_also_after_a_restart() {
    let file = std::env::temp_dir().join(format!("kalshi-sim-listed-{}", std::process::id()));
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXNEW-26DEC-A", 3_600)).unwrap();
    exchange.markets().list(MarketPlan::new("KXNEW-26DEC-B", 3_600)).unwrap();
    exchange.save(&file).unwrap();
    let loaded = Exchange::builder().with_state_file(&file).start().await.unwrap();
    std::fs::remove_file(&file).unwrap();
    for exchange in [exchange, loaded] {
        let client = exchange.client(Role::Trader).unwrap();
        let event = client.get_event().event_ticker("KXNEW-26DEC").with_nested_markets(true);
        let event = event.send().await.unwrap().into_inner().event;
        assert_eq!(event.markets.len(), 2);
        let series = client.get_series().series_ticker("KXNEW").send().await.unwrap();
        assert_eq!(series.series.ticker, "KXNEW");
        let events = client.get_events().series_ticker("KXNEW").send().await.unwrap();
        assert_eq!(events.events.len(), 1);
    }
}
