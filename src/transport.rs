//! From a request to a response: with `attempts` and `client` the only place that knows
//! reqwest-middleware.
//!
//! progenitor's hooks are not used. They can only fail with a `reqwest::Error`, which nobody else
//! can make, and its reading of a body loses the status; so the generated `send` hands the request
//! to [`Client::call`] or one of its siblings instead, and whatever goes wrong from there is one
//! [`Error`]. The siblings differ in what can pass for a success.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kalshi_auth::{AuthError, AuthErrorKind, SigningPolicy};
use progenitor_client::ResponseValue;
use reqwest::{Body, Request};
use serde::de::{self, DeserializeOwned, Deserializer as _, IgnoredAny};
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::{
    attempts::{Attempts, is_read},
    call::Watch,
    client::Client,
    documented::{self, Success},
    error::{CallContext, Error, Kept, Response},
    error_body::{self, ErrorBody, MAX_ERROR_BODY},
    json_place,
    middleware::NotSent,
    operation::{Access, Operation},
    pagination::{Fetched, List},
    values::wipe,
};

/// The answer of a read below this size is looked at twice: an error inside a success is small, and
/// a larger one that decodes has what was asked for. The answer of a write is always looked at.
const ENVELOPE_LIMIT: usize = 4 * 1024;

/// The part of an announced length that is allocated before anything of the body has come: a server
/// could lie. A page of 1,000 markets has two and a half megabytes.
const MAX_UNSEEN: usize = 4 << 20;

/// The first allocation for a body whose length is not announced, as with compression.
const FIRST_ALLOCATION: usize = 16 << 10;

/// The capacity of a body that outgrows its buffer, as a multiple of what has come.
const GROWTH: usize = 4;

/// A response whose body has been read.
struct RawResponse {
    operation: &'static Operation,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    is_read: bool,
}

impl RawResponse {
    fn parts(&self) -> Response<'_> {
        Response {
            operation: self.operation,
            status: self.status,
            headers: &self.headers,
            body: &self.body,
        }
    }
}

/// A request for several things at once, and the reply that says what became of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// The list, in the request and in the reply.
    pub(crate) items: &'static str,
    /// The ids by which an item of the reply belongs to one of the request.
    pub(crate) ids: &'static [&'static str],
}

