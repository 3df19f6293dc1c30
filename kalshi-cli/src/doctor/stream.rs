//! The streams: the upgrade, a ping and its answer, and one subscription.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_sdk::{
    Credentials, Environment,
    auth::{Clock as _, Service, SystemClock, sign},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{timeout, timeout_at},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{
        Error as WsError, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, Response},
    },
};

use super::{
    network::{self, Place},
    report::Check,
};

/// The names of these checks.
const UPGRADE: &str = "ws upgrade";
const SUBSCRIPTION: &str = "ws channel";
const PING: &str = "ws ping";

/// The most of the text of a refusal that is shown.
const MAX_TEXT: usize = 160;

/// Connects to the streams by a socket of its own, without a proxy.
pub(super) async fn check(
    environment: &Environment,
    credentials: &Credentials,
    limit: Duration,
    ping_within: Duration,
) -> Vec<Check> {
    let place = match Place::of(environment, Service::Streams) {
        Ok(place) => place,
        Err(error) => {
            return failed(Check::fail(UPGRADE, error, "correct the URL in --env"));
        }
    };
    let (dns, addresses) = network::dns(&place, limit).await;
    if addresses.is_empty() {
        return failed(Check { name: UPGRADE, ..dns });
    }
    let (tcp, socket) = network::tcp(&place, &addresses, limit).await;
    let Some(socket) = socket else { return failed(Check { name: UPGRADE, ..tcp }) };
    if !place.is_tls {
        return upgraded(environment, credentials, socket, limit, ping_within).await;
    }
    let (tls, stream) = network::tls(&place, socket, limit).await;
    match stream {
        Some(stream) => upgraded(environment, credentials, stream, limit, ping_within).await,
        None => failed(Check { name: UPGRADE, ..tls }),
    }
}

fn failed(check: Check) -> Vec<Check> {
    let skipped = [SUBSCRIPTION, PING].map(|name| Check::skipped(name, "there is no connection"));
    std::iter::once(check).chain(skipped).collect()
}

async fn upgraded<S: AsyncRead + AsyncWrite + Unpin>(
    environment: &Environment,
    credentials: &Credentials,
    stream: S,
    limit: Duration,
    ping_within: Duration,
) -> Vec<Check> {
    let begun = Instant::now();
    let request = match request(environment, credentials) {
        Ok(request) => request,
        Err(error) => return failed(Check::fail(UPGRADE, error, "kalshi setup")),
    };
    let socket = match timeout(limit, client_async(request, stream)).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(WsError::Http(response))) => return failed(refused(&response)),
        Ok(Err(error)) => {
            return failed(Check::fail(
                UPGRADE,
                format!("what answers does not speak WebSocket: {error}"),
                "a proxy or a firewall in between may not let WebSocket through",
            ));
        }
        Err(_) => {
            return failed(Check::fail(
                UPGRADE,
                format!("no answer within {} s", limit.as_secs()),
                "a proxy or a firewall in between may not let WebSocket through",
            ));
        }
    };
    let mut checks = vec![Check::ok(UPGRADE, "the streams accept the key").took(begun.elapsed())];
    let begun = Instant::now();
    let until = tokio::time::Instant::now() + ping_within;
    let (mut sink, mut messages) = socket.split();
    let subscribe = r#"{"id":1,"cmd":"subscribe","params":{"channels":["market_lifecycle_v2"]}}"#;
    let (mut subscribed, mut pinged, mut ended) = (None, None, None);
    let sent = async {
        sink.send(Message::text(subscribe)).await?;
        sink.send(Message::Ping("kalshi doctor".into())).await
    };
    if let Err(error) = sent.await {
        ended = Some(error.to_string());
    }
    while ended.is_none() && (subscribed.is_none() || pinged.is_none()) {
        match timeout_at(until, messages.next()).await {
            Ok(Some(Ok(Message::Ping(_)))) => pinged = Some(begun.elapsed()),
            Ok(Some(Ok(Message::Pong(body)))) if body.as_ref() == b"kalshi doctor" => {
                pinged = Some(begun.elapsed());
            }
            Ok(Some(Ok(Message::Text(text)))) => match kind_of(&text).as_deref() {
                Some("subscribed") => subscribed = Some(Ok(begun.elapsed())),
                Some("error") => subscribed = Some(Err(shown(&text))),
                _ => {}
            },
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => ended = Some(error.to_string()),
            Ok(None) => ended = Some("it was closed".to_owned()),
            Err(_) => break,
        }
    }
    let lost = |what: &str| match &ended {
        Some(reason) => format!("the connection ended before {what}: {reason}"),
        None => format!("{what} did not come within {} s", ping_within.as_secs()),
    };
    let remedy = "a proxy or a firewall in between may cut quiet connections";
    checks.push(match subscribed {
        Some(Ok(took)) => Check::ok(SUBSCRIPTION, "market_lifecycle_v2 is subscribed").took(took),
        Some(Err(text)) => Check::fail(
            SUBSCRIPTION,
            format!("the subscription was refused: {text}"),
            "the key may not be allowed to: see its scopes",
        ),
        None => Check::fail(SUBSCRIPTION, lost("the confirmation"), remedy),
    });
    checks.push(match pinged {
        Some(took) => Check::ok(PING, "pings go both ways or are answered").took(took),
        None => Check::fail(PING, lost("a ping or the answer to one"), remedy),
    });
    // The checks are made: how the connection ends does not matter.
    let _ = timeout(Duration::from_millis(500), sink.close()).await;
    checks
}

fn request(
    environment: &Environment,
    credentials: &Credentials,
) -> Result<tokio_tungstenite::tungstenite::handshake::client::Request, String> {
    let uri = environment.checked_url(Service::Streams).map_err(|error| error.to_string())?;
    let path = uri.path().to_owned();
    let mut request = uri.into_client_request().map_err(|error| error.to_string())?;
    let headers = sign(credentials, "GET", &path, SystemClock.now());
    let headers = headers.map_err(|error| error.to_string())?;
    headers.insert_into(request.headers_mut());
    request.headers_mut().insert(
        "user-agent",
        HeaderValue::from_static(concat!("kalshi-cli/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}

fn refused(response: &Response<Option<Vec<u8>>>) -> Check {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let text = shown(&String::from_utf8_lossy(body));
    let text = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
    let remedy = match status.as_u16() {
        401 | 403 => "the signed call above says what is wrong with the key",
        429 => "too many connections or attempts: close others, wait a moment",
        500.. => "the exchange has a problem: try again in a moment",
        _ => "check the URL in --env; a proxy in between may not let WebSocket through",
    };
    Check::fail(UPGRADE, format!("the upgrade was refused: {text}"), remedy)
}

/// Returns the beginning of a text on one line, without what a terminal would obey.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// Returns the type of a message.
fn kind_of(text: &str) -> Option<String> {
    let value = crate::json::Json::parse(text).ok()?;
    value.get("type")?.as_str().map(str::to_owned)
}
