//! `cargo xtask demo`: the release binary with a site, a page that carries the widget, and an agent.
//!
//! It needs no network: the bundle is the committed one, and everything listens on loopback.

use crate::{
    house::House,
    run::Done,
    trial::{Settings, Trial},
};
use argh::FromArgs;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

/// Start a demo site with the widget on it, and say how an agent signs in.
#[derive(FromArgs)]
#[argh(subcommand, name = "demo")]
pub(crate) struct Demo {
    /// port of the server; the demo page takes the next one (default 8480)
    #[argh(option, default = "8480")]
    port: u16,
}

impl Demo {
    pub(crate) fn run(self, house: &House) -> Done {
        let binary = house.release()?;
        let folder = house.fresh("demo")?;
        let page_port = self.port.checked_add(1).ok_or("the demo page needs the next port")?;
        let pages = TcpListener::bind((Ipv4Addr::LOCALHOST, page_port))
            .map_err(|error| format!("port {page_port}: {error}"))?;

        let server = format!("http://localhost:{}", self.port);
        let page = format!("http://localhost:{page_port}");
        let mut trial = Trial::start(
            &binary,
            &folder,
            &Settings {
                address: (Ipv4Addr::LOCALHOST, self.port).into(),
                mode: "plain",
                public_url: &server,
            },
        )?;
        let desk = trial.set_up(&[&page])?;

        println!("A site with the widget   {page}/");
        println!("The same chat full page  {server}/chat/{}", desk.app);
        println!("The agent's console      {server}/console/");
        println!("  sign in as {} with {}", desk.login, desk.password);
        println!("Ctrl-C ends it; the data lies in {}", folder.display());

        let html = page_of(&server, &desk.app);
        std::thread::spawn(move || {
            for stream in pages.incoming().flatten() {
                // A visitor who hangs up takes nothing down.
                let _ = serve(stream, &html);
            }
        });
        trial.wait()
    }
}

/// A shop's page as its owner would write it: one script tag.
fn page_of(server: &str, app: &str) -> String {
    include_str!("demo.html").replace("{server}", server).replace("{app}", app)
}

fn serve(mut stream: TcpStream, html: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(std::io::Read::take(&stream, 8 << 10)).read_line(&mut line)?;
    let (status, body) =
        if line.starts_with("GET / ") { ("200 OK", html) } else { ("404 Not Found", "") };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_carries_one_script_tag_of_this_server() {
        let page = page_of("http://localhost:1", "APP");
        assert_eq!(page.matches("<script").count(), 1);
        assert!(
            page.contains("http://localhost:1/widget.js")
                && page.contains("APP")
                && !page.contains('{')
        );
    }
}
