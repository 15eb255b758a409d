//! What is generated is committed, and what is committed is what would be generated.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::fs;

use lodge_proto::generate;

const RENEW: &str = "stale; run `cargo run -p lodge-proto --example generate`";

fn committed(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_description_is_fresh() {
    assert!(committed("protocol.json") == generate::protocol_json(), "protocol.json is {RENEW}");
    serde_json::from_str::<serde_json::Value>(&generate::protocol_json()).unwrap();
}

#[test]
fn the_typescript_types_are_fresh() {
    let path = "sdk/typescript/src/wire.ts";
    assert!(committed(path) == generate::typescript(), "{path} is {RENEW}");
}

#[test]
fn the_tables_of_the_readme_are_fresh() {
    let readme = committed("README.md");
    assert!(readme.contains(&generate::tables()), "README.md is {RENEW}");
    assert_eq!(readme, generate::readme(&readme));
}