impl Client {
    /// Sends a request and decodes its response, which has a field that must be there.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<T>, Error>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.run(operation, request, |response, _| value(response, keep::<T>)).await
    }

    /// Sends a request whose response decodes from any object: it is a success unless it has one of
    /// these fields.
    pub(crate) async fn call_open<T>(
        &self,
        operation: &'static Operation,
        request: Request,
        error_keys: &'static [&'static str],
    ) -> Result<ResponseValue<T>, Error>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.run(operation, request, move |response, _| {
            let value = value(response, keep::<T>)?;
            if error_body::has_field(&response.body, error_keys) {
                return Err(Error::answer(response.parts()).with_value(keep(value)));
            }
            Ok(value)
        })
        .await
    }

    /// Sends a request for several things, whose reply must speak of each, in order.
    pub(crate) async fn call_batch<T>(
        &self,
        operation: &'static Operation,
        request: Request,
        batch: Batch,
    ) -> Result<ResponseValue<T>, Error>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.run(operation, request, move |response, sent| {
            let value = value(response, keep::<T>)?;
            match batch.mismatch(sent, &response.body) {
                None => Ok(value),
                Some(text) => {
                    Err(Error::undocumented(response.parts(), Some(batch.items.to_owned()))
                        .with_text(text)
                        .with_value(keep(value)))
                }
            }
        })
        .await
    }

    /// Sends a request whose success has no body.
    pub(crate) async fn call_empty(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<()>, Error> {
        self.run(operation, request, |response, _| {
            if error_body::is_blank(&response.body) {
                return Ok(());
            }
            Err(unexpected_body(response))
        })
        .await
    }

    /// Sends a request of which nothing is known, and decodes its response.
    pub(crate) async fn call_raw<T: DeserializeOwned>(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<T>, Error> {
        self.run(operation, request, |response, _| {
            if !matches!(documented::success(operation), Success::Unknown) {
                documented(response)?;
            }
            value(response, |_: T| None)
        })
        .await
    }

    /// Sends a request of which nothing is known, and takes any success that is no error.
    pub(crate) async fn call_raw_empty(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<()>, Error> {
        self.run(operation, request, |response, _| {
            if error_body::is_harmless(&response.body) {
                return Ok(());
            }
            Err(unexpected_body(response))
        })
        .await
    }

    /// Sends a request whose response is not decoded, and returns the body of a success. That of a
    /// documented operation passes where it does for its generated method, as far as the fields at its
    /// top tell.
    pub(crate) async fn call_raw_text(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<ResponseValue<String>, Error> {
        self.run(operation, request, |response, _| {
            documented(response)?;
            match std::str::from_utf8(&response.body) {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => Err(unexpected_body(response)),
            }
        })
        .await
    }

    /// Fetches a page of a list. The error of one that does not decode knows the next cursor, if
    /// that can be read.
    pub(crate) async fn call_page<T>(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<T, Error>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let page = self.run(operation, request, |response, _| {
            value(response, keep::<T>).map_err(|error| {
                let cursor = loose(response).and_then(|page| page.cursor);
                error.with_next_cursor(cursor)
            })
        });
        page.await.map(ResponseValue::into_inner)
    }

    /// Fetches the rows of a page. Where the page does not decode as a whole, its rows are decoded
    /// one by one.
    pub(crate) async fn call_rows<L: List>(
        &self,
        operation: &'static Operation,
        request: Request,
    ) -> Result<Fetched<L>, Error> {
        let fetched = self.run(operation, request, |response, _| {
            let failed = match value(response, keep::<L::Page>) {
                Ok(page) => return Ok(Fetched::Page(page)),
                Err(error) => error,
            };
            // An error of the exchange is one of the call, whatever else stands in the body.
            let page = failed.is_decode().then(|| loose(response)).flatten();
            let Some(page) = page else { return Err(failed) };
            Ok(one_by_one::<L>(response, page, &failed))
        });
        fetched.await.map(ResponseValue::into_inner)
    }

    /// Sends a request, reads the response, and adds to an error what the call knows.
    async fn run<T>(
        &self,
        operation: &'static Operation,
        request: Request,
        read: impl FnOnce(&RawResponse, &[u8]) -> Result<T, Error>,
    ) -> Result<ResponseValue<T>, Error> {
        let attempts = Attempts::default();
        let path = request.url().path();
        let path = path.strip_prefix(self.base_path()).unwrap_or(path).to_owned();
        let sent = sent(&request);
        let mut watch = Watch::start(operation, request.method(), attempts.clone(), self.on_call());
        let span = watch.span();
        let result = async {
            let response = self.round_trip(operation, request, &attempts, &mut watch).await?;
            if let Some(observer) = self.drift() {
                observer.observe(operation, &response.body);
            }
            let value = read(&response, &sent);
            let RawResponse { status, headers, body, .. } = response;
            if operation.secret {
                wipe(body);
            }
            Ok(ResponseValue::new(value?, status, headers))
        }
        .instrument(span)
        .await
        .map_err(|error: Error| {
            error.in_call(CallContext {
                base_url: self.base_url(),
                path: &path,
                sent: &sent,
                attempts: &attempts,
            })
        });
        watch.end(&result);
        result
    }

    /// Sends a request and reads a success; everything else is an error.
    async fn round_trip(
        &self,
        operation: &'static Operation,
        request: Request,
        attempts: &Attempts,
        watch: &mut Watch<'_>,
    ) -> Result<RawResponse, Error> {
        let is_read = is_read(request.method()) || operation.only_reads();
        let mut extensions = self.extensions().clone();
        extensions.insert(operation);
        extensions.insert(attempts.clone());
        extensions.insert(match operation.access {
            // A token is no signature: a client of the clearing house adds it in a layer of its own.
            Access::Public | Access::Bearer => SigningPolicy::Never,
            Access::Signed => SigningPolicy::Required,
        });
        let mut response = self
            .stack()
            .execute_with_extensions(request, &mut extensions)
            .await
            .map_err(|error| no_response(operation, error))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        watch.status = Some(status);
        self.note_server_date(&headers);
        let body = self.read(operation, response, &headers).await?;
        watch.bytes = body.len();
        let response = RawResponse { operation, status, headers, body, is_read };
        if status.is_success() { Ok(response) } else { Err(Error::answer(response.parts())) }
    }

    /// Reads the body: that of a success up to the client's limit, beyond which it is an error, and
    /// that of an error as far as it is looked at.
    async fn read(
        &self,
        operation: &'static Operation,
        mut response: reqwest::Response,
        headers: &HeaderMap,
    ) -> Result<Bytes, Error> {
        let status = response.status();
        let is_success = status.is_success();
        let limit = self.max_response_bytes();
        let too_large = || Err(Error::too_large(operation, status, headers, limit));
        let announced = response.content_length();
        if is_success && announced.is_some_and(|length| length > limit as u64) {
            return too_large();
        }
        let limit = if is_success { limit } else { limit.min(MAX_ERROR_BODY) };
        let announced = announced.map(|length| usize::try_from(length).unwrap_or(limit).min(limit));
        // Each piece is copied once, out of a buffer of the connection that is then used again. Pieces
        // that are kept and joined at the end would each hold on to such a buffer, however small they
        // are.
        let mut body = Vec::with_capacity(capacity(0, announced, limit));
        // A list of unknown length is about as long as the one before.
        let expected = announced.or_else(|| self.length_of_last().filter(|_| is_success));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let fits = chunk.len() <= limit.saturating_sub(body.len());
                    if !fits && is_success {
                        return too_large();
                    }
                    let length = chunk.len().min(limit.saturating_sub(body.len()));
                    let needed = body.len().saturating_add(length);
                    if needed > body.capacity() {
                        let capacity = capacity(needed, expected, limit);
                        body.reserve_exact(capacity.saturating_sub(body.len()));
                    }
                    body.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    if !fits {
                        return Ok(body.into());
                    }
                }
                Ok(None) => {
                    if is_success && announced.is_none() && body.len() > FIRST_ALLOCATION {
                        self.note_length(body.len().saturating_add(body.len() / 8));
                    }
                    return Ok(body.into());
                }
                // The status has been said; its explanation is cut off.
                Err(_) if status.is_client_error() => return Ok(body.into()),
                Err(error) => return Err(Error::unanswered(operation, error)),
            }
        }
    }
}

