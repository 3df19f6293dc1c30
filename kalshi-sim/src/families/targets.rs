//! Structured targets: made-up teams, players, candidates and cities, which markets and milestones
//! refer to by id.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::{
    families::dice::{Dice, id_of},
    query::{Paging, Query},
    reply::{Outcome, Reply},
};

/// A league, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Competition {
    pub(crate) name: &'static str,
    pub(crate) sport: Sport,
    /// The type of its milestones.
    pub(crate) milestone: &'static str,
    pub(crate) scopes: &'static [&'static str],
    /// The series of its archived games.
    pub(crate) series: &'static str,
    team: &'static str,
    player: &'static str,
    teams: usize,
    players: usize,
}

/// What is played. It decides how a game goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sport {
    Football,
    Basketball,
    Soccer,
    Hockey,
    Baseball,
    Tennis,
}

impl Sport {
    pub(crate) const ALL: [Self; 6] = [
        Self::Football,
        Self::Basketball,
        Self::Baseball,
        Self::Soccer,
        Self::Hockey,
        Self::Tennis,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Football => "Football",
            Self::Basketball => "Basketball",
            Self::Soccer => "Soccer",
            Self::Hockey => "Hockey",
            Self::Baseball => "Baseball",
            Self::Tennis => "Tennis",
        }
    }
}

pub(crate) const COMPETITIONS: [Competition; 7] = [
    Competition {
        name: "Pro Football",
        sport: Sport::Football,
        milestone: "football_game",
        scopes: &["Games", "Futures", "Awards"],
        series: "KXSIMFOOTBALLGAME",
        team: "football_team",
        player: "football_player",
        teams: 16,
        players: 5,
    },
    Competition {
        name: "College Football",
        sport: Sport::Football,
        milestone: "football_game",
        scopes: &["Games", "Futures"],
        series: "KXSIMCOLLEGEGAME",
        team: "football_team",
        player: "football_player",
        teams: 12,
        players: 3,
    },
    Competition {
        name: "Pro Basketball",
        sport: Sport::Basketball,
        milestone: "basketball_game",
        scopes: &["Games", "Futures", "Awards"],
        series: "KXSIMBASKETGAME",
        team: "basketball_team",
        player: "basketball_player",
        teams: 16,
        players: 5,
    },
    Competition {
        name: "Pro Soccer",
        sport: Sport::Soccer,
        milestone: "soccer_game",
        scopes: &["Games", "Futures"],
        series: "KXSIMSOCCERGAME",
        team: "soccer_team",
        player: "soccer_player",
        teams: 14,
        players: 4,
    },
    Competition {
        name: "Pro Hockey",
        sport: Sport::Hockey,
        milestone: "hockey_game",
        scopes: &["Games", "Futures"],
        series: "KXSIMHOCKEYGAME",
        team: "hockey_team",
        player: "hockey_player",
        teams: 12,
        players: 4,
    },
    Competition {
        name: "Pro Baseball",
        sport: Sport::Baseball,
        milestone: "baseball_game",
        scopes: &["Games", "Futures", "Awards"],
        series: "KXSIMBASEBALLGAME",
        team: "baseball_team",
        player: "baseball_player",
        teams: 14,
        players: 4,
    },
    Competition {
        name: "Simulated Tennis Tour",
        sport: Sport::Tennis,
        milestone: "tennis_match",
        scopes: &["Matches", "Tournaments"],
        series: "KXSIMTENNISMATCH",
        team: "tennis_player",
        player: "tennis_player",
        teams: 24,
        players: 0,
    },
];

const PLACES: [&str; 24] = [
    "Alder Bay",
    "Birchwood",
    "Cedar Falls",
    "Dunmore",
    "Eastport",
    "Fairhaven",
    "Glenrock",
    "Harbor City",
    "Ironvale",
    "Juniper",
    "Kingsport",
    "Larkspur",
    "Midvale",
    "Northgate",
    "Oakmont",
    "Pinecrest",
    "Quarry Hill",
    "Redstone",
    "Silver Lake",
    "Thornton",
    "Umberland",
    "Vista Point",
    "Westbrook",
    "Yarrow",
];

const MASCOTS: [&str; 12] = [
    "Badgers", "Comets", "Drakes", "Engines", "Falcons", "Gales", "Herons", "Lanterns", "Miners",
    "Otters", "Pilots", "Ravens",
];

const GIVEN: [&str; 16] = [
    "Ada", "Ben", "Cleo", "Dario", "Elena", "Felix", "Greta", "Hugo", "Iris", "Jonas", "Kira",
    "Leon", "Mira", "Nils", "Olga", "Pavel",
];

const FAMILY: [&str; 20] = [
    "Abbott", "Brandt", "Castell", "Dorn", "Ellery", "Fenwick", "Garrick", "Holm", "Ivers",
    "Jarrow", "Keller", "Lund", "Marsh", "Norwood", "Orford", "Penrose", "Quill", "Rowan",
    "Stroud", "Tilden",
];

/// A team, or a player where players stand for themselves.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Short, unique in its competition, fit for a ticker.
    pub(crate) code: String,
    /// Ids and names of its players.
    pub(crate) players: Vec<(String, String)>,
}

/// All structured targets.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    rows: Vec<Value>,
    /// The sides of each competition, in the order of [`COMPETITIONS`].
    sides: Vec<Vec<Side>>,
    candidates: Vec<(String, String)>,
}

