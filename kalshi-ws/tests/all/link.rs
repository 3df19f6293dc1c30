//! A connection over a network that fails: latency, bytes that drip, links that are half open,
//! partitions, cuts in the middle of a frame, resets.
//!
//! Between client and exchange is a [`Link`], which carries the bytes of both directions as the test
//! says. No test waits for a time of its own: each waits for what must happen.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_ws::{
    Books, Channel, ConfigBuilder, ConnectErrorKind, Connection, DisconnectReason, Event, Outcome,
    Subscription,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::exchange::{Exchange, Peer, expect_event, next};

const BOOKS: Channel = Channel::OrderbookDelta;

/// The treatment of the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Carries them.
    Open,
    /// Carries them this much later.
    Late(Duration),
    /// Carries them in pieces of at most so many bytes.
    Drip(usize),
    /// Keeps them until it is open again.
    Held,
    /// Loses them, and all that follow: the ends know nothing of it.
    Lost,
    /// Carries this many more bytes, then ends the connection.
    CutAfter(usize),
    /// The same, by a reset.
    ResetAfter(usize),
}

/// Both directions of the connections that are made from now on, and of those that exist.
#[derive(Clone, Copy, Debug)]
struct Conditions {
    to_client: Flow,
    to_exchange: Flow,
}

impl Conditions {
    const OPEN: Self = Self { to_client: Flow::Open, to_exchange: Flow::Open };
    const HELD: Self = Self { to_client: Flow::Held, to_exchange: Flow::Held };
    const LOST: Self = Self { to_client: Flow::Lost, to_exchange: Flow::Lost };

    fn to_client(flow: Flow) -> Self {
        Self { to_client: flow, ..Self::OPEN }
    }
}

/// A network of one link, on this machine.
struct Link {
    url: String,
    /// The conditions of each connection, the last one's at the end.
    connections: Arc<Mutex<Vec<watch::Sender<Conditions>>>>,
    /// The conditions of the connections to come.
    next: Arc<Mutex<Conditions>>,
    // Ends with the test.
    _tasks: JoinSet<()>,
}

impl Link {
    /// Creates a link to an exchange.
    async fn to(exchange: &Exchange) -> Self {
        let target: SocketAddr = exchange.url.split('/').nth(2).unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/trade-api/ws/v2", listener.local_addr().unwrap());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(Mutex::new(Conditions::OPEN));
        let mut tasks = JoinSet::new();
        let (known, conditions) = (Arc::clone(&connections), Arc::clone(&next));
        tasks.spawn(async move {
            let mut carriers = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let exchange = TcpStream::connect(target).await.unwrap();
                let (sender, receiver) = watch::channel(*conditions.lock().unwrap());
                known.lock().unwrap().push(sender);
                carriers.spawn(carry(client, exchange, receiver));
            }
        });
        Self { url, connections, next, _tasks: tasks }
    }

    /// Changes the conditions of the newest connection.
    fn set(&self, conditions: Conditions) {
        self.connections.lock().unwrap().last().unwrap().send_replace(conditions);
    }

    /// Changes the conditions of all connections, and of those to come.
    fn set_all(&self, conditions: Conditions) {
        *self.next.lock().unwrap() = conditions;
        for connection in &*self.connections.lock().unwrap() {
            connection.send_replace(conditions);
        }
    }
}

/// Carries the bytes of one connection until either direction ends it.
async fn carry(client: TcpStream, exchange: TcpStream, conditions: watch::Receiver<Conditions>) {
    for tcp in [&client, &exchange] {
        tcp.set_nodelay(true).unwrap();
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_exchange, mut to_exchange) = exchange.into_split();
    let mut down = conditions.clone();
    let mut up = conditions;
    let is_reset = tokio::select! {
        is_reset = pump(&mut from_exchange, &mut to_client, &mut down, |c| c.to_client) => is_reset,
        is_reset = pump(&mut from_client, &mut to_exchange, &mut up, |c| c.to_exchange) => is_reset,
    };
    if is_reset {
        // What is left unsent is thrown away, and the peer is told by a reset.
        let client = from_client.reunite(to_client).unwrap();
        client.set_zero_linger().unwrap();
    }
}

