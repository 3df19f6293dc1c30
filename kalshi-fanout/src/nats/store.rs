//! The store of a shared budget: a key-value bucket of the broker.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

use async_nats::{
    Client,
    connection::State as ConnectionState,
    datetime::DateTime,
    jetstream::{
        self, Context,
        kv::{CreateErrorKind, Operation, Store, UpdateErrorKind},
        stream::{self, DiscardPolicy, StorageType},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use kalshi_sdk::middleware::async_trait;
use kalshi_trade::budget::{BackendError, Nanos};
use tokio::{sync::mpsc, time::timeout};

use super::{NatsConfig, NatsError};
use crate::{
    budget::{KvEntry, KvStore, KvWrite},
    subject::escape,
};

/// The time that an answer may take. A shared budget waits for less.
const ANSWER: Duration = Duration::from_secs(1);

/// The longest key and value, in bytes.
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 1_024;

/// The keys that are returned at most.
const MAX_KEYS: usize = 4_096;

/// The bytes of all entries.
const MAX_BYTES: i64 = 4 << 20;

/// The time for which an entry is kept after its last write: those of members that are gone go.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// A store of a [shared budget](crate::budget) over a connection to NATS of its own.
///
/// The key-value bucket `kx_v1_{env}_budget` is made if it is missing, also after the broker has lost
/// it. It is in memory, because its entries are worth seconds: a bucket of tokens that is missing counts
/// as an empty one. An entry goes an hour after its last write. The times of the entries are those of
/// the broker, and reads are answered by the leader of a cluster, never by a server that lags behind.
///
/// It reconnects by itself. While there is no connection every request fails at once, and nothing is
/// queued; one without an answer fails after a second. A write whose answer did not come may be done all
/// the same, and late: the compare-and-set lets it do so only on the very entry that it was meant for,
/// and a shared budget [notices it](crate::budget).
///
/// Dropping it closes the connection.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
///
/// use kalshi_fanout::{budget::KvBudget, nats::{NatsConfig, NatsStore}};
/// use kalshi_trade::budget::Budget;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = NatsStore::connect(NatsConfig::new("nats://localhost:4222", "demo")).await?;
/// let shared = KvBudget::join(Arc::new(store), "my-account", "quoter-1").await?;
/// let budget = Budget::builder().with_backend(Arc::new(shared)).build();
/// # let _ = budget;
/// # Ok(())
/// # }
/// ```
pub struct NatsStore {
    client: Client,
    context: Context,
    bucket: String,
    replicas: usize,
    opened: Mutex<Option<Opened>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The bucket as a connection found it.
#[derive(Clone)]
struct Opened {
    store: Store,
    /// The number of connections that were made before.
    connects: u64,
    /// The time in microseconds at which the bucket was made. Added to a number of the bucket it is a
    /// revision, so that one that was made anew repeats none.
    base: u64,
}

impl NatsStore {
    /// Connects, and makes the bucket if it is missing.
    ///
    /// # Errors
    ///
    /// The settings are invalid, there is no connection within the time of the settings, or the bucket
    /// cannot be made or does not have its subjects.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the connection; the bucket may have been made.
    pub async fn connect(config: NatsConfig) -> Result<Self, NatsError> {
        let environment = escape(config.environment()).map_err(|error| NatsError::Config {
            reason: format!("the environment {:?}: {error}", config.environment()),
        })?;
        // The connection is looked at before each request.
        let (events, _) = mpsc::channel(1);
        let client = config.connect(events).await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER);
        let store = Self {
            client,
            context,
            bucket: format!("kx_v1_{environment}_budget"),
            replicas: config.streams.replicas,
            opened: Mutex::new(None),
        };
        match timeout(config.connect_timeout(), store.open()).await {
            Ok(opened) => opened?,
            Err(_) => return Err(store.unusable("no answer".to_owned())),
        };
        Ok(store)
    }

    /// Reports whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == ConnectionState::Connected
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        // Each change is one step.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self, reason: String) -> NatsError {
        NatsError::Stream { name: self.bucket.clone(), reason }
    }

    /// Returns the bucket, which is looked up once for each connection and after each failure, and made
    /// if it is missing.
    async fn open(&self) -> Result<Opened, NatsError> {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let opened = self.opened().clone().filter(|opened| opened.connects == connects);
        if let Some(opened) = opened {
            return Ok(opened);
        }
        // The stream below the bucket: the function for buckets asks for the account first, which it
        // cannot read from servers before 2.10.
        let subjects = vec![format!("$KV.{}.>", self.bucket)];
        let config = stream::Config {
            name: format!("KV_{}", self.bucket),
            subjects: subjects.clone(),
            max_messages_per_subject: 1,
            max_bytes: MAX_BYTES,
            max_age: MAX_AGE,
            max_message_size: 4_096,
            discard: DiscardPolicy::New,
            storage: StorageType::Memory,
            num_replicas: self.replicas,
            allow_rollup: true,
            deny_delete: true,
            // Another server than the leader may answer such reads, with an entry that is old.
            allow_direct: false,
            ..stream::Config::default()
        };
        let found = self.context.get_or_create_stream(config).await;
        let found = found.map_err(|error| self.unusable(error.to_string()))?;
        let info = found.cached_info();
        if let Some(missing) = subjects.iter().find(|it| !info.config.subjects.contains(it)) {
            return Err(self.unusable(format!("it does not have the subjects {missing}")));
        }
        let base = micros(info.created);
        let store = self.context.get_key_value(&self.bucket).await;
        let store = store.map_err(|error| self.unusable(error.to_string()))?;
        let opened = Opened { store, connects, base };
        *self.opened() = Some(opened.clone());
        Ok(opened)
    }

    /// Carries out a request, within a time.
    async fn request<T, F>(
        &self,
        what: String,
        request: impl FnOnce(Opened) -> F,
    ) -> Result<T, BackendError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        if !self.is_connected() {
            return Err(BackendError::new("there is no connection to NATS"));
        }
        let failed = || BackendError::new(format!("could not {what} of {}", self.bucket));
        let answered = async {
            let opened = self.open().await.map_err(|error| failed().with_source(error))?;
            request(opened).await.map_err(|error| failed().with_source(error))
        };
        let answered = timeout(ANSWER, answered).await;
        let answered = answered.unwrap_or_else(|_| Err(failed().with_source("no answer")));
        if answered.is_err() {
            // The bucket may be gone.
            *self.opened() = None;
        }
        answered
    }
}

