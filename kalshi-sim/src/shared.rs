//! The state behind its lock, the clock, the faults and the streams, which all connections share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
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
    faults::{Delay, Faults},
    http::{lenient, query::Query, request::Call, response::Response},
    state::State,
    stream::hub::Hub,
};

/// The number of requests that the log keeps.
const MAX_LOG: usize = 1_000;
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
}

/// A request that has arrived whole and whose signature is good.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) operation: AnyOperation,
    /// `None` for an unsigned request to a public operation.
    pub(crate) key_id: Option<String>,
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) body: Value,
    pub(crate) pair: Option<KeyPair>,
}

impl Request {
    pub(crate) fn carry_out(&self, state: &mut State, now: DateTime<Utc>) -> Response {
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

/// The parts of a running exchange that its connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// In the order in which they came. Locked after the state, if at all.
    delayed: Mutex<Vec<Delayed>>,
    /// The time in which a request must arrive.
    pub(crate) request_time: Duration,
    log: Mutex<VecDeque<RequestRecord>>,
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, VecDeque<RequestRecord>> {
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
            oldest.request.carry_out(&mut state, now);
            self.streams.publish(&mut state);
        }
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
            request.carry_out(state, at);
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
            one.request.carry_out(state, now);
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

    /// Adds a request to the log.
    pub(crate) fn record(&self, request: RequestRecord) {
        let mut log = self.log();
        if log.len() == MAX_LOG {
            log.pop_front();
        }
        log.push_back(request);
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
