//! The order book of one market on several feeds.
//!
//! A change is identified by its clock and by its position among the changes of that clock. Every
//! feed has the changes of a market in the same order, and its own sequence numbers say when it has
//! missed none: then it has a run, which begins with a snapshot. The frontier is the last change
//! that was delivered. A run that holds the frontier covers the market: whatever comes next, it
//! brings. The changes of a clock are known to be complete only by what follows them on the same
//! run, a higher clock or a snapshot; never by the passing of time.

use std::{collections::VecDeque, sync::Arc};

use super::output::Output;
use crate::{
    book::{BookError, Books, OrderBook, Outcome},
    event::UncoveredCause,
    generated::Payload,
    protocol::message::{self, Message},
};

/// The number of changes that are held of one market on one feed.
const MAX_HELD: usize = if cfg!(test) { 24 } else { 1_024 };

/// The number of changes that are held in all.
const MAX_HELD_IN_ALL: usize = if cfg!(test) { 200 } else { 65_536 };

/// A place in the changes of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    clock: i64,
    /// The number of changes of this clock up to here; `ALL` for all of them.
    count: u32,
}

/// A place in relation to the next clock on the same run.
enum Step {
    To(Position),
    /// A change of a clock that was complete.
    Contradiction,
    Back,
}

const ALL: u32 = u32::MAX;

impl Position {
    const fn after(clock: i64) -> Self {
        Self { clock, count: ALL }
    }

    /// Returns the place of the next change on a run that is here.
    fn step(self, clock: i64) -> Step {
        if clock > self.clock {
            return Step::To(Self { clock, count: 1 });
        }
        if clock < self.clock {
            return Step::Back;
        }
        match self.count.checked_add(1) {
            Some(count) if count < ALL => Step::To(Self { clock, count }),
            _ => Step::Contradiction,
        }
    }

    /// Reports whether a run that is here has all changes up to the frontier, and none beyond.
    fn is_at(self, frontier: Self) -> bool {
        self == frontier || frontier.count == ALL && self.clock == frontier.clock
    }
}

/// The state of the market in one feed.
enum Run {
    /// Nothing that can be relied on, until its next snapshot.
    Broken,
    /// It covers the market, and is at or before the frontier.
    Joined(Position),
    /// It does not hold the frontier.
    Apart(Box<Apart>),
    /// It leads, and its messages have no clock.
    Unclocked,
}

/// A run whose snapshot lies beyond the frontier, or before it without being known to lead there.
struct Apart {
    /// The position of the snapshot.
    start: Position,
    /// The last change.
    at: Position,
    snapshot: Message,
    /// The changes since the snapshot.
    held: VecDeque<(Position, Message)>,
    /// The frontier when the run began, if another feed led. Only what the others bring after it
    /// compares with the run: the connections live at the same time, then.
    since: Option<Position>,
    /// A change that was delivered since then, and shows that the run leads to the frontier.
    target: Option<Position>,
}

impl Apart {
    fn new(start: Position, snapshot: Message, since: Option<Position>) -> Self {
        Self { start, at: start, snapshot, held: VecDeque::new(), since, target: None }
    }

    /// Reports whether the run goes on from the frontier with the book that was delivered: its own
    /// place for that, or `None` if its snapshot has to be delivered because only changes that
    /// cancel each other may be missing in between.
    #[expect(clippy::option_option, reason = "whether, and where")]
    fn goes_on(&self, frontier: Position, book: &OrderBook) -> Option<Option<usize>> {
        let Payload::OrderbookSnapshot(snapshot) = &self.snapshot.payload else { return None };
        let before = self.find(frontier);
        if before.is_none() && self.start.clock != frontier.clock {
            return None;
        }
        let mut own = OrderBook::from_snapshot(snapshot).ok()?;
        for (_, message) in self.held.iter().take(before.unwrap_or_default()) {
            if let Payload::OrderbookDelta(delta) = &message.payload {
                own.apply(delta).ok()?;
            }
        }
        (own == *book).then_some(before)
    }

