//! The frame of one record.

pub(crate) const HEADER_BYTES: usize = 36;
