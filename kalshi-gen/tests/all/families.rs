//! Several documents for one crate: each is told from the others, and has a place of its own.

use std::{collections::BTreeSet, path::Path};

use kalshi_gen::{FAMILIES, Family, Generated, Kind, Unmatched, parse, read_overlays};

use crate::support::read;

fn text(family: &Family) -> String {
    read(&format!("../{}", family.file))
}

fn generate(family: &Family) -> Generated {
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(family.overlays);
    let overlays = read_overlays(&overlays).unwrap();
    family.generate(&text(family), &overlays, Unmatched::Refuse).unwrap()
}

#[test]
fn a_document_takes_the_place_of_its_own_edition_only() {
    let documents: Vec<_> = FAMILIES.iter().map(|f| (f, parse(&text(f)).unwrap())).collect();
    for (family, here) in &documents {
        for (other, published) in &documents {
            let taken = family.check(published, here).is_ok();
            assert_eq!(taken, family.name == other.name, "{} for {}", other.name, family.name);
        }
    }
}

#[test]
fn documents_of_one_package_have_places_files_and_reviews_of_their_own() {
    let mut seen = BTreeSet::new();
    for family in FAMILIES {
        let surface = family.surface;
        assert!(seen.insert(format!("{} files {}", family.package, surface.prefix)));
        assert!(seen.insert(format!("{} module {}", family.package, surface.module)));
        for file in [family.file, family.overlays, family.types, family.metadata] {
            assert!(seen.insert(file.to_owned()), "{file} belongs to two documents");
        }
        assert!(family.operations.is_none_or(|file| seen.insert(file.to_owned())));
    }
}

#[test]
fn the_code_of_a_document_stands_in_its_module_and_names_no_other() {
    let rest: Vec<_> = FAMILIES.iter().filter(|family| family.kind == Kind::OpenApi).collect();
    assert_eq!(rest.len(), 3);
    for family in &rest {
        let generated = generate(family);
        let surface = family.surface;
        let module = surface.module.trim_end_matches("::");
        for code in [&generated.code, &generated.handlers] {
            let named = |module: &str| code.contains(&format!("crate :: {module} ::"));
            for other in &rest {
                let other = other.surface.module.trim_end_matches("::");
                assert!(other.is_empty() || other == module || !named(other), "{other}");
            }
            assert_eq!(named("types") || code.contains("crate :: OperationId"), module.is_empty());
        }
        let lane = format!("Lane :: {}", surface.lane);
        let of_lane = generated.code.matches(&lane).count();
        assert_eq!(of_lane, generated.operations.len(), "{}", family.name);
        assert_eq!(generated.code.matches("Lane :: ").count(), of_lane, "{}", family.name);
        for (name, _) in generated.files() {
            assert!(name.starts_with(surface.prefix), "{name}");
        }
        let links = format!("](crate::{}::", surface.client);
        assert!(generated.code.contains(&links), "{}", family.name);
    }
}

#[test]
fn the_messages_of_a_product_name_the_types_of_its_own_module() {
    let streams: Vec<_> = FAMILIES.iter().filter(|f| f.kind == Kind::AsyncApi).collect();
    assert_eq!(streams.len(), 2);
    for family in streams {
        let generated = generate(family);
        let code: String = generated.code.split_whitespace().collect();
        for name in ["Channel::Fill", "MessageKind{name:", "Delta)"] {
            let own = format!("crate::{}{name}", family.surface.module);
            assert!(code.contains(&own), "{own}");
        }
        // Nothing of the other product's.
        let foreign = if family.surface.module.is_empty() { "perps" } else { "Channel" };
        assert!(!code.contains(&format!("crate::{foreign}")), "{}", family.name);
        let files = generated.files();
        assert_eq!(files[0].0, format!("{}generated.rs", family.surface.prefix));
    }
}

#[test]
fn a_document_without_tags_has_the_families_of_its_paths() {
    let klear = Family::of_file("klear_openapi.yaml").unwrap();
    let operations = generate(klear).operations;
    let tags: BTreeSet<&str> = operations.iter().map(|operation| operation.tag.as_str()).collect();
    assert_eq!(tags, BTreeSet::from(["fcm", "margin"]));
    for operation in &operations {
        assert!(operation.path.starts_with(&format!("/{}/", operation.tag)));
    }
}

#[test]
fn an_operation_that_the_client_has_no_way_into_is_refused() {
    let [perps, klear] =
        ["perps_openapi.yaml", "klear_openapi.yaml"].map(|file| Family::of_file(file).unwrap());
    for (family, document, access) in [(klear, perps, "signed"), (perps, klear, "bearer")] {
        let error = family.generate(&text(document), &[], Unmatched::Count).unwrap_err();
        assert!(error.to_string().contains(&format!("cannot be {access}")), "{error}");
    }
}
