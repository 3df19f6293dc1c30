//! Orders that a user places on the page, as a member: through the same signed requests as those of
//! any client, so that limits and checks apply and the log has them.
//!
//! The keys are made when the first order is placed. Their ids begin with `by-hand-`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    extract::{Path, State as Extract, rejection::JsonRejection},
    response::{IntoResponse as _, Response as HttpResponse},
};
use http::Method;
use kalshi_auth::{AuthError, Clock, Credentials, KeyType, UnixMillis, server::KeyPair};
use kalshi_sdk::{Client, Environment, OperationId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    http::{response::Response, ui::Ui},
    role::Role,
    shared::Shared,
};

/// The longest error that is passed on.
const MAX_ERROR: usize = 500;

/// The clients of members whose orders a user places.
#[derive(Debug)]
pub(super) struct ByHand {
    shared: Arc<Shared>,
    environment: Environment,
    clients: Mutex<BTreeMap<Role, Client>>,
}

/// The wall clock of the exchange, against which signatures are checked.
#[derive(Debug)]
struct WallClock(Arc<Shared>);

impl Clock for WallClock {
    fn now(&self) -> UnixMillis {
        UnixMillis::from_millis(self.0.clock.wall().timestamp_millis())
    }
}

/// A member whose orders a user can place.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Member {
    Trader,
    Maker,
}

/// An order of the page; the exchange checks its texts.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Placed {
    #[serde(skip_serializing)]
    member: Member,
    ticker: String,
    side: String,
    price: String,
    count: String,
    time_in_force: String,
    #[serde(default)]
    post_only: bool,
}

impl ByHand {
    pub(super) fn new(shared: &Arc<Shared>, base_url: &str) -> Self {
        let environment = Environment::Custom(base_url.to_owned());
        Self { shared: Arc::clone(shared), environment, clients: Mutex::default() }
    }

    /// Returns the client of a member, with a key that is made for the first of its requests.
    fn client(&self, member: Member) -> Result<Client, Response> {
        let role = match member {
            Member::Trader => Role::Trader,
            Member::Maker => Role::Maker,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&role) {
            return Ok(client.clone());
        }
        let failed = |error: &dyn std::fmt::Display| {
            Response::nested(500, "no_key", &format!("could not make a key: {error}"), None)
        };
        let (pair, credentials) = key(role).map_err(|error| failed(&error))?;
        let client = Client::builder()
            .with_environment(self.environment.clone())
            .with_credentials(credentials)
            .with_clock(Arc::new(WallClock(Arc::clone(&self.shared))))
            .build()
            .map_err(|error| failed(&error))?;
        self.shared.state().add_key(role, key_id(role), pair.public_key().clone());
        clients.insert(role, client.clone());
        Ok(client)
    }
}

fn key_id(role: Role) -> String {
    format!("by-hand-{}", format!("{role:?}").to_lowercase())
}

fn key(role: Role) -> Result<(KeyPair, Credentials), AuthError> {
    let pair = KeyPair::generate(KeyType::Ed25519)?;
    let credentials = Credentials::from_pem(key_id(role), pair.private_key_pem())?;
    Ok((pair, credentials))
}

/// Places an order.
pub(super) async fn place(
    Extract(ui): Extract<Arc<Ui>>,
    body: Result<Json<Placed>, JsonRejection>,
) -> HttpResponse {
    let placed = match body {
        Ok(Json(placed)) => placed,
        Err(rejection) => return Response::bad_request(&rejection.body_text()).into_response(),
    };
    let mut order = json!(placed);
    order["self_trade_prevention_type"] = "taker_at_cross".into();
    send(&ui, placed.member, OperationId::CreateOrderV2, "", Some(order)).await
}

/// Cancels an order.
pub(super) async fn cancel(
    Extract(ui): Extract<Arc<Ui>>,
    Path((member, order_id)): Path<(Member, String)>,
) -> HttpResponse {
    // An id that the exchange has given needs no encoding.
    if !order_id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Response::bad_request("this is no order id").into_response();
    }
    send(&ui, member, OperationId::CancelOrderV2, &order_id, None).await
}

/// Sends a request as a member, and passes the answer on.
async fn send(
    ui: &Ui,
    member: Member,
    operation: OperationId,
    order_id: &str,
    body: Option<Value>,
) -> HttpResponse {
    let client = match ui.by_hand.client(member) {
        Ok(client) => client,
        Err(refusal) => return refusal.into_response(),
    };
    let operation = operation.operation();
    let method: Method = operation.method.clone();
    let path = operation.path.replace("{order_id}", order_id);
    let mut request = client.raw(method, &path).operation(operation);
    if let Some(body) = body {
        request = request.json(&body);
    }
    match request.send::<Value>().await {
        Ok(answer) => Json(answer.into_inner()).into_response(),
        Err(error) => {
            let status = error.status().map_or(502, |status| status.as_u16());
            let text: String = error.to_string().chars().take(MAX_ERROR).collect();
            Response::nested(status, "refused", &text, None).into_response()
        }
    }
}
