//! The prices that a market accepts.
//!
//! The list of bands alone decides: this module knows no names of price structures.

use std::{
    error, fmt,
    iter::FusedIterator,
    ops::{Bound, RangeBounds},
};

use serde::{Deserialize, Serialize};

use crate::dollars::Dollars;

/// More than three bands have not been seen. The bound keeps the cost of a lookup small for any
/// list.
const MAX_BANDS: usize = 100;

/// One band of a price grid: the prices `start`, `start + step`, `start + 2 step`, … up to `end`.
///
/// This is what the exchange sends, unchecked; a [`PriceGrid`] is checked.
///
/// ```
/// use kalshi_types::{Dollars, PriceRange};
///
/// let band = PriceRange {
///     start: "0.1000".parse()?,
///     end: "0.9000".parse()?,
///     step: Dollars::CENT,
/// };
/// assert_eq!(band.to_string(), "0.1000 to 0.9000 by 0.0100");
/// # Ok::<(), kalshi_types::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PriceRange {
    /// The lower edge, in dollars. A price of the band, unless it is zero or one.
    pub start: Dollars,
    /// The upper edge, in dollars. A price of the band if it is a whole number of steps from the
    /// start, unless it is zero or one.
    pub end: Dollars,
    /// The distance between two prices, in dollars.
    pub step: Dollars,
}

/// The prices that a market accepts, made of one or more bands.
///
/// A price is valid if some band has `start <= price <= end` and the price is a whole number of
/// steps above its start. On the edge that two bands share, both apply. Zero and one dollar are
/// never valid.
///
/// A grid has at least one price. Its bands may overlap, leave gaps and come in any order.
///
/// A NO price `q` is valid where the YES price `1 - q` is: see [`complement`](Self::complement)
/// and [`Dollars::complement`].
///
/// ```
/// use kalshi_types::{Dollars, PriceGrid, PriceRange};
///
/// let price = |text: &str| text.parse::<Dollars>();
/// let grid = PriceGrid::new([
///     PriceRange { start: price("0")?, end: price("0.10")?, step: price("0.001")? },
///     PriceRange { start: price("0.10")?, end: price("0.90")?, step: price("0.01")? },
///     PriceRange { start: price("0.90")?, end: price("1")?, step: price("0.001")? },
/// ])?;
///
/// assert!(grid.is_valid(price("0.56")?));
/// assert!(!grid.is_valid(price("0.565")?));
/// assert_eq!(grid.snap_down(price("0.565")?), Some(price("0.56")?));
/// assert_eq!(grid.snap_up(price("0.565")?), Some(price("0.57")?));
/// assert_eq!(grid.tick_at(price("0.05")?), Some(price("0.001")?));
///
/// // The three best prices above 89 cents.
/// let asks: Vec<_> = grid.ticks_in(price("0.89")?..).take(3).collect();
/// assert_eq!(asks, [price("0.89")?, price("0.90")?, price("0.901")?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Serde
///
/// Serializes as the list of bands; deserializing checks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<PriceRange>", into = "Vec<PriceRange>")]
pub struct PriceGrid {
    /// All of them pass [`PriceRange::check`].
    ranges: Box<[PriceRange]>,
    lowest: Dollars,
    highest: Dollars,
}

/// The reason why a list of bands is not a [`PriceGrid`].
///
/// ```
/// use kalshi_types::{Dollars, GridErrorKind, PriceGrid, PriceRange};
///
/// let band = PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::ZERO };
/// let error = PriceGrid::new([band]).unwrap_err();
/// assert_eq!(error.kind(), GridErrorKind::Step);
/// assert_eq!(error.band(), Some(0));
/// assert_eq!(
///     error.to_string(),
///     "band 0 of the price grid (0.0000 to 1.0000 by 0.0000) has a step that is not above zero \
///      and at most one dollar"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridError {
    kind: GridErrorKind,
    band: Option<(usize, PriceRange)>,
}

/// The fault of a list of bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GridErrorKind {
    /// There is no band.
    Empty,
    /// There are more than 100 bands.
    TooManyBands,
    /// The step of a band is not above zero and at most one dollar.
    Step,
    /// The start of a band is above its end.
    Order,
    /// A band reaches below zero or above one dollar.
    Bounds,
    /// The bands are well formed, and none has a price between zero and one dollar.
    NoPrice,
}

