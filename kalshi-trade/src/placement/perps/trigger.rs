//! Exit triggers that are set once, under the journal or without it.

use std::time::Duration;

use kalshi_sdk::{
    Client, Effect, Error,
    auth::Clock as _,
    perps::types::{ExitTrigger, SetCrossExitTriggerRequest},
};

use super::PerpsPlacements;
use crate::{
    journal::{MAX_TRIGGER_ID, Record, TriggerIntent, TriggerSettlement},
    placement::shell::write,
};

/// The pauses before a request is sent again whose answer was lost.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];

/// What the exchange has under the `client_trigger_id` of a request.
///
/// A success is no proof that a trigger was set: a repeated id is answered with the first trigger that
/// had it, in whatever state that is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TriggerOutcome {
    /// A trigger with everything that was asked for can still fire.
    InPlace(ExitTrigger),
    /// The trigger is as asked for, and closes nothing any more: it fired, failed or was canceled. Set
    /// another under another id.
    Over(ExitTrigger),
    /// The trigger is as asked for, in a state that does not say whether it can fire. Read it again.
    Unclear(ExitTrigger),
    /// The id is that of another trigger. Nothing was set: use another id.
    Another(ExitTrigger),
}

impl TriggerOutcome {
    /// Returns what a trigger that was answered is to a request.
    pub fn of(request: &SetCrossExitTriggerRequest, trigger: ExitTrigger) -> Self {
        if !trigger.is_as_requested(request) {
            return Self::Another(trigger);
        }
        match trigger.is_live() {
            Some(true) => Self::InPlace(trigger),
            Some(false) => Self::Over(trigger),
            None => Self::Unclear(trigger),
        }
    }

    /// Returns the trigger.
    pub fn trigger(&self) -> &ExitTrigger {
        let (Self::InPlace(trigger)
        | Self::Over(trigger)
        | Self::Unclear(trigger)
        | Self::Another(trigger)) = self;
        trigger
    }
}

/// The reason for which it is not known that an exit trigger is in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// The request has no `client_trigger_id` of 1 to 64 bytes: nothing was sent. Without one a request
    /// that is sent twice may set two triggers; it is for triggers with a count or an anchor.
    #[error("the request has no client_trigger_id of 1 to 64 bytes")]
    NoId,
    /// The exchange refused the request, or was not reached: no trigger was set.
    #[error(transparent)]
    Request(#[from] Error),
    /// An answer was lost: the trigger may be set, whatever the last request came to. Call again with
    /// the same request, which sets no second trigger. One under another id may close twice the
    /// contracts.
    #[error("the exit trigger {id:?} may be set: send the same request again")]
    #[non_exhaustive]
    Unsettled {
        /// The `client_trigger_id` of the request.
        id: String,
        /// The error of the last request. Its own effect says nothing of the requests before it.
        #[source]
        last: Error,
    },
    /// The trigger could not be written to the journal, or not be read from it: nothing was sent. It
    /// may have the id of another one that is [open](PerpsPlacements::unsettled_triggers).
    #[error("the exit trigger {0:?} could not be written to the journal or read from it")]
    Journal(String),
}

impl TriggerError {
    /// Returns the worst effect of all requests that were sent for the trigger: by this call, and, where
    /// the journal had it open, by the calls before. With [`Journal`](Self::Journal) this call has sent
    /// nothing; the journal says which triggers earlier ones have left open.
    pub fn effect(&self) -> Effect {
        match self {
            Self::NoId | Self::Journal(_) => Effect::NotSent,
            Self::Request(error) => error.effect(),
            Self::Unsettled { .. } => Effect::Unknown,
        }
    }
}

/// Sets an exit trigger of a position by its `client_trigger_id`, at most once.
///
/// A request whose answer is lost is sent again, up to four times in all: the exchange answers a
/// repeated id with the first trigger that had it. Nothing is written down: a process that dies before the
/// answer does not know the id afterwards, unless its caller does. Under a journal, use
/// [`PerpsPlacements::set_exit_trigger`].
///
/// # Errors
///
/// A [`TriggerError`]: [`Unsettled`](TriggerError::Unsettled) if the answer to any request was lost,
/// whatever came after it.
///
/// # Cancellation
///
/// The trigger may be set. Call again with the same request: that sets no second one.
pub async fn set_exit_trigger(
    client: &Client,
    ticker: &str,
    subaccount: Option<i64>,
    request: &SetCrossExitTriggerRequest,
) -> Result<TriggerOutcome, TriggerError> {
    let id = id_of(request)?;
    send(client, ticker, subaccount, request, false).await.map_err(|failed| failed.of(id))
}

/// Returns the `client_trigger_id` of a request.
fn id_of(request: &SetCrossExitTriggerRequest) -> Result<&str, TriggerError> {
    let id = request.client_trigger_id.as_deref().unwrap_or_default();
    if (1..=MAX_TRIGGER_ID).contains(&id.len()) { Ok(id) } else { Err(TriggerError::NoId) }
}

/// The error of the last of several requests for one trigger.
struct Failed {
    last: Error,
    /// True if the trigger may be set, by any of them.
    may_be_set: bool,
}

impl Failed {
    fn of(self, id: &str) -> TriggerError {
        let Self { last, may_be_set } = self;
        if may_be_set {
            TriggerError::Unsettled { id: id.to_owned(), last }
        } else {
            TriggerError::Request(last)
        }
    }
}