    /// Returns the number of held changes up to the frontier, if the run holds the frontier.
    fn find(&self, frontier: Position) -> Option<usize> {
        let before = self.held.partition_point(|(position, _)| *position <= frontier);
        let last = match before.checked_sub(1) {
            Some(last) => self.held.get(last)?.0,
            None => self.start,
        };
        last.is_at(frontier).then_some(before)
    }

    /// Takes the changes up to a clock, which are complete, into the snapshot.
    fn fold(&mut self, clock: i64) -> Result<(), BookError> {
        let count = self.held.partition_point(|(position, _)| position.clock <= clock);
        if count == 0 {
            return Ok(());
        }
        let Payload::OrderbookSnapshot(snapshot) = &mut self.snapshot.payload else {
            return Ok(());
        };
        let mut book = OrderBook::from_snapshot(snapshot)?;
        for (position, message) in self.held.drain(..count) {
            if let Payload::OrderbookDelta(delta) = &message.payload {
                book.apply(delta)?;
            }
            self.start = Position::after(position.clock);
            self.snapshot.sent = message.sent.or(self.snapshot.sent);
            self.snapshot.received = message.received;
        }
        snapshot.yes_dollars_fp = book.bids(Outcome::Yes).collect();
        snapshot.no_dollars_fp = book.asks(Outcome::Yes).collect();
        snapshot.clock = Some(self.start.clock);
        Ok(())
    }
}

/// The relation of a feed's clocks to those that were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The feed never had the market, and has not led to the frontier yet.
    First,
    /// It is connected anew, and has not led to the frontier yet.
    New,
    /// It is connected anew, and is behind what it had before: its server trails, or the clock went
    /// back. It has not led to the frontier yet.
    Back,
    /// It has led to the frontier on this connection.
    Proven,
}

struct FeedState {
    run: Run,
    origin: Origin,
    /// The last clock that came, in a run or not.
    last: Option<i64>,
    /// The connection of the last snapshot.
    connection: u64,
    /// The epoch that its clocks belong to.
    epoch: u32,
    /// The market was taken out of its subscription, and has not come back.
    is_out: bool,
    /// The requests to take the market out that it has answered.
    removals: u32,
}

impl FeedState {
    fn is_joined(&self) -> bool {
        matches!(self.run, Run::Joined(_))
    }

    /// Reports whether its messages were sent before the market was taken out of the merged stream,
    /// which has answered this number of requests for that.
    fn is_trailing(&self, removals: u32) -> bool {
        self.removals < removals
    }

    /// Reports whether it is subscribed to the market, and does not trail.
    fn is_subscribed(&self, removals: u32) -> bool {
        !self.is_out && !self.is_trailing(removals)
    }
}

/// The state of the market in the merged stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    /// No feed covers it, and its book is void.
    Void,
    /// At least one run is joined.
    Clocked,
    /// This feed leads, without clocks.
    Unclocked(usize),
}

/// The effect of a run's end on the merged stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The feed had no run.
    None,
    Covered,
    /// No other feed covers the market. [`Market::settle`] follows.
    Uncovered,
}

/// The connections behind the feeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) is_up: bool,
    /// The number of connections before this one.
    pub(super) connection: u64,
}

pub(super) struct Market {
    ticker: Arc<str>,
    /// The market as the first delta named it, so that all deltas name it by the same address.
    name: Option<message::Market>,
    lead: Lead,
    frontier: Option<Position>,
    /// Clocks of different epochs do not compare.
    epoch: u32,
    feeds: Vec<FeedState>,
    /// The requests to take the market out that the merged stream has answered. What a feed brings
    /// before it has answered as many was sent before the market was taken out.
    removals: u32,
    /// The merged stream has said that the market was taken out, and has brought nothing since.
    pub(super) is_gone: bool,
    /// It waits to be forgotten.
    pub(super) is_buried: bool,
}

impl Market {
    pub(super) fn new(ticker: Arc<str>, feeds: usize) -> Self {
        let state = || FeedState {
            run: Run::Broken,
            origin: Origin::First,
            last: None,
            connection: 0,
            epoch: 0,
            is_out: false,
            removals: 0,
        };
        Self {
            ticker,
            name: None,
            lead: Lead::Void,
            frontier: None,
            epoch: 0,
            feeds: std::iter::repeat_with(state).take(feeds).collect(),
            removals: 0,
            is_gone: false,
            is_buried: false,
        }
    }

