//! Reads the repository and checks the house rules: what no compiler checks and no reviewer should
//! have to. A finding names the file, the line and what to do instead.
//!
//! Each rule is a function from one file (or from all of them) to findings, so that the tests below can
//! hand it a wrong snippet and see that it is caught. The words that are searched for are put together
//! here from halves, since this file is read as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

#[test]
fn the_house_is_in_order() {
    let files = repository();
    assert!(files.len() > 30, "git lists {} files: this is not the repository", files.len());
    let mut findings: Vec<String> = Vec::new();
    for file in &files {
        for rule in RULES {
            rule(file, &mut findings);
        }
    }
    top_level(&files, &mut findings);
    readmes(&files, &mut findings);
    directions(&files, &mut findings);
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

const RULES: [fn(&File, &mut Vec<String>); 13] = [
    opening,
    nouns,
    hyper_in_net,
    sled_in_meta,
    unsafe_in_mapping,
    no_clock_in_pure_rooms,
    storage_knows_nobody,
    no_machine_path,
    no_registry,
    limits_in_one_place,
    reasons_beside_dependencies,
    dependencies_stand_once,
    no_leftovers,
];

/// One tracked file.
struct File {
    path: String,
    text: String,
    /// The same lines of a Rust file with comments, strings and its tests at the end blanked out.
    code: String,
}

impl File {
    fn new(path: &str, text: String) -> Self {
        let code = if path.ends_with(".rs") { code_of(&text) } else { String::new() };
        Self { path: path.to_owned(), text, code }
    }

    fn rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn below(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    fn finding(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{}: {}", self.path, line.saturating_add(1), what.as_ref())
    }
}

/// Everything that git tracks or would track, so that a rule speaks before the commit. Pictures and
/// other files that are no text have no lines to read.
fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let mut paths: Vec<&str> = std::str::from_utf8(&listed.stdout)
        .expect("names are UTF-8")
        .split_terminator('\0')
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        // Deleted and not yet committed, or a picture.
        .filter_map(|path| Some(File::new(path, std::fs::read_to_string(root.join(path)).ok()?)))
        .collect()
}

// -- rules on one file

/// A Rust file opens by saying what it is. One called tests has said it.
fn opening(file: &File, findings: &mut Vec<String>) {
    let generated = file.text.lines().next().is_some_and(|line| line.contains("generated"));
    let named = file.path.ends_with("/tests.rs");
    if file.rust() && !named && !file.text.starts_with("//!") && !generated {
        findings.push(file.finding(0, "begins without `//!`: say what this file is"));
    }
}

/// The noun of a name (its last word) says nothing when it is one of these.
const EMPTY_NOUNS: [&str; 10] = [
    "manager", "service", "handler", "helper", "util", "utils", "helpers", "common", "data", "info",
];

fn nouns(file: &File, findings: &mut Vec<String>) {
    let written_here = [".rs", ".ts", ".mjs", ".svelte"].iter().any(|end| file.path.ends_with(end))
        && !file.path.contains("/dist/");
    if !written_here {
        return;
    }
    for part in file.path.split('/') {
        let name = part.split('.').next().unwrap_or(part);
        if empty_noun(name) {
            findings.push(file.finding(0, format!("`{name}` names nothing: find the noun")));
        }
    }
    let text = if file.rust() { &file.code } else { &file.text };
    for (number, line) in text.lines().enumerate() {
        let mut words = words(line);
        while let Some(word) = words.next() {
            let declares = ["struct", "enum", "trait", "mod", "class", "interface"].contains(&word);
            if declares && let Some(name) = words.next().filter(|name| empty_noun(name)) {
                findings
                    .push(file.finding(number, format!("`{name}` names nothing: find the noun")));
            }
        }
    }
}

fn empty_noun(name: &str) -> bool {
    let last_hump = name.rfind(|letter: char| letter.is_ascii_uppercase()).unwrap_or(0);
    let last_word = name.rfind(['_', '-']).map_or(0, |at| at + 1);
    name.get(last_hump.max(last_word)..)
        .is_some_and(|noun| EMPTY_NOUNS.contains(&noun.to_ascii_lowercase().as_str()))
}

fn hyper_in_net(file: &File, findings: &mut Vec<String>) {
    if file.below(&["src/net/", "proto/client/", "benches/"]) {
        return;
    }
    for name in ["hyper", "hyper_util", "http_body_util", "fastwebsockets"] {
        forbid_path(file, name, "the network stands behind src/net", findings);
    }
}

fn sled_in_meta(file: &File, findings: &mut Vec<String>) {
    if !file.below(&["storage/src/meta.rs", "storage/src/meta/"]) {
        forbid_path(file, "sled", "projections stand behind storage's meta room", findings);
    }
}

fn unsafe_in_mapping(file: &File, findings: &mut Vec<String>) {
    if file.path == "storage/src/mapping.rs" {
        return;
    }
    let mention = concat!("un", "safe");
    for (number, line) in file.code.lines().enumerate() {
        if words(line).any(|word| word == mention || word == concat!("un", "safe_code")) {
            findings.push(
                file.finding(number, format!("{mention} has one file: storage/src/mapping.rs")),
            );
        }
    }
}

/// Time, chance and the outside are arguments of the language and of the desk.
fn no_clock_in_pure_rooms(file: &File, findings: &mut Vec<String>) {
    if !file.below(&["src/desk/", "proto/src/"]) || file.path.ends_with("tests.rs") {
        return;
    }
    for (number, line) in file.code.lines().enumerate() {
        for word in words(line) {
            if ["SystemTime", "Instant", "tokio", "getrandom", "SystemRandom", "rand"]
                .contains(&word)
            {
                findings.push(
                    file.finding(number, format!("`{word}` in a pure room: make it an argument")),
                );
            }
        }
        for outside in ["std::net", "std::fs", "std::env", "std::thread", "std::process"] {
            if line.contains(outside) {
                findings.push(file.finding(number, format!("`{outside}` in a pure room")));
            }
        }
    }
}

fn storage_knows_nobody(file: &File, findings: &mut Vec<String>) {
    if file.below(&["storage/"]) {
        for name in ["tokio", "lodge_proto", "lodge", "lodge_appliance"] {
            forbid_path(file, name, "storage knows nobody", findings);
        }
    }
}

fn no_machine_path(file: &File, findings: &mut Vec<String>) {
    let paths = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "lead"),
        concat!("/ro", "ot/"),
        concat!("/tmp/", "target"),
    ];
    for (number, line) in file.text.lines().enumerate() {
        for path in paths.iter().filter(|path| line.contains(**path)) {
            findings.push(file.finding(number, format!("names the place `{path}` of one machine")));
        }
    }
}

