//! Frames of RFC 6455, as a client reads and writes them. Pure: no sockets.
//!
//! Written by hand because a message is handed on where it was read: no copy, no allocation, no
//! count of references for each. No extension is ever offered, so a reserved bit is an error, as is
//! everything else that the document forbids a server: nothing is guessed. What is above the limit
//! is refused by its header, before there is memory for it.

use std::{
    ops::Range,
    str::{Utf8Error, from_utf8},
};

use thiserror::Error;

/// The bytes that are read at a time.
const BUFFER: usize = 32 << 10;

/// With less room than this at the end, what is in the buffer moves to its beginning.
const LEAST_ROOM: usize = 4 << 10;

/// The longest header of a frame without a mask.
const LONGEST_HEADER: usize = 10;

/// The longest payload of a control frame.
pub(crate) const LONGEST_CONTROL: usize = 125;

pub(crate) const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const MASKED: u8 = 0x80;
/// The length follows, in two bytes or in eight.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// A frame or a message from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// The peer closes, with a code and a reason if it gives them.
    Close(Option<(u16, &'a str)>),
}

/// A violation of the protocol by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a frame has reserved bits set")]
    ReservedBits,
    #[error("a frame has the reserved opcode {0}")]
    ReservedOpcode(u8),
    #[error("a frame of the server is masked")]
    Masked,
    #[error("a control frame is fragmented")]
    FragmentedControl,
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    #[error("a fragment continues no message")]
    NothingToContinue,
    #[error("a message begins within another one")]
    Interleaved,
    #[error("a message has {0} bytes or more, which is above the limit")]
    TooLong(u64),
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("a close frame has one byte")]
    ShortClose,
    #[error("a close frame has the code {0}, which is never sent")]
    CloseCode(u16),
}

impl FrameError {
    /// Returns the code of the close frame that answers it.
    pub(crate) const fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooLong(_) => 1009,
            _ => 1002,
        }
    }
}

impl From<Utf8Error> for FrameError {
    fn from(_: Utf8Error) -> Self {
        Self::NotUtf8
    }
}

/// Reads frames out of the bytes that it is given, in pieces of any size.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: Vec<u8>,
    /// The first byte that is not yet read.
    start: usize,
    end: usize,
    /// There is no whole frame in it.
    is_drained: bool,
    /// The fragments of a message that is not whole yet.
    fragments: Vec<u8>,
    /// The opcode of that message.
    fragmented: Option<u8>,
    /// The bytes of its fragments that are known to be UTF-8, if it is a text.
    checked: usize,
    max_bytes: usize,
}

/// The header of a frame.
struct Header {
    opcode: u8,
    is_final: bool,
    /// Its own bytes.
    bytes: usize,
    payload: usize,
}

impl Header {
    /// Reports whether the payload is there, too.
    const fn is_whole(&self, bytes: &[u8]) -> bool {
        bytes.len() - self.bytes >= self.payload
    }
}

impl FrameReader {
    /// Returns a reader of messages of at most `max_bytes` bytes, which begins with `first`.
    pub(crate) fn new(max_bytes: usize, first: &[u8]) -> Self {
        let mut buffer = first.to_vec();
        buffer.resize(BUFFER.max(first.len() + LEAST_ROOM), 0);
        Self {
            buffer,
            start: 0,
            end: first.len(),
            is_drained: first.is_empty(),
            fragments: Vec::new(),
            fragmented: None,
            checked: 0,
            max_bytes,
        }
    }

