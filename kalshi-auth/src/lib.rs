//! Keys, request signing and the reqwest middleware for the Kalshi Trade API.
//!
//! Every private operation of the exchange, and every WebSocket handshake, carries three headers:
//! the id of an API key, the time in milliseconds, and a signature over `time + METHOD + path`.
//! This crate makes them.
//!
//! - [`Environment`] is where the exchange is: the table of its hosts.
//! - [`Credentials`] is a key id and its private key, from PEM text, a file or the environment.
//! - [`sign`] is the pure function from credentials, method, path and time to [`SignedHeaders`].
//! - [`Signer`] is credentials and a [`Clock`]: what a client holds on to.
#![cfg_attr(
    feature = "middleware",
    doc = "- [`SigningMiddleware`] signs each attempt of a request, for the hosts that it was given."
)]
//!
//! ```
//! use kalshi_auth::{Credentials, UnixMillis, sign};
//!
//! # let pem = "-----BEGIN PRIVATE KEY-----\n\
//! #     MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
//! #     -----END PRIVATE KEY-----\n";
//! let credentials = Credentials::from_pem("a952bcbe-ec3b-4b5b-b8f9-11dae589608c", pem)?;
//! let now = UnixMillis::from_millis(1_703_123_456_789);
//!
//! // The query is not part of the signed text, so it makes no difference here.
//! let signed = sign(&credentials, "GET", "/trade-api/v2/portfolio/orders?limit=5", now)?;
//!
//! let mut headers = http::HeaderMap::new();
//! signed.insert_into(&mut headers);
//! assert_eq!(headers["kalshi-access-timestamp"], "1703123456789");
//! # Ok::<(), kalshi_auth::AuthError>(())
//! ```
//!
//! A WebSocket handshake is signed by the same function, as `GET` of `/trade-api/ws/v2`.
//!
//! # What it refuses to do
//!
//! - It never prints a key: `Debug` is redacted by hand, no type implements `Serialize`, and no
//!   error holds text that could not be read, or a path that may be a part of a key.
//! - It never signs for a host that it was not given, and never over plain HTTP to another machine
//!   unless `Origin::insecure` allows it.
//! - It knows nothing of operations. The caller says whether a request is to be signed.
//! - It reads the clock in one place only, [`SystemClock`], and environment variables in
//!   [`Credentials::from_env`] and [`Environment::from_env`] only (and `HOME`, for a file under `~`).
//!
//! # Features
//!
//! - `middleware`, on by default: the middleware, and with it `reqwest`. Without the feature there
//!   is no HTTP client among the dependencies.
//! - `async`: [`Signer::sign_async`], which signs on threads of its own. Part of `middleware`.
//! - `pure-rust`, on by default: signs in pure Rust.
//! - `aws-lc-rs`: signs with AWS-LC. RSA is six times as fast, Ed25519 twice; the same keys load, and
//!   the others are refused in the same words. An application that speaks TLS with rustls often links
//!   the library already. Where both features are on, AWS-LC signs; without `pure-rust` its
//!   dependencies are gone. One of the two has to be on.
//! - `server`: the other side of the wire, for simulators and tests.

#[cfg(not(any(feature = "aws-lc-rs", feature = "pure-rust")))]
compile_error!(
    "kalshi-auth needs a library to sign with: turn on its feature `aws-lc-rs` or `pure-rust`"
);

mod backend;
mod clock;
mod credentials;
mod environment;
mod error;
mod key;
#[cfg(feature = "middleware")]
mod middleware;
#[cfg(feature = "async")]
mod offload;
#[cfg(feature = "middleware")]
mod origin;
#[cfg(feature = "server")]
pub mod server;
mod signing;
#[cfg(feature = "async")]
mod sync;

/// The time of signatures.
pub use kalshi_types::UnixMillis;

pub use crate::{
    backend::Backend,
    clock::{Clock, ClockOffset, ManualClock, OffsetClock, SystemClock},
    credentials::{Credentials, KEY_ID_VAR, PRIVATE_KEY_PATH_VAR, PRIVATE_KEY_VAR},
    environment::{ENVIRONMENT_VAR, Environment, Service, is_loopback},
    error::{AuthError, AuthErrorKind},
    key::KeyType,
    signing::{
        ACCESS_KEY, ACCESS_SIGNATURE, ACCESS_TIMESTAMP, SignedHeaders, Signer, sign, signing_text,
    },
};
#[cfg(feature = "middleware")]
pub use crate::{
    middleware::{SigningMiddleware, SigningPolicy},
    origin::Origin,
};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
