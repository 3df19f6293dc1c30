//! Tickets: writes that a model asked for, and that wait for a person.
//!
//! A ticket is a file in a folder that only its owner can read. Its name is a hash of everything that
//! is shown and sent, so that no other request fits it. The end of the name is its state; a state is
//! left by renaming the file, which only one process can do: a ticket is used once, however many
//! servers there are.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use kalshi_sdk::{Count, Dollars, UnixMillis};

use crate::{
    failure::{Failure, Outcome},
    json::Json,
    order::{confirmation, create_private, is_confirmed, state_folder},
    profile::private_file,
};

/// The time in which a ticket is confirmed.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// The time after that in which a confirmed ticket is carried out.
const GRACE: Duration = Duration::from_secs(60);

/// The time for which a ticket is kept, so that its outcome can be asked for again.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The most tickets that wait for a person at the same time.
const MAX_WAITING: usize = 16;

/// The most bytes of a ticket.
const MAX_BYTES: u64 = 1 << 20;

/// The characters of a ticket's name: 96 bits of the hash.
const NAME: usize = 24;

/// The line that a person types to confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The count and the price, in any way of writing them.
    Terms(Count, Dollars),
    /// This text.
    Text(String),
}

impl Line {
    /// Returns the line to type.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Terms(count, price) => confirmation(*count, *price),
            Self::Text(text) => text.clone(),
        }
    }

    /// Reports whether a typed line is this one.
    pub(super) fn is(&self, typed: &str) -> bool {
        match self {
            Self::Terms(count, price) => is_confirmed(typed, *count, *price),
            Self::Text(text) => typed.trim() == text,
        }
    }
}

/// A write that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) tool: String,
    /// The environment, as the command line names it.
    pub(super) environment: String,
    /// A hash of the key's id.
    pub(super) account: String,
    pub(super) expires_at: UnixMillis,
    /// A random number: the same request has another ticket each time.
    pub(super) nonce: String,
    /// The arguments of the tool, as they were given.
    pub(super) arguments: Json,
    /// The request, without the client id of an order, which is a hash of the ticket.
    pub(super) request: Json,
    /// The most that an order can cost, if that is known.
    pub(super) worst_cost: Option<Dollars>,
    pub(super) line: Line,
    /// The text that the person reads.
    pub(super) preview: String,
}

/// The state of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Confirmed,
    Declined,
    /// It was carried out, with this result; `None` if the result is not known.
    Used(Option<Json>),
}

/// The ends of the names of the files, in the order in which a ticket comes through them.
const WAITING: &str = "waiting";
const CONFIRMED: &str = "confirmed";
const DECLINED: &str = "declined";
const USED: &str = "used";

/// The end of the name of the file that has the name of the ticket of a request.
const REQUEST: &str = "request";

impl Ticket {
    /// Returns everything that the ticket is bound to.
    fn bound(&self) -> Json {
        let line = match &self.line {
            Line::Terms(count, price) => Json::object([
                ("count", Json::text(count.to_string())),
                ("price", Json::text(price.to_string())),
            ]),
            Line::Text(text) => Json::text(text),
        };
        Json::object([
            ("tool", Json::text(&self.tool)),
            ("environment", Json::text(&self.environment)),
            ("account", Json::text(&self.account)),
            ("expires_at", Json::number(self.expires_at.as_millis())),
            ("nonce", Json::text(&self.nonce)),
            ("arguments", self.arguments.clone()),
            ("request", self.request.clone()),
            ("worst_cost", Json::optional(self.worst_cost.map(|cost| cost.to_string()))),
            ("line", line),
            ("preview", Json::text(&self.preview)),
        ])
    }

    /// Returns the name of the ticket.
    pub(super) fn name(&self) -> String {
        hash(&format!("ticket\n{}", self.bound()), NAME)
    }

    /// Returns the client id of the order of this ticket: the same each time, so that it cannot place
    /// two.
    pub(super) fn client_id(&self) -> String {
        client_id(&self.name())
    }

