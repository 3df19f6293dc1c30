use kalshi_types::PriceRange;

use super::{batch::BatchStatus, *};
use crate::{
    engine::{
        NewBlock,
        block::BlockStatus,
        fees::Fees,
        types::{Decrease, NewMarket, OrderStatus, RefusalKind},
    },
    random::Random,
};

const START: i64 = 1_790_000_000_000;
const DAY: i64 = 24 * 60 * 60 * 1_000;

/// An exchange with three members, and markets in cents.
struct Floor {
    engine: Engine,
    asks: AccountId,
    makes: AccountId,
    third: AccountId,
    now: i64,
}

impl Floor {
    fn new(tickers: &[&str]) -> Self {
        let mut engine = Engine::default();
        let now = Time::from_millis(START);
        for ticker in tickers {
            let band = PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::CENT };
            let new = NewMarket {
                ticker: (*ticker).to_owned(),
                event_ticker: "EVENT".to_owned(),
                series_ticker: "SERIES".to_owned(),
                shard: 0,
                structure: "linear_cent".to_owned(),
                ranges: vec![band],
                fees: Fees::default(),
                opens: now,
                closes: Time::from_millis(START + 30 * DAY),
                settlement_timer_seconds: 60,
            };
            engine.add_market(&new, now).unwrap();
        }
        let [asks, makes, third] = [(); 3].map(|()| {
            let account = engine.ledger.open(false);
            engine.ledger.deposit(account, 0, 0, dollars("1000"), now).unwrap();
            account
        });
        Self { engine, asks, makes, third, now: START }
    }

    fn time(&self) -> Time {
        Time::from_millis(self.now)
    }

    fn wait(&mut self, millis: i64) {
        self.now += millis;
        self.engine.advance(self.time());
        self.engine.audit().unwrap();
    }

    fn request(&self, ticker: &str, contracts: &str) -> NewRfq {
        NewRfq {
            account: self.asks,
            subaccount: 0,
            ticker: ticker.to_owned(),
            size: Size::Contracts(count(contracts)),
            rest_remainder: false,
            replace_existing: false,
            obscured: false,
        }
    }

    fn ask(&mut self, ticker: &str) -> RfqId {
        let new = self.request(ticker, "10");
        self.engine.create_rfq(&new, self.time()).unwrap()
    }

    fn quoter(&self, account: AccountId) -> Quoter {
        let _ = self;
        Quoter { account, subaccount: 0, rest_remainder: false, post_only: false }
    }

    fn bid(&mut self, rfq: RfqId, yes: &str, no: &str) -> Result<QuoteId, Refusal> {
        let quoter = self.quoter(self.makes);
        self.bid_as(quoter, rfq, yes, no)
    }

    fn bid_as(
        &mut self,
        quoter: Quoter,
        rfq: RfqId,
        yes: &str,
        no: &str,
    ) -> Result<QuoteId, Refusal> {
        self.engine.create_quote(quoter, bids(rfq, yes, no), self.time())
    }

    fn accept(&mut self, quote: QuoteId, side: Side) -> Result<(), Refusal> {
        self.engine.accept_quote(who(self.asks), None, quote, side, self.time())
    }

    fn confirm(&mut self, quote: QuoteId) -> Result<(), Refusal> {
        self.engine.confirm_quote(who(self.makes), None, quote, self.time())
    }

    fn place(&mut self, account: AccountId, side: Side, price: &str, contracts: &str) -> OrderId {
        let order =
            NewOrder::resting(account, "A".to_owned(), side, dollars(price), count(contracts));
        self.engine.place_order(&order, self.time()).unwrap().order
    }

    fn position(&self, account: AccountId, market: u32) -> Count {
        let place = PositionKey { account, subaccount: 0, market: MarketId(market), shard: 0 };
        self.engine.ledger.position(place).map_or(Count::ZERO, crate::engine::Position::net)
    }

    fn status(&self, quote: QuoteId) -> QuoteStatus {
        self.engine.quote(quote).unwrap().status
    }

    fn ending(&self, quote: QuoteId) -> Ending {
        self.engine.quote(quote).unwrap().cancelled.unwrap().1
    }

    /// A batch on the markets A and B, and quotes of two makers on both.
    fn batch(&mut self) -> (BatchId, Vec<RfqId>, [BatchQuoteId; 2]) {
        let children = [self.request("A", "10"), self.request("B", "10")];
        let id = self.engine.create_batch(&children, None, self.time()).unwrap();
        let rfqs = self.engine.batch(id).unwrap().rfqs.clone();
        let quotes = [(self.makes, ["0.40", "0.30"]), (self.third, ["0.35", "0.45"])].map(
            |(account, yes)| {
                let rows: Vec<Bids> =
                    rfqs.iter().zip(yes).map(|(rfq, yes)| bids(*rfq, yes, "0.20")).collect();
                let quoter = self.quoter(account);
                self.engine.create_batch_quote(quoter, id, &rows, self.time()).unwrap()
            },
        );
        (id, rfqs, quotes)
    }

    fn accept_batch(&mut self, id: BatchId, limits: &[(RfqId, &str)]) -> Result<usize, Refusal> {
        let limits = limits.iter().map(|(rfq, limit)| (*rfq, dollars(limit))).collect();
        let (who, now) = (who(self.asks), self.time());
        self.engine
            .accept_batch(who, id, Side::Bid, &limits, Some("mine"), now)
            .map(|quotes| quotes.len())
    }
}

