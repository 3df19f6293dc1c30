//! Responses, in the words of the exchange.

use axum::response::{IntoResponse, Response as HttpResponse};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::engine::types::{Refusal, RefusalKind};

/// One answer: a status and a body, or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
}

/// The answer of a handler: both sides are responses, the second one a refusal.
pub(crate) type HandlerResult = Result<Response, Response>;

impl Response {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body) }
    }

    pub(crate) fn created(body: Value) -> Self {
        Self { status: 201, body: Some(body) }
    }

    pub(crate) fn no_content() -> Self {
        Self { status: 204, body: None }
    }

    /// Returns a refusal with a code of its own.
    pub(crate) fn nested(status: u16, code: &str, message: &str, details: Option<&str>) -> Self {
        let mut error = json!({"code": code, "message": message});
        if let Some(details) = details {
            error["details"] = details.into();
        }
        Self { status, body: Some(json!({"error": error})) }
    }

    pub(crate) fn bad_request(message: &str) -> Self {
        Self::nested(400, "invalid_parameters", message, None)
    }

    pub(crate) fn invalid_content_type() -> Self {
        Self::nested(400, "invalid_content_type", "send application/json", None)
    }

    /// Returns 401 with the details by which clients tell the causes apart.
    pub(crate) fn unauthorized(details: &str) -> Self {
        Self::nested(401, "authentication_error", "authentication error", Some(details))
    }

    pub(crate) fn timestamp_expired() -> Self {
        Self::nested(401, "header_timestamp_expired", "header timestamp expired", None)
    }

    pub(crate) fn signature_missing() -> Self {
        Self::nested(
            401,
            "signature_is_missing_from_headers",
            "signature is missing from headers",
            None,
        )
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::nested(403, "forbidden", message, None)
    }

    pub(crate) fn not_found() -> Self {
        Self::nested(404, "not_found", "not found", None)
    }

    /// Returns 409: the state of the object does not allow the request.
    pub(crate) fn conflict(code: &str, message: &str) -> Self {
        Self::nested(409, code, message, None)
    }

    /// Returns 429, in the bare form that the exchange sends.
    pub(crate) fn too_many_requests() -> Self {
        Self { status: 429, body: Some(json!({"error": "too many requests"})) }
    }

    pub(crate) fn unavailable() -> Self {
        Self::nested(503, "service_unavailable", "service unavailable", None)
    }

    pub(crate) fn request_timeout() -> Self {
        Self::nested(408, "request_timeout", "the request did not arrive in time", None)
    }

    /// Returns 504: the request may have been carried out, or may still be.
    pub(crate) fn gateway_timeout() -> Self {
        Self::nested(504, "gateway_timeout", "gateway timeout", None)
    }

    /// Returns 410: the order writes of the API's first version are gone.
    pub(crate) fn removed_order_path() -> Self {
        Self::nested(
            410,
            "deprecated_v1_order_endpoint",
            "this endpoint is gone: place, change and cancel orders under /portfolio/events/orders",
            None,
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::nested(405, "method_not_allowed", "method not allowed", None)
    }

    pub(crate) fn too_large() -> Self {
        Self::nested(413, "request_too_large", "the body is larger than 1 MiB", None)
    }

    /// Returns a refusal as the clearing house sends it: the error without its frame.
    #[cfg(feature = "perps")]
    pub(crate) fn without_frame(mut self) -> Self {
        if let Some(Value::Object(body)) = &mut self.body
            && body.get("error").is_some_and(Value::is_object)
        {
            self.body = body.remove("error");
        }
        self
    }

    /// Returns the error inside, for the row of a batch.
    pub(crate) fn into_error(self) -> Value {
        match self.body {
            Some(Value::Object(mut body)) => body.remove("error").unwrap_or(Value::Object(body)),
            other => other.unwrap_or_else(|| json!({})),
        }
    }
}

/// The one place that turns the engine's refusals into answers.
impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid => 400,
            RefusalKind::NotFound => 404,
            RefusalKind::Conflict => 409,
            RefusalKind::Unavailable => 503,
        };
        Self::nested(status, refusal.code, &refusal.message, None)
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self.body {
            None => status.into_response(),
            Some(body) => {
                let json = HeaderValue::from_static("application/json");
                (status, [(header::CONTENT_TYPE, json)], body.to_string()).into_response()
            }
        }
    }
}
