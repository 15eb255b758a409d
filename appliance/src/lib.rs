//! The product in its box: what the server carries along so that one file is the whole installation.
//!
//! - [`asset`]: the web bundle (widget and console), compiled in.
//! - [`trust`]: whether a stranger's browser would accept the address that visitors type.
//!
//! Nothing here reads a file, a clock or a socket at run time.

mod bundle;
mod trust;

pub use bundle::{Asset, asset, assets};
pub use trust::{Certificate, Trust, Trusted, Words, trust};
