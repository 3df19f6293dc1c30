//! `kalshi market watch` where no terminal is.

use serde_json::Value;

use crate::own_exchange::OwnExchange;

#[test]
fn markets_are_watched_as_lines_where_no_terminal_is() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    // The connection, and the market as it stands.
    let ran = desk.run(&format!("market watch {ticker} --count 2"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[1]["type"]), (&"connected".into(), &"ticker".into()));
    assert_eq!(lines[1]["msg"]["market_ticker"], ticker.as_str());
    assert!(lines[1]["msg"]["yes_bid_dollars"].is_string(), "{lines:?}");

    let none = desk.run(&format!("market watch {ticker} KXNONE"));
    assert!(none.code == 2 && none.stderr.contains("no market KXNONE"), "{none:?}");
    assert_eq!(desk.run(&format!("market watch {ticker} -o csv")).code, 2);
}
