//! Redis, whose append-only file is synced before it answers: a list a conversation.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{Peer, Server, each_connected, program};
use crate::Outcome;

struct Redis {
    // Before the server, which would otherwise end under them.
    connections: Vec<Connection>,
    socket: PathBuf,
    _server: Server,
}

struct Connection {
    stream: UnixStream,
    list: String,
}

pub(crate) fn start(dir: &Path) -> Outcome<Box<dyn Peer>> {
    let socket = dir.join("socket");
    let mut command = Command::new(program("redis-server", &[])?);
    command.args(["--port", "0", "--maxclients", "2000", "--daemonize", "no"]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command.args(["--auto-aof-rewrite-percentage", "0"]);
    command.arg("--dir").arg(dir).arg("--unixsocket").arg(&socket);
    let mut server = Server::start(&mut command, dir, Signal::TERM)?;
    let first = server.wait_for(|| Connection::open(&socket, 0))?;
    Ok(Box::new(Redis { connections: vec![first], socket, _server: server }))
}

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<f64> {
        for writer in self.connections.len()..writers {
            self.connections.push(Connection::open(&self.socket, writer)?);
        }
        each_connected(&mut self.connections[..writers], lasting, Connection::push)
    }
}

impl Connection {
    fn open(socket: &Path, writer: usize) -> Outcome<Connection> {
        let stream = UnixStream::connect(socket)?;
        let mut connection = Connection { stream, list: format!("conversation:{writer}") };
        connection.push("hello")?;
        Ok(connection)
    }

    fn push(&mut self, text: &str) -> Outcome<()> {
        let command = format!(
            "*3\r\n$5\r\nRPUSH\r\n${}\r\n{}\r\n${}\r\n{text}\r\n",
            self.list.len(),
            self.list,
            text.len()
        );
        self.stream.write_all(command.as_bytes())?;
        // `:` and the length of the list, in one short line.
        let mut answer = [0; 64];
        let mut len = 0;
        while len == 0 || answer[len - 1] != b'\n' {
            let read = self.stream.read(&mut answer[len..])?;
            if read == 0 {
                return Err("redis hung up".into());
            }
            len += read;
        }
        if answer[0] != b':' {
            return Err(String::from_utf8_lossy(&answer[..len]).into());
        }
        Ok(())
    }
}