/// Where packages come from is the machine's own setting. Cargo's name for the public index is no
/// address that is asked, and stands in its lock file by its own will.
fn no_registry(file: &File, findings: &mut Vec<String>) {
    let lock = file.path.ends_with("package-lock.json");
    for (number, line) in file.text.lines().enumerate() {
        if lock && line.contains(concat!("\"resol", "ved\"")) {
            findings.push(file.finding(number, "a lock file names where a package came from"));
        }
        let address = [
            concat!("registry.npm", "js.org"),
            concat!("registry.npm", "mirror"),
            concat!("index.crat", "es.io"),
            concat!("static.crat", "es.io"),
        ]
        .into_iter()
        .find(|address| line.contains(address));
        if let Some(address) = address {
            findings.push(file.finding(number, format!("names the registry {address}")));
        }
        let other_index = file.path.ends_with("Cargo.lock")
            && line.starts_with("source = ")
            && !line.contains("github.com/rust-lang/crates.io-index\"");
        if other_index {
            findings.push(file.finding(number, "a dependency from somewhere else"));
        }
    }
}

/// Rooms whose limits have not moved yet. This list only gets shorter.
const STILL_BESIDE: [&str; 4] = ["src/access/", "src/console/", "src/lens/", "src/net/"];

/// Rooms that have a `limits.rs` keep every limit in it.
fn limits_in_one_place(file: &File, findings: &mut Vec<String>) {
    if !file.below(&["src/", "proto/src/"])
        || file.path.ends_with("/limits.rs")
        || file.below(&STILL_BESIDE)
    {
        return;
    }
    for (number, line) in file.code.lines().enumerate() {
        let mut words = words(line).skip_while(|word| *word != "const");
        if let Some(name) = words.nth(1)
            && (name.ends_with("_MAX") || name.ends_with("_LIMIT") || name.ends_with("_CAP"))
        {
            findings
                .push(file.finding(number, format!("{name} is a limit: it stands in limits.rs")));
        }
    }
}

