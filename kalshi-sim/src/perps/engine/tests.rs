//! Scenes of perpetual futures, each with numbers that a person can add up.

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        OrderGroups,
        ids::{AccountId, OrderId},
        types::{
            Decrease, Executed, NewOrder, OrderStatus, Reason, Refusal, Side, Time, TimeInForce,
        },
    },
    perps::engine::{
        Perps,
        actions::{ActionStatus, NewAction, Terms},
        amount::Rate,
        margin::Marks,
        markets::{AssetClass, FundingTerms, LimitUnit, NewMarket, Status},
        orders::{Source, amendment},
        triggers::{Legs, Mode, NewTrigger, Trail, TriggerReason, TriggerStatus},
    },
};

/// 21 September 2026, 14:13:20 UTC.
pub(crate) const START: Time = Time::from_millis(1_790_000_000_000);
pub(crate) const TICKER: &str = "KXCOINPERP";
const A: AccountId = AccountId(1);
const B: AccountId = AccountId(2);
const C: AccountId = AccountId(3);

pub(crate) fn dollars(text: &str) -> Dollars {
    text.parse().unwrap()
}

pub(crate) fn count(contracts: i64) -> Count {
    Count::from_contracts(contracts).unwrap()
}

/// Returns a market in which a contract is worth 50 dollars, with 5 % of maintenance margin.
pub(crate) fn coin(ticker: &str) -> NewMarket {
    NewMarket {
        ticker: ticker.to_owned(),
        title: "A thousandth of a coin".to_owned(),
        class: AssetClass::Crypto,
        shard: 0,
        contract_size: 1_000,
        multiplier: 1_000_000,
        tick: Dollars::CENT,
        fractional: false,
        maintenance: 50_000,
        maker_fee: 200,
        taker_fee: 500,
        funding: FundingTerms {
            deadband: Rate::ZERO,
            cap: Rate::new(20_000_000_000),
            unit: LimitUnit::Percentage,
            excludes_invalid: false,
        },
        reference: dollars("50000"),
    }
}

/// Returns an exchange with one market, and three members with 1,000 dollars each.
pub(crate) fn engine() -> Perps {
    let mut perps = Perps::new(START);
    perps.add_market(coin(TICKER), START).unwrap();
    for account in [A, B, C] {
        perps.open_account(account);
        perps.deposit(account, dollars("1000"), START).unwrap();
    }
    perps
}

pub(crate) fn later(seconds: i64) -> Time {
    Time::from_millis(START.as_millis() + seconds * 1_000)
}

fn order(account: AccountId, side: Side, price: &str, contracts: i64) -> NewOrder {
    NewOrder::resting(account, TICKER.to_owned(), side, dollars(price), count(contracts))
}

fn place(perps: &mut Perps, new: &NewOrder) -> Executed {
    let done = perps.place_order(new, 0, perps.now()).unwrap();
    perps.audit().unwrap();
    done
}

/// Trades contracts at a price: the first buys from the second.
fn trade(perps: &mut Perps, buyer: AccountId, seller: AccountId, price: &str, contracts: i64) {
    place(perps, &order(seller, Side::Ask, price, contracts));
    assert_eq!(place(perps, &order(buyer, Side::Bid, price, contracts)).filled, count(contracts));
}

fn mark(perps: &mut Perps, price: &str) {
    let price = Some(dollars(price));
    perps.set_marks(TICKER, price, price, None, perps.now()).unwrap();
    perps.audit().unwrap();
}

fn held(perps: &Perps, account: AccountId) -> Count {
    perps.wallet((account, 0)).unwrap().positions.values().next().map_or(Count::ZERO, |p| p.count)
}

fn cash(perps: &Perps, account: AccountId) -> Dollars {
    perps.wallet((account, 0)).unwrap().cash
}

