//! An exchange of perpetual futures that is a layer of the client: in virtual time, with faults.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use kalshi_auth::{Credentials, KeyType, server::KeyPair};
use kalshi_sdk::{
    Client, Environment,
    auth::Clock,
    middleware::{self, Extensions, Middleware, Next, Request, Response, async_trait},
    perps::types::{
        BookSide, CreateMarginOrderRequest, MarginMarket, SelfTradePreventionType, TimeInForce,
    },
};
use kalshi_trade::{
    journal::{Journal, MemoryJournal},
    placement::{PlacementState, Placements},
};
use kalshi_types::UnixMillis;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The clock of virtual time.
#[derive(Debug)]
pub(crate) struct Virtual {
    began: Instant,
    /// Its lead over the clock, in milliseconds.
    pub(crate) ahead: AtomicI64,
    /// True while it panics.
    pub(crate) panics: AtomicBool,
}

impl Clock for Virtual {
    fn now(&self) -> UnixMillis {
        assert!(!self.panics.load(Ordering::SeqCst), "the clock is set to panic");
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        let ahead = self.ahead.load(Ordering::SeqCst);
        UnixMillis::from_millis(1_790_000_000_000 + passed + ahead)
    }
}

/// The fate of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is carried out, and its answer is lost.
    LostAnswer,
    /// It gets lost on its way.
    Lost,
    /// It is carried out, and answered as one whose id is taken.
    Conflict,
    /// A corporate action has changed the market.
    Version,
    /// The rate limit refuses it.
    RateLimited,
    /// No connection can be made: the port is closed.
    NotConnected,
    /// A layer of the client panics before it is sent.
    Panic,
    /// It is carried out, and a layer of the client panics.
    LatePanic,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) orders: Vec<Value>,
    pub(crate) triggers: Vec<Value>,
    pub(crate) faults: VecDeque<Fault>,
    /// True while lists are empty and orders are not found.
    pub(crate) is_blind: bool,
    /// Reads that a layer of the client panics at.
    pub(crate) read_panics: usize,
    /// Method, path and query of each request.
    pub(crate) requests: Vec<String>,
    pub(crate) bodies: Vec<Value>,
}

impl State {
    /// Sets an exit trigger, or returns the first one that had its id.
    fn set_trigger(&mut self, body: &Value) -> Value {
        let id = &body["client_trigger_id"];
        if let Some(known) = self.triggers.iter().find(|one| one["client_trigger_id"] == *id) {
            return known.clone();
        }
        let mut trigger = json!({
            "id": format!("x-{}", self.triggers.len() + 1), "ticker": "KXBTCPERP",
            "kind": "bracket", "status": "active", "count": "0.00",
            "filled_count": "0.00", "created_time": "2026-11-27T00:00:00Z",
            "updated_time": "2026-11-27T00:00:00Z",
        });
        for (name, value) in body.as_object().unwrap() {
            trigger[name] = value.clone();
        }
        self.triggers.push(trigger.clone());
        trigger
    }
}

/// The exchange.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) clock: Arc<Virtual>,
}

impl Exchange {
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        let clock = Virtual { began, ahead: AtomicI64::default(), panics: AtomicBool::default() };
        Self { state: Arc::default(), clock: Arc::new(clock) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
        let credentials = Credentials::from_pem("key", pair.private_key_pem()).unwrap();
        Client::builder()
            .with_environment(Environment::Custom("http://127.0.0.1:9/trade-api/v2".to_owned()))
            .with_credentials(credentials)
            .with_middleware(self.clone())
            .build()
            .unwrap()
    }

