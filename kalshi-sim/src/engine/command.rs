//! Commands as data: what a random sequence is made of, and what the simulated traders send.

use kalshi_types::{Count, Dollars};

use crate::engine::{
    Engine, PositionTransfer,
    amount::SaturatingArithmetic,
    fees::Fees,
    groups::OrderGroups,
    ids::{AccountId, GroupId, MarketId, OrderId},
    types::{
        Amend, Decrease, Executed, MarketResult, NewOrder, Refusal, Route, Shard, Subaccount, Time,
    },
};

/// Everything that can be asked of the books and the ledger.
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "traders send orders only, the random runs of the tests everything"
    )
)]
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Place(NewOrder),
    Amend(Amend),
    Decrease {
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        decrease: Decrease,
        route: Route,
    },
    Cancel {
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        route: Route,
    },
    CancelAll {
        account: AccountId,
        subaccount: Option<Subaccount>,
    },
    Deposit {
        account: AccountId,
        subaccount: Subaccount,
        shard: Shard,
        amount: Dollars,
    },
    Transfer {
        account: AccountId,
        from: (Subaccount, Shard),
        to: (Subaccount, Shard),
        amount: Dollars,
    },
    TransferPosition(PositionTransfer),
    SetNetting {
        account: AccountId,
        subaccount: Subaccount,
        netting: bool,
    },
    CreateGroup {
        account: AccountId,
        subaccount: Subaccount,
        shard: Shard,
        limit: Count,
    },
    ResetGroup {
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
    },
    TriggerGroup {
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
    },
    DeleteGroup {
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
    },
    SetShard {
        shard: Shard,
        exchange_active: bool,
        trading_active: bool,
    },
    Deactivate {
        market: MarketId,
    },
    Activate {
        market: MarketId,
    },
    MoveClose {
        market: MarketId,
        closes: Time,
    },
    Determine {
        market: MarketId,
        result: MarketResult,
    },
    SetFees {
        market: MarketId,
        fees: Fees,
    },
    /// Nothing but time.
    Wait,
}

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Executed(Executed),
    /// The count of the order that rests, or that was canceled.
    Count(Count),
    Canceled(usize),
    Group(GroupId),
    Nothing,
}

impl Engine {
    /// Carries out a command.
    pub(crate) fn apply(&mut self, command: &Command, now: Time) -> Result<Done, Refusal> {
        match command {
            Command::Place(new) => self.place_order(new, now).map(Done::Executed),
            Command::Amend(amend) => self.amend(amend, now).map(|(done, _)| Done::Executed(done)),
            Command::Decrease { account, subaccount, order, decrease, route } => {
                self.decrease(*account, *subaccount, *order, *decrease, route, now).map(Done::Count)
            }
            Command::Cancel { account, subaccount, order, route } => {
                self.cancel(*account, *subaccount, *order, route, now).map(Done::Count)
            }
            Command::CancelAll { account, subaccount } => {
                self.cancel_all(*account, *subaccount, now).map(Done::Canceled)
            }
            Command::Deposit { account, subaccount, shard, amount } => {
                self.advance(now);
                self.ledger.deposit(*account, *subaccount, *shard, *amount, now)?;
                Ok(Done::Nothing)
            }
            Command::Transfer { account, from, to, amount } => {
                self.advance(now);
                self.ledger.transfer(*account, *from, *to, *amount, now)?;
                Ok(Done::Nothing)
            }
            Command::TransferPosition(transfer) => {
                self.transfer_position(transfer, now).map(|()| Done::Nothing)
            }
            Command::SetNetting { account, subaccount, netting } => {
                self.set_netting(*account, *subaccount, *netting, now);
                Ok(Done::Nothing)
            }
            Command::CreateGroup { account, subaccount, shard, limit } => {
                self.create_group(*account, *subaccount, *shard, *limit, now).map(Done::Group)
            }
            Command::ResetGroup { account, group, subaccount, shard } => {
                self.reset_group(*account, *group, *subaccount, *shard, now).map(|()| Done::Nothing)
            }
            Command::TriggerGroup { account, group, subaccount, shard } => self
                .trigger_group(*account, *group, *subaccount, *shard, now)
                .map(|()| Done::Nothing),
            Command::DeleteGroup { account, group, subaccount, shard } => self
                .delete_group(*account, *group, *subaccount, *shard, now)
                .map(|()| Done::Nothing),
            Command::SetShard { shard, exchange_active, trading_active } => {
                self.set_shard(*shard, *exchange_active, *trading_active, now);
                Ok(Done::Nothing)
            }
            Command::Deactivate { market } => self.deactivate(*market, now).map(|()| Done::Nothing),
            Command::Activate { market } => self.activate(*market, now).map(|()| Done::Nothing),
            Command::MoveClose { market, closes } => {
                self.move_close(*market, *closes, now).map(|()| Done::Nothing)
            }
            Command::Determine { market, result } => {
                self.determine(*market, *result, now).map(|()| Done::Nothing)
            }
            Command::SetFees { market, fees } => {
                self.set_fees(*market, *fees, now).map(|()| Done::Nothing)
            }
            Command::Wait => {
                self.advance(now);
                Ok(Done::Nothing)
            }
        }
    }

    /// Turns netting of the two legs on or off for a subaccount.
    pub(crate) fn set_netting(
        &mut self,
        account: AccountId,
        subaccount: Subaccount,
        netting: bool,
        now: Time,
    ) {
        self.advance(now);
        let netted = self.ledger.set_netting(account, subaccount, netting, &self.markets, now);
        for (market, pairs) in netted {
            if let Some(market) = self.market_mut(market) {
                market.open_interest = market.open_interest.saturating_sub(pairs);
            }
        }
    }
}
