//! The register: what the house knows about its sites and about the people who work here.
//!
//! These are the rows that register Entries make (see `RegisterDraft`), and nothing else does: no secret, no
//! password hash and no session stands here, since the register lies in the log in clear. A number is given once
//! and never again; it stays inside and is shown outside only through `access::ids`.

use rkyv::{Archive, Deserialize as RkyvDeserialize, Serialize as RkyvSerialize};
use serde::{Deserialize, Serialize};

/// One AppID: a web page, an app or a shop that visitors come from.
#[derive(Debug, Clone, PartialEq, Eq, Archive, RkyvSerialize, RkyvDeserialize)]
#[rkyv(derive(Debug))]
pub struct Site {
    pub number: u64,
    /// The AppID. Public, chosen once by chance, never changed.
    pub app: String,
    pub name: String,
    pub settings: SiteSettings,
}

/// What an operator may change about a site.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Archive,
    RkyvSerialize,
    RkyvDeserialize,
)]
#[rkyv(derive(Debug))]
#[serde(deny_unknown_fields)]
pub struct SiteSettings {
    /// Pages that may use this site, each exactly `scheme://host[:port]` as a browser sends it.
    pub origins: Vec<String>,
    /// Sandboxed frames and `file:` pages in WebViews send `Origin: null`.
    pub allow_null_origin: bool,
    /// Apps and back ends send no Origin at all.
    pub allow_absent_origin: bool,
    /// Whether a page connects before its visitor opens the chat.
    pub presence: bool,
    /// `#rrggbb`.
    pub colour: String,
    pub bubble: Bubble,
    pub texts: Texts,
}

/// The corner in which the chat waits.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Archive,
    RkyvSerialize,
    RkyvDeserialize,
)]
#[rkyv(derive(Debug))]
#[serde(rename_all = "lowercase")]
pub enum Bubble {
    #[default]
    Right,
    Left,
}

/// The site's own words, by language. An empty one leaves the widget's.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Archive,
    RkyvSerialize,
    RkyvDeserialize,
)]
#[rkyv(derive(Debug))]
#[serde(deny_unknown_fields, default)]
pub struct Texts {
    pub en: Wording,
    pub zh: Wording,
}

#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Archive,
    RkyvSerialize,
    RkyvDeserialize,
)]
#[rkyv(derive(Debug))]
#[serde(deny_unknown_fields, default)]
pub struct Wording {
    /// Above the chat.
    pub title: String,
    /// The first thing a visitor reads.
    pub greeting: String,
    /// Read instead of the greeting while nobody is there.
    pub away: String,
    /// In the empty box that one types into.
    pub placeholder: String,
}

/// A person who answers visitors, or who also owns the machine.
#[derive(Debug, Clone, PartialEq, Eq, Archive, RkyvSerialize, RkyvDeserialize)]
#[rkyv(derive(Debug))]
pub struct Agent {
    pub number: u64,
    /// What is typed to sign in; lower case, never changed, never another person's.
    pub login: String,
    pub name: String,
    pub role: Role,
    pub disabled: bool,
}

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Archive,
    RkyvSerialize,
    RkyvDeserialize,
)]
#[rkyv(derive(Debug))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers visitors.
    Agent,
    /// Also changes sites, people and settings.
    Operator,
}

/// A wished-for change of the register. The desk gives new rows their number, and refuses an AppID or a login
/// that is taken, whoever asks first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterDraft {
    SiteCreated {
        app: String,
        name: String,
        settings: SiteSettings,
    },
    /// The whole row as it shall stand.
    SiteChanged {
        number: u64,
        name: String,
        settings: SiteSettings,
    },
    AgentCreated {
        login: String,
        name: String,
        role: Role,
    },
    /// The whole row as it shall stand.
    AgentChanged {
        number: u64,
        name: String,
        role: Role,
        disabled: bool,
    },
}
