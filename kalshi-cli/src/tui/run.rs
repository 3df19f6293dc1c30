//! The loop around the state: streams, reads, keys and the screen.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use kalshi_sdk::{
    Client, Count, Dollars, OperationId, PriceGrid, UnixSeconds,
    auth::{Clock as _, SystemClock},
    operation::Lane,
    streams::{
        Connection, Event, Outcome as Side, Payload, Portfolio, Subscription, types::MarketSide,
    },
    types::BookSide,
};
use kalshi_trade::{
    budget::{BucketKey, Budget, Pool, WithBudget as _},
    candles::Period,
    placement::PlacementState,
};
use ratatui::crossterm::{
    event::{self, DisableMouseCapture, EnableMouseCapture, Event as Input, KeyEventKind},
    execute,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use super::{
    Tui,
    state::{Link, MarketView, Money, OrderRow, PositionRow, Request, State, TradeRow},
    trade::{Draft, Looked, SentRow, SentState, Ticket, Trade},
    view::view,
};
use crate::{
    chart::{self, draw::Bar},
    context::{Context, Target},
    failure::{Failure, Outcome},
    order::{self, NewOrder, OutcomeName, Prepared, SentOrder, Tif},
};

/// Levels of each side that are shown at most.
const LEVELS: usize = 100;

/// The markets that are shown unless some are named.
const MARKETS: usize = 6;

/// The time between two frames.
const FRAME: Duration = Duration::from_millis(50);

/// The results of tasks beside the loop.
enum Found {
    Bars(String, Vec<Bar>),
    Queue(Vec<(String, Count)>),
    Trades(String, Vec<TradeRow>),
    Failed(String),
    /// An order was canceled, or why it was not.
    Canceled(String, Result<(), String>),
    /// All orders were canceled.
    CanceledAll,
}

/// The reads before an order.
type Look<'a> = Pin<Box<dyn Future<Output = (u64, Outcome<Prepared>)> + 'a>>;

/// The time at the end in which an order that is on its way may still be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Shows the terminal until it is quit.
pub(super) async fn run(context: &Context, args: &Tui) -> Outcome {
    if args.trade && context.global.dry_run {
        return Err(Failure::usage(
            "--trade sends orders, and --dry-run none: leave one of them out",
        ));
    }
    let budget = Budget::new();
    let credentials = context.credentials().await?;
    let client = context
        .client_builder()
        .await?
        .with_credentials(credentials)
        .with_budget(&budget)
        .build()
        .map_err(|error| Failure::usage(format!("the client cannot be built: {error}")))?;
    let _learning = budget.keep_learning(&client);
    let money = match &context.target {
        Target::Sim => Money::Sim,
        target if target.is_real_money() => Money::Real,
        _ => Money::Mock,
    };
    let has_color = crate::output::wants_color();
    let mut state = State::new(context.target.in_words(), money, has_color);
    state.markets = markets(&client, &args.tickers).await?;
    let tickers: Vec<String> = state.markets.iter().map(|m| m.ticker.clone()).collect();
    let config = context.stream_config().await?.build();
    let config = config.map_err(|error| Failure::usage(format!("the streams: {error}")))?;
    let connection = Connection::connect(config).await.map_err(|error| {
        Failure::new(
            crate::failure::Category::Network,
            format!("could not connect to the streams: {error}"),
        )
        .with_next("kalshi doctor")
    })?;
    for subscription in [
        Subscription::orderbook(&tickers),
        Subscription::trades(&tickers),
        Subscription::fills(),
        Subscription::user_orders(),
        Subscription::market_positions(),
    ] {
        connection
            .handle()
            .subscribe(subscription)
            .map_err(|error| Failure::usage(format!("the subscription cannot be made: {error}")))?;
    }
    let mut shown = Shown::new(context, client, budget, connection, state);
    if args.trade {
        shown.allow_orders(args.count, args.max_cost)?;
    }
    let screen = Screen::open()?;
    let result = shown.until_quit(screen).await;
    ratatui::restore();
    // An order that may exist is what matters most.
    shown.last_answers().await.and(result)
}

/// Reads the markets to show: those that are named, or the open ones with the most volume.
pub(super) async fn markets(client: &Client, tickers: &[String]) -> Outcome<Vec<MarketView>> {
    let failed = |error| Failure::of_call(&error, OperationId::GetMarkets.operation());
    let mut request = client.get_markets().limit(200);
    request = if tickers.is_empty() { request.status("open") } else { request.tickers(tickers) };
    let mut found = request.send().await.map_err(failed)?.into_inner().markets;
    if tickers.is_empty() {
        found.sort_by_key(|market| std::cmp::Reverse(market.volume_24h_fp));
        found.truncate(MARKETS);
    } else {
        found.sort_by_key(|market| tickers.iter().position(|ticker| *ticker == market.ticker));
    }
    if let Some(missing) = tickers.iter().find(|t| !found.iter().any(|m| m.ticker == **t)) {
        return Err(Failure::usage(format!("there is no market {missing}")));
    }
    if found.is_empty() {
        return Err(Failure::usage("no market is open"));
    }
    let view = |market: kalshi_sdk::types::Market| MarketView {
        ticker: market.ticker,
        title: market.yes_sub_title,
        last: Some(market.last_price_dollars).filter(|price| price.is_positive()),
        volume: Some(market.volume_fp),
        grid: PriceGrid::new(market.price_ranges).ok(),
        ..MarketView::default()
    };
    Ok(found.into_iter().map(view).collect())
}

/// Waits for what an order would be; forever where nothing is read.
async fn answer(look: &mut Option<Look<'_>>) -> (u64, Outcome<Prepared>) {
    let Some(reads) = look else { return std::future::pending().await };
    let answer = reads.as_mut().await;
    *look = None;
    answer
}

/// Returns an order as the command line has it: it rests until it is canceled.
fn new_order(draft: &Draft, max_cost: Option<Dollars>) -> NewOrder {
    let price = draft.price().map(|price| price.to_string()).unwrap_or_default();
    NewOrder {
        ticker: draft.ticker.clone(),
        outcome: match draft.outcome {
            Side::Yes => OutcomeName::Yes,
            Side::No => OutcomeName::No,
        },
        terms: vec![format!("{} @ {price}", draft.count)],
        tif: Tif::Gtc,
        post_only: false,
        reduce_only: false,
        cancel_on_pause: false,
        maker_first: false,
        expires: None,
        group: None,
        subaccount: None,
        client_id: None,
        max_cost,
        // The terminal settles it for as long as it is open.
        settle_within: Duration::ZERO,
    }
}

/// Returns the row of an order that was handed over; without a draft that of an earlier command.
fn row(sent: &SentOrder, draft: Option<&Draft>) -> SentRow {
    let placement = sent.placement();
    let id = placement.id().as_str().to_owned();
    SentRow {
        ticker: placement.intent().ticker().to_owned(),
        words: draft.map_or_else(|| format!("{id} of an earlier command"), Draft::words),
        state: if draft.is_some() { SentState::Sending } else { SentState::Unknown },
        client_order_id: id,
    }
}

/// Returns a failure and the remedy in words.
fn in_words(failure: &Failure) -> String {
    match &failure.next {
        Some(next) => format!("{} ({next})", failure.message),
        None => failure.message.clone(),
    }
}

/// Returns a trade that was read.
pub(super) fn trade_row(trade: kalshi_sdk::types::Trade) -> TradeRow {
    TradeRow {
        at: trade.created_time.timestamp_millis(),
        yes_price: trade.yes_price_dollars,
        count: trade.count_fp,
        taker: trade.taker_book_side,
    }
}

/// The terminal as a screen, and a thread that reads keys.
struct Screen {
    terminal: ratatui::DefaultTerminal,
    inputs: mpsc::UnboundedReceiver<Input>,
    is_over: Arc<AtomicBool>,
}

impl Screen {
    fn open() -> Outcome<Self> {
        use std::io::IsTerminal as _;
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "this is for a terminal; try kalshi stream, or kalshi chart",
            ));
        }
        let terminal = ratatui::try_init()
            .map_err(|error| Failure::local(format!("could not open the screen: {error}")))?;
        // A terminal without a mouse goes without.
        let _ = execute!(std::io::stdout(), EnableMouseCapture);
        let (sender, inputs) = mpsc::unbounded_channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                match event::poll(Duration::from_millis(100)) {
                    Ok(false) => {}
                    Ok(true) => match event::read() {
                        Ok(input) => {
                            if sender.send(input).is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    },
                    Err(_) => return,
                }
            }
        });
        Ok(Self { terminal, inputs, is_over })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = execute!(std::io::stdout(), DisableMouseCapture);
    }
}