/// Carries one direction; reports whether the connection is to end by a reset.
async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    conditions: &mut watch::Receiver<Conditions>,
    flow: impl Fn(&Conditions) -> Flow,
) -> bool {
    let mut buffer = vec![0; 4_096];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return false };
        let mut rest = buffer.get(..read).unwrap();
        while !rest.is_empty() {
            let now = flow(&conditions.borrow_and_update());
            let mut size = rest.len();
            match now {
                Flow::Open => {}
                Flow::Late(delay) => sleep(delay).await,
                Flow::Drip(most) => size = size.min(most),
                Flow::Held => {
                    if conditions.changed().await.is_err() {
                        return false;
                    }
                    continue;
                }
                Flow::Lost => break,
                Flow::CutAfter(0) => return false,
                Flow::ResetAfter(0) => return true,
                Flow::CutAfter(left) | Flow::ResetAfter(left) => size = size.min(left),
            }
            let (piece, after) = rest.split_at(size);
            if to.write_all(piece).await.is_err() {
                return false;
            }
            rest = after;
            if let Flow::CutAfter(left) | Flow::ResetAfter(left) = now {
                if left == size {
                    return matches!(now, Flow::ResetAfter(_));
                }
                panic!("more was to be sent before the cut");
            }
        }
    }
}

/// Returns a connection over a link, subscribed to the book of A, which is valid.
async fn subscribed(
    exchange: &mut Exchange,
    link: &Link,
    config: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> (Connection, Peer) {
    let config = config(exchange.config_at(&link.url));
    let (mut connection, mut peer) = exchange.connect(config).await;
    connection.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    expect_event!(connection, Event::Subscribed { channel: BOOKS, sid: 1 });
    expect_event!(connection, Event::Message(_));
    assert_eq!(best(connection.books()).as_deref(), Some("10.00"));
    (connection, peer)
}

/// Returns the contracts at the best bid, if the book can be read.
fn best(books: &Books) -> Option<String> {
    books.get("A")?.best_bid(Outcome::Yes).map(|level| level.count.to_string())
}

/// Answers the subscription that is made anew after a loss, and checks that the book is back.
async fn back(exchange: &mut Exchange, connection: &mut Connection) -> Peer {
    let mut peer = exchange.peer().await;
    peer.subscribed(2).await;
    peer.snapshot(2, 1, "A", "0.41").await;
    loop {
        match next(connection).await {
            Event::ReconnectFailed { .. } | Event::Reconnected { .. } => {
                assert_eq!(best(connection.books()), None);
            }
            Event::Subscribed { channel: BOOKS, sid: 2 } => break,
            other => panic!("{other:?}"),
        }
    }
    expect_event!(*connection, Event::Message(_));
    assert_eq!(best(connection.books()).as_deref(), Some("10.00"));
    peer.delta(2, 2, "A", "1.00").await;
    expect_event!(*connection, Event::Message(message) if message.seq == Some(2));
    peer
}

#[tokio::test]
async fn bytes_that_drip_lose_no_frame() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    let (mut connection, mut peer) = subscribed(&mut exchange, &link, |config| config).await;
    let mut seq = 1;
    for size in [1, 2, 3, 7, 64, 1_000] {
        link.set(Conditions { to_client: Flow::Drip(size), to_exchange: Flow::Drip(size) });
        for _ in 0..20 {
            seq += 1;
            peer.delta(1, seq, "A", "1.00").await;
        }
        peer.all_read().await;
    }
    for expected in 2..=seq {
        expect_event!(connection, Event::Message(message) if message.seq == Some(expected));
    }
    assert_eq!(best(connection.books()), Some(format!("{}.00", 10 + seq - 1)));
}

#[tokio::test]
async fn a_slow_link_delays_and_changes_nothing() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    let late = Flow::Late(Duration::from_millis(20));
    link.set_all(Conditions { to_client: late, to_exchange: late });
    let (mut connection, mut peer) = subscribed(&mut exchange, &link, |config| config).await;
    for seq in 2..=10 {
        peer.delta(1, seq, "A", "1.00").await;
    }
    connection.handle().add_markets(BOOKS, ["B"]).unwrap();
    let command = peer.command().await;
    peer.ok(&command, 1).await;
    for seq in 2..=10 {
        expect_event!(connection, Event::Message(message) if message.seq == Some(seq));
    }
    expect_event!(connection, Event::Added { items, .. } if items == ["B"]);
}

#[tokio::test]
async fn a_link_that_is_half_open_is_found_by_its_silence_and_replaced() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    let stale = Duration::from_secs(3);
    let (mut connection, mut peer) =
        subscribed(&mut exchange, &link, |config| config.with_stale_after(stale)).await;
    // Both ends believe in the connection, and nothing arrives any more.
    link.set(Conditions::LOST);
    peer.delta(1, 2, "A", "1.00").await;
    expect_event!(connection, Event::Stale { silent_for } if silent_for >= stale);
    expect_event!(connection, Event::Disconnected { reason: DisconnectReason::Silent });
    assert_eq!(best(connection.books()), None);
    back(&mut exchange, &mut connection).await;
}

