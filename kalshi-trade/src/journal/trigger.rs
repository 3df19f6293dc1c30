//! An exit trigger that is to be set, and what became of that.

use serde::{Deserialize, Serialize};

use super::intent::MAX_BODY;

/// The longest `client_trigger_id`, in bytes.
pub(crate) const MAX_TRIGGER_ID: usize = 64;

/// An exit trigger of perpetual futures that is to be set: the id that it goes by and the body of its
/// request, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TriggerIntent {
    /// The `client_trigger_id`, of 1 to 64 bytes.
    pub id: String,
    /// The market of the position.
    pub ticker: String,
    /// The subaccount; `None` stands for the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subaccount: Option<i64>,
    /// The body of the request, up to 8 KiB.
    pub body: String,
}

impl TriggerIntent {
    /// Returns the intent of a request.
    #[cfg(feature = "perps")]
    pub(crate) fn new(id: &str, ticker: &str, subaccount: Option<i64>, body: String) -> Self {
        Self { id: id.to_owned(), ticker: ticker.to_owned(), subaccount, body }
    }

    /// Checks what can be written down.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if !(1..=MAX_TRIGGER_ID).contains(&self.id.len()) {
            return Err("a client trigger id has 1 to 64 bytes");
        }
        if self.body.len() > MAX_BODY {
            return Err("the body of an exit trigger has more than 8 KiB");
        }
        Ok(())
    }
}

/// The known outcome of setting an exit trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum TriggerSettlement {
    /// The exchange has a trigger under the id.
    Answered {
        /// The exchange's id of the trigger.
        trigger_id: String,
    },
    /// The exchange refused the request and has set nothing.
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// Nothing was sent that could have been carried out, or the caller does not ask any more.
    Withdrawn,
}
