//! `kalshi tui` at a terminal: keys are typed, and what they did is read off the screen and off the
//! exchange.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kalshi_sdk::OperationId;
use kalshi_sim::{FaultKind, Lag};

use crate::{own_exchange::OwnExchange, support::terminal};

const COLUMNS: usize = 100;
const ROWS: usize = 36;

/// The cells of a terminal, as far as the program uses its commands: moves, texts, and clearing.
struct Screen {
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    /// Bytes whose command or character is not complete yet.
    rest: Vec<u8>,
}

impl Screen {
    fn new() -> Self {
        Self { cells: vec![vec![' '; COLUMNS]; ROWS], at: (0, 0), rest: Vec::new() }
    }

    fn text(&self) -> String {
        let lines = self.cells.iter().map(|line| line.iter().collect::<String>());
        lines.map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let valid = match std::str::from_utf8(&rest) {
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to(),
        };
        let text: Vec<char> = std::str::from_utf8(&rest[..valid]).unwrap().chars().collect();
        let mut used = 0;
        while let Some(first) = text.get(used) {
            let mut taken = 1;
            match first {
                '\u{1b}' => match self.command(&text[used + 1..]) {
                    Some(length) => taken += length,
                    None => break,
                },
                '\r' => self.at.1 = 0,
                '\n' => self.at.0 += 1,
                c if !c.is_control() => {
                    if let Some(cell) =
                        self.cells.get_mut(self.at.0).and_then(|line| line.get_mut(self.at.1))
                    {
                        *cell = *c;
                    }
                    self.at.1 += 1;
                }
                _ => {}
            }
            used += taken;
        }
        self.rest = text[used..].iter().collect::<String>().into_bytes();
        self.rest.extend_from_slice(&rest[valid..]);
    }

    /// Obeys a command, and returns its length; `None` if its end is not there yet.
    fn command(&mut self, text: &[char]) -> Option<usize> {
        if *text.first()? != '[' {
            return Some(1);
        }
        let end = text.iter().skip(1).position(char::is_ascii_alphabetic)? + 1;
        let arguments: String = text[1..end].iter().collect();
        let number = |index: usize| {
            arguments.split(';').nth(index).and_then(|n| n.parse::<usize>().ok()).unwrap_or(1)
        };
        match text[end] {
            'H' => self.at = (number(0) - 1, number(1) - 1),
            'J' => self.cells = vec![vec![' '; COLUMNS]; ROWS],
            _ => {}
        }
        Some(end + 1)
    }
}

/// The program at a terminal.
struct Shown {
    child: Child,
    main: File,
    screen: Screen,
}

impl Shown {
    fn open(desk: &OwnExchange, arguments: &str) -> Self {
        let (main, terminal) = terminal("");
        let size = ["cols", &COLUMNS.to_string(), "rows", &ROWS.to_string()];
        let sized = Command::new("stty").args(size).stdin(terminal.try_clone().unwrap()).status();
        assert!(sized.unwrap().success());
        let mut command = desk.command();
        command.env("TERM", "xterm-256color").args(arguments.split_whitespace());
        let child = command
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, main, screen: Screen::new() }
    }

    fn keys(&mut self, keys: &str) {
        self.main.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until the screen is as expected. It is drawn each second at least.
    #[track_caller]
    fn until(&mut self, is_expected: impl Fn(&str) -> bool) -> String {
        let mut bytes = [0; 8_192];
        loop {
            let text = self.screen.text();
            if is_expected(&text) {
                return text;
            }
            // The other end is closed: an error.
            let read = self.main.read(&mut bytes).unwrap_or(0);
            assert!(read > 0, "the program ended:\n{text}");
            self.screen.take(&bytes[..read]);
        }
    }

    #[track_caller]
    fn until_has(&mut self, part: &str) -> String {
        self.until(|text| text.contains(part))
    }

    /// Quits, and returns the exit code.
    fn quit(mut self) -> Option<i32> {
        self.keys("q");
        // What it prints has to go somewhere.
        let mut main = self.main.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 8_192];
            while main.read(&mut bytes).is_ok_and(|read| read > 0) {}
        });
        let code = self.child.wait().unwrap().code();
        reader.join().unwrap();
        code
    }

    /// Opens an order, and returns the screen with its preview.
    fn preview(&mut self) -> String {
        self.keys("b");
        self.until_has("shows what it would be");
        self.keys("\r");
        // A part of a frame may be read: the prompt is drawn last.
        self.until(|text| {
            text.contains("at most") && (text.contains("sends it") || text.contains("and enter: "))
        })
    }
}

