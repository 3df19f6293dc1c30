//! Orders: placed once, changed, canceled and read.
//!
//! Nothing is sent before it was shown, and in an environment with real money not before a person
//! typed the count and the price. Ceilings of the profile hold whatever is typed.

mod cancels;
mod change;
mod confirm;
mod evidence;
mod journals;
mod look;
#[cfg(feature = "perps")]
pub(crate) mod perps;
mod place;
mod preview;
mod terms;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kalshi_sdk::{
    Dollars, OperationId, streams,
    types::{Order, TimeInForce},
};
use kalshi_trade::direction::Action;
use serde::Serialize;

pub(crate) use self::look::failed;
#[cfg(any(feature = "mcp", feature = "tui"))]
pub(crate) use self::{
    change::cancel_all_at_once, place::Prepared, preview::is_confirmed, terms::amount,
};
#[cfg(feature = "tui")]
pub(crate) use self::{
    change::cancel_by_id,
    place::{SentOrder, look_at, resume, send},
    terms::count,
};
#[cfg(feature = "mcp")]
pub(crate) use self::{
    change::{PreparedAmend, cancel_each, prepare_amend, resting},
    journals::{create_private, state_folder},
    look::{is_over, order as fetch_order},
    place::{check_ceiling, check_ceilings, check_sendable, explain, prepare, settled, submit},
    preview::{Preview, confirmation},
};
use crate::{
    args::{Format, duration},
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
};

/// The operations of `buy` and `sell`: what is read for the preview, the order, and what is read if
/// its answer is lost.
pub(crate) const PLACES: [OperationId; 12] = [
    OperationId::CreateOrderV2,
    OperationId::GetMarket,
    OperationId::GetEvent,
    OperationId::GetSeries,
    OperationId::GetExchangeStatus,
    OperationId::GetMarketOrderbook,
    OperationId::GetPositions,
    OperationId::GetOrders,
    OperationId::GetOrder,
    OperationId::GetUserDataTimestamp,
    OperationId::GetHistoricalCutoff,
    OperationId::GetHistoricalOrders,
];

/// The operations of the preview of an order.
#[cfg(feature = "mcp")]
pub(crate) const LOOKS: [OperationId; 7] = [
    OperationId::GetMarket,
    OperationId::GetEvent,
    OperationId::GetSeries,
    OperationId::GetExchangeStatus,
    OperationId::GetMarketOrderbook,
    OperationId::GetPositions,
    OperationId::GetOrders,
];

/// The operations of `amend`.
pub(crate) const AMENDS: [OperationId; 9] = [
    OperationId::AmendOrderV2,
    OperationId::GetMarket,
    OperationId::GetEvent,
    OperationId::GetSeries,
    OperationId::GetExchangeStatus,
    OperationId::GetMarketOrderbook,
    OperationId::GetPositions,
    OperationId::GetOrders,
    OperationId::GetOrder,
];

/// The operations of `cancel-all`.
pub(crate) const CANCELS_ALL: [OperationId; 4] = [
    OperationId::CancelAllOrders,
    OperationId::CancelOrderV2,
    OperationId::GetOrders,
    OperationId::GetOrder,
];

/// The operations of `queue`.
pub(crate) const QUEUES: [OperationId; 3] = [
    OperationId::GetOrderQueuePosition,
    OperationId::GetOrderQueuePositions,
    OperationId::GetOrders,
];

/// The operations of `settle`.
pub(crate) const SETTLES: [OperationId; 5] = [
    OperationId::GetOrders,
    OperationId::GetOrder,
    OperationId::GetUserDataTimestamp,
    OperationId::GetHistoricalCutoff,
    OperationId::GetHistoricalOrders,
];

/// The columns of an order in a table.
const COLUMNS: [&str; 10] = [
    "order_id",
    "ticker",
    "status",
    "book_side",
    "outcome_side",
    "yes_price_dollars",
    "no_price_dollars",
    "remaining_count_fp",
    "fill_count_fp",
    "client_order_id",
];

