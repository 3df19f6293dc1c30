use kalshi_types::PriceRange;

use super::*;
use crate::engine::{
    NewBlock,
    block::BlockStatus,
    fees::Fees,
    types::{Decrease, NewMarket, RefusalKind, Route},
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
            engine.add_market(&market(ticker, 0), now).unwrap();
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

    /// Returns a batch to make, with ten contracts on each market.
    fn new_batch(&self, tickers: &[&str]) -> NewBatch {
        let size = Size::Contracts(count("10"));
        NewBatch {
            account: self.asks,
            subaccount: 0,
            obscured: false,
            replace_existing: false,
            client_batch_id: None,
            children: tickers.iter().map(|ticker| ((*ticker).to_owned(), size)).collect(),
        }
    }

    fn open_batch(&mut self, new: &NewBatch) -> Result<BatchId, Refusal> {
        self.engine.create_batch(new, self.time())
    }

    /// Returns a batch on the markets A and B, and quotes of two makers on both: the first is
    /// better on A, the second on B.
    fn batch(&mut self) -> (BatchId, Vec<RfqId>, [BatchQuoteId; 2]) {
        let id = self.open_batch(&self.new_batch(&["A", "B"])).unwrap();
        let quotes = [(self.makes, ["0.40", "0.30"]), (self.third, ["0.35", "0.45"])]
            .map(|(account, yes)| self.price_batch(account, id, &yes).unwrap());
        (id, self.children(id), quotes)
    }

    fn children(&self, id: BatchId) -> Vec<RfqId> {
        self.engine.batch(id).unwrap().rfqs.clone()
    }

    /// Bids for YES on each child, and 0.20 for NO.
    fn price_batch(
        &mut self,
        account: AccountId,
        id: BatchId,
        yes: &[&str],
    ) -> Result<BatchQuoteId, Refusal> {
        let rows: Vec<Bids> = self
            .children(id)
            .into_iter()
            .zip(yes)
            .map(|(rfq, yes)| bids(rfq, yes, "0.20"))
            .collect();
        self.engine.create_batch_quote(self.quoter(account), id, &rows, self.time())
    }

    fn accept_batch(
        &mut self,
        id: BatchId,
        least: &[&str],
        client_order_id: Option<&str>,
    ) -> Result<Vec<QuoteId>, AcceptRefusal> {
        let least = self
            .children(id)
            .into_iter()
            .zip(least)
            .map(|(rfq, least)| (rfq, dollars(least)))
            .collect();
        let (who, now) = (who(self.asks), self.time());
        let accepted = self.engine.accept_batch(who, id, Side::Bid, &least, client_order_id, now);
        accepted.map(|(side, quotes)| {
            assert_eq!(side, Side::Bid);
            quotes
        })
    }

    fn confirm_batch(
        &mut self,
        account: AccountId,
        id: BatchId,
        quote: BatchQuoteId,
    ) -> Result<(), Refusal> {
        self.engine.confirm_batch_quote(who(account), id, quote, self.time())
    }

    /// Returns the status of a batch, and why it was closed.
    fn state_of(&self, id: BatchId) -> (BatchStatus, Option<Ending>) {
        let batch = self.engine.batch(id).unwrap();
        (batch.status, batch.closed.map(|(_, ending)| ending))
    }

    /// Returns the maker of the best bid for YES on each child.
    fn best_makers(&self, id: BatchId) -> Vec<Option<AccountId>> {
        let best = |rfq: RfqId| self.engine.best_quote(rfq, Side::Bid).map(|quote| quote.account);
        self.children(id).into_iter().map(best).collect()
    }
}

