//! A server on trial: the real binary on loopback with a data directory of its own, set up over its
//! own API as an operator would, killed when it is dropped.

use crate::{
    house, http,
    run::{self, Done},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const READY_MAX: Duration = Duration::from_secs(60);
/// Longer than any start of a small store, however spoiled.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// Fine enough for a start that should take 100 ms, coarse enough not to be the load.
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(crate) struct Trial {
    binary: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) address: SocketAddr,
    child: Child,
    ready: Ready,
    /// From the start of the process to the first good answer of `/readyz`.
    pub(crate) ready_after: Duration,
}

/// What set-up gave.
pub(crate) struct Desk {
    pub(crate) app: String,
    pub(crate) login: String,
    pub(crate) password: String,
}

impl Trial {
    /// Starts `binary` in `folder`, which may hold the data of an earlier trial.
    pub(crate) fn start(binary: &Path, folder: &Path, settings: &Settings<'_>) -> Done<Self> {
        let config = folder.join("lodge.toml");
        house::write(&config, settings.toml(folder))?;
        let ready = if settings.mode == "tls" { ready_over_tls } else { ready_in_clear };
        let (child, ready_after) = launch(binary, &config, folder, settings.address, ready)?;
        Ok(Self {
            binary: binary.to_owned(),
            config,
            address: settings.address,
            child,
            ready,
            ready_after,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As an operator's first minutes: the one-time address, an account, a site.
    pub(crate) fn set_up(&self, origins: &[&str]) -> Done<Desk> {
        let said =
            run::ask(Command::new(&self.binary).arg("setup").arg("--config").arg(&self.config))?;
        let token = said
            .split_once("/setup#")
            .map(|(_, rest)| {
                rest.chars()
                    .take_while(|letter| letter.is_ascii_alphanumeric() || "-_".contains(*letter))
                    .collect::<String>()
            })
            .ok_or_else(|| format!("lodge setup printed no set-up address:\n{said}"))?;
        let password = secret()?;
        let asked = json!({
            "token": token, "login": "desk", "password": password, "name": "Front desk",
            "site_name": "Demo", "origins": origins,
        });
        let answer = http::post(self.address, "/api/v1/setup", &[("X-Lodge", "1")], &asked)?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("set-up was refused: {}", String::from_utf8_lossy(&answer.body)));
        }
        let app = answer
            .json()?
            .get("app")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or("set-up gave no AppID")?;
        Ok(Desk { app, login: "desk".to_owned(), password })
    }

    /// Without a chance to tidy up, as a power cut would.
    pub(crate) fn kill(&mut self) -> Done {
        self.child.kill().and_then(|()| self.child.wait()).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Waits until the server ends by itself, which it does only when told to.
    pub(crate) fn wait(&mut self) -> Done {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}")) }
    }

    pub(crate) fn restart(&mut self) -> Done {
        let folder = self.config.parent().ok_or("the settings lie nowhere")?;
        (self.child, self.ready_after) =
            launch(&self.binary, &self.config, folder, self.address, self.ready)?;
        Ok(())
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.kill();
    }
}

pub(crate) struct Settings<'a> {
    pub(crate) address: SocketAddr,
    /// "plain", "proxy" or "tls".
    pub(crate) mode: &'a str,
    pub(crate) public_url: &'a str,
}

impl Settings<'_> {
    pub(crate) fn toml(&self, folder: &Path) -> String {
        // JSON strings are TOML strings.
        let text = |text: &str| Value::from(text).to_string();
        let path = |name: &str| text(&folder.join(name).to_string_lossy());
        format!(
            "data_dir = {}\n[listen]\naddress = {}\nmode = {}\npublic_url = {}\n{}[control]\nsocket = {}\n",
            path("data"),
            text(&self.address.to_string()),
            text(self.mode),
            text(self.public_url),
            if self.mode == "proxy" { "trusted_proxies = [\"127.0.0.1\"]\n" } else { "" },
            path("control"),
        )
    }
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> Done<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port on loopback: {error}"))
}

