//! What both benches need: keys, the bare library calls, and a client without a network.

use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair as AwsRsa,
    signature::{Ed25519KeyPair as AwsEd25519, RSA_PSS_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use http::Extensions;
use kalshi_auth::{Backend, Credentials, Origin, Signer, SigningMiddleware, SystemClock};
use reqwest::{Method, Request, Response, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use rsa::{
    RsaPrivateKey,
    pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _},
    pss::BlindedSigningKey,
    rand_core::OsRng,
    signature::{RandomizedSigner as _, SignatureEncoding as _},
};
use sha2::Sha256;

pub(crate) const PATH: &str = "/trade-api/v2/portfolio/balance";
/// The text to sign, made beforehand for the bare calls.
pub(crate) const TEXT: &[u8] = b"1703123456789GET/trade-api/v2/portfolio/balance";

const RSA_PEM: &str = include_str!("../../tests/keys/accepted/rsa-2048-pkcs1.pem");
const ED25519_PEM: &str = include_str!("../../tests/keys/accepted/ed25519-pkcs8.pem");

/// A key in a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    RsaAwsLc,
    RsaPureRust,
    Ed25519AwsLc,
    Ed25519PureRust,
}

pub(crate) const CASES: [Case; 4] =
    [Case::RsaAwsLc, Case::RsaPureRust, Case::Ed25519AwsLc, Case::Ed25519PureRust];

impl Case {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RsaAwsLc => "rsa-2048/aws-lc-rs",
            Self::RsaPureRust => "rsa-2048/rsa",
            Self::Ed25519AwsLc => "ed25519/aws-lc-rs",
            Self::Ed25519PureRust => "ed25519/dalek",
        }
    }

    pub(crate) const fn is_rsa(self) -> bool {
        matches!(self, Self::RsaAwsLc | Self::RsaPureRust)
    }

    pub(crate) fn signer(self) -> Signer {
        let backend = match self {
            Self::RsaAwsLc | Self::Ed25519AwsLc => Backend::AwsLc,
            Self::RsaPureRust | Self::Ed25519PureRust => Backend::PureRust,
        };
        let pem = if self.is_rsa() { RSA_PEM } else { ED25519_PEM };
        let key_id = "a952bcbe-ec3b-4b5b-b8f9-11dae589608c";
        let credentials = Credentials::from_pem_using(backend, key_id, pem).expect("a key");
        Signer::new(credentials, Arc::new(SystemClock))
    }

    /// Returns the call of the library and Base64, and nothing else.
    pub(crate) fn bare_call(self) -> Box<dyn Fn() -> String + Send + Sync> {
        match self {
            Self::RsaAwsLc => {
                let der = rsa_key().to_pkcs1_der().expect("DER");
                let key = AwsRsa::from_der(der.as_bytes()).expect("a key");
                Box::new(move || {
                    let mut signature = vec![0; key.public_modulus_len()];
                    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), TEXT, &mut signature)
                        .expect("a signature");
                    STANDARD.encode(signature)
                })
            }
            Self::RsaPureRust => {
                let key = BlindedSigningKey::<Sha256>::new(rsa_key());
                Box::new(move || STANDARD.encode(key.sign_with_rng(&mut OsRng, TEXT).to_bytes()))
            }
            Self::Ed25519AwsLc => {
                let key = AwsEd25519::from_seed_unchecked(ed25519_key().as_bytes());
                let key = key.expect("a key");
                Box::new(move || STANDARD.encode(key.sign(TEXT)))
            }
            Self::Ed25519PureRust => {
                let key = ed25519_key();
                Box::new(move || STANDARD.encode(key.sign(TEXT).to_bytes()))
            }
        }
    }
}

fn rsa_key() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs1_pem(RSA_PEM).expect("a key")
}

fn ed25519_key() -> SigningKey {
    SigningKey::from_pkcs8_pem(ED25519_PEM).expect("a key")
}

/// Answers without a network.
pub(crate) struct Answer;

#[async_trait::async_trait]
impl Middleware for Answer {
    async fn handle(&self, _: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        Ok(http::Response::new("").into())
    }
}

/// Returns a client that signs as the crate does, with no network below it.
pub(crate) fn client(signer: Option<Signer>) -> ClientWithMiddleware {
    let origin: Origin = "https://external-api.kalshi.com".parse().expect("an origin");
    let middleware = SigningMiddleware::new(signer, [origin]);
    ClientBuilder::new(reqwest::Client::new()).with(middleware).with(Answer).build()
}

pub(crate) fn request() -> Request {
    let mut url = Url::parse("https://external-api.kalshi.com").expect("a URL");
    url.set_path(PATH);
    Request::new(Method::GET, url)
}
