//! The streams and the bucket of an environment.

use async_nats::jetstream::{
    Context,
    stream::{self, DiscardPolicy, StorageType},
};

use super::{NatsError, StreamSettings};
use crate::subject::escape;

/// The names of an environment's streams and bucket, and their subjects.
pub(super) struct Names {
    /// The stream of market data and control messages.
    pub(super) data: String,
    data_subjects: Vec<String>,
    /// The stream of the last snapshots.
    pub(super) snapshots: String,
    snapshot_subjects: Vec<String>,
    accounts: String,
    account_subjects: Vec<String>,
    /// The bucket of the lease.
    pub(super) bucket: String,
}

impl Names {
    pub(super) fn new(environment: &str) -> Result<Self, NatsError> {
        let environment = escape(environment).map_err(|error| NatsError::Config {
            reason: format!("the environment {environment:?}: {error}"),
        })?;
        Ok(Self {
            data: format!("kx_v1_{environment}_md"),
            data_subjects: vec![
                format!("kx.v1.{environment}.md.>"),
                format!("kx.v1.{environment}.ctl.*"),
            ],
            snapshots: format!("kx_v1_{environment}_snap"),
            snapshot_subjects: vec![format!("kx.v1.{environment}.snap.*")],
            accounts: format!("kx_v1_{environment}_own"),
            account_subjects: vec![format!("kx.v1.{environment}.own.>")],
            bucket: format!("kx_v1_{environment}"),
        })
    }
}

/// Makes what is missing, and checks what is there.
pub(super) async fn ensure(
    context: &Context,
    names: &Names,
    settings: &StreamSettings,
) -> Result<(), NatsError> {
    let storage = if settings.in_memory { StorageType::Memory } else { StorageType::File };
    let shared = stream::Config {
        discard: DiscardPolicy::Old,
        max_age: settings.retention,
        storage,
        num_replicas: settings.replicas,
        allow_direct: true,
        ..stream::Config::default()
    };
    let data = stream::Config {
        name: names.data.clone(),
        subjects: names.data_subjects.clone(),
        max_bytes: i64::try_from(settings.max_bytes).unwrap_or(i64::MAX),
        // As long as a message may be repeated.
        duplicate_window: std::time::Duration::from_secs(120).min(settings.retention),
        ..shared.clone()
    };
    let snapshots = stream::Config {
        name: names.snapshots.clone(),
        subjects: names.snapshot_subjects.clone(),
        max_messages_per_subject: 1,
        ..shared
    };
    // The stream below the bucket, as every client of NATS makes one; the function for buckets asks
    // for the account first, which it cannot read from servers before 2.10.
    let bucket = stream::Config {
        name: format!("KV_{}", names.bucket),
        subjects: vec![format!("$KV.{}.>", names.bucket)],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        storage,
        num_replicas: settings.replicas,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    };
    let accounts = settings.has_accounts.then(|| stream::Config {
        name: names.accounts.clone(),
        subjects: names.account_subjects.clone(),
        max_age: settings.account_retention,
        max_bytes: i64::try_from(settings.account_max_bytes).unwrap_or(i64::MAX),
        duplicate_window: data.duplicate_window,
        ..data.clone()
    });
    for config in [data, snapshots, bucket].into_iter().chain(accounts) {
        let (name, subjects) = (config.name.clone(), config.subjects.clone());
        let unusable = |reason: String| NatsError::Stream { name: name.clone(), reason };
        let found = context.get_or_create_stream(config).await;
        let found = found.map_err(|error| unusable(error.to_string()))?;
        let covered = &found.cached_info().config.subjects;
        if let Some(missing) = subjects.iter().find(|subject| !covered.contains(subject)) {
            return Err(unusable(format!("it does not have the subjects {missing}")));
        }
    }
    Ok(())
}
