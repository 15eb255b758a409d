//! The bytes of a blob segment. Numbers are little-endian; every part begins at a block of 4 KiB.
//!
//! ```text
//! header, the first block         extent header, the content right behind     footer, the last block of a
//!  0   8  "LODGEBLB"               0   4  "BLOB"                              closed segment
//!  8   4  version, 1               4   4  suite, 0: in clear                   0   4  "DONE"
//! 12   4  number of the segment    8   8  offset of this header                4   4  zero
//! 16  16  salt                    16   8  length of the content                8   8  offset of this footer
//! 32   4  CRC32 of 0..32          24  32  address of the content              16   8  count of promised blobs
//! 36      zeros                   56   4  serial                              24  44  zeros
//!                                 60   4  serials below this are durable      68   4  CRC32 of salt and 0..68
//!                                 64   4  CRC32 of the content
//!                                 68   4  CRC32 of salt and 0..68
//! ```
//!
//! An extent has its header only when it is complete. Without one a block is free, abandoned, or
//! inside a blob: whoever scans looks at each block and steps over a blob when one begins there.
//! Nobody can upload content that looks like a header, since nobody outside knows the salt.
//!
//! Header and content reach the disk in any order. So content that does not match its header is
//! damage when a later header, or the footer, says that it was durable; otherwise it is an upload
//! that a power cut ended before it was answered.

use ring::{digest, hmac};

pub(super) const BLOCK_BYTES: u64 = 4096;
pub(super) const SEGMENT_HEADER_BYTES: usize = 36;
pub(super) const EXTENT_HEADER_BYTES: usize = 72;
pub(super) const FOOTER_BYTES: u64 = BLOCK_BYTES;
pub(super) const ADDRESS_BYTES: usize = 32;
pub(super) const SALT_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"LODGEBLB";
const VERSION: u32 = 1;
const EXTENT_MAGIC: &[u8; 4] = b"BLOB";
const FOOTER_MAGIC: &[u8; 4] = b"DONE";
const SUITE_CLEAR: u32 = 0;
const CRC_OFFSET: usize = EXTENT_HEADER_BYTES - 4;

pub(super) type Salt = [u8; SALT_BYTES];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) address: [u8; ADDRESS_BYTES],
    /// Counts the headers of a segment, from 0.
    pub(super) serial: u32,
    /// When this header was written, all of lower serials were durable.
    pub(super) durable: u32,
    pub(super) crc: u32,
}

impl Extent {
    /// Where the content begins.
    pub(super) fn content(&self) -> u64 {
        self.offset + EXTENT_HEADER_BYTES as u64
    }

    /// The first block behind it.
    pub(super) fn end(&self) -> u64 {
        self.offset + span(self.len)
    }

    pub(super) fn encode(&self, salt: &Salt) -> [u8; EXTENT_HEADER_BYTES] {
        let mut bytes = [0; EXTENT_HEADER_BYTES];
        bytes[..4].copy_from_slice(EXTENT_MAGIC);
        bytes[4..8].copy_from_slice(&SUITE_CLEAR.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.len.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.address);
        bytes[56..60].copy_from_slice(&self.serial.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.durable.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.crc.to_le_bytes());
        sealed(bytes, salt)
    }

    /// The extent whose header stands at `offset`, if one does and lies before `limit` as a whole.
    pub(super) fn decode(
        bytes: &[u8; EXTENT_HEADER_BYTES],
        salt: &Salt,
        offset: u64,
        limit: u64,
    ) -> Option<Extent> {
        let extent = Extent {
            offset: u64::from_le_bytes(field(bytes, 8)),
            len: u64::from_le_bytes(field(bytes, 16)),
            address: field(bytes, 24),
            serial: u32::from_le_bytes(field(bytes, 56)),
            durable: u32::from_le_bytes(field(bytes, 60)),
            crc: u32::from_le_bytes(field(bytes, 64)),
        };
        let whole = is_sealed(bytes, salt)
            && bytes.starts_with(EXTENT_MAGIC)
            && u32::from_le_bytes(field(bytes, 4)) == SUITE_CLEAR
            && extent.offset == offset
            && extent.len <= super::BLOB_BYTES_MAX
            && extent.content().checked_add(extent.len).is_some_and(|end| end <= limit);
        whole.then_some(extent)
    }
}

/// The bytes of whole blocks that a blob of `len` bytes takes; `len` is at most `BLOB_BYTES_MAX`.
pub(super) fn span(len: u64) -> u64 {
    (EXTENT_HEADER_BYTES as u64 + len).next_multiple_of(BLOCK_BYTES)
}

pub(super) fn encode_header(number: u32, salt: &Salt) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..32].copy_from_slice(salt);
    let crc = crc32fast::hash(&bytes[..32]);
    bytes[32..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The salt of segment `number`, or what is wrong with its header.
pub(super) fn decode_header(
    bytes: &[u8; SEGMENT_HEADER_BYTES],
    number: u32,
) -> Result<Salt, &'static str> {
    if crc32fast::hash(&bytes[..32]) != u32::from_le_bytes(field(bytes, 32)) {
        return Err("the header of the blob segment is damaged");
    }
    if !bytes.starts_with(MAGIC) {
        return Err("this is not a blob segment");
    }
    if u32::from_le_bytes(field(bytes, 8)) != VERSION {
        return Err("this build does not know the version of the blob segment");
    }
    if u32::from_le_bytes(field(bytes, 12)) != number {
        return Err("the blob segment bears the name of another");
    }
    Ok(field(bytes, 16))
}

/// What a closed segment says of itself, in a block of its own.
pub(super) fn encode_footer(blobs: u64, offset: u64, salt: &Salt) -> Vec<u8> {
    let mut bytes = [0; EXTENT_HEADER_BYTES];
    bytes[..4].copy_from_slice(FOOTER_MAGIC);
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&blobs.to_le_bytes());
    let mut block = sealed(bytes, salt).to_vec();
    block.resize(FOOTER_BYTES as usize, 0);
    block
}

/// The count of promised blobs in a segment whose footer stands at `offset`.
pub(super) fn decode_footer(
    bytes: &[u8; EXTENT_HEADER_BYTES],
    salt: &Salt,
    offset: u64,
) -> Option<u64> {
    let is_footer = is_sealed(bytes, salt)
        && bytes.starts_with(FOOTER_MAGIC)
        && u64::from_le_bytes(field(bytes, 8)) == offset;
    is_footer.then(|| u64::from_le_bytes(field(bytes, 16)))
}

pub(super) fn address(key: &hmac::Key, sha: digest::Context) -> [u8; ADDRESS_BYTES] {
    field(hmac::sign(key, sha.finish().as_ref()).as_ref(), 0)
}

/// `N` bytes at `offset`, which the caller knows to be there.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

fn sealed(mut bytes: [u8; EXTENT_HEADER_BYTES], salt: &Salt) -> [u8; EXTENT_HEADER_BYTES] {
    let crc = salted(&bytes, salt);
    bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn is_sealed(bytes: &[u8; EXTENT_HEADER_BYTES], salt: &Salt) -> bool {
    salted(bytes, salt) == u32::from_le_bytes(field(bytes, CRC_OFFSET))
}

fn salted(bytes: &[u8; EXTENT_HEADER_BYTES], salt: &Salt) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(salt);
    crc.update(&bytes[..CRC_OFFSET]);
    crc.finalize()
}
