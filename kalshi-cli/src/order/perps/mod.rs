//! Orders of perpetual futures: placed once, changed and canceled, by the same machine and journals.

mod cancel;
mod change;
mod preview;

use std::time::Duration;

use clap::{Args, ValueEnum};
use kalshi_sdk::{
    Client, Count, Dollars, Effect,
    auth::{Clock as _, SystemClock},
    perps::{
        OperationId, OrderState,
        types::{
            BookSide, CreateMarginOrderRequest, MarginOrder, SelfTradePreventionType, TimeInForce,
        },
    },
};
use kalshi_trade::{
    journal::{ClientOrderId, Journal as _, MemoryJournal},
    placement::{PlacementState, perps::is_market_version_refusal},
};

use self::preview::{Preview, Seen};
pub(crate) use self::{
    cancel::{CANCELS, CANCELS_ALL, Cancel, CancelAll, cancel, cancel_all},
    change::{AMENDS, Amend, DECREASES, Decrease, amend, decrease},
};
use super::{
    Tif,
    confirm::Consent,
    journals::{Journals, state_folder},
    place::{
        SEND_WITHIN, failure, may_exist, outcome, settle_command_of, start, unlisted,
        unsettled_failure,
    },
    terms,
};
use crate::{
    args::duration,
    context::{Context, Target},
    failure::{Category, Failure, Outcome},
    json::Json,
};

/// The operations of `perps order bid` and `ask`.
pub(crate) const PLACES: [OperationId; 8] = [
    OperationId::CreateMarginOrder,
    OperationId::GetMarginExchangeStatus,
    OperationId::GetMarginFeeTiers,
    OperationId::GetMarginMarket,
    OperationId::GetMarginMarketOrderbook,
    OperationId::GetMarginOrder,
    OperationId::GetMarginOrders,
    OperationId::GetMarginPositions,
];

/// The operations of `perps order settle`.
pub(crate) const SETTLES: [OperationId; 2] =
    [OperationId::GetMarginOrder, OperationId::GetMarginOrders];

/// The columns of an order in a table.
const COLUMNS: [&str; 8] = [
    "order_id",
    "ticker",
    "side",
    "price",
    "remaining_count",
    "fill_count",
    "last_update_reason",
    "client_order_id",
];

/// The number of looks for an order after a write, and the pause after each: reads trail the
/// exchange.
const LOOKS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(150);

/// Rows of a page of orders: the most that a list gives.
const LIMIT: u16 = 10_000;

/// An order to place.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct NewOrder {
    /// The ticker of the market.
    ticker: String,
    /// The number of contracts and the limit price in dollars per contract: `2 @ 30000.25`.
    #[arg(value_name = "COUNT @ PRICE", num_args = 1..=3, required = true)]
    terms: Vec<String>,
    /// The time that it may wait: until canceled, none, or none and only as a whole.
    #[arg(long, value_enum, default_value = "gtc")]
    tif: Tif,
    /// Only as a maker: an order that would trade at once is canceled by the exchange.
    #[arg(long)]
    post_only: bool,
    /// Only as far as it makes the position smaller (with --tif ioc or fok).
    #[arg(long)]
    reduce_only: bool,
    /// Cancel it when trading pauses.
    #[arg(long)]
    cancel_on_pause: bool,
    /// When it meets an own order, cancel that one and go on; else this one stops.
    #[arg(long)]
    maker_first: bool,
    /// When it expires: 90s, 10m, 2h, 1d, or a time such as 2026-12-31T23:59:00Z.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The id of an order group.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// The subaccount; the primary unless set.
    #[arg(long, value_name = "N")]
    subaccount: Option<u32>,
    /// The client order id, up to 64 characters; the same id never places two orders.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The most that price × count and the fee may come to, in dollars. A loss on margin can be larger.
    #[arg(long, value_name = "DOLLARS", value_parser = terms::amount)]
    max_cost: Option<Dollars>,
    /// The time to find out what became of it if the answer is lost.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90s")]
    settle_within: Duration,
}

/// A side of the book, as the name of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    Bid,
    Ask,
}

impl Side {
    fn to_wire(self) -> BookSide {
        match self {
            Self::Bid => BookSide::Bid,
            Self::Ask => BookSide::Ask,
        }
    }
}

/// An order whose outcome is not known.
#[derive(Args)]
pub(crate) struct Settle {
    /// Its client order id.
    client_id: String,
    /// The time to find out what became of it.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90s")]
    settle_within: Duration,
}

