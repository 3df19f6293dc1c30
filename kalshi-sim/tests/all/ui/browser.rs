//! A headless Chromium, driven over its own protocol: no driver is downloaded.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::chromium::chromium;

/// The time in which a page must come to what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub(super) struct Browser {
    process: Child,
    folder: PathBuf,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    /// What went wrong in the page: exceptions, and what its policy refused.
    pub(super) errors: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Browser {
    /// Opens an address in a window of this size.
    pub(super) async fn open(url: &str, width: u32, height: u32) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let program = chromium()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kalshi-sim-browser-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        let mut process = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--remote-debugging-port=0", "--hide-scrollbars", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", folder.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let said = tokio::task::spawn_blocking(move || {
            let mut lines = lines.map_while(Result::ok);
            let address = lines.find_map(|line| {
                line.strip_prefix("DevTools listening on ws://").map(str::to_owned)
            });
            // It goes on writing; nothing may be held up by that.
            std::thread::spawn(move || lines.for_each(drop));
            address
        });
        let address = said.await.unwrap().unwrap();
        let host = address.split('/').next().unwrap();
        let list = reqwest::get(format!("http://{host}/json/list")).await.unwrap();
        let targets: Value = serde_json::from_str(&list.text().await.unwrap()).unwrap();
        let target = targets.as_array().unwrap().iter().find(|one| one["type"] == "page");
        let socket = target.unwrap()["webSocketDebuggerUrl"].as_str().unwrap().to_owned();
        let (socket, _) = connect_async(socket).await.unwrap();
        let mut browser = Self { process, folder, socket, last: 0, errors: Vec::new() };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.command(domain, json!({})).await;
        }
        browser.resize(width, height).await;
        browser.command("Page.navigate", json!({"url": url})).await;
        Some(browser)
    }

    /// Sends a command, and returns its result.
    pub(super) async fn command(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let text = json!({"id": self.last, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(text)).await.unwrap();
        loop {
            let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else { continue };
            let mut message: Value = serde_json::from_str(text.as_str()).unwrap();
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            let is_error = message["method"] == "Runtime.exceptionThrown"
                || (message["method"] == "Log.entryAdded"
                    && message["params"]["entry"]["level"] == "error");
            if is_error && !message.to_string().contains("favicon") {
                self.errors.push(message["params"].to_string());
            }
        }
    }

    pub(super) async fn resize(&mut self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Sets the color scheme that the user wants: `light` or `dark`.
    pub(super) async fn scheme(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// Evaluates an expression in the page.
    pub(super) async fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.command("Runtime.evaluate", params).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Returns the text of the first element that a selector finds.
    pub(super) async fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector('{selector}').textContent")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression holds.
    pub(super) async fn wait(&mut self, expression: &str) {
        let began = Instant::now();
        // What is not there yet does not hold.
        let holds = format!(
            "(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"
        );
        while self.value(&holds).await != true {
            if began.elapsed() > PATIENCE {
                let body = self.value("document.body.innerText").await;
                panic!("never came true: {expression}\n{:?}\n{body}", self.errors);
            }
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// Presses a key that writes a character, or one with a name.
    pub(super) async fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({"type": kind, "key": key});
            if key.chars().count() == 1 && kind == "keyDown" {
                params["text"] = key.into();
            }
            self.command("Input.dispatchKeyEvent", params).await;
        }
    }

    /// Gives a file to an input of the page.
    pub(super) async fn choose(&mut self, selector: &str, file: &std::path::Path) {
        let document = self.command("DOM.getDocument", json!({})).await;
        let node = json!({"nodeId": document["root"]["nodeId"], "selector": selector});
        let found = self.command("DOM.querySelector", node).await;
        let files = json!({"nodeId": found["nodeId"], "files": [file]});
        self.command("DOM.setFileInputFiles", files).await;
    }

    /// Returns a picture of the window, as PNG.
    pub(super) async fn picture(&mut self) -> Vec<u8> {
        let shot = self.command("Page.captureScreenshot", json!({"format": "png"})).await;
        let text = shot["data"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }

    /// Returns the bytes of the page's values that are in use.
    pub(super) async fn memory(&mut self) -> u64 {
        self.command("HeapProfiler.collectGarbage", json!({})).await;
        let usage = self.command("Runtime.getHeapUsage", json!({})).await;
        usage["usedSize"].as_u64().unwrap()
    }
}