fn refused(result: Result<impl std::fmt::Debug, Refusal>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn a_trade_opens_both_positions_and_takes_the_fees() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 10);
    assert_eq!((held(&perps, A), held(&perps, B)), (count(10), count(-10)));
    // 500 dollars at 5 and at 2 hundredths of a percent.
    assert_eq!(cash(&perps, A), dollars("999.75"));
    assert_eq!(cash(&perps, B), dollars("999.90"));
    assert_eq!(perps.fee_revenue, dollars("0.35"));
    mark(&mut perps, "52");
    let wallet = perps.wallet((A, 0)).unwrap();
    let standing = perps.standing(wallet, Marks::Settlement);
    assert_eq!(standing.equity, dollars("1019.75"));
    // 520 dollars: 5 % of it, and half as much again.
    assert_eq!((standing.maintenance, standing.initial), (dollars("26"), dollars("39")));
    assert_eq!(standing.available(), dollars("980.75"));
    // A profit that is not realized is not paid out.
    assert_eq!(perps.withdrawable((A, 0)), dollars("980.75"));
    assert_eq!(refused(perps.withdraw(A, dollars("980.76"), START)), "insufficient_balance");
    perps.withdraw(A, dollars("980.75"), START).unwrap();
    perps.audit().unwrap();
}

#[test]
fn an_order_needs_the_margin_of_what_it_opens_and_a_closing_one_needs_none() {
    let mut perps = engine();
    // 7.5 % of 50 dollars is 3.75, and the fee of a taker 0.025: 264 contracts for 1,000 dollars.
    let most = order(A, Side::Bid, "50", 264);
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "50", 265), 0, START)),
        "insufficient_balance"
    );
    place(&mut perps, &most);
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "50", 10), 0, START)),
        "insufficient_balance"
    );
    // Bids and asks do not both trade: the greater of the two counts.
    place(&mut perps, &order(A, Side::Ask, "50.01", 200));
    perps.cancel_all(A, None, START).unwrap();
    // An order far above the mark loses the difference at once.
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "60", 90), 0, START)),
        "insufficient_balance"
    );
    trade(&mut perps, A, B, "50", 200);
    mark(&mut perps, "48.5");
    // Less than the initial margin is left, and the position can be closed all the same.
    assert!(
        perps.standing(perps.wallet((A, 0)).unwrap(), Marks::Settlement).available().is_negative()
    );
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "48.5", 1), 0, START)),
        "insufficient_balance"
    );
    place(&mut perps, &order(A, Side::Ask, "48.5", 200));
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Ask, "48.5", 1), 0, START)),
        "insufficient_balance"
    );
}

#[test]
fn orders_are_refused_for_what_the_market_does_not_take() {
    let mut perps = engine();
    let bid = order(A, Side::Bid, "50", 1);
    let half = NewOrder { count: Count::from_hundredths(50), ..bid.clone() };
    assert_eq!(refused(perps.place_order(&half, 0, START)), "invalid_order_size");
    let off = NewOrder { price: dollars("50.001"), ..bid.clone() };
    assert_eq!(refused(perps.place_order(&off, 0, START)), "invalid_price");
    assert_eq!(refused(perps.place_order(&bid, 2, START)), "market_version_mismatch");
    assert!(perps.place_order(&bid, 1, START).is_ok());
    let waiting = NewOrder { reduce_only: true, ..bid.clone() };
    assert_eq!(refused(perps.place_order(&waiting, 0, START)), "invalid_parameters");
    for time_in_force in [TimeInForce::ImmediateOrCancel, TimeInForce::FillOrKill] {
        let reducing = NewOrder { reduce_only: true, time_in_force, ..bid.clone() };
        let done = perps.place_order(&reducing, 0, START).unwrap();
        assert_eq!(done.reason, Reason::ReduceOnlyCancel, "nothing to reduce");
    }
    let named = NewOrder { client_order_id: Some("one".to_owned()), ..bid.clone() };
    perps.place_order(&named, 0, START).unwrap();
    assert_eq!(refused(perps.place_order(&named, 0, START)), "order_already_exists");
    assert_eq!(
        refused(perps.place_order(
            &NewOrder { ticker: "KXNO".to_owned(), ..bid.clone() },
            0,
            START
        )),
        "not_found"
    );
    assert_eq!(
        refused(perps.place_order(&NewOrder { subaccount: 1, ..bid }, 0, START)),
        "not_found"
    );
}

