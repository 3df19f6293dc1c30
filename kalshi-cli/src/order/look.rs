//! The reads before an order is sent, and after.

use std::time::Duration;

use kalshi_sdk::{
    Client, Count, Error, OperationId, PriceLevel, UnixMillis,
    types::{BookSide, Order, OrderStatus},
};
use kalshi_trade::{
    fees::FeeSchedule,
    pause::{OrderRequest, TradingStatus},
};

use super::preview::Seen;
use crate::failure::{Category, Failure, Outcome};

/// Rows of a page of orders: the most that a list gives.
const LIMIT: u16 = 1_000;

/// The number of looks for an order that was just accepted, and the pause after each: reads
/// trail the exchange.
const LOOKS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(150);

/// Returns the failure of a call of an operation.
pub(crate) fn failed(operation: OperationId) -> impl Fn(Error) -> Failure {
    move |error| Failure::of_call(&error, operation.operation())
}

/// Reads what the preview of an order shows. Reads only.
///
/// # Errors
///
/// A read failed, or the exchange takes no orders now: nothing was sent.
pub(crate) async fn look(
    client: &Client,
    ticker: &str,
    side: &BookSide,
    subaccount: Option<u8>,
    now: UnixMillis,
) -> Outcome<Seen> {
    use OperationId as Id;

    let market = client.get_market().ticker(ticker).send().await;
    let market = market.map_err(failed(Id::GetMarket))?.into_inner().market;
    let event = async {
        let event = client.get_event().event_ticker(&*market.event_ticker).send().await;
        let event = event.map_err(failed(Id::GetEvent))?.into_inner().event;
        let series = client.get_series().series_ticker(&*event.series_ticker).send().await;
        Ok((event, series.map_err(failed(Id::GetSeries))?.into_inner().series))
    };
    let status = async {
        let status = client.get_exchange_status().send().await;
        status.map_err(failed(Id::GetExchangeStatus))
    };
    let book = async {
        let book = client.get_market_orderbook().ticker(ticker).depth(1).send().await;
        Ok(book.map_err(failed(Id::GetMarketOrderbook))?.into_inner().orderbook_fp)
    };
    let number = i64::from(subaccount.unwrap_or_default());
    let positions = async {
        let positions = client.get_positions().ticker(ticker).subaccount(number).all().await;
        positions.map_err(failed(Id::GetPositions))
    };
    let orders = async {
        let orders = client.get_orders().ticker(ticker).status("resting").limit(LIMIT);
        orders.subaccount(number).all().await.map_err(failed(Id::GetOrders))
    };
    let (status, (event, series), book, positions, orders) =
        tokio::try_join!(status, event, book, positions, orders)?;

    let shard = market.exchange_index.as_deref().copied().unwrap_or_default();
    let mut trading = TradingStatus::default();
    trading.update(&status);
    trading.check(shard, OrderRequest::Make).map_err(|paused| {
        Failure::new(Category::ExchangeClosed, format!("{paused}; nothing was sent"))
            .with_next("kalshi exchange status")
    })?;

    let is_waived = market
        .fee_waiver_expiration_time
        .is_some_and(|until| now < UnixMillis::from_millis(until.timestamp_millis()));
    let multiplier = if is_waived {
        kalshi_sdk::Decimal::from(0)
    } else {
        event.fee_multiplier_override.unwrap_or(series.fee_multiplier)
    };
    let kind = event.fee_type_override.map_or(series.fee_type, Into::into);
    let best = |levels: &[PriceLevel]| levels.iter().max_by_key(|level| level.price).copied();
    // A bid for NO is an ask for YES at one dollar less its price.
    let ask = best(&book.no_dollars)
        .and_then(|level| Some(PriceLevel::from((level.price.complement()?, level.count))));
    let position: Option<Count> =
        positions.iter().filter(|row| row.ticker == ticker).map(|row| row.position_fp).sum();
    let resting: Option<Count> = orders
        .iter()
        .filter(|order| order.book_side == *side)
        .map(|order| order.remaining_count_fp)
        .sum();
    let out_of_range = || Failure::local("the position in the market is out of range");
    let title = if market.yes_sub_title.is_empty() {
        event.title.clone()
    } else {
        format!("{}: {}", event.title, market.yes_sub_title)
    };
    Ok(Seen {
        title,
        fees: FeeSchedule::new(kind, multiplier),
        best: (best(&book.yes_dollars), ask),
        position: position.ok_or_else(out_of_range)?,
        resting: resting.ok_or_else(out_of_range)?,
        market,
    })
}

/// Reads an order by its id, and again for a moment if reads do not have it yet.
///
/// # Errors
///
/// The last read failed. The order may exist all the same.
pub(crate) async fn order(client: &Client, order_id: &str) -> Outcome<Order> {
    let mut looks = 0;
    loop {
        looks += 1;
        match client.get_order().order_id(order_id).send().await {
            Ok(answer) => return Ok(answer.into_inner().order),
            Err(error) if error.is_not_found() && looks < LOOKS => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(failed(OperationId::GetOrder)(error)),
        }
    }
}

/// Reads an order until it is as expected, for as long as reads may trail.
pub(crate) async fn order_when(
    client: &Client,
    order_id: &str,
    within: Duration,
    is_expected: impl Fn(&Order) -> bool,
) -> Outcome<(Order, bool)> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let order = order(client, order_id).await?;
        let is_there = is_expected(&order);
        if is_there || tokio::time::Instant::now() >= until {
            return Ok((order, is_there));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks for an order of any state by its client id.
pub(crate) async fn by_client_id(
    client: &Client,
    ticker: Option<&str>,
    client_id: &str,
) -> Outcome<Option<Order>> {
    let mut rows = client.get_orders().limit(LIMIT).ticker(ticker).stream();
    while let Some(row) = rows.next().await {
        let order = row.map_err(failed(OperationId::GetOrders))?;
        if order.client_order_id == client_id {
            return Ok(Some(order));
        }
    }
    Ok(None)
}

/// Reports whether nothing of an order rests any more.
pub(crate) fn is_over(order: &Order) -> bool {
    order.status != OrderStatus::Resting || order.remaining_count_fp.is_zero()
}
