//! `order buy` and `order sell`: one order, once, and its outcome.

use std::{path::PathBuf, time::Duration};

#[cfg(feature = "tui")]
use kalshi_sdk::streams;
use kalshi_sdk::{
    Client, Dollars, Effect, OperationId, UnixMillis,
    auth::{Clock as _, SystemClock},
    types::{CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_trade::{
    direction::{Action, Terms},
    journal::{ClientOrderId, Journal, MemoryJournal},
    placement::{Placement, PlacementState, Placements, WithdrawnCause},
};

use super::{
    NewOrder,
    confirm::Consent,
    journals::{Journals, state_folder},
    look,
    preview::{Asked, Preview, is_confirmed, preview},
    terms,
};
use crate::{
    context::{Context, Target},
    failure::{Category, Failure, Outcome},
    json::Json,
    output::shell_word,
    under_way::UnderWay,
};

/// An order is sent within this time, or not at all.
pub(super) const SEND_WITHIN: Duration = Duration::from_secs(5);

/// An order that was looked at, and can be sent.
pub(crate) struct Prepared {
    client: Client,
    client_id: ClientOrderId,
    pub(crate) preview: Preview,
}

/// Checks an order and reads what it would be. Sends nothing.
pub(crate) async fn prepare(
    context: &Context,
    action: Action,
    args: &NewOrder,
) -> Outcome<Prepared> {
    prepare_with(context, context.client().await?, action, args).await
}

/// Checks an order and reads with a client what it would be. Sends nothing.
async fn prepare_with(
    context: &Context,
    client: Client,
    action: Action,
    args: &NewOrder,
) -> Outcome<Prepared> {
    let now = SystemClock.now();
    let asked = asked(action, args, now).map_err(Failure::usage)?;
    let client_id: ClientOrderId =
        asked.client_id.parse().map_err(|error| Failure::usage(format!("--client-id: {error}")))?;
    let side = asked.terms.to_book().map(|book| book.side);
    let side = side.ok_or_else(|| Failure::usage("the price is out of range"))?;
    let seen = look::look(&client, &args.ticker, &side, args.subaccount, now).await?;
    let preview = preview(&asked, &seen, &context.target.in_words()).map_err(Failure::usage)?;
    Ok(Prepared { client, client_id, preview })
}

/// Refuses an order that can cost more than the command line or the profile allows.
pub(crate) fn check_ceilings(context: &Context, args: &NewOrder, preview: &Preview) -> Outcome {
    check_ceiling(preview, args.max_cost, "--max-cost")?;
    check_ceiling(preview, context.profile.max_order_cost, "max_order_cost of the profile")
}

/// Returns what an order would be, for a program. Sends nothing.
#[cfg(feature = "mcp")]
pub(crate) async fn explain(context: &Context, action: Action, args: &NewOrder) -> Outcome<Json> {
    let Prepared { preview, .. } = prepare(context, action, args).await?;
    let refused = check_ceilings(context, args, &preview).err();
    let mut json = preview.to_json();
    if let Json::Object(members) = &mut json {
        // The id would be another one each time.
        members.retain(|(name, _)| name != "client_order_id");
        let refused = refused.map(|failure| failure.message);
        members.push(("refused_by_ceiling".to_owned(), Json::optional(refused)));
    }
    Ok(json)
}

/// Places an order, or shows what it would be.
pub(crate) async fn place(context: &Context, action: Action, args: &NewOrder) -> Outcome {
    let prepared = prepare(context, action, args).await?;
    let preview = &prepared.preview;
    check_ceilings(context, args, preview)?;
    super::tell(context, &preview.text());
    if context.global.dry_run {
        let url = format!("{}/portfolio/events/orders", prepared.client.base_url());
        let body = super::json(&preview.request)?;
        return super::print_request(context, "POST", &url, body, Some(preview.to_json()));
    }
    // Before the question: a person who says yes should not have to say it twice.
    check_sendable(context, &prepared)?;
    let (count, price) = (preview.count, preview.price);
    let consent = Consent::new(context.asks(), context.global.yes);
    consent.ask(&preview.confirmation(), move |typed| is_confirmed(typed, count, price)).await?;
    super::print(context, &submit(context, prepared, args.settle_within).await?)
}

/// Refuses an order in a market in which another one may exist whose outcome is not known.
pub(crate) fn check_sendable(context: &Context, prepared: &Prepared) -> Outcome {
    let journals = journals(context, &prepared.client)?;
    journals.map_or(Ok(()), |journals| check_unsettled(&journals, &prepared.preview.ticker))
}

/// Sends an order once, and returns it as the exchange has it.
///
/// # Errors
///
/// The exchange refused it, it was not sent, or its outcome is not known within `settle_within`: its
/// journal is left then, and [`settled`] goes on.
///
/// # Cancellation
///
/// The order may have been sent. Its journal says so, and [`settled`] finds out.
pub(crate) async fn submit(
    context: &Context,
    prepared: Prepared,
    settle_within: Duration,
) -> Outcome<Json> {
    let sent = send(context, prepared)?;
    let next = settle_command(sent.placement.id().as_str());
    let state = outcome(context, &sent.placement, settle_within, &next).await;
    sent.forget(&state);
    conclude(&sent.client, sent.placement.id(), state, sent.request.as_ref()).await
}

/// An order that was handed over, once. Its outcome may be unknown.
pub(crate) struct SentOrder {
    client: Client,
    journals: Option<Journals>,
    #[cfg_attr(
        not(feature = "tui"),
        expect(dead_code, reason = "only the live terminal hands events to it")
    )]
    placements: Placements,
    placement: Placement,
    /// `None` for an order of an earlier command.
    request: Option<CreateOrderV2Request>,
    /// The live terminal waits for the outcome by events.
    _mark: UnderWay,
}

