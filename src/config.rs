//! The one configuration file: what may stand in it, what it means where it says nothing.
//!
//! Parsing never does anything: it reads text and refuses what it does not know, with the nearest name
//! that it knows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits;

/// Everything that an operator may say. Every field has a default, so an empty file is a whole one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: Listen,
    pub tls: Tls,
    pub control: Control,
    pub log: LogLines,
    pub metrics: Metrics,
    pub limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Listen {
    pub address: SocketAddr,
    pub mode: Mode,
    /// Plain HTTP is for loopback; this says that the operator knows what else it means.
    pub allow_plain_anywhere: bool,
    /// What visitors type, e.g. `https://chat.example.org`; empty: made of the host name and the port.
    pub public_url: String,
    /// Only from these addresses do X-Forwarded-For and X-Forwarded-Proto count.
    pub trusted_proxies: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// TLS ends here.
    Tls,
    /// TLS ends at a reverse proxy that is named in `trusted_proxies`.
    Proxy,
    /// No TLS.
    Plain,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// PEM; empty: a certificate is made at the first start.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Further names and addresses in the certificate that is made.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Control {
    pub socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LogLines {
    /// error, warn, info, debug or trace.
    pub level: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Bearer token for /metrics from elsewhere than loopback; empty: loopback only.
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub connections_max: usize,
    pub connections_address_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: PathBuf::from("/var/lib/lodge"),
            listen: Listen::default(),
            tls: Tls::default(),
            control: Control::default(),
            log: LogLines::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            address: SocketAddr::from(([0, 0, 0, 0], 8443)),
            mode: Mode::Tls,
            allow_plain_anywhere: false,
            public_url: String::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Control {
    fn default() -> Control {
        Control { socket: PathBuf::from("/run/lodge/control") }
    }
}

impl Default for LogLines {
    fn default() -> LogLines {
        LogLines { level: "info".into() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections_max: 100_000, connections_address_max: 1_000 }
    }
}

/// Every key that may stand in the file, by table; "" is the top.
const KNOWN: &[(&str, &[&str])] = &[
    ("", &["data_dir", "listen", "tls", "control", "log", "metrics", "limits"]),
    ("listen", &["address", "mode", "allow_plain_anywhere", "public_url", "trusted_proxies"]),
    ("tls", &["certificate", "key", "names"]),
    ("control", &["socket"]),
    ("log", &["level"]),
    ("metrics", &["token"]),
    ("limits", &["connections_max", "connections_address_max"]),
];

impl Config {
    /// Reads the file; the sentence of a refusal names the file and what to change.
    pub fn read(path: &Path) -> Result<Config, String> {
        let named = |why: String| format!("{}: {why}", path.display());
        let text = text_of(path).map_err(|error| named(error.to_string()))?;
        Config::parse(&text).map_err(named)
    }

    pub fn parse(text: &str) -> Result<Config, String> {
        let table: toml::Table = text.parse().map_err(|error| sentence(text, &error))?;
        known_keys(&table)?;
        let config: Config = table.try_into().map_err(|error| sentence(text, &error))?;
        config.sound()?;
        Ok(config)
    }

    fn sound(&self) -> Result<(), String> {
        // A command that is run elsewhere would take a relative path for another place.
        let certificate = [&self.tls.certificate, &self.tls.key];
        let whole = [("data_dir", &self.data_dir), ("control.socket", &self.control.socket)];
        let files = [("tls.certificate", certificate[0]), ("tls.key", certificate[1])];
        let files = files.into_iter().filter(|(_, path)| !path.as_os_str().is_empty());
        if let Some((name, path)) = whole.into_iter().chain(files).find(|(_, it)| !it.is_absolute())
        {
            return Err(format!("{name}: {path:?} does not begin with /"));
        }
        let listen = &self.listen;
        let loopback = listen.address.ip().is_loopback();
        if listen.mode == Mode::Plain && !loopback && !listen.allow_plain_anywhere {
            return Err(
                "listen.mode = \"plain\" would carry every word in clear over the network: \
                        listen on 127.0.0.1, use \"tls\", or set listen.allow_plain_anywhere = true"
                    .into(),
            );
        }
        if listen.mode == Mode::Proxy && listen.trusted_proxies.is_empty() {
            return Err("listen.mode = \"proxy\" needs listen.trusted_proxies, \
                        e.g. [\"127.0.0.1\"]"
                .into());
        }
        for proxy in &listen.trusted_proxies {
            let (address, bits) = proxy.split_once('/').unwrap_or((proxy, "0"));
            let sound = address.parse::<IpAddr>().is_ok_and(|address| {
                bits.parse::<u8>()
                    .is_ok_and(|bits| bits <= if address.is_ipv4() { 32 } else { 128 })
            });
            if !sound {
                return Err(format!(
                    "listen.trusted_proxies: {proxy:?} is no address and no range"
                ));
            }
        }
        let url = &listen.public_url;
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none() && !url.is_empty() {
            return Err(format!("listen.public_url: {url:?} does not begin with https://"));
        }
        if host.is_some_and(|host| host.is_empty() || !host.bytes().all(|it| it.is_ascii_graphic()))
        {
            return Err(format!("listen.public_url: {url:?} is no address"));
        }
        let is_name = |name: &str| {
            let letter = |it: u8| it.is_ascii_alphanumeric() || b"-.:*_".contains(&it);
            !name.is_empty() && name.bytes().all(letter)
        };
        if let Some(name) = self.tls.names.iter().find(|name| !is_name(name)) {
            return Err(format!("tls.names: {name:?} is no name of a host and no address"));
        }
        if self.tls.certificate.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            return Err("tls.certificate and tls.key are set together, or neither".into());
        }
        if !["error", "warn", "info", "debug", "trace"].contains(&self.log.level.as_str()) {
            return Err(format!(
                "log.level: {:?} is none of error, warn, info, debug, trace",
                self.log.level
            ));
        }
        if self.limits.connections_max == 0 || self.limits.connections_address_max == 0 {
            return Err("a limit of 0 connections would let nobody in".into());
        }
        Ok(())
    }
}

/// The text of a file that can be one: a pipe would never end, and nobody writes so many settings.
fn text_of(path: &Path) -> io::Result<String> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if found.len() > limits::SETTINGS_BYTES_MAX {
        return Err(io::Error::other("it is too long to be a file of settings"));
    }
    std::fs::read_to_string(path)
}

