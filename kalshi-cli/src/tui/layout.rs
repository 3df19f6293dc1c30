//! Where everything stands, by the size of the terminal. Pure.

use ratatui::layout::{Constraint, Layout, Rect};

/// From this width on the ladder has a chart and trades beside it.
const MEDIUM: u16 = 80;
/// From this width on positions and orders have a column of their own.
const WIDE: u16 = 150;

/// The places of the parts; those that a narrow terminal has no room for are behind tabs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Areas {
    pub(crate) status: Rect,
    pub(crate) title: Rect,
    pub(crate) ladder: Rect,
    pub(crate) chart: Option<Rect>,
    pub(crate) trades: Option<Rect>,
    pub(crate) positions: Option<Rect>,
    pub(crate) orders: Option<Rect>,
    /// The names of the views, and the one that is shown.
    pub(crate) tabs: Option<Rect>,
    pub(crate) tab: Option<Rect>,
    pub(crate) keys: Rect,
}

/// Returns the places on a terminal of a size.
pub(crate) fn areas(size: Rect) -> Areas {
    let [status, title, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(size);
    let mut areas = Areas { status, title, keys, ..Areas::default() };
    if size.width < MEDIUM {
        let [ladder, tabs, tab] =
            Layout::vertical([Constraint::Fill(3), Constraint::Length(1), Constraint::Fill(2)])
                .areas(body);
        areas.ladder = ladder;
        areas.tabs = Some(tabs);
        areas.tab = Some(tab);
        return areas;
    }
    if size.width < WIDE {
        let [top, below] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(8)]).areas(body);
        let [ladder, right] =
            Layout::horizontal([Constraint::Length(46), Constraint::Fill(1)]).areas(top);
        let [chart, trades] =
            Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(right);
        let [positions, orders] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(below);
        areas.ladder = ladder;
        (areas.chart, areas.trades) = (Some(chart), Some(trades));
        (areas.positions, areas.orders) = (Some(positions), Some(orders));
        return areas;
    }
    let [ladder, middle, right] =
        Layout::horizontal([Constraint::Length(54), Constraint::Fill(1), Constraint::Length(54)])
            .areas(body);
    let [chart, trades] =
        Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(middle);
    let [positions, orders] =
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(right);
    areas.ladder = ladder;
    (areas.chart, areas.trades) = (Some(chart), Some(trades));
    (areas.positions, areas.orders) = (Some(positions), Some(orders));
    areas
}
