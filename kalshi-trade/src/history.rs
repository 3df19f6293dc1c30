//! Trades, fills, orders and markets as one list each: the live tier, and then the archive.
//!
//! The exchange moves old rows to an archive, and its live lists then end at a cutoff **without an
//! error**. What [`trades`], [`fills`], [`orders`] and [`markets`] return reads the live list first
//! and then the archive, so that a row which moves meanwhile is seen twice and not missed; the second
//! time it is left out. The cutoff is asked before and after the live list: a tier is left out only
//! if no row of the range can have been in it at any time between.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let exchange = kalshi_sim::Exchange::start().await?;
//! # let client = exchange.client(kalshi_sim::Role::Trader)?;
//! use kalshi_trade::history::{self, Range};
//!
//! let mut trades = history::trades(&client, &Range::all());
//! let mut count = 0;
//! while let Some(trade) = trades.next().await.transpose()? {
//!     assert!(trade.count_fp.is_positive());
//!     count += 1;
//! }
//! let live = client.get_trades().limit(1_000).all().await?.len();
//! assert!(count > live);
//! # Ok(())
//! # }
//! ```

use std::{collections::HashSet, fmt, future::Future, pin::Pin};

use futures_core::Stream;
use kalshi_sdk::{
    Client, Error, Rows,
    types::{Fill, GetHistoricalCutoffResponse, Market, Order, Trade},
};
use kalshi_types::UnixSeconds;

/// The rows of a page.
const PAGE: u32 = 1_000;

/// The range of a list: a market or all of them, a time or all of it, a subaccount or all of them.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::UnixSeconds;
/// use kalshi_trade::history::Range;
///
/// let range = Range::all()
///     .with_ticker("KXA-1")
///     .with_since(UnixSeconds::from_seconds(1_790_000_000));
/// assert_eq!(range.ticker.as_deref(), Some("KXA-1"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Range {
    /// The ticker of a market.
    pub ticker: Option<String>,
    /// The earliest time.
    pub since: Option<UnixSeconds>,
    /// The latest time.
    pub until: Option<UnixSeconds>,
    /// The subaccount, 0 to 63, of fills and orders. Trades have none: it is left out.
    pub subaccount: Option<u8>,
}

/// Markets of one event, one series, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarketRange {
    /// All markets: hundreds of thousands.
    #[default]
    All,
    /// Those of an event.
    Event(String),
    /// Those of a series.
    Series(String),
}

impl Range {
    /// Returns the range that leaves nothing out.
    pub fn all() -> Self {
        Self::default()
    }

    /// Keeps the rows of one market.
    pub fn with_ticker(mut self, ticker: impl Into<String>) -> Self {
        self.ticker = Some(ticker.into());
        self
    }

    /// Keeps the rows from a time on.
    pub fn with_since(mut self, since: UnixSeconds) -> Self {
        self.since = Some(since);
        self
    }

    /// Keeps the rows up to a time.
    pub fn with_until(mut self, until: UnixSeconds) -> Self {
        self.until = Some(until);
        self
    }

