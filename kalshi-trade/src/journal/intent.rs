//! An order that is to be placed, and the id that it goes by.

use std::{borrow::Borrow, collections::HashSet, fmt, str::FromStr, sync::Arc};

use kalshi_types::{BookSide, Count, Dollars, UnixMillis, UnixSeconds};
use serde::{Deserialize, Serialize, Serializer};

use super::{JournalError, JournalErrorKind};

/// The longest client order id that every way into the exchange takes, in bytes.
const MAX_ID: usize = 64;

/// The longest name in front of generated ids, in bytes: with it, the longest id has 61.
const MAX_NAME: usize = 12;

/// The longest body, in bytes: a line of the journal, escaped, has room for it.
pub(super) const MAX_BODY: usize = 8 * 1024;

/// The product that an order is of.
#[cfg_attr(not(feature = "perps"), expect(unreachable_pub, reason = "there is no other product"))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Product {
    /// Event contracts.
    #[default]
    EventContracts,
    /// Perpetual futures.
    Perps,
}

impl Product {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    pub(super) fn is_event_contracts(&self) -> bool {
        *self == Self::EventContracts
    }

    /// Reports whether this build can place and settle orders of the product.
    pub(super) fn is_supported(self) -> bool {
        cfg!(feature = "perps") || self == Self::EventContracts
    }
}

/// The `client_order_id` of an order: 1 to 64 visible ASCII characters. Cheap to clone.
///
/// # Examples
///
/// ```
/// use kalshi_trade::journal::ClientOrderId;
///
/// let id: ClientOrderId = "maker-7".parse()?;
/// assert_eq!(id.as_str(), "maker-7");
/// assert!("two words".parse::<ClientOrderId>().is_err());
/// # Ok::<(), kalshi_trade::journal::JournalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ClientOrderId(Arc<str>);

impl ClientOrderId {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientOrderId {
    type Err = JournalError;

    fn from_str(text: &str) -> Result<Self, JournalError> {
        if (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        let text = "a client order id has 1 to 64 visible ASCII characters";
        Err(JournalError::new(JournalErrorKind::Invalid, text))
    }
}

impl TryFrom<String> for ClientOrderId {
    type Error = JournalError;

    fn try_from(text: String) -> Result<Self, JournalError> {
        text.parse()
    }
}

impl From<ClientOrderId> for String {
    fn from(id: ClientOrderId) -> Self {
        id.as_str().to_owned()
    }
}

impl Serialize for ClientOrderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Borrow<str> for ClientOrderId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes client order ids, `name-opening-session-counter`, none of them twice.
///
/// The session is the number of times that the journal was opened; the 64 random bits of the
/// opening keep ids apart that come from two journals, or from a journal and its copy.
#[derive(Debug)]
pub struct ClientOrderIds {
    prefix: String,
    next: u64,
}

impl ClientOrderIds {
    /// Returns the generator of a session. The name is up to 12 ASCII letters and digits.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Invalid`] for another name.
    pub fn new(name: &str, session: Session) -> Result<Self, JournalError> {
        let is_name = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_name {
            let text = "a name for client order ids has 1 to 12 ASCII letters and digits";
            return Err(JournalError::new(JournalErrorKind::Invalid, text));
        }
        let prefix = format!("{name}-{}", session.mark());
        Ok(Self { prefix, next: 1 })
    }

    /// Returns the next id.
    pub fn next_id(&mut self) -> ClientOrderId {
        let id = ClientOrderId(format!("{}-{}", self.prefix, self.next).into());
        // Not reached: at one per nanosecond it takes centuries.
        self.next = self.next.saturating_add(1);
        id
    }
}

/// The opening of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Counts the openings of the journal, from 1.
    pub number: u32,
    /// 64 random bits.
    pub nonce: u64,
    /// The time of the opening. Whatever an earlier session has sent, it had signed before.
    pub opened: UnixMillis,
}

impl Session {
    /// Returns the part that all client order ids of the session have, and no others.
    pub(super) fn mark(&self) -> String {
        format!("{:016x}-{}", self.nonce, self.number)
    }
}

/// The client order ids of the orders of a journal, those included that were compacted away: an id
/// names the session that made it.
///
/// # Examples
///
/// ```
/// use kalshi_trade::journal::{ClientOrderIds, Journal, MemoryJournal};
/// use kalshi_types::UnixMillis;
///
/// let journal = MemoryJournal::new(7, UnixMillis::EPOCH);
/// let id = ClientOrderIds::new("maker", journal.session())?.next_id();
/// let own = journal.history().own_ids();
/// assert!(own.contains(id.as_str()));
/// assert!(!own.contains("maker-7"));
/// # Ok::<(), kalshi_trade::journal::JournalError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnIds {
    /// Those of the sessions.
    marks: HashSet<String>,
    /// Those that do not have the form of generated ids.
    ids: HashSet<String>,
}

