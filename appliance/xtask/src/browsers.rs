//! Real browsers: Debian's Chromium, driven by playwright-core from `appliance/tests/e2e`.

use crate::{
    bench,
    house::House,
    run::{self, Done},
    tally::{self, Found},
    tools,
};
use serde_json::Value;
use std::{path::PathBuf, process::Command};

const FOLDER: &str = "appliance/tests/e2e";

/// Two windows hold a conversation while the server is killed and the visitor goes offline; what the widget
/// promises to visitors and pages; what an agent relies on.
const PROOFS: [&str; 3] = ["conversation.test.mjs", "widget.test.mjs", "console.test.mjs"];

pub(crate) fn proof(house: &House) -> Found {
    let run = (|| {
        let folder = ready(house)?;
        let server = house.release()?;
        let said = run::watch(
            Command::new("node")
                .current_dir(&folder)
                .env("LODGE_BINARY", server)
                .env("LODGE_SCRATCH", house.fresh("e2e")?)
                .args([
                    "--test",
                    "--test-reporter=spec",
                    "--test-concurrency=1",
                    "--test-timeout=240000",
                ])
                .args(PROOFS),
        )?;
        Ok::<_, String>(tally::of_node_test(&said.text, said.ok))
    })();
    run.unwrap_or_else(Found::failed)
}

/// `/chat/APPID` on a slow phone in a slow network.
pub(crate) fn page(house: &House) -> Done<Vec<Value>> {
    let folder = ready(house)?;
    let server = house.release()?;
    let text = run::must(
        Command::new("node")
            .current_dir(&folder)
            .env("LODGE_BINARY", server)
            .env("LODGE_SCRATCH", house.fresh("page")?)
            .arg("page.mjs"),
    )?;
    bench::figures(&text)
}

/// Chromium from Debian, with a font for Chinese: without one Chinese is boxes of another width.
pub(crate) fn chromium() -> Done {
    tools::debian(&[("chromium", "chromium")])?;
    tools::debian_files(&[(
        "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
        "fonts-noto-cjk",
    )])
}

fn ready(house: &House) -> Done<PathBuf> {
    chromium()?;
    let folder = house.root.join(FOLDER);
    tools::npm(&folder)?;
    Ok(folder)
}
