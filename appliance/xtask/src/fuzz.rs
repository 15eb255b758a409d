//! `cargo xtask fuzz TARGET --minutes N`: libFuzzer on one decoder, on the stable toolchain.

use crate::{
    house::House,
    run::{self, Done},
    tally::Found,
    tools,
};
use argh::FromArgs;
use std::path::PathBuf;

/// Fuzz one decoder.
#[derive(FromArgs)]
#[argh(subcommand, name = "fuzz")]
pub(crate) struct Fuzz {
    /// the target, as the fuzz folder of its crate names it
    #[argh(positional)]
    target: String,
    /// how long
    #[argh(option, default = "5")]
    minutes: u32,
}

impl Fuzz {
    pub(crate) fn run(self, house: &House) -> Done {
        let targets = targets(house)?;
        let folder =
            targets.iter().find(|(_, name)| *name == self.target).map(|(folder, _)| folder);
        let folder = folder.ok_or_else(|| {
            let names: Vec<&str> = targets.iter().map(|(_, name)| name.as_str()).collect();
            format!("no fuzz target {}; there are: {}", self.target, names.join(", "))
        })?;
        tools::debian(&[("g++", "g++")])?;
        let mut cargo = tools::cargo(house, "fuzz", "0.13.2")?;
        // Fuzzing needs compiler flags that only nightly admits to have.
        cargo.env("RUSTC_BOOTSTRAP", "1").current_dir(folder);
        cargo.args(["run", "--fuzz-dir", ".", &self.target, "--"]);
        run::must(cargo.arg(format!("-max_total_time={}", self.minutes.saturating_mul(60))))?;
        Ok(())
    }
}

/// Every fuzz target compiles; running them is a habit of its own.
pub(crate) fn compile(house: &House) -> Found {
    Found::of((|| {
        tools::debian(&[("g++", "g++")])?;
        let mut folders: Vec<PathBuf> =
            targets(house)?.into_iter().map(|(folder, _)| folder).collect();
        folders.dedup();
        if folders.is_empty() {
            return Err("there is no fuzz target".to_owned());
        }
        for folder in folders {
            let mut cargo = house.cargo();
            cargo
                .current_dir(&folder)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", "--cfg fuzzing");
            run::must(cargo.args(["check", "--bins", "--target-dir"]).arg(house.scratch("fuzz")?))?;
        }
        Ok(())
    })())
}

/// Folder and name of each target.
fn targets(house: &House) -> Done<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for path in house.files(".rs")? {
        if let Some((folder, name)) = path.split_once("/fuzz_targets/") {
            found.push((house.root.join(folder), name.trim_end_matches(".rs").to_owned()));
        }
    }
    found.sort();
    Ok(found)
}
