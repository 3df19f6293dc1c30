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
    process,
    sync::{Arc, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    error::{AuthError, AuthErrorKind},
    signing::{SignedHeaders, Signer},
    sync::{self, Condvar, Mutex, MutexGuard},
};

/// The time for which a thread waits for more before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// The queue of this process.
static FIRST: OnceLock<Generation> = OnceLock::new();

/// The queue of one process.
///
/// A process that was made by `fork` inherits the queue without its threads, and perhaps with its
/// lock held: nothing of it can be used. So each process has a queue of its own, behind that of its
/// parent.
struct Generation {
    process: u32,
    queue: Arc<Queue<Request>>,
    child: OnceLock<Box<Generation>>,
}

/// Work that waits for a thread.
trait Job: Send + 'static {
    /// Reports whether the result is no longer wanted.
    fn is_abandoned(&self) -> bool;

    fn run(self);
}

struct Queue<J> {
    state: Mutex<State<J>>,
    ready: Condvar,
    max_threads: usize,
}

struct State<J> {
    jobs: VecDeque<J>,
    threads: usize,
    waiting: usize,
}

struct Request {
    signer: Signer,
    method: String,
    path: String,
    reply: oneshot::Sender<Result<SignedHeaders, AuthError>>,
}

/// Signs on another thread, or in place if the system gives no threads.
///
/// Dropping the future takes a request off the queue that was not signed yet.
pub(crate) async fn sign(
    signer: &Signer,
    method: &str,
    path: &str,
) -> Result<SignedHeaders, AuthError> {
    sign_in(process::id(), signer, method, path).await
}

async fn sign_in(
    process: u32,
    signer: &Signer,
    method: &str,
    path: &str,
) -> Result<SignedHeaders, AuthError> {
    let (reply, headers) = oneshot::channel();
    let request =
        Request { signer: signer.clone(), method: method.to_owned(), path: path.to_owned(), reply };
    if !queue_of(process).push(request) {
        return signer.sign(method, path);
    }
    headers.await.unwrap_or_else(|_| {
        Err(AuthError::new(AuthErrorKind::Signing, "the library panicked while signing"))
    })
}

/// Returns the queue of a process. Takes no lock that `fork` could have left held, save in the
/// instant in which the first signature of a process is made.
fn queue_of(process: u32) -> &'static Arc<Queue<Request>> {
    let generation = || Generation {
        process,
        queue: Arc::new(Queue::new(max_threads())),
        child: OnceLock::new(),
    };
    let mut found = FIRST.get_or_init(generation);
    while found.process != process {
        found = found.child.get_or_init(|| Box::new(generation()));
    }
    &found.queue
}

impl Job for Request {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self) {
        let signed = self.signer.sign(&self.method, &self.path);
        // The receiver may be gone by now.
        let _ = self.reply.send(signed);
    }
}

impl<J: Job> Queue<J> {
    fn new(max_threads: usize) -> Self {
        let state = State { jobs: VecDeque::new(), threads: 0, waiting: 0 };
        Self { state: Mutex::new(state), ready: Condvar::new(), max_threads }
    }

    /// Queues a job, and reports whether there is a thread to do it. If not, the job is gone.
    fn push(self: &Arc<Self>, job: J) -> bool {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.jobs.len() > state.waiting && state.threads < self.max_threads {
            let queue = Arc::clone(self);
            if sync::spawn("kalshi-auth", move || queue.work()) {
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
        while let Some(job) = self.next() {
            if job.is_abandoned() {
                continue;
            }
            // A panic costs this job, and not those that wait behind it. The job owns nothing that
            // could be left half done.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| job.run()));
        }
    }

    /// Waits for a job. Without one for a while the thread counts itself out, and has to end.
    fn next(&self) -> Option<J> {
        let mut state = self.lock();
        state.waiting += 1;
        let mut state =
            sync::wait_for(&self.ready, &self.state, state, IDLE, |state| !state.jobs.is_empty());
        state.waiting -= 1;
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves one processor to the workers of the runtime.
fn max_threads() -> usize {
    thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
}

#[cfg(test)]
mod tests {
    use shuttle::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A job that counts the jobs which run at the same time.
    struct Counted {
        running: Arc<AtomicUsize>,
        max_threads: usize,
        reply: oneshot::Sender<usize>,
    }

    impl Job for Counted {
        fn is_abandoned(&self) -> bool {
            self.reply.is_closed()
        }

        fn run(self) {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            shuttle::thread::yield_now();
            self.running.fetch_sub(1, Ordering::SeqCst);
            // A panic would be caught by the queue; the test looks at the number.
            let _ = self.reply.send(running.min(self.max_threads + 1));
        }
    }

    /// Lets three producers push jobs, some of which are abandoned, onto a queue of `max_threads`.
    fn produce(max_threads: usize) {
        let queue = Arc::new(Queue::new(max_threads));
        let running = Arc::new(AtomicUsize::new(0));
        let producers: Vec<_> = (0..3)
            .map(|number| {
                let (queue, running) = (Arc::clone(&queue), Arc::clone(&running));
                shuttle::thread::spawn(move || {
                    for turn in 0..2 {
                        let (reply, result) = oneshot::channel();
                        let job = Counted { running: Arc::clone(&running), max_threads, reply };
                        if !queue.push(job) {
                            continue;
                        }
                        if (number + turn) % 3 == 2 {
                            drop(result);
                            continue;
                        }
                        let at_once = shuttle::future::block_on(result).expect("the job was done");
                        assert!(at_once <= max_threads, "{at_once} jobs ran at once");
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.join().unwrap();
        }
        // The time of those that wait for more is up sooner or later.
        loop {
            let state = queue.lock();
            assert!(state.threads <= max_threads && state.waiting <= state.threads);
            if state.threads == 0 {
                assert!(state.jobs.is_empty(), "a job was left without a thread");
                break;
            }
            drop(state);
            queue.ready.notify_all();
            shuttle::thread::yield_now();
        }
    }

    #[test]
    fn c6_a_process_made_by_fork_has_a_queue_of_its_own() {
        let parent = Arc::clone(queue_of(1));
        let child = Arc::clone(queue_of(2));
        let grandchild = Arc::clone(queue_of(3));
        assert!(!Arc::ptr_eq(&parent, &child) && !Arc::ptr_eq(&child, &grandchild));
        for (process, queue) in [(1, &parent), (2, &child), (3, &grandchild)] {
            assert!(Arc::ptr_eq(queue_of(process), queue));
        }
    }

    #[test]
    fn every_job_is_done_once_whatever_the_order_of_events() {
        for max_threads in 1..=2 {
            shuttle::check_random(move || produce(max_threads), 300);
            shuttle::check_pct(move || produce(max_threads), 150, 3);
        }
    }
}
