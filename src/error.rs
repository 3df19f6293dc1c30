//! One error: what happened, and whether the request may have taken effect.

use std::{error::Error as StdError, fmt, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use crate::operation::Operation;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a call failed.
///
/// Whoever moves money asks [`effect`](Self::effect) first: it tells "safe to send again" from
/// "reconcile first". [`kind`](Self::kind) and the predicates say what happened,
/// [`code`](Self::code) and [`message`](Self::message) what the exchange said of it.
///
/// `Display` speaks of one layer; what lies below is in [`source`](StdError::source). Neither ever
/// shows a key, a signature or a secret response.
pub struct Error(Box<Inner>);

#[derive(Default)]
struct Inner {
    kind: ErrorKind,
    effect: Effect,
    operation: Option<&'static Operation>,
    status: Option<StatusCode>,
    code: Option<String>,
    message: Option<String>,
    details: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    json_path: Option<String>,
    excerpt: Option<String>,
    text: Option<String>,
    source: Option<Source>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client is set up wrongly. Nothing was sent.
    #[default]
    Config,
    /// A parameter or body cannot be sent. Nothing was sent.
    InvalidRequest,
    /// No credentials, or they could not sign. Nothing was sent.
    Auth,
    /// No connection came about. Nothing was sent.
    Connect,
    /// No complete answer came in time.
    Timeout,
    /// The connection broke.
    Transport,
    /// A middleware of the caller's failed.
    Middleware,
    /// The exchange answered with an error.
    Api,
    /// The exchange answered with a redirect, which is never followed: its signature would be
    /// wrong, and the headers would go to a host that was not configured.
    Redirect,
    /// The answer is a success but does not read as documented.
    Decode,
    /// The answer is larger than the client was set up to take.
    TooLarge,
    /// A list gave a cursor that it had given before.
    CursorLoop,
}

/// Whether the request may have been carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// It never left: send it again when the cause is mended.
    NotSent,
    /// The exchange refused it and did nothing: send it again when the cause is mended.
    Rejected,
    /// It may have been carried out. Read the state back before sending it again.
    #[default]
    Unknown,
}

impl Error {
    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the request may have been carried out.
    ///
    /// 4xx answers are [`Rejected`](Effect::Rejected), 429 included: the exchange checks its limits
    /// before it acts. So are redirects that say "elsewhere": 301, 307 and 308. 5xx answers, other
    /// redirects, timeouts, broken connections and successes that do not decode are
    /// [`Unknown`](Effect::Unknown).
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// The status of the answer, if one came.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The exchange's code, such as `authentication_error`. Not a closed set, and of mixed case:
    /// decide by status first, by code second, never by message.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The exchange's message.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The exchange's details, such as `INCORRECT_API_KEY_SIGNATURE`; JSON where it is no text.
    pub fn details(&self) -> Option<&str> {
        self.0.details.as_deref()
    }

