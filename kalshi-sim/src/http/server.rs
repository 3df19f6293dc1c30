//! The shell of sockets around the state: routes, bodies, signatures.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Path, RawPathParams, Request, rejection::RawPathParamsRejection},
    response::{IntoResponse as _, Response as HttpResponse},
    routing::{MethodFilter, MethodRouter, get, on},
};
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use kalshi_auth::server::KeyPair;
#[cfg(feature = "perps")]
use kalshi_sdk::klear;
use kalshi_sdk::{
    Operation, OperationId,
    operation::{self, Access},
};
use serde_json::{Value, json};

use crate::{
    BASE_PATH,
    any_operation::AnyOperation,
    faults::FaultKind,
    http::{connection::Cutter, fault_injection, query::Query, response::Response},
    shared::{Request as Arrived, RequestRecord, Shared},
    state::keys::Keys,
    stream::{STREAM_PATH, hub::index_value, product::Product, session::INDICES, shell},
};
#[cfg(feature = "perps")]
use crate::{
    perps::klear::api::reports::{self, REPORTS_PATH},
    stream::PERPS_STREAM_PATH,
};

/// The cost of a request that is passed on to CF Benchmarks, in reads: 50 tokens.
const CF_BENCHMARKS_READS: usize = 5;
/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;
/// The limits of size and time within which a refused body is read and discarded.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);
/// The writes of orders that the exchange has removed, below [`BASE_PATH`]. It answers them with
/// 410; the reads beside them are still there.
const REMOVED: [(MethodFilter, &str); 6] = [
    (MethodFilter::POST, "/portfolio/orders"),
    (MethodFilter::DELETE, "/portfolio/orders/{order_id}"),
    (MethodFilter::POST, "/portfolio/orders/{order_id}/amend"),
    (MethodFilter::POST, "/portfolio/orders/{order_id}/decrease"),
    (MethodFilter::POST, "/portfolio/orders/batched"),
    (MethodFilter::DELETE, "/portfolio/orders/batched"),
];

/// Returns one route for each path of the operation table, and those of removed operations.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let mut paths: BTreeMap<String, MethodRouter> = BTreeMap::new();
    for id in AnyOperation::all() {
        let operation = id.operation();
        let shared = Arc::clone(shared);
        let Ok(filter) = MethodFilter::try_from(operation.method.clone()) else { continue };
        let handler = on(
            filter,
            move |ConnectInfo(cutter): ConnectInfo<Cutter>,
                  parameters: Result<RawPathParams, RawPathParamsRejection>,
                  request: Request| async move {
                match parameters {
                    Ok(parameters) => serve(&shared, id, &cutter, &parameters, request).await,
                    Err(error) => Response::bad_request(&error.body_text()).into_response(),
                }
            },
        );
        let path = format!("{}{}", id.base_path(), operation.path);
        let router = paths.remove(&path).unwrap_or_default().merge(handler);
        paths.insert(path, router);
    }
    for (filter, path) in REMOVED {
        let shared = Arc::clone(shared);
        let handler = on(filter, move |request: Request| async move {
            let (method, path) = (request.method(), request.uri().path());
            let signed = shared.authenticate(method, path, request.headers());
            signed.err().unwrap_or_else(Response::removed_order_path).into_response()
        });
        let path = format!("{BASE_PATH}{path}");
        let router = paths.remove(&path).unwrap_or_default().merge(handler);
        paths.insert(path, router);
    }
    let routes = paths
        .into_iter()
        .fold(Router::new(), |routes, (path, handler)| routes.route(&path, handler));
    let (streams, indices) = (Arc::clone(shared), Arc::clone(shared));
    #[cfg(feature = "perps")]
    let routes = {
        let streams = Arc::clone(shared);
        let upgrade = move |request: Request| async move {
            shell::upgrade(&streams, Product::Perps, request)
        };
        let reports = Arc::clone(shared);
        let report = move |request: Request| async move { report(&reports, &request) };
        routes
            .route(PERPS_STREAM_PATH, get(upgrade))
            .route(&format!("{REPORTS_PATH}/{{*path}}"), get(report))
    };
    routes
        .route(
            &format!("{BASE_PATH}/cfbenchmarks/{{*path}}"),
            get(move |Path(path): Path<String>, request: Request| async move {
                cf_benchmarks(&indices, &path, &request).unwrap_or_else(|refused| refused)
            }),
        )
        .route(
            STREAM_PATH,
            get(move |request: Request| async move {
                shell::upgrade(&streams, Product::Events, request)
            }),
        )
        .method_not_allowed_fallback(|| async { Response::method_not_allowed() })
        .fallback(elsewhere)
}

