//! Agents' sessions: kept by the server, so that they can be ended, and on disk, so that a restart ends none.
//!
//! The cookie is 32 random bytes; only its SHA-256 is kept. Beginning and ending a session is durable before it is
//! answered. When it was last seen is exact in memory and written down now and then, so after a power cut a session
//! may end earlier by `SEEN_STEP_MS`, never later. Where nothing may be written, or nothing can because the disk is
//! full, people come in all the same, to read, and their sessions begin in memory. Those are written down, and what
//! ended meanwhile is taken away, as soon as there is room.
//!
//! ```text
//! session/HASH   (64 hexadecimal digits)
//! offset  size   (numbers are little-endian)
//!      0     8   agent     8  8  begun, milliseconds since 1970     16  8  last seen
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{Error, Secrets};
use ring::digest;

use super::not_kept;
use crate::limits::{SESSION_IDLE_MS_MAX, SESSION_MS_MAX, SESSIONS_AGENT_MAX};

/// How stale "last seen" may be on disk.
pub const SEEN_STEP_MS: u64 = 10 * 60 * 1_000;

/// Bytes of one session in SECRETS, with its name.
const ROW_BYTES: usize = SHELF.len() + 64 + 24 + 6;
const SHELF: &str = "session/";

const _: () = assert!(
    crate::limits::AGENTS_MAX * SESSIONS_AGENT_MAX * ROW_BYTES
        < lodge_storage::SECRETS_FILE_BYTES_MAX * 3 / 4
);

/// What is kept of a cookie.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 32]);

impl SessionId {
    fn of(cookie: &str) -> Option<SessionId> {
        let token: [u8; 32] = BASE64URL_NOPAD.decode(cookie.as_bytes()).ok()?.try_into().ok()?;
        Some(SessionId::of_token(&token))
    }

    fn of_token(token: &[u8; 32]) -> SessionId {
        let hash = digest::digest(&digest::SHA256, token);
        let mut id = [0; 32];
        id.copy_from_slice(hash.as_ref());
        SessionId(id)
    }

