//! RSA signatures on threads of their own, so that an async worker goes on with its other work.
//!
//! A signature is a fraction of a millisecond to two of pure computation. What was measured, with
//! fifty requests at once beside another task on the same runtime (`benches/stall.rs`):
//!
//! - Signed in place, the other task waits for all of them, one after the other.
//! - With `spawn_blocking`, fifty threads sign at once. The other task has a worker, but the worker
//!   has no processor.
//! - With as many threads as processors but one, the other task hardly notices.
//!
//! So there is one queue for the process, and up to that many threads that take from it. They start
//! when there is something to sign and end when there has been nothing for a while. It costs two
//! wake-ups a signature, some 15 µs, and it needs no runtime of a particular kind, or none at all.
//!
//! No lock is held while signing: it guards the queue only.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    error::{AuthError, AuthErrorKind},
    signing::{SignedHeaders, Signer},
};

/// How long a thread waits for more before it ends.
const IDLE: Duration = Duration::from_secs(10);

static QUEUE: Queue = Queue {
    state: Mutex::new(State { jobs: VecDeque::new(), threads: 0, waiting: 0 }),
    ready: Condvar::new(),
};

struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    waiting: usize,
}

struct Job {
    signer: Signer,
    method: http::Method,
    path: String,
    reply: oneshot::Sender<Result<SignedHeaders, AuthError>>,
}

/// Signs on another thread, or in place if the system gives no threads.
///
/// Dropping the future takes a request off the queue that was not signed yet.
pub(crate) async fn sign(
    signer: &Signer,
    method: &http::Method,
    path: &str,
) -> Result<SignedHeaders, AuthError> {
    let (reply, headers) = oneshot::channel();
    let job = Job { signer: signer.clone(), method: method.clone(), path: path.to_owned(), reply };
    if !QUEUE.push(job) {
        return signer.sign(method.as_str(), path);
    }
    headers.await.unwrap_or_else(|_| {
        Err(AuthError::new(AuthErrorKind::Signing, "the library panicked while signing"))
    })
}

impl Queue {
    /// Whether there is a thread to do the job.
    fn push(&'static self, job: Job) -> bool {
        let max_threads = max_threads();
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.jobs.len() > state.waiting && state.threads < max_threads {
            let thread = thread::Builder::new().name("kalshi-auth".to_owned());
            if thread.spawn(|| self.work()).is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                state.jobs.pop_back();
                return false;
            }
        }
        drop(state);
        self.ready.notify_one();
        true
    }

    fn work(&self) {
        while let Some(Job { signer, method, path, reply }) = self.next() {
            if reply.is_closed() {
                continue;
            }
            // A panic costs this request, and not those that wait behind it. The closure owns
            // nothing that could be left half done.
            let sign = || signer.sign(method.as_str(), &path);
            if let Ok(signed) = panic::catch_unwind(AssertUnwindSafe(sign)) {
                // Nobody may be waiting any more.
                let _ = reply.send(signed);
            }
        }
    }

    /// Waits for a job. Without one for a while the thread counts itself out, and has to end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.waiting += 1;
        let (mut state, _) = self
            .ready
            .wait_timeout_while(state, IDLE, |state| state.jobs.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One processor is left to the workers of the runtime.
fn max_threads() -> usize {
    // Asking takes the time of a system call or two.
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
    })
}