    pub(super) fn ticker(&self) -> &Arc<str> {
        &self.ticker
    }

    pub(super) fn is_void(&self) -> bool {
        self.lead == Lead::Void
    }

    /// Returns the number of feeds that bring whatever comes next.
    pub(super) fn coverage(&self) -> usize {
        match self.lead {
            Lead::Void => 0,
            Lead::Clocked => self.feeds.iter().filter(|state| state.is_joined()).count(),
            Lead::Unclocked(_) => 1,
        }
    }

    /// Handles a snapshot.
    pub(super) fn snapshot(
        &mut self,
        feed: usize,
        clock: Option<i64>,
        message: Message,
        books: Option<&Books>,
        links: &[Link],
        out: &mut Output,
    ) {
        let Some(state) = self.feeds.get_mut(feed) else { return };
        if state.is_trailing(self.removals) {
            out.metrics.discarded += 1;
            return;
        }
        state.is_out = false;
        let Some(clock) = clock else { return self.unclocked(feed, message, links, out) };
        let Some(state) = self.feeds.get_mut(feed) else { return };
        let connection = links.get(feed).map_or(0, |link| link.connection);
        let is_connected_anew = state.connection != connection;
        let is_back = state.last.is_some_and(|last| clock < last);
        let mut origin = match state.last {
            None => Origin::First,
            Some(_) if is_back => Origin::Back,
            Some(_) if is_connected_anew => Origin::New,
            Some(_) => state.origin,
        };
        let joined = match state.run {
            Run::Joined(at) => Some(at),
            _ => None,
        };
        state.last = Some(clock);
        state.connection = connection;
        if state.epoch != self.epoch {
            // The clock went back on another feed. This one has followed if its own went back, or
            // if it is connected anew.
            if is_back || is_connected_anew {
                state.epoch = self.epoch;
                origin = Origin::New;
            } else if self.lead == Lead::Void {
                self.reset(feed, links, out);
            } else {
                out.metrics.discarded += 1;
                return;
            }
        } else if is_back && !is_connected_anew {
            self.reset(feed, links, out);
        }
        self.end_run(feed, out);
        let start = Position::after(clock);
        if self.lead == Lead::Clocked
            && self.frontier.is_some_and(|frontier| frontier.clock == clock)
            && self.is_delivered(&message, books)
        {
            origin = Origin::Proven;
        }
        if origin == Origin::First && self.lead == Lead::Clocked {
            // It only trails: the others are there to show what the clock is.
            origin = Origin::New;
        }
        if let Some(state) = self.feeds.get_mut(feed) {
            state.origin = origin;
        }
        match (self.lead, self.frontier) {
            (Lead::Void, Some(frontier)) if start < frontier => {
                self.set(feed, Run::Apart(Box::new(Apart::new(start, message, None))));
                self.settle(links, out);
            }
            (Lead::Unclocked(leader), _) if leader != feed => {
                self.set(feed, Run::Apart(Box::new(Apart::new(start, message, None))));
            }
            (Lead::Clocked, Some(mut frontier)) => {
                // What came before a snapshot on an unbroken run is complete.
                if let Some(at) = joined
                    && at == frontier
                {
                    frontier = Position::after(at.clock);
                    self.frontier = Some(frontier);
                }
                let is_covered_by_others = self.feeds.iter().any(FeedState::is_joined);
                let is_proven = joined.is_some() || origin == Origin::Proven;
                if start > frontier && !is_covered_by_others || start == frontier && is_proven {
                    self.adopt(feed, start, message, links, out);
                } else if start < frontier && is_proven {
                    out.metrics.duplicates += 1;
                    self.set(feed, Run::Joined(start));
                } else {
                    let since = (!is_proven).then_some(frontier);
                    self.set(feed, Run::Apart(Box::new(Apart::new(start, message, since))));
                }
                self.join(links, out);
            }
            _ => self.adopt(feed, start, message, links, out),
        }
    }

