//! The words of an order and its worst cost, before it is sent. Pure: everything
//! that was read is an argument.

use std::fmt::Write as _;

use kalshi_sdk::{
    ArithmeticError, Count, Decimal, Dollars, PriceGrid, PriceLevel, UnixSeconds,
    types::{BookSide, CreateOrderV2Request, Market, SelfTradePreventionType, TimeInForce},
};
use kalshi_trade::{
    direction::{BookTerms, Terms},
    fees::{FeeError, FeeSchedule, Liquidity, Precision},
    tick::snap,
};

use crate::{json::Json, output::safe};

/// An order as it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) terms: Terms,
    pub(crate) count: Count,
    pub(crate) time_in_force: TimeInForce,
    pub(crate) self_trade: SelfTradePreventionType,
    pub(crate) post_only: bool,
    pub(crate) reduce_only: bool,
    pub(crate) cancel_on_pause: bool,
    pub(crate) expires: Option<UnixSeconds>,
    pub(crate) group: Option<String>,
    pub(crate) subaccount: Option<u8>,
    pub(crate) client_id: String,
}

/// The market and the account, as the exchange shows them.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) market: Market,
    pub(crate) title: String,
    pub(crate) fees: Result<FeeSchedule, FeeError>,
    /// The best bid and the best ask for YES.
    pub(crate) best: (Option<PriceLevel>, Option<PriceLevel>),
    /// Above zero: YES; below: NO.
    pub(crate) position: Count,
    /// The contracts that rest on the side of the order already.
    pub(crate) resting: Count,
}

/// An order in both vocabularies, with what it can cost and change.
#[derive(Debug)]
pub(crate) struct Preview {
    pub(crate) environment: String,
    pub(crate) ticker: String,
    pub(crate) title: String,
    /// In the words of a trader: `buy NO at 0.4400`.
    pub(crate) terms: String,
    /// In the words of the book: `ask at 0.5600`.
    pub(crate) book_terms: String,
    pub(crate) count: Count,
    /// The price of the outcome, as it was typed and as it is sent.
    pub(crate) price_asked: Dollars,
    pub(crate) price: Dollars,
    pub(crate) yes_price: Dollars,
    /// Contracts that close a position, and those that open one.
    pub(crate) closes: Count,
    pub(crate) opens: Count,
    /// The cost of the contracts that open a position at this price.
    pub(crate) cost: Dollars,
    /// The fees of all contracts if they trade at once, at this price.
    pub(crate) fee: Option<Dollars>,
    /// The most that the order can cost, fees and their rounding included.
    pub(crate) worst_cost: Option<Dollars>,
    /// The reason why the fee is not known.
    pub(crate) fee_unknown: Option<String>,
    pub(crate) position_before: Count,
    pub(crate) position_after: Count,
    pub(crate) best_yes_bid: Option<PriceLevel>,
    pub(crate) best_yes_ask: Option<PriceLevel>,
    /// True if the best price of the other side is met.
    pub(crate) crosses: bool,
    pub(crate) client_order_id: String,
    pub(crate) lasts: String,
    pub(crate) request: CreateOrderV2Request,
}

