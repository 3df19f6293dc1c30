//! The curated commands: each is a few calls of the operation table.

pub(crate) mod exchange;

use std::fmt;

use clap::Args;
use kalshi_sdk::OperationId;

use crate::{
    api::{Call, Next},
    context::Context,
    failure::Outcome,
    json::Json,
};

/// The operations that each curated command uses.
pub(crate) const OPERATIONS_USED: &[(&str, &[OperationId])] = &[
    ("exchange status", &[OperationId::GetExchangeStatus]),
    ("order", &crate::order::OPERATIONS),
    ("doctor", &crate::doctor::OPERATIONS),
    ("chart", &crate::chart::OPERATIONS),
];

/// The part of a list that is fetched.
#[derive(Args, Clone, Debug)]
pub(crate) struct PageArgs {
    /// The most rows to fetch.
    #[arg(long, short, default_value_t = 100, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Fetch every row.
    #[arg(long, short, conflicts_with = "limit")]
    all: bool,
    /// Go on after this cursor, which the JSON form of the page before has.
    #[arg(long)]
    cursor: Option<String>,
}

/// Prints the rows of a list, page after page; a page has at most `largest` rows.
pub(crate) async fn list(
    context: &Context,
    call: Call,
    page: &PageArgs,
    largest: u32,
    columns: &[&str],
) -> Outcome {
    let Some(pagination) = call.operation.pagination else {
        return Err(crate::failure::Failure::local(format!("{} has no pages", call.operation.id)));
    };
    let limit = if page.all { u32::MAX } else { page.limit };
    let has_limit = call.takes("limit");
    let mut call = call.with_optional("cursor", page.cursor.as_ref());
    if has_limit {
        call.set("limit", limit.min(largest));
    }
    let mut list = context.output.list(pagination.items, columns);
    let mut more = false;
    call.pages(context, |page| {
        let cursor = page.get(pagination.cursor).and_then(Json::as_str);
        let goes_on = cursor.is_some_and(|cursor| !cursor.is_empty());
        list.page(page)?;
        let count = u32::try_from(list.count()).unwrap_or(u32::MAX);
        let left = limit.saturating_sub(count);
        if left == 0 {
            more = goes_on;
            return Ok(Next::Stop);
        }
        Ok(Next::Page { limit: has_limit.then_some(left.min(largest)) })
    })
    .await?;
    list.finish()?;
    if more {
        context.output.note(&format!("{limit} rows; there are more: --limit or --all"));
    }
    Ok(())
}

/// Prints one object: the member of the answer with this name, or the answer itself.
pub(crate) async fn show(
    context: &Context,
    call: Call,
    member: Option<&str>,
    columns: &[&str],
) -> Outcome {
    let mut answer = call.send(context).await?;
    let inner = member.and_then(|name| answer.take(name));
    context.output.document(&inner.unwrap_or(answer), columns)
}

/// Prints the rows of an answer that has no pages.
pub(crate) async fn rows(context: &Context, call: Call, items: &str, columns: &[&str]) -> Outcome {
    let answer = call.send(context).await?;
    let mut list = context.output.list(items, columns);
    list.page(answer)?;
    list.finish()
}

/// Carries out a write and prints its answer. One without a body says `done` in words.
pub(crate) async fn write(context: &Context, call: Call, about: impl fmt::Display) -> Outcome {
    let about = about.to_string();
    let Some(answer) = call.write(context, &about).await? else { return Ok(()) };
    match answer {
        Json::Object(members) if members.is_empty() => {
            context.output.note(&format!("done: {about}"));
            if context.output.is_table() {
                return Ok(());
            }
            context.output.document(&Json::Object(Vec::new()), &[])
        }
        answer => context.output.document(&answer, &[]),
    }
}
