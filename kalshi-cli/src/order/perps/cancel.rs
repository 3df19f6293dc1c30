//! Cancels of orders of perpetual futures.

use kalshi_sdk::{
    Client, Effect,
    perps::{OperationId, OrderState},
};

use super::{Cancel, LOOKS, PAUSE};
use crate::{
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
    order::{confirm::Consent, tell},
};

/// Cancels orders one by one, and goes on after one that failed. Reports the worst failure.
pub(crate) async fn cancel(context: &Context, args: &Cancel) -> Outcome {
    let client = context.client().await?;
    if context.global.dry_run {
        let requests = args.order_ids.iter().map(|id| {
            Json::object([("method", Json::text("DELETE")), ("order_id", Json::text(id))])
        });
        return context.output.rows("requests", requests.collect(), &[]);
    }
    Consent::new(context.global.ask, context.global.yes)
        .ask("cancel", |typed| typed == "cancel")
        .await?;
    let (mut rows, mut worst) = (Vec::new(), None::<Failure>);
    for id in &args.order_ids {
        let (row, failure) = match cancel_one(&client, id, args.subaccount).await {
            Ok(row) => (row, None),
            Err(failure) => {
                tell(context, &format!("{id}: {}", failure.message));
                let row = [("order_id", Json::text(id)), ("result", Json::text("failed"))];
                (Json::object(row), Some(failure))
            }
        };
        rows.push(row);
        // An unknown outcome is the worst: it is what has to be looked at.
        let is_worse = |failure: &Failure| match &worst {
            None => true,
            Some(worst) => {
                failure.category == Category::UnknownOutcome
                    && worst.category != Category::UnknownOutcome
            }
        };
        if let Some(failure) = failure.filter(is_worse) {
            worst = Some(failure);
        }
    }
    context.output.rows("orders", rows, &["order_id", "ticker", "result"])?;
    worst.map_or(Ok(()), Err)
}

/// Cancels an order. What is over already is as wanted.
async fn cancel_one(client: &Client, order_id: &str, subaccount: Option<u32>) -> Outcome<Json> {
    let row = |ticker: Json, result: &str| {
        Json::object([
            ("order_id", Json::text(order_id)),
            ("ticker", ticker),
            ("result", Json::text(result)),
        ])
    };
    let request = client.perps().cancel_margin_order().order_id(order_id);
    let sent = request.subaccount(subaccount.map(i64::from)).send().await;
    let Err(error) = sent else { return Ok(row(Json::Null, "canceled")) };
    let failure = Failure::of_call(&error, OperationId::CancelMarginOrder.operation());
    if error.effect() != Effect::Unknown && !error.is_not_found() {
        return Err(failure);
    }
    // The order itself says whether it is out.
    for _ in 0..LOOKS {
        if let Ok(answer) = client.perps().get_margin_order().order_id(order_id).send().await {
            let order = answer.into_inner().order;
            if order.state() != OrderState::Resting {
                return Ok(row(Json::text(order.ticker), "over"));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(failure.with_next(format!("kalshi perps order get {order_id}")))
}
