//! Several requests that are written with one commit and sent as one request.
//!
//! Each has a task and a machine of its own. The first record and the first sending of each go
//! through its [`Seat`]; a task that does not get that far gives the seat up by dropping it, and
//! the rest goes without it.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::shell::{Shared, write_all};
use crate::{
    budget::withdrawal::{SendLimit, Withdrawal},
    journal::Record,
};

/// The time that a cancel waits for the journal, at most: a disk that stalls is no reason to leave an
/// order in the book.
pub(super) const CANCEL_WRITE_WAIT: Duration = Duration::from_millis(250);

/// A request that is sent within a time, or not at all, unless it is withdrawn.
#[derive(Debug)]
pub(super) struct Limited<R> {
    pub(super) request: R,
    /// The time; `None` for any.
    pub(super) within: Option<Duration>,
    pub(super) withdrawal: Withdrawal,
}

impl<R> Limited<R> {
    /// Returns the request, and its limits for the client.
    pub(super) fn split(self) -> (R, SendLimit) {
        (self.request, SendLimit::new(self.within, [self.withdrawal]))
    }
}

/// A value that a task hands over, and the place of its answer.
type Handover<T, A> = (T, oneshot::Sender<A>);

/// A place in a batch, for a request `R` and its answer `A`.
#[derive(Debug)]
pub(super) struct Seat<R, A> {
    write: Option<oneshot::Sender<Handover<Record, bool>>>,
    send: Option<oneshot::Sender<Handover<R, A>>>,
}

/// The other end of a [`Seat`].
#[derive(Debug)]
pub(super) struct Place<R, A> {
    write: oneshot::Receiver<Handover<Record, bool>>,
    send: oneshot::Receiver<Handover<R, A>>,
}

impl<R, A> Seat<R, A> {
    /// Returns a seat, and its other end.
    pub(super) fn new() -> (Self, Place<R, A>) {
        let (record, recorded) = oneshot::channel();
        let (request, requested) = oneshot::channel();
        let seat = Self { write: Some(record), send: Some(request) };
        (seat, Place { write: recorded, send: requested })
    }

    /// Returns no seat: what is handed over comes back.
    pub(super) fn none() -> Self {
        Self { write: None, send: None }
    }

    /// Gives the seat up.
    pub(super) fn leave(&mut self) {
        *self = Self::none();
    }

    /// Reports whether a record can be handed over.
    pub(super) fn takes_record(&self) -> bool {
        self.write.is_some()
    }

    /// Hands a record over, once; the answer says whether it is committed. A second one comes back,
    /// and the seat is given up.
    pub(super) fn write(&mut self, record: Record) -> Result<oneshot::Receiver<bool>, Box<Record>> {
        hand_over(self.write.take(), record).map_err(Box::new).inspect_err(|_| self.leave())
    }

    /// Hands a request over, once.
    pub(super) fn send(&mut self, request: R) -> Result<oneshot::Receiver<A>, R> {
        hand_over(self.send.take(), request)
    }
}

fn hand_over<T, A>(
    sender: Option<oneshot::Sender<Handover<T, A>>>,
    item: T,
) -> Result<oneshot::Receiver<A>, T> {
    let Some(sender) = sender else { return Err(item) };
    let (reply, answer) = oneshot::channel();
    sender.send((item, reply)).map(|()| answer).map_err(|(item, _)| item)
}

/// Runs the batches of the places, each of as many as the configuration says, on tasks of their own.
/// With a time, they are sent after it although the journal has not committed them.
pub(super) fn spawn<R, A, F>(
    shared: &Arc<Shared>,
    mut places: Vec<Place<Limited<R>, A>>,
    write_wait: Option<Duration>,
    send: fn(Arc<Shared>, Vec<R>, SendLimit) -> F,
) where
    R: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Vec<A>> + Send + 'static,
{
    while !places.is_empty() {
        let rest = places.split_off(places.len().min(shared.config.batch_items));
        let chunk = std::mem::replace(&mut places, rest);
        let of_task = Arc::clone(shared);
        shared.runtime.spawn(async move {
            let send = |requests, limit| send(Arc::clone(&of_task), requests, limit);
            run(&of_task, chunk, write_wait, send).await;
        });
    }
}

/// Writes what is handed over in all places, then sends what is, and distributes the answers.
///
/// `send` returns as many answers as it is given requests, in order.
///
/// The request is sent within the shortest time of all, and withdrawn when all of them are.
async fn run<R, A, F>(
    shared: &Arc<Shared>,
    places: Vec<Place<Limited<R>, A>>,
    write_wait: Option<Duration>,
    send: impl FnOnce(Vec<R>, SendLimit) -> F,
) where
    F: Future<Output = Vec<A>>,
{
    let (mut records, mut replies, mut sends) = (Vec::new(), Vec::new(), Vec::new());
    for place in places {
        if let Ok((record, reply)) = place.write.await {
            records.push(record);
            replies.push(reply);
        }
        sends.push(place.send);
    }
    let of_write = Arc::clone(shared);
    let mut write = Box::pin(async move {
        let written = write_all(&of_write, records).await;
        for (reply, is_written) in replies.into_iter().zip(written) {
            // Its task has ended, with the runtime.
            let _ = reply.send(is_written);
        }
    });
    match write_wait {
        None => write.await,
        Some(wait) => {
            if tokio::time::timeout(wait, &mut write).await.is_err() {
                // Each learns it later.
                shared.runtime.spawn(write);
            }
        }
    }
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    let (mut withdrawals, mut within) = (Vec::new(), None::<Duration>);
    for place in sends {
        if let Ok((limited, reply)) = place.await {
            requests.push(limited.request);
            withdrawals.push(limited.withdrawal);
            within = [within, limited.within].into_iter().flatten().min();
            replies.push(reply);
        }
    }
    if requests.is_empty() {
        return;
    }
    let limit = SendLimit::new(within, withdrawals);
    for (reply, answer) in replies.into_iter().zip(send(requests, limit).await) {
        let _ = reply.send(answer);
    }
}
