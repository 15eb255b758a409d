//! Lodge's protocol for Rust programs: the client session of `lodge-proto`, given a socket, a clock and chance.
//!
//! `Talk` is one device that stays connected; `Http` makes the few calls that are not frames.

mod server;

mod http;

mod socket;

mod talk;
mod told;

pub use http::{Http, Proof, Refused, Upload};
pub use lodge_proto::client::Device;
pub use lodge_proto::frame::{Lane, PersonKind};
pub use lodge_proto::session::Target;
pub use lodge_proto::{Encoding, Id, Refusal, RefusalCode};
pub use server::{Server, Trust};
pub use talk::{Ended, Message, Settings, Talk};
pub use told::{Body, Entry, Told};

/// 16 bytes that nobody else has: a device id.
pub fn random_id() -> Result<Id, Error> {
    let mut id = [0; 16];
    chance(&mut id)?;
    Ok(id)
}

/// Why a call or a connection failed.
#[derive(Debug)]
pub enum Error {
    Io(std::io::Error),
    Http(String),
    /// The server said no, and said why.
    Refused(Refused),
}

impl std::fmt::Display for Error {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(error) => error.fmt(out),
            Error::Http(what) => out.write_str(what),
            Error::Refused(refused) => {
                write!(out, "{} ({}): {}", refused.code.number(), refused.status, refused.text)
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Error {
        Error::Http(error.to_string())
    }
}

impl From<hyper::http::Error> for Error {
    fn from(error: hyper::http::Error) -> Error {
        Error::Http(error.to_string())
    }
}

fn chance(bytes: &mut [u8]) -> Result<(), Error> {
    use ring::rand::SecureRandom as _;
    ring::rand::SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::Io(std::io::Error::other("no random bytes")))
}
