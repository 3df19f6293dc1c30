//! What only the side of the exchange computes: checks of signatures, and new keys.

use ed25519_dalek::{Signature as Ed25519Signature, SigningKey, VerifyingKey};
use rsa::{
    RsaPrivateKey,
    pss::{Signature as RsaSignature, VerifyingKey as RsaVerifyingKey},
    rand_core::{OsRng, RngCore as _},
    signature::Verifier as _,
};
use sha2::Sha256;
use zeroize::Zeroizing;
#[cfg(feature = "aws-lc-rs")]
use {
    aws_lc_rs::{
        encoding::AsDer as _,
        rsa::{KeyPair as RsaKeyPair, KeySize},
        signature::{ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey},
    },
    rsa::pkcs1::EncodeRsaPublicKey as _,
};

use super::Backend;
use crate::{
    error::{AuthError, AuthErrorKind},
    key::{KeyType, MIN_RSA_BITS, ParsedKey, ParsedPublicKey},
};

/// A public key in the form of its backend.
#[derive(Clone)]
pub(crate) enum PublicKey {
    Rsa(Box<RsaVerifyingKey<Sha256>>),
    Ed25519(Box<VerifyingKey>),
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(UnparsedPublicKey<Vec<u8>>),
}

impl PublicKey {
    #[cfg_attr(
        not(feature = "aws-lc-rs"),
        expect(clippy::unnecessary_wraps, reason = "AWS-LC wants the key encoded, which may fail")
    )]
    pub(crate) fn new(backend: Backend, key: &ParsedPublicKey) -> Result<Self, AuthError> {
        Ok(match (backend, key) {
            (Backend::PureRust, ParsedPublicKey::Rsa(key)) => {
                Self::Rsa(Box::new(RsaVerifyingKey::new((**key).clone())))
            }
            (Backend::PureRust, ParsedPublicKey::Ed25519(key)) => Self::Ed25519(key.clone()),
            #[cfg(feature = "aws-lc-rs")]
            (Backend::AwsLc, ParsedPublicKey::Rsa(key)) => {
                let der = key.to_pkcs1_der().map_err(|_| {
                    AuthError::new(AuthErrorKind::MalformedKey, "the public key cannot be encoded")
                })?;
                Self::AwsLc(UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der.into_vec()))
            }
            #[cfg(feature = "aws-lc-rs")]
            (Backend::AwsLc, ParsedPublicKey::Ed25519(key)) => {
                Self::AwsLc(UnparsedPublicKey::new(&ED25519, key.as_bytes().to_vec()))
            }
        })
    }

    pub(crate) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => RsaSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(text, &signature).is_ok()),
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
        (_, KeyType::Ed25519) => {
            let mut seed = Zeroizing::new([0; 32]);
            OsRng.try_fill_bytes(&mut *seed).map_err(|_| failed())?;
            Ok(ParsedKey::Ed25519(Box::new(SigningKey::from_bytes(&seed))))
        }
        (Backend::PureRust, KeyType::Rsa) => {
            let key = RsaPrivateKey::new(&mut OsRng, MIN_RSA_BITS).map_err(|_| failed())?;
            Ok(ParsedKey::Rsa(Box::new(key)))
        }
        #[cfg(feature = "aws-lc-rs")]
        (Backend::AwsLc, KeyType::Rsa) => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| failed())?;
            let der = key.as_der().map_err(|_| failed())?;
            crate::key::pkcs8_private_key(der.as_ref())
        }
    }
}
