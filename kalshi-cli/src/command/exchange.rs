//! `kalshi exchange`.

use clap::Subcommand;
use kalshi_sdk::OperationId;

use super::{rows, show};
use crate::{api::Call, context::Context, failure::Outcome, json::Json};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tells whether the exchange and its trading are active.
    Status,
    /// Shows the trading hours and the maintenance windows.
    Schedule,
    /// Shows your rate limits: tokens a second and the largest burst, for reads and writes.
    Limits,
    /// Lists what requests cost, in tokens of the rate limit.
    Costs,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Status => {
                let columns = [
                    "exchange_active",
                    "trading_active",
                    "exchange_estimated_resume_time",
                    "intra_exchange_transfers_active",
                ];
                show(context, Call::new(OperationId::GetExchangeStatus), None, &columns).await
            }
            Self::Schedule => schedule(context).await,
            Self::Limits => {
                let columns = [
                    "usage_tier",
                    "read.refill_rate",
                    "read.bucket_capacity",
                    "write.refill_rate",
                    "write.bucket_capacity",
                ];
                show(context, Call::new(OperationId::GetAccountApiLimits), None, &columns).await
            }
            Self::Costs => {
                let call = Call::new(OperationId::GetAccountEndpointCosts);
                rows(context, call, "endpoint_costs", &["method", "path", "cost"]).await
            }
        }
    }
}

/// Prints the schedule: for people one line for each session of each day.
async fn schedule(context: &Context) -> Outcome {
    let call = Call::new(OperationId::GetExchangeSchedule);
    if !context.output.is_table() {
        return show(context, call, Some("schedule"), &[]).await;
    }
    let answer = call.send(context).await?;
    let list = |name: &str| {
        let found = answer.at(name).and_then(Json::as_list);
        found.unwrap_or_default().to_vec()
    };
    let member = |value: &Json, name: &str| value.get(name).cloned().unwrap_or(Json::Null);
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let mut lines = Vec::new();
    for week in list("schedule.standard_hours") {
        for day in days {
            for session in week.get(day).and_then(Json::as_list).unwrap_or_default() {
                lines.push(Json::object([
                    ("what", Json::text("trading")),
                    ("when", Json::text(day)),
                    ("from", member(session, "open_time")),
                    ("to", member(session, "close_time")),
                ]));
            }
        }
    }
    for window in list("schedule.maintenance_windows") {
        lines.push(Json::object([
            ("what", Json::text("maintenance")),
            ("when", Json::Null),
            ("from", member(&window, "start_datetime")),
            ("to", member(&window, "end_datetime")),
        ]));
    }
    context.output.rows("schedule", lines, &["what", "when", "from", "to"])
}
