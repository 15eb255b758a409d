//! Running other programs: their output passes to stderr as it comes, and is kept for who asks.

use std::{
    io::{BufRead, BufReader, Read, Write as _},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

/// What a habit ends with. The text is for a person; nothing here is matched on.
pub(crate) type Done<T = ()> = Result<T, String>;

/// What a program said, on both streams together, and whether it was content.
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) ok: bool,
}

/// Runs to the end and shows the output meanwhile. An error is only that it could not be started.
pub(crate) fn watch(command: &mut Command) -> Done<Said> {
    let name = name(command);
    eprintln!("  $ {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    let (lines, said) = mpsc::sync_channel(64);
    let readers = [
        child.stdout.take().map(|out| read_lines(out, lines.clone())),
        child.stderr.take().map(|err| read_lines(err, lines)),
    ];
    let mut text = String::new();
    for line in said {
        let _ = writeln!(std::io::stderr(), "    {line}");
        text.push_str(&line);
        text.push('\n');
    }
    for reader in readers.into_iter().flatten() {
        reader.join().map_err(|_| format!("the reader of {name} panicked"))?;
    }
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    Ok(Said { text, ok: status.success() })
}

/// As [`watch`], where anything but success is an error.
pub(crate) fn must(command: &mut Command) -> Done<String> {
    let name = name(command);
    let said = watch(command)?;
    if said.ok { Ok(said.text) } else { Err(format!("{name} failed")) }
}

/// Runs silently and returns standard output.
pub(crate) fn ask(command: &mut Command) -> Done<String> {
    let name = name(command);
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    if !out.status.success() {
        return Err(format!("{name} failed"));
    }
    String::from_utf8(out.stdout).map_err(|_| format!("{name} did not write UTF-8"))
}

/// The command as one would type it, shortened where it would fill the screen.
fn name(command: &Command) -> String {
    let mut name = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        name.push(' ');
        name.push_str(&argument.to_string_lossy());
    }
    if name.chars().count() > 160 {
        name = name.chars().take(157).chain("...".chars()).collect();
    }
    name
}

fn read_lines(
    stream: impl Read + Send + 'static,
    lines: mpsc::SyncSender<String>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_and_the_verdict_are_kept() {
        let said = watch(&mut shell("echo out; echo err >&2; exit 3")).expect("sh is there");
        assert!(!said.ok && said.text.contains("out\n") && said.text.contains("err\n"));
        assert!(must(&mut shell("exit 1")).is_err() && must(&mut shell("exit 0")).is_ok());
        assert_eq!(ask(&mut shell("printf x; echo noise >&2")).as_deref(), Ok("x"));
        assert!(watch(&mut Command::new("/no/such/program")).is_err());
    }
}
