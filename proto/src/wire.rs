//! The smallest pieces of the language and how each is written, in bytes and in the readable twin.
//!
//! Invariants: reading allocates nothing that the input has not paid for; a length is believed only
//! after it was compared with what is left; one value has exactly one byte form.

use std::borrow::Cow;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use crate::describe::Shape;
use crate::json::{self, Json};
use crate::limits::{JSON_NUMBER_MAX, MARKS_MAX};
use crate::refusal::RefusalCode;

/// An id as it is shown outside: 16 bytes, in text 22 characters of base64url.
pub type Id = [u8; 16];

/// The identity of this history; 0 = none held yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch(pub u64);

/// Names a conversation on this connection; given by CONVERSATION, 2 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationHandle(pub u64);

/// Names a person on this connection; given by PERSON. 0 = nobody, or the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonHandle(pub u64);

impl PersonHandle {
    pub const SYSTEM: PersonHandle = PersonHandle(0);
}

/// How a client names a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ref {
    Id(Id),
    /// The visitor's current conversation; the first entry opens or reopens it.
    Mine,
    Handle(ConversationHandle),
}

impl ConversationHandle {
    /// 0 and 1 are taken by the other two ways of naming a conversation.
    pub const FIRST: u64 = 2;
}

/// Why a batch cannot be read. Names the rule that was broken, never what was in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    Truncated,
    VarintOverlong,
    VarintTooLarge,
    LengthBeyondEnd,
    EmptyFrame,
    UnknownOpcode,
    UnknownValue,
    BytesLeftOver,
    NotUtf8,
    TooManyElements,
    BatchTooLarge,
    TooManyFrames,
    NotJson,
    TooDeep,
    DuplicateKey,
    TooManyKeys,
    MissingKey,
    WrongType,
    NumberTooLarge,
    NotBase64,
}

impl Malformed {
    /// A name that stays, for vectors and logs.
    pub fn name(self) -> &'static str {
        match self {
            Malformed::Truncated => "truncated",
            Malformed::VarintOverlong => "varint-overlong",
            Malformed::VarintTooLarge => "varint-too-large",
            Malformed::LengthBeyondEnd => "length-beyond-end",
            Malformed::EmptyFrame => "empty-frame",
            Malformed::UnknownOpcode => "unknown-opcode",
            Malformed::UnknownValue => "unknown-value",
            Malformed::BytesLeftOver => "bytes-left-over",
            Malformed::NotUtf8 => "not-utf8",
            Malformed::TooManyElements => "too-many-elements",
            Malformed::BatchTooLarge => "batch-too-large",
            Malformed::TooManyFrames => "too-many-frames",
            Malformed::NotJson => "not-json",
            Malformed::TooDeep => "too-deep",
            Malformed::DuplicateKey => "duplicate-key",
            Malformed::TooManyKeys => "too-many-keys",
            Malformed::MissingKey => "missing-key",
            Malformed::WrongType => "wrong-type",
            Malformed::NumberTooLarge => "number-too-large",
            Malformed::NotBase64 => "not-base64",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl std::error::Error for Malformed {}

/// Bytes that are being read. Every step either takes what it asked for or says why not.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (&taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// LEB128 in its shortest form: a second spelling of one number would be a second frame for one hash.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(Malformed::VarintTooLarge);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(Malformed::VarintOverlong);
                }
                return Ok(value);
            }
        }
        Err(Malformed::VarintTooLarge)
    }

    /// A length and that many bytes.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let declared = self.varint()?;
        let length = usize::try_from(declared).map_err(|_| Malformed::LengthBeyondEnd)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::LengthBeyondEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn remainder(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One value of the language in its two spellings.
pub(crate) trait Wire<'a>: Sized {
    /// How documents and generated files speak of it.
    const SHAPE: Shape;
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut Input<'a>) -> Result<Self, Malformed>;
    fn put_json(&self, out: &mut Vec<u8>);
    fn take_json(value: &'a Json<'a>) -> Result<Self, Malformed>;

    /// Writes the key before it too, as a member of an object.
    fn put_member(&self, before: &mut u8, key: &str, out: &mut Vec<u8>) {
        json::put_key(before, key, out);
        self.put_json(out);
    }
    fn take_member(object: &'a Json<'a>, key: &str) -> Result<Self, Malformed> {
        Self::take_json(object.get(key)?)
    }
}

