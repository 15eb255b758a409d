//! Getting what a habit needs, by name and only when it is missing.

use crate::{
    house::House,
    run::{self, Done},
};
use std::{env, path::Path, process::Command};

/// Programs and the Debian packages that bring them. `Err` says what could not be had.
pub(crate) fn debian(wanted: &[(&str, &str)]) -> Done {
    installed(wanted, present)
}

/// As [`debian`], for packages that bring a file and no program.
pub(crate) fn debian_files(wanted: &[(&str, &str)]) -> Done {
    installed(wanted, |path| Path::new(path).exists())
}

fn installed(wanted: &[(&str, &str)], present: fn(&str) -> bool) -> Done {
    let missing: Vec<&str> =
        wanted.iter().filter(|(what, _)| !present(what)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("   installing from Debian: {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        run::must(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
                .args(arguments),
        )
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)?;
    match wanted.iter().find(|(what, _)| !present(what)) {
        None => Ok(()),
        Some((what, package)) => Err(format!("{package} was installed, but {what} is not there")),
    }
}

/// The packages of a folder with a `package-lock.json`, exactly as locked.
pub(crate) fn npm(folder: &Path) -> Done {
    debian(&[("node", "nodejs"), ("npm", "npm")])?;
    run::must(
        Command::new("npm")
            .current_dir(folder)
            // The browsers of a test come from Debian; no package may fetch one of its own.
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
            .args(["ci", "--prefer-offline", "--no-audit", "--no-fund"]),
    )?;
    Ok(())
}

/// A cargo subcommand, installed below our target directory if the machine has none.
pub(crate) fn cargo(house: &House, name: &str, version: &str) -> Done<Command> {
    let program = format!("cargo-{name}");
    let root = house.scratch("tools")?;
    let own = root.join("bin").join(&program);
    if !present(&program) && !own.exists() {
        eprintln!("   installing {program} {version}");
        run::must(
            house.cargo().args(["install", "--locked", "--quiet", "--root"]).arg(&root).args([
                "--version",
                version,
                &program,
            ]),
        )?;
    }
    let mut command = if own.exists() { Command::new(own) } else { Command::new(program) };
    command.current_dir(&house.root).arg(name);
    Ok(command)
}

pub(crate) fn present(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
        // Where Debian keeps what is for root, which PATH may leave out.
        || ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

/// Whether this process is root, which the tests of a whole machine need.
pub(crate) fn root() -> bool {
    run::ask(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed_again() {
        assert!(present("sh") && !present("no-such-program-of-ours"));
        assert_eq!(debian(&[("sh", "dash")]), Ok(()));
    }
}
