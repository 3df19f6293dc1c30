use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kalshi_sim::{Exchange, STREAM_PATH};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::watch,
};

use super::levels::Random;

/// A way to the exchange that can be cut, and that loses messages.
pub(super) struct Detour {
    pub(super) url: String,
    pub(super) cut: watch::Sender<()>,
    /// One in this many messages of order books is lost; 0 for none.
    pub(super) lose_one_in: Arc<AtomicU64>,
}

impl Detour {
    pub(super) async fn to(exchange: &Exchange) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}{STREAM_PATH}", listener.local_addr().unwrap());
        let (target, cut) = (exchange.address(), watch::Sender::new(()));
        let lose_one_in = Arc::new(AtomicU64::new(0));
        let (cuts, losses) = (cut.clone(), Arc::clone(&lose_one_in));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut cut, losses) = (cuts.subscribe(), Arc::clone(&losses));
                tokio::spawn(async move {
                    // The exchange may be gone.
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let (mut near_read, near_write) = near.into_split();
                    let (far_read, mut far_write) = far.into_split();
                    select! {
                        // However it ends, both ends are dropped.
                        _ = copy(&mut near_read, &mut far_write) => {}
                        _ = Self::pass(far_read, near_write, &losses) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { url, cut, lose_one_in }
    }

    /// Passes on the frames of the exchange but those that are lost.
    async fn pass(
        far: OwnedReadHalf,
        mut near: OwnedWriteHalf,
        lose_one_in: &AtomicU64,
    ) -> io::Result<()> {
        let mut far = BufReader::new(far);
        let mut frame = Vec::new();
        // The answer to the handshake ends with an empty line.
        while far.read_until(b'\n', &mut frame).await? > 2 {
            near.write_all(&frame).await?;
            frame.clear();
        }
        near.write_all(&frame).await?;
        let mut random = Random(1);
        loop {
            frame.resize(2, 0);
            far.read_exact(&mut frame).await?;
            // A server does not mask, so the second byte is the length or says how long that is.
            let more = match frame[1] {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            frame.resize(2 + more, 0);
            far.read_exact(&mut frame[2..]).await?;
            let length = match more {
                0 => u64::from(frame[1]),
                _ => frame[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            };
            let begin = frame.len();
            frame.resize(begin + usize::try_from(length).unwrap(), 0);
            far.read_exact(&mut frame[begin..]).await?;
            let odds = lose_one_in.load(Ordering::Relaxed);
            let is_book = frame[begin..].windows(10).take(40).any(|part| part == b"orderbook_");
            if odds == 0 || !is_book || random.below(odds) != 0 {
                near.write_all(&frame).await?;
            }
            if far.buffer().is_empty() {
                near.flush().await?;
            }
        }
    }
}
