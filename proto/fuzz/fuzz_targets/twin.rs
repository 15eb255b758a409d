//! Any bytes, as a batch of the readable twin, in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_proto::{Batch, Encoding, json};

fuzz_target!(|batch: &[u8]| {
    if let Ok(batch) = json::parse_up(batch) {
        let frames: Vec<_> = json::up_frames(&batch).map_while(Result::ok).collect();
        let mut written = Batch::new(Encoding::Json);
        frames.iter().for_each(|frame| written.push(frame));
        let written = written.take();
        if !written.is_empty() {
            let parsed = json::parse_down(&written).expect("our own text");
            let again: Vec<_> =
                json::up_frames(&parsed).collect::<Result<_, _>>().expect("our own frames");
            assert_eq!(again, frames);
        }
    }
    if let Ok(batch) = json::parse_down(batch) {
        json::down_frames(&batch).for_each(drop);
    }
});
