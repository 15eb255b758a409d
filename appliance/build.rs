//! Turns the committed bundle under `web/dist` into a table that is compiled into the crate.
//!
//! It reads files and nothing else: no npm, no network, so `cargo build` needs neither. What it makes
//! depends on the bytes of the bundle alone, so two machines compile the same table.

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let dist = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("web/dist");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    // Named even when absent: cargo then looks again as soon as the bundle is built.
    println!("cargo::rerun-if-changed=web/dist");

    let mut files = Vec::new();
    if dist.is_dir() {
        walk(&dist, &dist, &mut files)?;
    }
    files.sort();

    let mut table = String::from("static BUNDLE: &[(&str, Asset)] = &[\n");
    for (number, path) in files.iter().enumerate() {
        let file = dist.join(path);
        let bytes = fs::read(&file)?;
        let mime = mime(path).ok_or_else(|| format!("{path}: name its MIME type in build.rs"))?;
        let etag = etag(&bytes);
        let packed = gzip(&bytes)?;
        // A picture that gzip makes larger is sent as it is.
        let gzip = if packed.len() < bytes.len() {
            let name = out.join(format!("{number}.gz"));
            fs::write(&name, packed)?;
            format!("Some(include_bytes!({name:?}))")
        } else {
            "None".to_owned()
        };
        writeln!(
            table,
            "    ({path:?}, Asset {{ bytes: include_bytes!({file:?}), gzip: {gzip}, mime: {mime:?}, etag: {etag:?} }}),"
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("bundle.rs"), table)?;
    Ok(())
}

/// Every file below `folder`, as a path from `root` with `/` between its parts.
fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
            continue;
        }
        let parts: Option<Vec<&str>> =
            path.strip_prefix(root)?.components().map(|part| part.as_os_str().to_str()).collect();
        files.push(parts.ok_or("a file name in the bundle is not UTF-8")?.join("/"));
    }
    Ok(())
}

/// A quoted strong ETag: half of the SHA-256, which is more than a cache can ever confuse.
fn etag(bytes: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in &Sha256::digest(bytes)[..16] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // GzEncoder writes no time and no file name unless asked to.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Unknown endings stop the build: with `nosniff` a wrong type is a page that silently does not work.
fn mime(path: &str) -> Option<&'static str> {
    let ending = path.rsplit_once('.')?.1;
    Some(match ending {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        _ => return None,
    })
}
