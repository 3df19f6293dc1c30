//! Fees beside those that the simulated exchange charges.

use std::{collections::HashMap, time::Duration};

use kalshi_sdk::{
    Client, Decimal,
    types::{
        BatchCreateOrdersV2Request, BookSide, CreateOrderV2Request, FeeType, Fill,
        SelfTradePreventionType, TimeInForce,
    },
};
use kalshi_sim::{EventFee, Exchange, FeeFormula, MarketPlan, Role};
use kalshi_trade::fees::{FeeSchedule, Liquidity, OrderFees, Precision};
use kalshi_types::{Count, Dollars, PriceRange};

/// Fills of both parties, which are checked one by one.
const FILLS: usize = 10_000;

/// A small generator of its own (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

fn order(ticker: &str, side: BookSide, price: i64, count: i64, rest: bool) -> CreateOrderV2Request {
    CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(Dollars::from_micros(price * 100))
        .count(Count::from_hundredths(count))
        .time_in_force(if rest {
            TimeInForce::GoodTillCanceled
        } else {
            TimeInForce::ImmediateOrCancel
        })
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .try_into()
        .unwrap()
}

/// Computes the fee of each fill, and compares it with the one that was charged. Returns how many
/// fills there were, and how many orders had several.
async fn compare(client: &Client, schedules: &HashMap<String, FeeSchedule>) -> (usize, usize) {
    let mut fills: Vec<Fill> = client.get_fills().limit(1_000).all().await.unwrap();
    // The newest first; the fees of an order depend on the order of its fills.
    fills.reverse();
    let mut orders: HashMap<String, (OrderFees, usize)> = HashMap::new();
    for fill in &fills {
        let fresh = || (OrderFees::new(Precision::Direct), 0);
        let (fees, several) = orders.entry(fill.order_id.clone()).or_insert_with(fresh);
        let liquidity = if fill.is_taker { Liquidity::Taker } else { Liquidity::Maker };
        let fee = fees
            .fill(
                &schedules[&fill.ticker],
                &fill.book_side,
                fill.yes_price_dollars,
                fill.count_fp,
                liquidity,
            )
            .unwrap();
        assert_eq!(fee.net_fee, fill.fee_cost, "{fill:?} with {fees:?}");
        *several += 1;
    }
    (fills.len(), orders.values().filter(|(_, fills)| *fills > 1).count())
}

#[tokio::test]
async fn fees_are_the_simulators_to_the_micro_dollar() {
    let exchange = Exchange::builder().with_seed(20_261_126).start().await.unwrap();
    let [comer, maker] = [Role::Trader, Role::Maker].map(|role| exchange.client(role).unwrap());
    for role in [Role::Trader, Role::Maker] {
        exchange.members().deposit(role, 0, Dollars::from_dollars(10_000_000).unwrap()).unwrap();
    }
    let step = Dollars::from_micros(100);
    let fine = vec![PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step }];
    let mut schedules = HashMap::new();
    for (place, (formula, kind, millionths)) in [
        (FeeFormula::Quadratic, FeeType::Quadratic, 1_000_000),
        (FeeFormula::Quadratic, FeeType::Quadratic, 370_001),
        (FeeFormula::QuadraticWithMakerFees, FeeType::QuadraticWithMakerFees, 1_000_000),
        (FeeFormula::QuadraticWithComboMakerFees, FeeType::QuadraticWithComboMakerFees, 2_500_000),
        (FeeFormula::QuadraticWithComboMakerFees, FeeType::QuadraticWithComboMakerFees, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let event = format!("KXFEE-{place}");
        let ticker = format!("{event}-A");
        exchange.markets().list(MarketPlan::new(&ticker, 86_400)).unwrap();
        exchange.markets().set_grid(&ticker, "center_centi_edge_centi_cent", fine.clone()).unwrap();
        let fee = EventFee::new(formula, millionths);
        exchange.markets().schedule_event_fee(&event, Some(fee), Duration::ZERO).unwrap();
        let multiplier = Decimal::new(millionths.into(), 6).unwrap();
        schedules.insert(ticker, FeeSchedule::new(kind, multiplier).unwrap());
    }

    let mut random = Random(20_261_126);
    let mut tickers: Vec<String> = schedules.keys().cloned().collect();
    tickers.sort_unstable();
    // About three fills a round, each seen by both parties.
    for round in 0..FILLS {
        let ticker = &*tickers[round % tickers.len()];
        // The maker stays on one side of each market, so that it does not meet itself.
        let is_bid = (round % tickers.len()).is_multiple_of(2);
        let (resting, meeting) =
            if is_bid { (BookSide::Bid, BookSide::Ask) } else { (BookSide::Ask, BookSide::Bid) };
        let ladder = (0..4).map(|_| {
            let (price, count) = (random.below(9_999) + 1, random.below(2_000) + 1);
            order(ticker, resting.clone(), price, count, true)
        });
        let ladder: Vec<_> = ladder.collect();
        let batch = BatchCreateOrdersV2Request::builder().orders(ladder);
        maker.batch_create_orders_v2().body(batch).send().await.unwrap();
        let limit = if is_bid { 1 } else { 9_999 };
        let met = order(ticker, meeting, limit, random.below(4_000) + 1, false);
        comer.create_order_v2().body(met).send().await.unwrap();
        if round % 100 == 99 {
            let done = comer.get_fills().limit(1_000).all().await.unwrap().len();
            if 2 * done >= FILLS {
                break;
            }
        }
    }
    let (taken, long_taken) = compare(&comer, &schedules).await;
    let (made, long_made) = compare(&maker, &schedules).await;
    assert!(taken + made >= FILLS, "{taken} and {made} fills");
    assert!(long_taken > 100 && long_made > 100, "{long_taken} and {long_made} of several fills");
    exchange.audit().unwrap();
}
