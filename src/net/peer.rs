//! Who is at the far end: the socket's address, or what a trusted proxy says about it.
//!
//! Invariant: a header counts only when it comes from an address that the operator named; the list in
//! X-Forwarded-For is read from the right, since everything left of the first stranger is his to invent.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Hops that are looked at; real chains have two or three.
const HOPS_MAX: usize = 16;

/// Addresses and ranges of reverse proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u128,
    mask: u128,
}

/// The far end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// Whether the first hop, the visitor's own, is TLS.
    pub secure: bool,
}

impl Proxies {
    /// Addresses or `address/bits`.
    pub fn parse(written: &[String]) -> Result<Proxies, String> {
        let range = |text: &String| {
            Range::parse(text).ok_or_else(|| format!("{text:?} is no address and no range"))
        };
        written.iter().map(range).collect::<Result<_, _>>().map(Proxies)
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        self.0.iter().any(|range| bits & range.mask == range.first)
    }

    /// `forwarded_for` and `forwarded_proto` are the values of those headers in the order in which they stand.
    pub fn far_end<'a>(
        &self,
        socket: IpAddr,
        secure: bool,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
        forwarded_proto: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Peer {
        let mut peer = Peer { address: socket.to_canonical(), secure };
        if !self.trusts(peer.address) {
            return peer;
        }
        if let Some(proto) = forwarded_proto.rev().flat_map(|value| value.rsplit(',')).next() {
            peer.secure = proto.trim().eq_ignore_ascii_case("https");
        }
        for hop in forwarded_for.rev().flat_map(|value| value.rsplit(',')).take(HOPS_MAX) {
            let Some(address) = parse_hop(hop.trim()) else { break };
            peer.address = address;
            if !self.trusts(address) {
                break;
            }
        }
        peer
    }
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // "+8" and "08" are numbers to `parse`, but nothing an operator meant.
            Some(prefix) if prefix.bytes().all(|it| it.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        // All of IPv4 lies in the last 32 bits, mapped.
        let free = u32::checked_sub(width, prefix)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        Some(Range { first: bits(address) & mask, mask })
    }
}

/// Both families as one, so that an IPv4 address is the same however it arrives.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

/// An address as proxies write it: bare, with a port, in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse()
        .or_else(|_| hop.parse::<SocketAddr>().map(|it| it.ip()))
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// What counts as one household when connections are counted: an IPv6 network is one subscriber's.
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(list: &[&str]) -> Proxies {
        Proxies::parse(&list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let cases = [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.9.9.9/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.168.1.0/31", "192.168.1.1", true),
            ("192.168.1.0/31", "192.168.1.2", false),
        ];
        for (range, address, expected) in cases {
            let trusted = proxies(&[range]).trusts(address.parse().unwrap());
            assert_eq!(trusted, expected, "{address} in {range}");
        }
        for bad in
            ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "10.0.0.0/", "10/8"]
        {
            assert!(Proxies::parse(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_up_to_the_first_stranger() {
        let ours = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        // socket, X-Forwarded-For, X-Forwarded-Proto -> address, secure
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a str, bool);
        let cases: &[Case<'_>] = &[
            ("203.0.113.9", &["1.1.1.1"], &["https"], "203.0.113.9", false),
            ("127.0.0.1", &["198.51.100.7"], &["https"], "198.51.100.7", true),
            ("127.0.0.1", &["evil, 198.51.100.7"], &["http"], "198.51.100.7", false),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.3"], &[], "198.51.100.7", false),
            ("127.0.0.1", &["6.6.6.6", "198.51.100.7", "10.0.0.3"], &[], "198.51.100.7", false),
            ("127.0.0.1", &["10.0.0.4, 10.0.0.3"], &[], "10.0.0.4", false),
            ("127.0.0.1", &[], &["http, https"], "127.0.0.1", true),
            ("127.0.0.1", &["198.51.100.7, unknown"], &[], "127.0.0.1", false),
            ("127.0.0.1", &["198.51.100.7, unknown, 10.0.0.3"], &[], "10.0.0.3", false),
            ("127.0.0.1", &["[2001:db8::7]:4711"], &[], "2001:db8::7", false),
            ("127.0.0.1", &["[2001:db8::7]"], &[], "2001:db8::7", false),
            ("127.0.0.1", &["198.51.100.7:80"], &[], "198.51.100.7", false),
            ("::ffff:127.0.0.1", &["::ffff:198.51.100.7"], &[], "198.51.100.7", false),
            ("127.0.0.1", &[""], &[""], "127.0.0.1", false),
        ];
        for (socket, hops, proto, address, secure) in cases {
            let far = ours.far_end(
                socket.parse().unwrap(),
                false,
                hops.iter().copied(),
                proto.iter().copied(),
            );
            let expected = Peer { address: address.parse().unwrap(), secure: *secure };
            assert_eq!(far, expected, "{socket} {hops:?} {proto:?}");
        }
    }

    #[test]
    fn an_endless_chain_of_our_own_is_not_walked() {
        let ours = proxies(&["10.0.0.0/8"]);
        let chain = "10.0.0.1,".repeat(100_000) + "10.0.0.2";
        let far = ours.far_end(
            "10.0.0.9".parse().unwrap(),
            true,
            [chain.as_str()].into_iter(),
            [].into_iter(),
        );
        assert_eq!(far.address, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert!(far.secure);
    }

    #[test]
    fn an_ipv6_network_is_one_household() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
