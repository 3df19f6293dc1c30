//! The server: one reading for all requests that came before it.

use std::fmt;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use kalshi_types::UnixMillis;
use kalshi_ws::AccountSource;

use super::{
    super::{NatsConfig, NatsError},
    connect,
    wire::{self, Answer, Query},
};

/// The requests that share a reading. Further ones wait for the next one.
const MAX_SHARED: usize = 1_024;

/// The group of the servers of an account: one of them answers each request.
const GROUP: &str = "account";

/// Reads your account for other processes, which ask it by [`NatsAccount`](super::NatsAccount)s and
/// need no key.
///
/// Requests that came before a reading begins share it, and those that come during a reading wait for
/// the next one. Fills are read from the earliest time that one of them asks for. There is one reading
/// at a time. Requests beyond the [queue](NatsConfig::with_queue) are dropped; they have no answer in
/// time.
///
/// An error of the source is the answer to each request of the reading, by its text: it must hold no
/// secret.
///
/// Several servers may run for one account: one of them answers each request. The answers are your
/// account, so the [page on operations](crate::operations) has the rights that keep them private.
///
/// # Examples
///
/// ```no_run
/// use kalshi_fanout::nats::{AccountServer, NatsConfig};
/// use kalshi_ws::AccountSource;
///
/// # async fn example<S>(client: S) -> Result<(), Box<dyn std::error::Error>>
/// # where S: AccountSource<Error: std::fmt::Display> {
/// // The client of `kalshi-sdk` is a source.
/// let config = NatsConfig::new("nats://localhost:4222", "demo");
/// let mut server = AccountServer::connect(config, "main", client).await?;
/// server.run().await;
/// # Ok(())
/// # }
/// ```
pub struct AccountServer<S> {
    client: Client,
    subject: String,
    requests: Subscriber,
    source: S,
}

impl<S: AccountSource<Error: fmt::Display>> AccountServer<S> {
    /// Connects, for an account by the name that its publisher has for it. Requests wait from then on.
    ///
    /// # Errors
    ///
    /// The settings or the name are invalid, or there is no connection within the time of the
    /// settings.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the connection.
    pub async fn connect(config: NatsConfig, account: &str, source: S) -> Result<Self, NatsError> {
        let servers = config.hosts();
        let (client, subject) = connect(config, account).await?;
        let requests = client.queue_subscribe(subject.clone(), GROUP.to_owned()).await;
        let requests =
            requests.map_err(|error| NatsError::Connect { servers, reason: error.to_string() })?;
        Ok(Self { client, subject, requests, source })
    }

    /// Answers requests. It ends only if the connection can never come back.
    ///
    /// The time limits of the readings are those of the source.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the requests that were being answered. It has no effect on the
    /// account.
    pub async fn run(&mut self) {
        while let Some(first) = self.requests.next().await {
            let mut batch = Batch::default();
            self.sort(first, &mut batch).await;
            while batch.len() < MAX_SHARED {
                let Some(Some(request)) = self.requests.next().now_or_never() else { break };
                self.sort(request, &mut batch).await;
            }
            if !batch.as_of.is_empty() {
                let read = self.source.fetch_as_of().await;
                let answer = read.map_or_else(|it| wire::failed(&it.to_string()), Answer::AsOf);
                self.answer(&batch.as_of, &answer).await;
            }
            if !batch.account.is_empty() {
                // Without a time, all of them: `None` is before every time.
                let since: Option<UnixMillis> = batch.since.iter().copied().min().flatten();
                let read = self.source.fetch_account(since).await;
                let answer = read.map_or_else(|it| wire::failed(&it.to_string()), Answer::Account);
                self.answer(&batch.account, &answer).await;
            }
        }
    }

    /// Puts a request to the others of its kind. One that does not read is answered at once.
    async fn sort(&self, request: Message, batch: &mut Batch) {
        // Without a reply subject no answer is wanted.
        let Some(reply) = request.reply else { return };
        match wire::read_request(&request.payload) {
            Ok(Query::AsOf) => batch.as_of.push(reply),
            Ok(Query::Account { fills_since }) => {
                batch.account.push(reply);
                batch.since.push(fills_since);
            }
            Err(reason) => self.answer(&[reply], &Answer::Refused(reason)).await,
        }
    }

    async fn answer(&self, replies: &[async_nats::Subject], answer: &Answer) {
        if let Answer::Failed(reason) = answer {
            tracing::warn!(reason, "the account could not be read");
        }
        let pieces: Vec<Bytes> = wire::write_answer(answer);
        for reply in replies {
            for piece in &pieces {
                if let Err(error) = self.client.publish(reply.clone(), piece.clone()).await {
                    // It has no whole answer in time.
                    tracing::warn!(%error, "an answer about the account could not be sent");
                    break;
                }
            }
        }
    }
}

/// The requests that share a reading, by the subjects of their answers.
#[derive(Default)]
struct Batch {
    as_of: Vec<async_nats::Subject>,
    account: Vec<async_nats::Subject>,
    /// The times from which on the latter want fills.
    since: Vec<Option<UnixMillis>>,
}

impl Batch {
    const fn len(&self) -> usize {
        self.as_of.len() + self.account.len()
    }
}

impl<S> fmt::Debug for AccountServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountServer").field("subject", &self.subject).finish_non_exhaustive()
    }
}