    /// Keeps the rows of one subaccount, 0 to 63.
    pub fn with_subaccount(mut self, subaccount: u8) -> Self {
        self.subaccount = Some(subaccount);
        self
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the rows come from: the exchange, or the script of a test.
trait Source<T, E>: Send {
    /// Returns the cutoff in unix seconds: rows before it are in the archive.
    fn cutoff(&self) -> Answer<'_, Result<i64, E>>;
    /// Begins the list of a tier from its start.
    fn open(&mut self, tier: Tier);
    /// Returns the next row of the list that was begun last.
    fn next(&mut self) -> Answer<'_, Option<Result<T, E>>>;
    /// Requests the page that failed again with the next call.
    fn resume(&mut self) -> bool;
    /// Reports whether an error is about one row only, after which others follow.
    fn is_row(error: &E) -> bool
    where
        Self: Sized;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Live,
    Archive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The cutoff is asked for the first time.
    Before,
    Reading(Tier),
    /// The live list has ended: the cutoff is asked again.
    Between,
    Done,
}

/// Ids in little memory: 16 bytes for each UUID, as most ids are, and no room for a hash.
///
/// All ids of the live tier are added before the first one of the archive is looked up. Each is
/// kept: no time says which of them may come again, since the exchange does not promise that a
/// cursor into the archive leaves out the rows that moved behind it.
#[derive(Debug, Default)]
struct Ids {
    /// Sorted once they are looked up.
    uuids: Vec<u128>,
    is_sorted: bool,
    /// Every other id as it is written.
    texts: HashSet<Box<str>>,
}

impl Ids {
    fn insert(&mut self, id: &str) {
        match uuid(id) {
            Some(number) => {
                self.uuids.push(number);
                self.is_sorted = false;
            }
            None => {
                self.texts.insert(id.into());
            }
        }
    }

    fn contains(&mut self, id: &str) -> bool {
        let Some(number) = uuid(id) else { return self.texts.contains(id) };
        if !self.is_sorted {
            self.uuids.sort_unstable();
            self.is_sorted = true;
        }
        self.uuids.binary_search(&number).is_ok()
    }

    fn len(&self) -> usize {
        self.uuids.len() + self.texts.len()
    }
}

/// Returns the number of a UUID. Only of the canonical form, so that different texts are never one
/// id.
fn uuid(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    text.bytes().enumerate().try_fold(0, |number: u128, (place, byte)| {
        let digit = match (place, byte) {
            (8 | 13 | 18 | 23, b'-') => return Some(number),
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => byte - b'0',
            (_, b'a'..=b'f') => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// The two tiers as one list, whatever they come from.
struct Merge<T, E, S> {
    source: S,
    phase: Phase,
    /// An error has ended the list, until it is resumed.
    has_failed: bool,
    since: Option<i64>,
    until: Option<i64>,
    id: fn(&T) -> &str,
    seen: Ids,
    error: std::marker::PhantomData<fn() -> E>,
}

impl<T, E, S: Source<T, E>> Merge<T, E, S> {
    /// `since` and `until` are those of the time that the cutoff is about; `None` for a list that is
    /// not cut by it.
    fn new(source: S, since: Option<i64>, until: Option<i64>, id: fn(&T) -> &str) -> Self {
        let (phase, seen) = (Phase::Before, Ids::default());
        let error = std::marker::PhantomData;
        Self { source, phase, has_failed: false, since, until, id, seen, error }
    }

    async fn next(&mut self) -> Option<Result<T, E>> {
        if self.has_failed {
            return None;
        }
        loop {
            match self.phase {
                Phase::Before => {
                    let cutoff = match self.source.cutoff().await {
                        Ok(cutoff) => cutoff,
                        Err(error) => return Some(self.fail(error)),
                    };
                    // The cutoff only moves forward: what is before it stays archived.
                    let is_archived = self.until.is_some_and(|until| until < cutoff);
                    self.open(if is_archived { Tier::Archive } else { Tier::Live });
                }
                Phase::Between => {
                    let cutoff = match self.source.cutoff().await {
                        Ok(cutoff) => cutoff,
                        Err(error) => return Some(self.fail(error)),
                    };
                    if self.since.is_some_and(|since| since >= cutoff) {
                        self.phase = Phase::Done;
                    } else {
                        self.open(Tier::Archive);
                    }
                }
                Phase::Reading(tier) => match (tier, self.source.next().await) {
                    (Tier::Live, Some(Ok(row))) => {
                        self.seen.insert((self.id)(&row));
                        return Some(Ok(row));
                    }
                    (Tier::Archive, Some(Ok(row))) => {
                        if !self.seen.contains((self.id)(&row)) {
                            return Some(Ok(row));
                        }
                    }
                    (_, Some(Err(error))) if S::is_row(&error) => return Some(Err(error)),
                    (_, Some(Err(error))) => return Some(self.fail(error)),
                    (Tier::Live, None) => self.phase = Phase::Between,
                    (Tier::Archive, None) => self.phase = Phase::Done,
                },
                Phase::Done => return None,
            }
        }
    }

    fn open(&mut self, tier: Tier) {
        self.source.open(tier);
        self.phase = Phase::Reading(tier);
    }

    fn fail(&mut self, error: E) -> Result<T, E> {
        self.has_failed = true;
        Err(error)
    }

    fn resume(&mut self) -> bool {
        if !self.has_failed {
            return false;
        }
        let can_go_on = match self.phase {
            Phase::Reading(_) => self.source.resume(),
            // A cutoff that could not be asked is asked again.
            Phase::Before | Phase::Between => true,
            Phase::Done => false,
        };
        self.has_failed = !can_go_on;
        can_go_on
    }
}

/// The rows of a tier from the exchange.
type Open<'a, T> = Box<dyn Fn(Tier) -> Rows<'a, T> + Send + 'a>;

/// The cutoff of a kind of row, from the exchange.
type Cutoff<'a> = Box<dyn Fn() -> Answer<'a, Result<i64, Error>> + Send + Sync + 'a>;

struct Exchange<'a, T> {
    cutoff: Cutoff<'a>,
    open: Open<'a, T>,
    rows: Option<Rows<'a, T>>,
}

impl<T: Send> Source<T, Error> for Exchange<'_, T> {
    fn cutoff(&self) -> Answer<'_, Result<i64, Error>> {
        (self.cutoff)()
    }

    fn open(&mut self, tier: Tier) {
        self.rows = Some((self.open)(tier));
    }

    fn next(&mut self) -> Answer<'_, Option<Result<T, Error>>> {
        Box::pin(async move { self.rows.as_mut()?.next().await })
    }

    fn resume(&mut self) -> bool {
        self.rows.as_mut().is_some_and(Rows::resume)
    }

    fn is_row(error: &Error) -> bool {
        error.is_row()
    }
}

/// The rows of both tiers: first those that are live, then those of the archive, each the newest
/// first.
///
/// Memory grows with the live rows, by 16 to 32 bytes each: their ids are kept, so that none comes
/// twice. An id that is no UUID takes more.
#[must_use = "a list does nothing until it is read"]
pub struct History<'a, T>(Merge<T, Error, Exchange<'a, T>>);

impl<'a, T: Send + 'a> History<'a, T> {
    /// Returns the next row; `None` at the end, and after an error that ended the list.
    ///
    /// # Errors
    ///
    /// A row that does not decode ([`Error::is_row`]); those after it follow. A page or a cutoff
    /// that could not be read: nothing comes after that until [`resume`](Self::resume).
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses no row: the next call goes on where this one was.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        self.0.next().await
    }

    /// Goes on after an error that ended the list, with the request that failed. Returns whether
    /// there was one.
    pub fn resume(&mut self) -> bool {
        self.0.resume()
    }

    /// Collects every row that is left: all of them, or an error.
    ///
    /// # Errors
    ///
    /// The first error, also of a single row.
    pub async fn try_collect(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(row) = self.next().await {
            all.push(row?);
        }
        Ok(all)
    }

    /// Returns the list as a [`Stream`], for the adaptors of `futures`. Its errors are those of
    /// [`next`](Self::next); it cannot be resumed.
    pub fn into_stream(self) -> impl Stream<Item = Result<T, Error>> + Send + 'a {
        futures_util::stream::unfold(self, async |mut list| {
            let row = list.next().await?;
            Some((row, list))
        })
    }
}

