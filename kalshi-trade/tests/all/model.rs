//! The parts that random runs share: dice, the events to come in virtual time, and accidents.

use std::collections::BTreeMap;

/// The time after its signature in which the exchange still carries a request out, in milliseconds.
pub(crate) const WINDOW: i64 = 60_000;

/// The end of the faults, in milliseconds.
pub(crate) const FAULTS_END: i64 = 150_000;

/// The generator `SplitMix64`.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: i64) -> i64 {
        i64::try_from(self.next() % end.unsigned_abs()).unwrap()
    }

    pub(crate) fn one_in(&mut self, many: i64) -> bool {
        self.below(many) == 0
    }
}

/// The events to come, those of one time in the order in which they were scheduled.
pub(crate) struct Agenda<E> {
    /// The virtual time, in milliseconds.
    pub(crate) now: i64,
    serial: u64,
    events: BTreeMap<(i64, u64), E>,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self { now: 0, serial: 0, events: BTreeMap::new() }
    }

    /// Returns a number that no other event has.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn schedule(&mut self, at: i64, event: E) {
        let serial = self.next_serial();
        self.events.insert((at.max(self.now), serial), event);
    }

    /// Takes the next event, and goes on to its time.
    pub(crate) fn next(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &E> {
        self.events.values()
    }
}

/// Returns what happens to a process: its orders are withdrawn, it dies, its disk is full for a
/// while. In the end everything is found out by a process that nothing happens to.
pub(crate) fn accidents<E: Clone>(
    dice: &mut Dice,
    withdraw: E,
    death: &E,
    full: fn(bool) -> E,
) -> Vec<(i64, E)> {
    let mut accidents = Vec::new();
    if dice.one_in(8) {
        accidents.push((dice.below(10_000), withdraw));
    }
    for _ in 0..dice.below(3) {
        let end = if dice.one_in(2) { 10_000 } else { FAULTS_END };
        accidents.push((dice.below(end), death.clone()));
    }
    if dice.one_in(10) {
        let at = dice.below(10_000);
        accidents.push((at, full(true)));
        accidents.push((at + dice.below(20_000), full(false)));
    }
    accidents.push((FAULTS_END, full(false)));
    accidents.push((FAULTS_END, death.clone()));
    accidents
}
