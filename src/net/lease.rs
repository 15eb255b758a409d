//! The ticket of an upload: says whose bytes lie where, signed, so that nothing has to be remembered.
//!
//! | bytes | what |
//! |------:|------|
//! | 1 | version, 1 |
//! | 1 | holder: 1 a visitor's device, 2 an agent |
//! | 16 | the device, or the agent's number (little-endian, then zeros) |
//! | 8 | end, milliseconds since 1970, little-endian |
//! | 52 | `BlobRef` |
//! | 4 + 4 | width and height, 0 = unknown |
//! | n | MIME type |
//! | 32 | HMAC-SHA256 of all before |
//!
//! Invariants: a ticket is good for its holder alone and until its end; it never holds a name that a person
//! gave, and never opens a download.

use data_encoding::BASE64URL_NOPAD;
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{BLOB_REF_BYTES, BlobRef};
use ring::hmac;

use crate::desk::entry::File;

pub const KEY_BYTES: usize = 32;
/// An upload that no Entry has named by then is forgotten: longer than any outbox waits for a network.
pub const LEASE_MS: u64 = 24 * 60 * 60 * 1000;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;

/// Whose upload it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    Device([u8; 16]),
    Agent(u64),
}

/// An upload that is durable and waits for the draft that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub blob: BlobRef,
    pub mime: String,
    /// Pixels, 0 = unknown.
    pub width: u32,
    /// Pixels, 0 = unknown.
    pub height: u32,
}

/// Signs and reads tickets.
#[derive(Debug)]
pub struct Leases {
    key: hmac::Key,
}

impl Leases {
    pub fn new(key: &[u8; KEY_BYTES]) -> Leases {
        Leases { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    pub fn sign(&self, upload: &Upload, holder: Holder, now_ms: u64) -> String {
        let mut ticket = vec![VERSION];
        ticket.extend(holder.bytes());
        ticket.extend(now_ms.saturating_add(LEASE_MS).to_le_bytes());
        ticket.extend(upload.blob.to_bytes());
        ticket.extend(upload.width.to_le_bytes());
        ticket.extend(upload.height.to_le_bytes());
        ticket.extend(upload.mime.as_bytes());
        let mac = hmac::sign(&self.key, &ticket);
        ticket.extend_from_slice(mac.as_ref());
        BASE64URL_NOPAD.encode(&ticket)
    }

    /// The file of a ticket, without name and caption: those come with the draft.
    pub fn open(&self, ticket: &str, holder: Holder, now_ms: u64) -> Result<File, Refusal> {
        let unknown = Refusal::new(RefusalCode::UploadUnknown);
        let (upload, signed, ends_ms) = self.read(ticket).ok_or(unknown.clone())?;
        if signed != holder.bytes() || now_ms >= ends_ms {
            return Err(unknown);
        }
        Ok(File {
            name: String::new(),
            mime: upload.mime,
            caption: String::new(),
            width: upload.width,
            height: upload.height,
            blob: upload.blob.to_bytes().to_vec(),
            size: upload.blob.len,
        })
    }

    fn read(&self, ticket: &str) -> Option<(Upload, [u8; 17], u64)> {
        let bytes = BASE64URL_NOPAD.decode(ticket.as_bytes()).ok()?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        hmac::verify(&self.key, signed, mac).ok()?;
        let ([VERSION], rest) = signed.split_first_chunk()? else { return None };
        let (holder, rest) = rest.split_first_chunk::<17>()?;
        let (ends_ms, rest) = rest.split_first_chunk()?;
        let (blob, rest) = rest.split_first_chunk::<BLOB_REF_BYTES>()?;
        let (width, rest) = rest.split_first_chunk()?;
        let (height, rest) = rest.split_first_chunk()?;
        let upload = Upload {
            blob: BlobRef::from_bytes(blob),
            mime: String::from_utf8(rest.to_vec()).ok()?,
            width: u32::from_le_bytes(*width),
            height: u32::from_le_bytes(*height),
        };
        Some((upload, *holder, u64::from_le_bytes(*ends_ms)))
    }
}

impl Holder {
    fn bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        let [tag, id @ ..] = &mut bytes;
        match self {
            Holder::Device(device) => {
                *tag = 1;
                *id = device;
            }
            Holder::Agent(number) => {
                *tag = 2;
                let (low, _) = id.split_at_mut(8);
                low.copy_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: Holder = Holder::Device([7; 16]);

    fn upload() -> Upload {
        let blob = BlobRef { segment: 3, offset: 4096, len: 100_000, address: [9; 32] };
        Upload { blob, mime: "image/png".into(), width: 640, height: 480 }
    }

    fn check(ticket: &str, holder: Holder, now_ms: u64) -> bool {
        Leases::new(&[1; KEY_BYTES]).open(ticket, holder, now_ms).is_ok()
    }

    #[test]
    fn a_ticket_is_good_for_its_holder_until_its_end() {
        let ticket = Leases::new(&[1; KEY_BYTES]).sign(&upload(), HOLDER, 1000);
        assert!(ticket.len() <= lodge_proto::limits::TOKEN_BYTES_MAX);
        let file = Leases::new(&[1; KEY_BYTES]).open(&ticket, HOLDER, 1000).unwrap();
        assert_eq!(file.blob, upload().blob.to_bytes());
        assert_eq!((file.size, file.width, file.height), (100_000, 640, 480));
        assert_eq!((file.mime.as_str(), file.name.as_str()), ("image/png", ""));
        assert!(check(&ticket, HOLDER, 1000 + LEASE_MS - 1));
        assert!(!check(&ticket, HOLDER, 1000 + LEASE_MS));
        assert!(!check(&ticket, Holder::Device([8; 16]), 1000));
        // A device that looks like an agent's number is no agent.
        let mut device = [0; 16];
        device[0] = 5;
        let ticket = Leases::new(&[1; KEY_BYTES]).sign(&upload(), Holder::Device(device), 0);
        assert!(!check(&ticket, Holder::Agent(5), 0));
        assert!(Leases::new(&[2; KEY_BYTES]).open(&ticket, Holder::Device(device), 0).is_err());
    }

    #[test]
    fn a_ticket_that_was_touched_is_none() {
        let ticket = Leases::new(&[1; KEY_BYTES]).sign(&upload(), HOLDER, 0);
        for cut in 0..ticket.len() {
            assert!(!check(&ticket[..cut], HOLDER, 0), "cut at {cut}");
        }
        let bytes = BASE64URL_NOPAD.decode(ticket.as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!check(&BASE64URL_NOPAD.encode(&bytes), HOLDER, 0), "bit {bit}");
        }
        for other in ["", "=", "漢", &(ticket.clone() + "A"), &(ticket + "=")] {
            assert!(!check(other, HOLDER, 0), "{other:?}");
        }
    }
}
