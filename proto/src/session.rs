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
use crate::limits::{
    HANDLES_MAX, NAME_BYTES_MAX, PAGE_ENTRIES_MAX, TEXT_BYTES_MAX, TOKEN_BYTES_MAX,
};
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
    /// What is wrong with a draft whoever sends it. It is answered by SETTLED like any other refusal,
    /// so that the device can go on to its next draft.
    pub fn flaw(&self) -> Option<RefusalCode> {
        match &self.body {
            DraftBody::Text { text } if text.is_empty() => Some(RefusalCode::TextEmpty),
            DraftBody::Text { text } if text.len() > TEXT_BYTES_MAX => {
                Some(RefusalCode::TextTooLong)
            }
            DraftBody::File { caption, .. } if caption.len() > TEXT_BYTES_MAX => {
                Some(RefusalCode::TextTooLong)
            }
            DraftBody::File { name, .. } if name.len() > NAME_BYTES_MAX => {
                Some(RefusalCode::TooLarge)
            }
            DraftBody::File { upload, .. } if upload.len() > TOKEN_BYTES_MAX => {
                Some(RefusalCode::UploadUnknown)
            }
            DraftBody::Unknown { .. } => Some(RefusalCode::UnknownKind),
            DraftBody::Text { .. } | DraftBody::File { .. } | DraftBody::Close {} => None,
        }
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
