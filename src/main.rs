//! Lodge, the private front desk.
#![allow(unreachable_pub, reason = "in a binary `pub` marks the face of a room")]
#![allow(dead_code)]
mod access;
mod bell;
mod config;
mod console;
mod desk;
mod lens;
mod limits;
mod signal;
fn main() {}