/// The screen, and the sources of what it shows.
struct Shown<'a> {
    context: &'a Context,
    client: Client,
    budget: Budget,
    connection: Connection,
    portfolio: Portfolio,
    state: State,
    max_cost: Option<Dollars>,
    /// The order that waits to be confirmed, by the number of its look.
    prepared: Option<(u64, Prepared)>,
    /// The orders whose outcome is not known yet.
    sent: Vec<SentOrder>,
}

impl<'a> Shown<'a> {
    fn new(
        context: &'a Context,
        client: Client,
        budget: Budget,
        connection: Connection,
        state: State,
    ) -> Self {
        let (portfolio, sent) = (Portfolio::new(), Vec::new());
        let (max_cost, prepared) = (None, None);
        Self { context, client, budget, connection, portfolio, state, max_cost, prepared, sent }
    }

    /// Lets keys place and cancel orders, and goes on with those of earlier commands whose outcome
    /// is not known.
    fn allow_orders(&mut self, count: Count, max_cost: Option<Dollars>) -> Outcome {
        let context = self.context;
        let is_given = context.global.yes;
        let mut trade = Trade::new(context.asks() && !is_given, count);
        trade.asks_cancel = context.global.ask && !is_given;
        self.sent = order::resume(context, &self.client)?;
        trade.sent = self.sent.iter().map(|sent| row(sent, None)).collect();
        self.state.trade = Some(trade);
        self.max_cost = max_cost;
        Ok(())
    }