impl OwnIds {
    /// Reports whether an order with this client order id is one of the journal.
    pub fn contains(&self, client_order_id: &str) -> bool {
        mark_of(client_order_id).is_some_and(|mark| self.marks.contains(mark))
            || self.ids.contains(client_order_id)
    }

    /// Adds the ids of a session.
    pub(super) fn add_session(&mut self, session: &Session) {
        self.marks.insert(session.mark());
    }
}

impl Extend<String> for OwnIds {
    fn extend<T: IntoIterator<Item = String>>(&mut self, client_order_ids: T) {
        for id in client_order_ids {
            if !self.contains(&id) {
                self.ids.insert(id);
            }
        }
    }
}

impl FromIterator<String> for OwnIds {
    fn from_iter<T: IntoIterator<Item = String>>(client_order_ids: T) -> Self {
        let mut own = Self::default();
        own.extend(client_order_ids);
        own
    }
}

/// Returns the part of a generated id that is the mark of its session.
fn mark_of(client_order_id: &str) -> Option<&str> {
    let (name, rest) = client_order_id.split_once('-')?;
    let (mark, counter) = rest.rsplit_once('-')?;
    let is_generated = name.len() <= MAX_NAME && counter.bytes().all(|byte| byte.is_ascii_digit());
    is_generated.then_some(mark)
}

/// A change of an order that is about to be sent: what is wanted of the order, whatever became of it
/// meanwhile, so that it is the same however often it is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChangeIntent {
    /// Counts the changes of the journal that are open, without order.
    pub number: u64,
    /// The exchange's id of the order.
    pub order_id: String,
    /// Its market.
    pub ticker: String,
    /// Its subaccount; `None` for the primary one.
    pub subaccount: Option<i64>,
    /// Its shard, which the request names; `None` leaves it to the exchange to find it by the market.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_index: Option<i64>,
    /// The state of the order that was known before, if one was.
    pub known: Option<KnownOrder>,
    /// The change.
    pub change: OrderChange,
    #[serde(default, skip_serializing_if = "Product::is_event_contracts")]
    pub(crate) product: Product,
}

impl ChangeIntent {
    /// Returns the change of an order of event contracts, in the primary subaccount, of which no state
    /// is known.
    pub fn new(
        number: u64,
        order_id: impl Into<String>,
        ticker: impl Into<String>,
        change: OrderChange,
    ) -> Self {
        Self {
            number,
            order_id: order_id.into(),
            ticker: ticker.into(),
            subaccount: None,
            exchange_index: None,
            known: None,
            change,
            product: Product::EventContracts,
        }
    }

    /// Returns the same change of an order of perpetual futures.
    #[cfg(feature = "perps")]
    #[must_use]
    pub fn of_perps(self) -> Self {
        Self { product: Product::Perps, ..self }
    }

    /// Returns the product that the order is of.
    #[cfg(feature = "perps")]
    pub fn product(&self) -> Product {
        self.product
    }
}

/// The state of an order before a change, by which it is told from the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownOrder {
    /// The time of its last change.
    pub updated: UnixMillis,
    /// The price of YES, in dollars per contract.
    pub yes_price: Dollars,
    /// The contracts that were filled or left.
    pub total: Count,
    /// The time at which it expired; `None` if it did not, or if that was not known.
    pub expires: Option<UnixMillis>,
}

