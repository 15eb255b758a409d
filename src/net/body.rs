//! What goes out: bytes that are there, or a stretch of a blob that is read as the far end takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Bytes, Frame, SizeHint};
use lodge_storage::{BlobRef, Blobs};
use tokio::sync::Semaphore;

/// Bytes of a blob that are in memory for one download.
const PIECE_BYTES: u64 = 64 * 1024;
/// Reads and writes of blobs at the same time; a disk has one arm, or a few channels.
pub const DISK_JOBS_MAX: usize = 16;

pub enum Body {
    Whole(Option<Bytes>),
    Blob(Stretch),
}

/// The bounded pool in which the disk is waited for.
#[derive(Debug, Clone)]
pub struct DiskPool(Arc<Semaphore>);

/// A stretch of a blob on its way out.
pub struct Stretch {
    pool: DiskPool,
    blobs: Blobs,
    blob: BlobRef,
    at: u64,
    end: u64,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>>,
}

impl DiskPool {
    pub fn new() -> DiskPool {
        DiskPool(Arc::new(Semaphore::new(DISK_JOBS_MAX)))
    }

    /// Runs what waits for the disk. If the caller goes away, the work still ends in its own time.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let place = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
        .map_err(io::Error::other)
    }
}

impl Default for DiskPool {
    fn default() -> DiskPool {
        DiskPool::new()
    }
}

impl Body {
    pub fn empty() -> Body {
        Body::Whole(None)
    }

    pub fn bytes(bytes: impl Into<Bytes>) -> Body {
        Body::Whole(Some(bytes.into()))
    }

    /// Bytes `at..end` of a blob.
    pub fn blob(pool: DiskPool, blobs: Blobs, blob: BlobRef, at: u64, end: u64) -> Body {
        Body::Blob(Stretch { pool, blobs, blob, at, end: end.max(at), reading: None })
    }

    /// Bytes that are still to come.
    pub fn len(&self) -> u64 {
        match self {
            Body::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Body::Blob(stretch) => stretch.end - stretch.at,
        }
    }
}

impl Stretch {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (pool, blobs, blob, at) =
                (self.pool.clone(), self.blobs.clone(), self.blob, self.at);
            let length = (self.end - at).min(PIECE_BYTES) as usize;
            // What is given out as the whole file is what was sent, or its download breaks off at once.
            let begins_whole = at == 0 && self.end == blob.len;
            Box::pin(async move {
                pool.run(move || {
                    let mut piece = vec![0; length];
                    let sound = if begins_whole { blobs.verify(&blob) } else { Ok(()) };
                    match sound.and_then(|()| blobs.read(&blob, at, &mut piece)) {
                        Ok(read) if read == length => Ok(Bytes::from(piece)),
                        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                        Err(error) => {
                            tracing::error!(%error, "a file could not be read");
                            Err(io::Error::other(error.to_string()))
                        }
                    }
                })
                .await?
            })
        });
        let piece = ready!(reading.as_mut().poll(context));
        self.reading = None;
        match &piece {
            Ok(piece) => self.at += piece.len() as u64,
            // The connection ends here, short of the length that was promised: nobody takes it for whole.
            Err(_) => self.at = self.end,
        }
        Poll::Ready(Some(piece))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Blob(stretch) => {
                stretch.poll_piece(context).map(|piece| Some(piece?.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}
