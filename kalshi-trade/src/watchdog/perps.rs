//! The requests that cancel orders of perpetual futures.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use kalshi_sdk::Client;

use super::sweep::{Failure, Found, count_rows, limited, next_row};

/// Rows of a page: the most that a list of orders gives.
const LIMIT: u16 = 10_000;
/// The cancels that are on their way at once: there is no request for several.
const AT_ONCE: usize = 10;
const PRIMARY: i64 = 0;

pub(super) async fn cancel_all(client: &Client, subaccount: Option<u8>) -> Result<(), Failure> {
    let perps = client.perps();
    let request = perps.cancel_all_margin_orders().subaccount(subaccount.map(i64::from));
    limited(request.send()).await.map(|_| ())
}

pub(super) async fn count(client: &Client, subaccount: Option<u8>) -> Result<usize, Failure> {
    let request = client.perps().get_margin_orders().status("resting").limit(LIMIT);
    count_rows(request.subaccount(subaccount.map(i64::from)).stream()).await
}

/// Cancels what can be read. A cancel needs the subaccount, which no row has: it is known by the
/// lists of single subaccounts, of which the primary is read first.
pub(super) async fn cancel_prefix(client: &Client, prefix: &str) -> Found {
    let mut found = Found::default();
    let mut left = BTreeSet::new();
    let mut rows = client.perps().get_margin_orders().status("resting").limit(LIMIT).stream();
    while let Some(order) = next_row(&mut rows, &mut found).await {
        if order.client_order_id.starts_with(prefix) {
            left.insert(order.order_id);
        }
    }
    found.resting = left.len();
    cancel_in(client, PRIMARY, &mut left, &mut found).await;
    if left.is_empty() {
        return found;
    }
    match limited(client.perps().balance()).await {
        Ok(balances) => {
            let numbers = balances.subaccounts.iter().map(|balance| balance.subaccount);
            for number in numbers.filter(|number| *number != PRIMARY) {
                cancel_in(client, number, &mut left, &mut found).await;
            }
        }
        Err(failure) => found.fail(failure),
    }
    // They are gone by now, or no list of a subaccount could be read.
    let left: Vec<String> = left.into_iter().collect();
    cancel(client, PRIMARY, &left, &mut found).await;
    found
}

/// Cancels those of the orders that rest in a subaccount, and takes them out of what is left.
async fn cancel_in(
    client: &Client,
    subaccount: i64,
    left: &mut BTreeSet<String>,
    found: &mut Found,
) {
    if left.is_empty() {
        return;
    }
    let request = client.perps().get_margin_orders().status("resting").limit(LIMIT);
    let mut rows = request.subaccount(subaccount).stream();
    let mut orders = Vec::new();
    while let Some(order) = next_row(&mut rows, found).await {
        orders.extend(left.take(&order.order_id));
    }
    cancel(client, subaccount, &orders, found).await;
}

async fn cancel(client: &Client, subaccount: i64, orders: &[String], found: &mut Found) {
    for some in orders.chunks(AT_ONCE) {
        let cancels = some.iter().map(|order_id| {
            let perps = client.perps();
            limited(async move {
                let request = perps.cancel_margin_order().order_id(order_id.as_str());
                match request.subaccount(subaccount).send().await {
                    // The next list shows whether it is.
                    Err(error) if error.is_not_found() => Ok(()),
                    answer => answer.map(|_| ()),
                }
            })
        });
        for canceled in join_all(cancels).await {
            found.note(canceled);
        }
    }
}
