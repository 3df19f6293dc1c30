//! The state behind its lock, the clock, the faults and the streams, which all connections share.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use http::Method;
use kalshi_auth::{Clock, server::KeyPair};
use kalshi_sdk::OperationId;
use serde_json::Value;

use crate::{
    any_operation::AnyOperation,
    api,
    auth::Signed,
    clock::ExchangeClock,
    engine::{ids::AccountId, principal::Principal, types::Time},
    faults::{Delay, FaultKind, Faults},
    http::{lenient, query::Query, request::Call, response::Response},
    state::State,
    stream::hub::Hub,
};

/// The number of requests that the log keeps.
const MAX_LOG: usize = 1_000;
/// The longest time that a long run leaves the state to one who waits for it.
const HAND_OVER: Duration = Duration::from_millis(1);
/// The number of requests that can wait to be carried out after their answers.
const MAX_DELAYED: usize = 10_000;

/// A request that the exchange has received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestRecord {
    /// The operation, for instance `get_markets`.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path as it came over the wire, encoded.
    pub path: String,
    /// The query as it came over the wire, encoded; empty if there was none.
    pub query: String,
    /// The request had a signature.
    pub signed: bool,
    /// The number of the request, counted from 1 since the exchange started.
    pub number: u64,
    /// The exchange's time when it arrived.
    pub at: DateTime<Utc>,
    /// The id of the key that signed it, or of the administrator whose bearer token it has; `None`
    /// if it has neither or a bad one.
    pub key_id: Option<String>,
    /// The faults that hit it.
    pub faults: Vec<FaultKind>,
    /// The HTTP status of its answer; `None` until it is answered, and if its connection was cut
    /// instead.
    pub status: Option<u16>,
    /// The real time from its arrival to its answer, with what faults have added; `None` as for
    /// `status`.
    pub took: Option<Duration>,
}

/// A request that has arrived whole and whose signature or token is good.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its number in the log.
    #[cfg(feature = "ui")]
    pub(crate) number: u64,
    pub(crate) operation: AnyOperation,
    /// Of the key, or of the administrator; `None` for an unsigned request to a public operation.
    pub(crate) key_id: Option<String>,
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) body: Value,
    pub(crate) pair: Option<KeyPair>,
}

impl Request {
    fn carry_out(&self, state: &mut State, now: DateTime<Utc>) -> Response {
        let relaxed = lenient::relaxed(state.rules(), self.operation.operation(), &self.body);
        let mut call = Call {
            caller: None,
            subtrader: None,
            path: &self.path,
            query: &self.query,
            body: relaxed.as_ref().unwrap_or(&self.body),
            now,
            pair: self.pair.as_ref(),
        };
        let key_id = self.key_id.as_deref();
        match self.operation {
            AnyOperation::Events(id) => api::answer(state, id, &mut call, key_id),
            #[cfg(feature = "perps")]
            AnyOperation::Perps(id) => crate::perps::api::answer(state, id, &mut call, key_id),
            #[cfg(feature = "perps")]
            AnyOperation::Klear(id) => {
                crate::perps::klear::api::answer(state, id, &mut call, key_id)
            }
        }
    }
}

/// A request that has been answered and is carried out later.
#[derive(Debug)]
struct Delayed {
    due: Due,
    request: Request,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    At(DateTime<Utc>),
    After(Option<OperationId>),
}

/// The last requests, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    records: VecDeque<RequestRecord>,
    last: u64,
}

impl RequestLog {
    /// Adds a request. Returns its number.
    pub(crate) fn add(&mut self, mut request: RequestRecord) -> u64 {
        if self.records.len() == MAX_LOG {
            self.records.pop_front();
        }
        self.last += 1;
        request.number = self.last;
        self.records.push_back(request);
        self.last
    }

    /// Changes the record of a request, if it is still kept.
    pub(crate) fn amend(&mut self, number: u64, change: impl FnOnce(&mut RequestRecord)) {
        let first = self.records.front().map_or(0, |record| record.number);
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(record) = place.and_then(|place| self.records.get_mut(place)) {
            change(record);
        }
    }

    /// Returns the number of the last request, which is how many there were.
    #[cfg(feature = "ui")]
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &RequestRecord> {
        self.records.iter()
    }
}

/// The parts of a running exchange that its connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The number of threads that wait for the state.
    waiting: AtomicUsize,
    /// In the order in which they came. Locked after the state, if at all.
    delayed: Mutex<Vec<Delayed>>,
    /// The time in which a request must arrive.
    pub(crate) request_time: Duration,
    log: Mutex<RequestLog>,
    faults: Mutex<Faults>,
    pub(crate) clock: ExchangeClock,
    pub(crate) streams: Hub,
}

