//! `cargo xtask test`: everything that must hold, in one command. Runs on a fresh Debian with Rust, Node
//! and root; what the machine forbids is skipped by name and counted.

use crate::{
    browsers, damage, deb, full, fuzz, hostile,
    house::House,
    load, machine, proxy, restarts,
    run::{self, Done},
    settings,
    tally::{self, Found, Tally},
    tools, web,
};
use argh::FromArgs;
use std::fs;

/// Run every test; the last line says how many passed, failed and were skipped.
#[derive(FromArgs)]
#[argh(subcommand, name = "test")]
pub(crate) struct Test {
    /// only what needs neither Node nor browsers nor root
    #[argh(switch)]
    quick: bool,
    /// only the steps whose name contains this
    #[argh(option)]
    only: Option<String>,
}

type Step = (&'static str, fn(&House) -> Found);

/// In the order of what fails soonest.
const QUICK: [Step; 3] = [("format", format), ("lints", lints), ("unit tests", unit_tests)];
const FULL: [Step; 15] = [
    ("web bundle", web::fresh),
    ("web tests", web_tests),
    ("dependencies", dependencies),
    ("fuzz targets", fuzz::compile),
    ("settings", settings::proof),
    ("damage", damage::proof),
    ("disk full", full::proof),
    ("restarts", restarts::proof),
    ("unit exposure", unit_exposure),
    ("package", package),
    ("whole machine", whole_machine),
    ("hostile", hostile::proof),
    ("proxy", proxy::proof),
    ("browsers", browsers::proof),
    ("kill -9", kills),
];

impl Test {
    pub(crate) fn run(self, house: &House) -> Done {
        let mut tally = Tally::default();
        let full: &[Step] = if self.quick { &[] } else { &FULL };
        for (name, step) in QUICK.iter().chain(full) {
            if self.only.as_ref().is_none_or(|only| name.contains(only)) {
                tally.step(name, || step(house));
            }
        }
        tally.close()
    }
}

fn format(house: &House) -> Found {
    Found::of(run::must(house.cargo().args(["fmt", "--all", "--check"])).map(drop))
}

fn lints(house: &House) -> Found {
    let mut cargo = house.cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    Found::of(run::must(&mut cargo).map(drop))
}

/// House rules, goldens, vectors, seeds and the freshness of generated files are unit tests too.
fn unit_tests(house: &House) -> Found {
    match run::watch(
        house
            .cargo()
            .args(["test", "--workspace", "--locked", "--no-fail-fast", "--quiet"])
            .args(["--", "--format=pretty"]),
    ) {
        Ok(said) => tally::of_cargo_test(&said.text, said.ok),
        Err(why) => Found::failed(why),
    }
}

/// What a package of the web may have to prove: its types and its screens, its tests, its size.
const SCRIPTS: [&str; 3] = ["check", "test", "size"];

/// Every npm package of ours; the whole product in a browser is a step apart.
fn web_tests(house: &House) -> Found {
    let run = (|| {
        browsers::chromium()?;
        let mut found = Found::default();
        // The client first: widget and console are looked at against its mock desk.
        let mut packages = house.files("package.json")?;
        packages.sort_by_key(|path| !path.starts_with("proto/"));
        for path in packages {
            let folder = house.root.join(path.trim_end_matches("package.json"));
            let text = crate::house::read(&house.root.join(&path))?;
            let package: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
            let scripts = SCRIPTS.iter().filter(|script| package["scripts"][**script].is_string());
            let scripts: Vec<&&str> = scripts.collect();
            if !scripts.is_empty() {
                tools::npm(&folder)?;
            }
            for script in scripts {
                let said =
                    run::watch(house.program("npm").current_dir(&folder).args(["run", script]))?;
                let mut one = tally::of_script(&said.text, said.ok);
                for why in &mut one.why {
                    *why = format!("{path}, {script}: {why}");
                }
                found.add(one);
            }
        }
        Ok::<_, String>(found)
    })();
    run.unwrap_or_else(Found::failed)
}

/// Licences, sources and what must never come in. Advisories need a network and are not asked for.
fn dependencies(house: &House) -> Found {
    match tools::cargo(house, "deny", "0.20.2") {
        Err(why) => Found::skipped(format!("cargo-deny could not be installed: {why}")),
        Ok(mut cargo) => {
            cargo.args(["--locked", "--config", ".deny.toml", "check"]);
            cargo.args(["bans", "licenses", "sources"]);
            Found::of(run::must(&mut cargo).map(drop))
        }
    }
}

/// What systemd counts as exposure of the service, in tenths.
const EXPOSURE_MAX: &str = "12";

fn unit_exposure(house: &House) -> Found {
    if let Err(why) = tools::debian(&[("systemd-analyze", "systemd")]) {
        return Found::skipped(why);
    }
    let mut analyze = house.program("systemd-analyze");
    analyze.args([
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold",
        EXPOSURE_MAX,
        "systemd/lodge.service",
    ]);
    Found::of(
        run::ask(&mut analyze).map(drop).map_err(|_| "the service is exposed above 1.2".to_owned()),
    )
}

/// Two builds of one commit are the same bytes.
fn package(house: &House) -> Found {
    Found::of((|| {
        let binary = house.release()?;
        let bytes = |name: &str| {
            let path = deb::build(house, &binary, &house.fresh(name)?)?;
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        if bytes("deb-first")? == bytes("deb-second")? {
            Ok(())
        } else {
            Err("two builds of the package differ".to_owned())
        }
    })())
}

fn whole_machine(house: &House) -> Found {
    let package =
        house.release().and_then(|binary| deb::build(house, &binary, &house.fresh("deb-machine")?));
    match package {
        Ok(package) => machine::proof(house, &package),
        Err(why) => Found::failed(why),
    }
}

/// Fixed seeds, so that a failure here is the same one everywhere.
fn kills(house: &House) -> Found {
    let mut found = Found::default();
    for seed in ["1", "2"] {
        found.add(Found::of(
            load::run(house, seed, 20, Some(5))
                .map(drop)
                .map_err(|why| format!("seed {seed}: {why}")),
        ));
    }
    found
}
