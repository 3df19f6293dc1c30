//! `kalshi setup`, `kalshi config`, and how settings are found.

use crate::support::{Folder, KEY_ID, Setup, bare, run};

#[tokio::test]
async fn setup_checks_a_key_and_writes_down_where_it_is() {
    let setup = Setup::new().await;
    let key = setup.folder.path().join("key.pem");
    let words = ["setup", "--key-id", KEY_ID, "--key-file", key.to_str().unwrap(), "-o", "json"];
    let made = run(setup.public(&words)).await.json();
    assert_eq!((&made["profile"], &made["checked"]), (&"default".into(), &true.into()));
    let config = std::fs::read_to_string(setup.folder.path().join("config.toml")).unwrap();
    assert!(config.contains("[profiles.default]") && !config.contains("BEGIN"), "{config}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = std::fs::metadata(setup.folder.path().join("config.toml")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    // From now on nothing has to be named.
    run(bare(&setup.folder, &["portfolio", "balance"])).await.ok();
    // The key is of that environment, and goes to no other.
    let ran = run(bare(&setup.folder, &["--env", "demo", "portfolio", "balance"])).await;
    assert!(ran.code == 4 && ran.stderr.contains("acts on demo"), "{ran:#?}");
}

#[tokio::test]
async fn setup_writes_nothing_if_the_key_does_not_work() {
    let setup = Setup::new().await;
    let key = setup.folder.path().join("key.pem");
    let key = key.to_str().unwrap();
    for (words, code) in [
        (&["setup", "--key-id", "another", "--key-file", key][..], 4),
        (&["setup", "--key-id", KEY_ID, "--key-file", "/nowhere.pem"], 4),
        (&["setup", "--key-id", KEY_ID], 2),
        (&["setup"], 2),
        (&["--env", "sim", "setup"], 2),
    ] {
        let ran = run(setup.public(words)).await;
        assert_eq!(ran.code, code, "{words:?}: {ran:#?}");
        assert!(!setup.folder.path().join("config.toml").exists());
    }
    let offline = ["setup", "--offline", "--key-id", "another", "--key-file", key];
    run(setup.public(&offline)).await.ok();
}

#[tokio::test]
async fn settings_are_read_and_changed_with_the_remarks_around_them() {
    let folder = Folder::new();
    folder.file("config.toml", "# mine\n[profiles.default]\nenv = \"demo\" # safe\n");
    let config = |words: &[&str]| run(bare(&folder, &[&["config"][..], words].concat()));
    assert_eq!(config(&["get", "env"]).await.ok(), "demo\n");
    config(&["set", "max_order_cost", "25.00"]).await.ok();
    config(&["set", "output", "csv"]).await.ok();
    assert_eq!(config(&["get", "max_order_cost"]).await.ok(), "25.00\n");
    config(&["set", "output", ""]).await.ok();
    let text = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert!(text.starts_with("# mine\n") && text.contains("env = \"demo\" # safe"), "{text}");
    assert!(!text.contains("output"), "{text}");
    let path = folder.path().join("config.toml");
    assert_eq!(config(&["path"]).await.ok(), format!("path  {}\n", path.display()));
    for (words, part) in [
        (&["set", "max_order_cost", "lots"][..], "no amount"),
        (&["set", "nothing", "x"], "no such setting"),
        (&["set", "nothing", ""], "no such setting"),
        (&["get", "nothing"], "no setting"),
        (&["set", "key_id", "-----BEGIN PRIVATE KEY-----"], "name its file"),
        (&["set", "key_command", "x", "--profile", "b", "--quiet"], ""),
        (&["set", "key_file", "x", "--profile", "b"], "both key_file and key_command"),
    ] {
        let ran = config(words).await;
        assert_eq!(ran.code, if part.is_empty() { 0 } else { 2 }, "{words:?}: {ran:#?}");
        assert!(ran.stderr.contains(part), "{words:?}: {ran:#?}");
    }
    config(&["set", "profile", "b"]).await.ok();
    assert_eq!(config(&["get", "profile"]).await.ok(), "b\n");
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_refused_with_its_place() {
    let folder = Folder::new();
    for (text, part) in [
        ("[profiles.default]\nenvironment = \"demo\"\n", "environment: there is no such setting"),
        ("[profiles.default]\nenv = \"prod\"\n", "profiles.default.env"),
        ("[profiles\n", "config.toml"),
    ] {
        folder.file("config.toml", text);
        let ran = run(bare(&folder, &["market", "list"])).await;
        assert!(ran.code == 2 && ran.stderr.contains(part), "{ran:#?}");
    }
}

#[tokio::test]
async fn a_ceiling_is_not_lifted_by_yes() {
    let setup = Setup::new().await;
    setup.folder.file("config.toml", "[profiles.default]\nmax_order_cost = \"5.00\"\n");
    let body = "{\"ticker\":\"KXA-1\",\"side\":\"bid\",\"count\":\"1.00\",\"price\":\"0.0100\",\
                \"time_in_force\":\"good_till_canceled\",\
                \"self_trade_prevention_type\":\"taker_at_cross\"}";
    for words in [
        &["api", "create_order_v2", "--body", body][..],
        &["quote", "accept", "R", "Q", "yes"],
        &["rfq", "create", "KXA-1", "--contracts", "5"],
        &["api", "POST", "/a/new/path", "--body", "{}"],
    ] {
        let ran = setup.run(&[words, &["--yes"]].concat()).await;
        assert!(ran.code == 2 && ran.stderr.contains("limits an order to $5.00"), "{ran:#?}");
    }
    assert!(setup.exchange.requests().is_empty());
    // What takes back costs nothing.
    setup.run(&["api", "cancel_all_orders"]).await.ok();
}

#[tokio::test]
async fn the_embedded_exchange_keeps_its_state_in_a_file() {
    let folder = Folder::new();
    let state = folder.path().join("state.cbor");
    let sim = |words: &[&str]| {
        let state = ["--env", "sim", "--sim-state", state.to_str().unwrap(), "-o", "json"];
        run(bare(&folder, &[words, &state].concat()))
    };
    let made = sim(&["group", "create", "7"]).await.json();
    let group = sim(&["group", "get", made["order_group_id"].as_str().unwrap()]).await.json();
    assert_eq!(group["contracts_limit_fp"], "7.00");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_is_served_until_ctrl_c() {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };

    let folder = Folder::new();
    let key = folder.path().join("sim.pem");
    let words = ["sim", "--open", "--save-key", key.to_str().unwrap(), "-o", "ndjson", "-q"];
    let mut command = bare(&folder, &words);
    command.env("BROWSER", "true").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: serde_json::Value = serde_json::from_str(&line).unwrap();
    let admin = listening["admin"].as_str().unwrap();
    assert!(listening["page"].as_str().unwrap().starts_with(&format!("{admin}/ui/#")));
    let mut command = bare(&folder, &["portfolio", "balance"]);
    for name in ["KALSHI_ENV", "KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY_PATH"] {
        command.env(name, listening[name].as_str().unwrap());
    }
    run(command).await.ok();
    let kill = format!("kill -INT {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
