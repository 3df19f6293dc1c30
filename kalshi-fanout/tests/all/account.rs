//! Your account over the bus: private by default, and as on a connection otherwise.

use std::time::Duration;

use kalshi_fanout::{
    BusMessage, Flags, Follower, FollowerConfig, Publisher, PublisherConfig, subject::Kind,
};
use kalshi_types::UnixMillis;
use kalshi_ws::{Channel, Event, Portfolio, PortfolioChange, PriceConvention, Replay};

const ZERO: Duration = Duration::ZERO;
const WALL: UnixMillis = UnixMillis::from_millis(1_700_000_000_000);

const SUBSCRIBED: [&str; 3] = [
    r#"{"id":1,"type":"subscribed","msg":{"channel":"fill","sid":1}}"#,
    r#"{"id":2,"type":"subscribed","msg":{"channel":"user_orders","sid":2}}"#,
    r#"{"id":3,"type":"subscribed","msg":{"channel":"market_positions","sid":3}}"#,
];

fn fill(id: &str, count: &str) -> String {
    format!(
        r#"{{"type":"fill","sid":1,"msg":{{"trade_id":"{id}","order_id":"o-{id}","market_ticker":"A","exchange_index":0,"is_taker":true,"yes_price_dollars":"0.7500","count_fp":"{count}","fee_cost":"0.01","ts_ms":1,"post_position_fp":"5","outcome_side":"yes","book_side":"bid","subaccount":0}}}}"#
    )
}

fn order(id: &str, status: &str, updated: u64) -> String {
    format!(
        r#"{{"type":"user_order","sid":2,"msg":{{"order_id":"{id}","user_id":"u","ticker":"A","status":"{status}","outcome_side":"yes","book_side":"bid","yes_price_dollars":"0.3500","fill_count_fp":"0.00","remaining_count_fp":"5.00","initial_count_fp":"50.00","taker_fill_cost_dollars":"0","maker_fill_cost_dollars":"0","taker_fees_dollars":"0","maker_fees_dollars":"0","client_order_id":"c","last_updated_ts_ms":{updated}}}}}"#
    )
}

fn position(count: &str) -> String {
    format!(
        r#"{{"type":"market_position","sid":3,"sending_ts_ms":5,"msg":{{"user_id":"u","market_ticker":"A","position_fp":"{count}","position_cost_dollars":"1","realized_pnl_dollars":"-2","fees_paid_dollars":"0.1","position_fee_cost_dollars":"0","volume_fp":"9"}}}}"#
    )
}

fn publisher(account: Option<&str>) -> Publisher {
    let mut config = PublisherConfig::new("sim", "a");
    config.account = account.map(str::to_owned);
    let mut publisher = Publisher::new(config).unwrap();
    publisher.lead(1, Duration::from_secs(1_000), ZERO);
    publisher
}

fn feed(publisher: &mut Publisher, frames: &[String], now: Duration) -> Vec<BusMessage> {
    for frame in frames {
        publisher.frame(frame, WALL, now);
    }
    let mut messages = Vec::new();
    while let Some(publication) = publisher.next(WALL, now) {
        publisher.acknowledged(publication.token);
        messages.push(publication.message);
    }
    messages
}

fn confirmations() -> Vec<String> {
    SUBSCRIBED.map(str::to_owned).to_vec()
}

/// A follower with the view that a process keeps.
struct Process {
    follower: Follower,
    portfolio: Portfolio,
    /// What each event changed.
    changes: Vec<PortfolioChange>,
    gaps: Vec<Channel>,
}

impl Process {
    fn new() -> Self {
        let mut config = FollowerConfig::new("sim");
        config.stale_after = Duration::from_secs(500);
        let follower = Follower::new(config, || ZERO).unwrap();
        let (portfolio, changes, gaps) = (Portfolio::new(), Vec::new(), Vec::new());
        Self { follower, portfolio, changes, gaps }
    }

    fn give(&mut self, messages: &[BusMessage], now: Duration) {
        for message in messages {
            self.follower.message(message, now);
        }
        self.follower.tick(now);
        while let Some(event) = self.follower.next_event(now) {
            if let Event::Gap { channel, .. } = &event {
                self.gaps.push(channel.clone());
            }
            self.changes.push(self.portfolio.apply(&event));
        }
    }

    /// Compares with the view of a direct connection.
    fn is_as(&self, direct: &Portfolio) -> bool {
        let orders = |portfolio: &Portfolio| {
            let mut orders: Vec<_> = portfolio.orders().cloned().collect();
            orders.sort_by(|one, other| one.order_id.cmp(&other.order_id));
            orders
        };
        let positions = |portfolio: &Portfolio| portfolio.positions().cloned().collect::<Vec<_>>();
        orders(&self.portfolio) == orders(direct)
            && positions(&self.portfolio) == positions(direct)
            && self.portfolio.is_subscribed() == direct.is_subscribed()
    }
}

