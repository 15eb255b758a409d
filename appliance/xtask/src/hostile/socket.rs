//! A WebSocket by hand, so that every bit of a frame can be wrong, and the frames that are.

use super::{Ground, visitor};
use crate::run::Done;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const MASK: [u8; 4] = [0x1f, 0x80, 0x03, 0xe7];
/// The server's bound on one message, and one more.
const TOO_LARGE: u64 = 64 * 1024 + 1;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FIN: u8 = 0x80;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    Pong,
    Close(u16),
    /// The connection ended without a word.
    End,
}

pub(super) struct Socket {
    stream: TcpStream,
    incoming: Vec<u8>,
}

impl Socket {
    /// As a page of the server's own would open it for a visitor.
    pub(super) fn open(to: SocketAddr, app: &str) -> Done<Socket> {
        Socket::upgrade(to, &format!("?app={app}"), "")
    }

    /// As the console would open it for an agent.
    pub(super) fn open_with(to: SocketAddr, cookie: &str) -> Done<Socket> {
        Socket::upgrade(to, "", &format!("Cookie: {cookie}\r\n"))
    }

    fn upgrade(to: SocketAddr, query: &str, more: &str) -> Done<Socket> {
        let failed = |error: std::io::Error| format!("{to}: {error}");
        let mut stream = TcpStream::connect(to).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let request = format!(
            "GET /api/v1/session{query} HTTP/1.1\r\nHost: {to}\r\nOrigin: http://{to}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: lodge.v1.json\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut socket = Socket { stream, incoming: Vec::new() };
        let end = loop {
            if let Some(at) = socket.incoming.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            if !socket.more()? {
                return Err("the upgrade was not answered".to_owned());
            }
        };
        let head: Vec<u8> = socket.incoming.drain(..end).collect();
        if head.starts_with(b"HTTP/1.1 101 ") {
            Ok(socket)
        } else {
            Err(format!("the upgrade was refused: {}", String::from_utf8_lossy(&head)))
        }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> Done {
        // A server that has said good-bye may be gone already; what it said is read all the same.
        match self.stream.write_all(bytes) {
            Err(error) if gone(error.kind()) => Ok(()),
            sent => sent.map_err(|error| error.to_string()),
        }
    }

    pub(super) fn text(&mut self, text: &str) -> Done {
        self.raw(&frame(FIN | TEXT, text.as_bytes()))
    }

    pub(super) fn bye(&mut self) -> Done {
        self.raw(&frame(FIN | CLOSE, &1000_u16.to_be_bytes()))
    }

    /// Writes what fits into a connection that nobody reads from; says how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8], wait: Duration) -> Done<usize> {
        self.stream.set_write_timeout(Some(wait)).map_err(|error| error.to_string())?;
        let mut left = bytes;
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if gone(error.kind()) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(bytes.len() - left.len())
    }

    /// The next thing that is no ping of the server.
    pub(super) fn next(&mut self) -> Done<Heard> {
        loop {
            while let Some((opcode, payload)) = self.whole_frame() {
                match opcode {
                    1 => return Ok(Heard::Text(String::from_utf8_lossy(&payload).into_owned())),
                    8 => {
                        let code = payload.first_chunk().map_or(1005, |it| u16::from_be_bytes(*it));
                        return Ok(Heard::Close(code));
                    }
                    9 => {}
                    10 => return Ok(Heard::Pong),
                    other => return Err(format!("the server sent a frame of opcode {other}")),
                }
            }
            if !self.more()? {
                return Ok(Heard::End);
            }
        }
    }

    /// Reads on to the good-bye.
    pub(super) fn closes(&mut self) -> Done<u16> {
        loop {
            match self.next()? {
                Heard::Close(code) => return Ok(code),
                Heard::End => return Err("it ended without a close code".to_owned()),
                _ => {}
            }
        }
    }

    fn more(&mut self) -> Done<bool> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(read) => {
                self.incoming.extend_from_slice(bytes.get(..read).unwrap_or_default());
                Ok(read > 0)
            }
            Err(error) if gone(error.kind()) => Ok(false),
            Err(error) => Err(format!("nothing was heard: {error}")),
        }
    }

    /// Frames of a server are not masked.
    fn whole_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = self.incoming.as_slice() else { return None };
        let opcode = first & 0x0f;
        let (head, length) = match second & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
            short => (2, usize::from(short)),
        };
        if self.incoming.len() < head + length {
            return None;
        }
        let payload = self.incoming.get(head..head + length)?.to_vec();
        self.incoming.drain(..head + length);
        Some((opcode, payload))
    }
}

fn gone(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

/// A frame as a client should send it.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// How a frame says its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Shortest,
    TwoBytes,
    EightBytes,
    TooLarge,
    Negative,
}

/// Every opcode, both FINs, reserved bits, masked or not, every form of the length: the answer to each is
/// known. Each is followed by a good-bye, which is answered as such where nothing was wrong.
pub(super) fn grid(ground: &Ground) -> Done {
    use Form::{EightBytes, Negative, Shortest, TooLarge, TwoBytes};
    for opcode in 0..16 {
        for reserved in [0, 1, 2, 4, 7] {
            for (fin, masked) in [(true, true), (true, false), (false, true), (false, false)] {
                for form in [Shortest, TwoBytes, EightBytes, TooLarge, Negative] {
                    let case = format!(
                        "opcode {opcode}, reserved {reserved}, fin {fin}, masked {masked}, {form:?}"
                    );
                    let mut socket = Socket::open(ground.to, &ground.app)?;
                    socket.raw(&cell(opcode, reserved, fin, masked, form))?;
                    socket.bye()?;
                    let code = socket.closes().map_err(|why| format!("{case}: {why}"))?;
                    let expected = verdict(opcode, reserved, fin, masked, form);
                    if !expected.contains(&code) {
                        return Err(format!("{case}: closed with {code}, not {expected:?}"));
                    }
                }
            }
        }
    }
    Ok(())
}

