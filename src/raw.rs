//! The escape hatch: any method and path, signed and read like the operations.
//!
//! The exchange's document lags behind its server now and then. Until the next release of this
//! crate an operation that it does not know can be called here.

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
        cost: Cost { tokens: 10, per_item: false },
        deprecated: false,
        // Any answer may hold a secret: nothing is known of it.
        secret: true,
        summary: "",
        description: "",
    }
}

/// A request to any path. Made by [`Client::raw`].
#[derive(Debug)]
#[must_use = "call `send`"]
pub struct RawRequest {
    client: Client,
    operation: &'static Operation,
    request: Result<reqwest::RequestBuilder, Error>,
}

impl Client {
    /// Starts a request to any path below the base URL, signed if not [`public`](RawRequest::public).
    ///
    /// The path starts with a slash and is sent as it is: encode what stands in it.
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

    /// Sends it and decodes the answer; `serde_json::Value` takes any.
    ///
    /// # Errors
    ///
    /// As for every operation. No error shows any of the body, which might hold a secret.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not call the request back. Treat that like an error whose effect is
    /// [`Unknown`](crate::Effect::Unknown): read the state back before sending a write again.
    pub async fn send<T: DeserializeOwned>(self) -> Result<ResponseValue<T>, Error> {
        let (client, operation, request) = self.into_request()?;
        client.call(operation, request).await
    }

    /// Sends it and takes a success without reading its body.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancellation
    ///
    /// As [`send`](Self::send).
    pub async fn send_empty(self) -> Result<ResponseValue<()>, Error> {
        let (client, operation, request) = self.into_request()?;
        client.call_empty(operation, request).await
    }

    fn into_request(self) -> Result<(Client, &'static Operation, reqwest::Request), Error> {
        let operation = self.operation;
        let request = self.request?.build().map_err(|error| Error::not_built(operation, error))?;
        Ok((self.client, operation, request))
    }
}

/// Refuses a path that would end up at another place than it says.
fn checked(path: &str) -> Result<(), Error> {
    let refuse =
        |why: &str| Err(Error::invalid_request(&SIGNED, format!("the path {path:?} {why}")));
    let Some(rest) = path.strip_prefix('/') else { return refuse("must start with a slash") };
    if path.contains(['?', '#', '\\'])
        || path.contains(|c: char| c.is_control() || c.is_whitespace())
    {
        return refuse(
            "must hold neither `?`, `#`, `\\` nor white space: encode it, or use `query`",
        );
    }
    for segment in rest.split('/') {
        // URL parsers take the encoded dots for directions, too.
        if matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..") {
            return refuse("must hold neither an empty step, nor `.`, nor `..`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
}
