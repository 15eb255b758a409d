//! Any batches, as what a client says to the server's end of a session, and a server to the client's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_proto::client::{Client, Device};
use lodge_proto::session::Session;
use lodge_proto::{Encoding, limits};

fuzz_target!(|batches: (bool, Vec<Vec<u8>>)| {
    let (twin, batches) = batches;
    let encoding = if twin { Encoding::Json } else { Encoding::Binary };
    let mut session = Session::new(encoding);
    let mut client = Client::new(encoding, Device::new([1; 16]));
    client.open("", "");
    for batch in &batches {
        let mut out = session.batch();
        let heard = session.receive(batch, &mut out, &mut |_| {});
        assert!(out.take().len() <= 16 * limits::BATCH_FRAMES_MAX + 1024);
        if heard.is_err() {
            break;
        }
    }
    for batch in &batches {
        let _ = client.receive(batch, 0, &mut |_| {});
        let _ = client.write(0);
    }
});