/// Hands over an order that was looked at and confirmed.
///
/// # Errors
///
/// The journal cannot be written, or another order may exist in the market whose outcome is not
/// known: nothing was sent.
///
/// # Cancellation
///
/// The order goes on by itself as long as the runtime does. Its journal stays until its outcome is
/// known.
pub(crate) fn send(context: &Context, prepared: Prepared) -> Outcome<SentOrder> {
    check_sendable(context, &prepared)?;
    let Prepared { client, client_id, preview } = prepared;
    let journals = journals(context, &client)?;
    let placements = match &journals {
        Some(journals) => start(&client, journals.open(&client_id)?)?,
        None => start(&client, MemoryJournal::new(super::random()?, SystemClock.now()))?,
    };
    let placement = placements
        .place_identified(preview.request.clone(), SEND_WITHIN)
        .map_err(|error| Failure::local(format!("the order was not taken: {error}")))?;
    let request = Some(preview.request);
    let mark = UnderWay::new(settle_command(placement.id().as_str()));
    Ok(SentOrder { client, journals, placements, placement, request, _mark: mark })
}

impl SentOrder {
    /// Removes the journal of the order if its outcome is known.
    pub(crate) fn forget(&self, state: &PlacementState) {
        if let Some(journals) = self.journals.as_ref().filter(|_| !may_exist(state)) {
            journals.remove(self.placement.id());
        }
    }
}

/// Orders of the live terminal, beyond that.
#[cfg(feature = "tui")]
impl SentOrder {
    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Takes in an event of the streams, which may be the evidence that the order is waiting for.
    pub(crate) fn observe(&self, event: &streams::Event) {
        self.placements.observe(event);
    }

    /// Reports whether what is not known of the order outlives this process.
    pub(crate) fn has_journal(&self) -> bool {
        self.journals.is_some()
    }

    /// Returns the failure of an order in a state in which it was not accepted.
    pub(crate) fn failure(&self, state: PlacementState) -> Failure {
        failure(self.placement.id(), state)
    }
}

/// Looks at an order with a client: checks it, reads what it would be, and refuses it by ceilings
/// and by an order in its market whose outcome is not known. Sends nothing.
#[cfg(feature = "tui")]
pub(crate) async fn look_at(
    context: &Context,
    client: Client,
    action: Action,
    args: &NewOrder,
) -> Outcome<Prepared> {
    let prepared = prepare_with(context, client, action, args).await?;
    check_ceilings(context, args, &prepared.preview)?;
    check_sendable(context, &prepared)?;
    Ok(prepared)
}

