//! How fast one address may act: a token bucket for each address and act, in a bounded map.
//!
//! An address is an IPv4 address or an IPv6 /64, which is what one household or one machine is given. Many people
//! may share one behind a provider's router, so the bounds for visitors are wide and those for passwords are not.

use std::net::IpAddr;

use lodge_proto::refusal::{Refusal, RefusalCode};

use super::recent::Recent;
use crate::limits::PACES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// A password is tried.
    LogIn,
    /// A set-up token is tried.
    SetUp,
    /// A visitor's token is asked for.
    Visit,
    /// An upload begins.
    Upload,
    /// Anything else of the JSON API.
    Ask,
}

impl Act {
    /// How many at once, and how long until there is one more.
    pub fn pace(self) -> Pace {
        match self {
            Act::LogIn => Pace { burst: 60, refill_ms: 2_000 },
            Act::SetUp => Pace { burst: 10, refill_ms: 6_000 },
            Act::Visit => Pace { burst: 300, refill_ms: 100 },
            Act::Upload => Pace { burst: 200, refill_ms: 100 },
            Act::Ask => Pace { burst: 600, refill_ms: 20 },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub burst: u64,
    pub refill_ms: u64,
}

/// What was spent, as the moment at which the bucket is full again.
#[derive(Debug, Default)]
struct Bucket {
    full_at_ms: u64,
}

#[derive(Debug)]
pub struct Paces {
    buckets: Recent<(u64, bool, Act), Bucket>,
}

impl Paces {
    pub fn new() -> Paces {
        Paces { buckets: Recent::new(PACES_MAX) }
    }

    /// Takes one act out of the bucket, or says when there will be one.
    pub fn allow(&mut self, address: IpAddr, act: Act, now_ms: u64) -> Result<(), Refusal> {
        // Everything on this machine may share an address: a proxy that is not told of, a test, a bridge.
        if address.is_loopback() && act != Act::LogIn && act != Act::SetUp {
            return Ok(());
        }
        let Pace { burst, refill_ms } = act.pace();
        let (network, six) = network(address);
        let bucket = self.buckets.entry((network, six, act));
        let longest = burst.saturating_mul(refill_ms);
        // A clock that was set back leaves at most an empty bucket behind.
        let full_at_ms = bucket.full_at_ms.clamp(now_ms, now_ms.saturating_add(longest));
        let spent_until = full_at_ms.saturating_add(refill_ms);
        let wait_ms = spent_until.saturating_sub(now_ms.saturating_add(longest));
        if wait_ms > 0 {
            return Err(Refusal::after(RefusalCode::Throttled, wait_ms));
        }
        bucket.full_at_ms = spent_until;
        Ok(())
    }
}

fn network(address: IpAddr) -> (u64, bool) {
    match address.to_canonical() {
        IpAddr::V4(four) => (u64::from(u32::from(four)), false),
        IpAddr::V6(six) => ((u128::from(six) >> 64) as u64, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        for act in [Act::LogIn, Act::SetUp, Act::Visit, Act::Upload, Act::Ask] {
            let mut paces = Paces::new();
            let here = address("192.0.2.1");
            let Pace { burst, refill_ms } = act.pace();
            for nth in 0..burst {
                assert_eq!(paces.allow(here, act, NOW), Ok(()), "{act:?} {nth}");
            }
            let refused = paces.allow(here, act, NOW).unwrap_err();
            assert_eq!(refused, Refusal::after(RefusalCode::Throttled, refill_ms));
            assert!(paces.allow(here, act, NOW + refill_ms - 1).is_err());
            assert!(paces.allow(here, act, NOW + refill_ms).is_ok());
            assert!(paces.allow(here, act, NOW + refill_ms).is_err());
            for _ in 0..burst {
                assert!(paces.allow(here, act, NOW + refill_ms * (burst + 1)).is_ok());
            }
            assert!(paces.allow(here, act, NOW + refill_ms * (burst + 1)).is_err());
        }
    }

    #[test]
    fn one_address_does_not_slow_another_and_one_network_does_not_pose_as_many() {
        let mut paces = Paces::new();
        for nth in 0..Act::LogIn.pace().burst {
            let six = address(&format!("2001:db8::{nth:x}"));
            assert!(paces.allow(six, Act::LogIn, NOW).is_ok());
            assert!(paces.allow(address("192.0.2.1"), Act::LogIn, NOW).is_ok());
        }
        assert!(paces.allow(address("2001:db8::ffff"), Act::LogIn, NOW).is_err());
        assert!(paces.allow(address("2001:db8:0:1::1"), Act::LogIn, NOW).is_ok());
        assert!(paces.allow(address("::ffff:192.0.2.1"), Act::LogIn, NOW).is_err());
        assert!(paces.allow(address("192.0.2.2"), Act::LogIn, NOW).is_ok());
        assert!(paces.allow(address("192.0.2.1"), Act::SetUp, NOW).is_ok());
    }

    #[test]
    fn a_clock_that_jumps_locks_nobody_out_for_long() {
        let mut paces = Paces::new();
        let here = address("192.0.2.1");
        let Pace { burst, refill_ms } = Act::LogIn.pace();
        for _ in 0..burst {
            assert!(paces.allow(here, Act::LogIn, NOW + 1_000_000_000).is_ok());
        }
        let refused = paces.allow(here, Act::LogIn, NOW).unwrap_err();
        assert_eq!(refused.retry_after_ms, refill_ms);
        assert!(paces.allow(here, Act::LogIn, u64::MAX).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut paces = Paces::new();
        for nth in 0..(PACES_MAX as u32 * 3) {
            let _ = paces.allow(IpAddr::V4(nth.into()), Act::Visit, NOW);
        }
        assert!(paces.buckets.len() <= PACES_MAX);
    }
}
