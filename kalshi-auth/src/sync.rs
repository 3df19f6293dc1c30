//! The locks and threads that [`crate::offload`] is built from.
//!
//! Those of the standard library. In this crate's unit tests, those of `shuttle`, which runs the same
//! code under many orders of events.

#[cfg(not(test))]
pub(crate) use self::real::*;
#[cfg(test)]
pub(crate) use self::simulated::*;

#[cfg(not(test))]
mod real {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    use std::{sync::PoisonError, thread, time::Duration};

    /// Waits until `ready` holds, or until the time limit has passed.
    pub(crate) fn wait_for<'a, T>(
        condvar: &Condvar,
        _: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        limit: Duration,
        mut ready: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        condvar
            .wait_timeout_while(guard, limit, |state| !ready(state))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Starts a thread, and reports whether the system gave one.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
        thread::Builder::new().name(name.to_owned()).spawn(work).is_ok()
    }
}

#[cfg(test)]
mod simulated {
    use std::time::Duration;

    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    use shuttle::{
        rand::{Rng as _, thread_rng},
        thread,
    };

    /// Waits until `ready` holds, or until the time limit has passed, which is any time at all.
    pub(crate) fn wait_for<'a, T>(
        condvar: &Condvar,
        mutex: &'a Mutex<T>,
        mut guard: MutexGuard<'a, T>,
        _: Duration,
        mut ready: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while !ready(&mut guard) {
            if thread_rng().gen_bool(0.5) {
                // As a wait does: the lock is given back, and taken again when the time is up.
                drop(guard);
                thread::yield_now();
                return mutex.lock().unwrap();
            }
            guard = condvar.wait(guard).unwrap();
        }
        guard
    }

    /// Starts a thread. Now and then the system has none to give.
    pub(crate) fn spawn(_: &str, work: impl FnOnce() + Send + 'static) -> bool {
        if thread_rng().gen_bool(0.1) {
            return false;
        }
        thread::spawn(work);
        true
    }
}
