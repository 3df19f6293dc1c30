//! No command prints a private key, whatever goes wrong.

use crate::support::{KEY_ID, Ran, Setup, run};

/// Returns the parts of a key that must not be seen: each line of its PEM text but the frame, and
/// the pieces of it that a cut text would show.
fn secrets(pem: &str) -> Vec<String> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----") && line.len() > 16);
    lines.flat_map(|line| [line.to_owned(), line[16..line.len().min(40)].to_owned()]).collect()
}

#[track_caller]
fn hides(ran: &Ran, pem: &str) {
    for secret in secrets(pem) {
        assert!(!ran.stdout.contains(&secret) && !ran.stderr.contains(&secret), "{ran:#?}");
    }
}

#[tokio::test]
async fn a_canary_key_is_in_no_output() {
    let setup = Setup::new().await;
    let pem = &setup.pem;
    assert!(!secrets(pem).is_empty());
    let file = setup.folder.path().join("key.pem");
    let file = file.to_str().unwrap();
    let cat = format!("cat '{file}'");
    for words in [
        &["portfolio", "balance", "-v"][..],
        &["portfolio", "balance", "-v", "-o", "json"],
        &["group", "create", "1", "--dry-run"],
        &["key", "list", "-o", "json"],
        &["config", "get", "-o", "json"],
        &["setup", "--key-id", KEY_ID, "--key-file", file],
        &["setup", "--key-id", KEY_ID, "--key-command", &cat],
        &["portfolio", "balance", "--key-id", "other", "--key-file", file, "-v"],
        &["portfolio", "balance", "--key-id", KEY_ID, "--key-command", &cat],
        &["portfolio", "balance", "--key-id", KEY_ID, "--key-command", &format!("{cat} | tr A B")],
        // In places where a key does not belong.
        &["portfolio", "balance", "--key-id", pem, "--key-file", file],
        &["portfolio", "balance", "--key-id", KEY_ID, "--key-file", pem],
        &["--env", pem, "market", "list"],
        &["config", "set", "key_file", pem],
        &["docs", "--format", "json"],
    ] {
        let ran = setup.run(words).await;
        hides(&ran, pem);
    }
    let mut command = setup.public(&["portfolio", "balance", "-v"]);
    command.env("KALSHI_API_KEY_ID", KEY_ID).env("KALSHI_PRIVATE_KEY", pem);
    let ran = run(command).await;
    hides(&ran, pem);
    ran.ok();
    let mut command = setup.public(&["portfolio", "balance", "-v"]);
    command.env("KALSHI_API_KEY_ID", KEY_ID).env("KALSHI_PRIVATE_KEY", format!("{pem}{pem}"));
    let ran = run(command).await;
    hides(&ran, pem);
    assert_eq!(ran.code, 4);
    let config = std::fs::read_to_string(setup.folder.path().join("config.toml")).unwrap();
    assert!(secrets(pem).iter().all(|secret| !config.contains(secret)));
}

#[tokio::test]
async fn an_operation_that_makes_a_key_needs_a_file_for_it() {
    let setup = Setup::new().await;
    let words =
        ["api", "generate_api_key", "--body", r#"{"name":"a","scopes":["read"]}"#, "-o", "json"];
    let ran = setup.run(&words).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(setup.exchange.requests().is_empty());
    let file = setup.folder.path().join("made.pem");
    let made = setup.run(&[&words[..], &["--save", file.to_str().unwrap()]].concat()).await;
    let pem = std::fs::read_to_string(&file).unwrap();
    assert!(pem.contains("PRIVATE KEY"), "the exchange made one");
    hides(&made, &pem);
    assert!(made.json()["api_key_id"].is_string());
}

#[test]
fn no_other_answer_of_the_documents_has_a_private_key() {
    let mut found = Vec::new();
    for document in ["openapi.yaml", "perps_openapi.yaml", "klear_openapi.yaml"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
        let text = std::fs::read_to_string(path).unwrap();
        let mut schema = "";
        for line in text.lines() {
            // The name of a schema stands at the second level.
            if line.starts_with("    ") && !line.starts_with("     ") {
                schema = line.trim().trim_end_matches(':');
            } else if line.trim() == "private_key:" {
                found.push(schema.to_owned());
            }
        }
    }
    // Those of `generate_api_key` and `generate_margin_fcm_api_key`, which need --save.
    assert_eq!(found, ["GenerateApiKeyResponse", "GenerateMarginFcmApiKeyResponse"]);
}
