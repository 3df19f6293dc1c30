//! The lock that the [queue](super::queue) is built from.
//!
//! That of the standard library. In this crate's unit tests it can be that of `shuttle`, which runs
//! the same code under many orders of events.

#[cfg(not(test))]
pub(crate) use self::real::{Guard, Lock};
#[cfg(test)]
pub(crate) use self::simulated::{Guard, Lock, simulated};

#[cfg(not(test))]
mod real {
    use std::sync::{Mutex, PoisonError};

    pub(crate) type Guard<'a, T> = std::sync::MutexGuard<'a, T>;

    pub(crate) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        /// Waits for the lock. Nothing panics while it is held; if something did, the value is still
        /// whole.
        #[inline]
        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod simulated {
    use std::{
        cell::Cell,
        ops::{Deref, DerefMut},
    };

    thread_local! {
        static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs a test whose locks are those of shuttle.
    pub(crate) fn simulated(test: impl FnOnce()) {
        IS_SIMULATED.set(true);
        test();
        IS_SIMULATED.set(false);
    }

    pub(crate) enum Lock<T> {
        Real(std::sync::Mutex<T>),
        Simulated(shuttle::sync::Mutex<T>),
    }

    pub(crate) enum Guard<'a, T> {
        Real(std::sync::MutexGuard<'a, T>),
        Simulated(shuttle::sync::MutexGuard<'a, T>),
    }

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            if IS_SIMULATED.get() {
                Self::Simulated(shuttle::sync::Mutex::new(value))
            } else {
                Self::Real(std::sync::Mutex::new(value))
            }
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            match self {
                Self::Real(mutex) => Guard::Real(mutex.lock().unwrap()),
                Self::Simulated(mutex) => Guard::Simulated(mutex.lock().unwrap()),
            }
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self {
                Self::Real(guard) => guard,
                Self::Simulated(guard) => guard,
            }
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match self {
                Self::Real(guard) => guard,
                Self::Simulated(guard) => guard,
            }
        }
    }
}