impl<T> fmt::Debug for History<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Merge { phase, has_failed, seen, .. } = &self.0;
        f.debug_struct("History")
            .field("phase", phase)
            .field("has_failed", has_failed)
            .field("seen", &seen.len())
            .finish_non_exhaustive()
    }
}

/// Sets the filters that were given.
macro_rules! filtered {
    ($request:expr, [$($filter:ident = $value:expr),+]) => {{
        let mut request = $request.limit(PAGE);
        $(if let Some(value) = $value { request = request.$filter(value); })+
        request.stream()
    }};
}

fn history<'a, T: Send>(
    client: &'a Client,
    cutoff: fn(&GetHistoricalCutoffResponse) -> i64,
    (since, until): (Option<i64>, Option<i64>),
    id: fn(&T) -> &str,
    open: impl Fn(Tier) -> Rows<'a, T> + Send + 'a,
) -> History<'a, T> {
    let cutoff: Cutoff<'a> = Box::new(move || {
        Box::pin(async move {
            let answer = client.get_historical_cutoff().send().await?;
            Ok(cutoff(&answer))
        })
    });
    let source = Exchange { cutoff, open: Box::new(open), rows: None };
    History(Merge::new(source, since, until, id))
}

/// Returns the times of a range in seconds.
fn times(range: &Range) -> (Option<i64>, Option<i64>) {
    (range.since.map(UnixSeconds::as_seconds), range.until.map(UnixSeconds::as_seconds))
}

/// Returns the public trades of a range.
pub fn trades<'a>(client: &'a Client, range: &Range) -> History<'a, Trade> {
    let cutoff = |cutoff: &GetHistoricalCutoffResponse| cutoff.trades_created_ts.timestamp();
    let times = times(range);
    let range = range.clone();
    history(
        client,
        cutoff,
        times,
        |trade| &trade.trade_id,
        move |tier| {
            let (ticker, since, until) = (range.ticker.as_deref(), range.since, range.until);
            match tier {
                Tier::Live => {
                    filtered!(
                        client.get_trades(),
                        [ticker = ticker, min_ts = since, max_ts = until]
                    )
                }
                Tier::Archive => filtered!(
                    client.get_trades_historical(),
                    [ticker = ticker, min_ts = since, max_ts = until]
                ),
            }
        },
    )
}

