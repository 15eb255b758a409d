//! Who is who: visitors by their token, agents by their session, pages by their Origin, the owner by owning the
//! machine.
//!
//! Invariants: identity, site and role come from what was verified here, never from a body or an address; nothing
//! that somebody typed opens anybody's history; no key, password or account exists that was not made here by chance
//! or by its owner; every map that strangers can fill is bounded.
//!
//! Time is an argument. What waits for the disk or for a hash says so; the rest may be called from anywhere.

pub mod identity;
pub mod ids;
pub mod keys;
pub mod line;
pub mod origin;
pub mod pace;
pub mod password;
pub mod sessions;
pub mod setup;
pub mod site_keys;
pub mod visitor;

mod lockout;
mod recent;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{Error, Secrets};
use ring::hmac;

use crate::desk::register::{Agent, Role, Site};
use crate::lens::Lens;
use crate::limits::LOGIN_BYTES_MAX;

use self::identity::Known;
use self::ids::Ids;
use self::keys::{Chance, Keys};
use self::lockout::Lockout;
use self::pace::{Act, Paces};
use self::password::{Hashed, Hasher};
use self::sessions::{SessionId, Sessions};
use self::site_keys::{SiteKey, Sort};
use self::visitor::Visitor;

/// Whoever speaks, as it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Visitor {
        site: u64,
        person: u64,
        device: [u8; 16],
        name: String,
        vouched: bool,
        expires_ms: u64,
    },
    Agent {
        agent: u64,
        role: Role,
        session: SessionId,
    },
}

/// What a page or an app says about the visitor in front of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Visit<'a> {
    pub device: [u8; 16],
    /// An app's AppSecret: public, so it only has to be one of this site's.
    pub secret: Option<&'a str>,
    /// From the site's back end.
    pub identity: Option<&'a str>,
    /// What this device was given earlier.
    pub token: Option<&'a str>,
    /// As somebody typed it.
    pub name: Option<&'a str>,
}

/// A sign-in that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    pub agent: Agent,
    pub cookie: String,
    /// The password was good for this one time: a new one has to be chosen in this session.
    pub choose_password: bool,
}

#[derive(Debug)]
pub struct Access {
    secrets: Secrets,
    chance: Chance,
    keys: Keys,
    lens: Arc<Lens>,
    sessions: Arc<Sessions>,
    hasher: Hasher,
    paces: Mutex<Paces>,
    lockout: Mutex<Lockout>,
    /// Held while somebody sets up or uses a one-time password, so that one time is once.
    one_time: tokio::sync::Mutex<()>,
}

impl Access {
    /// Makes the keys of the installation where there are none yet. Waits for the disk.
    pub fn open(secrets: Secrets, lens: Arc<Lens>) -> Result<Access, Error> {
        let chance = Chance::new();
        let keys = Keys::load_or_make(&secrets, &chance)?;
        let sessions = Arc::new(Sessions::open(secrets.clone()));
        Ok(Access {
            secrets,
            chance,
            keys,
            lens,
            sessions,
            hasher: Hasher::new(),
            paces: Mutex::new(Paces::new()),
            lockout: Mutex::new(Lockout::new()),
            one_time: tokio::sync::Mutex::new(()),
        })
    }

    /// What turns numbers into the ids that are shown outside.
    pub fn ids(&self) -> Ids {
        Ids::new(&self.keys.id)
    }

    pub fn chance(&self) -> &Chance {
        &self.chance
    }

    /// Whether this address may act once more now.
    pub fn allow(&self, address: IpAddr, act: Act, now_ms: u64) -> Result<(), Refusal> {
        lock(&self.paces).allow(address, act, now_ms)
    }

    /// Judges where a request comes from: with `app` by that site's list, which is given back; without, only the
    /// server's own pages may. `host` is the Host header.
    pub fn origin(
        &self,
        app: Option<&str>,
        origin: Option<&str>,
        secure: bool,
        host: &str,
    ) -> Result<Option<Site>, Refusal> {
        let own = origin::own(secure, host);
        let Some(app) = app else { return origin::own_only(origin, &own).map(|()| None) };
        let site = self.site(app)?;
        origin::judge(&site, origin, &own)?;
        Ok(Some(site))
    }