    /// Returns the room for the bytes that come next. There is some if [`next`](Self::next) has
    /// found nothing more.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > BUFFER {
                self.buffer.truncate(BUFFER);
                self.buffer.shrink_to_fit();
            }
        } else if self.start > 0 && self.buffer.len() - self.end < LEAST_ROOM {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            // A frame that is longer. Twice as much, so that the memory follows what really comes.
            let most = self.max_bytes.saturating_add(LONGEST_HEADER);
            let len = self.buffer.len();
            self.buffer.resize((len * 2).min(most).max(len + 1), 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that this many bytes were put into the [room](Self::room).
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
        self.is_drained &= bytes == 0;
    }

    /// Reports whether [`next`](Self::next) has nothing to return until more bytes come.
    pub(crate) const fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Throws away what is there.
    pub(crate) fn discard(&mut self) {
        self.start = self.end;
        self.is_drained = true;
    }

    /// Returns the next message or control frame; `None` until more bytes are there.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Incoming<'_>>, FrameError> {
        loop {
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let header = self.header(bytes)?;
            let Some(header) = header.filter(|header| header.is_whole(bytes)) else {
                self.is_drained = true;
                return Ok(None);
            };
            let Header { opcode, is_final, bytes: header, payload } = header;
            let from = self.start + header;
            self.start = from + payload;
            let payload = from..self.start;
            match (opcode, is_final) {
                (TEXT, true) => {
                    let text = from_utf8(self.buffer.get(payload).unwrap_or_default())?;
                    return Ok(Some(Incoming::Text(text)));
                }
                (BINARY, true) => {
                    let bytes = self.buffer.get(payload).unwrap_or_default();
                    return Ok(Some(Incoming::Binary(bytes)));
                }
                (TEXT | BINARY, false) => {
                    self.fragmented = Some(opcode);
                    self.fragments.clear();
                    self.checked = 0;
                    self.keep(payload)?;
                }
                (PING, _) => {
                    let payload = self.buffer.get(payload).unwrap_or_default();
                    return Ok(Some(Incoming::Ping(payload)));
                }
                (PONG, _) => return Ok(Some(Incoming::Pong)),
                (CLOSE, _) => {
                    let payload = self.buffer.get(payload).unwrap_or_default();
                    return close(payload).map(|close| Some(Incoming::Close(close)));
                }
                // A continuation: the header was checked.
                _ => {
                    self.keep(payload)?;
                    if is_final {
                        return self.whole().map(Some);
                    }
                }
            }
        }
    }

    /// Keeps a fragment. A text that is no UTF-8 is refused at once, not at its end.
    #[cold]
    fn keep(&mut self, payload: Range<usize>) -> Result<(), FrameError> {
        self.fragments.extend_from_slice(self.buffer.get(payload).unwrap_or_default());
        if self.fragmented == Some(TEXT) {
            let unchecked = self.fragments.get(self.checked..).unwrap_or_default();
            self.checked += match from_utf8(unchecked) {
                Ok(text) => text.len(),
                // The rest of a character may follow.
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(FrameError::NotUtf8),
            };
        }
        Ok(())
    }

    /// Returns the message that has its last fragment.
    #[cold]
    fn whole(&mut self) -> Result<Incoming<'_>, FrameError> {
        let is_text = self.fragmented.take() == Some(TEXT);
        // Until the next message begins, the bytes stay where they are.
        Ok(if is_text {
            Incoming::Text(from_utf8(&self.fragments)?)
        } else {
            Incoming::Binary(&self.fragments)
        })
    }

    /// Reads the header of the next frame, and refuses what is forbidden.
    #[inline]
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (opcode, is_final) = (first & 0xf, first & FIN != 0);
        if first & RESERVED_BITS != 0 {
            return Err(FrameError::ReservedBits);
        }
        if second & MASKED != 0 {
            return Err(FrameError::Masked);
        }
        let is_within = self.fragmented.is_some();
        match opcode {
            0 if !is_within => return Err(FrameError::NothingToContinue),
            TEXT | BINARY if is_within => return Err(FrameError::Interleaved),
            0 | TEXT | BINARY => {}
            CLOSE | PING | PONG if !is_final => return Err(FrameError::FragmentedControl),
            CLOSE | PING | PONG if usize::from(*second) > LONGEST_CONTROL => {
                return Err(FrameError::LongControl);
            }
            CLOSE | PING | PONG => {}
            reserved => return Err(FrameError::ReservedOpcode(reserved)),
        }
        let (bytes, length) = match (second, rest) {
            (126, [high, low, ..]) => (4, u64::from(u16::from_be_bytes([*high, *low]))),
            (127, rest) => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            (126, _) => return Ok(None),
            (short, _) => (2, u64::from(*short)),
        };
        let before = if opcode == 0 { self.fragments.len() } else { 0 };
        let payload = usize::try_from(length).ok();
        let whole = payload.and_then(|payload| payload.checked_add(before));
        match (payload, whole) {
            (Some(payload), Some(whole)) if whole <= self.max_bytes || opcode >= CLOSE => {
                Ok(Some(Header { opcode, is_final, bytes, payload }))
            }
            _ => Err(FrameError::TooLong(length.saturating_add(before as u64))),
        }
    }
}

/// Reads the payload of a close frame.
fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::ShortClose),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
                Ok(Some((code, from_utf8(reason)?)))
            }
            code => Err(FrameError::CloseCode(code)),
        },
    }
}

