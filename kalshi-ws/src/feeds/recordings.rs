//! Recordings of several machines as one stream.

use super::merger::Merger;
use crate::{
    book::Books,
    error::CommandError,
    event::Event,
    feeds::MergeMetrics,
    recording::{Player, RecordingError},
};

/// Plays back recordings of the same subscriptions, of several connections or several machines, as
/// the stream that a [`RedundantFeed`](crate::RedundantFeed) would have given.
///
/// The recordings are read side by side, by the times of their lines. Those of machines whose clocks
/// differ are merged as well: the order of the changes does not depend on these times. Recordings
/// cannot be asked for a snapshot, so after a loss that no recording covers a book waits for the next
/// one that was recorded. A recording that ends is a feed that is closed.
///
/// # Examples
///
/// ```
/// use kalshi_ws::{
///     Event, PriceConvention,
///     recording::{Player, Recording, RedundantPlayer},
/// };
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut players = Vec::new();
/// for folder in ["machine-a", "machine-b"] {
///     let recording = Recording::open(folder, "books")?;
///     players.push(Player::new(recording, PriceConvention::Yes));
/// }
/// let mut player = RedundantPlayer::new(players)?;
/// while let Some(event) = player.next().await {
///     if let Event::Uncovered { items, .. } = event? {
///         println!("no recording has all of {items:?} here");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedundantPlayer {
    merger: Merger,
    /// The recordings that have not ended.
    players: Vec<Option<Player>>,
}

impl RedundantPlayer {
    /// Returns a player of these recordings. The first one leads.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] unless there are one to eight.
    pub fn new(players: impl IntoIterator<Item = Player>) -> Result<Self, CommandError> {
        let players: Vec<Option<Player>> =
            players.into_iter().take(super::MAX_FEEDS + 1).map(Some).collect();
        Ok(Self { merger: Merger::new(players.len())?, players })
    }

    /// Returns the next event, and applies it to the [books](Self::books); `None` at the end.
    ///
    /// # Errors
    ///
    /// As with [`Player::next`]. What follows can still be played.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, RecordingError>> {
        loop {
            if let Some(event) = self.merger.next_event() {
                return Some(Ok(event));
            }
            // A recording cannot be asked for a snapshot.
            self.merger.take_snapshot_requests();
            let players = self.players.iter_mut().enumerate();
            let times = players.filter_map(|(feed, player)| Some((player.as_mut()?.peek(), feed)));
            let (_, feed) = times.min()?;
            let event = match self.players.get_mut(feed)?.as_mut()?.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    *self.players.get_mut(feed)? = None;
                    Event::Closed { error: None }
                }
            };
            // The feed is one of the merger's.
            let _ = self.merger.push(feed, event);
        }
    }

    /// Returns the order books, as of the last event.
    pub const fn books(&self) -> &Books {
        self.merger.books()
    }

    /// Returns the counts since the beginning.
    pub const fn metrics(&self) -> &MergeMetrics {
        self.merger.metrics()
    }
}