/// Goes on finding out what became of the orders that earlier commands left open. Sends no order.
#[cfg(feature = "tui")]
pub(crate) fn resume(context: &Context, client: &Client) -> Outcome<Vec<SentOrder>> {
    let Some(journals) = journals(context, client)? else { return Ok(Vec::new()) };
    let mut resumed = Vec::new();
    for open in journals.unsettled()? {
        let id: ClientOrderId = open
            .client_order_id
            .parse()
            .map_err(|error| Failure::local(format!("the journal of an order: {error}")))?;
        let placements = start(client, journals.open(&id)?)?;
        resumed.extend(placements.restored().first().cloned().map(|placement| SentOrder {
            client: client.clone(),
            journals: Some(journals.clone()),
            placements,
            _mark: UnderWay::new(settle_command(placement.id().as_str())),
            placement,
            request: None,
        }));
    }
    Ok(resumed)
}

pub(super) fn start(client: &Client, journal: impl Journal + 'static) -> Outcome<Placements> {
    Placements::builder(client.clone(), journal)
        .start()
        .map_err(|error| Failure::local(format!("could not start placing: {error}")))
}

fn asked(action: Action, args: &NewOrder, now: UnixMillis) -> Result<Asked, String> {
    let (count, price) = terms::count_and_price(&args.terms)?;
    let time_in_force = args.tif.to_wire();
    let is_immediate = time_in_force != TimeInForce::GoodTillCanceled;
    if args.expires.is_some() && is_immediate {
        return Err("--expires goes with --tif gtc only: the others do not rest".to_owned());
    }
    if args.post_only && is_immediate {
        return Err("--post-only goes with --tif gtc only: the others do not rest".to_owned());
    }
    if args.reduce_only && time_in_force != TimeInForce::ImmediateOrCancel {
        return Err(
            "--reduce-only goes with --tif ioc only; the exchange refuses it else".to_owned()
        );
    }
    let expires = args.expires.as_deref().map(|text| terms::expiration(text, now)).transpose()?;
    let client_id = match &args.client_id {
        Some(id) => id.clone(),
        None => format!("cli-{:016x}", super::random().map_err(|failure| failure.message)?),
    };
    Ok(Asked {
        terms: Terms { outcome: args.outcome.into(), action, price },
        count,
        time_in_force,
        self_trade: if args.maker_first {
            SelfTradePreventionType::Maker
        } else {
            SelfTradePreventionType::TakerAtCross
        },
        post_only: args.post_only,
        reduce_only: args.reduce_only,
        cancel_on_pause: args.cancel_on_pause,
        expires,
        group: args.group.clone(),
        subaccount: args.subaccount,
        client_id,
    })
}

/// Refuses an order that can cost more than a ceiling, or whose cost is not known.
pub(crate) fn check_ceiling(preview: &Preview, ceiling: Option<Dollars>, name: &str) -> Outcome {
    let Some(ceiling) = ceiling else { return Ok(()) };
    match (preview.worst_cost, &preview.fee_unknown) {
        (Some(cost), _) if cost <= ceiling => Ok(()),
        (Some(cost), _) => Err(Failure::usage(format!(
            "the order can cost {cost}, more than the {ceiling} of {name}; nothing was sent"
        ))),
        (None, reason) => Err(Failure::usage(format!(
            "what the order can cost is not known ({}), and {name} is {ceiling}; nothing was sent",
            reason.as_deref().unwrap_or("no fee")
        ))),
    }
}

/// Returns the journals of the account; `None` for an exchange that ends with this process.
pub(super) fn journals(context: &Context, client: &Client) -> Outcome<Option<Journals>> {
    if context.target == Target::Sim {
        return Ok(None);
    }
    let folder: PathBuf = state_folder()?;
    let key_id = client.credentials().map(|key| key.key_id().to_owned()).unwrap_or_default();
    Ok(Some(Journals::new(&folder, context.target.name(), &key_id)))
}