/// The beginning of the client ids that these commands make.
pub(crate) struct OwnPrefix;

impl OwnPrefix {
    pub(crate) const TEXT: &'static str = "cli-";
}

/// Places, changes, cancels and reads orders.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Buys contracts of an outcome: `kalshi order buy KXEXAMPLE yes 10 @ 0.55`.
    Buy(NewOrder),
    /// Sells contracts of an outcome; those that are not held are bought of the opposite outcome.
    Sell(NewOrder),
    /// Changes price, total count or expiry of an order. A new price or a higher count loses the
    /// place in the queue.
    Amend(Amend),
    /// Takes contracts off what rests of an order; it keeps its place in the queue.
    Decrease(Decrease),
    /// Cancels orders by their ids.
    Cancel(Cancel),
    /// Cancels all resting orders of event contracts: of the account, of a market, or those placed with
    /// this program. It cancels no orders of perpetual futures: `kalshi perps order cancel-all` does.
    CancelAll(CancelAll),
    /// Lists orders.
    List(List),
    /// Shows an order.
    Get(Get),
    /// Shows how many contracts are ahead of orders: of one, of a market, or of all.
    Queue(Queue),
    /// Goes on finding out whether an order exists whose answer was lost.
    Settle(Settle),
}

/// An order to place.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct NewOrder {
    /// The ticker of the market.
    pub(crate) ticker: String,
    /// The outcome that is bought or sold.
    #[arg(value_enum)]
    pub(crate) outcome: OutcomeName,
    /// The number of contracts and the limit price of the outcome in dollars: `10 @ 0.55`.
    #[arg(value_name = "COUNT @ PRICE", num_args = 1..=3, required = true)]
    pub(crate) terms: Vec<String>,
    /// The time that it may wait: until canceled, none, or none and only as a whole.
    #[arg(long, value_enum, default_value = "gtc")]
    pub(crate) tif: Tif,
    /// Only as a maker: an order that would trade at once is canceled by the exchange.
    #[arg(long)]
    pub(crate) post_only: bool,
    /// Only as far as it closes a position (with --tif ioc).
    #[arg(long)]
    pub(crate) reduce_only: bool,
    /// Cancel it when trading pauses.
    #[arg(long)]
    pub(crate) cancel_on_pause: bool,
    /// When it meets an own order, cancel that one and go on; else this one stops.
    #[arg(long)]
    pub(crate) maker_first: bool,
    /// When it expires: 90s, 10m, 2h, 1d, or a time such as 2026-12-31T23:59:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// The id of an order group.
    #[arg(long, value_name = "ID")]
    pub(crate) group: Option<String>,
    /// The subaccount, 0 to 63.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=63))]
    pub(crate) subaccount: Option<u8>,
    /// The client order id, up to 64 characters; the same id never places two orders.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// The most that the order may cost in dollars, with fees.
    #[arg(long, value_name = "DOLLARS", value_parser = terms::amount)]
    pub(crate) max_cost: Option<Dollars>,
    /// The time to find out what became of it if the answer is lost.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90s")]
    pub(crate) settle_within: Duration,
}

/// An outcome, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutcomeName {
    Yes,
    No,
}

impl From<OutcomeName> for streams::Outcome {
    fn from(name: OutcomeName) -> Self {
        match name {
            OutcomeName::Yes => Self::Yes,
            OutcomeName::No => Self::No,
        }
    }
}

/// The time in force, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tif {
    /// Good till canceled.
    Gtc,
    /// Immediate or cancel.
    Ioc,
    /// Fill or kill.
    Fok,
}

impl Tif {
    fn to_wire(self) -> TimeInForce {
        match self {
            Self::Gtc => TimeInForce::GoodTillCanceled,
            Self::Ioc => TimeInForce::ImmediateOrCancel,
            Self::Fok => TimeInForce::FillOrKill,
        }
    }
}