fn direct(frames: &[String]) -> Portfolio {
    let (mut replay, mut portfolio) = (Replay::new(PriceConvention::Yes), Portfolio::new());
    for frame in frames {
        replay.frame(frame, WALL, |event| {
            portfolio.apply(&event);
        });
    }
    portfolio
}

#[test]
fn nothing_of_the_account_is_published_unless_it_is_named() {
    let mut publisher = publisher(None);
    let frames =
        [confirmations(), vec![fill("t", "5.00"), order("o", "resting", 1), position("5")]];
    let messages = feed(&mut publisher, &frames.concat(), ZERO);
    assert!(messages.iter().all(|message| message.subject.contains(".ctl.")), "{messages:?}");
    assert_eq!(publisher.metrics().unpublished, 3);
}

#[test]
fn every_process_has_the_portfolio_of_a_direct_connection() {
    let mut publisher = publisher(Some("main"));
    let mut processes = [Process::new(), Process::new(), Process::new()];
    let mut frames = confirmations();
    let mut messages = feed(&mut publisher, &frames, ZERO);
    let more = [
        order("o1", "resting", 1),
        fill("t1", "5.00"),
        position("5.00"),
        order("o2", "resting", 2),
        fill("t2", "1.00"),
        position("6.00"),
        order("o1", "canceled", 3),
    ];
    messages.extend(feed(&mut publisher, &more, ZERO));
    frames.extend(more);
    let own = messages.iter().filter(|message| message.subject.starts_with("kx.v1.sim.own.main."));
    assert_eq!(own.count(), 3 + 7);
    let direct = direct(&frames);
    assert!(direct.is_subscribed() && direct.orders().len() == 1);
    for process in &mut processes {
        process.give(&messages, ZERO);
        assert!(process.is_as(&direct), "{:?}", process.portfolio);
        assert!(process.gaps.is_empty());
    }
    // Frames go through as they are.
    let fills = messages.iter().filter(|message| message.subject.contains(".main.fill"));
    let texts: Vec<_> = fills.map(|message| &message.payload[..]).collect();
    assert_eq!(texts[1..], [fill("t1", "5.00").as_bytes(), fill("t2", "1.00").as_bytes()]);
}

#[test]
fn a_lost_message_of_the_account_is_a_gap_at_the_next_one_or_the_heartbeat() {
    let mut publisher = publisher(Some("main"));
    let (mut process, mut tail) = (Process::new(), Process::new());
    let begun = feed(&mut publisher, &confirmations(), ZERO);
    process.give(&begun, ZERO);
    tail.give(&begun, ZERO);
    let sent = feed(&mut publisher, &[fill("t1", "5.00"), fill("t2", "5.00")], ZERO);
    // The bus loses the first for one, and both for the other.
    process.give(&sent[1..], ZERO);
    assert_eq!(process.gaps, [Channel::Fill]);
    assert!(process.changes.contains(&PortfolioChange::Stale));
    assert!(process.changes.contains(&PortfolioChange::Fill));
    let later = Duration::from_secs(6);
    let alive = feed(&mut publisher, &[], later);
    process.give(&alive, later);
    tail.give(&alive, later);
    let after = later + Duration::from_secs(1);
    process.give(&[], after);
    assert!(tail.gaps.is_empty());
    tail.give(&[], after);
    assert_eq!((process.gaps.len(), &*tail.gaps), (1, &[Channel::Fill][..]));
    // It goes on behind the gap.
    let next = feed(&mut publisher, &[fill("t3", "5.00")], after);
    tail.give(&next, after);
    assert_eq!(tail.gaps.len(), 1);
    assert_eq!(tail.changes.last(), Some(&PortfolioChange::Fill));
}

#[test]
fn what_the_publisher_may_have_missed_is_a_gap_and_a_new_connection_is_confirmed_anew() {
    let mut publisher = publisher(Some("main"));
    let mut process = Process::new();
    process.give(&feed(&mut publisher, &confirmations(), ZERO), ZERO);
    assert!(process.portfolio.is_subscribed());
    // A frame of the fills that does not read: their messages have no numbers.
    let broken = fill("t1", "5.00").replace("\"0.7500\"", "[]");
    process.give(&feed(&mut publisher, &[broken], ZERO), ZERO);
    assert_eq!(process.gaps, [Channel::Fill]);
    publisher.disconnected("a test");
    process.give(&feed(&mut publisher, &[], ZERO), ZERO);
    assert!(!process.portfolio.is_subscribed());
    process.give(&feed(&mut publisher, &confirmations(), ZERO), ZERO);
    assert!(process.portfolio.is_subscribed());
    let subscribed = process.follower.pattern(Kind::Fill, "main").unwrap();
    assert_eq!(subscribed, "kx.v1.sim.own.main.fill");
    assert!(Flags::default().with(Flags::ALIVE).contains(Flags::ALIVE));
}
