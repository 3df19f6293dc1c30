//! `kalshi replay --serve`: a recording on the socket protocol of the exchange, on this machine only.
//!
//! One task has the recording and the subscriptions of all clients; each connection has a task of
//! its own, which only carries frames.

mod session;
mod timeline;

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_auth::is_loopback;
use kalshi_sdk::UnixMillis;
use kalshi_ws::recording::{RecordedEvent, RecordedLine, Recording};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, StatusCode, header},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use self::{
    session::Session,
    timeline::{Moment, Timeline},
};
use crate::{
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
};

/// The path of the streams, as on the exchange.
const PATH: &str = "/trade-api/ws/v2";

/// The interval of the pings, and their content, as on the exchange.
const PING: Duration = Duration::from_secs(10);
const HEARTBEAT: &str = "heartbeat";

/// The largest frame of a client.
const MAX_FRAME: usize = 1 << 20;

/// The most connections at the same time.
const MAX_CONNECTIONS: usize = 64;

/// The frames that wait for one client. Once there are more, the recording waits.
const QUEUE: usize = 64;

/// The time for which the recording waits for a client that does not read.
const SLOW: Duration = Duration::from_secs(10);

/// The time without a command after which playing begins and, at its end, ends.
const QUIET: Duration = Duration::from_millis(200);

/// The time for a handshake, and for a client to end its connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(5);

/// The recording and the speed at which it is served.
pub(super) struct Served<'a> {
    pub(super) folder: &'a Path,
    pub(super) name: &'a str,
    pub(super) speed: Option<u32>,
    pub(super) until: Option<UnixMillis>,
}

/// A report of a connection to the timeline.
enum Input {
    Opened(u64, Sender<Output>),
    Command(u64, String),
    Gone(u64),
}

/// A message of the timeline to a connection.
enum Output {
    Frame(String),
    Close(CloseCode, String),
}

/// A client.
struct Peer {
    session: Session,
    output: Sender<Output>,
}

/// Serves a recording until it was played to its end, or Ctrl-C.
pub(super) async fn serve(context: &Context, served: Served<'_>, port: u16) -> Outcome {
    let failed = |error: io::Error| Failure::local(format!("could not listen on {port}: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let recording = Recording::open(served.folder, served.name)
        .map_err(|error| Failure::local(format!("{}: {error}", served.folder.display())))?;
    let mut player = Player::new(recording, &served);
    if player.is_over() {
        return Err(Failure::local(format!(
            "{}: there is no recording with the name {:?}",
            served.folder.display(),
            served.name
        )));
    }
    context.output.document(
        &Json::object([
            ("KALSHI_ENV", Json::text(format!("http://{address}/trade-api/v2"))),
            ("streams", Json::text(format!("ws://{address}{PATH}"))),
        ]),
        &[],
    )?;
    context.output.note("it plays while a client is subscribed; Ctrl-C stops it");
    let (sender, mut inputs) = channel(QUEUE);
    let accepting = tokio::spawn(accept(listener, sender));
    let result = tokio::select! {
        () = player.play(&mut inputs) => Ok(()),
        ended = tokio::signal::ctrl_c() => ended.map_err(|error| {
            Failure::local(format!("could not wait for Ctrl-C: {error}"))
        }),
    };
    accepting.abort();
    if player.gaps > 0 {
        context.output.note(&format!("{} gaps in the recording", player.gaps));
    }
    result
}

/// Accepts connections, each with a task of its own.
async fn accept(listener: TcpListener, inputs: Sender<Input>) {
    let mut connections = JoinSet::new();
    let mut last = 0;
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of descriptors, or the client went away: others may come.
            tokio::time::sleep(QUIET).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            continue;
        }
        last += 1;
        connections.spawn(connection(last, socket, inputs.clone()));
    }
}

#[expect(clippy::result_large_err, reason = "the type of the library's callback")]
fn check(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode| {
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = status;
        Err(response)
    };
    if request.uri().path() != PATH {
        return refuse(StatusCode::NOT_FOUND);
    }
    // A page of a browser may open sockets to this machine; recordings are not for it.
    if request.headers().contains_key(header::ORIGIN) || !is_own_host(request.headers()) {
        return refuse(StatusCode::FORBIDDEN);
    }
    Ok(response)
}

