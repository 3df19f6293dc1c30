//! Computations of the exchange's side only: checks of signatures, and new keys.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ED25519, Ed25519KeyPair, KeyPair as _, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    },
};
use zeroize::Zeroizing;
#[cfg(feature = "pure-rust")]
use {
    ed25519_dalek::{Signature as Ed25519Signature, SigningKey, VerifyingKey},
    rsa::{
        BigUint, RsaPrivateKey, RsaPublicKey,
        pkcs1::EncodeRsaPrivateKey as _,
        pss::{Signature as RsaSignature, VerifyingKey as RsaVerifyingKey},
        rand_core::{OsRng, RngCore as _},
        signature::Verifier as _,
    },
    sha2::Sha256,
};

use super::Backend;
#[cfg(feature = "pure-rust")]
use crate::key::{MAX_RSA_BITS, MIN_RSA_BITS, rsa_public_numbers};
use crate::{
    error::{AuthError, AuthErrorKind},
    key::{KeyType, ParsedKey, ParsedPublicKey},
};

/// A public key in the form of its backend.
#[derive(Clone)]
pub(crate) enum PublicKey {
    #[cfg(feature = "pure-rust")]
    Rsa(Box<RsaVerifyingKey<Sha256>>),
    #[cfg(feature = "pure-rust")]
    Ed25519(Box<VerifyingKey>),
    /// AWS-LC reads the key for each signature: one that is no key verifies none.
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(UnparsedPublicKey<Vec<u8>>),
}

impl PublicKey {
    #[cfg_attr(
        not(feature = "pure-rust"),
        expect(clippy::unnecessary_wraps, reason = "the other library may refuse a key")
    )]
    pub(crate) fn new(backend: Backend, key: &ParsedPublicKey) -> Result<Self, AuthError> {
        match (backend, key) {
            #[cfg(feature = "pure-rust")]
            (Backend::PureRust, ParsedPublicKey::Rsa(der)) => {
                let (modulus, exponent) = rsa_public_numbers(der).ok_or_else(damaged)?;
                let number = BigUint::from_bytes_be;
                let (n, e) = (number(modulus), number(exponent));
                let key =
                    RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).map_err(|_| damaged())?;
                Ok(Self::Rsa(Box::new(RsaVerifyingKey::new(key))))
            }
            #[cfg(feature = "pure-rust")]
            (Backend::PureRust, ParsedPublicKey::Ed25519(bytes)) => {
                let key = VerifyingKey::from_bytes(bytes).map_err(|_| damaged())?;
                Ok(Self::Ed25519(Box::new(key)))
            }
            #[cfg(feature = "aws-lc-rs")]
            (Backend::AwsLc, ParsedPublicKey::Rsa(der)) => {
                Ok(Self::AwsLc(UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der.clone())))
            }
            #[cfg(feature = "aws-lc-rs")]
            (Backend::AwsLc, ParsedPublicKey::Ed25519(bytes)) => {
                Ok(Self::AwsLc(UnparsedPublicKey::new(&ED25519, bytes.to_vec())))
            }
        }
    }

    pub(crate) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            #[cfg(feature = "pure-rust")]
            Self::Rsa(key) => RsaSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(text, &signature).is_ok()),
            #[cfg(feature = "pure-rust")]
            Self::Ed25519(key) => Ed25519Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(text, &signature).is_ok()),
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(key) => key.verify(text, signature).is_ok(),
        }
    }
}

/// Makes a private key.
pub(crate) fn generate(backend: Backend, key_type: KeyType) -> Result<ParsedKey, AuthError> {
    let failed = || AuthError::new(AuthErrorKind::Signing, "the library could not make a key");
    match (backend, key_type) {
        #[cfg(feature = "pure-rust")]
        (Backend::PureRust, KeyType::Ed25519) => {
            let mut seed = Zeroizing::new([0; 32]);
            OsRng.try_fill_bytes(&mut *seed).map_err(|_| failed())?;
            Ok(ParsedKey::Ed25519 { seed, public_key: None })
        }
        #[cfg(feature = "pure-rust")]
        (Backend::PureRust, KeyType::Rsa) => {
            let key = RsaPrivateKey::new(&mut OsRng, MIN_RSA_BITS).map_err(|_| failed())?;
            let der = key.to_pkcs1_der().map_err(|_| failed())?.to_bytes();
            Ok(ParsedKey::Rsa(der))
        }
        #[cfg(feature = "aws-lc-rs")]
        (Backend::AwsLc, KeyType::Ed25519) => {
            let mut seed = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(&mut *seed).map_err(|_| failed())?;
            Ok(ParsedKey::Ed25519 { seed, public_key: None })
        }
        #[cfg(feature = "aws-lc-rs")]
        (Backend::AwsLc, KeyType::Rsa) => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| failed())?;
            let der = key.as_der().map_err(|_| failed())?;
            crate::key::pkcs8_private_key(der.as_ref())
        }
    }
}

/// Returns the public key of a private one.
pub(crate) fn public_key(backend: Backend, key: &ParsedKey) -> Result<ParsedPublicKey, AuthError> {
    let bytes = match (backend, key) {
        (_, ParsedKey::Rsa(der)) => {
            return ParsedKey::rsa_public_key(der).ok_or_else(crate::key::damaged_rsa);
        }
        #[cfg(feature = "pure-rust")]
        (Backend::PureRust, ParsedKey::Ed25519 { seed, .. }) => {
            SigningKey::from_bytes(seed).verifying_key().to_bytes()
        }
        #[cfg(feature = "aws-lc-rs")]
        (Backend::AwsLc, ParsedKey::Ed25519 { seed, .. }) => {
            let damaged = crate::key::damaged_ed25519;
            let key = Ed25519KeyPair::from_seed_unchecked(&**seed).map_err(|_| damaged())?;
            key.public_key().as_ref().try_into().map_err(|_| damaged())?
        }
    };
    Ok(ParsedPublicKey::Ed25519(bytes))
}

#[cfg(feature = "pure-rust")]
fn damaged() -> AuthError {
    crate::key::malformed("found a `PUBLIC KEY` whose content is damaged")
}
