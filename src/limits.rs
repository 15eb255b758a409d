//! Every limit of the server, in one place. `lodge-proto` states those of the wire, `lodge-storage`
//! those of the disk; what stands in two of them is proved equal below.

/// Bytes of UTF-8 in one message.
pub const TEXT_BYTES_MAX: usize = lodge_proto::limits::TEXT_BYTES_MAX;
/// Bytes of one uploaded file.
pub const UPLOAD_BYTES_MAX: u64 = 25 * 1024 * 1024;
/// Persons in one conversation.
pub const MEMBERS_MAX: usize = 256;
/// Open conversations of the whole installation; more are told to come back.
pub const OPEN_CONVERSATIONS_MAX: usize = 100_000;
pub const SITES_MAX: usize = 1_000;
pub const AGENTS_MAX: usize = 10_000;
/// Drafts and questions that wait for the desk thread; senders wait for a place.
pub const DESK_QUEUE_MAX: usize = 4_096;
/// Answers that wait for one connection: each belongs to an unsettled draft of its device.
pub const ANSWERS_WAITING_MAX: usize = 2 * lodge_proto::limits::UNSETTLED_MAX as usize;
/// Signals (typing, presence, marks) that wait for one connection; the oldest fall out.
pub const SIGNALS_WAITING_MAX: usize = 64;
/// Connections of one person, all devices and tabs together.
pub const CONNECTIONS_PERSON_MAX: usize = 32;
/// Entries that one catch-up sends; beyond it the client is told to page.
pub const CATCH_UP_ENTRIES_MAX: usize = 2_000;
/// Conversations whose heads a connection is told at the start, newest first.
pub const HEADS_MAX: usize = 500;
/// The server is heard from at least this often on an open connection.
pub const HEARTBEAT_MS: u64 = 25_000;
/// Characters of a message shown in a list.
pub const PREVIEW_CHARS_MAX: usize = 120;
/// Rows of one list answer.
pub const LIST_ROWS_MAX: usize = 100;