    /// Whose token this is. `device` is what the connection says it is; an upload or a download says nothing.
    pub fn visitor(
        &self,
        app: &str,
        bearer: &str,
        device: Option<[u8; 16]>,
        now_ms: u64,
    ) -> Result<Who, Refusal> {
        let site = self.site(app)?;
        let Visitor { site, person, device, name, vouched, expires_ms } =
            self.known(&site, bearer, device, now_ms)?;
        Ok(Who::Visitor { site, person, device, name, vouched, expires_ms })
    }

    /// Gives a visitor the token for this device: known by the site's word, by an earlier token, or new.
    pub fn admit(
        &self,
        site: &Site,
        visit: Visit<'_>,
        now_ms: u64,
    ) -> Result<(String, Visitor), Refusal> {
        if let Some(secret) = visit.secret {
            let keys = site_keys::of(&self.secrets, site.number, Sort::App);
            if !keys.iter().any(|key| key.secret == secret) {
                let why = format!("This is not an AppSecret of the site {}.", site.app);
                return Err(Refusal::because(RefusalCode::TokenInvalid, why));
            }
        }
        let typed = visit.name.map(line::typed_name);
        let visitor = match (visit.identity, visit.token) {
            (Some(identity), _) => self.vouched(site, visit.device, identity, now_ms)?,
            (None, Some(token)) => {
                let known = self.known(site, token, Some(visit.device), now_ms)?;
                if known.vouched {
                    known // until it ends: the site's word is not prolonged by ours
                } else {
                    let name = typed.unwrap_or(known.name);
                    let expires_ms = now_ms.saturating_add(visitor::ANONYMOUS_MS);
                    Visitor { name, expires_ms, ..known }
                }
            }
            (None, None) => Visitor {
                site: site.number,
                person: u64::from_le_bytes(self.chance.bytes()?) >> 1,
                device: visit.device,
                name: typed.unwrap_or_default(),
                vouched: false,
                expires_ms: now_ms.saturating_add(visitor::ANONYMOUS_MS),
            },
        };
        Ok((visitor::mint(&self.keys.token, &visitor), visitor))
    }

    /// Whose session this cookie is, if that account may still come in.
    pub fn agent(&self, cookie: &str, now_ms: u64) -> Result<Who, Refusal> {
        let (session, number) = self.sessions.find(cookie, now_ms)?;
        let agent = self.lens.agent(number).filter(|agent| !agent.disabled);
        let agent = agent.ok_or(Refusal::new(RefusalCode::SessionEnded))?;
        Ok(Who::Agent { agent: number, role: agent.role, session })
    }

    /// Whether a connection that was let in may stay. Asked now and then; no sign of life.
    pub fn still(&self, who: &Who, now_ms: u64) -> Result<(), Refusal> {
        match who {
            Who::Visitor { site, vouched, expires_ms, .. } => {
                self.lasts(*site, *vouched, *expires_ms, now_ms)
            }
            Who::Agent { agent, role, session } => {
                self.sessions.still(*session, now_ms)?;
                match self.lens.agent(*agent) {
                    Some(now) if !now.disabled && now.role == *role => Ok(()),
                    _ => Err(Refusal::new(RefusalCode::SessionEnded)),
                }
            }
        }
    }

    /// Somebody did something on a connection that was let in.
    pub fn seen(&self, who: &Who, now_ms: u64) -> Result<(), Refusal> {
        match who {
            Who::Agent { session, .. } => self.sessions.seen(*session, now_ms),
            Who::Visitor { .. } => Ok(()),
        }
    }