    /// Handles a snapshot without a clock: it compares with nothing.
    fn unclocked(&mut self, feed: usize, message: Message, links: &[Link], out: &mut Output) {
        if let Some(FeedState { run: Run::Joined(_) | Run::Apart(_), .. }) = self.feeds.get(feed) {
            self.break_run(feed, UncoveredCause::Lost, links, out);
        }
        match self.lead {
            Lead::Void => {
                (self.lead, self.is_gone) = (Lead::Unclocked(feed), false);
                self.frontier = None;
            }
            Lead::Unclocked(leader) if leader == feed => {}
            _ => {
                out.metrics.discarded += 1;
                return;
            }
        }
        self.set(feed, Run::Unclocked);
        out.deliver(feed, message);
    }

    /// Handles a delta.
    #[inline]
    pub(super) fn delta(
        &mut self,
        feed: usize,
        mut message: Message,
        books: Option<&Books>,
        links: &[Link],
        out: &mut Output,
    ) {
        let Payload::OrderbookDelta(delta) = &mut message.payload else { return };
        self.rename(&mut delta.market);
        let clock = delta.clock;
        let Some(state) = self.feeds.get_mut(feed) else { return };
        let Some(clock) = clock else {
            match state.run {
                Run::Unclocked => out.deliver(feed, message),
                // Its clocks ended within a run: nothing can be compared.
                Run::Joined(_) | Run::Apart(_) => {
                    self.break_run(feed, UncoveredCause::Lost, links, out);
                    out.request(feed, &self.ticker, links);
                }
                Run::Broken => out.metrics.discarded += 1,
            }
            return;
        };
        let last = state.last;
        let at = match &state.run {
            Run::Joined(at) => *at,
            Run::Apart(apart) => apart.at,
            Run::Unclocked => {
                out.deliver(feed, message);
                return;
            }
            Run::Broken => {
                if last.is_none_or(|last| clock >= last) {
                    state.last = Some(clock);
                } else if state.epoch != self.epoch {
                    // Its clock went back as well.
                    state.epoch = self.epoch;
                    state.last = Some(clock);
                    out.request(feed, &self.ticker, links);
                }
                out.metrics.discarded += 1;
                return;
            }
        };
        state.last = Some(clock);
        let next = match at.step(clock) {
            Step::To(next) => next,
            Step::Contradiction => {
                self.break_run(feed, UncoveredCause::Contradiction, links, out);
                out.request(feed, &self.ticker, links);
                return;
            }
            Step::Back => {
                // A change does not bring back what was there before it: only snapshots do.
                self.reset(feed, links, out);
                self.end_run(feed, out);
                out.request(feed, &self.ticker, links);
                return;
            }
        };
        if let Run::Joined(at) = &mut state.run {
            let Some(frontier) = self.frontier else { return };
            let before = std::mem::replace(at, next);
            if next <= frontier {
                out.metrics.duplicates += 1;
            } else if before.is_at(frontier) {
                self.frontier = Some(next);
                out.deliver(feed, message);
                self.join(links, out);
            } else {
                self.contradiction(links, out);
            }
            return;
        }
        self.hold(feed, next, message, books, links, out);
    }

    /// Keeps a change of a run that does not hold the frontier.
    fn hold(
        &mut self,
        feed: usize,
        next: Position,
        message: Message,
        books: Option<&Books>,
        links: &[Link],
        out: &mut Output,
    ) {
        let (lead, frontier) = (self.lead, self.frontier);
        let Some(state) = self.feeds.get_mut(feed) else { return };
        let Run::Apart(apart) = &mut state.run else { return };
        apart.at = next;
        apart.held.push_back((next, message));
        out.held += 1;
        if let Some(target) = apart.target {
            if next.is_at(target) {
                apart.target = None;
                state.origin = Origin::Proven;
                if lead == Lead::Clocked {
                    self.end_run(feed, out);
                    self.set(feed, Run::Joined(next));
                    out.metrics.duplicates += 1;
                    return;
                }
            } else if lead == Lead::Clocked && frontier.is_some_and(|frontier| next > frontier) {
                // It does not lead to the frontier.
                self.end_run(feed, out);
                out.request(feed, &self.ticker, links);
                return;
            }
        }
        if lead == Lead::Clocked
            && let Some(frontier) = frontier.filter(|frontier| next.is_at(*frontier))
            && let Some(book) = books.and_then(|books| books.get(&self.ticker))
            && let Some(Some(before)) = apart.goes_on(frontier, book)
        {
            // The same book at the same place.
            self.release(feed, before, out);
            return;
        }
        if apart.held.len() >= MAX_HELD || out.held >= MAX_HELD_IN_ALL {
            self.overflow(feed, links, out);
        } else if lead == Lead::Void {
            self.settle(links, out);
        }
    }

