//! The doors: sockets that systemd hands over or that we bind, and who is let in.
//!
//! Invariants: every accepted connection holds a `Place` until its last task ends, so the counts are true;
//! no place, no connection; when the machine has no descriptor left, accepting waits instead of spinning.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::peer::household;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: u32 = 4096;
/// How long accepting waits when there are no descriptors or no memory.
const EXHAUSTED_MS: u64 = 100;
/// Sockets that systemd may hand over.
const INHERITED_MAX: usize = 16;
/// A peer that has not acknowledged our bytes for so long is gone.
const UNACKNOWLEDGED_MS: u32 = 60_000;
/// The kernel asks a silent peer whether it is there: after so long, so often, that many times.
const KEEPALIVE_SECONDS: u64 = 120;
const KEEPALIVE_AGAIN_SECONDS: u64 = 30;
const KEEPALIVE_TIMES: u32 = 4;

/// The sockets to listen on: those of systemd, else one bound to `address`.
pub fn sockets(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..passed.len().min(INHERITED_MAX) {
        if let Some(listener) = passed.take_tcp_listener(at)? {
            listener.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(listener)?);
        }
    }
    if listeners.is_empty() {
        listeners.push(bind(address)?);
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restart must not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets connections in for as long as it is polled; `welcome` starts the task of each.
pub async fn accept(
    listener: TcpListener,
    places: Arc<Places>,
    welcome: impl Fn(TcpStream, SocketAddr, Place),
) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // Without a place it is closed at once: who waits in the kernel's queue waits in vain.
                if let Some(place) = places.take(peer.ip()) {
                    tune(&tcp);
                    welcome(tcp, peer, place);
                }
            }
            Err(error) if is_exhausted(&error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(Duration::from_millis(EXHAUSTED_MS)).await;
            }
            // The peer went away while it waited.
            Err(error) => tracing::debug!(%error, "a connection ended before it began"),
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Each of these only betters things, so a refusal by the kernel changes nothing.
fn tune(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(tcp, true);
    let _ = sockopt::set_tcp_keepidle(tcp, Duration::from_secs(KEEPALIVE_SECONDS));
    let _ = sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(KEEPALIVE_AGAIN_SECONDS));
    let _ = sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_TIMES);
    let _ = sockopt::set_tcp_user_timeout(tcp, UNACKNOWLEDGED_MS);
}

/// How many connections there may be, in all and of one household.
#[derive(Debug)]
pub struct Places {
    max: usize,
    household_max: usize,
    /// Addresses that stand for many people: the reverse proxies.
    many: super::peer::Proxies,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Holds only who is here, so it is never larger than `max`.
    households: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    household: Option<IpAddr>,
}

impl Places {
    pub fn new(max: usize, household_max: usize, many: super::peer::Proxies) -> Arc<Places> {
        Arc::new(Places { max, household_max, many, taken: Mutex::default() })
    }

    pub fn take(self: &Arc<Places>, address: IpAddr) -> Option<Place> {
        let household = (!self.many.trusts(address)).then(|| household(address));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.max {
            return None;
        }
        if let Some(household) = household {
            if taken.households.get(&household).is_some_and(|here| *here >= self.household_max) {
                return None;
            }
            *taken.households.entry(household).or_default() += 1;
        }
        taken.total += 1;
        Some(Place { places: self.clone(), household })
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(household) = self.household
            && let Some(here) = taken.households.get_mut(&household)
        {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.households.remove(&household);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::Proxies;
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_household() {
        let proxies = Proxies::parse(&["10.0.0.1".into()]).unwrap();
        let places = Places::new(5, 2, proxies);
        let take = |address: &str| places.take(address.parse().unwrap());
        let mut held = vec![take("192.0.2.1").unwrap(), take("192.0.2.1").unwrap()];
        assert!(take("192.0.2.1").is_none(), "a third of one household");
        held.push(take("10.0.0.1").unwrap());
        held.push(take("10.0.0.1").unwrap());
        held.push(take("10.0.0.1").unwrap());
        assert!(take("192.0.2.2").is_none(), "a sixth in all");
        held.remove(0);
        held.push(take("192.0.2.1").unwrap());
        held.clear();
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().unwrap().households.is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_place_is_sent_away_and_comes_in_when_there_is_one() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let places = Places::new(1, 1, Proxies::default());
        let (welcomed, mut guests) = tokio::sync::mpsc::unbounded_channel();
        let door = tokio::spawn(accept(listener, places.clone(), move |tcp, _, place| {
            welcomed.send((tcp, place)).unwrap();
        }));
        let _first = TcpStream::connect(address).await.unwrap();
        let guest = guests.recv().await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        second.readable().await.unwrap();
        assert!(!matches!(second.try_read(&mut [0; 1]), Ok(1..)), "it is closed without a word");
        drop(guest);
        let _third = TcpStream::connect(address).await.unwrap();
        assert!(guests.recv().await.is_some());
        door.abort();
    }

    #[tokio::test]
    async fn without_systemd_the_address_is_bound() {
        let listeners = sockets("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(listeners.len(), 1);
        assert!(sockets(listeners[0].local_addr().unwrap()).is_err(), "it is taken");
    }
}