fn market(ticker: &str, shard: u8) -> NewMarket {
    let band = PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::CENT };
    NewMarket {
        ticker: ticker.to_owned(),
        event_ticker: "EVENT".to_owned(),
        series_ticker: "SERIES".to_owned(),
        shard,
        structure: "linear_cent".to_owned(),
        ranges: vec![band],
        fees: Fees::default(),
        opens: Time::from_millis(START),
        closes: Time::from_millis(START + 30 * DAY),
        settlement_timer_seconds: 60,
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
        let late = floor.confirm(quote).unwrap_err();
        assert_eq!((late.kind, late.code), (RefusalKind::Invalid, "expired"));
        assert_eq!(floor.accept(quote, Side::Bid).unwrap_err().code, "expired");
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
fn b1_a_batch_has_2_to_57_children_on_distinct_markets_of_one_exchange_index() {
    let tickers: Vec<String> = (0..58).map(|number| format!("M{number}")).collect();
    let tickers: Vec<&str> = tickers.iter().map(String::as_str).collect();
    let mut floor = Floor::new(&tickers);
    floor.engine.add_market(&market("C", 1), floor.time()).unwrap();
    for wrong in [&tickers[..0], &tickers[..1], &tickers[..58], &["M1", "M1"], &["M1", "C"]] {
        let refusal = floor.open_batch(&floor.new_batch(wrong)).unwrap_err();
        assert_eq!(refusal.code, "invalid_parameters", "{wrong:?}");
    }
    assert!(floor.open_batch(&floor.new_batch(&["M1", "NONE"])).is_err());
    assert_eq!(floor.engine.batches().count() + floor.engine.rfqs().count(), 0);
    for right in [&tickers[..2], &tickers[..57]] {
        let id = floor.open_batch(&floor.new_batch(right)).unwrap();
        assert_eq!(floor.children(id).len(), right.len());
    }
}

#[test]
fn b2_two_batches_are_open_at_most_and_the_oldest_give_way() {
    let mut floor = Floor::new(&["A", "B", "C"]);
    let mut new = floor.new_batch(&["A", "B"]);
    let single = floor.ask("A");
    let ids = [(); 2].map(|()| floor.open_batch(&new).unwrap());
    let refusal = floor.open_batch(&new).unwrap_err();
    assert_eq!((refusal.kind, refusal.code), (RefusalKind::Conflict, "too_many_rfq_batches"));
    new.replace_existing = true;
    // What is refused otherwise closes nothing.
    let wrong = NewBatch { children: new.children[..1].to_vec(), ..new.clone() };
    assert!(floor.open_batch(&wrong).is_err());
    let third = floor.open_batch(&new).unwrap();
    let replaced = (BatchStatus::Closed, Some(Ending::Replaced));
    assert_eq!(ids.map(|id| floor.state_of(id)), [replaced, (BatchStatus::Open, None)]);
    assert!(floor.children(ids[0]).iter().all(|rfq| !floor.engine.rfq(*rfq).unwrap().is_open()));
    // An accepted batch does not count as open, and is not replaced.
    floor.price_batch(floor.makes, ids[1], &["0.40", "0.40"]).unwrap();
    floor.accept_batch(ids[1], &["0.40", "0.40"], None).unwrap();
    let fourth = floor.open_batch(&NewBatch { replace_existing: false, ..new.clone() }).unwrap();
    floor.open_batch(&new).unwrap();
    assert_eq!(floor.state_of(third), replaced);
    assert_eq!(floor.state_of(fourth), (BatchStatus::Open, None));
    assert_eq!(floor.state_of(ids[1]).0, BatchStatus::Accepted);
    // Another member has its own two.
    new.account = floor.third;
    new.replace_existing = false;
    floor.open_batch(&new).unwrap();
    // Single requests are neither in the way nor closed.
    assert!(floor.engine.rfq(single).unwrap().is_open());
    let other = NewRfq { replace_existing: true, ..floor.request("A", "1") };
    floor.engine.create_rfq(&other, floor.time()).unwrap();
    assert_eq!(floor.state_of(fourth), (BatchStatus::Open, None));
}

#[test]
fn b2_the_requests_of_batches_and_the_hundred_single_ones_do_not_count_against_each_other() {
    let tickers: Vec<String> = (0..MAX_OPEN_RFQS).map(|number| format!("M{number}")).collect();
    let tickers: Vec<&str> = tickers.iter().map(String::as_str).collect();
    let mut floor = Floor::new(&tickers);
    let large = floor.new_batch(&tickers[..57]);
    floor.open_batch(&large).unwrap();
    for ticker in &tickers {
        floor.ask(ticker);
    }
    let second = floor.open_batch(&large).unwrap();
    let now = floor.time();
    floor.engine.delete_batch(who(floor.asks), second, now).unwrap();
    // The close of a batch frees no place of a single request.
    let again = floor.request("M0", "1");
    assert_eq!(floor.engine.create_rfq(&again, now).unwrap_err().code, "rfq_already_exists");
    assert_eq!(floor.engine.rfqs().filter(|rfq| rfq.is_open()).count(), MAX_OPEN_RFQS + 57);
}

#[test]
fn b3_an_id_names_one_batch_until_seven_days_after_its_close() {
    let mut floor = Floor::new(&["A", "B"]);
    let mut new = floor.new_batch(&["A", "B"]);
    new.client_batch_id = Some("mine".to_owned());
    let id = floor.open_batch(&new).unwrap();
    let code = |floor: &mut Floor, new: &NewBatch| {
        let refusal = floor.open_batch(new).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        refusal.code
    };
    let used = "rfq_batch_already_exists";
    assert_eq!(code(&mut floor, &new), used);
    new.replace_existing = true;
    assert_eq!(code(&mut floor, &new), used, "a retry replaces nothing");
    assert_eq!(floor.state_of(id), (BatchStatus::Open, None));
    floor.wait(DAY);
    assert_eq!(code(&mut floor, &new), used);
    floor.engine.delete_batch(who(floor.asks), id, floor.time()).unwrap();
    floor.wait(7 * DAY - 1);
    assert_eq!(code(&mut floor, &new), used);
    let other = NewBatch { account: floor.third, ..new.clone() };
    floor.open_batch(&other).unwrap();
    floor.wait(1);
    assert!(floor.engine.batch(id).is_none());
    assert_ne!(floor.open_batch(&new).unwrap(), id);
}

#[test]
fn b5_children_are_sized_the_same_way_and_leave_no_rest() {
    let mut floor = Floor::new(&["A", "B"]);
    let cost = |target: &str| Size::Cost { target: dollars(target), excludes_fees: false };
    let mut new = floor.new_batch(&["A", "B"]);
    new.children[1].1 = cost("5");
    assert_eq!(floor.open_batch(&new).unwrap_err().code, "invalid_parameters");
    new.children[0].1 = cost("0");
    assert_eq!(floor.open_batch(&new).unwrap_err().code, "invalid_parameters");
    new.children[0].1 = cost("7");
    let id = floor.open_batch(&new).unwrap();
    for (rfq, target) in floor.children(id).into_iter().zip(["7", "5"]) {
        let rfq = floor.engine.rfq(rfq).unwrap();
        assert_eq!((rfq.size, rfq.rest_remainder), (cost(target), false));
    }
}

#[test]
fn b6_a_batch_quote_prices_every_child_exactly_once() {
    let mut floor = Floor::new(&["A", "B", "C"]);
    let id = floor.open_batch(&floor.new_batch(&["A", "B"])).unwrap();
    let [a, b]: [RfqId; 2] = floor.children(id).try_into().unwrap();
    let single = floor.ask("C");
    let (quoter, now) = (floor.quoter(floor.makes), floor.time());
    for wrong in [&[a][..], &[a, a], &[a, b, b], &[a, single], &[a, b, single], &[a, RfqId(99)]] {
        let rows: Vec<Bids> = wrong.iter().map(|rfq| bids(*rfq, "0.40", "0.20")).collect();
        let refusal = floor.engine.create_batch_quote(quoter, id, &rows, now).unwrap_err();
        assert_eq!(refusal.code, "invalid_parameters", "{wrong:?}");
    }
    let rows = [bids(b, "0.40", "0"), bids(a, "0.40", "0.605")];
    assert!(floor.engine.create_batch_quote(quoter, id, &rows, now).is_err(), "off the grid");
    assert_eq!(floor.engine.quotes().count(), 0);
    // A child takes no quote of its own.
    assert_eq!(floor.bid(a, "0.40", "0.20").unwrap_err().code, "invalid_parameters");
    assert_eq!(floor.bid(RfqId(99), "0.40", "0.20").unwrap_err().kind, RefusalKind::NotFound);
    let rows = [bids(b, "0.40", "0"), bids(a, "0", "0.60")];
    let quote = floor.engine.create_batch_quote(quoter, id, &rows, now).unwrap();
    assert_eq!(floor.engine.batch_quote(quote).unwrap().quotes.len(), 2);
    assert_eq!(floor.engine.batch(id).unwrap().version, 1);
    let unknown = floor.engine.create_batch_quote(quoter, BatchId(9), &rows, now).unwrap_err();
    assert_eq!(unknown.kind, RefusalKind::NotFound);
    floor.engine.delete_batch(who(floor.asks), id, now).unwrap();
    let closed = floor.engine.create_batch_quote(quoter, id, &rows, now).unwrap_err();
    assert_eq!((closed.kind, closed.code), (RefusalKind::Conflict, "rfq_batch_not_open"));
}

#[test]
fn b6_a_batch_quote_counts_for_thirty_seconds_after_it_was_last_sent() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, _, [first, _]) = floor.batch();
    floor.wait(20_000);
    let second = floor.price_batch(floor.makes, id, &["0.40", "0.30"]).unwrap();
    let part = |floor: &Floor, quote| floor.engine.batch_quote(quote).unwrap().quotes[0];
    assert_eq!(floor.ending(part(&floor, first)), Ending::Replaced);
    floor.wait(9_999);
    assert_eq!(floor.best_makers(id), [Some(floor.makes), Some(floor.third)]);
    floor.wait(1);
    let version = floor.engine.batch(id).unwrap().version;
    assert_eq!(floor.best_makers(id), [Some(floor.makes), Some(floor.makes)]);
    floor.wait(20_000);
    assert_eq!(floor.best_makers(id), [None, None]);
    assert_eq!(floor.ending(part(&floor, second)), Ending::Expired);
    assert!(floor.engine.batch(id).unwrap().version > version);
    let (makes, now) = (who(floor.makes), floor.time());
    let gone = floor.engine.delete_batch_quote(makes, id, second, now).unwrap_err();
    assert_eq!(gone.kind, RefusalKind::NotFound);
    let refusal = floor.accept_batch(id, &["0", "0"], None).unwrap_err();
    assert_eq!(refusal, AcceptRefusal::QuotesChanged(floor.children(id)[0]));
}

