//! Requests to the broker that have an answer: snapshots, the log, the lease.

use std::time::{Duration, SystemTime};

use async_nats::{
    HeaderMap,
    datetime::{DateTime, from_nanos},
    jetstream::{
        Context,
        consumer::{AckPolicy, DeliverPolicy, pull},
        kv::{CreateErrorKind, Operation, UpdateErrorKind},
        stream::{DirectGetErrorKind, Info, State},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use kalshi_types::UnixMillis;
use tokio::{sync::mpsc, time::timeout};

use super::{Shared, tasks::Incoming};
use crate::{
    bus::BusEvent,
    envelope::BusMessage,
    lease::{LeaseEntry, LeaseRequest, LeaseWrite},
};

/// The time that an answer may take. A follower requests again after 2 seconds.
const ANSWER: Duration = Duration::from_secs(2);

/// The messages of a log that are read: more than a follower keeps.
const MAX_LOG: u64 = 8_192;

/// The time by which the clocks of a publisher and the broker may differ, as publishers and followers
/// allow for it.
const CLOCKS: i64 = 5_000;

const LEASE: &str = "lease";

/// A request of a follower.
#[derive(Debug)]
pub(super) enum Request {
    Last(String),
    Log { ticker: String, pattern: String, since: UnixMillis },
}

/// Carries out a request and hands on its answer. One that is late is left out: the follower repeats
/// the request.
pub(super) async fn answer(
    context: &Context,
    shared: &Shared,
    request: Request,
    incoming: &mpsc::Sender<Incoming>,
) {
    let generation = shared.state().generation;
    let answered = match request {
        Request::Last(subject) => match timeout(ANSWER, last(context, shared, &subject)).await {
            Ok(Ok(message)) => {
                let event = Incoming::Answer(generation, BusEvent::Last(message));
                incoming.send(event).await.map_err(|_| String::new())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err("no answer".to_owned()),
        },
        Request::Log { ticker, pattern, since } => {
            let read = log(context, shared, (&ticker, &pattern, since), generation, incoming);
            timeout(ANSWER, read).await.unwrap_or_else(|_| Err("no answer".to_owned()))
        }
    };
    if let Err(error) = answered {
        tracing::debug!(error, "a request of a follower failed");
    }
}

async fn last(
    context: &Context,
    shared: &Shared,
    subject: &str,
) -> Result<Option<BusMessage>, String> {
    let stream = context.get_stream_no_info(&shared.names.snapshots).await;
    let stream = stream.map_err(|error| error.to_string())?;
    match stream.direct_get_last_for_subject(subject).await {
        Ok(found) => Ok(Some(message(subject, Some(&found.headers), found.payload))),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the log of a subject. Its end is reported only if all of it came.
async fn log(
    context: &Context,
    shared: &Shared,
    (ticker, pattern, since): (&str, &str, UnixMillis),
    generation: u64,
    incoming: &mpsc::Sender<Incoming>,
) -> Result<(), String> {
    let error = |error: &dyn ToString| error.to_string();
    let stream = context.get_stream(&shared.names.data).await.map_err(|it| error(&it))?;
    let start_time = time(since).ok_or("the time is out of range")?;
    if !reaches_back(stream.cached_info(), since, start_time) {
        return Err(format!("the log of {ticker} does not reach back to its snapshot"));
    }
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::None,
        filter_subject: pattern.to_owned(),
        inactive_threshold: 2 * ANSWER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|it| error(&it))?;
    let info = consumer.cached_info();
    let (pending, name) = (info.num_pending, info.name.clone());
    if pending > MAX_LOG {
        return Err(format!("the log of {ticker} has {pending} messages"));
    }
    if pending > 0 {
        let most = usize::try_from(pending).map_err(|it| error(&it))?;
        let fetched = consumer.fetch().max_messages(most).expires(ANSWER).messages().await;
        let mut messages = fetched.map_err(|it| error(&it))?;
        for due in 1..=pending {
            let Some(Ok(found)) = messages.next().await else {
                return Err(format!("the log of {ticker} ended early"));
            };
            if found.info().map_err(|it| error(&it))?.consumer_sequence != due {
                return Err(format!("a message of the log of {ticker} is missing"));
            }
            let logged = message(&found.subject, found.headers.as_ref(), found.payload.clone());
            let event = Incoming::Answer(generation, BusEvent::Logged(logged));
            incoming.send(event).await.map_err(|it| error(&it))?;
        }
    }
    let end = Incoming::Answer(generation, BusEvent::LogEnd(ticker.to_owned()));
    incoming.send(end).await.map_err(|it| error(&it))?;
    // The broker removes it by itself otherwise, a little later.
    let _ = stream.delete_consumer(&name).await;
    Ok(())
}

fn time(at: UnixMillis) -> Option<DateTime> {
    from_nanos(i128::from(at.as_millis()) * 1_000_000).ok()
}

fn micros(at: DateTime) -> u64 {
    let since = SystemTime::from(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Reports whether the log has everything from a time on: nothing that came later was trimmed, and
/// the stream was not made anew since.
fn reaches_back(info: &Info, since: UnixMillis, start: DateTime) -> bool {
    let snapshot = time(UnixMillis::from_millis(since.as_millis().saturating_add(CLOCKS)));
    !is_trimmed(&info.state, info.created, start)
        && snapshot.is_some_and(|snapshot| info.created <= snapshot)
}

/// Reports whether messages from a time on are gone, or may be.
fn is_trimmed(state: &State, created: DateTime, start: DateTime) -> bool {
    if state.messages > 0 {
        return state.first_sequence > 1 && state.first_timestamp > start;
    }
    // An empty log has no first message, and after a purge not that time either. A last one before
    // the stream was made is not known.
    let is_over = created <= state.last_timestamp && state.last_timestamp <= start;
    state.first_sequence > 1 && !is_over
}

/// Returns a message in the form of every bus.
pub(super) fn message(subject: &str, headers: Option<&HeaderMap>, payload: Bytes) -> BusMessage {
    let headers = headers.into_iter().flat_map(HeaderMap::iter).flat_map(|(name, values)| {
        values.iter().map(move |value| (name.to_string(), value.to_string()))
    });
    BusMessage { subject: subject.to_owned(), headers: headers.collect(), payload }
}

/// Carries out a request of the lease; `Err` if the bucket may be missing. A failure has no answer:
/// the lease looks the entry up.
pub(super) async fn lease(
    context: &Context,
    bucket: &str,
    request: LeaseRequest,
) -> Result<BusEvent, String> {
    let store = context.get_key_value(bucket).await.map_err(|error| error.to_string())?;
    // A bucket that was made anew numbers from 1 again: with its time, no revision comes twice.
    let base = micros(store.stream.cached_info().created);
    match request {
        LeaseRequest::Read => {
            let entry = store.entry(LEASE).await.map_err(|error| error.to_string())?;
            let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
                return Ok(BusEvent::LeaseRead(None));
            };
            let read: LeaseEntry = serde_json::from_slice(&entry.value)
                .map_err(|error| format!("the lease does not read: {error}"))?;
            let revision = base.saturating_add(entry.revision);
            Ok(BusEvent::LeaseRead(Some((read, revision))))
        }
        LeaseRequest::Write { entry, expected } => {
            let value = Bytes::from(serde_json::to_vec(&entry).map_err(|it| it.to_string())?);
            let end = match expected {
                // One of a bucket that is no more.
                Some(expected) if expected <= base => LeaseWrite::Conflict,
                Some(expected) => match store.update(LEASE, value, expected - base).await {
                    Ok(number) => LeaseWrite::Written(base.saturating_add(number)),
                    Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                        LeaseWrite::Conflict
                    }
                    Err(error) => return Err(error.to_string()),
                },
                None => match store.create(LEASE, value).await {
                    Ok(number) => LeaseWrite::Written(base.saturating_add(number)),
                    Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                        LeaseWrite::Conflict
                    }
                    Err(error) => return Err(error.to_string()),
                },
            };
            Ok(BusEvent::LeaseWritten(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_that_lost_messages_since_the_start_is_trimmed() {
        let at = |second: i64| time(UnixMillis::from_millis(1_700_000_000_000 + second * 1_000));
        let (created, never) = (at(0).unwrap(), "0001-01-01T00:00:00Z".to_owned());
        let text = |second: Option<i64>| match second {
            Some(second) => format!("2023-11-14T22:13:{:02}Z", 20 + second),
            None => never.clone(),
        };
        // The number of messages, the first and the last number, the times of both, and whether
        // messages from the 10th second on may be gone.
        let cases = [
            (0, 0, 0, None, None, false),
            (5, 1, 5, Some(1), Some(20), false),
            (5, 1, 5, Some(15), Some(20), false),
            (5, 3, 7, Some(9), Some(20), false),
            (5, 3, 7, Some(11), Some(20), true),
            // Purged, as a server of 2.9 reports it.
            (0, 4, 3, None, Some(20), true),
            (0, 4, 3, None, Some(9), false),
            (0, 4, 3, None, None, true),
        ];
        for (messages, first_seq, last_seq, first, last, expected) in cases {
            let state = json!({
                "messages": messages, "bytes": 0, "consumer_count": 0,
                "first_seq": first_seq, "first_ts": text(first),
                "last_seq": last_seq, "last_ts": text(last),
            });
            let state: State = serde_json::from_value(state).unwrap();
            let is_trimmed = is_trimmed(&state, created, at(10).unwrap());
            assert_eq!(is_trimmed, expected, "{state:?}");
        }
    }
}
