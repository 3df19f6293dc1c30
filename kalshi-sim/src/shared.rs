//! The state behind its lock, the clock, the faults and the streams, which all connections share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use http::Method;
use kalshi_auth::Clock;

use crate::{
    auth::Signed,
    clock::ExchangeClock,
    engine::{ids::AccountId, principal::Principal},
    faults::Faults,
    http::response::Response,
    state::State,
    stream::hub::Hub,
};

/// The number of requests that the log keeps.
const MAX_LOG: usize = 1_000;

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

/// The parts of a running exchange that its connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    log: Mutex<VecDeque<RequestRecord>>,
    faults: Mutex<Faults>,
    pub(crate) clock: ExchangeClock,
    pub(crate) streams: Hub,
}

impl Shared {
    pub(crate) fn new(state: State, faults: Faults, clock: Arc<dyn Clock>, streams: Hub) -> Self {
        Self {
            state: Mutex::new(state),
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
        let key = {
            let state = self.state();
            let key = state.keys.get(&signed.key_id);
            key.map(|key| (Arc::clone(&key.verifier), key.principal()))
        };
        let Some((verifier, principal)) = key else {
            return Err(Response::unauthorized("NOT_FOUND"));
        };
        // The path as it came over the wire, still encoded: that is what was signed.
        signed.verify(&verifier, method.as_str(), path, self.clock.real().now())?;
        Ok((signed.key_id, principal))
    }
}
