//! The real binary among enemies: whatever comes over a socket, each of them is refused by a number or a
//! close code, memory stays bounded, and a visitor who behaves, beside them all the time, loses nothing.

mod http;
mod socket;
mod tls;
mod uploads;
mod visitor;
mod words;

use crate::{
    house::House,
    run::Done,
    tally::Found,
    trial::{self, Settings, Trial},
};
use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What the server may grow by, whatever is sent: its caches and the largest upload fit in twice.
const GROWTH_KIB_MAX: u64 = 96 * 1024;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where an attack happens.
pub(crate) struct Ground {
    to: SocketAddr,
    app: String,
    login: String,
    password: String,
}

type Attack = (&'static str, fn(&Ground) -> Done);

/// In the order of what is met first on the way in.
const ATTACKS: [Attack; 13] = [
    ("requests that are no matter of opinion", http::requests),
    ("paths", http::paths),
    ("heads that are too large", http::large_heads),
    ("the grid of frames", socket::grid),
    ("a message split at each byte", socket::splits),
    ("fragments", socket::fragments),
    ("frames after the good-bye", socket::after_close),
    ("words of the session", words::refused),
    ("texts that try things", words::texts),
    ("tokens with a wrong letter", words::tokens),
    ("a session that is over", words::ended_session),
    ("uploads", uploads::uploads),
    ("a reader who never reads", words::never_reads),
];

pub(crate) fn proof(house: &House) -> Found {
    let mut found = Found::default();
    match plain(house) {
        Ok(plain) => found.add(plain),
        Err(why) => found.add(Found::failed(why)),
    }
    match tls::proof(house) {
        Ok(tls) => found.add(tls),
        Err(why) => found.add(Found::failed(why)),
    }
    found
}

fn plain(house: &House) -> Done<Found> {
    let binary = house.release()?;
    let address = trial::free_address()?;
    let settings = Settings { address, mode: "plain", public_url: "" };
    let trial = Trial::start(&binary, &house.fresh("hostile")?, &settings)?;
    let desk = trial.set_up(&[])?;
    let ground = Ground { to: address, app: desk.app, login: desk.login, password: desk.password };
    let memory = Memory::watch(trial.pid())?;
    let stop = Arc::new(AtomicBool::new(false));
    let well = {
        let (to, app, stop) = (ground.to, ground.app.clone(), Arc::clone(&stop));
        thread::spawn(move || visitor::behave(to, &app, &stop))
    };
    // These take as long as the server gives them, so they go on beside the others.
    let slow: Vec<_> = http::SLOW
        .iter()
        .map(|(name, bytes)| {
            let to = ground.to;
            (*name, thread::spawn(move || http::is_let_go(to, bytes)))
        })
        .collect();
    let mut found = Found::default();
    for (name, attack) in ATTACKS {
        found.add(Found::of(attack(&ground).map_err(|why| format!("{name}: {why}"))));
    }
    for (name, slow) in slow {
        let end = slow.join().unwrap_or_else(|_| Err("the attacker fell over".to_owned()));
        found.add(Found::of(end.map_err(|why| format!("{name}: {why}"))));
    }
    stop.store(true, Ordering::Relaxed);
    let well = well.join().unwrap_or_else(|_| Err("the visitor fell over".to_owned()));
    found.add(Found::of(well.and_then(|said| match said {
        0 => Err("the visitor who behaves said nothing".to_owned()),
        _ => Ok(()),
    })));
    found.add(Found::of(memory.bounded()));
    found.add(Found::of(no_panic(address)));
    Ok(found)
}

fn no_panic(to: SocketAddr) -> Done {
    let metrics = crate::http::get(to, "/metrics")?;
    let text = String::from_utf8_lossy(&metrics.body);
    if text.lines().any(|line| line == "lodge_panics_total 0") {
        Ok(())
    } else {
        Err(format!("a task of the server panicked:\n{text}"))
    }
}

/// What a process holds, looked at all the time.
struct Memory {
    before_kib: u64,
    most_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Memory {
    fn watch(pid: u32) -> Done<Memory> {
        let before_kib = resident_kib(pid)?;
        let most_kib = Arc::new(AtomicU64::new(before_kib));
        let stop = Arc::new(AtomicBool::new(false));
        let (most, ended) = (Arc::clone(&most_kib), Arc::clone(&stop));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // A process that is gone is found by whoever talks to it.
                most.fetch_max(resident_kib(pid).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Memory { before_kib, most_kib, stop })
    }

    fn bounded(&self) -> Done {
        let most = self.most_kib.load(Ordering::Relaxed);
        let growth = most.saturating_sub(self.before_kib);
        eprintln!("   memory: {} MiB at rest, {} MiB at most", self.before_kib / 1024, most / 1024);
        if growth <= GROWTH_KIB_MAX {
            Ok(())
        } else {
            Err(format!("the server grew by {growth} KiB; it may by {GROWTH_KIB_MAX}"))
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn resident_kib(pid: u32) -> Done<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| format!("{path} does not say VmRSS"))
}
