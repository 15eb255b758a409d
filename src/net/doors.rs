//! From a configuration to open doors: sockets, certificate, and the task of each connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lodge_appliance::{Certificate, Trust, trust};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::house::House;
use super::http::{self, Front};
use super::listener::{self, Place, Places};
use super::peer::Proxies;
use super::stream::Stream;
use super::tls::{Source, Tls, own_names};
use crate::config::{Config, Mode};

/// How often the certificate's files are looked at.
const LOOK_AGAIN_MS: u64 = 30_000;

/// Open sockets that nobody serves yet: who comes meanwhile waits in the kernel's queue.
#[derive(Debug)]
pub struct Doors {
    listeners: Vec<TcpListener>,
    wire: Wire,
    proxies: Proxies,
    places: Arc<Places>,
    public_url: String,
    metrics_token: String,
}

/// What is spoken on a fresh connection.
#[derive(Debug, Clone)]
enum Wire {
    Tls(Arc<Tls>),
    /// Clear, and only from the proxies that the operator named.
    Proxy,
    Plain,
}

impl Doors {
    /// Binds, and makes or reads the certificate. Waits for the disk.
    pub fn open(config: &Config) -> Result<Doors, String> {
        let listen = &config.listen;
        let proxies = Proxies::parse(&listen.trusted_proxies)?;
        let wire = match listen.mode {
            Mode::Tls => Wire::Tls(Arc::new(Tls::open(source(config))?)),
            Mode::Proxy => Wire::Proxy,
            Mode::Plain => Wire::Plain,
        };
        let listeners = listener::sockets(listen.address)
            .map_err(|error| format!("{} cannot be listened on: {error}", listen.address))?;
        let limits = &config.limits;
        Ok(Doors {
            listeners,
            wire,
            places: Places::new(
                limits.connections_max,
                limits.connections_address_max,
                proxies.clone(),
            ),
            proxies,
            public_url: public_url(config),
            metrics_token: config.metrics.token.clone(),
        })
    }

    /// Where they really are, which a configured port 0 leaves open.
    #[cfg(test)]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|it| it.local_addr().ok()).collect()
    }

    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Of the certificate that is shown here, if one is.
    pub fn fingerprint(&self) -> Option<String> {
        match &self.wire {
            Wire::Tls(tls) => Some(tls.fingerprint()),
            Wire::Proxy | Wire::Plain => None,
        }
    }

    /// Whether a stranger's browser would trust the address that visitors type.
    pub fn trust(&self) -> Trust {
        let certificate = match &self.wire {
            Wire::Tls(tls) if tls.is_own() => Certificate::Own,
            Wire::Tls(_) => Certificate::SelfMade,
            Wire::Proxy => Certificate::Proxy,
            Wire::Plain => Certificate::None,
        };
        trust(&self.public_url, certificate)
    }

    /// Lets connections in until `stop` says true; those that are here then end at their own next pause.
    pub async fn serve(self, house: House, mut stop: watch::Receiver<bool>) {
        let front = Arc::new(Front {
            house,
            proxies: self.proxies,
            lasting_tls: matches!(&self.wire, Wire::Tls(tls) if tls.is_own()),
            behind_proxy: matches!(self.wire, Wire::Proxy),
            metrics_token: self.metrics_token,
        });
        let mut doors = JoinSet::new();
        for listener in self.listeners {
            let (front, wire, stop) = (front.clone(), self.wire.clone(), stop.clone());
            let welcome = move |tcp, peer: SocketAddr, place| {
                let (front, wire, stop) = (front.clone(), wire.clone(), stop.clone());
                tokio::spawn(async move {
                    // Errors of one connection are its own.
                    let _ = Box::pin(connection(front, wire, tcp, peer, place, stop)).await;
                });
            };
            doors.spawn(listener::accept(listener, self.places.clone(), welcome));
        }
        if let Wire::Tls(tls) = self.wire {
            doors.spawn(look_again(tls));
        }
        let _ = stop.wait_for(|stop| *stop).await;
        doors.shutdown().await;
    }
}

/// What visitors type: what the operator says, else this machine's name and the port.
pub fn public_url(config: &Config) -> String {
    let listen = &config.listen;
    let said = listen.public_url.trim_end_matches('/');
    if !said.is_empty() {
        return said.to_owned();
    }
    let port = listen.address.port();
    if listen.mode == Mode::Tls {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        return match port {
            443 => format!("https://{name}"),
            port => format!("https://{name}:{port}"),
        };
    }
    format!("http://{}", listen.address)
}

fn source(config: &Config) -> Source {
    let tls = &config.tls;
    if !tls.certificate.as_os_str().is_empty() {
        return Source::Own { certificate: tls.certificate.clone(), key: tls.key.clone() };
    }
    let listen = &config.listen;
    Source::Made {
        directory: config.data_dir.join("tls"),
        names: own_names(listen.address.ip(), &listen.public_url, &tls.names),
    }
}

async fn connection(
    front: Arc<Front>,
    wire: Wire,
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (stream, secure, http2) = match wire {
        Wire::Tls(tls) => {
            let stream = tls.accept(tcp).await?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::tls(stream), true, http2)
        }
        Wire::Proxy if !front.proxies.trusts(peer.ip()) => {
            tracing::warn!(address = %peer.ip(), "not in listen.trusted_proxies; sent away");
            return Ok(());
        }
        Wire::Proxy | Wire::Plain => (Stream::plain(tcp), false, false),
    };
    http::serve(front, stream, peer.ip(), secure, http2, place, stop).await;
    Ok(())
}

async fn look_again(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
        let tls = tls.clone();
        let _ = tokio::task::spawn_blocking(move || tls.look_again()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(public_url(&Config::parse(text).unwrap()), expected, "{text}");
    }

    #[test]
    fn the_address_that_visitors_type() {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        check("", &format!("https://{name}:8443"));
        check("[listen]\naddress = \"0.0.0.0:443\"", &format!("https://{name}"));
        check("[listen]\npublic_url = \"https://chat.example/\"", "https://chat.example");
        check("[listen]\nmode = \"plain\"\naddress = \"127.0.0.1:80\"", "http://127.0.0.1:80");
    }
}