    /// The operation, for instance `get_markets`; `raw` for a raw request.
    pub fn operation_id(&self) -> Option<&'static str> {
        self.0.operation.map(|operation| operation.id)
    }

    /// The id that the server or a proxy gave the request, if it said one. Quote it to support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How long to wait, if the answer said so. The exchange does not: after a 429 wait for
    /// cost ÷ refill rate (`get_account_api_limits`), then back off with jitter.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Where in the answer decoding failed: `markets[3].status`.
    pub fn json_path(&self) -> Option<&str> {
        self.0.json_path.as_deref()
    }

    /// The beginning of the answer, at most 256 characters; `None` where it may hold a secret.
    pub fn excerpt(&self) -> Option<&str> {
        self.0.excerpt.as_deref()
    }

    /// 429: the token bucket was empty. Nothing was done.
    pub fn is_rate_limited(&self) -> bool {
        self.has_status(StatusCode::TOO_MANY_REQUESTS)
    }

    /// 404.
    ///
    /// # Troubleshooting
    ///
    /// The object may be missing, belong to another subaccount or shard, be too new (a market just
    /// created), or have moved to the `historical` operations.
    pub fn is_not_found(&self) -> bool {
        self.has_status(StatusCode::NOT_FOUND)
    }

    /// 401: the exchange did not accept the signature.
    ///
    /// # Troubleshooting
    ///
    /// [`details`](Self::details) and [`code`](Self::code) tell the causes apart: `NOT_FOUND` means
    /// that the key id is unknown here (wrong id, or the key of another environment),
    /// `INCORRECT_API_KEY_SIGNATURE` that key id and private key do not belong together or a proxy
    /// rewrote the path, `header_timestamp_expired` that the clock is off by more than a few
    /// seconds.
    pub fn is_unauthorized(&self) -> bool {
        self.has_status(StatusCode::UNAUTHORIZED)
    }

    /// 403: the key lacks the scope, the account the tier, or the key is bound to a subaccount.
    pub fn is_forbidden(&self) -> bool {
        self.has_status(StatusCode::FORBIDDEN)
    }

    /// 409: a client id was used before, or the state does not allow it.
    ///
    /// # Troubleshooting
    ///
    /// After a second sending with the same `client_order_id` or `client_transfer_id` this is good
    /// news: the first one was carried out. The answer does not show it; look it up.
    pub fn is_conflict(&self) -> bool {
        self.has_status(StatusCode::CONFLICT)
    }

    /// No complete answer came in time.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }

    /// The answer was a success but did not read as documented.
    pub fn is_decode(&self) -> bool {
        self.0.kind == ErrorKind::Decode
    }

    /// Credentials are missing or unusable. Nothing was sent.
    pub fn is_auth(&self) -> bool {
        self.0.kind == ErrorKind::Auth
    }

    fn has_status(&self, status: StatusCode) -> bool {
        self.0.status == Some(status)
    }
}