impl<'a> Wire<'a> for u64 {
    const SHAPE: Shape = Shape::Varint;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(*self, out);
    }
    fn take(input: &mut Input<'a>) -> Result<u64, Malformed> {
        input.varint()
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        json::put_number(*self, out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<u64, Malformed> {
        match value {
            Json::Number(number) if *number <= JSON_NUMBER_MAX => Ok(*number),
            Json::Number(_) => Err(Malformed::NumberTooLarge),
            _ => Err(Malformed::WrongType),
        }
    }
}

impl<'a> Wire<'a> for u8 {
    const SHAPE: Shape = Shape::Byte;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn take(input: &mut Input<'a>) -> Result<u8, Malformed> {
        input.byte()
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        json::put_number(u64::from(*self), out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<u8, Malformed> {
        u8::try_from(u64::take_json(value)?).map_err(|_| Malformed::NumberTooLarge)
    }
}

impl<'a> Wire<'a> for bool {
    const SHAPE: Shape = Shape::Bool;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Input<'a>) -> Result<bool, Malformed> {
        match input.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::UnknownValue),
        }
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
    fn take_json(value: &'a Json<'a>) -> Result<bool, Malformed> {
        match value {
            Json::Bool(truth) => Ok(*truth),
            _ => Err(Malformed::WrongType),
        }
    }
}

impl<'a> Wire<'a> for &'a str {
    const SHAPE: Shape = Shape::Text;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(input: &mut Input<'a>) -> Result<&'a str, Malformed> {
        std::str::from_utf8(input.counted()?).map_err(|_| Malformed::NotUtf8)
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        json::put_text(self, out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<&'a str, Malformed> {
        match value {
            Json::Text(text) => Ok(text),
            _ => Err(Malformed::WrongType),
        }
    }
}

/// A text that a frame grew at its end, and that older peers do not send. Empty and absent are the same,
/// and absent is how empty is written. Bytes in its place that are no text are passed over, as they were
/// before the field was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grown<'a>(pub &'a str);

impl<'a> Wire<'a> for Grown<'a> {
    const SHAPE: Shape = Shape::Grown;
    fn put(&self, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            self.0.put(out);
        }
    }
    fn take(input: &mut Input<'a>) -> Result<Grown<'a>, Malformed> {
        let mut ahead = input.clone();
        Ok(match <&str>::take(&mut ahead) {
            Ok(text) => {
                *input = ahead;
                Grown(text)
            }
            Err(_) => Grown::default(),
        })
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        self.0.put_json(out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<Grown<'a>, Malformed> {
        <&str>::take_json(value).map(Grown)
    }
    fn put_member(&self, before: &mut u8, key: &str, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            json::put_key(before, key, out);
            self.put_json(out);
        }
    }
    fn take_member(object: &'a Json<'a>, key: &str) -> Result<Grown<'a>, Malformed> {
        match object.get(key) {
            Err(Malformed::MissingKey) => Ok(Grown::default()),
            value => Grown::take_json(value?),
        }
    }
}

