//! How many 112-byte texts a second become durable, for 1, 16, 128 and 1,024 writers who each wait
//! for the answer before they write again; beside what else one might keep texts in.
//!
//! All run on the same disk within the same minutes, in short rounds that take turns, so that what
//! else the machine does meets all of them; a figure is the median of its rounds. Peers are started
//! here, in directories of their own, reached through their own sockets, and ended by their pid.
//!
//! Prints one JSON object a line on stdout: `value` is ours, `against` is the peer's, both in
//! `unit`, and a `ratio` above 1 means that we are better. `append/N` stands against MariaDB, all
//! others name their peer. Progress goes to stderr.
//!
//! ```text
//! cargo bench --features peers --bench append -- [--rounds N] [--round-ms N] [--writers N,N]
//!                                                [--peers NAME,NAME] [--dir DIR]
//! ```

mod lodge;
mod peers;
mod syncs;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lodge::Lodge;
use peers::raw::Raw;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a busy desk writes: a sentence or two.
const TEXT_BYTES: usize = 112;
const TMPFS_MAGIC: i64 = 0x0102_1994;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some(syncs::CHILD) {
        return syncs::run_child(arguments.nth(1).ok_or("no directory was given")?.as_ref());
    }
    let mut plan = Plan::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--bench" | "--json" => {}
            "--rounds" => plan.rounds = value()?.parse()?,
            "--round-ms" => plan.lasting = Duration::from_millis(value()?.parse()?),
            "--writers" => {
                plan.writers = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--dir" => plan.dir = value()?.into(),
            "--peers" => plan.peers = Some(value()?.split(',').map(str::to_owned).collect()),
            other => return Err(format!("{other} is not known here").into()),
        }
    }
    let dir = tempfile::Builder::new().prefix("lodge-append-").tempdir_in(&plan.dir)?;
    refuse_memory(dir.path())?;
    allow_many_sockets()?;
    syncs::prove(&dir.path().join("syncs"))?;
    plan.run(dir.path())
}

struct Plan {
    rounds: usize,
    lasting: Duration,
    writers: Vec<usize>,
    peers: Option<Vec<String>>,
    /// On the disk that is to be measured.
    dir: PathBuf,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            rounds: 5,
            lasting: Duration::from_millis(700),
            writers: vec![1, 16, 128, 1024],
            peers: None,
            // Not /tmp, which is often memory.
            dir: "/var/tmp".into(),
        }
    }
}

impl Plan {
    fn run(&self, dir: &Path) -> Outcome<()> {
        let mut ours = Lodge::open(&dir.join("lodge"))?;
        let mut raw = Raw::open(&dir.join("raw"))?;
        let mut peers = peers::start(dir, |name| {
            self.peers.as_ref().is_none_or(|wanted| wanted.iter().any(|peer| peer == name))
        });
        for &writers in &self.writers {
            let mut of_ours = Vec::new();
            let mut of_raw = Vec::new();
            let mut of_peers: Vec<Vec<f64>> = peers.iter().map(|_| Vec::new()).collect();
            for round in 1..=self.rounds {
                let batches = ours.round(writers, self.lasting)?;
                of_ours.push(batches.records_per_second());
                of_raw.push(raw.round(&batches, self.lasting)?);
                for (peer, rates) in peers.iter_mut().zip(&mut of_peers) {
                    rates.push(peer.round(writers, self.lasting)?);
                }
                eprintln!(
                    "{writers} writers, round {round}: {:.0}/s, {:.1} texts and {:.0} bytes a batch",
                    batches.records_per_second(),
                    batches.records_a_batch(),
                    batches.bytes_a_batch(),
                );
            }
            let ours = median(&mut of_ours);
            for (peer, mut rates) in peers.iter().zip(of_peers) {
                let name = match peer.name() {
                    "mariadb" => format!("append/{writers}"),
                    other => format!("append/{writers}/{other}"),
                };
                print(&name, ours, "1/s", median(&mut rates));
            }
            print(&format!("append/{writers}/raw"), ours, "1/s", median(&mut of_raw));
        }
        ours.close();
        Ok(())
    }
}

fn print(name: &str, value: f64, unit: &str, against: f64) {
    let ratio = value / against;
    println!(
        r#"{{"name":"{name}","value":{value:.1},"unit":"{unit}","against":{against:.1},"ratio":{ratio:.3}}}"#
    );
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The `nth` text that a writer writes; cheap to make, since making it is not what is measured.
fn text(writer: usize, nth: u64) -> String {
    const REST: &str = " Could you tell me where my parcel is? It was promised for this morning, \
                        and nobody here has seen anything of it so far, I am afraid.";
    let mut text = String::with_capacity(TEXT_BYTES);
    text.push_str(&writer.to_string());
    text.push('/');
    text.push_str(&nth.to_string());
    text.push_str(&REST[..TEXT_BYTES - text.len()]);
    text
}

/// There, waiting for the disk costs nothing and proves nothing.
fn refuse_memory(dir: &Path) -> Outcome<()> {
    if rustix::fs::statfs(dir)?.f_type as i64 == TMPFS_MAGIC {
        return Err(format!("{} is memory, not a disk", dir.display()).into());
    }
    Ok(())
}

/// A thousand connections are more than the usual limit of open files.
fn allow_many_sockets() -> Outcome<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
