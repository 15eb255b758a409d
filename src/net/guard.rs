//! RFC 6455 as a server has to hold its clients to it, without a socket.
//!
//! fastwebsockets 0.10 reads unmasked frames, control frames of any length and messages of any number of
//! fragments, and loses bytes when a read is cancelled. So this guard reads every header itself, judges it
//! before the payload arrives, and leaves to the codec what is done on bytes in memory: unmasking here,
//! heads of outgoing frames in `websocket`.
//!
//! Invariants: what is held never exceeds one message, one frame and one read; a message is handed on only
//! whole and, if it is text, as UTF-8; between messages, with nothing half-read, no memory is held.

use bytes::BytesMut;
use fastwebsockets::{OpCode, unmask};

/// Bytes of one message, all fragments together.
pub const MESSAGE_BYTES_MAX: usize = lodge_proto::limits::BATCH_BYTES_MAX;
/// Frames that one message may come in.
pub const FRAGMENTS_MAX: usize = 256;
/// Bytes in a ping, pong or close.
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a client did that RFC 6455 or our limits forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    ReservedBit,
    Opcode,
    NotMasked,
    LengthForm,
    ControlTooLong,
    ControlFragmented,
    NothingToContinue,
    MessageInterrupted,
    CloseCode,
    NotUtf8,
    TooManyFragments,
    TooLarge,
}

impl Wrong {
    /// The close code that answers it.
    pub fn code(self) -> u16 {
        match self {
            Wrong::NotUtf8 => 1007,
            Wrong::TooManyFragments => 1008,
            Wrong::TooLarge => 1009,
            _ => 1002,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Wrong::ReservedBit => "a reserved bit is set",
            Wrong::Opcode => "unknown opcode",
            Wrong::NotMasked => "a client's frames must be masked",
            Wrong::LengthForm => "the length is not in its shortest form",
            Wrong::ControlTooLong => "a control frame holds at most 125 bytes",
            Wrong::ControlFragmented => "a control frame must be whole",
            Wrong::NothingToContinue => "there is no message to continue",
            Wrong::MessageInterrupted => "the message before is not finished",
            Wrong::CloseCode => "not a close code",
            Wrong::NotUtf8 => "text must be UTF-8",
            Wrong::TooManyFragments => "a message in too many fragments",
            Wrong::TooLarge => "the message is too large",
        }
    }
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing whole yet.
    More,
    /// A message lies in `Guard::message` until the next step.
    Message { text: bool },
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    /// The far end says good-bye; nothing after it counts.
    Close(Option<u16>),
}

/// The reading half of one WebSocket.
#[derive(Debug, Default)]
pub struct Guard {
    /// Bytes that came and are not yet a whole frame.
    incoming: BytesMut,
    /// Payload of the message that is being put together, or was just handed on.
    message: BytesMut,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    Within {
        text: bool,
        fragments: usize,
    },
    /// The message was handed on and may be let go.
    Delivered,
}

impl Guard {
    /// Takes bytes off the wire.
    pub fn take(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// Goes on to the next whole thing. Never leaves a frame half-taken.
    pub fn step(&mut self) -> Result<Step, Wrong> {
        if self.state == State::Delivered {
            self.message = BytesMut::new();
            self.state = State::Between;
        }
        loop {
            let Some(head) = Head::read(&self.incoming)? else { return Ok(self.more()) };
            self.judge(&head)?;
            if self.incoming.len() < head.size + head.length {
                return Ok(self.more());
            }
            let mut payload = self.incoming.split_to(head.size + head.length).split_off(head.size);
            unmask(&mut payload, head.mask);
            match head.opcode {
                OpCode::Ping => return Ok(Step::Ping(payload.to_vec())),
                OpCode::Pong => {}
                OpCode::Close => return close(&payload).map(Step::Close),
                OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                    if let Some(text) = self.append(&head, payload)? {
                        return Ok(Step::Message { text });
                    }
                }
            }
        }
    }