    fn name(&self) -> String {
        format!("{SHELF}{}", HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Session {
    agent: u64,
    begun_ms: u64,
    seen_ms: u64,
    /// What stands on disk.
    written_ms: u64,
}

impl Session {
    fn encode(&self) -> Vec<u8> {
        [self.agent, self.begun_ms, self.seen_ms].map(u64::to_le_bytes).concat()
    }

    fn decode(bytes: &[u8]) -> Option<Session> {
        let (words, &[]) = bytes.as_chunks::<8>() else { return None };
        let &[agent, begun, seen] = words else { return None };
        let seen_ms = u64::from_le_bytes(seen);
        Some(Session {
            agent: u64::from_le_bytes(agent),
            begun_ms: u64::from_le_bytes(begun),
            seen_ms,
            written_ms: seen_ms,
        })
    }

    fn over(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.seen_ms) >= SESSION_IDLE_MS_MAX
            || now_ms.saturating_sub(self.begun_ms) >= SESSION_MS_MAX
    }
}

#[derive(Debug)]
pub struct Sessions {
    secrets: Secrets,
    open: Mutex<HashMap<SessionId, Session>>,
    /// Held over a look at `open` and the write that follows from it, so that none brings a session back that another
    /// took away.
    writing: Mutex<()>,
}

impl Sessions {
    /// Takes up the sessions that stand in SECRETS.
    pub fn open(secrets: Secrets) -> Sessions {
        let read = |name: String| {
            let hash = HEXLOWER.decode(name.strip_prefix(SHELF)?.as_bytes()).ok()?;
            let session = Session::decode(&secrets.get(&name)?)?;
            Some((SessionId(hash.try_into().ok()?), session))
        };
        let open = secrets.names(SHELF).into_iter().filter_map(read).collect();
        Sessions { open: Mutex::new(open), writing: Mutex::new(()), secrets }
    }

    /// Begins a session and gives its cookie. Waits for the disk, and does without one that is full.
    pub fn begin(&self, agent: u64, token: [u8; 32], now_ms: u64) -> Result<String, Refusal> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let id = SessionId::of_token(&token);
        let session = Session { agent, begun_ms: now_ms, seen_ms: now_ms, written_ms: now_ms };
        let gone = self.beyond_bound(agent, now_ms);
        let (name, value) = (id.name(), session.encode());
        let names: Vec<String> = gone.iter().map(SessionId::name).collect();
        let mut changes: Vec<(&str, Option<&[u8]>)> =
            names.iter().map(|name| (name.as_str(), None)).collect();
        changes.push((&name, Some(&value)));
        let written_ms = match self.keep(&changes) {
            Ok(()) => now_ms,
            // Stale from the start, so it is written down when there is room.
            Err(Error::Full) => 0,
            Err(error) => return Err(not_kept(error)),
        };
        let mut open = self.lock();
        for id in gone {
            open.remove(&id);
        }
        open.insert(id, Session { agent, begun_ms: now_ms, seen_ms: now_ms, written_ms });
        Ok(BASE64URL_NOPAD.encode(&token))
    }

    /// Whose session this cookie is; it counts as a sign of life.
    pub fn find(&self, cookie: &str, now_ms: u64) -> Result<(SessionId, u64), Refusal> {
        let id = SessionId::of(cookie).ok_or(Refusal::new(RefusalCode::SessionEnded))?;
        self.seen(id, now_ms)?;
        let agent = self.lock().get(&id).map(|session| session.agent);
        Ok((id, agent.ok_or(Refusal::new(RefusalCode::SessionEnded))?))
    }

    /// A sign of life.
    pub fn seen(&self, id: SessionId, now_ms: u64) -> Result<(), Refusal> {
        match self.lock().get_mut(&id) {
            Some(session) if !session.over(now_ms) => {
                session.seen_ms = session.seen_ms.max(now_ms);
                Ok(())
            }
            _ => Err(Refusal::new(RefusalCode::SessionEnded)),
        }
    }

    /// Whether it goes on, without being a sign of life.
    pub fn still(&self, id: SessionId, now_ms: u64) -> Result<(), Refusal> {
        match self.lock().get(&id) {
            Some(session) if !session.over(now_ms) => Ok(()),
            _ => Err(Refusal::new(RefusalCode::SessionEnded)),
        }
    }

    /// Ends one session. Waits for the disk.
    pub fn end(&self, id: SessionId) -> Result<(), Refusal> {
        self.remove(&[id])
    }

    /// Ends all sessions of an agent but one. Waits for the disk.
    pub fn end_of(&self, agent: u64, keep: Option<SessionId>) -> Result<(), Refusal> {
        let ids = self.filter(|id, session| session.agent == agent && Some(*id) != keep);
        self.remove(&ids)
    }

    /// Writes down who was seen lately and takes away what is over. Waits for the disk, and only if there is need.
    pub fn write_down(&self, now_ms: u64) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.filter(|_, session| session.over(now_ms));
        let stale: Vec<(SessionId, Session)> = self
            .lock()
            .iter()
            .filter(|(_, it)| !it.over(now_ms) && it.seen_ms - it.written_ms >= SEEN_STEP_MS)
            .map(|(id, it)| (*id, *it))
            .collect();
        let rows = over.iter().map(SessionId::name).chain(self.left_over());
        let rows = rows.map(|name| (name, None));
        let rows: Vec<(String, Option<Vec<u8>>)> =
            rows.chain(stale.iter().map(|(id, it)| (id.name(), Some(it.encode())))).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let changes: Vec<(&str, Option<&[u8]>)> =
            rows.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        self.keep(&changes)?;
        let mut open = self.lock();
        for id in over {
            open.remove(&id);
        }
        for (id, written) in stale {
            if let Some(session) = open.get_mut(&id) {
                session.written_ms = written.seen_ms;
            }
        }
        Ok(())
    }

    /// The rows of sessions that ended while the disk was full.
    fn left_over(&self) -> Vec<String> {
        let rows = self.secrets.names(SHELF);
        let open: HashSet<String> = self.lock().keys().map(SessionId::name).collect();
        rows.into_iter().filter(|name| !open.contains(name)).collect()
    }

    /// Those of this agent that have to go so that there is room for one more.
    fn beyond_bound(&self, agent: u64, now_ms: u64) -> Vec<SessionId> {
        let open = self.lock();
        let mut of_agent: Vec<(bool, u64, SessionId)> = open
            .iter()
            .filter(|(_, it)| it.agent == agent)
            .map(|(id, it)| (!it.over(now_ms), it.seen_ms, *id))
            .collect();
        of_agent.sort_unstable_by_key(|(alive, seen_ms, _)| (*alive, *seen_ms));
        let spare = (of_agent.len() + 1).saturating_sub(SESSIONS_AGENT_MAX);
        of_agent.into_iter().take(spare).map(|(_, _, id)| id).collect()
    }

