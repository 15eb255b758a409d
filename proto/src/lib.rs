//! The language of Lodge: what a client and a server may say to each other, and in which order.
//!
//! Nothing here opens a socket, reads a clock or draws a random number; those are arguments.
//! Read in this order:

pub mod limits;
pub mod refusal;
mod wire;

pub mod frame;

pub mod codec;
pub mod json;

pub mod batch;

pub mod counters;

pub mod client;
pub mod session;

pub mod describe;
pub mod generate;

pub use batch::{Batch, Encoding};
pub use frame::{Down, Up};
pub use refusal::{Act, Refusal, RefusalCode};
pub use wire::{ConversationHandle, Epoch, Grown, Id, Malformed, PersonHandle, Ref};

/// The version of the language, the first byte of HELLO's body.
pub const VERSION: u8 = 1;
/// WebSocket subprotocol of the binary encoding.
pub const SUBPROTOCOL_BINARY: &str = "lodge.v1";
/// WebSocket subprotocol of the readable twin.
pub const SUBPROTOCOL_JSON: &str = "lodge.v1.json";
