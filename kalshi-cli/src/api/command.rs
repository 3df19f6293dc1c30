//! `kalshi api`: every operation of the table, and any other path.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use kalshi_sdk::{
    Effect, Operation, OperationId, RawRequest,
    auth::Service,
    operation::{Access, Bucket, Lane, Parameter, ParameterKind, Place, RetrySafety},
};
use serde_json::value::RawValue;

use super::{
    Body, Call, TRADE_API,
    call::{Next, send},
    table::{Table, read_method, split_query},
};
use crate::{
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

/// Calls an operation by its name, or by method and path.
///
/// Parameters and bodies are checked by the exchange's document before anything is sent.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        kalshi api get_markets -p status=open -p limit=2\n  \
        kalshi api GET /markets/KXHIGHNY-26NOV23-T60\n  \
        kalshi api get_trades --all -o ndjson\n  \
        kalshi api create_order_group --body '{\"contracts_limit\": 10}' --dry-run"
)]
pub(crate) struct Command {
    #[command(flatten)]
    request: Request,
}

// No documentation comment: it would take the place of that of the commands that it is a part of.
#[derive(Args)]
pub(crate) struct Request {
    #[command(subcommand)]
    action: Option<Action>,
    /// The name of an operation (`get_markets`, `GetMarkets`), or METHOD and PATH.
    #[arg(value_name = "OPERATION", num_args = 1..=2)]
    operation: Vec<String>,
    /// A parameter of the path or the query; repeat it for lists.
    #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// The body: JSON, @FILE, or - for the standard input.
    #[arg(long, short, value_name = "JSON")]
    body: Option<String>,
    /// Send the body although it does not fit the schema.
    #[arg(long, requires = "body")]
    unchecked: bool,
    /// Fetch all pages of a list.
    #[arg(long, short, conflicts_with = "raw")]
    all: bool,
    /// Print the answer byte for byte as it came.
    #[arg(long)]
    raw: bool,
    /// The new file for the private key of the answer: an operation that makes one needs it.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Lists the operations.
    List {
        /// Only those of a family, such as market or portfolio.
        #[arg(long, short)]
        tag: Option<String>,
    },
    /// Shows an operation: parameters, body, cost, access.
    Show {
        /// The name of the operation, or METHOD PATH in one word.
        operation: String,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Command {
    /// Reports whether the command prints a table unless told otherwise.
    pub(crate) fn is_table(&self) -> bool {
        self.request.is_table()
    }

    pub(crate) async fn run(self, context: &Context) -> Outcome {
        self.request.run(context, &TRADE_API).await
    }
}

impl Request {
    /// Reports whether a table is printed unless told otherwise.
    pub(crate) fn is_table(&self) -> bool {
        self.action.is_some()
    }

    pub(crate) async fn run(self, context: &Context, table: &'static Table) -> Outcome {
        match &self.action {
            Some(Action::List { tag }) => list(context, table, tag.as_deref()),
            Some(Action::Show { operation }) => show(context, table.find(operation)?),
            None => self.call(context, table).await,
        }
    }

    async fn call(&self, context: &Context, table: &'static Table) -> Outcome {
        let (operation, from_path) = match self.operation.as_slice() {
            [name] => (table.find(name)?, Vec::new()),
            [method, path] => {
                let method = read_method(method)?;
                let (path, query) = split_query(path)?;
                match table.by_path(&method, path) {
                    Some((operation, mut given)) => {
                        given.extend(query);
                        (operation, given)
                    }
                    None => return self.undocumented(context, table, method, path, query).await,
                }
            }
            _ => return Err(Failure::usage("name an operation, or METHOD and PATH")),
        };
        let mut call = Call::of(operation);
        for (name, value) in from_path.iter().chain(&self.params) {
            call = call.with(name, value);
        }
        if let Some(argument) = &self.body {
            let body = Body::read(argument)?;
            call = call.with_body(if self.unchecked { body.unchecked() } else { body });
        }
        if self.all && operation.pagination.is_none() {
            return Err(Failure::usage(format!("{} has no pages: leave --all out", operation.id)));
        }
        if !context.global.dry_run {
            super::secret::check(operation, self.save.is_some(), self.raw)?;
        }
        if call.is_write() {
            if !call.may_send(context, &format!("{operation}")).await? {
                return Ok(());
            }
        } else if context.global.dry_run {
            return context.output.line(&call.describe(context).await?.pretty());
        }
        if let Some(file) = &self.save {
            let mut answer = call.send_saving(context, file).await?;
            if let Json::Object(members) = &mut answer {
                let file = Json::text(file.display().to_string());
                members.push(("private_key_file".to_owned(), file));
            }
            return context.output.document(&answer, &[]);
        }
        if self.raw {
            let text = call.send_text(context).await?;
            return crate::output::print(&text);
        }
        let Some(pagination) = operation.pagination else {
            return context.output.document(&call.send(context).await?, &[]);
        };
        let mut list = context.output.list(pagination.items, &[]);
        call.pages(context, |page| {
            list.page(page)?;
            Ok(if self.all { Next::Page { limit: None } } else { Next::Stop })
        })
        .await?;
        list.finish()
    }

    /// Calls a path that the exchange's document does not have.
    async fn undocumented(
        &self,
        context: &Context,
        table: &Table,
        method: Method,
        path: &str,
        query: Vec<(String, String)>,
    ) -> Outcome {
        if self.save.is_some() {
            return Err(Failure::usage("--save is for operations of the exchange's document"));
        }
        context.output.note(&format!("{method} {path} is not in the exchange's document"));
        let body = self.body.as_deref().map(Body::read).transpose()?;
        let query: Vec<_> = query.iter().chain(&self.params).collect();
        if context.global.dry_run {
            let base = context.environment().await?.url(table.service).into_owned();
            let request = Json::object([
                ("operation", Json::Null),
                ("environment", Json::text(context.target.name())),
                ("method", Json::text(method.as_str())),
                ("url", Json::text(format!("{base}{path}"))),
                (
                    "query",
                    Json::Object(
                        query
                            .iter()
                            .map(|(name, value)| (name.clone(), Json::text(value)))
                            .collect(),
                    ),
                ),
                ("body", body.as_ref().map_or(Json::Null, |body| body.json().clone())),
            ]);
            return context.output.line(&request.pretty());
        }
        let is_write = method != Method::GET;
        if is_write {
            super::ceiling::check_unknown(context, table, &format!("{method} {path}"))?;
            context.confirm(&format!("{method} {path}"), method.as_str()).await?;
        }
        let operation = stand_in(table, is_write);
        let mut request = to_unknown(context, table, method, path).await?.query(&query);
        if let Some(body) = body {
            let body = RawValue::from_string(body.text().to_owned())
                .map_err(|error| Failure::usage(format!("the body is not JSON: {error}")))?;
            request = request.json(&body);
        }
        let sent = send(request, operation).await;
        let text = sent.map_err(|failure| Failure { operation: None, ..failure })?;
        if self.raw || text.trim().is_empty() {
            return crate::output::print(&text);
        }
        let json = Json::parse(&text).map_err(|error| {
            let category = if is_write { Category::UnknownOutcome } else { Category::Response };
            let failure = Failure::new(category, format!("the answer cannot be read: {error}"));
            Failure { effect: Effect::Unknown, ..failure }
        })?;
        context.output.document(&json, &[])
    }
}

/// Returns a request to a path that is in no table, authenticated as far as there are credentials.
async fn to_unknown(
    context: &Context,
    table: &Table,
    method: Method,
    path: &str,
) -> Outcome<RawRequest> {
    if table.service == Service::Klear {
        return context.klear_raw(method, path).await;
    }
    // Public reads are not signed, and nothing says which these are: sign if there is a key.
    let client = match context.client().await {
        Ok(client) => client,
        Err(failure) if method != Method::GET || failure.category != Category::Credentials => {
            return Err(failure);
        }
        Err(_) => context.public_client().await?,
    };
    let request = client.raw(method, path);
    Ok(if client.credentials().is_none() { request.public() } else { request })
}

/// Returns an operation of the table with the same kind of effect, for the failure of a path that is
/// not in it.
fn stand_in(table: &Table, is_write: bool) -> &'static Operation {
    let mut operations = table.operations().iter();
    let found = operations.find(|operation| operation.only_reads() != is_write);
    found.unwrap_or_else(|| OperationId::CreateOrderV2.operation())
}

fn list(context: &Context, table: &Table, tag: Option<&str>) -> Outcome {
    let rows: Vec<Json> = table
        .operations()
        .iter()
        .filter(|operation| tag.is_none_or(|tag| operation.tag == tag))
        .map(|operation| {
            Json::object([
                ("id", Json::text(operation.id)),
                ("method", Json::text(operation.method.as_str())),
                ("path", Json::text(operation.path)),
                ("tag", Json::text(operation.tag)),
                ("access", Json::text(access(operation.access))),
                ("tokens", Json::number(operation.cost.tokens)),
                ("deprecated", Json::Bool(operation.deprecated)),
                ("summary", Json::text(operation.summary)),
            ])
        })
        .collect();
    if rows.is_empty() {
        let mut tags: Vec<_> = table.operations().iter().map(|operation| operation.tag).collect();
        tags.dedup();
        tags.sort_unstable();
        tags.dedup();
        let tag = tag.unwrap_or_default();
        let known = tags.join(", ");
        return Err(Failure::usage(format!("there is no family {tag:?}; there are {known}")));
    }
    context.output.rows(
        "operations",
        rows,
        &["id", "method", "path", "access", "tokens", "summary"],
    )
}

fn show(context: &Context, operation: &Operation) -> Outcome {
    if !context.output.is_table() {
        return context.output.document(&description(operation)?, &[]);
    }
    let mut text = format!("{}  {} {}\n", operation.id, operation.method, operation.path);
    let _ = writeln!(text, "{}", operation.summary);
    if operation.deprecated {
        text.push_str("Deprecated: the exchange means to remove it.\n");
    }
    if !operation.description.is_empty() && operation.description != operation.summary {
        let _ = write!(text, "\n{}\n", operation.description.trim());
    }
    let _ = write!(
        text,
        "\naccess  {}\ncost    {} {} tokens{}\nretry   {}\n",
        access(operation.access),
        operation.cost.tokens,
        bucket(operation.cost.bucket),
        match operation.cost.per_item {
            Some(items) => format!(" for each of {items}"),
            None => String::new(),
        },
        match operation.retry {
            RetrySafety::Safe => "safe".to_owned(),
            RetrySafety::WithKey(field) => format!("safe with {field} in the body"),
            _ => "read the state back first".to_owned(),
        }
    );
    if let Some(pagination) = operation.pagination {
        let _ = writeln!(text, "pages   {} (--all fetches every page)", pagination.items);
    }
    if !operation.parameters.is_empty() {
        text.push_str("\nparameters (-p NAME=VALUE)\n");
    }
    for parameter in operation.parameters {
        let must = if parameter.required { ", required" } else { "" };
        let _ = writeln!(text, "  {} ({}{must})", parameter.name, kind(parameter));
        for line in parameter.description.trim().lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
    if let Some(schema) = operation.body_schema() {
        text.push_str("\nbody (--body), as JSON Schema\n");
        let schema = Json::parse(schema).map_err(|error| Failure::local(error.to_string()))?;
        text.push_str(&schema.pretty());
        text.push('\n');
    }
    crate::output::print(&text)
}

/// Returns everything that the table says about an operation.
pub(crate) fn description(operation: &Operation) -> Outcome<Json> {
    let schema = match operation.body_schema() {
        Some(schema) => Json::parse(schema).map_err(|error| Failure::local(error.to_string()))?,
        None => Json::Null,
    };
    let parameters = operation.parameters.iter().map(|parameter| {
        Json::object([
            ("name", Json::text(parameter.name)),
            ("in", Json::text(if parameter.place == Place::Path { "path" } else { "query" })),
            ("required", Json::Bool(parameter.required)),
            ("kind", Json::text(kind(parameter))),
            ("description", Json::text(parameter.description)),
        ])
    });
    let cost = operation.cost;
    Ok(Json::object([
        ("id", Json::text(operation.id)),
        ("operation_id", Json::text(operation.operation_id)),
        ("method", Json::text(operation.method.as_str())),
        ("path", Json::text(operation.path)),
        ("tag", Json::text(operation.tag)),
        ("access", Json::text(access(operation.access))),
        ("deprecated", Json::Bool(operation.deprecated)),
        ("summary", Json::text(operation.summary)),
        ("description", Json::text(operation.description)),
        ("parameters", Json::List(parameters.collect())),
        ("body", schema),
        ("items", Json::optional(operation.pagination.map(|pagination| pagination.items))),
        (
            "cost",
            Json::object([
                ("bucket", Json::text(bucket(cost.bucket))),
                ("lane", Json::text(lane(cost.lane))),
                ("tokens", Json::number(cost.tokens)),
                ("per_item", Json::optional(cost.per_item)),
            ]),
        ),
        (
            "retry",
            Json::text(match operation.retry {
                RetrySafety::Safe => "safe".to_owned(),
                RetrySafety::WithKey(field) => format!("with_key:{field}"),
                _ => "reconcile".to_owned(),
            }),
        ),
    ]))
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Public => "public",
        Access::Signed => "signed",
        _ => "bearer",
    }
}

fn bucket(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::Read => "read",
        Bucket::Write => "write",
        _ => "own",
    }
}

fn lane(lane: Lane) -> &'static str {
    match lane {
        Lane::EventContracts => "event_contracts",
        #[cfg(feature = "klear")]
        Lane::Clearing => "clearing",
        _ => "perpetuals",
    }
}

fn kind(parameter: &Parameter) -> &'static str {
    match parameter.kind {
        ParameterKind::Text => "text",
        ParameterKind::Integer => "integer",
        ParameterKind::Number => "number",
        ParameterKind::Boolean => "boolean",
        ParameterKind::CommaSeparated => "texts joined by commas",
        ParameterKind::List => "list: repeat it",
        ParameterKind::DateTime => "time, RFC 3339",
        ParameterKind::UnixSeconds => "seconds since 1970",
        ParameterKind::UnixMillis => "milliseconds since 1970",
        _ => "other",
    }
}
