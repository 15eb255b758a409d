//! Lodge, the private front desk.
#![allow(unreachable_pub, reason = "in a binary `pub` marks the face of a room")]
#![allow(dead_code)]
mod access;
mod bell;
mod commit;
mod config;
mod console;
mod desk;
mod follow;
mod lens;
mod limits;
mod net;
mod signal;
mod telemetry;
#[cfg(test)]
mod tidy;
fn main() {}
