//! Hours that become days: the same rows, again and again, and nothing that is gone is lost.

use super::*;

const TABLES: [&str; 5] = ["trades", "ticker", "book_deltas", "book_snapshots", "gaps"];

pub(super) fn compact(folder: &Folder, from: &Path, into: &Path) -> Ran {
    let words = ["export", "compact", from.to_str().unwrap(), "--into", into.to_str().unwrap()];
    finish(&mut bare(folder, &words))
}

/// Records, exports, and returns the folders of the recording, the hours and the days.
fn history(folder: &Folder, steps: u32) -> [PathBuf; 3] {
    let [from, hours, days] = ["recording", "hours", "days"].map(|name| folder.path().join(name));
    record(&from, steps);
    export(folder, &from, &hours).ok();
    [from, hours, days]
}

/// Returns the file of a day.
fn day(table: &str) -> PathBuf {
    format!("env=production/table={table}/date=2026-11-25/stream-{BEGIN}.parquet").into()
}

/// Changes bytes of a file wherever they are.
fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(to);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_day_has_the_rows_of_its_hours_in_their_order() {
    let folder = Folder::new();
    let [_, hours, days] = history(&folder, 1_500);
    let before = files(&hours);
    compact(&folder, &hours, &days).ok();
    assert!(files(&hours) == before, "the hours are as they were");
    for name in TABLES {
        let parts = table(&hours, name);
        assert!(parts.len() >= 2, "{name}: {:?}", parts.keys());
        let last = hours.join(parts.keys().next_back().unwrap());
        let count = parts.len();
        let mut expected: Vec<Row> = parts.into_values().flatten().collect();
        if name != "gaps" {
            expected.sort_by(|one, other| one["ticker"].cmp(&other["ticker"]));
        }
        let found = table(&days, name);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&day(name)]);
        assert!(found[&day(name)] == expected, "{name}");
        let (merged, last) = (metadata(&days.join(day(name))), metadata(&last));
        for key in ["table", "schema_version", "source", "source_sha256", "document_version"] {
            let key = format!("kalshi.{key}");
            assert_eq!(merged[&key], last[&key], "{key}");
        }
        let sources: Value = serde_json::from_str(&merged["kalshi.compacted"]).unwrap();
        assert_eq!(sources.as_array().unwrap().len(), count);
    }
    let expected = files(&days);
    let again = compact(&folder, &hours, &days);
    assert!(again.stderr.contains("0 rows in 0 files; 5 files as before"), "{again:#?}");
    assert!(files(&days) == expected);
}

#[test]
fn days_are_written_again_where_hours_change_and_stay_where_they_are_gone() {
    let folder = Folder::new();
    let [from, hours, days] = history(&folder, 400);
    let whole = folder.path().join("whole");
    compact(&folder, &hours, &whole).ok();
    let expected = files(&whole);

    // The disk refuses a file when it is begun, or when it gets its name.
    for (name, end) in [("ticker", ".tmp"), ("gaps", "")] {
        let mut fails = days.join(day(name)).into_os_string();
        fails.push(end);
        fs::create_dir_all(PathBuf::from(&fails).join("in the way")).unwrap();
        let ran = compact(&folder, &hours, &days);
        assert_eq!(ran.code, 1, "{ran:#?}");
        fs::remove_dir_all(fails).unwrap();
    }
    // One that was killed has left the beginning of a file.
    fs::write(days.join(day("trades").with_extension("parquet.tmp")), "PAR1").unwrap();
    fs::remove_file(days.join(day("trades"))).unwrap();
    compact(&folder, &hours, &days).ok();
    assert!(files(&days) == expected);

    // A recording that has grown.
    let last = fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let (short, grown) = (folder.path().join("short"), folder.path().join("grown"));
    export(&folder, &from, &short).ok();
    compact(&folder, &short, &grown).ok();
    assert!(files(&grown) != expected);
    fs::write(&last, &bytes).unwrap();
    export(&folder, &from, &short).ok();
    compact(&folder, &short, &grown).ok();
    assert!(files(&grown) == expected);

    // An hour that is gone: its rows are in the day, which stays.
    let hour = table(&hours, "trades").into_keys().next().unwrap();
    fs::remove_file(hours.join(&hour)).unwrap();
    let ran = compact(&folder, &hours, &days);
    let name = hour.file_name().unwrap().to_str().unwrap();
    assert!(ran.code == 1 && ran.stderr.contains(name), "{ran:#?}");
    assert!(files(&days) == expected);
    // And all of them.
    fs::remove_dir_all(hours.join("env=production/table=trades")).unwrap();
    compact(&folder, &hours, &days).ok();
    assert!(files(&days) == expected);
}

#[test]
fn what_is_no_hour_of_a_recording_is_refused_and_nothing_is_written() {
    let folder = Folder::new();
    let [_, hours, days] = history(&folder, 400);
    let hour = hours.join(table(&hours, "trades").into_keys().next().unwrap());
    let bytes = fs::read(&hour).unwrap();
    for (from, to, error) in [
        (&b"kalshi.schema_version\x18\x011"[..], &b"kalshi.schema_version\x18\x012"[..], "version"),
        (b"no_price", b"nq_price", "columns"),
        (b"recording stream", b"recording others", "name"),
    ] {
        replace(&hour, from, to);
        let ran = compact(&folder, &hours, &days);
        assert!(ran.code == 1 && ran.stderr.contains(error), "{error}: {ran:#?}");
        assert!(!days.join(day("trades")).exists());
        fs::write(&hour, &bytes).unwrap();
    }
    fs::write(&hour, &bytes[..bytes.len() / 2]).unwrap();
    let ran = compact(&folder, &hours, &days);
    assert!(ran.code == 1 && ran.stderr.contains("could not read"), "{ran:#?}");
    fs::write(&hour, &bytes).unwrap();

    // A file of another program is not written over.
    fs::create_dir_all(days.join(day("trades")).parent().unwrap()).unwrap();
    fs::copy(&hour, days.join(day("trades"))).unwrap();
    let ran = compact(&folder, &hours, &days);
    assert!(ran.code == 1 && ran.stderr.contains("not written by this command"), "{ran:#?}");
    fs::remove_file(days.join(day("trades"))).unwrap();
    compact(&folder, &hours, &days).ok();

    let within = compact(&folder, &hours, &hours.join("days"));
    assert!(within.code == 2 && within.stderr.contains("within"), "{within:#?}");
    let none = compact(&folder, &folder.path().join("recording"), &days);
    assert!(none.code == 1 && none.stderr.contains("no hours"), "{none:#?}");
}
