//! The whole state as one file: what the seed does not make again.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use kalshi_auth::server::PublicKey;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Engine, ids::AccountId, types::Subaccount},
    fixtures::{
        Kept,
        catalog::{Listing, Listings},
        traders::Traders,
    },
    random::Random,
    state::{
        Agenda, Start, State,
        keys::{Key, Keys},
        limits::Limits,
        transfers::Transfers,
    },
};

/// The first line of a file. The number grows when the content changes.
const HEAD: &[u8] = b"kalshi-sim state 5\n";

/// The reason for which a file is not the state of an exchange.
#[derive(Debug)]
pub(crate) enum LoadError {
    Read(io::Error),
    /// Not written by this version.
    Head,
    Content(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::Head => f.write_str("this version of kalshi-sim has not written it"),
            Self::Content(what) => write!(f, "it is damaged: {what}"),
        }
    }
}

impl std::error::Error for LoadError {}

#[derive(Serialize, Deserialize)]
struct Saved {
    start: Start,
    engine: Engine,
    transfers: Transfers,
    limits: Limits,
    traders: Traders,
    listings: Vec<Listing>,
    fixtures: Kept,
    #[serde(default)]
    agenda: Agenda,
    keys: Vec<SavedKey>,
    key_ids: Random,
    /// Absent in what an exchange without the feature has written.
    #[cfg(feature = "perps")]
    #[serde(default)]
    perps: Option<crate::perps::state::PerpsState>,
}

#[derive(Serialize, Deserialize)]
struct SavedKey {
    id: String,
    name: String,
    scopes: Vec<String>,
    account: AccountId,
    subaccount: Option<Subaccount>,
    fcm_member: bool,
    subtrader: Option<String>,
    /// Public halves only: the exchange has no others.
    pem: String,
}

/// Writes the state beside the file, and then replaces the file.
pub(crate) fn save(state: &State, path: &Path) -> io::Result<()> {
    let keys = state
        .keys
        .iter()
        .map(|(id, key)| SavedKey {
            id: id.clone(),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            account: key.account,
            subaccount: key.subaccount,
            fcm_member: key.fcm_member,
            subtrader: key.subtrader.clone(),
            pem: key.verifier.to_pem(),
        })
        .collect();
    let saved = Saved {
        start: state.start,
        engine: state.engine.clone(),
        transfers: state.transfers.clone(),
        limits: state.limits.clone(),
        traders: state.traders.clone(),
        listings: state.catalog.listings.iter().cloned().collect(),
        fixtures: state.fixtures.kept(),
        agenda: state.agenda().clone(),
        keys,
        key_ids: state.keys.random(),
        #[cfg(feature = "perps")]
        perps: Some(state.perps.clone()),
    };
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = io::BufWriter::new(fs::File::create(&beside)?);
        file.write_all(HEAD)?;
        ciborium::into_writer(&saved, &mut file).map_err(io::Error::other)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // The first failure counts, not that of the tidying.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Reads a state, and audits it before it is used.
pub(crate) fn load(path: &Path) -> Result<State, LoadError> {
    let bytes = fs::read(path).map_err(LoadError::Read)?;
    let content = bytes.strip_prefix(HEAD).ok_or(LoadError::Head)?;
    let damaged = |what: &dyn fmt::Display| LoadError::Content(what.to_string());
    let saved: Saved = ciborium::from_reader(content).map_err(|error| damaged(&error))?;
    saved.engine.audit().map_err(|wrong| damaged(&wrong))?;
    let mut state = State::new(saved.start);
    let mut keys = Keys::new(saved.key_ids);
    for key in saved.keys {
        let public_key = PublicKey::from_pem(&key.pem).map_err(|error| damaged(&error))?;
        keys.insert(
            key.id,
            Key {
                name: key.name,
                scopes: key.scopes,
                account: key.account,
                subaccount: key.subaccount,
                fcm_member: key.fcm_member,
                subtrader: key.subtrader,
                verifier: Arc::new(public_key),
            },
        );
    }
    state.catalog.listings = Listings::default();
    for listing in saved.listings {
        // The events of combos are kept with the combos.
        if listing.is_combo() {
            state.catalog.listings.add(listing);
        } else {
            state.catalog.list(listing);
        }
    }
    state.fixtures.restore(saved.fixtures);
    state.keys = keys;
    state.engine = saved.engine;
    state.transfers = saved.transfers;
    state.limits = saved.limits;
    state.traders = saved.traders;
    #[cfg(feature = "perps")]
    if let Some(perps) = saved.perps {
        perps.audit().map_err(|wrong| damaged(&wrong))?;
        state.perps = perps;
    }
    state.resume(saved.agenda);
    Ok(state)
}
