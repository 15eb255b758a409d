//! The package on a whole Debian machine: its own systemd as PID 1 in namespaces, no container engine.
//!
//! The root file system is made once by debootstrap and kept below the target directory; every run
//! works on a layer of its own above it and leaves it as it was.

use crate::{
    house::{self, House},
    run::{self, Done},
    tally::{self, Found},
    tools,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Installs, upgrades and purges `package` inside a machine that is booted for it.
pub(crate) fn proof(house: &House, package: &Path) -> Found {
    if let Some(why) = forbidden() {
        return Found::skipped(why);
    }
    let booted = (|| {
        let root = root(house)?;
        let work = house.fresh("machine")?;
        let shared = work.join("shared");
        fs::create_dir(&shared).map_err(|error| error.to_string())?;
        fs::copy(package, shared.join("lodge.deb")).map_err(|error| error.to_string())?;
        let tests = house.root.join("appliance/tests/machine");
        fs::copy(tests.join("proof.sh"), shared.join("proof.sh"))
            .map_err(|error| error.to_string())?;
        let said = run::watch(
            house
                .program("timeout")
                .args(["--kill-after=10", "300", "sh"])
                .arg(tests.join("boot.sh"))
                .args([&root, &work, &shared]),
        )?;
        let result = house::read(&shared.join("result")).unwrap_or_default();
        for line in result.lines() {
            eprintln!("    {line}");
        }
        let ended = result.lines().any(|line| line == "end");
        Ok::<_, String>(tally::of_lines(&result, said.ok && ended))
    })();
    booted.unwrap_or_else(Found::failed)
}

/// Why this machine cannot boot another one inside itself.
fn forbidden() -> Option<String> {
    if !tools::root() {
        return Some("booting a machine in namespaces needs root".to_owned());
    }
    let tried = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup"])
        .args(["sh", "-c", "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt"])
        .output();
    match tried {
        Ok(out) if out.status.success() => None,
        Ok(out) => {
            Some(format!("no namespaces here: {}", String::from_utf8_lossy(&out.stderr).trim()))
        }
        Err(error) => Some(format!("no unshare here: {error}")),
    }
}

/// A minimal Debian of the release that this machine runs, from the mirror that it uses.
fn root(house: &House) -> Done<PathBuf> {
    let suite = house::read(Path::new("/etc/os-release"))?
        .lines()
        .find_map(|line| {
            line.strip_prefix("VERSION_CODENAME=").map(|name| name.trim_matches('"').to_owned())
        })
        .ok_or("this machine does not say which Debian it is")?;
    let root = house.scratch("roots")?.join(&suite);
    if root.join("complete").exists() {
        return Ok(root);
    }
    if root.exists() {
        fs::remove_dir_all(&root).map_err(|error| error.to_string())?;
    }
    tools::debian(&[("debootstrap", "debootstrap")])?;
    let mirrors = run::ask(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME)",
        "Identifier: Packages",
    ]))?;
    let mirror = mirrors
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(mirror, codename)| (codename == suite).then(|| mirror.to_owned()))
        .ok_or_else(|| format!("apt names no mirror for {suite}"))?;
    run::must(
        Command::new("debootstrap")
            .args(["--variant=minbase", "--include=systemd,systemd-sysv,curl", &suite])
            .arg(&root)
            .arg(mirror),
    )?;
    house::write(&root.join("complete"), "")?;
    Ok(root)
}
