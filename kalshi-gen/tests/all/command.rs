//! The command behind `cargo gen`: what it prints, what it writes, what it ends with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const SMALL: &str = "\
openapi: 3.0.0
info: {title: Small, version: 1.0.0}
paths:
  /a:
    get:
      operationId: GetA
      summary: Read the thing
      description: Reads what the exchange holds now.
      responses:
        '204': {description: Nothing}
";

/// A workspace of its own, with one small document and no overlay.
struct Workspace(PathBuf);

impl Workspace {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kalshi-gen").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("overlay/docs")).unwrap();
        fs::write(folder.join("openapi.yaml"), SMALL).unwrap();
        Self(folder)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_kalshi-gen"))
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// Returns every file, with its contents.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        let mut open = vec![self.0.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((path, text));
                }
            }
        }
        found.sort();
        found
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_bad_document_ends_with_two_and_one_line_and_writes_nothing() {
    let workspace = Workspace::new("bad");
    for bad in ["", "a: [", "openapi: 3.1.0\n", "openapi: 3.0.0\ninfo: 3\n"] {
        workspace.write("openapi.yaml", bad);
        let before = workspace.files();
        let commands: [&[&str]; 6] = [
            &["check"],
            &["update"],
            &["dump"],
            &["dump", "document"],
            &["generate", "--spec", "openapi.yaml"],
            &["generate", "--overlays", "--spec", "openapi.yaml"],
        ];
        for command in commands {
            let output = workspace.run(command);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
            assert_eq!(text(&output.stdout), "", "{command:?}");
            assert_eq!(said.lines().count(), 1, "{command:?}: {said}");
            assert!(said.starts_with("error: ") && said.contains("openapi.yaml: "), "{said}");
            assert!(!said.contains("panicked"), "{said}");
            assert_eq!(workspace.files(), before, "{command:?} wrote something");
        }
    }
}

#[test]
fn a_panic_of_progenitor_is_one_line_too() {
    let workspace = Workspace::new("panic");
    let schemas = "components: {schemas: {A: {oneOf: [{type: object, properties: {a: {}}, required: [a]}, {type: object, properties: {A: {}}, required: [A]}]}}}\n";
    let reached = SMALL.replace(
        "'204': {description: Nothing}",
        "'200': {description: OK, content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}",
    );
    workspace.write("openapi.yaml", &format!("{reached}{schemas}"));
    let output = workspace.run(&["generate", "--spec", "openapi.yaml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: openapi.yaml: /components/schemas/A/oneOf/"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn missing_and_unreadable_files_are_named() {
    let workspace = Workspace::new("missing");
    let output = workspace.run(&["generate", "--spec", "nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: nowhere.yaml: "), "{}", text(&output.stderr));
    fs::write(workspace.0.join("latin.yaml"), [0xe9, 0x3a, 0x0a]).unwrap();
    let output = workspace.run(&["generate", "--spec", "latin.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: latin.yaml: "));
    let output = workspace.run(&["check", "--root", "elsewhere"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_bad_overlay_is_named_with_its_action() {
    let workspace = Workspace::new("overlay");
    workspace.write("overlay/docs/a.yaml", "actions:\n- target: $.paths['/b']\n  update: {}\n");
    let output = workspace.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    let line = "error: overlay/docs/a.yaml#/actions/0: `$.paths['/b']` matches nothing\n";
    assert_eq!(said, line);
    // Another version's document may lack what an overlay speaks of.
    let output = workspace.run(&["generate", "--overlays", "--spec", "openapi.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn check_finds_what_update_repairs() {
    let workspace = Workspace::new("stale");
    let output = workspace.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr)
            .contains("tests/golden/operations.txt, tests/golden/types.txt out of date")
    );
    assert_eq!(workspace.files().len(), 1, "check wrote something");

    let output = workspace.run(&["update"]);
    assert_eq!(
        text(&output.stdout),
        "wrote tests/golden/operations.txt\nwrote tests/golden/types.txt\n"
    );
    let output = workspace.run(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let operations = workspace.0.join("tests/golden/operations.txt");
    let good = fs::read_to_string(&operations).unwrap();
    fs::write(&operations, good.replace("GET", "PUT")).unwrap();
    let output = workspace.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("tests/golden/operations.txt out of date"));
    assert_eq!(text(&workspace.run(&["update"]).stdout), "wrote tests/golden/operations.txt\n");
    assert_eq!(fs::read_to_string(&operations).unwrap(), good);
}

#[test]
fn update_is_idempotent_and_leaves_nothing_beside() {
    let workspace = Workspace::new("twice");
    workspace.run(&["update"]);
    let before = workspace.files();
    let modified = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let times: Vec<_> = before.iter().map(|(path, _)| modified(path)).collect();
    let output = workspace.run(&["update"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(said.starts_with("nothing to write: ") && said.contains("--from FILE"), "{said}");
    assert_eq!(workspace.files(), before);
    let after: Vec<_> = before.iter().map(|(path, _)| modified(path)).collect();
    assert_eq!(after, times, "a file was touched that had not changed");
    let names: Vec<_> =
        before.iter().map(|(path, _)| path.strip_prefix(&workspace.0).unwrap()).collect();
    assert_eq!(
        names,
        ["openapi.yaml", "tests/golden/operations.txt", "tests/golden/types.txt"].map(Path::new)
    );
}

#[cfg(unix)]
#[test]
fn update_replaces_the_file_and_does_not_write_into_it() {
    let workspace = Workspace::new("replace");
    workspace.run(&["update"]);
    let file = workspace.0.join("tests/golden/types.txt");
    // Whoever has the old file open (here: a second name) goes on seeing all of it.
    let second = workspace.0.join("second.txt");
    fs::write(&file, "old").unwrap();
    fs::hard_link(&file, &second).unwrap();
    workspace.run(&["update"]);
    assert_eq!(fs::read_to_string(&second).unwrap(), "old");
    assert_ne!(fs::read_to_string(&file).unwrap(), "old");
}

#[test]
fn check_fails_when_an_item_is_undocumented() {
    let workspace = Workspace::new("words");
    workspace.write(
        "openapi.yaml",
        &SMALL.replace("      description: Reads what the exchange holds now.\n", ""),
    );
    workspace.run(&["update"]);
    let output = workspace.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stdout);
    assert!(report.contains("operations: 0 documented, 1 undocumented\n"), "{report}");
    assert!(report.contains("/paths/~1a/get: is undocumented\n"), "{report}");
    let said = text(&output.stderr);
    assert!(said.contains("1 undocumented items (overlay)"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let spec = root.join("openapi.yaml");
    let commands: [&[&str]; 4] = [
        &["dump", "document"],
        &["dump", "types"],
        &["check"],
        &["generate", "--spec", spec.to_str().unwrap()],
    ];
    for command in commands {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kalshi-gen"))
            .args(command)
            .current_dir(&root)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{command:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kalshi-gen"))
        .args(["dump", "types"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: standard output: "));
}

#[test]
fn the_review_files_of_this_workspace_are_current_and_its_words_complete() {
    let output = Command::new(env!("CARGO_BIN_EXE_kalshi-gen"))
        .arg("check")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
}
