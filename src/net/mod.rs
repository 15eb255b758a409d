//! The sockets: the only files that name hyper and fastwebsockets.

// The way in.
pub mod doors;
pub mod listener;
pub mod peer;
pub mod stream;
pub mod tls;

// HTTP.
pub mod body;
pub mod house;
pub mod http;
pub mod page;
pub mod policy;
pub mod request;

// Files.
pub mod file;
pub mod lease;
pub mod sniff;
pub mod upload;

// WebSocket.
pub mod connection;
pub mod guard;
pub mod websocket;

#[cfg(test)]
mod tests;
