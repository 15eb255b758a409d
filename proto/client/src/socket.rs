//! One WebSocket: batches in, batches out.
//!
//! fastwebsockets' reads are not cancel-safe, so reading has a task of its own and what it reads comes
//! through a short channel; a slow reader fills the channel, then the socket, and nothing else.

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{
    CONNECTION, COOKIE, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lodge_proto::Encoding;
use lodge_proto::limits::JSON_DOWN_BYTES_MAX;
use tokio::io::{Empty as Nothing, Join, ReadHalf, WriteHalf, empty, join, split};
use tokio::sync::mpsc;

use crate::http::Proof;
use crate::{Error, Server};

/// Batches that were read and not yet looked at.
const BATCHES_MAX: usize = 4;

type Io = TokioIo<Upgraded>;

#[derive(Debug)]
pub(crate) enum Incoming {
    Batch(Vec<u8>),
    Ping(Vec<u8>),
    /// The server closed with this code, or the connection broke: None.
    End(Option<u16>),
}

pub(crate) struct Socket {
    incoming: mpsc::Receiver<Incoming>,
    writer: WebSocket<Join<Nothing, WriteHalf<Io>>>,
    encoding: Encoding,
    reading: tokio::task::JoinHandle<()>,
}

impl Socket {
    pub(crate) async fn open(
        server: &Server,
        app: Option<&str>,
        proof: &Proof,
        encoding: Encoding,
    ) -> Result<Socket, Error> {
        let path = match app {
            Some(app) => format!("/api/v1/session?app={app}"),
            None => "/api/v1/session".to_owned(),
        };
        let mut request = Request::builder()
            .uri(path)
            .header(HOST, server.authority())
            .header(ORIGIN, format!("{}://{}", server.scheme(), server.authority()))
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "upgrade")
            .header(SEC_WEBSOCKET_KEY, handshake::generate_key())
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_PROTOCOL, encoding.subprotocol());
        if let Proof::Cookie(cookie) = proof {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let stream = server.connect().await?;
        let (socket, _) = handshake::client(&TokioExecutor::new(), request, stream)
            .await
            .map_err(|error| Error::Http(error.to_string()))?;
        let (read, write) = split(socket.into_inner());
        let (sender, incoming) = mpsc::channel(BATCHES_MAX);
        let reader = WebSocket::after_handshake(join(read, empty()), Role::Client);
        let mut writer = WebSocket::after_handshake(join(empty(), write), Role::Client);
        writer.set_writev(false);
        let reading = tokio::spawn(read_all(reader, sender));
        Ok(Socket { incoming, writer, encoding, reading })
    }

    /// The next thing that came. May be dropped while it waits.
    pub(crate) async fn receive(&mut self) -> Incoming {
        self.incoming.recv().await.unwrap_or(Incoming::End(None))
    }

    pub(crate) async fn send(&mut self, batch: Vec<u8>) -> Result<(), Error> {
        let payload = Payload::Owned(batch);
        self.write(match self.encoding {
            Encoding::Binary => Frame::binary(payload),
            Encoding::Json => Frame::text(payload),
        })
        .await
    }

    pub(crate) async fn pong(&mut self, payload: Vec<u8>) -> Result<(), Error> {
        self.write(Frame::pong(Payload::Owned(payload))).await
    }

    pub(crate) async fn close(mut self) {
        // Whether it arrives or not, the connection is over.
        let _ = self.write(Frame::close(1000, b"")).await;
    }

    async fn write(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        let written = self.writer.write_frame(frame).await;
        written.map_err(|error| Error::Http(error.to_string()))?;
        self.writer.flush().await.map_err(|error| Error::Http(error.to_string()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read_all(
    mut reader: WebSocket<Join<ReadHalf<Io>, Nothing>>,
    sender: mpsc::Sender<Incoming>,
) {
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    reader.set_max_message_size(JSON_DOWN_BYTES_MAX + 1);
    loop {
        let incoming = match reader.read_frame().await {
            // Our server never splits a message; nothing is put together here without a bound.
            Ok(frame) if !frame.fin => Incoming::End(None),
            Ok(frame) => match frame.opcode {
                OpCode::Binary | OpCode::Text => Incoming::Batch(frame.payload.to_vec()),
                OpCode::Ping => Incoming::Ping(frame.payload.to_vec()),
                OpCode::Pong => continue,
                OpCode::Close => Incoming::End(
                    frame.payload.first_chunk::<2>().map(|&code| u16::from_be_bytes(code)),
                ),
                OpCode::Continuation => Incoming::End(None),
            },
            Err(_) => Incoming::End(None),
        };
        let end = matches!(incoming, Incoming::End(_));
        if sender.send(incoming).await.is_err() || end {
            return;
        }
    }
}
