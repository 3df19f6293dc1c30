//! The middleware against a listener on this machine, which keeps what it was sent.

use std::{
    collections::HashSet,
    future::Future,
    pin::pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread, ThreadId},
    time::Duration,
};

use http::Extensions;
use kalshi_auth::{
    AuthError, AuthErrorKind, Clock, Credentials, ManualClock, Origin, Signer, SigningMiddleware,
    SigningPolicy, UnixMillis,
};
use reqwest::{Method, Request, Response, Url, redirect};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::helpers::{KEY_ID, base64, ed25519_credentials, rsa_credentials, text, verifies};

/// A server that answers with the statuses in turn, the last of them forever.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicU64>,
}

/// The head of a request, as it came over the wire.
#[derive(Clone, Debug)]
struct Received {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Server {
    async fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicU64::new(0));
        let (kept, count) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&kept), statuses));
            }
        });
        Self { url, requests, connections }
    }

    fn received(&self) -> Vec<Received> {
        self.requests.lock().unwrap().clone()
    }

    fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1);
        received.into_iter().next().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    requests: Arc<Mutex<Vec<Received>>>,
    statuses: &'static [u16],
) {
    let mut buffer = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        let text = String::from_utf8(buffer.clone()).unwrap();
        if !text.ends_with("\r\n\r\n") {
            continue;
        }
        buffer.clear();
        let index = {
            let mut requests = requests.lock().unwrap();
            requests.push(Received::parse(&text));
            requests.len() - 1
        };
        let status = statuses.get(index).or(statuses.last()).copied().unwrap();
        let location = if status == 301 { "location: /elsewhere\r\n" } else { "" };
        let response = format!("HTTP/1.1 {status} X\r\n{location}content-length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

impl Received {
    fn parse(text: &str) -> Self {
        let mut lines = text.trim_end().lines();
        let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        Self {
            method: words.next().unwrap(),
            target: words.next().unwrap(),
            headers: headers.map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect(),
        }
    }

    /// Returns the values of a header, of which there should be one.
    fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect()
    }

    fn one(&self, name: &str) -> &str {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }

    fn is_signed(&self) -> bool {
        self.headers.iter().any(|(name, _)| name.starts_with("kalshi-"))
    }

    /// Checks the signature over what stands in the request line.
    fn assert_verifies(&self, public: &str) {
        assert_eq!(self.one("kalshi-access-key"), KEY_ID);
        let timestamp = self.one("kalshi-access-timestamp");
        let path = self.target.split('?').next().unwrap();
        let message = format!("{timestamp}{}{path}", self.method);
        let signature = base64(self.one("kalshi-access-signature"));
        assert!(verifies(&text(public), message.as_bytes(), &signature), "{message}");
    }
}

const ED25519: &str = "keys/public/ed25519.pem";
const RSA: &str = "keys/public/rsa-2048.pem";

/// A clock that moves on by a millisecond whenever it is read, and remembers who read it.
#[derive(Debug, Default)]
struct Ticking {
    millis: AtomicI64,
    readers: Mutex<HashSet<ThreadId>>,
}

impl Clock for Ticking {
    fn now(&self) -> UnixMillis {
        self.readers.lock().unwrap().insert(thread::current().id());
        UnixMillis::from_millis(1_703_123_456_789 + self.millis.fetch_add(1, Ordering::SeqCst))
    }
}

fn signer(credentials: Credentials) -> Signer {
    Signer::new(credentials, Arc::new(Ticking::default()))
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap()
}

fn client(signer: Option<Signer>, origins: &[&str]) -> ClientWithMiddleware {
    let origins = origins.iter().map(|origin| origin.parse::<Origin>().unwrap());
    ClientBuilder::new(http()).with(SigningMiddleware::new(signer, origins)).build()
}

fn auth_error(result: reqwest_middleware::Result<Response>) -> AuthError {
    match result {
        Err(Error::Middleware(error)) => error.downcast().expect("the error of this crate"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_signed_over_the_path_as_sent_without_its_query() {
    let server = Server::start(&[200]).await;
    let client = client(Some(signer(ed25519_credentials())), &[&server.url]);
    let targets = [
        "/trade-api/v2/portfolio/orders?limit=5&cursor=a%2Fb",
        "/trade-api/v2/markets/KX%2FA%25B",
        "/trade-api/v2/markets/a b/é?q=é",
        "/trade-api/v2/markets/a'(b)!*~;,:@&=+$",
        "/trade-api/v2/a/../b/%2e%2e/c/./d//e",
        "/trade-api/v2/markets/{x}|\\^`\"<>",
        "/trade-api/v2/markets/x#fragment",
        "/?",
    ];
    for target in targets {
        client.get(format!("{}{target}", server.url)).send().await.unwrap();
    }
    let received = server.received();
    assert_eq!(received.len(), targets.len());
    for request in &received {
        request.assert_verifies(ED25519);
    }
    assert_eq!(received[1].target, "/trade-api/v2/markets/KX%2FA%25B");
    assert_eq!(received[2].target, "/trade-api/v2/markets/a%20b/%C3%A9?q=%C3%A9");
}

#[tokio::test]
async fn every_method_is_signed_with_either_kind_of_key() {
    for (credentials, public) in [(rsa_credentials(), RSA), (ed25519_credentials(), ED25519)] {
        let server = Server::start(&[200]).await;
        let client = client(Some(signer(credentials)), &[&server.url]);
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            let url = format!("{}/trade-api/v2/portfolio/orders", server.url);
            client.request(method, url).send().await.unwrap();
        }
        for request in server.received() {
            request.assert_verifies(public);
        }
    }
}

/// Sends a request up to three times, as retrying middleware does.
struct Retry;

#[async_trait::async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        for _ in 0..2 {
            let again = request.try_clone().unwrap();
            let response = next.clone().run(again, extensions).await?;
            if response.status() != 503 {
                return Ok(response);
            }
        }
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn each_attempt_has_a_timestamp_and_a_signature_of_its_own() {
    for (credentials, public) in [(rsa_credentials(), RSA), (ed25519_credentials(), ED25519)] {
        let server = Server::start(&[503, 503, 200]).await;
        let origin: Origin = server.url.parse().unwrap();
        let client = ClientBuilder::new(http())
            .with(Retry)
            .with(SigningMiddleware::new(Some(signer(credentials)), [origin]))
            .build();
        let response = client.get(format!("{}/x", server.url)).send().await.unwrap();
        assert_eq!(response.status(), 200);

        let received = server.received();
        assert_eq!(received.len(), 3);
        let values = |name| received.iter().map(|r| r.one(name)).collect::<HashSet<_>>().len();
        assert_eq!(values("kalshi-access-timestamp"), 3);
        assert_eq!(values("kalshi-access-signature"), 3);
        for request in &received {
            request.assert_verifies(public);
        }
    }
}

#[tokio::test]
async fn another_host_gets_neither_signature_nor_request() {
    let ours = Server::start(&[200]).await;
    let other = Server::start(&[200]).await;
    let client = client(Some(signer(ed25519_credentials())), &[&ours.url]);
    for policy in [None, Some(SigningPolicy::Required), Some(SigningPolicy::Optional)] {
        let mut request = client.get(format!("{}/x", other.url));
        if let Some(policy) = policy {
            request = request.with_extension(policy);
        }
        let error = auth_error(request.send().await);
        assert!(error.is_foreign_origin());
        let expected =
            format!("the request goes to {}, which the credentials are not for", other.url);
        assert_eq!(error.to_string(), expected);
    }
    // The same machine under another name is another host, too.
    let port = ours.url.rsplit(':').next().unwrap();
    let error = auth_error(client.get(format!("http://localhost:{port}/x")).send().await);
    assert!(error.is_foreign_origin());

    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
    assert_eq!(ours.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_to_another_host_that_is_never_signed_goes_through() {
    let other = Server::start(&[200]).await;
    let client = client(Some(signer(ed25519_credentials())), &["https://external-api.kalshi.com"]);
    let request = client.get(format!("{}/x", other.url)).header("x-mine", "kept");
    request.with_extension(SigningPolicy::Never).send().await.unwrap();
    assert!(!other.only().is_signed());
    assert_eq!(other.only().one("x-mine"), "kept");
}

#[tokio::test]
async fn without_credentials_a_private_request_sends_no_byte_and_says_what_to_set() {
    let server = Server::start(&[200]).await;
    let client = client(None, &[&server.url]);
    for policy in [None, Some(SigningPolicy::Required)] {
        let mut request = client.get(format!("{}/x", server.url));
        if let Some(policy) = policy {
            request = request.with_extension(policy);
        }
        let error = auth_error(request.send().await);
        assert!(error.is_missing_credentials());
        for variable in ["KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY", "KALSHI_PRIVATE_KEY_PATH"] {
            assert!(error.to_string().contains(variable), "{error}");
        }
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_optional_signature_depends_on_the_credentials() {
    for credentials in [None, Some(ed25519_credentials())] {
        let server = Server::start(&[200]).await;
        let is_signed = credentials.is_some();
        let client = client(credentials.map(signer), &[&server.url]);
        let request = client.get(format!("{}/x", server.url));
        request.with_extension(SigningPolicy::Optional).send().await.unwrap();
        assert_eq!(server.only().is_signed(), is_signed);
    }
}

#[tokio::test]
async fn headers_that_a_caller_put_there_are_replaced() {
    let server = Server::start(&[200]).await;
    let client = client(Some(signer(ed25519_credentials())), &[&server.url]);
    let with_headers = |policy| {
        client
            .get(format!("{}/x", server.url))
            .with_extension(policy)
            .header("KALSHI-ACCESS-KEY", "mine")
            .header("KALSHI-ACCESS-SIGNATURE", "mine")
            .header("KALSHI-ACCESS-SIGNATURE", "mine, too")
            .header("Kalshi-Access-Other", "mine")
            .send()
    };
    with_headers(SigningPolicy::Required).await.unwrap();
    with_headers(SigningPolicy::Never).await.unwrap();
    let received = server.received();
    received[0].assert_verifies(ED25519);
    assert!(received[0].all("kalshi-access-other").is_empty());
    assert!(!received[1].is_signed());
}

#[tokio::test]
async fn a_redirect_is_not_followed_by_a_client_built_as_documented() {
    let server = Server::start(&[301, 200]).await;
    let client = client(Some(signer(ed25519_credentials())), &[&server.url]);
    let response = client.get(format!("{}/x", server.url)).send().await.unwrap();
    assert_eq!(response.status(), 301);
    assert_eq!(server.only().target, "/x");
}

#[tokio::test]
async fn an_rsa_signature_is_made_on_another_thread_and_an_ed25519_signature_is_not() {
    for (credentials, is_elsewhere) in [(rsa_credentials(), true), (ed25519_credentials(), false)] {
        let server = Server::start(&[200]).await;
        let clock = Arc::new(Ticking::default());
        let client = client(Some(Signer::new(credentials, clock.clone())), &[&server.url]);
        client.get(format!("{}/x", server.url)).send().await.unwrap();
        let readers = clock.readers.lock().unwrap().clone();
        assert_eq!(readers.len(), 1);
        assert_eq!(!readers.contains(&thread::current().id()), is_elsewhere);
    }
}

/// Answers without a network.
struct Answer;

#[async_trait::async_trait]
impl Middleware for Answer {
    async fn handle(
        &self,
        request: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let mut response = http::Response::new("");
        *response.headers_mut() = request.headers().clone();
        Ok(response.into())
    }
}

fn offline(clock: Arc<dyn Clock>) -> ClientWithMiddleware {
    let signer = Signer::new(rsa_credentials(), clock);
    let origin: Origin = "https://external-api.kalshi.com".parse().unwrap();
    ClientBuilder::new(http())
        .with(SigningMiddleware::new(Some(signer), [origin]))
        .with(Answer)
        .build()
}

fn balance() -> Request {
    let url = "https://external-api.kalshi.com/trade-api/v2/portfolio/balance";
    Request::new(Method::GET, Url::parse(url).unwrap())
}

#[test]
fn a_request_is_signed_without_a_runtime() {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let client = offline(Arc::new(ManualClock::at(UnixMillis::from_millis(1))));
    let mut future = pin!(client.execute(balance()));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let response = loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(response) => break response.unwrap(),
            Poll::Pending => thread::park(),
        }
    };
    let signature = base64(&response.headers()["kalshi-access-signature"]);
    assert!(verifies(&text(RSA), b"1GET/trade-api/v2/portfolio/balance", &signature));
}

/// A clock that keeps whoever asks until it is opened, and counts them.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    asked: AtomicU64,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Clock for Gate {
    fn now(&self) -> UnixMillis {
        let count = self.asked.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().unwrap();
        let (is_open, _) = self
            .opened
            .wait_timeout_while(is_open, Duration::from_secs(20), |open| !*open)
            .unwrap();
        assert!(*is_open, "the signature holds up the task that would open the gate");
        UnixMillis::from_millis(i64::try_from(count).unwrap())
    }
}

#[tokio::test]
async fn signatures_of_many_requests_do_not_hold_up_another_task_of_the_same_thread() {
    let gate = Arc::new(Gate::default());
    let client = offline(gate.clone());
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(balance()).await.unwrap() })
        })
        .collect();
    let other = tokio::spawn(async move {
        // By now all of them have had a turn.
        tokio::time::sleep(Duration::from_millis(5)).await;
        gate.open();
    });
    other.await.unwrap();
    for request in requests {
        let response = request.await.unwrap();
        let timestamp = response.headers()["kalshi-access-timestamp"].to_str().unwrap();
        let message = format!("{timestamp}GET/trade-api/v2/portfolio/balance");
        let signature = base64(&response.headers()["kalshi-access-signature"]);
        assert!(verifies(&text(RSA), message.as_bytes(), &signature));
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_while_it_waits_is_not_signed() {
    let gate = Arc::new(Gate::default());
    let client = offline(gate.clone());
    let requests = (0..1_000).map(|_| client.execute(balance()));
    let mut requests: Vec<_> = requests.map(Box::pin).collect();
    for request in &mut requests {
        // Once, so that it is on the queue.
        let _ = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    drop(requests);
    gate.open();
    client.execute(balance()).await.unwrap();
    // Those that a thread had taken, and the last one.
    let threads = thread::available_parallelism().unwrap().get() as u64;
    assert!(gate.asked.load(Ordering::SeqCst) <= threads + 1);
}

#[tokio::test]
async fn a_clock_that_panics_costs_one_request() {
    #[derive(Debug)]
    struct Broken(AtomicU64);

    impl Clock for Broken {
        fn now(&self) -> UnixMillis {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "the first time (this is a test)");
            UnixMillis::from_millis(1)
        }
    }

    let client = offline(Arc::new(Broken(AtomicU64::new(0))));
    let error = auth_error(client.execute(balance()).await);
    assert_eq!(error.kind(), AuthErrorKind::Signing);
    client.execute(balance()).await.unwrap();
}

#[tokio::test]
async fn c6_the_wait_for_a_signature_counts_into_the_time_limit() {
    /// Answers with the timeout that was left for the request.
    struct Left;

    #[async_trait::async_trait]
    impl Middleware for Left {
        async fn handle(
            &self,
            request: Request,
            _: &mut Extensions,
            _: Next<'_>,
        ) -> reqwest_middleware::Result<Response> {
            let left = request.timeout().map_or(u128::MAX, Duration::as_nanos);
            Ok(http::Response::new(left.to_string()).into())
        }
    }

    let client = |signer, limit| {
        let origin: Origin = "https://external-api.kalshi.com".parse().unwrap();
        let signing = SigningMiddleware::new(Some(signer), [origin]).with_time_limit(limit);
        ClientBuilder::new(http()).with(signing).with(Left).build()
    };
    let gate = Arc::new(Gate::default());
    let signer = Signer::new(rsa_credentials(), gate.clone());

    // The gate stays closed until the error has arrived.
    let late = client(signer.clone(), Duration::from_millis(1)).execute(balance()).await;
    let error = auth_error(late);
    assert_eq!(error.kind(), AuthErrorKind::TimedOut);
    let mut own = balance();
    *own.timeout_mut() = Some(Duration::from_millis(1));
    let late = client(signer.clone(), Duration::from_secs(3_600)).execute(own).await;
    assert_eq!(auth_error(late).kind(), AuthErrorKind::TimedOut);

    gate.open();
    let limit = Duration::from_secs(3_600);
    let response = client(signer, limit).execute(balance()).await.unwrap();
    let left: u128 = response.text().await.unwrap().parse().unwrap();
    assert!(left < limit.as_nanos(), "{left}");
}

#[tokio::test]
async fn c6_a_signature_without_a_client_does_not_hold_up_its_worker() {
    let gate = Arc::new(Gate::default());
    let signer = Signer::new(rsa_credentials(), gate.clone());
    let mut pending = pin!(signer.sign_async("GET", "/trade-api/ws/v2"));
    // In place, the first poll would wait for the gate, and fail.
    let first = pending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(first.is_pending());
    gate.open();
    let headers = pending.await.unwrap();
    let timestamp = headers.timestamp().to_str().unwrap();
    let message = format!("{timestamp}GET/trade-api/ws/v2");
    assert!(verifies(&text(RSA), message.as_bytes(), &base64(headers.signature())));
}