fn dollars(text: &str) -> Dollars {
    text.parse().unwrap()
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}

fn bids(rfq: RfqId, yes: &str, no: &str) -> Bids {
    Bids { rfq, yes: dollars(yes), no: dollars(no) }
}

fn who(account: AccountId) -> Principal {
    Principal::member(account)
}

#[test]
fn the_side_that_is_accepted_is_the_makers_bid() {
    for (side, maker, price) in [(Side::Ask, "-10", "0.60"), (Side::Bid, "10", "0.55")] {
        let mut floor = Floor::new(&["A"]);
        let rfq = floor.ask("A");
        let quote = floor.bid(rfq, "0.55", "0.40").unwrap();
        floor.accept(quote, side).unwrap();
        floor.wait(29_999);
        floor.confirm(quote).unwrap();
        floor.wait(14_999);
        assert_eq!(floor.status(quote), QuoteStatus::Confirmed);
        assert_eq!(floor.position(floor.asks, 1), Count::ZERO);
        floor.wait(1);
        assert_eq!(floor.status(quote), QuoteStatus::Executed);
        assert_eq!(floor.position(floor.makes, 1), count(maker));
        assert_eq!(floor.position(floor.asks, 1), Count::ZERO.saturating_sub(count(maker)));
        let trade = floor.engine.trades().last().unwrap();
        assert_eq!((trade.price, trade.count), (dollars(price), count("10")));
        // The requester's order came second, so it is the taker.
        assert_eq!(trade.taker_side, side.opposite());
        let done = floor.engine.quote(quote).unwrap().clone();
        let made = floor.engine.order(done.order.unwrap()).unwrap();
        assert_eq!(made.account, floor.makes);
        let id = made.extras().client_order_id.as_deref().unwrap();
        assert!(id.starts_with("quote:") && id.ends_with(&quote.to_string()), "{id}");
        assert_eq!(floor.engine.order(done.rfq_order.unwrap()).unwrap().account, floor.asks);
        assert_eq!(floor.engine.rfq(rfq).unwrap().closed.unwrap().1, Ending::Executed);
    }
}

#[test]
fn a_quote_that_is_not_confirmed_in_time_is_void_and_the_request_stays_open() {
    for (ticker, wait) in [("A", 30_000), ("KXMVEX", 3_000)] {
        let mut floor = Floor::new(&[ticker]);
        let rfq = floor.ask(ticker);
        let quote = floor.bid(rfq, "0.55", "0.40").unwrap();
        floor.accept(quote, Side::Bid).unwrap();
        floor.wait(wait - 1);
        assert_eq!(floor.status(quote), QuoteStatus::Accepted);
        floor.wait(1);
        assert_eq!(floor.ending(quote), Ending::NotConfirmed);
        assert_eq!(floor.confirm(quote).unwrap_err().kind, RefusalKind::Invalid);
        assert!(floor.engine.rfq(rfq).unwrap().is_open());
        let again = floor.bid(rfq, "0.55", "0.40").unwrap();
        floor.accept(again, Side::Bid).unwrap();
    }
}

#[test]
fn combos_are_executed_after_a_second() {
    let mut floor = Floor::new(&["KXMVEX"]);
    let rfq = floor.ask("KXMVEX");
    let quote = floor.bid(rfq, "0.55", "0.40").unwrap();
    floor.accept(quote, Side::Bid).unwrap();
    floor.confirm(quote).unwrap();
    floor.wait(999);
    assert_eq!(floor.status(quote), QuoteStatus::Confirmed);
    floor.wait(1);
    assert_eq!(floor.status(quote), QuoteStatus::Executed);
}

