//! Takes a file: from the socket straight into its blob, and answers with a ticket when it is durable.
//!
//! Invariants: the length is known before the first byte and nothing longer is read; at most one block of
//! an upload is in memory; whatever ends an upload early leaves nothing behind; the bytes are judged by what
//! they are and never decoded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap};
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{BlobRef, BlobWriter, Blobs, Error};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::body::DiskPool;
use super::lease::{Holder, Leases, Upload};
use super::request::{Bad, once};
use super::sniff::{self, HEAD_BYTES_MAX, Kind};
use crate::console::exchange::{Answer, status_of};
use crate::limits::UPLOAD_BYTES_MAX;

/// Uploads of one holder at the same time.
pub const UPLOADS_HOLDER_MAX: usize = 4;
/// Uploads of all at the same time; each holds one block.
pub const UPLOADS_MAX: usize = 256;
/// Bytes that are gathered before the disk is asked: all of an ordinary picture.
const BLOCK_BYTES: usize = HEAD_BYTES_MAX;
/// A sender who is silent for so long has gone.
const SILENT_MS: u64 = 20_000;
/// A whole upload may take this long, and longer by its size at the slowest rate that is still progress.
const UPLOAD_MS: u64 = 30_000;
const BYTES_SECOND_MIN: u64 = 4 * 1024;
/// A client that was refused a place asks again after this.
const AGAIN_MS: u64 = 2_000;

const _: () = assert!(UPLOADS_MAX < lodge_storage::UPLOADS_MAX);
const _: () = assert!(UPLOAD_BYTES_MAX <= lodge_storage::BLOB_BYTES_MAX);

/// Takes uploads and signs their tickets.
#[derive(Debug)]
pub struct Uploads {
    blobs: Blobs,
    pool: DiskPool,
    pub leases: Leases,
    underway: Arc<Underway>,
}

/// Who is uploading how much at the moment; holds only who is.
#[derive(Debug, Default)]
struct Underway(Mutex<HashMap<Holder, usize>>);

/// One upload's place; given back when dropped.
struct Place {
    underway: Arc<Underway>,
    holder: Holder,
}

#[derive(Serialize)]
struct Taken<'a> {
    upload: String,
    mime: &'a str,
    size: u64,
    width: u32,
    height: u32,
}

/// Why an upload ended early; 411 and 408 have no refusal of their own.
type Refused = (u16, Refusal);

impl Uploads {
    pub fn new(blobs: Blobs, pool: DiskPool, leases: Leases) -> Uploads {
        Uploads { blobs, pool, leases, underway: Arc::default() }
    }

    /// Streams the body of a request whose sender was found to be `holder`.
    pub async fn take(
        &self,
        holder: Holder,
        headers: &HeaderMap,
        body: Incoming,
        now_ms: u64,
    ) -> Answer {
        match self.try_take(holder, headers, body).await {
            Ok((blob, kind)) => {
                let Kind { mime, width, height } = kind;
                let upload = Upload { blob, mime: mime.to_owned(), width, height };
                let upload = self.leases.sign(&upload, holder, now_ms);
                Answer::json(201, &Taken { upload, mime, size: blob.len, width, height })
            }
            Err((status, refusal)) => Answer::refusal_with(status, &refusal),
        }
    }

