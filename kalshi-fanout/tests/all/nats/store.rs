//! The store of a shared budget by itself: compare-and-set, what is deleted, what is lost.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, kv::Store};
use bytes::Bytes;
use kalshi_auth::{Clock as _, SystemClock};
use kalshi_fanout::{
    budget::{KvBudget, KvStore as _, KvWrite},
    nats::{NatsError, NatsStore, StreamSettings},
};
use tokio::time::{Instant, sleep};

use super::broker::{self, Broker};

const KEY: &str = "budget.main.bucket.a1";
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(broker: &Broker) -> NatsStore {
    NatsStore::connect(broker::config(&broker.url())).await.unwrap()
}

/// Writes, and returns the revision; `None` for a conflict.
async fn write(store: &NatsStore, value: &'static str, expected: Option<u64>) -> Option<u64> {
    match store.write(KEY, Bytes::from_static(value.as_bytes()), expected).await.unwrap() {
        KvWrite::Written(revision) => Some(revision),
        other => {
            assert_eq!(other, KvWrite::Conflict);
            None
        }
    }
}

/// The bucket as another client has it.
async fn bucket(broker: &Broker) -> Store {
    let client = async_nats::connect(broker.url()).await.unwrap();
    jetstream::new(client).get_key_value("kx_v1_sim_budget").await.unwrap()
}

#[tokio::test]
async fn entries_are_compared_and_set_and_one_that_was_deleted_is_none() {
    let Some(broker) = Broker::start() else { return };
    let (one, other) = (connect(&broker).await, connect(&broker).await);
    assert_eq!(one.read(KEY).await.unwrap(), None);
    assert_eq!(write(&one, "a", Some(7)).await, None);
    let began = u64::try_from(SystemClock.now().as_millis()).unwrap() * 1_000_000;
    let first = write(&one, "b", None).await.unwrap();
    assert_eq!(write(&other, "c", None).await, None);
    let second = write(&other, "d", Some(first)).await.unwrap();
    assert!(second > first);
    assert_eq!(write(&one, "e", Some(first)).await, None);
    let entry = one.read(KEY).await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.revision), (b"d".as_slice(), second));
    let now = u64::try_from(SystemClock.now().as_millis() + 1).unwrap() * 1_000_000;
    assert!((began..=now).contains(&entry.written_at), "{began}, {entry:?}, {now}");

    // A deleted or purged entry is not there, and can be written again.
    let mut last = second;
    for is_purged in [false, true] {
        let bucket = bucket(&broker).await;
        if is_purged {
            bucket.purge(KEY).await.unwrap();
        } else {
            bucket.delete(KEY).await.unwrap();
        }
        assert_eq!(one.read(KEY).await.unwrap(), None);
        assert_eq!(write(&one, "f", Some(last)).await, None);
        let again = write(&one, "g", None).await.unwrap();
        assert!(again > last);
        last = again;
    }

    // Keys by their beginning, which need not end with a token.
    for key in ["budget.main.member.a", "budget.main.member.ab", "budget.other.member.a", "top"] {
        let write = one.write(key, Bytes::from_static(b"1"), None).await.unwrap();
        assert!(matches!(write, KvWrite::Written(_)));
    }
    for (prefix, due) in [
        ("budget.main.member.", vec!["budget.main.member.a", "budget.main.member.ab"]),
        ("budget.main.member.ab", vec!["budget.main.member.ab"]),
        ("budget.o", vec!["budget.other.member.a"]),
        ("t", vec!["top"]),
        ("budget.none.", vec![]),
    ] {
        let mut keys = other.keys(prefix).await.unwrap();
        keys.sort();
        assert_eq!(keys, due, "{prefix}");
    }
    assert_eq!(other.keys("").await.unwrap().len(), 5);

    // What no bucket of NATS takes is refused here.
    let long = "a".repeat(513);
    for key in ["", ".a", "a.", "a..b", "a b", "a.*", "a.>", "ä", &long] {
        let error = one.read(key).await.unwrap_err().to_string();
        assert!(error.contains("is no key"), "{error}");
        let error = one.write(key, Bytes::new(), None).await.unwrap_err().to_string();
        assert!(error.contains("is no key"), "{error}");
    }
    assert!(one.keys("a.*.").await.is_err());
    let error = one.write(KEY, vec![0; 1_025].into(), None).await.unwrap_err().to_string();
    assert!(error.contains("1025 bytes"), "{error}");
}

