//! `kalshi docs`, `kalshi completions`, help, and the pinned description of the whole tree.

use serde_json::Value;

use crate::support::{Folder, Ran, bare, pinned, run};

async fn kalshi(words: &[&str]) -> Ran {
    let folder = Folder::new();
    run(bare(&folder, words)).await
}

/// Returns the description of the tree without the commands and arguments of features that are off by
/// default: what is left is the same with and without them.
fn without_features(json: &str) -> String {
    // An argument is an object at the fourth level.
    const ARGUMENT: &str = "        {\n          \"name\": \"--save-klear-token\"";
    let mut json = json.to_owned();
    if let Some(begin) = json.find(ARGUMENT) {
        let end = "        },\n";
        let length = json[begin..].find(end).expect("another argument follows") + end.len();
        json.replace_range(begin..begin + length, "");
    }
    let mut out = String::new();
    let mut command = String::new();
    for line in json.lines() {
        // A command is an object at the second level.
        match line {
            "    {" => command = format!("{line}\n"),
            "    }," | "    }" if !command.is_empty() => {
                let is_extra = ["fanout", "klear", "perps"]
                    .iter()
                    .any(|name| command.contains(&format!("\n      \"command\": \"{name} ")));
                if !is_extra {
                    out.push_str(&command);
                    out.push_str(line);
                    out.push('\n');
                }
                command.clear();
            }
            _ if command.is_empty() => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {
                command.push_str(line);
                command.push('\n');
            }
        }
    }
    out
}

#[tokio::test]
async fn the_tree_of_commands_is_pinned() {
    let json = kalshi(&["docs", "--format", "json"]).await.ok();
    pinned("docs.json", &without_features(&json));
    let document: Value = serde_json::from_str(&json).unwrap();
    let commands = document["commands"].as_array().unwrap();
    for command in commands {
        for id in command["operations"].as_array().unwrap() {
            let id = id.as_str().unwrap();
            #[cfg(feature = "perps")]
            if command["command"].as_str().unwrap().starts_with("perps ") {
                let known = kalshi_sdk::perps::OPERATIONS.iter().any(|known| known.id == id);
                assert!(known, "{command}");
                continue;
            }
            assert!(id.parse::<kalshi_sdk::OperationId>().is_ok(), "{command}");
        }
    }
    let markdown = kalshi(&["docs"]).await.ok();
    for command in commands {
        let heading = format!("\n### kalshi {}\n", command["command"].as_str().unwrap());
        assert!(markdown.contains(&heading), "{heading}");
    }
}

#[tokio::test]
async fn every_command_has_help_that_names_it() {
    let json = kalshi(&["docs", "--format", "json"]).await.json();
    for command in json["commands"].as_array().unwrap() {
        let words: Vec<&str> = command["command"].as_str().unwrap().split(' ').collect();
        let ran = kalshi(&[&words[..], &["--help"]].concat()).await;
        let help = ran.ok();
        assert!(help.contains(&format!("Usage: kalshi {}", words.join(" "))), "{help}");
    }
    let version = kalshi(&["--version"]).await.ok();
    assert_eq!(version, format!("kalshi {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn manual_pages_are_one_for_each_command() {
    let folder = Folder::new();
    let path = folder.path().join("man");
    let words = ["docs", "--format", "man", "--folder", path.to_str().unwrap()];
    run(bare(&folder, &words)).await.ok();
    let root = std::fs::read_to_string(path.join("kalshi.1")).unwrap();
    assert!(root.contains(".TH kalshi 1") && root.contains("kalshi\\-market(1)"), "{root}");
    for name in ["kalshi-market-list.1", "kalshi-api.1", "kalshi-portfolio-history-fills.1"] {
        assert!(path.join(name).exists(), "{name}");
    }
    assert_eq!(run(bare(&folder, &["docs", "--format", "man"])).await.code, 2);
}

#[tokio::test]
async fn completions_are_scripts_that_the_shells_read() {
    let folder = Folder::new();
    for (shell, check) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = kalshi(&["completions", shell]).await.ok();
        assert!(script.contains("portfolio") && script.contains("dry-run"), "{shell}");
        let file = folder.file(shell, &script);
        // A machine may lack a shell; bash is where these tests run.
        let Ok(status) = std::process::Command::new(shell).args(check).arg(&file).status() else {
            assert_ne!(shell, "bash");
            continue;
        };
        assert!(status.success(), "{shell}");
    }
    assert_eq!(kalshi(&["completions", "nosuchshell"]).await.code, 2);
}

/// Reads what a command prints on a terminal.
#[cfg(unix)]
fn at_a_terminal(variables: &[(&str, &str)]) -> String {
    use std::io::Read as _;

    let folder = Folder::new();
    let (mut main, terminal) = crate::support::terminal("");
    let mut command = bare(&folder, &["--env", "sim", "market", "list", "--limit", "3"]);
    command
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdout(terminal)
        .stderr(std::process::Stdio::null());
    let reading = std::thread::spawn(move || {
        let mut shown = Vec::new();
        // Once the other end is closed and all is read, there is an error.
        let _ = main.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    assert!(command.status().unwrap().success());
    drop(command);
    reading.join().unwrap()
}

#[cfg(unix)]
#[test]
fn colors_are_for_terminals_and_for_those_who_want_them() {
    assert!(at_a_terminal(&[]).contains("\u{1b}["));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = at_a_terminal(&[(name, value)]);
        assert!(shown.contains("KX") && !shown.contains('\u{1b}'), "{name}: {shown:?}");
    }
    assert!(at_a_terminal(&[("NO_COLOR", "")]).contains("\u{1b}["), "an empty one does not count");
}

#[tokio::test]
async fn no_escape_sequence_is_printed_where_no_terminal_is() {
    for words in [&["--help"][..], &["market"], &["--env", "sim", "market", "list"]] {
        let ran = kalshi(words).await;
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran:#?}");
    }
}
