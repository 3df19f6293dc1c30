//! Commands that change something: groups, requests for quotes, transfers, keys.

use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::OperationId;
use kalshi_sim::{Fault, FaultKind, Role};
use serde_json::{Value, json};

use crate::support::{Setup, run};

/// Runs a command whose last word is the form of its output.
async fn json_of(setup: &Setup, words: &[&str]) -> Value {
    setup.run(&[words, &["-o", "json"]].concat()).await.json()
}

#[tokio::test]
async fn a_dry_run_prints_the_request_and_sends_nothing() {
    let setup = Setup::new().await;
    let ran = setup.run(&["group", "create", "12.00", "--dry-run"]).await;
    assert_eq!(ran.stderr, "dry run: nothing was sent\n");
    let request = ran.json();
    assert_eq!(
        request,
        json!({
            "operation": "create_order_group",
            "environment": setup.exchange.base_url(),
            "method": "POST",
            "url": format!("{}/portfolio/order_groups/create", setup.exchange.base_url()),
            "signed": true,
            "body": {"contracts_limit_fp": "12.00"},
        })
    );
    for words in [
        &["group", "delete", "a/b"][..],
        &["rfq", "create", "KXA-1", "--contracts", "5"],
        &["quote", "create", "ID", "--yes-bid", "0.55", "--no-bid", "0.40"],
        &["transfer", "create", "25.00", "--to-shard", "1"],
        &["transfer", "subaccount", "25.00", "--from", "0", "--to", "1"],
        &["key", "delete", "ID"],
        &["key", "create", "name", "--save", "/nowhere/key.pem"],
        &["api", "cancel_all_orders"],
        &["api", "GET", "/markets?limit=2"],
    ] {
        setup.run(&[words, &["--dry-run"]].concat()).await.json();
    }
    assert!(setup.exchange.requests().is_empty());
}

#[tokio::test]
async fn a_group_lives_through_its_commands() {
    let setup = Setup::new().await;
    let made = json_of(&setup, &["group", "create", "10"]).await;
    let id = made["order_group_id"].as_str().unwrap();
    let ran = setup.run(&["group", "limit", id, "20"]).await;
    assert!(ran.stderr.starts_with("done: set the limit"), "{ran:#?}");
    let group = json_of(&setup, &["group", "get", id]).await;
    assert_eq!(group["contracts_limit_fp"], "20.00");
    setup.run(&["group", "trigger", id]).await.ok();
    setup.run(&["group", "reset", id]).await.ok();
    assert_eq!(json_of(&setup, &["group", "delete", id]).await, json!({}));
    let list = json_of(&setup, &["group", "list"]).await;
    assert_eq!(list["order_groups"], json!([]));
}

#[tokio::test]
async fn a_quote_is_asked_for_made_accepted_and_confirmed() {
    let setup = Setup::new().await;
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let public = pair.public_key().to_pem();
    // The other side of the trade.
    let made = setup.exchange.members().add_key(Role::Maker, "maker", &public);
    made.unwrap();
    let file = setup.folder.file("maker.pem", pair.private_key_pem());
    let maker = async |words: &[&str]| {
        let key = ["-o", "json", "--key-id", "maker", "--key-file", file.to_str().unwrap()];
        run(setup.public(&[words, &key].concat())).await.json()
    };
    let markets = json_of(&setup, &["market", "list", "--limit", "2", "--status", "open"]).await;
    let ticker = markets["markets"][0]["ticker"].as_str().unwrap().to_owned();
    let asked = json_of(&setup, &["rfq", "create", &ticker, "--contracts", "5"]).await;
    let rfq = asked["id"].as_str().unwrap();
    assert_eq!(json_of(&setup, &["rfq", "get", rfq]).await["market_ticker"], ticker.as_str());
    let mine = json_of(&setup, &["rfq", "list", "--mine"]).await;
    assert_eq!(mine["rfqs"].as_array().unwrap().len(), 1);
    let quote = maker(&["quote", "create", rfq, "--yes-bid", "0.5", "--no-bid", "0.40"]).await;
    let quote = quote["id"].as_str().unwrap();
    let got = json_of(&setup, &["quote", "get", rfq, quote]).await;
    assert_eq!(
        (&got["yes_bid_dollars"], &got["no_bid_dollars"]),
        (&json!("0.5000"), &json!("0.4000"))
    );
    let listed = json_of(&setup, &["quote", "list", "--side", "received"]).await;
    assert_eq!(listed["quotes"].as_array().unwrap().len(), 1);
    json_of(&setup, &["quote", "accept", rfq, quote, "yes"]).await;
    maker(&["quote", "confirm", rfq, quote]).await;
    let status = json_of(&setup, &["quote", "get", rfq, quote]).await["status"].clone();
    assert!(["confirmed", "executed"].contains(&status.as_str().unwrap()), "{status}");
    // What is taken back is gone.
    let ticker = markets["markets"][1]["ticker"].as_str().unwrap();
    let asked = json_of(&setup, &["rfq", "create", ticker, "--target-cost", "5.00"]).await;
    let rfq = asked["id"].as_str().unwrap();
    let quote = maker(&["quote", "create", rfq, "--yes-bid", "0.5", "--no-bid", "0.40"]).await;
    maker(&["quote", "delete", rfq, quote["id"].as_str().unwrap()]).await;
    json_of(&setup, &["rfq", "delete", rfq]).await;
    let open = json_of(&setup, &["rfq", "list", "--mine", "--status", "open"]).await;
    assert!(open["rfqs"].as_array().unwrap().iter().all(|open| open["id"] != rfq), "{open}");
}