    fn remove(&self, ids: &[SessionId]) -> Result<(), Refusal> {
        if ids.is_empty() {
            return Ok(());
        }
        // In memory first: whatever the disk says, this cookie opens nothing any more.
        let mut open = self.lock();
        for id in ids {
            open.remove(id);
        }
        drop(open);
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = ids.iter().map(SessionId::name).collect();
        let changes: Vec<(&str, Option<&[u8]>)> =
            names.iter().map(|name| (name.as_str(), None)).collect();
        self.keep(&changes).map_err(not_kept)
    }

    fn keep(&self, changes: &[(&str, Option<&[u8]>)]) -> Result<(), Error> {
        if self.secrets.refusal().is_some() {
            return Ok(());
        }
        self.secrets.put_all(changes)
    }

    fn filter(&self, which: impl Fn(&SessionId, &Session) -> bool) -> Vec<SessionId> {
        self.lock().iter().filter(|(id, it)| which(id, it)).map(|(id, _)| *id).collect()
    }

    /// Nothing under this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use lodge_storage::disk::{Disk, RealDisk, SimDisk};

    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    fn secrets(dir: &tempfile::TempDir) -> Secrets {
        Secrets::open(Arc::new(RealDisk), dir.path(), false).unwrap()
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalCode {
        result.unwrap_err().code
    }

    #[test]
    fn where_nothing_may_be_written_people_come_in_and_leave_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Sessions::open(secrets(&dir)).begin(7, [1; 32], NOW).unwrap();
        let read_only = secrets(&dir);
        read_only.refuse(Error::read_only("it is damaged"));
        let sessions = Sessions::open(read_only.clone());
        let cookie = sessions.begin(7, [2; 32], NOW).unwrap();
        let (id, agent) = sessions.find(&cookie, NOW + 1).unwrap();
        assert_eq!(agent, 7);
        assert!(sessions.find(&kept, NOW + 1).is_ok());
        sessions.write_down(NOW + SEEN_STEP_MS + 1).unwrap();
        sessions.end(id).unwrap();
        assert!(sessions.find(&cookie, NOW + 2).is_err());
        assert!(matches!(read_only.put("a", b"b"), Err(Error::ReadOnly { .. })));
        assert_eq!(secrets(&dir).names(SHELF).len(), 1);
    }

