//! Exit triggers that are set once.

use std::time::Duration;

use kalshi_sdk::{
    Client, Effect, Error,
    perps::types::{ExitTrigger, SetCrossExitTriggerRequest},
};

/// The longest `client_trigger_id`, in bytes.
const MAX_ID: usize = 64;

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
    /// The exchange refused the request, or was not reached. Where the effect is
    /// [`Effect::Unknown`], call again with the same request: that sets no second trigger.
    #[error(transparent)]
    Request(#[from] Error),
}

/// Sets an exit trigger of a position by its `client_trigger_id`, at most once.
///
/// A request whose answer is lost is sent again, four times in all: the exchange answers a repeated
/// id with the first trigger that had it.
///
/// # Errors
///
/// A [`TriggerError`].
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
    let id = request.client_trigger_id.as_deref().unwrap_or_default();
    if !(1..=MAX_ID).contains(&id.len()) {
        return Err(TriggerError::NoId);
    }
    let mut pauses = PAUSES.into_iter();
    loop {
        let sent = client.perps().set_cross_margin_exit_trigger().ticker(ticker);
        let sent = sent.subaccount(subaccount).body(request.clone()).send().await;
        let error = match sent {
            Ok(answer) => return Ok(TriggerOutcome::of(request, answer.into_inner())),
            Err(error) => error,
        };
        let pause = pauses.next().filter(|_| error.effect() == Effect::Unknown);
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(TriggerError::Request(error)),
        }
    }
}