    /// Signs in. An unknown login, a wrong password and a disabled account answer the same after the same work.
    pub async fn log_in(
        &self,
        login: &str,
        password: String,
        now_ms: u64,
    ) -> Result<SignedIn, Refusal> {
        let login = normal_login(login);
        lock(&self.lockout).attempt(&login, now_ms)?;
        let agent = self.lens.agent_by_login(&login).filter(|agent| !agent.disabled);
        let row = agent.as_ref().and_then(|agent| self.secrets.get(&password_name(agent.number)));
        let stored = row.as_deref().and_then(Hashed::decode);
        let stored = stored.filter(|it| it.ends_ms == 0 || now_ms < it.ends_ms);
        let ends = stored.as_ref().is_some_and(|it| it.ends_ms > 0);
        let fits = match self.hasher.fits(password, stored).await {
            Ok(fits) => fits,
            Err(refusal) => {
                lock(&self.lockout).withdraw(&login);
                return Err(refusal);
            }
        };
        let agent = agent.filter(|_| fits).ok_or_else(wrong_password)?;
        if ends {
            self.spend(agent.number, row).await?;
        }
        lock(&self.lockout).forgive(&login);
        let cookie = self.begin_session(agent.number, now_ms).await?;
        Ok(SignedIn { agent, cookie, choose_password: ends })
    }

    /// Begins a session for somebody who has just proved who they are.
    pub async fn begin_session(&self, agent: u64, now_ms: u64) -> Result<String, Refusal> {
        let token = self.chance.bytes()?;
        let sessions = Arc::clone(&self.sessions);
        blocking(move || sessions.begin(agent, token, now_ms)).await
    }

    pub async fn log_out(&self, session: SessionId) -> Result<(), Refusal> {
        let sessions = Arc::clone(&self.sessions);
        blocking(move || sessions.end(session)).await
    }

    /// Ends every session of an agent but `keep`.
    pub async fn end_sessions(&self, agent: u64, keep: Option<SessionId>) -> Result<(), Refusal> {
        let sessions = Arc::clone(&self.sessions);
        blocking(move || sessions.end_of(agent, keep)).await
    }

    /// Whether this is the agent's password. Counts like a sign-in.
    pub async fn confirm(
        &self,
        agent: &Agent,
        password: String,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        lock(&self.lockout).attempt(&agent.login, now_ms)?;
        let row = self.secrets.get(&password_name(agent.number));
        let stored = row.as_deref().and_then(Hashed::decode);
        if !self.hasher.fits(password, stored).await? {
            return Err(wrong_password());
        }
        lock(&self.lockout).forgive(&agent.login);
        Ok(())
    }

    /// Whether the account has a password at all.
    pub fn has_password(&self, agent: u64) -> bool {
        self.secrets.get(&password_name(agent)).is_some()
    }

    /// Whether somebody can sign in who may change settings. Until then this server waits to be set up.
    pub fn has_owner(&self) -> bool {
        let operators = self.lens.agents().into_iter().filter(|it| it.role == Role::Operator);
        operators.into_iter().any(|it| !it.disabled && self.has_password(it.number))
    }

    pub async fn hash(&self, password: String) -> Result<Hashed, Refusal> {
        self.hasher.hash(password, self.chance.bytes()?, 0).await
    }

    /// Gives an account its password and ends its other sessions.
    pub async fn set_password(
        &self,
        agent: u64,
        hashed: Hashed,
        keep: Option<SessionId>,
    ) -> Result<(), Refusal> {
        let (secrets, name) = (self.secrets.clone(), password_name(agent));
        blocking(move || secrets.put(&name, &hashed.encode()).map_err(not_kept)).await?;
        self.end_sessions(agent, keep).await
    }

    /// A one-time password for an operator who forgot theirs. Waits for a hash and for the disk: for the command
    /// line, on a thread of its own.
    pub fn reset_operator(&self, login: &str, now_ms: u64) -> Result<String, Refusal> {
        let login = normal_login(login);
        let agent = self.lens.agent_by_login(&login).filter(|agent| agent.role == Role::Operator);
        let Some(agent) = agent else {
            let why = "There is no operator with this login.";
            return Err(Refusal::because(RefusalCode::NotAllowed, why));
        };
        if agent.disabled {
            let why = "This account is disabled. Another operator can enable it.";
            return Err(Refusal::because(RefusalCode::NotAllowed, why));
        }
        let password = self.chance.word::<15>()?;
        let ends_ms = now_ms.saturating_add(setup::SETUP_MS);
        let hashed = password::hash_now(&password, self.chance.bytes()?, ends_ms)?;
        let name = password_name(agent.number);
        self.secrets.put(&name, &hashed.encode()).map_err(not_kept)?;
        self.sessions.end_of(agent.number, None)?;
        lock(&self.lockout).forgive(&login);
        Ok(password)
    }

