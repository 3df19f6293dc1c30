//! `kalshi group`: order groups, which cancel their orders when too much of them fills.

use clap::Subcommand;
use kalshi_sdk::{Count, OperationId};

use super::{rows, show, write};
use crate::{
    api::{Body, Call},
    context::Context,
    failure::Outcome,
    json::Json,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists your order groups.
    List {
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Shows one order group with the ids of its orders.
    Get { id: String },
    /// Makes an order group: when more contracts than the limit fill within 15 seconds, its orders
    /// are canceled.
    Create {
        /// The contracts that may fill.
        contracts: Count,
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Changes the limit of an order group.
    Limit { id: String, contracts: Count },
    /// Takes an order group up again after its limit was reached.
    Reset { id: String },
    /// Cancels the orders of a group now, and takes no new ones until it is reset.
    Trigger { id: String },
    /// Deletes an order group and cancels its orders.
    Delete { id: String },
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let on = |operation, id: &str| Call::new(operation).with("order_group_id", id);
        match self {
            Self::List { subaccount } => {
                let call =
                    Call::new(OperationId::GetOrderGroups).with_optional("subaccount", subaccount);
                let columns = ["id", "contracts_limit_fp", "is_auto_cancel_enabled"];
                rows(context, call, "order_groups", &columns).await
            }
            Self::Get { id } => show(context, on(OperationId::GetOrderGroup, &id), None, &[]).await,
            Self::Create { contracts, subaccount } => {
                let mut body = vec![("contracts_limit_fp", Json::text(contracts.to_string()))];
                if let Some(subaccount) = subaccount {
                    body.push(("subaccount", Json::number(subaccount)));
                }
                let call = Call::new(OperationId::CreateOrderGroup)
                    .with_body(Body::new(Json::object(body)));
                write(context, call, format!("make a group with a limit of {contracts}")).await
            }
            Self::Limit { id, contracts } => {
                let body =
                    Json::object([("contracts_limit_fp", Json::text(contracts.to_string()))]);
                let call = on(OperationId::UpdateOrderGroupLimit, &id).with_body(Body::new(body));
                write(context, call, format!("set the limit of the group {id} to {contracts}"))
                    .await
            }
            Self::Reset { id } => {
                let call = on(OperationId::ResetOrderGroup, &id);
                write(context, call, format!("reset the group {id}")).await
            }
            Self::Trigger { id } => {
                let call = on(OperationId::TriggerOrderGroup, &id);
                write(context, call, format!("cancel the orders of the group {id}")).await
            }
            Self::Delete { id } => {
                let call = on(OperationId::DeleteOrderGroup, &id);
                write(context, call, format!("delete the group {id}")).await
            }
        }
    }
}
