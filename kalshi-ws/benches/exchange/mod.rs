//! The exchange's end of a socket, as the benches of connections play it, and the time of a thread.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
};

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Appends a frame of the server: a whole text, not masked.
pub(crate) fn append(wire: &mut Vec<u8>, text: &str) {
    wire.push(0x81);
    match u16::try_from(text.len()).unwrap() {
        short @ 0..126 => wire.push(u8::try_from(short).unwrap()),
        long => {
            wire.push(126);
            wire.extend(long.to_be_bytes());
        }
    }
    wire.extend(text.as_bytes());
}

/// Answers the handshake.
pub(crate) fn accept(tcp: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).unwrap();
        request.extend(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.unwrap().as_bytes())
    );
    tcp.write_all(response.as_bytes()).unwrap();
}

/// Returns the processor time of this thread, in nanoseconds.
pub(crate) fn processor_time() -> u64 {
    // The kernel brings the number up to date when the thread is scheduled anew.
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}