#[test]
fn b6_a_bid_that_is_sent_again_unchanged_keeps_its_priority() {
    let mut floor = Floor::new(&["A", "B"]);
    let id = floor.open_batch(&floor.new_batch(&["A", "B"])).unwrap();
    let (first, second) = (floor.makes, floor.third);
    floor.price_batch(first, id, &["0.40", "0.40"]).unwrap();
    floor.price_batch(second, id, &["0.40", "0.40"]).unwrap();
    assert_eq!(floor.best_makers(id), [Some(first); 2], "the earlier of equal bids");
    floor.wait(10_000);
    floor.price_batch(first, id, &["0.40", "0.40"]).unwrap();
    assert_eq!(floor.best_makers(id), [Some(first); 2]);
    // The child whose bid changes loses its place, also if it comes back; the other one keeps it.
    floor.price_batch(first, id, &["0.39", "0.40"]).unwrap();
    floor.price_batch(first, id, &["0.40", "0.40"]).unwrap();
    assert_eq!(floor.best_makers(id), [Some(second), Some(first)]);
    let best_no = |floor: &Floor, child: usize| {
        let rfq = floor.children(id)[child];
        floor.engine.best_quote(rfq, Side::Ask).unwrap().account
    };
    assert_eq!([best_no(&floor, 0), best_no(&floor, 1)], [first; 2], "each side for itself");
    // A quote that has lapsed has no place to keep.
    floor.wait(25_000);
    floor.price_batch(first, id, &["0.40", "0.40"]).unwrap();
    assert_eq!(floor.best_makers(id), [Some(first); 2]);
    floor.price_batch(second, id, &["0.40", "0.40"]).unwrap();
    floor.wait(29_000);
    floor.price_batch(second, id, &["0.40", "0.40"]).unwrap();
    floor.wait(1_000);
    floor.price_batch(first, id, &["0.40", "0.40"]).unwrap();
    assert_eq!(floor.best_makers(id), [Some(second); 2]);
}

