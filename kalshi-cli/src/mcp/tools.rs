//! The tools: their names, their parameters, and what they may call.

use kalshi_sdk::OperationId;
use serde_json::{Map, Value, json};

/// The reach of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Looks something up in this program.
    Local,
    /// Reads from the exchange.
    Read,
    /// Changes something at the exchange, once a person has confirmed it or within ceilings.
    Write,
}

/// The condition on which a tool that writes sends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteMode {
    /// A person has confirmed its ticket.
    Ticket,
    /// The ceilings of the server allow it.
    Unattended,
}

/// A tool.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) reach: Reach,
    parameters: &'static [Parameter],
    /// The operations that it calls, that of a write first; `call_read` names its own.
    pub(super) operations: &'static [OperationId],
}

/// A parameter of a tool.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
    pub(super) about: &'static str,
}

/// The form of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A decimal number as a text: a JSON number with a fraction could lose digits on its way.
    Decimal,
    /// A whole number in a range.
    Integer(i64, i64),
    Boolean,
    /// A time, or a span of time before now.
    Time,
    /// An object of texts, whole numbers and booleans, or lists of them.
    Values,
}

impl Parameter {
    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text | Kind::Time => json!({"type": "string"}),
            Kind::Choice(values) => json!({"type": "string", "enum": values}),
            Kind::Decimal => json!({"type": "string", "pattern": r"^[0-9]*\.?[0-9]+$"}),
            Kind::Integer(least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            Kind::Boolean => json!({"type": "boolean"}),
            Kind::Values => json!({"type": "object"}),
        };
        if let Value::Object(members) = &mut schema {
            members.insert("description".to_owned(), Value::from(self.about));
        }
        schema
    }
}

impl Tool {
    /// Returns the JSON Schema of the arguments. No other argument is taken.
    pub(super) fn schema(&self, mode: WriteMode) -> Map<String, Value> {
        let properties: Map<String, Value> =
            self.parameters(mode).map(|known| (known.name.to_owned(), known.schema())).collect();
        let required = self.parameters(mode).filter(|known| known.is_required);
        let required: Vec<&str> = required.map(|known| known.name).collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), Value::from("object"));
        schema.insert("properties".to_owned(), Value::Object(properties));
        schema.insert("required".to_owned(), Value::from(required));
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        schema
    }

    /// Returns the parameters: a tool that writes takes a ticket, too, or the id of the request.
    pub(super) fn parameters(&self, mode: WriteMode) -> impl Iterator<Item = &'static Parameter> {
        let once = match mode {
            WriteMode::Ticket => &WITH_TICKET,
            WriteMode::Unattended => &WITH_REQUEST_ID,
        };
        let once = (self.reach == Reach::Write).then_some(once);
        self.parameters.iter().chain(once)
    }

    /// Returns the description: a tool that writes tells when it does.
    pub(super) fn description(&self, mode: WriteMode) -> String {
        let when = match (self.reach, mode) {
            (Reach::Write, WriteMode::Ticket) => " A person confirms its ticket first.",
            (Reach::Write, WriteMode::Unattended) => {
                " Sends at once, within the ceilings of the server."
            }
            _ => "",
        };
        format!("{}{when}", self.about)
    }

    /// Returns the operation that a call is about, where the tool says it.
    pub(super) fn operation(&self) -> Option<OperationId> {
        match (self.reach, self.operations) {
            (Reach::Write, [first, ..]) | (_, [first]) => Some(*first),
            _ => None,
        }
    }

    /// Returns the tool with a name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, is_required: true, about }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, is_required: false, about }
}

/// The name of the argument that goes on where a result ended.
pub(super) const CURSOR: &str = "cursor";

const GO_ON: Parameter = may(
    CURSOR,
    Kind::Text,
    "The `more` of the result before, to read on in it; repeat the required arguments beside it.",
);
/// The name of the argument with which a write is carried out.
pub(super) const TICKET: &str = "ticket";

const WITH_TICKET: Parameter = may(
    TICKET,
    Kind::Text,
    "The ticket of the call before, once the person was asked to confirm it; repeat the same \
     arguments beside it. Waits for the person for a while.",
);
/// The name of the argument that makes a write one, however often it is called.
pub(super) const REQUEST_ID: &str = "request_id";

const WITH_REQUEST_ID: Parameter = must(
    REQUEST_ID,
    Kind::Text,
    "A text of your choice, another one for each thing that is to be done. A call that is repeated \
     with the same one sends nothing again and tells what became of the first.",
);
const ORDER_ID: Parameter = must("order_id", Kind::Text, "The id of the order.");
const TICKER: Parameter = must("ticker", Kind::Text, "The ticker of the market.");
const SINCE: Parameter = may(
    "since",
    Kind::Time,
    "From this time: seconds since 1970, 2026-11-23T14:00:00Z, or 2h for two hours ago.",
);
const UNTIL: Parameter = may("until", Kind::Time, "Up to this time, in the same forms.");
const LIMIT: Parameter =
    may("limit", Kind::Integer(1, 1_000), "The rows of a page of the exchange; 100 unless given.");
