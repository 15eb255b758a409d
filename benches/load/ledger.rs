//! What was sent, answered and shown: one line a message, and what follows from all of them.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lodge_client::Refusal;
use lodge_proto::counters::Answer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::picture;
use crate::texts::Texts;

/// Complaints that are printed; the rest is counted.
const COMPLAINTS_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Image,
}

/// Who sends: the peers are numbered, visitors first.
#[derive(Debug, Clone)]
pub struct Line {
    pub kind: Kind,
    pub sender: usize,
    pub due: Duration,
    /// When it was handed in, among the messages of its sender.
    pub nth: Option<usize>,
    pub answer: Option<Answer>,
    acked: Option<Duration>,
    shown: Option<Duration>,
    refused: Option<String>,
}

#[derive(Debug)]
pub struct Ledger {
    seed: u64,
    texts: Texts,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    start: Instant,
    lines: Vec<Line>,
    /// Messages handed in, by sender.
    handed_in: Vec<usize>,
    shown_twice: u64,
    shown_wrong: u64,
    troubles: u64,
}

/// The load seen from its end.
#[derive(Debug, Default)]
pub struct Gone {
    pub scheduled: u64,
    pub acked: u64,
    pub texts: u64,
    pub images: u64,
    pub shown: u64,
    pub shown_twice: u64,
    pub shown_wrong: u64,
    pub ack: Spread,
    pub ack_texts: Spread,
    pub ack_images: Spread,
    pub shown_ms: Spread,
    /// Calls that failed and were made again.
    pub troubles: u64,
    pub complaints: Vec<String>,
}

/// Latencies, to be sorted once.
#[derive(Debug, Default)]
pub struct Spread(Vec<Duration>);