#[tokio::test]
async fn a_link_on_which_commands_get_lost_is_replaced_though_messages_come() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    let limit = Duration::from_secs(3);
    let (mut connection, mut peer) =
        subscribed(&mut exchange, &link, |config| config.with_command_timeout(limit)).await;
    link.set(Conditions { to_exchange: Flow::Lost, ..Conditions::OPEN });
    connection.handle().add_markets(BOOKS, ["B"]).unwrap();
    peer.delta(1, 2, "A", "1.00").await;
    expect_event!(connection, Event::Message(message) if message.seq == Some(2));
    expect_event!(connection, Event::Disconnected { reason: DisconnectReason::CommandTimeout });
    let mut peer = exchange.peer().await;
    let command = peer.subscribed(2).await;
    assert_eq!(command["params"]["market_tickers"], serde_json::json!(["A", "B"]));
}

#[tokio::test]
async fn a_partition_shorter_than_the_limit_loses_nothing() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    let (mut connection, mut peer) = subscribed(&mut exchange, &link, |config| config).await;
    for round in 0..5 {
        link.set_all(Conditions::HELD);
        for seq in 2 + round * 10..12 + round * 10 {
            peer.delta(1, seq, "A", "1.00").await;
        }
        // A request that is made meanwhile is answered after it.
        connection.handle().get_snapshot(["A"]).unwrap();
        link.set_all(Conditions::OPEN);
        for seq in 2 + round * 10..12 + round * 10 {
            expect_event!(connection, Event::Message(message) if message.seq == Some(seq));
        }
    }
    assert_eq!(best(connection.books()).as_deref(), Some("60.00"));
    assert_eq!(peer.command().await["params"]["action"], "get_snapshot");
}

#[tokio::test]
async fn a_long_partition_ends_the_connection_and_heals() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    let millis = Duration::from_millis;
    let (mut connection, _peer) = subscribed(&mut exchange, &link, |config| {
        config.with_stale_after(millis(3_000)).with_connect_timeout(millis(1_000))
    })
    .await;
    link.set_all(Conditions::HELD);
    expect_event!(connection, Event::Stale { .. });
    expect_event!(connection, Event::Disconnected { reason: DisconnectReason::Silent });
    for attempt in 1..=3 {
        expect_event!(connection, Event::ReconnectFailed { attempt: n, error }
            if n == attempt && error.kind() == ConnectErrorKind::Timeout);
        assert_eq!(best(connection.books()), None);
    }
    link.set_all(Conditions::OPEN);
    // Handshakes that were held reach the exchange when nobody waits for them any more: the last
    // of its connections is the one that counts.
    loop {
        match next(&mut connection).await {
            Event::ReconnectFailed { .. } => {}
            Event::Reconnected { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let mut peer = exchange.peer().await;
    while let Some(later) = exchange.peer_now() {
        peer = later;
    }
    peer.subscribed(2).await;
    peer.snapshot(2, 1, "A", "0.41").await;
    expect_event!(connection, Event::Subscribed { channel: BOOKS, sid: 2 });
    expect_event!(connection, Event::Message(_));
    assert_eq!(best(connection.books()).as_deref(), Some("10.00"));
}

#[tokio::test]
async fn a_cut_in_the_middle_of_a_frame_delivers_what_was_whole_and_no_more() {
    let mut exchange = Exchange::start().await;
    let link = Link::to(&exchange).await;
    for (is_reset, cut) in [(false, 1), (false, 60), (true, 1), (true, 60)] {
        let (mut connection, mut peer) = subscribed(&mut exchange, &link, |config| config).await;
        peer.delta(1, 2, "A", "1.00").await;
        expect_event!(connection, Event::Message(message) if message.seq == Some(2));
        let flow = if is_reset { Flow::ResetAfter(cut) } else { Flow::CutAfter(cut) };
        link.set(Conditions::to_client(flow));
        peer.delta(1, 3, "A", "1.00").await;
        let reason = expect_event!(connection, Event::Disconnected { reason } => reason);
        assert!(
            matches!(
                reason,
                DisconnectReason::Failed(_) | DisconnectReason::Closed { code: None, .. }
            ),
            "{reason:?}"
        );
        assert_eq!(best(connection.books()), None);
        back(&mut exchange, &mut connection).await;
    }
}
