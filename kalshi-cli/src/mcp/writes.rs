//! The tools that write. Each is called twice: for a ticket, and with the ticket once a person has
//! confirmed it at a terminal. A server that is unattended does both in one call: its ceilings confirm
//! the ticket, and the id of the request finds it again.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{
        PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{
    Client, Dollars, Effect, UnixMillis, UnixSeconds,
    auth::{Clock as _, SystemClock},
    types::Order,
};
use tokio::sync::Mutex;

use super::{
    answer::{Answer, Rows},
    arguments::Arguments,
    audit::Entry,
    ceilings::{Ceilings, Ledger},
    orders,
    server::Shared,
    tickets::{LIFETIME, Line, State, Ticket, Tickets, hash},
    tools::{REQUEST_ID, TICKET, Tool},
};
use crate::{
    context::{Context, Target},
    failure::{Category, Failure, Outcome},
    json::Json,
    order::{self, Prepared, PreparedAmend, Preview},
    output::safe,
};

/// The time for which a call waits for a person; clients end calls that take a minute.
const WAIT: Duration = Duration::from_secs(25);

/// The pause between two looks at a ticket that waits.
const POLL: Duration = Duration::from_millis(200);

/// The client id of an order before it has a ticket.
const NO_CLIENT_ID: &str = "cli-mcp";

/// The most orders that one ticket cancels by their ids.
const MAX_ORDERS: usize = 1_000;

/// The most characters of the id of a request.
const MAX_REQUEST_ID: usize = 128;

/// Holds the parts that a server needs to send without a person.
pub(super) struct Unattended {
    ceilings: Ceilings,
    ledger: Ledger,
    /// Held while a request is looked up and allowed: a repeated one finds the first.
    allowing: Mutex<()>,
}

impl Unattended {
    /// Returns the ceilings of a server with the count of what was sent with its key.
    ///
    /// # Errors
    ///
    /// There is no key, or no place for the count.
    pub(super) async fn open(context: &Context, ceilings: Ceilings) -> Outcome<Self> {
        let client = context.client().await?;
        let id = client.credentials().map(|key| key.key_id().to_owned()).unwrap_or_default();
        let account = hash(&format!("unattended\n{}\n{id}", context.target.name()), 16);
        let ledger = Ledger::open(&order::state_folder()?, account)?;
        Ok(Self { ceilings, ledger, allowing: Mutex::new(()) })
    }

    /// Refuses what the ceilings forbid whatever was sent before.
    fn check(&self, plan: &Plan) -> Outcome {
        self.ceilings.check_market(plan.market())?;
        match plan.order_preview() {
            Some(preview) => {
                order::check_ceiling(preview, Some(self.ceilings.order_cost), "--max-order-cost")
            }
            None => Ok(()),
        }
    }

    /// Counts what is about to be sent. Cancels are not counted.
    fn reserve(&self, plan: &Plan, now: UnixMillis) -> Outcome {
        match plan.order_preview() {
            // A cost that is not known was refused.
            Some(preview) => {
                let cost = preview.worst_cost.unwrap_or(Dollars::MAX);
                self.ledger.reserve(&self.ceilings, cost, now)
            }
            None => Ok(()),
        }
    }
}

/// An order whose outcome is not known.
pub(super) struct UnsettledOrder {
    ticker: String,
    ticket: String,
    /// The argument with which its outcome is asked for.
    again: String,
}

/// The result of a tool that writes.
pub(super) struct Written {
    pub(super) answer: Answer,
    pub(super) ticket: String,
    pub(super) order_id: Option<String>,
    /// `ok`, or that the call ended with a ticket.
    pub(super) outcome: &'static str,
}

