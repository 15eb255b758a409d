//! Where things are: asked of cargo and git, never assumed.

use crate::run::{self, Done};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) struct House {
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever the environment put it. What is cached lies below it.
    pub(crate) target: PathBuf,
    packages: Vec<Value>,
}

impl House {
    pub(crate) fn find() -> Done<Self> {
        let text = run::ask(Command::new(cargo()).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
            "--locked",
        ]))?;
        let metadata: Value =
            serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
        let path = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .map(PathBuf::from)
                .ok_or_else(|| format!("cargo metadata names no {key}"))
        };
        let packages =
            metadata.get("packages").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, packages })
    }

    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        command
    }

    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.root);
        command
    }

    /// A folder of our own below the target directory, made if missing.
    pub(crate) fn scratch(&self, name: &str) -> Done<PathBuf> {
        let path = self.target.join("lodge").join(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// As [`scratch`](Self::scratch), empty.
    pub(crate) fn fresh(&self, name: &str) -> Done<PathBuf> {
        let path = self.target.join("lodge").join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.scratch(name)
    }

    /// Builds the server as it is shipped and says where it lies.
    pub(crate) fn release(&self) -> Done<PathBuf> {
        self.build("lodge", &["build", "--release", "--package", "lodge", "--bin", "lodge"])
    }

    /// Builds the bench `name` of whichever crate has it, and says where it lies. The server that cargo
    /// leaves beside it has the features of tests; whoever wants to measure asks for `release` afterwards.
    pub(crate) fn bench(&self, name: &str) -> Done<PathBuf> {
        let found = self
            .packages
            .iter()
            .flat_map(|package| benches_of(package).map(move |bench| (package, bench)))
            .find(|(_, bench)| bench["name"] == name);
        let Some((package, bench)) = found else {
            return Err(format!(
                "no crate has a bench called {name}; there are: {}",
                self.benches().join(", ")
            ));
        };
        let features: Vec<&str> = bench["required-features"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let package = package["name"].as_str().unwrap_or_default();
        let mut arguments = vec!["bench", "--no-run", "--package", package, "--bench", name];
        let features = features.join(",");
        if !features.is_empty() {
            arguments.extend(["--features", &features]);
        }
        self.build(name, &arguments)
    }

    pub(crate) fn benches(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .packages
            .iter()
            .flat_map(benches_of)
            .filter_map(|bench| bench["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// Tracked and new files whose name ends so, as paths from the root.
    pub(crate) fn files(&self, ending: &str) -> Done<Vec<String>> {
        let text = run::ask(self.program("git").args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        Ok(text.lines().filter(|path| path.ends_with(ending)).map(str::to_owned).collect())
    }

    /// The second of the last commit: what is built is dated so, and the same commit is the same bytes.
    pub(crate) fn epoch(&self) -> Done<String> {
        if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
            return Ok(epoch);
        }
        Ok(run::ask(self.program("git").args(["log", "-1", "--format=%ct"]))?.trim().to_owned())
    }

    pub(crate) fn version(&self) -> Done<String> {
        self.packages
            .iter()
            .find(|package| package["name"] == "lodge")
            .and_then(|package| package["version"].as_str())
            .map(str::to_owned)
            .ok_or_else(|| "cargo metadata names no package lodge".to_owned())
    }

    /// Runs cargo and returns the executable of the target `name`.
    fn build(&self, name: &str, arguments: &[&str]) -> Done<PathBuf> {
        eprintln!("  $ cargo {}", arguments.join(" "));
        let out = self
            .cargo()
            .args(arguments)
            .args(["--locked", "--message-format=json-render-diagnostics"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if !out.status.success() {
            return Err(format!("cargo {} failed", arguments.join(" ")));
        }
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or_else(|| format!("cargo {} made no executable", arguments.join(" ")))
    }
}

fn benches_of(package: &Value) -> impl Iterator<Item = &Value> {
    package["targets"].as_array().into_iter().flatten().filter(|target| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench"))
    })
}

/// The cargo that started us, so that a pinned toolchain stays pinned.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Reads a file as text, and names it when that fails.
pub(crate) fn read(path: &Path) -> Done<String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file, and names it when that fails.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Done {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}