    /// Reports whether a snapshot has the book that was delivered.
    fn is_delivered(&self, message: &Message, books: Option<&Books>) -> bool {
        let Payload::OrderbookSnapshot(snapshot) = &message.payload else { return false };
        books
            .and_then(|books| books.get(&self.ticker))
            .is_some_and(|book| OrderBook::from_snapshot(snapshot).is_ok_and(|same| same == *book))
    }

    /// Makes room: too many changes of a run are held.
    fn overflow(&mut self, feed: usize, links: &[Link], out: &mut Output) {
        let (lead, frontier) = (self.lead, self.frontier);
        let Some(state) = self.feeds.get_mut(feed) else { return };
        let Run::Apart(apart) = &mut state.run else { return };
        let is_ahead = frontier.is_some_and(|frontier| apart.start > frontier);
        if lead == Lead::Clocked && is_ahead && state.origin == Origin::Proven {
            // The feeds that cover the market trail too far behind this one to be waited for.
            self.lead = Lead::Void;
            out.uncovered([Arc::clone(&self.ticker)], UncoveredCause::Behind);
            self.lead_on(feed, links, out);
            return;
        }
        let before = apart.held.len();
        let folded = apart.fold(apart.at.clock.saturating_sub(1));
        out.held = out.held.saturating_sub(before - apart.held.len());
        if folded.is_err() || apart.held.len() >= MAX_HELD {
            self.end_run(feed, out);
            out.request(feed, &self.ticker, links);
        }
        if lead == Lead::Void {
            self.settle(links, out);
        }
    }

    /// Ends the run of a feed that has lost something.
    pub(super) fn lose(
        &mut self,
        feed: usize,
        books: Option<&Books>,
        links: &[Link],
        out: &mut Output,
    ) -> Loss {
        let Some(state) = self.feeds.get(feed) else { return Loss::None };
        let was = match state.run {
            Run::Broken => return Loss::None,
            Run::Joined(_) => Lead::Clocked,
            Run::Unclocked => Lead::Unclocked(feed),
            Run::Apart(_) => {
                self.end_run(feed, out);
                return if self.lead == Lead::Void { Loss::None } else { Loss::Covered };
            }
        };
        self.end_run(feed, out);
        let is_joined = self.feeds.iter().any(FeedState::is_joined);
        if was != self.lead || was == Lead::Clocked && is_joined {
            return Loss::Covered;
        }
        self.lead = Lead::Void;
        if let Some((same, before)) = books.and_then(|books| self.same(books)) {
            match before {
                Some(before) => {
                    self.lead = Lead::Clocked;
                    self.release(same, before, out);
                    self.join(links, out);
                }
                None => self.lead_on(same, links, out),
            }
            return Loss::Covered;
        }
        // These do not request a snapshot by themselves.
        for (other, state) in self.feeds.iter().enumerate() {
            let is_idle = matches!(state.run, Run::Broken) && state.epoch != self.epoch;
            if other != feed && (is_idle || was != Lead::Clocked) {
                out.request(other, &self.ticker, links);
            }
        }
        Loss::Uncovered
    }

    /// Finds a run that goes on from the frontier with the book that was delivered.
    fn same(&self, books: &Books) -> Option<(usize, Option<usize>)> {
        let (frontier, book) = (self.frontier?, books.get(&self.ticker)?);
        self.feeds.iter().enumerate().find_map(|(feed, state)| match &state.run {
            Run::Apart(apart) if state.epoch == self.epoch => {
                Some((feed, apart.goes_on(frontier, book)?))
            }
            _ => None,
        })
    }

