//! `kalshi chart` as a whole.

use std::fs;

use crate::own_exchange::OwnExchange;

#[test]
fn candles_are_drawn_as_text_as_rows_and_as_a_picture() {
    let desk = OwnExchange::with(|builder| builder.with_traders(100));
    desk.exchange.markets().run_traders(2_000);
    let client = desk.client();
    let trades = desk.runtime.block_on(client.get_trades().limit(1).send()).unwrap();
    let ticker = trades.trades[0].ticker.clone();

    let ran = desk.run(&format!("chart {ticker} --width 60 --height 16"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with(&ticker), "{}", ran.stdout);
    assert_eq!(lines.len(), 17);
    assert!(lines.iter().all(|line| line.chars().count() <= 60 || line.starts_with(&ticker)));
    assert!(!ran.stdout.contains('\u{1b}'), "no colors where no terminal is");

    let rows = desk.run(&format!("chart {ticker} --period hour -o json"));
    let rows: serde_json::Value = serde_json::from_str(&rows.stdout).unwrap();
    assert!(rows["candles"][0]["close"].is_string(), "{rows}");

    let file = desk.home.path().join("chart.svg");
    let ran = desk.run(&format!("chart {ticker} --svg {}", file.display()));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert!(fs::read_to_string(&file).unwrap().starts_with("<svg "));
    let file = desk.home.path().join("chart.png");
    let ran = desk.run(&format!("chart {ticker} --png {}", file.display()));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert!(fs::read(&file).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(desk.run("chart NONE").code, 1);
}