/// How the rest of the crate makes errors.
impl Error {
    fn before_sending(
        kind: ErrorKind,
        operation: Option<&'static Operation>,
        text: String,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            effect: Effect::NotSent,
            operation,
            text: Some(text),
            ..Inner::default()
        }))
    }

    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self::before_sending(ErrorKind::Config, None, text.into())
    }

    pub(crate) fn invalid_request(operation: &'static Operation, text: impl Into<String>) -> Self {
        Self::before_sending(ErrorKind::InvalidRequest, Some(operation), text.into())
    }

    pub(crate) fn auth(operation: &'static Operation, source: Source) -> Self {
        // The cause says what to do about it, so it must not hide behind `source`.
        let text = format!("nothing was sent: {source}");
        Self::before_sending(ErrorKind::Auth, Some(operation), text).with_source(source)
    }

    /// The request could not even be put together.
    pub(crate) fn not_built(operation: &'static Operation, source: reqwest::Error) -> Self {
        let text = "the request cannot be put together".to_owned();
        Self::before_sending(ErrorKind::InvalidRequest, Some(operation), text)
            .with_source(source.without_url().into())
    }

    /// The request went (perhaps) out and no complete answer came back.
    pub(crate) fn no_answer(operation: &'static Operation, source: reqwest::Error) -> Self {
        let (kind, effect, text) = if source.is_connect() {
            (ErrorKind::Connect, Effect::NotSent, "no connection came about")
        } else if source.is_builder() {
            (ErrorKind::InvalidRequest, Effect::NotSent, "the request cannot be put together")
        } else if source.is_timeout() {
            (ErrorKind::Timeout, Effect::Unknown, "no complete answer came in time")
        } else {
            (ErrorKind::Transport, Effect::Unknown, "the connection broke")
        };
        Self(Box::new(Inner {
            kind,
            effect,
            operation: Some(operation),
            text: Some(text.to_owned()),
            ..Inner::default()
        }))
        .with_source(source.without_url().into())
    }

    pub(crate) fn middleware(operation: &'static Operation, source: Source) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::Middleware,
            operation: Some(operation),
            text: Some("a middleware of the caller failed".to_owned()),
            ..Inner::default()
        }))
        .with_source(source)
    }

    pub(crate) fn too_large(
        operation: &'static Operation,
        status: StatusCode,
        limit: usize,
    ) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::TooLarge,
            effect: if status.is_client_error() { Effect::Rejected } else { Effect::Unknown },
            operation: Some(operation),
            status: Some(status),
            text: Some(format!("the answer is larger than {limit} bytes")),
            ..Inner::default()
        }))
    }

    pub(crate) fn cursor_loop(cursor: &str) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::CursorLoop,
            text: Some(format!(
                "the list gave the cursor {:?} twice; it would never end",
                excerpt(cursor.as_bytes())
            )),
            ..Inner::default()
        }))
    }

    /// The exchange, or something before it, answered with an error.
    pub(crate) fn answer(
        operation: &'static Operation,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let said = Said::read(body);
        let kind = if status.is_redirection() { ErrorKind::Redirect } else { ErrorKind::Api };
        Self(Box::new(Inner {
            kind,
            effect: effect_of(status),
            operation: Some(operation),
            status: Some(status),
            code: said.code,
            message: said.message,
            details: said.details,
            request_id: request_id(headers),
            retry_after: retry_after(headers),
            excerpt: shown(operation, body),
            ..Inner::default()
        }))
    }

    pub(crate) fn decode(
        operation: &'static Operation,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        failed: serde_path_to_error::Error<serde_json::Error>,
    ) -> Self {
        let path = json_path(&failed);
        let error = Self(Box::new(Inner {
            kind: ErrorKind::Decode,
            operation: Some(operation),
            status: Some(status),
            request_id: request_id(headers),
            json_path: Some(path),
            excerpt: shown(operation, body),
            ..Inner::default()
        }));
        // The reader's message quotes values.
        if operation.secret { error } else { error.with_source(failed.into_inner().into()) }
    }

    /// The answer reads as documented, and what it says cannot be used.
    #[cfg(feature = "streams")]
    pub(crate) fn unusable(operation: &'static str, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::Decode,
            operation: Operation::by_id(operation),
            text: Some(text.into()),
            ..Inner::default()
        }))
    }

    fn with_source(mut self, source: Source) -> Self {
        self.0.source = Some(source);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = inner.operation {
            write!(f, "{}: ", operation.id)?;
        }
        if let Some(text) = &inner.text {
            return f.write_str(text);
        }
        if let Some(status) = inner.status {
            write!(f, "{status}")?;
        }
        if inner.kind == ErrorKind::Decode {
            let path = inner.json_path.as_deref().unwrap_or(".");
            write!(f, ", but the body does not read as documented at `{path}`")?;
        }
        let said = [&inner.code, &inner.message, &inner.details];
        let mut separator = ": ";
        for text in said.into_iter().flatten() {
            write!(f, "{separator}{text}")?;
            separator = ", ";
        }
        if let (": ", Some(excerpt)) = (separator, &inner.excerpt) {
            write!(f, "; the body begins with {excerpt:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("effect", &inner.effect);
        if let Some(operation) = inner.operation {
            out.field("operation", &operation.id);
        }
        for (name, value) in [
            ("code", &inner.code),
            ("message", &inner.message),
            ("details", &inner.details),
            ("request_id", &inner.request_id),
            ("json_path", &inner.json_path),
            ("excerpt", &inner.excerpt),
            ("text", &inner.text),
        ] {
            if let Some(value) = value {
                out.field(name, value);
            }
        }
        if let Some(status) = inner.status {
            out.field("status", &status.as_u16());
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What an error body says, in whichever of the shapes that have been seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    code: Option<String>,
    message: Option<String>,
    details: Option<String>,
}

impl Said {
    /// `{"code","message","details"}`, the same under `error`, `{"error":"text"}`, `{"msg":"text"}`;
    /// anything else (HTML, plain text, nothing) says nothing that could be taken apart.
    fn read(body: &[u8]) -> Self {
        let Ok(Value::Object(mut map)) = serde_json::from_slice(body) else {
            return Self::default();
        };
        match map.remove("error") {
            Some(Value::Object(inner)) => Self::from_map(inner),
            Some(Value::String(text)) => {
                let rest = Self::from_map(map);
                Self {
                    message: Some(rest.message.map_or(text.clone(), |m| format!("{text}: {m}"))),
                    ..rest
                }
            }
            _ => Self::from_map(map),
        }
    }

    fn from_map(mut map: Map<String, Value>) -> Self {
        let mut take = |key: &str| match map.remove(key)? {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(bounded(text)),
            other => Some(bounded(other.to_string())),
        };
        Self {
            code: take("code"),
            message: take("message").or_else(|| take("msg")),
            details: take("details"),
        }
    }
}

/// Whether a body of a success is an error in disguise: `{"error": …}` with something in it.
pub(crate) fn is_envelope(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(default)]
        error: Value,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { error: Value::String(text) }) => !text.is_empty(),
        Ok(Envelope { error: Value::Object(map) }) => {
            map.contains_key("code") || map.contains_key("message")
        }
        _ => false,
    }
}