#[tokio::test]
async fn a_value_of_another_program_that_is_too_large_is_none() {
    let Some(broker) = Broker::start() else { return };
    let store = connect(&broker).await;
    let bucket = bucket(&broker).await;
    bucket.put(KEY, vec![b'1'; 1_025].into()).await.unwrap();
    assert_eq!(store.read(KEY).await.unwrap(), None);
    // Nor can one be made that an answer would not hold.
    assert!(bucket.put(KEY, vec![b'1'; 1 << 16].into()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_bucket_is_made_again_and_repeats_no_revision() {
    let Some(mut broker) = Broker::start() else { return };
    let (store, idle) = (connect(&broker).await, connect(&broker).await);
    let mut last = write(&store, "a", None).await.unwrap();
    assert!(idle.read(KEY).await.unwrap().is_some());
    for is_wiped in [false, true] {
        broker.kill();
        let until = Instant::now() + PATIENCE;
        while store.is_connected() {
            assert!(Instant::now() < until, "the loss was not noticed");
            sleep(Duration::from_millis(5)).await;
        }
        // Nothing is queued, and nothing is waited for.
        for _ in 0..100 {
            let failed = store.write(KEY, Bytes::from_static(b"queued"), Some(last)).await;
            let error = failed.unwrap_err().to_string();
            assert!(error.contains("no connection"), "{error}");
        }
        broker.restart(is_wiped);
        let found = loop {
            match store.read(KEY).await {
                Ok(found) => break found,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        // It is in memory: it goes with the broker.
        assert_eq!(found, None);
        // The number of an entry in a new bucket may be that of the old one. Its revision is not.
        assert_eq!(write(&store, "b", Some(last)).await, None);
        let new = write(&store, "c", None).await.unwrap();
        assert!(new > last);
        // Also for a client that did nothing meanwhile.
        assert_eq!(write(&idle, "d", Some(last)).await, None);
        assert_eq!(idle.read(KEY).await.unwrap().unwrap().revision, new);
        last = new;
    }
    // One that was deleted by hand, without a loss of the connection.
    let client = async_nats::connect(broker.url()).await.unwrap();
    jetstream::new(client).delete_stream("KV_kx_v1_sim_budget").await.unwrap();
    assert!(store.write(KEY, Bytes::from_static(b"e"), Some(last)).await.is_err());
    assert_eq!(store.read(KEY).await.unwrap(), None);
    let new = write(&store, "f", None).await.unwrap();
    assert!(new > last);
    // The other one finds out when it lists the keys, as it does with each sign of life.
    let error = idle.keys("budget.").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the bucket was made anew");
    assert_eq!(idle.read(KEY).await.unwrap().unwrap().revision, new);
}

#[tokio::test]
async fn a_bucket_of_other_subjects_is_refused() {
    let Some(broker) = Broker::start() else { return };
    let client = async_nats::connect(broker.url()).await.unwrap();
    let config = jetstream::stream::Config {
        name: "KV_kx_v1_sim_budget".to_owned(),
        subjects: vec!["$KV.kx_v1_sim_budget.budget".to_owned()],
        ..jetstream::stream::Config::default()
    };
    jetstream::new(client).create_stream(config).await.unwrap();
    let error = NatsStore::connect(broker::config(&broker.url())).await.unwrap_err();
    assert!(matches!(error, NatsError::Stream { .. }), "{error}");
    assert!(error.to_string().contains("does not have the subjects"), "{error}");
}

/// The rights that the page on operations names are enough, and those of one account do not let it write
/// what another has.
#[tokio::test]
async fn a_member_with_the_rights_of_the_page_shares_its_budget_and_writes_no_other() {
    let page = include_str!("../../../src/operations.md");
    let row = page.lines().find(|line| line.starts_with("| process with a shared budget |"));
    let mut cells = row.unwrap().split('|').skip(2);
    let mut subjects = || {
        let cell = cells.next().unwrap().replace("{env}", "sim").replace("{account}", "main");
        cell.trim().replace('`', "\"")
    };
    let (publish, subscribe) = (subjects(), subjects());
    let configuration = format!(
        "authorization {{ users = [ {{ user: member, password: secret, permissions: {{ \
         publish: [{publish}], subscribe: [{subscribe}] }} }} ] }}"
    );
    let Some(broker) = Broker::with_configuration(&configuration) else { return };
    let config = broker::config(&broker.url()).with_user("member", "secret");
    let store = NatsStore::connect(config.clone()).await.unwrap();
    let first = write(&store, "a", None).await.unwrap();
    assert_eq!(store.read(KEY).await.unwrap().unwrap().revision, first);
    assert_eq!(store.keys("budget.main.").await.unwrap(), [KEY]);
    let shared = KvBudget::join(Arc::new(store), "main", "a").await.unwrap();
    assert_eq!(shared.members(), 1);

    let store = NatsStore::connect(config).await.unwrap();
    let other = store.write("budget.other.bucket.a1", Bytes::from_static(b"1"), None).await;
    assert!(other.is_err(), "{other:?}");
    assert_eq!(store.read("budget.other.bucket.a1").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_reads_what_it_wrote_and_goes_on_without_one_of_its_servers() {
    const NAMES: [&str; 3] = ["b0", "b1", "b2"];
    let _alone = super::MACHINE.lock().await;
    let Some(mut brokers) = Broker::cluster() else { return };
    let until = Instant::now() + 2 * PATIENCE;
    let mut settings = StreamSettings::default();
    settings.replicas = 3;
    let urls: Vec<String> = brokers.iter().map(Broker::url).collect();
    // Each begins with another server.
    let connect = async |first: usize| {
        let config = broker::config(&urls[first]).with_streams(settings);
        let rest = urls.iter().enumerate().filter(|(at, _)| *at != first);
        let config = rest.fold(config, |config, (_, url)| config.with_server(url));
        loop {
            match NatsStore::connect(config.clone()).await {
                Ok(store) => return store,
                // The servers choose their leader.
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let stores = [connect(0).await, connect(1).await, connect(2).await];
    let mut last = write(&stores[0], "a", None).await.unwrap();
    // Whichever server a member is at, it has what was written last.
    for turn in 1..60 {
        last = write(&stores[turn % 3], "b", Some(last)).await.unwrap();
        let read = stores[(turn + 1) % 3].read(KEY).await.unwrap().unwrap();
        assert_eq!(read.revision, last);
    }

    let client = async_nats::connect(&urls[0]).await.unwrap();
    let mut stream = jetstream::new(client).get_stream("KV_kx_v1_sim_budget").await.unwrap();
    let leader = stream.info().await.unwrap().cluster.clone().unwrap().leader.unwrap();
    let leader = NAMES.iter().position(|name| *name == leader).unwrap();
    brokers[leader].kill();
    for (at, store) in stores.iter().enumerate() {
        // What has no answer may have been written.
        loop {
            let found = store.read(KEY).await;
            let revision = found.as_ref().ok().and_then(Option::as_ref).map(|entry| entry.revision);
            if let Some(revision) = revision {
                assert!(revision >= last, "{at}: an entry that was written is gone");
                last = revision;
                let write = store.write(KEY, Bytes::from_static(b"c"), Some(revision)).await;
                if let Ok(KvWrite::Written(next)) = write {
                    assert!(next > last);
                    last = next;
                    break;
                }
            }
            assert!(Instant::now() < until, "{at}: {found:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
