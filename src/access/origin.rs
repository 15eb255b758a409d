//! Which pages may use a site. Exact: scheme, host and port as a browser sends them, and nothing that looks like it.

use lodge_proto::refusal::{Refusal, RefusalCode};

use super::line::quoted;
use crate::desk::register::Site;
use crate::limits::ORIGIN_CHARS_MAX;

/// Whether a request with this Origin may use this site. `own` is the server's own origin, whose pages always may.
pub fn judge(site: &Site, origin: Option<&str>, own: &str) -> Result<(), Refusal> {
    let settings = &site.settings;
    let (allowed, what, setting) = match origin {
        None => (
            settings.allow_absent_origin,
            "A request without Origin may".to_owned(),
            "turn on \"allow_absent_origin\"",
        ),
        Some("null") => (
            settings.allow_null_origin,
            "A page whose Origin is \"null\" may".to_owned(),
            "turn on \"allow_null_origin\"",
        ),
        Some(origin) => (
            origin == own || settings.origins.iter().any(|allowed| allowed == origin),
            format!("The page {} may", quoted(origin)),
            "add it to \"origins\"",
        ),
    };
    if allowed {
        return Ok(());
    }
    let why = format!("{what} not use the site {}: {setting} in its settings.", site.app);
    Err(Refusal::because(RefusalCode::Origin, why))
}

/// Only pages of this server, and what sends no Origin at all.
pub fn own_only(origin: Option<&str>, own: &str) -> Result<(), Refusal> {
    match origin {
        None => Ok(()),
        Some(origin) if origin == own => Ok(()),
        Some(origin) => {
            let why = format!("The page {} may not sign in here: only {own} may.", quoted(origin));
            Err(Refusal::because(RefusalCode::Origin, why))
        }
    }
}

/// The server's own origin, as its pages send it.
pub fn own(secure: bool, host: &str) -> String {
    let (scheme, usual) = if secure { ("https", ":443") } else { ("http", ":80") };
    let host = host.strip_suffix(usual).unwrap_or(host);
    format!("{scheme}://{}", host.to_ascii_lowercase())
}

