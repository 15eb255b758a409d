//! The golden vectors: what every implementation of the language, in any programming language, must do
//! with the same bytes. Entries are only ever added.
//!
//! frames.json: bytes <-> twin, both ways. tolerated.json: bytes that are read though we would not write
//! them. json-tolerated.json: the same for the twin. refused.json, json-refused.json: one reason each.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use data_encoding::HEXLOWER;
use lodge_proto::{Batch, Down, Encoding, Malformed, Up, codec, json};
use serde_json::Value;

#[test]
fn frames_mean_the_same_in_both_encodings() {
    for vector in vectors("frames.json") {
        let bytes = vector.hex();
        assert_eq!(vector.twin_of(&bytes), Ok(vector.twin()), "bytes to twin: {}", vector.name());
        let text = vector.field("json").to_string();
        let read = vector.bytes_of(text.as_bytes());
        assert_eq!(read, Ok(bytes), "twin to bytes: {}", vector.name());
    }
}

#[test]
fn bytes_that_are_not_our_spelling_are_understood() {
    for vector in vectors("tolerated.json") {
        assert_eq!(vector.twin_of(&vector.hex()), Ok(vector.twin()), "{}", vector.name());
    }
}

#[test]
fn twins_that_are_not_our_spelling_are_understood() {
    for vector in vectors("json-tolerated.json") {
        let read = vector.bytes_of(vector.text().as_bytes());
        assert_eq!(read, Ok(vector.hex()), "{}", vector.name());
    }
}

#[test]
fn broken_bytes_are_refused_for_their_one_reason() {
    for vector in vectors("refused.json") {
        let refused = vector.twin_of(&vector.hex()).unwrap_err();
        assert_eq!(refused.name(), vector.string("refused"), "{}", vector.name());
    }
}

#[test]
fn broken_twins_are_refused_for_their_one_reason() {
    for vector in vectors("json-refused.json") {
        let bytes = match vector.0.get("hex") {
            Some(_) => vector.hex(),
            None => vector.text().as_bytes().to_vec(),
        };
        let refused = vector.bytes_of(&bytes).unwrap_err();
        assert_eq!(refused.name(), vector.string("refused"), "{}", vector.name());
    }
}

#[test]
fn a_batch_that_is_cut_off_is_refused_or_ends_between_two_frames() {
    for vector in vectors("frames.json") {
        let whole = vector.hex();
        let frames = vector.twin().as_array().unwrap().len();
        for end in 0..whole.len() {
            if let Ok(twin) = vector.twin_of(&whole[..end]) {
                let read = twin.as_array().unwrap();
                assert!(read.len() < frames, "{} cut at {end}", vector.name());
                assert_eq!(read, &vector.twin().as_array().unwrap()[..read.len()]);
            }
        }
        let text = vector.field("json").to_string();
        for end in 0..text.len() {
            assert!(
                vector.bytes_of(&text.as_bytes()[..end]).is_err(),
                "{} cut at {end}",
                vector.name()
            );
        }
    }
}

#[test]
fn names_are_given_once() {
    let files = ["frames", "tolerated", "json-tolerated", "refused", "json-refused"];
    for file in files {
        let mut names: Vec<String> = vectors(&format!("{file}.json"))
            .iter()
            .map(|vector| vector.name().to_owned())
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{file}.json");
    }
}

struct Vector(Value);

fn vectors(file: &str) -> Vec<Vector> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!rows.is_empty(), "{file}");
    rows.into_iter().map(Vector).collect()
}

impl Vector {
    fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.0))
    }

    fn string(&self, name: &str) -> &str {
        self.field(name).as_str().unwrap()
    }

    fn name(&self) -> &str {
        self.string("name")
    }

    fn text(&self) -> &str {
        self.string("text")
    }

    fn twin(&self) -> Value {
        self.field("json").clone()
    }

    fn hex(&self) -> Vec<u8> {
        HEXLOWER.decode(self.string("hex").as_bytes()).unwrap()
    }

    fn is_up(&self) -> bool {
        match self.string("direction") {
            "up" => true,
            "down" => false,
            other => panic!("{other}"),
        }
    }

    /// Reads bytes and writes them again as the twin.
    fn twin_of(&self, bytes: &[u8]) -> Result<Value, Malformed> {
        let mut batch = Batch::new(Encoding::Json);
        if self.is_up() {
            codec::decode_up(bytes).try_for_each(|frame| frame.map(|frame| batch.push(&frame)))?;
        } else {
            codec::decode_down(bytes)
                .try_for_each(|frame| frame.map(|frame| batch.push(&frame)))?;
        }
        let text = batch.take();
        Ok(match text.as_slice() {
            [] => Value::Array(Vec::new()),
            text => serde_json::from_slice(text).unwrap(),
        })
    }

    /// Reads a twin and writes it again as bytes.
    fn bytes_of(&self, text: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut batch = Batch::new(Encoding::Binary);
        if self.is_up() {
            let read = json::parse_up(text)?;
            json::up_frames(&read)
                .try_for_each(|frame: Result<Up<'_>, _>| frame.map(|frame| batch.push(&frame)))?;
        } else {
            let read = json::parse_down(text)?;
            json::down_frames(&read)
                .try_for_each(|frame: Result<Down<'_>, _>| frame.map(|frame| batch.push(&frame)))?;
        }
        Ok(batch.take())
    }
}
