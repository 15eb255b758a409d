//! Files that are too long, break off, or say that they are something else.

use super::{Ground, http::exchange, visitor};
use crate::run::Done;
use serde_json::Value;
use std::{io::Write as _, net::TcpStream, thread, time::Duration};

const CAP: usize = 25 * 1024 * 1024;
/// What the console and the widget draw.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const BROKEN_BYTES: usize = 1 << 20;
/// How often a place is asked for again while those of broken uploads are given back.
const ATTEMPTS: u32 = 200;

pub(super) fn uploads(ground: &Ground) -> Done {
    let token = visitor::token(ground.to, &ground.app, 'P')?;
    let post = |mime: &str, length: usize| {
        format!(
            "POST /api/v1/uploads?app={} HTTP/1.1\r\nHost: {to}\r\nOrigin: http://{to}\r\n\
             Authorization: Bearer {token}\r\nContent-Type: {mime}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n",
            ground.app,
            to = ground.to
        )
    };
    let send = |mime: &str, length: usize, body: &[u8]| {
        let answer = exchange(ground.to, &[post(mime, length).as_bytes(), body].concat())?;
        taken(&answer)
    };
    for tenth in 0..10 {
        let mut stream = TcpStream::connect(ground.to).map_err(|error| error.to_string())?;
        let body = vec![7; BROKEN_BYTES / 10 * tenth];
        let sent = stream.write_all(post("text/plain", BROKEN_BYTES).as_bytes());
        // A fifth at a time is refused by its head, and then nobody takes the body.
        let _ = sent.and_then(|()| stream.write_all(&body));
    }
    // Their places are free again, however far they had come.
    let mut attempts = 0;
    while send("text/plain", 5, b"after")?.0 != 201 {
        attempts += 1;
        if attempts > ATTEMPTS {
            return Err("uploads that broke off keep their places".to_owned());
        }
        thread::sleep(Duration::from_millis(50));
    }
    for (length, status) in [(CAP - 1, 201), (CAP, 201), (CAP + 1, 413), (0, 400)] {
        // What is too long is refused by its head, before a byte of it is sent.
        let body = vec![7; if status == 201 { length } else { 0 }];
        let (said, _) = send("application/octet-stream", length, &body)?;
        if said != status {
            return Err(format!("{length} bytes were answered by {said}, not {status}"));
        }
    }
    for (claimed, body) in [
        ("image/png", &b"<script>alert(1)</script>"[..]),
        ("text/html", b"<!doctype html><script>alert(1)</script>"),
        ("image/svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"x\"/>"),
        ("image/gif", b"<!-- GIF89a --><script>alert(1)</script>"),
        ("image/gif", b"GIF89a"),
        ("image/png", b"\x89PNG\r\n\x1a\n<script>alert(1)</script>"),
        ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("image/jpeg", b"\xff\xd8\xff\xe0\0\x02\xff\xd9<script>alert(1)</script>"),
        ("image/webp", b"RIFF\0\0\0\0WEBPVP8X"),
        ("application/xhtml+xml", b"<?xml version=\"1.0\"?><html/>"),
        ("image/png; charset=\"", b"x"),
    ] {
        let (status, mime) = send(claimed, body.len(), body)?;
        // None of it is a picture, whatever it calls itself, so no page will ever draw it.
        if status != 201 || PICTURES.contains(&mime.as_str()) {
            let body = String::from_utf8_lossy(body);
            return Err(format!("{body:?} as {claimed}: {status}, taken as {mime}"));
        }
    }
    Ok(())
}

/// The status of an answer, and the type that an upload was found to be.
fn taken(answer: &[u8]) -> Done<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("an upload was answered by {text:?}"))?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    Ok((status, body["mime"].as_str().unwrap_or_default().to_owned()))
}