#[test]
fn third_parties_trade_with_the_orders_and_the_flags_say_what_becomes_of_the_rest() {
    for rests in [false, true] {
        let mut floor = Floor::new(&["A"]);
        let mut new = floor.request("A", "10");
        new.rest_remainder = rests;
        let rfq = floor.engine.create_rfq(&new, floor.time()).unwrap();
        let quote = floor.bid(rfq, "0", "0.40").unwrap();
        floor.accept(quote, Side::Ask).unwrap();
        floor.confirm(quote).unwrap();
        floor.place(floor.third, Side::Bid, "0.60", "4");
        floor.wait(15_000);
        assert_eq!(floor.position(floor.third, 1), count("4"));
        assert_eq!(floor.position(floor.makes, 1), count("-10"));
        assert_eq!(floor.position(floor.asks, 1), count("6"));
        let order = floor.engine.quote(quote).unwrap().rfq_order.unwrap();
        let order = floor.engine.order(order).unwrap();
        let expected = if rests {
            (OrderStatus::Resting, count("4"))
        } else {
            (OrderStatus::Canceled, Count::ZERO)
        };
        assert_eq!((order.status, order.remaining), expected);
    }
    for rests in [false, true] {
        let mut floor = Floor::new(&["A"]);
        let rfq = floor.ask("A");
        let quoter = Quoter { rest_remainder: rests, ..floor.quoter(floor.makes) };
        let quote = floor.bid_as(quoter, rfq, "0", "0.40").unwrap();
        floor.accept(quote, Side::Ask).unwrap();
        floor.confirm(quote).unwrap();
        // The requester gets a better price from another member for a part.
        floor.place(floor.third, Side::Ask, "0.59", "4");
        floor.wait(15_000);
        assert_eq!(floor.position(floor.asks, 1), count("10"));
        assert_eq!(floor.position(floor.third, 1), count("-4"));
        assert_eq!(floor.position(floor.makes, 1), count("-6"));
        let order = floor.engine.quote(quote).unwrap().order.unwrap();
        let status = floor.engine.order(order).unwrap().status;
        assert_eq!(status == OrderStatus::Resting, rests);
    }
}

#[test]
fn a_post_only_quote_takes_nothing_from_the_book() {
    for (post_only, made) in [(true, "0"), (false, "-10")] {
        let mut floor = Floor::new(&["A"]);
        let rfq = floor.ask("A");
        let quoter = Quoter { post_only, ..floor.quoter(floor.makes) };
        let quote = floor.bid_as(quoter, rfq, "0", "0.40").unwrap();
        floor.accept(quote, Side::Ask).unwrap();
        floor.confirm(quote).unwrap();
        floor.place(floor.third, Side::Bid, "0.60", "4");
        floor.place(floor.third, Side::Ask, "0.61", "50");
        floor.wait(15_000);
        assert_eq!(floor.position(floor.makes, 1), count(made));
        let order = floor.engine.quote(quote).unwrap().order.unwrap();
        let reason = floor.engine.order(order).unwrap().reason;
        assert_eq!(reason == Reason::PostOnlyCrossCancel, post_only);
    }
}

