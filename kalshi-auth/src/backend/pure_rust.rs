//! `rsa` and `ed25519-dalek`.

use ed25519_dalek::{Signer as _, SigningKey};
use rsa::{
    BigUint, RsaPrivateKey,
    pss::BlindedSigningKey,
    rand_core::OsRng,
    signature::{RandomizedSigner as _, SignatureEncoding as _},
};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::MAX_SIGNATURE;
use crate::{
    error::AuthError,
    key::{KeyType, ParsedKey, RsaNumbers, damaged_ed25519, damaged_rsa},
};

/// The exchange wants a salt as long as the digest.
const SALT_LENGTH: usize = 32;

pub(crate) enum PrivateKey {
    Rsa(Box<BlindedSigningKey<Sha256>>),
    Ed25519(Box<SigningKey>),
}

impl PrivateKey {
    pub(crate) fn new(key: &ParsedKey) -> Result<Self, AuthError> {
        match key {
            ParsedKey::Rsa(der) => {
                let key = rsa_key(der).ok_or_else(damaged_rsa)?;
                let key = BlindedSigningKey::new_with_salt_len(key, SALT_LENGTH);
                Ok(Self::Rsa(Box::new(key)))
            }
            ParsedKey::Ed25519 { seed, public_key } => {
                let key = Box::new(SigningKey::from_bytes(seed));
                let is_of_key = |public: &[u8; 32]| key.verifying_key().as_bytes() == public;
                if !public_key.as_ref().is_none_or(is_of_key) {
                    return Err(damaged_ed25519());
                }
                Ok(Self::Ed25519(key))
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

/// Returns the key if its numbers belong together, those included that only speed the computation up
/// and that this library computes anew: AWS-LC takes them as they are, and so checks them.
fn rsa_key(der: &[u8]) -> Option<RsaPrivateKey> {
    let numbers = RsaNumbers::read(der)?;
    let secret = |number| Zeroizing::new(BigUint::from_bytes_be(number));
    let one = BigUint::from(1_u8);
    let d = secret(numbers.private_exponent);
    let (p, q) = (secret(numbers.prime_1), secret(numbers.prime_2));
    let coefficient = secret(numbers.coefficient);

    // It checks the primes, too, by which numbers are divided below.
    let key = RsaPrivateKey::from_components(
        BigUint::from_bytes_be(numbers.modulus),
        BigUint::from_bytes_be(numbers.public_exponent),
        (*d).clone(),
        vec![(*p).clone(), (*q).clone()],
    )
    .ok()?;
    let is_exponent = |exponent, prime: &BigUint| {
        let expected = Zeroizing::new(&*d % &*Zeroizing::new(prime - &one));
        *secret(exponent) == *expected
    };
    let product = Zeroizing::new(&*Zeroizing::new(&*coefficient * &*q) % &*p);
    let belong_together = is_exponent(numbers.exponent_1, &p)
        && is_exponent(numbers.exponent_2, &q)
        && *coefficient < *p
        && *product == one;
    belong_together.then_some(key)
}
