//! Lodge, the private front desk.
#![allow(unreachable_pub, reason = "in a binary `pub` marks the face of a room")]
#![allow(dead_code)]
mod bell;
mod config;
mod console;
mod desk;
mod lens;
mod limits;
mod net;
mod signal;
fn main() {}