#[test]
fn one_request_is_open_on_a_market_unless_a_new_one_replaces_it() {
    let mut floor = Floor::new(&["A"]);
    let first = floor.ask("A");
    let quote = floor.bid(first, "0.55", "0.40").unwrap();
    let mut new = floor.request("A", "5");
    let refusal = floor.engine.create_rfq(&new, floor.time()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    new.replace_existing = true;
    let second = floor.engine.create_rfq(&new, floor.time()).unwrap();
    assert_eq!(floor.engine.rfq(first).unwrap().closed.unwrap().1, Ending::Replaced);
    assert_eq!(floor.ending(quote), Ending::RfqClosed);
    assert_eq!(floor.bid(first, "0.55", "0.40").unwrap_err().code, "RFQ_CLOSED");
    // A confirmed quote holds its request.
    let quote = floor.bid(second, "0.55", "0.40").unwrap();
    floor.accept(quote, Side::Bid).unwrap();
    floor.confirm(quote).unwrap();
    assert!(floor.engine.create_rfq(&new, floor.time()).is_err());
    assert!(floor.engine.delete_rfq(who(floor.asks), second, floor.time()).is_err());
    assert!(floor.engine.delete_quote(who(floor.makes), None, quote, floor.time()).is_err());
    floor.wait(15_000);
    assert_eq!(floor.status(quote), QuoteStatus::Executed);
}

#[test]
fn a_hundred_requests_are_open_at_most() {
    let tickers: Vec<String> = (0..=MAX_OPEN_RFQS).map(|number| format!("M{number}")).collect();
    let mut floor = Floor::new(&tickers.iter().map(String::as_str).collect::<Vec<_>>());
    let (last, rest) = tickers.split_last().unwrap();
    let ids: Vec<RfqId> = rest.iter().map(|ticker| floor.ask(ticker)).collect();
    let mut new = floor.request(last, "1");
    new.replace_existing = true;
    let refusal = floor.engine.create_rfq(&new, floor.time()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert!(floor.engine.create_batch(&[new.clone()], None, floor.time()).is_err());
    floor.engine.delete_rfq(who(floor.asks), ids[0], floor.time()).unwrap();
    floor.engine.create_rfq(&new, floor.time()).unwrap();
}

#[test]
fn bids_that_make_no_sense_are_refused() {
    let mut floor = Floor::new(&["A"]);
    let rfq = floor.ask("A");
    for (yes, no) in [
        ("0", "0"),
        ("0.555", "0.40"),
        ("0.55", "0.405"),
        ("0.60", "0.41"),
        ("-0.01", "0.40"),
        ("1", "0"),
        ("0", "1"),
        ("9000000000000", "0"),
    ] {
        let refusal = floor.bid(rfq, yes, no).unwrap_err();
        assert_eq!(refusal.code, "invalid_parameters", "{yes} {no}");
    }
    let own = floor.quoter(floor.asks);
    assert!(floor.bid_as(own, rfq, "0.55", "0.40").is_err());
    let elsewhere = Quoter { subaccount: 7, ..floor.quoter(floor.makes) };
    assert!(floor.bid_as(elsewhere, rfq, "0.55", "0.40").is_err());
    let exact = floor.bid(rfq, "0.60", "0.40").unwrap();
    assert_eq!(floor.status(exact), QuoteStatus::Open);
    let one_side = floor.bid(rfq, "0", "0.40").unwrap();
    assert!(floor.accept(one_side, Side::Bid).is_err());
}

#[test]
fn a_new_quote_replaces_the_members_own_old_one_only() {
    let mut floor = Floor::new(&["A"]);
    let rfq = floor.ask("A");
    let first = floor.bid(rfq, "0.50", "0.40").unwrap();
    let other = floor.bid_as(floor.quoter(floor.third), rfq, "0.50", "0.40").unwrap();
    let second = floor.bid(rfq, "0.51", "0.40").unwrap();
    assert_eq!(floor.ending(first), Ending::Replaced);
    assert_eq!(floor.status(other), QuoteStatus::Open);
    assert_eq!(floor.engine.best_quote(rfq, Side::Bid).unwrap().id, second);
    // Of equal bids the older one is the best.
    assert_eq!(floor.engine.best_quote(rfq, Side::Ask).unwrap().id, other);
    // The quote of one maker is no business of another.
    let (third, now) = (who(floor.third), floor.time());
    let refusal = floor.engine.delete_quote(third, None, second, now).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    assert!(floor.engine.party_quote(third, None, second).is_err());
    assert!(floor.engine.party_quote(who(floor.makes), Some(RfqId(99)), second).is_err());
    // While one is accepted, no other can be.
    floor.accept(other, Side::Bid).unwrap();
    assert!(floor.accept(second, Side::Bid).is_err());
    floor.engine.delete_quote(third, None, other, now).unwrap();
    floor.accept(second, Side::Bid).unwrap();
}

#[test]
fn a_target_cost_buys_what_it_pays_for_with_or_without_fees() {
    // The requester buys YES at 0.60 if the NO bid is taken, and NO at 0.45 if the YES bid is.
    for (excludes_fees, yes, no) in [(true, "22.22", "16.66"), (false, "21.39", "16.21")] {
        let mut floor = Floor::new(&["A"]);
        let target = dollars("10");
        let mut new = floor.request("A", "1");
        new.size = Size::Cost { target, excludes_fees };
        let rfq = floor.engine.create_rfq(&new, floor.time()).unwrap();
        let quote = floor.bid(rfq, "0.55", "0.40").unwrap();
        let quote = floor.engine.quote(quote).unwrap().clone();
        assert_eq!((quote.yes_count, quote.no_count), (count(yes), count(no)));
        let spent = |price: &str, leg: &str, contracts: Count| {
            let fee = Fees::default().of(dollars(price), contracts, false);
            let fee = if excludes_fees { Dollars::ZERO } else { fee };
            cost(dollars(leg), contracts).saturating_add(fee)
        };
        let step = Count::from_hundredths(1);
        assert!(spent("0.60", "0.60", quote.no_count) <= target);
        assert!(spent("0.60", "0.60", quote.no_count.saturating_add(step)) > target);
        assert!(spent("0.55", "0.45", quote.yes_count) <= target);
        assert!(spent("0.55", "0.45", quote.yes_count.saturating_add(step)) > target);
    }
}

#[test]
fn money_is_asked_for_at_each_step_and_its_lack_voids_the_quote() {
    let mut floor = Floor::new(&["A"]);
    let big = floor.request("A", "3000");
    let rfq = floor.engine.create_rfq(&big, floor.time()).unwrap();
    assert_eq!(floor.bid(rfq, "0.55", "0.40").unwrap_err().code, "INSUFFICIENT_BALANCE");
    // 3,000 YES at 0.30 are there, but not the requester's 3,000 NO at 0.70.
    let quote = floor.bid(rfq, "0.30", "0").unwrap();
    assert_eq!(floor.accept(quote, Side::Bid).unwrap_err().code, "INSUFFICIENT_BALANCE");
    assert_eq!(floor.status(quote), QuoteStatus::Open);

    let mut small = floor.request("A", "1000");
    small.replace_existing = true;
    let rfq = floor.engine.create_rfq(&small, floor.time()).unwrap();
    let quote = floor.bid(rfq, "0.30", "0").unwrap();
    floor.accept(quote, Side::Bid).unwrap();
    let order = floor.place(floor.makes, Side::Bid, "0.01", "80000");
    assert_eq!(floor.confirm(quote).unwrap_err().code, "INSUFFICIENT_BALANCE");
    let (route, now) = (Route::default(), floor.time());
    let by = Decrease::To(Count::ONE);
    floor.engine.decrease(floor.makes, 0, order, by, &route, now).unwrap();
    floor.confirm(quote).unwrap();
    floor.place(floor.makes, Side::Bid, "0.01", "80000");
    floor.wait(15_000);
    assert_eq!(floor.ending(quote), Ending::OrderRefused);
    assert!(floor.engine.rfq(rfq).unwrap().is_open());
    assert_eq!(floor.position(floor.asks, 1), Count::ZERO);
}

#[test]
fn what_came_to_nothing_is_forgotten_after_seven_days_and_an_accepted_quote_never() {
    let mut floor = Floor::new(&["A", "B"]);
    let (first, second) = (floor.ask("A"), floor.ask("B"));
    let withdrawn = floor.bid(first, "0.50", "0.40").unwrap();
    let executed = floor.bid(second, "0.50", "0.40").unwrap();
    floor.accept(executed, Side::Bid).unwrap();
    floor.confirm(executed).unwrap();
    floor.engine.delete_rfq(who(floor.asks), first, floor.time()).unwrap();
    floor.wait(15_000);
    floor.wait(7 * DAY - 15_001);
    assert!(floor.engine.rfq(first).is_some() && floor.engine.quote(withdrawn).is_some());
    floor.wait(1);
    assert!(floor.engine.rfq(first).is_none() && floor.engine.quote(withdrawn).is_none());
    floor.wait(15_000);
    assert!(floor.engine.rfq(second).is_none());
    let quote = floor.engine.quote(executed).unwrap();
    assert_eq!(floor.engine.rfq_of(quote).unwrap().id, second);
    assert_eq!(floor.engine.rfqs().count(), 0);
}

#[test]
fn the_close_of_a_market_closes_its_requests() {
    let mut floor = Floor::new(&["A", "B"]);
    let (first, second) = (floor.ask("A"), floor.ask("B"));
    let open = floor.bid(first, "0.50", "0.40").unwrap();
    let confirmed = floor.bid(second, "0.50", "0.40").unwrap();
    floor.wait(30 * DAY - 5_000);
    floor.accept(confirmed, Side::Bid).unwrap();
    floor.confirm(confirmed).unwrap();
    floor.wait(5_000);
    assert_eq!(floor.engine.rfq(first).unwrap().closed.unwrap().1, Ending::MarketClosed);
    assert_eq!(floor.ending(open), Ending::RfqClosed);
    floor.wait(10_000);
    assert_eq!(floor.ending(confirmed), Ending::OrderRefused);
    assert_eq!(floor.engine.rfq(second).unwrap().closed.unwrap().1, Ending::MarketClosed);
}

#[test]
fn a_batch_takes_the_best_bid_of_each_request_and_is_executed_by_parts() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, rfqs, [first, second]) = floor.batch();
    let version = floor.engine.batch(id).unwrap().version;
    assert_eq!(version, 4);
    // Too high a limit, a request without one, and one of elsewhere.
    for limits in [
        vec![(rfqs[0], "0.41"), (rfqs[1], "0.45")],
        vec![(rfqs[0], "0.40")],
        vec![(rfqs[0], "0.40"), (rfqs[1], "0.45"), (RfqId(99), "0.01")],
    ] {
        assert!(floor.accept_batch(id, &limits).is_err());
    }
    assert_eq!(floor.engine.batch(id).unwrap().status, BatchStatus::Open);
    let limits = [(rfqs[0], "0.40"), (rfqs[1], "0.45")];
    assert_eq!(floor.accept_batch(id, &limits).unwrap(), 2);
    assert_eq!(floor.engine.batch(id).unwrap().status, BatchStatus::Accepted);
    assert!(floor.engine.batch(id).unwrap().version > version);
    assert!(floor.accept_batch(id, &limits).is_err());
    let (makes, now) = (who(floor.makes), floor.time());
    assert!(floor.engine.confirm_batch_quote(makes, id, second, now).is_err());
    floor.engine.confirm_batch_quote(makes, id, first, now).unwrap();
    assert!(floor.engine.delete_batch(who(floor.asks), id, now).is_err());
    floor.wait(15_000);
    assert_eq!(floor.position(floor.makes, 1), count("10"));
    // The other maker can still confirm.
    assert_eq!(floor.engine.batch(id).unwrap().status, BatchStatus::Accepted);
    floor.wait(15_000);
    let batch = floor.engine.batch(id).unwrap();
    assert_eq!((batch.status, batch.closed.unwrap().1), (BatchStatus::Closed, Ending::Executed));
    assert_eq!(floor.position(floor.third, 2), Count::ZERO);
    assert!(rfqs.iter().all(|rfq| !floor.engine.rfq(*rfq).unwrap().is_open()));
    // Both requests are out of the way of new ones.
    floor.ask("A");
    floor.ask("B");
}