/// The reason why a price is not valid on a [`PriceGrid`].
///
/// ```
/// use kalshi_types::{Dollars, PriceGrid, PriceRange};
///
/// let cents = [PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::CENT }];
/// let grid = PriceGrid::new(cents)?;
///
/// let error = grid.check("56".parse()?).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "price \"56.0000\" is above 1: prices are dollars, \"0.56\" is 56 cents"
/// );
/// let error = grid.check("0.565".parse()?).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "price \"0.5650\" is not on the grid of the market: the nearest are \"0.5600\" and \"0.5700\""
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PriceError {
    price: Dollars,
    below: Option<Dollars>,
    above: Option<Dollars>,
}

/// An iterator over the prices of a [`PriceGrid`], each once, upwards; `.rev()` for downwards.
#[derive(Clone, Debug)]
pub struct Ticks<'a> {
    grid: &'a PriceGrid,
    /// The next price from below and from above. Both are valid and in order.
    ends: Option<(Dollars, Dollars)>,
}

impl PriceGrid {
    /// Checks a list of bands.
    ///
    /// # Errors
    ///
    /// Says which band is at fault, and why: see [`GridErrorKind`].
    pub fn new(ranges: impl Into<Box<[PriceRange]>>) -> Result<Self, GridError> {
        let ranges = ranges.into();
        if ranges.is_empty() {
            return Err(GridErrorKind::Empty.into());
        }
        if ranges.len() > MAX_BANDS {
            return Err(GridErrorKind::TooManyBands.into());
        }
        for (index, range) in ranges.iter().enumerate() {
            if let Err(kind) = range.check() {
                return Err(GridError { kind, band: Some((index, *range)) });
            }
        }
        match (snap_up(&ranges, Dollars::ZERO), snap_down(&ranges, Dollars::ONE)) {
            (Some(lowest), Some(highest)) => Ok(Self { ranges, lowest, highest }),
            _ => Err(GridErrorKind::NoPrice.into()),
        }
    }

    /// Returns the bands, as they were given.
    pub fn ranges(&self) -> &[PriceRange] {
        &self.ranges
    }

    /// Returns the lowest valid price.
    pub fn lowest(&self) -> Dollars {
        self.lowest
    }

    /// Returns the highest valid price.
    pub fn highest(&self) -> Dollars {
        self.highest
    }

    /// Reports whether the exchange accepts this price. [`check`](Self::check) says why not.
    pub fn is_valid(&self, price: Dollars) -> bool {
        Dollars::ZERO < price
            && price < Dollars::ONE
            && self.ranges.iter().any(|range| range.has_tick(price))
    }

    /// Checks whether the exchange accepts this price.
    ///
    /// # Errors
    ///
    /// [`PriceError`] with the nearest prices that are accepted.
    pub fn check(&self, price: Dollars) -> Result<(), PriceError> {
        if self.is_valid(price) {
            return Ok(());
        }
        Err(PriceError { price, below: self.snap_down(price), above: self.snap_up(price) })
    }

    /// Returns the highest valid price at or below this one, or `None` when there is none. For bids.
    pub fn snap_down(&self, price: Dollars) -> Option<Dollars> {
        snap_down(&self.ranges, price)
    }

    /// Returns the lowest valid price at or above this one, or `None` when there is none. For asks.
    pub fn snap_up(&self, price: Dollars) -> Option<Dollars> {
        snap_up(&self.ranges, price)
    }

    /// Returns the lowest valid price above this one, or `None` when there is none.
    pub fn next_above(&self, price: Dollars) -> Option<Dollars> {
        self.snap_up(price.checked_add(Dollars::from_micros(1))?)
    }

    /// Returns the highest valid price below this one, or `None` when there is none.
    pub fn next_below(&self, price: Dollars) -> Option<Dollars> {
        self.snap_down(price.checked_sub(Dollars::from_micros(1))?)
    }

