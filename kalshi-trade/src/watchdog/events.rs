//! The requests that cancel orders of event contracts.

use kalshi_sdk::{Client, types::Order};

use super::sweep::{Failure, Found, count_rows, limited, next_row};
use crate::cancels::{self, BATCH, Cancel};

/// Rows of a page.
const LIMIT: u16 = 1_000;

pub(super) async fn cancel_all(client: &Client, subaccount: Option<u8>) -> Result<(), Failure> {
    let request = client.cancel_all_orders().subaccount(subaccount.map(i64::from));
    limited(request.send()).await.map(|_| ())
}

pub(super) async fn count(client: &Client, subaccount: Option<u8>) -> Result<usize, Failure> {
    let request = client.get_orders().status("resting").limit(LIMIT);
    count_rows(request.subaccount(subaccount.map(i64::from)).stream()).await
}

/// Cancels what can be read, batch by batch while the list is read. What became of each order, the
/// next list shows.
pub(super) async fn cancel_prefix(client: &Client, prefix: &str) -> Found {
    let mut rows = client.get_orders().status("resting").limit(LIMIT).stream();
    let mut found = Found::default();
    let mut batch = Vec::new();
    while let Some(order) = next_row(&mut rows, &mut found).await {
        if order.client_order_id.starts_with(prefix) {
            found.resting += 1;
            batch.push(order);
        }
        if batch.len() == BATCH {
            found.note(cancel(client, &batch).await);
            batch.clear();
        }
    }
    if !batch.is_empty() {
        found.note(cancel(client, &batch).await);
    }
    found
}

async fn cancel(client: &Client, batch: &[Order]) -> Result<(), Failure> {
    let cancels = batch.iter().map(|order| Cancel {
        order_id: &order.order_id,
        market_ticker: &order.ticker,
        subaccount: order.subaccount_number,
        exchange_index: order.exchange_index.clone(),
    });
    limited(cancels::send(client, cancels)).await.map(|_| ())
}
