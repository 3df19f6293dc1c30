//! `kalshi perps trigger`: exit triggers.

use std::fmt::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use kalshi_sdk::{
    Count, Dollars, Effect,
    perps::{
        OperationId,
        types::{ExitTrigger, SetCrossExitTriggerRequest},
    },
};

use super::call;
use crate::{
    api::{Body, Call},
    command::{rows, write},
    context::Context,
    failure::{Category, Failure, Outcome, ended},
    json::Json,
    output::shell_word,
    under_way::UnderWay,
};

const COLUMNS: [&str; 9] = [
    "kind",
    "status",
    "count",
    "filled_count",
    "stop_loss_price",
    "take_profit_price",
    "trail_amount",
    "trail_bps",
    "id",
];

/// The longest `client_trigger_id`, in bytes.
const MAX_ID: usize = 64;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Bracket,
    Trailing,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bracket => "bracket",
            Self::Trailing => "trailing",
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists the exit triggers of a position.
    List {
        ticker: String,
        /// Those of the isolated position.
        #[arg(long)]
        isolated: bool,
        /// Only those of a kind.
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// The subaccount; the primary unless set.
        #[arg(long, conflicts_with = "isolated")]
        subaccount: Option<u32>,
    },
    /// Sets an exit trigger: a bracket of stop loss and take profit, or a trailing stop.
    ///
    /// Without --count and --anchor it replaces the trigger of the whole position, and a leg that is
    /// left out is cleared. With either it is added to the others.
    Set(SetArgs),
    /// Changes the prices of a bracket; a leg that is not given stays.
    Update {
        ticker: String,
        id: String,
        /// The price at which a loss is stopped, in dollars.
        #[arg(long, value_name = "DOLLARS", required_unless_present = "take_profit")]
        stop_loss: Option<Dollars>,
        /// The price at which a profit is taken, in dollars.
        #[arg(long, value_name = "DOLLARS")]
        take_profit: Option<Dollars>,
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Cancels an exit trigger by its id, or all of a position. Without one it succeeds, too.
    Cancel {
        ticker: String,
        /// The trigger; all of them unless named.
        id: Option<String>,
        /// Those of the isolated position.
        #[arg(long, conflicts_with = "id")]
        isolated: bool,
        /// Only those of a kind.
        #[arg(long, value_enum, conflicts_with = "id")]
        kind: Option<Kind>,
        /// The subaccount; the primary unless set.
        #[arg(long, conflicts_with = "isolated")]
        subaccount: Option<u32>,
    },
}

#[derive(Args)]
pub(crate) struct SetArgs {
    ticker: String,
    /// The price at which a loss is stopped, in dollars. It fires on the liquidation mark.
    #[arg(long, value_name = "DOLLARS", conflicts_with_all = ["trail_amount", "trail_bps"])]
    stop_loss: Option<Dollars>,
    /// The price at which a profit is taken, in dollars.
    #[arg(long, value_name = "DOLLARS", conflicts_with_all = ["trail_amount", "trail_bps"])]
    take_profit: Option<Dollars>,
    /// Follow the best price at this distance, in dollars.
    #[arg(long, value_name = "DOLLARS", conflicts_with = "trail_bps")]
    trail_amount: Option<Dollars>,
    /// Follow the best price at this distance, in hundredths of a percent.
    #[arg(long, value_name = "BPS", value_parser = clap::value_parser!(u32).range(1..=9_999))]
    trail_bps: Option<u32>,
    /// The contracts that it closes, a whole number; the whole position unless set.
    #[arg(long, conflicts_with_all = ["anchor", "isolated"])]
    count: Option<Count>,
    /// The order whose fills it closes; a bracket only.
    #[arg(long, value_name = "ORDER_ID", conflicts_with_all = ["isolated", "trail_amount", "trail_bps"])]
    anchor: Option<String>,
    /// The id of a trigger with --count or --anchor, 1 to 64 characters; a random one unless set.
    /// The exchange answers a repeated id with the first trigger that had it.
    #[arg(long, value_name = "ID", conflicts_with = "isolated")]
    client_id: Option<String>,
    /// For the isolated position.
    #[arg(long)]
    isolated: bool,
    /// The subaccount; the primary unless set.
    #[arg(long, conflicts_with = "isolated")]
    subaccount: Option<u32>,
}