    /// Returns the step of the band that this price lies in, or `None` when it lies in none. Where
    /// several apply, as on the edge of two bands, the finest.
    ///
    /// The price itself need not be valid.
    pub fn tick_at(&self, price: Dollars) -> Option<Dollars> {
        self.ranges
            .iter()
            .filter(|range| range.start <= price && price <= range.end)
            .map(|range| range.step)
            .min()
    }

    /// Returns all valid prices.
    pub fn ticks(&self) -> Ticks<'_> {
        Ticks { grid: self, ends: Some((self.lowest, self.highest)) }
    }

    /// Returns the valid prices within bounds, which need not be valid themselves.
    ///
    /// ```
    /// use kalshi_types::{Dollars, PriceGrid, PriceRange};
    ///
    /// let cents = [PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::CENT }];
    /// let grid = PriceGrid::new(cents)?;
    /// let mid: Dollars = "0.5550".parse()?;
    ///
    /// let bids: Vec<_> = grid.ticks_in(..mid).rev().take(2).collect();
    /// assert_eq!(bids, ["0.5500".parse()?, "0.5400".parse()?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ticks_in(&self, bounds: impl RangeBounds<Dollars>) -> Ticks<'_> {
        let first = match bounds.start_bound() {
            Bound::Included(price) => self.snap_up(*price),
            Bound::Excluded(price) => self.next_above(*price),
            Bound::Unbounded => Some(self.lowest),
        };
        let last = match bounds.end_bound() {
            Bound::Included(price) => self.snap_down(*price),
            Bound::Excluded(price) => self.next_below(*price),
            Bound::Unbounded => Some(self.highest),
        };
        Ticks { grid: self, ends: first.zip(last).filter(|(first, last)| first <= last) }
    }

    /// Returns the grid of the other side: it has the price `1 - p` for each price `p` of this one.
    ///
    /// The structures of the exchange are symmetric, so that both sides have the same prices; a
    /// grid that is built from an arbitrary list need not be.
    pub fn complement(&self) -> Self {
        let flip = |price: Dollars| Dollars::from_micros(ONE - price.as_micros());
        let ranges = self.ranges.iter().rev().map(|range| PriceRange {
            // Steps count from the start, so the other start has to be on a step of this band.
            start: flip(range.last_step(range.end)),
            end: flip(range.start),
            step: range.step,
        });
        Self { ranges: ranges.collect(), lowest: flip(self.highest), highest: flip(self.lowest) }
    }
}

impl TryFrom<Vec<PriceRange>> for PriceGrid {
    type Error = GridError;

    fn try_from(ranges: Vec<PriceRange>) -> Result<Self, GridError> {
        Self::new(ranges)
    }
}

impl TryFrom<&[PriceRange]> for PriceGrid {
    type Error = GridError;

    fn try_from(ranges: &[PriceRange]) -> Result<Self, GridError> {
        Self::new(ranges)
    }
}

impl From<PriceGrid> for Vec<PriceRange> {
    fn from(grid: PriceGrid) -> Self {
        grid.ranges.into_vec()
    }
}

impl Iterator for Ticks<'_> {
    type Item = Dollars;

    fn next(&mut self) -> Option<Dollars> {
        let (first, last) = self.ends?;
        let next = self.grid.next_above(first).filter(|next| *next <= last);
        self.ends = next.map(|next| (next, last));
        Some(first)
    }
}

impl DoubleEndedIterator for Ticks<'_> {
    fn next_back(&mut self) -> Option<Dollars> {
        let (first, last) = self.ends?;
        let next = self.grid.next_below(last).filter(|next| first <= *next);
        self.ends = next.map(|next| (first, next));
        Some(last)
    }
}

impl FusedIterator for Ticks<'_> {}

impl fmt::Display for PriceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} by {}", self.start, self.end, self.step)
    }
}

impl PriceError {
    /// Returns the price that is not valid.
    pub const fn price(&self) -> Dollars {
        self.price
    }

    /// Returns the highest valid price below it, or `None` when there is none.
    pub const fn nearest_below(&self) -> Option<Dollars> {
        self.below
    }

