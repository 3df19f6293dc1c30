//! What several of these tests need.

use std::sync::atomic::{AtomicI64, Ordering};

use kalshi_sdk::{
    auth::{Clock, SystemClock},
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_types::UnixMillis;

/// A market that tests list themselves.
pub(crate) const TICKER: &str = "KXTEST-26-A";

/// Returns a bid in [`TICKER`] with that client order id.
pub(crate) fn order(id: &str) -> CreateOrderV2Request {
    CreateOrderV2Request::builder()
        .ticker(TICKER)
        .side(BookSide::Bid)
        .price("0.40")
        .count("1.00")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::Maker)
        .client_order_id(id)
        .exchange_index(0)
        .build()
        .unwrap()
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
