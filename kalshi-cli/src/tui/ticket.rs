//! Draws the window of an order. Pure.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Clear, Paragraph},
};

use super::{
    state::{Money, State},
    trade::{CANCEL, CANCEL_ALL, Draft, Ticket, Trade},
    view::{STRONG, Theme, clip, width},
};
use crate::output::safe;

/// The widest window.
const WIDTH: u16 = 76;

/// The columns before the values of a preview.
const NAMES: usize = 15;

/// Draws the window of what is being placed or canceled, if one is open.
pub(super) fn ticket(
    state: &State,
    trade: &Trade,
    theme: Theme,
    frame: &mut Frame<'_>,
    size: Rect,
) {
    let Some(ticket) = &trade.ticket else { return };
    let room = usize::from(size.width.min(WIDTH).saturating_sub(4));
    let (name, body, prompt) = match ticket {
        Ticket::Count { draft, fault } => {
            let mut body = draft_lines(draft, theme, room);
            let typed = vec![name("count"), Span::styled(draft.count.clone(), theme.own()), CARET];
            body.push(Line::from(typed));
            if let Some(fault) = fault {
                body.extend(row("", fault, theme.down(), room));
            }
            let keys =
                [("enter", "shows what it would be"), ("↑ ↓", "price"), ("esc", "leaves it")];
            (title(draft), body, keys_line(&keys, theme))
        }
        Ticket::Looking { draft, .. } => {
            let mut body = draft_lines(draft, theme, room);
            body.push(Line::from(vec![name("count"), Span::raw(draft.count.clone())]));
            let prompt = Line::from(Span::styled("reading what it would be …", theme.dim()));
            (title(draft), body, prompt)
        }
        Ticket::Confirm { draft, looked, typed, .. } => {
            let rows = looked.rows.iter();
            let body = rows.flat_map(|(name, value)| row(name, value, Style::new(), room));
            let prompt = if trade.is_typed {
                prompt(&looked.line, typed, theme)
            } else {
                keys_line(&[("y", "sends it"), ("esc", "leaves it")], theme)
            };
            (title(draft), body.collect(), prompt)
        }
        Ticket::Cancel { ids, typed } => {
            let (name, line) = match ids {
                Some(_) => ("Cancel", CANCEL),
                None => ("Cancel all", CANCEL_ALL),
            };
            let text = match ids {
                Some(ids) => format!("Cancels your orders at this price: {}.", ids.len()),
                None => format!(
                    "Cancels every resting order of event contracts: {} are shown, and those of every \
                     subaccount and those placed meanwhile go as well. Orders of perpetual futures \
                     stay: kalshi perps order cancel-all.",
                    state.orders.len()
                ),
            };
            let mut body = row("environment", &state.environment, Style::new(), room);
            body.extend(words(&text, room).into_iter().map(Line::from));
            (name.to_owned(), body, prompt(line, typed, theme))
        }
        Ticket::Failed { text } => {
            let body = words(&safe(text), room).into_iter().map(Line::from).collect();
            ("Not sent".to_owned(), body, keys_line(&[("enter", "goes on")], theme))
        }
    };
    let style = match (ticket, state.money) {
        (Ticket::Failed { .. }, _) => theme.warning(),
        (_, Money::Real) => theme.down(),
        _ => theme.own(),
    };
    window(&name, body, prompt, style, frame, size);
}

const CARET: Span<'static> =
    Span { content: std::borrow::Cow::Borrowed("▏"), style: Style::new() };

fn title(draft: &Draft) -> String {
    let action = draft.action.to_string();
    let (first, rest) = action.split_at(action.len().min(1));
    let outcome = if draft.outcome == kalshi_sdk::streams::Outcome::Yes { "YES" } else { "NO" };
    format!("{}{rest} {outcome}", first.to_uppercase())
}

fn name(text: &'static str) -> Span<'static> {
    Span::raw(format!("{text:<NAMES$}"))
}

fn draft_lines(draft: &Draft, theme: Theme, room: usize) -> Vec<Line<'static>> {
    let price = draft.price().map(|price| price.to_string()).unwrap_or_default();
    let ticker = clip(&draft.ticker, room.saturating_sub(NAMES));
    let mut price = vec![name("price"), Span::styled(price, STRONG)];
    if draft.outcome == kalshi_sdk::streams::Outcome::No {
        price.push(Span::styled(format!("  YES {}", draft.yes_price), theme.dim()));
    }
    vec![Line::from(vec![name("market"), Span::raw(ticker)]), Line::from(price)]
}

fn keys_line(keys: &[(&'static str, &'static str)], theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.push(Span::styled(*key, STRONG));
        spans.push(Span::styled(format!(" {what}   "), theme.dim()));
    }
    Line::from(spans)
}

fn prompt(line: &str, typed: &str, theme: Theme) -> Line<'static> {
    Line::from(vec![
        Span::raw("type "),
        Span::styled(line.to_owned(), STRONG.add_modifier(Modifier::UNDERLINED)),
        Span::raw(" and enter: "),
        Span::styled(typed.to_owned(), theme.own()),
        CARET,
    ])
}

/// Returns a named value on as many lines as it takes; nothing of it is cut.
fn row(name: &str, value: &str, style: Style, room: usize) -> Vec<Line<'static>> {
    let lines = words(&safe(value), room.saturating_sub(NAMES)).into_iter().enumerate();
    lines
        .map(|(index, value)| {
            let name = if index == 0 { name } else { "" };
            Line::from(vec![Span::raw(format!("{name:<NAMES$}")), Span::styled(value, style)])
        })
        .collect()
}

/// Breaks a text between words, and within those that are longer than a line.
pub(super) fn words(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        if width(&line) + gap + width(word) <= room {
            line.push_str(if gap == 1 { " " } else { "" });
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if width(&line) > room {
                let last = line.pop();
                lines.push(std::mem::take(&mut line));
                line.extend(last);
            }
        }
    }
    lines.push(line);
    lines
}

/// Draws a window in the middle; its last line is what is asked.
fn window(
    name: &str,
    body: Vec<Line<'static>>,
    prompt: Line<'static>,
    style: Style,
    frame: &mut Frame<'_>,
    size: Rect,
) {
    let rows = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let (wide, high) = (size.width.min(WIDTH), size.height.min(rows.saturating_add(4)));
    let place = Rect {
        x: size.x + (size.width - wide) / 2,
        y: size.y + (size.height - high) / 2,
        width: wide,
        height: high,
    };
    frame.render_widget(Clear, place);
    let block = Block::bordered()
        .border_type(BorderType::Thick)
        .border_style(style)
        .title(Span::styled(format!(" {name} "), STRONG));
    let inner = block.inner(place);
    frame.render_widget(block, place);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let [above, _, below] =
        Layout::vertical([Constraint::Fill(1), Constraint::Max(1), Constraint::Length(1)])
            .areas(inner);
    frame.render_widget(Paragraph::new(body), above);
    frame.render_widget(Paragraph::new(prompt), below);
}