#[test]
fn orders_are_amended_decreased_and_canceled() {
    let mut perps = engine();
    let done = place(&mut perps, &order(A, Side::Bid, "49", 10));
    let amend = amendment((A, 0), done.order, Side::Bid, dollars("49.50"), count(12));
    assert_eq!(perps.amend(&amend, START).unwrap().remaining, count(12));
    let beyond = amendment((A, 0), done.order, Side::Bid, dollars("49.50"), count(1_000));
    assert_eq!(refused(perps.amend(&beyond, START)), "insufficient_balance");
    assert_eq!(perps.decrease(A, 0, done.order, Decrease::To(count(5)), START).unwrap(), count(5));
    perps.audit().unwrap();
    assert_eq!(refused(perps.cancel(B, 0, done.order, START)), "not_found");
    assert_eq!(perps.cancel(A, 0, done.order, START).unwrap(), count(5));
    assert_eq!(perps.order(done.order).unwrap().status, OrderStatus::Canceled);
    let expiring = NewOrder { expires: Some(later(60)), ..order(A, Side::Bid, "49", 1) };
    let done = place(&mut perps, &expiring);
    perps.advance(later(60));
    assert_eq!(perps.order(done.order).unwrap().reason, Reason::ExpiryCancel);
    perps.audit().unwrap();
}

#[test]
fn a_position_below_its_maintenance_margin_is_closed_by_a_system_order() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 200);
    // Equity 1,000 − 5 of fees + 200·(m − 50), margin 10·m: equal at 47.3947…
    let wallet = perps.wallet((A, 0)).unwrap();
    let price = perps.liquidation_price(wallet, perps.markets()[0].id).unwrap();
    assert_eq!(price, dollars("47.3948"));
    place(&mut perps, &order(A, Side::Bid, "40", 1));
    place(&mut perps, &order(C, Side::Bid, "47.2", 150));
    mark(&mut perps, "47.40");
    assert_eq!(held(&perps, A), count(200), "above the threshold");
    let own = perps.account(A).unwrap().orders.last().copied().unwrap();
    assert_eq!(perps.order(own).unwrap().reason, Reason::MarginCancel, "it waits, without orders");
    mark(&mut perps, "47.39");
    // What the book takes is sold; the rest waits for the next bid.
    assert_eq!(held(&perps, A), count(50));
    let last = perps.account(A).unwrap().orders.last().copied().unwrap();
    assert_eq!(perps.source(last), Source::Liquidation);
    assert_eq!((perps.source(last).as_str(), perps.source(own).as_str()), ("system", "user"));
    let fill = perps.account(A).unwrap().fills.last().unwrap();
    assert_eq!((fill.price, fill.source), (dollars("47.2"), Source::Liquidation));
    assert_eq!(fill.realized, dollars("-420"));
    assert!(perps.distressed.is_empty(), "fifty contracts have margin enough");
}

#[test]
fn what_cannot_be_closed_is_tried_again_and_a_debt_goes_to_the_insurance_fund() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 200);
    mark(&mut perps, "40");
    assert_eq!(held(&perps, A), count(200), "there are no bids");
    assert!(perps.distressed.contains(&(A, 0)));
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "40", 1), 0, START)),
        "insufficient_balance"
    );
    place(&mut perps, &order(C, Side::Bid, "40", 200));
    assert_eq!(held(&perps, A), Count::ZERO);
    assert_eq!(cash(&perps, A), Dollars::ZERO);
    // 1,000 − 5 − 2,000 of loss − 4 of the fee of the liquidation.
    assert_eq!(perps.insurance, dollars("-1009"));
    assert!(perps.distressed.is_empty());
}

