//! `cargo xtask torture --minutes N`: the load with kill -9, again and again with new seeds. A seed that fails is
//! printed with the command that shows it again. `--rounds N`: so many restarts of a server that says little.

use crate::{house::House, load, restarts, run::Done};
use argh::FromArgs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Kill the server under load until the time is over or a message is missing.
#[derive(FromArgs)]
#[argh(subcommand, name = "torture")]
pub(crate) struct Torture {
    /// how long to send load
    #[argh(option, default = "0")]
    minutes: u32,
    /// how often to kill and restart a quiet server
    #[argh(option, default = "0")]
    rounds: u32,
}

const ROUND_SECONDS: u32 = 30;
const KILL_EVERY: u32 = 4;

impl Torture {
    pub(crate) fn run(self, house: &House) -> Done {
        if self.rounds > 0 {
            println!("{}", restarts::rounds(house, self.rounds)?);
        }
        if self.minutes == 0 {
            return Ok(());
        }
        let end = Instant::now() + Duration::from_secs(u64::from(self.minutes) * 60);
        let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut rounds = 0;
        while Instant::now() < end {
            let seed = (first + rounds).to_string();
            load::run(house, &seed, ROUND_SECONDS, Some(KILL_EVERY)).map_err(|why| {
                format!("{why}\nagain: cargo xtask load {seed} --seconds {ROUND_SECONDS} --kill-every {KILL_EVERY}")
            })?;
            rounds += 1;
        }
        println!("{rounds} rounds, nothing lost, doubled or reordered");
        Ok(())
    }
}