/// A change of an order.
#[derive(Args)]
pub(crate) struct Amend {
    /// The id of the order.
    pub(crate) order_id: String,
    /// The new price of YES in dollars.
    #[arg(long, value_name = "DOLLARS", conflicts_with = "no_price")]
    pub(crate) yes_price: Option<String>,
    /// The new price of NO in dollars.
    #[arg(long, value_name = "DOLLARS")]
    pub(crate) no_price: Option<String>,
    /// The new total: contracts that are filled and those that rest.
    #[arg(long, value_name = "TOTAL")]
    pub(crate) count: Option<String>,
    /// When it expires: 90s, 10m, 2h, 1d, a time, or never.
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// The most that what rests may cost in dollars, with fees.
    #[arg(long, value_name = "DOLLARS", value_parser = terms::amount)]
    pub(crate) max_cost: Option<Dollars>,
}

/// Less of an order.
#[derive(Args)]
pub(crate) struct Decrease {
    /// The id of the order.
    pub(crate) order_id: String,
    /// The contracts to take off.
    #[arg(long, value_name = "COUNT", required_unless_present = "to", conflicts_with = "to")]
    pub(crate) by: Option<String>,
    /// The contracts that are to rest; 0 cancels the order.
    #[arg(long, value_name = "COUNT")]
    pub(crate) to: Option<String>,
}

/// Orders to cancel.
#[derive(Args)]
pub(crate) struct Cancel {
    /// The ids of the orders.
    #[arg(required = true, value_name = "ORDER-ID")]
    pub(crate) order_ids: Vec<String>,
}

/// Orders to cancel, without their ids.
#[derive(Args)]
pub(crate) struct CancelAll {
    /// Only those of a market.
    #[arg(long, value_name = "TICKER")]
    pub(crate) market: Option<String>,
    /// Only those that were placed with this program under ids of its own.
    #[arg(long)]
    pub(crate) mine: bool,
}

/// Which orders to list.
#[derive(Args)]
pub(crate) struct List {
    /// Only those of a market.
    #[arg(long, value_name = "TICKER")]
    market: Option<String>,
    /// Only those in a state: resting, canceled or executed.
    #[arg(long)]
    status: Option<String>,
    /// Only those of a subaccount; all unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=63))]
    subaccount: Option<u8>,
    /// The most rows.
    #[arg(long, value_name = "ROWS", default_value_t = 100)]
    limit: usize,
}

/// An order by its id.
#[derive(Args)]
pub(crate) struct Get {
    /// The id of the order.
    order_id: String,
}

/// Orders whose places are asked for.
#[derive(Args)]
pub(crate) struct Queue {
    /// The ids of orders; all that rest unless given.
    #[arg(value_name = "ORDER-ID")]
    order_ids: Vec<String>,
    /// Those of a market.
    #[arg(long, value_name = "TICKER", conflicts_with = "order_ids")]
    market: Option<String>,
}

/// An order whose outcome is not known.
#[derive(Args)]
pub(crate) struct Settle {
    /// The client order id.
    pub(crate) client_id: String,
    /// The time to go on.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90s")]
    pub(crate) settle_within: Duration,
}

impl Command {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Buy(args) => place::place(context, Action::Buy, args).await,
            Self::Sell(args) => place::place(context, Action::Sell, args).await,
            Self::Amend(args) => change::amend(context, args).await,
            Self::Decrease(args) => change::decrease(context, args).await,
            Self::Cancel(args) => change::cancel(context, args).await,
            Self::CancelAll(args) => change::cancel_all(context, args).await,
            Self::List(args) => list(context, args).await,
            Self::Get(args) => {
                let client = context.client().await?;
                let order = client.get_order().order_id(&*args.order_id).send().await;
                let order = order.map_err(failed(OperationId::GetOrder))?.into_inner().order;
                print(context, &json(&order)?)
            }
            Self::Queue(args) => queue(context, args).await,
            Self::Settle(args) => place::settle(context, args).await,
        }
    }
}

