//! Key files, and checks of signatures that share no code with the crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use kalshi_auth::{Backend, Credentials};
use rsa::{
    RsaPublicKey,
    pkcs8::DecodePublicKey as _,
    pss::{Signature as PssSignature, VerifyingKey as PssVerifyingKey},
    signature::Verifier as _,
};
use sha2::Sha256;

pub(crate) const KEY_ID: &str = "a952bcbe-ec3b-4b5b-b8f9-11dae589608c";

pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(relative)
}

pub(crate) fn text(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

pub(crate) fn bytes(relative: &str) -> Vec<u8> {
    fs::read(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// Returns the names in a folder, sorted.
pub(crate) fn names(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn rsa_credentials() -> Credentials {
    Credentials::from_pem(KEY_ID, text("keys/accepted/rsa-2048-pkcs1.pem")).unwrap()
}

pub(crate) fn ed25519_credentials() -> Credentials {
    Credentials::from_pem(KEY_ID, text("keys/accepted/ed25519-pkcs8.pem")).unwrap()
}

/// Returns the libraries that this build has.
pub(crate) fn backends() -> Vec<Backend> {
    vec![
        #[cfg(feature = "pure-rust")]
        Backend::PureRust,
        #[cfg(feature = "aws-lc-rs")]
        Backend::AwsLc,
    ]
}

/// Verifies with the libraries themselves, whatever the crate was built with.
pub(crate) fn verifies(public_pem: &str, text: &[u8], signature: &[u8]) -> bool {
    if let Ok(key) = VerifyingKey::from_public_key_pem(public_pem) {
        let signature = Signature::from_slice(signature);
        return signature.is_ok_and(|signature| key.verify_strict(text, &signature).is_ok());
    }
    let key = RsaPublicKey::from_public_key_pem(public_pem).expect("a public key");
    // Without a length of its own the salt has to be as long as the digest, 32 bytes.
    let key = PssVerifyingKey::<Sha256>::new(key);
    PssSignature::try_from(signature).is_ok_and(|signature| key.verify(text, &signature).is_ok())
}

pub(crate) fn base64(text: impl AsRef<[u8]>) -> Vec<u8> {
    STANDARD.decode(text).expect("Base64 with padding")
}