#[test]
fn longs_pay_funding_and_what_rounding_leaves_goes_to_the_insurance_fund() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 3);
    let before = (cash(&perps, A), cash(&perps, B));
    // At 16:00 UTC the mark goes 1 % above the underlying: half of the eight hours to 20:00.
    perps.set_marks(TICKER, Some(dollars("50.5")), None, None, later(6_400)).unwrap();
    perps.advance(Time::from_millis(1_790_020_800_000));
    let rate = *perps.funding_rates().last().unwrap();
    assert_eq!(rate.at.to_datetime().unwrap().to_rfc3339(), "2026-09-21T20:00:00+00:00");
    // From the listing at 14:13:20 on: 4 of the 5.7778 hours.
    assert_eq!(rate.rate.to_string(), "0.006923076923");
    // 3 × 50.5 × 0.006923076923 = 1.0488461…
    assert_eq!(before.0.checked_sub(cash(&perps, A)), Some(dollars("1.0489")));
    assert_eq!(cash(&perps, B).checked_sub(before.1), Some(dollars("1.0488")));
    assert_eq!(perps.insurance, dollars("0.0001"));
    let row = perps.account(B).unwrap().funding.last().unwrap();
    assert_eq!((row.count, row.amount), (count(-3), dollars("1.0488")));
    perps.audit().unwrap();
}

fn bracket(stop_loss: Option<&str>, take_profit: Option<&str>) -> NewTrigger {
    NewTrigger {
        account: A,
        subaccount: 0,
        market: crate::engine::ids::MarketId(1),
        mode: Mode::Cross,
        legs: Legs::Bracket {
            stop_loss: stop_loss.map(dollars),
            take_profit: take_profit.map(dollars),
        },
        count: None,
        anchor: None,
        client_id: None,
    }
}

#[test]
fn a_bracket_fires_once_on_the_liquidation_mark() {
    let mut perps = engine();
    assert_eq!(refused(perps.set_trigger(bracket(Some("48"), None), START)), "not_found");
    trade(&mut perps, A, B, "50", 20);
    let id = perps.set_trigger(bracket(Some("48"), Some("55")), START).unwrap();
    assert_eq!(perps.trigger(id).unwrap().status, TriggerStatus::Active);
    place(&mut perps, &order(C, Side::Bid, "47", 50));
    // The settlement mark sets nothing off.
    perps.set_marks(TICKER, Some(dollars("48")), None, None, START).unwrap();
    assert_eq!(held(&perps, A), count(20));
    perps.set_marks(TICKER, None, Some(dollars("48")), None, START).unwrap();
    assert_eq!(held(&perps, A), Count::ZERO);
    let trigger = perps.trigger(id).unwrap();
    assert_eq!((trigger.status, trigger.filled), (TriggerStatus::Filled, count(20)));
    assert_eq!(perps.source(trigger.order.unwrap()).reason(), Some("take_profit_stop_loss"));
    // A second position is not the trigger's.
    trade(&mut perps, A, B, "50", 5);
    mark(&mut perps, "47");
    assert_eq!(held(&perps, A), count(5));
}

#[test]
fn a_trailing_stop_follows_the_best_mark_of_either_side() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 10);
    let trailing =
        |account, trail| NewTrigger { account, legs: Legs::Trailing(trail), ..bracket(None, None) };
    let long = perps.set_trigger(trailing(A, Trail::Amount(dollars("2"))), START).unwrap();
    // 1 % of the lowest mark above it.
    let short = perps.set_trigger(trailing(B, Trail::Bps(100)), START).unwrap();
    place(&mut perps, &order(C, Side::Bid, "45", 50));
    place(&mut perps, &order(C, Side::Ask, "60", 50));
    let stop = |perps: &Perps, id| perps.trigger(id).unwrap().effective_stop().unwrap();
    assert_eq!((stop(&perps, long), stop(&perps, short)), (dollars("48"), dollars("50.5")));
    mark(&mut perps, "49");
    assert_eq!((stop(&perps, long), stop(&perps, short)), (dollars("48"), dollars("49.49")));
    mark(&mut perps, "49.49");
    assert_eq!(held(&perps, B), Count::ZERO, "the short is bought back");
    mark(&mut perps, "53");
    mark(&mut perps, "52");
    assert_eq!(stop(&perps, long), dollars("51"));
    mark(&mut perps, "51");
    assert_eq!(held(&perps, A), Count::ZERO);
}

