//! Cancels of orders of perpetual futures.

use clap::Args;
use kalshi_sdk::{
    Client, Effect,
    perps::{OperationId, OrderState},
};

use super::{LIMIT, LOOKS, PAUSE, failed, get_command};
use crate::{
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
    order::{self, OwnPrefix, cancels::Cancels, confirm::Consent, print_request, tell},
    under_way::UnderWay,
};

/// The operations of `perps order cancel`.
pub(crate) const CANCELS: [OperationId; 2] =
    [OperationId::CancelMarginOrder, OperationId::GetMarginOrder];

/// The operations of `perps order cancel-all`.
pub(crate) const CANCELS_ALL: [OperationId; 4] = [
    OperationId::CancelAllMarginOrders,
    OperationId::CancelMarginOrder,
    OperationId::GetMarginOrder,
    OperationId::GetMarginOrders,
];

/// Orders to cancel.
#[derive(Args)]
pub(crate) struct Cancel {
    /// The ids of the orders.
    #[arg(required = true, value_name = "ORDER-ID")]
    order_ids: Vec<String>,
    /// The subaccount; the primary unless set.
    #[arg(long, value_name = "N")]
    subaccount: Option<u32>,
}

/// Orders to cancel, without their ids.
#[derive(Args)]
#[group(skip)]
pub(crate) struct CancelAll {
    #[command(flatten)]
    which: order::CancelAll,
    /// Only those of a subaccount. Unless set: of all subaccounts, and with --market or --mine of the
    /// primary.
    #[arg(long, value_name = "N")]
    subaccount: Option<u32>,
}

/// Cancels orders by their ids.
pub(crate) async fn cancel(context: &Context, args: &Cancel) -> Outcome {
    let client = context.client().await?;
    if !context.global.dry_run {
        Consent::new(context.global.ask, context.global.yes)
            .ask("cancel", |typed| typed == "cancel")
            .await?;
    }
    let orders = args.order_ids.iter().map(|id| (id.clone(), None)).collect();
    cancel_orders(context, &client, orders, args.subaccount).await
}

/// Cancels every order, of a market or of these commands, or all of the account or of a subaccount.
pub(crate) async fn cancel_all(
    context: &Context,
    CancelAll { which, subaccount }: &CancelAll,
) -> Outcome {
    let client = context.client().await?;
    let is_everything = which.market.is_none() && !which.mine;
    // Orders are canceled by their ids in one subaccount, and all at once in every one.
    let subaccount = if is_everything { *subaccount } else { subaccount.or(Some(0)) };
    let request = client.perps().get_margin_orders().status("resting").limit(LIMIT);
    let request = request.ticker(which.market.as_deref()).subaccount(subaccount.map(i64::from));
    let mut orders = request.all().await.map_err(failed(OperationId::GetMarginOrders))?;
    orders.retain(|order| !which.mine || order.client_order_id.starts_with(OwnPrefix::TEXT));
    let of = match subaccount {
        Some(number) => format!("subaccount {number}"),
        None => "every subaccount".to_owned(),
    };
    let meanwhile = if is_everything { ", and those placed meanwhile" } else { "" };
    tell(
        context,
        &format!(
            "  environment  {}\n  cancels      {} resting orders of perpetual futures of {of}\
             {meanwhile}; orders of event contracts stay\n",
            context.target.in_words(),
            orders.len(),
        ),
    );
    if !context.global.dry_run {
        let consent = Consent::new(context.asks(), context.global.yes);
        consent.ask("cancel all", |typed| typed == "cancel all").await?;
    }
    if !is_everything {
        let orders = orders.into_iter().map(|order| (order.order_id, Some(order.ticker))).collect();
        return cancel_orders(context, &client, orders, subaccount).await;
    }
    if context.global.dry_run {
        let query = subaccount.map(|number| format!("?subaccount={number}")).unwrap_or_default();
        let url = format!("{}/margin/orders{query}", client.base_url());
        return print_request(context, "DELETE", &url, Json::Null, None);
    }
    let next = "kalshi perps order list --status resting, then cancel-all again";
    let _mark = UnderWay::new(next);
    let request = client.perps().cancel_all_margin_orders().subaccount(subaccount.map(i64::from));
    if let Err(error) = request.send().await {
        let failure = failed(OperationId::CancelAllMarginOrders)(error);
        return Err(failure.with_next(next));
    }
    let done = Json::object([
        ("result", Json::text("canceled")),
        ("resting_before", Json::number(orders.len())),
    ]);
    context.output.document(&done, &[])
}

/// Cancels orders of a subaccount one by one, with their tickers as far as they are known, and goes
/// on after one that failed. Reports the worst failure.
async fn cancel_orders(
    context: &Context,
    client: &Client,
    orders: Vec<(String, Option<String>)>,
    subaccount: Option<u32>,
) -> Outcome {
    if context.global.dry_run {
        let requests = orders.iter().map(|(id, _)| {
            Json::object([("method", Json::text("DELETE")), ("order_id", Json::text(id))])
        });
        return context.output.rows("requests", requests.collect(), &[]);
    }
    let mut cancels = Cancels::default();
    for (id, mut ticker) in orders {
        let result = cancel_one(client, &id, subaccount, &mut ticker).await;
        cancels.add(context, &id, ticker.as_deref(), result);
    }
    cancels.finish(context)
}

/// Cancels an order. What is over already is as wanted. Sets the ticker if the order is read.
async fn cancel_one(
    client: &Client,
    order_id: &str,
    subaccount: Option<u32>,
    ticker: &mut Option<String>,
) -> Outcome<&'static str> {
    let _mark = UnderWay::new(get_command(order_id));
    let request = client.perps().cancel_margin_order().order_id(order_id);
    let sent = request.subaccount(subaccount.map(i64::from)).send().await;
    let Err(error) = sent else { return Ok("canceled") };
    let failure = Failure::of_call(&error, OperationId::CancelMarginOrder.operation());
    if error.effect() != Effect::Unknown && !error.is_not_found() {
        return Err(failure);
    }
    // The order itself says whether it is out.
    for _ in 0..LOOKS {
        if let Ok(answer) = client.perps().get_margin_order().order_id(order_id).send().await {
            let order = answer.into_inner().order;
            let is_over = order.state() != OrderState::Resting;
            *ticker = Some(order.ticker);
            if is_over {
                return Ok("over");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(failure.with_next(get_command(order_id)))
}
