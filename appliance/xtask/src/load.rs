//! `cargo xtask load`: the load generator of `benches/load.rs` against the release binary.

use crate::{
    house::House,
    run::{self, Done},
};
use argh::FromArgs;
use std::path::PathBuf;

/// Send the article's load to the release binary and prove that nothing was lost.
#[derive(FromArgs)]
#[argh(subcommand, name = "load")]
pub(crate) struct Load {
    /// any word or number: the same one gives the same load
    #[argh(positional)]
    seed: String,
    /// how long to send
    #[argh(option)]
    seconds: u32,
    /// kill -9 and restart the server this often, in seconds
    #[argh(option)]
    kill_every: Option<u32>,
    /// where the figures go, as one JSON object; without it to standard output
    #[argh(option)]
    json: Option<PathBuf>,
}

impl Load {
    pub(crate) fn run(self, house: &House) -> Done {
        let figures = run(house, &self.seed, self.seconds, self.kill_every)?;
        match self.json {
            Some(path) => crate::house::write(&path, figures),
            None => {
                print!("{figures}");
                Ok(())
            }
        }
    }
}

/// Runs the generator to its end and returns its JSON. It fails when the proof does.
pub(crate) fn run(
    house: &House,
    seed: &str,
    seconds: u32,
    kill_every: Option<u32>,
) -> Done<String> {
    let generator = house.bench("load")?;
    let server = house.release()?;
    let json = house.scratch("load")?.join("figures.json");
    let mut command = house.program(&generator.to_string_lossy());
    command
        .arg("--lodge")
        .arg(&server)
        .args(["--seed", seed])
        .args(["--seconds", &seconds.to_string()]);
    command.arg("--json").arg(&json);
    if let Some(every) = kill_every {
        command.args(["--kill-every", &every.to_string()]);
    }
    // The pairs of sentences lie beside the design where there is one; without them its own lines do.
    if let Some(texts) = texts(house) {
        command.arg("--texts").arg(texts);
    }
    run::must(&mut command)?;
    crate::house::read(&json)
}

/// The sentences named by the environment.
fn texts(_house: &House) -> Option<PathBuf> {
    std::env::var_os("LODGE_TEXTS").map(PathBuf::from).filter(|path| path.is_file())
}
