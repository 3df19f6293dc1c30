//! A list that only grows, in blocks: growing moves nothing, and little room stays unused.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of a block.
const BLOCK: usize = 1_024;

#[derive(Clone, Debug)]
pub(crate) struct Log<T> {
    /// All are full but the last.
    blocks: Vec<Vec<T>>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { blocks: Vec::new() }
    }
}

impl<T> Log<T> {
    pub(crate) fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        self.blocks.last().map_or(0, |last| full + last.len())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.blocks.get_mut(index / BLOCK)?.get_mut(index % BLOCK)
    }

    pub(crate) fn push(&mut self, row: T) {
        match self.blocks.last_mut() {
            Some(last) if last.len() < BLOCK => last.push(row),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(row);
                self.blocks.push(block);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }
}

impl<T> FromIterator<T> for Log<T> {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        let mut log = Self::default();
        for row in rows {
            log.push(row);
        }
        log
    }
}

impl<T: Serialize> Serialize for Log<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Log<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_where_they_were_added() {
        for rows in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let mut log: Log<usize> = (0..rows).collect();
            assert_eq!(log.len(), rows);
            assert!((0..rows).all(|row| log.get(row) == Some(&row)));
            assert!(log.get(rows).is_none() && log.get_mut(rows).is_none());
            assert!(log.iter().copied().eq(0..rows));
            if let Some(first) = log.get_mut(0) {
                *first = 9;
                assert_eq!(log.get(0), Some(&9));
            }
            let json = serde_json::to_string(&log).unwrap();
            let read: Log<usize> = serde_json::from_str(&json).unwrap();
            assert!(read.iter().eq(log.iter()));
        }
    }
}