#[test]
fn b7_an_accept_that_is_sent_again_gets_the_first_result() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, _, [first, second]) = floor.batch();
    let least = ["0.40", "0.45"];
    let taken = floor.accept_batch(id, &least, Some("mine")).unwrap();
    for (least, name) in [(least, None), (least, Some("other"))] {
        let Err(AcceptRefusal::Refused(refusal)) = floor.accept_batch(id, &least, name) else {
            panic!("{name:?}")
        };
        assert_eq!((refusal.kind, refusal.code), (RefusalKind::Conflict, "rfq_batch_not_open"));
    }
    // Whatever else it says.
    assert_eq!(floor.accept_batch(id, &["1", "1"], Some("mine")).as_ref(), Ok(&taken));
    floor.confirm_batch(floor.makes, id, first).unwrap();
    floor.confirm_batch(floor.third, id, second).unwrap();
    floor.wait(15_000);
    assert_eq!(floor.state_of(id).1, Some(Ending::Executed));
    assert_eq!(floor.accept_batch(id, &least, Some("mine")), Ok(taken));
    assert_eq!(floor.engine.trades().len(), 2);
    // Another batch cannot have the id, from the first acceptance on.
    let [second_batch, third_batch] = [(); 2].map(|()| {
        let id = floor.open_batch(&floor.new_batch(&["A", "B"])).unwrap();
        floor.price_batch(floor.makes, id, &["0.40", "0.45"]).unwrap();
        id
    });
    let code = |refused: Result<_, AcceptRefusal>| match refused {
        Err(AcceptRefusal::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        code(floor.accept_batch(second_batch, &least, Some("mine"))),
        "order_already_exists"
    );
    floor.accept_batch(second_batch, &least, Some("new")).unwrap();
    assert_eq!(code(floor.accept_batch(third_batch, &least, Some("new"))), "order_already_exists");
    let long = "x".repeat(65);
    assert_eq!(code(floor.accept_batch(third_batch, &least, Some(&long))), "invalid_parameters");
}

