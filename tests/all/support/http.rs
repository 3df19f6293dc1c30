//! A small HTTP/1.1 server on loopback, for what a mock server hides or would not do: the target
//! as it was sent, connections counted, answers that break off.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{BASE, KLEAR_BASE};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, undecoded.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The server's treatment of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A complete answer; the connection stays open.
    Full { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// These bytes, and then the connection is closed in good order.
    Close(Vec<u8>),
    /// These bytes, and then the connection is reset.
    Reset(Vec<u8>),
    /// These bytes, and then nothing more for as long as the client waits.
    Hang(Vec<u8>),
}

pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    handler: Box<dyn Fn(&Request) -> Answer + Send + Sync>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the segments of the path below the base, decoded.
    pub(crate) fn segments(&self) -> Vec<String> {
        let below = [BASE, KLEAR_BASE].iter().find_map(|base| self.path().strip_prefix(base));
        let below = below.expect("the path starts with the base");
        below.split('/').skip(1).map(percent_decoded).collect()
    }

    /// Returns the query, decoded, in order.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        let url = format!("http://localhost{}", self.target);
        let url = reqwest::Url::parse(&url).unwrap();
        url.query_pairs().into_owned().collect()
    }

    /// Returns the values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the value of a header that stands there once or not at all.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} stands there more than once: {values:?}");
        values.first().copied()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("the body is no JSON: {error}: {:?}", String::from_utf8_lossy(&self.body))
        })
    }

    /// Reports whether it carries any part of a signature.
    pub(crate) fn is_signed(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("kalshi-access"))
    }
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new(200, body.to_string()).with_header("content-type", "application/json")
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Full { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

impl Server {
    pub(crate) async fn start(
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            handler: Box::new(handler),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let server = Self { address, state: Arc::clone(&state) };
        // Ends with the runtime of the test.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Returns the only request that there was.
    pub(crate) fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "not one request: {requests:#?}");
        requests.remove(0)
    }

    /// Returns the last request.
    pub(crate) fn last(&self) -> Request {
        self.state.requests.lock().unwrap().last().cloned().expect("no request came")
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let answer = (state.handler)(&request);
        let without_body = request.method == "HEAD";
        state.requests.lock().unwrap().push(request);
        let bytes = match &answer {
            Answer::Full { status, headers, body } => full(*status, headers, body, without_body),
            Answer::Close(bytes) | Answer::Reset(bytes) | Answer::Hang(bytes) => bytes.clone(),
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match answer {
            Answer::Full { .. } => {}
            Answer::Close(_) => return,
            Answer::Reset(_) => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Answer::Hang(_) => {
                // Until the client hangs up.
                let _ = stream.read_to_end(&mut Vec::new()).await;
                return;
            }
        }
    }
}

fn full(status: u16, headers: &[(String, String)], body: &[u8], without_body: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    // A 204 must not announce a length.
    if status != 204 {
        write!(head, "content-length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if status != 204 && !without_body {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// Reads the next request of a connection; `None` when it has ended.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).expect("a head is text");
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    assert!(request.header("transfer-encoding").is_none(), "a body is sent with its length");
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    while buffer.len() < end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(request)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(&rest[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits after `%`"));
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).expect("the path is UTF-8")
}