    fn read(bound: &Json) -> Option<Self> {
        let text = |name: &str| bound.get(name)?.as_str().map(str::to_owned);
        let line = match bound.get("line")? {
            Json::Text(text) => Line::Text(text.clone()),
            terms => Line::Terms(
                terms.get("count")?.as_str()?.parse().ok()?,
                terms.get("price")?.as_str()?.parse().ok()?,
            ),
        };
        let worst_cost = match bound.get("worst_cost")? {
            Json::Null => None,
            cost => Some(cost.as_str()?.parse().ok()?),
        };
        let Json::Number(expires_at) = bound.get("expires_at")? else { return None };
        Some(Self {
            tool: text("tool")?,
            environment: text("environment")?,
            account: text("account")?,
            expires_at: UnixMillis::from_millis(expires_at.parse().ok()?),
            nonce: text("nonce")?,
            arguments: bound.get("arguments")?.clone(),
            request: bound.get("request")?.clone(),
            worst_cost,
            line,
            preview: text("preview")?,
        })
    }

    /// Refuses a ticket that has expired, or that was made by a clock far ahead of this one.
    fn check_time(&self, now: UnixMillis, more: Duration) -> Outcome {
        let last = self.expires_at.saturating_add(more);
        if now <= last && self.expires_at.saturating_sub(LIFETIME) <= now {
            return Ok(());
        }
        Err(Failure::usage("the ticket has expired; nothing was sent").with_next(
            "call the tool again for a new one: without a ticket, or with another request_id",
        ))
    }
}

/// Returns the client id of the order of a ticket.
fn client_id(name: &str) -> String {
    format!("{}mcp-{}", crate::order::OwnPrefix::TEXT, hash(&format!("client id\n{name}"), 32))
}

/// Returns the first characters of the SHA-256 of a text, in hexadecimal.
pub(super) fn hash(text: &str, characters: usize) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(characters)
        .map(hex)
        .collect()
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0')
}

/// The folder of the tickets.
#[derive(Clone, Debug)]
pub(super) struct Tickets {
    folder: PathBuf,
}

impl Tickets {
    /// Returns the tickets of this user.
    pub(super) fn open() -> Outcome<Self> {
        Ok(Self::new(&state_folder()?))
    }

    fn new(state: &Path) -> Self {
        Self { folder: state.join("tickets") }
    }

    /// Makes a ticket that waits for a person. Returns its name.
    ///
    /// # Errors
    ///
    /// Too many wait already, or the disk failed. Nothing was sent.
    pub(super) fn issue(&self, ticket: &Ticket, now: UnixMillis) -> Outcome<String> {
        let failed = |error: io::Error| self.failed(&error);
        create_private(&self.folder).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // The folder may be an old one.
            fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        if self.tidy(now).map_err(failed)? >= MAX_WAITING {
            return Err(Failure::usage(format!(
                "{MAX_WAITING} tickets wait for a person already; nothing was sent"
            )));
        }
        let name = ticket.name();
        let text = Json::object([("bound", ticket.bound()), ("result", Json::Null)]).to_string();
        if text.len() as u64 > MAX_BYTES {
            return Err(Failure::usage("the request is too large; nothing was sent"));
        }
        self.write(&name, WAITING, &text)?;
        Ok(name)
    }

