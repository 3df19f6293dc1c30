//! Nothing that is given as a key makes the loader panic, or comes back in its error.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kalshi_auth::{AuthErrorKind, Credentials, Environment, Service};
use proptest::prelude::*;

use crate::helpers::{KEY_ID, backends, base64, text};

/// Characters of an Ed25519 key in base64, the shortest there is.
const SHORTEST_KEY: usize = 44;

const KEYS: [&str; 3] = ["rsa-2048-pkcs1.pem", "rsa-2048-pkcs8.pem", "ed25519-pkcs8.pem"];

fn der(name: &str) -> Vec<u8> {
    let pem = text(&format!("keys/accepted/{name}"));
    base64(pem.lines().filter(|line| !line.contains("-----")).collect::<String>())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Loads a text with each library, which must all say the same of it.
fn load(text: impl AsRef<[u8]>) {
    let load = |backend| {
        Credentials::from_pem_using(backend, KEY_ID, &text)
            .map(|credentials| credentials.key_type())
            .map_err(|error| error.to_string())
    };
    let results: Vec<_> = backends().into_iter().map(load).collect();
    for result in &results {
        assert_eq!(result, &results[0]);
        if let Err(error) = result {
            assert!(error.starts_with("found "), "{error}");
        }
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
    fn d2_no_piece_of_a_key_comes_back_in_an_error(
        name in prop::sample::select(&KEYS[..]),
        start in any::<prop::sample::Index>(),
        length in SHORTEST_KEY..400,
        separator in prop_oneof![
            Just(""), Just("\n"), Just("\r\n"), Just(" "), Just("\\n"), Just("\\r\\n"),
        ],
        around in prop_oneof![Just(""), Just("\""), Just("/"), Just("~/"), Just("https://"), Just("x=")],
    ) {
        let pem = text(&format!("keys/accepted/{name}"));
        let lines: Vec<&str> = pem.lines().filter(|line| !line.contains("-----")).collect();
        let body = lines.join(separator);
        let start = start.index(body.len() - SHORTEST_KEY + 1);
        let piece = &body[start..(start + length).min(body.len())];
        let given = format!("{around}{piece}");
        let environment = given.parse::<Environment>().and_then(|environment| {
            environment.checked_url(Service::Rest).map(drop)
        });
        let from_vars = |name: &str, other: &str| Credentials::from_vars(|variable| {
            if variable == name {
                return Some(given.clone().into());
            }
            (variable == other).then(|| KEY_ID.into())
        });
        let errors = [
            Credentials::from_pem(KEY_ID, &given).err(),
            Credentials::from_pem(&given, &pem).err(),
            Credentials::from_file(KEY_ID, &given).err(),
            from_vars("KALSHI_PRIVATE_KEY", "KALSHI_API_KEY_ID").err(),
            from_vars("KALSHI_PRIVATE_KEY_PATH", "KALSHI_API_KEY_ID").err(),
            from_vars("KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY").err(),
            environment.err(),
        ];
        for error in errors {
            let error = error.expect("a piece of a key is nothing that can be used");
            let printed = format!("{error} {error:?}");
            for window in piece.as_bytes().windows(8) {
                prop_assert!(!printed.contains(&*String::from_utf8_lossy(window)), "{}", printed);
            }
        }
    }

    #[test]
    fn any_key_id_loads_or_fails(key_id in any::<String>()) {
        let pem = text("keys/accepted/ed25519-pkcs8.pem");
        if let Ok(credentials) = Credentials::from_pem(&key_id, pem) {
            prop_assert_eq!(credentials.key_id(), key_id);
        }
    }
}

/// Checks every piece as long as the shortest key there is, of every key, with every way to write
/// its lines: a longer piece holds one of these.
#[test]
fn d2_no_piece_of_a_key_is_a_key_id_or_shown_as_a_path() {
    let [pem, ..] = KEYS.map(|name| text(&format!("keys/accepted/{name}")));
    for name in KEYS {
        let key = text(&format!("keys/accepted/{name}"));
        let lines: Vec<&str> = key.lines().filter(|line| !line.contains("-----")).collect();
        for separator in ["", "\n", "\r\n", " ", "\\n", "\\r\\n"] {
            let body = lines.join(separator);
            for start in 0..=body.len() - SHORTEST_KEY {
                let piece = &body[start..start + SHORTEST_KEY];
                let error =
                    Credentials::from_pem(piece, &pem).expect_err("a piece of a key is no key id");
                assert_eq!(error.kind(), AuthErrorKind::KeyId, "{name} {separator:?} from {start}");
                let error =
                    Credentials::from_file(KEY_ID, piece).expect_err("there is no such file");
                let shown = error.to_string();
                assert!(!shown.contains(&piece[..8]), "{name} {separator:?} from {start}: {shown}");
            }
        }
    }
}
