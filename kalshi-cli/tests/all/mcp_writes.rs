//! `kalshi mcp --allow trade` and `kalshi mcp confirm`, at a terminal of the test's own.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use kalshi_sdk::{OperationId, types::OrderStatus};
use kalshi_sim::{FaultKind, Lag};
use serde_json::{Value, json};

use crate::{
    mcp::{Conversation, audit_of},
    own_exchange::OwnExchange,
    support::{Ran, terminal},
};

fn server(desk: &OwnExchange, words: &[&str]) -> Conversation {
    let mut command = desk.command();
    command.args(["mcp", "--allow", "trade"]).args(words);
    Conversation::greeted(command)
}

/// Closes a conversation: nothing but messages was said, and no part of the key.
fn close(desk: &OwnExchange, server: Conversation) {
    let over = server.end();
    assert_eq!((over.code, over.stderr.as_str()), (0, ""));
    assert!(!over.seen.contains(secret(desk)));
}

fn secret(desk: &OwnExchange) -> &str {
    &desk.key.private_key_pem().lines().nth(1).unwrap()[..24]
}

/// Returns a command in a session of its own: with the terminal of its standard input, or with none.
fn in_session(command: &Command, has_terminal: bool) -> Command {
    let mut session = Command::new("setsid");
    session.env_clear();
    for (name, value) in command.get_envs() {
        session.env(name, value.unwrap_or(OsStr::new("")));
    }
    session.arg("--wait");
    if has_terminal {
        // The terminal is that of the session, and not the standard input of the command.
        session.args(["--ctty", "sh", "-c", "exec \"$0\" \"$@\" < /dev/null"]);
    }
    session.arg(command.get_program()).args(command.get_args());
    session
}

fn confirm_command(desk: &OwnExchange, ticket: &str) -> Command {
    let mut command = desk.command();
    command.args(["mcp", "confirm", ticket, "-o", "json"]);
    command
}

/// Runs `kalshi mcp confirm` at a terminal at which this is typed. Returns what the terminal shows,
/// too.
fn confirm(desk: &OwnExchange, command: &Command, typed: &str) -> (Ran, String) {
    let (mut main, terminal) = terminal(typed);
    let mut session = in_session(command, true);
    session.stdin(terminal);
    let ran = desk.finish(&mut session);
    drop(session);
    let mut shown = Vec::new();
    // Once the other end is closed and all is read, there is an error.
    let _ = main.read_to_end(&mut shown);
    (ran, String::from_utf8_lossy(&shown).into_owned())
}

fn order(ticker: &str) -> Value {
    json!({"ticker": ticker, "action": "buy", "outcome": "yes", "count": "2", "price": "0.01"})
}

/// Returns the arguments with a ticket.
fn with(mut arguments: Value, ticket: &str) -> Value {
    arguments["ticket"] = json!(ticket);
    arguments
}

/// Asks for a ticket. Nothing is sent for it.
#[track_caller]
fn ticket(desk: &OwnExchange, server: &mut Conversation, tool: &str, arguments: &Value) -> String {
    let writes = desk.writes().len();
    let answer = server.get(tool, arguments);
    assert_eq!(answer["data"]["state"], "waits_for_a_person", "{answer}");
    assert_eq!(desk.writes().len(), writes);
    let ticket = answer["data"]["ticket"].as_str().unwrap();
    assert_eq!(
        answer["data"]["confirm_with"],
        format!("kalshi --env {} mcp confirm {ticket}", desk.exchange.base_url())
    );
    ticket.to_owned()
}

/// Asks for a ticket, confirms it and carries it out.
#[track_caller]
fn carry_out(
    desk: &OwnExchange,
    server: &mut Conversation,
    tool: &str,
    arguments: &Value,
    typed: &str,
) -> Value {
    let ticket = ticket(desk, server, tool, arguments);
    let (ran, shown) = confirm(desk, &confirm_command(desk, &ticket), typed);
    assert_eq!(ran.code, 0, "{ran:?} {shown}");
    server.get(tool, &with(arguments.clone(), &ticket))["data"].clone()
}

