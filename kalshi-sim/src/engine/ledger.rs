//! Money: accounts, cash by subaccount and shard, positions, and what resting orders hold back.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::engine::{
    amount::{MAX_CASH, MAX_COUNT, SaturatingArithmetic, cost, payout, share},
    history::EventHistory,
    ids::{AccountId, MarketId, OrderId},
    markets::Market,
    types::{Fill, PositionKey, Refusal, Settlement, Shard, Side, Subaccount, Time},
};

/// The highest number of a subaccount.
pub(crate) const LAST_SUBACCOUNT: Subaccount = 63;

/// A member, with everything that is only theirs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Direct members' balances move in steps of 10⁻⁴ dollars, others' in cents.
    pub(crate) direct: bool,
    pub(crate) cash: BTreeMap<(Subaccount, Shard), Balance>,
    pub(crate) positions: BTreeMap<(MarketId, Subaccount), Position>,
    /// Subaccounts whose legs do not net.
    pub(crate) gross: Vec<Subaccount>,
    pub(crate) orders: Vec<OrderId>,
    pub(crate) resting: std::collections::BTreeSet<OrderId>,
    pub(crate) client_order_ids: BTreeMap<Box<str>, OrderId>,
    pub(crate) fills: Vec<Fill>,
    pub(crate) settlements: Vec<Settlement>,
    /// Everything ever paid in, less what was paid out.
    pub(crate) deposited: Dollars,
    /// Each payment in, and as a negative amount each payment out, oldest first.
    pub(crate) payments: Vec<Payment>,
    pub(crate) updated: Time,
}

impl Account {
    /// Returns contracts traded since a time.
    pub(crate) fn volume_since(&self, from: Time) -> Count {
        let recent = self.fills.iter().rev().take_while(|fill| fill.at >= from);
        recent.fold(Count::ZERO, |sum, fill| sum.saturating_add(fill.count))
    }
}

impl Account {
    /// Reports whether each balance holds what its resting orders need.
    pub(crate) fn holds_what_it_needs(&self, shard: impl Fn(MarketId) -> Shard) -> bool {
        let mut held: BTreeMap<(Subaccount, Shard), Dollars> = BTreeMap::new();
        for ((market, subaccount), position) in &self.positions {
            let netting = !self.gross.contains(subaccount);
            for side in [Side::Bid, Side::Ask] {
                let resting = position.resting(side);
                if resting.held != resting.need(position.closing(side, netting), None) {
                    return false;
                }
                let sum = held.entry((*subaccount, shard(*market))).or_default();
                *sum = sum.saturating_add(resting.held);
            }
        }
        let all = self.cash.iter().map(|(place, balance)| (place, balance.held));
        all.fold(true, |fits, (place, is_held)| {
            fits & (held.remove(place).unwrap_or_default() == is_held)
        }) && held.values().all(|left| left.is_zero())
    }
}

/// Money from outside, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) amount: Dollars,
    pub(crate) at: Time,
}

/// The money of one subaccount on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Balance {
    pub(crate) cash: Dollars,
    /// The part that resting orders hold.
    pub(crate) held: Dollars,
}

impl Balance {
    pub(crate) fn free(self) -> Dollars {
        self.cash.saturating_sub(self.held)
    }
}

/// One market in one subaccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) yes: Count,
    pub(crate) no: Count,
    pub(crate) yes_cost: Dollars,
    pub(crate) no_cost: Dollars,
    pub(crate) realized: Dollars,
    pub(crate) fees: Dollars,
    /// Price × count of everything bought and sold.
    pub(crate) traded: Dollars,
    pub(crate) volume: Count,
    pub(crate) settled: bool,
    pub(crate) updated: Time,
    /// The resting contracts by the cost of one, in its side's leg; never zero.
    pub(crate) bids: Resting,
    pub(crate) asks: Resting,
}

/// One side's resting orders of one subaccount in one market.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resting {
    /// Contracts by what one costs, the cheapest first; a list, for there are few.
    levels: Vec<(Dollars, Count)>,
    total: Count,
    cost: Dollars,
    /// The largest fees they can be charged.
    fees: Dollars,
    /// The part of the subaccount's cash that they hold.
    held: Dollars,
}

