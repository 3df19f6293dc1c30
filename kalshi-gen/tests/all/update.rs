//! `cargo gen diff` and `cargo gen update --from`, as commands: what they end with and what they
//! write.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const OLD: &str = "\
openapi: 3.0.0
info:
  title: Small
  version: 1.0.0
servers:
- url: https://external-api.kalshi.com/trade-api/v2
paths:
  /a:
    get:
      operationId: GetA
      responses:
        '200':
          description: OK
          content:
            application/json:
              schema:
                $ref: '#/components/schemas/A'
components:
  schemas:
    A:
      type: object
      required:
      - x
      properties:
        x:
          type: string
        y:
          type: string
";

const STREAMS: &str = "\
asyncapi: 3.0.0
info:
  title: Small
  version: 2.0.0
servers:
  production:
    host: external-api-ws.kalshi.com
    pathname: /trade-api/ws/v2
channels:
  fills:
    address: fills
  trades:
    address: trades
    messages:
      trade:
        $ref: '#/components/messages/trade'
components:
  messages:
    trade:
      contentType: application/json
      payload:
        $ref: '#/components/schemas/tradePayload'
  schemas:
    tradePayload:
      type: object
      required:
      - type
      - msg
      properties:
        type:
          type: string
          const: trade
        msg:
          type: object
          properties:
            price_dollars:
              type: string
";

const WORDS: &str = "\
overlay: 1.0.0
info: {title: Words, version: 1.0.0}
actions:
- target: $.paths['/a'].get
  update: {summary: Read the thing, description: Reads what the exchange holds now.}
- target: $.components.schemas.A
  update: {description: The thing that the exchange holds.}
- target: $.components.schemas.A.properties.x
  update: {description: How far the thing has come.}
- target: $.components.schemas.A.properties.y
  update: {description: What the thing is called by its owner.}
";

struct Workspace(PathBuf);