/// Answers what the exchange passes on to CF Benchmarks, which its document does not have: the value
/// of an index now, as the streams send it. The paths are those of CF Benchmarks; what is in a
/// payload is theirs, and only its frame is the exchange's.
fn cf_benchmarks(shared: &Shared, path: &str, request: &Request) -> Result<Response, Response> {
    let (method, uri) = (request.method(), request.uri());
    let (_, caller) = shared.authenticate(method, uri.path(), request.headers())?;
    let now = shared.now();
    let mut state = shared.state();
    if !state.admit_reads(caller.account, CF_BENCHMARKS_READS, now.into()) {
        return Err(Response::too_many_requests());
    }
    drop(state);
    if path.rsplit('/').next() != Some("values") {
        return Err(Response::not_found());
    }
    let query = Query::new(form(uri.query().unwrap_or_default()));
    let id = query.get("id").ok_or_else(|| Response::bad_request("id is required"))?;
    if !INDICES.contains(&id) {
        return Err(Response::not_found());
    }
    let millis = now.timestamp_millis();
    let row = json!({"value": index_value(id, millis.div_euclid(1_000)), "time": millis});
    Ok(Response::ok(json!({"data": {"serverTime": now, "payload": [row]}})))
}

/// Answers with the file of a report, which its link lets anybody read for a while. The log of
/// requests has nothing of it: the link is a secret.
#[cfg(feature = "perps")]
fn report(shared: &Shared, request: &Request) -> HttpResponse {
    let uri = request.uri();
    let query = Query::new(form(uri.query().unwrap_or_default()));
    let file = reports::file(&shared.state(), uri.path(), &query, shared.now().into());
    match file {
        Ok(text) => {
            let csv = HeaderValue::from_static("text/csv; charset=utf-8");
            ([(header::CONTENT_TYPE, csv)], text).into_response()
        }
        Err(refusal) => refusal.without_frame().into_response(),
    }
}

