//! A WebSocket after its upgrade: whole messages in, whole messages out.
//!
//! Invariants: every call may be cancelled at any await and called again, nothing is lost or torn by it;
//! pings are answered from within `receive`, only the newest of those that wait; while nothing is in
//! motion, neither a read nor a write buffer is held; nothing is sent after a close frame.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fastwebsockets::{Frame, OpCode, Payload};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::guard::{CONTROL_BYTES_MAX, Guard, Step, Wrong, may_travel};
use super::stream::Stream;

/// Bytes of one read; shared by all sockets of a thread.
const SCRATCH_BYTES: usize = 16 * 1024;
/// How long a good-bye may take: the close frame out, and the far end's own in.
const GOODBYE_MS: u64 = 2_000;
/// What a far end may still send after our good-bye before we stop listening.
const GOODBYE_BYTES_MAX: usize = 256 * 1024;

/// One message of the far end; it lies in the socket until the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    Binary(&'a [u8]),
    Text(&'a str),
}

/// Why there will be no further message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// With a close frame of the far end.
    Farewell(Option<u16>),
    /// The far end broke the protocol or a limit, and was told so.
    Wrong(Wrong),
    /// The connection is gone without a word.
    Lost,
    /// We said good-bye.
    Ours,
}

#[derive(Debug)]
pub struct Socket<S = Stream> {
    stream: S,
    guard: Guard,
    /// Frames on their way out, and how much of them has left.
    outgoing: Vec<u8>,
    left: usize,
    /// Payload of the newest ping that has no answer yet.
    ping: Option<Vec<u8>>,
    closed: Option<Closed>,
    /// Whether our close frame is in `outgoing` or beyond.
    said_goodbye: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `leftover` is what the HTTP layer has read beyond the request.
    pub fn new(stream: S, leftover: &[u8]) -> Socket<S> {
        let mut guard = Guard::default();
        guard.take(leftover);
        Socket {
            stream,
            guard,
            outgoing: Vec::new(),
            left: 0,
            ping: None,
            closed: None,
            said_goodbye: false,
        }
    }

