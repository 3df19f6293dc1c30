//! AWS-LC.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{Ed25519KeyPair, RSA_PSS_SHA256},
};

use super::MAX_SIGNATURE;
use crate::{
    error::AuthError,
    key::{KeyType, ParsedKey, damaged_ed25519, damaged_rsa},
};

pub(crate) enum PrivateKey {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl PrivateKey {
    pub(crate) fn new(key: &ParsedKey) -> Result<Self, AuthError> {
        match key {
            ParsedKey::Rsa(der) => {
                // It checks that all numbers belong together.
                let key = RsaKeyPair::from_der(der).map_err(|_| damaged_rsa())?;
                Ok(Self::Rsa(Box::new(key)))
            }
            ParsedKey::Ed25519 { seed, public_key } => {
                let key = match public_key {
                    Some(public) => Ed25519KeyPair::from_seed_and_public_key(&**seed, public),
                    None => Ed25519KeyPair::from_seed_unchecked(&**seed),
                };
                Ok(Self::Ed25519(Box::new(key.map_err(|_| damaged_ed25519())?)))
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
