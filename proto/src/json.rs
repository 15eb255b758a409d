//! The readable twin: the same frames as a JSON array of objects, for people who write their own client.
//!
//! Invariants: strict types, no key twice, no number that a JSON reader would round, nesting and keys
//! bounded while reading. Keys that are not ours are ignored; ids and bytes are base64url without padding.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::frame::{Down, FrameSet, Up};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_FRAMES_MAX, JSON_DEPTH_MAX, JSON_DOWN_BYTES_MAX, JSON_KEYS_MAX,
};
use crate::wire::Malformed;

/// An op that begins with this may be skipped by whoever does not know it, like the opcodes from 0x80 on.
pub const SKIP_PREFIX: char = '+';

/// A JSON text that was read: everything that a frame can ask for, and nothing that it cannot.
#[derive(Debug, PartialEq)]
pub enum Json<'a> {
    Bool(bool),
    Number(u64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
    /// null, fractions, negative and huge numbers: legal in keys that are not ours, wrong in ours.
    Other,
}

/// Reads a batch that a client sent. The frames borrow from what is returned: see `up_frames`.
pub fn parse_up(batch: &[u8]) -> Result<Json<'_>, Malformed> {
    parse(batch, BATCH_BYTES_MAX, BATCH_FRAMES_MAX)
}

/// Reads a batch that a server sent.
pub fn parse_down(batch: &[u8]) -> Result<Json<'_>, Malformed> {
    parse(batch, JSON_DOWN_BYTES_MAX, usize::MAX)
}

/// The frames of a batch from a client, in order.
pub fn up_frames<'a>(batch: &'a Json<'a>) -> impl Iterator<Item = Result<Up<'a>, Malformed>> {
    frames(batch)
}

/// The frames of a batch from a server, in order.
pub fn down_frames<'a>(batch: &'a Json<'a>) -> impl Iterator<Item = Result<Down<'a>, Malformed>> {
    frames(batch)
}

/// Appends one frame as an object, without the brackets and commas of the batch around it.
pub fn encode<'a>(frame: &impl FrameSet<'a>, out: &mut Vec<u8>) {
    frame.put_json(out);
}

impl<'a> Json<'a> {
    pub(crate) fn get(&'a self, key: &str) -> Result<&'a Json<'a>, Malformed> {
        match self {
            Json::Object(members) => members
                .iter()
                .find_map(|(name, value)| (name == key).then_some(value))
                .ok_or(Malformed::MissingKey),
            _ => Err(Malformed::WrongType),
        }
    }
}

/// Writes what stands before a value in an object: a brace or a comma, and the key.
pub(crate) fn put_key(before: &mut u8, key: &str, out: &mut Vec<u8>) {
    out.push(*before);
    *before = b',';
    put_text(key, out);
    out.push(b':');
}

/// Closes the object that `put_key` has been writing.
pub(crate) fn put_end(before: u8, out: &mut Vec<u8>) {
    if before == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

pub(crate) fn put_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn parse(batch: &[u8], bytes_max: usize, frames_max: usize) -> Result<Json<'_>, Malformed> {
    if batch.len() > bytes_max {
        return Err(Malformed::BatchTooLarge);
    }
    let text = std::str::from_utf8(batch).map_err(|_| Malformed::NotUtf8)?;
    let mut broken = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Depth { left: JSON_DEPTH_MAX, broken: &mut broken }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Json::List(frames)) if frames.len() > frames_max => Err(Malformed::TooManyFrames),
        Ok(Json::List(frames)) => Ok(Json::List(frames)),
        Ok(_) => Err(Malformed::WrongType),
        Err(_) => Err(broken.unwrap_or(Malformed::NotJson)),
    }
}

fn frames<'a, F: FrameSet<'a> + 'a>(
    batch: &'a Json<'a>,
) -> impl Iterator<Item = Result<F, Malformed>> {
    let frames = match batch {
        Json::List(frames) => frames.as_slice(),
        _ => &[],
    };
    let mut broken = false;
    frames.iter().filter_map(|frame| F::take_json(frame).transpose()).take_while(move |frame| {
        let go_on = !broken;
        broken |= frame.is_err();
        go_on
    })
}

/// Reads one value that may hold `left` more levels. `broken` says which of our rules ended the reading,
/// which serde's error could only carry as text.
struct Depth<'b> {
    left: usize,
    broken: &'b mut Option<Malformed>,
}

impl Depth<'_> {
    fn deeper(&mut self) -> Result<Depth<'_>, Malformed> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Depth { left, broken: self.broken }),
            None => Err(*self.broken.insert(Malformed::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Depth<'_> {
    type Value = Json<'de>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth<'_> {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a batch of frames")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut elements = Vec::new();
        loop {
            let deeper = self.deeper().map_err(A::Error::custom)?;
            match list.next_element_seed(deeper)? {
                Some(element) => elements.push(element),
                None => return Ok(Json::List(elements)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Json<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some(key) = object.next_key_seed(Key)? {
            let rule = match members.len() {
                JSON_KEYS_MAX.. => Some(Malformed::TooManyKeys),
                _ if members.iter().any(|(name, _)| *name == key) => Some(Malformed::DuplicateKey),
                _ => None,
            };
            if let Some(rule) = rule {
                return Err(A::Error::custom(self.broken.insert(rule)));
            }
            let deeper = self.deeper().map_err(A::Error::custom)?;
            members.push((key, object.next_value_seed(deeper)?));
        }
        Ok(Json::Object(members))
    }
}

/// A key, borrowed where the text has no escapes in it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