#[test]
fn triggers_end_with_their_position_and_wait_for_their_entry() {
    let mut perps = engine();
    let entry = place(&mut perps, &order(A, Side::Bid, "50", 10)).order;
    let anchored = NewTrigger {
        anchor: Some(entry),
        client_id: Some("entry".to_owned()),
        ..bracket(Some("45"), None)
    };
    let id = perps.set_trigger(anchored.clone(), START).unwrap();
    let status = |perps: &Perps| perps.trigger(id).unwrap().status;
    assert_eq!(status(&perps), TriggerStatus::PendingOnEntry);
    place(&mut perps, &order(B, Side::Ask, "50", 4));
    assert_eq!(status(&perps), TriggerStatus::Active);
    assert_eq!(perps.trigger_count(perps.trigger(id).unwrap()), count(4));
    // The position goes while its entry rests: back to waiting.
    place(&mut perps, &order(C, Side::Bid, "49", 4));
    let close = NewOrder {
        reduce_only: true,
        time_in_force: TimeInForce::ImmediateOrCancel,
        self_trade: crate::engine::types::SelfTrade::TakerAtCross,
        ..order(A, Side::Ask, "49", 4)
    };
    perps.cancel(A, 0, entry, START).unwrap();
    assert_eq!(status(&perps), TriggerStatus::Active);
    place(&mut perps, &close);
    let trigger = perps.trigger(id).unwrap();
    assert_eq!(trigger.reason, Some(TriggerReason::PositionClosed));
    // The same request gives the first trigger, another body is refused.
    assert_eq!(perps.set_trigger(anchored.clone(), START).unwrap(), id);
    let other = NewTrigger { legs: bracket(Some("44"), None).legs, ..anchored.clone() };
    assert_eq!(refused(perps.set_trigger(other, START)), "idempotency_key_already_used");
    let unused = place(&mut perps, &order(A, Side::Bid, "40", 1)).order;
    let never = NewTrigger {
        anchor: Some(unused),
        client_id: Some("never".to_owned()),
        ..bracket(Some("35"), None)
    };
    let never = perps.set_trigger(never, START).unwrap();
    perps.cancel(A, 0, unused, START).unwrap();
    assert_eq!(perps.trigger(never).unwrap().reason, Some(TriggerReason::EntryNotFilled));
    let late = NewTrigger { client_id: Some("late".to_owned()), anchor: Some(unused), ..anchored };
    assert_eq!(refused(perps.set_trigger(late, START)), "anchor_order_unavailable");
}

#[test]
fn a_position_that_is_gone_while_its_entry_rests_leaves_the_trigger_waiting() {
    let mut perps = engine();
    let entry = place(&mut perps, &order(A, Side::Bid, "50", 10)).order;
    let anchored = NewTrigger {
        anchor: Some(entry),
        client_id: Some("entry".to_owned()),
        ..bracket(Some("45"), None)
    };
    let id = perps.set_trigger(anchored, START).unwrap();
    place(&mut perps, &order(B, Side::Ask, "50", 4));
    // Another bid, above the entry, takes the position over.
    place(&mut perps, &order(C, Side::Bid, "50.5", 4));
    place(&mut perps, &order(A, Side::Ask, "50.5", 4));
    assert_eq!(held(&perps, A), Count::ZERO);
    assert_eq!(perps.trigger(id).unwrap().status, TriggerStatus::PendingOnEntry);
    place(&mut perps, &order(B, Side::Ask, "50", 1));
    assert_eq!(perps.trigger(id).unwrap().status, TriggerStatus::Active);
}

