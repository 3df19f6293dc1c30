//! `kalshi order` as a whole: the real program against an exchange and its faults.

use std::{fs, io::Read as _, time::Duration};

use kalshi_sdk::{OperationId, types::OrderStatus};
use kalshi_sim::{FaultKind, Lag};
use serde_json::Value;

#[cfg(unix)]
use crate::support::terminal;
use crate::{own_exchange::OwnExchange, support::Ran};

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// An order that rests far from the market.
fn buy(ticker: &str) -> String {
    format!("order buy {ticker} yes 2 @ 0.01 -o json")
}

#[test]
fn an_order_is_placed_once_and_printed_as_the_exchange_has_it() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let ran = desk.run(&buy(&ticker));
    assert_eq!(ran.code, 0, "{ran:?}");
    let order = json(&ran);
    assert_eq!(order["status"], "resting");
    assert_eq!(order["yes_price_dollars"], "0.0100");
    assert_eq!(order["initial_count_fp"], "2.00");
    assert!(order["client_order_id"].as_str().unwrap().starts_with("cli-"));
    for part in ["buy YES at 0.0100", "bid at 0.0100", "cost", "position", "client id"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert_eq!(desk.placed().len(), 1);
    assert_eq!(desk.writes(), ["create_order_v2"]);
    assert_eq!(desk.journals(), 0);
}

