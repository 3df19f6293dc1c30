//! How a game goes: its plays, from which score, clock and statistics follow. Pure: the same seed
//! plays the same game, however often it is looked at.

use serde_json::{Value, json};

use crate::families::{
    dice::Dice,
    targets::{Side, Sport},
};

/// A game from its first to its last second.
#[derive(Clone, Debug)]
pub(crate) struct Game {
    rules: Rules,
    plays: Vec<Play>,
}

/// One score.
#[derive(Clone, Copy, Debug)]
struct Play {
    /// Seconds since the start.
    second: i64,
    home: bool,
    points: i64,
    player: usize,
}

/// Periods, their length on the wall clock, and what can be scored.
#[derive(Clone, Copy, Debug)]
struct Rules {
    periods: i64,
    /// Seconds on the wall clock for each period.
    period: i64,
    /// Seconds on the game's own clock; 0 where there is none.
    clock: i64,
    points: &'static [i64],
    scores: (i64, i64),
    draws: bool,
}

impl Rules {
    const fn of(sport: Sport) -> Self {
        match sport {
            Sport::Football => Self {
                periods: 4,
                period: 45 * 60,
                clock: 15 * 60,
                points: &[3, 6, 7, 7, 7],
                scores: (4, 11),
                draws: false,
            },
            Sport::Basketball => Self {
                periods: 4,
                period: 35 * 60,
                clock: 12 * 60,
                points: &[1, 2, 2, 2, 3],
                scores: (70, 110),
                draws: false,
            },
            Sport::Soccer => Self {
                periods: 2,
                period: 52 * 60,
                clock: 45 * 60,
                points: &[1],
                scores: (0, 5),
                draws: true,
            },
            Sport::Hockey => Self {
                periods: 3,
                period: 45 * 60,
                clock: 20 * 60,
                points: &[1],
                scores: (2, 9),
                draws: false,
            },
            Sport::Baseball => Self {
                periods: 9,
                period: 20 * 60,
                clock: 0,
                points: &[1, 1, 1, 2, 2, 3, 4],
                scores: (3, 10),
                draws: false,
            },
            // A point is a set; whoever has two of three wins.
            Sport::Tennis => Self {
                periods: 3,
                period: 40 * 60,
                clock: 0,
                points: &[1],
                scores: (3, 3),
                draws: false,
            },
        }
    }
}

impl Game {
    pub(crate) fn new(sport: Sport, seed: u64) -> Self {
        let rules = Rules::of(sport);
        let mut dice = Dice::new(seed, sport.name());
        let length = rules.periods * rules.period;
        let number = dice.number(rules.scores.0..=rules.scores.1);
        let mut plays: Vec<Play> = (0..number)
            .map(|_| Play {
                second: dice.number(60..=length - 60),
                home: dice.number(0..=99) < 52,
                points: dice.pick(rules.points).copied().unwrap_or(1),
                player: usize::try_from(dice.number(0..=999)).unwrap_or(0),
            })
            .collect();
        plays.sort_by_key(|play| play.second);
        let mut game = Self { rules, plays };
        if let (home, away, false) = (game.score(i64::MAX).0, game.score(i64::MAX).1, rules.draws)
            && home == away
        {
            // The last second decides.
            let player = usize::try_from(dice.number(0..=999)).unwrap_or(0);
            let home = dice.number(0..=1) == 0;
            game.plays.push(Play { second: length - 30, home, points: 1, player });
        }
        game
    }

    /// Seconds on the wall clock from start to end.
    pub(crate) fn length(&self) -> i64 {
        self.rules.periods * self.rules.period
    }

    /// The points of home and away after so many seconds.
    pub(crate) fn score(&self, elapsed: i64) -> (i64, i64) {
        let sum = |home: bool| {
            self.until(elapsed).filter(|play| play.home == home).map(|play| play.points).sum()
        };
        (sum(true), sum(false))
    }

    /// What the live data say after so many seconds; below 0 it has not begun.
    pub(crate) fn details(&self, elapsed: i64, home: &Side, away: &Side) -> Value {
        let (home_points, away_points) = self.score(elapsed);
        let status = match elapsed {
            ..0 => "scheduled",
            elapsed if elapsed >= self.length() => "final",
            _ => "live",
        };
        let mut details = json!({
            "status": status,
            "home_team_id": home.id,
            "away_team_id": away.id,
            "home_team": home.name,
            "away_team": away.name,
            "home_points": home_points,
            "away_points": away_points,
            "period": self.period(elapsed.clamp(0, self.length() - 1)),
        });
        if status == "live" && self.rules.clock > 0 {
            let played = elapsed % self.rules.period * self.rules.clock / self.rules.period;
            let left = self.rules.clock - played;
            details["clock"] = format!("{}:{:02}", left / 60, left % 60).into();
        }
        if status == "final" {
            let winner = match home_points - away_points {
                1.. => Some(&home.id),
                0 => None,
                _ => Some(&away.id),
            };
            details["winner_id"] = json!(winner);
        }
        if let Some(play) = self.until(elapsed).last() {
            details["last_play"] = self.play(play, home, away);
        }
        details
    }