    async fn try_take(
        &self,
        holder: Holder,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<(BlobRef, Kind), Refused> {
        let length = length(headers)?;
        let hint = once(headers, header::CONTENT_TYPE, 255)
            .map_err(|Bad { status, refusal }| (status.as_u16(), refusal))?;
        let _place = self.underway.enter(holder)?;
        let mut source = Source::new(body, length);
        let first = source.block().await?;
        let head = first.get(..HEAD_BYTES_MAX).unwrap_or(&first);
        let kind = sniff::kind(head, hint);
        let blobs = self.blobs.clone();
        let mut writer = self
            .on_disk(move || {
                let mut writer = blobs.begin(length)?;
                writer.write(&first)?;
                Ok(writer)
            })
            .await?;
        while source.left > 0 {
            let block = source.block().await?;
            writer = self
                .on_disk(move || {
                    writer.write(&block)?;
                    Ok(writer)
                })
                .await?;
        }
        source.end().await?;
        Ok((self.finish(writer).await?, kind))
    }

    async fn finish(&self, writer: BlobWriter) -> Result<BlobRef, Refused> {
        let (synced, durable) = oneshot::channel();
        self.on_disk(move || {
            // Nobody waits any more if the far end has gone; its blob is then named by nobody.
            writer.finish(move |result| drop(synced.send(result)));
            Ok(())
        })
        .await?;
        match durable.await {
            Ok(result) => result.map_err(refused),
            Err(_) => Err(busy()),
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refused> {
        match self.pool.run(work).await {
            Ok(result) => result.map_err(refused),
            Err(_) => Err(busy()),
        }
    }
}

/// A body of a known length, in blocks.
struct Source {
    body: Incoming,
    left: u64,
    /// What came in one piece with the block before.
    rest: Bytes,
    ends: Instant,
}

impl Source {
    fn new(body: Incoming, length: u64) -> Source {
        let seconds = length / BYTES_SECOND_MIN;
        let ends = Instant::now() + Duration::from_millis(UPLOAD_MS) + Duration::from_secs(seconds);
        Source { body, left: length, rest: Bytes::new(), ends }
    }

    /// The next block: full, or all that is left.
    async fn block(&mut self) -> Result<Vec<u8>, Refused> {
        let wanted = self.left.min(BLOCK_BYTES as u64) as usize;
        let mut block = Vec::with_capacity(wanted);
        while block.len() < wanted {
            if self.rest.is_empty() {
                self.rest = self.piece().await?.ok_or_else(|| cut_short(self.left))?;
            }
            let piece = self.rest.split_to(self.rest.len().min(wanted - block.len()));
            block.extend_from_slice(&piece);
        }
        self.left -= block.len() as u64;
        Ok(block)
    }

    /// The length was reached; over HTTP/2 more could still come.
    async fn end(&mut self) -> Result<(), Refused> {
        while self.rest.is_empty() {
            match self.piece().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(()),
            }
        }
        Err((
            400,
            Refusal::because(RefusalCode::Malformed, "The file is longer than it was said to be."),
        ))
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Refused> {
        let slow = || (408, Refusal::because(RefusalCode::Busy, "The file came too slowly."));
        let silent = timeout(Duration::from_millis(SILENT_MS), self.body.frame());
        match timeout_at(self.ends, silent).await {
            Ok(Ok(None)) => Ok(None),
            // Trailers say nothing about a file.
            Ok(Ok(Some(Ok(frame)))) => Ok(Some(frame.into_data().unwrap_or_default())),
            Ok(Ok(Some(Err(_)))) => Err(cut_short(self.left)),
            Ok(Err(_)) | Err(_) => Err(slow()),
        }
    }
}

impl Underway {
    fn enter(self: &Arc<Underway>, holder: Holder) -> Result<Place, Refused> {
        let mut underway = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = underway.values().sum();
        let own = underway.entry(holder).or_default();
        if *own < UPLOADS_HOLDER_MAX && all < UPLOADS_MAX {
            *own += 1;
            return Ok(Place { underway: self.clone(), holder });
        }
        if *own == 0 {
            underway.remove(&holder);
            return Err((503, Refusal::after(RefusalCode::Busy, AGAIN_MS)));
        }
        Err((429, Refusal::after(RefusalCode::Throttled, AGAIN_MS)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut underway = self.underway.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = underway.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                underway.remove(&self.holder);
            }
        }
    }
}

fn length(headers: &HeaderMap) -> Result<u64, Refused> {
    let malformed = |why| (400, Refusal::because(RefusalCode::Malformed, why));
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Err((411, Refusal::because(RefusalCode::Malformed, "Say Content-Length.")));
    };
    if values.next().is_some() {
        return Err(malformed("Content-Length stands twice."));
    }
    let digits = value.to_str().ok().filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|it| it.parse::<u64>().ok()) {
        None => Err(malformed("Content-Length is no number.")),
        Some(0) => Err(malformed("The file is empty.")),
        Some(length) if length > UPLOAD_BYTES_MAX => {
            let why = format!("A file has at most {UPLOAD_BYTES_MAX} bytes.");
            Err((413, Refusal::because(RefusalCode::TooLarge, why)))
        }
        Some(length) => Ok(length),
    }
}

fn cut_short(left: u64) -> Refused {
    let why = format!("The file ended {left} bytes before its end.");
    (400, Refusal::because(RefusalCode::Malformed, why))
}

fn busy() -> Refused {
    (503, Refusal::after(RefusalCode::Busy, AGAIN_MS))
}

/// A full disk keeps its name, and so does a store that is only read; anything else of the disk is the
/// operator's to read.
fn refused(error: Error) -> Refused {
    let code = match error {
        Error::Full => RefusalCode::Full,
        Error::ReadOnly { .. } | Error::Corrupt { .. } => RefusalCode::ReadOnly,
        error => {
            tracing::error!(%error, "an upload could not be kept");
            return busy();
        }
    };
    (status_of(code), Refusal::after(code, AGAIN_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_holder_and_in_all() {
        let underway = Arc::<Underway>::default();
        let device = |n: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_le_bytes());
            Holder::Device(id)
        };
        let mut held: Vec<_> =
            (0..UPLOADS_HOLDER_MAX).map(|_| underway.enter(device(0)).unwrap()).collect();
        assert_eq!(underway.enter(device(0)).err().unwrap().0, 429);
        held.pop();
        held.push(underway.enter(device(0)).unwrap());
        for n in 1.. {
            match underway.enter(device(n)) {
                Ok(place) => held.push(place),
                Err((status, _)) => {
                    assert_eq!((status, held.len()), (503, UPLOADS_MAX));
                    break;
                }
            }
        }
        held.clear();
        assert!(underway.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_length_is_said_once_and_within_the_limit() {
        let status = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers
                    .append(header::CONTENT_LENGTH, header::HeaderValue::from_str(value).unwrap());
            }
            length(&headers).map_or_else(|(status, _)| status, |_| 200)
        };
        let cap = |n: i64| (UPLOAD_BYTES_MAX as i64 + n).to_string();
        assert_eq!(status(&[&cap(-1)]), 200);
        assert_eq!(status(&[&cap(0)]), 200);
        assert_eq!(status(&[&cap(1)]), 413);
        assert_eq!(status(&["18446744073709551615"]), 413);
        for bad in ["0", "-1", "+1", "1.0", "0x10", " ", "18446744073709551616"] {
            assert_eq!(status(&[bad]), 400, "{bad:?}");
        }
        assert_eq!(status(&[]), 411);
        assert_eq!(status(&["1", "1"]), 400);
    }
}