impl Ledger {
    pub fn new(seed: u64, texts: Texts) -> Ledger {
        let state = State {
            start: Instant::now(),
            lines: Vec::new(),
            handed_in: Vec::new(),
            shown_twice: 0,
            shown_wrong: 0,
            troubles: 0,
        };
        Ledger { seed, texts, state: Mutex::new(state) }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn real_text(&self) -> bool {
        self.texts.real
    }

    /// The moment from which everything is due.
    pub fn begin(&self, start: Instant) {
        self.state().start = start;
    }

    /// A message is due; returns its number.
    pub fn due(&self, kind: Kind, sender: usize, at: Instant) -> u64 {
        let mut state = self.state();
        let due = at - state.start;
        state.lines.push(Line {
            kind,
            sender,
            due,
            nth: None,
            answer: None,
            acked: None,
            shown: None,
            refused: None,
        });
        state.lines.len() as u64 - 1
    }

    /// The words of a message, which end with its number: a sentence, or the caption of an image.
    pub fn words(&self, number: u64, kind: Kind) -> String {
        let mut words = String::new();
        if kind == Kind::Text {
            let chosen = mixed(self.seed ^ number) as usize % self.texts.lines.len();
            words.push_str(&self.texts.lines[chosen]);
            words.push(' ');
        }
        let _ = write!(words, "#{number}");
        words
    }

    pub fn picture(&self, number: u64) -> Vec<u8> {
        picture::of(mixed(self.seed) ^ number)
    }

    /// It goes to its sender's client now; in this order it must stand.
    pub fn handed_in(&self, number: u64) {
        let mut state = self.state();
        let Some(sender) = state.lines.get(number as usize).map(|line| line.sender) else { return };
        if state.handed_in.len() <= sender {
            state.handed_in.resize(sender + 1, 0);
        }
        let nth = state.handed_in[sender];
        state.handed_in[sender] += 1;
        state.lines[number as usize].nth = Some(nth);
    }

    pub fn settled(&self, number: u64, outcome: Result<Answer, Refusal>) {
        let mut state = self.state();
        let now = state.start.elapsed();
        let Some(line) = state.lines.get_mut(number as usize) else { return };
        match outcome {
            Ok(answer) => {
                line.answer = Some(answer);
                line.acked = Some(now);
            }
            Err(refusal) => line.refused = Some(format!("{refusal:?}")),
        }
    }

    /// The other side has it on its screen; `same` where an image's bytes are what was sent.
    pub fn shown(&self, number: u64, same: bool) {
        let mut state = self.state();
        let now = state.start.elapsed();
        let Some(line) = state.lines.get_mut(number as usize) else { return };
        let twice = line.shown.replace(now).is_some();
        state.shown_twice += u64::from(twice);
        state.shown_wrong += u64::from(!same);
    }

    /// A call that failed and is made again. Expected while the server is being killed; counted, and the
    /// first of them said.
    pub fn trouble(&self, what: &str, error: &lodge_client::Error) {
        let mut state = self.state();
        state.troubles += 1;
        if state.troubles <= COMPLAINTS_MAX as u64 {
            crate::say(format_args!("{what}: {error}"));
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        self.state().lines.clone()
    }

    pub fn progress(&self) {
        let state = self.state();
        let acked = state.lines.iter().filter(|line| line.acked.is_some()).count();
        let shown = state.lines.iter().filter(|line| line.shown.is_some()).count();
        let (due, at) = (state.lines.len(), state.start.elapsed().as_secs());
        drop(state);
        crate::say(format_args!("{at} s: {due} due, {acked} acknowledged, {shown} shown"));
    }

    /// Waits until everything is answered and shown, or no longer.
    pub async fn drain(&self, patience: Duration) -> Gone {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let open = {
                let state = self.state();
                state.lines.iter().any(|line| {
                    line.refused.is_none() && (line.acked.is_none() || line.shown.is_none())
                })
            };
            if !open {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.gone()
    }

    fn gone(&self) -> Gone {
        let state = self.state();
        let mut gone = Gone {
            scheduled: state.lines.len() as u64,
            shown_twice: state.shown_twice,
            shown_wrong: state.shown_wrong,
            troubles: state.troubles,
            ..Gone::default()
        };
        for (number, line) in state.lines.iter().enumerate() {
            match line.kind {
                Kind::Text => gone.texts += 1,
                Kind::Image => gone.images += 1,
            }
            let complaint = match (line.acked, line.shown, &line.refused) {
                (_, _, Some(why)) => format!("message {number} was refused: {why}"),
                (None, ..) => format!("message {number} ({:?}) was never answered", line.kind),
                (_, None, _) => format!("message {number} ({:?}) was never shown", line.kind),
                _ => String::new(),
            };
            if !complaint.is_empty() && gone.complaints.len() < COMPLAINTS_MAX {
                gone.complaints.push(complaint);
            }
            if let Some(acked) = line.acked {
                let took = acked.saturating_sub(line.due);
                gone.acked += 1;
                gone.ack.0.push(took);
                match line.kind {
                    Kind::Text => gone.ack_texts.0.push(took),
                    Kind::Image => gone.ack_images.0.push(took),
                }
            }
            if let Some(shown) = line.shown {
                gone.shown += 1;
                gone.shown_ms.0.push(shown.saturating_sub(line.due));
            }
        }
        gone
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spread {
    pub fn json(&self) -> Value {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let ms = |took: Duration| (took.as_secs_f64() * 100_000.0).round() / 100.0;
        let at = |share: f64| {
            let index = (sorted.len() as f64 * share) as usize;
            sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let sum: Duration = sorted.iter().sum();
        let average = sum.checked_div(sorted.len() as u32).unwrap_or_default();
        json!({ "avg": ms(average), "p50": ms(at(0.5)), "p99": ms(at(0.99)), "max": ms(at(1.0)) })
    }
}

/// The number that a message's words end with.
pub fn number_in(words: &str) -> Option<u64> {
    words.rsplit_once('#')?.1.parse().ok()
}

/// SplitMix64: any number to any other, the same each time.
pub fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