impl Workspace {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kalshi-gen-update").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("overlay/docs")).unwrap();
        let workspace = Self(folder);
        workspace.write("openapi.yaml", OLD);
        workspace.write("asyncapi.yaml", STREAMS);
        workspace.write("overlay/docs/a.yaml", WORDS);
        workspace
            .write("Cargo.toml", "[package]\nname = \"a\"\nversion = \"0.1.0\"\n\n[features]\n");
        workspace.write("CHANGELOG.md", "# Changelog\n\n## 0.1.0\n\nFirst.\n");
        let made = workspace.run(&["update"]);
        assert_eq!(made.status.code(), Some(0), "{}", said(&made));
        workspace
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

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Returns every file of the workspace but those to be imported.
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

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Returns the next version as the exchange publishes it: with prose, one new field and one lost.
fn published() -> String {
    OLD.replace("version: 1.0.0", "version: 1.1.0\n  description: Words of theirs.")
        .replace("        y:\n", "        z:\n          description: Words of theirs.\n")
        .replace("        x:\n", "        x:\n          example: theirs\n")
}

#[test]
fn the_ends_of_the_comparison_are_zero_one_and_two() {
    let workspace = Workspace::new("ends");
    workspace.write("new.yaml", &published());
    workspace.write("bad.yaml", "openapi: 3.0.0\npaths: 7\n");
    for (arguments, code) in [
        (&["openapi.yaml", "openapi.yaml"] as &[&str], 0),
        (&["openapi.yaml", "new.yaml"], 1),
        (&["openapi.yaml", "new.yaml", "--fail-on", "never"], 0),
        (&["openapi.yaml", "bad.yaml"], 2),
        (&["openapi.yaml", "none.yaml"], 2),
        (&["openapi.yaml", "asyncapi.yaml"], 2),
        (&["openapi.yaml", "new.yaml", "--crate-version", "x"], 2),
    ] {
        let output = workspace.run(&[&["diff"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
    let output = workspace.run(&["diff", "openapi.yaml", "bad.yaml"]);
    assert_eq!(said(&output), "error: bad.yaml: /paths: must be a mapping\n");
    // Only additions: breaks nothing, and is found if asked for.
    workspace.write(
        "more.yaml",
        &OLD.replace("        y:\n", "        w:\n          type: string\n        y:\n"),
    );
    assert_eq!(workspace.run(&["diff", "openapi.yaml", "more.yaml"]).status.code(), Some(0));
    let strict = workspace.run(&["diff", "openapi.yaml", "more.yaml", "--fail-on", "info"]);
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn accepted_changes_do_not_fail_and_stale_entries_are_named() {
    let workspace = Workspace::new("accepted");
    workspace.write("new.yaml", &published());
    let output = workspace.run(&["diff", "openapi.yaml", "new.yaml", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut accepted = String::from("- {fingerprint: '0123456789ab', reason: Long gone.}\n");
    for change in report["changes"].as_array().unwrap() {
        let print = change["fingerprint"].as_str().unwrap();
        accepted += &["- {fingerprint: '", print, "', reason: Never sent.}\n"].concat();
    }
    workspace.write("accepted.yaml", &accepted);
    let output = workspace.run(&["diff", "openapi.yaml", "new.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("not among the changes: 0123456789ab"), "{}", said(&output));
}

#[test]
fn a_published_document_is_taken_over_with_everything_that_follows() {
    let workspace = Workspace::new("take-over");
    workspace.write("new.yaml", &published());
    let check = workspace.run(&["update", "--check", "--from", "new.yaml"]);
    assert_eq!(check.status.code(), Some(1), "{}", said(&check));
    assert_eq!(workspace.read("openapi.yaml"), OLD, "a check writes nothing");

    let output = workspace.run(&["update", "--from", "new.yaml"]);
    let report = said(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let expected =
        OLD.replace("version: 1.0.0", "version: 1.1.0").replace("        y:\n", "        z:\n");
    assert_eq!(workspace.read("openapi.yaml"), expected, "the structure, in the published order");
    assert!(workspace.read("tests/golden/types.txt").contains("  z: string"));
    assert!(
        workspace.read("Cargo.toml").contains("[package.metadata.openapi]\nversion = \"1.1.0\"\n")
    );
    let log = workspace.read("CHANGELOG.md");
    assert!(log.contains("## Unreleased\n\n### Trade API 1.0.0 to 1.1.0\n"), "{log}");
    assert!(
        log.contains("- **breaking** `schema A` `y`: response-optional-property-removed"),
        "{log}"
    );
    assert!(log.contains("- **added** `schema A` `z`: response-optional-property-added"), "{log}");
    assert!(report.contains("matches nothing any more: overlay/docs/a.yaml"), "{report}");
    assert!(report.contains("1 undocumented items"), "{report}");
    assert!(report.contains("wrote openapi.yaml\n"), "{report}");
    assert!(report.contains("minor release 0.2.0"), "{report}");

    let before = workspace.files();
    let again = workspace.run(&["update", "--from", "new.yaml"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(workspace.files(), before, "a second time changes nothing");
    let check = workspace.run(&["update", "--check", "--from", "new.yaml"]);
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
}

#[test]
fn a_document_of_streams_takes_its_own_place() {
    let workspace = Workspace::new("streams");
    workspace.write(
        "new.yaml",
        &STREAMS.replace("2.0.0", "2.1.0").replace("address: fills", "address: mine"),
    );
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(workspace.read("asyncapi.yaml").contains("    address: mine\n"));
    assert_eq!(workspace.read("openapi.yaml"), OLD);
    assert!(
        workspace.read("Cargo.toml").contains("[package.metadata.asyncapi]\nversion = \"2.1.0\"\n")
    );
    assert!(workspace.read("CHANGELOG.md").contains("### WebSocket API 2.0.0 to 2.1.0"));
}

/// Runs an update whose document of streams is edited.
fn streams(name: &str, edit: impl FnOnce(String) -> String) -> (Workspace, Output) {
    let workspace = Workspace::new(name);
    workspace.write("new.yaml", &edit(STREAMS.replace("2.0.0", "2.1.0")));
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    (workspace, output)
}

#[test]
fn g4_a_document_of_streams_is_generated_before_anything_is_written() {
    let (workspace, output) =
        streams("g4-refused", |text| text.replace("          const: trade\n", ""));
    let report = said(&output);
    assert_eq!(output.status.code(), Some(2), "{report}");
    let line = "error: new.yaml: /components/messages/trade: the payload does not say its `type`; nothing was changed\n";
    assert!(report.ends_with(line), "{report}");
    assert_eq!(workspace.read("asyncapi.yaml"), STREAMS);
}

#[test]
fn g4_what_overlays_and_documentation_have_to_say_about_streams_is_reported() {
    let workspace = Workspace::new("g4-report");
    fs::create_dir_all(workspace.0.join("kalshi-ws/overlay")).unwrap();
    let action = |target: &str, update: &str| format!("- target: {target}\n  update: {update}\n");
    let actions = [
        action("$.channels.fills", "{description: Own fills.}"),
        action("$.components.schemas.tradePayload", "{type: object}"),
        action("$.components.schemas.lost", "{description: Gone.}"),
    ];
    workspace.write("kalshi-ws/overlay/a.yaml", &format!("actions:\n{}", actions.concat()));
    let odd = STREAMS.replace("2.0.0", "2.1.0").replace("price_dollars", "fee_cost");
    workspace.write("new.yaml", &odd);
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    let report = said(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for line in [
        "  matches nothing any more: kalshi-ws/overlay/a.yaml: $.components.schemas.lost\n",
        "  adds what is there: kalshi-ws/overlay/a.yaml: $.components.schemas.tradePayload: the document already has all of it\n",
        "  /components/messages/trade: is undocumented\n",
        "  /components/schemas/tradePayload/properties/msg/properties/fee_cost: `fee_cost` looks like an amount and is plain text",
        "wrote kalshi-ws/tests/golden/types.txt\n",
        "wrote asyncapi.yaml\n",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
}

#[test]
fn g5_a_document_of_another_family_is_refused_and_named() {
    let perps =
        "this is no document of the WebSocket API: its server is at `/trade-api/ws/v2/margin`";
    let (workspace, output) =
        streams("g5-server", |text| text.replace("/trade-api/ws/v2", "/trade-api/ws/v2/margin"));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("new.yaml: /servers/production: {perps}")),
        "{}",
        said(&output)
    );
    assert_eq!(workspace.read("asyncapi.yaml"), STREAMS);

    // The same server, other operations.
    workspace.write("new.yaml", &published().replace("  /a:", "  /margin/a:"));
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    let line = "error: new.yaml: /: this is no document of the Trade API: it has 0 of the 1 operations that are here; nothing was changed\n";
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(2), line));
    workspace.write("new.yaml", &published().replace("servers:\n- url", "x-servers:\n- url"));
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    assert!(said(&output).contains("it names no server"), "{}", said(&output));
    assert_eq!(workspace.read("openapi.yaml"), OLD);
}

#[test]
fn g8_an_operation_that_only_takes_a_token_is_not_taken_over_for_a_client_that_signs() {
    let workspace = Workspace::new("g8");
    let secured = published()
        .replace(
            "      operationId: GetA\n",
            "      operationId: GetA\n      security:\n      - t: []\n",
        )
        .replace(
            "components:\n",
            "components:\n  securitySchemes:\n    t:\n      type: http\n      scheme: bearer\n",
        );
    workspace.write("new.yaml", &secured);
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    let line = "new.yaml: /paths/~1a/get: the client of the Trade API cannot be bearer; nothing was changed";
    assert!(said(&output).contains(line), "{}", said(&output));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn missing_arguments_are_answered_with_what_to_do() {
    let workspace = Workspace::new("arguments");
    let output = workspace.run(&["update"]);
    assert_eq!(output.status.code(), Some(0));
    let hint = "to take over a published document: `cargo gen update --from FILE`";
    assert!(said(&output).contains(hint), "{}", said(&output));
    for arguments in [&["diff"] as &[&str], &["diff", "openapi.yaml"], &["update", "--from"]] {
        let output = workspace.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let hint = "For example:";
        assert!(said(&output).contains(hint), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn a_failed_update_changes_nothing() {
    let workspace = Workspace::new("failed");
    workspace.write("bad.yaml", &OLD.replace("type: string", "type: strange"));
    workspace.write("new.yaml", &published());
    let before = workspace.files();
    let output = workspace.run(&["update", "--from", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(workspace.files(), before);

    // One of the files cannot be replaced: a folder stands in its place.
    fs::remove_file(workspace.0.join("tests/golden/types.txt")).unwrap();
    fs::create_dir(workspace.0.join("tests/golden/types.txt")).unwrap();
    let before = workspace.files();
    let output = workspace.run(&["update", "--from", "new.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("nothing was changed"), "{}", said(&output));
    assert_eq!(workspace.files(), before);
}

#[test]
fn a_check_without_a_document_holds_what_is_here_against_itself() {
    let workspace = Workspace::new("check");
    assert_eq!(workspace.run(&["update", "--check"]).status.code(), Some(0));
    let manifest = workspace.read("Cargo.toml");
    workspace.write("Cargo.toml", &manifest.replace("\"1.0.0\"", "\"0.9.0\""));
    let output = workspace.run(&["update", "--check"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("Cargo.toml out of date"), "{}", said(&output));
}
