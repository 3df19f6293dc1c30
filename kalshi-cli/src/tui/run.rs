//! The loop around the state: streams, reads, keys and the screen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use kalshi_sdk::{
    Client, Count, OperationId, UnixSeconds,
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
};
use ratatui::crossterm::{
    event::{self, DisableMouseCapture, EnableMouseCapture, Event as Input, KeyEventKind},
    execute,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Tui,
    state::{Link, MarketView, Money, OrderRow, PositionRow, Request, State, TradeRow},
    view::view,
};
use crate::{
    chart::{self, draw::Bar},
    context::{Context, Target},
    failure::{Failure, Outcome},
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
}

/// Shows the terminal until it is quit.
pub(super) async fn run(context: &Context, args: &Tui) -> Outcome {
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
    let screen = Screen::open()?;
    let result = Shown { client, budget, connection, portfolio: Portfolio::new(), state }
        .until_quit(screen)
        .await;
    ratatui::restore();
    result
}

/// Reads the markets to show: those that are named, or the open ones with the most volume.
async fn markets(client: &Client, tickers: &[String]) -> Outcome<Vec<MarketView>> {
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
        ..MarketView::default()
    };
    Ok(found.into_iter().map(view).collect())
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
struct Shown {
    client: Client,
    budget: Budget,
    connection: Connection,
    portfolio: Portfolio,
    state: State,
}

impl Shown {
    async fn until_quit(mut self, mut screen: Screen) -> Outcome {
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
        self.history(&sender);
        loop {
            tokio::select! {
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
                    let now = SystemClock.now().as_millis();
                    // The clock is shown to the second.
                    is_changed |= now / 1_000 != self.state.now / 1_000;
                    if is_changed {
                        self.refresh(now);
                        screen.terminal.draw(|frame| view(&self.state, frame)).map_err(|error| {
                            Failure::local(format!("could not draw: {error}"))
                        })?;
                        is_changed = false;
                    }
                }
            }
        }
    }

    /// Takes in an event of the streams.
    fn event(&mut self, event: &Event) {
        self.portfolio.apply(event);
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
        }
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
                let row = |trade: kalshi_sdk::types::Trade| TradeRow {
                    at: trade.created_time.timestamp_millis(),
                    yes_price: trade.yes_price_dollars,
                    count: trade.count_fp,
                    taker: trade.taker_book_side,
                };
                let rows = answer.into_inner().trades.into_iter().map(row).collect();
                let _ = found.send(Found::Trades(ticker, rows));
            }
        });
    }
}
