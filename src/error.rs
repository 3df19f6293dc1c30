//! One error: what happened, and whether the request may have taken effect.

use std::{any::Any, error::Error as StdError, fmt, time::Duration};

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use kalshi_types::UnixMillis;

use crate::{
    attempts::{Attempts, worse},
    error_body::{ErrorBody, bounded},
    middleware::NotSent,
    operation::Operation,
};

type Source = Box<dyn StdError + Send + Sync>;

/// A documented value that came with an error.
pub(crate) type Kept = Box<dyn Any + Send + Sync>;

/// The longest [`Error::retry_after`].
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A row that did not decode is kept up to this size.
const MAX_RAW_ROW: usize = 64 * 1024;

/// The error of a call.
///
/// Code that moves money asks [`effect`](Self::effect) first: it tells "safe to retry" from
/// "reconcile first". [`kind`](Self::kind) and the predicates say what happened,
/// [`code`](Self::code) and [`message`](Self::message) what the exchange said about it.
///
/// `Display` describes one layer; what lies below is in [`source`](StdError::source). Neither ever
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
    server_date: Option<UnixMillis>,
    json_path: Option<String>,
    excerpt: Option<String>,
    text: Option<String>,
    hint: Option<String>,
    attempts: u32,
    path: Option<String>,
    base_url: Option<String>,
    row: Option<FailedRow>,
    next_cursor: Option<String>,
    value: Option<Kept>,
    source: Option<Source>,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client is misconfigured. Nothing was sent.
    #[default]
    Config,
    /// A parameter or body cannot be sent. Nothing was sent.
    InvalidRequest,
    /// No credentials, or they could not sign. The attempt was not sent.
    Auth,
    /// No connection could be made. The attempt was not sent.
    Connect,
    /// No complete response arrived in time, or the request waited too long for its signature or in a
    /// layer that paces requests: then its effect is [`Effect::NotSent`].
    Timeout,
    /// The connection was lost.
    Transport,
    /// A middleware layer of the caller failed.
    Middleware,
    /// The exchange answered with an error.
    Api,
    /// The exchange answered with a redirect, which is never followed: its signature would be
    /// wrong, and the headers would go to a host that was not configured.
    Redirect,
    /// The response is a success but is not as documented.
    Decode,
    /// The response is larger than the client accepts.
    TooLarge,
    /// A list returned a cursor that it had returned before.
    CursorLoop,
}

/// The effect of a request, over all of its attempts: whether it may have been carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// No attempt left this machine: retry when the cause is fixed.
    NotSent,
    /// The exchange refused every attempt that left, and did nothing: retry when the cause is
    /// fixed.
    Rejected,
    /// An attempt may have been carried out. Read the state back before retrying.
    #[default]
    Unknown,
}

/// The row of a list that did not decode. See [`Error::row`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedRow {
    /// The page, counted from 1 as the stream fetched them.
    pub page: u64,
    /// The row within its page, counted from 0.
    pub index: usize,
    /// The row as it came, up to 64 KiB of it; `None` where it may hold a secret.
    pub raw: Option<String>,
}

impl Error {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the effect of the request: the worst over **all** attempts of the call, whichever
    /// layer made them.
    ///
    /// An attempt is [`NotSent`](Effect::NotSent) if no connection could be made. It is
    /// [`Rejected`](Effect::Rejected) if the exchange answered with a status that it sends before it
    /// acts: 400, 401, 403, 404, 405, 409, 410, 411, 413, 414, 415, 422, 425, 429, 431, or a
    /// redirect that says "elsewhere" (301, 307, 308). Everything else is
    /// [`Unknown`](Effect::Unknown): 408, 499 and other statuses that proxies answer after they
    /// passed the request on, 5xx, timeouts, lost connections, attempts that a layer gave up, and
    /// successes that are not as documented or that carry an error.
    ///
    /// So a 409 after a lost first attempt is `Unknown`: the conflict may be with that attempt.
    ///
    /// A layer of the caller that sends the request by an HTTP client of its own is not seen.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Returns how many attempts of the call went to the HTTP client. 0 means that it failed before;
    /// more than 1, that a retry layer made several.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Returns the status of the response, if one arrived.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns the exchange's code, such as `authentication_error`. The codes are not a closed set,
    /// and their case is mixed: decide by status first, by code second, never by message.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Returns the exchange's message.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// Returns the exchange's details, such as `INCORRECT_API_KEY_SIGNATURE`; JSON if they are not
    /// text.
    pub fn details(&self) -> Option<&str> {
        self.0.details.as_deref()
    }

