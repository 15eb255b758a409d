//! What the sockets ask of the house. Each question is a plain function, so that what happens on a wire can
//! be tried without a house behind it; `serve` fills it in from the rooms.

use std::pin::Pin;
use std::sync::Arc;

use lodge_proto::batch::Encoding;
use lodge_proto::refusal::Refusal;
use lodge_storage::Blobs;

use super::body::DiskPool;
use super::lease::Holder;
use super::upload::Uploads;
use super::websocket::Socket;
use crate::console::exchange::{Answer, Asked};
use crate::desk::entry::File;
use crate::telemetry::Telemetry;

pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A connection's task, from the upgrade to its end.
pub type Serving = Box<dyn FnOnce(Socket) -> Boxed<()> + Send>;

/// Where a request comes from, for whoever judges that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    pub app: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub secure: bool,
    pub host: &'a str,
}

/// Who says to be asking: a visitor by token, an agent by cookie. An agent's cookie is only ever here
/// after the request was found to come from our own page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub app: Option<String>,
    pub bearer: Option<String>,
    pub cookie: Option<String>,
    pub peer: std::net::IpAddr,
}

/// Where a file was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub conversation: [u8; 16],
    pub lane: u8,
    pub seq: u64,
}

/// The public face of a site, as the full-page chat needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    pub name: String,
    pub origins: Vec<String>,
}

/// Answers a JSON request.
pub type Answers = dyn Fn(Asked) -> Boxed<Answer> + Send + Sync;
/// May this page use this site; without a site: is it our own?
pub type Origins = dyn Fn(&Origin<'_>) -> Result<(), Refusal> + Send + Sync;
/// The site of an AppID.
pub type Faces = dyn Fn(&str) -> Option<Face> + Send + Sync;
/// Who may upload now.
pub type Holders = dyn Fn(&Credentials) -> Result<Holder, Refusal> + Send + Sync;
/// The file at a place, for a member. May wait for the disk.
pub type Files = dyn Fn(&Credentials, Place) -> Result<File, Refusal> + Send + Sync;
/// Lets a page or an agent sit down; refuses before the upgrade.
pub type Seats = dyn Fn(&Credentials, Encoding) -> Result<Serving, Refusal> + Send + Sync;
/// Whether drafts can be taken; if not, why.
pub type Ready = dyn Fn() -> Result<(), String> + Send + Sync;
/// Further rows of /metrics: name, type, value.
pub type Rows = dyn Fn() -> Vec<(&'static str, &'static str, u64)> + Send + Sync;

pub struct House {
    pub answer: Box<Answers>,
    pub origin: Box<Origins>,
    pub face: Box<Faces>,
    pub holder: Box<Holders>,
    /// Shared, because it runs in the disk's pool.
    pub file: Arc<Files>,
    pub sit: Box<Seats>,
    pub ready: Box<Ready>,
    pub metrics: Box<Rows>,
    pub telemetry: Arc<Telemetry>,
    pub uploads: Arc<Uploads>,
    pub blobs: Blobs,
    pub disk: DiskPool,
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House").finish_non_exhaustive()
    }
}
