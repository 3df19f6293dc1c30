//! `kalshi chart`: candles in the terminal, or as SVG or PNG.

pub(crate) mod draw;
mod picture;
mod png;
mod svg;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use kalshi_sdk::{Client, OperationId, UnixSeconds};
use kalshi_trade::candles::{Candle, Period, candles};

use self::draw::{Bar, Tone, draw};
use crate::{
    args::duration,
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
    output,
};

/// The operations that it uses.
pub(crate) const OPERATIONS: [OperationId; 4] = [
    OperationId::GetMarket,
    OperationId::GetEvent,
    OperationId::GetMarketCandlesticks,
    OperationId::GetMarketCandlesticksHistorical,
];

/// The size of a chart where the output is no terminal.
const SIZE: (usize, usize) = (100, 24);

/// Draws the prices of a market as candles.
#[derive(Args)]
pub(crate) struct Chart {
    /// The ticker of the market.
    ticker: String,
    /// The time that a candle covers; chosen by the span unless given.
    #[arg(long, value_enum)]
    period: Option<PeriodName>,
    /// The time to go back.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "7d")]
    last: Duration,
    /// Write SVG to a file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write PNG to a file, of 1,920 by 1,080 pixels.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// The width in cells; that of the terminal unless given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(20..=1_000))]
    width: Option<u16>,
    /// The height in cells; that of the terminal unless given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(5..=1_000))]
    height: Option<u16>,
}

/// The time that a candle covers, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeriodName {
    Minute,
    Hour,
    Day,
}

impl From<PeriodName> for Period {
    fn from(name: PeriodName) -> Self {
        match name {
            PeriodName::Minute => Self::Minute,
            PeriodName::Hour => Self::Hour,
            PeriodName::Day => Self::Day,
        }
    }
}

/// Returns the period that gives a span about a hundred candles.
pub(crate) fn period_for(span: Duration) -> Period {
    match span.as_secs() / 3_600 {
        0..=3 => Period::Minute,
        4..=400 => Period::Hour,
        _ => Period::Day,
    }
}

/// Fetches the candles of a market.
///
/// # Errors
///
/// A read failed.
pub(crate) async fn fetch(
    client: &Client,
    ticker: &str,
    now: UnixSeconds,
    span: Duration,
    period: Period,
) -> Outcome<(String, Vec<Candle>)> {
    let market = client.get_market().ticker(ticker).send().await;
    let market = market
        .map_err(|error| Failure::of_call(&error, OperationId::GetMarket.operation()))?
        .into_inner()
        .market;
    let event = client.get_event().event_ticker(&*market.event_ticker).send().await;
    let event = event
        .map_err(|error| Failure::of_call(&error, OperationId::GetEvent.operation()))?
        .into_inner()
        .event;
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let since = UnixSeconds::from_seconds(now.as_seconds().saturating_sub(seconds).max(0));
    let candles = candles(client, &event.series_ticker, ticker, since, now, period).await;
    let candles = candles.map_err(|error| {
        Failure::of_call(&error, OperationId::GetMarketCandlesticks.operation())
    })?;
    let title = if market.yes_sub_title.is_empty() {
        event.title
    } else {
        format!("{}: {}", event.title, market.yes_sub_title)
    };
    Ok((title, candles))
}

/// Returns the candles to draw: of the trades, and where there were none a line at the last price.
pub(crate) fn bars(candles: &[Candle]) -> Vec<Bar> {
    let mut last = None;
    candles
        .iter()
        .filter_map(|candle| {
            let trades = &candle.trades;
            let close = trades.close.or(candle.previous).or(last)?;
            last = Some(close);
            let or_close = |price: Option<_>| price.unwrap_or(close);
            Some(Bar {
                open: or_close(trades.open),
                high: or_close(trades.high),
                low: or_close(trades.low),
                close,
                volume: candle.volume,
                end: candle.end.as_seconds(),
            })
        })
        .collect()
}

