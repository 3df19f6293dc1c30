use std::{marker::PhantomData, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use kalshi_auth::{Clock, SystemClock, sign};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{
    PATIENCE,
    client::{Read, Seen},
    levels::{Change, Levels, mark, sum},
    markets::Markets,
    played::Played,
};

/// The plain client.
pub(super) struct Observer<P> {
    socket: WebSocketStream<TcpStream>,
    markets: Arc<Markets>,
    pub(super) books: Vec<Levels>,
    /// The states of each book since the exchange last stood still, oldest first.
    history: Vec<Vec<u64>>,
    /// The changes since then.
    changes: Vec<Vec<Change>>,
    pub(super) deltas: u64,
    seq: i64,
    commands: u64,
    product: PhantomData<P>,
}

impl<P: Played> Observer<P> {
    pub(super) async fn connect(exchange: &Exchange, markets: &Arc<Markets>) -> Self {
        let mut request = P::stream_url(exchange).into_client_request().unwrap();
        let credentials = exchange.credentials(Role::Maker).unwrap();
        let signed = sign(credentials, "GET", request.uri().path(), SystemClock.now()).unwrap();
        signed.insert_into(request.headers_mut());
        let tcp = TcpStream::connect(exchange.address()).await.unwrap();
        let (socket, _) = client_async(request, tcp).await.unwrap();
        let mut observer = Self {
            socket,
            markets: Arc::clone(markets),
            books: vec![Levels::new(); P::MARKETS],
            history: vec![Vec::new(); P::MARKETS],
            changes: vec![Vec::new(); P::MARKETS],
            deltas: 0,
            seq: 0,
            commands: 0,
            product: PhantomData,
        };
        let params = json!({"channels": ["orderbook_delta"], "market_tickers": markets.tickers});
        observer.send(&json!({"cmd": "subscribe", "params": params})).await;
        observer.catch_up().await;
        observer.begin();
        observer
    }

    async fn send(&mut self, command: &Value) {
        let mut command = command.clone();
        self.commands += 1;
        command["id"] = json!(self.commands);
        self.socket.send(Message::text(command.to_string())).await.unwrap();
    }

    /// Reads all that was sent so far: the answer to a command comes after it.
    pub(super) async fn catch_up(&mut self) {
        self.send(&json!({"cmd": "list_subscriptions"})).await;
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.unwrap().unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str().unwrap() {
                "orderbook_snapshot" | "orderbook_delta" => self.take(&frame),
                "ok" if frame["id"] == json!(self.commands) => return,
                "subscribed" => {}
                other => panic!("{other}: {text}"),
            }
        }
    }

    fn take(&mut self, frame: &Value) {
        self.seq += 1;
        assert_eq!(frame["seq"], json!(self.seq), "the truth has a hole");
        let message = &frame["msg"];
        let place = self.markets.place(message["market_ticker"].as_str().unwrap());
        let book = &mut self.books[place];
        if frame["type"] == "orderbook_snapshot" {
            *book = P::plain_snapshot(message);
            self.history[place] = vec![sum(book)];
            return;
        }
        self.deltas += 1;
        let change = P::plain_delta(message);
        let (_, is_bid, price, added) = change;
        let count = book.entry((is_bid, price)).or_default();
        let mut sum = *self.history[place].last().unwrap();
        if *count != 0 {
            sum = sum.wrapping_sub(mark(is_bid, price, *count));
        }
        self.changes[place].push(change);
        *count += added;
        match *count {
            0 => {
                book.remove(&(is_bid, price));
            }
            count => {
                assert!(count > 0, "the truth is corrupt");
                sum = sum.wrapping_add(mark(is_bid, price, count));
            }
        }
        self.history[place].push(sum);
    }

    /// Discards past states when the exchange stands still.
    pub(super) fn begin(&mut self) {
        for history in &mut self.history {
            history.drain(..history.len() - 1);
        }
        for changes in &mut self.changes {
            changes.clear();
        }
    }

    /// Checks that a merged client has had each change once and in order, or was notified of a
    /// loss.
    pub(super) fn check_changes(&self, name: &str, seen: &Seen) {
        for (place, (changes, seen)) in self.changes.iter().zip(&seen.changes).enumerate() {
            let ticker = &self.markets.tickers[place];
            let (mut at, mut is_void) = (0, seen.first() == Some(&Read::Void));
            for read in seen {
                match *read {
                    Read::Void => is_void = true,
                    Read::Delta(change) => {
                        assert!(!is_void, "{name}: a change of {ticker} without a book");
                        assert_eq!(Some(&change), changes.get(at), "{name}: {ticker} after {at}");
                        at += 1;
                    }
                    Read::Snapshot(clock) => {
                        let end = changes.partition_point(|change| change.0 <= clock);
                        let is_same = |change: &Change| change.0 == clock;
                        assert!(end >= at, "{name}: {ticker} goes back to {clock}");
                        let skipped = &changes[at..end];
                        // Of one clock, changes that cancel each other may be in the snapshot.
                        let is_tail = at > 0 && changes[at - 1..end].iter().all(is_same);
                        assert!(
                            is_void || skipped.is_empty() || is_tail,
                            "{name}: {skipped:?} of {ticker} are missing without a word"
                        );
                        (at, is_void) = (end, false);
                    }
                }
            }
            assert!(at == changes.len() && !is_void, "{name}: {ticker} ends after {at} changes");
        }
    }

    /// Checks that a client saw only past states, in their order.
    pub(super) fn check(&self, name: &str, seen: &Seen) {
        for (place, (history, books)) in self.history.iter().zip(&seen.books).enumerate() {
            // A snapshot may say again what is known.
            let mut left = history.as_slice();
            for (number, sum) in books.iter().enumerate() {
                let Some(at) = left.iter().position(|was| was == sum) else {
                    let ticker = &self.markets.tickers[place];
                    let places = |sum| history.iter().position(|was| was == sum);
                    let places: Vec<_> = books.iter().map(places).collect();
                    panic!(
                        "{name}: reading {number} of {ticker} since the last rest never was after \
                         the one before it: {places:?} of {}\nread: {:?}\nwas: {:?}",
                        history.len(),
                        seen.changes[place],
                        self.changes[place]
                    )
                };
                left = &left[at..];
            }
        }
    }
}