/// What a server made of the data that it was given.
pub(crate) enum Outcome {
    Open(Trial),
    /// It serves, and `/readyz` says why nothing is taken.
    ReadOnly(Trial, String),
    /// It ended by itself; its last words are all that it said.
    Refused {
        code: Option<i32>,
        said: String,
    },
}

impl Trial {
    /// As `start`, for data that may be spoiled. An error is only a server that neither serves nor ends.
    pub(crate) fn attempt(
        binary: &Path,
        folder: &Path,
        settings: &Settings<'_>,
    ) -> Done<(Outcome, String)> {
        let config = folder.join("lodge.toml");
        house::write(&config, settings.toml(folder))?;
        let log = folder.join("server.log");
        house::write(&log, "")?;
        let mut child = spawn(binary, &config, folder)?;
        let start = Instant::now();
        loop {
            let answer = http::get(settings.address, "/readyz");
            let ended = child.try_wait().map_err(|error| error.to_string())?;
            let said = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(ended) = ended {
                let said = said();
                return Ok((Outcome::Refused { code: ended.code(), said: said.clone() }, said));
            }
            if let Ok(answer) = answer {
                let (binary, address) = (binary.to_owned(), settings.address);
                let ready: Ready = ready_in_clear;
                let ready_after = start.elapsed();
                let trial = Self { binary, config, address, child, ready, ready_after };
                let outcome = match answer.status {
                    200 => Outcome::Open(trial),
                    _ => Outcome::ReadOnly(trial, String::from_utf8_lossy(&answer.body).into()),
                };
                return Ok((outcome, said()));
            }
            if start.elapsed() > ATTEMPT_MAX {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!("the server neither serves nor ends:\n{}", said()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Starts and kills without waiting for it to be ready: somewhere in its recovery.
    pub(crate) fn kill_during_start(&mut self, after: Duration) -> Done {
        let folder = self.config.parent().ok_or("the settings lie nowhere")?;
        self.child = spawn(&self.binary, &self.config, folder)?;
        std::thread::sleep(after);
        self.kill()
    }

    /// Asks it to end, as systemd does.
    pub(crate) fn terminate(&self) -> Done {
        // The shell's own: a small Debian has no program of that name.
        let id = self.child.id().to_string();
        run::ask(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id])).map(drop)
    }

    /// `lodge check --json` beside it: the exit code and the object.
    pub(crate) fn check(binary: &Path, folder: &Path) -> Done<(Option<i32>, Value)> {
        let out = Command::new(binary)
            .args(["check", "--json", "--config"])
            .arg(folder.join("lodge.toml"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("lodge check: {error}"))?;
        let said = String::from_utf8_lossy(&out.stdout);
        let value = serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))?;
        Ok((out.status.code(), value))
    }
}

/// Whether a server says that it is ready.
type Ready = fn(SocketAddr) -> bool;

fn ready_in_clear(to: SocketAddr) -> bool {
    http::get(to, "/readyz").is_ok_and(|answer| answer.status == 200)
}

fn ready_over_tls(to: SocketAddr) -> bool {
    http::get_over_tls(to, "/readyz").is_ok_and(|answer| answer.status == 200)
}

fn spawn(binary: &Path, config: &Path, folder: &Path) -> Done<Child> {
    let log = folder.join("server.log");
    let open = || fs::OpenOptions::new().create(true).append(true).open(&log);
    let (out, err) =
        open().and_then(|out| Ok((out, open()?))).map_err(|error| error.to_string())?;
    Command::new(binary)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|error| format!("{}: {error}", binary.display()))
}

fn launch(
    binary: &Path,
    config: &Path,
    folder: &Path,
    address: SocketAddr,
    ready: Ready,
) -> Done<(Child, Duration)> {
    let log = folder.join("server.log");
    let start = Instant::now();
    let mut child = spawn(binary, config, folder)?;
    loop {
        if ready(address) {
            return Ok((child, start.elapsed()));
        }
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || start.elapsed() > READY_MAX {
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = said.lines().rev().take(20).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            return Err(format!("the server is not ready ({ended:?}):\n{}", tail.join("\n")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// 96 random bits as a word that can be typed.
pub(crate) fn secret() -> Done<String> {
    use std::io::Read as _;
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
