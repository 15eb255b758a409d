//! Every habit of this repository in one short command: `cargo xtask HABIT`.
//!
//! What is going on goes to stderr; what was asked for (figures, addresses, the closing line of the
//! tests) goes to stdout. What a habit needs from Debian, npm or crates it installs by name, and says so.

mod bench;
mod browsers;
mod damage;
mod deb;
mod demo;
mod full;
mod fuzz;
mod generate;
mod hostile;
mod house;
mod http;
mod load;
mod machine;
mod proxy;
mod restarts;
mod run;
mod settings;
mod tally;
mod test;
mod tools;
mod torture;
mod trial;
mod visitor;
mod web;

use argh::FromArgs;
use std::process::ExitCode;

/// Every habit of this repository in one short command each.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    habit: Habit,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Habit {
    Test(test::Test),
    Demo(demo::Demo),
    Bench(bench::Bench),
    Load(load::Load),
    Deb(deb::Deb),
    Web(web::Web),
    Gen(generate::Gen),
    Torture(torture::Torture),
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    let done = house::House::find().and_then(|house| match arguments.habit {
        Habit::Test(test) => test.run(&house),
        Habit::Demo(demo) => demo.run(&house),
        Habit::Bench(bench) => bench.run(&house),
        Habit::Load(load) => load.run(&house),
        Habit::Deb(deb) => deb.run(&house),
        Habit::Web(web) => web.run(&house),
        Habit::Gen(generate) => generate.run(&house),
        Habit::Torture(torture) => torture.run(&house),
        Habit::Fuzz(fuzz) => fuzz.run(&house),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
