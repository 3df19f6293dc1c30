//! Publishers and followers that run: by the clock of this machine, a connection to the exchange, and
//! a bus.
//!
//! Everything is made inside of a tokio runtime, and nothing is spawned here: what is not read does
//! not go on.

mod follower;
mod publisher;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use kalshi_auth::{Clock as _, SystemClock};
use kalshi_types::UnixMillis;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

pub use self::{follower::LiveFollower, publisher::LivePublisher};

/// The time between two looks at what is due.
const TICK: Duration = Duration::from_millis(50);

/// The difference between two clocks above which the machine has slept.
const SLEEP: Duration = Duration::from_secs(1);

/// The clocks of a node.
///
/// The monotonic clock stands still while the machine sleeps, and with it a lease and the age of a
/// book would. What the wall clock has advanced meanwhile is added, so that both end in time. A wall
/// clock that is set forward ends them too early, which is harmless.
struct Clock {
    read: Box<dyn FnMut() -> (Duration, UnixMillis) + Send>,
    /// Both clocks, as they were read last.
    last: (Duration, UnixMillis),
    slept: Duration,
}

impl Clock {
    fn start() -> Self {
        let start = Instant::now();
        Self::new(move || (start.elapsed(), SystemClock.now()))
    }

    /// Returns a clock of a monotonic clock and a wall clock, which are read together.
    fn new(mut read: impl FnMut() -> (Duration, UnixMillis) + Send + 'static) -> Self {
        let last = read();
        Self { read: Box::new(read), last, slept: Duration::ZERO }
    }

    /// Returns the time since any moment, also that in which the machine slept.
    fn now(&mut self) -> Duration {
        self.both().0
    }

    /// Returns the time of [`now`](Self::now) and the time of day.
    fn both(&mut self) -> (Duration, UnixMillis) {
        let (awake, wall) = (self.read)();
        let (awake_before, wall_before) = std::mem::replace(&mut self.last, (awake, wall));
        let by_wall = if wall > wall_before { wall.abs_diff(wall_before) } else { Duration::ZERO };
        let slept = by_wall.saturating_sub(awake.saturating_sub(awake_before));
        if slept > SLEEP {
            self.slept = self.slept.saturating_add(slept);
        }
        (awake.saturating_add(self.slept), wall)
    }
}

#[derive(Debug)]
struct Ticks(Interval);

impl Ticks {
    fn start() -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(ticks)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_tick(cx).map(drop)
    }
}

#[cfg(test)]
mod tests;
