//! The pauses of a machine, between its reads and between its sendings.

use std::time::Duration;

use kalshi_types::UnixMillis;

/// The pauses between two reads while the outcome is unknown, in milliseconds; the last goes on.
const READS: [u64; 5] = [250, 500, 1_000, 2_000, 2_000];

/// The pause after the first attempt that had no effect, and the longest.
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// The time of the next step, and the counts that it grows with.
#[derive(Clone, Debug)]
pub(super) struct Pauses {
    /// The time before which nothing is sent or read.
    next_at: UnixMillis,
    /// The length of the pause that ends then.
    pause: Duration,
    /// Reads that did not settle the outcome.
    reads: usize,
    /// Attempts that are known to have had no effect, one after the other.
    fruitless: u32,
}

impl Pauses {
    pub(super) const fn new() -> Self {
        Self { next_at: UnixMillis::EPOCH, pause: Duration::ZERO, reads: 0, fruitless: 0 }
    }

    /// Returns the time before which nothing is sent or read, if it is still to come. A clock that is set
    /// back does not make a pause longer.
    pub(super) fn until(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        self.next_at = self.next_at.min(now.saturating_add(self.pause));
        (now < self.next_at).then_some(self.next_at)
    }

    /// Puts the next step off.
    pub(super) fn put_off(&mut self, pause: Duration, now: UnixMillis) {
        self.pause = pause;
        self.next_at = now.saturating_add(pause);
    }

    /// Begins with the shortest pause between reads again.
    pub(super) fn forget_reads(&mut self) {
        self.reads = 0;
    }

    /// Puts the next step off after a read that did not settle the outcome: by that interval, or by
    /// pauses that grow.
    pub(super) fn after_read(&mut self, interval: Option<Duration>, now: UnixMillis) {
        let pause = interval.unwrap_or_else(|| of_reads(self.reads));
        self.count_read(pause, now);
    }

    /// Puts the next step off after a read, the first time not at all.
    pub(super) fn after_read_but_the_first(&mut self, now: UnixMillis) {
        let pause = self.reads.checked_sub(1).map_or(Duration::ZERO, of_reads);
        self.count_read(pause, now);
    }

    /// Puts the next step off after a sending that had no effect.
    pub(super) fn after_sending(&mut self, retry_after: Option<Duration>, now: UnixMillis) {
        let pause = retry_after.unwrap_or(Duration::ZERO).max(of_sendings(self.fruitless));
        self.fruitless = self.fruitless.saturating_add(1);
        self.put_off(pause, now);
    }

    fn count_read(&mut self, pause: Duration, now: UnixMillis) {
        self.reads = self.reads.saturating_add(1);
        self.put_off(pause, now);
    }
}

/// Returns the pause of a task before it goes on after a panic, after a number of them before.
pub(super) fn after_panic(panics: u32) -> Duration {
    of_sendings(panics)
}

/// Returns the pause after a number of reads that did not settle the outcome.
fn of_reads(reads: usize) -> Duration {
    Duration::from_millis(READS.get(reads).or(READS.last()).copied().unwrap_or(0))
}

/// Returns the pause before a sending, after a number of sendings that had no effect.
fn of_sendings(fruitless: u32) -> Duration {
    let factor = 1_u32.checked_shl(fruitless).unwrap_or(u32::MAX);
    RETRY.saturating_mul(factor).min(MAX_RETRY)
}
