//! The sockets of the streams: the signed handshake, and the frames of one connection.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response as HttpResponse},
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinHandle,
    time,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{
    engine::ids::AccountId,
    http::response::Response,
    shared::Shared,
    state::limits::Tier,
    stream::{
        hub::{LinkState, Next, Queue},
        product::Product,
    },
};

/// The interval of the server's pings.
const PING: Duration = Duration::from_secs(10);
/// The interval at which time passes for the engine when no request arrives.
const STEP: Duration = Duration::from_millis(20);
/// The largest frame of a client.
const MAX_FRAME: usize = 1024 * 1024;
/// The time in which a connection that ends can still be read.
const FAREWELL: Duration = Duration::from_secs(2);
/// The bytes that are still read of it.
const MAX_REST: u64 = 64 * 1024 * 1024;

/// A socket of the exchange's side.
pub(crate) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Answers the handshake, and serves the connection in a task of its own.
pub(crate) fn upgrade(
    shared: &Arc<Shared>,
    product: Product,
    mut request: Request,
) -> HttpResponse {
    match accept(shared, product, &mut request) {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

fn accept(
    shared: &Arc<Shared>,
    product: Product,
    request: &mut Request,
) -> Result<HttpResponse, Response> {
    let (_, caller) =
        shared.authenticate(request.method(), request.uri().path(), request.headers())?;
    let account = caller.account;
    if shared.streams.is_down(account) {
        return Err(Response::unavailable());
    }
    let accept = accept_key(request)?;
    let limit = connections(shared.state().limits.tier(account));
    let Some(admission) = Admission::new(shared, account, limit) else {
        return Err(Response::too_many_requests());
    };
    let shared = Arc::clone(shared);
    switch(request, &accept, MAX_FRAME, move |socket| async move {
        let _admission = admission;
        let (id, queue) = shared.streams.connect(caller, product);
        serve(&shared, id, &queue, socket).await;
        shared.streams.disconnect(id);
    })
}

/// Checks that a request is a handshake. Returns the value that accepts it.
pub(crate) fn accept_key(request: &Request) -> Result<String, Response> {
    let wants = |name: header::HeaderName, word: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    if !wants(header::UPGRADE, "websocket") || !wants(header::CONNECTION, "upgrade") {
        return Err(Response::bad_request("this path takes WebSocket handshakes only"));
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    Ok(derive_accept_key(key.ok_or_else(|| Response::bad_request("no handshake key"))?))
}

/// Answers a handshake, and serves the socket in a task of its own.
pub(crate) fn switch<F: Future<Output = ()> + Send + 'static>(
    request: &mut Request,
    accept: &str,
    max_frame: usize,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<HttpResponse, Response> {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // A client that went away during the handshake needs no connection.
        let Ok(upgraded) = upgraded.await else { return };
        let config = tokio_tungstenite::tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(Some(max_frame))
            .max_frame_size(Some(max_frame));
        let io = TokioIo::new(upgraded);
        serve(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await).await;
    });
    HttpResponse::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty())
        .map_err(|_| Response::bad_request("no handshake key"))
}

/// Returns the number of connections that a member may have. The exchange's default; what the
/// higher tiers have is not published.
fn connections(tier: Tier) -> usize {
    match tier {
        Tier::Basic
        | Tier::Advanced
        | Tier::Expert
        | Tier::Premier
        | Tier::Paragon
        | Tier::Prime
        | Tier::Prestige
        | Tier::Unlimited => 200,
    }
}

/// The place of one connection among those of its member. It is free again when this is dropped.
struct Admission {
    shared: Arc<Shared>,
    account: AccountId,
}

impl Admission {
    /// Takes a place, if one of `limit` is free.
    fn new(shared: &Arc<Shared>, account: AccountId, limit: usize) -> Option<Self> {
        let is_free = shared.streams.admit(account, limit);
        is_free.then(|| Self { shared: Arc::clone(shared), account })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.shared.streams.leave(self.account);
    }
}

async fn serve<S>(shared: &Shared, id: u64, queue: &Queue, mut socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping = time::interval(PING);
    ping.tick().await;
    loop {
        // Others are not held up by a client that asks for more than it reads.
        let takes_commands = queue.takes_commands();
        let outcome = tokio::select! {
            next = queue.next() => match next {
                Next::Send(text, delay) => {
                    if !delay.is_zero() {
                        time::sleep(delay).await;
                    }
                    send(queue, &mut socket, Message::text(text)).await
                }
                // Held open, and neither read nor written: what a dead network looks like.
                Next::Silent => {
                    while queue.link_state() == LinkState::Silent {
                        time::sleep(STEP).await;
                    }
                    return;
                }
                Next::Cut => return,
            },
            _ = ping.tick() => {
                send(queue, &mut socket, Message::Ping("heartbeat".into())).await
            }
            message = socket.next(), if takes_commands => match message {
                Some(Ok(Message::Text(text))) => {
                    {
                        let state = shared.state();
                        shared.streams.receive(id, text.as_str(), &state);
                    }
                    // The others get the thread, and the state, after each command.
                    tokio::task::yield_now().await;
                    Ok(())
                }
                Some(Ok(Message::Close(_))) => return close(socket, None).await,
                Some(Err(error)) => {
                    if let Some(code) = code_of(&error) {
                        close(socket, Some(code)).await;
                    }
                    return;
                }
                None => return,
                // Pings are answered by the socket itself; there are no binary commands.
                Some(Ok(_)) => Ok(()),
            },
        };
        if outcome.is_err() {
            return;
        }
    }
}

/// Sends a message, unless the connection is cut first: a client that does not read must not keep
/// it from ending.
async fn send<S>(
    queue: &Queue,
    socket: &mut WebSocketStream<S>,
    message: Message,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio::select! {
        sent = socket.send(message) => sent,
        () = queue.is_cut() => Err(Error::ConnectionClosed),
    }
}

/// Returns the code that tells a client what was wrong with its frame; `None` if the client is
/// gone.
fn code_of(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// Ends a connection with a close frame: with a code, or in answer to the client's own.
async fn close<S>(mut socket: WebSocketStream<S>, code: Option<CloseCode>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let farewell = async {
        // The one or the other says that the connection is over, as it should.
        let _ = match code {
            Some(code) => socket.close(Some(CloseFrame { code, reason: "".into() })).await,
            // The answer to a close is queued already.
            None => socket.flush().await,
        };
        // What is unread when a socket goes makes the system reset the connection, and the close
        // frame may be lost with it: the rest of what the client has sent is read first.
        let mut io = socket.into_inner();
        io.shutdown().await.ok()?;
        let mut rest = io.take(MAX_REST);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok()
    };
    // A client that neither reads nor ends is left alone.
    let _ = time::timeout(FAREWELL, farewell).await;
}

/// Lets time pass, so that what falls due happens and is published without a request.
pub(crate) fn keep_time(shared: Arc<Shared>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut step = time::interval(STEP);
        step.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let (mut second, mut fifth) = (i64::MIN, i64::MIN);
        loop {
            step.tick().await;
            let now = shared.now();
            let mut state = shared.state();
            shared.advance_to(&mut state, now);
            let turns = u64::try_from(state.traders.count()).unwrap_or(0).div_ceil(4);
            state.run_traders(turns, now.into());
            shared.streams.publish(&mut state);
            let millis = now.timestamp_millis();
            if millis.div_euclid(200) != fifth {
                fifth = millis.div_euclid(200);
                let fast = millis.div_euclid(1_000) == second;
                second = millis.div_euclid(1_000);
                shared.streams.tick(&state, fast);
            }
        }
    })
}
