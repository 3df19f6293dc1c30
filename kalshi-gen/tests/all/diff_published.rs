//! Changes of the published documents of perpetual futures and of the clearing house, some forty of
//! each, with the verdicts that they have to get.
//!
//! Those of one document are made at once, which takes one comparison instead of forty.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    diff::{Edit, compared, line, unmirrored},
    diff_mutations::sound,
    support::read,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    edit: Edit,
    expect: Vec<String>,
}

#[test]
fn forty_changes_of_each_document_have_their_verdicts() {
    let cases = kalshi_gen::parse(&read("tests/diff/published.yaml")).unwrap();
    let documents: BTreeMap<String, Vec<Case>> = serde_json::from_value(cases).unwrap();
    assert_eq!(documents.len(), 3);
    let mut wrong = Vec::new();
    for (document, cases) in &documents {
        assert!(cases.len() >= 40, "{document}: {}", cases.len());
        let old = kalshi_gen::parse(&read(&format!("../{document}.yaml"))).unwrap();
        let mut new = old.clone();
        for case in cases {
            let before = new.clone();
            case.edit.apply(&mut new);
            assert_ne!(before, new, "{document}: {} changes nothing", case.name);
        }
        let found = compared(&old, &new);
        let mut said: Vec<String> = found
            .changes
            .iter()
            .map(|change| format!("{} | {} | {}", change.subject, change.field, line(change)))
            .collect();
        for (case, expected) in cases
            .iter()
            .flat_map(|case| case.expect.iter().map(move |expected| (&case.name, expected)))
        {
            match said.iter().position(|line| line == expected) {
                Some(index) => drop(said.swap_remove(index)),
                None => wrong.push(format!("{document}, {case}: not said: {expected}")),
            }
        }
        wrong.extend(said.iter().map(|line| format!("{document}: not expected: {line}")));
        wrong.extend(
            cases
                .iter()
                .filter(|case| case.expect.is_empty())
                .map(|case| format!("{document}, {}: nothing is expected", case.name)),
        );
        assert_eq!(sound(&found, &old, &new), Vec::<String>::new(), "{document}");
        let back = compared(&new, &old);
        assert_eq!(unmirrored(&found, &back), Vec::<String>::new(), "{document}");
    }
    assert!(wrong.is_empty(), "{} lines\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn content_that_moves_under_one_version_is_found() {
    for document in ["perps_openapi", "klear_openapi"] {
        let old = kalshi_gen::parse(&read(&format!("../{document}.yaml"))).unwrap();
        let mut new = old.clone();
        let field = "/components/schemas/AssetClass/enum/0";
        let field = if old.pointer(field).is_some() {
            field
        } else {
            "/components/schemas/LastUpdateReason/enum/1"
        };
        *new.pointer_mut(field).unwrap() = Value::from("Renamed");
        let found = compared(&old, &new);
        assert_eq!(old["info"]["version"], new["info"]["version"]);
        let ids: Vec<&str> = found.changes.iter().map(|change| change.id.as_str()).collect();
        assert!(!ids.contains(&"spec-version-changed") && ids.len() == 2, "{document}: {ids:?}");
        assert_eq!(found.next_version("0.3.0").unwrap().part, "minor", "{document}");
    }
}