async fn list(context: &Context, args: &List) -> Outcome {
    let client = context.client().await?;
    let page = u16::try_from(args.limit.clamp(1, 1_000)).unwrap_or(1_000);
    let request = client.get_orders().limit(page).ticker(args.market.as_deref());
    let request = request.status(args.status.as_deref());
    let mut rows = request.subaccount(args.subaccount.map(i64::from)).stream();
    let mut printer = context.output.list("orders", &COLUMNS);
    while printer.count() < args.limit {
        let Some(row) = rows.next().await else { break };
        let order: Order = row.map_err(failed(OperationId::GetOrders))?;
        printer.page(Json::object([("orders", Json::List(vec![json(&order)?]))]))?;
    }
    printer.finish()
}

async fn queue(context: &Context, args: &Queue) -> Outcome {
    let client = context.client().await?;
    let mut rows = Vec::new();
    if args.order_ids.is_empty() {
        let mut request = client.get_order_queue_positions();
        if let Some(ticker) = &args.market {
            request = request.market_tickers([&**ticker]);
        } else {
            let resting = client.get_orders().status("resting").limit(1_000_u16).all().await;
            let resting = resting.map_err(failed(OperationId::GetOrders))?;
            let mut tickers: Vec<String> = resting.into_iter().map(|order| order.ticker).collect();
            tickers.sort_unstable();
            tickers.dedup();
            if tickers.is_empty() {
                return context.output.rows("queue_positions", rows, &[]);
            }
            request = request.market_tickers(tickers);
        }
        let positions = request.send().await;
        let positions = positions.map_err(failed(OperationId::GetOrderQueuePositions))?;
        for position in &positions.queue_positions {
            rows.push(json(position)?);
        }
    }
    for id in &args.order_ids {
        let position = client.get_order_queue_position().order_id(&**id).send().await;
        let position = position.map_err(failed(OperationId::GetOrderQueuePosition))?;
        rows.push(Json::object([
            ("order_id", Json::text(&**id)),
            ("queue_position_fp", Json::text(position.queue_position_fp.to_string())),
        ]));
    }
    context.output.rows("queue_positions", rows, &[])
}

/// Prints an order.
fn print(context: &Context, order: &Json) -> Outcome {
    let has_all = order.get("ticker").is_some();
    context.output.document(order, if has_all { &COLUMNS } else { &[] })
}

/// Prints the request that would be sent.
fn print_request(
    context: &Context,
    method: &str,
    url: &str,
    body: Json,
    preview: Option<Json>,
) -> Outcome {
    if context.output.format == Format::Table {
        context.output.line(&format!("{method} {url}"))?;
        return if body == Json::Null { Ok(()) } else { context.output.line(&body.pretty()) };
    }
    let mut members = vec![
        ("dry_run", Json::Bool(true)),
        ("method", Json::text(method)),
        ("url", Json::text(url)),
        ("body", body),
    ];
    members.extend(preview.map(|preview| ("preview", preview)));
    context.output.document(&Json::object(members), &[])
}

/// Tells a person something on the standard error output.
fn tell(context: &Context, text: &str) {
    context.output.note(text.trim_end_matches('\n'));
}

/// Returns a value of the API as it stands on the wire.
pub(crate) fn json<T: Serialize>(value: &T) -> Outcome<Json> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::local(format!("an answer cannot be printed: {error}"))
    };
    let text = serde_json::to_string(value).map_err(|error| unreadable(&error))?;
    Json::parse(&text).map_err(|error| unreadable(&error))
}

/// Returns 64 random bits.
pub(crate) fn random() -> Outcome<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::local(format!("no random number: {error}")))?;
    Ok(u64::from_ne_bytes(bytes))
}
