use std::{collections::BTreeSet, ops::Bound};

use kalshi_types::{Dollars, GridErrorKind, PriceGrid, PriceRange};
use proptest::prelude::*;

use crate::dollars;

fn band(start: &str, end: &str, step: &str) -> PriceRange {
    PriceRange { start: dollars(start), end: dollars(end), step: dollars(step) }
}

fn one(step: &str) -> Vec<PriceRange> {
    vec![band("0", "1", step)]
}

fn three(edge: &str, edge_step: &str, center_step: &str) -> Vec<PriceRange> {
    let other_edge = dollars(edge).complement().unwrap().to_string();
    vec![
        band("0", edge, edge_step),
        band(edge, &other_edge, center_step),
        band(&other_edge, "1", edge_step),
    ]
}

/// Returns all structures that the exchange documents, with the number of prices that each has.
fn structures() -> Vec<(&'static str, Vec<PriceRange>, usize)> {
    vec![
        ("linear_cent", one("0.01"), 99),
        ("deci_cent", one("0.001"), 999),
        ("tapered_deci_cent", three("0.10", "0.001", "0.01"), 279),
        ("center_whole_edge_half_cent", three("0.10", "0.005", "0.01"), 119),
        ("center_whole_edge_quint_cent", three("0.10", "0.002", "0.01"), 179),
        ("center_half_edge_half_cent", one("0.005"), 199),
        ("center_half_edge_quint_cent", three("0.10", "0.002", "0.005"), 259),
        ("center_half_edge_deci_cent", three("0.10", "0.001", "0.005"), 359),
        ("center_quint_edge_quint_cent", one("0.002"), 499),
        ("center_quint_edge_deci_cent", three("0.10", "0.001", "0.002"), 599),
        ("center_centi_edge_centi_cent", one("0.0001"), 9_999),
        ("center_deci_edge_centi_cent", three("0.01", "0.0001", "0.001"), 1_179),
    ]
}

/// Returns the valid prices of some bands in 10^-6 USD, by walking each band step by step.
fn walk(ranges: &[PriceRange]) -> BTreeSet<i64> {
    let mut prices = BTreeSet::new();
    for range in ranges {
        let mut price = range.start.as_micros();
        while price <= range.end.as_micros() {
            prices.insert(price);
            price += range.step.as_micros();
        }
    }
    prices.remove(&0);
    prices.remove(&1_000_000);
    prices
}

/// Compares every answer of a grid at one price with the walked set.
fn agrees(grid: &PriceGrid, prices: &BTreeSet<i64>, micros: i64) {
    let price = Dollars::from_micros(micros);
    let down = prices.range(..=micros).next_back().copied();
    let up = prices.range(micros..).next().copied();
    let below = prices.range(..micros).next_back().copied();
    let above = prices.range((Bound::Excluded(micros), Bound::Unbounded)).next().copied();
    let micros_of = |price: Option<Dollars>| price.map(Dollars::as_micros);
    assert_eq!(grid.is_valid(price), prices.contains(&micros), "{price}");
    assert_eq!(micros_of(grid.snap_down(price)), down, "down from {price}");
    assert_eq!(micros_of(grid.snap_up(price)), up, "up from {price}");
    assert_eq!(micros_of(grid.next_below(price)), below, "below {price}");
    assert_eq!(micros_of(grid.next_above(price)), above, "above {price}");
}

#[test]
fn every_documented_structure_has_the_prices_of_its_bands() {
    for (name, ranges, len) in structures() {
        let prices = walk(&ranges);
        let grid = PriceGrid::new(ranges).unwrap();
        assert_eq!(prices.len(), len, "{name}");
        assert!(grid.ticks().map(Dollars::as_micros).eq(prices.iter().copied()), "{name}");
        assert!(grid.ticks().rev().map(Dollars::as_micros).eq(prices.iter().rev().copied()));
        assert_eq!(grid.lowest().as_micros(), *prices.first().unwrap(), "{name}");
        assert_eq!(grid.highest().as_micros(), *prices.last().unwrap(), "{name}");
    }
}

#[test]
fn snapping_finds_the_nearest_price_in_every_documented_structure() {
    for (_, ranges, _) in structures() {
        let prices = walk(&ranges);
        let grid = PriceGrid::new(ranges).unwrap();
        // Every 10^-4 dollars, and both neighbors at 10^-6.
        for micros in (-200..=1_000_200).step_by(100) {
            for micros in [micros - 1, micros, micros + 1] {
                agrees(&grid, &prices, micros);
            }
        }
        for micros in [i64::MIN, i64::MIN + 1, -1_000_000, 2_000_000, i64::MAX - 1, i64::MAX] {
            agrees(&grid, &prices, micros);
        }
    }
}

#[test]
fn both_sides_have_the_same_prices_in_every_documented_structure() {
    for (name, ranges, _) in structures() {
        let grid = PriceGrid::new(ranges).unwrap();
        assert_eq!(grid.complement(), grid, "{name}");
        for price in grid.ticks() {
            assert!(grid.is_valid(price.complement().unwrap()), "{name} {price}");
        }
    }
}