fn cell(opcode: u8, reserved: u8, fin: bool, masked: bool, form: Form) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![(if fin { FIN } else { 0 }) | reserved << 4 | opcode];
    let payload = b"[]";
    let declared =
        |code: u8, length: u64| [vec![mask_bit | code], length.to_be_bytes().to_vec()].concat();
    match form {
        Form::Shortest => bytes.push(mask_bit | 2),
        Form::TwoBytes => bytes.extend([mask_bit | 126, 0, 2]),
        Form::EightBytes => bytes.extend(declared(127, 2)),
        Form::TooLarge => bytes.extend(declared(127, TOO_LARGE)),
        Form::Negative => bytes.extend(declared(127, 1 << 63)),
    }
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(payload);
    }
    bytes
}

fn verdict(opcode: u8, reserved: u8, fin: bool, masked: bool, form: Form) -> &'static [u16] {
    let control = opcode >= 8;
    let known = matches!(opcode, 0..=2 | 8..=10);
    if reserved != 0 || !known || (control && !fin) || !masked {
        return &[1002];
    }
    match (opcode, form) {
        (0, Form::TooLarge) => &[1002, 1009],
        (1 | 2, Form::TooLarge) => &[1009],
        (1 | 2, Form::Shortest) if !fin => &[1000],
        (9 | 10, Form::Shortest) => &[1000],
        // An empty batch is no HELLO, "[]" no close code, and the rest no frame.
        _ => &[1002],
    }
}

/// HELLO in two pieces, cut at each byte, is HELLO.
pub(super) fn splits(ground: &Ground) -> Done {
    let token = visitor::token(ground.to, &ground.app, 'S')?;
    let length = frame(FIN | TEXT, visitor::hello('S', 1000, &token).as_bytes()).len();
    for cut in 1..length {
        let hello = frame(FIN | TEXT, visitor::hello('S', 1000 + cut as u64, &token).as_bytes());
        let (head, tail) = hello.split_at_checked(cut).ok_or("HELLO grew shorter")?;
        let mut socket = Socket::open(ground.to, &ground.app)?;
        socket.raw(head)?;
        socket.raw(tail)?;
        greeted(&mut socket).map_err(|why| format!("cut at {cut}: {why}"))?;
        socket.bye()?;
        socket.closes()?;
    }
    Ok(())
}

/// A message may come in pieces, pings between them; in too many it is refused.
pub(super) fn fragments(ground: &Ground) -> Done {
    let token = visitor::token(ground.to, &ground.app, 'F')?;
    for (pieces, pings, fits) in [
        (1, false, true),
        (2, true, true),
        (200, true, true),
        (256, false, true),
        (257, false, false),
    ] {
        let case = format!("{pieces} pieces, pings {pings}");
        let hello = visitor::hello('F', 1 + pieces as u64, &token);
        let size = hello.len().div_ceil(pieces).max(1);
        let mut parts: Vec<&[u8]> = hello.as_bytes().chunks(size).collect();
        parts.resize(pieces, b"");
        let mut socket = Socket::open(ground.to, &ground.app)?;
        for (nth, part) in parts.iter().enumerate() {
            let fin = if nth + 1 == pieces { FIN } else { 0 };
            socket.raw(&frame(fin | if nth == 0 { TEXT } else { 0 }, part))?;
            if pings && nth + 1 < pieces {
                socket.raw(&frame(FIN | PING, b"?"))?;
            }
        }
        let heard = if fits { greeted(&mut socket).map(|()| 1008) } else { socket.closes() };
        let code = heard.map_err(|why| format!("{case}: {why}"))?;
        if code != 1008 {
            return Err(format!("{case}: closed with {code}"));
        }
    }
    let mut socket = Socket::open(ground.to, &ground.app)?;
    socket.raw(&frame(TEXT, b"["))?;
    let endless: Vec<u8> = frame(0, b" ").repeat(20_000);
    socket.raw(&endless)?;
    match socket.closes()? {
        1008 => Ok(()),
        code => Err(format!("pieces without an end: closed with {code}")),
    }
}

/// Nothing after the good-bye counts.
pub(super) fn after_close(ground: &Ground) -> Done {
    let token = visitor::token(ground.to, &ground.app, 'C')?;
    let mut socket = Socket::open(ground.to, &ground.app)?;
    let hello = frame(FIN | TEXT, visitor::hello('C', 1, &token).as_bytes());
    socket.raw(&[frame(FIN | CLOSE, &1000_u16.to_be_bytes()), hello].concat())?;
    match socket.next()? {
        Heard::Close(1000) => {}
        other => return Err(format!("{other:?} instead of a good-bye")),
    }
    for (payload, code) in [
        (&b""[..], 1000),
        (b"\x03", 1002),
        (b"\x03\xe7", 1002),
        (b"\x03\xed", 1002),
        (b"\x13\x88", 1002),
        (b"\x0f\xa0ok", 4000),
        (b"\x03\xe8\xff", 1007),
    ] {
        let mut socket = Socket::open(ground.to, &ground.app)?;
        socket.raw(&frame(FIN | CLOSE, payload))?;
        let said = socket.closes()?;
        if said != code {
            return Err(format!("a good-bye of {payload:?} was answered by {said}, not {code}"));
        }
    }
    Ok(())
}

fn greeted(socket: &mut Socket) -> Done {
    loop {
        match socket.next()? {
            Heard::Text(text) if text.contains("\"hello_ok\"") => return Ok(()),
            Heard::Pong => {}
            other => return Err(format!("{other:?} instead of HELLO_OK")),
        }
    }
}