#[tokio::test]
async fn money_is_moved_once_and_exactly() {
    let setup = Setup::new().await;
    json_of(&setup, &["api", "create_subaccount"]).await;
    let ran = setup.run(&["transfer", "subaccount", "25.50", "--from", "0", "--to", "1"]).await;
    assert!(ran.stderr.contains("--client-id"), "{ran:#?}");
    ran.ok();
    let transfers = json_of(&setup, &["transfer", "subaccount-list"]).await;
    assert_eq!(transfers["transfers"][0]["amount_cents"], 2_550);
    let id = "a952bcbe-ec3b-4b5b-b8f9-11dae589608c";
    let move_it = ["transfer", "create", "10.00", "--to-shard", "1", "--client-id", id];
    let moved = json_of(&setup, &move_it).await;
    let transfer = moved["transfer_id"].as_str().unwrap();
    let shown = json_of(&setup, &["transfer", "get", transfer]).await;
    assert_eq!(shown["client_transfer_id"], id);
    // The failure of a transfer whose answer is lost names its id.
    let fault =
        Fault::builder(FaultKind::ResetAfter).with_operation(OperationId::ApplySubaccountTransfer);
    setup.exchange.faults().add(fault.with_times(1).build()).unwrap();
    let lost = ["transfer", "subaccount", "1.00", "--from", "0", "--to", "1", "-q", "-o", "json"];
    let failure = setup.run(&lost).await.failure(6);
    let next = failure["next"].as_str().unwrap();
    let id_of_lost = next.split(' ').nth(5).unwrap().trim_end_matches(',');
    let listed = json_of(&setup, &["transfer", "subaccount-list"]).await;
    assert_eq!(listed["transfers"].as_array().unwrap().len(), 2);
    let repeated = [&lost[..], &["--client-id", id_of_lost]].concat();
    setup.run(&repeated).await.failure(1);
    let listed = json_of(&setup, &["transfer", "subaccount-list"]).await;
    assert_eq!(listed["transfers"].as_array().unwrap().len(), 2, "{next}");
    // The same id again moves nothing.
    let again = setup.run(&[&move_it[..], &["-o", "json"]].concat()).await.failure(1);
    assert_eq!(again["status"], 409);
    for amount in ["0.001", "0", "-5.00", "five"] {
        let words = ["transfer", "subaccount", amount, "--from", "0", "--to", "1"];
        assert_eq!(setup.run(&words).await.code, 2, "{amount}");
    }
}

#[tokio::test]
async fn a_new_key_goes_into_a_file_and_nowhere_else() {
    let setup = Setup::new().await;
    let file = setup.folder.path().join("new.pem");
    let path = file.to_str().unwrap();
    let ran = setup.run(&["key", "create", "bot", "--save", path, "-o", "json"]).await;
    let pem = std::fs::read_to_string(&file).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
    let made = ran.json();
    assert_eq!(made["private_key_file"], path);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // It may read, and no more than that.
    let id = made["api_key_id"].as_str().unwrap();
    let with_it = |words: &[&str]| {
        run(setup.public(&[words, &["--key-id", id, "--key-file", path]].concat()))
    };
    with_it(&["portfolio", "balance"]).await.ok();
    assert_eq!(with_it(&["group", "create", "1"]).await.code, 4);
    // A file that is there is not written over, and no key is made.
    let from = setup.exchange.requests().len();
    let again = setup.run(&["key", "create", "bot", "--save", path]).await;
    assert!(again.code == 2 && again.stderr.contains("could not create"), "{again:#?}");
    assert!(setup.asked(from).is_empty());
    setup.run(&["key", "delete", id]).await.ok();
    assert_eq!(with_it(&["portfolio", "balance"]).await.code, 4);
}

#[tokio::test]
async fn a_rotated_key_works_before_the_old_one_goes() {
    let setup = Setup::new().await;
    let file = setup.folder.path().join("rotated.pem");
    let path = file.to_str().unwrap();
    let rotated = json_of(&setup, &["key", "rotate", "--save", path]).await;
    assert_eq!(rotated["deleted"], crate::support::KEY_ID);
    let id = rotated["api_key_id"].as_str().unwrap();
    let group = ["group", "create", "1", "--key-id", id, "--key-file", path];
    run(setup.public(&group)).await.ok();
    assert_eq!(setup.run(&["portfolio", "balance"]).await.code, 4);
}