#[test]
fn a_batch_without_confirmation_is_open_again() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, rfqs, [first, _]) = floor.batch();
    let limits = [(rfqs[0], "0.01"), (rfqs[1], "0.01")];
    floor.accept_batch(id, &limits).unwrap();
    floor.wait(30_000);
    let batch = floor.engine.batch(id).unwrap();
    assert_eq!((batch.status, batch.accepted), (BatchStatus::Open, None));
    // The bids that were not the best are still there.
    assert_eq!(floor.accept_batch(id, &limits).unwrap(), 2);
    let now = floor.time();
    floor.engine.delete_batch_quote(who(floor.makes), id, first, now).unwrap();
    assert!(floor.engine.delete_batch_quote(who(floor.makes), id, first, now).is_err());
    floor.engine.delete_batch(who(floor.asks), id, now).unwrap();
    assert_eq!(floor.engine.batch(id).unwrap().closed.unwrap().1, Ending::Deleted);
    assert!(floor.engine.delete_batch(who(floor.asks), id, now).is_err());
    floor.wait(7 * DAY);
    assert!(floor.engine.batch(id).is_none() && floor.engine.batch_quote(first).is_none());
}

#[test]
fn parts_of_a_batch_go_with_the_batch_only() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, rfqs, [first, _]) = floor.batch();
    let part = floor.engine.batch_quote(first).unwrap().quotes[0];
    let (asks, makes, now) = (who(floor.asks), who(floor.makes), floor.time());
    assert!(floor.engine.delete_rfq(asks, rfqs[0], now).is_err());
    assert!(floor.accept(part, Side::Bid).is_err());
    assert!(floor.engine.delete_quote(makes, None, part, now).is_err());
    let twice = [floor.request("A", "1"), floor.request("A", "1")];
    assert!(floor.engine.create_batch(&twice, None, now).is_err());
    // A new batch quote replaces the old one with all its parts.
    let quoter = floor.quoter(floor.makes);
    let rows = [bids(rfqs[0], "0.42", "0")];
    floor.engine.create_batch_quote(quoter, id, &rows, now).unwrap();
    assert!(floor.engine.delete_batch_quote(makes, id, first, now).is_err());
    // A single request in the way of a child takes the whole batch along.
    let mut new = floor.request("B", "1");
    new.replace_existing = true;
    floor.engine.create_rfq(&new, now).unwrap();
    assert_eq!(floor.engine.batch(id).unwrap().closed.unwrap().1, Ending::Replaced);
}

