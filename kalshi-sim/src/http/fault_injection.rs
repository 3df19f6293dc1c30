//! Injects the faults of requests on their sockets.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    response::Response as HttpResponse,
};
use futures_util::stream;
use http::header;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    faults::FaultKind,
    http::{connection::Cutter, response::Response},
};

/// Pieces of a slow body.
const PIECES: usize = 8;

/// Returns the answer that a fault gives instead of carrying the request out.
pub(crate) fn instead(fault: &FaultKind) -> Option<Response> {
    match *fault {
        FaultKind::TooManyRequests => Some(Response::too_many_requests()),
        FaultKind::Status { status, html: false } => Some(Response {
            status,
            body: Some(json!({"code": "simulated_fault", "message": "a fault on demand"})),
        }),
        // The text is put in by `after`.
        FaultKind::Status { status, html: true } => Some(Response { status, body: None }),
        _ => None,
    }
}

/// Cuts the connection; nothing after this is done.
pub(crate) async fn cut(cutter: &Cutter) {
    cutter.cut();
    std::future::pending::<()>().await;
}

/// Injects the faults of the answer.
pub(crate) async fn after(
    faults: &[FaultKind],
    cutter: &Cutter,
    response: HttpResponse,
) -> HttpResponse {
    let mut response = response;
    for fault in faults {
        match *fault {
            FaultKind::Latency { millis } => sleep(Duration::from_millis(millis)).await,
            FaultKind::ResetAfter => cut(cutter).await,
            FaultKind::Status { status, html: true } => response = page(status, response),
            FaultKind::SlowBody { millis } => {
                response = pieces(response, Duration::from_millis(millis), PIECES).await;
            }
            FaultKind::TruncatedBody => response = pieces(response, Duration::ZERO, 1).await,
            _ => {}
        }
    }
    response
}

/// Returns the HTML page of a proxy.
fn page(status: u16, mut response: HttpResponse) -> HttpResponse {
    let text = format!("<html><head><title>{status}</title></head><body>{status}</body></html>");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
    *response.body_mut() = Body::from(text);
    response
}

/// Sends a body in pieces with pauses; in one piece that is too short if there shall be only one.
async fn pieces(response: HttpResponse, pause: Duration, count: usize) -> HttpResponse {
    let (mut parts, body) = response.into_parts();
    // The simulator's own answers are in memory already.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let size = bytes.len().div_ceil(count.max(2)).max(1);
    let chunks: Vec<Bytes> = bytes.chunks(size).take(count).map(Bytes::copy_from_slice).collect();
    let cut_short = count == 1;
    let rows = stream::unfold(chunks.into_iter(), move |mut chunks| async move {
        sleep(pause).await;
        match chunks.next() {
            Some(chunk) => Some((Ok(chunk), chunks)),
            // A body that ends too early breaks the connection.
            None if cut_short => Some((Err(io::ErrorKind::ConnectionReset.into()), chunks)),
            None => None,
        }
    });
    let rows: stream::BoxStream<'static, Result<Bytes, io::Error>> = Box::pin(rows);
    HttpResponse::from_parts(parts, Body::from_stream(rows))
}
