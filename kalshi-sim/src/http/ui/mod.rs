//! The exchange in a browser: a page on the admin port, and the socket that keeps it current.
//!
//! [`model`] reads what is shown, [`conflation`] decides what is sent, [`socket`] sends it;
//! [`by_hand`] places the orders of a user. The page is in `page/`: no build step, no address
//! outside of this machine.
//!
//! A browser runs code of strangers, so this machine is no boundary: the admin API's guard refuses
//! foreign names and origins, and what has data or does something asks for the token of this start
//! besides. The page gets it in the fragment of its address, which no browser sends.

mod by_hand;
#[cfg(test)]
mod chromium;
mod conflation;
mod model;
mod socket;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    extract::{Request, State as Extract},
    middleware::{self, Next},
    response::{IntoResponse as _, Response as HttpResponse},
    routing::{delete, get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kalshi_auth::AuthError;
use sha2::{Digest as _, Sha256};

use self::by_hand::ByHand;
use crate::{auth, http::response::Response, shared::Shared};

/// The files of the page: name, type and text.
const FILES: [(&str, &str, &str); 7] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("app.js", SCRIPT, include_str!("page/app.js")),
    ("book.js", SCRIPT, include_str!("page/book.js")),
    ("draw.js", SCRIPT, include_str!("page/draw.js")),
    ("panels.js", SCRIPT, include_str!("page/panels.js")),
    ("replay.js", SCRIPT, include_str!("page/replay.js")),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Nothing from anywhere else, nothing inline, and in no frame of another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The header with the token of a request.
const TOKEN: &str = "x-token";

/// The page of one exchange.
pub(crate) struct Ui {
    shared: Arc<Shared>,
    token: Token,
    by_hand: ByHand,
}

/// The secret that the page of this start has.
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(** redacted **)")
    }
}

impl Token {
    /// Makes a token up, from the random numbers that keys are made of.
    fn new() -> Result<Self, AuthError> {
        auth::made_up_secret().map(Self)
    }

    /// Reports whether a text is the token. Digests are compared, so that the time of it says
    /// nothing.
    fn is(&self, text: &[u8]) -> bool {
        Sha256::digest(&self.0) == Sha256::digest(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ui {
    /// Returns the page of an exchange that serves its API at `base_url`.
    pub(crate) fn new(shared: &Arc<Shared>, base_url: &str) -> Result<Self, AuthError> {
        let shared = Arc::clone(shared);
        let by_hand = ByHand::new(&shared, base_url);
        shared.streams.start_journal();
        Ok(Self { shared, token: Token::new()?, by_hand })
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_str()
    }

    /// Refuses a request whose header does not have the token.
    fn check(&self, headers: &HeaderMap) -> Result<(), Response> {
        let token = headers.get(TOKEN).map(HeaderValue::as_bytes);
        if token.is_some_and(|token| self.token.is(token)) {
            return Ok(());
        }
        Err(Response::forbidden(
            "the token of the page is missing or wrong: open the address that \
            the exchange has printed",
        ))
    }
}

/// Returns the routes below `/ui`.
pub(crate) fn router(ui: Arc<Ui>) -> Router {
    let mut router = Router::new();
    for (name, kind, text) in FILES {
        router = router.route(
            &format!("/ui/{name}"),
            get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }),
        );
    }
    let guarded = Router::new()
        .route("/ui/history", get(history))
        .route("/ui/orders", post(by_hand::place))
        .route("/ui/orders/{member}/{order_id}", delete(by_hand::cancel))
        .layer(middleware::from_fn_with_state(Arc::clone(&ui), with_token));
    router
        .route(
            "/ui",
            get(|| async { (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "/ui/")]) }),
        )
        .route("/ui/stream", get(socket::upgrade))
        .merge(guarded)
        .layer(middleware::map_response(with_policy))
        .with_state(ui)
}

async fn with_token(Extract(ui): Extract<Arc<Ui>>, request: Request, next: Next) -> HttpResponse {
    match ui.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Returns the past of all books, as far as it is kept, in the form of a recording.
async fn history(Extract(ui): Extract<Arc<Ui>>) -> HttpResponse {
    let past = {
        let state = ui.shared.state();
        ui.shared.streams.read_journal(|journal| journal.past(&state))
    };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], past.write()).into_response()
}

/// Adds the headers that keep the page to itself.
async fn with_policy(mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
