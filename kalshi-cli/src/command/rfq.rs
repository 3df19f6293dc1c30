//! `kalshi rfq` and `kalshi quote`: requests for quotes, and quotes.

use clap::{Args, Subcommand};
use kalshi_sdk::{Count, Dollars, OperationId};

use super::{PageArgs, list, show, write};
use crate::{
    api::{Body, Call},
    context::Context,
    failure::Outcome,
    json::Json,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists requests for quotes.
    List {
        /// Only requests about a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        /// Only your own.
        #[arg(long)]
        mine: bool,
        /// Only requests with this status.
        #[arg(long, value_parser = ["open", "closed"])]
        status: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows one request.
    Get { rfq: String },
    /// Asks for quotes for a number of contracts, or for what an amount buys.
    Create(CreateArgs),
    /// Takes a request back.
    Delete { rfq: String },
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The market.
    ticker: String,
    /// The number of contracts.
    #[arg(long, required_unless_present = "target_cost", conflicts_with = "target_cost")]
    contracts: Option<Count>,
    /// The dollars to spend, such as 25.00.
    #[arg(long, value_name = "DOLLARS")]
    target_cost: Option<Dollars>,
    /// Leave what is not filled resting in the book.
    #[arg(long)]
    rest_remainder: bool,
    /// Replace your open request for the same market.
    #[arg(long)]
    replace: bool,
    /// The subaccount; the primary unless set.
    #[arg(long)]
    subaccount: Option<u32>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List { ticker, mine, status, page } => {
                let call = Call::new(OperationId::GetRfqs)
                    .with_optional("market_ticker", ticker)
                    .with_optional("user_filter", mine.then_some("self"))
                    .with_optional("status", status);
                let columns = [
                    "id",
                    "market_ticker",
                    "status",
                    "contracts_fp",
                    "target_cost_dollars",
                    "created_ts",
                ];
                list(context, call, &page, 100, &columns).await
            }
            Self::Get { rfq } => {
                let call = Call::new(OperationId::GetRfq).with("rfq_id", rfq);
                show(context, call, Some("rfq"), &[]).await
            }
            Self::Create(args) => {
                let mut body = vec![("market_ticker", Json::text(&args.ticker))];
                let size = match (args.contracts, args.target_cost) {
                    (Some(contracts), _) => {
                        body.push(("contracts_fp", Json::text(contracts.to_string())));
                        format!("{contracts} contracts")
                    }
                    (None, cost) => {
                        let cost = cost.unwrap_or_default();
                        body.push(("target_cost_dollars", Json::text(cost.to_string())));
                        format!("${cost}")
                    }
                };
                body.push(("rest_remainder", Json::Bool(args.rest_remainder)));
                if args.replace {
                    body.push(("replace_existing", Json::Bool(true)));
                }
                if let Some(subaccount) = args.subaccount {
                    body.push(("subaccount", Json::number(subaccount)));
                }
                let call =
                    Call::new(OperationId::CreateRfq).with_body(Body::new(Json::object(body)));
                let about = format!("ask for quotes for {size} of {}", args.ticker);
                write(context, call, about).await
            }
            Self::Delete { rfq } => {
                let about = format!("take the request {rfq} back");
                let call = Call::new(OperationId::DeleteRfq).with("rfq_id", rfq);
                write(context, call, about).await
            }
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum QuoteCommand {
    /// Lists quotes: those that you made, and those for your requests.
    List {
        /// Only quotes for a request.
        #[arg(long, value_name = "ID")]
        rfq: Option<String>,
        /// Only quotes that you made, or only those for your requests.
        #[arg(long, value_parser = ["made", "received"], default_value = "made")]
        side: String,
        /// Only quotes with this status.
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows one quote.
    Get { rfq: String, quote: String },
    /// Makes a quote: what you pay for YES and for NO; 0 leaves a side out.
    Create {
        rfq: String,
        /// The price that you pay for YES, in dollars such as 0.55.
        #[arg(long, value_name = "PRICE")]
        yes_bid: Dollars,
        /// The price that you pay for NO, in dollars such as 0.40.
        #[arg(long, value_name = "PRICE")]
        no_bid: Dollars,
        /// Leave what is not filled resting in the book.
        #[arg(long)]
        rest_remainder: bool,
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Accepts a quote for your request: this trades, once its maker confirms.
    Accept {
        rfq: String,
        quote: String,
        /// The side of the quote that you take.
        #[arg(value_parser = ["yes", "no"])]
        side: String,
    },
    /// Confirms your quote after it was accepted: this trades.
    Confirm { rfq: String, quote: String },
    /// Takes your quote back.
    Delete { rfq: String, quote: String },
}

impl QuoteCommand {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let on = |operation, rfq: &str, quote: &str| {
            Call::new(operation).with("rfq_id", rfq).with("quote_id", quote)
        };
        match self {
            Self::List { rfq, side, status, page } => {
                let filter = if side == "made" { "user_filter" } else { "rfq_user_filter" };
                let call = Call::new(OperationId::GetQuotes)
                    .with_optional("rfq_id", rfq)
                    .with(filter, "self")
                    .with_optional("status", status);
                let columns = [
                    "id",
                    "rfq_id",
                    "market_ticker",
                    "status",
                    "contracts_fp",
                    "yes_bid_dollars",
                    "no_bid_dollars",
                ];
                list(context, call, &page, 500, &columns).await
            }
            Self::Get { rfq, quote } => {
                let call = on(OperationId::GetRfqQuote, &rfq, &quote);
                show(context, call, Some("quote"), &[]).await
            }
            Self::Create { rfq, yes_bid, no_bid, rest_remainder, subaccount } => {
                let mut body = vec![
                    ("rfq_id", Json::text(&rfq)),
                    ("yes_bid", Json::text(yes_bid.to_string())),
                    ("no_bid", Json::text(no_bid.to_string())),
                    ("rest_remainder", Json::Bool(rest_remainder)),
                ];
                if let Some(subaccount) = subaccount {
                    body.push(("subaccount", Json::number(subaccount)));
                }
                let call =
                    Call::new(OperationId::CreateQuote).with_body(Body::new(Json::object(body)));
                write(
                    context,
                    call,
                    format!("quote {yes_bid} for YES and {no_bid} for NO on {rfq}"),
                )
                .await
            }
            Self::Accept { rfq, quote, side } => {
                let body = Json::object([("accepted_side", Json::text(&side))]);
                let call = on(OperationId::AcceptRfqQuote, &rfq, &quote).with_body(Body::new(body));
                write(context, call, format!("accept the {side} side of the quote {quote}")).await
            }
            Self::Confirm { rfq, quote } => {
                let call = on(OperationId::ConfirmRfqQuote, &rfq, &quote);
                write(context, call, format!("confirm the quote {quote}")).await
            }
            Self::Delete { rfq, quote } => {
                let call = on(OperationId::DeleteRfqQuote, &rfq, &quote);
                write(context, call, format!("take the quote {quote} back")).await
            }
        }
    }
}
