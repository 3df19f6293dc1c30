//! What several of these tests need.

use std::sync::atomic::{AtomicI64, Ordering};

use kalshi_sdk::{
    auth::{Clock, SystemClock},
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_types::UnixMillis;

/// A market that tests list themselves.
pub(crate) const TICKER: &str = "KXTEST-26-A";

/// Returns an order that rests, without a client order id.
pub(crate) fn limit(
    ticker: &str,
    side: BookSide,
    price: &str,
    count: &str,
) -> CreateOrderV2Request {
    CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(price)
        .count(count)
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .build()
        .unwrap()
}

/// Returns a bid in [`TICKER`] with that client order id.
pub(crate) fn order(id: &str) -> CreateOrderV2Request {
    let mut order = limit(TICKER, BookSide::Bid, "0.40", "1.00");
    order.client_order_id = Some(id.to_owned());
    order.exchange_index = Some(0.into());
    order
}

/// The machine's clock and what it is ahead by, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Ahead(pub(crate) AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> UnixMillis {
        let ahead = self.0.load(Ordering::SeqCst);
        UnixMillis::from_millis(SystemClock.now().as_millis() + ahead)
    }
}