/// Returns your fills of a range. Without a subaccount in the range, those of all subaccounts.
pub fn fills<'a>(client: &'a Client, range: &Range) -> History<'a, Fill> {
    let cutoff = |cutoff: &GetHistoricalCutoffResponse| cutoff.trades_created_ts.timestamp();
    let times = times(range);
    let range = range.clone();
    history(
        client,
        cutoff,
        times,
        |fill| &fill.fill_id,
        move |tier| {
            let (since, until) = (range.since, range.until);
            let subaccount = range.subaccount.map(i64::from);
            match tier {
                Tier::Live => filtered!(
                    client.get_fills(),
                    [
                        ticker = range.ticker.as_ref().map(|ticker| [ticker.as_str()]),
                        min_ts = since,
                        max_ts = until,
                        subaccount = subaccount
                    ]
                ),
                Tier::Archive => filtered!(
                    client.get_fills_historical(),
                    [
                        ticker = range.ticker.as_deref(),
                        min_ts = since,
                        max_ts = until,
                        subaccount = subaccount
                    ]
                ),
            }
        },
    )
}

/// Returns your orders of a range, in every state. Without a subaccount in the range, those of all
/// subaccounts.
///
/// Both tiers are always read: the range is about the time at which an order was made, the cutoff
/// about that of its last change.
pub fn orders<'a>(client: &'a Client, range: &Range) -> History<'a, Order> {
    let cutoff = |cutoff: &GetHistoricalCutoffResponse| cutoff.orders_updated_ts.timestamp();
    let range = range.clone();
    history(
        client,
        cutoff,
        (None, None),
        |order| &order.order_id,
        move |tier| {
            let (ticker, since, until) = (range.ticker.as_deref(), range.since, range.until);
            let subaccount = range.subaccount.map(i64::from);
            match tier {
                Tier::Live => filtered!(
                    client.get_orders(),
                    [ticker = ticker, min_ts = since, max_ts = until, subaccount = subaccount]
                ),
                Tier::Archive => filtered!(
                    client.get_historical_orders(),
                    [ticker = ticker, min_ts = since, max_ts = until, subaccount = subaccount]
                ),
            }
        },
    )
}