#[test]
fn an_order_is_placed_once_a_person_has_typed_its_count_and_price() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    desk.exchange.markets().set_yes_sub_title(&ticker, "a\n  order        1 × buy").unwrap();
    let mut server = server(&desk, &[]);
    let listed = server.ask("tools/list", &json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap();
    let writes: Vec<&str> = tools
        .iter()
        .filter(|tool| tool["annotations"]["readOnlyHint"] == false)
        .inspect(|tool| assert_eq!(tool["annotations"]["destructiveHint"], true))
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(writes, ["place_order", "amend_order", "cancel_order", "cancel_all"]);
    let arguments = order(&ticker);

    // Declined with anything else.
    let declined = ticket(&desk, &mut server, "place_order", &arguments);
    let (ran, shown) = confirm(&desk, &confirm_command(&desk, &declined), "y\n");
    assert!(shown.contains("2.00 × buy YES at 0.0100"), "{shown}");
    assert!(shown.contains("type  2 @ 0.01  to confirm"), "{shown}");
    assert!(!shown.contains("\n  order        1 × buy"), "a title makes no line: {shown}");
    assert_eq!(ran.failure(3)["category"], "declined");
    let failure = server.fail("place_order", &with(arguments.clone(), &declined));
    assert_eq!(
        (&failure["category"], &failure["effect"]),
        (&json!("declined"), &json!("not_sent"))
    );
    assert_eq!(desk.writes(), [""; 0]);

    let name = ticket(&desk, &mut server, "place_order", &arguments);
    let folder = desk.home.path().join(".local/state/kalshi/tickets");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.clone()), 0o700);
    let file = folder.join(format!("{name}.waiting"));
    assert_eq!(mode(file.clone()), 0o600);
    assert!(!fs::read_to_string(file).unwrap().contains(secret(&desk)));
    let (ran, _) = confirm(&desk, &confirm_command(&desk, &name), "2 @ 0.01\n");
    assert_eq!(ran.json()["result"], "confirmed");
    assert_eq!(desk.writes(), [""; 0], "the server sends it, and when it is asked to");

    // Another body does not fit the ticket, and another tool neither.
    for (key, value) in [("count", "3"), ("price", "0.02"), ("outcome", "no"), ("action", "sell")] {
        let mut forged = with(arguments.clone(), &name);
        forged[key] = json!(value);
        let failure = server.fail("place_order", &forged);
        assert!(failure["message"].as_str().unwrap().contains("other arguments"), "{failure}");
    }
    let failure = server.fail("cancel_all", &json!({"ticket": name}));
    assert!(failure["message"].as_str().unwrap().contains("is for place_order"), "{failure}");
    let failure = server.fail("place_order", &with(arguments.clone(), &"0".repeat(24)));
    assert!(failure["message"].as_str().unwrap().contains("no such ticket"), "{failure}");
    assert_eq!(desk.writes(), [""; 0]);

    let placed = server.get("place_order", &with(arguments.clone(), &name));
    let order_id = placed["data"]["order_id"].as_str().unwrap().to_owned();
    assert_eq!(placed["data"]["status"], "resting", "{placed}");
    assert!(placed["data"]["client_order_id"].as_str().unwrap().starts_with("cli-mcp-"));
    // A repeated call, also of another server, is told what became of it.
    let mut other = self::server(&desk, &[]);
    for server in [&mut server, &mut other] {
        let again = server.get("place_order", &with(arguments.clone(), &name));
        assert_eq!(again["data"]["state"], "was_used_before", "{again}");
        assert_eq!(again["data"]["result"]["order_id"], order_id.as_str());
    }
    let (ran, _) = confirm(&desk, &confirm_command(&desk, &name), "2 @ 0.01\n");
    assert!(ran.failure(2)["message"].as_str().unwrap().contains("used before"));
    assert_eq!((desk.writes(), desk.placed().len()), (vec!["create_order_v2"], 1));
    assert_eq!(desk.journals(), 0);
    close(&desk, other);
    close(&desk, server);

    let lines = audit_of(&desk.home);
    let is_it = |line: &&Value| line["ticket"] == name.as_str();
    let about: Vec<&Value> = lines.iter().filter(is_it).collect();
    let outcomes: Vec<&str> = about.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(
        outcomes,
        [
            "ticket",
            "confirmed",
            "usage",
            "usage",
            "usage",
            "usage",
            "usage",
            "sending",
            "ok",
            "repeated",
            "repeated",
            "usage"
        ]
    );
    assert_eq!((&about[1]["tool"], &about[8]["tool"]), (&json!("confirm"), &json!("place_order")));
    assert_eq!(about[8]["order_id"], order_id.as_str());
    assert_eq!(about[7]["operation"], "create_order_v2");
}

