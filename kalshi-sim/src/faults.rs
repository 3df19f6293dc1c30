//! The faults of requests, on demand. Pure: which fault hits which request depends on the faults,
//! the seed and the order of the requests alone.

use std::time::Duration;

use kalshi_sdk::OperationId;
use serde::{Deserialize, Serialize};

use crate::{any_operation::AnyOperation, random::Random, role::Role};

/// The effect of a fault on a request.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_sim::{Fault, FaultKind};
///
/// let slow = Fault::builder(FaultKind::latency(Duration::from_millis(300))).build();
/// assert_eq!(slow.fault, FaultKind::Latency { millis: 300 });
/// ```
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
        /// The body is a proxy's HTML instead of JSON if true.
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
    /// The answer is 504 at once, and the request is carried out all the same, later; not if the
    /// exchange stops before. Its signature was checked when it arrived, however old it is by then. With [`ResetAfter`](Self::ResetAfter) beside it the connection is cut
    /// instead.
    Late {
        /// By how much, in milliseconds of the exchange's clock.
        millis: u64,
    },
    /// The answer is 504 at once, and the request is carried out right after a later request with
    /// the same key: the later one overtakes it. It is never carried out if none comes before the
    /// exchange stops.
    Overtaken {
        /// The operation of the later request; any unless given.
        #[serde(default, with = "operation_id")]
        by: Option<OperationId>,
    },
}

/// The time at which a request is carried out that is answered earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    Millis(u64),
    /// After the next request with the same key, to this operation if there is one.
    Overtaken(Option<OperationId>),
}