    /// Returns a ticket and its state.
    ///
    /// # Errors
    ///
    /// No ticket has this name, or it was changed.
    pub(super) fn get(&self, name: &str) -> Outcome<(Ticket, State)> {
        if name.len() != NAME || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        // In the order of the states: one that moves on meanwhile is found further on.
        for state in [WAITING, CONFIRMED, DECLINED, USED] {
            let text = match self.read(name, state) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(self.failed(&error)),
            };
            let json = Json::parse(&text).ok();
            let ticket = json.as_ref().and_then(|json| Ticket::read(json.get("bound")?));
            let (Some(json), Some(ticket)) = (json, ticket) else { return Err(changed()) };
            if ticket.name() != name {
                return Err(changed());
            }
            let state = match state {
                WAITING => State::Waiting,
                CONFIRMED => State::Confirmed,
                DECLINED => State::Declined,
                _ => State::Used(json.get("result").filter(|it| **it != Json::Null).cloned()),
            };
            return Ok((ticket, state));
        }
        Err(unknown())
    }

    /// Returns the name of the ticket that was made for a request, if there is one.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub(super) fn of_request(&self, request: &str) -> Outcome<Option<String>> {
        match self.read(request, REQUEST) {
            Ok(name) => Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Writes down the name of the ticket of a request, once.
    ///
    /// # Errors
    ///
    /// Another ticket was made for it meanwhile, or the disk failed. Nothing was sent.
    pub(super) fn link_request(&self, request: &str, name: &str) -> Outcome {
        let draft = self.folder.join(format!(".{request}.{}", std::process::id()));
        // Linked as a whole, and not over another one.
        let linked = private_file(&draft, name.as_bytes())
            .and_then(|()| fs::hard_link(&draft, self.path(request, REQUEST)));
        let _ = fs::remove_file(&draft);
        match linked {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(
                "another server was given this request_id at the same time; nothing was sent",
            )),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Returns a ticket that can be confirmed now.
    ///
    /// # Errors
    ///
    /// No ticket has this name, it was confirmed or declined before, or it has expired.
    pub(super) fn waiting(&self, name: &str, now: UnixMillis) -> Outcome<Ticket> {
        let (ticket, state) = self.get(name)?;
        if state != State::Waiting {
            return Err(over());
        }
        ticket.check_time(now, Duration::ZERO)?;
        Ok(ticket)
    }

    /// Confirms a ticket: a person typed its line, or the ceilings of the server allow it.
    ///
    /// # Errors
    ///
    /// It does not wait any more, or has expired.
    pub(super) fn confirm(&self, name: &str, now: UnixMillis) -> Outcome {
        self.waiting(name, now)?;
        self.step(name, WAITING, CONFIRMED)
    }

    /// Ends a ticket: a person typed something else.
    ///
    /// # Errors
    ///
    /// It does not wait any more.
    pub(super) fn decline(&self, name: &str) -> Outcome {
        self.get(name)?;
        self.step(name, WAITING, DECLINED)
    }

    /// Takes a confirmed ticket, to carry it out. Only one caller ever gets it.
    ///
    /// # Errors
    ///
    /// It is not confirmed, was taken before, or has expired.
    pub(super) fn take(&self, name: &str, now: UnixMillis) -> Outcome {
        let (ticket, state) = self.get(name)?;
        if state != State::Confirmed {
            return Err(over());
        }
        ticket.check_time(now, GRACE)?;
        self.step(name, CONFIRMED, USED)
    }

    /// Writes down the result of a ticket that was taken.
    ///
    /// # Errors
    ///
    /// The disk failed: the result is not known to the next caller.
    pub(super) fn conclude(&self, name: &str, result: Json) -> Outcome {
        let (ticket, _) = self.get(name)?;
        let text = Json::object([("bound", ticket.bound()), ("result", result)]).to_string();
        self.write(name, USED, &text)
    }

    fn path(&self, name: &str, state: &str) -> PathBuf {
        self.folder.join(format!("{name}.{state}"))
    }

    fn read(&self, name: &str, state: &str) -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(self.path(name, state))?.take(4 * MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes a file as a whole, or not at all.
    fn write(&self, name: &str, state: &str, text: &str) -> Outcome {
        let draft = self.folder.join(format!(".{name}.{}", std::process::id()));
        private_file(&draft, text.as_bytes())
            .and_then(|()| fs::rename(&draft, self.path(name, state)))
            .map_err(|error| {
                let _ = fs::remove_file(&draft);
                self.failed(&error)
            })
    }

    fn step(&self, name: &str, from: &str, to: &str) -> Outcome {
        match fs::rename(self.path(name, from), self.path(name, to)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(over()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Removes what is old, and returns the number of tickets that wait.
    fn tidy(&self, now: UnixMillis) -> io::Result<usize> {
        let mut waiting = 0;
        for row in fs::read_dir(&self.folder)? {
            let path = row?.path();
            // A file that another process moved meanwhile.
            let Ok(modified) = fs::metadata(&path).and_then(|file| file.modified()) else {
                continue;
            };
            let age = now.to_system_time().and_then(|now| now.duration_since(modified).ok());
            let age = age.unwrap_or_default();
            if age > KEPT {
                let _ = fs::remove_file(&path);
            } else if age <= LIFETIME && path.extension().is_some_and(|end| end == WAITING) {
                waiting += 1;
            }
        }
        Ok(waiting)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::local(format!("the tickets in {}: {error}", self.folder.display()))
    }
}

fn unknown() -> Failure {
    Failure::usage("there is no such ticket, or it is long over; nothing was sent")
}

fn over() -> Failure {
    Failure::usage("the ticket was used before; nothing was sent")
}

fn changed() -> Failure {
    Failure::usage("the ticket was changed after it was made; nothing was sent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    fn folder(name: &str) -> (TestFolder, Tickets) {
        let folder = TestFolder::new(&format!("tickets-{name}"));
        let tickets = Tickets::new(folder.path());
        (folder, tickets)
    }

    /// The time of the files that the tests write, which age by the clock of the machine.
    fn now() -> UnixMillis {
        use kalshi_sdk::auth::{Clock as _, SystemClock};

        SystemClock.now()
    }

    fn after(seconds: u64) -> UnixMillis {
        now().saturating_add(Duration::from_secs(seconds))
    }

    fn ticket(nonce: &str) -> Ticket {
        Ticket {
            tool: "place_order".to_owned(),
            environment: "demo".to_owned(),
            account: "a".to_owned(),
            expires_at: now().saturating_add(LIFETIME),
            nonce: nonce.to_owned(),
            arguments: Json::object([("count", Json::text("2"))]),
            request: Json::object([("count", Json::text("2.00"))]),
            worst_cost: Some("0.03".parse().unwrap()),
            line: Line::Terms("2".parse().unwrap(), "0.01".parse().unwrap()),
            preview: "a\nb".to_owned(),
        }
    }

    #[test]
    fn a_ticket_is_confirmed_and_used_once() {
        let (folder, tickets) = folder("once");
        let ticket = ticket("1");
        let name = tickets.issue(&ticket, now()).unwrap();
        assert_eq!(tickets.get(&name).unwrap(), (ticket.clone(), State::Waiting));
        assert!(tickets.take(&name, now()).is_err(), "it is not confirmed");
        assert_eq!(tickets.waiting(&name, now()).unwrap(), ticket);
        tickets.confirm(&name, now()).unwrap();
        assert!(tickets.confirm(&name, now()).is_err(), "a second time");
        assert!(tickets.decline(&name).is_err());
        // Another server.
        let others = Tickets::new(folder.path());
        tickets.take(&name, now()).unwrap();
        let failure = others.take(&name, now()).unwrap_err();
        assert!(failure.message.contains("used before"), "{failure}");
        assert_eq!(others.get(&name).unwrap().1, State::Used(None));
        let result = Json::object([("ok", Json::Bool(true))]);
        tickets.conclude(&name, result.clone()).unwrap();
        assert_eq!(others.get(&name).unwrap().1, State::Used(Some(result)));
        assert!(others.take(&name, now()).is_err() && others.confirm(&name, now()).is_err());
    }

    #[test]
    fn a_request_has_one_ticket() {
        let (folder, tickets) = folder("request");
        let name = tickets.issue(&ticket("1"), now()).unwrap();
        let request = hash("request", NAME);
        assert_eq!(tickets.of_request(&request).unwrap(), None);
        tickets.link_request(&request, &name).unwrap();
        let others = Tickets::new(folder.path());
        let failure = others.link_request(&request, "another").unwrap_err();
        assert!(failure.message.contains("at the same time"), "{failure}");
        assert_eq!(others.of_request(&request).unwrap(), Some(name));
        assert_eq!(fs::read_dir(&tickets.folder).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_declined_ticket_stays_declined() {
        let (_folder, tickets) = folder("declined");
        let name = tickets.issue(&ticket("1"), now()).unwrap();
        tickets.decline(&name).unwrap();
        assert_eq!(tickets.get(&name).unwrap().1, State::Declined);
        assert!(tickets.confirm(&name, now()).is_err() && tickets.take(&name, now()).is_err());
    }

    #[test]
    fn a_ticket_expires() {
        let (_folder, tickets) = folder("expires");
        let name = tickets.issue(&ticket("1"), now()).unwrap();
        let early = now().saturating_sub(Duration::from_secs(30));
        for at in [after(61), early] {
            let failure = tickets.confirm(&name, at).unwrap_err();
            assert!(failure.message.contains("expired"), "{failure}");
        }
        tickets.confirm(&name, now()).unwrap();
        let failure = tickets.take(&name, after(121)).unwrap_err();
        assert!(failure.message.contains("expired"), "{failure}");
        tickets.take(&name, after(100)).unwrap();
    }

    #[test]
    fn what_is_changed_in_a_ticket_makes_it_another() {
        let (_folder, tickets) = folder("changed");
        let name = tickets.issue(&ticket("1"), now()).unwrap();
        let path = tickets.path(&name, WAITING);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("\"2.00\"}", "\"200.00\"}"),
            ("demo", "production"),
            ("place_order", "amend_order"),
            ("\"count\":\"2\"", "\"count\":\"3\""),
            ("\"0.0100\"", "\"0.9900\""),
            ("\"0.0300\"", "null"),
            ("a\\nb", "c"),
            ("\"account\":\"a\"", "\"account\":\"b\""),
            ("\"nonce\":\"1\"", "\"nonce\":\"2\""),
            ("\"bound\"", "\"other\""),
            ("{", "["),
        ] {
            let forged = text.replacen(from, to, 1);
            assert_ne!(forged, text, "{from}");
            fs::write(&path, forged).unwrap();
            for failure in
                [tickets.get(&name).unwrap_err(), tickets.confirm(&name, now()).unwrap_err()]
            {
                assert!(failure.message.contains("changed"), "{from}: {failure}");
            }
        }
        fs::write(&path, &text).unwrap();
        tickets.confirm(&name, now()).unwrap();
    }

    #[test]
    fn a_name_that_is_none_is_no_path() {
        let (_folder, tickets) = folder("names");
        tickets.issue(&ticket("1"), now()).unwrap();
        for name in ["", "../../etc/passwd", "0123456789abcdef01234567", &"0".repeat(300), "é"] {
            let failure = tickets.get(name).unwrap_err();
            assert!(failure.message.contains("no such ticket"), "{failure}");
            assert!(name.is_empty() || !failure.message.contains(name));
        }
    }

    #[test]
    fn the_same_request_has_another_ticket_each_time_and_the_same_ticket_one_client_id() {
        let (one, two) = (ticket("1"), ticket("2"));
        assert_ne!(one.name(), two.name());
        assert_ne!(one.client_id(), two.client_id());
        assert_eq!(one.client_id(), one.clone().client_id());
        assert!(one.client_id().starts_with("cli-") && one.client_id().len() <= 64);
        assert_eq!(one.name().len(), NAME);
        // The value of an independent program: printf 'a' | sha256sum
        assert_eq!(hash("a", 16), "ca978112ca1bbdca");
    }

    #[test]
    fn tickets_are_few_and_private_and_old_ones_go() {
        let (_folder, tickets) = folder("few");
        for number in 0..MAX_WAITING {
            tickets.issue(&ticket(&number.to_string()), now()).unwrap();
        }
        let failure = tickets.issue(&ticket("x"), now()).unwrap_err();
        assert!(failure.message.contains("wait for a person"), "{failure}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&tickets.folder), 0o700);
            for row in fs::read_dir(&tickets.folder).unwrap() {
                assert_eq!(mode(&row.unwrap().path()), 0o600);
            }
        }
        // They make room when they have expired, and are removed a day later.
        assert_eq!(tickets.tidy(after(61)).unwrap(), 0);
        assert_eq!(fs::read_dir(&tickets.folder).unwrap().count(), MAX_WAITING);
        assert_eq!(tickets.tidy(after(25 * 60 * 60)).unwrap(), 0);
        assert_eq!(fs::read_dir(&tickets.folder).unwrap().count(), 0);
    }

    #[test]
    fn a_line_of_terms_is_typed_in_any_way_and_a_text_as_it_is() {
        let terms = ticket("1").line;
        assert_eq!(terms.text(), "2 @ 0.01");
        assert!(terms.is("2 @ 0.01") && terms.is("2.00@0.0100"));
        assert!(!terms.is("2 @ 0.02") && !terms.is("yes") && !terms.is(""));
        let text = Line::Text("cancel all".to_owned());
        assert!(text.is("cancel all\n") && !text.is("cancel") && !text.is(""));
    }
}