/// Sends a request, and again as long as it may be set and the next one may tell: after a lost answer,
/// and from then on after one that did not reach the exchange or its rate limit.
///
/// `may_be_set` is true if an earlier call has sent it, without an answer.
async fn send(
    client: &Client,
    ticker: &str,
    subaccount: Option<i64>,
    request: &SetCrossExitTriggerRequest,
    mut may_be_set: bool,
) -> Result<TriggerOutcome, Failed> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let sent = client.perps().set_cross_margin_exit_trigger().ticker(ticker);
        let sent = sent.subaccount(subaccount).body(request.clone()).send().await;
        let last = match sent {
            Ok(answer) => return Ok(TriggerOutcome::of(request, answer.into_inner())),
            Err(error) => error,
        };
        may_be_set |= last.effect() == Effect::Unknown;
        let may_pass = last.effect() != Effect::Rejected || last.is_rate_limited();
        match pauses.next().filter(|_| may_be_set && may_pass) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(Failed { last, may_be_set }),
        }
    }
}

impl PerpsPlacements<'_> {
    /// Sets an exit trigger of a position by its `client_trigger_id`, at most once, and writes it to the
    /// journal first: of what is sent, the next process knows.
    ///
    /// A request whose answer is lost is sent again, up to four times in all: the exchange answers a
    /// repeated id with the first trigger that had it.
    ///
    /// # Errors
    ///
    /// A [`TriggerError`]: [`Unsettled`](TriggerError::Unsettled) if an answer was lost, to this call or
    /// to an earlier one. Then the trigger is among those that
    /// [`unsettled_triggers`](Self::unsettled_triggers) returns.
    ///
    /// # Cancellation
    ///
    /// The trigger may be set, and is among those that
    /// [`unsettled_triggers`](Self::unsettled_triggers) returns.
    pub async fn set_exit_trigger(
        self,
        ticker: &str,
        subaccount: Option<i64>,
        request: &SetCrossExitTriggerRequest,
    ) -> Result<TriggerOutcome, TriggerError> {
        let id = id_of(request)?;
        let unwritten = || TriggerError::Journal(id.to_owned());
        let body = serde_json::to_string(request).map_err(|_| unwritten())?;
        let intent = TriggerIntent::new(id, ticker, subaccount, body);
        let shared = &self.0.0;
        // Sent before, it may be set whatever is answered now.
        let was_sent = self.unsettled_triggers().iter().any(|open| open.id == id);
        let record = Record::Trigger { intent, at: shared.clock.now() };
        if !write(shared, record).await {
            return Err(unwritten());
        }
        let outcome = send(&shared.client, ticker, subaccount, request, was_sent).await;
        let settlement = match &outcome {
            Ok(outcome) => {
                Some(TriggerSettlement::Answered { trigger_id: outcome.trigger().id.clone() })
            }
            Err(failed) if failed.may_be_set => None,
            Err(failed) => Some(match failed.last.status() {
                Some(status) => TriggerSettlement::Refused { status: status.as_u16() },
                None => TriggerSettlement::Withdrawn,
            }),
        };
        if let Some(settlement) = settlement {
            // One that cannot be written leaves the trigger open: setting it again sets no second.
            let (id, at) = (id.to_owned(), shared.clock.now());
            write(shared, Record::TriggerSettled { id, settlement, at }).await;
        }
        outcome.map_err(|failed| failed.of(id))
    }

    /// Returns the exit triggers of which it is not known whether they were set: answers that were lost
    /// to this process or to an earlier one. Each is either to be
    /// [set again](Self::settle_exit_trigger) or to be [forgotten](Self::forget_exit_trigger).
    pub fn unsettled_triggers(self) -> Vec<TriggerIntent> {
        let history = self.0.0.journal.history();
        history.unsettled_triggers().map(|open| open.intent.clone()).collect()
    }

    /// Sends the request of an exit trigger again that is not settled. If it was carried out before, it
    /// sets no second one; if it was not, the trigger is set now: look at the position first, which
    /// may be another one since.
    ///
    /// # Errors
    ///
    /// As with [`set_exit_trigger`](Self::set_exit_trigger).
    ///
    /// # Cancellation
    ///
    /// As with [`set_exit_trigger`](Self::set_exit_trigger).
    pub async fn settle_exit_trigger(
        self,
        intent: &TriggerIntent,
    ) -> Result<TriggerOutcome, TriggerError> {
        let request: SetCrossExitTriggerRequest = serde_json::from_str(&intent.body)
            .map_err(|_| TriggerError::Journal(intent.id.clone()))?;
        self.set_exit_trigger(&intent.ticker, intent.subaccount, &request).await
    }

    /// Settles an exit trigger in the journal without asking the exchange: for one whose position is
    /// over, or that was looked up by
    /// [`get_cross_margin_exit_triggers`](kalshi_sdk::perps::Perps::get_cross_margin_exit_triggers).
    /// Nothing is sent. It may be set all the same.
    ///
    /// # Errors
    ///
    /// [`TriggerError::Journal`]: none is open under this id, or the journal cannot be written.
    ///
    /// # Cancellation
    ///
    /// It may be settled or not.
    pub async fn forget_exit_trigger(self, client_trigger_id: &str) -> Result<(), TriggerError> {
        let (id, at) = (client_trigger_id.to_owned(), self.0.0.clock.now());
        let settlement = TriggerSettlement::Withdrawn;
        if write(&self.0.0, Record::TriggerSettled { id, settlement, at }).await {
            Ok(())
        } else {
            Err(TriggerError::Journal(client_trigger_id.to_owned()))
        }
    }
}