fn block(floor: &Floor, price: i64) -> NewBlock {
    NewBlock {
        proposer: floor.third,
        buyer: (floor.asks, None),
        seller: (floor.makes, Some(0)),
        ticker: "A".to_owned(),
        price: Dollars::from_centi_cents(price).unwrap(),
        count: count("12.34"),
        maker: Side::Bid,
        expires: Time::from_millis(floor.now + 60_000),
    }
}

#[test]
fn a_block_trade_is_on_the_tape_once_both_parties_accept() {
    let mut floor = Floor::new(&["A"]);
    floor.place(floor.third, Side::Bid, "0.99", "5");
    // Off the grid, and far from the book, which it does not touch.
    let id = floor.engine.propose_block(&block(&floor, 5_555), floor.time()).unwrap();
    let now = floor.time();
    assert!(floor.engine.accept_block(floor.third, id, None, now).is_err());
    floor.engine.accept_block(floor.asks, id, None, now).unwrap();
    floor.engine.accept_block(floor.asks, id, None, now).unwrap();
    assert_eq!(floor.engine.trades().len(), 0);
    assert!(floor.engine.accept_block(floor.makes, id, Some(1), now).is_err());
    floor.engine.accept_block(floor.makes, id, Some(0), now).unwrap();
    floor.engine.accept_block(floor.makes, id, None, now).unwrap();
    floor.engine.audit().unwrap();
    let trade = floor.engine.trades().last().unwrap();
    assert_eq!((trade.price, trade.count), (dollars("0.5555"), count("12.34")));
    assert!(trade.block && trade.taker_side == Side::Ask);
    assert_eq!(floor.position(floor.asks, 1), count("12.34"));
    assert_eq!(floor.position(floor.makes, 1), count("-12.34"));
    let market = floor.engine.market_by_ticker("A").unwrap();
    assert_eq!(market.open_interest, count("12.34"));
    assert_eq!(market.prices().bid.unwrap().count, count("5"));
    for account in [floor.asks, floor.makes, floor.third] {
        let shown = floor.engine.blocks(account).next().unwrap();
        assert_eq!(shown.status, BlockStatus::Executed);
        let order = floor.engine.order(shown.buyer.order.unwrap()).unwrap();
        assert_eq!((order.status, order.account), (OrderStatus::Executed, floor.asks));
    }
    let fills = |account| floor.engine.ledger.account(account).unwrap().fills.clone();
    assert!(!fills(floor.asks)[0].taker && fills(floor.makes)[0].taker);
    assert_eq!(fills(floor.asks)[0].trade, fills(floor.makes)[0].trade);
}

