//! A `nats-server` of a test: on a free port of this machine, with a folder of its own, and behind a
//! proxy that can cut it off.

use std::{
    env, fs,
    net::{TcpListener as StdListener, TcpStream as StdStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use kalshi_fanout::nats::{NatsBus, NatsConfig, StreamSettings};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
};

static BROKERS: AtomicU32 = AtomicU32::new(0);

/// Reports whether `nats-server` is installed. Fails if it is not and has to be.
#[expect(clippy::print_stdout, reason = "a test that is skipped must be seen")]
fn is_installed() -> bool {
    let is_installed = Command::new("nats-server").arg("--version").output().is_ok();
    if !is_installed {
        assert!(env::var_os("NATS_REQUIRED").is_none(), "nats-server is not installed");
        println!("\n!!!! SKIPPED, nats-server is not installed: nothing of NATS was tested\n");
    }
    is_installed
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running `nats-server`. Its folder goes with it.
pub(crate) struct Broker {
    folder: PathBuf,
    port: u16,
    /// Those of a cluster.
    arguments: Vec<String>,
    child: Child,
}

impl Broker {
    /// Starts a broker; `None` where `nats-server` is not installed, unless `NATS_REQUIRED` is set.
    pub(crate) fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        // Another program may take the port in between, so that the server does not start.
        let started = (0..10).find_map(|_| Self::at(free_port(), Vec::new()));
        Some(started.expect("nats-server does not start"))
    }

    /// Starts a cluster of three brokers; `None` as [`start`](Self::start) does.
    pub(crate) fn cluster() -> Option<Vec<Self>> {
        if !is_installed() {
            return None;
        }
        let started = (0..10).find_map(|_| {
            let routes: [u16; 3] = std::array::from_fn(|_| free_port());
            let url = |port: &u16| format!("nats://127.0.0.1:{port}");
            let all = routes.iter().map(url).collect::<Vec<_>>().join(",");
            let start = |(number, route): (usize, &u16)| {
                let name = format!("b{number}");
                let arguments = ["-n", &name, "--cluster_name", "test", "--cluster", &url(route)];
                let arguments = arguments.into_iter().chain(["--routes", &all]);
                Self::at(free_port(), arguments.map(str::to_owned).collect())
            };
            routes.iter().enumerate().map(start).collect()
        });
        Some(started.expect("nats-server does not start"))
    }

    fn at(port: u16, arguments: Vec<String>) -> Option<Self> {
        let number = BROKERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("kalshi-fanout-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let Some(child) = Self::spawn(&folder, port, &arguments) else {
            let _ = fs::remove_dir_all(folder);
            return None;
        };
        Some(Self { folder, port, arguments, child })
    }

    fn spawn(folder: &PathBuf, port: u16, arguments: &[String]) -> Option<Child> {
        let mut child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(folder)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1_000 {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if StdStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(child);
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nats-server does not listen");
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server as a loss of power would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`kill`](Self::kill), with what it had, or without any of it.
    pub(crate) fn restart(&mut self, is_wiped: bool) {
        if is_wiped {
            fs::remove_dir_all(&self.folder).unwrap();
            fs::create_dir_all(&self.folder).unwrap();
        }
        self.child = Self::spawn(&self.folder, self.port, &self.arguments).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Small streams, which need no storage that a machine may not have.
pub(crate) fn config(url: &str) -> NatsConfig {
    let mut streams = StreamSettings::default();
    streams.max_bytes = 256 << 20;
    NatsConfig::new(url, "sim").with_streams(streams).with_connect_timeout(Duration::from_secs(2))
}

pub(crate) async fn publisher(url: &str) -> NatsBus {
    NatsBus::publisher(config(url)).await.unwrap()
}

pub(crate) async fn follower(url: &str) -> NatsBus {
    NatsBus::follower(config(url)).await.unwrap()
}

/// The state of a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections are closed, and new ones are refused.
    Cut,
    /// Nothing passes, and nothing is closed.
    Silent,
}

/// A way to a broker that can be cut.
pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) way: watch::Sender<Way>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let way = watch::Sender::new(Way::Open);
        let ways = way.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut way = ways.subscribe();
                tokio::spawn(async move {
                    if *way.borrow() != Way::Open {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = way.wait_for(|way| *way != Way::Open) => {}
                    }
                    let _ = way.wait_for(|way| *way != Way::Silent).await;
                });
            }
        });
        Self { url, way }
    }
}
