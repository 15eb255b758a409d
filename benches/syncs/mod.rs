//! Proves that a batch costs one `fdatasync` of its segment and the log nothing else: a child
//! appends under strace, and what it asked of the kernel is held against what `check` counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lodge_storage::check;
use lodge_storage::disk::RealDisk;

use crate::lodge::Lodge;
use crate::{Outcome, print};

/// The first argument of the child, before its directory.
pub(crate) const CHILD: &str = "--appending-child";

const SYNCS: &str = "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync";
const LASTING: Duration = Duration::from_millis(300);

pub(crate) fn run_child(dir: &Path) -> Outcome<()> {
    let mut log = Lodge::open(dir)?;
    for writers in [1, 64] {
        log.round(writers, LASTING)?;
    }
    log.close();
    Ok(())
}

pub(crate) fn prove(dir: &Path) -> Outcome<()> {
    let trace = dir.with_extension("strace");
    let strace = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "signal=none", "-e", SYNCS, "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .arg(CHILD)
        .arg(dir)
        .status();
    match strace {
        Err(e) => {
            eprintln!("SKIPPED: the proof of one sync a batch, because of strace: {e}");
            return Ok(());
        }
        Ok(status) if !status.success() => return Err(format!("strace: {status}").into()),
        Ok(_) => {}
    }
    let batches = check(&RealDisk, dir, &mut |_| {})?.batches;
    let mut calls = BTreeMap::new();
    let (mut of_segments, mut others) = (0, 0);
    for line in std::fs::read_to_string(&trace)?.lines() {
        // `1234  fdatasync(5</dir/log/00000001.seg>) = 0`; the rest of an interrupted call, which
        // another line continues, names no call.
        let Some((call, file)) = line.split_whitespace().nth(1).and_then(|s| s.split_once('('))
        else {
            continue;
        };
        let file = file.split(['<', '>']).nth(1).unwrap_or_default();
        let file = Path::new(file).strip_prefix(dir).unwrap_or(Path::new(file));
        *calls.entry(format!("{call} ./{}", file.display())).or_insert(0_u64) += 1;
        if file.extension().is_some_and(|end| end == "seg") {
            match call {
                "fdatasync" => of_segments += 1,
                _ => others += 1,
            }
        }
    }
    for (call, count) in &calls {
        eprintln!("strace: {count:6} {call}");
    }
    if others > 0 || batches == 0 {
        return Err(format!("{others} other syncs of segments, {batches} batches").into());
    }
    print("append/syncs_a_batch", of_segments as f64 / batches as f64, "syncs", 1.0);
    Ok(())
}