    #[test]
    fn a_session_that_ended_while_the_disk_was_full_does_not_come_back() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/data");
        disk.create_dir(dir).unwrap();
        let open = || Secrets::open(Arc::new(disk.clone()), dir, false).unwrap();
        let sessions = Sessions::open(open());
        let cookie = sessions.begin(7, [1; 32], NOW).unwrap();
        let (id, _) = sessions.find(&cookie, NOW).unwrap();
        disk.set_capacity_bytes(disk.used_bytes());
        assert_eq!(code(sessions.end(id)), RefusalCode::Full);
        assert_eq!(code(sessions.find(&cookie, NOW)), RefusalCode::SessionEnded);
        assert!(sessions.write_down(NOW + 1).is_err());
        disk.heal();
        sessions.write_down(NOW + 1).unwrap();
        assert_eq!(code(Sessions::open(open()).find(&cookie, NOW + 2)), RefusalCode::SessionEnded);
    }

    #[test]
    fn a_session_survives_a_restart_and_its_cookie_is_not_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let cookie = Sessions::open(secrets(&dir)).begin(7, [1; 32], NOW).unwrap();
        // Nothing was closed: this is what `kill -9` leaves behind.
        let sessions = Sessions::open(secrets(&dir));
        let (id, agent) = sessions.find(&cookie, NOW).unwrap();
        assert_eq!(agent, 7);
        let file = std::fs::read(dir.path().join("SECRETS")).unwrap();
        assert!(!file.windows(32).any(|window| window == [1; 32]));
        assert!(!file.windows(cookie.len()).any(|window| window == cookie.as_bytes()));
        sessions.end(id).unwrap();
        assert_eq!(code(sessions.find(&cookie, NOW)), RefusalCode::SessionEnded);
        let again = Sessions::open(secrets(&dir));
        assert_eq!(code(again.find(&cookie, NOW)), RefusalCode::SessionEnded);
    }

    #[test]
    fn a_cookie_that_is_not_one_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(secrets(&dir));
        let cookie = sessions.begin(7, [1; 32], NOW).unwrap();
        let id = SessionId::of_token(&[1; 32]);
        for other in [
            String::new(),
            "=".into(),
            format!("{cookie}A"),
            format!("{cookie}="),
            cookie[1..].into(),
            cookie.to_lowercase(),
            HEXLOWER.encode(&id.0),
            BASE64URL_NOPAD.encode(&id.0),
            BASE64URL_NOPAD.encode(&[2; 32]),
            "A".repeat(1 << 16),
        ] {
            assert_eq!(code(sessions.find(&other, NOW)), RefusalCode::SessionEnded, "{other}");
        }
    }

    #[test]
    fn it_ends_when_idle_and_it_ends_when_old() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(secrets(&dir));
        let idle = sessions.begin(7, [1; 32], NOW).unwrap();
        let busy = sessions.begin(7, [2; 32], NOW).unwrap();
        let mut now = NOW;
        while now + SESSION_IDLE_MS_MAX - 1 < NOW + SESSION_MS_MAX {
            now += SESSION_IDLE_MS_MAX - 1;
            sessions.find(&busy, now).unwrap();
        }
        assert!(sessions.find(&busy, NOW + SESSION_MS_MAX - 1).is_ok());
        assert_eq!(code(sessions.find(&busy, NOW + SESSION_MS_MAX)), RefusalCode::SessionEnded);
        assert_eq!(
            code(sessions.find(&idle, NOW + SESSION_IDLE_MS_MAX)),
            RefusalCode::SessionEnded
        );
        assert!(sessions.find(&idle, NOW + SESSION_IDLE_MS_MAX - 1).is_ok());
    }

    #[test]
    fn asking_whether_it_goes_on_does_not_prolong_it() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(secrets(&dir));
        let cookie = sessions.begin(7, [1; 32], NOW).unwrap();
        let (id, _) = sessions.find(&cookie, NOW).unwrap();
        assert_eq!(sessions.still(id, NOW + SESSION_IDLE_MS_MAX - 1), Ok(()));
        assert_eq!(code(sessions.still(id, NOW + SESSION_IDLE_MS_MAX)), RefusalCode::SessionEnded);
        sessions.seen(id, NOW + SESSION_IDLE_MS_MAX - 1).unwrap();
        assert_eq!(sessions.still(id, NOW + SESSION_IDLE_MS_MAX), Ok(()));
    }

    #[test]
    fn what_was_seen_lately_is_known_after_a_restart_and_what_is_over_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(secrets(&dir));
        let idle = sessions.begin(7, [1; 32], NOW).unwrap();
        let busy = sessions.begin(8, [2; 32], NOW).unwrap();
        let later = NOW + SESSION_IDLE_MS_MAX - 1;
        sessions.find(&busy, later).unwrap();
        sessions.write_down(later + 1).unwrap();
        let again = Sessions::open(secrets(&dir));
        assert_eq!(
            again.find(&busy, later + SESSION_IDLE_MS_MAX - 1).map(|(_, agent)| agent),
            Ok(8)
        );
        assert!(
            again.find(&idle, NOW).is_err(),
            "taken away, so even an old clock does not bring it back"
        );
        assert_eq!(secrets(&dir).names(SHELF).len(), 1);
    }

    #[test]
    fn sessions_of_one_agent_are_bounded_and_the_least_used_goes() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(secrets(&dir));
        let other = sessions.begin(9, [99; 32], NOW).unwrap();
        let mut cookies = Vec::new();
        for nth in 0..SESSIONS_AGENT_MAX as u8 {
            cookies.push(sessions.begin(7, [nth; 32], NOW + u64::from(nth)).unwrap());
        }
        sessions.find(&cookies[0], NOW + 100).unwrap();
        sessions.begin(7, [50; 32], NOW + 101).unwrap();
        assert!(sessions.find(&cookies[0], NOW + 102).is_ok());
        assert_eq!(code(sessions.find(&cookies[1], NOW + 102)), RefusalCode::SessionEnded);
        assert!(sessions.find(&other, NOW + 102).is_ok());
        assert_eq!(secrets(&dir).names(SHELF).len(), SESSIONS_AGENT_MAX + 1);
    }

    #[test]
    fn a_new_password_ends_all_sessions_but_the_one_it_was_set_in() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(secrets(&dir));
        let here = sessions.begin(7, [1; 32], NOW).unwrap();
        let there = sessions.begin(7, [2; 32], NOW).unwrap();
        let other = sessions.begin(8, [3; 32], NOW).unwrap();
        let (keep, _) = sessions.find(&here, NOW).unwrap();
        sessions.end_of(7, Some(keep)).unwrap();
        assert!(sessions.find(&here, NOW).is_ok());
        assert_eq!(code(sessions.find(&there, NOW)), RefusalCode::SessionEnded);
        sessions.end_of(7, None).unwrap();
        assert_eq!(code(sessions.find(&here, NOW)), RefusalCode::SessionEnded);
        assert!(sessions.find(&other, NOW).is_ok());
    }
}
