//! `kalshi transfer`: money between your subaccounts, and between shards or exchanges.

use clap::{Args, Subcommand, ValueEnum};
use kalshi_sdk::{Dollars, OperationId};

use super::{PageArgs, list, show, write};
use crate::{
    api::{Body, Call},
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
    output::shell_word,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists transfers between shards and exchanges.
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows one transfer between shards or exchanges.
    Get { id: String },
    /// Moves money between shards, or between event contracts and perpetual futures.
    Create(CreateArgs),
    /// Moves money between two of your subaccounts.
    Subaccount(SubaccountArgs),
    /// Lists transfers between your subaccounts.
    SubaccountList {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists the balances of your subaccounts.
    Balances,
}

/// A half of the exchange.
#[derive(Clone, Copy, ValueEnum)]
enum Half {
    /// Event contracts.
    Events,
    /// Perpetual futures.
    Perps,
}

impl Half {
    fn on_the_wire(self) -> &'static str {
        match self {
            Self::Events => "event_contract",
            Self::Perps => "margined",
        }
    }
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The dollars to move, such as 25.00.
    amount: Dollars,
    /// Where the money leaves.
    #[arg(long, value_enum, default_value = "events")]
    from: Half,
    /// Where it goes.
    #[arg(long, value_enum, default_value = "events")]
    to: Half,
    /// The shard that it leaves.
    #[arg(long, default_value_t = 0)]
    from_shard: u32,
    /// The shard that it goes to.
    #[arg(long, default_value_t = 0)]
    to_shard: u32,
    /// The id by which a repeated transfer is recognized; a new one unless given.
    #[arg(long, value_name = "UUID")]
    client_id: Option<String>,
}

#[derive(Args)]
pub(crate) struct SubaccountArgs {
    /// The dollars to move, such as 25.00.
    amount: Dollars,
    /// The subaccount that pays; 0 is the primary.
    #[arg(long)]
    from: u32,
    /// The subaccount that receives.
    #[arg(long)]
    to: u32,
    /// The id by which a repeated transfer is recognized; a new one unless given.
    #[arg(long, value_name = "UUID")]
    client_id: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List { page } => {
                let call = Call::new(OperationId::GetIntraExchangeInstanceTransfers);
                let columns = ["transfer_id", "status", "amount", "source", "destination"];
                list(context, call, &page, 100, &columns).await
            }
            Self::Get { id } => {
                let call = Call::new(OperationId::GetIntraExchangeInstanceTransfer)
                    .with("transfer_id", id);
                show(context, call, Some("transfer"), &[]).await
            }
            Self::Create(args) => create(context, args).await,
            Self::Subaccount(args) => between_subaccounts(context, args).await,
            Self::SubaccountList { page } => {
                let call = Call::new(OperationId::GetSubaccountTransfers);
                let columns = [
                    "transfer_id",
                    "from_subaccount",
                    "to_subaccount",
                    "amount_cents",
                    "created_ts",
                ];
                list(context, call, &page, 100, &columns).await
            }
            Self::Balances => {
                let call = Call::new(OperationId::GetSubaccountBalances);
                let columns = ["subaccount_number", "exchange_index", "balance", "updated_ts"];
                super::rows(context, call, "subaccount_balances", &columns).await
            }
        }
    }
}

async fn create(context: &Context, args: CreateArgs) -> Outcome {
    let amount = args.amount;
    let units = amount.to_centi_cents().filter(|units| *units > 0).ok_or_else(|| {
        Failure::usage(format!("{amount} is not a positive number of hundredths of a cent"))
    })?;
    let id = client_id(context, args.client_id)?;
    let body = Json::object([
        ("client_transfer_id", Json::text(&id)),
        ("source", Json::text(args.from.on_the_wire())),
        ("destination", Json::text(args.to.on_the_wire())),
        ("amount", Json::number(units)),
        ("source_exchange_shard", Json::number(args.from_shard)),
        ("destination_exchange_shard", Json::number(args.to_shard)),
    ]);
    let call = Call::new(OperationId::IntraExchangeInstanceTransfer).with_body(Body::new(body));
    let about = format!(
        "move ${amount} from {} shard {} to {} shard {}",
        args.from.on_the_wire(),
        args.from_shard,
        args.to.on_the_wire(),
        args.to_shard
    );
    write_once(context, call, about, &id).await
}

async fn between_subaccounts(context: &Context, args: SubaccountArgs) -> Outcome {
    let amount = args.amount;
    let cents = amount.to_cents().filter(|cents| *cents > 0).ok_or_else(|| {
        Failure::usage(format!("{amount} is not a positive number of whole cents"))
    })?;
    let id = client_id(context, args.client_id)?;
    let body = Json::object([
        ("client_transfer_id", Json::text(&id)),
        ("from_subaccount", Json::number(args.from)),
        ("to_subaccount", Json::number(args.to)),
        ("amount_cents", Json::number(cents)),
    ]);
    let call = Call::new(OperationId::ApplySubaccountTransfer).with_body(Body::new(body));
    let about = format!("move ${amount} from subaccount {} to {}", args.from, args.to);
    write_once(context, call, about, &id).await
}

/// Carries out a transfer. The failure of one whose outcome is unknown names its id.
async fn write_once(context: &Context, call: Call, about: String, id: &str) -> Outcome {
    match write(context, call, about).await {
        Err(failure) if failure.category == Category::UnknownOutcome => {
            let id = shell_word(id);
            let next = format!("the same command with --client-id {id}, which moves nothing twice");
            Err(failure.with_next(next))
        }
        result => result,
    }
}

/// Returns the id of a transfer, which is told before it is sent: with it a repetition after a lost
/// answer moves nothing twice.
fn client_id(context: &Context, given: Option<String>) -> Outcome<String> {
    if let Some(id) = given {
        return Ok(id);
    }
    let id = uuid()?;
    context
        .output
        .note(&format!("the id of this transfer is {id}; to repeat it: --client-id {id}"));
    Ok(id)
}

/// Returns a random UUID (version 4).
fn uuid() -> Outcome<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::local(format!("there are no random numbers: {error}")))?;
    let number = u128::from_be_bytes(bytes);
    let number = (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let (a, b) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(a, b);
        for id in [a, b] {
            assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
            assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
            assert_eq!(id.matches('-').count(), 4);
        }
    }
}