#[test]
fn slots_take_one_whole_trigger_of_a_kind_or_twenty_parts() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 40);
    let first = perps.set_trigger(bracket(Some("40"), None), START).unwrap();
    let second = perps.set_trigger(bracket(None, Some("60")), START).unwrap();
    assert_eq!(perps.trigger(first).unwrap().reason, Some(TriggerReason::UserCanceled));
    let part = |number: usize| NewTrigger {
        count: Some(count(1)),
        client_id: Some(number.to_string()),
        ..bracket(Some("40"), None)
    };
    perps.remove_triggers((A, 0), perps.markets()[0].id, Mode::Cross, |_| false, START);
    assert!(!perps.trigger(second).unwrap().is_live());
    for number in 0..20 {
        perps.set_trigger(part(number), START).unwrap();
    }
    assert_eq!(refused(perps.set_trigger(part(20), START)), "too_many_exit_triggers");
    assert_eq!(
        refused(perps.set_trigger(bracket(Some("40"), None), START)),
        "partial_trigger_exists"
    );
    let nameless = NewTrigger { client_id: None, ..part(30) };
    assert_eq!(refused(perps.set_trigger(nameless, START)), "invalid_parameters");
    let named = NewTrigger { client_id: Some("x".to_owned()), ..bracket(Some("40"), None) };
    assert_eq!(refused(perps.set_trigger(named, START)), "invalid_parameters");
    for legs in [
        Legs::Trailing(Trail::Bps(0)),
        Legs::Trailing(Trail::Bps(10_000)),
        Legs::Trailing(Trail::Amount(Dollars::ZERO)),
        Legs::Bracket { stop_loss: None, take_profit: None },
        Legs::Bracket { stop_loss: Some(Dollars::ZERO), take_profit: None },
    ] {
        assert!(perps.set_trigger(NewTrigger { legs, ..part(40) }, START).is_err(), "{legs:?}");
    }
    // 40 contracts and 1,000 dollars: liquidated at about 26.
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 40);
    assert_eq!(
        refused(perps.set_trigger(bracket(Some("20"), None), START)),
        "stop_loss_past_liquidation"
    );
}

#[test]
fn order_groups_limit_what_their_orders_trade() {
    let mut perps = engine();
    let group = perps.create_group(A, 0, 0, count(5), START).unwrap();
    let bid = NewOrder { group: Some(group), ..order(A, Side::Bid, "50", 10) };
    place(&mut perps, &bid);
    place(&mut perps, &order(B, Side::Ask, "50", 6));
    assert!(perps.group(group).unwrap().triggered);
    assert_eq!(refused(perps.place_order(&bid, 0, START)), "order_group_triggered");
    assert!(perps.account(A).unwrap().resting.is_empty());
    perps.audit().unwrap();
}

fn act(perps: &mut Perps, terms: Terms) {
    let action = NewAction { ticker: TICKER.to_owned(), terms, at: perps.now() };
    let id = perps.announce(action, perps.now()).unwrap();
    assert_eq!(perps.actions()[id.index()].status, ActionStatus::Applied);
    perps.audit().unwrap();
}

