//! The tools that read.

use http::Method;
use kalshi_sdk::{OPERATIONS, Operation, OperationId, operation::Access};

use super::{
    answer::{Answer, Next, Rows},
    arguments::Arguments,
    tools::Tool,
};
use crate::{
    api::{Call, TRADE_API, description},
    args::Moment,
    command::{Interval, market},
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
};

/// The most pages of events that one call of `search_markets` walks; the cursor goes on.
const SEARCHED_PAGES: usize = 10;

/// The most markets of one call of `search_markets`, before it stops to walk.
const FOUND: usize = 50;

/// The most operations of `find_operations`.
const LISTED: usize = 40;

/// Runs a tool that reads.
pub(super) async fn run(context: &Context, tool: &Tool, arguments: &Arguments) -> Outcome<Answer> {
    match tool.name {
        "find_operations" => Ok(operations(arguments)),
        "describe_operation" => {
            Ok(Answer::Document(description(TRADE_API.find(arguments.required("operation"))?)?))
        }
        "call_read" => first_page(context, call_read(arguments)?).await,
        "search_markets" => {
            let words = market::search_words(arguments.required("text"));
            search(context, market::search(), words).await
        }
        "get_market" => {
            market::fetch(context, arguments.required("ticker")).await.map(Answer::Document)
        }
        "get_book" => book(context, arguments).await,
        "get_trades" => {
            let call = Call::new(OperationId::GetTrades)
                .with_optional("ticker", arguments.text("ticker"))
                .with("limit", arguments.text("limit").unwrap_or("100"));
            first_page(context, spanned(call, context, arguments)?).await
        }
        "get_candles" => candles(context, arguments).await,
        "get_portfolio" => portfolio(context, arguments).await,
        "get_orders" => {
            let call = Call::new(OperationId::GetOrders)
                .with_optional("ticker", arguments.text("ticker"))
                .with_optional("status", arguments.text("status"))
                .with_optional("subaccount", arguments.text("subaccount"))
                .with("limit", arguments.text("limit").unwrap_or("100"));
            first_page(context, call).await
        }
        "get_fills" => {
            let call = Call::new(OperationId::GetFills)
                .with_optional("ticker", arguments.text("ticker"))
                .with_optional("order_id", arguments.text("order_id"))
                .with_optional("subaccount", arguments.text("subaccount"))
                .with("limit", arguments.text("limit").unwrap_or("100"));
            first_page(context, spanned(call, context, arguments)?).await
        }
        "explain_order" => {
            let (action, order) = super::orders::order(arguments)?;
            crate::order::explain(context, action, &order).await.map(Answer::Document)
        }
        "exchange_status" => first_page(context, Call::new(OperationId::GetExchangeStatus)).await,
        "limits" => first_page(context, Call::new(OperationId::GetAccountApiLimits)).await,
        name => Err(Failure::usage(format!("{name} does not read"))),
    }
}

/// Fetches what comes after an answer.
pub(super) async fn go_on(context: &Context, next: Next) -> Outcome<Answer> {
    match next {
        Next::Page(call) => first_page(context, *call).await,
        Next::Search(call, words) => search(context, *call, words).await,
    }
}

/// Reports whether a model may call an operation: one that reads, and not about keys, money that is
/// moved, usage levels, or the customers of a clearing member.
pub(super) fn may_read(operation: &Operation) -> bool {
    let is_denied = matches!(operation.tag, "api-keys" | "fcm")
        || ["api_key", "fcm", "transfer", "deposit", "withdrawal", "usage_level"]
            .iter()
            .any(|part| operation.path.contains(part));
    operation.method == Method::GET
        && !is_denied
        && !operation.secret
        && operation.access != Access::Bearer
}

fn operations(arguments: &Arguments) -> Answer {
    let words: Vec<String> = market::search_words(arguments.text("text").unwrap_or_default());
    let tag = arguments.text("tag");
    let is_it = |operation: &&Operation| {
        let text = format!("{} {} {}", operation.id, operation.path, operation.summary);
        let text = text.to_lowercase();
        tag.is_none_or(|tag| operation.tag == tag) && words.iter().all(|word| text.contains(word))
    };
    let found: Vec<_> = OPERATIONS.iter().filter(is_it).collect();
    let rows = found.iter().take(LISTED).map(|operation| {
        Json::object([
            ("operation", Json::text(operation.id)),
            ("tag", Json::text(operation.tag)),
            ("readable", Json::Bool(may_read(operation))),
            ("summary", Json::text(operation.summary)),
        ])
    });
    Answer::Rows(Rows {
        beside: vec![("found".to_owned(), Json::number(found.len()))],
        items: "operations".to_owned(),
        list: rows.collect(),
        next: None,
    })
}

/// Returns the call of an operation that a model named. Its method is that of the table.
fn call_read(arguments: &Arguments) -> Outcome<Call> {
    let operation = TRADE_API.find(arguments.required("operation"))?;
    if !may_read(operation) {
        return Err(Failure::usage(format!(
            "{} is not for call_read: that reads, and not of keys, transfers, deposits, usage \
             levels and FCM; nothing was sent",
            operation.id
        )));
    }
    let mut call = Call::of(operation);
    if let Some(Json::Object(parameters)) = arguments.get("parameters") {
        for (name, value) in parameters {
            match value {
                Json::List(values) => {
                    for value in values {
                        call = call.with(name, value.cell());
                    }
                }
                value => call = call.with(name, value.cell()),
            }
        }
    }
    Ok(call)
}