const SUBACCOUNT: Parameter = may("subaccount", Kind::Integer(0, 63), "The subaccount.");

/// The tools, at most twenty: a model chooses worse among many.
pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "find_operations",
        about: "Finds operations of the exchange's API by words in their names and summaries. For \
                what no other tool reads; call_read calls those that are marked readable.",
        reach: Reach::Local,
        parameters: &[
            may("text", Kind::Text, "Words that all have to be there."),
            may("tag", Kind::Text, "A family, such as market, orders, portfolio or historical."),
            GO_ON,
        ],
        operations: &[],
    },
    Tool {
        name: "describe_operation",
        about: "Describes an operation of the exchange's API: parameters, body, cost.",
        reach: Reach::Local,
        parameters: &[must("operation", Kind::Text, "Its name, such as get_markets."), GO_ON],
        operations: &[],
    },
    Tool {
        name: "call_read",
        about: "Calls an operation that only reads (GET). Not for keys, transfers, deposits, usage \
                levels and FCM, and never for changes.",
        reach: Reach::Read,
        parameters: &[
            must("operation", Kind::Text, "Its name, such as get_markets."),
            may("parameters", Kind::Values, "Its parameters by name; describe_operation has them."),
            GO_ON,
        ],
        operations: &[],
    },
    Tool {
        name: "search_markets",
        about: "Finds open markets whose titles or tickers have all of these words.",
        reach: Reach::Read,
        parameters: &[must("text", Kind::Text, "The words."), GO_ON],
        operations: &[OperationId::GetEvents],
    },
    Tool {
        name: "get_market",
        about: "Shows one market with its prices, also one that has moved to the archive.",
        reach: Reach::Read,
        parameters: &[TICKER, GO_ON],
        operations: &[OperationId::GetMarket, OperationId::GetHistoricalMarket],
    },
    Tool {
        name: "get_book",
        about: "Shows the order book of a market: what YES is bought and sold for, best first. NO \
                costs one dollar less the price of the opposite side.",
        reach: Reach::Read,
        parameters: &[
            TICKER,
            may("depth", Kind::Integer(1, 100), "The most price levels; 20 unless given."),
            GO_ON,
        ],
        operations: &[OperationId::GetMarketOrderbook],
    },
    Tool {
        name: "get_trades",
        about: "Lists public trades of the live tier, the latest first.",
        reach: Reach::Read,
        parameters: &[
            may("ticker", Kind::Text, "Only those in a market."),
            SINCE,
            UNTIL,
            LIMIT,
            GO_ON,
        ],
        operations: &[OperationId::GetTrades],
    },
    Tool {
        name: "get_candles",
        about: "Lists candles of a market: prices, volume and open interest of each period.",
        reach: Reach::Read,
        parameters: &[
            TICKER,
            may("period", Kind::Choice(&["1m", "1h", "1d"]), "The length of one; 1h unless given."),
            SINCE,
            UNTIL,
            GO_ON,
        ],
        operations: &[OperationId::BatchGetMarketCandlesticks],
    },
    Tool {
        name: "get_portfolio",
        about: "Shows the cash of the account and its positions in markets that are not settled.",
        reach: Reach::Read,
        parameters: &[SUBACCOUNT, LIMIT, GO_ON],
        operations: &[OperationId::GetBalance, OperationId::GetPositions],
    },
    Tool {
        name: "get_orders",
        about: "Lists orders of the account, the latest first.",
        reach: Reach::Read,
        parameters: &[
            may("ticker", Kind::Text, "Only those in a market."),
            may(
                "status",
                Kind::Choice(&["resting", "canceled", "executed"]),
                "Only those in a state.",
            ),
            SUBACCOUNT,
            LIMIT,
            GO_ON,
        ],
        operations: &[OperationId::GetOrders],
    },
    Tool {
        name: "get_fills",
        about: "Lists fills of the account in the live tier, the latest first.",
        reach: Reach::Read,
        parameters: &[
            may("ticker", Kind::Text, "Only those in a market."),
            may("order_id", Kind::Text, "Only those of an order."),
            SUBACCOUNT,
            SINCE,
            UNTIL,
            LIMIT,
            GO_ON,
        ],
        operations: &[OperationId::GetFills],
    },
    Tool {
        name: "explain_order",
        about: "Shows what an order would be, cost and change, fees included. Sends nothing.",
        reach: Reach::Read,
        parameters: ORDER,
        operations: &crate::order::LOOKS,
    },
    Tool {
        name: "exchange_status",
        about: "Shows whether the exchange and its trading are open.",
        reach: Reach::Read,
        parameters: &[GO_ON],
        operations: &[OperationId::GetExchangeStatus],
    },
    Tool {
        name: "limits",
        about: "Shows the rate limits of the account.",
        reach: Reach::Read,
        parameters: &[GO_ON],
        operations: &[OperationId::GetAccountApiLimits],
    },
    Tool {
        name: "place_order",
        about: "Places an order. Look at explain_order first.",
        reach: Reach::Write,
        parameters: ORDER,
        operations: &crate::order::PLACES,
    },
    Tool {
        name: "amend_order",
        about: "Changes price, total count or expiry of an order. A new price or a higher count \
                loses the place in the queue.",
        reach: Reach::Write,
        parameters: &[
            ORDER_ID,
            may("yes_price", Kind::Decimal, "The new price of YES in dollars, such as \"0.55\"."),
            may("no_price", Kind::Decimal, "The new price of NO instead."),
            may("count", Kind::Decimal, "The new total: what is filled and what rests."),
            may("expires", Kind::Text, "When it expires: 10m, 2h, a time, or never."),
        ],
        operations: &crate::order::AMENDS,
    },
    Tool {
        name: "cancel_order",
        about: "Cancels an order.",
        reach: Reach::Write,
        parameters: &[ORDER_ID],
        operations: &[OperationId::CancelOrderV2, OperationId::GetOrder],
    },
    Tool {
        name: "cancel_all",
        about: "Cancels the resting orders of a market, or all of the account. They are those of \
                event contracts: orders of perpetual futures stay.",
        reach: Reach::Write,
        parameters: &[may("ticker", Kind::Text, "Only those in this market."), GO_ON],
        operations: &crate::order::CANCELS_ALL,
    },
];