    /// Returns the operation, for instance `get_markets`; `raw` for a raw request.
    pub fn operation_id(&self) -> Option<&'static str> {
        self.0.operation.map(|operation| operation.id)
    }

    /// Returns the path of the request below the base URL, percent-encoded and without the query:
    /// `/markets/KXBTC-25`.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// Returns the base URL of the client that made the call. `Display` shows it for 401 and 404,
    /// which the wrong environment answers.
    pub fn base_url(&self) -> Option<&str> {
        self.0.base_url.as_deref()
    }

    /// Returns the id that the server or a proxy gave the request, if it said one. Quote it to
    /// support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Returns how long to wait, if the response said so, or a layer that did not send the request; at
    /// most a day. The exchange does not say: after a 429 wait for cost ÷ refill rate
    /// (`get_account_api_limits`), then back off with jitter.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the server's time, from the `Date` header, in whole seconds. After the code
    /// `header_timestamp_expired` it tells how far the local clock is off.
    pub fn server_date(&self) -> Option<UnixMillis> {
        self.0.server_date
    }

    /// Returns where in the response decoding failed: `markets[3].status`.
    pub fn json_path(&self) -> Option<&str> {
        self.0.json_path.as_deref()
    }

    /// Returns the beginning of the response, at most 256 characters; `None` where it may hold a
    /// secret.
    pub fn excerpt(&self) -> Option<&str> {
        self.0.excerpt.as_deref()
    }

    /// Returns the documented value that came with an error: of a write that was answered by a
    /// success with an `error` in it, or of a batch whose reply lacks items.
    ///
    /// `T` is what the call would have returned. The effect is [`Unknown`](Effect::Unknown); the
    /// value tells what to look for.
    ///
    /// ```
    /// # fn inspect(error: &kalshi_sdk::Error) {
    /// use kalshi_sdk::types::BatchCreateOrdersV2Response;
    ///
    /// if let Some(reply) = error.value::<BatchCreateOrdersV2Response>() {
    ///     println!("{} orders are accounted for", reply.orders.len());
    /// }
    /// # }
    /// ```
    pub fn value<T: 'static>(&self) -> Option<&T> {
        self.0.value.as_ref()?.downcast_ref()
    }

    /// Returns the row of a list that did not decode.
    pub fn row(&self) -> Option<&FailedRow> {
        self.0.row.as_ref()
    }

    /// Reports whether this is the error of one row of a list, whose other rows go on.
    pub fn is_row(&self) -> bool {
        self.0.row.is_some()
    }

    /// Reports whether the status is 429: the token bucket was empty.
    pub fn is_rate_limited(&self) -> bool {
        self.has_status(StatusCode::TOO_MANY_REQUESTS)
    }

    /// Reports whether the status is 404.
    ///
    /// # Troubleshooting
    ///
    /// The object may be missing, belong to another subaccount or shard, be too new (a market just
    /// created), or have moved to the `historical` operations. If every operation answers 404, the
    /// [`base_url`](Self::base_url) is that of something else.
    pub fn is_not_found(&self) -> bool {
        self.has_status(StatusCode::NOT_FOUND)
    }

    /// Reports whether the status is 401: the exchange did not accept the signature.
    ///
    /// # Troubleshooting
    ///
    /// [`details`](Self::details) and [`code`](Self::code) tell the causes apart: `NOT_FOUND` means
    /// that the key id is unknown here (wrong id, or the key of another environment),
    /// `INCORRECT_API_KEY_SIGNATURE` that key id and private key do not belong together or a proxy
    /// rewrote the path, `header_timestamp_expired` that the clock is off by more than a few
    /// seconds: [`server_date`](Self::server_date) has the server's time.
    pub fn is_unauthorized(&self) -> bool {
        self.has_status(StatusCode::UNAUTHORIZED)
    }

    /// Reports whether the status is 403: the key lacks the scope, the account the tier, or the key
    /// is bound to a subaccount.
    pub fn is_forbidden(&self) -> bool {
        self.has_status(StatusCode::FORBIDDEN)
    }

    /// Reports whether the status is 409: a client id was used before, or the state does not allow
    /// the request.
    ///
    /// # Troubleshooting
    ///
    /// After a retry with the same `client_order_id` or `client_transfer_id` this is good news: the
    /// first request was carried out. The response does not show it; look it up.
    pub fn is_conflict(&self) -> bool {
        self.has_status(StatusCode::CONFLICT)
    }

    /// Reports whether no complete response arrived in time.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }

    /// Reports whether the response was a success but not as documented.
    pub fn is_decode(&self) -> bool {
        self.0.kind == ErrorKind::Decode
    }

    /// Reports whether credentials are missing or unusable.
    pub fn is_auth(&self) -> bool {
        self.0.kind == ErrorKind::Auth
    }

    fn has_status(&self, status: StatusCode) -> bool {
        self.0.status == Some(status)
    }
}

