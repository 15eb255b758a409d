//! Lodge, the private front desk.
#![allow(unreachable_pub, reason = "in a binary `pub` marks the face of a room")]
#![allow(dead_code)]
mod bell;
mod commit;
mod config;
mod desk;
mod follow;
mod lens;
mod limits;
mod signal;
mod telemetry;
fn main() {}
