use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use kalshi_auth::UnixMillis;
use kalshi_ws::Tap;
use serde_json::Value;

/// A message: its connection, its subscription, its number.
pub(super) type Numbered = (u64, i64, i64);

/// The numbers of replies, which are no messages: they are seen on the wire only.
#[derive(Clone, Default)]
pub(super) struct Replies(Arc<Mutex<(u64, HashSet<Numbered>)>>);

impl Tap for Replies {
    fn received(&mut self, _: UnixMillis, text: &str) {
        if text.contains(r#""type":"ok""#) {
            let reply: Value = serde_json::from_str(text).unwrap();
            if let (Some(sid), Some(seq)) = (reply["sid"].as_i64(), reply["seq"].as_i64()) {
                let mut inner = self.0.lock().unwrap();
                let connection = inner.0;
                inner.1.insert((connection, sid, seq));
            }
        }
    }

    fn connected(&mut self, _: UnixMillis) {
        let mut inner = self.0.lock().unwrap();
        inner.0 += 1;
        inner.1.clear();
    }
}

impl Replies {
    pub(super) fn has(&self, reply: Numbered) -> bool {
        // Those of former connections are forgotten; they cannot be asked for either, once the
        // tap has heard of the next connection.
        let inner = self.0.lock().unwrap();
        inner.0 != reply.0 || inner.1.contains(&reply)
    }
}
