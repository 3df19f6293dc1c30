//! `kalshi portfolio` and the rest of what an account can read.

use serde_json::{Value, json};

use crate::support::Setup;

#[tokio::test]
async fn money_is_text_as_on_the_wire() {
    let setup = Setup::new().await;
    let balance = setup.run(&["portfolio", "balance", "-o", "json"]).await.json();
    assert!(balance["balance_dollars"].is_string(), "{balance}");
    let wire = setup.run(&["api", "get_balance"]).await.json();
    assert_eq!(balance["balance_dollars"], wire["balance_dollars"]);
    let csv = ["portfolio", "balance", "--fields", "balance_dollars", "-o", "csv"];
    let expected = format!("balance_dollars\n{}\n", wire["balance_dollars"].as_str().unwrap());
    assert_eq!(setup.run(&csv).await.ok(), expected);
}

#[tokio::test]
async fn history_is_live_and_archived_rows_without_duplicates() {
    let setup = Setup::new().await;
    for (kind, items, id) in [("fills", "fills", "fill_id"), ("orders", "orders", "order_id")] {
        let all = setup.run(&["portfolio", "history", kind, "-o", "json"]).await.json();
        let rows = all[items].as_array().unwrap();
        let mut ids: Vec<&str> = rows.iter().map(|row| row[id].as_str().unwrap()).collect();
        assert!(ids.len() > 1, "{kind}");
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        let operation =
            if kind == "fills" { "get_fills_historical" } else { "get_historical_orders" };
        let archived = setup.run(&["api", operation, "--all"]).await.json();
        for row in archived[items].as_array().unwrap() {
            assert!(ids.contains(&row[id].as_str().unwrap()), "{row}");
        }
        // One market is a part of it.
        let ticker = rows[0]["ticker"].as_str().unwrap();
        let of_it = ["portfolio", "history", kind, "--ticker", ticker, "-o", "ndjson"];
        let of_it = setup.run(&of_it).await.ok();
        let expected = rows.iter().filter(|row| row["ticker"] == ticker).count();
        assert_eq!(of_it.lines().count(), expected);
    }
}

#[tokio::test]
async fn profits_are_summed_exactly() {
    let setup = Setup::new().await;
    let pnl = setup.run(&["portfolio", "pnl", "-o", "json"]).await.json();
    let wire = ["api", "get_positions", "-p", "settlement_status=all", "--all"];
    let wire = setup.run(&wire).await.json();
    for name in ["realized_pnl_dollars", "fees_paid_dollars", "total_traded_dollars"] {
        let sum = wire["market_positions"].as_array().unwrap().iter().fold(
            kalshi_sdk::Dollars::default(),
            |sum, row| {
                let amount = row[name].as_str().unwrap().parse().unwrap();
                sum.checked_add(amount).unwrap()
            },
        );
        assert_eq!(pnl["total"][name], json!(sum.to_string()), "{name}");
    }
    let table = setup.run(&["portfolio", "pnl"]).await.ok();
    assert!(table.lines().last().unwrap().starts_with("total"), "{table}");
}

#[tokio::test]
async fn everything_else_of_an_account_is_read() {
    let setup = Setup::new().await;
    for (words, operation) in [
        (&["portfolio", "positions"][..], "get_positions"),
        (&["portfolio", "fills", "--since", "30d"], "get_fills"),
        (&["portfolio", "settlements"], "get_settlements"),
        (&["exchange", "limits"], "get_account_api_limits"),
        (&["exchange", "costs"], "get_account_endpoint_costs"),
        (&["exchange", "schedule"], "get_exchange_schedule"),
        (&["group", "list"], "get_order_groups"),
        (&["rfq", "list"], "get_rfqs"),
        (&["quote", "list"], "get_quotes"),
        (&["key", "list"], "get_api_keys"),
        (&["transfer", "list"], "get_intra_exchange_instance_transfers"),
        (&["transfer", "subaccount-list"], "get_subaccount_transfers"),
        (&["transfer", "balances"], "get_subaccount_balances"),
    ] {
        for format in ["table", "json", "ndjson", "csv"] {
            let from = setup.exchange.requests().len();
            let ran = setup.run(&[words, &["-o", format]].concat()).await;
            let out = ran.ok();
            assert_eq!(setup.asked(from), [operation], "{words:?}");
            match format {
                "json" => {
                    serde_json::from_str::<Value>(&out).unwrap();
                }
                "ndjson" => {
                    for line in out.lines() {
                        serde_json::from_str::<Value>(line).unwrap();
                    }
                }
                _ => {}
            }
        }
    }
}