/// Fetches the answer of a call: the first page, if it has pages.
async fn first_page(context: &Context, mut call: Call) -> Outcome<Answer> {
    let mut answer = call.send(context).await?;
    let Some(pagination) = call.operation.pagination else { return Ok(Answer::Document(answer)) };
    let rows = match answer.take(pagination.items) {
        Some(Json::List(rows)) => rows,
        _ => Vec::new(),
    };
    let cursor = match answer.take(pagination.cursor) {
        Some(Json::Text(cursor)) if !cursor.is_empty() => Some(cursor),
        _ => None,
    };
    let beside = match answer {
        Json::Object(members) => members,
        _ => Vec::new(),
    };
    let next = cursor.map(|cursor| {
        call.set("cursor", cursor);
        Next::Page(Box::new(call))
    });
    Ok(Answer::Rows(Rows { beside, items: pagination.items.to_owned(), list: rows, next }))
}

/// Walks a part of the open events.
async fn search(context: &Context, mut call: Call, words: Vec<String>) -> Outcome<Answer> {
    if words.is_empty() {
        return Err(Failure::usage("search_markets: text has no words"));
    }
    let mut rows = Vec::new();
    let mut next = None;
    for _ in 0..SEARCHED_PAGES {
        let mut page = call.send(context).await?;
        let cursor = page.take("cursor");
        rows.extend(market::matches(&mut page, &words));
        let Some(Json::Text(cursor)) = cursor.filter(|cursor| *cursor != Json::text("")) else {
            next = None;
            break;
        };
        call.set("cursor", cursor);
        next = Some(Next::Search(Box::new(call.clone()), words.clone()));
        if rows.len() >= FOUND {
            break;
        }
    }
    Ok(Answer::Rows(Rows { beside: Vec::new(), items: "markets".to_owned(), list: rows, next }))
}

async fn book(context: &Context, arguments: &Arguments) -> Outcome<Answer> {
    let ticker = arguments.required("ticker");
    let depth = arguments.text("depth").and_then(|depth| depth.parse().ok()).unwrap_or(20);
    let book = market::fetch_book(context, ticker, Some(depth)).await?;
    Ok(Answer::Rows(Rows {
        beside: vec![("ticker".to_owned(), Json::text(ticker))],
        items: "levels".to_owned(),
        list: market::levels(ticker, &book)?,
        next: None,
    }))
}

async fn candles(context: &Context, arguments: &Arguments) -> Outcome<Answer> {
    let ticker = arguments.required("ticker");
    let since = arguments.time("since")?.unwrap_or(Moment::FromNow(-86_400));
    let period = arguments.text("period").unwrap_or("1h");
    let interval = Interval::new(period, since, arguments.time("until")?);
    Ok(Answer::Rows(Rows {
        beside: vec![("ticker".to_owned(), Json::text(ticker))],
        items: "candlesticks".to_owned(),
        list: market::fetch_candles(context, ticker, &interval).await?,
        next: None,
    }))
}

async fn portfolio(context: &Context, arguments: &Arguments) -> Outcome<Answer> {
    let subaccount = arguments.text("subaccount");
    let balance = Call::new(OperationId::GetBalance).with_optional("subaccount", subaccount);
    let balance = balance.send(context).await?;
    let positions = Call::new(OperationId::GetPositions)
        .with_optional("subaccount", subaccount)
        .with("limit", arguments.text("limit").unwrap_or("100"));
    let mut answer = first_page(context, positions).await?;
    if let Answer::Rows(rows) = &mut answer {
        rows.beside.insert(0, ("balance".to_owned(), balance));
    }
    Ok(answer)
}

/// Adds a span of time to a call.
fn spanned(call: Call, context: &Context, arguments: &Arguments) -> Outcome<Call> {
    let now = context.now();
    let (since, until) = (arguments.time("since")?, arguments.time("until")?);
    Ok(call
        .with_optional("min_ts", since.map(|at| at.seconds(now)))
        .with_optional("max_ts", until.map(|at| at.seconds(now))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_read_reaches_no_write_and_nothing_that_is_denied() {
        let readable: Vec<_> = OPERATIONS.iter().filter(|operation| may_read(operation)).collect();
        assert!(readable.len() > 50, "{}", readable.len());
        for operation in &readable {
            assert_eq!(operation.method, Method::GET, "{}", operation.id);
            for part in ["key", "fcm", "transfer", "deposit", "withdraw", "usage_level"] {
                assert!(!operation.id.contains(part), "{}", operation.id);
                assert!(!operation.path.contains(part), "{}", operation.path);
            }
        }
        for id in [
            "get_api_keys",
            "get_fcm_orders",
            "get_fcm_event_contract_daily_cap",
            "get_intra_exchange_instance_transfers",
            "get_subaccount_transfers",
            "get_deposits",
            "get_withdrawals",
            "get_account_api_usage_level_volume_progress",
            "create_order_v2",
            "cancel_all_orders",
        ] {
            let operation = Operation::by_id(id).unwrap_or_else(|| panic!("{id}"));
            assert!(!may_read(operation), "{id}");
        }
        for id in ["get_markets", "get_fills", "get_balance", "get_historical_markets"] {
            assert!(may_read(Operation::by_id(id).unwrap()), "{id}");
        }
    }
}
