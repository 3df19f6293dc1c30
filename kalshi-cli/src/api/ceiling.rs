//! The ceiling of the profile, which `--yes` does not lift.

use http::Method;
use kalshi_sdk::Operation;

use super::table::Table;
use crate::{
    context::Context,
    failure::{Failure, Outcome},
};

/// Refuses what could cost more than the ceiling of the profile: only the commands for orders can tell
/// what an order costs.
pub(super) fn check(context: &Context, operation: &Operation) -> Outcome {
    if !may_cost(operation) {
        return Ok(());
    }
    check_unknown(context, Table::of(operation), operation.id)
}

/// Refuses what is not known under a ceiling: it may be an order.
pub(super) fn check_unknown(context: &Context, table: &Table, name: &str) -> Outcome {
    let Some(ceiling) = context.profile.max_order_cost else { return Ok(()) };
    let orders = table.hints.orders.map(|command| format!("{command}, or ")).unwrap_or_default();
    Err(Failure::usage(format!(
        "{name}: the profile {:?} limits an order to ${ceiling}, and this command cannot tell what it \
         would cost",
        context.profile.name
    ))
    .with_next(format!("{orders}a profile without max_order_cost")))
}

/// Reports whether an operation can take on new risk: all writes about orders and quotes but those
/// that only take back.
fn may_cost(operation: &Operation) -> bool {
    let is_trading = matches!(operation.tag, "orders" | "communications" | "fcm");
    let takes_back = operation.method == Method::DELETE || operation.id.starts_with("decrease_");
    !operation.only_reads() && is_trading && !takes_back
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::OPERATIONS;

    use super::*;

    #[test]
    fn whatever_takes_on_risk_is_under_the_ceiling() {
        let costly: Vec<_> =
            OPERATIONS.iter().filter(|operation| may_cost(operation)).map(|o| o.id).collect();
        for id in [
            "create_order_v2",
            "batch_create_orders_v2",
            "amend_order_v2",
            "create_quote",
            "accept_quote",
            "accept_rfq_quote",
            "confirm_rfq_quote",
            "accept_rfq_batch",
            "create_rfq_batch_quote",
            "accept_block_trade_proposal",
            "create_fcm_position_transfer",
        ] {
            assert!(costly.contains(&id), "{id}");
        }
        for id in [
            "cancel_order_v2",
            "batch_cancel_orders_v2",
            "cancel_all_orders",
            "get_orders",
            "decrease_order_v2",
            "delete_rfq_quote",
            "create_order_group",
        ] {
            assert!(!costly.contains(&id), "{id}");
        }
    }
}
