//! TLS: which certificate is shown, and how it comes to be.
//!
//! Invariants: a made certificate's key never leaves `data_dir/tls` and is readable by its owner alone; a
//! pair of files that does not fit together never replaces one that does; handshakes are few at a time and
//! have a deadline, so that half-open ones hold nothing for long.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use ring::digest;
use rustls::ServerConfig;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client has this long for its handshake.
pub const HANDSHAKE_MS: u64 = 10_000;
/// Handshakes under way; each costs a signature.
pub const HANDSHAKES_MAX: usize = 256;
/// Bytes that rustls may hold for a reader who takes nothing.
const SEND_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Beyond 825 days some systems refuse a certificate that its owner has marked as trusted.
const MADE_DAYS: u64 = 820;
/// A made certificate is replaced this long before it ends.
const RENEW_DAYS: u64 = 30;
/// A certificate file is not larger than this, whatever its name says.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Stands before the certificate in its file: when it ends, in seconds since 1970.
const ENDS: &str = "# made by lodge; ends ";

#[derive(Debug)]
pub struct Tls {
    acceptor: Acceptor,
    shown: Arc<Shown>,
    source: Source,
    /// What the files looked like when they were last read, good or bad.
    seen: Mutex<[Option<Stamp>; 2]>,
}

/// `TlsAcceptor` has no `Debug`.
struct Acceptor {
    tls: TlsAcceptor,
    handshakes: Semaphore,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The operator's PEM files.
    Own { certificate: PathBuf, key: PathBuf },
    /// Made in this directory, for these names.
    Made { directory: PathBuf, names: Vec<String> },
}

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

type Stamp = (u64, u64, i64, i64);

impl Tls {
    pub fn open(source: Source) -> Result<Tls, String> {
        if let Source::Made { directory, names } = &source {
            make_if_due(directory, names, SystemTime::now())?;
        }
        let (certificate, key) = source.paths();
        let seen = [stamp(&certificate), stamp(&key)];
        let shown = Arc::new(Shown(RwLock::new(Arc::new(read(&certificate, &key)?))));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_no_client_auth()
                .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Stateless: resumption costs no memory here, and its keys change by themselves.
        config.ticketer = provider::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
        let acceptor = Acceptor {
            tls: TlsAcceptor::from(Arc::new(config)),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
        };
        Ok(Tls { acceptor, shown, source, seen: Mutex::new(seen) })
    }

    /// Whether the operator brought it; otherwise only who compared the fingerprint knows it.
    pub fn is_own(&self) -> bool {
        matches!(self.source, Source::Own { .. })
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        let shown = self.shown.now();
        let Some(certificate) = shown.cert.first() else { return String::new() };
        let hash = digest::digest(&digest::SHA256, certificate);
        hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// Shows new files if there are any; a pair that does not fit is said once and waited out.
    /// Touches the disk.
    pub fn look_again(&self) {
        if let Source::Made { directory, names } = &self.source
            && let Err(error) = make_if_due(directory, names, SystemTime::now())
        {
            tracing::error!(%error, "the certificate could not be renewed");
        }
        let (certificate, key) = self.source.paths();
        let stamps = [stamp(&certificate), stamp(&key)];
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == stamps {
                return;
            }
            *seen = stamps;
        }
        match read(&certificate, &key) {
            Ok(pair) => {
                *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                tracing::info!(fingerprint = self.fingerprint(), "a new certificate is shown");
            }
            Err(error) => tracing::error!(%error, "the certificate before is still shown"),
        }
    }

    /// Shakes hands, within the deadline.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let handshake = async {
            let _place = self.acceptor.handshakes.acquire().await.map_err(io::Error::other)?;
            self.acceptor.tls.accept(tcp).await
        };
        let mut stream = timeout(Duration::from_millis(HANDSHAKE_MS), handshake).await??;
        stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_BYTES_MAX));
        Ok(stream)
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("handshakes", &self.handshakes).finish_non_exhaustive()
    }
}

impl Source {
    fn paths(&self) -> (PathBuf, PathBuf) {
        match self {
            Source::Own { certificate, key } => (certificate.clone(), key.clone()),
            Source::Made { directory, .. } => {
                (directory.join("certificate.pem"), directory.join("key.pem"))
            }
        }
    }
}

impl Shown {
    fn now(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

/// Names under which this machine is likely to be typed, beside those that the operator gave.
pub fn own_names(listen: IpAddr, public_url: &str, further: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
    if listen.is_unspecified() {
        names.extend(
            [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].iter().filter_map(
                // Connecting a datagram socket sends nothing: it only asks which address would be used.
                |(here, there)| {
                    let socket = UdpSocket::bind(here).ok()?;
                    socket.connect(there).ok()?;
                    Some(socket.local_addr().ok()?.ip().to_string())
                },
            ),
        );
    } else {
        names.push(listen.to_string());
    }
    names.extend(host_of(public_url).map(str::to_owned));
    names.extend(further.iter().cloned());
    names.retain(|name| {
        rcgen::string::Ia5String::try_from(name.as_str()).is_ok() && !name.is_empty()
    });
    names.sort();
    names.dedup();
    names
}

/// The host in an address, without brackets and port.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if let Some(six) = authority.strip_prefix('[') {
        return six.split(']').next();
    }
    authority.split(':').next().filter(|host| !host.is_empty())
}

