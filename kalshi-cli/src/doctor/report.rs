//! The checks and their results. Pure.

use std::time::Duration;

use crate::json::Json;

/// The result of a check, by what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// It could not be checked, because of another one.
    Skipped,
    /// It works now, and may not in another moment.
    Warn,
    Fail,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    const fn color(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Skipped => "2",
            Self::Warn => "33",
            Self::Fail => "31",
        }
    }
}

/// A check.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) remedy: Option<String>,
    pub(super) took: Option<Duration>,
}

impl Check {
    pub(super) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, text: text.into(), remedy: None, took: None }
    }

    pub(super) fn skipped(name: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Skipped, ..Self::ok(name, text) }
    }

    pub(super) fn warn(
        name: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, remedy: Some(remedy.into()), ..Self::ok(name, text) }
    }

    pub(super) fn fail(
        name: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, remedy: Some(remedy.into()), ..Self::ok(name, text) }
    }

    pub(super) fn took(self, took: Duration) -> Self {
        Self { took: Some(took), ..self }
    }

    /// Returns the line for a person, and the remedy on one of its own.
    pub(super) fn text(&self, has_color: bool) -> String {
        let name = self.level.name();
        let level = if has_color {
            format!("\u{1b}[{}m{name:<5}\u{1b}[0m", self.level.color())
        } else {
            format!("{name:<5}")
        };
        let took = self.took.map(|took| format!("  ({} ms)", took.as_millis())).unwrap_or_default();
        let mut text = format!("{level} {:<14} {}{took}", self.name, self.text);
        if let Some(remedy) = &self.remedy {
            text = format!("{text}\n{:21}→ {remedy}", "");
        }
        text
    }

    pub(super) fn to_json(&self) -> Json {
        Json::object([
            ("check", Json::text(self.name)),
            ("level", Json::text(self.level.name())),
            ("text", Json::text(&self.text)),
            ("remedy", Json::optional(self.remedy.as_deref())),
            ("millis", self.took.map_or(Json::Null, |took| Json::number(took.as_millis()))),
        ])
    }
}

/// Judges the clock of this machine by what the exchange's is ahead of it.
///
/// The exchange documents no tolerance: 10 s was seen to pass, 30 s to fail.
pub(super) fn clock(ahead_millis: i64) -> Check {
    const NAME: &str = "clock";
    let size = ahead_millis.unsigned_abs();
    let direction = if ahead_millis > 0 { "behind" } else { "ahead of" };
    let text = format!(
        "this machine is {}.{} s {direction} the exchange",
        size / 1_000,
        size % 1_000 / 100
    );
    let remedy = "let the system set its clock: timedatectl set-ntp true, or chronyc makestep";
    // `Date` has whole seconds, so that up to one of them is not known.
    match size {
        0..=2_000 => Check::ok(NAME, "within 2 s of the exchange's"),
        2_001..=10_000 => Check::warn(NAME, text, remedy),
        _ => Check::fail(NAME, format!("{text}: signatures are refused"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_warns_above_two_seconds_and_fails_above_ten() {
        let level = |millis| clock(millis).level;
        for (millis, expected) in [
            (0, Level::Ok),
            (2_000, Level::Ok),
            (-2_000, Level::Ok),
            (2_001, Level::Warn),
            (-10_000, Level::Warn),
            (10_001, Level::Fail),
            (i64::MIN, Level::Fail),
        ] {
            assert_eq!(level(millis), expected, "{millis}");
        }
        assert!(clock(12_345).text.contains("12.3 s behind"), "{:?}", clock(12_345));
        assert!(clock(-3_000).text.contains("3.0 s ahead of"));
    }

    #[test]
    fn a_line_has_its_remedy_below_it() {
        let check = Check::fail("dns", "no such host", "check the name");
        assert_eq!(
            check.text(false),
            "fail  dns            no such host\n                     → check the name"
        );
        assert!(check.text(true).starts_with("\u{1b}[31mfail"));
    }
}
