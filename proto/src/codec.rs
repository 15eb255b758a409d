//! The binary encoding: a batch is frames, each `[length: varint][opcode: u8][body]`.
//!
//! Invariants: a frame is read inside its declared length and cannot see the next one; what follows the
//! last field that this build knows is skipped, because frames grow at their end (kinds of drafts and
//! entries do not: a richer one gets a number of its own). After an error nothing more is read.

use std::marker::PhantomData;

use crate::frame::{Down, FrameSet, Up};
use crate::limits::{BATCH_BYTES_MAX, BATCH_FRAMES_MAX};
use crate::wire::{Input, Malformed, put_varint};

/// The frames of a batch that a client sent, in order; at most `BATCH_FRAMES_MAX` of them.
pub fn decode_up(batch: &[u8]) -> Decoder<'_, Up<'_>> {
    Decoder::new(batch, BATCH_FRAMES_MAX)
}

/// The frames of a batch that a server sent, in order.
pub fn decode_down(batch: &[u8]) -> Decoder<'_, Down<'_>> {
    Decoder::new(batch, usize::MAX)
}

/// Appends one frame with its length before it.
pub fn encode<'a>(frame: &impl FrameSet<'a>, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(0);
    frame.put(out);
    let length = out.len().saturating_sub(start + 1);
    // Most frames are shorter than 128 bytes and their length fits the byte that was left free.
    let mut prefix = Vec::with_capacity(3);
    put_varint(length as u64, &mut prefix);
    out.splice(start..=start, prefix);
}

/// Reads frames one after the other out of a batch, borrowing from it.
#[derive(Debug, Clone)]
pub struct Decoder<'a, F> {
    input: Input<'a>,
    frames_left: usize,
    /// The rule that was broken before the first frame, or None.
    broken: Option<Malformed>,
    frames: PhantomData<F>,
}

impl<'a, F> Decoder<'a, F> {
    fn new(batch: &'a [u8], frames_max: usize) -> Decoder<'a, F> {
        let broken = (batch.len() > BATCH_BYTES_MAX).then_some(Malformed::BatchTooLarge);
        Decoder { input: Input::new(batch), frames_left: frames_max, broken, frames: PhantomData }
    }
}

impl<'a, F: FrameSet<'a>> Decoder<'a, F> {
    /// The next frame, or None for one that may be skipped.
    fn frame(&mut self) -> Result<Option<F>, Malformed> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.frames_left = self.frames_left.checked_sub(1).ok_or(Malformed::TooManyFrames)?;
        let mut frame = Input::new(self.input.counted()?);
        let opcode = frame.byte().map_err(|_| Malformed::EmptyFrame)?;
        F::take(opcode, &mut frame)
    }
}

impl<'a, F: FrameSet<'a>> Iterator for Decoder<'a, F> {
    type Item = Result<F, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.input.is_empty() {
            match self.frame() {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(why) => {
                    self.input = Input::new(&[]);
                    return Some(Err(why));
                }
            }
        }
        None
    }
}
