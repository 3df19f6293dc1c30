//! The checks that ask the exchange: in public, and with the key.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use kalshi_sdk::{
    Client, Credentials, Effect, Environment, Error, SPEC_VERSION, UnixMillis,
    auth::{Clock as _, SystemClock},
    types::{ApiKeyScope, GetAccountApiLimitsResponse},
};
use kalshi_trade::pause::next_maintenance;

use super::report::{self, Check, Level};
use crate::{context::Context, failure::Outcome};

/// Differences that are listed one by one.
const MAX_DRIFT: usize = 5;

/// Runs the checks that need no key. Nothing is signed.
pub(super) async fn public(context: &Context) -> Outcome<Vec<Check>> {
    let drift: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let observed = Arc::clone(&drift);
    let builder = context.client_builder().await?.on_drift(move |drift| {
        observed.lock().unwrap_or_else(PoisonError::into_inner).insert(drift.to_string());
    });
    let client = builder.build().map_err(|error| {
        crate::failure::Failure::usage(format!("the client cannot be built: {error}"))
    })?;
    let mut checks = Vec::new();
    let begun = Instant::now();
    let status = client.get_exchange_status().send().await;
    let took = begun.elapsed();
    let status = match status {
        Ok(status) => {
            checks.push(Check::ok("public call", "GET /exchange/status").took(took));
            status.into_inner()
        }
        Err(error) => {
            checks.push(public_failure(&error).took(took));
            for name in ["clock", "exchange", "version"] {
                checks.push(Check::skipped(name, "the public call failed"));
            }
            return Ok(checks);
        }
    };
    checks.push(match client.clock_offset() {
        Some(offset) => report::clock(offset.as_millis()),
        None => Check::skipped("clock", "the answer has no Date"),
    });
    let paused: Vec<String> = status
        .exchange_index_statuses
        .iter()
        .filter(|shard| !shard.exchange_active || !shard.trading_active)
        .map(|shard| shard.exchange_index.to_string())
        .collect();
    let schedule = client.get_exchange_schedule().send().await;
    let next = schedule.ok().and_then(|schedule| {
        next_maintenance(&schedule.schedule, SystemClock.now()).map(|window| next_text(&window))
    });
    let next = next.unwrap_or_else(|| "no maintenance is announced".to_owned());
    checks.push(if !status.exchange_active {
        Check::fail("exchange", "the exchange is paused", format!("wait; {next}"))
    } else if !status.trading_active {
        Check::warn("exchange", "trading is paused; cancels are taken", format!("wait; {next}"))
    } else if !paused.is_empty() {
        let text = format!("trading is paused on shard {}", paused.join(", "));
        Check::warn("exchange", text, format!("wait, or trade on other shards; {next}"))
    } else {
        Check::ok("exchange", format!("trading is on; {next}"))
    });
    // Whether it works is not what it is about: what is unknown in it is.
    let _ = client.get_markets().limit(20).send().await;
    let found = drift.lock().unwrap_or_else(PoisonError::into_inner).clone();
    checks.push(version(&found));
    Ok(checks)
}

fn next_text((start, end): &(UnixMillis, UnixMillis)) -> String {
    let text = |at: &UnixMillis| at.to_datetime().map(|at| at.to_rfc3339()).unwrap_or_default();
    format!("maintenance from {} to {}", text(start), text(end))
}

fn public_failure(error: &Error) -> Check {
    let remedy = match error.status() {
        Some(status) if status.is_server_error() => {
            "the exchange has a problem, or a proxy in between: try again, look at its status page"
        }
        Some(_) => "check that --env is the URL of the exchange's API, and that no proxy answers",
        None if error.effect() == Effect::NotSent => "see the checks of dns, tcp and tls above",
        None => "the connection was made and then cut: check proxies and firewalls",
    };
    Check::fail("public call", text_of(error), remedy)
}

/// Returns an error with its causes.
fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn version(drift: &BTreeSet<String>) -> Check {
    const NAME: &str = "version";
    let built = format!("kalshi {} for API {SPEC_VERSION}", env!("CARGO_PKG_VERSION"));
    if drift.is_empty() {
        return Check::ok(NAME, format!("{built}; its answers have nothing unknown"));
    }
    let shown: Vec<_> = drift.iter().take(MAX_DRIFT).cloned().collect();
    let more = drift.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Check::warn(
        NAME,
        format!("{built}; unknown in its answers: {}{more}", shown.join("; ")),
        "a newer version of this program may know it",
    )
}

/// Runs the checks of the key: whether it is accepted, what it may do, and how much of it.
pub(super) async fn signed(
    context: &Context,
    credentials: &Credentials,
    other: Option<&Environment>,
) -> Outcome<Vec<Check>> {
    let client = context.client_builder().await?.with_credentials(credentials.clone()).build();
    let client = client.map_err(|error| {
        crate::failure::Failure::usage(format!("the client cannot be built: {error}"))
    })?;
    let begun = Instant::now();
    let limits = client.get_account_api_limits().send().await;
    let took = begun.elapsed();
    let limits = match limits {
        Ok(limits) => limits.into_inner(),
        Err(error) => {
            let check = signed_failure(context, credentials, other, &error).await.took(took);
            let skipped =
                ["scopes", "limits"].map(|name| Check::skipped(name, "the signed call failed"));
            return Ok(std::iter::once(check).chain(skipped).collect());
        }
    };
    let mut checks = vec![Check::ok("signed call", "the exchange accepts the key").took(took)];
    checks.push(scopes(&client, credentials).await);
    checks.push(limit(&limits));
    Ok(checks)
}

