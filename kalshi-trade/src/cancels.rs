//! Cancels in batches.

use kalshi_sdk::{
    Client, Error,
    types::{BatchCancelItem, BatchCancelOrdersV2Request, ExchangeIndex, Order},
};

/// The cancels of one request: 40 tokens, which the bucket of every tier holds.
pub(crate) const BATCH: usize = 20;

/// An order that is to be canceled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cancel {
    pub(crate) order_id: String,
    pub(crate) market_ticker: String,
    /// The subaccount, 0 for the primary one.
    pub(crate) subaccount: i64,
    /// The shard, if it is known. Without it the request is routed by the ticker.
    pub(crate) exchange_index: Option<i64>,
}

impl From<&Order> for Cancel {
    fn from(order: &Order) -> Self {
        Self {
            order_id: order.order_id.clone(),
            market_ticker: order.ticker.clone(),
            subaccount: order.subaccount_number.unwrap_or_default(),
            exchange_index: order.exchange_index.as_deref().copied(),
        }
    }
}

/// Cancels orders by one request. What became of each, a read shows.
pub(crate) async fn send(client: &Client, cancels: Vec<Cancel>) -> Result<(), Error> {
    let items = cancels.into_iter().map(|cancel| {
        let item = BatchCancelItem::builder()
            .order_id(cancel.order_id)
            .market_ticker(cancel.market_ticker)
            .subaccount(cancel.subaccount);
        match cancel.exchange_index {
            Some(shard) => item.exchange_index(ExchangeIndex::from(shard)),
            None => item,
        }
    });
    let body = BatchCancelOrdersV2Request::builder().orders(items);
    client.batch_cancel_orders_v2().body(body).send().await.map(|_| ())
}