    async fn until_quit(&mut self, mut screen: Screen) -> Outcome {
        let (sender, mut found) = mpsc::unbounded_channel();
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Where something was missed, the account is read back soon.
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut slow = interval(Duration::from_secs(5));
        slow.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut minutes: u32 = 0;
        let mut is_changed = true;
        let mut look: Option<Look<'a>> = None;
        self.history(&sender);
        loop {
            tokio::select! {
                (number, result) = answer(&mut look) => {
                    self.looked(number, result);
                    is_changed = true;
                }
                event = self.connection.next() => {
                    let Some(event) = event else {
                        return Err(Failure::new(
                            crate::failure::Category::Network,
                            "the streams are closed",
                        ));
                    };
                    self.event(&event);
                    is_changed = true;
                }
                Some(input) = screen.inputs.recv() => {
                    let size = screen.terminal.size().unwrap_or_default();
                    let request = match input {
                        Input::Key(key) if key.kind != KeyEventKind::Release => self.state.key(key),
                        Input::Mouse(mouse) => {
                            self.state.mouse(mouse, ratatui::layout::Rect::from((ratatui::layout::Position::ORIGIN, size)))
                        }
                        _ => Request::None,
                    };
                    match request {
                        Request::Quit => return Ok(()),
                        Request::Selected => self.bars(&sender),
                        Request::Look { number, draft } => look = Some(self.look(number, draft)),
                        Request::Send { number, draft } => self.send(number, &draft),
                        Request::Cancel(ids) => self.cancel(ids, &sender),
                        Request::CancelAll => self.cancel_all(&sender),
                        Request::None => {}
                    }
                    is_changed = true;
                }
                Some(found) = found.recv() => {
                    self.take(found);
                    is_changed = true;
                }
                _ = seconds.tick() => {
                    is_changed |= self.reconcile().await;
                }
                _ = slow.tick() => {
                    self.queue(&sender);
                    if minutes.is_multiple_of(12) {
                        self.bars(&sender);
                    }
                    minutes = minutes.wrapping_add(1);
                    is_changed = true;
                }
                _ = frames.tick() => {
                    is_changed |= self.settle();
                    let now = SystemClock.now().as_millis();
                    // The clock is shown to the second.
                    is_changed |= now / 1_000 != self.state.now / 1_000;
                    if is_changed {
                        self.refresh(now);
                        screen.terminal.draw(|frame| view(&self.state, frame)).map_err(|error| {
                            Failure::local(format!("could not draw: {error}"))
                        })?;
                        if let Some(trade) = &mut self.state.trade {
                            trade.shown();
                        }
                        is_changed = false;
                    }
                }
            }
        }
    }