#[test]
fn b8_a_best_bid_below_its_minimum_is_named_and_nothing_is_taken() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, rfqs, _) = floor.batch();
    for (least, child) in [(["0.41", "0.45"], rfqs[0]), (["0.40", "0.46"], rfqs[1])] {
        let refusal = floor.accept_batch(id, &least, None).unwrap_err();
        assert_eq!(refusal, AcceptRefusal::QuotesChanged(child));
    }
    let (asks, now) = (who(floor.asks), floor.time());
    let mut accept = |least: &[(RfqId, &str)]| {
        let least = least.iter().map(|(rfq, least)| (*rfq, dollars(least))).collect();
        match floor.engine.accept_batch(asks, id, Side::Bid, &least, None, now) {
            Err(AcceptRefusal::Refused(refusal)) => refusal.code,
            other => panic!("{other:?}"),
        }
    };
    for least in [
        &[(rfqs[0], "0.40")][..],
        &[(rfqs[0], "0.40"), (RfqId(99), "0.01")],
        &[(rfqs[0], "0.40"), (rfqs[1], "0.45"), (RfqId(99), "0.01")],
    ] {
        assert_eq!(accept(least), "invalid_parameters");
    }
    assert_eq!(floor.state_of(id), (BatchStatus::Open, None));
    // A better bid than the minimum is filled at its own price.
    let taken = floor.accept_batch(id, &["0.01", "0"], None).unwrap();
    let bid = |quote: &QuoteId| floor.engine.quote(*quote).unwrap().yes;
    assert_eq!(taken.iter().map(bid).collect::<Vec<_>>(), [dollars("0.40"), dollars("0.45")]);
}

#[test]
fn b8_the_requester_must_be_able_to_pay_for_all_children_together() {
    let mut floor = Floor::new(&["A", "B"]);
    let mut new = floor.new_batch(&["A", "B"]);
    for child in &mut new.children {
        child.1 = Size::Contracts(count("1000"));
    }
    let id = floor.open_batch(&new).unwrap();
    // NO costs the requester 600 dollars on each, of which it has 1,000.
    floor.price_batch(floor.makes, id, &["0.40", "0.40"]).unwrap();
    let Err(AcceptRefusal::Refused(refusal)) = floor.accept_batch(id, &["0", "0"], None) else {
        panic!("it was accepted")
    };
    assert_eq!(refusal.code, "INSUFFICIENT_BALANCE");
    assert_eq!(floor.state_of(id), (BatchStatus::Open, None));
}

#[test]
fn b9_every_winner_confirms_and_the_last_one_starts_the_timer() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, rfqs, [first, second]) = floor.batch();
    let early = floor.confirm_batch(floor.makes, id, first).unwrap_err();
    assert_eq!((early.kind, early.code), (RefusalKind::Conflict, "not_accepted"));
    let taken = floor.accept_batch(id, &["0.40", "0.45"], None).unwrap();
    floor.wait(10_000);
    floor.confirm_batch(floor.makes, id, first).unwrap();
    let twice = floor.confirm_batch(floor.makes, id, first).unwrap_err();
    assert_eq!(twice.kind, RefusalKind::Conflict);
    assert!(floor.confirm_batch(floor.makes, id, second).is_err(), "not its own");
    floor.wait(19_999);
    assert_eq!(floor.engine.trades().len(), 0, "no maker is executed alone");
    floor.confirm_batch(floor.third, id, second).unwrap();
    floor.wait(14_999);
    assert_eq!(floor.state_of(id).0, BatchStatus::Accepted);
    assert_eq!(floor.engine.trades().len(), 0);
    floor.wait(1);
    assert_eq!(floor.state_of(id), (BatchStatus::Closed, Some(Ending::Executed)));
    assert!(taken.iter().all(|quote| floor.status(*quote) == QuoteStatus::Executed));
    assert_eq!(floor.position(floor.makes, 1), count("10"));
    assert_eq!(floor.position(floor.third, 2), count("10"));
    assert_eq!(floor.position(floor.asks, 1), count("-10"));
    assert_eq!(floor.position(floor.asks, 2), count("-10"));
    let closed = |rfq: &RfqId| floor.engine.rfq(*rfq).unwrap().closed.unwrap().1;
    assert!(rfqs.iter().all(|rfq| closed(rfq) == Ending::Executed));
    // The bids that lost are over since the acceptance.
    for (quote, child) in [(first, 1), (second, 0)] {
        let lost = floor.engine.batch_quote(quote).unwrap().quotes[child];
        assert_eq!(floor.ending(lost), Ending::NotTaken);
    }
}

