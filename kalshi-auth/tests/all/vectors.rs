//! Golden vectors: signatures by OpenSSL and by Python's `cryptography`.

use kalshi_auth::{Credentials, KeyType, UnixMillis, sign, signing_text};

use crate::helpers::{KEY_ID, backends, base64, names, text, verifies};

struct Vector {
    case: String,
    timestamp: UnixMillis,
    method: String,
    path: String,
    message: String,
    signature: String,
    public_key: String,
    test_key: String,
}

fn vectors() -> Vec<Vector> {
    let cases = names("vectors").into_iter().filter(|name| !name.contains('.'));
    let vectors: Vec<Vector> = cases
        .map(|case| {
            let file = |name| text(&format!("vectors/{case}/{name}"));
            let request = file("request.txt");
            let mut lines = request.lines().map(str::to_owned);
            Vector {
                timestamp: lines.next().unwrap().parse().unwrap(),
                method: lines.next().unwrap(),
                path: lines.next().unwrap(),
                message: file("message.txt"),
                signature: file("signature.txt").trim().to_owned(),
                public_key: file("public-key.pem"),
                test_key: file("test-key.pem"),
                case,
            }
        })
        .collect();
    assert!(vectors.len() >= 10, "the vectors are there");
    vectors
}

#[test]
fn the_signed_text_is_that_of_the_vectors() {
    for Vector { case, timestamp, method, path, message, .. } in vectors() {
        assert_eq!(signing_text(&method, &path, timestamp), message, "{case}");
    }
}

#[test]
fn every_library_signs_so_that_the_public_key_of_the_vector_verifies_it() {
    for vector in vectors() {
        let Vector { case, timestamp, method, path, .. } = &vector;
        for backend in backends() {
            let credentials =
                Credentials::from_pem_using(backend, KEY_ID, &vector.test_key).unwrap();
            let signed = sign(&credentials, method, path, *timestamp).unwrap();
            let signature = base64(signed.signature());
            let message = vector.message.as_bytes();
            assert!(verifies(&vector.public_key, message, &signature), "{case}, {backend:?}");
            if credentials.key_type() == KeyType::Ed25519 {
                assert_eq!(signed.signature(), vector.signature.as_str(), "{case}, {backend:?}");
            }
        }
    }
}

#[cfg(feature = "server")]
#[test]
fn every_library_verifies_the_signatures_of_the_vectors() {
    use kalshi_auth::server::PublicKey;

    for vector in vectors() {
        let Vector { case, timestamp, method, path, signature, .. } = &vector;
        for backend in backends() {
            let key = PublicKey::from_pem_using(backend, &vector.public_key).unwrap();
            key.verify_request(method, path, *timestamp, signature)
                .unwrap_or_else(|error| panic!("{case}, {backend:?}: {error}"));
            let other = format!("{path}/other");
            let error = key.verify_request(method, &other, *timestamp, signature);
            // Behind a `?` nothing is signed.
            assert_eq!(error.is_err(), !path.contains('?'), "{case}, {backend:?}");
        }
    }
}
