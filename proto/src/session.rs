//! The server's end of one connection, without the connection.
//!
//! Fed batches, it yields events whose conversations are ids, and answers by itself what needs nobody
//! else (PING). Invariants: HELLO comes first and once; a handle means one id for as long as the
//! connection lives; tables and answers are bounded; after an error nothing more is read.

use std::collections::HashMap;

use crate::batch::{Batch, Encoding};
use crate::codec;
use crate::counters::draft_hash;
use crate::frame::{Down, DraftBody, Lane, Up, down, up};
use crate::json;
use crate::limits::{HANDLES_MAX, PAGE_ENTRIES_MAX, TOKEN_BYTES_MAX};
use crate::refusal::{Refusal, RefusalCode};
use crate::wire::{ConversationHandle, Id, Malformed, PersonHandle, Ref};

/// A conversation as the server knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    Id(Id),
    /// The visitor's current conversation, begun by the first entry in it.
    Mine,
}

/// What a client said, ready to be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its marks follow as events of their own.
    Hello(up::Hello<'a>),
    Draft(Draft<'a>),
    Typing {
        conversation: Target,
        on: bool,
    },
    Mark {
        conversation: Target,
        delivered: u64,
        read: u64,
    },
    Page(Page),
    Gap {
        conversation: Target,
        lane: Lane,
        have: u64,
    },
    Pong {
        nonce: u64,
    },
    Bye {
        reason: u64,
    },
}

/// A draft with its conversation resolved and its hash computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'a> {
    pub counter: u64,
    pub settled: u64,
    pub conversation: Target,
    pub lane: Lane,
    pub body: DraftBody<'a>,
    pub hash: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub request: u64,
    pub conversation: Target,
    pub lane: Lane,
    pub before: u64,
    pub limit: u64,
}

/// The connection ends. REFUSED with this is already in the batch that goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub refusal: Refusal,
    /// Which rule of the encoding was broken, for counters and logs.
    pub malformed: Option<Malformed>,
}

impl Close {
    /// The WebSocket close code that says the same.
    pub fn code(&self) -> u16 {
        match self.malformed {
            Some(Malformed::NotUtf8) => 1007,
            _ => self.refusal.code.close_code(),
        }
    }
}

/// No handle is left on this connection: tell the client to connect anew (GOAWAY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandlesFull;

#[derive(Debug)]
pub struct Session {
    encoding: Encoding,
    /// 0 until HELLO came.
    generation: u64,
    greeted: bool,
    conversations: Handles,
    persons: Handles,
}

