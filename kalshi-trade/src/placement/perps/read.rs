//! What the exchange says about orders of perpetual futures, in the words of the machines.

use kalshi_sdk::{
    Client, Effect, Error,
    perps::{
        is_market_version_mismatch,
        types::{
            AmendMarginOrderRequest, CreateMarginOrderRequest, DecreaseMarginOrderRequest,
            MarginOrder,
        },
    },
};
use kalshi_types::UnixMillis;
use kalshi_ws::perps::{Event, Payload};

use super::super::{
    Answer, ChangeInput, Input, OrderView, Refusal, Sighting,
    read::{self, List, Question, side},
};
use crate::journal::{ChangeIntent, OrderChange};

/// Rows of a page: the most that a list of orders gives.
const LIMIT: u16 = 10_000;

/// Sends an order, and returns what the answer comes to.
pub(in crate::placement) async fn send(client: &Client, order: CreateMarginOrderRequest) -> Answer {
    match client.perps().create_margin_order().body(order).send().await {
        Ok(created) => {
            let created = created.into_inner();
            Answer::Created { order_id: created.order_id, client_order_id: created.client_order_id }
        }
        Err(error) => failed(&error),
    }
}

/// Returns what the failure of a create comes to. A 409 about the version of the market is a refusal:
/// no order has the id, unless another attempt of the call was carried out.
fn failed(error: &Error) -> Answer {
    if !is_market_version_mismatch(error) {
        return read::failed(error);
    }
    match (error.effect(), error.status()) {
        (Effect::Rejected, Some(status)) => {
            Answer::Refused(Refusal::new(status.as_u16(), error.code().map(str::to_owned)))
        }
        _ => Answer::Unknown,
    }
}

/// Lists the orders of a market, in every state, and returns what each of those who asked gets. Where
/// absence is to be proven, all orders of the account: the market may have another ticker by now.
pub(in crate::placement) async fn list(
    client: &Client,
    ticker: &str,
    questions: &[Question],
) -> Vec<Input> {
    let mut list = List::new(questions);
    let is_decisive = questions.iter().any(|question| question.is_decisive);
    let orders = client.perps().get_margin_orders().limit(LIMIT);
    let orders = if is_decisive { orders } else { orders.ticker(ticker) };
    list.read(orders.stream(), order_sighting).await;
    list.answers()
}

/// Reads an order by its id. The exchange documents no archive: one that is not found is looked for
/// among all orders.
pub(in crate::placement) async fn order(
    client: &Client,
    change: &ChangeIntent,
    number: u32,
) -> ChangeInput {
    let order_id = change.order_id.as_str();
    let read = match client.perps().get_margin_order().order_id(order_id).send().await {
        Ok(answer) => Ok(Some(order_view(&answer.order))),
        Err(error) if error.is_not_found() => {
            let orders = client.perps().get_margin_orders().limit(LIMIT);
            read::find(orders.stream(), order_id, order_view).await
        }
        Err(error) => Err(error),
    };
    read::order_read(number, read)
}

/// Sends one change, and returns the id of the order that the answer names. It has no time.
pub(in crate::placement) async fn change(
    client: &Client,
    intent: &ChangeIntent,
) -> Result<(String, Option<UnixMillis>), Error> {
    let (perps, order_id) = (client.perps(), &*intent.order_id);
    let named = match &intent.change {
        OrderChange::Cancel => {
            let request = perps.cancel_margin_order().order_id(order_id);
            request.subaccount(intent.subaccount).send().await?.into_inner().order_id
        }
        OrderChange::Amend { side, yes_price, total, expires } => {
            let body = AmendMarginOrderRequest::builder()
                .ticker(&*intent.ticker)
                .side(side.clone())
                .price(*yes_price)
                .count(*total)
                .expiration_time(*expires);
            let request = perps.amend_margin_order().order_id(order_id).body(body);
            request.subaccount(intent.subaccount).send().await?.into_inner().order_id
        }
        OrderChange::Decrease { remaining } => {
            let body = DecreaseMarginOrderRequest::builder().reduce_to(*remaining);
            let request = perps.decrease_margin_order().order_id(order_id).body(body);
            request.subaccount(intent.subaccount).send().await?.into_inner().order_id
        }
    };
    Ok((named, None))
}

fn order_sighting(order: MarginOrder) -> Sighting {
    Sighting {
        client_order_id: order.client_order_id,
        order_id: order.order_id,
        ticker: order.ticker,
        side: side(order.side.as_str()),
    }
}

fn order_view(order: &MarginOrder) -> OrderView {
    OrderView {
        order_id: order.order_id.clone(),
        yes_price: order.price,
        filled: order.fill_count,
        remaining: order.remaining_count,
        is_over: !order.remaining_count.is_positive(),
        updated: order.last_update_time.map(UnixMillis::from),
        expires: order.expiration_time.map(UnixMillis::from),
    }
}

/// Returns the order that a message of a stream shows.
pub(super) fn view(event: &Event) -> Option<OrderView> {
    let (Event::Message(message) | Event::Unmatched(message)) = event else { return None };
    let Payload::UserOrder(order) = &message.payload else { return None };
    Some(OrderView {
        order_id: order.order_id.clone(),
        yes_price: order.price,
        filled: order.fill_count,
        remaining: order.remaining_count,
        is_over: !order.remaining_count.is_positive(),
        updated: order.last_updated_ts_ms,
        expires: order.expiration_ts_ms,
    })
}

/// Returns the order that a message of a stream shows to exist, if it names a client order id.
pub(super) fn sighting(event: &Event) -> Option<Sighting> {
    let (Event::Message(message) | Event::Unmatched(message)) = event else { return None };
    let sighting = match &message.payload {
        Payload::UserOrder(order) => Sighting {
            client_order_id: order.client_order_id.clone(),
            order_id: order.order_id.clone(),
            ticker: order.ticker.clone(),
            side: side(order.side.as_str()),
        },
        Payload::Fill(fill) => Sighting {
            client_order_id: fill.client_order_id.clone()?,
            order_id: fill.order_id.clone(),
            ticker: fill.market_ticker.clone(),
            side: side(fill.side.as_str()),
        },
        _ => return None,
    };
    (!sighting.client_order_id.is_empty()).then_some(sighting)
}