    pub(crate) fn placements<J: Journal + Clone + 'static>(&self, journal: &J) -> Placements {
        Placements::builder(self.client(), journal.clone())
            .with_clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .start()
            .unwrap()
    }

    pub(crate) fn journal(&self) -> MemoryJournal {
        MemoryJournal::new(7, self.clock.now())
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// Returns the number of requests that begin so.
    pub(crate) fn count(&self, begin: &str) -> usize {
        self.lock().requests.iter().filter(|line| line.starts_with(begin)).count()
    }

    fn answer(&self, method: &str, path: &str, query: &str, body: &Value) -> (u16, Value) {
        let mut state = self.lock();
        state.requests.push(format!("{method} {path}?{query}"));
        state.bodies.push(body.clone());
        let is_read = method == "GET";
        let fault = if is_read { None } else { state.faults.pop_front() };
        if matches!(fault, Some(Fault::Lost)) {
            return (502, json!({}));
        }
        if matches!(fault, Some(Fault::Panic)) || (is_read && state.read_panics > 0) {
            state.read_panics = state.read_panics.saturating_sub(usize::from(is_read));
            drop(state);
            panic!("a layer of the client is set to panic");
        }
        if matches!(fault, Some(Fault::RateLimited)) {
            return (429, json!({"code": "too_many_requests"}));
        }
        if matches!(fault, Some(Fault::Version)) {
            return (409, json!({"code": "market_version_mismatch", "message": "changed"}));
        }
        let answer = match (method, path) {
            ("GET", "/exchange/user_data_timestamp") => {
                let now = self.clock.now().to_datetime().unwrap();
                (200, json!({ "as_of_time": now.to_rfc3339() }))
            }
            ("GET", "/margin/orders") => {
                let market = query.split('&').find_map(|pair| pair.strip_prefix("ticker="));
                let orders = state.orders.iter().filter(|order| {
                    !state.is_blind && market.is_none_or(|market| order["ticker"] == market)
                });
                (200, json!({ "orders": orders.collect::<Vec<_>>(), "cursor": "" }))
            }
            ("POST", "/margin/orders") => {
                let order_id = format!("o-{}", state.orders.len() + 1);
                state.orders.push(json!({
                    "order_id": order_id, "user_id": "u", "client_order_id": body["client_order_id"],
                    "ticker": body["ticker"], "side": body["side"], "price": body["price"],
                    "fill_count": "0.00", "remaining_count": body["count"],
                    "last_update_reason": "Amend", "last_update_time": "2026-11-27T00:00:00Z",
                }));
                (
                    201,
                    json!({ "order_id": order_id, "client_order_id": body["client_order_id"],
                    "fill_count": "0.00", "remaining_count": body["count"] }),
                )
            }
            ("PUT", "/margin/cross/positions/KXBTCPERP/exit_trigger") => {
                (200, state.set_trigger(body))
            }
            _ => {
                let Some(rest) = path.strip_prefix("/margin/orders/") else {
                    return (404, json!({"code": "not_found"}));
                };
                let (id, action) = rest.split_once('/').unwrap_or((rest, method));
                let is_blind = state.is_blind;
                let found = state.orders.iter_mut().find(|order| order["order_id"] == id);
                let Some(order) = found.filter(|_| !(is_read && is_blind)) else {
                    return (404, json!({"code": "not_found"}));
                };
                match action {
                    "GET" => (200, json!({ "order": order })),
                    "DELETE" => {
                        order["remaining_count"] = json!("0.00");
                        (200, json!({ "order_id": id, "reduced_by": "1.00" }))
                    }
                    "amend" => {
                        order["price"] = body["price"].clone();
                        order["remaining_count"] = body["count"].clone();
                        (200, json!({ "order_id": id }))
                    }
                    _ => {
                        order["remaining_count"] = body["reduce_to"].clone();
                        (200, json!({ "order_id": id, "remaining_count": body["reduce_to"] }))
                    }
                }
            }
        };
        match fault {
            Some(Fault::LostAnswer) => (502, json!({})),
            Some(Fault::Conflict) => (409, json!({"code": "order_already_exists"})),
            Some(Fault::LatePanic) => {
                drop(state);
                panic!("a layer of the client is set to panic");
            }
            _ => answer,
        }
    }
}

#[async_trait]
impl Middleware for Exchange {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> middleware::Result<Response> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let is_write = request.method() != "GET";
        if is_write && matches!(self.lock().faults.front(), Some(Fault::NotConnected)) {
            self.lock().faults.pop_front();
            return next.run(request, extensions).await;
        }
        let url = request.url();
        let path = url.path().strip_prefix("/trade-api/v2").unwrap();
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let body = serde_json::from_slice(body).unwrap_or_default();
        let query = url.query().unwrap_or_default();
        let (status, answer) = self.answer(request.method().as_str(), path, query, &body);
        let answer = http::Response::builder().status(status).body(answer.to_string()).unwrap();
        Ok(Response::from(answer))
    }
}

pub(crate) fn market() -> MarginMarket {
    let market = json!({
        "ticker": "KXBTCPERP", "market_id": "m-1", "status": "active", "exchange_index": 0,
        "tick_size": "0.25", "fractional_trading_enabled": false, "market_version": 3,
        "contract_size": "1", "underlying_multiplier": "1", "halt_sources": [],
        "funding_cap": 0, "funding_deadband": 0, "funding_limit_unit": "percentage",
        "funding_invalid_premium_handling": "dampen",
    });
    serde_json::from_value(market).unwrap()
}

pub(crate) fn order(id: &str) -> CreateMarginOrderRequest {
    CreateMarginOrderRequest::builder()
        .ticker("KXBTCPERP")
        .client_order_id(id)
        .side(BookSide::Bid)
        .count("2.00")
        .price("30000.25")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .try_into()
        .unwrap()
}

pub(crate) fn accepted(order_id: &str) -> PlacementState {
    PlacementState::Accepted { order_id: order_id.to_owned() }
}

pub(crate) const CREATE: &str = "POST /margin/orders?";
