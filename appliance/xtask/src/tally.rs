//! Counting what passed, failed and was skipped, and the plain line at the end that says so.

use std::time::Instant;

/// What one step found. A step without tests of its own inside counts as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
    /// Why something failed or was skipped, repeated at the end where it is seen.
    pub(crate) why: Vec<String>,
}

impl Found {
    pub(crate) fn passed() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { failed: 1, why: vec![why.into()], ..Self::default() }
    }

    /// This machine cannot run it. Never used for what merely did not work.
    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: 1, why: vec![why.into()], ..Self::default() }
    }

    pub(crate) fn of(done: Result<(), String>) -> Self {
        match done {
            Ok(()) => Self::passed(),
            Err(why) => Self::failed(why),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.why.extend(other.why);
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    found: Found,
}

impl Tally {
    pub(crate) fn step(&mut self, name: &str, run: impl FnOnce() -> Found) {
        eprintln!("== {name}");
        let start = Instant::now();
        let mut found = run();
        let verdict = match (found.failed, found.skipped, found.passed) {
            (0, 0, 0) => {
                // A runner that ran nothing is a runner that is broken.
                found.add(Found::failed("found nothing to run"));
                "FAILED"
            }
            (0, 0, _) => "passed",
            (0, _, 0) => "SKIPPED",
            (0, _, _) => "passed, some SKIPPED",
            _ => "FAILED",
        };
        for why in &mut found.why {
            *why = format!("{name}: {why}");
            eprintln!("   {why}");
        }
        eprintln!("-- {name}: {verdict} ({:.1} s)", start.elapsed().as_secs_f32());
        self.found.add(found);
    }

    /// Prints the reasons and the closing line; an error when anything failed.
    pub(crate) fn close(self) -> Result<(), String> {
        let Found { passed, failed, skipped, why } = self.found;
        for why in why {
            println!("{why}");
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 { Ok(()) } else { Err(format!("{failed} failed")) }
    }
}

/// Sums the closing lines of `cargo test`. A run that failed without saying where (it did not
/// compile, it was killed) counts as one failure.
pub(crate) fn of_cargo_test(text: &str, ok: bool) -> Found {
    let mut found = Found::default();
    for line in text.lines() {
        if let Some(counts) = line.strip_prefix("test result: ") {
            found.passed += before(counts, " passed");
            found.failed += before(counts, " failed");
            found.skipped += before(counts, " ignored");
        } else if let Some(name) = line.strip_prefix("test ")
            && (name.ends_with("FAILED") || name.contains("... ignored"))
        {
            found.why.push(name.to_owned());
        }
    }
    close_gap(found, ok)
}

/// Sums the summary of Node's own test runner, in either of its two shapes.
pub(crate) fn of_node_test(text: &str, ok: bool) -> Found {
    let mut found = Found::default();
    for line in text.lines() {
        let line = line.trim_start_matches(['\u{2139}', '#', ' ']);
        let count = |name: &str| {
            line.strip_prefix(name).and_then(|rest| rest.trim().parse::<u32>().ok()).unwrap_or(0)
        };
        found.passed += count("pass ");
        found.failed += count("fail ") + count("cancelled ");
        found.skipped += count("skipped ") + count("todo ");
    }
    close_gap(found, ok)
}

/// What an npm script of ours found: a run of Node's tests, lines of its own, or only its verdict.
pub(crate) fn of_script(text: &str, ok: bool) -> Found {
    let empty = Found::default();
    for found in [of_node_test(text, true), of_lines(text, true)] {
        if found != empty {
            return close_gap(found, ok);
        }
    }
    if ok { Found::passed() } else { Found::failed("failed") }
}

/// Sums lines `ok NAME`, `not ok NAME` and `skipped NAME`, as our own scripts print them.
pub(crate) fn of_lines(text: &str, ok: bool) -> Found {
    let mut found = Found::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with("ok ") {
            found.passed += 1;
        } else if let Some(name) =
            line.strip_prefix("not ok ").or_else(|| line.strip_prefix("FAIL "))
        {
            found.add(Found::failed(name));
        } else if let Some(name) = line.strip_prefix("skipped ") {
            found.add(Found::skipped(name));
        }
    }
    close_gap(found, ok)
}

fn close_gap(mut found: Found, ok: bool) -> Found {
    if !ok && found.failed == 0 {
        found.add(Found::failed("ended badly without naming a test"));
    }
    found
}

/// The number that stands before `word` in `3 passed; 0 failed; 1 ignored`.
fn before(counts: &str, word: &str) -> u32 {
    counts
        .split(word)
        .next()
        .filter(|rest| rest.len() < counts.len())
        .and_then(|rest| rest.rsplit([' ', ';']).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_test_is_summed_over_its_binaries() {
        let text = "test a::b ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                    test c ... FAILED\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured";
        let found = of_cargo_test(text, false);
        assert_eq!((found.passed, found.failed, found.skipped), (15, 1, 1));
        assert_eq!(found.why, ["c ... FAILED"]);
    }

    #[test]
    fn a_run_that_ends_badly_never_counts_as_passed() {
        assert_eq!(of_cargo_test("error: could not compile", false).failed, 1);
        assert_eq!(of_node_test("", false).failed, 1);
        assert_eq!(of_lines("ok one", false).failed, 1);
    }

    #[test]
    fn node_speaks_in_two_shapes() {
        for text in [
            "# tests 5\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 1\n",
            "ℹ pass 3\nℹ fail 1\nℹ skipped 1",
        ] {
            let found = of_node_test(text, false);
            assert_eq!((found.passed, found.failed, found.skipped), (3, 1, 1), "{text}");
        }
    }

    #[test]
    fn a_script_is_read_in_whichever_way_it_speaks() {
        // Node's own lines begin like ours; only its summary is counted.
        assert_eq!(of_script("ok 1 - a\nok 2 - b\n# pass 2\n# fail 0\n", true).passed, 2);
        assert_eq!(of_script("ok    a\nFAIL  b\n", false).failed, 1);
        assert_eq!(of_script("0 errors", true), Found::passed());
        assert_eq!(of_script("1 error", false).failed, 1);
    }

    #[test]
    fn our_own_lines_name_what_failed() {
        let found = of_lines(
            "noise\nok boots\n  not ok purges: /etc/lodge is left\nskipped x: no y\n",
            false,
        );
        assert_eq!((found.passed, found.failed, found.skipped), (1, 1, 1));
        assert_eq!(found.why, ["purges: /etc/lodge is left", "x: no y"]);
    }

    #[test]
    fn a_step_that_ran_nothing_fails() {
        let mut tally = Tally::default();
        tally.step("empty", Found::default);
        assert_eq!(tally.found.failed, 1);
        assert!(tally.close().is_err());
    }
}