fn reasons_beside_dependencies(file: &File, findings: &mut Vec<String>) {
    if file.path != "Cargo.toml" {
        return;
    }
    let mut inside = false;
    let mut shared_reason = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside
            && line.contains('=')
            && !line.starts_with('#')
            && !line.contains("path = ")
        {
            // A pair (serde, serde_json) may share the reason of the line above.
            let has_reason = line.contains("# ");
            if !has_reason && !shared_reason {
                findings.push(file.finding(number, "a dependency without its reason beside it"));
            }
            shared_reason = has_reason;
        } else {
            shared_reason = false;
        }
    }
}

/// A member says `workspace = true` and no version of its own.
fn dependencies_stand_once(file: &File, findings: &mut Vec<String>) {
    let fuzz = file.path.contains("/fuzz/");
    if !file.path.ends_with("Cargo.toml") || fuzz {
        return;
    }
    let mut inside = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && line != "[workspace.dependencies]";
        } else if inside
            && line.contains('=')
            && !line.starts_with('#')
            && !line.contains("workspace = true")
        {
            findings.push(file.finding(number, "state it in the workspace, with its reason"));
        }
    }
}

fn no_leftovers(file: &File, findings: &mut Vec<String>) {
    if file.path.contains("/dist/") || file.path.ends_with(".tsv") {
        return;
    }
    for (number, line) in file.text.lines().enumerate() {
        for mark in [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("<<<<", "<<< "),
            concat!(">>>>", ">>> "),
        ] {
            if line.contains(mark) {
                findings.push(file.finding(number, format!("a leftover `{mark}`")));
            }
        }
    }
}

// -- rules on all files

/// Exactly the owner's top level, beside the lock file, the licences and dot-files.
const TOP: [&str; 8] =
    ["Cargo.toml", "README.md", "appliance", "benches", "proto", "src", "storage", "systemd"];

fn top_level(files: &[File], findings: &mut Vec<String>) {
    let found: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for name in &found {
        let beside = name.starts_with('.') || name.starts_with("LICENSE-") || *name == "Cargo.lock";
        if !beside && !TOP.contains(name) {
            findings.push(format!("{name}: the top level is the owner's: {}", TOP.join(" ")));
        }
    }
    for name in TOP.iter().filter(|name| !found.contains(**name)) {
        findings.push(format!("{name}: missing at the top level"));
    }
}

/// The rooms, and the houses within them that have a door of their own.
const ROOMS: [&str; 4] = ["proto", "appliance", "systemd", "benches"];
/// A README is read to its end only when it is short.
const README_LINES: usize = 250;

fn readmes(files: &[File], findings: &mut Vec<String>) {
    for room in ROOMS {
        let path = format!("{room}/README.md");
        match files.iter().find(|file| file.path == path) {
            None => findings.push(format!("{path}: a room says what it is")),
            Some(file) => {
                let lines = file.text.lines().count();
                if lines > README_LINES {
                    findings.push(format!("{path}: {lines} lines are not short"));
                }
            }
        }
    }
}