    /// The points of each player after so many seconds.
    pub(crate) fn player_stats(&self, elapsed: i64, home: &Side, away: &Side) -> Value {
        let of = |side: &Side, at_home: bool| -> Vec<Value> {
            let count = side.players.len();
            let row = |(number, (id, name)): (usize, &(String, String))| {
                let points: i64 = self
                    .until(elapsed)
                    .filter(|play| play.home == at_home && play.player % count == number)
                    .map(|play| play.points)
                    .sum();
                json!({"player_id": id, "name": name, "points": points})
            };
            side.players.iter().enumerate().map(row).collect()
        };
        json!({"home": of(home, true), "away": of(away, false)})
    }

    /// The play-by-play after so many seconds: the periods that have begun.
    pub(crate) fn play_by_play(&self, elapsed: i64, home: &Side, away: &Side) -> Value {
        let begun = if elapsed < 0 { 0 } else { self.period(elapsed.min(self.length() - 1)) };
        let periods: Vec<Value> = (1..=begun)
            .map(|period| {
                let events: Vec<Value> = self
                    .until(elapsed)
                    .filter(|play| self.period(play.second) == period)
                    .map(|play| self.play(play, home, away))
                    .collect();
                json!({"events": events})
            })
            .collect();
        json!({"periods": periods})
    }

    fn play(&self, play: &Play, home: &Side, away: &Side) -> Value {
        let side = if play.home { home } else { away };
        let (home_points, away_points) = self.score(play.second);
        let mut row = json!({
            "type": "score",
            "team_id": side.id,
            "points": play.points,
            "period": self.period(play.second),
            "home_points": home_points,
            "away_points": away_points,
            "description": format!("{} scores {}", side.name, play.points),
        });
        if !side.players.is_empty() {
            row["player_id"] = side.players[play.player % side.players.len()].0.clone().into();
        }
        row
    }

    fn until(&self, elapsed: i64) -> impl Iterator<Item = &Play> {
        self.plays.iter().take_while(move |play| play.second <= elapsed)
    }

    /// 1 for the first one.
    fn period(&self, second: i64) -> i64 {
        second / self.rules.period + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str) -> Side {
        let players = vec![("p".to_owned(), "P".to_owned()), ("q".to_owned(), "Q".to_owned())];
        Side { id: name.to_owned(), name: name.to_owned(), code: name.to_owned(), players }
    }

    #[test]
    fn scores_only_grow_and_only_soccer_ends_in_a_draw() {
        let mut draws = 0;
        for sport in Sport::ALL {
            for seed in 0..60 {
                let game = Game::new(sport, seed);
                let mut last = (0, 0);
                for second in (-60..=game.length()).step_by(300) {
                    let score = game.score(second);
                    assert!(score.0 >= last.0 && score.1 >= last.1);
                    last = score;
                }
                let (home, away) = game.score(game.length());
                draws += i32::from(home == away);
                assert!(home != away || sport == Sport::Soccer, "{sport:?} {seed}");
            }
        }
        assert!(draws > 0);
    }

    #[test]
    fn play_by_play_players_and_score_say_the_same() {
        let (home, away) = (side("H"), side("A"));
        let game = Game::new(Sport::Basketball, 3);
        let half = game.length() / 2;
        let pbp = game.play_by_play(half, &home, &away);
        let points: i64 = pbp["periods"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|period| period["events"].as_array().unwrap())
            .filter_map(|event| event["points"].as_i64())
            .sum();
        let (home_points, away_points) = game.score(half);
        assert_eq!(points, home_points + away_points);
        let stats = game.player_stats(half, &home, &away);
        let scored: i64 =
            stats["home"].as_array().unwrap().iter().filter_map(|row| row["points"].as_i64()).sum();
        assert_eq!(scored, home_points);
        assert_eq!(game.details(-1, &home, &away)["status"], "scheduled");
        assert_eq!(game.details(half, &home, &away)["status"], "live");
        assert_eq!(game.details(game.length(), &home, &away)["status"], "final");
    }
}