    /// The message of the last step.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Judges a frame by its head alone, against the message that is under way.
    fn judge(&self, head: &Head) -> Result<(), Wrong> {
        let fragments = match (head.opcode, self.state) {
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) => return Ok(()),
            (OpCode::Continuation, State::Within { fragments, .. }) => fragments + 1,
            (OpCode::Continuation, _) => return Err(Wrong::NothingToContinue),
            (_, State::Within { .. }) => return Err(Wrong::MessageInterrupted),
            _ => 1,
        };
        if fragments > FRAGMENTS_MAX {
            return Err(Wrong::TooManyFragments);
        }
        if head.length > MESSAGE_BYTES_MAX.saturating_sub(self.message.len()) {
            return Err(Wrong::TooLarge);
        }
        Ok(())
    }

    /// Adds a judged frame to its message; says whether it is text once it is whole.
    fn append(&mut self, head: &Head, payload: BytesMut) -> Result<Option<bool>, Wrong> {
        let (text, fragments) = match self.state {
            State::Within { text, fragments } => (text, fragments + 1),
            _ => (head.opcode == OpCode::Text, 1),
        };
        if self.message.is_empty() {
            self.message = payload;
        } else {
            self.message.extend_from_slice(&payload);
        }
        if !head.fin {
            self.state = State::Within { text, fragments };
            return Ok(None);
        }
        if text && std::str::from_utf8(&self.message).is_err() {
            return Err(Wrong::NotUtf8);
        }
        self.state = State::Delivered;
        Ok(Some(text))
    }

    fn more(&mut self) -> Step {
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        Step::More
    }

    #[cfg(test)]
    fn holds(&self) -> usize {
        self.incoming.capacity() + self.message.capacity()
    }
}

/// The head of a frame that may come from a client.
struct Head {
    fin: bool,
    opcode: OpCode,
    length: usize,
    mask: [u8; 4],
    /// Bytes of the head itself.
    size: usize,
}

impl Head {
    /// `None`: not all of it is there. What is wrong is said as soon as it is seen.
    fn read(bytes: &[u8]) -> Result<Option<Head>, Wrong> {
        let [first, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Wrong::ReservedBit);
        }
        let fin = first & 0x80 != 0;
        let opcode = OpCode::try_from(first & 0x0f).map_err(|_| Wrong::Opcode)?;
        let control = is_control(opcode);
        if control && !fin {
            return Err(Wrong::ControlFragmented);
        }
        let [second, rest @ ..] = rest else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Wrong::NotMasked);
        }
        let (length, rest, size) = match (second & 0x7f, rest) {
            (126 | 127, _) if control => return Err(Wrong::ControlTooLong),
            (126, [a, b, rest @ ..]) => {
                let length = u16::from_be_bytes([*a, *b]);
                if length < 126 {
                    return Err(Wrong::LengthForm);
                }
                (usize::from(length), rest, 8)
            }
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                if length <= u64::from(u16::MAX) || length >> 63 != 0 {
                    return Err(Wrong::LengthForm);
                }
                let Ok(length) = usize::try_from(length) else { return Err(Wrong::TooLarge) };
                // Judged here too, so that no sum of it can overflow.
                if length > MESSAGE_BYTES_MAX {
                    return Err(Wrong::TooLarge);
                }
                (length, rest, 14)
            }
            (126 | 127, _) => return Ok(None),
            (length, rest) => (usize::from(length), rest, 6),
        };
        let [a, b, c, d, ..] = rest else { return Ok(None) };
        Ok(Some(Head { fin, opcode, length, mask: [*a, *b, *c, *d], size }))
    }
}

fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

fn close(payload: &[u8]) -> Result<Option<u16>, Wrong> {
    match payload {
        [] => Ok(None),
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            if !may_travel(code) {
                return Err(Wrong::CloseCode);
            }
            std::str::from_utf8(reason).map_err(|_| Wrong::NotUtf8)?;
            Ok(Some(code))
        }
        [_] => Err(Wrong::CloseCode),
    }
}