/// The server's rooms from the front door to the cellar. Who stands on one line may know every later
/// line; on its own line it may know others as long as none of them knows it back.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["serve"],
    &["net", "console", "outlet", "control"],
    &["commit", "follow", "signal", "access", "lens", "telemetry", "starts"],
    &["desk", "bell", "devices", "storage"],
    &["config", "limits", "ids"],
];

fn directions(files: &[File], findings: &mut Vec<String>) {
    let mut known: BTreeMap<(String, String), String> = BTreeMap::new();
    for file in files.iter().filter(|file| file.rust() && file.path.starts_with("src/")) {
        let room = room_of(&file.path);
        if room == "tidy" {
            continue;
        }
        if floor(room).is_none() {
            findings.push(
                file.finding(0, format!("the room `{room}` stands on no floor of the house")),
            );
        }
        for (number, line) in file.code.lines().enumerate() {
            for used in
                used_rooms(line).into_iter().filter(|used| used != room && floor(used).is_some())
            {
                known.entry((room.to_owned(), used)).or_insert_with(|| file.finding(number, ""));
            }
        }
    }
    for ((room, used), place) in &known {
        let back = known.get(&(used.clone(), room.clone()));
        match (floor(room), floor(used)) {
            (Some(here), Some(there)) if there < here => {
                findings
                    .push(format!("{place}`{room}` may not know `{used}`, which stands above it"));
            }
            (Some(here), Some(there)) if there == here && back.is_some() && room < used => {
                findings.push(format!("{place}`{room}` and `{used}` know each other"));
            }
            _ => {}
        }
    }
}

fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The rooms that a line names by `crate::`, also in the form `use crate::{a, b::c}`.
fn used_rooms(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = line.get(at + "crate::".len()..).unwrap_or_default();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_u32;
            let mut first = true;
            for word in group.split_inclusive(['{', '}', ',']) {
                if first
                    && depth == 0
                    && let Some(name) = words(word).next()
                {
                    found.push(name.to_owned());
                }
                match word.chars().next_back() {
                    Some('{') => depth = depth.saturating_add(1),
                    Some('}') if depth == 0 => break,
                    Some('}') => depth = depth.saturating_sub(1),
                    _ => {}
                }
                first = depth == 0;
            }
        } else if let Some(name) = words(rest).next() {
            found.push(name.to_owned());
        }
    }
    found
}

// -- reading Rust

/// A use of the crate `name` as a path, in code.
fn forbid_path(file: &File, name: &str, why: &str, findings: &mut Vec<String>) {
    for (number, line) in file.code.lines().enumerate() {
        let used = line.match_indices(name).any(|(at, _)| {
            let before = line.get(..at).unwrap_or_default();
            let after = line.get(at + name.len()..).unwrap_or_default();
            // `other::hyper` is somebody else's module, `::hyper` is the crate.
            let owner = before.strip_suffix("::").unwrap_or(before);
            let starts = !owner.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
            starts
                && (after.starts_with("::")
                    || before.trim_end().ends_with("use") && after.starts_with(';'))
        });
        if used {
            findings.push(file.finding(number, format!("names `{name}`: {why}")));
        }
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// Blanks comments and the insides of strings, and everything from the tests at the end of the file on.
/// Line numbers stay. It is no parser: a character literal of a quote is all the cleverness it needs.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest.get(1..).and_then(|tail| tail.find('\'')).map_or(rest.len(), |at| at + 2)
        } else {
            if rest.starts_with("#[cfg(test)]\nmod ") && code.ends_with('\n') {
                break;
            }
            code.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        let (skipped, tail) = rest.split_at(length);
        code.extend(skipped.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        rest = tail;
    }
    code
}

/// The length of the string that begins here.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let fences = after.len() - after.trim_start_matches('#').len();
    let inside = after.get(fences..)?.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(fences));
    let end = inside.find(&close)?;
    Some(1 + fences + 1 + end + close.len())
}

// -- the rules themselves are tried on wrong snippets