#[test]
fn whole_cents_are_valid_and_zero_and_one_are_not_in_every_documented_structure() {
    for (name, ranges, _) in structures() {
        let grid = PriceGrid::new(ranges).unwrap();
        for cents in 1..=99 {
            assert!(grid.is_valid(Dollars::from_cents(cents).unwrap()), "{name} {cents}");
        }
        assert!(!grid.is_valid(Dollars::ZERO), "{name}");
        assert!(!grid.is_valid(Dollars::ONE), "{name}");
    }
}

#[test]
fn prices_of_six_decimals_are_off_every_documented_grid() {
    for (name, ranges, _) in structures() {
        let grid = PriceGrid::new(ranges).unwrap();
        for text in ["0.500001", "0.099999", "0.100001", "0.000001", "0.999999", "0.12345"] {
            assert!(!grid.is_valid(dollars(text)), "{name} {text}");
        }
    }
}

#[test]
fn both_steps_apply_on_the_edge_of_two_bands() {
    let grid = PriceGrid::new(three("0.10", "0.001", "0.01")).unwrap();
    assert!(grid.is_valid(dollars("0.10")));
    assert_eq!(grid.next_below(dollars("0.10")), Some(dollars("0.099")));
    assert_eq!(grid.next_above(dollars("0.10")), Some(dollars("0.11")));
    assert_eq!(grid.next_below(dollars("0.90")), Some(dollars("0.89")));
    assert_eq!(grid.next_above(dollars("0.90")), Some(dollars("0.901")));
    assert_eq!(grid.tick_at(dollars("0.10")), Some(dollars("0.001")));
    assert_eq!(grid.tick_at(dollars("0.100001")), Some(dollars("0.01")));
    assert_eq!(grid.tick_at(dollars("0.90")), Some(dollars("0.001")));
    assert_eq!(grid.tick_at(dollars("1")), Some(dollars("0.001")));
    assert_eq!(grid.tick_at(dollars("1.000001")), None);
    assert_eq!(grid.tick_at(dollars("-0.01")), None);
}

#[test]
fn ticks_stay_within_their_bounds() {
    let grid = PriceGrid::new(one("0.01")).unwrap();
    let (low, high) = (dollars("0.50"), dollars("0.53"));
    let list = |texts: &[&str]| texts.iter().map(|text| dollars(text)).collect::<Vec<_>>();
    let all = |ticks: kalshi_types::Ticks<'_>| ticks.collect::<Vec<_>>();
    assert_eq!(all(grid.ticks_in(low..high)), list(&["0.50", "0.51", "0.52"]));
    assert_eq!(all(grid.ticks_in(low..=high)), list(&["0.50", "0.51", "0.52", "0.53"]));
    let open = (Bound::Excluded(low), Bound::Excluded(high));
    assert_eq!(all(grid.ticks_in(open)), list(&["0.51", "0.52"]));
    assert_eq!(all(grid.ticks_in(dollars("0.505")..dollars("0.525"))), list(&["0.51", "0.52"]));
    assert_eq!(grid.ticks_in(..).count(), 99);
    assert_eq!(grid.ticks_in(high..low).count(), 0);
    assert_eq!(grid.ticks_in(dollars("0.501")..dollars("0.502")).count(), 0);
    assert_eq!(grid.ticks_in(Dollars::MIN..=Dollars::MAX).count(), 99);
    assert_eq!(grid.ticks_in((Bound::Excluded(Dollars::MAX), Bound::Unbounded)).count(), 0);
    assert_eq!(grid.ticks_in(..Dollars::MIN).count(), 0);
}

#[test]
fn ticks_from_both_ends_meet_once() {
    let grid = PriceGrid::new(one("0.2")).unwrap();
    let mut ticks = grid.ticks();
    assert_eq!(ticks.next(), Some(dollars("0.2")));
    assert_eq!(ticks.next_back(), Some(dollars("0.8")));
    assert_eq!(ticks.next_back(), Some(dollars("0.6")));
    assert_eq!(ticks.next(), Some(dollars("0.4")));
    assert_eq!(ticks.next(), None);
    assert_eq!(ticks.next_back(), None);
    assert_eq!(ticks.next(), None);
}

#[test]
fn the_complement_counts_its_steps_from_the_last_price_of_a_band() {
    // The upper edge is not on a step: 0.10, 0.13, 0.16, 0.19.
    let grid = PriceGrid::new([band("0.10", "0.20", "0.03")]).unwrap();
    let no: Vec<Dollars> = grid.complement().ticks().collect();
    assert_eq!(no, [dollars("0.81"), dollars("0.84"), dollars("0.87"), dollars("0.90")]);
}