/// What the parser says over several lines, in one.
fn sentence(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let said = match before {
        Some(before) => format!("line {}: {}", before.matches('\n').count() + 1, error.message()),
        None => error.to_string(),
    };
    said.trim().replace('\n', ", ")
}

fn known_keys(table: &toml::Table) -> Result<(), String> {
    for (name, value) in table {
        known("", name)?;
        for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
            known(name, key)?;
        }
    }
    Ok(())
}

fn known(table: &str, key: &str) -> Result<(), String> {
    let keys = KNOWN.iter().find(|(name, _)| *name == table).map_or(&[][..], |(_, keys)| keys);
    if keys.contains(&key) {
        return Ok(());
    }
    let dot = if table.is_empty() { "" } else { "." };
    // The key may be right and only its table wrong, so all tables are searched.
    let all = KNOWN.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (*table, *key)));
    let (near_table, near) =
        all.min_by_key(|(of, it)| (distance(key, it), *of != table)).unwrap_or(("", ""));
    let near_dot = if near_table.is_empty() { "" } else { "." };
    Err(format!(
        "there is no setting {table}{dot}{key}; the nearest is {near_table}{near_dot}{near}"
    ))
}

/// Levenshtein's: how many letters must change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *slot;
            let best = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            diagonal = above;
            left = best;
            *slot = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let cases = [
            ("data_dri = \"x\"", "data_dir"),
            ("[listen]\nadress = \"127.0.0.1:1\"", "listen.address"),
            ("[tls]\ntrusted_proxies = []", "listen.trusted_proxies"),
            ("[lisen]\n", "listen"),
        ];
        for (text, nearest) in cases {
            let why = Config::parse(text).unwrap_err();
            assert!(why.ends_with(&format!("the nearest is {nearest}")), "{text}: {why}");
        }
    }

    #[test]
    fn what_would_be_unsafe_or_senseless_is_refused() {
        let cases = [
            "[listen]\nmode = \"plain\"",
            "[listen]\nmode = \"proxy\"",
            "[listen]\nmode = \"tsl\"",
            "[listen]\naddress = \"localhost\"",
            "[listen]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "[listen]\npublic_url = \"chat.example.org\"",
            "[tls]\ncertificate = \"a.pem\"",
            "[log]\nlevel = \"loud\"",
            "[limits]\nconnections_max = 0",
            "[limits]\nconnections_max = -1",
            "listen = 5",
            "data_dir = [1]",
            "data_dir = \"unfinished",
            "data_dir = \"\"",
            "data_dir = \"data\"",
            "[control]\nsocket = \"control\"",
            "[tls]\ncertificate = \"a.pem\"\nkey = \"/b.pem\"",
            "[tls]\nnames = [\"a b\"]",
            "[listen]\npublic_url = \"https://\"",
            "[listen]\npublic_url = \"https://a b\"",
        ];
        for text in cases {
            let why = Config::parse(text).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{text}: {why}");
        }
        assert!(Config::parse("[listen]\nmode = \"plain\"\naddress = \"127.0.0.1:80\"").is_ok());
    }
}
