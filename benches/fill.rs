//! Fills a running server with a past: N messages of visitors, over plain WebSockets, as fast as they are
//! answered. What the start bench starts again on.
//!
//! ```text
//! fill --address HOST:PORT --app APPID --messages N [--visitors N]
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a past that is not there is no bench")]
#![allow(unreachable_pub, reason = "in a program `pub` marks the face of a module")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;
use lodge_client::{
    Device, Encoding, Http, Lane, Message, Proof, Server, Settings, Talk, Target, Told, Trust,
    random_id,
};
use tokio::sync::Semaphore;

#[path = "load/texts.rs"]
mod texts;

/// Visitors who write at the same time.
const WRITING_MAX: usize = 256;

/// Writes messages into a server that runs.
#[derive(FromArgs)]
struct Fill {
    /// where it listens, without TLS
    #[argh(option)]
    address: Option<SocketAddr>,
    /// the site that is written to
    #[argh(option, default = "String::new()")]
    app: String,
    /// messages in all
    #[argh(option, default = "1_000_000")]
    messages: usize,
    /// visitors who share them, each in a conversation of their own
    #[argh(option, default = "5_000")]
    visitors: usize,
    /// what cargo says to every bench
    #[argh(switch)]
    #[allow(dead_code, reason = "only taken so that it is no error")]
    bench: bool,
}

fn main() {
    let fill: Fill = argh::from_env();
    let Some(address) = fill.address else {
        // `cargo bench` starts every bench without arguments.
        println!("there is nothing to fill: cargo xtask bench start");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(&fill, address));
}

async fn run(fill: &Fill, address: SocketAddr) {
    let texts = texts::read(None);
    say(format_args!("{} lines, of people: {}", texts.lines.len(), texts.real));
    let lines = Arc::new(texts.lines);
    let writing = Arc::new(Semaphore::new(WRITING_MAX));
    let mut visitors = tokio::task::JoinSet::new();
    for visitor in 0..fill.visitors {
        let place = Arc::clone(&writing).acquire_owned().await.expect("open");
        // The first ones write one more, so that the sum is what was asked for.
        let messages =
            fill.messages / fill.visitors + usize::from(visitor < fill.messages % fill.visitors);
        let (app, lines) = (fill.app.clone(), Arc::clone(&lines));
        visitors.spawn(async move {
            write(address, app, visitor, messages, &lines).await;
            drop(place);
        });
        if visitor % 500 == 0 {
            say(format_args!("visitor {visitor} of {} comes", fill.visitors));
        }
        while let Some(done) = visitors.try_join_next() {
            done.expect("a visitor writes to the end");
        }
    }
    while let Some(done) = visitors.join_next().await {
        done.expect("a visitor writes to the end");
    }
    say(format_args!("{} messages are settled", fill.messages));
}

/// One visitor from a loopback address of their own, from the first message to the last answer.
async fn write(
    address: SocketAddr,
    app: String,
    visitor: usize,
    messages: usize,
    lines: &[String],
) {
    let [_, _, third, fourth] = (visitor as u32 + 1).to_be_bytes();
    let from = Ipv4Addr::new(127, 1, third, fourth);
    let server = Server::new("localhost", address.port(), Trust::Plain).expect("a name");
    let server = server.at(address).from(from.into());
    let device = random_id().expect("chance");
    let token = Http::new(server.clone()).visitor(&app, &device, None).await;
    let (talk, mut told, _) = Talk::start(Settings {
        server,
        app: Some(app),
        proof: Proof::Token(token.expect("a visitor gets a token")),
        page: String::new(),
        device: Device::new(device),
        encoding: Encoding::Binary,
        retry_max: Duration::from_secs(1),
    });
    let said: Vec<String> =
        (0..messages).map(|nth| lines[(visitor * 7919 + nth) % lines.len()].clone()).collect();
    let sending = tokio::spawn(async move {
        for (tag, text) in said.into_iter().enumerate() {
            let message = Message::Text(text);
            talk.message(tag as u64, Target::Mine, Lane::Public, message).await;
        }
        // The talk ends with this, so it comes back and is kept until everything is answered.
        talk
    });
    let mut settled = 0;
    while settled < messages {
        match told.recv().await {
            Some(Told::Settled { outcome, .. }) => {
                outcome.expect("a message is taken");
                settled += 1;
            }
            Some(_) => {}
            None => panic!("the talk of visitor {visitor} ended after {settled} messages"),
        }
    }
    drop(sending.await);
}

fn say(line: std::fmt::Arguments<'_>) {
    eprintln!("fill: {line}");
}
