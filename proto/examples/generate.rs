//! Writes the generated files of this room. `tests/fresh.rs` fails when they are stale.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(room.join("protocol.json"), lodge_proto::generate::protocol_json())?;
    fs::write(room.join("sdk/typescript/src/wire.ts"), lodge_proto::generate::typescript())?;
    let readme = fs::read_to_string(room.join("README.md"))?;
    fs::write(room.join("README.md"), lodge_proto::generate::readme(&readme))
}