impl Session {
    pub fn new(encoding: Encoding) -> Session {
        Session {
            encoding,
            generation: 0,
            greeted: false,
            conversations: Handles::starting_at(ConversationHandle::FIRST),
            persons: Handles::starting_at(1),
        }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Of the device's connections the one with the highest generation lives.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A batch to write answers into, in this connection's encoding.
    pub fn batch(&self) -> Batch {
        Batch::new(self.encoding)
    }

    /// Reads one batch and calls `on` for each event in order. Answers go into `out`. After an error
    /// `out` ends with REFUSED; send it, close with `Close::code`, and read no more.
    pub fn receive(
        &mut self,
        batch: &[u8],
        out: &mut Batch,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Close> {
        let read = match self.encoding {
            Encoding::Binary => {
                codec::decode_up(batch).try_for_each(|frame| self.take(frame?, out, on))
            }
            Encoding::Json => json::parse_up(batch).map_err(Close::from).and_then(|batch| {
                json::up_frames(&batch).try_for_each(|frame| self.take(frame?, out, on))
            }),
        };
        read.inspect_err(|close| refuse(&close.refusal, out))
    }

    /// The handle of a conversation, and whether it is new: then its CONVERSATION frame must be
    /// written before anything else names it.
    pub fn conversation(&mut self, id: Id) -> Result<(ConversationHandle, bool), HandlesFull> {
        self.conversations.bind(id).map(|(handle, new)| (ConversationHandle(handle), new))
    }

    /// The handle of a person, and whether it is new: then their PERSON frame must be written first.
    pub fn person(&mut self, id: Id) -> Result<(PersonHandle, bool), HandlesFull> {
        self.persons.bind(id).map(|(handle, new)| (PersonHandle(handle), new))
    }

    fn take(
        &mut self,
        frame: Up<'_>,
        out: &mut Batch,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Close> {
        if self.greeted == matches!(frame, Up::Hello(_)) {
            return Err(Close::because(RefusalCode::Protocol, "HELLO comes first, and once."));
        }
        match frame {
            Up::Hello(hello) => self.greet(hello, on)?,
            Up::Ping(up::Ping { nonce }) => out.push(&Down::from(down::Pong { nonce })),
            Up::Pong(up::Pong { nonce }) => on(Event::Pong { nonce }),
            Up::Bye(up::Bye { reason }) => on(Event::Bye { reason }),
            Up::Draft(draft) => {
                let conversation = self.resolve(draft.conversation)?;
                on(Event::Draft(Draft {
                    counter: draft.counter,
                    settled: draft.settled,
                    conversation,
                    lane: draft.lane,
                    hash: draft_hash(conversation, draft.lane, &draft.body),
                    body: draft.body,
                }));
            }
            Up::Typing(typing) => {
                let conversation = self.resolve(typing.conversation)?;
                on(Event::Typing { conversation, on: typing.on });
            }
            Up::Mark(up::Mark { conversation, delivered, read }) => {
                let conversation = self.resolve(conversation)?;
                on(Event::Mark { conversation, delivered, read });
            }
            Up::Page(page) => {
                if !(1..=PAGE_ENTRIES_MAX).contains(&page.limit) {
                    return Err(Close::because(
                        RefusalCode::Protocol,
                        "A page has 1 to 100 entries.",
                    ));
                }
                on(Event::Page(Page {
                    request: page.request,
                    conversation: self.resolve(page.conversation)?,
                    lane: page.lane,
                    before: page.before,
                    limit: page.limit,
                }));
            }
            Up::Gap(up::Gap { conversation, lane, have }) => {
                on(Event::Gap { conversation: self.resolve(conversation)?, lane, have });
            }
        }
        Ok(())
    }

    fn greet(
        &mut self,
        mut hello: up::Hello<'_>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Close> {
        if hello.version != crate::VERSION {
            return Err(Close::because(RefusalCode::Protocol, "This server speaks version 1."));
        }
        if hello.token.len() > TOKEN_BYTES_MAX {
            return Err(Close::because(RefusalCode::TokenInvalid, "The token is too long."));
        }
        self.greeted = true;
        self.generation = hello.generation;
        let marks = std::mem::take(&mut hello.marks);
        on(Event::Hello(hello));
        for mark in marks {
            let conversation = self.resolve(mark.conversation)?;
            on(Event::Mark { conversation, delivered: mark.delivered, read: mark.read });
        }
        Ok(())
    }

    fn resolve(&self, conversation: Ref) -> Result<Target, Close> {
        match conversation {
            Ref::Id(id) => Ok(Target::Id(id)),
            Ref::Mine => Ok(Target::Mine),
            Ref::Handle(ConversationHandle(handle)) => {
                self.conversations.id(handle).map(Target::Id).ok_or_else(|| {
                    Close::because(RefusalCode::Protocol, "This handle was never given.")
                })
            }
        }
    }
}

impl Draft<'_> {
    /// What is wrong with it whoever sends it. It is answered by SETTLED like any other refusal, so that
    /// the device can go on to its next draft.
    pub fn flaw(&self) -> Option<RefusalCode> {
        self.body.flaw()
    }
}

/// Writes REFUSED, the last frame of a connection.
pub fn refuse(refusal: &Refusal, out: &mut Batch) {
    out.push(&Down::Refused(down::Refused {
        code: refusal.code,
        text: &refusal.text,
        retry_after_ms: refusal.retry_after_ms,
    }));
}

impl Close {
    fn because(code: RefusalCode, text: &'static str) -> Close {
        Close { refusal: Refusal::because(code, text), malformed: None }
    }
}

impl From<Malformed> for Close {
    fn from(malformed: Malformed) -> Close {
        let code = match malformed {
            Malformed::UnknownOpcode => RefusalCode::Protocol,
            Malformed::BatchTooLarge => RefusalCode::TooLarge,
            Malformed::TooManyFrames | Malformed::TooManyElements => RefusalCode::TooMany,
            _ => RefusalCode::Malformed,
        };
        Close { refusal: Refusal::because(code, malformed.name()), malformed: Some(malformed) }
    }
}

/// Which id each handle of a connection stands for. Idle connections with empty tables hold no memory;
/// a handle is never bound again, so the table ends instead of turning round.
#[derive(Debug)]
struct Handles {
    first: u64,
    ids: Vec<Id>,
    handles: HashMap<Id, u64>,
}

impl Handles {
    fn starting_at(first: u64) -> Handles {
        Handles { first, ids: Vec::new(), handles: HashMap::new() }
    }

    fn bind(&mut self, id: Id) -> Result<(u64, bool), HandlesFull> {
        if let Some(&handle) = self.handles.get(&id) {
            return Ok((handle, false));
        }
        if self.ids.len() >= HANDLES_MAX {
            return Err(HandlesFull);
        }
        let handle = self.first + self.ids.len() as u64;
        self.ids.push(id);
        self.handles.insert(id, handle);
        Ok((handle, true))
    }

    fn id(&self, handle: u64) -> Option<Id> {
        let index = usize::try_from(handle.checked_sub(self.first)?).ok()?;
        self.ids.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BATCH_BYTES_MAX, BATCH_FRAMES_MAX, MARKS_MAX};
    use crate::wire::{Epoch, Grown};

    fn hello() -> up::Hello<'static> {
        up::Hello {
            version: 1,
            caps: 0,
            device: [1; 16],
            generation: 4,
            epoch: Epoch(0),
            cursor: 0,
            last_counter: 0,
            settled: 1,
            token: "",
            marks: Vec::new(),
            page: Grown::default(),
        }
    }

    fn text(conversation: Ref, text: &str) -> Up<'_> {
        let body = DraftBody::Text { text };
        Up::Draft(up::Draft { counter: 1, settled: 1, conversation, lane: Lane::Public, body })
    }