/// What an operator wrote, as browsers send it; or why no browser ever would.
pub fn normal(written: &str) -> Result<String, Refusal> {
    let wrong = |why: &str| {
        let why = format!("{} is no origin: {why}.", quoted(written));
        Err(Refusal::because(RefusalCode::Malformed, why))
    };
    if written.len() > ORIGIN_CHARS_MAX {
        return wrong("it is too long");
    }
    if !written.is_ascii() {
        return wrong("write the host in its ASCII form (xn--…), as browsers send it");
    }
    let lower = written.to_ascii_lowercase();
    let Some((scheme, rest)) = lower.split_once("://") else {
        return wrong("write it like https://www.example.org");
    };
    let scheme_known = scheme.starts_with(|it: char| it.is_ascii_lowercase())
        && scheme.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it));
    if !scheme_known || scheme == "file" || scheme == "data" {
        return wrong("such pages send \"null\", which is a setting of its own");
    }
    // Pasted addresses end in a slash; a path is refused, since it would not be looked at.
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('*') {
        return wrong("each host is written out, there are no wildcards");
    }
    if rest.contains(['/', '?', '#', '@', '\\']) {
        return wrong("only scheme, host and port count");
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    if !is_host(host) {
        return wrong("its host is not one");
    }
    let usual = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let Some(port) = port else { return Ok(format!("{scheme}://{host}")) };
    if port.is_empty() || !port.bytes().all(|it| it.is_ascii_digit()) {
        return wrong("its port is not a number");
    }
    match port.parse::<u16>() {
        Ok(port) if Some(port) == usual => Ok(format!("{scheme}://{host}")),
        Ok(port) if port > 0 => Ok(format!("{scheme}://{host}:{port}")),
        _ => wrong("its port is none"),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(six) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return six.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    (1..=253).contains(&host.len()) && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::register::SiteSettings;

    const OWN: &str = "https://chat.example.org:8443";

    fn site(settings: SiteSettings) -> Site {
        Site { number: 1, app: "shop".into(), name: "Shop".into(), settings }
    }

    fn shop() -> Site {
        let origins = vec!["https://shop.example".into(), "http://localhost:8080".into()];
        site(SiteSettings { origins, ..SiteSettings::default() })
    }

    #[test]
    fn an_allowed_page_and_our_own_may_and_nothing_that_looks_like_them() {
        for origin in ["https://shop.example", "http://localhost:8080", OWN] {
            assert_eq!(judge(&shop(), Some(origin), OWN), Ok(()), "{origin}");
        }
        for origin in [
            "",
            "https://shop.example:443",
            "https://shop.example:8443",
            "https://shop.example/",
            "https://shop.example.",
            "https://shop.example.evil.example",
            "https://evil.example/https://shop.example",
            "https://evilshop.example",
            "https://a.shop.example",
            "http://shop.example",
            "HTTPS://SHOP.EXAMPLE",
            "https://ѕhop.example",
            "https://shop.example https://evil.example",
            "http://localhost",
            "http://127.0.0.1:8080",
            "chat.example.org:8443",
            "http://chat.example.org:8443",
            "Null",
            "*",
        ] {
            let refused = judge(&shop(), Some(origin), OWN).unwrap_err();
            assert_eq!(refused.code, RefusalCode::Origin, "{origin}");
            assert!(refused.text.contains("\"origins\""), "{}", refused.text);
        }
    }

    #[test]
    fn null_and_absent_are_switches_of_their_own() {
        for (null, absent) in [(false, false), (true, false), (false, true), (true, true)] {
            let settings = SiteSettings {
                allow_null_origin: null,
                allow_absent_origin: absent,
                ..SiteSettings::default()
            };
            let site = site(settings);
            assert_eq!(judge(&site, Some("null"), OWN).is_ok(), null);
            assert_eq!(judge(&site, None, OWN).is_ok(), absent);
            assert!(judge(&site, Some("https://shop.example"), OWN).is_err());
        }
        let text = judge(&shop(), Some("null"), OWN).unwrap_err().text;
        assert!(text.contains("\"null\"") && text.contains("\"allow_null_origin\""), "{text}");
        let text = judge(&shop(), None, OWN).unwrap_err().text;
        assert!(
            text.contains("without Origin") && text.contains("\"allow_absent_origin\""),
            "{text}"
        );
        let listed = site(SiteSettings { origins: vec!["null".into()], ..SiteSettings::default() });
        assert!(judge(&listed, Some("null"), OWN).is_err());
    }

    #[test]
    fn a_refusal_repeats_the_page_without_what_is_not_seen() {
        let long = format!("https://\u{1b}[31m{}", "x".repeat(10_000));
        let text = judge(&shop(), Some(&long), OWN).unwrap_err().text;
        assert!(text.len() < 400 && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn agents_come_from_our_own_pages() {
        assert_eq!(own_only(None, OWN), Ok(()));
        assert_eq!(own_only(Some(OWN), OWN), Ok(()));
        for origin in ["null", "", "https://shop.example", "http://chat.example.org:8443"] {
            assert!(own_only(Some(origin), OWN).is_err(), "{origin}");
        }
        assert_eq!(own(true, "Chat.Example.org:443"), "https://chat.example.org");
        assert_eq!(own(true, "chat.example.org:8443"), OWN);
        assert_eq!(own(false, "127.0.0.1:80"), "http://127.0.0.1");
        assert_eq!(own(false, "[::1]:8080"), "http://[::1]:8080");
    }

    #[test]
    fn what_operators_write_becomes_what_browsers_send() {
        for (written, sent) in [
            ("https://shop.example", "https://shop.example"),
            ("HTTPS://Shop.Example/", "https://shop.example"),
            ("https://shop.example:443", "https://shop.example"),
            ("http://shop.example:80", "http://shop.example"),
            ("https://shop.example:80", "https://shop.example:80"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::1]", "http://[::1]"),
            ("http://192.168.0.7:3000", "http://192.168.0.7:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("https://xn--fsqu00a.example", "https://xn--fsqu00a.example"),
        ] {
            assert_eq!(normal(written).as_deref(), Ok(sent), "{written}");
            assert_eq!(normal(sent).as_deref(), Ok(sent), "{sent}");
        }
        for written in [
            "",
            "*",
            "null",
            "shop.example",
            "https://",
            "https:///",
            "https://*.shop.example",
            "https://shop.example/chat",
            "https://shop.example?x",
            "https://user@shop.example",
            "https://shop.example:0",
            "https://shop.example:65536",
            "https://shop.example:+80",
            "https://shop.example:",
            "https://shop..example",
            "https://-shop.example",
            "https://shop example",
            "https://例子.example",
            "https://shop.example\n",
            "file:///",
            "file://x",
            "://shop.example",
            "1s://shop.example",
            "http://[::1",
            "http://[zz]",
        ] {
            let refused = normal(written).unwrap_err();
            assert_eq!(refused.code, RefusalCode::Malformed, "{written}");
        }
        assert!(normal(&format!("https://{}", "a.".repeat(140))).is_err());
    }
}