#[test]
fn a_bad_list_of_bands_is_refused_by_name() {
    let good = band("0", "1", "0.01");
    let error = |ranges: Vec<PriceRange>| {
        let error = PriceGrid::new(ranges).unwrap_err();
        (error.kind(), error.band())
    };
    let min_to_max = PriceRange { start: Dollars::MIN, end: Dollars::MAX, step: Dollars::MAX };
    assert_eq!(error(vec![]), (GridErrorKind::Empty, None));
    assert_eq!(error(vec![good; 101]), (GridErrorKind::TooManyBands, None));
    assert!(PriceGrid::new(vec![good; 100]).is_ok());
    assert_eq!(error(vec![good, band("0", "1", "0")]), (GridErrorKind::Step, Some(1)));
    assert_eq!(error(vec![band("0", "1", "-0.01")]), (GridErrorKind::Step, Some(0)));
    assert_eq!(error(vec![band("0", "1", "1.000001")]), (GridErrorKind::Step, Some(0)));
    assert_eq!(error(vec![good, good, min_to_max]), (GridErrorKind::Step, Some(2)));
    assert_eq!(error(vec![band("0.2", "0.1", "0.01")]), (GridErrorKind::Order, Some(0)));
    assert_eq!(error(vec![band("-0.01", "1", "0.01")]), (GridErrorKind::Bounds, Some(0)));
    assert_eq!(error(vec![band("0", "1.01", "0.01")]), (GridErrorKind::Bounds, Some(0)));
    assert_eq!(error(one("1")), (GridErrorKind::NoPrice, None));
    assert_eq!(error(vec![band("0", "0", "0.01")]), (GridErrorKind::NoPrice, None));
    assert_eq!(error(vec![band("1", "1", "0.01")]), (GridErrorKind::NoPrice, None));

    let message = PriceGrid::new(vec![good, band("0.2", "0.1", "0.01")]).unwrap_err().to_string();
    assert_eq!(
        message,
        "band 1 of the price grid (0.2000 to 0.1000 by 0.0100) starts above its end"
    );
    assert_eq!(PriceGrid::new([]).unwrap_err().to_string(), "price grid has no bands");
}

/// Bands that pass the check, in any order, with gaps, overlaps and edges that are off their steps.
fn ranges() -> impl Strategy<Value = Vec<PriceRange>> {
    let edge = || prop_oneof![Just(0), Just(1_000_000), 0_i64..=1_000_000];
    let range = (edge(), edge(), prop_oneof![500_i64..=50_000, Just(1_000_000)]).prop_map(
        |(one, other, step)| PriceRange {
            start: Dollars::from_micros(one.min(other)),
            end: Dollars::from_micros(one.max(other)),
            step: Dollars::from_micros(step),
        },
    );
    prop::collection::vec(range, 1..5)
}

/// Generates any price, and those where something may change.
fn near(ranges: &[PriceRange]) -> Vec<i64> {
    let edges = ranges.iter().flat_map(|range| [range.start.as_micros(), range.end.as_micros()]);
    edges.chain([0, 1_000_000]).flat_map(|micros| [micros - 1, micros, micros + 1]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_grid_of_any_bands_agrees_with_a_walk(
        ranges in ranges(),
        micros in prop::collection::vec(-10_i64..=1_000_010, 20),
    ) {
        let prices = walk(&ranges);
        let near = near(&ranges);
        let Ok(grid) = PriceGrid::new(ranges) else {
            prop_assert!(prices.is_empty());
            return Ok(());
        };
        for micros in micros.into_iter().chain(near) {
            agrees(&grid, &prices, micros);
        }
        prop_assert!(grid.ticks().map(Dollars::as_micros).eq(prices.iter().copied()));
        prop_assert!(grid.ticks().rev().map(Dollars::as_micros).eq(prices.iter().rev().copied()));
    }

    #[test]
    fn the_complement_of_a_grid_has_the_complement_of_each_price(ranges in ranges()) {
        if let Ok(grid) = PriceGrid::new(ranges) {
            let other = grid.complement();
            let flipped = grid.ticks().rev().map(|price| price.complement().unwrap());
            prop_assert!(other.ticks().eq(flipped));
            prop_assert_eq!(other.lowest().complement(), Some(grid.highest()));
            prop_assert_eq!(other.highest().complement(), Some(grid.lowest()));
            // What a grid gives away is a list that makes a grid again.
            prop_assert_eq!(PriceGrid::new(other.ranges()), Ok(other));
        }
    }

    #[test]
    fn no_list_of_bands_and_no_price_panics(
        ranges in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 0..4),
        price in any::<i64>(),
    ) {
        let ranges: Vec<PriceRange> = ranges
            .into_iter()
            .map(|(start, end, step)| PriceRange {
                start: Dollars::from_micros(start),
                end: Dollars::from_micros(end),
                step: Dollars::from_micros(step),
            })
            .collect();
        if let Ok(grid) = PriceGrid::new(ranges) {
            let price = Dollars::from_micros(price);
            let _ = (grid.snap_down(price), grid.snap_up(price), grid.tick_at(price));
        }
    }
}