/// A wanted change of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OrderChange {
    /// It is to be over.
    Cancel,
    /// It is to have this price, total and time of expiry.
    Amend {
        /// Its side of the book, which does not change.
        side: BookSide,
        /// The price of YES, in dollars per contract; that of the contract, for perpetual futures.
        yes_price: Dollars,
        /// The contracts, those that are filled included.
        total: Count,
        /// The time at which it expires: `None` leaves it as it is, 0 takes it away.
        expires: Option<UnixSeconds>,
    },
    /// It is to have no more contracts left than that.
    Decrease {
        /// The contracts that are left.
        remaining: Count,
    },
}

/// An order that is to be placed: its id and the body of its request, as it is sent. Cheap to clone.
///
/// # Examples
///
/// ```
/// use kalshi_trade::journal::Intent;
///
/// let body = r#"{"client_order_id":"maker-7","ticker":"KXTEST","side":"bid","count":"1.00"}"#;
/// let intent = Intent::new(body)?;
/// assert_eq!((intent.id().as_str(), intent.ticker()), ("maker-7", "KXTEST"));
/// # Ok::<(), kalshi_trade::journal::JournalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent(Arc<Fields>);

#[derive(Debug, PartialEq, Eq)]
struct Fields {
    product: Product,
    id: ClientOrderId,
    ticker: String,
    side: String,
    body: String,
    hash: u64,
}

/// What an intent is recognized by.
#[derive(Deserialize)]
struct Facts {
    client_order_id: ClientOrderId,
    ticker: String,
    side: String,
}

impl Intent {
    /// Returns the intent of a request body of event contracts.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Invalid`] if the body is not a JSON object with `client_order_id`,
    /// `ticker` and `side`, or has more than 8 KiB.
    pub fn new(body: impl Into<String>) -> Result<Self, JournalError> {
        Self::of(Product::EventContracts, body)
    }

    /// Returns the intent of a request body of perpetual futures.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(feature = "perps")]
    pub fn of_perps(body: impl Into<String>) -> Result<Self, JournalError> {
        Self::of(Product::Perps, body)
    }

    /// Returns the intent of a request body of a product.
    pub(crate) fn of(product: Product, body: impl Into<String>) -> Result<Self, JournalError> {
        let body = body.into();
        check_length(&body)?;
        let Facts { client_order_id, ticker, side } =
            serde_json::from_str(&body).map_err(|error| {
                let text = format!("the body of an order is not as expected: {error}");
                JournalError::new(JournalErrorKind::Invalid, text)
            })?;
        Self::from_parts(product, client_order_id, ticker, side, body)
    }

    /// Returns the intent of a request body that has this id, market and side, without reading it.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Invalid`] if the body has more than 8 KiB.
    pub(crate) fn from_parts(
        product: Product,
        id: ClientOrderId,
        ticker: String,
        side: String,
        body: String,
    ) -> Result<Self, JournalError> {
        check_length(&body)?;
        let hash = hash(&body);
        Ok(Self(Arc::new(Fields { product, id, ticker, side, body, hash })))
    }

    /// Returns the `client_order_id`.
    pub fn id(&self) -> &ClientOrderId {
        &self.0.id
    }

    /// Returns the product that the order is of.
    #[cfg(feature = "perps")]
    pub fn product(&self) -> Product {
        self.0.product
    }

    #[cfg(not(feature = "perps"))]
    pub(crate) fn product(&self) -> Product {
        self.0.product
    }

    /// Returns the market.
    pub fn ticker(&self) -> &str {
        &self.0.ticker
    }

    /// Returns the side of the book, as it is sent: `bid` or `ask`.
    pub fn side(&self) -> &str {
        &self.0.side
    }

    /// Returns the body of the request, byte for byte as it is sent.
    pub fn body(&self) -> &str {
        &self.0.body
    }

    /// Returns the hash of the body: FNV-1a with 64 bits.
    pub fn hash(&self) -> u64 {
        self.0.hash
    }
}

fn check_length(body: &str) -> Result<(), JournalError> {
    if body.len() <= MAX_BODY {
        return Ok(());
    }
    let text = format!("the body of an order has more than {MAX_BODY} bytes");
    Err(JournalError::new(JournalErrorKind::Invalid, text))
}

fn hash(body: &str) -> u64 {
    let basis = 0xcbf2_9ce4_8422_2325_u64;
    body.bytes()
        .fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