/// Refuses to place an order in the stead of one that may exist.
fn check_unsettled(journals: &Journals, ticker: &str) -> Outcome {
    let unsettled = journals.unsettled()?;
    let Some(open) = unsettled.iter().find(|open| open.ticker == ticker) else { return Ok(()) };
    Err(unsettled_failure(&open.client_order_id, settle_command(&open.client_order_id)))
}

/// Returns the failure of an order in a market in which another one may exist.
pub(super) fn unsettled_failure(id: &str, next: String) -> Failure {
    let failure = Failure::new(
        Category::UnknownOutcome,
        format!(
            "the outcome of the order {id} in this market is not known: settle it first; nothing \
             new was sent"
        ),
    );
    failure.with_next(next)
}

/// Returns the command that goes on where another one stopped.
pub(super) fn settle_command(client_id: &str) -> String {
    settle_command_of("order settle", client_id)
}

/// Returns that command for a product.
pub(super) fn settle_command_of(words: &str, client_id: &str) -> String {
    format!("kalshi {words} {}", shell_word(client_id))
}

/// Waits for the outcome, which is marked as not known meanwhile, and says so once if the answer was lost, with the command that goes on.
pub(super) async fn outcome(
    context: &Context,
    placement: &Placement,
    within: Duration,
    next: &str,
) -> PlacementState {
    let _mark = UnderWay::new(next);
    let mut settling_since = None;
    loop {
        tokio::select! {
            state = placement.outcome() => return state,
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let state = placement.state();
        // Before that it ends by itself: it is sent in time or not at all, and a request has a limit.
        if state != PlacementState::Settling {
            continue;
        }
        let now = tokio::time::Instant::now();
        if settling_since.is_none() {
            settling_since = Some(now);
            super::tell(
                context,
                &format!(
                    "the answer was lost: finding out whether {} exists, for up to {} s; an order \
                     that does not takes a minute to prove. After Ctrl-C go on with: {next}\n",
                    placement.id(),
                    within.as_secs(),
                ),
            );
        }
        if settling_since.is_some_and(|since| now.duration_since(since) >= within) {
            return state;
        }
    }
}

/// Reports whether the order may exist, or come to exist, without an answer that says so.
pub(super) fn may_exist(state: &PlacementState) -> bool {
    !matches!(
        state,
        PlacementState::Accepted { .. }
            | PlacementState::Refused(_)
            | PlacementState::GivenUp
            | PlacementState::Withdrawn(_)
    )
}

/// Returns what to print of an order that was accepted, and the failure of any other outcome.
pub(super) async fn conclude(
    client: &Client,
    client_id: &ClientOrderId,
    state: PlacementState,
    request: Option<&CreateOrderV2Request>,
) -> Outcome<Json> {
    let order_id = match state {
        PlacementState::Accepted { order_id } => order_id,
        state => return Err(failure(client_id, state)),
    };
    // That the exchange has it is known; a read that fails does not change that.
    let Ok(order) = look::order(client, &order_id).await else {
        return Ok(Json::object([
            ("order_id", Json::text(order_id)),
            ("client_order_id", Json::text(client_id.as_str())),
            ("status", Json::text("accepted")),
        ]));
    };
    if let Some(request) = request
        && (order.ticker != request.ticker
            || order.book_side != request.side
            || order.yes_price_dollars != request.price
            || order.initial_count_fp != request.count)
    {
        let text = format!(
            "the client id {client_id} is that of an order of {} at {} for YES, which this is not; \
             nothing was placed",
            order.initial_count_fp, order.yes_price_dollars
        );
        let mut failure = of_order(Category::Rejected, text, Effect::Rejected);
        failure.next = Some(format!("kalshi order get {order_id}"));
        return Err(failure);
    }
    super::json(&order)
}

fn of_order(category: Category, message: String, effect: Effect) -> Failure {
    let mut failure = Failure::new(category, message);
    failure.operation = Some(OperationId::CreateOrderV2.as_str().to_owned());
    failure.effect = effect;
    failure
}

/// Returns the failure of an order in a state in which it was not accepted.
pub(super) fn failure(client_id: &ClientOrderId, state: PlacementState) -> Failure {
    match state {
        PlacementState::Refused(refusal) => {
            let code = refusal.code.as_deref().map(|code| format!(", {code}")).unwrap_or_default();
            let category = match refusal.status {
                401 | 403 => Category::Credentials,
                429 => Category::RateLimit,
                _ => Category::Rejected,
            };
            let text = format!("the exchange refused the order ({}{code})", refusal.status);
            let mut failure = of_order(category, text, Effect::Rejected);
            failure.status = Some(refusal.status);
            failure.code = refusal.code;
            failure
        }
        PlacementState::GivenUp => {
            let text = "the order was sent and is proven not to exist: it is safe to place another";
            of_order(Category::Network, text.to_owned(), Effect::Rejected)
        }
        PlacementState::Withdrawn(cause) => {
            let (category, text) = match cause {
                WithdrawnCause::Deadline => (
                    Category::Network,
                    "the exchange could not be reached in time, or its rate limit is used up",
                ),
                WithdrawnCause::Journal => (Category::Local, "the journal cannot be written"),
                WithdrawnCause::IdInUse => {
                    (Category::Rejected, "another order has this client id already")
                }
                WithdrawnCause::Invalid => (Category::Usage, "the request cannot be sent as it is"),
                _ => (Category::Declined, "the order was withdrawn"),
            };
            of_order(category, format!("{text}: nothing was placed"), Effect::NotSent)
        }
        _ => {
            let text = format!(
                "whether the order {client_id} exists is not known: count it, and place nothing in \
                 its stead"
            );
            let failure = of_order(Category::UnknownOutcome, text, Effect::Unknown);
            failure.with_next(settle_command(client_id.as_str()))
        }
    }
}

/// `order settle CLIENT-ID`: goes on finding out what became of an order.
pub(crate) async fn settle(context: &Context, args: &super::Settle) -> Outcome {
    super::print(context, &settled(context, &args.client_id, args.settle_within).await?)
}

/// Finds out what became of an order, and returns it. Places nothing.
///
/// # Errors
///
/// The order was refused or never sent, or its outcome is not known within this time.
pub(crate) async fn settled(
    context: &Context,
    client_id: &str,
    settle_within: Duration,
) -> Outcome<Json> {
    let client_id: ClientOrderId =
        client_id.parse().map_err(|error| Failure::usage(format!("the client id: {error}")))?;
    let client = context.client().await?;
    let journals = journals(context, &client)?;
    if let Some(journals) = journals.filter(|journals| journals.has(&client_id)) {
        let Ok(journal) = journals.open(&client_id) else {
            // Another command, or this process, goes on settling it: what a list shows is known.
            return found_by_list(&client, &client_id).await;
        };
        let settlement = journal.history().settlement(client_id.as_str()).cloned();
        let placements = start(&client, journal)?;
        if let Some(placement) = placements.restored().first() {
            let next = settle_command(client_id.as_str());
            let state = outcome(context, placement, settle_within, &next).await;
            if !may_exist(&state) {
                journals.remove(&client_id);
            }
            return conclude(&client, &client_id, state, None).await;
        }
        journals.remove(&client_id);
        if settlement.is_none() {
            super::tell(context, "the order was never sent\n");
        }
    }
    found_by_list(&client, &client_id).await
}

/// Without a journal a list can show that an order exists, and nothing shows that it does not.
async fn found_by_list(client: &Client, id: &ClientOrderId) -> Outcome<Json> {
    if let Some(order) = look::by_client_id(client, None, id.as_str()).await? {
        return super::json(&order);
    }
    Err(unlisted(id, settle_command(id.as_str())))
}

/// Returns the failure of an order that no list shows, where no journal proves anything.
pub(super) fn unlisted(id: &ClientOrderId, next: String) -> Failure {
    let mut failure = Failure::new(
        Category::UnknownOutcome,
        format!(
            "no order with the client id {id} is listed, and this machine has no journal of it. \
             Reads trail the exchange, and a request can arrive late: that proves nothing within \
             two minutes of its sending"
        ),
    );
    failure.effect = Effect::Unknown;
    failure.with_next(next)
}
