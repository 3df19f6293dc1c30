//! An exchange that stays open when its test fails, and the browser that the program opens.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use kalshi_sim::{Exchange, Role};

/// Fails on purpose; only the test below asks for it.
#[tokio::test]
#[ignore = "fails on purpose: another test starts it"]
async fn a_test_that_fails() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    client.get_balance().send().await.unwrap();
    panic!("as it shall");
}

#[tokio::test]
async fn a_failing_test_keeps_its_exchange_open_until_enter_is_pressed() {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "ui::held::a_test_that_fails", "--ignored"])
        .env("KALSHI_SIM_HOLD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("stays open")).unwrap();
    let url = line.split_whitespace().last().unwrap();
    let (page, token) = url.split_once('#').unwrap();
    assert_eq!(token.len(), 32);
    // It answers while the test's own thread waits, and still has what the test did.
    let text = reqwest::get(page).await.unwrap().text().await.unwrap();
    assert!(text.contains("app.js"), "{text}");
    let requests = reqwest::get(page.replace("/ui/", "/requests")).await.unwrap();
    assert!(requests.text().await.unwrap().contains("get_balance"));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(!child.wait().unwrap().success(), "the test still fails");
    assert!(reqwest::get(page).await.is_err(), "it is gone");
}

#[cfg(unix)]
#[test]
fn the_program_opens_the_page_in_the_browser_of_the_user() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = env::temp_dir().join(format!("kalshi-sim-open-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (browser, opened) = (folder.join("browser"), folder.join("opened"));
    let script = format!("#!/bin/sh\nprintf '%s' \"$1\" >'{}'\n", opened.display());
    fs::write(&browser, script).unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kalshi-sim"))
        .arg("--open")
        .env("BROWSER", &browser)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let page = lines.find_map(|line| line.strip_prefix("page at ").map(str::to_owned)).unwrap();
    while fs::read_to_string(&opened).unwrap_or_default() != page {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(&folder).unwrap();
}
