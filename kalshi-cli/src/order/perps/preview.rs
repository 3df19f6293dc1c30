//! The preview of an order of perpetual futures: its value, its fee, its effect. Pure.

use std::fmt::Write as _;

use kalshi_sdk::{
    Count, Decimal, Dollars, PriceLevel, Rounding,
    perps::types::{BookSide, CreateMarginOrderRequest, MarginMarket},
};
use kalshi_trade::placement::perps::check_order;

use crate::{
    failure::{Failure, Outcome},
    json::Json,
    order::preview::confirmation,
    output::safe,
};

/// The state of the market, read before an order is sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) market: MarginMarket,
    pub(super) best_bid: Option<PriceLevel>,
    pub(super) best_ask: Option<PriceLevel>,
    pub(super) position: Count,
    pub(super) maker_rate: Option<Decimal>,
    pub(super) taker_rate: Option<Decimal>,
}

/// An order before it is sent.
#[derive(Clone, Debug)]
pub(super) struct Preview {
    environment: String,
    pub(super) request: CreateMarginOrderRequest,
    pub(super) seen: Seen,
    /// True if it would trade at once.
    crosses: bool,
    /// Price × count, at the price that makes it largest.
    value: Dollars,
    /// The largest fee of it; `None` if no rate is known.
    fee: Option<Dollars>,
}

impl Preview {
    /// Returns the preview of an order that fits its market.
    pub(super) fn new(
        request: CreateMarginOrderRequest,
        seen: Seen,
        environment: String,
    ) -> Outcome<Self> {
        check_order(&request, &seen.market)
            .map_err(|error| Failure::usage(format!("{error}; nothing was sent")))?;
        let price = request.price;
        let (crosses, worst) = match request.side {
            BookSide::Bid => (seen.best_ask.is_some_and(|ask| ask.price <= price), price),
            // It may sell for more than it asks for, and then pays the fee of that.
            _ => match seen.best_bid.filter(|bid| bid.price >= price) {
                Some(bid) => (true, bid.price),
                None => (false, price),
            },
        };
        let times = |amount: Dollars, factor: Decimal| {
            amount
                .mul_rounded(factor, Rounding::Ceil)
                .map_err(|_| Failure::usage("price × count is out of range; nothing was sent"))
        };
        let value = times(worst, Decimal::from(request.count))?;
        // What rests can still be hit by a book that moves: only post-only is a maker for sure.
        let rate = if request.post_only == Some(true) { seen.maker_rate } else { seen.taker_rate };
        let fee = rate.map(|rate| times(value, rate)).transpose()?;
        Ok(Self { environment, request, seen, crosses, value, fee })
    }

