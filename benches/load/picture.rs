//! Images that nobody else sends: a PNG's outline filled with bytes that follow from a number.

/// What a phone's photo weighs after it was made smaller for a chat.
pub const BYTES: usize = 100 * 1024;

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

pub fn of(number: u64) -> Vec<u8> {
    let mut picture = Vec::with_capacity(BYTES);
    picture.extend_from_slice(b"\x89PNG\r\n\x1a\n");
    chunk(&mut picture, b"IHDR", 13, |bytes| {
        bytes.extend_from_slice(&WIDTH.to_be_bytes());
        bytes.extend_from_slice(&HEIGHT.to_be_bytes());
        bytes.extend_from_slice(&[8, 2, 0, 0, 0]);
    });
    // What stays for pixels once the frames of this chunk and of the last one are taken off.
    let pixels = BYTES - picture.len() - 12 - 12;
    chunk(&mut picture, b"IDAT", pixels, |bytes| {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let end = bytes.len() + pixels;
        while bytes.len() < end {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let take = (end - bytes.len()).min(8);
            bytes.extend_from_slice(&state.to_le_bytes()[..take]);
        }
    });
    chunk(&mut picture, b"IEND", 0, |_| {});
    picture
}

fn chunk(picture: &mut Vec<u8>, name: &[u8; 4], length: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    picture.extend_from_slice(&(length as u32).to_be_bytes());
    picture.extend_from_slice(name);
    fill(picture);
    // Nobody decodes it, so nobody asks for its checksum.
    picture.extend_from_slice(&[0; 4]);
}
