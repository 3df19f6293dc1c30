//! The program on the command line.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use kalshi_sdk::{Client, Credentials, Environment};

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

#[test]
fn wrong_arguments_end_with_code_2_and_say_why() {
    for (arguments, text) in [
        (&["--key-id", "a"][..], "each --key-id goes with one --public-key"),
        (&["--key-id", "a", "--public-key", "/nonexistent.pem"][..], "/nonexistent.pem"),
        (&["--sideways"][..], "--sideways"),
    ] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(text), "{said}");
    }
}
