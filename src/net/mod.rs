//! The sockets: the only files that name hyper and fastwebsockets.

pub mod guard;
pub mod stream;
pub mod websocket;
