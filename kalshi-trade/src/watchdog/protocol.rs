//! What a watchdog and the program that it watches say to each other: lines of text.
//!
//! | line | from | meaning |
//! |---|---|---|
//! | `hello TOKEN MILLISECONDS` | the program | watch me: I shall be silent for at most that long |
//! | `beat` | the program | I am alive |
//! | `bye` | the program | I have ended my orders myself: watch me no longer |
//! | `ok` | the watchdog | done |
//! | `refused` | the watchdog | not done, and the connection ends |
//!
//! A connection that ends without `bye` counts as a death. Pure: the clock is an argument.

use std::time::Duration;

use kalshi_types::UnixMillis;

/// The longest line, without its end. A program that sends more is not one that speaks this.
pub(super) const MAX_LINE: usize = 512;
/// The time within which a connection has to introduce itself.
pub(super) const INTRODUCTION: Duration = Duration::from_secs(5);
/// The silences that can be agreed on.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);
pub(super) const LONGEST: Duration = Duration::from_secs(600);

pub(super) const OK: &str = "ok";
pub(super) const REFUSED: &str = "refused";

/// The reason why orders are canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Death {
    /// The connection ended: the process was killed, crashed, or ended without saying so.
    Disconnected,
    /// Nothing was heard for the time that was agreed on: the program hangs, or waits for something.
    Silent,
    /// Something came that is not of the protocol.
    Garbled,
}

/// What to do after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Nothing,
    Reply(&'static str),
    /// The connection has ended in peace, after a reply if there is one.
    End(Option<&'static str>),
    /// The program is dead: cancel its orders.
    Trip(Death),
}

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    token: String,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New { until: UnixMillis },
    Armed { silence: Duration, until: UnixMillis },
    Over,
}

impl Watch {
    pub(super) fn new(token: String, now: UnixMillis) -> Self {
        Self { token, state: State::New { until: now.saturating_add(INTRODUCTION) } }
    }

