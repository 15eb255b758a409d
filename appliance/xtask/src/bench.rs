//! `cargo xtask bench NAME --json`: one bench, its figures on standard output.
//!
//! A figure is one JSON line `{"name", "value", "unit", "against", "ratio"}`; a ratio above 1 means that
//! we are better. Without `--json` the same lines are set out for a person.

use crate::{
    browsers,
    house::House,
    run::{self, Done},
    tools,
    trial::{self, Settings, Trial},
};
use argh::FromArgs;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Run one bench.
#[derive(FromArgs)]
#[argh(subcommand, name = "bench")]
pub(crate) struct Bench {
    /// its name; a wrong one lists them all
    #[argh(positional)]
    name: String,
    /// print JSON lines alone
    #[argh(switch)]
    json: bool,
}

/// Benches that measure from outside the process and therefore live here.
const OUTSIDE: [&str; 2] = ["page", "start"];

impl Bench {
    pub(crate) fn run(self, house: &House) -> Done {
        let figures = match self.name.as_str() {
            "page" => browsers::page(house)?,
            "start" => start(house)?,
            name => inside(house, name)?,
        };
        for figure in figures {
            println!("{}", if self.json { figure.to_string() } else { spoken(&figure) });
        }
        Ok(())
    }
}

/// One figure against what was promised or measured beside it, where less is better.
pub(crate) fn less_is_better(name: &str, value: f64, unit: &str, against: f64) -> Value {
    json!({ "name": name, "value": value, "unit": unit, "against": against, "ratio": against / value })
}

fn spoken(figure: &Value) -> String {
    let text = |key: &str| match &figure[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!(
        "{:<28} {:>14} {:<8} against {:>14}  ratio {}",
        text("name"),
        text("value"),
        text("unit"),
        text("against"),
        text("ratio")
    )
}

/// What a bench needs from Debian beside its own crates.
fn needs(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "append" => &[
            ("mariadbd", "mariadb-server"),
            ("pg_ctlcluster", "postgresql"),
            ("redis-server", "redis-server"),
            ("strace", "strace"),
        ],
        _ => &[],
    }
}

/// A bench of a crate: it gets the server's binary and prints its figures.
fn inside(house: &House, name: &str) -> Done<Vec<Value>> {
    let bench = house.bench(name).map_err(|why| format!("{why}, {}", OUTSIDE.join(", ")))?;
    tools::debian(needs(name))?;
    let server = house.release()?;
    let out = Command::new(bench)
        .current_dir(&house.root)
        .env("LODGE_BINARY", server)
        .arg("--json")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !out.status.success() {
        return Err(format!("bench {name} failed"));
    }
    figures(&String::from_utf8_lossy(&out.stdout))
}

/// The lines that are figures. A line that only looks like one is an error, not a gap.
pub(crate) fn figures(text: &str) -> Done<Vec<Value>> {
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let figure: Value =
                serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            let whole = figure["name"].is_string()
                && figure["value"].is_number()
                && figure["unit"].is_string();
            if whole { Ok(figure) } else { Err(format!("not a figure: {line}")) }
        })
        .collect()
}

/// Messages in the store of the second start.
const MESSAGES: u32 = 1_000_000;
const ROUNDS: usize = 5;

/// From the start of the process to `/readyz`: with an empty directory, and with a million messages.
fn start(house: &House) -> Done<Vec<Value>> {
    let filler = house.bench("fill")?;
    let server = house.release()?;
    let mut empty = Vec::new();
    for _ in 0..ROUNDS {
        let folder = house.fresh("start")?;
        empty.push(Trial::start(&server, &folder, &plain()?)?.ready_after);
    }
    let folder = house.fresh("start")?;
    let settings = plain()?;
    let mut trial = Trial::start(&server, &folder, &settings)?;
    let desk = trial.set_up(&[])?;
    run::must(
        Command::new(filler)
            .args(["--address", &settings.address.to_string(), "--app", &desk.app])
            .args(["--messages", &MESSAGES.to_string()]),
    )?;
    let mut full = Vec::new();
    for _ in 0..ROUNDS {
        trial.kill()?;
        trial.restart()?;
        full.push(trial.ready_after);
    }
    let median_ms = |mut times: Vec<std::time::Duration>| {
        times.sort();
        times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    Ok(vec![
        less_is_better("start/empty", median_ms(empty), "ms", 100.0),
        less_is_better("start/million", median_ms(full), "ms", 1000.0),
    ])
}

fn plain() -> Done<Settings<'static>> {
    Ok(Settings { address: trial::free_address()?, mode: "plain", public_url: "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_words_and_broken_ones_are_errors() {
        let line = less_is_better("start/empty", 50.0, "ms", 100.0);
        let found = figures(&format!("warming up\n{line}\n")).expect("one figure");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["ratio"], 2.0);
        assert!(figures("{\"name\": 1}").is_err() && figures("{").is_err());
    }
}
