//! Changes of orders that exist: `amend`, `decrease`, `cancel` and `cancel-all`.
//!
//! An outcome that an answer leaves unknown is read back from the order itself.

use std::time::Duration;

use kalshi_sdk::streams::Outcome as Side;
use kalshi_sdk::{
    Client, Count, Dollars, Effect, Error, OperationId, PriceGrid, UnixSeconds,
    auth::{Clock as _, SystemClock},
    types::{
        AmendOrderV2Request, DecreaseOrderV2Request, Order, OrderStatus, SelfTradePreventionType,
        TimeInForce,
    },
};
use kalshi_trade::{
    direction::{Action, BookTerms, Terms},
    tick::snap,
};

use super::{
    Amend, Cancel, CancelAll, Decrease, OwnPrefix,
    cancels::Cancels,
    confirm::Consent,
    evidence::{self, Change, Ending, Evidence},
    look::{self, failed, is_over},
    place::check_ceiling,
    preview::{self, Asked, Preview, Seen, is_confirmed},
    terms,
};
use crate::{
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
    under_way::UnderWay,
};

/// The time for which an order is read back after an answer was lost: reads trail the exchange.
const READ_BACK: Duration = Duration::from_secs(10);

/// Reads the order of a command, and fails if it cannot be changed.
async fn open_order(client: &Client, order_id: &str) -> Outcome<Order> {
    let order = look::order(client, order_id).await?;
    if is_over(&order) {
        return Err(Failure::new(
            Category::Rejected,
            format!("the order {order_id} is over ({}); nothing was sent", order.status),
        ));
    }
    Ok(order)
}

/// A change of an order that was looked at, and can be sent.
pub(crate) struct PreparedAmend {
    client: Client,
    pub(crate) order: Order,
    pub(crate) body: AmendOrderV2Request,
    /// The preview of what will rest of the order.
    pub(crate) preview: Preview,
}

impl PreparedAmend {
    fn url(&self) -> String {
        let (base, id) = (self.client.base_url(), &self.order.order_id);
        format!("{base}/portfolio/events/orders/{id}/amend")
    }

    /// Returns the lines that a person reads before saying yes.
    pub(crate) fn text(&self) -> String {
        format!(
            "{}  changes      {} filled; {} × YES {} → {} × YES {}\n",
            self.preview.text(),
            self.order.fill_count_fp,
            self.order.remaining_count_fp,
            self.order.yes_price_dollars,
            self.preview.count,
            self.body.price
        )
    }

    /// Sends the change, and returns the order as the exchange has it.
    ///
    /// # Errors
    ///
    /// The exchange refused it; or its answer was lost, and the order does not show the change.
    ///
    /// # Cancellation
    ///
    /// The change may have been carried out: the order shows it.
    pub(crate) async fn submit(self) -> Outcome<Json> {
        let Self { client, order, body, .. } = self;
        let (price, total, expires) = (body.price, body.count, body.expiration_time);
        let _mark = UnderWay::new(get_command(&order.order_id));
        let request = client.amend_order_v2().order_id(&*order.order_id).body(body);
        let sent = request.subaccount(order.subaccount_number).send().await.map(|_| ());
        let change = Change::Amend { price, total, expires };
        finish(&client, &order, OperationId::AmendOrderV2, sent, change).await
    }
}

/// Changes price, count or expiry of an order.
pub(crate) async fn amend(context: &Context, args: &Amend) -> Outcome {
    let prepared = prepare_amend(context, args).await?;
    super::tell(context, &prepared.text());
    let preview = &prepared.preview;
    if context.global.dry_run {
        let body = super::json(&prepared.body)?;
        let preview = preview.to_json();
        return super::print_request(context, "POST", &prepared.url(), body, Some(preview));
    }
    let consent = Consent::new(context.asks(), context.global.yes);
    let (count, price) = (preview.count, preview.price);
    consent.ask(&preview.confirmation(), move |typed| is_confirmed(typed, count, price)).await?;
    super::print(context, &prepared.submit().await?)
}

