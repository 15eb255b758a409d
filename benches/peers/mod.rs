//! What else one might keep texts in, each set to lose nothing that it acknowledged.

mod mariadb;
mod postgres;
pub(crate) mod raw;
mod redb;
mod redis;
mod sqlite;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, text};

pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    /// Durable texts a second, with so many writers who each wait for their answer.
    fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<f64>;
}

type Start = fn(&Path) -> Outcome<Box<dyn Peer>>;

/// Starts those that are wanted and can be; the others are named on stderr.
pub(crate) fn start(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Box<dyn Peer>> {
    let all: [(&str, Start); 5] = [
        ("mariadb", mariadb::start),
        ("postgres", postgres::start),
        ("redis", redis::start),
        ("sqlite", sqlite::start),
        ("redb", redb::start),
    ];
    let mut peers = Vec::new();
    for (name, start) in all.into_iter().filter(|(name, _)| wanted(name)) {
        match std::fs::create_dir(dir.join(name))
            .map_err(Into::into)
            .and_then(|()| start(&dir.join(name)))
        {
            Ok(peer) => peers.push(peer),
            Err(e) => eprintln!("SKIPPED: {name}: {e}"),
        }
    }
    peers
}

/// Each writer has a connection and a thread, as it has in what serves many at once with a
/// database behind it.
fn each_connected<C: Send>(
    connections: &mut [C],
    lasting: Duration,
    append: impl Fn(&mut C, &str) -> Outcome<()> + Sync,
) -> Outcome<f64> {
    const STACK_BYTES: usize = 128 << 10;
    let (start, stop) = (Barrier::new(connections.len() + 1), AtomicBool::new(false));
    let (start, stop, append) = (&start, &stop, &append);
    thread::scope(|threads| {
        let mut writers = Vec::new();
        for (writer, connection) in connections.iter_mut().enumerate() {
            let write = move || -> Outcome<u64> {
                start.wait();
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    append(connection, &text(writer, written))?;
                    written += 1;
                }
                Ok(written)
            };
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            writers.push(thread.spawn_scoped(threads, write)?);
        }
        start.wait();
        let begun = Instant::now();
        thread::sleep(lasting);
        stop.store(true, Ordering::Relaxed);
        let mut written = 0;
        for writer in writers {
            written += writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(written as f64 / begun.elapsed().as_secs_f64())
    })
}

/// One thread commits whatever queued while the last commit ran, as our scribe does.
fn batched(
    writers: usize,
    lasting: Duration,
    mut commit: impl FnMut(&[usize], u64) -> Outcome<()> + Send,
) -> Outcome<f64> {
    let (ask, asked) = channel();
    let (tell, told) = channel();
    thread::scope(|threads| {
        let committing = threads.spawn(move || -> Outcome<()> {
            let mut nth = 0;
            while let Ok(first) = asked.recv() {
                let batch: Vec<usize> = [first].into_iter().chain(asked.try_iter()).collect();
                commit(&batch, nth)?;
                nth += batch.len() as u64;
                tell.send(batch)?;
            }
            Ok(())
        });
        let begun = Instant::now();
        for writer in 0..writers {
            ask.send(writer)?;
        }
        let (mut written, mut waiting) = (0, writers);
        while waiting > 0 {
            let Ok(batch) = told.recv() else { break };
            written += batch.len();
            if begun.elapsed() < lasting {
                for writer in batch {
                    ask.send(writer)?;
                }
            } else {
                waiting -= batch.len();
            }
        }
        let took = begun.elapsed();
        drop(ask);
        committing.join().map_err(|_| "the committing thread panicked")??;
        Ok(written as f64 / took.as_secs_f64())
    })
}

/// A server that was started here and ends with this.
struct Server {
    child: Child,
    stop: Signal,
}

impl Server {
    fn start(command: &mut Command, dir: &Path, stop: Signal) -> Outcome<Server> {
        let said = std::fs::File::create(dir.join("said"))?;
        let child = command.stdout(said.try_clone()?).stderr(said).spawn()?;
        Ok(Server { child, stop })
    }

    /// Tries until the server answers, or has ended.
    fn wait_for<T>(&mut self, mut connect: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match connect() {
                Ok(connected) => return Ok(connected),
                Err(e) if Instant::now() > until => return Err(e),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended: {status}").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), self.stop);
            let _ = self.child.wait();
        }
    }
}

/// Runs what prepares a server.
fn run(command: &mut Command) -> Outcome<()> {
    let done = command.output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{:?}: {}: {said}", command.get_program(), done.status).into());
    }
    Ok(())
}

/// The program by its name, where packages put it when it is not in `PATH`.
fn program(name: &str, also_in: &[PathBuf]) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = also_in.iter().cloned().chain(std::env::split_paths(&path));
    let mut found = in_path.map(|dir| dir.join(name)).filter(|program| program.is_file());
    found.next().ok_or_else(|| format!("{name} is not installed").into())
}

/// One agent for a hundred visitors.
fn ids(writer: usize) -> (String, String) {
    (format!("agent-{}", writer / 100), format!("visitor-{writer}"))
}

fn user_name() -> Outcome<String> {
    let me = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2) == Some(&me.as_str()));
    Ok(user.and_then(|fields| fields.first().copied()).ok_or("a user without a name")?.to_owned())
}
