//! Raw requests: any method and path, signed and read like the operations.
//!
//! The exchange's document sometimes lags behind its server. Until the next release of this crate
//! an operation that it does not know can be called here.

use http::Method;
use progenitor_client::ResponseValue;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::Client,
    error::Error,
    operation::{Access, Body, Cost, Operation, RetrySafety},
};

static SIGNED: Operation = raw(Access::Signed);
static PUBLIC: Operation = raw(Access::Public);

const fn raw(access: Access) -> Operation {
    Operation {
        id: "raw",
        operation_id: "",
        method: Method::GET,
        path: "",
        tag: "",
        access,
        alternatives: &[],
        success: 200,
        body: Body::Optional,
        parameters: &[],
        pagination: None,
        retry: RetrySafety::Reconcile,
        cost: Cost::DEFAULT,
        deprecated: false,
        // Any response may hold a secret: nothing is known about it.
        secret: true,
        summary: "",
        description: "",
    }
}

/// A request to any path. Made by [`Client::raw`].
///
/// # Examples
///
/// ```no_run
/// # async fn read(client: kalshi_sdk::Client) -> Result<(), kalshi_sdk::Error> {
/// use http::Method;
///
/// let request = client.raw(Method::GET, "/markets").public().query(&[("limit", "2")]);
/// let page = request.send::<serde_json::Value>().await?;
/// println!("{}", page["cursor"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "call `send`"]
pub struct RawRequest {
    client: Client,
    operation: &'static Operation,
    request: Result<reqwest::RequestBuilder, Error>,
}

impl Client {
    /// Returns a builder of a request to any path below the base URL, signed unless it is
    /// [`public`](RawRequest::public).
    ///
    /// The path starts with a slash and is sent as it is: percent-encode its parts.
    ///
    /// ```no_run
    /// # async fn run(client: kalshi_sdk::Client) -> Result<(), kalshi_sdk::Error> {
    /// use http::Method;
    ///
    /// let status = client
    ///     .raw(Method::GET, "/exchange/status")
    ///     .public()
    ///     .send::<serde_json::Value>()
    ///     .await?;
    /// println!("{}", status["trading_active"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn raw(&self, method: Method, path: &str) -> RawRequest {
        let request = checked(path).map(|()| {
            self.http()
                .request(method, format!("{}{path}", self.base_url()))
                .header(http::header::ACCEPT, "application/json")
        });
        RawRequest { client: self.clone(), operation: &SIGNED, request }
    }
}

impl RawRequest {
    /// Sends it without a signature.
    pub fn public(mut self) -> Self {
        self.operation = &PUBLIC;
        self
    }

    /// Leaves it to a layer to add a bearer token.
    #[cfg(feature = "klear")]
    pub(crate) fn bearer(mut self) -> Self {
        static BEARER: Operation = raw(Access::Bearer);
        self.operation = &BEARER;
        self
    }

    /// Makes it a request of an operation of the table, with its access: layers, logs and errors then
    /// name the operation, and an error may show the body unless the operation is
    /// [`secret`](Operation::secret). Method and path stay those of the request.
    ///
    /// For programs that choose an operation at run time:
    ///
    /// ```no_run
    /// # async fn run(client: kalshi_sdk::Client) -> Result<(), kalshi_sdk::Error> {
    /// use kalshi_sdk::OperationId;
    ///
    /// let operation = OperationId::GetExchangeStatus.operation();
    /// let request = client.raw(operation.method.clone(), operation.path).operation(operation);
    /// println!("{}", request.send_text().await?.into_inner());
    /// # Ok(())
    /// # }
    /// ```
    pub fn operation(mut self, operation: &'static Operation) -> Self {
        self.operation = operation;
        self
    }

    /// Adds query parameters.
    pub fn query<T: Serialize + ?Sized>(mut self, query: &T) -> Self {
        self.request = self.request.map(|request| request.query(query));
        self
    }