/// Checks a change and reads what it would be. Sends nothing.
///
/// # Errors
///
/// Nothing would change, the order is over, or what rests can cost more than a ceiling.
pub(crate) async fn prepare_amend(context: &Context, args: &Amend) -> Outcome<PreparedAmend> {
    let now = SystemClock.now();
    let price = match (&args.yes_price, &args.no_price) {
        (Some(price), None) => Some((Side::Yes, terms::price(price).map_err(Failure::usage)?)),
        (None, Some(price)) => Some((Side::No, terms::price(price).map_err(Failure::usage)?)),
        _ => None,
    };
    let count = args.count.as_deref().map(terms::count).transpose().map_err(Failure::usage)?;
    let expires = match args.expires.as_deref() {
        None => None,
        Some("never") => Some(UnixSeconds::from_seconds(0)),
        Some(text) => Some(terms::expiration(text, now).map_err(Failure::usage)?),
    };
    if price.is_none() && count.is_none() && expires.is_none() {
        return Err(Failure::usage(
            "nothing to change: give --yes-price or --no-price, --count, or --expires",
        ));
    }
    let client = context.client().await?;
    let order = open_order(&client, &args.order_id).await?;
    let subaccount = order.subaccount_number.and_then(|number| u8::try_from(number).ok());
    let seen = look::look(&client, &order.ticker, &order.book_side, subaccount, now).await?;
    let yes_price = new_price(&order, &seen, price)?;
    let total = count.unwrap_or(order.initial_count_fp);
    let remaining = total.checked_sub(order.fill_count_fp).filter(|rest| rest.is_positive());
    let Some(remaining) = remaining else {
        return Err(Failure::usage(format!(
            "{total} is the total, and {} are filled: nothing would be left; use `kalshi order \
             cancel`",
            order.fill_count_fp
        )));
    };
    let (asked, seen) = anew(&order, seen, remaining, yes_price, expires)?;
    let preview = preview::preview(&asked, &seen, &context.target.in_words());
    let preview = preview.map_err(Failure::usage)?;
    check_ceiling(&preview, args.max_cost, "--max-cost")?;
    check_ceiling(&preview, context.profile.max_order_cost, "max_order_cost of the profile")?;
    let mut body: AmendOrderV2Request = AmendOrderV2Request::builder()
        .ticker(&*order.ticker)
        .side(order.book_side.clone())
        .count(total)
        .price(yes_price)
        .exchange_index(order.exchange_index.clone())
        .build()
        .map_err(|error| Failure::usage(format!("the change cannot be sent: {error}")))?;
    body.expiration_time = expires;
    Ok(PreparedAmend { client, order, body, preview })
}

/// Returns the YES price that is asked for, on the grid of the market.
fn new_price(order: &Order, seen: &Seen, price: Option<(Side, Dollars)>) -> Outcome<Dollars> {
    let Some((outcome, price)) = price else { return Ok(order.yes_price_dollars) };
    let terms = Terms { outcome, action: Action::Buy, price };
    let yes = terms.to_book().ok_or_else(|| Failure::usage("the price is out of range"))?;
    let grid = PriceGrid::new(seen.market.price_ranges.clone())
        .map_err(|error| Failure::local(format!("the market's price grid: {error}")))?;
    snap(&grid, order.book_side.clone(), yes.price, Dollars::CENT)
        .map_err(|error| Failure::usage(format!("{error} (prices of YES)")))
}

/// Returns what rests of an order after a change as an order of its own, for its preview.
fn anew(
    order: &Order,
    mut seen: Seen,
    remaining: Count,
    yes_price: Dollars,
    expires: Option<UnixSeconds>,
) -> Outcome<(Asked, Seen)> {
    let book = BookTerms { side: order.book_side.clone(), price: yes_price };
    let terms = book
        .to_terms(Action::Buy)
        .ok_or_else(|| Failure::usage("the side of the order is not known"))?;
    // The order itself does not close what it is going to close anew.
    let others = seen.resting.checked_sub(order.remaining_count_fp).unwrap_or_default();
    seen.resting = others.max(Count::ZERO);
    let asked = Asked {
        terms,
        count: remaining,
        time_in_force: TimeInForce::GoodTillCanceled,
        self_trade: SelfTradePreventionType::TakerAtCross,
        post_only: false,
        reduce_only: false,
        cancel_on_pause: false,
        expires: expires.filter(|at| at.as_seconds() > 0),
        group: None,
        subaccount: order.subaccount_number.and_then(|number| u8::try_from(number).ok()),
        client_id: order.client_order_id.clone(),
    };
    Ok((asked, seen))
}

/// Returns the expiry of an order in seconds, 0 for none.
fn expires_at(order: &Order) -> UnixSeconds {
    UnixSeconds::from_seconds(order.expiration_time.map_or(0, |at| at.timestamp()))
}

/// Returns the count that is to rest of an order, of which `rest` rests: less by a count, or another one.
pub(crate) fn remaining(rest: Count, by: Option<&str>, to: Option<&str>) -> Outcome<Count> {
    let left = match (by, to) {
        (Some(by), None) => {
            let by = terms::count(by).map_err(Failure::usage)?;
            rest.checked_sub(by).filter(|left| !left.is_negative())
        }
        (None, Some(to)) => {
            let to: Count =
                to.parse().map_err(|error| Failure::usage(format!("count \"{to}\": {error}")))?;
            Some(to).filter(|to| !to.is_negative() && *to < rest)
        }
        _ => None,
    };
    left.ok_or_else(|| Failure::usage(format!("{rest} rest: that is not less of it")))
}

