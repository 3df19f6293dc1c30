//! Nothing that is given as a key makes the loader panic, or comes back in its error.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kalshi_auth::Credentials;
use proptest::prelude::*;

use crate::helpers::{KEY_ID, base64, text};

fn der(name: &str) -> Vec<u8> {
    let pem = text(&format!("keys/accepted/{name}"));
    base64(pem.lines().filter(|line| !line.contains("-----")).collect::<String>())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn load(text: impl AsRef<[u8]>) {
    if let Err(error) = Credentials::from_pem(KEY_ID, text) {
        assert!(error.to_string().starts_with("found "), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_load_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        load(bytes);
    }

    #[test]
    fn any_text_with_the_marks_of_pem_loads_or_fails(
        pieces in prop::collection::vec(
            prop_oneof![
                Just("-----BEGIN "), Just("PRIVATE KEY"), Just("-----"), Just("-----END "),
                Just("RSA "), Just("\\n"), Just("\n"), Just("\\"), Just("AAAA"), Just("="),
                Just("ENCRYPTED"), Just(":"), Just("\u{e9}"), Just("\""),
            ],
            0..24,
        )
    ) {
        load(pieces.concat());
    }

    #[test]
    fn any_content_loads_or_fails(
        bytes in prop::collection::vec(any::<u8>(), 0..512),
        label in prop_oneof![Just("PRIVATE KEY"), Just("RSA PRIVATE KEY")],
    ) {
        load(pem(label, &bytes));
    }

    #[test]
    fn a_damaged_key_loads_or_fails(
        name in prop_oneof![
            Just("rsa-2048-pkcs1.pem"), Just("rsa-2048-pkcs8.pem"),
            Just("ed25519-pkcs8.pem"), Just("ed25519-pkcs8-v2.pem"), Just("ed25519-pkcs8-v2-ring.pem"),
        ],
        // The head has the structure, so most of the damage goes there.
        place in prop_oneof![0_usize..40, any::<prop::sample::Index>().prop_map(|i| i.index(1200))],
        value in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = der(name);
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        load(pem("PRIVATE KEY", &bytes));
        load(pem("RSA PRIVATE KEY", &bytes));
    }

    #[test]
    fn any_key_id_loads_or_fails(key_id in any::<String>()) {
        let pem = text("keys/accepted/ed25519-pkcs8.pem");
        if let Ok(credentials) = Credentials::from_pem(&key_id, pem) {
            prop_assert_eq!(credentials.key_id(), key_id);
        }
    }
}
