use std::{collections::BTreeMap, fmt, net::SocketAddr};

use chrono::{DateTime, Utc};
use kalshi_auth::{AuthError, Service};
use kalshi_sdk::klear::Klear;
use kalshi_types::Dollars;

use crate::{
    auth,
    control::ControlError,
    engine::{
        ids::{AccountId, ClearingId},
        types::{Refusal, Time},
    },
    exchange::Exchange,
    perps::{
        engine::Perps,
        klear::house::{ClearingHouse, Firms, WithdrawalStatus},
    },
    role::Role,
    state::State,
};

/// The bearer token of an administrator, who may ask the clearing house for a member. Another one is
/// made at each start; none is saved with the state.
#[derive(Clone, PartialEq, Eq)]
pub struct KlearToken {
    admin_user_id: String,
    access_token: String,
}

impl KlearToken {
    /// Returns the id of the administrator.
    pub fn admin_user_id(&self) -> &str {
        &self.admin_user_id
    }

    /// Returns the secret half.
    pub fn access_token(&self) -> &str {
        &self.access_token
    }
}

impl fmt::Debug for KlearToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlearToken")
            .field("admin_user_id", &self.admin_user_id)
            .field("access_token", &"** redacted **")
            .finish()
    }
}

/// Lets an administrator of each role ask the clearing house, and sets where its links lead.
pub(super) fn open(
    state: &mut State,
    address: SocketAddr,
) -> Result<BTreeMap<Role, KlearToken>, AuthError> {
    let (first, second) = (state.first_account, state.second_account);
    let access = &mut state.perps.access;
    access.set_links(format!("http://{address}"), &auth::made_up_secret()?);
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        let account: AccountId = if role == Role::Maker { second } else { first };
        let token = KlearToken {
            admin_user_id: format!("admin-{}", format!("{role:?}").to_lowercase()),
            access_token: auth::made_up_secret()?,
        };
        access.add(role, account, token.admin_user_id.clone(), &token.access_token);
        tokens.insert(role, token);
    }
    Ok(tokens)
}

/// The clearing house of an exchange: see [`Exchange::klear`].
///
/// It settles at midnight in New York, by the settlement marks of that moment: each day makes one
/// obligation for each member and asset class. What it reports follows from the ledger of perpetual
/// futures; how it computes it is a model, because the exchange publishes no formulas. A balance is
/// the cash that was paid into perpetual futures and what settlements have brought, less the
/// maintenance margin; an obligation that it does not cover stays active until cash comes in. Files
/// of reports are CSV with columns of the simulator's own.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kalshi_sdk::klear::types::WithdrawSettlementBalanceRequest;
/// use kalshi_sim::{Exchange, Role};
///
/// let exchange = Exchange::start().await?;
/// let klear = exchange.klear().client(Role::Trader)?;
/// let request = WithdrawSettlementBalanceRequest::builder().amount("250.00");
/// klear.withdraw_settlement_balance().body(request).send().await?;
/// let balance = klear.get_settlement_balance().send().await?;
/// // Of 10,000 dollars, in hundredths of a cent.
/// assert_eq!(balance.balance_available_centicents.as_units(), 97_500_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct KlearControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl<'a> KlearControl<'a> {
    /// Returns a client of the clearing house in a role. [`Role::Reader`] may only read;
    /// [`Role::FcmMember`] has the operations of futures commission merchants.
    ///
    /// # Errors
    ///
    /// As [`kalshi_sdk::klear::KlearBuilder::build`].
    pub fn client(&self, role: Role) -> Result<Klear, kalshi_sdk::Error> {
        let mut builder = Klear::builder().with_environment(self.exchange.environment());
        if let Some(token) = self.token(role) {
            builder = builder.with_token(token.admin_user_id(), token.access_token());
        }
        builder.build()
    }

    /// Returns the bearer token of a role, for clients of other programs.
    pub fn token(&self, role: Role) -> Option<&'a KlearToken> {
        self.exchange.klear_tokens.get(&role)
    }

    /// Returns the base URL for clients: `http://127.0.0.1:PORT/klear-api/v1`.
    pub fn base_url(&self) -> String {
        self.exchange.environment().url(Service::Klear).into_owned()
    }

    /// Returns the time of the next settlement; the end of time if there is none.
    pub fn next_settlement(&self) -> DateTime<Utc> {
        let state = self.exchange.shared.state();
        let next = state.perps.house.next_settlement().and_then(Time::to_datetime);
        next.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Fails a withdrawal that is not paid out yet: its cash is available again.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such withdrawal, or it is at an end.
    pub fn fail_withdrawal(&self, id: &str) -> Result<(), ControlError> {
        self.return_withdrawal(id, WithdrawalStatus::Failed)
    }

    /// Cancels a withdrawal that is not paid out yet: its cash is available again.
    ///
    /// # Errors
    ///
    /// As [`fail_withdrawal`](Self::fail_withdrawal).
    pub fn cancel_withdrawal(&self, id: &str) -> Result<(), ControlError> {
        self.return_withdrawal(id, WithdrawalStatus::Cancelled)
    }

    fn return_withdrawal(self, id: &str, status: WithdrawalStatus) -> Result<(), ControlError> {
        self.command(|house, ledger, now| {
            let id =
                ClearingId::parse(id).ok_or_else(|| Refusal::not_found("no such withdrawal"))?;
            house.return_withdrawal(ledger, id, status, now)
        })
    }

    /// Moves cash of a role's member from its settlement balance into the guaranty fund, where nothing
    /// is at first.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role, or the balance is too low.
    pub fn contribute(&self, role: Role, amount: Dollars) -> Result<(), ControlError> {
        let account = self.exchange.account(role)?;
        self.command(|house, ledger, now| house.contribute(ledger, account, amount, now))
    }

    fn command<T>(
        self,
        command: impl FnOnce(&mut ClearingHouse, (&mut Perps, &Firms), Time) -> Result<T, Refusal>,
    ) -> Result<T, ControlError> {
        self.exchange.shared.command(|state, now| {
            let perps = &mut state.perps;
            command(&mut perps.house, (&mut perps.engine, &perps.firms), now)
        })
    }
}