#[test]
fn b9_one_missed_confirmation_closes_the_batch_without_a_trade() {
    for (tickers, wait) in [(["A", "B"], 30_000), (["A", "KXMVEX"], 3_000)] {
        let mut floor = Floor::new(&tickers);
        let id = floor.open_batch(&floor.new_batch(&tickers)).unwrap();
        let first = floor.price_batch(floor.makes, id, &["0.40", "0.30"]).unwrap();
        let second = floor.price_batch(floor.third, id, &["0.30", "0.40"]).unwrap();
        let taken = floor.accept_batch(id, &["0", "0"], None).unwrap();
        floor.confirm_batch(floor.makes, id, first).unwrap();
        floor.wait(wait - 1);
        assert_eq!(floor.state_of(id).0, BatchStatus::Accepted);
        floor.wait(1);
        assert_eq!(floor.state_of(id), (BatchStatus::Closed, Some(Ending::NotConfirmed)));
        for quote in taken {
            assert_eq!(floor.ending(quote), Ending::NotConfirmed);
        }
        let late = floor.confirm_batch(floor.third, id, second).unwrap_err();
        assert_eq!((late.kind, late.code), (RefusalKind::Conflict, "expired"));
        floor.wait(60_000);
        assert_eq!(floor.engine.trades().len(), 0);
        for account in [floor.asks, floor.makes, floor.third] {
            assert_eq!(floor.engine.ledger.balance(account, 0, 0).cash, dollars("1000"));
        }
    }
}

#[test]
fn b9_a_winner_that_withdraws_closes_the_batch_too() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, _, [first, second]) = floor.batch();
    floor.accept_batch(id, &["0", "0"], None).unwrap();
    floor.confirm_batch(floor.makes, id, first).unwrap();
    let now = floor.time();
    let (makes, third) = (who(floor.makes), who(floor.third));
    let bound = floor.engine.delete_batch_quote(makes, id, first, now).unwrap_err();
    assert_eq!(bound.kind, RefusalKind::Invalid);
    floor.engine.delete_batch_quote(third, id, second, now).unwrap();
    assert_eq!(floor.state_of(id), (BatchStatus::Closed, Some(Ending::NotConfirmed)));
    floor.wait(60_000);
    assert_eq!(floor.engine.trades().len(), 0);
}

#[test]
fn b9_combos_of_a_batch_are_executed_a_second_after_the_last_confirmation() {
    let mut floor = Floor::new(&["A", "KXMVEX"]);
    let id = floor.open_batch(&floor.new_batch(&["A", "KXMVEX"])).unwrap();
    let quote = floor.price_batch(floor.makes, id, &["0.40", "0.30"]).unwrap();
    floor.accept_batch(id, &["0", "0"], None).unwrap();
    floor.confirm_batch(floor.makes, id, quote).unwrap();
    floor.wait(999);
    assert_eq!(floor.state_of(id).0, BatchStatus::Accepted);
    floor.wait(1);
    assert_eq!(floor.state_of(id).1, Some(Ending::Executed));
}

/// Returns a batch of which both winners have confirmed.
fn confirmed(floor: &mut Floor) -> (BatchId, Vec<QuoteId>) {
    let (id, _, [first, second]) = floor.batch();
    let taken = floor.accept_batch(id, &["0", "0"], None).unwrap();
    floor.confirm_batch(floor.makes, id, first).unwrap();
    floor.confirm_batch(floor.third, id, second).unwrap();
    (id, taken)
}

