//! nginx from Debian in front of the server, with the very snippet that the documentation gives.

use crate::{
    house::{self, House},
    run::{self, Done},
    tally::{self, Found},
    tools,
    trial::{self, Settings, Trial},
};
use std::process::{Command, Stdio};

const SNIPPET: &str = "appliance/package/nginx.conf";

pub(crate) fn proof(house: &House) -> Found {
    let run = (|| {
        tools::debian(&[("nginx", "nginx-light"), ("openssl", "openssl"), ("node", "nodejs")])?;
        let server = house.release()?;
        let folder = house.fresh("proxy")?;
        let outside = trial::free_address()?;
        let inside = trial::free_address()?;
        let public_url = format!("https://localhost:{}", outside.port());
        certificate(&folder)?;

        let snippet = house::read(&house.root.join(SNIPPET))?;
        let named =
            ["8443", "chat.example.org", "/etc/ssl/chat.pem", "/etc/ssl/chat.key", "listen 443"];
        if let Some(missing) = named.iter().find(|name| !snippet.contains(*name)) {
            return Err(format!("{SNIPPET} does not name {missing}, which this test replaces"));
        }
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let site = snippet
            .replace("listen 443", &format!("listen 127.0.0.1:{}", outside.port()))
            .replace("127.0.0.1:8443", &inside.to_string())
            .replace("chat.example.org", "localhost")
            .replace("/etc/ssl/chat.pem", &at("chat.pem"))
            .replace("/etc/ssl/chat.key", &at("chat.key"));
        let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {};\n", at(kind)))
            .collect();
        let config = folder.join("nginx.conf");
        house::write(
            &config,
            format!(
                "daemon off;\nmaster_process off;\nuser root;\npid {};\nerror_log {} warn;\nevents {{}}\nhttp {{\naccess_log off;\n{scratch}{site}\n}}\n",
                at("nginx.pid"),
                at("error.log")
            ),
        )?;

        let trial = Trial::start(
            &server,
            &folder,
            &Settings { address: inside, mode: "proxy", public_url: &public_url },
        )?;
        let desk = trial.set_up(&[&public_url])?;
        let mut nginx = Command::new("nginx")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("nginx: {error}"))?;
        let said = run::watch(
            Command::new("node")
                .current_dir(house.root.join("appliance/tests/e2e"))
                // The certificate was made a moment ago by this test.
                .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
                .args(["proxy.mjs", &public_url, &desk.app]),
        );
        let ended = nginx.kill().and_then(|()| nginx.wait());
        let said = said?;
        ended.map_err(|error| format!("nginx: {error}"))?;
        Ok::<_, String>(tally::of_lines(&said.text, said.ok))
    })();
    run.unwrap_or_else(Found::failed)
}

fn certificate(folder: &std::path::Path) -> Done {
    run::must(
        Command::new("openssl")
            .current_dir(folder)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args([
                "-keyout",
                "chat.key",
                "-out",
                "chat.pem",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ]),
    )?;
    Ok(())
}