    /// Takes in an event of the streams.
    fn event(&mut self, event: &Event) {
        self.portfolio.apply(event);
        for sent in &self.sent {
            sent.observe(event);
        }
        match event {
            Event::Message(message) => {
                self.state.lag_millis = message.lag_millis().or(self.state.lag_millis);
                if let Payload::Trade(trade) = &message.payload {
                    let row = TradeRow {
                        at: trade.ts_ms.map_or(self.state.now, kalshi_sdk::UnixMillis::as_millis),
                        yes_price: trade.yes_price_dollars,
                        count: trade.count_fp,
                        taker: match trade.taker_outcome_side {
                            MarketSide::No => BookSide::Ask,
                            _ => BookSide::Bid,
                        },
                    };
                    self.state.trade(&trade.market_ticker, row);
                }
            }
            Event::Subscribed { .. } | Event::Resynced { .. } => self.state.link = Link::Live,
            Event::Gap { .. } | Event::Overdue { .. } | Event::Lagged { .. } => {
                self.state.link = Link::Behind;
            }
            Event::Disconnected { .. } | Event::Stale { .. } => self.state.link = Link::Lost,
            Event::ReconnectFailed { attempt, error } => {
                self.state.notice = Some(format!("attempt {attempt} to connect failed: {error}"));
            }
            Event::Reconnected { .. } => {
                self.state.link = Link::Connecting;
                self.state.notice = None;
            }
            Event::Refused { channel, reason, .. } => {
                self.state.notice = Some(format!("{channel} was refused: {reason:?}"));
            }
            _ => {}
        }
    }

    /// Brings what is shown up to date with books, account and budget.
    fn refresh(&mut self, now: i64) {
        let state = &mut self.state;
        state.now = now;
        let books = self.connection.books();
        if let Some(market) = state.markets.get_mut(state.selected) {
            let book = books.get(&market.ticker);
            market.is_current = book.is_some();
            if let Some(book) = book {
                market.bids = book.bids(Side::Yes).take(LEVELS).collect();
                market.asks = book.asks(Side::Yes).take(LEVELS).collect();
            }
        }
        state.is_account_current = self.portfolio.is_current();
        state.orders = self
            .portfolio
            .orders()
            .map(|order| OrderRow {
                order_id: order.order_id.clone(),
                ticker: order.market_ticker.clone(),
                side: order.book_side.clone(),
                yes_price: order.yes_price,
                remaining: order.remaining,
                initial: order.initial,
            })
            .collect();
        state.orders.sort_by(|a, b| (&a.ticker, b.yes_price).cmp(&(&b.ticker, a.yes_price)));
        state.positions = self
            .portfolio
            .positions()
            .filter(|position| !position.count.is_zero())
            .map(|position| PositionRow {
                ticker: position.market_ticker.clone(),
                count: position.count,
                cost: position.cost,
                realized: position.realized_pnl,
            })
            .collect();
        state.positions.sort_by(|a, b| a.ticker.cmp(&b.ticker));
        let available = |pool| self.budget.available(BucketKey::new(Lane::EventContracts, pool));
        state.tokens = Some((available(Pool::Read), available(Pool::Write)));
    }

