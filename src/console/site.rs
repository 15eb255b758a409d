//! The public face of a site: what a page needs to draw the chat before anybody speaks.

use lodge_proto::refusal::Refusal;
use serde::Serialize;

use super::Ask;
use super::exchange::Answer;
use crate::access::pace::Act;
use crate::desk::register::{Bubble, Texts};
use crate::limits::{TEXT_BYTES_MAX, UPLOAD_BYTES_MAX};

/// What is shown as a picture; everything else is a file to be kept.
const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

#[derive(Serialize)]
struct Face {
    app: String,
    name: String,
    colour: String,
    bubble: Bubble,
    texts: Texts,
    presence: bool,
    languages: [&'static str; 2],
    limits: Limits,
    /// Whether somebody is there to answer.
    reachable: bool,
}

#[derive(Serialize)]
struct Limits {
    text_bytes_max: usize,
    upload_bytes_max: u64,
    image_types: [&'static str; 4],
}

/// Any page or app of the site. Which pages those are is nobody's business.
pub(super) fn appearance(ask: Ask<'_>) -> Result<Answer, Refusal> {
    let site = ask.site_of_page(Act::Visit)?;
    ask.query_keys(&["app"])?;
    let (_, agents) = ask.rooms.bell.online();
    let settings = site.settings;
    let face = Face {
        app: site.app,
        name: site.name,
        colour: settings.colour,
        bubble: settings.bubble,
        texts: settings.texts,
        presence: settings.presence,
        languages: ["en", "zh"],
        limits: Limits {
            text_bytes_max: TEXT_BYTES_MAX,
            upload_bytes_max: UPLOAD_BYTES_MAX,
            image_types: IMAGE_TYPES,
        },
        reachable: !agents.is_empty(),
    };
    Ok(Answer::json(200, &face))
}