/// The parameters of an order.
const ORDER: &[Parameter] = &[
    TICKER,
    must("action", Kind::Choice(&["buy", "sell"]), "Buy or sell contracts of the outcome."),
    must("outcome", Kind::Choice(&["yes", "no"]), "The outcome."),
    must("count", Kind::Decimal, "The contracts, such as \"10\"."),
    must("price", Kind::Decimal, "The limit price of the outcome in dollars, such as \"0.55\"."),
    may(
        "time_in_force",
        Kind::Choice(&["gtc", "ioc", "fok"]),
        "Good till canceled (the default), immediate or cancel, or fill or kill.",
    ),
    may("post_only", Kind::Boolean, "Only as a maker."),
    may("reduce_only", Kind::Boolean, "Only as far as it closes a position (with ioc)."),
    may("expires", Kind::Text, "When it expires: 10m, 2h, or 2026-12-31T23:59:00Z."),
    may("group", Kind::Text, "The id of an order group."),
    SUBACCOUNT,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_tools_are_few_distinct_and_short() {
        let names: BTreeSet<_> = TOOLS.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), TOOLS.len());
        assert!(TOOLS.len() <= 20);
        for mode in [WriteMode::Ticket, WriteMode::Unattended] {
            let size = |tool: &Tool| {
                let schema = serde_json::to_string(&tool.schema(mode)).unwrap();
                tool.description(mode).len() + schema.len()
            };
            let size: usize = TOOLS.iter().map(size).sum();
            // Each conversation of a model carries them.
            assert!(size < 16_000, "{size} bytes");
        }
    }

    #[test]
    fn no_tool_takes_an_argument_that_is_an_option_of_the_command_line() {
        use clap::CommandFactory as _;

        let mut root = crate::args::Arguments::command();
        root.build();
        let globals: Vec<String> = root
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .filter_map(|argument| argument.get_long().map(|long| long.replace('-', "_")))
            .collect();
        assert!(globals.iter().any(|name| name == "env"));
        for tool in TOOLS {
            for mode in [WriteMode::Ticket, WriteMode::Unattended] {
                for parameter in tool.parameters(mode) {
                    let name = parameter.name;
                    assert!(!globals.iter().any(|global| global == name), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_tool_that_reads_names_operations_that_read() {
        for tool in TOOLS {
            for id in tool.operations {
                let is_read = id.operation().method == http::Method::GET;
                assert!(is_read || tool.reach == Reach::Write, "{}: {id}", tool.name);
            }
        }
    }

    #[test]
    fn a_tool_that_writes_does_so_once_and_touches_orders_only() {
        let writes: Vec<_> = TOOLS.iter().filter(|tool| tool.reach == Reach::Write).collect();
        assert_eq!(writes.len(), 4);
        for tool in writes {
            for (mode, own, other) in [
                (WriteMode::Ticket, TICKET, REQUEST_ID),
                (WriteMode::Unattended, REQUEST_ID, TICKET),
            ] {
                let has = |name| tool.parameters(mode).any(|known| known.name == name);
                assert!(has(own) && !has(other), "{}", tool.name);
            }
            let own = tool.operation().unwrap().operation();
            assert_ne!(own.method, http::Method::GET, "{}", tool.name);
            for id in tool.operations {
                let operation = id.operation();
                let is_read = operation.method == http::Method::GET;
                assert!(is_read || operation.tag == "orders", "{}: {id}", tool.name);
            }
        }
        for mode in [WriteMode::Ticket, WriteMode::Unattended] {
            let read = Tool::find("get_market").unwrap();
            assert!(read.parameters(mode).all(|known| ![TICKET, REQUEST_ID].contains(&known.name)));
        }
    }
}
