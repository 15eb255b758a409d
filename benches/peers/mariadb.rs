//! MariaDB with the message table of go-fly, through prepared statements; just enough of its
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
    id INT NOT NULL AUTO_INCREMENT, kefu_id VARCHAR(100) NOT NULL, visitor_id VARCHAR(100) NOT NULL,
    content VARCHAR(2048) NOT NULL, created_at TIMESTAMP NOT NULL,
    mes_type ENUM('kefu', 'visitor') NOT NULL, status ENUM('read', 'unread') NOT NULL,
    PRIMARY KEY (id), KEY kefu_id (kefu_id), KEY visitor_id (visitor_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4";
const INSERT: &str = "INSERT INTO message
    (kefu_id, visitor_id, content, created_at, mes_type, status)
    VALUES (?, ?, ?, NOW(), 'visitor', 'unread')";

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const TYPE_VAR_STRING: u8 = 0xFD;
const PARAMETERS: usize = 3;
/// LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH
const CAPABILITIES: u32 = 1 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19;
const UTF8MB4: u8 = 45;

struct MariaDb {
    connections: Vec<Connection>,
    socket: PathBuf,
    _server: Server,
}

struct Connection {
    stream: BufReader<UnixStream>,
    statement: u32,
    agent: String,
    visitor: String,
}

pub(crate) fn start(dir: &Path) -> Outcome<Box<dyn Peer>> {
    let (files, socket) = (dir.join("files"), dir.join("socket"));
    let user = format!("--user={}", super::user_name()?);
    let files = format!("--datadir={}", files.display());
    run(Command::new(program("mariadb-install-db", &[])?).args([
        "--no-defaults",
        &user,
        &files,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]))?;
    let mut command = Command::new(program("mariadbd", &["/usr/sbin".into()])?);
    command.args(["--no-defaults", &user, &files, "--skip-networking"]);
    command.args(["--innodb-flush-log-at-trx-commit=1", "--max-connections=1100"]);
    command.arg(format!("--socket={}", socket.display()));
    command.arg(format!("--pid-file={}", dir.join("pid").display()));
    let mut server = Server::start(&mut command, dir, Signal::TERM)?;
    let mut first = server.wait_for(|| Connection::open(&socket, 0))?;
    first.query("CREATE DATABASE fly")?;
    first.query("USE fly")?;
    first.query(CREATE)?;
    drop(first);
    Ok(Box::new(MariaDb { connections: Vec::new(), socket, _server: server }))
}

impl Peer for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<f64> {
        for writer in self.connections.len()..writers {
            let mut connection = Connection::open(&self.socket, writer)?;
            connection.query("USE fly")?;
            connection.prepare()?;
            self.connections.push(connection);
        }
        each_connected(&mut self.connections[..writers], lasting, Connection::insert)
    }
}

impl Connection {
    /// As root without a password, which a fresh installation allows on its own socket.
    fn open(socket: &Path, writer: usize) -> Outcome<Connection> {
        let stream = BufReader::new(UnixStream::connect(socket)?);
        let (agent, visitor) = ids(writer);
        let mut connection = Connection { stream, statement: 0, agent, visitor };
        let _greeting = connection.receive()?;
        let mut login = CAPABILITIES.to_le_bytes().to_vec();
        login.extend((1_u32 << 24).to_le_bytes());
        login.push(UTF8MB4);
        login.extend([0; 23]);
        login.extend(b"root\0\0mysql_native_password\0");
        connection.send(1, &login)?;
        let answer = connection.receive()?;
        if answer.first() == Some(&0xFE) {
            connection.send(3, b"")?;
            connection.receive()?;
        }
        Ok(connection)
    }

    fn query(&mut self, sql: &str) -> Outcome<()> {
        self.send(0, &[&[COM_QUERY], sql.as_bytes()].concat())?;
        self.receive().map(|_| ())
    }

    fn prepare(&mut self) -> Outcome<()> {
        self.send(0, &[&[COM_STMT_PREPARE], INSERT.as_bytes()].concat())?;
        let answer = self.receive()?;
        let id = answer.get(1..5).ok_or("a short answer")?;
        self.statement = u32::from_le_bytes(id.try_into()?);
        // What the parameters are called, and an end of that.
        for _ in 0..PARAMETERS + 1 {
            self.receive()?;
        }
        Ok(())
    }

    fn insert(&mut self, text: &str) -> Outcome<()> {
        let mut command = vec![COM_STMT_EXECUTE];
        command.extend(self.statement.to_le_bytes());
        command.push(0);
        command.extend(1_u32.to_le_bytes());
        command.push(0);
        command.push(1);
        for _ in 0..PARAMETERS {
            command.extend([TYPE_VAR_STRING, 0]);
        }
        for value in [&self.agent, &self.visitor, text] {
            // Lengths below 251 are one byte.
            command.push(u8::try_from(value.len())?);
            command.extend(value.as_bytes());
        }
        self.send(0, &command)?;
        self.receive().map(|_| ())
    }

    fn send(&mut self, sequence: u8, payload: &[u8]) -> Outcome<()> {
        let [a, b, c, _] = u32::try_from(payload.len())?.to_le_bytes();
        let packet = [&[a, b, c, sequence], payload].concat();
        Ok(self.stream.get_mut().write_all(&packet)?)
    }

    fn receive(&mut self) -> Outcome<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        let [a, b, c, _] = header;
        let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        self.stream.read_exact(&mut payload)?;
        if payload.first() == Some(&0xFF) {
            return Err(String::from_utf8_lossy(&payload).into());
        }
        Ok(payload)
    }
}
