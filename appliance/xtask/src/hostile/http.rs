//! Requests that are wrong, too large or too slow.

use super::Ground;
use crate::run::Done;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What begins and never goes on.
pub(super) const SLOW: [(&str, &[u8]); 5] = [
    ("nothing at all", b""),
    ("half a request line", b"GET /heal"),
    ("half a head", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: "),
    (
        "half a body",
        b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nX-Lodge: 1\r\nContent-Type: application/json\r\n\
          Content-Length: 100\r\n\r\n{",
    ),
    ("half a greeting of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM"),
];

/// Everything that comes back for `bytes`, to the end of the connection.
pub(super) fn exchange(to: SocketAddr, bytes: &[u8]) -> Done<Vec<u8>> {
    let failed = |error: std::io::Error| format!("{to}: {error}");
    let mut stream = TcpStream::connect(to).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    for done in [sent, read.map(drop)] {
        match done {
            // It was refused before all of it was read.
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            done => done.map_err(failed)?,
        }
    }
    Ok(answer)
}

/// A connection on which nothing goes on ends.
pub(super) fn is_let_go(to: SocketAddr, bytes: &[u8]) -> Done {
    exchange(to, bytes).map(drop)
}

/// One answer, a refusal; and what was hidden behind it is not answered.
fn is_refused(to: SocketAddr, request: &[u8]) -> Done {
    let answer = exchange(to, request)?;
    let answers = answer.windows(9).filter(|it| *it == b"HTTP/1.1 ").count();
    let refused = answer.is_empty() || (answers == 1 && answer.starts_with(b"HTTP/1.1 4"));
    if refused && !answer.windows(6).any(|it| it == b"alive\n") {
        return Ok(());
    }
    Err(format!(
        "{}\nwas answered by\n{}",
        String::from_utf8_lossy(request),
        String::from_utf8_lossy(&answer)
    ))
}

/// Where one request ends and the next begins is never a matter of opinion.
pub(super) fn requests(ground: &Ground) -> Done {
    let to = ground.to;
    let hidden = format!("GET /healthz HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: 4e0\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length : 4\r\n",
        " Content-Length: 4\r\n",
        "A: b\r\n folded\r\n",
        "A: b\0c\r\n",
        "A\0: b\r\n",
        "A b: c\r\n",
        ": b\r\n",
        "Host: two\r\n",
    ] {
        let start = "POST /api/v1/login HTTP/1.1\r\n";
        let request = format!("{start}Host: {to}\r\n{head}\r\n0\r\n\r\n{hidden}");
        is_refused(to, request.as_bytes())?;
    }
    for chunks in
        ["ffffffffffffffff1\r\nx", "-1\r\n", "5;\0\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n"]
    {
        let request = format!(
            "POST /api/v1/login HTTP/1.1\r\nHost: {to}\r\nX-Lodge: 1\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{hidden}"
        );
        is_refused(to, request.as_bytes())?;
    }
    for wrong in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET\0/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET  /healthz  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xff\xff\xff\r\n\r\n",
    ] {
        is_refused(to, wrong)?;
    }
    Ok(())
}

/// A path leads where it says and nowhere else.
pub(super) fn paths(ground: &Ground) -> Done {
    for path in [
        "/../etc/passwd",
        "/widget/../../etc/passwd",
        "/widget/%2e%2e/%2e%2e/etc/passwd",
        "/widget/..%2f..%2fetc%2fpasswd",
        "/widget/%252e%252e%252fetc",
        "/widget/%c0%ae%c0%ae/etc/passwd",
        "/widget/%ff",
        "/widget/%00",
        "/widget/a%0d%0aSet-Cookie:x",
        "/widget/..;/x",
        "/widget/\\..\\x",
        "/%zz",
        "/%",
        "//healthz",
        "/healthz/..",
        "/api/v1/me?a=1&a=2",
        "/api/v1/files/AAECAwQFBgcICQoLDA0ODw/1/1",
        "/chat/nobody",
        "http://other.example/healthz",
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", ground.to);
        is_refused(ground.to, request.as_bytes())?;
    }
    Ok(())
}

pub(super) fn large_heads(ground: &Ground) -> Done {
    let to = ground.to;
    let get = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{more}\r\n")
    };
    let many: String = (0..100).map(|nth| format!("A-{nth}: 1\r\n")).collect();
    let questions: String = (0..100_000).map(|nth| format!("a{nth}&")).collect();
    for request in [
        get(&format!("/{}", "x".repeat(100_000)), ""),
        get(&format!("/healthz?{questions}"), ""),
        get("/healthz", &format!("A: {}\r\n", "x".repeat(100_000))),
        get("/healthz", &format!("{}: x\r\n", "a".repeat(100_000))),
        get("/healthz", &many),
        get("/healthz", &"A: 1\r\n".repeat(10_000)),
    ] {
        is_refused(to, request.as_bytes())?;
    }
    let body = format!("{{\"login\":\"{}\"}}", "x".repeat(70_000));
    let head = format!(
        "POST /api/v1/login HTTP/1.1\r\nHost: {to}\r\nX-Lodge: 1\r\nContent-Type: application/json\r\n\
         Connection: close\r\n"
    );
    is_refused(to, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}
