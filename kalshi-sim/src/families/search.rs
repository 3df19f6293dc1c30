//! What menus are made of: tags by category, filters by sport.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    families::targets::{COMPETITIONS, Sport},
    reply::Reply,
};

/// The tags that the series of each category carry.
pub(crate) fn tags_by_categories(series: &[Value]) -> Reply {
    let mut tags: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in series {
        let listed = row["categories"].as_array().map_or(&[][..], Vec::as_slice);
        for category in listed.iter().chain([&row["category"]]).filter_map(Value::as_str) {
            let own = row["tags"].as_array().map_or(&[][..], Vec::as_slice);
            tags.entry(category).or_default().extend(own.iter().filter_map(Value::as_str));
        }
    }
    Reply::ok(json!({"tags_by_categories": tags}))
}

pub(crate) fn filters_by_sport() -> Reply {
    let mut filters = Map::new();
    for sport in Sport::ALL {
        let of_sport = || COMPETITIONS.iter().filter(move |row| row.sport == sport);
        let scopes: BTreeSet<&str> = of_sport().flat_map(|row| row.scopes).copied().collect();
        let competitions: BTreeMap<&str, Value> =
            of_sport().map(|row| (row.name, json!({"scopes": row.scopes}))).collect();
        let details = json!({"scopes": scopes, "competitions": competitions});
        filters.insert(sport.name().to_owned(), details);
    }
    let ordering = Sport::ALL.map(Sport::name);
    Reply::ok(json!({"filters_by_sports": filters, "sport_ordering": ordering}))
}