/// Runs a tool that writes: makes a ticket, or carries out what its ticket says.
///
/// # Errors
///
/// Nothing was sent, or the failure says otherwise.
///
/// # Cancellation
///
/// It runs to its end on a task of its own. `is_canceled` stops it as long as nothing was sent.
pub(super) async fn run(
    shared: &Shared,
    tickets: &Tickets,
    tool: &Tool,
    arguments: &Arguments,
    is_canceled: &AtomicBool,
) -> Outcome<Written> {
    if let Some(unattended) = &shared.unattended {
        return run_unattended(shared, tickets, unattended, tool, arguments, is_canceled).await;
    }
    let Some(name) = arguments.text(TICKET) else {
        return issue(shared, tickets, tool, arguments).await;
    };
    let (ticket, state) = wait(shared, tickets, name, is_canceled).await?;
    check_owner(shared, &ticket, tool, arguments).await?;
    let call = Call { shared, tickets, tool, arguments, ticket: &ticket, name, is_canceled };
    match state {
        State::Waiting => Err(call.not_confirmed()),
        State::Declined => Err(Failure::declined()),
        State::Confirmed => Box::pin(call.carry_out()).await,
        State::Used(Some(result)) => call.repeat(&result),
        State::Used(None) => Box::pin(call.find_out()).await,
    }
}

/// Makes a ticket that the ceilings confirm, or finds that of the same request, and carries it out.
async fn run_unattended(
    shared: &Shared,
    tickets: &Tickets,
    unattended: &Unattended,
    tool: &Tool,
    arguments: &Arguments,
    is_canceled: &AtomicBool,
) -> Outcome<Written> {
    let request_id = arguments.required(REQUEST_ID);
    if request_id.is_empty() || request_id.chars().count() > MAX_REQUEST_ID {
        return Err(Failure::usage(format!(
            "request_id has 1 to {MAX_REQUEST_ID} characters; nothing was sent"
        )));
    }
    let account = account(&shared.context).await?;
    let environment = shared.context.target.name();
    let request = hash(&format!("request\n{environment}\n{account}\n{request_id}"), 24);
    let (name, ticket, state) = {
        let _allowing = unattended.allowing.lock().await;
        let name = if let Some(name) = tickets.of_request(&request)? {
            name
        } else {
            let (ticket, _) = Box::pin(make(shared, tool, arguments)).await?;
            let name = tickets.issue(&ticket, SystemClock.now())?;
            tickets.link_request(&request, &name)?;
            name
        };
        let (ticket, mut state) = tickets.get(&name)?;
        check_owner(shared, &ticket, tool, arguments).await?;
        if state == State::Waiting {
            tickets.confirm(&name, SystemClock.now())?;
            state = State::Confirmed;
        }
        (name, ticket, state)
    };
    let call = Call { shared, tickets, tool, arguments, ticket: &ticket, name: &name, is_canceled };
    match state {
        State::Waiting | State::Declined => Err(Failure::declined()),
        State::Confirmed => Box::pin(call.carry_out()).await,
        State::Used(Some(result)) => call.repeat(&result),
        State::Used(None) => Box::pin(call.find_out()).await,
    }
}

/// Looks at what is asked for, and makes a ticket for it. Sends nothing.
async fn issue(
    shared: &Shared,
    tickets: &Tickets,
    tool: &Tool,
    arguments: &Arguments,
) -> Outcome<Written> {
    let (ticket, plan) = Box::pin(make(shared, tool, arguments)).await?;
    let name = tickets.issue(&ticket, SystemClock.now())?;
    let document = Json::object([
        ("state", Json::text("waits_for_a_person")),
        ("ticket", Json::text(&name)),
        ("expires_at", Json::text(time(ticket.expires_at))),
        ("confirm_with", Json::text(confirm_command(&ticket, &name))),
        (
            "next",
            Json::text(format!(
                "nothing was sent: ask the person to run confirm_with in a terminal, and call {} \
                 again with the same arguments and this ticket, which waits for the person",
                tool.name
            )),
        ),
        ("preview", plan.preview()?),
    ]);
    Ok(Written {
        answer: Answer::Document(document),
        ticket: name,
        order_id: None,
        outcome: "ticket",
    })
}