#[test]
fn an_order_for_no_is_an_ask_in_the_book() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let ran = desk.run(&format!("order buy {ticker} no 1@0.01 --client-id my-1 -o json"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let order = json(&ran);
    assert_eq!(
        (&order["book_side"], &order["yes_price_dollars"]),
        (&"ask".into(), &"0.9900".into())
    );
    assert_eq!(order["client_order_id"], "my-1");
    // The same id is the same order, and another order under it is refused.
    let again = desk.run(&format!("order buy {ticker} no 1@0.01 --client-id my-1 -o json"));
    assert_eq!((again.code, json(&again)["order_id"].clone()), (0, order["order_id"].clone()));
    let other = desk.run(&format!("order buy {ticker} no 2@0.01 --client-id my-1 -o json"));
    assert_eq!(other.code, 1, "{other:?}");
    assert_eq!(json(&other)["error"]["effect"], "rejected");
    assert_eq!(desk.placed().len(), 1);
}

#[test]
fn a_dry_run_prints_the_exact_request_and_writes_nothing() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let arguments = format!(
        "order sell {ticker} no 2.5 @ 0.97 --tif ioc --reduce-only --group g-1 --subaccount 0 \
         --client-id my-2 --dry-run -o json"
    );
    let ran = desk.run(&arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    let printed = json(&ran);
    let body = &printed["body"];
    assert_eq!(printed["method"], "POST");
    let url = format!("{}/portfolio/events/orders", desk.exchange.base_url());
    assert_eq!(printed["url"], url);
    for (name, value) in [
        ("ticker", ticker.as_str()),
        ("side", "bid"),
        ("count", "2.50"),
        ("price", "0.0300"),
        ("time_in_force", "immediate_or_cancel"),
        ("self_trade_prevention_type", "taker_at_cross"),
        ("client_order_id", "my-2"),
        ("order_group_id", "g-1"),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    assert_eq!((&body["reduce_only"], &body["subaccount"]), (&true.into(), &0.into()));
    assert!(body.get("post_only").is_none());
    assert_eq!(desk.writes(), [""; 0]);
    let table = desk.run(&format!("order buy {ticker} yes 1 @ 0.01 --dry-run -q"));
    assert!(table.stdout.starts_with(&format!("POST {url}\n{{")), "{table:?}");
    assert_eq!((table.code, table.stderr.as_str()), (0, ""));
    assert_eq!((desk.writes().len(), desk.journals()), (0, 0));
}

#[test]
fn what_is_typed_wrong_is_refused_before_anything_is_sent() {
    let desk = OwnExchange::new();
    for (terms, part) in [
        ("10 @ 55", "prices are dollars, \"0.55\" is 55 cents"),
        ("10 @ 55c", "prices are dollars, \"0.55\" is 55 cents"),
        ("10 0.55", "COUNT @ PRICE"),
        ("0 @ 0.55", "not above zero"),
        ("10 @ 0.55 --tif ioc --expires 10m", "--expires"),
        ("10 @ 0.55 --tif fok --post-only", "--post-only"),
        ("10 @ 0.55 --reduce-only", "--reduce-only"),
        ("10 @ 0.55 --expires 2020-01-01T00:00:00Z", "not in the future"),
        ("10 @ 0.55 --max-cost cheap", "amounts are dollars"),
        ("10 @ 0.55 --subaccount 64", "64"),
    ] {
        let ran = desk.run(&format!("order buy KXA yes {terms}"));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert_eq!(desk.exchange.requests().len(), 0);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_sent() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let ran = desk.run(&format!("{} --ask", buy(&ticker)));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(json(&ran)["error"]["effect"], "not_sent");
    assert_eq!((desk.writes().len(), desk.journals()), (0, 0));
    assert_eq!(desk.run(&format!("{} --yes", buy(&ticker))).code, 0);
    assert_eq!(desk.writes(), ["create_order_v2"]);
}

#[cfg(unix)]
#[test]
fn a_person_confirms_with_the_count_and_the_price_and_declines_with_anything_else() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let at_terminal = |typed: &str| {
        let (mut main, terminal) = terminal(typed);
        let mut command = desk.command();
        command.args(format!("{} --ask", buy(&ticker)).split_whitespace());
        command.stdin(terminal.try_clone().unwrap()).stderr(terminal);
        let code = desk.finish(&mut command).code;
        drop(command);
        // Once the other end is closed and all is read, there is an error.
        let mut shown = Vec::new();
        let _ = main.read_to_end(&mut shown);
        (code, String::from_utf8_lossy(&shown).into_owned())
    };
    for typed in ["\n", "y\n", "yes\n", "2 @ 0.02\n"] {
        let (code, text) = at_terminal(typed);
        assert_eq!(code, 3, "{typed:?}: {text}");
        assert!(text.contains("type  2 @ 0.01  to confirm"), "{text}");
    }
    assert_eq!((desk.writes().len(), desk.journals()), (0, 0));
    let (code, text) = at_terminal("2 @ 0.01\n");
    assert_eq!(code, 0, "{text}");
    assert_eq!(desk.writes(), ["create_order_v2"]);
}

#[test]
fn ceilings_hold_whatever_is_said() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let ran = desk.run(&format!("{} --yes --max-cost 0.02", buy(&ticker)));
    assert_eq!(ran.code, 2, "the fee comes on top: {ran:?}");
    assert!(ran.stderr.contains("more than the 0.0200 of --max-cost"), "{}", ran.stderr);

    let config = desk.home.path().join("low.toml");
    fs::write(&config, "[profiles.default]\nmax_order_cost = '0.01'\n").unwrap();
    let mut command = desk.command();
    command.env("KALSHI_CONFIG", &config);
    command.args(buy(&ticker).split_whitespace()).args(["--yes", "--max-cost", "100"]);
    let ran = desk.finish(&mut command);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("max_order_cost of the profile"), "{}", ran.stderr);
    assert_eq!(desk.writes(), [""; 0]);
    assert_eq!(desk.run(&format!("{} --max-cost 0.03", buy(&ticker))).code, 0);
}

#[test]
fn an_order_whose_answer_is_lost_is_found_and_placed_once() {
    for kind in [FaultKind::ResetAfter, FaultKind::TruncatedBody] {
        let desk = OwnExchange::new();
        let ticker = desk.market().ticker;
        desk.fault(OperationId::CreateOrderV2, kind, Some(1));
        let ran = desk.run(&buy(&ticker));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(json(&ran)["status"], "resting");
        assert_eq!(desk.placed().len(), 1);
        assert_eq!(desk.writes(), ["create_order_v2"]);
        assert_eq!(desk.journals(), 0);
    }
}

