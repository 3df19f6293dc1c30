//! The ceilings of a server that sends without a person, and the file that counts what was sent.
//!
//! An order counts from before it is sent: one that was refused or canceled counts all the same.
//! The file is shared by all servers of one key, and written before anything is sent.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use kalshi_sdk::{Dollars, UnixMillis};

use crate::{
    failure::{Failure, Outcome},
    json::Json,
    order::create_private,
};

/// The time over which costs are added up.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The time over which orders are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The milliseconds of a file of the ledger.
const MILLIS_PER_FILE: i64 = 24 * 60 * 60 * 1_000;

/// The most bytes of a file: more than the most orders of a day take.
const MAX_BYTES: u64 = 32 << 20;

/// The most orders a minute that can be allowed.
pub(super) const MAX_PER_MINUTE: i64 = 60;

/// Limits what a server may send without a person.
#[derive(Clone, Debug)]
pub(super) struct Ceilings {
    /// The most that one order may cost, fees included.
    pub(super) order_cost: Dollars,
    /// The most that the orders of 24 hours may cost together.
    pub(super) day_cost: Dollars,
    /// The most orders and changes of orders in 60 seconds.
    pub(super) orders_per_minute: u32,
    /// The markets, by their tickers.
    pub(super) markets: BTreeSet<String>,
}

/// An order that was about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    at: UnixMillis,
    cost: Dollars,
}

impl Ceilings {
    /// Returns the ceilings in words, for the person who starts the server.
    pub(super) fn in_words(&self) -> String {
        let markets: Vec<&str> = self.markets.iter().map(String::as_str).collect();
        format!(
            "at most {} an order, {} in 24 hours, {} orders a minute, in {}",
            self.order_cost,
            self.day_cost,
            self.orders_per_minute,
            markets.join(", ")
        )
    }

    /// Refuses a market that is not listed, and a write that is about no market.
    pub(super) fn check_market(&self, market: Option<&str>) -> Outcome {
        match market {
            Some(market) if self.markets.contains(market) => Ok(()),
            Some(market) => Err(Failure::usage(format!(
                "{market} is not among the markets of --markets; nothing was sent"
            ))),
            None => Err(Failure::usage(
                "without a ticker this concerns markets beyond --markets; nothing was sent",
            )
            .with_next("call it with the ticker of a market that is allowed")),
        }
    }

    /// Refuses an order that costs too much, alone or together with those before it, or that comes
    /// too soon.
    fn check(&self, sent: &[Sent], cost: Dollars, now: UnixMillis) -> Outcome {
        if cost > self.order_cost {
            return Err(Failure::usage(format!(
                "the order can cost {cost}, more than the {} of --max-order-cost; nothing was sent",
                self.order_cost
            )));
        }
        // Those of a clock that was ahead count as well.
        let since = |span| sent.iter().filter(move |sent| sent.at > now.saturating_sub(span));
        let beyond = || Failure::usage("the sum of the costs is out of range; nothing was sent");
        let before = since(DAY)
            .try_fold(Dollars::ZERO, |sum, sent| (sum + sent.cost).get())
            .map_err(|_| beyond())?;
        if (before + cost).get().map_err(|_| beyond())? > self.day_cost {
            return Err(Failure::usage(format!(
                "the orders of 24 hours can cost {before}, and this one {cost}: together more than \
                 the {} of --max-day-cost; nothing was sent",
                self.day_cost
            )));
        }
        let count = since(MINUTE).count();
        if usize::try_from(self.orders_per_minute).is_ok_and(|most| count >= most) {
            return Err(Failure::usage(format!(
                "{count} orders were sent in the last minute, and --max-orders-per-minute is {}; \
                 nothing was sent",
                self.orders_per_minute
            ))
            .with_next("wait a minute, and call it again with the same request_id"));
        }
        Ok(())
    }
}

impl Sent {
    fn to_line(self) -> String {
        let line = Json::object([
            ("at", Json::number(self.at.as_millis())),
            ("cost", Json::text(self.cost.to_string())),
        ]);
        format!("{line}\n")
    }

