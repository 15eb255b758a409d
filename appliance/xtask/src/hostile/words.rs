//! What a client may say in frames that are whole: words of the session that are wrong, texts that try
//! things, tokens that are nearly right, and one who talks and never listens.

use super::{
    Ground,
    http::exchange,
    socket::{Heard, Socket, frame},
    visitor::{self, draft, frames},
};
use crate::run::Done;
use serde_json::{Value, json};
use std::time::Duration;

/// What must come back.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// REFUSED with this number, and a close code.
    Refused(u64),
    /// The close code alone: the frame was not even a message.
    Closed(u16),
    /// SETTLED that refuses with this number; the connection goes on.
    Settled(u64),
    /// Nothing bad: the connection goes on.
    Goes,
}

const NOBODYS: &str = "AAECAwQFBgcICQoLDA0ODw";

pub(super) fn refused(ground: &Ground) -> Done {
    use Expect::{Closed, Goes, Refused, Settled};
    let asked = |text: &str| draft(1, text).replace("\"mine\"", &format!("\"{NOBODYS}\""));
    let page = |limit: &str| {
        format!(
            r#"[{{"op":"page","request":1,"conversation":"mine","lane":"public","before":0,"limit":{limit}}}]"#
        )
    };
    let ping = |nonce: &str| format!(r#"[{{"op":"ping","nonce":{nonce}}}]"#);
    let cases: Vec<(&str, String, Expect)> = vec![
        ("no JSON", "{".into(), Refused(4000)),
        ("an object", "{}".into(), Refused(4000)),
        ("numbers for frames", "[1]".into(), Refused(4000)),
        ("an op that is a number", r#"[{"op":7}]"#.into(), Refused(4000)),
        ("no op", "[{}]".into(), Refused(4000)),
        ("an unknown op", r#"[{"op":"nope"}]"#.into(), Refused(4010)),
        ("an op of the server", r#"[{"op":"synced","cursor":1}]"#.into(), Refused(4010)),
        ("lists in lists", "[".repeat(60_000), Refused(4000)),
        ("a key twice", r#"[{"op":"ping","nonce":1,"nonce":2}]"#.into(), Refused(4000)),
        ("1e400", ping("1e400"), Refused(4000)),
        ("minus nothing", ping("-0"), Refused(4000)),
        ("a fraction", ping("1.5"), Refused(4000)),
        ("2^53", ping("9007199254740992"), Refused(4000)),
        ("2^53 - 1", ping("9007199254740991"), Goes),
        ("half a character", ping("1").replace('1', r#""\ud800""#), Refused(4000)),
        ("an object for a string", draft(1, "x").replace(r#""x""#, "{}"), Refused(4000)),
        ("a second HELLO", visitor::hello('X', 1 << 40, "x"), Refused(4010)),
        ("a handle that was never given", draft(1, "x").replace("\"mine\"", "999"), Refused(4010)),
        ("513 frames", format!("[{}]", vec![r#"{"op":"pong","nonce":1}"#; 513].join(",")), Refused(4012)),
        ("a page of nothing", page("0"), Refused(4010)),
        ("a page of 101", page("101"), Refused(4010)),
        ("a page of 100", page("100"), Goes),
        ("a list without an end", format!("[{}]", "0,".repeat(50_000)), Closed(1009)),
        ("an op to be skipped", r#"[{"op":"+new","x":[1,{"y":null}]}]"#.into(), Goes),
        ("an empty batch", "[]".into(), Goes),
        (
            "a mark beyond the end",
            r#"[{"op":"mark","conversation":"mine","delivered":9007199254740991,"read":9007199254740991}]"#.into(),
            Goes,
        ),
        (
            "a gap beyond the end",
            r#"[{"op":"gap","conversation":"mine","lane":"public","have":9007199254740991}]"#.into(),
            Goes,
        ),
        ("a foreign conversation", asked("x"), Settled(4003)),
        ("a page of a foreign conversation", page("1").replace("mine", NOBODYS), Goes),
        ("typing to nobody", format!(r#"[{{"op":"typing","conversation":"{NOBODYS}","on":true}}]"#), Goes),
        ("the staff's lane", draft(1, "x").replace("public", "staff"), Settled(4004)),
        ("counter 0", draft(0, "x"), Settled(4000)),
        ("a counter far ahead", draft(1 << 40, "x").replace(r#""settled":1099511627776"#, r#""settled":1"#), Settled(2003)),
        ("no text", draft(1, ""), Settled(4002)),
        ("white space", draft(1, " \n\t "), Settled(4002)),
        ("16 KiB and a byte", draft(1, &"x".repeat(16 * 1024 + 1)), Settled(4001)),
        (
            "a file that is not there",
            draft(1, "x").replace(r#"{"kind":"text","text":"x"}"#, r#"{"kind":"file","upload":"x","name":"x","caption":""}"#),
            Settled(4005),
        ),
        ("a kind of tomorrow", draft(1, "x").replace(r#"{"kind":"text","text":"x"}"#, r#"{"kind":77,"bytes":""}"#), Settled(4006)),
    ];
    for (nth, (name, batch, expect)) in cases.into_iter().enumerate() {
        // A device of its own for each, so that no counter is in the way of another's.
        let letter = LETTERS.chars().nth(nth).ok_or("there are more cases than letters")?;
        let mut socket = visitor::sit(ground.to, &ground.app, letter, 1)?;
        socket.text(&batch)?;
        answered(&mut socket, expect).map_err(|why| format!("{name}: {why}"))?;
    }
    for (name, first, payload, expect) in [
        ("bytes that are no UTF-8, as text", 0x81, &b"[\"\xff\"]"[..], Closed(1007)),
        ("bytes that are no UTF-8, as bytes", 0x82, b"[\"\xff\"]", Refused(4000)),
    ] {
        let mut socket = visitor::sit(ground.to, &ground.app, '-', u64::from(first))?;
        socket.raw(&frame(first, payload))?;
        answered(&mut socket, expect).map_err(|why| format!("{name}: {why}"))?;
    }
    for batch in ["[]", r#"[{"op":"ping","nonce":1}]"#] {
        let mut socket = Socket::open(ground.to, &ground.app)?;
        socket.text(batch)?;
        answered(&mut socket, Refused(4010))
            .map_err(|why| format!("{batch} before HELLO: {why}"))?;
    }
    Ok(())
}

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789BDEGHIJKLMNOPQRTUVYZ";

fn answered(socket: &mut Socket, expect: Expect) -> Done {
    if matches!(expect, Expect::Goes | Expect::Settled(_)) {
        socket.text(r#"[{"op":"ping","nonce":41}]"#)?;
    }
    let (mut settled, mut refused) = (None, None);
    loop {
        let heard = match socket.next()? {
            Heard::Text(text) => text,
            Heard::Close(code) => {
                return match (expect, refused) {
                    (Expect::Closed(expected), None) if code == expected => Ok(()),
                    (Expect::Refused(expected), Some(number)) if number == expected => Ok(()),
                    _ => Err(format!("refused {refused:?}, closed with {code}, not {expect:?}")),
                };
            }
            other => return Err(format!("{other:?}, not {expect:?}")),
        };
        let batch: Value = serde_json::from_str(&heard).map_err(|error| error.to_string())?;
        for frame in batch.as_array().into_iter().flatten() {
            match frame["op"].as_str() {
                Some("refused") => refused = frame["code"].as_u64(),
                Some("settled") => settled = frame["outcome"]["code"].as_u64(),
                Some("pong") if frame["nonce"] == 41 => {}
                _ => continue,
            }
        }
        let gone_on = batch.as_array().into_iter().flatten().any(|frame| frame["nonce"] == 41);
        match expect {
            Expect::Goes if gone_on => return Ok(()),
            Expect::Settled(expected) if settled == Some(expected) => return Ok(()),
            Expect::Settled(_) if settled.is_some() => {
                return Err(format!("settled with {settled:?}, not {expect:?}"));
            }
            _ => {}
        }
    }
}

/// Whatever a text holds, it comes back as it was, and as nothing else.
pub(super) fn texts(ground: &Ground) -> Done {
    let long = "x".repeat(16 * 1024);
    let combining = format!("a{}", "\u{301}".repeat(8_000));
    let said = [
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "\u{202e}gpj.exe\u{202c}",
        "\u{1b}]0;owned\u{7}\u{1b}[31m",
        "a\0b",
        "<script>alert(1)</script><img src=x onerror=alert(1)>",
        "{{7*7}} ${7*7} <%= 7*7 %> =HYPERLINK(\"x\")",
        "[x](javascript:alert(1)) data:text/html,x",
        "\u{e0041}\u{feff}\u{2028}",
        "\"]}],[{\"op\":\"bye\"}]",
        "\\ud800",
        "\r\n\r\nHTTP/1.1 200 OK\r\n",
        &combining,
        &long,
    ];
    let mut socket = visitor::sit(ground.to, &ground.app, '_', 1)?;
    let mut seen: Vec<String> = Vec::new();
    for (nth, text) in said.iter().enumerate() {
        socket.text(&draft(nth as u64 + 1, text))?;
        while seen.len() <= nth {
            for frame in frames(&mut socket)? {
                if frame["op"] == "entry" && frame["body"]["kind"] == "text" {
                    seen.push(frame["body"]["text"].as_str().unwrap_or_default().to_owned());
                } else if frame["outcome"]["kind"] == "refused" {
                    return Err(format!("{text:?}: {frame}"));
                }
            }
        }
        if seen.last().map(String::as_str) != Some(text) {
            return Err(format!("{text:?} came back as {:?}", seen.last()));
        }
    }
    Ok(())
}

/// Another letter anywhere in a token, one letter more or less, and it is nobody's.
pub(super) fn tokens(ground: &Ground) -> Done {
    let token = visitor::token(ground.to, &ground.app, 'T')?;
    let mut wrong = vec![String::new(), format!("{token}A"), token.to_lowercase()];
    wrong.push(token.get(1..).unwrap_or_default().to_owned());
    for (at, letter) in token.char_indices() {
        let other = if letter == 'A' { 'B' } else { 'A' };
        let (before, after) = (token.get(..at), token.get(at + 1..));
        wrong.push(format!("{}{other}{}", before.unwrap_or_default(), after.unwrap_or_default()));
    }
    for (nth, wrong) in wrong.iter().enumerate() {
        let mut socket = Socket::open(ground.to, &ground.app)?;
        socket.text(&visitor::hello('T', nth as u64 + 1, wrong))?;
        answered(&mut socket, Expect::Refused(3001)).map_err(|why| format!("{wrong}: {why}"))?;
    }
    // The right token on another device is nobody's either.
    let mut socket = Socket::open(ground.to, &ground.app)?;
    socket.text(&visitor::hello('U', 1, &token))?;
    answered(&mut socket, Expect::Refused(3001))
}

/// Logging out ends the sockets of that session, at once, and no others.
pub(super) fn ended_session(ground: &Ground) -> Done {
    let post = |path: &str, cookie: &str, body: &Value| {
        let (to, body) = (ground.to, body.to_string());
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: {to}\r\nOrigin: http://{to}\r\nX-Lodge: 1\r\n\
             Cookie: {cookie}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        let answer = exchange(to, format!("{head}{body}").as_bytes())?;
        Ok::<_, String>(String::from_utf8_lossy(&answer).into_owned())
    };
    let mut sessions = Vec::new();
    for letter in ['A', 'B'] {
        let wish = json!({ "login": ground.login, "password": ground.password });
        let answer = post("login", "none=1", &wish)?;
        let cookie = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("set-cookie").then(|| value.split(';').next())?
        });
        let cookie = cookie.ok_or_else(|| format!("no session: {answer}"))?.to_owned();
        let mut socket = Socket::open_with(ground.to, &cookie)?;
        socket.text(&visitor::hello(letter, 1, ""))?;
        visitor::synced(&mut socket)?;
        sessions.push((cookie, socket));
    }
    let [(over, ended), (_, other)] = sessions.as_mut_slice() else {
        return Err("there are two sessions".to_owned());
    };
    let out = post("logout", over, &json!({}))?;
    if !out.starts_with("HTTP/1.1 204 ") {
        return Err(format!("logging out was answered by {out}"));
    }
    answered(ended, Expect::Refused(3002))?;
    answered(other, Expect::Goes)
}

/// Asks as much as it can and never reads: what it is owed must not pile up in the server.
pub(super) fn never_reads(ground: &Ground) -> Done {
    let mut sockets = Vec::new();
    for letter in ['N', 'M', 'L'] {
        let mut socket = visitor::sit(ground.to, &ground.app, letter, 2)?;
        let text = "x".repeat(16 * 1024);
        for counter in 1..=20 {
            socket.text(&draft(counter, &text))?;
            while !frames(&mut socket)?.iter().any(|frame| frame["op"] == "settled") {}
        }
        // Each of these few bytes is owed a page of 320 KB.
        let page = r#"[{"op":"page","request":1,"conversation":"mine","lane":"public","before":0,"limit":100}]"#;
        let page = frame(0x81, page.as_bytes());
        let batches = page.repeat((32 << 20) / page.len());
        let taken = socket.fill(&batches, Duration::from_secs(1))?;
        if taken == batches.len() {
            return Err("32 MB were taken from one who reads nothing".to_owned());
        }
        sockets.push(socket);
    }
    // They are still there while somebody else comes and is served at once.
    let mut other = visitor::sit(ground.to, &ground.app, 'O', 2)?;
    answered(&mut other, Expect::Goes)?;
    drop(sockets);
    Ok(())
}
