//! The server under load: started, set up over its own API, measured from outside, killed and started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lodge_client::{Http, Proof, Server, Trust};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::ledger::Ledger;

const READY_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// The kernel counts processor time in hundredths.
const TICKS_A_SECOND: f64 = 100.0;

/// A running server and what is known of it.
pub struct Lodge {
    binary: PathBuf,
    folder: PathBuf,
    /// Its own when the load made it.
    _scratch: Option<tempfile::TempDir>,
    child: Child,
    pub address: SocketAddr,
    certificate: CertificateDer<'static>,
    pub app: String,
    pub agents: Vec<String>,
    pub kills: u64,
    began: Instant,
    lasted: Duration,
    /// Of processes that were killed, in hundredths of a second.
    ticks_before: u64,
    ticks_at_start: u64,
    rss_max_kb: u64,
    /// Of that, what is not pages of mapped files.
    own_max_kb: u64,
}

impl Lodge {
    /// Starts the server with an empty directory and sets up a site and agents, whose cookies are kept.
    pub async fn start(binary: PathBuf, keep: Option<PathBuf>, agents: usize) -> Lodge {
        let scratch = keep.is_none().then(|| tempfile::tempdir().expect("a scratch directory"));
        let folder = keep.unwrap_or_else(|| scratch.as_ref().expect("made").path().to_owned());
        std::fs::create_dir_all(&folder).expect("the data directory");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        std::fs::write(folder.join("lodge.toml"), settings(&folder, address)).expect("settings");
        let child = launch(&binary, &folder);
        let mut lodge = Lodge {
            binary,
            certificate: CertificateDer::from(Vec::new()),
            child,
            address,
            app: String::new(),
            agents: Vec::new(),
            kills: 0,
            began: Instant::now(),
            lasted: Duration::ZERO,
            ticks_before: 0,
            ticks_at_start: 0,
            rss_max_kb: 0,
            own_max_kb: 0,
            folder,
            _scratch: scratch,
        };
        let made = lodge.folder.join("data/tls/certificate.pem");
        let started = Instant::now();
        while !made.is_file() {
            assert!(started.elapsed() < READY_MAX, "no certificate came:\n{}", lodge.said());
            sleep(LOOK_EVERY).await;
        }
        lodge.certificate = CertificateDer::from_pem_file(&made).expect("a certificate");
        lodge.ready().await;
        lodge.set_up(agents).await;
        lodge
    }

    /// The server as the peer with this number sees it: from a loopback address of its own.
    pub fn seen_by(&self, peer: usize) -> Server {
        let [_, _, third, fourth] = (peer as u32 + 1).to_be_bytes();
        let from = Ipv4Addr::new(127, 1, third, fourth);
        Server::new("localhost", self.address.port(), Trust::Pinned(self.certificate.clone()))
            .expect("localhost is a name")
            .at(self.address)
            .from(from.into())
    }

    /// From here on its time and memory count.
    pub fn begin(&mut self) {
        self.began = Instant::now();
        self.ticks_at_start = self.ticks();
    }

    /// Looks after the server until `end`: measures it, and kills it every so often.
    pub async fn watch(&mut self, end: Instant, kill_every: Option<Duration>, ledger: &Ledger) {
        let mut kill_at = kill_every.map(|every| self.began + every);
        let mut look_at = self.began + MEASURE_EVERY;
        while Instant::now() < end {
            let next = kill_at.map_or(look_at, |kill_at| kill_at.min(look_at)).min(end);
            sleep_until(next).await;
            if let (Some(at), Some(every)) = (kill_at, kill_every)
                && Instant::now() >= at
                && at < end
            {
                self.kill_and_restart().await;
                kill_at = Some(at + every);
            }
            if Instant::now() >= look_at {
                self.measure();
                look_at += MEASURE_EVERY;
                if (look_at - self.began).as_secs().is_multiple_of(10) {
                    ledger.progress();
                }
            }
        }
        self.measure();
        self.lasted = self.began.elapsed();
    }

