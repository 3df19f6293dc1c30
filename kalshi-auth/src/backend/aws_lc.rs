//! AWS-LC.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{Ed25519KeyPair, RSA_PSS_SHA256},
};
use rsa::pkcs1::EncodeRsaPrivateKey as _;

use super::MAX_SIGNATURE;
use crate::{
    error::{AuthError, AuthErrorKind},
    key::{KeyType, ParsedKey},
};

pub(crate) enum PrivateKey {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl PrivateKey {
    pub(crate) fn new(key: &ParsedKey) -> Result<Self, AuthError> {
        let refused =
            || AuthError::new(AuthErrorKind::MalformedKey, "the private key is refused by AWS-LC");
        match key {
            ParsedKey::Rsa(key) => {
                // Encoded anew rather than passed on: the parts that speed up the computation are
                // then right, whatever the file says.
                let der = key.to_pkcs1_der().map_err(|_| refused())?;
                let key = RsaKeyPair::from_der(der.as_bytes()).map_err(|_| refused())?;
                Ok(Self::Rsa(Box::new(key)))
            }
            ParsedKey::Ed25519(key) => {
                let public = key.verifying_key();
                let key =
                    Ed25519KeyPair::from_seed_and_public_key(key.as_bytes(), public.as_bytes())
                        .map_err(|_| refused())?;
                Ok(Self::Ed25519(Box::new(key)))
            }
        }
    }

    pub(crate) const fn key_type(&self) -> KeyType {
        match self {
            Self::Rsa(_) => KeyType::Rsa,
            Self::Ed25519(_) => KeyType::Ed25519,
        }
    }

    /// Returns the length of the signature, or `None` if there are no random numbers.
    pub(crate) fn sign(&self, text: &[u8], buffer: &mut [u8; MAX_SIGNATURE]) -> Option<usize> {
        match self {
            Self::Rsa(key) => {
                let signature = buffer.get_mut(..key.public_modulus_len())?;
                // The salt of this scheme is as long as the digest.
                key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text, signature).ok()?;
                Some(signature.len())
            }
            Self::Ed25519(key) => {
                let signature = key.try_sign(text).ok()?;
                buffer.get_mut(..signature.as_ref().len())?.copy_from_slice(signature.as_ref());
                Some(signature.as_ref().len())
            }
        }
    }
}