/// Places an order, or shows what it would be.
pub(crate) async fn place(context: &Context, side: Side, args: &NewOrder) -> Outcome {
    let client = context.client().await?;
    let mut request = request(side, args)?;
    let client_id: ClientOrderId = request
        .client_order_id
        .parse()
        .map_err(|error| Failure::usage(format!("--client-id: {error}")))?;
    let seen = look(&client, &args.ticker, args.subaccount).await?;
    request.market_version = Some(seen.market.market_version);
    let preview = Preview::new(request, seen, context.target.in_words())?;
    preview.check_ceiling(args.max_cost, "--max-cost")?;
    preview.check_ceiling(context.profile.max_order_cost, "max_order_cost of the profile")?;
    super::tell(context, &preview.text());
    if context.global.dry_run {
        let url = format!("{}/margin/orders", client.base_url());
        let body = super::json(&preview.request)?;
        return super::print_request(context, "POST", &url, body, Some(preview.to_json()));
    }
    let journals = journals(context, &client)?;
    // Before the question: a person who says yes should not have to say it twice.
    check_unsettled(journals.as_ref(), &args.ticker)?;
    let consent = Consent::new(context.asks(), context.global.yes);
    let line = preview.confirmation();
    let expected = line.clone();
    consent.ask(&line, move |typed| typed.trim() == expected).await?;
    check_unsettled(journals.as_ref(), &args.ticker)?;
    let placements = match &journals {
        Some(journals) => start(&client, journals.open(&client_id)?)?,
        None => start(&client, MemoryJournal::new(super::random()?, SystemClock.now()))?,
    };
    let Preview { request, seen, .. } = preview;
    let placement = placements
        .perps()
        .place_within(request.clone(), &seen.market, SEND_WITHIN)
        .map_err(|error| Failure::local(format!("the order was not taken: {error}")))?;
    let next = settle_command(client_id.as_str());
    let state = outcome(context, &placement, args.settle_within, &next).await;
    if let Some(journals) = journals.filter(|_| !may_exist(&state)) {
        journals.remove(&client_id);
    }
    let order = conclude(&client, &client_id, state, Some(&request)).await?;
    print(context, &order)
}

/// Goes on finding out what became of an order. Places nothing.
pub(crate) async fn settle(context: &Context, args: &Settle) -> Outcome {
    let client_id: ClientOrderId = args
        .client_id
        .parse()
        .map_err(|error| Failure::usage(format!("the client id: {error}")))?;
    let client = context.client().await?;
    let journals = journals(context, &client)?;
    if let Some(journals) = journals.filter(|journals| journals.has(&client_id)) {
        let Ok(journal) = journals.open(&client_id) else {
            // Another command goes on settling it: what a list shows is known.
            return print(context, &found_by_list(&client, &client_id).await?);
        };
        let settlement = journal.history().settlement(client_id.as_str()).cloned();
        let placements = start(&client, journal)?;
        if let Some(placement) = placements.restored().first() {
            let next = settle_command(client_id.as_str());
            let state = outcome(context, placement, args.settle_within, &next).await;
            if !may_exist(&state) {
                journals.remove(&client_id);
            }
            return print(context, &conclude(&client, &client_id, state, None).await?);
        }
        journals.remove(&client_id);
        if settlement.is_none() {
            super::tell(context, "the order was never sent\n");
        }
    }
    print(context, &found_by_list(&client, &client_id).await?)
}

/// Returns the request of an order, without the version of its market.
fn request(side: Side, args: &NewOrder) -> Outcome<CreateMarginOrderRequest> {
    let (count, price) = count_and_price(&args.terms).map_err(Failure::usage)?;
    let time_in_force = match args.tif {
        Tif::Gtc => TimeInForce::GoodTillCanceled,
        Tif::Ioc => TimeInForce::ImmediateOrCancel,
        Tif::Fok => TimeInForce::FillOrKill,
    };
    let is_immediate = time_in_force != TimeInForce::GoodTillCanceled;
    if (args.expires.is_some() || args.post_only) && is_immediate {
        let text = "--expires and --post-only go with --tif gtc only: the others do not rest";
        return Err(Failure::usage(text));
    }
    let expires = args.expires.as_deref();
    let expires = expires.map(|text| terms::expiration(text, SystemClock.now())).transpose();
    let client_id = match &args.client_id {
        Some(id) => id.clone(),
        None => format!("cli-{:016x}", super::random()?),
    };
    let given = |flag: bool| flag.then_some(true);
    CreateMarginOrderRequest::builder()
        .ticker(&*args.ticker)
        .client_order_id(client_id)
        .side(side.to_wire())
        .count(count)
        .price(price)
        .time_in_force(time_in_force)
        .self_trade_prevention_type(if args.maker_first {
            SelfTradePreventionType::Maker
        } else {
            SelfTradePreventionType::TakerAtCross
        })
        .post_only(given(args.post_only))
        .reduce_only(given(args.reduce_only))
        .cancel_order_on_pause(given(args.cancel_on_pause))
        .expiration_time(expires.map_err(Failure::usage)?)
        .order_group_id(args.group.clone())
        .subaccount(args.subaccount.map(i64::from))
        .try_into()
        .map_err(|error| Failure::usage(format!("the order: {error}")))
}

