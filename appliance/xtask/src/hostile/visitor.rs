//! A visitor by hand: the token, HELLO, and one who behaves while others do not.

use super::socket::{Heard, Socket};
use crate::{http, run::Done};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Where these visitors are.
const PAGE: &str = "https://shop.example/cart?item=7";
const PAUSE: Duration = Duration::from_millis(5);

/// A device that is called by one letter.
pub(super) fn device(letter: char) -> String {
    format!("{letter}{}", "A".repeat(21))
}

pub(super) fn token(to: SocketAddr, app: &str, letter: char) -> Done<String> {
    let origin = format!("http://{to}");
    let asked = json!({ "device": device(letter) });
    let path = format!("/api/v1/visitor/token?app={app}");
    let answer = http::post(to, &path, &[("Origin", &origin)], &asked)?;
    let token = answer.json()?.get("token").and_then(Value::as_str).map(str::to_owned);
    token.ok_or_else(|| format!("no token: {}", String::from_utf8_lossy(&answer.body)))
}

/// A batch of nothing but HELLO.
pub(super) fn hello(letter: char, generation: u64, token: &str) -> String {
    json!([{
        "op": "hello", "version": 1, "caps": 0, "device": device(letter), "generation": generation,
        "epoch": "AAAAAAAAAAA", "cursor": 0, "last_counter": 0, "settled": 1, "token": token, "marks": [],
        "page": format!("{PAGE}#identity={token}"),
    }])
    .to_string()
}

/// Sits down: everything up to SYNCED is read.
pub(super) fn sit(to: SocketAddr, app: &str, letter: char, generation: u64) -> Done<Socket> {
    let token = token(to, app, letter)?;
    let mut socket = Socket::open(to, app)?;
    socket.text(&hello(letter, generation, &token))?;
    synced(&mut socket)?;
    Ok(socket)
}

/// Reads on to SYNCED.
pub(super) fn synced(socket: &mut Socket) -> Done {
    loop {
        if frames(socket)?.iter().any(|frame| frame["op"] == "synced") {
            return Ok(());
        }
    }
}

/// The frames of the next batch.
pub(super) fn frames(socket: &mut Socket) -> Done<Vec<Value>> {
    match socket.next()? {
        Heard::Text(text) => match serde_json::from_str(&text) {
            Ok(Value::Array(frames)) => Ok(frames),
            other => Err(format!("no batch: {other:?} in {text}")),
        },
        other => Err(format!("{other:?} instead of a batch")),
    }
}

pub(super) fn draft(counter: u64, text: &str) -> String {
    let body = json!({ "kind": "text", "text": text });
    json!([{
        "op": "draft", "counter": counter, "settled": counter, "conversation": "mine", "lane": "public",
        "body": body,
    }])
    .to_string()
}

/// Says one thing after the other, each when the one before was acknowledged, on one connection that must
/// never end; then everything acknowledged stands there once and in order. How many that were.
pub(super) fn behave(to: SocketAddr, app: &str, stop: &AtomicBool) -> Done<u64> {
    let failed = |why: String| format!("the visitor who behaves: {why}");
    let mut socket = sit(to, app, 'W', 1).map_err(failed)?;
    let (mut said, mut seen) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        said += 1;
        socket.text(&draft(said, &said.to_string())).map_err(failed)?;
        let mut settled = false;
        while !settled || seen.len() < said as usize {
            for frame in frames(&mut socket).map_err(failed)? {
                match (frame["op"].as_str(), frame["counter"].as_u64()) {
                    (Some("settled"), Some(counter)) if counter == said => {
                        if frame["outcome"]["kind"] != "accepted" {
                            return Err(failed(frame.to_string()));
                        }
                        settled = true;
                    }
                    (Some("entry"), _) if frame["body"]["kind"] == "text" => {
                        seen.push(frame["body"]["text"].as_str().unwrap_or_default().to_owned());
                    }
                    (Some("entry"), _)
                        if frame["body"]["kind"] == "opened" && frame["body"]["page"] != PAGE =>
                    {
                        return Err(failed(format!("the page came back as {frame}")));
                    }
                    (Some("refused" | "goaway" | "resync"), _) => {
                        return Err(failed(frame.to_string()));
                    }
                    _ => {}
                }
            }
        }
        thread::sleep(PAUSE);
    }
    if seen.iter().enumerate().all(|(nth, text)| *text == (nth + 1).to_string()) {
        Ok(said)
    } else {
        Err(failed(format!("of {said} texts these came back: {seen:?}")))
    }
}