/// Looks at what is asked for, and returns a ticket for it that is written nowhere yet. An unattended
/// server counts it.
async fn make(shared: &Shared, tool: &Tool, arguments: &Arguments) -> Outcome<(Ticket, Plan)> {
    let context = &shared.context;
    check_unsettled(shared, tool, arguments)?;
    let given = arguments.without(TICKET);
    if crate::output::redacted(&given.to_string()) != given.to_string() {
        return Err(Failure::usage("an argument looks like a key; nothing was sent"));
    }
    let plan = {
        let _slot = shared.calls.acquire().await;
        Box::pin(plan(context, tool, arguments, None)).await?
    };
    let now = SystemClock.now();
    let ticket = Ticket {
        tool: tool.name.to_owned(),
        environment: context.target.name().to_owned(),
        account: account(context).await?,
        expires_at: now.saturating_add(LIFETIME),
        nonce: format!("{:016x}{:016x}", order::random()?, order::random()?),
        arguments: given,
        request: plan.request()?,
        worst_cost: plan.worst_cost(),
        line: plan.line(),
        preview: plan.text(context),
    };
    if let Some(unattended) = &shared.unattended {
        unattended.check(&plan)?;
        unattended.reserve(&plan, now)?;
    }
    Ok((ticket, plan))
}

/// Refuses an order in a market in which an order of this server may exist.
fn check_unsettled(shared: &Shared, tool: &Tool, arguments: &Arguments) -> Outcome {
    let unsettled = shared.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
    let ticker = arguments.text("ticker");
    let open = unsettled.iter().find(|order| Some(order.ticker.as_str()) == ticker);
    let Some(order) = open.filter(|_| tool.name == "place_order") else { return Ok(()) };
    let failure = Failure::new(
        Category::UnknownOutcome,
        "the outcome of another order in this market is not known; nothing new was sent",
    );
    Err(failure.with_next(format!("call place_order again with {} to find out", order.again)))
}

/// Waits for a person while the ticket can be confirmed, and returns it with its state.
async fn wait(
    shared: &Shared,
    tickets: &Tickets,
    name: &str,
    is_canceled: &AtomicBool,
) -> Outcome<(Ticket, State)> {
    let until = tokio::time::Instant::now() + WAIT;
    loop {
        let (ticket, state) = tickets.get(name)?;
        let is_over = SystemClock.now() > ticket.expires_at
            || tokio::time::Instant::now() >= until
            || shared.is_closing()
            || is_canceled.load(Ordering::Acquire);
        if state != State::Waiting || is_over {
            return Ok((ticket, state));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Refuses a ticket that was made for another tool, other arguments, or elsewhere.
async fn check_owner(
    shared: &Shared,
    ticket: &Ticket,
    tool: &Tool,
    arguments: &Arguments,
) -> Outcome {
    let context = &shared.context;
    let it = shared.noun();
    let fault = if ticket.environment != context.target.name() {
        format!(
            "{it} is for {}, and this server acts on {}",
            ticket.environment,
            context.target.name()
        )
    } else if ticket.account != account(context).await? {
        format!("{it} is of another key")
    } else if ticket.tool != tool.name {
        format!("{it} is for {}", ticket.tool)
    } else if ticket.arguments != arguments.without(TICKET) {
        format!("{it} was made for other arguments")
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("{fault}; nothing was sent")))
}

/// Returns the mark of the account: a hash of its key's id. An exchange inside this process is known
/// to no other process.
async fn account(context: &Context) -> Outcome<String> {
    let client = context.client().await?;
    let id = client.credentials().map(|key| key.key_id().to_owned()).unwrap_or_default();
    let process = if context.target == Target::Sim { std::process::id() } else { 0 };
    Ok(hash(&format!("account\n{process}\n{id}"), 16))
}

/// Returns the command with which a person confirms a ticket.
fn confirm_command(ticket: &Ticket, name: &str) -> String {
    format!("kalshi --env {} mcp confirm {name}", ticket.environment)
}

fn time(at: UnixMillis) -> String {
    at.to_datetime().unwrap_or_default().to_rfc3339()
}

/// A call with a ticket.
struct Call<'a> {
    shared: &'a Shared,
    tickets: &'a Tickets,
    tool: &'a Tool,
    arguments: &'a Arguments,
    ticket: &'a Ticket,
    name: &'a str,
    is_canceled: &'a AtomicBool,
}

impl Shared {
    /// Returns the name of the argument that makes a write one, as the subject of a sentence.
    fn noun(&self) -> &'static str {
        if self.unattended.is_some() { "the request_id" } else { "the ticket" }
    }
}