/// Returns the capacity of the buffer for a body of which `needed` bytes are here: what was
/// announced or is expected, as far as that is to be trusted by now, or else a multiple of them.
fn capacity(needed: usize, expected: Option<usize>, limit: usize) -> usize {
    let grown = needed.saturating_mul(GROWTH);
    let wanted = match expected {
        Some(length) if length >= needed => length.min(grown.max(MAX_UNSEEN)),
        _ => grown.max(FIRST_ALLOCATION),
    };
    wanted.min(limit).max(needed)
}

/// Returns the error of a success with a body where none was expected.
fn unexpected_body(response: &RawResponse) -> Error {
    if ErrorBody::read(&response.body).says_something() {
        Error::answer(response.parts())
    } else {
        Error::undocumented(response.parts(), None)
    }
}

/// Keeps a value for an error.
#[expect(clippy::unnecessary_wraps, reason = "the signature that `value` takes")]
fn keep<T: Send + Sync + 'static>(value: T) -> Option<Kept> {
    Some(Box::new(value))
}

/// Returns the body of a write, as far as an error may show it.
fn sent(request: &Request) -> Vec<u8> {
    let body = request.body().and_then(Body::as_bytes);
    match body {
        Some(body) if !is_read(request.method()) => body.to_vec(),
        _ => Vec::new(),
    }
}

/// Refuses what cannot be the success of a documented operation, and an error in the place of one of
/// which nothing is known.
fn documented(response: &RawResponse) -> Result<(), Error> {
    let body = &response.body;
    match documented::success(response.operation) {
        Success::Unknown if error_body::is_harmless(body) => Ok(()),
        Success::Nothing if error_body::is_blank(body) => Ok(()),
        Success::Unknown | Success::Nothing => Err(unexpected_body(response)),
        Success::Object(object) => {
            value_by(response, |text| object.read(text), |()| None)?;
            if object.is_open() && error_body::has_field(body, &object.error_keys()) {
                return Err(Error::answer(response.parts()));
            }
            Ok(())
        }
    }
}

/// Decodes the value of a success, and refuses one that carries an error.
fn value<T: DeserializeOwned>(
    response: &RawResponse,
    keep: impl FnOnce(T) -> Option<Kept>,
) -> Result<T, Error> {
    value_by(response, |text| serde_json::from_str(text), keep)
}

fn value_by<T>(
    response: &RawResponse,
    read: impl Fn(&str) -> Result<T, serde_json::Error>,
    keep: impl FnOnce(T) -> Option<Kept>,
) -> Result<T, Error> {
    let body = &response.body;
    match decode(response, read) {
        Ok(value) => {
            let is_looked_at = !response.is_read || body.len() < ENVELOPE_LIMIT;
            if is_looked_at && may_hold_error(body) && ErrorBody::read(body).is_envelope {
                return Err(Error::answer(response.parts()).with_value(keep(value)));
            }
            Ok(value)
        }
        Err(error) => {
            let said = ErrorBody::read(body);
            // A body that lacks a field of its own and has a message is no value that went wrong.
            let is_foreign = error
                .json_path()
                .is_some_and(|path| !path.contains(['.', '[']) && !path.is_empty());
            if said.is_envelope || (is_foreign && lacks_a_field(&error) && said.says_something()) {
                return Err(Error::answer(response.parts()));
            }
            Err(error)
        }
    }
}