    /// Returns the time at which [`tick`](Self::tick) is due.
    pub(super) fn deadline(&self) -> Option<UnixMillis> {
        match self.state {
            State::New { until } | State::Armed { until, .. } => Some(until),
            State::Over => None,
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        matches!(self.state, State::Armed { .. })
    }

    pub(super) fn line(&mut self, now: UnixMillis, line: &str) -> Output {
        match self.state {
            State::Over => Output::Nothing,
            State::New { .. } => match self.introduction(line) {
                Some(silence) => {
                    self.state = State::Armed { silence, until: now.saturating_add(silence) };
                    Output::Reply(OK)
                }
                None => self.end(Output::End(Some(REFUSED))),
            },
            State::Armed { silence, .. } => match line {
                "beat" => {
                    self.state = State::Armed { silence, until: now.saturating_add(silence) };
                    Output::Reply(OK)
                }
                "bye" => self.end(Output::End(Some(OK))),
                _ => self.end(Output::Trip(Death::Garbled)),
            },
        }
    }

    /// The connection has ended, or cannot be read.
    pub(super) fn closed(&mut self) -> Output {
        match self.state {
            State::Armed { .. } => self.end(Output::Trip(Death::Disconnected)),
            State::New { .. } => self.end(Output::End(None)),
            State::Over => Output::Nothing,
        }
    }

    /// More came than a line can be.
    pub(super) fn overlong(&mut self) -> Output {
        match self.state {
            State::Armed { .. } => self.end(Output::Trip(Death::Garbled)),
            State::New { .. } => self.end(Output::End(Some(REFUSED))),
            State::Over => Output::Nothing,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: UnixMillis) -> Output {
        match self.state {
            State::New { until } if now >= until => self.end(Output::End(Some(REFUSED))),
            State::Armed { until, .. } if now >= until => self.end(Output::Trip(Death::Silent)),
            _ => Output::Nothing,
        }
    }

    fn end(&mut self, output: Output) -> Output {
        self.state = State::Over;
        output
    }

    fn introduction(&self, line: &str) -> Option<Duration> {
        let mut words = line.split(' ');
        let (hello, token, millis) = (words.next()?, words.next()?, words.next()?);
        let is_known = same(token.as_bytes(), self.token.as_bytes());
        if hello != "hello" || words.next().is_some() || !is_known {
            return None;
        }
        let silence = Duration::from_millis(millis.parse().ok()?);
        (SHORTEST..=LONGEST).contains(&silence).then_some(silence)
    }
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    fn armed() -> Watch {
        let mut watch = Watch::new("secret".to_owned(), at(0));
        assert_eq!(watch.line(at(0), "hello secret 1000"), Output::Reply(OK));
        watch
    }

    #[test]
    fn who_does_not_introduce_itself_is_never_the_cause_of_a_cancellation() {
        for line in [
            "",
            "beat",
            "bye",
            "hello",
            "hello secret",
            "hello wrong 1000",
            "hello secret 1000 ",
            "hello secret 99",
            "hello secret 600001",
            "hello secret -1",
            "hello  secret 1000",
            "HELLO secret 1000",
            "hello secre 1000",
            "hello secret 99999999999999999999",
        ] {
            let mut watch = Watch::new("secret".to_owned(), at(0));
            assert_eq!(watch.line(at(0), line), Output::End(Some(REFUSED)), "{line:?}");
            assert_eq!(watch.line(at(0), "hello secret 1000"), Output::Nothing, "it is over");
            assert_eq!(watch.closed(), Output::Nothing);
        }
        let mut watch = Watch::new("secret".to_owned(), at(0));
        assert_eq!(watch.tick(at(4_999)), Output::Nothing);
        assert_eq!(watch.tick(at(5_000)), Output::End(Some(REFUSED)));
        assert_eq!(Watch::new("secret".to_owned(), at(0)).closed(), Output::End(None));
        assert_eq!(Watch::new("secret".to_owned(), at(0)).overlong(), Output::End(Some(REFUSED)));
    }

    #[test]
    fn each_way_to_die_is_told_apart() {
        assert_eq!(armed().closed(), Output::Trip(Death::Disconnected));
        assert_eq!(armed().overlong(), Output::Trip(Death::Garbled));
        assert_eq!(armed().line(at(1), "beat "), Output::Trip(Death::Garbled));
        let mut silent = armed();
        assert_eq!(silent.tick(at(999)), Output::Nothing);
        assert_eq!(silent.tick(at(1_000)), Output::Trip(Death::Silent));
        assert_eq!(silent.tick(at(2_000)), Output::Nothing, "once");
    }

    #[test]
    fn a_beat_begins_the_time_anew_and_a_farewell_ends_it() {
        let mut watch = armed();
        assert_eq!(watch.line(at(900), "beat"), Output::Reply(OK));
        assert_eq!(watch.deadline(), Some(at(1_900)));
        assert_eq!(watch.tick(at(1_000)), Output::Nothing);
        assert_eq!(watch.line(at(1_000), "bye"), Output::End(Some(OK)));
        assert_eq!((watch.deadline(), watch.is_armed()), (None, false));
        assert_eq!(watch.closed(), Output::Nothing);
    }

    proptest! {
        /// An armed connection ends with a farewell or with a death, whatever comes.
        #[test]
        fn what_is_armed_never_ends_unnoticed(lines in prop::collection::vec("(beat|bye|hello secret 1000|[ -~]{0,8})", 0..20)) {
            let mut watch = armed();
            let mut farewell = false;
            let mut deaths = 0;
            for (place, line) in lines.iter().enumerate() {
                let now = at(i64::try_from(place).unwrap());
                match watch.line(now, line) {
                    Output::End(_) => farewell = true,
                    Output::Trip(_) => deaths += 1,
                    Output::Reply(_) | Output::Nothing => {}
                }
            }
            if let Output::Trip(_) = watch.closed() {
                deaths += 1;
            }
            prop_assert_eq!(deaths, usize::from(!farewell));
        }
    }
}
