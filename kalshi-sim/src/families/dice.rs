//! Made-up facts that depend on the seed and a name alone, so that one family can be enlarged
//! without another one changing. Whole numbers only: every machine makes up the same.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A stream of made-up facts under a name of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dice(Random);

impl Dice {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self(Random::new(mix(seed, name)))
    }

    pub(crate) fn number(&mut self, range: RangeInclusive<i64>) -> i64 {
        within(self.0.next(), &range)
    }

    /// One of a list, or nothing of an empty one.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(list.len()).unwrap_or(u64::MAX);
        list.get(usize::try_from(self.0.below(bound)).unwrap_or(0))
    }

    pub(crate) fn id(&mut self) -> String {
        self.0.id()
    }
}

/// The id that belongs to a name, in the form of a UUID.
pub(crate) fn id_of(seed: u64, name: &str) -> String {
    Random::new(mix(seed, name)).id()
}

/// A number that belongs to a seed and a place, the same at every call.
pub(crate) fn at(seed: u64, place: i64, range: &RangeInclusive<i64>) -> i64 {
    let place = u64::from_ne_bytes(place.to_ne_bytes());
    let mut random = Random::new(seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    random.next();
    within(random.next(), range)
}

/// A curve through made-up points that are `period` apart; its values are within ±`amplitude`.
pub(crate) fn wave(seed: u64, place: i64, period: i64, amplitude: i64) -> i64 {
    let period = period.max(1);
    let (left, part) = (place.div_euclid(period), place.rem_euclid(period));
    let reach = -amplitude..=amplitude;
    let from = i128::from(at(seed, left, &reach));
    let to = i128::from(at(seed, left.saturating_add(1), &reach));
    let (part, period) = (i128::from(part), i128::from(period));
    i64::try_from((from * (period - part) + to * part) / period).unwrap_or(0)
}

/// FNV-1a over the name, then the seed.
pub(crate) fn mix(seed: u64, name: &str) -> u64 {
    let hashed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hashed ^ seed.rotate_left(32)
}

fn within(random: u64, range: &RangeInclusive<i64>) -> i64 {
    let (low, high) = (i128::from(*range.start()), i128::from(*range.end()));
    let span = (high - low + 1).max(1);
    i64::try_from(low + i128::from(random) % span).unwrap_or(*range.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_passes_through_its_points_and_keeps_to_its_amplitude() {
        for place in -500..500 {
            assert!(wave(7, place, 60, 100).abs() <= 100);
            assert!((wave(7, place, 60, 100) - wave(7, place + 1, 60, 100)).abs() <= 5);
        }
        assert_eq!(wave(7, 120, 60, 100), at(7, 2, &(-100..=100)));
        assert_ne!(wave(7, 120, 60, 100), wave(8, 120, 60, 100));
        for place in [i64::MIN, i64::MAX] {
            assert!(wave(7, place, 60, 100).abs() <= 100);
        }
    }

    #[test]
    fn numbers_stay_in_their_range_and_lists_give_what_they_hold() {
        let mut dice = Dice::new(1, "test");
        let rolled: Vec<i64> = (0..200).map(|_| dice.number(-2..=3)).collect();
        assert!((-2..=3).all(|number| rolled.contains(&number)));
        assert!(rolled.iter().all(|number| (-2..=3).contains(number)));
        assert_eq!(dice.pick::<i64>(&[]), None);
        assert_eq!(dice.pick(&[5]), Some(&5));
    }
}
