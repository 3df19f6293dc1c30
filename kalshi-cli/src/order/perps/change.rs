//! Changes of orders of perpetual futures: `amend` and `decrease`.
//!
//! An outcome that an answer leaves unknown is read back from the order itself.

use clap::Args;
use kalshi_sdk::{
    Client, Count, Dollars, Effect, Error, UnixSeconds,
    auth::{Clock as _, SystemClock},
    perps::{
        OperationId, OrderState,
        types::{
            AmendMarginOrderRequest, CreateMarginOrderRequest, DecreaseMarginOrderRequest,
            LastUpdateReason, MarginOrder, SelfTradePreventionType, TimeInForce,
        },
    },
};
use kalshi_trade::{journal::OrderChange, placement::perps::check_change};

use super::{LOOKS, PAUSE, failed, get_command, look, preview::Preview, print};
use crate::{
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
    order::{
        self,
        confirm::Consent,
        evidence::{self, Change, Ending, Evidence},
        terms,
    },
    under_way::UnderWay,
};

/// The operations of `perps order amend`.
pub(crate) const AMENDS: [OperationId; 7] = [
    OperationId::AmendMarginOrder,
    OperationId::GetMarginExchangeStatus,
    OperationId::GetMarginFeeTiers,
    OperationId::GetMarginMarket,
    OperationId::GetMarginMarketOrderbook,
    OperationId::GetMarginOrder,
    OperationId::GetMarginPositions,
];

/// The operations of `perps order decrease`.
pub(crate) const DECREASES: [OperationId; 3] =
    [OperationId::DecreaseMarginOrder, OperationId::GetMarginMarket, OperationId::GetMarginOrder];

/// Another price, count or expiry of an order.
#[derive(Args)]
pub(crate) struct Amend {
    /// The id of the order.
    order_id: String,
    /// The new price in dollars per contract.
    #[arg(long, value_name = "DOLLARS")]
    price: Option<String>,
    /// The new total: contracts that are filled and those that rest.
    #[arg(long, value_name = "TOTAL")]
    count: Option<String>,
    /// When it expires: 90s, 10m, 2h, 1d, a time, or never.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The subaccount; the primary unless set.
    #[arg(long, value_name = "N")]
    subaccount: Option<u32>,
    /// The most that price × count of what rests and the fee may come to, in dollars. A loss on margin
    /// can be larger.
    #[arg(long, value_name = "DOLLARS", value_parser = terms::amount)]
    max_cost: Option<Dollars>,
}

/// Less of an order.
#[derive(Args)]
pub(crate) struct Decrease {
    /// The id of the order.
    order_id: String,
    /// The contracts to take off.
    #[arg(long, value_name = "COUNT", required_unless_present = "to", conflicts_with = "to")]
    by: Option<String>,
    /// The contracts that are to rest; 0 cancels the order.
    #[arg(long, value_name = "COUNT")]
    to: Option<String>,
    /// The subaccount; the primary unless set.
    #[arg(long, value_name = "N")]
    subaccount: Option<u32>,
}

/// Reads the order of a command, and fails if it cannot be changed.
async fn open_order(client: &Client, order_id: &str) -> Outcome<MarginOrder> {
    let read = client.perps().get_margin_order().order_id(order_id).send().await;
    let order = read.map_err(failed(OperationId::GetMarginOrder))?.into_inner().order;
    if order.state() != OrderState::Resting {
        let text = format!("the order {order_id} is over; nothing was sent");
        return Err(Failure::new(Category::Rejected, text));
    }
    Ok(order)
}

/// Changes price, count or expiry of an order, or shows what that would be.
pub(crate) async fn amend(context: &Context, args: &Amend) -> Outcome {
    let price = args.price.as_deref().map(super::contract_price).transpose();
    let price = price.map_err(Failure::usage)?;
    let count = args.count.as_deref().map(terms::count).transpose().map_err(Failure::usage)?;
    let expires = match args.expires.as_deref() {
        None => None,
        Some("never") => Some(UnixSeconds::from_seconds(0)),
        Some(text) => Some(terms::expiration(text, SystemClock.now()).map_err(Failure::usage)?),
    };
    if price.is_none() && count.is_none() && expires.is_none() {
        let text = "nothing to change: give --price, --count, or --expires";
        return Err(Failure::usage(text));
    }
    let client = context.client().await?;
    let before = open_order(&client, &args.order_id).await?;
    let price = price.unwrap_or(before.price);
    let total = match count {
        Some(total) => total,
        None => before
            .fill_count
            .checked_add(before.remaining_count)
            .ok_or_else(|| Failure::local("the count of the order is out of range"))?,
    };
    let remaining = total.checked_sub(before.fill_count).filter(|rest| rest.is_positive());
    let Some(remaining) = remaining else {
        return Err(Failure::usage(format!(
            "{total} is the total, and {} are filled: nothing would be left; use `kalshi perps \
             order cancel`",
            before.fill_count
        )));
    };
    let seen = look(&client, &before.ticker, args.subaccount).await?;
    let preview = Preview::new(anew(&before, price, remaining)?, seen, context.target.in_words())?;
    preview.check_ceiling(args.max_cost, "--max-cost")?;
    preview.check_ceiling(context.profile.max_order_cost, "max_order_cost of the profile")?;
    order::tell(
        context,
        &format!(
            "{}  changes      {} filled; {} × {} → {remaining} × {price}\n",
            preview.text(),
            before.fill_count,
            before.remaining_count,
            before.price
        ),
    );
    let mut body: AmendMarginOrderRequest = AmendMarginOrderRequest::builder()
        .ticker(&*before.ticker)
        .side(before.side.clone())
        .price(price)
        .count(total)
        .build()
        .map_err(|error| Failure::usage(format!("the change cannot be sent: {error}")))?;
    body.expiration_time = expires;
    if context.global.dry_run {
        let url = format!("{}/margin/orders/{}/amend", client.base_url(), before.order_id);
        let (body, preview) = (order::json(&body)?, preview.to_json());
        return order::print_request(context, "POST", &url, body, Some(preview));
    }
    let consent = Consent::new(context.asks(), context.global.yes);
    let line = preview.confirmation();
    let expected = line.clone();
    consent.ask(&line, move |typed| typed.trim() == expected).await?;
    let _mark = UnderWay::new(get_command(&before.order_id));
    let request = client.perps().amend_margin_order().order_id(&*before.order_id).body(body);
    let sent = request.subaccount(args.subaccount.map(i64::from)).send().await.map(|_| ());
    let change = Change::Amend { price, total, expires };
    let id = OperationId::AmendMarginOrder;
    print(context, &finish(&client, &before, id, sent, change).await?)
}

