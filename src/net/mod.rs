//! The sockets: the only files that name hyper and fastwebsockets.

pub mod guard;
pub mod listener;
pub mod peer;
pub mod stream;
pub mod tls;
pub mod websocket;