#[test]
fn b9_children_are_filled_together_or_not_at_all() {
    // Somebody else's offer at the price of the first child would take a part of the maker's order.
    let mut floor = Floor::new(&["A", "B"]);
    let (id, taken) = confirmed(&mut floor);
    let other = floor.engine.ledger.open(false);
    floor.engine.ledger.deposit(other, 0, 0, dollars("1000"), floor.time()).unwrap();
    floor.place(other, Side::Ask, "0.40", "1");
    floor.wait(15_000);
    assert_eq!(floor.state_of(id), (BatchStatus::Closed, Some(Ending::ExecutionFailed)));
    assert_eq!(floor.engine.trades().len(), 0);
    for quote in taken {
        assert_eq!(floor.ending(quote), Ending::ExecutionFailed);
    }
    let market = floor.engine.market_by_ticker("B").unwrap();
    assert_eq!(market.levels(Side::Bid).count(), 0, "no order of the second child is left");
    assert_eq!(floor.engine.batch(id).unwrap().version, 2);
}

#[test]
fn b9_without_the_money_for_one_child_none_is_executed() {
    for spends in 0..3 {
        let mut floor = Floor::new(&["A", "B", "C"]);
        let (id, _) = confirmed(&mut floor);
        let account = [floor.asks, floor.makes, floor.third][spends];
        let order =
            NewOrder::resting(account, "C".to_owned(), Side::Bid, dollars("0.99"), count("1009"));
        floor.engine.place_order(&order, floor.time()).unwrap();
        assert!(floor.engine.ledger.balance(account, 0, 0).free() < dollars("4"));
        floor.wait(15_000);
        assert_eq!(floor.state_of(id).1, Some(Ending::ExecutionFailed), "{spends}");
        assert_eq!(floor.engine.trades().len(), 0);
    }
}

#[test]
fn b9_better_prices_of_others_come_first_and_the_rest_of_the_maker_is_withdrawn() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, taken) = confirmed(&mut floor);
    let other = floor.engine.ledger.open(false);
    floor.engine.ledger.deposit(other, 0, 0, dollars("1000"), floor.time()).unwrap();
    floor.place(other, Side::Bid, "0.41", "4");
    floor.wait(15_000);
    assert_eq!(floor.state_of(id).1, Some(Ending::Executed));
    assert_eq!(floor.position(floor.asks, 1), count("-10"));
    assert_eq!(floor.position(other, 1), count("4"));
    assert_eq!(floor.position(floor.makes, 1), count("6"));
    let order = floor.engine.quote(taken[0]).unwrap().order.unwrap();
    let order = floor.engine.order(order).unwrap();
    assert_eq!((order.status, order.remaining), (OrderStatus::Canceled, Count::ZERO));
    let requester = floor.engine.quote(taken[0]).unwrap().rfq_order.unwrap();
    assert_eq!(floor.engine.order(requester).unwrap().status, OrderStatus::Executed);
}

#[test]
fn b9_own_orders_in_the_way_are_canceled() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, _) = confirmed(&mut floor);
    let own = floor.place(floor.makes, Side::Ask, "0.39", "5");
    let best = floor.place(floor.asks, Side::Bid, "0.38", "5");
    floor.wait(15_000);
    assert_eq!(floor.state_of(id).1, Some(Ending::Executed));
    assert_eq!(floor.engine.order(own).unwrap().reason, Reason::SelfTradeCancel);
    assert_eq!(floor.engine.order(best).unwrap().status, OrderStatus::Resting);
    assert_eq!(floor.position(floor.makes, 1), count("10"));
}

#[test]
fn b9_an_own_order_in_the_way_of_a_post_only_bid_fails_all_children() {
    let mut floor = Floor::new(&["A", "B"]);
    let id = floor.open_batch(&floor.new_batch(&["A", "B"])).unwrap();
    let rows: Vec<Bids> =
        floor.children(id).into_iter().map(|rfq| bids(rfq, "0.40", "0")).collect();
    let quoter = Quoter { post_only: true, ..floor.quoter(floor.makes) };
    let quote = floor.engine.create_batch_quote(quoter, id, &rows, floor.time()).unwrap();
    floor.accept_batch(id, &["0", "0"], None).unwrap();
    floor.confirm_batch(floor.makes, id, quote).unwrap();
    let own = floor.place(floor.makes, Side::Ask, "0.39", "5");
    floor.wait(15_000);
    assert_eq!(floor.state_of(id).1, Some(Ending::ExecutionFailed));
    assert_eq!(floor.engine.trades().len(), 0);
    assert_eq!(floor.engine.order(own).unwrap().status, OrderStatus::Resting);
}

