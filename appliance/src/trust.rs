//! Would a stranger's browser trust the address that visitors type?
//!
//! It matters because the failure is silent: a page served over HTTPS drops a script whose
//! certificate it cannot verify, without a warning and without a place to click. Set-up therefore
//! says it before the first visitor does not. Pure: address and certificate in, words out; nothing
//! is looked up, and what cannot be known from inside is said to be unknown.

use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where the certificate that visitors see comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Made by Lodge at its first start.
    SelfMade,
    /// The operator's own files.
    Own,
    /// A reverse proxy shows its own.
    Proxy,
    /// None: plain HTTP.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trusted {
    /// On this machine only, which is enough to try things out.
    Here,
    /// If the certificate was signed by an authority that browsers know and names this address.
    Depends,
    No,
}

/// The same sentence for both languages of the product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Words {
    pub en: String,
    pub zh: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trust {
    pub address: String,
    pub trusted: Trusted,
    pub says: Words,
    /// What to do about it, the best way first.
    pub steps: Vec<Words>,
}

/// The report on `public_url`, the address that visitors type.
#[must_use]
pub fn trust(public_url: &str, certificate: Certificate) -> Trust {
    let Some(address) = Address::parse(public_url) else {
        return Trust {
            address: public_url.to_owned(),
            trusted: Trusted::No,
            says: words(
                "This is not an address that a browser can open.",
                "这不是浏览器能打开的地址。",
            ),
            steps: vec![words(
                "Set listen.public_url to what visitors type, for example https://chat.example.org.",
                "请把 listen.public_url 设为访客输入的地址，例如 https://chat.example.org。",
            )],
        };
    };
    let (trusted, says, steps) = match (certificate, address.secure) {
        (Certificate::None, _) | (_, false) => plain(&address),
        (Certificate::SelfMade, true) => self_made(),
        (Certificate::Own, true) => signed(&address, "certificate", "证书"),
        (Certificate::Proxy, true) => signed(&address, "proxy's certificate", "代理的证书"),
    };
    Trust { address: public_url.to_owned(), trusted, says, steps }
}

type Verdict = (Trusted, Words, Vec<Words>);

fn plain(address: &Address<'_>) -> Verdict {
    if address.loopback() {
        return (
            Trusted::Here,
            words(
                "Plain HTTP on this machine: browsers here accept it, nobody else can reach it.",
                "这是本机的明文 HTTP：本机的浏览器会接受，其他人无法访问。",
            ),
            vec![own_certificate(), behind_proxy()],
        );
    }
    (
        Trusted::No,
        words(
            "Plain HTTP: an HTTPS page will not load the widget from it, and every message can be read on the way.",
            "明文 HTTP：HTTPS 网页不会加载该地址的聊天组件，消息在途中也可能被窃读。",
        ),
        vec![own_certificate(), behind_proxy()],
    )
}

fn self_made() -> Verdict {
    (
        Trusted::No,
        words(
            "Lodge made this certificate itself. A stranger's browser does not know it, and the widget will silently not appear on an HTTPS page.",
            "此证书由 Lodge 自行生成，陌生人的浏览器不认识它；HTTPS 网页上的聊天组件将不会出现，也不会有任何提示。",
        ),
        vec![
            own_certificate(),
            behind_proxy(),
            words(
                "Inside one organisation: install this certificate as trusted on its machines, after comparing the fingerprint.",
                "仅供单位内部使用时：核对指纹后，在内部电脑上将此证书设为受信任。",
            ),
        ],
    )
}

fn signed(address: &Address<'_>, whose_en: &str, whose_zh: &str) -> Verdict {
    let mut steps = vec![words(
        "Open the address once from a phone that has never seen this server: a page without a warning is the proof.",
        "用一部从未访问过此服务器的手机打开该地址：页面没有任何警告即为可信。",
    )];
    if address.private() {
        steps.insert(
            0,
            words(
                "Use a public name: authorities that browsers know do not sign names or addresses of a private network.",
                "请使用公网域名：浏览器信任的机构不会为内网名称或地址签发证书。",
            ),
        );
    }
    (
        Trusted::Depends,
        words(
            &format!(
                "Trusted if an authority that browsers know signed the {whose_en} for \"{}\".",
                address.host
            ),
            &format!("若{whose_zh}由浏览器信任的机构为“{}”签发，则可信。", address.host),
        ),
        steps,
    )
}