/// Reports whether a body can have a member `error`, without taking it apart: nearly none has.
fn may_hold_error(body: &[u8]) -> bool {
    // With an escape in it, the key may be written in other ways.
    std::str::from_utf8(body).map_or(true, |text| text.contains("\"error\"") || text.contains('\\'))
}

fn lacks_a_field(error: &Error) -> bool {
    use std::error::Error as _;
    // A secret response keeps no cause; an error is then as good a name for it.
    error.source().is_none_or(|cause| cause.to_string().starts_with("missing field"))
}

/// Decodes the body of a success.
///
/// The bytes are checked as UTF-8 once and then read as text, which is a third faster than letting
/// the reader check every string. The path to the place of a failure is worked out only after one.
fn decode<T>(
    response: &RawResponse,
    read: impl Fn(&str) -> Result<T, serde_json::Error>,
) -> Result<T, Error> {
    let body = &response.body;
    let (path, failed) = match std::str::from_utf8(body) {
        Ok(text) => match read(text) {
            Ok(value) => return Ok(value),
            Err(failed) => (path_of(body, &failed, &read), failed),
        },
        Err(error) => no_text(body, error.valid_up_to(), &read),
    };
    Err(Error::decode(response.parts(), path, failed))
}

/// Returns the path of the place where a text does not decode.
fn path_of<T>(
    body: &[u8],
    failed: &serde_json::Error,
    read: impl Fn(&str) -> Result<T, serde_json::Error>,
) -> String {
    json_place::failed_path(body, failed, |text| read(std::str::from_utf8(text).ok()?).err())
}

/// Returns what fails first in a body that is text up to a byte only, and its path.
fn no_text<T>(
    body: &[u8],
    length: usize,
    read: impl Fn(&str) -> Result<T, serde_json::Error>,
) -> (String, serde_json::Error) {
    let text = body.get(..length).unwrap_or_default();
    let beginning = std::str::from_utf8(text).unwrap_or_default();
    match read(beginning) {
        Err(failed) if !failed.is_eof() => (path_of(text, &failed, read), failed),
        _ => {
            let failed = format!("the body is not UTF-8 from byte {length} on");
            (json_place::path_at_end(text), de::Error::custom(failed))
        }
    }
}

/// A page whose rows have not been decoded.
struct LoosePage<'a> {
    rows: Vec<&'a RawValue>,
    cursor: Option<String>,
}

/// Takes a page apart without decoding its rows; `None` unless it is JSON as a whole, has its rows,
/// and its cursor reads.
fn loose(response: &RawResponse) -> Option<LoosePage<'_>> {
    let pagination = response.operation.pagination?;
    let text = std::str::from_utf8(&response.body).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let visitor = LooseVisitor { items: pagination.items, cursor: pagination.cursor };
    let page = reader.deserialize_map(visitor).ok()?;
    reader.end().ok()?;
    Some(LoosePage { rows: page.0?, cursor: page.1 })
}

struct LooseVisitor {
    items: &'static str,
    cursor: &'static str,
}

impl<'a> de::Visitor<'a> for LooseVisitor {
    type Value = (Option<Vec<&'a RawValue>>, Option<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page")
    }

    fn visit_map<A: de::MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut rows, mut cursor) = (None, None);
        while let Some(key) = map.next_key::<Cow<'a, str>>()? {
            if key == self.items {
                // Of two lists one would be lost.
                if rows.is_some() {
                    return Err(de::Error::duplicate_field(self.items));
                }
                rows = Some(map.next_value::<Option<Vec<&RawValue>>>()?.unwrap_or_default());
            } else if key == self.cursor {
                cursor = map.next_value::<Option<String>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((rows, cursor))
    }
}

/// Decodes each row of a page that does not decode as a whole.
fn one_by_one<L: List>(response: &RawResponse, page: LoosePage<'_>, failed: &Error) -> Fetched<L> {
    let items = response.operation.pagination.map_or("", |pagination| pagination.items);
    let rows = page.rows.into_iter().enumerate().map(|(index, row)| {
        serde_json::from_str(row.get()).map_err(|failed| {
            let body = row.get().as_bytes();
            let within = path_of(body, &failed, |text| serde_json::from_str::<L::Row>(text));
            Error::failed_row(Response { body, ..response.parts() }, items, index, &within, failed)
        })
    });
    let rows: Vec<Result<L::Row, Error>> = rows.collect();
    if rows.iter().all(Result::is_ok) {
        // What stands beside the rows is not part of this stream.
        tracing::warn!(
            operation = response.operation.id,
            path = failed.json_path(),
            "a page is not as documented beside its rows"
        );
    }
    Fetched::Rows(rows, page.cursor)
}

