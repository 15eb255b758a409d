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
/// Marks that moved and are not written down yet; of more than these a crash keeps the older ones.
pub const MARKS_UNWRITTEN_MAX: usize = 16_384;
/// Marks in one record.
pub const MARKS_RECORD_MAX: usize = 1_024;
/// Connections of one person, all devices and tabs together.
pub const CONNECTIONS_PERSON_MAX: usize = 32;
/// Conversations that one connection of an agent looks into without a part in them; the oldest fall out.
pub const WATCHED_MAX: usize = 8;
/// Devices of one person whose drafts are told apart from their retries.
pub const DEVICES_PERSON_MAX: usize = 16;
/// Devices that are remembered though they wrote nothing.
pub const STRANGERS_MAX: usize = 16_384;
/// Bytes of the address of a visitor's page.
pub const PAGE_BYTES_MAX: usize = lodge_proto::limits::TOKEN_BYTES_MAX;
/// Entries that one catch-up sends; beyond it the client is told to page.
pub const CATCH_UP_ENTRIES_MAX: usize = 2_000;
/// Conversations whose heads a connection is told at the start, newest first.
pub const HEADS_MAX: usize = 500;
/// Who comes back within this time was never away.
pub const ABSENCE_MS: u64 = 3_000;
/// The server is heard from at least this often on an open connection.
pub const HEARTBEAT_MS: u64 = 25_000;
/// Characters of a message shown in a list.
pub const PREVIEW_CHARS_MAX: usize = 120;
/// Rows of one list answer.
pub const LIST_ROWS_MAX: usize = 100;

// -- who is who

/// Bytes of UTF-8 in any name.
pub const NAME_BYTES_MAX: usize = lodge_proto::limits::NAME_BYTES_MAX;
/// Bytes of a login.
pub const LOGIN_BYTES_MAX: usize = 64;
/// Bytes of a password; what is longer is refused before it is hashed.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Sign-ins that wait for a hash; the next one is told to come back.
pub const HASHES_WAITING_MAX: usize = 32;
/// Failed sign-ins in a row that cost nothing.
pub const FREE_FAILURES_MAX: u32 = 5;
/// The longest wait after many.
pub const LOCKOUT_MS_MAX: u64 = 15 * 60 * 1_000;
/// Logins whose failures are remembered.
pub const LOGINS_REMEMBERED_MAX: usize = 16_384;
/// Addresses and acts whose pace is remembered.
pub const PACES_MAX: usize = 65_536;
/// Without a sign of life for this long an agent's session is over.
pub const SESSION_IDLE_MS_MAX: u64 = 12 * 60 * 60 * 1_000;
/// However busy, an agent's session is over after this long.
pub const SESSION_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Sessions of one agent; a further one ends the one that was seen least recently.
pub const SESSIONS_AGENT_MAX: usize = 8;
/// Characters of a visitor's token: 75 bytes around the longest name.
pub const VISITOR_TOKEN_CHARS_MAX: usize = (75 + NAME_BYTES_MAX).div_ceil(3) * 4;
/// Characters of an identity token.
pub const IDENTITY_CHARS_MAX: usize = lodge_proto::limits::TOKEN_BYTES_MAX;
/// Seconds from `iat` to `exp` of an identity token.
pub const IDENTITY_LIFE_S_MAX: u64 = 3_600;
/// Bytes of what a site calls its visitor.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Bytes of an e-mail address.
pub const EMAIL_BYTES_MAX: usize = 254;
/// Attributes in an identity token.
pub const ATTRIBUTES_MAX: usize = 32;
/// Bytes of one attribute's name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// Bytes of one attribute's value.
pub const ATTRIBUTE_BYTES_MAX: usize = 255;
/// Characters of a stranger's text that a refusal repeats.
pub const QUOTED_CHARS_MAX: usize = 200;
/// Secrets of one sort that a site may have at a time: the new one, the old one, and some that were forgotten.
pub const SITE_KEYS_MAX: usize = 5;
/// Origins of one site.
pub const ORIGINS_MAX: usize = 50;
/// Characters of one origin.
pub const ORIGIN_CHARS_MAX: usize = 280;

// -- the JSON API

/// Bytes of JSON in one request.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Characters of the name of a person or a site.
pub const NAME_CHARS_MAX: usize = 100;
/// Characters of one of a site's own texts.
pub const WORDING_CHARS_MAX: usize = 300;

const _: () = assert!(VISITOR_TOKEN_CHARS_MAX <= lodge_proto::limits::TOKEN_BYTES_MAX);
/// Bytes of a command over the control socket.
pub const CONTROL_REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// Bytes of the configuration file.
pub const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// Starts in a row that may fail for the disk's sake before the next one only reads.
pub const FAILED_STARTS_MAX: u32 = 5;
/// Bytes that are kept of why the last one failed.
pub const FAILED_START_BYTES_MAX: usize = 4 * 1024;
