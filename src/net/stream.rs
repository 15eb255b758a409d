//! One accepted connection, in clear or under TLS, as a single type.
//!
//! It counts that bytes move, so that whoever watches over the connection sees one that stands still.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    progress: Arc<Progress>,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    /// Boxed: an idle socket in clear should not pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How many reads and writes moved bytes.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn moved(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Stream {
    pub fn plain(tcp: TcpStream) -> Stream {
        Stream { wire: Wire::Plain(tcp), progress: Arc::default() }
    }

    pub fn tls(tls: TlsStream<TcpStream>) -> Stream {
        Stream { wire: Wire::Tls(Box::new(tls)), progress: Arc::default() }
    }

    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(context, into),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, into),
        };
        if into.filled().len() > before {
            self.progress.moved();
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_write(context, bytes),
        };
        if polled.is_ready() {
            self.progress.moved();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, bytes),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(context, bytes),
        };
        if polled.is_ready() {
            self.progress.moved();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(tcp) => tcp.is_write_vectored(),
            Wire::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Wire::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }
}