#[test]
fn orders_are_changed_and_canceled_with_tickets() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let mut server = server(&desk, &[]);
    let placed = carry_out(&desk, &mut server, "place_order", &order(&ticker), "2@0.01\n");
    let id = placed["order_id"].as_str().unwrap().to_owned();
    let failure = server
        .fail("amend_order", &json!({"order_id": id, "yes_price": "0.02", "no_price": "0.98"}));
    assert_eq!(failure["category"], "usage");

    let change = json!({"order_id": id, "yes_price": "0.02", "count": "3", "expires": "10m"});
    let amended = carry_out(&desk, &mut server, "amend_order", &change, "3 @ 0.02\n");
    assert_eq!(amended["yes_price_dollars"], "0.0200", "{amended}");
    assert_eq!(amended["remaining_count_fp"], "3.00", "{amended}");

    let one = json!({"order_id": id});
    let canceled = carry_out(&desk, &mut server, "cancel_order", &one, "cancel 3 @ 0.02\n");
    assert_eq!(canceled["result"], "canceled", "{canceled}");
    assert_eq!(server.fail("cancel_order", &one)["category"], "rejected", "it is over");

    for _ in 0..2 {
        assert_eq!(desk.run(&format!("order buy {ticker} yes 2 @ 0.01")).code, 0);
    }
    let market = json!({"ticker": ticker});
    let name = ticket(&desk, &mut server, "cancel_all", &market);
    let (ran, shown) = confirm(&desk, &confirm_command(&desk, &name), "cancel 2\n");
    assert_eq!(ran.code, 0, "{shown}");
    // What is placed meanwhile was shown to no person, and stays.
    assert_eq!(desk.run(&format!("order buy {ticker} yes 1 @ 0.01")).code, 0);
    let canceled = server.get("cancel_all", &with(market.clone(), &name));
    assert_eq!(canceled["data"]["orders"].as_array().unwrap().len(), 2, "{canceled}");
    assert_eq!(canceled["data"]["failed"], 0);
    let resting = || {
        let orders = desk.placed();
        orders.iter().filter(|order| order.status == OrderStatus::Resting).count()
    };
    assert_eq!(resting(), 1);
    let all = carry_out(&desk, &mut server, "cancel_all", &json!({}), "cancel all\n");
    assert_eq!((&all["result"], resting()), (&json!("canceled"), 0), "{all}");
    close(&desk, server);
}

