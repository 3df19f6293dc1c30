//! `rsa` and `ed25519-dalek`.

use ed25519_dalek::{Signer as _, SigningKey};
use rsa::{
    pss::BlindedSigningKey,
    rand_core::OsRng,
    signature::{RandomizedSigner as _, SignatureEncoding as _},
};
use sha2::Sha256;

use super::MAX_SIGNATURE;
use crate::key::{KeyType, ParsedKey};

/// The exchange wants a salt as long as the digest.
const SALT_LENGTH: usize = 32;

pub(crate) enum PrivateKey {
    Rsa(Box<BlindedSigningKey<Sha256>>),
    Ed25519(Box<SigningKey>),
}

impl PrivateKey {
    pub(crate) fn new(key: ParsedKey) -> Self {
        match key {
            ParsedKey::Rsa(key) => {
                Self::Rsa(Box::new(BlindedSigningKey::new_with_salt_len(*key, SALT_LENGTH)))
            }
            ParsedKey::Ed25519(key) => Self::Ed25519(key),
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
                let signature = key.try_sign_with_rng(&mut OsRng, text).ok()?.to_bytes();
                buffer.get_mut(..signature.len())?.copy_from_slice(&signature);
                Some(signature.len())
            }
            Self::Ed25519(key) => {
                let signature = key.sign(text).to_bytes();
                buffer.get_mut(..signature.len())?.copy_from_slice(&signature);
                Some(signature.len())
            }
        }
    }
}