    /// A new set-up token, good for an hour; the one before is good no longer. Waits for the disk.
    pub fn make_setup_token(&self, now_ms: u64) -> Result<String, Error> {
        setup::make(&self.secrets, &self.chance, now_ms)
    }

    /// Why nothing may be changed, if nothing may.
    pub fn read_only(&self) -> Option<Error> {
        self.secrets.refusal()
    }

    pub fn setup_is_open(&self, now_ms: u64) -> bool {
        setup::is_open(&self.secrets, now_ms)
    }

    /// Begins to use a set-up token. While the answer lives nobody else can.
    pub async fn set_up(&self, token: &str, now_ms: u64) -> Result<SettingUp<'_>, Refusal> {
        let one = self.one_time.lock().await;
        let row = setup::judge(&self.secrets, token, now_ms)?;
        Ok(SettingUp { access: self, row, _one: one })
    }

    /// A site's keys by id, oldest first, to be listed.
    pub fn site_keys(&self, site: u64, sort: Sort) -> Vec<SiteKey> {
        site_keys::of(&self.secrets, site, sort)
    }

    pub async fn add_site_key(
        &self,
        site: u64,
        sort: Sort,
        now_ms: u64,
    ) -> Result<SiteKey, Refusal> {
        let (secrets, chance) = (self.secrets.clone(), self.chance.clone());
        blocking(move || site_keys::add(&secrets, site, sort, &chance, now_ms)).await
    }

    /// Takes a secret away. With an IdentitySecret everybody goes whom the site vouched for until now:
    /// their pages ask the site's back end again.
    pub async fn remove_site_key(
        &self,
        site: u64,
        sort: Sort,
        id: String,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let secrets = self.secrets.clone();
        blocking(move || site_keys::remove(&secrets, site, sort, &id, now_ms)).await
    }

    /// To be called every minute or so and before the end: what only memory knows is written down.
    pub fn write_down(&self, now_ms: u64) -> Result<(), Error> {
        self.sessions.write_down(now_ms)
    }

    fn site(&self, app: &str) -> Result<Site, Refusal> {
        self.lens.site_by_app(app).ok_or(Refusal::new(RefusalCode::NoSuchSite))
    }

    /// The visitor of an earlier token, on this site and, if it is known, this device.
    fn known(
        &self,
        site: &Site,
        token: &str,
        device: Option<[u8; 16]>,
        now_ms: u64,
    ) -> Result<Visitor, Refusal> {
        let visitor = visitor::verify(&self.keys.token, token, now_ms)?;
        if visitor.site != site.number || device.is_some_and(|device| device != visitor.device) {
            return Err(Refusal::new(RefusalCode::TokenInvalid));
        }
        self.lasts(visitor.site, visitor.vouched, visitor.expires_ms, now_ms)?;
        Ok(visitor)
    }

    /// Whether a visitor's token is good now. One that rests on the site's word was given a fixed time
    /// before it ends, so its end says whether it is older than what the site took back.
    fn lasts(&self, site: u64, vouched: bool, expires_ms: u64, now_ms: u64) -> Result<(), Refusal> {
        let taken_back = || {
            let given_ms = expires_ms.saturating_sub(visitor::VOUCHED_MS);
            given_ms < site_keys::vouches_count_from(&self.secrets, site)
        };
        if now_ms >= expires_ms || (vouched && taken_back()) {
            return Err(Refusal::new(RefusalCode::TokenExpired));
        }
        Ok(())
    }

    fn vouched(
        &self,
        site: &Site,
        device: [u8; 16],
        identity: &str,
        now_ms: u64,
    ) -> Result<Visitor, Refusal> {
        let keys = site_keys::of(&self.secrets, site.number, Sort::Identity);
        let public = site_keys::of(&self.secrets, site.number, Sort::App);
        let known = Known { app: &site.app, identity: &keys, public: &public };
        let vouched = identity::verify(identity, known, now_ms)?;
        Ok(Visitor {
            site: site.number,
            person: person(&self.keys.person, site.number, &vouched.subject),
            device,
            name: vouched.name,
            vouched: true,
            expires_ms: now_ms.saturating_add(visitor::VOUCHED_MS),
        })
    }

    /// Uses up a one-time password; of two who come at once, one is late.
    async fn spend(&self, agent: u64, row: Option<Vec<u8>>) -> Result<(), Refusal> {
        let _one = self.one_time.lock().await;
        let name = password_name(agent);
        if self.secrets.get(&name) != row {
            return Err(wrong_password());
        }
        let secrets = self.secrets.clone();
        blocking(move || secrets.remove(&name).map_err(not_kept)).await
    }
}