#[test]
fn without_trade_no_key_writes() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    assert_eq!(desk.run(&format!("order buy {ticker} yes 2 @ 0.01")).code, 0);
    let writes = desk.writes().len();
    let mut shown = Shown::open(&desk, &format!("tui {ticker}"));
    shown.until(|text| text.contains("● live") && text.contains("2/2"));
    for key in ["b", "\r", "y", "s", "\r", "y", "B", "\r", "y", "S", "\r", "y", "x", "\u{1b}[B"] {
        shown.keys(key);
    }
    shown.keys("Xcancel all\r");
    // The key after them has been taken in, so they have been as well.
    shown.keys("?");
    shown.until_has("only looks");
    shown.keys(" ");
    assert_eq!(shown.quit(), Some(0));
    assert_eq!(desk.writes().len(), writes);
    let refused = desk.run(&format!("tui {ticker} --trade --dry-run"));
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn an_order_of_the_ladder_is_shown_confirmed_and_placed_once() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let mut shown = Shown::open(&desk, &format!("tui {ticker} --trade --count 2"));
    shown.until(|text| text.contains("● live") && text.contains("no resting orders"));
    let text = shown.preview();
    for part in ["buy YES at", "position", "best prices", "mock money", "sends it"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(desk.writes(), [""; 0], "a preview sends nothing");
    // A key that is held down.
    shown.keys(&"y".repeat(40));
    shown.until_has("2/2");
    assert_eq!(desk.writes(), ["create_order_v2"]);
    shown.keys("x");
    shown.until_has("no resting orders");
    assert_eq!(desk.writes(), ["create_order_v2", "cancel_order_v2"]);

    // More than the ceiling.
    assert_eq!(shown.quit(), Some(0));
    let mut shown = Shown::open(&desk, &format!("tui {ticker} --trade --count 2 --max-cost 0.01"));
    shown.until(|text| text.contains("● live") && text.contains("no resting orders"));
    shown.keys("b");
    shown.until_has("shows what it would be");
    shown.keys("\r");
    shown.until_has("--max-cost");
    shown.keys("\r");
    assert_eq!(shown.quit(), Some(0));
    assert_eq!(desk.writes().len(), 2);

    // As where money is real: the count and the price are typed.
    let mut shown = Shown::open(&desk, &format!("tui {ticker} --trade --count 2 --ask"));
    shown.until(|text| text.contains("● live") && text.contains("no resting orders"));
    let text = shown.preview();
    let line = text.split("type ").nth(1).and_then(|rest| rest.split(" and enter").next()).unwrap();
    shown.keys("y\r");
    shown.keys(line);
    shown.until_has(&format!("and enter: {line}"));
    assert_eq!(desk.writes().len(), 2, "not without Enter");
    shown.keys("\r\r\r\r");
    shown.until_has("2/2");
    assert_eq!(desk.writes().len(), 3);
    shown.keys("X");
    shown.until_has("Cancel all");
    shown.keys("\r");
    shown.keys("cancel all\r");
    shown.until_has("no resting orders");
    assert_eq!(desk.writes()[3..], ["cancel_all_orders"]);
    assert_eq!(shown.quit(), Some(0));
    assert_eq!(desk.placed().len(), 2);
    assert_eq!(desk.journals(), 0);
}

#[test]
fn an_order_whose_answer_is_lost_is_unknown_until_it_is_settled() {
    let desk = OwnExchange::new();
    let ticker = desk.market().ticker;
    let arguments = format!("tui {ticker} --trade --count 2");
    let mut shown = Shown::open(&desk, &arguments);
    shown.until(|text| text.contains("● live") && text.contains("no resting orders"));
    desk.fault(OperationId::CreateOrderV2, FaultKind::ResetAfter, Some(1));
    // Neither a list nor a stream shows it for a while.
    let late = Duration::from_secs(600);
    desk.exchange.set_lag(Lag::none().with_reads(late).with_streams(late));
    shown.preview();
    shown.keys("y");
    shown.until_has("UNKNOWN");
    shown.keys("b");
    shown.until_has("in its stead");
    shown.keys("\r");
    assert_eq!(shown.quit(), Some(6), "its outcome is not known");
    assert_eq!((desk.writes().len(), desk.journals()), (1, 1));

    // The next one goes on with it.
    desk.exchange.set_lag(Lag::none());
    let mut shown = Shown::open(&desk, &arguments);
    shown.until(|text| text.contains("● live") && text.contains("2/2"));
    shown.until(|text| !text.contains("UNKNOWN"));
    assert_eq!(shown.quit(), Some(0));
    assert_eq!((desk.writes().len(), desk.placed().len(), desk.journals()), (1, 1, 0));
}
