//! The admin API: what no member can do, over HTTP on a port of its own, for programs in any
//! language. Everything is `POST` with a JSON body but for the reads; `GET /` lists it.

#[cfg(feature = "perps")]
mod perps;

use std::{str::FromStr as _, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State as Extract, rejection::JsonRejection},
    middleware::{self, Next},
    response::{IntoResponse as _, Response as HttpResponse},
    routing,
};
use http::{HeaderMap, StatusCode, header, uri::Authority};
use kalshi_types::{Dollars, PriceRange};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    control::{ControlError, EventFee, FeeFormula, MarketOutcome, MarketPlan},
    faults::Fault,
    http::response::Response,
    lag::{Lag, ParseLagError},
    rules::Rules,
    shared::Shared,
    state::limits::Tier,
    stream::{
        faults::{Ending, StreamFaults},
        hub::LinkState,
    },
};

type Body<T> = Result<Json<T>, JsonRejection>;
type Api = Extract<Arc<Shared>>;

/// Makes the router and its list from the same rows: what is served is listed.
macro_rules! routes {
    ($($method:ident $path:literal $handler:ident $body:literal $does:literal;)*) => {
        /// Method, path, an example of the body, and what it does.
        pub(super) const ROUTES: &[[&str; 4]] = &[$([stringify!($method), $path, $body, $does]),*];

        pub(super) fn table() -> Router<Arc<Shared>> {
            Router::new()$(.route($path, routing::$method($handler)))*
        }
    };
}

// For the module of the other product.
#[cfg(feature = "perps")]
use routes;

routes! {
    get "/" list_routes "" "Lists what can be done here.";
    get "/clock" clock "" "Returns the exchange's time.";
    post "/clock/freeze" freeze_clock "" "Stops the exchange's time.";
    post "/clock/resume" resume_clock "" "Lets the exchange's time run on.";
    post "/clock/advance" advance r#"{"seconds": 60, "millis": 0}"#
        "Moves the exchange's time forwards.";
    post "/clock/member_skew" member_skew r#"{"millis": 5000}"#
        "Puts the clocks of members behind the exchange's wall clock.";
    post "/markets" list r#"{"ticker": "KXA-1", "closes_in_seconds": 3600}"#
        "Lists a market, which opens at once.";
    post "/markets/{ticker}/determine" determine r#"{"result": "scalar", "value": "0.25"}"#
        "Sets a market's result: yes, no, or scalar with a value.";
    post "/markets/{ticker}/dispute" dispute "" "Disputes a determined market.";
    post "/markets/{ticker}/pause" pause "" "Pauses a market.";
    post "/markets/{ticker}/resume" resume "" "Ends a market's pause, which cancels its orders.";
    post "/markets/{ticker}/close" close r#"{"in_seconds": 60}"# "Moves a market's close.";
    post "/markets/{ticker}/grid" grid
        r#"{"price_level_structure": "linear_cent", "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}]}"#
        "Gives a market another price grid.";
    post "/markets/{ticker}/metadata" metadata r#"{"yes_sub_title": "Above 50"}"#
        "Changes what YES means in a market.";
    post "/events/{event_ticker}/fee" event_fee
        r#"{"fee_type": "quadratic", "fee_multiplier": "0.5", "in_seconds": 60}"#
        "Gives an event fees of its own; without fee_type, takes them back.";
    post "/shards/{index}" shard r#"{"exchange_active": true, "trading_active": false}"#
        "Begins or ends a pause of a shard.";
    post "/deposits" deposit
        r#"{"key_id": "…", "amount_dollars": "10.00", "exchange_index": 0}"#
        "Pays money to the member of a key.";
    post "/tiers" tier r#"{"key_id": "…", "tier": "basic"}"#
        "Sets the usage level of the member of a key.";
    get "/faults" faults "" "Returns the faults of requests, with their hits.";
    post "/faults" add_fault
        r#"{"fault": {"kind": "reset_after"}, "operation": "create_order_v2", "times": 1}"#
        "Adds a fault of requests.";
    delete "/faults" clear_faults "" "Ends all faults of requests.";
    get "/lag" lag "" "Returns how far reads and streams trail.";
    post "/lag" set_lag r#"{"profile": "realistic"}"#
        "Sets how far reads and streams trail: a profile, or reads_millis, streams_millis and seed.";
    get "/rules" rules "" "Returns how what is not documented is decided.";
    post "/rules" set_rules r#"{"reuse_client_order_ids": true}"#
        "Sets how what is not documented is decided; what is not named, in the safer way.";
    get "/streams" streams "" "Returns the stream connections and what waits for their readers.";
    post "/stream_faults" stream_faults r#"{"drop_one_in": 100}"# "Sets the faults of streams.";
    post "/streams/cut" cut "" "Cuts all stream connections.";
    post "/streams/silence" silence "" "Leaves all stream connections open and silent.";
    post "/streams/restart" restart r#"{"down_for_millis": 500}"#
        "Cuts all stream connections and refuses new ones for a time.";
    post "/streams/end" end r#"{"ending": "channel_error"}"# "Ends all subscriptions.";
    get "/requests" requests "" "Returns the last requests of clients.";
    get "/audit" audit "" "Adds up all money, contracts and books.";
}

pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let table = table();
    #[cfg(feature = "perps")]
    let table = table.merge(perps::table());
    table
        .method_not_allowed_fallback(|| async { Response::method_not_allowed() })
        .fallback(|| async { Response::not_found() })
        .with_state(Arc::clone(shared))
}

/// Returns the routes behind the guard that keeps pages of others away.
pub(crate) fn guarded(router: Router) -> Router {
    router.layer(middleware::from_fn(guard))
}

/// Refuses what a page in a browser on this machine may have sent. Loopback is no protection
/// against it: a foreign name may point here (`Host`), and a foreign page may post here (`Origin`).
async fn guard(request: Request, next: Next) -> HttpResponse {
    match foreign(request.headers()) {
        None => next.run(request).await,
        Some(why) => Response::forbidden(why).into_response(),
    }
}

/// Returns why a request may be of a page that is not served here.
fn foreign(headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let name = host.and_then(|host| Authority::from_str(host).ok());
    let is_here = name.is_some_and(|name| kalshi_auth::is_loopback(name.host()));
    if !is_here || hosts.next().is_some() {
        return Some("the Host of an admin request must be this machine: 127.0.0.1 or localhost");
    }
    let here = host.map(|host| format!("http://{host}"));
    for origin in headers.get_all(header::ORIGIN) {
        if origin.to_str().ok() != here.as_deref() {
            return Some("an admin request must not have another Origin than the admin API");
        }
    }
    for site in headers.get_all("sec-fetch-site") {
        if !["same-origin", "none"].map(str::as_bytes).contains(&site.as_bytes()) {
            return Some("an admin request must not come from another site");
        }
    }
    None
}