/// A set-up in progress: the token is spent by `finish` and by nothing else.
#[derive(Debug)]
pub struct SettingUp<'a> {
    access: &'a Access,
    row: String,
    _one: tokio::sync::MutexGuard<'a, ()>,
}

impl SettingUp<'_> {
    /// Everything that the new account and the new site need to be used, and the end of the token, in one step.
    pub async fn finish(
        self,
        agent: u64,
        hashed: &Hashed,
        site: u64,
        now_ms: u64,
    ) -> Result<(SiteKey, SiteKey), Refusal> {
        let chance = &self.access.chance;
        let app = SiteKey::make(Sort::App, chance, now_ms)?;
        let identity = SiteKey::make(Sort::Identity, chance, now_ms)?;
        let rows = [
            (password_name(agent), hashed.encode()),
            app.row(site, Sort::App),
            identity.row(site, Sort::Identity),
        ];
        let (secrets, spent) = (self.access.secrets.clone(), self.row);
        blocking(move || {
            let kept = rows.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice())));
            let changes: Vec<_> = kept.chain([(spent.as_str(), None)]).collect();
            secrets.put_all(&changes).map_err(not_kept)
        })
        .await?;
        Ok((app, identity))
    }
}

/// A visitor's number, made of what the site calls them: the same for ever, and no other site's.
fn person(key: &hmac::Key, site: u64, subject: &str) -> u64 {
    let tag = hmac::sign(key, &[&site.to_le_bytes(), subject.as_bytes()].concat());
    let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first) >> 1
}

/// Logins are lower case, so that nobody can pose as another by a capital letter.
pub fn normal_login(typed: &str) -> String {
    line::cut(typed.trim(), LOGIN_BYTES_MAX + 1).to_lowercase()
}

/// Whether a login may be given to an account: what is plain ASCII has no look-alikes.
pub fn is_login(login: &str) -> bool {
    (1..=LOGIN_BYTES_MAX).contains(&login.len())
        && login.starts_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit())
        && login
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"._-@+".contains(&it))
}

fn password_name(agent: u64) -> String {
    format!("agent/{agent}/password")
}

fn wrong_password() -> Refusal {
    Refusal::because(RefusalCode::TokenInvalid, "Login or password is wrong.")
}

/// What a person is told when SECRETS could not be written; the log line is the caller's.
fn not_kept(error: Error) -> Refusal {
    match error {
        Error::Full => Refusal::after(RefusalCode::Full, 1_000),
        Error::Refused { what } => Refusal::because(RefusalCode::TooMany, what),
        // Said once, when the server came up so.
        Error::ReadOnly { .. } | Error::Corrupt { .. } => Refusal::new(RefusalCode::ReadOnly),
        error => {
            tracing::error!(%error, "SECRETS could not be written");
            Refusal::new(RefusalCode::ReadOnly)
        }
    }
}

/// Runs what waits for the disk where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::new(RefusalCode::NotReady)))
}

/// Nothing under these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
