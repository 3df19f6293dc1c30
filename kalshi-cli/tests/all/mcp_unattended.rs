//! `kalshi mcp --unattended`: orders without a person, within ceilings.

use std::time::Duration;

use kalshi_sdk::{Dollars, OperationId, types::OrderStatus};
use kalshi_sim::{FaultKind, Lag};
use serde_json::{Value, json};

use crate::{
    mcp::{Conversation, audit_of},
    own_exchange::OwnExchange,
};

/// The ceilings of a server.
struct Ceilings<'a> {
    order: &'a str,
    day: &'a str,
    minute: &'a str,
    markets: &'a str,
}

fn server(desk: &OwnExchange, ceilings: &Ceilings<'_>) -> Conversation {
    let mut command = desk.command();
    command.args(["mcp", "--allow", "trade", "--unattended", "--settle-within", "1s"]).args([
        "--max-order-cost",
        ceilings.order,
        "--max-day-cost",
        ceilings.day,
        "--max-orders-per-minute",
        ceilings.minute,
        "--markets",
        ceilings.markets,
    ]);
    Conversation::greeted(command)
}

/// Returns two open markets.
fn markets(desk: &OwnExchange) -> [String; 2] {
    let client = desk.client();
    let request = client.get_markets().status("open").limit(2);
    let page = desk.runtime.block_on(request.send()).unwrap().into_inner();
    let tickers: Vec<String> = page.markets.into_iter().map(|market| market.ticker).collect();
    tickers.try_into().unwrap()
}

fn order(ticker: &str, request_id: &str) -> Value {
    json!({
        "ticker": ticker, "action": "buy", "outcome": "yes", "count": "2", "price": "0.01",
        "request_id": request_id,
    })
}

#[track_caller]
fn refused(server: &mut Conversation, tool: &str, arguments: &Value, part: &str) {
    let failure = server.fail(tool, arguments);
    assert!(failure["message"].as_str().unwrap().contains(part), "{failure}");
    assert_eq!(failure["effect"], "not_sent", "{failure}");
}

