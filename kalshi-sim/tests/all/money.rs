//! The account of the first key adds up: what it paid in, traded, was charged and won is its cash.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use kalshi_sdk::{
    Client, Count, Dollars,
    types::{BookSide, CreateOrderV2Request, Fill, GetMarketsStatus, SettlementStatusFilter},
};
use kalshi_sim::{Exchange, MarketOutcome, Role};

/// The precision of a direct member's balance, in micro-dollars.
const PRECISION: i128 = 100;

/// A position as fills and settlements make it, in hundredths of a contract and micro-dollars.
#[derive(Clone, Copy, Debug, Default)]
struct Holding {
    /// YES is positive, NO negative.
    count: i128,
    cost: i128,
    traded: i128,
    realized: i128,
    fees: i128,
}

impl Holding {
    /// Books a fill, and gives the change of the cash without its fee.
    fn fill(&mut self, fill: &Fill) -> i128 {
        let count = i128::from(fill.count_fp.as_hundredths());
        let yes = micros(fill.yes_price_dollars);
        let (signed, price) = match fill.book_side {
            BookSide::Bid => (count, yes),
            _ => (-count, 1_000_000 - yes),
        };
        let paid = price * count / 100;
        // Contracts of the other leg become a dollar a pair.
        let closes =
            if self.count.signum() * signed.signum() < 0 { self.count.abs().min(count) } else { 0 };
        let basis = if closes == 0 { 0 } else { self.cost * closes / self.count.abs() };
        self.cost += price * (count - closes) / 100 - basis;
        self.realized += (1_000_000 - price) * closes / 100 - basis;
        self.count += signed;
        self.traded += paid;
        self.fees += micros(fill.fee_cost);
        10_000 * closes - paid
    }
}

fn micros(amount: Dollars) -> i128 {
    i128::from(amount.as_micros())
}

/// Everything that an account can read of its money, oldest first.
struct Books {
    fills: Vec<Fill>,
    holdings: BTreeMap<String, Holding>,
    /// The cash that it must have, in micro-dollars.
    cash: i128,
    settled: usize,
}

impl Books {
    async fn read(client: &Client) -> Self {
        let mut fills = client.get_fills().stream().try_collect().await.unwrap();
        fills.extend(client.get_fills_historical().stream().try_collect().await.unwrap());
        fills.reverse();
        let deposits = client.get_deposits().stream().try_collect().await.unwrap();
        let withdrawals = client.get_withdrawals().stream().try_collect().await.unwrap();
        let paid: i64 = deposits.iter().map(|row| row.amount_cents - row.fee_cents).sum();
        let back: i64 = withdrawals.iter().map(|row| row.amount_cents).sum();
        let mut cash = 10_000 * i128::from(paid - back);
        let mut holdings: BTreeMap<String, Holding> = BTreeMap::new();
        for fill in &fills {
            let holding = holdings.entry(fill.ticker.clone()).or_default();
            cash += holding.fill(fill) - micros(fill.fee_cost);
        }
        let settlements = client.get_settlements().stream().try_collect().await.unwrap();
        for row in &settlements {
            let holding = holdings.get_mut(&row.ticker).unwrap();
            let counts = [row.yes_count_fp, row.no_count_fp].map(Count::as_hundredths);
            assert_eq!(i128::from(counts[0] - counts[1]), holding.count, "{}", row.ticker);
            let costs = [row.yes_total_cost_dollars, row.no_total_cost_dollars].map(micros);
            assert_eq!(costs[0] + costs[1], holding.cost, "{}", row.ticker);
            let won = match row.market_result.as_str() {
                "yes" => counts[0],
                "no" => counts[1],
                other => panic!("{other}"),
            };
            assert_eq!((row.revenue, micros(row.fee_cost)), (won, 0), "{}", row.ticker);
            cash += 10_000 * i128::from(row.revenue);
            holding.realized += 10_000 * i128::from(row.revenue) - holding.cost;
            (holding.count, holding.cost) = (0, 0);
        }
        Self { fills, holdings, cash, settled: settlements.len() }
    }

    /// Holds the rest of the reads against it.
    async fn check(&self, client: &Client) {
        let balance = client.get_balance().send().await.unwrap();
        assert_eq!(micros(balance.balance_dollars), self.cash);
        let all = client.get_positions().settlement_status(SettlementStatusFilter::All);
        let mut rows = all.send().await.unwrap().into_inner().market_positions;
        let mut next = String::new();
        loop {
            let request = client.get_historical_positions().limit(1_000).cursor(next);
            let page = request.send().await.unwrap().into_inner();
            rows.extend(page.market_positions);
            next = page.cursor.unwrap_or_default();
            if next.is_empty() {
                break;
            }
        }
        assert_eq!(rows.len(), self.holdings.len());
        for row in rows {
            let holding = &self.holdings[&row.ticker];
            let shown = [
                i128::from(row.position_fp.as_hundredths()),
                micros(row.market_exposure_dollars),
                micros(row.total_traded_dollars),
                micros(row.realized_pnl_dollars),
                micros(row.fees_paid_dollars),
            ];
            let Holding { count, cost, traded, realized, fees } = *holding;
            assert_eq!(shown, [count, cost, traded, realized, fees], "{}", row.ticker);
        }
    }
}

