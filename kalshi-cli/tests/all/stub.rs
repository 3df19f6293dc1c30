//! An exchange that answers as a test says, for what the simulator does not play.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use kalshi_auth::{KeyType, server::KeyPair};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::support::{Folder, Ran, bare, run};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Returns the method and the target.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// The answer to a request: status and body; `None` closes the connection without one.
pub(crate) type Answer = Option<(u16, String)>;

/// The exchange, and the surroundings of commands that act on it.
pub(crate) struct Stub {
    pub(crate) folder: Folder,
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    key: PathBuf,
}

impl Stub {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (of_server, answer) = (Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (requests, answer) = (Arc::clone(&of_server), Arc::clone(&answer));
                tokio::spawn(async move { serve(socket, &requests, &*answer).await });
            }
        });
        let folder = Folder::new();
        let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
        let key = folder.file("key.pem", pair.private_key_pem());
        Self { folder, url, requests, key }
    }

    /// Returns a command that acts on the exchange, with a key.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = bare(&self.folder, words);
        command
            .env("KALSHI_ENV", format!("{}/trade-api/v2", self.url))
            .env("KALSHI_API_KEY_ID", crate::support::KEY_ID)
            .env("KALSHI_PRIVATE_KEY_PATH", &self.key);
        command
    }

    /// Runs a command, and returns its end with the requests that it sent.
    pub(crate) async fn run(&self, words: &[&str]) -> (Ran, Vec<Request>) {
        self.finish(self.command(words)).await
    }

    pub(crate) async fn finish(&self, command: Command) -> (Ran, Vec<Request>) {
        self.requests.lock().unwrap().clear();
        let ran = run(command).await;
        (ran, self.requests.lock().unwrap().clone())
    }
}

async fn serve(
    socket: TcpStream,
    requests: &Mutex<Vec<Request>>,
    answer: &(impl Fn(&Request) -> Answer + Send + Sync),
) {
    let mut socket = BufReader::new(socket);
    while let Some(request) = read(&mut socket).await {
        requests.lock().unwrap().push(request.clone());
        let Some((status, body)) = answer(&request) else { return };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        if socket.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let request = Request { method, target, headers, body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Request { body: String::from_utf8(body).unwrap(), ..request })
}
