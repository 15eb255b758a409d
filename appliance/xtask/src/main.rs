//! Lodge.
fn main() {}