#[test]
fn a_split_changes_counts_and_marks_and_the_version_when_trading_resumes() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 10);
    let rests = place(&mut perps, &order(A, Side::Bid, "40", 1)).order;
    let ex_date = chrono::NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
    act(&mut perps, Terms::Split { old: 1, new: 4, ex_date });
    let market = &perps.markets()[0];
    assert_eq!((market.status(), market.version), (Status::Inactive, 1));
    assert_eq!(market.halt_sources(), ["corporate_action"]);
    assert_eq!(market.settlement_mark.price, dollars("12.5"));
    assert_eq!(perps.order(rests).unwrap().reason, Reason::HaltCancel);
    let position = *perps.wallet((A, 0)).unwrap().positions.values().next().unwrap();
    assert_eq!((position.count, position.entry_price()), (count(40), dollars("12.5")));
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "12", 1), 0, START)),
        "MARKET_INACTIVE"
    );
    perps.advance(later(60));
    assert_eq!((perps.markets()[0].status(), perps.markets()[0].version), (Status::Active, 2));
    let bid = order(A, Side::Bid, "12", 1);
    assert_eq!(refused(perps.place_order(&bid, 1, later(60))), "market_version_mismatch");
    perps.place_order(&bid, 2, later(60)).unwrap();
}

#[test]
fn a_split_that_does_not_divide_keeps_longs_and_shorts_equal() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 5);
    trade(&mut perps, C, B, "50", 5);
    let ex_date = chrono::NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
    // Three become one: 5 are 1⅔, −10 are −3⅓, all with two thirds over the next whole count below.
    // Two of the three are rounded up, the first ones.
    act(&mut perps, Terms::Split { old: 3, new: 1, ex_date });
    assert_eq!(
        (held(&perps, A), held(&perps, B), held(&perps, C)),
        (count(2), count(-3), count(1))
    );
    let value =
        |account| perps.standing(perps.wallet((account, 0)).unwrap(), Marks::Settlement).equity;
    // Equities are what they were, less fees, to a micro-dollar.
    let close = |equity: Dollars, to: &str| {
        let apart = equity.checked_sub(dollars(to)).unwrap();
        assert!(apart.checked_abs().unwrap() <= Dollars::from_micros(1), "{equity} {to}");
    };
    close(value(A), "999.875");
    close(value(C), "999.875");
    close(value(B), "999.90");
}

#[test]
fn dividends_are_paid_by_shorts_and_a_final_settlement_closes_everything() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 10);
    let before = (cash(&perps, A), cash(&perps, B));
    let ex_date = chrono::NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
    act(&mut perps, Terms::CashDividend { per_contract: dollars("0.25"), ex_date });
    assert_eq!(cash(&perps, A).checked_sub(before.0), Some(dollars("2.5")));
    assert_eq!(before.1.checked_sub(cash(&perps, B)), Some(dollars("2.5")));
    let new = "KXNEWPERP".to_owned();
    act(&mut perps, Terms::TickerChange { old: TICKER.to_owned(), new: new.clone() });
    assert_eq!(refused(perps.market_by_ticker(TICKER).map(|market| market.id)), "not_found");
    let terms = Terms::FinalSettlement { per_contract: dollars("53"), reason: "merger".to_owned() };
    let action = NewAction { ticker: new.clone(), terms, at: later(120) };
    perps.announce(action, START).unwrap();
    perps.advance(later(120));
    assert_eq!(perps.market_by_ticker(&new).unwrap().status(), Status::Closed);
    assert_eq!(held(&perps, A), Count::ZERO);
    assert_eq!(cash(&perps, A).checked_sub(before.0), Some(dollars("32.5")));
    perps.audit().unwrap();
    // What comes after the end lapses.
    let late = NewAction {
        ticker: new,
        terms: Terms::CashDividend { per_contract: Dollars::ONE, ex_date },
        at: later(130),
    };
    assert_eq!(refused(perps.announce(late, later(121))), "market_closed");
}

#[test]
fn an_action_that_is_called_off_does_nothing_and_one_that_comes_too_late_lapses() {
    let mut perps = engine();
    trade(&mut perps, A, B, "50", 10);
    let ex_date = chrono::NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
    let announce = |perps: &mut Perps, terms, seconds| {
        let action = NewAction { ticker: TICKER.to_owned(), terms, at: later(seconds) };
        perps.announce(action, START).unwrap()
    };
    let dividend = Terms::CashDividend { per_contract: Dollars::ONE, ex_date };
    let off = announce(&mut perps, dividend.clone(), 10);
    let end = Terms::FinalSettlement { per_contract: dollars("50"), reason: "end".to_owned() };
    announce(&mut perps, end, 20);
    let late = announce(&mut perps, dividend, 30);
    perps.call_off(off, START).unwrap();
    let before = cash(&perps, A);
    perps.advance(later(60));
    assert_eq!(cash(&perps, A), before);
    let status = |id: crate::engine::ids::ActionId| perps.actions()[id.index()].status;
    assert_eq!((status(off), status(late)), (ActionStatus::Cancelled, ActionStatus::Lapsed));
}

