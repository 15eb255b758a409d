//! The load of a busy desk on one machine: 2,000 visitors and 20 agents over TLS WebSockets, 500 texts and
//! 100 images of 100 KB a second, half each way; then everything is read back and proved.
//!
//! Open loop: a message is due at its moment whether the server keeps up or not, and its latency counts
//! from that moment. With `--kill-every` the server is killed -9 and started again while it runs.
//! Each peer has a loopback address of its own, as 2,020 people would.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a load that cannot run has failed")]
#![allow(unreachable_pub, reason = "in a program `pub` marks the face of a module")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;
use serde_json::json;
use tokio::time::Instant;

mod texts;

mod picture;

mod server;

mod crowd;

mod ledger;

mod proof;

use crowd::Crowd;
use ledger::Ledger;
use server::Lodge;

const TEXTS_EACH_SECOND: u64 = 500;
const IMAGES_EACH_SECOND: u64 = 100;
/// After the last message is due, answers are waited for this long.
const DRAIN_MAX: Duration = Duration::from_secs(90);
/// Given to the machine to settle before the first message is due.
const BREATH: Duration = Duration::from_secs(2);

/// Sends the load and proves that nothing was lost.
#[derive(FromArgs)]
struct Load {
    /// path of the release binary
    #[argh(option)]
    lodge: Option<PathBuf>,
    /// any word or number: the same one gives the same load
    #[argh(option, default = "String::from(\"1\")")]
    seed: String,
    /// how long to send
    #[argh(option, default = "20")]
    seconds: u64,
    /// kill -9 and restart the server this often, in seconds
    #[argh(option)]
    kill_every: Option<u64>,
    /// where the figures go, as one JSON object; without it to standard output
    #[argh(option)]
    json: Option<PathBuf>,
    /// pairs of sentences, as tatoeba.org exports them
    #[argh(option)]
    texts: Option<PathBuf>,
    /// visitors that are connected
    #[argh(option, default = "2000")]
    visitors: usize,
    /// agents that are connected
    #[argh(option, default = "20")]
    agents: usize,
    /// an empty directory in which data and settings stay afterwards
    #[argh(option)]
    keep: Option<PathBuf>,
    /// what cargo says to every bench
    #[argh(switch)]
    #[allow(dead_code, reason = "only taken so that it is no error")]
    bench: bool,
}

fn main() {
    let load: Load = argh::from_env();
    let Some(lodge) = load.lodge.clone() else {
        // `cargo bench` starts every bench without arguments.
        println!("the load needs a server: cargo xtask load SEED --seconds N");
        return;
    };
    server::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let figures = runtime.block_on(run(&load, lodge));
    let text = format!("{figures}\n");
    match &load.json {
        Some(path) => std::fs::write(path, text).expect("the figures can be written"),
        None => print!("{text}"),
    }
    let held = ["lost", "doubled", "reordered", "differ"].iter().all(|name| figures[*name] == 0);
    let answered = figures["acked"] == figures["scheduled"];
    if !held || !answered {
        eprintln!("the proof does not hold: {figures}");
        std::process::exit(1);
    }
}

async fn run(load: &Load, binary: PathBuf) -> serde_json::Value {
    let seed = number_of(&load.seed);
    let texts = texts::read(load.texts.as_deref());
    let mut lodge = Lodge::start(binary, load.keep.clone(), load.agents).await;
    say(format_args!("server at {}; {} peers come", lodge.address, load.visitors + load.agents));

    let ledger = Arc::new(Ledger::new(seed, texts));
    let crowd = Crowd::gather(&lodge, &ledger, load.visitors, load.agents).await;
    say(format_args!("everybody is connected and every visitor has an agent"));
    tokio::time::sleep(BREATH).await;

    let start = Instant::now();
    ledger.begin(start);
    lodge.begin();
    let end = start + Duration::from_secs(load.seconds);
    let sending = tokio::spawn(crowd.sender(start, end));
    let every = load.kill_every.map(Duration::from_secs);
    lodge.watch(end, every, &ledger).await;
    sending.await.expect("the sender does not fail");

    let gone = ledger.drain(DRAIN_MAX).await;
    let server = lodge.figures();
    say(format_args!("{} messages are due and answered or not; reading back", gone.scheduled));
    let proof = proof::read_back(&crowd, &ledger).await;
    for line in proof.complaints.iter().chain(&gone.complaints) {
        say(format_args!("{line}"));
    }
    crowd.go().await;
    json!({
        "scheduled": gone.scheduled,
        "acked": gone.acked,
        "lost": proof.lost,
        "doubled": proof.doubled + gone.shown_twice,
        "reordered": proof.reordered,
        "differ": proof.differ + gone.shown_wrong,
        "kills": lodge.kills,
        "texts": gone.texts,
        "images": gone.images,
        "shown": gone.shown,
        "calls_again": gone.troubles,
        "read_back": proof.entries,
        "seconds": load.seconds,
        "visitors": load.visitors,
        "agents": load.agents,
        "real_text": ledger.real_text(),
        "ack_ms": gone.ack.json(),
        "ack_text_ms": gone.ack_texts.json(),
        "ack_image_ms": gone.ack_images.json(),
        "shown_ms": gone.shown_ms.json(),
        "server": server,
    })
}

/// FNV-1a: any word is a seed.
fn number_of(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn say(line: std::fmt::Arguments<'_>) {
    eprintln!("load: {line}");
}
