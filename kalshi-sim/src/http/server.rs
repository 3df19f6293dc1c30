//! The shell of sockets around the state: routes, bodies, signatures.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, RawPathParams, Request},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, get, on},
};
use chrono::{DateTime, Utc};
use http::{HeaderValue, Method, StatusCode, header};
use kalshi_auth::{Clock, server::KeyPair};
use kalshi_sdk::{
    OPERATIONS, Operation,
    operation::{self, Access},
};
use serde_json::Value;

use crate::{
    BASE_PATH,
    clock::ExchangeClock,
    engine::ids::AccountId,
    exchange::Seen,
    faults::{FaultKind, Faults},
    gate::Signed,
    keys::Keys,
    line::Cutter,
    query::Query,
    reply::Reply,
    state::{Call, Caller, State},
    stream::{self, STREAM_PATH, hub::Hub},
    trouble,
};

/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;
/// How many requests the log keeps.
const MAX_LOG: usize = 1_000;

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    log: Mutex<VecDeque<Seen>>,
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
        // A handler that panicked has answered nobody; the state is still the best there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, VecDeque<Seen>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The member behind a key.
    pub(crate) fn account_of(&self, key_id: &str) -> Option<AccountId> {
        self.state().keys.get(key_id).map(|key| key.account)
    }

    fn note(&self, seen: Seen) {
        let mut log = self.log();
        if log.len() == MAX_LOG {
            log.pop_front();
        }
        log.push_back(seen);
    }
}

/// The clock's time; the end of time if it is beyond chrono's years.
pub(crate) fn at(clock: &dyn Clock) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(clock.now().as_millis()).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// One route for each path of the operation table.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let mut paths: BTreeMap<&str, MethodRouter> = BTreeMap::new();
    for operation in OPERATIONS {
        let shared = Arc::clone(shared);
        let Ok(filter) = MethodFilter::try_from(operation.method.clone()) else { continue };
        let handler = on(
            filter,
            move |ConnectInfo(cutter): ConnectInfo<Cutter>,
                  parameters: RawPathParams,
                  request: Request| async move {
                serve(&shared, operation, &cutter, &parameters, request).await
            },
        );
        let router = paths.remove(operation.path).unwrap_or_default().merge(handler);
        paths.insert(operation.path, router);
    }
    let routes = paths.into_iter().fold(Router::new(), |routes, (path, handler)| {
        routes.route(&format!("{BASE_PATH}{path}"), handler)
    });
    let streams = Arc::clone(shared);
    routes
        .route(
            STREAM_PATH,
            get(move |request: Request| async move { stream::shell::upgrade(&streams, request) }),
        )
        .method_not_allowed_fallback(|| async { respond(Reply::method_not_allowed()) })
        .fallback(elsewhere)
}

