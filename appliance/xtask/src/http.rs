//! Just enough HTTP/1.1 to ask a server on this machine: one request a connection, JSON both ways.

use crate::run::Done;
use serde_json::Value;
use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

/// An answer larger than this is no answer of ours.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Done<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

pub(crate) fn get(to: SocketAddr, path: &str) -> Done<Answer> {
    ask(to, &format!("GET {path} HTTP/1.1\r\n"), &[], b"")
}

pub(crate) fn get_with(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Done<Answer> {
    ask(to, &format!("GET {path} HTTP/1.1\r\n"), headers, b"")
}

/// Through OpenSSL, whoever's certificate it is: these are servers that a test has just started.
pub(crate) fn get_over_tls(to: SocketAddr, path: &str) -> Done<Answer> {
    let failed = |error: std::io::Error| format!("openssl: {error}");
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &to.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    // Where nobody listens the client is gone already, and its output says so.
    let mut stdin = client.stdin.take();
    let _ = stdin.as_mut().map(|stdin| stdin.write_all(request.as_bytes()));
    let mut bytes = Vec::new();
    let read = client.stdout.take().map(|out| out.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes));
    drop(stdin);
    let _ = client.kill();
    client.wait().map_err(failed)?;
    read.transpose().map_err(failed)?;
    parse(&bytes).ok_or_else(|| format!("{to}: what came back is not HTTP"))
}

pub(crate) fn post(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Done<Answer> {
    ask(
        to,
        &format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n"),
        headers,
        body.to_string().as_bytes(),
    )
}

pub(crate) fn post_bytes(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Done<Answer> {
    ask(to, &format!("POST {path} HTTP/1.1\r\n"), headers, body)
}

fn ask(to: SocketAddr, start: &str, headers: &[(&str, &str)], body: &[u8]) -> Done<Answer> {
    let failed = |error: std::io::Error| format!("{to}: {error}");
    let mut stream = TcpStream::connect_timeout(&to, WAIT).map_err(failed)?;
    stream.set_read_timeout(Some(WAIT)).map_err(failed)?;
    let mut request =
        format!("{start}Host: {to}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes).ok_or_else(|| format!("{to}: what came back is not HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, length)| length.trim().parse::<usize>());
    let mut body = bytes.get(end + 4..)?.to_vec();
    if let Some(length) = length {
        let length = length.ok()?;
        if body.len() < length {
            return None; // torn: the other side died while it answered
        }
        body.truncate(length);
    }
    Some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse(b"HTTP/1.1 201 Created\r\nContent-Length: 8\r\n\r\n{\"a\": 1}")
            .expect("it is whole");
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json().expect("it is JSON")["a"], 1);
    }

    #[test]
    fn a_torn_answer_is_none() {
        for torn in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
            b"x\r\n\r\n",
        ] {
            assert!(parse(torn).is_none(), "{}", String::from_utf8_lossy(torn));
        }
    }
}
