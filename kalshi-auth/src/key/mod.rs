//! Turns text into a checked key, or into an error that says what to do.
//!
//! The same for every library that signs, down to the parts of a key. No error holds the text that was read: a file that was taken for a
//! key by mistake, or a key that was damaged, is as secret as a good one.

mod der;
mod pem;
#[cfg(feature = "server")]
mod public;

use std::fmt;

use zeroize::Zeroizing;

#[cfg(feature = "pure-rust")]
pub(crate) use self::der::RsaNumbers;
#[cfg(all(feature = "server", feature = "aws-lc-rs"))]
pub(crate) use self::der::pkcs8_private_key;
pub(crate) use self::pem::{looks_like_key, may_hold_key, shown_path};
#[cfg(feature = "server")]
pub(crate) use self::public::ParsedPublicKey;
#[cfg(all(feature = "server", feature = "pure-rust"))]
pub(crate) use self::public::rsa_public_numbers;
use crate::error::{AuthError, AuthErrorKind};

/// The smallest RSA key that the exchange takes.
pub(crate) const MIN_RSA_BITS: usize = 2048;
/// The largest RSA key that the libraries agree on. It signs for a tenth of a second.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// The kind of a key, and with it of its signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// RSA-PSS with SHA-256, MGF1 with SHA-256, and a salt of 32 bytes.
    Rsa,
    /// Ed25519 over the text itself.
    Ed25519,
}

/// A private key that passed every check but those of the library that computes with it.
pub(crate) enum ParsedKey {
    /// PKCS#1, of a size that the exchange takes.
    Rsa(Zeroizing<Vec<u8>>),
    /// The seed, and the public key if the file has it.
    Ed25519 { seed: Zeroizing<[u8; 32]>, public_key: Option<[u8; 32]> },
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        })
    }
}

impl ParsedKey {
    /// Reads a private key from the text of a PEM file.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, AuthError> {
        let block = pem::single_block(text)?;
        match block.label() {
            "PRIVATE KEY" => der::pkcs8_private_key(block.decode()?.as_slice()),
            "RSA PRIVATE KEY" => der::pkcs1_private_key(block.decode()?.as_slice()),
            "ENCRYPTED PRIVATE KEY" => Err(encrypted()),
            "OPENSSH PRIVATE KEY" => Err(unsupported(
                "found an OpenSSH key; an RSA key becomes PEM, in place, with \
                 `ssh-keygen -p -m PEM -N '' -f COPY_OF_KEY`, an Ed25519 key has to be made anew with \
                 `openssl genpkey -algorithm ed25519 -out key.pem`",
            )),
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "SSH2 PUBLIC KEY" => Err(public_key_found()),
            "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => Err(unsupported(
                "found a certificate, which holds a public key only; give the private key that \
                 belongs to the API key",
            )),
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Err(unsupported(
                "found a certificate request, which holds a public key only; give the private key \
                 that belongs to the API key",
            )),
            "EC PRIVATE KEY" => Err(other_algorithm("an EC key")),
            "EC PARAMETERS" => Err(other_algorithm("the parameters of an EC key")),
            "DSA PRIVATE KEY" => Err(other_algorithm("a DSA key")),
            _ => Err(unsupported(
                "found PEM with a label other than `PRIVATE KEY` and `RSA PRIVATE KEY`; give the \
                 private key that belongs to the API key",
            )),
        }
    }
}

pub(crate) fn malformed(message: &'static str) -> AuthError {
    AuthError::new(AuthErrorKind::MalformedKey, message)
}

/// Returns the error for an RSA key whose numbers are not ones of a key.
pub(crate) fn damaged_rsa() -> AuthError {
    malformed("found an RSA key whose content is damaged; copy the whole file again")
}

/// Returns the error for an Ed25519 key that has another size, or a public key of another key.
pub(crate) fn damaged_ed25519() -> AuthError {
    malformed("found an Ed25519 key whose content is damaged; copy the whole file again")
}

fn unsupported(message: impl Into<std::borrow::Cow<'static, str>>) -> AuthError {
    AuthError::new(AuthErrorKind::UnsupportedKey, message)
}

fn encrypted() -> AuthError {
    unsupported(
        "found a key that is encrypted with a passphrase; decrypt it with \
         `openssl pkey -in KEY -out key.pem`",
    )
}

fn public_key_found() -> AuthError {
    unsupported("found a public key; give the private key that belongs to it")
}

fn other_algorithm(found: &str) -> AuthError {
    unsupported(format!(
        "found {found}; the exchange takes RSA and Ed25519 keys: create an API key there, or make a \
         key with `openssl genpkey -algorithm ed25519 -out key.pem`"
    ))
}

fn check_rsa_size(bits: usize) -> Result<(), AuthError> {
    let problem = if bits < MIN_RSA_BITS {
        "at least 2048"
    } else if bits > MAX_RSA_BITS {
        "at most 8192"
    } else {
        return Ok(());
    };
    Err(unsupported(format!(
        "found an RSA key of {bits} bits, it must have {problem}; make one with \
         `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem`"
    )))
}
