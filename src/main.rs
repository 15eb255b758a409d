//! Lodge.
#![allow(unreachable_pub, reason = "in a binary `pub` marks the face of a room")]

mod console;
mod desk;
fn main() {}
