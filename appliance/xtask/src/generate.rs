//! `cargo xtask gen`: renews every generated file that is committed.
//!
//! A crate generates by an example called `gen`, which prints nothing and writes beside the sources.

use crate::{
    house::House,
    run::{self, Done},
    tally::Found,
};
use argh::FromArgs;

/// Renew the generated files that are committed.
#[derive(FromArgs)]
#[argh(subcommand, name = "gen")]
pub(crate) struct Gen {}

impl Gen {
    pub(crate) fn run(self, house: &House) -> Done {
        generate(house)
    }
}

fn generate(house: &House) -> Done {
    run::must(house.cargo().args([
        "run",
        "--locked",
        "--quiet",
        "--package",
        "lodge-proto",
        "--example",
        "gen",
    ]))?;
    Ok(())
}

/// Generates again and looks whether git sees a difference that was not there before.
pub(crate) fn fresh(house: &House) -> Found {
    Found::of((|| {
        let state =
            || run::ask(house.program("git").args(["status", "--porcelain", "--", "proto"]));
        let diff = || run::ask(house.program("git").args(["diff", "--", "proto"]));
        let before = (state()?, diff()?);
        generate(house)?;
        if (state()?, diff()?) == before {
            return Ok(());
        }
        Err("generated files differ from what generates them; run `cargo xtask gen` and commit"
            .to_owned())
    })())
}
