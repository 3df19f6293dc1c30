//! The split of a channel over several connections.
//!
//! A message belongs to the part with the greatest hash of the part and the message's key. So a
//! key stays where it is when another part is added, unless it moves to that part: a consistent
//! hash. The function that the exchange uses is not published.

/// One part of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Its number, from 0.
    pub(super) key: u64,
    /// The number of parts.
    pub(super) factor: u64,
}

impl Shard {
    /// Reports whether this part carries the messages with a key.
    pub(super) fn takes(self, key: &str) -> bool {
        self.key == part_of(key, self.factor)
    }
}

/// Returns the part, of `factor`, that carries the messages with a key.
fn part_of(key: &str, factor: u64) -> u64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let weight = |part: u64| mix(hash ^ mix(part + 1));
    (0..factor).max_by_key(|part| weight(*part)).unwrap_or(0)
}

/// Spreads every bit of a number over the whole of it.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a12_every_key_is_in_one_part_and_another_part_moves_few_of_them() {
        const KEYS: u64 = 10_000;
        let keys: Vec<String> = (0..KEYS).map(|n| format!("KXMVE-26OCT-{n}")).collect();
        for factor in [1, 2, 3, 10, 100] {
            let mut sizes = vec![0_u64; usize::try_from(factor).unwrap()];
            for key in &keys {
                let takers = (0..factor).filter(|part| Shard { key: *part, factor }.takes(key));
                assert_eq!(takers.count(), 1);
                sizes[usize::try_from(part_of(key, factor)).unwrap()] += 1;
            }
            let fair = KEYS / factor;
            assert!(sizes.iter().all(|size| (fair / 2..=fair * 2).contains(size)), "{sizes:?}");
            let moved = keys.iter().filter(|key| part_of(key, factor) != part_of(key, factor + 1));
            // Those that move go to the part that is new.
            assert!(moved.clone().all(|key| part_of(key, factor + 1) == factor));
            assert!(moved.count() > 0);
        }
    }
}