fn caught(rule: fn(&File, &mut Vec<String>), path: &str, text: &str) -> bool {
    let mut findings = Vec::new();
    rule(&File::new(path, text.to_owned()), &mut findings);
    !findings.is_empty()
}

fn caught_in_all(rule: fn(&[File], &mut Vec<String>), files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> =
        files.iter().map(|(path, text)| File::new(path, (*text).to_owned())).collect();
    let mut findings = Vec::new();
    rule(&files, &mut findings);
    findings
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "a // b\n\"c \\\" d\" e /* f\n g */ h '\"' i r#\"j\" k\"# l\n#[cfg(test)]\nmod tests { m }\n";
    let code = code_of(text);
    assert_eq!(words(&code).collect::<Vec<_>>(), ["a", "e", "h", "i", "l"]);
    assert_eq!(code.lines().count(), 3);
}

#[test]
fn empty_nouns_are_caught_and_honest_ones_are_not() {
    for wrong in [
        "struct UserManager;",
        "mod utils;",
        "pub(crate) enum SiteInfo {",
        "trait Handler",
        "mod common;",
    ] {
        assert!(caught(nouns, "src/x.rs", wrong), "{wrong}");
    }
    for right in
        ["struct DataDir;", "struct Information;", "let data = 1;", "// mod utils", "fn info() {}"]
    {
        assert!(!caught(nouns, "src/x.rs", right), "{right}");
    }
    assert!(caught(nouns, "src/utils.rs", "") && caught(nouns, "proto/sdk/helpers/x.ts", ""));
    assert!(caught(nouns, "appliance/web/widget/a.ts", "export class ChatService {"));
    assert!(!caught(nouns, "appliance/web/dist/a.mjs", "class A_manager{}"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    assert!(caught(hyper_in_net, "src/console/login.rs", "use hyper::Request;"));
    assert!(caught(hyper_in_net, "src/serve.rs", "let x = fastwebsockets::Frame::close();"));
    assert!(caught(hyper_in_net, "src/serve.rs", "use ::hyper::Request;"));
    assert!(!caught(hyper_in_net, "src/net/listen.rs", "use hyper::Request;"));
    assert!(!caught(hyper_in_net, "src/serve.rs", "// hyper::Request\nuse crate::net::hyper::x;"));
    assert!(caught(sled_in_meta, "storage/src/log.rs", "sled::open(x)"));
    assert!(!caught(sled_in_meta, "storage/src/meta.rs", "sled::open(x)"));
    assert!(caught(storage_knows_nobody, "storage/src/log.rs", "use tokio::sync::Mutex;"));
    assert!(caught(storage_knows_nobody, "storage/src/log.rs", "use lodge_proto::Frame;"));
}

#[test]
fn danger_stays_in_its_file() {
    let wrong = concat!("fn f() { un", "safe { g() } }");
    assert!(caught(unsafe_in_mapping, "storage/src/log.rs", wrong));
    assert!(caught(unsafe_in_mapping, "src/main.rs", concat!("#[allow(un", "safe_code)]")));
    assert!(!caught(unsafe_in_mapping, "storage/src/mapping.rs", wrong));
    assert!(!caught(unsafe_in_mapping, "src/main.rs", concat!("// no un", "safe here")));
}

#[test]
fn pure_rooms_are_pure() {
    for wrong in [
        "SystemTime::now()",
        "Instant::now()",
        "use std::fs;",
        "use ring::rand::SystemRandom;",
        "std::net::TcpStream",
    ] {
        assert!(caught(no_clock_in_pure_rooms, "src/desk/admit.rs", wrong), "{wrong}");
        assert!(caught(no_clock_in_pure_rooms, "proto/src/codec.rs", wrong), "{wrong}");
        assert!(!caught(no_clock_in_pure_rooms, "src/commit.rs", wrong), "{wrong}");
    }
    assert!(!caught(no_clock_in_pure_rooms, "src/desk/admit.rs", "use std::time::Duration;"));
}

#[test]
fn places_registries_and_leftovers_are_caught() {
    assert!(caught(no_machine_path, "README.md", concat!("see /wo", "rk/x")));
    assert!(caught(no_registry, "a/package-lock.json", concat!("  \"resol", "ved\": \"x\"")));
    assert!(caught(no_registry, ".npmrc", concat!("registry=https://registry.npm", "js.org")));
    assert!(caught(no_registry, "Cargo.lock", "source = \"git+https://example.org/x\""));
    let index = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert!(!caught(no_registry, "Cargo.lock", index));
    assert!(caught(no_leftovers, "src/x.rs", concat!("// TO", "DO")));
    assert!(caught(opening, "src/x.rs", "use x;") && !caught(opening, "src/x.rs", "//! X."));
}

#[test]
fn limits_and_dependencies_stand_once() {
    assert!(caught(limits_in_one_place, "src/commit.rs", "pub const BODY_BYTES_MAX: usize = 3;"));
    assert!(!caught(limits_in_one_place, "src/limits.rs", "pub const BODY_BYTES_MAX: usize = 3;"));
    assert!(!caught(limits_in_one_place, "src/commit.rs", "x(limits::BODY_BYTES_MAX)"));
    let table = "[workspace.dependencies]\n";
    assert!(caught(reasons_beside_dependencies, "Cargo.toml", &format!("{table}x = \"1\"\n")));
    assert!(!caught(
        reasons_beside_dependencies,
        "Cargo.toml",
        &format!("{table}x = \"1\" # why\ny = \"1\"\n")
    ));
    assert!(caught(dependencies_stand_once, "proto/Cargo.toml", "[dependencies]\nx = \"1\"\n"));
    assert!(!caught(
        dependencies_stand_once,
        "proto/Cargo.toml",
        "[dependencies]\nx.workspace = true\n"
    ));
}

#[test]
fn a_room_too_many_and_a_room_too_few_are_caught() {
    let whole: Vec<(&str, &str)> = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        ".gitignore",
        "LICENSE-MIT",
        "src/a",
        "storage/a",
        "proto/a",
        "appliance/a",
        "systemd/a",
        "benches/a",
    ]
    .map(|path| (path, ""))
    .to_vec();
    assert_eq!(caught_in_all(top_level, &whole), Vec::<String>::new());
    assert_eq!(caught_in_all(top_level, &[whole.as_slice(), &[("docs/a", "")]].concat()).len(), 1);
    assert_eq!(caught_in_all(top_level, whole.get(..whole.len() - 1).unwrap_or_default()).len(), 1);
    assert_eq!(caught_in_all(readmes, &[]).len(), ROOMS.len());
}

#[test]
fn knowledge_goes_down_the_house() {
    assert_eq!(
        used_rooms("use crate::{bell::{Bell, net}, desk, lens::Lens};"),
        ["bell", "desk", "lens"]
    );
    assert_eq!(used_rooms("crate::net::x(crate::desk::y)"), ["net", "desk"]);
    let knows = |one: &str, other: &str| {
        caught_in_all(directions, &[(&format!("src/{one}.rs"), &format!("use crate::{other}::X;"))])
    };
    assert!(knows("serve", "net").is_empty() && knows("net", "console").is_empty());
    assert!(knows("commit", "desk").is_empty() && knows("desk", "limits").is_empty());
    assert_eq!(knows("desk", "commit").len(), 1);
    assert_eq!(knows("lens", "net").len(), 1);
    assert_eq!(knows("config", "desk").len(), 1);
    assert_eq!(knows("attic", "desk").len(), 1);
    let both =
        [("src/net/a.rs", "use crate::console;\nx"), ("src/console/b.rs", "use crate::net::X;")];
    assert_eq!(caught_in_all(directions, &both).len(), 1);
    let in_tests = [("src/desk/a.rs", "//! A.\n#[cfg(test)]\nmod tests { use crate::commit; }")];
    assert!(caught_in_all(directions, &in_tests).is_empty());
}