#[test]
fn b9_the_close_of_a_market_closes_its_batches_but_not_one_that_waits_for_its_execution() {
    let mut floor = Floor::new(&["A", "B"]);
    floor.wait(30 * DAY - 5_000);
    let open = floor.open_batch(&floor.new_batch(&["A", "B"])).unwrap();
    let (waits, _) = confirmed(&mut floor);
    let accepted = floor.open_batch(&floor.new_batch(&["A", "B"])).unwrap();
    floor.price_batch(floor.makes, accepted, &["0.40", "0.40"]).unwrap();
    floor.accept_batch(accepted, &["0", "0"], None).unwrap();
    floor.wait(5_000);
    let over = (BatchStatus::Closed, Some(Ending::MarketClosed));
    assert_eq!([open, accepted].map(|id| floor.state_of(id)), [over; 2]);
    assert_eq!(floor.state_of(waits).0, BatchStatus::Accepted);
    floor.wait(10_000);
    assert_eq!(floor.state_of(waits).1, Some(Ending::ExecutionFailed));
}

#[test]
fn b10_a_bid_on_a_batch_is_its_makers_until_it_is_taken() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, _, quotes) = floor.batch();
    let parts = |floor: &Floor| {
        let all = quotes.iter().flat_map(|q| floor.engine.batch_quote(*q).unwrap().quotes.clone());
        all.collect::<Vec<QuoteId>>()
    };
    let seen = |floor: &Floor, account: AccountId| -> Vec<bool> {
        let sees = |quote: &QuoteId| floor.engine.party_quote(who(account), None, *quote).is_ok();
        parts(floor).iter().map(sees).collect()
    };
    let (asks, makes, third) = (floor.asks, floor.makes, floor.third);
    assert_eq!(seen(&floor, asks), [false; 4]);
    assert_eq!(seen(&floor, makes), [true, true, false, false]);
    floor.accept_batch(id, &["0", "0"], None).unwrap();
    for _ in 0..2 {
        assert_eq!(seen(&floor, asks), [true, false, false, true]);
        assert_eq!(seen(&floor, makes), [true, false, false, false]);
        assert_eq!(seen(&floor, third), [false, false, false, true]);
        // Closed by a missed confirmation, it stays so.
        floor.wait(30_000);
        assert_eq!(floor.state_of(id).0, BatchStatus::Closed);
    }
}

#[test]
fn b11_an_accepted_batch_cannot_be_deleted() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, _, [first, second]) = floor.batch();
    floor.accept_batch(id, &["0", "0"], None).unwrap();
    let asks = who(floor.asks);
    let delete = |floor: &mut Floor| {
        let now = floor.time();
        floor.engine.delete_batch(asks, id, now).map_err(|refusal| refusal.kind)
    };
    assert_eq!(delete(&mut floor), Err(RefusalKind::Invalid));
    floor.confirm_batch(floor.makes, id, first).unwrap();
    floor.confirm_batch(floor.third, id, second).unwrap();
    assert_eq!(delete(&mut floor), Err(RefusalKind::Invalid));
    floor.wait(15_000);
    assert_eq!(delete(&mut floor), Err(RefusalKind::NotFound));
    let (other, _, _) = floor.batch();
    let now = floor.time();
    assert!(floor.engine.delete_batch(who(floor.makes), other, now).is_err());
    floor.engine.delete_batch(asks, other, now).unwrap();
    assert_eq!(floor.state_of(other).1, Some(Ending::Deleted));
}

#[test]
fn a_closed_batch_is_forgotten_after_seven_days_and_an_accepted_quote_never() {
    let mut floor = Floor::new(&["A", "B"]);
    let (id, taken) = confirmed(&mut floor);
    floor.wait(15_000);
    let whole = floor.engine.quote(taken[0]).unwrap().batch.unwrap();
    floor.wait(7 * DAY - 1);
    assert!(floor.engine.batch(id).is_some() && floor.engine.batch_quote(whole).is_some());
    floor.wait(1);
    assert!(floor.engine.batch(id).is_none() && floor.engine.batch_quote(whole).is_none());
    let kept: Vec<QuoteId> = floor.engine.quotes().map(|quote| quote.id).collect();
    assert_eq!(kept.len(), 2);
    for (account, sees) in [(floor.asks, 2), (floor.makes, 1), (floor.third, 1)] {
        let seen = |quote: &&QuoteId| floor.engine.party_quote(who(account), None, **quote).is_ok();
        assert_eq!(taken.iter().filter(seen).count(), sees);
    }
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
    floor.accept_batch(id, &["0", "0"], None).unwrap();
    assert!(floor.engine.confirm_quote(makes, None, part, now).is_err());
    assert!(floor.engine.delete_quote(makes, None, part, now).is_err());
    assert_eq!(floor.status(part), QuoteStatus::Accepted);
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