impl Targets {
    pub(crate) fn new(seed: u64, start: DateTime<Utc>) -> Self {
        let mut made = Self { rows: Vec::new(), sides: Vec::new(), candidates: Vec::new() };
        for competition in &COMPETITIONS {
            made.add_competition(competition, seed, start);
        }
        let mut dice = Dice::new(seed, "candidates");
        for number in 0..24 {
            let name = person(&mut dice);
            let id = id_of(seed, &format!("candidate {number}"));
            let party = dice.pick(&["Blue", "Green", "Red"]).copied().unwrap_or("Blue");
            made.add(&id, &name, "politician", &json!({"party": party}), number, start);
            made.candidates.push((id, name));
        }
        for (number, place) in PLACES.iter().enumerate() {
            let id = id_of(seed, &format!("city {place}"));
            let details = json!({"country": "Simland", "division": "Cities of Simland"});
            made.add(&id, place, "city", &details, number, start);
        }
        made
    }

    /// The sides of a competition, by its place in [`COMPETITIONS`].
    pub(crate) fn sides(&self, competition: usize) -> &[Side] {
        self.sides.get(competition).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn candidates(&self) -> &[(String, String)] {
        &self.candidates
    }

    pub(crate) fn list(&self, query: &Query) -> Outcome {
        let ids: Vec<&str> = query.all("ids").collect();
        if ids.len() > 2_000 {
            return Err(Reply::bad_request("ids must name at most 2000 targets"));
        }
        let kind = query.get("type");
        let competition = query.get("competition");
        let rows: Vec<&Value> = self
            .rows
            .iter()
            .filter(|row| ids.is_empty() || ids.iter().any(|id| row["id"] == **id))
            .filter(|row| kind.is_none_or(|kind| row["type"] == kind))
            .filter(|row| competition.is_none_or(|competition| belongs(row, competition)))
            .collect();
        let paging = Paging { key: "page_size", ..Paging::new(100, 2_000) };
        let (rows, cursor) = query.page_by(rows, paging)?;
        Ok(Reply::ok(json!({"structured_targets": rows, "cursor": cursor})))
    }

    pub(crate) fn get(&self, id: &str) -> Outcome {
        let row = self.rows.iter().find(|row| row["id"] == id).ok_or_else(Reply::not_found)?;
        Ok(Reply::ok(json!({"structured_target": row})))
    }

    fn add_competition(&mut self, competition: &Competition, seed: u64, start: DateTime<Utc>) {
        let mut dice = Dice::new(seed, competition.name);
        let mut sides = Vec::new();
        for number in 0..competition.teams {
            let place = PLACES[number % PLACES.len()];
            let single = competition.players == 0;
            let name = if single {
                person(&mut dice)
            } else {
                let mascot = dice.pick(&MASCOTS).copied().unwrap_or_default();
                format!("{place} {mascot}")
            };
            let id = id_of(seed, &format!("{} side {number}", competition.name));
            let code = code(place);
            let mut details = json!({"abbreviation": code, "sport": competition.sport.name()});
            let key = if single { "tour" } else { "league" };
            details[key] = competition.name.into();
            if !single {
                details["conference"] = format!(
                    "{} {}",
                    competition.name,
                    if number % 2 == 0 { "East" } else { "West" }
                )
                .into();
            }
            self.add(&id, &name, competition.team, &details, number, start);
            let mut players = Vec::new();
            for shirt in 0..competition.players {
                let player = person(&mut dice);
                let player_id =
                    id_of(seed, &format!("{} side {number} player {shirt}", competition.name));
                let details = json!({
                    "league": competition.name,
                    "sport": competition.sport.name(),
                    "team_id": id,
                    "jersey_number": (shirt * 11 + number) % 99 + 1,
                });
                self.add(&player_id, &player, competition.player, &details, shirt, start);
                players.push((player_id, player));
            }
            sides.push(Side { id, name, code, players });
        }
        self.sides.push(sides);
    }

    fn add(
        &mut self,
        id: &str,
        name: &str,
        kind: &str,
        details: &Value,
        number: usize,
        start: DateTime<Utc>,
    ) {
        let days = i64::try_from(number).unwrap_or(0) + 1;
        let mut row = json!({
            "id": id,
            "name": name,
            "type": kind,
            "details": details,
            "last_updated_ts": start - Duration::days(days),
        });
        // Some are unknown to the outside provider.
        if number % 5 != 4 {
            let source = format!("sim:{kind}:{}", &id[..8]);
            row["source_ids"] = json!({"simdata": source});
            row["source_id"] = source.into();
        }
        self.rows.push(row);
    }
}

/// Whether the details name a competition as league, conference, division or tour.
fn belongs(row: &Value, competition: &str) -> bool {
    ["league", "conference", "division", "tour"]
        .iter()
        .any(|key| row["details"][*key] == competition)
}

fn person(dice: &mut Dice) -> String {
    let given = dice.pick(&GIVEN).copied().unwrap_or_default();
    let family = dice.pick(&FAMILY).copied().unwrap_or_default();
    format!("{given} {family}")
}

/// Three letters of a place; the places are chosen so that no two are the same.
fn code(place: &str) -> String {
    place.chars().filter(char::is_ascii_alphabetic).take(3).collect::<String>().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_so_are_the_codes_of_a_competition() {
        let targets = Targets::new(7, DateTime::<Utc>::UNIX_EPOCH);
        let ids: BTreeSet<&str> =
            targets.rows.iter().filter_map(|row| row["id"].as_str()).collect();
        assert_eq!(ids.len(), targets.rows.len());
        assert!(ids.len() > 400, "{}", ids.len());
        for (sides, competition) in targets.sides.iter().zip(&COMPETITIONS) {
            let codes: BTreeSet<&str> = sides.iter().map(|side| side.code.as_str()).collect();
            assert_eq!(codes.len(), competition.teams);
        }
    }
}