#[test]
fn an_outcome_that_stays_unknown_exits_with_six_and_is_settled_later() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    desk.fault(OperationId::CreateOrderV2, FaultKind::ResetAfter, Some(1));
    // No list shows it for a while.
    desk.exchange.set_lag(Lag::none().with_reads(Duration::from_secs(600)));
    let arguments = format!("{} --settle-within 1s --client-id my-7", buy(&ticker));
    let ran = desk.run(&arguments);
    assert_eq!(ran.code, 6, "{ran:?}");
    let error = &json(&ran)["error"];
    assert_eq!(error["category"], "unknown_outcome");
    assert_eq!(error["effect"], "unknown");
    assert_eq!(error["next"], "kalshi order settle my-7");
    assert_eq!(desk.journals(), 1);
    desk.exchange.set_lag(Lag::none());

    // Nothing is placed in its stead.
    let blocked = desk.run(&format!("{} --yes", buy(&ticker)));
    assert_eq!(blocked.code, 6, "{blocked:?}");
    assert_eq!(json(&blocked)["error"]["next"], "kalshi order settle my-7");
    assert_eq!(desk.writes(), ["create_order_v2"]);

    let settled = desk.run("order settle my-7 -o json");
    assert_eq!(settled.code, 0, "{settled:?}");
    assert_eq!(json(&settled)["client_order_id"], "my-7");
    assert_eq!(desk.journals(), 0);
    assert_eq!(desk.run(&buy(&ticker)).code, 0);
    assert_eq!(desk.placed().len(), 2);
}

#[test]
fn an_id_without_a_journal_is_found_by_a_list_and_its_absence_is_no_proof() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    assert_eq!(desk.run(&format!("{} --client-id my-3", buy(&ticker))).code, 0);
    let found = desk.run("order settle my-3 -o json");
    assert_eq!((found.code, json(&found)["client_order_id"].as_str()), (0, Some("my-3")));
    let lost = desk.run("order settle my-4 -o json");
    assert_eq!(lost.code, 6, "{lost:?}");
}

#[test]
fn a_refusal_says_why_and_leaves_nothing() {
    let desk = OwnExchange::new();
    let market = desk.market();
    // More than the member has.
    let ran = desk.run(&format!("order buy {} yes 100000 @ 0.5 -o json", market.ticker));
    assert_eq!(ran.code, 1, "{ran:?}");
    let error = &json(&ran)["error"];
    assert_eq!((&error["category"], &error["effect"]), (&"rejected".into(), &"rejected".into()));
    assert_eq!(desk.journals(), 0);
    let shard = market.exchange_index.as_deref().copied().unwrap_or_default();
    desk.exchange.markets().set_shard(u8::try_from(shard).unwrap(), true, false).unwrap();
    let paused = desk.run(&buy(&market.ticker));
    assert_eq!(paused.code, 7, "{paused:?}");
    assert_eq!(desk.writes(), ["create_order_v2"]);
}

#[test]
fn a_key_that_is_refused_exits_with_four() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let mut command = desk.command();
    command.env("KALSHI_API_KEY_ID", "20000000-0000-4000-8000-000000000002");
    let ran = desk.finish(command.args(buy(&ticker).split_whitespace()));
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(desk.writes(), [""; 0]);
}

