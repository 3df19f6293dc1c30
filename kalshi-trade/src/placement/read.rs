//! What the exchange says, in the words of the machine.

use kalshi_sdk::{Client, Effect, Error, ErrorKind, types};
use kalshi_types::UnixMillis;
use kalshi_ws::{Event, Payload};

use super::{Answer, Input, Refusal, Sighting};
use crate::journal::Intent;

/// Rows of a page: the most that a list of orders gives.
const LIMIT: u16 = 1_000;

/// The most rows that are read of one list: more than an account may have open.
const MAX_ROWS: usize = 1_000_000;

/// Returns what an answer to a create comes to.
pub(super) fn answer(result: Result<types::CreateOrderV2Response, Error>) -> Answer {
    let error = match result {
        Ok(created) => {
            return Answer::Created {
                order_id: created.order_id,
                client_order_id: created.client_order_id,
            };
        }
        Err(error) => error,
    };
    match (error.effect(), error.status()) {
        (Effect::NotSent, _) => Answer::NotSent {
            is_temporary: matches!(
                error.kind(),
                ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Middleware
            ),
        },
        // After a lost attempt of the same call, too: some order has the id.
        _ if error.is_conflict() => Answer::Conflict,
        (Effect::Rejected, _) if error.is_rate_limited() => {
            Answer::RateLimited { retry_after: error.retry_after() }
        }
        (Effect::Rejected, Some(status)) => {
            Answer::Refused(Refusal::new(status.as_u16(), error.code().map(str::to_owned)))
        }
        _ => Answer::Unknown,
    }
}

/// Asks up to which time reads are complete.
pub(super) async fn watermark(client: &Client) -> Input {
    match client.get_user_data_timestamp().send().await {
        Ok(answer) => Input::Watermark(UnixMillis::from(answer.as_of_time)),
        Err(error) => failed(&error),
    }
}

/// Lists the orders of the market, in every state, that have the id of the order.
///
/// Where absence is to be proven, archived orders are listed, too, unless the archive ends before
/// the order was sent for the first time. Its end is asked for afterwards: it moves forwards only.
pub(super) async fn list(
    client: &Client,
    intent: &Intent,
    number: u32,
    first_sent: UnixMillis,
    is_decisive: bool,
) -> Input {
    let mut list = List { orders: Vec::new(), is_complete: true, rows: 0 };
    let mut rows = client.get_orders().ticker(intent.ticker()).limit(LIMIT).stream();
    while let Some(row) = rows.next().await {
        if let Err(error) = list.take(row, intent) {
            return failed(&error);
        }
        if list.rows > MAX_ROWS {
            break;
        }
    }
    drop(rows);
    if is_decisive && list.orders.is_empty() && list.is_complete {
        let cutoff = match client.get_historical_cutoff().send().await {
            Ok(cutoff) => UnixMillis::from(cutoff.orders_updated_ts),
            Err(error) => return failed(&error),
        };
        // The clock of this machine may be ahead of the exchange's.
        if cutoff >= first_sent.saturating_sub(std::time::Duration::from_secs(86_400)) {
            let request = client.get_historical_orders().ticker(intent.ticker()).limit(LIMIT);
            let mut rows = request.stream();
            while let Some(row) = rows.next().await {
                if let Err(error) = list.take(row, intent) {
                    return failed(&error);
                }
                if list.rows > MAX_ROWS {
                    break;
                }
            }
        }
    }
    Input::Listed { number, is_complete: list.is_complete, orders: list.orders }
}

/// The orders of a list that have the id, as far as it was read.
struct List {
    orders: Vec<Sighting>,
    is_complete: bool,
    rows: usize,
}

impl List {
    /// Takes in a row. One that does not decode may be the order.
    fn take(&mut self, row: Result<types::Order, Error>, intent: &Intent) -> Result<(), Error> {
        self.rows = self.rows.saturating_add(1);
        self.is_complete &= self.rows <= MAX_ROWS;
        match row {
            Ok(order) => {
                if order.client_order_id == intent.id().as_str() {
                    self.orders.push(Sighting {
                        client_order_id: order.client_order_id,
                        order_id: order.order_id,
                        ticker: order.ticker,
                        side: side(order.book_side.as_str()),
                    });
                }
            }
            Err(error) if error.is_row() => self.is_complete = false,
            // What was found before it counts.
            Err(_) if !self.orders.is_empty() => self.is_complete = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Returns the order that a message of a stream shows to exist, if it names a client order id.
pub(super) fn sighting(event: &Event) -> Option<Sighting> {
    let (Event::Message(message) | Event::Unmatched(message)) = event else { return None };
    let sighting = match &message.payload {
        Payload::UserOrder(order) => Sighting {
            client_order_id: order.client_order_id.clone(),
            order_id: order.order_id.clone(),
            ticker: order.ticker.clone(),
            side: side(order.book_side.as_str()),
        },
        Payload::Fill(fill) => Sighting {
            client_order_id: fill.client_order_id.clone()?,
            order_id: fill.order_id.clone(),
            ticker: fill.market_ticker.clone(),
            side: side(fill.book_side.as_str()),
        },
        _ => return None,
    };
    (!sighting.client_order_id.is_empty()).then_some(sighting)
}

/// Returns the side of the book, if it is one that an order can be sent with.
fn side(text: &str) -> Option<String> {
    matches!(text, "bid" | "ask").then(|| text.to_owned())
}

fn failed(error: &Error) -> Input {
    tracing::warn!(%error, "could not read what became of an order");
    Input::ReadFailed
}