impl Shared {
    pub(crate) fn new(
        state: State,
        faults: Faults,
        clock: Arc<dyn Clock>,
        streams: Hub,
        request_time: Duration,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            delayed: Mutex::default(),
            request_time,
            log: Mutex::default(),
            faults: Mutex::new(faults),
            clock: ExchangeClock::new(clock),
            streams,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A handler that panicked has sent no answer; the state is still the best there is.
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                state
            }
        }
    }

    /// Lets those who wait for the state have it: who locks it again at once is faster than they
    /// wake up. It must not be locked by the caller.
    pub(crate) fn let_others(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            let began = Instant::now();
            while self.waiting.load(Ordering::Relaxed) > 0 && began.elapsed() < HAND_OVER {
                thread::yield_now();
            }
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request that has been answered, to carry it out later. If too many are kept, the
    /// oldest is carried out now.
    pub(crate) fn delay(&self, request: Request, delay: Delay) {
        let now = self.now();
        let due = match delay {
            Delay::Millis(millis) => {
                let by = i64::try_from(millis).ok().and_then(chrono::Duration::try_milliseconds);
                let at = by.and_then(|by| now.checked_add_signed(by));
                Due::At(at.unwrap_or(DateTime::<Utc>::MAX_UTC))
            }
            Delay::Overtaken(by) => Due::After(by),
        };
        let mut delayed = self.delayed();
        delayed.push(Delayed { due, request });
        if delayed.len() > MAX_DELAYED {
            let oldest = delayed.remove(0);
            drop(delayed);
            let mut state = self.state();
            self.carry_out(&mut state, &oldest.request, now);
            self.streams.publish(&mut state);
        }
    }

    /// Carries out a request now. What it does is published later.
    #[cfg_attr(
        not(feature = "ui"),
        expect(clippy::unused_self, reason = "the journal of the page notes who does what")
    )]
    pub(crate) fn carry_out(
        &self,
        state: &mut State,
        request: &Request,
        now: DateTime<Utc>,
    ) -> Response {
        #[cfg(feature = "ui")]
        self.streams.note_cause(state, Some(request.number));
        let response = request.carry_out(state, now);
        #[cfg(feature = "ui")]
        self.streams.note_cause(state, None);
        response
    }

    /// Lets time pass: carries out the requests that are due, each at its time, and what falls due
    /// in the engine.
    pub(crate) fn advance_to(&self, state: &mut State, now: DateTime<Utc>) {
        loop {
            let mut delayed = self.delayed();
            let times = delayed.iter().enumerate().filter_map(|(place, one)| match one.due {
                Due::At(at) if at <= now => Some((at, place)),
                _ => None,
            });
            let Some((at, place)) = times.min() else { break };
            let request = delayed.remove(place).request;
            drop(delayed);
            self.carry_out(state, &request, at);
        }
        state.advance(Time::from(now));
    }

    /// Carries out the requests that one of the same key has overtaken.
    pub(crate) fn finish_overtaken(
        &self,
        state: &mut State,
        key_id: Option<&str>,
        operation: AnyOperation,
        now: DateTime<Utc>,
    ) {
        let overtaken: Vec<Delayed> = {
            let mut delayed = self.delayed();
            if delayed.is_empty() {
                return;
            }
            let all = std::mem::take(&mut *delayed);
            let (overtaken, kept) = all.into_iter().partition(|one| {
                matches!(one.due, Due::After(by) if by.is_none_or(|by| AnyOperation::Events(by) == operation))
                    && one.request.key_id.as_deref() == key_id
            });
            *delayed = kept;
            overtaken
        };
        for one in overtaken {
            self.carry_out(state, &one.request, now);
        }
    }

    fn delayed(&self) -> MutexGuard<'_, Vec<Delayed>> {
        self.delayed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the exchange's time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns the member behind a key.
    pub(crate) fn account_of(&self, key_id: &str) -> Option<AccountId> {
        self.state().keys.get(key_id).map(|key| key.account)
    }

    /// Checks the signature of a request. Returns the id of the key, and its member.
    pub(crate) fn authenticate(
        &self,
        method: &Method,
        path: &str,
        headers: &http::HeaderMap,
    ) -> Result<(String, Principal), Response> {
        let Some(signed) = Signed::read(headers)? else {
            return Err(Response::signature_missing());
        };
        let (key, rules) = {
            let state = self.state();
            let key = state.keys.get(&signed.key_id);
            (key.map(|key| (Arc::clone(&key.verifier), key.principal())), state.rules())
        };
        let Some((verifier, principal)) = key else {
            return Err(Response::unauthorized("NOT_FOUND"));
        };
        // The path as it came over the wire, still encoded: that is what was signed.
        signed.verify(&verifier, method.as_str(), path, Time::from(self.clock.wall()), rules)?;
        Ok((signed.key_id, principal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RequestRecord {
        RequestRecord {
            operation: "get_markets",
            method: Method::GET,
            path: String::new(),
            query: String::new(),
            signed: false,
            number: 0,
            at: DateTime::UNIX_EPOCH,
            key_id: None,
            faults: Vec::new(),
            status: None,
            took: None,
        }
    }

    #[test]
    fn a_log_numbers_requests_and_forgets_the_oldest() {
        let mut log = RequestLog::default();
        for number in 1..=1_005 {
            assert_eq!(log.add(request()), number);
        }
        assert_eq!(log.iter().map(|record| record.number).next(), Some(6));
        assert_eq!(log.iter().count(), MAX_LOG);
        for forgotten in [0, 5, 1_006, u64::MAX] {
            log.amend(forgotten, |_| panic!("{forgotten} is not there"));
        }
        log.amend(6, |record| record.status = Some(200));
        log.amend(1_005, |record| record.status = Some(404));
        let answered: Vec<_> =
            log.iter().filter_map(|record| Some((record.number, record.status?))).collect();
        assert_eq!(answered, [(6, 200), (1_005, 404)]);
    }
}