impl Resting {
    fn add(&mut self, price: Dollars, count: Count, fee: Dollars) {
        match self.levels.binary_search_by_key(&price, |(price, _)| *price) {
            Ok(place) => {
                if let Some((_, level)) = self.levels.get_mut(place) {
                    *level = level.saturating_add(count);
                }
            }
            Err(place) => self.levels.insert(place, (price, count)),
        }
        self.total = self.total.saturating_add(count);
        self.cost = self.cost.saturating_add(cost(price, count));
        self.fees = self.fees.saturating_add(fee);
    }

    fn remove(&mut self, price: Dollars, count: Count, fee: Dollars) {
        let found = self.levels.binary_search_by_key(&price, |(price, _)| *price);
        if let Ok(place) = found
            && let Some((_, level)) = self.levels.get_mut(place)
        {
            *level = level.saturating_sub(count);
            if level.is_zero() {
                self.levels.remove(place);
            }
        }
        self.total = self.total.saturating_sub(count);
        self.cost = self.cost.saturating_sub(cost(price, count));
        self.fees = self.fees.saturating_sub(fee);
    }

    /// Returns the money needed if everything trades, with one more order or without, and `closing`
    /// contracts close the other leg, which costs nothing. The cheapest are taken for those:
    /// whichever trade first, no more is needed.
    fn need(&self, closing: Count, more: Option<(Dollars, Count, Dollars)>) -> Dollars {
        let (price, count, fee) = more.unwrap_or_default();
        let mut need = self.cost.saturating_add(cost(price, count));
        let fees = self.fees.saturating_add(fee);
        if closing.is_positive() {
            let mut closing = closing;
            // The order more stands before the first level that is not cheaper.
            let mut more = Some((price, count)).filter(|(_, count)| count.is_positive());
            for (own, rests) in self.levels.iter().copied() {
                if let Some((price, count)) = more.take_if(|(price, _)| *price <= own) {
                    need = close(need, &mut closing, price, count);
                }
                need = close(need, &mut closing, own, rests);
                if closing.is_zero() {
                    break;
                }
            }
            if let Some((price, count)) = more {
                need = close(need, &mut closing, price, count);
            }
        }
        need.saturating_add(fees)
    }
}

/// Takes the cost of the contracts that close something off the need.
fn close(need: Dollars, closing: &mut Count, price: Dollars, count: Count) -> Dollars {
    let part = (*closing).min(count);
    *closing = closing.saturating_sub(part);
    need.saturating_sub(cost(price, part))
}

impl Position {
    /// Returns the signed net count: YES is positive, NO negative.
    pub(crate) fn net(&self) -> Count {
        self.yes.saturating_sub(self.no)
    }

    /// Returns the cost of the open contracts.
    pub(crate) fn exposure(&self) -> Dollars {
        self.yes_cost.saturating_add(self.no_cost)
    }

    /// Returns the contracts that an order of this side closes instead of opening.
    pub(crate) fn closable(&self, side: Side) -> Count {
        match side {
            Side::Bid => self.no,
            Side::Ask => self.yes,
        }
    }

    /// Turns the pairs of both legs into cash. Gives how many there were.
    fn net_pairs(&mut self) -> Count {
        let pairs = self.yes.min(self.no);
        let yes_basis = share(self.yes_cost, pairs, self.yes);
        let no_basis = share(self.no_cost, pairs, self.no);
        self.yes = self.yes.saturating_sub(pairs);
        self.no = self.no.saturating_sub(pairs);
        self.yes_cost = self.yes_cost.saturating_sub(yes_basis);
        self.no_cost = self.no_cost.saturating_sub(no_basis);
        self.realized = self
            .realized
            .saturating_add(payout(pairs).saturating_sub(yes_basis).saturating_sub(no_basis));
        pairs
    }

    /// Works out again what the orders of one side hold. Gives the change.
    fn hold_again(&mut self, side: Side, netting: bool) -> Dollars {
        let closing = self.closing(side, netting);
        let resting = self.resting_mut(side);
        let before = std::mem::replace(&mut resting.held, Dollars::ZERO);
        resting.held = resting.need(closing, None);
        resting.held.saturating_sub(before)
    }

