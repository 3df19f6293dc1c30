//! The bytes within PEM.

use ed25519_dalek::SigningKey;
use rsa::{
    BigUint, RsaPrivateKey, pkcs1,
    pkcs8::{ObjectIdentifier, PrivateKeyInfo, der::Decode as _},
};

use super::{ParsedKey, check_rsa_size, malformed, other_algorithm, public};
use crate::error::AuthError;

pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
pub(super) const RSA: ObjectIdentifier = pkcs1::ALGORITHM_OID;

/// Parses PKCS#8, which wraps a key of any algorithm.
pub(crate) fn pkcs8_private_key(der: &[u8]) -> Result<ParsedKey, AuthError> {
    if let Some(key) = ring_ed25519(der) {
        return Ok(key);
    }
    let info = PrivateKeyInfo::from_der(der).map_err(|_| match pkcs1_or_public(der) {
        Some(error) => error,
        None => {
            malformed("found a `PRIVATE KEY` whose content is damaged; copy the whole file again")
        }
    })?;
    match info.algorithm.oid {
        RSA => pkcs1_private_key(info.private_key),
        ED25519 => match SigningKey::try_from(info) {
            Ok(key) => Ok(ParsedKey::Ed25519(Box::new(key))),
            Err(_) => Err(malformed(
                "found an Ed25519 key whose content is damaged; copy the whole file again",
            )),
        },
        other => Err(other_algorithm(algorithm_name(other))),
    }
}

/// Parses PKCS#1, which is RSA only.
pub(super) fn pkcs1_private_key(der: &[u8]) -> Result<ParsedKey, AuthError> {
    let damaged =
        || malformed("found an RSA key whose content is damaged; copy the whole file again");
    let key = pkcs1::RsaPrivateKey::from_der(der).map_err(|_| {
        if PrivateKeyInfo::from_der(der).is_ok() {
            return malformed(
                "found a key in the form of PKCS#8 under the label of PKCS#1; the lines around it \
                 have to say `PRIVATE KEY`",
            );
        }
        damaged()
    })?;
    check_rsa_size(bits(key.modulus.as_bytes()))?;
    if key.version() != pkcs1::Version::TwoPrime {
        return Err(malformed("found an RSA key of more than two primes; make another one"));
    }
    let number = |number: pkcs1::UintRef<'_>| BigUint::from_bytes_be(number.as_bytes());
    RsaPrivateKey::from_components(
        number(key.modulus),
        number(key.public_exponent),
        number(key.private_exponent),
        vec![number(key.prime1), number(key.prime2)],
    )
    .map(|key| ParsedKey::Rsa(Box::new(key)))
    .map_err(|_| damaged())
}

/// Returns the number of bits of a number without leading zero bytes.
pub(super) fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

pub(super) fn algorithm_name(oid: ObjectIdentifier) -> &'static str {
    const NAMES: [(&str, &str); 9] = [
        ("1.2.840.10045.2.1", "an EC key"),
        ("1.2.840.10040.4.1", "a DSA key"),
        ("1.2.840.113549.1.1.10", "an RSA key that is marked for RSASSA-PSS only"),
        ("1.2.840.113549.1.3.1", "a Diffie-Hellman key"),
        ("1.3.101.110", "an X25519 key"),
        ("1.3.101.111", "an X448 key"),
        ("1.3.101.113", "an Ed448 key"),
        ("1.2.840.113549.1.1.1", "an RSA key"),
        ("1.3.101.112", "an Ed25519 key"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| ObjectIdentifier::new(known) == Ok(oid))
        .map_or("a key of another algorithm", |(_, name)| name)
}

/// Parses Ed25519 in version 2 of PKCS#8 as `ring` writes it. It tags the public key in another way
/// than the standard, and its keys are common among Rust programs.
fn ring_ed25519(der: &[u8]) -> Option<ParsedKey> {
    const HEAD: &[u8] = b"\x30\x53\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    const MIDDLE: &[u8] = b"\xa1\x23\x03\x21\x00";
    let (seed, rest) = der.strip_prefix(HEAD)?.split_first_chunk()?;
    let key = SigningKey::from_bytes(seed);
    let public = rest.strip_prefix(MIDDLE)?;
    (key.verifying_key().as_bytes() == public).then(|| ParsedKey::Ed25519(Box::new(key)))
}

/// Recognizes what else is found under the label `PRIVATE KEY`, after the label was edited.
fn pkcs1_or_public(der: &[u8]) -> Option<AuthError> {
    if pkcs1::RsaPrivateKey::from_der(der).is_ok() {
        return Some(malformed(
            "found an RSA key in the form of PKCS#1 under the label of PKCS#8; the lines around it \
             have to say `RSA PRIVATE KEY`",
        ));
    }
    rsa::pkcs8::SubjectPublicKeyInfoRef::from_der(der).is_ok().then(public)
}