async fn list_routes() -> HttpResponse {
    let routes = ROUTES.iter();
    #[cfg(feature = "perps")]
    let routes = routes.chain(perps::ROUTES);
    let rows: Vec<Value> = routes
        .map(|[method, path, body, does]| {
            let mut row = json!({"method": method.to_uppercase(), "path": path, "does": does});
            if !body.is_empty() {
                row["example"] = json!(body);
            }
            row
        })
        .collect();
    answer(Ok(json!({"routes": rows})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[serde(default)]
    seconds: u64,
    #[serde(default)]
    millis: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberSkew {
    millis: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Determine {
    /// `yes`, `no` or `scalar`.
    result: String,
    value: Option<Dollars>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    in_seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    yes_sub_title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grid {
    price_level_structure: String,
    price_ranges: Vec<PriceRange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEventFee {
    fee_type: Option<FeeFormula>,
    /// 1 unless given.
    fee_multiplier: Option<String>,
    #[serde(default)]
    in_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    exchange_active: bool,
    trading_active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deposit {
    /// Of the member: a key of theirs.
    key_id: String,
    amount_dollars: Dollars,
    #[serde(default)]
    exchange_index: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetTier {
    key_id: String,
    tier: Tier,
}

/// A lag: a profile by its name, or the settings.
#[derive(Deserialize)]
#[serde(untagged)]
enum SetLag {
    Profile(Profile),
    Settings(Lag),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    profile: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    #[serde(default)]
    down_for_millis: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    ending: Ending,
}

async fn clock(Extract(shared): Api) -> HttpResponse {
    answer(Ok(json!({"now": shared.now()})))
}

async fn freeze_clock(Extract(shared): Api) -> HttpResponse {
    shared.clock.freeze();
    answer(Ok(json!({"now": shared.now()})))
}

async fn resume_clock(Extract(shared): Api) -> HttpResponse {
    shared.clock.resume();
    answer(Ok(json!({"now": shared.now()})))
}

async fn advance(Extract(shared): Api, body: Body<Advance>) -> HttpResponse {
    with(body, |Advance { seconds, millis }| {
        let by = Duration::from_secs(seconds).saturating_add(Duration::from_millis(millis));
        shared.advance(by).map(|()| json!({"now": shared.now()}))
    })
}

async fn member_skew(Extract(shared): Api, body: Body<MemberSkew>) -> HttpResponse {
    with(body, |MemberSkew { millis }| {
        shared.clock.set_skew(millis);
        Ok(json!({"wall_clock": shared.clock.wall()}))
    })
}

async fn list(Extract(shared): Api, body: Body<MarketPlan>) -> HttpResponse {
    with(body, |plan| shared.list(plan).map(done))
}

async fn determine(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Determine>,
) -> HttpResponse {
    with(body, |body| {
        let outcome = match (body.result.as_str(), body.value) {
            ("yes", None) => MarketOutcome::Yes,
            ("no", None) => MarketOutcome::No,
            ("scalar", Some(value)) => MarketOutcome::Scalar(value),
            _ => return Err(wrong("result is yes, no, or scalar with a value")),
        };
        shared.determine(&ticker, outcome).map(done)
    })
}

async fn dispute(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.dispute(&ticker).map(done))
}

async fn pause(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.pause(&ticker, true).map(done))
}

async fn resume(Extract(shared): Api, Path(ticker): Path<String>) -> HttpResponse {
    answer(shared.pause(&ticker, false).map(done))
}

async fn close(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Close>,
) -> HttpResponse {
    with(body, |body| shared.close_in(&ticker, body.in_seconds).map(done))
}

async fn metadata(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<Metadata>,
) -> HttpResponse {
    with(body, |body| shared.set_yes_sub_title(&ticker, &body.yes_sub_title).map(done))
}

async fn grid(Extract(shared): Api, Path(ticker): Path<String>, body: Body<Grid>) -> HttpResponse {
    with(body, |body| {
        shared.set_grid(&ticker, &body.price_level_structure, body.price_ranges).map(done)
    })
}

async fn event_fee(
    Extract(shared): Api,
    Path(ticker): Path<String>,
    body: Body<NewEventFee>,
) -> HttpResponse {
    with(body, |NewEventFee { fee_type, fee_multiplier, in_seconds }| {
        // A number with six decimals at most, as dollars are.
        let multiplier: Dollars = fee_multiplier
            .as_deref()
            .unwrap_or("1")
            .parse()
            .map_err(|_| wrong("fee_multiplier is a text like \"0.5\""))?;
        let millionths = u32::try_from(multiplier.as_micros())
            .map_err(|_| wrong("fee_multiplier must be 0 to 4294"))?;
        let fee = fee_type.map(|formula| EventFee::new(formula, millionths));
        shared.schedule_event_fee(&ticker, fee, Duration::from_secs(in_seconds)).map(done)
    })
}

async fn shard(Extract(shared): Api, Path(index): Path<u8>, body: Body<Shard>) -> HttpResponse {
    with(body, |body| shared.set_shard(index, body.exchange_active, body.trading_active).map(done))
}

async fn deposit(Extract(shared): Api, body: Body<Deposit>) -> HttpResponse {
    with(body, |body| {
        let account = shared.account_of(&body.key_id).ok_or_else(|| wrong("no such key"))?;
        shared.deposit(account, body.exchange_index, body.amount_dollars).map(done)
    })
}

async fn tier(Extract(shared): Api, body: Body<SetTier>) -> HttpResponse {
    with(body, |body| {
        let account = shared.account_of(&body.key_id).ok_or_else(|| wrong("no such key"))?;
        shared.state().limits.set_tier(account, body.tier);
        Ok(json!({}))
    })
}

async fn faults(Extract(shared): Api) -> HttpResponse {
    answer(Ok(json!({"faults": shared.faults().reports()})))
}

async fn add_fault(Extract(shared): Api, body: Body<Fault>) -> HttpResponse {
    with(body, |fault| shared.add_fault(fault).map(done))
}

async fn clear_faults(Extract(shared): Api) -> HttpResponse {
    shared.faults().clear();
    answer(Ok(json!({})))
}

async fn lag(Extract(shared): Api) -> HttpResponse {
    answer(Ok(json!(shared.streams.lag())))
}

async fn set_lag(Extract(shared): Api, body: Body<SetLag>) -> HttpResponse {
    with(body, |body| {
        let lag = match body {
            SetLag::Settings(lag) => lag,
            SetLag::Profile(Profile { profile }) => {
                profile.parse().map_err(|error: ParseLagError| wrong(error.to_string()))?
            }
        };
        shared.set_lag(lag);
        Ok(json!({}))
    })
}

async fn rules(Extract(shared): Api) -> HttpResponse {
    answer(Ok(json!(shared.state().rules())))
}

async fn set_rules(Extract(shared): Api, body: Body<Rules>) -> HttpResponse {
    with(body, |rules| {
        shared.set_rules(rules);
        Ok(json!({}))
    })
}

async fn streams(Extract(shared): Api) -> HttpResponse {
    let backlog = shared.streams.backlog();
    answer(Ok(json!({
        "connections": shared.streams.connections(),
        "unread_frames": backlog.frames,
        "unread_bytes": backlog.bytes,
        "most_unread_bytes": backlog.most_bytes,
        "paused": backlog.paused,
    })))
}

async fn stream_faults(Extract(shared): Api, body: Body<StreamFaults>) -> HttpResponse {
    with(body, |faults| {
        shared.streams.set_faults(None, faults);
        Ok(json!({}))
    })
}

async fn cut(Extract(shared): Api) -> HttpResponse {
    shared.streams.set_link_state(None, LinkState::Cut);
    answer(Ok(json!({})))
}

async fn silence(Extract(shared): Api) -> HttpResponse {
    shared.streams.set_link_state(None, LinkState::Silent);
    answer(Ok(json!({})))
}

async fn restart(Extract(shared): Api, body: Body<Restart>) -> HttpResponse {
    with(body, |body| {
        shared.streams.restart(None, Duration::from_millis(body.down_for_millis));
        Ok(json!({}))
    })
}

async fn end(Extract(shared): Api, body: Body<End>) -> HttpResponse {
    with(body, |body| {
        shared.streams.end(None, body.ending);
        Ok(json!({}))
    })
}

async fn requests(Extract(shared): Api) -> HttpResponse {
    let rows: Vec<Value> = shared
        .log()
        .iter()
        .map(|request| {
            json!({
                "operation": request.operation,
                "method": request.method.as_str(),
                "path": request.path,
                "query": request.query,
                "signed": request.signed,
                "number": request.number,
                "at": request.at,
                "key_id": request.key_id,
                "faults": request.faults,
                "status": request.status,
                "took_micros": request.took.map(|took| u64::try_from(took.as_micros()).ok()),
            })
        })
        .collect();
    answer(Ok(json!({"requests": rows})))
}

async fn audit(Extract(shared): Api) -> HttpResponse {
    match shared.audit() {
        Ok(()) => answer(Ok(json!({"sound": true}))),
        Err(wrong) => {
            let body = json!({"sound": false, "wrong": wrong});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}

fn with<T>(body: Body<T>, act: impl FnOnce(T) -> Result<Value, ControlError>) -> HttpResponse {
    match body {
        Ok(Json(body)) => answer(act(body)),
        Err(rejection) => answer(Err(wrong(rejection.body_text()))),
    }
}

fn done((): ()) -> Value {
    json!({})
}

fn wrong(words: impl Into<std::borrow::Cow<'static, str>>) -> ControlError {
    crate::engine::types::Refusal::parameters(words).into()
}

fn answer(outcome: Result<Value, ControlError>) -> HttpResponse {
    match outcome {
        Ok(body) => Json(body).into_response(),
        Err(error) => Response::from(error.refusal).into_response(),
    }
}