#[test]
fn it_does_not_start_without_every_ceiling() {
    let desk = OwnExchange::new();
    let all = [
        "--allow trade",
        "--max-order-cost 1.00",
        "--max-day-cost 5.00",
        "--max-orders-per-minute 3",
        "--markets A,B",
    ];
    for missing in all {
        let given: Vec<&str> = all.into_iter().filter(|it| *it != missing).collect();
        let ran = desk.run(&format!("mcp --unattended {}", given.join(" ")));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        let (name, _) = missing.split_once(' ').unwrap();
        assert!(ran.stderr.contains(name), "{}", ran.stderr);
    }
    let all = all.join(" ");
    for (words, part) in [
        (all.clone(), "--unattended"),
        (format!("{all} --unattended --ask"), "--ask"),
        (format!("{all} --unattended --dry-run"), "--dry-run"),
        (format!("{all} --unattended").replace("A,B", "A,,B"), "empty"),
        (format!("{all} --unattended").replace("minute 3", "minute 0"), "0 is not in 1..=60"),
        (format!("{all} --unattended").replace("minute 3", "minute 61"), "61 is not in 1..=60"),
        (format!("{all} --unattended").replace("cost 5.00", "cost=-5.00"), "below zero"),
    ] {
        let ran = desk.run(&format!("mcp {words}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words}: {ran:?}");
        assert!(ran.stderr.contains(part), "{words}: {}", ran.stderr);
    }
}

#[test]
fn an_order_is_sent_at_once_and_once_for_each_request_id() {
    let desk = OwnExchange::new();
    let [ticker, other] = markets(&desk);
    let ceilings = Ceilings { order: "1.00", day: "5.00", minute: "20", markets: &ticker };
    let mut server = server(&desk, &ceilings);
    let listed = server.ask("tools/list", &json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    let writes: Vec<&Value> =
        tools.iter().filter(|tool| tool["annotations"]["readOnlyHint"] == false).collect();
    assert_eq!(writes.len(), 4);
    for tool in writes {
        let schema = &tool["inputSchema"];
        assert!(schema["required"].as_array().unwrap().contains(&json!("request_id")), "{tool}");
        assert!(schema["properties"]["ticket"].is_null(), "{tool}");
        assert!(tool["description"].as_str().unwrap().contains("Sends at once"), "{tool}");
    }

    let placed = server.get("place_order", &order(&ticker, "one"));
    let id = placed["data"]["order_id"].as_str().unwrap().to_owned();
    assert_eq!(placed["data"]["status"], "resting", "{placed}");
    assert!(placed["data"]["client_order_id"].as_str().unwrap().starts_with("cli-mcp-"));
    // A repeated call, also of another server.
    let mut second = self::server(&desk, &ceilings);
    for server in [&mut server, &mut second] {
        let again = server.get("place_order", &order(&ticker, "one"));
        assert_eq!(again["data"]["state"], "was_used_before", "{again}");
        assert_eq!(again["data"]["result"]["order_id"], id.as_str());
    }
    assert_eq!(second.end().code, 0);
    let mut forged = order(&ticker, "one");
    forged["count"] = json!("3");
    refused(&mut server, "place_order", &forged, "request_id was made for other arguments");
    refused(&mut server, "cancel_order", &json!({"order_id": id, "request_id": "one"}), "is for");
    let long = "x".repeat(129);
    for (request_id, part) in [("", "1 to 128"), (long.as_str(), "1 to 128")] {
        refused(&mut server, "place_order", &order(&ticker, request_id), part);
    }
    let mut without = order(&ticker, "two");
    without.as_object_mut().unwrap().remove("request_id");
    refused(&mut server, "place_order", &without, "request_id is missing");
    without["ticket"] = json!("0".repeat(24));
    refused(&mut server, "place_order", &without, "no argument \"ticket\"");
    assert_eq!((desk.writes(), desk.placed().len()), (vec!["create_order_v2"], 1));

    // Changes and cancels, in the markets that are listed only.
    let change = json!({"order_id": id, "yes_price": "0.02", "request_id": "three"});
    let amended = server.get("amend_order", &change);
    assert_eq!(amended["data"]["yes_price_dollars"], "0.0200", "{amended}");
    assert_eq!(desk.run(&format!("order buy {other} yes 2 @ 0.01 --client-id my-1")).code, 0);
    let elsewhere = desk.placed().into_iter().find(|it| it.client_order_id == "my-1").unwrap();
    let writes = desk.writes().len();
    let part = "not among the markets";
    for (tool, arguments) in [
        ("place_order", order(&other, "four")),
        ("amend_order", json!({"order_id": elsewhere.order_id, "count": "1", "request_id": "5"})),
        ("cancel_order", json!({"order_id": elsewhere.order_id, "request_id": "6"})),
        ("cancel_all", json!({"ticker": other, "request_id": "7"})),
    ] {
        refused(&mut server, tool, &arguments, part);
    }
    refused(&mut server, "cancel_all", &json!({"request_id": "8"}), "beyond --markets");
    assert_eq!(desk.writes().len(), writes);
    let canceled = server.get("cancel_order", &json!({"order_id": id, "request_id": "9"}));
    assert_eq!(canceled["data"]["result"], "canceled", "{canceled}");
    server.get("place_order", &order(&ticker, "ten"));
    let all = json!({"ticker": ticker, "request_id": "11"});
    let canceled = server.get("cancel_all", &all);
    assert_eq!(canceled["data"]["orders"].as_array().unwrap().len(), 1, "{canceled}");
    let resting = |order: &&kalshi_sdk::types::Order| order.status == OrderStatus::Resting;
    assert_eq!(desk.placed().iter().filter(resting).count(), 1, "the one elsewhere");

    let over = server.end();
    assert_eq!(over.code, 0);
    assert!(over.stderr.contains("sent without a person, at most 1.0000 an order"));
    let lines = audit_of(&desk.home);
    assert!(lines.iter().all(|line| line["unattended"] == true), "{lines:?}");
    let about: Vec<_> = lines.iter().filter(|line| line["order_id"] == id.as_str()).collect();
    assert_eq!(about[0]["outcome"], "ok");
    let is_of_it = |line: &&Value| line["ticket"] == about[0]["ticket"];
    let outcomes = lines.iter().filter(is_of_it);
    let outcomes: Vec<_> = outcomes.map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["sending", "ok", "repeated", "repeated"]);
}

#[test]
fn ceilings_hold_for_one_order_a_day_and_a_minute_across_servers() {
    let desk = OwnExchange::new();
    let [ticker, _] = markets(&desk);
    let with = |order, day, minute| Ceilings { order, day, minute, markets: &ticker };
    let mut server = server(&desk, &with("0.03", "0.10", "60"));
    let mut asked = order(&ticker, "much");
    asked["count"] = json!("100");
    refused(&mut server, "place_order", &asked, "--max-order-cost");
    let mut explained = order(&ticker, "");
    explained.as_object_mut().unwrap().remove("request_id");
    let explained = server.get("explain_order", &explained);
    let cost: Dollars = explained["data"]["worst_cost"].as_str().unwrap().parse().unwrap();
    assert!(cost.is_positive());

    let mut spent = Dollars::ZERO;
    let limit: Dollars = "0.10".parse().unwrap();
    let mut placed = 0;
    while (spent + cost).get().unwrap() <= limit {
        server.get("place_order", &order(&ticker, &format!("order {placed}")));
        spent = (spent + cost).get().unwrap();
        placed += 1;
    }
    assert!(placed >= 2, "{cost}");
    refused(&mut server, "place_order", &order(&ticker, "over"), "--max-day-cost");
    // A change counts as an order, a cancel does not.
    let id = desk.placed()[0].order_id.clone();
    let change = json!({"order_id": id, "yes_price": "0.02", "count": "1", "request_id": "change"});
    refused(&mut server, "amend_order", &change, "--max-day-cost");
    server.get("cancel_order", &json!({"order_id": id, "request_id": "cancel"}));
    refused(&mut server, "place_order", &order(&ticker, "over"), "--max-day-cost");
    assert_eq!(server.end().code, 0);

    // Another server knows of them.
    let most = (placed + 1).to_string();
    let mut server = self::server(&desk, &with("0.03", "5.00", &most));
    server.get("place_order", &order(&ticker, "over"));
    refused(&mut server, "place_order", &order(&ticker, "soon"), "--max-orders-per-minute");
    assert_eq!(server.end().code, 0);
    assert_eq!(desk.placed().len(), placed + 1);

    // A ceiling of the profile holds as well.
    let low = desk.home.file("low.toml", "[profiles.default]\nmax_order_cost = '0.01'\n");
    let mut command = desk.command();
    command.env("KALSHI_CONFIG", low).args(["mcp", "--allow", "trade", "--unattended"]).args(
        format!(
            "--max-order-cost 5 --max-day-cost 5 --max-orders-per-minute 60 --markets {ticker}"
        )
        .split(' '),
    );
    let mut server = Conversation::greeted(command);
    refused(&mut server, "place_order", &order(&ticker, "low"), "max_order_cost of the profile");
    assert_eq!(server.end().code, 0);
    assert_eq!(desk.placed().len(), placed + 1);
}

#[test]
fn an_order_whose_answer_is_lost_is_found_out_with_its_request_id() {
    let desk = OwnExchange::new();
    let [ticker, _] = markets(&desk);
    let ceilings = Ceilings { order: "1.00", day: "5.00", minute: "20", markets: &ticker };
    let mut server = server(&desk, &ceilings);
    desk.fault(OperationId::CreateOrderV2, FaultKind::ResetAfter, Some(1));
    // No list shows it for a while.
    desk.exchange.set_lag(Lag::none().with_reads(Duration::from_secs(600)));
    let failure = server.fail("place_order", &order(&ticker, "lost"));
    assert_eq!(
        (&failure["category"], &failure["effect"]),
        (&json!("unknown_outcome"), &json!("unknown"))
    );
    assert!(
        failure["next"].as_str().unwrap().contains("with the request_id \"lost\""),
        "{failure}"
    );
    // Nothing is placed in its stead.
    let failure = server.fail("place_order", &order(&ticker, "another"));
    assert_eq!(failure["category"], "unknown_outcome", "{failure}");
    assert!(failure["next"].as_str().unwrap().contains("request_id \"lost\""), "{failure}");
    desk.exchange.set_lag(Lag::none());
    let found = loop {
        let (is_error, found) = server.call("place_order", &order(&ticker, "lost"));
        if !is_error {
            break found;
        }
        assert_eq!(found["error"]["category"], "unknown_outcome", "{found}");
    };
    assert_eq!(found["data"]["status"], "resting", "{found}");
    let again = server.get("place_order", &order(&ticker, "lost"));
    assert_eq!(again["data"]["state"], "was_used_before", "{again}");
    assert_eq!((desk.writes(), desk.placed().len()), (vec!["create_order_v2"], 1));
    assert_eq!(server.end().code, 0);
}
