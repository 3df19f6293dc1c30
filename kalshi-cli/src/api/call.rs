//! One call of an operation: its request, whether it may be sent, and its answer.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

use kalshi_sdk::{
    Effect, Operation, OperationId, RawRequest,
    operation::{Access, Place},
};
use serde_json::value::RawValue;

use super::{body::Body, parameters, table::Table};
use crate::{
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

/// A call of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) operation: &'static Operation,
    /// Path and query parameters by their names on the wire, each as often as it is given.
    parameters: Vec<(String, String)>,
    body: Option<Body>,
}

impl Call {
    pub(crate) fn new(operation: OperationId) -> Self {
        Self::of(operation.operation())
    }

    pub(crate) fn of(operation: &'static Operation) -> Self {
        Self { operation, parameters: Vec::new(), body: None }
    }

    /// Adds a parameter.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have")]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.parameters.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a parameter if it is given.
    pub(crate) fn with_optional(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Returns the body.
    #[cfg(feature = "perps")]
    pub(crate) fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }

    pub(crate) fn with_body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets a parameter, in place of what was given.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have")]
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value.to_string()));
    }

    /// Reports whether the operation takes a parameter.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.operation.parameters.iter().any(|parameter| parameter.name == name)
    }

    pub(crate) fn is_write(&self) -> bool {
        !self.operation.only_reads()
    }

    /// Checks parameters and body as far as the table describes them.
    pub(crate) fn check(&self) -> Outcome {
        parameters::check(self.operation, &self.parameters)?;
        match &self.body {
            Some(body) => body.check(self.operation),
            None => Body::check_absent(self.operation),
        }
    }

    /// Returns the path below the base URL, with its parameters.
    fn path(&self) -> String {
        let mut path = self.operation.path.to_owned();
        for (name, value) in self.given(Place::Path) {
            path = path.replace(&format!("{{{name}}}"), &parameters::encode(value));
        }
        path
    }

    fn query(&self) -> Vec<(&str, Cow<'_, str>)> {
        parameters::join(self.operation, self.given(Place::Query))
    }

    fn given(&self, place: Place) -> Vec<(&str, &str)> {
        let is_there = |name: &str| {
            let known = self.operation.parameters.iter();
            known.filter(|parameter| parameter.place == place).any(|known| known.name == name)
        };
        let given = self.parameters.iter().filter(|(name, _)| is_there(name));
        given.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Returns the request as `--dry-run` prints it. The signature is not in it.
    pub(crate) async fn describe(&self, context: &Context) -> Outcome<Json> {
        let service = Table::of(self.operation).service;
        let mut url = format!("{}{}", context.environment().await?.url(service), self.path());
        for (index, (name, value)) in self.query().into_iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            let _ = write!(url, "{}={}", parameters::encode(name), parameters::encode(&value));
        }
        Ok(Json::object([
            ("operation", Json::text(self.operation.id)),
            ("environment", Json::text(context.target.name())),
            ("method", Json::text(self.operation.method.as_str())),
            ("url", Json::text(url)),
            ("signed", Json::Bool(self.operation.access == Access::Signed)),
            ("body", self.body.as_ref().map_or(Json::Null, |body| body.json().clone())),
        ]))
    }

    /// Sends the call and returns the text of the answer; it may be empty.
    pub(crate) async fn send_text(&self, context: &Context) -> Outcome<String> {
        self.check()?;
        let (method, path) = (self.operation.method.clone(), self.path());
        let request = context.raw(self.operation, method, &path).await?;
        let request = request.operation(self.operation).query(&self.query());
        send(self.with_json(request)?, self.operation).await
    }

    fn with_json(&self, request: RawRequest) -> Outcome<RawRequest> {
        let body = match &self.body {
            Some(body) => body.text().to_owned(),
            // The exchange has been seen to refuse a request without any body.
            None if self.operation.body == kalshi_sdk::operation::Body::Optional => "{}".to_owned(),
            None => return Ok(request),
        };
        let body = RawValue::from_string(body)
            .map_err(|error| Failure::usage(format!("the body is not JSON: {error}")))?;
        Ok(request.json(&body))
    }

    /// Sends the call and reads the answer: an empty object if it has no body.
    pub(crate) async fn send(&self, context: &Context) -> Outcome<Json> {
        let text = self.send_text(context).await?;
        self.read(&text)
    }

    fn read(&self, text: &str) -> Outcome<Json> {
        if text.trim().is_empty() {
            return Ok(Json::Object(Vec::new()));
        }
        Json::parse(text).map_err(|error| {
            let text = format!("the answer cannot be read: {error}");
            let mut failure = if self.is_write() {
                Failure::new(Category::UnknownOutcome, text)
                    .with_next("read the state back before sending it again: it may have been done")
            } else {
                Failure::new(Category::Response, text)
            };
            failure.operation = Some(self.operation.id.to_owned());
            failure.effect = Effect::Unknown;
            failure
        })
    }

    /// Carries out a write: prints the request with `--dry-run`, asks where real money is at stake,
    /// and otherwise sends it and returns the answer. `None` says that nothing was sent.
    pub(crate) async fn write(&self, context: &Context, about: &str) -> Outcome<Option<Json>> {
        if !self.may_send(context, about).await? {
            return Ok(None);
        }
        self.send(context).await.map(Some)
    }

    /// Reports whether a write shall be sent: not with `--dry-run`, which prints it. Asks where real
    /// money is at stake.
    pub(crate) async fn may_send(&self, context: &Context, about: &str) -> Outcome<bool> {
        self.check()?;
        if context.global.dry_run {
            let request = self.describe(context).await?;
            context.output.line(&request.pretty())?;
            context.output.note("dry run: nothing was sent");
            return Ok(false);
        }
        super::ceiling::check(context, self.operation)?;
        context.confirm(about, self.operation.id).await?;
        Ok(true)
    }

    /// Fetches the pages of a list and hands each to `take`, which says whether to go on. An
    /// operation without pages has one.
    pub(crate) async fn pages(
        &self,
        context: &Context,
        mut take: impl FnMut(Json) -> Outcome<Next>,
    ) -> Outcome {
        let mut call = self.clone();
        let mut seen = HashSet::new();
        loop {
            let page = call.send(context).await?;
            let cursor = self.operation.pagination.and_then(|pagination| {
                let cursor = page.get(pagination.cursor)?.as_str()?;
                (!cursor.is_empty()).then(|| cursor.to_owned())
            });
            let next = take(page)?;
            let (Some(cursor), Next::Page { limit }) = (cursor, next) else { return Ok(()) };
            if !seen.insert(cursor.clone()) {
                let mut failure = Failure::new(
                    Category::Response,
                    format!("the list returned the cursor {cursor:?} twice, so it would never end"),
                );
                failure.operation = Some(self.operation.id.to_owned());
                return Err(failure);
            }
            call.set("cursor", cursor);
            if let Some(limit) = limit {
                call.set("limit", limit);
            }
        }
    }
}

/// The step after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Fetch the next one, with this many rows at most.
    Page {
        /// The limit of the next page; as that of the first unless set.
        limit: Option<u32>,
    },
    Stop,
}

/// Sends a request of an operation. The failure of a write may be of unknown outcome.
pub(crate) async fn send(request: RawRequest, operation: &'static Operation) -> Outcome<String> {
    match request.send_text().await {
        Ok(text) => Ok(text.into_inner()),
        Err(error) => Err(Failure::of_call(&error, operation)),
    }
}
