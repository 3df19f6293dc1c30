//! The code that published packages ship: written by `cargo gen package`, taken by the build
//! scripts only if it was made from the documents beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use kalshi_gen::{FAMILIES, Unmatched, shipped};

use crate::support::read;

/// A package of its own: a document, two overlays, and the code that was made from them.
struct Package(PathBuf);

impl Package {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kalshi-gen-shipped").join(name);
        let _ = fs::remove_dir_all(&folder);
        let package = Self(folder);
        package.write("openapi.yaml", "ab");
        package.write("overlay/docs/a.yaml", "c");
        package.write("overlay/b.yaml", "d");
        package.write("shipped/generated.rs", "// the code");
        let digest = package.digest();
        package.write(&format!("shipped/{}", shipped::DIGEST), &format!("{digest}\n"));
        package
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn digest(&self) -> String {
        shipped::digest(&self.0.join("openapi.yaml"), &self.0.join("overlay")).unwrap()
    }

    fn read(&self) -> Result<Vec<(String, String)>, String> {
        let [document, overlays, folder] =
            ["openapi.yaml", "overlay", shipped::FOLDER].map(|name| self.0.join(name));
        shipped::read(&document, &overlays, &folder, "")
    }
}

#[test]
fn the_code_of_these_documents_is_taken() {
    let package = Package::new("taken");
    let code = vec![("generated.rs".to_owned(), "// the code".to_owned())];
    assert_eq!(package.read(), Ok(code.clone()));
    // Only YAML is an input: that is all the generator reads.
    package.write("overlay/notes.txt", "not an overlay");
    assert_eq!(package.read(), Ok(code));
}

#[test]
fn the_code_of_other_documents_is_refused_by_name() {
    for (name, text) in [
        ("openapi.yaml", "ab "),
        ("overlay/docs/a.yaml", "C"),
        ("overlay/b.yaml", ""),
        ("overlay/c.yaml", ""),
    ] {
        let package = Package::new("refused");
        package.write(name, text);
        let error = package.read().unwrap_err();
        assert!(error.contains("was not made from this"), "{name}: {error}");
        assert!(error.ends_with("Turn on the feature `generate`"), "{name}: {error}");
    }
    let package = Package::new("refused");
    fs::rename(package.0.join("overlay/b.yaml"), package.0.join("overlay/z.yaml")).unwrap();
    assert!(package.read().unwrap_err().contains("was not made from this"), "a name counts");
}

#[test]
fn a_checkout_without_the_code_is_told_which_feature_it_needs() {
    let package = Package::new("checkout");
    fs::remove_file(package.0.join("shipped").join(shipped::DIGEST)).unwrap();
    for _ in 0..2 {
        let error = package.read().unwrap_err();
        assert!(error.contains("only a published package ships generated code"), "{error}");
        assert!(error.ends_with("Turn on the feature `generate`"), "{error}");
        fs::remove_dir_all(package.0.join("shipped")).unwrap_or_default();
    }
}

#[test]
fn a_byte_does_not_move_between_files_or_names_unnoticed() {
    let package = Package::new("moved");
    let mut digests = vec![package.digest()];
    for files in [
        [("openapi.yaml", "abc"), ("overlay/docs/a.yaml", "")],
        [("openapi.yaml", "a"), ("overlay/docs/a.yaml", "bc")],
        [("openapi.yaml", "bc"), ("overlay/docs/a.yaml", "c")],
    ] {
        for (name, text) in files {
            package.write(name, text);
        }
        digests.push(package.digest());
    }
    let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len(), "{digests:?}");
}

#[test]
fn the_digest_is_fnv_1a_of_names_and_contents_with_their_lengths() {
    let package = Package::new("known");
    let parts: [&[u8]; 6] = [b"", b"ab", b"b.yaml", b"d", b"docs/a.yaml", b"c"];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    // The definition, in wider numbers.
    let (prime, mask) = (0x0100_0000_01b3_u128, u128::from(u64::MAX));
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u128, |hash, byte| ((hash ^ u128::from(*byte)) * prime) & mask);
    assert_eq!(package.digest(), format!("{hash:016x}"));
}

#[test]
fn what_cargo_gen_package_writes_is_what_a_build_script_generates() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kalshi-gen-shipped/workspace");
    let _ = fs::remove_dir_all(&root);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copy = |path: &Path| {
        let to = root.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(here.join(path), to).unwrap();
    };
    for family in FAMILIES {
        copy(Path::new(family.file));
        for (name, _) in shipped::yaml_files(&here.join(family.overlays)).unwrap() {
            copy(&Path::new(family.overlays).join(name));
        }
    }
    let run = Command::new(env!("CARGO_BIN_EXE_kalshi-gen"))
        .args(["package", "--root"])
        .arg(&root)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    for family in FAMILIES {
        let (document, overlays) = (here.join(family.file), here.join(family.overlays));
        let folder = root.join(family.package).join(shipped::FOLDER);
        let mut files =
            shipped::read(&document, &overlays, &folder, family.surface.prefix).unwrap();
        files.sort();
        let text = kalshi_gen::read(&document).unwrap();
        let overlays = kalshi_gen::read_overlays(&overlays).unwrap();
        let generated = family.generate(&text, &overlays, Unmatched::Refuse).unwrap();
        assert!(!files.is_empty());
        assert!(files == generated.files(), "{}: other bytes", family.name);
    }
}

#[test]
fn the_build_scripts_have_the_very_file() {
    // Links, which an editor or a checkout may turn into copies.
    for copy in ["../build/shipped.rs", "../kalshi-ws/build/shipped.rs"] {
        assert_eq!(read(copy), read("src/shipped.rs"), "{copy}");
    }
}