/// Takes contracts off what rests of an order.
pub(crate) async fn decrease(context: &Context, args: &Decrease) -> Outcome {
    let client = context.client().await?;
    let order = open_order(&client, &args.order_id).await?;
    let rest = order.remaining_count_fp;
    let to = remaining(rest, args.by.as_deref(), args.to.as_deref())?;
    // What rests is named, not what is taken: sent twice, it takes nothing twice.
    let mut body = DecreaseOrderV2Request::builder()
        .build()
        .map_err(|error| Failure::usage(format!("the change cannot be sent: {error}")))?;
    body.reduce_to = Some(to);
    body.exchange_index.clone_from(&order.exchange_index);
    body.market_ticker = Some(order.ticker.clone());
    if context.global.dry_run {
        let path =
            format!("{}/portfolio/events/orders/{}/decrease", client.base_url(), order.order_id);
        return super::print_request(context, "POST", &path, super::json(&body)?, None);
    }
    ask_if_told(context, "decrease").await?;
    let _mark = UnderWay::new(get_command(&order.order_id));
    let request = client.decrease_order_v2().order_id(&*order.order_id).body(body);
    let sent = request.subaccount(order.subaccount_number).send().await.map(|_| ());
    let change = Change::Decrease { to };
    let done = finish(&client, &order, OperationId::DecreaseOrderV2, sent, change).await?;
    super::print(context, &done)
}

fn get_command(order_id: &str) -> String {
    format!("kalshi order get {order_id}")
}

/// Returns the part of an order in which a change of it shows.
fn shown(order: &Order) -> evidence::Terms {
    let ending = match order.status {
        OrderStatus::Executed => Some(Ending::Executed),
        _ if is_over(order) => Some(Ending::Other),
        _ => None,
    };
    evidence::Terms {
        price: order.yes_price_dollars,
        filled: order.fill_count_fp,
        remaining: order.remaining_count_fp,
        initial: Some(order.initial_count_fp),
        expires: expires_at(order),
        ending,
    }
}

/// Reads the order back after a change, until it shows what was asked for or is over.
///
/// # Errors
///
/// The change was refused; or its answer was lost, and the order does not show it.
async fn finish(
    client: &Client,
    before: &Order,
    operation: OperationId,
    sent: Result<(), Error>,
    change: Change,
) -> Outcome<Json> {
    let order_id = &*before.order_id;
    let error = match sent {
        Ok(()) => None,
        Err(error) if error.effect() == Effect::Unknown => Some(error),
        Err(error) => return Err(failed(operation)(error)),
    };
    let evidence = |order: &Order| change.evidence(&shown(before), &shown(order));
    let is_final = |order: &Order| evidence(order) != Evidence::NotShown;
    let read = look::order_when(client, order_id, READ_BACK, is_final).await;
    match (read.map(|(order, _)| (evidence(&order), order)), error) {
        (Ok((Evidence::Done, order)), _) | (Ok((_, order)), None) => super::json(&order),
        // It was carried out: that it cannot be read does not change that.
        (Err(_), None) => Ok(Json::object([
            ("order_id", Json::text(order_id)),
            ("status", Json::text("accepted")),
        ])),
        (read, Some(error)) => {
            let mut failure = failed(operation)(error).with_next(get_command(order_id));
            if matches!(read, Ok((Evidence::Over, _))) {
                failure.message.push_str(evidence::OVER);
            }
            Err(failure)
        }
    }
}

/// Cancels orders by their ids.
pub(crate) async fn cancel(context: &Context, args: &Cancel) -> Outcome {
    let client = context.client().await?;
    let mut orders = Vec::new();
    for id in &args.order_ids {
        orders.push(look::order(&client, id).await?);
    }
    if !context.global.dry_run {
        ask_if_told(context, "cancel").await?;
    }
    cancel_orders(context, &client, orders).await
}

/// Cancels an order by its id. What is over already is as wanted.
///
/// # Errors
///
/// It was refused; or its outcome is not known, and the order still rests.
#[cfg(feature = "tui")]
pub(crate) async fn cancel_by_id(client: &Client, order_id: &str) -> Outcome {
    let order = look::order(client, order_id).await?;
    cancel_one(client, &order).await.map(|_| ())
}

/// Asks with `--ask` before something that only takes back, which is not asked about otherwise.
async fn ask_if_told(context: &Context, line: &'static str) -> Outcome {
    Consent::new(context.global.ask, context.global.yes).ask(line, move |typed| typed == line).await
}

