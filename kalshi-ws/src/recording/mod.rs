//! Recordings: every frame of a connection as a line of JSON, in files compressed with gzip.
//!
//! A [`Recorder`] is a [`Tap`](crate::Tap): it sees the frames as they go over the wire, before they
//! are decoded. It never makes the connection wait; lines that a slow disk has no room for, or that
//! could not be written, are counted in the recording itself. A [`Player`] reads the files back and gives the events that the
//! connection would have given, holes included.
//!
//! # Format
//!
//! Each line is an object with `at`, the time in milliseconds since 1970, and one more field:
//!
//! | field | value |
//! |---|---|
//! | `header` | the first line of each file: `version` of the format (1), `prices` of the order books (`yes` or `side`, see [`PriceConvention`](crate::PriceConvention)), `host` if it is known, and `started`, when the recording began |
//! | `in`, `out` | a frame that was received or sent, as text |
//! | `up`, `down` | a connection was made; it was lost, and why |
//! | `lost` | the number of lines that are missing here |
//!
//! Recordings of before version 1 have no header; they are read with the convention that the reader
//! is given. A line with another field, of a later version, reads as [`RecordedEvent::Unknown`]; a
//! file whose header has a later version is refused.
//!
//! ```
//! use kalshi_types::UnixMillis;
//! use kalshi_ws::{
//!     Books, PriceConvention, Tap,
//!     recording::{Player, Recorder, Recording},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("kalshi-recording-{}", std::process::id()));
//! // A connection does this when the recorder is given to `ConfigBuilder::with_tap`.
//! let (mut recorder, writer) = Recorder::builder(&folder, "books").start()?;
//! recorder.received(
//!     UnixMillis::from_millis(1),
//!     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
//! );
//! drop(recorder);
//! writer.finish()?;
//!
//! let recording = Recording::open(&folder, "books")?;
//! let mut player = Player::new(recording, PriceConvention::Yes);
//! let mut books = Books::new();
//! while let Some(event) = player.next().await {
//!     books.apply(&event?);
//! }
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! ```

mod files;
mod line;
mod player;
mod reader;
mod recorder;

pub use crate::feeds::RedundantPlayer;

pub use self::{
    line::{RecordedEvent, RecordedLine, RecordingHeader},
    player::{Player, Speed},
    reader::{Recording, RecordingError},
    recorder::{Recorder, RecorderBuilder, Writer, WriterState},
};