    /// Waits for a message.
    pub async fn receive(&mut self) -> Result<Message<'_>, Closed> {
        let text = poll_fn(|context| self.poll_message(context)).await?;
        let bytes = self.guard.message();
        if !text {
            return Ok(Message::Binary(bytes));
        }
        // The guard has looked; a second look costs less than a promise.
        std::str::from_utf8(bytes).map(Message::Text).map_err(|_| Closed::Wrong(Wrong::NotUtf8))
    }

    /// Sends one message and flushes it. If this is cancelled, the rest leaves before whatever comes next.
    pub async fn send(&mut self, message: &[u8], binary: bool) -> io::Result<()> {
        let opcode = if binary { OpCode::Binary } else { OpCode::Text };
        self.send_frame(opcode, message).await
    }

    /// Says good-bye, waits a moment for the far end to do so too, and lets go.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.goodbye(code, reason).await;
    }

    /// As `close`, for who only borrows the socket: it is of no use afterwards.
    pub async fn goodbye(&mut self, code: u16, reason: &str) {
        self.end(Closed::Ours, code, reason);
        if self.closed == Some(Closed::Lost) {
            return;
        }
        // Waiting for the far end keeps the kernel from cutting off our own last words with a reset.
        let farewell = async {
            poll_fn(|context| self.poll_outgoing(context)).await?;
            poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?;
            let mut heard = 0;
            while heard < GOODBYE_BYTES_MAX {
                match poll_fn(|context| poll_read(&mut self.stream, context, |_| {})).await? {
                    0 => break,
                    read => heard += read,
                }
            }
            io::Result::Ok(())
        };
        // Too late or broken: it ends here anyway.
        let _ = timeout(Duration::from_millis(GOODBYE_MS), farewell).await;
    }

    async fn send_frame(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        poll_fn(|context| self.poll_outgoing(context)).await?;
        if self.closed.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.push_pong();
        self.push(opcode, payload);
        poll_fn(|context| self.poll_outgoing(context)).await
    }

    /// Whether the message that is now whole is text.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Closed>> {
        loop {
            if let Some(closed) = self.closed {
                // One attempt: who does not read our last words shall not keep us.
                let _ = self.poll_outgoing(context);
                return Poll::Ready(Err(closed));
            }
            // Nothing more is read while an answer waits, so that pings cannot pile up.
            if ready!(self.poll_outgoing(context)).is_err() {
                self.closed = Some(Closed::Lost);
                continue;
            }
            match self.guard.step() {
                Ok(Step::Message { text }) => return Poll::Ready(Ok(text)),
                Ok(Step::Ping(payload)) => self.ping = Some(payload),
                Ok(Step::Close(code)) => {
                    self.end(Closed::Farewell(code), code.unwrap_or(1000), "");
                }
                Ok(Step::More) if self.ping.is_some() => self.push_pong(),
                Ok(Step::More) => {
                    let guard = &mut self.guard;
                    let read = poll_read(&mut self.stream, context, |bytes| guard.take(bytes));
                    if !matches!(ready!(read), Ok(1..)) {
                        self.closed = Some(Closed::Lost);
                    }
                }
                Err(wrong) => self.end(Closed::Wrong(wrong), wrong.code(), wrong.reason()),
            }
        }
    }

    fn poll_outgoing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest @ [_, ..]) = self.outgoing.get(self.left..) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.left += written,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.outgoing = Vec::new();
        self.left = 0;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, closed: Closed, code: u16, reason: &str) {
        if self.closed.is_none() {
            self.closed = Some(closed);
        }
        if self.said_goodbye {
            return;
        }
        self.said_goodbye = true;
        let code = if may_travel(code) { code } else { 1011 };
        let mut payload = code.to_be_bytes().to_vec();
        let end = reason.floor_char_boundary(CONTROL_BYTES_MAX - payload.len());
        payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
        self.push(OpCode::Close, &payload);
    }

    fn push_pong(&mut self) {
        if let Some(payload) = self.ping.take() {
            self.push(OpCode::Pong, &payload);
        }
    }

    fn push(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut head = [0; 16];
        let size = Frame::new(true, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut head);
        self.outgoing.reserve(size + payload.len());
        self.outgoing.extend_from_slice(head.get(..size).unwrap_or_default());
        self.outgoing.extend_from_slice(payload);
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Reads what is there through the thread's scratch, so that a waiting socket owns no buffer.
fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut into = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(context, &mut into))?;
        take(into.filled());
        Poll::Ready(Ok(into.filled().len()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::guard::MESSAGE_BYTES_MAX;
    use super::super::guard::tests::frame;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// A socket and its far end, with `pipe` bytes between them each way.
    fn pair(pipe: usize) -> (Socket<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(pipe);
        (Socket::new(ours, b""), theirs)
    }

    /// All that the socket has sent once it is gone.
    async fn all(mut far: DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn receive_can_be_cancelled_after_every_byte() {
        let bytes = [
            frame(0x81, "第一".as_bytes()),
            frame(0x02, b"se"),
            frame(0x89, b"!"),
            frame(0x80, b"cond"),
        ]
        .concat();
        let (mut socket, mut far) = pair(4096);
        let mut seen = Vec::new();
        for byte in bytes {
            far.write_all(&[byte]).await.unwrap();
            // Polled once and dropped, as `select!` does when another branch wins.
            tokio::select! {
                biased;
                message = socket.receive() => seen.push(format!("{:?}", message.unwrap())),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(seen, ["Text(\"第一\")", "Binary([115, 101, 99, 111, 110, 100])"]);
        drop(socket);
        assert_eq!(all(far).await, [0x8a, 1, b'!'], "one pong and nothing else");
    }

    #[tokio::test]
    async fn what_http_read_too_much_is_the_first_message() {
        let (ours, _far) = duplex(64);
        let whole = frame(0x81, b"early");
        let mut socket = Socket::new(ours, &whole);
        assert_eq!(socket.receive().await, Ok(Message::Text("early")));
    }

    #[tokio::test]
    async fn a_cancelled_send_is_finished_by_the_next() {
        let (mut socket, mut far) = pair(10);
        let message = vec![b'a'; 100];
        tokio::select! {
            biased;
            _ = socket.send(&message, true) => panic!("the pipe holds ten bytes"),
            () = std::future::ready(()) => {}
        }
        let next = tokio::spawn(async move {
            socket.send(b"b", false).await.unwrap();
            socket
        });
        let mut got = vec![0; 2 + 100 + 2 + 1];
        far.read_exact(&mut got).await.unwrap();
        let expected = [&[0x82, 100][..], &message, &[0x81, 1, b'b']].concat();
        assert_eq!(got, expected);
        next.await.unwrap();
    }

    #[tokio::test]
    async fn a_flood_of_pings_costs_one_pong_and_no_memory() {
        let (mut socket, mut far) = pair(1 << 20);
        let mut flood = Vec::new();
        for n in 0..2_000u32 {
            flood.extend(frame(0x89, &n.to_be_bytes()));
        }
        flood.extend(frame(0x82, b"end"));
        far.write_all(&flood).await.unwrap();
        assert_eq!(socket.receive().await, Ok(Message::Binary(b"end")));
        drop(socket);
        let pongs = all(far).await;
        assert!(pongs.len() <= 6 * (1 + flood.len() / SCRATCH_BYTES), "{}", pongs.len());
    }

    #[tokio::test]
    async fn who_does_not_read_pongs_is_not_read() {
        let (mut socket, mut far) = pair(64);
        let mut written = 0;
        // Every write is followed by a poll of the socket; pongs of 127 bytes do not fit in the pipe.
        loop {
            let bytes = frame(0x89, &[1; 125]);
            let more = tokio::select! {
                biased;
                sent = far.write_all(&bytes) => { sent.unwrap(); true }
                _ = socket.receive() => panic!("no message was sent"),
                () = std::future::ready(()) => false,
            };
            written += 1;
            tokio::select! {
                biased;
                message = socket.receive() => panic!("{message:?}"),
                () = std::future::ready(()) => (),
            }
            if !more {
                break;
            }
            assert!(written < 100, "it reads on and on");
        }
        assert!(socket.outgoing.capacity() < 1024);
    }

    #[tokio::test]
    async fn wrong_frames_are_answered_with_their_close_code() {
        for (bytes, code) in [
            (frame(0xc1, b""), 1002),
            (vec![0x81, 0x00], 1002),
            (frame(0x81, b"\xff"), 1007),
            (frame(0x82, &vec![0; MESSAGE_BYTES_MAX + 1]), 1009),
        ] {
            let (mut socket, mut far) = pair(1 << 20);
            far.write_all(&bytes).await.unwrap();
            assert!(matches!(socket.receive().await, Err(Closed::Wrong(_))));
            // It stays so, and nothing can be sent any more.
            assert!(matches!(socket.receive().await, Err(Closed::Wrong(_))));
            assert!(socket.send(b"late", true).await.is_err());
            drop(socket);
            let answer = all(far).await;
            assert_eq!(answer.first(), Some(&0x88));
            assert_eq!(answer.get(2..4), Some(&u16::to_be_bytes(code)[..]));
            assert_eq!(answer.len(), 2 + usize::from(answer[1]), "one close frame, nothing after");
        }
    }

    #[tokio::test]
    async fn a_farewell_is_returned_once() {
        let (mut socket, mut far) = pair(4096);
        let bytes = [frame(0x88, &4001u16.to_be_bytes()), frame(0x81, b"late")].concat();
        far.write_all(&bytes).await.unwrap();
        assert_eq!(socket.receive().await, Err(Closed::Farewell(Some(4001))));
        let (goodbye, answer) = tokio::join!(socket.close(1000, "again"), async {
            let mut answer = [0; 4];
            far.read_exact(&mut answer).await.unwrap();
            all(far).await.into_iter().chain(answer).collect::<Vec<_>>()
        });
        let () = goodbye;
        assert_eq!(answer, [0x88, 2, 0x0f, 0xa1]);
    }

    #[tokio::test]
    async fn a_lost_connection_is_said_to_be_lost() {
        let (mut socket, mut far) = pair(4096);
        far.write_all(frame(0x81, b"half").split_at(7).0).await.unwrap();
        drop(far);
        assert_eq!(socket.receive().await, Err(Closed::Lost));
    }

    #[tokio::test(start_paused = true)]
    async fn goodbye_ends_even_if_the_far_end_does_not() {
        let (socket, far) = pair(4096);
        socket.close(4409, "another device is in use").await;
        let bytes = all(far).await;
        assert_eq!(bytes.get(2..4), Some(&4409u16.to_be_bytes()[..]));
    }

    #[tokio::test]
    async fn a_reason_is_cut_between_letters() {
        let (mut socket, far) = pair(4096);
        socket.end(Closed::Ours, 1005, &"长".repeat(100));
        drop(far);
        let payload = socket.outgoing.get(2..).unwrap();
        assert_eq!(payload.get(..2), Some(&1011u16.to_be_bytes()[..]), "1005 may not travel");
        assert!(payload.len() <= CONTROL_BYTES_MAX);
        std::str::from_utf8(&payload[2..]).unwrap();
    }

    #[tokio::test]
    async fn an_idle_socket_is_the_bare_stream() {
        let (mut socket, mut far) = pair(1 << 20);
        far.write_all(&frame(0x82, &[7; 5000])).await.unwrap();
        assert!(socket.receive().await.is_ok());
        socket.send(&[7; 5000], true).await.unwrap();
        tokio::select! {
            biased;
            _ = socket.receive() => panic!("nothing was sent"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(socket.outgoing.capacity(), 0);
        assert_eq!(format!("{:?}", socket.guard), format!("{:?}", Guard::default()));
        assert!(size_of::<Socket<()>>() <= 192, "{}", size_of::<Socket<()>>());
    }
}