impl<'a, const N: usize> Wire<'a> for [u8; N] {
    const SHAPE: Shape = Shape::Bytes(N);
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(input: &mut Input<'a>) -> Result<[u8; N], Malformed> {
        input.array()
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        json::put_text(&BASE64URL_NOPAD.encode(self), out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<[u8; N], Malformed> {
        from_base64(<&str>::take_json(value)?)?.try_into().map_err(|_| Malformed::NotBase64)
    }
}

impl<'a> Wire<'a> for Epoch {
    const SHAPE: Shape = Shape::Bytes(8);
    fn put(&self, out: &mut Vec<u8>) {
        self.0.to_le_bytes().put(out);
    }
    fn take(input: &mut Input<'a>) -> Result<Epoch, Malformed> {
        input.array().map(u64::from_le_bytes).map(Epoch)
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        self.0.to_le_bytes().put_json(out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<Epoch, Malformed> {
        <[u8; 8]>::take_json(value).map(u64::from_le_bytes).map(Epoch)
    }
}

/// A number that has a name of its own: written as the number it is.
macro_rules! named_number {
    ($($name:ident $shape:ident)*) => {$(
        impl<'a> Wire<'a> for $name {
            const SHAPE: Shape = Shape::$shape;
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(input: &mut Input<'a>) -> Result<$name, Malformed> {
                u64::take(input).map($name)
            }
            fn put_json(&self, out: &mut Vec<u8>) {
                self.0.put_json(out);
            }
            fn take_json(value: &'a Json<'a>) -> Result<$name, Malformed> {
                u64::take_json(value).map($name)
            }
        }
    )*};
}
named_number! { ConversationHandle ConversationHandle  PersonHandle PersonHandle }

impl<'a> Wire<'a> for RefusalCode {
    const SHAPE: Shape = Shape::RefusalCode;
    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }
    fn take(input: &mut Input<'a>) -> Result<RefusalCode, Malformed> {
        u64::take(input).map(RefusalCode::from_number)
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        self.number().put_json(out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<RefusalCode, Malformed> {
        u64::take_json(value).map(RefusalCode::from_number)
    }
}

impl<'a> Wire<'a> for Ref {
    const SHAPE: Shape = Shape::Ref;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Ref::Id(id) => {
                out.push(0);
                id.put(out);
            }
            Ref::Mine => out.push(1),
            Ref::Handle(handle) => handle.put(out),
        }
    }
    fn take(input: &mut Input<'a>) -> Result<Ref, Malformed> {
        Ok(match input.varint()? {
            0 => Ref::Id(input.array()?),
            1 => Ref::Mine,
            handle => Ref::Handle(ConversationHandle(handle)),
        })
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        match self {
            Ref::Id(id) => id.put_json(out),
            Ref::Mine => json::put_text("mine", out),
            Ref::Handle(handle) => handle.put_json(out),
        }
    }
    fn take_json(value: &'a Json<'a>) -> Result<Ref, Malformed> {
        match value {
            Json::Text(text) if text == "mine" => Ok(Ref::Mine),
            Json::Text(_) => Id::take_json(value).map(Ref::Id),
            _ => match u64::take_json(value)? {
                number if number < ConversationHandle::FIRST => Err(Malformed::UnknownValue),
                handle => Ok(Ref::Handle(ConversationHandle(handle))),
            },
        }
    }
}

/// The body of a kind that this build does not know: kept as it came, to the end of its frame.
impl<'a> Wire<'a> for Cow<'a, [u8]> {
    const SHAPE: Shape = Shape::Remainder;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(input: &mut Input<'a>) -> Result<Cow<'a, [u8]>, Malformed> {
        Ok(Cow::Borrowed(input.remainder()))
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        json::put_text(&BASE64URL_NOPAD.encode(self), out);
    }
    fn take_json(value: &'a Json<'a>) -> Result<Cow<'a, [u8]>, Malformed> {
        from_base64(<&str>::take_json(value)?).map(Cow::Owned)
    }
}

/// A list says how many it holds, and may hold at most `MARKS_MAX`.
impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        self.iter().for_each(|element| element.put(out));
    }
    fn take(input: &mut Input<'a>) -> Result<Vec<T>, Malformed> {
        let count = input.varint()?;
        if count > MARKS_MAX as u64 {
            return Err(Malformed::TooManyElements);
        }
        (0..count).map(|_| T::take(input)).collect()
    }
    fn put_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, element) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            element.put_json(out);
        }
        out.push(b']');
    }
    fn take_json(value: &'a Json<'a>) -> Result<Vec<T>, Malformed> {
        match value {
            Json::List(elements) if elements.len() > MARKS_MAX => Err(Malformed::TooManyElements),
            Json::List(elements) => elements.iter().map(T::take_json).collect(),
            _ => Err(Malformed::WrongType),
        }
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>, Malformed> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Malformed::NotBase64)
}
