//! `cargo xtask gen`: renews every generated file that is committed.
//!
//! A crate generates by an example called `generate`; a test of that crate fails when the result is stale.

use crate::{
    house::House,
    run::{self, Done},
};
use argh::FromArgs;

/// Renew the generated files that are committed.
#[derive(FromArgs)]
#[argh(subcommand, name = "gen")]
pub(crate) struct Gen {}

impl Gen {
    pub(crate) fn run(self, house: &House) -> Done {
        run::must(house.cargo().args([
            "run",
            "--locked",
            "--quiet",
            "--package",
            "lodge-proto",
            "--example",
            "generate",
        ]))?;
        Ok(())
    }
}
