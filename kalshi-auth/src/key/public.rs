//! Public keys, and keys back into text. Only the side of the exchange needs it.

use zeroize::Zeroizing;

use super::{
    KeyType, ParsedKey, check_rsa_size,
    der::{self, BIT_STRING, ED25519, Elements, INTEGER, RSA, RsaNumbers, SEQUENCE},
    malformed, other_algorithm, pem, unsupported,
};
use crate::error::AuthError;

/// An Ed25519 key in PKCS#8 without its public key, as OpenSSL writes it: what is before the seed.
const ED25519_PRIVATE_HEAD: &[u8; 16] =
    b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// The bytes before the 32 of a public Ed25519 key.
const ED25519_PUBLIC_HEAD: &[u8; 12] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// The algorithm of RSA keys, with its empty parameters.
const RSA_ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// A public key that passed every check but those of the library that computes with it.
#[derive(Clone)]
pub(crate) enum ParsedPublicKey {
    /// PKCS#1.
    Rsa(Vec<u8>),
    Ed25519([u8; 32]),
}

impl ParsedPublicKey {
    /// Reads a public key from the text of a PEM file.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, AuthError> {
        let block = pem::single_block(text)?;
        match block.label() {
            "PUBLIC KEY" => public_key(&block.decode()?),
            "RSA PUBLIC KEY" => Err(unsupported(
                "found a public key in the form of PKCS#1; turn it around with \
                 `openssl rsa -RSAPublicKey_in -in KEY -pubout -out public.pem`",
            )),
            label if label.ends_with("PRIVATE KEY") => Err(unsupported(
                "found a private key; give the public key, which comes from \
                 `openssl pkey -in KEY -pubout -out public.pem`",
            )),
            _ => Err(unsupported("found PEM with a label other than `PUBLIC KEY`")),
        }
    }

    pub(crate) const fn key_type(&self) -> KeyType {
        match self {
            Self::Rsa(_) => KeyType::Rsa,
            Self::Ed25519(_) => KeyType::Ed25519,
        }
    }

    pub(crate) fn to_pem(&self) -> String {
        let der = match self {
            Self::Rsa(key) => {
                let bits = element(BIT_STRING, &[&[0], key.as_slice()].concat());
                element(SEQUENCE, &[RSA_ALGORITHM, &bits].concat())
            }
            Self::Ed25519(key) => [&ED25519_PUBLIC_HEAD[..], key].concat(),
        };
        let mut pem = pem::encode("PUBLIC KEY", &der);
        std::mem::take(&mut *pem)
    }
}

impl ParsedKey {
    /// Returns the public key of an RSA key. That of Ed25519 has to be computed.
    pub(crate) fn rsa_public_key(der: &[u8]) -> Option<ParsedPublicKey> {
        let numbers = RsaNumbers::read(der)?;
        let content = [number(numbers.modulus), number(numbers.public_exponent)].concat();
        Some(ParsedPublicKey::Rsa(element(SEQUENCE, &content)))
    }

    /// Returns PKCS#1 for RSA, and PKCS#8 without the public key for Ed25519, as OpenSSL does.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        match self {
            Self::Rsa(key) => pem::encode("RSA PRIVATE KEY", key),
            Self::Ed25519 { seed, .. } => {
                let mut der = Zeroizing::new([0; 48]);
                let (head, rest) = der.split_at_mut(ED25519_PRIVATE_HEAD.len());
                head.copy_from_slice(ED25519_PRIVATE_HEAD);
                rest.copy_from_slice(&**seed);
                pem::encode("PRIVATE KEY", &*der)
            }
        }
    }
}

fn public_key(der: &[u8]) -> Result<ParsedPublicKey, AuthError> {
    let damaged = || malformed("found a `PUBLIC KEY` whose content is damaged");
    let (oid, bytes) = subject_public_key(der).ok_or_else(damaged)?;
    match oid {
        RSA => {
            let (modulus, exponent) = rsa_public_numbers(bytes).ok_or_else(damaged)?;
            check_rsa_size(der::bits(modulus))?;
            if !der::is_public_key(modulus, exponent) {
                return Err(damaged());
            }
            Ok(ParsedPublicKey::Rsa(bytes.to_vec()))
        }
        ED25519 => Ok(ParsedPublicKey::Ed25519(bytes.try_into().map_err(|_| damaged())?)),
        other => Err(other_algorithm(der::algorithm_name(other))),
    }
}

/// Returns the algorithm and the key of a `PUBLIC KEY`.
fn subject_public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = Elements::of_sequence(der)?;
    let algorithm = parts.take_algorithm()?;
    let bytes = parts.take_bytes()?;
    parts.is_empty().then_some((algorithm.oid, bytes))
}

/// Returns the modulus and the exponent of a public key in PKCS#1.
pub(crate) fn rsa_public_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = Elements::of_sequence(der)?;
    let numbers = (parts.take_number()?, parts.take_number()?);
    parts.is_empty().then_some(numbers)
}

/// Encodes bytes of a number without leading zeros.
fn number(bytes: &[u8]) -> Vec<u8> {
    let is_negative_looking = bytes.first().is_none_or(|first| *first >= 0x80);
    element(INTEGER, &[if is_negative_looking { &[0][..] } else { &[] }, bytes].concat())
}

/// Encodes an element of less than 64 KiB, which all keys are.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let [.., high, low] = content.len().to_be_bytes();
    match (high, low) {
        (0, 0..=0x7f) => der.push(low),
        (0, _) => der.extend([0x81, low]),
        _ => der.extend([0x82, high, low]),
    }
    der.extend(content);
    der
}
