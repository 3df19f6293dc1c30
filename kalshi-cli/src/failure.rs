//! The one failure of a command: its text, its JSON form and its exit code.

use std::{
    error::Error as StdError,
    fmt,
    io::{self, ErrorKind as IoErrorKind},
};

use kalshi_sdk::{Effect, Error, ErrorKind, Operation};

use crate::{
    api::{Hints, Table},
    json::Json,
};

/// The category of a failure. Its exit code does not change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    /// The command line or the configuration is wrong. Nothing was sent.
    Usage,
    /// A person declined. Nothing was sent.
    Declined,
    /// There are no credentials, they are unusable, or the exchange does not accept them.
    Credentials,
    /// The rate limit is used up.
    RateLimit,
    /// A write may have been carried out.
    UnknownOutcome,
    /// The exchange or its trading is paused.
    ExchangeClosed,
    /// The exchange refused the request.
    Rejected,
    /// No connection, or no complete answer.
    Network,
    /// An answer that cannot be read.
    Response,
    /// A file or a program of this machine.
    Local,
    /// Ended by Ctrl-C.
    Interrupted,
    /// The reader of the output went away, which is no failure of the command.
    ClosedPipe,
}

impl Category {
    /// Every category that a program can see.
    pub(crate) const ALL: [Self; 11] = [
        Self::Usage,
        Self::Declined,
        Self::Credentials,
        Self::RateLimit,
        Self::UnknownOutcome,
        Self::ExchangeClosed,
        Self::Rejected,
        Self::Network,
        Self::Response,
        Self::Local,
        Self::Interrupted,
    ];

    /// Returns the name in the JSON form.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Declined => "declined",
            Self::Credentials => "credentials",
            Self::RateLimit => "rate_limit",
            Self::UnknownOutcome => "unknown_outcome",
            Self::ExchangeClosed => "exchange_closed",
            Self::Rejected => "rejected",
            Self::Network => "network",
            Self::Response => "response",
            Self::Local => "local",
            Self::Interrupted => "interrupted",
            Self::ClosedPipe => "closed_pipe",
        }
    }

    /// Returns the exit code.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Rejected | Self::Network | Self::Response | Self::Local => 1,
            Self::Usage => 2,
            Self::Declined => 3,
            Self::Credentials => 4,
            Self::RateLimit => 5,
            Self::UnknownOutcome => 6,
            Self::ExchangeClosed => 7,
            Self::Interrupted => 130,
        }
    }

    /// Returns the meaning, for the documentation.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "the command line or the configuration is wrong; nothing was sent",
            Self::Declined => "a person declined; nothing was sent",
            Self::Credentials => {
                "there are no credentials, they are unusable, or the exchange does not accept them"
            }
            Self::RateLimit => "the rate limit is used up",
            Self::UnknownOutcome => "a write may have been carried out: read the state back",
            Self::ExchangeClosed => "the exchange or its trading is paused",
            Self::Rejected => "the exchange refused the request",
            Self::Network => "no connection, or no complete answer",
            Self::Response => "the answer cannot be read",
            Self::Local => "a file or a program of this machine failed",
            Self::Interrupted => "ended by Ctrl-C",
            Self::ClosedPipe => "the reader of the output went away",
        }
    }
}

/// The failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) category: Category,
    /// The text: what failed, with which value.
    pub(crate) message: String,
    /// The operation that failed.
    pub(crate) operation: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) retryable: bool,
    /// The next step, a command if possible.
    pub(crate) next: Option<String>,
}

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Returns the end of a command that printed what it did. A failure of what it did comes first: that
/// the reader of the output went away does not hide it.
pub(crate) fn ended(done: Outcome, printed: Outcome) -> Outcome {
    done.and(printed)
}