#[test]
fn an_order_is_changed_read_and_canceled() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let order = json(&desk.run(&buy(&ticker)));
    let id = order["order_id"].as_str().unwrap();

    let queue = desk.run(&format!("order queue {id} -o json"));
    assert_eq!(json(&queue)["queue_positions"][0]["order_id"], id);
    let queue = desk.run("order queue -o json");
    assert_eq!(json(&queue)["queue_positions"][0]["order_id"], id, "{queue:?}");
    let list = desk.run(&format!("order list --status resting --market {ticker} -o json"));
    assert_eq!(json(&list)["orders"][0]["order_id"], id);
    let got = desk.run(&format!("order get {id} -o json"));
    assert_eq!(json(&got)["order_id"], id);

    let dry = desk.run(&format!("order amend {id} --yes-price 0.02 --count 3 --dry-run -o json"));
    assert_eq!(json(&dry)["body"]["price"], "0.0200");
    assert_eq!(desk.writes(), ["create_order_v2"]);
    let amended = desk.run(&format!("order amend {id} --yes-price 0.02 --count 3 -o json"));
    assert_eq!(amended.code, 0, "{amended:?}");
    assert_eq!(json(&amended)["yes_price_dollars"], "0.0200");
    assert_eq!(json(&amended)["remaining_count_fp"], "3.00");
    let ceiling = desk.run(&format!("order amend {id} --count 300 --max-cost 1 --yes"));
    assert_eq!(ceiling.code, 2, "{ceiling:?}");

    // With --ask what only takes back is asked about, too.
    let writes = desk.writes().len();
    for words in ["decrease {} --by 1 --ask", "cancel {} --ask"] {
        let asked = desk.run(&format!("order {}", words.replace("{}", id)));
        assert_eq!(asked.code, 2, "{asked:?}");
    }
    assert_eq!(desk.writes().len(), writes);
    let less = desk.run(&format!("order decrease {id} --by 1 -o json"));
    assert_eq!(json(&less)["remaining_count_fp"], "2.00", "{less:?}");
    assert_eq!(desk.run(&format!("order decrease {id} --to 2")).code, 2);
    assert_eq!(desk.run(&format!("order decrease {id}")).code, 2);

    // The answer is lost; the order says that it was done.
    desk.fault(OperationId::CancelOrderV2, FaultKind::ResetAfter, Some(1));
    let canceled = desk.run(&format!("order cancel {id} -o json"));
    assert_eq!(canceled.code, 0, "{canceled:?}");
    assert_eq!(json(&canceled)["orders"][0]["result"], "canceled");
    assert!(desk.placed().iter().all(|order| order.status == OrderStatus::Canceled));
    let over = desk.run(&format!("order cancel {id} -o json"));
    assert_eq!(json(&over)["orders"][0]["result"], "was over");
    assert_eq!(desk.run(&format!("order amend {id} --count 9")).code, 1);
}

#[test]
fn a_lost_answer_to_an_amend_is_read_back() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let order = json(&desk.run(&buy(&ticker)));
    let id = order["order_id"].as_str().unwrap();
    desk.fault(OperationId::AmendOrderV2, FaultKind::ResetAfter, Some(1));
    let amended = desk.run(&format!("order amend {id} --no-price 0.98 -o json"));
    assert_eq!(amended.code, 0, "{amended:?}");
    assert_eq!(json(&amended)["yes_price_dollars"], "0.0200");
}

#[test]
fn cancel_all_cancels_what_it_says() {
    let desk = OwnExchange::new();
    let client = desk.client();
    let page = client.get_markets().status("open").limit(2).send();
    let markets = desk.runtime.block_on(page).unwrap().into_inner().markets;
    let resting = || {
        let orders = desk.placed();
        orders.iter().filter(|order| order.status == OrderStatus::Resting).count()
    };
    for market in &markets {
        assert_eq!(desk.run(&buy(&market.ticker)).code, 0);
    }
    assert_eq!(desk.run(&format!("{} --client-id my-5", buy(&markets[0].ticker))).code, 0);
    let writes = desk.writes().len();
    let asked = desk.run("order cancel-all --ask");
    assert_eq!(asked.code, 2, "{asked:?}");
    assert_eq!(desk.run("order cancel-all --dry-run").code, 0);
    assert_eq!((desk.writes().len(), resting()), (writes, 3));
    let one = desk.run(&format!("order cancel-all --mine --market {} -o json", markets[0].ticker));
    assert_eq!(one.code, 0, "{one:?}");
    assert_eq!(resting(), 2);
    assert_eq!(desk.run("order cancel-all --mine").code, 0);
    assert_eq!(resting(), 1);
    assert_eq!(desk.run("order cancel-all --yes").code, 0);
    assert_eq!(resting(), 0);
}