impl Command {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        use OperationId as Id;
        match self {
            Self::List { ticker, isolated, kind, subaccount } => {
                let operation = if isolated {
                    Id::GetIsolatedMarginExitTriggers
                } else {
                    Id::GetCrossMarginExitTriggers
                };
                let call = call(operation)
                    .with("ticker", ticker)
                    .with_optional("kind", kind.map(Kind::name))
                    .with_optional("subaccount", subaccount);
                rows(context, call, "exit_triggers", &COLUMNS).await
            }
            Self::Set(args) => set(context, args).await,
            Self::Update { ticker, id, stop_loss, take_profit, subaccount } => {
                let about = format!("change the trigger {id} of {ticker}");
                let next = list_command(&ticker, false, subaccount);
                let call = call(Id::UpdateCrossMarginExitTrigger)
                    .with("ticker", ticker)
                    .with("trigger_id", &id)
                    .with_optional("subaccount", subaccount)
                    .with_body(Body::new(Json::object(prices(&[
                        ("stop_loss_price", stop_loss),
                        ("take_profit_price", take_profit),
                    ])?)));
                update(context, call, about, &id, &next).await
            }
            Self::Cancel { ticker, id, isolated, kind, subaccount } => {
                let about = match &id {
                    Some(id) => format!("cancel the trigger {id} of {ticker}"),
                    None => format!("cancel the triggers of {ticker}"),
                };
                let operation = match &id {
                    Some(_) => Id::DeleteCrossMarginExitTriggerById,
                    None if isolated => Id::DeleteIsolatedMarginExitTrigger,
                    None => Id::DeleteCrossMarginExitTrigger,
                };
                let call = call(operation)
                    .with("ticker", ticker)
                    .with_optional("trigger_id", id)
                    .with_optional("kind", kind.map(Kind::name))
                    .with_optional("subaccount", subaccount);
                write(context, call, about).await
            }
        }
    }
}

