//! The times and numbers of placing.

use std::time::Duration;

/// The least time after which a signature is taken to be refused. The exchange documents none: a
/// signature of 10 s ago was seen to pass, one of 60 s ago to fail.
const WINDOW: Duration = Duration::from_secs(60);

/// The orders of a batch: 70 tokens, which the smallest bucket for writes (100) holds beside the
/// reserve for cancels.
const BATCH_ITEMS: usize = 7;

/// How orders are placed, and how an unknown outcome is settled.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_trade::placement::PlacementConfig;
///
/// let config = PlacementConfig::default().with_window(Duration::from_secs(90));
/// assert_eq!(config.window(), Duration::from_secs(90));
/// // It is never less than a minute.
/// let config = config.with_window(Duration::from_secs(1));
/// assert_eq!(config.window(), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacementConfig {
    window: Duration,
    pub(super) stream_wait: Duration,
    pub(super) undecided_after: Duration,
    pub(super) undecided_interval: Duration,
    pub(super) resends: u32,
    pub(super) batch_items: usize,
}

impl Default for PlacementConfig {
    fn default() -> Self {
        Self {
            window: WINDOW,
            stream_wait: Duration::from_millis(250),
            undecided_after: Duration::from_secs(300),
            undecided_interval: Duration::from_secs(30),
            resends: 0,
            batch_items: BATCH_ITEMS,
        }
    }
}

impl PlacementConfig {
    /// Sets how long after its signature a request may still be carried out; 60 s, and not less. An
    /// order is proven absent only later than that.
    pub fn with_window(self, window: Duration) -> Self {
        Self { window: window.max(WINDOW), ..self }
    }

    /// Returns how long after its signature a request may still be carried out.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Sets how long the streams may bring the outcome before it is read; 250 ms by default.
    pub fn with_stream_wait(self, wait: Duration) -> Self {
        Self { stream_wait: wait, ..self }
    }

    /// Sets after how long an outcome that is still unknown is called undecided; 5 min by default.
    /// It changes what is reported, not what is done.
    pub fn with_undecided_after(self, after: Duration) -> Self {
        Self { undecided_after: after, ..self }
    }

    /// Sets how often an order that was proven absent is sent again, with the same id and not after
    /// its deadline; never by default: a minute later it is another order.
    pub fn with_resends(self, resends: u32) -> Self {
        Self { resends, ..self }
    }

    /// Sets how many orders are placed, or canceled, with one request; 7 by default, and at least 1.
    /// A request for more than the account's bucket holds is refused whole: an order takes 10 tokens,
    /// a cancel 2. Take the capacity from [`Client::get_account_api_limits`], less what cancels need.
    ///
    /// [`Client::get_account_api_limits`]: kalshi_sdk::Client::get_account_api_limits
    pub fn with_batch_items(self, items: usize) -> Self {
        Self { batch_items: items.max(1), ..self }
    }
}