    /// Ends a run for a reason that its connection does not know.
    fn break_run(&mut self, feed: usize, cause: UncoveredCause, links: &[Link], out: &mut Output) {
        if self.lose(feed, None, links, out) == Loss::Uncovered {
            out.uncovered([Arc::clone(&self.ticker)], cause);
            self.settle(links, out);
        }
    }

    /// Records that the feeds, or the messages and the book, contradict each other.
    pub(super) fn contradiction(&mut self, links: &[Link], out: &mut Output) {
        out.metrics.contradictions += 1;
        tracing::warn!(ticker = &*self.ticker, "feeds contradict each other");
        for feed in 0..self.feeds.len() {
            self.end_run(feed, out);
            out.request(feed, &self.ticker, links);
        }
        self.lead = Lead::Void;
        out.uncovered([Arc::clone(&self.ticker)], UncoveredCause::Contradiction);
    }

    /// Records that the clock of a feed went back. It leads, and the others have to follow.
    fn reset(&mut self, feed: usize, links: &[Link], out: &mut Output) {
        out.metrics.clock_resets += 1;
        tracing::warn!(ticker = &*self.ticker, feed, "a clock went back");
        self.epoch = self.epoch.wrapping_add(1);
        self.frontier = None;
        for other in 0..self.feeds.len() {
            let Some(state) = self.feeds.get_mut(other) else { continue };
            // While no feed lives that could have shown it, those that were connected anew and are
            // behind what they had before have followed as well.
            let has_followed = self.lead == Lead::Void
                && state.origin == Origin::Back
                && matches!(state.run, Run::Apart(_));
            let is_kept = other == feed || has_followed;
            if state.is_out {
                state.last = None;
            }
            if is_kept || state.last.is_none() {
                state.epoch = self.epoch;
            }
            if let Run::Apart(apart) = &mut state.run {
                (apart.since, apart.target) = (None, None);
            }
            if !is_kept {
                self.end_run(other, out);
                out.request(other, &self.ticker, links);
            }
        }
        self.lead = Lead::Void;
        out.uncovered([Arc::clone(&self.ticker)], UncoveredCause::ClockReset);
    }

    /// Finds a feed that the merged stream can go on with, while none covers the market.
    pub(super) fn settle(&mut self, links: &[Link], out: &mut Output) {
        while self.lead == Lead::Void {
            let Some(feed) = self.successor(links, out) else { return };
            self.lead_on(feed, links, out);
        }
    }

    fn successor(&mut self, links: &[Link], out: &mut Output) -> Option<usize> {
        let runs = || {
            let runs = self.feeds.iter().enumerate();
            runs.filter_map(|(feed, state)| match &state.run {
                Run::Apart(apart) => Some((feed, state, apart)),
                _ => None,
            })
        };
        let Some(frontier) = self.frontier else {
            return runs().min_by_key(|(_, _, apart)| apart.start).map(|(feed, ..)| feed);
        };
        // The least is skipped by the snapshot that follows first.
        let beyond = runs().filter(|(_, _, apart)| apart.start >= frontier);
        if let Some((feed, ..)) = beyond.min_by_key(|(_, _, apart)| apart.start) {
            return Some(feed);
        }
        // Or a run has come to the frontier and gone on, so that what it has until there is
        // complete.
        if let Some((feed, ..)) = runs().find(|(_, _, apart)| apart.at.clock > frontier.clock) {
            let Some(Run::Apart(apart)) = self.feeds.get_mut(feed).map(|state| &mut state.run)
            else {
                return None;
            };
            let before = apart.held.len();
            let folded = apart.fold(frontier.clock);
            let start = apart.start;
            out.held = out.held.saturating_sub(before - apart.held.len());
            if folded.is_err() {
                self.end_run(feed, out);
                out.request(feed, &self.ticker, links);
                return None;
            }
            if start.clock != frontier.clock {
                self.reset(feed, links, out);
            }
            return Some(feed);
        }
        // Whether the last clock of a run that has come that far is complete, its next snapshot
        // tells.
        let mut has_come = false;
        for (feed, state) in self.feeds.iter().enumerate() {
            if let Run::Apart(apart) = &state.run
                && apart.at >= frontier
            {
                out.request(feed, &self.ticker, links);
                has_come = true;
            }
        }
        if has_come {
            return None;
        }
        // Or the clocks went back while no feed was there to show it: a feed is behind what it had
        // before, and none that may yet bring what was delivered is left to wait for.
        let may_bring = |(feed, state): (usize, &FeedState)| {
            matches!(state.run, Run::Broken)
                && state.last.is_some()
                && state.is_subscribed(self.removals)
                && state.epoch == self.epoch
                && links.get(feed).is_some_and(|link| link.is_up)
        };
        if self.feeds.iter().enumerate().any(may_bring) {
            return None;
        }
        let is_back = |state: &FeedState| matches!(state.origin, Origin::First | Origin::Back);
        let back = runs().filter(|(_, state, _)| is_back(state));
        let feed = back.max_by_key(|(_, _, apart)| apart.at).map(|(feed, ..)| feed)?;
        self.reset(feed, links, out);
        Some(feed)
    }

