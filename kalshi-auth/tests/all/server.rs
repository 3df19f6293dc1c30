//! The side of the exchange: key pairs, and checks of signatures.

use kalshi_auth::{AuthErrorKind, Credentials, KeyType, UnixMillis, server::*, sign};

use crate::helpers::{KEY_ID, backends, base64, bytes, text, verifies};

const NOW: UnixMillis = UnixMillis::from_millis(1_703_123_456_789);
const PATH: &str = "/trade-api/v2/portfolio/balance";

#[test]
fn a_generated_key_pair_signs_and_verifies_across_the_libraries() {
    for maker in backends() {
        for key_type in [KeyType::Rsa, KeyType::Ed25519] {
            let pair = KeyPair::generate_using(maker, key_type).unwrap();
            assert_eq!(pair.key_type(), key_type);
            let public_pem = pair.public_key().to_pem();
            for signer in backends() {
                let credentials =
                    Credentials::from_pem_using(signer, KEY_ID, pair.private_key_pem()).unwrap();
                let signed = sign(&credentials, "GET", PATH, NOW).unwrap();
                for verifier in backends() {
                    let key = PublicKey::from_pem_using(verifier, &public_pem).unwrap();
                    key.verify_request("GET", PATH, NOW, signed.signature()).unwrap();
                    let error = key.verify_request("POST", PATH, NOW, signed.signature());
                    assert!(error.unwrap_err().is_bad_signature());
                }
                let message = format!("1703123456789GET{PATH}");
                let signature = base64(signed.signature());
                assert!(verifies(&public_pem, message.as_bytes(), &signature));
            }
        }
    }
}

#[test]
fn keys_are_handed_out_in_the_forms_of_the_exchange() {
    let rsa = KeyPair::generate(KeyType::Rsa).unwrap();
    assert!(rsa.private_key_pem().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let ed25519 = KeyPair::generate(KeyType::Ed25519).unwrap();
    assert!(ed25519.private_key_pem().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(ed25519.private_key_pem().len(), 119);
}

#[test]
fn a_public_key_prints_as_openssl_prints_it() {
    for name in ["rsa-2048", "rsa-4096", "ed25519"] {
        let pem = text(&format!("keys/public/{name}.pem"));
        assert_eq!(PublicKey::from_pem(&pem).unwrap().to_pem(), pem);
    }
}

#[test]
fn a_signature_that_is_not_one_is_refused() {
    for name in ["rsa-2048", "ed25519"] {
        for backend in backends() {
            let pem = text(&format!("keys/public/{name}.pem"));
            let key = PublicKey::from_pem_using(backend, pem).unwrap();
            let zeros = vec![0; 256];
            for signature in [&[][..], &[1], &zeros[..64], &zeros, &zeros[..255]] {
                assert!(key.verify("text", signature).unwrap_err().is_bad_signature());
            }
            for signature in ["", "AAAA", "not Base64", "AA", "A===", "_-__", "\u{e9}"] {
                let error = key.verify_request("GET", PATH, NOW, signature).unwrap_err();
                assert_eq!(error.kind(), AuthErrorKind::BadSignature);
            }
        }
    }
}

#[test]
fn a_signature_with_a_salt_of_another_length_is_refused() {
    use rsa::{
        pkcs1::DecodeRsaPrivateKey as _,
        pss::SigningKey,
        rand_core::OsRng,
        signature::{RandomizedSigner as _, SignatureEncoding as _},
    };

    let key = rsa::RsaPrivateKey::from_pkcs1_pem(&text("keys/accepted/rsa-2048-pkcs1.pem"));
    let key = key.unwrap();
    for backend in backends() {
        let public = PublicKey::from_pem_using(backend, text("keys/public/rsa-2048.pem")).unwrap();
        for (salt, is_good) in [(32, true), (0, false), (20, false), (222, false)] {
            let signer = SigningKey::<sha2::Sha256>::new_with_salt_len(key.clone(), salt);
            let signature = signer.sign_with_rng(&mut OsRng, b"text").to_bytes();
            assert_eq!(public.verify("text", signature).is_ok(), is_good, "{backend:?}, {salt}");
        }
    }
}

#[test]
fn only_public_keys_that_the_exchange_takes_are_public_keys() {
    for (name, start) in [
        ("accepted/rsa-2048-pkcs1", "found a private key"),
        ("accepted/ed25519-pkcs8", "found a private key"),
        ("refused/public-pkcs1", "found a public key in the form of PKCS#1"),
        ("refused/certificate", "found PEM with a label other than"),
        ("refused/empty", "found nothing"),
        ("refused/binary-der", "found binary DER"),
        ("refused/openssh-public", "found a public key"),
    ] {
        let error = PublicKey::from_pem(bytes(&format!("keys/{name}.pem"))).unwrap_err();
        assert!(error.to_string().starts_with(start), "{name}: {error}");
    }
}