/// Takes contracts off what rests of an order.
pub(crate) async fn decrease(context: &Context, args: &Decrease) -> Outcome {
    let client = context.client().await?;
    let before = open_order(&client, &args.order_id).await?;
    let rest = before.remaining_count;
    let to = order::change::remaining(rest, args.by.as_deref(), args.to.as_deref())?;
    if to.is_positive() {
        let market = client.perps().get_margin_market().ticker(&*before.ticker).send().await;
        let market = market.map_err(failed(OperationId::GetMarginMarket))?.into_inner().market;
        check_change(&before.ticker, &OrderChange::Decrease { remaining: to }, &market)
            .map_err(|error| Failure::usage(format!("{error}; nothing was sent")))?;
    }
    // What rests is named, not what is taken: sent twice, it takes nothing twice.
    let mut body = DecreaseMarginOrderRequest::builder()
        .build()
        .map_err(|error| Failure::usage(format!("the change cannot be sent: {error}")))?;
    body.reduce_to = Some(to);
    if context.global.dry_run {
        let url = format!("{}/margin/orders/{}/decrease", client.base_url(), before.order_id);
        return order::print_request(context, "POST", &url, order::json(&body)?, None);
    }
    Consent::new(context.global.ask, context.global.yes)
        .ask("decrease", |typed| typed == "decrease")
        .await?;
    let _mark = UnderWay::new(get_command(&before.order_id));
    let request = client.perps().decrease_margin_order().order_id(&*before.order_id).body(body);
    let sent = request.subaccount(args.subaccount.map(i64::from)).send().await.map(|_| ());
    let id = OperationId::DecreaseMarginOrder;
    print(context, &finish(&client, &before, id, sent, Change::Decrease { to }).await?)
}

/// Returns what rests of an order after a change as an order of its own, for its preview.
fn anew(order: &MarginOrder, price: Dollars, count: Count) -> Outcome<CreateMarginOrderRequest> {
    CreateMarginOrderRequest::builder()
        .ticker(&*order.ticker)
        .client_order_id(&*order.client_order_id)
        .side(order.side.clone())
        .count(count)
        .price(price)
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .try_into()
        .map_err(|error| Failure::usage(format!("the order: {error}")))
}

/// Returns the part of an order in which a change of it shows.
fn shown(order: &MarginOrder) -> evidence::Terms {
    let ending = match order.state() {
        OrderState::Resting => None,
        OrderState::Executed => Some(Ending::Executed),
        _ if order.last_update_reason == LastUpdateReason::Decrease => Some(Ending::Decreased),
        _ => Some(Ending::Other),
    };
    evidence::Terms {
        price: order.price,
        filled: order.fill_count,
        remaining: order.remaining_count,
        initial: None,
        expires: UnixSeconds::from_seconds(order.expiration_time.map_or(0, |at| at.timestamp())),
        ending,
    }
}

/// Reads the order back after a change, until it shows what was asked for or is over.
///
/// # Errors
///
/// The change was refused; or its answer was lost, and the order does not show it.
async fn finish(
    client: &Client,
    before: &MarginOrder,
    operation: OperationId,
    sent: Result<(), Error>,
    change: Change,
) -> Outcome<Json> {
    let order_id = &*before.order_id;
    let error = match sent {
        Ok(()) => None,
        Err(error) if error.effect() == Effect::Unknown => Some(error),
        Err(error) => return Err(failed(operation)(error)),
    };
    let mut last = None;
    for _ in 0..LOOKS {
        if let Ok(answer) = client.perps().get_margin_order().order_id(order_id).send().await {
            let order = answer.into_inner().order;
            let evidence = change.evidence(&shown(before), &shown(&order));
            if evidence == Evidence::Done {
                return order::json(&order);
            }
            last = Some((order, evidence));
            if evidence == Evidence::Over {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    match (error, last) {
        // It was carried out: that reads are behind, or fail, does not change that.
        (None, Some((order, _))) => order::json(&order),
        (None, None) => Ok(Json::object([
            ("order_id", Json::text(order_id)),
            ("state", Json::text("accepted")),
        ])),
        (Some(error), last) => {
            let mut failure = failed(operation)(error).with_next(get_command(order_id));
            if last.is_some_and(|(_, evidence)| evidence == Evidence::Over) {
                failure.message.push_str(evidence::OVER);
            }
            Err(failure)
        }
    }
}
