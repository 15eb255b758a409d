//! Commands for who owns the machine: through the control socket when the server runs, directly when not.
//!
//! One JSON object a line each way. The socket lies in a directory of the service's own and has mode 0660,
//! so the kernel lets in root, the service's own user and the members of its group. It also says who is
//! calling: every command is a log line with that user (never its answer, which may hold a secret).

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lodge_storage::disk::{Disk, RealDisk};
use lodge_storage::{Options, Progress, Store};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::limits;

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command", deny_unknown_fields)]
pub enum Request {
    /// A new set-up address.
    Setup,
    /// A new password for an operator.
    ResetOperator { login: String },
}

/// What is printed, and whether it went well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub ok: bool,
    pub text: String,
}

impl Reply {
    pub fn from(result: Result<String, String>) -> Reply {
        match result {
            Ok(text) => Reply { ok: true, text },
            Err(text) => Reply { ok: false, text },
        }
    }
}

/// Asks the running server; if there is none, `alone` does it on the data directory itself.
pub fn ask(
    config: &Config,
    request: Request,
    alone: impl FnOnce(&Config, Store, &Request) -> Result<Reply, String>,
) -> Result<ExitCode, String> {
    let reply = match UnixStream::connect(&config.control.socket) {
        Ok(stream) => over(stream, &request)?,
        Err(_) => alone(config, open(config)?, &request)?,
    };
    if reply.ok {
        println!("{}", reply.text);
        Ok(ExitCode::SUCCESS)
    } else {
        Err(reply.text)
    }
}

fn over(mut stream: UnixStream, request: &Request) -> Result<Reply, String> {
    let failed = |error: std::io::Error| format!("the running server did not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let line = serde_json::to_string(request).map_err(|error| error.to_string())?;
    writeln!(stream, "{line}").map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    serde_json::from_str(&answer).map_err(|_| "the running server gave no sensible answer".into())
}

fn open(config: &Config) -> Result<Store, String> {
    let shown = &mut |progress: Progress| eprintln!("lodge: {progress}");
    let store = Store::open(Arc::new(RealDisk), &config.data_dir, &Options::default(), shown);
    store.map_err(|error| match error {
        lodge_storage::Error::Locked => format!(
            "a server holds {} but does not answer on {}",
            config.data_dir.display(),
            config.control.socket.display()
        ),
        error => error.to_string(),
    })
}

/// Listens for commands on a thread of its own; `answer` may block.
pub fn listen(
    path: &Path,
    answer: impl Fn(Request) -> Reply + Send + 'static,
) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what} {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed("make the directory of", error))?;
    }
    // Whoever holds the data directory owns the socket too, so an old one is a left-over.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|error| failed("listen on", error))?;
    let mode = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(path, mode).map_err(|error| failed("set the mode of", error))?;
    let serve = move || {
        for stream in listener.incoming().flatten() {
            let reply = read(&stream).map(|(request, user)| {
                tracing::info!(command = request.name(), user, "command over the control socket");
                answer(request)
            });
            let reply = reply.unwrap_or_else(|text| Reply { ok: false, text });
            if let Ok(line) = serde_json::to_string(&reply) {
                let _ = writeln!(&stream, "{line}");
            }
        }
    };
    let thread = std::thread::Builder::new().name("control".into()).spawn(serve);
    thread.map(drop).map_err(|error| failed("start the thread of", error))
}

impl Request {
    fn name(&self) -> &'static str {
        match self {
            Request::Setup => "setup",
            Request::ResetOperator { .. } => "reset-operator",
        }
    }
}

/// The command, and the number of the user who gave it.
fn read(stream: &UnixStream) -> Result<(Request, u32), String> {
    let failed = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let caller =
        rustix::net::sockopt::socket_peercred(stream).map_err(|error| error.to_string())?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(limits::CONTROL_REQUEST_BYTES_MAX));
    reader.read_line(&mut line).map_err(failed)?;
    let request = serde_json::from_str(&line);
    let request = request.map_err(|error| format!("this is no command: {error}"))?;
    Ok((request, caller.uid.as_raw()))
}

/// `lodge check`: reads everything, changes nothing.
pub fn check(config: &Config, json: bool) -> Result<ExitCode, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut shown = |progress: Progress| eprintln!("lodge: {progress}");
    let report = lodge_storage::check(&*disk, &config.data_dir, &mut shown).map_err(|error| {
        if json {
            println!("{}", serde_json::json!({ "sound": false, "error": error.to_string() }));
        }
        error.to_string()
    })?;
    if json {
        let lines = |of: &[lodge_storage::Finding]| -> Vec<String> {
            of.iter().map(ToString::to_string).collect()
        };
        println!(
            "{}",
            serde_json::json!({
                "sound": report.is_sound(),
                "segments": report.segments,
                "batches": report.batches,
                "records": report.records,
                "conversations": report.conversations,
                "blobs": report.blobs,
                "read_only": report.read_only,
                "findings": lines(&report.findings),
                "remarks": lines(&report.remarks),
            })
        );
    } else {
        println!(
            "{} segments, {} batches, {} records, {} conversations, {} blobs",
            report.segments, report.batches, report.records, report.conversations, report.blobs
        );
        for finding in &report.findings {
            println!("damaged: {finding}");
        }
        for remark in &report.remarks {
            println!("mended by the next start: {remark}");
        }
        if let Some(why) = &report.read_only {
            println!("the server would only read: {why}");
        }
        println!("{}", if report.is_sound() { "sound" } else { "not sound" });
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
