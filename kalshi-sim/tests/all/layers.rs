//! The layers of the crate: no file names a module of a layer above its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules, the lowest layer first. A module of `http` stands where it belongs: the values that
/// every layer passes on are below the fixtures, the sockets above everything else.
const LAYERS: [(&str, &[&str]); 9] = [
    ("base", &["any_operation", "random", "clock", "role", "faults", "lag", "rules"]),
    ("engine", &["engine", "perps::engine", "perps::klear::house"]),
    (
        "values",
        &[
            "http::request",
            "http::response",
            "http::query",
            "http::paging",
            "http::lenient",
            "wire",
            "perps::wire",
        ],
    ),
    ("fixtures", &["fixtures", "perps::fixtures"]),
    ("state", &["state", "auth", "perps::klear::access", "perps::state"]),
    (
        "api",
        &[
            "api",
            "perps::api",
            "perps::klear::api",
            "perps::messages",
            "stream::product",
            "stream::faults",
            "stream::hub",
            "stream::journal",
            "stream::session",
            "stream::shard",
            "stream::wire",
        ],
    ),
    ("shared", &["shared", "control", "perps::control", "stream::shell"]),
    (
        "http",
        &["http::admin", "http::connection", "http::fault_injection", "http::server", "http::ui"],
    ),
    ("exchange", &["exchange"]),
];

/// Modules outside the layers: those that only declare others, the program, and the checks of
/// tests.
const OUTSIDE: [&str; 7] = ["", "main", "http", "perps", "perps::klear", "stream", "contract"];

/// The names that are in no module of a layer.
const CONSTANTS: [&str; 4] =
    ["BASE_PATH", "stream::STREAM_PATH", "stream::PERPS_STREAM_PATH", "contract::Contract"];

/// Returns the rank and the name of the layer that a path belongs to.
fn layer(path: &str) -> Option<(usize, &'static str)> {
    LAYERS.iter().enumerate().find_map(|(rank, (name, modules))| {
        let within = |module: &&str| {
            path.strip_prefix(*module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        modules.iter().any(within).then_some((rank, *name))
    })
}

/// Returns every `.rs` file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the module of a file: `engine::rfq` for `engine/rfq/mod.rs`.
fn module(file: &Path) -> String {
    let mut parts: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().expect("the name is text").to_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts.join("::")
}

/// Returns the paths that a text names after a marker, with those in braces written out.
fn named(text: &str, marker: &str, before: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (start, marker) in text.match_indices(marker) {
        let last = text[..start].chars().next_back();
        // An identifier that ends like the marker is another word.
        if last.is_some_and(|last| last.is_alphanumeric() || last == '_') {
            continue;
        }
        tree(&mut text[start + marker.len()..].chars().peekable(), before, &mut paths);
    }
    paths
}

/// Reads one path of a `use`, or all of them if it goes on in braces.
fn tree(
    text: &mut std::iter::Peekable<std::str::Chars<'_>>,
    before: &str,
    paths: &mut BTreeSet<String>,
) {
    let mut path = before.to_owned();
    loop {
        match text.peek() {
            Some(c) if c.is_alphanumeric() || *c == '_' || *c == ':' => {
                path.push(*c);
                text.next();
            }
            Some('{') => {
                text.next();
                loop {
                    while text.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
                    match text.peek() {
                        Some('}') => {
                            text.next();
                            return;
                        }
                        None => return,
                        Some(c) if c.is_alphanumeric() || *c == '_' || *c == '{' => {
                            tree(text, &path, paths);
                        }
                        // `as name`, a glob, a comment: nothing that names a module.
                        Some(_) => {
                            text.next();
                        }
                    }
                }
            }
            _ => {
                paths.insert(path.trim_end_matches("::self").trim_end_matches("::").to_owned());
                return;
            }
        }
    }
}

/// Returns what a file names against the order of the layers.
fn violations(module: &str, text: &str) -> Vec<String> {
    let Some((own, own_name)) = layer(module) else {
        let known = OUTSIDE.contains(&module);
        return if known { Vec::new() } else { vec![format!("{module} is in no layer")] };
    };
    // Links in the documentation depend on nothing.
    let code: Vec<&str> =
        text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect();
    let text = &code.join("\n");
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut paths = named(text, "crate::", "");
    // Siblings may be of another layer, too. Of the names of the module itself, which the tests
    // inside of it see in the same way, none is that of a module.
    let siblings = named(text, "super::", &format!("{parent}::"));
    paths.extend(siblings.into_iter().filter(|path| layer(path).is_some()));
    paths
        .into_iter()
        .filter_map(|path| match layer(&path) {
            Some((rank, name)) if rank > own => {
                Some(format!("{module} ({own_name}) names {path} ({name})"))
            }
            Some(_) => None,
            None if CONSTANTS.contains(&path.as_str()) => None,
            // A re-export of the root would hide the layer of what it names.
            None => Some(format!("{module} names {path}, which is in no layer")),
        })
        .collect()
}

#[test]
fn no_file_names_a_layer_above_its_own() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut ranks = BTreeMap::new();
    for file in files(&source) {
        let module = module(file.strip_prefix(&source).expect("it is below the sources"));
        let text = fs::read_to_string(&file).expect("the file is text");
        if let Some((rank, _)) = layer(&module) {
            *ranks.entry(rank).or_insert(0) += 1;
        }
        found.extend(violations(&module, &text));
    }
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(ranks.len(), LAYERS.len(), "a layer without files: {ranks:?}");
}

#[test]
fn a_file_that_names_a_layer_above_its_own_is_reported() {
    for (module, text) in [
        ("engine::book", "use crate::api;"),
        ("engine::book", "use crate::{engine::{self, ids::AccountId}, fixtures::catalog};"),
        ("fixtures::fcm", "fn f() { crate::state::limits::Tier::default(); }"),
        ("wire", "use crate::{\n    engine::Market, // a comment\n    state::State,\n};"),
        ("http::request", "use crate::http::{query::Query, server};"),
        ("state::keys", "use crate::http::{\n    response::Response,\n    server,\n};"),
        ("api::orders", "pub(crate) use crate::Exchange;"),
        ("http::response", "use super::server::router;"),
        ("stream::hub", "use crate::stream::{self, wire};"),
        ("unheard_of", ""),
    ] {
        assert_eq!(violations(module, text).len(), 1, "{module}: {text}");
    }
    for (module, text) in [
        ("api::orders", "use crate::{engine::Market, http::{paging::{Paging, newest}, request}};"),
        ("http::server", "use crate::{BASE_PATH, api, stream::{STREAM_PATH, shell::upgrade}};"),
        ("http::response", "mod tests { use super::*; use super::{Response, query::Query}; }"),
        ("engine", "pub(crate) mod api; let one = my_crate::api::one();"),
    ] {
        assert_eq!(violations(module, text), Vec::<String>::new(), "{module}: {text}");
    }
}
