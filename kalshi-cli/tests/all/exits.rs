//! Each exit code, provoked; and what ends a command from outside.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use kalshi_sdk::OperationId;
use kalshi_sim::{Exchange, Fault, FaultKind, Role};
use serde_json::json;

use crate::support::{Folder, KEY_ID, Setup, bare, run, run_without_reader};

const CREATE: [&str; 3] = ["group", "create", "10"];

fn fault(kind: FaultKind, operation: OperationId) -> Fault {
    Fault::builder(kind).with_operation(operation).with_times(1).build()
}

#[tokio::test]
async fn code_1_is_a_refusal_by_the_exchange_or_a_lost_read() {
    let setup = Setup::new().await;
    let failure = setup.run(&["market", "get", "KXNONE", "-o", "json"]).await.failure(1);
    assert_eq!(
        (&failure["category"], &failure["status"], &failure["effect"]),
        (&json!("rejected"), &json!(404), &json!("rejected"))
    );
    setup.exchange.faults().add(fault(FaultKind::ResetBefore, OperationId::GetBalance)).unwrap();
    let failure = setup.run(&["portfolio", "balance", "-o", "json"]).await.failure(1);
    assert_eq!((&failure["category"], &failure["retryable"]), (&json!("network"), &json!(true)));
    setup.exchange.faults().assert_all_hit();
}

#[tokio::test]
async fn code_2_is_a_wrong_command_line() {
    let folder = Folder::new();
    for words in [
        &["markets"][..],
        &["market", "list", "--limit", "0"],
        &["market", "list", "--env", "nowhere"],
        &["--profile", "other", "market", "list"],
        &["market", "candles", "X", "--since", "1h", "--until", "2h"],
    ] {
        let ran = run(bare(&folder, &[words, &["--output=json"]].concat())).await;
        assert!(ran.stderr.contains("error"), "{ran:#?}");
        assert_eq!(ran.failure(2)["category"], "usage", "{words:?}");
    }
    // A table is for people: the text is enough.
    let ran = run(bare(&folder, &["market", "list", "--limit", "0"])).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
}

#[tokio::test]
async fn code_3_is_a_person_who_declines() {
    let setup = Setup::new().await;
    let mut command = setup.command(&[&CREATE[..], &["--ask", "-o", "json"]].concat());
    command.stdin(crate::support::typing("no\n"));
    let ran = run(command).await;
    assert!(ran.stderr.contains("Type \"create_order_group\" to go on"), "{ran:#?}");
    assert_eq!(ran.failure(3)["category"], "declined");
    assert!(setup.exchange.requests().is_empty());
    // Who types what is asked for gets it.
    let mut command = setup.command(&[&CREATE[..], &["--ask"]].concat());
    command.stdin(crate::support::typing("create_order_group\n"));
    run(command).await.ok();
    assert_eq!(setup.asked(0), ["create_order_group"]);
}

#[tokio::test]
async fn without_a_terminal_nothing_is_confirmed() {
    let setup = Setup::new().await;
    let ran = setup.run(&[&CREATE[..], &["--ask"]].concat()).await;
    assert!(ran.code == 2 && ran.stderr.contains("--yes"), "{ran:#?}");
    // Real money is at stake wherever it is not known to be mock money.
    for env in ["production", "https://exchange.invalid/trade-api/v2"] {
        let ran = setup.run(&[&CREATE[..], &["--env", env]].concat()).await;
        assert!(ran.code == 2 && ran.stderr.contains("no terminal"), "{ran:#?}");
    }
    assert!(setup.exchange.requests().is_empty());
}