/// A path with a slash at the end is sent to the one without; any other is not found.
async fn elsewhere(request: Request) -> Response {
    let path = request.uri().path();
    match path.strip_suffix('/') {
        Some(path) if path.starts_with(BASE_PATH) => {
            let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
            if let Ok(location) = HeaderValue::from_str(path) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        _ => respond(Reply::not_found()),
    }
}

async fn serve(
    shared: &Arc<Shared>,
    operation: &'static Operation,
    cutter: &Cutter,
    parameters: &RawPathParams,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    shared.note(Seen {
        operation: operation.id,
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: query.to_owned(),
        signed: parts.headers.contains_key(kalshi_auth::ACCESS_SIGNATURE),
    });
    let mut hits = Vec::new();
    let answered = async {
        let body = read(operation, &parts.headers, body).await?;
        let key_id = authenticate(shared, operation, &parts)?;
        hits = shared.faults().hit(operation.id, key_id.as_deref());
        if let Some(reply) = hits.iter().find_map(trouble::instead) {
            return Ok(reply);
        }
        if hits.contains(&FaultKind::ResetBefore) {
            trouble::cut(cutter).await;
        }
        let pair = match operation.id {
            "generate_api_key" => Some(make_pair(body.clone()).await?),
            _ => None,
        };
        let path: Vec<String> = parameters.iter().map(|(_, value)| value.to_owned()).collect();
        let query = Query::new(form(query));
        let mut call = Call {
            operation,
            caller: None,
            path: &path,
            query: &query,
            body: &body,
            now: shared.now(),
            pair: pair.as_ref(),
        };
        let mut state = shared.state();
        let reply = state.handle(&mut call, key_id.as_deref());
        if hits.contains(&FaultKind::Duplicate) {
            // Whoever sent it sees the first answer only.
            state.handle(&mut call, key_id.as_deref());
        }
        shared.streams.publish(&mut state);
        Ok(reply)
    };
    let response = respond(answered.await.unwrap_or_else(|refusal: Reply| refusal));
    trouble::after(&hits, cutter, response).await
}

/// Checks the headers of a private operation; gives the id of the key.
fn authenticate(
    shared: &Arc<Shared>,
    operation: &Operation,
    parts: &http::request::Parts,
) -> Result<Option<String>, Reply> {
    if operation.access != Access::Signed {
        return Ok(None);
    }
    let Some(signed) = Signed::read(&parts.headers)? else {
        return Err(Reply::signature_missing());
    };
    let key = shared.state().keys.get(&signed.key_id).map(|key| Arc::clone(&key.verifier));
    let Some(key) = key else { return Err(Reply::unauthorized("NOT_FOUND")) };
    // The path as it came over the wire, still encoded: that is what was signed.
    signed.verify(&key, parts.method.as_str(), parts.uri.path(), shared.clock.real().now())?;
    Ok(Some(signed.key_id))
}

/// Reads the body of a request: JSON, or nothing.
async fn read(
    operation: &Operation,
    headers: &http::HeaderMap,
    body: Body,
) -> Result<Value, Reply> {
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| Reply::too_large())?;
    if bytes.is_empty() {
        // The exchange has been seen to refuse a write without any body, if it may have one.
        let typed = headers.contains_key(header::CONTENT_TYPE);
        return match (&operation.method, operation.body) {
            (_, operation::Body::None) | (&Method::GET | &Method::DELETE, _) => Ok(Value::Null),
            _ if typed => Ok(Value::Object(serde_json::Map::new())),
            _ => Err(Reply::invalid_content_type()),
        };
    }
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    if !json {
        return Err(Reply::invalid_content_type());
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Reply::bad_request(&format!("the body is no JSON: {error}")))
}

/// Makes a key pair off the threads that serve others.
async fn make_pair(body: Value) -> Result<KeyPair, Reply> {
    match tokio::task::spawn_blocking(move || Keys::make_pair(&body)).await {
        Ok(pair) => pair,
        Err(_) => Err(Reply::bad_request("the key pair could not be made")),
    }
}

/// Decodes `a=1&b=2`.
fn form(query: &str) -> Vec<(String, String)> {
    // A query that is no form gives no parameters.
    serde_urlencoded::from_str(query).unwrap_or_default()
}

/// The account that signed a handshake.
pub(crate) fn caller(shared: &Shared, request: &Request) -> Result<Caller, Reply> {
    let Some(signed) = Signed::read(request.headers())? else {
        return Err(Reply::signature_missing());
    };
    let key = {
        let state = shared.state();
        let key = state.keys.get(&signed.key_id);
        key.map(|key| (Arc::clone(&key.verifier), key.caller()))
    };
    let Some((key, caller)) = key else { return Err(Reply::unauthorized("NOT_FOUND")) };
    signed.verify(
        &key,
        request.method().as_str(),
        request.uri().path(),
        shared.clock.real().now(),
    )?;
    Ok(caller)
}

pub(crate) fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match reply.body {
        None => status.into_response(),
        Some(body) => {
            let json = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, json)], body.to_string()).into_response()
        }
    }
}