impl Chart {
    /// Draws it.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.public_client().await?;
        let now = UnixSeconds::from_seconds(context.now().timestamp());
        let period = self.period.map_or_else(|| period_for(self.last), Period::from);
        let (title, candles) = fetch(&client, &self.ticker, now, self.last, period).await?;
        let bars = bars(&candles);
        let headline = format!("{}  {title}", self.ticker);
        if let Some(file) = &self.svg {
            write(context, file, svg::svg(&headline, &bars).as_bytes(), bars.len())?;
        }
        if let Some(file) = &self.png {
            let picture = png::png(&headline, &bars).map_err(|error| {
                Failure::local(format!("could not encode the picture: {error}"))
            })?;
            write(context, file, &picture, bars.len())?;
        }
        if self.svg.is_some() || self.png.is_some() {
            return Ok(());
        }
        if !context.output.is_table() {
            return context.output.rows("candles", bars.iter().map(row).collect(), &[]);
        }
        let (columns, rows) = size();
        let width = self.width.map_or(columns, usize::from);
        let height = self.height.map_or(rows, usize::from);
        let mut text = format!("{}  {}\n", output::safe(&self.ticker), output::safe(&title));
        for line in draw(&bars, width, height) {
            push(&mut text, &line, context.output.has_color());
        }
        output::print(&text)
    }
}

fn write(context: &Context, file: &Path, picture: &[u8], candles: usize) -> Outcome {
    std::fs::write(file, picture)
        .map_err(|error| Failure::local(format!("could not write {}: {error}", file.display())))?;
    context.output.note(&format!("{candles} candles in {}", file.display()));
    Ok(())
}

fn row(bar: &Bar) -> Json {
    let text = |value: &dyn ToString| Json::Text(value.to_string());
    let end = chrono::DateTime::from_timestamp(bar.end, 0);
    Json::object([
        ("end", Json::optional(end.map(|end| end.to_rfc3339()))),
        ("open", text(&bar.open)),
        ("high", text(&bar.high)),
        ("low", text(&bar.low)),
        ("close", text(&bar.close)),
        ("volume", text(&bar.volume)),
    ])
}

/// Adds a line of cells, with colors where they change.
fn push(text: &mut String, line: &[draw::Cell], has_color: bool) {
    let end = line.iter().rposition(|(c, _)| *c != ' ').map_or(0, |at| at + 1);
    let mut tone = Tone::Plain;
    for (character, next) in line.iter().take(end) {
        if has_color && *next != tone && *character != ' ' {
            text.push_str(match next {
                Tone::Plain => "\u{1b}[0m",
                Tone::Up => "\u{1b}[0;32m",
                Tone::Down => "\u{1b}[0;31m",
                Tone::Axis => "\u{1b}[0;2m",
            });
            tone = *next;
        }
        text.push(*character);
    }
    if tone != Tone::Plain {
        text.push_str("\u{1b}[0m");
    }
    text.push('\n');
}

/// Returns the size of the terminal, less the lines around the chart.
fn size() -> (usize, usize) {
    let terminal = terminal_size();
    terminal.map_or(SIZE, |(columns, rows)| {
        (usize::from(columns.max(20)), usize::from(rows.saturating_sub(3).clamp(10, 40)))
    })
}

#[cfg(feature = "tui")]
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    use std::io::IsTerminal as _;
    if !std::io::stdout().is_terminal() {
        return None;
    }
    ratatui::crossterm::terminal::size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

#[cfg(not(feature = "tui"))]
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_colors_only_where_they_are_wanted() {
        let line = [('┃', Tone::Up), ('┃', Tone::Down), (' ', Tone::Plain), (' ', Tone::Plain)];
        let mut text = String::new();
        push(&mut text, &line, false);
        assert_eq!(text, "┃┃\n");
        text.clear();
        push(&mut text, &line, true);
        assert_eq!(text, "\u{1b}[0;32m┃\u{1b}[0;31m┃\u{1b}[0m\n");
    }

    #[test]
    fn a_span_has_about_a_hundred_candles() {
        assert_eq!(period_for(Duration::from_secs(3_600)), Period::Minute);
        assert_eq!(period_for(Duration::from_secs(7 * 86_400)), Period::Hour);
        assert_eq!(period_for(Duration::from_secs(90 * 86_400)), Period::Day);
    }
}
