//! The frames: everything that can be said, each stated once.
//!
//! From these statements come the Rust types, both encodings, the tables of the README, `protocol.json`
//! and the types of every SDK. Invariants: an opcode and a field never change their meaning; frames grow
//! at their end; opcodes from 0x80 on may be skipped by whoever does not know them.

use std::borrow::Cow;

use crate::describe::{self, Shape};
use crate::json::{self, Json};
use crate::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::refusal::RefusalCode;
use crate::wire::{
    ConversationHandle, Epoch, Grown, Id, Input, Malformed, PersonHandle, Ref, Wire,
};

/// `Up` or `Down`: all frames of one direction. The set is closed; this is how a batch is generic over it.
pub trait FrameSet<'a>: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// `Ok(None)`: a frame from a newer build that may be skipped.
    fn take(opcode: u8, input: &mut Input<'a>) -> Result<Option<Self>, Malformed>;
    fn put_json(&self, out: &mut Vec<u8>);
    fn take_json(value: &'a Json<'a>) -> Result<Option<Self>, Malformed>;
}

/// Fields one after the other, the same in a frame and in an element of a list.
macro_rules! record {
    ($(#[doc = $words:literal])* $name:ident $(<$lt:lifetime>)? {
        $($(#[doc = $field_words:literal])* $field:ident: $type:ty,)*
    }) => {
        $(#[doc = $words])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name $(<$lt>)? {
            $($(#[doc = $field_words])* pub $field: $type,)*
        }

        impl $(<$lt>)? $name $(<$lt>)? {
            pub(super) fn put_members(&self, before: &mut u8, out: &mut Vec<u8>) {
                $(self.$field.put_member(before, stringify!($field), out);)*
            }
        }

        impl<'a> Wire<'a> for $name $(<$lt>)? {
            const SHAPE: Shape = Shape::Record(&describe::Record {
                name: stringify!($name),
                words: concat!($($words),*),
                fields: &[$(describe::Field {
                    name: stringify!($field),
                    words: concat!($($field_words),*),
                    shape: <$type as Wire<'a>>::SHAPE,
                },)*],
            });
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(input: &mut Input<'a>) -> Result<Self, Malformed> {
                Ok($name { $($field: Wire::take(input)?,)* })
            }
            fn put_json(&self, out: &mut Vec<u8>) {
                let mut before = b'{';
                self.put_members(&mut before, out);
                json::put_end(before, out);
            }
            fn take_json(value: &'a Json<'a>) -> Result<Self, Malformed> {
                Ok($name { $($field: Wire::take_member(value, stringify!($field))?,)* })
            }
        }
    };
}

/// One byte with a closed set of meanings; in the twin its name.
macro_rules! choice {
    ($(#[doc = $words:literal])* $name:ident { $($number:literal $text:literal $option:ident,)* }) => {
        $(#[doc = $words])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name {
            $($option = $number,)*
        }

        impl $name {
            pub fn from_number(number: u8) -> Option<$name> {
                match number {
                    $($number => Some($name::$option),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $($name::$option => $text,)*
                }
            }
        }

        impl<'a> Wire<'a> for $name {
            const SHAPE: Shape = Shape::Choice(&describe::Choice {
                name: stringify!($name),
                options: &[$(($number, $text)),*],
            });
            fn put(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
            fn take(input: &mut Input<'a>) -> Result<Self, Malformed> {
                $name::from_number(input.byte()?).ok_or(Malformed::UnknownValue)
            }
            fn put_json(&self, out: &mut Vec<u8>) {
                json::put_text(self.name(), out);
            }
            fn take_json(value: &'a Json<'a>) -> Result<Self, Malformed> {
                match <&str>::take_json(value)? {
                    $($text => Ok($name::$option),)*
                    _ => Err(Malformed::UnknownValue),
                }
            }
        }
    };
}

/// One byte that says which fields follow, to the end of the frame; in the twin an object with a `kind`.
macro_rules! union {
    ($(#[doc = $words:literal])* $name:ident<$lt:lifetime> $(or $unknown:ident)? {
        $($number:literal $text:literal $(#[doc = $kind_words:literal])* $kind:ident {
            $($(#[doc = $field_words:literal])* $field:ident: $type:ty,)*
        })*
    }) => {
        $(#[doc = $words])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name<$lt> {
            $($(#[doc = $kind_words])* $kind { $($(#[doc = $field_words])* $field: $type,)* },)*
            $(
                /// A kind from a newer build, kept as it came.
                $unknown { kind: u8, bytes: Cow<$lt, [u8]> },
            )?
        }

        impl<$lt> $name<$lt> {
            /// The byte that says which kind this is.
            pub fn kind(&self) -> u8 {
                match self {
                    $($name::$kind { .. } => $number,)*
                    $($name::$unknown { kind, .. } => *kind,)?
                }
            }

            /// The fields of a kind, without the kind before them.
            pub fn put_fields(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$kind { $($field,)* } => { $($field.put(out);)* })*
                    $($name::$unknown { bytes, .. } => bytes.put(out),)?
                }
                let _ = out;
            }
        }

        impl<'a> Wire<'a> for $name<$lt> {
            const SHAPE: Shape = Shape::Union(&describe::Union {
                name: stringify!($name),
                words: concat!($($words),*),
                open: [$(stringify!($unknown),)? ""].len() > 1,
                kinds: &[$(describe::Kind {
                    number: $number,
                    name: $text,
                    words: concat!($($kind_words),*),
                    fields: &[$(describe::Field {
                        name: stringify!($field),
                        words: concat!($($field_words),*),
                        shape: <$type as Wire<'a>>::SHAPE,
                    },)*],
                },)*],
            });
            fn put(&self, out: &mut Vec<u8>) {
                out.push(self.kind());
                self.put_fields(out);
            }
            fn take(input: &mut Input<'a>) -> Result<Self, Malformed> {
                let body = match input.byte()? {
                    $($number => $name::$kind { $($field: Wire::take(input)?,)* },)*
                    $(kind => $name::$unknown { kind, bytes: Wire::take(input)? },)?
                    #[allow(unreachable_patterns, reason = "only a closed union comes here")]
                    _ => return Err(Malformed::UnknownValue),
                };
                // A kind is hashed and stored as it stands, so nothing may hide behind its last field.
                if input.is_empty() { Ok(body) } else { Err(Malformed::BytesLeftOver) }
            }
            fn put_json(&self, out: &mut Vec<u8>) {
                let mut before = b'{';
                json::put_key(&mut before, "kind", out);
                match self {
                    $($name::$kind { $($field,)* } => {
                        json::put_text($text, out);
                        $(json::put_key(&mut before, stringify!($field), out); $field.put_json(out);)*
                    })*
                    $($name::$unknown { kind, bytes } => {
                        kind.put_json(out);
                        json::put_key(&mut before, "bytes", out);
                        bytes.put_json(out);
                    })?
                }
                json::put_end(before, out);
            }
            fn take_json(value: &'a Json<'a>) -> Result<Self, Malformed> {
                match value.get("kind")? {
                    Json::Text(kind) => match &**kind {
                        $($text => Ok($name::$kind {
                            $($field: Wire::take_json(value.get(stringify!($field))?)?,)*
                        }),)*
                        _ => Err(Malformed::UnknownValue),
                    },
                    kind => match u8::take_json(kind)? {
                        $($number => Err(Malformed::UnknownValue),)*
                        $(kind => Ok($name::$unknown {
                            kind,
                            bytes: Wire::take_json(value.get("bytes")?)?,
                        }),)?
                        #[allow(unreachable_patterns, reason = "only a closed union comes here")]
                        _ => Err(Malformed::UnknownValue),
                    },
                }
            }
        }
    };
}

/// All frames of one direction: a record each, and the enum over them.
macro_rules! frames {
    ($(#[doc = $set_words:literal])* $set:ident in $room:ident {
        $($opcode:literal $op:literal $(#[doc = $words:literal])* $name:ident $(<$lt:lifetime>)? {
            $($(#[doc = $field_words:literal])* $field:ident: $type:ty,)*
        })*
    }) => {
        pub mod $room {
            use super::*;
            $(record! {
                $(#[doc = $words])*
                $name $(<$lt>)? { $($(#[doc = $field_words])* $field: $type,)* }
            })*
        }

        $(#[doc = $set_words])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $set<'a> {
            $($(#[doc = $words])* $name($room::$name $(<$lt>)?),)*
        }

        impl<'a> $set<'a> {
            /// Every frame of this direction, by opcode.
            pub const FRAMES: &'static [describe::Frame] = &[$(describe::Frame {
                opcode: $opcode,
                name: $op,
                body: <$room::$name as Wire<'a>>::SHAPE,
            },)*];

            pub fn opcode(&self) -> u8 {
                match self {
                    $($set::$name(_) => $opcode,)*
                }
            }

            /// The name of this frame in the twin, in documents and in counters.
            pub fn name(&self) -> &'static str {
                match self {
                    $($set::$name(_) => $op,)*
                }
            }
        }

        impl<'a> FrameSet<'a> for $set<'a> {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(self.opcode());
                match self {
                    $($set::$name(frame) => frame.put(out),)*
                }
            }
            fn take(opcode: u8, input: &mut Input<'a>) -> Result<Option<Self>, Malformed> {
                match opcode {
                    $($opcode => Wire::take(input).map($set::$name).map(Some),)*
                    0x80.. => Ok(None),
                    _ => Err(Malformed::UnknownOpcode),
                }
            }
            fn put_json(&self, out: &mut Vec<u8>) {
                let mut before = b'{';
                json::put_key(&mut before, "op", out);
                json::put_text(self.name(), out);
                match self {
                    $($set::$name(frame) => frame.put_members(&mut before, out),)*
                }
                json::put_end(before, out);
            }
            fn take_json(value: &'a Json<'a>) -> Result<Option<Self>, Malformed> {
                match <&str>::take_json(value.get("op")?)? {
                    $($op => Wire::take_json(value).map($set::$name).map(Some),)*
                    op if op.starts_with(json::SKIP_PREFIX) => Ok(None),
                    _ => Err(Malformed::UnknownOpcode),
                }
            }
        }

        $(impl<'a> From<$room::$name $(<$lt>)?> for $set<'a> {
            fn from(frame: $room::$name $(<$lt>)?) -> $set<'a> {
                $set::$name(frame)
            }
        })*
    };
}

impl DraftBody<'_> {
    /// Kind and fields, as they stand in a frame: how an outbox keeps a draft.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<DraftBody<'_>, Malformed> {
        DraftBody::take(&mut Input::new(bytes))
    }

    /// What is wrong with it whoever asks for it: the server refuses it, a client does not even queue it.
    pub fn flaw(&self) -> Option<RefusalCode> {
        match self {
            DraftBody::Text { text: "" } => Some(RefusalCode::TextEmpty),
            DraftBody::Text { text: caption } | DraftBody::File { caption, .. }
                if caption.len() > TEXT_BYTES_MAX =>
            {
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

impl EntryBody<'_> {
    /// The person that the entry is about, besides its author.
    pub fn about(&self) -> Option<PersonHandle> {
        match self {
            EntryBody::Opened { visitor: person, .. }
            | EntryBody::Assigned { agent: person, .. }
            | EntryBody::Joined { agent: person } => Some(*person),
            _ => None,
        }
    }
}

choice! {
    /// Which of a conversation's two sequences an entry belongs to.
    Lane {
        1 "public" Public,
        2 "staff" Staff,
    }
}

choice! {
    /// What a person is.
    PersonKind {
        1 "visitor" Visitor,
        2 "agent" Agent,
        3 "bot" Bot,
        4 "system" System,
    }
}

choice! {
    /// Whether a conversation goes on.
    ConversationState {
        1 "open" Open,
        2 "closed" Closed,
    }
}

record! {
    /// How far this device has got in a conversation, said again in HELLO because marks are never queued.
    OwnMark {
        conversation: Ref,
        /// the highest Seq of the public lane that the device holds
        delivered: u64,
        /// the highest Seq of the public lane that was on a screen
        read: u64,
    }
}

record! {
    /// How far a member has got in a conversation.
    MemberMark {
        person: PersonHandle,
        delivered: u64,
        read: u64,
    }
}

union! {
    /// What a draft asks for.
    DraftBody<'a> or Unknown {
        1 "text"
        /// A message of plain text.
        Text {
            /// 1 to 16,384 bytes
            text: &'a str,
        }
        2 "file"
        /// A message with a file that was uploaded before.
        File {
            /// the ticket that the upload returned
            upload: &'a str,
            /// the name of the file as the author knows it
            name: &'a str,
            /// may be empty
            caption: &'a str,
        }
        3 "close"
        /// Ends the conversation.
        Close {}
    }
}

union! {
    /// What an entry says happened.
    EntryBody<'a> or Unknown {
        1 "text"
        /// A message of plain text.
        Text {
            text: &'a str,
        }
        2 "file"
        /// A message with a file, fetched over HTTP by conversation, lane and Seq.
        File {
            name: &'a str,
            /// what the server found in the bytes, not what the author said
            mime: &'a str,
            size: u64,
            /// pixels, 0 = unknown
            width: u64,
            /// pixels, 0 = unknown
            height: u64,
            caption: &'a str,
        }
        3 "closed"
        /// The conversation was ended.
        Closed {}
        16 "opened"
        /// The conversation began.
        Opened {
            visitor: PersonHandle,
            /// address of the page that the visitor was on, "" = unknown
            page: &'a str,
        }
        17 "assigned"
        /// An agent has it now; staff lane.
        Assigned {
            /// 0 = nobody
            agent: PersonHandle,
            /// the rule that chose
            why: &'a str,
        }
        18 "joined"
        /// An agent came in; public lane.
        Joined {
            agent: PersonHandle,
        }
        19 "reopened"
        /// A closed conversation goes on.
        Reopened {}
    }
}

union! {
    /// The answer to a draft.
    Outcome<'a> {
        0 "accepted"
        /// It is durable and has its place.
        Accepted {
            conversation: ConversationHandle,
            lane: Lane,
            seq: u64,
            position: u64,
            time_ms: u64,
        }
        1 "refused"
        /// It will never be an entry under this counter, unless the code says to try again.
        Refused {
            code: RefusalCode,
            text: &'a str,
            retry_after_ms: u64,
        }
    }
}

frames! {
    /// What a client sends.
    Up in up {
        0x01 "hello"
        /// The first frame of a connection, once.
        Hello<'a> {
            /// 1
            version: u8,
            /// capability bits, none yet
            caps: u64,
            device: Id,
            /// rises with every connection of a device; lower ones are fenced
            generation: u64,
            /// of the history that the cursor belongs to, 0 = none
            epoch: Epoch,
            /// the Position of the last SYNCED, 0 = none; what heads alone told of is not held until it was paged
            cursor: u64,
            /// the highest counter that this device has allotted
            last_counter: u64,
            /// below this counter the device holds every answer
            settled: u64,
            /// "" = the connection is already who it is
            token: &'a str,
            marks: Vec<OwnMark>,
            /// address of the page that the visitor is on, without what stands behind its #
            page: Grown<'a>,
        }
        0x04 "ping"
        /// Answered by PONG at once.
        Ping {
            nonce: u64,
        }
        0x05 "pong"
        /// The answer to PING.
        Pong {
            nonce: u64,
        }
        0x07 "bye"
        /// The client goes; push may take over at once.
        Bye {
            /// 1 = into the background, 2 = closing
            reason: u64,
        }
        0x10 "draft"
        /// Asks for an entry; answered by SETTLED.
        Draft<'a> {
            /// of this device, from 1
            counter: u64,
            /// as in HELLO
            settled: u64,
            conversation: Ref,
            lane: Lane,
            body: DraftBody<'a>,
        }
        0x20 "typing"
        /// Latest wins, never kept.
        Typing {
            conversation: Ref,
            on: bool,
        }
        0x22 "mark"
        /// Latest wins; at most once a second and conversation.
        Mark {
            conversation: Ref,
            delivered: u64,
            read: u64,
        }
        0x30 "page"
        /// Asks for older entries; answered by ENTRY frames and PAGE_END.
        Page {
            /// returned in PAGE_END
            request: u64,
            conversation: Ref,
            lane: Lane,
            /// entries below this Seq, 0 = the newest
            before: u64,
            /// 1 to 100
            limit: u64,
        }
        0x33 "gap"
        /// Asks for a lane again, from the entry after `have` on.
        Gap {
            conversation: Ref,
            lane: Lane,
            have: u64,
        }
    }
}

frames! {
    /// What a server sends.
    Down in down {
        0x02 "hello_ok"
        /// The connection works.
        HelloOk {
            /// 1
            version: u8,
            /// capability bits, none yet
            caps: u64,
            epoch: Epoch,
            /// who the client is; its PERSON comes before this frame
            person: PersonHandle,
            /// the highest counter of this device that was answered
            counter: u64,
            /// the server is heard from at least this often
            heartbeat_ms: u64,
            text_max: u64,
            batch_max: u64,
            upload_max: u64,
            unsettled_max: u64,
            now_ms: u64,
            /// the Position where the durable history ended
            watermark: u64,
        }
        0x03 "refused"
        /// The connection closes after this.
        Refused<'a> {
            code: RefusalCode,
            text: &'a str,
            retry_after_ms: u64,
        }
        0x04 "ping"
        /// Answered by PONG at once.
        Ping {
            nonce: u64,
        }
        0x05 "pong"
        /// The answer to PING.
        Pong {
            nonce: u64,
        }
        0x06 "goaway"
        /// Connect again after the delay; this connection lives until then.
        GoAway {
            /// 1 = restart, 2 = upgrade, 3 = this connection has used its handles up
            reason: u64,
            delay_ms: u64,
        }
        0x08 "throttle"
        /// Send nothing for a while.
        Throttle {
            after_ms: u64,
        }
        0x11 "settled"
        /// The answer to one draft, once it is durable.
        Settled<'a> {
            counter: u64,
            outcome: Outcome<'a>,
        }
        0x12 "entry"
        /// A durable fact in its place.
        Entry<'a> {
            conversation: ConversationHandle,
            lane: Lane,
            seq: u64,
            position: u64,
            time_ms: u64,
            author: PersonHandle,
            body: EntryBody<'a>,
        }
        0x13 "conversation"
        /// Gives a conversation its handle, and says how it stands.
        Conversation<'a> {
            handle: ConversationHandle,
            id: Id,
            /// AppID
            site: &'a str,
            visitor: PersonHandle,
            /// 0 = nobody
            assignee: PersonHandle,
            state: ConversationState,
            /// the highest Seq of the public lane
            public_head: u64,
            /// the highest Seq of the staff lane; 0 for visitors
            staff_head: u64,
            /// when the newest entry of the public lane came
            public_time_ms: u64,
            marks: Vec<MemberMark>,
        }
        0x14 "person"
        /// Gives a person their handle.
        Person<'a> {
            handle: PersonHandle,
            id: Id,
            kind: PersonKind,
            name: &'a str,
            online: bool,
        }
        0x20 "typing"
        /// Somebody else types, or stopped.
        Typing {
            conversation: ConversationHandle,
            person: PersonHandle,
            on: bool,
        }
        0x21 "presence"
        /// Somebody came or went.
        Presence {
            person: PersonHandle,
            online: bool,
        }
        0x22 "mark"
        /// Somebody else received or read.
        Mark {
            conversation: ConversationHandle,
            person: PersonHandle,
            delivered: u64,
            read: u64,
        }
        0x31 "page_end"
        /// The page is complete; its ENTRY frames came before.
        PageEnd {
            request: u64,
            /// 0 = there is no such conversation
            conversation: ConversationHandle,
            lane: Lane,
            /// the lowest Seq that was sent, 0 = none
            first: u64,
            /// older entries exist
            more: bool,
        }
        0x32 "synced"
        /// Everything below the cursor was delivered; kept in one step with the entries.
        Synced {
            cursor: u64,
        }
        0x34 "resync"
        /// Too much was missed: CONVERSATION heads follow, history is paged.
        Resync {
            /// 1 = too far behind, 2 = another epoch
            reason: u64,
        }
    }
}
