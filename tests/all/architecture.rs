//! Validates what ARCHITECTURE.md draws and lists against the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Expands `a/{b, c}.rs` to `a/b.rs` and `a/c.rs`.
fn spelled_out(place: &str) -> Vec<String> {
    match place.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (names, after))) => {
            names.split(',').map(|name| format!("{before}{}{after}", name.trim())).collect()
        }
        None => vec![place.to_owned()],
    }
}

#[test]
fn every_place_on_the_map_exists() {
    let text = read("ARCHITECTURE.md");
    let (_, map) = text.split_once("\n## Where things are\n").expect("the map");
    let (map, _) = map.split_once("\n## ").expect("the next section");
    let (mut folder, mut places) = (PathBuf::new(), 0);
    for line in map.lines() {
        if let Some(inside) = line.strip_prefix("Inside ") {
            folder = PathBuf::from(quoted(inside).next().expect("a folder"));
            assert!(root().join(&folder).is_dir(), "{}", folder.display());
        }
        let Some((cell, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once(" | "))
        else {
            continue;
        };
        if rest.contains("if there are any") {
            continue;
        }
        for place in quoted(&format!("`{cell}")).flat_map(spelled_out) {
            let place = folder.join(place.trim_end_matches("/*.yaml"));
            assert!(root().join(&place).exists(), "{} is on the map only", place.display());
            places += 1;
        }
    }
    assert!(places > 40, "{places} places: the map is read wrongly");
}

/// Returns the crates of this workspace that a crate has as normal dependencies.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = read(Path::new(folder).join("Cargo.toml"));
    let (_, section) = manifest.split_once("\n[dependencies]\n").unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split([' ', '.', '=']).next());
    names.filter(|name| name.starts_with("kalshi-")).map(str::to_owned).collect()
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let drawn: [(&str, &[&str]); 9] = [
        ("kalshi-types", &[]),
        ("kalshi-gen", &[]),
        ("kalshi-auth", &["kalshi-types"]),
        ("kalshi-ws", &["kalshi-auth", "kalshi-types"]),
        (".", &["kalshi-auth", "kalshi-types", "kalshi-ws"]),
        ("kalshi-sim", &["kalshi-auth", "kalshi-sdk", "kalshi-types"]),
        ("kalshi-trade", &["kalshi-sdk", "kalshi-types", "kalshi-ws"]),
        (
            "kalshi-fanout",
            &["kalshi-auth", "kalshi-sdk", "kalshi-trade", "kalshi-types", "kalshi-ws"],
        ),
        (
            "kalshi-cli",
            &[
                "kalshi-auth",
                "kalshi-fanout",
                "kalshi-sdk",
                "kalshi-sim",
                "kalshi-trade",
                "kalshi-ws",
            ],
        ),
    ];
    for (folder, expected) in drawn {
        let found = dependencies(folder);
        let beyond: Vec<_> = found.iter().filter(|name| !expected.contains(&&***name)).collect();
        assert!(beyond.is_empty(), "{folder} depends on {beyond:?}, which is not drawn");
    }
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("kalshi-ws = { workspace = true, optional = true }"));
}

/// Returns the files below a folder, with their paths from the root.
fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let path = path.strip_prefix(root()).unwrap();
                found.push(path.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found
}

/// Returns the files of a folder that name something outside of comments.
fn naming(folder: &str, name: &str) -> BTreeSet<String> {
    let names = |file: &String| {
        read(file).lines().any(|line| !line.trim_start().starts_with("//") && line.contains(name))
    };
    sources(folder).into_iter().filter(names).collect()
}

#[test]
fn what_only_some_files_may_name_no_other_names() {
    let only: [(&str, &str, &[&str]); 4] = [
        (
            "src",
            "reqwest_middleware",
            &["src/attempts.rs", "src/client.rs", "src/middleware.rs", "src/transport.rs"],
        ),
        ("src", "include!(", &["src/generated.rs"]),
        ("kalshi-ws/src", "include!(", &["kalshi-ws/src/generated.rs"]),
        ("kalshi-ws/src", "kalshi_sdk", &[]),
    ];
    for (folder, name, expected) in only {
        let expected: BTreeSet<String> = expected.iter().map(|&file| file.to_owned()).collect();
        assert_eq!(naming(folder, name), expected, "{name} in {folder}");
    }
}
