//! Authentication and permission: headers, signature, clock, scopes.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use kalshi_auth::{ACCESS_KEY, ACCESS_SIGNATURE, ACCESS_TIMESTAMP, server::PublicKey};
#[cfg(any(feature = "perps", feature = "ui"))]
use kalshi_auth::{AuthError, KeyType, server::KeyPair};
use kalshi_sdk::{
    Operation,
    operation::{Access, Lane},
};
use kalshi_types::UnixMillis;
use rsa::{
    RsaPublicKey,
    pkcs8::DecodePublicKey as _,
    pss::{Signature, VerifyingKey},
    signature::Verifier as _,
    traits::PublicKeyParts as _,
};
use sha2::{Digest as _, Sha256};

use crate::{http::response::Response, rules::Rules, state::keys::Key};

/// The greatest error of a timestamp that is accepted. The exchange's own tolerance is not
/// documented; third parties have seen 10 s pass and 60 s fail.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(30);

/// The operations that a key for one subtrader may use. The documents contradict each other: one
/// text denies it every operation, those of these say that they take it. The rules decide.
const TAKES_SUBTRADER: [&str; 3] =
    ["get_fcm_orders", "get_fcm_positions", "get_fcm_event_contract_daily_cap"];

/// The three headers of a signed request.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) key_id: String,
    timestamp: UnixMillis,
    signature: String,
}

impl Signed {
    /// Reads the headers; `None` for a request without any.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Self>, Response> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match (text(ACCESS_KEY), text(ACCESS_TIMESTAMP), text(ACCESS_SIGNATURE)) {
            (None, None, None) => Ok(None),
            (Some(key_id), Some(timestamp), Some(signature)) => {
                let Ok(timestamp) = timestamp.parse() else {
                    return Err(Response::timestamp_expired());
                };
                Ok(Some(Self {
                    key_id: key_id.to_owned(),
                    timestamp,
                    signature: signature.to_owned(),
                }))
            }
            _ => Err(Response::signature_missing()),
        }
    }

    /// Checks clock and signature. Takes processor time, so no lock should be held.
    pub(crate) fn verify(
        &self,
        public_key: &Arc<PublicKey>,
        method: &str,
        path: &str,
        now: UnixMillis,
        rules: Rules,
    ) -> Result<(), Response> {
        if self.timestamp.abs_diff(now) > MAX_SKEW {
            return Err(Response::timestamp_expired());
        }
        let verified = public_key.verify_request(method, path, self.timestamp, &self.signature);
        if verified.is_ok()
            || (rules.longest_salt && self.has_longest_salt(public_key, method, path))
        {
            return Ok(());
        }
        Err(Response::unauthorized("INCORRECT_API_KEY_SIGNATURE"))
    }

    /// Reports whether the signature is a good one of RSA but for its salt, which is as long as it
    /// can be.
    fn has_longest_salt(&self, public_key: &PublicKey, method: &str, path: &str) -> bool {
        let text = kalshi_auth::signing_text(method, path, self.timestamp);
        let read = || {
            let pem = public_key.to_pem();
            let key = RsaPublicKey::from_public_key_pem(&pem).ok()?;
            let signature = STANDARD.decode(&self.signature).ok()?;
            // The encoded message has one bit less than the key, the digest and two bytes.
            let length = key.size().checked_sub(Sha256::output_size() + 2)?;
            let signature = Signature::try_from(signature.as_slice()).ok()?;
            let key = VerifyingKey::<Sha256>::new_with_salt_len(key, length);
            key.verify(text.as_bytes(), &signature).ok()
        };
        read().is_some()
    }
}

/// Makes a secret up, from the random numbers that keys are made of.
#[cfg(any(feature = "perps", feature = "ui"))]
pub(crate) fn made_up_secret() -> Result<String, AuthError> {
    let pair = KeyPair::generate(KeyType::Ed25519)?;
    let digest = Sha256::digest(pair.private_key_pem());
    let half = digest.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    Ok(format!("{half:032x}"))
}

/// Checks that a key's scopes and binding allow an operation.
pub(crate) fn permit(key: &Key, operation: &Operation, rules: Rules) -> Result<(), Response> {
    if operation.access != Access::Signed {
        return Ok(());
    }
    let read = operation.method == http::Method::GET;
    let parent = if read { "read" } else { "write" };
    let child = child_scope(operation);
    if !key.scopes.iter().any(|scope| scope == parent || Some(scope.as_str()) == child) {
        let message = format!("the API key lacks the scope {}", child.unwrap_or(parent));
        return Err(Response::forbidden(&message));
    }
    let takes_subtrader = (rules.subtrader_keys_read && TAKES_SUBTRADER.contains(&operation.id))
        || (key.is_of_perps_subtrader()
            && operation.cost.lane == Lane::Perpetuals
            && operation.tag != "fcm");
    if key.subtrader.is_some() && !takes_subtrader {
        return Err(Response::forbidden(
            "the API key is restricted to one subtrader and cannot use this endpoint",
        ));
    }
    if key.subaccount.is_some() && matches!(operation.tag, "account" | "api-keys" | "fcm") {
        return Err(Response::forbidden(
            "the API key is restricted to one subaccount and cannot use this endpoint",
        ));
    }
    Ok(())
}

/// Returns the narrow scope that allows an operation by itself.
fn child_scope(operation: &Operation) -> Option<&'static str> {
    let read = operation.method == http::Method::GET;
    match (operation.id, operation.tag) {
        ("get_balance", _) => Some("read::portfolio_balance"),
        ("get_block_trade_proposals", _) => Some("read::block_trade_accept"),
        ("accept_block_trade_proposal", _) => Some("write::block_trade_accept"),
        (
            "apply_subaccount_transfer"
            | "apply_margin_subaccount_transfer"
            | "intra_exchange_instance_transfer",
            _,
        ) => Some("write::transfer"),
        (_, "orders" | "order-groups" | "communications" | "multivariate" | "exit-triggers")
            if !read =>
        {
            Some("write::trade")
        }
        (_, "fcm") if !read => Some("write::fcm_risk"),
        _ => None,
    }
}
