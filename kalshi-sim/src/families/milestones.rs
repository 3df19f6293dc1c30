//! Milestones: games, races, releases and the like, which tie events of the catalogue together.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::{
    families::{
        dice::{id_of, mix},
        games::Game,
        targets::{COMPETITIONS, Competition, Side, Targets},
    },
    query::{Paging, Query},
    reply::{Outcome, Reply},
};

/// One occurrence.
#[derive(Clone, Debug)]
pub(crate) struct Milestone {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// What its course is made from.
    pub(crate) seed: u64,
    pub(crate) play: Play,
    category: String,
    title: String,
    events: Vec<String>,
    details: Value,
    updated: DateTime<Utc>,
}

/// What happens at it.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    Game(Box<Fixture>),
    /// The ids and names of the candidates.
    Race(Vec<(String, String)>),
    Other,
}

/// Who plays whom.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    pub(crate) competition: &'static Competition,
    pub(crate) home: Side,
    pub(crate) away: Side,
    pub(crate) game: Game,
}

/// All milestones, the latest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Milestones(Vec<Milestone>);

/// The type and category of milestones that are no games, by series.
const KINDS: [(&str, &str); 5] = [
    ("KXSIMTEMP", "weather_day"),
    ("KXSIMRATE", "economic_release"),
    ("KXSIMCOIN", "crypto_fixing"),
    ("KXSIMVOTE", "political_race"),
    ("KXSIMFILM", "film_release"),
];

impl Milestones {
    /// Adds a game, and gives it.
    pub(crate) fn add_game(
        &mut self,
        seed: u64,
        targets: &Targets,
        (competition, round): (usize, usize),
        start: DateTime<Utc>,
        event: &str,
    ) -> Option<&Milestone> {
        let sides = targets.sides(competition);
        let competition = COMPETITIONS.get(competition)?;
        // Each round pairs two others, and never a side with itself.
        let (first, step) = (round % sides.len().max(1), 1 + round / sides.len().max(1));
        let home = sides.get(first)?.clone();
        let away =
            sides.get((first + step % (sides.len() - 1).max(1)).max(first + 1) % sides.len());
        let away = away?.clone();
        let name = format!("milestone {event} {} {round}", competition.name);
        let seed = mix(seed, &name);
        let game = Game::new(competition.sport, seed);
        let details = json!({
            "league": competition.name,
            "sport": competition.sport.name(),
            "home_team_id": home.id,
            "away_team_id": away.id,
            "home_team_abbreviation": home.code,
            "away_team_abbreviation": away.code,
        });
        self.0.push(Milestone {
            id: id_of(seed, &name),
            kind: competition.milestone,
            start,
            end: start + Duration::seconds(game.length()),
            seed,
            category: "Sports".to_owned(),
            title: format!("{} at {}", away.name, home.name),
            events: vec![event.to_owned()],
            details,
            updated: start - Duration::days(3),
            play: Play::Game(Box::new(Fixture { competition, home, away, game })),
        });
        self.0.last()
    }

    /// Adds the milestone of an event that is no game.
    pub(crate) fn add_other(
        &mut self,
        seed: u64,
        targets: &Targets,
        event: &Value,
        end: DateTime<Utc>,
    ) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let (ticker, series) = (text("event_ticker"), text("series_ticker"));
        let Some((_, kind)) = KINDS.iter().find(|(of, _)| *of == series) else { return };
        let name = format!("milestone {ticker}");
        let seed = mix(seed, &name);
        let mut details = json!({"series_ticker": series});
        let play = if *kind == "political_race" {
            let all = targets.candidates();
            let first = usize::try_from(seed % 16).unwrap_or(0);
            let running: Vec<(String, String)> = all.iter().skip(first).take(3).cloned().collect();
            details["candidate_ids"] = running.iter().map(|(id, _)| id.clone()).collect();
            Play::Race(running)
        } else {
            Play::Other
        };
        self.0.push(Milestone {
            id: id_of(seed, &name),
            kind,
            start: end - Duration::hours(12),
            end,
            seed,
            play,
            category: text("category"),
            title: format!("{}: {}", text("title"), text("sub_title")),
            events: vec![ticker],
            details,
            updated: end - Duration::days(4),
        });
    }

    /// Puts them in their order, once all are there.
    pub(crate) fn sort(&mut self) {
        self.0.sort_by(|a, b| b.start.cmp(&a.start).then_with(|| a.id.cmp(&b.id)));
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Milestone> {
        self.0.iter().find(|milestone| milestone.id == id)
    }

    /// The first one that belongs to an event.
    pub(crate) fn of_event(&self, event: &str) -> Option<&Milestone> {
        self.0.iter().find(|milestone| milestone.events.iter().any(|ticker| ticker == event))
    }

    pub(crate) fn list(&self, query: &Query) -> Outcome {
        let from = query.moment("minimum_start_date")?;
        let since = query.integer("min_updated_ts")?;
        let (category, kind) = (query.get("category"), query.get("type"));
        let (competition, source) = (query.get("competition"), query.get("source_id"));
        let event = query.get("related_event_ticker");
        let rows: Vec<&Milestone> = self
            .0
            .iter()
            .filter(|row| from.is_none_or(|from| row.start >= from))
            .filter(|row| since.is_none_or(|since| row.updated.timestamp() > since))
            .filter(|row| category.is_none_or(|category| row.category == category))
            .filter(|row| kind.is_none_or(|kind| row.kind == kind))
            .filter(|row| competition.is_none_or(|name| row.details["league"] == name))
            .filter(|row| source.is_none_or(|id| row.source_id().as_deref() == Some(id)))
            .filter(|row| event.is_none_or(|event| row.events.iter().any(|one| one == event)))
            .collect();
        let paging = Paging { default: None, ..Paging::new(0, 500) };
        let (rows, cursor) = query.page_by(rows, paging)?;
        let rows: Vec<Value> = rows.into_iter().map(Milestone::wire).collect();
        Ok(Reply::ok(json!({"milestones": rows, "cursor": cursor})))
    }

    pub(crate) fn get(&self, id: &str) -> Outcome {
        let found = self.find(id).ok_or_else(Reply::not_found)?;
        Ok(Reply::ok(json!({"milestone": found.wire()})))
    }
}

impl Milestone {
    /// Only games have a key at the provider.
    pub(crate) fn source_id(&self) -> Option<String> {
        match self.play {
            Play::Game(_) => Some(format!("sim:match:{}", &self.id[..8])),
            _ => None,
        }
    }

    fn wire(&self) -> Value {
        let mut row = json!({
            "id": self.id,
            "category": self.category,
            "type": self.kind,
            "start_date": self.start,
            "end_date": self.end,
            "related_event_tickers": self.events,
            "primary_event_tickers": self.events,
            "title": self.title,
            "notification_message": "",
            "details": self.details,
            "last_updated_ts": self.updated,
        });
        match self.source_id() {
            Some(id) => {
                row["source_ids"] = json!({"simdata": id});
                row["source_id"] = id.into();
            }
            None => row["source_id"] = Value::Null,
        }
        row
    }
}
