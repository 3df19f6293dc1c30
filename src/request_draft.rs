//! A request on its way from a builder to the transport.

use http::{HeaderValue, header};
use progenitor_client::QueryParam;
use reqwest::{Request, RequestBuilder, Url};
use serde::Serialize;

use crate::{error::Error, operation::Operation};

/// The request of an operation, whose parameters are added one by one.
///
/// One for all operations: what each of them wrote out by itself would be compiled as often.
#[derive(Debug)]
pub(crate) struct RequestDraft {
    operation: &'static Operation,
    request: RequestBuilder,
}

impl RequestDraft {
    /// Begins a request. The path is one below the base URL, its parameters percent-encoded.
    ///
    /// The base URL has been parsed and checked when the client was built; parsing the whole anew
    /// for each request would take longer than all else here.
    pub(crate) fn new(
        http: &reqwest::Client,
        base: &Url,
        operation: &'static Operation,
        path: &str,
    ) -> Self {
        let mut url = base.clone();
        url.set_path(&[base.path().trim_end_matches('/'), path].concat());
        let request = Request::new(operation.method.clone(), url);
        Self { operation, request: RequestBuilder::from_parts(http.clone(), request) }
    }

    /// Asks for a response in JSON.
    pub(crate) fn accept_json(self) -> Self {
        self.map(|request| {
            request.header(header::ACCEPT, HeaderValue::from_static("application/json"))
        })
    }

    /// Adds a query parameter that the operation requires.
    pub(crate) fn query<T: Serialize>(self, name: &str, value: &T) -> Self {
        self.map(|request| request.query(&QueryParam::new(name, value)))
    }

    /// Adds a query parameter, unless it is `None`.
    pub(crate) fn query_optional<T: Serialize>(self, name: &str, value: Option<&T>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Sets the body.
    pub(crate) fn json<T: Serialize>(self, body: &T) -> Self {
        self.map(|request| request.json(body))
    }

    /// Builds the request.
    ///
    /// # Errors
    ///
    /// A parameter or body that cannot be written.
    pub(crate) fn build(self) -> Result<Request, Error> {
        self.request.build().map_err(|error| Error::not_built(self.operation, error))
    }

    fn map(self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        Self { request: change(self.request), ..self }
    }
}