#[test]
fn the_limits_of_a_clearing_member_are_kept_and_a_lower_one_cancels_orders() {
    let mut perps = engine();
    let market = perps.markets()[0].id;
    let first = place(&mut perps, &order(A, Side::Bid, "50", 10)).order;
    let second = place(&mut perps, &order(A, Side::Bid, "49", 10)).order;
    assert_eq!(perps.usage(A, market), dollars("990"));
    perps.set_notional_limit(A, Some(dollars("600")), START).unwrap();
    let reason = |perps: &Perps, id: OrderId| perps.order(id).unwrap().reason;
    assert_eq!(reason(&perps, second), Reason::MarginCancel, "the newest goes first");
    assert_eq!(reason(&perps, first), Reason::None);
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "50", 3), 0, START)),
        "notional_risk_limit_exceeded"
    );
    place(&mut perps, &order(A, Side::Bid, "50", 2));
    let caps = &mut perps.account_mut(B).unwrap().caps;
    caps.required = true;
    assert_eq!(
        refused(perps.place_order(&order(B, Side::Bid, "49", 1), 0, START)),
        "risk_control_required"
    );
    // 3.75 dollars of initial margin for each contract at 50.
    perps.account_mut(B).unwrap().caps.by_class.insert(AssetClass::Crypto, dollars("8"));
    assert_eq!(
        refused(perps.place_order(&order(B, Side::Bid, "50", 3), 0, START)),
        "im_cap_exceeded"
    );
    place(&mut perps, &order(B, Side::Bid, "50", 2));
}

#[test]
fn a_transfer_between_subaccounts_is_made_once() {
    let mut perps = engine();
    let number = perps.open_subaccount(A).unwrap();
    assert_eq!(number, 1);
    for _ in 0..2 {
        perps.transfer(A, (0, 1), dollars("100"), "once", START).unwrap();
    }
    assert_eq!(
        (cash(&perps, A), perps.wallet((A, 1)).unwrap().cash),
        (dollars("900"), dollars("100"))
    );
    assert_eq!(
        refused(perps.transfer(A, (1, 0), dollars("101"), "two", START)),
        "insufficient_balance"
    );
    assert_eq!(refused(perps.transfer(A, (0, 2), dollars("1"), "three", START)), "not_found");
    perps.audit().unwrap();
}

#[test]
fn a_pause_keeps_new_orders_out_and_cancels_those_that_ask_for_it() {
    let mut perps = engine();
    let stays = place(&mut perps, &order(A, Side::Bid, "49", 1)).order;
    let leaves = NewOrder { cancel_on_pause: true, ..order(A, Side::Bid, "49", 1) };
    let leaves = place(&mut perps, &leaves).order;
    perps.set_trading(false, START);
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "49", 1), 0, START)),
        "TRADING_PAUSED"
    );
    assert_eq!(perps.order(leaves).unwrap().reason, Reason::PauseCancel);
    assert_eq!(perps.cancel(A, 0, stays, START).unwrap(), count(1));
    perps.set_trading(true, START);
    perps.set_paused(TICKER, true, START).unwrap();
    assert_eq!(
        refused(perps.place_order(&order(A, Side::Bid, "49", 1), 0, START)),
        "MARKET_INACTIVE"
    );
    perps.set_paused(TICKER, false, START).unwrap();
    place(&mut perps, &order(A, Side::Bid, "49", 1));
}