fn own_certificate() -> Words {
    words(
        "Get a certificate for your domain and name its files in tls.certificate and tls.key; they are read again when they change.",
        "为您的域名申请证书，并在 tls.certificate 和 tls.key 中填写文件路径；文件更新后会自动重新读取。",
    )
}

fn behind_proxy() -> Words {
    words(
        "Or let a web server that already has a certificate pass the connection on: listen.mode = \"proxy\" and listen.trusted_proxies.",
        "或由已有证书的网站服务器转发：设置 listen.mode = \"proxy\" 与 listen.trusted_proxies。",
    )
}

fn words(en: &str, zh: &str) -> Words {
    Words { en: en.to_owned(), zh: zh.to_owned() }
}

/// As much of an address as the verdict needs.
struct Address<'a> {
    secure: bool,
    host: &'a str,
}

impl<'a> Address<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (secure, rest) = match url.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, after)
            }
            None => match authority.find(':') {
                Some(at) => authority.split_at(at),
                None => (authority, ""),
            },
        };
        let port_fits = port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|n| n > 0));
        let host_fits = !host.is_empty()
            && host.chars().all(|letter| letter.is_alphanumeric() || ".-:".contains(letter));
        (port_fits && host_fits).then_some(Self { secure, host })
    }

    fn loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || self.host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
    }

    /// A name or address that no public authority signs.
    fn private(&self) -> bool {
        if let Ok(address) = self.host.parse::<Ipv4Addr>() {
            return address.is_private() || address.is_loopback() || address.is_link_local();
        }
        if let Ok(address) = self.host.parse::<Ipv6Addr>() {
            return address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local();
        }
        match self.host.rsplit_once('.') {
            None => true,
            Some((_, last)) => ["local", "internal", "lan", "home", "corp", "test"].contains(&last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, certificate: Certificate, expected: Trusted) -> Trust {
        let report = trust(url, certificate);
        assert_eq!(report.trusted, expected, "{url} {certificate:?}");
        for words in report.steps.iter().chain([&report.says]) {
            assert!(!words.en.is_empty() && !words.zh.is_empty());
            assert!(words.zh.chars().any(|letter| letter >= '\u{4e00}'), "{}", words.zh);
        }
        assert!(!report.steps.is_empty(), "a verdict without a way on: {url}");
        report
    }

    #[test]
    fn a_self_made_certificate_is_never_trusted_by_a_stranger() {
        for url in ["https://chat.example.org", "https://localhost:8443", "https://[::1]:8443/"] {
            check(url, Certificate::SelfMade, Trusted::No);
        }
    }

    #[test]
    fn plain_http_is_good_on_this_machine_only() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"] {
            check(&format!("http://{host}"), Certificate::None, Trusted::Here);
        }
        check("http://chat.example.org", Certificate::None, Trusted::No);
        check("http://localhost.example.org", Certificate::None, Trusted::No);
        // The proxy may have a certificate, but this is not the address that shows it.
        check("http://chat.example.org", Certificate::Proxy, Trusted::No);
        // An https:// that nothing stands behind.
        check("https://chat.example.org", Certificate::None, Trusted::No);
    }

    #[test]
    fn a_signed_certificate_depends_on_who_signed_it() {
        let public = check("https://chat.example.org/x?y", Certificate::Own, Trusted::Depends);
        assert!(
            public.says.en.contains("chat.example.org")
                && public.says.zh.contains("chat.example.org")
        );
        assert_eq!(public.steps.len(), 1);
        for host in ["192.168.1.9", "desk", "desk.local", "[fd00::1]:8443", "10.0.0.1:443"] {
            let report = check(&format!("https://{host}"), Certificate::Proxy, Trusted::Depends);
            assert_eq!(report.steps.len(), 2, "{host} is private");
        }
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        let not = [
            "",
            "chat.example.org",
            "ftp://x",
            "https://",
            "https://a b",
            "https://x:0",
            "https://x:65536",
            "https://x:",
            "https://[::1",
            "https://[x]",
            "https://u@h",
            "https://\"><b>",
        ];
        for url in not {
            let report = check(url, Certificate::Own, Trusted::No);
            assert!(report.says.en.contains("not an address"), "{url}");
        }
        check("https://x:65535", Certificate::Own, Trusted::Depends);
    }
}
