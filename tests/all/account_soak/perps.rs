//! Perpetual futures: an account that is folded from the messages of its two channels.
//!
//! The library has no view of it: REST does not say how new its reads are, and no channel has the
//! positions. So this is the plainest one that is right: what was read, then every message since the
//! subscriptions were confirmed, in their order. Each message has the whole of an order, or the
//! position after a fill, so one that is older than the reading is followed by those that are newer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::FutureExt as _;
use kalshi_sdk::{
    BookSide, Client, Count, Dollars, UnixMillis,
    perps::types::{ApplySubaccountTransferRequest, CreateMarginOrderRequest},
    streams::{
        Backoff, Environment, Overflow,
        perps::{Channel, Config, Connection, Event, Message, Payload, Subscription},
    },
};
use kalshi_sim::{Exchange, PerpsMarketPlan, Role};
use tokio::time::timeout;

use super::Player;
use crate::{
    account::{Name, PATIENCE, TRANSFERS},
    support::Random,
};

const TICKERS: [&str; 3] = ["KXACCOUNTAPERP", "KXACCOUNTBPERP", "KXACCOUNTCPERP"];
const CHANNELS: [Channel; 2] = [Channel::Fill, Channel::UserOrders];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    ticker: String,
    client_order_id: String,
    subaccount: i64,
    is_bid: bool,
    price: Dollars,
    remaining: Count,
    filled: Count,
    updated: Option<UnixMillis>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    ticker: String,
    subaccount: i64,
    is_bid: bool,
    price: Dollars,
    count: Count,
    fee: Dollars,
    is_taker: bool,
    at: Option<UnixMillis>,
    source: Option<String>,
}

/// Resting orders, positions that are not zero, and fills.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    orders: BTreeMap<String, Order>,
    positions: BTreeMap<(String, i64), Count>,
    fills: BTreeMap<Name, Fill>,
}