/// Returns markets in every state, those that are settled long ago included.
pub fn markets<'a>(client: &'a Client, range: &MarketRange) -> History<'a, Market> {
    let cutoff = |cutoff: &GetHistoricalCutoffResponse| cutoff.market_settled_ts.timestamp();
    let range = range.clone();
    history(
        client,
        cutoff,
        (None, None),
        |market| &market.ticker,
        move |tier| {
            let (event, series) = match &range {
                MarketRange::All => (None, None),
                MarketRange::Event(event) => (Some(event.as_str()), None),
                MarketRange::Series(series) => (None, Some(series.as_str())),
            };
            match tier {
                Tier::Live => {
                    filtered!(client.get_markets(), [event_ticker = event, series_ticker = series])
                }
                Tier::Archive => filtered!(
                    client.get_historical_markets(),
                    [event_ticker = event, series_ticker = series]
                ),
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// An exchange whose cutoff moves: rows are their own times.
    #[derive(Clone, Default)]
    struct Script(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        /// The times of all rows.
        rows: Vec<i64>,
        /// The cutoffs, one after each row that is read and each question; the last one stays.
        cutoffs: Vec<i64>,
        asked: usize,
        /// What is left of the list that is read, with the tier.
        tier: Option<Tier>,
        below: i64,
        opened: Vec<Tier>,
        /// The number of the row or question that fails, counted from 0.
        fails_at: Vec<usize>,
        steps: usize,
    }

    impl State {
        fn cutoff(&self) -> i64 {
            let last = self.cutoffs.len() - 1;
            self.cutoffs[self.asked.min(last)]
        }

        /// A step at which the cutoff may move; an error if it is to fail.
        fn step(&mut self) -> Result<(), &'static str> {
            self.steps += 1;
            if self.fails_at.contains(&(self.steps - 1)) {
                return Err("page");
            }
            self.asked += 1;
            Ok(())
        }
    }

    impl Source<String, &'static str> for Script {
        fn cutoff(&self) -> Answer<'_, Result<i64, &'static str>> {
            Box::pin(async {
                let mut state = self.0.lock().unwrap();
                let cutoff = state.cutoff();
                state.step()?;
                Ok(cutoff)
            })
        }

        fn open(&mut self, tier: Tier) {
            let mut state = self.0.lock().unwrap();
            state.opened.push(tier);
            state.tier = Some(tier);
            state.below = i64::MAX;
        }

        fn next(&mut self) -> Answer<'_, Option<Result<String, &'static str>>> {
            Box::pin(async {
                let mut state = self.0.lock().unwrap();
                let (cutoff, below) = (state.cutoff(), state.below);
                let is_live = state.tier? == Tier::Live;
                if let Err(error) = state.step() {
                    return Some(Err(error));
                }
                let here = state.rows.iter().filter(|at| (**at >= cutoff) == is_live);
                let row = here.filter(|at| **at < below).max().copied()?;
                state.below = row;
                Some(Ok(row.to_string()))
            })
        }

        fn resume(&mut self) -> bool {
            true
        }

        fn is_row(error: &&'static str) -> bool {
            *error == "row"
        }
    }

    fn read(script: &Script, since: Option<i64>, until: Option<i64>) -> Vec<String> {
        let mut list = Merge::new(script.clone(), since, until, String::as_str);
        let mut rows = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            loop {
                match list.next().await {
                    Some(Ok(row)) => rows.push(row),
                    Some(Err(_)) => {
                        assert!(list.next().await.is_none(), "an error ends the list");
                        assert!(list.resume());
                    }
                    None => break,
                }
            }
            assert!(!list.resume(), "there is nothing to go on with");
        });
        rows
    }

    fn script(cutoffs: &[i64]) -> Script {
        let state =
            State { rows: (0..10).collect(), cutoffs: cutoffs.to_vec(), ..State::default() };
        Script(Arc::new(Mutex::new(state)))
    }

    fn numbers(rows: &[String]) -> Vec<i64> {
        let mut rows: Vec<i64> = rows.iter().map(|row| row.parse().unwrap()).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn whatever_moves_meanwhile_each_row_comes_once() {
        // The cutoff moves from 3 to 8 at each step of the reading.
        for at in 0..16 {
            let mut cutoffs = vec![3; at];
            cutoffs.push(8);
            let script = script(&cutoffs);
            assert_eq!(numbers(&read(&script, None, None)), (0..10).collect::<Vec<_>>(), "{at}");
        }
    }

    #[test]
    fn whatever_fails_and_is_resumed_each_row_comes_once() {
        for fails in 0..16 {
            let script = script(&[3, 4, 5, 6]);
            script.0.lock().unwrap().fails_at = vec![fails, fails + 1];
            assert_eq!(numbers(&read(&script, None, None)), (0..10).collect::<Vec<_>>(), "{fails}");
        }
    }

    #[test]
    fn a_tier_is_left_out_only_if_it_cannot_have_a_row() {
        let opened = |cutoffs: &[i64], since, until| {
            let script = script(cutoffs);
            read(&script, since, until);
            script.0.lock().unwrap().opened.clone()
        };
        assert_eq!(opened(&[5], Some(5), None), [Tier::Live]);
        assert_eq!(opened(&[5], None, Some(4)), [Tier::Archive]);
        assert_eq!(opened(&[5], Some(4), None), [Tier::Live, Tier::Archive]);
        assert_eq!(opened(&[5], None, Some(5)), [Tier::Live, Tier::Archive]);
        // All live when it began, and archived in part when it ended.
        assert_eq!(opened(&[5, 6], Some(5), None), [Tier::Live, Tier::Archive]);
    }

    #[test]
    fn ids_that_are_no_uuids_stay_apart() {
        let known = "0123abcd-0123-4567-89ab-0123456789ab";
        let others = [
            known.to_uppercase(),
            known.replace('-', "_"),
            known.replace('-', "0"),
            known.replacen('0', "+", 1),
            known.replace('-', ""),
            format!("{known}0"),
        ];
        let mut ids = Ids::default();
        ids.insert(known);
        assert!(ids.contains(known));
        for other in &others {
            assert!(!ids.contains(other), "{other}");
            ids.insert(other);
            assert!(ids.contains(other), "{other}");
        }
        assert_eq!((ids.uuids.len(), ids.texts.len()), (1, others.len()));
        assert_eq!(uuid(known), Some(0x0123_abcd_0123_4567_89ab_0123_4567_89ab));
    }

    #[test]
    fn ids_are_found_in_whatever_order_they_came() {
        let id = |number: u128| {
            let digits = format!("{:032x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060));
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20]];
            format!("{}-{}", parts.join("-"), &digits[20..])
        };
        let mut ids = Ids::default();
        for number in 0..500 {
            ids.insert(&id(number));
            // Looked up in between as well: what is added later is found.
            assert!(ids.contains(&id(number / 2)), "{number}");
            assert!(!ids.contains(&id(number + 1)), "{number}");
        }
        assert_eq!(ids.texts.len(), 0);
    }
}
