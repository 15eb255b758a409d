//! Every bound of the language, in one place. What a peer can make us hold is never more than these.

/// A batch, the unit on every transport: one WebSocket message, one POST body.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Frames that one batch may carry upwards. Each may cost an answer, so their number is bounded too.
pub const BATCH_FRAMES_MAX: usize = 512;
/// A batch that goes down is sent off once it holds this much: the largest frame still fits behind.
pub const BATCH_BYTES_FULL: usize = BATCH_BYTES_MAX / 2;
/// A batch of the readable twin that goes down: a control character costs six bytes there.
pub const JSON_DOWN_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
/// Text of a message, and the caption of a file.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Any name: a person's, a file's.
pub const NAME_BYTES_MAX: usize = 255;
/// The token of HELLO, the ticket of an upload, the address of a page.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Delivered and read marks in one frame; also the members of a conversation.
pub const MARKS_MAX: usize = 256;
/// Drafts of one device that may wait for their answer.
pub const UNSETTLED_MAX: u64 = 64;
/// Entries that one PAGE may ask for.
pub const PAGE_ENTRIES_MAX: u64 = 100;
/// Drafts that a client keeps until they are answered, sent or not.
pub const OUTBOX_MAX: usize = 1024;
/// Pages that a client may wait for at once.
pub const PAGES_MAX: usize = 16;
/// Lanes whose last Seq a client remembers, to drop duplicates and notice gaps.
pub const LANES_MAX: usize = 65_536;
/// Conversations, and persons, that may have a handle on one connection.
pub const HANDLES_MAX: usize = 4096;
/// Objects and lists inside each other in the readable twin; our own frames need five.
pub const JSON_DEPTH_MAX: usize = 8;
/// Keys of one object in the readable twin, so that looking for duplicates stays cheap.
pub const JSON_KEYS_MAX: usize = 64;
/// The largest whole number that every JSON reader keeps exact, 2^53 - 1.
pub const JSON_NUMBER_MAX: u64 = (1 << 53) - 1;

const _: () = assert!(TEXT_BYTES_MAX + NAME_BYTES_MAX + TOKEN_BYTES_MAX < BATCH_BYTES_FULL);
const _: () = assert!(UNSETTLED_MAX as usize <= BATCH_FRAMES_MAX);
const _: () = assert!(6 * BATCH_BYTES_FULL < JSON_DOWN_BYTES_MAX);

/// The limits by name, for the files that are generated for other languages.
pub const TABLE: &[(&str, u64, &str)] = &[
    ("batch_bytes_max", BATCH_BYTES_MAX as u64, "bytes of one batch"),
    ("batch_frames_max", BATCH_FRAMES_MAX as u64, "frames of one batch that goes up"),
    ("json_down_bytes_max", JSON_DOWN_BYTES_MAX as u64, "bytes of a JSON batch that goes down"),
    ("text_bytes_max", TEXT_BYTES_MAX as u64, "UTF-8 bytes of a text or a caption"),
    ("name_bytes_max", NAME_BYTES_MAX as u64, "UTF-8 bytes of a name"),
    ("token_bytes_max", TOKEN_BYTES_MAX as u64, "bytes of a token, a ticket or a page's address"),
    ("marks_max", MARKS_MAX as u64, "marks in one frame"),
    ("unsettled_max", UNSETTLED_MAX, "drafts of a device that wait for their answer"),
    ("page_entries_max", PAGE_ENTRIES_MAX, "entries of one page"),
    (
        "handles_max",
        HANDLES_MAX as u64,
        "conversations, and persons, with a handle on a connection",
    ),
    ("json_depth_max", JSON_DEPTH_MAX as u64, "objects and lists inside each other in the twin"),
    ("json_keys_max", JSON_KEYS_MAX as u64, "keys of one object in the twin"),
];