/// Close codes that may stand in a frame: registered ones, and those of libraries and applications.
pub fn may_travel(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x1f, 0x80, 0x03, 0xe7];

    /// A frame as a client may send it, or as it may not.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[derive(Debug, PartialEq, Eq, Clone)]
    enum Seen {
        Text(Vec<u8>),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Close(Option<u16>),
        Wrong(Wrong),
    }

    /// Everything that a stream amounts to, fed in pieces of `piece` bytes.
    fn read(bytes: &[u8], piece: usize) -> Vec<Seen> {
        let mut guard = Guard::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            guard.take(piece);
            loop {
                let it = match guard.step() {
                    Ok(Step::More) => break,
                    Ok(Step::Message { text: true }) => Seen::Text(guard.message().to_vec()),
                    Ok(Step::Message { text: false }) => Seen::Binary(guard.message().to_vec()),
                    Ok(Step::Ping(payload)) => Seen::Ping(payload),
                    Ok(Step::Close(code)) => Seen::Close(code),
                    Err(wrong) => Seen::Wrong(wrong),
                };
                let last = matches!(it, Seen::Close(_) | Seen::Wrong(_));
                seen.push(it);
                if last {
                    return seen;
                }
            }
        }
        seen
    }

    fn check(bytes: &[u8], expected: &[Seen]) {
        for piece in [bytes.len(), 1, 2, 3, 5, 7, 4096] {
            assert_eq!(read(bytes, piece), expected, "in pieces of {piece}: {bytes:02x?}");
        }
    }

    #[test]
    fn the_grid_of_heads() {
        // opcode × FIN × RSV × mask × form of the length, each as the first frame of a connection.
        for first in 0..=255u8 {
            for masked in [false, true] {
                for form in [0u8, 126, 127] {
                    // The shortest payload that the form may carry, and one that it may not.
                    let lengths: &[usize] = match form {
                        126 => &[126, 0xffff, 125, 0],
                        127 => &[0x1_0000, 0xffff, 0],
                        _ => &[0, 1, 125],
                    };
                    for &length in lengths {
                        let mut bytes = vec![first];
                        let bit = if masked { 0x80 } else { 0 };
                        match form {
                            126 => {
                                bytes.push(bit | 126);
                                bytes.extend((length as u16).to_be_bytes());
                            }
                            127 => {
                                bytes.push(bit | 127);
                                bytes.extend((length as u64).to_be_bytes());
                            }
                            _ => bytes.push(bit | length as u8),
                        }
                        bytes.extend([0; 4]);
                        bytes.extend(std::iter::repeat_n(b'a', length));
                        let payload = vec![b'a'; length];
                        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
                        let shortest = match form {
                            126 => length >= 126,
                            127 => length > 0xffff,
                            _ => true,
                        };
                        let expected = if first & 0x70 != 0 {
                            vec![Seen::Wrong(Wrong::ReservedBit)]
                        } else if !matches!(opcode, 0..=2 | 8..=10) {
                            vec![Seen::Wrong(Wrong::Opcode)]
                        } else if opcode >= 8 && !fin {
                            vec![Seen::Wrong(Wrong::ControlFragmented)]
                        } else if !masked {
                            vec![Seen::Wrong(Wrong::NotMasked)]
                        } else if opcode >= 8 && form != 0 {
                            vec![Seen::Wrong(Wrong::ControlTooLong)]
                        } else if !shortest {
                            vec![Seen::Wrong(Wrong::LengthForm)]
                        } else {
                            match (opcode, fin) {
                                (0, _) => vec![Seen::Wrong(Wrong::NothingToContinue)],
                                (8, _) if length == 0 => vec![Seen::Close(None)],
                                // "a" alone is no code, and 0x6161 is none either.
                                (8, _) => vec![Seen::Wrong(Wrong::CloseCode)],
                                (9, _) => vec![Seen::Ping(payload)],
                                (10, _) => vec![],
                                (1, true) => vec![Seen::Text(payload)],
                                (2, true) => vec![Seen::Binary(payload)],
                                _ => vec![],
                            }
                        };
                        assert_eq!(
                            read(&bytes, bytes.len()),
                            expected,
                            "first {first:#04x} masked {masked} form {form} length {length}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_head_is_judged_before_its_payload_arrives() {
        for (length, wrong) in [
            (MESSAGE_BYTES_MAX as u64 + 1, Wrong::TooLarge),
            (1 << 31, Wrong::TooLarge),
            (1 << 32, Wrong::TooLarge),
            (u64::MAX >> 1, Wrong::TooLarge),
            (1 << 63, Wrong::LengthForm),
            (u64::MAX, Wrong::LengthForm),
        ] {
            let mut bytes = vec![0x82, 0xff];
            bytes.extend(length.to_be_bytes());
            // What is judged in the head needs not even the mask.
            assert_eq!(read(&bytes, 1), [Seen::Wrong(wrong)], "{length:#x}");
        }
    }

    #[test]
    fn a_message_is_as_long_as_it_may_be_and_no_longer() {
        for length in [MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX] {
            let payload = vec![7; length];
            check(&frame(0x82, &payload), &[Seen::Binary(payload)]);
        }
        let payload = vec![7; MESSAGE_BYTES_MAX + 1];
        check(&frame(0x82, &payload), &[Seen::Wrong(Wrong::TooLarge)]);
    }

    #[test]
    fn fragments_count_together() {
        let half = vec![7; MESSAGE_BYTES_MAX / 2];
        for (last, expected) in [
            (MESSAGE_BYTES_MAX / 2 - 1, Ok(())),
            (MESSAGE_BYTES_MAX / 2, Ok(())),
            (MESSAGE_BYTES_MAX / 2 + 1, Err(Wrong::TooLarge)),
        ] {
            let mut bytes = frame(0x02, &half);
            bytes.extend(frame(0x80, &vec![7; last]));
            let expected = match expected {
                Ok(()) => Seen::Binary(vec![7; half.len() + last]),
                Err(wrong) => Seen::Wrong(wrong),
            };
            assert_eq!(read(&bytes, bytes.len()), [expected]);
        }
        for (count, expected) in [
            (FRAGMENTS_MAX - 1, Seen::Binary(vec![])),
            (FRAGMENTS_MAX, Seen::Binary(vec![])),
            (FRAGMENTS_MAX + 1, Seen::Wrong(Wrong::TooManyFragments)),
        ] {
            let mut bytes = frame(0x02, &[]);
            for _ in 0..count - 2 {
                bytes.extend(frame(0x00, &[]));
            }
            bytes.extend(frame(0x80, &[]));
            assert_eq!(read(&bytes, 64), [expected], "{count} fragments");
        }
    }

    #[test]
    fn a_million_empty_fragments_end_at_the_limit_and_hold_nothing() {
        let mut guard = Guard::default();
        guard.take(&frame(0x01, b""));
        assert_eq!(guard.step(), Ok(Step::More));
        let mut taken = 1;
        let wrong = loop {
            guard.take(&frame(0x00, b""));
            match guard.step() {
                Ok(step) => assert_eq!(step, Step::More),
                Err(wrong) => break wrong,
            }
            taken += 1;
            assert!(guard.holds() < 4096);
        };
        assert_eq!((wrong, taken), (Wrong::TooManyFragments, FRAGMENTS_MAX));
    }

    #[test]
    fn control_frames_may_come_inside_a_message_and_data_may_not() {
        let parts = [
            frame(0x01, "你".as_bytes().split_at(1).0),
            frame(0x89, b"there?"),
            frame(0x8a, b""),
            frame(0x80, "你".as_bytes().split_at(1).1),
            frame(0x81, b"next"),
        ];
        check(
            &parts.concat(),
            &[
                Seen::Ping(b"there?".to_vec()),
                Seen::Text("你".into()),
                Seen::Text(b"next".to_vec()),
            ],
        );
        for second in [0x81, 0x01, 0x82, 0x02] {
            check(
                &[frame(0x01, b"one"), frame(second, b"two")].concat(),
                &[Seen::Wrong(Wrong::MessageInterrupted)],
            );
        }
        check(
            &[frame(0x81, b"one"), frame(0x80, b"more")].concat(),
            &[Seen::Text(b"one".to_vec()), Seen::Wrong(Wrong::NothingToContinue)],
        );
    }

    #[test]
    fn control_frames_hold_125_bytes() {
        for length in [124, 125] {
            check(&frame(0x89, &vec![1; length]), &[Seen::Ping(vec![1; length])]);
        }
        for opcode in [0x88, 0x89, 0x8a] {
            check(&frame(opcode, &[1; 126]), &[Seen::Wrong(Wrong::ControlTooLong)]);
        }
    }

    #[test]
    fn text_is_utf8_as_a_whole_not_fragment_by_fragment() {
        let text = "一点儿 é 🙂".as_bytes();
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            check(&[frame(0x01, a), frame(0x80, b)].concat(), &[Seen::Text(text.to_vec())]);
        }
        let bad: [&[u8]; 5] =
            [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe4\xbd"];
        for bad in bad {
            check(&frame(0x81, bad), &[Seen::Wrong(Wrong::NotUtf8)]);
            check(&frame(0x82, bad), &[Seen::Binary(bad.to_vec())]);
        }
    }

    #[test]
    fn the_grid_of_close_codes() {
        for code in 0..=u16::MAX {
            let allowed = matches!(
                code,
                1000 | 1001 | 1002 | 1003 | 1007..=1014 | 3000..=3999 | 4000..=4999
            );
            let expected =
                if allowed { Seen::Close(Some(code)) } else { Seen::Wrong(Wrong::CloseCode) };
            let bytes = frame(0x88, &code.to_be_bytes());
            assert_eq!(read(&bytes, bytes.len()), [expected], "{code}");
        }
        check(&frame(0x88, b""), &[Seen::Close(None)]);
        check(&frame(0x88, b"\x03"), &[Seen::Wrong(Wrong::CloseCode)]);
        check(&frame(0x88, b"\x03\xe8so long"), &[Seen::Close(Some(1000))]);
        check(&frame(0x88, b"\x03\xe8\xff"), &[Seen::Wrong(Wrong::NotUtf8)]);
    }

    #[test]
    fn nothing_counts_after_a_close() {
        let bytes = [frame(0x88, b""), frame(0x81, b"late"), frame(0x89, b"late")].concat();
        check(&bytes, &[Seen::Close(None)]);
    }

    #[test]
    fn between_messages_nothing_is_held() {
        let mut guard = Guard::default();
        for length in [0, 1, 125, 126, 4096, MESSAGE_BYTES_MAX] {
            guard.take(&frame(0x82, &vec![7; length]));
            assert_eq!(guard.step(), Ok(Step::Message { text: false }));
            assert_eq!(guard.message().len(), length);
            assert_eq!(guard.step(), Ok(Step::More));
            assert_eq!(guard.holds(), 0, "after {length} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics_and_pieces_never_matter(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
            piece in 1usize..40,
        ) {
            proptest::prop_assert_eq!(read(&bytes, piece), read(&bytes, bytes.len()));
        }
    }
}
