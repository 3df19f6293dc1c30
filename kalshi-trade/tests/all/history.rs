//! Both tiers as one list, against the simulator's, which has rows in both.

use std::collections::BTreeSet;

use kalshi_sdk::{
    Client, OperationId, UnixSeconds,
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role};
use kalshi_trade::history::{self, History, MarketRange, Range};

async fn exchange() -> (Exchange, Client) {
    // Without traders nothing changes between two readings.
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let maker = exchange.client(Role::Maker).unwrap();
    // A book of its own, in which the two meet each other.
    let ticker = "KXHISTORY-1-A";
    exchange.markets().list(MarketPlan::new(ticker, 86_400)).unwrap();
    for (client, side) in [(&maker, BookSide::Ask), (&client, BookSide::Bid)] {
        let order = CreateOrderV2Request::builder()
            .ticker(ticker)
            .side(side)
            .price("0.50")
            .count("1.00")
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
        client.create_order_v2().body(order).send().await.unwrap();
    }
    (exchange, client)
}

/// Collects the ids of a list, in which none may come twice.
async fn ids<'a, T: Send + 'a>(list: History<'a, T>, id: fn(&T) -> &str) -> BTreeSet<String> {
    let rows = list.try_collect().await.unwrap();
    let ids: BTreeSet<String> = rows.iter().map(|row| id(row).to_owned()).collect();
    assert_eq!(ids.len(), rows.len(), "a row came twice");
    ids
}

macro_rules! both {
    ($client:ident, $live:ident, $archive:ident, $id:ident) => {{
        let live = $client.$live().limit(1_000).all().await.unwrap();
        let archive = $client.$archive().limit(1_000).all().await.unwrap();
        assert!(
            !live.is_empty() && !archive.is_empty(),
            "{} live, {} archived",
            live.len(),
            archive.len()
        );
        let rows = live.into_iter().chain(archive);
        rows.map(|row| row.$id).collect::<BTreeSet<_>>()
    }};
}

#[tokio::test]
async fn every_row_of_both_tiers_comes_once() {
    let (_exchange, client) = exchange().await;
    let (all, every) = (Range::all(), MarketRange::All);
    let trades = ids(history::trades(&client, &all), |row| &row.trade_id).await;
    assert!(trades == both!(client, get_trades, get_trades_historical, trade_id), "trades");
    let fills = ids(history::fills(&client, &all), |row| &row.fill_id).await;
    assert!(fills == both!(client, get_fills, get_fills_historical, fill_id), "fills");
    let orders = ids(history::orders(&client, &all), |row| &row.order_id).await;
    assert!(orders == both!(client, get_orders, get_historical_orders, order_id), "orders");
    let markets = ids(history::markets(&client, &every), |row| &row.ticker).await;
    assert!(markets == both!(client, get_markets, get_historical_markets, ticker), "markets");
}

#[tokio::test]
async fn a_range_keeps_its_market_and_its_time() {
    let (_exchange, client) = exchange().await;
    let all = history::fills(&client, &Range::all()).try_collect().await.unwrap();
    let ticker = all.last().unwrap().ticker.clone();
    let time = |fill: &kalshi_sdk::types::Fill| fill.ts.map(UnixSeconds::as_seconds).unwrap();
    let mut times: Vec<i64> = all.iter().map(time).collect();
    times.sort_unstable();
    let middle = times[times.len() / 2];
    for range in [
        Range::all().with_ticker(&ticker),
        Range::all().with_since(UnixSeconds::from_seconds(middle)),
        Range::all().with_until(UnixSeconds::from_seconds(middle)),
        Range::all().with_subaccount(0).with_ticker(&ticker),
        Range::all().with_subaccount(63),
    ] {
        let rows = ids(history::fills(&client, &range), |row| &row.fill_id).await;
        let expected = all.iter().filter(|fill| {
            range.ticker.as_ref().is_none_or(|ticker| *ticker == fill.ticker)
                && range.since.is_none_or(|since| since.as_seconds() <= time(fill))
                && range.until.is_none_or(|until| time(fill) <= until.as_seconds())
                && range.subaccount.is_none_or(|number| {
                    fill.subaccount_number.unwrap_or_default() == i64::from(number)
                })
        });
        let expected: BTreeSet<_> = expected.map(|fill| fill.fill_id.clone()).collect();
        assert!(rows == expected, "{range:?}");
    }
}

#[tokio::test]
async fn an_error_ends_the_list_until_it_is_resumed() {
    let (exchange, client) = exchange().await;
    let expected = ids(history::trades(&client, &Range::all()), |row| &row.trade_id).await;
    for operation in
        [OperationId::GetHistoricalCutoff, OperationId::GetTrades, OperationId::GetTradesHistorical]
    {
        let fault = Fault::builder(FaultKind::status(503)).with_operation(operation).with_times(1);
        exchange.faults().add(fault.build()).unwrap();
        let mut list = history::trades(&client, &Range::all());
        let (mut rows, mut errors) = (BTreeSet::new(), 0);
        loop {
            match list.next().await {
                Some(Ok(row)) => assert!(rows.insert(row.trade_id)),
                Some(Err(error)) => {
                    assert_eq!(error.operation_id(), Some(operation.as_str()));
                    assert!(list.next().await.is_none(), "nothing follows an error");
                    assert!(list.resume());
                    errors += 1;
                }
                None => break,
            }
        }
        assert_eq!((rows.len(), errors), (expected.len(), 1), "{operation}");
        assert!(rows == expected, "{operation}");
    }
}