/// Returns the members of a body that are given; prices are above zero.
fn prices(given: &[(&'static str, Option<Dollars>)]) -> Outcome<Vec<(&'static str, Json)>> {
    let mut members = Vec::new();
    for (name, price) in given {
        let Some(price) = price else { continue };
        if !price.is_positive() {
            return Err(Failure::usage(format!("{name} is {price}: it must be above zero")));
        }
        members.push((*name, Json::text(price.to_string())));
    }
    Ok(members)
}

/// Returns the call that sets a trigger, and the id of one with a count or an anchor.
fn set_call(args: SetArgs) -> Outcome<(Call, Option<String>)> {
    let SetArgs { stop_loss, take_profit, trail_amount, trail_bps, count, anchor, .. } = &args;
    let is_trailing = trail_amount.is_some() || trail_bps.is_some();
    if !is_trailing && stop_loss.is_none() && take_profit.is_none() {
        return Err(Failure::usage(
            "name a price: --stop-loss, --take-profit, --trail-amount or --trail-bps",
        ));
    }
    let mut body = prices(&[
        ("stop_loss_price", *stop_loss),
        ("take_profit_price", *take_profit),
        ("trail_amount", *trail_amount),
    ])?;
    let kind = if is_trailing { Kind::Trailing } else { Kind::Bracket };
    body.push(("kind", Json::text(kind.name())));
    if let Some(bps) = trail_bps {
        body.push(("trail_bps", Json::number(bps)));
    }
    let is_partial = count.is_some() || anchor.is_some();
    if let Some(count) = count {
        if !count.is_positive() || count.to_contracts().is_none() {
            return Err(Failure::usage(format!("--count is {count}: it must be a whole number")));
        }
        body.push(("count", Json::text(count.to_string())));
    }
    if let Some(order_id) = anchor {
        body.push(("anchor_order_id", Json::text(order_id)));
    }
    let id = match (is_partial, args.client_id) {
        (true, Some(id)) if (1..=MAX_ID).contains(&id.len()) => Some(id),
        (true, Some(_)) => return Err(Failure::usage("--client-id has 1 to 64 characters")),
        (true, None) => Some(random_id()?),
        (false, Some(_)) => {
            return Err(Failure::usage("--client-id belongs to --count or --anchor"));
        }
        (false, None) => None,
    };
    if let Some(id) = &id {
        body.push(("client_trigger_id", Json::text(id)));
    }
    let operation = if args.isolated {
        OperationId::SetIsolatedMarginExitTrigger
    } else {
        OperationId::SetCrossMarginExitTrigger
    };
    let call = call(operation)
        .with("ticker", args.ticker)
        .with_optional("subaccount", args.subaccount)
        .with_body(Body::new(Json::object(body)));
    Ok((call, id))
}

fn random_id() -> Outcome<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::local(format!("no random number: {error}")))?;
    Ok(bytes.iter().fold("cli-".to_owned(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

async fn set(context: &Context, args: SetArgs) -> Outcome {
    let list = list_command(&args.ticker, args.isolated, args.subaccount);
    let (ticker, is_given) = (args.ticker.clone(), args.client_id.is_some());
    let (call, id) = set_call(args)?;
    let next = match &id {
        Some(id) => {
            let id = shell_word(id);
            format!("the same command with --client-id {id}, which sets no second trigger")
        }
        None => list.clone(),
    };
    if let Some(id) = id.filter(|_| !is_given) {
        let note = format!("the id of this trigger is {id}; to repeat it: --client-id {id}");
        context.output.note(&note);
    }
    let request = request_of(&call);
    let about = format!("set an exit trigger of {ticker}: {request}");
    let Some(answer) = write_marked(context, &call, &about, &next).await? else { return Ok(()) };
    let is_another = |trigger: &ExitTrigger| {
        let text = format!(
            "the id was used before: the exchange answered with the trigger {} of the first request, \
             and set none",
            trigger.id
        );
        let failure = Failure::new(Category::Rejected, text);
        Failure { effect: Effect::Rejected, ..failure }
            .with_next(format!("{list}, then set it under another id"))
    };
    let printed = context.output.document(&answer, &[]);
    let steps = Steps { list: &list, repeat: &next };
    ended(check(call.operation.id, &request, &answer, steps, is_another), printed)
}

async fn update(context: &Context, call: Call, about: String, id: &str, next: &str) -> Outcome {
    let Some(answer) = write_marked(context, &call, &about, next).await? else { return Ok(()) };
    let is_another = |trigger: &ExitTrigger| {
        unknown(format!("the answer shows the trigger {} without the change", trigger.id), next)
    };
    let printed = context.output.document(&answer, &[]);
    let is_it = answer.get("id").and_then(Json::as_str).is_none_or(|shown| shown == id);
    let checked = if is_it {
        let steps = Steps { list: next, repeat: next };
        check(call.operation.id, &request_of(&call), &answer, steps, is_another)
    } else {
        Err(unknown("the answer shows another trigger".to_owned(), next))
    };
    ended(checked, printed)
}

/// Carries out a write; `next` is the command that finds out what became of it. `None` says that
/// nothing was sent.
async fn write_marked(
    context: &Context,
    call: &Call,
    about: &str,
    next: &str,
) -> Outcome<Option<Json>> {
    if !call.may_send(context, about).await? {
        return Ok(None);
    }
    let _mark = UnderWay::new(next);
    match call.send(context).await {
        Err(failure) if failure.category == Category::UnknownOutcome => {
            Err(failure.with_next(next))
        }
        result => result.map(Some),
    }
}

fn request_of(call: &Call) -> String {
    call.body().map(|body| body.json().to_string()).unwrap_or_default()
}

/// Returns the command that lists the triggers of a position.
fn list_command(ticker: &str, is_isolated: bool, subaccount: Option<u32>) -> String {
    let isolated = if is_isolated { " --isolated" } else { "" };
    let subaccount = subaccount.map(|number| format!(" --subaccount {number}")).unwrap_or_default();
    format!("kalshi perps trigger list {}{isolated}{subaccount}", shell_word(ticker))
}

/// The commands that go on after a trigger that is not as it should be.
#[derive(Clone, Copy, Debug)]
struct Steps<'a> {
    /// Shows the triggers of the position.
    list: &'a str,
    /// Finds out what became of a request whose answer is lost.
    repeat: &'a str,
}

fn unknown(text: String, next: &str) -> Failure {
    let failure = Failure::new(Category::UnknownOutcome, text).with_next(next);
    Failure { effect: Effect::Unknown, ..failure }
}

/// Checks that the trigger of an answer is the one that was asked for, and can still fire: a
/// repeated id is answered with its first trigger and a success.
///
/// # Errors
///
/// `is_another` tells of a trigger that is not the one that was asked for. Without a trigger, or with
/// one whose state is not known, the outcome is unknown.
fn check(
    operation: &str,
    request: &str,
    answer: &Json,
    steps: Steps<'_>,
    is_another: impl Fn(&ExitTrigger) -> Failure,
) -> Outcome {
    let read = serde_json::from_str::<SetCrossExitTriggerRequest>(request).ok();
    let trigger = serde_json::from_str::<ExitTrigger>(&answer.to_string()).ok();
    let failure = match (read, trigger) {
        (Some(request), Some(trigger)) if !trigger.is_as_requested(&request) => {
            is_another(&trigger)
        }
        (Some(_), Some(trigger)) => {
            let ExitTrigger { id, status, .. } = &trigger;
            match trigger.is_live() {
                Some(true) => return Ok(()),
                Some(false) => {
                    let text = format!("the trigger {id} is {status}: it closes nothing any more");
                    let failure = Failure::new(Category::Rejected, text).with_next(steps.list);
                    Failure { effect: Effect::Rejected, ..failure }
                }
                None => {
                    let text = format!(
                        "the state of the trigger {id} is {status}: whether it can \
                        fire is not known"
                    );
                    unknown(text, steps.list)
                }
            }
        }
        _ => unknown("the answer does not show the trigger".to_owned(), steps.repeat),
    };
    Err(Failure { operation: Some(operation.to_owned()), ..failure })
}
