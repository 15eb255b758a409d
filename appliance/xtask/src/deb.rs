//! `cargo xtask deb`: the Debian package, by `dpkg-deb` alone.
//!
//! The same commit and the same binary give the same bytes: times come from the commit, owners and
//! modes are stated, and nothing of the building machine enters but its architecture.

use crate::{
    house::{self, House},
    run::{self, Done},
    tools,
};
use argh::FromArgs;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Build the .deb of the release binary.
#[derive(FromArgs)]
#[argh(subcommand, name = "deb")]
pub(crate) struct Deb {
    /// pack this binary instead of building one
    #[argh(option)]
    binary: Option<PathBuf>,
}

impl Deb {
    pub(crate) fn run(self, house: &House) -> Done {
        let binary = self.binary.map_or_else(|| house.release(), Ok)?;
        println!("{}", build(house, &binary, &house.scratch("deb")?)?.display());
        Ok(())
    }
}

/// What lies where on the customer's machine. Everything but the binary is readable text.
const FILES: [(&str, &str, u32); 11] = [
    ("systemd/lodge.service", "usr/lib/systemd/system/lodge.service", 0o644),
    ("systemd/lodge.socket", "usr/lib/systemd/system/lodge.socket", 0o644),
    ("systemd/lodge.sysusers", "usr/lib/sysusers.d/lodge.conf", 0o644),
    ("systemd/lodge.tmpfiles", "usr/lib/tmpfiles.d/lodge.conf", 0o644),
    ("appliance/package/lodge.toml", "etc/lodge/lodge.toml", 0o644),
    ("appliance/package/copyright", "usr/share/doc/lodge/copyright", 0o644),
    ("systemd/README.md", "usr/share/doc/lodge/systemd.md", 0o644),
    ("appliance/package/README.md", "usr/share/doc/lodge/README.md", 0o644),
    ("appliance/package/nginx.conf", "usr/share/doc/lodge/examples/nginx.conf", 0o644),
    ("appliance/package/Caddyfile", "usr/share/doc/lodge/examples/Caddyfile", 0o644),
    ("LICENSE-MIT", "usr/share/doc/lodge/LICENSE-MIT", 0o644),
];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs `binary` into a package in `folder` and returns its path.
pub(crate) fn build(house: &House, binary: &Path, folder: &Path) -> Done<PathBuf> {
    tools::debian(&[("dpkg-deb", "dpkg"), ("md5sum", "coreutils")])?;
    let tree = house.fresh("deb-tree")?;
    let control = tree.join("DEBIAN");
    for (from, to, mode) in FILES {
        place(&house.root.join(from), &tree.join(to), mode)?;
    }
    place(binary, &tree.join("usr/bin/lodge"), 0o755)?;
    for script in SCRIPTS {
        place(&house.root.join("appliance/package").join(script), &control.join(script), 0o755)?;
    }
    house::write(&control.join("conffiles"), "/etc/lodge/lodge.toml\n")?;

    let mut installed: Vec<String> = FILES.iter().map(|(_, to, _)| (*to).to_owned()).collect();
    installed.push("usr/bin/lodge".to_owned());
    installed.sort();
    let sums = run::ask(Command::new("md5sum").current_dir(&tree).args(&installed))?;
    house::write(&control.join("md5sums"), sums)?;

    let architecture = run::ask(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let version = house.version()?;
    let mut kilobytes = 0;
    for path in &installed {
        kilobytes +=
            fs::metadata(tree.join(path)).map_err(|error| error.to_string())?.len().div_ceil(1024);
    }
    house::write(
        &control.join("control"),
        format!(
            "Package: lodge\nVersion: {version}\nArchitecture: {architecture}\n\
             Maintainer: The Lodge authors <lodge@localhost>\nInstalled-Size: {kilobytes}\n\
             Depends: libc6 (>= {}), libgcc-s1, systemd (>= 252), init-system-helpers\n\
             Section: net\nPriority: optional\n\
             Description: private front desk: customer chat in one process\n \
             Visitors of a web site or an app talk with the people who answer there. One\n \
             program and one data directory; every message is on the disk before it is\n \
             acknowledged, and nothing leaves the machine unless its operator said so.\n",
            glibc(binary)?
        ),
    )?;
    for name in ["control", "conffiles", "md5sums"] {
        permit(&control.join(name), 0o644)?;
    }
    directories(&tree)?;

    let package = folder.join(format!("lodge_{version}_{architecture}.deb"));
    run::must(
        Command::new("dpkg-deb")
            // Times in the package are cut off at the commit's; every file here is newer.
            .env("SOURCE_DATE_EPOCH", house.epoch()?)
            .args(["--root-owner-group", "-Zxz", "--build"])
            .args([&tree, &package]),
    )?;
    Ok(package)
}

fn place(from: &Path, to: &Path, mode: u32) -> Done {
    let at = |error: std::io::Error| format!("{} -> {}: {error}", from.display(), to.display());
    fs::create_dir_all(to.parent().unwrap_or(to)).map_err(at)?;
    fs::copy(from, to).map_err(at)?;
    permit(to, mode)
}

fn permit(path: &Path, mode: u32) -> Done {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The umask of whoever builds must not show in the package.
fn directories(tree: &Path) -> Done {
    permit(tree, 0o755)?;
    for entry in fs::read_dir(tree).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            directories(&path)?;
        }
    }
    Ok(())
}

/// The newest C library that the binary asks for, read from the version names in the binary itself.
fn glibc(binary: &Path) -> Done<String> {
    let bytes = fs::read(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    let newest = glibc_versions(&bytes).max();
    newest
        .map(|(major, minor)| format!("{major}.{minor}"))
        .ok_or_else(|| format!("{} names no version of the C library", binary.display()))
}

fn glibc_versions(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    const NAME: &[u8] = b"GLIBC_";
    bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).filter_map(
        |(at, _)| {
            let rest = bytes.get(at + NAME.len()..)?;
            let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
            let mut parts =
                std::str::from_utf8(rest.get(..end)?).ok()?.split('.').map(str::parse::<u32>);
            Some((parts.next()?.ok()?, parts.next()?.ok()?))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_version_is_compared_as_numbers() {
        let bytes = b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_PRIVATE\0GLIBC_2.2.5\0GLIBC_";
        assert_eq!(glibc_versions(bytes).max(), Some((2, 34)));
        assert_eq!(glibc_versions(b"nothing").max(), None);
    }
}
