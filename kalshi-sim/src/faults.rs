//! What can go wrong with a request, on demand. Pure: which fault hits which request depends on the
//! rules, the seed and the order of the requests alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// The answer comes late.
    Latency {
        /// By how much, in milliseconds.
        millis: u64,
    },
    /// 429 in the exchange's form; nothing is carried out.
    TooManyRequests,
    /// Another status, usually 500, 502, 503 or 504; nothing is carried out.
    Status {
        /// The status.
        status: u16,
        /// Whether the body is a proxy's HTML instead of JSON.
        #[serde(default)]
        html: bool,
    },
    /// The connection is cut, and the request was not carried out.
    ResetBefore,
    /// The connection is cut, but the request was carried out.
    ResetAfter,
    /// The body comes in pieces, with a pause after each.
    SlowBody {
        /// The pause, in milliseconds.
        millis: u64,
    },
    /// The connection is cut in the middle of the body; the request was carried out.
    TruncatedBody,
    /// The request is carried out twice, as after a retry in the network; the first answer is
    /// given.
    Duplicate,
}

impl FaultKind {
    /// A late answer.
    pub fn latency(by: Duration) -> Self {
        Self::Latency { millis: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Another status, with a JSON body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, html: false }
    }
}

/// A rule: which requests a fault hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fault {
    /// What happens to them.
    pub fault: FaultKind,
    /// Only requests of this operation, for instance `create_order_v2`.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only requests signed with this key.
    #[serde(default)]
    pub key_id: Option<String>,
    /// Hits one in so many of them, by the dice; 1 hits all.
    #[serde(default = "one")]
    pub one_in: u64,
    /// Ends after so many hits; without it, never.
    #[serde(default)]
    pub times: Option<u64>,
}

fn one() -> u64 {
    1
}

impl Fault {
    /// A fault that hits every request.
    pub fn new(fault: FaultKind) -> Self {
        Self { fault, operation: None, key_id: None, one_in: 1, times: None }
    }

    /// Only requests of one operation, by its id of the operation table.
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Only requests signed with one key.
    pub fn of_key(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// One in so many requests.
    pub fn one_in(mut self, requests: u64) -> Self {
        self.one_in = requests;
        self
    }

    /// So many hits, then never again.
    pub fn times(mut self, hits: u64) -> Self {
        self.times = Some(hits);
        self
    }
}

/// The rules and their dice.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    rules: Vec<Fault>,
    random: Random,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), random: Random::new(seed ^ 0xfa_017) }
    }

    pub(crate) fn rules(&self) -> &[Fault] {
        &self.rules
    }

    pub(crate) fn set(&mut self, rules: Vec<Fault>) {
        self.rules = rules;
    }

    pub(crate) fn add(&mut self, rule: Fault) {
        self.rules.push(rule);
    }

    /// The faults that hit this request.
    pub(crate) fn hit(&mut self, operation: &str, key_id: Option<&str>) -> Vec<FaultKind> {
        let mut hits = Vec::new();
        for rule in &mut self.rules {
            let named = rule.operation.as_deref().is_none_or(|named| named == operation)
                && rule.key_id.as_deref().is_none_or(|named| Some(named) == key_id);
            if !named || rule.times == Some(0) || rule.one_in == 0 {
                continue;
            }
            if self.random.below(rule.one_in) == 0 {
                hits.push(rule.fault);
                rule.times = rule.times.map(|left| left - 1);
            }
        }
        self.rules.retain(|rule| rule.times != Some(0));
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hits_what_it_names_as_often_as_it_says() {
        let mut faults = Faults::new(1);
        faults.add(Fault::new(FaultKind::ResetAfter).on("create_order_v2").of_key("k").times(2));
        assert!(faults.hit("get_balance", Some("k")).is_empty());
        assert!(faults.hit("create_order_v2", Some("other")).is_empty());
        assert_eq!(faults.hit("create_order_v2", Some("k")), [FaultKind::ResetAfter]);
        assert_eq!(faults.hit("create_order_v2", Some("k")), [FaultKind::ResetAfter]);
        assert!(faults.hit("create_order_v2", Some("k")).is_empty());
        assert!(faults.rules().is_empty());
    }

    #[test]
    fn dice_are_repeated_by_their_seed() {
        let hits = |seed| {
            let mut faults = Faults::new(seed);
            faults.add(Fault::new(FaultKind::TooManyRequests).one_in(10));
            (0..1_000).map(|_| faults.hit("x", None).len()).collect::<Vec<_>>()
        };
        assert_eq!(hits(3), hits(3));
        assert_ne!(hits(3), hits(4));
        let total: usize = hits(3).iter().sum();
        assert!((50..200).contains(&total), "{total}");
    }

    #[test]
    fn a_rule_is_read_from_json() {
        let rule: Fault = serde_json::from_str(
            r#"{"fault": {"kind": "status", "status": 503}, "operation": "get_balance"}"#,
        )
        .unwrap();
        assert_eq!(rule, Fault::new(FaultKind::status(503)).on("get_balance"));
    }
}