impl Failure {
    pub(crate) fn new(category: Category, message: impl Into<String>) -> Self {
        Self {
            category,
            message: message.into(),
            operation: None,
            status: None,
            code: None,
            effect: Effect::NotSent,
            retryable: false,
            next: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Category::Usage, message)
    }

    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Category::Local, message)
    }

    pub(crate) fn credentials(message: impl Into<String>) -> Self {
        Self::new(Category::Credentials, message)
    }

    pub(crate) fn declined() -> Self {
        Self::new(Category::Declined, "declined; nothing was sent")
    }

    pub(crate) fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Returns the failure of a call: that of a write may have been carried out.
    pub(crate) fn of_call(error: &Error, operation: &Operation) -> Self {
        let is_read = operation.only_reads();
        let status = error.status().map(|status| status.as_u16());
        let code = error.code().map(str::to_owned);
        let is_paused = |text: Option<&str>| {
            text.is_some_and(|text| {
                let text = text.to_ascii_uppercase();
                text.contains("TRADING_PAUSED") || text.contains("EXCHANGE_PAUSED")
            })
        };
        let category = if !is_read && error.effect() == Effect::Unknown {
            // A pause is answered with 503, before anything is done.
            if is_paused(error.code()) && error.attempts() <= 1 {
                Category::ExchangeClosed
            } else {
                Category::UnknownOutcome
            }
        } else if error.is_auth() || error.is_unauthorized() || error.is_forbidden() {
            Category::Credentials
        } else if error.is_rate_limited() {
            Category::RateLimit
        } else if is_paused(error.code()) || is_paused(error.details()) {
            Category::ExchangeClosed
        } else {
            match error.kind() {
                ErrorKind::Config | ErrorKind::InvalidRequest => Category::Usage,
                ErrorKind::Api | ErrorKind::Redirect => Category::Rejected,
                ErrorKind::Decode | ErrorKind::TooLarge | ErrorKind::CursorLoop => {
                    Category::Response
                }
                _ => Category::Network,
            }
        };
        let effect = match category {
            Category::ExchangeClosed => Effect::Rejected,
            _ => error.effect(),
        };
        let is_passing = error.is_rate_limited()
            || matches!(
                error.kind(),
                ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Transport
            )
            || status.is_some_and(|status| status >= 500);
        Self {
            category,
            message: chain(error),
            operation: Some(operation.id.to_owned()),
            status,
            code,
            effect,
            retryable: is_passing && (is_read || effect != Effect::Unknown),
            next: next_step(error, category, &Table::of(operation).hints),
        }
    }

    /// Returns the JSON form.
    pub(crate) fn to_json(&self) -> Json {
        let effect = match self.effect {
            Effect::NotSent => "not_sent",
            Effect::Rejected => "rejected",
            _ => "unknown",
        };
        Json::object([
            ("category", Json::text(self.category.name())),
            ("operation", Json::optional(self.operation.as_deref())),
            ("status", self.status.map_or(Json::Null, Json::number)),
            ("code", Json::optional(self.code.as_deref())),
            ("message", Json::text(&self.message)),
            ("effect", Json::text(effect)),
            ("retryable", Json::Bool(self.retryable)),
            ("next", Json::optional(self.next.as_deref())),
        ])
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    /// Returns the failure of writing to the output.
    fn from(error: io::Error) -> Self {
        if error.kind() == IoErrorKind::BrokenPipe {
            return Self::new(Category::ClosedPipe, "the reader of the output went away");
        }
        Self::local(format!("could not write the output: {error}"))
    }
}

/// Returns an error with its causes. A cause that the text above it repeats is left out.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

fn next_step(error: &Error, category: Category, hints: &Hints) -> Option<String> {
    match category {
        Category::Credentials if error.is_auth() => Some(hints.no_key.to_owned()),
        Category::Credentials => Some(hints.refused.to_owned()),
        Category::RateLimit => {
            let limits = hints.limits.map(|command| format!("; {command}")).unwrap_or_default();
            Some(format!("wait a moment{limits}"))
        }
        Category::UnknownOutcome => {
            Some("read the state back before sending it again: it may have been done".to_owned())
        }
        Category::ExchangeClosed => hints.status.map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_told_apart() {
        let mut names: Vec<_> = Category::ALL.iter().map(|category| category.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Category::ALL.len());
        let mut codes: Vec<_> = Category::ALL.iter().map(|category| category.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
