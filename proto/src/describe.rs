//! The language as a description of itself, made by the same macro that makes the codec, so that
//! documents and the types of other languages cannot say anything else than the code does.

/// How one value is written; see the table "Values" in the README.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Byte,
    Bool,
    Varint,
    Text,
    /// A text at the end of a frame that may be absent: the frame grew it.
    Grown,
    Bytes(usize),
    Ref,
    ConversationHandle,
    PersonHandle,
    RefusalCode,
    /// Bytes to the end of the frame.
    Remainder,
    List(&'static Shape),
    Record(&'static Record),
    Choice(&'static Choice),
    Union(&'static Union),
}

/// Fields one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub name: &'static str,
    pub words: &'static str,
    pub fields: &'static [Field],
}

#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub words: &'static str,
    pub shape: Shape,
}

/// One byte with a closed set of meanings.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    pub name: &'static str,
    pub options: &'static [(u8, &'static str)],
}

/// One byte that says which fields follow; in the twin the key `kind`.
#[derive(Debug, Clone, Copy)]
pub struct Union {
    pub name: &'static str,
    pub words: &'static str,
    /// Kinds that this build does not know are kept as they came.
    pub open: bool,
    pub kinds: &'static [Kind],
}

#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub number: u8,
    pub name: &'static str,
    pub words: &'static str,
    pub fields: &'static [Field],
}

#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub opcode: u8,
    pub name: &'static str,
    pub body: Shape,
}
