//! Random numbers that a seed brings back, by the method called `SplitMix64`.

/// Every test names its seed, and a failing one prints it.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from zero up to, and without, the limit.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Returns a number between the two, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = i128::from(high) - i128::from(low) + 1;
        i64::try_from(i128::from(low) + i128::from(self.next()) % span).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Returns text with what breaks naive handling of it: quotes, separators, other scripts,
    /// nothing.
    pub(crate) fn text(&mut self) -> String {
        const PARTS: [&str; 28] = [
            "KXBTC", "-25", "a", "Z", "0", " ", "/", "%", "%2F", "..", ".", "?", "#", "&", "=",
            "+", "\"", "\\", "\n", "\u{7f}", "é", "日本", "🎲", "<b>", "'", ";", "|", "\u{202e}",
        ];
        let length = self.below(6);
        (0..length).map(|_| *self.pick(&PARTS)).collect()
    }

    /// Returns a text that may stand for one segment of a path.
    pub(crate) fn segment(&mut self) -> String {
        loop {
            let text = self.text();
            if !matches!(text.as_str(), "" | "." | "..") {
                return text;
            }
        }
    }
}