#[test]
fn a_block_trade_needs_money_and_time() {
    let mut floor = Floor::new(&["A"]);
    let mut new = block(&floor, 5_000);
    new.count = count("5000");
    let id = floor.engine.propose_block(&new, floor.time()).unwrap();
    let refusal = floor.engine.accept_block(floor.asks, id, None, floor.time()).unwrap_err();
    assert_eq!(refusal.code, "INSUFFICIENT_BALANCE");
    assert!(floor.engine.blocks(floor.asks).next().unwrap().buyer.accepted.is_none());
    // The money of the side that accepted first has gone meanwhile.
    new.count = count("1000");
    let second = floor.engine.propose_block(&new, floor.time()).unwrap();
    floor.engine.accept_block(floor.asks, second, None, floor.time()).unwrap();
    floor.place(floor.asks, Side::Bid, "0.90", "1000");
    let refusal = floor.engine.accept_block(floor.makes, second, None, floor.time()).unwrap_err();
    assert_eq!(refusal.code, "INSUFFICIENT_BALANCE");
    assert_eq!(floor.engine.trades().len(), 0);
    floor.wait(60_000);
    assert!(floor.engine.accept_block(floor.makes, second, None, floor.time()).is_err());
    assert_eq!(floor.engine.blocks(floor.asks).next().unwrap().status, BlockStatus::Expired);
    floor.wait(7 * DAY);
    assert_eq!(floor.engine.blocks(floor.asks).count(), 0);
    for (price, contracts) in [(0, "1"), (10_000, "1"), (-1, "1"), (5_000, "0"), (5_000, "-1")] {
        let mut bad = block(&floor, price);
        bad.count = count(contracts);
        assert!(floor.engine.propose_block(&bad, floor.time()).is_err(), "{price} {contracts}");
    }
    let mut alone = block(&floor, 5_000);
    alone.seller = (alone.buyer.0, Some(1));
    assert!(floor.engine.propose_block(&alone, floor.time()).is_err());
}

