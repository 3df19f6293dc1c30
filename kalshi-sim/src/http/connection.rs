//! Connections: accepted, served, ended after a while if a request stays half sent; and cut from
//! inside, which is what a client sees of a crash or a dead proxy.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use futures_util::task::AtomicWaker;
use http::{HeaderValue, header};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::shared::Shared;

/// The time that a client has for the head of a request, and a connection without requests.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(60);

/// A handle that cuts one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cutter(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    done: AtomicBool,
    waker: AtomicWaker,
}

impl Cutter {
    /// Ends the connection without a close, whatever was to be sent.
    pub(crate) fn cut(&self) {
        self.0.done.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn is_cut(&self) -> bool {
        self.0.done.load(Ordering::Acquire)
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    cutter: Cutter,
}

/// Serves connections until `stop`, and then until the last request is answered. A request's head
/// must arrive within `head_time`. Each answer has the date of the exchange's own clock, also
/// while the clock that members are held to is another.
pub(crate) async fn serve(
    mut listener: TcpListener,
    router: Router,
    shared: Arc<Shared>,
    head_time: Duration,
    stop: oneshot::Receiver<()>,
) {
    let mut stop = pin!(stop);
    let (closing, closes) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            // axum's own waits and tries again when the process is out of file descriptors.
            accepted = axum::serve::Listener::accept(&mut listener) => accepted,
            // A sender that was dropped means the same.
            _ = &mut stop => break,
            Some(_) = connections.join_next() => continue,
        };
        // A small answer must not wait for the next one.
        let _ = stream.set_nodelay(true);
        let router = TowerToHyperService::new(router.clone());
        let (shared, closes) = (Arc::clone(&shared), closes.clone());
        connections.spawn(connection(stream, router, shared, head_time, closes));
    }
    drop(listener);
    drop(closing);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    router: TowerToHyperService<Router>,
    shared: Arc<Shared>,
    head_time: Duration,
    mut closes: watch::Receiver<()>,
) {
    let cutter = Cutter::default();
    let io = TokioIo::new(Connection { stream, cutter: cutter.clone() });
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(cutter.clone()));
        let (answer, shared) = (router.call(request), Arc::clone(&shared));
        async move {
            let mut response = answer.await?;
            if let Ok(date) = HeaderValue::from_str(&shared.clock.http_date()) {
                response.headers_mut().insert(header::DATE, date);
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_time)
            .serve_connection(io, service)
            .with_upgrades()
    );
    let is_over = tokio::select! {
        // How a client ends a connection is its own affair.
        _ = served.as_mut() => true,
        _ = closes.changed() => false,
    };
    if !is_over {
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cutter.0.waker.register(context.waker());
        if self.cutter.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cutter.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
