//! One line of a recording.

use std::str::FromStr;

use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use crate::PriceConvention;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedLine {
    /// The time of the event.
    pub at: UnixMillis,
    /// The event.
    pub event: RecordedEvent,
}

/// The event on a line of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordedEvent {
    /// A file begins.
    Header(RecordingHeader),
    /// A frame was received.
    Received(String),
    /// A frame was sent.
    Sent(String),
    /// A connection was made.
    Connected,
    /// The connection was lost, for this reason.
    Disconnected(String),
    /// This number of lines is missing here: the disk was too slow, or could not be written. Some
    /// of them may stand before it all the same.
    Lost(u64),
    /// A line of a kind that this version does not know, as it is.
    Unknown(String),
}

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordingHeader {
    /// The version of the format.
    pub version: u32,
    /// The prices that the order books of the recording have.
    pub prices: PriceConvention,
    /// The host that was recorded, if it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The start of the recording. All files of one recording have the same.
    pub started: UnixMillis,
}

impl RecordingHeader {
    /// The version of the format that is written, and the latest that is read.
    pub const VERSION: u32 = 1;
}

impl RecordedEvent {
    /// Returns the number of bytes that the line takes in memory, at least.
    pub(super) fn bytes(&self) -> usize {
        let text = match self {
            Self::Received(text)
            | Self::Sent(text)
            | Self::Disconnected(text)
            | Self::Unknown(text) => text.len(),
            Self::Header(header) => header.host.as_ref().map_or(0, String::len),
            Self::Connected | Self::Lost(_) => 0,
        };
        text.saturating_add(size_of::<RecordedLine>())
    }
}

impl Serialize for RecordedLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("at", &self.at)?;
        match &self.event {
            RecordedEvent::Header(header) => map.serialize_entry("header", header)?,
            RecordedEvent::Received(text) => map.serialize_entry("in", text)?,
            RecordedEvent::Sent(text) => map.serialize_entry("out", text)?,
            RecordedEvent::Connected => map.serialize_entry("up", &true)?,
            RecordedEvent::Disconnected(reason) => map.serialize_entry("down", reason)?,
            RecordedEvent::Lost(lines) => map.serialize_entry("lost", lines)?,
            RecordedEvent::Unknown(line) => map.serialize_entry("unknown", line)?,
        }
        map.end()
    }
}

/// The fields of all lines, none of which has more than one.
#[derive(Deserialize)]
struct Fields {
    at: UnixMillis,
    header: Option<RecordingHeader>,
    #[serde(rename = "in")]
    received: Option<String>,
    #[serde(rename = "out")]
    sent: Option<String>,
    up: Option<bool>,
    down: Option<String>,
    lost: Option<u64>,
}

impl FromStr for RecordedLine {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        let Fields { at, header, received, sent, up, down, lost } = serde_json::from_str(text)?;
        let known = [
            header.map(RecordedEvent::Header),
            received.map(RecordedEvent::Received),
            sent.map(RecordedEvent::Sent),
            up.map(|_| RecordedEvent::Connected),
            down.map(RecordedEvent::Disconnected),
            lost.map(RecordedEvent::Lost),
        ];
        let unknown = || RecordedEvent::Unknown(text.trim_end().to_owned());
        Ok(Self { at, event: known.into_iter().flatten().next().unwrap_or_else(unknown) })
    }
}

/// Returns the version of the format that a line names, if it is a header.
pub(super) fn version(text: &str) -> Option<u32> {
    /// The fields that every version has.
    #[derive(Deserialize)]
    struct Line {
        header: Header,
    }
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    serde_json::from_str(text).ok().map(|line: Line| line.header.version)
}
