//! `kalshi doctor` as a whole: each fault is provoked, and told apart from the others.

use std::{fs, net::TcpListener as StdListener, path::Path, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::OperationId;
use kalshi_sim::{FaultKind, Role};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    own_exchange::{OwnExchange, write_private},
    support::{Folder, KEY_ID, Ran, bare, run_without_reader},
};

/// The report of a run.
struct Report {
    ran: Ran,
    document: Value,
}

impl Report {
    fn of(ran: Ran) -> Self {
        // A failure follows on the error output only: the report is the one document.
        let document =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        Self { ran, document }
    }

    fn check(&self, name: &str) -> &Value {
        let checks = self.document["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["check"] == name)
            .unwrap_or_else(|| panic!("no check {name}: {:?}", self.ran))
    }

    /// Checks a check's level and a part of its text, and that one that does not pass has a remedy.
    #[track_caller]
    fn has(&self, name: &str, level: &str, part: &str) {
        let check = self.check(name);
        assert_eq!(check["level"], level, "{check}");
        assert!(check["text"].as_str().unwrap().contains(part), "{part}: {check}");
        let needs_remedy = matches!(level, "warn" | "fail");
        assert_eq!(check["remedy"].is_string(), needs_remedy, "{check}");
    }
}

fn doctor(desk: &OwnExchange) -> Report {
    Report::of(desk.run("doctor --json --ping-within 2s"))
}

/// Runs it with other variables.
fn doctor_with(desk: &OwnExchange, variables: &[(&str, &str)], arguments: &str) -> Report {
    let mut command = desk.command();
    command.args(["doctor", "--json", "--step", "1s", "--ping-within", "1s"]);
    command.args(arguments.split_whitespace()).envs(variables.iter().copied());
    Report::of(desk.finish(&mut command))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_good_set_up_passes_every_check() {
    let desk = OwnExchange::new();
    let report = doctor(&desk);
    assert_eq!(report.ran.code, 0, "{:?}", report.ran);
    assert_eq!(report.document["ok"], true);
    for (name, part) in [
        ("environment", "mock money"),
        ("key file", "600"),
        ("key", "Ed25519"),
        ("proxy", "no variable"),
        ("dns", "127.0.0.1"),
        ("tcp", "connected"),
        ("public call", "GET /exchange/status"),
        ("clock", "within 2 s"),
        ("exchange", "trading is on"),
        ("version", "nothing unknown"),
        ("signed call", "accepts the key"),
        ("scopes", "write"),
        ("limits", "tokens a second"),
        ("ws upgrade", "accept"),
        ("ws channel", "subscribed"),
        ("ws ping", "answered"),
    ] {
        report.has(name, "ok", part);
    }
    report.has("tls", "skip", "without TLS");
    assert_eq!(desk.writes(), [""; 0]);
    let text = desk.run("doctor");
    assert_eq!(text.code, 0);
    assert!(text.stdout.lines().all(|line| line.starts_with("ok ") || line.starts_with("skip ")));
}

#[tokio::test]
async fn a_check_that_fails_has_its_exit_code_also_when_nothing_reads_the_report() {
    let folder = Folder::new();
    for form in [&["doctor"][..], &["doctor", "--json"]] {
        // Nothing listens there, and there is no key.
        let words = [form, &["--env", "http://127.0.0.1:1/trade-api/v2"]].concat();
        let ran = run_without_reader(bare(&folder, &words)).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("failed: "), "{ran:?}");
    }
}

#[test]
fn the_embedded_exchange_needs_no_key() {
    let desk = OwnExchange::new();
    let mut command = desk.command();
    command.env_remove("KALSHI_API_KEY_ID").env_remove("KALSHI_PRIVATE_KEY_PATH");
    command.env("KALSHI_ENV", "sim").args(["doctor", "--json"]);
    let report = Report::of(desk.finish(&mut command));
    assert_eq!(report.ran.code, 0, "{:?}", report.ran);
}

#[test]
fn every_fault_of_a_key_file_is_told_apart() {
    let desk = OwnExchange::new();
    let with = |file: &str| doctor_with(&desk, &[("KALSHI_PRIVATE_KEY_PATH", file)], "");
    let file = |name: &str, text: &str| {
        let file = desk.home.path().join(name);
        write_private(&file, text);
        path(&file).to_owned()
    };

    let missing = with("/nowhere/key.pem");
    missing.has("key file", "fail", "no file");
    missing.has("key", "fail", "/nowhere/key.pem");
    missing.has("signed call", "skip", "no key");
    missing.has("public call", "ok", "");
    assert_eq!(missing.ran.code, 4, "{:?}", missing.ran);

    with(path(desk.home.path())).has("key file", "fail", "not that of a file");

    let public = desk.key.public_key().to_pem();
    with(&file("public.pem", &public)).has("key", "fail", "public key");
    let encrypted = desk.key.private_key_pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    with(&file("encrypted.pem", &encrypted)).has("key", "fail", "encrypted");
    let openssh = desk.key.private_key_pem().replace("PRIVATE KEY", "OPENSSH PRIVATE KEY");
    with(&file("openssh.pem", &openssh)).has("key", "fail", "OpenSSH");
    with(&file("empty.pem", "")).has("key", "fail", "empty");
    with(&file("text.pem", "not a key")).has("key", "fail", "text.pem");

    let mut command = desk.command();
    command.env_remove("KALSHI_API_KEY_ID").env_remove("KALSHI_PRIVATE_KEY_PATH");
    let none = Report::of(desk.finish(command.args(["doctor", "--json"])));
    none.has("key", "fail", "KALSHI_API_KEY_ID");
    assert_eq!(none.ran.code, 4);
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = OwnExchange::new();
    fs::set_permissions(&desk.key_file, fs::Permissions::from_mode(0o644)).unwrap();
    let report = doctor(&desk);
    report.has("key file", "warn", "644");
    assert_eq!(report.ran.code, 0);
}

#[test]
fn every_refusal_of_a_key_is_told_apart() {
    let desk = OwnExchange::new();
    // The id is known, and the key is another one.
    let other = KeyPair::generate(KeyType::Ed25519).unwrap();
    let file = desk.home.path().join("other.pem");
    write_private(&file, other.private_key_pem());
    let wrong = doctor_with(&desk, &[("KALSHI_PRIVATE_KEY_PATH", path(&file))], "");
    wrong.has("signed call", "fail", "the private key is not that of it");
    wrong.has("ws upgrade", "fail", "401");
    assert_ne!(wrong.ran.code, 0);

    // The id is not known here.
    let id = "20000000-0000-4000-8000-000000000002";
    let unknown = doctor_with(&desk, &[("KALSHI_API_KEY_ID", id)], "");
    unknown.has("signed call", "fail", "no key with the id 20000000");
    unknown.has("limits", "skip", "signed call");

    // It is known elsewhere.
    let elsewhere = OwnExchange::new();
    let public = desk.key.public_key().to_pem();
    elsewhere.exchange.members().add_key(Role::Trader, id, &public).unwrap();
    let other = elsewhere.exchange.base_url().to_owned();
    let foreign = doctor_with(&desk, &[("KALSHI_API_KEY_ID", id)], &format!("--other {other}"));
    foreign.has("signed call", "fail", &format!("this key is one of {other}"));
}

#[test]
fn a_key_that_may_only_read_is_a_warning() {
    let desk = OwnExchange::new();
    let id = "30000000-0000-4000-8000-000000000003";
    let public = desk.key.public_key().to_pem();
    desk.exchange.members().add_key(Role::Reader, id, &public).unwrap();
    let report = doctor_with(&desk, &[("KALSHI_API_KEY_ID", id)], "");
    report.has("scopes", "warn", "may not place or cancel");
    assert_eq!(report.ran.code, 0, "{:?}", report.ran);
}

#[test]
fn a_wrong_clock_warns_and_then_fails() {
    let desk = OwnExchange::new();
    desk.exchange.clock().set_member_skew(6_000);
    let slow = doctor(&desk);
    slow.has("clock", "warn", "behind");
    slow.has("signed call", "ok", "");
    desk.exchange.clock().set_member_skew(-60_000);
    let fast = doctor(&desk);
    fast.has("clock", "fail", "ahead of");
    fast.has("signed call", "fail", "header_timestamp_expired");
}

#[test]
fn every_fault_of_the_way_is_told_apart() {
    let desk = OwnExchange::new();
    let with = |url: &str| doctor_with(&desk, &[("KALSHI_ENV", url)], "");

    // A name that no server is asked about: a part of it is too long.
    let host = format!("{}.invalid", "a".repeat(64));
    let dns = with(&format!("https://{host}/trade-api/v2"));
    dns.has("dns", "fail", "cannot be looked up");
    dns.has("tcp", "skip", "");
    dns.has("public call", "fail", "");
    dns.has("signed call", "skip", "public call");

    let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = with(&format!("http://127.0.0.1:{port}/trade-api/v2"));
    refused.has("dns", "ok", "");
    refused.has("tcp", "fail", "refused");
    assert_eq!(refused.ran.code, 1, "{:?}", refused.ran);

    let port = desk.runtime.block_on(untrusted());
    let tls = with(&format!("https://localhost:{port}/trade-api/v2"));
    tls.has("tcp", "ok", "");
    tls.has("tls", "fail", "issued by Inspecting Proxy");
    tls.has("public call", "fail", "");

    // No TLS where some is due.
    let port = desk.exchange.address().port();
    with(&format!("https://127.0.0.1:{port}/trade-api/v2")).has("tls", "fail", "no TLS");
}

#[test]
fn proxies_are_named_without_their_passwords() {
    let desk = OwnExchange::new();
    let proxy = "http://user:canary-password@127.0.0.1:9";
    let report = doctor_with(&desk, &[("HTTPS_PROXY", proxy)], "");
    report.has("proxy", "warn", "HTTPS_PROXY = 127.0.0.1:9");
    assert!(!report.ran.stdout.contains("canary") && !report.ran.stderr.contains("canary"));
    assert_eq!(report.ran.code, 0, "this machine is not behind it: {:?}", report.ran);
}

#[test]
fn an_exchange_that_answers_no_or_is_paused_is_said_so() {
    let desk = OwnExchange::new();
    desk.exchange.markets().set_shard(0, true, false).unwrap();
    doctor(&desk).has("exchange", "warn", "trading is paused");
    desk.exchange.markets().set_shard(0, false, false).unwrap();
    doctor(&desk).has("exchange", "fail", "the exchange is paused");
    desk.exchange.markets().set_shard(0, true, true).unwrap();
    desk.exchange.markets().set_shard(1, true, false).unwrap();
    doctor(&desk).has("exchange", "warn", "shard 1");

    desk.fault(OperationId::GetExchangeStatus, FaultKind::status(500), None);
    let failing = doctor(&desk);
    failing.has("public call", "fail", "500");
    failing.has("clock", "skip", "");
}

#[test]
fn streams_that_refuse_are_told_apart_from_those_that_are_silent() {
    let desk = OwnExchange::new();
    let down = Duration::from_secs(600);
    desk.exchange.streams().restart(Role::Trader, down).unwrap();
    let refused = doctor(&desk);
    refused.has("signed call", "ok", "");
    refused.has("ws upgrade", "fail", "503");
    refused.has("ws ping", "skip", "");

    let url = desk.runtime.block_on(stub(good));
    let silent = doctor_with(&desk, &[("KALSHI_ENV", &url)], "");
    silent.has("ws upgrade", "ok", "");
    silent.has("ws channel", "fail", "did not come within 1 s");
    silent.has("ws ping", "fail", "did not come within 1 s");
}

#[test]
fn what_is_new_at_the_exchange_and_headers_that_are_lost_are_said() {
    let desk = OwnExchange::new();
    let url = desk.runtime.block_on(stub(|path| match path {
        "/trade-api/v2/exchange/status" => {
            let body = r#"{"exchange_active":true,"trading_active":true,"brand_new":1}"#;
            (200, body.to_owned())
        }
        "/trade-api/v2/account/limits" => {
            (401, r#"{"error":{"code":"signature_is_missing_from_headers"}}"#.to_owned())
        }
        other => good(other),
    }));
    let report = doctor_with(&desk, &[("KALSHI_ENV", &url)], "");
    report.has("version", "warn", "unknown field at brand_new");
    report.has("signed call", "fail", "signature_is_missing_from_headers");
    assert!(report.check("signed call")["remedy"].as_str().unwrap().contains("proxy"));
}

#[test]
fn what_a_key_may_not_do_is_told_apart() {
    let desk = OwnExchange::new();
    let with = |answer: fn(&str) -> (u16, String)| {
        let url = desk.runtime.block_on(stub(answer));
        doctor_with(&desk, &[("KALSHI_ENV", &url)], "")
    };
    let forbidden = with(|path| match path {
        "/trade-api/v2/account/limits" => (403, r#"{"error":{"code":"forbidden"}}"#.to_owned()),
        other => good(other),
    });
    forbidden.has("signed call", "fail", "may not do this");
    forbidden.has("scopes", "skip", "signed call");
    assert_ne!(forbidden.ran.code, 0);

    let unlisted = with(|path| match path {
        "/trade-api/v2/api_keys" => (500, "{}".to_owned()),
        other => good(other),
    });
    unlisted.has("scopes", "skip", "keys cannot be listed");
    with(good).has("scopes", "skip", "without this one");

    let writes = with(|path| match path {
        "/trade-api/v2/api_keys" => (200, keys(r#"["write"]"#, "null")),
        other => good(other),
    });
    writes.has("scopes", "warn", "may not read the account");
    let expired = with(|path| match path {
        "/trade-api/v2/api_keys" => (200, keys(r#"["read","write"]"#, "1000")),
        other => good(other),
    });
    expired.has("scopes", "warn", "location has expired");
}

/// Returns a list with the key of the commands.
fn keys(scopes: &str, expires: &str) -> String {
    format!(
        r#"{{"api_keys":[{{"api_key_id":"{KEY_ID}","name":"a","scopes":{scopes}}}],"api_key_region_expiration_ts":{expires}}}"#
    )
}

#[test]
fn what_answers_in_the_stead_of_the_exchange_is_told_apart() {
    let desk = OwnExchange::new();
    let with = |answer: fn(&str) -> (u16, String)| {
        let url = desk.runtime.block_on(stub(answer));
        doctor_with(&desk, &[("KALSHI_ENV", &url)], "")
    };
    let other = with(|_| (404, "{}".to_owned()));
    other.has("public call", "fail", "404");
    assert!(other.check("public call")["remedy"].as_str().unwrap().contains("--env"));

    let refuses = with(|path| match path {
        STREAMS => (403, "no streams for you".to_owned()),
        other => good(other),
    });
    refuses.has("ws upgrade", "fail", "no streams for you");
    let without = with(|path| match path {
        STREAMS => (101, String::new()),
        other => good(other),
    });
    without.has("ws upgrade", "fail", "does not speak WebSocket");
    let channel = with(|path| match path {
        STREAMS => (101, r#"{"id":1,"type":"error","msg":{"code":9,"msg":"not granted"}}"#.into()),
        other => good(other),
    });
    channel.has("ws upgrade", "ok", "");
    channel.has("ws channel", "fail", "not granted");
    channel.has("ws ping", "ok", "");

    // It takes connections, and says nothing.
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}/trade-api/v2");
    let report = doctor_with(&desk, &[("KALSHI_ENV", &url)], "--timeout 1s");
    report.has("tcp", "ok", "");
    report.has("tls", "fail", "did not answer within 1 s");
}

/// The answers of a server that is well.
fn good(path: &str) -> (u16, String) {
    let body = match path {
        "/trade-api/v2/exchange/status" => r#"{"exchange_active":true,"trading_active":true}"#,
        "/trade-api/v2/exchange/schedule" => {
            r#"{"schedule":{"standard_hours":[],"maintenance_windows":[]}}"#
        }
        "/trade-api/v2/markets" => r#"{"markets":[],"cursor":""}"#,
        "/trade-api/v2/account/limits" => {
            r#"{"usage_tier":"basic","grants":[],"read":{"refill_rate":200,"bucket_capacity":600},"write":{"refill_rate":100,"bucket_capacity":100}}"#
        }
        "/trade-api/v2/api_keys" => r#"{"api_keys":[]}"#,
        _ => return (404, "{}".to_owned()),
    };
    (200, body.to_owned())
}

/// The path of the streams.
const STREAMS: &str = "/trade-api/ws/v2";

/// Starts a server with canned answers. Its streams are upgraded, and then silent; with the status
/// 101 they send a text first.
async fn stub(answer: fn(&str) -> (u16, String)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, answer));
        }
    });
    format!("http://127.0.0.1:{port}/trade-api/v2")
}

async fn serve(mut socket: TcpStream, answer: fn(&str) -> (u16, String)) {
    let mut start = [0; 24];
    while socket.peek(&mut start).await.is_ok_and(|length| (1..start.len()).contains(&length)) {
        tokio::task::yield_now().await;
    }
    let is_stream = start.starts_with(b"GET /trade-api/ws/v2");
    match answer(STREAMS) {
        (101, frame) if is_stream && !frame.is_empty() => {
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            socket.send(frame.into()).await.unwrap();
            while socket.next().await.is_some() {}
            return;
        }
        (404, _) if is_stream => {
            let silent = tokio_tungstenite::accept_async(socket).await;
            std::future::pending::<()>().await;
            drop(silent);
            return;
        }
        _ => {}
    }
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut part = [0; 4096];
            match socket.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(length) => read.extend_from_slice(&part[..length]),
            }
        }
        let head = String::from_utf8_lossy(&read).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (status, body) = answer(target.split('?').next().unwrap_or_default());
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        read.clear();
    }
}

/// Starts a server whose certificate this machine does not trust.
async fn untrusted() -> u16 {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "Inspecting Proxy");
    let certificate = parameters.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // It is refused: that is what the test is about.
                let _ = acceptor.accept(socket).await;
            });
        }
    });
    port
}
