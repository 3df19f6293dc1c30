//! The frames of one page: values, never deltas, and at most one that waits to be acknowledged.
//! Pure: the model and the time are arguments.
//!
//! A frame has what differs from the last model that the page has acknowledged, so a page that is
//! slow costs one model and no backlog. One that acknowledges nothing for two seconds gets nothing
//! more until it does, and then everything.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The time in which a page must acknowledge a frame, in milliseconds.
pub(super) const PATIENCE: i64 = 2_000;
/// The time after which an idle page gets a frame all the same, so that its clock goes on.
const IDLE: i64 = 1_000;

/// The rows of all panels: panel, key, and the row as JSON.
pub(super) type Model = BTreeMap<&'static str, BTreeMap<String, String>>;

/// The part of a frame that is not in a panel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The exchange's time, in milliseconds.
    pub(super) at: i64,
    pub(super) is_frozen: bool,
    /// The market of the panels that show one.
    pub(super) ticker: String,
}

/// What a page has, as far as the exchange knows.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The model that it has acknowledged; `None` before the first, and after a pause.
    base: Option<Model>,
    /// The frame that waits to be acknowledged, and when it was sent.
    outstanding: Option<Outstanding>,
    /// The number of the last frame.
    last: u64,
    /// The head of the last frame, and when it was sent.
    shown: Option<(Head, i64)>,
    is_paused: bool,
}

#[derive(Debug)]
struct Outstanding {
    number: u64,
    model: Model,
    sent: i64,
}

impl Page {
    /// Reports whether a frame could be sent at a time: then a model is worth making.
    pub(super) fn is_ready(&mut self, now: i64) -> bool {
        if let Some(outstanding) = &self.outstanding
            && now.saturating_sub(outstanding.sent) >= PATIENCE
        {
            self.outstanding = None;
            self.base = None;
            self.is_paused = true;
        }
        !self.is_paused && self.outstanding.is_none()
    }

    /// Returns the next frame, if there is anything to say. `now` is a time of a clock that no one
    /// sets, in milliseconds; the page can tell by it how old a frame is.
    pub(super) fn frame(&mut self, head: Head, model: Model, now: i64) -> Option<String> {
        if !self.is_ready(now) {
            return None;
        }
        let panels = difference(self.base.as_ref(), &model);
        let is_idle = self.base.is_some() && panels.is_empty();
        let is_due = self
            .shown
            .as_ref()
            .is_none_or(|(shown, sent)| is_due(shown, &head, now.saturating_sub(*sent)));
        if is_idle && !is_due {
            return None;
        }
        self.last += 1;
        let frame = json!({
            "n": self.last,
            "sent": now,
            "at": head.at,
            "frozen": head.is_frozen,
            "ticker": head.ticker,
            "full": self.base.is_none(),
            "hash": hash(model.get("book")),
        });
        let mut text = frame.to_string();
        // Rows are JSON already: they are put in as they are.
        text.pop();
        text.push_str(",\"panels\":{");
        text.push_str(&panels);
        text.push_str("}}");
        self.shown = Some((head, now));
        self.outstanding = Some(Outstanding { number: self.last, model, sent: now });
        Some(text)
    }

    /// Reports whether the page is waited for without end.
    #[cfg(test)]
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Takes the page's word that it has applied a frame. A number that was not sent last is
    /// ignored, but for the first after a pause.
    pub(super) fn acknowledge(&mut self, number: u64) {
        if self.is_paused {
            self.is_paused = false;
            return;
        }
        if let Some(outstanding) = self.outstanding.take_if(|one| one.number == number) {
            self.base = Some(outstanding.model);
        }
    }
}

/// Reports whether a frame without changes is due: the clock was moved, or a while has passed.
fn is_due(shown: &Head, head: &Head, passed: i64) -> bool {
    let moved = head.at.saturating_sub(shown.at);
    let is_moved = if head.is_frozen { moved != 0 } else { !(0..=2 * IDLE).contains(&moved) };
    shown.is_frozen != head.is_frozen || shown.ticker != head.ticker || is_moved || passed >= IDLE
}

/// Returns what has to be set and dropped in each panel, as the fields of an
/// object; empty if nothing.
fn difference(base: Option<&Model>, model: &Model) -> String {
    let empty = BTreeMap::new();
    let mut panels = Vec::new();
    let gone = base.into_iter().flat_map(BTreeMap::keys).filter(|name| !model.contains_key(*name));
    for name in model.keys().chain(gone) {
        let before = base.and_then(|base| base.get(name)).unwrap_or(&empty);
        let after = model.get(name).unwrap_or(&empty);
        let set: Vec<String> = after
            .iter()
            .filter(|(key, row)| before.get(*key) != Some(row))
            .map(|(key, row)| format!("{}:{row}", Value::from(key.as_str())))
            .collect();
        let dropped: Vec<&String> = before.keys().filter(|key| !after.contains_key(*key)).collect();
        if set.is_empty() && dropped.is_empty() {
            continue;
        }
        let (set, dropped) = (set.join(","), json!(dropped));
        panels.push(format!(r#""{name}":{{"set":{{{set}}},"drop":{dropped}}}"#));
    }
    panels.join(",")
}

/// Returns the FNV-1a hash of a book, 32 bits in hexadecimal: of `key=row;` for each level, in the
/// order of the keys. The page works it out again from its own rows.
fn hash(book: Option<&BTreeMap<String, String>>) -> String {
    let mut hash = 0x811c_9dc5_u32;
    for (key, row) in book.into_iter().flatten() {
        for byte in key.bytes().chain(*b"=").chain(row.bytes()).chain(*b";") {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    format!("{hash:08x}")
}