/// A response as far as an error needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub(crate) operation: &'static Operation,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// The call that an error belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallContext<'a> {
    pub(crate) base_url: &'a str,
    pub(crate) path: &'a str,
    /// The body of a write, as it was sent.
    pub(crate) sent: &'a [u8],
    pub(crate) attempts: &'a Attempts,
}

/// Constructors for the rest of the crate.
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
        let text = format!("the request could not be signed and was not sent: {source}");
        Self::before_sending(ErrorKind::Auth, Some(operation), text).with_source(source)
    }

    /// Returns the error of a signature that was not ready in time.
    pub(crate) fn unsigned_in_time(operation: &'static Operation, source: Source) -> Self {
        let text =
            format!("the request timed out before it was signed, and was not sent: {source}");
        Self::before_sending(ErrorKind::Timeout, Some(operation), text).with_source(source)
    }

    /// Returns the error of a request that could not be built.
    pub(crate) fn not_built(operation: &'static Operation, source: reqwest::Error) -> Self {
        let text = "could not build the request".to_owned();
        Self::before_sending(ErrorKind::InvalidRequest, Some(operation), text)
            .with_source(source.without_url().into())
    }

    /// Returns the error of a request without a complete response.
    pub(crate) fn unanswered(operation: &'static Operation, source: reqwest::Error) -> Self {
        let (kind, text) = if source.is_connect() {
            let host = source.url().and_then(host_and_port);
            let to = host.map(|host| format!(" to {host}")).unwrap_or_default();
            (ErrorKind::Connect, format!("could not connect{to}"))
        } else if source.is_builder() {
            (ErrorKind::InvalidRequest, "could not build the request".to_owned())
        } else if source.is_timeout() {
            (ErrorKind::Timeout, "no complete response arrived in time".to_owned())
        } else {
            (ErrorKind::Transport, "the connection was lost before the response ended".to_owned())
        };
        Self(Box::new(Inner {
            kind,
            effect: effect_of_failure(&source),
            operation: Some(operation),
            text: Some(text),
            ..Inner::default()
        }))
        .with_source(source.without_url().into())
    }

    /// Returns the error of a caller's layer. The record of attempts has what it had sent by then.
    pub(crate) fn middleware(operation: &'static Operation, source: Source) -> Self {
        let text = "a middleware layer of the caller failed".to_owned();
        Self::before_sending(ErrorKind::Middleware, Some(operation), text).with_source(source)
    }

    /// Returns the error of a layer that did not send a request, in its own words.
    pub(crate) fn held_back(operation: &'static Operation, refusal: NotSent) -> Self {
        let (kind, retry_after, source) = refusal.into_parts();
        let text = format!("the request was not sent: {source}");
        let mut error = Self::before_sending(kind, Some(operation), text).with_source(source);
        error.0.retry_after = retry_after.map(|wait| wait.min(MAX_RETRY_AFTER));
        error
    }

    pub(crate) fn too_large(
        operation: &'static Operation,
        status: StatusCode,
        headers: &HeaderMap,
        limit: usize,
    ) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::TooLarge,
            effect: effect_of_status(status),
            operation: Some(operation),
            status: Some(status),
            request_id: request_id(headers),
            server_date: server_date(headers),
            text: Some(format!(
                "the response is larger than {limit} bytes, see with_max_response_bytes"
            )),
            ..Inner::default()
        }))
    }

    pub(crate) fn cursor_loop(cursor: &str) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::CursorLoop,
            text: Some(format!(
                "the list returned the cursor {:?} twice, so it would never end",
                excerpt(cursor.as_bytes())
            )),
            ..Inner::default()
        }))
    }

    /// Returns the error that the exchange, or something before it, answered with.
    pub(crate) fn answer(response: Response<'_>) -> Self {
        let Response { operation, status, headers, body } = response;
        let said = ErrorBody::read(body);
        let kind = if status.is_redirection() { ErrorKind::Redirect } else { ErrorKind::Api };
        Self(Box::new(Inner {
            kind,
            effect: effect_of_status(status),
            operation: Some(operation),
            status: Some(status),
            code: said.code,
            message: said.message,
            details: said.details,
            request_id: request_id(headers),
            retry_after: retry_after(headers),
            server_date: server_date(headers),
            excerpt: shown(operation, body),
            ..Inner::default()
        }))
    }

    /// Returns the error of a success that is not as documented.
    pub(crate) fn undocumented(response: Response<'_>, json_path: Option<String>) -> Self {
        let Response { operation, status, headers, body } = response;
        Self(Box::new(Inner {
            kind: ErrorKind::Decode,
            operation: Some(operation),
            status: Some(status),
            request_id: request_id(headers),
            server_date: server_date(headers),
            json_path,
            excerpt: shown(operation, body),
            ..Inner::default()
        }))
    }

    pub(crate) fn decode(response: Response<'_>, path: String, failed: serde_json::Error) -> Self {
        let error = Self::undocumented(response, Some(with_missing_field(path, &failed)));
        // The reader's message quotes values.
        if response.operation.secret { error } else { error.with_source(failed.into()) }
    }

    /// Returns the error of one row that does not decode; the other rows of its page are kept.
    pub(crate) fn failed_row(
        response: Response<'_>,
        items: &str,
        index: usize,
        within: &str,
        failed: serde_json::Error,
    ) -> Self {
        let within = with_missing_field(within.to_owned(), &failed);
        let step = if within == "." || within.starts_with('[') { "" } else { "." };
        let path = format!("{items}[{index}]{step}{}", within.trim_start_matches('.'));
        let raw = (!response.operation.secret).then(|| beginning(response.body, MAX_RAW_ROW));
        let mut error = Self::decode(response, String::new(), failed);
        error.0.json_path = Some(path);
        error.0.row = Some(FailedRow { page: 0, index, raw });
        error
    }

    /// Returns the error of a response that is as documented, and unusable.
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

    pub(crate) fn with_text(mut self, text: impl Into<String>) -> Self {
        self.0.text = Some(text.into());
        self
    }

    pub(crate) fn with_value(mut self, value: Option<Kept>) -> Self {
        self.0.value = value;
        self
    }

    pub(crate) fn with_next_cursor(mut self, cursor: Option<String>) -> Self {
        self.0.next_cursor = cursor;
        self
    }

    pub(crate) fn next_cursor(&self) -> Option<&str> {
        self.0.next_cursor.as_deref()
    }

    pub(crate) fn on_page(mut self, page: u64) -> Self {
        if let Some(row) = &mut self.0.row {
            row.page = page;
        }
        self
    }

    /// Adds what the call knows: its attempts, its place, and what may have gone wrong.
    pub(crate) fn in_call(mut self, call: CallContext<'_>) -> Self {
        let inner = &mut *self.0;
        inner.attempts = call.attempts.count();
        if inner.attempts > 0 {
            inner.effect = worse(inner.effect, call.attempts.worst());
        }
        inner.path = Some(call.path.to_owned());
        inner.base_url = Some(call.base_url.to_owned());
        inner.hint = match inner.status.map(|status| status.as_u16()) {
            Some(400) => price_hint(call.sent),
            _ => None,
        };
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = inner.operation {
            f.write_str(operation.id)?;
            // The path names the market or order, where it has one.
            if let Some(path) = &inner.path
                && (operation.path.contains('{') || operation.path.is_empty())
            {
                write!(f, " {path}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(text) = &inner.text {
            f.write_str(text)?;
        } else {
            self.describe(f)?;
        }
        if let Some(hint) = &inner.hint {
            write!(f, "; {hint}")?;
        }
        if let (Some(401 | 404), Some(base_url)) =
            (inner.status.map(|status| status.as_u16()), &inner.base_url)
        {
            write!(f, " (base URL {base_url})")?;
        }
        match (inner.attempts, inner.effect) {
            (0 | 1, _) => {}
            (attempts, Effect::Unknown) => {
                write!(f, "; one of {attempts} attempts may have been carried out")?;
            }
            (attempts, _) => write!(f, "; after {attempts} attempts")?,
        }
        Ok(())
    }
}

impl Error {
    /// Describes a response.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(status) = inner.status {
            write!(f, "{status}")?;
        }
        if inner.kind == ErrorKind::Decode {
            match inner.json_path.as_deref() {
                Some(path) => write!(f, ", but the body is not as documented at `{path}`")?,
                None => f.write_str(", but the body is not as documented")?,
            }
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
            ("hint", &inner.hint),
            ("path", &inner.path),
            ("base_url", &inner.base_url),
        ] {
            if let Some(value) = value {
                out.field(name, value);
            }
        }
        if let Some(status) = inner.status {
            out.field("status", &status.as_u16());
        }
        if let Some(row) = &inner.row {
            out.field("page", &row.page).field("row", &row.index);
        }
        if inner.attempts > 0 {
            out.field("attempts", &inner.attempts);
        }
        if inner.value.is_some() {
            out.field("value", &"..");
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

/// Returns whether the exchange may have acted, by the status of a response that is an error.
///
/// A positive list: these are answered before anything is done. Proxies answer 408, 499 and 460
/// after they passed a request on; a 5xx may come after the exchange acted; an error inside a 2xx
/// says that something went wrong, and not that nothing was done. Of the redirects some say
/// "elsewhere", and others may say "done".
pub(crate) fn effect_of_status(status: StatusCode) -> Effect {
    match status.as_u16() {
        400 | 401 | 403 | 404 | 405 | 409 | 410 | 411 | 413 | 414 | 415 | 422 | 425 | 429 | 431
        | 301 | 307 | 308 => Effect::Rejected,
        _ => Effect::Unknown,
    }
}

/// Returns whether the exchange may have acted, where no response came.
pub(crate) fn effect_of_failure(error: &reqwest::Error) -> Effect {
    if error.is_connect() || error.is_builder() { Effect::NotSent } else { Effect::Unknown }
}

/// Returns `host:443`, for the text of an error. Neither the path nor user and password are shown.
fn host_and_port(url: &reqwest::Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// Returns a hint at a price that is not below one dollar, the most frequent of mistakes: a price
/// in cents.
fn price_hint(sent: &[u8]) -> Option<String> {
    let body = serde_json::from_slice(sent).ok()?;
    let (field, price) = high_price(&body)?;
    let cents = price.to_string();
    let cents = cents.trim_end_matches('0').trim_end_matches('.');
    Some(format!("the {field} {cents} is not below 1: prices are dollars, \"0.56\" is 56 cents"))
}

/// Returns the first price of a request that is one dollar or more. Levels below those of a batch
/// are skipped: they are the caller's own text.
fn high_price(value: &serde_json::Value) -> Option<(&str, kalshi_types::Dollars)> {
    const PRICES: [&str; 4] = ["price", "yes_bid", "no_bid", "bid_dollars"];
    const MAX_ITEMS: usize = 1_000;
    let mut left = vec![value];
    let mut looked_at = 0_usize;
    while let Some(value) = left.pop() {
        looked_at += 1;
        if looked_at > MAX_ITEMS {
            return None;
        }
        match value {
            serde_json::Value::Array(items) => left.extend(items.iter().rev().take(MAX_ITEMS)),
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    let price = value.as_str().filter(|_| PRICES.contains(&name.as_str()));
                    let price = price.and_then(|text| text.parse::<kalshi_types::Dollars>().ok());
                    match price {
                        Some(price) if price >= kalshi_types::Dollars::from_micros(1_000_000) => {
                            return Some((name, price));
                        }
                        Some(_) => {}
                        None => left.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns the place of a failure. A missing field has not been entered yet when it fails, so that
/// the path ends at the object it is missing from; the field's name is only in the message.
fn with_missing_field(path: String, failed: &serde_json::Error) -> String {
    let message = failed.to_string();
    let field = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match field {
        Some(field) if path == "." => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None => path,
    }
}

/// Returns the beginning of a body, on one line.
fn excerpt(body: &[u8]) -> String {
    const LIMIT: usize = 256;
    // A character has at most four bytes.
    let text = String::from_utf8_lossy(body.get(..4 * LIMIT).unwrap_or(body));
    let mut short: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LIMIT).collect();
    if short.len() < body.len() {
        short.push('…');
    }
    short
}

/// Returns the beginning of a text, up to a number of bytes and the end of a character.
fn beginning(text: &[u8], limit: usize) -> String {
    let part = text.get(..limit).unwrap_or(text);
    match std::str::from_utf8(part) {
        Ok(text) => text.to_owned(),
        Err(error) => String::from_utf8_lossy(part.get(..error.valid_up_to()).unwrap_or_default())
            .into_owned(),
    }
}

fn shown(operation: &Operation, body: &[u8]) -> Option<String> {
    (!operation.secret && !body.is_empty()).then(|| excerpt(body))
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "x-amzn-requestid", "x-amzn-trace-id", "x-amz-cf-id", "cf-ray"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .map(bounded)
}

pub(crate) fn server_date(headers: &HeaderMap) -> Option<UnixMillis> {
    http_date(headers.get(header::DATE)?.to_str().ok()?).map(UnixMillis::from)
}

/// Parses an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text.trim()).ok().map(|date| date.to_utc())
}

/// Parses the seconds, or a date, which is taken by the server's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // So many digits that they do not fit are a long time, too.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let now = http_date(headers.get(header::DATE)?.to_str().ok()?)?;
        let seconds = http_date(text)?.signed_duration_since(now).num_seconds();
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        let long = format!("a\n{}", "é".repeat(100_000));
        let short = excerpt(long.as_bytes());
        assert_eq!(short.chars().count(), 257);
        assert!(short.starts_with("a é"));
        assert_eq!(excerpt(b"{}"), "{}");
        assert_eq!(excerpt(&[0xff, 0xfe]).chars().count(), 2);
    }

    #[test]
    fn a_raw_row_is_cut_between_characters() {
        assert_eq!(beginning("aé".as_bytes(), 2), "a");
        assert_eq!(beginning("aé".as_bytes(), 3), "aé");
        assert_eq!(beginning(b"ab", 9), "ab");
    }

    #[test]
    fn only_the_statuses_of_the_list_say_that_nothing_was_done() {
        let rejected: Vec<u16> = (100..1000)
            .filter(|status| {
                let status = StatusCode::from_u16(*status).unwrap();
                effect_of_status(status) == Effect::Rejected
            })
            .collect();
        assert_eq!(
            rejected,
            [
                301, 307, 308, 400, 401, 403, 404, 405, 409, 410, 411, 413, 414, 415, 422, 425,
                429, 431
            ]
        );
    }

    #[test]
    fn a_price_in_cents_is_pointed_at() {
        let hint = |body: &str| price_hint(body.as_bytes());
        let text = hint(r#"{"ticker":"A","price":"56.0000"}"#).unwrap();
        assert_eq!(text, "the price 56 is not below 1: prices are dollars, \"0.56\" is 56 cents");
        assert!(hint(r#"{"orders":[{"price":"0.5600"},{"price":"1.0000"}]}"#).is_some());
        assert_eq!(hint(r#"{"price":"0.9999","count":"56.00"}"#), None);
        assert_eq!(hint("{}"), None);
        assert_eq!(hint("not json"), None);
    }

    #[test]
    fn the_date_of_a_response_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(server_date(&headers), None);
        headers.insert(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(server_date(&headers), Some(UnixMillis::from_millis(784_111_777_000)));
        headers.insert(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:47 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(10)));
        headers.insert(header::RETRY_AFTER, "Sat, 05 Nov 1994 08:49:47 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        headers.insert(header::RETRY_AFTER, "Sun, 06 Nov 2044 08:49:47 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(MAX_RETRY_AFTER));
        headers.insert(header::DATE, "yesterday".parse().unwrap());
        assert_eq!((server_date(&headers), retry_after(&headers)), (None, None));
    }
}