/// Appends a whole message or a control frame of the client, masked.
pub(crate) fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(FIN | opcode);
    let length = payload.len();
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 126) {
        out.push(MASKED | short);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(MASKED | TWO_BYTES);
        out.extend(length.to_be_bytes());
    } else {
        out.push(MASKED | EIGHT_BYTES);
        out.extend((length as u64).to_be_bytes());
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::{collection::vec, prelude::*};
    use tokio_tungstenite::tungstenite::{
        Error, Message, WebSocket,
        protocol::{Role, WebSocketConfig},
    };

    use super::*;

    const LIMIT: usize = 300;

    /// The messages decoded from some bytes, and whether the last of them broke the rules.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Outcome {
        messages: Vec<String>,
        is_refused: bool,
    }

    /// Decodes by this module, in pieces of these sizes.
    fn ours(bytes: &[u8], sizes: &[usize]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut sizes = sizes.iter().cycle();
        let (first, mut rest) = bytes.split_at(bytes.len().min(sizes.next().unwrap() - 1));
        let mut reader = FrameReader::new(LIMIT, first);
        loop {
            match reader.next() {
                Ok(Some(Incoming::Close(close))) => {
                    outcome.messages.push(format!("close {:?}", close.map(|(code, _)| code)));
                    return outcome;
                }
                Ok(Some(Incoming::Text(text))) => outcome.messages.push(format!("text {text}")),
                Ok(Some(Incoming::Binary(bytes))) => {
                    outcome.messages.push(format!("binary {bytes:?}"));
                }
                Ok(Some(Incoming::Ping(bytes))) => outcome.messages.push(format!("ping {bytes:?}")),
                Ok(Some(Incoming::Pong)) => outcome.messages.push("pong".to_owned()),
                Ok(None) if rest.is_empty() => return outcome,
                Ok(None) => {
                    assert!(reader.is_drained());
                    let room = reader.room();
                    let size = rest.len().min(*sizes.next().unwrap()).min(room.len());
                    let (piece, after) = rest.split_at(size);
                    room[..size].copy_from_slice(piece);
                    reader.filled(size);
                    rest = after;
                }
                Err(_) => {
                    outcome.is_refused = true;
                    return outcome;
                }
            }
        }
    }

    /// A peer that has sent these bytes.
    struct Sent<'a>(&'a [u8]);

    impl Read for Sent<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match self.0.read(room) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                read => read,
            }
        }
    }

    impl Write for Sent<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Decodes by tungstenite.
    fn theirs(bytes: &[u8]) -> Outcome {
        let config =
            WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
        let mut socket = WebSocket::from_raw_socket(Sent(bytes), Role::Client, Some(config));
        let mut outcome = Outcome::default();
        loop {
            outcome.messages.push(match socket.read() {
                Ok(Message::Text(text)) => format!("text {text}"),
                Ok(Message::Binary(bytes)) => format!("binary {:?}", &*bytes),
                Ok(Message::Ping(bytes)) => format!("ping {:?}", &*bytes),
                Ok(Message::Pong(_)) => "pong".to_owned(),
                // Its answer to a code that must not be sent.
                Ok(Message::Close(Some(frame))) if &*frame.reason == "Protocol violation" => {
                    outcome.is_refused = true;
                    return outcome;
                }
                Ok(Message::Close(close)) => {
                    let code = close.map(|close| u16::from(close.code));
                    outcome.messages.push(format!("close {code:?}"));
                    return outcome;
                }
                Ok(Message::Frame(_)) => panic!("never read"),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return outcome;
                }
                Err(_) => {
                    outcome.is_refused = true;
                    return outcome;
                }
            });
        }
    }

    /// Generates a frame, mostly a valid one.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            8 => Just(0x81_u8),
            4 => prop_oneof![Just(0x01_u8), Just(0x00), Just(0x80)],
            3 => prop_oneof![Just(0x82_u8), Just(0x02), Just(0x89), Just(0x8a)],
            1 => any::<u8>(),
            1 => Just(0x88_u8),
        ];
        let payload = prop_oneof![
            6 => "[a-zé€𝄞]{0,40}".prop_map(String::into_bytes),
            2 => "x{100,320}".prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..8),
            1 => (990_u16..5_010).prop_map(|code| code.to_be_bytes().to_vec()),
        ];
        let form = prop_oneof![12 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
        (first, payload, form).prop_map(|(first, payload, form)| {
            let mut frame = vec![first];
            let length = payload.len();
            // A control frame is short, and says so in one byte.
            let form = if first & 0x8 != 0 && form != 3 { 0 } else { form };
            match form {
                // Longer than it has to be, or with the bit of a mask.
                1 => {
                    frame.push(126);
                    frame.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
                2 => {
                    frame.push(127);
                    frame.extend((length as u64).to_be_bytes());
                }
                3 => frame.push(u8::try_from(length.min(125)).unwrap() | MASKED),
                _ if length < 126 => frame.push(u8::try_from(length).unwrap()),
                _ => {
                    frame.push(126);
                    frame.extend(u16::try_from(length).unwrap().to_be_bytes());
                }
            }
            frame.extend(payload);
            frame
        })
    }

    /// Reports whether the bytes end where a frame ends.
    fn is_whole(mut bytes: &[u8]) -> bool {
        while let [_, second, rest @ ..] = bytes {
            let (header, length) = match (second & 0x7f, rest) {
                (126, [high, low, ..]) => (2, usize::from(u16::from_be_bytes([*high, *low]))),
                (127, [length @ .., _, _]) if length.len() >= 6 => {
                    let length = rest.first_chunk().map_or(0, |l| u64::from_be_bytes(*l));
                    (8, usize::try_from(length).unwrap_or(usize::MAX))
                }
                (126 | 127, _) => return false,
                (short, _) => (0, usize::from(short)),
            };
            let mask = if second & MASKED == 0 { 0 } else { 4 };
            match rest.get(header + mask..).and_then(|rest| rest.get(length..)) {
                Some(after) => bytes = after,
                None => return false,
            }
        }
        bytes.is_empty()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn frames_are_read_as_tungstenite_reads_them_in_pieces_of_any_size(
            frames in vec(frame(), 1..8),
            cut in 0..400_usize,
            sizes in vec(1..200_usize, 1..6),
        ) {
            let bytes = frames.concat();
            let bytes = &bytes[..bytes.len().saturating_sub(if cut < 20 { cut } else { 0 })];
            let whole = ours(bytes, &[bytes.len() + 1]);
            prop_assert_eq!(&ours(bytes, &sizes), &whole);
            let theirs = theirs(bytes);
            if theirs.is_refused {
                // Ours may see it by the header, theirs when the frame is whole.
                prop_assert_eq!(&whole, &theirs);
            } else if whole.is_refused {
                prop_assert_eq!(&whole.messages, &theirs.messages);
                prop_assert!(!is_whole(bytes), "refused, and tungstenite waits for nothing");
            } else {
                prop_assert_eq!(&whole, &theirs);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_the_limit(
            bytes in vec(any::<u8>(), 0..2_000),
            sizes in vec(1..200_usize, 1..6),
        ) {
            ours(&bytes, &sizes);
        }

        #[test]
        fn what_is_written_is_read_by_tungstenite(
            text in "[a-zé€]{0,400}",
            mask in any::<[u8; 4]>(),
        ) {
            let mut out = Vec::new();
            write(&mut out, TEXT, text.as_bytes(), mask);
            write(&mut out, PONG, b"beat", mask);
            let mut socket = WebSocket::from_raw_socket(Sent(&out), Role::Server, None);
            prop_assert_eq!(socket.read().unwrap(), Message::text(text));
            prop_assert_eq!(socket.read().unwrap(), Message::Pong("beat".into()));
        }
    }

    #[test]
    fn memory_follows_what_comes_and_not_what_is_announced() {
        let mut reader = FrameReader::new(64 << 20, &[]);
        let mut announced = vec![FIN | TEXT, 127];
        announced.extend((64_u64 << 20).to_be_bytes());
        reader.room()[..10].copy_from_slice(&announced);
        reader.filled(10);
        assert_eq!(reader.next(), Ok(None));
        reader.room();
        assert_eq!(reader.buffer.len(), BUFFER);
        // It comes.
        let mut left = 64 << 20;
        while left > 0 {
            let room = reader.room();
            let size = room.len().min(left);
            room[..size].fill(b'x');
            reader.filled(size);
            left -= size;
            assert!(reader.buffer.len() <= (64 << 20) + LONGEST_HEADER);
            assert!(reader.buffer.len() <= BUFFER.max(2 * reader.end));
            if left > 0 {
                assert_eq!(reader.next(), Ok(None));
            }
        }
        assert!(matches!(reader.next(), Ok(Some(Incoming::Text(text))) if text.len() == 64 << 20));
        // And goes.
        assert_eq!(reader.next(), Ok(None));
        reader.room();
        assert_eq!(reader.buffer.capacity(), BUFFER);
    }
}
