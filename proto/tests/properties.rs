//! What holds for any bytes: reading never fails but by refusing, and what was read is written as the
//! same again, in both encodings. The bytes are the golden vectors, damaged.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use data_encoding::HEXLOWER;
use lodge_proto::{Batch, Encoding, codec, json};
use proptest::prelude::*;
use serde_json::Value;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_refused_or_mean_what_they_say(batch in damaged(samples(false))) {
        read_and_write_again(&batch);
    }

    #[test]
    fn damaged_twins_are_refused_or_mean_what_they_say(batch in damaged(samples(true))) {
        read_twin_and_write_again(&batch);
    }

    #[test]
    fn any_bytes_can_be_read(batch in prop::collection::vec(any::<u8>(), 0..200)) {
        read_and_write_again(&batch);
        read_twin_and_write_again(&batch);
    }

    #[test]
    fn any_text_passes_through_both_encodings(text in any::<String>(), counter in 0..1u64 << 53) {
        use lodge_proto::frame::{DraftBody, Lane, up};
        let body = DraftBody::Text { text: &text };
        let conversation = lodge_proto::Ref::Mine;
        let draft = up::Draft { counter, settled: counter, conversation, lane: Lane::Staff, body };
        let frame = lodge_proto::Up::Draft(draft);
        let mut binary = Batch::new(Encoding::Binary);
        binary.push(&frame);
        let binary = binary.take();
        let read: Vec<_> = codec::decode_up(&binary).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&read, std::slice::from_ref(&frame));
        let mut twin = Batch::new(Encoding::Json);
        twin.push(&frame);
        let twin = twin.take();
        let parsed = json::parse_up(&twin).unwrap();
        let read: Vec<_> = json::up_frames(&parsed).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&read, &[frame]);
    }
}

/// Every batch of the vectors, as bytes or as the text of the twin.
fn samples(twin: bool) -> Vec<Vec<u8>> {
    let path = format!("{}/vectors/frames.json", env!("CARGO_MANIFEST_DIR"));
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    rows.iter()
        .map(|row| match twin {
            true => row["json"].to_string().into_bytes(),
            false => HEXLOWER.decode(row["hex"].as_str().unwrap().as_bytes()).unwrap(),
        })
        .collect()
}

/// A sample with a few bytes changed, put in, taken out, or cut off.
fn damaged(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let damage = (0..4u8, any::<prop::sample::Index>(), any::<u8>());
    (prop::sample::select(samples), prop::collection::vec(damage, 0..4)).prop_map(
        |(mut bytes, damages)| {
            for (what, place, byte) in damages {
                let at = place.index(bytes.len() + 1);
                match what {
                    0 => bytes.insert(at, byte),
                    1 => bytes.truncate(at),
                    _ if at == bytes.len() => bytes.push(byte),
                    2 => bytes[at] = byte,
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        },
    )
}

/// The written form is a fixed point: reading it gives the same frames, and those the same bytes.
macro_rules! fixed_point {
    ($batch:expr, $decode:path) => {
        let frames: Vec<_> = $decode($batch).map_while(Result::ok).collect();
        let mut written = Batch::new(Encoding::Binary);
        frames.iter().for_each(|frame| written.push(frame));
        let written = written.take();
        let again: Vec<_> = $decode(&written).collect::<Result<_, _>>().unwrap();
        assert_eq!(again, frames);
    };
}

fn read_and_write_again(batch: &[u8]) {
    fixed_point!(batch, codec::decode_up);
    fixed_point!(batch, codec::decode_down);
}

macro_rules! twin_fixed_point {
    ($batch:expr, $parse:path, $frames:path) => {
        if let Ok(batch) = $parse($batch) {
            let frames: Vec<_> = $frames(&batch).map_while(Result::ok).collect();
            let mut written = Batch::new(Encoding::Json);
            frames.iter().for_each(|frame| written.push(frame));
            let written = written.take();
            let parsed = $parse(if written.is_empty() { b"[]" } else { &written }).unwrap();
            let again: Vec<_> = $frames(&parsed).collect::<Result<_, _>>().unwrap();
            assert_eq!(again, frames);
        }
    };
}

fn read_twin_and_write_again(batch: &[u8]) {
    twin_fixed_point!(batch, json::parse_up, json::up_frames);
    twin_fixed_point!(batch, json::parse_down, json::down_frames);
}