    fn read(line: &str) -> Option<Self> {
        let line = Json::parse(line).ok()?;
        let Json::Number(at) = line.get("at")? else { return None };
        let cost: Dollars = line.get("cost")?.as_str()?.parse().ok()?;
        let sent = Self { at: UnixMillis::from_millis(at.parse().ok()?), cost };
        (!cost.is_negative()).then_some(sent)
    }
}

/// The count of what was sent with one key: a file for each day.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    account: String,
}

impl Ledger {
    /// Returns the ledger of an account, in the state folder.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub(super) fn open(state: &Path, account: String) -> Outcome<Self> {
        let ledger = Self { folder: state.join("unattended"), account };
        create_private(&ledger.folder).map_err(|error| ledger.failed(&error))?;
        Ok(ledger)
    }

    /// Counts an order that is about to be sent, if the ceilings allow it.
    ///
    /// # Errors
    ///
    /// They do not, or the file cannot be read or written: nothing may be sent.
    pub(super) fn reserve(&self, ceilings: &Ceilings, cost: Dollars, now: UnixMillis) -> Outcome {
        // Until the end of this function no other server counts.
        let lock = self.append(&self.folder.join(format!("{}.lock", self.account)))?;
        lock.lock().map_err(|error| self.failed(&error))?;
        let day = now.as_millis().div_euclid(MILLIS_PER_FILE);
        let mut sent = Vec::new();
        // The day after as well: the clock may have been ahead.
        for day in [day.saturating_sub(1), day, day.saturating_add(1)] {
            self.read(&self.path(day), &mut sent)?;
        }
        ceilings.check(&sent, cost, now)?;
        let path = self.path(day);
        let is_new = !path.exists();
        let line = Sent { at: now, cost }.to_line();
        let mut file = self.append(&path)?;
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|error| self.failed(&error))?;
        if is_new {
            // Those of longer ago count no more. One that stays does no harm.
            let _ = fs::remove_file(self.path(day.saturating_sub(2)));
        }
        Ok(())
    }

    fn path(&self, day: i64) -> PathBuf {
        self.folder.join(format!("{}-{day}.ndjson", self.account))
    }

    fn append(&self, path: &Path) -> Outcome<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map_err(|error| self.failed(&error))
    }

    fn read(&self, path: &Path, sent: &mut Vec<Sent>) -> Outcome {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed(&error)),
        };
        let mut text = String::new();
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
        read.map_err(|error| self.failed(&error))?;
        // A line that was cut may have been an order: what is not known is not allowed.
        let is_whole = text.len() as u64 <= MAX_BYTES && (text.is_empty() || text.ends_with('\n'));
        let lines: Option<Vec<Sent>> = text.lines().map(Sent::read).collect();
        let Some(lines) = lines.filter(|_| is_whole) else {
            return Err(Failure::local(format!(
                "{} is damaged, so that the orders before are not known; nothing was sent",
                path.display()
            ))
            .with_next("a person looks at the file, and removes it"));
        };
        sent.extend(lines);
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::local(format!(
            "the count of orders in {}: {error}; nothing was sent",
            self.folder.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn ceilings() -> Ceilings {
        Ceilings {
            order_cost: dollars("5.00"),
            day_cost: dollars("12.00"),
            orders_per_minute: 3,
            markets: BTreeSet::from(["A".to_owned(), "B".to_owned()]),
        }
    }

    fn at(seconds: i64) -> UnixMillis {
        // An hour before midnight.
        UnixMillis::from_millis((20_000 * 86_400 - 3_600 + seconds) * 1_000)
    }

    /// Counts an order; the reason if it is refused.
    fn reserve(ledger: &Ledger, cost: &str, seconds: i64) -> Result<(), String> {
        let result = ledger.reserve(&ceilings(), dollars(cost), at(seconds));
        result.map_err(|failure| failure.message)
    }

    #[test]
    fn an_order_is_refused_that_costs_more_than_one_may() {
        let folder = TestFolder::new("ceilings-order");
        let ledger = Ledger::open(folder.path(), "a".to_owned()).unwrap();
        let refused = reserve(&ledger, "5.000001", 0).unwrap_err();
        assert!(refused.contains("--max-order-cost"), "{refused}");
        reserve(&ledger, "5.00", 0).unwrap();
    }

    #[test]
    fn the_costs_of_24_hours_are_added_up_across_midnight_and_servers() {
        let folder = TestFolder::new("ceilings-day");
        let ledger = || Ledger::open(folder.path(), "a".to_owned()).unwrap();
        reserve(&ledger(), "5.00", 0).unwrap();
        reserve(&ledger(), "5.00", 7_200).unwrap();
        let refused = reserve(&ledger(), "2.01", 86_399).unwrap_err();
        assert!(refused.contains("10.00") && refused.contains("--max-day-cost"), "{refused}");
        // What was refused does not count.
        reserve(&ledger(), "2.00", 86_399).unwrap();
        assert!(reserve(&ledger(), "0.01", 86_399).is_err());
        // The first one is a day old.
        reserve(&ledger(), "5.00", 86_400).unwrap();
        // Another key.
        let other = Ledger::open(folder.path(), "b".to_owned()).unwrap();
        reserve(&other, "5.00", 86_400).unwrap();
        assert!(reserve(&ledger(), "0.01", 86_400).is_err());
        // A clock that was set back frees nothing.
        assert!(reserve(&ledger(), "5.00", 0).is_err());
    }

    #[test]
    fn orders_of_a_minute_are_counted_whatever_they_cost() {
        let folder = TestFolder::new("ceilings-minute");
        let ledger = Ledger::open(folder.path(), "a".to_owned()).unwrap();
        for seconds in [0, 1, 59] {
            reserve(&ledger, "0.00", seconds).unwrap();
        }
        let refused = reserve(&ledger, "0.00", 59).unwrap_err();
        assert!(refused.contains("--max-orders-per-minute"), "{refused}");
        reserve(&ledger, "0.00", 60).unwrap();
        assert!(reserve(&ledger, "0.00", 60).is_err());
    }

    #[test]
    fn a_damaged_count_allows_nothing() {
        let folder = TestFolder::new("ceilings-damaged");
        let ledger = Ledger::open(folder.path(), "a".to_owned()).unwrap();
        reserve(&ledger, "1.00", 0).unwrap();
        let path = ledger.path(at(0).as_millis().div_euclid(MILLIS_PER_FILE));
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text.trim_end().to_owned(),
            text[..text.len() / 2].to_owned(),
            format!("{text}\n"),
            text.replace("1.0000", "-9.0000"),
            text.replace("at", "of"),
            "null\n".to_owned(),
        ] {
            assert_ne!(damaged, text);
            fs::write(&path, &damaged).unwrap();
            let refused = reserve(&ledger, "1.00", 1).unwrap_err();
            assert!(refused.contains("damaged"), "{damaged}: {refused}");
        }
        fs::write(&path, &text).unwrap();
        reserve(&ledger, "1.00", 1).unwrap();
    }

    #[test]
    fn files_of_the_days_before_are_removed_and_all_are_private() {
        let folder = TestFolder::new("ceilings-files");
        let ledger = Ledger::open(folder.path(), "a".to_owned()).unwrap();
        for day in 0..5 {
            reserve(&ledger, "1.00", day * 86_400).unwrap();
        }
        let rows = fs::read_dir(&ledger.folder).unwrap().map(|row| row.unwrap().path());
        let (files, locks): (Vec<_>, Vec<_>) =
            rows.partition(|path| path.extension().is_some_and(|end| end == "ndjson"));
        assert_eq!((files.len(), locks.len()), (2, 1));
        #[cfg(unix)]
        for path in files.iter().chain(&locks) {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn only_listed_markets_are_allowed() {
        let ceilings = ceilings();
        assert!(ceilings.check_market(Some("A")).is_ok());
        for market in [Some("a"), Some("A "), Some("AB"), Some(""), None] {
            assert!(ceilings.check_market(market).is_err(), "{market:?}");
        }
        assert_eq!(
            ceilings.in_words(),
            "at most 5.0000 an order, 12.0000 in 24 hours, 3 orders a minute, in A, B"
        );
    }
}