/// Reads `COUNT @ PRICE`, with or without blanks around the `@`. A price is above zero, and may be far
/// above a dollar.
fn count_and_price(words: &[String]) -> Result<(Count, Dollars), String> {
    let text = words.join(" ");
    let (count, price) = text
        .split_once('@')
        .ok_or_else(|| format!("\"{text}\" is not COUNT @ PRICE, such as 2 @ 30000.25"))?;
    let price = contract_price(price.trim())?;
    Ok((terms::count(count.trim())?, price))
}

/// Reads the price of a contract in dollars.
fn contract_price(text: &str) -> Result<Dollars, String> {
    let price: Dollars = text.parse().map_err(|error| {
        format!("price \"{text}\": {error}; prices are dollars, such as 30000.25")
    })?;
    if !price.is_positive() {
        return Err(format!("price \"{text}\" is not above zero"));
    }
    Ok(price)
}

fn failed(operation: OperationId) -> impl Fn(kalshi_sdk::Error) -> Failure {
    move |error| Failure::of_call(&error, operation.operation())
}

/// Reads what the preview of an order shows. Reads only.
///
/// # Errors
///
/// A read failed, or the exchange takes no orders now: nothing was sent.
async fn look(client: &Client, ticker: &str, subaccount: Option<u32>) -> Outcome<Seen> {
    use OperationId as Id;

    let perps = client.perps();
    let market = async {
        let market = perps.get_margin_market().ticker(ticker).send().await;
        Ok::<_, Failure>(market.map_err(failed(Id::GetMarginMarket))?.into_inner().market)
    };
    let book = async {
        let book = perps.get_margin_market_orderbook().ticker(ticker).send().await;
        Ok(book.map_err(failed(Id::GetMarginMarketOrderbook))?.into_inner().orderbook)
    };
    let status = async {
        let status = perps.get_margin_exchange_status().send().await;
        Ok(status.map_err(failed(Id::GetMarginExchangeStatus))?.into_inner())
    };
    let fees = async {
        let fees = perps.get_margin_fee_tiers().send().await;
        Ok(fees.map_err(failed(Id::GetMarginFeeTiers))?.into_inner())
    };
    let positions = async {
        let positions = perps.get_margin_positions().ticker(ticker).send().await;
        Ok(positions.map_err(failed(Id::GetMarginPositions))?.into_inner().positions)
    };
    let (market, book, status, fees, positions) =
        tokio::try_join!(market, book, status, fees, positions)?;
    if !status.exchange_active || !status.trading_active {
        let text = "perpetual futures are not traded now; nothing was sent";
        return Err(Failure::new(Category::ExchangeClosed, text).with_next("kalshi perps status"));
    }
    let subaccount = subaccount.map_or(0, i64::from);
    let position = positions
        .iter()
        .find(|one| one.market_ticker == market.ticker && one.subaccount == subaccount);
    Ok(Seen {
        best_bid: book.best_bid(),
        best_ask: book.best_ask(),
        position: position.map_or(Count::ZERO, |one| one.position),
        maker_rate: fees.maker_fee_rates.get(&market.ticker).copied(),
        taker_rate: fees.taker_fee_rates.get(&market.ticker).copied(),
        market,
    })
}

/// Returns the journals of the account's orders of perpetual futures, apart from those of event
/// contracts; `None` for an exchange that ends with this process.
fn journals(context: &Context, client: &Client) -> Outcome<Option<Journals>> {
    if context.target == Target::Sim {
        return Ok(None);
    }
    let key_id = client.credentials().map(|key| key.key_id().to_owned()).unwrap_or_default();
    let environment = format!("{} perps", context.target.name());
    Ok(Some(Journals::new(&state_folder()?, &environment, &key_id)))
}

/// Refuses to place an order in the stead of one that may exist.
fn check_unsettled(journals: Option<&Journals>, ticker: &str) -> Outcome {
    let unsettled = journals.map(Journals::unsettled).transpose()?.unwrap_or_default();
    match unsettled.iter().find(|open| open.ticker == ticker) {
        Some(open) => {
            let id = &open.client_order_id;
            Err(unsettled_failure(id, settle_command(id)))
        }
        None => Ok(()),
    }
}

