//! Your account, read by REST for the view that streams keep of it.
//!
//! What the two say about the same fill, order or position must be equal to the last digit: the view
//! tells by it whether something was missed. It also concludes from what is *not* there, so every
//! list is read with `all`: a row that does not decode fails the reading instead of looking closed.

use std::collections::BTreeMap;

use kalshi_types::{UnixMillis, UnixSeconds};
use kalshi_ws::{
    AccountSnapshot, AccountSource, Config, ConfigBuilder, FillRecord, OrderRecord, PositionRecord,
};

use crate::{
    client::Client,
    error::Error,
    types::{Fill, MarketPosition, Order},
};

/// Rows of a page: the most that each of these lists gives.
const LIMIT: u16 = 1_000;

impl Client {
    /// Returns a builder of settings for streams of the same environment, signed with the same key.
    ///
    /// The clock of [`ClientBuilder::with_clock`](crate::ClientBuilder::with_clock) is not handed
    /// on: set it again with [`ConfigBuilder::with_clock`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the client has no credentials: also public
    /// streams need them.
    ///
    /// ```
    /// # use kalshi_sdk::auth::{Credentials, KeyType, server::KeyPair};
    /// # let pair = KeyPair::generate(KeyType::Ed25519)?;
    /// # let credentials = Credentials::from_pem("key-id", pair.private_key_pem())?;
    /// let client = kalshi_sdk::Client::demo(credentials)?;
    /// let config = client.stream_config()?.build()?;
    /// assert!(format!("{config:?}").contains("Demo"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_config(&self) -> Result<ConfigBuilder, Error> {
        let credentials = self.credentials().ok_or_else(|| {
            Error::config("the client has no credentials, and a stream needs them")
        })?;
        Ok(Config::builder()
            .with_environment(self.environment().clone())
            .with_credentials(credentials.clone()))
    }
}

/// Reads the account over REST, for [`Portfolio::reconcile`](kalshi_ws::Portfolio::reconcile).
///
/// | | read | not read |
/// |---|---|---|
/// | fills | of all subaccounts and shards, from the second before `fills_since` on, the archived ones included; all that there ever were if there is no time | client order ids, which REST does not say |
/// | orders | those that rest, of all subaccounts and shards | |
/// | positions | those that are not zero, of each subaccount that [`get_subaccount_balances`](Client::get_subaccount_balances) lists, on all shards | those in settled markets, which have been paid out |
///
/// A fill may be there twice, if it moved to the archive meanwhile: the view counts it once.
///
/// A key that is bound to one subaccount reads that one. Whether the exchange lets it ask which
/// subaccounts there are is not documented; if not, the read fails with
/// [`is_forbidden`](Error::is_forbidden).
///
/// It costs 10 tokens for each page of up to 1,000 rows, and as much for each subaccount. Nothing is
/// repeated after a 429: add a layer with
/// [`ClientBuilder::with_middleware`](crate::ClientBuilder::with_middleware), or reconcile again.
///
/// # How new it is
///
/// The exchange's reads trail its matching engine by a moment, so what happened right before may be
/// missing from them. [`get_user_data_timestamp`](Client::get_user_data_timestamp) says how far they
/// are; it is asked before anything is read, and the view is current only if that is after the last
/// loss. Until then [`Reconciled::retry_after`](kalshi_ws::Reconciled::retry_after) says how long to
/// wait: the guide's page on [streams](crate::guide::streams) has the loop.
///
/// # A view that begins at a time of its own
///
/// A new view asks for all fills that there ever were. To leave the old ones out, give it a time:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// # let midnight = kalshi_sdk::UnixMillis::from(exchange.clock().now());
/// use kalshi_sdk::streams::{AccountSource, Portfolio};
///
/// let mut portfolio = Portfolio::new().with_fills_since(midnight);
/// let begun = portfolio.begin();
/// let snapshot = client.fetch_account(begun.fills_since()).await?;
/// let found = portfolio.finish(begun, snapshot);
/// assert!(found.missed.is_empty());
/// // Nothing was subscribed to, so what happens from now on would be missed.
/// assert!(!found.is_current());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Any error of a request, [`ErrorKind::CursorLoop`](crate::ErrorKind::CursorLoop) included;
/// [`ErrorKind::Decode`](crate::ErrorKind::Decode) where the answer cannot be true: no subaccount at
/// all, or one market on two shards.
///
/// # Cancellation
///
/// Only reads are sent. Dropping the future has no effect on the account.
impl AccountSource for Client {
    type Error = Error;

    async fn fetch_as_of(&self) -> Result<UnixMillis, Error> {
        // Cut to the millisecond, so never later than it is.
        Ok(self.get_user_data_timestamp().send().await?.as_of_time.into())
    }

    /// Reads the account. The time comes first: what is read after it is at least as new. Then
    /// results are read before their causes: orders, then positions, then fills. An order that is
    /// gone by the first read has its fills in the last, so what was closed is explained by what
    /// was missed. A fill in between shows twice, as an order that rests and as a position, rather
    /// than not at all; the stream's messages about it put that right.
    async fn fetch_account(
        &self,
        fills_since: Option<UnixMillis>,
    ) -> Result<AccountSnapshot, Error> {
        let mut snapshot = AccountSnapshot::new(self.fetch_as_of().await?);
        snapshot.orders = orders(self).await?;
        snapshot.positions = positions(self).await?;
        snapshot.fills = fills(self, fills_since).await?;
        Ok(snapshot)
    }
}

