//! Sources of credentials: files and the environment.

use std::{collections::HashMap, env, ffi::OsString, fs, process};

use kalshi_auth::{AuthError, AuthErrorKind, Credentials, KeyType};

use crate::helpers::{KEY_ID, path, text};

/// Credentials from variables, the home directory being that of the key files.
fn from_vars(variables: &[(&str, &str)]) -> Result<Credentials, AuthError> {
    let mut variables: HashMap<_, _> =
        variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
    variables.entry("HOME").or_insert_with(|| path("keys").into_os_string());
    Credentials::from_vars(|name| variables.get(name).cloned())
}

#[test]
fn the_environment_holds_the_text_of_a_key() {
    for file in ["rsa-2048-pkcs1.pem", "escaped-line-ends.pem", "escaped-twice-quoted.pem"] {
        let pem = text(&format!("keys/accepted/{file}"));
        let credentials =
            from_vars(&[("KALSHI_API_KEY_ID", KEY_ID), ("KALSHI_PRIVATE_KEY", &pem)]).unwrap();
        assert_eq!(credentials.key_id(), KEY_ID);
        assert_eq!(credentials.key_type(), KeyType::Rsa);
    }
}

#[test]
fn the_environment_holds_the_path_of_a_key() {
    let whole = path("keys/accepted/ed25519-pkcs8.pem");
    for file in [whole.to_str().unwrap(), "~/accepted/ed25519-pkcs8.pem"] {
        let credentials =
            from_vars(&[("KALSHI_API_KEY_ID", KEY_ID), ("KALSHI_PRIVATE_KEY_PATH", file)]).unwrap();
        assert_eq!(credentials.key_type(), KeyType::Ed25519);
    }
}

#[test]
fn quotes_and_blanks_around_variables_do_no_harm() {
    let credentials = from_vars(&[
        ("KALSHI_API_KEY_ID", &format!(" \"{KEY_ID}\"\n")),
        ("KALSHI_PRIVATE_KEY_PATH", "'~/accepted/ed25519-pkcs8.pem' "),
    ]);
    assert_eq!(credentials.unwrap().key_id(), KEY_ID);
}

#[test]
fn without_any_variable_the_error_says_which_to_set() {
    let empty = [("KALSHI_API_KEY_ID", ""), ("KALSHI_PRIVATE_KEY", " ")];
    for variables in [&[][..], &empty] {
        let error = from_vars(variables).unwrap_err();
        assert!(error.is_missing_credentials());
        assert_eq!(
            error.to_string(),
            "there are no credentials; set KALSHI_API_KEY_ID, and KALSHI_PRIVATE_KEY (PEM text) or \
             KALSHI_PRIVATE_KEY_PATH (path of a PEM file)"
        );
    }
}

#[test]
fn a_half_set_environment_says_which_half_is_missing() {
    let pem = text("keys/accepted/ed25519-pkcs8.pem");
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[("KALSHI_API_KEY_ID", KEY_ID)], "KALSHI_API_KEY_ID is set, but there is no private key"),
        (&[("KALSHI_PRIVATE_KEY", &pem)], "KALSHI_API_KEY_ID is not set, but a private key is"),
        (
            &[
                ("KALSHI_API_KEY_ID", KEY_ID),
                ("KALSHI_PRIVATE_KEY", &pem),
                ("KALSHI_PRIVATE_KEY_PATH", "~/key.pem"),
            ],
            "KALSHI_PRIVATE_KEY and KALSHI_PRIVATE_KEY_PATH are both set",
        ),
    ];
    for (variables, start) in cases {
        let error = from_vars(variables).unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::Environment);
        assert!(error.to_string().starts_with(start), "{error}");
        assert!(!error.is_missing_credentials());
    }
}

#[test]
fn an_error_names_the_variable_and_the_file() {
    let error = from_vars(&[
        ("KALSHI_API_KEY_ID", KEY_ID),
        ("KALSHI_PRIVATE_KEY_PATH", "~/refused/empty.pem"),
    ])
    .unwrap_err();
    let expected = format!(
        "KALSHI_PRIVATE_KEY_PATH: {}: found nothing, the text is empty; a key is expected as PEM text",
        path("keys/refused/empty.pem").display()
    );
    assert_eq!(error.to_string(), expected);

    let error = from_vars(&[
        ("KALSHI_API_KEY_ID", KEY_ID),
        ("KALSHI_PRIVATE_KEY", "~/accepted/ed25519-pkcs8.pem"),
    ])
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "KALSHI_PRIVATE_KEY: found what looks like a path; a path goes into \
         KALSHI_PRIVATE_KEY_PATH, or into `Credentials::from_file`"
    );

    let error = from_vars(&[("KALSHI_API_KEY_ID", "a b"), ("KALSHI_PRIVATE_KEY", "x")]);
    assert!(error.unwrap_err().to_string().starts_with("KALSHI_API_KEY_ID: the key id holds"));
}