    /// Goes on with a run that is apart: its snapshot, and what came after it.
    fn lead_on(&mut self, feed: usize, links: &[Link], out: &mut Output) {
        let Some(state) = self.feeds.get_mut(feed) else { return };
        let Run::Apart(apart) = std::mem::replace(&mut state.run, Run::Broken) else { return };
        out.held = out.held.saturating_sub(apart.held.len());
        self.lead_from(feed, apart.at);
        out.deliver(feed, apart.snapshot);
        for (_, message) in apart.held {
            out.deliver(feed, message);
        }
        self.join(links, out);
    }

    /// Goes on with a snapshot.
    fn adopt(
        &mut self,
        feed: usize,
        start: Position,
        message: Message,
        links: &[Link],
        out: &mut Output,
    ) {
        self.lead_from(feed, start);
        out.deliver(feed, message);
        self.join(links, out);
    }

    /// Joins the runs that hold the frontier now, and delivers what they have beyond it.
    fn join(&mut self, links: &[Link], out: &mut Output) {
        let mut feed = 0;
        while let (Lead::Clocked, Some(frontier), Some(state)) =
            (self.lead, self.frontier, self.feeds.get_mut(feed))
        {
            feed += 1;
            let this = feed - 1;
            let Run::Apart(apart) = &mut state.run else { continue };
            let (at, origin) = (apart.at, state.origin);
            let is_too_early = apart.since.is_some_and(|since| since >= frontier);
            if apart.start > frontier || is_too_early || state.epoch != self.epoch {
                continue;
            }
            match apart.find(frontier) {
                Some(before) => {
                    if self.release(this, before, out) {
                        // The others may hold these.
                        feed = 0;
                    }
                }
                None if at <= frontier && origin == Origin::Proven => {
                    self.end_run(this, out);
                    self.set(this, Run::Joined(at));
                }
                None if at <= frontier => {
                    apart.target.get_or_insert(frontier);
                }
                None if origin == Origin::Proven => self.contradiction(links, out),
                None => {
                    self.end_run(this, out);
                    out.request(this, &self.ticker, links);
                }
            }
        }
    }

    /// Joins a run that holds the frontier, delivers what it has beyond it, and reports whether there
    /// was anything.
    fn release(&mut self, feed: usize, before: usize, out: &mut Output) -> bool {
        let Some(state) = self.feeds.get_mut(feed) else { return false };
        let Run::Apart(apart) = std::mem::replace(&mut state.run, Run::Broken) else {
            return false;
        };
        state.run = Run::Joined(apart.at);
        state.origin = Origin::Proven;
        out.held = out.held.saturating_sub(apart.held.len());
        let is_beyond = before < apart.held.len();
        if is_beyond {
            self.frontier = Some(apart.at);
        }
        for (_, message) in apart.held.into_iter().skip(before) {
            out.deliver(feed, message);
        }
        is_beyond
    }

