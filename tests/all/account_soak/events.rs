//! Event contracts: the library's own view of your account.

use std::collections::BTreeMap;

use kalshi_sdk::{
    Client, Count, Dollars,
    streams::{AccountSource, FillRecord, OrderRecord, PositionRecord},
    types::BookSide,
};
use kalshi_sim::Exchange;

use super::Player;
use crate::{
    account::{Desk, Name, Rest, TICKERS, TRANSFERS, order, place, plain, subaccount},
    support::Random,
};

pub(super) struct Events {
    desk: Desk,
    /// The subaccounts of the trader.
    numbers: Vec<i64>,
}

impl Events {
    fn count(&mut self, missed: Vec<FillRecord>) -> usize {
        let found = missed.len();
        for fill in missed {
            self.desk.count(fill);
        }
        found
    }
}

impl Player for Events {
    type State = (Vec<OrderRecord>, Vec<PositionRecord>, BTreeMap<Name, FillRecord>);

    async fn open() -> Self {
        let desk = Desk::open().await;
        let mut numbers = vec![0];
        for transfer in TRANSFERS {
            numbers.push(subaccount(&desk.trader, transfer).await);
        }
        Self { desk, numbers }
    }

    fn exchange(&self) -> &Exchange {
        &self.desk.exchange
    }

    async fn event(&mut self) {
        self.desk.event().await;
    }

    fn drain(&mut self) {
        self.desk.drain();
    }

    fn is_subscribed(&self) -> bool {
        self.desk.portfolio.is_subscribed()
    }

    fn is_current(&self) -> bool {
        self.desk.portfolio.is_current()
    }

    async fn reconcile(&mut self) -> usize {
        self.desk.reconcile().await.missed.len()
    }

    async fn reconcile_meanwhile(&mut self, random: &mut Random) -> usize {
        let begun = self.desk.portfolio.begin();
        let (account, ()) =
            tokio::join!(self.desk.trader.fetch_account(begun.fills_since()), async {
                for _ in 0..3 {
                    self.act(random).await;
                }
            });
        self.desk.drain();
        let found = self.desk.portfolio.finish(begun, account.unwrap());
        self.count(found.missed)
    }

    async fn act(&self, random: &mut Random) {
        act(random, &self.desk.trader, &self.desk.maker, &self.numbers).await;
    }

    fn state(&self) -> Self::State {
        let (orders, positions) = self.desk.view();
        let fills = self.desk.fills.iter();
        let fills = fills.map(|(name, fill)| (name.clone(), plain(fill.clone()))).collect();
        (orders, positions, fills)
    }

    async fn rest(&self) -> Self::State {
        let rest = Rest::read(&self.desk.trader).await;
        let (orders, positions) = rest.orders_and_positions();
        (orders, positions, rest.fills)
    }

    fn fills(&self) -> usize {
        self.desk.fills.len()
    }
}

/// Places an order of either, or cancels one of the trader's.
async fn act(random: &mut Random, trader: &Client, maker: &Client, numbers: &[i64]) {
    let ticker = *random.pick(&TICKERS);
    if random.chance(15) {
        let rests = trader.get_orders().status("resting").limit(20).send().await.unwrap();
        if let Some(row) = rests.orders.first() {
            trader
                .cancel_order_v2()
                .order_id(&*row.order_id)
                .market_ticker(&*row.ticker)
                .subaccount(row.subaccount_number.unwrap_or(0))
                .send()
                .await
                .unwrap();
        }
        return;
    }
    let side = if random.chance(50) { BookSide::Bid } else { BookSide::Ask };
    let price = Dollars::from_cents(random.between(49, 51)).unwrap();
    let contracts = Count::from_hundredths(random.between(1, 6) * 50);
    let new = order(ticker, side, price, contracts);
    if random.chance(50) {
        place(maker, new).await;
    } else {
        let number = *random.pick(numbers);
        let named = format!("mine-{}", random.next());
        place(trader, new.subaccount(number).client_order_id(named)).await;
    }
}
