//! PostgreSQL with the same table as MariaDB, through prepared statements; just enough of its
//! protocol to speak it without a client that would cost more than the server.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{Peer, Server, each_connected, ids, program, run};
use crate::Outcome;

const CREATE: &str = "CREATE TABLE message (
    id SERIAL PRIMARY KEY, kefu_id VARCHAR(100) NOT NULL, visitor_id VARCHAR(100) NOT NULL,
    content VARCHAR(2048) NOT NULL, created_at TIMESTAMP NOT NULL,
    mes_type VARCHAR(7) NOT NULL, status VARCHAR(6) NOT NULL);
    CREATE INDEX ON message (kefu_id); CREATE INDEX ON message (visitor_id)";
const INSERT: &str = "INSERT INTO message
    (kefu_id, visitor_id, content, created_at, mes_type, status)
    VALUES ($1, $2, $3, now(), 'visitor', 'unread')";

const PROTOCOL_3: u32 = 3 << 16;
/// The server names its socket after a port, also when it listens on none.
const SOCKET: &str = ".s.PGSQL.5432";

struct Postgres {
    connections: Vec<Connection>,
    socket: PathBuf,
    _server: Server,
}

struct Connection {
    stream: BufReader<UnixStream>,
    agent: String,
    visitor: String,
}

pub(crate) fn start(dir: &Path) -> Outcome<Box<dyn Peer>> {
    let packaged = packaged_programs();
    let files = dir.join("files");
    let mut initdb = as_nobody(program("initdb", &packaged)?);
    initdb.arg("-D").arg(&files).args(["-A", "trust", "-U", "lodge", "--locale=C.UTF-8"]);
    run(&mut initdb)?;
    let mut command = as_nobody(program("postgres", &packaged)?);
    command.arg("-D").arg(&files).arg("-k").arg(dir);
    command.args(["-c", "listen_addresses=", "-c", "max_connections=1100"]);
    let mut server = Server::start(&mut command, dir, Signal::INT)?;
    let socket = dir.join(SOCKET);
    let mut first = server.wait_for(|| Connection::open(&socket, 0))?;
    first.query(CREATE)?;
    drop(first);
    Ok(Box::new(Postgres { connections: Vec::new(), socket, _server: server }))
}

impl Peer for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<f64> {
        for writer in self.connections.len()..writers {
            let mut connection = Connection::open(&self.socket, writer)?;
            connection.prepare()?;
            self.connections.push(connection);
        }
        each_connected(&mut self.connections[..writers], lasting, Connection::insert)
    }
}

impl Connection {
    fn open(socket: &Path, writer: usize) -> Outcome<Connection> {
        let stream = BufReader::new(UnixStream::connect(socket)?);
        let (agent, visitor) = ids(writer);
        let mut connection = Connection { stream, agent, visitor };
        let asked = b"user\0lodge\0database\0postgres\0\0";
        let mut startup = (8 + asked.len() as u32).to_be_bytes().to_vec();
        startup.extend(PROTOCOL_3.to_be_bytes());
        startup.extend(asked);
        connection.stream.get_mut().write_all(&startup)?;
        connection.until_ready()?;
        Ok(connection)
    }

    fn query(&mut self, sql: &str) -> Outcome<()> {
        let mut sent = Vec::new();
        push(&mut sent, b'Q', &[sql.as_bytes(), b"\0"]);
        self.ask(&sent)
    }

    fn prepare(&mut self) -> Outcome<()> {
        let mut sent = Vec::new();
        push(&mut sent, b'P', &[b"insert\0", INSERT.as_bytes(), b"\0", &0_u16.to_be_bytes()]);
        push(&mut sent, b'S', &[]);
        self.ask(&sent)
    }

    fn insert(&mut self, text: &str) -> Outcome<()> {
        // Into the unnamed portal, all in the text form, no columns back.
        let mut bind = b"\0insert\0\0\0\0\x03".to_vec();
        for value in [&self.agent, &self.visitor, text] {
            bind.extend(u32::try_from(value.len())?.to_be_bytes());
            bind.extend(value.as_bytes());
        }
        bind.extend([0, 0]);
        let mut sent = Vec::new();
        push(&mut sent, b'B', &[&bind]);
        push(&mut sent, b'E', &[b"\0", &0_u32.to_be_bytes()]);
        push(&mut sent, b'S', &[]);
        self.ask(&sent)
    }

    fn ask(&mut self, sent: &[u8]) -> Outcome<()> {
        self.stream.get_mut().write_all(sent)?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Outcome<()> {
        let mut error = None;
        loop {
            let mut header = [0; 5];
            self.stream.read_exact(&mut header)?;
            let [kind, a, b, c, d] = header;
            let len = u32::from_be_bytes([a, b, c, d]).checked_sub(4).ok_or("a short length")?;
            let mut payload = vec![0; len as usize];
            self.stream.read_exact(&mut payload)?;
            match kind {
                b'E' => {
                    // Refused before it began: nothing more will come.
                    error = Some(String::from_utf8_lossy(&payload).into_owned());
                }
                b'Z' => return error.map_or(Ok(()), |error| Err(error.into())),
                _ => {}
            }
        }
    }
}

fn push(to: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len: usize = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    to.push(kind);
    to.extend((len as u32).to_be_bytes());
    for part in parts {
        to.extend_from_slice(part);
    }
}

/// Debian keeps each version in a directory of its own; the newest comes first.
fn packaged_programs() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, dir)| dir).collect()
}

/// It refuses to run as root. In a user namespace we are somebody else to it, and still ourselves to
/// our files.
fn as_nobody(program: PathBuf) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=65534", "--map-group=65534"]).arg(program);
    command
}