/// Returns the preview of an order, with the request that would be sent.
///
/// # Errors
///
/// The market does not take such a price, or a number is out of range.
pub(crate) fn preview(asked: &Asked, seen: &Seen, environment: &str) -> Result<Preview, String> {
    let grid = PriceGrid::new(seen.market.price_ranges.clone())
        .map_err(|error| format!("the price grid of the market cannot be used: {error}"))?;
    let book = asked.terms.to_book().ok_or_else(out_of_range)?;
    let yes_price = snap(&grid, book.side.clone(), book.price, Dollars::CENT)
        .map_err(|error| format!("{error} (prices of YES)"))?;
    let book = BookTerms { side: book.side, price: yes_price };
    let terms = book.to_terms(asked.terms.action).ok_or_else(out_of_range)?;
    let is_bid = book.side == BookSide::Bid;

    let closes = closing(asked.count, is_bid, seen.position, seen.resting)?;
    let opens = asked.count.checked_sub(closes).ok_or_else(out_of_range)?;
    // Who sells an outcome that is not held buys the opposite one.
    let paid =
        if is_bid { yes_price } else { (Dollars::ONE - yes_price).get().map_err(inexact)? };
    let cost = (paid * opens).get().map_err(inexact)?;
    let fees = seen.fees.as_ref().map_err(ToString::to_string).and_then(|fees| {
        let fee = fees.trade_fee(yes_price, asked.count, Liquidity::Taker);
        let fee = fee.map_err(|error| error.to_string())?;
        worst_fee(fees, yes_price, asked.count)
            .map(|worst| (fee, worst))
            .map_err(|error| error.to_string())
    });
    let (fee, worst_cost, fee_unknown) = match fees {
        Ok((fee, worst)) => (Some(fee), Some((cost + worst).get().map_err(inexact)?), None),
        Err(reason) => (None, None, Some(reason)),
    };
    let change =
        if is_bid { asked.count } else { (Count::ZERO - asked.count).get().map_err(inexact)? };
    let request = request(asked, seen, &book)?;
    let (bid, ask) = seen.best;
    let crosses = if is_bid {
        ask.is_some_and(|ask| ask.price <= yes_price)
    } else {
        bid.is_some_and(|bid| bid.price >= yes_price)
    };
    Ok(Preview {
        environment: environment.to_owned(),
        ticker: seen.market.ticker.clone(),
        title: seen.title.clone(),
        terms: terms.to_string(),
        book_terms: book.to_string(),
        count: asked.count,
        price_asked: asked.terms.price,
        price: terms.price,
        yes_price,
        closes,
        opens,
        cost,
        fee,
        worst_cost,
        fee_unknown,
        position_before: seen.position,
        position_after: (seen.position + change).get().map_err(inexact)?,
        best_yes_bid: bid,
        best_yes_ask: ask,
        crosses,
        client_order_id: asked.client_id.clone(),
        lasts: lasts(asked),
        request,
    })
}

fn out_of_range() -> String {
    "an amount of the order is out of range".to_owned()
}

fn inexact(_: ArithmeticError) -> String {
    out_of_range()
}

/// Returns how many contracts can only close: those of the position that no resting order of the
/// same side closes already.
fn closing(count: Count, is_bid: bool, position: Count, resting: Count) -> Result<Count, String> {
    let held = if is_bid { (Count::ZERO - position).get().map_err(inexact)? } else { position };
    let free = (held - resting).get().map_err(inexact)?;
    Ok(count.min(free).max(Count::ZERO))
}

/// Returns the most that the fees can come to: the fee at the limit, and a step of rounding for each
/// contract and fill.
///
/// An order trades at its price or a better one. Where the whole price and its fee fall as the price
/// gets better, the worst is at the limit: as long as 0.07 times the multiplier is not above 1.
fn worst_fee(fees: &FeeSchedule, yes_price: Dollars, count: Count) -> Result<Dollars, FeeError> {
    let contracts = count.as_hundredths().saturating_add(99).div_euclid(100);
    let fills = u32::try_from(contracts.max(1)).map_err(|_| FeeError::OutOfRange)?;
    let middle = fees.worst_fee(yes_price, count, Precision::Direct, fills)?;
    let at_limit = fees.trade_fee(yes_price, count, Liquidity::Taker)?;
    let one = Count::from_hundredths(100);
    // 0.07 × multiplier × 0.25, by the schedule itself.
    let steep = fees.trade_fee(Dollars::from_micros(500_000), one, Liquidity::Taker)?;
    if steep > Dollars::from_micros(250_000) {
        return Ok(middle);
    }
    let rounding = Precision::Direct.step().checked_mul(i64::from(fills));
    rounding.and_then(|rounding| at_limit.checked_add(rounding)).ok_or(FeeError::OutOfRange)
}

fn request(asked: &Asked, seen: &Seen, book: &BookTerms) -> Result<CreateOrderV2Request, String> {
    let mut request: CreateOrderV2Request = CreateOrderV2Request::builder()
        .ticker(&*seen.market.ticker)
        .side(book.side.clone())
        .count(asked.count)
        .price(book.price)
        .time_in_force(asked.time_in_force.clone())
        .self_trade_prevention_type(asked.self_trade.clone())
        .client_order_id(&*asked.client_id)
        .exchange_index(seen.market.exchange_index.clone())
        .build()
        .map_err(|error| format!("the order cannot be built: {error}"))?;
    request.post_only = asked.post_only.then_some(true);
    request.reduce_only = asked.reduce_only.then_some(true);
    request.cancel_order_on_pause = asked.cancel_on_pause.then_some(true);
    request.expiration_time = asked.expires;
    request.order_group_id.clone_from(&asked.group);
    request.subaccount = asked.subaccount.map(i64::from);
    Ok(request)
}

