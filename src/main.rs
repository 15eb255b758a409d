//! Lodge, the private front desk: arguments -> Config -> one match.
#![allow(unreachable_pub, reason = "in a binary `pub` marks the face of a room")]

mod limits;

mod config;

mod desk;

mod commit;
mod devices;
mod follow;

mod bell;
mod signal;

mod access;
mod lens;

mod console;
mod net;

mod control;
mod serve;
mod starts;
mod telemetry;

#[cfg(test)]
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use argh::FromArgs;

use config::Config;

/// Messages are small and many; mimalloc gives their memory back sooner than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lodge, the private front desk.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Serve(Serve),
    Setup(Setup),
    Operator(Operator),
    Check(Check),
    Version(Version),
}

/// Runs the server.
#[derive(FromArgs)]
#[argh(subcommand, name = "serve")]
struct Serve {
    /// the configuration file (default: /etc/lodge/lodge.toml if it is there)
    #[argh(option)]
    config: Option<PathBuf>,
}

/// Prints a new one-time set-up address, valid for an hour.
#[derive(FromArgs)]
#[argh(subcommand, name = "setup")]
struct Setup {
    /// the configuration file (default: /etc/lodge/lodge.toml if it is there)
    #[argh(option)]
    config: Option<PathBuf>,
}

/// Helps the operator.
#[derive(FromArgs)]
#[argh(subcommand, name = "operator")]
struct Operator {
    #[argh(subcommand)]
    command: OperatorCommand,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum OperatorCommand {
    Reset(Reset),
}

/// Gives an operator a new password, printed once, and ends their sessions.
#[derive(FromArgs)]
#[argh(subcommand, name = "reset")]
struct Reset {
    /// the login name of the operator
    #[argh(positional)]
    login: String,
    /// the configuration file (default: /etc/lodge/lodge.toml if it is there)
    #[argh(option)]
    config: Option<PathBuf>,
}

/// Verifies the data directory without changing it; exit code 0 = sound, 1 = damaged, 2 = could not be read.
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
struct Check {
    /// the configuration file (default: /etc/lodge/lodge.toml if it is there)
    #[argh(option)]
    config: Option<PathBuf>,
    /// print one JSON object instead of sentences
    #[argh(switch)]
    json: bool,
}

/// Prints the version and the store format.
#[derive(FromArgs)]
#[argh(subcommand, name = "version")]
struct Version {}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    match arguments.command {
        Command::Serve(it) => with(it.config, |config| serve::run(&config)),
        Command::Setup(it) => {
            with(it.config, |config| control::ask(&config, control::Request::Setup, serve::alone))
        }
        Command::Operator(Operator { command: OperatorCommand::Reset(it) }) => {
            let Reset { login, config } = it;
            with(config, |config| {
                let request = control::Request::ResetOperator { login };
                control::ask(&config, request, serve::alone)
            })
        }
        Command::Check(it) => with(it.config, |config| control::check(&config, it.json)),
        Command::Version(_) => {
            println!(
                "lodge {} (store format {})",
                env!("CARGO_PKG_VERSION"),
                lodge_storage::FORMAT
            );
            ExitCode::SUCCESS
        }
    }
}

/// Reads the configuration and runs a command with it; a refusal is one sentence and exit code 2.
fn with(path: Option<PathBuf>, run: impl FnOnce(Config) -> Result<ExitCode, String>) -> ExitCode {
    let usual = PathBuf::from("/etc/lodge/lodge.toml");
    let config = match path {
        Some(path) => Config::read(&path),
        None if usual.exists() => Config::read(&usual),
        None => Ok(Config::default()),
    };
    match config.and_then(run) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("lodge: {why}");
            ExitCode::from(2)
        }
    }
}