    /// Returns the contracts of this side that cost nothing, for they close the other leg.
    fn closing(&self, side: Side, netting: bool) -> Count {
        if netting { self.closable(side) } else { Count::ZERO }
    }

    fn resting(&self, side: Side) -> &Resting {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    fn resting_mut(&mut self, side: Side) -> &mut Resting {
        match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        }
    }
}

/// The effect of a trade on one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Booked {
    /// Pairs of both legs that became cash.
    pub(crate) netted: Count,
    /// The position after it.
    pub(crate) net: Count,
}

/// All accounts, and what the exchange itself has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    /// Fees taken, and what roundings of settlements have left.
    pub(crate) fee_revenue: Dollars,
    /// Collateral of open contracts: one dollar for each pair of legs.
    pub(crate) escrow: Dollars,
    /// The accounts before their latest changes, for reads that trail.
    #[serde(skip)]
    pub(super) history: EventHistory,
}

impl Ledger {
    pub(crate) fn open(&mut self, direct: bool) -> AccountId {
        self.accounts.push(Account {
            direct,
            cash: BTreeMap::from([((0, 0), Balance::default())]),
            ..Account::default()
        });
        AccountId(u32::try_from(self.accounts.len()).unwrap_or(u32::MAX))
    }

    pub(crate) fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(id.index())
    }

    pub(crate) fn account_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        let account = self.accounts.get_mut(id.index());
        self.history.note_account(id, account.as_deref());
        account
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        (1..).map(AccountId).zip(&self.accounts)
    }

    pub(crate) fn balance(&self, id: AccountId, subaccount: Subaccount, shard: Shard) -> Balance {
        let balance = self.account(id).and_then(|account| account.cash.get(&(subaccount, shard)));
        balance.copied().unwrap_or_default()
    }

    pub(crate) fn position(&self, key: PositionKey) -> Option<&Position> {
        self.account(key.account)?.positions.get(&(key.market, key.subaccount))
    }

    /// Reports whether the subaccount exists on the shard.
    pub(crate) fn provisioned(&self, id: AccountId, subaccount: Subaccount, shard: Shard) -> bool {
        subaccount == 0
            || self.account(id).is_some_and(|a| a.cash.contains_key(&(subaccount, shard)))
    }

    pub(crate) fn netting(&self, id: AccountId, subaccount: Subaccount) -> bool {
        self.account(id).is_none_or(|account| !account.gross.contains(&subaccount))
    }

    /// Pays money in, or out if the amount is negative.
    pub(crate) fn deposit(
        &mut self,
        id: AccountId,
        subaccount: Subaccount,
        shard: Shard,
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        self.adjust_cash(id, subaccount, shard, amount, now)?;
        if let Some(account) = self.account_mut(id) {
            account.payments.push(Payment { amount, at: now });
        }
        Ok(())
    }

    /// Changes cash without a payment, for money that moves to another instance of the exchange.
    pub(crate) fn adjust_cash(
        &mut self,
        id: AccountId,
        subaccount: Subaccount,
        shard: Shard,
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        let account = self.account_mut(id).ok_or_else(|| Refusal::not_found("no such account"))?;
        let total = account.deposited.saturating_add(amount);
        if total > MAX_CASH || amount > MAX_CASH || amount < Dollars::ZERO.saturating_sub(MAX_CASH)
        {
            return Err(Refusal::parameters("an account can be given a billion dollars at most"));
        }
        let balance = account.cash.entry((subaccount, shard)).or_default();
        if balance.free().saturating_add(amount) < Dollars::ZERO {
            return Err(too_low());
        }
        balance.cash = balance.cash.saturating_add(amount);
        account.deposited = total;
        account.updated = now;
        Ok(())
    }

    /// Opens the next numbered subaccount of a shard. One that is new on every shard nets as the
    /// primary does.
    pub(crate) fn provision(
        &mut self,
        id: AccountId,
        shard: Shard,
        now: Time,
    ) -> Result<Subaccount, Refusal> {
        let account = self.account_mut(id).ok_or_else(|| Refusal::not_found("no such account"))?;
        let on_shard = account.cash.keys().filter(|(_, on)| *on == shard);
        let number = on_shard.map(|(number, _)| *number).max().unwrap_or(0) + 1;
        if number > LAST_SUBACCOUNT {
            return Err(Refusal::invalid("too_many_subaccounts", "63 are open already"));
        }
        let is_new = account.cash.keys().all(|(other, _)| *other != number);
        if is_new && account.gross.contains(&0) && !account.gross.contains(&number) {
            account.gross.push(number);
        }
        account.cash.insert((number, shard), Balance::default());
        account.updated = now;
        Ok(number)
    }

    /// Moves free money inside an account.
    pub(crate) fn transfer(
        &mut self,
        id: AccountId,
        from: (Subaccount, Shard),
        to: (Subaccount, Shard),
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        if !amount.is_positive() {
            return Err(Refusal::parameters("the amount must be above zero"));
        }
        let account = self.account_mut(id).ok_or_else(|| Refusal::not_found("no such account"))?;
        let source = account.cash.entry(from).or_default();
        if source.free() < amount {
            return Err(too_low());
        }
        source.cash = source.cash.saturating_sub(amount);
        let target = account.cash.entry(to).or_default();
        target.cash = target.cash.saturating_add(amount);
        account.updated = now;
        Ok(())
    }

    /// Checks that the money for one more order is there, as if it rested with the others.
    pub(crate) fn afford(
        &self,
        key: PositionKey,
        side: Side,
        price: Dollars,
        count: Count,
        fee: Dollars,
    ) -> Result<(), Refusal> {
        let account =
            self.account(key.account).ok_or_else(|| Refusal::not_found("no such account"))?;
        let netting = self.netting(key.account, key.subaccount);
        let none = Position::default();
        let position = account.positions.get(&(key.market, key.subaccount)).unwrap_or(&none);
        let contracts =
            position.bids.total.saturating_add(position.asks.total).saturating_add(count);
        if contracts > MAX_COUNT {
            return Err(Refusal::invalid("invalid_order_size", "too many contracts would rest"));
        }
        let (resting, closing) = (position.resting(side), position.closing(side, netting));
        let with = resting.need(closing, Some((side.leg_price(price), count, fee)));
        let more = with.saturating_sub(resting.held);
        let balance = self.balance(key.account, key.subaccount, key.shard);
        if more.is_positive() && balance.free() < more { Err(too_low()) } else { Ok(()) }
    }

    /// Holds money back for an order that now rests.
    pub(crate) fn hold(
        &mut self,
        key: PositionKey,
        side: Side,
        price: Dollars,
        count: Count,
        fee: Dollars,
    ) {
        self.change(key, &[side], |position| {
            position.resting_mut(side).add(side.leg_price(price), count, fee);
        });
    }

    /// Frees the money of contracts that rest no longer.
    pub(crate) fn release(
        &mut self,
        key: PositionKey,
        side: Side,
        price: Dollars,
        count: Count,
        fee: Dollars,
    ) {
        self.change(key, &[side], |position| {
            position.resting_mut(side).remove(side.leg_price(price), count, fee);
        });
    }

    /// Books one party's side of a trade. `fee` says what is charged, if cash changes by so much.
    pub(crate) fn book(
        &mut self,
        key: PositionKey,
        side: Side,
        price: Dollars,
        count: Count,
        fee: impl FnOnce(Dollars) -> Dollars,
        now: Time,
    ) -> Booked {
        let netting = self.netting(key.account, key.subaccount);
        let paid = cost(side.leg_price(price), count);
        let mut booked = Booked { netted: Count::ZERO, net: Count::ZERO };
        let (mut change, mut charged) = (Dollars::ZERO, Dollars::ZERO);
        self.change(key, &[Side::Bid, Side::Ask], |position| {
            position.traded = position.traded.saturating_add(paid);
            position.volume = position.volume.saturating_add(count);
            position.updated = now;
            let netted = if netting { position.closable(side).min(count) } else { Count::ZERO };
            let closed_for = payout(netted).saturating_sub(cost(side.leg_price(price), netted));
            let (own, own_cost, other, other_cost) = match side {
                Side::Bid => (
                    &mut position.yes,
                    &mut position.yes_cost,
                    &mut position.no,
                    &mut position.no_cost,
                ),
                Side::Ask => (
                    &mut position.no,
                    &mut position.no_cost,
                    &mut position.yes,
                    &mut position.yes_cost,
                ),
            };
            let basis = share(*other_cost, netted, *other);
            *other = other.saturating_sub(netted);
            *other_cost = other_cost.saturating_sub(basis);
            let opened = count.saturating_sub(netted);
            *own = own.saturating_add(opened);
            *own_cost = own_cost.saturating_add(cost(side.leg_price(price), opened));
            position.realized = position.realized.saturating_add(closed_for.saturating_sub(basis));
            let revenue = payout(netted).saturating_sub(paid);
            charged = fee(revenue);
            change = revenue.saturating_sub(charged);
            position.fees = position.fees.saturating_add(charged);
            booked = Booked { netted, net: position.net() };
        });
        self.pay(key, change, now);
        self.fee_revenue = self.fee_revenue.saturating_add(charged);
        booked
    }

    pub(crate) fn pay(&mut self, key: PositionKey, amount: Dollars, now: Time) {
        if let Some(account) = self.account_mut(key.account) {
            let balance = account.cash.entry((key.subaccount, key.shard)).or_default();
            balance.cash = balance.cash.saturating_add(amount);
            account.updated = now;
        }
    }

    pub(crate) fn position_mut(&mut self, key: PositionKey) -> Option<&mut Position> {
        self.note_position(key);
        let account = self.account_mut(key.account)?;
        Some(account.positions.entry((key.market, key.subaccount)).or_default())
    }

    /// Turns netting on or off for a subaccount; pairs that both legs make become cash
    /// at once. Gives those, by market.
    pub(crate) fn set_netting(
        &mut self,
        id: AccountId,
        subaccount: Subaccount,
        netting: bool,
        listed: &[Market],
        now: Time,
    ) -> Vec<(MarketId, Count)> {
        let mut netted = Vec::new();
        let Some(account) = self.accounts.get_mut(id.index()) else { return netted };
        self.history.note_account(id, Some(account));
        account.gross.retain(|number| *number != subaccount);
        if !netting {
            account.gross.push(subaccount);
        }
        for ((market, number), position) in &mut account.positions {
            let Some(shard) = listed.get(market.index()).map(|market| market.shard) else {
                continue;
            };
            if *number != subaccount {
                continue;
            }
            self.history.note_position(id, *market, *number, Some(position));
            let pairs = if netting { position.net_pairs() } else { Count::ZERO };
            let balance = account.cash.entry((subaccount, shard)).or_default();
            for side in [Side::Bid, Side::Ask] {
                balance.held = balance.held.saturating_add(position.hold_again(side, netting));
            }
            balance.cash = balance.cash.saturating_add(payout(pairs));
            self.escrow = self.escrow.saturating_sub(payout(pairs));
            netted.push((*market, pairs));
        }
        account.updated = now;
        netted
    }

    /// Changes a position, and adjusts what its subaccount holds back for the orders of some sides.
    fn change(&mut self, key: PositionKey, sides: &[Side], change: impl FnOnce(&mut Position)) {
        let netting = self.netting(key.account, key.subaccount);
        self.note_position(key);
        let Some(account) = self.account_mut(key.account) else { return };
        let position = account.positions.entry((key.market, key.subaccount)).or_default();
        change(position);
        let more = sides.iter().fold(Dollars::ZERO, |sum, side| {
            sum.saturating_add(position.hold_again(*side, netting))
        });
        if !more.is_zero() {
            let balance = account.cash.entry((key.subaccount, key.shard)).or_default();
            balance.held = balance.held.saturating_add(more);
        }
    }

    fn note_position(&mut self, key: PositionKey) {
        // Every trade comes along here: no look-up without need.
        if !self.history.is_on() {
            return;
        }
        if let Some(account) = self.accounts.get(key.account.index()) {
            let position = account.positions.get(&(key.market, key.subaccount));
            self.history.note_position(key.account, key.market, key.subaccount, position);
        }
    }
}

fn too_low() -> Refusal {
    Refusal::invalid("insufficient_balance", "the available balance is too low")
}