#[tokio::test]
async fn code_4_is_about_credentials() {
    let setup = Setup::new().await;
    let public = run(setup.public(&["portfolio", "balance", "-o", "json"])).await;
    assert!(public.stderr.contains("KALSHI_API_KEY_ID"), "{public:#?}");
    assert_eq!(public.failure(4)["effect"], "not_sent");
    let mut command = setup.command(&["portfolio", "balance", "-o", "json"]);
    command.env("KALSHI_PRIVATE_KEY_PATH", "/nowhere.pem");
    assert_eq!(run(command).await.failure(4)["category"], "credentials");
    assert!(setup.exchange.requests().is_empty());
    let mut command = setup.command(&["portfolio", "balance", "-o", "json"]);
    command.env("KALSHI_API_KEY_ID", "another");
    let failure = run(command).await.failure(4);
    assert_eq!(failure["status"], 401);
    // A key that may only read.
    let setup = Setup::with(Exchange::builder(), Role::Reader).await;
    let failure = setup.run(&[&CREATE[..], &["-o", "json"]].concat()).await.failure(4);
    assert_eq!((&failure["status"], &failure["effect"]), (&json!(403), &json!("rejected")));
}

#[tokio::test]
async fn code_5_is_the_rate_limit() {
    let setup = Setup::new().await;
    setup.exchange.faults().add(fault(FaultKind::TooManyRequests, OperationId::GetFills)).unwrap();
    let failure = setup.run(&["portfolio", "fills", "-o", "json"]).await.failure(5);
    assert_eq!((&failure["category"], &failure["retryable"]), (&json!("rate_limit"), &json!(true)));
    setup.exchange.faults().assert_all_hit();
}

#[tokio::test]
async fn code_6_is_a_write_that_may_have_been_carried_out() {
    let setup = Setup::new().await;
    for kind in [FaultKind::ResetAfter, FaultKind::status(502), FaultKind::TruncatedBody] {
        setup.exchange.faults().add(fault(kind, OperationId::CreateOrderGroup)).unwrap();
        let failure = setup.run(&[&CREATE[..], &["-o", "json"]].concat()).await.failure(6);
        assert_eq!(
            (&failure["category"], &failure["effect"], &failure["retryable"]),
            (&json!("unknown_outcome"), &json!("unknown"), &json!(false)),
            "{kind:?}"
        );
        assert!(failure["next"].as_str().unwrap().contains("read the state back"));
    }
    setup.exchange.faults().assert_all_hit();
    // Nothing was sent twice.
    assert_eq!(setup.asked(0), ["create_order_group"; 3]);
}

#[tokio::test]
async fn code_7_is_a_pause_of_the_exchange() {
    let setup = Setup::new().await;
    let markets = setup.run(&["market", "list", "--status", "open", "-o", "json"]).await.json();
    let ticker = markets["markets"][0]["ticker"].as_str().unwrap().to_owned();
    let body = json!({
        "ticker": ticker, "side": "bid", "count": "1.00", "price": "0.0100",
        "time_in_force": "good_till_canceled", "self_trade_prevention_type": "taker_at_cross",
    });
    let body = body.to_string();
    for (exchange_active, trading_active) in [(true, false), (false, false)] {
        setup.exchange.markets().set_shard(0, exchange_active, trading_active).unwrap();
        let ran = setup.run(&["api", "create_order_v2", "--body", &body]).await;
        let failure = ran.failure(7);
        assert_eq!(
            (&failure["category"], &failure["effect"]),
            (&json!("exchange_closed"), &json!("rejected"))
        );
    }
    setup.exchange.markets().set_shard(0, true, true).unwrap();
    setup.run(&["api", "create_order_v2", "--body", &body]).await.ok();
}

