//! The same binary behind its own TLS: what is no handshake, and floods of HTTP/2, which is only spoken there.

use super::{Memory, http::exchange};
use crate::{
    house::House,
    http,
    run::Done,
    tally::Found,
    tools,
    trial::{self, Settings, Trial},
};
use std::{
    io::{Read, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// ":method: POST", ":scheme: https", ":path: /", ":authority: x".
const POST: &[u8] = &[0x83, 0x87, 0x84, 0x41, 1, b'x'];

pub(super) fn proof(house: &House) -> Done<Found> {
    tools::debian(&[("openssl", "openssl")])?;
    let binary = house.release()?;
    let to = trial::free_address()?;
    let settings = Settings { address: to, mode: "tls", public_url: "https://localhost" };
    let trial = Trial::start(&binary, &house.fresh("hostile-tls")?, &settings)?;
    let memory = Memory::watch(trial.pid())?;
    let mut found = Found::default();
    for (name, attack) in ATTACKS {
        let end = attack(to).and_then(|()| answers(to));
        found.add(Found::of(end.map_err(|why| format!("{name}: {why}"))));
    }
    found.add(Found::of(memory.bounded()));
    Ok(found)
}

type Attack = (&'static str, fn(SocketAddr) -> Done);

const ATTACKS: [Attack; 7] = [
    ("no handshake", no_handshake),
    ("frames of HTTP/2 that are none", |to| ends(to, &frame(SETTINGS, 0, 1, b"odd"))),
    ("empty pieces of a body", |to| {
        survives(
            to,
            &[frame(HEADERS, END_HEADERS, 1, POST), frame(0, 0, 1, b"").repeat(100_000)].concat(),
        )
    }),
    ("streams that are reset at once", |to| {
        let one = |nth: u32| {
            let head = frame(HEADERS, END_HEADERS | END_STREAM, nth * 2 + 1, POST);
            [head, frame(RESET, 0, nth * 2 + 1, &8_u32.to_be_bytes())].concat()
        };
        survives(to, &(0..20_000).flat_map(one).collect::<Vec<u8>>())
    }),
    ("a head without an end", |to| {
        let more = frame(
            CONTINUATION,
            0,
            1,
            &[&[0x40, 1, b'a', 0x7f, 0x81, 0x7e][..], &[b'x'; 16_000]].concat(),
        );
        ends(to, &[frame(HEADERS, 0, 1, POST), more.repeat(500)].concat())
    }),
    ("settings and pings without an end", |to| {
        survives(
            to,
            &[frame(SETTINGS, 0, 0, b""), frame(PING, 0, 0, b"12345678")].concat().repeat(20_000),
        )
    }),
    ("a window that overflows", |to| {
        ends(to, &frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2))
    }),
];

fn no_handshake(to: SocketAddr) -> Done {
    let huge = [&b"\x16\x03\x01\xff\xff"[..], &[0; 70_000]].concat();
    let noise: Vec<u8> =
        (0..100_000_u32).map(|nth| (nth.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [
        &b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
        b"\x15\x03\x03\0\x02\x02\x28",
        b"\x17\x03\x03\0\x01\0",
        b"\x80\x2e\x01\x03\x01",
        &huge,
        &noise,
    ] {
        let answer = exchange(to, bytes)?;
        if answer.windows(6).any(|it| it == b"alive\n") || answer.starts_with(b"\x16") {
            return Err(format!("{:?} was taken for a handshake", bytes.get(..8)));
        }
    }
    Ok(())
}

/// The server is there for the next one.
fn answers(to: SocketAddr) -> Done {
    match http::get_over_tls(to, "/healthz")?.status {
        200 => Ok(()),
        status => Err(format!("/healthz answers {status} afterwards")),
    }
}

/// The connection is ended for it.
fn ends(to: SocketAddr, frames: &[u8]) -> Done {
    if flood(to, frames)? { Ok(()) } else { Err("the connection was not ended".to_owned()) }
}

/// Whether it is ended for it is the server's choice, but it is there afterwards.
fn survives(to: SocketAddr, frames: &[u8]) -> Done {
    flood(to, frames).map(drop)
}

/// Sends frames behind a greeting, and a ping. Whether the connection was ended before that came back.
fn flood(to: SocketAddr, frames: &[u8]) -> Done<bool> {
    let failed = |error: std::io::Error| format!("openssl: {error}");
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-alpn", "h2", "-connect", &to.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (Some(mut stdin), Some(stdout)) = (client.stdin.take(), client.stdout.take()) else {
        return Err("openssl has no pipes".to_owned());
    };
    let greeting =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(SETTINGS, 0, 0, b"").as_slice()].concat();
    let last = frame(PING, 0, 0, b"the last");
    let sent = [greeting.as_slice(), frames, &last].concat();
    let writer = thread::spawn(move || {
        // Where the connection is ended meanwhile the rest goes nowhere.
        let _ = stdin.write_all(&sent);
        stdin
    });
    let ended = listen(stdout);
    end(client)?;
    let _ = writer.join();
    ended
}

fn end(mut client: Child) -> Done {
    let _ = client.kill();
    client.wait().map(drop).map_err(|error| format!("openssl: {error}"))
}

/// Reads frames to the answer of our last ping (false) or to the end (true).
fn listen(mut stdout: impl Read) -> Done<bool> {
    let mut heard: Vec<u8> = Vec::new();
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = stdout.read(&mut bytes).map_err(|error| format!("openssl: {error}"))?;
        if read == 0 {
            return Ok(true);
        }
        heard.extend_from_slice(bytes.get(..read).unwrap_or_default());
        while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = heard.as_slice() {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let Some(payload) = rest.get(..length) else { break };
            if *kind == GOAWAY {
                return Ok(true);
            }
            if (*kind, *flags, payload) == (PING, 1, b"the last") {
                return Ok(false);
            }
            heard.drain(..9 + length);
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
