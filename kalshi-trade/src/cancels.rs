//! Cancels in batches.

use kalshi_sdk::{
    Client, Error,
    types::{
        BatchCancelItem, BatchCancelOrdersV2Request, BatchCancelOrdersV2Response, ExchangeIndex,
    },
};

/// The cancels of one request: 40 tokens, which the bucket of every tier holds.
pub(crate) const BATCH: usize = 20;

/// An order that is to be canceled.
#[derive(Clone, Debug)]
pub(crate) struct Cancel<'a> {
    pub(crate) order_id: &'a str,
    pub(crate) market_ticker: &'a str,
    /// The subaccount; `None` for the primary one.
    pub(crate) subaccount: Option<i64>,
    /// The shard; `None` leaves it to the exchange to find it by the ticker.
    pub(crate) exchange_index: Option<ExchangeIndex>,
}

/// Cancels several orders by one request.
pub(crate) async fn send(
    client: &Client,
    cancels: impl IntoIterator<Item = Cancel<'_>>,
) -> Result<BatchCancelOrdersV2Response, Error> {
    let items = cancels.into_iter().map(|cancel| {
        let item = BatchCancelItem::builder()
            .order_id(cancel.order_id)
            .market_ticker(cancel.market_ticker);
        let item = match cancel.subaccount {
            Some(subaccount) => item.subaccount(subaccount),
            None => item,
        };
        match cancel.exchange_index {
            Some(shard) => item.exchange_index(shard),
            None => item,
        }
    });
    let body = BatchCancelOrdersV2Request::builder().orders(items.collect::<Vec<_>>());
    Ok(client.batch_cancel_orders_v2().body(body).send().await?.into_inner())
}
