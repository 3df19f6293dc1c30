//! The results of cancels that go on after one that failed.

use crate::{
    context::Context,
    failure::{Category, Failure, Outcome, ended},
    json::Json,
};

/// The columns of a table of results.
const COLUMNS: [&str; 4] = ["order_id", "ticker", "result", "error.category"];

/// The results of cancels, one row for each order.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    pub(crate) rows: Vec<Json>,
    /// The worst failure. An unknown outcome is the worst: it is what has to be looked at.
    pub(crate) worst: Option<Failure>,
}

impl Cancels {
    /// Adds the result of the cancel of an order.
    pub(super) fn add(
        &mut self,
        context: &Context,
        order_id: &str,
        ticker: Option<&str>,
        result: Outcome<&'static str>,
    ) {
        let (state, failure) = match result {
            Ok(state) => (state, None),
            Err(failure) => ("failed", Some(failure)),
        };
        self.rows.push(Json::object([
            ("order_id", Json::text(order_id)),
            ("ticker", Json::optional(ticker)),
            ("result", Json::text(state)),
            ("error", failure.as_ref().map_or(Json::Null, Failure::to_json)),
        ]));
        let Some(failure) = failure else { return };
        super::tell(context, &format!("{order_id}: {}", failure.message));
        let is_worse = self.worst.as_ref().is_none_or(|worst| {
            failure.category == Category::UnknownOutcome
                && worst.category != Category::UnknownOutcome
        });
        if is_worse {
            self.worst = Some(failure);
        }
    }

    /// Prints the rows, and ends with the worst failure.
    pub(super) fn finish(self, context: &Context) -> Outcome {
        let printed = context.output.rows("orders", self.rows, &COLUMNS);
        ended(self.worst.map_or(Ok(()), Err), printed)
    }
}
