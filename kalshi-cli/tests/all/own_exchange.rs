//! An exchange in the test's process, and the real program with a key of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::{
    Client, OperationId,
    types::{Market, Order},
};
use kalshi_sim::{Exchange, ExchangeBuilder, Fault, FaultKind, Role};
use tokio::runtime::Runtime;

use crate::support::{Folder, KEY_ID, Ran, bare, finish};

/// An exchange, a key of its first member, and a home of its own.
pub(crate) struct OwnExchange {
    pub(crate) exchange: Exchange,
    pub(crate) runtime: Runtime,
    pub(crate) home: Folder,
    pub(crate) key: KeyPair,
    pub(crate) key_file: PathBuf,
}

impl OwnExchange {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(set: impl FnOnce(ExchangeBuilder) -> ExchangeBuilder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let exchange = runtime.block_on(set(Exchange::builder()).start()).unwrap();
        let key = KeyPair::generate(KeyType::Ed25519).unwrap();
        let public = key.public_key().to_pem();
        exchange.members().add_key(Role::Trader, KEY_ID, &public).unwrap();
        let home = Folder::new();
        let key_file = home.path().join("key.pem");
        write_private(&key_file, key.private_key_pem());
        Self { exchange, runtime, home, key, key_file }
    }

    /// Returns the program, with the environment and the key in variables.
    pub(crate) fn command(&self) -> Command {
        let mut command = bare(&self.home, &[]);
        command
            .env("KALSHI_ENV", self.exchange.base_url())
            .env("KALSHI_API_KEY_ID", KEY_ID)
            .env("KALSHI_PRIVATE_KEY_PATH", &self.key_file);
        command
    }

    /// Runs the program with arguments that are separated by blanks.
    pub(crate) fn run(&self, arguments: &str) -> Ran {
        self.finish(self.command().args(arguments.split_whitespace()))
    }

    /// Runs a command to its end. Nothing that it prints has a part of the private key.
    pub(crate) fn finish(&self, command: &mut Command) -> Ran {
        let ran = finish(command);
        let body: Vec<_> = self.key.private_key_pem().lines().collect();
        for line in body.iter().filter(|line| !line.starts_with('-')) {
            let part = &line[..line.len().min(24)];
            assert!(!ran.stdout.contains(part) && !ran.stderr.contains(part), "{ran:?}");
        }
        ran
    }

    pub(crate) fn client(&self) -> Client {
        self.exchange.client(Role::Trader).unwrap()
    }

    /// Returns an open market.
    pub(crate) fn market(&self) -> Market {
        let client = self.client();
        let request = client.get_markets().status("open").limit(1);
        let mut page = self.runtime.block_on(request.send()).unwrap().into_inner();
        page.markets.remove(0)
    }

    /// Returns the orders that the program placed, in any state.
    pub(crate) fn placed(&self) -> Vec<Order> {
        let orders = self.runtime.block_on(self.client().get_orders().all()).unwrap();
        let is_ours = |order: &Order| {
            order.client_order_id.starts_with("cli-") || order.client_order_id.starts_with("my-")
        };
        orders.into_iter().filter(is_ours).collect()
    }

    /// Returns the requests that were not reads.
    pub(crate) fn writes(&self) -> Vec<&'static str> {
        let requests = self.exchange.requests();
        let writes = requests.iter().filter(|request| request.method != "GET");
        writes.map(|request| request.operation).collect()
    }

    pub(crate) fn fault(&self, operation: OperationId, kind: FaultKind, times: Option<u64>) {
        let mut fault = Fault::builder(kind).with_operation(operation);
        if let Some(times) = times {
            fault = fault.with_times(times);
        }
        self.exchange.faults().add(fault.build()).unwrap();
    }

    /// Returns the journals that are left.
    pub(crate) fn journals(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let Ok(rows) = fs::read_dir(folder) else { return 0 };
            rows.map(|row| row.unwrap().path())
                .map(|path| {
                    if path.is_dir() {
                        count(&path)
                    } else {
                        usize::from(path.extension().is_some_and(|end| end == "journal"))
                    }
                })
                .sum()
        }
        count(&self.home.path().join(".local"))
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