    /// Makes a feed lead from here.
    fn lead_from(&mut self, feed: usize, at: Position) {
        let was_void = self.lead == Lead::Void;
        (self.lead, self.is_gone) = (Lead::Clocked, false);
        self.frontier = Some(at);
        for (other, state) in self.feeds.iter_mut().enumerate() {
            if other == feed {
                state.run = Run::Joined(at);
                state.origin = Origin::Proven;
            } else if let Run::Apart(apart) = &mut state.run
                && was_void
                && state.origin != Origin::Proven
            {
                (apart.since, apart.target) = (Some(at), None);
            }
        }
    }

    fn set(&mut self, feed: usize, run: Run) {
        if let Some(state) = self.feeds.get_mut(feed) {
            state.run = run;
        }
    }

    fn end_run(&mut self, feed: usize, out: &mut Output) {
        if let Some(state) = self.feeds.get_mut(feed)
            && let Run::Apart(apart) = std::mem::replace(&mut state.run, Run::Broken)
        {
            out.held = out.held.saturating_sub(apart.held.len());
        }
    }

    /// Records that a feed has the market no longer, and reports whether another one has it.
    pub(super) fn remove(&mut self, feed: usize, out: &mut Output) -> bool {
        self.end_run(feed, out);
        if let Some(state) = self.feeds.get_mut(feed) {
            state.is_out = true;
        }
        self.is_held()
    }

    fn is_held(&self) -> bool {
        let has = |state: &FeedState| state.last.is_some() || !matches!(state.run, Run::Broken);
        self.feeds.iter().any(|state| state.is_subscribed(self.removals) && has(state))
    }

    /// Counts a request to take the market out that a feed has answered.
    pub(super) fn count_removal(&mut self, feed: usize) {
        if let Some(state) = self.feeds.get_mut(feed) {
            state.removals = state.removals.saturating_add(1);
        }
    }

    /// Reports whether the merged stream has answered fewer such requests than a feed.
    pub(super) fn is_first_answer(&self, feed: usize) -> bool {
        self.feeds.get(feed).is_some_and(|state| state.removals > self.removals)
    }

    /// Records that a feed has the market no longer, and the merged stream neither. A feed that is
    /// ahead may have taken it out and have it again: [`settle`](Self::settle) follows.
    pub(super) fn take_out(&mut self, feed: usize, links: &[Link], out: &mut Output) {
        self.remove(feed, out);
        self.end(feed);
        self.lead = Lead::Void;
        for feed in 0..self.feeds.len() {
            let Some(state) = self.feeds.get(feed) else { continue };
            if state.is_trailing(self.removals) {
                self.end_run(feed, out);
            } else if let Run::Joined(_) | Run::Unclocked = state.run {
                // The book that it had in common with the merged stream is gone.
                self.end_run(feed, out);
                out.request(feed, &self.ticker, links);
            }
        }
    }

    /// Records that the merged stream has the market no longer, by the answer of a feed, and reports
    /// whether it had it.
    pub(super) fn end(&mut self, feed: usize) -> bool {
        let removals = self.feeds.get(feed).map_or(0, |state| state.removals);
        self.removals = self.removals.max(removals);
        !std::mem::replace(&mut self.is_gone, true)
    }

    /// Reports whether the market is out on a feed.
    pub(super) fn is_out(&self, feed: usize) -> bool {
        self.feeds.get(feed).is_some_and(|state| state.is_out)
    }

    /// Records that a feed has the market anew, however many requests it has answered.
    pub(super) fn readd(&mut self, feed: usize, links: &[Link], out: &mut Output) {
        if let Some(state) = self.feeds.get_mut(feed)
            && state.is_trailing(self.removals)
        {
            state.removals = self.removals;
            // Its snapshot may have come before.
            out.request(feed, &self.ticker, links);
        }
    }

    /// Reports whether nothing is left of the market but what was delivered.
    pub(super) fn is_over(&self) -> bool {
        self.is_gone && !self.is_held()
    }

    #[inline]
    fn rename(&mut self, market: &mut message::Market) {
        match &self.name {
            Some(name) if name.is_same(market) => {}
            Some(name) if name == market => *market = name.clone(),
            _ => self.name = Some(market.clone()),
        }
    }
}
