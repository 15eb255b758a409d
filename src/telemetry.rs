//! What is counted, and log lines. Message text, names and tokens never come here.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that comes and goes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Telemetry {
    /// Connections that said HELLO.
    pub connections: Gauge,
    pub requests: Counter,
    pub refusals: Counter,
    pub uploads: Counter,
    pub upload_bytes: Counter,
    /// Tasks that panicked: each is a bug.
    pub panics: Counter,
}

impl Telemetry {
    /// Prometheus' text format 0.0.4.
    pub fn render(&self, extra: &[(&str, &str, u64)]) -> String {
        let connections = self.connections.get().max(0).unsigned_abs();
        let own = [
            ("lodge_connections", "gauge", connections),
            ("lodge_http_requests_total", "counter", self.requests.get()),
            ("lodge_refusals_total", "counter", self.refusals.get()),
            ("lodge_uploads_total", "counter", self.uploads.get()),
            ("lodge_upload_bytes_total", "counter", self.upload_bytes.get()),
            ("lodge_panics_total", "counter", self.panics.get()),
        ];
        let mut text = String::new();
        for (name, kind, value) in own.iter().chain(extra) {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

/// Log lines go to stderr, where the journal takes them; times are the journal's.
pub fn start_log_lines(level: &str) {
    let filter = EnvFilter::new(format!("{level},sled=warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}
