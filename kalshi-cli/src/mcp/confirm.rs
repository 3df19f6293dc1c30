//! `kalshi mcp confirm TICKET`: a person reads what a model asked for, and types its line.

use clap::Args;
use kalshi_sdk::auth::{Clock as _, SystemClock};

use super::{
    answer::visible,
    audit::{Audit, Entry},
    tickets::{Line, Ticket, Tickets},
};
use crate::{
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
    output::safe,
    prompt,
};

/// Confirms what a model asked for with a ticket, at the terminal.
///
/// It shows the order and asks for its count and price, which are read from the terminal and never
/// from the standard input. The server carries it out then, once.
#[derive(Args)]
pub(super) struct Confirm {
    /// The ticket.
    ticket: String,
}

impl Confirm {
    /// Asks, and confirms or declines.
    ///
    /// # Errors
    ///
    /// The ticket cannot be confirmed, there is no terminal, or the person declined.
    ///
    /// # Cancellation
    ///
    /// Nothing is confirmed.
    pub(super) async fn run(&self, context: &Context, audit: &Audit) -> Outcome {
        if context.global.yes {
            return Err(Failure::usage(
                "a ticket is confirmed by a person: --yes does not do that; nothing was confirmed",
            ));
        }
        let tickets = Tickets::open()?;
        let result = self.ask(context, &tickets).await;
        let outcome = match &result {
            Ok(true) => "confirmed",
            Ok(false) => "looked_at",
            Err(failure) => failure.category.name(),
        };
        audit
            .write(&Entry { ticket: Some(&self.ticket), ..Entry::new("confirm", &[], outcome) })?;
        if !result? {
            return Ok(());
        }
        context.output.document(
            &Json::object([
                ("ticket", Json::text(&self.ticket)),
                ("result", Json::text("confirmed")),
                ("next", Json::text("the server sends it as soon as it is asked to")),
            ]),
            &[],
        )
    }

    /// Returns true if the ticket is confirmed, false if it was only looked at.
    async fn ask(&self, context: &Context, tickets: &Tickets) -> Outcome<bool> {
        let ticket = tickets.waiting(&self.ticket, SystemClock.now())?;
        if ticket.environment != context.target.name() {
            return Err(Failure::usage(format!(
                "the ticket is for {}, and this command acts on {}; nothing was confirmed",
                ticket.environment,
                context.target.name()
            ))
            .with_next(format!(
                "kalshi --env {} mcp confirm {}, if that is meant",
                ticket.environment, self.ticket
            )));
        }
        check_ceiling(context, &ticket)?;
        if context.global.dry_run {
            if context.output.is_table() {
                context.output.line(&shown(&ticket.preview))?;
                return Ok(false);
            }
            let document = Json::object([
                ("dry_run", Json::Bool(true)),
                ("ticket", Json::text(&self.ticket)),
                ("request", ticket.request.clone()),
                ("preview", Json::text(visible(&ticket.preview))),
            ]);
            context.output.document(&document, &[])?;
            return Ok(false);
        }
        let typed = prompt::line_at_terminal(question(&ticket)).await?;
        if !ticket.line.is(&typed) {
            tickets.decline(&self.ticket)?;
            return Err(Failure::declined());
        }
        // The person may have taken longer than the ticket lasts.
        tickets.confirm(&self.ticket, SystemClock.now())?;
        Ok(true)
    }
}

/// Refuses an order that can cost more than this user's profile allows, whatever profile the server
/// has.
fn check_ceiling(context: &Context, ticket: &Ticket) -> Outcome {
    let Some(ceiling) = context.profile.max_order_cost else { return Ok(()) };
    if matches!(ticket.line, Line::Text(_)) || ticket.worst_cost.is_some_and(|cost| cost <= ceiling)
    {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the order can cost more than the {ceiling} of max_order_cost of the profile; nothing was \
         confirmed"
    )))
}

fn question(ticket: &Ticket) -> String {
    format!(
        "A program asks for this ({}):\n{}\ntype  {}  to confirm: ",
        ticket.tool,
        shown(&ticket.preview),
        ticket.line.text()
    )
}

/// Returns a text as a terminal may show it: titles come from the exchange.
fn shown(text: &str) -> String {
    text.lines().map(|line| safe(&visible(line))).collect::<Vec<_>>().join("\n")
}
