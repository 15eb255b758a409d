//! Numbers at fixed offsets of a byte table, little-endian. Reading never panics: bytes that are
//! not there are `None`, because what is read here may come from a damaged disk.

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// Writes a field into a table that this program lays out itself.
pub(crate) fn put<const N: usize>(table: &mut [u8], at: usize, field: [u8; N]) {
    table[at..at + N].copy_from_slice(&field);
}

/// CRC-32 (IEEE) that goes on from `seed`, which ties what is summed to where it stands.
pub(crate) fn crc_from(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}