fn limit(limits: &GetAccountApiLimitsResponse) -> Check {
    let bucket = |name: &str, rate: i64, capacity: i64| {
        format!("{name} {rate} tokens a second, {capacity} at once")
    };
    let tier = if limits.usage_tier.is_empty() { "unnamed" } else { &limits.usage_tier };
    Check::ok(
        "limits",
        format!(
            "tier {tier}: {}; {}",
            bucket("read", limits.read.refill_rate, limits.read.bucket_capacity),
            bucket("write", limits.write.refill_rate, limits.write.bucket_capacity)
        ),
    )
}

async fn scopes(client: &Client, credentials: &Credentials) -> Check {
    const NAME: &str = "scopes";
    let keys = match client.get_api_keys().send().await {
        Ok(keys) => keys.into_inner(),
        Err(error) => {
            return Check::skipped(NAME, format!("keys cannot be listed: {}", text_of(&error)));
        }
    };
    let id = credentials.key_id();
    let Some(key) = keys.api_keys.iter().find(|key| key.api_key_id == id) else {
        return Check::skipped(NAME, "the list of keys is without this one");
    };
    let names: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
    let bound = match key.subaccount {
        Some(number) => format!(", bound to subaccount {number}"),
        None => String::new(),
    };
    let text = format!("{}{bound}", names.join(", "));
    let trades = key
        .scopes
        .iter()
        .any(|scope| matches!(scope, ApiKeyScope::Write | ApiKeyScope::WriteTrade));
    let reads = key.scopes.contains(&ApiKeyScope::Read);
    let now = UnixMillis::from_millis(SystemClock.now().as_millis()).as_millis() / 1_000;
    let is_expired =
        keys.api_key_region_expiration_ts.is_some_and(|until| until.as_seconds() < now);
    if is_expired {
        return Check::warn(
            NAME,
            format!("{text}; the attestation of your location has expired"),
            "attest it anew on the exchange's website: some categories refuse orders till then",
        );
    }
    match (reads, trades) {
        (true, true) => Check::ok(NAME, text),
        (true, false) => Check::warn(
            NAME,
            format!("{text}: it may not place or cancel orders"),
            "make a key with the scope write::trade, if it should",
        ),
        (false, _) => Check::warn(
            NAME,
            format!("{text}: it may not read the account"),
            "make a key with the scope read, if it should",
        ),
    }
}

/// Tells the causes of a refused key apart.
async fn signed_failure(
    context: &Context,
    credentials: &Credentials,
    other: Option<&Environment>,
    error: &Error,
) -> Check {
    const NAME: &str = "signed call";
    let said = [error.code(), error.details(), error.message()];
    let says = |text: &str| said.iter().flatten().any(|said| said.contains(text));
    if error.is_forbidden() {
        return Check::fail(
            NAME,
            format!("the key is known and may not do this: {}", text_of(error)),
            "give the key the scope read, or use one that is not bound",
        );
    }
    if !error.is_unauthorized() {
        return Check::fail(
            NAME,
            text_of(error),
            "the public call says whether the exchange can be reached at all",
        );
    }
    if says("header_timestamp_expired") {
        return Check::fail(
            NAME,
            "the time of the signature is refused (header_timestamp_expired)",
            "set the clock of this machine: see the check of the clock",
        );
    }
    if says("signature_is_missing_from_headers") {
        return Check::fail(
            NAME,
            "the signature did not arrive (signature_is_missing_from_headers)",
            "a proxy in between takes headers out: go around it",
        );
    }
    let is_unknown = says("NOT_FOUND");
    if let Some(other) = other
        && is_accepted_by(context, credentials, other).await
    {
        let name = match other {
            Environment::Demo => "demo".to_owned(),
            Environment::Production => "production".to_owned(),
            other => other.to_string(),
        };
        return Check::fail(
            NAME,
            format!("this key is one of {name}, not of {}", context.target.in_words()),
            format!("--env {name}, or make a key in this environment: kalshi setup"),
        );
    }
    if is_unknown {
        return Check::fail(
            NAME,
            format!("the exchange has no key with the id {}", credentials.key_id()),
            "compare the id with the list on the exchange's website; a key that was deleted is gone",
        );
    }
    if says("INCORRECT_API_KEY_SIGNATURE") {
        return Check::fail(
            NAME,
            "the key id is known, and the private key is not that of it (INCORRECT_API_KEY_SIGNATURE)",
            "use the PEM file that was handed out with this key id, or make a new key: kalshi setup",
        );
    }
    Check::fail(NAME, text_of(error), "check key id and private key; kalshi setup makes new ones")
}

/// Reports whether another environment accepts the key. It is asked for limits, and changes nothing.
async fn is_accepted_by(context: &Context, credentials: &Credentials, other: &Environment) -> bool {
    let Ok(builder) = context.client_builder().await else { return false };
    let client =
        builder.with_environment(other.clone()).with_credentials(credentials.clone()).build();
    match client {
        Ok(client) => client.get_account_api_limits().send().await.is_ok(),
        Err(_) => false,
    }
}

/// Reports whether a check stands in the way of those after it.
pub(super) fn is_failed(checks: &[Check], name: &str) -> bool {
    checks.iter().any(|check| check.name == name && check.level == Level::Fail)
}