impl Call<'_> {
    /// Returns the argument with which the outcome is asked for.
    fn again(&self) -> String {
        match self.arguments.text(REQUEST_ID) {
            Some(id) => format!("the request_id {id:?}"),
            None => format!("this ticket ({})", self.name),
        }
    }

    fn not_confirmed(&self) -> Failure {
        if SystemClock.now() > self.ticket.expires_at {
            return Failure::usage("the ticket has expired unconfirmed; nothing was sent")
                .with_next(format!(
                    "call {} again without a ticket, for a new one",
                    self.tool.name
                ));
        }
        Failure::usage("no person has confirmed the ticket yet; nothing was sent").with_next(
            format!(
                "the person runs: {}; then call {} again with the ticket",
                confirm_command(self.ticket, self.name),
                self.tool.name
            ),
        )
    }

    /// Carries out what was confirmed, once.
    async fn carry_out(&self) -> Outcome<Written> {
        let context = &self.shared.context;
        let plan = {
            let _slot = self.shared.calls.acquire().await;
            Box::pin(plan(context, self.tool, self.arguments, Some(self.ticket))).await?
        };
        if !plan.is_of(self.ticket)? {
            return Err(Failure::usage(
                "the same arguments make another request now than the one that was confirmed; \
                 nothing was sent",
            )
            .with_next(match &self.shared.unattended {
                Some(_) => format!("call {} again with another request_id", self.tool.name),
                None => format!("call {} again without a ticket, for a new one", self.tool.name),
            }));
        }
        if let Some(unattended) = &self.shared.unattended {
            // What it can cost may be more by now.
            unattended.check(&plan)?;
        }
        let _writing = self.shared.writing.lock().await;
        check_unsettled(self.shared, self.tool, self.arguments)?;
        if self.is_canceled.load(Ordering::Acquire) || self.shared.is_closing() {
            return Err(Failure::new(Category::Interrupted, "canceled; nothing was sent"));
        }
        // Nothing is sent that is not written down.
        self.shared.audit.write(&Entry {
            operation: self.tool.operation().map(kalshi_sdk::OperationId::as_str),
            ticket: Some(self.name),
            ..Entry::new(self.tool.name, &[], "sending")
        })?;
        self.tickets.take(self.name, SystemClock.now())?;
        let result = Box::pin(plan.send(context, self.shared.settle_within)).await;
        self.conclude(result)
    }

    /// Goes on finding out what became of a ticket that was used without a known result.
    async fn find_out(&self) -> Outcome<Written> {
        // While it is being carried out in this process, its result is waited for.
        let _writing = self.shared.writing.lock().await;
        if let (_, State::Used(Some(result))) = self.tickets.get(self.name)? {
            return self.repeat(&result);
        }
        if self.tool.name == "place_order" {
            let client_id = self.ticket.client_id();
            let context = &self.shared.context;
            let result =
                Box::pin(order::settled(context, &client_id, self.shared.settle_within)).await;
            if let Err(failure) = &result
                && failure.effect == Effect::NotSent
            {
                // It could not be looked for: that says nothing about the order.
                return result.map(|order| self.written(Answer::Document(order), "ok"));
            }
            return self.conclude(result.map(Answer::Document));
        }
        let mut failure = Failure::new(
            Category::UnknownOutcome,
            format!(
                "{} was used, and its outcome is not known: it is not sent again",
                self.shared.noun()
            ),
        );
        failure.effect = Effect::Unknown;
        Err(failure.with_next("get_orders shows what became of the orders"))
    }

    /// Writes the result of the ticket down, if it is known, and returns it.
    fn conclude(&self, result: Outcome<Answer>) -> Outcome<Written> {
        let record = match &result {
            Ok(answer) => Some(Json::object([("ok", answer.to_json())])),
            Err(failure) if failure.effect == Effect::Unknown => None,
            Err(failure) => Some(Json::object([("error", failure.to_json())])),
        };
        if self.tool.name == "place_order" {
            let mut unsettled =
                self.shared.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
            unsettled.retain(|order| order.ticket != self.name);
            if record.is_none() {
                unsettled.push(UnsettledOrder {
                    ticker: self.arguments.required("ticker").to_owned(),
                    ticket: self.name.to_owned(),
                    again: self.again(),
                });
            }
        }
        if let Some(record) = record {
            // The result stands all the same: a repeated call finds it out again.
            let _ = self.tickets.conclude(self.name, record);
        }
        match result {
            Ok(answer) => Ok(self.written(answer, "ok")),
            Err(mut failure) => {
                if failure.category == Category::UnknownOutcome {
                    let again =
                        format!("call {} again with {} to find out", self.tool.name, self.again());
                    let command = failure.next.take().map(|next| format!(", or: {next}"));
                    failure.next = Some(again + &command.unwrap_or_default());
                }
                Err(failure)
            }
        }
    }

    /// Returns the result of a ticket that was used before. Sends nothing.
    fn repeat(&self, result: &Json) -> Outcome<Written> {
        if let Some(done) = result.get("ok") {
            let document = Json::object([
                ("state", Json::text("was_used_before")),
                ("sent_again", Json::Bool(false)),
                ("result", done.clone()),
            ]);
            return Ok(self.written(Answer::Document(document), "repeated"));
        }
        let message = result.at("error.message").and_then(Json::as_str).unwrap_or("it failed");
        Err(Failure::usage(format!(
            "{} was used before, and nothing was sent again; then it failed: {message}",
            self.shared.noun()
        )))
    }

    fn written(&self, answer: Answer, outcome: &'static str) -> Written {
        let order_id = answer.to_json();
        let order_id = order_id.at("order_id").or_else(|| order_id.at("result.order_id"));
        Written {
            order_id: order_id.and_then(Json::as_str).map(str::to_owned),
            answer,
            ticket: self.name.to_owned(),
            outcome,
        }
    }
}