fn is_own_host(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    is_loopback(name)
}

/// Serves a connection until either side ends it.
async fn connection(id: u64, socket: TcpStream, inputs: Sender<Input>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let _ = socket.set_nodelay(true);
    let accepted = accept_hdr_async_with_config(socket, check, Some(config));
    let Ok(Ok(socket)) = timeout(HANDSHAKE, accepted).await else { return };
    let (output, outputs) = channel(QUEUE);
    if inputs.send(Input::Opened(id, output)).await.is_ok() {
        carry(id, socket, outputs, &inputs).await;
        let _ = inputs.send(Input::Gone(id)).await;
    }
}

/// Carries frames in both directions, at the same time: a client that writes and does not read
/// holds up itself only.
async fn carry(
    id: u64,
    socket: WebSocketStream<TcpStream>,
    mut outputs: Receiver<Output>,
    inputs: &Sender<Input>,
) {
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Text(text) = message
                && inputs.send(Input::Command(id, text.to_string())).await.is_err()
            {
                return;
            }
        }
    };
    let writing = async {
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.tick().await;
        loop {
            let message = tokio::select! {
                output = outputs.recv() => match output {
                    Some(Output::Frame(text)) => Message::text(text),
                    Some(Output::Close(code, reason)) => {
                        let frame = CloseFrame { code, reason: reason.into() };
                        let _ = sink.send(Message::Close(Some(frame))).await;
                        // The client answers, and the reading ends.
                        tokio::time::sleep(FAREWELL).await;
                        return;
                    }
                    // It was too slow.
                    None => return,
                },
                _ = ping.tick() => Message::Ping(HEARTBEAT.into()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

/// Plays the recording to all clients.
struct Player {
    recording: Recording,
    next: Option<RecordedLine>,
    timeline: Timeline,
    peers: BTreeMap<u64, Peer>,
    speed: Option<u32>,
    until: Option<UnixMillis>,
    /// The time of the line with which playing began or went on, and when that was.
    began: Option<(UnixMillis, Instant)>,
    /// The time at which it goes on: not before the clients have subscribed to all that they want.
    resumes: Instant,
    is_playing: bool,
    gaps: u64,
    out: Vec<String>,
}

impl Player {
    fn new(recording: Recording, served: &Served<'_>) -> Self {
        let mut player = Self {
            recording,
            next: None,
            timeline: Timeline::new(),
            peers: BTreeMap::new(),
            speed: served.speed,
            until: served.until,
            began: None,
            resumes: Instant::now(),
            is_playing: false,
            gaps: 0,
            out: Vec::new(),
        };
        player.read(UnixMillis::EPOCH);
        player
    }

    /// Reads the line after that of a time. One that cannot be read is a gap.
    fn read(&mut self, at: UnixMillis) {
        self.next = match self.recording.next() {
            Some(Ok(line)) if self.until.is_none_or(|until| line.at <= until) => Some(line),
            Some(Err(error)) => {
                let event = RecordedEvent::Disconnected(error.to_string());
                Some(RecordedLine { at, event })
            }
            _ => None,
        };
    }

    fn is_over(&self) -> bool {
        self.next.is_none()
    }

    /// Plays to the end, and then says goodbye.
    async fn play(&mut self, inputs: &mut Receiver<Input>) {
        loop {
            let is_subscribed = self.peers.values().any(|peer| peer.session.is_subscribed());
            if is_subscribed != self.is_playing {
                self.is_playing = is_subscribed;
                self.began = None;
                self.resumes = Instant::now() + QUIET;
            }
            let due = self.due();
            tokio::select! {
                biased;
                input = inputs.recv() => match input {
                    Some(input) => self.input(input).await,
                    None => return,
                },
                () = sleep_until(due), if is_subscribed || self.is_over() => {
                    if self.is_over() {
                        return self.end(inputs).await;
                    }
                    self.step().await;
                }
            }
        }
    }

    /// Returns the time of the next line, or of the end.
    fn due(&self) -> Instant {
        let (Some(line), Some(speed), Some((start, began))) = (&self.next, self.speed, self.began)
        else {
            return self.resumes;
        };
        // A line before the first, after the clock was set back, waits for nothing.
        let after = line.at.max(start).abs_diff(start) / speed;
        began.checked_add(after).unwrap_or(began)
    }

    /// Plays the next line.
    async fn step(&mut self) {
        let Some(line) = self.next.take() else { return };
        self.began.get_or_insert_with(|| (line.at, Instant::now()));
        self.read(line.at);
        if self.is_over() {
            // What clients ask for because of the last lines is answered.
            self.resumes = Instant::now() + QUIET;
            // The recording was ended: nothing is missing after that.
            if let RecordedEvent::Disconnected(_) = line.event {
                return;
            }
        }
        let moment = self.timeline.line(line);
        match moment {
            Moment::Nothing => {}
            Moment::Message(message) => {
                let ids: Vec<u64> = self.peers.keys().copied().collect();
                for id in ids {
                    let Some(peer) = self.peers.get_mut(&id) else { continue };
                    peer.session.publish(&message, &self.timeline, &mut self.out);
                    self.send(id).await;
                }
                // The connections get the thread.
                tokio::task::yield_now().await;
            }
            Moment::Gap(reason) => {
                self.gaps += 1;
                let reason = format!("a gap in the recording: {reason}");
                self.close(CloseCode::Restart, &reason, |_| true).await;
            }
            Moment::Ended { channel, items } => {
                let reason = format!("the recording has no more of {channel} {}", items.join(", "));
                let is_of = |session: &Session| session.has(&channel, &items);
                self.close(CloseCode::Restart, &reason, is_of).await;
            }
        }
    }

    /// Takes in what a connection tells.
    async fn input(&mut self, input: Input) {
        match input {
            Input::Opened(id, output) => {
                self.peers.insert(id, Peer { session: Session::default(), output });
            }
            Input::Command(id, text) => {
                // One that was cut may have said more.
                let Some(peer) = self.peers.get_mut(&id) else { return };
                peer.session.command(&text, &self.timeline, &mut self.out);
                if self.began.is_none() || self.is_over() {
                    self.resumes = Instant::now() + QUIET;
                }
                self.send(id).await;
            }
            Input::Gone(id) => {
                self.peers.remove(&id);
            }
        }
    }

    /// Hands frames to a client, which the recording waits for. One that is too slow is cut.
    async fn send(&mut self, id: u64) {
        for text in std::mem::take(&mut self.out) {
            let Some(peer) = self.peers.get(&id) else { return };
            let sent = timeout(SLOW, peer.output.send(Output::Frame(text))).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.peers.remove(&id);
            }
        }
    }

    /// Ends the connections that this holds for.
    async fn close(&mut self, code: CloseCode, reason: &str, is_it: impl Fn(&Session) -> bool) {
        /// A close frame has room for 123 bytes.
        const MAX_REASON: usize = 120;
        let mut reason = reason.to_owned();
        while reason.len() > MAX_REASON {
            reason.pop();
        }
        let (gone, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.peers).into_iter().partition(|(_, peer)| is_it(&peer.session));
        self.peers = left;
        for peer in gone.into_values() {
            let _ = timeout(SLOW, peer.output.send(Output::Close(code, reason.clone()))).await;
        }
    }

    /// Ends all connections at the end of the recording, and waits until the clients are gone.
    async fn end(&mut self, inputs: &mut Receiver<Input>) {
        let mut left: Vec<u64> = self.peers.keys().copied().collect();
        self.close(CloseCode::Normal, "the recording has ended", |_| true).await;
        let gone = async {
            while !left.is_empty() {
                match inputs.recv().await {
                    Some(Input::Gone(id)) => left.retain(|peer| *peer != id),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        let _ = timeout(FAREWELL, gone).await;
    }
}