    fn ping() -> Up<'static> {
        Up::Ping(up::Ping { nonce: 1 })
    }

    fn bytes(encoding: Encoding, frames: &[Up<'_>]) -> Vec<u8> {
        let mut batch = Batch::new(encoding);
        frames.iter().for_each(|frame| batch.push(frame));
        batch.take()
    }

    /// What a session makes of frames: how many events, and how it ended.
    fn hear(session: &mut Session, frames: &[Up<'_>]) -> (usize, Result<(), Close>) {
        let batch = bytes(session.encoding(), frames);
        let mut events = 0;
        let read = session.receive(&batch, &mut session.batch(), &mut |_| events += 1);
        (events, read)
    }

    fn greeted(encoding: Encoding) -> Session {
        let mut session = Session::new(encoding);
        assert_eq!(hear(&mut session, &[Up::Hello(hello())]), (1, Ok(())));
        session
    }

    fn code(read: Result<(), Close>) -> RefusalCode {
        read.unwrap_err().refusal.code
    }

    #[test]
    fn hello_comes_first_and_once() {
        for encoding in [Encoding::Binary, Encoding::Json] {
            let (events, read) = hear(&mut Session::new(encoding), &[ping()]);
            assert_eq!((events, code(read)), (0, RefusalCode::Protocol));
            let (events, read) = hear(&mut greeted(encoding), &[Up::Hello(hello())]);
            assert_eq!((events, code(read)), (0, RefusalCode::Protocol));
            assert_eq!(greeted(encoding).generation(), 4);
        }
    }

    #[test]
    fn another_version_is_refused() {
        let newer = up::Hello { version: 2, ..hello() };
        let (_, read) = hear(&mut Session::new(Encoding::Binary), &[Up::Hello(newer)]);
        assert_eq!(code(read), RefusalCode::Protocol);
    }

    #[test]
    fn a_refusal_is_the_last_frame_that_goes_out() {
        for encoding in [Encoding::Binary, Encoding::Json] {
            let mut session = greeted(encoding);
            let mut out = session.batch();
            let batch = bytes(encoding, &[ping(), Up::Hello(hello()), ping()]);
            let close = session.receive(&batch, &mut out, &mut |_| {}).unwrap_err();
            assert_eq!(close.code(), 1002);
            let sent = out.take();
            let names: Vec<&str> = match encoding {
                Encoding::Binary => {
                    codec::decode_down(&sent).map(|frame| frame.unwrap().name()).collect()
                }
                Encoding::Json => json::down_frames(&json::parse_down(&sent).unwrap())
                    .map(|frame| frame.unwrap().name())
                    .collect(),
            };
            assert_eq!(names, ["pong", "refused"]);
        }
    }

    #[test]
    fn a_handle_means_one_id_and_was_given_before_it_is_used() {
        let mut session = greeted(Encoding::Binary);
        let (first, new) = session.conversation([1; 16]).unwrap();
        assert_eq!((first.0, new), (ConversationHandle::FIRST, true));
        assert_eq!(session.conversation([1; 16]), Ok((first, false)));
        let (second, _) = session.conversation([2; 16]).unwrap();

        let mut heard = Vec::new();
        let frames = [text(Ref::Handle(first), "a"), text(Ref::Handle(second), "a")];
        let batch = bytes(Encoding::Binary, &frames);
        let mut on = |event: Event<'_>| match event {
            Event::Draft(draft) => heard.push(draft.conversation),
            other => panic!("{other:?}"),
        };
        session.receive(&batch, &mut session.batch(), &mut on).unwrap();
        assert_eq!(heard, [Target::Id([1; 16]), Target::Id([2; 16])]);

        let unknown = ConversationHandle(second.0 + 1);
        let (events, read) = hear(&mut session, &[text(Ref::Handle(unknown), "a")]);
        assert_eq!((events, code(read)), (0, RefusalCode::Protocol));
    }

    #[test]
    fn a_draft_has_one_hash_however_it_is_spelled() {
        let mut hashes = Vec::new();
        for encoding in [Encoding::Binary, Encoding::Json] {
            let mut session = greeted(encoding);
            let (handle, _) = session.conversation([1; 16]).unwrap();
            let frames =
                [text(Ref::Handle(handle), "\u{0}\"您"), text(Ref::Id([1; 16]), "\u{0}\"您")];
            let batch = bytes(encoding, &frames);
            let mut on = |event: Event<'_>| match event {
                Event::Draft(draft) => hashes.push(draft.hash),
                other => panic!("{other:?}"),
            };
            session.receive(&batch, &mut session.batch(), &mut on).unwrap();
        }
        assert_eq!(hashes.len(), 4);
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn handles_end_at_their_limit_and_old_ones_stay() {
        let mut session = greeted(Encoding::Binary);
        let id = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        for number in 0..HANDLES_MAX {
            assert!(session.conversation(id(number)).unwrap().1);
        }
        assert_eq!(session.conversation(id(HANDLES_MAX)), Err(HandlesFull));
        assert_eq!(session.conversation(id(0)), Ok((ConversationHandle(2), false)));
    }

    #[test]
    fn a_page_has_one_to_a_hundred_entries() {
        for (limit, good) in [(0, false), (1, true), (99, true), (100, true), (101, false)] {
            let page = Up::Page(up::Page {
                request: 1,
                conversation: Ref::Mine,
                lane: Lane::Public,
                before: 0,
                limit,
            });
            let (_, read) = hear(&mut greeted(Encoding::Binary), &[page]);
            assert_eq!(read.is_ok(), good, "{limit}");
        }
    }

    #[test]
    fn a_batch_may_hold_as_many_frames_as_its_limit() {
        for encoding in [Encoding::Binary, Encoding::Json] {
            for (count, good) in [
                (BATCH_FRAMES_MAX - 1, true),
                (BATCH_FRAMES_MAX, true),
                (BATCH_FRAMES_MAX + 1, false),
            ] {
                let (_, read) = hear(&mut greeted(encoding), &vec![ping(); count]);
                assert_eq!(read.is_ok(), good, "{encoding:?} {count}");
                if let Err(close) = read {
                    assert_eq!(close.refusal.code, RefusalCode::TooMany);
                }
            }
        }
    }

    #[test]
    fn a_batch_may_be_as_long_as_its_limit() {
        let mut binary = greeted(Encoding::Binary);
        let mut json = greeted(Encoding::Json);
        for (length, good) in
            [(BATCH_BYTES_MAX - 1, true), (BATCH_BYTES_MAX, true), (BATCH_BYTES_MAX + 1, false)]
        {
            // One frame that may be skipped, with a length of three bytes before it.
            let mut skipped = Vec::new();
            crate::wire::put_varint(length as u64 - 3, &mut skipped);
            skipped.push(0xff);
            skipped.resize(length, 0);
            let read = binary.receive(&skipped, &mut binary.batch(), &mut |_| {});
            assert_eq!(read.is_ok(), good, "{length}");
            let spaces = format!("[{}]", " ".repeat(length - 2));
            let read = json.receive(spaces.as_bytes(), &mut json.batch(), &mut |_| {});
            assert_eq!(read.clone().is_ok(), good, "{length}");
            if let Err(close) = read {
                assert_eq!((close.refusal.code, close.code()), (RefusalCode::TooLarge, 1009));
            }
        }
    }

    #[test]
    fn hello_may_carry_as_many_marks_as_their_limit() {
        for encoding in [Encoding::Binary, Encoding::Json] {
            for (count, good) in [(MARKS_MAX - 1, true), (MARKS_MAX, true), (MARKS_MAX + 1, false)]
            {
                let mark = crate::frame::OwnMark { conversation: Ref::Mine, delivered: 1, read: 1 };
                let marks = vec![mark; count];
                let frames = [Up::Hello(up::Hello { marks, ..hello() })];
                let (events, read) = hear(&mut Session::new(encoding), &frames);
                assert_eq!(read.is_ok(), good, "{encoding:?} {count}");
                assert_eq!(events, if good { count + 1 } else { 0 });
            }
        }
    }

    #[test]
    fn a_token_may_be_as_long_as_its_limit() {
        for (length, good) in
            [(TOKEN_BYTES_MAX - 1, true), (TOKEN_BYTES_MAX, true), (TOKEN_BYTES_MAX + 1, false)]
        {
            let token = "t".repeat(length);
            let frames = [Up::Hello(up::Hello { token: &token, ..hello() })];
            let (_, read) = hear(&mut Session::new(Encoding::Binary), &frames);
            assert_eq!(read.is_ok(), good, "{length}");
        }
    }

    #[test]
    fn every_flaw_of_a_draft_has_its_number_and_its_edge() {
        use crate::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let text = |length: usize| DraftBody::Text { text: &long[..length] };
        let file = |upload: usize, name: usize, caption: usize| DraftBody::File {
            upload: &long[..upload],
            name: &long[..name],
            caption: &long[..caption],
        };
        for (body, flaw) in [
            (text(0), Some(RefusalCode::TextEmpty)),
            (text(1), None),
            (text(TEXT_BYTES_MAX - 1), None),
            (text(TEXT_BYTES_MAX), None),
            (text(TEXT_BYTES_MAX + 1), Some(RefusalCode::TextTooLong)),
            (file(1, 1, TEXT_BYTES_MAX), None),
            (file(1, 1, TEXT_BYTES_MAX + 1), Some(RefusalCode::TextTooLong)),
            (file(1, NAME_BYTES_MAX, 0), None),
            (file(1, NAME_BYTES_MAX + 1, 0), Some(RefusalCode::TooLarge)),
            (file(TOKEN_BYTES_MAX, 1, 0), None),
            (file(TOKEN_BYTES_MAX + 1, 1, 0), Some(RefusalCode::UploadUnknown)),
            (DraftBody::Close {}, None),
            (
                DraftBody::Unknown { kind: 200, bytes: b"?".as_slice().into() },
                Some(RefusalCode::UnknownKind),
            ),
        ] {
            assert_eq!(body.flaw(), flaw, "{:?}", body.kind());
        }
    }
}
