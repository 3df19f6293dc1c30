//! Choices of the simulator where the exchange documents none.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest time after a cancel-all in which it may still take orders.
const CANCEL_ALL_WINDOW: Duration = Duration::from_secs(60);

/// Decisions where the exchange's documents are silent, or contradict each other.
///
/// The default is the one that is safer to test against: what passes with it passes either way.
///
/// ```
/// use kalshi_sim::Rules;
///
/// let mut rules = Rules::default();
/// rules.reuse_client_order_ids = true;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a decision of its own")]
pub struct Rules {
    /// A client order id is free again when its order is over. By default it never is, and a second
    /// order with it is refused with 409: a client that counts on either finds out.
    pub reuse_client_order_ids: bool,
    /// A cancel-all is carried out once more, this long after it was answered, a minute at most. So
    /// it takes orders that were placed since: the exchange says that those of the next minute may
    /// be caught. By default it takes what rests when it comes.
    #[serde(
        rename = "cancel_all_again_after_millis",
        serialize_with = "as_millis",
        deserialize_with = "millis"
    )]
    pub cancel_all_again_after: Option<Duration>,
    /// Fields of request bodies that are not documented are ignored. By default they are refused
    /// with 400, so that a misspelt one is found.
    pub ignore_unknown_fields: bool,
    /// Prices and counts may have another form than documented: `+1`, `.5`, `5.`, `00.50`,
    /// `0.50000`. By default prices have two to four decimals and counts two at most.
    pub lenient_numbers: bool,
    /// RSA signatures with the longest possible salt are taken as well as those with 32 bytes,
    /// which are documented. Some clients sign so.
    pub longest_salt: bool,
    /// Answers without a documented body, to `PUT /portfolio/subaccounts/netting` and
    /// `POST /account/api_usage_level/upgrade`, have the body `{}`. By default they are empty.
    pub empty_objects: bool,
    /// A key that is bound to a subtrader may read the orders, the positions and the daily cap of
    /// its subtrader, as the texts of these operations say. By default it may use no operation at
    /// all, as the text on keys says.
    pub subtrader_keys_read: bool,
}

#[expect(clippy::ref_option, reason = "serde gives it so")]
fn as_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
}

impl Rules {
    /// Returns how long after a cancel-all it is carried out again, in milliseconds.
    pub(crate) fn cancel_all_again_after_millis(self) -> Option<i64> {
        let after = self.cancel_all_again_after?.min(CANCEL_ALL_WINDOW);
        i64::try_from(after.as_millis()).ok()
    }
}
