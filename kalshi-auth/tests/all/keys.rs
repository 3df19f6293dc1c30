//! What is accepted as a private key, and what each refusal says.

use std::{env, fs};

use kalshi_auth::{AuthErrorKind, Credentials, KeyType, UnixMillis, sign};

use crate::helpers::{KEY_ID, backends, base64, bytes, names, path, text, verifies};

/// Returns the names of the refused keys, without `.pem`.
fn refused() -> Vec<String> {
    let names = names("keys/refused");
    let stems = names.iter().filter_map(|name| name.strip_suffix(".pem"));
    stems.map(str::to_owned).collect()
}

#[test]
fn every_accepted_key_signs_for_its_public_key() {
    for name in names("keys/accepted") {
        let pem = bytes(&format!("keys/accepted/{name}"));
        for backend in backends() {
            let credentials = Credentials::from_pem_using(backend, KEY_ID, &pem)
                .unwrap_or_else(|error| panic!("{name} with {backend:?}: {error}"));
            let signed = sign(&credentials, "GET", "/", UnixMillis::from_millis(1)).unwrap();
            let signature = base64(signed.signature());
            // The files are forms of few keys, so any of the public keys may match, and one must.
            let public = names("keys/public");
            let matching = public.iter().filter(|public| {
                verifies(&text(&format!("keys/public/{public}")), b"1GET/", &signature)
            });
            assert_eq!(matching.count(), 1, "{name} with {backend:?}");
        }
    }
}

#[test]
fn the_kind_of_a_key_is_known() {
    for name in names("keys/accepted") {
        let pem = bytes(&format!("keys/accepted/{name}"));
        let credentials = Credentials::from_pem(KEY_ID, &pem).unwrap();
        let is_short = pem.len() < 300;
        let expected = if is_short { KeyType::Ed25519 } else { KeyType::Rsa };
        assert_eq!(credentials.key_type(), expected, "{name}");
    }
}

/// Compares the messages with those beside the keys. `UPDATE_GOLDEN=1` writes them anew, for
/// review.
#[test]
fn every_refused_key_says_what_was_found_and_what_to_do() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    for name in refused() {
        let pem = bytes(&format!("keys/refused/{name}.pem"));
        for backend in backends() {
            let error = Credentials::from_pem_using(backend, KEY_ID, &pem)
                .err()
                .unwrap_or_else(|| panic!("{name} is accepted by {backend:?}"));
            assert!(error.is_unusable_credentials(), "{name}");
            let found = format!("{:?}: {error}\n", error.kind());
            let golden = format!("keys/refused/{name}.txt");
            if update {
                fs::write(path(&golden), &found).unwrap();
            }
            assert_eq!(found, text(&golden), "{name} with {backend:?}");
        }
    }
}

#[test]
fn no_refusal_repeats_what_it_read() {
    for name in refused() {
        let pem = bytes(&format!("keys/refused/{name}.pem"));
        let error = Credentials::from_pem(KEY_ID, &pem).unwrap_err();
        let printed = format!("{error} {error:?}");
        for word in pem.split(|byte| !byte.is_ascii_alphanumeric() && !b"+/".contains(byte)) {
            // Long enough not to be a word of English.
            for piece in word.windows(12) {
                let piece = std::str::from_utf8(piece).unwrap();
                assert!(!printed.contains(piece), "{name}: {printed}");
            }
        }
    }
}

#[test]
fn a_second_key_is_refused_even_behind_a_long_gap() {
    let pem = text("keys/accepted/ed25519-pkcs8.pem");
    let two = format!("{pem}{}{pem}", "\n".repeat(10_000));
    let error = Credentials::from_pem(KEY_ID, two).unwrap_err();
    assert_eq!(error.kind(), AuthErrorKind::MalformedKey);
}

#[test]
fn a_key_whose_numbers_do_not_belong_together_is_refused() {
    // A digit in the middle of the modulus.
    let pem = text("keys/accepted/rsa-2048-pkcs1.pem");
    let mut lines: Vec<String> = pem.lines().map(str::to_owned).collect();
    let digit = if lines[3].starts_with('A') { "B" } else { "A" };
    lines[3].replace_range(..1, digit);
    for backend in backends() {
        let error = Credentials::from_pem_using(backend, KEY_ID, lines.join("\n")).unwrap_err();
        assert!(error.to_string().starts_with("found an RSA key whose content is damaged"));
    }
}