    /// Returns the lines that a person reads before saying yes.
    pub(super) fn text(&self) -> String {
        let (request, seen) = (&self.request, &self.seen);
        let market = &seen.market;
        let side = if request.side == BookSide::Bid { "buy" } else { "sell" };
        let level = |level: Option<PriceLevel>| {
            level.map_or_else(|| "none".to_owned(), |one| format!("{} × {}", one.price, one.count))
        };
        let fee = match self.fee {
            Some(fee) => format!(" + fee {fee} at most"),
            None => "; the fee is not known".to_owned(),
        };
        let rows = [
            ("environment", self.environment.clone()),
            ("market", format!("{}, version {}", market.ticker, market.market_version)),
            ("order", format!("{side} {} × {}", request.count, request.price)),
            ("value", format!("{}{fee}", self.value)),
            ("book", format!("bid {}, ask {}", level(seen.best_bid), level(seen.best_ask))),
            ("at once", if self.crosses { "would trade" } else { "would rest" }.to_owned()),
            ("position", format!("{} now", seen.position)),
            ("lasts", request.time_in_force.to_string()),
            ("client id", request.client_order_id.clone()),
        ];
        rows.into_iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "  {name:<13}{}", safe(&value));
            text
        })
    }

    /// Returns the line that a person types to confirm the order.
    pub(super) fn confirmation(&self) -> String {
        confirmation(self.request.count, self.request.price)
    }

    pub(super) fn to_json(&self) -> Json {
        Json::object([
            ("environment", Json::text(&self.environment)),
            ("ticker", Json::text(&self.seen.market.ticker)),
            ("market_version", Json::number(self.seen.market.market_version)),
            ("side", Json::text(self.request.side.as_str())),
            ("count", Json::text(self.request.count.to_string())),
            ("price", Json::text(self.request.price.to_string())),
            ("value", Json::text(self.value.to_string())),
            ("fee", Json::optional(self.fee.map(|fee| fee.to_string()))),
            ("trades_at_once", Json::Bool(self.crosses)),
            ("position_before", Json::text(self.seen.position.to_string())),
            ("client_order_id", Json::text(&self.request.client_order_id)),
        ])
    }

    /// Refuses an order that can come to more than a ceiling, or whose fee is not known.
    pub(super) fn check_ceiling(&self, ceiling: Option<Dollars>, name: &str) -> Outcome {
        let Some(ceiling) = ceiling else { return Ok(()) };
        let worst = self.fee.and_then(|fee| self.value.checked_add(fee));
        match worst {
            Some(worst) if worst <= ceiling => Ok(()),
            Some(worst) => Err(Failure::usage(format!(
                "the order can come to {worst}, more than the {ceiling} of {name}; nothing was sent"
            ))),
            None => Err(Failure::usage(format!(
                "what the order can come to is not known, as its fee is not, and {name} is \
                 {ceiling}; nothing was sent"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::perps::types::{SelfTradePreventionType, TimeInForce};
    use serde_json::json;

    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn preview(side: BookSide, price: &str, post_only: bool) -> Outcome<Preview> {
        let market = json!({
            "ticker": "T", "market_id": "m-1", "status": "active", "exchange_index": 0,
            "tick_size": "0.25", "fractional_trading_enabled": false, "market_version": 3,
            "contract_size": "1", "underlying_multiplier": "1", "halt_sources": [],
            "funding_cap": 0, "funding_deadband": 0, "funding_limit_unit": "percentage",
            "funding_invalid_premium_handling": "dampen",
        });
        let level = |price: &str| PriceLevel { price: dollars(price), count: "1".parse().unwrap() };
        let seen = Seen {
            market: serde_json::from_value(market).unwrap(),
            best_bid: Some(level("100.00")),
            best_ask: Some(level("101.00")),
            position: Count::ZERO,
            maker_rate: Some("0.0001".parse().unwrap()),
            taker_rate: Some("0.00025".parse().unwrap()),
        };
        let request = CreateMarginOrderRequest::builder()
            .ticker("T")
            .client_order_id("a-1")
            .side(side)
            .count("3.00")
            .price(price)
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
            .post_only(post_only.then_some(true));
        Preview::new(request.try_into().unwrap(), seen, "demo".to_owned())
    }

    #[test]
    fn the_value_and_the_fee_are_those_of_the_worst_price() {
        for (side, price, post_only, crosses, value, fee) in [
            (BookSide::Bid, "100.50", false, false, "301.50", "0.075375"),
            (BookSide::Bid, "100.50", true, false, "301.50", "0.03015"),
            (BookSide::Bid, "101.00", false, true, "303.00", "0.07575"),
            (BookSide::Ask, "102.00", false, false, "306.00", "0.0765"),
            // It sells at the bid, which is above its limit.
            (BookSide::Ask, "90.00", false, true, "300.00", "0.075"),
        ] {
            let preview = preview(side, price, post_only).unwrap();
            assert_eq!(preview.crosses, crosses, "{price}");
            assert_eq!((preview.value, preview.fee), (dollars(value), Some(dollars(fee))));
            let all = dollars(value).checked_add(dollars(fee)).unwrap();
            let less = all.checked_sub(dollars("0.000001")).unwrap();
            assert!(preview.check_ceiling(Some(all), "x").is_ok());
            assert!(preview.check_ceiling(Some(less), "x").is_err());
            let unknown = Preview { fee: None, ..preview };
            assert!(unknown.check_ceiling(Some(dollars("1000000")), "x").is_err());
            assert!(unknown.check_ceiling(None, "x").is_ok());
        }
        assert!(preview(BookSide::Bid, "100.10", false).is_err(), "off the tick size");
    }
}
