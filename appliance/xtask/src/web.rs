//! `cargo xtask web`: builds widget and console into `appliance/web/dist`, which is committed.

use crate::{
    house::House,
    run::{self, Done},
    tally::Found,
    tools,
};
use argh::FromArgs;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Build widget and console into the bundle that is embedded.
#[derive(FromArgs)]
#[argh(subcommand, name = "web")]
pub(crate) struct Web {}

/// The sources, in the order in which they are built; each builds its own part of `dist`.
const SOURCES: [&str; 2] = ["appliance/web/widget", "appliance/web/console"];
const DIST: &str = "appliance/web/dist";

impl Web {
    pub(crate) fn run(self, house: &House) -> Done {
        build(house)?;
        println!("{}", house.root.join(DIST).display());
        Ok(())
    }
}

/// Rebuilds the bundle and compares it with the committed one, which is put back as it was.
pub(crate) fn fresh(house: &House) -> Found {
    Found::of((|| {
        let dist = house.root.join(DIST);
        let committed = contents(&dist)?;
        let built = build(house).and_then(|()| contents(&dist));
        restore(&dist, &committed)?;
        let built = built?;
        let differing: Vec<&str> = committed
            .keys()
            .chain(built.keys())
            .filter(|path| committed.get(*path) != built.get(*path))
            .filter_map(|path| path.to_str())
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{DIST} is not what its sources build ({}); run `cargo xtask web`",
            differing.join(", ")
        ))
    })())
}

fn build(house: &House) -> Done {
    for source in SOURCES {
        let folder = house.root.join(source);
        tools::npm(&folder)?;
        run::must(house.program("npm").current_dir(&folder).args(["run", "build"]))?;
    }
    Ok(())
}

type Contents = BTreeMap<PathBuf, Vec<u8>>;

fn contents(folder: &Path) -> Done<Contents> {
    let mut found = Contents::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{}: {error}", next.display())),
        };
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let name = path.strip_prefix(folder).map_err(|error| error.to_string())?;
            found.insert(name.to_owned(), bytes);
        }
    }
    Ok(found)
}

fn restore(folder: &Path, contents: &Contents) -> Done {
    if self::contents(folder)? == *contents {
        return Ok(());
    }
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(at)?;
    }
    for (path, bytes) in contents {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(at)?;
        fs::write(path, bytes).map_err(at)?;
    }
    Ok(())
}