fn lasts(asked: &Asked) -> String {
    match (&asked.time_in_force, asked.expires) {
        (TimeInForce::ImmediateOrCancel, _) => {
            "trades at once what it can, the rest is canceled".to_owned()
        }
        (TimeInForce::FillOrKill, _) => "trades at once as a whole, or not at all".to_owned(),
        (_, Some(at)) => match at.to_datetime() {
            Some(at) => format!("rests until {}", at.to_rfc3339()),
            None => format!("rests until {at}"),
        },
        (_, None) => "rests until it is canceled".to_owned(),
    }
}

/// Returns a position in words: `10.00 YES`, `3.00 NO`, `none`.
pub(crate) fn position_text(position: Count) -> String {
    if position.is_zero() {
        "none".to_owned()
    } else if position.is_positive() {
        format!("{position} YES")
    } else {
        // The absolute value of the least count does not exist; it is shown as it is then.
        position.checked_abs().map_or_else(|| position.to_string(), |abs| format!("{abs} NO"))
    }
}

impl Preview {
    /// Returns the lines that a person reads before saying yes.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.rows() {
            // A title is the exchange's: it makes no line of its own. Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<13}{}", safe(&value));
        }
        text
    }

    /// Returns the names and values of those lines.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let title = if self.title.is_empty() { String::new() } else { format!("  {}", self.title) };
        let mut rows = vec![
            ("environment", self.environment.clone()),
            ("market", format!("{}{title}", self.ticker)),
            ("order", format!("{} × {}", self.count, self.terms)),
            ("in the book", format!("{} (the price of YES)", self.book_terms)),
        ];
        if self.price != self.price_asked {
            let text =
                format!("{} is not one of this market's: {} is sent", self.price_asked, self.price);
            rows.push(("price", text));
        }
        let fee = match (self.fee, self.worst_cost, &self.fee_unknown) {
            (Some(fee), Some(worst), _) => format!(" + fee {fee}; at most {worst} in all"),
            (_, _, Some(reason)) => format!(" + a fee that is not known: {reason}"),
            _ => String::new(),
        };
        rows.push(("cost", format!("{}{fee}", self.cost)));
        if !self.closes.is_zero() {
            rows.push(("closes", format!("{} contracts of the position", self.closes)));
        }
        let (before, after) =
            (position_text(self.position_before), position_text(self.position_after));
        rows.push(("position", format!("{before} → {after} if it trades in full")));
        let (bid, ask) = (level_text(self.best_yes_bid), level_text(self.best_yes_ask));
        rows.push(("best prices", format!("YES bid {bid}, ask {ask}")));
        let crosses = if self.crosses { "meets the best price now; " } else { "" };
        rows.push(("then", format!("{crosses}{}", self.lasts)));
        rows.push(("client id", self.client_order_id.clone()));
        rows
    }

    /// Returns the preview for a program; amounts are texts, as on the wire.
    pub(crate) fn to_json(&self) -> Json {
        let text = |value: &dyn ToString| Json::Text(value.to_string());
        let dollars = |amount: Option<Dollars>| Json::optional(amount.map(|a| a.to_string()));
        let level = |level: Option<PriceLevel>| {
            level.map_or(Json::Null, |level| {
                Json::object([("price", text(&level.price)), ("count", text(&level.count))])
            })
        };
        Json::object([
            ("environment", Json::text(&self.environment)),
            ("ticker", Json::text(&self.ticker)),
            ("title", Json::text(&self.title)),
            ("terms", Json::text(&self.terms)),
            ("book_terms", Json::text(&self.book_terms)),
            ("count", text(&self.count)),
            ("price_asked", text(&self.price_asked)),
            ("price", text(&self.price)),
            ("yes_price", text(&self.yes_price)),
            ("closes", text(&self.closes)),
            ("opens", text(&self.opens)),
            ("cost", text(&self.cost)),
            ("fee", dollars(self.fee)),
            ("worst_cost", dollars(self.worst_cost)),
            ("position_before", text(&self.position_before)),
            ("position_after", text(&self.position_after)),
            ("best_yes_bid", level(self.best_yes_bid)),
            ("best_yes_ask", level(self.best_yes_ask)),
            ("crosses", Json::Bool(self.crosses)),
            ("client_order_id", Json::text(&self.client_order_id)),
        ])
    }

    /// Returns the line that a person types to confirm the order.
    pub(crate) fn confirmation(&self) -> String {
        confirmation(self.count, self.price)
    }
}

