//! The allocations on the way of a delta.

use kalshi_types::UnixMillis;
use kalshi_ws::{BookChange, Books, PriceConvention, Replay};

use crate::exchange::{delta, snapshot};

const MARKETS: i64 = 20;

#[test]
fn a_delta_of_a_known_market_allocates_nothing() {
    for clock in ["", "\"clock\":7,"] {
        allocates_nothing(|frame| frame.replacen("\"price", &format!("{clock}\"price"), 1));
    }
    // Anywhere else, too.
    allocates_nothing(|frame| frame.replacen("}}", ",\"clock\":7},\"sending_ts_ms\":1}", 1));
}

fn allocates_nothing(layout: impl Fn(String) -> String) {
    let mut replay = Replay::new(PriceConvention::Yes);
    let mut books = Books::new();
    let now = UnixMillis::from_millis(0);
    let ack = r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#;
    let snapshots = (1..=MARKETS).map(|n| snapshot(1, n, &format!("M{n}"), "0.50"));
    let deltas: Vec<String> = (MARKETS + 1..MARKETS + 10_000)
        .map(|seq| {
            let count = if (seq - MARKETS - 1) % 40 < 20 { "1.00" } else { "-1.00" };
            layout(delta(1, seq, &format!("M{}", 1 + seq % MARKETS), count))
        })
        .collect();
    let mut play = |frame: &str| {
        let mut last = BookChange::None;
        replay.frame(frame, now, |event| last = books.apply(&event));
        last
    };
    play(ack);
    snapshots.for_each(|frame| assert_eq!(play(&frame), BookChange::Replaced));
    // The first of each market brings its name, and makes room for its level.
    let (warm_up, rest) = deltas.split_at(200);
    for frame in warm_up {
        assert_eq!(play(frame), BookChange::Updated);
    }
    let counted = allocation_counter::measure(|| {
        for frame in rest {
            assert_eq!(play(frame), BookChange::Updated);
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