/// A write that was looked at, and can be sent.
enum Plan {
    Place(Box<Prepared>),
    Amend(Box<PreparedAmend>),
    Cancel(Client, Box<Order>),
    /// The orders of a market.
    CancelMarket(Client, String, Vec<Order>),
    /// Every order of event contracts of the account, with the number of those that rest.
    CancelAll(Client, usize),
}

/// Looks at what a tool is asked for. With a ticket it is what the ticket was made for, as far as
/// that still exists. Sends nothing.
async fn plan(
    context: &Context,
    tool: &Tool,
    arguments: &Arguments,
    ticket: Option<&Ticket>,
) -> Outcome<Plan> {
    match tool.name {
        "place_order" => {
            let (action, mut asked) = orders::order(arguments)?;
            asked.client_id =
                Some(ticket.map_or_else(|| NO_CLIENT_ID.to_owned(), Ticket::client_id));
            let mut prepared = order::prepare(context, action, &asked).await?;
            order::check_ceilings(context, &asked, &prepared.preview)?;
            order::check_sendable(context, &prepared)?;
            if let Some(ticket) = ticket {
                prepared.preview.request.expiration_time = expiry(ticket);
            }
            Ok(Plan::Place(Box::new(prepared)))
        }
        "amend_order" => {
            let mut prepared = order::prepare_amend(context, &orders::amend(arguments)?).await?;
            if let Some(ticket) = ticket {
                prepared.body.expiration_time = expiry(ticket);
            }
            Ok(Plan::Amend(Box::new(prepared)))
        }
        "cancel_order" => {
            let client = context.client().await?;
            let order = order::fetch_order(&client, arguments.required("order_id")).await?;
            if ticket.is_none() && order::is_over(&order) {
                return Err(Failure::new(
                    Category::Rejected,
                    format!("the order {} is over; nothing was sent", order.order_id),
                ));
            }
            Ok(Plan::Cancel(client, Box::new(order)))
        }
        "cancel_all" => {
            let client = context.client().await?;
            let market = arguments.text("ticker");
            let mut orders = order::resting(&client, market).await?;
            let Some(market) = market else { return Ok(Plan::CancelAll(client, orders.len())) };
            if let Some(ticket) = ticket {
                // What was placed since then was shown to no person.
                let shown = order_ids(&ticket.request);
                orders.retain(|order| shown.contains(order.order_id.as_str()));
            } else if orders.is_empty() || orders.len() > MAX_ORDERS {
                return Err(Failure::usage(format!(
                    "{} orders rest in {market}, and a ticket cancels 1 to {MAX_ORDERS}; nothing \
                     was sent",
                    orders.len()
                )));
            }
            Ok(Plan::CancelMarket(client, market.to_owned(), orders))
        }
        name => Err(Failure::usage(format!("{name} does not write"))),
    }
}

