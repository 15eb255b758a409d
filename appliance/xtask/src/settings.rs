//! Step "settings": the one configuration file, wrong in every way. A refusal is one sentence that names what to
//! change, with exit code 2.

use crate::{
    damage,
    house::{self, House},
    run::Done,
    tally::Found,
};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// What stands in the file, and what the refusal has to name.
const WRONG: &[(&str, &str)] = &[
    ("data_dir = \"\"", "data_dir"),
    ("data_dir = 5", "data_dir"),
    ("data_dir = [\"x\"]", "data_dir"),
    ("data_dir = \"relative/path\"", "data_dir"),
    ("data_dri = \"/x\"", "the nearest is data_dir"),
    ("data_dir = \"unfinished", "line 1"),
    ("\u{0}", "line 1"),
    ("listen = 5", "listen"),
    ("[listen]\naddress = \"\"", "address"),
    ("[listen]\naddress = 8443", "address"),
    ("[listen]\naddress = \"127.0.0.1\"", "address"),
    ("[listen]\naddress = \"127.0.0.1:99999\"", "address"),
    ("[listen]\nadress = \"127.0.0.1:1\"", "the nearest is listen.address"),
    ("[listen]\nmode = \"\"", "mode"),
    ("[listen]\nmode = true", "mode"),
    ("[listen]\nmode = \"plain\"", "allow_plain_anywhere"),
    ("[listen]\nallow_plain_anywhere = \"yes\"", "allow_plain_anywhere"),
    ("[listen]\npublic_url = \"chat.example.org\"", "public_url"),
    ("[listen]\npublic_url = \"https://\"", "public_url"),
    ("[listen]\npublic_url = \"https://a b\"", "public_url"),
    ("[listen]\npublic_url = 5", "public_url"),
    ("[listen]\ntrusted_proxies = \"127.0.0.1\"", "trusted_proxies"),
    ("[listen]\ntrusted_proxies = [\"\"]", "trusted_proxies"),
    ("[listen]\ntrusted_proxies = [\"10.0.0.0/33\"]", "trusted_proxies"),
    ("[listen]\nmode = \"proxy\"", "trusted_proxies"),
    ("[tls]\ncertificate = \"/a.pem\"", "tls.key"),
    ("[tls]\ncertificate = 5", "certificate"),
    ("[tls]\ncertificate = \"/nowhere/a.pem\"\nkey = \"/nowhere/b.pem\"", "/nowhere"),
    ("[tls]\ncertificate = \"/\"\nkey = \"/\"", "/"),
    ("[tls]\nnames = [5]", "names"),
    ("[tls]\nnames = [\"a b\"]", "tls.names"),
    ("[tls]\ntrusted_proxies = []", "the nearest is listen.trusted_proxies"),
    ("[control]\nsocket = \"\"", "control.socket"),
    ("[control]\nsocket = \"control\"", "control.socket"),
    ("[control]\nsocket = 1", "socket"),
    ("[log]\nlevel = \"\"", "log.level"),
    ("[log]\nlevel = \"loud\"", "log.level"),
    ("[log]\nlevel = 3", "level"),
    ("[metrics]\ntoken = 5", "token"),
    ("[limits]\nconnections_max = 0", "limit"),
    ("[limits]\nconnections_max = -1", "connections_max"),
    ("[limits]\nconnections_max = 1e9", "connections_max"),
    ("[limits]\nconnections_max = 99999999999999999999", "line "),
    ("[limits]\nconnections_address_max = \"many\"", "connections_address_max"),
    ("[lisen]\n", "the nearest is listen"),
    ("[[listen]]\n", "listen"),
];

pub(crate) fn proof(house: &House) -> Found {
    let (binary, folder) = match house.release().and_then(|it| Ok((it, house.fresh("settings")?))) {
        Ok(ready) => ready,
        Err(why) => return Found::failed(why),
    };
    let mut found = Found::default();
    let config = folder.join("lodge.toml");
    for (text, names) in WRONG {
        // Whatever the file says elsewhere, nothing is made outside this folder.
        let text = if text.contains("data_") || text.starts_with('[') || text.contains("listen =") {
            whole(text, &folder)
        } else {
            (*text).to_owned()
        };
        let tried = house::write(&config, &text).and_then(|()| refused(&binary, &config, names));
        found.add(Found::of(tried.map_err(|why| format!("{text:?}: {why}"))));
    }
    let last =
        "[limits]\nconnections_max = 9223372036854775807\n[tls]\ncertificate = \"/\"\nkey = \"/\"";
    let tried = house::write(&config, whole(last, &folder));
    // As many as can be said are no reason to refuse: it gets as far as the certificate.
    found.add(Found::of(tried.and_then(|()| refused(&binary, &config, "/"))));
    for (what, text) in
        [("huge", "# a long file\n".repeat(1 << 20)), ("binary", "\u{1}".repeat(99))]
    {
        let tried =
            house::write(&config, text).and_then(|()| refused(&binary, &config, "lodge.toml"));
        found.add(Found::of(tried.map_err(|why| format!("a {what} file: {why}"))));
    }
    let nowhere = folder.join("nowhere.toml");
    found.add(Found::of(refused(&binary, &nowhere, "nowhere.toml")));
    found.add(Found::of(refused(&binary, &folder, "settings")));
    let pipe = folder.join("pipe.toml");
    let made = crate::run::ask(Command::new("mkfifo").arg(&pipe)).map(drop);
    found.add(Found::of(made.and_then(|()| refused(&binary, &pipe, "pipe.toml"))));
    found
}

/// With a data directory and a control socket of this test, unless the text speaks of them.
fn whole(text: &str, folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let data = if text.contains("data_d") {
        String::new()
    } else {
        format!("data_dir = \"{}\"\n", at("data"))
    };
    let control = if text.contains("[control]") {
        String::new()
    } else {
        format!("\n[control]\nsocket = \"{}\"\n", at("control"))
    };
    format!("{data}{text}{control}")
}

fn refused(binary: &Path, config: &Path, names: &str) -> Done {
    let out = Command::new("timeout")
        .args(["--signal=KILL", "20"])
        .arg(binary)
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("timeout: {error}"))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let sentence = damage::one_sentence(&said) && !said.contains("panicked");
    if out.status.code() == Some(2) && sentence && said.contains(names) {
        return Ok(());
    }
    Err(format!("it ended with {:?} and said: {said}", out.status.code()))
}
