//! The output of `{:?}`, read by somebody who looks for keys in it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kalshi_auth::{Credentials, ManualClock, SignedHeaders, Signer, UnixMillis};

use crate::helpers::{KEY_ID, base64, bytes, ed25519_credentials, rsa_credentials, text};

const KEYS: [&str; 2] = ["keys/accepted/rsa-2048-pkcs1.pem", "keys/accepted/ed25519-pkcs8.pem"];

/// Fails if any piece of the private keys is in the text, as Base64, hexadecimal or numbers.
fn assert_no_key(printed: &str) {
    for pem in KEYS.map(text) {
        let body: String = pem.lines().filter(|line| !line.contains("-----")).collect();
        let der = base64(&body);
        // Behind the header and the algorithm everything is secret, or public but not needed.
        for window in body.as_bytes()[24..].windows(8) {
            assert!(!printed.contains(std::str::from_utf8(window).unwrap()), "{printed}");
        }
        for window in der[16..].windows(4) {
            let hex = window.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            let numbers = window.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            assert!(!printed.to_lowercase().contains(&hex), "{printed}");
            assert!(!printed.contains(&numbers), "{printed}");
            assert!(!printed.contains(STANDARD.encode(window).trim_end_matches('=')), "{printed}");
        }
    }
}

fn signer(credentials: Credentials) -> Signer {
    Signer::new(credentials, Arc::new(ManualClock::at(UnixMillis::from_millis(7))))
}

#[test]
fn credentials_print_without_the_private_key() {
    let printed = format!("{:?}", rsa_credentials());
    assert_eq!(
        printed,
        "Credentials { key_id: \"a952bcbe-ec3b-4b5b-b8f9-11dae589608c\", key_type: Rsa, \
         private_key: \"** redacted **\" }"
    );
    assert_no_key(&printed);
    assert_no_key(&format!("{:#?}", ed25519_credentials()));
}

#[test]
fn a_signer_prints_without_the_private_key() {
    let printed = format!("{:?}", signer(ed25519_credentials()));
    assert_eq!(
        printed,
        "Signer { credentials: Credentials { key_id: \"a952bcbe-ec3b-4b5b-b8f9-11dae589608c\", \
         key_type: Ed25519, private_key: \"** redacted **\" }, clock: ManualClock(7) }"
    );
    assert_no_key(&printed);
}

#[test]
fn signed_headers_print_without_the_signature() {
    let signed: SignedHeaders = signer(ed25519_credentials()).sign("GET", "/").unwrap();
    assert_eq!(
        format!("{signed:?}"),
        "SignedHeaders { key: \"a952bcbe-ec3b-4b5b-b8f9-11dae589608c\", \
         signature: \"** redacted **\", timestamp: \"7\" }"
    );
    let mut headers = http::HeaderMap::new();
    signed.clone().insert_into(&mut headers);
    let signature = signed.signature().to_str().unwrap();
    assert!(!format!("{headers:?}").contains(signature));
}

#[cfg(feature = "middleware")]
#[test]
fn the_middleware_prints_without_the_private_key() {
    use kalshi_auth::{Origin, SigningMiddleware};

    let origin: Origin = "https://external-api.kalshi.com".parse().unwrap();
    let printed =
        format!("{:?}", SigningMiddleware::new(Some(signer(rsa_credentials())), [origin]));
    assert!(printed.contains("private_key: \"** redacted **\""), "{printed}");
    assert_no_key(&printed);
}

#[cfg(feature = "server")]
#[test]
fn a_key_pair_prints_without_the_private_key() {
    use kalshi_auth::{KeyType, server::KeyPair};

    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    assert_eq!(
        format!("{pair:?}"),
        "KeyPair { key_type: Ed25519, private_key: \"** redacted **\" }"
    );
    assert_eq!(format!("{:?}", pair.public_key()), "PublicKey { key_type: Ed25519, .. }");
}

#[test]
fn errors_print_without_the_key_that_was_given_in_the_wrong_place() {
    for key in KEYS {
        let pem = text(key);
        let body: String = pem.lines().filter(|line| !line.contains("-----")).collect();
        let errors = [
            Credentials::from_pem(&pem, &pem).unwrap_err(),
            Credentials::from_pem(&body, &pem).unwrap_err(),
            Credentials::from_pem(KEY_ID, &body).unwrap_err(),
            Credentials::from_file(KEY_ID, &pem).unwrap_err(),
            Credentials::from_file(KEY_ID, &body).unwrap_err(),
            Credentials::from_pem(KEY_ID, &bytes(key)[..100]).unwrap_err(),
        ];
        for error in errors {
            assert_no_key(&format!("{error} {error:?}"));
        }
    }
}