/// Returns the expiry that was confirmed: one such as `10m` counts from the making of the ticket.
fn expiry(ticket: &Ticket) -> Option<UnixSeconds> {
    match ticket.request.at("body.expiration_time")? {
        Json::Number(seconds) => seconds.parse().ok().map(UnixSeconds::from_seconds),
        _ => None,
    }
}

fn order_ids(request: &Json) -> BTreeSet<&str> {
    let ids = request.get("order_ids").and_then(Json::as_list).unwrap_or_default();
    ids.iter().filter_map(Json::as_str).collect()
}

impl Plan {
    /// Returns the ticker of the market that it is about; `None` for all of them.
    fn market(&self) -> Option<&str> {
        match self {
            Self::Place(prepared) => Some(&prepared.preview.ticker),
            Self::Amend(prepared) => Some(&prepared.order.ticker),
            Self::Cancel(_, order) => Some(&order.ticker),
            Self::CancelMarket(_, market, _) => Some(market),
            Self::CancelAll(..) => None,
        }
    }

    fn order_preview(&self) -> Option<&Preview> {
        match self {
            Self::Place(prepared) => Some(&prepared.preview),
            Self::Amend(prepared) => Some(&prepared.preview),
            _ => None,
        }
    }

    /// Returns the request that the ticket is bound to. The client id of a new order is not in it: it
    /// follows from the ticket.
    fn request(&self) -> Outcome<Json> {
        let request = |method: &str, about: &str, value: Json| {
            Json::object([("method", Json::text(method)), (about, value)])
        };
        Ok(match self {
            Self::Place(prepared) => {
                let mut body = order::json(&prepared.preview.request)?;
                body.take("client_order_id");
                request("POST", "body", body)
            }
            Self::Amend(prepared) => Json::object([
                ("method", Json::text("POST")),
                ("order_id", Json::text(&*prepared.order.order_id)),
                ("body", order::json(&prepared.body)?),
            ]),
            Self::Cancel(_, order) => request("DELETE", "order_id", Json::text(&*order.order_id)),
            Self::CancelMarket(_, _, orders) => {
                let ids = orders.iter().map(|order| Json::text(&*order.order_id)).collect();
                request("DELETE", "order_ids", Json::List(ids))
            }
            Self::CancelAll(..) => request("DELETE", "orders", Json::text("all")),
        })
    }

    /// Reports whether this is the request that a ticket was made for.
    fn is_of(&self, ticket: &Ticket) -> Outcome<bool> {
        let request = self.request()?;
        Ok(match self {
            // Some of its orders may be over by now.
            Self::CancelMarket(..) => order_ids(&request).is_subset(&order_ids(&ticket.request)),
            _ => request == ticket.request,
        })
    }

    fn worst_cost(&self) -> Option<Dollars> {
        self.order_preview().and_then(|preview| preview.worst_cost)
    }