    fn take(&mut self, found: Found) {
        match found {
            Found::Bars(ticker, bars) => {
                if let Some(market) = self.state.market_mut(&ticker) {
                    market.bars = bars;
                }
            }
            Found::Queue(rows) => self.state.queue = rows.into_iter().collect(),
            Found::Trades(ticker, rows) => {
                if let Some(market) = self.state.market_mut(&ticker) {
                    // Those of the stream are newer.
                    let oldest = market.trades.back().map_or(i64::MAX, |trade| trade.at);
                    market.trades.extend(rows.into_iter().filter(|row| row.at < oldest));
                }
            }
            Found::Failed(text) => self.state.notice = Some(text),
            Found::Canceled(id, result) => {
                if let Some(trade) = &mut self.state.trade {
                    trade.canceling.remove(&id);
                }
                if let Err(text) = result {
                    self.state.notice = Some(text);
                }
            }
            Found::CanceledAll => {
                self.state.notice = Some("all resting orders are canceled".to_owned());
            }
        }
    }

    /// Begins to read what an order would be.
    fn look(&self, number: u64, draft: Draft) -> Look<'a> {
        let (context, client, max_cost) = (self.context, self.client.clone(), self.max_cost);
        Box::pin(async move {
            let order = new_order(&draft, max_cost);
            (number, order::look_at(context, client, draft.action, &order).await)
        })
    }

    /// Takes in what an order would be. It is shown only if it is still waited for.
    fn looked(&mut self, number: u64, result: Outcome<Prepared>) {
        let Some(trade) = &mut self.state.trade else { return };
        match result {
            Ok(prepared) => {
                let preview = &prepared.preview;
                let looked = Looked {
                    rows: preview.rows(),
                    line: preview.confirmation(),
                    count: preview.count,
                    price: preview.price,
                };
                if trade.looked(number, Ok(looked)) {
                    self.prepared = Some((number, prepared));
                }
            }
            Err(failure) => {
                trade.looked(number, Err(in_words(&failure)));
            }
        }
    }

    /// Hands over the order of a look: it is taken, so that it cannot be handed over again.
    fn send(&mut self, number: u64, draft: &Draft) {
        let (Some(trade), Some((looked, prepared))) = (&mut self.state.trade, self.prepared.take())
        else {
            return;
        };
        if looked != number {
            return;
        }
        match order::send(self.context, prepared) {
            Ok(sent) => {
                trade.sent.push(row(&sent, Some(draft)));
                self.sent.push(sent);
            }
            Err(failure) => trade.ticket = Some(Ticket::Failed { text: in_words(&failure) }),
        }
    }

    /// Brings what is shown of orders on their way up to date, and reports whether that changed.
    fn settle(&mut self) -> bool {
        let Some(trade) = &mut self.state.trade else { return false };
        let before = trade.sent.clone();
        let notice = &mut self.state.notice;
        self.sent.retain(|sent| {
            let state = sent.placement().state();
            let id = sent.placement().id().as_str();
            let shown = match &state {
                PlacementState::Accepted { .. }
                | PlacementState::Refused(_)
                | PlacementState::GivenUp
                | PlacementState::Withdrawn(_) => None,
                PlacementState::Settling | PlacementState::Undecided(_) => Some(SentState::Unknown),
                _ => Some(SentState::Sending),
            };
            if let Some(shown) = shown {
                let row = trade.sent.iter_mut().find(|row| row.client_order_id == id);
                if let Some(row) = row {
                    row.state = shown;
                }
                return true;
            }
            sent.forget(&state);
            let at = trade.sent.iter().position(|row| row.client_order_id == id);
            let row = at.map(|at| trade.sent.remove(at));
            if !matches!(state, PlacementState::Accepted { .. }) {
                let words = row.map(|row| row.words).unwrap_or_default();
                *notice = Some(format!("{words}: {}", in_words(&sent.failure(state))));
            }
            false
        });
        trade.sent != before
    }

    /// Cancels orders.
    fn cancel(&self, ids: Vec<String>, found: &mpsc::UnboundedSender<Found>) {
        for id in ids {
            let (client, found) = (self.client.clone(), found.clone());
            tokio::spawn(async move {
                let result = order::cancel_by_id(&client, &id).await;
                let result = result.map_err(|failure| in_words(&failure));
                let _ = found.send(Found::Canceled(id, result));
            });
        }
    }

    /// Cancels every order of event contracts of the account.
    fn cancel_all(&self, found: &mpsc::UnboundedSender<Found>) {
        let (client, found) = (self.client.clone(), found.clone());
        let count = self.state.orders.len();
        tokio::spawn(async move {
            let result = order::cancel_all_at_once(&client, count).await;
            let failed = |failure: Failure| Found::Failed(in_words(&failure));
            let _ = found.send(result.map_or_else(failed, |_| Found::CanceledAll));
        });
    }

    /// Waits a moment for the answers of orders that are on their way, and fails if the outcome of
    /// one stays unknown. An order that was not sent is not sent any more.
    async fn last_answers(&self) -> Outcome {
        let until = Instant::now() + LAST_ANSWERS;
        for sent in &self.sent {
            sent.placement().withdraw();
        }
        let mut unknown = None;
        for sent in &self.sent {
            let outcome = timeout_at(until, sent.placement().outcome()).await;
            let state = outcome.unwrap_or_else(|_| sent.placement().state());
            sent.forget(&state);
            match state {
                PlacementState::Accepted { .. } => {}
                PlacementState::Refused(_)
                | PlacementState::GivenUp
                | PlacementState::Withdrawn(_) => {
                    self.context.output.note(&in_words(&sent.failure(state)));
                }
                state if sent.has_journal() => unknown = Some(sent.failure(state)),
                // The exchange ends with this process.
                _ => {}
            }
        }
        unknown.map_or(Ok(()), Err)
    }

    /// Reads the account back where something of it may be missing, and reports whether it did.
    async fn reconcile(&mut self) -> bool {
        if !self.portfolio.is_subscribed() || self.portfolio.is_current() {
            return false;
        }
        if let Err(error) = self.portfolio.reconcile(&self.client).await {
            self.state.notice = Some(format!("the account could not be read: {error}"));
        }
        true
    }

    /// Asks how many contracts are ahead of the own orders.
    fn queue(&self, found: &mpsc::UnboundedSender<Found>) {
        let mut tickers: Vec<String> =
            self.state.orders.iter().map(|order| order.ticker.clone()).collect();
        tickers.sort_unstable();
        tickers.dedup();
        if tickers.is_empty() {
            return;
        }
        let (client, found) = (self.client.clone(), found.clone());
        tokio::spawn(async move {
            let answer = client.get_order_queue_positions().market_tickers(tickers).send().await;
            let rows = match answer {
                Ok(answer) => answer.into_inner().queue_positions,
                Err(error) => {
                    let _ = found.send(Found::Failed(format!("the queue: {error}")));
                    return;
                }
            };
            let rows = rows.into_iter().map(|row| (row.order_id, row.queue_position_fp)).collect();
            let _ = found.send(Found::Queue(rows));
        });
    }

    /// Reads the candles of the market that is shown.
    fn bars(&self, found: &mpsc::UnboundedSender<Found>) {
        let Some(market) = self.state.market() else { return };
        let (client, found, ticker) = (self.client.clone(), found.clone(), market.ticker.clone());
        tokio::spawn(async move {
            let now = UnixSeconds::from_seconds(SystemClock.now().as_millis() / 1_000);
            let span = Duration::from_secs(7 * 86_400);
            let sent = match chart::fetch(&client, &ticker, now, span, Period::Hour).await {
                Ok((_, candles)) => Found::Bars(ticker, chart::bars(&candles)),
                Err(failure) => Found::Failed(failure.message),
            };
            let _ = found.send(sent);
        });
    }

    /// Reads the last trades of each market.
    fn history(&self, found: &mpsc::UnboundedSender<Found>) {
        let tickers: Vec<String> =
            self.state.markets.iter().map(|market| market.ticker.clone()).collect();
        let (client, found) = (self.client.clone(), found.clone());
        tokio::spawn(async move {
            for ticker in tickers {
                let answer = client.get_trades().ticker(&*ticker).limit(100).send().await;
                let Ok(answer) = answer else { continue };
                let rows = answer.into_inner().trades.into_iter().map(trade_row).collect();
                let _ = found.send(Found::Trades(ticker, rows));
            }
        });
    }
}
