//! `kalshi group`: order groups, which cancel their orders when too much of them fills.

use clap::{Args, Subcommand};
use kalshi_sdk::{Count, Operation, OperationId};

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
        /// Only those of a subaccount; of all subaccounts unless set.
        #[arg(long, value_name = "N")]
        subaccount: Option<u32>,
    },
    /// Shows one order group with the ids of its orders.
    Get {
        id: String,
        /// The subaccount of the group; all subaccounts are searched unless set.
        #[arg(long, value_name = "N")]
        subaccount: Option<u32>,
    },
    /// Makes an order group: when more contracts than the limit fill within 15 seconds, its orders
    /// are canceled.
    Create {
        /// The contracts that may fill.
        contracts: Count,
        #[command(flatten)]
        place: Place,
    },
    /// Changes the limit of an order group.
    Limit {
        id: String,
        contracts: Count,
        #[command(flatten)]
        place: Place,
    },
    /// Takes an order group up again after its limit was reached.
    Reset {
        id: String,
        #[command(flatten)]
        place: Place,
    },
    /// Cancels the orders of a group now, and takes no new ones until it is reset.
    Trigger {
        id: String,
        #[command(flatten)]
        place: Place,
    },
    /// Deletes an order group and cancels its orders.
    Delete {
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// The place of an order group. A write finds a group in its own place only.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The subaccount of the group; the primary unless set.
    #[arg(long, value_name = "N")]
    subaccount: Option<u32>,
    /// The exchange index of the group, which is that of its markets: the shard of event contracts, or
    /// the market group of perpetual futures; 0 unless set. A group of perpetual futures has it when it
    /// is made, and is found without it.
    #[arg(long, value_name = "N")]
    exchange_index: Option<u32>,
}

impl Place {
    /// Adds the place to a call about a group that exists.
    fn add_to(self, call: Call) -> Call {
        call.with_optional("subaccount", self.subaccount)
            .with_optional("exchange_index", self.exchange_index)
    }

    /// Adds the place to the body of a new group.
    fn add_to_body(self, body: &mut Vec<(&'static str, Json)>) {
        let members = [("subaccount", self.subaccount), ("exchange_index", self.exchange_index)];
        for (name, value) in members {
            body.extend(value.map(|value| (name, Json::number(value))));
        }
    }
}

/// The operations on the order groups of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operations {
    pub(crate) list: &'static Operation,
    pub(crate) get: &'static Operation,
    pub(crate) create: &'static Operation,
    pub(crate) limit: &'static Operation,
    pub(crate) reset: &'static Operation,
    pub(crate) trigger: &'static Operation,
    pub(crate) delete: &'static Operation,
}

impl Operations {
    /// Returns those of event contracts.
    fn of_event_contracts() -> Self {
        Self {
            list: OperationId::GetOrderGroups.operation(),
            get: OperationId::GetOrderGroup.operation(),
            create: OperationId::CreateOrderGroup.operation(),
            limit: OperationId::UpdateOrderGroupLimit.operation(),
            reset: OperationId::ResetOrderGroup.operation(),
            trigger: OperationId::TriggerOrderGroup.operation(),
            delete: OperationId::DeleteOrderGroup.operation(),
        }
    }
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        self.run_on(context, Operations::of_event_contracts()).await
    }

    /// Runs the command on the order groups of a product.
    pub(crate) async fn run_on(self, context: &Context, operations: Operations) -> Outcome {
        let on = |operation, id: &str| Call::of(operation).with("order_group_id", id);
        match self {
            Self::List { subaccount } => {
                let call = Call::of(operations.list).with_optional("subaccount", subaccount);
                let columns = ["id", "contracts_limit_fp", "is_auto_cancel_enabled"];
                rows(context, call, "order_groups", &columns).await
            }
            Self::Get { id, subaccount } => {
                let call = on(operations.get, &id).with_optional("subaccount", subaccount);
                show(context, call, None, &[]).await
            }
            Self::Create { contracts, place } => {
                let mut body = vec![("contracts_limit_fp", Json::text(contracts.to_string()))];
                place.add_to_body(&mut body);
                let call = Call::of(operations.create).with_body(Body::new(Json::object(body)));
                write(context, call, format!("make a group with a limit of {contracts}")).await
            }
            Self::Limit { id, contracts, place } => {
                let body =
                    Json::object([("contracts_limit_fp", Json::text(contracts.to_string()))]);
                let call = place.add_to(on(operations.limit, &id)).with_body(Body::new(body));
                write(context, call, format!("set the limit of the group {id} to {contracts}"))
                    .await
            }
            Self::Reset { id, place } => {
                let call = place.add_to(on(operations.reset, &id));
                write(context, call, format!("reset the group {id}")).await
            }
            Self::Trigger { id, place } => {
                let call = place.add_to(on(operations.trigger, &id));
                write(context, call, format!("cancel the orders of the group {id}")).await
            }
            Self::Delete { id, place } => {
                let call = place.add_to(on(operations.delete, &id));
                write(context, call, format!("delete the group {id}")).await
            }
        }
    }
}