    /// Sets a JSON body.
    pub fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        self.request = self.request.map(|request| request.json(body));
        self
    }

    /// Sends it and decodes the response; `serde_json::Value` takes any.
    ///
    /// # Errors
    ///
    /// As for every operation. No error shows any of the body, which might hold a secret. With
    /// [`operation`](Self::operation), a success that lacks what the document requires of it is one, as
    /// for the operation's own method.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not cancel the request. Treat that like an error whose effect is
    /// [`Unknown`](crate::Effect::Unknown): read the state back before retrying a write.
    pub async fn send<T: DeserializeOwned>(self) -> Result<ResponseValue<T>, Error> {
        let (client, operation, request) = self.into_request()?;
        client.call_raw(operation, request).await
    }

    /// Sends it and accepts a success whose body is empty, or JSON that is not an error.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). A success that is neither, such as a page of a proxy, is
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode).
    ///
    /// # Cancellation
    ///
    /// As [`send`](Self::send).
    pub async fn send_empty(self) -> Result<ResponseValue<()>, Error> {
        let (client, operation, request) = self.into_request()?;
        client.call_raw_empty(operation, request).await
    }

    /// Sends it and returns the body of a success as it came: JSON that is not an error, or nothing.
    ///
    /// With [`operation`](Self::operation), a success is what it is for the operation's own method, as
    /// far as the fields at its top tell: those that the document requires have to be there.
    ///
    /// # Errors
    ///
    /// As [`send_empty`](Self::send_empty).
    ///
    /// # Cancellation
    ///
    /// As [`send`](Self::send).
    pub async fn send_text(self) -> Result<ResponseValue<String>, Error> {
        let (client, operation, request) = self.into_request()?;
        client.call_raw_text(operation, request).await
    }

    fn into_request(self) -> Result<(Client, &'static Operation, reqwest::Request), Error> {
        let operation = self.operation;
        let request = self.request?.build().map_err(|error| Error::not_built(operation, error))?;
        Ok((self.client, operation, request))
    }
}

/// Refuses a path that a URL parser would change, so that it would name another resource.
fn checked(path: &str) -> Result<(), Error> {
    let refuse =
        |why: &str| Err(Error::invalid_request(&SIGNED, format!("the path {path:?} {why}")));
    let Some(rest) = path.strip_prefix('/') else { return refuse("must start with a slash") };
    if path.contains(['?', '#', '\\'])
        || path.contains(|c: char| c.is_control() || c.is_whitespace())
    {
        return refuse(
            "must not contain `?`, `#`, `\\` or white space: percent-encode it, or use `query`",
        );
    }
    for segment in rest.split('/') {
        // URL parsers resolve the encoded dots, too.
        if matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..") {
            return refuse("must not contain an empty segment, `.` or `..`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_would_lead_elsewhere_are_refused() {
        for path in [
            "",
            "a",
            "//evil",
            "/a//b",
            "/a/../b",
            "/a/%2E%2e",
            "/a/",
            "/a?b=1",
            "/a#b",
            "/a\\b",
            "/a b",
        ] {
            assert!(checked(path).is_err(), "{path}");
        }
        for path in ["/exchange/status", "/a/%2F", "/a.b/..c"] {
            assert!(checked(path).is_ok(), "{path}");
        }
    }

    const BASE: &str = "https://exchange.invalid/trade-api/v2";

    /// Checks that an accepted path is sent as it stands: nothing is resolved, cut or moved to
    /// another host, and each segment decodes to the bytes that were given.
    fn path_before_equals_path_after(path: &str) -> Result<(), TestCaseError> {
        if checked(path).is_err() {
            return Ok(());
        }
        let url = reqwest::Url::parse(&format!("{BASE}{path}")).unwrap();
        prop_assert_eq!(url.host_str(), Some("exchange.invalid"));
        prop_assert_eq!((url.query(), url.fragment(), url.username()), (None, None, ""));
        let after = url.path().strip_prefix("/trade-api/v2").unwrap();
        prop_assert_eq!(after.split('/').count(), path.split('/').count());
        for (before, after) in path.split('/').zip(after.split('/')) {
            prop_assert_eq!(decoded(before), decoded(after), "{} became {}", path, url.path());
        }
        // An ASCII path with nothing that a URL must encode is the same text.
        if path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%:@!$&'()*+,;=".contains(&b)) {
            prop_assert_eq!(after, path);
        }
        Ok(())
    }

    fn decoded(segment: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = segment.as_bytes();
        while let [first, after @ ..] = rest {
            let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            let byte = hex.filter(|two| !two.starts_with('+'));
            match byte.and_then(|two| u8::from_str_radix(two, 16).ok()) {
                Some(byte) if *first == b'%' => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                _ => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn an_accepted_path_is_the_path_that_is_sent(path in any::<String>()) {
            path_before_equals_path_after(&path)?;
            path_before_equals_path_after(&format!("/{path}"))?;
        }

        #[test]
        fn an_accepted_path_of_dangerous_parts_is_the_path_that_is_sent(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("/"), Just("."), Just(".."), Just("%2e"), Just("%2E"), Just("%2f"),
                    Just("%5c"), Just("\\"), Just("?"), Just("#"), Just("@"), Just(":"),
                    Just("%00"), Just("%"), Just("\t"), Just(" "), Just("a"), Just("é"), Just("\u{a0}"),
                    Just("\u{200b}"), Just("\u{feff}"), Just("|"), Just("<"), Just("{"), Just("\u{7f}"),
                ],
                0..12,
            ),
        ) {
            path_before_equals_path_after(&format!("/{}", parts.concat()))?;
        }
    }
}
