//! `kalshi klear`.

use kalshi_sim::Role;

use crate::{
    stub::{Request, Stub},
    support::{Folder, Setup, bare, run},
};

const ID: &str = "admin-7";
const TOKEN: &str = "klear-secret-token";

const PEM: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEISECRET\n-----END PRIVATE KEY-----\n";

async fn stub() -> Stub {
    let answer = |request: &Request| match request.line().as_str() {
        "GET /klear-api/v1/margin/settlement_balance" => Some((
            200,
            r#"{"user_id":"u","balance_available_centicents":12345678901234567}"#.to_owned(),
        )),
        "GET /klear-api/v1/margin/new_thing" => Some((200, r#"{"new":1}"#.to_owned())),
        "POST /klear-api/v1/margin/withdraw_settlement_balance"
        | "POST /klear-api/v1/margin/estimate_maintenance_margin" => None,
        "POST /klear-api/v1/fcm/margin/api_keys/generate" => {
            Some(match request.json()["name"].as_str() {
                Some("lost") => return None,
                Some("empty") => (201, "{}".to_owned()),
                Some("refused") => (409, r#"{"code":"conflict","message":"no"}"#.to_owned()),
                _ => {
                    (201, serde_json::json!({"api_key_id": "k-1", "private_key": PEM}).to_string())
                }
            })
        }
        _ => Some((404, r#"{"code":"not_found","message":"no"}"#.to_owned())),
    };
    Stub::start(answer).await
}

#[tokio::test]
async fn calls_go_to_the_clearing_house_with_the_token_and_nothing_shows_it() {
    let stub = stub().await;
    let file = stub.folder.file("token", &format!("{TOKEN}\n"));
    for from_file in [false, true] {
        for words in [
            &["klear", "api", "get_settlement_balance", "-v"][..],
            &["klear", "api", "GET", "/margin/settlement_balance"],
            &["klear", "api", "GET", "/margin/new_thing"],
        ] {
            let mut command = stub.command(words);
            command.env("KALSHI_KLEAR_USER_ID", ID);
            if from_file {
                command.env("KALSHI_KLEAR_TOKEN_FILE", &file);
            } else {
                command.env("KALSHI_KLEAR_TOKEN", TOKEN);
            }
            let (ran, requests) = stub.finish(command).await;
            assert!(!format!("{ran:?}").contains(TOKEN), "{ran:#?}");
            let output = ran.ok();
            // The digits are those of the answer.
            let expected =
                if words.contains(&"/margin/new_thing") { "1" } else { "12345678901234567" };
            assert!(output.contains(expected), "{output}");
            assert_eq!(requests.len(), 1);
            let expected = format!("Bearer {ID}:{TOKEN}");
            assert_eq!(requests[0].header("authorization"), Some(&*expected));
            assert_eq!(requests[0].header("kalshi-access-signature"), None);
        }
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_variables_are_named() {
    let stub = stub().await;
    let words = ["klear", "api", "get_settlement_balance"];
    let (ran, requests) = stub.run(&words).await;
    let failure = ran.failure(4);
    assert!(failure["message"].as_str().unwrap().contains("KALSHI_KLEAR_TOKEN"), "{failure}");
    assert!(requests.is_empty());
    let mut command = stub.command(&words);
    command.env("KALSHI_KLEAR_USER_ID", ID).env("KALSHI_KLEAR_TOKEN_FILE", "/no/such/file");
    assert_eq!(stub.finish(command).await.0.code, 4);
}

#[tokio::test]
async fn a_withdrawal_without_an_answer_is_of_unknown_outcome() {
    let stub = stub().await;
    let body = r#"{"amount":"12.50"}"#;
    let words = ["klear", "api", "withdraw_settlement_balance", "--body", body];
    let with_token = |words: &[&str]| {
        let mut command = stub.command(words);
        command.env("KALSHI_KLEAR_USER_ID", ID).env("KALSHI_KLEAR_TOKEN", TOKEN);
        command
    };
    let (ran, requests) = stub.finish(with_token(&words)).await;
    assert_eq!(ran.failure(6)["operation"], "withdraw_settlement_balance");
    assert_eq!((requests.len(), requests[0].body.as_str()), (1, body));
    let (ran, requests) = stub.finish(with_token(&[&words[..], &["--dry-run"]].concat())).await;
    let request = ran.json();
    assert!(requests.is_empty());
    let url = request["url"].as_str().unwrap();
    assert!(url.ends_with("/klear-api/v1/margin/withdraw_settlement_balance"), "{url}");

    // A POST that only reads has done nothing.
    let body =
        r#"{"asset_class":"Crypto","positions":[{"market_ticker":"KXBTCPERP","quantity":1}]}"#;
    let words = ["klear", "api", "estimate_portfolio_maintenance_margin", "--body", body];
    let (ran, requests) = stub.finish(with_token(&words)).await;
    let failure = ran.failure(1);
    assert_eq!((failure["category"].as_str(), requests.len()), (Some("network"), 1), "{failure}");
}

#[tokio::test]
async fn a_private_key_of_an_answer_goes_into_a_file_and_on_no_output() {
    let stub = stub().await;
    let file = stub.folder.path().join("new.pem");
    let with_token = |name: &str, options: &[&str]| {
        let body = format!(r#"{{"name":"{name}","fcm_subtrader_id":"s-1"}}"#);
        let words = ["klear", "api", "generate_margin_fcm_api_key", "-o", "json", "--body", &body];
        let mut command = stub.command(&[&words[..], options].concat());
        command.env("KALSHI_KLEAR_USER_ID", ID).env("KALSHI_KLEAR_TOKEN", TOKEN);
        command
    };
    let save = ["--save", file.to_str().unwrap()];
    // Nothing is sent before there is a place for the key.
    let elsewhere = ["--save", "/no/such/folder/key.pem"];
    for options in [&[][..], &["--raw"], &[&save[..], &["--raw"]].concat(), &elsewhere] {
        let (ran, requests) = stub.finish(with_token("a", options)).await;
        assert_eq!((ran.code, requests.len()), (2, 0), "{ran:?}");
    }
    for (name, code) in [("lost", 6), ("empty", 6), ("refused", 1)] {
        let (ran, requests) = stub.finish(with_token(name, &save)).await;
        assert_eq!((ran.code, requests.len(), file.exists()), (code, 1, false), "{ran:?}");
        if code == 6 {
            let next = ran.failure(6)["next"].take();
            assert_eq!(next, "kalshi klear api list_margin_fcm_api_keys");
        }
    }
    let (ran, _) = stub.finish(with_token("a", &save)).await;
    assert!(!format!("{ran:?}").contains("SECRET"), "{ran:?}");
    let made = ran.json();
    assert_eq!((made["api_key_id"].as_str(), made.get("private_key")), (Some("k-1"), None));
    assert_eq!(made["private_key_file"], save[1]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), PEM);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn every_operation_is_listed_and_described() {
    let stub = stub().await;
    let (ran, _) = stub.run(&["klear", "api", "list", "-o", "json"]).await;
    let list = ran.json();
    let rows = list["operations"].as_array().unwrap();
    assert_eq!(rows.len(), kalshi_sdk::klear::OPERATIONS.len());
    assert!(rows.iter().all(|row| row["access"] == "bearer"));
    let (ran, _) = stub.run(&["klear", "api", "show", "withdraw_settlement_balance"]).await;
    assert!(ran.ok().contains("amount"));
    let (ran, _) = stub.run(&["klear", "api", "get_markets"]).await;
    assert_eq!(ran.failure(2)["next"], "kalshi klear api list");
}

#[tokio::test]
async fn an_exchange_in_the_process_settles_and_pays_out_without_an_account() {
    let folder = Folder::new();
    let state = folder.path().join("exchange");
    let state = state.to_str().unwrap();
    let with_state = async |words: &[&str]| {
        let words = [&["--env", "sim", "--sim-state", state, "klear", "api"], words].concat();
        run(bare(&folder, &words)).await
    };
    let body = r#"{"amount":"12.50"}"#;
    let withdraw = ["withdraw_settlement_balance", "--body", body, "--yes"];
    let id = with_state(&withdraw).await.json()["id"].as_str().unwrap().to_owned();
    let query = format!("id={id}");
    let words = ["get_settlement_balance_withdrawal", "-p", &query, "-o", "json"];
    assert_eq!(with_state(&words).await.json()["amount"], "12.5000");
    let balance = with_state(&["get_settlement_balance", "-o", "json"]).await.json();
    assert_eq!(balance["balance_available_centicents"], 99_875_000);
    let list = ["get_settlement_balance_history", "-o", "json"];
    let entries = with_state(&list).await.json();
    assert!(entries.to_string().contains(&id), "{entries}");
}

#[tokio::test]
async fn an_exchange_elsewhere_lets_its_own_token_in_and_no_other() {
    let setup = Setup::new().await;
    let klear = setup.exchange.klear();
    let token = klear.token(Role::Trader).unwrap();
    for (secret, code) in [(token.access_token(), 0), ("another", 4)] {
        let mut command = setup.public(&["klear", "api", "get_guaranty_fund_balance"]);
        command.env("KALSHI_KLEAR_USER_ID", token.admin_user_id());
        command.env("KALSHI_KLEAR_TOKEN", secret);
        let ran = run(command).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.stderr.contains("next: check KALSHI_KLEAR_USER_ID"), code == 4, "{ran:?}");
        assert!(!format!("{ran:?}").contains(token.access_token()));
    }
    assert_eq!(setup.asked(0), ["get_guaranty_fund_balance"; 2]);
}