#[test]
fn a_ticket_is_confirmed_at_a_terminal_and_where_it_belongs() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let mut server = server(&desk, &[]);
    let arguments = order(&ticker);
    let name = ticket(&desk, &mut server, "place_order", &arguments);

    // The right line on a pipe, and no terminal.
    let mut session = in_session(&confirm_command(&desk, &name), false);
    session.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = session.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"2 @ 0.01\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no terminal"), "{output:?}");

    let refused = |command: &Command, part: &str| {
        let (ran, _) = confirm(&desk, command, "2 @ 0.01\n");
        let failure = ran.failure(2);
        assert!(failure["message"].as_str().unwrap().contains(part), "{failure}");
    };
    let mut command = confirm_command(&desk, &name);
    refused(command.arg("--yes"), "--yes does not");
    let mut command = confirm_command(&desk, &name);
    refused(command.args(["--env", "demo"]), "acts on demo");
    let low = desk.home.file("low.toml", "[profiles.default]\nmax_order_cost = '0.01'\n");
    let mut command = confirm_command(&desk, &name);
    refused(command.env("KALSHI_CONFIG", &low), "max_order_cost");
    refused(&confirm_command(&desk, &"0".repeat(24)), "no such ticket");
    refused(&confirm_command(&desk, "../../x"), "no such ticket");
    let mut command = confirm_command(&desk, &name);
    let (ran, _) = confirm(&desk, command.arg("--dry-run"), "");
    assert!(ran.code == 0 && ran.stdout.contains("2.00 × buy YES at 0.0100"), "{ran:?}");

    // A server of another environment, though it is the same exchange.
    let (ran, shown) = confirm(&desk, &confirm_command(&desk, &name), "2 @ 0.01\n");
    assert_eq!(ran.code, 0, "{shown}");
    let mut command = desk.command();
    let elsewhere = desk.exchange.base_url().replace("127.0.0.1", "localhost");
    assert_ne!(elsewhere, desk.exchange.base_url());
    command.env("KALSHI_ENV", elsewhere).args(["mcp", "--allow", "trade"]);
    let mut other = Conversation::greeted(command);
    let failure = other.fail("place_order", &with(arguments.clone(), &name));
    assert!(failure["message"].as_str().unwrap().contains("the ticket is for"), "{failure}");
    close(&desk, other);

    // What is written into the file of a ticket makes it void.
    let file = desk.home.path().join(format!(".local/state/kalshi/tickets/{name}.confirmed"));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\"count\":\"2.00\"", "\"count\":\"9.00\"", 1)).unwrap();
    let failure = server.fail("place_order", &with(arguments.clone(), &name));
    assert!(failure["message"].as_str().unwrap().contains("was changed"), "{failure}");
    assert_eq!(desk.writes(), [""; 0]);

    // A call that waits for a person ends when its client does not want it any more.
    let waiting = ticket(&desk, &mut server, "place_order", &arguments);
    let call = json!({"name": "place_order", "arguments": with(arguments.clone(), &waiting)});
    server.tell(&json!({"jsonrpc": "2.0", "id": "waits", "method": "tools/call", "params": call}));
    server.tell(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "waits"},
    }));
    server.tell(&json!({"jsonrpc": "2.0", "id": "after", "method": "ping"}));
    while server.read()["id"] != "after" {}
    close(&desk, server);
    assert_eq!(desk.writes(), [""; 0]);
}

#[test]
fn ceilings_hold_for_tickets_and_a_server_that_only_reads_knows_none() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let low = desk.home.file("low.toml", "[profiles.default]\nmax_order_cost = '0.01'\n");
    let mut command = desk.command();
    command.env("KALSHI_CONFIG", low).args(["mcp", "--allow", "trade"]);
    let mut server = Conversation::greeted(command);
    let failure = server.fail("place_order", &order(&ticker));
    assert!(failure["message"].as_str().unwrap().contains("max_order_cost"), "{failure}");
    let mut key = order(&ticker);
    key["group"] = json!(desk.key.private_key_pem().lines().nth(1).unwrap());
    let failure = server.fail("place_order", &key);
    assert!(failure["message"].as_str().unwrap().contains("looks like a key"), "{failure}");
    close(&desk, server);
    assert_eq!(desk.writes(), [""; 0]);
    assert!(!desk.home.path().join(".local/state/kalshi/tickets").exists());
    for words in ["mcp --allow trade --dry-run", "mcp --allow everything"] {
        assert_eq!(desk.run(words).code, 2, "{words}");
    }
}

