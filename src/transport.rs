//! From a request to an answer: the only place that knows reqwest-middleware.
//!
//! progenitor's hooks are not used. They can only fail with a `reqwest::Error`, which nobody else
//! can make, and its reading of a body loses the status; so the generated `send` hands the request
//! to [`Client::call`] instead, and whatever goes wrong from there is one [`Error`].

use bytes::{Bytes, BytesMut};
use http::{Extensions, HeaderMap, StatusCode};
use kalshi_auth::{AuthError, SigningPolicy};
use progenitor_client::ResponseValue;
use reqwest::Request;
use serde::de::DeserializeOwned;

use crate::{
    client::Client,
    error::{self, Error},
    operation::{Access, Operation},
    values::wipe,
};

/// A body below this size is looked at twice: an error inside a success is small. A larger one is
/// looked at again if it does not decode: a large body that does is no error.
const ENVELOPE_LIMIT: usize = 4 * 1024;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    /// Sends a request and decodes its answer.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<T>, Error> {
        let Answer { status, headers, body } = self.exchange(operation, request).await?;
        if let Some(observer) = self.drift() {
            observer.observe(operation, &body);
        }
        let result = match decode(operation, status, &headers, &body) {
            Ok(value) => Ok(ResponseValue::new(value, status, headers)),
            Err(_) if error::is_envelope(&body) => {
                Err(Error::answer(operation, status, &headers, &body))
            }
            Err(error) => Err(error),
        };
        if operation.secret {
            wipe(body);
        }
        result
    }

    /// Sends a request whose success has no body to decode.
    pub(crate) async fn call_empty(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<()>, Error> {
        let Answer { status, headers, body } = self.exchange(operation, request).await?;
        // Nothing is decoded here, so that a large error would pass for a success.
        if error::is_envelope(&body) {
            return Err(Error::answer(operation, status, &headers, &body));
        }
        Ok(ResponseValue::new((), status, headers))
    }

    async fn exchange(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<Answer, Error> {
        let mut extensions = Extensions::new();
        extensions.insert(operation);
        extensions.insert(match operation.access {
            // A token is no signature; no operation of this document needs one.
            Access::Public | Access::Bearer => SigningPolicy::Never,
            Access::Signed => SigningPolicy::Required,
        });
        let response = self
            .stack()
            .execute_with_extensions(request, &mut extensions)
            .await
            .map_err(|error| not_answered(operation, error))?;
        let status = response.status();
        let headers = response.headers().clone();
        self.note_server_date(&headers);
        let body = self.read(operation, response).await?;
        tracing::debug!(operation = operation.id, status = status.as_u16(), bytes = body.len());
        if !status.is_success() || (body.len() < ENVELOPE_LIMIT && error::is_envelope(&body)) {
            return Err(Error::answer(operation, status, &headers, &body));
        }
        Ok(Answer { status, headers, body })
    }

    /// Reads the body, up to the limit.
    async fn read(
        &self,
        operation: &'static Operation,
        mut response: reqwest::Response,
    ) -> Result<Bytes, Error> {
        let status = response.status();
        let limit = self.max_response_bytes();
        let announced = response.content_length().unwrap_or(0);
        if announced > limit as u64 {
            return Err(Error::too_large(operation, status, limit));
        }
        // What is announced is allocated at once only while it is small: a server could lie.
        let mut body =
            BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0).min(1 << 20));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    return Err(Error::too_large(operation, status, limit));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body.freeze()),
                // A refusal stays one if its explanation is cut off.
                Err(_) if status.is_client_error() => return Ok(body.freeze()),
                Err(error) => return Err(Error::no_answer(operation, error)),
            }
        }
    }
}

/// Decodes the body of a success.
///
/// The bytes are checked as UTF-8 once and then read as text, which is a third faster than letting
/// the reader check every string. The way to the place of a failure is worked out only after one.
fn decode<T: DeserializeOwned>(
    operation: &'static Operation,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<T, Error> {
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let failed = match serde_path_to_error::deserialize(&mut reader) {
        // The value reads, so something must stand behind it.
        Ok(value) => match reader.end() {
            Ok(()) => return Ok(value),
            Err(error) => trailing(error),
        },
        Err(failed) => failed,
    };
    Err(Error::decode(operation, status, headers, body, failed))
}

/// Gives an error behind the value the form of one within it, at the root.
fn trailing(error: serde_json::Error) -> serde_path_to_error::Error<serde_json::Error> {
    let track = serde_path_to_error::Track::new();
    serde_path_to_error::Error::new(track.path(), error)
}

fn not_answered(operation: &'static Operation, error: reqwest_middleware::Error) -> Error {
    match error {
        reqwest_middleware::Error::Reqwest(error) => Error::no_answer(operation, error),
        reqwest_middleware::Error::Middleware(error) => match error.downcast::<AuthError>() {
            Ok(error) => Error::auth(operation, error.into()),
            Err(error) => Error::middleware(operation, error.into()),
        },
    }
}

/// Encodes one path parameter, so that any id arrives unharmed.
///
/// An empty one is refused: it would turn "cancel one order" into "cancel all orders". So are `.`
/// and `..`, which every URL parser takes for directions.
pub(crate) fn path_segment(
    operation: &'static Operation,
    name: &str,
    text: &str,
) -> Result<String, Error> {
    if matches!(text, "" | "." | "..") {
        return Err(Error::invalid_request(
            operation,
            format!("the path parameter `{name}` is {text:?}, which would name another resource"),
        ));
    }
    // progenitor leaves the backslash as it is, and URL parsers take that for a slash.
    Ok(progenitor_client::encode_path(text).replace('\\', "%5C"))
}