#[async_trait]
impl KvStore for NatsStore {
    async fn read(&self, key: &str) -> Result<Option<KvEntry>, BackendError> {
        check_key(key)?;
        let found = self.request(format!("read {key}"), async |opened: Opened| {
            let Some(entry) = opened.store.entry(key).await? else { return Ok(None) };
            // The mark of a deleted entry is no entry.
            let is_there = entry.operation == Operation::Put && entry.value.len() <= MAX_VALUE;
            Ok(is_there.then(|| KvEntry {
                value: entry.value,
                revision: opened.base.saturating_add(entry.revision),
                written_at: nanos(entry.created),
            }))
        });
        found.await
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<KvWrite, BackendError> {
        check_key(key)?;
        if value.len() > MAX_VALUE {
            let length = value.len();
            return Err(BackendError::new(format!(
                "the value of {key} has {length} bytes: the most are {MAX_VALUE}"
            )));
        }
        let written = self.request(format!("write {key}"), async |opened: Opened| {
            let written = match expected {
                // One of a bucket that is no more.
                Some(expected) if expected <= opened.base => return Ok(KvWrite::Conflict),
                Some(expected) => {
                    match opened.store.update(key, value, expected - opened.base).await {
                        Ok(number) => number,
                        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                            return Ok(KvWrite::Conflict);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                None => match opened.store.create(key, value).await {
                    Ok(number) => number,
                    Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                        return Ok(KvWrite::Conflict);
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            Ok(KvWrite::Written(opened.base.saturating_add(written)))
        });
        written.await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, BackendError> {
        // The broker looks for whole tokens.
        let tokens = prefix.rfind('.').map_or("", |dot| &prefix[..=dot]);
        if !tokens.is_empty() {
            check_key(tokens.trim_end_matches('.'))?;
        }
        let keys = self.request("list the keys".to_owned(), async |opened: Opened| {
            let root = format!("$KV.{}.", self.bucket);
            let filter = format!("{root}{tokens}>");
            let found = opened.store.stream.info_with_subjects(filter).await?;
            if micros(found.info.created) != opened.base {
                return Err("the bucket was made anew".into());
            }
            let mut found = found.take(MAX_KEYS);
            let mut keys = Vec::new();
            while let Some(subject) = found.next().await {
                let (subject, _) = subject?;
                let key = subject.strip_prefix(&root).filter(|key| key.starts_with(prefix));
                keys.extend(key.map(str::to_owned));
            }
            Ok(keys)
        });
        keys.await
    }
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStore")
            .field("bucket", &self.bucket)
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Checks that a key consists of tokens of letters, digits, `-`, `_`, `=` and `/`, with dots between.
fn check_key(key: &str) -> Result<(), BackendError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=/".contains(&byte);
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(is_allowed);
    if key.len() <= MAX_KEY && key.split('.').all(is_token) {
        return Ok(());
    }
    let shown: String = key.chars().take(64).collect();
    Err(BackendError::new(format!("{shown:?} is no key of a bucket of NATS")))
}

fn nanos(at: DateTime) -> Nanos {
    let since = SystemTime::from(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(at: DateTime) -> u64 {
    nanos(at) / 1_000
}
