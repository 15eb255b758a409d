//! Failed sign-ins of one login, whether it exists or not: after a few, each further one costs time.
//!
//! A try counts as failed before the password is looked at and is forgiven when it was right, so that many at once
//! gain nothing. While a login is shut the right password is refused too, or the wait would be a way to find it.

use lodge_proto::refusal::{Refusal, RefusalCode};

use super::recent::Recent;
use crate::limits::{FREE_FAILURES_MAX, LOCKOUT_MS_MAX, LOGINS_REMEMBERED_MAX};

/// The first wait; each further failure doubles it.
pub const FIRST_WAIT_MS: u64 = 30_000;
/// Failures are forgotten after this long without one.
pub const FORGET_MS: u64 = 60 * 60_000;

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    last_ms: u64,
    open_at_ms: u64,
}

#[derive(Debug)]
pub struct Lockout {
    failures: Recent<String, Failures>,
}

impl Lockout {
    pub fn new() -> Lockout {
        Lockout { failures: Recent::new(LOGINS_REMEMBERED_MAX) }
    }

    /// Counts a try, or refuses it until the login opens again.
    pub fn attempt(&mut self, login: &str, now_ms: u64) -> Result<(), Refusal> {
        let failures = self.failures.entry(login.to_owned());
        // A clock that was set back shuts nobody out for longer than the longest wait.
        let wait_ms = failures.open_at_ms.saturating_sub(now_ms).min(LOCKOUT_MS_MAX);
        if wait_ms > 0 {
            let why = "Too many failed sign-ins. Wait before you try again.";
            let refusal = Refusal::because(RefusalCode::Throttled, why);
            return Err(Refusal { retry_after_ms: wait_ms, ..refusal });
        }
        if now_ms.saturating_sub(failures.last_ms) >= FORGET_MS {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last_ms = now_ms;
        if let Some(doublings) = failures.count.checked_sub(FREE_FAILURES_MAX) {
            let wait_ms = FIRST_WAIT_MS.saturating_mul(1 << doublings.min(16)).min(LOCKOUT_MS_MAX);
            failures.open_at_ms = now_ms.saturating_add(wait_ms);
        }
        Ok(())
    }

    /// A try that never came to the password, because the server was busy.
    pub fn withdraw(&mut self, login: &str) {
        let failures = self.failures.entry(login.to_owned());
        failures.count = failures.count.saturating_sub(1);
        failures.open_at_ms = 0;
    }

    /// The password was right, or somebody who owns the machine gave a new one.
    pub fn forgive(&mut self, login: &str) {
        self.failures.remove(&login.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    #[test]
    fn failures_cost_time_that_doubles_up_to_a_bound() {
        let mut lockout = Lockout::new();
        for _ in 0..FREE_FAILURES_MAX {
            assert_eq!(lockout.attempt("ada", NOW), Ok(()));
        }
        let mut now = NOW;
        let mut expected = FIRST_WAIT_MS;
        for _ in 0..12 {
            let refused = lockout.attempt("ada", now).unwrap_err();
            assert_eq!((refused.code, refused.retry_after_ms), (RefusalCode::Throttled, expected));
            assert!(lockout.attempt("ada", now + expected - 1).is_err());
            now += expected;
            assert_eq!(lockout.attempt("ada", now), Ok(()));
            expected = (expected * 2).min(LOCKOUT_MS_MAX);
        }
        assert_eq!(lockout.attempt("eve", now), Ok(()), "nobody else is shut out");
    }

    #[test]
    fn the_right_password_and_time_forgive() {
        let mut lockout = Lockout::new();
        for _ in 0..FREE_FAILURES_MAX - 1 {
            lockout.attempt("ada", NOW).unwrap();
        }
        lockout.forgive("ada");
        for _ in 0..FREE_FAILURES_MAX {
            lockout.attempt("ada", NOW).unwrap();
        }
        assert!(lockout.attempt("ada", NOW).is_err());
        for _ in 0..FREE_FAILURES_MAX {
            lockout.attempt("ada", NOW + FORGET_MS).unwrap();
        }
        assert!(lockout.attempt("ada", NOW + FORGET_MS).is_err());
    }

    #[test]
    fn a_try_that_was_not_judged_does_not_count() {
        let mut lockout = Lockout::new();
        for _ in 0..FREE_FAILURES_MAX * 3 {
            lockout.attempt("ada", NOW).unwrap();
            lockout.withdraw("ada");
        }
        for _ in 0..FREE_FAILURES_MAX {
            lockout.attempt("ada", NOW).unwrap();
        }
        assert!(lockout.attempt("ada", NOW).is_err());
    }

    #[test]
    fn a_clock_set_back_shuts_nobody_out_for_ever() {
        let mut lockout = Lockout::new();
        for _ in 0..FREE_FAILURES_MAX {
            lockout.attempt("ada", NOW + 1_000_000_000).unwrap();
        }
        assert_eq!(lockout.attempt("ada", NOW).unwrap_err().retry_after_ms, LOCKOUT_MS_MAX);
    }

    #[test]
    fn memory_is_bounded() {
        let mut lockout = Lockout::new();
        for nth in 0..LOGINS_REMEMBERED_MAX * 3 {
            let _ = lockout.attempt(&nth.to_string(), NOW);
        }
        assert!(lockout.failures.len() <= LOGINS_REMEMBERED_MAX);
    }
}