/// Returns `COUNT @ PRICE` without zeros at the ends, such as `10 @ 0.55`.
pub(crate) fn confirmation(count: Count, price: Dollars) -> String {
    format!("{} @ {}", Decimal::from(count), Decimal::from(price))
}

fn level_text(level: Option<PriceLevel>) -> String {
    level.map_or_else(|| "none".to_owned(), |level| format!("{} × {}", level.price, level.count))
}

/// Reports whether what was typed says the same count and price, exactly.
pub(crate) fn is_confirmed(typed: &str, count: Count, price: Dollars) -> bool {
    super::terms::count_and_price(&[typed.trim().to_owned()]) == Ok((count, price))
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::streams::Outcome;
    use kalshi_trade::direction::Action;

    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn count(text: &str) -> Count {
        text.parse().unwrap()
    }

    fn level(price: &str, size: &str) -> PriceLevel {
        (dollars(price), count(size)).into()
    }

    fn market() -> Market {
        serde_json::from_str(
            r#"{
                "ticker": "KXTEST-26-A", "event_ticker": "KXTEST-26", "market_type": "binary",
                "exchange_index": 2, "status": "active", "result": "",
                "open_time": "2026-01-01T00:00:00Z", "close_time": "2027-01-01T00:00:00Z",
                "created_time": "2026-01-01T00:00:00Z", "updated_time": "2026-01-01T00:00:00Z",
                "latest_expiration_time": "2027-01-01T00:00:00Z", "settlement_timer_seconds": 60,
                "last_price_dollars": "0.5000", "previous_price_dollars": "0.5000",
                "yes_bid_dollars": "0.5500", "yes_ask_dollars": "0.5700",
                "no_bid_dollars": "0.4300", "no_ask_dollars": "0.4500",
                "yes_bid_size_fp": "1.00", "yes_ask_size_fp": "1.00",
                "previous_yes_bid_dollars": "0.5000", "previous_yes_ask_dollars": "0.5000",
                "notional_value_dollars": "1.0000", "open_interest_fp": "1.00",
                "volume_fp": "1.00", "volume_24h_fp": "1.00",
                "price_ranges": [
                    {"start": "0.0000", "end": "0.1000", "step": "0.0010"},
                    {"start": "0.1000", "end": "0.9000", "step": "0.0100"},
                    {"start": "0.9000", "end": "1.0000", "step": "0.0010"}
                ]
            }"#,
        )
        .unwrap()
    }

    fn seen(position: &str, resting: &str) -> Seen {
        Seen {
            market: market(),
            title: "A test".to_owned(),
            fees: FeeSchedule::new("quadratic".into(), "1".parse().unwrap()),
            best: (Some(level("0.55", "300")), Some(level("0.57", "12"))),
            position: count(position),
            resting: count(resting),
        }
    }

    fn asked(action: Action, outcome: Outcome, size: &str, price: &str) -> Asked {
        Asked {
            terms: Terms { action, outcome, price: dollars(price) },
            count: count(size),
            time_in_force: TimeInForce::GoodTillCanceled,
            self_trade: SelfTradePreventionType::TakerAtCross,
            post_only: false,
            reduce_only: false,
            cancel_on_pause: false,
            expires: None,
            group: None,
            subaccount: None,
            client_id: "cli-1".to_owned(),
        }
    }

    fn of(asked: &Asked, seen: &Seen) -> Preview {
        preview(asked, seen, "demo: no real money").unwrap()
    }

    #[test]
    fn a_bid_for_no_is_an_ask_in_the_book_and_both_are_said() {
        let preview = of(&asked(Action::Buy, Outcome::No, "10", "0.44"), &seen("0", "0"));
        assert_eq!(preview.terms, "buy NO at 0.4400");
        assert_eq!(preview.book_terms, "ask at 0.5600");
        assert_eq!(preview.request.side, BookSide::Ask);
        assert_eq!(preview.request.price, dollars("0.56"));
        assert_eq!((preview.cost, preview.position_after), (dollars("4.40"), count("-10")));
        assert!(!preview.crosses, "the best bid is 0.55");
        // 0.07 × 10 × 0.56 × 0.44, and a step of rounding for each contract.
        assert_eq!(preview.fee, Some(dollars("0.17248")));
        assert_eq!(preview.worst_cost, Some(dollars("4.57348")));
        assert_eq!(preview.request.exchange_index, Some(2.into()));
    }

    #[test]
    fn what_closes_costs_nothing_and_only_as_far_as_it_is_not_being_closed() {
        let sell = asked(Action::Sell, Outcome::Yes, "10", "0.60");
        let all = of(&sell, &seen("25", "0"));
        assert_eq!((all.closes, all.opens, all.cost), (count("10"), count("0"), dollars("0")));
        // 20 of 25 are for sale already: five can close, five open a position in NO.
        let part = of(&sell, &seen("25", "20"));
        assert_eq!((part.closes, part.opens, part.cost), (count("5"), count("5"), dollars("2")));
        let none = of(&sell, &seen("-3", "0"));
        assert_eq!((none.closes, none.cost), (count("0"), dollars("4")));
        let buy = of(&asked(Action::Buy, Outcome::Yes, "10", "0.60"), &seen("-3", "0"));
        assert_eq!((buy.closes, buy.opens, buy.cost), (count("3"), count("7"), dollars("4.20")));
        assert!(buy.crosses);
    }

    #[test]
    fn a_price_off_the_grid_is_snapped_to_no_worse_and_never_far() {
        let of_price = |action, outcome, price| {
            let preview = preview(&asked(action, outcome, "1", price), &seen("0", "0"), "demo");
            preview.map(|preview| (preview.price, preview.yes_price))
        };
        let buy_yes = of_price(Action::Buy, Outcome::Yes, "0.555");
        assert_eq!(buy_yes, Ok((dollars("0.55"), dollars("0.55"))));
        let buy_no = of_price(Action::Buy, Outcome::No, "0.445");
        assert_eq!(buy_no, Ok((dollars("0.44"), dollars("0.56"))));
        let sell_yes = of_price(Action::Sell, Outcome::Yes, "0.555");
        assert_eq!(sell_yes, Ok((dollars("0.56"), dollars("0.56"))));
        let below = of_price(Action::Buy, Outcome::Yes, "0.0001").unwrap_err();
        assert!(below.contains("0.0010"), "{below}");
        let text = of(&asked(Action::Buy, Outcome::Yes, "1", "0.555"), &seen("0", "0")).text();
        assert!(text.contains("0.5550 is not one of this market's: 0.5500 is sent"), "{text}");
    }

    #[test]
    fn a_fee_that_is_not_known_is_said_and_no_worst_cost_is_made_up() {
        let mut seen = seen("0", "0");
        seen.fees = FeeSchedule::new("flat".into(), "1".parse().unwrap());
        let preview = of(&asked(Action::Buy, Outcome::Yes, "1", "0.50"), &seen);
        assert_eq!((preview.fee, preview.worst_cost), (None, None));
        assert!(preview.text().contains("not known"));
    }

    #[test]
    fn the_worst_fee_of_a_steep_schedule_is_that_of_the_middle() {
        let mut seen = seen("0", "0");
        seen.fees = FeeSchedule::new("quadratic".into(), "20".parse().unwrap());
        let preview = of(&asked(Action::Buy, Outcome::Yes, "1", "0.90"), &seen);
        // 0.07 × 20 × 0.25 and a step of rounding, beside the price.
        assert_eq!(preview.worst_cost, Some(dollars("1.2501")));
    }

    #[test]
    fn the_text_says_everything_that_a_person_must_know() {
        let text = of(&asked(Action::Buy, Outcome::No, "10", "0.44"), &seen("4", "0")).text();
        assert_eq!(
            text,
            "  environment  demo: no real money\n  \
             market       KXTEST-26-A  A test\n  \
             order        10.00 × buy NO at 0.4400\n  \
             in the book  ask at 0.5600 (the price of YES)\n  \
             cost         2.6400 + fee 0.17248; at most 2.81348 in all\n  \
             closes       4.00 contracts of the position\n  \
             position     4.00 YES → 6.00 NO if it trades in full\n  \
             best prices  YES bid 0.5500 × 300.00, ask 0.5700 × 12.00\n  \
             then         rests until it is canceled\n  \
             client id    cli-1\n"
        );
    }

    #[test]
    fn only_the_same_count_and_price_confirm() {
        let preview = of(&asked(Action::Buy, Outcome::No, "10", "0.44"), &seen("0", "0"));
        assert_eq!(preview.confirmation(), "10 @ 0.44");
        for typed in ["10 @ 0.44", "10@0.4400\n", " 10.00 @ .44 "] {
            assert!(is_confirmed(typed, preview.count, preview.price), "{typed}");
        }
        for typed in ["", "y", "yes", "10", "0.44", "10 @ 0.45", "11 @ 0.44", "10 @ 44"] {
            assert!(!is_confirmed(typed, preview.count, preview.price), "{typed}");
        }
    }
}
