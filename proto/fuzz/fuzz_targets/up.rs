//! Any bytes, as a batch that goes up: what is read is written as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_proto::codec;

fuzz_target!(|batch: &[u8]| {
    let frames: Vec<_> = codec::decode_up(batch).map_while(Result::ok).collect();
    let mut written = Vec::new();
    frames.iter().for_each(|frame| codec::encode(frame, &mut written));
    let again: Vec<_> =
        codec::decode_up(&written).collect::<Result<_, _>>().expect("our own bytes");
    assert_eq!(again, frames);
});