#[test]
fn a_file_is_read_with_its_path_from_the_home_directory() {
    // HOME is the one of whoever runs the tests, so only the way of failing can be shown.
    let error = Credentials::from_file(KEY_ID, "~/no-such-directory/key.pem").unwrap_err();
    let home = env::var("HOME").expect("a home directory");
    assert!(error.to_string().starts_with(&home), "{error}");
    assert!(error.to_string().ends_with("no-such-directory/key.pem: the file does not exist"));
}

#[test]
fn a_tilde_without_a_home_directory_is_an_error() {
    let error = from_vars(&[
        ("KALSHI_API_KEY_ID", KEY_ID),
        ("KALSHI_PRIVATE_KEY_PATH", "~/key.pem"),
        ("HOME", ""),
    ])
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "KALSHI_PRIVATE_KEY_PATH: ~/key.pem: the path starts with `~`, but HOME is not set"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_path() {
    let folder = path("keys");
    let error = Credentials::from_file(KEY_ID, &folder).unwrap_err();
    assert_eq!(error.kind(), AuthErrorKind::KeyFile);
    let expected = format!("{}: this is a directory, not a file", folder.display());
    assert_eq!(error.to_string(), expected);
    assert!(std::error::Error::source(&error).is_some());

    let error = Credentials::from_file(KEY_ID, "").unwrap_err();
    assert_eq!(error.to_string(), "the path is empty");
}

#[test]
fn a_huge_file_is_not_read_to_its_end() {
    let file = env::temp_dir().join(format!("kalshi-auth-huge-{}.pem", process::id()));
    fs::write(&file, vec![b'A'; 1 << 20]).unwrap();
    let error = Credentials::from_file(KEY_ID, &file).unwrap_err();
    fs::remove_file(&file).unwrap();
    assert!(error.to_string().ends_with("the file is larger than 64 KiB, which no key is"));

    #[cfg(unix)]
    {
        let error = Credentials::from_file(KEY_ID, "/dev/zero").unwrap_err();
        assert!(error.to_string().starts_with("/dev/zero: the file is larger"));
    }
}

#[test]
fn a_key_id_that_is_not_one_is_refused() {
    let pem = text("keys/accepted/ed25519-pkcs8.pem");
    let long = "a".repeat(129);
    for key_id in ["", " ", "a b", "a\n", "é", "a\u{7f}", &long, &pem] {
        let error = Credentials::from_pem(key_id, &pem).unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::KeyId, "{key_id:?}");
        assert!(error.is_unusable_credentials());
    }
}

#[test]
fn d2_a_part_of_a_key_in_place_of_a_path_is_not_printed() {
    let pem = text("keys/accepted/rsa-2048-pkcs1.pem");
    let lines: Vec<&str> = pem.lines().filter(|line| !line.contains("-----")).collect();
    let without_last_line = lines[..lines.len() - 1].concat();
    let without_dashes = format!("BEGIN RSA PRIVATE KEY {} END RSA PRIVATE KEY", lines.join(" "));
    let with_line_ends = lines[..3].join("\n");
    let short = text("keys/accepted/ed25519-pkcs8.pem");
    let short = short.lines().nth(1).unwrap();
    let cut_off = &short[..short.len() - 4];
    for given in [&without_last_line, &without_dashes, &with_line_ends, lines[5], cut_off] {
        let errors = [
            Credentials::from_file(KEY_ID, given).unwrap_err(),
            from_vars(&[("KALSHI_API_KEY_ID", KEY_ID), ("KALSHI_PRIVATE_KEY_PATH", given)])
                .unwrap_err(),
            from_vars(&[
                ("KALSHI_API_KEY_ID", KEY_ID),
                ("KALSHI_PRIVATE_KEY_PATH", &format!("~/{given}")),
                ("HOME", ""),
            ])
            .unwrap_err(),
            Credentials::from_pem(given, &pem).unwrap_err(),
        ];
        for error in errors {
            let printed = format!("{error} {error:?}");
            for piece in given.split_whitespace().filter(|piece| piece.len() > 16) {
                assert!(!printed.contains(&piece[..8]), "{printed}");
                assert!(!printed.contains(&piece[piece.len() - 8..]), "{printed}");
            }
        }
    }
    let error = Credentials::from_file(KEY_ID, cut_off).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a path of 60 characters, not shown because it may hold a key: the file does not exist"
    );
}

#[test]
fn d2_a_path_that_is_one_is_printed() {
    for path in [
        "/no/such/folder/kalshi.pem",
        "no-such-key-a952bcbe-ec3b-4b5b-b8f9-11dae589608c.pem",
        "/nix/store/0c0bhchd6b9ai3rjnbmsdvhqpy5nl1qz-none/key.pem",
        "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T/none.pem",
        "C:\\Users\\Alice\\AppData\\Local\\none.pem",
        "/Users/Alice/Library/Application Support/none/key.pem",
    ] {
        let error = Credentials::from_file(KEY_ID, path).unwrap_err();
        assert!(error.to_string().starts_with(path), "{error}");
    }
    let long = format!("/no/such/{}", "folder/".repeat(100));
    let error = Credentials::from_file(KEY_ID, &long).unwrap_err();
    let start = format!("{}… (709 characters): ", &long[..64]);
    assert!(error.to_string().starts_with(&start), "{error}");
}
