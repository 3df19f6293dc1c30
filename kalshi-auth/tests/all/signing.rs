use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use kalshi_auth::{
    ACCESS_KEY, ACCESS_SIGNATURE, ACCESS_TIMESTAMP, AuthErrorKind, ManualClock, Signer, UnixMillis,
    sign, signing_text,
};

use crate::helpers::{KEY_ID, base64, ed25519_credentials, rsa_credentials, text, verifies};

const NOW: UnixMillis = UnixMillis::from_millis(1_703_123_456_789);
const PATH: &str = "/trade-api/v2/portfolio/balance";

#[test]
fn the_query_is_not_signed() {
    let credentials = ed25519_credentials();
    let plain = sign(&credentials, "GET", PATH, NOW).unwrap();
    for query in ["?", "?a=b", "?a=b?c", "?a=%3F&b=é"] {
        let signed = sign(&credentials, "GET", &format!("{PATH}{query}"), NOW).unwrap();
        assert_eq!(signed.signature(), plain.signature(), "{query}");
    }
}

#[test]
fn the_path_is_signed_in_percent_encoding_as_it_is_sent() {
    let credentials = ed25519_credentials();
    let path = "/trade-api/v2/markets/KX%2FA%25B%20C%C3%A9";
    let signed = sign(&credentials, "GET", path, NOW).unwrap();
    let message = format!("1703123456789GET{path}");
    let public = text("keys/public/ed25519.pem");
    assert!(verifies(&public, message.as_bytes(), &base64(signed.signature())));
}

#[test]
fn the_method_is_signed_in_upper_case() {
    let credentials = ed25519_credentials();
    let upper = sign(&credentials, "DELETE", PATH, NOW).unwrap();
    let mixed = sign(&credentials, "dElEtE", PATH, NOW).unwrap();
    assert_eq!(upper.signature(), mixed.signature());
}

#[test]
fn what_cannot_be_on_the_wire_is_not_signed() {
    let credentials = ed25519_credentials();
    let paths =
        ["", "trade-api/v2", "?a", "https://host/path", "/a b", "/é", "/a#b", "/a\nb", "/a\0", "*"];
    for path in paths {
        let error = sign(&credentials, "GET", path, NOW).unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::InvalidRequest, "{path:?}");
    }
    for method in ["", "GET ", "GE T", "GET\r\n", "É", "GET/"] {
        let error = sign(&credentials, method, PATH, NOW).unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::InvalidRequest, "{method:?}");
    }
}

#[test]
fn an_rsa_signature_is_salted_anew_each_time() {
    let credentials = rsa_credentials();
    let public = text("keys/public/rsa-2048.pem");
    let signatures: HashSet<_> = (0..4)
        .map(|_| sign(&credentials, "GET", PATH, NOW).unwrap().signature().as_bytes().to_vec())
        .collect();
    assert_eq!(signatures.len(), 4);
    for signature in signatures {
        assert_eq!(signature.len(), 344);
        let message = signing_text("GET", PATH, NOW);
        assert!(verifies(&public, message.as_bytes(), &base64(signature)));
    }
}

#[test]
fn the_three_headers_replace_any_that_were_there() {
    let mut headers = HeaderMap::new();
    for name in [ACCESS_KEY, ACCESS_SIGNATURE, ACCESS_TIMESTAMP] {
        headers.append(&name, HeaderValue::from_static("old"));
        headers.append(&name, HeaderValue::from_static("older"));
    }
    sign(&ed25519_credentials(), "GET", PATH, NOW).unwrap().insert_into(&mut headers);
    assert_eq!(headers.len(), 3);
    assert_eq!(headers["KALSHI-ACCESS-KEY"], KEY_ID);
    assert_eq!(headers["KALSHI-ACCESS-TIMESTAMP"], "1703123456789");
    assert_eq!(headers["KALSHI-ACCESS-SIGNATURE"].len(), 88);
    assert!(headers["KALSHI-ACCESS-SIGNATURE"].is_sensitive());
}

#[test]
fn a_signer_takes_the_time_from_its_clock() {
    let clock = Arc::new(ManualClock::at(NOW));
    let signer = Signer::new(ed25519_credentials(), clock.clone());
    let first = signer.sign("GET", PATH).unwrap();
    clock.advance(Duration::from_millis(1));
    let second = signer.sign("GET", PATH).unwrap();
    assert_eq!(first.timestamp(), "1703123456789");
    assert_eq!(second.timestamp(), "1703123456790");
    assert_ne!(first.signature(), second.signature());
}

#[test]
fn clones_sign_at_the_same_time_from_many_threads() {
    let signer = Signer::new(rsa_credentials(), Arc::new(ManualClock::at(NOW)));
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            let signer = signer.clone();
            scope.spawn(|| {
                let headers = { signer }.sign("GET", PATH).unwrap();
                results.lock().unwrap().push(headers);
            });
        }
    });
    let public = text("keys/public/rsa-2048.pem");
    let message = signing_text("GET", PATH, NOW);
    for headers in results.into_inner().unwrap() {
        assert!(verifies(&public, message.as_bytes(), &base64(headers.signature())));
    }
}

#[test]
fn credentials_and_signers_can_go_to_other_threads() {
    fn shareable<T: Clone + Send + Sync + 'static>() {}
    shareable::<kalshi_auth::Credentials>();
    shareable::<kalshi_auth::Signer>();
    shareable::<kalshi_auth::SignedHeaders>();
    #[cfg(feature = "middleware")]
    shareable::<kalshi_auth::SigningMiddleware>();
    #[cfg(feature = "server")]
    shareable::<kalshi_auth::server::PublicKey>();
}