/// Cancels orders one by one, and goes on after one that failed. Reports the worst failure.
async fn cancel_orders(context: &Context, client: &Client, orders: Vec<Order>) -> Outcome {
    if context.global.dry_run {
        let requests = orders.iter().map(|order| {
            Json::object([
                ("method", Json::text("DELETE")),
                ("order_id", Json::text(&*order.order_id)),
                ("market_ticker", Json::text(&*order.ticker)),
            ])
        });
        return context.output.rows("requests", requests.collect(), &[]);
    }
    cancel_each(context, client, orders).await.finish(context)
}

/// Cancels orders one by one, and goes on after one that failed. Returns a row for each, and the
/// worst failure.
///
/// # Cancellation
///
/// Some orders are canceled, and the one on its way may be.
pub(crate) async fn cancel_each(context: &Context, client: &Client, orders: Vec<Order>) -> Cancels {
    let mut cancels = Cancels::default();
    let total = orders.len();
    for (index, order) in orders.into_iter().enumerate() {
        if total > 10 && index % 10 == 0 {
            super::tell(context, &format!("{index} of {total} canceled\n"));
        }
        let result = cancel_one(client, &order).await;
        cancels.add(context, &order.order_id, Some(&order.ticker), result);
    }
    cancels
}

/// Cancels an order: what is over already is as wanted.
async fn cancel_one(client: &Client, order: &Order) -> Outcome<&'static str> {
    if is_over(order) {
        return Ok("was over");
    }
    let again = format!("kalshi order cancel {}", order.order_id);
    let _mark = UnderWay::new(again.clone());
    let request = client.cancel_order_v2().order_id(&*order.order_id);
    let request = request.market_ticker(&*order.ticker).subaccount(order.subaccount_number);
    let request = request.exchange_index(order.exchange_index.as_deref().copied());
    let Err(error) = request.send().await else { return Ok("canceled") };
    let may_be_done = error.effect() == Effect::Unknown || error.is_not_found();
    if !may_be_done {
        return Err(failed(OperationId::CancelOrderV2)(error));
    }
    let read = look::order_when(client, &order.order_id, READ_BACK, is_over).await;
    if matches!(read, Ok((_, true))) {
        return Ok("canceled");
    }
    Err(failed(OperationId::CancelOrderV2)(error).with_next(again))
}

/// Cancels every order of event contracts: of a market or of these commands, or all of the account.
pub(crate) async fn cancel_all(context: &Context, args: &CancelAll) -> Outcome {
    let client = context.client().await?;
    let is_everything = args.market.is_none() && !args.mine;
    let is_ours = |order: &Order| !args.mine || order.client_order_id.starts_with(OwnPrefix::TEXT);
    let mut orders = resting(&client, args.market.as_deref()).await?;
    orders.retain(is_ours);
    super::tell(
        context,
        &format!(
            "  environment  {}\n  cancels      {} resting orders of event contracts{}; orders \
             of perpetual futures stay\n",
            context.target.in_words(),
            orders.len(),
            if is_everything { " of every subaccount, and those placed meanwhile" } else { "" }
        ),
    );
    if !context.global.dry_run {
        let consent = Consent::new(context.asks(), context.global.yes);
        consent.ask("cancel all", |typed| typed == "cancel all").await?;
    }
    if !is_everything {
        return cancel_orders(context, &client, orders).await;
    }
    if context.global.dry_run {
        let url = format!("{}/portfolio/events/orders", client.base_url());
        return super::print_request(context, "DELETE", &url, Json::Null, None);
    }
    let done = cancel_all_at_once(&client, orders.len()).await?;
    super::tell(context, "orders placed within the next minute may be canceled, too\n");
    context.output.document(&done, &[])
}

/// Cancels every order of event contracts of the account, in one request.
///
/// # Errors
///
/// The exchange refused it, or its answer was lost: the orders may be canceled.
///
/// # Cancellation
///
/// The orders may be canceled.
pub(crate) async fn cancel_all_at_once(client: &Client, resting_before: usize) -> Outcome<Json> {
    let next = "kalshi order list --status resting, then cancel-all again";
    let _mark = UnderWay::new(next);
    if let Err(error) = client.cancel_all_orders().send().await {
        return Err(failed(OperationId::CancelAllOrders)(error).with_next(next));
    }
    Ok(Json::object([
        ("result", Json::text("canceled")),
        ("resting_before", Json::number(resting_before)),
    ]))
}

/// Returns the orders that rest, of the account or of a market.
///
/// # Errors
///
/// A read failed.
pub(crate) async fn resting(client: &Client, ticker: Option<&str>) -> Outcome<Vec<Order>> {
    let request = client.get_orders().status("resting").limit(1_000_u16);
    let orders = request.ticker(ticker).all().await;
    orders.map_err(failed(OperationId::GetOrders))
}
