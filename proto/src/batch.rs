//! A batch that is being written, in either encoding: what goes out as one WebSocket message.

use crate::codec;
use crate::frame::FrameSet;
use crate::json;
use crate::limits::BATCH_BYTES_FULL;

/// How frames are spelled on a connection; agreed by the WebSocket subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Binary,
    Json,
}

impl Encoding {
    /// The encoding of a subprotocol that was asked for, if it is one of ours.
    pub fn of_subprotocol(name: &str) -> Option<Encoding> {
        match name {
            crate::SUBPROTOCOL_BINARY => Some(Encoding::Binary),
            crate::SUBPROTOCOL_JSON => Some(Encoding::Json),
            _ => None,
        }
    }

    pub fn subprotocol(self) -> &'static str {
        match self {
            Encoding::Binary => crate::SUBPROTOCOL_BINARY,
            Encoding::Json => crate::SUBPROTOCOL_JSON,
        }
    }
}

/// Frames that leave together. An empty batch holds no memory.
#[derive(Debug)]
pub struct Batch {
    encoding: Encoding,
    bytes: Vec<u8>,
}

impl Batch {
    pub fn new(encoding: Encoding) -> Batch {
        Batch { encoding, bytes: Vec::new() }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub fn push<'a>(&mut self, frame: &impl FrameSet<'a>) {
        match self.encoding {
            Encoding::Binary => codec::encode(frame, &mut self.bytes),
            Encoding::Json => {
                self.bytes.push(if self.bytes.is_empty() { b'[' } else { b',' });
                json::encode(frame, &mut self.bytes);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Time to send: whatever frame comes next might not fit any more.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES_FULL
    }

    /// The message that goes on the wire; the batch is empty afterwards.
    pub fn take(&mut self) -> Vec<u8> {
        if self.encoding == Encoding::Json && !self.bytes.is_empty() {
            self.bytes.push(b']');
        }
        std::mem::take(&mut self.bytes)
    }
}