fn make_if_due(directory: &Path, names: &[String], now: SystemTime) -> Result<(), String> {
    let say = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let source = Source::Made { directory: directory.to_owned(), names: Vec::new() };
    let (certificate, key) = source.paths();
    let ends = match fs::read_to_string(&certificate) {
        Ok(text) => text
            .lines()
            .find_map(|line| line.strip_prefix(ENDS)?.trim().parse::<u64>().ok())
            .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(say(&certificate, error)),
    };
    let whole = key.try_exists().map_err(|error| say(&key, error))?;
    if whole && ends.is_some_and(|ends| ends > now + DAY * RENEW_DAYS as u32) {
        return Ok(());
    }
    let (certificate_pem, key_pem) = make(names, now).map_err(|error| error.to_string())?;
    fs::create_dir_all(directory).map_err(|error| say(directory, error))?;
    // The key first: a certificate without its key would be shown to nobody, and is made again.
    write(&key, &key_pem).map_err(|error| say(&key, error))?;
    write(&certificate, &certificate_pem).map_err(|error| say(&certificate, error))
}

fn make(names: &[String], now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let ends = now + DAY * MADE_DAYS as u32;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Lodge");
    // A visitor's clock may be a day behind.
    params.not_before = (now - DAY).into();
    params.not_after = ends.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let seconds = ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok((format!("{ENDS}{seconds}\n{}", certificate.pem()), key.serialize_pem()))
}

/// Replaces a file as a whole, readable by its owner alone from its first moment.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let half = path.with_extension("half");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&half)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let bytes = |path: &Path| {
        let size =
            fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        if size > PEM_BYTES_MAX {
            return Err(format!("{}: {size} bytes are no PEM file", path.display()));
        }
        fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_slice_iter(&bytes(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: {error}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: no certificate in it", certificate.display()));
    }
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?)
        .map_err(|error| format!("{}: {error}", key.display()))?;
    CertifiedKey::from_der(chain, private, &provider::default_provider())
        .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))
}

/// What changes when a file is replaced or rewritten.
fn stamp(path: &Path) -> Option<Stamp> {
    let it = fs::metadata(path).ok()?;
    Some((it.ino(), it.len(), it.mtime(), it.mtime_nsec()))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names() -> Vec<String> {
        own_names("0.0.0.0".parse().unwrap(), "https://chat.example.org:8443/x", &["desk".into()])
    }

    /// A made certificate in a directory of its own.
    pub fn made(directory: &Path) -> Tls {
        Tls::open(Source::Made { directory: directory.to_owned(), names: names() }).unwrap()
    }

    #[test]
    fn the_first_start_makes_a_certificate_and_the_second_keeps_it() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("tls");
        let first = made(&directory).fingerprint();
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_eq!(made(&directory).fingerprint(), first);
        for file in ["key.pem", "certificate.pem"] {
            let mode = fs::metadata(directory.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        fs::remove_file(directory.join("key.pem")).unwrap();
        assert_ne!(made(&directory).fingerprint(), first, "without its key it is made again");
    }

    #[test]
    fn names_hold_what_visitors_may_type() {
        let names = names();
        for name in ["localhost", "127.0.0.1", "::1", "chat.example.org", "desk"] {
            assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
        }
        let odd = own_names("192.0.2.4".parse().unwrap(), "", &["聊天".into(), String::new()]);
        assert!(odd.contains(&"192.0.2.4".to_owned()) && !odd.iter().any(|it| it == "聊天"));
    }

    #[test]
    fn a_made_certificate_is_renewed_in_its_last_month() {
        let scratch = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let made = |now| {
            make_if_due(scratch.path(), &names(), now).unwrap();
            fs::read(scratch.path().join("certificate.pem")).unwrap()
        };
        let first = made(now);
        assert_eq!(made(now + DAY * (MADE_DAYS - RENEW_DAYS - 1) as u32), first);
        assert_ne!(made(now + DAY * (MADE_DAYS - RENEW_DAYS) as u32), first);
    }

    #[test]
    fn own_files_are_read_again_when_they_change_and_kept_when_they_do_not_fit() {
        let scratch = tempfile::tempdir().unwrap();
        let (certificate, key) = (scratch.path().join("c.pem"), scratch.path().join("k.pem"));
        let (c1, k1) = make(&names(), SystemTime::now()).unwrap();
        let (c2, k2) = make(&names(), SystemTime::now()).unwrap();
        let own = || Source::Own { certificate: certificate.clone(), key: key.clone() };
        assert!(Tls::open(own()).unwrap_err().contains("c.pem"), "absent files are named");
        write(&certificate, &c1).unwrap();
        write(&key, &k2).unwrap();
        assert!(Tls::open(own()).is_err(), "a key of another certificate");
        write(&key, &k1).unwrap();
        let tls = Tls::open(own()).unwrap();
        let first = tls.fingerprint();
        write(&certificate, &c2).unwrap();
        tls.look_again();
        assert_eq!(tls.fingerprint(), first, "half-way through a change the old pair is shown");
        write(&key, &k2).unwrap();
        tls.look_again();
        let second = tls.fingerprint();
        assert_ne!(second, first);
        for damage in ["", "no PEM", &c2[..c2.len() / 2]] {
            write(&certificate, damage).unwrap();
            tls.look_again();
            assert_eq!(tls.fingerprint(), second);
        }
        assert!(tls.is_own());
    }
}