impl Batch {
    /// Returns how the reply does not fit the request; `None` if it does.
    fn mismatch(self, sent: &[u8], reply: &[u8]) -> Option<String> {
        let (sent, told) = (self.read(sent), self.read(reply));
        let (sent, told) = (sent.unwrap_or_default(), told.unwrap_or_default());
        if sent.len() != told.len() {
            return Some(format!(
                "the reply has {} {} for {} that were sent",
                told.len(),
                self.items,
                sent.len()
            ));
        }
        let text = |item: &Item<'_>, id: &str| {
            let text: Option<String> = serde_json::from_str(item.get(id)?.get()).ok()?;
            text.filter(|text| !text.is_empty())
        };
        sent.iter().zip(&told).enumerate().find_map(|(index, (sent, told))| {
            self.ids.iter().find_map(|id| {
                let (sent, told) = (text(sent, id)?, text(told, id)?);
                (sent != told).then(|| {
                    format!(
                        "{}[{index}] of the reply is for the {id} {told:?}, not {sent:?}",
                        self.items
                    )
                })
            })
        })
    }

    fn read(self, body: &[u8]) -> Option<Vec<Item<'_>>> {
        let fields: Item<'_> = serde_json::from_slice(body).ok()?;
        serde_json::from_str(fields.get(self.items)?.get()).ok()
    }
}

/// The fields of an object, undecoded.
type Item<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn no_response(operation: &'static Operation, error: reqwest_middleware::Error) -> Error {
    match error {
        reqwest_middleware::Error::Reqwest(error) => Error::unanswered(operation, error),
        reqwest_middleware::Error::Middleware(error) => match error.downcast::<AuthError>() {
            Ok(error) if error.kind() == AuthErrorKind::TimedOut => {
                Error::unsigned_in_time(operation, error.into())
            }
            Ok(error) => Error::auth(operation, error.into()),
            Err(error) => match error.downcast::<NotSent>() {
                Ok(refusal) => Error::held_back(operation, refusal),
                Err(error) => Error::middleware(operation, error.into()),
            },
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_announced_is_allocated_at_once_up_to_a_bound_and_no_more_than_that() {
        assert_eq!(capacity(0, Some(170), usize::MAX), 170);
        assert_eq!(capacity(0, Some(2_460_000), usize::MAX), 2_460_000);
        assert_eq!(capacity(0, Some(200 << 20), 256 << 20), MAX_UNSEEN);
        assert_eq!(capacity(0, None, usize::MAX), FIRST_ALLOCATION);
        assert_eq!(capacity(0, None, 100), 100);
    }

    proptest! {
        #[test]
        fn a_buffer_has_room_and_is_bounded_by_the_limit_and_by_what_has_come(
            limit in 0_usize..1 << 40,
            part in 0.0..=1.0_f64,
            announced in proptest::option::of(0_usize..1 << 41),
        ) {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "any number below the limit"
            )]
            let needed = (limit as f64 * part) as usize;
            let capacity = capacity(needed, announced, limit);
            prop_assert!((needed..=limit).contains(&capacity));
            prop_assert!(capacity <= needed.saturating_mul(GROWTH).max(MAX_UNSEEN));
        }

        #[test]
        fn a_body_that_holds_an_error_is_never_passed_over(
            key in prop::sample::select(vec![
                "error", "\\u0065rror", "err\\u006Fr", "\\u0065\\u0072\\u0072\\u006f\\u0072",
            ]),
            front in "[ \n]{0,2}|\\{ ?|\\{\"a\": ?[0-9],",
            value in "\"[a-z]{0,3}\"|[0-9]|\\{\"code\":\"x\"\\}|null",
        ) {
            for front in [front.as_str(), "{", "{\"error\":null,"] {
                let body = format!("{front}\"{key}\": {value}}}");
                let is_envelope = ErrorBody::read(body.as_bytes()).is_envelope;
                prop_assert!(!is_envelope || may_hold_error(body.as_bytes()), "{}", body);
            }
        }
    }

    #[test]
    fn only_a_body_with_the_key_or_with_an_escape_is_read_twice() {
        assert!(!may_hold_error(br#"{"balance":1,"errors":[],"terror":"err"}"#));
        assert!(may_hold_error(br#"{"\u0065rror":"x"}"#));
        assert!(may_hold_error(b"{\"error\":1,\xff"));
    }
}