    pub fn figures(&mut self) -> Value {
        self.measure();
        let ticks = self.ticks_before + self.ticks() - self.ticks_at_start;
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let seconds = self.began.elapsed().as_secs_f64();
        let share = ticks as f64 / TICKS_A_SECOND / seconds / cores * 100.0;
        json!({
            "cpu_pct": (share * 10.0).round() / 10.0,
            "rss_mb": self.rss_max_kb / 1024,
            "rss_own_mb": self.own_max_kb / 1024,
            "disk_bytes": disk_bytes(&self.folder.join("data")),
            "cores": cores,
            "watched_s": seconds.round(),
        })
    }

    async fn kill_and_restart(&mut self) {
        self.measure();
        self.ticks_before += self.ticks();
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("it ends");
        self.kills += 1;
        self.child = launch(&self.binary, &self.folder);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let http = Http::new(self.seen_by(usize::from(u16::MAX)));
        let started = Instant::now();
        loop {
            if http.get("/readyz", &Proof::Nobody).await.is_ok() {
                return;
            }
            let ended = self.child.try_wait().expect("a child");
            let patient = ended.is_none() && started.elapsed() < READY_MAX;
            assert!(patient, "the server is not ready ({ended:?}):\n{}", self.said());
            sleep(LOOK_EVERY).await;
        }
    }

    async fn set_up(&mut self, agents: usize) {
        let mut setup = Command::new(&self.binary);
        setup.args(["setup", "--config"]).arg(self.folder.join("lodge.toml"));
        let said = setup.output().expect("lodge setup runs");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let token: String = said
            .split_once("/setup#")
            .expect("lodge setup prints the set-up address")
            .1
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || "-_".contains(*letter))
            .collect();
        let http = Http::new(self.seen_by(usize::from(u16::MAX)));
        let password = "load-only-0f3b7c21";
        let origin = format!("https://localhost:{}", self.address.port());
        let asked = json!({
            "token": token, "login": "desk", "password": password, "name": "Desk",
            "site_name": "Load", "origins": [origin],
        });
        let post = hyper::Method::POST;
        let (cookie, site) = http
            .json(post.clone(), "/api/v1/setup", &Proof::Nobody, &asked)
            .await
            .expect("set-up is taken");
        self.app = site["app"].as_str().expect("set-up gives an AppID").to_owned();
        let operator = Proof::Cookie(cookie.expect("set-up signs in"));
        for number in 0..agents {
            let login = format!("agent{number}");
            let agent = json!({
                "login": login, "name": format!("Agent {number}"), "role": "agent",
                "password": password,
            });
            http.json(post.clone(), "/api/v1/agents", &operator, &agent).await.expect("an agent");
            let http = Http::new(self.seen_by(usize::from(u16::MAX) - 1 - number));
            self.agents.push(http.login(&login, password).await.expect("the agent signs in"));
        }
    }

    fn measure(&mut self) {
        let status = self.proc("status");
        let kb = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        self.rss_max_kb = self.rss_max_kb.max(kb("VmRSS:"));
        self.own_max_kb = self.own_max_kb.max(kb("RssAnon:"));
    }

    /// Processor time of the process, in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The name in parentheses may hold anything; the numbers come behind it.
        let numbers = stat.rsplit_once(')').map_or("", |(_, numbers)| numbers);
        numbers.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum()
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let mut tail: Vec<&str> = log.lines().rev().take(20).collect();
        tail.reverse();
        tail.join("\n")
    }
}

impl Drop for Lodge {
    fn drop(&mut self) {
        // Whatever became of the load, nothing is left running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both ends of 2,020 WebSockets and as many calls.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
}

fn settings(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "data_dir = \"{folder}/data\"\n\
         [listen]\naddress = \"{address}\"\nmode = \"tls\"\npublic_url = \"https://localhost:{}\"\n\
         [tls]\nnames = [\"localhost\", \"127.0.0.1\"]\n\
         [control]\nsocket = \"{folder}/control\"\n\
         [log]\nlevel = \"warn\"\n",
        address.port()
    )
}

fn launch(binary: &Path, folder: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("server.log"))
        .expect("the server's log");
    let again = log.try_clone().expect("twice");
    Command::new(binary)
        .args(["serve", "--config"])
        .arg(folder.join("lodge.toml"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        .spawn()
        .expect("the server starts")
}

/// What the directory takes on the disk, holes not counted.
fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(it) if it.is_dir() => disk_bytes(&entry.path()),
            Ok(it) => it.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