#[cfg(unix)]
#[tokio::test]
async fn code_130_is_ctrl_c_and_tells_of_a_write_under_way() {
    let setup = Setup::new().await;
    let place = async |text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        setup.run(&words).await.json()["order_id"].as_str().unwrap().to_owned()
    };
    let markets = setup.run(&["market", "list", "--status", "open", "-o", "json"]).await.json();
    let ticker = markets["markets"][0]["ticker"].as_str().unwrap();
    let buy = format!("order buy {ticker} yes 2 @ 0.01 -o json");
    let id = place(&buy).await;
    let settle = "kalshi order settle my-1";
    #[cfg_attr(not(feature = "perps"), expect(unused_mut, reason = "one case is of a feature"))]
    let mut cases = vec![
        ("portfolio balance".to_owned(), "get_balance", None),
        (CREATE.join(" "), "create_order_group", Some("read the state back".to_owned())),
        (buy.replace("-o json", "--client-id my-1"), "create_order_v2", Some(settle.to_owned())),
        (
            format!("order amend {id} --yes-price 0.02"),
            "amend_order_v2",
            Some(format!("kalshi order get {id}")),
        ),
    ];
    #[cfg(feature = "perps")]
    {
        let markets = setup.run(&["perps", "market", "list", "-o", "json"]).await.json();
        let (ticker, bid) = (&markets["markets"][0]["ticker"], &markets["markets"][0]["bid"]);
        let (ticker, bid) = (ticker.as_str().unwrap(), bid.as_str().unwrap());
        let id = place(&format!("perps order bid {ticker} 2 @ {bid} --post-only -o json")).await;
        cases.push((
            format!("perps order amend {id} --count 1"),
            "amend_margin_order",
            Some(format!("kalshi perps order get {id}")),
        ));
    }
    for (text, operation, next) in cases {
        let fault = Fault::builder(FaultKind::latency(Duration::from_secs(600))).with_times(1);
        let fault = match operation.parse::<OperationId>() {
            Ok(operation) => fault.with_operation(operation),
            #[cfg(feature = "perps")]
            Err(_) => fault.with_perps_operation(kalshi_sdk::perps::OperationId::AmendMarginOrder),
            #[cfg(not(feature = "perps"))]
            Err(error) => panic!("{error}"),
        };
        setup.exchange.faults().add(fault.build()).unwrap();
        let words: Vec<&str> = text.split(' ').chain(["-o", "json", "--timeout", "10m"]).collect();
        let before = setup.exchange.requests().len();
        let mut command = setup.command(&words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !setup.asked(before).contains(&operation) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kill = std::process::Command::new("sh")
            .args(["-c", &format!("kill -INT {}", child.id())])
            .status()
            .unwrap();
        assert!(kill.success());
        let output =
            tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = &document["error"];
        assert_eq!(error["category"], "interrupted");
        assert_eq!(error["effect"], if next.is_some() { "unknown" } else { "not_sent" }, "{text}");
        let found = error["next"].as_str().unwrap_or_default();
        assert!(found.contains(next.as_deref().unwrap_or_default()), "{text}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_is_no_failure() {
    let setup = Setup::with(Exchange::builder().with_markets(600), Role::Trader).await;
    // Far more than a pipe holds.
    for words in [
        &["market", "list", "--all"][..],
        &["market", "list", "--all", "-o", "json"],
        &["api", "get_markets", "-p", "limit=100", "--all", "-o", "ndjson"],
        &["docs", "--format", "json"],
        &["completions", "bash"],
    ] {
        let mut child =
            setup.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        // The pipe is closed here.
        let output =
            tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    }
}

#[tokio::test]
async fn a_state_that_is_not_written_is_a_failure_also_when_nothing_reads_the_output() {
    let folder = Folder::new();
    let state = folder.path().join("missing").join("state");
    let words = ["--env", "sim", "--sim-state", state.to_str().unwrap(), "exchange", "status"];
    let ran = run_without_reader(bare(&folder, &words)).await;
    assert!(ran.code == 1 && ran.stderr.contains("could not write"), "{ran:?}");
}

#[tokio::test]
async fn the_key_of_the_command_line_wins_over_the_environment() {
    let setup = Setup::new().await;
    let file = setup.folder.path().join("key.pem");
    let file = file.to_str().unwrap();
    let balance = ["portfolio", "balance", "--key-id", KEY_ID];
    let mut command = setup.command(&[&balance[..], &["--key-file", file]].concat());
    command.env("KALSHI_API_KEY_ID", "another").env("KALSHI_PRIVATE_KEY_PATH", "/nowhere.pem");
    run(command).await.ok();
    let cat = format!("cat '{file}'");
    run(setup.public(&[&balance[..], &["--key-command", &cat]].concat())).await.ok();
    let ran = run(setup.public(&[&balance[..], &["--key-command", "exit 3"]].concat())).await;
    assert!(ran.code == 4 && ran.stderr.contains("the key command ended with"), "{ran:#?}");
}
