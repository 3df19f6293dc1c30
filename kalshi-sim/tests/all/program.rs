//! The program on the command line.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::{Client, Credentials, Environment, klear::Klear};
use kalshi_sim::Role;

/// Ends the program however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kalshi-sim"))
}

#[tokio::test]
async fn it_says_where_it_listens_and_knows_the_key_that_it_made() {
    let folder = std::env::temp_dir().join(format!("kalshi-sim-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("key.pem");
    let child = program()
        .args(["--port", "0", "--seed", "7", "--new-key"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/trade-api/v2"), "{url}");
    let credentials = Credentials::from_file(kalshi_sim::DEFAULT_KEY_ID, &file).unwrap();
    let client = Client::builder()
        .with_environment(Environment::Custom(url))
        .with_credentials(credentials)
        .build()
        .unwrap();
    assert_eq!(client.get_api_keys().send().await.unwrap().api_keys.len(), 1);
    drop(running);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn it_writes_the_tokens_of_the_clearing_house_for_other_programs() {
    let folder = std::env::temp_dir().join(format!("kalshi-sim-klear-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let roles = [("", "trader"), ("maker-", "maker"), ("reader-", "reader"), ("fcm-", "fcmmember")];
    let mut command = program();
    let mut files = Vec::new();
    for (prefix, id) in roles {
        let file = folder.join(format!("{prefix}token"));
        command.arg(format!("--new-{prefix}klear-token")).arg(&file);
        files.push((format!("admin-{id}"), file));
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let listening = lines.next().unwrap().unwrap();
    let environment = listening.strip_prefix("listening on ").unwrap().to_owned();
    let klear = lines.next().unwrap().unwrap();
    assert!(klear.starts_with("clearing house at http://127.0.0.1:"), "{klear}");
    for (id, file) in &files {
        #[cfg(unix)]
        {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
            assert_eq!(mode & 0o077, 0);
        }
        let token = std::fs::read_to_string(file).unwrap();
        let ask = async |token: &str| {
            let environment = Environment::Custom(environment.clone());
            let klear = Klear::builder().with_environment(environment).with_token(id, token);
            klear.build().unwrap().get_settlement_balance().send().await
        };
        ask(&token).await.unwrap();
        assert_eq!(ask("another").await.unwrap_err().status().unwrap(), 401);
    }
    drop(running);

    // A file that is there stays as it is.
    let file = &files[0].1;
    std::fs::write(file, "mine").unwrap();
    let out = program().arg("--new-klear-token").arg(file).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn s3_every_role_can_have_a_key_of_either_type() {
    let folder = std::env::temp_dir().join(format!("kalshi-sim-roles-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let roles = [
        (Role::Trader, ""),
        (Role::Maker, "maker-"),
        (Role::Reader, "reader-"),
        (Role::FcmMember, "fcm-"),
    ];
    for (new_type, own_type) in [("rsa", KeyType::Ed25519), ("ed25519", KeyType::Rsa)] {
        let mut command = program();
        command.args(["--new-key-type", new_type]);
        let mut keys = Vec::new();
        for (role, prefix) in roles {
            let made = folder.join(format!("{new_type}-{prefix}new.pem"));
            command.arg(format!("--new-{prefix}key")).arg(&made);
            let pair = KeyPair::generate(own_type).unwrap();
            let public = folder.join(format!("{new_type}-{prefix}own.pem"));
            std::fs::write(&public, pair.public_key().to_pem()).unwrap();
            let id = format!("own-{prefix}key");
            command.arg(format!("--{prefix}key-id")).arg(&id);
            command.arg(format!("--{prefix}public-key")).arg(&public);
            keys.push((role, role.key_id(), made, id, pair));
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut running = Running(child);
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        for (role, made_id, file, own_id, pair) in keys {
            let made = Credentials::from_file(made_id, &file).unwrap();
            assert_eq!(made.key_type() == KeyType::Rsa, new_type == "rsa", "{role:?}");
            let own = Credentials::from_pem(own_id, pair.private_key_pem()).unwrap();
            for credentials in [made, own] {
                let client = Client::builder()
                    .with_environment(Environment::Custom(url.clone()))
                    .with_credentials(credentials)
                    .build()
                    .unwrap();
                client.get_balance().send().await.unwrap();
                let fcm = client.list_fcm_subtraders().send().await;
                assert_eq!(fcm.is_ok(), role == Role::FcmMember, "{role:?}");
                let group = client
                    .raw(http::Method::POST, "/portfolio/order_groups/create")
                    .json(&serde_json::json!({"contracts_limit": 1}))
                    .send::<serde_json::Value>()
                    .await;
                assert_eq!(group.is_ok(), role != Role::Reader, "{role:?}");
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn it_goes_on_when_its_output_is_not_read() {
    // Taken for a moment, so that it is free: it cannot be read where the program listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = std::env::temp_dir().join(format!("kalshi-sim-unread-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = program();
    command.args(["--port", &port.to_string(), "--admin-port", "0"]);
    command.arg("--new-key").arg(folder.join("key.pem"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    drop((running.0.stdout.take(), running.0.stderr.take()));
    let client = Client::builder()
        .with_environment(Environment::Custom(format!("http://127.0.0.1:{port}/trade-api/v2")))
        .build()
        .unwrap();
    let mut answered = 0;
    while answered < 3 {
        assert_eq!(running.0.try_wait().unwrap(), None, "it has ended");
        match client.get_exchange_status().send().await {
            Ok(_) => answered += 1,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    drop(running);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn its_reads_trail_and_its_rules_hold_if_it_is_told_so() {
    let mut command = program();
    command.args(["--lag", "60000", "--rules", r#"{"lenient_numbers": true}"#]);
    let child = command.args(["--admin-port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let url = line().strip_prefix("listening on ").unwrap().to_owned();
    let admin = line().strip_prefix("admin API on ").unwrap().to_owned();
    let client = Client::builder().with_environment(Environment::Custom(url)).build().unwrap();
    let as_of = async || client.get_user_data_timestamp().send().await.unwrap().as_of_time;
    let first = as_of().await;
    assert_eq!(as_of().await, first, "reads stand still until they are a minute behind");
    let get = async |path: &str| {
        let text = reqwest::get(format!("{admin}{path}")).await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(get("/lag").await["reads_millis"], serde_json::json!([60_000, 60_000]));
    assert_eq!(get("/rules").await["lenient_numbers"], true);
}

#[test]
fn wrong_arguments_end_with_code_2_and_say_why() {
    for (arguments, text) in [
        (&["--key-id", "a"][..], "each --key-id goes with one --public-key"),
        (&["--key-id", "a", "--public-key", "/nonexistent.pem"][..], "/nonexistent.pem"),
        (&["--fcm-public-key", "a.pem"][..], "each --fcm-key-id goes with one --fcm-public-key"),
        (&["--new-key-type", "dsa"][..], "dsa"),
        (&["--sideways"][..], "--sideways"),
        (&["--lag", "long"][..], "`none`, `realistic`"),
        (&["--rules", r#"{"lenient": true}"#][..], "lenient_numbers"),
    ] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(text), "{said}");
    }
}