async fn take(client: &Client, ticker: &str, side: &BookSide, count: &str) {
    let price = if *side == BookSide::Bid { "0.9900" } else { "0.0100" };
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side.clone())
        .count(count)
        .price(price)
        .time_in_force("immediate_or_cancel")
        .self_trade_prevention_type("maker");
    let done = client.create_order_v2().body(order).send().await.unwrap();
    assert_eq!(done.fill_count, count.parse().unwrap());
}

#[tokio::test]
async fn newcomer_4_fills_settlements_and_payments_make_the_cash_to_the_micro_dollar() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let history = Books::read(&client).await;
    assert!(history.fills.len() > 300 && history.settled > 100, "{}", history.settled);
    assert!(history.holdings.values().all(|holding| holding.count == 0));
    history.check(&client).await;

    // The same with trades of today: a position that is turned around, one that is sold in parts, one
    // that is held, and one that is won.
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(5).send().await.unwrap();
    let tickers: Vec<&str> = open.markets.iter().map(|market| &*market.ticker).collect();
    let [turned, sold, held, won, ..] = *tickers.as_slice() else { panic!("{tickers:?}") };
    for (ticker, side, count) in [
        (turned, BookSide::Bid, "3.33"),
        (turned, BookSide::Ask, "7.01"),
        (sold, BookSide::Ask, "10.00"),
        (sold, BookSide::Bid, "3.00"),
        (sold, BookSide::Bid, "0.07"),
        (held, BookSide::Bid, "0.01"),
        (won, BookSide::Bid, "12.34"),
    ] {
        take(&client, ticker, &side, count).await;
    }
    Books::read(&client).await.check(&client).await;
    exchange.markets().determine(won, MarketOutcome::Yes).unwrap();
    exchange.clock().advance(Duration::from_secs(1_801)).unwrap();
    let now = Books::read(&client).await;
    assert_eq!(now.settled, history.settled + 1);
    assert!(now.fills.len() > history.fills.len() + 6);
    now.check(&client).await;
    exchange.audit().unwrap();
}

/// Returns the fee of a fill by the rule of the SDK's guide.
fn net_fee(fill: &Fill, multiplier: Dollars, accumulator: &mut i128) -> i128 {
    let yes = micros(fill.yes_price_dollars);
    let count = i128::from(fill.count_fp.as_hundredths());
    let exact = 7 * count * yes * (1_000_000 - yes) * micros(multiplier);
    let unit = 10_i128.pow(16);
    // The makers of the quadratic schedule pay nothing.
    let trade_fee = if fill.is_taker { (exact + unit - 1) / unit } else { 0 };
    let leg = if fill.book_side == BookSide::Bid { yes } else { 1_000_000 - yes };
    // What a pair of both legs pays is whole cents: it changes no rounding.
    let rounding = (-(leg * count / 100) - trade_fee).rem_euclid(PRECISION);
    *accumulator += rounding;
    let gross = trade_fee + rounding;
    let rebate = (*accumulator).min(gross) / PRECISION * PRECISION;
    *accumulator -= rebate;
    gross - rebate
}

#[tokio::test]
async fn newcomer_3_every_fill_has_the_fee_that_the_guide_says() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(12).send().await.unwrap();
    for (place, market) in open.markets.iter().enumerate() {
        let side = if place % 2 == 0 { BookSide::Bid } else { BookSide::Ask };
        // Enough for several levels of the book: orders with several fills.
        for count in ["900", "0.01", "3.37"] {
            take(&client, &market.ticker, &side, count).await;
        }
    }
    let fills = Books::read(&client).await.fills;
    let mut series: BTreeMap<String, Dollars> = BTreeMap::new();
    for row in client.get_series_list().send().await.unwrap().into_inner().series {
        if row.fee_type.as_str() == "quadratic" {
            series.insert(row.ticker, row.fee_multiplier.to_string().parse().unwrap());
        }
    }
    let mut changes = client.get_event_fee_changes().stream().try_collect().await.unwrap();
    changes.sort_by_key(|change| change.scheduled_ts);
    let mut accumulators: BTreeMap<&str, i128> = BTreeMap::new();
    let (mut several, mut halved) = (0, 0);
    for fill in &fills {
        let event = fill.ticker.rsplit_once('-').unwrap().0;
        let at: DateTime<Utc> = fill.created_time.unwrap();
        let overridden = changes
            .iter()
            .rfind(|change| change.event_ticker == event && change.scheduled_ts <= at)
            .and_then(|change| change.fee_multiplier_override)
            .map(|multiplier| multiplier.to_string().parse().unwrap());
        halved += usize::from(overridden.is_some());
        let of_series = series[event.split('-').next().unwrap()];
        let fresh = !accumulators.contains_key(&*fill.order_id);
        several += usize::from(!fresh);
        let accumulator = accumulators.entry(&*fill.order_id).or_default();
        let expected = net_fee(fill, overridden.unwrap_or(of_series), accumulator);
        assert_eq!(micros(fill.fee_cost), expected, "{fill:?}");
    }
    // A run without overrides and without orders of several fills would prove less.
    assert!(fills.len() > 350 && several > 10 && halved > 10, "{several} {halved}");
}