/// Whether the exchange has acted, by the status of an error.
///
/// A 5xx may come after it has acted, or from a proxy that gave up waiting. An error inside a 2xx
/// says that it has not. Of the redirects some say "elsewhere", and others may say "done".
fn effect_of(status: StatusCode) -> Effect {
    match status.as_u16() {
        200..=299 | 400..=499 | 301 | 307 | 308 => Effect::Rejected,
        _ => Effect::Unknown,
    }
}

/// The place of a failure. A missing field is not under way yet when it fails, so that the way
/// ends at the object it is missing from; the field's name is only in the message.
fn json_path(failed: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let path = failed.path().to_string();
    let message = failed.inner().to_string();
    let field = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match field {
        Some(field) if path == "." => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None => path,
    }
}

/// An error text is kept short: a server could send megabytes of it.
fn bounded(text: String) -> String {
    const LIMIT: usize = 1_000;
    if text.chars().count() <= LIMIT {
        return text;
    }
    text.chars().take(LIMIT).chain(['…']).collect()
}

/// The beginning of a body, on one line.
fn excerpt(body: &[u8]) -> String {
    const LIMIT: usize = 256;
    // A character has at most four bytes.
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * LIMIT)]);
    let mut short: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LIMIT).collect();
    if short.len() < body.len() {
        short.push('…');
    }
    short
}

fn shown(operation: &Operation, body: &[u8]) -> Option<String> {
    (!operation.secret && !body.is_empty()).then(|| excerpt(body))
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "x-amzn-requestid", "x-amzn-trace-id", "x-amz-cf-id", "cf-ray"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .map(|text| bounded(text.to_owned()))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> (Option<String>, Option<String>, Option<String>) {
        let Said { code, message, details } = Said::read(body.as_bytes());
        (code, message, details)
    }

    #[test]
    fn every_shape_of_an_error_body_is_understood() {
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(
            said(r#"{"code":"c","message":"m","details":"d"}"#),
            (text("c"), text("m"), text("d"))
        );
        assert_eq!(
            said(r#"{"error":{"code":"c","message":"m","details":"d","service":"s"}}"#),
            (text("c"), text("m"), text("d"))
        );
        assert_eq!(
            said(r#"{"error":"too many requests"}"#),
            (None, text("too many requests"), None)
        );
        assert_eq!(said(r#"{"msg":"no"}"#), (None, text("no"), None));
        assert_eq!(
            said(r#"{"code":null,"message":"","details":{"a":1}}"#),
            (None, None, text(r#"{"a":1}"#))
        );
        for nothing in ["", "<html>", "[]", "\"x\"", "{", "null"] {
            assert_eq!(said(nothing), (None, None, None), "{nothing}");
        }
    }

    #[test]
    fn only_an_error_with_contents_is_an_envelope() {
        for yes in
            [r#"{"error":{"code":"x"}}"#, r#"{"error":"no"}"#, r#"{"a":1,"error":{"message":"m"}}"#]
        {
            assert!(is_envelope(yes.as_bytes()), "{yes}");
        }
        for no in [
            r#"{"error":null}"#,
            r#"{"error":""}"#,
            r#"{"error":{}}"#,
            "{}",
            "[]",
            r#"{"errors":[1]}"#,
        ] {
            assert!(!is_envelope(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        let long = format!("a\n{}", "é".repeat(100_000));
        let short = excerpt(long.as_bytes());
        assert_eq!(short.chars().count(), 257);
        assert!(short.starts_with("a é"));
        assert_eq!(excerpt(b"{}"), "{}");
        assert_eq!(excerpt(&[0xff, 0xfe]).chars().count(), 2);
    }
}