impl FaultKind {
    /// Returns a late answer.
    pub fn latency(by: Duration) -> Self {
        Self::Latency { millis: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Returns a request that is carried out after its answer said that it timed out.
    pub fn late(by: Duration) -> Self {
        Self::Late { millis: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Returns a request that is carried out after a later one of the same key to an operation.
    pub fn overtaken_by(operation: OperationId) -> Self {
        Self::Overtaken { by: Some(operation) }
    }

    /// Returns when the request is carried out, if not before it is answered.
    pub(crate) fn delay(self) -> Option<Delay> {
        match self {
            Self::Late { millis } => Some(Delay::Millis(millis)),
            Self::Overtaken { by } => Some(Delay::Overtaken(by)),
            _ => None,
        }
    }

    /// Returns another status, with a JSON body.
    pub fn status(status: u16) -> Self {
        Self::Status { status, html: false }
    }
}

/// A fault: what happens, and to which requests.
///
/// ```
/// use kalshi_sdk::OperationId;
/// use kalshi_sim::{Fault, FaultKind};
///
/// let lost = Fault::builder(FaultKind::ResetAfter)
///     .with_operation(OperationId::CreateOrderV2)
///     .with_times(1)
///     .build();
/// assert_eq!(lost.times, Some(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fault {
    /// The effect on them.
    pub fault: FaultKind,
    /// Only requests of this operation; of all unless given.
    #[serde(default, with = "operation_id")]
    pub operation: Option<OperationId>,
    /// Only requests of this operation of perpetual futures; of all unless given.
    #[cfg(feature = "perps")]
    #[serde(default, skip_serializing_if = "Option::is_none", with = "perps_operation_id")]
    pub perps_operation: Option<kalshi_sdk::perps::OperationId>,
    /// Only requests of this operation of the clearing house; of all unless given.
    #[cfg(feature = "perps")]
    #[serde(default, skip_serializing_if = "Option::is_none", with = "klear_operation_id")]
    pub klear_operation: Option<kalshi_sdk::klear::OperationId>,
    /// Only requests signed with this key, or with the token of this administrator of the clearing
    /// house.
    #[serde(default)]
    pub key_id: Option<String>,
    /// Hits one in `one_in` of them, by the dice; 1 hits all, 0 none.
    #[serde(default = "one")]
    pub one_in: u64,
    /// Ends after this many hits; without it, never.
    #[serde(default)]
    pub times: Option<u64>,
}

fn one() -> u64 {
    1
}

/// Operations go by their names in JSON; one that does not exist is refused.
mod operation_id {
    use kalshi_sdk::OperationId;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    #[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
    pub(super) fn serialize<S: Serializer>(
        id: &Option<OperationId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        id.map(OperationId::as_str).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OperationId>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
    }
}

/// The same of another document.
#[cfg(feature = "perps")]
macro_rules! operation_id_of {
    ($module:ident, $document:ident) => {
        mod $module {
            use kalshi_sdk::$document::OperationId;
            use serde::{
                Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _,
            };

            #[expect(clippy::ref_option, reason = "serde gives it so")]
            pub(super) fn serialize<S: Serializer>(
                id: &Option<OperationId>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                id.map(OperationId::as_str).serialize(serializer)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<OperationId>, D::Error> {
                let Some(name) = Option::<String>::deserialize(deserializer)? else {
                    return Ok(None);
                };
                let found = OperationId::all().find(|id| id.as_str() == name);
                let unknown = || D::Error::custom(format!("there is no operation {name}"));
                found.map(Some).ok_or_else(unknown)
            }
        }
    };
}

#[cfg(feature = "perps")]
operation_id_of!(perps_operation_id, perps);
#[cfg(feature = "perps")]
operation_id_of!(klear_operation_id, klear);

impl Fault {
    /// Returns a builder of a fault that hits every request.
    pub fn builder(fault: FaultKind) -> FaultBuilder {
        let fault = Self {
            fault,
            operation: None,
            #[cfg(feature = "perps")]
            perps_operation: None,
            #[cfg(feature = "perps")]
            klear_operation: None,
            key_id: None,
            one_in: 1,
            times: None,
        };
        FaultBuilder { fault }
    }

    /// Reports whether the fault is for an operation: one that names none is for all of them.
    fn is_for(&self, operation: AnyOperation) -> bool {
        #[cfg(not(feature = "perps"))]
        let names_none = self.operation.is_none();
        #[cfg(feature = "perps")]
        let names_none = self.operation.is_none()
            && self.perps_operation.is_none()
            && self.klear_operation.is_none();
        names_none
            || match operation {
                AnyOperation::Events(id) => self.operation == Some(id),
                #[cfg(feature = "perps")]
                AnyOperation::Perps(id) => self.perps_operation == Some(id),
                #[cfg(feature = "perps")]
                AnyOperation::Klear(id) => self.klear_operation == Some(id),
            }
    }
}

/// Builds a [`Fault`].
#[derive(Clone, Debug)]
#[must_use = "call `build`"]
pub struct FaultBuilder {
    fault: Fault,
}

impl FaultBuilder {
    /// Hits only requests of one operation.
    pub fn with_operation(mut self, operation: OperationId) -> Self {
        self.fault.operation = Some(operation);
        self
    }

    /// Hits only requests of one operation of perpetual futures, or also of it if another one is
    /// named.
    #[cfg(feature = "perps")]
    pub fn with_perps_operation(mut self, operation: kalshi_sdk::perps::OperationId) -> Self {
        self.fault.perps_operation = Some(operation);
        self
    }

    /// Hits only requests of one operation of the clearing house, or also of it if another one is
    /// named.
    #[cfg(feature = "perps")]
    pub fn with_klear_operation(mut self, operation: kalshi_sdk::klear::OperationId) -> Self {
        self.fault.klear_operation = Some(operation);
        self
    }

    /// Hits only requests that are signed with the key that the exchange made for a role.
    pub fn with_role(self, role: Role) -> Self {
        self.with_key_id(role.key_id())
    }

    /// Hits only requests signed with one key. It must be known to the exchange when the fault is
    /// added.
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.fault.key_id = Some(key_id.into());
        self
    }

    /// Hits one in `requests` of them, at random by the seed.
    pub fn with_one_in(mut self, requests: u64) -> Self {
        self.fault.one_in = requests;
        self
    }

    /// Ends after this many hits.
    pub fn with_times(mut self, hits: u64) -> Self {
        self.fault.times = Some(hits);
        self
    }

    /// Returns the fault.
    pub fn build(self) -> Fault {
        self.fault
    }
}

/// A fault that was added, and how often it has hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FaultReport {
    /// The fault.
    #[serde(flatten)]
    pub fault: Fault,
    /// The requests that it has hit.
    pub hits: u64,
}

/// The rules and their dice.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    rules: Vec<FaultReport>,
    random: Random,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), random: Random::new(seed ^ 0xfa_017) }
    }

    /// Returns every fault that was added, also those that are over.
    pub(crate) fn reports(&self) -> &[FaultReport] {
        &self.rules
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.rules.push(FaultReport { fault, hits: 0 });
    }

    /// Returns the faults that hit this request, and counts them.
    pub(crate) fn hit(
        &mut self,
        operation: impl Into<AnyOperation>,
        key_id: Option<&str>,
    ) -> Vec<FaultKind> {
        let operation = operation.into();
        let mut hits = Vec::new();
        for FaultReport { fault, hits: count } in &mut self.rules {
            let named = fault.is_for(operation)
                && fault.key_id.as_deref().is_none_or(|named| Some(named) == key_id);
            let over = fault.times.is_some_and(|times| *count >= times);
            if !named || over || fault.one_in == 0 {
                continue;
            }
            if self.random.below(fault.one_in) == 0 {
                hits.push(fault.fault);
                *count += 1;
            }
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: OperationId = OperationId::CreateOrderV2;
    const BALANCE: OperationId = OperationId::GetBalance;

    #[test]
    fn a_fault_hits_what_it_names_as_often_as_it_says_and_counts() {
        let mut faults = Faults::new(1);
        let fault = Fault::builder(FaultKind::ResetAfter);
        faults.add(fault.with_operation(CREATE).with_key_id("k").with_times(2).build());
        assert!(faults.hit(BALANCE, Some("k")).is_empty());
        assert!(faults.hit(CREATE, Some("other")).is_empty());
        assert_eq!(faults.reports()[0].hits, 0);
        assert_eq!(faults.hit(CREATE, Some("k")), [FaultKind::ResetAfter]);
        assert_eq!(faults.reports()[0].hits, 1);
        assert_eq!(faults.hit(CREATE, Some("k")), [FaultKind::ResetAfter]);
        assert!(faults.hit(CREATE, Some("k")).is_empty());
        assert_eq!(faults.reports()[0].hits, 2);
    }

    #[test]
    fn dice_are_repeated_by_their_seed() {
        let hits = |seed| {
            let mut faults = Faults::new(seed);
            faults.add(Fault::builder(FaultKind::TooManyRequests).with_one_in(10).build());
            (0..1_000).map(|_| faults.hit(BALANCE, None).len()).collect::<Vec<_>>()
        };
        assert_eq!(hits(3), hits(3));
        assert_ne!(hits(3), hits(4));
        let total: usize = hits(3).iter().sum();
        assert!((50..200).contains(&total), "{total}");
    }

    #[test]
    fn a_fault_is_read_from_json_and_an_operation_that_does_not_exist_is_refused() {
        let read = |operation: &str| {
            let fault = serde_json::json!({"kind": "status", "status": 503});
            serde_json::from_value::<Fault>(
                serde_json::json!({"fault": fault, "operation": operation}),
            )
        };
        let fault = Fault::builder(FaultKind::status(503)).with_operation(BALANCE).build();
        assert_eq!(read("get_balance").unwrap(), fault);
        let written = serde_json::to_value(&FaultReport { fault, hits: 3 }).unwrap();
        assert_eq!((&written["operation"], &written["hits"]), (&"get_balance".into(), &3.into()));
        let error = read("create_order").unwrap_err().to_string();
        assert!(error.contains("create_order"), "{error}");
    }
}
