//! The socket of a page: what it watches and acknowledges comes in, frames go out.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State as Extract},
    response::{IntoResponse as _, Response as HttpResponse},
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use kalshi_auth::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{self, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    http::{
        response::Response,
        ui::{
            Ui,
            conflation::Page,
            model::{self, Watch},
        },
    },
    shared::Shared,
    stream::shell::{self, Socket},
};

/// The subprotocol, with its version. A page offers it, and the token as a second one.
pub(super) const PROTOCOL: &str = "kalshi-sim.1";
/// The shortest time between two frames.
const PAUSE: Duration = Duration::from_millis(100);
/// The time in which a page must take a frame.
const SEND_TIME: Duration = Duration::from_secs(10);
/// The largest message of a page.
const MAX_MESSAGE: usize = 16 * 1024;

/// A message of the page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromPage {
    Watch(Watch),
    Ack(u64),
}

/// Answers the handshake of a page that has the token.
pub(super) async fn upgrade(Extract(ui): Extract<Arc<Ui>>, mut request: Request) -> HttpResponse {
    accept(&ui, &mut request).unwrap_or_else(Response::into_response)
}

fn accept(ui: &Arc<Ui>, request: &mut Request) -> Result<HttpResponse, Response> {
    // A browser cannot give a handshake headers of its own, but subprotocols; an address would be
    // written down in histories and logs.
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let has_token = offered.iter().any(|word| ui.token.is(word.as_bytes()));
    if !has_token || !offered.contains(&PROTOCOL) {
        return Err(Response::forbidden("the handshake does not have the token of the page"));
    }
    let accept = shell::accept_key(request)?;
    let shared = Arc::clone(&ui.shared);
    let mut response = shell::switch(request, &accept, MAX_MESSAGE, move |socket| async move {
        serve(&shared, socket).await;
    })?;
    let protocol = HeaderValue::from_static(PROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(response)
}

/// Returns the first message of the exchange.
fn hello(shared: &Shared) -> String {
    let state = shared.state();
    let hello = json!({
        "protocol": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "seed": state.start.seed.to_string(),
        "at": shared.now().timestamp_millis(),
        "members": ["trader", "maker"],
        "markets": state.engine.markets().len(),
    });
    json!({"hello": hello}).to_string()
}

async fn serve(shared: &Shared, mut socket: Socket) {
    let (mut page, mut watch) = (Page::default(), Watch::default());
    let mut step = time::interval(PAUSE);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if send(&mut socket, hello(shared)).await.is_err() {
        return;
    }
    loop {
        let text = tokio::select! {
            _ = step.tick() => {
                let now = SystemClock.now().as_millis();
                if watch.panels.is_empty() || !page.is_ready(now) {
                    continue;
                }
                let (head, model) = model::read(shared, &watch);
                page.frame(head, model, now)
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                    Ok(FromPage::Watch(wanted)) => {
                        watch = wanted;
                        continue;
                    }
                    Ok(FromPage::Ack(number)) => {
                        page.acknowledge(number);
                        continue;
                    }
                    // The page is ours: what else comes here is a mistake to be seen.
                    Err(error) => Some(json!({"error": error.to_string()}).to_string()),
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    let _ = socket.flush().await;
                    return;
                }
                Some(Ok(_)) => continue,
            },
        };
        if let Some(text) = text
            && send(&mut socket, text).await.is_err()
        {
            return;
        }
    }
}

/// Sends a message; an error if the page is gone or does not read.
async fn send(socket: &mut Socket, text: String) -> Result<(), ()> {
    let sent = time::timeout(SEND_TIME, socket.send(Message::text(text))).await;
    sent.map_err(|_| ())?.map_err(|_| ())
}
