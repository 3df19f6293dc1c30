//! The shell of sockets around the state: routes, bodies, signatures.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, RawPathParams, Request, rejection::RawPathParamsRejection},
    response::{IntoResponse as _, Response as HttpResponse},
    routing::{MethodFilter, MethodRouter, get, on},
};
use http::{HeaderValue, Method, StatusCode, header};
use kalshi_auth::server::KeyPair;
use kalshi_sdk::{
    Operation, OperationId,
    operation::{self, Access},
};
use serde_json::Value;

use crate::{
    BASE_PATH, api,
    faults::FaultKind,
    http::{connection::Cutter, fault_injection, query::Query, request::Call, response::Response},
    shared::{RequestRecord, Shared},
    state::keys::Keys,
    stream::{STREAM_PATH, shell},
};

/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;
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

/// One route for each path of the operation table, and those of what was removed.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let mut paths: BTreeMap<&str, MethodRouter> = BTreeMap::new();
    for id in OperationId::all() {
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
        let router = paths.remove(operation.path).unwrap_or_default().merge(handler);
        paths.insert(operation.path, router);
    }
    for (filter, path) in REMOVED {
        let shared = Arc::clone(shared);
        let handler = on(filter, move |request: Request| async move {
            let (method, path) = (request.method(), request.uri().path());
            let signed = shared.authenticate(method, path, request.headers());
            signed.err().unwrap_or_else(Response::removed_order_path).into_response()
        });
        let router = paths.remove(path).unwrap_or_default().merge(handler);
        paths.insert(path, router);
    }
    let routes = paths.into_iter().fold(Router::new(), |routes, (path, handler)| {
        routes.route(&format!("{BASE_PATH}{path}"), handler)
    });
    let streams = Arc::clone(shared);
    routes
        .route(
            STREAM_PATH,
            get(move |request: Request| async move { shell::upgrade(&streams, request) }),
        )
        .method_not_allowed_fallback(|| async { Response::method_not_allowed() })
        .fallback(elsewhere)
}

/// A path with a slash at the end is sent to the one without; any other is not found.
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
    id: OperationId,
    cutter: &Cutter,
    parameters: &RawPathParams,
    request: Request,
) -> HttpResponse {
    let operation = id.operation();
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    shared.record(RequestRecord {
        operation: operation.id,
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: query.to_owned(),
        signed: parts.headers.contains_key(kalshi_auth::ACCESS_SIGNATURE),
    });
    let mut hits = Vec::new();
    let answered = async {
        let body = read(operation, &parts.headers, body).await?;
        let key_id = if operation.access == Access::Signed {
            let path = parts.uri.path();
            Some(shared.authenticate(&parts.method, path, &parts.headers)?.0)
        } else {
            None
        };
        hits = shared.faults().hit(id, key_id.as_deref());
        if let Some(response) = hits.iter().find_map(fault_injection::instead) {
            return Ok(response);
        }
        if hits.contains(&FaultKind::ResetBefore) {
            fault_injection::cut(cutter).await;
        }
        let pair = match id {
            OperationId::GenerateApiKey => Some(make_pair(body.clone()).await?),
            _ => None,
        };
        let path: Vec<String> = parameters.iter().map(|(_, value)| value.to_owned()).collect();
        let query = Query::new(form(query));
        let mut call = Call {
            operation: id,
            caller: None,
            subtrader: None,
            path: &path,
            query: &query,
            body: &body,
            now: shared.now(),
            pair: pair.as_ref(),
        };
        let mut state = shared.state();
        let response = api::answer(&mut state, &mut call, key_id.as_deref());
        if hits.contains(&FaultKind::Duplicate) {
            // The client gets the first answer only.
            api::answer(&mut state, &mut call, key_id.as_deref());
        }
        shared.streams.publish(&mut state);
        Ok(response)
    };
    let response = answered.await.unwrap_or_else(|refusal: Response| refusal).into_response();
    fault_injection::after(&hits, cutter, response).await
}

/// Reads the body of a request: JSON, or nothing.
async fn read(
    operation: &Operation,
    headers: &http::HeaderMap,
    body: Body,
) -> Result<Value, Response> {
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| Response::too_large())?;
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