    /// Returns the line that a person types.
    fn line(&self) -> Line {
        match self {
            Self::Cancel(_, order) => Line::Text(format!(
                "cancel {}",
                order::confirmation(order.remaining_count_fp, order.yes_price_dollars)
            )),
            Self::CancelMarket(_, _, orders) => Line::Text(format!("cancel {}", orders.len())),
            Self::CancelAll(..) => Line::Text("cancel all".to_owned()),
            Self::Place(prepared) => Line::Terms(prepared.preview.count, prepared.preview.price),
            Self::Amend(prepared) => Line::Terms(prepared.preview.count, prepared.preview.price),
        }
    }

    /// Returns the text that a person reads.
    fn text(&self, context: &Context) -> String {
        let mut text = match self {
            Self::Place(prepared) => prepared.preview.text(),
            Self::Amend(prepared) => prepared.text(),
            _ => format!("  environment  {}\n", context.target.in_words()),
        };
        // Writing to a string does not fail.
        let _ = match self {
            Self::Place(_) | Self::Amend(_) => Ok(()),
            Self::Cancel(_, order) => writeln!(
                text,
                "  market       {}\n  cancels      {} × YES {} ({}), order {}",
                safe(&order.ticker),
                order.remaining_count_fp,
                order.yes_price_dollars,
                order.book_side,
                order.order_id
            ),
            Self::CancelMarket(_, ticker, orders) => {
                writeln!(
                    text,
                    "  market       {ticker}\n  cancels      {} resting orders",
                    orders.len()
                )
            }
            Self::CancelAll(_, resting) => writeln!(
                text,
                "  cancels      {resting} resting orders of event contracts of every subaccount, \
                 and those placed meanwhile; orders of perpetual futures stay"
            ),
        };
        // It is not made yet.
        let is_shown = |line: &&str| !line.trim_start().starts_with("client id");
        text.lines().filter(is_shown).collect::<Vec<_>>().join("\n")
    }

    /// Returns the preview for the model.
    fn preview(&self) -> Outcome<Json> {
        Ok(match self {
            Self::Place(prepared) => {
                let mut preview = prepared.preview.to_json();
                preview.take("client_order_id");
                preview
            }
            Self::Amend(prepared) => prepared.preview.to_json(),
            Self::Cancel(_, order) => order::json(&**order)?,
            Self::CancelMarket(_, ticker, orders) => Json::object([
                ("ticker", Json::text(ticker)),
                ("resting_orders", Json::number(orders.len())),
            ]),
            Self::CancelAll(_, resting) => {
                Json::object([("resting_orders", Json::number(resting))])
            }
        })
    }

    /// Sends it. The ticket was taken before.
    async fn send(self, context: &Context, settle_within: Duration) -> Outcome<Answer> {
        match self {
            Self::Place(prepared) => {
                order::submit(context, *prepared, settle_within).await.map(Answer::Document)
            }
            Self::Amend(prepared) => prepared.submit().await.map(Answer::Document),
            Self::Cancel(client, order) => {
                let mut cancels = order::cancel_each(context, &client, vec![*order]).await;
                match cancels.worst {
                    Some(failure) => Err(failure),
                    None => Ok(Answer::Document(cancels.rows.pop().unwrap_or(Json::Null))),
                }
            }
            Self::CancelMarket(client, ticker, orders) => {
                let cancels = order::cancel_each(context, &client, orders).await;
                let is_failed = |row: &&Json| row.get("error").is_some_and(|it| *it != Json::Null);
                let failed = cancels.rows.iter().filter(is_failed).count();
                Ok(Answer::Rows(Rows {
                    beside: vec![
                        ("ticker".to_owned(), Json::text(ticker)),
                        ("failed".to_owned(), Json::number(failed)),
                        (
                            "worst".to_owned(),
                            Json::optional(cancels.worst.map(|failure| failure.message)),
                        ),
                    ],
                    items: "orders".to_owned(),
                    list: cancels.rows,
                    next: None,
                }))
            }
            Self::CancelAll(client, resting) => {
                order::cancel_all_at_once(&client, resting).await.map(Answer::Document)
            }
        }
    }
}