/// Redirects a path with a slash at the end to the one without; answers 404 for any other.
async fn elsewhere(request: Request) -> HttpResponse {
    let path = request.uri().path();
    match path.strip_suffix('/') {
        Some(path) if path.starts_with(BASE_PATH) => {
            let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
            if let Ok(location) = HeaderValue::from_str(path) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        _ => Response::not_found().into_response(),
    }
}

async fn serve(
    shared: &Arc<Shared>,
    id: AnyOperation,
    cutter: &Cutter,
    parameters: &RawPathParams,
    request: Request,
) -> HttpResponse {
    let operation = id.operation();
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let began = Instant::now();
    let at = shared.now();
    let number = shared.log().add(RequestRecord {
        operation: operation.id,
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: query.to_owned(),
        signed: parts.headers.contains_key(kalshi_auth::ACCESS_SIGNATURE),
        number: 0,
        at,
        key_id: None,
        faults: Vec::new(),
        status: None,
        took: None,
    });
    let mut hits = Vec::new();
    let answered = async {
        let body = read(operation, &parts.headers, body, shared.request_time).await?;
        let key_id = match operation.access {
            Access::Signed => {
                let path = parts.uri.path();
                Some(shared.authenticate(&parts.method, path, &parts.headers)?.0)
            }
            #[cfg(feature = "perps")]
            Access::Bearer => Some(shared.state().perps.access.authenticate(&parts.headers)?),
            _ => None,
        };
        hits = shared.faults().hit(id, key_id.as_deref());
        shared.log().amend(number, |record| {
            record.key_id.clone_from(&key_id);
            record.faults.clone_from(&hits);
        });
        if let Some(response) = hits.iter().find_map(fault_injection::instead) {
            return Ok(response);
        }
        if hits.contains(&FaultKind::ResetBefore) {
            fault_injection::cut(cutter).await;
        }
        let pair = if generates_key(id) { Some(make_pair(body.clone()).await?) } else { None };
        let path = parameters.iter().map(|(_, value)| value.to_owned()).collect();
        let query = Query::new(form(query));
        let request = Arrived {
            #[cfg(feature = "ui")]
            number,
            operation: id,
            key_id,
            path,
            query,
            body,
            pair,
        };
        if let Some(delay) = hits.iter().find_map(|hit| hit.delay()) {
            shared.delay(request, delay);
            return Ok(Response::gateway_timeout());
        }
        let now = shared.now();
        let mut state = shared.state();
        shared.advance_to(&mut state, now);
        let response = shared.carry_out(&mut state, &request, now);
        if hits.contains(&FaultKind::Duplicate) {
            // The client gets the first answer only.
            shared.carry_out(&mut state, &request, now);
        }
        shared.finish_overtaken(&mut state, request.key_id.as_deref(), id, now);
        shared.streams.publish(&mut state);
        Ok(response)
    };
    let response = answered.await.unwrap_or_else(|refusal: Response| refusal);
    #[cfg(feature = "perps")]
    let response = match id {
        AnyOperation::Klear(_) => response.without_frame(),
        _ => response,
    };
    let response = response.into_response();
    let response = fault_injection::after(&hits, cutter, response).await;
    shared.log().amend(number, |record| {
        record.status = Some(response.status().as_u16());
        record.took = Some(began.elapsed());
    });
    response
}

/// Reads the body of a request: JSON, or nothing.
async fn read(
    operation: &Operation,
    headers: &http::HeaderMap,
    body: Body,
    within: Duration,
) -> Result<Value, Response> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let is_too_large = |length: &str| length.parse().is_ok_and(|length: usize| length > MAX_BODY);
    if announced.is_some_and(is_too_large) {
        tokio::spawn(discard(body));
        return Err(Response::too_large());
    }
    let bytes = match tokio::time::timeout(within, to_bytes(body, MAX_BODY)).await {
        Ok(bytes) => bytes.map_err(|_| Response::too_large())?,
        Err(_) => return Err(Response::request_timeout()),
    };
    if bytes.is_empty() {
        // The exchange has been seen to refuse a write without any body, if it may have one.
        let typed = headers.contains_key(header::CONTENT_TYPE);
        return match (&operation.method, operation.body) {
            (_, operation::Body::None) | (&Method::GET | &Method::DELETE, _) => Ok(Value::Null),
            _ if typed => Ok(Value::Object(serde_json::Map::new())),
            _ => Err(Response::invalid_content_type()),
        };
    }
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    if !json {
        return Err(Response::invalid_content_type());
    }
    let body: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Response::bad_request(&format!("the body is invalid JSON: {error}")))?;
    if operation.body != operation::Body::None && !body.is_object() {
        return Err(Response::bad_request("the body must be a JSON object"));
    }
    Ok(body)
}

/// Reads on what a client sends after it has been refused: a client that is still sending when its
/// connection is closed may never see the answer.
async fn discard(body: Body) {
    let mut rest = body.into_data_stream();
    let reading = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(part)) = rest.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

/// Reports whether an operation answers with a key pair that it makes.
fn generates_key(id: AnyOperation) -> bool {
    match id {
        AnyOperation::Events(id) => id == OperationId::GenerateApiKey,
        #[cfg(feature = "perps")]
        AnyOperation::Klear(id) => id == klear::OperationId::GenerateMarginFcmApiKey,
        #[cfg(feature = "perps")]
        AnyOperation::Perps(_) => false,
    }
}

/// Makes a key pair off the threads that serve others.
async fn make_pair(body: Value) -> Result<KeyPair, Response> {
    match tokio::task::spawn_blocking(move || Keys::make_pair(&body)).await {
        Ok(pair) => pair,
        Err(_) => Err(Response::bad_request("the key pair could not be made")),
    }
}

/// Decodes `a=1&b=2`.
fn form(query: &str) -> Vec<(String, String)> {
    // A query that is no form gives no parameters.
    serde_urlencoded::from_str(query).unwrap_or_default()
}