impl Account {
    fn fold(&mut self, message: &Message) {
        match &message.payload {
            Payload::Fill(fill) => {
                let subaccount = fill.subaccount.unwrap_or(0);
                let place = (fill.market_ticker.clone(), subaccount);
                self.positions.insert(place, fill.post_position);
                self.positions.retain(|_, count| !count.is_zero());
                let name = (fill.trade_id.clone(), fill.order_id.clone());
                let fill = Fill {
                    ticker: fill.market_ticker.clone(),
                    subaccount,
                    is_bid: fill.side == BookSide::Bid,
                    price: fill.price,
                    count: fill.count,
                    fee: fill.fee_cost,
                    is_taker: fill.is_taker,
                    at: fill.ts_ms,
                    source: fill.order_source.as_ref().map(|source| source.as_str().to_owned()),
                };
                let before = self.fills.insert(name, fill.clone());
                assert!(before.is_none_or(|before| before == fill), "{fill:?} was another one");
            }
            Payload::UserOrder(order) if order.remaining_count.is_zero() => {
                self.orders.remove(&order.order_id);
            }
            Payload::UserOrder(order) => {
                let resting = Order {
                    ticker: order.ticker.clone(),
                    client_order_id: order.client_order_id.clone(),
                    subaccount: order.subaccount_number.unwrap_or(0),
                    is_bid: order.side == BookSide::Bid,
                    price: order.price,
                    remaining: order.remaining_count,
                    filled: order.fill_count,
                    updated: order.last_updated_ts_ms,
                };
                self.orders.insert(order.order_id.clone(), resting);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reads the account over REST, the fills last: they have whatever changed the rest.
    async fn read(client: &Client, numbers: &[i64]) -> Self {
        let mut account = Self::default();
        let perps = client.perps();
        let held = perps.get_margin_positions().send().await.unwrap().into_inner();
        for row in held.positions {
            let place = (row.market_ticker, row.subaccount);
            assert!(account.positions.insert(place, row.position).is_none());
        }
        for number in numbers {
            let rows = perps.get_margin_orders().status("resting").subaccount(*number).limit(100);
            for row in rows.stream().try_collect().await.unwrap() {
                let order = Order {
                    ticker: row.ticker,
                    client_order_id: row.client_order_id,
                    subaccount: *number,
                    is_bid: row.side == BookSide::Bid,
                    price: row.price,
                    remaining: row.remaining_count,
                    filled: row.fill_count,
                    updated: row.last_update_time.map(|time| time.timestamp_millis().into()),
                };
                account.orders.insert(row.order_id, order);
            }
        }
        for number in numbers {
            let rows = perps.get_margin_fills().subaccount(*number).limit(100).stream();
            for row in rows.try_collect().await.unwrap() {
                let fill = Fill {
                    ticker: row.ticker,
                    subaccount: *number,
                    is_bid: row.side == BookSide::Bid,
                    price: row.price,
                    count: row.count,
                    fee: row.fees,
                    is_taker: row.is_taker,
                    at: Some(row.created_time.timestamp_millis().into()),
                    source: row.order_source.map(|source| source.as_str().to_owned()),
                };
                account.fills.insert((row.fill_id, row.order_id), fill);
            }
        }
        account
    }
}

pub(super) struct Perps {
    exchange: Exchange,
    trader: Client,
    maker: Client,
    stream: Connection,
    /// The subaccounts of the trader.
    numbers: Vec<i64>,
    account: Account,
    /// The messages since the last loss.
    since: Vec<Message>,
    confirmed: BTreeSet<usize>,
    losses: u64,
    is_current: bool,
}

impl Perps {
    /// Returns how many fills are those of liquidations: there are no exit triggers.
    pub(super) fn liquidations(&self) -> usize {
        let fills = self.account.fills.values();
        fills.filter(|fill| fill.source.as_deref() == Some("system")).count()
    }

    fn apply(&mut self, event: Event) {
        let place = |channel: &Channel| CHANNELS.iter().position(|ours| ours == channel).unwrap();
        match event {
            Event::Message(message) => {
                self.account.fold(&message);
                self.since.push(message);
            }
            Event::Subscribed { channel, .. } => {
                self.confirmed.insert(place(&channel));
            }
            Event::Disconnected { .. } => {
                self.confirmed.clear();
                self.lose();
            }
            Event::Terminated { channel, .. } => {
                self.confirmed.remove(&place(&channel));
                self.lose();
            }
            // Its subscription is not known, or no longer.
            Event::Unmatched(_) => self.lose(),
            Event::ReconnectFailed { .. } | Event::Reconnected { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn lose(&mut self) {
        self.losses += 1;
        self.is_current = false;
        self.since.clear();
    }

    /// Takes in what was read after a number of losses. Returns how many fills had been missed.
    fn finish(&mut self, losses: u64, read: Account) -> usize {
        let known = self.account.fills.len();
        let fills = std::mem::take(&mut self.account.fills);
        for (name, fill) in &fills {
            // It may have come during the reading.
            let same = read.fills.get(name).is_none_or(|read| read == fill);
            assert!(same, "{fill:?} is another one in {read:?}");
        }
        let missed = read.fills.keys().filter(|name| !fills.contains_key(*name)).count();
        self.account.fills = fills.into_iter().chain(read.fills).collect();
        assert_eq!(self.account.fills.len(), known + missed);
        if losses == self.losses && self.is_subscribed() {
            self.account.orders = read.orders;
            self.account.positions = read.positions;
            for message in &self.since {
                self.account.fold(message);
            }
            self.is_current = true;
        }
        missed
    }
}

impl Player for Perps {
    type State = Account;

    async fn open() -> Self {
        let exchange = Exchange::start().await.unwrap();
        for ticker in TICKERS {
            let mut plan = PerpsMarketPlan::new(ticker, "50.00".parse().unwrap());
            plan.fractional_trading_enabled = ticker != TICKERS[0];
            exchange.perps().list(plan).unwrap();
        }
        let trader = exchange.client(Role::Trader).unwrap();
        let maker = exchange.client(Role::Maker).unwrap();
        let mut numbers = vec![0];
        for transfer in TRANSFERS {
            let new = trader.perps().create_margin_subaccount().send().await.unwrap();
            // Little, so that a move of the marks closes what it pays for.
            let cash = ApplySubaccountTransferRequest::builder()
                .client_transfer_id(transfer)
                .from_subaccount(0)
                .to_subaccount(new.subaccount_number)
                .amount_cents(10_000);
            trader.perps().apply_margin_subaccount_transfer().body(cash).send().await.unwrap();
            numbers.push(new.subaccount_number);
        }
        let millis = Duration::from_millis;
        let config = Config::builder()
            .with_environment(Environment::Custom(exchange.perps().stream_url()))
            .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
            .with_backoff(Backoff::new(millis(5), millis(40)))
            .build()
            .unwrap();
        let stream = Connection::connect(config).await.unwrap();
        for subscription in [Subscription::fills(), Subscription::user_orders()] {
            stream.handle().subscribe(subscription.with_overflow(Overflow::Block)).unwrap();
        }
        let mut player = Self {
            exchange,
            trader,
            maker,
            stream,
            numbers,
            account: Account::default(),
            since: Vec::new(),
            confirmed: BTreeSet::new(),
            losses: 0,
            is_current: false,
        };
        while !player.is_subscribed() {
            player.event().await;
        }
        player.reconcile().await;
        player
    }

    fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    async fn event(&mut self) {
        let event = timeout(PATIENCE, self.stream.next()).await.expect("no event").unwrap();
        self.apply(event);
    }

    fn drain(&mut self) {
        while let Some(Some(event)) = self.stream.next().now_or_never() {
            self.apply(event);
        }
    }

    fn is_subscribed(&self) -> bool {
        self.confirmed.len() == CHANNELS.len()
    }

    fn is_current(&self) -> bool {
        self.is_current
    }

    async fn reconcile(&mut self) -> usize {
        let read = Account::read(&self.trader, &self.numbers).await;
        self.finish(self.losses, read)
    }

    async fn reconcile_meanwhile(&mut self, random: &mut Random) -> usize {
        let losses = self.losses;
        let (read, ()) = tokio::join!(Account::read(&self.trader, &self.numbers), async {
            for _ in 0..3 {
                self.act(random).await;
            }
        });
        self.drain();
        self.finish(losses, read)
    }

    /// Places an order of either, cancels one of the trader's, or moves the marks.
    async fn act(&self, random: &mut Random) {
        let ticker = *random.pick(&TICKERS);
        let number = *random.pick(&self.numbers);
        let perps = self.trader.perps();
        if random.chance(12) {
            let rests = perps.get_margin_orders().status("resting").subaccount(number).limit(20);
            if let Some(row) = rests.send().await.unwrap().orders.first() {
                let cancel = perps.cancel_margin_order().order_id(&*row.order_id);
                cancel.subaccount(number).send().await.unwrap();
            }
            return;
        }
        if random.chance(10) {
            let price = Dollars::from_cents(random.between(4_400, 5_600)).unwrap();
            self.exchange.perps().set_mark(ticker, price).unwrap();
            return;
        }
        let side = if random.chance(50) { BookSide::Bid } else { BookSide::Ask };
        let parts = if ticker == TICKERS[0] { 100 } else { 50 };
        let by_maker = random.chance(50);
        let order = CreateMarginOrderRequest::builder()
            .ticker(ticker)
            .client_order_id(format!("mine-{}", random.next()))
            .side(side)
            .count(Count::from_hundredths(random.between(1, 6) * parts))
            .price(Dollars::from_cents(random.between(4_900, 5_100)).unwrap())
            .time_in_force("good_till_canceled")
            .self_trade_prevention_type("maker");
        let placed = if by_maker {
            self.maker.perps().create_margin_order().body(order).send().await
        } else {
            perps.create_margin_order().body(order.subaccount(number)).send().await
        };
        if let Err(error) = placed {
            // The margin of a subaccount is soon used up.
            assert_eq!(error.code(), Some("insufficient_balance"), "{error}");
        }
    }

    fn state(&self) -> Account {
        self.account.clone()
    }

    async fn rest(&self) -> Account {
        Account::read(&self.trader, &self.numbers).await
    }

    fn fills(&self) -> usize {
        self.account.fills.len()
    }
}