fn get_command(order_id: &str) -> String {
    format!("kalshi perps order get {order_id}")
}

fn settle_command(client_id: &str) -> String {
    settle_command_of("perps order settle", client_id)
}

/// Returns the order that was accepted, and the failure of any other outcome.
async fn conclude(
    client: &Client,
    client_id: &ClientOrderId,
    state: PlacementState,
    request: Option<&CreateMarginOrderRequest>,
) -> Outcome<Json> {
    let order_id = match state {
        PlacementState::Accepted { order_id } => order_id,
        state => return Err(not_accepted(client_id, state, request)),
    };
    let mut read = None;
    for _ in 0..LOOKS {
        match client.perps().get_margin_order().order_id(&*order_id).send().await {
            Ok(answer) => {
                read = Some(answer.into_inner().order);
                break;
            }
            Err(error) if error.is_not_found() => tokio::time::sleep(PAUSE).await,
            Err(_) => break,
        }
    }
    // That the exchange has it is known; a read that fails does not change that.
    let Some(order) = read else {
        return Ok(Json::object([
            ("order_id", Json::text(order_id)),
            ("client_order_id", Json::text(client_id.as_str())),
            ("state", Json::text("accepted")),
        ]));
    };
    if request.is_some_and(|request| is_another(&order, request)) {
        let text = format!(
            "the client id {client_id} is that of an order of {} at {}, which this is not; nothing \
             was placed",
            order.side, order.price
        );
        let mut failure = Failure::new(Category::Rejected, text).with_next(get_command(&order_id));
        failure.operation = Some(OperationId::CreateMarginOrder.as_str().to_owned());
        failure.effect = Effect::Rejected;
        return Err(failure);
    }
    super::json(&order)
}

/// Reports whether an order is not the one that was asked for. One that is over does not say how many
/// contracts it had.
fn is_another(order: &MarginOrder, request: &CreateMarginOrderRequest) -> bool {
    let total = order.fill_count.checked_add(order.remaining_count);
    let is_count = match order.state() {
        OrderState::Resting => total == Some(request.count),
        _ => order.fill_count <= request.count,
    };
    request.ticker.as_deref() != Some(&*order.ticker)
        || order.side != request.side
        || order.price != request.price
        || !is_count
}

/// Returns the failure of an order that was not accepted, or of which that is not known.
fn not_accepted(
    client_id: &ClientOrderId,
    state: PlacementState,
    request: Option<&CreateMarginOrderRequest>,
) -> Failure {
    let is_other_version =
        matches!(&state, PlacementState::Refused(refusal) if is_market_version_refusal(refusal));
    let mut failure = failure(client_id, state);
    failure.operation = Some(OperationId::CreateMarginOrder.as_str().to_owned());
    if failure.category == Category::UnknownOutcome {
        failure.next = Some(settle_command(client_id.as_str()));
    }
    if is_other_version {
        "a corporate action has changed the contract since the market was read: nothing was placed"
            .clone_into(&mut failure.message);
        let ticker = request.and_then(|request| request.ticker.as_deref()).unwrap_or("TICKER");
        failure.next = Some(format!("kalshi perps market get {ticker}, and decide anew"));
    }
    failure
}

/// Without a journal a list can show that an order exists, and nothing shows that it does not.
async fn found_by_list(client: &Client, id: &ClientOrderId) -> Outcome<Json> {
    let mut rows = client.perps().get_margin_orders().limit(LIMIT).stream();
    while let Some(row) = rows.next().await {
        let order = row.map_err(failed(OperationId::GetMarginOrders))?;
        if order.client_order_id == id.as_str() {
            return super::json(&order);
        }
    }
    Err(unlisted(id, settle_command(id.as_str())))
}

fn print(context: &Context, order: &Json) -> Outcome {
    let has_all = order.get("ticker").is_some();
    context.output.document(order, if has_all { &COLUMNS } else { &[] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_may_be_far_above_a_dollar_and_is_above_zero() {
        let read = |text: &str| count_and_price(&[text.to_owned()]);
        let expected = ("2".parse().unwrap(), "30000.25".parse().unwrap());
        for text in ["2 @ 30000.25", "2@30000.25"] {
            assert_eq!(read(text), Ok(expected));
        }
        for text in ["2", "2 @", "2 @ 0", "2 @ -1", "0 @ 1", "2 @ $5", "2 @ 5c"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