    /// Returns the lowest valid price above it, or `None` when there is none.
    pub const fn nearest_above(&self) -> Option<Dollars> {
        self.above
    }
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { price, below, above } = self;
        write!(f, "price \"{price}\" is ")?;
        if *price > Dollars::ONE {
            return f.write_str("above 1: prices are dollars, \"0.56\" is 56 cents");
        }
        f.write_str(if *price == Dollars::ONE {
            "not below 1"
        } else if *price <= Dollars::ZERO {
            "not above 0"
        } else {
            "not on the grid of the market"
        })?;
        match (below, above) {
            (Some(below), Some(above)) => {
                write!(f, ": the nearest are \"{below}\" and \"{above}\"")
            }
            (Some(nearest), None) | (None, Some(nearest)) => {
                write!(f, ": the nearest is \"{nearest}\"")
            }
            // A grid has at least one price.
            (None, None) => Ok(()),
        }
    }
}

impl error::Error for PriceError {}

impl GridError {
    /// Returns what is wrong.
    pub fn kind(&self) -> GridErrorKind {
        self.kind
    }

    /// Returns the position in the list of the band at fault, from zero, or `None` when the fault is
    /// that of the list as a whole.
    pub fn band(&self) -> Option<usize> {
        self.band.map(|(index, _)| index)
    }
}

impl From<GridErrorKind> for GridError {
    fn from(kind: GridErrorKind) -> Self {
        Self { kind, band: None }
    }
}

impl fmt::Display for GridError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.band {
            Some((index, range)) => write!(f, "band {index} of the price grid ({range})")?,
            None => f.write_str("price grid")?,
        }
        f.write_str(match self.kind {
            GridErrorKind::Empty => " has no bands",
            GridErrorKind::TooManyBands => " has more than 100 bands",
            GridErrorKind::Step => " has a step that is not above zero and at most one dollar",
            GridErrorKind::Order => " starts above its end",
            GridErrorKind::Bounds => " reaches below zero or above one dollar",
            GridErrorKind::NoPrice => " has no price between zero and one dollar",
        })
    }
}

impl error::Error for GridError {}

const ONE: i64 = Dollars::ONE.as_micros();

fn snap_down(ranges: &[PriceRange], price: Dollars) -> Option<Dollars> {
    ranges.iter().filter_map(|range| range.snap_down(price)).max()
}

fn snap_up(ranges: &[PriceRange], price: Dollars) -> Option<Dollars> {
    ranges.iter().filter_map(|range| range.snap_up(price)).min()
}

/// One band of a grid. Apart from the check itself, all of this relies on the check having passed:
/// then everything lies between zero and one dollar, and no sum or product can overflow.
impl PriceRange {
    fn check(&self) -> Result<(), GridErrorKind> {
        if self.step <= Dollars::ZERO || self.step > Dollars::ONE {
            Err(GridErrorKind::Step)
        } else if self.start > self.end {
            Err(GridErrorKind::Order)
        } else if self.start < Dollars::ZERO || self.end > Dollars::ONE {
            Err(GridErrorKind::Bounds)
        } else {
            Ok(())
        }
    }

    fn has_tick(&self, price: Dollars) -> bool {
        self.start <= price && price <= self.end && price == self.last_step(price)
    }

    /// Returns the last step at or below a price of this band.
    fn last_step(&self, price: Dollars) -> Dollars {
        let (start, step) = (self.start.as_micros(), self.step.as_micros());
        let steps = (price.as_micros() - start) / step;
        Dollars::from_micros(start + steps * step)
    }

    fn snap_down(&self, price: Dollars) -> Option<Dollars> {
        let price = price.min(self.end).min(Dollars::from_micros(ONE - 1));
        if price < self.start {
            return None;
        }
        Some(self.last_step(price)).filter(|step| *step > Dollars::ZERO)
    }

    fn snap_up(&self, price: Dollars) -> Option<Dollars> {
        let price = price.max(self.start).max(Dollars::from_micros(1));
        if price > self.end {
            return None;
        }
        let below = self.last_step(price);
        let step = if below == price {
            below
        } else {
            Dollars::from_micros(below.as_micros() + self.step.as_micros())
        };
        Some(step).filter(|step| *step <= self.end && *step < Dollars::ONE)
    }
}
