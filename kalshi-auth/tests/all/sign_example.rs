//! The example `sign`, up to the point where it prints.

#[expect(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/sign.rs"]
mod sign;

use crate::helpers::{KEY_ID, path, text};

fn run(arguments: &[&str]) -> Result<String, String> {
    sign::output(arguments.iter().map(|&argument| argument.to_owned()))
}

#[test]
fn the_example_prints_the_headers_of_a_golden_vector() {
    let key = path("vectors/ed25519-balance-openssl/test-key.pem");
    let printed = run(&[
        "--key-id",
        KEY_ID,
        "--key",
        key.to_str().unwrap(),
        "GET",
        "/trade-api/v2/portfolio/balance",
        "--timestamp",
        "1703123456789",
    ]);
    let signature = text("vectors/ed25519-balance-openssl/signature.txt");
    let expected = format!(
        "KALSHI-ACCESS-KEY: {KEY_ID}\n\
         KALSHI-ACCESS-SIGNATURE: {signature}\
         KALSHI-ACCESS-TIMESTAMP: 1703123456789\n"
    );
    assert_eq!(printed, Ok(expected));
}

#[test]
fn c15_wrong_usage_of_the_example_is_one_line_that_says_what_is_wrong() {
    let cases: [(&[&str], &str); 10] = [
        (&[], "--key-id is missing; usage: sign"),
        (&["--key-id"], "--key-id needs a value; usage: sign"),
        (&["--key-id", "a", "GET", "/"], "--key is missing"),
        (&["--key-id", "a", "--key", "b"], "give one method and one path"),
        (&["--key-id", "a", "--key", "b", "GET", "/", "/"], "give one method and one path"),
        (&["--key-id", "a", "--key-id", "b"], "--key-id is given twice"),
        (&["--kye", "a"], "the option --kye is unknown; usage: sign"),
        (&["-----BEGIN PRIVATE KEY-----", "a"], "there is an unknown option; usage: sign"),
        (&["--key-id", "a", "--key", "b", "FOO", "/"], "the method must be one of GET, POST, PUT"),
        (&["--key-id", "a", "--key", "/no-such-file", "GET", "/"], "/no-such-file: the file does"),
    ];
    for (arguments, start) in cases {
        let message = run(arguments).unwrap_err();
        assert!(message.starts_with(start), "{message}");
        assert!(!message.contains('\n'));
    }
}
