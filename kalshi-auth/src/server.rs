//! The exchange's side: key pairs, and checks of signatures.
//!
//! For simulators of the exchange and for tests. A client needs none of it.
//!
//! ```
//! use kalshi_auth::{Credentials, KeyType, UnixMillis, server::KeyPair, sign};
//!
//! let pair = KeyPair::generate(KeyType::Ed25519)?;
//! let credentials = Credentials::from_pem("key-1", pair.private_key_pem())?;
//! let now = UnixMillis::from_millis(1_703_123_456_789);
//! let signed = sign(&credentials, "GET", "/trade-api/v2/portfolio/balance", now)?;
//!
//! let signature = signed.signature().as_bytes();
//! pair.public_key().verify_request("GET", "/trade-api/v2/portfolio/balance", now, signature)?;
//! # Ok::<(), kalshi_auth::AuthError>(())
//! ```

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kalshi_types::UnixMillis;
use zeroize::Zeroizing;

use crate::{
    backend::{self, Backend},
    error::{AuthError, AuthErrorKind},
    key::{KeyType, ParsedPublicKey},
    signing::signing_text,
};

/// A key that checks signatures.
///
/// # Examples
///
/// ```
/// use kalshi_auth::{
///     Credentials, KeyType, UnixMillis,
///     server::{KeyPair, PublicKey},
///     sign,
/// };
///
/// let pair = KeyPair::generate(KeyType::Ed25519)?;
/// let credentials = Credentials::from_pem("an-id", pair.private_key_pem())?;
/// let now = UnixMillis::from_millis(1_795_000_000_000);
/// let signed = sign(&credentials, "GET", "/trade-api/v2/portfolio/balance", now)?;
///
/// let key = PublicKey::from_pem(pair.public_key().to_pem())?;
/// let signature = signed.signature();
/// key.verify_request("GET", "/trade-api/v2/portfolio/balance", now, signature)?;
/// assert!(key.verify_request("GET", "/trade-api/v2/markets", now, signature).is_err());
/// # Ok::<(), kalshi_auth::AuthError>(())
/// ```
#[derive(Clone)]
pub struct PublicKey {
    /// Kept so that the key can be printed and shown to another library.
    parsed: ParsedPublicKey,
    key: backend::PublicKey,
}

/// A private key and its public key, newly made.
///
/// The private key is in the form in which the exchange hands it out: PKCS#1 for RSA, PKCS#8 for
/// Ed25519. `Debug` does not show it, and it is zeroized on drop.
///
/// # Examples
///
/// ```
/// use kalshi_auth::{KeyType, server::KeyPair};
///
/// let pair = KeyPair::generate(KeyType::Ed25519)?;
/// assert!(pair.private_key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
/// assert!(pair.public_key().to_pem().starts_with("-----BEGIN PUBLIC KEY-----"));
/// # Ok::<(), kalshi_auth::AuthError>(())
/// ```
pub struct KeyPair {
    private_key_pem: Zeroizing<String>,
    public_key: PublicKey,
}

impl PublicKey {
    /// Reads the text of a PEM file with the label `PUBLIC KEY`, RSA or Ed25519.
    ///
    /// # Errors
    /// [`AuthErrorKind::MalformedKey`] if the text does not hold exactly one intact key,
    /// [`AuthErrorKind::UnsupportedKey`] if it is a key of another kind or size.
    /// AWS-LC reads an Ed25519 key when it verifies: 32 bytes that are no key are taken, and verify
    /// no signature.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, AuthError> {
        Self::from_pem_using(Backend::default(), pem)
    }

    /// Does the same as [`from_pem`](Self::from_pem), with the library to verify with.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_pem_using(backend: Backend, pem: impl AsRef<[u8]>) -> Result<Self, AuthError> {
        Self::new(backend, ParsedPublicKey::from_pem(pem.as_ref())?)
    }

    pub(crate) fn new(backend: Backend, parsed: ParsedPublicKey) -> Result<Self, AuthError> {
        Ok(Self { key: backend::PublicKey::new(backend, &parsed)?, parsed })
    }

    /// Returns the kind of the key.
    pub const fn key_type(&self) -> KeyType {
        self.parsed.key_type()
    }

    /// Returns the text of a PEM file with the label `PUBLIC KEY`.
    pub fn to_pem(&self) -> String {
        self.parsed.to_pem()
    }

    /// Checks the signature of a text.
    ///
    /// # Errors
    /// [`AuthErrorKind::BadSignature`] if it is not one by this key.
    pub fn verify(
        &self,
        text: impl AsRef<[u8]>,
        signature: impl AsRef<[u8]>,
    ) -> Result<(), AuthError> {
        if self.key.verify(text.as_ref(), signature.as_ref()) {
            return Ok(());
        }
        Err(AuthError::new(
            AuthErrorKind::BadSignature,
            "the signature is not one of this text by this key",
        ))
    }

    /// Checks the signature of a request, as it is in the header: in Base64.
    ///
    /// Whether the timestamp is near enough to now is for the caller to check.
    ///
    /// # Errors
    /// [`AuthErrorKind::BadSignature`] if it is not Base64, or not one by this key.
    pub fn verify_request(
        &self,
        method: &str,
        path: &str,
        timestamp: UnixMillis,
        signature: impl AsRef<[u8]>,
    ) -> Result<(), AuthError> {
        let signature = STANDARD.decode(signature).map_err(|_| {
            AuthError::new(AuthErrorKind::BadSignature, "the signature is not Base64")
        })?;
        self.verify(signing_text(method, path, timestamp), signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("key_type", &self.key_type()).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// Makes a key pair: RSA of 2048 bits, or Ed25519.
    ///
    /// RSA takes a fraction of a second, and in pure Rust without optimization many seconds.
    ///
    /// # Errors
    /// [`AuthErrorKind::Signing`] if the system has no random numbers to give.
    pub fn generate(key_type: KeyType) -> Result<Self, AuthError> {
        Self::generate_using(Backend::default(), key_type)
    }

    /// Does the same as [`generate`](Self::generate), with the library to make it with.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_using(backend: Backend, key_type: KeyType) -> Result<Self, AuthError> {
        let key = backend::generate(backend, key_type)?;
        let public_key = PublicKey::new(backend, backend::public_key(backend, &key)?)?;
        Ok(Self { private_key_pem: key.to_pem(), public_key })
    }

    /// Returns the kind of the keys.
    pub const fn key_type(&self) -> KeyType {
        self.public_key.key_type()
    }

    /// Returns the text of the private key's PEM file.
    pub fn private_key_pem(&self) -> &str {
        &self.private_key_pem
    }

    /// Returns the public key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("key_type", &self.key_type())
            .field("private_key", &"** redacted **")
            .finish()
    }
}