#[test]
fn an_order_whose_answer_is_lost_is_found_out_and_never_placed_twice() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let mut server = server(&desk, &["--settle-within", "1s"]);
    let arguments = order(&ticker);
    desk.fault(OperationId::CreateOrderV2, FaultKind::ResetAfter, Some(1));
    // No list shows it for a while.
    desk.exchange.set_lag(Lag::none().with_reads(Duration::from_secs(600)));
    let name = ticket(&desk, &mut server, "place_order", &arguments);
    let (ran, shown) = confirm(&desk, &confirm_command(&desk, &name), "2 @ 0.01\n");
    assert_eq!(ran.code, 0, "{shown}");
    let with_ticket = with(arguments.clone(), &name);
    let failure = server.fail("place_order", &with_ticket);
    assert_eq!(
        (&failure["category"], &failure["effect"]),
        (&json!("unknown_outcome"), &json!("unknown"))
    );
    let next = failure["next"].as_str().unwrap();
    assert!(
        next.contains("again with this ticket") && next.contains("kalshi order settle cli-mcp")
    );
    // Nothing is placed in its stead.
    let failure = server.fail("place_order", &arguments);
    assert_eq!(failure["category"], "unknown_outcome", "{failure}");
    desk.exchange.set_lag(Lag::none());
    let found = loop {
        let (is_error, found) = server.call("place_order", &with_ticket);
        if !is_error {
            break found;
        }
        assert_eq!(found["error"]["category"], "unknown_outcome", "{found}");
    };
    assert_eq!(found["data"]["status"], "resting", "{found}");
    assert_eq!(server.get("place_order", &with_ticket)["data"]["state"], "was_used_before");
    assert_eq!((desk.writes(), desk.placed().len()), (vec!["create_order_v2"], 1));

    // A refusal is repeated as such, and the order is not sent again.
    let much = json!({
        "ticker": ticker, "action": "buy", "outcome": "yes", "count": "100000", "price": "0.5",
    });
    let name = ticket(&desk, &mut server, "place_order", &much);
    assert_eq!(confirm(&desk, &confirm_command(&desk, &name), "100000 @ 0.5\n").0.code, 0);
    let failure = server.fail("place_order", &with(much.clone(), &name));
    assert_eq!(failure["effect"], "rejected", "{failure}");
    let failure = server.fail("place_order", &with(much, &name));
    assert!(failure["message"].as_str().unwrap().contains("used before"), "{failure}");
    assert_eq!(desk.writes(), ["create_order_v2"; 2]);
    let over = server.end();
    assert_eq!(over.code, 0);
    assert!(over.stderr.starts_with("the answer was lost"), "{}", over.stderr);
}

#[test]
fn the_embedded_exchange_is_traded_on_with_tickets_too() {
    let desk = OwnExchange::new();
    let mut command = desk.command();
    command.args(["--env", "sim", "mcp", "--allow", "trade"]);
    let mut server = Conversation::greeted(command);
    let page = server.get(
        "call_read",
        &json!({"operation": "get_markets", "parameters": {"status": "open", "limit": 1}}),
    );
    let arguments = order(page["data"]["markets"][0]["ticker"].as_str().unwrap());
    let answer = server.get("place_order", &arguments);
    let name = answer["data"]["ticket"].as_str().unwrap().to_owned();
    assert_eq!(answer["data"]["confirm_with"], format!("kalshi --env sim mcp confirm {name}"));
    let mut command = confirm_command(&desk, &name);
    let (ran, shown) = confirm(&desk, command.args(["--env", "sim"]), "2 @ 0.01\n");
    assert_eq!(ran.code, 0, "{shown}");
    let placed = server.get("place_order", &with(arguments, &name));
    assert_eq!(placed["data"]["status"], "resting", "{placed}");
    close(&desk, server);
}