/// Agrees with what the stream says of the same fill, except for what REST does not say: the
/// client order id, and the position after it.
impl From<&Fill> for FillRecord {
    fn from(fill: &Fill) -> Self {
        // `ts` is the same time, cut to the second.
        let whole_second =
            |ts: UnixSeconds| ts.as_seconds().checked_mul(1_000).map(UnixMillis::from_millis);
        Self {
            trade_id: fill.trade_id.clone(),
            order_id: fill.order_id.clone(),
            client_order_id: None,
            market_ticker: fill.market_ticker.clone(),
            subaccount: numbered(fill.subaccount_number),
            outcome_side: fill.outcome_side.as_str().into(),
            book_side: fill.book_side.as_str().into(),
            yes_price: fill.yes_price_dollars,
            count: fill.count_fp,
            fee: fill.fee_cost,
            is_taker: fill.is_taker,
            ts_ms: fill
                .created_time
                .map(UnixMillis::from)
                .or_else(|| fill.ts.and_then(whole_second)),
            position_after: None,
        }
    }
}

/// Agrees with what the stream says of the same order.
impl From<&Order> for OrderRecord {
    fn from(order: &Order) -> Self {
        Self {
            order_id: order.order_id.clone(),
            client_order_id: order.client_order_id.clone(),
            market_ticker: order.ticker.clone(),
            subaccount: numbered(order.subaccount_number),
            status: order.status.as_str().into(),
            outcome_side: order.outcome_side.as_str().into(),
            book_side: order.book_side.as_str().into(),
            yes_price: order.yes_price_dollars,
            initial: order.initial_count_fp,
            remaining: order.remaining_count_fp,
            filled: order.fill_count_fp,
            updated: order.last_update_time.or(order.created_time).map(UnixMillis::from),
        }
    }
}

async fn orders(client: &Client) -> Result<Vec<OrderRecord>, Error> {
    // Without `subaccount` these are the orders of all of them.
    let orders = client.get_orders().status("resting").limit(LIMIT).all().await?;
    Ok(orders.iter().map(OrderRecord::from).collect())
}

async fn positions(client: &Client) -> Result<Vec<PositionRecord>, Error> {
    let mut positions = Vec::new();
    for subaccount in subaccounts(client).await? {
        // A list that moves while it is read may give a row twice: the later one is newer.
        let mut held: BTreeMap<String, MarketPosition> = BTreeMap::new();
        // Without `subaccount` these would be the positions of the main one only.
        let rows = client
            .get_positions()
            .subaccount(subaccount)
            .count_filter("position")
            .limit(LIMIT)
            .all()
            .await?;
        for position in rows {
            let before =
                held.get(&position.ticker).and_then(|before| before.exchange_index.as_ref());
            if let (Some(before), Some(shard)) = (before, &position.exchange_index)
                && before != shard
            {
                let text = format!("{} is on two shards, {before} and {shard}", position.ticker);
                return Err(Error::unusable("get_positions", text));
            }
            held.insert(position.ticker.clone(), position);
        }
        positions.extend(held.into_values().map(|position| record(position, subaccount)));
    }
    Ok(positions)
}

/// Returns the subaccounts, the main one among them: it is listed like the others.
async fn subaccounts(client: &Client) -> Result<Vec<i64>, Error> {
    let balances = client.get_subaccount_balances().send().await?.into_inner().subaccount_balances;
    let mut numbers: Vec<i64> = balances.iter().map(|row| row.subaccount_number).collect();
    // There is a row for each shard.
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        // To go on would be to say that there are no positions.
        return Err(Error::unusable("get_subaccount_balances", "not even the main one is listed"));
    }
    Ok(numbers)
}

async fn fills(client: &Client, since: Option<UnixMillis>) -> Result<Vec<FillRecord>, Error> {
    // The filter takes whole seconds, and whether it lets its own second through is not documented.
    let since = since.map(|since| since.as_millis().div_euclid(1_000).saturating_sub(1));
    let mut fills = Vec::new();

    // Without `subaccount` these are the fills of all of them.
    let mut live = client.get_fills().limit(LIMIT);
    if let Some(since) = since {
        live = live.min_ts(since);
    }
    fills.extend(live.all().await?.iter().map(FillRecord::from));

    // The archive comes second, and where it ends is asked in between: a fill that moves there
    // meanwhile is then read twice, not missed.
    let cutoff = client.get_historical_cutoff().send().await?.trades_created_ts;
    if since.is_some_and(|since| since > cutoff.timestamp()) {
        return Ok(fills);
    }
    let mut archive = client.get_fills_historical().limit(LIMIT);
    if let Some(since) = since {
        archive = archive.min_ts(since);
    }
    fills.extend(archive.all().await?.iter().map(FillRecord::from));
    Ok(fills)
}

/// Converts a position. Its row does not name the subaccount.
fn record(position: MarketPosition, subaccount: i64) -> PositionRecord {
    PositionRecord {
        market_ticker: position.ticker,
        subaccount: numbered(Some(subaccount)),
        count: position.position_fp,
        cost: Some(position.market_exposure_dollars),
        realized_pnl: Some(position.realized_pnl_dollars),
        fees: Some(position.fees_paid_dollars),
    }
}

/// Returns a subaccount's number in the view, where the main one, number 0, has none.
fn numbered(subaccount: Option<i64>) -> Option<i64> {
    subaccount.filter(|number| *number != 0)
}
