//! The libraries that compute. A key is taken apart in one place, [`crate::key`], and then handed to
//! one of them. Each checks that the numbers of a key belong together; all accept the same keys.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc;
#[cfg(feature = "pure-rust")]
mod pure_rust;
#[cfg(feature = "server")]
mod server;

use std::fmt;

#[cfg(feature = "server")]
pub(crate) use self::server::{PublicKey, generate, public_key};
use crate::{
    error::{AuthError, AuthErrorKind},
    key::{KeyType, MAX_RSA_BITS, ParsedKey},
};

/// The size of the longest signature in bytes: one of the largest RSA key.
pub(crate) const MAX_SIGNATURE: usize = MAX_RSA_BITS / 8;

/// A library that signs.
///
/// The default is the fastest of those compiled in: AWS-LC with the feature `aws-lc-rs`. The choice makes no difference to what is
/// signed or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// `rsa` and `ed25519-dalek`, in Rust throughout.
    ///
    /// RSA takes some 1.7 ms a signature. It is blinded against observers who measure times, but
    /// not constant in time (RUSTSEC-2023-0071).
    #[cfg(feature = "pure-rust")]
    PureRust,
    /// AWS-LC, constant in time and blinded.
    #[cfg(feature = "aws-lc-rs")]
    AwsLc,
}

/// A private key in the form of its backend. Each of them zeroizes it on drop.
pub(crate) enum PrivateKey {
    #[cfg(feature = "pure-rust")]
    PureRust(pure_rust::PrivateKey),
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(aws_lc::PrivateKey),
}

impl Default for Backend {
    fn default() -> Self {
        #[cfg(feature = "aws-lc-rs")]
        return Self::AwsLc;
        #[cfg(not(feature = "aws-lc-rs"))]
        return Self::PureRust;
    }
}

impl PrivateKey {
    pub(crate) fn new(backend: Backend, key: &ParsedKey) -> Result<Self, AuthError> {
        match backend {
            #[cfg(feature = "pure-rust")]
            Backend::PureRust => pure_rust::PrivateKey::new(key).map(Self::PureRust),
            #[cfg(feature = "aws-lc-rs")]
            Backend::AwsLc => aws_lc::PrivateKey::new(key).map(Self::AwsLc),
        }
    }

    pub(crate) const fn backend(&self) -> Backend {
        match self {
            #[cfg(feature = "pure-rust")]
            Self::PureRust(_) => Backend::PureRust,
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(_) => Backend::AwsLc,
        }
    }

    pub(crate) const fn key_type(&self) -> KeyType {
        match self {
            #[cfg(feature = "pure-rust")]
            Self::PureRust(key) => key.key_type(),
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(key) => key.key_type(),
        }
    }

    /// Signs into the buffer, and returns the part of it that is the signature.
    pub(crate) fn sign<'a>(
        &self,
        text: &[u8],
        signature: &'a mut [u8; MAX_SIGNATURE],
    ) -> Result<&'a [u8], AuthError> {
        let length = match self {
            #[cfg(feature = "pure-rust")]
            Self::PureRust(key) => key.sign(text, signature),
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(key) => key.sign(text, signature),
        };
        length.and_then(|length| signature.get(..length)).ok_or_else(|| {
            AuthError::new(AuthErrorKind::Signing, "the library could not make a signature")
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("** redacted **")
    }
}