/// Random members do random things: whatever happens, money and contracts add up, and what is open
/// is found where it should be.
#[expect(clippy::too_many_lines, reason = "one arm for each thing that can be asked")]
#[test]
fn whatever_is_asked_quoted_and_accepted_adds_up() {
    let mut executed = 0;
    for seed in 0..8 {
        let mut floor = Floor::new(&["A", "B", "KXMVEX"]);
        let mut random = Random::new(seed);
        let mut pick = move |below: u64| i64::try_from(random.below(below)).unwrap();
        for _ in 0..2_500 {
            let accounts = [floor.asks, floor.makes, floor.third];
            let account = accounts[usize::try_from(pick(3)).unwrap()];
            let ticker = ["A", "B", "KXMVEX"][usize::try_from(pick(3)).unwrap()];
            let side = if pick(2) == 0 { Side::Bid } else { Side::Ask };
            let (who, now) = (who(account), floor.time());
            let engine = &mut floor.engine;
            let rfq = RfqId(u64::try_from(pick(6)).unwrap().abs_diff(engine.rfq_book.last_rfq));
            let quote =
                QuoteId(u64::try_from(pick(6)).unwrap().abs_diff(engine.rfq_book.last_quote));
            let batch = BatchId(engine.rfq_book.last_batch);
            let whole = BatchQuoteId(
                engine.rfq_book.last_batch_quote.saturating_sub(pick(2).unsigned_abs()),
            );
            let new = |ticker: &str, replace_existing, contracts: i64| NewRfq {
                account,
                subaccount: 0,
                ticker: ticker.to_owned(),
                size: if contracts % 2 == 0 {
                    Size::Contracts(Count::from_hundredths(contracts))
                } else {
                    let target = Dollars::from_micros(contracts * 10_000);
                    Size::Cost { target, excludes_fees: contracts % 3 == 0 }
                },
                rest_remainder: contracts % 5 == 0,
                replace_existing,
                obscured: false,
            };
            let quoter = Quoter {
                account,
                subaccount: 0,
                rest_remainder: pick(2) == 0,
                post_only: pick(4) == 0,
            };
            let yes = Dollars::from_micros(pick(100) * 10_000);
            let no = Dollars::from_micros(pick(100) * 10_000);
            let (yes, no) = if yes.saturating_add(no) > Dollars::ONE {
                (other_leg(yes), other_leg(no))
            } else {
                (yes, no)
            };
            // Refusals are part of it.
            match pick(16) {
                0 | 1 => drop(engine.create_rfq(&new(ticker, pick(3) == 0, pick(5_000)), now)),
                2..=5 => drop(engine.create_quote(quoter, Bids { rfq, yes, no }, now)),
                6 | 7 => {
                    let rfq = engine.quote(quote).and_then(|quote| engine.rfq_of(quote));
                    let account = rfq.map_or(account, |rfq| rfq.account);
                    let who = Principal::member(account);
                    drop(engine.accept_quote(who, None, quote, side, now));
                }
                8 | 9 => {
                    let account = engine.quote(quote).map_or(account, |quote| quote.account);
                    let who = Principal::member(account);
                    drop(engine.confirm_quote(who, None, quote, now));
                }
                10 => match pick(8) {
                    0 => drop(engine.delete_rfq(who, rfq, now)),
                    1 => drop(engine.delete_quote(who, None, quote, now)),
                    2 => drop(engine.delete_batch(who, batch, now)),
                    3 => drop(engine.delete_batch_quote(who, batch, whole, now)),
                    _ => {}
                },
                11 if pick(4) == 0 => {
                    let children = [new("A", true, pick(5_000)), new("B", true, pick(5_000))];
                    drop(engine.create_batch(&children, None, now));
                }
                12 | 13 => {
                    let rfqs = engine.batch(batch).map_or(Vec::new(), |found| found.rfqs.clone());
                    let rows: Vec<Bids> =
                        rfqs.iter().map(|rfq| Bids { rfq: *rfq, yes, no }).collect();
                    drop(engine.create_batch_quote(quoter, batch, &rows, now));
                    let limits = rfqs.iter().map(|rfq| (*rfq, Dollars::ZERO)).collect();
                    let asks = engine.batch(batch).map_or(account, |found| found.account);
                    let asks = Principal::member(asks);
                    drop(engine.accept_batch(asks, batch, side, &limits, None, now));
                }
                14 => drop(engine.confirm_batch_quote(who, batch, whole, now)),
                _ => {
                    let price = ["0.30", "0.50", "0.70"][usize::try_from(pick(3)).unwrap()];
                    let free = engine.ledger.balance(account, 0, 0).free();
                    if free > dollars("100") {
                        floor.place(account, side, price, "3");
                    }
                }
            }
            floor.wait(pick(2_500));
            let book = &floor.engine.rfq_book;
            let open = book.rfqs.values().filter(|rfq| rfq.is_open()).count();
            let listed: usize = book.open.values().map(BTreeMap::len).sum();
            assert_eq!(open, listed);
            for quote in book.quotes.values() {
                if matches!(
                    quote.status,
                    QuoteStatus::Open | QuoteStatus::Accepted | QuoteStatus::Confirmed
                ) {
                    assert!(book.rfqs[&quote.rfq].is_open(), "{quote:?}");
                }
            }
        }
        executed += floor.engine.quotes().filter(|quote| quote.executed.is_some()).count();
    }
    assert!(executed > 100, "{executed} quotes were executed");
}
