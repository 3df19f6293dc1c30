//! Public keys, and keys back into text. Only the side of the exchange needs it.

use ed25519_dalek::{
    VerifyingKey,
    pkcs8::{EncodePrivateKey as _, KeypairBytes},
};
use rsa::{
    BigUint, RsaPublicKey,
    pkcs1::{self, EncodeRsaPrivateKey as _},
    pkcs8::{EncodePublicKey as _, LineEnding, SubjectPublicKeyInfoRef, der::Decode as _},
};
use zeroize::Zeroizing;

use super::{
    KeyType, MAX_RSA_BITS, ParsedKey, check_rsa_size,
    der::{self, ED25519, RSA},
    malformed, other_algorithm, pem, unsupported,
};
use crate::error::AuthError;

/// A public key that passed every check.
#[derive(Clone)]
pub(crate) enum ParsedPublicKey {
    Rsa(Box<RsaPublicKey>),
    Ed25519(Box<VerifyingKey>),
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

    pub(crate) fn to_pem(&self) -> Result<String, AuthError> {
        match self {
            Self::Rsa(key) => key.to_public_key_pem(LineEnding::LF),
            Self::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
        }
        .map_err(|_| malformed("the public key cannot be encoded"))
    }
}

impl ParsedKey {
    pub(crate) fn public_key(&self) -> ParsedPublicKey {
        match self {
            Self::Rsa(key) => ParsedPublicKey::Rsa(Box::new(key.to_public_key())),
            Self::Ed25519(key) => ParsedPublicKey::Ed25519(Box::new(key.verifying_key())),
        }
    }

    /// Returns PKCS#1 for RSA, and PKCS#8 without the public key for Ed25519, as OpenSSL does.
    pub(crate) fn to_pem(&self) -> Result<Zeroizing<String>, AuthError> {
        let unencodable = || malformed("the private key cannot be encoded");
        match self {
            Self::Rsa(key) => key.to_pkcs1_pem(LineEnding::LF).map_err(|_| unencodable()),
            Self::Ed25519(key) => {
                let mut bytes = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
                let pem = bytes.to_pkcs8_pem(LineEnding::LF).map_err(|_| unencodable());
                zeroize::Zeroize::zeroize(&mut bytes.secret_key);
                pem
            }
        }
    }
}

fn public_key(der: &[u8]) -> Result<ParsedPublicKey, AuthError> {
    let damaged = || malformed("found a `PUBLIC KEY` whose content is damaged");
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| damaged())?;
    let bytes = info.subject_public_key.as_bytes().ok_or_else(damaged)?;
    match info.algorithm.oid {
        RSA => {
            let key = pkcs1::RsaPublicKey::from_der(bytes).map_err(|_| damaged())?;
            check_rsa_size(der::bits(key.modulus.as_bytes()))?;
            let number = |number: pkcs1::UintRef<'_>| BigUint::from_bytes_be(number.as_bytes());
            let (n, e) = (number(key.modulus), number(key.public_exponent));
            let key = RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).map_err(|_| damaged())?;
            Ok(ParsedPublicKey::Rsa(Box::new(key)))
        }
        ED25519 => {
            let bytes = bytes.try_into().map_err(|_| damaged())?;
            let key = VerifyingKey::from_bytes(bytes).map_err(|_| damaged())?;
            Ok(ParsedPublicKey::Ed25519(Box::new(key)))
        }
        other => Err(other_algorithm(der::algorithm_name(other))),
    }
}
