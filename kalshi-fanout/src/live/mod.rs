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

/// The clocks of a node.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Duration {
        self.0.elapsed()
    }

    fn wall() -> UnixMillis {
        SystemClock.now()
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
